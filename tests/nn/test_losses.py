"""Losses: their values against the formulas, their gradients against finite differences and the known deltas."""

import functools
import math
import random
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value, gradients, losses

numbers = st.floats(-20, 20)
ELEMENTWISE: dict[Any, Any] = {
    losses.mse: lambda y, t: (y - t) ** 2,
    losses.huber: lambda y, t: 0.5 * (y - t) ** 2 if abs(y - t) <= 1 else abs(y - t) - 0.5,
    losses.hinge: lambda y, t: max(0.0, 1.0 - t * y),
    losses.binary_cross_entropy: lambda z, t: float(
        -t * mpmath.log(1 / (1 + mpmath.exp(-mpmath.mpf(z))))
        - (1 - t) * mpmath.log(1 / (1 + mpmath.exp(mpmath.mpf(z))))
    ),
}
TARGETS = {losses.hinge: st.sampled_from([-1, 1]), losses.binary_cross_entropy: st.floats(0, 1)}
everywhere = pytest.mark.parametrize("loss", ELEMENTWISE, ids=lambda loss: loss.__name__)


def close(expected: float | list[float]) -> Any:
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def data(x: Any) -> Any:
    return [data(part) for part in x] if isinstance(x, list) else x.data if isinstance(x, Value) else x


@everywhere
@given(st.data())
def test_a_loss_is_its_formula_reduced(loss: Callable[..., Any], draw: Any) -> None:
    y = draw.draw(st.lists(numbers, min_size=1, max_size=4))
    t = draw.draw(st.lists(TARGETS.get(loss, numbers), min_size=len(y), max_size=len(y)))
    terms = [ELEMENTWISE[loss](yi, ti) for yi, ti in zip(y, t, strict=True)]
    values = [Value(yi) for yi in y]
    for prediction in (y, values):
        assert data(loss(prediction, t, reduction="none")) == close(terms)
        assert data(loss(prediction, t, reduction="sum")) == close(math.fsum(terms))
        assert data(loss(prediction, t)) == close(math.fsum(terms) / len(terms))
        assert data(loss([prediction, prediction], [t, t])) == close(math.fsum(terms) / len(terms))
        assert data(loss([prediction, prediction], [t, t], reduction="none")) == [close(terms), close(terms)]
    assert data(loss(y[0], t[0])) == close(terms[0])
    assert isinstance(loss(y, t), float)
    assert isinstance(loss(values, t), Value)


@everywhere
@given(st.data())
def test_a_gradient_is_the_limit_of_differences(loss: Callable[..., Any], draw: Any) -> None:
    y = draw.draw(st.floats(-5, 5))
    t = draw.draw(TARGETS.get(loss, st.floats(-5, 5)))
    if min(abs(abs(y - t) - 1), abs(1 - t * y)) < 1e-3:  # beside the kinks of Huber and hinge
        return
    y, h = Value(y), 1e-5
    (slope,) = gradients(loss(y, t), [y])
    loss(y, t).backward()
    assert y.grad == slope.data == pytest.approx((loss(y.data + h, t) - loss(y.data - h, t)) / (2 * h), abs=1e-6)


@given(st.lists(numbers, min_size=2, max_size=5), st.data())
def test_cross_entropy_is_minus_the_log_of_a_probability(z: list[float], draw: Any) -> None:
    with mpmath.workdps(40):
        powers = [mpmath.exp(zi) for zi in z]
        probabilities = [power / sum(powers) for power in powers]
        surprises = [-mpmath.log(p) for p in probabilities]
    assert data(losses.softmax(list(map(Value, z)))) == close([float(p) for p in probabilities])
    k = draw.draw(st.integers(0, len(z) - 1))
    expected = float(surprises[k])
    hot = losses.one_hot(k, len(z))
    values = [Value(zi) for zi in z]
    for prediction in (z, values):
        for target in (k, hot):
            assert data(losses.cross_entropy(prediction, target)) == pytest.approx(expected, rel=1e-12, abs=1e-300)
    weights = draw.draw(st.lists(st.floats(0.01, 1), min_size=len(z), max_size=len(z)))
    soft = [w / math.fsum(weights) for w in weights]
    expected = float(sum(t * surprise for t, surprise in zip(soft, surprises, strict=True)))
    assert losses.cross_entropy(z, soft) == close(expected)
    assert losses.cross_entropy([z, z], [soft, soft], reduction="sum") == close(2 * expected)
    assert losses.cross_entropy([z, z], [soft, soft]) == close(expected)
    for target, wanted in ((k, hot), (hot, hot), (soft, soft), ([Value(t) for t in soft], soft)):
        for value in values:
            value.grad = 0.0
        losses.cross_entropy(values, target).backward()
        deltas = [float(p) - t for p, t in zip(probabilities, wanted, strict=True)]
        assert [value.grad for value in values] == close(deltas)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4))
def test_half_the_sum_of_squares_has_the_difference_for_its_derivative(pairs: list[tuple[Any, ...]]) -> None:
    y, t = [list(side) for side in zip(*pairs, strict=True)]
    halves = [(yi - ti) ** 2 / 2 for yi, ti in pairs]
    values = [Value(yi) for yi in y]
    loss = losses.sum_of_squares(values, t)
    loss.backward()
    assert loss.data == close(math.fsum(halves))
    assert [value.grad for value in values] == close([yi - ti for yi, ti in pairs])
    batch = [y, y, y]
    assert losses.sum_of_squares(batch, [t, t, t]) == close(3 * math.fsum(halves))
    assert losses.sum_of_squares(batch, [t, t, t], reduction="mean") == close(math.fsum(halves))
    assert losses.sum_of_squares(batch, [t, t, t], reduction="none") == [close(math.fsum(halves))] * 3
    assert losses.sum_of_squares(y, t, reduction="none") == close(halves)
    assert losses.sum_of_squares(y[0], t[0]) == close(halves[0])
    assert losses.sum_of_squares(y[0], t[0], reduction="mean") == close(halves[0])


@pytest.mark.parametrize("z", [1000.0, -1000.0, 1e6, -1e6])
@pytest.mark.parametrize("t", [0, 1])
def test_huge_logits_do_no_harm(z: float, t: int) -> None:
    for loss, prediction, target in (
        (losses.binary_cross_entropy, Value(z), t),
        (losses.cross_entropy, [Value(0.0), Value(z)], t),
        (losses.cross_entropy, [Value(0.0), Value(z)], losses.one_hot(t, 2)),
        (losses.cross_entropy, [Value(0.0), Value(z)], [0.5, 0.5]),
    ):
        error = loss(prediction, target)
        error.backward()
        last = prediction[-1] if isinstance(prediction, list) else prediction
        wanted = 0.5 if isinstance(target, list) and target[0] == 0.5 else t
        assert last.grad == close((z > 0) - wanted)
        assert error.data == close(abs(z) * 0.5 if wanted == 0.5 else abs(z) if (z > 0) != t else 0.0)


def test_a_small_loss_keeps_its_digits() -> None:
    """-log(1 - 2e-18) is 2e-18 and not 0, by value and by derivative."""
    logits = [Value(40.0), Value(0.0), Value(-50.0)]
    loss = losses.cross_entropy(logits, 0)
    loss.backward()
    assert loss.data == pytest.approx(math.exp(-40), rel=1e-3)
    assert logits[0].grad == pytest.approx(-math.exp(-40), rel=1e-3)


@pytest.mark.parametrize(
    ("y", "curvature"), [(0.0, 1.0), (-0.0, 1.0), (0.5, 1.0), (-0.5, 1.0), (3.0, 0.0), (-3.0, 0.0)]
)
def test_the_second_derivative_of_huber(y: float, curvature: float) -> None:
    assert mg.hessian(lambda y: losses.huber(y, 0.0))(y) == curvature


def test_huber_is_smooth_where_its_pieces_meet() -> None:
    for delta in (0.5, 1.0, 3.0):
        for sign in (-1, 1):
            y = Value(sign * delta)
            losses.huber(y, 0.0, delta=delta).backward()
            assert y.grad == sign * delta


@given(st.lists(numbers.filter(lambda w: abs(w) > 1e-100), min_size=1, max_size=5), st.floats(0.01, 10))
def test_penalties_pull_weights_to_zero(w: list[float], strength: float) -> None:
    for penalty, value, slope in (
        (losses.l1_penalty, lambda x: abs(x), lambda x: math.copysign(1.0, x)),
        (losses.l2_penalty, lambda x: x * x / 2, lambda x: x),
    ):
        parameters = [Value(x) for x in w]
        cost = penalty(parameters, strength)
        cost.backward()
        assert cost.data == close(strength * math.fsum(map(value, w)))
        assert [p.grad for p in parameters] == close([strength * slope(x) for x in w])
    assert losses.l2_penalty([]) == losses.l1_penalty([]) == 0.0


def test_no_node_is_made_without_need() -> None:
    """The graph of a loss holds its subtractions, products and sums, and nothing else."""

    def size(output: Any) -> Any:
        nodes, todo = set(), [output]
        while todo:
            node = todo.pop()
            if isinstance(node, Value) and node not in nodes:
                nodes.add(node)
                todo += node.operands
        return len([node for node in nodes if node.op is not None])

    y = [Value(0.5), Value(-0.5), Value(2.0)]
    assert size(losses.mse(y, [0.0, 1.0, 2.0])) == 3 * 2 + 2 + 1
    assert size(losses.mse(y[0], 1.0)) == 2
    assert size(losses.sum_of_squares(y, [0.0, 1.0, 2.0])) == 3 * 2 + 2 + 1
    assert size(losses.cross_entropy(y, 1)) == 2 * 2
    assert size(losses.cross_entropy(y, [0.0, 1.0, 0.0])) == 2 * 2
    assert size(losses.binary_cross_entropy(y[0], 1.0)) == 3
    assert size(losses.l2_penalty(y)) == 3 + 2 + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.mse([1.0, 2.0], [1.0]), "mse: 2 predictions, but 1 targets"),
        (lambda: losses.mse([1.0, 2.0], 1.0), "mse: 2 predictions, but the target is 1.0"),
        (lambda: losses.mse(1.0, [1.0]), "mse: one prediction, but 1 targets"),
        (lambda: losses.mse([], []), "no predictions"),
        (lambda: losses.mse(1.0, 1.0, "average"), "'average'"),
        (lambda: losses.sum_of_squares([1.0], [1.0], "average"), "'average'"),
        (lambda: losses.hinge(1.0, 0), "-1 or 1, not 0"),
        (lambda: losses.binary_cross_entropy(1.0, -1), "0 to 1, not -1"),
        (lambda: losses.binary_cross_entropy(1.0, math.nan), "not nan"),
        (lambda: losses.huber(1.0, 0.0, delta=0.0), "delta"),
        (lambda: losses.cross_entropy(1.0, 0), "list of logits"),
        (lambda: losses.cross_entropy([], 0), "list of logits"),
        (lambda: losses.cross_entropy([1.0], 0), "two or more"),
        (lambda: losses.cross_entropy([1.0, 2.0], 2), "0 to 1, not 2"),
        (lambda: losses.cross_entropy([1.0, 2.0], -1), "0 to 1, not -1"),
        (lambda: losses.cross_entropy([1.0, 2.0], 0.0), "whole number, 0 to 1, not 0.0"),
        (lambda: losses.cross_entropy([1.0, 2.0], [0.5, 0.6]), "adds up to 1.1"),
        (lambda: losses.cross_entropy([1.0, 2.0], [-0.5, 1.5]), "negative"),
        (lambda: losses.cross_entropy([1.0, 2.0], [0.2, 0.3, 0.5]), "2 predictions, but 3 targets"),
        (lambda: losses.cross_entropy([[1.0, 2.0]], [0, 1]), "1 predictions, but 2 targets"),
        (lambda: losses.cross_entropy([1.0, 2.0], 0, "average"), "'average'"),
        (lambda: losses.one_hot(3, 3), "0 to 2, not 3"),
    ],
)
def test_errors_say_what_is_wrong(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call()


def test_losses_take_second_derivatives() -> None:
    """Half squared error has curvature 1, cross-entropy the covariance of the classes: p (1 - p) for two."""
    rng = random.Random(0)
    for _ in range(10):
        z, t = Value(rng.uniform(-3, 3)), rng.uniform(0, 1)
        for loss, curvature in (
            (losses.sum_of_squares, 1.0),
            (losses.binary_cross_entropy, z.sigmoid().data * (1 - z.sigmoid().data)),
            (
                functools.partial(lambda y, t: losses.cross_entropy([0.0, y], [1 - t, t])),
                z.sigmoid().data * (1 - z.sigmoid().data),
            ),
        ):
            (slope,) = gradients(loss(z, t), [z])
            assert gradients(slope, [z])[0].data == close(curvature)

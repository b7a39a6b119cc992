"""The checker is checked: right derivatives pass, derivatives that are wrong by 0.05 % do not."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops, transforms
from micrograd_bp._engine import sweeps

SMOOTH = [op for op in ops.TABLE.values() if op.smooth]
crooked = Op("crooked", "crooked", lambda x: x, lambda out, x: (1.0005,))


def variant(op: Op, change: Callable[[Any], Any]) -> Op:
    """The row with another rule: every partial changed."""
    return Op(op.name, op.symbol, op.forward, lambda out, *args: tuple(map(change, op.partials(out, *args))), op.domain)


def located(op: Op, seed: int = 0) -> tuple[Callable[[Op], Callable[..., Any]], list[float]]:
    """A point of sensible size in the row's domain, and what makes a row of the same arguments a function there."""
    rng = random.Random(f"{op.name} {seed}")
    domains = [op.domain[min(i, len(op.domain) - 1)] for i in range(op.arity or 4)]
    if op is ops.polygamma:  # a function of its second argument: the order is a whole number
        return lambda op: lambda x: op(1.0, x), [rng.uniform(-4.0, 4.0)]
    point = [rng.uniform(max(low, -4.0), min(high, 4.0)) for low, high in domains]
    return lambda op: lambda *x: op(*x), point


# --- right derivatives ---


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_every_smooth_row_is_right_to_the_second_order(op: Op) -> None:
    for seed in range(5):
        function, point = located(op, seed)
        assert mg.gradcheck(function(op), *point)


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_every_smooth_row_is_right_where_its_arguments_are_equal(op: Op) -> None:
    x = 1.5 if op is ops.acosh else 0.5
    function, point = located(op)
    assert mg.gradcheck(function(op), *[x for _ in point])


ROWS = [op for op in SMOOTH if op not in (ops.polygamma, ops.chain)]
PROGRAMS = st.lists(st.tuples(st.sampled_from(ROWS), st.lists(st.integers(0, 20), min_size=4, max_size=4)), max_size=8)
COORDINATES = st.integers(-3000, 3000).map(lambda k: (k + 0.5) / 1000)


@settings(max_examples=40, deadline=None)
@given(PROGRAMS, st.lists(COORDINATES, min_size=3, max_size=3))
def test_compositions_of_rows_are_right_to_the_second_order(program: list[Any], point: list[float]) -> None:
    def f(*x: Any) -> Any:
        values = list(x)
        for op, choice in program:
            values.append(op(*(values[-1 - i % len(values)] for i in choice[: op.arity or 4])))
        return values

    def moderate(numbers: Any) -> bool:
        return all(x == 0.0 or 1e-3 < abs(x) < 1e3 for x in np.ravel(numbers))

    try:
        values = f(*point)
        assume(0.0 not in values and moderate(values))  # 0 is where cbrt and hypot have their kinks
        assume(moderate(mg.jacobian(lambda x: f(*x))(point)) and moderate(mg.hessian(lambda x: f(*x)[-1])(point)))
    except (ValueError, ArithmeticError):
        assume(False)
    assert mg.gradcheck(lambda *x: f(*x)[-1], *point)


@pytest.mark.parametrize(
    ("f", "points"),
    [
        (ops.log, [1e-12, 1e-8, 1e8, 1e100]),
        (ops.sqrt, [1e-30, 1e-12, 1e-8, 1e8]),
        (ops.cbrt, [-1e-12, 1e-8, 1e-4, 1e8]),
        (lambda x: x * ops.log(x), [1e-30, 1e-12, 1e-8]),
        (ops.asin, [-1 + 1e-3, 1 - 1e-8, 1 - 1e-12]),
        (ops.atanh, [-1 + 1e-8, 1 - 1e-12]),
        (ops.acosh, [1 + 1e-3, 1 + 1e-8, 1 + 1e-12]),
        (ops.exp, [-740.0, -700.0, 700.0, 709.0]),
        (ops.gamma, [1e-8, 168.0, -2.999]),
        (ops.digamma, [1e-6, -3.0001]),
        *((op, [-300.0, -30.0, 30.0, 300.0]) for op in (ops.sigmoid, ops.tanh, ops.softplus, ops.gelu, ops.silu)),
        (ops.erfc, [-30.0, 5.0, 26.0, 30.0]),
    ],
    ids=lambda f: getattr(f, "name", ""),
)
def test_at_the_ends_of_domains_and_where_functions_are_flat(f: Callable[..., Any], points: list[float]) -> None:
    assert all(mg.gradcheck(f, x) for x in points)


SIZES: list[tuple[Callable[..., Any], float]] = [
    (lambda x: 1e200 * x, 1.0), (lambda x: 1e-200 * x, 1.0), (lambda x: 1e300 * x, 1.0), (lambda x: 1e8 + x, 1.0),
    (lambda x: 1e-290 * x, 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("scaled", "x"), SIZES)
def test_big_and_tiny_values(scaled: Callable[..., Any], x: float) -> None:
    assert mg.gradcheck(lambda x: scaled(ops.sin(x)), x)
    with pytest.raises(AssertionError, match="by finite differences"):
        mg.gradcheck(lambda x: scaled(variant(ops.sin, lambda p: 1.0005 * p)(x)), x)


def test_fine_structure_is_resolved_and_rounding_inside_is_allowed_for() -> None:
    assert mg.gradcheck(lambda x: ops.sin(1e5 * x), 1.2)
    assert mg.gradcheck(lambda x: ops.exp(-((x / 1e-3) ** 2)), 1e-4)
    assert mg.gradcheck(lambda x: (1e8 + x * x) - 1e8, 2.0)
    assert mg.gradcheck(lambda x: (1e8 + x * x) - 1e8, -0.0015)  # which does not move for steps up to 1e-6
    assert mg.gradcheck(lambda x, y: x + 1e-14 * y, 1.0, 2.0)
    assert mg.gradcheck(lambda x: 1e8, 1.0)
    weights = [9.417, -13.966, -6.797, 3.705, -10.163, -0.721, 1.792]  # a network that is all but flat
    assert mg.gradcheck(
        lambda w, x: ops.tanh(w[0] * ops.tanh(w[1] * x + w[2]) + w[3] * ops.tanh(w[4] * x + w[5]) + w[6]), weights, 3.7
    )


@pytest.mark.parametrize("distance", [1.5, 1e-2, 1e-4, 1e-6])
def test_piecewise_functions_are_right_away_from_their_kinks(distance: float) -> None:
    for f, kink in (
        (abs, 0.0), (ops.relu, 0.0), (ops.floor, 1.0), (ops.elu, 0.0), (ops.sign, 0.0), (ops.step, 0.0),
        (lambda x: ops.maximum(x, x * x), 1.0), (lambda x: ops.clip(x, 0.0, 4.0), 0.0), (lambda x: x % 2.0, 4.0),
        (lambda x: ops.relu(x) * x, 0.0), (lambda x: ops.hypot(x, 0.0), 0.0), (ops.cbrt, 0.0),
        (lambda x: ops.atan2(x, x * x), 0.0),
    ):  # fmt: skip
        assert mg.gradcheck(f, kink + distance)
        assert distance > 1.0 or mg.gradcheck(f, kink - distance)


def test_structures_and_keywords() -> None:
    w, x = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([1.0, 2.0])
    assert mg.gradcheck(lambda w, x: np.tanh(w @ x), w, x)
    assert mg.gradcheck(lambda p: {"u": p["a"] * p["b"][0], "v": (p["a"], 3.0)}, {"a": 2.0, "b": [1.0]})
    assert mg.gradcheck(lambda x, power=1: x**power, 2.0, power=3)
    assert mg.gradcheck(lambda x: x.tanh() * x.relu(), 0.3)  # methods that floats lack
    value, enclosed = Value(2.0), Value(3.0)
    assert mg.gradcheck(lambda x: x * x * enclosed, value)
    assert value.grad == enclosed.grad == 0.0
    assert mg.gradcheck(lambda x: x**4, 1.3, order=4)


# --- wrong derivatives ---


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_a_rule_wrong_by_a_twentieth_of_a_percent_is_caught(op: Op) -> None:
    for seed in range(3):
        function, point = located(op, seed)
        assert any(mg.grad(function(op), range(len(point)))(*point))
        with pytest.raises(AssertionError, match=r"by the rules, but .* by finite differences; args = "):
            mg.gradcheck(function(variant(op, lambda p: 1.0005 * p)), *point, order=1)


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
@pytest.mark.parametrize("change", [crooked, lambda p: p.data if isinstance(p, Value) else p], ids=["off", "cut"])
def test_a_rule_right_by_value_but_wrong_when_differentiated_is_caught(op: Op, change: Callable[[Any], Any]) -> None:
    function, point = located(op)
    wrong = function(variant(op, change))
    assert mg.gradcheck(wrong, *point, order=1)
    if np.any(mg.hessian(lambda x: function(op)(*x))(point)):
        with pytest.raises(AssertionError, match=r"d \(d .* by the rules, but .* by finite differences; args = "):
            mg.gradcheck(wrong, *point, order=2)
    else:  # a linear row is right to every order
        assert mg.gradcheck(wrong, *point, order=2)


def test_a_rule_wrong_at_the_third_order_is_caught_there() -> None:
    square = Op("square", "square", lambda x: x * x / 2, lambda out, x: (crooked(x),))
    cube = Op("cube", "cube", lambda x: x**3 / 6, lambda out, x: (square(x),))
    assert mg.gradcheck(cube, 1.3, order=2)
    with pytest.raises(
        AssertionError, match=r"d \(d \(d cube\(\.\.\.\) / d args\[0\]\) / d args\[0\]\) / d args\[0\] is"
    ):
        mg.gradcheck(cube, 1.3, order=3)


def test_the_failure_says_what_is_wrong_where_and_by_how_much() -> None:
    bad = variant(ops.sin, lambda p: 1.0005 * p)

    def loss(p: Any, q: Any) -> Any:
        return [p["w"][0] * q, p["w"][1] * bad(p["w"][0])]

    with pytest.raises(AssertionError) as caught:
        mg.gradcheck(loss, {"w": [1.0, 3.0]}, 5.0)
    found = re.fullmatch(
        r"gradcheck\(loss\): d loss\(\.\.\.\)\[1\] / d args\[0\]\['w'\]\[0\] is (\S+) by the rules, "
        r"but (\S+) ± (\S+) by finite differences; args = \(\{'w': \[1\.0, 3\.0\]\}, 5\.0\)",
        str(caught.value),
    )
    assert found
    analytic, numeric, tolerance = map(float, found.groups())
    assert analytic == pytest.approx(3.0 * 1.0005 * math.cos(1.0), rel=1e-15)
    assert abs(numeric - 3.0 * math.cos(1.0)) <= tolerance < 1e-9


KINKS: list[tuple[Callable[..., Any], tuple[float, ...], str]] = [
    (abs, (0.0,), "kink: -1 on the left, 1 on the right"),  # central differences alone give 0, and so does the rule
    (ops.relu, (0.0,), "kink: 0 on the left, 1 on the right"),
    (ops.maximum, (1.0, 1.0), "kink"),
    (lambda x: ops.clip(x, 0.0, 1.0), (1.0,), "kink: 1 on the left, 0 on the right"),
    (lambda x: 1e6 + abs(x), (0.0,), "kink"),
    (lambda x: ops.sin(x) + 1e-6 * abs(x), (0.0,), "kink: 0.999999 on the left"),
    (lambda x: x * abs(x), (0.0,), r"d \(d .* kink: -2 on the left, 2 on the right"),
    (ops.elu, (0.0,), r"d \(d .* kink"),
    (ops.hypot, (0.0, 0.0), "kink"),
    (ops.step, (0.0,), "do not settle"),
    (ops.floor, (1.0,), "do not settle"),
    (ops.mod, (4.0, 2.0), "do not settle"),
    (ops.atan2, (0.0, 0.0), "do not settle"),
    (ops.cbrt, (0.0,), "inf by the rules, which is no finite derivative"),
    (ops.sqrt, (0.0,), r"args\[0\] cannot be moved from 0.0 to both sides"),
    (ops.asin, (1.0,), r"args\[0\] cannot be moved from 1.0 to both sides"),
    (lambda x: x + random.Random(str(x)).random(), (1.0,), "do not settle"),
]


@pytest.mark.parametrize(("f", "point", "message"), KINKS)
def test_where_there_is_no_derivative_the_failure_says_so(
    f: Callable[..., Any], point: tuple[float, ...], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        mg.gradcheck(f, *point)


def test_sweeps_that_disagree_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sweeps.pushed
    monkeypatch.setattr(transforms, "pushed", lambda *args: [1.0005 * tangent for tangent in right(*args)])
    with pytest.raises(AssertionError, match=r"by forward accumulation is not .* by reverse, for tangent \["):
        mg.gradcheck(lambda x, y: x * y, 2.0, 3.0)


# --- bad input ---


@pytest.mark.parametrize("order", [0, -1, 1.5, "2"])
def test_the_order_is_a_positive_integer(order: Any) -> None:
    with pytest.raises(ValueError, match="gradcheck's order is a positive integer, not"):
        mg.gradcheck(ops.sin, 1.0, order=order)


def test_a_check_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gradcheck\(<lambda>\): nothing to differentiate in \(\) -> 3.0"):
        mg.gradcheck(lambda: 3.0)
    with pytest.raises(ValueError, match=r"nothing to differentiate in \(1.0,\) -> \[\]"):
        mg.gradcheck(lambda x: [], 1.0)
    with pytest.raises(TypeError, match=r"gradcheck\(sin\), args\[0\]: .*'a'"):
        mg.gradcheck(ops.sin, "a")


def test_what_the_function_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="log"):
        mg.gradcheck(ops.log, -1.0)

    def picky(x: Any) -> Any:
        assert x.data == 1.0, "I only take 1"
        return x

    with pytest.raises(AssertionError, match=r"^I only take 1"):
        mg.gradcheck(picky, 1.0)

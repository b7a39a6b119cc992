"""Taylor series: held to 50-digit arithmetic, to repeated `grad`, and to what is known of power series."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, ops
from micrograd_bp import math as m
from micrograd_bp.testing import Precise, arithmetic

small = st.integers(-9, 9).map(float)
ROWS = [op for op in ops.TABLE.values() if op.name != "polygamma"]  # whose order is no variable: see digamma
softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: (1 / (1 + ops.abs(x)) ** 2,))


def exact(f: Callable[..., Any], order: int, x: float = 0.0) -> list[float]:
    """The coefficients by differences in 50-digit arithmetic and more."""
    mp = arithmetic()
    return [float(c) for c in mp.taylor(lambda t: Precise(f(Precise(t))).number, mp.mpf(x), order)]


def close(found: list[float], expected: list[float], tolerance: float = 1e-13) -> bool:
    scale = max(map(abs, expected))
    return all(abs(a - b) <= tolerance * scale for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("op", [*ROWS, softsign], ids=lambda op: op.name)
def test_every_row_along_a_line(op: Op) -> None:
    """Its rule in the table is enough."""
    rng = random.Random(op.name)
    domains = [op.domain[min(i, len(op.domain) - 1)] for i in range(op.arity or 4)]
    x = [rng.uniform(max(low, -1.5), min(high, 1.5)) for low, high in domains]
    v = [rng.uniform(-1.0, 1.0) for _ in x]
    found = mg.taylor(lambda p: op(*p), x, 6, v)
    along = lambda t: op(*[a + b * t for a, b in zip(x, v)])  # noqa: E731
    assert close(found, exact(along, 6), 1e-11)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: m.tanh(x) * m.exp(x) / x,
        lambda x: m.log(1.0 + x) - m.sqrt(x) * m.atan2(x, 2.0 - x),
        lambda x: x**-2.5 + x ** (1.0 + x) + m.hypot(x, 1.0 - x, 2.0 * x),
        lambda x: ops.gelu(x) * m.cbrt(x) + m.log1p(x) ** 3,
        softsign,
    ],
)
def test_order_20_is_right_to_the_last_digits(f: Callable[..., Any]) -> None:
    found, expected = mg.taylor(f, 0.7, 20, digits=30), exact(f, 20, 0.7)
    assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(found, expected, strict=True))
    assert close(mg.taylor(f, 0.7, 20), expected, 1e-8)


def test_it_is_repeated_differentiation() -> None:
    f = lambda x: m.sin(x * x) / (1.0 + m.exp(-x))  # noqa: E731
    derivative = f
    for k, c in enumerate(mg.taylor(f, 0.4, 5)):
        assert derivative(0.4) == pytest.approx(math.factorial(k) * c, rel=1e-12)
        derivative = mg.grad(derivative)


@given(st.lists(small, min_size=1, max_size=6), small)
def test_a_polynomial_about_another_point_is_exact(coefficients: list[float], x: float) -> None:
    f = lambda t: sum(c * t**k for k, c in enumerate(coefficients))  # noqa: E731
    n = len(coefficients)
    expected = [sum(math.comb(j, k) * coefficients[j] * x ** (j - k) for j in range(k, n)) for k in range(n + 2)]
    assert mg.taylor(f, x, n + 1) == expected


@given(*[st.lists(small, min_size=3, max_size=3)] * 4)
def test_a_product_along_a_curve_is_the_product_of_the_curves(
    x: list[float], v: list[float], w: list[float], u: list[float]
) -> None:
    found = mg.taylor(lambda p: [p[0] * p[1], p[2]], x, 6, v, w, u)
    curves = [np.array([x[i], v[i], w[i], u[i]]) for i in range(3)]
    assert [row[0] for row in found] == np.convolve(curves[0], curves[1]).tolist()
    assert [row[1] for row in found] == [*curves[2], 0.0, 0.0, 0.0]


@given(small, small)
def test_the_series_of_a_composition_is_the_composition_of_the_series(x: float, v: float) -> None:
    inner, outer = (lambda t: t**3 - 2.0 * t), (lambda y: y * y + y)
    direct = mg.taylor(lambda t: outer(inner(t)), x, 8)
    c = mg.taylor(inner, x, 8)
    assert mg.taylor(outer, c[0], 8, *c[1:]) == direct


def test_the_first_coefficients_are_jvp_and_half_of_hvp() -> None:
    f = lambda p: m.exp(p["a"]) * p["b"][0] + m.sin(p["b"][1] * p["a"])  # noqa: E731
    x, v = {"a": 0.3, "b": [1.0, 2.0]}, {"a": -1.0, "b": [0.5, 2.0]}
    value, first, second = mg.taylor(f, x, 2, v)
    assert (value, first) == pytest.approx(mg.jvp(f, (x,), (v,)))
    product = mg.hvp(f, (x,), (v,))
    assert 2.0 * second == pytest.approx(product["a"] * v["a"] + product["b"][0] * 0.5 + product["b"][1] * 2.0)


def test_shapes_and_branches() -> None:
    found = mg.taylor(lambda x: {"y": x * x, "n": 3.0}, np.array([1.0, 2.0]), 1, np.array([1.0, 0.0]))
    assert [row["y"].tolist() for row in found] == [[1.0, 4.0], [2.0, 0.0]]
    assert [row["n"] for row in found] == [3.0, 0.0]
    assert mg.taylor(lambda x: m.exp(x) if x > 0.0 else x, -1.0, 2) == [-1.0, 1.0, 0.0]
    assert mg.taylor(ops.relu, 0.0, 2) == [0.0, 0.0, 0.0]
    assert mg.taylor(lambda x: 7.0, 1.0, 1) == [7.0, 0.0]
    assert mg.taylor(lambda x: x**0.5, 4.0, 0) == [2.0]


def test_a_branch_not_taken_does_not_count() -> None:
    f = lambda x: ops.where(x, ops.ieee_div(1.0, x), 5.0)  # noqa: E731
    assert mg.taylor(f, 0.0, 3) == [5.0, 0.0, 0.0, 0.0]
    assert mg.taylor(lambda x: m.hypot(x, 3.0), 4.0, 2) == pytest.approx([5.0, 0.8, 0.036])


def test_a_long_chain_needs_no_recursion() -> None:
    def f(x: Any) -> Any:
        for _ in range(20_000):
            x = x * 0.5 + 1.0
        return x

    assert mg.taylor(f, 3.0, 1)[0] == 2.0


def test_coefficients_are_differentiated_and_compiled() -> None:
    third = lambda x: mg.taylor(m.sin, x, 3)[3]  # noqa: E731
    assert mg.grad(third)(0.3) == pytest.approx(math.sin(0.3) / 6.0, rel=1e-14)
    assert mg.hessian(third)(0.3) == pytest.approx(math.cos(0.3) / 6.0, rel=1e-14)
    x = mg.Value(0.3)
    mg.taylor(m.exp, x, 2)[2].backward()
    assert x.grad == pytest.approx(math.exp(0.3) / 2.0, rel=1e-15)
    f = lambda x: mg.taylor(lambda t: m.exp(t) if t > 0.0 else softsign(t), x, 4)  # noqa: E731
    compiled = mg.jit(f, exact=True)
    for point in (0.3, -0.4, 0.5, -2.0):
        assert compiled(point) == pytest.approx(f(point), rel=1e-13)
    assert compiled.stats["paths"] == 2


def test_a_taylor_integrator_keeps_the_energy_of_a_pendulum() -> None:
    """Order 20 with steps of a half, over 100 periods."""

    def step(state: Any, h: Any, order: Any = 20) -> list[float]:
        series = [state]
        for k in range(order):
            slopes = mg.taylor(lambda s: [s[1], -m.sin(s[0])], state, k, *series[1:])[k] if k else [
                state[1], -math.sin(state[0])]  # fmt: skip
            series.append([x / (k + 1) for x in slopes])
        return [sum(c[i] * h**k for k, c in enumerate(series)) for i in range(2)]

    state = [1.0, 0.0]
    energy = lambda s: 0.5 * s[1] ** 2 - math.cos(s[0])  # noqa: E731
    for _ in range(40):
        state = step(state, 0.25)
    assert energy(state) == pytest.approx(energy([1.0, 0.0]), abs=1e-14)


loose: Any = mg  # takes what its types refuse


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, "order is a whole number, not 2.0", lambda: loose.taylor(m.exp, 0.0, 2.0)),
        (ValueError, "order is 0 or more, not -1", lambda: mg.taylor(m.exp, 0.0, -1)),
        (TypeError, "give the direction, built like x", lambda: mg.taylor(lambda x: x[0], [0.0], 1)),
        (ValueError, "coefficient 2 of the curve", lambda: mg.taylor(lambda x: x[0], [0.0], 1, [1.0], [1.0, 2.0])),
        (ValueError, "digits is a whole number", lambda: mg.taylor(m.exp, 0.0, 1, digits=0)),
        (TypeError, "leave digits out", lambda: mg.grad(lambda x: mg.taylor(m.exp, x, 1, digits=30)[1])(0.0)),
        (TypeError, "cannot hold 'a'", lambda: mg.taylor(lambda x: "a", 0.0, 1)),
        (ZeroDivisionError, "truediv", lambda: mg.taylor(lambda x: 1.0 / x, 0.0, 1)),
    ],
)
def test_errors(error: type[Exception], words: str, call: Callable[..., Any]) -> None:
    with pytest.raises(error, match=words):
        call()


def kepler(mean: Any) -> Any:
    return mg.root(lambda e, mean: e - 0.3 * m.sin(e) - mean, 0.5, mean)


def ridge(penalty: Any) -> Any:
    return mg.argmin(lambda w, penalty: (3.0 * w[0] - 6.0) ** 2 + penalty * w[0] ** 4, [0.5], penalty)[0]


def swing(state: Any, gravity: Any) -> Any:
    angle, speed = state
    if angle < 5.0:  # a branch: it is taken by the number, as in any recording
        speed = speed - 0.05 * gravity * m.sin(angle)
    return [angle + 0.05 * speed, speed]


def loop(x: Any) -> Any:
    state = [x, 0.0]
    for _ in range(8):
        state = swing(state, x * x)
    return state[0] * state[1]


def checkpointed(x: Any) -> Any:
    state = mg.checkpoint(swing, 8, 2)([x, 0.0], x * x)
    return state[0] * state[1]


OPAQUE = [
    (kepler, None),
    (ridge, None),
    (lambda x: mg.fixed_point(lambda y, x: x * m.cos(y), 0.5, x), None),
    (checkpointed, loop),
    (mg.remat(loop), loop),
    (lambda x: mg.remat(lambda x: kepler(x) ** 2)(m.exp(x)), lambda x: kepler(m.exp(x)) ** 2),
    (lambda x: kepler(mg.remat(loop)(x)), lambda x: kepler(loop(x))),
]


@pytest.mark.parametrize(("f", "plain"), OPAQUE)
def test_through_what_is_solved_and_what_is_computed_again(
    f: Callable[..., Any], plain: Callable[..., Any] | None
) -> None:
    found = mg.taylor(f, 0.8, 6)
    derivatives = [f]
    for _ in range(2):
        derivatives.append(mg.grad(derivatives[-1]))
    assert found[:3] == pytest.approx([d(0.8) / math.factorial(k) for k, d in enumerate(derivatives)], rel=1e-10)
    steps = [sum(c * h**k for k, c in enumerate(found)) - f(0.8 + h) for h in (0.02, 0.01)]
    assert abs(steps[0]) < 1e-7
    assert abs(steps[1]) < abs(steps[0]) / 60 + 1e-15  # of seventh order
    if plain is not None:
        assert found == pytest.approx(mg.taylor(plain, 0.8, 6), rel=1e-12, abs=1e-15)
    slope = mg.grad(lambda x: mg.taylor(f, x, 3)[2])(0.8)
    assert slope == pytest.approx(3.0 * found[3], rel=1e-8)
    assert mg.jit(lambda x: mg.taylor(f, x, 2))(0.8) == pytest.approx(found[:3], rel=1e-13)


def test_a_long_checkpointed_loop_has_a_series() -> None:
    steps = mg.checkpoint(lambda x, rate: x + 1e-3 * rate * x, 3000)
    found = mg.taylor(lambda rate: steps(1.0, rate), 1.0, 3)
    wanted = [math.comb(3000, k) * 1e-3**k * 1.001 ** (3000 - k) for k in range(4)]
    assert found == pytest.approx(wanted, rel=1e-10)
    assert mg.taylor(lambda rate: steps(1.0, rate), 1.0, 3, digits=30) == pytest.approx(wanted, rel=1e-12)


def test_digits_end_where_a_function_of_floats_begins() -> None:
    with pytest.raises(TypeError, match="root is a function of floats; leave digits out"):
        mg.taylor(kepler, 0.8, 3, digits=30)


def test_of_several_outputs_that_a_loop_gives_at_once() -> None:
    """None is made of another, and the last one is recorded first."""
    step = mg.remat(lambda x: [m.sin(x), m.cos(x) * 2.0, 3.0, x])
    found = mg.taylor(step, 0.5, 5)
    assert np.allclose(found, mg.taylor(lambda x: [m.sin(x), m.cos(x) * 2.0, 3.0, x], 0.5, 5), rtol=1e-15)


def test_a_rule_that_compares_has_a_series_on_either_side() -> None:
    bent = mg.Op("bent", "bent", lambda x: x if x > 0 else math.exp(x) - 1, lambda o, x: (1.0 if x > 0 else o + 1,))
    series = lambda x: mg.taylor(lambda t: bent(t) * t, x, 3)  # noqa: E731
    compiled = mg.jit(series)
    compiled.pays = 0
    for x in (0.7, -0.7, -0.4, 0.2):
        e = math.exp(x)
        want = [x * x, 2 * x, 1, 0] if x > 0 else [(e - 1) * x, e * (x + 1) - 1, e * (x + 2) / 2, e * (x + 3) / 6]
        assert series(x) == pytest.approx(want, abs=1e-15)
        assert compiled(x) == pytest.approx(want, abs=1e-15)
        slope = mg.grad(lambda x: series(x)[2])(x)  # three times the next coefficient
        assert slope == pytest.approx(3 * want[3], abs=1e-15)

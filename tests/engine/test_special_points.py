"""Points at which a derivative is a convention, a limit or nan; and points at which there is no value.

The table of docs/special-points.md is held to the library in test_readme.py. Here: the other conventions, on both
sides and to second order, and what raises.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import ops

INF, NAN = math.inf, math.nan

SPECIAL_POINTS = [  # expression, point, value, derivatives
    ("relu(x)", (-0.0,), 0.0, (0.0,)),
    ("x.relu()", (0.0,), 0.0, (0.0,)),
    ("abs(x)", (-0.0,), 0.0, (0.0,)),
    ("abs(x)", (INF,), INF, (1.0,)),
    ("maximum(x, y)", (-INF, -INF), -INF, (0.5, 0.5)),
    ("maximum(x, y)", (0.0, -0.0), 0.0, (0.5, 0.5)),
    ("maximum(x, y)", (3.0, NAN), NAN, (NAN, NAN)),
    ("minimum(x, y)", (NAN, 3.0), NAN, (NAN, NAN)),
    ("maximum(x, x)", (3.0,), 3.0, (1.0,)),
    ("clip(x, -1.0, 1.0)", (-1.0,), -1.0, (0.5,)),
    ("clip(x, -1.0, 1.0)", (7.0,), 1.0, (0.0,)),
    ("clip(x, y, z)", (2.0, -1.0, 1.0), 1.0, (0.0, 0.0, 1.0)),
    ("minimum(maximum(x, -1.0), 1.0)", (1.0,), 1.0, (0.5,)),
    ("leaky_relu(x)", (0.0,), 0.0, (0.01,)),
    ("elu(x)", (0.0,), 0.0, (1.0,)),
    ("floor(x)", (2.0,), 2.0, (0.0,)),
    ("floor(x)", (-INF,), -INF, (0.0,)),
    ("step(x)", (NAN,), NAN, (0.0,)),
    ("where(x, y, z)", (0.0, 5.0, 7.0), 7.0, (0.0, 0.0, 1.0)),
    ("where(x, y, z)", (NAN, 5.0, 7.0), 5.0, (0.0, 1.0, 0.0)),
    ("sqrt(x)", (INF,), INF, (0.0,)),
    ("cbrt(x)", (-8.0,), -2.0, (1.0 / 12.0,)),
    ("x**1.0", (0.0,), 0.0, (1.0,)),
    ("x**3", (0.0,), 0.0, (0.0,)),
    ("x**-2", (-2.0,), 0.25, (0.25,)),
    ("x**0.25", (0.0,), 0.0, (INF,)),
    ("x**1.5", (0.0,), 0.0, (0.0,)),
    ("x**y", (0.0, 0.5), 0.0, (INF, 0.0)),
    ("x**y", (0.0, 1.0), 0.0, (1.0, 0.0)),
    ("x**y", (-2.0, 2.0), 4.0, (-4.0, NAN)),
    ("2.0**x", (3.0,), 8.0, (8.0 * math.log(2.0),)),
    ("0.0**x", (2.0,), 0.0, (0.0,)),
    ("x**x", (1.0,), 1.0, (1.0,)),
    ("asin(x)", (-1.0,), -math.pi / 2, (INF,)),
    ("acos(x)", (-1.0,), math.pi, (-INF,)),
    ("hypot(x, y)", (0.0, -2.0), 2.0, (0.0, -1.0)),
    ("hypot(x, y)", (ops.MAX, 0.0), ops.MAX, (1.0, 0.0)),
    ("hypot(x, y, z)", (0.0, 0.0, 0.0), 0.0, (0.0, 0.0, 0.0)),
    ("atan2(x, y)", (0.0, -2.0), math.pi, (-0.5, 0.0)),
    ("atan2(x, y)", (0.0, 2.0), 0.0, (0.5, 0.0)),
    ("sigmoid(x)", (INF,), 1.0, (0.0,)),
    ("tanh(x)", (-1000.0,), -1.0, (0.0,)),
    ("log_sigmoid(x)", (-1000.0,), -1000.0, (1.0,)),
    ("log_sigmoid(x)", (1000.0,), 0.0, (0.0,)),
    ("silu(x)", (1000.0,), 1000.0, (1.0,)),
    ("silu(x)", (-1000.0,), 0.0, (0.0,)),
    ("gelu(x)", (1000.0,), 1000.0, (1.0,)),
    ("gelu(x)", (-1000.0,), 0.0, (0.0,)),
    ("exp(x)", (-INF,), 0.0, (0.0,)),
    ("logaddexp(x, y)", (2.0, 2.0), 2.0 + math.log(2.0), (0.5, 0.5)),
    ("logaddexp(x, y)", (INF, INF), INF, (0.5, 0.5)),
    ("logaddexp(x, y)", (-INF, 1.0), 1.0, (0.0, 1.0)),
    ("logaddexp(x, y)", (-1000.0, 1000.0), 1000.0, (0.0, 1.0)),
    ("logaddexp(x, x)", (-1000.0,), -1000.0 + math.log(2.0), (1.0,)),
    ("x % y", (7.0, -3.0), -2.0, (1.0, 3.0)),
    ("x // y", (7.0, -3.0), -3.0, (0.0, 0.0)),
    ("fmod(x, y)", (-7.0, 3.0), -1.0, (1.0, 2.0)),
    ("remainder(x, y)", (7.0, 4.0), -1.0, (1.0, -2.0)),
    ("copysign(x, y)", (3.0, -0.0), -3.0, (-1.0, 0.0)),
    ("fma(x, y, z)", (0.0, 5.0, 7.0), 7.0, (5.0, 0.0, 1.0)),
]

SECOND_DERIVATIVES = [  # expression, point, d2 / dx dx
    ("x**2", 0.0, 2.0),
    ("x**3", 0.0, 0.0),
    ("x**2", -3.0, 2.0),
    ("x * x", 0.0, 2.0),
    ("x**1", 0.0, 0.0),
    ("relu(x)", 0.0, 0.0),
    ("abs(x)", 0.0, 0.0),
    ("maximum(x, 0.0) * x", 0.0, 1.0),
    ("logaddexp(x, 0.0)", 0.0, 0.25),
    ("logaddexp(x, x)", 3.0, 0.0),
    ("softplus(x)", 0.0, 0.25),
    ("hypot(x, 2.0)", 0.0, 0.5),
    ("atan2(x, 2.0)", 0.0, 0.0),
    ("tanh(x)", 1000.0, 0.0),
    ("sigmoid(x)", -1000.0, 0.0),
    ("silu(x)", 0.0, 0.5),
    ("where(x, x * x, 7.0)", 2.0, 2.0),
    ("asin(x)", 1.0, INF),
    ("asin(x)", -1.0, -INF),
    ("acos(x)", 1.0, -INF),
    ("acosh(x)", 1.0, -INF),
    ("sqrt(x)", 0.0, -INF),
    ("cbrt(x)", -0.0, INF),
    ("x**1.5", 0.0, INF),
    ("hypot(x, 0.0)", 0.0, NAN),
    ("hypot(x, x, x)", 0.0, NAN),
    ("atan2(x, x)", 0.0, NAN),
    ("atan2(0.0, x)", 0.0, NAN),
    ("2.0 + hypot(x, 0.0) * 0.0", 0.0, 0.0),
]

RAISING = [  # expression, point, what floats raise there
    ("log(x)", 0.0, ValueError),
    ("log(x)", -2.0, ValueError),
    ("log2(x)", 0.0, ValueError),
    ("log10(x)", -1.0, ValueError),
    ("log1p(x)", -1.0, ValueError),
    ("1 / x", 0.0, ZeroDivisionError),
    ("x // 0.0", 1.0, ZeroDivisionError),
    ("x % 0", 1.0, ZeroDivisionError),
    ("0**x", -1.0, ZeroDivisionError),
    ("x**-1", 0.0, ZeroDivisionError),
    ("x**0.5", -1.0, ValueError),
    ("x**y", -1.0, ValueError),
    ("x**400.0", 10.0, OverflowError),
    ("atanh(x)", 1.0, ValueError),
    ("asin(x)", 1.1, ValueError),
    ("acosh(x)", 0.9, ValueError),
    ("sqrt(x)", -1.0, ValueError),
    ("exp(x)", 710.0, OverflowError),
    ("cosh(x)", -711.0, OverflowError),
    ("exp2(x)", 1024.0, OverflowError),
    ("gamma(x)", -3.0, ValueError),
    ("gamma(x)", 172.0, OverflowError),
    ("lgamma(x)", 0.0, ValueError),
    ("digamma(x)", -1.0, ValueError),
    ("polygamma(1.5, x)", 1.0, ValueError),
    ("fmod(x, 0.0)", 1.0, ValueError),
    ("sin(x)", INF, ValueError),
    ("ldexp(x, 1025)", 1.0, OverflowError),
]


def evaluate(expression: str, *point: Any) -> tuple[Any, list[mg.Value]]:
    inputs = [mg.Value(x, name) for x, name in zip(point, "xyz")]
    return eval(expression, dict(ops.TABLE), {x.label: x for x in inputs}), inputs


def same(x: Any, y: Any) -> bool:
    return x == y or (math.isnan(x) and math.isnan(y))


@pytest.mark.parametrize(("expression", "point", "value", "derivatives"), SPECIAL_POINTS)
def test_values_and_derivatives(
    expression: str, point: tuple[Any, ...], value: float, derivatives: tuple[Any, ...]
) -> None:
    output, inputs = evaluate(expression, *point)
    output.backward()
    graphs = mg.gradients(output, inputs)
    assert same(output.data, value)
    assert all(same(x.grad, slope) for x, slope in zip(inputs, derivatives, strict=True))
    assert all(same(graph.data, slope) for graph, slope in zip(graphs, derivatives, strict=True))


@pytest.mark.parametrize(("expression", "x", "curvature"), SECOND_DERIVATIVES)
def test_second_derivatives(expression: str, x: float, curvature: float) -> None:
    output, inputs = evaluate(expression, x)
    (slope,) = mg.gradients(output, inputs)
    assert same(mg.gradients(slope, inputs)[0].data, curvature)
    slope.backward()
    assert same(inputs[0].grad, curvature)


@pytest.mark.parametrize(("expression", "x", "error"), RAISING)
def test_where_floats_raise_so_do_values_and_say_where(expression: str, x: float, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"\w+\(.*x=" + repr(x).replace("-", r"\-")):
        evaluate(expression, x, 0.5)


@pytest.mark.parametrize("f", [lambda v: mg.math.hypot(*v), lambda v: mg.math.dist([1.0, *v], [1.0, 0.0, 0.0])])
def test_the_hessian_of_a_distance_is_no_number_where_it_is_0(f: Callable[..., Any]) -> None:
    assert mg.grad(f)([0.0, 0.0]) == [0.0, 0.0]
    for hessian in (mg.hessian(f), mg.jit(mg.hessian(f))):
        assert all(math.isnan(entry) for row in hessian([0.0, 0.0]) for entry in row)
        assert hessian([3.0, 4.0]) == [pytest.approx([16 / 125, -12 / 125]), pytest.approx([-12 / 125, 9 / 125])]


def test_a_slope_of_inf_that_nothing_asks_for_stays_away() -> None:
    """0 * inf never happens: sqrt's infinite slope at 0, times a derivative of 0."""
    x = mg.Value(0.0)
    output = x.sqrt() * 0.0 + ops.where(x, x.sqrt(), 1.0) + ops.where(0.0, 1 / (x + 1e-320), x)
    output.backward()
    assert x.grad == 1.0
    assert mg.gradients(output, [x])[0].data == 1.0

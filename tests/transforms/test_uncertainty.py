"""Rounding errors held to 50 digits on random programs; sensitivities and uncertainties to what is known of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops
from micrograd_bp import math as m
from micrograd_bp.testing import Precise, Program, arithmetic, programs

softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: (1 / (1 + ops.abs(x)) ** 2,))
reals = st.floats(-3.0, 3.0)


def quadratic(*coefficients: float) -> Value:
    """A root of a x**2 + b x + c by the formula of schoolbooks."""
    a, b, c = (Value(x, name) for x, name in zip(coefficients, "abc", strict=True))
    return (-b + (b * b - 4.0 * a * c).sqrt()) / (2.0 * a)


def test_on_a_thousand_random_programs_the_bound_holds_and_the_estimate_is_near() -> None:
    near = []

    @settings(max_examples=1000, suppress_health_check=list(HealthCheck))
    @given(programs([*(op for op in ops.TABLE.values() if op.smooth), softsign]))
    def run(program: Program) -> None:
        output = program(*map(Value, program.point))
        error = float(abs(arithmetic().mpf(output.data) - Precise(program(*map(Precise, program.point))).number))
        found = mg.rounding_error(output)
        assert error <= found.bound
        near.append(error == found.estimate or error / 10.0 <= found.estimate <= 10.0 * error)

    run()
    assert len(near) >= 1000
    assert sum(near) >= 0.9 * len(near)


@given(st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=5))
def test_whole_numbers_are_not_rounded(numbers: list[float]) -> None:
    values = [Value(x) for x in numbers]
    found = mg.rounding_error(sum(values[1:], values[0]) * values[0] - values[-1] ** 3)
    assert found.bound == found.estimate == 0.0
    assert found.digits == math.inf


def test_cancellation_is_pointed_at_by_name() -> None:
    found = mg.rounding_error(quadratic(1.0, 200.0, 0.015))
    worst = found.cancellations[0]
    assert (worst.name, worst.expression) == ("v7", "v1 + v6")
    assert 6.0 < worst.lost < 7.0
    assert "v7 = v1 + v6" in str(found)
    assert "6 digits cancel" in str(found)
    assert sum(row.share for row in found.rows) == pytest.approx(1.0)
    assert found.rows == sorted(found.rows, key=lambda row: -row.bound)
    x = Value(1.0)
    assert not mg.rounding_error(Value(1.0 + 1e-9) - x).cancellations  # of exact numbers: nothing is lost
    noise = (Value(0.1) + 0.2) - 0.3
    assert not mg.rounding_error(noise * 1e-9 + Value(0.1) * 0.3).cancellations  # lost, and of no consequence
    assert mg.rounding_error(noise).cancellations


def test_the_estimate_corrects_the_value() -> None:
    """What is known of the errors, with its sign, is nearly the error itself."""
    out = Value(0.1) * 0.1 * 3.0 - 0.03
    exact = arithmetic().mpf(0.1) ** 2 * 3 - arithmetic().mpf(0.03)
    assert mg.rounding_error(out).estimate == pytest.approx(float(abs(out.data - exact)), rel=1e-10)


def test_leaves_and_what_is_not_finite() -> None:
    assert mg.rounding_error(Value(0.1)).bound == 0.0
    assert mg.rounding_error(Value(0.1) * 0.0).digits == math.inf
    assert math.isnan(mg.rounding_error(Value(1e308) * 10.0 - Value(math.inf)).bound)
    x = Value(3.0)
    x.grad = 7.0
    mg.rounding_error(x * x / 3.0)
    assert x.grad == 7.0
    total: Any = sum(Value(0.1 * i) for i in range(30))
    assert "more nodes" in str(mg.rounding_error(total))


def test_it_is_drawn_and_explored() -> None:
    pytest.importorskip("graphviz")
    output = quadratic(1.0, 200.0, 0.015)
    source = mg.draw(output, shade="rounding").source
    assert "share in the rounding error" in source
    assert source != mg.draw(output).source
    with pytest.raises(ValueError, match="'blue'"):
        mg.draw(output, shade="blue")
    page = mg.explore(output, path=None).html
    assert "6 digits are lost at v7" in page
    assert '"rounding": "95%"' in page


# --- sensitivities ------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3), st.lists(reals, min_size=3, max_size=3))
def test_the_elasticities_of_a_product_of_powers_are_its_exponents(x: list[float], powers: list[float]) -> None:
    values = [Value(a, f"x{i}") for i, a in enumerate(x)]
    product: Any = math.prod(v**p for v, p in zip(values, powers))
    found = mg.sensitivities(product)
    assert [abs(row.elasticity) for row in found] == sorted((abs(row.elasticity) for row in found), reverse=True)
    for row in found:
        assert row.elasticity == pytest.approx(powers[int(row.name[1])], abs=1e-12)
        assert row.node is values[int(row.name[1])]


def test_the_elasticities_of_a_homogeneous_function_add_up_to_its_degree() -> None:
    x, y = Value(3.0), Value(4.0)
    assert sum(row.elasticity for row in mg.sensitivities(m.hypot(x, y) * x)) == pytest.approx(2.0)


def test_sensitivities_where_the_output_is_zero() -> None:
    x, y = Value(1.0, "x"), Value(0.0, "y")
    found = mg.sensitivities((x - 1.0) + y)
    assert [row.name for row in found] == ["x", "y"]
    assert found[0].elasticity == math.inf
    assert math.isnan(found[1].elasticity)


# --- propagation --------------------------------------------------------------------------------------------------


def covariance(n: int, seed: int = 0) -> list[list[float]]:
    rng = random.Random(seed)
    root = np.array([[rng.gauss(0.0, 0.1) for _ in range(n)] for _ in range(n)])
    return (root @ root.T).tolist()


def outputs(x: Any, of: ModuleType = m) -> list[Any]:
    return [of.sin(x[0]) * x[1] + x[2], of.exp(x[2] - x[0]), x[0] / x[1]]


def test_it_is_what_uncertainties_gives() -> None:
    uncertainties = pytest.importorskip("uncertainties", reason="needs pip install 'micrograd-bp[test]'")
    umath = pytest.importorskip("uncertainties.umath")
    x, c = [1.0, 2.0, 0.5], covariance(3)
    expected = outputs(uncertainties.correlated_values(x, np.array(c)), umath)
    value, found = mg.propagate(outputs, x, c)
    assert value == pytest.approx([y.nominal_value for y in expected])
    assert np.allclose(found, uncertainties.covariance_matrix(expected), rtol=1e-12, atol=1e-15)


@given(st.lists(st.lists(reals, min_size=3, max_size=3), min_size=2, max_size=2))
def test_of_a_linear_map_it_is_exact(rows: list[list[float]]) -> None:
    c = np.array(covariance(3))
    matrix = np.array(rows)
    found = mg.propagate(lambda x: matrix @ x, np.array([1.0, 2.0, 3.0]), c).covariance
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, matrix @ c @ matrix.T, rtol=1e-12, atol=1e-14)


def test_it_is_the_spread_of_many_draws() -> None:
    x, c = np.array([1.0, 2.0, 0.5]), 1e-4 * np.array(covariance(3))
    draws = np.random.default_rng(0).multivariate_normal(x, c, 20_000)
    spread = np.cov(np.array([outputs(row, math) for row in draws]).T)
    assert np.allclose(mg.propagate(outputs, x.tolist(), c).covariance, spread, rtol=0.1, atol=0.05 * spread.max())


def test_one_number_shapes_and_derivatives() -> None:
    assert mg.propagate(lambda x: x * x, 3.0, 0.25) == (9.0, 9.0)
    assert mg.grad(lambda x: mg.propagate(lambda t: t * t, x, 0.25).covariance)(3.0) == 6.0  # 4 x^2 / 4
    assert mg.jit(lambda x: mg.propagate(softsign, x, 0.25).covariance)(1.0) == pytest.approx(0.25 / 16.0)
    assert mg.propagate(lambda p: p["a"] * p["b"], {"a": 2.0, "b": 3.0}, [[0.1, 0.0], [0.0, 0.2]])[1] == pytest.approx(
        1.7
    )


@pytest.mark.parametrize(
    ("words", "matrix"),
    [
        ("2 rows of 2", [[1.0]]),
        ("2 rows of 2", 1.0),
        ("2 rows of 2", [1.0, 2.0]),
        (r"covariance\[1\]\[1\] is a variance", [[1.0, 0.0], [0.0, -1.0]]),
        (r"covariance\[1\]\[0\] is 0.5", [[1.0, 0.4], [0.5, 1.0]]),
    ],
)
def test_what_is_no_covariance(words: str, matrix: Any) -> None:
    with pytest.raises(ValueError, match=words):
        mg.propagate(lambda x: x[0] * x[1], [1.0, 2.0], matrix)


@pytest.mark.parametrize("function", [mg.rounding_error, mg.sensitivities])
def test_they_take_a_value(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"takes a Value, not 1.0 \(float\)"):
        function(1.0)

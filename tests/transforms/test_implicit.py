"""Implicit functions: held to closed forms, to 50 digits, to differences and to differentiation of the solver."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops
from micrograd_bp import math as m
from micrograd_bp.testing import arithmetic

reals = st.floats(-1.0, 1.0)


def price(sigma: Any, strike: float = 110.0, years: float = 0.5, of: ModuleType = m) -> Any:
    """Of a call, by Black and Scholes."""
    d = (of.log(100.0 / strike) + sigma * sigma * years / 2.0) / (sigma * of.sqrt(years))
    cdf = lambda x: of.erfc(-x / math.sqrt(2.0)) / 2.0  # noqa: E731
    return 100.0 * cdf(d) - strike * cdf(d - sigma * of.sqrt(years))


def implied(p: Any) -> Any:
    return mg.root(lambda sigma, p: price(sigma) - p, 0.3, p)


def test_implied_volatility_to_second_order() -> None:
    sigma = implied(4.0)
    assert price(sigma) == pytest.approx(4.0, abs=1e-13)
    vega, vomma = mg.grad(price)(sigma), mg.hessian(price)(sigma)
    assert mg.grad(implied)(4.0) == pytest.approx(1.0 / vega, rel=1e-12)
    assert mg.hessian(implied)(4.0) == pytest.approx(-vomma / vega**3, rel=1e-11)
    third = mg.grad(mg.hessian(implied))(4.0)
    h = 1e-4
    assert third == pytest.approx((mg.hessian(implied)(4.0 + h) - mg.hessian(implied)(4.0 - h)) / (2 * h), rel=1e-6)


def test_a_root_to_50_digits() -> None:
    """x exp(x) = p: Lambert's function."""
    f = lambda p: mg.root(lambda x, p: x * m.exp(x) - p, 0.5, p)  # noqa: E731
    mp = arithmetic()
    exact = [float(mp.diff(mp.lambertw, mp.mpf(0.75), n).real) for n in range(3)]
    assert [f(0.75), mg.grad(f)(0.75), mg.hessian(f)(0.75)] == pytest.approx(exact, rel=1e-12)


def reaction(c: dict[str, Any], k: dict[str, Any]) -> dict[str, Any]:
    """A feeds B feeds C with a way back; balances of the three."""
    return {
        "a": 1.0 - k["ab"] * c["a"] ** 2 + k["ba"] * c["b"],
        "b": k["ab"] * c["a"] ** 2 - k["ba"] * c["b"] - k["bc"] * c["b"] * c["c"],
        "c": k["bc"] * c["b"] * c["c"] - c["c"] / (1.0 + c["c"]) - 0.1 * c["c"],
    }


def test_a_steady_state_agrees_with_differentiation_of_newtons_method_and_with_differences() -> None:
    k = {"ab": 2.0, "ba": 0.5, "bc": 1.5}
    start = {"a": 1.0, "b": 1.0, "c": 1.0}
    state = lambda k: mg.root(reaction, start, k)  # noqa: E731
    found = mg.jacobian(state)(k)

    def newton(k: dict[str, Any]) -> dict[str, Any]:  # recorded, step by step
        x = [1.0, 1.0, 1.0]
        for _ in range(12):
            residual = lambda x: list(reaction(dict(zip("abc", x)), k).values())  # noqa: E731
            a, r = np.array(mg.jacobian(residual)(x), object), residual(x)
            for i in range(3):  # Gauss
                for j in range(i + 1, 3):
                    factor = a[j, i] / a[i, i]
                    a[j], r[j] = a[j] - factor * a[i], r[j] - factor * r[i]
            step = [0.0] * 3
            for i in (2, 1, 0):
                step[i] = (r[i] - sum(a[i, j] * step[j] for j in range(i + 1, 3))) / a[i, i]
            x = [b - s for b, s in zip(x, step)]
        return dict(zip("abc", x))

    through = mg.jacobian(newton)(k)
    for name in "abc":
        assert state(k)[name] == pytest.approx(newton(k)[name], rel=1e-12)
        for rate in k:
            assert found[name][rate] == pytest.approx(through[name][rate], rel=1e-9, abs=1e-11)
            up, down = (state({**k, rate: k[rate] + h})[name] for h in (1e-5, -1e-5))
            assert found[name][rate] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-8)
    assert mg.gradcheck(state, k, order=2)


@given(st.lists(reals, min_size=9, max_size=9), st.lists(reals, min_size=3, max_size=3))
def test_a_linear_system_has_the_inverse_for_its_jacobian(entries: list[float], b: list[float]) -> None:
    a = np.array(entries).reshape(3, 3) + 4.0 * np.eye(3)
    solve = lambda b: mg.root(lambda x, b: a @ x - b, np.zeros(3), b)  # noqa: E731
    assert np.allclose(solve(np.array(b)), np.linalg.solve(a, b), rtol=1e-12, atol=1e-13)
    assert np.allclose(mg.jacobian(solve)(np.array(b)), np.linalg.inv(a), rtol=1e-11, atol=1e-12)


def test_the_penalty_of_a_ridge_regression_by_hyper_gradient() -> None:
    rng = np.random.default_rng(0)
    X, y, test, target = rng.normal(size=(20, 4)), rng.normal(size=20), rng.normal(size=(10, 4)), rng.normal(size=10)

    def loss(w: Any, penalty: Any) -> Any:
        return ((X @ w - y) ** 2).sum() + penalty * (w * w).sum()

    def validation(penalty: Any) -> Any:
        return ((test @ mg.argmin(loss, np.zeros(4), penalty) - target) ** 2).sum()

    def closed(penalty: Any) -> Any:
        return ((test @ np.linalg.solve(X.T @ X + penalty * np.eye(4), X.T @ y) - target) ** 2).sum()

    h = 1e-5
    assert validation(0.7) == pytest.approx(closed(0.7), rel=1e-12)
    assert mg.grad(validation)(0.7) == pytest.approx((closed(0.7 + h) - closed(0.7 - h)) / (2 * h), rel=1e-8)
    second = (closed(0.7 + 1e-3) - 2 * closed(0.7) + closed(0.7 - 1e-3)) / 1e-6
    assert mg.hessian(validation)(0.7) == pytest.approx(second, rel=1e-5)


def test_a_fixed_point_need_not_attract() -> None:
    f = lambda x, a: a / (x * x)  # noqa: E731  # x = a^(1/3); the iteration doubles errors
    cube = lambda a: mg.fixed_point(f, 1.5, a)  # noqa: E731
    assert cube(8.0) == pytest.approx(2.0, rel=1e-14)
    assert mg.grad(cube)(8.0) == pytest.approx(1.0 / 12.0, rel=1e-13)
    both = mg.fixed_point(lambda x, a: (a * x[1] / 4.0, 0.5 * x[0] + a), (0.0, 0.0), Value(2.0))
    assert both[1].data == pytest.approx(8.0 / 3.0)


def test_a_solver_of_ones_own() -> None:
    calls = []

    def bisection(g: Callable[..., Any], x0: Any) -> Any:
        calls.append(x0)
        low, high = 0.0, 4.0
        while high - low > 1e-15:
            middle = (low + high) / 2.0
            low, high = (middle, high) if g(middle) < 0.0 else (low, middle)
            if middle in (low, high) and low + (high - low) / 2.0 in (low, high):
                break
        return low

    cosh = Op("mycosh", "mycosh", math.cosh, lambda out, x: (ops.sinh(x),))
    f = lambda p: mg.root(lambda x, p: cosh(x) - p, 1.0, p, solver=bisection)  # noqa: E731
    assert mg.grad(f)(2.0) == pytest.approx(1.0 / math.sqrt(3.0), rel=1e-12)
    assert calls == [1.0]
    least = mg.argmin(lambda w, p: (w - p) ** 4, 0.0, Value(2.0), solver=lambda g, x0: 1.5)
    assert least.data == 1.5


def test_it_is_solved_anew_when_it_runs_compiled() -> None:
    compiled, slope = mg.jit(implied), mg.jit(mg.grad(implied))
    for p in (4.0, 5.0, 6.5):
        assert compiled(p) == pytest.approx(implied(p), rel=1e-12)
        assert slope(p) == pytest.approx(mg.grad(implied)(p), rel=1e-10)
    assert compiled.stats["paths"] == slope.stats["paths"] == 1
    least = mg.jit(mg.grad(lambda a: mg.argmin(lambda x, a: m.exp(x) - a * x, 0.0, a)))  # log a
    assert least(2.0) == pytest.approx(0.5, rel=1e-10)
    assert least(4.0) == pytest.approx(0.25, rel=1e-10)


def test_errors() -> None:
    x = Value(2.0)
    with pytest.raises(TypeError, match="a Value that is not among its parameters"):
        mg.root(lambda t, p: t * x - p, 1.0, Value(1.0))
    with pytest.raises(TypeError, match="a Value that is not among its parameters"):
        mg.argmin(lambda t: (t - x) ** 2, 1.0)
    with pytest.raises(ValueError, match="no solution found"):
        mg.root(lambda t, p: t * t + p, 1.0, 1.0)
    with pytest.raises(ValueError, match="singular at the solution"):
        mg.grad(lambda p: mg.root(lambda t, p: (t - p) ** 3, 0.0, p, solver=lambda g, x0: 1.0))(1.0)
    with pytest.raises(ValueError, match="1 equations for 2 unknowns"):
        mg.root(lambda t, p: [t[0] - p], [1.0, 1.0], Value(1.0))
    with pytest.raises(TypeError, match="must return one number"):
        mg.argmin(lambda t: [t, t], 1.0)
    with pytest.raises(TypeError, match="cannot take 'a'"):
        mg.root(lambda t: t, "a")


def test_an_import_within_a_compiled_function_draws_no_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SciPy is imported by the first root, and its import draws some."""
    (tmp_path / "drawing_module.py").write_text("import random\nseed = random.random()\n")
    monkeypatch.syspath_prepend(tmp_path)

    def f(x: Any) -> Any:
        import drawing_module  # type: ignore[import-not-found]

        return x * x + 0.0 * drawing_module.seed

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = mg.jit(f)
        compiled.pays = 0
        assert [compiled(x) for x in (2.0, 3.0)] == [4.0, 9.0]
    assert compiled.stats["paths"] == 1

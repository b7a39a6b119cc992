"""Sparse derivatives are the dense ones, with the pattern that the graph has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops
from micrograd_bp import math as m
from micrograd_bp import sparse as module
from micrograd_bp.testing import Program, programs

optimize = pytest.importorskip("scipy.optimize", reason="needs pip install 'micrograd-bp[test]'")
from scipy.sparse import csr_array  # noqa: E402

softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: (1 / (1 + ops.abs(x)) ** 2,))


def rosenbrock(x: Any) -> Any:
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))


def residuals(x: Any) -> list[Value]:
    return [10.0 * (x[i + 1] - x[i] ** 2) * m.exp(x[i]) for i in range(len(x) - 1)]


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(programs([*(op for op in ops.TABLE.values() if op.smooth), softsign], max_steps=10))
def test_of_random_programs_they_are_the_dense_ones(program: Program) -> None:
    f = lambda x: program(*x)  # noqa: E731
    dense = np.array(mg.hessian(f)(list(program.point)))
    found = mg.hessian(f, sparse=True)(list(program.point)).toarray()
    scale = max(1.0, np.abs(dense).max())
    assert np.allclose(found, dense, rtol=1e-9, atol=1e-9 * scale)
    assert np.allclose(found, found.T, rtol=1e-12, atol=1e-12 * scale)
    slopes = mg.jacobian(lambda x: [f(x), x[0]], sparse=True)(list(program.point)).toarray()
    assert np.allclose(slopes[0], mg.grad(f)(list(program.point)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [x for x, op in ops.TABLE.items() if op.arity in (1, 2) and x != "polygamma"])
def test_every_op_has_the_second_derivatives_of_the_dense_hessian(name: str) -> None:
    op, seen = ops.TABLE[name], 0
    f = lambda x: op(*[a * 1.0 for a in x]) * 2.0  # noqa: E731
    for point in ([0.75, 0.4], [-0.75, 0.4], [1.5, 2.5], [-1.5, -2.5], [0.3, 0.3], [3.0, -2.0], [2.0, 1.25]):
        given = point[: op.arity]
        try:
            dense = np.array(mg.hessian(f)(given))
        except (ValueError, ZeroDivisionError):  # outside of the domain
            continue
        seen += 1
        assert np.allclose(mg.hessian(f, sparse=True)(given).toarray(), dense, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert seen


def test_a_rule_that_chooses_is_read_at_the_point_it_is_asked_for() -> None:
    bent = mg.Op("bent", "bent", lambda x: x if x > 0 else m.exp(x) - 1, lambda out, x: (1.0 if x > 0 else m.exp(x),))
    hessian = mg.hessian(lambda x: bent(x[0]) * x[1], sparse=True)
    compiled = mg.jit(hessian)
    for x in (0.7, -0.7, 0.2, -2.0):
        want = [[0.0 if x > 0 else 3.0 * math.exp(x), 1.0 if x > 0 else math.exp(x)]] * 2
        want[1] = [want[0][1], 0.0]
        for found in (hessian, compiled, compiled):
            assert found([x, 3.0]).toarray() == pytest.approx(np.array(want), rel=1e-15)


@pytest.mark.parametrize("n", [2, 30, 400])
def test_rosenbrocks_hessian_is_the_known_one_and_tridiagonal(n: int) -> None:
    x = np.linspace(-1.0, 1.5, n)
    found = mg.hessian(rosenbrock, sparse=True)(x)
    assert isinstance(found, csr_array)
    assert np.allclose(found.toarray(), optimize.rosen_hess(x), rtol=1e-12, atol=1e-10)
    assert found.nnz == 3 * n - 2


def test_jacobians_in_either_direction() -> None:
    x = np.linspace(-1.0, 1.0, 60)
    found = mg.jacobian(residuals, sparse=True)(x)
    assert found.shape == (59, 60)
    assert found.nnz == 2 * 59
    assert np.allclose(found.toarray(), mg.jacobian(lambda x: np.array(residuals(x)))(x), rtol=1e-14)
    call = mg.transforms._Call("test", lambda x: [*residuals(x), sum(x), x[0], 3.0, x[0]], (x,), {})
    tape = call.tape(graph=False)
    forward = module.jacobian_rows(call.outputs, call.variables, tape)
    backward = module._reverse_rows(call.outputs, call.variables, tape)
    assert [sorted(row) for row in forward] == [sorted(row) for row in backward]
    for a, b in zip(forward, backward):
        assert [a[j] for j in sorted(a)] == pytest.approx([b[j] for j in sorted(b)], rel=1e-14)


def test_a_sum_of_everything_is_swept_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[int] = []
    plain = module._reverse_rows

    def counted(*args: Any) -> Any:
        swept.append(1)
        return plain(*args)

    monkeypatch.setattr(module, "_reverse_rows", counted)
    x = np.linspace(0.1, 1.0, 300)
    found = mg.jacobian(lambda x: [sum(a * a for a in x), x[1]], sparse=True)(x)
    assert np.allclose(found.toarray()[0], 2.0 * x)
    assert swept == [1]


def test_repeated_operands_constants_and_what_does_not_depend() -> None:
    f = lambda x: x[0] * x[0] * x[2] + m.hypot(x[1], x[1], 2.0) + ops.where(x[0], x[1] ** 3, 0.0) + 7.0  # noqa: E731
    x = [1.5, 2.0, 3.0, 4.0]
    found = mg.hessian(f, sparse=True)(x)
    assert np.allclose(found.toarray(), mg.hessian(f)(x), rtol=1e-13)
    assert found.toarray()[3].tolist() == [0.0] * 4
    assert mg.hessian(lambda x: 7.0, sparse=True)(x).nnz == 0
    assert mg.hessian(lambda x: 3.0 * x[0] + x[1], sparse=True)(x).nnz == 0
    assert mg.hessian(lambda x, y: x * y, (0, 1), sparse=True)(2.0, 3.0).toarray().tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert mg.jacobian(lambda p: p["a"] * p["b"], sparse=True)({"a": 2.0, "b": 3.0}).toarray().tolist() == [[3.0, 2.0]]


def test_they_are_differentiated_and_compiled() -> None:
    x = np.linspace(-1.0, 1.0, 5)
    f = lambda x: rosenbrock(x) + softsign(x[0] * x[4])  # noqa: E731
    total = lambda x: mg.hessian(f, sparse=True)(x).data.sum()  # noqa: E731
    dense = lambda x: np.array(mg.hessian(f)(x)).sum()  # noqa: E731
    assert np.allclose(mg.grad(total)(x), mg.grad(dense)(x), rtol=1e-10)
    entries = mg.hessian(f, sparse=True)(np.array([Value(a) for a in x]))
    assert entries.shape == (5, 5)
    assert isinstance(entries.data[0], Value)
    for derivative in (mg.hessian(f, sparse=True), mg.jacobian(residuals, sparse=True)):
        compiled = mg.jit(derivative)
        for point in (x, x + 0.5):
            found = compiled(point)
            assert isinstance(found, csr_array)
            assert np.allclose(found.toarray(), derivative(point).toarray(), rtol=1e-12)
        assert compiled.stats["paths"] == 1


def control(n: int) -> tuple[Any, ...]:
    """Swinging a pendulum up in three units of time, with the least effort: effort, constraints, a first guess."""
    h = 3.0 / n

    def effort(z: Any) -> Any:
        return h * sum(u * u for u in z[2 * n + 2 :])

    def gaps(z: Any) -> list[Any]:
        angle, speed, torque = z[: n + 1], z[n + 1 : 2 * n + 2], z[2 * n + 2 :]
        turn = [u - m.sin(a) for a, u in zip(angle, torque)]
        rows = [angle[0], speed[0], angle[n] - math.pi, speed[n]]
        for k in range(n):
            rows.append(angle[k + 1] - angle[k] - h / 2.0 * (speed[k] + speed[k + 1]))
            rows.append(speed[k + 1] - speed[k] - h / 2.0 * (turn[k] + turn[k + 1]))
        return rows

    return effort, gaps, np.concatenate([np.linspace(0.0, math.pi, n + 1), np.ones(n + 1), np.zeros(n + 1)])


def test_scipy_solves_an_optimal_control_problem_of_2001_variables() -> None:
    effort, gaps, start = control(666)
    lagrangian = mg.hessian(lambda z, v: sum(a * b for a, b in zip(v, gaps(z))), sparse=True)
    constraint = optimize.NonlinearConstraint(
        lambda z: np.array(gaps(z)), 0.0, 0.0, mg.jacobian(gaps, sparse=True), lambda z, v: lagrangian(z, v.tolist())
    )
    found = optimize.minimize(
        effort, start, jac=mg.grad(effort), hess=mg.hessian(effort, sparse=True), constraints=[constraint],
        method="trust-constr",
    )  # fmt: skip
    assert len(start) == 2001
    assert found.success
    assert found.constr_violation < 1e-12
    assert found.fun == pytest.approx(5.322, abs=1e-3)


def test_ipopt_solves_it_too() -> None:
    cyipopt = pytest.importorskip("cyipopt", reason="it has no wheel: pip install cyipopt builds it beside Ipopt")
    effort, gaps, start = control(666)
    slopes = mg.jacobian(gaps, sparse=True)
    lagrangian = mg.hessian(lambda z, v, s: s * effort(z) + sum(a * b for a, b in zip(v, gaps(z))), sparse=True)
    count = len(gaps(start))
    pattern, curved = slopes(start).tocoo(), lagrangian(start, [1.0] * count, 1.0).tocoo()
    lower = curved.row >= curved.col

    class Swing:
        objective = staticmethod(effort)
        gradient = staticmethod(mg.grad(effort))

        def constraints(self, z: Any) -> Any:
            return np.array(gaps(z))

        def jacobian(self, z: Any) -> Any:
            return slopes(z).data

        def jacobianstructure(self) -> Any:
            return pattern.row, pattern.col

        def hessian(self, z: Any, v: Any, s: Any) -> Any:
            return lagrangian(z, v.tolist(), float(s)).data[lower]

        def hessianstructure(self) -> Any:
            return curved.row[lower], curved.col[lower]

    zeros = np.zeros(count)
    problem = cyipopt.Problem(len(start), count, Swing(), cl=zeros, cu=zeros)
    problem.add_option("print_level", 0)
    z, told = problem.solve(start)
    assert told["status"] == 0
    assert np.abs(gaps(z)).max() < 1e-8
    assert told["obj_val"] == pytest.approx(5.322, abs=1e-3)


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        mg.hessian(rosenbrock, sparse=True)([1.0, 2.0])


def test_a_compiled_pattern_is_the_callers_own() -> None:
    n = 900  # so large that arrays are compiled

    def chained(x: Any) -> Any:
        return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(n - 1))

    hessian = mg.hessian(chained, sparse=True)
    compiled = mg.jit(hessian)
    compiled.pays = 0
    rng = np.random.default_rng(0)
    points = [rng.normal(size=n) for _ in range(4)]
    points[2][5] = 0.0
    for x in (*points, points[1].astype(np.float32), np.full(n, np.nan), points[0]):
        found, wanted = compiled(x), hessian(x)
        assert np.array_equal(found.indices, wanted.indices)
        assert np.allclose(found.data, wanted.data, rtol=1e-13, equal_nan=True)
        found.data[:] = 0.0
        found.eliminate_zeros()
        found.indices[:] = 7
    assert compiled.stats["paths"] == 1


@pytest.mark.parametrize("x", [0.0, -1.5, 2.0])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x**2 * x**1.0 + x**0.0,
        lambda x: (1.0 - x) ** 2 * (x + x) ** 3.0,
        lambda x: 2.0 * x * x + (x - 1.0) ** 4,
    ],
)
def test_curvature_of_powers_with_whole_exponents(f: Callable[..., Any], x: float) -> None:
    found = mg.hessian(lambda v: f(v[0]), sparse=True)([x]).toarray()
    assert np.allclose(found, [[mg.grad(mg.grad(f))(x)]], rtol=1e-14)

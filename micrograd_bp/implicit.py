"""Solutions as functions of the parameters of their equations: `root`, `fixed_point`, `argmin`.

The solver runs on plain numbers and is not differentiated. Where f(x, p) = 0, the implicit function theorem gives

    dx/dp = -(df/dx)**-1 df/dp,

which holds at the solution however it was found (Griewank and Walther, Evaluating Derivatives, 2nd ed., 2008,
chapter 15; Blondel et al., Efficient and modular implicit differentiation, 2022). Run on Values it can be
differentiated again.

>>> from micrograd_bp import Value
>>> p = Value(2.0)
>>> x = root(lambda x, p: x * x - p, 1.0, p)                          # sqrt(p)
>>> x.backward()
>>> round(x.data, 12), round(p.grad, 12)                              # 1 / (2 sqrt(2))
(1.414213562373, 0.353553390593)
"""

from __future__ import annotations

import importlib
import math
import reprlib
from collections.abc import Sequence
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp.custom import OutputOps, operands_of
from micrograd_bp.ops import number
from micrograd_bp.transforms import Function, _Call, _name, grad, numbers_only
from micrograd_bp.value import Value

POLISH = 4  # steps of Newton's method, at most, after SciPy's solver has stopped


def root(f: Function, x0: Any, *params: Any, solver: Function | None = None) -> Any:
    """The x near x0 where f(x, *params) is 0, as a function of the params.

    Args:
        f: Of x and the params, gives as many numbers as x has, in whatever shape.
        x0: Where the search begins: a number, an array, or lists, tuples and dicts of them. No derivative is taken
            by it.
        *params: What the solution depends on; arguments as for `custom_derivative`.
        solver: Called as solver(g, x0), with g the function of x alone, on plain numbers; gives the x where g is 0,
            built like x0. Without it `scipy.optimize.root`, which is given the Jacobian, and some steps of Newton's
            method (pip install scipy).

    Returns:
        x, built like x0; Values where a Value is among the params, and only these are differentiated by: TypeError
        where f makes use of a Value that is not among them.

    Raises:
        ValueError: No root was found, or, when it is differentiated, the Jacobian by x is singular there.

    Example:
        >>> from micrograd_bp import grad, math
        >>> kepler = lambda mean, e: root(lambda x, mean, e: x - e * math.sin(x) - mean, mean, mean, e)
        >>> slope = grad(kepler)(1.0, 0.5)                                # 1 / (1 - e cos(x))
        >>> round(slope, 12), round(1.0 / (1.0 - 0.5 * math.cos(kepler(1.0, 0.5))), 12)
        (1.037362021894, 1.037362021894)
    """

    def equations(x: Any, *params: Any) -> Any:
        return f(x, *params)

    return _solution("root", f, equations, _found, x0, params, solver)


def fixed_point(f: Function, x0: Any, *params: Any, solver: Function | None = None) -> Any:
    """The x near x0 where f(x, *params) is x, as a function of the params: a steady state.

    It is found as a root of f(x) - x, whether or not repeated application of f converges.

    Args:
        f: Of x and the params, gives what is built like x.
        x0: Where the search begins, as in `root`.
        *params: What the solution depends on, as in `root`.
        solver: Called as solver(g, x0) where it is given, and gives the x where g(x) is x.

    Returns:
        x, as in `root`.

    Raises:
        ValueError: As in `root`; or f gives what is not built like x0.

    Example:
        >>> from micrograd_bp import grad, math
        >>> round(fixed_point(lambda x, a: math.cos(a * x), 1.0, 1.0), 12)
        0.739085133215
        >>> grad(lambda a: fixed_point(lambda x, a: 0.5 * (x + a / x), 1.0, a))(4.0)          # of sqrt(a)
        0.25
    """

    def equations(x: Any, *params: Any) -> Any:
        after = trees.matched(x, f(x, *params), f"fixed_point({_name(f)}): f(x)")
        return [b - a for a, b in zip(trees.entries(x), after)]

    return _solution("fixed_point", f, equations, _found, x0, params, solver)


def argmin(f: Function, x0: Any, *params: Any, solver: Function | None = None) -> Any:
    """The x near x0 where f(x, *params), one number, is least, as a function of the params.

    It is differentiated as the root of f's gradient, so f has to be smooth there, with a Hessian that is not singular.

    Args:
        f: Of x and the params, gives one number.
        x0: Where the search begins, as in `root`.
        *params: What the solution depends on, as in `root`.
        solver: Called as solver(g, x0) where it is given, and gives the x where g is least. Without it
            `scipy.optimize.minimize` (BFGS, with the gradient) and some steps of Newton's method on the gradient.

    Returns:
        x, as in `root`.

    Raises:
        ValueError: As in `root`.

    Example:
        >>> from micrograd_bp import grad
        >>> ridge = lambda penalty: argmin(lambda w, penalty: (3.0 * w - 6.0) ** 2 + penalty * w * w, 0.0, penalty)
        >>> round(ridge(1.0), 12), round(grad(ridge)(1.0), 12)                                # 18 / (9 + penalty)
        (1.8, -0.18)
    """

    def equations(x: Any, *params: Any) -> Any:
        return grad(f)(x, *params)

    return _solution("argmin", f, equations, _least, x0, params, solver)


def _solution(
    kind: str, f: Function, equations: Function, search: Function, x0: Any, params: tuple[Any, ...], solver: Any
) -> Any:
    """The solution of equations(x, *params) = 0, as operations on the params."""
    title = f"{kind}({_name(f)})"
    entries = trees.entries(x0)
    start = [number(getattr(x, "_data", x), title) for x in entries]
    shaped = trees.taken_apart(x0)[2]

    def flat(numbers: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """The equations' left-hand sides, as a flat list, from flat lists of unknowns and parameters."""
        sides = trees.entries(equations(shaped(iter(numbers)), *rows.arguments(operands)))
        if len(sides) != len(entries):
            raise ValueError(f"{title}: {len(sides)} equations for {len(entries)} unknowns")
        return sides

    def run(*params: Any) -> Any:
        for value in trees.entries(f(shaped(iter(start)), *params)):
            if isinstance(value, Value):
                raise TypeError(f"{title}: f makes use of a Value that is not among its parameters; pass it as one")
        if solver is not None:
            return solver(lambda x: f(x, *params), x0 if not _values(entries) else shaped(iter(start)))
        operands = operands_of(trees.leaves(params))

        def residual(x: Sequence[float]) -> list[float]:
            return [number(side, title) for side in flat([float(a) for a in x], operands)]

        def slopes(x: Sequence[float]) -> list[list[float]]:
            return _Call(title, lambda x: flat(x, operands), ([float(a) for a in x],), {}).rows()

        def whole(x: Sequence[float]) -> Any:
            return trees.entries(f(shaped(iter([float(a) for a in x])), *params))[0]

        residual(start)  # errors of the user's function are raised before SciPy's
        return shaped(iter(_polished(title, residual, slopes, search(title, residual, slopes, whole, start))))

    def derivatives(x: Any, params: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
        numbers, operands = trees.entries(x), operands_of(trees.leaves(params))
        call = _Call(title, flat, (numbers, operands), {})
        n = len(numbers)
        matrix = call.rows()
        return _solved(title, [row[:n] for row in matrix], [[-b for b in row[n:]] for row in matrix])

    rows = OutputOps(kind, run, derivatives, params, of_values=True)
    operands = operands_of(trees.leaves(params))
    if _values(operands):
        return rows(operands)
    return numbers_only(run, *params)


def _values(entries: Sequence[Any]) -> bool:
    return any(hasattr(type(x), "_record") for x in entries)


def _found(title: str, residual: Function, slopes: Function, whole: Function, start: list[float]) -> list[float]:
    """A root found by SciPy."""
    found = _scipy(title).root(residual, start, jac=slopes)
    return [float(x) for x in found.x]


def _least(title: str, residual: Function, slopes: Function, whole: Function, start: list[float]) -> list[float]:
    """A minimum found by SciPy."""
    found = _scipy(title).minimize(whole, start, jac=residual)
    return [float(x) for x in found.x]


def _polished(title: str, residual: Function, slopes: Function, x: list[float]) -> list[float]:
    """The solution after further steps of Newton's method, as long as they reduce the residual."""
    here = residual(x)
    error = math.hypot(*here)
    for _ in range(POLISH):
        if error == 0.0:
            return x
        try:
            steps = _solved(title, slopes(x), [[-side] for side in here])
            moved = [a + step[0] for a, step in zip(x, steps)]
            there = residual(moved)
        except (ValueError, ArithmeticError):  # singular, or out of the domain
            break
        if not math.hypot(*there) < error:
            break
        x, here, error = moved, there, math.hypot(*there)
    size = max([1.0, *(abs(a * b) for row, a in zip(slopes(x), x) for b in row)])
    if not error <= 1e-6 * size:
        found = f"at {reprlib.repr(x)} it is off by {error:.3g}"
        raise ValueError(f"{title}: no solution found; {found}. Pass an x0 that is nearer, or a solver=")
    return x


def _scipy(title: str) -> Any:
    try:
        return importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise ImportError(f"{title} is solved by SciPy: pip install scipy; or pass a solver=") from error


def _solved(title: str, a: Sequence[Sequence[Any]], b: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The solution X of A X = B: Gaussian elimination with pivots, on floats or Values; ValueError: A is singular."""
    rows = [[*left, *right] for left, right in zip(a, b, strict=True)]
    n = len(rows)
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        if not abs(rows[pivot][k]) > 0.0:
            raise ValueError(f"{title}: the derivatives of the equations by x are singular at the solution")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(n):
            if i != k and not (type(rows[i][k]) is float and rows[i][k] == 0.0):
                factor = rows[i][k] / rows[k][k]
                rows[i][k + 1 :] = [x - factor * y for x, y in zip(rows[i][k + 1 :], rows[k][k + 1 :])]
    return [[x / row[k] for x in row[n:]] for k, row in enumerate(rows)]

"""`gradcheck`: compare derivatives with finite differences.

>>> gradcheck(lambda x, y: x * y + x**3, 2.0, 3.0)
True
"""

from __future__ import annotations

import functools
import math
import random
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from micrograd_bp._engine import trees
from micrograd_bp.transforms import _Call, _name, jacobian, vjp

Vector: TypeAlias = list[float]
Matrix: TypeAlias = list[Vector]  # a row for every output, a column for every input
VectorFunction: TypeAlias = Callable[[Any], Any]  # from a Vector to a Vector, and from Values to Values

LEVELS = 24  # step sizes, each half the one before; four times as many are tried before a derivative is called wrong
COLUMNS = 6  # of the extrapolation table; further columns add noise and no digits
SAFETY = 4.0  # tolerance over estimated error; measured over all ops, the error is at most 0.31 of its estimate
ROUNDING = 1e-12  # error of rules and sweeps, relative to the sum of the absolute products along all paths
LEAST = 1e-300  # smaller errors are ignored: floats lose relative precision there


class TwoSided(NamedTuple):
    """A function's values at a step to the right and to the left of a point."""

    size: float
    width: float  # from left to right: twice the size, but for rounding
    right: Vector
    left: Vector


class Limit(NamedTuple):
    """The limit of a quantity as the step goes to 0, and an estimate of its error."""

    value: float
    error: float


class Estimate(NamedTuple):
    """A derivative with its jump from left to right, and its scale: that of a function that changes by its own size."""

    slope: Limit
    jump: Limit
    size: float


def gradcheck(
    f: Callable[..., Any], *args: Any, order: int = 2, rng: random.Random | None = None, **kwargs: Any
) -> bool:
    """Compare the derivatives of f(*args, **kwargs), computed by the rules, with finite differences of f.

    The differences are central and extrapolated to step 0. The tolerance follows from their own error, as the
    extrapolations and the noise in f show it: ten digits or so, and fewer only where f itself has lost them. Then
    forward accumulation is compared with reverse, by the inner product of a random tangent and cotangent.

    Args:
        f: A function that returns numbers: one, an array, or lists, tuples and dicts of them.
        *args: The point: numbers, arrays, or lists, tuples and dicts of them, all of which are differentiated by.
        order: 1 holds the Jacobian against differences of f, 2 also the Jacobian of the Jacobian against differences of
            the Jacobian, and so on.
        rng: The source of the tangent and the cotangent, `random.Random(0)` by default.
        **kwargs: Keyword arguments of f, which are not differentiated by.

    Returns:
        True.

    Raises:
        AssertionError: A derivative is wrong, or there is none, as at a kink, at a jump or at the end of the domain. It
            names the function, the derivative, its value both ways with the tolerance, and the arguments.
        ValueError: order is no positive integer, or there is nothing to differentiate.

    Source:
        Ridders, Accurate computation of F'(x) and F'(x) F''(x), 1982, after Richardson, 1911.

    Example:
        >>> gradcheck(lambda x: x * abs(x), -2.0)
        True
        >>> gradcheck(abs, 0.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: gradcheck(abs): d abs(...) / d args[0] is 0.0 by the rules, but there is a kink: -1 on the ...
    """
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"gradcheck's order is a positive integer, not {order!r}")
    title = f"gradcheck({_name(f)})"
    call = _Call(title, f, args, kwargs)
    point = [x.data for x in call.variables]
    inputs = list(trees.locations(args, "args"))
    outputs = list(trees.locations(call.result, f"{_name(f)}(...)"))
    if not call.outputs or not inputs:
        raise ValueError(f"{title}: nothing to differentiate in {_shown(args)} -> {_shown(call.result)}")

    def flat(numbers: Any) -> Any:
        return trees.entries(f(*trees.shaped(args, numbers), **kwargs))

    rng = rng or random.Random(0)
    quantity: VectorFunction = flat
    evaluate: VectorFunction = functools.partial(_value, flat)
    for _ in range(order):
        slopes = jacobian(quantity)
        names = [[f"d {y} / d {x}" for x in inputs] for y in outputs]
        call = _Call(title, quantity, (point,), {})
        sizes = _sizes(call)
        fault = _wrong_slope(evaluate, point, slopes(point), sizes, names, inputs) or _wrong_sweep(call, sizes, rng)
        if fault:
            raise AssertionError(f"{title}: {fault}; args = {_shown(trees.shaped(args, point))}")
        outputs = [f"({name})" for row in names for name in row]
        quantity = evaluate = functools.partial(_flattened, slopes)
    return True


def _wrong_slope(
    evaluate: VectorFunction, point: Vector, analytic: Matrix, sizes: Matrix, names: list[list[str]], inputs: list[str]
) -> str:
    """A message about a derivative that finite differences contradict; "" if they agree."""
    centre = evaluate(point)
    for j, x in enumerate(point):
        at = functools.partial(_moved, evaluate, point, j)
        slopes, usual = [row[j] for row in analytic], [row[j] for row in sizes]
        steps = _steps(at, x, LEVELS)
        if len(steps) < COLUMNS:
            return f"{inputs[j]} cannot be moved from {x!r} to both sides, as at the end of the domain"
        faults = _faults(slopes, usual, centre, steps)
        closer = _faults(slopes, usual, centre, _steps(at, x, 4 * LEVELS)) if faults else {}  # with more steps
        for i in sorted(faults.keys() & closer.keys()):
            return f"{names[i][j]} is {slopes[i]!r} by the rules, {faults[i]}"
    return ""


def _wrong_sweep(call: _Call, sizes: Matrix, rng: random.Random) -> str:
    """A message if u . (J t), by forward accumulation, is not (u J) . t, by reverse, for random t and u; else ""."""
    t, u = [rng.gauss(0.0, 1.0) for _ in call.variables], [rng.gauss(0.0, 1.0) for _ in call.outputs]
    forward = math.fsum(a * b for a, b in zip(u, call.push(t, graph=False)))
    reverse = math.fsum(a * b for a, b in zip(call.pull(u, graph=False), t))
    size = math.fsum(abs(a * entry * b) for a, row in zip(u, sizes) for entry, b in zip(row, t))
    if abs(forward - reverse) <= ROUNDING * size + LEAST:
        return ""
    return f"{forward!r} by forward accumulation is not {reverse!r} by reverse, for tangent {t} and cotangent {u}"


def _sizes(call: _Call) -> Matrix:
    """The derivatives with every partial replaced by its absolute value: a bound for the effect of rounding."""
    columns = []
    for x in call.variables:
        known = {x: 1.0}
        for node, operands, partials in call.tape(graph=False):
            terms = [abs(p) * known[operand] for operand, p in zip(operands, partials) if p and operand in known]
            if terms:
                known[node] = sum(terms)
        columns.append([known.get(y, 0.0) for y in call.outputs])
    return [list(row) for row in zip(*columns)]


def _faults(slopes: Vector, usual: Vector, centre: Vector, steps: list[TwoSided]) -> dict[int, str]:
    """The outputs whose derivative finite differences contradict, with a message.

    Where an output does not change at the smallest steps, it may be flat there, or the steps may be lost to rounding
    inside f. The two cannot be told apart, so it is enough to agree with the larger steps alone.
    """
    faults = {}
    for i, (slope, size, here) in enumerate(zip(slopes, usual, centre)):
        moving = max((k for k, step in enumerate(steps, 1) if not step.right[i] == step.left[i] == here), default=0)
        lengths = [len(steps), moving] if COLUMNS <= moving < len(steps) else [len(steps)]
        found = [_fault(slope, size, _estimate(i, here, steps[:length])) for length in lengths]
        if all(found):
            faults[i] = found[0]
    return faults


def _fault(slope: float, usual: float, estimate: Estimate) -> str:
    """A message if a derivative disagrees with its estimate; "" if not."""
    numeric, jump = estimate.slope.value, estimate.jump.value
    if not math.isfinite(slope + usual):
        return "which is no finite derivative"
    rounding = ROUNDING * usual + LEAST
    error = SAFETY * estimate.slope.error + rounding
    if abs(jump) > SAFETY * estimate.jump.error + 1e-6 * max(abs(numeric), abs(slope)) + rounding:
        return f"but there is a kink: {numeric - jump / 2.0:.6g} on the left, {numeric + jump / 2.0:.6g} on the right"
    if not error <= 0.1 * max(abs(numeric), usual, estimate.size) + 2.0 * LEAST:
        return f"but finite differences do not settle ({numeric:.6g} ± {error:.1g}), as at a jump, a pole or in noise"
    return "" if abs(slope - numeric) <= error else f"but {numeric!r} ± {error:.1g} by finite differences"


def _moved(evaluate: VectorFunction, point: Vector, j: int, x: float) -> Vector:
    """The values where point[j] is x; OverflowError where they are not finite."""
    values: Vector = evaluate([*point[:j], x, *point[j + 1 :]])
    if not all(map(math.isfinite, [x, *values])):
        raise OverflowError
    return values


def _steps(at: Callable[[float], Vector], x: float, levels: int) -> list[TwoSided]:
    """The function's values at steps that halve, from a quarter of x's size, or less if that leaves the domain."""
    steps: list[TwoSided] = []
    size = 2.0 ** (math.frexp(max(abs(x), 1.0))[1] - 3)
    while len(steps) < levels and size > 16.0 * math.ulp(x):
        try:
            steps.append(TwoSided(size, (x + size) - (x - size), at(x + size), at(x - size)))
            size /= 2.0
        except (ArithmeticError, ValueError):
            steps.clear()
            size /= 4.0
    return steps


def _estimate(i: int, here: float, steps: list[TwoSided]) -> Estimate:
    """The derivative of output i, from its values at the steps."""
    sizes = [step.size for step in steps]
    rounding = [2.0**-53 * max(abs(step.right[i]), abs(step.left[i])) for step in steps]
    slopes = [(step.right[i] - step.left[i]) / step.width for step in steps]
    jumps = [((step.right[i] - here) + (step.left[i] - here)) / step.size for step in steps]
    size = max(abs(here), abs(steps[0].right[i]), abs(steps[0].left[i])) / (4.0 * steps[0].size)
    return Estimate(_limit(sizes, slopes, 2, rounding), _limit(sizes, jumps, 1, rounding), size)


def _limit(sizes: Vector, series: Vector, power: int, rounding: Vector) -> Limit:
    """The limit of c + c1 h**power + c2 h**(power + 2) + ... for h -> 0, from its values at steps h that halve.

    Richardson extrapolation; returns the entry with the smallest error. An entry's error is its distance from its
    neighbours in the table, plus the effect of noise in f, which is estimated from the spread of the same column at
    smaller steps and at the three before.
    """
    table: list[Vector] = []
    entries = []
    for k, first in enumerate(series):
        table.append([first])
        for j in range(1, min(k, COLUMNS) + 1):
            before, older = table[k][j - 1], table[k - 1][j - 1]
            value = before + (before - older) / (2.0 ** (power + 2 * j - 2) - 1.0)
            table[k].append(value)
            error = max(abs(value - before), abs(value - older)) + 4.0 * rounding[k] / sizes[k]
            entries.append((error, k, j, value))
    best = Limit(math.nan, math.inf)
    for error, k, j, value in sorted(entries):
        if error < best.error:
            noise = max(abs(table[i][j] - value) * sizes[i] for i in range(max(j, k - 3), len(series)))
            best = min(best, Limit(value, error + 4.0 * noise / sizes[k]), key=lambda limit: limit.error)
    return best


def _value(f: VectorFunction, numbers: Vector) -> Vector:
    """f's value at numbers, computed on Values, since f may use methods that floats lack."""
    value: Vector = vjp(f, numbers)[0]
    return value


def _flattened(slopes: VectorFunction, numbers: Any) -> Any:
    return [slope for row in slopes(numbers) for slope in row]


def _shown(x: Any) -> str:
    shortened = reprlib.Repr()
    shortened.maxother = 300
    return shortened.repr(x)

"""The error of a result, and the inputs that it depends on most: `rounding_error`, `sensitivities`, `propagate`.

All three are the chain rule: an error of e in a node changes the output by its adjoint times e, to first order.

>>> x = Value(1e-9, "x")
>>> rounding_error((1.0 + x) - 1.0)
value 1e-09, of which rounding may have changed 8.3e-17 (7.1 digits are right)
node         value  contribution  share  here
v1 = 1 + x       1       8.3e-17   100%
v2 = v1 - 1  1e-09             0     0%  9 digits cancel
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from micrograd_bp._engine import trees
from micrograd_bp._engine.labels import Listing, check_value
from micrograd_bp._engine.signatures import P
from micrograd_bp._engine.sweeps import adjoints
from micrograd_bp.ops import Op, chain
from micrograd_bp.transforms import _Call, _finished, _holds_value, _name
from micrograd_bp.value import Value

# The error of an op's value in units in the last place, as the tests of the table bound it: 4.0, except for these two
# functions of the standard library; for the ops of UNITS_OF_ONE in units of max(|value|, 1).
UNITS = {"gamma": 10.0, "lgamma": 30.0}
UNITS_OF_ONE = {"gelu", "lgamma", "logaddexp", "silu"}
TYPICAL = 12.0**-0.5  # the standard deviation of one rounding, in units in the last place
CANCELS = 3.0  # a step that loses at least so many digits is listed as a cancellation
SLACK = 1.0 + 2.0**-20  # for the rounding of the bound itself, and for the terms of second order in the errors


# --- rounding -----------------------------------------------------------------------------------------------------


class Contribution(NamedTuple):
    """How much the rounding of one node can change the output."""

    node: Value
    name: str  # v7
    expression: str  # a - b
    bound: float  # |adjoint * local error|, in the units of the output
    share: float  # of the bound of the whole
    lost: float  # decimal digits that this step loses: log10 of how many times it magnifies relative errors


@dataclass(frozen=True, repr=False)
class RoundingError:
    """The effect of rounding on a number, to first order, and the operations that it comes from."""

    value: float
    bound: float  # the error is at most this
    estimate: float  # the likely size of the error
    rows: list[Contribution]  # one for each operation, the largest contribution first
    cancellations: list[
        Contribution
    ]  # those steps that lose digits, and whose errors reach the output; the worst first

    @property
    def digits(self) -> float:
        """How many decimal digits of the value are right, by the bound; inf where nothing was rounded."""
        if not self.bound:
            return math.inf
        return max(0.0, math.log10(abs(self.value) / self.bound)) if self.value else 0.0

    def __str__(self) -> str:
        digits = "all digits are" if self.digits == math.inf else f"{self.digits:.1f} digits are"
        lines = [f"value {self.value:.6g}, of which rounding may have changed {self.bound:.2g} ({digits} right)"]
        cells = [("node", "value", "contribution", "share", "here")]
        for row in self.rows[:20]:
            lost = f"{row.lost:.0f} digits cancel" if row in self.cancellations else ""
            text = f"{row.name} = {row.expression}"
            cells.append((text, f"{row.node.data:.6g}", f"{row.bound:.2g}", f"{100.0 * row.share:.0f}%", lost))
        widths = [max(len(row[k]) for row in cells) for k in range(4)]
        for first, *numbers, last in cells:
            right = "  ".join(f"{x:>{width}}" for x, width in zip(numbers, widths[1:]))
            lines.append(f"{first:<{widths[0]}}  {right}  {last}".rstrip())
        if len(self.rows) > 20:
            lines.append(f"... {len(self.rows) - 20:,} more nodes contribute less")
        return "\n".join(lines)

    __repr__ = __str__


def rounding_error(output: Value) -> RoundingError:
    """The error that rounding has caused in a number, at most and probably, and the operations that caused it.

    The numbers in the leaves are taken as exact. The operations +, -, *, /, whole powers, and a user's ops made of them
    are repeated on fractions, so that their rounding errors are known; any other is assumed to be right to 4 units in
    the last place, which the tests of the table make sure of. `bound` sums |adjoint * error| over the nodes (Iri,
    Simultaneous computation of functions, partial derivatives and estimates of rounding errors, 1984); `estimate` sums
    the known errors with their signs (Langlois, Automatic linear correction of rounding errors, 2001) and adds the
    others as independent ones. An error that crosses a jump (of floor, of a comparison) is not of first order.

    Args:
        output: The number in question, a Value.

    Returns:
        A table that prints itself, the largest contributions first, with `.bound`, `.estimate`, `.digits`, `.rows` and
        `.cancellations`: the steps at which digits are lost. No grad is read or changed.

    Raises:
        ValueError: The output depends on a result of `checkpoint` or `remat`, whose operations are not recorded.

    Example:
        >>> a, b, c = Value(1.0, "a"), Value(200.0, "b"), Value(0.015, "c")
        >>> root = (-b + (b * b - 4.0 * a * c).sqrt()) / (2.0 * a)       # of a x**2 + b x + c
        >>> found = rounding_error(root)
        >>> found.cancellations[0].expression, round(found.cancellations[0].lost, 1)
        ('v1 + v6', 6.1)
        >>> stable = 2.0 * c / (-b - (b * b - 4.0 * a * c).sqrt())
        >>> found.digits < 11 < 15 < rounding_error(stable).digits
        True
    """
    check_value(output, "rounding_error")
    listing = Listing(output)
    for node in listing.interior:
        if getattr(node.op, "recorded", None) is not None:
            name = node.op.name if node.op is not None else ""
            raise ValueError(
                f"rounding_error: how {name} rounds is not recorded; call its function without checkpoint or remat"
            )
    slopes = adjoints(output, listing.nodes)
    local = {node: _local_error(node, node.op) for node in listing.interior if node.op is not None}
    bounds = {node: abs(chain(slopes[node], size)) for node, (_, size) in local.items()}
    bound = math.fsum(bounds.values()) if all(map(math.isfinite, bounds.values())) else math.nan
    known = math.fsum(chain(slopes[node], error) for node, (error, _) in local.items() if error is not None)
    others = [chain(slopes[node], math.ulp(node.data)) for node, (error, size) in local.items() if error is None]
    estimate = math.hypot(known, TYPICAL * math.hypot(*others)) if bound == bound else math.nan
    lost = _lost_digits(listing, {node: size for node, (_, size) in local.items()})
    rows = [
        Contribution(node, listing.names[node], listing.expression(node), x, x / bound if bound else 0.0, lost[node][0])
        for node, x in bounds.items()
    ]
    rows.sort(key=lambda row: -row.bound)
    reaching = [row for row in rows if row.lost >= CANCELS and abs(slopes[row.node]) * lost[row.node][1] > 0.01 * bound]
    reaching.sort(key=lambda row: -row.lost)
    return RoundingError(output.data, SLACK * bound, estimate, rows, reaching)


def _local_error(node: Value, op: Op) -> tuple[float | None, float]:
    """The rounding error of a node's own operation (None if unknown), and a bound of its size."""
    numbers = [x.data if isinstance(x, Value) else x for x in node.operands]
    out = node.data
    if op.smooth and all(map(math.isfinite, (out, *numbers))):
        try:
            exact: Any = op.forward(*map(Fraction, numbers))
        except Exception:  # whatever a function for floats may raise
            exact = None
        if isinstance(exact, Fraction):
            error = float(Fraction(out) - exact)
            return error, abs(error)
    elif abs(out) in (0.0, 1.0, *map(abs, numbers)) or out % 1.0 == 0.0:  # a chosen operand, or a whole number
        return 0.0, 0.0
    return None, UNITS.get(op.name, 4.0) * math.ulp(max(abs(out), 1.0) if op.name in UNITS_OF_ONE else out)


def _lost_digits(listing: Listing, local: dict[Value, float]) -> dict[Value, tuple[float, float]]:
    """How many digits each step loses: its error, with those of its operands passed on, found in one walk."""
    total: dict[Value, float] = {}
    found = {}
    for node in listing.interior:
        carried = [
            (abs(chain(partial, total[x])), total[x] / abs(x.data) if x.data else 0.0)
            for x, partial in zip(node.operands, node.partials)
            if isinstance(x, Value) and total.get(x)
        ]
        inherited = math.fsum(error for error, _ in carried)
        total[node] = inherited + local[node]
        before = max((relative for _, relative in carried), default=0.0)
        worse = inherited / abs(node.data) / before if node.data and before else 0.0
        found[node] = math.log10(worse) if worse > 1.0 else 0.0, total[node]
    return found


# --- sensitivities ------------------------------------------------------------------------------------------------


class Sensitivity(NamedTuple):
    """How an output depends on a leaf, to first order."""

    node: Value
    name: str
    value: float
    derivative: float
    elasticity: float  # by how many per cent the output grows where the leaf grows by one


class Sensitivities(list[Sensitivity]):
    """The leaves of a graph, the most influential first; its text is a table."""

    def __str__(self) -> str:
        cells = [("", "value", "derivative", "elasticity")]
        cells += [(x.name, f"{x.value:.6g}", f"{x.derivative:.6g}", f"{x.elasticity:+.3g}") for x in self]
        widths = [max(len(row[k]) for row in cells) for k in range(4)]
        return "\n".join(
            "  ".join([f"{row[0]:<{widths[0]}}", *[f"{row[k]:>{widths[k]}}" for k in (1, 2, 3)]]).rstrip()
            for row in cells
        )

    __repr__ = __str__


def sensitivities(output: Value) -> Sensitivities:
    """The influence of each leaf on a result: the leaves by elasticity, x / y * dy/dx, the largest first.

    An elasticity of -2 means that the output falls by two per cent where the leaf grows by one. Where the output is 0
    it is infinite, or nan for a leaf that does not matter. No grad is read or changed.

    Args:
        output: The result in question, a Value.

    Returns:
        A list of rows (node, name, value, derivative, elasticity), which prints itself as a table.

    Example:
        >>> radius, height = Value(2.0, "radius"), Value(5.0, "height")
        >>> sensitivities(3.14 * radius**2 * height)
                value  derivative  elasticity
        radius      2        62.8          +2
        height      5       12.56          +1
    """
    check_value(output, "sensitivities")
    listing = Listing(output)
    slopes = adjoints(output, listing.nodes)
    found = []
    for leaf in listing.leaves:
        change = chain(leaf.data, slopes[leaf])
        elasticity = change / output.data if output.data else math.copysign(math.inf, change) if change else math.nan
        found.append(Sensitivity(leaf, listing.names[leaf], leaf.data, slopes[leaf], elasticity))
    return Sensitivities(
        sorted(found, key=lambda row: -abs(row.elasticity) if row.elasticity == row.elasticity else 1.0)
    )


# --- uncertain inputs ---------------------------------------------------------------------------------------------


class Propagated(NamedTuple):
    """The value of a function of uncertain numbers and its covariance, to first order."""

    value: Any  # as the function gives it
    covariance: Any  # of one number its variance; of m numbers m rows of m


def propagate(f: Callable[P, Any], x: Any, covariance: Any) -> Propagated:
    """The value of f for uncertain numbers x, and its covariance J C J', to first order.

    The law of propagation of uncertainty (Guide to the Expression of Uncertainty in Measurement, JCGM 100:2008, 5.2).

    Args:
        f: A function of one argument.
        x: The argument, the best estimates: a number, an array, or lists, tuples and dicts of them; n numbers in all.
        covariance: Of these, in their order: n rows of n numbers, a list or an array. Of one number, its variance.

    Returns:
        The value, and its covariance: of one number the variance, of m numbers m rows of m (an array where a NumPy
        array is among f's results). The standard uncertainty is its square root. Values where a Value is among the
        arguments, to be differentiated.

    Raises:
        ValueError: The covariance is not n rows of n numbers, or not symmetric, or has a negative variance.

    Example:
        >>> resistance = lambda p: p["volt"] / p["ampere"]
        >>> value, variance = propagate(resistance, {"volt": 10.0, "ampere": 2.0}, [[0.01, 0.001], [0.001, 0.0004]])
        >>> value, round(variance**0.5, 6)
        (5.0, 0.05)
    """
    title = f"propagate({_name(f)})"
    call = _Call(title, f, (x,), {})
    n = len(call.variables)
    given = covariance.tolist() if trees.is_array(covariance) else covariance
    rows = (
        [[given]]
        if not isinstance(given, (list, tuple))
        else [list(row) if isinstance(row, (list, tuple)) else [row] for row in given]
    )
    if [len(row) for row in rows] != [n] * n:
        raise ValueError(f"{title}: the covariance of {n} numbers is {n} rows of {n}, not {covariance!r}")
    entries = call.numbers((entry for row in rows for entry in row), rows, "covariance")
    c = [entries[i * n : (i + 1) * n] for i in range(n)]
    for i in range(n):
        if not c[i][i] >= 0.0:
            raise ValueError(f"{title}: covariance[{i}][{i}] is a variance, 0 or more, not {c[i][i]!r}")
        for j in range(i):
            if abs(c[i][j] - c[j][i]) > 1e-9 * (c[i][i] * c[j][j]) ** 0.5:
                raise ValueError(f"{title}: covariance[{i}][{j}] is {c[i][j]!r}, and covariance[{j}][{i}] {c[j][i]!r}")
    graph = call.graph = call.graph or _holds_value(rows)
    jacobian = call.rows()
    spread = [[_dot(row, column) for column in c] for row in jacobian]
    found = [_finished([_dot(row, other) for other in jacobian], graph) for row in spread]
    if isinstance(call.result, trees.CONTAINERS) or trees.is_array(call.result):
        whole: Any = found
        if any(map(trees.is_array, trees.leaves(call.result))):
            whole = trees.array([entry for row in found for entry in row], (len(found), len(found)))
        return Propagated(call.value(), whole)
    return Propagated(call.value(), found[0][0])


def _dot(x: Sequence[Any], y: Sequence[Any]) -> Any:
    return sum((chain(a, b) for a, b in zip(x, y)), start=0.0)

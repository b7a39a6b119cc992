"""What a function did with Values while it was recorded: guards, caught exceptions, reads without a guard."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from micrograd_bp.compiler.surroundings import difference, drawing, numpy_state, settled, snapshot
from micrograd_bp.ops import MAX, TABLE, Op, abs, copysign, floor, less, less_equal
from micrograd_bp.value import Value

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that held or did not when the function was recorded, and the line that asked."""

    condition: Value
    truth: bool
    line: str


class Recording:
    """A function being recorded in this thread; see `micrograd_bp.compiler.tracing` for who calls its methods."""

    def __init__(self) -> None:
        self.nodes: list[Value] = []  # in the order of creation
        self.guards: list[Guard] = []
        self.failed: list[Value] = []  # stand for operations that raised; see `raised`
        self.changes = False  # it changes its arguments or what it finds elsewhere
        self.unfaithful = ""  # what cannot be recorded, and the line that did it
        self.uncompilable = False  # an exception was caught that no guard can stand for
        self._thread = threading.get_ident()
        self._ids: set[int] = set()  # of the first nodes, so many
        self._counted = 0
        self._lock = threading.RLock()  # other threads' work on this recording's Values
        self._roots: list[Any] = []  # where to look for what the function changes

    def is_own(self) -> bool:
        """Whether the function is being recorded in this thread."""
        return threading.get_ident() == self._thread

    # --- what the engines tell --------------------------------------------------------------------------------------

    def note(self, node: Value) -> None:
        """A node was made: by this thread, or of nodes of this recording."""
        if self.is_own() or any(self.owns(x) for x in node.operands):
            self.nodes.append(node)

    def read(self, how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> None:
        """A comparison or a rounding of the operands gave this result."""
        if self._concerned(operands):
            line = source_line()
            with self._lock:
                found = conditions(how, operands, result)
                self.guards += [Guard(condition, truth, line) for condition, truth in found]

    def raised(self, how: Any, operands: tuple[Any, ...], error: Exception) -> None:
        """An operation or a reading raised; if the function returns all the same, it caught the exception."""
        if not self._concerned(operands):
            return
        line = source_line()
        with self._lock:
            known = isinstance(how, Op) and TABLE.get(how.name) is how
            if known and how.name in DIVISORS and isinstance(error, ZeroDivisionError):
                divisor = operands[DIVISORS[how.name]]
                if isinstance(divisor, Value):
                    self.guards.append(Guard(_equal(divisor, 0.0), True, line))
            elif known and how.arity == 1 and exceptions(how) == {type(error)}:
                node = Value(math.nan)
                node._set_op(how, operands)
                self.failed.append(node)
                self.guards.append(Guard(less_equal(abs(node), MAX), False, line))
            else:
                self.uncompilable = True

    def noticed(self, what: str, node: Value) -> None:
        """Something was read that no guard can stand for."""
        if not self.unfaithful and self._concerned((node,)) and not (what == "hash()" and _is_internal()):
            self.unfaithful = f"{what} of a Value is read at {source_line()}"

    # --- what is made of it -----------------------------------------------------------------------------------------

    def owns(self, node: Any) -> bool:
        """Whether the node was made while this recording lasted."""
        nodes = self.nodes
        while self._counted < len(nodes):
            self._ids.add(id(nodes[self._counted]))
            self._counted += 1
        return id(node) in self._ids

    @contextmanager
    def looking(self, roots: list[Any]) -> Iterator[None]:
        """See whether the function, which runs meanwhile, changes what it finds from the roots, or draws numbers."""
        self._roots = roots
        before, numpy = snapshot(roots), numpy_state()
        profiled = sys.getprofile() is None
        if profiled:
            sys.setprofile(self._profile)
        try:
            yield
        finally:
            if profiled:
                sys.setprofile(None)
            if numpy is not None and numpy != numpy_state():
                self.unfaithful = self.unfaithful or "random numbers are drawn in it"
            found = difference(before, snapshot(roots))
            self.changes = bool(found) and "random" not in found
            self.unfaithful = self.unfaithful or found

    def _profile(self, frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and drawing(function):
            self.unfaithful = self.unfaithful or "random numbers are drawn in it"

    def settle(self) -> None:
        """Put numbers where the function has left Values of this recording."""
        settled(self._roots, self.owns)

    def checks(self, needed: Iterator[Value]) -> list[Value]:
        """The nodes that are not needed, but whose operation may raise: a row for which it does must be found out."""
        known = {id(x) for x in needed} | {id(x) for x in self.failed}
        return [x for x in self.nodes if x.op is not None and id(x) not in known and exceptions(x.op)]

    def _concerned(self, operands: Sequence[Any]) -> bool:
        return self.is_own() or any(isinstance(x, Value) and self.owns(x) for x in operands)


def source_line() -> str:
    """The line of the user's that is being run."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_internal() -> bool:
    """Whether the node is hashed by a walk of this package."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in ("noticed", "_hash"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(PACKAGE)


# --- guards -------------------------------------------------------------------------------------------------------

# These raise where the divisor is 0 only, and give inf where they overflow: which operand it is.
DIVISORS = {"truediv": 1, "floordiv": 1, "mod": 1, "reciprocal": 0}
AWKWARD = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, -1.5, 171.7, 710.5, 1e308, -1e308, MAX, -MAX)


@functools.cache
def exceptions(op: Op) -> frozenset[type[Exception]]:
    """The exceptions that an operation raises on finite numbers, found by trying."""
    found = set()
    count = len(op.domain) if op.arity is None else op.arity
    if op.arity is None or count > 3:
        return frozenset((ValueError, OverflowError))  # take it that it may raise
    for point in itertools.product(AWKWARD, repeat=count):
        try:
            op.forward(*point)
        except Exception as error:
            found.add(type(error))
    return frozenset(found)


def conditions(how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> list[tuple[Value, bool]]:
    """Under which conditions a reading gives this result again; where that is hard to say, for the same numbers."""
    x = operands[0]
    if how in COMPARISONS:
        return COMPARISONS[how](x, operands[1], bool(result))
    if how is bool:
        return [(x, bool(result))]
    if how in BOUNDS and operands[1:] in ((), (None,)) and math.fabs(result) < 2**51:
        low, high, low_belongs, high_belongs = BOUNDS[how](result)
        inside = ((less_equal if low_belongs else less)(low, x), (less_equal if high_belongs else less)(x, high))
        return [(condition, True) for condition in inside]
    if how in (math.isnan, math.isinf, math.isfinite) and math.isfinite(x._data):
        return [(less_equal(abs(x), MAX), True)]
    if how is float.is_integer:
        return [(_equal(floor(x), x), bool(result))]
    return [same for x in operands if isinstance(x, Value) for same in _same(x)]


def _equal(x: Any, y: Any) -> Value:
    """1 where two numbers are equal."""
    both: Value = less_equal(x, y) * less_equal(y, x)
    return both


def _same(x: Value) -> list[tuple[Value, bool]]:
    """That a node has the number that it has now, sign of zero and all."""
    found = [(_equal(x, x._data), True)]
    if x._data == 0.0:
        found.append((less(copysign(1.0, x), 0.0), math.copysign(1.0, x._data) < 0.0))
    return found


def _bracketed(y: Any) -> tuple[float, float]:
    """The largest float up to a number and the smallest from it on: an int or a fraction may lie between floats."""
    if isinstance(y, (Value, float)):
        return y, y  # type: ignore[return-value]
    exact = Fraction(y) if isinstance(y, (int, Fraction, Decimal)) else y
    try:
        near = float(y)
    except OverflowError:
        near = math.inf if y > 0 else -math.inf
    if exact == near or near != near:
        return near, near
    return (near, math.nextafter(near, math.inf)) if near < exact else (math.nextafter(near, -math.inf), near)


def _comparison(strict: Any, lower: bool) -> Callable[[Any, Any, bool], list[tuple[Value, bool]]]:
    """The guards of x < y and the like."""

    def found(x: Any, y: Any, truth: bool) -> list[tuple[Value, bool]]:
        below, above = _bracketed(y)
        row = strict if below is above or below == above else less_equal
        return [(row(x, below) if lower else row(above, x), truth)]

    return found


def _equality(equal: bool) -> Callable[[Any, Any, bool], list[tuple[Value, bool]]]:
    def found(x: Any, y: Any, truth: bool) -> list[tuple[Value, bool]]:
        if isinstance(y, complex):
            y = y.real if y.imag == 0.0 else math.nan
        below, above = _bracketed(y)
        if below is not above and below != above and below == below:
            return []  # no float is equal to it
        return [(_equal(x, below), truth == equal)]

    return found


COMPARISONS: dict[Any, Callable[[Any, Any, bool], list[tuple[Value, bool]]]] = {
    operator.lt: _comparison(less, True),
    operator.le: _comparison(less_equal, True),
    operator.gt: _comparison(less, False),
    operator.ge: _comparison(less_equal, False),
    operator.eq: _equality(True),
    operator.ne: _equality(False),
}


def _cut(k: int) -> tuple[float, float, bool, bool]:
    """Between which numbers all are cut to k, and whether these belong."""
    return (k if k > 0 else k - 1, k if k < 0 else k + 1, k > 0, k < 0)


BOUNDS: dict[Any, Callable[[int], tuple[float, float, bool, bool]]] = {
    int: _cut,
    math.trunc: _cut,
    math.floor: lambda k: (k, k + 1, True, False),
    math.ceil: lambda k: (k - 1, k, False, True),
    round: lambda k: (k - 0.5, k + 0.5, k % 2 == 0, k % 2 == 0),  # half goes to even
}

"""The recording of one call of a function for `jit`: its nodes, guards, caught exceptions, reads without a guard."""

from __future__ import annotations

import functools
import itertools
import math
import operator
import os
import sys
import threading
import types
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from micrograd_bp._engine import trees
from micrograd_bp._engine.engine import closed, deafen, listening
from micrograd_bp.compiler.surroundings import OUTSIDE, difference, numpy_state, outside, settled, snapshot
from micrograd_bp.ops import MAX, TABLE, Op, abs, copysign, floor, less, less_equal, net_input
from micrograd_bp.value import Value, topological_order

R = TypeVar("R")
MANY, READ = 4_000, 8  # nodes that are counted exactly; nodes that take as long as noting a read
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition on Values, whether it was true when the function was recorded, and the source line that read it."""

    condition: Value
    truth: bool
    line: str


class Recording:
    """The recording of a function in this thread; `micrograd_bp.compiler.tracing` says when its methods are called."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit  # of nodes: a longer recording becomes no path, so nothing else is checked
        self.nodes: list[Value] = []  # in the order of creation
        self._guards: list[Guard] = []
        self._reads: list[tuple[int, int, Any, tuple[Any, ...], Any, tuple[str, int]]] = []  # they become guards
        self.failed: list[Value] = []  # nodes that stand for operations that raised; see `raised`
        self.changes = False  # the function has side effects: it changes its arguments or other objects
        self.unfaithful = ""  # why the function cannot be recorded, and the source line
        self.uncompilable = False  # the function caught an exception that cannot become a guard
        self._thread = threading.get_ident()
        self._ids: set[int] = set()  # ids of the first nodes
        self._counted = 0
        self._size = self._sized = 0  # `size` of the first nodes, and how many these are
        self._lock = threading.RLock()  # other threads may work on this recording's Values
        self._roots: list[Any] = []  # the objects from which side effects are searched for

    def is_own(self) -> bool:
        """Whether the function is being recorded in this thread."""
        return threading.get_ident() == self._thread

    # --- what the engines tell --------------------------------------------------------------------------------------

    def note(self, node: Value) -> None:
        """Called when a node is made by this thread, or from nodes of this recording."""
        if self.is_own() or any(self.owns(x) for x in node.operands):
            self.nodes.append(node)

    def read(self, how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> None:
        """Called when a comparison, bool, int or rounding reads Values; `jit` records a guard."""
        if self._concerned(operands):
            line = source_place()
            with self._lock:
                self._reads.append((len(self.nodes), len(self._guards), how, operands, result, line))
                if self.limit is not None and READ * len(self._reads) > self.limit:
                    deafen()

    def raised(self, how: Any, operands: tuple[Any, ...], error: Exception) -> None:
        """Called when an operation or a read raises; if the function returns nevertheless, it caught the exception."""
        if not self._concerned(operands):
            return
        line = source_line()
        with self._lock:
            known = isinstance(how, Op) and TABLE.get(how.name) is how
            if known and how.name in DIVISORS and isinstance(error, ZeroDivisionError):
                divisor = operands[DIVISORS[how.name]]
                if isinstance(divisor, Value):
                    self._guards.append(Guard(_equal(divisor, 0.0), True, line))
            elif known and how.arity == 1 and exceptions(how) == {type(error)}:
                node = Value(math.nan)
                node._set_op(how, operands)
                self.failed.append(node)
                self._guards.append(Guard(less_equal(abs(node), MAX), False, line))
            else:
                self.uncompilable = True

    def noticed(self, what: str, node: Value) -> None:
        """Called when something is read that cannot become a guard, such as `.data`."""
        if not self.unfaithful and not (what == "hash()" and _is_internal()) and self._concerned((node,)):
            self.unfaithful = f"{what} of a Value is read at {source_line()}"

    def is_closed(self) -> bool:
        """Whether all nodes are computed from this recording's own leaves, by ops of the table with fixed rules."""
        whole, ops, _ = closed(self.nodes, [])
        return whole and all(TABLE.get(op.name) is op for op in ops)

    def exceeds(self, count: int) -> bool:
        """Whether the size is larger than that."""
        return len(self.nodes) > count or self.size > count

    @property
    def size(self) -> int:
        """The number of nodes, with a net input counted as its products and sums; approximate if there are many."""
        if self._sized < MANY:
            for node in self.nodes[self._sized : MANY]:
                self._size += len(node.operands) - 1 if node.op is net_input else 1
                self._sized += 1
        return self._size + len(self.nodes) - self._sized + READ * len(self._reads)

    @property
    def guards(self) -> list[Guard]:
        """The reads as conditions, whose nodes are inserted among the nodes where the function made the reads."""
        with self._lock:
            reads, self._reads = self._reads, []
            if not reads:
                return self._guards
            known, nodes, made = self._guards, self.nodes[:], []
            guards: list[Guard] = []
            at = given = 0
            for position, before, how, operands, result, line in reads:
                start = len(self.nodes)
                found = conditions(how, operands, result)
                made += nodes[at:position]
                made += self.nodes[start:]
                guards += known[given:before]
                guards += [Guard(condition, truth, "{}:{}".format(*line)) for condition, truth in found]
                at, given = position, before
            self.nodes[:] = made + nodes[at:]
            self._guards = guards + known[given:]
            self._ids, self._counted, self._size, self._sized = set(), 0, 0, 0
            return self._guards

    # --- what is made of it -----------------------------------------------------------------------------------------

    def owns(self, node: Any) -> bool:
        """Whether the node was made during this recording."""
        nodes = self.nodes
        while self._counted < len(nodes):
            self._ids.add(id(nodes[self._counted]))
            self._counted += 1
        if id(node) in self._ids:
            return True
        if self.limit is None or len(nodes) <= self.limit or not isinstance(node, Value):
            return False
        # Beyond the limit leaves are kept, and few others: those that depend on a leaf of this recording are its own.
        return any(x.op is None and id(x) in self._ids for x in topological_order(node))

    def owners(self, tree: Any, known: Sequence[Value]) -> Callable[[Any], bool] | None:
        """`owns`, for the Values in a tree only; some are known to be this recording's own.

        None: these may depend on nodes that are not.
        """
        leaves = trees.leaves(tree)
        values = [x for leaf in leaves for x in (trees.elements(leaf) if trees.is_array(leaf) else (leaf,))]
        mine = {*map(id, known)}
        values = [x for x in values if isinstance(x, Value) and id(x) not in mine]
        whole, _, found = closed(self.nodes, values)
        mine.update(id(x) for x, own in zip(values, found) if own)
        return (lambda node: id(node) in mine) if whole else None

    @contextmanager
    def looking(self, roots: list[Any]) -> Iterator[None]:
        """A context that detects changes of what the roots reach, and random numbers drawn, while the function runs."""
        before = self._begun(roots)
        profiled = sys.getprofile() is None
        try:
            if profiled:
                listening(self._called, OUTSIDE)
            yield
        finally:
            if profiled:
                sys.setprofile(None)
            self._compared(roots, *before)

    def looked(self, roots: list[Any], f: Callable[..., R], *args: Any) -> R:
        """Call f, looking: an interrupt at the start of a context manager's `__exit__` would leave the profiler on."""
        before = self._begun(roots)
        profiled = sys.getprofile() is None
        try:
            if profiled:
                listening(self._called, OUTSIDE)
            return f(*args)
        finally:
            if profiled:
                sys.setprofile(None)
            self._compared(roots, *before)

    def _begun(self, roots: list[Any]) -> tuple[Any, Any]:
        self._roots = roots
        return snapshot(roots), numpy_state()

    def _compared(self, roots: list[Any], before: Any, numpy: Any) -> None:
        """What has changed since it began."""
        if numpy != (now := numpy_state()):
            if numpy is None:  # NumPy was imported meanwhile: the next recording tells
                self.uncompilable = True
            elif now is not None:
                self.unfaithful = self.unfaithful or "random numbers are drawn in it"
        found = difference(before, snapshot(roots))
        self.changes = bool(found) and "random" not in found
        self.unfaithful = self.unfaithful or found

    def _called(self, function: Any) -> None:
        if self.limit is not None and self.exceeds(self.limit):
            listening(None)
        elif (what := outside(function, _caller().f_globals.get("__name__", ""))) and not _is_importing():
            self.unfaithful = self.unfaithful or f"{what} at {source_line()}"

    def settle(self) -> None:
        """Replace Values of this recording that the function has stored elsewhere by their numbers."""
        settled(self._roots, self.owns)

    def checks(self, needed: Container[Value]) -> list[Value]:
        """The nodes that no output needs, but whose operation may raise: rows for which it does must be noticed."""
        failed = {id(x) for x in self.failed}
        return [
            x for x in self.nodes if x.op is not None and x not in needed and id(x) not in failed and exceptions(x.op)
        ]

    def _concerned(self, operands: Sequence[Any]) -> bool:
        return self.is_own() or any(isinstance(x, Value) and self.owns(x) for x in operands)


def source_line() -> str:
    """The line of the user's code that is running, for messages."""
    return "{}:{}".format(*source_place())


def source_place() -> tuple[str, int]:
    """The file and line number of the user's code that is running."""
    frame = _caller()
    return frame.f_code.co_filename, frame.f_lineno


def _caller() -> types.FrameType:
    """The innermost running frame that is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return frame


def _is_importing() -> bool:
    """Whether the recorded function is importing a module, which happens once: SciPy's draw random numbers then."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):  # who listens
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):  # which called the recorded function
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _is_internal() -> bool:
    """Whether code of this package, not the user's, is hashing the node."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in ("noticed", "_hash"):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(PACKAGE)


# --- guards -------------------------------------------------------------------------------------------------------

# These raise only where this operand, the divisor, is 0; where they overflow they give inf.
DIVISORS = {"truediv": 1, "floordiv": 1, "mod": 1, "reciprocal": 0}
AWKWARD = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, -1.5, 171.7, 710.5, 1e308, -1e308, MAX, -MAX, math.inf)


@functools.cache
def exceptions(op: Op) -> frozenset[type[Exception]]:
    """The types of exception that an op can raise, found by trials, in which arguments are inf too."""
    found = set()
    count = len(op.domain) if op.arity is None else op.arity
    if op.arity is None or count > 3:
        return frozenset((ValueError, OverflowError))  # assume that it may raise
    for point in itertools.product(AWKWARD, repeat=count):
        try:
            op.forward(*point)
        except Exception as error:
            found.add(type(error))
    return frozenset(found)


def conditions(how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> list[tuple[Value, bool]]:
    """Guards under which a read gives the same result: the weakest if they are known, else that operands are equal."""
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
    """A node that is 1 where two numbers are equal, else 0."""
    both: Value = less_equal(x, y) * less_equal(y, x)
    return both


def _same(x: Value) -> list[tuple[Value, bool]]:
    """Guards that a node has the number that it has now, the sign of zero included."""
    found = [(_equal(x, x._data), True)]
    if x._data == 0.0:
        found.append((less(copysign(1.0, x), 0.0), math.copysign(1.0, x._data) < 0.0))
    return found


def _bracketed(y: Any) -> tuple[float, float]:
    """The largest float <= x and the smallest >= x; an int or a Fraction may lie between two floats."""
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
    """The guards of a comparison, such as x < y."""

    def found(x: Any, y: Any, truth: bool) -> list[tuple[Value, bool]]:
        below, above = _bracketed(y)
        op = strict if below is above or below == above else less_equal
        return [(op(x, below) if lower else op(above, x), truth)]

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
    """The interval of the numbers that int or trunc maps to k, and whether its ends belong to it."""
    return (k if k > 0 else k - 1, k if k < 0 else k + 1, k > 0, k < 0)


BOUNDS: dict[Any, Callable[[int], tuple[float, float, bool, bool]]] = {
    int: _cut,
    math.trunc: _cut,
    math.floor: lambda k: (k, k + 1, True, False),
    math.ceil: lambda k: (k - 1, k, False, True),
    round: lambda k: (k - 0.5, k + 0.5, k % 2 == 0, k % 2 == 0),  # half goes to even
}

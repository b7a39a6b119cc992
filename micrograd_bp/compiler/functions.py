"""Functions recorded at their first call, compiled, and replayed: each row of a batch along its own path.

What a function reads off a Value while it is recorded (a comparison, `bool`, `int`, a rounding) becomes a guard of the
path that it took. A row whose guards fail takes another path: one recorded before, or one that is recorded now.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, overload

from micrograd_bp import _trees
from micrograd_bp.compiler.kernels import Kernel
from micrograd_bp.compiler.machine import host
from micrograd_bp.compiler.native import Native
from micrograd_bp.compiler.program import Program, flatten, lower, replay
from micrograd_bp.ops import MAX, READERS, less, less_equal, number
from micrograd_bp.source import python_source
from micrograd_bp.transforms import recording
from micrograd_bp.value import Value

if TYPE_CHECKING:
    import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@overload
def jit(function: F, *, exact: bool = ..., paths: int = ...) -> F: ...
@overload
def jit(function: None = ..., *, exact: bool = ..., paths: int = ...) -> Callable[[F], F]: ...
def jit(function: Any = None, *, exact: bool = False, paths: int = 16) -> Any:
    """The same function, recorded at its first call and compiled: floats in, floats out; arrays element by element.

    Arguments are numbers, NumPy arrays (which are broadcast against each other, an element of each for one row of
    work), and lists, tuples and dicts of them; anything else, a string say, is taken as it is and must be hashable.
    With a Value among the arguments the function itself runs, so that derivatives go through it. Leaves that it finds
    elsewhere, the parameters of a model, are read at each call; plain numbers that it finds elsewhere, and numbers
    taken from `.data`, stay what they were at recording: `constants` lists them. exact: every number is the eager
    engine's to the last bit. paths: how many branches through the function are compiled; beyond, rows run eagerly,
    and a warning names the line that splits. Errors are the function's own.

    >>> import micrograd_bp as mg
    >>> f = mg.jit(lambda x, y: x * y if x > 0.0 else x / y)
    >>> f(3.0, 2.0), f(-3.0, 2.0)
    (6.0, -1.5)
    >>> mg.jit(mg.grad(f))(3.0, 2.0)
    2.0
    """
    if function is None:
        return functools.partial(jit, exact=exact, paths=paths)
    if not callable(function):
        raise TypeError(f"jit takes a function, not {function!r}; a recorded graph is compiled by kernel()")
    return Compiled(function, exact, paths)


@dataclass(slots=True)
class Path:
    """One way through a function: its program, whose last outputs are the guards, and what it makes of the others."""

    program: Program
    leaves: list[Value]  # what it reads beside its arguments
    result: Result
    expected: list[bool]  # of each guard
    lines: list[str]  # where each guard was read
    exact: bool
    rows: int = 0  # that took this path
    gradient: Kernel | None = None  # of the last output, where it is wanted
    native: Native | None = None
    replayed: Callable[..., tuple[float, ...]] | None = None

    def parameters(self) -> list[float]:
        return [x.data for x in self.leaves]

    def compile(self) -> None:
        """Machine code, or Python where llvmlite is missing."""
        machine = host()
        if machine is None:
            self.replayed = self.source().function()
            return
        program = lower(self.program, machine.native, self.exact)
        count = len(program.outputs) - len(self.expected)
        guards = list(zip(program.outputs[count:], self.expected))
        known = {i: bool(x) for i, x in program.constants.items()}
        guards = [(i, truth) for i, truth in guards if known.get(i) != truth]
        self.native = Native(program, program.outputs[:count], [], guards, self.exact)

    def source(self) -> Any:
        """The path as Python: its outputs, then its guards."""
        nodes = replay(self.program, self.result.point, [x.data for x in self.leaves])
        values = [x if isinstance(x, Value) else Value(x) for x in (nodes[i] for i in self.program.outputs)]
        leaves = [nodes[i] for i in (*self.program.inputs, *self.program.parameters)]
        return python_source(values, leaves)

    def point(self, data: Sequence[float]) -> tuple[list[float], int]:
        """The outputs for one row, and its status: 0 done, 1 another path, 2 not finite."""
        if self.native is not None:
            return self.native.point(data, self.parameters())
        assert self.replayed is not None
        try:
            results = self.replayed(*data, *self.parameters())
        except (ArithmeticError, ValueError):
            return [], 1
        count = len(results) - len(self.expected)
        if any(bool(x) != truth for x, truth in zip(results[count:], self.expected)):
            return [], 1
        return list(results[:count]), 0 if all(map(math.isfinite, results[:count])) else 2


@dataclass(slots=True)
class Result:
    """What a function returned: its entries in order, and how to build the like of it around other numbers."""

    skeleton: Any  # lists, tuples and dicts with a Leaf at each leaf
    leaves: list[Any]  # a number's type, an array's shape, or what is no number
    entries: list[Any]
    point: list[float]  # the arguments that it was recorded at
    build: Callable[[list[Any]], Any] | None = None

    @classmethod
    def of(cls, result: Any, point: list[float]) -> Result:
        leaves: list[Any] = []
        entries: list[Any] = []
        for leaf in _trees.leaves(result):
            if _trees.is_array(leaf):
                leaves.append(leaf.shape)
                entries += _trees.elements(leaf)
            elif isinstance(leaf, (Value, Real)):
                leaves.append(type(leaf) if isinstance(leaf, int) else float)
                entries.append(leaf)
            else:
                leaves.append((leaf,))
        skeleton = _trees.rebuilt(result, iter([None] * len(leaves)))
        return cls(skeleton, leaves, entries, point)

    def alike(self, other: Result) -> bool:
        """Whether the two are built alike, up to the kinds of their numbers."""
        kinds = [[float if isinstance(leaf, type) else leaf for leaf in x.leaves] for x in (self, other)]
        return bool(self.skeleton == other.skeleton and kinds[0] == kinds[1])

    def rebuilt(self, numbers: list[Any]) -> Any:
        """The like of it around the numbers of one row."""
        if self.build is None:
            self.build = _builder(self.skeleton, iter(self.leaves), [0])
        return self.build(numbers)

    def batched(self, numbers: np.ndarray[Any, Any], shape: tuple[int, ...], kinds: list[Any]) -> Any:
        """The like of it around arrays: `numbers` has a row for each entry, a column for each row of the batch."""

        def arrays() -> Iterator[Any]:
            start = 0
            for leaf, kind in zip(self.leaves, kinds, strict=True):
                if isinstance(leaf, type):
                    array = numbers[start].reshape(shape)
                    yield array if kind is float else array.astype(kind)
                    start += 1
                elif _is_shape(leaf):
                    stop = start + math.prod(leaf)
                    yield numbers[start:stop].T.reshape(*shape, *leaf)
                    start = stop
                else:
                    yield leaf[0]

        return _trees.rebuilt(self.skeleton, arrays())


def _builder(skeleton: Any, leaves: Iterator[Any], start: list[int]) -> Callable[[list[Any]], Any]:
    """A function that puts numbers, from the place start[0] on, around a skeleton; start is moved on."""
    first = start[0]
    if skeleton is None:
        leaf = next(leaves)
        if isinstance(leaf, type):
            start[0] += 1
            return (lambda numbers: numbers[first]) if leaf is float else lambda numbers: leaf(numbers[first])
        if _is_shape(leaf):
            start[0] = stop = first + math.prod(leaf)
            return lambda numbers: _trees.array(numbers[first:stop], leaf)
        return lambda numbers: leaf[0]
    kind = type(skeleton)
    children = list(skeleton.values() if isinstance(skeleton, dict) else skeleton)
    if kind in (list, tuple) and not any(child is not None for child in children):
        kinds = [next(leaves) for _ in children]
        if all(leaf is float for leaf in kinds):
            start[0] = stop = first + len(kinds)
            return lambda numbers: kind(numbers[first:stop])
        leaves = iter(kinds)
    if kind in (list, tuple, dict):
        parts = [_builder(child, leaves, start) for child in children]
        if kind is dict:
            return lambda numbers: {name: part(numbers) for name, part in zip(skeleton, parts)}
        return lambda numbers: kind([part(numbers) for part in parts])
    parts = [_builder(None, leaves, start) for _ in _trees.leaves(skeleton)]
    return lambda numbers: _trees.rebuilt(skeleton, (part(numbers) for part in parts))


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, tuple) and all(isinstance(size, int) for size in leaf)


@dataclass(slots=True)
class Signature:
    """Calls whose arguments are built alike: the paths that they have taken."""

    tree: Any  # the arguments, with a Place for each number
    labels: list[str]
    paths: list[Path] = field(default_factory=list)
    eager: int = 0  # rows

    def arguments(self, numbers: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = _trees.rebuilt(self.tree, (x.fill(numbers) for x in _trees.leaves(self.tree)))
        return args, kwargs


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf of the arguments: the position of its number, or what stands there in every call."""

    position: int
    fixed: Any = None

    def fill(self, numbers: Sequence[Any]) -> Any:
        return self.fixed if self.position < 0 else numbers[self.position]


class Batch:
    """The results of a batch as they come together: `out` has a row for each entry, a column for each row."""

    def __init__(self, function: Any, n: int) -> None:
        import numpy as np

        self.function, self.n = function, n
        self.results: list[Result] = []
        self.out: Any = None
        self.taken = np.full(n, -1)  # the number of the path that a row took; -1: it was run eagerly

    def add(self, result: Result) -> None:
        """Some rows have a result that is built like this one; TypeError: others have not."""
        if not self.results:
            import numpy as np

            self.out = np.empty((len(result.entries), self.n))
        elif not self.results[0].alike(result):
            raise TypeError(f"{self.function!r} returns differently built results for rows of a batch; call it by rows")
        self.results.append(result)


def _attribute(x: Any, name: str) -> Any:
    return getattr(x, name, None)


class Compiled:
    """A function that is recorded and compiled as it is called; see `jit`."""

    def __init__(self, function: Callable[..., Any], exact: bool, limit: int) -> None:
        self.function, self.exact, self.limit = function, exact, limit
        self._signatures: dict[Any, Signature] = {}
        self._floats: dict[int, Signature] = {}  # of calls with so many floats, found without looking any further
        self._recording = threading.RLock()
        self._warned = False
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<jit of {getattr(self.function, '__qualname__', repr(self.function))}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        name, module = getattr(self, "__qualname__", ""), getattr(self, "__module__", "")
        named: Any = functools.reduce(_attribute, name.split("."), sys.modules.get(module))
        if named is self and module != "__main__":
            return str(name)  # decorated: pickled by name, as functions are
        return jit_of, (self.function, self.exact, self.limit)  # its graphs are recorded again where it is read

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            for x in args:
                if type(x) is not float:
                    break
            else:
                signature = self._floats.get(len(args))
                if signature is not None:
                    return self._point(signature, args)
        numbers: list[Any] = []
        others: list[Any] = []  # Values and arrays
        key = scan((args, kwargs), numbers, others)
        if any(isinstance(x, Value) for x in others):
            return self.function(*args, **kwargs)
        signature = self.signature(args, kwargs, key, len(numbers))
        return self._batch(signature, numbers, others) if others else self._point(signature, numbers)

    # --- to look at -------------------------------------------------------------------------------------------------

    @property
    def stats(self) -> dict[str, Any]:
        """Counts: paths compiled and rows that took each, rows run eagerly, nodes recorded and compiled."""
        signatures = list(self._signatures.values())
        paths = [path for signature in signatures for path in signature.paths]
        return {
            "paths": len(paths),
            "rows": [path.rows for path in paths],
            "eager": sum(signature.eager for signature in signatures),
            "recorded": [path.program.count for path in paths],
            "compiled": [path.program.count if path.native is None else path.native.count for path in paths],
        }

    @property
    def constants(self) -> list[float]:
        """The plain numbers that are part of the recorded programs."""
        paths = [path for signature in self._signatures.values() for path in signature.paths]
        return list(dict.fromkeys(x for path in paths for x in path.program.constants.values()))

    def source(self, language: str = "python") -> str:
        """All paths recorded so far, as text: "python" or "llvm"."""
        if language not in ("python", "llvm"):
            raise ValueError(f'source is "python" or "llvm", not {language!r}')
        paths = [path for signature in self._signatures.values() for path in signature.paths]
        if language == "python":
            return "\n\n\n".join(str(path.source()) for path in paths)
        return "\n\n".join(path.native.text for path in paths if path.native is not None)

    # --- calls ------------------------------------------------------------------------------------------------------

    def signature(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: Any, count: int) -> Signature:
        """What is known of calls whose arguments are built like these."""
        try:
            signature = self._signatures.get(key)
        except TypeError:
            fixed = next(
                x for x in _trees.leaves((args, kwargs)) if type(x).__hash__ is None and not _trees.is_array(x)
            )
            kind = f"{fixed!r} ({type(fixed).__name__})"
            raise TypeError(
                f"{self!r} takes numbers, arrays, and lists, tuples and dicts of them, not {kind}"
            ) from None
        if signature is None:
            positions = iter(range(count))
            leaves = _trees.leaves((args, kwargs))
            places = [Place(next(positions)) if _is_number(leaf) else Place(-1, leaf) for leaf in leaves]
            tree = _trees.rebuilt((args, kwargs), iter(places))
            signature = self._signatures.setdefault(key, Signature(tree, self._labels(args, count)))
            if count == len(args) and not kwargs and all(map(_is_number, args)):
                self._floats.setdefault(len(args), signature)
        return signature

    def _labels(self, args: tuple[Any, ...], count: int) -> list[str]:
        """The names of the arguments, where each is one number: errors name them."""
        try:
            names = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            names = []
        plain = count == len(args) <= len(names)
        return names[:count] if plain else [""] * count

    def _point(self, signature: Signature, numbers: Sequence[float]) -> Any:
        """One call on numbers."""
        for path in signature.paths:
            results, status = path.point(numbers)
            if status == 0:
                path.rows += 1
                return path.result.rebuilt(results)
            if status == 2:
                break
        else:
            with self._recording:
                known = len(signature.paths)
                if known < self.limit:
                    result, recorded = self._record(signature, numbers)
                    if recorded is not None:
                        recorded.rows += 1
                    return result.rebuilt([x.data if isinstance(x, Value) else x for x in result.entries])
                self._warn(signature)
        signature.eager += 1
        result = self._eager(signature, numbers)
        return result.rebuilt(result.entries)

    def _batch(self, signature: Signature, given: list[Any], arrays: list[Any]) -> Any:
        """One call on arrays, element by element."""
        import numpy as np

        for x in arrays:
            if x.dtype.kind not in "fiub":
                raise TypeError(f"{self!r} takes arrays of real numbers, not of {x.dtype}")
        try:
            shape = np.broadcast_shapes(*(x.shape for x in arrays))
        except ValueError:
            shapes = ", ".join(str(x.shape) for x in arrays)
            raise ValueError(f"{self!r}: arrays of shapes {shapes} cannot be broadcast against each other") from None
        full: list[Any] = [np.broadcast_to(np.asarray(x, float), shape) if np.ndim(x) else np.float64(x) for x in given]
        columns: list[Any] = [x.ravel() if x.ndim else x for x in full]
        n = math.prod(shape)
        if not n:
            if not signature.paths:
                self._record(signature, [0.0 if x.ndim else float(x) for x in columns])
            result = signature.paths[0].result
            return result.batched(np.empty((len(result.entries), 0)), shape, _kinds([result]))
        batch = self.rows(signature, columns, n)
        return batch.results[0].batched(batch.out, shape, _kinds(batch.results))

    def rows(self, signature: Signature, columns: list[Any], n: int) -> Batch:
        """Every row along its path; a column is an array, or a number for all rows."""
        import numpy as np

        def row(i: int) -> list[float]:
            return [float(x[i]) if x.ndim else float(x) for x in columns]

        batch = Batch(self, n)
        unfinished: list[int] = []

        def run(path: Path, pending: Any) -> Any:
            """Rows along a path; those that need another one."""
            batch.add(path.result)
            part = columns if len(pending) == n else [x[pending] if x.ndim else x for x in columns]
            target = batch.out if len(pending) == n else np.empty((len(batch.out), len(pending)))
            odd, status = _run(path, part, len(pending), target)
            if len(pending) < n:
                batch.out[:, pending] = target
            odd, status = np.asarray(odd, int), np.asarray(status)
            batch.taken[pending] = signature.paths.index(path)
            batch.taken[pending[odd]] = -1
            path.rows += len(pending) - len(odd)
            unfinished.extend(pending[odd[status == 2]].tolist())
            return pending[odd[status == 1]]

        pending: Any = np.arange(n)
        for path in sorted(signature.paths, key=lambda path: -path.rows):
            if len(pending):
                pending = run(path, pending)
        while len(pending):
            with self._recording:
                if len(signature.paths) >= self.limit:
                    self._warn(signature)
                    unfinished += pending.tolist()
                    break
                i, rest = int(pending[0]), pending[1:]
                result, new = self._record(signature, row(i))
            batch.add(result)
            batch.out[:, i] = [x.data if isinstance(x, Value) else x for x in result.entries]
            pending = rest
            if new is not None:
                new.rows += 1
                batch.taken[i] = signature.paths.index(new)
                if len(rest):
                    pending = run(new, rest)
        for i in sorted(unfinished):
            result = self._eager(signature, row(i))
            batch.add(result)
            batch.out[:, i] = result.entries
            signature.eager += 1
        return batch

    # --- recording --------------------------------------------------------------------------------------------------

    def _record(self, signature: Signature, numbers: Sequence[float]) -> tuple[Result, Path | None]:
        """Record the function at these numbers; the path is compiled and kept, unless its own guards shut it out."""
        point = [float(x) for x in numbers]
        inputs = [Value(x, label) for x, label in zip(point, signature.labels, strict=True)]
        args, kwargs = signature.arguments(inputs)
        guards: list[tuple[Value, bool, str]] = []
        with _watched(guards), recording():
            result = Result.of(self.function(*args, **kwargs), point)
        entries = [x if isinstance(x, Value) else number(x, "a jitted function's result") for x in result.entries]
        program, leaves = flatten([*entries, *(condition for condition, _, _ in guards)], inputs)
        result = Result(result.skeleton, result.leaves, [getattr(x, "data", x) for x in entries], point)
        expected, lines = [truth for _, truth, _ in guards], [line for _, _, line in guards]
        path = Path(program, leaves, result, expected, lines, self.exact)
        path.compile()
        if path.point(point)[1] == 1:  # a guard that reads nan, say: no row would ever take it
            return result, None
        signature.paths.append(path)
        return result, path

    def _eager(self, signature: Signature, numbers: Sequence[float]) -> Result:
        """The function's own answer for these numbers."""
        inputs = [Value(x, label) for x, label in zip(numbers, signature.labels, strict=True)]
        args, kwargs = signature.arguments(inputs)
        with recording():
            result = Result.of(self.function(*args, **kwargs), list(numbers))
        result.entries = [getattr(x, "data", x) for x in result.entries]
        return result

    def _warn(self, signature: Signature) -> None:
        """Say once that there are too many paths, and where they part."""
        if self._warned:
            return
        self._warned = True
        last, other = signature.paths[-1], signature.paths[-2 if len(signature.paths) > 1 else -1]
        parted = [k for k, pair in enumerate(zip(last.expected, other.expected)) if pair[0] != pair[1]]
        k = parted[0] if parted else min(len(last.lines), len(other.lines)) - 1
        where = last.lines[k] if last.lines else "a place unknown"
        warnings.warn(
            f"{self!r}: more than {self.limit} paths; further ones run eagerly. They part at {where}; "
            "write that with where(), maximum() or another row, or raise jit(paths=...)",
            RuntimeWarning,
            stacklevel=4,
        )


def jit_of(function: Callable[..., Any], exact: bool, limit: int) -> Compiled:
    """A compiled function as it was before its first call."""
    return Compiled(function, exact, limit)


def _is_number(leaf: Any) -> bool:
    return _trees.is_array(leaf) or (isinstance(leaf, Real) and not isinstance(leaf, bool))


def scan(tree: Any, numbers: list[Any], others: list[Any]) -> Any:
    """How arguments are built, as a key; their numbers and arrays are collected, and Values and arrays once more."""
    kind = type(tree)
    if kind is float:
        numbers.append(tree)
        return float
    if isinstance(tree, (list, tuple)):
        if all(type(x) is float for x in tree):
            numbers += tree
            return kind, len(tree)
        return (kind, *[scan(x, numbers, others) for x in tree])
    if isinstance(tree, dict):
        return (kind, *[(name, scan(x, numbers, others)) for name, x in tree.items()])
    if _trees.is_array(tree) or isinstance(tree, Value):
        others.append(tree)
        numbers.append(tree)
        return float
    if _is_number(tree):
        numbers.append(float(tree))
        return float
    return "fixed", kind, tree


def _kinds(results: list[Result]) -> list[Any]:
    """The type of each leaf's numbers over all rows: float unless all agree."""
    return [kinds.pop() if len(kinds := set(leaves)) == 1 else float for leaves in zip(*(x.leaves for x in results))]


def _run(path: Path, columns: list[Any], n: int, out: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The rows along a path, into `out`; the odd ones and their statuses."""
    if path.native is not None:
        places = []
        for x in columns:
            interface = x.__array_interface__
            places.append((interface["data"][0], x.strides[0] if x.ndim else 0))
        return path.native.rows(places, n, path.parameters(), out, columns)
    odd, statuses = [], []
    for i in range(n):
        results, status = path.point([float(x[i]) if x.ndim else float(x) for x in columns])
        if status:
            odd.append(i)
            statuses.append(status)
        else:
            out[:, i] = results
    return odd, statuses


@contextmanager
def _watched(guards: list[tuple[Value, bool, str]]) -> Iterator[None]:
    """While it lasts, what this thread reads off Values is written down: conditions, their truths, and where."""
    thread = threading.get_ident()

    def reader(how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> None:
        if threading.get_ident() == thread:
            where = _source_line()
            guards.extend((condition, truth, where) for condition, truth in _conditions(how, operands, result))

    READERS.append(reader)
    try:
        yield
    finally:
        READERS.remove(reader)


def _source_line() -> str:
    """The line of the user's that is being run."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _conditions(how: Callable[..., Any], operands: tuple[Any, ...], result: Any) -> list[tuple[Value, bool]]:
    """Under which conditions a reading gives this result again; where that is hard to say, for the same numbers."""
    x = operands[0]
    if how in COMPARISONS:
        return [(COMPARISONS[how](*operands), bool(result))]
    if how is bool:
        return [(x, bool(result))]
    if how in BOUNDS and operands[1:] in ((), (None,)) and abs(result) < 2**51:
        low, high, low_belongs, high_belongs = BOUNDS[how](result)
        inside = ((less_equal if low_belongs else less)(low, x), (less_equal if high_belongs else less)(x, high))
        return [(condition, True) for condition in inside]
    if how in (math.isnan, math.isinf, math.isfinite) and math.isfinite(x.data):
        return [(less_equal(abs(x), MAX), True)]
    values = [x for x in operands if isinstance(x, Value)]
    return [(row, True) for x in values for row in (less_equal(x, x.data), less_equal(x.data, x))]


COMPARISONS: dict[Any, Callable[..., Value]] = {
    operator.lt: less,
    operator.le: less_equal,
    operator.gt: lambda x, y: less(y, x),
    operator.ge: lambda x, y: less_equal(y, x),
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

"""`jit`: record a function when it is called, compile the recording, and run that from then on.

A recording is one path through the function. What the function reads off a Value meanwhile (a comparison, `bool`, or
`int`, a rounding) becomes a guard of the path, and so does an exception that it caught. Arguments for which a guard
fails take another path, recorded before or now; in a batch, each row takes its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import itertools
import math
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, overload

from micrograd_bp._engine import trees
from micrograd_bp._engine.signatures import P, R
from micrograd_bp.compiler.arguments import Copies, Scan, filled, written_back
from micrograd_bp.compiler.guarded import GuardedProgram, Slopes, run_rows
from micrograd_bp.compiler.locks import Lock
from micrograd_bp.compiler.program import FlatProgram, flatten, flatten_recording
from micrograd_bp.compiler.recording import PACKAGE, Recording, exceptions
from micrograd_bp.compiler.results import Constant, Result, is_opaque, kind_of, parts
from micrograd_bp.compiler.surroundings import Surroundings, leaf_places, settled
from micrograd_bp.compiler.tracing import watched
from micrograd_bp.transforms import Vmap, inside, recording
from micrograd_bp.value import Value, engine_name, topological_order

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Jitted

    class Decorator(Protocol):
        """What `jit` with options only returns: a decorator that takes the function."""

        def __call__(self, function: Callable[P, R], /) -> Jitted[P, R]: ...


# A program of more than HEAVY nodes is compiled once PAYS rows of data have found no path, so that all compiling costs
# at most what they did: it takes 0.1 ms a node, eager work 0.06 us, or 1 us on the pure engine; the smallest programs
# take 0.1 s whatever they are. Finding arrays takes 3 us a node, so that is tried after SOME rows.
HEAVY = 2_000
PAYS, SOME = (1_500, 50) if engine_name() == "accelerated" else (100, 10)
# A result that depends on other Values is a node with these as operands. While one is attached (0.2 us, or 1 us on the
# pure engine), LINK operations are computed eagerly: a heavy path with fewer of them for each is never compiled.
LINK = 50 if engine_name() == "accelerated" else 3
ODD = 8  # recordings for rows that pass a path's guards but give a number that is not finite, at most
LARGE = 100_000  # a call with more numbers is not recorded: its program would be as long


@overload
def jit(function: Callable[P, R], *, exact: bool = ..., paths: int = ...) -> Jitted[P, R]: ...
@overload
def jit(function: None = ..., *, exact: bool = ..., paths: int = ...) -> Decorator: ...
def jit(function: Any = None, *, exact: bool = False, paths: int = 16) -> Any:
    """The same function, recorded and compiled: it returns what the function returns for these arguments.

    The floats among the arguments, in arrays, lists, tuples, dicts, dataclasses too, are Values while it is recorded;
    an array argument is the whole array, of Values. Everything else (ints, bools, strings, other objects) arrives as
    it is and belongs to the path: for another int, another program is recorded. `jit(vmap(f))` is f over a batch: each
    row takes its own path, in vector lanes and threads.

    What the function reads off a Value (a comparison, a rounding) and an exception that it catches are guards of the
    path that it took. What cannot be recorded (a read of `.data`, random numbers, a result that is no number, list,
    tuple, dict or array of them) makes the function run eagerly, after one warning that names the line. Values that it
    finds elsewhere, the parameters of a model, are read at each call, and a result that depends on them is a Value, as
    the function's own is. With a Value among the arguments, and inside a function that is being differentiated, the
    function itself runs. Plain numbers, texts and functions that it finds elsewhere belong to the path as ints do (up
    to 1,000 of them, and arrays of up to 128 KB): where one is another, another program is recorded.

    Args:
        function: The function; without it, `jit(exact=True)` is a decorator.
        exact: Whether every number is the eager engine's to the last bit; the guards always are.
        paths: How many programs are compiled; beyond, calls run eagerly, and a warning says so.

    Returns:
        A function of the same arguments. Its `stats`, `constants` and `source()` tell what was recorded.

    Raises:
        TypeError: function is no function. When it is called: whatever the function itself raises.

    Example:
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
    if hasattr(function, "entries"):  # a sparse derivative
        return CompiledEntries(function.entries, exact, paths)
    return Compiled(function, exact, paths)


# --- calls --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Signature:
    """The state for all calls whose arguments differ only in their floats: the paths that they have taken."""

    labels: list[str]
    found: Any = None  # the key of what the function finds elsewhere; see `Surroundings`
    paths: list[GuardedProgram] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)  # arguments that are compared by identity
    eager: int = 0  # rows
    odd: int = 0  # recordings of rows that passed a path's guards but were not finite
    used: int = 0  # rows that found no path, of a heavy program since the last was compiled
    heavy: bool = False  # see HEAVY
    irregular: bool = False  # no arrays were found in a heavy path
    dear: bool = False  # the results of a heavy path have so many operands that calls are faster eagerly
    faithful: bool = True  # a recording stands for what the function does
    changes: bool = False  # it has side effects, or returns objects: it is called with the original arguments
    linked: bool | None = None  # whether results depend on Values besides the arguments; None: unknown yet


class UnlikeError(Exception):
    """The rows of a batch have given results of different structure."""


class Batch:
    """The results of a batch while they are collected: `out` has a row per entry and a column per row of data."""

    def __init__(self, function: Any, n: int) -> None:
        import numpy as np

        self.function, self.n = function, n
        self.results: list[Result] = []
        self.out: Any = None
        self.taken = np.full(n, -1, np.int32)  # for each row the index of its path; -1: it was run eagerly
        self.result = np.zeros(n, np.int32)  # for each row the index of its result

    def add(self, result: Result, rows: Any, numbers: Any = None) -> None:
        """Set the result of some rows, with these numbers; UnlikeError if its structure differs from the others'."""
        if not self.results:
            import numpy as np

            entries, constants = result.rows()
            self.out = np.empty((len(entries) + len(constants), self.n))
        elif not self.results[0].alike(result):
            raise UnlikeError
        if not any(x is result for x in self.results):
            self.results.append(result)
        if len(self.results) > 1:
            self.result[rows] = next(k for k, x in enumerate(self.results) if x is result)
        entries, constants = result.rows()
        if numbers is not None and numbers is not self.out:
            for row, x in zip(entries, numbers):
                self.out[row, rows] = x
        for row, constant in constants.items():
            self.out[row, rows] = constant

    def target(self, result: Result, count: int) -> Any:
        """An array for the numbers of `count` rows: `out` itself if these are all rows."""
        import numpy as np

        entries, constants = result.rows()
        if self.out is not None and count == self.n and not constants:
            return self.out
        return np.empty((len(entries), count))

    def whole(self) -> Any:
        """The result of the batch: the structure of one row's, with arrays whose first axis is the batch's."""
        import numpy as np

        first, start, arrays = self.results[0], 0, []
        for k, leaf in enumerate(first.leaves):
            leaves = [x.leaves[k] for x in self.results]
            shape = leaf if isinstance(leaf, tuple) else ()
            stop = start + (math.prod(shape) if isinstance(leaf, tuple) else int(kind_of(leaf) is float))
            if all(isinstance(x, Constant) for x in leaves):
                arrays.append(self._constants([x.value for x in leaves]))
            else:
                if any(isinstance(x, Constant) and not -(2**63) <= x.value < 2**63 for x in leaves):
                    raise UnlikeError  # an int that an array of floats would round or could not hold
                block = self.out[start:stop]
                arrays.append(block[0] if not shape else np.ascontiguousarray(block.T).reshape(self.n, *shape))
            start = stop
        return trees.rebuilt(first.skeleton, iter(arrays))

    def _constants(self, values: list[Any]) -> Any:
        """A constant leaf, for all rows: an array if it is a number."""
        import numpy as np

        if all(isinstance(x, (bool, np.bool_)) for x in values):
            return np.array(values)[self.result]
        if all(isinstance(x, (int, np.integer)) for x in values):
            small = all(-(2**63) <= x < 2**63 for x in values)
            return np.array(values, np.int64 if small else object)[self.result]
        if all(x == values[0] for x in values):
            return values[0]
        raise TypeError(
            f"{self.function!r} returns {values[0]!r} and {values[1]!r} for rows of a batch; call it by rows"
        )


def _attribute(x: Any, name: str) -> Any:
    return getattr(x, name, None)


class Compiled:
    """A function that is recorded and compiled as it is called; see `jit`."""

    def __init__(self, function: Callable[..., Any], exact: bool, limit: int) -> None:
        self.function, self.exact, self.limit = function, exact, limit
        self._plain = function.function if isinstance(function, Vmap) else function  # what is recorded
        self._signatures: dict[Any, Signature] = {}
        self._floats: dict[int, Signature] = {}  # signatures of calls with n floats and nothing else, by n
        self._shapes: dict[tuple[int, ...], Signature] = {}  # and of calls with one array of floats
        self._found: Surroundings | None = None  # the numbers that the function finds elsewhere, on which these depend
        self._finds = True  # whether there can be any
        self._compiling = Lock()  # held by the thread that records and compiles
        self._warned: set[str] = set()
        self.pays = PAYS
        self.single = True  # a call computes one row, unless it is a batch's
        self.trained = False  # see GuardedProgram
        self.quiet = False  # nothing is warned of
        functools.update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"<jit of {getattr(self.function, '__qualname__', repr(self.function))}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        name, module = getattr(self, "__qualname__", ""), getattr(self, "__module__", "")
        named: Any = functools.reduce(_attribute, name.split("."), sys.modules.get(module))
        if named is self and module != "__main__":
            return str(name)  # a decorated function is pickled by name
        return jit_of, (self.function, self.exact, self.limit)  # it is recorded again after unpickling

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if inside():  # this call is in a function that is being differentiated, or recorded by another jit
            return self.function(*args, **kwargs)
        if self._finds and (self._found is None or not self._found.is_current()):
            self.look()
        if not kwargs:
            for x in args:
                if type(x) is not float:
                    break
            else:
                signature = self._floats.get(len(args))
                if signature is not None:
                    return self._point(signature, args, args, kwargs)
            if len(args) == 1 and self._shapes and _is_vector(args[0]):
                signature = self._shapes.get(args[0].shape)
                for path in self.current(signature) if signature is not None else ():
                    if path.vector:
                        results, status = path.point(args[0].ravel())
                        if status == 0:
                            path.rows += 1
                            return path.result.rebuilt(results)
        if isinstance(self.function, Vmap):
            try:
                return self._over(args, kwargs)
            except UnlikeError:  # a row gives an int and another a float, say: vmap knows what can be made of them
                return self.function(*args, **kwargs)
        scan = Scan()
        try:
            key = scan.key((args, kwargs))
        except RecursionError:  # a linked list of tuples, say
            return self.function(*args, **kwargs)
        if scan.values or scan.used_up:
            if scan.used_up:
                self.warn("an iterator is among its arguments; it runs eagerly, not compiled")
            return self.function(*args, **kwargs)
        signature = self.signature(key, args, kwargs, scan)
        if signature is None:
            return self._eager(None, scan.numbers, args, kwargs)
        return self._point(signature, scan.numbers, args, kwargs)

    # --- to look at -------------------------------------------------------------------------------------------------

    @property
    def _paths(self) -> list[GuardedProgram]:
        return [path for signature in list(self._signatures.values()) for path in signature.paths]

    @property
    def stats(self) -> dict[str, Any]:
        """Counts: paths compiled and rows that took each, rows run eagerly, nodes recorded and compiled."""
        paths = self._paths
        return {
            "paths": len(paths),
            "rows": [path.rows for path in paths],
            "eager": sum(signature.eager for signature in list(self._signatures.values())),
            "recorded": [(path.whole or path.forward).count for path in paths],
            "compiled": [path.program.count if path.native is None else path.native.count for path in paths],
        }

    @property
    def constants(self) -> list[float]:
        """The plain numbers that are part of the recorded programs."""
        return list(dict.fromkeys(x for path in self._paths for x in path.program.constants.values()))

    @property
    def leaves(self) -> list[list[Value]]:
        """The Values that each path reads besides its arguments, in the order of `w` in its text."""
        return [list(path.leaves) for path in self._paths]

    def source(self, language: str = "python") -> str:
        """All paths recorded so far, as text: "python" or "llvm".

        In Python a path is a function of the arguments' numbers, in their order, then of the Values that the function
        reads besides them (`leaves`); `assert` says for which numbers the path is taken. Arrays are written in NumPy,
        as a function of a matrix with a row for each point and of an array w of the data of those Values.
        """
        if language not in ("python", "llvm"):
            raise ValueError(f'source is "python" or "llvm", not {language!r}')
        if language == "python":
            return "\n\n\n".join(path.text() for path in self._paths)
        return "\n\n".join(path.native.text for path in self._paths if path.native is not None)

    # --- one call ---------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Notice whether the numbers, texts and functions that the function finds elsewhere are other ones now."""
        if self._found is None or not self._found.is_current():
            self._found = Surroundings(self._plain)
            self._finds = not self._found.is_fixed
            self._floats, self._shapes = {}, {}

    def signature(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any], scan: Scan) -> Signature | None:
        """The state for calls with these kinds of arguments; None if there are too many kinds already."""
        found = self._found.key if self._found is not None else ()
        key = key, found
        signature = self._signatures.get(key)
        if signature is not None:
            self._known(signature, args, kwargs)
            return signature
        if len(self._signatures) >= self.limit:
            self.warn(
                f"more than {self.limit} kinds of arguments (another int, string or object makes another kind, and so "
                "does another number that the function finds elsewhere); further ones run eagerly; pass numbers that "
                "vary as floats, or raise jit(paths=...)"
            )
            return None
        signature = Signature(self._labels(args, kwargs, len(scan.numbers)), found)
        for x in scan.held:
            try:  # the entry is dropped with the object, whose id may be used again
                signature.held.append(weakref.ref(x, lambda _: self._signatures.pop(key, None)))
            except TypeError:
                signature.held.append(x)
        signature = self._signatures.setdefault(key, signature)
        self._known(signature, args, kwargs)
        return signature

    def _known(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Calls like this one need no key to find the signature, as long as the surroundings are the same."""
        if kwargs or isinstance(self.function, Vmap) or self._found is None or signature.found != self._found.key:
            return
        if all(type(x) is float for x in args):
            self._floats.setdefault(len(args), signature)
        if len(args) == 1 and _is_vector(args[0]):
            self._shapes.setdefault(args[0].shape, signature)

    def _labels(self, args: tuple[Any, ...], kwargs: dict[str, Any], count: int) -> list[str]:
        """The names of the arguments for error messages, if each is one number."""
        try:
            names = list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            names = []
        plain = not kwargs and count == len(args) <= len(names)
        return names[:count] if plain else [""] * count

    def _point(self, signature: Signature, numbers: Sequence[float], args: tuple[Any, ...], kwargs: Any) -> Any:
        """One call with these numbers: along the path whose guards hold, or recorded."""
        odd = False  # whether the numbers pass the guards of a path, but something on it is not finite
        for path in self.current(signature):
            results, status = path.point(numbers)
            if status == 0:
                path.rows += 1
                return path.result.rebuilt(path.entries(results, numbers) if path.linked else results)
            odd |= status == 2
        known = len(signature.paths)
        if signature.faithful and not (odd and signature.odd >= ODD) and self._compiling.acquire(blocking=False):
            try:
                if len(signature.paths) == known:  # no other thread has recorded a path meanwhile
                    if self.is_full():
                        self.warn_of_paths(signature)
                    else:
                        signature.odd += odd
                        return self.record(signature, numbers, args, kwargs, odd=odd)[0]
            finally:
                self._compiling.release()
        signature.eager += 1
        return self._eager(signature, numbers, args, kwargs)

    def current(self, signature: Signature) -> list[GuardedProgram]:
        """The paths of the signature, without those whose Values have been replaced by others."""
        if any(path.places and not path.is_current() for path in signature.paths):
            signature.paths = [path for path in signature.paths if path.is_current()]
        return signature.paths

    def is_full(self) -> bool:
        """Whether the limit of paths is reached."""
        return sum(len(x.paths) for x in list(self._signatures.values())) >= self.limit

    # --- a batch ----------------------------------------------------------------------------------------------------

    def _over(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of jit(vmap(f)): rows with equal keys are computed together, each along its path."""
        import numpy as np

        columns = self._columns(args) if not kwargs else None
        if columns is None:  # cases that are left to vmap: Values, lists, no rows, axes nested in trees
            return self.function(*args, **kwargs)
        numbers, kinds, example, n = columns

        def alike(first: tuple[Any, ...], columns: list[Any], count: int) -> Batch:
            scan = Scan()
            return self.rows(self.signature(scan.key((first, {})), first, {}, scan), columns, count, first)

        if not kinds:
            return alike(example(0), numbers, n).whole()
        _, group = np.unique(np.column_stack(kinds), axis=0, return_inverse=True)
        whole = Batch(self, n)
        for rows in [np.nonzero(group.ravel() == k)[0] for k in range(int(group.max()) + 1)]:
            batch = alike(example(int(rows[0])), [x[rows] if x.ndim else x for x in numbers], len(rows))
            for k, result in enumerate(batch.results):
                mine = rows[batch.result == k]
                whole.add(result, mine)
                whole.out[:, mine] = batch.out[:, batch.result == k]
        return whole.whole()

    def _columns(self, args: tuple[Any, ...]) -> Any:
        """Columns of floats, columns of ints, a function that gives the arguments of row i, and the number of rows."""
        import numpy as np

        assert isinstance(self.function, Vmap)
        axes = self.function.in_axes
        axes = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,) * len(args)
        if len(axes) != len(args) or not all(axis is None or type(axis) is int for axis in axes):
            return None
        mapped: list[Any] = []
        sizes: set[int] = set()
        numbers: list[Any] = []
        kinds: list[Any] = []
        for arg, axis in zip(args, axes):
            if axis is None:
                scan = Scan()
                scan.key(arg)
                if scan.values:
                    return None
                numbers += [np.array(float(x)) for x in scan.numbers]  # arrays own their memory, a np.float64 does not
                continue
            if trees.has_list(arg):  # a list of rows, even if they are arrays
                return None
            for leaf in trees.leaves(arg):
                if not trees.is_array(leaf) or leaf.dtype.kind not in "fiub" or not -leaf.ndim <= axis < leaf.ndim:
                    return None
                moved = np.moveaxis(leaf, axis, 0)
                mapped.append(moved)
                sizes.add(len(moved))
                flat = moved.reshape(len(moved), math.prod(moved.shape[1:]))
                if leaf.dtype.kind == "f":
                    flat = flat.astype(float, copy=False)
                    numbers += [flat[:, j] for j in range(flat.shape[1])]
                else:
                    kinds.append(flat)
        if len(sizes) != 1 or 0 in sizes:
            return None

        def example(i: int) -> tuple[Any, ...]:
            rest = iter(mapped)
            return tuple(
                arg if axis is None else trees.rebuilt(arg, (_element(next(rest)[i]) for _ in trees.leaves(arg)))
                for arg, axis in zip(args, axes)
            )

        return numbers, kinds, example, sizes.pop()

    def rows(self, signature: Signature | None, columns: list[Any], n: int, args: tuple[Any, ...]) -> Batch:
        """Compute every row along its path.

        columns: for each number an array, or an array without axes that is the same for all rows. args: those of row 0.
        """
        import numpy as np

        def row(i: int) -> list[float]:
            return [float(x[i]) if x.ndim else float(x) for x in columns]

        batch = Batch(self, n)
        paths = [] if signature is None else self.current(signature)
        unfinished: list[int] = []
        odd_rows: set[int] = set()  # see _point

        def run(path: GuardedProgram, pending: Any) -> Any:
            """Compute rows along a path; returns the rows that need another path."""
            whole = len(pending) == n
            rows: Any = slice(None) if whole else pending
            part = columns if whole else [x[pending] if x.ndim else x for x in columns]
            batch.add(path.result, rows)
            target = batch.target(path.result, len(pending))
            odd, status = run_rows(path, part, len(pending), target)
            batch.add(path.result, rows, target)
            batch.taken[rows] = next(k for k, x in enumerate(paths) if x is path)
            path.rows += len(pending) - len(odd)
            if not len(odd):
                return pending[:0]
            odd, status = np.asarray(odd, int), np.asarray(status)
            batch.taken[pending[odd]] = -1
            odd_rows.update(pending[odd[status == 2]].tolist())
            return pending[odd]

        pending: Any = np.arange(n, dtype=np.int32)
        for path in sorted(paths, key=lambda path: -path.rows):
            if len(pending):
                pending = run(path, pending)
        while len(pending):
            i = int(pending[0])
            if i in odd_rows and (signature is None or signature.odd >= ODD):
                unfinished += [k for k in pending.tolist() if k in odd_rows]
                pending = pending[[k not in odd_rows for k in pending.tolist()]]
                continue
            new = self._new_path(signature, row(i), args, batch, i, len(pending), i in odd_rows)
            if new is None:
                unfinished += pending.tolist()
                break
            pending = run(new, pending) if isinstance(new, GuardedProgram) else pending[1:]
            if len(pending) and pending[0] == i:  # not finite on its own path either: the eager run accepted that
                unfinished.append(i)
                pending = pending[1:]
        for i in sorted(unfinished):
            batch.taken[i] = -1
            result = Result.of(self._eager(signature, row(i), args, {}, own=False))
            batch.add(result, [i], _data(result.entries))
            if signature is not None:
                signature.eager += 1
        return batch

    def _new_path(
        self,
        signature: Signature | None,
        numbers: list[float],
        args: tuple[Any, ...],
        batch: Batch,
        i: int,
        n: int,
        odd: bool,
    ) -> GuardedProgram | bool | None:
        """Record row i of a batch, with n rows left: the path, True if the row needs none, None if none can be made."""
        if signature is None or not signature.faithful:
            return None
        signature.used += n
        with self._compiling:
            if self.is_full():
                self.warn_of_paths(signature)
                return None
            for known in signature.paths:  # made by another thread meanwhile
                if known.point(numbers)[1] == 0:
                    return known
            signature.odd += odd
            raw, path = self.record(signature, numbers, args, {}, wait=1.0, odd=odd, own=False)
            if path is None and signature.heavy:
                return None
            if path is not None:
                path.rows -= 1  # it is computed again with the others, so that no bit depends on the order of rows
                return path
            result = Result.of(raw)
            batch.add(result, [i], _data(result.entries))
            return True

    # --- recording --------------------------------------------------------------------------------------------------

    def record(
        self,
        signature: Signature,
        numbers: Sequence[float],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait: float = 0.0,
        odd: bool = False,
        own: bool = True,
    ) -> tuple[Any, GuardedProgram | None]:
        """Run the function on these numbers, recording it; returns the result and the path, compiled and kept, or None.

        odd: the numbers pass the guards of another path, so the new one is kept only if everything on it is finite.
        own: the numbers are those in the arguments, else those of another row with the same key.
        """
        if len(numbers) > LARGE or (signature.heavy and not self._is_due(signature)):
            signature.eager += 1
            signature.used += 1
            return self._eager(signature, numbers, args, kwargs, own), None
        recorded = Recording(None if self._is_due(signature) else HEAVY)
        deferred = None
        with watched(recorded, wait) as alone:
            if not alone:
                return self._eager(signature, numbers, args, kwargs, own), None
            inputs = [Value(x, label=label) for x, label in zip(numbers, signature.labels, strict=True)]
            copies: Copies = {}
            given_args, given_kwargs = filled((args, kwargs), iter(inputs), copies)
            try:
                raw, deferred = recording(inputs, self._looked, recorded, given_args, given_kwargs)
                if recorded.limit is None or not recorded.exceeds(recorded.limit):
                    _ = recorded.guards  # made now, while their nodes are recorded as well
            finally:
                if recorded.changes:
                    recorded.settle()
                    written_back(copies)
        signature.used += 1
        known = () if deferred is None else (deferred[0], *deferred[2])
        owns = recorded.owners(raw, known) if recorded.exceeds(HEAVY) else None
        mine = set(map(id, known))
        its_own = owns or (lambda x: id(x) in mine or recorded.owns(x))
        given = self._given(raw, inputs, its_own, args, kwargs, owns is not None)
        try:
            result = Result.of(raw, _scalars((args, kwargs)))
        except TypeError as error:
            recorded.unfaithful = recorded.unfaithful or str(error)
        found = Surroundings(self._plain)
        if found.iterates:
            recorded.unfaithful = recorded.unfaithful or "an iterator is among what it finds elsewhere"
        if recorded.unfaithful:
            signature.faithful = False
            signature.changes = recorded.changes or any(map(is_opaque, parts(raw)))
            with contextlib.suppress(TypeError):  # it returns other objects
                signature.linked = any(isinstance(x, Value) for x in Result.of(given).entries)
            self.warn(f"{recorded.unfaithful}; it runs eagerly, not compiled")
            return given, None
        signature.heavy = recorded.exceeds(HEAVY)
        if signature.heavy and signature.linked is None:
            signature.linked = any(isinstance(x, Value) for x in Result.of(given).entries)
        if recorded.uncompilable or (signature.heavy and recorded.limit is not None):
            recorded.nodes.clear()
            return given, None
        if signature.found != found.key:  # another thread changed it meanwhile
            recorded.nodes.clear()
            return given, None
        path = self._path(recorded, result, inputs, numbers, args, deferred)
        raw = deferred = None
        recorded.nodes.clear()  # the graph is gone before its program is compiled
        if signature.heavy and len(path.forward) < LINK * len(path.linked) * len(path.leaves):
            signature.dear = True
            return given, None
        if not path.compile(HEAVY if signature.heavy and signature.used < self.pays else math.inf):
            signature.irregular = True
            return given, None
        signature.linked = bool(path.linked)
        status = path.point(numbers)[1]
        if status == 1 or (odd and status):  # no row of data can pass its guards: one reads nan, say
            signature.eager += odd
            return given, None
        path.rows += 1
        signature.paths.append(path)
        if signature.heavy:
            signature.used = 0  # another path is compiled when so many rows have missed it again
        return given, path

    def _is_due(self, signature: Signature) -> bool:
        """Whether enough rows have come that compiling a heavy path, or looking for its arrays, saves time."""
        if signature.dear:
            return False
        return signature.used >= self.pays or (signature.used >= SOME and not signature.irregular)

    def _path(
        self,
        recorded: Recording,
        result: Result,
        inputs: list[Value],
        numbers: Sequence[float],
        args: tuple[Any, ...],
        deferred: Any = None,
    ) -> GuardedProgram:
        """The path that a recording makes, not compiled yet."""
        guards = [guard.condition for guard in recorded.guards]
        outputs, slopes = result.entries, None
        if deferred is not None:
            output, variables, made = deferred
            place = {id(x): k for k, x in enumerate(made)}
            outputs = [x for x in result.entries if id(x) not in place]
            count, plain = len(outputs), itertools.count()
            order = [count + place[id(x)] if id(x) in place else next(plain) for x in result.entries]
            slopes = Slopes(order, len(variables))
            outputs += [output, *variables]
        if recorded.exceeds(HEAVY) and importlib.util.find_spec("numpy") is not None:
            program, leaves = flatten_recording(recorded.nodes, outputs, inputs, guards, recorded.failed, exceptions)
        else:
            program, leaves = flatten(
                outputs, inputs, guards=guards, checks=recorded.checks, raised=recorded.failed, within=recorded.owns
            )
        expected, lines = [x.truth for x in recorded.guards], [x.line for x in recorded.guards]
        linked = _depending(program) if leaves else []
        result.entries = _data(result.entries)  # the recorded graph is not kept
        path = GuardedProgram(program, slopes, leaves, result, list(numbers), expected, lines, linked, self.exact)
        path.single, path.trained = not isinstance(self.function, Vmap) and self.single, self.trained
        path.places = leaf_places([self._plain, *args], leaves) if leaves else []
        return path

    def _looked(self, recorded: Recording, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """`_recorded`, with an eye on side effects."""
        return recorded.looked([self._plain, args, kwargs], self._recorded, recorded, args, kwargs)

    def _recorded(self, recorded: Recording, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Call the function under the recorder. Returns its result and, of a long gradient, what to derive.

        The backward sweep of a long gradient is compiled from the recorded forward pass.
        """
        parts = getattr(self._plain, "parts", None)
        if parts is None:
            return self._called(args, kwargs), None
        called, derive = parts
        call = self._called((args, kwargs), {}, called)
        deferred = None
        if recorded.exceeds(HEAVY) and recorded.is_closed():
            deferred = call.deferred()
        return derive(call), deferred

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any], function: Callable[..., Any] | None = None) -> Any:
        """Call the function; a TypeError or ValueError gets a hint if `vmap` was meant."""
        try:
            return (function or self._plain)(*args, **kwargs)
        except (TypeError, ValueError) as error:
            if self._plain is self.function and any(trees.is_array(x) for x in trees.leaves((args, kwargs))):
                error.add_note("an array argument of jit(f) is the whole array; jit(vmap(f)) applies f to each row")
            raise

    def _eager(
        self,
        signature: Signature | None,
        numbers: Sequence[float],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        own: bool = True,
    ) -> Any:
        """Run the function eagerly on these numbers; own: as for `record`."""
        if not own:
            args, kwargs = filled((args, kwargs), iter(numbers), {})
        if signature is not None and signature.dear:
            with contextlib.suppress(Exception):  # it needs Values, or raises: for Values the message has labels
                return self._given(recording((), self._plain, *args, **kwargs), (), lambda x: False, args, kwargs)
        arrays = any(trees.is_array(x) for x in trees.leaves((args, kwargs)))
        large = len(numbers) > HEAVY and arrays
        if large or (signature is not None and signature.changes):  # on the arguments themselves
            return self._plain(*args, **kwargs)
        if signature is not None and signature.linked is False and getattr(self._plain, "is_derivative", False):
            return self._called(args, kwargs)  # for Values, it would record the derivative's graph (40 times the time)
        if signature is not None and signature.heavy and signature.linked is False and not arrays:
            with contextlib.suppress(Exception):  # as above
                return self._plain(*args, **kwargs)
        labels = signature.labels if signature is not None else [""] * len(numbers)
        inputs = [Value(x, label=label) for x, label in zip(numbers, labels, strict=True)]
        raw = recording(inputs, self._called, *filled((args, kwargs), iter(inputs), {}))
        unlinked = signature is not None and signature.linked is False
        mine = set(inputs)
        return self._given(raw, inputs, _any_node if unlinked else mine.__contains__, args, kwargs)

    def _given(
        self,
        raw: Any,
        inputs: Sequence[Value],
        own: Callable[[Any], bool],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        closed: bool = False,
    ) -> Any:
        """The function's result, with floats in place of the Values that depend on its arguments only.

        own: whether the function made a Value; closed: whether all these depend on its arguments only.
        """
        mine, scalar = set(inputs), _scalars((args, kwargs))

        def number_or_value(x: Any, kind: type) -> Any:
            if not isinstance(x, Value):
                return x
            if own is _any_node or (closed and own(x)):
                return kind(x._data)
            foreign = any(node.op is None and node not in mine and not own(node) for node in topological_order(x))
            return x if foreign else kind(x._data)

        def leaf(x: Any) -> Any:
            if trees.is_array(x) and x.dtype.hasobject:
                return trees.array([number_or_value(y, float) for y in trees.elements(x)], x.shape)
            return number_or_value(x, scalar)

        leaves = parts(raw)
        if any(is_opaque(x) for x in leaves):
            if settled([raw], lambda x: x in mine or own(x)):
                return raw
            try:  # the Values in the object cannot be replaced: run it on plain numbers
                return self._plain(*args, **kwargs)
            except (AttributeError, TypeError):  # it needs Values
                return raw
        return trees.rebuilt(raw, iter([leaf(x) for x in leaves]))

    # --- warnings ---------------------------------------------------------------------------------------------------

    def warn(self, message: str) -> None:
        """Give a warning, but each message only once."""
        if message not in self._warned and not self.quiet:
            self._warned.add(message)
            level = 2
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
                frame, level = frame.f_back, level + 1
            warnings.warn(f"{self!r}: {message}", RuntimeWarning, stacklevel=level)

    def warn_of_paths(self, signature: Signature) -> None:
        """Warn that there are too many paths, and name the line where the last two part."""
        paths = signature.paths or self._paths
        last, other = paths[-1], paths[-2 if len(paths) > 1 else -1]
        parted = [k for k, pair in enumerate(zip(last.expected, other.expected)) if pair[0] != pair[1]]
        k = parted[0] if parted else min(len(last.lines), len(other.lines)) - 1
        where = last.lines[k] if last.lines else "a place unknown"
        if "paths" not in self._warned:
            self._warned.add("paths")
            self.warn(
                f"more than {self.limit} paths; further ones run eagerly. They part at {where}; "
                "write that with where(), maximum() or another op, or raise jit(paths=...)"
            )


class CompiledEntries(Compiled):
    """A sparse derivative whose entries are compiled."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs).array()


def jit_of(function: Callable[..., Any], exact: bool, limit: int) -> Compiled:
    """Unpickle a compiled function, which will be recorded again."""
    return Compiled(function, exact, limit)


def _any_node(node: Any) -> bool:
    """The predicate for functions that find no Values elsewhere: every node depends on their arguments only."""
    return True


def _depending(program: FlatProgram) -> list[int]:
    """The indices of the outputs that depend on parameters."""
    varies = [False] * len(program)
    for i in program.parameters:
        varies[i] = True
    for i, operands in enumerate(program.operands):
        if operands:
            varies[i] = any(varies[k] for k in operands)
    return [k for k, i in enumerate(program.outputs) if varies[i]]


def _scalars(args: Any) -> type:
    """The type of the plain numbers in a result: NumPy's if there are arrays among the arguments."""
    arrays = any(trees.is_array(x) for x in trees.leaves(args))
    found: type = sys.modules["numpy"].float64 if arrays else float
    return found


def _data(entries: Sequence[Any]) -> list[float]:
    return [x._data if isinstance(x, Value) else x for x in entries]


def _is_vector(x: Any) -> bool:
    """Whether x is an array of doubles, of NumPy's own class."""
    return type(x) is trees.array_type() and x.dtype is sys.modules["numpy"].dtype(float)


def _element(x: Any) -> Any:
    """A row of an array; a plain number if it has no axes."""
    return x if x.ndim else x.item()

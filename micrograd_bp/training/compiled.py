"""Training compiled: the mean loss of a batch of rows, with its gradient left in `grad`, as `training.fit` needs it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import math
import operator
import sys
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp import losses
from micrograd_bp._engine import trees
from micrograd_bp._engine.engine import add_to_grads, read_data
from micrograd_bp.compiler.arguments import Scan
from micrograd_bp.compiler.arrays import SMALL
from micrograd_bp.compiler.functions import SOME, Compiled, Signature
from micrograd_bp.compiler.guarded import GuardedProgram, run_rows
from micrograd_bp.compiler.machine import host
from micrograd_bp.compiler.recording import Recording
from micrograd_bp.compiler.surroundings import snapshot
from micrograd_bp.compiler.tracing import watched
from micrograd_bp.compiler.vectors import COPIED
from micrograd_bp.ops import net_input
from micrograd_bp.training import parallel
from micrograd_bp.training.metrics import plain
from micrograd_bp.value import Value, engine_name, topological_order

if TYPE_CHECKING:
    import numpy as np

BatchSweep: TypeAlias = Callable[[list[Any], list[Any]], tuple[float, list[Any]]]
# Seconds: an operation of a row by the eager engine, and a row besides; loading LLVM and the smallest program,
# compiling an operation with its derivative, and finding arrays for one. Measured, and rounded against compiling.
EAGER, ROW = {"accelerated": 4e-9, "pure": 200e-9}, 7e-6
STARTING, STRAIGHT, FINDING = 0.3, 0.2e-3, 10e-6
SAVED = 0.5  # of the eager time, at least
PROGRAMS = 64  # that are compiled for one model and loss
MARGIN = 3.0  # a further path is compiled when the rows that it would have done have cost so many times as much
FLOATS, LISTS = {float}, {list}


def compiled_sweep(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    eager: BatchSweep,
    work: int | None,
    asked: bool,
) -> BatchSweep:
    """A function (rows, targets) -> (mean loss, predictions) that adds the mean's gradient to the grads of leaves.

    It gives what `eager` gives, a function of the same signature, but records and compiles `loss(model(x), target)`.
    The eager function is called where that is impossible: without llvmlite, for rows whose numbers are not finite, and
    from a batch on whose model or loss draws at random, has side effects, or takes floats otherwise than Values.
    Rows are lists (of lists) of numbers, or arrays, which are passed to the model as lists. A user's loss gets a target
    as it is: an int as an int, and a float as a Value, whose comparisons become guards. work: the number of rows in the
    whole run; nothing is compiled where compiling would take longer than it saves. None: compile at once. asked: it is
    said, in a warning, why nothing is compiled.
    """
    missing = any(importlib.util.find_spec(name) is None for name in ("numpy", "llvmlite"))
    if (missing and not asked) or (asked and host() is None):
        return eager
    return CompiledSweep(model, loss, eager, work, asked)


def row_loss(model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], row: tuple[Any, Any]) -> tuple[Value, Any]:
    """The loss of one row, and the prediction as plain numbers."""
    x, target = row
    prediction = model(x)
    error = loss(prediction, target)
    if not isinstance(error, Value):
        raise TypeError(f"the loss gives {error!r}, which has no gradient; is the model frozen?")
    return error, plain(prediction)


class _UnfaithfulError(Exception):
    """A recording does not stand for what model and loss do: a row has been computed with their side effects."""


class CompiledSweep:
    """Rows are grouped by structure: rows of one group and their targets differ in their floats only.

    Where compiling would pay is decided by the operations that the first row takes. Then a row is computed eagerly and
    watched: a model that draws at random or changes something is not recorded. From the next batch on programs are
    replayed.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        loss: Callable[[Any, Any], Any],
        eager: BatchSweep,
        work: int | None,
        asked: bool,
    ) -> None:
        self.model, self.loss, self.eager, self.work = model, loss, eager, work
        self.encode: Callable[[Any], Any] | None = None  # a target as numbers that vary; found at the first row
        self.step = self._unrecorded(asked)
        self.step.pays = 0  # compiled at once, so that a resumed run has the bits of the whole one
        self.signatures: dict[Any, Signature | None] = {}  # of rows of floats alone
        self.found: Any = None  # the plain objects that model and loss found when they were first recorded
        self.prepaid = True  # the first path pays, as was found before
        self.row = self.program = 0.0  # what a row costs, eagerly, and compiling a path
        self.missed = 0  # rows for which there was no path
        self.sweep: BatchSweep = self._count if work is not None else self._replay

    def __call__(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        return self.sweep(rows, targets)

    def _unrecorded(self, asked: bool) -> Compiled:
        """The function of a row and its target that is compiled."""
        made = Compiled(_step(self.model, self.loss), False, PROGRAMS)
        made.single, made.trained, made.quiet = False, True, not asked
        return made

    def look(self) -> None:
        """Record anew, where what model and loss find elsewhere is not what it was: a callback may have changed it."""
        if self.found is not None and self.found != self._surroundings():
            pays, self.step = self.step.pays, self._unrecorded(not self.step.quiet)
            self.step.pays = pays
            self.signatures.clear()
            self.found, self.prepaid, self.missed = None, False, 0

    def _surroundings(self) -> Any:
        """What model and loss can reach, save for the states of random generators: they draw nothing."""
        found = snapshot([self.step.function])
        return [x for x in found if not (isinstance(x[-1], tuple) and x[-1][0] == "random")]

    # --- whether to compile -----------------------------------------------------------------------------------------

    def _count(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        """Compute the first batch eagerly, and decide by the operations of its first row whether compiling pays."""
        assert self.work is not None
        counts: list[int] = []

        def counted(prediction: Any, target: Any) -> Any:
            error = self.loss(prediction, target)
            if not counts and isinstance(error, Value):
                order = topological_order(error)
                counts.append(sum(len(x.operands) - 1 if x.op is net_input else 1 for x in order))
            return error

        found = self._eagerly(self.model, counted, rows, targets)
        size = counts[0]
        self.row = ROW + size * EAGER[engine_name()]
        saved = SAVED * self.work * self.row
        straight = STARTING + size * STRAIGHT < saved
        pays = straight or (size >= SMALL and STARTING + size * FINDING < saved)
        self.program = size * (STRAIGHT if straight else FINDING)
        self.step.pays = 0 if straight else sys.maxsize  # then arrays are compiled, but no straight-line code
        self.sweep = self._watch if pays else self.eager
        return found

    def _watch(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        """Compute a batch eagerly, and look whether its first row does what a recording would not do again."""
        recorded = Recording()
        seen: list[bool] = []
        with contextlib.ExitStack() as stack:

            def first(x: Any) -> Any:
                if not seen:
                    seen.append(stack.enter_context(watched(recorded, 1.0)))
                    if seen[0]:
                        stack.enter_context(recorded.looking([self.step.function, rows[0], targets[0]]))
                return self.model(x)

            def last(prediction: Any, target: Any) -> Any:
                try:
                    return self.loss(prediction, target)
                finally:
                    stack.close()

            found = self._eagerly(first, last, rows, targets)
        if seen[0]:  # no other thread was recording
            self.sweep = self._replay
        if recorded.unfaithful:
            self._give_up(recorded.unfaithful)
        return found

    def _eagerly(self, model: Any, loss: Any, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        """What `eager` does, with another model and loss."""
        found = parallel.sweep_rows(lambda row: row_loss(model, loss, row), list(zip(rows, targets)), 1.0 / len(rows))
        return math.fsum([error for error, _ in found]) / len(rows), [prediction for _, prediction in found]

    def _give_up(self, reason: str) -> None:
        """Nothing is compiled from now on."""
        self.sweep = self.eager
        self.step.warn(f"{reason}; it runs eagerly, not compiled")

    # --- a batch ----------------------------------------------------------------------------------------------------

    def _replay(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        batch = _Batch(rows, targets)
        try:
            for signature, args, places, matrix in self._groups(rows, targets):
                self._take(batch, signature, args, places, matrix)
        except _UnfaithfulError:
            self.sweep = self.eager
            batch.left[:] = range(len(rows))
            return batch.finished(self.model, self.loss)
        except Exception as error:  # eagerly, it raises that or another one, or none: it takes no Values, say
            self._give_up(f"it raises {type(error).__name__}: {error}")
            return self.eager(rows, targets)
        batch.add()
        return batch.finished(self.model, self.loss)

    def _groups(self, rows: list[Any], targets: list[Any]) -> list[tuple[Any, ...]]:
        """The rows by structure: signature, the arguments of one, the places in the batch, a matrix of numbers."""
        import numpy as np

        if self.encode is None:
            self.encode = self._encoding(rows[0], targets[0])
        targets = list(map(self.encode, targets))
        key, matrix = _matrix(rows, targets)
        if key is not None:  # all are lists of floats, as many in each
            if key not in self.signatures:
                self.step.look()
                scan, args = Scan(), (rows[0], targets[0])
                self.signatures[key] = self.step.signature(scan.key((args, {})), args, {}, scan)
            return [(self.signatures[key], (rows[0], targets[0]), list(range(len(rows))), matrix)]
        groups: dict[Any, tuple[Signature | None, tuple[Any, Any], list[int], list[list[float]]]] = {}
        for i, (x, target) in enumerate(zip(rows, targets)):
            scan, args = Scan(), (_floats(x), target)
            key = scan.key((args, {}))
            if key not in groups:
                self.step.look()
                groups[key] = self.step.signature(key, args, {}, scan), args, [], []
            groups[key][2].append(i)
            groups[key][3].append(scan.numbers)
        return [(*group, np.array(numbers)) for *group, numbers in groups.values()]

    def _take(
        self,
        batch: _Batch,
        signature: Signature | None,
        args: tuple[Any, Any],
        places: list[int],
        matrix: np.ndarray[Any, Any],
    ) -> None:
        """Compute rows of one structure, each along its path; rows for which there is none are left."""
        import numpy as np

        place = np.array(places)
        pending = np.arange(len(places))
        paths = [] if signature is None else self.step.current(signature)
        taken: list[tuple[int, Any, GuardedProgram, Any]] = []
        k, tried = 0, -1
        while len(pending):
            if k == len(paths):
                i = int(pending[0])
                if signature is None or i == tried or not self._may_compile(len(pending)):
                    break
                if not self._record(batch, signature, matrix[i].tolist(), args, places[i]):
                    break
                tried = i
                continue
            path = paths[k]
            found, status = _swept(path, matrix if len(pending) == len(matrix) else matrix[pending], batch.scale)
            k += 1
            if found is not None:
                taken.append((int(pending[0]), pending, path, found))
                pending = pending[:0]
                break
            mine = pending[status == 0]
            if len(mine):
                taken.append((int(mine[0]), mine, path, None))
            batch.left += place[pending[status == 2]].tolist()
            pending = pending[status == 1]
        batch.left += place[pending].tolist()
        # Paths are ordered by their first rows, not by when they were recorded, which differs in a resumed run.
        for _, mine, path, found in sorted(taken, key=lambda x: x[0]):
            if found is None:
                found, _ = _swept(path, matrix[mine], batch.scale)
                if found is None:
                    raise OverflowError("a sum over the rows is not finite")
            path.rows += len(mine)
            batch.put(path, place[mine].tolist(), *found)

    def _may_compile(self, missed: int) -> bool:
        """Whether a path may be compiled for so many rows: the first is, others when the rows without one are many."""
        if self.work is None or self.prepaid:
            self.prepaid = False
            return True
        self.missed += missed
        if self.missed * self.row < MARGIN * self.program:
            return False
        self.missed = 0
        return True

    def _record(self, batch: _Batch, signature: Signature, numbers: list[float], args: tuple[Any, Any], i: int) -> bool:
        """Add a path for row i of the batch, if one can be made."""
        if self.step.is_full():
            self.step.warn_of_paths(signature)
            return False
        if self.found is None:
            self.found = self._surroundings()
        signature.used = max(signature.used, SOME)  # whether it pays is decided here
        found, path = self.step.record(signature, numbers, args, {}, wait=1.0)
        if not signature.faithful:
            batch.done[i] = found
            raise _UnfaithfulError
        if path is None:
            if self.work is not None:
                self.sweep = self.eager
            return False
        own = self.step.function(batch.rows[i], batch.targets[i])
        if not (isinstance(found[1], Value) and _alike(plain(list(own)), plain(list(found)))):
            raise TypeError("a row of Values is not computed as one of floats is")
        return True

    def _encoding(self, x: Any, target: Any) -> Callable[[Any], Any]:
        """How a target is given to the compiled program: as it is, or for losses of this library as floats."""
        if getattr(self.loss, "__module__", "") != losses.__name__:
            return _as_it_is
        if self.loss is losses.cross_entropy and isinstance(target, int):
            prediction = self.model(x)
            classes = len(prediction) if isinstance(prediction, (list, tuple)) else 0
            hots = [[float(k == j) for j in range(classes)] for k in range(classes)]
            return lambda k: hots[k] if type(k) is int and 0 <= k < classes else k
        return _as_it_is if self.loss is losses.cross_entropy else _floats


class _Batch:
    """The losses and predictions of a batch while they are found, and the gradients, which are added at the end."""

    def __init__(self, rows: list[Any], targets: list[Any]) -> None:
        self.rows, self.targets, self.scale = rows, targets, 1.0 / len(rows)
        self.errors: list[float] = [0.0] * len(rows)
        self.predictions: list[Any] = [None] * len(rows)
        self.left: list[int] = []  # the rows that are to be computed eagerly
        self.done: dict[int, Any] = {}  # rows that were, with side effects: prediction and loss
        self.slopes: list[tuple[GuardedProgram, list[float]]] = []

    def put(self, path: GuardedProgram, places: list[int], results: list[list[float]], slopes: list[float]) -> None:
        """Set what was found for rows along a path."""
        result = path.result
        outline = result.skeleton[0]
        flat = outline is None or (type(outline) is list and not any(x is not None for x in outline))
        if flat and all(leaf is float for leaf in result.leaves):
            found = [(numbers[0] if outline is None else numbers[:-1], numbers[-1]) for numbers in results]
        else:
            found = [(x if flat else plain(x), error) for x, error in map(result.rebuilt, results)]
        for i, (prediction, error) in zip(places, found):
            self.predictions[i], self.errors[i] = prediction, error
        self.slopes.append((path, slopes))

    def add(self) -> None:
        """Add the gradients to the grads."""
        for path, slopes in self.slopes:
            if path.outside is None:
                path.outside = any(x.op is not None for x in path.leaves)
            if not path.outside:
                add_to_grads(path.leaves, slopes)
            else:  # some are recorded outside the model: continue backward from them
                for leaf, slope in zip(path.leaves, slopes):
                    leaf.backward(slope)

    def finished(self, model: Callable[[Any], Any], loss: Callable[[Any, Any], Any]) -> tuple[float, list[Any]]:
        """Compute the rows eagerly that are left; the mean loss, and the predictions."""

        for i in sorted(self.left):
            row = self.rows[i], self.targets[i]
            measure = functools.partial(_known if i in self.done else row_loss, *self.done.get(i, (model, loss)))
            ((self.errors[i], self.predictions[i]),) = parallel.sweep_rows(measure, [row], self.scale, i)
        return math.fsum(self.errors) / len(self.rows), self.predictions


def _known(prediction: Any, error: Any, row: tuple[Any, Any]) -> tuple[Value, Any]:
    """The loss of a row that has been computed."""
    return row_loss(lambda _: prediction, lambda *_: error, row)


def _swept(path: GuardedProgram, matrix: Any, scale: float) -> tuple[Any, Any]:
    """The results of the rows, and scale times the summed gradient of the last; or None, and a status for each row."""
    import numpy as np

    native, n = path.native, len(matrix)
    summed = native is not None and bool(native.plan.sums)
    if native is not None and summed and not native.calls_python and n <= native.block and matrix.size <= COPIED:
        results, found = native.both(matrix, read_data(path.leaves), scale)
        return (None, found) if results is None else ((results, found), None)
    columns = list(np.ascontiguousarray(matrix.T))
    out = np.empty((len(path.forward.outputs), n))
    odd, status = run_rows(path, columns, n, out)
    if len(odd):
        statuses = np.zeros(n, np.int8)
        statuses[np.asarray(odd, int)] = status
        return None, statuses
    if native is not None and summed:
        places = [(x.__array_interface__["data"][0], x.strides[0]) for x in columns]
        slopes = native.totals(places, n, path.parameters(), _overflows, columns)
    else:
        slopes = path.kernel(len(path.forward.outputs) - 1).value_and_grad(matrix, reduction="sum")[1]
    return (out.T.tolist(), (scale * slopes).tolist()), None


def _overflows(start: int, stop: int) -> Any:
    raise OverflowError("a sum over the rows is not finite")


def _alike(x: Any, y: Any) -> bool:
    """Whether these are the same numbers, to rounding, in the same lists."""
    if type(x) is float is type(y):
        return x == y or abs(x - y) <= 1e-12 * abs(x) or (x != x and y != y)
    if type(x) is list is type(y):
        return len(x) == len(y) and all(map(_alike, x, y))
    return type(x) is type(y) and isinstance(x, (int, str, type(None))) and x == y


def _matrix(rows: list[Any], targets: list[Any]) -> tuple[Any, Any]:
    """A key and the numbers, if these are lists of floats, of one length, with a float or such a list for each."""
    import numpy as np

    kinds = set(map(type, targets))
    columns = [rows] if kinds == FLOATS else [rows, targets]
    parts: list[Any] = []
    key: list[int] = []
    for column in columns:
        if set(map(type, column)) != LISTS or len(lengths := set(map(len, column))) != 1:
            return None, None
        numbers = list(itertools.chain.from_iterable(column))
        if set(map(type, numbers)) != FLOATS:
            return None, None
        key += lengths
        parts.append(np.array(numbers).reshape(len(rows), -1))
    if len(columns) == 1:
        parts.append(np.array(targets)[:, None])
    elif any(map(operator.is_, rows, targets)):
        return None, None
    return tuple(key), np.concatenate(parts, 1)


def _step(model: Callable[[Any], Any], loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The function of a row and its target that is compiled."""

    def step(x: Any, target: Any) -> tuple[Any, Any]:
        prediction = model(x)
        return prediction, loss(prediction, target)

    return step


def _floats(tree: Any) -> Any:
    """The same with floats for all real numbers, and lists for arrays."""
    if trees.is_array(tree):
        tree = tree.tolist()
    if type(tree) is list and all(type(x) is float for x in tree):
        return tree
    return trees.rebuilt(tree, iter([float(x) if isinstance(x, Real) else x for x in trees.leaves(tree)]))


def _as_it_is(target: Any) -> Any:
    return target

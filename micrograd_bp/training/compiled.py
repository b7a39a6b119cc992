"""Training compiled: the mean loss of a batch of rows, with its gradient left in `grad`, as `training.fit` needs it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

from micrograd_bp import losses
from micrograd_bp._engine import trees
from micrograd_bp.compiler.arrays import SMALL
from micrograd_bp.compiler.functions import Compiled, GuardedProgram, Scan, Signature
from micrograd_bp.compiler.machine import host
from micrograd_bp.value import Value, engine_name, topological_order

BatchSweep: TypeAlias = Callable[[list[Any], list[Any]], tuple[float, list[Any]]]
# Seconds: a node of a row by the eager engine, compiling, compiling for a node, and finding arrays for a node.
EAGER, STARTING, STRAIGHT, FINDING = {"accelerated": 0.12e-6, "pure": 3e-6}, 0.1, 0.3e-3, 10e-6
PROGRAMS = 64  # that are compiled for one model and loss


def compiled_sweep(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    eager: Callable[[Callable[[Any, Any], Any]], BatchSweep],
    work: int | None = None,
) -> BatchSweep:
    """A function (rows, targets) -> (mean loss, predictions) that adds the mean's gradient to the grads of leaves.

    It gives what `eager(loss)`, a function of the same signature, gives, but records and compiles `loss(model(x),
    target)`. The eager function is called where that is impossible: without llvmlite, and for rows whose numbers are
    not finite. Rows are lists (of lists) of numbers, or arrays, which are passed to the model as lists. A user's loss
    gets a target as it is: an int as an int, and a float as a Value, whose comparisons become guards. work: the number
    of rows in the whole run; nothing is compiled where compiling would take longer than it saves. None: always compile.
    """
    return eager(loss) if host() is None else _Compiled(model, loss, eager, work)


class _Compiled:
    """Rows are grouped by structure: rows of one group and their targets differ in their floats only."""

    def __init__(
        self,
        model: Callable[[Any], Any],
        loss: Callable[[Any, Any], Any],
        eager: Callable[[Callable[[Any, Any], Any]], BatchSweep],
        work: int | None,
    ) -> None:
        self.model, self.loss, self.swept, self.eager, self.work = model, loss, eager, eager(loss), work
        self.pays: bool | None = None if work is not None else True  # compiling; None: not known yet
        self.encode: Callable[[Any], Any] | None = None  # a target as numbers that vary; found at the first row
        self.step = Compiled(_step(model, loss), False, PROGRAMS)
        self.step.single = False
        self.step.pays = 0  # compiled at once, so that a resumed run has the bits of the whole one

    def __call__(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        import numpy as np

        if not self.pays:
            return self._first(rows, targets) if self.pays is None else self.eager(rows, targets)
        if self.encode is None:
            self.encode = self._encoding(rows[0], targets[0])
        errors, predictions = [0.0] * len(rows), [None] * len(rows)
        groups: dict[Any, tuple[Signature | None, tuple[Any, Any], list[int], list[list[float]]]] = {}
        for i, (x, target) in enumerate(zip(rows, targets)):
            args = _floats(x), self.encode(target)
            key, numbers = _plain_key(*args)
            group = groups.get(key) if key is not None else None
            if group is None:
                scan = Scan()
                full = scan.key((args, {}))
                key, numbers = full if key is None else key, scan.numbers
                group = groups.get(key)
                if group is None:
                    group = groups[key] = self.step.signature(full, args, {}, scan), args, [], []
            group[2].append(i)
            group[3].append(numbers)
        again: list[int] = []
        scale = 1.0 / len(rows)

        def once(i: int, found: tuple[Any, Any] | None = None) -> None:
            """Compute one row eagerly. A model or loss may have side effects, so it is called once."""
            predictions[i], error = found or self.step.function(rows[i], targets[i])
            if not isinstance(error, Value):
                raise TypeError(f"the loss gives {error!r}, which has no gradient; is the model frozen?")
            error.backward(scale)
            errors[i] = error.data

        for signature, args, places, numbers_of_rows in groups.values():
            if signature is not None and signature.faithful and not signature.paths:
                found, path = self.step.record(signature, numbers_of_rows[0], args, {})
                if path is None and not signature.faithful:
                    once(places[0], found)
                    places, numbers_of_rows = places[1:], numbers_of_rows[1:]
            if signature is not None and not signature.faithful:
                for i in places:
                    once(i)
                continue
            matrix = np.array(numbers_of_rows)
            batch = self.step.rows(signature, list(np.ascontiguousarray(matrix.T)), len(matrix), args)
            for k, result in enumerate(batch.results):
                mine = np.nonzero(batch.result == k)[0]
                for j, column in zip(mine.tolist(), batch.out[result.rows()[0]][:, mine].T.tolist()):
                    predictions[places[j]], errors[places[j]] = result.rebuilt(column)
            # Paths are ordered by their first rows, not by when they were recorded, which differs in a resumed run.
            for k in dict.fromkeys(batch.taken.tolist()):
                chosen = np.nonzero(batch.taken == k)[0]
                if k < 0 or signature is None:
                    again += [places[j] for j in chosen.tolist()]
                else:
                    _add_gradient(signature.paths[k], matrix[chosen], scale)
        for i in again:
            self.loss(self.model(rows[i]), targets[i]).backward(scale)
        return math.fsum(errors) / len(rows), predictions

    def _first(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        """Compute the first batch eagerly, and decide by its number of nodes whether compiling pays."""
        assert self.work is not None
        counts: list[int] = []

        def counted(prediction: Any, target: Any) -> Any:
            error = self.loss(prediction, target)
            if not counts and isinstance(error, Value):
                counts.append(len(topological_order(error)))
            return error

        found = self.swept(counted)(rows, targets)
        nodes = counts[0]
        eager = self.work * nodes * EAGER[engine_name()]
        straight = STARTING + nodes * STRAIGHT < eager
        self.pays = straight or (nodes >= SMALL and nodes * FINDING < eager)
        self.step.pays = 0 if straight else sys.maxsize  # then arrays are compiled, but no straight-line code
        return found

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


def _plain_key(x: Any, target: Any) -> tuple[Any, list[float]]:
    """The key of a row of floats, which is its length, and its numbers; (None, []) if it is anything else."""
    if type(x) is list and set(map(type, x)) == {float}:
        if type(target) is float:
            return len(x), [*x, target]
        if type(target) is list and target is not x and set(map(type, target)) == {float}:
            return (len(x), len(target)), x + target
    return None, []


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


def _add_gradient(path: GuardedProgram, matrix: Any, scale: float) -> None:
    """Add the gradient of the path's last output, summed over the rows, to the grads."""
    slopes = path.kernel(len(path.program.outputs) - 1).value_and_grad(matrix, reduction="sum")[1]
    for leaf, slope in zip(path.leaves, slopes.tolist()):
        if leaf.op is None:
            leaf.grad += scale * slope
        else:  # recorded outside the model: continue backward from it
            leaf.backward(scale * slope)

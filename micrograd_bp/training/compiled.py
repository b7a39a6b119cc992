"""Training compiled: the mean loss of a batch of rows, with its gradient left in `grad`, as `training.fit` needs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

from micrograd_bp import losses
from micrograd_bp._engine import trees
from micrograd_bp.compiler.functions import Compiled, Path, Scan, Signature
from micrograd_bp.compiler.machine import host
from micrograd_bp.value import Value

Sweep: TypeAlias = Callable[[list[Any], list[Any]], tuple[float, list[Any]]]
PROGRAMS = 64  # that are compiled for one model and loss


def compiled_sweep(model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], eager: Sweep) -> Sweep:
    """A function (rows, targets) -> (mean loss, predictions) that adds the mean's gradient to the grads of leaves.

    It does what `eager`, which has the same signature, does, by `loss(model(x), target)` recorded and compiled; eager
    serves where that cannot be: without llvmlite, and for rows with numbers that are not finite. Rows are lists (of
    lists) of numbers, or arrays, which the model then gets as lists. A loss of one's own gets a target as it is: an
    int as the int, and a float as a Value, what it asks of which is a guard.
    """
    return eager if host() is None else _Compiled(model, loss, eager)


class _Compiled:
    """Rows go in groups that are built alike, and whose targets are alike but for their floats."""

    def __init__(self, model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], eager: Sweep) -> None:
        self.model, self.loss, self.eager = model, loss, eager
        self.encode: Callable[[Any], Any] | None = None  # a target as numbers that vary; found at the first row
        self.step = Compiled(_step(model, loss), False, PROGRAMS)
        self.step.pays = 0  # compiled at once, so that a resumed run has the bits of the whole one

    def __call__(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        import numpy as np

        if self.encode is None:
            self.encode = self._encoding(rows[0], targets[0])
        errors, predictions = [0.0] * len(rows), [None] * len(rows)
        groups: dict[Any, tuple[Signature | None, tuple[Any, Any], list[int], list[list[float]]]] = {}
        for i, (x, target) in enumerate(zip(rows, targets)):
            args = _floats(x), self.encode(target)
            scan = Scan()
            key = scan.key((args, {}))
            group = groups.get(key)
            if group is None:
                group = groups[key] = self.step.signature(key, args, {}, scan), args, [], []
            group[2].append(i)
            group[3].append(scan.numbers)
        again: list[int] = []
        scale = 1.0 / len(rows)

        def once(i: int, found: tuple[Any, Any] | None = None) -> None:
            """A row by the eager engine, whose model or loss may do more than compute: it is called once."""
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
            # Paths by their first rows, not in the order of their recording: a run that is resumed has another.
            for k in dict.fromkeys(batch.taken.tolist()):
                chosen = np.nonzero(batch.taken == k)[0]
                if k < 0 or signature is None:
                    again += [places[j] for j in chosen.tolist()]
                else:
                    _add_gradient(signature.paths[k], matrix[chosen], scale)
        for i in again:
            self.loss(self.model(rows[i]), targets[i]).backward(scale)
        return math.fsum(errors) / len(rows), predictions

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


def _add_gradient(path: Path, matrix: Any, scale: float) -> None:
    """Add the gradient of the path's last output, summed over the rows, to the grads."""
    slopes = path.kernel(len(path.program.outputs) - 1).value_and_grad(matrix, reduction="sum")[1]
    for leaf, slope in zip(path.leaves, slopes.tolist()):
        if leaf.op is None:
            leaf.grad += scale * slope
        else:  # made before: backward goes on from it
            leaf.backward(scale * slope)

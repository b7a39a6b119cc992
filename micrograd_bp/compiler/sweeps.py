"""Training compiled: the mean loss of a batch of rows, with its gradient left in `grad`, as `training.fit` needs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

from micrograd_bp import _trees
from micrograd_bp.compiler.functions import Compiled, Path, Signature, scan
from micrograd_bp.compiler.kernels import Kernel
from micrograd_bp.compiler.machine import host
from micrograd_bp.value import Value

Sweep: TypeAlias = Callable[[list[Any], list[Any]], tuple[float, list[Any]]]


def compiled_sweep(model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], eager: Sweep) -> Sweep:
    """A function (rows, targets) -> (mean loss, predictions) that adds the mean's gradient to the grads of leaves.

    It does what `eager`, which has the same signature, does, by `loss(model(x), target)` recorded and compiled; eager
    serves where that cannot be: without llvmlite, and for rows with numbers that are not finite. Rows are lists (of
    lists) of numbers, or arrays, which the model then gets as lists.
    """
    return eager if host() is None else _Compiled(model, loss, eager)


class _Compiled:
    """Rows go in groups that are built alike; a target that the loss does not take as a Value is part of a program."""

    def __init__(self, model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], eager: Sweep) -> None:
        self.model, self.loss, self.eager = model, loss, eager
        self.encode: Callable[[Any], Any] | None = None  # a target as numbers that vary; found at the first row
        self.steps: dict[Any, Compiled] = {}

    def __call__(self, rows: list[Any], targets: list[Any]) -> tuple[float, list[Any]]:
        import numpy as np

        rows = [x.tolist() if _trees.is_array(x) else x for x in rows]
        if self.encode is None:
            self.encode = self._encoding(rows[0], targets[0])
        errors, predictions = [0.0] * len(rows), [None] * len(rows)
        groups: dict[Any, tuple[Compiled, Signature, list[int], list[list[float]]]] = {}
        for i, (x, target) in enumerate(zip(rows, targets)):
            fixed, varying = (None, self.encode(target)) if self.encode is not _fixed else (target, None)
            step = self.steps.get(fixed)
            if step is None:
                step = self.steps[fixed] = Compiled(self._step(fixed), False, 64)
            numbers: list[float] = []
            args = (x,) if varying is None else (x, varying)
            key = scan((args, {}), numbers, [])
            group = groups.get((fixed, key))
            if group is None:
                group = groups[fixed, key] = step, step.signature(args, {}, key, len(numbers)), [], []
            group[2].append(i)
            group[3].append(numbers)
        again: list[int] = []
        for step, signature, places, numbers_of_rows in groups.values():
            matrix = np.array(numbers_of_rows)
            batch = step.rows(signature, list(np.ascontiguousarray(matrix.T)), len(matrix))
            result = batch.results[0]
            for i, column in zip(places, batch.out.T.tolist()):
                predictions[i], errors[i] = result.rebuilt(column)
            for k in np.unique(batch.taken).tolist():
                chosen = np.nonzero(batch.taken == k)[0]
                if k < 0:
                    again += [places[j] for j in chosen.tolist()]
                else:
                    _add_gradient(signature.paths[k], matrix[chosen], 1.0 / len(rows))
        for i in again:
            self._eager_row(rows[i], targets[i], 1.0 / len(rows))
        return math.fsum(errors) / len(rows), predictions

    def _step(self, fixed: Any) -> Callable[..., tuple[Any, Any]]:
        def step(x: Any, target: Any = fixed) -> tuple[Any, Any]:
            prediction = self.model(x)
            return prediction, self.loss(prediction, target)

        return step

    def _encoding(self, x: Any, target: Any) -> Callable[[Any], Any]:
        """How a target is given to the compiled program: as it is, as a one-hot list, or as part of the program.

        A class's number may be given as its one-hot list where the loss says the same of both, for every class.
        """
        prediction = self.model(x)
        plain = _data(self.loss(prediction, target))
        if not all(isinstance(x, Real) for x in _trees.leaves(target)):
            return _fixed
        if _agrees(self.loss, prediction, _valued(target), plain):
            return _plain
        classes = len(prediction) if isinstance(prediction, list) else 0
        if isinstance(target, int) and 0 <= target < classes:
            hots = [[float(k == j) for j in range(classes)] for k in range(classes)]
            plains = [_data(self.loss(prediction, k)) for k in range(classes)]
            if all(_agrees(self.loss, prediction, _valued(hot), x) for hot, x in zip(hots, plains)):
                return lambda k: hots[k]
        return _fixed

    def _eager_row(self, x: Any, target: Any, scale: float) -> None:
        error = self.loss(self.model(x), target)
        error.backward(scale)


def _add_gradient(path: Path, matrix: Any, scale: float) -> None:
    """Add the gradient of the path's last output, summed over the rows, to the grads."""
    if path.gradient is None:
        program = path.program
        last = len(program.outputs) - len(path.expected) - 1
        loss = program.with_outputs([program.outputs[last]])
        path.gradient = Kernel(loss, path.result.point, path.leaves, len(path.leaves), True, path.exact)
    slopes = path.gradient.value_and_grad(matrix, reduction="sum")[1]
    for leaf, slope in zip(path.leaves, slopes.tolist()):
        leaf.grad += scale * slope


def _agrees(loss: Callable[[Any, Any], Any], prediction: Any, target: Any, expected: Any) -> bool:
    """Whether the loss takes this form of the target, for the same value."""
    try:
        found = _data(loss(prediction, target))
    except (TypeError, ValueError, AttributeError, IndexError):
        return False
    return bool(abs(found - expected) <= 1e-12 * max(1.0, abs(expected)))


def _valued(target: Any) -> Any:
    """A target whose numbers are Values."""
    return _trees.rebuilt(target, (Value(x) for x in _trees.leaves(target)))


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Value) else x


def _plain(target: Any) -> Any:
    return target


def _fixed(target: Any) -> Any:
    return target

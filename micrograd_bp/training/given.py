"""Checks the arguments of `fit`, and turns rows and targets from lists, arrays and frames into lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from micrograd_bp import losses, nn
from micrograd_bp._engine import tables, trees
from micrograd_bp.optim import Optimizer

NO_NUMBERS = {str, type(None)}


def check_arguments(model: Any, loss: Any, optimizer: Any, metrics: Any) -> None:
    """Raise TypeError if one of the arguments is something else, such as a class for an optimizer."""
    if not callable(model):
        raise TypeError(f"a model is a function of a row, such as nn.MLP(2, [8, 1]), not {model!r}")
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"a loss is a function (prediction, target), such as losses.mse, not {loss!r}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"an optimizer is made of parameters: optim.Adam(model.parameters()), not {optimizer!r}")
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f'metrics are functions by name, {{"accuracy": training.accuracy}} say, not {metrics!r}')
    for name, metric in (metrics or {}).items():
        if not callable(metric):
            raise TypeError(f"metric {name!r} is a function (predictions, targets), not {metric!r}")


def pairs(X: Any, y: Any, model: Any = None, loss: Any = None, place: str = "") -> tuple[list[Any], list[Any]]:
    """Rows and targets as lists, checked; arrays and frames are turned into lists of plain numbers."""
    if isinstance(y, str):
        if not tables.is_frame(X):
            raise TypeError(f"{place}y is {y!r}; the name of a column goes with a frame X")
        if y not in X.columns:
            raise ValueError(f"{place}X has no column {y!r}; there are {', '.join(map(repr, X.columns))}")
        columns = [name for name in X.columns if name != y]
        rows, targets = _rows(X, columns, model, f"{place}X"), tables.listed(X[y])
    else:
        rows = _rows(X, None, model, f"{place}X") if tables.is_frame(X) else _listed(X, f"{place}X")
        targets = _listed(y, f"{place}y")
    if len(rows) != len(targets):
        raise ValueError(f"{place}X has {len(rows)} rows, but y has {len(targets)}")
    if not rows:
        raise ValueError(f"{place}there are no rows")
    _check_rows(rows, model, place)
    for i, target in enumerate(targets):
        if isinstance(target, str) and getattr(loss, "__module__", "") == losses.__name__:
            remedy = "number the classes, as datasets.from_frame and read_csv do, or y = [classes.index(t) for t in y]"
            raise TypeError(f"{place}y[{i}] is the text {target!r}; {remedy}")
    return rows, targets


def _rows(frame: Any, columns: list[str] | None, model: Any, name: str) -> list[Any]:
    """The rows of a frame, with the given columns in their order, or with those that the model's input names say."""
    names = getattr(model, "names", None)
    if isinstance(names, nn.Names):
        return tables.rows_for(tables.of_frame(frame, name), names.features).X
    return tables.rows_of_frame(frame, columns, name)


def _listed(part: Any, name: str) -> list[Any]:
    if tables.is_frame(part):
        rows: list[Any] = tables.rows_of_frame(part, None, name)
        return [row[0] for row in rows] if name.endswith("y") and rows and len(rows[0]) == 1 else rows
    if isinstance(part, str) or not hasattr(part, "__iter__"):
        raise TypeError(f"{name} is a list, an array or a frame, not {part!r}")
    return tables.listed(part)


def _check_rows(rows: list[Any], model: Any, place: str) -> None:
    """Raise ValueError or TypeError if a row is not a list of as many numbers as the network takes."""
    count = nn.inputs(model) if isinstance(model, nn.Module) else None
    if count is None:
        return
    for i, row in enumerate(rows):
        if not hasattr(row, "__len__") or isinstance(row, str):
            lists = "; make rows of the numbers: [[x] for x in X]" if isinstance(row, float | int) else ""
            raise TypeError(f"{place}row {i} of X is {row!r}, not a list of {count} numbers{lists}")
        if len(row) != count:
            others = f", and row 0 has {len(rows[0])}" if i else ""
            raise ValueError(f"{place}row {i} of X has {len(row)} numbers, but the model takes {count}{others}")
        if not NO_NUMBERS.isdisjoint(map(type, row)):
            k, odd = next((k, x) for k, x in enumerate(row) if type(x) in NO_NUMBERS)
            raise TypeError(f"{place}X[{i}][{k}] is {odd!r}, which is no number: leave such rows out, or fill them")


def not_finite(x: Any, at: str) -> str:
    """The place and value of the first number in a row that is not finite; "" if all are finite."""
    for place, number in zip(trees.locations(x, at), trees.entries(x)):
        if isinstance(number, float) and not math.isfinite(number):
            return f"{place} is {number}"
    return ""

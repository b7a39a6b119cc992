"""Small data to learn from: iris, exclusive or, moons and spirals, and tables of one's own.

>>> flowers = iris()
>>> len(flowers.X), flowers.classes
(150, ['setosa', 'versicolor', 'virginica'])
>>> train, test = flowers.split(0.3, random.Random(0))
>>> len(train.X), len(test.X)
(105, 45)
"""

from __future__ import annotations

import csv
import io
import math
import os
import pkgutil
import random
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple


class Dataset(NamedTuple):
    """Rows of numbers `X`, the class of each as a whole number `y`, and the names of columns and classes."""

    X: list[list[float]]
    y: list[int]
    features: list[str]
    classes: list[str]

    def split(self, test: float = 0.3, rng: random.Random | None = None) -> tuple[Dataset, Dataset]:
        """The rows to learn from and the rows held out, shuffled; every class gives the same share of its rows.

        `test` is the share held out, `rng` the source of randomness (by default one seeded with 0). ValueError: the
        share is not between 0 and 1, or leaves one side without rows.

        >>> train, test = iris().split(0.2)
        >>> [test.y.count(k) for k in range(3)]
        [10, 10, 10]
        """
        if not 0.0 < test < 1.0:
            raise ValueError(f"the share held out lies between 0 and 1, not at {test!r}")
        order = list(range(len(self.X)))
        _source(rng).shuffle(order)
        rows_of = [[i for i in order if self.y[i] == k] for k in range(len(self.classes))]
        held = {i for rows in rows_of for i in rows[: round(test * len(rows))]}
        sides = [[i for i in order if (i in held) is side] for side in (False, True)]
        if not all(sides):
            raise ValueError(f"{len(order)} rows are too few to hold out {test:g} of each class")
        train, out = (self._replace(X=[self.X[i] for i in side], y=[self.y[i] for i in side]) for side in sides)
        return train, out


def iris() -> Dataset:
    """Fisher's 150 irises: four lengths in cm, three species (Annals of Eugenics 7, 1936, pp. 179-188).

    The table is Fisher's own, without the two errors (rows 35 and 38) of the copy in the UCI repository.

    >>> iris().X[34]
    [4.9, 3.1, 1.5, 0.2]
    """
    content = pkgutil.get_data("micrograd_bp", "data/iris.csv") or b""  # importlib.resources takes 10 ms to import
    return _table(content.decode(), "iris.csv", "species", ())


def xor() -> Dataset:
    """Exclusive or: four rows that no line divides.

    >>> xor().X, xor().y
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    return Dataset([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0], ["a", "b"], ["0", "1"])


def moons(n: int = 100, noise: float = 0.1, rng: random.Random | None = None) -> Dataset:
    """n points on two half circles that reach into each other, with normal noise of that standard deviation.

    `rng` is the source of randomness (by default one seeded with 0).

    >>> moons(4, noise=0.0).X[0]
    [1.0, 0.0]
    """
    source = _source(rng)

    def point(half: int, part: float) -> tuple[float, float]:
        x, y = math.cos(math.pi * part), math.sin(math.pi * part)
        return (1.0 - x, 0.5 - y) if half else (x, y)

    return _curves(point, ["outer", "inner"], n, noise, source)


def spirals(
    n: int = 100, arms: int = 2, noise: float = 0.05, turns: float = 1.0, rng: random.Random | None = None
) -> Dataset:
    """n points on so many arms of a spiral in the unit circle, each of so many turns; the rest as for `moons`.

    >>> len(spirals(90, arms=3).classes)
    3
    """
    source = _source(rng)

    def point(arm: int, part: float) -> tuple[float, float]:
        angle = 2.0 * math.pi * (turns * part + arm / arms)
        return part * math.cos(angle), part * math.sin(angle)

    return _curves(point, [f"arm {k}" for k in range(arms)], n, noise, source)


def read_csv(path: str | os.PathLike[str], target: str | None = None, ignore: Collection[str] = ()) -> Dataset:
    """A table of one's own: a line of column names, then rows of numbers with a label in the column `target`.

    The target is by default the last column; columns in `ignore` are passed over. Cells are divided by commas,
    semicolons or tabs, whichever the first line has most of. ValueError: the file is no such table; the message names
    file, line and column.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "fruit.csv")
    ...     _ = path.write_text("weight,kind\\n150,apple\\n170,apple\\n5,cherry\\n")
    ...     read_csv(path, target="kind")
    Dataset(X=[[150.0], [170.0], [5.0]], y=[0, 0, 1], features=['weight'], classes=['apple', 'cherry'])
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{os.fspath(path)}, line {line}: not UTF-8 text") from None
    return _table(text, os.fspath(path), target, ignore)


def statistics(X: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation (that of the rows as a whole population) of every column.

    A column that is the same everywhere gets 1 for its deviation. The two lists are what `nn.Standardize` takes.
    ValueError: there are no rows.

    >>> statistics([[1.0, 7.0], [3.0, 7.0]])
    ([2.0, 7.0], [1.0, 1.0])
    """
    if not len(X):
        raise ValueError("no rows to take a mean of")
    columns = list(zip(*X, strict=True))
    means = [math.fsum(column) / len(column) for column in columns]
    scales = [
        math.hypot(*[x - mean for x in column]) / math.sqrt(len(column)) if min(column) < max(column) else 1.0
        for column, mean in zip(columns, means, strict=True)
    ]
    return means, scales


def standardize(train: Sequence[Sequence[float]], *others: Sequence[Sequence[float]]) -> list[list[list[float]]]:
    """The rows with mean 0 and deviation 1 in every column, and others moved and scaled by the same numbers.

    >>> standardize([[1.0], [3.0]], [[2.0], [5.0]])
    [[[-1.0], [1.0]], [[0.0], [3.0]]]
    """
    means, scales = statistics(train)
    return [
        [[(x - mean) / scale for x, mean, scale in zip(row, means, scales, strict=True)] for row in rows]
        for rows in (train, *others)
    ]


def _source(rng: random.Random | None) -> random.Random:
    return random.Random(0) if rng is None else rng


def _curves(
    point: Callable[[int, float], tuple[float, float]], classes: list[str], n: int, noise: float, rng: random.Random
) -> Dataset:
    """n points, evenly along one curve for each class, with noise."""
    X, y = [], []
    for k in range(len(classes)):
        count = len(range(k, n, len(classes)))
        for i in range(count):
            x = point(k, i / (count - 1) if count > 1 else 0.0)
            X.append([coordinate + rng.gauss(0.0, noise) for coordinate in x])
            y.append(k)
    return Dataset(X, y, ["x", "y"], classes)


def _table(text: str, name: str, target: str | None, ignore: Collection[str]) -> Dataset:
    first_line = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first_line.count), strict=True)
    X, labels = [], []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        features, target = _columns(header, target, ignore, f"{name}, line 1")
        for cells in reader:
            if not cells:
                continue
            line = f"{name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise ValueError(f"{line}: {len(cells)} cells, but the first line names {len(header)} columns")
            row = dict(zip(header, cells, strict=True))
            X.append([_cell(row[column], f"{line}, column {column!r}") for column in features])
            labels.append(row[target].strip())
            if not labels[-1]:
                raise ValueError(f"{line}, column {target!r}: the label is missing")
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
    if len(set(labels)) < 2:
        found = f"every row has {labels[0]!r}" if labels else "there are no rows"
        raise ValueError(f"{name}, column {target!r}: two classes or more are needed, but {found}")
    classes = _sorted(set(labels))
    number = {label: k for k, label in enumerate(classes)}
    return Dataset(X, [number[label] for label in labels], features, classes)


def _columns(header: list[str], target: str | None, ignore: Collection[str], line: str) -> tuple[list[str], str]:
    if len(header) < 2:
        raise ValueError(f"{line}: the names of two columns or more are needed, divided by commas")
    if all(map(_is_number, header)):
        raise ValueError(f"{line}: numbers, where the names of the columns should be")
    for i, column in enumerate(header):
        if column in header[:i]:
            raise ValueError(f"{line}: two columns are called {column!r}")
    target = header[-1] if target is None else target
    for column in (target, *ignore):
        if column not in header:
            raise ValueError(f"{line}: no column {column!r}; there are {', '.join(map(repr, header))}")
    features = [column for column in header if column != target and column not in ignore]
    if not features:
        raise ValueError(f"{line}: no column is left beside the target")
    return features, target


def _cell(text: str, place: str) -> float:
    if not _is_number(text):
        raise ValueError(f"{place}: {text!r} is no number" if text.strip() else f"{place}: a number is missing")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{place}: {text!r} is not finite")
    return number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sorted(labels: Collection[str]) -> list[str]:
    return sorted(labels, key=lambda label: (float(label), label)) if all(map(_is_number, labels)) else sorted(labels)

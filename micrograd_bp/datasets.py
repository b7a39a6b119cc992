"""Small data sets to learn from: iris, exclusive or, moons and spirals, and your own tables.

>>> flowers = iris()
>>> len(flowers.X), flowers.classes
(150, ['setosa', 'versicolor', 'virginica'])
>>> train, test = flowers.split(0.3, random.Random(0))
>>> len(train.X), len(test.X)
(105, 45)
"""

from __future__ import annotations

import math
import os
import pkgutil
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from micrograd_bp._engine import progress as _progress
from micrograd_bp._engine import tables
from micrograd_bp._engine.randomness import checked_rng


class Dataset(NamedTuple):
    """Rows of numbers `X`, the class of each as a whole number `y`, and the names of columns and classes.

    Where there are no `classes`, the task is regression, and `y` holds numbers.

    Args:
        X: A list of numbers for each row.
        y: The number of each row's class, or its target.
        features: What the columns of X are called.
        classes: What the classes are called, in the order of their numbers.

    Example:
        >>> Dataset([[1.0], [2.0]], [0, 1], ["size"], ["small", "large"]).classes[1]
        'large'
    """

    X: list[list[float]]
    y: list[Any]
    features: list[str]
    classes: list[str]

    def split(self, test: float = 0.3, rng: random.Random | None = None) -> tuple[Dataset, Dataset]:
        """The rows to learn from and the rows held out, shuffled; each class gives the same share of its rows.

        `test` is the share held out, between 0 and 1; `rng` the source of randomness (by default one seeded with 0).
        ValueError: the share is not between 0 and 1, or leaves one side without rows.

        >>> train, test = iris().split(0.2)
        >>> [test.y.count(k) for k in range(3)]
        [10, 10, 10]
        """
        if not 0.0 < test < 1.0:
            raise ValueError(f"the share held out lies between 0 and 1, not at {test!r}")
        order = list(range(len(self.X)))
        _source(rng).shuffle(order)
        rows_of = [[i for i in order if self.y[i] == k] for k in range(len(self.classes))] or [order]
        held = {i for rows in rows_of for i in rows[: round(test * len(rows))]}
        sides = [[i for i in order if (i in held) is side] for side in (False, True)]
        if not all(sides):
            raise ValueError(
                f"{len(order)} rows are too few to hold out {test:g} of {'each class' if self.classes else 'them'}"
            )
        train, out = (self._replace(X=[self.X[i] for i in side], y=[self.y[i] for i in side]) for side in sides)
        return train, out


def iris() -> Dataset:
    """Fisher's 150 irises: four lengths in cm, three species.

    Returns:
        150 rows. The table is Fisher's own, without the two errors (rows 35 and 38) of the copy in the UCI repository.

    Source:
        Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7, 1936, pp. 179-188.

    Example:
        >>> iris().X[34]
        [4.9, 3.1, 1.5, 0.2]
    """
    content = pkgutil.get_data("micrograd_bp", "data/iris.csv") or b""  # importlib.resources takes 10 ms to import
    return Dataset(*tables.encoded(tables.parse(content.decode(), "iris.csv"), "species"))


def xor() -> Dataset:
    """Exclusive or: four rows that no line divides.

    Returns:
        Four rows of two numbers, 0 or 1, and whether they differ.

    Example:
        >>> xor().X, xor().y
        ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    return Dataset([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0], ["a", "b"], ["0", "1"])


def moons(n: int = 100, noise: float = 0.1, rng: random.Random | None = None) -> Dataset:
    """Points on two half circles that reach into each other, with normal noise.

    Args:
        n: How many points; the two classes get as many, to one.
        noise: The standard deviation of the noise on each coordinate; the circles have radius 1.
        rng: The source of randomness; by default one seeded with 0.

    Returns:
        So many rows of two coordinates.

    Example:
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
    """Points on the arms of a spiral in the unit circle, with normal noise.

    Args:
        n: How many points; the arms get as many, to one.
        arms: How many arms, each a class.
        noise: The standard deviation of the noise on each coordinate.
        turns: How many turns each arm makes.
        rng: The source of randomness; by default one seeded with 0.

    Returns:
        So many rows of two coordinates.

    Example:
        >>> len(spirals(90, arms=3).classes)
        3
    """
    source = _source(rng)

    def point(arm: int, part: float) -> tuple[float, float]:
        angle = 2.0 * math.pi * (turns * part + arm / arms)
        return part * math.cos(angle), part * math.sin(angle)

    return _curves(point, [f"arm {k}" for k in range(arms)], n, noise, source)


def read_csv(
    path: str | os.PathLike[str],
    target: str | None = None,
    ignore: Collection[str] = (),
    *,
    task: str | None = None,
    missing: str | None = None,
    categories: bool | Collection[str] = False,
    header: bool | None = None,
    encoding: str = "utf-8",
    decimal: str = ".",
    progress: bool | None = None,
) -> Dataset:
    r"""A table in a CSV file: a line of column names, then rows of numbers with a label in one of the columns.

    Cells are divided by commas, semicolons, tabs or bars, whichever the first line has most of.

    Args:
        path: The CSV file.
        target: The column of labels; by default the last.
        ignore: Columns that are passed over.
        task: "classification", whose labels are the classes, or "regression", whose targets are numbers; by default
            regression where the targets are numbers, more than 20 of them or not whole.
        missing: What is done about an empty cell (or `?`, `NA`, `nan`, `null` among numbers): None refuses it, "drop"
            leaves the row out, "mean" puts the mean of the column there.
        categories: True makes of every column of text a column of 0 and 1 for each of its texts, called
            `column=text`; a collection of names does so for these columns, though they hold numbers.
        header: False for a file whose first line is a row, whose columns are then called `column 1` and so on; None
            refuses a first line that looks like one.
        encoding: Of the text.
        decimal: The mark in its numbers, `","` where 2,5 is two and a half.
        progress: A bar on stderr: True, False, or (None) on a terminal once reading has taken a second.

    Returns:
        The rows and their targets; for a regression `classes` is empty.

    Raises:
        ValueError: The file is no such table; the message names file, line and column, and what can be done.
        OSError: It cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "fruit.csv")
        ...     _ = path.write_text("weight,kind\n150,apple\n170,apple\n5,cherry\n")
        ...     read_csv(path, target="kind")
        ...     read_csv(path, target="weight", task="regression", categories=True)[1:]
        Dataset(X=[[150.0], [170.0], [5.0]], y=[0, 0, 1], features=['weight'], classes=['apple', 'cherry'])
        ([150.0, 170.0, 5.0], ['kind=apple', 'kind=cherry'], [])
    """
    watch = _progress.watch("reading", "line", progress)
    table = tables.read(path, header=header, encoding=encoding, watch=watch)
    options: dict[str, Any] = {"task": task, "missing": missing, "categories": categories, "decimal": decimal}
    return Dataset(*tables.encoded(table, target, ignore, **options))


def from_frame(
    frame: Any,
    target: str | None = None,
    ignore: Collection[str] = (),
    *,
    task: str | None = None,
    missing: str | None = None,
    categories: bool | Collection[str] = False,
) -> Dataset:
    """The rows and targets of a pandas or polars frame.

    Args:
        frame: Columns with names.
        target: As for `read_csv`.
        ignore: As for `read_csv`.
        task: As for `read_csv`.
        missing: As for `read_csv`.
        categories: As for `read_csv`.

    Returns:
        The rows and their targets, as `read_csv` gives them.

    Raises:
        TypeError: It is no frame.
        ValueError: As for `read_csv`.

    Example:
        >>> class Frame(dict):  # as pandas and polars have it
        ...     columns = property(list)
        >>> from_frame(Frame(size=[1.0, 2.0, 3.0], hue=["red", "red", "blue"], price=[1.5, 2.5, 3.5]), categories=True)
        ... # doctest: +NORMALIZE_WHITESPACE
        Dataset(X=[[1.0, 0.0, 1.0], [2.0, 0.0, 1.0], [3.0, 1.0, 0.0]], y=[1.5, 2.5, 3.5],
                features=['size', 'hue=blue', 'hue=red'], classes=[])
    """
    table = tables.of_frame(frame)
    return Dataset(*tables.encoded(table, target, ignore, task=task, missing=missing, categories=categories))


def statistics(X: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation (that of the rows as a whole population) of every column.

    Args:
        X: Rows of numbers.

    Returns:
        The means and the deviations, as `nn.Standardize` takes them; 1 for a column that is the same everywhere.

    Raises:
        ValueError: There are no rows, or they differ in length.

    Example:
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
    """The rows shifted and scaled to mean 0 and deviation 1 in every column, and other rows by the same numbers.

    Args:
        train: Rows of numbers, whose means and deviations are taken.
        *others: More rows.

    Returns:
        A list of rows for each argument.

    Raises:
        ValueError: As for `statistics`.

    Example:
        >>> standardize([[1.0], [3.0]], [[2.0], [5.0]])
        [[[-1.0], [1.0]], [[0.0], [3.0]]]
    """
    means, scales = statistics(train)
    return [
        [[(x - mean) / scale for x, mean, scale in zip(row, means, scales, strict=True)] for row in rows]
        for rows in (train, *others)
    ]


def _source(rng: random.Random | None) -> random.Random:
    return random.Random(0) if rng is None else checked_rng(rng)


def _curves(
    point: Callable[[int, float], tuple[float, float]], classes: list[str], n: int, noise: float, rng: random.Random
) -> Dataset:
    """n points, spaced evenly along one curve for each class, with noise."""
    X, y = [], []
    for k in range(len(classes)):
        count = len(range(k, n, len(classes)))
        for i in range(count):
            x = point(k, i / (count - 1) if count > 1 else 0.0)
            X.append([coordinate + rng.gauss(0.0, noise) for coordinate in x])
            y.append(k)
    return Dataset(X, y, ["x", "y"], classes)

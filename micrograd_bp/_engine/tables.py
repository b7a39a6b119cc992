"""CSV files and data frames (pandas, polars) as rows of numbers and targets.

Every fault is named with file, line and column, and with what can be done about it.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}  # among numbers; in a column of text only an empty cell is
MANY = 20  # different numbers: a target with more of them is a quantity, not a class
TOO_MANY = 10  # texts: a column with more of them than this, and than half its rows, names the rows


class Table(NamedTuple):
    """Columns of cells by name, and where they come from."""

    name: str
    columns: dict[str, list[Any]]
    lines: Sequence[int]  # of the file, where each row ends; empty for a frame

    def place(self, row: int, column: str) -> str:
        """Where a cell stands, for messages."""
        where = f"line {self.lines[row]}" if self.lines else f"row {row}"
        return f"{self.name}, {where}, column {column!r}"

    def head(self) -> str:
        """Where the names of the columns stand."""
        return f"{self.name}, line 1" if self.lines else self.name


class Encoded(NamedTuple):
    """A table as rows of numbers: `y` numbers the classes, or holds the quantities where there are no classes."""

    X: list[list[float]]
    y: list[Any]
    features: list[str]
    classes: list[str]


# --- reading ------------------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str],
    *,
    header: bool | None = None,
    encoding: str = "utf-8",
    watch: Callable[[Iterator[Any]], Iterable[Any]] = iter,
) -> Table:
    """The table in a CSV file; `watch` goes round the rows, to show how far they are. ValueError: it is none."""
    with open(path, "rb") as file:
        content = file.read()
    name = os.fspath(path)
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        remedy = f'encoding="{"utf-16" if utf16 else "cp1252"}", say, reads it, if it is that'
        raise ValueError(f"{name}, line {line}: not {encoding.upper()} text; {remedy}") from None
    except LookupError:
        raise ValueError(f"{name}: there is no encoding {encoding!r}") from None
    return parse(text, name, header, watch)


def parse(
    text: str, name: str, header: bool | None = None, watch: Callable[[Iterator[Any]], Iterable[Any]] = iter
) -> Table:
    """The table in a text; see `read`."""
    first = re.sub(r'"[^"]*"', "", text.lstrip().split("\n", 1)[0])
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    names: list[str] = []
    try:
        for cells in watch(reader):
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue
            line = reader.line_num
            if not names:
                names = _names(cells, header, f"{name}, line {line}", delimiter)
                if header is not False:
                    continue
            if len(cells) != len(names):
                if len(cells) == len(names) + 1 and not cells[-1].strip():
                    raise ValueError(f"{name}, line {line}: a trailing comma; remove it ({delimiter!r} ends the line)")
                remedy = "a cell that holds the delimiter stands in quotes" if len(cells) > len(names) else ""
                counts = f"{len(cells)} cells, but the first line names {len(names)} columns"
                raise ValueError(f"{name}, line {line}: {counts}{remedy and '; '}{remedy}")
            rows.append(cells)
            lines.append(line)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
    if not names:
        raise ValueError(f"{name}, line 1: the names of two columns or more are needed, divided by commas")
    columns = zip(*rows, strict=True) if rows else itertools.repeat(())
    return Table(name, {column: list(cells) for column, cells in zip(names, columns)}, lines or [1])


def _names(cells: list[str], header: bool | None, line: str, delimiter: str) -> list[str]:
    """The names of the columns, from the first line."""
    names = [cell.strip() for cell in cells]
    if len(names) < 2:
        raise ValueError(f"{line}: the names of two columns or more are needed, divided by commas")
    if header is False:
        return [f"column {k}" for k in range(1, len(names) + 1)]
    numbers = [name for name in names if _is_number(name)]
    if header is None and numbers and (len(numbers) == len(names) or not _counts(numbers)):
        shown = ", ".join(numbers[:3])
        told = "numbers" if len(numbers) == len(names) else f"numbers ({shown})"
        remedy = "header=False calls the columns column 1, column 2, ...; header=True takes the line for their names"
        raise ValueError(f"{line}: {told}, where the names of the columns should be; {remedy}")
    if not names[-1]:
        raise ValueError(f"{line}: a trailing comma ({delimiter!r} ends the line), so the last column has no name")
    if "" in names[1:]:
        raise ValueError(f"{line}: column {names.index('', 1) + 1} has no name")
    for i, column in enumerate(names):
        if column in names[:i]:
            raise ValueError(f"{line}: two columns are called {column!r}")
    return names


def _counts(numbers: list[str]) -> bool:
    """Whether these names number the columns, as 0, 1, 2 or 2019, 2020 do."""
    first = int(numbers[0]) if numbers[0].isdecimal() else 0
    return len(numbers) > 1 and numbers == [str(first + k) for k in range(len(numbers))]


def is_frame(x: Any) -> bool:
    """Whether it is a data frame of pandas or polars."""
    return hasattr(x, "columns") and hasattr(x, "__getitem__") and hasattr(x, "__len__")


def of_frame(frame: Any, name: str = "the frame") -> Table:
    """The table in a frame. TypeError: it is none. ValueError: two of its columns have the same name."""
    if not is_frame(frame):
        kind = type(frame).__name__
        raise TypeError(f"a frame has columns with names, as those of pandas and polars have, not {kind}")
    names = list(map(str, frame.columns))
    for i, column in enumerate(names):
        if column in names[:i]:
            raise ValueError(f"{name}: two columns are called {column!r}")
    return Table(name, {column: listed(frame[key]) for column, key in zip(names, frame.columns)}, ())


def listed(column: Any) -> list[Any]:
    """The entries of a column, an array or another sequence."""
    for method in ("tolist", "to_list"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def rows_of_frame(frame: Any, columns: Sequence[str] | None = None, what: str = "X") -> list[list[float]]:
    """A frame's rows, as they are, of these columns by name. ValueError, TypeError: one is missing, or holds text."""
    table = of_frame(frame)
    wanted = list(table.columns) if columns is None else columns
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        there = ", ".join(map(repr, table.columns))
        raise ValueError(f"{what} has no column {missing[0]!r}; there are {there}")
    found = []
    for name in wanted:
        cells = table.columns[name]
        try:
            found.append([math.nan if is_missing(x) else float(x) for x in cells])
        except (TypeError, ValueError):
            i, odd = next((i, x) for i, x in enumerate(cells) if not is_missing(x) and not _is_number(x))
            text = f"column {name!r} of {what} holds {odd!r} in row {i}"
            raise TypeError(
                f"{text}, which is no number; datasets.from_frame makes numbers of columns of text"
            ) from None
    return [list(row) for row in zip(*found, strict=True)]


# --- rows of numbers ----------------------------------------------------------------------------------------------


def encoded(
    table: Table,
    target: str | None,
    ignore: Collection[str] = (),
    *,
    task: str | None = None,
    missing: str | None = None,
    categories: bool | Collection[str] = False,
    decimal: str = ".",
) -> Encoded:
    """The rows and targets of a table; see `datasets.read_csv`."""
    if task not in (None, "classification", "regression"):
        raise ValueError(f'task is "classification", "regression" or None, not {task!r}')
    if missing not in (None, "drop", "mean"):
        raise ValueError(f'missing is "drop", "mean" or None, not {missing!r}')
    ignore = {ignore} if isinstance(ignore, str) else ignore
    names, target = _chosen(table, target, ignore, categories)
    features: list[str] = []
    columns: list[list[float | None]] = []
    for name in names:
        new_names, new_columns = _column(table, name, categories, decimal, missing)
        features += new_names
        columns += new_columns
    labels = ["" if is_missing(x, False) else x.strip() if isinstance(x, str) else x for x in table.columns[target]]
    kept = list(range(len(labels)))
    if missing == "drop":
        kept = [i for i in kept if labels[i] != "" and all(column[i] is not None for column in columns)]
        if labels and not kept:
            raise ValueError(f"{table.name}: every row lacks a number; ignore the columns that have the fewest")
    elif "" in labels:
        place = table.place(labels.index(""), target)
        raise ValueError(f'{place}: the label is missing; missing="drop" leaves such rows out')
    filled = [_filled(column, kept) for column in columns]
    X = [list(row) for row in zip(*filled, strict=True)]
    y, classes = _targets(table, target, [labels[i] for i in kept], kept, task, decimal)
    return Encoded(X, y, features, classes)


def rows_for(
    table: Table,
    features: Sequence[str],
    *,
    missing: str | None = None,
    means: Sequence[float] = (),
    decimal: str = ".",
) -> Encoded:
    """The rows of a table that lacks a target, with the features of a model that was trained on another.

    A feature `column=text` is 1 where the column holds that text. `y` is the number of each row in the table. `means`
    are those of the features in the table that the model was trained on; for what is missing here.
    """
    if missing == "mean" and len(means) != len(features):
        raise ValueError(f'{table.name}: missing="mean" takes a model that begins with nn.Standardize, and knows means')
    texts: dict[str, list[str]] = {}  # by column: the texts that have a feature
    columns: dict[str, list[float | None]] = {}
    for feature in features:
        if feature in table.columns:
            columns[feature] = _numbers(table, feature, table.columns[feature], decimal, missing)
            continue
        cuts = [i for i, character in enumerate(feature) if character == "="]
        column = next((feature[:i] for i in reversed(cuts) if feature[:i] in table.columns), None)
        if column is None:
            there = ", ".join(map(repr, table.columns))
            raise ValueError(f"{table.head()}: the model takes {feature!r}, but the columns are {there}")
        texts.setdefault(column, []).append(feature[len(column) + 1 :])
    for column, found in texts.items():
        columns |= zip([f"{column}={text}" for text in found], _hot(table, column, found, missing))
    kept = list(range(len(next(iter(table.columns.values())))))
    if missing == "drop":
        kept = [i for i in kept if all(columns[feature][i] is not None for feature in features)]
    filled = [
        [mean if (x := columns[feature][i]) is None else x for i in kept]
        for feature, mean in zip(features, means or [0.0] * len(features))
    ]
    return Encoded([list(row) for row in zip(*filled, strict=True)], kept, list(features), [])


def _chosen(
    table: Table, target: str | None, ignore: Collection[str], categories: bool | Collection[str]
) -> tuple[list[str], str]:
    """The columns of the features, and that of the target."""
    names = list(table.columns)
    target = names[-1] if target is None else target
    for column in (target, *ignore, *(categories if not isinstance(categories, bool) else ())):
        if column not in names:
            raise ValueError(f"{table.head()}: no column {column!r}; there are {', '.join(map(repr, names))}")
    chosen = [name for name in names if name != target and name not in ignore]
    if not chosen:
        raise ValueError(f"{table.head()}: no column is left beside the target")
    if chosen[0] == "":
        remedy = "ignore=[''] leaves it out (pandas writes its index so: df.to_csv(path, index=False))"
        raise ValueError(f"{table.head()}: the first column has no name; {remedy}")
    return chosen, target


def _column(
    table: Table, name: str, categories: bool | Collection[str], decimal: str, missing: str | None
) -> tuple[list[str], list[list[float | None]]]:
    """A column as one of numbers, or as one for each of its texts."""
    cells = table.columns[name]
    if not isinstance(categories, bool) and name in categories:
        pass
    elif categories is not True or all(_is_number(x) or is_missing(x) for x in cells):
        return [name], [_numbers(table, name, cells, decimal, missing)]
    else:
        there = [x for x in cells if not is_missing(x)]
        numbers = sum(map(_is_number, there))
        if 2 * numbers > len(there):
            i = next(i for i, x in enumerate(cells) if not is_missing(x) and not _is_number(x))
            others = f"{numbers} of the column's {len(there)} cells are"
            raise ValueError(f"{table.place(i, name)}: {cells[i]!r} is no number, but {others}")
    texts = _sorted({_text(x) for x in cells if not is_missing(x, False)})
    if len(texts) > TOO_MANY and 2 * len(texts) > len(cells):
        counts = f"{len(texts)} different texts in {len(cells)} rows"
        raise ValueError(
            f"{table.name}, column {name!r}: {counts} tell rows, not kinds; ignore=[{name!r}] leaves it out"
        )
    return [f"{name}={text}" for text in texts], _hot(table, name, texts, missing)


def _hot(table: Table, name: str, texts: list[str], missing: str | None) -> list[list[float | None]]:
    """A column of 0 and 1 for each of the texts."""
    cells = [None if is_missing(x, False) else _text(x) for x in table.columns[name]]
    for i, text in enumerate(cells):
        if text is None and missing is None:
            raise ValueError(f"{table.place(i, name)}: the text is missing; {_MISSING_REMEDY}")
        if text is not None and text not in texts:
            raise ValueError(f"{table.place(i, name)}: {text!r} is none of {', '.join(map(repr, texts))}")
    return [[None if x is None else float(x == text) for x in cells] for text in texts]


_MISSING_REMEDY = 'missing="drop" leaves such rows out, missing="mean" puts the column\'s mean there'


def _numbers(table: Table, name: str, cells: list[Any], decimal: str, missing: str | None) -> list[float | None]:
    """The cells of a column as finite floats, None where they are missing."""
    try:  # the whole column at once: 5 times as fast as cell by cell
        found: list[float | None] = list(map(float, cells))
        if all(map(math.isfinite, found)) and not any("_" in x for x in cells if type(x) is str):  # type: ignore[arg-type]
            return found
    except (TypeError, ValueError):
        pass
    found = []
    for i, cell in enumerate(cells):
        if is_missing(cell):
            if missing is None:
                shown = f" ({cell.strip()!r})" if isinstance(cell, str) and cell.strip() else ""
                raise ValueError(f"{table.place(i, name)}: a number is missing{shown}; {_MISSING_REMEDY}")
            found.append(None)
            continue
        number = _number(cell, decimal)
        if number is None:
            raise ValueError(f"{table.place(i, name)}: {cell!r} is no number; {_remedy(name, cell)}")
        if not math.isfinite(number):
            raise ValueError(f"{table.place(i, name)}: {cell!r} is not finite")
        found.append(number)
    return found


def _remedy(name: str, cell: Any) -> str:
    """What to do about a cell that is no number."""
    if isinstance(cell, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell):
        return 'decimal="," reads decimal commas'
    return f"mend it; or ignore=[{name!r}] leaves the column out, categories=True makes 0 or 1 of each of its texts"


def _filled(column: list[float | None], kept: list[int]) -> list[float]:
    """The rows of a column that are kept, with its mean where a number is missing."""
    there = [x for x in column if x is not None]
    if len(there) == len(column) == len(kept):
        return there
    mean = math.fsum(there) / len(there) if there else 0.0
    return [mean if (x := column[i]) is None else x for i in kept]


def _targets(
    table: Table, target: str, labels: list[Any], kept: list[int], task: str | None, decimal: str
) -> tuple[list[Any], list[str]]:
    """The targets, and the classes that they number: none where they are quantities."""
    numbers = [_number(x, decimal) for x in labels]
    if task is None and labels and all(x is not None for x in numbers):
        whole = all(x == x and abs(x) != math.inf and x == int(x) for x in numbers if x is not None)
        task = "classification" if whole and len(set(labels)) <= MANY else "regression"
    if task == "regression":
        for i, (x, label) in enumerate(zip(numbers, labels)):
            if x is None or not math.isfinite(x):
                what = "is no number" if x is None else "is not finite"
                raise ValueError(f"{table.place(kept[i], target)}: {label!r} {what}, as a target of regression is")
        if not labels:
            raise ValueError(f"{table.name}, column {target!r}: there are no rows")
        return list(numbers), []
    texts = list(map(_text, labels))
    if len(set(texts)) < 2:
        found = f"every row has {texts[0]!r}" if texts else "there are no rows"
        raise ValueError(f"{table.name}, column {target!r}: two classes or more are needed, but {found}")
    classes = _sorted(set(texts))
    number = {label: k for k, label in enumerate(classes)}
    return [number[text] for text in texts], classes


def _number(cell: Any, decimal: str = ".") -> float | None:
    """The cell as a float; None where it is no number."""
    if isinstance(cell, str):
        if "_" in cell:  # which float() takes
            return None
        cell = cell.replace(decimal, ".") if decimal != "." and "." not in cell else cell
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _is_number(cell: Any) -> bool:
    return _number(cell) is not None


def is_missing(cell: Any, among_numbers: bool = True) -> bool:
    """Whether a cell is empty, nan, or one of the words for that."""
    if isinstance(cell, str):
        text = cell.strip()
        return text.lower() in MISSING if among_numbers else not text
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def _text(cell: Any) -> str:
    return cell.strip() if isinstance(cell, str) else str(cell)


def _sorted(labels: Collection[str]) -> list[str]:
    return sorted(labels, key=lambda label: (float(label), label)) if all(map(_is_number, labels)) else sorted(labels)

"""Tables as people have them: what is made of each, or what is said of it. It reads like a table."""
# ruff: noqa: E501  # a case a line

import re
from pathlib import Path
from typing import Any

import pytest

from micrograd_bp import datasets

TWO = ([[1.0, 2.5], [-300.0, 4.0]], [0, 1], ["a", "b"], ["x", "y"])
DROP = 'missing="drop" leaves such rows out, missing="mean" puts the column\'s mean there'
HEADER = "header=False calls the columns column 1, column 2, ...; header=True takes the line for their names"
TEXT = "mend it; or ignore=['a'] leaves the column out, categories=True makes 0 or 1 of each of its texts"

READ = [  # (what the file is, its content, options, what is read)
    ("plain", "a,b,kind\n1,2.5,x\n-3e2,4,y\n", {}, TWO),
    ("Windows", "a,b,kind\r\n1,2.5,x\r\n-3e2,4,y", {}, TWO),
    ("old Mac", "a,b,kind\r1,2.5,x\r-3e2,4,y\r", {}, TWO),
    ("mixed ends", "a,b,kind\r\n1,2.5,x\n-3e2,4,y\r\n", {}, TWO),
    ("Excel's mark", "\ufeffa;b;kind\n1;2.5;x\n-3e2;4;y\n\n\n", {}, TWO),
    ("tabs, quotes", 'a\tb\tkind\n"1"\t 2.5 \t x\n-3e2\t4\t"y"\n', {}, TWO),
    ("bars", "a|b|kind\n1|2.5|x\n-3e2|4|y\n", {}, TWO),
    ("blank lines", "\n \na,b,kind\n\n1,2.5,x\n\n\n-3e2,4,y\n   \n", {}, TWO),
    ("commas in names", '"a, in cm","b, in kg",kind\n1,2.5,x\n-3e2,4,y\n', {}, (*TWO[:2], ["a, in cm", "b, in kg"], ["x", "y"])),
    ("quoted line end", 'a,"b\nin kg",kind\n1,2.5,x\n-3e2,4,y\n', {}, (*TWO[:2], ["a", "b\nin kg"], ["x", "y"])),
    ("target first", "kind , a,b\nx,1,2.5\ny,-3e2,4\n", {"target": "kind"}, TWO),
    ("an id", "id,a,b,kind\nP1,1,2.5,x\nP2,-3e2,4,y\n", {"ignore": ["id"]}, TWO),
    ("one column by name", "id,a,b,kind\nP1,1,2.5,x\nP2,-3e2,4,y\n", {"ignore": "id"}, TWO),
    ("pandas' index", ",a,b,kind\n0,1,2.5,x\n1,-3e2,4,y\n", {"ignore": [""]}, TWO),
    ("decimal commas", "a;b;kind\n1;2,5;x\n-3e2;4,0;y\n", {"decimal": ","}, TWO),
    ("UTF-16", "a\tb\tkind\n1\t2.5\tx\n-3e2\t4\ty\n".encode("utf-16"), {"encoding": "utf-16"}, TWO),
    ("Latin letters", "a,b,größe\n1,2.5,x\n-3e2,4,y\n".encode("cp1252"), {"encoding": "cp1252"}, TWO),
    ("no header", "1,2.5,x\n-3e2,4,y\n", {"header": False}, (*TWO[:2], ["column 1", "column 2"], ["x", "y"])),
    ("numbered columns", "0,1,kind\n1,2.5,x\n-3e2,4,y\n", {}, (*TWO[:2], ["0", "1"], ["x", "y"])),
    ("years for names", "2019,2020,kind\n1,2.5,x\n-3e2,4,y\n", {}, (*TWO[:2], ["2019", "2020"], ["x", "y"])),
    ("numbers for names", "1.5,7,kind\n1,2.5,x\n-3e2,4,y\n", {"header": True}, (*TWO[:2], ["1.5", "7"], ["x", "y"])),
    ("a hole, dropped", "a,b,kind\n1,2.5,x\n,3,x\n-3e2,4,y\n", {"missing": "drop"}, TWO),
    ("a hole in the target, dropped", "a,b,kind\n1,2.5,x\n7,3,\n-3e2,4,y\n", {"missing": "drop"}, TWO),
    ("words for holes, dropped", "a,b,kind\n1,2.5,x\n?,3,x\nNA,3,x\n5,nan,y\n6,N/A,y\n-3e2,4,y\n", {"missing": "drop"}, TWO),
    ("a hole, its column's mean", "a,kind\n1,x\n,x\n4,y\n", {"missing": "mean"}, ([[1.0], [2.5], [4.0]], [0, 0, 1], ["a"], ["x", "y"])),
    ("nothing but holes, 0", "a,b,kind\n1,,x\n4,?,y\n", {"missing": "mean"}, ([[1.0, 0.0], [4.0, 0.0]], [0, 1], ["a", "b"], ["x", "y"])),
    ("texts", "a,hue,kind\n1,red,x\n2,blue,y\n", {"categories": True},
     ([[1.0, 0.0, 1.0], [2.0, 1.0, 0.0]], [0, 1], ["a", "hue=blue", "hue=red"], ["x", "y"])),
    ("numbers as texts", "zip,kind\n10,x\n9,y\n", {"categories": ["zip"]}, ([[0.0, 1.0], [1.0, 0.0]], [0, 1], ["zip=9", "zip=10"], ["x", "y"])),
    ("none, a text", "hue,kind\nnone,x\nred,y\n", {"categories": True}, ([[1.0, 0.0], [0.0, 1.0]], [0, 1], ["hue=none", "hue=red"], ["x", "y"])),
    ("a hole among texts, the shares", "hue,kind\nred,x\n,x\nblue,y\nred,y\n", {"categories": True, "missing": "mean"},
     ([[0.0, 1.0], [1 / 3, 2 / 3], [1.0, 0.0], [0.0, 1.0]], [0, 0, 1, 1], ["hue=blue", "hue=red"], ["x", "y"])),
    ("quantities", "a,price\n1,2.5\n2,3.75\n", {}, ([[1.0], [2.0]], [2.5, 3.75], ["a"], [])),
    ("many whole numbers", "a,n\n" + "".join(f"{k},{k * k}\n" for k in range(21)), {},
     ([[float(k)] for k in range(21)], [float(k * k) for k in range(21)], ["a"], [])),
    ("few whole numbers, as quantities", "a,n\n1,2\n2,3\n", {"task": "regression"}, ([[1.0], [2.0]], [2.0, 3.0], ["a"], [])),
    ("few whole numbers, as classes", "a,n\n1,10\n2,9\n", {}, ([[1.0], [2.0]], [1, 0], ["a"], ["9", "10"])),
    ("quantities, as classes", "a,n\n1,0.5\n2,1.5\n", {"task": "classification"}, ([[1.0], [2.0]], [0, 1], ["a"], ["0.5", "1.5"])),
]  # fmt: skip

REFUSED = [  # (content, options, what is said after the file's name)
    ("", {}, ", line 1: the names of two columns or more are needed, divided by commas"),
    ("\n\n", {}, ", line 1: the names of two columns or more are needed, divided by commas"),
    ("a\n1\n", {}, ", line 1: the names of two columns or more are needed, divided by commas"),
    ("1,2,3\n4,5,6\n", {}, f", line 1: numbers, where the names of the columns should be; {HEADER}"),
    ("5.1,3.5,setosa\n4.9,3.0,other\n", {}, f", line 1: numbers (5.1, 3.5), where the names of the columns should be; {HEADER}"),
    ("a,a,kind\n1,2,x\n", {}, ", line 1: two columns are called 'a'"),
    ("a,b,sort\n1,2,x\n", {"target": "kind"}, ", line 1: no column 'kind'; there are 'a', 'b', 'sort'"),
    ("a,b,sort\n1,2,x\n", {"categories": ["hue"]}, ", line 1: no column 'hue'; there are 'a', 'b', 'sort'"),
    ("id,kind\n1,x\n2,y\n", {"ignore": ["id"]}, ", line 1: no column is left beside the target"),
    (",a,kind\n0,1,x\n1,2,y\n", {}, ", line 1: the first column has no name; ignore=[''] leaves it out (pandas writes its index so: "
     "df.to_csv(path, index=False))"),
    ("a,,kind\n0,1,x\n1,2,y\n", {}, ", line 1: column 2 has no name"),
    ("a,kind,\n1,x,\n2,y,\n", {}, ", line 1: a trailing comma (',' ends the line), so the last column has no name"),
    ("a,kind\n1,x\n2,y,\n", {}, ", line 3: a trailing comma; remove it (',' ends the line)"),
    ("a,kind\n1,x\n\n2\n", {}, ", line 4: 1 cells, but the first line names 2 columns"),
    ("a,kind\n1,x,2\n", {}, ", line 2: 3 cells, but the first line names 2 columns; a cell that holds the delimiter stands in quotes"),
    ("a,kind\n", {}, ", column 'kind': two classes or more are needed, but there are no rows"),
    ("a,n\n", {"task": "regression"}, ", column 'n': there are no rows"),
    ("a,kind\n1,x\n2,x\n", {}, ", column 'kind': two classes or more are needed, but every row has 'x'"),
    ("a,kind\n1,x\n2,y\nabc,x\n", {}, f", line 4, column 'a': 'abc' is no number; {TEXT}"),
    ("a,kind\n1,x\n1_000,y\n", {}, f", line 3, column 'a': '1_000' is no number; {TEXT}"),
    ("a;kind\n1;x\n2,5;y\n", {}, ", line 3, column 'a': '2,5' is no number; decimal=\",\" reads decimal commas"),
    ("a,kind\n1,x\nfour,y\n3,x\n", {"categories": True}, ", line 3, column 'a': 'four' is no number, but 2 of the column's 3 cells are"),
    ("name,kind\n" + "".join(f"n{k},{k % 2}\n" for k in range(12)), {"categories": True},
     ", column 'name': 12 different texts in 12 rows tell rows, not kinds; ignore=['name'] leaves it out"),
    ("a,kind\n1,x\n ,y\n", {}, f", line 3, column 'a': a number is missing; {DROP}"),
    ("a,kind\n1,x\nNA,y\n", {}, f", line 3, column 'a': a number is missing ('NA'); {DROP}"),
    ("a,kind\n1,x\nnan,y\n", {}, f", line 3, column 'a': a number is missing ('nan'); {DROP}"),
    ("hue,kind\nred,x\n,y\n", {"categories": True}, f", line 3, column 'hue': the text is missing; {DROP}"),
    ("a,b,kind\n1,,x\n,2,y\n", {"missing": "drop"}, ": every row lacks a number; ignore the columns that have the fewest"),
    ("a,kind\n1,x\n1e999,y\n", {}, ", line 3, column 'a': '1e999' is not finite"),
    ("a,kind\n1,x\n-inf,y\n", {"missing": "mean"}, ", line 3, column 'a': '-inf' is not finite"),
    ("a,kind\n1,x\n2, \n", {}, ", line 3, column 'kind': the label is missing; missing=\"drop\" leaves such rows out"),
    ("a,kind\n1,x\n2, \n", {"missing": "mean"}, ", line 3, column 'kind': the label is missing; missing=\"drop\" leaves such rows out"),
    ("a,n\n1,1.5\n2,x\n", {"task": "regression"}, ", line 3, column 'n': 'x' is no number, as a target of regression is"),
    ("a,n\n1,1.5\n2,inf\n", {"task": "regression"}, ", line 3, column 'n': 'inf' is not finite, as a target of regression is"),
    ('a,kind\n1,x\n2,"y\n', {}, ", line 3: unexpected end of data"),
    ('a,kind\n"1"2,x\n', {}, ", line 2: ',' expected after '\"'"),
    (b"a,kind\n1,x\n2,\xe9t\xe9\n", {}, ', line 3: not UTF-8 text; encoding="cp1252", say, reads it, if it is that'),
    ("a,kind\n1,x\n".encode("utf-16"), {}, ', line 1: not UTF-8 text; encoding="utf-16", say, reads it, if it is that'),
    ("a,kind\n1,x\n", {"encoding": "klingon"}, ": there is no encoding 'klingon'"),
]  # fmt: skip

OPTIONS = [
    ({"task": "ranking"}, 'task is "classification", "regression" or None, not \'ranking\''),
    ({"missing": "median"}, 'missing is "drop", "mean" or None, not \'median\''),
]


def written(folder: Path, content: Any) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("content", "options", "expected"), [x[1:] for x in READ], ids=[x[0] for x in READ])
def test_a_table_is_read(
    content: bytes | str, options: dict[Any, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    assert datasets.read_csv(written(tmp_path, content), **options) == datasets.Dataset(*expected)


@pytest.mark.parametrize(("content", "options", "message"), REFUSED, ids=[x[2][2:50] for x in REFUSED])
def test_a_table_that_is_refused_is_named_with_place_and_remedy(
    content: bytes | str, options: dict[Any, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(f"{path}{message}") + "$"):
        datasets.read_csv(path, **options)


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_an_option_that_there_is_not(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        datasets.read_csv(written(tmp_path, READ[0][1]), **options)


def test_there_are_many_messy_files() -> None:
    assert len(READ) + len(REFUSED) >= 60


def test_reading_is_watched_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a,kind\n" + "1,x\n2,y\n" * 50)
    datasets.read_csv(path, progress=True)
    assert "reading: 101line" in capsys.readouterr().err
    datasets.read_csv(path)
    assert capsys.readouterr().err == ""

"""Expressions on the command line: what they may say, where a mistake is shown, and what is written."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_bp import Op, Value, ops
from micrograd_bp import math as mg_math
from micrograd_bp.cli import main, parse
from micrograd_bp.value import topological_order

# --- what an expression is ----------------------------------------------------------------------------------------

SCOPE = {name: getattr(mg_math, name) for name in ("sin", "tanh", "exp", "hypot", "pi", "e")}
leaf = st.sampled_from(["a", "b", "2", "0.5", "pi", "1e-3"])
texts = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", " - ", "*", " / ", "//", "%"]), inner).map("".join),
        inner.map(lambda x: f"({x})"),
        inner.map(lambda x: f"-{x}"),
        inner.map(lambda x: f"({x})**2"),
        st.tuples(st.sampled_from(["sin", "tanh", "exp"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(inner, inner).map(lambda x: f"hypot({x[0]}, {x[1]})"),
    ),
    max_leaves=8,
)


@given(texts)
def test_an_expression_means_what_it_means_in_python(text: str) -> None:
    text = f"{text} + 0*a + 0*b"
    a, b = Value(0.7, "a"), Value(-1.3, "b")
    try:
        wanted = eval(text, {"__builtins__": {}}, SCOPE | {"a": a, "b": b})
    except (ArithmeticError, ValueError):
        with pytest.raises(ValueError, match=r"\^"):
            parse.record(text, {"a": 0.7, "b": -1.3})
        return
    given = parse.record(text, {"a": 0.7, "b": -1.3})
    assert given.data == wanted.data
    given.backward()
    wanted.backward()
    names = {node.label: node for node in _leaves(given)}
    assert (names["a"].grad, names["b"].grad) == (a.grad, b.grad)


def _leaves(output: Any) -> list[Value]:
    return [node for node in topological_order(output) if node.op is None]


@pytest.mark.parametrize("op", [op for op in ops.TABLE.values() if op.arity], ids=lambda op: op.name)
def test_every_row_of_the_table_can_be_called(op: Op) -> None:
    values = dict(zip("abc", [min(1.0, op.domain[0][1]), 0.5, 2.0][: op.arity]))
    assert parse.record(f"{op.name}({', '.join(values)})", values).data == op(*values.values())


def test_max_min_and_default_arguments() -> None:
    assert parse.record("max(a, 0) + min(a, 1)", {"a": 3.0}).data == 4.0
    assert parse.record("leaky_relu(a)", {"a": -1.0}).data == -0.01


def test_a_value_goes_before_a_constant_of_the_same_name() -> None:
    assert parse.record("e * pi", {"e": 2.0}).data == 2 * math.pi


def test_leaves_are_labelled_and_shared() -> None:
    output = parse.record("a*a", {"a": 3})
    assert output.operands[0] is output.operands[1]
    assert isinstance(output.operands[0], Value)
    assert output.operands[0].label == "a"


# --- mistakes -----------------------------------------------------------------------------------------------------

MISTAKES = [
    ("a + q", 4, "no value for q; write q=NUMBER"),
    ("a + tanh", 4, r"no value for tanh; write tanh\(...\)"),
    ("a + tahn(a)", 4, "no function tahn; there is tan"),
    ("a + a.__class__", 4, "only numbers, names"),
    ("a + a[0]", 4, "only numbers, names"),
    ("a + 'text'", 4, "only numbers, names"),
    ("a + True", 4, "only numbers, names"),
    ("a + 1j", 4, "only numbers, names"),
    ("a + (a if a else a)", 5, "only numbers, names"),
    ("a + [a][0]", 4, "only numbers, names"),
    ("a + (lambda: a)()", 4, "only numbers, names"),
    ("a == 1", 0, "only numbers, names"),
    ("a and a", 0, "only numbers, names"),
    ("a << 3", 0, "only numbers, names"),
    ("~a", 0, "only numbers, names"),
    ("not a", 0, "only numbers, names"),
    ("f'{a}'", 0, "only numbers, names"),
    ("max(*a)", 4, "only numbers, names"),
    ("tanh(x=a)", 5, "arguments go by their place"),
    ("a + sin(a, a)", 4, r"sin takes 1 argument \(x\), not 2"),
    ("a * (a + ", 4, "was never closed"),
    ("a +* a", 3, "invalid syntax"),
    ("a = 3", 2, "invalid syntax"),
    ("import os", 0, "invalid syntax"),
    ("a + log(-a)", 4, r"log\(-2\.0\): math domain error"),
    ("a + 1/0", 4, r"truediv\(1\.0, 0\.0\): float division by zero"),
    ("a + 9**9**9**9", 7, r"pow\(9\.0, 387420489\.0\): .*out of range"),
    ("a**1000000000", 0, r"pow\(a=2\.0, 1000000000\.0\)"),
    ("a + polygamma(10**9, a)", 4, "order above 200"),
    (f"a + 1{'0' * 400}", 4, "too large"),
    ("é + a", 0, "no value for é"),
    ("a + é + q", 4, "no value for é"),
]


@pytest.mark.parametrize(("text", "column", "message"), MISTAKES)
def test_a_mistake_is_shown_with_a_caret_under_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse.record(text, {"a": 2.0})
    *_, shown, marks = str(caught.value).splitlines()
    assert shown[2:] == text[: len(shown) - 2]
    assert marks.index("^") - 2 == column
    assert set(marks) <= set(" ^~")


def test_a_caret_stands_right_after_other_alphabets_and_in_long_text() -> None:
    with pytest.raises(ValueError, match="no value for q") as caught:
        parse.record("éé*0 + q", {"éé": 1.0})
    assert str(caught.value).endswith("  éé*0 + q\n         ^")
    with pytest.raises(ValueError, match="no value for q") as caught:
        parse.record("+".join(["a"] * 200) + "+q+" + "+".join(["a"] * 200), {"a": 1.0})
    *_, shown, marks = str(caught.value).splitlines()
    assert shown[marks.index("^")] == "q"
    assert len(shown) < 120


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the expression is empty"),
        ("  ", "the expression is empty"),
        ("2 + 3", "a constant: there is no name to differentiate by"),
        ("a" * 10_001, "an expression of 10,001 characters is too long"),
        ("(" * 150 + "a" + ")" * 150, None),
        ("(" * 5000 + "a" + ")" * 4999, "too many nested parentheses"),
        ("-" * 9000 + "a", "nested too deeply"),
        ("a" + "**a" * 3000, "nested too deeply"),
        ("1" * 5000, "Exceeds the limit"),
    ],
)
def test_hostile_sizes_end_at_once(text: str, message: str | None) -> None:
    values = {"a": 1.0} if "a" in text and len(text) < 10_000 else {}
    if message is None:
        assert parse.record(text, values).data == 1.0
    else:
        with pytest.raises(ValueError, match=message):
            parse.record(text, values)


def test_values_that_are_not_used_are_named() -> None:
    with pytest.raises(ValueError, match="b, c: given, but not in the expression a"):
        parse.record("a", {"a": 1.0, "b": 2.0, "c": 3.0})


# --- the command --------------------------------------------------------------------------------------------------


def test_without_a_file_the_trace_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "tanh(a*b + c)", "a=2", "b=-3", "c=6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["forward", "trace", "value", "|", "reverse", "trace", "adjoint"]
    assert [line.split()[-1] for line in lines[2:]] == ["-3", "2", "1", "1", "1", "1"]


def test_an_expression_may_begin_with_a_minus_sign(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "-a*b", "a=2", "b=-3"]) == 0
    assert "v1 = -a" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("suffix", "beginning"),
    [
        ("svg", "<?xml"),
        ("png", "\x89PNG"),
        ("pdf", "%PDF"),
        ("dot", "digraph {"),
        ("html", "<!doctype html>"),
        ("SVG", "<?xml"),
    ],
)
def test_the_suffix_says_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, beginning: str
) -> None:
    path = tmp_path / f"graph.{suffix}"
    assert main(["draw", "tanh(a*b + c)", "a=2", "b=-3", "c=10", "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes().startswith(beginning.encode("latin-1"))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a + q", "a=1"], "no value for q; write q=NUMBER\n  a + q\n      ^"),
        (["a", "a"], "'a' is no NAME=NUMBER, such as a=2"),
        (["a", "a=two"], "'a=two' is no NAME=NUMBER"),
        (["a", "a=1", "2b=3"], "'2b=3' is no NAME=NUMBER"),
        (["a", "-x"], "'-x' is no NAME=NUMBER"),
        (["a", "a=1", "a=2"], "a is given twice"),
        (["a", "a=1", "b=2"], "b: given, but not in the expression a"),
        (
            ["a", "a=1", "-o", "graph.txt"],
            "graph.txt: the suffix says what to write, one of .svg, .png, .pdf, .dot, .html",
        ),
        (["a", "a=1", "-o", "/dev/null/place/graph.html"], "/dev/null/place"),  # folders are made, but not there
    ],
)
def test_one_clear_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["draw", *arguments]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("micrograd-bp: error: ")
    assert message in written.err
    assert "Traceback" not in written.err


@pytest.mark.parametrize("arguments", [[], ["a", "a=1", "-o"], ["--help"]])
def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str], arguments: list[Any]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["draw", *arguments])
    assert left.value.code == (0 if arguments == ["--help"] else 2)
    written = capsys.readouterr()
    assert "usage: micrograd-bp draw" in written.out + written.err

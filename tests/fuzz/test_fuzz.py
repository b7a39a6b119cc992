"""Random programs: the statements hold of some hundreds here, and of as many as one likes by `python -m tests.fuzz`."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings

import micrograd_bp as mg
from micrograd_bp import Op, ops
from tests.fuzz import statements
from tests.fuzz.programs import FuzzProgram, programs
from tests.fuzz.reference import NoReferenceError, derivative

PROGRAMS = int(os.environ.get("MICROGRAD_BP_FUZZ_PROGRAMS", "200"))
COMPILED = {"jit", "jit-gradient", "jit-vmap"}  # a program takes 0.2 s and more


@pytest.mark.parametrize("name", statements.STATEMENTS)
def test_a_statement_holds_of_random_programs(name: str) -> None:
    if name == "engines" and not statements.both_engines():
        pytest.skip("the accelerated engine is not built")
    count = PROGRAMS // 5 if name in COMPILED else PROGRAMS
    before = statements.checked.total()
    tried, finding = statements.search([name], programs(), seed=1, count=count)
    assert finding is None, finding
    assert tried == count
    assert statements.checked.total() - before > count


FOUND = [  # what the fuzzer has found, to stay mended: a statement, a program that it did not hold of, and its rows
    (
        "jit-vmap",
        "y = math.remainder(x0, x0)\n    return y * (1.0 if y == -0.0 else 2.0)",
        [(-1.0,), (0.0,), (0.0,), (-1.0,)],
    ),
    ("jit-vmap", "return x0 if x0 > 0.0 else 0", [(1.0,), (-1.0,), (2.0,)]),
    ("jit-vmap", "return round(x0) if x0 > 1.0 else x0", [(1.7976931348623157e308,), (0.0,), (2.0,)]),
    ("derivatives", "return copy.copy(x0) + x0", [(1.0,)]),
    ("derivatives", "return math.sqrt(x0 * 0)", [(0.0,)]),
    ("floats", "return 0 if x0 == 0 else x0", [(0.0,), (-0.0,), (math.nan,)]),
]


@pytest.mark.parametrize(("name", "body", "rows"), FOUND)
def test_what_was_found_stays_mended(name: str, body: str, rows: list[tuple[float, ...]]) -> None:
    assert statements.hold([name], program(body, *rows)) is None


# --- the fuzzer finds what is wrong -------------------------------------------------------------------------------

off = Op("off", "off", math.sin, lambda out, x: (1.001 * ops.cos(x),), native="sin")  # a slope wrong by a thousandth


def forgetful(function: Callable[..., Any], exact: bool) -> Callable[..., Any]:
    """A `jit` that takes the first call's ints for constants."""
    kept: list[Any] = []

    def compiled(*row: Any) -> Any:
        kept[:] = kept or [[x for x in row if isinstance(x, int)]]
        return function(*statements.values([x for x in row if isinstance(x, float)]), *kept[0])

    return compiled


@pytest.mark.parametrize(
    ("name", "module", "attribute", "fault"),
    [
        ("floats", mg.math, "sqrt", mg.math.cbrt),
        ("engines", mg.math, "sqrt", mg.math.cbrt),
        ("derivatives", mg.math, "sin", off),
        ("jit", mg, "jit", forgetful),
        ("jit-gradient", mg, "jit", lambda function, exact: lambda *row: function(*[abs(x) for x in row])),
        ("jit-vmap", mg, "jit", lambda function, exact: lambda *columns: function(*columns)[::-1]),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_planted_fault_is_found(
    name: str, module: Any, attribute: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "engines" and not statements.both_engines():
        pytest.skip("the accelerated engine is not built")
    monkeypatch.setattr(module, attribute, fault)
    monkeypatch.setattr(statements, "SHRINKS", 3)
    _, finding = statements.search([name], programs(), seed=2, count=2000)
    assert finding is not None
    assert finding.name == name
    assert repr(finding.program) in str(finding)
    assert statements.hold([name], finding.program) is not None


# --- what it is made of -------------------------------------------------------------------------------------------


CONSTRUCTS = (
    "if", "elif", "else:", "while", "for", "break", "continue", "match", "try:", "finally:", "def g", "def r",
    "nonlocal", "raise", "lambda", "copy.copy", "copy.deepcopy", "dataclasses.replace",
    "Point(", "min(", "max(", "sorted(", "sum(", " in (", "==", "!=", "range(",  "math.log",
    "math.sqrt", " ** ", " // ", " % ", "divmod(", "round(", "int(", "math.floor", "math.ceil", "abs(", "not ",
    "nan", "inf", "e-324",
)  # fmt: skip


def test_programs_have_everything_in_them() -> None:
    missing = set(CONSTRUCTS)
    for turn in range(20):  # a rare one may be missing from the first 400

        @seed(turn)  # without it every turn is the same where Hypothesis derandomizes, as it does in CI
        @settings(max_examples=400, database=None)
        @given(programs())
        def look(program: FuzzProgram) -> None:
            missing.difference_update([construct for construct in missing if construct in repr(program)])

        look()
        if not missing:
            break
    assert not missing


def program(body: str, *rows: tuple[float, ...]) -> FuzzProgram:
    return FuzzProgram(f"def f({', '.join(f'x{i}' for i in range(len(rows[0])))}):\n    {body}", rows)


def test_the_reference_knows_derivatives() -> None:
    value, slope = derivative(program("return x0 * x0 if x0 > 1.0 else 5.0 * x0", (3.0,)), (3.0,), 0)
    assert value == 9.0
    assert abs(slope - 6) < 1e-20


@pytest.mark.parametrize(
    ("body", "row"),
    [
        ("return x0 if x0 > 0.5 else 2.0 * x0", (0.5,)),
        ("return abs(x0 - 2.0)", (2.0,)),
        ("return max(x0, x1)", (1.0, 1.0)),
        ("return x0 if math.sqrt(x0) * math.sqrt(x0) > x0 else 2.0", (2.0,)),  # by rounding only
        ("return x0 // 1.0", (2.0,)),
        ("return math.log(x0)", (-1.0,)),
        ("return 1.0 / (x0 - 1.0)", (1.0,)),
        ("return x0 * 2.0", (1e300,)),
        ("return x0 if x0 == 1.0 else 2.0", (1.0,)),
    ],
)
def test_the_reference_refuses_kinks_jumps_and_ends(body: str, row: tuple[float, ...]) -> None:
    with pytest.raises(NoReferenceError):
        derivative(program(body, row), row, 0)


def test_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--programs", "20", "--statements", "floats", "--engine", "pure"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("20 programs")
    assert "on the pure engine" in done.stdout
    assert done.stdout.endswith("findings: none\n")

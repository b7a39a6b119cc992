"""What is held of every program: a statement says what is wrong with one, or "" where it holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis

import micrograd_bp as mg
from micrograd_bp import Value, testing
from micrograd_bp.value import topological_order
from tests.fuzz.programs import Program, shown
from tests.fuzz.reference import NoReferenceError, derivative

EXPECTED = (ArithmeticError, ValueError, IndexError)  # anything else is a fault, of the library or of the generator
LARGE = 300  # nodes: of larger graphs second derivatives are not taken
checked: Counter[str] = Counter()  # how many rows each statement was held to, and how many it had to leave out


def bits(result: Any) -> Any:
    """A result to the bit, as JSON can hold it: a Value as its float, and every nan the same."""
    if isinstance(result, Value):
        result = result.data
    if isinstance(result, float):
        return "nan" if math.isnan(result) else float(result).hex()
    if isinstance(result, (tuple, list)):
        return [bits(x) for x in result]
    return repr(result)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The bits of the result, or the name of the exception's type."""
    try:
        return bits(function(*args))
    except EXPECTED as error:
        return type(error).__name__


def values(row: Sequence[float | int]) -> list[Any]:
    return [Value(x) if isinstance(x, float) else x for x in row]


def call(row: Sequence[float | int]) -> str:
    return f"f({', '.join(map(shown, row))})"


def floats(program: Program) -> str:
    """On Values a program does what it does on floats."""
    plain, recorded = program.function(math), program.function(mg.math)
    for row in program.rows:
        expected, got = outcome(plain, *row), outcome(recorded, *values(row))
        checked["floats"] += 1
        if expected != got:
            return f"{call(row)}: {expected} on floats, {got} on Values"
    return ""


def derivatives(program: Program) -> str:
    """`backward`, `gradients` and `jvp` give the derivative, wherever there is one."""
    function = program.function(mg.math)
    for row in program.rows:
        inputs = values([x + 0.0 if isinstance(x, float) else x for x in row])  # -0.0 is 0.0 to 50 digits
        variables = [x for x in inputs if isinstance(x, Value)]
        try:
            output = function(*inputs)
        except EXPECTED:
            continue
        output = output if isinstance(output, Value) else Value(output)
        if not math.isfinite(output.data):
            continue
        output.backward()
        graphs = mg.gradients(output, variables)
        for axis, (x, graph) in enumerate(zip(variables, graphs, strict=True)):
            try:
                _, exact = derivative(program, [getattr(y, "data", y) for y in inputs], axis)
            except NoReferenceError:
                checked["derivatives: no reference"] += 1
                continue
            checked["derivatives"] += 1
            allowed = 2.0**-36 * max(1.0, testing.sensitivity(graph), testing.sensitivity(output))
            for how, slope in (("backward", x.grad), ("gradients", graph.data)):
                if not abs(slope - exact) <= allowed:
                    return f"{call(row)}: {how} gives {slope!r} by x{axis}, the difference is {float(exact)!r}"
    return ""


def answers(program: Program) -> list[Any]:
    """All that an engine makes of a program: values, gradients, second derivatives and the texts of errors."""
    function, found = program.function(mg.math), []
    for row in program.rows:
        inputs = values(row)
        variables = [x for x in inputs if isinstance(x, Value)]
        try:
            output = function(*inputs)
        except EXPECTED as error:
            found.append(f"{type(error).__name__}: {error}")
            continue
        if not isinstance(output, Value):
            found.append(bits(output))
            continue
        order = topological_order(output)
        output.backward()
        gradients = mg.gradients(output, variables)
        second = []
        if len(order) < LARGE and sum(len(topological_order(x)) for x in gradients) < LARGE:
            second = [mg.gradients(x, variables) for x in gradients]
        found.append([bits(output), len(order), bits([x.grad for x in variables]), bits(gradients), bits(second)])
    return found


class OtherEngine:
    """A process in which the other engine answers."""

    def __init__(self) -> None:
        environment = os.environ | {"MICROGRAD_BP_PURE": "1" if mg.engine_name() == "accelerated" else ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", "--answer"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def __call__(self, program: Program) -> list[Any]:
        assert self.process.stdin
        rows = [[x.hex() if isinstance(x, float) else x for x in row] for row in program.rows]
        self.process.stdin.write(json.dumps([program.source, rows]) + "\n")
        self.process.stdin.flush()
        found: list[Any] = json.loads(self._line())
        return found

    def close(self) -> None:
        self.process.communicate()


def answer(lines: Iterator[str]) -> None:
    """Answer programs, a line each, for the process that started this one."""
    print(json.dumps(mg.engine_name()), flush=True)
    for line in lines:
        source, rows = json.loads(line)
        numbers = tuple(tuple(float.fromhex(x) if isinstance(x, str) else x for x in row) for row in rows)
        print(json.dumps(answers(Program(source, numbers))), flush=True)


_other: list[OtherEngine] = []


def engines(program: Program) -> str:
    """Both engines give the same bits, and the same words in errors."""
    if not _other:
        _other.append(OtherEngine())
    other = _other[0]
    for row, mine, others in zip(program.rows, answers(program), other(program), strict=True):
        checked["engines"] += 1
        if mine != others:
            return f"{call(row)}: {mine} on the {mg.engine_name()} engine, {others} on the {other.name} one"
    return ""


STATEMENTS: dict[str, Callable[[Program], str]] = {
    "floats": floats,
    "engines": engines,
    "derivatives": derivatives,
}


class Finding(Exception):  # noqa: N818 - it is no error of the fuzzer's
    """A statement that does not hold of a program."""

    def __init__(self, name: str, program: Program, complaint: str) -> None:
        super().__init__(f"{name}\n{program}\n{complaint}")
        self.name = name


def hold(names: Sequence[str], program: Program) -> None:
    """Raise a Finding where one of the statements does not hold of the program, or fails as it should not."""
    for name in names:
        with warnings.catch_warnings(action="ignore"):
            try:
                complaint = STATEMENTS[name](program)
            except Exception as error:
                raise Finding(name, program, f"{type(error).__name__}: {error}") from error
        if complaint:
            raise Finding(name, program, complaint)


def search(names: Sequence[str], strategy: Any, seed: int, count: int) -> tuple[int, Finding | None]:
    """Hold the statements of so many random programs, up to the first of which one does not hold, shrunk."""
    tried, found = 0, False

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, derandomize=False, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck), verbosity=hypothesis.Verbosity.quiet,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def holds(program: Program) -> None:
        nonlocal tried, found
        tried += not found
        try:
            hold(names, program)
        except Finding:
            found = True
            raise

    try:
        holds()
    except Finding as finding:
        return tried, finding
    return tried, None

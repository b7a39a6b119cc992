"""What is held of every program: a statement says what is wrong with one, or "" where it holds."""

from __future__ import annotations

import atexit
import functools
import json
import math
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
from hypothesis.internal.conjecture import engine

import micrograd_bp as mg
from micrograd_bp import Value, testing
from micrograd_bp._engine.engine import slope_rows
from micrograd_bp.compiler import guarded
from micrograd_bp.value import topological_order
from tests.fuzz.programs import FuzzProgram, shown
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


def floats(program: FuzzProgram) -> str:
    """On Values a program does what it does on floats."""
    plain, recorded = program.function(math), program.function(mg.math)
    for row in program.rows:
        expected, got = outcome(plain, *row), outcome(recorded, *values(row))
        checked["floats"] += 1
        if expected != got:
            return f"{call(row)}: {expected} on floats, {got} on Values"
    return ""


def derivatives(program: FuzzProgram) -> str:
    """`backward`, `gradients` and `grad` give the derivative, wherever there is one."""
    function = program.function(mg.math)
    for row in program.rows:
        numbers = [x + 0.0 if isinstance(x, float) else x for x in row]  # -0.0 is 0.0 to 50 digits
        leaves = values(numbers)
        variables = [x for x in leaves if isinstance(x, Value)]
        try:  # not of leaves: a copy of a leaf is a leaf of its own, as a copied model's parameters are
            output = function(*[+x if isinstance(x, Value) else x for x in leaves])
        except EXPECTED:
            continue
        output = output if isinstance(output, Value) else Value(output)
        if not math.isfinite(output.data):
            continue
        output.backward()
        graphs = mg.gradients(output, variables)
        transformed = mg.grad(function, argnums=tuple(range(len(variables))))(*numbers)
        blocks = slope_rows([output, -output], variables, len(variables) < 2) or []
        for axis, (x, graph) in enumerate(zip(variables, graphs, strict=True)):
            try:
                _, exact = derivative(program, numbers, axis)
            except NoReferenceError:
                checked["derivatives: no reference"] += 1
                continue
            checked["derivatives"] += 1
            allowed = 2.0**-36 * max(1.0, testing.sensitivity(graph), testing.sensitivity(output))
            for how, slope in (
                ("backward", x.grad),
                ("gradients", graph.data),
                ("grad", transformed[axis]),
                ("a sweep with vectors", blocks[0][axis]),
            ):
                if math.isnan(slope) and singular(output):
                    checked["derivatives: infinity less infinity"] += 1
                elif not abs(slope - exact) <= allowed:
                    return f"{call(row)}: {how} gives {slope!r} by x{axis}, the difference is {float(exact)!r}"
    return ""


def singular(output: Value) -> bool:
    """Whether a local derivative is infinite: sqrt(x - x) has slopes inf and -inf at 0, and their sum is nan."""
    return not all(math.isfinite(partial) for node in topological_order(output) for partial in node.partials)


def answers(program: FuzzProgram) -> list[Any]:
    """All that an engine makes of a program: values, gradients, second derivatives and the texts of errors."""
    function = program.function(mg.math)
    found: list[Any] = []
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
        rows = [slope_rows(order[-20:], variables, forward) for forward in (False, True)]
        slopes = bits([x.grad for x in variables])
        found.append([bits(output), len(order), slopes, bits(gradients), bits(second), bits(rows)])
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

    def __call__(self, program: FuzzProgram) -> list[Any]:
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
        print(json.dumps(answers(FuzzProgram(source, numbers))), flush=True)


@functools.cache
def other_engine() -> OtherEngine:
    other = OtherEngine()
    atexit.register(other.close)
    return other


def both_engines() -> bool:
    """Whether there are two: where there is no C compiler the other process runs on the pure engine as well."""
    return other_engine().name != mg.engine_name()


def engines(program: FuzzProgram) -> str:
    """Both engines give the same bits, and the same words in errors."""
    other = other_engine()
    for row, mine, others in zip(program.rows, answers(program), other(program), strict=True):
        checked["engines"] += 1
        if mine != others:
            return f"{call(row)}: {mine} on the {mg.engine_name()} engine, {others} on the {other.name} one"
    return ""


def calls(program: FuzzProgram) -> list[tuple[float | int, ...]]:
    """Every row more than once, in changing order, so that each path is recorded, left and met again."""
    rows = list(program.rows)
    return [*rows, *rows[::-1], *rows[1:], *rows]


def compiled(function: Any, exact: bool = True) -> Any:
    """`jit` of the function, for which it pays from the first row on."""
    function = mg.jit(function, exact=exact)
    function.pays = 0
    return function


def jit(program: FuzzProgram) -> str:
    """Compiled and eager agree, whatever was called before: to the bit where that is asked for, else closely."""
    function = program.function(mg.math)
    exact, fast = compiled(function), compiled(function, exact=False)
    for row in calls(program):
        checked["jit"] += 1
        inputs = values(row)
        expected, got, near = outcome(function, *inputs), outcome(exact, *row), outcome(fast, *row)
        if expected != got:
            return f"{call(row)}: {expected} eagerly, {got} from jit(exact=True)"
        if expected != near and not (is_number(expected) and is_number(near) and _near(function(*inputs), near)):
            return f"{call(row)}: {expected} eagerly, {near} from jit"
    return ""


def jit_python(program: FuzzProgram) -> str:
    """The same where there is no LLVM: paths are written as Python."""
    with mock.patch.object(guarded, "host", return_value=None):
        return jit(program)


def is_number(result: Any) -> bool:
    return isinstance(result, str) and (result.startswith(("0x", "-0x")) or result in ("nan", "inf", "-inf"))


def _near(output: Any, result: str) -> bool:
    """Whether a result differs from a Value by what other roundings on the way could make of it."""
    x = output.data if isinstance(output, Value) else output
    sensitive = testing.sensitivity(output) if isinstance(output, Value) else abs(x)
    return not math.isfinite(sensitive) or abs(x - float.fromhex(result)) <= 2.0**-44 * max(sensitive, abs(x), 1e-300)


def jit_gradient(program: FuzzProgram) -> str:
    """Compiled derivatives are the eager ones, errors included."""
    argnums = tuple(i for i, x in enumerate(program.rows[0]) if isinstance(x, float))
    eager = mg.grad(program.function(mg.math), argnums=argnums)
    exact = compiled(eager)
    for row in calls(program):
        checked["jit-gradient"] += 1
        expected, got = (outcome(signless, f, row) for f in (eager, exact))
        if expected != got:
            return f"gradient of {call(row)}: {expected} eagerly, {got} from jit(grad(f), exact=True)"
    return ""


def signless(function: Callable[..., Any], row: Sequence[float | int]) -> list[float]:
    """A gradient in which -0.0 is 0.0: sums that begin with 0.0 give one, sums that begin with a term the other."""
    return [x + 0.0 for x in function(*row)]


def jit_vmap(program: FuzzProgram) -> str:
    """A batch, compiled, gives what each row gives; where rows fail, it raises what one of them raises."""
    import numpy as np

    function = program.function(mg.math)
    batch = compiled(mg.vmap(function))
    for rows in (program.rows, program.rows[:1] * 5, program.rows[::-1] * 3):
        checked["jit-vmap"] += len(rows)
        each, failures = [], set()
        for row in rows:
            try:
                each.append(bits(as_float(function(*values(row)))))
            except EXPECTED as error:
                failures.add(type(error).__name__)
        columns = [np.array(column) for column in zip(*rows)]
        got = outcome(lambda columns=columns: [float(x) for x in batch(*columns)])
        if got not in failures if failures else got != each:
            return f"rows {', '.join(map(call, rows))}: {failures or each} eagerly, {got} from jit(vmap(f))"
    return ""


def as_float(x: Any) -> float:
    return float(x.data if isinstance(x, Value) else x)


STATEMENTS: dict[str, Callable[[FuzzProgram], str]] = {
    "floats": floats,
    "engines": engines,
    "derivatives": derivatives,
    "jit": jit,
    "jit-python": jit_python,
    "jit-gradient": jit_gradient,
    "jit-vmap": jit_vmap,
}


SHRINKS = 30  # seconds: Hypothesis would go on for five minutes
HANGS = int(os.environ.get("MICROGRAD_BP_FUZZ_HANGS", "60"))  # seconds: a program takes milliseconds


@contextmanager
def alarm() -> Iterator[None]:
    """TimeoutError where what is inside does not end."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"no end after {HANGS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Finding(Exception):  # noqa: N818 - it is no error of the fuzzer's
    """A statement that does not hold of a program."""

    def __init__(self, name: str, program: FuzzProgram, complaint: str) -> None:
        super().__init__(f"{name}\n{program}\n{complaint}")
        self.name, self.program = name, program


def hold(names: Sequence[str], program: FuzzProgram) -> Finding | None:
    """The first of the statements that does not hold of the program, or that fails as it should not."""
    for name in names:
        with warnings.catch_warnings(action="ignore"), alarm():
            try:
                complaint = STATEMENTS[name](program)
            except Exception as error:
                complaint = f"{type(error).__name__}: {error}"
        if complaint:
            return Finding(name, program, complaint)
    return None


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
    def holds(program: FuzzProgram) -> None:
        nonlocal tried, found
        tried += not found
        finding = hold(names, program)
        if finding:
            found = True
            raise finding

    try:
        with (
            mock.patch.object(engine, "MAX_SHRINKING_SECONDS", SHRINKS),
            # Two of three would be an earlier program with other rows.
            mock.patch.object(engine.ConjectureRunner, "generate_mutations_from"),
        ):
            holds()
    except Finding as finding:
        return tried, finding
    return tried, None

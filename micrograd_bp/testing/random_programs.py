"""Random differentiable programs, and arguments for the operations of the table, for Hypothesis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micrograd_bp import ops
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op
from micrograd_bp.testing.precise import domains, needs, operator_of
from micrograd_bp.value import Value, topological_order

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


MARGIN = 1 / 64  # the least distance of a random program's numbers from kinks, poles and the ends of domains
LARGE = 1000.0  # the largest number and the largest local derivative in a random program
ProgramStep = tuple[Callable[..., Any], tuple[int | float, ...]]


@dataclass(frozen=True, repr=False)
class Program:
    """A straight-line program and a point to run it at; it takes floats, Values or `Precise` numbers.

    Called with as many numbers as the point has, it runs the steps and returns the result of the last. Its repr is the
    program in Python, to be pasted into a file.

    Args:
        steps: Each an op (or any function) with its operands: an int is the number of an input or of an earlier step,
            inputs first; a float is a constant.
        point: The inputs to run it at.

    Example:
        >>> from micrograd_bp import ops
        >>> from micrograd_bp.testing import arithmetic, derivative
        >>> program = Program(((ops.mul, (0, 1)), (ops.pow, (2, -2.0)), (ops.hypot, (3, 3))), (2.0, 0.25))
        >>> program
        from micrograd_bp.ops import hypot
        def program(x0, x1):
            v2 = x0 * x1
            v3 = v2**(-2)
            v4 = hypot(v3, v3)
            return v4
        point = (2.0, 0.25)
        >>> program(*program.point)
        5.656854249492381
        >>> print(arithmetic().nstr(derivative(program, program.point, 0), 15))
        -5.65685424949238
    """

    steps: tuple[ProgramStep, ...]
    point: tuple[float, ...]

    def __call__(self, *args: Any) -> Any:
        """The result of the last step, for *args as the inputs: floats, Values or `Precise` numbers."""
        values = list(args)
        for function, operands in self.steps:
            if isinstance(function, Op):
                function = operator_of(function) or function
            values.append(function(*[values[x] if isinstance(x, int) else x for x in operands]))
        return values[-1]

    def __repr__(self) -> str:
        inputs = [f"x{i}" for i in range(len(self.point))]
        names = inputs + [f"v{i}" for i in range(len(inputs), len(inputs) + len(self.steps))]
        called = {f.name for f, _ in self.steps if ops.TABLE.get(getattr(f, "name", "")) is f and not operator_of(f)}
        lines = [f"from micrograd_bp.ops import {', '.join(sorted(called))}"] if called else []
        lines.append(f"def program({', '.join(inputs)}):")
        for name, (function, operands) in zip(names[len(inputs) :], self.steps):
            shown = [Expr(names[x]) if isinstance(x, int) else x for x in operands]
            if isinstance(function, Op) and operator_of(function):
                text = function(*shown).text
            else:
                called_as = getattr(function, "name", "") or getattr(function, "__name__", repr(function))
                text = f"{called_as}({', '.join(x.text if isinstance(x, Expr) else repr(x) for x in shown)})"
            lines.append(f"    {name} = {text}")
        return "\n".join([*lines, f"    return {names[-1]}", f"point = {self.point}"])


def replay(output: Value, inputs: Sequence[Value]) -> Callable[..., Any]:
    """A recorded graph as a function of some of its nodes: of floats, Values or `Precise` numbers.

    With `derivative` it proves a gradient: derivative(replay(y, [x]), [x.data], 0).

    Args:
        output: The node that the function evaluates.
        inputs: The nodes that become its arguments, leaves or not; other leaves keep their data.

    Returns:
        A function of as many numbers as there are inputs.

    Example:
        >>> x = Value(3.0)
        >>> y = x * x + 1.0
        >>> replay(y, [x])(10.0)
        101.0
    """
    order = topological_order(output)

    def run(*args: Any) -> Any:
        values: dict[Any, Any] = dict(zip(inputs, args, strict=True))
        for node in order:
            if node not in values:
                operands = [values[x] if isinstance(x, Value) else x for x in node.operands]
                values[node] = node.data if node.op is None else node.op(*operands)
        return values[output]

    return run


def arguments(op: Op) -> SearchStrategy[tuple[float, ...]]:
    """A Hypothesis strategy: points of the domain of an op.

    Args:
        op: The op.

    Returns:
        A strategy of tuples with a float for each argument, two for an op of any number of arguments.

    Raises:
        ImportError: Hypothesis is missing.

    Example:
        >>> from hypothesis import given, settings
        >>> from micrograd_bp import ops
        >>> @settings(deadline=None)
        ... @given(arguments(ops.atan2))
        ... def test_of_a_point_and_its_image(point):
        ...     assert abs(ops.atan2(*point)) <= math.pi
        >>> test_of_a_point_and_its_image()
    """
    st = needs("hypothesis").strategies
    each = []
    for low, high in domains(op):
        whole = st.integers(math.ceil(max(low, -400)), math.floor(min(high, 400))).map(float)
        each.append(st.one_of(whole, st.floats(low, high)).map(lambda x: x + 0.0))  # no -0.0
    strategy: SearchStrategy[tuple[float, ...]] = st.tuples(*each)
    return strategy


def programs(
    rows: Sequence[Op] = (), *, max_inputs: int = 3, max_steps: int = 8, kinks: bool = False
) -> SearchStrategy[Program]:
    """A Hypothesis strategy: random differentiable programs, each with a point to evaluate it at.

    They are directed acyclic graphs with shared nodes, repeated operands, constants, and inputs and steps that nothing
    depends on. At its point every number and every local derivative is at most 1000, and every operand is 1/64 of its
    size (at least 1/64) away from kinks, poles and the ends of domains.

    Args:
        rows: The ops to choose from, your own among them; by default all smooth ops of the table.
        max_inputs: How many inputs a program has at most.
        max_steps: How many steps it has at most.
        kinks: Whether ops that have a kink or a jump are among the default.

    Returns:
        A strategy of `Program`.

    Raises:
        ImportError: Hypothesis is missing.

    Example:
        >>> import micrograd_bp as mg
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=5, derandomize=True, database=None, deadline=None)
        ... @given(programs(max_steps=3))
        ... def test_of_derivatives(program):
        ...     assert mg.gradcheck(program, *program.point, order=1)
        >>> test_of_derivatives()
    """
    hypothesis = needs("hypothesis")
    st = hypothesis.strategies
    table = list(rows) or [op for op in ops.TABLE.values() if op.smooth or kinks]
    ranges = [(0.125, 0.875), (1.125, 4.0), (-0.875, -0.125), (-4.0, -1.125)]
    inputs = st.lists(st.one_of([st.floats(*ends) for ends in ranges]), min_size=1, max_size=max_inputs)
    constants = st.one_of(st.sampled_from([1.0, 2.0, 3.0, -1.0, 0.5, 0.0]), *[st.floats(*ends) for ends in ranges])

    def build(draw: Any) -> Program:
        values = draw(inputs)
        point, steps = tuple(values), []
        for _ in range(draw(st.integers(1, max_steps))):
            last = len(values) - 1
            variable = st.one_of(st.integers(max(0, last - 2), last), st.integers(0, last))
            operands = [draw(variable), *draw(st.tuples(*[st.one_of(variable, constants)] * 3))]
            if draw(st.booleans()):
                operands[0], operands[1] = operands[1], operands[0]
            fitting = []
            for op in table:
                limits = domains(op)
                chosen = tuple(low if low == high else x for x, (low, high) in zip(operands, limits))
                if any(isinstance(x, int) for x in chosen) and _tame(op, chosen, values):
                    fitting.append((op, chosen))
            if fitting:
                op, chosen = draw(st.sampled_from(fitting))
                steps.append((op, chosen))
                values.append(op(*[values[x] if isinstance(x, int) else x for x in chosen]))
        hypothesis.assume(steps)
        return Program(tuple(steps), point)

    strategy: SearchStrategy[Program] = st.composite(build)()
    return strategy


def _tame(op: Op, operands: tuple[int | float, ...], values: Sequence[float]) -> bool:
    """Whether an op may be applied to these: value and slopes are moderate, no kink or jump is within the margin."""
    args = [values[x] if isinstance(x, int) else x for x in operands]
    margins = [MARGIN * max(1.0, abs(x)) if isinstance(i, int) else 0.0 for i, x in zip(operands, args)]
    for x, margin, (low, high) in zip(args, margins, domains(op, len(args))):
        if not low + margin <= x <= high - margin:
            return False
    try:
        out, slopes = _local(op, args, margins)
        if not all(abs(x) <= LARGE for x in (out, *slopes)):
            return False
        for signs in itertools.product((-1, 1), repeat=len(args)):
            shifts = [sign * margin for sign, margin in zip(signs, margins)]
            there, others = _local(op, [x + shift for x, shift in zip(args, shifts)], margins)
            error = abs(there - out - math.fsum(p * shift for p, shift in zip(slopes, shifts)))
            turn = max(abs(p - q) / (1 + abs(p)) for p, q in zip(slopes, others))
            if not (op.smooth or (error <= MARGIN / 4 * (1 + abs(out)) and turn <= 0.25)):
                return False
    except (ArithmeticError, ValueError):
        return False
    return True


def _local(op: Op, args: Sequence[float], margins: Sequence[float]) -> tuple[float, list[float]]:
    """The value of an op and its slopes along the variable operands; 0 along constants."""
    out = op.forward(*args)
    return out, [p if margin else 0.0 for p, margin in zip(op.partials(out, *args), margins)]

"""A recorded graph as a flat program: rows of the table, each with the positions of its operands.

Made from Values in one walk without recursion. `lower` rewrites it in rows that the machine has, by the data in the
rows alone; on the way equal nodes are merged, constants folded and dead nodes dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from micrograd_bp._methods import operators
from micrograd_bp.ops import Op, number
from micrograd_bp.value import Value

Native: TypeAlias = Callable[[Op, int, bool], str]  # what does a row on so many operands, exactly or not; "": nothing


@dataclass(slots=True)
class Program:
    """Straight-line code: node i applies rows[i] to the nodes operands[i], all of them before it.

    A leaf has no row; it is one of the inputs, a parameter, or a number in `constants`.
    """

    rows: list[Op | None] = field(default_factory=list)
    operands: list[tuple[int, ...]] = field(default_factory=list)
    constants: dict[int, float] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    _known: dict[Any, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.rows, self.operands, self.constants, self.inputs, self.parameters, self.outputs, self.labels

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.rows, self.operands, self.constants, self.inputs, self.parameters, self.outputs, self.labels = state
        self._known = {}

    def leaf(self) -> int:
        """A new leaf; the caller says what it is."""
        self.rows.append(None)
        self.operands.append(())
        return len(self.rows) - 1

    def constant(self, x: float) -> int:
        """The leaf that holds this number; 0.0 and -0.0 are two."""
        key = x if x and x == x else repr(x)
        i = self._known.get(key)
        if i is None:
            i = self._known[key] = self.leaf()
            self.constants[i] = x
        return i

    def node(self, op: Op, operands: tuple[int, ...]) -> int:
        """The node that applies the row to these operands: one that is there already, or a new one."""
        key = (op, operands)
        i = self._known.get(key)
        if i is None:
            i = self._known[key] = len(self.rows)
            self.rows.append(op)
            self.operands.append(operands)
        return i

    def with_outputs(self, outputs: list[int]) -> Program:
        """The same nodes, with other outputs."""
        return Program(self.rows, self.operands, self.constants, self.inputs, self.parameters, outputs, self.labels)

    @property
    def count(self) -> int:
        """The number of nodes that compute something."""
        return sum(row is not None for row in self.rows)


def flatten(
    outputs: Sequence[Value | float], inputs: Sequence[Value], parameters: Sequence[Value] = ()
) -> tuple[Program, list[Value]]:
    """The program that computes the outputs from the inputs, and its parameters: those given, then all other leaves.

    Nodes stand in the order in which the outputs need them, first output first, which keeps a gradient next to the
    values that it is made of. ValueError: an input or parameter is given twice, or is no leaf.
    """
    program = Program()
    place: dict[Value, int] = {}
    leaves = list(parameters)
    for kind, places, values in (("an input", program.inputs, inputs), ("a parameter", program.parameters, leaves)):
        for x in values:
            if not isinstance(x, Value):
                raise TypeError(f"{kind} is a Value, not {x!r} ({type(x).__name__})")
            if x.op is not None:
                raise ValueError(f"{x!r} is the result of {x.op.name}; {kind} is one of the leaves of the graph")
            if x in place:
                raise ValueError(f"{x!r} is given twice; each input and each parameter is a leaf of its own")
            place[x] = program.leaf()
            places.append(place[x])
    for output in outputs:
        if not isinstance(output, Value):
            program.outputs.append(program.constant(number(output, "a program's output")))
            continue
        stack = [output]
        while stack:
            node = stack[-1]
            if node in place:
                stack.pop()
                continue
            op = node.op
            if op is None:
                stack.pop()
                place[node] = leaf = program.leaf()
                program.parameters.append(leaf)
                leaves.append(node)
                continue
            waiting = [x for x in node.operands if isinstance(x, Value) and x not in place]
            if waiting:
                waiting.reverse()
                stack += waiting
                continue
            stack.pop()
            where = tuple([place[x] if isinstance(x, Value) else program.constant(x) for x in node.operands])
            place[node] = len(program)  # never merged here: replayed, the graph is the one that was recorded
            program.rows.append(op)
            program.operands.append(where)
        program.outputs.append(place[output])
    program.labels = {i: node.label for node, i in place.items() if node.label}
    return program, leaves


def replay(program: Program, inputs: Sequence[float], parameters: Sequence[float]) -> list[Value]:
    """The graph that the program was made of, recorded again with these numbers: a Value for each of its nodes."""
    nodes: list[Any] = [program.constants.get(i) for i in range(len(program))]
    for places, data in ((program.inputs, inputs), (program.parameters, parameters)):
        for i, x in zip(places, data, strict=True):
            nodes[i] = Value(x, program.labels.get(i, ""))
    for i, row in enumerate(program.rows):
        if row is not None:
            nodes[i] = row(*[nodes[k] for k in program.operands[i]])
            if i in program.labels:
                nodes[i].label = program.labels[i]
    return nodes


class Symbol:
    """A node of the program under construction, for the rules of rows to compute with.

    It has operators and goes through rows; what would need its number (a comparison, `bool`, `float`) raises TypeError.
    """

    __slots__ = ("index", "lowering")

    def __init__(self, lowering: Lowering, index: int) -> None:
        self.lowering = lowering
        self.index = index

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Any:
        lowering = next(arg.lowering for arg in args if isinstance(arg, Symbol))
        constant = lowering.program.constant
        where = [x.index if isinstance(x, Symbol) else constant(number(x, op.name)) for x in args]
        return lowering.symbol(lowering.apply(op, tuple(where)))

    def _unknown(self, *_: Any) -> NoReturn:
        raise TypeError("a rule that asks for a number's value cannot be lowered")

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __float__ = __index__ = _unknown
    __hash__ = object.__hash__


operators(Symbol, lambda op: lambda *args: op(*args), lambda op: lambda y, x: op(x, y))

# What leaves a number as it is, by LLVM's instruction: (which operand, its value). Also x + 0.0, but for x = -0.0.
Neutral: TypeAlias = dict[str, tuple[tuple[int, float], ...]]
NEUTRAL: Neutral = {
    "fadd": ((0, -0.0), (1, -0.0)),
    "fsub": ((1, 0.0),),
    "fmul": ((0, 1.0), (1, 1.0)),
    "fdiv": ((1, 1.0),),
    "pow": ((1, 1.0),),
}
NEUTRAL_BUT_FOR_SIGNED_ZERO: Neutral = {"fadd": ((0, 0.0), (1, 0.0), *NEUTRAL["fadd"])}


# Powers with these exponents as products, at most 2 ulp from the C library's `pow`; not where the bits count.
POWERS: dict[float, Callable[[Any], Any]] = {
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: (x * x) * (x * x),
    -1.0: lambda x: 1.0 / x,
    -2.0: lambda x: 1.0 / (x * x),
}
SIGNED = ("", "llvm.copysign", "atan2")  # tell 0.0 from -0.0 by a result that is finite


def lower(source: Program, native: Native, exact: bool) -> Program:
    """The program in rows that the machine has (native); a row that it has not, and has no equal program for, stays.

    x * 0 is kept: where x is not finite, or raises, the result is not 0. x + 0.0 becomes x where no bit can tell.
    """
    if not exact:
        program = Lowering(source, native, exact, NEUTRAL | NEUTRAL_BUT_FOR_SIGNED_ZERO).program
        if not any(row is not None and row.native in SIGNED for row in program.rows):
            return program
    return Lowering(source, native, exact, NEUTRAL).program


class Lowering:
    """A program being rewritten."""

    def __init__(self, source: Program, native: Native, exact: bool, neutral: Neutral) -> None:
        self.program = program = Program()
        self.native, self.exact = native, exact
        self.neutral = neutral
        place: list[int] = [0] * len(source)
        for i in (*source.inputs, *source.parameters):
            place[i] = program.leaf()
        program.inputs = [place[i] for i in source.inputs]
        program.parameters = [place[i] for i in source.parameters]
        for i, x in source.constants.items():
            place[i] = program.constant(x)
        for i, row in enumerate(source.rows):
            if row is not None:
                place[i] = self.apply(row, tuple([place[k] for k in source.operands[i]]))
        program.outputs = [place[i] for i in source.outputs]

    def symbol(self, index: int) -> Symbol | float:
        """The node as an operand of a rule: a constant as the number that it is."""
        return self.program.constants[index] if index in self.program.constants else Symbol(self, index)

    def apply(self, op: Op, operands: tuple[int, ...]) -> int:
        """The node for the row on these operands, in rows that the machine has."""
        program = self.program
        constants = program.constants
        known: list[Any] = [constants.get(i) for i in operands]
        if None not in known:
            try:
                return program.constant(op.forward(*known))
            except (ArithmeticError, ValueError):
                pass  # raised again, with the labels, when the program runs
        native = self.native(op, len(operands), self.exact)
        if not native:
            for rule in (op.expansion, op.forward):
                try:
                    result = rule(*map(self.symbol, operands)) if rule is not None else None
                    if isinstance(result, Symbol):
                        return result.index
                    if result is not None:
                        return program.constant(number(result))
                except Exception:  # the rule asks for the number: it is called when the program runs
                    continue
        else:
            if native == "select" and (known[0] is not None or operands[1] == operands[2]):
                return operands[1] if known[0] else operands[2]
            if native == "pow" and known[1] in POWERS and not self.exact:
                return int(POWERS[known[1]](Symbol(self, operands[0])).index)
            for position, x in self.neutral.get(native, ()):
                k = known[position]
                if k is not None and k == x and math.copysign(1.0, k) == math.copysign(1.0, x):
                    return operands[1 - position]
        return program.node(op, operands)


def live(program: Program, roots: Iterable[int]) -> list[bool]:
    """Which nodes the roots need."""
    needed = [False] * len(program)
    for i in roots:
        needed[i] = True
    for i in range(len(program) - 1, -1, -1):
        if needed[i]:
            for k in program.operands[i]:
                needed[k] = True
    return needed

"""What array programs written as C and as Python share: rules as expressions, tables of places, how arrays are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from micrograd_bp._engine.instructions import instruction
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.arrays import CONSTANTS, LEAVES, PARAMETERS, ArrayProgram, Map, Places, find, sources
from micrograd_bp.compiler.evaluation import UnsuitableError, partials_program, value_program
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.program import FlatProgram, InstructionFor
from micrograd_bp.ops import Op

# A program of fewer nodes is written node by node; the arrays of a text have so many members on average, at least.
SMALL, MEMBERS = 1_000, 16
GROWING = ("exp", "exp2", "expm1", "sinh", "cosh")  # infinite only by overflow
LEVELS = 4  # dimensions of a table that is written as a sum of ranges, at most


def find_for_text(program: FlatProgram, exact: bool) -> ArrayProgram | None:
    """The arrays of a program that is to be written as text; None: it is written node by node."""
    return find(program, exact, SMALL, MEMBERS)


def levels(places: Places) -> tuple[int, list[tuple[int, int]]] | None:
    """Places as a first one and nested ranges (count, step), the outermost first; None: they have no such form."""
    flat = places.ravel().astype(int)
    found: list[tuple[int, int]] = []
    while len(flat) > 1:
        step = int(flat[1] - flat[0])
        other = (flat[1:] - flat[:-1] != step).nonzero()[0]
        count = int(other[0]) + 1 if len(other) else len(flat)
        if len(flat) % count or len(found) == LEVELS:
            return None
        if any((flat[k::count] != flat[::count] + k * step).any() for k in range(count)):
            return None
        found.insert(0, (count, step))
        flat = flat[::count]
    return int(flat[0]), found


def is_single(places: Places) -> bool:
    """Whether all places are the same."""
    return bool((places == places.flat[0]).all())


def spacing(places: Places) -> tuple[int, int, int] | None:
    """First place, stride over rows and stride over columns of a matrix of places; None: it is not evenly spaced."""
    import numpy as np

    rows, columns = places.shape
    first = int(places[0, 0])
    down = int(places[1, 0]) - first if rows > 1 else 0
    across = int(places[0, 1]) - first if columns > 1 else 0
    grid = first + down * np.arange(rows)[:, None] + across * np.arange(columns)
    return (first, down, across) if np.array_equal(grid, places) else None


def layout(places: Places, size: int, table: Callable[[Places], str]) -> tuple[str, bool]:
    """What follows a flat array's name in NumPy to read places as a vector or matrix, and whether it is transposed."""
    if places.ndim == 1:
        found = spacing(places[None])
        if found is None or (len(places) > 1 and found[2] < 1):
            return f"[{table(places)}]", False
        first, _, step = found
        return f"[{first}:{first + max(step, 1) * (len(places) - 1) + 1}{f':{step}' if step > 1 else ''}]", False
    found = spacing(places)
    if found is not None and found[1] > 0 and found[2] > 0:
        first, down, across = found
        (rows, columns), turned = places.shape, down < across
        if turned:
            rows, columns, down, across = columns, rows, across, down
        before = max(0, first + rows * down - size)  # numbers that a row of the array has before those of the matrix
        width = across * (columns - 1) + 1
        if before <= first and before + width <= down:
            text = f"[{first - before}:{first - before + rows * down}].reshape({rows}, {down})"
            if width < down:
                end = "" if before + width == down else str(before + width)
                text += f"[:, {before or ''}:{end}{f':{across}' if across > 1 else ''}]"
            return text, turned
    return f"[{table(places)}]", False


def distinct_rows(places: Places) -> tuple[Places, Places]:
    """The distinct rows of a matrix of places, and which of them each row is."""
    import numpy as np

    found, which = np.unique(places, axis=0, return_inverse=True)
    return found, which.ravel()


def grid_order(rows: int, of_row: Places, columns: int, of_column: Places) -> Places | None:
    """The place of each member in a grid of rows and columns; None: the members do not fill the grid."""
    import numpy as np

    place: Places = of_row * columns + of_column
    return place if np.array_equal(np.sort(place), np.arange(rows * columns)) else None


def needing(program: ArrayProgram) -> list[bool]:
    """For each array, whether it depends on parameters."""
    needs = [k == PARAMETERS for k in range(len(program.sizes))]
    for k, step in enumerate(program.steps, LEAVES):
        needs[k] = any(needs[j] for j in sources(step))
    return needs


def constants_read(program: ArrayProgram, step: Map) -> list[float | None]:
    """For each operand of a map, its number if it is a constant, else None."""
    return [
        program.constants[int(places[0])] if k == CONSTANTS and is_single(places) else None for k, places in step.reads
    ]


@dataclass(slots=True)
class Rule:
    """A rule as text: named intermediate results, the result, and how many instructions there are."""

    lines: list[tuple[str, str]]
    result: Expr
    count: int
    constant: float | None  # the result, if it is a number
    tame: bool  # the result is finite, but for overflow, if the operands are


class Rules:
    """The values and partials of ops as text in a language, whose instructions `spell` writes."""

    def __init__(
        self, native: InstructionFor, spell: Callable[[str, Op, list[Expr]], Expr], literal: Callable[[float], Expr]
    ) -> None:
        self.native, self.spell, self.literal = native, spell, literal

    def value(self, op: Op, known: Sequence[float | None], exact: bool) -> tuple[FlatProgram, bool]:
        """The value of an op, lowered; and whether exactly."""
        return lower(value_program(op, known), self.native, exact), exact

    def slope(self, op: Op, known: Sequence[float | None], k: int) -> tuple[FlatProgram, bool]:
        """The partial of an op by operand k, lowered; its inputs are the result and the operands."""
        return lower(partials_program(op, known, [k]), self.native, False), False

    def read(self, lowered: tuple[FlatProgram, bool], names: Sequence[Expr]) -> Rule:
        """The rule applied to operands with these names."""
        program, exact = lowered
        output = program.outputs[0]
        needed, uses, numbers = [False] * len(program), [0] * len(program), [False] * len(program)
        needed[output] = numbers[output] = True
        natives: dict[int, str] = {}
        for i in range(len(program) - 1, -1, -1):
            op = program.ops[i]
            if not needed[i] or op is None:
                continue
            natives[i] = name = self.native(op, len(program.operands[i]), exact)
            if not name:
                raise UnsuitableError
            for position, k in enumerate(program.operands[i]):
                needed[k] = True
                uses[k] += 1
                numbers[k] = numbers[k] or position > 0 or name != "select"
        texts: dict[int, Expr] = dict(zip(program.inputs, names))
        texts |= {i: self.literal(x) for i, x in program.constants.items()}
        finite = dict.fromkeys(program.inputs, True)
        finite |= {i: math.isfinite(x) for i, x in program.constants.items()}
        lines: list[tuple[str, str]] = []
        for i in sorted(natives):
            op = program.ops[i]
            assert op is not None
            text = self.spell(natives[i], op, [texts[k] for k in program.operands[i]])
            if natives[i].startswith("fcmp") and numbers[i]:
                text = self.spell("number", op, [text])
            grows = natives[i] in GROWING or instruction(natives[i]).tame
            finite[i] = grows and all(finite[k] for k in program.operands[i])
            if uses[i] > 1:
                lines.append((f"t{len(lines) + 1}", text.text))
                text = Expr(lines[-1][0])
            texts[i] = text
        constant = program.constants.get(output)
        return Rule(lines, texts[output], len(natives), constant, finite[output])

    def reads(self, lowered: tuple[FlatProgram, bool]) -> list[int]:
        """How often the rule reads each operand."""
        program = lowered[0]
        needed, uses = [False] * len(program), [0] * len(program)
        needed[program.outputs[0]] = True
        uses[program.outputs[0]] = 1
        for i in range(len(program) - 1, -1, -1):
            for k in program.operands[i] if needed[i] else ():
                needed[k] = True
                uses[k] += 1
        return [uses[i] for i in program.inputs]

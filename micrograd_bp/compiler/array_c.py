"""Array programs as C99: loops over the members of arrays, with tables of indices where these are not evenly spaced.

Arrays of one size that are read member by member share a loop, in which a member is a local variable; an array that is
read otherwise is stored in a workspace. The backward sweep goes through the loops from last to first.
"""

from __future__ import annotations

import bisect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from micrograd_bp._engine.instructions import instruction
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.array_parts import Rule, Rules, constants_read, is_single
from micrograd_bp.compiler.arrays import (
    CONSTANTS,
    INPUTS,
    LEAVES,
    PARAMETERS,
    ArrayProgram,
    Map,
    Places,
    Products,
    Sum,
    Terms,
    sources,
)
from micrograd_bp.compiler.evaluation import UnsuitableError
from micrograd_bp.compiler.program import InstructionFor
from micrograd_bp.ops import Op

RANKS = {"fadd": ("+", 1), "fsub": ("-", 1), "fmul": ("*", 2), "fdiv": ("/", 2)}
CHAIN = """static double chain(double slope, double partial)
{
    return slope != 0.0 && partial != 0.0 ? slope * partial : 0.0;
}
"""
LINE = 108
MANY, PIECE = 60, 300  # with more arrays, functions have PIECE lines: gcc's time grows faster than a function


@dataclass
class FusedLoop:
    """Arrays of one size whose members are computed together."""

    size: int
    steps: list[int] = field(default_factory=list)


def spelled(name: str, op: Op, operands: list[Expr], call: Callable[[str, Op, list[str]], str]) -> Expr:
    """An instruction in C; call: writes that of a function."""
    if name in RANKS:
        symbol, rank = RANKS[name]
        return Expr(f"{operands[0]._inside(rank)} {symbol} {operands[1]._inside(rank + 1)}", rank)
    if op.arity is None and name.endswith("_op"):
        raise UnsuitableError
    of = instruction(name)
    if of.c:
        rank = 3 if name == "fneg" else 5 if of.c.endswith(")") else 0
        return Expr(of.text(name, [x._inside(0 if rank == 5 else 4) for x in operands]), rank)
    return Expr(call(name, op, [x.text for x in operands]))


class ArrayWriter:
    """Writes the functions of a file; `above` collects the tables and the functions of rules that they use."""

    def __init__(
        self,
        program: ArrayProgram,
        outputs: Sequence[int],
        native: InstructionFor,
        literal: Callable[[float], str],
        call: Callable[[str, Op, list[str]], str],
    ) -> None:
        self.program, self.sizes = program, program.sizes
        self.native_call = call
        self.rules = Rules(native, self.spell, lambda x: Expr(literal(x), 5))
        self.above: list[str] = []
        self.names: dict[Any, str] = {}
        self.steps = dict(enumerate(program.steps, LEAVES))
        self.outputs = self.located(outputs)
        self.loops, self.loop_of = self.fused()
        self.going_forward = True
        self.gradient = 0

    def is_number(self, k: int) -> bool:
        """Whether an array is a local variable: it has one member, and the code is a single function."""
        return self.sizes[k] == 1 and len(self.steps) <= MANY

    # --- texts ------------------------------------------------------------------------------------------------------

    def spell(self, name: str, op: Op, operands: list[Expr]) -> Expr:
        """An instruction in C."""
        return operands[0] if name == "number" else spelled(name, op, operands, self.native_call)

    def rule(self, op: Op, part: str, lowered: Any, key: Any, names: list[Expr]) -> Rule:
        """A rule applied to names: written in place, or as a call of a function if it has intermediate results."""
        found = self.rules.read(lowered, names)
        if not found.lines:
            return found
        uses = self.rules.reads(lowered)
        if key not in self.names:
            name = self.fresh(f"op_{op.name}{part}" if re.fullmatch(r"\w+", op.name, re.ASCII) else f"op{part}")
            self.names[key] = name
            letters = [f"x{k}" for k in range(len(names))]
            inside = self.rules.read(lowered, [Expr(x) for x in letters])
            arguments = ", ".join(f"double {x}" for x, used in zip(letters, uses) if used) or "void"
            lines = "".join(f"    const double {a} = {b};\n" for a, b in inside.lines)
            self.above.append(f"static double {name}({arguments})\n{{\n{lines}    return {inside.result.text};\n}}\n")
        found.result = Expr(f"{self.names[key]}({', '.join(x.text for x, n in zip(names, uses) if n)})")
        return found

    def fresh(self, name: str) -> str:
        """The name, with a number if it is taken."""
        taken = set(self.names.values())
        count, made = 1, name
        while made in taken:
            count += 1
            made = f"{name}_{count}"
        return made

    # --- places -----------------------------------------------------------------------------------------------------

    def located(self, nodes: Sequence[int]) -> list[tuple[int, int]]:
        """The array and member of each node."""
        return [(int(self.program.array[i]), int(self.program.member[i])) for i in nodes]

    def index(self, places: Places, i: str) -> str:
        """The places as an expression in a loop's counter."""
        first = int(places[0])
        if is_single(places):
            return str(first)
        steps = places[1:] - places[:-1]
        if (steps == steps[0]).all():
            step = int(steps[0])
            text = f"{step} * {i}" if abs(step) != 1 else i if step == 1 else f"-{i}"
            return text if not first else f"{text} + {first}" if step > 0 else f"{first} - {text[1:]}"
        return f"{self.table(places)}[{i}]"

    def table(self, places: Places) -> str:
        """The name of a table of places."""
        key = ("table", places.astype("int64").tobytes())
        if key not in self.names:
            self.names[key] = name = self.fresh(f"I{1 + sum(k[0] == 'table' for k in self.names)}")
            kind = "unsigned char" if places.max() < 256 else "unsigned short" if places.max() < 65536 else "int"
            self.above.append(table(f"static const {kind} {name}[{len(places)}]", map(str, places.tolist())))
        return self.names[key]

    def index2(self, places: Places, i: str, j: str) -> str:
        """The places [member, term] as an expression in two counters."""
        rows, terms = places.shape
        if terms == 1:
            return self.index(places[:, 0], i)
        if rows == 1:
            return self.index(places[0], j)
        down, across = places[:, 0] - places[0, 0], places[0]
        if (places == down[:, None] + across).all():
            text = self.index(across, j)
            if not down.any():
                return text
            before = self.index(down, i) if down.min() >= 0 else ""
            if before:
                return before if text == "0" else f"{before} + {text}"
        return f"{self.table(places.ravel())}[{terms} * {i} + {j}]"

    def member(self, k: int, index: str) -> str:
        """A member of an array."""
        if k in (INPUTS, PARAMETERS):
            return f"{'xw'[k]}[{index}]"
        return f"h{k}" if self.is_number(k) else f"h{k}[{index}]"

    def constants(self, places: Places, index: str) -> Expr:
        """The constants at these places: a literal, or an entry of a table that has them in the order of reading."""
        values = [self.program.constants[i] for i in places.ravel().tolist()]
        if is_single(places):
            return self.rules.literal(values[0])
        key = ("numbers", tuple(map(repr, values)))
        if key not in self.names:
            self.names[key] = name = self.fresh(f"C{1 + sum(k[0] == 'numbers' for k in self.names)}")
            texts = [self.rules.literal(x).text for x in values]
            self.above.append(table(f"static const double {name}[{len(values)}]", texts))
        return Expr(f"{self.names[key]}[{index}]")

    def read(self, k: int, places: Places, loop: FusedLoop) -> Expr:
        """The operand of member i (and of term k); in the forward pass, arrays of the same loop are local variables."""
        if k == CONSTANTS:
            counter = "i" if places.ndim == 1 or places.shape[1] == 1 else f"{places.shape[1]} * i + k"
            return self.constants(places, "k" if len(places) == 1 else counter)
        if k in loop.steps:
            return self.own(k, loop)
        index = self.index(places, "i") if places.ndim == 1 else self.index2(places, "i", "k")
        return Expr(self.member(k, index))

    def own(self, k: int, loop: FusedLoop) -> Expr:
        """Member i of an array of the loop."""
        return Expr(f"a{k}" if self.going_forward and not self.is_number(k) else self.member(k, "i"))

    # --- loops ------------------------------------------------------------------------------------------------------

    def fused(self) -> tuple[list[FusedLoop], dict[int, int]]:
        """Group arrays into loops: an array joins the loop of the last array that it reads, if member by member."""
        loops: list[FusedLoop] = []
        of = dict.fromkeys(range(LEAVES), -1)
        for k, step in self.steps.items():
            last = max((of[j] for j in sources(step)), default=-1)
            inside = [
                len(places) == size and (places == range(size)).all()
                for j, places in _reads(step)
                if of[j] == last and last >= 0
                for size in (self.sizes[j],)
            ]
            if last >= 0 and loops[last].size == self.sizes[k] and all(inside):
                of[k] = last
            else:
                of[k] = len(loops)
                loops.append(FusedLoop(self.sizes[k]))
            loops[of[k]].steps.append(k)
        return loops, of

    def function(self, gradient: int | None, several: bool) -> tuple[list[list[str]], int]:
        """The lines of functions to be called in turn, of which the last gives the results; the size of workspace v.

        gradient: how many parameters, the first ones, the derivatives are taken by; None: only values are computed.
        """
        self.gradient = gradient or 0
        stored = {k for k, _ in self.outputs}
        for k, step in self.steps.items():
            stored |= {j for j in sources(step) if self.loop_of[j] != self.loop_of[k]}
        self.going_forward = False
        back = self.backward(stored, several) if gradient is not None else []
        self.going_forward = True
        stored |= {int(k) for k in re.findall(r"\bh(\d+)\b", "\n".join(map("\n".join, back)))}
        blocks = [self.forward(loop, stored) for loop in self.loops] + back
        ends = [self.member(k, str(i)) if k != CONSTANTS else self.number(i) for k, i in self.outputs]
        last = [f"out[{i}] = {text};" for i, text in enumerate(ends)] if several else [f"return {ends[0]};"]
        places, size = _placed([*blocks, last], self.sizes)
        pieces: list[list[str]] = [[]]
        for block in blocks:
            if len(self.steps) > MANY and len(pieces[-1]) + len(block) > PIECE:
                pieces.append([])
            pieces[-1] += block
        if len(pieces) > 1:
            pieces.append([])
        pieces[-1] += last
        for piece in pieces:
            used = set(re.findall(r"\b[hd]\d+\b", "\n".join(piece)))
            piece[:0] = [line for name, line in places.items() if name in used]
        return pieces, size

    def number(self, i: int) -> str:
        """A constant."""
        return self.rules.literal(self.program.constants[i]).text

    def forward(self, loop: FusedLoop, stored: set[int]) -> list[str]:
        """The lines of a loop that computes its arrays."""
        lines: list[str] = []
        for k in loop.steps:
            step, name = self.steps[k], self.own(k, loop).text
            if isinstance(step, Map):
                known = constants_read(self.program, step)
                names = [self.read(j, places, loop) for j, places in step.reads]
                lowered = self.rules.value(step.op, known, step.precise)
                key = (step.op, tuple(map(repr, known)), step.precise, "value")
                lines.append(f"const double {name} = {self.rule(step.op, '', lowered, key, names).result.text};")
            else:
                lines += self.sum(name, step, loop)
            if k in stored and not self.is_number(k):
                lines.append(f"h{k}[i] = {name};")
        return lines if self.is_number(loop.steps[0]) else counted("i", loop.size, lines)

    def sum(self, name: str, step: Sum, loop: FusedLoop) -> list[str]:
        """The lines that compute a sum: single terms first, then loops over terms."""
        first, loops = [], []
        for part in step.parts:
            if isinstance(part, Terms):
                count, text = part.places.shape[1], self.read(part.source, part.places, loop)
            else:
                count = part.left_places.shape[1]
                pair = [
                    self.read(part.left, part.left_places, loop),
                    self.read(part.right, part.right_places, loop),
                ]
                kept = [x for x in pair if x.text not in ("1.0",)] or pair[:1]
                text = Expr(" * ".join(x._inside(3) for x in kept), 2 if len(kept) > 1 else 5)
            if count == 1:
                if text.text != "0.0":
                    first.append(text.text)
            else:
                loops.append((count, text.text))
        start = " + ".join(first) or self.rules.literal(0.0).text
        if not loops:
            return [f"const double {name} = {start};"]
        lines = [f"double {name} = {start};"]
        for count, term in loops:
            lines += counted("k", count, [f"{name} += {term};"])
        return lines

    # --- backward ---------------------------------------------------------------------------------------------------

    def wanted(self, k: int, places: Places) -> bool:
        """Whether the adjoints of the members that are read are needed."""
        return bool(places.min() < self.gradient) if k == PARAMETERS else k in self.needed

    def backward(self, stored: set[int], several: bool) -> list[list[str]]:
        """The backward sweep."""
        self.needed: set[int] = set()  # the arrays that depend on parameters
        bodies: dict[int, list[str]] = {}
        for loop in self.loops:
            for k in loop.steps:
                step = self.steps[k]
                lines = self.back_map(k, step, loop) if isinstance(step, Map) else self.back_sum(k, step, loop)
                if lines:
                    bodies[k] = lines
                    self.needed.add(k)
        zero = self.rules.literal(0.0).text
        blocks = [counted("i", self.gradient, [f"gradient[i] = {zero};"])] if self.gradient else []
        for j, (k, place) in enumerate(self.outputs):
            if k in self.needed or (k == PARAMETERS and place < self.gradient):
                seed = f"cotangent[{j}]" if several else self.rules.literal(1.0).text
                blocks.append([f"{self.adjoint(k, str(place))} += {seed};"])
        for loop in reversed(self.loops):
            steps = [k for k in reversed(loop.steps) if k in self.needed]
            if steps:
                starts = [f"double g{k} = {self.adjoint(k, 'i') if k in stored else zero};" for k in steps]
                lines = starts + [line for k in steps for line in bodies[k]]
                number = self.is_number(loop.steps[0])
                blocks.append(["{", *_indented(lines), "}"] if number else counted("i", loop.size, lines))
        return self.cleared(blocks, zero)

    def cleared(self, blocks: list[list[str]], zero: str) -> list[list[str]]:
        """The blocks, with lines that clear an array of adjoints before the first block that adds to it."""
        done: set[str] = set()
        found: list[list[str]] = []
        for block in blocks:
            for name in dict.fromkeys(re.findall(r"\bd(\d+)\b", "\n".join(block))):
                if name not in done:
                    done.add(name)
                    size = self.sizes[int(name)]
                    line = f"d{name}[i] = {zero};"
                    number = self.is_number(int(name))
                    found.append([f"double d{name} = {zero};"] if number else counted("i", size, [line]))
            found.append(block)
        return found

    def adjoint(self, k: int, index: str) -> str:
        """A member of the adjoint of an array."""
        if k == PARAMETERS:
            return f"gradient[{index}]"
        return f"d{k}" if self.is_number(k) else f"d{k}[{index}]"

    def give(self, k: int, places: Places, text: str, loop: FusedLoop) -> list[str]:
        """The line that adds to the adjoint of the member that was read."""
        if k in loop.steps:
            return [f"g{k} += {text};"]
        index = self.index(places, "i") if places.ndim == 1 else self.index2(places, "i", "k")
        line = f"{self.adjoint(k, index)} += {text};"
        if k == PARAMETERS and places.max() >= self.gradient:
            return [f"if ({index} < {self.gradient})", f"    {line}"]
        return [line]

    def back_map(self, k: int, step: Map, loop: FusedLoop) -> list[str]:
        """The lines that add to the adjoints of a map's operands."""
        known = constants_read(self.program, step)
        names = [self.own(k, loop), *[self.read(j, places, loop) for j, places in step.reads]]
        lines: list[str] = []
        for position, (source, places) in enumerate(step.reads):
            if not self.wanted(source, places):
                continue
            lowered = self.rules.slope(step.op, known, position)
            part = "_slope" if len(step.reads) == 1 else f"_slope_{position + 1}"
            slope = self.rule(step.op, part, lowered, (step.op, tuple(map(repr, known)), part), names)
            if slope.constant == 0.0:
                continue
            if slope.constant in (1.0, -1.0):
                text = f"{'-' if slope.constant < 0.0 else ''}g{k}"
            elif slope.tame:
                text = f"g{k} * {slope.result._inside(3)}"
            else:
                if CHAIN not in self.above:
                    self.above.append(CHAIN)
                text = f"chain(g{k}, {slope.result.text})"
            lines += self.give(source, places, text, loop)
        return lines

    def back_sum(self, k: int, step: Sum, loop: FusedLoop) -> list[str]:
        """The lines that add to the adjoints of a sum's terms and factors."""
        lines: list[str] = []
        for part in step.parts:
            sides = _sides(part)
            inside: list[str] = []
            for source, places, other in sides:
                if self.wanted(source, places):
                    factor = self.read(other[0], other[1], loop)._inside(3) if other else "1.0"
                    inside += self.give(source, places, f"g{k}" + (f" * {factor}" if factor != "1.0" else ""), loop)
            count = sides[0][1].shape[1]
            lines += inside if count == 1 or not inside else counted("k", count, inside)
        return lines


def _sides(part: Terms | Products) -> list[tuple[int, Places, tuple[int, Places] | None]]:
    """The operands of a part of a sum, each with its factor: of a term none, of a product the other operand."""
    if isinstance(part, Terms):
        return [(part.source, part.places, None)]
    left, right = (part.left, part.left_places), (part.right, part.right_places)
    return [(*left, right), (*right, left)]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def counted(counter: str, count: int, lines: list[str], down: bool = False) -> list[str]:
    """A loop, upwards or downwards."""
    head = f"for (int {counter} = 0; {counter} < {count}; {counter}++)"
    if down:
        head = f"for (int {counter} = {count - 1}; {counter} >= 0; {counter}--)"
    return [head, *_indented(lines)] if len(lines) == 1 else [f"{head} {{", *_indented(lines), "}"]


def table(head: str, numbers: Iterable[str]) -> str:
    """The definition of a table of constants."""
    inside = textwrap.fill(", ".join(numbers), LINE, initial_indent="    ", subsequent_indent="    ")
    return f"{head} = {{\n{inside}\n}};\n"


def _placed(blocks: list[list[str]], sizes: Sequence[int]) -> tuple[dict[str, str], int]:
    """The lines that place each array in the workspace, and the size of the workspace.

    An array that a block reads for the last time leaves its place to one that a later block writes first.
    """
    spans: dict[str, tuple[int, int]] = {}
    for number, block in enumerate(blocks):
        for name in re.findall(r"\b([hd]\d+)\[", "\n".join(block)):
            spans[name] = (spans.get(name, (number, 0))[0], number)
    lines: dict[str, str] = {}
    placed: list[tuple[int, int, int]] = []  # offset, size, last block of those that are in use
    most = 0
    for name, (birth, death) in sorted(spans.items(), key=lambda item: item[1]):
        size, offset = sizes[int(name[1:])], 0
        placed = [place for place in placed if place[2] >= birth]
        for start, length, _ in placed:
            if offset + size <= start:
                break
            offset = start + length
        bisect.insort(placed, (offset, size, death))
        most = max(most, offset + size)
        lines[name] = f"double *const {name} = v + {offset};" if offset else f"double *const {name} = v;"
    return lines, most


def _reads(step: Map | Sum) -> list[tuple[int, Places]]:
    """The arrays that a step reads, and the places of their members, one after the other."""
    if isinstance(step, Map):
        return step.reads
    found = []
    for part in step.parts:
        if isinstance(part, Terms):
            found.append((part.source, part.places.ravel()))
        else:
            found += [(part.left, part.left_places.ravel()), (part.right, part.right_places.ravel())]
    return found

"""Programs with loops as text: a `for` loop over carried numbers, as one would write it by hand; in Python.

A number that is read once is written where it is read. A loop that runs in reverse counts downwards, and reads the
numbers that the iterations of the forward loop have stored.
"""

from __future__ import annotations

import abc
import copy
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from micrograd_bp._engine.instructions import instruction
from micrograd_bp._engine.labels import usable
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.evaluation import UnsuitableError
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.program import Element, FlatProgram, InstructionFor, Loop, live
from micrograd_bp.compiler.python import PythonWriter, Source
from micrograd_bp.ops import TABLE, Op, add, chain, mul, neg, pos, sub

MOST = 10  # operations of an expression, at most; the operands of a longer one get names
GROWING = ("exp", "exp2", "expm1", "sinh", "cosh")  # infinite only by overflow


# --- turns that are written out ---------------------------------------------------------------------------------------


def whole_turns(program: FlatProgram, labels: Sequence[str] = ()) -> FlatProgram:
    """The program with iterations that stand before or after a loop moved into it, and with labels for carried numbers.

    The first turn is found apart where it reads what was there before, the last where not all of it is needed.
    labels: of the inputs, then of the parameters.
    """
    made = copy.copy(program)
    given = dict(zip((*made.inputs, *made.parameters), labels))
    made.labels = {i: label for i, label in given.items() if label}
    made.loops = list(program.loops)
    rows = [x for reads in (made.reads, *[loop.reads for loop in made.loops]) for x in reads.values()]
    for k in range(len(made.loops) * all(isinstance(x.sequence, (str, tuple)) for x in rows)):
        if any(made.loops[k].start <= i < made.loops[k].stop for i in made.guards):
            continue  # what holds in all iterations of the loop may not hold in others
        for _ in range(2):  # if iterations change nothing, one more would always fit
            if (loop := _earlier(made, made.loops[k])) is not None:
                made.loops[k] = loop
        while _later(made, k):
            pass
    for loop in made.loops:
        for leaf, before, _ in loop.carried:
            if before in made.labels and leaf not in made.labels:
                made.labels[leaf] = made.labels[before]
    return made


def readable(program: FlatProgram) -> bool:
    """Whether no loop's numbers are read turn by turn, or in a single turn, outside of it."""
    turning = [*program.reads.values(), *[read for loop in program.loops for read in loop.reads.values()]]
    return not any(read.nodes for read in turning)


def _stands_for(program: FlatProgram, read: Element, turn: int, i: int) -> Element | None:
    """The read, extended by an iteration at either end, if leaf i is what it reads there; else None."""
    at = read.first + read.step * turn
    first = at if turn < 0 else read.first
    if isinstance(read.sequence, str):
        places = program.inputs if read.sequence == "inputs" else program.parameters
        return replace(read, first=first) if 0 <= at < len(places) and places[at] == i else None
    if not isinstance(read.sequence, tuple) or i not in program.constants:
        return None
    numbers, x = read.sequence, program.constants[i]
    if 0 <= at < len(numbers):
        return replace(read, first=first) if repr(numbers[at]) == repr(x) else None
    if at == len(numbers):
        return Element((*numbers, x), first, read.step)
    return Element((x, *numbers), 0, read.step) if at == -1 and read.step == 1 else None


def _earlier(program: FlatProgram, loop: Loop) -> Loop | None:
    """The loop with one more iteration at its beginning, if the nodes before it are one; else None."""
    bound: dict[int, int] = {}
    reads = dict(loop.reads)
    leaves = {leaf for leaf, _, _ in loop.carried}
    pairs = [(before, after) for _, before, after in loop.carried]
    seen = set(pairs)
    for pair in pairs:  # the list grows meanwhile
        there, here = pair
        if here in leaves:
            if bound.setdefault(here, there) != there:
                return None
        elif here in loop.reads:
            read = _stands_for(program, loop.reads[here], -1, there)
            if read is None:
                return None
            reads[here] = read
        elif loop.start <= here < loop.stop:
            a, b = program.operands[there], program.operands[here]
            if program.ops[there] is not program.ops[here] or len(a) != len(b):
                return None
            more = [x for x in zip(a, b) if x not in seen]
            seen.update(more)
            pairs += more
        elif there != here:
            return None
    if leaves - bound.keys() or any(read.first == loop.reads[i].first and read.step for i, read in reads.items()):
        return None
    if any(bound[leaf] == before for leaf, before, _ in loop.carried) and all(
        bound[leaf] == before for leaf, before, _ in loop.carried
    ):
        return None  # nothing changes from one iteration to the next
    carried = [(leaf, bound[leaf], after) for leaf, _, after in loop.carried]
    return Loop(loop.start, loop.stop, loop.count + 1, carried, reads)


def _later(program: FlatProgram, k: int) -> bool:
    """Add an iteration at the end of a loop, if the nodes after it are the needed part of one; returns whether."""
    loop = program.loops[k]
    after = {b: leaf for leaf, _, b in loop.carried}
    if len(after) < len(loop.carried):
        return False
    body: dict[tuple[Op | None, tuple[int, ...]], int] = {}
    equal: dict[int, int] = {}  # for each node of the body, the first that equals it
    for i in range(loop.start, loop.stop):
        equal[i] = body.setdefault((program.ops[i], tuple([equal.get(x, x) for x in program.operands[i]])), i)
    same: dict[int, int] = {}  # for nodes after the loop, the nodes of the body that they are in a further iteration
    leaf_of = {i: leaf for leaf, read in loop.reads.items() for i in _next(program, loop, read)}
    stop = program.loops[k + 1].start if k + 1 < len(program.loops) else len(program)
    for i in range(loop.stop, stop):
        operands = tuple([same.get(x, after.get(x, leaf_of.get(x, x))) for x in program.operands[i]])
        if program.ops[i] is not None and (program.ops[i], operands) in body:
            same[i] = body[program.ops[i], operands]
    ends = {i for i in range(loop.stop, len(program)) if i not in same}
    read = {x for i in ends for x in program.operands[i]} | {*program.outputs, *program.guards, *program.checks}
    read |= {i for later in program.loops[k + 1 :] for _, before, _ in later.carried for i in (before,)}
    given = {same[i] for i in read if i in same}
    inside = range(loop.start, loop.stop)
    ended = {equal[i]: i for i in after if i in equal}
    same |= {i: ended[same[i]] for i in read if same.get(i) in ended}
    if not given or not given <= ended.keys() or any(i in inside or i in after.values() for i in read):
        return False
    reads = {}
    for leaf, turning in loop.reads.items():
        found = [x for i in _next(program, loop, turning) if (x := _stands_for(program, turning, loop.count, i))]
        if not found:
            return False
        reads[leaf] = found[0]

    def moved(i: int) -> int:
        return same.get(i, i)

    program.operands = [
        tuple(map(moved, operands)) if i in ends else operands for i, operands in enumerate(program.operands)
    ]
    for name in ("outputs", "guards", "checks"):
        setattr(program, name, [*map(moved, getattr(program, name))])
    program.loops[k] = Loop(loop.start, loop.stop, loop.count + 1, loop.carried, reads)
    for n in range(k + 1, len(program.loops)):
        later = program.loops[n]
        carried = [(leaf, moved(before), b) for leaf, before, b in later.carried]
        program.loops[n] = Loop(later.start, later.stop, later.count, carried, later.reads)
    return True


def _next(program: FlatProgram, loop: Loop, read: Element) -> list[int]:
    """The leaves that the read may stand for in the iteration after the last one."""
    if isinstance(read.sequence, str):
        places = program.inputs if read.sequence == "inputs" else program.parameters
        return places[read.first + read.step * loop.count :][:1]
    return list(program.constants) if isinstance(read.sequence, tuple) else []


# --- statements -------------------------------------------------------------------------------------------------------


def finite(program: FlatProgram, native: InstructionFor) -> list[bool]:
    """For each node, whether it is finite, overflow apart, if all inputs and parameters are."""
    linked = program.links()
    turning = {**program.reads, **{i: read for loop in program.loops for i, read in loop.reads.items()}}
    wild = {
        i
        for i, read in turning.items()
        if isinstance(read.sequence, tuple) and not all(map(math.isfinite, read.sequence))
    }
    while True:
        found = [i not in wild and math.isfinite(program.constants.get(i, 0.0)) for i in range(len(program))]
        for i, op in enumerate(program.ops):
            if op is not None:
                name = native(op, len(program.operands[i]), True)
                grows = op is chain or name in GROWING or instruction(name).tame
                found[i] = grows and all(found[k] for k in program.operands[i])
        more = {leaf for leaf, nodes in linked.items() if found[leaf] and not all(found[i] for i in nodes)}
        if not more:
            return found
        wild |= more


@dataclass(slots=True, eq=False)
class LoopPart:
    """A loop, or the stretch between two: its statements, and the nodes that are written inside them."""

    loop: Loop | None
    nodes: range
    statements: list[tuple[int, set[int]]] = field(default_factory=list)  # each with the nodes that it reads
    inside: dict[int, tuple[set[int], int]] = field(default_factory=dict)  # written in place: reads, operations
    last: dict[int, int] = field(default_factory=dict)  # computed at an iteration's end: the carried leaf


class LoopExpressions(abc.ABC):
    """The expressions of a program with loops, and which nodes have names; a subclass writes them in its language.

    names: those of the inputs and parameters; own: the names among these that may be assigned to.
    """

    def __init__(
        self,
        program: FlatProgram,
        native: InstructionFor,
        names: dict[int, str],
        taken: Iterable[str],
        own: Iterable[int] = (),
    ) -> None:
        self.program, self.native = program, native
        self.needed = live(program, [*program.outputs, *program.guards])
        self.finite = finite(program, native)
        self.names = {i: Expr(name) for i, name in names.items()}
        self.taken, self.own = {*taken, *names.values()}, {*own}
        self.above: list[str] = []
        self.tables: dict[tuple[str, ...], str] = {}
        self.parts: list[LoopPart] = []
        start = 0
        for loop in program.loops:
            if not any(self.needed[i] for i in range(loop.start, loop.stop)):
                continue
            self.parts += [LoopPart(None, range(start, loop.start)), LoopPart(loop, range(loop.start, loop.stop))]
            start = loop.stop
        self.parts.append(LoopPart(None, range(start, len(program))))
        self.turning: dict[int, tuple[Loop | None, Element]] = {i: (None, read) for i, read in program.reads.items()}
        for part in self.parts:
            if part.loop is not None:
                self.turning |= {i: (part.loop, read) for i, read in part.loop.reads.items()}
        sequences = [read.sequence for i, (_, read) in self.turning.items() if self.needed[i]]
        self.kept = dict.fromkeys(i for i in sequences if isinstance(i, int))
        self.part_of = {i: k for k, part in enumerate(self.parts) for i in part.nodes}
        self.uses: dict[int, list[int]] = {}  # for each node, the part of each of its readers
        for k, part in enumerate(self.parts):
            for i in part.nodes:
                if self.needed[i]:
                    self.use(self.program.operands[i], k)
            for _, before, after in self.carried(part):
                self.use([before], k - 1)
                if self.part_of.get(after) != k or program.ops[after] is None:
                    self.use([after], k)
        self.use(program.outputs, len(self.parts) - 1)
        for i in program.guards:
            self.use([i], self.part_of[i])
        for part in self.parts:
            self.arrange(part)

    def use(self, nodes: Iterable[int], part: int) -> None:
        for i in nodes:
            self.uses.setdefault(i, []).append(part)

    def carried(self, part: LoopPart) -> list[tuple[int, int, int]]:
        """The carried numbers of a loop that are needed."""
        found = [x for x in part.loop.carried if self.needed[x[0]]] if part.loop is not None else []
        return sorted(found, key=lambda x: x[1])

    def arrange(self, part: LoopPart) -> None:
        """Decide which nodes of a part become statements, and which are written where they are read."""
        number = self.parts.index(part)
        leaves: dict[int, list[int]] = {}
        for leaf, _, after in self.carried(part):
            leaves.setdefault(after, []).append(leaf)
            if any(k > number for k in self.uses.get(leaf, ())):
                raise UnsuitableError  # its number in the iteration before the last is not known
        for i in part.nodes:
            if self.program.ops[i] is None or not self.needed[i]:
                continue
            read: set[int] = set()
            size = 1
            for k in self.program.operands[i]:
                more, count = part.inside.get(k, ({k}, 0))
                read |= more
                size += count
            here = self.uses.get(i, []).count(number)
            alone = i not in self.kept and i not in self.program.guards and not self.label(i)
            if i in leaves and not here and alone and len(leaves[i]) == 1:
                part.inside[i], part.last[i] = (read, size), leaves[i][0]
            elif i not in leaves and alone and self.uses.get(i, []) == [number] and size <= MOST:
                part.inside[i] = read, size
            else:
                part.statements.append((i, read))

    # --- names -----------------------------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """The name, with a number if it is taken."""
        count, made = 1, name
        while made in self.taken:
            count += 1
            made = f"{name}{count}" if not name[-1:].isdigit() else f"{name}_{count}"
        self.taken.add(made)
        return made

    def numbered(self, letter: str) -> str:
        """The next free name of a letter and a number."""
        count = 1
        while f"{letter}{count}" in self.taken:
            count += 1
        self.taken.add(f"{letter}{count}")
        return f"{letter}{count}"

    def label(self, i: int) -> str:
        """The label of a node, if that can be a name."""
        label = self.program.labels.get(i, "")
        return label if usable(label) and label.isascii() else ""

    def named(self, i: int, letter: str = "t") -> Expr:
        """Give a node a name of its own, by which it is written from now on."""
        self.names[i] = Expr(self.fresh(self.label(i)) if self.label(i) else self.numbered(letter))
        return self.names[i]

    # --- expressions -----------------------------------------------------------------------------------------------

    def expression(self, i: int, part: LoopPart) -> Expr:
        """The expression for a node: its name, or its formula if it is written in place."""
        if i in self.program.constants:
            return self.literal(self.program.constants[i])
        if i in self.turning:
            return self.read(i, part)
        return self.formula(i, part) if i in part.inside else self.names[i]

    def formula(self, i: int, part: LoopPart) -> Expr:
        """The expression that computes a node."""
        op, operands = self.program.ops[i], self.program.operands[i]
        assert op is not None
        if op is chain:  # 0 times a finite number is 0
            known = [self.program.constants.get(k, 0.0) for k in operands]
            if 1.0 in known:
                return self.expression(operands[known[0] == 1.0], part)
            fixed = any(x and math.isfinite(x) for x in known)
            op = mul if fixed or all(self.finite[k] for k in operands) else op
        if op is add:
            for k, other in operands[::-1], operands:
                if k in part.inside and self.program.ops[k] is neg:
                    op, operands = sub, (other, self.program.operands[k][0])
                    break
        if self.native(op, len(operands), True) == "select":
            k = operands[0]
            test = self.test(k, part) if k in part.inside else ""
            if test or self.truth(self.expression(k, part)):
                test = test or self.truth(self.expression(k, part))
                return self.chosen(test, *[self.expression(x, part) for x in operands[1:]])
        return self.spell(op, [self.expression(x, part) for x in operands])

    def test(self, i: int, part: LoopPart) -> str:
        """A comparison as a condition; "": the node is no comparison."""
        op, operands = self.program.ops[i], self.program.operands[i]
        assert op is not None
        test = instruction(self.native(op, len(operands), True)).test
        return test.format(*[self.expression(k, part)._inside(1) for k in operands]) if test else ""

    def read(self, i: int, part: LoopPart) -> Expr:
        """The expression for an element of a sequence."""
        loop, read = self.turning[i]
        at, step = read.first, read.step
        if loop is not None and self.descends(loop):
            at, step = at + step * (loop.count - 1), -step
        text = "" if step == 0 else "i" if step == 1 else "-i" if step == -1 else f"{step} * i"
        if not text or at:
            text = str(at) if not text else f"{text} + {at}" if step > 0 else f"{at} - {text.lstrip('-')}"
        if isinstance(read.sequence, int):
            if self.kept[read.sequence] is None:
                raise UnsuitableError
            return Expr(f"{self.kept[read.sequence]}[{text}]")
        if isinstance(read.sequence, str):
            return Expr(f"{self.sequence(read.sequence)}[{text}]")
        if not isinstance(read.sequence, tuple):
            raise UnsuitableError  # numbers in a row that several nodes have written
        numbers = tuple(self.literal(x).text for x in read.sequence)
        if numbers not in self.tables:
            self.tables[numbers] = name = self.numbered("C")
            self.above.append(self.table(name, numbers))
        return Expr(f"{self.tables[numbers]}[{text}]")

    def descends(self, loop: Loop) -> bool:
        """Whether the loop counts downwards."""
        steps = [read.step for i, read in loop.reads.items() if self.needed[i]]
        return bool(steps) and max(steps) <= 0 and min(steps) < 0

    # --- the language ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def spell(self, op: Op, operands: list[Expr]) -> Expr:
        """The text of an operation."""

    def truth(self, x: Expr) -> str:
        """The condition that a number is not 0; "" if `spell` writes `where` itself."""
        return ""

    def chosen(self, test: str, x: Expr, y: Expr) -> Expr:
        """The text that chooses one of two numbers by a condition, as in Python."""
        return Expr(f"{x._inside(1)} if {test} else {y.text}", 0)

    @abc.abstractmethod
    def literal(self, x: float) -> Expr:
        """The text of a number."""

    @abc.abstractmethod
    def sequence(self, name: str) -> str:
        """The name of the sequence of inputs, or of parameters."""

    @abc.abstractmethod
    def table(self, name: str, numbers: tuple[str, ...]) -> str:
        """Add a table of numbers; returns its name."""


class LoopWriter(LoopExpressions):
    """The statements of a program with loops; a subclass writes them in its language."""

    def write(self) -> None:
        """Write all parts."""
        self.lines: list[str] = []
        for part in self.parts:
            if part.loop is None:
                for i, _ in part.statements:
                    if self.asked(i, part):
                        continue
                    text = self.formula(i, part).text
                    self.lines += self.define(self.named(i).text, text)
            else:
                self.loop(part, part.loop)

    def asked(self, i: int, part: LoopPart) -> bool:
        """Write the test of a guard on a node; returns whether nothing else reads the node."""
        return False

    def loop(self, part: LoopPart, loop: Loop) -> None:
        """Write a loop: the carried numbers, its head and its body."""
        for leaf, before, _ in self.carried(part):
            if before in self.own and self.uses[before] == [self.parts.index(part) - 1]:
                self.names[leaf] = self.names[before]
                self.own.discard(before)
                continue
            text = self.expression(before, self.parts[self.parts.index(part) - 1]).text
            self.lines += self.declare(self.named(leaf, "s").text, text)
        carried = [leaf for leaf, _, _ in self.carried(part)]
        mine = {*carried, *part.nodes}
        for i in self.kept:
            if i in mine:
                self.kept[i] = self.keep(i, loop)
        joined = self.joined(part)
        escaping = {i for i, _ in part.statements if any(k > self.part_of[i] for k in self.uses.get(i, ()))}
        escaping -= {after for _, _, after in loop.carried}
        for i in escaping:
            self.lines += self.before(self.named(i).text)
        outer, self.lines = self.lines, []
        for leaf in carried:
            self.lines += self.stored(leaf, loop)
        for i, _ in part.statements:
            if self.asked(i, part):
                continue
            text = self.formula(i, part).text
            if i in joined:
                self.names[i] = self.names[joined[i]]
                self.lines += self.assign([self.names[i].text], [text])
            elif i in escaping:
                self.lines += self.assign([self.names[i].text], [text])
            else:
                self.lines += self.define(self.named(i).text, text)
            self.lines += self.stored(i, loop)
        self.update(part, [x for x in self.carried(part) if x[0] not in joined.values()])
        self.lines = [*outer, *self.turns(loop, self.lines)]
        for leaf, _, after in self.carried(part):
            self.names[after] = self.names[leaf]

    def stored(self, i: int, loop: Loop) -> list[str]:
        """The line that stores a number of this iteration, if another loop reads it."""
        return [self.store(str(self.kept[i]), self.names[i].text, loop)] if i in self.kept else []

    def joined(self, part: LoopPart) -> dict[int, int]:
        """Statements that may assign to a carried name at once, since its old number is not read any more."""
        carried = self.carried(part)
        afters = [after for _, _, after in carried]
        ends = [(after, part.inside[after][0] if after in part.inside else {after}) for after in afters]
        found: dict[int, int] = {}
        for leaf, _, after in carried:
            at = [k for k, (i, _) in enumerate(part.statements) if i == after]
            if at and afters.count(after) == 1:
                later = [read for _, read in part.statements[at[0] + 1 :]] + [r for i, r in ends if i != after]
                if not any(leaf in read for read in later):
                    found[after] = leaf
        return found

    def update(self, part: LoopPart, waiting: list[tuple[int, int, int]]) -> None:
        """Assign the carried numbers: one after the other, or all at once if they read each other's old numbers."""
        reads = {leaf: part.inside[after][0] if after in part.last else {after} for leaf, _, after in waiting}
        waiting = sorted([x for x in waiting if x[0] != x[2]], key=lambda x: x[1])
        while waiting:
            free = [x for x in waiting if not any(x[0] in reads[leaf] for leaf, _, _ in waiting if leaf != x[0])]
            now = free[:1] or waiting
            names = [self.names[leaf].text for leaf, _, _ in now]
            texts = [(self.formula(i, part) if i in part.last else self.expression(i, part)).text for _, _, i in now]
            self.lines += self.assign(names, texts)
            waiting = [x for x in waiting if x not in now]

    # --- the language ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def define(self, name: str, text: str) -> list[str]:
        """The lines that define a name which is not assigned to again."""

    @abc.abstractmethod
    def declare(self, name: str, text: str) -> list[str]:
        """The lines that define a name which is assigned to again."""

    @abc.abstractmethod
    def before(self, name: str) -> list[str]:
        """The lines before a loop for a name that is read after it."""

    @abc.abstractmethod
    def assign(self, names: list[str], texts: list[str]) -> list[str]:
        """The lines that assign numbers to names, all at once."""

    @abc.abstractmethod
    def keep(self, i: int, loop: Loop) -> str:
        """Define an array for a node's numbers in all iterations; returns its name."""

    @abc.abstractmethod
    def store(self, name: str, text: str, loop: Loop) -> str:
        """The line that stores a number in such an array."""

    @abc.abstractmethod
    def turns(self, loop: Loop, lines: list[str]) -> list[str]:
        """The lines of a loop with this body."""


# --- Python -----------------------------------------------------------------------------------------------------------


def loop_source(program: FlatProgram, name: str, truths: Sequence[bool] = ()) -> Source | None:
    """The program as a function of its inputs and parameters that returns a tuple; None: it cannot be written so.

    truths: the truth values that its guards must have.
    """
    try:
        return _PythonLoops(program, name, truths).source()
    except UnsuitableError:
        return None


def python_instruction(op: Op, count: int, exact: bool) -> str:
    """The instruction for an op in Python, which has them all; pos(x) is x."""
    if op is pos:
        return ""
    return op.native if op.native and op is not chain else f"python {op.name}"


class _PythonLoops(LoopWriter):
    """Writes a Python function."""

    def __init__(self, program: FlatProgram, name: str, truths: Sequence[bool]) -> None:
        program = lower(program, python_instruction, exact=True)
        if any(i in program.constants for i in program.guards):
            raise UnsuitableError
        self.truths = dict(zip(program.guards, truths, strict=True))
        labels = [program.labels.get(i, "") for i in (*program.inputs, *program.parameters)]
        self.writer = writer = PythonWriter([], [], name)
        turning = [*program.reads.values(), *[x for loop in program.loops for x in loop.reads.values()]]
        self.whole = {read.sequence: "" for read in turning if isinstance(read.sequence, str)}
        taken = {*TABLE, *writer.taken, "i", "range", "reversed"}
        names: dict[int, str] = {}
        self.arguments: list[str] = []
        for kind, letter, places in (("inputs", "x", program.inputs), ("parameters", "w", program.parameters)):
            if kind in self.whole:
                self.whole[kind] = letter
                self.arguments.append(letter)
                names |= {i: f"{letter}[{k}]" for k, i in enumerate(places)}
                taken.add(letter)
                continue
            for k, i in enumerate(places, 1):
                label = program.labels.get(i, "")
                good = usable(label) and label not in taken and labels.count(label) == 1
                names[i] = label if good else f"{letter}{k}"
                while not good and names[i] in {*taken, *labels}:
                    names[i] += "_"
                taken.add(names[i])
                self.arguments.append(names[i])
        own = [i for i in names if "[" not in names[i]]
        super().__init__(program, python_instruction, names, taken, own)

    def source(self) -> Source:
        self.write()
        end = self.parts[-1]
        results = [self.expression(i, end).text for i in self.program.outputs]
        lines = [f"def {self.writer.name}({', '.join(self.arguments)}):"]
        lines += [broken(f"    {line}") for line in self.lines]
        lines.append(broken(f"    return ({', '.join(results)}{',' * (len(results) == 1)})"))
        return self.writer.finished([*self.above, *[""] * 2 * bool(self.above), *lines], header=True)

    def spell(self, op: Op, operands: list[Expr]) -> Expr:
        text = self.writer.text
        return text._record(op, tuple([text(x.text, x.rank) for x in operands]))

    def asked(self, i: int, part: LoopPart) -> bool:
        if i not in self.truths or len(self.uses[i]) > 1 or i in self.kept:
            return False
        test = self.test(i, part)
        text = Expr(test, 0) if test else self.formula(i, part)
        self.lines.append(f"assert {text.text if self.truths[i] else f'not {text._inside(5)}'}")
        return True

    def literal(self, x: float) -> Expr:
        return self.writer.text.of(x)

    def sequence(self, name: str) -> str:
        return self.whole[name]

    def table(self, name: str, numbers: tuple[str, ...]) -> str:
        return broken(f"{name} = ({', '.join(numbers)}{',' * (len(numbers) == 1)})")

    def define(self, name: str, text: str) -> list[str]:
        return [f"{name} = {text}"]

    declare = define

    def before(self, name: str) -> list[str]:
        return []

    def assign(self, names: list[str], texts: list[str]) -> list[str]:
        line = f"{', '.join(names)} = {', '.join(texts)}"
        if len(names) == 1 or len(line) < 100:
            return [line]
        return [f"{', '.join(names)} = (", *[f"    {text}," for text in texts], ")"]

    def keep(self, i: int, loop: Loop) -> str:
        name = self.fresh(f"kept_{self.names[i].text}") if i in self.names else self.numbered("kept")
        self.lines.append(f"{name} = []")
        return name

    def store(self, name: str, text: str, loop: Loop) -> str:
        return f"{name}.append({text})"

    def turns(self, loop: Loop, lines: list[str]) -> list[str]:
        counter = "i" if re.search(r"\bi\b", "\n".join(lines)) else "_"
        turns = f"range({loop.count})"
        head = f"for {counter} in {f'reversed({turns})' if self.descends(loop) else turns}:"
        return [head, *[f"    {line}" for line in lines or ["pass"]]]


def broken(line: str) -> str:
    """A line of Python, broken into several if it is long."""
    if len(line) <= 110:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    head, gap, text = line.strip().partition(" = ") if " = " in line else line.strip().partition(" ")
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    inner = textwrap.fill(
        text,
        104,
        initial_indent=f"{indent}    ",
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{indent}{head}{gap}(\n{inner}\n{indent})"

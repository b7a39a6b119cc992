"""Writes a flat program as LLVM IR: each lane of a vector register holds another row of the batch.

The kernel goes through the batch in blocks of rows. It copies a block's inputs into a work area (the frame), runs the
code, and copies the results out. What depends on parameters and constants alone is computed once per call. A sum over
the batch is kept in one vector, whose lanes are added at the end. Every row gets a status: 0 it is done, 1 a guard
failed, so that the row takes another path, 2 a number was not finite, so that the row is run again eagerly.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from micrograd_bp._engine.instructions import instruction
from micrograd_bp.compiler.llvm import LLVMWriter, hexadecimal, interleaved
from micrograd_bp.compiler.machine import Host, declare, loop, row_status
from micrograd_bp.compiler.program import Element, FlatProgram, Loop, Written, above, live
from micrograd_bp.ops import Op

# LLVM takes quadratic time for a function (7,000 nodes: 7.5 s), so the program is cut into functions of PIECE nodes.
# Its code generator takes 0.08 ms a node at level 1, and 0.035 ms at level 0, whose code runs 1.3 times as long; its
# other passes would double the time and gain 5 %. Pieces of 800 nodes run up to 10 % slower than a function of 1,600.
# The body of a loop is one function up to BODY nodes, so that what it carries stays in registers.
PIECE, BODY, OPTIMISED = 600, 2_000, 20_000


# Layout of the kernel's argument block: the kernel is called with a pointer to these words.
CALL = {
    "matrix": "ptr", "row_stride": "i64", "column_stride": "i64",  # the inputs, side by side
    "table": "ptr",  # or, if this is not null, an address for each input, then its stride
    "n": "i64", "parameters": "ptr",
    "outs": "ptr",  # an address for each result
    "status": "ptr", "totals": "ptr", "scale": "double", "shared": "ptr",
    "stop": "ptr",  # a word that ends the call between two blocks of rows as soon as it is not 0
}  # fmt: skip


class Registers:
    """Writes a loop whose carried numbers stay in registers from one iteration to the next, as phi nodes."""

    def __init__(self, plan: Plan, mine: Loop, writer: LLVMWriter) -> None:
        self.plan, self.mine, self.writer = plan, mine, writer
        self.before = LLVMWriter(plan, plan.width, writer.load, "%b")  # the code before the loop
        self.slots: dict[int, str] = {}  # slots of the frame whose contents are carried as well
        inside = writer.load
        writer.names = {leaf: f"%c{leaf}" for leaf, _, _ in mine.carried}
        writer.load = lambda writer, i: inside(writer, i) if i in mine.reads else self.before.value(i)

    def carry(self, slot: int) -> str:
        """Keep the contents of a slot of the frame in a register during the loop; returns the register's name."""
        self.slots[slot] = f"%s{slot}"
        return self.slots[slot]

    def text(self, name: str, found: dict[int, str]) -> str:
        """The text of the function; found: the values of the carried slots at the end of an iteration."""
        plan, writer, before = self.plan, self.writer, self.before
        after = [(leaf, writer.value(k)) for leaf, _, k in self.mine.carried]
        starts = {f"%c{leaf}": before.value(k) for leaf, k, _ in self.mine.carried}
        starts |= {x: before.read("%here", slot * plan.stride) for slot, x in self.slots.items()}
        ends = {f"%c{leaf}": x for leaf, x in after} | {self.slots[slot]: x for slot, x in found.items()}
        kind = writer.vector
        phis = "\n".join(f"{x} = phi {kind} [{starts[x]}, %entry], [{ends[x]}, %again]" for x in starts)
        last = LLVMWriter(plan, plan.width, writer.load, "%a")
        for slot, x in found.items():
            last.write(x, "%here", slot * plan.stride)
        lines = ["\n".join(x.lines) for x in (before, writer, last)]
        arguments = "ptr noalias %frame, ptr noalias %shared, ptr noalias %sums, i64 %from, i64 %to, i64 %none"
        return f"""define internal void @{name}({arguments}) noinline {{
entry:
%here = getelementptr {kind}, ptr %frame, i64 0
{lines[0]}
br label %again
again:
%turn = phi i64 [0, %entry], [%next, %again]
{phis}
{lines[1]}
%next = add i64 %turn, 1
%more = icmp ult i64 %next, {self.mine.count}
br i1 %more, label %again, label %done
done:
{lines[2]}
ret void
}}"""


class Plan:
    """Decides what is computed once per call and what for every vector of rows, and in which function; writes the code.

    `results` are stored row by row, and `sums` are summed over the rows. A guard is a node and whether it must be true.
    single: the code is for calls with one row.
    """

    def __init__(
        self,
        program: FlatProgram,
        results: Sequence[int],
        sums: Sequence[int],
        guards: Sequence[tuple[int, bool]],
        exact: bool,
        machine: Host,
        single: bool = False,
    ) -> None:
        self.program, self.exact, self.host, self.single = program, exact, machine, single
        self.results, self.guards = list(results), list(guards)
        self.declarations: dict[str, str] = {}
        self.tables: dict[tuple[float, ...], str] = {}  # constants that a loop reads one by one
        self.callbacks: list[Any] = []
        self.jobs: dict[int, Any] = {}  # by thread: the job that is told when a callback fails
        self.loops = program.loops
        self.carried = [entry for loop in self.loops for entry in loop.carried]
        self.links = program.links()
        self.turning = {  # the nodes of loops, and their leaves
            *[i for x in self.loops for i in range(x.start, x.stop)],
            *[i for x in self.loops for i in (*x.reads, *[leaf for leaf, _, _ in x.carried])],
        }
        self.uniform = self._uniform()
        inner = [*self.results, *(i for i, _ in self.guards), *program.checks]
        self.uses = self._uses(live(program, [*inner, *sums]), [*inner, *sums])
        self.sums = [self._terms(i) for i in sums]
        roots = [*inner, *(k for pair in self.sums for part in pair for k in part)]
        needed = live(program, roots)
        expected = above(program, program.raised) if program.raised else [False] * len(program)
        watched = [n and not e for n, e in zip(live(program, roots, stop=program.raised), expected)]
        self.uses = self._uses(needed, roots)
        self.loops = [self._needed(loop, needed) for loop in self.loops]
        self.carried = [entry for loop in self.loops for entry in loop.carried]
        self.links = {leaf: nodes for leaf, nodes in self.links.items() if needed[leaf]}
        self.kept: dict[int | Written, int] = {}  # sequences in memory, and the first loop that reads them
        for number, reads in enumerate([*[x.reads for x in self.loops], program.reads]):
            for leaf, read in reads.items():
                if needed[leaf] and isinstance(read.sequence, (int, Written)):
                    self.kept.setdefault(read.sequence, number)
        order = [i for i, op in enumerate(program.ops) if needed[i] and op is not None]
        self.once = [i for i in order if self.uniform[i]]
        self.every = [i for i in order if not self.uniform[i]]
        outside = [i for i in order if not any(x.start <= i < x.stop for x in self.loops)]
        self.read_after = {k for i in outside for k in program.operands[i]}
        self.read_after.update(roots, (i for nodes in self.links.values() for i in nodes))
        ends = [0, *[i for loop in self.loops for i in (loop.start, loop.stop)], len(program)]
        parts = [
            self.every[bisect_left(self.every, a) : bisect_left(self.every, b)] for a, b in itertools.pairwise(ends)
        ]
        parts = [interleaved(program, part, self.uses) for part in parts]
        self.every = [i for part in parts for i in part]
        turns = [1 if loop is None else loop.count for loop in self._owners()]
        self.operations = sum(count * len(part) for count, part in zip(turns, parts))
        self.checks = self._checks(watched)
        self.level = 1 if len(self.every) + len(self.once) <= OPTIMISED else 0
        self.fuses = not exact and machine.fma and not self.level  # at higher levels LLVM fuses by itself
        self.width = 1 if single or (exact and sums) else machine.lanes
        sizes = [PIECE if owner is None else BODY for owner in self._owners()]
        cut = [[part[k : k + size] for k in range(0, max(1, len(part)), size)] for size, part in zip(sizes, parts)]
        late = [i for i in self._late() if not self._is_kept(i)]
        cut[-1] += [[] for _ in range(len(late) // PIECE)]
        self.pieces = [piece for pieces in cut for piece in pieces]
        last = range(len(self.pieces) - len(cut[-1]), len(self.pieces))
        self.late = {number: late[k :: len(last)] for k, number in enumerate(last)}  # what is given out at the end
        starts = [0, *itertools.accumulate(map(len, cut))]
        self.spans = [range(*starts[2 * k + 1 : 2 * k + 3]) for k in range(len(self.loops))]  # the pieces of each loop
        self._frame()

    def precise(self, i: int) -> bool:
        """Whether the node is computed as the eager engine computes it, to the bit."""
        return self.exact or i in self.program.precise

    def _owners(self) -> list[Loop | None]:
        """The loops with the stretches before, between and after them, which are None: the program's parts in order."""
        return [None, *[x for loop in self.loops for x in (loop, None)]]

    def _needed(self, loop: Loop, needed: list[bool]) -> Loop:
        """The loop without the carried numbers and reads that no needed node depends on."""
        carried = [entry for entry in loop.carried if needed[entry[0]]]
        reads = {leaf: read for leaf, read in loop.reads.items() if needed[leaf]}
        idle = not carried and not reads and not any(needed[loop.start : loop.stop])
        return Loop(loop.start, loop.stop, 1 if idle else loop.count, carried, reads)

    def _late(self) -> list[int]:
        """Nodes of loops, and leaves, that are results or terms of sums: they are stored after the last iteration."""
        wanted = dict.fromkeys((*self.results, *[i for varying, _ in self.sums for i in varying]))
        late = self.turning | self.program.reads.keys()
        return [i for i in wanted if i in late and not self.uniform[i]]

    def _is_kept(self, i: int) -> bool:
        """Whether a leaf stands for a number that a loop has kept: such are given out by a loop of their own."""
        sequence = self.program.reads[i].sequence if i in self.program.reads else ""
        return isinstance(sequence, int) and not self.uniform[sequence]

    def _kept_slot(self, leaf: int) -> int:
        """The slot of the number, kept by a loop, that a leaf stands for."""
        read = self.program.reads[leaf]
        assert isinstance(read.sequence, int)
        return self.kept_at[read.sequence] + read.first

    def _given_out(self, writer: LLVMWriter) -> None:
        """Results and sums that are kept numbers of loops: a loop over tables of where they are and where they go."""
        size, vector = 8 * self.width, writer.vector
        for title, wanted in (("result", enumerate(self.results)), ("sum", self._sums_of())):
            pairs = [(i, k) for k, i in wanted if self._is_kept(i)]
            if not pairs:
                continue
            froms = [self._kept_slot(i) * self.stride for i, _ in pairs]
            first, unit, target = (self.result_slot, self.stride, "%here") if title == "result" else (0, size, "%sums")
            for name, numbers in ((f"@{title}.from", froms), (f"@{title}.to", [(first + k) * unit for _, k in pairs])):
                listed = ", ".join([f"i64 {x}" for x in numbers])
                self.declarations[name] = f"{name} = internal constant [{len(numbers)} x i64] [{listed}]"
            g = f"g.{title}"
            added = f"""%{g}.old = load {vector}, ptr %{g}.q, align {size}
%{g}.y = fadd {writer.flags(self.exact)}{vector} %{g}.x, %{g}.old"""
            body = f"""%{g}.at = getelementptr i64, ptr @{title}.from, i64 %{g}
%{g}.off = load i64, ptr %{g}.at, align 8
%{g}.p = getelementptr i8, ptr %here, i64 %{g}.off
%{g}.x = load {vector}, ptr %{g}.p, align {size}
%{g}.to = getelementptr i64, ptr @{title}.to, i64 %{g}
%{g}.on = load i64, ptr %{g}.to, align 8
%{g}.q = getelementptr i8, ptr {target}, i64 %{g}.on
{added if title == "sum" else ""}
store {vector} %{g}.{"y" if title == "sum" else "x"}, ptr %{g}.q, align {size}"""
            writer.lines.append(loop(g, str(len(pairs)), body))

    def _sums_of(self) -> list[tuple[int, int]]:
        """The numbers of the sums, and what varies of them."""
        return [(k, i) for k, (varying, _) in enumerate(self.sums) for i in varying]

    def _uniform(self) -> list[bool]:
        """For each node, whether it depends on parameters and constants alone."""
        program = self.program
        uniform = [True] * len(program)
        turning = (*program.reads, *[leaf for loop in self.loops for leaf in loop.reads])
        for i in (*program.inputs, *turning, *[leaf for leaf, _, _ in self.carried]):
            uniform[i] = False
        for i, op in enumerate(program.ops):
            if op is not None:
                uniform[i] = all(uniform[k] for k in program.operands[i])
        return uniform

    def _uses(self, needed: list[bool], roots: list[int]) -> list[int]:
        """How often each node is read."""
        uses = [0] * len(needed)
        for i, operands in enumerate(self.program.operands):
            if needed[i]:
                for k in operands:
                    uses[k] += 1
        for i in (*roots, *(i for leaf, nodes in self.links.items() if needed[leaf] for i in nodes)):
            uses[i] += 1
        return uses

    def _terms(self, i: int) -> tuple[list[int], list[int]]:
        """The terms of a sum over the batch: those that vary from row to row, and those that are multiplied by n."""
        if self.exact:  # the eager engine makes one addition per row
            return [i], []
        varying: list[int] = []
        uniform: list[int] = []
        stack = [i]
        while stack:
            k = stack.pop()
            op = self.program.ops[k]
            if self.uniform[k]:
                uniform.append(k)
            elif op is not None and op.native == "fadd" and self.uses[k] == 1 and k not in self.turning:
                stack += reversed(self.program.operands[k])
            else:
                varying.append(k)
        return (varying, uniform) if uniform else ([i], [])

    def _checks(self, watched: list[bool]) -> list[bool]:
        """Which of these nodes must be tested, so that every number that is not finite is noticed.

        Sums over the batch are tested in any case. A node need not be tested if inf or nan in it would make a tested
        node inf or nan.
        """
        program = self.program
        seen = [False] * len(program)
        for varying, uniform in self.sums:
            for i in (*varying, *uniform):
                seen[i] = True
        tables = {x.sequence for loop in self.loops for x in loop.reads.values() if isinstance(x.sequence, tuple)}
        wild = not all(map(math.isfinite, itertools.chain(program.constants.values(), *tables)))
        starts = {loop.stop: loop.start for loop in self.loops}
        checks = [False] * len(program)
        for i in range(len(program) - 1, -1, -1):
            if i + 1 in starts:  # after a loop only the numbers of its last iteration remain
                seen[starts[i + 1] : i + 1] = [False] * (i + 1 - starts[i + 1])
            if not watched[i] or i in program.constants or i in self.links:  # it is another node, looked at there
                continue
            op = program.ops[i]
            native = "" if op is None else self.host.native(op, len(program.operands[i]), self.precise(i))
            finiteness = instruction(native)
            if not seen[i] and (finiteness.makes or (wild and native not in ("select", "fcmp olt", "fcmp ole"))):
                checks[i] = seen[i] = True
            if seen[i]:
                operands = program.operands[i]
                for k in finiteness.passes[: len(operands)]:
                    seen[operands[k]] = True
        return checks

    def _frame(self) -> None:
        """Lay out the memory of a call: the shared vectors, the sums, then the frame of a block; offsets in bytes."""
        program, width = self.program, self.width
        self.shared = {i: k for k, i in enumerate(program.parameters)}  # and what is computed once per call
        wanted = {k for i in self.every for k in program.operands[i]}
        wanted.update(self.results, (i for i, _ in self.guards), (i for varying, _ in self.sums for i in varying))
        wanted.update(i for nodes in self.links.values() for i in nodes)
        place = {i: k // PIECE for k, i in enumerate(self.once)}
        wanted.update(k for i in self.once for k in program.operands[i] if place.get(k, place[i]) != place[i])
        for i in self.once:
            if i in wanted:
                self.shared[i] = len(self.shared)
        self.shared_bad = len(self.shared)  # nan if a parameter or another shared number is not finite
        self.slots = {i: k for k, i in enumerate(program.inputs)}
        self.kept_at: dict[int | Written, int] = {}  # the first slot of each sequence that is kept
        self.written: dict[int, list[tuple[int, int]]] = {}  # of nodes of loops: slots, and by how far on in each turn
        self.gathered: dict[int, list[tuple[int, int]]] = {}  # by piece: nodes that it puts into slots
        self.bad_slot = len(self.slots)
        self.guard_slot = self.bad_slot + 1
        self.result_slot = self.guard_slot + 1
        free: list[int] = []
        count = self.result_slot + len(self.results)
        for leaf, _, _ in self.carried:
            self.slots[leaf] = count
            count += 1
        for sequence, reader in self.kept.items():
            if isinstance(sequence, Written):
                self.kept_at[sequence] = count
                self._row(sequence, count, reader)
                count += sequence.size
            elif not self.uniform[sequence]:
                turns = next(loop.count for loop in self.loops if sequence in self._inside(loop))
                self.kept_at[sequence] = count
                self.written.setdefault(sequence, []).append((count, 1))
                count += turns
        if len(self.pieces) > 1:  # a node that a later piece reads has a slot, which is free again after the last one
            born = {i: number for number, piece in enumerate(self.pieces) for i in piece}
            last: dict[int, int] = {}
            spans = {number: span for span in self.spans for number in span}
            for number, piece in enumerate(self.pieces):
                for i in piece:
                    for k in program.operands[i]:
                        if born.get(k, number) < number:
                            last[k] = max(last.get(k, 0), number)
                            if number in spans and born[k] < spans[number].start:
                                last[k] = max(last[k], spans[number].stop - 1)
            for number, gathered in self.gathered.items():
                for i, _ in gathered:
                    if born.get(i, number) < number:
                        last[i] = max(last.get(i, 0), number)
            last |= {i: len(self.pieces) - 1 for late in self.late.values() for i in late if i in born}
            for loop, span in zip(self.loops, self.spans):
                for _, *nodes in loop.carried:
                    for i in nodes:
                        if i in born:
                            last[i] = max(last.get(i, 0), span.stop - 1)
            dying: list[list[int]] = [[] for _ in self.pieces]
            crossing = [[i for i in piece if i in last] for piece in self.pieces]
            for number, piece in enumerate(crossing):
                for i in piece:
                    if not free:
                        free.append(count)
                        count += 1
                    self.slots[i] = free.pop()
                    dying[last[i]].append(self.slots[i])
                free += dying[number]
            self.crossing = [set(piece) for piece in crossing]
        else:
            self.crossing = [set()]
        vectors = 1 if self.single else max(1, min(16, (1 << 17) // (8 * width * count)))
        self.rows = vectors * width
        # Slots are an odd number of vectors apart: at a power of two they compete for few cache sets (7 % slower).
        self.stride = (vectors | 1) * 8 * width
        align = 64
        shared_size = (self.shared_bad + 1) * width * 8
        sums_size = len(self.sums) * width * 8
        self.at_sums = -(-shared_size // align) * align
        self.at_saved = self.at_sums + -(-sums_size // align) * align
        self.at_shares = self.at_saved + -(-sums_size // align) * align
        self.at_frame = self.at_shares + -(-len(self.sums) * 8 // align) * align
        self.scratch_size = self.at_frame + count * self.stride + align

    @staticmethod
    def _inside(loop: Loop) -> set[int]:
        """What a loop computes, and its leaves."""
        return {*range(loop.start, loop.stop), *loop.reads, *[leaf for leaf, _, _ in loop.carried]}

    def _row(self, row: Written, base: int, reader: int) -> None:
        """Say who writes a row of slots: a loop in its turns, or the piece before the loop that reads it."""
        for i, first, step, turns in row.places:
            if turns > 1 and not self.uniform[i]:
                self.written.setdefault(i, []).append((base + first, step))
            else:
                piece = self.gathered.setdefault(self.spans[reader].start - 1, [])
                piece += [(i, base + first + step * turn) for turn in range(turns)]

    def declare(self, name: str, vector: str, arity: int) -> None:
        self.declarations[name] = f"declare {vector} @{name}({', '.join([vector] * arity)})"

    def scalar(self, op: Op, native: str, arity: int) -> str:
        """The function to call for one lane: the C library's, or a callback that runs the op's `forward` in Python."""
        if native:
            self.declare(native, "double", arity)
            declare(self.host, native)
            return f"@{native}"

        def forward(*args: float) -> float:
            try:
                return float(op.forward(*args))
            except Exception:  # the row is run again eagerly, which raises it
                return math.nan
            except BaseException as error:
                self.jobs[threading.get_ident()].fail(error)
                return math.nan

        function = ctypes.CFUNCTYPE(ctypes.c_double, *[ctypes.c_double] * arity)(forward)
        self.callbacks.append(function)
        return f"inttoptr (i64 {ctypes.cast(function, ctypes.c_void_p).value} to ptr)"

    # --- the text ---------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The LLVM module: functions for what is computed once per call, the pieces, and the loop over the rows."""
        pieces = [self._piece(number, piece) for number, piece in enumerate(self.pieces)]
        singles = [self.once[k : k + PIECE] for k in range(0, max(1, len(self.once)), PIECE)]
        once = [self._once(number, piece) for number, piece in enumerate(singles)]
        arguments = "ptr %frame, ptr %shared, ptr %sums, i64 %from, i64 %to, i64 "
        lines = [f"call void @piece{k}({arguments}0)" for k in range(len(pieces))]
        for k in reversed(range(len(self.loops))):
            span, mine = self.spans[k], self.loops[k]
            if self._in_registers(mine):
                continue
            pieces += [self._copies(f"begin{k}", mine, 1), self._copies(f"go_on{k}", mine, 2)]
            first = "\n".join([f"call void @begin{k}({arguments}0)", *lines[span.start : span.stop]])
            turn = [f"%before{k} = sub i64 %turn{k}, 1\ncall void @go_on{k}({arguments}%before{k})"]
            turn += [f"call void @piece{i}({arguments}%turn{k})" for i in span]
            lines[span.start : span.stop] = [first, loop(f"turn{k}", str(mine.count), "\n".join(turn), "1")]
        calls = "\n".join(lines)
        body = (
            "define internal void @body(ptr %frame, ptr %shared, ptr %sums, i64 %from, i64 %to) noinline {\n"
            f"%any = icmp ult i64 %from, %to\nbr i1 %any, label %go, label %stop\ngo:\n{calls}\nbr label %stop\n"
            "stop:\nret void\n}"
        )
        driver = self._driver(len(once))
        tables = [
            f"{name} = internal constant [{len(x)} x double] [{', '.join(f'double {hexadecimal(y)}' for y in x)}]"
            for x, name in self.tables.items()
        ]
        return "\n".join([*tables, *self.declarations.values(), *once, *pieces, body, driver])

    def _once(self, number: int, nodes: Sequence[int]) -> str:
        """A function that computes some of the nodes that depend on parameters and constants alone, as scalars."""
        program, size = self.program, 8 * self.width

        def load(writer: LLVMWriter, i: int) -> str:
            return self._first_lane(writer, self.shared[i] * size)

        writer = LLVMWriter(self, 1, load)
        terms: dict[int, list[int]] = {}
        for k, (_, uniform) in enumerate(self.sums):
            for i in uniform:
                terms.setdefault(i, []).append(k)
        leaves: list[int] = []
        bad = writer.literal(0.0)
        if number:
            bad = self._first_lane(writer, self.shared_bad * size)
        else:
            leaves = [i for i in dict.fromkeys((*program.parameters, *terms)) if program.ops[i] is None]
        for i in (*leaves, *nodes):
            if program.ops[i] is not None:
                writer.node(i)
                if i in self.shared:
                    self._splat(writer, writer.value(i), self.shared[i] * size)
            if self.checks[i]:
                bad = writer.watch(i, bad)
            for k in terms.get(i, ()):
                total = writer.multiply_add(i, writer.read("%shares", 8 * k), self.exact)
                writer.write(total, "%shares", 8 * k)
        self._splat(writer, bad, self.shared_bad * size)
        lines = "\n".join(writer.lines)
        arguments = "ptr noalias %shared, ptr noalias %shares"
        return f"define internal void @once{number}({arguments}) noinline optnone {{\n{lines}\nret void\n}}"

    def _first_lane(self, writer: LLVMWriter, offset: int) -> str:
        scalar = writer.assign(f"load double, ptr {writer.at('%shared', offset)}, align 8")
        return writer.assign(f"insertelement <1 x double> undef, double {scalar}, i64 0")

    def _splat(self, writer: LLVMWriter, value: str, offset: int) -> None:
        """Store a scalar, given as a vector of one lane, in every lane of a shared vector."""
        zeros = ", ".join(["i32 0"] * self.width)
        vector = f"<{self.width} x double>"
        whole = writer.assign(f"shufflevector <1 x double> {value}, <1 x double> undef, <{self.width} x i32> <{zeros}>")
        writer.lines.append(f"store {vector} {whole}, ptr {writer.at('%shared', offset)}, align {8 * self.width}")

    def _piece(self, number: int, nodes: Sequence[int]) -> str:
        """The function that computes some of the nodes for the vectors `from` to `to` of the frame."""
        size, slot_size = 8 * self.width, self.stride
        first = number == 0

        mine = next((x for x, span in zip(self.loops, self.spans) if number in span), None)
        writer = LLVMWriter(self, self.width, self._load(mine))
        registers = Registers(self, mine, writer) if mine is not None and self._in_registers(mine) else None
        bad = guard = None
        sums: dict[int, list[int]] = {}
        for k, (varying, _) in enumerate(self.sums):
            for i in varying:
                sums.setdefault(i, []).append(k)
        guards = dict(self.guards)
        results: dict[int, list[int]] = {}
        for k, i in enumerate(self.results):
            results.setdefault(i, []).append(k)
        program = self.program
        inside = set() if mine is None else self._inside(mine)
        leaves = [i for i in program.inputs if self.checks[i] or i in sums or i in guards or i in results]
        leaves += dict.fromkeys(i for i in (*results, *guards, *sums) if self.uniform[i])
        if first:
            bad = writer.read("%shared", self.shared_bad * size)
        kept: list[int] = []
        if mine is not None and number == self.spans[self.loops.index(mine)].start:
            turning = (*[leaf for leaf, _, _ in mine.carried], *mine.reads)
            kept = [i for i in turning if i in self.written or i in guards or self._is_given(mine, i)]
        if registers is not None:
            for leaf, _, _ in mine.carried if mine is not None else ():
                if leaf in self.read_after:
                    writer.write(writer.value(leaf), "%here", self.slots[leaf] * slot_size)
        late = self.late.get(number, [])
        for i in self._late():
            if i not in late:
                sums.pop(i, None)
                results.pop(i, None)
        for i in (*(leaves if first else ()), *kept, *nodes, *late):
            if program.ops[i] is not None and not self.uniform[i] and i not in late:
                writer.node(i)
            if self.checks[i] and not self.uniform[i] and i not in late:
                if bad is None:
                    bad = self._so_far(writer, registers, self.bad_slot)
                bad = writer.watch(i, bad)
            if i in self.crossing[number]:
                writer.write(writer.value(i), "%here", self.slots[i] * slot_size)
            for slot, step in self.written.get(i, ()) if mine is not None and i in inside else ():
                writer.write(writer.value(i), self._turn(writer, "%here", slot, step, slot_size), 0)
            for k in results.get(i, ()):
                writer.write(writer.value(i), "%here", (self.result_slot + k) * slot_size)
            if i in guards:
                truth = writer.truth(i)
                bits = f"<{self.width} x i1>"
                if guards[i]:
                    truth = writer.assign(f"xor {bits} {truth}, <{', '.join(['i1 true'] * self.width)}>")
                guard = truth if guard is None else writer.assign(f"or {bits} {guard}, {truth}")
            for k in sums.get(i, ()):
                total = writer.multiply_add(i, writer.read("%sums", k * size), self.exact)
                writer.write(total, "%sums", k * size)
        if number == len(self.pieces) - 1:
            self._given_out(writer)
        for i, slot in self.gathered.get(number, ()):
            writer.write(writer.value(i), "%here", slot * slot_size)
        found = {} if bad is None else {self.bad_slot: bad}
        if self.guards and (guard is not None or first):
            before = writer.literal(0.0) if first else self._so_far(writer, registers, self.guard_slot)
            if guard is not None:
                one = writer.literal(1.0)
                bits, vector = f"<{self.width} x i1> {guard}", writer.vector
                before = writer.assign(f"select {bits}, {vector} {one}, {vector} {before}")
            found[self.guard_slot] = before
        if registers is not None:
            return registers.text(f"piece{number}", found)
        for slot, value in found.items():
            writer.write(value, "%here", slot * slot_size)
        return self._over_vectors(f"piece{number}", writer)

    def _is_given(self, mine: Loop, i: int) -> bool:
        """Whether a leaf of a loop stands for inputs or parameters, which may be not finite."""
        return self.checks[i] and i in mine.reads and isinstance(mine.reads[i].sequence, str)

    def _so_far(self, writer: LLVMWriter, registers: Registers | None, slot: int) -> str:
        """The vector in which earlier pieces have recorded failed checks or guards."""
        return writer.read("%here", slot * self.stride) if registers is None else registers.carry(slot)

    def _in_registers(self, mine: Loop) -> bool:
        """Whether the loop's carried numbers stay in registers: if its body is one piece and a block is one vector."""
        return self.rows == self.width and len(self.spans[self.loops.index(mine)]) == 1

    def _over_vectors(self, name: str, writer: LLVMWriter) -> str:
        """A function that runs the writer's code for the vectors `from` to `to` of the frame."""
        here = f"%here = getelementptr <{self.width} x double>, ptr %frame, i64 %v\n"
        body = loop("v", "%to", here + "\n".join(writer.lines), "%from")
        arguments = "ptr noalias %frame, ptr noalias %shared, ptr noalias %sums, i64 %from, i64 %to, i64 %turn"
        return f"define internal void @{name}({arguments}) noinline {{\n{body}\nret void\n}}"

    def _load(self, mine: Loop | None) -> Callable[[LLVMWriter, int], str]:
        """A function that writes the load of a node which another piece has computed."""
        program, size = self.program, 8 * self.width
        others = {leaf: x.last(leaf) for x in self.loops if x is not mine for leaf in x.reads} | program.reads

        def load(writer: LLVMWriter, i: int) -> str:
            if i in self.shared:
                return writer.read("%shared", self.shared[i] * size)
            if mine is not None and i in mine.reads:
                return self._element(writer, mine.reads[i])
            return (
                self._element(writer, others[i]) if i in others else writer.read("%here", self.slots[i] * self.stride)
            )

        return load

    def _element(self, writer: LLVMWriter, read: Element) -> str:
        """Load an element of a sequence; in a loop, that of the current iteration."""
        sequence, first, step = read.sequence, read.first, read.step
        if isinstance(sequence, tuple):
            name = self.tables.setdefault(sequence, f"@table{len(self.tables)}")
            scalar = writer.assign(f"load double, ptr {self._turn(writer, name, first, step, 8)}, align 8")
            return writer.splat(scalar)
        if sequence == "parameters":
            return writer.read(self._turn(writer, "%shared", first, step, 8 * self.width), 0)
        if isinstance(sequence, int) and sequence in self.shared:
            return writer.read("%shared", self.shared[sequence] * 8 * self.width)
        start = 0 if isinstance(sequence, str) else self.kept_at[sequence]
        return writer.read(self._turn(writer, "%here", start + first, step, self.stride), 0)

    def _turn(self, writer: LLVMWriter, pointer: str, first: int, step: int, size: int) -> str:
        """The address of element first + step * turn of an array whose elements are `size` bytes apart."""
        if not step:
            return writer.at(pointer, first * size)
        offset = writer.assign(f"mul i64 %turn, {step * size}")
        return writer.at(writer.assign(f"getelementptr i8, ptr {pointer}, i64 {offset}"), first * size)

    def _copies(self, name: str, mine: Loop, which: int) -> str:
        """A function that sets the carried leaves: which=1 to what they are at first, 2 to what they become next."""
        writer = LLVMWriter(self, self.width, self._load(None if which == 1 else mine))
        values = [writer.value(entry[which]) for entry in mine.carried]
        for (leaf, _, _), value in zip(mine.carried, values):
            writer.write(value, "%here", self.slots[leaf] * self.stride)
        return self._over_vectors(name, writer)

    def _driver(self, once: int) -> str:
        """The kernel: it fills the shared vectors, runs the blocks of rows one by one, and adds up the sums."""
        width, rows = self.width, self.rows
        vector = f"<{width} x double>"
        size, slot, full = 8 * width, self.stride, 8 * rows
        zeros = ", ".join(["i32 0"] * width)
        lane_numbers = ", ".join(f"i64 {k}" for k in range(width))
        splat = f"""%sp = getelementptr double, ptr %parameters, i64 %k
%sx = load double, ptr %sp, align 8
%s1 = insertelement {vector} undef, double %sx, i64 0
%sv = shufflevector {vector} %s1, {vector} undef, <{width} x i32> <{zeros}>
%sq = getelementptr {vector}, ptr %shared, i64 %k
store {vector} %sv, ptr %sq, align {size}"""
        clear = f"""%cq = getelementptr {vector}, ptr %sums, i64 %c
store {vector} zeroinitializer, ptr %cq, align {size}"""
        clear_share = "%zq = getelementptr double, ptr %shares, i64 %z\nstore double 0.0, ptr %zq, align 8"
        element = """%l.last = sub i64 %count, 1
%l.over = icmp ugt i64 %l, %l.last
%l.row = select i1 %l.over, i64 %l.last, i64 %l
%l.off = mul i64 %l.row, %stride
%l.from = getelementptr i8, ptr %column, i64 %l.off
%l.x = load double, ptr %l.from, align 1
%l.to = getelementptr double, ptr %place, i64 %l
store double %l.x, ptr %l.to, align 8"""
        stage = f"""br i1 %tabled, label %j.table, label %j.matrix
j.table:
%j.tp = getelementptr ptr, ptr %table, i64 %j
%j.base = load ptr, ptr %j.tp, align 8
%j.sj = add i64 %j, {len(self.program.inputs)}
%j.sp = getelementptr i64, ptr %table, i64 %j.sj
%j.stride = load i64, ptr %j.sp, align 8
br label %j.go
j.matrix:
%j.off = mul i64 %j, %column_stride
%j.mbase = getelementptr i8, ptr %matrix, i64 %j.off
br label %j.go
j.go:
%base = phi ptr [%j.base, %j.table], [%j.mbase, %j.matrix]
%stride = phi i64 [%j.stride, %j.table], [%row_stride, %j.matrix]
%j.skip = mul i64 %start, %stride
%column = getelementptr i8, ptr %base, i64 %j.skip
%j.place = mul i64 %j, {slot}
%place = getelementptr i8, ptr %frame, i64 %j.place
%j.dense = icmp eq i64 %stride, 8
%j.fast = and i1 %j.dense, %full
br i1 %j.fast, label %j.copy, label %j.each
j.copy:
call void @llvm.memcpy.p0.p0.i64(ptr align 8 %place, ptr %column, i64 {full}, i1 false)
br label %j.end
j.each:
{loop("l", "%padded", element)}
br label %j.end
j.end:"""
        unstage = f"""%m.tp = getelementptr ptr, ptr %outs, i64 %m
%m.base = load ptr, ptr %m.tp, align 8
%m.column = getelementptr double, ptr %m.base, i64 %start
%m.slot = add i64 %m, {self.result_slot}
%m.off = mul i64 %m.slot, {slot}
%m.place = getelementptr i8, ptr %frame, i64 %m.off
br i1 %full, label %m.copy, label %m.each
m.copy:
call void @llvm.memcpy.p0.p0.i64(ptr %m.column, ptr align 8 %m.place, i64 {full}, i1 false)
br label %m.end
m.each:
{
            loop(
                "o",
                "%count",
                '''%o.from = getelementptr double, ptr %m.place, i64 %o
%o.x = load double, ptr %o.from, align 8
%o.to = getelementptr double, ptr %m.column, i64 %o
store double %o.x, ptr %o.to, align 8''',
            )
        }
br label %m.end
m.end:"""
        if self.guards:
            guard = "%r.gp = getelementptr double, ptr %frame, i64 %r.g\n%r.gx = load double, ptr %r.gp, align 8\n"
            guard += "%r.other = fcmp une double %r.gx, 0.0"
            guards = f"""%e.g = add i64 %e.at, {self.guard_slot * slot}
%e.gp = getelementptr i8, ptr %frame, i64 %e.g
%e.gx = load {vector}, ptr %e.gp, align {size}
%e.v = fadd {vector} %e.x, %e.gx"""
        else:
            guard, guards = "%r.other = icmp eq i64 0, 1", f"%e.v = fadd {vector} %e.x, zeroinitializer"
        status = f"""%r.b = add i64 %r, {self.bad_slot * slot // 8}
%r.g = add i64 %r, {self.guard_slot * slot // 8}
%r.bp = getelementptr double, ptr %frame, i64 %r.b
%r.x = load double, ptr %r.bp, align 8
%r.bad = fcmp uno double %r.x, 0.0
{guard}
{row_status("r", "%bad")}"""
        # Most blocks have only statuses of 0: testing whole vectors first saves testing each row.
        look = f"""%s.to = getelementptr i8, ptr %status, i64 %start
call void @llvm.memset.p0.i64(ptr %s.to, i8 0, i64 %count, i1 false)
store i64 0, ptr %odd, align 8
{
            loop(
                "e",
                "%p.vec",
                f'''%e.at = mul i64 %e, {size}
%e.b = add i64 %e.at, {self.bad_slot * slot}
%e.bp = getelementptr i8, ptr %frame, i64 %e.b
%e.x = load {vector}, ptr %e.bp, align {size}
{guards}
%e.c = fcmp une {vector} %e.v, zeroinitializer
%e.i = bitcast <{width} x i1> %e.c to i{width}
%e.n = zext i{width} %e.i to i64
%e.old = load i64, ptr %odd, align 8
%e.new = or i64 %e.old, %e.n
store i64 %e.new, ptr %odd, align 8''',
            )
        }
%s.odd = load i64, ptr %odd, align 8
%s.any = icmp ne i64 %s.odd, 0
%s.end = select i1 %s.any, i64 %count, i64 0
{loop("r", "%s.end", status)}"""
        ragged = f"""%whole = udiv i64 %count, {width}
call void @body(ptr %frame, ptr %shared, ptr %sums, i64 0, i64 %whole)
%rest = urem i64 %count, {width}
%some = icmp ne i64 %rest, 0
br i1 %some, label %blend, label %blended
blend:
call void @llvm.memcpy.p0.p0.i64(ptr %saved, ptr %sums, i64 {len(self.sums) * size}, i1 false)
%after = add i64 %whole, 1
call void @body(ptr %frame, ptr %shared, ptr %sums, i64 %whole, i64 %after)
%rest1 = insertelement <{width} x i64> undef, i64 %rest, i64 0
%restv = shufflevector <{width} x i64> %rest1, <{width} x i64> undef, <{width} x i32> <{zeros}>
%mask = icmp ult <{width} x i64> <{lane_numbers}>, %restv
{
            loop(
                "w",
                str(len(self.sums)),
                f'''%wp = getelementptr {vector}, ptr %sums, i64 %w
%wx = load {vector}, ptr %wp, align {size}
%wq = getelementptr {vector}, ptr %saved, i64 %w
%wy = load {vector}, ptr %wq, align {size}
%wz = select <{width} x i1> %mask, {vector} %wx, {vector} %wy
store {vector} %wz, ptr %wp, align {size}''',
            )
        }
br label %blended
blended:"""
        plain = f"""%up = add i64 %count, {width - 1}
%vectors = udiv i64 %up, {width}
call void @body(ptr %frame, ptr %shared, ptr %sums, i64 0, i64 %vectors)"""
        outs = loop("m", str(len(self.results)), unstage) if self.results else ""
        block = f"""%halt.x = load volatile i64, ptr %stop, align 8
%halt = icmp ne i64 %halt.x, 0
br i1 %halt, label %b.skip, label %b.work
b.work:
%start = mul i64 %b, {rows}
%left = sub i64 %n, %start
%full = icmp uge i64 %left, {rows}
%count = select i1 %full, i64 {rows}, i64 %left
%p.up = add i64 %count, {width - 1}
%p.vec = udiv i64 %p.up, {width}
%padded = mul i64 %p.vec, {width}
{loop("j", str(len(self.program.inputs)), stage)}
{ragged if self.sums else plain}
{outs}
{look}
br label %b.skip
b.skip:"""
        total = f"""%tp = getelementptr {vector}, ptr %sums, i64 %t
%tv = load {vector}, ptr %tp, align {size}
%tr = call double @llvm.vector.reduce.fadd.v{width}f64(double -0.0, {vector} %tv)
%tsp = getelementptr double, ptr %shares, i64 %t
%ts = load double, ptr %tsp, align 8
%tn = fmul double %ts, %number
%tt = fadd double %tr, %tn
%tx = fmul double %tt, %scale
%to = getelementptr double, ptr %totals, i64 %t
store double %tx, ptr %to, align 8
%tz = fmul double %tx, 0.0
%ty = fcmp une double %tz, 0.0
%t1 = zext i1 %ty to i64
%t.old = load i64, ptr %bad, align 8
%t.new = add i64 %t.old, %t1
store i64 %t.new, ptr %bad, align 8"""
        arguments = "\n".join(
            f"%{name}.at = getelementptr i64, ptr %call, i64 {k}\n%{name} = load {kind}, ptr %{name}.at, align 8"
            for k, (name, kind) in enumerate(CALL.items())
        )
        return f"""declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare double @llvm.vector.reduce.fadd.v{width}f64(double, {vector})
define i64 @kernel(ptr %call) {{
{arguments}
%bad = alloca i64
%odd = alloca i64
store i64 0, ptr %bad, align 8
%tabled = icmp ne ptr %table, null
%sums = getelementptr i8, ptr %shared, i64 {self.at_sums}
%saved = getelementptr i8, ptr %shared, i64 {self.at_saved}
%shares = getelementptr i8, ptr %shared, i64 {self.at_shares}
%frame = getelementptr i8, ptr %shared, i64 {self.at_frame}
%number = uitofp i64 %n to double
{loop("k", str(len(self.program.parameters)), splat)}
{loop("c", str(len(self.sums)), clear)}
{loop("z", str(len(self.sums)), clear_share)}
{chr(10).join(f"call void @once{k}(ptr %shared, ptr %shares)" for k in range(once))}
%blocks.up = add i64 %n, {rows - 1}
%blocks = udiv i64 %blocks.up, {rows}
{loop("b", "%blocks", block)}
{loop("t", str(len(self.sums)), total)}
%all = load i64, ptr %bad, align 8
ret i64 %all
}}"""

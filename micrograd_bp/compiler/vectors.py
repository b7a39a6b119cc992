"""Array programs as machine code: loops over members with the rows of a batch, or the members, in vector lanes.

Steps of one size that follow one another are one loop; products of matrices are `matrices.py`'s. The backward sweep is
written from the rules of the ops, loop by loop from the last to the first. What is the same for all rows is computed
once a call. A call works off its rows in blocks, in memory of its own that does not grow with the batch.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from micrograd_bp.compiler import arrays as finding
from micrograd_bp.compiler.arrays import CONSTANTS, INPUTS, PARAMETERS, find
from micrograd_bp.compiler.emit import LLVMWriter
from micrograd_bp.compiler.evaluation import (
    Arrays,
    MapStep,
    MatrixPart,
    Read,
    UnsuitableError,
    read_of,
    unseen,
)
from micrograd_bp.compiler.machine import Code, Host, declare, host, loop
from micrograd_bp.compiler.matrices import matrices
from micrograd_bp.compiler.native import Job
from micrograd_bp.compiler.program import FlatProgram, live, lower
from micrograd_bp.ops import Op, add, mul, sub, where
from micrograd_bp.ops import abs as absolute

if TYPE_CHECKING:
    import numpy as np

# From so many nodes on, and with so many in an array, arrays are at least as fast as straight-line code (8-8-1: as
# fast, 32-32-1 with one row: 2.5 times), and compiled in a fraction of the time.
SMALL, SHARE = 300, 32
COPIED = 8192  # numbers: fewer are copied (0.5 us), since their address from NumPy would take longer
FEW = 8  # terms of a sum that are written out
# Rows of a block: so that what it keeps stays in the cache, but products of matrices want some.
KEPT, LEAST, MOST = 1 << 15, 64, 256
CHUNK, SHARES = 20_000_000, 8  # operations that are worth another thread, some 0.5 ms; sums are of so many shares
ARGUMENTS = "ptr %w, ptr %p, ptr %q, ptr %x, i64 %sx, i64 %vecs, i64 %count, i1 %first"
# What a call of the code is told, by a pointer to these words.
CALL = {
    "rows": "ptr", "sx": "i64",  # the inputs, and from row to row, in numbers
    "n": "i64", "p": "ptr",
    "weights": "ptr", "scale": "double",  # a number for each row; if null, the scale for all
    "outs": "ptr", "so": "i64",  # the results, and from result to result, in numbers
    "status": "ptr", "totals": "ptr", "w": "ptr",
    "stop": "ptr",  # a word that ends the call between two blocks of rows as soon as it is not 0
}  # fmt: skip


@dataclass(slots=True, eq=False)
class Buffer:
    """Where an array is: in the workspace, in the parameters, in their slopes, or at an address."""

    base: str
    offset: int
    size: int
    uniform: bool
    used: bool = False  # somebody reads it
    touched: bool = False  # of adjoints: something has been added

    def at(self, place: int) -> str:
        """The address of a member of a uniform array, in numbers from the base."""
        return f"getelementptr double, ptr %{self.base}, i64 {self.offset + place}"


@dataclass(slots=True, eq=False)
class Body:
    """What a loop computes: a program of the members of some arrays."""

    size: int
    uniform: bool
    program: FlatProgram = field(default_factory=FlatProgram)
    leaves: list[tuple[Buffer, Read]] = field(default_factory=list)
    known: dict[Any, int] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)  # nodes, by the number of the array
    stores: list[tuple[int, Buffer]] = field(default_factory=list)
    adds: list[tuple[int, Buffer, Read, bool]] = field(default_factory=list)  # the last: it is the first that is added
    watch: list[int] = field(default_factory=list)

    def leaf(self, buffer: Buffer, read: Read) -> int:
        """The node for what is read of an array."""
        where = read.index
        key = id(buffer), (where.start, where.stop, where.step) if isinstance(where, slice) else where.tobytes()
        if key not in self.known:
            self.known[key] = self.program.leaf()
            self.program.inputs.append(self.known[key])
            self.leaves.append((buffer, read))
            buffer.used = True
        return self.known[key]


def _whole(size: int) -> Read:
    return Read(-1, slice(0, size, 1), size, True)


class Emission:
    """The text for values, or for sums with their gradient; single: of one row, with members in lanes."""

    exact = fuses = False
    uses: list[int] = []  # noqa: RUF012 - of nodes, to fuse them; LLVM does

    def __init__(self, owner: Vectors, machine: Host, gradient: bool, single: bool) -> None:
        self.owner, self.host, self.gradient, self.single = owner, machine, gradient, single
        self.lanes = machine.lanes
        self.vector = f"<{self.lanes} x double>"
        self.cols = 1 if single else owner.vectors * self.lanes  # rows of a block, and from member to member
        self.ld = 1 if single else (owner.vectors | 1) * self.lanes
        self.uniform = [True] * len(owner.sizes) if single else owner.uniform
        self.space = 0
        self.program = FlatProgram()
        self.declarations: dict[str, str] = {}
        self.functions: list[str] = []
        self.tables: list[Any] = []  # kept alive
        self.zeroed: list[Buffer] = []  # adjoints that are added to from the start
        self.initial: list[tuple[int, Any]] = []  # what stands in the workspace from the start
        self.total: Buffer | None = None
        self.exclusive = owner.once and owner.covered and gradient
        self.library = matrices(machine)
        self.pointers = [
            f"inttoptr (i64 {x} to ptr)"
            for x in (self.library.product, self.library.vector_product, self.library.transposed)
        ]
        self.bad = self.allocate(1, False)
        self.common_bad = self.allocate(self.lanes, True)
        self.guard, self.common_guard = self.allocate(1, False), self.allocate(self.lanes, True)
        self.seed = self.allocate(1, single)
        self.values: list[Buffer] = []
        for k, size in enumerate(owner.sizes):
            if k == PARAMETERS:
                self.values.append(Buffer("p", 0, size, True))
            else:
                self.values.append(self.allocate(size, self.uniform[k]))
        self.initial.append((self.values[CONSTANTS].offset, owner.constants[:, 0]))
        self.adjoints: list[Buffer | None] = [None] * len(owner.sizes)
        if gradient:
            assert owner.needs is not None
            for k, needed in enumerate(owner.needs):
                if k == PARAMETERS:
                    self.adjoints[k] = Buffer("q", 0, owner.sizes[k], True, True, True)
                elif needed:
                    self.adjoints[k] = self.allocate(owner.sizes[k], self.uniform[k])
                    if self.uniform[k]:
                        self.zero(self.adjoints[k])
        self.text = self._text()

    # --- memory -----------------------------------------------------------------------------------------------------

    def allocate(self, size: int, uniform: bool) -> Buffer:
        """Room in the workspace, with room for a vector behind it."""
        offset = self.space
        self.space += (-(-size // self.lanes) + 1) * self.lanes if uniform else size * self.ld + self.lanes
        self.space = -(-self.space // 8) * 8
        return Buffer("w", offset, size, uniform)

    def zero(self, buffer: Buffer | None) -> None:
        assert buffer is not None
        self.zeroed.append(buffer)
        buffer.touched = True

    def table(self, numbers: Any) -> str:
        """The address of a table of whole numbers."""
        import numpy as np

        kept = np.ascontiguousarray(numbers, np.int64)
        self.tables.append(kept)
        return f"inttoptr (i64 {kept.__array_interface__['data'][0]} to ptr)"

    def function(self, body: str) -> str:
        """Add a function; returns its call."""
        name = f"@part{len(self.functions)}"
        self.functions.append(f"define internal void {name}({ARGUMENTS}) noinline {{\n{body}\nret void\n}}")
        return f"call void {name}({ARGUMENTS})"

    # --- what LLVMWriter asks ---------------------------------------------------------------------------------------

    def precise(self, i: int) -> bool:
        return i in self.program.precise

    def declare(self, name: str, vector: str, arity: int) -> None:
        self.declarations[name] = f"declare {vector} @{name}({', '.join([vector] * arity)})"

    def scalar(self, op: Op, native: str, arity: int) -> str:
        """The C library's function."""
        if not native:
            raise UnsuitableError
        self.declare(native, "double", arity)
        declare(self.host, native)
        return f"@{native}"

    # --- loops ------------------------------------------------------------------------------------------------------

    def body(self, body: Body) -> str:
        """The function of a loop; returns its call, or "" where nothing is to be done."""
        source = body.program
        body.stores = [(i, buffer) for i, buffer in body.stores if buffer.used]
        wanted = [*(i for i, _ in body.stores), *(i for i, *_ in body.adds), *body.watch]
        if not wanted:
            return ""
        source.outputs = [*wanted, *(i for i in body.values.values() if i not in wanted)]
        self.program = program = lower(source, self.host.native, False)
        natives = [
            "" if op is None else self.host.native(op, len(operands), self.precise(i))
            for i, (op, operands) in enumerate(zip(program.ops, program.operands))
        ]
        if any(op is not None and not name for op, name in zip(program.ops, natives)):
            raise UnsuitableError
        results = program.outputs[: len(wanted)]
        split = [len(body.stores), len(body.stores) + len(body.adds)]
        watch = [i for i in (*results[split[1] :], *unseen(program, natives)[0]) if i not in program.constants]
        needed = live(program, [*results, *watch])
        nodes = [i for i, op in enumerate(program.ops) if op is not None and needed[i]]
        stores = [(i, buffer) for i, (_, buffer) in zip(results, body.stores)]
        adds = [(i, *rest) for i, (_, *rest) in zip(results[split[0] :], body.adds)]
        leaves = {i: k for k, i in enumerate(program.inputs) if needed[i]}
        lines = (nodes, leaves, stores, adds, list(dict.fromkeys(watch)), body.leaves)
        if not body.uniform:
            return self.function(self._batch_loop(body.size, *lines))
        whole = body.size // self.lanes
        calls = []
        if whole:
            calls.append(self.function(self._flat_loop(self.lanes, 0, whole, body.size, *lines)))
        if body.size % self.lanes:
            calls.append(
                self.function(self._flat_loop(1, whole * self.lanes, body.size % self.lanes, body.size, *lines))
            )
        return "\n".join(calls)

    def _place(self, name: str, read: Read, member: str) -> tuple[str, str]:
        """Text for the place of a member of what is read, and the place."""
        if isinstance(read.index, slice):
            if read.size == 1:
                return "", str(read.index.start)
            step = read.index.step or 1
            text = f"%{name}.a = mul i64 {member}, {step}\n%{name} = add i64 %{name}.a, {read.index.start}\n"
            return text, f"%{name}"
        text = f"%{name}.t = getelementptr i64, ptr {self.table(read.index)}, i64 {member}\n"
        return f"{text}%{name} = load i64, ptr %{name}.t, align 8\n", f"%{name}"

    def _pointer(self, name: str, buffer: Buffer, place: str, stride: int = 1) -> str:
        text = f"%{name}.m = mul i64 {place}, {stride}\n%{name}.o = add i64 %{name}.m, {buffer.offset}\n"
        return f"{text}%{name} = getelementptr double, ptr %{buffer.base}, i64 %{name}.o\n"

    def _splat(self, name: str, scalar: str, width: int) -> str:
        v = f"<{width} x double>"
        first = f"%{name}.v1 = insertelement {v} undef, double {scalar}, i64 0\n"
        return f"{first}%{name} = shufflevector {v} %{name}.v1, {v} undef, <{width} x i32> zeroinitializer\n"

    def _sum(self, name: str, value: str, width: int) -> str:
        v = f"<{width} x double>"
        if width == 1:
            return f"%{name} = extractelement {v} {value}, i64 0\n"
        full = f"llvm.vector.reduce.fadd.v{width}f64"
        self.declarations[full] = f"declare double @{full}(double, {v})"
        return f"%{name} = call reassoc double @{full}(double -0.0, {v} {value})\n"

    def _add_number(self, name: str, pointer: str, number: str, buffer: Buffer) -> str:
        """Add a number to what is at a pointer; where it is a slope of a parameter, look whether it is finite."""
        text = f"%{name}.old0 = load double, ptr {pointer}, align 8\n"
        old = f"%{name}.old0"
        if buffer.base == "q":
            text += f"%{name}.old = select i1 %first, double 0.0, double {old}\n"
            old = f"%{name}.old"
        text += f"%{name}.new = fadd double {old}, {number}\nstore double %{name}.new, ptr {pointer}, align 8\n"
        if buffer.base == "q":
            text += f"%{name}.bp = {self.common_bad.at(0)}\n%{name}.b = load double, ptr %{name}.bp, align 8\n"
            text += f"%{name}.z = fmul double %{name}.new, 0.0\n%{name}.b2 = fadd double %{name}.b, %{name}.z\n"
            text += f"store double %{name}.b2, ptr %{name}.bp, align 8\n"
        return text

    def _watched(self, writer: LLVMWriter, nodes: Sequence[int], pointer: str) -> None:
        if nodes:
            bad = writer.assign(f"load {writer.vector}, ptr {pointer}, align 8")
            for i in nodes:
                bad = writer.watch(i, bad)
            writer.lines.append(f"store {writer.vector} {bad}, ptr {pointer}, align 8")

    def _batch_loop(self, size: int, nodes: Any, leaves: Any, stores: Any, adds: Any, watch: Any, arrays: Any) -> str:
        """Members one after the other, the rows of a block in lanes."""
        v = self.vector
        before, after, sums = "", "", []

        def load(writer: LLVMWriter, i: int) -> str:
            k = leaves[i]
            if arrays[k][0].uniform:
                return f"%l{k}"
            pointer = writer.assign(f"getelementptr {v}, ptr %l{k}, i64 %v")
            return writer.assign(f"load {v}, ptr {pointer}, align 8")

        for k in leaves.values():
            buffer, read = arrays[k]
            text, place = self._place(f"l{k}.i", read, "%m")
            before += text
            if buffer.uniform:
                before += self._pointer(f"l{k}.p", buffer, place) + f"%l{k}.s = load double, ptr %l{k}.p, align 8\n"
                before += self._splat(f"l{k}", f"%l{k}.s", self.lanes)
            else:
                before += self._pointer(f"l{k}", buffer, place, self.ld)
        writer = LLVMWriter(self, self.lanes, load)
        for i in nodes:
            writer.node(i)
        for k, (i, buffer) in enumerate(stores):
            before += self._pointer(f"s{k}", buffer, "%m", self.ld)
            pointer = writer.assign(f"getelementptr {v}, ptr %s{k}, i64 %v")
            writer.lines.append(f"store {v} {writer.value(i)}, ptr {pointer}, align 8")
        for k, (i, buffer, read, fresh) in enumerate(adds):
            text, place = self._place(f"d{k}.i", read, "%m")
            before += text
            if buffer.uniform:
                sums.append(k)
                writer.lines.append(f"%acc{k}.next = fadd {v} %acc{k}, {writer.value(i)}")
                after += self._pointer(f"d{k}", buffer, place) + self._sum(f"d{k}.r", f"%acc{k}.next", self.lanes)
                after += self._add_number(f"d{k}", f"%d{k}", f"%d{k}.r", buffer)
                continue
            before += self._pointer(f"d{k}", buffer, place, self.ld)
            pointer = writer.assign(f"getelementptr {v}, ptr %d{k}, i64 %v")
            value = writer.value(i)
            if not fresh:
                old = writer.assign(f"load {v}, ptr {pointer}, align 8")
                value = writer.assign(f"fadd {v} {old}, {value}")
            writer.lines.append(f"store {v} {value}, ptr {pointer}, align 8")
        if watch:
            before += f"%bad = {self.bad.at(0)}\n"
            pointer = writer.assign(f"getelementptr {v}, ptr %bad, i64 %v")
            self._watched(writer, watch, pointer)
        phis = "".join(f"%acc{k} = phi {v} [zeroinitializer, %v.start], [%acc{k}.next, %v.loop]\n" for k in sums)
        inner = f"""{before}br label %v.start
v.start:
br label %v.loop
v.loop:
%v = phi i64 [0, %v.start], [%v.next, %v.loop]
{phis}{chr(10).join(writer.lines)}
%v.next = add i64 %v, 1
%v.more = icmp ult i64 %v.next, %vecs
br i1 %v.more, label %v.loop, label %v.end
v.end:
{after}"""
        return loop("m", str(size), inner)

    def _flat_loop(
        self, width: int, start: int, count: int, size: int,
        nodes: Any, leaves: Any, stores: Any, adds: Any, watch: Any, arrays: Any,
    ) -> str:  # fmt: skip
        """So many vectors of members, of arrays that are the same for all rows."""
        v = f"<{width} x double>"
        before, after, sums = f"%bad = {self.common_bad.at(0)}\n", "", []

        def place(writer: LLVMWriter, read: Read, buffer: Buffer) -> str:
            """Where a vector of members begins, which are side by side."""
            here = writer.assign(f"add i64 %at, {read.index.start + buffer.offset}")
            return writer.assign(f"getelementptr double, ptr %{buffer.base}, i64 {here}")

        def places(writer: LLVMWriter, read: Read) -> str:
            """The places of a vector of members, as a vector."""
            vector = f"<{width} x i64>"
            if not isinstance(read.index, slice):
                pointer = writer.assign(f"getelementptr i64, ptr {self.table(read.index)}, i64 %at")
                return writer.assign(f"load {vector}, ptr {pointer}, align 8")
            step = read.index.step or 1
            first = writer.assign(f"mul i64 %at, {step}")
            first = writer.assign(f"add i64 {first}, {read.index.start}")
            one = writer.assign(f"insertelement {vector} undef, i64 {first}, i64 0")
            all_ = writer.assign(f"shufflevector {vector} {one}, {vector} undef, <{width} x i32> zeroinitializer")
            steps = ", ".join(f"i64 {k * step}" for k in range(width))
            return writer.assign(f"add {vector} {all_}, <{steps}>")

        def load(writer: LLVMWriter, i: int) -> str:
            buffer, read = arrays[leaves[i]]
            if read.size == 1 and isinstance(read.index, slice):
                return f"%l{leaves[i]}"
            if isinstance(read.index, slice) and (read.index.step or 1) == 1:
                return writer.assign(f"load {v}, ptr {place(writer, read, buffer)}, align 8")
            where = places(writer, read)
            base = writer.assign(f"getelementptr double, ptr %{buffer.base}, i64 {buffer.offset}")
            pointers = writer.assign(f"getelementptr double, ptr {base}, <{width} x i64> {where}")
            full = f"llvm.masked.gather.v{width}f64.v{width}p0"
            bits = f"<{width} x i1>"
            self.declarations[full] = f"declare {v} @{full}(<{width} x ptr>, i32, {bits}, {v})"
            ones = "<" + ", ".join(["i1 true"] * width) + ">"
            return writer.assign(f"call {v} @{full}(<{width} x ptr> {pointers}, i32 8, {bits} {ones}, {v} undef)")

        for k in leaves.values():
            buffer, read = arrays[k]
            if read.size == 1 and isinstance(read.index, slice):
                before += f"%l{k}.p = {buffer.at(read.index.start)}\n%l{k}.s = load double, ptr %l{k}.p, align 8\n"
                before += self._splat(f"l{k}", f"%l{k}.s", width)
        writer = LLVMWriter(self, width, load)
        for i in nodes:
            writer.node(i)
        for i, buffer in stores:
            pointer = place(writer, _whole(size), buffer)
            writer.lines.append(f"store {v} {writer.value(i)}, ptr {pointer}, align 8")
        for k, (i, buffer, read, _) in enumerate(adds):
            value = writer.value(i)
            if read.size == 1 and isinstance(read.index, slice):
                sums.append(k)
                writer.lines.append(f"%acc{k}.next = fadd {v} %acc{k}, {value}")
                after += f"%d{k} = {buffer.at(read.index.start)}\n" + self._sum(f"d{k}.r", f"%acc{k}.next", width)
                after += self._add_number(f"d{k}", f"%d{k}", f"%d{k}.r", buffer)
            elif isinstance(read.index, slice) and (read.index.step or 1) == 1:
                pointer = place(writer, read, buffer)
                old = writer.assign(f"load {v}, ptr {pointer}, align 8")
                if buffer.base == "q":
                    old = writer.assign(f"select i1 %first, {v} zeroinitializer, {v} {old}")
                new = writer.assign(f"fadd {v} {old}, {value}")
                writer.lines.append(f"store {v} {new}, ptr {pointer}, align 8")
                if buffer.base == "q":
                    bad = writer.assign(f"load {v}, ptr %bad, align 8")
                    zero = writer.assign(f"fmul {v} {new}, zeroinitializer")
                    bad = writer.assign(f"fadd {v} {bad}, {zero}")
                    writer.lines.append(f"store {v} {bad}, ptr %bad, align 8")
            else:
                where = places(writer, read)
                for lane in range(width):
                    one = writer.assign(f"extractelement <{width} x i64> {where}, i64 {lane}")
                    number = writer.assign(f"extractelement {v} {value}, i64 {lane}")
                    name = f"d{k}.{lane}"
                    writer.lines.append(
                        self._pointer(name, buffer, one) + self._add_number(name, f"%{name}", number, buffer)
                    )
        self._watched(writer, watch, "%bad")
        phis = "".join(f"%acc{k} = phi {v} [zeroinitializer, %m.start], [%acc{k}.next, %m.loop]\n" for k in sums)
        return f"""{before}br label %m.start
m.start:
br label %m.loop
m.loop:
%m = phi i64 [0, %m.start], [%m.next, %m.loop]
{phis}%m.at = mul i64 %m, {width}
%at = add i64 %m.at, {start}
{chr(10).join(writer.lines)}
%m.next = add i64 %m, 1
%m.more = icmp ult i64 %m.next, {count}
br i1 %m.more, label %m.loop, label %m.end
m.end:
{after}"""

    def copied(self, buffer: Buffer, read: Read, size: int) -> tuple[Buffer, str]:
        """What is read, put side by side; and the call that does it."""
        target = self.allocate(size, buffer.uniform)
        target.used = True
        body = Body(size, buffer.uniform)
        body.stores.append((body.leaf(buffer, read), target))
        return target, self.body(body)

    # --- sums -------------------------------------------------------------------------------------------------------

    def reduction(self, left: Any, right: Any, count: int, length: int, target: Buffer) -> str:
        """target[m] = the sum over t of left[m, t] (times right[m, t]); each is (array, read, its size)."""
        pairs = [left] if right is None else [left, right]
        product = right is not None
        if not target.uniform:
            v = self.vector
            text = ""
            for k, (buffer, read) in enumerate(pairs):
                part, place = self._place(f"i{k}", read, "%mt")
                text += part + self._pointer(f"p{k}", buffer, place, 1 if buffer.uniform else self.ld)
                if buffer.uniform:
                    text += f"%y{k}.s = load double, ptr %p{k}, align 8\n" + self._splat(
                        f"y{k}", f"%y{k}.s", self.lanes
                    )
                else:
                    text += f"%q{k} = getelementptr {v}, ptr %p{k}, i64 %v\n%y{k} = load {v}, ptr %q{k}, align 8\n"
            if product:
                text += f"%z = fmul contract {v} %y0, %y1\n"
            inner = f"""br label %t.start
t.start:
br label %t.loop
t.loop:
%t = phi i64 [0, %t.start], [%t.next, %t.loop]
%acc = phi {v} [zeroinitializer, %t.start], [%acc.next, %t.loop]
%mt = add i64 %m.at, %t
{text}%acc.next = fadd contract {v} %acc, {"%z" if product else "%y0"}
%t.next = add i64 %t, 1
%t.more = icmp ult i64 %t.next, {length}
br i1 %t.more, label %t.loop, label %t.end
t.end:
%o = getelementptr {v}, ptr %out, i64 %v
store {v} %acc.next, ptr %o, align 8"""
            outer = f"%m.at = mul i64 %m, {length}\n{self._pointer('out', target, '%m', self.ld)}"
            outer += loop("v", "%vecs", inner)
            return self.function(loop("m", str(count), outer))
        calls = []  # a vector of partial sums, then what is left over
        whole = length // self.lanes
        for width, first, turns in ((self.lanes, 0, whole), (1, whole * self.lanes, length % self.lanes)):
            if not turns:
                continue
            v = f"<{width} x double>"
            text = f"%t.at0 = mul i64 %t, {width}\n%t.at = add i64 %t.at0, {first}\n%mt = add i64 %m.at, %t.at\n"
            for k, (buffer, read) in enumerate(pairs):
                straight = isinstance(read.index, slice) and read.size > 1 and (read.index.step or 1) == 1
                if straight:
                    part, place = self._place(f"i{k}", read, "%mt")
                    text += part + self._pointer(f"p{k}", buffer, place) + f"%y{k} = load {v}, ptr %p{k}, align 8\n"
                    continue
                before = "undef"
                for lane in range(width):
                    text += f"%mt{k}.{lane} = add i64 %mt, {lane}\n"
                    part, place = self._place(f"i{k}.{lane}", read, f"%mt{k}.{lane}")
                    text += part + self._pointer(f"p{k}.{lane}", buffer, place)
                    text += f"%y{k}.{lane}.s = load double, ptr %p{k}.{lane}, align 8\n"
                    name = f"%y{k}" if lane == width - 1 else f"%y{k}.{lane}"
                    text += f"{name} = insertelement {v} {before}, double %y{k}.{lane}.s, i64 {lane}\n"
                    before = name
            if product:
                text += f"%z = fmul contract {v} %y0, %y1\n"
            old = "0.0" if not first else "%o.old"
            outer = f"""%m.at = mul i64 %m, {length}
{self._pointer("out", target, "%m")}%o.old = load double, ptr %out, align 8
br label %t.start
t.start:
br label %t.loop
t.loop:
%t = phi i64 [0, %t.start], [%t.next, %t.loop]
%acc = phi {v} [zeroinitializer, %t.start], [%acc.next, %t.loop]
{text}%acc.next = fadd contract {v} %acc, {"%z" if product else "%y0"}
%t.next = add i64 %t, 1
%t.more = icmp ult i64 %t.next, {turns}
br i1 %t.more, label %t.loop, label %t.end
t.end:
{self._sum("r", "%acc.next", width)}%r.new = fadd double {old}, %r
store double %r.new, ptr %out, align 8"""
            calls.append(self.function(loop("m", str(count), outer)))
        return "\n".join(calls)

    def adding(self, adjoint: Buffer, read: Read, size: int, alone: bool = True) -> tuple[Buffer, Read, bool]:
        """How to add to the members read by a loop of that size: by storing, where it is the first and all of them.

        alone: the loop adds nothing else to that array.
        """
        fresh = (
            alone and not adjoint.uniform and not adjoint.touched and read.once and read.size == size == adjoint.size
        )
        if not fresh and not adjoint.touched:
            self.zero(adjoint)
        adjoint.touched = adjoint.used = True
        return adjoint, read, fresh

    def call_product(self, left: str, sm: int, sk: int, right: str, sb: str, c: str, sc: int, m: str, n: str, k: str,
                     more: str, watch: str = "") -> str:  # fmt: skip
        """C = A B; watch: the address of the vectors that see it, else those of what is the same for all rows."""
        bad = f"ptr {watch}, i64 1" if watch else "ptr %common, i64 0"
        return (
            f"call void {self.pointers[0]}(ptr {left}, i64 {sm}, i64 {sk}, ptr {right}, i64 {sb}, ptr {c}, i64 {sc}, "
            f"i64 {m}, i64 {n}, i64 {k}, i1 {more}, {bad})\n"
        )

    def call_transposed(self, a: str, sa: int, size: int, m: int, n: object) -> str:
        """Transpose m rows of n columns into %room, whose rows are of that size."""
        return f"call void {self.pointers[2]}(ptr {a}, i64 {sa}, ptr %room, i64 {size}, i64 {m}, i64 {n})\n"

    # --- the driver -------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        """The module."""
        sweeps = Sweep(self)
        zeroed = [self._clear(k, buffer) for k, buffer in enumerate(self.zeroed) if buffer.uniform]
        clear = "".join(self._clear(k, buffer) for k, buffer in enumerate(self.zeroed) if not buffer.uniform)
        inputs = self.values[INPUTS]
        arguments = "\n".join(
            f"%{name}.at = getelementptr i64, ptr %call, i64 {k}\n%{name} = load {kind}, ptr %{name}.at, align 8"
            for k, (name, kind) in enumerate(CALL.items())
        )
        start = f"{arguments}\n%q = getelementptr double, ptr %totals, i64 1\n%common = {self.common_bad.at(0)}\n"
        start += f"call void @llvm.memset.p0.i64(ptr %common, i8 0, i64 {8 * self.lanes}, i1 false)\n"
        start += self._clear("cg", self.common_guard)
        if self.gradient and not self.exclusive:
            start += f"call void @llvm.memset.p0.i64(ptr %q, i8 0, i64 {8 * self.owner.sizes[PARAMETERS]}, i1 false)\n"
        start += "".join(zeroed)
        exclusive = "true" if self.exclusive else "false"
        plain = f"ptr %w, ptr %p, ptr %q, ptr %rows, i64 %sx, i64 1, i64 1, i1 {exclusive}"
        chosen = "%heavy = icmp ne ptr %weights, null\n%one = select i1 %heavy, ptr %weights, ptr %scale.at\n"
        chosen += "%many = select i1 %heavy, i64 1, i64 0\n"

        def calls(lines: list[str], arguments: str) -> str:
            return "\n".join(lines).replace(ARGUMENTS, arguments) + "\n"

        if self.single:
            start += f"%in = {inputs.at(0)}\n"
            start += f"call void @llvm.memcpy.p0.p0.i64(ptr %in, ptr %rows, i64 {8 * inputs.size}, i1 false)\n"
            if self.gradient:
                start += f"{chosen}%seed.x = load double, ptr %one, align 8\n%seed = {self.seed.at(0)}\n"
                start += "store double %seed.x, ptr %seed, align 8\n"
        start += calls(sweeps.once, plain)
        if not self.single:
            block = f"""%halt.x = load volatile i64, ptr %stop, align 8
%halt = icmp ne i64 %halt.x, 0
br i1 %halt, label %block.skip, label %block.work
block.work:
%start = mul i64 %b, {self.cols}
%left = sub i64 %n, %start
%full = icmp uge i64 %left, {self.cols}
%count = select i1 %full, i64 {self.cols}, i64 %left
%count.up = add i64 %count, {self.lanes - 1}
%vecs = udiv i64 %count.up, {self.lanes}
%cols = mul i64 %vecs, {self.lanes}
%last = sub i64 %count, 1
%x.at = mul i64 %start, %sx
%x = getelementptr double, ptr %rows, i64 %x.at
%bad = {self.bad.at(0)}
%bytes = mul i64 %cols, 8
call void @llvm.memset.p0.i64(ptr %bad, i8 0, i64 %bytes, i1 false)
%guard = {self.guard.at(0)}
call void @llvm.memset.p0.i64(ptr %guard, i8 0, i64 %bytes, i1 false)
{self._staged(inputs) if inputs.used else ""}{clear}%first = icmp eq i64 %b, {0 if self.exclusive else -1}
{self._seeds() if self.gradient else ""}{calls(sweeps.every, ARGUMENTS)}"""
            if self.gradient:
                fold = f"""%f.p = getelementptr {self.vector}, ptr %bad, i64 %f
%f.x = load {self.vector}, ptr %f.p, align 8
%f.c = load {self.vector}, ptr %common, align 8
%f.y = fadd {self.vector} %f.x, %f.c
store {self.vector} %f.y, ptr %common, align 8"""
                block += calls(sweeps.back, ARGUMENTS) + loop("f", "%vecs", fold)
            else:
                block += self._results() + self._statuses()
            block += "\nbr label %block.skip\nblock.skip:"
            start += f"%b.up = add i64 %n, {self.cols - 1}\n%blocks = udiv i64 %b.up, {self.cols}\n"
            start += "%odd = alloca i64\nstore i64 0, ptr %odd, align 8\n"
            start += (chosen if self.gradient else "") + loop("b", "%blocks", block) + "\n"
        start += calls(sweeps.back_once, plain)
        if self.gradient:
            assert self.total is not None
            start += f"""%total.p = {self.total.at(0)}
%total = load double, ptr %total.p, align 8
store double %total, ptr %totals, align 8
%total.0 = fmul double %total, 0.0
{self._common()}%wrong = fadd double %common.r, %total.0
%is.bad = fcmp uno double %wrong, 0.0
%answer = zext i1 %is.bad to i64
"""
        elif self.single:
            start += (
                "%start = add i64 0, 0\n%count = add i64 0, 1\n"
                + self._results()
                + self._common()
                + f"""
%cg.p = {self.common_guard.at(0)}
%cg.x = load double, ptr %cg.p, align 8
%other = fcmp une double %cg.x, 0.0
%is.bad = fcmp uno double %common.r, 0.0
%code2 = select i1 %is.bad, i8 2, i8 0
%code = select i1 %other, i8 1, i8 %code2
store i8 %code, ptr %status, align 1
%answer = zext i8 %code to i64
"""
            )
        else:
            start += "%answer = load i64, ptr %odd, align 8\n"
        self.declarations["memcpy"] = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
        self.declarations["memset"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
        driver = f"define i64 @run(ptr %call) {{\n{start}ret i64 %answer\n}}"
        return "\n".join([*dict.fromkeys(self.declarations.values()), *self.functions, driver])

    def _clear(self, name: Any, buffer: Buffer) -> str:
        count = f"{8 * buffer.size}" if buffer.uniform else f"{8 * buffer.size * self.ld}"
        text = f"%clear{name} = {buffer.at(0)}\n"
        return f"{text}call void @llvm.memset.p0.i64(ptr %clear{name}, i8 0, i64 {count}, i1 false)\n"

    def _common(self) -> str:
        """%common.r: nan if something that is the same for all rows is not finite."""
        return f"%common.v = load {self.vector}, ptr %common, align 8\n" + self._sum(
            "common.r", "%common.v", self.lanes
        )

    def _staged(self, inputs: Buffer) -> str:
        """The inputs of a block, input by input; rows beyond the last are the last one again."""
        whole = inputs.size // self.lanes * self.lanes
        text = f"%stage = {inputs.at(0)}\n"
        if whole:
            text += (
                f"call void {self.pointers[2]}(ptr %x, i64 %sx, ptr %stage, i64 {self.ld}, i64 %count, i64 {whole})\n"
            )
        if inputs.size > whole:
            number = """%g.over = icmp ugt i64 %g, %last
%g.row = select i1 %g.over, i64 %last, i64 %g
%g.m = mul i64 %g.row, %sx
%g.p = getelementptr double, ptr %h.x, i64 %g.m
%g.x = load double, ptr %g.p, align 8
%g.to = getelementptr double, ptr %h.to, i64 %g
store double %g.x, ptr %g.to, align 8"""
            text += loop(
                "h",
                str(inputs.size),
                f"""%h.x = getelementptr double, ptr %x, i64 %h
%h.m = mul i64 %h, {self.ld}
%h.to = getelementptr double, ptr %stage, i64 %h.m
{loop("g", "%cols", number)}""",
                str(whole),
            )
            text += "\n"
        return text

    def _seeds(self) -> str:
        """The weights of a block's rows; 0 for rows beyond the last."""
        weight = """%d.in = icmp ult i64 %d, %count
%d.row = select i1 %d.in, i64 %d, i64 0
%d.at = add i64 %d.row, %start
%d.m = mul i64 %d.at, %many
%d.p = getelementptr double, ptr %one, i64 %d.m
%d.x = load double, ptr %d.p, align 8
%d.y = select i1 %d.in, double %d.x, double 0.0
%d.to = getelementptr double, ptr %seed, i64 %d
store double %d.y, ptr %d.to, align 8"""
        return f"%seed = {self.seed.at(0)}\n{loop('d', '%cols', weight)}\n"

    def _results(self) -> str:
        """Copy the outputs of a block to their places."""
        text = ""
        for number, (k, members, which) in enumerate(self.owner.outputs):
            name, buffer = f"y{number}", self.values[k]
            body = f"""%{name}.mp = getelementptr i64, ptr {self.table(members)}, i64 %{name}
%{name}.m = load i64, ptr %{name}.mp, align 8
%{name}.wp = getelementptr i64, ptr {self.table(which)}, i64 %{name}
%{name}.w = load i64, ptr %{name}.wp, align 8
{self._pointer(f"{name}.p", buffer, f"%{name}.m", 1 if buffer.uniform else self.ld)}%{name}.s = mul i64 %{name}.w, %so
%{name}.o = add i64 %{name}.s, %start
%{name}.q = getelementptr double, ptr %outs, i64 %{name}.o
"""
            if buffer.uniform:
                inner = f"%{name}.r = getelementptr double, ptr %{name}.q, i64 %{name}i\n"
                inner += f"store double %{name}.x, ptr %{name}.r, align 8"
                body += f"%{name}.x = load double, ptr %{name}.p, align 8\n{loop(name + 'i', '%count', inner)}"
            else:
                body += f"%{name}.b = mul i64 %count, 8\n"
                body += f"call void @llvm.memcpy.p0.p0.i64(ptr %{name}.q, ptr %{name}.p, i64 %{name}.b, i1 false)"
            text += loop(name, str(len(members)), body) + "\n"
        return text

    def _statuses(self) -> str:
        """A status for each row of a block, and how many are not 0."""
        row = """%e.bp = getelementptr double, ptr %bad, i64 %e
%e.b = load double, ptr %e.bp, align 8
%e.bad = fadd double %e.b, %common.r
%e.is.bad = fcmp uno double %e.bad, 0.0
%e.gp = getelementptr double, ptr %guard, i64 %e
%e.g = load double, ptr %e.gp, align 8
%e.gs = fadd double %e.g, %cg.x
%e.other = fcmp une double %e.gs, 0.0
%e.c2 = select i1 %e.is.bad, i8 2, i8 0
%e.code = select i1 %e.other, i8 1, i8 %e.c2
%e.at = add i64 %e, %start
%e.to = getelementptr i8, ptr %status, i64 %e.at
store i8 %e.code, ptr %e.to, align 1
%e.not = icmp ne i8 %e.code, 0
%e.one = zext i1 %e.not to i64
%e.old = load i64, ptr %odd, align 8
%e.new = add i64 %e.old, %e.one
store i64 %e.new, ptr %odd, align 8"""
        common = self._common() + f"%cg.p = {self.common_guard.at(0)}\n%cg.x = load double, ptr %cg.p, align 8\n"
        return common + loop("e", "%count", row) + "\n"


class Matrix:
    """A matrix product of an array program: what is multiplied, and where it all stands."""

    def __init__(self, emission: Emission, part: MatrixPart, uniform: bool) -> None:
        self.emission, self.part, self.uniform = emission, part, uniform
        e = emission
        self.m, self.k = part.matrix.shape
        self.vectors = part.vectors
        self.calls: list[str] = []  # before the product
        left = e.values[part.matrix.source]
        left.used = True
        self.grid = part.matrix.grid
        if self.grid is None:
            self.left, call = e.copied(left, part.matrix.read, self.m * self.k)
            self.left_calls, self.down, self.across, self.first = call, self.k, 1, 0
        else:
            self.left, self.left_calls = left, ""
            self.first, self.down, self.across = self.grid
        right, read = e.values[part.read.source], part.read
        right.used = True
        size = self.k * self.vectors
        sliced = isinstance(read.index, slice)
        step = (read.index.step or 1) if sliced and (read.size > 1 or size == 1) else 0
        self.raw = part.read.source == INPUTS and sliced and step == 1 and self.vectors == 1 and not e.single
        self.straight = sliced and step > 0 and (step == 1 or not uniform)  # its adjoints are written in place
        if (sliced and not uniform) or (self.straight and right.base == "w"):
            self.right, self.start, self.step, self.right_calls = right, read.index.start, step, ""
        else:
            self.right, self.right_calls = e.copied(right, read, size)
            self.start, self.step = 0, 1
        if right.uniform and not uniform:
            raise UnsuitableError

    def pointer(self, name: str, buffer: Buffer, place: int, stride: int = 1) -> str:
        return f"%{name} = getelementptr double, ptr %{buffer.base}, i64 {buffer.offset + place * stride}\n"

    def head(self) -> str:
        e = self.emission
        return (
            f"%common = {e.common_bad.at(0)}\n%rowbad = {e.bad.at(0)}\n%cols = mul i64 %vecs, {e.lanes}\n"
            + self.pointer("a", self.left, self.first)
        )

    def forward(self, target: Buffer) -> str:
        e, m, k, n = self.emission, str(self.m), str(self.k), self.vectors
        text = self.head()
        if not self.uniform:
            ld = e.ld
            text += self.pointer("b", self.right, self.start, ld) + self.pointer("c", target, 0)
            inner = f"%j.b = mul i64 %j, {self.step * ld}\n%bj = getelementptr double, ptr %b, i64 %j.b\n"
            inner += f"%j.c = mul i64 %j, {ld}\n%cj = getelementptr double, ptr %c, i64 %j.c\n"
            inner += e.call_product("%a", self.down, self.across, "%bj", str(self.step * n * ld), "%cj", n * ld, m,
                                    "%cols", k, "false", "%rowbad")  # fmt: skip
            text += loop("j", str(n), inner)
        else:
            text += self.pointer("b", self.right, self.start) + self.pointer("c", target, 0)
            if n == 1 and self.across == 1:
                text += f"call void {e.pointers[1]}(ptr %a, i64 {self.down}, ptr %b, ptr %c, i64 {m}, i64 {k}, "
                text += "i1 false, ptr %common)\n"
            elif n == 1 and self.down == 1:
                text += e.call_product("%b", 0, 1, "%a", str(self.across), "%c", 0, "1", m, k, "false")
            else:
                text += e.call_product("%a", self.down, self.across, "%b", str(n), "%c", n, m, str(n), k, "false")
        return "\n".join([self.left_calls, self.right_calls, e.function(text)])

    def backward(self, g: Buffer) -> str:
        """The calls that add to the adjoints of both factors."""
        calls = ""
        if self.part.left_needed:
            calls += self._left(g)
        if self.part.right_needed:
            calls += self._right(g)
        return calls

    def _left(self, g: Buffer) -> str:
        e, n = self.emission, self.vectors
        lanes, adjoint = e.lanes, e.adjoints[self.part.matrix.source]
        assert adjoint is not None
        adjoint.touched = True
        scattered = self.grid is None or 1 not in (self.across, self.down)
        target = e.allocate(self.m * self.k, True) if scattered else adjoint
        first = 0 if scattered else self.first
        down, across = (self.k, 1) if scattered else (self.down, self.across)
        swapped = across != 1  # then the transposed matrix is what is written: its columns are side by side
        text = self.head() + self.pointer("t", target, first)
        unit = 1 if self.uniform else e.ld
        text += self.pointer("g", g, 0) + self.pointer("b", self.right, self.start, unit)
        old = "false" if scattered else "%old.q" if target.base == "q" else "true"
        head = "%old.q = xor i1 %first, true\n"
        if not self.uniform:
            side, other = ("%gj", n * unit), ("%bj", self.step * n * unit)
            inner = f"%j.b = mul i64 %j, {self.step * unit}\n%bj = getelementptr double, ptr %b, i64 %j.b\n"
            inner += f"%j.g = mul i64 %j, {unit}\n%gj = getelementptr double, ptr %g, i64 %j.g\n"
            inner += "%old = icmp ne i64 %j, 0\n"
            if scattered:
                more = "%old"
            elif target.base == "q":
                inner += "%old.j = or i1 %old, %old.q\n"
                more = "%old.j"
            else:
                more = "true"
            if swapped:
                size = -(-self.m // lanes) * lanes
                room = e.allocate(e.cols * size, True)
                inner += self.pointer("room", room, 0)
                inner += e.call_transposed("%gj", side[1], size, self.m, "%cols")
                inner += e.call_product("%bj", other[1], 1, "%room", str(size), "%t", across, str(self.k),
                                        str(self.m), "%count", more)  # fmt: skip
            elif self.raw:
                inner += f"%raw = getelementptr double, ptr %x, i64 {self.start}\n"
                inner += e.call_product("%gj", side[1], 1, "%raw", "%sx", "%t", down, str(self.m), str(self.k),
                                        "%count", more)  # fmt: skip
            else:
                size = -(-self.k // lanes) * lanes
                room = e.allocate(e.cols * size, True)
                inner += self.pointer("room", room, 0)
                inner += e.call_transposed("%bj", other[1], size, self.k, "%cols")
                inner += e.call_product("%gj", side[1], 1, "%room", str(size), "%t", down, str(self.m), str(self.k),
                                        "%count", more)  # fmt: skip
            text += head + loop("j", str(n), inner)
        else:
            text += head
            near, far = (("%g", self.m), ("%b", self.k)) if swapped else (("%b", self.k), ("%g", self.m))
            size = -(-near[1] // lanes) * lanes
            if n > 1:
                room = e.allocate((n + lanes) * size, True)
                text += self.pointer("room", room, 0)
                text += e.call_transposed(near[0], n, size, near[1], n)
                near = ("%room", near[1])
            text += e.call_product(far[0], n, 1, near[0], str(size), "%t", across if swapped else down, str(far[1]),
                                   str(near[1]), str(n), old)  # fmt: skip
        calls = e.function(text)
        if scattered:
            body = Body(self.m * self.k, True)
            body.adds.append((body.leaf(target, _whole(target.size)), adjoint, self.part.matrix.read, False))
            calls += "\n" + e.body(body)
        return calls

    def _right(self, g: Buffer) -> str:
        e, n, read = self.emission, self.vectors, self.part.read
        adjoint = e.adjoints[read.source]
        assert adjoint is not None
        size = self.k * n
        direct = self.straight and (adjoint.base == "w")
        unit = 1 if self.uniform else e.ld
        if direct:
            target, start, step = adjoint, read.index.start, read.index.step or 1
            more = adjoint.touched
            if not more and not read.whole:
                e.zero(adjoint)
                more = True
            adjoint.touched = True
        else:
            target, start, step, more = e.allocate(size, self.uniform), 0, 1, False
        text = self.head() + self.pointer("d", target, start, unit) + self.pointer("g", g, 0)
        old = "true" if more else "false"
        if not self.uniform:
            inner = f"%j.d = mul i64 %j, {step * unit}\n%dj = getelementptr double, ptr %d, i64 %j.d\n"
            inner += f"%j.g = mul i64 %j, {unit}\n%gj = getelementptr double, ptr %g, i64 %j.g\n"
            inner += e.call_product("%a", self.across, self.down, "%gj", str(n * unit), "%dj", step * n * unit,
                                    str(self.k), "%cols", str(self.m), old, "%rowbad")  # fmt: skip
            text += loop("j", str(n), inner)
        elif n == 1 and self.across == 1:
            text += e.call_product("%g", 0, 1, "%a", str(self.down), "%d", 0, "1", str(self.k), str(self.m), old)
        elif n == 1 and self.down == 1:
            text += f"call void {e.pointers[1]}(ptr %a, i64 {self.across}, ptr %g, ptr %d, i64 {self.k}, i64 {self.m}, "
            text += f"i1 {old}, ptr %common)\n"
        else:
            text += e.call_product("%a", self.across, self.down, "%g", str(n), "%d", n, str(self.k), str(n),
                                   str(self.m), old)  # fmt: skip
        calls = "\n" + e.function(text)
        if not direct:
            body = Body(size, self.uniform)
            node = body.leaf(target, _whole(size))
            body.adds.append((node, *e.adding(adjoint, read, size)))
            calls += "\n" + e.body(body)
        return calls


@dataclass(slots=True)
class Operand:
    """What a statement reads: members of an array, and where its adjoint goes; number: the array's, or -1."""

    number: int
    values: Buffer
    adjoint: Buffer | None
    read: Read


@dataclass(slots=True)
class Statement:
    """The members of an array of those of others, one for one: an op, or a sum of terms and products."""

    number: int
    step: Any
    operands: list[Any]  # an operand, a pair to be multiplied, or a number


class Sweep:
    """The two sweeps of an array program, as calls in order."""

    def __init__(self, emission: Emission) -> None:
        self.e = e = emission
        self.once: list[str] = []
        self.every: list[str] = []
        self.back: list[str] = []
        self.back_once: list[str] = []
        self.items: list[Any] = []  # what is computed, in order: statements of a loop, matrix products, reductions
        self.group: list[Statement] = []
        for step in e.owner.steps:
            if isinstance(step, MapStep):
                operands = [
                    x if x is not None else self.operand(read.source, read) for x, read in zip(step.known, step.reads)
                ]
                self.append(Statement(step.number, step, operands))
            else:
                self.sum(step)
        self.flush()
        self.forward()

    def operand(self, number: int, read: Read) -> Operand:
        return Operand(number, self.e.values[number], self.e.adjoints[number], read)

    def temporary(self, size: int, uniform: bool, needed: bool) -> Operand:
        """An array of its own for a part of a sum."""
        e = self.e
        adjoint = e.allocate(size, uniform) if needed and e.gradient else None
        if adjoint is not None and uniform:
            e.zero(adjoint)
        return Operand(-1, e.allocate(size, uniform), adjoint, _whole(size))

    def sum(self, step: Any) -> None:
        e = self.e
        terms: list[Any] = []
        for part in step.parts:
            uniform = all(e.uniform[source] for source, _ in part.places)
            if isinstance(part, MatrixPart):
                needed = e.gradient and (part.left_needed or part.right_needed)
                matrix = Matrix(e, part, uniform)
                if len(step.parts) == 1 and part.order is None and uniform == e.uniform[step.number]:
                    self.items.append((matrix, e.values[step.number], e.adjoints[step.number] if needed else None))
                    self.flush_before(matrix)
                    return
                made = self.temporary(matrix.m * matrix.k * 0 + matrix.m * matrix.vectors, uniform, needed)
                self.items.append((matrix, made.values, made.adjoint))
                self.flush_before(matrix)
                if part.order is not None:
                    made = Operand(-1, made.values, made.adjoint, read_of(-1, part.order, made.values.size))
                terms.append(made)
                continue
            places = [(source, where) for source, where in part.places]
            sizes = e.owner.sizes
            if part.length <= FEW:
                for t in range(part.length):
                    pair = [
                        self.operand(source, read_of(source, where[:, t], sizes[source])) for source, where in places
                    ]
                    terms.append(pair if len(pair) > 1 else pair[0])
                continue
            pair = [self.operand(source, read_of(source, where.ravel(), sizes[source])) for source, where in places]
            for x in pair:
                x.values.used = True
            needed = any(x.adjoint is not None for x in pair)
            made = self.temporary(part.count, uniform, needed)
            self.items.append((pair, part.count, part.length, made))
            self.flush_before(pair)
            terms.append(made)
        self.append(Statement(step.number, step, terms))

    def flush_before(self, item: Any) -> None:
        """End the loop under way if what was just appended reads what it computes."""
        numbers = {statement.number for statement in self.group}
        if isinstance(item, Matrix):
            read = {item.part.matrix.source, item.part.read.source}
        else:
            read = {x.number for x in item}
        if numbers & read:
            last = self.items.pop()
            self.flush()
            self.items.append(last)

    def append(self, statement: Statement) -> None:
        """Put a statement into the loop under way, or begin another."""
        e = self.e
        if self.group:
            first = self.group[0]
            size, numbers = e.owner.sizes[first.number], {x.number for x in self.group}
            fits = e.owner.sizes[statement.number] == size
            fits = fits and e.uniform[statement.number] == e.uniform[first.number]
            for operand in self.flat(statement):
                if operand.number in numbers:
                    fits = fits and operand.read.whole and operand.read.size == size
            if not fits:
                self.flush()
        self.group.append(statement)

    def flat(self, statement: Statement) -> list[Operand]:
        found: list[Operand] = []
        for x in statement.operands:
            found += x if isinstance(x, list) else [x] if isinstance(x, Operand) else []
        return found

    def flush(self) -> None:
        if self.group:
            self.items.append(self.group)
            self.group = []

    # --- forward ----------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Bodies first, then the backward sweep, which says what is read; then the text."""
        e = self.e
        bodies: list[Body | None] = []
        for k in (INPUTS, PARAMETERS):
            if e.owner.watched[k]:
                body = Body(e.owner.sizes[k], e.uniform[k])
                body.watch.append(body.leaf(e.values[k], _whole(body.size)))
                self.items.insert(0, body)
        for item in self.items:
            bodies.append(self.forward_body(item) if type(item) is list and isinstance(item[0], Statement) else None)
        self.results()
        if e.gradient:
            for item in reversed(self.items):
                self.backward(item)
        after = self.once, self.every
        self.once, self.every = [], []
        for item, prepared in zip(self.items, bodies):
            whole = item if isinstance(item, Body) else prepared
            if whole is not None:
                self.put(whole.uniform, e.body(whole))
            elif isinstance(item[0], Matrix):
                self.put(item[0].uniform, item[0].forward(item[1]))
            else:
                pair, count, length, made = item
                right = (pair[1].values, pair[1].read) if len(pair) > 1 else None
                call = e.reduction((pair[0].values, pair[0].read), right, count, length, made.values)
                self.put(made.values.uniform, call)
        self.once += after[0]
        self.every += after[1]

    def put(self, uniform: bool, call: str) -> None:
        if call:
            (self.once if uniform else self.every).append(call)

    def put_back(self, uniform: bool, call: str) -> None:
        if call:
            (self.back_once if uniform else self.back).append(call)

    def node(self, body: Body, operand: Operand) -> int:
        known = body.values.get(operand.number)
        return known if known is not None else body.leaf(operand.values, operand.read)

    def forward_body(self, group: list[Statement]) -> Body:
        e = self.e
        body = Body(e.owner.sizes[group[0].number], e.uniform[group[0].number])
        program = body.program
        for statement in group:
            if isinstance(statement.step, MapStep):
                operands = [
                    self.node(body, x) if isinstance(x, Operand) else program.constant(x) for x in statement.operands
                ]
                node = program.node(statement.step.op, tuple(operands))
                if statement.step.precise:
                    program.guards.append(node)
            else:
                terms = []
                for x in statement.operands:
                    if isinstance(x, list):
                        terms.append(program.node(mul, (self.node(body, x[0]), self.node(body, x[1]))))
                    else:
                        terms.append(self.node(body, x))
                node = terms[0]
                for term in terms[1:]:
                    node = program.node(add, (node, term))
            body.values[statement.number] = node
            body.stores.append((node, e.values[statement.number]))
            if e.owner.watched[statement.number]:
                body.watch.append(node)
        return body

    # --- results ----------------------------------------------------------------------------------------------------

    def results(self) -> None:
        """What becomes of the outputs: guards, and the sum with its seeds; plain results are the driver's."""
        e, owner = self.e, self.e.owner
        for k, _, _ in owner.outputs:
            e.values[k].used = True
        if e.gradient:
            k, members, _ = owner.outputs[0]
            place = read_of(k, members, owner.sizes[k])
            e.total = e.allocate(1, True)
            e.zero(e.total)
            one = _whole(1)
            weight, uniform = e.seed, e.uniform[k]
            if uniform and not e.single:
                weight = e.allocate(1, True)
                e.zero(weight)
                body = Body(1, False)
                body.adds.append((body.leaf(e.seed, one), weight, one, False))
                self.put(False, e.body(body))
            body = Body(1, uniform)
            seed = body.leaf(weight, one)
            product = body.program.node(mul, (seed, body.leaf(e.values[k], place)))
            body.adds.append((product, e.total, one, False))
            adjoint = e.adjoints[k]
            if adjoint is not None:
                body.adds.append((seed, *e.adding(adjoint, place, 1)))
            self.put_back(uniform, e.body(body))
            return
        import numpy as np

        for k, members, expected in owner.guards:
            wanted = np.ascontiguousarray(expected.ravel(), float)
            body = Body(len(members), e.uniform[k])
            program = body.program
            table = e.allocate(len(wanted), True)
            e.initial.append((table.offset, wanted))
            truth = program.node(
                where,
                (
                    body.leaf(e.values[k], read_of(k, members, owner.sizes[k])),
                    program.constant(1.0),
                    program.constant(0.0),
                ),
            )
            other = program.node(sub, (truth, body.leaf(table, _whole(len(wanted)))))
            other = program.node(absolute, (other,))
            body.adds.append((other, e.common_guard if body.uniform else e.guard, _whole(1), False))
            self.put(body.uniform, e.body(body))

    # --- backward ---------------------------------------------------------------------------------------------------

    def backward(self, item: Any) -> None:
        e = self.e
        if isinstance(item, Body):
            return
        if isinstance(item[0], Matrix):
            matrix, _, adjoint = item
            if adjoint is not None and adjoint.touched:
                adjoint.used = True
                self.put_back(matrix.uniform, matrix.backward(adjoint))
            elif adjoint is not None:
                e.exclusive = False
            return
        if isinstance(item[0], Statement):
            self.backward_loop(item)
            return
        pair, count, length, made = item
        if made.adjoint is None or not made.adjoint.touched:
            e.exclusive = e.exclusive and made.adjoint is None
            return
        import numpy as np

        body = Body(count * length, made.values.uniform)
        g = body.leaf(made.adjoint, read_of(-1, np.repeat(np.arange(count), length), count))
        added: dict[Any, Any] = {}
        for k, operand in enumerate(pair):
            node = g
            if len(pair) > 1:
                other = pair[1 - k]
                if operand.adjoint is not None:
                    node = body.program.node(mul, (g, body.leaf(other.values, other.read)))
            self.contribute(body, added, operand, node)
        self.finish(body, added)

    def contribute(self, body: Body, added: dict[Any, Any], operand: Operand, node: int) -> None:
        """A part of the adjoint of what an operand reads."""
        if operand.adjoint is None:
            return
        where = operand.read.index
        same = (where.start, where.stop, where.step) if isinstance(where, slice) else where.tobytes()
        key = id(operand.adjoint), same
        before = added.get(key)
        if before is not None:
            node = body.program.node(add, (before[0], node))
        added[key] = node, operand

    def finish(self, body: Body, added: dict[Any, Any]) -> None:
        targets = [id(operand.adjoint) for _, operand in added.values()]
        for node, operand in added.values():
            alone = targets.count(id(operand.adjoint)) == 1
            body.adds.append((node, *self.e.adding(operand.adjoint, operand.read, body.size, alone)))
        self.put_back(body.uniform, self.e.body(body))

    def backward_loop(self, group: list[Statement]) -> None:
        e = self.e
        body = Body(e.owner.sizes[group[0].number], e.uniform[group[0].number])
        program = body.program
        inside = {statement.number for statement in group}
        grads: dict[int, int] = {}
        added: dict[Any, Any] = {}

        def give(operand: Operand, node: int) -> None:
            if operand.number in inside:
                before = grads.get(operand.number)
                grads[operand.number] = node if before is None else program.node(add, (before, node))
            else:
                self.contribute(body, added, operand, node)

        for statement in reversed(group):
            adjoint = e.adjoints[statement.number]
            if adjoint is None:
                continue
            g = grads.get(statement.number)
            if adjoint.touched:
                outer = body.leaf(adjoint, _whole(body.size))
                g = outer if g is None else program.node(add, (g, outer))
            if g is None:
                e.exclusive = False
                continue
            if not isinstance(statement.step, MapStep):
                for x in statement.operands:
                    if isinstance(x, Operand):
                        if x.adjoint is not None:
                            give(x, g)
                        continue
                    for operand, other in (x, x[::-1]):
                        if operand.adjoint is not None:
                            give(operand, program.node(mul, (g, body.leaf(other.values, other.read))))
                continue
            self.backward_op(body, statement, g, give)
        self.finish(body, added)

    def backward_op(self, body: Body, statement: Statement, g: int, give: Any) -> None:
        """Adjoints of the operands of an op: g times its partials."""
        step, program = statement.step, body.program
        if not step.wanted:
            return
        slopes = step.slopes
        source = slopes.source
        needed = live(source, source.outputs)
        place: dict[int, int] = {}
        own = Operand(statement.number, self.e.values[statement.number], None, _whole(body.size))
        for i, x in zip(source.inputs, [own, *statement.operands]):
            if needed[i]:
                place[i] = body.leaf(x.values, x.read) if isinstance(x, Operand) else program.constant(x)
        for i, op in enumerate(source.ops):
            if i in source.constants:
                place[i] = program.constant(source.constants[i])
            elif op is not None and needed[i]:
                place[i] = program.node(op, tuple([place[k] for k in source.operands[i]]))
        for k, i, constant in zip(step.wanted, source.outputs, slopes.constants):
            operand = statement.operands[k]
            if constant == 0.0:
                self.e.exclusive = False
            elif isinstance(operand, Operand) and operand.adjoint is not None:
                give(operand, g if constant == 1.0 else program.node(mul, (g, place[i])))


class Vectors(Arrays):
    """An array program as machine code, ready to run."""

    def __init__(self, program: Any, outputs: list[int], guards: list[tuple[int, bool]], checks: list[int]) -> None:
        import numpy as np

        machine = host()
        assert machine is not None
        self.machine, self.choose = machine, machine.native
        super().__init__(program, outputs, guards, checks)
        lanes = machine.lanes
        rows = min(MOST, max(LEAST, KEPT // self.kept))
        self.vectors = max(1, rows // lanes)
        self.block = self.vectors * lanes
        read = np.zeros(self.sizes[PARAMETERS], bool)
        for step in self.steps:
            for places in step.parameters():
                read[places] = True
        self.covered = bool(read.all())
        self.operations: int = 1 + sum(step.work() for step in self.steps)
        small = self.sizes[PARAMETERS] <= COPIED
        self.small_rows = min(COPIED // max(1, self.sizes[INPUTS]), CHUNK // self.operations) if small else 0
        self.jobs: dict[int, Any] = {}
        self._codes: dict[tuple[bool, bool], Program] = {}
        self._texts: dict[tuple[bool, bool], Emission] = {}

    def code(self, gradient: bool, single: bool) -> Program:
        """The code for values, or for sums with their gradient, of one row or of many."""
        key = gradient, single
        if key not in self._codes:
            emission = self._texts.pop(key, None) or Emission(self, self.machine, gradient, single)
            self._codes[key] = Program(emission)
        return self._codes[key]

    def small_totals(self, X: Any, point: Any, parameters: int, scale: float) -> Any:
        """`totals` of a small matrix of floats, times scale; None if it is not small, or a number is not finite."""
        n, columns = X.shape
        if n > self.small_rows or columns != self.sizes[INPUTS]:
            return None
        total = self.code(True, n == 1).small(X, n, point, scale)
        return total if total is None or len(total) == 1 + parameters else total[: 1 + parameters]

    def rows(self, block: Callable[[int, int], Any], n: int, point: Any, out: np.ndarray[Any, Any]) -> tuple[Any, Any]:
        """The outputs of n rows into the rows of `out`; what is odd: row numbers and statuses, as `Native.rows`."""
        import numpy as np

        if not n:
            return (), ()
        code = self.code(False, n == 1)
        point = np.ascontiguousarray(point, float)
        size = self._share(n)

        def part(word: int, start: int) -> Any:
            stop = min(n, start + size)
            X = np.ascontiguousarray(block(start, stop).T)
            status = np.empty(stop - start, np.int8)
            odd = code(X, stop - start, point, None, 0.0, out[:, start:stop], status, None, word)
            found = np.nonzero(status)[0] if odd else np.zeros(0, np.intp)
            return found + start, status[found]

        parts = self._shared(part, range(0, n, size), n, (out, point))
        return np.concatenate([x for x, _ in parts]), np.concatenate([x for _, x in parts])

    def point(self, row: Sequence[float], point: Any) -> tuple[Any, int]:
        """The outputs for one row, and its status."""
        import numpy as np

        code = self.code(False, True)
        if self.sizes[PARAMETERS] <= COPIED:
            return code.one(row, point, self.count)
        out, status = np.empty((self.count, 1)), np.empty(1, np.int8)
        X = np.array(row, float).reshape(1, -1)
        code(X, 1, np.ascontiguousarray(point, float), None, 0.0, out, status, None, 0)
        return out[:, 0], int(status[0])

    def prepare(self, parameters: int) -> None:
        super().prepare(parameters)
        self._texts[True, False] = Emission(self, self.machine, True, False)  # it says whether it can be done

    def totals(
        self,
        block: Callable[[int, int], Any],
        n: int,
        point: Any,
        parameters: int,
        again: Callable[[int, int], Any],
        weights: Any = None,
        scale: float = 1.0,
    ) -> Any:
        """The sum of the one output over n rows, each times its weight, and its gradient by the first parameters.

        `again` gives that of some of the rows where a number is not finite.
        """
        import numpy as np

        point = np.ascontiguousarray(point, float)
        code = self.code(True, n == 1)
        size = -(-n // SHARES) if n * self.operations >= CHUNK else n
        size = -(-size // self.block) * self.block
        count = 1 + self.sizes[PARAMETERS]

        def part(word: int, start: int, stop: int = 0) -> Any:
            stop = stop or min(n, start + size)
            total = np.empty(count)
            X = np.ascontiguousarray(block(start, stop).T)
            some = None if weights is None else weights[start:stop]
            bad = code(X, stop - start, point, some, scale, None, None, total, word)
            return None if bad else total[: 1 + parameters]

        def halves(start: int, stop: int) -> Any:
            """Of rows with a number that is not finite: its block by `again`, the others as ever."""
            if stop - start <= self.block:
                return again(start, stop) * (scale if weights is None else 1.0)
            middle = start + -(-(stop - start) // 2 // self.block) * self.block
            found = [(part(0, low, high), low, high) for low, high in ((start, middle), (middle, stop))]
            return sum(halves(low, high) if total is None else total for total, low, high in found)

        starts = range(0, n, size)
        total = None
        for start, found in zip(starts, self._shared(part, starts, n, (point, weights))):
            if found is None:
                found = halves(start, min(n, start + size))
            total = found if total is None else total + found
        return total

    def _share(self, n: int) -> int:
        """The rows of a share that is worth a thread; the split does not depend on the number of threads."""
        blocks = CHUNK // (self.operations * self.block) + 1
        return int(min(n, blocks * self.block))

    def _shared(self, part: Callable[[int, int], Any], starts: range, n: int, keep: Any) -> list[Any]:
        """The results of the shares in order, by threads where that is faster."""
        workers = min(len(starts), os.cpu_count() or 1)
        if workers > 1:
            return Job(self, part, starts, keep).run(workers)
        return [part(0, start) for start in starts]


class Memory:
    """The memory of one call. Each call has its own, so that several threads can call at once."""

    def __init__(self, program: Program) -> None:
        import numpy as np

        self.space = np.zeros(program.space + 16)
        first = -(address(self.space) // 8) % 8  # a vector begins where a line of the cache does
        for offset, numbers in program.initial:
            self.space[first + offset : first + offset + len(numbers)] = numbers
        self.at = address(self.space) + 8 * first
        self.words = self.call(0, 0, 0)
        self.point = np.empty(program.parameters if program.parameters <= COPIED else 0)
        self.total = np.empty(len(self.point) + 1)
        self.staged: dict[int, Any] = {}
        self.out: Any = None

    def call(self, rows: int, stride: int, n: int) -> Any:
        """The argument block of the code, as 64-bit words; behind it a word that stops nothing."""
        words = (ctypes.c_int64 * (len(CALL) + 1))(rows, stride, n)
        words[10], words[11] = self.at, ctypes.addressof(words) + 8 * len(CALL)
        return words

    def stage(self, n: int, columns: int) -> Any:
        """For small batches of n rows: a matrix to copy the data to, the argument block, and the scale in it."""
        import numpy as np

        if len(self.staged) > 8:
            self.staged.clear()
        place = np.empty((n, columns))
        words = self.call(address(place), columns, n)
        words[3], words[9] = address(self.point), address(self.total)
        self.staged[n] = staged = place, words, ctypes.c_double.from_buffer(words, 40)
        return staged


class Program:
    """Compiled code, with memory for its calls."""

    def __init__(self, emission: Emission) -> None:
        self.text, self.space, self.initial = emission.text, emission.space, emission.initial
        self.inputs, self.parameters = (emission.owner.sizes[k] for k in (INPUTS, PARAMETERS))
        self.kept = emission.tables, emission.library
        self.code = Code(self.text, 1, "run")
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.code.address)
        self._idle: list[Memory] = []

    def __call__(
        self, X: Any, n: int, point: Any, weights: Any, scale: float, out: Any, status: Any, total: Any, word: int
    ) -> int:
        """Run it on n rows; how many are odd, or whether anything is not finite."""
        memory = self._memory()
        try:
            words = memory.words
            words[0], words[1], words[2], words[3] = address(X), X.strides[0] // 8, n, address(point)
            words[4] = 0 if weights is None else address(weights)
            ctypes.c_double.from_buffer(words, 40).value = scale
            if out is not None:
                words[6], words[7], words[8] = address(out), out.strides[0] // 8, address(status)
            if total is not None:
                words[9] = address(total)
            words[11] = word or ctypes.addressof(words) + 8 * len(CALL)
            return int(self.run(words))
        finally:
            self._idle.append(memory)

    def small(self, X: Any, n: int, point: Any, scale: float) -> Any:
        """The sums over the n rows of a small matrix, times scale; None if a number was not finite."""
        memory = self._memory()
        try:
            place, words, factor = memory.staged.get(n) or memory.stage(n, self.inputs)
            place[:] = X
            memory.point[:] = point
            factor.value = scale
            return None if self.run(words) else memory.total.copy()
        finally:
            self._idle.append(memory)

    def one(self, row: Sequence[float], point: Any, count: int) -> tuple[Any, int]:
        """The outputs for one row, so many, in an array of their own, and its status."""
        memory = self._memory()
        try:
            place, words, _ = memory.staged.get(1) or memory.stage(1, self.inputs)
            if memory.out is None:
                import numpy as np

                memory.out = out = np.empty(count), np.empty(1, np.int8)
                words[6], words[7], words[8] = address(out[0]), 1, address(out[1])
            place[0] = row
            memory.point[:] = point
            status = self.run(words)
            return memory.out[0].copy(), status
        finally:
            self._idle.append(memory)

    def _memory(self) -> Memory:
        try:
            return self._idle.pop()
        except IndexError:
            return Memory(self)


def address(array: Any) -> int:
    """Where an array's numbers begin."""
    return int(array.__array_interface__["data"][0])


def arrays(program: FlatProgram, guards: Sequence[tuple[int, bool]] = (), exact: bool = False) -> Arrays | None:
    """A program as arrays, ready to run; None where straight-line code is better, or the only way."""
    compiled = len(program) >= min(SMALL, finding.SMALL) and host() is not None
    if compiled:
        found = find(program, exact, min(SMALL, finding.SMALL), min(SHARE, finding.MEMBERS))
    else:
        found = find(program, exact)
    if found is None:
        return None
    kinds: list[type[Arrays]] = [Vectors] if compiled else []
    if len(program) >= finding.SMALL:
        kinds.append(Arrays)
    for kind in kinds:
        try:
            return kind(found, program.outputs, list(guards), program.checks)
        except UnsuitableError:
            continue
    return None

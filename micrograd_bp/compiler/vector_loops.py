"""The loops of array programs as LLVM's text: over members with the rows of a batch in vector lanes, or over lanes of
members, where an array is the same for all rows.

A loop's body is a short program of the members of arrays, written by the writer of straight-line code. An array stands
in the workspace, member by member with room for a block of rows; a uniform one has a number for each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from micrograd_bp.compiler.arrays import CONSTANTS, PARAMETERS
from micrograd_bp.compiler.evaluation import Read, UnsuitableError, unseen
from micrograd_bp.compiler.llvm import LLVMWriter
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.machine import Host, declare, loop
from micrograd_bp.compiler.matrices import matrices
from micrograd_bp.compiler.program import FlatProgram, live
from micrograd_bp.ops import Op

# The arguments of every function: the workspace, the parameters and their slopes, the rows of the block and their
# distance, the numbers of vectors and of rows, and whether it is the first block, which sets slopes, not adds to them.
ARGUMENTS = "ptr %w, ptr %p, ptr %q, ptr %x, i64 %sx, i64 %vecs, i64 %count, i1 %first"


@dataclass(slots=True, eq=False)
class Buffer:
    """The place of an array: in the workspace, in the parameters, in their slopes, or at an address."""

    base: str
    offset: int
    size: int
    uniform: bool
    used: bool = False  # whether something reads it
    touched: bool = False  # of adjoints: whether something has been added

    def at(self, place: int) -> str:
        """The address of a member of a uniform array, in numbers from the base."""
        return f"getelementptr double, ptr %{self.base}, i64 {self.offset + place}"


@dataclass(slots=True, eq=False)
class Body:
    """The body of a loop: a program of the members of some arrays."""

    size: int
    uniform: bool
    program: FlatProgram = field(default_factory=FlatProgram)
    leaves: list[tuple[Buffer, Read]] = field(default_factory=list)
    known: dict[Any, int] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)  # nodes, by the number of the array
    stores: list[tuple[int, Buffer]] = field(default_factory=list)
    adds: list[tuple[int, Buffer, Read, bool]] = field(default_factory=list)  # the last: it is the first contribution
    watch: list[int] = field(default_factory=list)

    def leaf(self, buffer: Buffer, read: Read) -> int:
        """The node for the members that are read of an array."""
        where = read.index
        key = id(buffer), (where.start, where.stop, where.step) if isinstance(where, slice) else where.tobytes()
        if key not in self.known:
            self.known[key] = self.program.leaf()
            self.program.inputs.append(self.known[key])
            self.leaves.append((buffer, read))
            buffer.used = True
        return self.known[key]


def whole_of(size: int) -> Read:
    return Read(-1, slice(0, size, 1), size, True)


class Loops:
    """Writes the loops of an array program as LLVM IR, and lays out their memory.

    owner: the program with its steps; gradient: with the backward sweep; single: of one row, with members in lanes.
    """

    exact = fuses = False

    def __init__(self, owner: Any, machine: Host, gradient: bool, single: bool) -> None:
        self.owner, self.host, self.gradient, self.single = owner, machine, gradient, single
        self.lanes, self.uses = machine.lanes, list[int]()  # uses of nodes are for fusing them, which LLVM does here
        self.vector = f"<{self.lanes} x double>"
        self.cols = 1 if single else owner.vectors * self.lanes  # rows of a block, which is the distance of two members
        self.ld = 1 if single else (owner.vectors | 1) * self.lanes
        self.uniform = [True] * len(owner.sizes) if single else owner.uniform
        self.space = 0
        self.program = FlatProgram()
        self.declarations: dict[str, str] = {}
        self.functions: list[str] = []
        self.tables: list[Any] = []  # kept alive
        self.zeroed: list[Buffer] = []  # adjoints that start from 0
        self.initial: list[tuple[int, Any]] = []  # the constants in the workspace
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

    # --- memory -----------------------------------------------------------------------------------------------------

    def allocate(self, size: int, uniform: bool) -> Buffer:
        """Reserve a buffer in the workspace, followed by room for a vector."""
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
        """Write the function of a loop; returns its call, or "" if there is nothing to do."""
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
        """Code that computes the place of a member, and the place's name."""
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
        """Code that adds a number at a pointer; a slope of a parameter is tested for being finite."""
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
        """A loop over members, with the rows of a block in lanes."""
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
        """A loop over vectors of members, for arrays that are the same for all rows."""
        v = f"<{width} x double>"
        before, after, sums = f"%bad = {self.common_bad.at(0)}\n", "", []

        def place(writer: LLVMWriter, read: Read, buffer: Buffer) -> str:
            """The address of a vector of members that are side by side."""
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
            pointer = place(writer, whole_of(size), buffer)
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
        """A buffer with the members that are read, side by side, and the call that copies them."""
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
        calls = []  # a vector of partial sums, then the terms that are left over
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
        """How to add to the members read by a loop of that size: by storing, if it is the first and reads all of them.

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
        """The call for C = A B; watch: the address of the vectors that note numbers that are not finite."""
        bad = f"ptr {watch}, i64 1" if watch else "ptr %common, i64 0"
        return (
            f"call void {self.pointers[0]}(ptr {left}, i64 {sm}, i64 {sk}, ptr {right}, i64 {sb}, ptr {c}, i64 {sc}, "
            f"i64 {m}, i64 {n}, i64 {k}, i1 {more}, {bad})\n"
        )

    def call_transposed(self, a: str, sa: int, size: int, m: int, n: object) -> str:
        """Transpose m rows of n columns into %room, whose rows are of that size."""
        return f"call void {self.pointers[2]}(ptr {a}, i64 {sa}, ptr %room, i64 {size}, i64 {m}, i64 {n})\n"

"""The two sweeps of an array program as calls of loops and matrix products, in the order of their computation.

Statements of one size that follow one another form a loop. The backward sweep is written from the rules of the ops,
loop by loop from the last to the first. What is the same for all rows is computed once per call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from micrograd_bp.compiler.arrays import INPUTS, PARAMETERS
from micrograd_bp.compiler.evaluation import MapStep, MatrixPart, Read, UnsuitableError, read_of
from micrograd_bp.compiler.machine import loop
from micrograd_bp.compiler.program import live
from micrograd_bp.compiler.vector_loops import Body, Buffer, Loops, whole_of
from micrograd_bp.ops import abs as absolute
from micrograd_bp.ops import add, mul, sub, where

FEW = 8  # terms of a sum that are written out


class MatrixProduct:
    """A matrix product of an array program: its factors, its result, and their places in memory."""

    def __init__(self, emission: Loops, part: MatrixPart, uniform: bool) -> None:
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
        self.straight = sliced and step > 0 and (step == 1 or not uniform)  # adjoints are written in place
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
        swapped = across != 1  # the transposed matrix is written then: its columns are side by side
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
            body.adds.append((body.leaf(target, whole_of(target.size)), adjoint, self.part.matrix.read, False))
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
            node = body.leaf(target, whole_of(size))
            body.adds.append((node, *e.adding(adjoint, read, size)))
            calls += "\n" + e.body(body)
        return calls


@dataclass(slots=True)
class ArrayOperand:
    """An operand of a statement: members of an array, and the place of their adjoints; number: the array's, or -1."""

    number: int
    values: Buffer
    adjoint: Buffer | None
    read: Read


@dataclass(slots=True)
class Statement:
    """How members of an array are computed from those of others, one by one: by an op, or as a sum of products."""

    number: int
    step: Any
    operands: list[Any]  # an operand, a pair to be multiplied, or a number


class ArraySweeps:
    """The two sweeps of an array program, as calls in order."""

    def __init__(self, emission: Loops) -> None:
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

    def operand(self, number: int, read: Read) -> ArrayOperand:
        return ArrayOperand(number, self.e.values[number], self.e.adjoints[number], read)

    def temporary(self, size: int, uniform: bool, needed: bool) -> ArrayOperand:
        """A temporary array for a part of a sum."""
        e = self.e
        adjoint = e.allocate(size, uniform) if needed and e.gradient else None
        if adjoint is not None and uniform:
            e.zero(adjoint)
        return ArrayOperand(-1, e.allocate(size, uniform), adjoint, whole_of(size))

    def sum(self, step: Any) -> None:
        e = self.e
        terms: list[Any] = []
        for part in step.parts:
            uniform = all(e.uniform[source] for source, _ in part.places)
            if isinstance(part, MatrixPart):
                needed = e.gradient and (part.left_needed or part.right_needed)
                matrix = MatrixProduct(e, part, uniform)
                if len(step.parts) == 1 and part.order is None and uniform == e.uniform[step.number]:
                    self.items.append((matrix, e.values[step.number], e.adjoints[step.number] if needed else None))
                    self.flush_before(matrix)
                    return
                made = self.temporary(matrix.m * matrix.vectors, uniform, needed)
                self.items.append((matrix, made.values, made.adjoint))
                self.flush_before(matrix)
                if part.order is not None:
                    made = ArrayOperand(-1, made.values, made.adjoint, read_of(-1, part.order, made.values.size))
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
        """End the current loop if the new item reads an array that it computes."""
        numbers = {statement.number for statement in self.group}
        if isinstance(item, MatrixProduct):
            read = {item.part.matrix.source, item.part.read.source}
        else:
            read = {x.number for x in item}
        if numbers & read:
            last = self.items.pop()
            self.flush()
            self.items.append(last)

    def append(self, statement: Statement) -> None:
        """Add a statement to the current loop, or begin another loop."""
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

    def flat(self, statement: Statement) -> list[ArrayOperand]:
        found: list[ArrayOperand] = []
        for x in statement.operands:
            found += x if isinstance(x, list) else [x] if isinstance(x, ArrayOperand) else []
        return found

    def flush(self) -> None:
        if self.group:
            self.items.append(self.group)
            self.group = []

    # --- forward ----------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Make the loops' bodies, then the backward sweep, which decides what is kept; then write the text."""
        e = self.e
        bodies: list[Body | None] = []
        for k in (INPUTS, PARAMETERS):
            if e.owner.watched[k]:
                body = Body(e.owner.sizes[k], e.uniform[k])
                body.watch.append(body.leaf(e.values[k], whole_of(body.size)))
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
            elif isinstance(item[0], MatrixProduct):
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

    def node(self, body: Body, operand: ArrayOperand) -> int:
        known = body.values.get(operand.number)
        return known if known is not None else body.leaf(operand.values, operand.read)

    def forward_body(self, group: list[Statement]) -> Body:
        e = self.e
        body = Body(e.owner.sizes[group[0].number], e.uniform[group[0].number])
        program = body.program
        for statement in group:
            if isinstance(statement.step, MapStep):
                operands = [
                    self.node(body, x) if isinstance(x, ArrayOperand) else program.constant(x)
                    for x in statement.operands
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
        """Code for the guards, and for the sum with its seeds; plain results are copied by the driver."""
        e, owner = self.e, self.e.owner
        for k, _, _ in owner.outputs:
            e.values[k].used = True
        if e.gradient:
            k, members, _ = owner.outputs[0]
            place = read_of(k, members, owner.sizes[k])
            e.total = e.allocate(1, True)
            e.zero(e.total)
            one = whole_of(1)
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
            other = program.node(sub, (truth, body.leaf(table, whole_of(len(wanted)))))
            other = program.node(absolute, (other,))
            body.adds.append((other, e.common_guard if body.uniform else e.guard, whole_of(1), False))
            self.put(body.uniform, e.body(body))

    # --- backward ---------------------------------------------------------------------------------------------------

    def backward(self, item: Any) -> None:
        e = self.e
        if isinstance(item, Body):
            return
        if isinstance(item[0], MatrixProduct):
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

    def contribute(self, body: Body, added: dict[Any, Any], operand: ArrayOperand, node: int) -> None:
        """Add a contribution to the adjoint of the members that an operand reads."""
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

        def give(operand: ArrayOperand, node: int) -> None:
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
                outer = body.leaf(adjoint, whole_of(body.size))
                g = outer if g is None else program.node(add, (g, outer))
            if g is None:
                e.exclusive = False
                continue
            if not isinstance(statement.step, MapStep):
                for x in statement.operands:
                    if isinstance(x, ArrayOperand):
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
        own = ArrayOperand(statement.number, self.e.values[statement.number], None, whole_of(body.size))
        for i, x in zip(source.inputs, [own, *statement.operands]):
            if needed[i]:
                place[i] = body.leaf(x.values, x.read) if isinstance(x, ArrayOperand) else program.constant(x)
        for i, op in enumerate(source.ops):
            if i in source.constants:
                place[i] = program.constant(source.constants[i])
            elif op is not None and needed[i]:
                place[i] = program.node(op, tuple([place[k] for k in source.operands[i]]))
        for k, i, constant in zip(step.wanted, source.outputs, slopes.constants):
            operand = statement.operands[k]
            if constant == 0.0:
                self.e.exclusive = False
            elif isinstance(operand, ArrayOperand) and operand.adjoint is not None:
                give(operand, g if constant == 1.0 else program.node(mul, (g, place[i])))

"""Array programs run by NumPy: values row by row, or sums over a batch with their gradient.

An array is a matrix [member, row of the batch]; one that is the same for all rows has one column, and is computed once
a call. A map is a short program of NumPy's functions, lowered from the op's formula in the table; its partials are
lowered from the op's rule. Products of matrices go to BLAS. The backward sweep goes through the arrays from last to
first, without a graph of derivatives. Rows are computed in blocks, so that the memory does not grow with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micrograd_bp._engine.instructions import instruction
from micrograd_bp.compiler.arrays import (
    CONSTANTS,
    INPUTS,
    LEAVES,
    PARAMETERS,
    ArrayProgram,
    Map,
    Products,
    Sum,
    Terms,
    sources,
)
from micrograd_bp.compiler.lowering import TracedRule, Tracer, lower, sample_points
from micrograd_bp.compiler.program import FlatProgram, InstructionFor, flatten
from micrograd_bp.ops import TABLE, Op
from micrograd_bp.value import Value

if TYPE_CHECKING:
    import numpy as np

Members = Any  # an array of NumPy: [member, row]

# Numbers that a block of rows keeps: 2 MB stay in the cache; and for products of matrices at least ROWS rows.
KEPT, MOST, ROWS = 1 << 18, 1 << 24, 64


class UnsuitableError(Exception):
    """The program has something that NumPy cannot do as the eager engine does it."""


def numpy_instruction(op: Op, count: int, exact: bool) -> str:
    """The NumPy instruction for an op, in the form that `lower` asks for; "" if there is none."""
    name = op.native
    if (exact and not op.exact) or (op.arity is None and count != len(op.domain)):
        return ""
    return name if instruction(name).numpy else ""


class RuleCode:
    """A rule as a short program of NumPy's functions, or of other instructions from which code is made.

    passes: for each operand, whether a number in it that is not finite makes a result not finite. makes: whether finite
    operands may give a result that is not finite.
    """

    def __init__(self, source: FlatProgram, exact: bool, choose: InstructionFor = numpy_instruction) -> None:
        program = lower(source, choose, exact)
        self.source = source
        self.inputs = program.inputs
        self.values: list[Any] = [program.constants.get(i) for i in range(len(program))]
        self.constants = [program.constants.get(i) for i in program.outputs]
        self.results = program.outputs
        natives = [
            "" if op is None else choose(op, len(operands), exact)
            for op, operands in zip(program.ops, program.operands)
        ]
        if any(op is not None and not name for op, name in zip(program.ops, natives)):
            raise UnsuitableError
        self.lines = _in_numpy(program, natives, exact) if choose is numpy_instruction else []
        self.checks, seen, makes = unseen(program, natives)
        self.makes = any(i in makes for i in program.outputs)
        self.passes = [seen[i] for i in self.inputs]

    def __call__(self, operands: Sequence[Members], bad: list[Members]) -> list[Any]:
        """The results; intermediate numbers that must be finite as well are added up in `bad`."""
        values = self.values.copy()
        for i, x in zip(self.inputs, operands):
            values[i] = x
        for function, places, i in self.lines:
            values[i] = function(*[values[k] for k in places])
        for i in self.checks:
            bad.append(values[i].sum(axis=0))
        return [values[i] for i in self.results]


def unseen(program: FlatProgram, natives: list[str]) -> tuple[list[int], list[bool], set[int]]:
    """The nodes to test, since a number in them that is not finite might make no output inf or nan.

    Returns these nodes; for each node, whether inf or nan in it makes an output or a tested node inf or nan; and the
    nodes that may be inf or nan although their operands are finite.
    """
    seen = [False] * len(program)
    for i in (*program.outputs, *program.checks):
        seen[i] = True
    checks, made = set(program.checks), set()
    wild = not all(map(math.isfinite, program.constants.values()))
    for i in range(len(program) - 1, -1, -1):
        if program.ops[i] is None:
            continue
        finiteness = instruction(natives[i])
        if finiteness.makes or (wild and natives[i] not in ("select", "fcmp olt", "fcmp ole")):
            made.add(i)
            if not seen[i]:
                seen[i] = True
                checks.add(i)
        if seen[i]:
            for k in finiteness.passes[: len(program.operands[i])]:
                seen[program.operands[i][k]] = True
    return [i for i in sorted(checks) if i not in program.constants], seen, made


def _in_numpy(program: FlatProgram, natives: list[str], exact: bool) -> list[tuple[Any, tuple[int, ...], int]]:
    """NumPy's functions for the nodes of a program, with the nodes of their arguments and results."""
    import numpy as np

    numbers = {k for i, name in enumerate(natives) if name != "select" for k in program.operands[i]}
    numbers.update(k for i, name in enumerate(natives) if name == "select" for k in program.operands[i][1:])
    numbers.update(program.outputs)
    lines: list[tuple[Any, tuple[int, ...], int]] = []
    for i, name in enumerate(natives):
        if program.ops[i] is None:
            continue
        if exact and not instruction(name).bits:
            raise UnsuitableError
        function: Any = getattr(np, instruction(name).numpy)
        if name.startswith("fcmp") and i in numbers:
            function = _as_number(function)
        lines.append((function, program.operands[i], i))
    return lines


def _as_number(compare: Any) -> Callable[[Any, Any], Members]:
    return lambda x, y: compare(x, y).astype(float)


def value_program(op: Op, known: Sequence[float | None]) -> FlatProgram:
    """The value of an op as a program of its operands; known: the numbers of constant operands, else None."""
    program = FlatProgram()
    program.inputs = [program.leaf() for _ in known]
    operands = [i if x is None else program.constant(x) for i, x in zip(program.inputs, known)]
    program.outputs = [program.node(op, tuple(operands))]
    return program


def partials_program(op: Op, known: Sequence[float | None], wanted: Sequence[int]) -> FlatProgram:
    """The partials of an op by some of its operands as a program of its result and its operands."""
    slopes: list[Any] = []

    def rule(*args: Any) -> float:
        slopes.extend(op.partials(*args))
        return 0.0

    trace = TracedRule(rule, 1 + len(known), [None, *known])
    if trace.refused or len(slopes) != len(known):
        return _recorded(op, known, wanted)
    program = trace.program
    for k in wanted:
        x = slopes[k]
        program.outputs.append(x.index if type(x) is Tracer else program.constant(float(x)))
    return program


def _recorded(op: Op, known: Sequence[float | None], wanted: Sequence[int]) -> FlatProgram:
    """The partials as a program, from a rule that must run on Values, since it asks whether an operand is constant."""
    if TABLE.get(op.name) is not op:  # a user's rule may branch on the number that it gets
        raise UnsuitableError
    for point in sample_points(op, known):
        try:
            out = Value(op.forward(*point))
            operands = [Value(x) if y is None else x for x, y in zip(point, known)]
            slopes = op.partials(out, *operands)
        except (ArithmeticError, ValueError):
            continue
        inputs = [out, *[x if isinstance(x, Value) else Value(x) for x in operands]]
        return flatten([slopes[k] for k in wanted], inputs)[0]
    raise UnsuitableError


@dataclass(slots=True)
class Read:
    """Members of an array in a given order: a slice if they are evenly spaced, else a table of places."""

    source: int
    index: Any
    size: int
    whole: bool = False
    once: bool = True  # no member is read twice
    order: Any = None  # if it is: what sorts the places, where each begins in that, and the places
    starts: Any = None
    distinct: Any = None

    def of(self, values: Sequence[Members]) -> Members:
        """The members that are read."""
        return values[self.source] if self.whole else values[self.source][self.index]


def read_of(source: int, places: np.ndarray[Any, Any], size: int) -> Read:
    """How to read these members of an array of that size."""
    import numpy as np

    count = len(places)
    first = int(places[0])
    if count == 1:
        return Read(source, slice(first, first + 1), 1, size == 1)
    step = int(places[1]) - first
    if step > 0 and (np.diff(places) == step).all():
        return Read(source, slice(first, int(places[-1]) + 1, step), count, step == 1 and count == size)
    if (places == first).all():
        return Read(source, slice(first, first + 1), 1, size == 1)  # broadcast
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    if len(starts) == count:
        return Read(source, places.astype(np.intp), count)
    return Read(source, places.astype(np.intp), count, False, False, order, starts, ordered[starts].astype(np.intp))


class Adjoints:
    """The adjoints of one backward sweep; those of the parameters are added to the array `slopes`, of zeros."""

    def __init__(self, owner: Arrays, rows: int, slopes: Members) -> None:
        self.owner, self.rows = owner, rows
        self.adjoints: list[Any] = [None] * len(owner.sizes)
        self.fresh = [False] * len(owner.sizes)  # nothing else refers to the array, so that it may be added to in place
        self.adjoints[PARAMETERS] = slopes
        self.fresh[PARAMETERS] = True

    def whole(self, source: int) -> Members:
        """The adjoint of an array, as an array that may be added to in place."""
        import numpy as np

        found = self.adjoints[source]
        if found is None:
            columns = 1 if self.owner.uniform[source] else self.rows
            found = self.adjoints[source] = np.zeros((self.owner.sizes[source], columns))
        elif not self.fresh[source]:
            found = self.adjoints[source] = found.copy()
        self.fresh[source] = True
        return found

    def add(self, read: Read, delta: Members, fresh: bool) -> None:
        """Add to the adjoints of the members that were read; fresh: nothing else refers to delta."""
        import numpy as np

        source = read.source
        if self.owner.uniform[source] and delta.shape[1] != 1:
            delta, fresh = delta.sum(axis=1, keepdims=True), True
        if read.size == 1 and len(delta) != 1:
            delta, fresh = delta.sum(axis=0, keepdims=True), True
        if read.whole and self.adjoints[source] is None:
            self.adjoints[source], self.fresh[source] = delta, fresh
            return
        target = self.whole(source)
        if read.whole:
            target += delta
        elif read.once:
            target[read.index] += delta
        else:
            target[read.distinct] += np.add.reduceat(delta[read.order], read.starts, axis=0)


class MapStep:
    """An op of the table on arrays."""

    def __init__(self, owner: Arrays, number: int, step: Map) -> None:
        program = owner.program
        self.number, self.size, self.op = number, step.size, step.op
        self.reads = [read_of(k, places, program.sizes[k]) for k, places in step.reads]
        self.known = [
            program.constants[read.index.start] if read.source == CONSTANTS and read.size == 1 else None
            for read in self.reads
        ]
        self.places = [places for _, places in step.reads]
        self.precise, self.choose = step.precise, owner.choose
        self.value = RuleCode(value_program(step.op, self.known), step.precise, self.choose)
        self.slopes: RuleCode | None = None
        self.wanted: list[int] = []
        self.watched = self.value.makes

    def kept(self) -> int:
        """How many numbers it keeps per row."""
        return self.size

    def work(self) -> int:
        """The approximate number of operations per row."""
        return 16 * self.size

    def sees(self, seen: list[np.ndarray[Any, Any]], mine: np.ndarray[Any, Any]) -> None:
        """Mark the members of operands that are seen by what is seen of this array."""
        for read, places, passes in zip(self.reads, self.places, self.value.passes):
            if passes:
                seen[read.source][places[mine]] = True

    def parameters(self) -> list[np.ndarray[Any, Any]]:
        """The parameters that are read."""
        return [places for read, places in zip(self.reads, self.places) if read.source == PARAMETERS]

    def prepare(self, needs: list[bool]) -> None:
        """Get ready to go backward, to the operands whose adjoints are needed."""
        self.wanted = [k for k, read in enumerate(self.reads) if needs[read.source]]
        if self.wanted and self.slopes is None:
            self.slopes = RuleCode(partials_program(self.op, self.known, self.wanted), False, self.choose)

    def forward(self, values: list[Members], bad: list[Members], columns: int) -> Members:
        import numpy as np

        out = self.value([read.of(values) for read in self.reads], bad)[0]
        if np.shape(out) != (self.size, columns):
            out = np.array(np.broadcast_to(out, (self.size, columns)))
        return out

    def backward(self, values: list[Members], g: Members, sweep: Adjoints, bad: list[Members]) -> None:
        if not self.wanted:
            return
        assert self.slopes is not None
        slopes = self.slopes([values[self.number], *[read.of(values) for read in self.reads]], bad)
        for k, slope, constant in zip(self.wanted, slopes, self.slopes.constants):
            if constant is None:
                sweep.add(self.reads[k], g * slope, True)
            elif constant == 1.0:
                sweep.add(self.reads[k], g, False)
            elif constant != 0.0:
                sweep.add(self.reads[k], g * constant, True)


class TermsPart:
    """Part of a sum: members of an array."""

    def __init__(self, owner: Arrays, part: Terms) -> None:
        size = owner.program.sizes[part.source]
        self.count, self.length = part.places.shape
        self.places = [(part.source, part.places)]
        self.read = read_of(part.source, part.places.ravel(), size)

    def kept(self) -> int:
        """How many numbers it keeps per row."""
        return 0

    def prepare(self, needs: list[bool]) -> None:
        self.needed = needs[self.read.source]

    def forward(self, values: list[Members]) -> Members:
        x = self.read.of(values)
        if self.length == 1:
            return x
        if len(x) == 1:
            return x * float(self.length)
        if self.count == 1:
            return x.sum(axis=0, keepdims=True)
        return x.reshape(self.count, self.length, -1).sum(axis=1)

    def backward(self, values: list[Members], g: Members, sweep: Adjoints) -> None:
        if not self.needed:
            return
        import numpy as np

        if self.length == 1:
            sweep.add(self.read, g, False)
        elif self.read.size == 1:
            sweep.add(self.read, g.sum(axis=0, keepdims=True) * float(self.length), True)
        elif self.count == 1:
            sweep.add(self.read, np.broadcast_to(g, (self.length, g.shape[1])), False)
        else:
            sweep.add(self.read, np.repeat(g, self.length, axis=0), True)


def _rows_of(matrix: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The distinct rows of a matrix, and which of them each row is."""
    import numpy as np

    if (matrix == matrix[0]).all():
        return matrix[:1], np.zeros(len(matrix), np.intp)
    factors = np.random.default_rng(0).integers(1, 1 << 62, matrix.shape[1]).astype(np.uint64) | np.uint64(1)
    mark = (matrix.astype(np.uint64) * factors).sum(axis=1)
    _, example, group = np.unique(mark, return_index=True, return_inverse=True)
    distinct = matrix[example]
    if not (distinct[group] == matrix).all():  # two different rows with one hash
        distinct, group = np.unique(matrix, axis=0, return_inverse=True)
    return distinct, group.ravel()


def _affine(places: np.ndarray[Any, Any]) -> tuple[int, int, int] | None:
    """The first place of a grid, and its strides over rows and over columns; None: it is not evenly spaced."""
    import numpy as np

    rows, columns = places.shape
    first = int(places[0, 0])
    down = int(places[1, 0]) - first if rows > 1 else columns
    across = int(places[0, 1]) - first if columns > 1 else 1
    if down < 1 or across < 1:
        return None
    grid = first + down * np.arange(rows)[:, None] + across * np.arange(columns)
    return (first, down, across) if np.array_equal(grid, places) else None


class LeftMatrix:
    """The left factor of a matrix product, [row, term]: members of an array that is the same for the whole batch."""

    def __init__(self, source: int, places: np.ndarray[Any, Any], size: int) -> None:
        self.source, self.shape, self.grid = source, places.shape, _affine(places)
        self.places = places.astype("intp")
        self.read = read_of(source, places.ravel(), size)
        if self.grid is not None and not self.read.once:  # rows that overlap
            self.grid = None

    def view(self, flat: Members) -> Members:
        """The matrix as a view of the array, which is contiguous."""
        import numpy as np

        assert self.grid is not None
        first, down, across = self.grid
        return np.ndarray(self.shape, float, flat, 8 * first, (8 * down, 8 * across))

    def of(self, values: Sequence[Members]) -> Members:
        """The matrix."""
        array = values[self.source]
        if self.grid is not None and array.flags.c_contiguous:
            return self.view(array)
        return array[:, 0][self.places]

    def add(self, g: Members, x: Members, sweep: Adjoints) -> None:
        """Add g times x, transposed, to the adjoints."""
        import numpy as np

        if self.grid is None:
            sweep.add(self.read, (g @ x.T).reshape(-1, 1), True)
        elif self.source == PARAMETERS and sweep.owner.once:
            np.matmul(g, x.T, out=self.view(sweep.whole(self.source)))
        else:
            view = self.view(sweep.whole(self.source))
            view += g @ x.T


class MatrixPart:
    """Part of a sum: products that are those of a matrix, the same for all rows of the batch, with vectors."""

    def __init__(self, owner: Arrays, part: Products, left: Any, right: Any, grid: Any) -> None:
        sizes = owner.program.sizes
        rows, vectors = left[0], right[0]
        self.matrix = LeftMatrix(part.left, rows, sizes[part.left])
        self.vectors = len(vectors)
        self.read = read_of(part.right, vectors.T.ravel(), sizes[part.right])
        self.length = vectors.shape[1]
        self.places = [(part.left, part.left_places), (part.right, part.right_places)]
        self.order = self.inverse = None
        if grid is not None:
            self.order, self.inverse = grid

    def kept(self) -> int:
        """How many numbers it keeps per row."""
        return 0 if isinstance(self.read.index, slice) else self.read.size

    def prepare(self, needs: list[bool]) -> None:
        self.left_needed, self.right_needed = needs[self.matrix.source], needs[self.read.source]

    def _right(self, values: list[Members]) -> Members:
        import numpy as np

        x = self.read.of(values)
        if len(x) == 1 and self.length * self.vectors != 1:
            x = np.repeat(x, self.length * self.vectors, axis=0)
        return np.ascontiguousarray(x).reshape(self.length, -1)

    def forward(self, values: list[Members]) -> Members:
        out = self.matrix.of(values) @ self._right(values)
        if self.vectors > 1:
            out = out.reshape(len(out) * self.vectors, -1)
        return out if self.order is None else out[self.order]

    def backward(self, values: list[Members], g: Members, sweep: Adjoints) -> None:
        if sweep.owner.uniform[self.read.source]:
            g = g.sum(axis=1, keepdims=True)
        if self.inverse is not None:
            g = g[self.inverse]
        if self.vectors > 1:
            g = g.reshape(len(g) // self.vectors, -1)
        if self.left_needed:
            self.matrix.add(g, self._right(values), sweep)
        if self.right_needed:
            slopes = self.matrix.of(values).T @ g
            sweep.add(self.read, slopes.reshape(self.length * self.vectors, -1), True)


class ProductsPart:
    """Part of a sum: products, computed term by term."""

    def __init__(self, owner: Arrays, part: Products) -> None:
        sizes = owner.program.sizes
        self.count, self.length = part.left_places.shape
        self.left = read_of(part.left, part.left_places.ravel(), sizes[part.left])
        self.right = read_of(part.right, part.right_places.ravel(), sizes[part.right])
        self.places = [(part.left, part.left_places), (part.right, part.right_places)]

    def kept(self) -> int:
        """How many numbers it keeps per row."""
        return 2 * int(self.count) * int(self.length)

    def prepare(self, needs: list[bool]) -> None:
        self.left_needed, self.right_needed = needs[self.left.source], needs[self.right.source]

    def _operands(self, values: list[Members]) -> tuple[Members, Members]:
        shape = self.count, self.length, -1
        a, b = self.left.of(values), self.right.of(values)
        return (
            a[None] if len(a) == 1 else a.reshape(shape),
            b[None] if len(b) == 1 else b.reshape(shape),
        )

    def forward(self, values: list[Members]) -> Members:
        a, b = self._operands(values)
        product = a * b
        return product.sum(axis=1) if product.shape[1] == self.length else product.sum(axis=1) * float(self.length)

    def backward(self, values: list[Members], g: Members, sweep: Adjoints) -> None:
        a, b = self._operands(values)
        g = g[:, None]
        for needed, read, other in ((self.left_needed, self.left, b), (self.right_needed, self.right, a)):
            if needed:
                slopes = g * other
                if slopes.shape[1] != self.length:
                    slopes = slopes.repeat(self.length, axis=1)
                sweep.add(read, slopes.reshape(self.count * self.length, -1), True)


def _grid(rows: int, of_row: Any, vectors: int, of_vector: Any) -> Any:
    """The place of each member in a grid of rows and vectors, and the inverse; None: they do not fill the grid."""
    import numpy as np

    place = of_row * vectors + of_vector
    if len(place) != rows * vectors:
        return None
    inverse = np.full(len(place), -1, np.intp)
    inverse[place] = np.arange(len(place))
    return None if (inverse < 0).any() else (place, inverse)


def _products(owner: Arrays, part: Products) -> Any:
    """How to compute sums of products: as a matrix product if the operands form a grid, else term by term."""
    if owner.program.uniform[part.left] and part.left_places.shape[1] > 1:
        right = _rows_of(part.right_places)
        if len(right[0]) == 1:
            return MatrixPart(owner, part, (part.left_places, None), right, None)
        left = _rows_of(part.left_places)
        grid = _grid(len(left[0]), left[1], len(right[0]), right[1])
        if grid is not None:
            return MatrixPart(owner, part, left, right, grid)
    return ProductsPart(owner, part)


class SumStep:
    """Sums of terms and of products."""

    def __init__(self, owner: Arrays, number: int, step: Sum) -> None:
        self.number, self.size = number, step.size
        self.parts: list[Any] = [
            TermsPart(owner, part) if isinstance(part, Terms) else _products(owner, part) for part in step.parts
        ]
        self.watched = True

    def kept(self) -> int:
        """How many numbers it keeps per row."""
        return self.size + int(sum(part.kept() for part in self.parts))

    def work(self) -> int:
        """The approximate number of operations per row."""
        return int(sum(places.size for part in self.parts for _, places in part.places))

    def sees(self, seen: list[np.ndarray[Any, Any]], mine: np.ndarray[Any, Any]) -> None:
        for part in self.parts:
            for source, places in part.places:
                seen[source][places[mine].ravel()] = True

    def parameters(self) -> list[np.ndarray[Any, Any]]:
        """The parameters that are read."""
        return [x.ravel() for part in self.parts for source, x in part.places if source == PARAMETERS]

    def prepare(self, needs: list[bool]) -> None:
        for part in self.parts:
            part.prepare(needs)

    def forward(self, values: list[Members], bad: list[Members], columns: int) -> Members:
        import numpy as np

        shape = self.size, columns
        out = self.parts[0].forward(values)
        fresh = not isinstance(self.parts[0], TermsPart)
        for part in self.parts[1:]:
            x = part.forward(values)
            if fresh and out.shape == shape:
                out += x
            else:
                out, fresh = out + x, True
        return out if out.shape == shape and fresh else np.array(np.broadcast_to(out, shape))

    def backward(self, values: list[Members], g: Members, sweep: Adjoints, bad: list[Members]) -> None:
        for part in self.parts:
            part.backward(values, g, sweep)


@dataclass(slots=True)
class Summands:
    """The rows of a batch that a sum is taken over, each times its weight, or all times the scale."""

    block: Callable[[int, int], Members]  # the inputs of the rows from start to stop
    n: int
    point: Any  # the numbers of the parameters
    parameters: int  # the gradient is taken by that many of them, the first ones
    again: Callable[[int, int], Any]  # the sum over a block in which a number is not finite, computed eagerly
    weights: Any = None
    scale: float = 1.0


class Arrays:
    """An array program, ready to run."""

    choose: InstructionFor = staticmethod(numpy_instruction)  # instructions for ops

    def __init__(
        self, program: ArrayProgram, outputs: list[int], guards: list[tuple[int, bool]], checks: list[int]
    ) -> None:
        import numpy as np

        self.program = program
        self.sizes, self.uniform = program.sizes, program.uniform
        self.constants = np.array(program.constants, float)[:, None]
        self.steps: list[Any] = []
        for k, step in enumerate(program.steps, LEAVES):
            self.steps.append(MapStep(self, k, step) if isinstance(step, Map) else SumStep(self, k, step))
        self.outputs = program.at(outputs)
        self.count = len(outputs)
        self.guards = [
            (k, members.astype(np.intp), np.array([guards[j][1] for j in which])[:, None])
            for k, members, which in program.at([i for i, _ in guards])
        ]
        seen = [np.zeros(size, bool) for size in self.sizes]
        for k, members, _ in self.outputs:
            seen[k][members] = True
        self.watched = [False] * len(self.sizes)
        for k, members, _ in program.at(checks):
            seen[k][members] = True
            self.watched[k] = True
        for k, _, _ in self.outputs:
            self.watched[k] = True
        for step in reversed(self.steps):
            mine = seen[step.number]
            if step.watched and not mine.all():
                self.watched[step.number] = True
                mine[:] = True
            step.sees(seen, mine)
        self.kept = 1 + self.sizes[INPUTS] + sum(step.kept() for step in self.steps if not self.uniform[step.number])
        self.block = max(KEPT // self.kept, min(ROWS, MOST // self.kept), 1)
        read = np.concatenate([np.zeros(0, np.intp)] + [x for step in self.steps for x in step.parameters()])
        self.once = len(np.unique(read)) == len(read)  # no parameter is read twice: its slope is one product
        self.needs: list[bool] | None = None

    def _start(self, point: Any) -> tuple[list[Any], list[Members]]:
        """The arrays that are the same for all rows, computed; and the numbers among them that must be finite."""
        import numpy as np

        values: list[Any] = [None] * len(self.sizes)
        values[PARAMETERS] = np.asarray(point, float)[:, None]
        values[CONSTANTS] = self.constants
        bad: list[Members] = []
        for step in self.steps:
            if self.uniform[step.number]:
                self._step(step, values, bad, 1)
        return values, bad

    def _step(self, step: Any, values: list[Any], bad: list[Members], columns: int) -> None:
        out = values[step.number] = step.forward(values, bad, columns)
        if self.watched[step.number]:
            bad.append(out.sum(axis=0))

    def _forward(self, values: list[Any], X: Members, bad: list[Members]) -> None:
        values[INPUTS] = X
        if self.watched[INPUTS]:
            bad.append(X.sum(axis=0))
        for step in self.steps:
            if not self.uniform[step.number]:
                self._step(step, values, bad, X.shape[1])

    def _blocks(
        self, block: Callable[[int, int], Members], n: int, point: Any
    ) -> Iterator[tuple[int, int, list[Any], list[Members]]]:
        """For each block of n rows: its first row and the next block's, all values, and what must be finite."""
        values, uniform = self._start(point)
        for start in range(0, n, self.block):
            stop = min(n, start + self.block)
            bad = uniform.copy()
            self._forward(values, block(start, stop), bad)
            yield start, stop, values, bad

    def rows(
        self, block: Callable[[int, int], Members], n: int, point: Any, out: np.ndarray[Any, Any]
    ) -> tuple[Any, Any]:
        """Compute n rows into columns of `out`; returns the rows that failed and their statuses, as `Native.rows`."""
        import numpy as np

        odd, statuses = [], []
        with np.errstate(all="ignore"):
            for start, stop, values, bad in self._blocks(block, n, point):
                for k, members, which in self.outputs:
                    out[which, start:stop] = values[k][members]
                status = np.zeros(stop - start, np.int8)
                for x in bad:
                    np.copyto(status, 2, where=~np.isfinite(x))
                for k, members, expected in self.guards:
                    other = ((values[k][members] != 0.0) != expected).any(axis=0)
                    status[np.broadcast_to(other, status.shape)] = 1
                found = np.nonzero(status)[0]
                odd.append(found + start)
                statuses.append(status[found])
        return np.concatenate(odd), np.concatenate(statuses)

    def point(self, row: Sequence[float], point: Any) -> tuple[Members, int]:
        """The outputs for one row, in an array of their own, and its status."""
        import numpy as np

        X = np.array(row, float).reshape(-1, 1)
        out = np.empty((sum(len(which) for _, _, which in self.outputs), 1))
        odd, status = self.rows(lambda start, stop: X, 1, point, out)
        return out[:, 0], int(status[0]) if len(odd) else 0

    def prepare(self, parameters: int) -> None:
        """Prepare the backward sweep for the first parameters. UnsuitableError: NumPy cannot compute a rule."""
        needs = [False] * len(self.sizes)
        needs[PARAMETERS] = parameters > 0
        for k, step in enumerate(self.program.steps, LEAVES):
            needs[k] = any(needs[j] for j in sources(step))
        for step in self.steps:
            step.prepare(needs)
        self.needs = needs

    def small_totals(self, X: Any, point: Any, parameters: int, scale: float) -> Any:
        """`totals` of a small matrix, faster; None: there is no faster way."""
        return None

    def totals(self, rows: Summands) -> Any:
        """The sum of the one output over the rows, and its gradient by the first parameters."""
        import numpy as np

        assert self.needs is not None
        needs, weights, scale = self.needs, rows.weights, rows.scale
        output, members, _ = self.outputs[0]
        place = int(members[0])
        total = None
        with np.errstate(all="ignore"):
            for start, stop, values, bad in self._blocks(rows.block, rows.n, rows.point):
                part = np.zeros(1 + self.sizes[PARAMETERS])
                sweep = Adjoints(self, stop - start, part[1:, None])
                weight = np.full((1, stop - start), scale) if weights is None else weights[None, start:stop]
                part[0] = (values[output][place] * weight[0]).sum()
                if self.uniform[output]:
                    weight = weight.sum(axis=1, keepdims=True)
                if needs[output]:
                    sweep.whole(output)[place] = weight[0]
                for step in reversed(self.steps):
                    g = sweep.adjoints[step.number]
                    if g is not None:
                        sweep.adjoints[step.number] = None
                        step.backward(values, g, sweep, bad)
                part = part[: 1 + rows.parameters]
                if not np.isfinite(part.sum()) or not all(np.isfinite(x.sum()) for x in bad):
                    part = rows.again(start, stop) * (scale if weights is None else 1.0)
                total = part if total is None else total + part
        return total

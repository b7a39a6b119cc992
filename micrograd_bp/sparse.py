"""Sparse Jacobians and Hessians, computed along the graph: `jacobian` and `hessian` with sparse=True.

The graph of scalars gives the sparsity pattern, so no colouring is needed: only entries with a path are computed.
A Jacobian is accumulated row by row along the graph, in the cheaper direction. A Hessian comes from one reverse sweep
that pushes edges (Gower and Mello, A new framework for the computation of Hessians, Optimization Methods and Software
27, 2012, algorithm 5): W holds the second derivatives by the nodes that are live; a node that is swept passes its row
of W on to its operands by the chain rule, and adds its own curvature times its adjoint.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeAlias

from micrograd_bp import ops
from micrograd_bp._engine import trees
from micrograd_bp._engine.sweeps import Number, Step, product
from micrograd_bp.ops import Op
from micrograd_bp.value import Value, gradients, topological_order

Tape: TypeAlias = list[Step]  # operands first
SparseRow: TypeAlias = dict[int, Number]  # entries by their column
Curvature: TypeAlias = tuple[int, int, Number]  # the second derivative of a node by two of its operands


class Entries(NamedTuple):
    """A sparse matrix in the CSR format of `scipy.sparse.csr_array`; it may hold Values, which a csr_array cannot."""

    data: Any
    indices: Any  # the columns of the numbers
    indptr: Any  # where each row begins in `data`
    shape: tuple[int, int]

    def array(self) -> Any:
        """The `scipy.sparse.csr_array` of entries that are floats; entries that are Values are returned as they are."""
        if self.data.dtype.hasobject:
            return self
        parts = self.data, self.indices.copy(), self.indptr.copy()  # the next call's pattern, where it is compiled
        return _needs("scipy.sparse").csr_array(parts, shape=self.shape)


def from_rows(rows: Sequence[SparseRow], width: int) -> Entries:
    """The matrix with these rows and this number of columns."""
    numpy = _needs("numpy")
    columns = [sorted(row) for row in rows]
    numbers = [row[j] for row, found in zip(rows, columns) for j in found]
    if any(isinstance(x, Value) for x in numbers):
        numbers = [x if isinstance(x, Value) else Value(x) for x in numbers]
    data = trees.array(numbers, (len(numbers),))
    starts = numpy.zeros(len(rows) + 1, numpy.int32)
    numpy.cumsum([len(found) for found in columns], out=starts[1:])
    indices = numpy.array([j for found in columns for j in found], numpy.int32)
    return Entries(data, indices, starts, (len(rows), width))


def _needs(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("sparse derivatives are arrays of SciPy's: pip install scipy") from error


# --- Jacobians ----------------------------------------------------------------------------------------------------

BUDGET = 8  # entries a node, on average, up to which the forward direction is followed to its end


def jacobian_rows(outputs: Sequence[Value], inputs: Sequence[Value], tape: Tape) -> list[SparseRow]:
    """The derivatives of every output by the inputs that it depends on."""
    known: dict[Any, SparseRow] = {x: {j: 1.0} for j, x in enumerate(inputs)}
    budget = BUDGET * (len(tape) + len(inputs))
    for node, operands, partials in tape:  # each node's derivatives by the inputs
        row: SparseRow = {}
        for operand, partial in zip(operands, partials):
            for j, slope in known[operand].items() if operand in known else ():
                term = product(slope, partial)
                row[j] = row[j] + term if j in row else term
        if row:
            known[node] = row
        budget -= len(row)
        if budget < 0:
            return _reverse_rows(outputs, inputs, tape)
    return [known.get(y, {}) for y in outputs]


def _reverse_rows(outputs: Sequence[Value], inputs: Sequence[Value], tape: Tape) -> list[SparseRow]:
    """The same by a reverse sweep for each output, over only the nodes that it depends on."""
    places = {node: k for k, (node, _, _) in enumerate(tape)}
    columns = {x: j for j, x in enumerate(inputs)}
    rows = []
    for y in outputs:
        adjoints: dict[Any, Number] = {y: 1.0}
        row: SparseRow = {columns[y]: 1.0} if y in columns else {}
        waiting = [-places[y]] if y in places else []
        while waiting:
            node, operands, partials = tape[-heappop(waiting)]
            adjoint = adjoints.pop(node)
            for x, partial in zip(operands, partials):
                term = product(adjoint, partial)
                if x in columns:
                    j = columns[x]
                    row[j] = row[j] + term if j in row else term
                elif x in adjoints:
                    adjoints[x] = adjoints[x] + term
                elif x in places:
                    adjoints[x] = term
                    heappush(waiting, -places[x])
        rows.append(row)
    return rows


# --- Hessians -----------------------------------------------------------------------------------------------------


def hessian_rows(output: Value, inputs: Sequence[Value], tape: Tape, graph: bool) -> list[SparseRow]:
    """The second derivatives of an output by the inputs: one reverse sweep that pushes edges."""
    times = product if graph else _float_product
    live = {*inputs, *[node for node, _, _ in tape]}
    adjoints: dict[Any, Number] = {output: 1.0}
    w: dict[Any, dict[Any, Number]] = {}  # symmetric

    def add(x: Any, y: Any, term: Number) -> None:
        row = w.get(x)
        if row is None:
            w[x] = {y: term}
        else:
            row[y] = row[y] + term if y in row else term

    for node, operands, partials in reversed(tape):
        adjoint = adjoints.pop(node, None)
        if adjoint is None:
            continue
        row = w.pop(node, None)
        if row is not None:
            slopes: dict[Any, Number] = {}  # an operand that stands twice counts once, with both partials
            for x, partial in zip(operands, partials):
                if x in live:
                    slopes[x] = slopes[x] + partial if x in slopes else partial
            own = row.pop(node, None)
            for x, term in row.items():
                del w[x][node]
                for y, slope in slopes.items():
                    pushed = times(slope, term)
                    add(x, y, pushed)
                    add(y, x, pushed)
            if own is not None:
                for x, slope in slopes.items():
                    pushed = times(slope, own)
                    for y, other in slopes.items():
                        add(x, y, times(other, pushed))
        assert node.op is not None
        every = node.operands
        for i, j, curved in _curvature(node.op, every, graph):
            if every[i] in live and every[j] in live:
                add(every[i], every[j], times(adjoint, curved))
        for x, partial in zip(operands, partials):
            if x in live:
                term = times(adjoint, partial)
                adjoints[x] = adjoints[x] + term if x in adjoints else term
    columns = {x: j for j, x in enumerate(inputs)}
    return [{columns[y]: term for y, term in w.get(x, {}).items()} for x in inputs]


def _float_product(x: Any, y: Any) -> Any:
    """The chain rule's product of floats: 0 times anything is 0."""
    return x * y if x and y else 0.0


def _curvature(op: Op, operands: Sequence[Any], graph: bool) -> list[Curvature]:
    """The second derivatives of an operation at its operands, by each pair of those that are no constants."""
    if op.smooth and ops.TABLE.get(op.name) is op:
        with contextlib.suppress(ValueError):  # of polygamma's order, which is not any number
            run = _recorded(op, tuple([None if isinstance(x, Value) else x for x in operands]))
            return [] if run is None else run([x if graph else x._data for x in operands if isinstance(x, Value)])
    # Another rule may choose its formula by comparing, so it is run at these operands, each taken as a variable.
    free = [(x * 1.0 if graph else Value(x._data)) if isinstance(x, Value) else x for x in operands]
    return [(i, j, x if graph else x._data) for i, j, x in _second(op, free)]


def _second(op: Op, args: Sequence[Any]) -> list[tuple[int, int, Value]]:
    """The second derivatives by each pair of Values among the arguments; what is 0 at every point is left out."""
    inputs = {i: x for i, x in enumerate(args) if isinstance(x, Value)}
    partials = op.partials(op(*args), *args)
    found: dict[tuple[int, int], Value] = {}
    for i in inputs:
        if isinstance(partials[i], Value):
            for j, x in zip(inputs, gradients(partials[i], list(inputs.values()))):
                if x.op is not None or x.data != 0.0:
                    found[i, j] = x
                    found.setdefault((j, i), x)  # one of the two partials may be a plain number
    return [(i, j, x) for (i, j), x in found.items()]


@functools.lru_cache(4096)
def _recorded(op: Op, constants: tuple[float | None, ...]) -> Callable[[list[Any]], list[Curvature]] | None:
    """The second derivatives of a smooth op as a function of those operands that are no constants; None: all are 0.

    Its rule is differentiated; as its graph is the same at every point, it is recorded once, at a point of the domain,
    and run on other numbers.
    """
    limits = [op.domain[min(k, len(op.domain) - 1)] for k in range(len(constants))]
    point = [0.5 if low < 0.5 < high else low + 0.5 for low, high in limits]
    args = [Value(y) if x is None else x for x, y in zip(constants, point)]
    inputs = [x for x in args if isinstance(x, Value)]
    found = _second(op, args)
    if not found:
        return None
    # (place among the values,), or the number itself
    places: dict[Value, Any] = {x: (k,) for k, x in enumerate(inputs)}
    steps: list[tuple[Op, list[Any]]] = []
    for node in dict.fromkeys(node for _, _, x in found for node in topological_order(x)):
        operands = [places[x] if isinstance(x, Value) else x for x in node.operands]
        if node in places:
            continue
        if not any(type(x) is tuple for x in operands):
            places[node] = node._data
        elif node.op in (ops.pow, ops.ieee_pow) and operands[1] in (0.0, 1.0):
            places[node] = operands[0] if operands[1] else 1.0
        else:
            assert node.op is not None
            places[node] = (len(inputs) + len(steps),)
            steps.append((node.op, operands))
    results = [(i, j, places[x]) for i, j, x in found]

    def run(given: list[Any]) -> list[Curvature]:
        values = [*given]
        for op, operands in steps:
            values.append(op(*[values[x[0]] if type(x) is tuple else x for x in operands]))
        return [(i, j, values[x[0]] if type(x) is tuple else x) for i, j, x in results]

    return run

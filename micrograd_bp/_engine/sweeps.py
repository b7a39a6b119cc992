"""Walks over a recorded graph: the order of its nodes, and derivatives accumulated along it, in reverse and forwards.

A node has `op`, `operands` (nodes and floats) and `_partials`. There is one sweep for each kind of number and place:
floats into the nodes' grads (`Value.backward`), floats beside the nodes (`adjoints`; forwards `pushed`), and graphs
(`pull`; forwards `push`). Of these the accelerated engine has `backward`, `slopes` and `pushed` in C.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp._engine.by_hand import ByHand, partials_at_reading
from micrograd_bp.ops import TABLE, Op, chain, number

if TYPE_CHECKING:
    from micrograd_bp.value import Value

Number: TypeAlias = Any  # a float; or a Value, where it is to be differentiated
NUMBERS = (float, int)
Step: TypeAlias = tuple[Any, Sequence[Number], Sequence[Number]]  # a node, operands of it, and the partials by these


# --- order --------------------------------------------------------------------------------------------------------


def count_uses(outputs: Sequence[Value], given: Iterable[Value] = ()) -> dict[Any, float]:
    """Every node that the outputs depend on, with the number of times it is an operand.

    given: nodes at which the walk stops. Their count is infinite, so that a walk which takes a node when all its uses
    are done never takes them.
    """
    uses: dict[Any, float] = dict.fromkeys(given, math.inf)
    nodes: list[Any] = [node for node in dict.fromkeys(outputs) if node not in uses]
    uses.update(dict.fromkeys(nodes, 0))
    for node in nodes:  # the list grows meanwhile
        for operand in node.operands:
            if type(operand) is not float:
                if operand in uses:
                    uses[operand] += 1
                else:
                    uses[operand] = 1
                    nodes.append(operand)
    return uses


def ordered(outputs: Sequence[Value], given: Iterable[Value] = ()) -> list[Value]:
    """Every node that the outputs depend on, each after its operands; the walk stops before those given."""
    uses = count_uses(outputs, given)
    order: list[Value] = []
    ready: list[Any] = [node for node in dict.fromkeys(outputs) if not uses[node]]
    while ready:
        node = ready.pop()
        order.append(node)
        for operand in node.operands:
            if type(operand) is not float:
                uses[operand] = left = uses[operand] - 1
                if not left:
                    ready.append(operand)
    order.reverse()
    return order


def topological_order(output: Value) -> list[Value]:
    """Every node that the output depends on, each after its operands, the output last.

    Args:
        output: The node where the walk begins. It uses no recursion, so a chain may be as long as memory allows.

    Returns:
        A list of nodes, leaves among them, each once.

    Source:
        Kahn, Topological sorting of large networks, 1962, from the output back.

    Example:
        >>> from micrograd_bp import Value
        >>> x = Value(2.0)
        >>> [node.data for node in topological_order(x * x + 1.0)]
        [2.0, 4.0, 5.0]
    """
    return ordered([output])


# --- floats -------------------------------------------------------------------------------------------------------


def adjoints(output: Value, order: Sequence[Value]) -> dict[Any, float]:
    """The derivatives of the output by all nodes, as floats: `backward`, but no grad is touched.

    order: the nodes, each after its operands; it may hold nodes on which the output does not depend.

    >>> from micrograd_bp import Value
    >>> x = Value(3.0)
    >>> y = x * x + 1.0
    >>> list(adjoints(y, topological_order(y)).values())
    [6.0, 1.0, 1.0]
    """
    found: dict[Any, float] = dict.fromkeys(order, 0.0)
    found[output] = 1.0
    for node in reversed(order):
        adjoint = found[node]
        if adjoint:
            partials = partials_at_reading(node) if type(node.op) is ByHand else node._partials
            for operand, partial in zip(node.operands, partials):
                if partial and type(operand) is not float:  # 0 times anything is 0
                    found[operand] += adjoint * partial
    return found


def slopes(output: Value, inputs: Sequence[Value]) -> list[float]:
    """The derivatives of the output with respect to the inputs, as floats: `backward`, but no grad is touched.

    >>> from micrograd_bp import Value
    >>> x = Value(3.0)
    >>> slopes(x * x, [x]), x.grad
    ([6.0], 0.0)
    """
    order = ordered([output])
    if any(type(node.op) is ByHand for node in order):
        return _slopes_by_hand(order, inputs)
    found = adjoints(output, order)
    return [found.get(x, 0.0) for x in inputs]


def _slopes_by_hand(order: Sequence[Value], inputs: Sequence[Value]) -> list[float]:
    """`slopes` where a node has a `_backward` of its own, which adds to grads: they are put back afterwards."""
    kept = [(node, node._grad) for node in {*order, *inputs}]
    try:
        for node, _ in kept:
            node._grad = 0.0
        order[-1].backward()
        return [x._grad for x in inputs]
    finally:
        for node, grad in kept:
            node._grad = grad


def pushed(outputs: Sequence[Value], inputs: Sequence[Value], tangents: Sequence[float]) -> list[float]:
    """Forward accumulation: the derivatives of the outputs in the direction of these tangents of the inputs, as floats.

    >>> from micrograd_bp import Value
    >>> x, y = Value(3.0), Value(2.0)
    >>> pushed([x * y, x + y], [x, y], [1.0, 10.0])
    [32.0, 11.0]
    """
    known: dict[Any, float] = dict(zip(inputs, tangents))
    for node in dict.fromkeys(node for output in outputs for node in ordered([output])):
        if node not in known:
            for operand, partial in zip(node.operands, node._partials):
                tangent = known.get(operand, 0.0)
                if tangent and partial:
                    known[node] = known.get(node, 0.0) + tangent * partial
    return [known.get(x, 0.0) for x in outputs]


def slope_rows(outputs: Sequence[Value], inputs: Sequence[Value], forward: bool = False) -> list[list[float]] | None:
    """The derivatives of all outputs with respect to all inputs, as floats, a list for each output; no grad is touched.

    The order of the graph is found once, for all outputs, and in it the graph is swept for each output, or (forward)
    for each input. The result is None where a node has a `_backward` of its own, or an input operands.

    >>> from micrograd_bp import Value
    >>> x, y = Value(3.0), Value(2.0)
    >>> slope_rows([x * y, x + y], [x, y])
    [[2.0, 3.0], [1.0, 1.0]]
    """
    order = ordered(outputs)
    if any(type(node.op) is ByHand for node in order) or any(x.op is not None for x in inputs):
        return None
    places: dict[Any, int] = {node: i for i, node in enumerate(order)}
    edges: list[tuple[int, list[tuple[int, float]]]] = []
    for i, node in enumerate(order):
        pairs = zip(node.operands, node._partials)
        terms = [(places[x], partial) for x, partial in pairs if partial and type(x) is not float]
        if terms:
            edges.append((i, terms))
    starts, ends = [places.get(x, -1) for x in inputs], [places[y] for y in outputs]
    if forward:
        columns = [_swept_forward(edges, len(order), start, ends) for start in starts]
        return [[column[i] for column in columns] for i in range(len(ends))]
    edges.reverse()
    return [_swept_back(edges, len(order), end, starts) for end in ends]


def _swept_back(
    edges: list[tuple[int, list[tuple[int, float]]]], size: int, end: int, starts: list[int]
) -> list[float]:
    """`adjoints` over edges in the order of a sweep back; numbers[-1] stays 0, for inputs that are not in the graph."""
    numbers = [0.0] * (size + 1)
    numbers[end] = 1.0
    for i, terms in edges:
        adjoint = numbers[i]
        if adjoint:
            for j, partial in terms:
                numbers[j] += adjoint * partial
    return [numbers[j] for j in starts]


def _swept_forward(
    edges: list[tuple[int, list[tuple[int, float]]]], size: int, start: int, ends: list[int]
) -> list[float]:
    """`pushed` over edges in the order of recording."""
    if start < 0:
        return [0.0] * len(ends)
    numbers = [0.0] * size
    numbers[start] = 1.0
    for i, terms in edges:
        total = 0.0
        for j, partial in terms:
            tangent = numbers[j]
            if tangent:
                total += tangent * partial
        if total:
            numbers[i] = total
    return [numbers[j] for j in ends]


def read_data(values: Sequence[Value]) -> array[float]:
    """The data of the Values, as an array of doubles: the parameters of a compiled program."""
    return array("d", [x._data for x in values])


def add_to_grads(values: Sequence[Value], slopes: Sequence[float]) -> None:
    """Add to the grad of each Value its slope, as `backward` does: the gradient that a compiled program gives."""
    for x, slope in zip(values, slopes):
        x._grad += number(slope)


# --- graphs -------------------------------------------------------------------------------------------------------


def pull(steps: Iterable[Step], adjoints: dict[Any, Number]) -> None:
    """Reverse accumulation: add to the adjoints of all operands what comes from the nodes, from the last to the first.

    As graphs that can be differentiated; `gradients` does the same on the way.
    """
    for node, operands, partials in steps:
        if node in adjoints:
            for operand, partial in zip(operands, partials):
                accumulate(adjoints, operand, product(adjoints[node], partial))


def push(steps: Iterable[Step], tangents: dict[Any, Number]) -> None:
    """Forward accumulation: add to the tangents of the nodes, from the first to the last, what comes from operands."""
    for node, operands, partials in steps:
        for operand, partial in zip(operands, partials):
            if operand in tangents:
                accumulate(tangents, node, product(tangents[operand], partial))


def accumulate(derivatives: dict[Any, Number], node: Any, term: Number) -> None:
    """Add a term to the node's adjoint or tangent; a plain 0 makes no node."""
    if type(term) is not float or term:
        derivatives[node] = derivatives[node] + term if node in derivatives else term


def product(adjoint: Number, partial: Number) -> Number:
    """The chain rule's product, in which 0 times anything is 0; makes no node for a plain factor 0, 1 or -1."""
    if isinstance(adjoint, NUMBERS) or isinstance(partial, NUMBERS):
        for factor, other in ((adjoint, partial), (partial, adjoint)):
            if isinstance(factor, NUMBERS) and factor in (0.0, 1.0, -1.0):
                return 0.0 if factor == 0.0 else other if factor == 1.0 else -other
    return chain(adjoint, partial)


def graph_partials(node: Value, op: Op) -> tuple[Number, ...]:
    """The local derivatives of a node as graphs: its row's rule, run on the operands themselves."""
    if type(op) is ByHand:
        return op.partials(node, *node.operands)
    try:
        partials = op.rule_of_values(node, *node.operands)
    except (ArithmeticError, ValueError):
        partials = op.partials(node, *node.operands)
    now = tuple([partial if isinstance(partial, NUMBERS) else partial._data for partial in partials])
    if now != node._partials and any(
        x != y and (x == x or y == y) and not _same(x, y, op) for x, y in zip(now, node._partials, strict=True)
    ):
        raise ValueError(f"data of an operand of {node!r} ({op.name}) was changed after recording; record it again")
    return partials


def _same(x: float, y: float, op: Op) -> bool:
    """Whether a partial is the recorded one but for rounding: a user's rule may sum in another order on Values."""
    return TABLE.get(op.name) is not op and math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-12)


def float_partials(node: Value) -> tuple[float, ...]:
    """The local derivatives of a node: as recorded, or by its rule where `backward` does without them."""
    if type(node.op) is not ByHand:
        return node._partials
    return node.op.partials(node._data, *[getattr(x, "_data", x) for x in node.operands])

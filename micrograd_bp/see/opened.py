"""A graph whose net inputs are opened out into the products and sums that they stand for."""

from __future__ import annotations

from typing import Any

from micrograd_bp.ops import net_input
from micrograd_bp.value import Value, topological_order


def opened(output: Any) -> Any:
    """The same graph as micrograd records it: of products and sums of two; leaves and whatever else can stay the same.

    Products and partial sums have the grad of the net input that they are in: they pass it on as it is. No grad is
    changed.

    >>> w, x, b = Value(2.0, "w"), Value(3.0, "x"), Value(1.0, "b")
    >>> total = opened(net_input(b, w, x))
    >>> total.op.name, [node.op.name for node in total.operands if node.op]
    ('add', ['mul'])
    """
    outputs = (output,) if isinstance(output, Value) else tuple(output)
    known: dict[Value, Any] = {}
    for node in dict.fromkeys(node for each in outputs for node in topological_order(each)):
        operands = [known[x] if isinstance(x, Value) else x for x in node.operands]
        if node.op is net_input:
            known[node] = _sum(operands, node._grad)
        elif node.op is not None and any(old is not new for old, new in zip(node.operands, operands)):
            known[node] = Value._record(node.op, tuple(operands))
        else:
            known[node] = node
            continue
        known[node].label, known[node].grad = node.label, node._grad
    return known[outputs[0]] if isinstance(output, Value) else [known[each] for each in outputs]


def _sum(operands: list[Any], delta: float) -> Any:
    """The value of the row, node by node."""
    half, odd = divmod(len(operands), 2)
    total: Any = operands[0] if odd else None
    for w, x in zip(operands[odd : half + odd], operands[half + odd :]):
        term = w * x
        for node in (term, total := term if total is None else total + term):
            if isinstance(node, Value):
                node.grad = delta
    return total if isinstance(total, Value) and total.op is not None else Value(0.0) + total

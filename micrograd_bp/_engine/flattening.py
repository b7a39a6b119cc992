"""A recording as a program, in Python: what the compiler asks of an engine. The accelerated one has it in C."""

from __future__ import annotations

import sys
import types
from array import array
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp import ops
from micrograd_bp.ops import Op

if TYPE_CHECKING:
    from micrograd_bp.value import Value


def flat(nodes: list[Value], roots: Sequence[Value | float] = ()) -> tuple[Any, ...]:
    """Nodes in the order of their creation as arrays, of which a compiler makes a program.

    Returns the ops; for each operation the number of its op (-1 for a leaf) and of its operands; all operands;
    constants; the leaves; other nodes than these; and the roots. An operand is a place among the operations; or -1,
    -3, ... for a constant; or -2, -4, ... for another node. A net input is the products and sums that it stands for.
    """
    rows: dict[Op, int] = {}
    known: dict[Any, int] = {}
    others: dict[Value, int] = {}
    numbers: list[float] = []
    place: dict[Value, int] = {}
    codes, counts, operands = array("i"), array("i"), array("i")

    def written(x: Value | float) -> int:
        if not isinstance(x, (int, float)):
            found = place.get(x)
            return -2 - 2 * others.setdefault(x, len(others)) if found is None else found
        key = x if x and x == x else repr(x)
        if key not in known:
            known[key] = len(numbers)
            numbers.append(float(x))
        return -1 - 2 * known[key]

    def add(op: Op | None, *places: int) -> None:
        codes.append(-1 if op is None else rows.setdefault(op, len(rows)))
        counts.append(len(places))
        operands.extend(places)

    for node in nodes:
        terms = [written(x) for x in node.operands]
        if node.op is ops.net_input and len(terms) > 1:
            half, odd = divmod(len(terms), 2)
            for k in range(half):
                add(ops.mul, terms[odd + k], terms[odd + half + k])
                if k or odd:
                    add(ops.add, len(codes) - 2 if k else terms[0], len(codes) - 1)
        else:
            add(node.op, *terms)
        place[node] = len(codes) - 1
    ends = array("i", [written(x) for x in roots])
    leaves = [node for node in nodes if node.op is None]
    return list(rows), codes, counts, operands, numbers, leaves, list(others), ends


def closed(nodes: list[Value], values: list[Value]) -> tuple[bool, set[Op], list[bool]]:
    """Whether all operands of the nodes are among them; the set of the ops; for each Value, whether it is a node."""
    mine = set(map(id, nodes))
    whole = all(id(x) in mine for node in nodes for x in node.operands if not isinstance(x, float))
    return whole, {node.op for node in nodes if node.op is not None}, [id(x) in mine for x in values]


def marked(codes: array[int], counts: array[int], operands: array[int], needed: array[int], free: int) -> int:
    """Mark all that the needed operations depend on; return the length of their longest chain, not counting one op."""
    edge, longest, lengths = len(operands), 0, [0] * len(codes)
    for i in range(len(codes) - 1, -1, -1):
        edge -= counts[i]
        if needed[i]:
            for k in operands[edge : edge + counts[i]]:
                if k >= 0:
                    needed[k] = 1
    for i, code in enumerate(codes):
        if needed[i]:
            before = max([lengths[k] for k in operands[edge : edge + counts[i]] if k >= 0], default=0)
            lengths[i] = before + (code >= 0 and code != free)
            longest = max(longest, lengths[i])
        edge += counts[i]
    return longest


def listening(told: Callable[[Any], Any] | None, functions: Container[Any] = ()) -> None:
    """Call told(function) whenever this thread calls a built-in function: a method, or one of these; None: stop."""

    def called(frame: Any, event: str, function: Any) -> None:
        if told is None or event != "c_call":
            return
        if function in functions or not isinstance(getattr(function, "__self__", None), types.ModuleType):
            told(function)

    sys.setprofile(None if told is None else called)

"""Names for the nodes of a graph, for source code, pictures, tables and explanations."""

from __future__ import annotations

import keyword
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op
from micrograd_bp.value import Value, topological_order


class Listing:
    """The nodes of a graph under the names by which pictures, tables and explanations call them.

    `leaves` stand in the order in which they are first used, `interior` in the order of evaluation, `nodes` are both;
    `output` is the first of the `outputs`.
    """

    def __init__(self, output: Value | Sequence[Value]) -> None:
        self.outputs = (output,) if isinstance(output, Value) else tuple(output)
        self.output = self.outputs[0]
        order = list(dict.fromkeys(node for each in self.outputs for node in topological_order(each)))
        self.interior = [node for node in order if node.op is not None]
        used = (x for node in self.interior for x in node.operands if isinstance(x, Value) and x.op is None)
        self.leaves = list(dict.fromkeys([*used, *(node for node in self.outputs if node.op is None)]))
        self.nodes = self.leaves + self.interior
        self.names = node_names(order, self.leaves, readable)

    def named(self, x: Value | float) -> Expr | float:
        """An operand for a formula: a name for a Value, a float as it is."""
        return Expr(self.names[x]) if isinstance(x, Value) else x

    def expression(self, node: Value) -> str:
        """The operation of an interior node on its operands' names, such as v1 * v2; "" for a leaf."""
        return "" if node.op is None else written(node.op, list(map(self.named, node.operands)))

    def brief(self, node: Value) -> str:
        """Like `expression`, but short enough for a box in a picture: the net input of a unit is Σ."""
        return "Σ" if node.op is not None and node.op.symbol == "Σ" else self.expression(node)


def written(op: Op, operands: Sequence[Expr | float]) -> str:
    """The operation on these operands as a formula; of a net input of many terms the first two and the last."""
    if op.symbol != "Σ" or len(operands) < 8:
        return Expr._record(op, tuple(operands)).text
    half, odd = divmod(len(operands), 2)
    first = Expr._record(op, (*operands[: odd + 2], *operands[half + odd : half + odd + 2]))
    last = Expr._record(op, (operands[half + odd - 1], operands[-1]))
    return f"{first.text} + ... + {last.text}"


def readable(label: str) -> bool:
    """Whether a label can stand in a formula: a word, perhaps with indices, as w[0] or layer1.b."""
    return len(label) <= 24 and re.fullmatch(r"[^\W\d]\w*(\[\w+\]|\.\w+)*", label) is not None


def node_names(
    nodes: Iterable[Value], inputs: Iterable[Value], accept: Callable[[str], bool], taken: Iterable[str] = ()
) -> dict[Value, str]:
    """A name for every input, every interior node and every other leaf with a label that can be one; no two alike.

    A label that is accepted, not taken and no other node's is the name; else inputs are x1, x2, ... by their place,
    interior nodes v1, v2, ... in the order of `nodes`.
    """
    nodes, places = list(nodes), {node: place for place, node in enumerate(inputs, start=1)}
    count = Counter(node.label for node in dict.fromkeys((*places, *nodes)))
    labels = {label for label in count if count[label] == 1 and label not in taken and accept(label)}
    used = {*taken, *labels}
    names = {node: node.label if node.label in labels else fresh(f"x{place}", used) for node, place in places.items()}
    interior = 0
    for node in nodes:
        if node in places:
            continue
        interior += node.op is not None
        if node.label in labels:
            names[node] = node.label
        elif node.op is not None:
            names[node] = fresh(f"v{interior}", used)
    return names


def check_value(x: Any, taker: str) -> None:
    """Raise TypeError unless x, an argument of the function `taker`, is a Value."""
    if not isinstance(x, Value):
        raise TypeError(f"{taker} takes a Value, not {reprlib.repr(x)} ({type(x).__name__})")


def check_outputs(output: Any, taker: str) -> None:
    """Raise TypeError unless this is a Value or a sequence of Values, not empty."""
    if isinstance(output, list | tuple) and output:
        check_values(output, taker, "output")
    else:
        check_value(output, taker)


def check_values(xs: Any, taker: str, what: str) -> None:
    """Raise TypeError unless xs is a sequence of Values."""
    if isinstance(xs, Value) or not isinstance(xs, Iterable):
        raise TypeError(f"{taker}: {what} is a sequence of Values, not {reprlib.repr(xs)} ({type(xs).__name__})")
    for x in xs:
        if not isinstance(x, Value):
            raise TypeError(f"{taker}: {what} holds {reprlib.repr(x)} ({type(x).__name__}); pass a Value")


def fresh(name: str, used: set[str]) -> str:
    """The name, with underscores added until it is not in `used`; it is put in there."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def usable(name: str) -> bool:
    """Whether a label can be the name of a variable in Python source, unchanged."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    return plain and not name.startswith("__") and len(name) <= 40

"""A number that remembers how it was made, and the chain rule that walks back along it.

>>> x, y = Value(2.0, "x"), Value(3.0, "y")
>>> z = x * y + x.sin()
>>> z.backward()
>>> x.grad, y.grad
(2.5838531634528574, 2.0)
"""

from __future__ import annotations

import contextlib
import importlib
import os
import reprlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from micrograd_bp import ops
from micrograd_bp._methods import give_operations
from micrograd_bp._typing import Arithmetic
from micrograd_bp.ops import Op, number


class Value(Arithmetic):
    """A number in a computation graph: arithmetic on it records a new Value.

    `data` is a real number (TypeError otherwise), `label` a name for pictures and messages. A Value behaves as the
    float `data` does: the same results, the same types of exception; only `==` and `hash` go by identity.
    """

    __slots__ = ("data", "grad", "label", "op", "operands", "partials")

    data: float
    grad: float  # the derivative of the outputs, summed over the calls of backward()
    label: str
    op: Op | None  # None on a leaf
    operands: tuple[Value | float, ...]  # in order, duplicates kept; a plain number stays a plain float
    partials: tuple[float, ...]  # d self / d operand, taken when recorded: a later change of data cannot corrupt it

    def __init__(self, data: float, label: str = "") -> None:
        if not isinstance(label, str):
            raise TypeError(f"a Value's label is a str, not {label!r} ({type(label).__name__})")
        self.data = number(data)
        self.grad = 0.0
        self.label = label
        self.op = None
        self.operands = ()
        self.partials = ()

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Value:
        """The node for op(*args), whatever the operation and its arity."""
        data = [arg.data if isinstance(arg, Value) else arg for arg in args]
        node = Value.__new__(Value)
        try:
            out = op.forward(*data)
            partials = op.partials(out, *data)
        except Exception as error:
            raise op.failure(error, args) from error
        if type(partials) is not tuple or len(partials) != len(args):
            raise TypeError(f"{op.name}: its rule gives {partials!r}; it must give a tuple, one partial per argument")
        for partial in partials:
            if type(partial) is not float:
                partials = tuple([number(partial, op.name) for partial in partials])
        node.data = number(out, op.name)
        node.grad = 0.0
        node.label = ""
        node.op = op
        node.operands = args
        node.partials = partials
        return node

    def backward(self, seed: float = 1.0) -> None:
        """Add seed times d self / d leaf to the grad of every leaf; on other nodes grad is set, not added to.

        >>> x = Value(3.0)
        >>> (x * x).backward()
        >>> x.grad
        6.0
        """
        seed = number(seed, "backward")
        uses = _uses(self)
        for node in uses:
            if node.op is not None:
                node.grad = 0.0
        self.grad += seed
        ready = [self]
        while ready:  # of the nodes all of whose uses are done, so that their adjoints are complete
            node = ready.pop()
            adjoint = node.grad
            for operand, partial in zip(node.operands, node.partials):
                if isinstance(operand, Value):
                    if adjoint and partial:  # 0 times anything is 0, so 0 * inf never becomes nan
                        operand.grad += adjoint * partial
                    uses[operand] = left = uses[operand] - 1
                    if not left and operand.op is not None:
                        ready.append(operand)

    def __float__(self) -> float:
        raise TypeError("float() of a Value would drop its gradient; take .data, or functions of micrograd_bp.math")

    def __format__(self, spec: str) -> str:
        return format(self.data, spec) if spec else repr(self)

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.label), (None, {"grad": self.grad})  # the copy is a leaf

    @property
    def _prev(self) -> set[Value]:  # as in micrograd, where a constant is a node as well
        return {operand if isinstance(operand, Value) else Value(operand) for operand in self.operands}

    @property
    def _op(self) -> str:
        return self.op.symbol if self.op is not None else ""


def _uses(output: Value) -> dict[Value, int]:
    """Every node that the output depends on, with the number of times it is an operand."""
    uses, nodes = {output: 0}, [output]
    for node in nodes:  # the list grows meanwhile
        for operand in node.operands:
            if isinstance(operand, Value):
                if operand in uses:
                    uses[operand] += 1
                else:
                    uses[operand] = 1
                    nodes.append(operand)
    return uses


def topological_order(output: Value) -> list[Value]:
    """Every node that the output depends on, each after its operands, the output last; found without recursion."""
    uses = _uses(output)
    order, ready = [], [output]
    while ready:
        node = ready.pop()
        order.append(node)
        for operand in node.operands:
            if isinstance(operand, Value):
                uses[operand] = left = uses[operand] - 1
                if not left:
                    ready.append(operand)
    order.reverse()
    return order


def gradients(output: Value, inputs: Sequence[Value]) -> list[Value]:
    """The derivatives of the output with respect to the inputs, as graphs that can be differentiated again.

    The rules of `backward` fed with Values; no grad is touched. An input may be any node; one that the output does
    not depend on gets 0. ValueError: data of a leaf was changed after the output was recorded.

    >>> x = Value(3.0)
    >>> (slope,) = gradients(x**3, [x])
    >>> slope.data, gradients(slope, [x])[0].data
    (27.0, 18.0)
    """
    if isinstance(inputs, Value) or not all(isinstance(x, Value) for x in (output, *inputs)):
        given = f"{reprlib.repr(output)} and {reprlib.repr(inputs)}"
        raise TypeError(f"gradients takes a Value and a sequence of Values, not {given}")
    order = topological_order(output)
    relevant = set(inputs)  # and whatever depends on them
    for node in order:
        if not relevant.isdisjoint(node.operands):
            relevant.add(node)
    adjoints: dict[Value, Value | float] = {output: 1.0}
    for node in reversed(order):
        if node.op is None or node not in relevant or node not in adjoints:
            continue
        for operand, partial in zip(node.operands, _partials(node, node.op), strict=True):
            if operand in relevant:
                term = _product(adjoints[node], partial)
                if isinstance(term, Value) or term:
                    adjoints[operand] = adjoints[operand] + term if operand in adjoints else term
    return [x if isinstance(x, Value) else Value(x) for x in (adjoints.get(x, 0.0) for x in inputs)]


def slopes(output: Value, inputs: Sequence[Value]) -> list[float]:
    """The derivatives of the output with respect to the inputs, as floats: `backward`, but no grad is touched.

    >>> x = Value(3.0)
    >>> slopes(x * x, [x]), x.grad
    ([6.0], 0.0)
    """
    adjoints = {output: 1.0}
    for node in reversed(topological_order(output)):
        adjoint = adjoints.get(node, 0.0)
        if adjoint:
            for operand, partial in zip(node.operands, node.partials):
                if partial and isinstance(operand, Value):
                    adjoints[operand] = adjoints.get(operand, 0.0) + adjoint * partial
    return [adjoints.get(x, 0.0) for x in inputs]


def variables(numbers: Iterable[float]) -> list[Value]:
    """A new leaf for each of the numbers."""
    return list(map(Value, numbers))


def gather(values: Sequence[Value]) -> array[float]:
    """The data of the Values, as an array of doubles: what a compiled program reads."""
    return array("d", [x.data for x in values])


def scatter(values: Sequence[Value], slopes: Sequence[float]) -> None:
    """Add to the grad of each Value its slope: what a compiled program leaves behind."""
    for x, slope in zip(values, slopes):
        x.grad += slope


def _partials(node: Value, op: Op) -> tuple[Value | float, ...]:
    """The local derivatives of a node as graphs: its row's rule, run on the operands themselves."""
    partials = op.partials(node, *node.operands)
    now = tuple([partial.data if isinstance(partial, Value) else partial for partial in partials])
    if now != node.partials and any(x != y and (x == x or y == y) for x, y in zip(now, node.partials, strict=True)):
        raise ValueError(f"data of an operand of {node!r} ({op.name}) was changed after recording; record it again")
    return partials


def _product(adjoint: Value | float, partial: Value | float) -> Value | float:
    """The chain rule's product, without a node for a plain factor 0, 1 or -1."""
    if not (isinstance(adjoint, Value) and isinstance(partial, Value)):
        for factor, other in ((adjoint, partial), (partial, adjoint)):
            if not isinstance(factor, Value) and factor in (0.0, 1.0, -1.0):
                return 0.0 if factor == 0.0 else other if factor == 1.0 else -other
    product: Value | float = ops.chain(adjoint, partial)
    return product


def engine_name() -> str:
    """Which Value is in use: "pure" or "accelerated"."""
    return ENGINE


give_operations(Value)
ENGINE = "pure"

if not os.environ.get("MICROGRAD_BP_PURE"):
    with contextlib.suppress(ImportError):  # not built: no C compiler, say
        _accelerated = importlib.import_module("micrograd_bp._accelerated")
        if _accelerated.ops is ops:  # it is there once in a process: a second copy of this package does without
            globals().update(_accelerated.exports)

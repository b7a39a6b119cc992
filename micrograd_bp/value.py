"""Value: a number that records the operation that made it, and the chain rule applied along the recorded graph.

>>> x, y = Value(2.0, "x"), Value(3.0, "y")
>>> z = x * y + x.sin()
>>> z.backward()
>>> x.grad, y.grad
(2.5838531634528574, 2.0)
"""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp import ops
from micrograd_bp._engine.flattening import closed, flat, listening, marked
from micrograd_bp._engine.operators import (
    ByHand,
    comparison,
    copy_help,
    give_methods,
    micrograd_arguments,
    operators,
    partials_at_reading,
    sign_operator,
)
from micrograd_bp._engine.signatures import Arithmetic
from micrograd_bp._engine.sweeps import (
    Step,
    add_to_grads,
    count_uses,
    graph_partials,
    pull,
    pushed,
    read_data,
    slope_rows,
    slopes,
    topological_order,
)
from micrograd_bp.ops import RECORDINGS, Op, number

# fmt: off
__all__ = [
    "Value",
    "add_to_grads",
    "all_leaves",
    "closed",
    "deafen",
    "engine_name",
    "flat",
    "gradients",
    "listening",
    "marked",
    "pushed",
    "read_data",
    "slope_rows",
    "slopes",
    "topological_order",
    "variables",
    "watch",
]
# fmt: on


class Value(Arithmetic):
    """A number in a computation graph: arithmetic on it records a new Value.

    A Value behaves as the float `data` does: the same results and branches, the same types of exception. `hash` alone
    goes by identity, so that a set or dict of nodes holds nodes.

    Args:
        data: A real number.
        label: A name for pictures and messages; `Value(2.0, "x")` gives it as well.
        _children: The operands, where a program makes a node as micrograd does.
        _op: The symbol of such a node.

    Raises:
        TypeError: data is no real number, or label no str.

    Example:
        >>> x = Value(3.0, label="x")
        >>> y = x * x
        >>> y.backward()
        >>> y.data, x.grad, y.op.name, y.partials
        (9.0, 6.0, 'mul', (3.0, 3.0))
    """

    __slots__ = ("__dict__", "_data", "_grad", "_label", "_partials", "op", "operands")

    op: Op | None  # None on a leaf
    operands: tuple[Value | float, ...]  # in order, duplicates kept; a plain number stays a plain float

    def __init__(self, data: float, _children: Any = (), _op: str = "", label: str = "") -> None:
        self._data = number(data)
        self._grad = 0.0
        self._label = label
        self.op = None
        self.operands = ()
        self._partials: tuple[float, ...] = ()
        if type(_children) is not tuple or _children or _op or type(label) is not str:
            operands, symbol, self._label = micrograd_arguments(_children, _op, label)
            if operands:
                self._set_op(ByHand.of(symbol), operands)

    @property
    def data(self) -> float:
        """The number itself."""
        return self._data

    @data.setter
    def data(self, data: float) -> None:
        self._data = number(data)

    @property
    def grad(self) -> float:
        """The derivative of the outputs by this node, summed over the calls of `backward()` if it is a leaf."""
        return self._grad

    @grad.setter
    def grad(self, grad: float) -> None:
        self._grad = number(grad)

    @property
    def partials(self) -> tuple[float, ...]:
        """d self / d operand for each operand, taken when recorded: a later change of data cannot corrupt it.

        Of `checkpoint` and `remat` they are computed when they are read. They are nan where the derivative is known to
        a `_backward` of the node's own alone.
        """
        return partials_at_reading(self) if type(self.op) is ByHand else self._partials

    @property
    def label(self) -> str:
        """A name for pictures and messages."""
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        if not isinstance(label, str):
            raise TypeError(f"a Value's label is a str, not {label!r} ({type(label).__name__})")
        self._label = label

    if not TYPE_CHECKING:  # their types stand in Arithmetic
        __add__, __radd__ = operators(ops.add)
        __sub__, __rsub__ = operators(ops.sub)
        __mul__, __rmul__ = operators(ops.mul)
        __truediv__, __rtruediv__ = operators(ops.truediv)
        __floordiv__, __rfloordiv__ = operators(ops.floordiv)
        __mod__, __rmod__ = operators(ops.mod)
        __pow__, __rpow__ = operators(ops.pow)
        __neg__, __pos__, __abs__ = sign_operator(ops.neg), sign_operator(ops.pos), sign_operator(ops.abs)
        __lt__, __le__, __gt__, __ge__ = map(comparison, (operator.lt, operator.le, operator.gt, operator.ge))
        __eq__, __ne__ = map(comparison, (operator.eq, operator.ne))
        __hash__ = object.__hash__  # by identity, so that a set or a dict of nodes holds nodes

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Value:
        """The node for op(*args), whatever the operation and its arity."""
        data = [arg._data if isinstance(arg, Value) else arg for arg in args]
        node = Value.__new__(Value)
        try:
            out = op.forward(*data)
            try:
                partials = op.rule_of_floats(out, *data)
            except (ArithmeticError, ValueError):
                partials = op.partials(out, *data)
        except Exception as error:
            raise op.failure(error, args) from error
        if type(partials) is not tuple or len(partials) != len(args):
            raise TypeError(f"{op.name}: its rule gives {partials!r}; it must give a tuple, one partial per argument")
        for partial in partials:
            if type(partial) is not float:
                partials = tuple([number(partial, op.name) for partial in partials])
        node._data = number(out, op.name)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = args
        node._partials = partials
        for recording in RECORDINGS:
            recording.note(node)
        return node

    def detach(self) -> Value:
        """A leaf with the same number, from which nothing goes back; where a function is compiled, `stop_gradient`.

        >>> x = Value(3.0)
        >>> (x * x.detach()).backward()
        >>> x.grad
        3.0
        """
        return Value(self.data, label=self.label)

    def item(self) -> float:
        """The number itself, as `data` is: PyTorch's and NumPy's name."""
        return self.data

    def _set_op(self, op: Op, operands: tuple[Any, ...]) -> None:
        """Make it the result of another operation, whose partials are unknown."""
        self.op, self.operands, self._partials = op, operands, (math.nan,) * len(operands)

    def backward(self, seed: float = 1.0) -> None:
        """Backpropagate: add seed * d self / d leaf to the grad of every leaf that this node depends on.

        The grad of every other node on the way is set to its derivative, overwriting what was there. 0 times anything
        is 0 in the chain rule's product.

        Args:
            seed: The derivative of whatever is differentiated by this node.

        Raises:
            TypeError: seed is no real number.

        Source:
            Reverse accumulation: Griewank and Walther, Evaluating Derivatives, 2008, section 3.2.

        Example:
            >>> x = Value(3.0)
            >>> (x * x).backward()
            >>> x.grad
            6.0
        """
        seed = number(seed, "backward")
        uses = count_uses((self,))
        by_hand = False
        for node in uses:
            if node.op is not None:
                node._grad = 0.0
                by_hand |= type(node.op) is ByHand
        self._grad += seed
        if by_hand:
            return _step_back(self)
        ready = [self]
        while ready:  # of the nodes all of whose uses are done, so that their adjoints are complete
            node = ready.pop()
            adjoint = node._grad
            for operand, partial in zip(node.operands, node._partials):
                if isinstance(operand, Value):
                    if adjoint and partial:  # 0 times anything is 0, so 0 * inf never becomes nan
                        operand._grad += adjoint * partial
                    uses[operand] = left = uses[operand] - 1
                    if not left and operand.op is not None:
                        ready.append(operand)
        return None

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"

    def _attributes(self) -> dict[str, Any]:
        """What a program gave to this node beside a Value's own attributes."""
        return self.__dict__


def _step_back(output: Value) -> None:
    """The rest of `backward` where a node has a `_backward` of its own: every node's, in its turn."""
    for node in reversed(topological_order(output)):
        node._backward()


def gradients(output: Value, inputs: Sequence[Value]) -> list[Value]:
    """The derivatives of the output with respect to the inputs, as graphs that can be differentiated again.

    The rules of `backward` run on Values instead of floats; no grad is touched.

    Args:
        output: The node to differentiate.
        inputs: The nodes to differentiate by, leaves or not.

    Returns:
        A Value for each input; 0 where the output does not depend on it.

    Raises:
        TypeError: output is no Value, or inputs no sequence of Values.
        ValueError: The data of a leaf was changed after the output was recorded.

    Example:
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
    adjoints: dict[Value, Any] = {output: 1.0}

    def steps() -> Iterator[Step]:
        for node in reversed(order):
            if node in adjoints and node in relevant and node.op is not None:  # whose adjoint is complete by now
                yield node, node.operands, graph_partials(node, node.op)

    pull(steps(), adjoints, relevant)
    return [x if isinstance(x, Value) else Value(x) for x in (adjoints.get(x, 0.0) for x in inputs)]


def variables(numbers: Iterable[float]) -> list[Value]:
    """A new leaf for each of the numbers."""
    return list(map(Value, numbers))


def all_leaves(values: Sequence[Any]) -> bool:
    """Whether all are Values, and none the result of an operation."""
    return all(type(x) is Value and x.op is None for x in values)


def deafen() -> None:
    """Tell the recording under way of no further reads: nothing is to be made of it."""


def watch(thread: int) -> None:
    """Tell the recording under way what this thread does to Values; 0: no longer."""


def engine_name() -> str:
    """Which Value is in use: the pure Python of value.py, or the same class compiled.

    Returns:
        "pure" or "accelerated". The environment variable MICROGRAD_BP_PURE=1 switches the accelerated one off.

    Example:
        >>> engine_name() in ("pure", "accelerated")
        True
    """
    return ENGINE


give_methods(Value)  # a method for every operation: x.tanh(), x.maximum(y); and what else floats have
ENGINE = "pure"

if not os.environ.get("MICROGRAD_BP_PURE"):
    with contextlib.suppress(ImportError):  # not built: no C compiler, say
        _accelerated = importlib.import_module("micrograd_bp._engine.accelerated")
        if _accelerated.ops is ops:  # it is there once in a process: a second copy of this package does without
            for _name, _x in _accelerated.exports.items():
                copy_help(globals()[_name], _x)
            globals().update(_accelerated.exports)

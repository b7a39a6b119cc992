"""Value: a number that records the operation that made it, and the chain rule applied along the recorded graph.

>>> x, y = Value(2.0, "x"), Value(3.0, "y")
>>> z = x * y + x.sin()
>>> z.backward()
>>> x.grad, y.grad
(2.5838531634528574, 2.0)
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp import ops
from micrograd_bp._engine import engine
from micrograd_bp._engine.by_hand import ByHand, partials_at_reading, set_arguments, step_back
from micrograd_bp._engine.engine import engine_name, topological_order
from micrograd_bp._engine.methods import give_methods
from micrograd_bp._engine.operators import checked, comparison, operators, sign_operator, text
from micrograd_bp._engine.recordings import RECORDINGS
from micrograd_bp._engine.signatures import Arithmetic
from micrograd_bp._engine.sweeps import accumulate, count_uses, graph_partials, product
from micrograd_bp.ops import Op, number

__all__ = ["Value", "engine_name", "gradients", "topological_order"]


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

    data: float = checked("_data", float, number, "The number itself.")
    grad: float = checked("_grad", float, number, "d output / d self: summed over the calls of `backward()` on a leaf.")
    label: str = checked("_label", str, text, "A name for pictures and messages.")
    op: Op | None  # None on a leaf
    operands: tuple[Value | float, ...]  # in order, duplicates kept; a plain number stays a plain float
    _partials: tuple[float, ...]  # d self / d operand for each

    def __init__(self, data: float, _children: Any = (), _op: str = "", label: str = "") -> None:
        self._data = number(data)
        self._grad = 0.0
        self._label = label
        self.op = None
        self.operands = ()
        self._partials = ()
        if type(_children) is not tuple or _children or _op or type(label) is not str:  # micrograd's arguments
            set_arguments(self, _children, _op, label)

    if not TYPE_CHECKING:  # their types stand in Arithmetic
        # x + y is ops.add(x, y), which is Value._record(ops.add, (x, y)); and so for every operator and method.
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
        """Make the node for op(*args): its value, its operands, and the derivative by each of them."""
        node = Value.__new__(Value)
        data = [arg._data if isinstance(arg, Value) else arg for arg in args]
        node._data, node._partials = op.linearize(data, args)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = args
        for recording in RECORDINGS:  # of jit
            recording.note(node)
        return node

    @property
    def partials(self) -> tuple[float, ...]:
        """d self / d operand for each operand, taken when recorded: a later change of data cannot corrupt it.

        Of `checkpoint` and `remat` they are computed when they are read. They are nan where the derivative is known to
        a `_backward` of the node's own alone.
        """
        return partials_at_reading(self) if type(self.op) is ByHand else self._partials

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
        uses = count_uses((self,))  # of every node below this one, as an operand
        by_hand = False
        for node in uses:
            if node.op is not None:
                node._grad = 0.0
                by_hand |= type(node.op) is ByHand
        self._grad += seed
        if by_hand:  # as micrograd's programs make nodes
            return step_back(topological_order(self))
        ready = [self]  # nodes whose uses are all done, so that their grads are complete
        while ready:
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

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"


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
    for node in reversed(order):  # the adjoint of each is complete when its turn comes
        if node in adjoints and node in relevant and node.op is not None:
            for operand, partial in zip(node.operands, graph_partials(node, node.op)):
                if operand in relevant:
                    accumulate(adjoints, operand, product(adjoints[node], partial))
    return [x if isinstance(x, Value) else Value(x) for x in (adjoints.get(x, 0.0) for x in inputs)]


give_methods(Value)  # x.tanh(), x.maximum(y): a method for every op; and what else floats have
globals()["Value"] = engine.chosen(Value)  # the class above, or the same compiled, where it was built

"""Nodes made by hand, as programs for micrograd make them: operands, a symbol, and a `_backward` of their own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from micrograd_bp._engine.op import Op, number

if TYPE_CHECKING:
    from micrograd_bp.value import Value


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class ByHand(Op):
    """The operation of a node whose derivative is a function assigned to its `_backward`."""

    step: Callable[[], object] | None = field(init=False)  # adds to the grads of the operands
    pass_on: Callable[[Any], object] | None = field(init=False)  # or the same, called with the node
    recorded: Callable[..., Any] | None = field(init=False)  # the same result, made of other operations, for `jit`

    @classmethod
    def of(cls, symbol: str, step: Callable[[], object] | None = None) -> ByHand:
        """The operation with this symbol."""

        def refuse(*args: Any) -> Any:
            raise TypeError(
                f"the derivative of {symbol or 'this node'} is known to its _backward alone: backward() uses it, but "
                "second derivatives, transforms and jit need an Op"
            )

        op = cls(symbol or "by hand", symbol, refuse, refuse)
        object.__setattr__(op, "step", step)
        object.__setattr__(op, "pass_on", None)
        object.__setattr__(op, "recorded", None)
        return op

    @classmethod
    def opaque(
        cls,
        name: str,
        forward: Callable[..., float],
        rule: Callable[..., tuple[Any, ...]],
        pass_on: Callable[[Any], object],
        recorded: Callable[..., Any] | None = None,
    ) -> ByHand:
        """An operation with a rule whose nodes pass their grad on by a function, as those of `checkpoint` do."""
        op = cls(name, name, forward, rule)
        object.__setattr__(op, "step", None)
        object.__setattr__(op, "pass_on", pass_on)
        object.__setattr__(op, "recorded", recorded)
        return op


def partials_at_reading(node: Any) -> tuple[float, ...]:
    """The partials of a node that passes its grad on by a function: by its rule, if it has one; else nan."""
    if node.op.pass_on is None:
        return tuple(node._partials)
    return tuple(map(float, node.op.partials(node._data, *[getattr(x, "_data", x) for x in node.operands])))


def step_back(order: list[Value]) -> None:
    """`backward` where a node has a `_backward` of its own: calls that of every node, from the last to the first."""
    for node in reversed(order):
        node._backward()


def backward_step(node: Any) -> Callable[[], object]:
    """The function `node._backward`, as in micrograd: adds the node's grad times each partial to its operand's grad.

    >>> from micrograd_bp import Value
    >>> a, b = Value(2.0), Value(-3.0)
    >>> product = a * b
    >>> product.grad = 1.0
    >>> product._backward()
    >>> a.grad, b.grad
    (-3.0, 2.0)
    """
    if isinstance(node.op, ByHand):
        if node.op.pass_on is not None:
            return functools.partial(node.op.pass_on, node)
        return node.op.step or (lambda: None)

    def step() -> None:
        adjoint = node.grad
        for operand, partial in zip(node.operands, node._partials):
            if hasattr(operand, "_record") and adjoint and partial:
                operand.grad += adjoint * partial

    return step


def set_backward_step(node: Any, step: Callable[[], object]) -> None:
    """Replace `node._backward`; `backward()` calls the function when the node's grad is complete."""
    if not callable(step):
        raise TypeError(f"_backward is a function of no arguments, not {step!r} ({type(step).__name__})")
    node._set_op(ByHand.of(node._op, step), node.operands)


def set_op(node: Any, op: Op, operands: tuple[Any, ...]) -> None:
    """Make a node of value.py the result of another operation, whose partials are unknown."""
    node.op, node.operands, node._partials = op, operands, (math.nan,) * len(operands)


def set_arguments(node: Any, children: Any, symbol: Any, label: Any) -> None:
    """Set what a node of value.py gets from Value(data, _children, _op, label) or Value(data, label)."""
    operands, symbol, node._label = checked_arguments(children, symbol, label)
    if operands:
        set_op(node, ByHand.of(symbol), operands)


def checked_arguments(children: Any, symbol: Any, label: Any) -> tuple[tuple[Any, ...], str, str]:
    """Operands, symbol and label from the arguments of Value(data, _children, _op, label) or Value(data, label)."""
    if isinstance(children, str) and not label:
        children, label = (), children
    if not isinstance(children, (tuple, list, set, frozenset)):
        children, label = (), children
    for name, text in (("label", label), ("_op", symbol)):
        if not isinstance(text, str):
            raise TypeError(f"a Value's {name} is a str, not {text!r} ({type(text).__name__})")
    return tuple([x if hasattr(type(x), "_record") else number(x) for x in children]), symbol, label


def give_names(cls: Any) -> None:
    """Define micrograd's names for operands, symbol and backward step on a class of nodes."""

    def operands(self: Any) -> set[Any]:
        return {x if isinstance(x, cls) else cls(x) for x in self.operands}  # a constant is a node there

    def symbol(self: Any) -> str:
        return self.op.symbol if self.op is not None else ""

    for name, read in (("_prev", operands), ("_op", symbol)):
        made: Any = property(read)
        made.__set_name__(cls, name)  # which the error of an assignment shows
        setattr(cls, name, made)
    cls._backward = property(backward_step, set_backward_step)

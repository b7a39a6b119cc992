"""The least that trains a network in pure Python: slots, tuples of operands and local derivatives, one generic walk.

What the accelerated Value is measured against. It does what the benchmarks' programs need and no more.
"""

from __future__ import annotations

import math


class Value:
    """A number, the numbers that it was made of and the local derivative by each."""

    __slots__ = ("data", "grad", "operands", "partials")

    def __init__(self, data: float, operands: tuple[Value, ...] = (), partials: tuple[float, ...] = ()) -> None:
        self.data = data
        self.grad = 0.0
        self.operands = operands
        self.partials = partials

    def __add__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other: Value | float) -> Value:
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, exponent: float) -> Value:
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def __truediv__(self, other: Value | float) -> Value:
        return self * other**-1

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Value | float) -> Value:
        return self + -other

    def __rsub__(self, other: float) -> Value:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> Value:
        out = math.exp(self.data)
        return Value(out, (self,), (out,))

    def log(self) -> Value:
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def relu(self) -> Value:
        return Value(self.data if self.data > 0.0 else 0.0, (self,), (1.0 if self.data > 0.0 else 0.0,))

    def backward(self) -> None:
        """Add the derivative of self by each node to the node's grad."""
        order: list[Value] = []
        seen = {self}

        def visit(node: Value) -> None:
            for operand in node.operands:
                if operand not in seen:
                    seen.add(operand)
                    visit(operand)
            order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            adjoint = node.grad
            for operand, partial in zip(node.operands, node.partials):
                operand.grad += adjoint * partial

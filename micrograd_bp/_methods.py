"""What the table gives to a class of nodes: an operator or a method for every row, and NumPy's names for them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

from micrograd_bp.ops import READERS, TABLE, Op, number

# The methods that NumPy's functions look for on the elements of an object array, where the table has another name.
NUMPY_NAMES = {
    "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "deg2rad": "radians", "rad2deg": "degrees",
    "conjugate": "pos", "rint": "__round__",
}  # fmt: skip
COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge)
READINGS = (*COMPARISONS, bool, int, math.trunc, math.floor, math.ceil, round)


def operators(cls: Any, method: Callable[[Op], Any], reflected: Callable[[Op], Any]) -> None:
    """Give cls the operator of every row that Python's floats have one for: __add__ and __radd__ for `add`."""
    for op in TABLE.values():
        if hasattr(operator, op.name) and hasattr(float, f"__{op.name}__"):
            _give(cls, f"__{op.name}__", method(op))
            if op.arity == 2:
                _give(cls, f"__r{op.name}__", reflected(op))


def give_operations(cls: Any) -> None:
    """Give a class of nodes its operators, a method for every row, comparisons and roundings."""
    operators(cls, lambda op: _method(op, cls), lambda op: _reflected(op, cls))
    for op in TABLE.values():
        _give(cls, op.name, _method(op, cls) if op.arity == 1 else lambda self, *args, op=op: op(self, *args))
    for read in READINGS:
        _give(cls, f"__{read.__name__}__", _reading(read, cls))
    for alias, name in NUMPY_NAMES.items():
        setattr(cls, alias, getattr(cls, name))
    _give(cls, "__divmod__", lambda self, other: (self // other, self % other))
    _give(cls, "__rdivmod__", lambda self, other: (other // self, other % self))


def _give(cls: Any, name: str, function: Any) -> None:
    """Make the function a method under its own name, which is what a traceback or a TypeError shows."""
    function.__name__, function.__qualname__ = name, f"{cls.__name__}.{name}"
    setattr(cls, name, function)


def _operand(op: Op, other: Any) -> Any:
    """A number beside a Value, as a float; NotImplemented where its type may know better, as an array does."""
    if type(other) is int or isinstance(other, Real) or type(other).__module__ == "builtins":
        return number(other, op.name)
    return NotImplemented


def _method(op: Op, cls: Any) -> Callable[..., Any]:
    """A row as a method of one or two arguments: `_record` again, unrolled for the nodes that programs are made of."""
    forward, partials, new = op.forward, op.partials, cls.__new__

    def unary(self: Any) -> Any:
        x = self.data
        node: Any = new(cls)
        try:
            node.data = out = forward(x)
            node.partials = partials(out, x)
        except Exception as error:
            raise op.failure(error, (self,)) from error
        node.grad = 0.0
        node.label = ""
        node.op = op
        node.operands = (self,)
        return node

    def binary(self: Any, other: Any) -> Any:
        if isinstance(other, cls):
            y = other.data
        elif type(other) is float:
            y = other
        else:
            other = y = _operand(op, other)
            if y is NotImplemented:
                return y
        x = self.data
        node: Any = new(cls)
        try:
            node.data = out = forward(x, y)
            node.partials = partials(out, x, y)
        except Exception as error:
            raise op.failure(error, (self, other)) from error
        node.grad = 0.0
        node.label = ""
        node.op = op
        node.operands = (self, other)
        return node

    return unary if op.arity == 1 else binary


def _reflected(op: Op, cls: Any) -> Callable[[Any, Any], Any]:
    """A row as an operator whose left operand is a plain number; unrolled, `2.0 * x` takes a fifth of the time."""
    forward, partials, new = op.forward, op.partials, cls.__new__

    def reflected(self: Any, other: Any) -> Any:
        if type(other) is not float:
            other = _operand(op, other)
            if other is NotImplemented:
                return other
        y = self.data
        node: Any = new(cls)
        try:
            node.data = out = forward(other, y)
            node.partials = partials(out, other, y)
        except Exception as error:
            raise op.failure(error, (other, self)) from error
        node.grad = 0.0
        node.label = ""
        node.op = op
        node.operands = (other, self)
        return node

    return reflected


def _reading(read: Callable[..., Any], cls: Any) -> Callable[..., Any]:
    """A comparison or a rounding: a plain result, read off the data; READERS are told."""

    comparison = read in COMPARISONS

    def method(self: Any, *others: Any) -> Any:
        data = [self.data]
        for other in others:
            if isinstance(other, cls):
                other = other.data
            elif comparison and type(other) is not float and not isinstance(other, Real):
                return NotImplemented
            data.append(other)
        result = read(*data)
        if comparison:
            result = bool(result)  # a comparison with a NumPy number gives NumPy's own kind of bool
        if READERS:
            for reader in READERS:
                reader(read, (self, *others), result)
        return result

    return method

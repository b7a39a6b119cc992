"""What stands in the body of a class of nodes: its operators, comparisons, and attributes that refuse what is wrong.

`__add__, __radd__ = operators(ops.add)` says that `x + y` and `2.0 + y` are `ops.add` of x and y, which makes a node by
the `_record` of the class. The methods made here do what `_record` does, written out for one and two operands: in half
the time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from numbers import Number, Real
from typing import Any

from micrograd_bp._engine.recordings import COMPARISONS, reading
from micrograd_bp.ops import TABLE, Op, number


class Method:
    """A descriptor that is replaced by a method, make(argument, cls), when its class is created."""

    def __init__(self, make: Callable[[Any, Any], Any], argument: Any) -> None:
        self.make, self.argument = make, argument

    def __set_name__(self, cls: Any, name: str) -> None:
        give(cls, name, self.make(self.argument, cls))


def operators(op: Op) -> tuple[Method, Method]:
    """The methods for `x + y` and `2.0 + y`, where op is `add`."""
    return Method(op_method, op), Method(reflected_method, op)


def sign_operator(op: Op) -> Method:
    """The method for `-x`, where op is `neg`."""
    return Method(op_method, op)


def comparison(read: Callable[[Any, Any], bool]) -> Method:
    """The method for `x < y`, where read is `operator.lt`: it compares the data."""
    return Method(reading_method, read)


def checked(slot: str, kind: type, convert: Callable[[Any], Any], doc: str) -> Any:
    """An attribute of this type, kept in a slot; anything else that is assigned to it is converted, or refused."""

    def assign(self: Any, x: Any) -> None:
        setattr(self, slot, x if type(x) is kind else convert(x))

    return property(operator.attrgetter(slot), assign, doc=doc)


def text(label: Any) -> str:
    """The label, or a TypeError where it is no str."""
    if not isinstance(label, str):
        raise TypeError(f"a Value's label is a str, not {label!r} ({type(label).__name__})")
    return label


def give(cls: Any, name: str, function: Any) -> None:
    """Set the function as a method, and its name to the method's, which tracebacks and TypeErrors show."""
    function.__name__, function.__qualname__ = name, f"{cls.__name__}.{name}"
    setattr(cls, name, function)


def give_operators(cls: Any, method: Callable[[Op], Any], reflected: Callable[[Op], Any]) -> None:
    """Define Python's operators on another class, such as __add__ and __radd__ for the op `add`."""
    for op in TABLE.values():
        if hasattr(operator, op.name) and hasattr(float, f"__{op.name}__"):
            give(cls, f"__{op.name}__", method(op))
            if op.arity == 2:
                give(cls, f"__r{op.name}__", reflected(op))


# --- recording ----------------------------------------------------------------------------------------------------


def op_method(op: Op, cls: Any) -> Callable[..., Any]:
    """The method for an op of one or two arguments."""
    forward, rule, new = op.forward, op.rule_of_floats, cls.__new__

    def unary(self: Any) -> Any:
        x = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(x)
            node._partials = rule(out, x)
        except Exception as error:
            node._partials = _partials_or_failure(op, node, error, (self,), x)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = (self,)
        return node

    def binary(self: Any, other: Any) -> Any:
        if isinstance(other, cls):
            y = other._data
        elif type(other) is float:
            y = other
        else:
            other = y = as_operand(op, other)
            if y is NotImplemented:
                return y
        x = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(x, y)
            node._partials = rule(out, x, y)
        except Exception as error:
            node._partials = _partials_or_failure(op, node, error, (self, other), x, y)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = (self, other)
        return node

    return unary if op.arity == 1 else binary


def reflected_method(op: Op, cls: Any) -> Callable[[Any, Any], Any]:
    """The method for an op whose first argument is a number, as in `2.0 * x`."""
    forward, rule, new = op.forward, op.rule_of_floats, cls.__new__

    def reflected(self: Any, other: Any) -> Any:
        if type(other) is not float:
            other = as_operand(op, other)
            if other is NotImplemented:
                return other
        y = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(other, y)
            node._partials = rule(out, other, y)
        except Exception as error:
            node._partials = _partials_or_failure(op, node, error, (other, self), other, y)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = (other, self)
        return node

    return reflected


def _partials_or_failure(
    op: Op, node: Any, error: Exception, operands: tuple[Any, ...], *data: float
) -> tuple[float, ...]:
    """The partials in IEEE arithmetic where the rule has raised; the operation's error where it has no value."""
    try:
        return op.partials(node._data, *data)  # AttributeError: there is no value
    except Exception:
        raise op.failure(error, operands) from error


def as_operand(op: Op, other: Any) -> Any:
    """The other operand as a float; NotImplemented where its type may define the operator, as NumPy's arrays do."""
    if type(other) is int or type(other).__module__ == "builtins":
        return number(other, op.name)
    return number(other, op.name) if isinstance(other, Real) and not hasattr(type(other), "_record") else NotImplemented


def general_net_input(w: Any, x: Any, b: Any = None) -> Any:
    """b + w_1 x_1 + ... + w_n x_n from left to right: one node where all of them are numbers, arrays term by term."""
    w, x = tuple(w), tuple(x)
    if len(w) != len(x):
        raise ValueError(f"net_input takes as many weights as inputs, not {len(w)} and {len(x)}")
    op = TABLE["net_input"]
    bias = () if b is None else (b,)
    terms = [y if hasattr(type(y), "_record") else as_operand(op, y) for y in (*bias, *w, *x)]
    if not any(y is NotImplemented for y in terms):
        return op(*terms)
    terms = [*bias, *[wi * xi for wi, xi in zip(w, x)]]
    return sum(terms[1:], start=terms[0])


# --- reading ------------------------------------------------------------------------------------------------------


def reading_method(read: Callable[..., Any], cls: Any) -> Callable[..., Any]:
    """The method for a comparison, bool, int or rounding: it reads the data, and reports to `jit`'s recording."""

    is_comparison = read in COMPARISONS
    known = (Real, Decimal) if read not in (operator.eq, operator.ne) else Number

    def method(self: Any, *others: Any) -> Any:
        data = [self._data]
        for other in others:
            if isinstance(other, cls):
                other = other._data
            elif is_comparison and type(other) is not float and not isinstance(other, known):
                return NotImplemented
            data.append(other)
        return reading(read, (self, *others), data)

    return method

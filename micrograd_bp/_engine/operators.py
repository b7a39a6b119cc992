"""Operators and methods for a class of nodes: one for every operation of the table, and NumPy's names for them.

A class body says which operator stands for which operation, as Value's does: `__add__, __radd__ = operators(ops.add)`.
"""

from __future__ import annotations

import copy
import functools
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Number, Real
from typing import Any

from micrograd_bp.ops import RECORDINGS, TABLE, VARIABLES, Op, number

# The methods that NumPy's functions look for on the elements of an object array, where the table has another name.
NUMPY_NAMES = {
    "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "deg2rad": "radians", "rad2deg": "degrees",
    "conjugate": "pos", "rint": "__round__",
}  # fmt: skip
COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)  # as C numbers them
READINGS = (bool, int, math.trunc, math.floor, math.ceil, round)
FLOAT_METHODS = (float.is_integer, float.hex)


class Operator:
    """Stands in a class body for the method that applies an operation; becomes it when the class is made."""

    def __init__(self, make: Callable[[Any, Any], Any], argument: Any) -> None:
        self.make, self.argument = make, argument

    def __set_name__(self, cls: Any, name: str) -> None:
        _give(cls, name, self.make(self.argument, cls))


def operators(op: Op) -> tuple[Operator, Operator]:
    """The methods for `x + y` and `2.0 + y`, where op is `add`."""
    return Operator(_method, op), Operator(_reflected, op)


def sign_operator(op: Op) -> Operator:
    """The method for `-x`, where op is `neg`."""
    return Operator(_method, op)


def comparison(read: Callable[[Any, Any], bool]) -> Operator:
    """The method for `x < y`, where read is `operator.lt`: it compares the data."""
    return Operator(_reading, read)


def give_operators(cls: Any, method: Callable[[Op], Any], reflected: Callable[[Op], Any]) -> None:
    """Give cls the operator of every operation that Python's floats have one for: __add__ and __radd__ for `add`."""
    for op in TABLE.values():
        if hasattr(operator, op.name) and hasattr(float, f"__{op.name}__"):
            _give(cls, f"__{op.name}__", method(op))
            if op.arity == 2:
                _give(cls, f"__r{op.name}__", reflected(op))


def give_methods(cls: Any) -> None:
    """Give a class of nodes a method for every operation, and the rest of what floats have."""
    for op in TABLE.values():
        _give(cls, op.name, _method(op, cls) if op.arity == 1 else lambda self, *args, op=op: op(self, *args))
    for read in READINGS:
        _give(cls, f"__{read.__name__}__", _reading(read, cls))
    give_others(cls)
    _give(cls, "__divmod__", lambda self, other: (self // other, self % other))
    _give(cls, "__rdivmod__", lambda self, other: (other // self, other % self))


def give_others(cls: Any) -> None:
    """Give a class of nodes what floats have beside operators, and NumPy's names."""
    for read in FLOAT_METHODS:
        _give(cls, read.__name__, _reading(read, cls))
    ratio = _reading(float.as_integer_ratio, cls)

    def as_integer_ratio(self: Any) -> tuple[int, int]:
        warnings.warn(
            "as_integer_ratio() of a Value gives whole numbers, and what is computed from them has no derivative "
            "(as in statistics.mean: math.fsum(xs) / len(xs) keeps it); .data.as_integer_ratio() says that it is meant",
            stacklevel=2,
        )
        pair: tuple[int, int] = ratio(self)
        return pair

    _give(cls, "as_integer_ratio", as_integer_ratio)
    for alias, name in NUMPY_NAMES.items():
        setattr(cls, alias, getattr(cls, name))
    cls.real, cls.imag = property(cls.pos), property(lambda self: 0.0)
    cls._backward = property(backward_step, set_backward_step)
    Real.register(cls)


def _give(cls: Any, name: str, function: Any) -> None:
    """Make the function a method under its own name, which is what a traceback or a TypeError shows."""
    function.__name__, function.__qualname__ = name, f"{cls.__name__}.{name}"
    setattr(cls, name, function)


def _operand(op: Op, other: Any) -> Any:
    """A number beside a Value, as a float; NotImplemented where its type may know better, as an array does."""
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
    terms = [y if hasattr(type(y), "_record") else _operand(op, y) for y in (*bias, *w, *x)]
    if not any(y is NotImplemented for y in terms):
        return op(*terms)
    terms = [*bias, *[wi * xi for wi, xi in zip(w, x)]]
    return sum(terms[1:], start=terms[0])


def _method(op: Op, cls: Any) -> Callable[..., Any]:
    """A row as a method of one or two arguments: `_record` again, unrolled for the nodes that programs are made of."""
    forward, rule, new = op.forward, op.rule_of_floats, cls.__new__

    def unary(self: Any) -> Any:
        x = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(x)
            node._partials = rule(out, x)
        except Exception as error:
            node._partials = _again(op, node, error, (self,), x)
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
            other = y = _operand(op, other)
            if y is NotImplemented:
                return y
        x = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(x, y)
            node._partials = rule(out, x, y)
        except Exception as error:
            node._partials = _again(op, node, error, (self, other), x, y)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = (self, other)
        return node

    return unary if op.arity == 1 else binary


def _reflected(op: Op, cls: Any) -> Callable[[Any, Any], Any]:
    """A row as an operator whose left operand is a plain number; unrolled, `2.0 * x` takes a fifth of the time."""
    forward, rule, new = op.forward, op.rule_of_floats, cls.__new__

    def reflected(self: Any, other: Any) -> Any:
        if type(other) is not float:
            other = _operand(op, other)
            if other is NotImplemented:
                return other
        y = self._data
        node: Any = new(cls)
        try:
            node._data = out = forward(other, y)
            node._partials = rule(out, other, y)
        except Exception as error:
            node._partials = _again(op, node, error, (other, self), other, y)
        node._grad = 0.0
        node._label = ""
        node.op = op
        node.operands = (other, self)
        return node

    return reflected


def _again(op: Op, node: Any, error: Exception, operands: tuple[Any, ...], *data: float) -> tuple[Any, ...]:
    """The partials where the rule raised, in IEEE arithmetic; the operation's own error where it has no value."""
    try:
        return op.partials(node._data, *data)  # AttributeError: there is no value
    except Exception:
        raise op.failure(error, operands) from error


def _reading(read: Callable[..., Any], cls: Any) -> Callable[..., Any]:
    """A comparison or a rounding: a plain result, read off the data. A recording is told of it, or of its exception."""

    comparison = read in COMPARISONS
    known = (Real, Decimal) if read not in (operator.eq, operator.ne) else Number

    def method(self: Any, *others: Any) -> Any:
        data = [self._data]
        for other in others:
            if isinstance(other, cls):
                other = other._data
            elif comparison and type(other) is not float and not isinstance(other, known):
                return NotImplemented
            data.append(other)
        return reading(read, (self, *others), data)

    return method


def reading(read: Callable[..., Any], operands: tuple[Any, ...], data: list[Any]) -> Any:
    """read(*data), the data being that of the operands. A recording is told of it, or of its exception."""
    try:
        result = read(*data)
    except Exception as error:
        for recording in RECORDINGS:
            recording.raised(read, operands, error)
        raise
    if read in COMPARISONS:
        result = bool(result)  # a comparison with a NumPy number gives NumPy's own kind of bool
    for recording in RECORDINGS:
        recording.read(read, operands, result)
    return result


def noticed(what: str, node: Any) -> None:
    """Tell a recording that something was read off a node of its own that no guard can stand for."""
    for recording in RECORDINGS:
        recording.noticed(what, node)


def copied(node: Any, cls: Any, memo: dict[int, Any] | None = None) -> Any:
    """A copy that cuts no derivative: a new node for a leaf; the node itself, as an immutable float, for any other.

    The variables that a transform or `jit` hands to a function stay themselves, though they are leaves. memo: of a
    deep copy.
    """
    if node.op is not None or any(node is x for _, known in [*VARIABLES.values()] for x in known):
        return node
    kind: Any = type(node)
    new: Any = kind.__new__(kind)
    cls.__init__(new, node._data, label=node.label)
    new.grad = node._grad
    if memo is not None:
        memo[id(node)] = new
    for name, x in node._attributes().items():
        setattr(new, name, x if memo is None else copy.deepcopy(x, memo))
    return new


# --- nodes made by hand, as programs for micrograd make them ------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class ByHand(Op):
    """The operation of one node whose derivative is a function of its own, in `_backward`."""

    step: Callable[[], object] | None = field(init=False)  # adds to the grads of the operands
    pass_on: Callable[[Any], object] | None = field(init=False)  # or a function of the node, which it need not hold

    @classmethod
    def of(cls, symbol: str, step: Callable[[], object] | None = None) -> ByHand:
        """The operation that shows as this symbol."""

        def refuse(*args: Any) -> Any:
            raise TypeError(
                f"the derivative of {symbol or 'this node'} is known to its _backward alone: backward() uses it, but "
                "second derivatives, transforms and jit need an Op"
            )

        op = cls(symbol or "by hand", symbol, refuse, refuse)
        object.__setattr__(op, "step", step)
        object.__setattr__(op, "pass_on", None)
        return op

    @classmethod
    def opaque(
        cls,
        name: str,
        forward: Callable[..., float],
        rule: Callable[..., tuple[Any, ...]],
        pass_on: Callable[[Any], object],
    ) -> ByHand:
        """An operation with a rule, for which `backward` has a better way."""
        op = cls(name, name, forward, rule)
        object.__setattr__(op, "step", None)
        object.__setattr__(op, "pass_on", pass_on)
        return op


def backward_step(node: Any) -> Callable[[], object]:
    """What `node._backward` is: a function that passes the node's grad on to its operands, as in micrograd.

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
    """Give the node a function of one's own to pass its grad on; `backward()` calls it in its turn."""
    if not callable(step):
        raise TypeError(f"_backward is a function of no arguments, not {step!r} ({type(step).__name__})")
    node._set_op(ByHand.of(node._op, step), node.operands)


def micrograd_arguments(children: Any, op: Any, label: Any) -> tuple[tuple[Any, ...], str, str]:
    """What Value(data, _children, _op, label) means: operands, symbol and label; the second may be the label alone."""
    if isinstance(children, str) and not label:
        children, label = (), children
    if not isinstance(children, (tuple, list, set, frozenset)):
        children, label = (), children
    for name, text in (("label", label), ("_op", op)):
        if not isinstance(text, str):
            raise TypeError(f"a Value's {name} is a str, not {text!r} ({type(text).__name__})")
    return tuple([x if hasattr(type(x), "_record") else number(x) for x in children]), op, label

"""Operators and methods for a class of nodes: one for every operation of the table, and NumPy's names for them.

A class body says which operator stands for which operation, as Value's does: `__add__, __radd__ = operators(ops.add)`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Number, Real
from typing import Any

from micrograd_bp.ops import RECORDINGS, TABLE, VARIABLES, Op, number

# NumPy's functions call these methods on the elements of an object array; each is the op of the other name.
NUMPY_NAMES = {
    "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "deg2rad": "radians", "rad2deg": "degrees",
    "conjugate": "pos", "rint": "__round__",
}  # fmt: skip
COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)  # Py_LT to Py_GE in C
READINGS = (bool, int, math.trunc, math.floor, math.ceil, round)
FLOAT_METHODS = (float.is_integer, float.hex)


class Operator:
    """A descriptor that is replaced by the method for an operation when its class is created."""

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
    """Define Python's operators on cls, such as __add__ and __radd__ for the op `add`."""
    for op in TABLE.values():
        if hasattr(operator, op.name) and hasattr(float, f"__{op.name}__"):
            _give(cls, f"__{op.name}__", method(op))
            if op.arity == 2:
                _give(cls, f"__r{op.name}__", reflected(op))


def give_methods(cls: Any) -> None:
    """Define a method for every op on a class of nodes, and the other methods that floats have."""
    for op in TABLE.values():
        _give(cls, op.name, _method(op, cls) if op.arity == 1 else lambda self, *args, op=op: op(self, *args))
        give_help(getattr(cls, op.name), op)
    for read in READINGS:
        _give(cls, f"__{read.__name__}__", _reading(read, cls))
    give_others(cls)
    _give(cls, "__divmod__", lambda self, other: (self // other, self % other))
    _give(cls, "__rdivmod__", lambda self, other: (other // self, other % self))


def give_others(cls: Any) -> None:
    """Define the methods of floats that are no operators, and NumPy's names, on a class of nodes."""
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
    _give_protocols(cls)
    _give_names_of_micrograd(cls)
    Real.register(cls)


def _give_protocols(cls: Any) -> None:
    """Define conversion, formatting, pickling and copying on a class of nodes."""

    def to_float(self: Any) -> float:
        raise TypeError(
            "float() of a Value would drop its gradient; take .data, or functions of micrograd_bp.math; "
            "an array that is to hold Values has dtype object"
        )

    def reduced(self: Any) -> tuple[Any, ...]:  # what is unpickled is a leaf
        return type(self), (self.data, (), "", self.label), (None, {"grad": self.grad, **self._attributes()})

    _give(cls, "__float__", to_float)
    _give(cls, "__format__", lambda self, spec: format(self.data, spec) if spec else repr(self))
    _give(cls, "__reduce__", reduced)
    _give(cls, "__copy__", lambda self: copied(self, cls))
    _give(cls, "__deepcopy__", lambda self, memo: copied(self, cls, memo))


def _give_names_of_micrograd(cls: Any) -> None:
    """Define micrograd's names for operands, symbol and backward step on a class of nodes."""
    found = {
        "_prev": lambda self: {
            x if isinstance(x, cls) else cls(x) for x in self.operands
        },  # a constant is a node there
        "_op": lambda self: self.op.symbol if self.op is not None else "",
    }
    for name, read in found.items():
        made: Any = property(read)
        made.__set_name__(cls, name)  # which the error of an assignment shows
        setattr(cls, name, made)
    cls._backward = property(backward_step, set_backward_step)


def give_help(method: Any, op: Op) -> None:
    """Give the method for an op what help() and inspect show of it."""
    others = ", ".join(op.parameters[1:]) if op.arity is not None else "*args"
    method.__doc__ = f"{op.name} of this Value{f' and {others}' * bool(others)}: see help(micrograd_bp.ops.{op.name})."
    kinds, shown = inspect.Parameter, inspect.signature(op)
    parameters = [*shown.parameters.values()][op.arity is not None :]
    own = kinds("self", kinds.POSITIONAL_ONLY)
    method.__signature__ = shown.replace(parameters=[own, *parameters], return_annotation="Value")


def copy_help(reference: Any, other: Any) -> None:
    """Give a function, or a class and its methods, docstring, annotations and signature of the like in value.py."""
    if isinstance(reference, type):
        other.__doc__, other.__signature__ = reference.__doc__, inspect.signature(reference)
        for name, function in vars(reference).items():
            if inspect.isfunction(function) and name in vars(other):
                copy_help(function, vars(other)[name])
    elif inspect.isfunction(reference) and hasattr(other, "__annotations__"):
        other.__doc__, other.__annotations__ = reference.__doc__, reference.__annotations__
        vars(other).update(vars(reference))


def _give(cls: Any, name: str, function: Any) -> None:
    """Set the function as a method, and its name to the method's, which tracebacks and TypeErrors show."""
    function.__name__, function.__qualname__ = name, f"{cls.__name__}.{name}"
    setattr(cls, name, function)


def _operand(op: Op, other: Any) -> Any:
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
    terms = [y if hasattr(type(y), "_record") else _operand(op, y) for y in (*bias, *w, *x)]
    if not any(y is NotImplemented for y in terms):
        return op(*terms)
    terms = [*bias, *[wi * xi for wi, xi in zip(w, x)]]
    return sum(terms[1:], start=terms[0])


def _method(op: Op, cls: Any) -> Callable[..., Any]:
    """The method for an op of one or two arguments: `_record`, unrolled for the commonest nodes."""
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
    """The reflected operator of an op, as for `2.0 * x`; unrolled, it takes a fifth of the time."""
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
    """The method for a comparison, bool, int or rounding: it reads the data, and reports to `jit`'s recording."""

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
    """Return read(*data), for a comparison, bool, int or rounding of the operands.

    The result, or the exception, is reported to the recording of `jit`, which makes a guard of it.
    """
    try:
        result = read(*data)
    except Exception as error:
        for recording in RECORDINGS:
            recording.raised(read, operands, error)
        raise
    if read in COMPARISONS:
        result = bool(result)  # compared with a NumPy number, a float gives a NumPy bool
    for recording in RECORDINGS:
        recording.read(read, operands, result)
    return result


def noticed(what: str, node: Any) -> None:
    """Report to the recording of `jit` a read that cannot become a guard, such as `.data`."""
    for recording in RECORDINGS:
        recording.noticed(what, node)


def copied(node: Any, cls: Any, memo: dict[int, Any] | None = None) -> Any:
    """A copy that keeps derivatives: a new node for a leaf; for any other the node itself, as for an immutable float.

    The variables that a transform or `jit` passes to a function are not copied either, though they are leaves. memo:
    the memo of `copy.deepcopy`, or None.
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
    """The operation of a node whose derivative is a function assigned to its `_backward`."""

    step: Callable[[], object] | None = field(init=False)  # adds to the grads of the operands
    pass_on: Callable[[Any], object] | None = field(init=False)  # or a function of the node, which it need not hold
    recorded: Callable[..., Any] | None = field(init=False)  # the same result from operations, for these operands

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
        """An operation with a rule, for which `backward` has a better way."""
        op = cls(name, name, forward, rule)
        object.__setattr__(op, "step", None)
        object.__setattr__(op, "pass_on", pass_on)
        object.__setattr__(op, "recorded", recorded)
        return op


def partials_at_reading(node: Any) -> tuple[float, ...]:
    """The partials of a node for which `backward` does without them: by its rule, where it has one; else nan."""
    if node.op.pass_on is None:
        return tuple(node._partials)
    return tuple(map(float, node.op.partials(node._data, *[getattr(x, "_data", x) for x in node.operands])))


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


def micrograd_arguments(children: Any, op: Any, label: Any) -> tuple[tuple[Any, ...], str, str]:
    """Operands, symbol and label from the arguments of Value(data, _children, _op, label) or Value(data, label)."""
    if isinstance(children, str) and not label:
        children, label = (), children
    if not isinstance(children, (tuple, list, set, frozenset)):
        children, label = (), children
    for name, text in (("label", label), ("_op", op)):
        if not isinstance(text, str):
            raise TypeError(f"a Value's {name} is a str, not {text!r} ({type(text).__name__})")
    return tuple([x if hasattr(type(x), "_record") else number(x) for x in children]), op, label

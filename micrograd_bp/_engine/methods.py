"""The methods of a class of nodes beside its operators: one for every op, and what else floats and arrays have."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from numbers import Real
from typing import Any

from micrograd_bp._engine import by_hand
from micrograd_bp._engine.operators import give, op_method, reading_method
from micrograd_bp._engine.recordings import VARIABLES
from micrograd_bp.ops import TABLE, Op

# NumPy's functions call these methods on the elements of an object array; each is the op of the other name.
NUMPY_NAMES = {
    "absolute": "abs", "fabs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "deg2rad": "radians", "rad2deg": "degrees",
    "conjugate": "pos", "rint": "__round__",
}  # fmt: skip
READINGS = (bool, int, math.trunc, math.floor, math.ceil, round)
FLOAT_METHODS = (float.is_integer, float.hex)


def give_methods(cls: Any) -> None:
    """Define a method for every op on the Value of value.py, and the other methods that floats have."""
    for op in TABLE.values():
        give(cls, op.name, op_method(op, cls) if op.arity == 1 else lambda self, *args, op=op: op(self, *args))
        give_help(getattr(cls, op.name), op)
    for read in READINGS:
        give(cls, f"__{read.__name__}__", reading_method(read, cls))
    give_others(cls)
    give(cls, "__divmod__", lambda self, other: (self // other, self % other))
    give(cls, "__rdivmod__", lambda self, other: (other // self, other % self))
    give(cls, "_set_op", by_hand.set_op)
    give(cls, "_attributes", lambda self: self.__dict__)  # what a program gave to a node beside a Value's own


def give_others(cls: Any) -> None:
    """Define the methods of floats that are no operators, and NumPy's names, on a class of nodes."""
    for read in FLOAT_METHODS:
        give(cls, read.__name__, reading_method(read, cls))
    ratio = reading_method(float.as_integer_ratio, cls)

    def as_integer_ratio(self: Any) -> tuple[int, int]:
        warnings.warn(
            "as_integer_ratio() of a Value gives whole numbers, and what is computed from them has no derivative "
            "(as in statistics.mean: math.fsum(xs) / len(xs) keeps it); .data.as_integer_ratio() says that it is meant",
            stacklevel=2,
        )
        pair: tuple[int, int] = ratio(self)
        return pair

    give(cls, "as_integer_ratio", as_integer_ratio)
    for alias, name in NUMPY_NAMES.items():
        setattr(cls, alias, getattr(cls, name))
    cls.real, cls.imag = property(cls.pos), property(lambda self: 0.0)
    _give_protocols(cls)
    by_hand.give_names(cls)
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

    give(cls, "__float__", to_float)
    give(cls, "__format__", lambda self, spec: format(self.data, spec) if spec else repr(self))
    give(cls, "__reduce__", reduced)
    give(cls, "__copy__", lambda self: copied(self, cls))
    give(cls, "__deepcopy__", lambda self, memo: copied(self, cls, memo))


def give_help(method: Any, op: Op) -> None:
    """Give the method for an op what help() and inspect show of it."""
    others = ", ".join(op.parameters[1:]) if op.arity is not None else "*args"
    method.__doc__ = f"{op.name} of this Value{f' and {others}' * bool(others)}: see help(micrograd_bp.ops.{op.name})."
    kinds, shown = inspect.Parameter, inspect.signature(op)
    parameters = [*shown.parameters.values()][op.arity is not None :]
    own = kinds("self", kinds.POSITIONAL_ONLY)
    method.__signature__ = shown.replace(parameters=[own, *parameters], return_annotation="Value")


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

"""The derivative of a program, found without the chain rule: differences in 50-digit arithmetic, away from kinks.

A program may turn on anything that it reads off a number. It is run on floats and on points all around, each run
writing down what it read; only where all of them read the same is the function smooth there, and has a derivative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from micrograd_bp import math as library
from micrograd_bp import testing
from micrograd_bp._engine.operators import give_operators
from tests.fuzz.programs import FuzzProgram

EXPONENT = re.compile(r"\de[-+]?\d")
Reading = tuple[str, Any]


class NoReferenceError(Exception):
    """The derivative at this point is not to be had by differences."""


class Tracked:
    """A number that writes down what is read off it."""

    __slots__ = ("number",)
    read: ClassVar[list[Reading]] = []  # of the run under way

    def __init__(self, number: Any) -> None:
        self.number = number

    @classmethod
    def _record(cls, op: Any, args: tuple[Any, ...]) -> Any:
        return cls(cls.apply(op, [arg.number if isinstance(arg, Tracked) else arg for arg in args]))

    @staticmethod
    def apply(op: Any, numbers: list[Any]) -> Any:
        return op.forward(*numbers)

    def _say(self, how: str, result: Any) -> Any:
        Tracked.read.append((how, result))
        return result

    def _compare(self, how: str, other: Any) -> Any:
        if not isinstance(other, (int, float, Tracked)):
            return NotImplemented
        other = other.number if isinstance(other, Tracked) else other
        if isinstance(self, Digits) and isinstance(other, float):
            other = testing.arithmetic().mpf(other)
        return self._say(how, bool(getattr(self.number, how)(other)))

    def __lt__(self, other: Any) -> Any:
        return self._compare("__lt__", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("__le__", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare("__gt__", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare("__ge__", other)

    def __eq__(self, other: Any) -> Any:
        return self._compare("__eq__", other)

    def __ne__(self, other: Any) -> Any:
        return self._compare("__ne__", other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self._say("bool", self.number != 0))

    def __int__(self) -> int:
        return int(self._say("int", int(self.number)))

    __trunc__ = __int__

    def __floor__(self) -> int:
        return int(self._say("floor", math.floor(float(self.number))))

    def __ceil__(self) -> int:
        return int(self._say("ceil", math.ceil(float(self.number))))

    def __round__(self, digits: int | None = None) -> Any:
        return self._say("round", round(float(self.number), digits))

    def __format__(self, spec: str) -> str:
        return str(self._say("format", format(float(self.number), spec)))

    def __float__(self) -> float:
        raise TypeError("what becomes a float has no derivative here")

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:  # a copy of mpmath's number is of another precision
        return self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self


class Plain(Tracked):
    """A float that writes down what is read off it."""

    __slots__ = ()


class Digits(Tracked):
    """A number of 50 digits that writes down what is read off it."""

    __slots__ = ()

    @staticmethod
    def apply(op: Any, numbers: list[Any]) -> Any:
        return testing.Precise._record(op, tuple(map(testing.Precise, numbers))).number


for kind in (Plain, Digits):
    give_operators(kind, lambda op: lambda *args: op(*args), lambda op: lambda y, x: op(x, y))


def run(program: FuzzProgram, numbers: Sequence[Any]) -> tuple[Any, list[Reading]]:
    """What the program gives, and what it read on its way, exceptions caught included."""
    Tracked.read = readings = []
    try:
        result = program.function(library, lambda: readings.append(("except", None)))(*numbers)
    except (ArithmeticError, ValueError, IndexError, TypeError) as error:
        raise NoReferenceError(f"{type(error).__name__}: {error}") from error
    return (result.number if isinstance(result, Tracked) else result), readings


def derivative(program: FuzzProgram, row: Sequence[float | int], axis: int) -> tuple[float, Any]:
    """The value of a program, and its derivative by a float argument to many digits; NoReferenceError at a kink."""
    mp = testing.arithmetic()
    floats = [x for x in row if isinstance(x, float)]
    ints = row[len(floats) :]
    if not all(x == 0.0 or 1e-4 < abs(x) < 1e4 for x in floats):
        raise NoReferenceError("too large or too small")
    if EXPONENT.search(program.source):
        raise NoReferenceError("a constant as small as the steps, or as large as their reciprocals")
    value, readings = run(program, [*map(Plain, floats), *ints])
    if not math.isfinite(value):
        raise NoReferenceError("not finite")

    def smooth(*point: testing.Precise) -> testing.Precise:
        result, read = run(program, [*(Digits(x.number) for x in point), *ints])
        if read != readings:
            raise NoReferenceError("a kink, or a comparison that rounding decides")
        if abs(result - mp.mpf(value)) > 1e-6 * max(1.0, abs(value)):
            raise NoReferenceError("rounding decides the value")
        return testing.Precise(result)

    try:
        if testing.kinked(smooth, floats, axis):
            raise NoReferenceError("a kink")
        return float(value), testing.derivative(smooth, floats, axis)
    except (ArithmeticError, ValueError) as error:
        raise NoReferenceError(str(error)) from error

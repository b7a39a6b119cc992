"""IEEE arithmetic as a reading of a rule: what a textbook's formula needs on floats, done once for all rows.

A rule that raises, as `0.5 / out` does at 0, is run again on numbers whose arithmetic gives inf or nan; the rule of a
homogeneous operation is taken of scaled arguments, whose squares do not overflow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from micrograd_bp._engine.operand import TABLE, Operand

if TYPE_CHECKING:
    from micrograd_bp._engine.op import Op


class Quiet(Operand):
    """A number (or Value) whose arithmetic is that of IEEE 754: a division by zero gives inf or nan and never raises.

    >>> (0.5 / Quiet(0.0)).number
    inf
    """

    __slots__ = ("number",)
    IEEE: ClassVar = {"truediv": "ieee_div", "log": "ieee_log", "pow": "ieee_pow"}

    def __init__(self, x: Any) -> None:
        self.number = x

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Quiet:
        if op.name in Quiet.IEEE and TABLE[op.name] is op:
            op = TABLE[Quiet.IEEE[op.name]]
        return Quiet(op(*map(bare, args)))


def bare(x: Any) -> Any:
    """The number in a Quiet one; anything else as it is."""
    return x.number if type(x) is Quiet else x


def quietly(op: Op, *args: Any) -> tuple[Any, ...]:
    """The operation's partials in IEEE arithmetic."""
    rule = op.rule if op.degree is None else functools.partial(scaled, op)
    partials = rule(*map(Quiet, args))
    return tuple(map(bare, partials)) if type(partials) is tuple else partials


def scaled(op: Op, out: Any, *args: Any) -> tuple[Any, ...]:
    """The partials of a homogeneous operation, by its rule of arguments that are scaled by a power of two.

    So no square overflows, or is subnormal and inexact. At the origin the slopes are 0 by convention, and have no
    derivatives; at infinity those of degree -1 are 0.
    """
    absolute, maximum, where = TABLE["abs"], TABLE["maximum"], TABLE["where"]
    size = functools.reduce(maximum, map(absolute, args))
    if type(bare(size)) is float and 2.0**-500 < bare(size) < 2.0**500:
        return op.rule(out, *args)
    scale = TABLE["rescale"](size)
    partials = op.rule(out * scale if op.degree else out, *[x * scale for x in args])
    if not op.degree:
        infinite = TABLE["less_equal"](math.inf, size)
        partials = tuple([where(infinite, 0.0, p * scale) for p in partials])
    corner = TABLE["corner"](size, *args)
    return tuple([p if type(p) is float else where(size, p, corner) for p in partials])


def choose(c: Any, f: Callable[[Any], Any], g: Callable[[Any], Any], x: Any, usual: bool) -> Any:
    """f(x) where c is not 0, else g(x): one of them if c is a float, of a constant exponent say, else `where` of both.

    usual: which of them a textbook's formula shows.
    """
    if type(c) is not float:
        c = usual if getattr(c, "formal", False) else bare(c)
        if type(c) not in (float, bool):
            return TABLE["where"](c, f(x), g(x))
    return f(x) if c else g(x)

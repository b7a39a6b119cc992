"""Formulas as text: a rule of the table, run on names, gives its formula."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from micrograd_bp._engine.op import Op
from micrograd_bp._engine.operand import TABLE, Operand


class Expr(Operand):
    """A symbolic number: operations on it give the text of the formula.

    >>> x = Expr("x")
    >>> (1 - x * x).text
    '1 - x * x'
    """

    __slots__ = ("rank", "text")
    RANKS: ClassVar = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}  # a sign has 3, a name 5

    def __init__(self, text: str, rank: int = 5) -> None:
        self.text = text
        self.rank = rank

    @classmethod
    def of(cls, x: Any) -> Expr:
        """x as a name: numbers as Python would write them."""
        if isinstance(x, cls):
            return x
        text = repr(float(x))
        if text != "-0.0":
            text = text.removesuffix(".0")
        return cls(text, 3 if text[0] == "-" else 5)

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        names = [cls.of(arg) for arg in args]
        if op.symbol == "Σ" and args:
            return cls.of(op.forward(*names))  # it is a formula
        rank = cls.RANKS.get(op.symbol, 5)
        if rank < 5 and len(names) == 2:
            left, right = names[0]._inside(rank + (rank == 4)), names[1]._inside(rank + 1)
            return cls(f"{left}{op.symbol}{right}" if rank == 4 else f"{left} {op.symbol} {right}", rank)
        if rank < 5:
            return cls(f"{op.symbol}{names[0]._inside(3)}", 3)
        return cls(f"{op.name}({', '.join(name.text for name in names)})")

    def __bool__(self) -> bool:
        raise TypeError(f"{self.text} is a name and neither true nor false; a rule chooses with where(c, x, y)")

    def _inside(self, rank: int) -> str:
        return self.text if self.rank >= rank else f"({self.text})"


class Textbook(Expr):
    """A name whose formulas are a textbook's: what a rule does at special points, or for the last bit, is left out."""

    __slots__ = ()
    RANKS: ClassVar = Expr.RANKS
    formal = True  # see ieee.choose

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        return super()._record(TABLE.get(op.symbol, op), args)  # log for ieee_log


def derivatives(op: Op, out: str = "out", *names: str) -> tuple[str, ...]:
    """The local derivatives of a row as formulas, one per argument, in the arguments' names (or in those given).

    >>> from micrograd_bp import ops
    >>> derivatives(ops.tanh), derivatives(ops.mul, "v3", "v1", "v2")
    (('1 - out * out',), ('v2', 'v1'))
    """
    rule = op.rule(*(Textbook(name) for name in (out, *(names or op.parameters))))
    return tuple(Expr.of(partial).text for partial in rule)


def operations_table() -> str:
    """The table of operations as Markdown: the call, how a picture shows it, the local derivatives."""
    lines = ["| operation | shown as | local derivatives |", "|---|---|---|"]
    for op in TABLE.values():
        names = op.parameters if op.arity is not None else ("x", "y")
        call = f"{op.name}({', '.join(names) + ', ...' * (op.arity is None)})"
        partials = ", ".join(f"`{partial}`" for partial in derivatives(op, "out", *names))
        lines.append(f"| `{call}` | `{op.symbol}` | {partials} |")
    return "\n".join(lines)


# --- help ---------------------------------------------------------------------------------------------------------


def documentation(op: Op) -> str:
    """What help() shows of an op, made from its row: what it computes, its domain, its derivatives, an example."""
    names = list(op.parameters) if op.arity is not None else ["x", "y"]
    call = f"{op.name}({', '.join(names)}{', ...' * (op.arity is None)})"
    if TABLE.get(op.name) is not op:  # a user's, whose functions may do anything: they are not called for this
        return op.forward.__doc__ or f"The operation {call}: of numbers a float; with a Value, a Value."
    if getattr(op.forward, "__module__", "") == "_operator":
        summary = f"{call} = {Expr._record(op, tuple(map(Expr, names))).text}."
    elif op.decomposition is not None and op.arity is not None:
        summary = f"{call} = {Expr.of(op.decomposition(*map(Expr, names))).text}."
    else:
        paragraphs = [text for text in (op.forward.__doc__ or call).split("\n\n") if "->" not in text]
        text = paragraphs[0].replace("\n", " ").removeprefix("Return ").rstrip(".")
        summary = f"{text[0].upper()}{text[1:]}." if text.split(" ")[0].isalpha() else f"{text}."
    point = _example(op, len(names))
    out = op.forward(*point)
    shown = names if op.arity is not None else ["*args"]
    return "\n".join([
        summary, "",
        "Of numbers it is a float; with a Value among the arguments, a Value.", "",
        "Args:",
        *[f"    {name}: {_range(*op.domain[min(k, len(op.domain) - 1)])}" for k, name in enumerate(shown)], "",
        "Returns:",
        f"    The value, `out`; its derivatives: {', '.join(derivatives(op, 'out', *names))}.", "",
        "Example:",
        f"    >>> from micrograd_bp.ops import {op.name}",
        f"    >>> {op.name}({', '.join(map(repr, point))})",
        f"    {out!r}",
        f"    >>> {op.name}.partials({', '.join(map(repr, (out, *point)))})",
        f"    {op.partials(out, *point)!r}",
    ])  # fmt: skip


def _range(low: float, high: float) -> str:
    """The numbers from low to high, in words."""
    ends = [f"from {low:.17g}"] * (low > -1.7e308) + [f"up to {high:.17g}"] * (high < 1.7e308)
    return f"A number or Value{', ' * bool(ends)}{' '.join(ends)}."


def _example(op: Op, count: int) -> tuple[float, ...]:
    """Arguments from the domain for an example."""
    limits = [op.domain[min(k, len(op.domain) - 1)] for k in range(count)]
    points = [start + 0.25 * k for k, start in enumerate((0.5, 1.25, 2.0)[:count])]
    return tuple([min(max(x, low), high) for x, (low, high) in zip(points, limits)])


class _Documentation:
    """The documentation of an op; of the class Op, its own."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def __get__(self, op: Op | None, kind: type[Op]) -> str | None:
        return self.text if op is None else documentation(op)


class _Signature:
    """The signature of an op, for inspect and help(); of the class Op, that of its constructor."""

    def __get__(self, op: Op | None, kind: type[Op]) -> inspect.Signature:
        if op is None:
            made = inspect.signature(kind.__init__)
            return made.replace(parameters=list(made.parameters.values())[1:], return_annotation=made.empty)
        kinds = inspect.Parameter
        if op.arity is None:
            parameters = [kinds("args", kinds.VAR_POSITIONAL, annotation="Value | float")]
        else:
            values = [kinds.empty] * (op.arity - len(op.defaults)) + list(op.defaults)
            parameters = [
                kinds(name, kinds.POSITIONAL_ONLY, default=value, annotation="Value | float")
                for name, value in zip(op.parameters, values)
            ]
        return inspect.Signature(parameters, return_annotation="Value | float")


def give_help() -> None:
    """Give every op a docstring and a signature made from its row, for help() and inspect."""
    for name, descriptor in (("__doc__", _Documentation(Op.__doc__)), ("__signature__", _Signature())):
        setattr(Op, name, descriptor)

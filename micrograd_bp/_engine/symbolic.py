"""Formulas as text: a rule of the table, run on names, writes itself down."""

from __future__ import annotations

from typing import Any, ClassVar

from micrograd_bp._engine.op import TABLE, Op, Operand


class Name(Operand):
    """A stand-in for a number that writes down what is done to it: a rule run on names gives its formula.

    >>> x = Name("x")
    >>> (1 - x * x).text
    '1 - x * x'
    """

    __slots__ = ("rank", "text")
    RANKS: ClassVar = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}  # a sign has 3, a name 5

    def __init__(self, text: str, rank: int = 5) -> None:
        self.text = text
        self.rank = rank

    @classmethod
    def of(cls, x: Any) -> Name:
        """x as a name: numbers as Python would write them."""
        if isinstance(x, cls):
            return x
        text = repr(float(x))
        if text != "-0.0":
            text = text.removesuffix(".0")
        return cls(text, 3 if text[0] == "-" else 5)

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Name:
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


class Textbook(Name):
    """A name whose formulas are a textbook's: what a rule does at special points, or for the last bit, is left out."""

    __slots__ = ()
    RANKS: ClassVar = Name.RANKS
    formal = True  # see ops.choose

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Name:
        return super()._record(TABLE.get(op.symbol, op), args)  # log for ieee_log


def derivatives(op: Op, out: str = "out", *names: str) -> tuple[str, ...]:
    """The local derivatives of a row as formulas, one per argument, in the arguments' names (or in those given).

    >>> from micrograd_bp import ops
    >>> derivatives(ops.tanh), derivatives(ops.mul, "v3", "v1", "v2")
    (('1 - out * out',), ('v2', 'v1'))
    """
    rule = op.rule(*(Textbook(name) for name in (out, *(names or op.parameters))))
    return tuple(Name.of(partial).text for partial in rule)


def operations_table() -> str:
    """The table of operations as Markdown: the call, how a picture shows it, the local derivatives."""
    lines = ["| operation | shown as | local derivatives |", "|---|---|---|"]
    for op in TABLE.values():
        names = op.parameters if op.arity is not None else ("x", "y")
        call = f"{op.name}({', '.join(names) + ', ...' * (op.arity is None)})"
        partials = ", ".join(f"`{partial}`" for partial in derivatives(op, "out", *names))
        lines.append(f"| `{call}` | `{op.symbol}` | {partials} |")
    return "\n".join(lines)

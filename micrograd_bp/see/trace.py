"""What backward() does with a graph, step by step, and its trace table."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from micrograd_bp._engine.labels import Listing, check_value
from micrograd_bp._engine.sweeps import adjoints
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op, mul, neg
from micrograd_bp.see.opened import opened
from micrograd_bp.value import Value


class Trace(Listing):
    """A graph and its adjoints, as backward() computes them from 1 at the first output; no grad is touched."""

    def __init__(self, output: Value | Sequence[Value]) -> None:
        super().__init__(output)
        self.adjoints = adjoints(self.output, self.nodes)

    def terms(self, node: Value, adjoint: str = "{}'") -> list[str]:
        """The term that the node adds to the adjoint of each operand, such as v4' * v2; "" for a plain number."""
        operands = [_Plain(self.names[x]) if isinstance(x, Value) else x for x in node.operands]
        partials = partials_of(node, _Plain(self.names[node]), operands)
        if partials is None:
            partials = node.partials
        own = _Plain(adjoint.format(self.names[node]))
        return [
            product(own, partial).text if isinstance(operand, Value) and partial != 0.0 else ""
            for operand, partial in zip(node.operands, partials)
        ]


class _Plain(Expr):
    """A name whose formulas leave out factors and exponents of 1."""

    __slots__ = ()
    RANKS: ClassVar = Expr.RANKS

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        if op.symbol in ("*", "**") and len(args) == 2 and 1.0 in args:
            if args[1] == 1.0:
                return cls.of(args[0])
            if op.symbol == "*":
                return cls.of(args[1])
        return super()._record(op, args)


def partials_of(
    node: Value, out: Expr, operands: Sequence[Expr | float], everywhere: bool = False
) -> Sequence[Expr | float] | None:
    """A node's local derivatives as its row writes them; None where a user's rule cannot be run on names.

    everywhere: written with the IEEE operations that give its number at every point, not as the textbook has it.
    """
    if node.op is None:
        return ()
    try:
        partials: Sequence[Expr | float] = (node.op.partials if everywhere else node.op.rule)(out, *operands)
        return partials if all(isinstance(x, Expr | int | float) for x in partials) else None
    except Exception:  # whatever a function that is meant for numbers may raise
        return None


def product(adjoint: Expr, partial: Expr | float, op: Op = mul) -> Expr:
    """The chain rule's product, without a factor of 1 or -1."""
    if not isinstance(partial, Expr) and partial in (1.0, -1.0):
        return adjoint if partial == 1.0 else type(adjoint).of(neg(adjoint))
    return type(adjoint).of(op(adjoint, partial))


class TraceRow(NamedTuple):
    """A row of the table, for one node: its equation and value, the formula of its adjoint, and the adjoint."""

    forward: str
    value: float
    reverse: str
    adjoint: float


class TraceTable:
    """The two traces of a graph: its text is a table, and a notebook displays one."""

    HEAD = ("forward trace", "value", "reverse trace", "adjoint")

    def __init__(self, rows: Sequence[TraceRow], number_format: str, left_out: tuple[int, int]) -> None:
        self.rows = rows
        self._format = number_format
        self._left_out = left_out  # how many rows are not shown, and in front of which row they would stand

    def cells(self) -> Iterator[tuple[str, str, str, str]]:
        """The rows as text, with a row of dots for those that are left out."""
        for place, row in enumerate(self.rows):
            if self._left_out[0] and place == self._left_out[1]:
                yield f"... {self._left_out[0]:,} more nodes", "...", "...", "..."
            yield row.forward, format(row.value, self._format), row.reverse, format(row.adjoint, self._format)

    def __str__(self) -> str:
        cells = [self.HEAD, *self.cells()]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  |  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}}"
            for row in cells
        ]
        lines.insert(1, f"{'-' * (widths[0] + widths[1] + 4)}+{'-' * (widths[2] + widths[3] + 4)}")
        return "\n".join(lines)

    __repr__ = __str__

    def markdown(self) -> str:
        """The table in Markdown."""
        rows = [[_code(cell) for cell in row] for row in self.cells()]
        lines = [self.HEAD, ("---", "---:", "---", "---:"), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def html(self) -> str:
        """The table in HTML."""
        style = ('style="text-align:left"', 'style="text-align:right"') * 2
        head = "".join(f"<th {s}>{cell}</th>" for s, cell in zip(style, self.HEAD))
        rows = (
            "".join(f"<td {s}><code>{html.escape(cell)}</code></td>" for s, cell in zip(style, row))
            for row in self.cells()
        )
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    _repr_html_ = html


def trace_table(
    output: Value, number_format: str = ".6g", max_rows: int | None = 200, *, expand: bool = False
) -> TraceTable:
    """The forward trace (primal values) and the reverse trace (adjoints, from a seed of 1) of a graph, side by side.

    Read the left half downwards and the right half upwards. v' stands for d output / d v. No grad is read or changed.

    Args:
        output: What is differentiated.
        number_format: A format specification for values and adjoints.
        max_rows: Of a longer table the first and the last half of so many rows are shown; None: all of
            them.
        expand: Whether the products and sums in the net input of a unit have rows of their own.

    Returns:
        The table: printing shows text, `.markdown()` and `.html()` give it in these languages, `.rows` its
        contents.

    Raises:
        TypeError: `output` is no Value.

    Source:
        Laid out as in Baydin et al., Automatic differentiation in machine learning: a survey (2018), table
        3.

    Example:
        >>> x, y = Value(2.0, "x"), Value(3.0, "y")
        >>> trace_table((x * y).log() + x)
        forward trace    value  |  reverse trace          adjoint
        ------------------------+--------------------------------
        x                    2  |  x' = v3' + v1' * y         1.5
        y                    3  |  y' = v1' * x          0.333333
        v1 = x * y           6  |  v1' = v2' * (1 / v1)  0.166667
        v2 = log(v1)   1.79176  |  v2' = v3'                    1
        v3 = v2 + x    3.79176  |  v3' = 1                      1
    """
    check_value(output, "trace_table")
    trace = Trace(opened(output) if expand else output)
    head = len(trace.nodes) if max_rows is None else max(max_rows, 2) // 2
    tail = max(head, len(trace.nodes) - head)
    shown = set(trace.nodes[:head]) | set(trace.nodes[tail:])
    sums: dict[Value, list[str]] = {node: [] for node in shown}
    for node in reversed(trace.interior):
        if not shown.isdisjoint(node._prev):
            for operand, term in zip(node.operands, trace.terms(node)):
                if term and operand in shown and isinstance(operand, Value):
                    sums[operand].append(term)
    rows = []
    for node in (*trace.nodes[:head], *trace.nodes[tail:]):
        name = trace.names[node]
        forward = f"{name} = {trace.expression(node)}" if node.op is not None else name
        adjoint = _sum(sums[node]) if node is not trace.output else "1"
        rows.append(TraceRow(forward, node.data, f"{name}' = {adjoint}", trace.adjoints[node]))
    return TraceTable(rows, number_format, (tail - head, head))


def _sum(terms: list[str]) -> str:
    """Terms written as a sum; of very many only some."""
    shown = terms if len(terms) <= 6 else [*terms[:4], f"... ({len(terms) - 5} more)", terms[-1]]
    return " + ".join(shown).replace(" + -", " - ") or "0"


def _code(text: str) -> str:
    """Text as code in a cell of a Markdown table; labels and names of ops cannot hold a backquote here."""
    return f"`{text}`".replace("|", "\\|")

"""Explanations of a graph: its trace table, its paths, its formula, and its backward pass as Python source."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from micrograd_bp.names import Name
from micrograd_bp.ops import Op, chain, mul, neg
from micrograd_bp.source import Listing, Source, Writer, check_value, check_values, fresh
from micrograd_bp.value import Value


class Contribution(NamedTuple):
    """What one use of an operand adds to its adjoint: operand' += node' * partial, which makes it `total`."""

    operand: Value
    place: int  # among the node's operands
    adjoint: float
    partial: float
    total: float


class Trace(Listing):
    """A graph and what backward() does with it, step by step, from a seed of 1.

    backward() takes `interior` in reverse. `contributions` holds what each node sends to its operands, in the order in
    which it is added up, and `adjoints` the sums. No grad is read or changed.
    """

    def __init__(self, output: Value) -> None:
        super().__init__(output)
        self.adjoints = dict.fromkeys(self.nodes, 0.0)
        self.adjoints[output] = 1.0
        self.contributions: dict[Value, list[Contribution]] = {}
        for node in reversed(self.interior):
            adjoint = self.adjoints[node]
            self.contributions[node] = sent = []
            for place, (operand, partial) in enumerate(zip(node.operands, node.partials)):
                if adjoint and isinstance(operand, Value):  # 0 passes nothing on, as in backward()
                    self.adjoints[operand] = total = self.adjoints[operand] + chain(adjoint, partial)
                    sent.append(Contribution(operand, place, adjoint, partial, total))

    def terms(self, node: Value, adjoint: str = "{}'") -> list[str]:
        """What the node adds to the adjoints of its operands, one by one: v4' * v2; nothing for a plain number."""
        operands = [_Plain(self.names[x]) if isinstance(x, Value) else x for x in node.operands]
        partials = partials_of(node, _Plain(self.names[node]), operands)
        if partials is None:
            partials = node.partials
        own = _Plain(adjoint.format(self.names[node]))
        return [
            product(own, partial).text if isinstance(operand, Value) and partial != 0.0 else ""
            for operand, partial in zip(node.operands, partials)
        ]


class _Plain(Name):
    """A name that leaves out what says nothing: a factor or an exponent of 1."""

    __slots__ = ()
    RANKS: ClassVar = Name.RANKS

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Name:
        if op.symbol in ("*", "**") and len(args) == 2 and 1.0 in args:
            if args[1] == 1.0:
                return cls.of(args[0])
            if op.symbol == "*":
                return cls.of(args[1])
        return super()._record(op, args)


def partials_of(node: Value, out: Name, operands: Sequence[Name | float]) -> Sequence[Name | float] | None:
    """A node's local derivatives as its row writes them; None where a user's rule cannot be run on names."""
    try:
        partials: Sequence[Name | float] = () if node.op is None else node.op.partials(out, *operands)
        return partials if all(isinstance(x, Name | int | float) for x in partials) else None
    except Exception:  # whatever a function that is meant for numbers may raise
        return None


def product(adjoint: Name, partial: Name | float, op: Op = mul) -> Name:
    """The chain rule's product, without a factor of 1 or -1."""
    if not isinstance(partial, Name) and partial in (1.0, -1.0):
        return adjoint if partial == 1.0 else type(adjoint).of(neg(adjoint))
    return type(adjoint).of(op(adjoint, partial))


# --- trace table --------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One node: its forward equation and value, the formula of its adjoint and the adjoint."""

    forward: str
    value: float
    reverse: str
    adjoint: float


class TraceTable:
    """The two traces of a graph; prints itself, and shows itself in a notebook."""

    HEAD = ("forward trace", "value", "reverse trace", "adjoint")

    def __init__(self, rows: Sequence[Row], number_format: str, left_out: tuple[int, int]) -> None:
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


def trace_table(output: Value, number_format: str = ".6g", max_rows: int | None = 200) -> TraceTable:
    """The forward trace (primal values) and the reverse trace (adjoints, from a seed of 1) of a graph, side by side.

    Read the left half downwards and the right half upwards. v' stands for d output / d v. Printing shows text;
    `.markdown()` and `.html()` give the same table in these languages, `.rows` its contents; of a longer table than
    `max_rows` the first and the last half are shown. No grad is read or changed. Laid out as in Baydin et al.,
    Automatic differentiation in machine learning: a survey (2018), table 3.

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
    trace = Trace(output)
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
        adjoint = _sum(sums[node]) if node is not output else "1"
        rows.append(Row(forward, node.data, f"{name}' = {adjoint}", trace.adjoints[node]))
    return TraceTable(rows, number_format, (tail - head, head))


def _sum(terms: list[str]) -> str:
    """Terms written as a sum; of very many only some."""
    shown = terms if len(terms) <= 6 else [*terms[:4], f"... ({len(terms) - 5} more)", terms[-1]]
    return " + ".join(shown).replace(" + -", " - ") or "0"


def _code(text: str) -> str:
    """Text as code in a cell of a Markdown table; by readable() and the rows' names it holds no ` of its own."""
    return f"`{text}`".replace("|", "\\|")


# --- paths --------------------------------------------------------------------------------------------------------


class Path(NamedTuple):
    """One path: its nodes from the output to x, the local derivative of each step, and their product."""

    nodes: tuple[Value, ...]
    partials: tuple[float, ...]
    product: float


class Paths:
    """The paths from an output to x; prints their count, those listed, and the sum of their products."""

    def __init__(self, trace: Trace, x: Value, count: int, listed: Sequence[Path], number_format: str) -> None:
        self.count = count
        self.listed = listed
        self.gradient = trace.adjoints.get(x, 0.0)
        self._trace, self._x, self._format = trace, x, number_format

    @property
    def total(self) -> float:
        """The sum of the listed products: the gradient, where all paths are listed."""
        return sum((path.product for path in self.listed), 0.0)

    def __str__(self) -> str:
        names, spec = self._trace.names, self._format
        ends = f"from {names[self._trace.output]} to {names.get(self._x, self._x.label or 'x')}"
        count = f"{self.count:,}" if self.count < 10**15 else f"about 10**{math.log10(self.count):.1f}"
        lines = [f"{count} path{'s' * (self.count != 1)} {ends}"]
        for path in self.listed:
            steps = [names[node] for node in path.nodes]
            factors = [format(partial, spec) for partial in path.partials]
            lines.append(f"  {_short(steps, ' <- ')}:  {_short(factors, ' * ') or '1'} = {path.product:{spec}}")
        if len(self.listed) < self.count:
            rest = self.count - len(self.listed)
            lines.append(f"  ... and {f'{rest:,}' if rest < 10**15 else 'all the others'}, which are not listed")
            lines.append(f"sum of the listed products: {self.total:{spec}}")
        else:
            lines.append(f"sum of the products: {self.total:{spec}}")
        lines.append(f"the gradient, from one sweep over {len(self._trace.interior):,} nodes: {self.gradient:{spec}}")
        return "\n".join(lines)

    __repr__ = __str__


def paths(output: Value, x: Value, limit: int = 100, number_format: str = ".6g") -> Paths:
    """Every path from the output to x, with the product of its local derivatives: their sum is the gradient.

    `.count` is exact, however many there are; `.listed` holds the first `limit` of them, `.total` is their sum and
    `.gradient` what the backward sweep gives. An operand used twice, as in x * x, makes two paths. That the sum over
    paths is the gradient is Bauer's formula (Computational graphs and rounding error, 1974).

    >>> a = Value(3.0, "a")
    >>> b = a * a
    >>> paths(b.sin() * b, a)
    4 paths from v3 to a
      v3 <- v2 <- v1 <- a:  9 * -0.91113 * 3 = -24.6005
      v3 <- v2 <- v1 <- a:  9 * -0.91113 * 3 = -24.6005
      v3 <- v1 <- a:  0.412118 * 3 = 1.23636
      v3 <- v1 <- a:  0.412118 * 3 = 1.23636
    sum of the products: -46.7283
    the gradient, from one sweep over 3 nodes: -46.7283
    """
    check_value(output, "paths")
    check_value(x, "paths")
    if limit < 0:
        raise ValueError(f"limit is a count of paths, 0 or more; not {limit}")
    trace = Trace(output)
    reaching = {x}  # the nodes that depend on x: no other leads there
    for node in trace.interior:
        if node is not x and not reaching.isdisjoint(node._prev):
            reaching.add(node)
    counts = {output: 1}
    for node in reversed(trace.interior):
        if node in counts and node is not x:
            count = counts.pop(node)
            for operand in node.operands:
                if operand in reaching and isinstance(operand, Value):
                    counts[operand] = counts.get(operand, 0) + count
    listed = list(itertools.islice(_walk(output, x, reaching), limit)) if x in counts else []
    return Paths(trace, x, counts.get(x, 0), listed, number_format)


def _walk(output: Value, x: Value, reaching: set[Value]) -> Iterator[Path]:
    """The paths one by one; each step goes to a node that depends on x, so none is in vain."""

    def steps(node: Value, product: float) -> Iterator[tuple[Value, float, float]]:
        for operand, partial in zip(node.operands, node.partials):
            if operand in reaching and isinstance(operand, Value):
                yield operand, partial, chain(product, partial)

    nodes, partials = [output], [math.nan]
    stack = [steps(output, 1.0)] if output is not x else []
    if output is x:
        yield Path((x,), (), 1.0)
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            nodes.pop()
            partials.pop()
            continue
        node, partial, product = step
        if node is x:
            yield Path((*nodes, x), (*partials[1:], partial), product)
        else:
            nodes.append(node)
            partials.append(partial)
            stack.append(steps(node, product))


def _short(parts: list[str], separator: str) -> str:
    """The parts in a line, with dots for the middle of very many."""
    shown = parts if len(parts) <= 16 else [*parts[:7], f"... {len(parts) - 14} more ...", *parts[-7:]]
    return separator.join(shown)


# --- formula ------------------------------------------------------------------------------------------------------


class Formula(str):
    """An expression as text; `.latex` holds it for typesetting, and a notebook shows that."""

    latex: str

    def __new__(cls, text: str, latex: str) -> Formula:
        formula = super().__new__(cls, text)
        formula.latex = latex
        return formula

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex}$"


class _Latex(Name):
    """A name that writes LaTeX: what the symbols of the rows look like in print."""

    __slots__ = ()
    RANKS: ClassVar = Name.RANKS
    FORMS: ClassVar = {  # by symbol: how it is written, and how tightly that binds
        "/": (r"\frac{{{0}}}{{{1}}}", 3),
        "//": (r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor", 5),
        "sqrt": (r"\sqrt{{{0}}}", 5),
        "cbrt": (r"\sqrt[3]{{{0}}}", 5),
        "abs": (r"\left|{0}\right|", 5),
        "exp": (r"e^{{{0}}}", 4),
        "floor": (r"\left\lfloor {0} \right\rfloor", 5),
    }
    INFIX: ClassVar = {"*": r"\cdot", "%": r"\bmod"}
    GREEK: ClassVar = {
        *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi"),
        *("pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
    }

    @classmethod
    def of(cls, x: Any) -> Name:
        name = x if isinstance(x, cls) else Name.of(x)
        if isinstance(name, cls):
            return name
        mantissa, _, exponent = name.text.partition("e")
        numbers = {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}
        if exponent:
            return cls(rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 2)
        return cls(numbers.get(name.text, name.text), name.rank)

    @classmethod
    def variable(cls, name: str) -> Name:
        """A name with its numbers as indices: x1, w_hidden, w[0], theta2."""
        base, *indices = re.findall(r"[^\W\d_]+|\d+", name) or [name]
        base = rf"\{base}" if base in cls.GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
        return cls(f"{base}_{{{','.join(indices)}}}" if indices else base)

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Name:
        names = [cls.of(arg) for arg in args]
        form, rank = cls.FORMS.get(op.symbol, ("", 0))
        if form:
            return cls(form.format(*(name.text for name in names)), rank)
        rank = cls.RANKS.get(op.symbol, 5)
        if op.symbol == "**":
            return cls(f"{names[0]._inside(5)}^{{{names[1].text}}}", 4)
        if rank < 5 and len(names) == 2:
            left, right = names[0]._inside(rank), names[1]._inside(rank + 1)
            return cls(f"{left} {cls.INFIX.get(op.symbol, op.symbol)} {right}", rank)
        if rank < 5:
            return cls(f"{op.symbol}{names[0]._inside(3)}", 3)
        function = (op.symbol if op.symbol.isalpha() else op.name).replace("_", r"\_")
        return cls(rf"\operatorname{{{function}}}\left({', '.join(name.text for name in names)}\right)")

    def _inside(self, rank: int) -> str:
        return self.text if self.rank >= rank else rf"\left({self.text}\right)"


def formula(value: Value, limit: int = 400) -> Formula:
    """The expression that made a value, in its leaves, as text; `.latex` has it for typesetting.

    Labels are the leaves' names, where they are words; else x1, x2, ... Where the expression in full is longer than
    `limit` characters, nodes used more than once (and pieces of that length) get a name and a line of their own.

    >>> a, b = Value(2.0, "a"), Value(3.0, "b1")
    >>> c = a * b
    >>> formula((c + 1) / c.sqrt())
    '(a * b1 + 1) / sqrt(a * b1)'
    >>> print(formula((c + 1) / c.sqrt()).latex)
    \\frac{a \\cdot b_{1} + 1}{\\sqrt{a \\cdot b_{1}}}
    """
    check_value(value, "formula")
    trace = Trace(value)
    cut: set[Value] = set()  # the nodes with a line of their own
    lengths: dict[Value, int] = {}
    for node in trace.nodes:
        operands = [lengths[x] if isinstance(x, Value) else 3 for x in node.operands]
        lengths[node] = min(len(trace.expression(node) or trace.names[node]) + sum(operands), limit + 1)
    if lengths[value] > limit:
        uses = Counter(x for node in trace.interior for x in node.operands if isinstance(x, Value))
        cut = {node for node, count in uses.items() if count > 1 and node.op is not None}

    def write(kind: type[Name], variable: Callable[[str], Name]) -> tuple[str, list[tuple[str, str]]]:
        names = {node: variable(name) for node, name in trace.names.items()}
        texts = {leaf: names[leaf] for leaf in trace.leaves}
        lines = []
        for node in trace.interior:
            assert node.op is not None
            text = kind._record(node.op, tuple(texts[x] if isinstance(x, Value) else x for x in node.operands))
            if kind is Name and len(text.text) > limit and node is not value:
                cut.add(node)
            if node in cut:
                lines.append((names[node].text, text.text))
                text = names[node]
            texts[node] = text
        return texts[value].text, lines

    text, lines = write(Name, Name)
    if lines:
        width = max(len(name) for name, _ in lines)
        where = [f"{'where' if not i else '':5} {name:<{width}} = {line}" for i, (name, line) in enumerate(lines)]
        text = "\n".join([text, *where])
    latex, lines = write(_Latex, _Latex.variable)
    if lines:
        rows = " \\\\\n".join([f"& {latex}", *(f"{name} &= {line}" for name, line in lines)])
        latex = f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"
    return Formula(text, latex)


# --- source -------------------------------------------------------------------------------------------------------


def backward_source(output: Value, inputs: Sequence[Value], name: str = "f") -> Source:
    """The forward and the backward pass as a straight-line Python function: it returns the output and its gradient.

    The function takes a float for every input and gives `output, [d output / d input, ...]`: the numbers that recording
    and backward() give. v_bar is the adjoint of v; each of its terms has a line, in backward()'s order, and the rules
    are those of the table, run on names. Where a rule may give inf at a finite point, and behind it, `chain` stands for
    the product: 0 times anything is 0. (Elsewhere a plain product does, so that a forward value which overflows to inf
    may make nan of an adjoint that is 0.) The text runs as it is, a user's own rows excepted; `.function()` runs in any
    case. ValueError: an input given twice, or a name that is none.

    >>> a, b, c = Value(2.0, "a"), Value(-3.0, "b"), Value(10.0, "c")
    >>> source = backward_source((a * b + c).tanh(), [a, b, c])
    >>> print(source)
    from micrograd_bp.ops import tanh
    <BLANKLINE>
    <BLANKLINE>
    def f(a, b, c):
        # forward
        v1 = a * b
        v2 = v1 + c
        v3 = tanh(v2)
        # backward
        v3_bar = 1.0
        v2_bar = v3_bar * (1.0 - v3 * v3)
        v1_bar = v2_bar
        c_bar = v2_bar
        a_bar = v1_bar * b
        b_bar = v1_bar * a
        return v3, [a_bar, b_bar, c_bar]
    >>> source.function()(2.0, -3.0, 6.0)
    (0.0, [-3.0, 2.0, 1.0])
    """
    check_value(output, "backward_source")
    check_values(inputs, "backward_source", "inputs")
    writer = Writer([output], inputs, name)
    relevant = set(inputs)  # and whatever depends on them
    for node in writer.order:
        if not relevant.isdisjoint(node._prev):
            relevant.add(node)
    bars: dict[Value, Name] = {}  # the adjoints that have a value so far
    wild: set[Value] = set()  # the nodes whose adjoints may be infinite at a finite point

    def bar(node: Value) -> Name:
        return writer.text(fresh(f"{writer.variables[node].text}_bar", writer.taken))

    def backward() -> Iterator[str]:
        if output in relevant:
            bars[output] = bar(output)
            yield f"{bars[output].text} = 1.0"
        for node in reversed(writer.order):
            if node not in bars or node.op is None:
                continue
            operands = [writer.operand(x) for x in node.operands]
            partials = partials_of(node, writer.variables[node], operands)
            if partials is None:  # a user's rule that runs on numbers only: called as it is
                called = writer.call(node.op, "partials", [writer.variables[node], *operands])
                partials = [writer.text(f"{called}[{place}]") for place in range(len(operands))]
            for operand, partial in zip(node.operands, partials):
                if isinstance(operand, Value) and operand in relevant and partial != 0.0:
                    text = writer.text.of(partial).text
                    infinite = node in wild or any(word in text for word in ("inf", "nan", "ieee_", "partials("))
                    if infinite:
                        wild.add(operand)
                    term = product(bars[node], partial, chain if infinite else mul).text
                    equals = "+=" if operand in bars else "="
                    if operand not in bars:
                        bars[operand] = bar(operand)
                    yield f"{bars[operand].text} {equals} {term}"

    body = ["# forward", *writer.forward(), "# backward", *backward()]
    gradient = ", ".join(bars[x].text if x in bars else "0.0" for x in inputs)
    return writer.source(body, (f"{writer.text.of(writer.operand(output)).text}, [", gradient, "]"), header=True)

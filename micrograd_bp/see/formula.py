"""The expression that made a value, as text and as LaTeX."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from micrograd_bp._engine.labels import check_value
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op
from micrograd_bp.see.trace import Trace
from micrograd_bp.value import Value


class Formula(str):
    """An expression as text; `.latex` holds it for typesetting, and a notebook shows that."""

    latex: str

    def __new__(cls, text: str, latex: str) -> Formula:
        formula = super().__new__(cls, text)
        formula.latex = latex
        return formula

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex}$"


class _Latex(Expr):
    """A name that writes LaTeX: what the symbols of the rows look like in print."""

    __slots__ = ()
    RANKS: ClassVar = Expr.RANKS
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
    def of(cls, x: Any) -> Expr:
        name = x if isinstance(x, cls) else Expr.of(x)
        if isinstance(name, cls):
            return name
        mantissa, _, exponent = name.text.partition("e")
        numbers = {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}
        if exponent:
            return cls(rf"{mantissa} \cdot 10^{{{int(exponent)}}}", 2)
        return cls(numbers.get(name.text, name.text), name.rank)

    @classmethod
    def variable(cls, name: str) -> Expr:
        """A name with its numbers as indices: x1, w_hidden, w[0], theta2."""
        base, *indices = re.findall(r"[^\W\d_]+|\d+", name) or [name]
        base = rf"\{base}" if base in cls.GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
        return cls(f"{base}_{{{','.join(indices)}}}" if indices else base)

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        names = [cls.of(arg) for arg in args]
        if op.symbol == "Σ" and args:
            return cls.of(op.forward(*names))  # it is a formula
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

    Labels are the leaves' names, where they are words; else x1, x2, ...

    Args:
        value: The result of the expression.
        limit: Where the expression in full is longer than so many characters, nodes used more than once
            (and pieces of that length) get a name and a line of their own.

    Returns:
        The text, with `.latex`; a notebook shows it typeset.

    Raises:
        TypeError: `value` is no Value.

    Example:
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

    def write(kind: type[Expr], variable: Callable[[str], Expr]) -> tuple[str, list[tuple[str, str]]]:
        names = {node: variable(name) for node, name in trace.names.items()}
        texts = {leaf: names[leaf] for leaf in trace.leaves}
        lines = []
        for node in trace.interior:
            assert node.op is not None
            text = kind._record(node.op, tuple(texts[x] if isinstance(x, Value) else x for x in node.operands))
            if kind is Expr and len(text.text) > limit and node is not value:
                cut.add(node)
            if node in cut:
                lines.append((names[node].text, text.text))
                text = names[node]
            texts[node] = text
        return texts[value].text, lines

    text, lines = write(Expr, Expr)
    if lines:
        width = max(len(name) for name, _ in lines)
        where = [f"{'where' if not i else '':5} {name:<{width}} = {line}" for i, (name, line) in enumerate(lines)]
        text = "\n".join([text, *where])
    latex, lines = write(_Latex, _Latex.variable)
    if lines:
        rows = " \\\\\n".join([f"& {latex}", *(f"{name} &= {line}" for name, line in lines)])
        latex = f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"
    return Formula(text, latex)

"""The expression that made a value, as text and as LaTeX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from micrograd_bp._engine.labels import check_value
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.see.trace import Trace
from micrograd_bp.see.typesetting import Latex
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
    latex, lines = write(Latex, Latex.variable)
    if lines:
        rows = " \\\\\n".join([f"& {latex}", *(f"{name} &= {line}" for name, line in lines)])
        latex = f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"
    return Formula(text, latex)

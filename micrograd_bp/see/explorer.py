"""A page to play with: a graph evaluated and differentiated step by step, with other numbers too."""

from __future__ import annotations

import html
import json
import math
import os
import re
import sys
import tempfile
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any

from micrograd_bp._engine import files
from micrograd_bp._engine.labels import check_outputs, check_value, written
from micrograd_bp._engine.symbolic import Expr, derivatives
from micrograd_bp.ops import number
from micrograd_bp.see.javascript import Script, javascript
from micrograd_bp.see.opened import opened
from micrograd_bp.see.parts import find_parts, members
from micrograd_bp.see.trace import Trace, partials_of
from micrograd_bp.see.typesetting import MathML
from micrograd_bp.uncertainty import rounding_error
from micrograd_bp.value import Value

HERE = Path(__file__).parent
SPEC = re.compile(r"([+]?)(?:\.(\d{1,2}))?([efg])")
LONGEST_FORMULA = 200  # characters of a formula in the page's head


class Page:
    """The page: `.html` is its text and `.path` the file it was written to; a notebook displays it."""

    def __init__(self, text: str, path: str | None, steps: int) -> None:
        self.html, self.path, self.steps = text, path, steps

    def __repr__(self) -> str:
        return f"<Page of {self.steps} steps{f', written to {self.path}' if self.path else ''}>"

    def _repr_html_(self) -> str:
        frame = 'style="width:100%;height:820px;border:0" title="backward pass, step by step"'
        return f'<iframe srcdoc="{html.escape(self.html)}" {frame}></iframe>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page atomically; a missing folder is made. OSError: the message names the path."""
        files.write(path, self.html, folders=True)
        self.path = os.fspath(path)

    def open(self) -> None:
        """Show the page in a browser, from a temporary file if it was not written to another."""
        if self.path is None:
            self.save(Path(tempfile.mkdtemp(prefix="micrograd_bp")) / "explore.html")
        webbrowser.open(Path(self.path or "").absolute().as_uri())


def explore(
    output: Value | Sequence[Value],
    path: str | os.PathLike[str] | EllipsisType | None = ...,
    *,
    title: str = "",
    model: Any = None,
    parameters: Sequence[Value] | None = None,
    examples: Mapping[Value, Sequence[float]] | None = None,
    number_format: str = ".4g",
    max_nodes: int = 1_000,
    expand: bool = False,
) -> Page:
    """A page that steps through a graph's evaluation and its chain rule, and computes both again for other numbers.

    One HTML file that refers to nothing outside: leaves are typed or dragged to other numbers, and the page evaluates
    the graph and differentiates it by the rows of the table, written as JavaScript. It steps by buttons, a slider and
    the keys left, right, space, Home and End; it descends along the gradient and draws the loss. The numbers that it
    opens with are those recorded, its gradients those that backward() leaves where every grad was 0; no grad is read or
    changed.

    Args:
        output: What is differentiated; of several, the reader chooses.
        path: Where the page is written (missing folders are made); None: nowhere. Without it, the page
            shows itself in a notebook, and elsewhere goes to explore.html, which is printed.
        title: The page's heading.
        model: Its parts (layers, neurons) become frames that fold and unfold, as in `draw`.
        parameters: The leaves that descent moves (default: the model's parameters, or all leaves).
        examples: For some leaves a column of numbers: the page shows one row at a time and descends on the
            mean.
        number_format: A plus sign or none, a precision and one of e, f, g: .4g, +.3f.
        max_nodes: More are refused.
        expand: Whether a unit's net input, which is one box, Σ, is opened out into its products and sums.

    Returns:
        The page: `.html`, `.path`, `.save(path)`, `.open()` in a browser.

    Raises:
        TypeError: `output` is no Value.
        ValueError: There are too many nodes, the format is unknown, or examples or parameters are not
            leaves of this graph.
        OSError: The file cannot be written; it names the path.

    Example:
        >>> x = Value(3.0, "x")
        >>> explore(x * x + x, path=None)
        <Page of 7 steps>
    """
    check_outputs(output, "explore")
    output = opened(output) if expand else output
    spec = SPEC.fullmatch(number_format)
    if spec is None:
        raise ValueError(f"number_format is such as .4g, .3f, +.2e; not {number_format!r}")
    trace = Trace(output)
    if len(trace.nodes) > max_nodes:
        raise ValueError(
            f"{len(trace.nodes):,} nodes are more than anyone steps through; explore a part of the graph, or pass "
            f"max_nodes= (now {max_nodes:,})"
        )
    index = {node: place for place, node in enumerate(trace.nodes)}
    rules, obstacle = _rules(trace)
    groups, of = _groups(trace, model)
    if parameters is None:
        own = {x for x in model.parameters() if isinstance(x, Value)} if hasattr(model, "parameters") else set()
        moved = [index[leaf] for leaf in trace.leaves if leaf in own or not own]
    else:
        moved = [_leaf(index, x, "parameters") for x in parameters]
    columns = {_leaf(index, x, "examples"): [number(y, "examples") for y in ys] for x, ys in (examples or {}).items()}
    if len({len(column) for column in columns.values()}) > 1 or any(not column for column in columns.values()):
        raise ValueError(f"columns of examples are of one length, not {sorted({*map(len, columns.values())})}")
    shares, rounding = _rounding(trace)
    program = {
        "nodes": [_node(trace, node, index, rules, of) | shares.get(node, {}) for node in trace.nodes],
        "rounding": rounding,
        "outputs": list(dict.fromkeys(index[node] for node in trace.outputs)),
        "groups": groups,
        "moved": [leaf for leaf in moved if leaf not in columns],
        "examples": {leaf: [_plain(y) for y in column] for leaf, column in columns.items()},
        "format": {"sign": spec[1], "digits": int(spec[2] or 6), "kind": spec[3]},
        "obstacle": obstacle,
    }
    several = len(trace.outputs) > 1
    name = "several outputs" if several else trace.output.label or trace.names[trace.output]
    formula = "" if several else _formula(trace)
    contents = {
        "title": html.escape(title or f"Backward from {name}, step by step"),
        "subtitle": f'<math class="formula"><mrow>{formula}</mrow></math>' if formula else "",
        "program": json.dumps(program, allow_nan=False).replace("<", "\\u003c"),
        "numeric": (HERE / "numeric.js").read_text("utf-8"),
        "rules": rules.text,
        "layout": (HERE / "layout.js").read_text("utf-8"),
        "page": (HERE / "explorer.js").read_text("utf-8"),
    }
    template = (HERE / "explorer.html").read_text("utf-8")
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: contents[match[1]], template)
    text = text.encode("utf-8", "backslashreplace").decode()  # a label may hold half a pair of surrogates
    page = Page(text, None, 3 + 2 * len(trace.interior))
    if path is ... and "ipykernel" not in sys.modules:
        page.save("explore.html")
        print(f"explore: the page is in {page.path}")
    elif path is not ... and path is not None:
        page.save(path)
    return page


def _leaf(index: Mapping[Value, int], x: Any, what: str) -> int:
    check_value(x, f"explore's {what}")
    if x not in index or x.op is not None:
        raise ValueError(f"explore: {what} names {x!r}, which is no leaf of this graph")
    return index[x]


def _rules(trace: Trace) -> tuple[Script, str]:
    """The ops of the graph in JavaScript; or none, and the reason why the page cannot compute."""
    try:
        return javascript((node.op, len(node.operands)) for node in trace.interior if node.op is not None), ""
    except ValueError as error:
        return Script("", {}), str(error)


def _groups(trace: Trace, model: Any) -> tuple[list[dict[str, Any]], dict[Value, int]]:
    """The parts of a model that hold nodes, each after the part around it, and to which each node belongs."""
    if model is None:
        return [], {}
    root = find_parts(model)
    member = members(trace, root)
    held = {part for own in member.values() for part in own.chain()}
    parts = [part for part in root.walk() if part in held]
    place = {part: k for k, part in enumerate(parts)}
    groups = [
        {
            "title": part.title,
            "prefix": part.path.replace("[", ".").replace("]", "") + "." if part.parent else "",
            "parent": place[part.parent] if part.parent else None,
        }
        for part in parts
    ]
    return groups, {node: place[part] for node, part in member.items()}


def _node(
    trace: Trace, node: Value, index: Mapping[Value, int], rules: Script, of: Mapping[Value, int]
) -> dict[str, Any]:
    """What the page gets of a node: its names, its operation and operands, and the recorded numbers."""
    name = trace.names[node]
    told = {"name": name, "label": node.label if node.label != name else "", "data": _plain(node.data)}
    if node in of:
        told["group"] = of[node]
    if node.op is None:
        return told
    operands = [MathML.variable(trace.names[x]) if isinstance(x, Value) else x for x in node.operands]
    partials = partials_of(node, MathML.variable(name), operands)
    marks: list[Expr | float] = [Expr(f"\ue000{place}\ue001") for place in range(len(node.operands))]
    row = "" if node.op.arity is None or node.op.symbol in ("+", "-", "*") else _derivatives(node)
    return told | {
        "op": rules.keys.get((node.op, len(node.operands)), ""),
        "symbol": node.op.symbol,
        "call": node.op.name,
        "row": row,
        "args": [index[x] if isinstance(x, Value) else [_plain(x)] for x in node.operands],
        "partials": [_plain(x) for x in node.partials],
        "expression": trace.expression(node),
        "worked": written(node.op, marks),
        "terms": trace.terms(node, "{}.grad"),
        "math": MathML._record(node.op, tuple(operands)).text,
        "slopes": [MathML.of(x).text for x in partials or node.partials],
    }


def _rounding(trace: Trace) -> tuple[dict[Value, dict[str, str]], str]:
    """Each node's share of the rounding error of the recorded result, and the page's sentence about it."""
    if len(trace.outputs) > 1:
        return {}, ""
    found = rounding_error(trace.output)
    words = ""
    if found.bound:
        words = f"Rounding may have changed {trace.names[trace.output]} by {found.bound:.2g}"
        worst = found.cancellations[:1]
        words += f"; {worst[0].lost:.0f} digits are lost at {worst[0].name}." if worst else "."
    return {row.node: {"rounding": f"{row.share:.0%}"} for row in found.rows if row.share >= 0.005}, words


def _derivatives(node: Value) -> str:
    """The local derivatives as the table writes them: 1 - out * out."""
    assert node.op is not None
    try:
        return ", ".join(derivatives(node.op))
    except Exception:  # whatever a rule that is meant for numbers may raise
        return ""


def _formula(trace: Trace) -> str:
    """The expression in full, as MathML, unless it is long."""
    texts: dict[Value, Expr] = {}
    lengths: dict[Value, int] = {}
    for node in trace.nodes:
        lengths[node] = len(trace.expression(node)) + sum(lengths[x] for x in node.operands if isinstance(x, Value))
        if lengths[node] > LONGEST_FORMULA:
            return ""
        if node.op is None:
            texts[node] = MathML.variable(trace.names[node])
        else:
            texts[node] = MathML._record(node.op, tuple(texts[x] if isinstance(x, Value) else x for x in node.operands))
    left = MathML.variable(trace.names[trace.output]).text
    return f"{left}<mo>=</mo>{texts[trace.output].text}" if trace.interior else ""


def _plain(x: float) -> float | str:
    """A number as strict JSON can hold it."""
    return x if math.isfinite(x) else repr(float(x))

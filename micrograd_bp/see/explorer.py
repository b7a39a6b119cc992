"""A page to step through: the evaluation of a graph forwards, the chain rule backwards, node by node."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from micrograd_bp._engine import files
from micrograd_bp._engine.labels import check_value, written
from micrograd_bp._engine.symbolic import Name
from micrograd_bp.ops import mul
from micrograd_bp.see.drawing import ease, picture_class, tangle
from micrograd_bp.see.formula import formula
from micrograd_bp.see.opened import opened
from micrograd_bp.see.trace import Trace
from micrograd_bp.uncertainty import RoundingError, rounding_error
from micrograd_bp.value import Value

WAYS = ("LR", "TB")  # the graph is laid out twice, and the page shows what suits the screen
LETTER, LINE = 7.9, 17.0  # the size of a letter and of a line, in pixels: 13 px of a monospaced face


class Page:
    """The page: `.html` is its text and `.path` where it was written; shows itself in a notebook."""

    def __init__(self, text: str, path: str | None, steps: int) -> None:
        self.html, self.path, self.steps = text, path, steps

    def __repr__(self) -> str:
        return f"<Page of {self.steps} steps{f', written to {self.path}' if self.path else ''}>"

    def _repr_html_(self) -> str:
        frame = 'style="width:100%;height:760px;border:0" title="backward pass, step by step"'
        return f'<iframe srcdoc="{html.escape(self.html)}" {frame}></iframe>'


def explore(
    output: Value,
    path: str | os.PathLike[str] | None = "backward.html",
    *,
    title: str = "",
    number_format: str = ".4g",
    max_nodes: int = 300,
    expand: bool = False,
) -> Page:
    """Write a page that steps forwards through the evaluation of a graph and backwards through the chain rule.

    One HTML file without a reference to anything outside; buttons, a slider, the keys left, right, space, Home and End.
    The gradients are those that backward() leaves where every grad was 0; no grad is read or changed. With `path` None
    nothing is written, and the page shows itself in a notebook. The graph's layout needs Graphviz: pip install
    'micrograd-bp[draw]', or its `dot`; ImportError where neither is there. ValueError: more than max_nodes nodes.
    `expand` opens the net input of a unit, Σ, out into its products and sums.

    >>> x = Value(3.0, "x")
    >>> explore(x * x + x, path=None)
    <Page of 7 steps>
    """
    check_value(output, "explore")
    output = opened(output) if expand else output
    trace = Trace(output)
    if len(trace.nodes) > max_nodes:
        raise ValueError(
            f"{len(trace.nodes):,} nodes are more than anyone steps through; explore a part of the graph, or pass "
            f"max_nodes= (now {max_nodes:,})"
        )
    rounding = rounding_error(output)
    shares = {row.node: row.share for row in rounding.rows}
    program = list(_steps(trace, number_format, rounding))
    expression = str(formula(output)).replace("\n", " ")
    contents = {
        "title": html.escape(title or f"Backward from {output.label or trace.names[output]}, step by step"),
        "subtitle": f"<code>{html.escape(expression)}</code>" if trace.interior and len(expression) < 200 else "",
        "graph": "".join(_graph(trace, way, number_format) for way in WAYS),
        "rows": "\n".join(_row(trace, place, shares) for place in range(len(trace.nodes))),
        "program": json.dumps(program).replace("<", "\\u003c"),
    }
    template = Path(__file__).with_name("explorer.html").read_text("utf-8")
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: contents[match[1]], template)
    text = text.encode("utf-8", "backslashreplace").decode()  # a label may hold half a pair of surrogates
    if path is not None:
        files.write(path, text)
    return Page(text, None if path is None else os.fspath(path), len(program))


# --- steps --------------------------------------------------------------------------------------------------------


def _steps(trace: Trace, spec: str, rounding: RoundingError) -> Iterator[dict[str, Any]]:
    """What the page shows at each step: title, equations (rule, numbers, result), and which numbers become known."""
    index = {node: place for place, node in enumerate(trace.nodes)}
    names, output = trace.names, trace.output
    numbers = {use: number for number, use in enumerate(_edges(trace))}
    uses = Counter(x for node in trace.interior for x in node.operands if isinstance(x, Value))

    def step(phase: str, node: Value | None, title: str, note: str = "", **more: Any) -> dict[str, Any]:
        contents = {"phase": phase, "node": index[node] if node is not None else None, "title": title, "note": note}
        return contents | {"edges": [], "lines": [], "set": []} | more

    def known(node: Value, what: str, number: float) -> tuple[int, str, str, str]:
        return index[node], what, format(number, spec), repr(number)

    yield step(
        "start",
        None,
        "Start",
        "The leaves hold their data. Everything else is computed from them, in topological order.",
        set=[known(leaf, "data", leaf.data) for leaf in trace.leaves],
    )
    for node in trace.interior:
        assert node.op is not None
        worked = written(node.op, [_number(x, spec) for x in node.operands])
        line = f"{names[node]} = {trace.expression(node)}", f"{names[node]} = {worked}", format(node.data, spec)
        lit = [numbers[node, place] for place in range(len(node.operands))]
        change = known(node, "data", node.data)
        yield step("forward", node, f"Forward: {names[node]}", edges=lit, lines=[line], set=[change])
    yield step(
        "seed",
        output,
        "Backward: the seed",
        f"A change of {names[output]} changes {names[output]} by just as much. All other grads start from 0. "
        "On the edges stand the local derivatives.",
        lines=[("", f"{names[output]}.grad = 1", "")],
        set=[known(node, "grad", 1.0 if node is output else 0.0) for node in trace.nodes],
    )
    sent: Counter[Value] = Counter()
    for node in reversed(trace.interior):
        lines: list[tuple[str, str, str]] = []
        changes: list[tuple[int, str, str, str]] = []
        shared: dict[Value, str] = {}
        terms = trace.terms(node, "{}.grad")
        for term in trace.contributions[node]:
            operand, name = term.operand, names[term.operand]
            factors = Name._record(mul, (_number(term.adjoint, spec), _number(term.partial, spec))).text
            lines.append(
                (f"{name}.grad += {terms[term.place] or 0}", f"{name}.grad += {factors}", format(term.total, spec))
            )
            changes.append(known(operand, "grad", term.total))
            sent[operand] += 1
            if uses[operand] > 1:
                shared[operand] = f"{name} is used {uses[operand]} times: {sent[operand]} of its terms are in."
        note = " ".join(shared.values()) if lines else f"{names[node]}.grad is 0, so it passes nothing on."
        lit = [numbers[node, term.place] for term in trace.contributions[node]]
        yield step("backward", node, f"Backward: {names[node]}", note, edges=lit, lines=lines, set=changes)
    leaves = [("", f"{names[leaf]}.grad = {trace.adjoints[leaf]:{spec}}", "") for leaf in trace.leaves[:8]]
    more = f"and {len(trace.leaves) - 8:,} more leaves, in the list. " if len(trace.leaves) > 8 else ""
    if rounding.bound:
        more += f"Rounding may have changed {names[output]} by {rounding.bound:.2g}"
        worst = rounding.cancellations[:1]
        more += f"; {worst[0].lost:.0f} digits are lost at {worst[0].name}." if worst else "."
    yield step("done", None, "Done: the gradient", more, lines=leaves)


def _number(x: Value | float, spec: str) -> Name:
    """A number as an equation shows it."""
    text = format(x.data if isinstance(x, Value) else x, spec)
    return Name(text, 3 if text.startswith("-") else 5)


def _edges(trace: Trace) -> list[tuple[Value, int]]:
    """Every use of an operand, by the node that uses it and the place; an edge's number is its place in this list."""
    return [(node, place) for node in trace.interior for place in range(len(node.operands))]


# --- graph and list -----------------------------------------------------------------------------------------------


def _row(trace: Trace, place: int, shares: dict[Value, float]) -> str:
    """A node's line in the list."""
    node = trace.nodes[place]
    name, expression = html.escape(trace.names[node]), html.escape(trace.expression(node))
    if node.label not in ("", trace.names[node]):
        name = f"{html.escape(node.label)} ({name})"
    text = f'<span class="name">{name}</span>{f" = {expression}" if expression else ""}'
    return (
        f'<tr data-node="{place}"><td><button type="button">{text}</button></td>'
        '<td class="number data"></td><td class="number grad"></td>'
        f'<td class="number rounding">{f"{shares[node]:.0%}" if shares.get(node, 0.0) >= 0.005 else ""}</td></tr>'
    )


def _graph(trace: Trace, direction: str, spec: str) -> str:
    """The graph as SVG: Graphviz finds the places, the page draws what stands there."""
    picture = picture_class()()
    picture.attr(rankdir=direction, nodesep="0.28", ranksep="0.45")
    picture.attr("node", shape="box", fixedsize="true", label="")
    picture.attr("edge", arrowhead="none", fontname="DejaVu Sans Mono,monospace", fontsize="12")
    index = {node: place for place, node in enumerate(trace.nodes)}
    edges = _edges(trace)
    operands = [(node.operands[place], node) for node, place in edges]
    # a label on each edge doubles the ranks
    ease(picture, 2 * tangle([(x, node) for x, node in operands if isinstance(x, Value)]) + len(trace.nodes))
    between: dict[tuple[str, str], list[int]] = {}  # parallel edges come back in the order in which they are given
    letters = {node: len(format(node.data, spec)) for node in trace.nodes}  # of the longest number in a box
    for node, number in [(t.operand, t.total) for sent in trace.contributions.values() for t in sent]:
        letters[node] = max(letters[node], len(format(number, spec)))
    for node, place in index.items():
        width = max(len("".join(_title(trace, node))), len("data ") + letters[node]) * LETTER + 20
        _place(picture, f"n{place}", width, 3 * LINE + 14)
    for number, (node, place) in enumerate(edges):
        x = node.operands[place]
        ends = f"n{index[x]}" if isinstance(x, Value) else f"c{number}", f"n{index[node]}"
        if not isinstance(x, Value):
            _place(picture, ends[0], len(format(x, spec)) * LETTER + 8, LINE)
        picture.edge(*ends, label=format(node.partials[place], spec) if isinstance(x, Value) else None)
        between.setdefault(ends, []).append(number)

    drawn: list[str] = []
    width = height = 0.0
    for line in picture.pipe("plain", encoding="utf-8").splitlines():
        kind, *words = shlex.split(line)
        if kind == "graph":
            width, height = float(words[1]) * 72, float(words[2]) * 72
        elif kind == "node":
            name, box = words[0], [float(word) * 72 for word in words[1:5]]
            left, top = box[0] - box[2] / 2, height - box[1] - box[3] / 2
            if name[0] == "n":
                drawn.append(_box(trace, int(name[1:]), left, top, box[2], box[3]))
            else:
                node, place = edges[int(name[1:])]
                text = html.escape(format(node.operands[place], spec))
                drawn.append(f'<text class="constant" x="{left + 4:.1f}" y="{top + 13:.1f}">{text}</text>')
        elif kind == "edge":
            number = between[words[0], words[1]].pop(0)
            numbers = [float(word) * 72 for word in words[3 : 3 + 2 * int(words[2])]]
            points = [f"{x:.1f},{height - y:.1f}" for x, y in zip(numbers[::2], numbers[1::2])]
            label = words[3 + len(numbers) : -2]
            text = ""
            if label:
                x, y = float(label[1]) * 72, height - float(label[2]) * 72
                text = f'<text x="{x:.1f}" y="{y + 4:.1f}">{html.escape(label[0])}</text>'
            path = f"M{points[0]}C{' '.join(points[1:])}"
            drawn.append(f'<g class="edge" data-edge="{number}"><path d="{path}"/>{text}</g>')
    drawn.sort(key=lambda text: not text.startswith('<g class="edge"'))  # edges first, boxes over them
    description = (
        f"The graph of {trace.names[trace.output]}: {len(trace.leaves)} leaves, {len(trace.interior)} operations"
    )
    size = f'data-width="{width:.0f}" data-height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}"'
    svg = f'<svg role="img" aria-label="{html.escape(description)}" {size}>{"".join(drawn)}</svg>'
    return f'<div class="view" tabindex="-1">{svg}</div>\n'


def _place(picture: Any, name: str, width: float, height: float) -> None:
    picture.node(name, width=f"{width / 72:.4f}", height=f"{height / 72:.4f}")


def _title(trace: Trace, node: Value) -> tuple[str, str]:
    """The first line of a box: the node's name, and what it is of its operands."""
    name, expression = trace.names[node], trace.brief(node)
    label = node.label if node.label not in ("", name) else ""
    expression = f" = {expression}" if expression else ""
    if label:
        name, expression = label, f" ({name}){expression}"
    name = name if len(name) <= 24 else f"{name[:21]}..."
    return name, expression if len(expression) <= 32 else f"{expression[:29]}..."


def _box(trace: Trace, place: int, x: float, y: float, width: float, height: float) -> str:
    """A node's box, with room for its data and its grad."""
    node = trace.nodes[place]
    kind = "output" if node is trace.output else "leaf" if node.op is None else "interior"
    name, expression = map(html.escape, _title(trace, node))
    texts = [f'<text x="10" y="{LINE + 2:.1f}"><tspan class="name">{name}</tspan>{expression}</text>']
    for line, what in enumerate(("data", "grad"), start=2):
        level = f'y="{line * LINE + 2:.1f}"'
        texts.append(f'<text class="key" x="10" {level}>{what}</text>')
        texts.append(f'<text class="{what}" x="{width - 10:.1f}" {level} text-anchor="end"></text>')
    return (
        f'<g class="node {kind}" data-node="{place}" transform="translate({x:.1f} {y:.1f})">'
        f'<rect class="box" width="{width:.1f}" height="{height:.1f}" rx="9"/>{"".join(texts)}</g>'
    )

"""Pictures of a graph: `draw` builds them with the graphviz package; they render with or without a system Graphviz."""

from __future__ import annotations

import functools
import html
import importlib.util
import math
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp._engine import files
from micrograd_bp._engine.labels import Listing, check_value, fresh
from micrograd_bp.see.parts import Part, find_parts, members
from micrograd_bp.value import Value

if TYPE_CHECKING:
    import graphviz

NO_RENDERER = "no Graphviz here to render with: pip install 'micrograd-bp[draw]', or install Graphviz's dot"
BUNDLED = """\
import sys, pygraphviz
dot = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(pygraphviz.AGraph(string=dot).draw(format=sys.argv[1], prog=sys.argv[2]))
"""
WORK = 20_000  # boxes plus ranks that edges cross: half a minute of layout (a chain of 5,000: one second)
CURVES = 3_500  # up to here curved edges and the best layout take about a second
FONT = "Helvetica,Arial,sans-serif"
GREY, DARK = "#7d8590", "#1f2328"  # the first is readable on white and on black
FILLS = {"leaf": "#ddeaff", "interior": "#ffffff", "output": "#ffe9c7", "part": "#eceff3"}
BORDERS = {"leaf": "#3b6ea8", "interior": "#7d8590", "output": "#b26a00", "part": "#57606a"}


# --- rendering ----------------------------------------------------------------------------------------------------


@functools.cache
def picture_class() -> type[graphviz.Digraph]:
    """graphviz.Digraph that renders with pygraphviz's Graphviz where there is no other."""
    try:
        import graphviz
    except ImportError as error:
        raise ImportError("pictures need the graphviz package: pip install graphviz") from error

    class Picture(graphviz.Digraph):  # type: ignore[misc]  # the package has no types
        def pipe(
            self,
            format: str | None = None,  # noqa: A002  # as in graphviz
            *,
            encoding: str | None = None,
            **options: Any,
        ) -> Any:
            """The rendered picture: bytes, or text where an encoding is given; ImportError: nothing to render with."""
            try:
                return super().pipe(format, encoding=encoding, **options)
            except graphviz.ExecutableNotFound:
                data = _bundled(self.source, format or self.format, options.get("engine") or self.engine)
                return data.decode(encoding) if encoding else data

        def render(
            self,
            filename: str | os.PathLike[str] | None = None,
            directory: str | os.PathLike[str] | None = None,
            view: bool = False,
            cleanup: bool = False,
            format: str | None = None,  # noqa: A002  # as in graphviz
            *,
            outfile: str | os.PathLike[str] | None = None,
            **options: Any,
        ) -> str:
            """Write the DOT text and the rendered picture, each all or not at all; the picture's path.

            As graphviz.Digraph.render: `filename` is the DOT text's, to which the format is added, `outfile` the
            picture's, whose suffix tells the format. ImportError: nothing to render with.
            """
            if outfile is not None:
                picture = Path(directory or self.directory or "", outfile)
                format = format or picture.suffix[1:]
                source = Path(filename or picture.with_suffix(".gv"))
            else:
                format = format or self.format
                source = Path(directory or self.directory or "", filename or self.filename)
                picture = source.with_name(f"{source.name}.{format}")
            data = self.pipe(format, **options)
            picture.parent.mkdir(parents=True, exist_ok=True)
            if not cleanup:
                files.write(source, self.source)
            files.write(picture, data)
            if view:
                graphviz.view(os.fspath(picture))
            return os.fspath(picture)

        def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **_: Any) -> dict[str, str]:
            try:
                bundle = {"image/svg+xml": self.pipe("svg", encoding="utf-8")}
            except ImportError as error:
                bundle = {"text/plain": f"{error}\n\n{self.source}"}
            shown = {kind: data for kind, data in bundle.items() if not include or kind in include}
            return {kind: data for kind, data in shown.items() if not exclude or kind not in exclude}

    return Picture


def _bundled(source: str, kind: str, engine: str) -> bytes:
    """The picture, by the Graphviz in pygraphviz's wheel; a process of its own, so that it can be stopped."""
    if importlib.util.find_spec("pygraphviz") is None:
        raise ImportError(NO_RENDERER)
    import subprocess  # here, for it would add 4 ms to the import of the package

    command = [sys.executable, "-c", BUNDLED, kind, engine]
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Graphviz could not make {kind} of this graph: {done.stderr.decode(errors='replace')}")
    return done.stdout


# --- drawing ------------------------------------------------------------------------------------------------------

Item: TypeAlias = Value | Part  # one box of the picture: a node, or a part of a model with all that is in it


def draw(
    output: Value,
    *,
    model: Any = None,
    depth: int | None = None,
    collapse: Collection[Any] = (),
    max_nodes: int | None = 300,
    number_format: str = ".4g",
    direction: str = "LR",
    derivatives: bool = False,
    shade: bool = False,
) -> graphviz.Digraph:
    """The picture of a graph: every node with its label, operation, data and grad, and an edge for every operand.

    It shows itself in a notebook; `.render(outfile="graph.svg")` writes SVG, PNG or PDF (the last two need a font on
    the machine), `.source` is the DOT text, the same for the same program. Names are those of `trace_table`.

    `derivatives` puts the local derivative on each edge; `shade` colours nodes by |grad|, from white (a thousandth of
    the largest, or less) to orange. `number_format` is a format specification, `direction` LR, TB, RL or BT.

    `model`: its parts (whatever has parameters(), as layers and neurons have; or the entries of a mapping from names to
    parameters) are framed. Parts that lie `depth` levels down are drawn as one box with the count of what is inside (0:
    the model itself, 1: its layers, 2: their neurons), and so are those in `collapse`, named or as objects.

    Of more than `max_nodes` boxes those nearest to the output are drawn, and the picture says how many nodes are not.
    ValueError: an unknown part or direction; or so large a picture that its layout would take minutes.

    >>> x = Value(3.0, "x")
    >>> picture = draw(x * x)
    >>> print(picture.source.splitlines()[-2].strip())
    n0 -> n1
    """
    check_value(output, "draw")
    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(f"direction is LR, TB, RL or BT, not {direction!r}")
    if max_nodes is not None and max_nodes < 1:
        raise ValueError(f"max_nodes is a count, 1 or more, or None; not {max_nodes}")
    if model is None and (depth is not None or collapse):
        raise ValueError("depth and collapse speak of the parts of a model; pass model= as well")
    listing = Listing(output)
    root = None if model is None else find_parts(model)
    plan = _Plan(listing, root, _closed(root, depth, collapse), max_nodes)
    finite = [abs(node.grad) for node in listing.nodes if shade and math.isfinite(node.grad)]
    write = _Labels(listing, plan, number_format, max(finite, default=0.0))
    picture = picture_class()(format="svg")
    picture.attr(rankdir=direction, bgcolor="transparent", fontname=FONT, fontsize="11", fontcolor=GREY)
    picture.attr("node", shape="plain", fontname=FONT, fontsize="12", fontcolor=DARK)
    picture.attr("edge", color=GREY, fontcolor=GREY, fontname=FONT, fontsize="10", arrowsize="0.7")
    ease(picture, plan.work)
    if caption := write.caption():
        picture.attr(label=caption, labelloc="b")

    frames: set[str] = set()  # their names in the DOT text

    def boxes(graph: graphviz.Digraph, frame: Part | None) -> None:
        for item in plan.framed.get(frame, ()):
            graph.node(plan.ids[item], write.part(item) if isinstance(item, Part) else write.node(item))
            if item in plan.cut:
                graph.node(f"{plan.ids[item]}more", "...", shape="plaintext", fontcolor=GREY)
                graph.edge(f"{plan.ids[item]}more", plan.ids[item], style="dashed")
            for place, x in enumerate(() if isinstance(item, Part) else item.operands):
                if not isinstance(x, Value):
                    constant = f"{plan.ids[item]}c{place}"
                    graph.node(constant, f"{x:{number_format}}", fontsize="10", fontcolor=GREY)
                    graph.edge(constant, plan.ids[item], arrowsize="0.5")
        for part in frame.parts if frame is not None else [root] if root is not None else []:
            if any(each in plan.framed for each in part.walk()):
                with graph.subgraph(name=fresh(f"cluster_{html.escape(_escaped(part.path))}", frames)) as inner:
                    inner.attr(
                        label=_text(part.title),
                        color=GREY,
                        fontcolor=GREY,
                        style="rounded",
                        labeljust="l",
                        labelloc="t",
                    )
                    boxes(inner, part)

    boxes(picture, None)
    for (source, target), uses in plan.edges.items():
        ends = plan.ids[source], plan.ids[target]
        if isinstance(source, Part) or isinstance(target, Part):
            picture.edge(*ends, label=f"×{len(uses):,}" if len(uses) > 1 else None)
        else:
            for node, place in uses:
                picture.edge(*ends, label=f"{node.partials[place]:{number_format}}" if derivatives else None)
    return picture


def tangle(edges: Collection[tuple[Any, Any]]) -> int:
    """How many ranks of a layout in ranks the edges cross; they are given in the order of evaluation."""
    ranks: dict[Any, int] = {}
    for source, target in reversed([*edges]):
        ranks[source] = max(ranks.get(source, 0), ranks.get(target, 0) + 1)
    return sum(abs(ranks.get(source, 0) - ranks.get(target, 0)) for source, target in edges)


def ease(picture: graphviz.Digraph, work: int) -> None:
    """Straight edges and less polish, where all else would take long (210 boxes in a tangle: 0.1 s instead of 13)."""
    if work > CURVES:
        picture.attr(splines="line", nslimit="1", nslimit1="1", mclimit="0.2")


def _closed(root: Part | None, depth: int | None, collapse: Collection[Any]) -> set[Part]:
    """The parts that are drawn as one box."""
    if depth is not None and depth < 0:
        raise ValueError(f"depth counts levels from 0, the model itself; not {depth}")
    parts = list(root.walk()) if root is not None else []
    closed = {part for part in parts if depth is not None and part.depth >= depth}
    for wanted in [collapse] if isinstance(collapse, str) else collapse:
        found = {part for part in parts if part.module is wanted or part.path == wanted}
        if not found:
            known = ", ".join(part.path for part in parts[:8]) + ", ..." * (len(parts) > 8)
            raise ValueError(f"the model has no part {wanted!r}; it has {known}")
        closed |= found
    return closed


class _Plan:
    """What a picture shows: which boxes in which frames, and which uses of operands an edge between two boxes holds."""

    def __init__(self, listing: Listing, root: Part | None, closed: set[Part], max_nodes: int | None) -> None:
        member = members(listing, root) if root is not None else {}
        items: dict[Value, Item] = {}
        frames: dict[Item, Part | None] = {}
        self.inside: dict[Part, list[Value]] = {}
        for node in listing.nodes:
            part = member.get(node)
            box = next((each for each in part.chain() if each in closed), None) if part is not None else None
            items[node] = box or node
            frames[box or node] = box.parent if box is not None else part
            if box is not None:
                self.inside.setdefault(box, []).append(node)
        edges: dict[tuple[Item, Item], list[tuple[Value, int]]] = {}
        sources: dict[Item, dict[Item, None]] = {item: {} for item in frames}
        for node in listing.interior:
            for place, x in enumerate(node.operands):
                if isinstance(x, Value) and items[x] is not items[node]:
                    edges.setdefault((items[x], items[node]), []).append((node, place))
                    sources[items[node]][items[x]] = None
        nearest = list(dict.fromkeys([items[listing.output]]))
        seen = set(nearest)
        for item in nearest:  # the list grows meanwhile
            if max_nodes is not None and len(nearest) >= max_nodes:
                break
            new = [source for source in sources[item] if source not in seen]
            seen.update(new)
            nearest += new
        shown = set(nearest[:max_nodes])
        self.max_nodes = max_nodes
        self.hidden = sum(items[node] not in shown for node in listing.nodes)
        self.edges = {ends: uses for ends, uses in edges.items() if shown.issuperset(ends)}
        self.cut = {target for source, target in edges if target in shown and source not in shown}
        self.framed: dict[Part | None, list[Item]] = {}
        for item, frame in frames.items():
            if item in shown:
                self.framed.setdefault(frame, []).append(item)
        self.ids = {item: f"n{place}" for place, item in enumerate(frames)}
        constants = sum(not isinstance(x, Value) for item in shown if isinstance(item, Value) for x in item.operands)
        self.work = len(shown) + constants + tangle(self.edges)
        if self.work > WORK:
            raise ValueError(
                f"a picture of {len(shown):,} boxes would take minutes to lay out; pass a smaller max_nodes, or model= "
                "and depth= to draw parts of a model as one box each"
            )


class _Labels:
    """What stands in the boxes, as Graphviz's HTML-like labels."""

    def __init__(self, listing: Listing, plan: _Plan, number_format: str, largest: float) -> None:
        self.listing, self.plan, self.number_format, self.largest = listing, plan, number_format, largest

    def node(self, node: Value) -> str:
        """A node: its name (and its label, where that is another), what it is of its operands, data and grad."""
        name, expression = self.listing.names[node], self.listing.expression(node)
        title = f"<b>{_text(node.label or name)}</b>"
        if node.label not in ("", name):
            title += f" ({_text(name)})"
        if expression:
            title += f" = {_text(expression)}"
        kind = "output" if node is self.listing.output else "leaf" if node.op is None else "interior"
        rows = {"data": format(node.data, self.number_format), "grad": format(node.grad, self.number_format)}
        return self._table(kind, title, rows, [node])

    def part(self, part: Part) -> str:
        """A part of a model: its name and the count of what is inside."""
        inside = self.plan.inside[part]
        leaves = sum(node.op is None for node in inside)
        rows = {"parameters": f"{leaves:,}", "operations": f"{len(inside) - leaves:,}"}
        return self._table("part", f"<b>{_text(part.title)}</b>", rows, inside)

    def caption(self) -> str:
        """What the picture does not show, and what its colours mean."""
        lines = []
        if self.plan.hidden:
            lines.append(f"{self.plan.hidden:,} more nodes are not shown (max_nodes={self.plan.max_nodes})")
        if self.largest:
            low, high = format(self.largest / 1000, self.number_format), format(self.largest, self.number_format)
            lines.append(f"colour: |grad|, from {low} or less (white) to {high} (orange)")
        return "\\n".join(lines)

    def _table(self, kind: str, title: str, rows: Mapping[str, str], nodes: list[Value]) -> str:
        fill = self._shade(nodes) if self.largest else FILLS[kind]
        border = 2 if kind in ("output", "part") else 1
        frame = f'border="{border}" color="{BORDERS[kind]}" bgcolor="{fill}" style="rounded"'
        cells = "".join(
            f'<tr><td align="left"><font color="#57606a" point-size="10">{key}</font></td>'
            f'<td align="right">{text}</td></tr>'
            for key, text in rows.items()
        )
        head = f'<tr><td colspan="2" align="left">{title}</td></tr>'
        return f'<<table {frame} cellborder="0" cellspacing="0" cellpadding="4">{head}{cells}</table>>'

    def _shade(self, nodes: list[Value]) -> str:
        grad = max(abs(node.grad) for node in nodes)
        if not grad or grad != grad:
            return "#ffffff"
        depth = min(max(1.0 + math.log10(min(grad / self.largest, 1.0)) / 3.0, 0.0), 1.0)
        return "#" + "".join(f"{round(255 + depth * (full - 255)):02x}" for full in (255, 143, 102))


def _text(text: str, width: int = 40) -> str:
    """Text as an HTML-like label can hold it: escaped, in one line, cut where it is very long."""
    return html.escape(_escaped(text if len(text) <= width else f"{text[: width - 3]}..."))


def _escaped(text: str) -> str:
    """Text without what cannot be printed, and with its backslashes doubled, as DOT wants them."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain.replace("\\", "\\\\")

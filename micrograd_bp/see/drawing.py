"""Pictures of a graph: `draw` builds them with the graphviz package; they render with or without a system Graphviz."""

from __future__ import annotations

import functools
import html
import importlib.util
import itertools
import math
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp._engine import files
from micrograd_bp._engine.labels import Listing, check_outputs, fresh
from micrograd_bp.see.array_plan import array_plan
from micrograd_bp.see.opened import opened
from micrograd_bp.see.parts import Part, find_parts, members
from micrograd_bp.uncertainty import rounding_error
from micrograd_bp.value import Value

if TYPE_CHECKING:
    import graphviz

NO_RENDERER = "no Graphviz here to render with: pip install 'micrograd-bp[draw]', or install Graphviz's dot"
BUNDLED = """\
import sys, pygraphviz
dot = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(pygraphviz.AGraph(string=dot).draw(format=sys.argv[1], prog=sys.argv[2]))
"""
WORK = 20_000  # boxes, plus ranks that edges cross: above, layout takes half a minute (for a chain of 5,000 one second)
CURVES = 3_500  # up to here curved edges and the best layout take about a second
FONT = "Helvetica,Arial,sans-serif"
GREY, DARK = "#7d8590", "#1f2328"  # the first is readable on white and on black
FILLS = {"leaf": "#ddeaff", "interior": "#ffffff", "output": "#ffe9c7", "part": "#eceff3", "carried": "#e3f4e1"}
RAMP = ("#fffbe6", "#fdc17f", "#f0703f")  # from the smallest |grad| to the largest; dark letters are readable on all
DECADES = 6  # of magnitudes that have a shade of their own
BORDERS = {"leaf": "#3b6ea8", "interior": "#7d8590", "output": "#b26a00", "part": "#57606a", "carried": "#4c8c4a"}


# --- rendering ----------------------------------------------------------------------------------------------------


@functools.cache
def picture_class() -> type[graphviz.Digraph]:
    """graphviz.Digraph, extended so that it renders with pygraphviz's Graphviz if the machine has no other."""
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
            """Write the DOT text and the rendered picture, each atomically; returns the picture's path.

            As in graphviz.Digraph.render, `filename` is that of the DOT text, to which the format is added for the
            picture; or `outfile` is that of the picture, with the format as its suffix. ImportError: no renderer.
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
    """Render with the Graphviz in pygraphviz's wheel, in a process of its own, so that it can be stopped."""
    if importlib.util.find_spec("pygraphviz") is None:
        raise ImportError(NO_RENDERER)
    import subprocess  # here, since it takes 4 ms

    command = [sys.executable, "-c", BUNDLED, kind, engine]
    done = subprocess.run(command, input=source.encode(), capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Graphviz could not make {kind} of this graph: {done.stderr.decode(errors='replace')}")
    return done.stdout


# --- drawing ------------------------------------------------------------------------------------------------------

Item: TypeAlias = Value | Part  # one box of the picture: a node, or a part of a model with all that is in it


def draw(
    output: Value | Sequence[Value],
    *,
    title: str = "",
    model: Any = None,
    depth: int | None = None,
    collapse: Collection[Any] = (),
    max_nodes: int | None = 300,
    number_format: str = ".4g",
    direction: str = "LR",
    derivatives: bool = False,
    expand: bool = False,
    arrays: bool = False,
    shade: bool | str = False,
    dpi: float | None = None,
) -> graphviz.Digraph:
    """The picture of a graph: every node with its label, operation, data and grad, and an edge for every operand.

    It shows itself in a notebook; `.render(outfile="graph.svg")` writes SVG, PNG or PDF (the last two need a font on
    the machine), `.source` is the DOT text, the same for the same program. Names are those of `trace_table`; within a
    frame they are short: w.0 in that of layers[1].neurons[0].

    Args:
        output: What is drawn with all it is computed from; of several, one picture.
        title: A line above the picture.
        model: Its parts are framed: whatever has parameters(), as layers and neurons have, or the entries
            of a mapping from names to parameters.
        depth: Parts that lie so many levels down are drawn as one box with the count of what is inside (0:
            the model itself, 1: its layers, 2: their neurons).
        collapse: Parts that are drawn as one box, by name or as objects.
        max_nodes: Of more boxes those nearest to the output are drawn, and the picture says how many nodes
            are not; None: all.
        number_format: A format specification.
        direction: "LR", "TB", "RL" or "BT": from left to right, from top to bottom, ...
        derivatives: Whether the local derivative stands on each edge.
        shade: Whether nodes are coloured by the order of magnitude of |grad|, or for "rounding" of what
            rounding there may do to the output (`rounding_error`): from pale yellow (the smallest) to
            orange (the largest), and white where it is 0.
        dpi: The resolution in dots per inch (without it 96, in an SVG 72).

        expand: Whether a unit's net input, which is one box, Σ, as textbooks draw it, is opened out into its
            products and sums, as micrograd's pictures have them.

        arrays: Whether arrays are drawn, not nodes: all nodes of one structure are one box with their
            number and formula, and edges say how an array is read: whole, as a slice, broadcast (one
            member for all) or gathered from places.

    Returns:
        A graphviz.Digraph that renders with or without a system Graphviz.

    Raises:
        TypeError: `output` is no Value, or `model` has no parameters.
        ValueError: An unknown part or direction, no positive dpi, or so large a picture that its layout
            would take minutes.
        ImportError: The graphviz package is not there.

    Example:
        >>> x = Value(3.0, "x")
        >>> picture = draw(x * x)
        >>> print(picture.source.splitlines()[-2].strip())
        n0 -> n1
    """
    check_outputs(output, "draw")
    if dpi is not None and not 0 < dpi < math.inf:
        raise ValueError(f"dpi is a number of dots per inch, 96 say; not {dpi!r}")
    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(f"direction is LR, TB, RL or BT, not {direction!r}")
    if shade not in (False, True, "rounding"):
        raise ValueError(f'shade is True (by |grad|), "rounding" or False, not {shade!r}')
    if max_nodes is not None and max_nodes < 1:
        raise ValueError(f"max_nodes is a count, 1 or more, or None; not {max_nodes}")
    if model is None and (depth is not None or collapse):
        raise ValueError("depth and collapse speak of the parts of a model; pass model= as well")
    if arrays:
        given = {"model": model, "depth": depth, "collapse": collapse, "derivatives": derivatives, "shade": shade}
        if others := [name for name, x in given.items() if x not in (None, False, ())]:
            raise ValueError(f"arrays=True draws arrays, which have no {others[0]}; leave that out")
        return _array_picture(output, title, max_nodes, direction, dpi)
    output = opened(output) if expand else output
    listing = Listing(output)
    root = None if model is None else find_parts(model)
    plan = _Arrangement(listing, root, _closed(root, depth, collapse), max_nodes)
    what, sizes = "|grad|", {node: abs(node.grad) for node in listing.nodes} if shade else {}
    if shade == "rounding":
        if not isinstance(output, Value):
            raise ValueError('shade="rounding" shows what rounding does to one output; draw that one alone')
        what, sizes = "share in the rounding error", {row.node: row.share for row in rounding_error(output).rows}
    write = _Labels(listing, plan, number_format, what, sizes)
    picture = _sheet(direction, dpi, title, write.caption())
    ease(picture, plan.work)
    if plan.inside:
        picture.attr(ranksep="0.9")  # edges between columns of boxes need room
        if not any(isinstance(item, Value) for frame, items in plan.framed.items() if frame for item in items):
            picture.attr(splines="line")
    if root is not None:
        picture.attr(newrank="true")
    for column in plan.handed_over():
        with picture.subgraph() as same:
            same.attr(rank="same")
            for node in column:
                same.node(plan.ids[node])

    frames: set[str] = set()  # their names in the DOT text

    def boxes(graph: graphviz.Digraph, frame: Part | None) -> None:
        for item in plan.framed.get(frame, ()):
            graph.node(plan.ids[item], write.part(item) if isinstance(item, Part) else write.node(item, frame))
            if item in plan.cut:
                graph.node(f"{plan.ids[item]}more", "...", shape="plaintext", fontcolor=GREY)
                graph.edge(f"{plan.ids[item]}more", plan.ids[item], style="dashed")
            for place, x in enumerate(() if isinstance(item, Part) else item.operands):
                if not isinstance(x, Value):
                    constant = f"{plan.ids[item]}c{place}"
                    graph.node(constant, f"{x:{number_format}}", fontsize="10", fontcolor=GREY)
                    beside = {"minlen": "0"} if plan.after_frames(item) else {}
                    graph.edge(constant, plan.ids[item], arrowsize="0.5", **beside)
        if column := plan.column(frame):
            with graph.subgraph() as same:
                same.attr(rank="same")
                ids = [plan.ids[part] for part in column]
                # Where ranks run from left to right, Graphviz reverses the order of a frame's columns.
                for above, below in itertools.pairwise(ids[::-1] if direction in ("LR", "RL") else ids):
                    same.edge(above, below, style="invis")
        inner = frame.parts if frame is not None else [root] if root is not None else []
        for part in inner:
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
    sides = {"LR": "ew", "RL": "we", "TB": "sn", "BT": "ns"}[direction]  # where edges leave a box and enter one
    for (source, target), uses in plan.edges.items():
        ends = plan.ids[source], plan.ids[target]
        layout = {}
        outer = plan.crossing(target)
        if outer is not None and plan.frames[source] is not plan.frames[target]:
            layout = {"weight": "3"}
        elif outer is not None and isinstance(source, Value) and source.op is None:
            # A parameter stands above the node that uses it, after what comes from another frame: so frames are narrow,
            # those of layers stand side by side, and no edge runs through a frame that it does not end in.
            layout = {"minlen": "0"}
            picture.edge(plan.ids[outer], ends[0], style="invis")
        if isinstance(source, Part) or isinstance(target, Part):
            layout |= {"tailport": sides[0], "headport": sides[1]}
            picture.edge(*ends, label=f"×{len(uses):,}" if len(uses) > 1 else None, **layout)
        else:
            for node, place in uses:
                picture.edge(*ends, label=f"{node.partials[place]:{number_format}}" if derivatives else None, **layout)
    return picture


def _sheet(direction: str, dpi: float | None, title: str, caption: Sequence[str]) -> graphviz.Digraph:
    """A picture without boxes."""
    picture = picture_class()(format="svg")
    picture.attr(rankdir=direction, bgcolor="transparent", fontname=FONT, fontsize="11", fontcolor=GREY)
    picture.attr("node", shape="plain", fontname=FONT, fontsize="12", fontcolor=DARK)
    picture.attr("edge", color=GREY, fontcolor=GREY, fontname=FONT, fontsize="10", arrowsize="0.7")
    if dpi is not None:
        picture.attr(dpi=f"{dpi:g}")
    if title:
        lines = [f'<font point-size="15"><b>{_text(title, 120)}</b></font>', *[_text(line, 120) for line in caption]]
        picture.attr(label=f"<{'<br/>'.join(lines)}>", labelloc="t")
    elif caption:
        picture.attr(label="\\n".join(caption), labelloc="b")
    return picture


def _array_picture(
    output: Value | Sequence[Value], title: str, most: int | None, direction: str, dpi: float | None
) -> graphviz.Digraph:
    """The picture of the arrays of a graph."""
    plan = array_plan([output] if isinstance(output, Value) else output)
    hidden = 0 if most is None else max(0, len(plan.boxes) - most)
    count = sum(box.kind != "leaf" for box in plan.boxes)
    caption = [f"{plan.nodes:,} operations in {count:,} array{'s' * (count != 1)}"]
    if plan.frames:
        turns = " and ".join(f"{times:,}" for _, _, times in plan.frames)
        caption = [f"{plan.nodes:,} operations: loop{'s' * (len(plan.frames) > 1)} of {turns} turns"]
    if hidden:
        caption.append(f"{hidden:,} boxes farther from the output are not drawn")
    picture = _sheet(direction, dpi, title, caption)
    ease(picture, rank_span([(a, b) for a, b, _ in reversed(plan.edges) if a < b]))
    framed = {k: number for number, (start, stop, _) in enumerate(plan.frames) for k in range(start, stop)}
    frames = [picture_class()(name=f"cluster_{number}") for number in range(len(plan.frames))]
    for frame, (_, _, times) in zip(frames, plan.frames):
        frame.attr(
            label=f"{times:,} times",
            color=GREY,
            fontcolor=GREY,
            style="rounded",
            labeljust="l",
            labelloc="t",
            margin="14",
        )
    for k, box in enumerate(plan.boxes[hidden:], hidden):
        formula = box.formula if box.kind == "carried" or not box.formula else f"= {box.formula}"
        lines = f"<b>{_text(box.name)}</b>" + (f" {_text(formula, 60)}" if formula else "")
        sheet = frames[framed[k]] if k in framed else picture
        sheet.node(f"a{k}", array_label(box.kind, lines, _text(box.shape)))
    for frame in frames:
        picture.subgraph(frame)
    for source, target, how in plan.edges:
        if min(source, target) >= hidden:
            back = {"constraint": "false", "style": "dashed"} if source > target else {}
            picture.edge(f"a{source}", f"a{target}", label=how, **back)
    return picture


def array_label(kind: str, title: str, shape: str) -> str:
    """The box of an array."""
    table = f'border="0" cellborder="1" cellspacing="0" cellpadding="6" color="{BORDERS[kind]}" bgcolor="{FILLS[kind]}"'
    below = f'<br/><font point-size="10">{shape} members</font>' if shape else ""
    return f"<<table {table}><tr><td>{title}{below}</td></tr></table>>"


def rank_span(edges: Collection[tuple[Any, Any]]) -> int:
    """How many ranks the edges cross in all, each box having its lowest rank; edges come in the order of evaluation."""
    ranks: dict[Any, int] = {}
    for source, target in reversed([*edges]):
        ranks[source] = max(ranks.get(source, 0), ranks.get(target, 0) + 1)
    return sum(abs(ranks.get(source, 0) - ranks.get(target, 0)) for source, target in edges)


def ease(picture: graphviz.Digraph, work: int) -> None:
    """Ask for straight edges and a quicker layout where the usual would take long (210 boxes: 0.1 s instead of 13)."""
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


class _Arrangement:
    """What a picture shows: the boxes in each frame, and for each edge the uses of operands that it stands for."""

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
        self.depths = dict.fromkeys(listing.leaves, 0)  # of two nodes of one depth neither is computed from the other
        for node in listing.interior:
            self.depths[node] = 1 + max((self.depths[x] for x in node.operands if isinstance(x, Value)), default=0)
        nearest = list(dict.fromkeys(items[output] for output in listing.outputs))
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
        self.frames = frames
        self.into: dict[Item, list[tuple[Item, Item]]] = {}
        for ends in self.edges:
            self.into.setdefault(ends[1], []).append(ends)
        constants = sum(not isinstance(x, Value) for item in shown if isinstance(item, Value) for x in item.operands)
        self.work = len(shown) + constants + rank_span(self.edges)
        if self.work > WORK:
            raise ValueError(
                f"a picture of {len(shown):,} boxes would take minutes to lay out; pass a smaller max_nodes, or model= "
                "and depth= to draw parts of a model as one box each"
            )

    def crossing(self, item: Item) -> Item | None:
        """The operand of a node in a frame that comes from another frame; None: there is none."""
        if not isinstance(item, Value) or self.frames[item] is None:
            return None
        sources = [source for source, target in self.into.get(item, ()) if self.frames[source] is not self.frames[item]]
        return next(iter(sources), None)

    def after_frames(self, item: Item) -> bool:
        """Whether a box outside all frames is computed from one inside: its constants would stand below the frame."""
        inside = (self.frames[source] is not None for source, _ in self.into.get(item, ()))
        return self.frames[item] is None and any(inside)

    def handed_over(self) -> list[list[Value]]:
        """The nodes that the frames within one frame are all computed from, in columns: the inputs of a layer, say."""
        found: dict[tuple[Part, int], dict[Value, None]] = {}
        for source, target in self.edges:
            frame = self.frames[target]
            if frame is not None and frame is not self.frames[source] and isinstance(source, Value):
                found.setdefault((frame.parent or frame, self.depths[source]), {})[source] = None
        seen: set[Value] = set()
        columns = []
        for column in found.values():
            columns.append([node for node in column if node not in seen])
            seen.update(column)
        return [column for column in columns if len(column) > 1]

    def column(self, frame: Part | None) -> list[Part]:
        """The parts that stand in a frame as one box each, where they are independent: drawn in their order."""
        parts = [item for item in self.framed.get(frame, ()) if isinstance(item, Part)]
        inner = set(parts)
        if frame is None or any(x in inner and y in inner for x, y in self.edges):
            return []
        return sorted(parts, key=frame.parts.index)


class _Labels:
    """Writes the texts in the boxes, as Graphviz's HTML-like labels."""

    def __init__(
        self, listing: Listing, plan: _Arrangement, number_format: str, what: str, sizes: Mapping[Value, float]
    ) -> None:
        self.listing, self.plan, self.number_format = listing, plan, number_format
        self.what, self.sizes = what, sizes  # what colours stand for, and each node's size by it
        known = [size for size in sizes.values() if size and math.isfinite(size)]
        self.largest = max(known, default=0.0)
        self.smallest = max(min(known, default=0.0), self.largest * 10.0**-DECADES)

    def node(self, node: Value, frame: Part | None) -> str:
        """The label of a node: its name (and its own label, if that differs), its operation, data and grad."""
        name, expression = self.listing.names[node], self.listing.brief(node)
        label = node.label
        if frame is not None and frame.parent is not None:  # the frame says where this is
            inside = re.compile(rf"\b{re.escape(frame.path.replace('[', '.').replace(']', ''))}\.(?=[^\W\d])")
            name, expression, label = (inside.sub("", text) for text in (name, expression, label))
        title = f"<b>{_text(label or name)}</b>"
        if label not in ("", name):
            title += f" ({_text(name)})"
        if expression:
            title += f" = {_text(expression)}"
        kind = "output" if node in self.listing.outputs else "leaf" if node.op is None else "interior"
        rows = {"data": format(node.data, self.number_format), "grad": format(node.grad, self.number_format)}
        return self._table(kind, title, rows, [node])

    def part(self, part: Part) -> str:
        """A part of a model: its name and the count of what is inside."""
        inside = self.plan.inside[part]
        leaves = sum(node.op is None for node in inside)
        rows = {"parameters": f"{leaves:,}", "operations": f"{len(inside) - leaves:,}"}
        return self._table("part", f"<b>{_text(part.title)}</b>", rows, inside)

    def caption(self) -> list[str]:
        """Lines under the picture: what it leaves out, and what its colours mean."""
        lines = []
        if self.plan.hidden:
            lines.append(f"{self.plan.hidden:,} more nodes are not shown (max_nodes={self.plan.max_nodes})")
        if self.sizes:
            low, high = format(self.smallest, self.number_format), format(self.largest, self.number_format)
            less = " or less" if self.largest and self.smallest == self.largest * 10.0**-DECADES else ""
            lines.append(
                f"colour: {self.what}, 0 (white), from {low}{less} (pale) to {high} (orange), by orders of magnitude"
            )
        return lines

    def _table(self, kind: str, title: str, rows: Mapping[str, str], nodes: list[Value]) -> str:
        fill = self._fill(nodes) if self.sizes else FILLS[kind]
        border = 2 if kind in ("output", "part") else 1
        frame = f'border="{border}" color="{BORDERS[kind]}" bgcolor="{fill}" style="rounded"'
        cells = "".join(
            f'<tr><td align="left"><font color="#57606a" point-size="10">{key}</font></td>'
            f'<td align="right">{text}</td></tr>'
            for key, text in rows.items()
        )
        head = f'<tr><td colspan="2" align="left">{title}</td></tr>'
        return f'<<table {frame} cellborder="0" cellspacing="0" cellpadding="4">{head}{cells}</table>>'

    def _fill(self, nodes: list[Value]) -> str:
        size = max(self.sizes.get(node, 0.0) for node in nodes)
        if not size or size != size:
            return "#ffffff"
        depth = 1.0
        if self.smallest < self.largest and size < self.largest:
            low, high = math.log(self.smallest), math.log(self.largest)
            depth = max(math.log(size) - low, 0.0) / (high - low)
        place = depth * (len(RAMP) - 1)
        first = min(int(place), len(RAMP) - 2)
        ends = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in RAMP[first : first + 2]]
        return "#" + "".join(f"{round(a + (place - first) * (b - a)):02x}" for a, b in zip(*ends))


def _text(text: str, width: int = 40) -> str:
    """Text for an HTML-like label: escaped, in one line, and cut if it is very long."""
    return html.escape(_escaped(text if len(text) <= width else f"{text[: width - 3]}..."))


def _escaped(text: str) -> str:
    """Text without what cannot be printed, and with its backslashes doubled, as DOT wants them."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain.replace("\\", "\\\\")

"""Pictures hold the graph: every node, every operand's edge, the parts of a model; and they render everywhere."""

import html
import importlib.util
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import graphviz
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value, losses, nn, ops
from micrograd_bp._engine.labels import Listing
from micrograd_bp.see import drawing
from micrograd_bp.see.parts import find_parts, members
from micrograd_bp.value import topological_order

HOSTILE = [
    '"',
    "\\",
    "\\N",
    "<b>",
    "a|{b}",
    "new\nline",
    "</table>",
    "&amp;",
    "\x00",
    "\ud800",
    "→ ∂é",
    "x" * 500,
    "]]>",
    "a\\",
    '"\\',
    "\\\\",
    '"]; evil [',
    "-->",
    "&#0;",
    "\u2028",
    "\ufeff",
    "",
]


def parts(dot: str) -> tuple[Any, ...]:
    """The boxes of a DOT text by their names, and its edges in order, with their labels."""
    boxes = dict(re.findall(r"^\s*(\w+) \[label=(.*)\]$", dot, re.MULTILINE))
    edges = re.findall(r"^\s*(\w+) -> (\w+)(?: \[(?:label=(\S+))?.*\])?$", dot, re.MULTILINE)
    return boxes, [(source, target, label.strip('"')) for source, target, label in edges]


def shown(label: str) -> list[str]:
    """The text in an HTML-like label, cell by cell."""
    cells = re.findall(r"<td[^>]*>(.*?)</td>", label)
    return [html.unescape(re.sub(r"<[^>]*>", "", cell)).replace("\\\\", "\\") for cell in cells]


def texts(svg: str) -> list[str]:
    """All text in an SVG picture."""
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if "text" in element.tag]


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Graphviz's programs."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, bundled: None) -> None:
    """A machine without any Graphviz."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


# --- structure ----------------------------------------------------------------------------------------------------


def test_the_text_of_a_picture() -> None:
    a, b = Value(2.0, "a"), Value(-3.0, "b")
    output = a * b + 1.5
    output.backward()
    frame = 'style="rounded" cellborder="0" cellspacing="0" cellpadding="4"'
    row = '<tr><td align="left"><font color="#57606a" point-size="10">{}</font></td><td align="right">{}</td></tr>'

    def box(border: Any, color: str, fill: str, title: str, data: Any, grad: Any) -> str:
        table = f'<table border="{border}" color="{color}" bgcolor="{fill}" {frame}>'
        head = f'<tr><td colspan="2" align="left">{title}</td></tr>'
        return f"<{table}{head}{row.format('data', data)}{row.format('grad', grad)}</table>>"

    fonts = 'fontname="Helvetica,Arial,sans-serif"'
    assert mg.draw(output).source.expandtabs(0).splitlines() == [
        "digraph {",
        f'bgcolor=transparent fontcolor="#7d8590" {fonts} fontsize=11 rankdir=LR',
        f'node [fontcolor="#1f2328" {fonts} fontsize=12 shape=plain]',
        f'edge [arrowsize=0.7 color="#7d8590" fontcolor="#7d8590" {fonts} fontsize=10]',
        f"n0 [label={box(1, '#3b6ea8', '#ddeaff', '<b>a</b>', 2, -3)}]",
        f"n1 [label={box(1, '#3b6ea8', '#ddeaff', '<b>b</b>', -3, 2)}]",
        f"n2 [label={box(1, '#7d8590', '#ffffff', '<b>v1</b> = a * b', -6, 1)}]",
        f"n3 [label={box(2, '#b26a00', '#ffe9c7', '<b>v2</b> = v1 + 1.5', -4.5, 1)}]",
        'n3c1 [label=1.5 fontcolor="#7d8590" fontsize=10]',
        "n3c1 -> n3 [arrowsize=0.5]",
        "n0 -> n2",
        "n1 -> n2",
        "n2 -> n3",
        "}",
    ]


@given(st.integers(0, 10**9))
def test_every_node_is_a_box_and_every_use_of_an_operand_an_edge(seed: int) -> None:
    rng = random.Random(seed)
    nodes = [Value(rng.uniform(0.1, 1.0)) for _ in range(3)]
    for _ in range(15):
        op = rng.choice([ops.add, ops.mul, ops.tanh, ops.hypot, ops.where])
        nodes.append(op(*[rng.choice([*nodes, 2.0]) for _ in range(op.arity or 3)], *([nodes[-1]] * (not op.arity))))
        nodes = [node if isinstance(node, Value) else Value(node) for node in nodes]
    output = nodes[-1]
    order, listing = topological_order(output), Listing(output)
    boxes, edges = parts(mg.draw(output).source)
    names = {node: f"n{place}" for place, node in enumerate(listing.nodes)}
    assert {name for name in boxes if "c" not in name} == set(names.values())
    assert len(names) == len(order)
    uses = [(names[x], names[node]) for node in order for x in node.operands if isinstance(x, Value)]
    drawn = [(source, target) for source, target, _ in edges if "c" not in source]
    assert sorted(drawn) == sorted(uses)
    assert len(edges) == sum(len(node.operands) for node in order)


def test_both_edges_of_a_square_are_drawn_with_their_derivatives() -> None:
    x = Value(3.0, "x")
    _, edges = parts(mg.draw(x * x, derivatives=True).source)
    assert edges == [("n0", "n1", "3"), ("n0", "n1", "3")]


def test_a_box_shows_label_operation_data_and_grad() -> None:
    x = Value(0.5, "x")
    output = x.tanh()
    output.label = "activation"
    output.backward()
    boxes, _ = parts(mg.draw(output, number_format="+.2f").source)
    assert shown(boxes["n0"]) == ["x", "data", "+0.50", "grad", "+0.79"]
    assert shown(boxes["n1"]) == ["activation = tanh(x)", "data", "+0.46", "grad", "+1.00"]


def test_a_label_that_cannot_stand_in_a_formula_is_shown_beside_the_name() -> None:
    x = Value(2.0, "x1")
    node = x * 3.0
    node.label = "x1*3"
    boxes, _ = parts(mg.draw(node + 1.0).source)
    assert shown(boxes["n1"])[0] == "x1*3 (v1) = x1 * 3"
    assert shown(boxes["n2"])[0] == "v2 = v1 + 1"


def test_the_same_program_gives_the_same_text_in_every_process() -> None:
    program = (
        "import micrograd_bp as mg\n"
        "xs = [mg.Value(0.1 * i, f'x{i}') for i in range(9)]\n"
        "print(mg.draw(sum(x * y for x in xs for y in xs), max_nodes=50, shade=True).source)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != ""


def test_directions() -> None:
    x = Value(1.0)
    assert "rankdir=TB" in mg.draw(x + 1.0, direction="TB").source
    with pytest.raises(ValueError, match="direction is LR, TB, RL or BT, not 'up'"):
        mg.draw(x, direction="up")


def shades(grads: list[float], **options: Any) -> tuple[Any, ...]:
    """The fill of each node, by the grads that the nodes are given, and the picture's text."""
    nodes = [Value(1.0, chr(ord("a") + k)) for k in range(len(grads))]
    output: Any = sum(nodes)
    for node in topological_order(output):
        node.grad = 0.0
    for node, grad in zip(nodes, grads):
        node.grad = grad
    source = mg.draw(output, shade=True, **options).source
    boxes, _ = parts(source)
    fills = {shown(x)[0]: re.findall(r'bgcolor="(.*?)"', x)[0] for x in boxes.values() if "bgcolor" in x}
    return [fills[node.label] for node in nodes], source


def test_shades_go_by_the_order_of_magnitude_of_grad() -> None:
    fills, source = shades([100.0, -100.0, 1.0, 0.01, 0.0, float("nan"), float("inf")])
    assert fills == ["#f0703f", "#f0703f", "#fdc17f", "#fffbe6", "#ffffff", "#ffffff", "#f0703f"]
    assert "from 0.01 (pale) to 100 (orange), by orders of magnitude" in source
    fills, source = shades([1e300, 1e293, 1e-300])
    assert fills == ["#f0703f", "#fffbe6", "#fffbe6"]
    assert "from 1e+294 or less (pale) to 1e+300 (orange)" in source


@given(st.lists(st.floats(), min_size=2, max_size=6))
def test_a_larger_grad_is_never_a_paler_one(grads: list[float]) -> None:
    fills, _ = shades(grads)
    depth = {"#ffffff": 1000}
    by_size = sorted(zip([abs(g) for g in grads], fills), key=lambda pair: (pair[0] == pair[0], pair[0]))
    green = [depth.get(fill, int(fill[3:5], 16)) for size, fill in by_size if size == size]
    assert green == sorted(green, reverse=True)


def test_drawing_changes_nothing() -> None:
    x = Value(2.0)
    output = x * x
    output.backward()
    mg.draw(output, shade=True, derivatives=True)
    assert (x.grad, output.grad) == (4.0, 1.0)


@pytest.mark.parametrize("thing", [3.0, "x", None, [], [Value(1.0), 2.0]])
def test_only_values_are_drawn(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"draw takes a Value, not|output holds 2.0 \(float\); pass a Value"):
        mg.draw(thing)


def test_several_outputs_stand_in_one_picture() -> None:
    x, y = Value(2.0, "x"), Value(3.0, "y")
    product, leaf = x * y, Value(1.0, "alone")
    boxes, edges = parts(mg.draw([product, product.tanh(), x, leaf], derivatives=True).source)
    assert [shown(label)[0] for label in boxes.values()] == ["x", "y", "alone", "v1 = x * y", "v2 = tanh(v1)"]
    assert [label.split("bgcolor")[1][2:9] for label in boxes.values()] == [
        *("#ffe9c7", "#ddeaff", "#ffe9c7", "#ffe9c7", "#ffe9c7"),
    ]
    assert [(a, b) for a, b, _ in edges] == [("n0", "n3"), ("n1", "n3"), ("n3", "n4")]


@pytest.mark.parametrize("title", HOSTILE)
def test_a_title_stands_over_the_picture_as_it_is(bundled: None, title: str) -> None:
    svg = mg.draw(Value(1.0, "x") * 2.0, title=title, shade=True).pipe(encoding="utf-8")
    cut = title if len(title) <= 120 else f"{title[:117]}..."
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    assert plain in texts(svg) or not plain


def test_the_resolution_is_that_of_the_png(bundled: None) -> None:
    picture = mg.draw(Value(1.0) * 2.0), mg.draw(Value(1.0) * 2.0, dpi=288.0)
    widths = [int.from_bytes(each.pipe("png")[16:20], "big") for each in picture]
    assert abs(widths[1] - 3 * widths[0]) <= 3
    with pytest.raises(ValueError, match="dpi is a number of dots per inch"):
        mg.draw(Value(1.0), dpi=0)


# --- rendering ----------------------------------------------------------------------------------------------------

MAGIC = {"svg": b"<?xml", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}


@pytest.mark.parametrize("kind", MAGIC)
def test_a_picture_renders_without_a_system_graphviz(bundled: None, tmp_path: Path, kind: str) -> None:
    x = Value(0.5, "x")
    path = mg.draw(x.tanh() * x).render(outfile=tmp_path / f"graph.{kind}", cleanup=True)
    assert path == str(tmp_path / f"graph.{kind}")
    assert (tmp_path / f"graph.{kind}").read_bytes().startswith(MAGIC[kind])
    assert os.listdir(tmp_path) == [f"graph.{kind}"]


@pytest.mark.skipif(shutil.which("dot") is None, reason="no dot on this machine")
@pytest.mark.parametrize("kind", MAGIC)
def test_a_picture_renders_with_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    x = Value(0.5, "x")
    path = mg.draw(x.tanh() * x).render(outfile=tmp_path / f"graph.{kind}", cleanup=True)
    assert (tmp_path / path).read_bytes().startswith(MAGIC[kind])


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for dot")
def test_dot_is_used_where_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho drawn by dot\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mg.draw(Value(1.0) * 2.0).pipe("svg", encoding="utf-8") == "drawn by dot\n"


def test_an_svg_picture_shows_every_box_and_edge(bundled: None) -> None:
    x, y = Value(0.5, "x"), Value(2.0, "y")
    svg = mg.draw((x * y + x).tanh(), derivatives=True).pipe(encoding="utf-8")
    assert svg.count('class="node"') == 5
    assert svg.count('class="edge"') == 5
    assert {"x", "v1", " = x * y", "data", "0.5", "0.9051"} <= set(texts(svg))


@pytest.mark.parametrize("name", HOSTILE)
def test_any_part_is_framed_and_named_as_it_is(bundled: None, name: str) -> None:
    w, v, x = Value(1.0), Value(3.0), Value(2.0, "x")
    output = (w * x + v).tanh()
    cut = name if len(name) <= 40 else f"{name[:37]}..."
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    for depth, clusters in ((None, 2), (1, 1)):
        svg = mg.draw(output, model={name: w, f"{name}.": [v]}, depth=depth).pipe(encoding="utf-8")
        assert svg.count('class="cluster"') == (3 if depth is None else clusters)
        assert plain in texts(svg) or not plain


@pytest.mark.parametrize("direction", ["LR", "TB", "RL", "BT"])
@pytest.mark.parametrize("depth", [None, 0, 1, 2])
def test_the_parts_of_a_layer_stand_in_their_order_and_frames_beside_each_other(
    bundled: None, depth: int | None, direction: str
) -> None:
    network = nn.MLP(2, [4, 3, 1], activation="tanh", rng=random.Random(0))
    loss = (network([Value(1.0, "x1"), Value(-2.0, "x2")]) - 1.0) ** 2
    picture = mg.draw(loss, model=network, depth=depth, direction=direction)
    root = ElementTree.fromstring(picture.pipe(encoding="utf-8"))
    frames: dict[Any, Any] = {}
    places: dict[Any, Any] = {}
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        corners = [
            [*map(float, pair.split(","))]
            for path in group.findall("{http://www.w3.org/2000/svg}path")
            for pair in re.findall(r"[-\d.]+,[-\d.]+", path.get("d") or "")
        ]
        words = list(group.iter("{http://www.w3.org/2000/svg}text"))
        if group.get("class") == "cluster":
            frames[words[0].text] = [(min(c), max(c)) for c in zip(*corners)]
        elif group.get("class") == "node" and (words[0].text or "").startswith("neurons["):
            places.setdefault(words[0].get("y" if direction in ("LR", "RL") else "x"), words[0].text)
    if depth == 2:
        along = sorted(places, key=lambda place: float(place))
        assert [places[place] for place in along if places[place] != "neurons[0]: Neuron"][-1].startswith("neurons[3]")
    if depth is None:
        axis = 0 if direction in ("LR", "RL") else 1
        spans = [frames[f"layers[{k}]: Layer"][axis] for k in range(3)]
        spans = spans if direction in ("LR", "TB") else [(-b, -a) for a, b in spans]
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_names_are_short_within_the_frame_that_says_the_rest() -> None:
    network = nn.MLP(2, [2, 1], rng=random.Random(0))
    boxes, _ = parts(mg.draw(network([0.5, -1.0]), model=network, expand=True).source)
    first = [shown(label)[0] for label in boxes.values() if shown(label)]
    assert first.count("w.0") == first.count("b") == 3
    assert any(re.fullmatch(r"v\d+ = w\.0 \* 0\.5", text) for text in first)


def test_parts_with_one_path_are_frames_of_their_own() -> None:
    w, v = Value(1.0), Value(2.0)
    inner: Any = nn.Module()
    outer: Any = nn.Module()
    inner.w, outer.v = w, v
    vars(outer)["a.b"], outer.a = inner, nn.Module()
    outer.a.b = nn.Module()
    outer.a.b.v = v
    source = mg.draw(w * v, model=outer).source
    names = re.findall(r"subgraph (\S+)", source)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("label", [label for label in HOSTILE if label])
def test_any_label_is_shown_as_it_is(bundled: None, label: str) -> None:
    svg = mg.draw(Value(1.0, label) * Value(2.0, "w"), derivatives=True).pipe(encoding="utf-8")
    cut = label if len(label) <= 40 else f"{label[:37]}..."
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    assert plain in texts(svg)


def test_a_notebook_shows_svg(bundled: None) -> None:
    picture = mg.draw(Value(1.0) * 2.0)
    assert isinstance(picture, graphviz.Digraph)
    assert picture._repr_mimebundle_()["image/svg+xml"].startswith("<?xml")
    assert picture._repr_mimebundle_(exclude=["image/svg+xml"]) == {}
    assert set(picture._repr_mimebundle_(include=["image/svg+xml", "text/plain"])) == {"image/svg+xml"}


def test_without_a_renderer_a_notebook_shows_the_text_and_what_to_install(bare: None) -> None:
    picture = mg.draw(Value(1.0) * 2.0)
    line, _, *source = picture._repr_mimebundle_()["text/plain"].splitlines()
    assert "pip install 'micrograd-bp[draw]'" in line
    assert source == picture.source.splitlines()


def test_without_a_renderer_nothing_is_written(bare: None, tmp_path: Path) -> None:
    (tmp_path / "graph.svg").write_text("as it was")
    with pytest.raises(ImportError, match=r"pip install 'micrograd-bp\[draw\]'"):
        mg.draw(Value(1.0) * 2.0).render(outfile=tmp_path / "graph.svg")
    assert os.listdir(tmp_path) == ["graph.svg"]
    assert (tmp_path / "graph.svg").read_text() == "as it was"


def test_files_are_named_as_graphviz_names_them(bundled: None, tmp_path: Path) -> None:
    picture = mg.draw(Value(1.0) * 2.0)
    assert picture.render("graph", tmp_path, format="png") == str(tmp_path / "graph.png")
    assert (tmp_path / "graph").read_text() == picture.source
    assert picture.render(directory=tmp_path) == str(tmp_path / "Picture.gv.svg")
    picture.render(outfile=tmp_path / "new" / "picture.svg")
    assert sorted(os.listdir(tmp_path / "new")) == ["picture.gv", "picture.svg"]


def test_a_copy_of_a_picture_renders_as_well(bundled: None) -> None:
    picture = mg.draw(Value(1.0) * 2.0).copy()
    picture.attr(label="a caption")
    assert "a caption" in texts(picture.pipe(encoding="utf-8"))


def test_what_graphviz_cannot_do_is_an_error(bundled: None) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        mg.draw(Value(1.0) * 2.0).pipe("nonsense")
    with pytest.raises(RuntimeError, match="Graphviz could not make svg of this graph"):
        drawing._bundled("digraph { a -> ", "svg", "dot")


# --- large graphs -------------------------------------------------------------------------------------------------


def chain(length: int) -> Any:
    node = Value(1.0, "x")
    for _ in range(length):
        node = node * 1.001
    return node


def test_the_nodes_nearest_to_the_output_are_drawn_and_the_others_counted() -> None:
    boxes, edges = parts(mg.draw(chain(1000)).source)
    assert len([name for name in boxes if re.fullmatch(r"n\d+", name)]) == 300
    assert "701 more nodes are not shown (max_nodes=300)" in mg.draw(chain(1000)).source
    assert ("n701more", "n701", "") in edges


def test_a_graph_within_the_limit_hides_nothing() -> None:
    assert "not shown" not in mg.draw(chain(299)).source


def test_a_hundred_thousand_nodes_are_refused_without_a_limit_and_drawn_with_one() -> None:
    output = chain(100_000)
    with pytest.raises(ValueError, match="a picture of 100,001 boxes would take minutes to lay out; pass a smaller"):
        mg.draw(output, max_nodes=None)
    assert "99,901 more nodes" in mg.draw(output, max_nodes=100).source


def test_a_tangle_is_drawn_with_straight_edges(bundled: None) -> None:
    rng = random.Random(0)
    pool = [Value(1.0) for _ in range(5)]
    for _ in range(100):
        pool.append(rng.choice(pool[-50:]) * rng.choice(pool))
    output: Any = sum(pool)
    picture = mg.draw(output)
    assert "splines=line" in picture.source
    assert picture.pipe().startswith(b"<?xml")


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_a_count(limit: int) -> None:
    with pytest.raises(ValueError, match="max_nodes is a count"):
        mg.draw(Value(1.0), max_nodes=limit)


# --- the parts of a model -----------------------------------------------------------------------------------------


class Neuron:
    """As in micrograd: a list of weights, a bias, a nonlinearity."""

    def __init__(self, inputs: int, rng: random.Random, activation: Any) -> None:
        self.w = [Value(rng.uniform(-1, 1)) for _ in range(inputs)]
        self.b = Value(0.0)
        self.activation = activation

    def __call__(self, x: list[Any]) -> Any:
        return self.activation(sum((wi * xi for wi, xi in zip(self.w, x)), self.b))

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]


class Layer:
    def __init__(self, inputs: int, outputs: int, rng: random.Random, activation: Any) -> None:
        self.neurons = [Neuron(inputs, rng, activation) for _ in range(outputs)]

    def __call__(self, x: list[Any]) -> list[Value]:
        return [neuron(x) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        return [p for neuron in self.neurons for p in neuron.parameters()]


class Network:
    def __init__(self, sizes: list[int], rng: random.Random, activation: Any = Value.tanh) -> None:
        self.layers = [Layer(*pair, rng, activation) for pair in itertools.pairwise(sizes)]

    def __call__(self, x: list[Any]) -> list[Any]:
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]


ACTIVATIONS = {
    "tanh": Value.tanh,
    "leaky_relu": ops.leaky_relu,
    "linear": lambda x: x,
    "composite": lambda x: x * ops.sigmoid(1.702 * x),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_neuron_is_what_is_computed_with_its_parameters_and_its_activation(activation: str) -> None:
    network = Network([2, 3, 1], random.Random(0), ACTIVATIONS[activation])
    (out,) = network([0.5, -1.0])
    loss = (out - 1.0) ** 2
    listing, root = Listing(loss), find_parts(network)
    member = members(listing, root)
    neurons = [part for part in root.walk() if part.depth == 2]
    assert [part.path for part in neurons] == [
        *(f"layers[0].neurons[{i}]" for i in range(3)),
        "layers[1].neurons[0]",
    ]
    for part in neurons:
        inside = [node for node in listing.nodes if member.get(node) is part]
        inputs = len(part.parameters) - 1
        extra = {"tanh": 1, "leaky_relu": 1, "linear": 0, "composite": 3 if part.parent is not root.parts[1] else 0}
        assert len(inside) == inputs + 1 + 2 * inputs + extra[activation]
    outside = [node for node in listing.interior if node not in member]
    assert outside[-2:] == [loss.operands[0], loss]
    assert len(outside) == (5 if activation == "composite" else 2)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_the_library_s_own_networks_have_their_layers_and_neurons(activation: str) -> None:
    network = nn.MLP(2, [3, 1], activation=activation, rng=random.Random(0))
    output = network([0.5, -1.0])
    boxes, edges = parts(mg.draw((output - 1.0) ** 2, model=network, depth=1).source)
    found = [shown(label) for label in boxes.values() if "parameters" in label]
    assert [cells[0] for cells in found] == ["layers[0]: Layer", "layers[1]: Layer"]
    assert [cells[2] for cells in found] == ["9", "4"]
    assert any(label == "×3" for _, _, label in edges)


def test_the_loss_of_a_classifier_is_outside_the_network() -> None:
    network = nn.MLP(4, [5, 3], rng=random.Random(0))
    loss = losses.cross_entropy(network([0.1, 0.2, 0.3, 0.4]), 1)
    boxes, _ = parts(mg.draw(loss, model=network, depth=0).source)
    outside = [shown(label)[0] for name, label in boxes.items() if re.fullmatch(r"n\d+", name)]
    assert outside[0] == "MLP"
    assert len(outside) == 5
    assert "43" in shown(next(iter(boxes.values())))


def test_depth_says_how_far_parts_are_opened() -> None:
    network = Network([2, 2, 1], random.Random(0))
    loss = (network([1.0, 2.0])[0] - 1.0) ** 2
    counts = []
    for depth in (0, 1, 2, None):
        boxes, _ = parts(mg.draw(loss, model=network, depth=depth).source)
        counts.append(len([name for name in boxes if re.fullmatch(r"n\d+", name)]))
    assert counts == [1 + 2, 2 + 2, 3 + 2, len(topological_order(loss))]


def test_parts_are_frames_unless_they_are_closed() -> None:
    network = Network([2, 2, 1], random.Random(0))
    (loss,) = network([1.0, 2.0])
    source = mg.draw(loss, model=network, collapse=["layers[0].neurons[1]"]).source
    frames = re.findall(r'subgraph "?cluster_([^" ]*)"? \{', source)
    assert frames == ["Network", "layers[0]", "layers[0].neurons[0]", "layers[1]", "layers[1].neurons[0]"]
    assert source == mg.draw(loss, model=network, collapse=[network.layers[0].neurons[1]]).source
    assert source.count("{") == source.count("}")


def test_a_model_may_be_a_mapping_from_names_to_parameters() -> None:
    w, b, scale = [Value(1.0), Value(2.0)], Value(3.0), Value(4.0)
    output = ((w[0] * 2.0 + w[1] * 3.0) + b).tanh() * scale
    picture = mg.draw(output, model={"neuron": [*w, b], "scale": scale}, depth=1)
    boxes, edges = parts(picture.source)
    assert [shown(label)[::2] for label in boxes.values()] == [["neuron", "3", "5"], ["scale", "1", "1"]]
    assert [(a, b) for a, b, _ in edges] == [("n0", "n1")]


def test_a_whole_batch_is_inside_the_same_parts() -> None:
    network = Network([2, 2, 1], random.Random(0))
    loss = sum(((network([x, 1.0])[0] - 1.0) ** 2 for x in (0.1, 0.2, 0.3)), Value(0.0))
    boxes, edges = parts(mg.draw(loss, model=network, depth=1).source)
    closed = [shown(label) for label in boxes.values() if "parameters" in label]
    assert [cells[2] for cells in closed] == ["6", "3"]
    assert [cells[4] for cells in closed] == [str(3 * 10), str(3 * 5)]
    assert "×6" in [label for _, _, label in edges]


def test_an_unrolled_recurrent_network_stays_in_its_cell() -> None:
    cell = nn.RNNCell(2, 3, rng=random.Random(0))
    state: Any = None
    for _ in range(3):
        state = cell([0.1, 0.2], state)
    boxes, _ = parts(mg.draw((state[0] - 1.0) ** 2, model=cell, depth=0).source)
    assert len([name for name in boxes if re.fullmatch(r"n\d+", name)]) == 3


@pytest.mark.parametrize("options", [{"depth": 1}, {"depth": 2}, {}])
def test_a_network_with_two_layers_of_sixteen_draws_collapsed_and_whole(bundled: None, options: dict[Any, Any]) -> None:
    network = nn.MLP(2, [16, 16, 1], rng=random.Random(0))
    loss = (network([Value(1.0, "x1"), Value(-2.0, "x2")]) - 1.0) ** 2
    svg = mg.draw(loss, model=network, max_nodes=None, **options).pipe(encoding="utf-8")
    order = topological_order(loss)
    constants = sum(not isinstance(x, Value) for node in order for x in node.operands)
    loose = 2 + 2 + 2  # the inputs, the loss and its constants
    boxes = {1: 3 + loose, 2: 33 + loose, None: len(order) + constants}
    assert svg.count('class="node"') == boxes[options.get("depth")]


def test_mistakes_about_parts() -> None:
    network = Network([2, 1], random.Random(0))
    (output,) = network([1.0, 2.0])
    with pytest.raises(ValueError, match="pass model="):
        mg.draw(output, depth=1)
    with pytest.raises(ValueError, match="pass model="):
        mg.draw(output, collapse=["layers[0]"])
    with pytest.raises(ValueError, match=r"no part 'layer0'; it has Network, layers\[0\]"):
        mg.draw(output, model=network, collapse="layer0")
    with pytest.raises(ValueError, match="depth counts levels from 0"):
        mg.draw(output, model=network, depth=-1)
    with pytest.raises(TypeError, match="no parameters in 3"):
        mg.draw(output, model=3)


def test_a_model_that_refers_to_itself_and_one_with_slots() -> None:
    class Slotted:
        __slots__ = ("me", "w")

        def __init__(self) -> None:
            self.w, self.me = Value(2.0), self

        def parameters(self) -> list[Value]:
            return [self.w]

    class Hidden(Slotted):
        __slots__ = ("inner",)

        def __init__(self) -> None:
            super().__init__()
            self.inner = {"first": Slotted(), "second": (Slotted(),)}

    model = Hidden()
    assert [part.path for part in find_parts(model).walk()] == [
        "Hidden",
        "inner['first']",
        "inner['second'][0]",
    ]


# --- arrays -----------------------------------------------------------------------------------------------------------


def array_boxes(picture: Any) -> tuple[Any, ...]:
    """The text of each box, and each edge as (from, to, label)."""
    boxes = {
        name: re.sub("<[^>]*>", " ", text) for name, text in re.findall(r"\t(a\d+) \[label=<(.*)>\]", picture.source)
    }
    edges = re.findall(r'\t(a\d+) -> (a\d+) \[label=(?:"([^"]*)"|(\w+))\]', picture.source)
    return {name: " ".join(html.unescape(text).split()) for name, text in boxes.items()}, [
        (a, b, c or d) for a, b, c, d in edges
    ]


def test_a_network_is_drawn_as_its_arrays() -> None:
    pytest.importorskip("numpy")
    model = nn.MLP(6, [5, 3], activation="tanh", rng=random.Random(0))
    boxes, edges = array_boxes(mg.draw(model([Value(0.1 * k, f"x{k}") for k in range(6)]), arrays=True))
    assert list(boxes.values()) == [
        "layers.0.neurons.i.w.i 5 × 6 members",
        "xi 6 members",
        "layers.0.neurons.i.b 5 members",
        "h1 = layers.0.neurons.i.w.i @ xi + layers.0.neurons.i.b 5 members",
        "h2 = tanh(h1) 5 members",
        "layers.1.neurons.i.w.i 3 × 5 members",
        "layers.1.neurons.i.b 3 members",
        "h3 = layers.1.neurons.i.w.i @ h2 + layers.1.neurons.i.b 3 members",
    ]
    assert {how for *_, how in edges} == {"whole"}
    assert len(edges) == 7


def test_edges_between_arrays_say_how_they_are_read() -> None:
    pytest.importorskip("numpy")
    x = [Value(0.1 * k + 1.0, f"x{k}") for k in range(8)]
    y = [a.exp() for a in x]
    z = [a * y[3] for a in y] + [a - 1.0 for a in y[2:6]] + [a.sin() for a in y[1::2]]
    z += [a / b for a, b in zip(y, [y[k] for k in (5, 1, 0, 0, 2, 7, 3, 3)])] + [a - b for a, b in zip(y, y[::-1])]
    boxes, edges = array_boxes(mg.draw(z, arrays=True))
    named = {name: text.split(" ")[0] for name, text in boxes.items()}
    found: dict[Any, set[Any]] = {
        (named[a], boxes[b].partition(" = ")[2].partition(" 8 ")[0]): set() for a, b, _ in edges
    }
    for a, b, how in edges:
        found[named[a], boxes[b].partition(" = ")[2].partition(" 8 ")[0]].add(how)
    assert found["h1", "h1 * h1"] == {"whole", "broadcast [3]"}
    assert found["h1", "h1 - 1 4 members"] == {"slice 2:6"}
    assert found["h1", "sin(h1) 4 members"] == {"slice 1:9:2"}
    assert found["h1", "h1 / h1"] == {"whole", "gathered 8"}
    assert found["h1", "h1 - h1"] == {"whole", "permuted"}


def test_a_picture_of_arrays_has_a_caption_a_limit_and_no_models() -> None:
    pytest.importorskip("numpy")
    x = Value(0.5, "x")
    y = x
    for _ in range(30):
        y = y.sin()
    picture = mg.draw(y, arrays=True, max_nodes=5, title="Sines")
    assert "30 operations in 30 arrays" in picture.source
    assert "26 boxes farther from the output are not drawn" in picture.source
    assert len(array_boxes(picture)[0]) == 5
    for options in ({"derivatives": True}, {"shade": True}, {"model": nn.Neuron(1)}):
        with pytest.raises(ValueError, match=f"arrays=True draws arrays, which have no {next(iter(options))}"):
            mg.draw(y, arrays=True, **options)
    with pytest.raises(ValueError, match="the output is a leaf"):
        mg.draw(x, arrays=True)


def test_a_loop_is_a_frame_with_what_it_carries() -> None:
    pytest.importorskip("numpy")
    a, w, k = Value(0.5, "a"), Value(0.1, "w"), Value(9.8, "k")
    angle, speed = a, w
    for _ in range(1000):
        angle, speed = angle + 0.001 * speed, speed - 0.001 * k * mg.math.sin(angle)
    source = mg.draw(angle * 2.0, arrays=True).source
    assert 'label="1,000 times"' in source
    assert source.count("<td>") == 8  # a, w, k; two that are carried, and their next; the output
    assert source.count('label="next turn"') == source.count('label="at first"') == 2
    assert "<b>next w2</b> = w2 - 0.001 * k * sin(a2)" in source


def choosing(a: Any, w: Any) -> Any:
    for _ in range(1000):
        a, w = a + 0.001 * w, ops.maximum(w - 0.001 * ops.sin(a), -1.0)
        a = ops.where(ops.less(a, w), a, a * 1.01)
    return a


def sums_of_states(a: Any, w: Any) -> Any:
    states = [a]
    for _ in range(1000):
        states.append(states[-1] + 0.001 * w * ops.sin(states[-1]))
    for x in states:
        w = w * 0.99 + ops.tanh(x)
    return sum(states) + w


@pytest.mark.parametrize(
    ("program", "shown"), [(choosing, "if s1 &lt; t3 else"), (sums_of_states, "sin")], ids=["choice", "states"]
)
def test_programs_with_loops_are_drawn(program: Callable[..., Any], shown: str) -> None:
    pytest.importorskip("numpy")
    picture = mg.draw(program(Value(0.5, "a"), Value(0.1, "w")), arrays=True)
    assert shown in picture.source

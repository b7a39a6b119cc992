"""Explanations say what the engine does: their numbers are backward()'s, their formulas evaluate to the data."""

import math
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, gradients, ops
from micrograd_bp._engine.labels import node_names, readable
from micrograd_bp.cli import parse
from micrograd_bp.compiler.python import python_source
from micrograd_bp.see.trace import Trace
from micrograd_bp.value import topological_order

ROWS = {name: op for name, op in ops.TABLE.items() if name != "polygamma"}  # its order is no real number
softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - ops.abs(out)) ** 2,))


def point(op: Op, rng: random.Random) -> list[float]:
    """Arguments inside the domain of a row, of moderate size."""
    count = op.arity or 4
    bounds = [op.domain[min(i, len(op.domain) - 1)] for i in range(count)]
    args = [rng.uniform(max(low, -3.0), min(high, 3.0)) for low, high in bounds]
    return [args[0], float(round(args[1]))] if op is ops.ldexp else args


def program(rng: random.Random, size: int = 12) -> tuple[Any, ...]:
    """A random graph: shared nodes, repeated operands, constants; and its leaves."""
    leaves = [Value(rng.uniform(0.5, 2.0), label) for label in ("a", "b", "a b", "", "v3")]
    nodes = list(leaves)
    while len(nodes) < size + len(leaves):
        op = rng.choice(list(ROWS.values()))
        args = [rng.choice([*nodes[-8:], rng.choice([2.0, -0.5, 3.0])]) for _ in range(op.arity or 4)]
        try:
            node = op(*args)
        except (ArithmeticError, ValueError):
            continue
        if isinstance(node, Value) and abs(node.data) < 1e6 and all(map(math.isfinite, node.partials)):
            nodes.append(node)
    return sum(nodes[len(leaves) :]), leaves


programs = st.integers(0, 10**9).map(lambda seed: program(random.Random(seed)))


def gradient(output: Any, leaves: list[Any]) -> list[float]:
    """What backward() leaves in the leaves' grad."""
    for leaf in leaves:
        leaf.grad = 0.0
    output.backward()
    return [leaf.grad for leaf in leaves]


def same(x: Any, y: Any) -> bool:
    return x == y or (x != x and y != y)


def bits(x: Any) -> str:
    return math.nan.hex() if x != x else x.hex()


# --- graphs as Python ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ROWS.values(), ids=ROWS)
def test_source_of_every_row_and_its_gradient_gives_the_recorded_bits(op: Op) -> None:
    rng = random.Random(op.name)
    for _ in range(5):
        leaves = [Value(x) for x in point(op, rng)]
        output = op(*leaves)
        wanted = [output, *gradients(output, leaves)]
        given = python_source(wanted, leaves).function()(*[leaf.data for leaf in leaves])
        assert [*map(bits, given)] == [bits(x.data) for x in wanted]


@given(programs)
def test_source_of_random_programs_and_their_gradients_gives_the_recorded_bits(made: tuple[Any, ...]) -> None:
    output, leaves = made
    wanted = [output, *gradients(output, leaves)]
    given = python_source(wanted, leaves).function()(*[leaf.data for leaf in leaves])
    assert [*map(bits, given)] == [bits(x.data) for x in wanted]


def test_source_is_straight_line_python_with_labels_where_they_are_names() -> None:
    x, y, z = Value(2.0, "x"), Value(3.0, "no name"), Value(4.0, "scale")
    w = -((x * y) ** 2) / z
    w.label = "out"
    assert python_source([w, x], [x, y], name="area") == (
        "def area(x, x2):\n"
        "    v1 = x * x2\n"
        "    v2 = v1 ** 2.0\n"
        "    v3 = -v2\n"
        "    scale = 4.0\n"
        "    out = v3 / scale\n"
        "    return (out, x)"
    )


@pytest.mark.parametrize("label", ["lambda", "2x", "x y", "tanh", "__debug__", "inf", "import os", "ﬁ", "f(", "\n", ""])
def test_a_label_that_is_no_name_is_not_used_as_one(label: str) -> None:
    x = Value(0.5, label)
    source = python_source([x.tanh()], [x])
    assert source.startswith("def f(x1):")
    assert source.function()(0.5) == (math.tanh(0.5),)


def test_equal_labels_and_rows_of_equal_names_stay_apart() -> None:
    double = Op("twice", "twice", lambda x: 2 * x, lambda out, x: (2.0,))
    triple = Op("twice", "twice", lambda x: 3 * x, lambda out, x: (3.0,))
    own_tanh = Op("tanh", "tanh", lambda x: x, lambda out, x: (1.0,))
    odd = Op("x); import os #", "odd", lambda x: -x, lambda out, x: (-1.0,))
    own_f = Op("f", "f", lambda x: x / 4, lambda out, x: (0.25,))
    a, b = Value(1.0, "twice"), Value(5.0, "twice")
    output = double(a) + triple(b) + odd(a) + own_tanh(b) + b.tanh() + own_f(a)
    assert python_source([output], [a, b]).function()(1.0, 5.0) == (output.data,)


def test_an_input_inside_the_graph_cuts_it_there() -> None:
    x = Value(3.0, "x")
    square = x.square()
    assert "square" not in python_source([square + 1.0], [square])
    assert python_source([square + 1.0], [square]).function()(100.0) == (101.0,)


def test_constants_are_written_so_that_python_reads_them_alike() -> None:
    x = Value(2.0, "x")
    outputs = [x * c for c in (-0.0, math.inf, -math.inf, math.nan, 1e-300, 0.1)] + [(-3.0) ** (x * 1), Value(-7.0)]
    given = python_source(outputs, [x]).function()(2.0)
    assert [*map(bits, given)] == [bits(output.data) for output in outputs]


def test_source_refuses_inputs_given_twice_and_names_that_are_none() -> None:
    x = Value(1.0)
    with pytest.raises(ValueError, match="not distinct"):
        python_source([x], [x, x])
    for name in ("a b", "tanh", "nan", "def"):
        with pytest.raises(ValueError, match=f"'{name}' is no name"):
            python_source([x], [x], name=name)


def test_source_of_a_hundred_thousand_nodes() -> None:
    x = node = Value(0.5, "x")
    for _ in range(50_000):
        node = node * x + 0.1
    assert python_source([node], [x]).count("\n") == 100_001


# --- the backward pass as source ----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ROWS.values(), ids=ROWS)
def test_backward_source_of_every_row_gives_the_numbers_of_backward(op: Op) -> None:
    rng = random.Random(op.name)
    for _ in range(5):
        leaves = [Value(x) for x in point(op, rng)]
        output = op(*leaves) * 3.0
        value, given = mg.backward_source(output, leaves).function()(*[leaf.data for leaf in leaves])
        assert same(value, output.data)
        assert all(map(same, given, gradient(output, leaves)))


@given(programs)
def test_backward_source_of_random_programs_gives_the_numbers_of_backward(made: tuple[Any, ...]) -> None:
    output, leaves = made
    value, given = mg.backward_source(output, leaves).function()(*[leaf.data for leaf in leaves])
    assert value == output.data
    assert all(map(same, given, gradient(output, leaves)))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x.sqrt() * x,
        lambda x: x.cbrt() * x.relu(),
        lambda x: ops.hypot(x, 0.0) + x**3 + x**0,
        lambda x: (x - 1.0).abs() * ops.maximum(x, 0.0),
        lambda x: ops.pow(x, x + 1.0) * 0.0,
    ],
)
def test_backward_source_at_kinks_and_infinite_slopes(build: Callable[..., Any]) -> None:
    x = Value(0.0, "x")
    output = build(x)
    value, given = mg.backward_source(output, [x]).function()(0.0)
    assert (value, given) == (output.data, gradient(output, [x]))


def test_backward_source_shows_the_accumulation_in_the_order_of_backward() -> None:
    x = Value(3.0, "x")
    source = mg.backward_source(x * x + x, [x])
    lines = [line.strip() for line in source.splitlines()]
    assert lines[lines.index("# backward") :] == [
        "# backward",
        "v2_bar = 1.0",
        "v1_bar = v2_bar",
        "x_bar = v2_bar",
        "x_bar += v1_bar * x",
        "x_bar += v1_bar * x",
        "return v2, [x_bar]",
    ]


def test_backward_source_runs_as_it_stands() -> None:
    a, b = Value(0.3, "a"), Value(2.0, "b")
    output = (a * b).tanh() + a.sqrt() * math.inf
    scope: dict[str, Any] = {}
    exec(mg.backward_source(output, [a, b], name="both"), scope)
    value, given = scope["both"](0.3, 2.0)
    assert value == output.data
    assert all(map(same, given, gradient(output, [a, b])))


def test_backward_source_of_an_input_that_does_not_matter_and_of_an_input_itself() -> None:
    x, y = Value(2.0, "x"), Value(3.0, "y")
    assert mg.backward_source(x * 2.0, [x, y]).function()(2.0, 3.0) == (4.0, [2.0, 0.0])
    assert mg.backward_source(x, [x, y]).function()(2.0, 3.0) == (2.0, [1.0, 0.0])


def test_backward_source_and_tables_take_rules_that_do_not_run_on_names() -> None:
    branch = Op("branch", "br", lambda x: abs(x), lambda out, x: (1.0 if x > 0 else -1.0,))
    truth = Op("truth", "tr", lambda x: 2 * x, lambda out, x: (2.0 if x else 0.0,))
    x = Value(-3.0, "x")
    output = branch(x) * truth(x) * softsign(x)
    value, given = mg.backward_source(output, [x]).function()(-3.0)
    assert (value, given) == (output.data, gradient(output, [x]))
    assert "x' = v" in str(mg.trace_table(output))


# --- trace table --------------------------------------------------------------------------------------------------


@given(programs)
def test_the_traces_hold_the_data_and_the_gradients(made: tuple[Any, ...]) -> None:
    output, leaves = made
    gradient(output, leaves)
    table = mg.trace_table(output)
    trace = Trace(output)
    rows = dict(zip(trace.nodes, table.rows, strict=True))
    assert set(rows) == set(topological_order(output))
    for node, row in rows.items():
        assert row.value == node.data
        assert same(row.adjoint, node.grad)
        assert row.reverse.startswith(f"{trace.names[node]}' = ")


def test_the_trace_table_of_the_survey_literature() -> None:
    x1, x2 = Value(2.0, "x1"), Value(5.0, "x2")
    assert str(mg.trace_table(x1.log() + x1 * x2 - x2.sin())) == (
        "forward trace      value  |  reverse trace                    adjoint\n"
        "--------------------------+------------------------------------------\n"
        "x1                     2  |  x1' = v2' * x2 + v1' * (1 / x1)      5.5\n"
        "x2                     5  |  x2' = v4' * cos(x2) + v2' * x1   1.71634\n"
        "v1 = log(x1)    0.693147  |  v1' = v3'                              1\n"
        "v2 = x1 * x2          10  |  v2' = v3'                              1\n"
        "v3 = v1 + v2     10.6931  |  v3' = v5'                              1\n"
        "v4 = sin(x2)   -0.958924  |  v4' = -v5'                            -1\n"
        "v5 = v3 - v4     11.6521  |  v5' = 1                                1"
    )


def test_a_trace_table_leaves_grad_alone() -> None:
    x = Value(2.0)
    x.grad = 7.0
    mg.trace_table(x * x)
    assert x.grad == 7.0


def test_markdown_and_html_hold_the_same_cells() -> None:
    a, b = Value(2.0, "a"), Value(3.0, "<b>|`")
    table = mg.trace_table((a * b).less(7.0) * a)
    assert "| `v1 = a * x2` | `6` |" in table.markdown()
    assert all(line.count(" | ") == 3 for line in table.markdown().splitlines())
    assert '<td style="text-align:left"><code>v1&#x27; = 0</code></td>' in table.html()
    assert "<b>" not in table.html()
    assert table._repr_html_() == table.html()


def test_of_a_long_table_the_ends_are_shown() -> None:
    node = Value(1.0, "x")
    for _ in range(1000):
        node = node * 1.5
    table = mg.trace_table(node, max_rows=10)
    assert len(table.rows) == 10
    assert "... 991 more nodes" in str(table)
    assert table.rows[-1].forward == "v1000 = v999 * 1.5"
    assert len(mg.trace_table(node, max_rows=None).rows) == 1001


def test_a_value_that_nothing_made_has_a_table_of_one_row() -> None:
    (row,) = mg.trace_table(Value(2.0, "x")).rows
    assert row == ("x", 2.0, "x' = 1", 1.0)


def test_an_operand_used_very_often_has_an_abridged_sum() -> None:
    x = Value(1.0, "x")
    assert "... (45 more)" in mg.trace_table(sum((x * 2.0 for _ in range(50)), Value(0.0))).rows[0].reverse


@pytest.mark.parametrize("label", ["x", "w[0]", "layer1.b", "w0_3", "σ", "weights[3][i].v"])
def test_labels_that_read_like_names_are_used_in_formulas(label: str) -> None:
    assert readable(label)


@pytest.mark.parametrize("label", ["", "a b", "a'", "x1*w1", "1x", "a\n", "`", "|", "<b>", "x" * 25])
def test_other_labels_are_not(label: str) -> None:
    assert not readable(label)


@given(st.lists(st.sampled_from(["a", "v1", "x1", "x2", "v1_", "", "v2"]), min_size=3, max_size=6))
def test_no_two_nodes_have_one_name(labels: list[str]) -> None:
    leaves = [Value(1.0, label) for label in labels]
    output: Any = sum(leaves)
    names = node_names(topological_order(output), leaves, readable)
    assert len(set(names.values())) == len(names) == len(topological_order(output))


# --- paths --------------------------------------------------------------------------------------------------------


def brute_force(node: Any, x: Any) -> list[float]:
    """The products along all paths, by recursion."""
    if node is x:
        return [1.0]
    steps = zip(node.operands, node.partials)
    return [p * rest for y, p in steps if isinstance(y, Value) for rest in brute_force(y, x)]


@given(st.integers(0, 10**9))
def test_the_products_of_all_paths_sum_to_the_gradient(seed: int) -> None:
    rng = random.Random(seed)
    x, nodes = Value(rng.uniform(-1, 1), "x"), []
    nodes.append(x)
    for _ in range(7):
        op = rng.choice([ops.mul, ops.add, ops.sub, ops.sin, ops.tanh])
        nodes.append(op(*[rng.choice(nodes) for _ in range(op.arity or 0)]))
    output = nodes[-1]
    wanted = brute_force(output, x)
    found = mg.paths(output, x, limit=10**6)
    assert found.count == len(found.listed) == len(wanted)
    assert sorted(path.product for path in found.listed) == pytest.approx(sorted(wanted))
    assert found.gradient == gradient(output, [x])[0]
    scale = sum(abs(path.product) for path in found.listed) or 1.0
    assert abs(found.total - found.gradient) <= 1e-12 * scale
    for path in found.listed:
        assert path.nodes[0] is output
        assert path.nodes[-1] is x
        for user, used, partial in zip(path.nodes, path.nodes[1:], path.partials):
            assert any(x is used and p == partial for x, p in zip(user.operands, user.partials))


def test_paths_double_with_every_layer_and_are_counted_without_being_walked() -> None:
    x = node = Value(1.0, "x")
    for _ in range(20_000):
        node = node + node
    found = mg.paths(node * 0.5, x, limit=3)
    assert found.count == 2**20_000
    assert len(found.listed) == 3
    assert str(found).startswith("about 10**6020.6 paths from v20001 to x")
    assert "not listed" in str(found)


def test_paths_say_that_the_sum_is_the_gradient() -> None:
    a = Value(3.0, "a")
    b = a + a
    text = str(mg.paths(b * b, a))
    assert text.startswith("4 paths from v2 to a\n")
    assert text.endswith("sum of the products: 24\nthe gradient, from one sweep over 2 nodes: 24")


def test_paths_from_a_node_to_itself_and_to_a_stranger() -> None:
    x = Value(2.0, "x")
    assert mg.paths(x, x).count == 1
    assert mg.paths(x, x).total == mg.paths(x, x).gradient == 1.0
    assert mg.paths(x * 2.0, Value(5.0)).count == 0
    assert str(mg.paths(x * 2.0, Value(5.0, "y"))).startswith("0 paths from v1 to y\n")


@pytest.mark.parametrize("thing", [None, 3.0, "x", object, 10**400], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(
    ("taker", "call"),
    [
        ("formula", mg.formula),
        ("trace_table", mg.trace_table),
        ("paths", lambda thing: mg.paths(thing, Value(1.0))),
        ("paths", lambda thing: mg.paths(Value(1.0), thing)),
        ("draw", mg.draw),
        ("explore", lambda thing: mg.explore(thing, path=None)),
        ("backward_source", lambda thing: mg.backward_source(thing, [])),
        ("backward_source: inputs", lambda thing: mg.backward_source(Value(1.0), thing)),
        ("backward_source: inputs", lambda thing: mg.backward_source(Value(1.0), [thing])),
        ("python_source: outputs", lambda thing: python_source(thing, [])),
        ("python_source: outputs", lambda thing: python_source([thing], [])),
        ("python_source: inputs", lambda thing: python_source([Value(1.0)], [thing])),
    ],
)
def test_what_is_no_value_is_named_together_with_its_taker(taker: str, call: Callable[..., Any], thing: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{taker}\b.*\b{type(thing).__name__}\)"):
        call(thing)


def test_a_limit_of_paths_is_a_count() -> None:
    x = Value(2.0)
    assert mg.paths(x * x, x, limit=0).listed == []
    with pytest.raises(ValueError, match="limit is a count of paths"):
        mg.paths(x * x, x, limit=-1)


def test_paths_to_a_node_within_the_graph() -> None:
    x = Value(2.0, "x")
    inner = x * x
    assert mg.paths(inner.sin() + inner, inner).count == 2


# --- formula ------------------------------------------------------------------------------------------------------


@given(programs)
def test_a_formula_evaluates_to_the_data(made: tuple[Any, ...]) -> None:
    output, leaves = made
    names = Trace(output).names
    text = mg.formula(output, limit=10**6)
    assert parse.record(text, {names[x]: x.data for x in leaves if x in names}).data == output.data


@given(programs)
def test_a_formula_with_lines_for_shared_nodes_evaluates_to_the_data(made: tuple[Any, ...]) -> None:
    output, leaves = made
    names = Trace(output).names
    known = {names[x]: x.data for x in leaves if x in names}
    text, *lines = mg.formula(output, limit=10).splitlines()
    for line in lines:
        found = re.fullmatch(r"(?:where|     ) (\w+) += (.*)", line)
        assert found
        name, expression = found.groups()
        used = {x: known[x] for x in re.findall(r"\w+", expression) if x in known}
        known[name] = parse.record(expression, used).data
    used = {x: known[x] for x in re.findall(r"\w+", text) if x in known}
    assert parse.record(text, used).data == output.data


def test_formulas_in_latex() -> None:
    x, w, theta, rate = Value(2.0, "x1"), Value(3.0, "w[0]"), Value(0.5, "theta"), Value(0.1, "rate")
    assert mg.formula((x * w + 1) / ops.sqrt(theta)).latex == r"\frac{x_{1} \cdot w_{0} + 1}{\sqrt{\theta}}"
    assert mg.formula(-((x + w) ** 2) * rate).latex == r"-\left(x_{1} + w_{0}\right)^{2} \cdot \mathrm{rate}"
    assert mg.formula(ops.exp(x) * ops.maximum(x, 1e-5)).latex == (
        r"e^{x_{1}} \cdot \operatorname{max}\left(x_{1}, 1 \cdot 10^{-5}\right)"
    )
    assert mg.formula(abs(x) // 2.0)._repr_latex_() == (
        r"$\displaystyle \left\lfloor \frac{\left|x_{1}\right|}{2} \right\rfloor$"
    )


def test_every_row_has_a_formula_of_balanced_latex() -> None:
    for op in ROWS.values():
        latex = mg.formula(op(*[Value(x) for x in point(op, random.Random(op.name))])).latex
        assert latex.count("{") == latex.count("}")
        assert latex.count(r"\left") - latex.count(r"\leftarrow") == latex.count(r"\right")


def test_a_formula_that_would_grow_without_end_is_cut_into_lines() -> None:
    node = Value(1.0, "x")
    for _ in range(200):
        node = node * node
    text = mg.formula(node)
    assert len(text) < 6000
    assert text.splitlines()[:2] == ["v199 * v199", "where v1   = x * x"]
    deep = Value(1.0, "x")
    for _ in range(20_000):
        deep = (deep * 0.5).tanh()
    assert max(map(len, mg.formula(deep).splitlines())) < 1000

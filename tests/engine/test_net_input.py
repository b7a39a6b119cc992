"""A unit's net input is one node: the same numbers as its products and sums, wherever a graph goes."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import pickle
import random
import struct
import sysconfig
from collections.abc import Callable
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, nn, ops
from micrograd_bp.nn import net_input
from micrograd_bp.see.opened import opened
from micrograd_bp.value import topological_order

SIZES = (1, 2, 3, 16, 100)
ODD = (0.0, -0.0, 1.5, -2.5, math.inf, -math.inf, math.nan, 1e308, -1e308, 5e-324)


def composed(w: Any, x: Any, b: Any) -> Any:
    """The unit as micrograd has it."""
    return sum((wi * xi for wi, xi in zip(w, x)), start=b)


def bits(x: float) -> bytes:
    return struct.pack("d", x)


def numbers(rng: random.Random, count: int) -> list[float]:
    return [rng.gauss(0.0, 1.0) for _ in range(count)]


@pytest.mark.parametrize("size", SIZES)
def test_it_is_the_composition_to_the_bit(size: int) -> None:
    rng = random.Random(size)
    data = numbers(rng, 2 * size + 1)
    one, two = ([Value(x) for x in data] for _ in range(2))
    node = net_input(one[1 : size + 1], one[size + 1 :], one[0])
    other = composed(two[1 : size + 1], two[size + 1 :], two[0])
    assert bits(node.data) == bits(other.data)
    assert node.operands == tuple(one)
    assert node.partials == (1.0, *data[size + 1 :], *data[1 : size + 1])
    (node * node).backward()
    (other * other).backward()
    assert [x.grad for x in one] == [x.grad for x in two]
    assert len(topological_order(node)) == 2 * size + 2


def test_odd_numbers_too() -> None:
    rng = random.Random(0)
    for _ in range(300):
        data = [rng.choice(ODD) for _ in range(7)]
        one, two = ([Value(x) for x in data] for _ in range(2))
        node, other = net_input(one[1:4], one[4:], one[0]), composed(two[1:4], two[4:], two[0])
        assert bits(node.data) == bits(other.data) or (node.data != node.data and other.data != other.data)
        node.backward()
        other.backward()
        assert [repr(x.grad) for x in one] == [repr(x.grad) for x in two]


def test_numbers_stand_beside_values_and_alone() -> None:
    x = Value(3.0)
    assert net_input([2.0, x], [x, 1], 1).operands == (1.0, 2.0, x, x, 1.0)
    assert net_input([2.0], [3.0], 1.0) == ops.net_input(1.0, 2.0, 3.0) == 7.0
    assert net_input([2.0], [x]).data == ops.net_input(2.0, x).data == 6.0
    assert net_input([], [], x).data == 3.0
    assert ops.net_input() == 0.0


def test_errors_name_the_offender() -> None:
    x = Value(3.0)
    with pytest.raises(ValueError, match="net_input takes as many weights as inputs, not 2 and 1"):
        net_input([x, x], [1.0])
    with pytest.raises(TypeError, match="net_input cannot take 'a'"):
        net_input([x], ["a"])
    with pytest.raises(TypeError, match="net_input cannot take 'a'"):
        net_input([x], [x], "a")


def test_arrays_of_inputs_go_term_by_term() -> None:
    np = pytest.importorskip("numpy")
    w = [Value(2.0), Value(3.0)]
    outputs = net_input(w, [np.array([1.0, 2.0]), np.array([0.5, 0.0])], Value(1.0))
    assert [y.data for y in outputs] == [4.5, 5.0]
    unit: Any = nn.Neuron(2)(np.array([1.0, 2.0]))
    assert unit.op.name == "relu"


def test_units_that_share_lists_are_not_confused() -> None:
    """What is shared is found by the list, and trusted only as far as the numbers in it are the same."""
    w, x = [Value(2.0), Value(3.0)], [Value(5.0), Value(7.0)]
    first = net_input(w, x)
    w[0].data = 4.0
    second = net_input(w, x)
    w[1] = Value(-1.0)
    third = net_input(w, x)
    x[0].data = math.nan
    fourth, fifth = net_input(w, x), net_input(w, x)
    x[0].data = -0.0
    assert [node.data for node in (first, second, third)] == [31.0, 41.0, 13.0]
    assert math.isnan(fourth.data)
    assert math.isnan(fifth.data)
    assert bits(net_input(w, x).partials[0]) == bits(-0.0)
    assert first.partials == (5.0, 7.0, 2.0, 3.0)
    total = first + second
    total.backward()
    assert x[1].grad == 3.0 + 3.0
    w.clear()
    x.append(Value(0.0))
    assert first.operands[1].data == 3.0


@pytest.mark.parametrize("seed", range(20))
def test_graphs_of_shared_units_have_the_gradients_of_their_products_and_sums(seed: int) -> None:
    """Interleaved layers, several outputs, inputs in both halves: `gradients` of the opened graph says the same."""
    rng = random.Random(seed)
    leaves = [Value(x) for x in numbers(rng, 5)]
    nodes = list(leaves)
    for _ in range(6):
        x = rng.sample(nodes, 3)
        rows = [rng.choices(nodes, k=3) for _ in range(2)] + [x]
        nodes += [net_input(rng.choice(rows), x, rng.choice([None, rng.choice(nodes), 0.5])).tanh() for _ in range(4)]
    output = sum(rng.choices(nodes[5:], k=4), start=Value(0.0))
    other = nodes[-1]  # alive, and no part of the output perhaps
    output.backward()
    found = [leaf.grad for leaf in leaves]
    assert mg.value_and_grad(lambda *_: output)(1.0)[1] == 0.0
    wanted = [slope.data for slope in mg.gradients(opened(output), leaves)]
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    for leaf in leaves:
        leaf.grad = 0.0
    output.backward()
    assert [leaf.grad for leaf in leaves] == found
    other.backward()
    assert other.grad == 1.0


@pytest.mark.skipif(mg.engine_name() == "pure", reason="beside the pure engine")
@pytest.mark.parametrize("seed", range(5))
def test_the_engines_agree_to_the_bit(seed: int) -> None:
    engines = pytest.importorskip("benchmarks.engines")

    def trained(package: Any) -> list[float]:
        model = package.nn.MLP(3, [5, 4, 1], activation="tanh", rng=random.Random(seed))
        rng = random.Random(seed)
        for _ in range(3):
            rows = [[package.Value(x) if rng.random() < 0.5 else x for x in numbers(rng, 3)] for _ in range(4)]
            loss = sum((model(row) - 0.5) ** 2 for row in rows)
            model.zero_grad()
            loss.backward()
            for p in model.parameters():
                p.data -= 0.1 * p.grad
        slope = package.grad(lambda x: model([x, x * x, 1.0]))(0.25)
        (curvature,) = package.hessian(lambda x: model([x[0], x[0], 1.0]))([0.5])
        forward = package.jvp(lambda x, y: model([x, y, x * y]), (0.5, 0.25), (1.0, -1.0))
        return [p.data for p in model.parameters()] + [slope, *curvature, *forward]

    assert trained(engines.load("pure")) == trained(mg)


@pytest.mark.parametrize("transform", ["grad", "jit", "hessian"])
def test_transforms_and_compiled_programs_go_through_it(transform: str) -> None:
    rng = random.Random(0)
    w = numbers(rng, 4)

    def unit(x: Any, how: Callable[..., Any] = net_input) -> Any:
        return ops.tanh(how(w, x, 0.5)) * x[0]

    x = numbers(rng, 4)
    how = getattr(mg, transform)
    found, wanted = how(unit)(x), how(lambda x: unit(x, composed))(x)
    assert found == pytest.approx(wanted, rel=1e-13) if transform != "hessian" else True
    for row, other in zip(found if transform == "hessian" else [], wanted if transform == "hessian" else []):
        assert row == pytest.approx(other, rel=1e-13)


def test_a_kernel_of_a_layer_is_no_longer_than_that_of_its_products_and_sums() -> None:
    pytest.importorskip("llvmlite")
    model, x = nn.MLP(3, [4, 1], rng=random.Random(0)), [Value(0.5), Value(-1.0), Value(2.0)]
    one = mg.kernel(model(x), x, model.parameters())
    two = mg.kernel(opened(model(x)), x, model.parameters())
    assert one.source("c").count("\n") == two.source("c").count("\n")
    assert one.source("llvm").count("\n") == two.source("llvm").count("\n")


def test_copies_and_pickles_are_those_of_any_node() -> None:
    w, x = [Value(2.0)], [Value(3.0)]
    node = net_input(w, x, Value(1.0))
    assert copy.copy(node) is copy.deepcopy(node) is node
    restored = pickle.loads(pickle.dumps(node))
    assert (restored.data, restored.op) == (7.0, None)
    assert pickle.loads(pickle.dumps(ops.net_input)) is ops.net_input


def test_it_opens_out_into_what_micrograd_records() -> None:
    model = nn.Neuron(2, activation="tanh", rng=random.Random(0))
    out: Any = model([Value(1.0, "x1"), Value(-2.0, "x2")])
    out.backward()
    wide = opened(out)
    (total,) = wide.operands
    assert [node.op.name for node in topological_order(wide) if node.op] == ["mul", "add", "mul", "add", "tanh"]
    assert bits(wide.data) == bits(out.data)
    assert total.grad == out.operands[0].grad == out.partials[0]  # the unit's delta
    assert all(node.grad == total.grad for node in topological_order(total) if node.op)
    assert opened([out, out])[0].data == out.data
    x = Value(2.0)
    assert opened(x * x).operands == (x, x)


def test_pictures_show_the_units_sum_and_its_delta() -> None:
    model = nn.Neuron(2, activation="tanh", rng=random.Random(0))
    out: Any = model([Value(1.0, "x1"), Value(-2.0, "x2")])
    out.backward()
    source = mg.draw(out, derivatives=True).source
    assert "<b>v1</b> = Σ" in source
    assert f"{out.operands[0].grad:.4g}</td>" in source
    assert mg.draw(out, expand=True).source.count(" -> ") == 2 * 4 + 1
    assert str(mg.formula(out)) == "tanh(b + w.0 * x1 + w.1 * x2)"
    table = mg.trace_table(out)
    assert table.rows[-2].forward == "v1 = b + w.0 * x1 + w.1 * x2"
    assert len(mg.trace_table(out, expand=True).rows) == len(table.rows) + 3
    wide = nn.Neuron(20)([1.0] * 20)
    assert "w.0 * 1 + w.1 * 1 + ... + w.19 * 1" in str(mg.trace_table(wide))


# --- memory ---


@pytest.mark.skipif(
    mg.engine_name() == "pure" or bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="of the accelerated engine's memory; on a free-threaded Python nodes lie in Python's own",
)
class TestMemory:
    def chain(self, count: int, x: Value) -> Value:
        node = x
        for _ in range(count):
            node = node + x
        return node

    def test_nodes_are_born_in_order_also_in_a_later_repetition(self) -> None:
        for _ in range(12):
            output = self.chain(50_000, Value(1.0))
            places = [id(node) for node in topological_order(output)]
            ascending = sum(a < b for a, b in itertools.pairwise(places))
            assert ascending > 0.99 * len(places)
            del output

    def test_memory_of_a_freed_graph_is_used_again(self) -> None:
        def places(count: int) -> set[int]:
            output = self.chain(count, Value(1.0))
            return {id(node) >> 16 for node in topological_order(output)}

        first = places(200_000)
        every = set().union(*[places(200_000) for _ in range(5)], places(2_000))
        assert len(every | first) < 1.5 * len(first)

    def test_survivors_among_the_dead_keep_their_places(self) -> None:
        rng = random.Random(0)
        kept: list[Any] = []
        for k in range(40):
            nodes = [Value(float(k)) * 2.0 for _ in range(3_000)]
            kept += rng.sample(nodes, 300)
            rng.shuffle(nodes)
            del nodes
            rng.shuffle(kept)
            del kept[3_000:]
        assert len({id(node) for node in kept}) == len(kept)
        assert all(node.data == 2.0 * node.operands[0].data for node in kept)
        spread = {id(node) >> 16 for node in kept}
        more = [Value(1.0) for _ in range(100_000)]
        assert len({id(node) >> 16 for node in more} | spread) < 100_000 / 682 + 60
        assert {id(node) for node in more}.isdisjoint(map(id, kept))

    def test_small_graphs_stay_where_the_first_one_was(self) -> None:
        x = Value(0.5)
        pages = set()
        for _ in range(3_000):
            output = (x * 0.5 + x.tanh()) ** 2
            output.backward()
            pages.add(id(output) >> 16)
        assert len(pages) <= 2

    def test_blocks_go_with_their_nodes(self) -> None:
        def work() -> None:
            w, x = [Value(1.0) for _ in range(50)], [Value(2.0) for _ in range(50)]
            for _ in range(20):
                (net_input(w, x) + ops.fsum(*w, *x) + net_input(x, w, Value(1.0))).backward()

        work()
        gc.collect()
        sizes = []
        for _ in range(6):
            work()
            sizes.append(len(gc.get_objects()))
        assert max(sizes) - min(sizes) < 20

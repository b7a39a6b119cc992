"""The node and the chain rule: what is recorded, what a walk back leaves behind, and what nothing can corrupt."""

import copy
import gc
import math
import operator
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Never

import pytest

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops
from micrograd_bp._engine.engine import add_to_grads, read_data, slopes
from micrograd_bp.compiler.recording import Recording
from micrograd_bp.compiler.tracing import watched
from micrograd_bp.value import topological_order

# --- the chain rule ---


def test_every_path_is_added_up() -> None:
    a = Value(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert (a.grad, b.grad, c.grad) == (4.0, 2.0, 1.0)


def test_both_operands_of_a_square_are_kept() -> None:
    x = Value(3.0)
    square = x * x
    assert square.operands == (x, x)
    assert square.partials == (3.0, 3.0)
    square.backward()
    assert x.grad == 6.0


def test_backward_twice_doubles_the_leaves_and_nothing_else() -> None:
    x, y = Value(2.0), Value(3.0)
    product = x * y
    output = product.tanh() + x
    output.backward()
    once = [node.grad for node in (x, y, product, output)]
    output.backward()
    assert [x.grad, y.grad] == [2.0 * once[0], 2.0 * once[1]]
    assert [product.grad, output.grad] == once[2:]


def test_leaves_accumulate_over_outputs() -> None:
    x = Value(2.0)
    (x * 3.0).backward()
    (x * 4.0).backward()
    assert x.grad == 7.0


def test_a_seed_scales_and_a_leaf_is_its_own_derivative() -> None:
    x = Value(2.0)
    (x * x).backward(seed=10.0)
    assert x.grad == 40.0
    y = Value(1.0)
    y.backward()
    y.backward(2)
    assert y.grad == 3.0


def test_an_adjoint_of_zero_passes_nothing_on() -> None:
    x = Value(0.0)
    output = 0.0 * x.sqrt()  # 0 times an infinite slope
    output.backward()
    assert x.grad == 0.0
    y = Value(0.0)
    hidden = (y.sqrt() - 1.0).relu()
    hidden.backward()
    assert y.grad == 0.0
    assert mg.gradients(hidden, [y])[0].data == 0.0


def test_a_change_of_data_does_not_reach_what_is_recorded() -> None:
    x, y = Value(2.0, "x"), Value(3.0)
    output = x * y
    x.data = 100.0
    output.backward()
    assert (x.grad, y.grad) == (3.0, 2.0)
    with pytest.raises(ValueError, match="record it again"):
        mg.gradients(output, [y])


def test_gradients_by_any_node_and_by_none() -> None:
    x, unused = Value(0.5), Value(1.0)
    inner = x.sin()
    output = inner * inner
    by_inner, by_x, by_unused, by_itself = mg.gradients(output, [inner, x, unused, output])
    assert by_inner.data == 2.0 * math.sin(0.5)
    assert by_x.data == pytest.approx(math.sin(1.0), rel=1e-15)
    assert (by_unused.data, by_itself.data) == (0.0, 1.0)
    assert [node.grad for node in (x, inner, output, unused)] == [0.0] * 4


def test_gradients_of_gradients() -> None:
    x = Value(0.7)
    graph, derivatives = x.sin(), []
    for _ in range(5):
        derivatives.append(graph.data)
        (graph,) = mg.gradients(graph, [x])
    expected = [math.sin(0.7 + k * math.pi / 2) for k in range(5)]
    assert derivatives == pytest.approx(expected, rel=1e-14)


def test_a_second_derivative_survives_an_adjoint_that_happens_to_be_zero() -> None:
    x, y = Value(0.0), Value(2.0)
    (slope,) = mg.gradients(x * x * y, [x])
    assert slope.data == 0.0
    assert mg.gradients(slope, [x])[0].data == 4.0


def test_slopes_are_what_backward_leaves_and_leave_nothing() -> None:
    x, y, unused = Value(2.0), Value(3.0), Value(1.0)
    product = x * y
    output = (product + x.sin()) * product
    for k, node in enumerate((x, y, unused, product, output)):
        node.grad = float(k)
    found = slopes(output, [x, product, unused, x, output, y])
    assert [node.grad for node in (x, y, unused, product, output)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    y.grad = 0.0
    output.backward()
    assert found == [x.grad, product.grad, 0.0, x.grad, 1.0, y.grad]


def test_data_are_gathered_and_slopes_are_scattered() -> None:
    x, y = Value(2.0), Value(-0.5)
    number: Any = 1.0
    y.grad = 1.0
    assert list(read_data([x, y, x])) == [2.0, -0.5, 2.0]
    add_to_grads((x, y), [3.0, 0.25])
    assert (x.grad, y.grad) == (3.0, 1.25)
    with pytest.raises((TypeError, AttributeError)):
        read_data([x, number])


def test_topological_order_puts_operands_first_and_each_node_once() -> None:
    x, y = Value(2.0), Value(3.0)
    a = x * y
    b = x.sin()
    output = a + b
    assert topological_order(output) == [x, y, a, b, output]


# --- size ---


def test_a_chain_of_a_million_operations() -> None:
    x = Value(1.0)
    node = x
    for _ in range(500_000):
        node = node * 1.000001 + 1e-9
    node.backward()
    slope = 1.0
    for _ in range(500_000):
        slope *= 1.000001
    assert x.grad == slope
    (graph,) = mg.gradients(node, [x])
    (second,) = mg.gradients(graph, [x])
    assert (graph.data, second.data) == (slope, 0.0)
    assert pickle.loads(pickle.dumps(x)).grad == slope
    assert pickle.loads(pickle.dumps(node)).operands == ()
    del node, graph
    gc.collect()


# --- records and copies ---


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_cuts_no_derivative(duplicate: Callable[..., Any]) -> None:
    x = Value(2.0, "x")
    y = x * x
    y.backward()
    assert duplicate(y) is y
    twin = duplicate(x)
    assert twin is not x
    assert type(twin) is type(x)
    assert (twin.data, twin.grad, twin.label, twin.op, twin.operands) == (2.0, 4.0, "x", None, ())


def test_what_is_unpickled_is_a_leaf() -> None:
    x = Value(2.0, "x")
    y = x * x
    y.label = "y"
    y.backward()
    twin = pickle.loads(pickle.dumps(y))
    assert type(twin) is type(y)
    assert (twin.data, twin.grad, twin.label, twin.op, twin.operands) == (4.0, 1.0, "y", None, ())


def test_constants_make_no_nodes() -> None:
    x = Value(2.0)
    y = 3 * x + 1
    assert y.operands[1] == 1.0
    assert type(y.operands[1]) is float
    assert len(topological_order(y)) == 3


def test_equality_compares_data_and_hash_is_identity() -> None:
    x, y = Value(1.0), Value(1.0)
    assert x == y == 1 == x
    assert operator.ne(x, y) is False
    assert Value(math.nan) != Value(math.nan)
    assert len({x, y, x}) == 2
    assert {x: "x"}.get(y) is None
    assert 1.0 in [Value(2.0), y]
    assert [y, x].index(x) == 0
    assert (x == "1", x == None, x != [1.0]) == (False, False, True)  # noqa: E711


class Listener:
    """A recording that writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.nodes: list[Any] = []

    def note(self, node: Any) -> None:
        self.nodes.append(node)

    def read(self, how: Any, operands: tuple[Any, ...], result: Any) -> None:
        self.heard.append((how.__name__, operands, result))

    def raised(self, how: Any, operands: tuple[Any, ...], error: BaseException) -> None:
        self.heard.append((getattr(how, "name", how), operands, type(error)))

    def noticed(self, what: str, node: Any) -> None:
        self.heard.append((what, (node,), None))


def test_a_recording_is_told_what_is_read_off_a_value() -> None:
    x, y, listener = Value(2.5), Value(1.0), Listener()
    with watched(listener) as alone:
        assert alone
        assert x > y
        assert not x <= 2.0
        assert x
        assert (int(x), math.floor(x), round(x, 1)) == (2, 2, 2.5)
        assert max(x, y) is x
        assert (x == y, x != 2.5, x.is_integer()) == (False, False, False)
        with pytest.warns(UserWarning, match="as_integer_ratio"):
            assert getattr(4 * y, "as_integer_ratio")()  # noqa: B009 == (4, 1)
        with watched(Listener()) as alone:
            assert not alone
        with pytest.raises(ValueError, match="log"):
            (y - 1.0).log()
        with pytest.raises(ValueError, match="NaN"):
            int(y * math.nan)
        assert (x.data, x.grad, f"{x:.1f}", {x: 1}[x]) == (2.5, 0.0, "2.5", 1)
    how = [how for how, _, _ in listener.heard]
    assert how[:11] == [
        *["gt", "le", "bool", "int", "floor", "round", "gt", "eq", "ne", "is_integer", "as_integer_ratio"]
    ]
    assert how[11:] == ["log", int, "data", "grad", "data", "hash()", "hash()"]
    assert [node.op.name for node in listener.nodes] == ["mul", "sub", "mul"]
    assert listener.heard[0] == ("gt", (x, y), True)
    assert x > y
    assert len(listener.heard) == 18


def test_a_recording_hears_other_threads_of_its_own_values_only() -> None:
    x, listener = Value(2.0), Recording()
    with watched(listener):
        y = x * x

        def work() -> tuple[Any, ...]:
            return (y > 1.0, x > 1.0, y.data, (x * 3.0) > 5.0, y * 2.0 > 7.0)

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(work).result() == (True, True, 4.0, True, True)
    assert [guard.truth for guard in listener.guards] == [True, True]
    assert "data" in listener.unfaithful
    assert any(node.op is ops.mul and node.operands == (y, 2.0) for node in listener.nodes)
    assert not any(node.op is ops.mul and node.operands == (x, 3.0) for node in listener.nodes)


# --- operations of one's own ---

softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
mix = Op("mix", "mix", lambda x, y, t: x + (y - x) * t, lambda out, x, y, t: (1 - t, t, y - x))
norm = Op("norm", "norm", lambda *x: math.sqrt(sum(v * v for v in x)), lambda out, *x: tuple(v / out for v in x))


def test_an_operation_of_any_arity() -> None:
    x, y, t = Value(3.0), Value(4.0), Value(0.25)
    mix(x, y, t).backward()
    assert [v.grad for v in (x, y, t)] == [0.75, 0.25, 1.0]
    slopes = mg.gradients(norm(x, y, 12), [x, y])
    assert [v.data for v in slopes] == [3.0 / 13.0, 4.0 / 13.0]
    assert mg.gradients(slopes[0], [y])[0].data == pytest.approx(-12.0 / 13.0**3, rel=1e-15)
    assert (softsign(1), mix(0.0, 2, 0.5), norm(3.0, 4.0)) == (0.5, 1.0, 5.0)


def test_an_error_in_a_rule_of_ones_own_names_it_and_records_nothing() -> None:
    def broken(out: Any, x: Any) -> Never:
        raise KeyError("no derivative")

    op = Op("op", "op", lambda x: x, broken)
    x = Value(1.0, "x")
    with pytest.raises(KeyError) as error:
        op(x)
    assert "op(x=1.0)" in "".join(error.value.__notes__)
    assert (x.grad, x.operands) == (0.0, ())
    rule: Any
    for rule in (lambda out, x: (1.0, 1.0), lambda out, x: 1.0):
        with pytest.raises(TypeError, match="op"):
            Op("op", "op", lambda x: x, rule)(x)


def test_rows_pickle_as_themselves() -> None:
    for op in ops.TABLE.values():
        assert pickle.loads(pickle.dumps(op)) is op

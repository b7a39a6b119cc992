"""Arrays found in graphs of scalars, written as NumPy: readable, and the eager engine's values and gradients."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Op, Value, losses, nn, ops
from micrograd_bp.compiler import array_parts, arrays, functions
from micrograd_bp.ops import neg
from tests.compiler.test_arrays import GRAPHS, convolution, eager, leaves, recorded

np = pytest.importorskip("numpy")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are taken whatever their size."""
    monkeypatch.setattr(array_parts, "SMALL", 0)
    monkeypatch.setattr(array_parts, "MEMBERS", 1e-3)


def network(*sizes: Any, activation: str = "tanh") -> tuple[Any, ...]:
    model = nn.MLP(sizes[0], list(sizes[1:]), activation=activation, rng=random.Random(0))
    return model, [Value(0.1 * k, f"x{k}") for k in range(sizes[0])]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_text_is_the_eager_engines_value_and_gradient(small: None, name: str) -> None:
    """To the accuracy of arrays: sums are taken in another order, and NumPy's functions are within an ulp or two."""
    f, inputs, parameters, output = recorded(GRAPHS[name])
    X = np.random.default_rng(0).normal(size=(5, len(inputs)))
    want = [eager(f, row.tolist(), parameters) for row in X]
    w = np.array([p.data for p in parameters])
    values = mg.kernel(output, inputs).source()
    assert "def value(X, w):" in values
    rest = np.array([x.data for x in mg.kernel(output, inputs).leaves])
    np.testing.assert_allclose(values.function()(X, rest), [v for v, _ in want], rtol=1e-12, atol=1e-13)
    both = mg.kernel(output, inputs, parameters).source()
    mean, slopes = both.function()(X, w)
    assert mean == pytest.approx(np.mean([v for v, _ in want]), rel=1e-11, abs=1e-12)
    np.testing.assert_allclose(slopes, np.mean([g for _, g in want], axis=0), rtol=1e-10, atol=1e-12)
    assert max(map(len, both.splitlines())) <= 160


def test_a_network_reads_as_written_by_hand() -> None:
    model, inputs = network(64, 32, 10)
    text = mg.kernel(model(inputs), inputs, model.parameters()).source()
    assert text.splitlines() == [
        "import numpy as np",
        "",
        "",
        "def value(X, w):",
        '    """X: a row of 64 inputs for each sample; w: 2410 numbers, the data of the leaves. Returns the value '
        'for each row."""',
        "    x = X.T",
        "    W1 = w[0:2080].reshape(32, 65)[:, :64]",
        "    b1 = w[64:2144:65, None]",
        "    W2 = w[2080:2410].reshape(10, 33)[:, :32]",
        "    b2 = w[2112:2442:33, None]",
        "    h2 = np.tanh(W1 @ x + b1)",
        "    h3 = W2 @ h2 + b2",
        "    return h3.T",
    ]


def test_the_text_is_a_page_where_the_statements_are_thousands() -> None:
    model, inputs = network(64, 32, 10)
    kernel = mg.kernel(losses.cross_entropy(model(inputs), 3), inputs, model.parameters())
    assert len(kernel.source().splitlines()) < 100
    exact = mg.kernel(losses.cross_entropy(model(inputs), 3), inputs, model.parameters(), exact=True)
    assert len(exact.source().splitlines()) > 4_000  # node by node, in the order of the graph


def test_a_recurrent_cell_reads_slices_and_a_convolution_a_grid(small: None) -> None:
    _, inputs, parameters, output = recorded(GRAPHS["recurrent"])
    text = mg.kernel(output, inputs, parameters).source()
    assert "h12 = h8[6:] * h11" in text
    assert "= w[0:60].reshape(12, 5)[:, 2:]" in text
    _, inputs, parameters, output = recorded(convolution)
    assert "np.tensordot(W1, x[I1], 1)" in mg.kernel(output, inputs, parameters).source()


def test_several_outputs_constants_and_leaves_are_columns(small: None) -> None:
    x, v, w = Value(1.0), Value(2.0), Value(3.0)
    kernel = mg.kernel([x * w, w * w, x, v, x * w + 1.0], [x], [v, w])
    text = kernel.source()
    X = np.array([[1.0], [2.0]])
    assert text.function()(X, np.array([2.0, 3.0])).tolist() == kernel(X).tolist()
    one = mg.kernel(w * w, [x], [v, w]).source().function()
    value, slopes = one(np.ones((4, 1)), np.array([2.0, 3.0]))
    assert (value, slopes.tolist()) == (9.0, [0.0, 6.0])


def test_zero_times_infinity_is_zero_in_the_chain_rule(small: None) -> None:
    x, w = Value(1.0), Value(2.0)
    text = mg.kernel((x * w).sqrt() * 0.0 + w * 3.0, [x], [w]).source()
    with np.errstate(all="ignore"):
        assert text.function()(np.array([[0.0]]), np.array([2.0]))[1].tolist() == [3.0]


@pytest.mark.parametrize("op", [op for op in ops.PUBLIC if op.arity in (1, 2) and op.smooth], ids=lambda op: op.name)
def test_every_smooth_op_of_the_table(small: None, op: Op) -> None:
    """On arrays of eight members; where NumPy lacks a function, node by node."""
    rng = random.Random(1)
    bounds = [(max(low, -3.0), min(high, 3.0)) for low, high in op.domain[: op.arity]]
    point = [[rng.uniform(*bound) for _ in range(8)] for bound in bounds]
    given = [[Value(x) for x in column] for column in point]
    output = sum(op(*column) * (k + 1.0) for k, column in enumerate(zip(*given)))
    flat = [x for column in given for x in column]
    text = mg.kernel(output, [], flat).source()
    output.backward()
    if "def value_and_grad(X, w)" in text:
        with np.errstate(all="ignore"):
            value, slopes = text.function()(np.ones((1, 0)), np.array([x.data for x in flat]))
        assert value == pytest.approx(output.data, rel=1e-11)
        assert slopes == pytest.approx([x.grad for x in flat], rel=1e-9, abs=1e-12)
    else:
        assert op.name in text


def test_the_text_of_a_jitted_function_is_that_of_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "LINK", 0)  # the result's 5,329 operands would make it dearer than eager
    model, _inputs = network(72, 72, 1)
    f: Any = mg.jit(lambda x: model(x).tanh())
    x = [0.01 * k for k in range(72)]
    found = [f(x) for _ in range(60)]  # arrays are looked for after the fiftieth
    w = np.array([p.data for p in f.leaves[0]])
    text = f.source()
    assert "np.tanh(" in text
    scope: dict[str, Any] = {}
    exec(text, scope)
    assert scope["value"](np.array([x]), w)[0] == pytest.approx(found[0].data, rel=1e-13)


def test_the_text_needs_numpy_and_nothing_else(tmp_path: Path) -> None:
    model, inputs = network(24, 24, 1)
    kernel = mg.kernel((model(inputs) - 0.5) ** 2, inputs, model.parameters())
    path = tmp_path / "network.py"
    path.write_text(kernel.source() + "\n\n\nprint(value_and_grad(np.ones((3, 24)), np.full(625, 0.1))[0])\n")
    done = subprocess.run([sys.executable, "-W", "error", str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert float(done.stdout) == pytest.approx(kernel.value_and_grad(np.ones((3, 24)), [0.1] * 625)[0], rel=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_members_are_in_the_order_of_what_they_read(name: str) -> None:
    """Whatever the order of the nodes in the program, the places of an array are those of its nodes.

    But those of negations: of what a chain of subtractions takes off.
    """
    _f, inputs, parameters, output = recorded(GRAPHS[name])
    program = mg.kernel(output, inputs, parameters).program
    found = arrays.find(program, False, 0, 1)
    assert found is None or all(
        sorted(found.member[found.array == k]) == list(range(size))
        for k, size in enumerate(found.sizes)
        if (k != arrays.CONSTANTS or size) and getattr(([None] * arrays.LEAVES + found.steps)[k], "op", None) is not neg
    )


def test_leaves_alone(small: None) -> None:
    x, w = leaves(2)
    assert mg.kernel(w, [x], [w]).source().function()(np.ones((2, 1)), np.array([3.0]))[1].tolist() == [1.0]
    assert mg.kernel(x, [x], [w]).source().function()(np.ones((2, 1)), np.array([3.0]))[0] == 1.0

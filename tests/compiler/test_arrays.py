"""Arrays found in graphs of scalars: the same numbers, errors and branches as the eager engine's."""

import functools
import itertools
import math
import pickle
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value, losses, nn, optim, training
from micrograd_bp.compiler import arrays, functions
from micrograd_bp.compiler.program import flatten
from micrograd_bp.training import compiled

np = pytest.importorskip("numpy")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are taken whatever their size."""
    monkeypatch.setattr(arrays, "SMALL", 0)
    monkeypatch.setattr(arrays, "MEMBERS", 1e-3)


def dense(activation: str, sizes: tuple[Any, ...] = (5, 7, 6, 1)) -> tuple[Any, ...]:
    model = nn.MLP(sizes[0], list(sizes[1:]), activation=activation, rng=random.Random(1))
    return lambda x: (model(x) - 0.3) ** 2, sizes[0], model.parameters()


def leaves(count: int, seed: int = 0) -> list[Any]:
    rng = random.Random(seed)
    return [Value(rng.uniform(-1.0, 1.0)) for _ in range(count)]


def convolution() -> tuple[Any, ...]:
    """Two filters of 3 x 3 over 6 x 6, then the sum of squares."""
    w = leaves(18)

    def f(x: list[Any]) -> Any:
        image = [x[6 * i : 6 * i + 6] for i in range(6)]
        out = [
            sum(w[9 * k + 3 * a + b] * image[i + a][j + b] for a in range(3) for b in range(3)).tanh()
            for k in range(2)
            for i in range(4)
            for j in range(4)
        ]
        return sum(y * y for y in out)

    return f, 36, w


def attention() -> tuple[Any, ...]:
    """Four tokens of three numbers; scores, weights and values all vary from row to row."""
    w = leaves(27)

    def f(x: list[Any]) -> Any:
        tokens = [x[3 * t : 3 * t + 3] for t in range(4)]
        q, k, v = (
            [[sum(w[9 * m + 3 * i + j] * t[j] for j in range(3)) for i in range(3)] for t in tokens] for m in range(3)
        )
        total = 0.0
        for a in q:
            scores = [sum(s * t for s, t in zip(a, b)).exp() for b in k]
            norm = sum(scores)
            total = total + sum(sum(s / norm * u[i] for s, u in zip(scores, v)) ** 2 for i in range(3))
        return total

    return f, 12, w


def recurrent() -> tuple[Any, ...]:
    """An LSTM of three units over five steps."""
    w = leaves(4 * 3 * 5)

    def f(x: list[Any]) -> Any:
        h, c = [0.0] * 3, [0.0] * 3
        for t in range(5):
            z = [x[t], 1.0, *h]
            gates = [sum(a * b for a, b in zip(w[5 * k : 5 * k + 5], z)) for k in range(12)]
            new = [gates[k].sigmoid() * c[k] + gates[3 + k].sigmoid() * gates[6 + k].tanh() for k in range(3)]
            c, h = new, [gates[9 + k].sigmoid() * new[k].tanh() for k in range(3)]
        return sum(h)

    return f, 5, w


def stencil() -> Any:
    """Heat on a ring of 9 x 9 cells, three steps."""
    (k,) = leaves(1)

    def f(x: Any) -> Any:
        u = {(i, j): x[9 * i + j] for i in range(9) for j in range(9)}
        for _ in range(3):
            u = {
                (i, j): s
                + 0.1
                * k
                * (u[(i + 1) % 9, j] + u[i - 1 if i else 8, j] + u[i, (j + 1) % 9] + u[i, j - 1 if j else 8] - 4.0 * s)
                for (i, j), s in u.items()
            }
        return sum(s * s for s in u.values())

    return f, 81, [k]


def bodies() -> Any:
    """The energy of six bodies, all pairs."""
    masses = leaves(6)

    def f(x: Any) -> Any:
        energy = 0.0
        for a in range(6):
            for b in range(a):
                d = sum((x[3 * a + i] - x[3 * b + i]) ** 2 for i in range(3)) + 0.1
                energy = energy - masses[a] * masses[b] / d.sqrt()
        return energy

    return f, 18, masses


def residuals() -> Any:
    """A line through data that are constants of the program."""
    a, b = leaves(2)
    data = [(0.1 * k, math.sin(k)) for k in range(50)]
    return lambda x: sum((a * s + b - t) ** 2 for s, t in data) + x[0] * a, 1, [a, b]


def odd_reads() -> Any:
    """Members read twice, in reverse, with strides, and one by all; a parameter in two places; constants that vary."""
    w = leaves(12)

    def f(x: Any) -> Any:
        y = [mg.maximum(a, 0.1) * (k + 1.0) for k, a in enumerate(x)]
        z = [a * b + w[0] for a, b in zip(y, reversed(y))] + [y[3] * a for a in y[::2]] + [a + y[1] for a in w]
        return sum(a * b for a, b in zip(z, w)) + sum(a * a for a in z) + sum(w) + sum([y[2]] * 3) * 2.0 - sum(z[::3])

    return f, 8, w


GRAPHS: dict[str, Any] = {
    **{f"dense {name}": functools.partial(dense, name) for name in ("tanh", "relu", "softplus", "sigmoid", "elu")},
    **{f.__name__: f for f in (convolution, attention, recurrent, stencil, bodies, residuals, odd_reads)},
}


def recorded(make: Callable[..., Any]) -> tuple[Any, ...]:
    f, count, parameters = make()
    inputs = leaves(count, seed=7)
    return f, inputs, parameters, f(inputs)


def eager(f: Callable[..., Any], row: list[float], parameters: list[Any]) -> tuple[Any, ...]:
    for p in parameters:
        p.grad = 0.0
    out = f([Value(x) for x in row])
    out.backward()
    return out.data, [p.grad for p in parameters]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("rows", [1, 5])
def test_value_and_gradient_are_those_of_the_eager_engine(small: None, name: str, rows: int) -> None:
    f, inputs, parameters, output = recorded(GRAPHS[name])
    kernel = mg.kernel(output, inputs, parameters)
    assert kernel.stats["arrays"] > 0
    X = np.random.default_rng(0).normal(size=(rows, len(inputs)))
    want = [eager(f, row.tolist(), parameters) for row in X]
    np.testing.assert_allclose(kernel(X), [value for value, _ in want], rtol=1e-12, atol=1e-13)
    assert kernel(X[0].tolist()) == pytest.approx(want[0][0], rel=1e-12)
    for weights in (None, [0.5 * k - 1.0 for k in range(rows)]):
        scale = [1.0 / rows] * rows if weights is None else weights
        value, slopes = kernel.value_and_grad(X, weights=weights)
        assert value == pytest.approx(sum(s * v for s, (v, _) in zip(scale, want)), rel=1e-11, abs=1e-12)
        expected = sum(s * np.array(g) for s, (_, g) in zip(scale, want))
        np.testing.assert_allclose(slopes, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_arrays_hold_exactness(small: None, name: str) -> None:
    """Without vector mathematics and in the order of the graph, or by straight-line code."""
    f, inputs, parameters, output = recorded(GRAPHS[name])
    X = np.random.default_rng(1).normal(size=(3, len(inputs)))
    exact = mg.kernel(output, inputs, parameters, exact=True)
    assert exact(X).tolist() == [f([Value(x) for x in row]).data for row in X.tolist()]


@pytest.mark.parametrize("name", ["dense tanh", "convolution", "odd_reads"])
def test_a_recorded_gradient_is_arrays_as_well(small: None, name: str) -> None:
    f, count, _ = GRAPHS[name]()
    X = np.random.default_rng(2).normal(size=(4, count))
    g = mg.jit(mg.vmap(mg.grad(lambda x: f(list(x)))))
    for row, slopes in zip(X, g(X)):
        np.testing.assert_allclose(slopes, mg.grad(lambda x: f(list(x)))(row), rtol=1e-11, atol=1e-12)


def test_a_wide_network_is_a_few_arrays() -> None:
    model = nn.MLP(64, [64, 1], activation="tanh", rng=random.Random(0))
    inputs = leaves(64)
    kernel = mg.kernel((model(inputs) - 0.3) ** 2, inputs, model.parameters())
    assert kernel.stats["recorded"] > 8000
    assert kernel.stats["arrays"] == 5  # a matrix product, tanh, another product, and the error with its square


def test_memory_does_not_grow_with_the_batch_and_blocks_add_up(small: None) -> None:
    f, inputs, parameters, output = recorded(GRAPHS["dense tanh"])
    kernel = mg.kernel(output, inputs, parameters)
    X = np.random.default_rng(3).normal(size=(20_000, len(inputs)))
    value, slopes = kernel.value_and_grad(X, reduction="sum")
    halves = [kernel.value_and_grad(part, reduction="sum") for part in (X[:9_999], X[9_999:])]
    assert value == pytest.approx(sum(v for v, _ in halves), rel=1e-12)
    np.testing.assert_allclose(slopes, sum(g for _, g in halves), rtol=1e-9)
    assert kernel(X)[12_345] == pytest.approx(f([Value(x) for x in X[12_345]]).data, rel=1e-12)


def test_rows_take_their_own_paths(small: None) -> None:
    def f(x: Any) -> Any:
        y = [a * 2.0 if a > 0.0 else a * a for a in x]
        return sum(y) if sum(y) > 1.0 else sum(a.sin() for a in y)

    X = np.random.default_rng(4).normal(size=(50, 3))
    np.testing.assert_allclose(mg.jit(mg.vmap(f), paths=40)(X), [f([Value(a) for a in x]).data for x in X], rtol=1e-13)


def test_guards_are_read_to_the_bit(small: None) -> None:
    """0.1 + 0.2 + 0.3 is above 0.6 from left to right, and not in another order."""
    f = mg.jit(lambda *x: (x[0] + x[1] + x[2]) * 1.0 if x[0] + x[1] + x[2] > 0.6 else x[0] * 100.0)
    g = mg.jit(lambda *x: (x[0] + (x[1] + x[2])) * 1.0 if x[0] + (x[1] + x[2]) > 0.6 else x[0] * 100.0)
    for h, want in ((f, 0.1 + 0.2 + 0.3), (g, 10.0)):
        assert [h(1.0, 2.0, 3.0), h(0.1, 0.2, 0.3), h(0.1, 0.2, 0.3)] == [6.0, want, want]


def test_what_is_not_finite_is_the_eager_engines(small: None) -> None:
    w = leaves(6)
    inputs = [Value(1.0) for _ in range(3)]
    hidden: Any = [(inputs[k] * w[k]).tanh() + inputs[k].log() * w[3 + k] for k in range(3)]
    kernel = mg.kernel(sum(hidden), inputs, w)
    X = np.array([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]])
    with pytest.raises(ValueError, match=r"log\(-2\.0\)"):
        kernel(X)
    with pytest.raises(ValueError, match=r"log\(-2\.0\)"):
        kernel.value_and_grad(X)
    assert math.isfinite(kernel.value_and_grad(X[:1])[0])
    x, y = leaves(2)
    z = mg.kernel(mg.relu(x * 1e308 * 10.0).tanh() + y, [x], [y])  # inf on the way, and tanh(inf) is 1
    assert z(np.array([[-1.0], [1.0]])).tolist() == [y.data, 1.0 + y.data]


def test_zero_times_infinity_is_zero_in_the_chain_rule(small: None) -> None:
    x, w = Value(1.0), Value(2.0)
    kernel = mg.kernel((x * w).sqrt() * 0.0 + w * 3.0, [x], [w])
    assert kernel.value_and_grad(np.array([[0.0]]))[1].tolist() == [3.0]


def test_nan_is_seen_beside_weights_that_are_zero(small: None) -> None:
    w = [Value(0.0) for _ in range(16)]
    inputs = leaves(4)
    hidden: list[Any] = [sum(a * b for a, b in zip(w[4 * k : 4 * k + 4], inputs)) for k in range(4)]
    outputs: Any = sum(h.tanh() for h in hidden)
    kernel = mg.kernel(outputs, inputs, w)
    X = np.ones((64, 4))
    X[3, 2] = math.nan
    assert [k for k, x in enumerate(kernel(X)) if math.isnan(x)] == [3]
    assert math.isnan(kernel.value_and_grad(X)[0])


def test_a_constant_output_and_unused_leaves(small: None) -> None:
    x, v, w = Value(1.0), Value(2.0), Value(3.0)
    kernel = mg.kernel(w * w, [x], [v, w])
    value, slopes = kernel.value_and_grad(np.ones((4, 1)), reduction="sum")
    assert (value, slopes.tolist()) == (36.0, [0.0, 24.0])
    assert kernel(np.ones((4, 1))).tolist() == [9.0] * 4
    assert mg.kernel(w * 1.0, [w], [x])(np.ones((2, 1))).tolist() == [1.0, 1.0]


def test_pickled_and_in_threads(small: None) -> None:
    _, inputs, parameters, output = recorded(GRAPHS["convolution"])
    kernel = mg.kernel(output, inputs, parameters)
    X = np.random.default_rng(5).normal(size=(300, len(inputs)))
    want = kernel.value_and_grad(X)[1].tolist()
    assert pickle.loads(pickle.dumps(kernel)).value_and_grad(X)[1].tolist() == want
    found = []
    threads = [threading.Thread(target=lambda: found.append(kernel.value_and_grad(X)[1].tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 4


def test_jit_finds_arrays_after_some_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "LINK", 0)  # the result's 5,329 operands would make it dearer than eager
    model = nn.MLP(72, [72, 1], activation="tanh", rng=random.Random(0))
    f = mg.jit(lambda x: model(x).tanh())
    x = [0.01 * k for k in range(72)]
    found = [f(x) for _ in range(60)]
    assert f.stats["paths"] == 1
    assert f.stats["rows"][0] == 60 - functions.SOME
    assert found[-1].data == pytest.approx(found[0].data, rel=1e-13)
    found[-1].backward()
    got = [p.grad for p in model.parameters()]
    model.zero_grad()
    found[0].backward()
    assert got == pytest.approx([p.grad for p in model.parameters()], rel=1e-10, abs=1e-13)


def test_training_a_wide_network_compiled_is_training_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1.0))
    monkeypatch.setattr(arrays, "SMALL", 500)
    monkeypatch.setattr(arrays, "MEMBERS", 4)
    rng = random.Random(0)
    X, y = [[rng.gauss(0.0, 1.0) for _ in range(48)] for _ in range(40)], [rng.randrange(10) for _ in range(40)]

    def history(jit: bool) -> Any:
        model = nn.MLP(48, [48, 10], activation="tanh", rng=random.Random(0))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return training.fit(model, losses.cross_entropy, X, y, optimizer, epochs=2, batch_size=16, jit=jit)

    assert history(True)["loss"] == pytest.approx(history(False)["loss"], rel=1e-9)


def test_an_irregular_program_has_no_arrays() -> None:
    rng = random.Random(0)
    nodes = leaves(8)
    inputs = nodes[:]
    for _ in range(5000):
        a, b = rng.choices(nodes[-50:], k=2)
        nodes.append(rng.choice([lambda a, b: a + b.tanh(), lambda a, b: a * b, lambda a, b: (a - b).sin()])(a, b))
    program, _ = mg.compiler.program.flatten([sum(nodes[-50:])], inputs)
    assert arrays.find(program) is None


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_chains_of_subtractions_are_sums(seed: int) -> None:
    """e - x + y - ..., with other reads of what stands between: the eager engine's numbers, and fewer arrays."""
    rng = random.Random(seed)
    x = [Value(rng.uniform(0.5, 2.0)) for _ in range(40)]
    kept: list[Any] = []
    total: Any = rng.choice([0.0, -0.0, x[0]])
    for k, (a, b) in enumerate(itertools.product(x[:20], x[20:])):
        term = (a * b).sin()
        total = total + term if rng.random() < 0.2 else total - term
        if rng.random() < 0.02:
            kept.append(total)
        if k % 97 == 96:
            total = rng.choice(kept or [total]) - total * total
    output = total * 0.001 - sum((y.tanh() for y in kept), 0.5)
    output.backward()
    rows, weights = np.zeros((3, 0)), [p.data for p in x]
    kernel = mg.kernel(output, [], x)
    value, slopes = kernel.value_and_grad(rows, weights)
    assert value == pytest.approx(output.data, rel=1e-12)
    np.testing.assert_allclose(slopes, [p.grad for p in x], rtol=1e-9, atol=1e-12)
    assert mg.kernel(output, [], x, exact=True)(rows).tolist() == [output.data] * 3


def test_a_sum_written_with_subtractions_is_one_array() -> None:
    x = [Value(0.1 * k) for k in range(600)]
    total: Any = Value(1.0)
    for a, b in itertools.pairwise(x):
        total = total - (a * b).sin()
    program, _ = flatten([total * total], x)
    found = arrays.find(program, small=0, share=16)
    assert found is not None
    assert len(found.steps) == 5  # products, sines, their negations, the sum, its square
    assert [k for k, _, _ in found.at(program.outputs)] == [len(found.sizes) - 1]

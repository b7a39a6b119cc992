"""Array programs as machine code: what NumPy makes of the same arrays, in blocks, shares and threads."""

import functools
import math
import random
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, nn
from micrograd_bp.compiler import arrays, evaluation, program, vectors
from micrograd_bp.compiler.program import flatten

np = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")


def leaves(count: int, seed: int = 0) -> list[Any]:
    rng = random.Random(seed)
    return [Value(rng.uniform(-1.0, 1.0)) for _ in range(count)]


def product(rows: int, terms: int, transposed: bool) -> tuple[Any, ...]:
    """A matrix of parameters, by rows or by columns, times inputs; then tanh, and the sum of squares."""
    w, b = leaves(rows * terms), leaves(rows, 1)
    at = (lambda i, k: w[k * rows + i]) if transposed else (lambda i, k: w[i * terms + k])

    def f(x: list[Any]) -> Any:
        hidden = [sum((at(i, k) * x[k] for k in range(terms)), b[i]).tanh() for i in range(rows)]
        return sum(h * h for h in hidden)

    return f, terms, [*w, *b]


def two_layers(first: int, second: int) -> tuple[Any, ...]:
    model = nn.MLP(first, [second, second, 1], activation="sigmoid", rng=random.Random(1))
    return lambda x: (model(list(x)) - 0.2) ** 2, first, model.parameters()


def of_parameters() -> Any:
    """Products of parameters by parameters, computed once a call, and by inputs."""
    w = leaves(12 * 12 + 12)

    def f(x: Any) -> Any:
        v = [sum(w[12 * i + k] * w[144 + k] for k in range(12)).sin() for i in range(12)]
        return sum((sum(w[12 * i + k] * x[k] for k in range(12)) + v[i]).exp() * v[i] for i in range(12))

    return f, 12, w


def long_sums() -> Any:
    """Sums of 40 terms and of 40 products, of what varies and of what does not."""
    w = leaves(40)

    def f(x: Any) -> Any:
        y = [a.cos() for a in x]
        z = [a.sin() for a in w]
        return (
            sum(a * a for a in y) * sum(z)
            + sum(a * b for a, b in zip(y, reversed(y)))
            + sum(a / (b * b + 1) for a, b in zip(z, y))
        )

    return f, 40, w


def shared_filters() -> Any:
    """Filters along a line, each of nine numbers, with strides."""
    w = leaves(27)

    def f(x: Any) -> Any:
        out = [sum(w[9 * k + j] * x[2 * i + j] for j in range(9)).tanh() for k in range(3) for i in range(8)]
        return sum(a * a for a in out)

    return f, 23, w


PROGRAMS = {
    "7 x 3": lambda: product(7, 3, False),
    "13 x 37": lambda: product(13, 37, False),
    "37 x 13 by columns": lambda: product(37, 13, True),
    "two layers": lambda: two_layers(9, 11),
    **{f.__name__: f for f in (of_parameters, long_sums, shared_filters)},
}


def made(name: str) -> tuple[Any, ...]:
    f, count, parameters = PROGRAMS[name]()
    inputs = leaves(count, 5)
    program, _ = flatten([f(inputs)], inputs, parameters)
    found: Any = arrays.find(program, small=0, share=0.001)
    point = np.array([p.data for p in parameters])
    both = [kind(found, program.outputs, [], program.checks) for kind in (vectors.Vectors, evaluation.Arrays)]
    for x in both:
        x.prepare(len(parameters))
    return both, count, point


def sums(found: Any, X: Any, point: Any, weights: Any = None) -> Any:
    return found.totals(
        evaluation.Summands(lambda a, b: X[a:b].T, len(X), point, len(point), lambda a, b: math.nan, weights)
    )


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("rows", [1, 2, 8, 63, 150])
def test_machine_code_and_numpy_agree(name: str, rows: int) -> None:
    (native, oracle), count, point = made(name)
    X = np.random.default_rng(rows).normal(size=(rows, count))
    outs = [np.empty((1, rows)), np.empty((1, rows))]
    for found, out in zip((native, oracle), outs):
        odd, _ = found.rows(lambda a, b: X[a:b].T, rows, point, out)
        assert len(odd) == 0
    np.testing.assert_allclose(*outs, rtol=1e-11)
    for weights in (None, np.linspace(-1.0, 2.0, rows)):
        got, want = sums(native, X, point, weights), sums(oracle, X, point, weights)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11 * rows)
    values, status = native.point(X[0].tolist(), point)
    assert (values[0], status) == (pytest.approx(outs[1][0, 0], rel=1e-11), 0)


def test_any_number_of_threads_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CHUNK", 20_000)
    (native, _), count, point = made("two layers")
    X = np.random.default_rng(0).normal(size=(3_000, count))
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(vectors, "cores", lambda threads=threads: threads)
        out = np.empty((1, len(X)))
        native.rows(lambda a, b: X[a:b].T, len(X), point, out)
        found.append((sums(native, X, point).tolist(), out.tolist()))
    assert found[0] == found[1] == found[2]


def test_only_the_block_of_a_row_that_is_not_finite_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CHUNK", 20_000)
    (native, _), count, point = made("7 x 3")
    X = np.random.default_rng(0).normal(size=(2_000, count))
    want = sums(native, np.delete(X, 1234, axis=0), point)
    X[1234] = math.nan
    asked = []

    def again(start: int, stop: int) -> Any:
        asked.append((start, stop))
        rows = [i for i in range(start, stop) if i != 1234]
        return sums(native, X[rows], point)

    got = native.totals(evaluation.Summands(lambda a, b: X[a:b].T, len(X), point, len(point), again))
    ((start, stop),) = asked
    assert start <= 1234 < stop
    assert stop - start <= native.block
    np.testing.assert_allclose(got, want, rtol=1e-10)
    out = np.empty((1, len(X)))
    odd, statuses = native.rows(lambda a, b: X[a:b].T, len(X), point, out)
    assert (odd.tolist(), statuses.tolist()) == ([1234], [2])


def between(X: Any, start: int, stop: int) -> Any:
    return X[start:stop].T


def test_guards_are_read_of_every_row_and_of_what_is_the_same_for_all() -> None:
    x, w = leaves(3), Value(2.0)
    guards = [*(mg.ops.less(w - 2.5, a) for a in x), mg.ops.less(w * 1.0, 3.0)]
    program, _ = flatten([a * w for a in x], x, [w], guards=guards)
    found = vectors.Vectors(
        arrays.find(program, small=0, share=0.001), program.outputs, [(i, True) for i in program.guards], program.checks
    )
    good = [0.5, 1.0, 2.0]
    for row, number, status in (
        (good, 2.0, 0), ([-1.0, 1.0, 2.0], 2.0, 1), (good, 2.0, 0), ([9.0] * 3, 4.0, 1), (good, 2.4, 0),
        ([1e308] * 3, 2.4, 2), ([1.0, math.nan, 1.0], 2.0, 1),
    ):  # fmt: skip
        assert found.point(row, [number])[1] == status
        out = np.empty((3, 3))
        X = np.array([row, good, row])
        odd, statuses = found.rows(functools.partial(between, X), 3, [number], out)
        expected = [status, 1 if number == 4.0 else 0, status]
        assert dict(zip(odd, statuses)) == {i: s for i, s in enumerate(expected) if s}


def test_a_matrix_product_that_overflows_is_the_eager_engines() -> None:
    model = nn.MLP(32, [32, 1], activation="tanh", rng=random.Random(0))
    inputs = leaves(32)
    kernel = mg.kernel(model(inputs), inputs, model.parameters())
    assert isinstance(kernel._arrays(), vectors.Vectors)
    X = np.full((3, 32), 0.5)
    X[1] = 1e308
    for rows in (X, X[1:2]):
        values = kernel(rows)
        for row, value in zip(rows, values):
            assert value == pytest.approx(model([Value(x) for x in row]).data, rel=1e-12, nan_ok=True)


def test_a_batch_of_any_layout() -> None:
    model = nn.MLP(32, [32, 1], activation="tanh", rng=random.Random(0))
    inputs = leaves(32)
    kernel = mg.kernel(model(inputs) ** 2, inputs, model.parameters())
    X = np.random.default_rng(0).normal(size=(90, 32))
    want = kernel.value_and_grad(X)
    wide = np.zeros((180, 64))
    wide[::2, ::2] = X
    for other in (np.asfortranarray(X), wide[::2, ::2], X[::-1][::-1], X.astype(">f8"), X.tolist()):
        value, slopes = kernel.value_and_grad(other)
        assert value == want[0]
        assert slopes.tolist() == want[1].tolist()
    assert len(kernel(np.zeros((0, 32)))) == 0


def test_many_parameters_are_added_up_in_fewer_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CHUNK", 20_000)
    model = nn.MLP(32, [32, 1], activation="tanh", rng=random.Random(0))
    inputs = leaves(32)
    kernel = mg.kernel(model(inputs) ** 2, inputs, model.parameters())
    X = np.random.default_rng(0).normal(size=(700, 32))
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(vectors, "cores", lambda threads=threads: threads)
        value, slopes = kernel.value_and_grad(X)
        found.append((value, slopes.tolist()))
    assert found[0] == found[1] == found[2]
    value, slopes = kernel.value_and_grad(X[:350])
    more = kernel.value_and_grad(X[350:])
    assert found[0][0] == pytest.approx((value + more[0]) / 2.0, rel=1e-12)
    np.testing.assert_allclose(found[0][1], (slopes + more[1]) / 2.0, rtol=1e-10, atol=1e-14)


def test_tanh_of_a_register_is_right_to_3_ulp() -> None:
    from mpmath import mp

    rng = np.random.default_rng(0)
    x = Value(0.5)
    kernel = mg.kernel(x.tanh(), [x])
    points = [rng.normal(size=300), 10.0 ** rng.uniform(-320.0, 1.4, 300), rng.uniform(-22.0, 22.0, 300)]
    points += [rng.uniform(0.1, 1.0, 600), [0.5091725184050244, math.log(2.0) / 4.0, 19.1, 1e308, 5e-324, 2.0**-27]]
    X = np.concatenate([*points, -np.concatenate(points)])
    with mp.workdps(40):
        for at, got in zip(X.tolist(), kernel(X[:, None]).tolist()):
            want = mp.tanh(mp.mpf(at))
            assert abs(mp.mpf(got) - want) <= 3.0 * math.ulp(float(want)), at
    zeros = kernel(np.array([[0.0], [-0.0]] * 8))
    assert np.signbit(zeros).tolist() == [False, True] * 8
    assert mg.kernel(x.tanh(), [x], exact=True)(X[:, None]).tolist() == [math.tanh(at) for at in X.tolist()]


@pytest.mark.parametrize("network", [True, False])
def test_a_large_graph_is_taken_apart_as_a_small_one(monkeypatch: pytest.MonkeyPatch, network: bool) -> None:
    """Unused and unnamed leaves, labels, both zeros: the same program, whose nodes may stand in another order."""
    model = nn.MLP(6, [12, 1], activation="tanh", rng=random.Random(0))
    inputs, unused, other = leaves(6), Value(3.0, "unused"), Value(2.5, "other")
    if network:
        middle = (model(inputs) - 1.5) * other
    else:
        middle = sum(w * x * other for w, x in zip(model.parameters(), inputs)) % 1.5
    middle.label = "middle"
    output = middle**2 + 0.0 * middle + -0.0 * middle
    made = {}
    for large in (0, 10**9):
        monkeypatch.setattr(program, "LARGE", large)
        made[large] = flatten([output], [*inputs, unused], [other, *model.parameters()[:5]])
    (quick, rest), (plain, others) = made.values()
    assert set(rest) == set(others)
    assert rest[:6] == others[:6]
    assert len(quick) == len(plain)
    assert sorted(quick.labels.values()) == sorted(plain.labels.values())
    assert sorted(map(repr, quick.constants.values())) == sorted(map(repr, plain.constants.values()))
    row = [0.25 * k for k in range(7)]
    values = []
    for found, parameters in ((quick, rest), (plain, others)):
        nodes = program.rerecord(found, row, [x.data for x in parameters])
        values.append(nodes[found.outputs[0]].data)
    assert values[0] == values[1]

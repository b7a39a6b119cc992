"""Loops found in straight-line programs: the numbers of the eager engine, to the bit where that is asked."""

import functools
import math
import operator
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Op, Value
from micrograd_bp.compiler import functions, loops
from micrograd_bp.compiler.program import flatten

np = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")

LOOPED = 200  # nodes; the code of a loop is shorter


def total(numbers: Iterable[Any]) -> Any:
    """The sum from left to right: that of floats by `sum` is compensated from Python 3.12 on."""
    return functools.reduce(operator.add, numbers)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are found in short programs too."""
    monkeypatch.setattr(loops, "SMALL", 0)


def pendulum(a: Any, w: Any, k: Any) -> tuple[Any, ...]:
    for _ in range(60):
        a, w = a + 0.01 * w, w - 0.01 * (k * mg.math.sin(a) + 0.1 * w)
    return a, w


def runge_kutta(x: Any, y: Any, k: Any) -> Any:
    def slope(x: Any, y: Any) -> tuple[Any, ...]:
        return y, k * (1.0 - x * x) * y - x

    for _ in range(40):
        a, b = slope(x, y)
        c, d = slope(x + 0.01 * a, y + 0.01 * b)
        x, y = x + 0.02 * c, y + 0.02 * d
    return x * y


def swapped(x: Any, y: Any, z: Any) -> Any:
    for _ in range(50):
        x, y, z = y, z, 0.5 * x + 0.25
    return x, y, z


def constants_carried(x: Any, y: Any, z: Any) -> Any:
    u = 1.0
    for _ in range(80):
        x, u = x * 0.9 + u, y
    return x + u * z


def prepared(x: Any, y: Any, z: Any) -> Any:
    """What is computed before the loop is read in all turns, and after it."""
    c, d = mg.math.exp(-y * y), x * z
    for _ in range(70):
        x = c * x + d * mg.math.cos(x)
    return mg.math.tanh(x) + c * d


def nested(x: Any, y: Any, z: Any) -> Any:
    for _ in range(30):
        for _ in range(3):
            x = x + 0.1 * mg.math.sin(x * y)
        z = 0.5 * z + x * x
    return z, x


def newton(x: Any, y: Any, z: Any) -> Any:
    r = x * x + 1.0
    for _ in range(90):
        r = 0.5 * (r + (y * y + 2.0) / r)
    return r - z


def two_back(x: Any, y: Any, z: Any) -> Any:
    u, v = x, y
    for _ in range(100):
        u, v = v, 0.5 * u + 0.4 * v - 0.1 * mg.math.sin(u) * z
    return v


def trajectory(x: Any, y: Any, z: Any) -> Any:
    """All turns are read after the loop: they are not a loop of this kind."""
    seen = []
    for _ in range(60):
        x = x * 0.9 + y * 0.1
        seen.append(x)
    return total(a * a for a in seen) * z


def forced(x: Any, y: Any, z: Any) -> Any:
    """Every turn has a number of its own."""
    for k in range(60):
        x = 0.9 * x + 0.01 * k * y
    return x * z


def watched(x: Any, y: Any, z: Any) -> Any:
    for _ in range(60):
        x = 0.9 * x + 0.1 * y if x > -100.0 else -x
        if z * x > 50.0:
            return x
    return x


def thermostat(x: Any, y: Any, z: Any) -> Any:
    heating = True
    for _ in range(100):
        x = x + 0.1 * (y if heating else 0.0) - 0.05 * x
        heating = heating if 0.2 < x < 0.8 else bool(x <= 0.2)
    return x + z


def quiet(x: Any, y: Any, z: Any) -> Any:
    """inf on the way, of which nothing is left."""
    for _ in range(60):
        x = mg.math.tanh(x * 1e200 * (1e200 * y)) + z
    return x


FUNCTIONS = [pendulum, runge_kutta, swapped, constants_carried, prepared, nested, newton, two_back, trajectory, forced,
             watched, thermostat, quiet]  # fmt: skip
ROLLED = [pendulum, runge_kutta, prepared, nested, newton, watched, quiet]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("exact", [False, True])
def test_calls_and_batches_are_the_functions_own(f: Callable[..., Any], exact: bool) -> None:
    rng = random.Random(0)
    X = np.array([[rng.uniform(-1.0, 1.0) for _ in range(3)] for _ in range(7)])
    one, many = mg.jit(f, exact=exact, paths=60), mg.jit(mg.vmap(f), exact=exact, paths=60)
    want = np.array([f(*map(float, row)) for row in X])
    calls, rows = np.array([one(*row.tolist()) for row in X]), np.array(many(*X.T)).T
    for found in (calls, rows):
        if exact:
            assert found.tolist() == want.tolist()
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-12)
    if f in ROLLED:
        assert all(count < LOOPED for count in one.stats["compiled"])


@pytest.mark.parametrize("f", [pendulum, prepared, newton], ids=lambda f: f.__name__)
def test_kernels_loop_and_their_gradient_is_that_of_the_graph(f: Callable[..., Any]) -> None:
    inputs, (k,) = [mg.Value(0.3), mg.Value(-0.2)], [mg.Value(0.7)]
    output = f(*inputs, k)
    output = output[0] * output[1] if isinstance(output, tuple) else output
    kernel: Any = mg.kernel(output, inputs, [k])
    assert kernel._native("value").count < LOOPED
    assert kernel([0.3, -0.2]) == pytest.approx(output.data, rel=1e-13)
    output.backward()
    assert kernel.value_and_grad([[0.3, -0.2]])[1].tolist() == pytest.approx([k.grad], rel=1e-10)


def product(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function with one number, where it gives two."""

    def single(*args: Any) -> Any:
        out = f(*args)
        return (
            out[0] * out[1]
            if isinstance(out, tuple) and len(out) == 2
            else total(out)
            if isinstance(out, tuple)
            else out
        )

    return single


@pytest.fixture
def deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are made of the recorded program, however short it is."""
    monkeypatch.setattr(functions, "HEAVY", 0)
    monkeypatch.setattr(functions, "SOME", 0)


REVERSED = [*ROLLED, constants_carried, two_back]  # in the order of creation, there is a loop in these as well


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_of_loops_are_those_of_the_function(f: Callable[..., Any], exact: bool, deferred: None) -> None:
    rng = random.Random(1)
    X = np.array([[rng.uniform(-1.0, 1.0) for _ in range(3)] for _ in range(5)])
    want = [mg.value_and_grad(product(f), (0, 1, 2))(*row) for row in X.tolist()]
    one = mg.jit(mg.value_and_grad(product(f), (0, 1, 2)), exact=exact, paths=60)
    many = mg.jit(mg.vmap(mg.grad(product(f), (0, 2))), exact=exact, paths=60)
    one.pays = many.pays = 0
    for _ in range(2):
        found = [one(*row) for row in X.tolist()]
        batch = np.array(many(*X.T)).T
        if exact:
            assert found == want
            assert batch.tolist() == [[slopes[0], slopes[2]] for _, slopes in want]
        for (y, slopes), (z, expected) in zip(found, want):
            assert [y, *slopes] == pytest.approx([z, *expected], rel=1e-11, abs=1e-12)
        expected = [[slopes[0], slopes[2]] for _, slopes in want]
        np.testing.assert_allclose(batch, expected, rtol=1e-11, atol=1e-12)
    if f in REVERSED and not exact:
        assert all(count < LOOPED for count in one.stats["compiled"])


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_gradients_of_kernels_run_loops_in_reverse(f: Callable[..., Any]) -> None:
    rng = random.Random(2)
    x, *parameters = [mg.Value(rng.uniform(-1.0, 1.0)) for _ in range(3)]
    kernel = mg.kernel(product(f)(x, *parameters), [x], parameters)
    rows, weights = [[0.3], [-0.2], [0.5]], [0.5, 2.0, -1.0]
    eager = np.array([kernel._eager_gradient(row, [p.data for p in parameters]) for row in rows])
    for given, scale in ((None, np.full(3, 1.0 / 3.0)), (weights, np.array(weights))):
        value, slopes = kernel.value_and_grad(rows, weights=given)
        np.testing.assert_allclose([value, *slopes], scale @ eager, rtol=1e-11, atol=1e-12)
    if f in ROLLED:
        native = kernel._native("gradient")
        assert native is not None
        assert native.count < LOOPED


@pytest.mark.parametrize("seed", range(30))
def test_gradients_of_random_loops(seed: int, monkeypatch: pytest.MonkeyPatch, deferred: None) -> None:
    monkeypatch.setattr(loops, "TURNS", 3)
    rng = random.Random(1000 + seed)
    f = random_loop(rng)
    X = [[rng.uniform(-1.5, 1.5) for _ in range(3)] for _ in range(3)]
    want = [mg.value_and_grad(f, (0, 1, 2))(*row) for row in X]
    for exact in (False, True):
        g = mg.jit(mg.value_and_grad(f, (0, 1, 2)), exact=exact)
        g.pays = 0
        for row, (value, slopes) in zip(X, want):
            found, derivatives = g(*row)
            if exact:
                assert (found, derivatives) == (value, slopes)
            assert [found, *derivatives] == pytest.approx([value, *slopes], rel=1e-10, abs=1e-12)


def test_a_long_gradient_has_the_code_of_a_short_one(deferred: None) -> None:
    sizes = []
    for turns in (300, 3000):

        def f(x: Any, y: Any, turns: int = turns) -> Any:
            z = x
            for _ in range(turns):
                z = z + 0.01 * (y - z) * mg.math.sin(z)
            return z

        g = mg.jit(mg.grad(f, (0, 1)))
        g.pays = 0
        g(0.5, 0.25)
        assert g(0.7, 0.25) == pytest.approx(mg.grad(f, (0, 1))(0.7, 0.25), rel=1e-12)
        sizes.append(g.stats["compiled"])
    assert sizes[0] == sizes[1]
    assert sizes[0][0] < 60


def test_a_gradient_that_is_not_finite_is_the_eager_engines(deferred: None) -> None:
    def f(x: Any, y: Any) -> Any:
        for _ in range(40):
            x = mg.math.sqrt(x * x) * 0.5 + y
        return x

    g = mg.jit(mg.grad(f, (0, 1)))
    g.pays = 0
    assert g(0.5, 0.25) == pytest.approx(mg.grad(f, (0, 1))(0.5, 0.25), rel=1e-13)
    assert repr(g(0.0, 0.0)) == repr(mg.grad(f, (0, 1))(0.0, 0.0))

    def h(x: Any) -> Any:
        for _ in range(40):
            x = mg.math.log(x) + 1.5
        return x

    k = mg.jit(mg.value_and_grad(h))
    k.pays = 0
    assert k(2.0)[1] == pytest.approx(mg.grad(h)(2.0), rel=1e-13)
    with pytest.raises(ValueError, match="log"):
        k(-1.0)


def logarithm_caught(x: Any, y: Any) -> Any:
    for _ in range(40):
        x = 0.9 * x + 0.01 * y
    try:
        return mg.math.log(x)
    except ValueError:
        return x * y


def root_of_no_weight(x: Any, y: Any) -> Any:
    for _ in range(40):
        y = 0.9 * y + 0.01 * x
    return mg.math.sqrt(x) * 0.0 + y * x


@pytest.mark.parametrize("f", [logarithm_caught, root_of_no_weight])
def test_a_function_that_raises_has_no_gradient_though_its_derivatives_are_numbers(
    f: Callable[..., Any], deferred: None
) -> None:
    g = mg.jit(mg.grad(f, (0, 1)))
    g.pays = 0
    assert g(3.0, 0.5) == pytest.approx(mg.grad(f, (0, 1))(3.0, 0.5), rel=1e-12)
    if f is logarithm_caught:
        assert g(-30.0, 0.5) == pytest.approx(mg.grad(f, (0, 1))(-30.0, 0.5), rel=1e-12)
    else:
        with pytest.raises(ValueError, match="sqrt"):
            g(-3.0, 0.5)


@pytest.mark.parametrize("op", [mg.ops.minimum, mg.ops.maximum])
def test_a_reversed_loop_at_the_end_grows_when_it_is_lowered(op: Op, deferred: None) -> None:
    def f(x: Any, z: Any) -> Any:
        for _ in range(40):
            z = op(z, z)
        return z * x

    g = mg.jit(mg.grad(f, (0, 1)))
    g.pays = 0
    for point in ((2.0, -0.4), (3.0, 0.7), (3.0, -0.3)):
        assert g(*point) == (point[1], point[0])


@pytest.mark.parametrize("op", ["sin", "cos", "tan"])
@pytest.mark.parametrize("factor", [1.0, 1e200])
def test_what_no_derivative_reads_raises_for_inf(op: str, factor: float) -> None:
    g = mg.jit(mg.grad(lambda x, y: x * x + getattr(mg.math, op)(factor * y * y)))
    assert g(3.0, 0.5) == 6.0
    for y in (math.inf, 1e200):
        if factor * y * y == math.inf:
            with pytest.raises(ValueError, match=op):
                g(3.0, y)


def test_results_beside_a_gradient_and_values_from_elsewhere(deferred: None) -> None:
    def f(x: Any, y: Any) -> tuple[Any, ...]:
        seen = x * y
        for _ in range(30):
            x = x + 0.1 * mg.math.sin(x * y)
        return x, {"product": seen, "name": "a", "end": x}

    g = mg.jit(mg.value_and_grad(f, has_aux=True))
    g.pays = 0
    for point in ((0.5, 0.25), (0.75, -1.0)):
        (value, aux), slope = g(*point)
        (expected, other), wanted = mg.value_and_grad(f, has_aux=True)(*point)
        assert [value, slope, aux["product"], aux["end"]] == pytest.approx(
            [expected, wanted, other["product"], other["end"]], rel=1e-13
        )
        assert aux["name"] == "a"
        assert {*map(type, (value, slope, aux["product"]))} == {float}
    w = mg.Value(0.5)

    def linked(x: Any) -> Any:
        for _ in range(30):
            x = x + 0.1 * mg.math.sin(x * w)
        return x

    h = mg.jit(mg.grad(linked))
    h.pays = 0
    first, again = h(0.5), h(0.75)
    assert [type(first), type(again)] == [mg.Value, mg.Value]
    assert again.data == pytest.approx(mg.grad(linked)(0.75), rel=1e-13)
    again.backward()
    slope = mg.grad(lambda v: mg.grad(lambda x: linked_by(x, v))(0.75))(0.5)
    assert w.grad == pytest.approx(slope, rel=1e-10)


def linked_by(x: Any, v: Any) -> Any:
    for _ in range(30):
        x = x + 0.1 * mg.math.sin(x * v)
    return x


@pytest.mark.parametrize("derived", [False, True])
def test_rows_that_run_eagerly_are_each_their_own(derived: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "HEAVY", 100)  # so that nothing is compiled for so few rows
    f = mg.grad(product(pendulum), (0, 2)) if derived else pendulum
    X = np.array([[0.1 * k, 0.2, 1.0 + k] for k in range(5)])
    found = np.array(mg.jit(mg.vmap(f))(*X.T)).T
    assert found.tolist() == [list(f(*row)) for row in X.tolist()]


def test_a_loop_over_parameters_alone() -> None:
    w = mg.Value(0.4)

    def f(x: Any) -> Any:
        y = w * 1.0
        for _ in range(100):
            y = y + 0.01 * mg.math.sin(y)
        return x * y

    g = mg.jit(f)
    assert g(2.0).data == pytest.approx(f(2.0).data, rel=1e-14)
    w.data = 0.9
    assert g(3.0).data == pytest.approx(f(3.0).data, rel=1e-14)


def test_the_first_turn_that_is_not_finite_is_seen() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        for _ in range(60):
            x = mg.math.tanh(mg.math.log(x + y)) + 1.0 + z
        return x

    g = mg.jit(mg.vmap(f))
    X = np.array([[1.0, 2.0, 0.0], [0.5, 2.0, 0.0], [1.0, 0.5, 0.5]])
    np.testing.assert_allclose(g(*X.T), [f(*row) for row in X.tolist()])
    with pytest.raises(ValueError, match=r"log\(-1\.0\)"):
        g(np.array([1.0, -3.0]), np.array([2.0, 2.0]), np.zeros(2))
    h = mg.jit(quiet)
    assert [h(1.0, 1e-300, 0.5), h(1.0, 1.0, 0.5)] == [quiet(1.0, 1e-300, 0.5), quiet(1.0, 1.0, 0.5)]


def test_a_long_loop_has_the_code_of_a_short_one() -> None:
    sizes = []
    for turns in (300, 3000):
        x, y = mg.Value(0.5), mg.Value(0.25)
        z = x
        for _ in range(turns):
            z = z + 0.01 * (y - z) * z.sin()
        native = mg.kernel(z, [x, y])._native("value")
        assert native is not None
        sizes.append(native.count)
    assert sizes[0] == sizes[1] < 40


def body(rng: random.Random, states: int) -> Callable[..., Any]:
    """A random step from some states to as many, with numbers computed before the loop among what it reads."""
    unary = [mg.math.sin, mg.math.tanh, lambda x: 0.5 * x, lambda x: -x, mg.math.atan]
    steps: list[tuple[Callable[..., Any], list[int]]] = []
    for k in range(rng.randrange(2, 9)):
        width = states + 2 + k
        if rng.random() < 0.5:
            steps.append((rng.choice(unary), [rng.randrange(width)]))
        else:
            steps.append(
                (
                    rng.choice([lambda a, b: 0.7 * a + 0.2 * b, lambda a, b: a * b, lambda a, b: a - b]),
                    rng.choices(range(width), k=2),
                )
            )
    new = rng.choices(range(states + 2, states + 2 + len(steps)), k=states)
    if rng.random() < 0.4:
        new[0] = rng.randrange(states)

    def step(state: list[Any], fixed: list[Any]) -> list[Value]:
        numbers = [*state, *fixed]
        for function, places in steps:
            numbers.append(function(*[numbers[i] for i in places]))
        return [mg.math.tanh(numbers[i]) if i >= states else numbers[i] for i in new]

    return step


def random_loop(rng: random.Random) -> Callable[..., Any]:
    """A function of three numbers with a loop in it, at its end or followed by something else."""
    states, turns = rng.randrange(1, 4), rng.randrange(3, 40)
    step = body(rng, states)
    after = rng.random() < 0.5

    def f(x: Any, y: Any, z: Any) -> Any:
        fixed = [x * y, mg.math.cos(z)]
        state = [x, y, z][:states]
        for _ in range(turns):
            state = step(state, fixed)
        return total(state) * fixed[0] + x if after else state[0]

    return f


@pytest.mark.parametrize("seed", range(40))
def test_random_loops_are_the_eager_engines_to_the_bit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "TURNS", 3)
    rng = random.Random(seed)
    f = random_loop(rng)
    X = np.array([[rng.uniform(-1.5, 1.5) for _ in range(3)] for _ in range(5)])
    g = mg.jit(mg.vmap(f), exact=True)
    assert np.array(g(*X.T)).tolist() == [f(*row) for row in X.tolist()]


def test_what_has_no_loop_is_left_alone() -> None:
    rng = random.Random(0)
    inputs = [mg.Value(0.1 * k) for k in range(4)]
    nodes = inputs[:]
    for _ in range(3000):
        a, b = rng.choices(nodes[-20:], k=2)
        nodes.append(rng.choice([lambda a, b: a + b.tanh(), lambda a, b: a * b, lambda a, b: (a - b).sin()])(a, b))
    program, _ = flatten([nodes[-1]], inputs)
    assert loops.roll(program) is None
    assert math.isfinite(nodes[-1].data)

"""Loops whose turns read sequences, several in a program: values and derivatives of random recurrences."""

import random
from collections.abc import Callable
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp.compiler import functions, loops

np = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")

SIZE = 24  # of the argument
ONE: list[Callable[..., Any]] = [
    mg.math.sin,
    mg.math.tanh,
    lambda x: -x,
    lambda x: 0.25 * x * x,
    abs,
    lambda x: 0.5 * x,
]
TWO: list[Callable[..., Any]] = [
    lambda a, b: 0.7 * a + 0.2 * b,
    lambda a, b: a * b,
    lambda a, b: a / (1.0 + b * b),
    mg.ops.maximum,
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are found in short programs, of a few turns, and gradients are made of the recorded program."""
    for name, number in (("SMALL", 0), ("TURNS", 3), ("WORTH", 6)):
        monkeypatch.setattr(loops, name, number)
    monkeypatch.setattr(functions, "HEAVY", 0)
    monkeypatch.setattr(functions, "SOME", 0)


def recurrence(seed: int) -> Callable[[Any], Any]:
    """A random function of SIZE numbers: loops over them, over tables, and over what earlier loops gave."""
    rng = random.Random(seed)
    plans = []
    kept: list[int] = []  # turns of each sequence that a loop gives
    for _ in range(rng.randrange(1, 4)):
        turns, states = rng.randrange(3, SIZE), rng.randrange(1, 4)
        reads: list[tuple[Any, int, int]] = []
        for _ in range(rng.randrange(1, 4)):
            which = rng.randrange(-2, len(kept))
            size = SIZE if which == -2 else turns if which == -1 else kept[which]
            step = rng.choice([1, 1, -1, 2])
            if abs(step) * (turns - 1) < size:
                low = rng.randrange(size - abs(step) * (turns - 1))
                table = [rng.choice([0.0, 1.0, rng.uniform(-1.0, 1.0)]) for _ in range(turns)] if which == -1 else which
                reads.append((table, low if step > 0 else low - step * (turns - 1), step))
        steps = [(rng.random() < 0.4, rng.choice(ONE), rng.choice(TWO), rng.random(), rng.random()) for _ in range(5)]
        plans.append((turns, reads, rng.choice([1, 1, 2, 3]), steps, [rng.random() for _ in range(states)]))
        kept.append(turns)
    after = rng.choice(["all", "third", "last"])

    def f(x: Any) -> Any:
        fixed = [x[0] * x[1], mg.math.cos(x[2])]
        sequences: list[list[Any]] = []
        out = x[0] * 0.5
        for turns, reads, lag, steps, wanted in plans:
            past = [[fixed[0], fixed[1], out][: len(wanted)]] * lag
            given = []
            for turn in range(turns):
                numbers = [*past[-1], *past[-lag], *fixed]
                for table, first, step in reads:
                    row = x if table == -2 else table if isinstance(table, list) else sequences[table]
                    number = row[first + step * turn]
                    numbers.append(fixed[0] * number if isinstance(table, list) else number)
                for alone, g, h, a, b in steps:
                    p, q = numbers[int(a * len(numbers))], numbers[int(b * len(numbers))]
                    numbers.append(g(p) if alone else h(p, q))
                past.append([mg.math.tanh(numbers[int(u * len(numbers))]) for u in wanted])
                given.append(numbers[-1])
                out = out + 0.1 * past[-1][0]
            sequences.append(given)
        for given in sequences:
            if after == "all":
                for k, y in enumerate(given):
                    out = out + 0.1 * k * y
            for y in given[::3] if after == "third" else given[-2:]:
                out = out + mg.math.sin(y)
        return out

    return f


@pytest.mark.parametrize("seed", range(12))
def test_random_recurrences(seed: int) -> None:
    f, rng = recurrence(seed), random.Random(seed)
    points = [[rng.uniform(-1.2, 1.2) for _ in range(SIZE)] for _ in range(2)]
    direction = [rng.uniform(-1.0, 1.0) for _ in range(SIZE)]

    def slope(x: Any) -> Any:
        total = 0.0 * x[0]
        for a, b in zip(mg.grad(f)(x), direction):
            total = total + a * b
        return total

    for exact in (False, True):
        first, second = mg.jit(mg.value_and_grad(f), exact=exact), mg.jit(mg.grad(slope), exact=exact)
        first.pays = second.pays = 0
        for x in points:
            (value, slopes), (wanted, expected) = first(x), mg.value_and_grad(f)(x)
            if exact:
                assert (value, slopes) == (wanted, expected)
            np.testing.assert_allclose([value, *slopes], [wanted, *expected], rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(second(x), mg.grad(slope)(x), rtol=1e-9, atol=1e-10)
    X = np.array(points)
    np.testing.assert_allclose(mg.jit(mg.vmap(f))(X), [f(x) for x in points], rtol=1e-11, atol=1e-12)


def layers(x: list[Any], w: list[Any], depth: int, width: int) -> Any:
    """A narrow network whose layers have parameters of their own."""
    k = 0
    for _ in range(depth):
        new = []
        for _ in range(width):
            total = w[k + width]
            for j in range(width):
                total = total + w[k + j] * x[j]
            new.append(mg.math.tanh(total))
            k += width + 1
        x = new
    return x[0] * x[1]


def cell(x: list[Any], w: list[Any], steps: int, units: int) -> Any:
    """A recurrent cell over a series, and its squared errors."""
    h, loss = [0.0 * x[0]] * units, 0.0 * x[0]
    for t in range(steps):
        h = [
            mg.math.tanh(w[3 * k] * x[t] + w[3 * k + 1] * h[k] + w[3 * k + 2] * h[k - 1]) * (0.5 + 0.01 * t)
            for k in range(units)
        ]
        loss = loss + (h[0] - x[t]) ** 2
    return loss


@pytest.mark.parametrize(
    ("f", "inputs", "parameters", "code"),
    [(lambda x, w: layers(x, w, 120, 3), 3, 1440, 250), (lambda x, w: cell(x, w, 150, 4), 150, 12, 500)],
    ids=["layers", "cell"],
)
def test_layers_and_cells_are_loops_of_a_kernel(f: Callable[..., Any], inputs: int, parameters: int, code: int) -> None:
    rng = random.Random(3)
    x = [mg.Value(rng.uniform(-1.0, 1.0)) for _ in range(inputs)]
    w = [mg.Value(rng.uniform(-1.0, 1.0)) for _ in range(parameters)]
    output = f(x, w)
    output.backward()
    kernel: Any = mg.kernel(output, x, w)
    row = [y.data for y in x]
    assert kernel(row) == pytest.approx(output.data, rel=1e-12)
    value, slopes = kernel.value_and_grad([row, row, row])
    np.testing.assert_allclose([value, *slopes], [output.data, *[y.grad for y in w]], rtol=1e-10, atol=1e-13)
    value, slopes = kernel.value_and_grad([row])
    np.testing.assert_allclose([value, *slopes], [output.data, *[y.grad for y in w]], rtol=1e-10, atol=1e-13)
    assert kernel.stats["gradient: compiled, for each row"] < code


def test_a_number_of_a_sequence_that_is_not_finite_is_the_eager_engines() -> None:
    def f(x: Any) -> Any:
        total = x[0] * 1.0
        for k in range(30):
            total = mg.math.tanh(total + mg.math.log(x[k]))
        return total

    g = mg.jit(mg.value_and_grad(f))
    g.pays = 0
    good = [0.5 + 0.1 * k for k in range(30)]
    assert g(good)[1] == pytest.approx(mg.grad(f)(good), rel=1e-12)
    for k in (0, 11, 29):
        with pytest.raises(ValueError, match="log"):
            g([*good[:k], -1.0, *good[k + 1 :]])
        endless = [*good[:k], float("inf"), *good[k + 1 :]]
        assert repr(g(endless)) == repr(mg.value_and_grad(f)(endless))

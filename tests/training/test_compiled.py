"""Training compiles itself where that pays, and gives what training eagerly gives: histories, errors, side effects."""

import math
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, losses, nn, optim, training
from micrograd_bp.training import compiled

pytest.importorskip("llvmlite")
np = pytest.importorskip("numpy")

ACTIVATIONS = ("relu", "sigmoid", "gelu", "silu", "elu", None)
OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.02),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "a schedule": lambda p: optim.Adam(p, lr=lambda steps: 0.02 / (1 + steps)),
}
TASKS: dict[str, tuple[Any, int, Callable[[float, float], Any]]] = {
    "mse": (losses.mse, 1, lambda x, y: x * y),
    "mse of several": (losses.mse, 2, lambda x, y: [x * y, x - y]),
    "sum_of_squares": (losses.sum_of_squares, 2, lambda x, y: [x * y, 1]),
    "huber": (losses.huber, 1, lambda x, y: 3.0 * x * y),
    "hinge": (losses.hinge, 1, lambda x, y: 1 if x > y else -1),
    "binary_cross_entropy": (losses.binary_cross_entropy, 1, lambda x, y: int(x > y)),
    "binary, of several": (losses.binary_cross_entropy, 2, lambda x, y: [int(x > y), int(x > 0.0)]),
    "cross_entropy": (losses.cross_entropy, 3, lambda x, y: int(x > 0.0) + int(y > 0.0)),
    "cross_entropy of shares": (losses.cross_entropy, 2, lambda x, y: [0.25, 0.75] if x > y else [1.0, 0.0]),
    "one's own": (lambda p, t: abs(p - t) if p > t else 2.0 * (p - t) ** 2, 1, lambda x, y: x - y),
}


@pytest.fixture(autouse=True)
def eager_work_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short runs are compiled too, from the third batch on."""
    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1.0))


def points(n: int = 22) -> list[list[float]]:
    rng = random.Random(5)
    return [[rng.gauss(0.0, 1.0), rng.gauss(0.0, 1.0)] for _ in range(n)]


def count_of_paths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many paths are recorded, in a list that grows."""
    made: list[int] = []
    record = compiled.CompiledSweep._record
    monkeypatch.setattr(
        compiled.CompiledSweep,
        "_record",
        lambda *args: record(*args) and not made.append(1),  # type: ignore[func-returns-value]
    )
    return made


def both(train: Callable[[bool | None], Any]) -> tuple[Any, Any]:
    """What a run gives eagerly and by default; nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return train(False), train(None)


@pytest.mark.parametrize(
    ("task", "activation", "optimizer"),
    [(task, activation, "Adam") for task in TASKS for activation in ACTIVATIONS]
    + [(task, "tanh", optimizer) for task in TASKS for optimizer in OPTIMIZERS],
)
def test_histories_agree(task: str, activation: str | None, optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, outputs, target = TASKS[task]
    X = points()
    y = [target(*x) for x in X]
    made = count_of_paths(monkeypatch)

    def train(jit: bool | None) -> tuple[Any, ...]:
        model = nn.MLP(2, [4, outputs], activation=activation, rng=random.Random(1))
        metrics = {"first": lambda p, t: sum(x[0] if isinstance(x, list) else x for x in p)}
        settings: dict[str, Any] = {"epochs": 12, "batch_size": 8, "metrics": metrics, "validation": 0.2, "jit": jit}
        history = training.fit(model, loss, X, y, OPTIMIZERS[optimizer](model.parameters()), **settings)
        return history, [p.data for p in model.parameters()], [p.grad for p in model.parameters()]

    eager, found = both(train)
    assert made
    assert eager[0].keys() == found[0].keys()
    for name in eager[0]:
        assert found[0][name] == pytest.approx(eager[0][name], rel=1e-9, abs=1e-12)
    assert found[1] == pytest.approx(eager[1], rel=1e-9, abs=1e-12)
    assert found[2] == pytest.approx(eager[2], rel=1e-9, abs=1e-12)


def fails(p: Any, t: Any) -> Any:
    if t > 2.0:
        raise LookupError(f"no target {t!r}")
    return (p - t) ** 2


@pytest.mark.parametrize(
    ("loss", "change"),
    [
        (losses.mse, lambda X, y, i: X[i].__setitem__(0, math.nan)),
        (losses.mse, lambda X, y, i: X[i].__setitem__(0, math.inf)),
        (losses.mse, lambda X, y, i: X[i].__setitem__(1, "text")),
        (losses.mse, lambda X, y, i: X[i].__setitem__(1, None)),
        (losses.mse, lambda X, y, i: y.__setitem__(i, math.nan)),
        (losses.mse, lambda X, y, i: y.__setitem__(i, [1.0, 2.0])),
        (losses.mse, lambda X, y, i: y.__setitem__(i, None)),
        (losses.hinge, lambda X, y, i: y.__setitem__(i, 1j)),
        (losses.cross_entropy, lambda X, y, i: None),
        (lambda p, t: mg.math.log(p - p + t), lambda X, y, i: y.__setitem__(i, -1.0)),
        (lambda p, t: p / t, lambda X, y, i: y.__setitem__(i, 0.0)),
        (lambda p, t: mg.math.exp(1e3 * t * p * p), lambda X, y, i: y.__setitem__(i, 1e6)),
        (fails, lambda X, y, i: y.__setitem__(i, 3.0)),
        (lambda p, t: float(t), lambda X, y, i: None),
        (lambda p, t: p if t < 2.0 else 1.0, lambda X, y, i: y.__setitem__(i, 3.0)),
        (lambda p, t: {1.0: p}[t], lambda X, y, i: y.__setitem__(i, 7.0)),
    ],
)
@pytest.mark.parametrize("at", [1, 20])
def test_errors_are_the_same(loss: Callable[..., Any], change: Callable[..., Any], at: int) -> None:
    """Where the number that is wrong comes in the first batch, and where it comes when the run is compiled."""

    def train(jit: bool | None) -> tuple[Any, ...]:
        X, y = points(), [1.0] * 22
        change(X, y, at)
        model = nn.MLP(2, [4, 1], activation="tanh", rng=random.Random(1))
        settings: dict[str, Any] = {"batch_size": 4, "epochs": 3, "shuffle": False, "jit": jit}
        raised: Any = None
        try:
            training.fit(model, loss, X, y, optim.SGD(model.parameters(), lr=0.01), **settings)
        except Exception as error:
            raised = error
        notes = getattr(raised, "__notes__", [])
        return type(raised), str(raised), notes, [p.data for p in model.parameters()]

    eager, found = both(train)
    assert found[:3] == eager[:3]
    assert found[3] == pytest.approx(eager[3], rel=1e-9)


class Noisy(nn.Module):
    """Draws a random number at each call, then asks the standard library for a function of its inputs."""

    def __init__(self) -> None:
        self.w, self.rng = [Value(0.5), Value(-0.5)], random.Random(3)

    def __call__(self, x: list[float]) -> Any:
        scale = self.rng.gauss(1.0, 0.1)
        return sum(w * math.sin(xi) * scale for w, xi in zip(self.w, x))


class Counting(nn.Module):
    def __init__(self) -> None:
        self.w, self.calls = [Value(0.5), Value(-0.5)], 0

    def __call__(self, x: list[float]) -> Any:
        self.calls += 1
        return sum(w * xi for w, xi in zip(self.w, x)) / self.calls


class Plain(nn.Module):
    """The model that a function of its weights and a row is."""

    def __init__(self, function: Any) -> None:
        self.w, self.function = [Value(0.5), Value(-0.5)], function

    def __call__(self, x: Any) -> Any:
        return self.function(self.w, x)


MODELS: dict[str, tuple[Callable[[], Any], bool]] = {  # and whether it is compiled
    "draws": (Noisy, False),
    "counts": (Counting, False),
    "dropout": (
        lambda: nn.Sequential(nn.Dropout(0.5, rng=random.Random(1)), nn.MLP(2, [4, 1], rng=random.Random(0))),
        False,
    ),
    "math of floats": (lambda: Plain(lambda w, x: w[0] * math.exp(-x[0]) + w[1] * x[1]), False),
    "types": (lambda: Plain(lambda w, x: sum(wi * xi for wi, xi in zip(w, x) if isinstance(xi, float))), False),
    "text": (lambda: Plain(lambda w, x: w[0] * float(f"{x[0]:.3f}") + w[1]), False),
    "a table": (lambda: Plain(lambda w, x: w[int(x[0] > 0.0)] * x[1]), True),
    "data": (lambda: Plain(lambda w, x: w[0] * x[0] if w[0].data > 0.4 else w[1] * x[1]), False),
    "branches": (lambda: Plain(lambda w, x: w[0] * x[0] if x[0] > x[1] else w[1] * x[1]), True),
    "NumPy": (lambda: Plain(lambda w, x: (np.array(w) * np.tanh(np.array(x))).sum()), True),
    "catches": (lambda: Plain(lambda w, x: w[0] * root(x[0]) + w[1] * x[1]), True),
    "ints": (lambda: Plain(lambda w, x: w[round(x[0]) % 2] * x[1]), True),
}


def root(x: Any) -> Any:
    try:
        return mg.math.sqrt(x)
    except ValueError:
        return 0.0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_models_of_any_kind_train_the_same(name: str, batch_size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    make, compiles = MODELS[name]
    made = count_of_paths(monkeypatch)
    X = points()
    y = [x * y for x, y in X]

    def train(jit: bool | None) -> tuple[Any, ...]:
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        history = training.fit(model, losses.mse, X, y, optimizer, epochs=8, batch_size=batch_size, jit=jit)
        return [*history["loss"], *[p.data for p in model.parameters()]], getattr(model, "calls", 0)

    eager, found = both(train)
    assert found[0] == (pytest.approx(eager[0], rel=1e-9) if compiles else eager[0])
    assert found[1] == eager[1]
    assert bool(made) is compiles


@pytest.mark.parametrize("outputs", ["tuple", "dict", "array", "nested"])
def test_metrics_get_the_same_predictions(outputs: str) -> None:
    def model(x: Any) -> Any:
        a, b = w[0] * x[0], w[1] * x[1]
        made: Any = {"tuple": (a, (b, 2.0)), "dict": {"a": a, "b": b}, "array": np.array([a, b]), "nested": [[a], b]}
        return made[outputs]

    def loss(p: Any, t: Any) -> Any:
        a = {"tuple": lambda: p[0], "dict": lambda: p["a"], "array": lambda: p[0], "nested": lambda: p[0][0]}[outputs]()
        return (a - t) ** 2

    def described(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x).__name__, [described(y) for y in x]
        if isinstance(x, dict):
            return {name: described(y) for name, y in x.items()}
        return type(x).__name__ if not isinstance(x, np.ndarray) else (str(x.dtype), x.shape)

    seen: list[Any] = []
    kinds = []
    choices: list[bool | None] = [False, None]
    for jit in choices:
        w = [Value(0.5), Value(-0.5)]
        seen.clear()
        metrics = {"seen": lambda p, t: len([*map(seen.append, map(described, p))])}
        X = points()
        training.fit(model, loss, X, [0.5] * 22, optim.SGD(w, lr=0.01), epochs=3, metrics=metrics, jit=jit)
        kinds.append(seen[:])
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("change", ["a number", "a weight", "an activation", "a list"])
def test_what_a_callback_changes_counts(change: str) -> None:
    X = points()
    y = [x * y for x, y in X]

    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.net, self.scale, self.shift, self.extra = (
                nn.MLP(2, [3, 1], activation="tanh", rng=random.Random(0)),
                1.0,
                Value(0.1),
                [1.0],
            )

        def __call__(self, x: Any) -> Any:
            return self.net(x) * self.scale + self.shift * sum(self.extra)

    def train(jit: bool | None) -> list[float]:
        model = Scaled()

        def callback(epoch: Any, history: Any) -> None:
            if epoch in (4, 9):
                if change == "a number":
                    model.scale *= 0.5
                elif change == "a weight":
                    model.shift = Value(-0.2 * epoch)
                elif change == "an activation":
                    model.net.layers[0].neurons[1].nonlin = epoch != 4
                else:
                    model.extra.append(0.5)

        optimizer = optim.SGD(model.parameters(), lr=0.05)
        history = training.fit(model, losses.mse, X, y, optimizer, epochs=14, callbacks=[callback], jit=jit)
        return history["loss"]

    eager, found = both(train)
    assert found == pytest.approx(eager, rel=1e-9)


def test_without_llvmlite_training_is_eager_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_of_paths(monkeypatch)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    X = points()

    def train(jit: bool | None) -> Any:
        model = nn.MLP(2, [4, 1], rng=random.Random(1))
        return training.fit(model, losses.mse, X, [1.0] * 22, optim.SGD(model.parameters(), lr=0.01), epochs=3, jit=jit)

    eager, found = both(train)
    assert eager == found
    assert not made


def test_a_path_that_few_rows_take_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand ways through a model those are compiled whose rows have cost more than compiling."""
    made = count_of_paths(monkeypatch)
    monkeypatch.setattr(compiled, "STARTING", 0.0)
    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1e-5))
    rng = random.Random(0)
    X = [[rng.gauss(0.0, 1.0) for _ in range(10)] for _ in range(100)]

    def train(jit: bool | None) -> list[float]:
        w = [Value(0.1) for _ in range(10)]
        model = lambda x: sum(wi * xi if xi > 0.0 else wi for wi, xi in zip(w, x))  # noqa: E731
        return training.fit(model, losses.mse, X, [1.0] * 100, optim.SGD(w, lr=0.01), epochs=4, jit=jit)["loss"]

    eager, found = both(train)
    assert found == pytest.approx(eager, rel=1e-9)
    assert 1 <= len(made) < 20


def thirds(p: Any, t: Any) -> Any:
    """A loss with a path of its own for each of three kinds of target."""
    if t == 0:
        return (p - 0.3) ** 2
    return (p + 0.7) ** 4 if t == 1 else losses.huber(p, 0.1)


def test_a_path_that_many_rows_take_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count_of_paths(monkeypatch)
    X, y = points(), [0.0] * 11 + [1.0] * 11

    def train(jit: bool | None) -> Any:
        model = nn.MLP(2, [4, 1], activation="tanh", rng=random.Random(1))
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        return training.fit(model, thirds, X, y, optimizer, epochs=6, batch_size=11, shuffle=False, jit=jit)["loss"]

    eager, found = both(train)
    assert found == pytest.approx(eager, rel=1e-9)
    assert len(made) == 2


def test_a_resumed_run_adds_up_its_paths_in_the_order_of_the_rows(tmp_path: Path) -> None:
    """To the same bits, though the run that goes on finds its three paths in another order than the whole run did."""
    X, y = points(21), [float(k % 3) for k in range(21)]

    def train(name: str, epochs: int) -> Any:
        model = nn.MLP(2, [6, 1], activation="tanh", rng=random.Random(1))
        settings: dict[str, Any] = {"epochs": epochs, "rng": random.Random(3), "checkpoint": tmp_path / name}
        training.fit(model, thirds, X, y, optim.SGD(model.parameters(), lr=0.05), batch_size=7, jit=True, **settings)
        return [p.data for p in model.parameters()]

    whole = train("whole.json", 9)
    for epochs in range(1, 10):
        assert train("parts.json", epochs) == whole or epochs < 9

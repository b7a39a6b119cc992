"""Training compiled has the history of training eagerly."""

import io
import random
import sys
import time
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import losses, nn, optim, training
from micrograd_bp._engine import progress
from micrograd_bp.compiler import functions
from micrograd_bp.training import compiled


@pytest.fixture(autouse=True)
def eager_work_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short runs are compiled too, from the second batch on."""
    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1.0))


def problem(name: str, rng: random.Random) -> tuple[Any, Any, list[Any], list[Any]]:
    """A model, a loss, rows and targets."""
    X = [[rng.gauss(0.0, 1.0), rng.gauss(0.0, 1.0)] for _ in range(24)]
    model = nn.MLP(2, [5, 3 if name == "cross_entropy" else 1], activation="tanh", rng=rng)
    if name == "hinge":
        return model, losses.hinge, X, [1 if x * y > 0.0 else -1 for x, y in X]
    if name == "cross_entropy":
        return model, losses.cross_entropy, X, [int(x > 0.0) + int(y > 0.0) for x, y in X]
    if name == "binary_cross_entropy":
        return model, losses.binary_cross_entropy, X, [int(x > y) for x, y in X]
    if name == "branches":  # the model and the loss look at the numbers
        deep: Any = lambda x: model([max(x[0], 0.25), x[1] if x[1] > x[0] else -x[1]])  # noqa: E731
        deep.parameters = model.parameters
        return deep, lambda y, t: abs(y - t) if y > t else 2.0 * (y - t) ** 2, X, [x - y for x, y in X]
    if name == "classes":  # a target that must be known when the program is made
        table = {"near": 0.0, "far": 1.0}
        return model, lambda y, t: (y - table[t]) ** 2, X, ["near" if abs(x) < 0.7 else "far" for x, _ in X]
    return model, getattr(losses, name), X, [x * y for x, y in X]


@pytest.mark.parametrize(
    "name", ["mse", "huber", "hinge", "binary_cross_entropy", "cross_entropy", "branches", "classes"]
)
def test_the_history_is_the_same_over_a_hundred_epochs(name: str) -> None:
    histories = []
    for jit in (False, True):
        model, loss, X, y = problem(name, random.Random(1))
        optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
        settings: dict[str, Any] = {"epochs": 100, "batch_size": 8, "rng": random.Random(0), "jit": jit}
        if name == "cross_entropy":
            settings["metrics"] = {"accuracy": training.accuracy}
        history = training.fit(model, loss, X, y, optimizer, **settings)
        histories.append((history, [p.data for p in model.parameters()]))
    (eager, weights), (compiled, others) = histories
    assert compiled.keys() == eager.keys()
    for key in eager:
        assert compiled[key] == pytest.approx(eager[key], rel=1e-9)
    assert others == pytest.approx(weights, rel=1e-8)


def test_a_loss_that_is_not_finite_ends_compiled_training_as_it_ends_eager_training() -> None:
    for jit in (False, True):
        line = nn.Neuron(1, nonlin=False, rng=random.Random(0))
        optimizer = optim.SGD(line.parameters(), lr=1e200)
        with pytest.raises((FloatingPointError, OverflowError)):
            training.fit(line, losses.mse, [[1e200], [2.0]], [0.0, 1.0], optimizer, epochs=5, jit=jit)


def test_leaves_that_are_no_parameters_of_the_optimizer_get_their_gradient_too() -> None:
    w, shift = mg.Value(1.0), mg.Value(0.5)
    grads = []
    for jit in (False, True):
        shift.grad, w.data = 0.0, 1.0
        optimizer = optim.SGD([w], lr=0.1)
        training.fit(lambda x: w * x[0] + shift, losses.mse, [[1.0], [2.0]], [3.0, 1.0], optimizer, epochs=3, jit=jit)
        grads.append((shift.grad, w.data))
    assert grads[0] == pytest.approx(grads[1], rel=1e-12)


def test_a_run_shorter_than_compiling_it_stays_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def history(jit: bool) -> Any:
        model, loss, X, y = problem("mse", random.Random(1))
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        return training.fit(model, loss, X, y, optimizer, epochs=3, batch_size=8, rng=random.Random(0), jit=jit)

    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1e-12))
    monkeypatch.setattr(functions.Compiled, "record", lambda *args: pytest.fail("it was recorded to be compiled"))
    assert history(True) == history(False)


def test_compiling_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its third second on, with the time since it began; in a block within another nothing more."""
    pytest.importorskip("tqdm")

    def shown(terminal: bool) -> str:
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.elapsed("quick"):
            pass
        with progress.elapsed("compiling", 0.05), progress.elapsed("inner", 0.0):
            time.sleep(0.8)
        return stream.getvalue()

    assert shown(False) == ""
    text = shown(True)
    assert "compiling, 00:00" in text
    assert "quick" not in text
    assert "inner" not in text
    assert text.endswith("\r")


def test_a_path_that_few_calls_take_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long function whose arguments each take another way: a way is compiled once many calls have found none."""
    monkeypatch.setattr(functions, "HEAVY", 100)
    monkeypatch.setattr(functions, "SOME", sys.maxsize)

    def f(x: Any) -> Any:
        y = x * 1.0
        for k in range(60):
            y = y + (0.1 * x if int(x * 1e6) >> k % 20 & 1 else 0.2)
        return y

    g = mg.jit(f)
    g.pays = 10
    rng = random.Random(0)
    for _ in range(35):
        x = rng.uniform(0.0, 1.0)
        assert g(x) == pytest.approx(f(x), rel=1e-13)
    assert g.stats["paths"] == 3

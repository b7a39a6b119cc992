"""Training: what an epoch does, early stopping, interruption, checkpoints of runs that were killed, and real data."""

import functools
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from micrograd_bp import Value, datasets, losses, nn, optim, training
from micrograd_bp.training import compiled

ACCURACY = {"accuracy": training.accuracy}


def small(seed: int = 0, n: int = 12) -> tuple[Any, ...]:
    rng = random.Random(seed)
    data = datasets.moons(n, 0.1, rng)
    return nn.MLP(2, [3, 1], activation="tanh", rng=rng), data.X, data.y


def fit(
    model: Any, rows: list[list[float]], targets: list[int], optimizer: optim.Optimizer | None = None, **options: Any
) -> Any:
    optimizer = optimizer or optim.Adam(model.parameters(), lr=0.05)
    loss = options.pop("loss", losses.binary_cross_entropy)
    return training.fit(model, loss, rows, targets, optimizer, **{"epochs": 4, "batch_size": 5} | options)


def test_an_epoch_is_a_step_for_every_batch_of_shuffled_rows() -> None:
    """The same loop written out: batches of the shuffled rows, the gradient of their mean loss, a step."""
    (model, X, y), (other, _, _) = small(), small()
    history = fit(model, X, y, rng=random.Random(3), metrics=ACCURACY)

    rng, optimizer = random.Random(3), optim.Adam(other.parameters(), lr=0.05)
    expected: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for _ in range(4):
        order = list(range(12))
        rng.shuffle(order)
        total, right = 0.0, 0
        for batch in (order[:5], order[5:10], order[10:]):
            optimizer.zero_grad()
            scores = [other(X[i]) for i in batch]
            mean = sum(losses.binary_cross_entropy(score, y[i]) for score, i in zip(scores, batch, strict=True)) / len(
                batch
            )
            mean.backward()
            optimizer.step()
            total += mean.data * len(batch)
            right += sum((score.data > 0) == (y[i] > 0) for score, i in zip(scores, batch, strict=True))
        expected["loss"].append(total / 12)
        expected["accuracy"].append(right / 12)
    assert list(history) == ["loss", "accuracy"]
    for name in history:
        assert history[name] == pytest.approx(expected[name], rel=1e-12)
    assert list(other.state_dict().values()) == pytest.approx(list(model.state_dict().values()), rel=1e-10)


def test_the_order_of_rows_comes_from_the_seed() -> None:
    def run(**options: Any) -> tuple[Any, ...]:
        model, X, y = small()
        return fit(model, X, y, **options), model.state_dict()

    assert run(rng=random.Random(1)) == run(rng=random.Random(1)) != run(rng=random.Random(2))
    assert run() == run(rng=random.Random(0))
    assert run(shuffle=False, rng=random.Random(1)) == run(shuffle=False, rng=random.Random(2))
    assert run(batch_size=None, shuffle=False) == run(batch_size=12, shuffle=False) == run(batch_size=99, shuffle=False)


def test_penalty_and_clipping_come_before_the_step() -> None:
    model, X, y = small()
    weights, seen = model.parameters(), []
    before = [w.data for w in weights]

    def clip(parameters: list[Any]) -> None:
        seen.append(optim.clip_grad_norm(parameters, 0.25))

    penalty = functools.partial(losses.l2_penalty, weights, 1e6)
    fit(model, X, y, optim.SGD(weights, lr=1.0), epochs=1, batch_size=None, penalty=penalty, clip=clip)
    steps = [b - w.data for b, w in zip(before, weights, strict=True)]
    assert seen[0] > 1e5
    assert math.hypot(*steps) == pytest.approx(0.25)
    assert steps == pytest.approx([0.25 * b / math.hypot(*before) for b in before], rel=1e-3, abs=1e-5)


def test_validation_rows_are_held_out_or_given() -> None:
    model, X, y = small(n=20)
    history = fit(model, X, y, epochs=2, validation=0.25, metrics={"count": lambda predictions, targets: len(targets)})
    assert history["count"] == [15.0, 15.0]
    assert history["val_count"] == [5.0, 5.0]
    assert set(history) == {"loss", "count", "val_loss", "val_count"}

    model, X, y = small()
    history = fit(model, X, y, epochs=2, validation=(X[:3], y[:3]), metrics=ACCURACY)
    found = training.evaluate(model.freeze(), losses.binary_cross_entropy, X[:3], y[:3], ACCURACY)
    assert {name: numbers[-1] for name, numbers in history.items() if "val" in name} == {
        f"val_{name}": number for name, number in found.items()
    }


def test_early_stopping_puts_the_best_parameters_back() -> None:
    """On noise, the loss on other rows soon rises; the weights kept are those of its least."""
    rng = random.Random(4)
    X = [[rng.gauss(0, 1), rng.gauss(0, 1)] for _ in range(16)]
    y = [rng.randrange(2) for _ in X]
    model, kept = nn.MLP(2, [6, 1], activation="tanh", rng=rng), []
    history = fit(
        model,
        X[:8],
        y[:8],
        epochs=200,
        batch_size=None,
        validation=(X[8:], y[8:]),
        patience=5,
        callbacks=[lambda epoch, history: kept.append(model.state_dict())],
    )
    best = min(range(len(history["val_loss"])), key=history["val_loss"].__getitem__)
    assert len(kept) == len(history["loss"]) == best + 1 + 5 < 200
    assert model.state_dict() == kept[best] != kept[-1]


def test_patience_counts_only_falls_by_more_than_min_delta() -> None:
    model, X, y = small()
    assert len(fit(model, X, y, epochs=50, patience=3, min_delta=1e9)["loss"]) == 4


def test_a_callback_sees_every_epoch_and_can_end_the_training() -> None:
    model, X, y = small()
    seen = []

    def callback(epoch: Any, history: Any) -> bool:
        seen.append((epoch, len(history["loss"])))
        return epoch == 3

    assert len(fit(model, X, y, epochs=10, callbacks=[callback])["loss"]) == 3
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_schedules_run_through_the_updates() -> None:
    model, X, y = small()
    optimizer = optim.SGD(model.parameters(), lr=optim.linear_decay(0.1, steps=12))
    fit(model, X, y, optimizer, epochs=4)  # of 3 batches
    assert optimizer.steps == 12
    assert optimizer.rate == 0.0


@pytest.mark.parametrize("real", [True, False], ids=["Ctrl-C", "error"])
def test_a_broken_off_epoch_leaves_no_trace(real: bool, tmp_path: Path) -> None:
    """The model, the optimiser, the seed and the history are those of the last whole epoch."""
    (model, X, y), (other, _, _) = small(), small()
    optimizer, rng, calls = optim.Adam(model.parameters(), lr=0.05), random.Random(5), []

    def loss(prediction: Any, target: Any) -> Any:
        calls.append(target)
        if len(calls) == 2 * 12 + 8:  # in the second batch of the third epoch
            if real:
                signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError("here")
        return losses.binary_cross_entropy(prediction, target)

    path = tmp_path / "checkpoint.json"
    options = {"loss": loss, "rng": rng, "checkpoint": path, "checkpoint_every": 10}
    if real:
        history = fit(model, X, y, optimizer, **options)
        assert history.interrupted
        assert len(history["loss"]) == 2
        assert json.loads(path.read_text())["epoch"] == 2
    else:
        with pytest.raises(ZeroDivisionError):
            fit(model, X, y, optimizer, **options)

    expected_optimizer, expected_rng = optim.Adam(other.parameters(), lr=0.05), random.Random(5)
    expected = fit(other, X, y, expected_optimizer, epochs=2, rng=expected_rng)
    assert model.state_dict() == other.state_dict()
    assert optimizer.state_dict() == expected_optimizer.state_dict()
    assert rng.getstate() == expected_rng.getstate()
    assert not expected.interrupted
    if real:
        assert history == expected
        rest = fit(model, X, y, optimizer, **options)  # goes on from the checkpoint, though this generator has moved on
        assert rest == fit(small()[0], X, y, rng=random.Random(5))


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    model, X, y = small()
    before = model.state_dict()
    with pytest.raises(FloatingPointError, match="became inf: try a lower learning rate"):
        fit(model, X, y, loss=lambda p, t: p * math.inf * p)
    assert model.state_dict() == before


# --- checkpoints --------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, random, signal, sys
from micrograd_bp import datasets, losses, nn, optim, training

folder, killer = sys.argv[1], int(sys.argv[2])
rng = random.Random(7)
rng.gauss(0, 1)  # leaves a spare number in the generator
data = datasets.moons(24, 0.2, rng)
model = nn.MLP(2, [4, 1], activation="tanh", rng=rng)
optimizer = {optimizer}
calls = 0

def loss(prediction, target):
    global calls
    calls += 1
    if calls == killer:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses.binary_cross_entropy(prediction, target)

history = training.fit(
    model, loss, data.X, data.y, optimizer, epochs=9, batch_size=7, rng=rng, validation=0.25, patience=3,
    metrics={{"accuracy": training.accuracy}}, checkpoint=folder + "/checkpoint.json", checkpoint_every={every},
)
result = [history, model.state_dict(), optimizer.state_dict(), rng.random(), rng.gauss(0, 1)]
with open(os.path.join(folder, "result.json"), "w") as file:
    json.dump(result, file)
"""


@pytest.mark.parametrize(
    ("optimizer", "every"),
    [
        ("optim.SGD(model.parameters(), lr=optim.cosine_decay(0.3, steps=30), momentum=0.9)", 1),
        ("optim.AdamW(model.parameters(), lr=0.1)", 2),
    ],
)
def test_a_run_that_was_killed_ends_as_one_that_was_not(optimizer: str, every: int, tmp_path: Path) -> None:
    """Killed in its third epoch and again later, three processes end with the very bits that one ends with."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM).format(optimizer=optimizer, every=every))

    def run(name: str, killer: Any) -> Any:
        (tmp_path / name).mkdir(exist_ok=True)
        root = os.path.dirname(os.path.dirname(os.path.dirname(training.__file__)))
        return subprocess.run(
            [sys.executable, str(program), str(tmp_path / name), str(killer)],
            env=os.environ | {"PYTHONPATH": root},
            timeout=60,
        ).returncode

    killed = -signal.SIGKILL
    assert run("whole", 0) == 0
    assert run("killed", 60) == killed
    assert not (tmp_path / "killed" / "result.json").exists()
    assert run("killed", 30) == killed
    assert run("killed", 0) == 0
    assert run("killed", 1) == 0  # nothing is left to do: the loss is not called
    whole, broken = ((tmp_path / name / "result.json").read_text() for name in ("whole", "killed"))
    assert broken == whole
    assert 3 < len(json.loads(whole)[0]["loss"]) < 9  # it stopped early, for want of patience
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["checkpoint.json", "result.json"]


def checkpointed(path: Path, **options: Any) -> tuple[Any, ...]:
    model, X, y = small()
    given: dict[str, Any] = {"checkpoint": path, "patience": 2, "epochs": 2}
    return fit(model, X, y, **given | options), model.state_dict()


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    whole = checkpointed(tmp_path / "whole.json", epochs=6)
    checkpointed(tmp_path / "parts.json", epochs=2)
    assert checkpointed(tmp_path / "parts.json", epochs=6) == whole
    assert (tmp_path / "parts.json").read_text() == (tmp_path / "whole.json").read_text()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    checkpointed(path)
    before = path.read_bytes()
    model, X, y = small()
    for options, message in (
        ({"batch_size": 6}, "batch_size 5, not 6"),
        ({"shuffle": False}, "shuffle True, not False"),
        ({"loss": losses.hinge}, "loss 'binary_cross_entropy', not 'hinge'"),
        ({"validation": 0.25}, r"validation 0\.0, not 0\.25"),
        ({"validation": (X, y)}, "data other, not these"),
        ({"optimizer": optim.SGD(model.parameters())}, "the state of SGD"),
        ({"optimizer": optim.Adam(model.parameters()[:3])}, "a list of 13, not of 3"),
    ):
        state = model.state_dict()
        with pytest.raises(ValueError, match=message) as error:
            fit(model, X, y, checkpoint=path, **options)
        assert str(error.value).startswith(str(path))
        assert model.state_dict() == state
    with pytest.raises(ValueError, match="data other"):
        fit(model, X[::-1], y, checkpoint=path)
    assert path.read_bytes() == before


def test_metrics_come_and_go_between_resumptions(tmp_path: Path) -> None:
    """A history has a number an epoch under each name, nan where it was not measured; the training is the same."""
    path, other = tmp_path / "parts.json", {"one": lambda predictions, targets: 1.0}
    whole, state = checkpointed(tmp_path / "whole.json", epochs=6, patience=None)
    for epochs, metrics in ((1, None), (2, ACCURACY), (3, ACCURACY), (4, ACCURACY | other), (5, None), (6, other)):
        history, found = checkpointed(path, epochs=epochs, patience=None, metrics=metrics)
        assert [len(numbers) for numbers in history.values()] == [epochs] * len(history)
    measured = {name: [not math.isnan(x) for x in numbers] for name, numbers in history.items()}
    assert measured["accuracy"] == [False, True, True, True, False, False]
    assert measured["one"] == [False, False, False, True, False, True]
    assert (history["loss"], found) == (whole["loss"], state)


@pytest.mark.parametrize("activation", ["tanh", lambda x: x if x > 0 else 0.1 * x, lambda x: x * x + 0.5 * x])
def test_a_compiled_run_that_is_resumed_has_the_bits_of_the_whole(
    activation: Callable[..., Any] | str, tmp_path: Path
) -> None:
    """Also where the ways through the model's branches are met in another order than in the whole run."""
    pytest.importorskip("llvmlite")

    def run(path: Path, epochs: Any) -> tuple[Any, ...]:
        rng = random.Random(0)
        data = datasets.moons(60, 0.2, rng)
        model = nn.MLP(2, [4, 1], activation=activation, rng=rng)
        return fit(model, data.X, data.y, epochs=epochs, checkpoint=path, jit=True), model.state_dict()

    whole = run(tmp_path / "whole.json", 5)
    assert [run(tmp_path / "parts.json", epochs) for epochs in (1, 3, 5)][-1] == whole


class Wrapped(nn.Module):
    def __init__(self, activation: str) -> None:
        self.inner = [nn.MLP(2, [3, 1], activation=activation, rng=random.Random(0))]

    def __call__(self, x: list[float]) -> Any:
        return self.inner[0](x)


def square(x: Any) -> Any:
    return x * x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "relu"}, "model activation 'tanh', not 'relu'"),
        ({"activation": lambda x: x * x}, "model activation 'tanh', not 'function of values 4, 0.25"),
        ({"output_activation": "sigmoid"}, "model output_activation None, not 'sigmoid'"),
        ({"lr": 0.01}, "optimizer lr 0.05, not 0.01"),
        ({"lr": optim.step_decay(0.05, 3)}, "optimizer lr 0.05, not 'function of values 0.05, 0.05, 5e-05"),
        ({"betas": (0.5, 0.999)}, "optimizer beta1 0.9, not 0.5"),
        ({"weight_decay": 0.1}, "optimizer weight_decay 0.0, not 0.1"),
    ],
)
def test_another_model_or_learning_rate_is_another_run(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"

    def run(lr: Any = 0.05, betas: tuple[Any, ...] = (0.9, 0.999), weight_decay: Any = 0.0, **options: Any) -> Any:
        _, X, y = small()
        model = nn.MLP(2, [3, 1], rng=random.Random(0), **{"activation": "tanh"} | options)
        before = model.state_dict()
        optimizer = optim.Adam(model.parameters(), lr=lr, betas=betas, weight_decay=weight_decay)
        settings = optimizer.state_dict()
        try:
            return fit(model, X, y, optimizer, epochs=2, checkpoint=path)
        except ValueError:
            assert (model.state_dict(), optimizer.state_dict()) == (before, settings)
            raise

    run()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        run(**changes)
    assert str(error.value).startswith(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("one", "other"), [("tanh", "relu"), (square, abs), (square, lambda x: x * x * x), (nn.Neuron(1), math.sin)]
)
def test_the_activation_of_a_model_of_ones_own_counts_too(
    one: Any, other: Callable[..., Any] | str, tmp_path: Path
) -> None:
    _, X, y = small()
    path = tmp_path / "checkpoint.json"
    for activation, alike in ((one, True), (one, True), (other, False)):
        model = Wrapped("tanh")
        model.inner[0].activation = activation
        if alike:
            fit(model, X, y, epochs=1, checkpoint=path)
        else:
            with pytest.raises(ValueError, match=r"of a run with model inner\[0\] activation"):
                fit(model, X, y, epochs=1, checkpoint=path)


def test_a_function_is_known_by_its_values_and_not_by_its_name(tmp_path: Path) -> None:
    _, X, y = small()
    path = tmp_path / "checkpoint.json"
    for activation in (square, lambda x: x * x, lambda x: x.square(), lambda x: (x + 0.0) ** 2):
        model = nn.MLP(2, [3, 1], activation=activation, rng=random.Random(0))
        fit(model, X, y, epochs=1, checkpoint=path)


def test_a_rate_that_a_callback_changes_is_that_of_the_same_run(tmp_path: Path) -> None:
    def run(path: Path, epochs: Any, model: Any = None, optimizer: optim.Optimizer | None = None) -> tuple[Any, ...]:
        _, X, y = small()
        model = model or small()[0]
        optimizer = optimizer or optim.SGD(model.parameters(), lr=0.1)
        chosen: Any = optimizer
        callbacks = [lambda *_: setattr(chosen, "lr", 0.5 * chosen.lr)]
        fit(model, X, y, optimizer, epochs=epochs, checkpoint=path, callbacks=callbacks)
        return model, optimizer

    whole, _ = run(tmp_path / "whole.json", 4)
    parts = run(tmp_path / "parts.json", 1)
    run(tmp_path / "parts.json", 2, *parts)  # with the optimizer as it was left
    parts = run(tmp_path / "parts.json", 4)  # with a new one
    assert parts[1].lr == 0.1 / 16
    assert parts[0].state_dict() == whole.state_dict()


def test_a_checkpoint_of_the_first_version_that_says_less_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    whole = checkpointed(tmp_path / "whole.json", epochs=4)
    checkpointed(path)
    state = json.loads(path.read_text())
    del state["run"]["model"], state["run"]["optimizer"]
    path.write_text(json.dumps(state))
    assert checkpointed(path, epochs=4) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("rng"), 'lacks "rng"'),
        (lambda s: s.update(epoch=-1), "epoch: expected a whole number, 0 or more, got -1"),
        (lambda s: s.update(epoch=1.0), "epoch: expected a whole number, 0 or more, got 1.0"),
        (lambda s: s.update(epoch=3), "history: loss: a list of 2, not of 3"),
        (lambda s: s.update(stopped=0), "stopped"),
        (lambda s: s.update(parameters=[1.0]), "parameters: a list of 1, not of 13"),
        (lambda s: s.update(history=[1.0, 2.0]), "history: no object"),
        (lambda s: s["history"].update(loss=[1.0, "x"]), r'history: loss\[1\]: "x" is no float'),
        (lambda s: s.update(best=1), "best: 1 is no object"),
        (lambda s: s["best"].update(parameters=[]), "best: parameters: a list of 0, not of 13"),
        (lambda s: s["rng"].update(now=[3, [1, 2], None]), "state"),
        (lambda s: s["rng"].update(now=[3, [-1] * 625, None]), "checkpoint"),
        (lambda s: s["rng"].update(now=None), "checkpoint"),
        (lambda s: s["optimizer"].update(steps="1"), "steps"),
        (lambda s: s["optimizer"].update(memory={}), "memory lacks"),
        (lambda s: s.update(optimizer=None), "no object"),
        (lambda s: s.update(run=None), "run: null is no object"),
    ],
)
def test_a_damaged_checkpoint_changes_nothing(change: Callable[..., Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    checkpointed(path)
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    model, X, y = small()
    before, rng = model.state_dict(), random.Random(0)
    with pytest.raises(ValueError, match=message) as error:
        fit(model, X, y, checkpoint=path, rng=rng)
    assert str(error.value).startswith(str(path))
    assert model.state_dict() == before
    assert rng.getstate() == random.Random(0).getstate()


# --- the rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs is a whole number, 0 or more, not -1"),
        ({"batch_size": 0}, ValueError, "batch_size is a whole number, 1 or more, not 0"),
        ({"checkpoint_every": 0.5}, ValueError, "checkpoint_every"),
        ({"validation": 1.5}, ValueError, "a share of 1.5 of 12 rows cannot be held out"),
        ({"validation": 0.01}, ValueError, "cannot be held out"),
        ({"validation": "some"}, TypeError, "validation is a share of the rows, 0.2 say, or a pair .*, not 'some'"),
        ({"loss": lambda prediction, target: 0.5}, TypeError, "0.5, which has no gradient; is the model frozen"),
    ],
)
def test_errors_say_what_is_wrong(options: dict[str, Any], error: type[Exception], message: str) -> None:
    model, X, y = small()
    with pytest.raises(error, match=message):
        fit(model, X, y, **options)


def test_rows_and_targets_go_in_pairs() -> None:
    model, X, y = small()
    with pytest.raises(ValueError, match="X has 12 rows, but y has 11"):
        fit(model, X, y[1:])
    with pytest.raises(ValueError, match="no rows"):
        fit(model, [], [])
    with pytest.raises(ValueError, match="no parameters"):
        optim.Adam(model.freeze().parameters())


class Mended(nn.Module):
    """A model that puts 0.5 in the place of what was not measured, and says so with a further input."""

    def __init__(self) -> None:
        self.net = nn.MLP(4, [3, 1], activation="tanh", rng=random.Random(0))

    def __call__(self, x: list[float]) -> Any:
        missing = [xi != xi for xi in x]
        return self.net(
            [0.5 if gone else xi for xi, gone in zip(x, missing)] + [1.0 if gone else 0.0 for gone in missing]
        )


@pytest.mark.parametrize("jit", [False, True])
def test_rows_with_nan_train_a_model_that_tells_them(jit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "EAGER", dict.fromkeys(compiled.EAGER, 1.0))
    if jit:
        pytest.importorskip("llvmlite")
    _, X, y = small(n=20)
    rng = random.Random(3)
    X = [[math.nan if rng.random() < 0.3 else xi for xi in x] for x in X]
    mended = [[0.5 if xi != xi else xi for xi in x] + [float(xi != xi) for xi in x] for x in X]
    assert 3 < sum(xi != xi for x in X for xi in x) < 30
    model, other = Mended(), Mended()
    history = fit(model, X, y, jit=jit, metrics=ACCURACY, validation=(X, y))
    expected = fit(other.net, mended, y, jit=False, metrics=ACCURACY, validation=(mended, y))
    assert history.keys() == expected.keys()
    for name, numbers in expected.items():
        assert history[name] == (pytest.approx(numbers, rel=1e-9) if jit else numbers)
    assert list(model.state_dict().values()) == pytest.approx(list(other.state_dict().values()), rel=1e-9)


def test_an_optimizer_of_another_model_is_said() -> None:
    (model, X, y), (other, _, _) = small(), small()
    mixed = [*other.parameters()[:3], *model.parameters()[3:]]
    for parameters, counts in ((other.parameters(), "13 of the optimizer's 13"), (mixed, "3 of the optimizer's 13")):
        with pytest.warns(UserWarning, match=f"{counts} parameters are not the model's") as caught:
            fit(model, X, y, optim.SGD(parameters), epochs=1)
        assert caught[0].filename == __file__
    extra = Value(0.0)
    fit(model, X, y, optim.SGD(model.parameters()[:3]), epochs=1)  # the other parameters are left alone on purpose
    fit(model, X, y, optim.SGD([*model.parameters(), extra]), epochs=1)  # and a loss may have some of its own


def test_arrays_are_rows_too() -> None:
    numpy = pytest.importorskip("numpy")
    (model, X, y), (other, _, _) = small(), small()
    assert fit(model, X, y) == fit(other, numpy.array(X), numpy.array(y))
    assert model.state_dict() == other.state_dict()


def test_no_epochs_change_nothing() -> None:
    model, X, y = small()
    before = model.state_dict()
    assert fit(model, X, y, epochs=0, patience=3) == {}
    assert model.state_dict() == before


def test_accuracy_counts_right_classes() -> None:
    assert training.accuracy([[0.0, 1.0], [3.0, 1.0]], [1, 0]) == 1.0
    assert training.accuracy([[0.0, 1.0], [3.0, 1.0]], [[0, 1], [0.2, 0.8]]) == 0.5
    assert training.accuracy([0.5, -0.5, 0.5, -0.5], [1, 0, 0, 1]) == 0.5
    assert training.accuracy([0.5, -0.5], [1, -1]) == 1.0


def test_a_bar_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    model, X, y = small()
    fit(model, X, y, epochs=3)
    assert capsys.readouterr().err == ""  # no terminal
    fit(model, X, y, epochs=3, progress=True)
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown
    assert "9/9" in shown
    assert "loss" in shown


def test_a_bar_without_tqdm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    model, X, y = small()
    fit(model, X, y, epochs=1)
    with pytest.raises(ImportError, match="pip install tqdm"):
        fit(model, X, y, progress=True)


@pytest.mark.parametrize("count", [1, 2, 59, 60, 61, 1000])
def test_a_curve_has_its_width_and_height(count: int) -> None:
    lines = training.curve([1.0 / (k + 1) for k in range(count)]).splitlines()
    assert len(lines) == 12
    assert lines[-1].split() == (["1"] if count == 1 else ["1", str(count)])
    columns = min(count, 60)
    assert sum(line.count("*") for line in lines) == columns
    assert all(len(line) <= 70 for line in lines)


def test_a_curve_passes_over_what_is_not_finite() -> None:
    assert training.curve([1.0, math.nan, 0.0, math.inf], height=2).splitlines()[:2] == [" 1 |*", " 0 |  *"]
    with pytest.raises(ValueError, match="finite"):
        training.curve([math.nan])


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3])
def test_iris_is_learnt(seed: int) -> None:
    rng = random.Random(seed)
    train, test = datasets.iris().split(0.3, rng)
    network = nn.MLP(4, [8, 3], activation="tanh", init="xavier_uniform", rng=rng)
    model = nn.Sequential(nn.Standardize(*datasets.statistics(train.X)), network)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    fit(model, train.X, train.y, optimizer, loss=losses.cross_entropy, epochs=20, batch_size=16, rng=rng)
    found = training.evaluate(model.freeze(), losses.cross_entropy, test.X, test.y, ACCURACY)
    assert found["accuracy"] >= 0.93


def test_xor_is_learnt_from_nearly_every_start() -> None:
    """All four rows right, for at least 95 of 100 seeds of a 2-4-1 tanh network."""
    data, solved = datasets.xor(), 0
    for seed in range(100):
        rng = random.Random(seed)
        model = nn.MLP(2, [4, 1], activation="tanh", init="xavier_uniform", rng=rng)
        optimizer = optim.Adam(model.parameters(), lr=0.2)
        options = {"epochs": 150, "batch_size": None, "shuffle": False, "metrics": ACCURACY}
        fit(model, data.X, data.y, optimizer, **options, callbacks=[lambda _, history: history["loss"][-1] < 0.1])
        solved += (
            training.evaluate(model.freeze(), losses.binary_cross_entropy, data.X, data.y, ACCURACY)["accuracy"] == 1
        )
    assert solved >= 95


def test_moons_are_told_apart() -> None:
    rng = random.Random(0)
    data = datasets.moons(100, 0.1, rng)
    model = nn.MLP(2, [16, 16, 1], init="he_uniform", rng=rng)
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    history = fit(
        model,
        data.X,
        data.y,
        optimizer,
        epochs=100,
        batch_size=20,
        rng=rng,
        callbacks=[lambda _, h: h["loss"][-1] < 0.05],
    )
    assert len(history["loss"]) < 50
    found = training.evaluate(model.freeze(), losses.binary_cross_entropy, data.X, data.y, ACCURACY)
    assert found["accuracy"] >= 0.99

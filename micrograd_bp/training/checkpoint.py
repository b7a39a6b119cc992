"""The state of a training run: its history, the best parameters, and the file from which it continues."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from micrograd_bp import nn
from micrograd_bp._engine import files
from micrograd_bp._engine.parameters import exact, search
from micrograd_bp.optim import Optimizer
from micrograd_bp.training.metrics import plain
from micrograd_bp.value import Value

FORMAT, VERSION = "micrograd_bp checkpoint", 1

SOME_NUMBERS, SOME_STEPS = (-2.0, -0.5, 0.25, 1.0, 3.0), (0, 1, 10, 100, 1000)  # where functions are compared


class History(dict[str, list[float]]):
    """A number per epoch under each name: "loss", the metrics, and with a validation split "val_loss" and so on.

    A metric that was added or dropped when a run was resumed has nan for the epochs in which it was not measured.
    `interrupted` says that KeyboardInterrupt (Ctrl-C) ended the training.

    Example:
        >>> history = History(loss=[1.0, 0.5])
        >>> history["loss"][-1], history.interrupted
        (0.5, False)
    """

    interrupted: bool = False


class Run:
    """The progress of a run of `fit`; `state` is all that is needed to resume it."""

    def __init__(self, optimizer: Optimizer, rng: random.Random) -> None:
        self.optimizer, self.rng = optimizer, rng
        self.first = rng.getstate()
        self.epoch, self.stopped = 0, False
        self.history = History()
        self.best: dict[str, Any] | None = None

    def record(self, measured: dict[str, float]) -> None:
        for name in (*measured, *self.history):
            numbers = self.history.setdefault(name, [math.nan] * self.epoch)
            if len(numbers) == self.epoch:
                numbers.append(measured.get(name, math.nan))
        self.epoch += 1

    def watch(self, loss: float, patience: int, min_delta: float) -> None:
        """Keep the parameters of the best epoch so far; stop if it is `patience` epochs ago."""
        if self.best is None or loss < self.best["loss"] - min_delta:
            self.best = {"epoch": self.epoch, "loss": loss, "parameters": self.parameters()}
        self.stopped = self.epoch - self.best["epoch"] >= patience

    def parameters(self) -> list[float]:
        return [parameter.data for parameter in self.optimizer.parameters]

    def put(self, numbers: list[float]) -> None:
        for parameter, data in zip(self.optimizer.parameters, numbers, strict=True):
            parameter.data = data

    def put_best(self) -> None:
        if self.best is not None:
            self.put(self.best["parameters"])

    def state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "stopped": self.stopped,
            "parameters": self.parameters(),
            "optimizer": self.optimizer.state_dict(),
            "rng": {"first": self.first, "now": self.rng.getstate()},
            "history": {name: list(numbers) for name, numbers in self.history.items()},
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.stopped, self.best = state["epoch"], state["stopped"], state["best"]
        self.put(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.setstate(rng_state(state["rng"]["now"]))
        self.history.clear()
        self.history.update({name: list(numbers) for name, numbers in state["history"].items()})


NEWER = {"model", "optimizer"}  # keys that checkpoints of the first versions lack
_KEYS = ("epoch", "stopped", "parameters", "optimizer", "rng", "history", "best")


def write(path: files.StrPath, identity: dict[str, Any], state: dict[str, Any]) -> None:
    files.write_json(path, {"format": FORMAT, "version": VERSION, "run": identity, **state})


def read(path: files.StrPath, identity: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Read the state from a checkpoint; ValueError: the file is damaged, or belongs to another run."""
    state = files.read_json(path, FORMAT, VERSION, ("run", *_KEYS))
    run = state["run"]
    newer = NEWER.difference(run) if isinstance(run, dict) else set()
    files.check_keys(run, identity.keys() - newer, f"{path}: run")
    for name in run:
        if name != "optimizer":
            _same(path, name, run[name], identity[name])
    count, epoch = len(optimizer.parameters), files.natural(state["epoch"], f"{path}: epoch")
    if not isinstance(state["stopped"], bool):
        raise ValueError(f"{path}: stopped: neither true nor false")
    state["parameters"] = files.several(state["parameters"], f"{path}: parameters", count=count)
    if not isinstance(state["history"], dict):
        raise ValueError(f"{path}: history: no object")
    state["history"] = {
        name: files.several(numbers, f"{path}: history: {name}", count=epoch)
        for name, numbers in state["history"].items()
    }
    if (best := state["best"]) is not None:
        place = f"{path}: best"
        files.check_keys(best, ("epoch", "loss", "parameters"), place)
        state["best"] = {
            "epoch": files.natural(best["epoch"], f"{place}: epoch"),
            "loss": files.real(best["loss"], f"{place}: loss"),
            "parameters": files.several(best["parameters"], f"{place}: parameters", count=count),
        }
    files.check_keys(state["rng"], ("first", "now"), f"{path}: rng")
    begun, reached = run.get("optimizer"), state["optimizer"]
    if isinstance(begun, dict) and isinstance(reached, dict) and begun.get("type") == type(optimizer).__name__:
        for name, own in identity["optimizer"].items():
            if own != reached.get(name):  # where a callback has changed it, it may be as it was left
                _same(path, f"optimizer {name}", begun.get(name), own)
    try:
        for numbers in state["rng"].values():
            random.Random().setstate(rng_state(numbers))
        optimizer.load_state_dict(state["optimizer"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    return state


def _same(path: files.StrPath, name: str, other: Any, own: Any) -> None:
    """Raise ValueError if a property of the checkpoint's run differs from this run's; the message says where."""
    if other == own:
        return
    if isinstance(other, dict) and isinstance(own, dict) and other.keys() == own.keys():
        for key in own:
            _same(path, f"{name} {key}", other[key], own[key])
    if isinstance(other, list) and isinstance(own, list) and len(other) == len(own):
        for i, pair in enumerate(zip(other, own)):
            _same(path, f"{name}[{i}]", *pair)
    other, own = ("other", "these") if name == "data" else (repr(other), repr(own))
    raise ValueError(f"{path}: of a run with {name} {other}, not {own}; remove it, or give another path")


def settings(optimizer: Optimizer) -> dict[str, Any]:
    """The type and hyperparameters of an optimizer, as JSON; a schedule is described by some of its rates."""
    settings = {name: x for name, x in optimizer.state_dict().items() if name not in ("steps", "memory")}
    return settings | {"lr": _function(optimizer.lr, SOME_STEPS) if callable(optimizer.lr) else optimizer.lr}


def described(x: Any) -> Any:
    """A model, or an argument of its constructor, in JSON: equal for models that differ in their parameters only."""
    if isinstance(x, nn.Module) and nn.MODULES.get(type(x).__name__) is type(x):
        return {"type": type(x).__name__, **{name: described(part) for name, part in x._settings().items()}}
    if isinstance(x, nn.Module):
        found: dict[str, Any] = {"type": type(x).__name__}
        within = "\n"  # the last of this library's modules: its own parts follow it
        for place, key, part in search(x, (nn.Module,)).parts:
            path = exact(place, key)
            if nn.MODULES.get(type(part).__name__) is type(part) and not path.startswith((f"{within}.", f"{within}[")):
                found[within := path] = described(part)
        return found
    if isinstance(x, list | tuple):
        return [described(part) for part in x]
    return _function(x, [Value(number) for number in SOME_NUMBERS]) if callable(x) else x


def _function(f: Callable[[Any], Any], points: Sequence[Any]) -> str:
    """A function described by some of its values, or by its name if it takes no number, or is not deterministic."""
    try:
        values, again = ([f"{plain(f(x)):.12g}" for x in points] for _ in range(2))
    except Exception:  # whatever a function may raise that is meant for Values or for lists
        values, again = [], None
    name = getattr(f, "__name__", type(f).__name__)
    return f"function of values {', '.join(values)}" if values == again else f"function {name}"


def rng_state(numbers: Any) -> tuple[Any, ...]:
    """A state of `random.Random`, whose tuples JSON has made lists."""
    version, words, spare = numbers
    return version, tuple(words), spare

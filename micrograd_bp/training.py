"""Training: mini-batches, history, early stopping, checkpoints.

>>> import random
>>> from micrograd_bp import datasets, losses, nn, optim
>>> rng = random.Random(1)
>>> data, model = datasets.xor(), nn.MLP(2, [4, 1], activation="tanh", rng=rng)
>>> optimizer = optim.Adam(model.parameters(), lr=0.1)
>>> history = fit(model, losses.binary_cross_entropy, data.X, data.y, optimizer, epochs=100, batch_size=4, rng=rng)
>>> [round(model(x).sigmoid().data) for x in data.X]
[0, 1, 1, 0]
>>> history["loss"][-1] < 0.1 * history["loss"][0]
True
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp import _files, _trees, losses, nn, parallel
from micrograd_bp._engine import progress as _progress
from micrograd_bp._engine import tables
from micrograd_bp._engine.randomness import checked_rng
from micrograd_bp._parameters import exact, search
from micrograd_bp.compiler.sweeps import Sweep, compiled_sweep
from micrograd_bp.optim import Optimizer
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from concurrent.futures import Executor

Metric: TypeAlias = Callable[[list[Any], list[Any]], float]

FORMAT, VERSION = "micrograd_bp checkpoint", 1

NO_NUMBERS = {str, type(None)}
SOME_NUMBERS, SOME_STEPS = (-2.0, -0.5, 0.25, 1.0, 3.0), (0, 1, 10, 100, 1000)  # where functions are compared


class History(dict[str, list[float]]):
    """A number per epoch under each name: "loss", the metrics, and with a validation split "val_loss" and so on.

    A metric that was added or dropped when a run was resumed has nan for the epochs in which it was not measured.
    `interrupted` says that KeyboardInterrupt (Ctrl-C) ended the training.
    """

    interrupted: bool = False


def fit(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    X: Any,
    y: Any,
    optimizer: Optimizer,
    *,
    epochs: int = 50,
    batch_size: int | None = 16,
    rng: random.Random | None = None,
    shuffle: bool = True,
    metrics: Mapping[str, Metric] | None = None,
    validation: float | tuple[Sequence[Any], Sequence[Any]] | None = None,
    penalty: Callable[[], Value] | None = None,
    clip: Callable[[list[Value]], object] | None = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    callbacks: Sequence[Callable[[int, History], object]] = (),
    checkpoint: _files.Path | None = None,
    checkpoint_every: int = 1,
    progress: bool | None = None,
    jit: bool = False,
    executor: Executor | None = None,
    shards: int | None = None,
) -> History:
    """Train the model: for every batch, one step of the optimizer down the gradient of the mean loss of its rows.

    `loss(model(x), t)` is the loss of one row x of `X` with its target t of `y`. The parameters trained are the
    optimizer's; a UserWarning says so where these are not the model's, as of an optimizer made for another model.
    `X` and `y` are lists or arrays, or `X` a pandas or polars frame and `y` one of its columns, or that column's name.

    - `epochs`: passes over the rows; `batch_size`: rows in a batch (None: all); `rng`: source of the order of rows, new
      in every epoch where `shuffle` is set (by default seeded with 0).
    - `metrics`: functions (predictions, targets) -> number by name, such as `accuracy`; of the predictions made while
      training.
    - `validation`: (X, y) to measure loss and metrics on after every epoch, or the share of the rows to hold out for
      that.
    - `penalty`: a function () -> Value, added to the loss of every batch but not to the history, such as
      `lambda: losses.l2_penalty(weights, 0.01)`. `clip`: a function called with the parameters before every step, such
      as `functools.partial(optim.clip_grad_norm, max_norm=1.0)`.
    - `patience`: stop after so many epochs in which the loss (on the validation rows, where there are any) did not fall
      by more than `min_delta` below its least; the parameters of the best epoch are put back.
    - `callbacks`: functions (epochs made, history), called after every epoch; True ends the training.
    - `checkpoint`: a file written after every `checkpoint_every` epochs. Where it exists, training continues from
      it, and ends with the same result to the last bit as if it had not been broken off (with `jit` to rounding where
      the model takes more than 64 ways). It is the same run with other metrics, epochs, patience and callbacks; with
      another model, activation, learning rate or setting of the optimizer it is not, and refused.
    - `jit`: record model and loss at the first rows, compile them, and replay that over every batch (the extra `jit`);
      the history is the same to rounding. What the model draws at random or keeps between calls is recorded once.
    - `progress`: a bar on stderr: True, False, or (None) on a terminal once the work has taken a second.
    - `executor`: who computes the gradients: a `ProcessPoolExecutor`, Dask's `Client.get_executor()`, mpi4py's
      `MPIPoolExecutor`, or another; every batch is cut into so many `shards` (8), on whose number alone the bits of
      the result depend. Workers compute on copies of the model and the loss: only losses, predictions and gradients of
      the optimizer's parameters come back. A worker that dies costs a retry and a RuntimeWarning.

    KeyboardInterrupt ends the training: the model is left as after the last whole epoch, and the history so far
    returned. Any other error leaves it so too; one of the model's or the loss's has a note that names the row, counted
    in its batch. ValueError: X and y differ in length, there are no rows, or the checkpoint is damaged or of another
    run, or rows have another length than the model takes. FloatingPointError: the loss of a batch is not finite; it
    names the number of X or y that is not, where there is one. TypeError: model or loss cannot be sent to a worker,
    targets are text, or another argument is not what it should be.

    >>> from micrograd_bp import losses, nn, optim
    >>> line = nn.Neuron(1, nonlin=False, rng=random.Random(0))
    >>> X, y = [[-1.0], [0.0], [2.0]], [-1.0, 1.0, 5.0]
    >>> history = fit(line, losses.mse, X, y, optim.SGD(line.parameters(), lr=0.1), epochs=100)
    >>> round(line.w[0].data, 6), round(line.b.data, 6)
    (2.0, 1.0)
    """
    size = len(X) if batch_size is None else batch_size
    for name, count, least in (
        ("epochs", epochs, 0),
        ("batch_size", size, 1),
        ("checkpoint_every", checkpoint_every, 1),
    ):
        if not isinstance(count, int) or count < least:
            raise ValueError(f"{name} is a whole number, {least} or more, not {count!r}")
    if shards is not None and executor is None:
        raise ValueError("shards are for an executor; pass one, such as concurrent.futures.ProcessPoolExecutor()")
    if jit and executor is not None:
        raise ValueError("jit and executor do not go together; a compiled program uses several cores by itself")
    _check_arguments(model, loss, optimizer, metrics)
    _check_parameters(model, optimizer)
    shards = parallel.SHARDS if shards is None else shards
    rows, targets = _pairs(X, y, model, loss)
    if not isinstance(validation, float | tuple | None) or (isinstance(validation, tuple) and len(validation) != 2):
        raise TypeError(f"validation is a share of the rows, 0.2 say, or a pair (X, y), not {validation!r}")
    held = _pairs(*validation, model, loss, "validation: ") if isinstance(validation, tuple) else ([], [])
    share = validation if isinstance(validation, float) else 0.0
    rng = random.Random(0) if rng is None else checked_rng(rng)
    identity: dict[str, Any] = {
        "loss": getattr(loss, "__name__", type(loss).__name__),
        "batch_size": size,
        "shuffle": bool(shuffle),
        "validation": share,
    }
    if executor is not None:
        identity["shards"] = shards
    saved = None
    if checkpoint is not None:
        identity["data"] = hashlib.sha256(repr((rows, targets, held)).encode()).hexdigest()
        identity |= {"model": _described(model), "optimizer": _settings(optimizer)}
        if os.path.exists(checkpoint):
            saved = _read(checkpoint, identity, optimizer)
            identity["optimizer"] = saved["run"].get("optimizer", identity["optimizer"])
            rng.setstate(_rng_state(saved["rng"]["first"]))
    run = _Run(optimizer, rng)
    if share:
        rows, targets, held = _hold_out(rows, targets, share, rng)
    if saved is not None:
        run.restore(saved)

    resources = contextlib.ExitStack()
    sweep_rows: Callable[..., parallel.Found] = _here
    if executor is not None:
        sweep_rows = resources.enter_context(parallel.team(executor, shards))
    sweep: Sweep = functools.partial(_sweep, sweep_rows, model, loss, optimizer.parameters)
    if jit:
        sweep = compiled_sweep(model, loss, sweep)
    bar = _Bar(progress, run.epoch, epochs, math.ceil(len(rows) / size))
    whole = run.state()  # as it was after the last whole epoch
    try:
        while run.epoch < epochs and not run.stopped:
            order = list(range(len(rows)))
            if shuffle:
                rng.shuffle(order)
            batches = [order[start : start + size] for start in range(0, len(order), size)]
            measured = _epoch(sweep, rows, targets, batches, optimizer, penalty, clip, metrics or {}, bar)
            if held[0]:
                found = evaluate(model, loss, *held, metrics)
                measured |= {f"val_{name}": number for name, number in found.items()}
            run.record(measured)
            if patience is not None:
                run.watch(measured["val_loss" if held[0] else "loss"], patience, min_delta)
            for callback in callbacks:
                if callback(run.epoch, run.history) is True:
                    run.stopped = True
            whole = run.state()
            if checkpoint is not None and (run.epoch % checkpoint_every == 0 or run.epoch == epochs or run.stopped):
                _write(checkpoint, identity, whole)
    except BaseException as error:
        run.restore(whole)
        if not isinstance(error, KeyboardInterrupt):
            raise
        run.history.interrupted = True
        if checkpoint is not None:
            _write(checkpoint, identity, whole)
    finally:
        bar.close()
        resources.close()
    if patience is not None:
        run.put_best()
    return run.history


def _check_arguments(model: Any, loss: Any, optimizer: Any, metrics: Any) -> None:
    """TypeError: what was given for one of these cannot be it."""
    if not callable(model):
        raise TypeError(f"a model is a function of a row, such as nn.MLP(2, [8, 1]), not {model!r}")
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"a loss is a function (prediction, target), such as losses.mse, not {loss!r}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"an optimizer is made of parameters: optim.Adam(model.parameters()), not {optimizer!r}")
    if metrics is not None and not isinstance(metrics, Mapping):
        raise TypeError(f'metrics are functions by name, {{"accuracy": training.accuracy}} say, not {metrics!r}')
    for name, metric in (metrics or {}).items():
        if not callable(metric):
            raise TypeError(f"metric {name!r} is a function (predictions, targets), not {metric!r}")


def _check_parameters(model: Callable[[Any], Any], optimizer: Optimizer) -> None:
    """Warn where optimizer and model each have parameters that the other lacks: only part of a model may be trained."""
    if callable(parameters := getattr(model, "parameters", None)):
        own, trained = {id(x) for x in parameters()}, {id(x) for x in optimizer.parameters}
        strange, left = len(trained - own), len(own - trained)
        if strange and left:
            text = (
                f"{strange} of the optimizer's {len(trained)} parameters are not the model's, and {left} of the model's"
            )
            warnings.warn(f"{text} will not be trained; pass the optimizer model.parameters()", stacklevel=3)


def _epoch(
    sweep: Sweep,
    rows: list[Any],
    targets: list[Any],
    batches: list[list[int]],
    optimizer: Optimizer,
    penalty: Callable[[], Value] | None,
    clip: Callable[[list[Value]], object] | None,
    metrics: Mapping[str, Metric],
    bar: Any,
) -> dict[str, float]:
    """One step of the optimizer for every batch of rows, given by number; the mean loss, and the metrics."""
    sums, predictions, answers = [], [], []
    for batch in batches:
        optimizer.zero_grad()
        batch_targets = [targets[i] for i in batch]
        mean, outputs = sweep([rows[i] for i in batch], batch_targets)
        if not math.isfinite(mean):
            places = ((f"{name}[{i}]", part[i]) for i in batch for name, part in (("X", rows), ("y", targets)))
            odd = next(filter(None, (_not_finite(x, at) for at, x in places)), None)
            cause = (
                f"{odd}: leave such rows out, or fill them"
                if odd
                else "try a lower learning rate, or clip the gradients"
            )
            raise FloatingPointError(f"the loss of a batch became {mean}: {cause}")
        if penalty is not None:
            penalty().backward()
        if clip is not None:
            clip(optimizer.parameters)
        optimizer.step()
        sums.append(mean * len(batch))
        predictions += outputs
        answers += batch_targets
        bar.update(mean)
    return {"loss": math.fsum(sums) / len(rows), **_measure(metrics, predictions, answers)}


def _sweep(
    sweep_rows: Callable[..., parallel.Found],
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    parameters: list[Value],
    rows: list[Any],
    targets: list[Any],
) -> tuple[float, list[Any]]:
    """Add the gradient of the mean loss of the rows to the grads; the mean loss, and the predictions as numbers."""
    measure = functools.partial(_row_loss, model, loss)
    found = sweep_rows(measure, parameters, list(zip(rows, targets)), 1.0 / len(rows))
    return math.fsum([error for error, _ in found]) / len(rows), [prediction for _, prediction in found]


def _here(measure: parallel.Measure, parameters: list[Value], rows: list[Any], scale: float) -> parallel.Found:
    return parallel.sweep_rows(measure, rows, scale)


def _row_loss(model: Callable[[Any], Any], loss: Callable[[Any, Any], Any], row: tuple[Any, Any]) -> tuple[Value, Any]:
    """The loss of one row, and the prediction as plain numbers."""
    x, target = row
    prediction = model(x)
    error = loss(prediction, target)
    if not isinstance(error, Value):
        raise TypeError(f"the loss gives {error!r}, which has no gradient; is the model frozen?")
    return error, _data(prediction)


def evaluate(
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    X: Any,
    y: Any,
    metrics: Mapping[str, Metric] | None = None,
    *,
    progress: bool | None = False,
) -> dict[str, float]:
    """The mean loss over the rows, and the metrics. A frozen model is measured much faster, and gives the same.

    `X`, `y` and `progress` as for `fit`.

    >>> from micrograd_bp import losses
    >>> evaluate(lambda x: 2.0 * x, losses.mse, [1.0, 2.0], [2.0, 3.0])
    {'loss': 0.5}
    """
    rows, targets = _pairs(X, y, model, loss)
    watch = _progress.watch("evaluating", "row", progress, len(rows))
    outputs = [_data(model(x)) for x in watch(iter(rows))]
    errors = [_data(loss(output, target)) for output, target in zip(outputs, targets)]
    return {"loss": math.fsum(errors) / len(rows), **_measure(metrics or {}, outputs, targets)}


def accuracy(predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """The share of predictions that name the right class.

    A prediction is a list of logits or probabilities, its target the number of the class or such a list; or one logit
    or score, above 0 for the class whose target is above 0 (of 0 and 1, or of -1 and 1).

    >>> accuracy([[0.1, 2.0], [1.0, 0.0]], [1, 1]), accuracy([-3.0, 0.2], [0, 1])
    (0.5, 1.0)
    """
    return sum(map(_right, predictions, targets)) / len(targets)


def _right(prediction: Any, target: Any) -> bool:
    if not isinstance(prediction, list):
        return bool((prediction > 0) == (target > 0))
    return _largest(prediction) == (_largest(target) if isinstance(target, list | tuple) else target)


def _largest(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def curve(numbers: Sequence[float], width: int = 60, height: int = 10) -> str:
    """The numbers as a line in plain characters, for a terminal: a learning curve, say.

    `width` and `height` are those of the plot, in characters. ValueError: none of the numbers is finite.

    >>> print(curve([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], width=6, height=4))
     8 |*
       | *
       |  *
     0 |   ***
       +------
        1    6
    """
    count = min(width, len(numbers))
    columns = [numbers[i * len(numbers) // count : (i + 1) * len(numbers) // count] for i in range(count)]
    means = [math.fsum(column) / len(column) for column in columns]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        raise ValueError("a curve takes finite numbers")
    low, high = min(finite), max(finite)
    step = (high - low) / (height - 1) or 1.0
    levels = [round((mean - low) / step) if math.isfinite(mean) else -1 for mean in means]
    names = {height - 1: f"{high:.3g}", 0: f"{low:.3g}"}
    margin = max(map(len, names.values())) + 1
    lines = [
        f"{names.get(level, ''):>{margin}} |{''.join('*' if at == level else ' ' for at in levels)}".rstrip()
        for level in reversed(range(height))
    ]
    lines.append(f"{'':{margin}} +{'-' * count}")
    last = str(len(numbers)) if count > 1 else ""
    lines.append(f"{'':{margin}}  1{last:>{max(count, len(last) + 2) - 1}}".rstrip())
    return "\n".join(lines)


class _Run:
    """What a run of `fit` has come to; `state` is all that is needed to go on from there."""

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
        """Keep the parameters of the best epoch, and stop where it was too long ago."""
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
        self.rng.setstate(_rng_state(state["rng"]["now"]))
        self.history.clear()
        self.history.update({name: list(numbers) for name, numbers in state["history"].items()})


NEWER = {"model", "optimizer"}  # what the first checkpoints did not say of their run
_KEYS = ("epoch", "stopped", "parameters", "optimizer", "rng", "history", "best")


def _write(path: _files.Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    _files.write_json(path, {"format": FORMAT, "version": VERSION, "run": identity, **state})


def _read(path: _files.Path, identity: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """The state in a checkpoint of this run; ValueError: it is damaged, or of another run."""
    state = _files.read_json(path, FORMAT, VERSION, ("run", *_KEYS))
    run = state["run"]
    newer = NEWER.difference(run) if isinstance(run, dict) else set()
    _files.check_keys(run, identity.keys() - newer, f"{path}: run")
    for name in run:
        if name != "optimizer":
            _same(path, name, run[name], identity[name])
    count, epoch = len(optimizer.parameters), _files.natural(state["epoch"], f"{path}: epoch")
    if not isinstance(state["stopped"], bool):
        raise ValueError(f"{path}: stopped: neither true nor false")
    state["parameters"] = _files.several(state["parameters"], f"{path}: parameters", count=count)
    if not isinstance(state["history"], dict):
        raise ValueError(f"{path}: history: no object")
    state["history"] = {
        name: _files.several(numbers, f"{path}: history: {name}", count=epoch)
        for name, numbers in state["history"].items()
    }
    if (best := state["best"]) is not None:
        place = f"{path}: best"
        _files.check_keys(best, ("epoch", "loss", "parameters"), place)
        state["best"] = {
            "epoch": _files.natural(best["epoch"], f"{place}: epoch"),
            "loss": _files.real(best["loss"], f"{place}: loss"),
            "parameters": _files.several(best["parameters"], f"{place}: parameters", count=count),
        }
    _files.check_keys(state["rng"], ("first", "now"), f"{path}: rng")
    begun, reached = run.get("optimizer"), state["optimizer"]
    if isinstance(begun, dict) and isinstance(reached, dict) and begun.get("type") == type(optimizer).__name__:
        for name, own in identity["optimizer"].items():
            if own != reached.get(name):  # where a callback has changed it, it may be as it was left
                _same(path, f"optimizer {name}", begun.get(name), own)
    try:
        for numbers in state["rng"].values():
            random.Random().setstate(_rng_state(numbers))
        optimizer.load_state_dict(state["optimizer"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    return state


def _same(path: _files.Path, name: str, other: Any, own: Any) -> None:
    """ValueError: what a checkpoint says of its run is not so of this one; with the place where they differ."""
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


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    """Type and hyperparameters of an optimizer, as JSON has them; of a schedule some rates."""
    settings = {name: x for name, x in optimizer.state_dict().items() if name not in ("steps", "memory")}
    return settings | {"lr": _function(optimizer.lr, SOME_STEPS) if callable(optimizer.lr) else optimizer.lr}


def _described(x: Any) -> Any:
    """A model, or an argument of its constructor, as JSON has it: what tells models apart, parameters aside."""
    if isinstance(x, nn.Module) and nn.MODULES.get(type(x).__name__) is type(x):
        return {"type": type(x).__name__, **{name: _described(getattr(x, name)) for name in x._arguments}}
    if isinstance(x, nn.Module):
        found: dict[str, Any] = {"type": type(x).__name__}
        within = "\n"  # the last of this library's modules: its own parts follow it
        for place, key, part in search(x, (nn.Module,)).parts:
            path = exact(place, key)
            if nn.MODULES.get(type(part).__name__) is type(part) and not path.startswith((f"{within}.", f"{within}[")):
                found[within := path] = _described(part)
        return found
    if isinstance(x, list | tuple):
        return [_described(part) for part in x]
    return _function(x, [Value(number) for number in SOME_NUMBERS]) if callable(x) else x


def _function(f: Callable[[Any], Any], points: Sequence[Any]) -> str:
    """A function by some of its values; by name where it is no function of a number, or gives another each time."""
    try:
        values, again = ([f"{_data(f(x)):.12g}" for x in points] for _ in range(2))
    except Exception:  # whatever a function may raise that is meant for Values or for lists
        values, again = [], None
    name = getattr(f, "__name__", type(f).__name__)
    return f"function of values {', '.join(values)}" if values == again else f"function {name}"


def _rng_state(numbers: Any) -> tuple[Any, ...]:
    """A state of random.Random: JSON makes lists of its tuples."""
    version, words, spare = numbers
    return version, tuple(words), spare


def _hold_out(
    rows: list[Any], targets: list[Any], share: float, rng: random.Random
) -> tuple[list[Any], list[Any], tuple[list[Any], list[Any]]]:
    order = list(range(len(rows)))
    rng.shuffle(order)
    count = round(share * len(rows))
    if not 0 < count < len(rows):
        raise ValueError(f"a share of {share!r} of {len(rows)} rows cannot be held out for validation")
    held, kept = order[:count], sorted(order[count:])
    picked = [[column[i] for i in side] for side in (kept, held) for column in (rows, targets)]
    return picked[0], picked[1], (picked[2], picked[3])


def _pairs(X: Any, y: Any, model: Any = None, loss: Any = None, place: str = "") -> tuple[list[Any], list[Any]]:
    """Rows and targets as lists, arrays and frames turned into lists of plain numbers; checked, as far as can be."""
    if isinstance(y, str):
        if not tables.is_frame(X):
            raise TypeError(f"{place}y is {y!r}; the name of a column goes with a frame X")
        if y not in X.columns:
            raise ValueError(f"{place}X has no column {y!r}; there are {', '.join(map(repr, X.columns))}")
        columns = [name for name in X.columns if name != y]
        rows, targets = tables.rows_of_frame(X, columns, f"{place}X"), tables.listed(X[y])
    else:
        rows, targets = (_listed(part, f"{place}{name}") for part, name in ((X, "X"), (y, "y")))
    if len(rows) != len(targets):
        raise ValueError(f"{place}X has {len(rows)} rows, but y has {len(targets)}")
    if not rows:
        raise ValueError(f"{place}there are no rows")
    _check_rows(rows, model, place)
    for i, target in enumerate(targets):
        if isinstance(target, str) and getattr(loss, "__module__", "") == losses.__name__:
            remedy = "number the classes, as datasets.from_frame and read_csv do, or y = [classes.index(t) for t in y]"
            raise TypeError(f"{place}y[{i}] is the text {target!r}; {remedy}")
    return rows, targets


def _listed(part: Any, name: str) -> list[Any]:
    if tables.is_frame(part):
        rows: list[Any] = tables.rows_of_frame(part, None, name)
        return [row[0] for row in rows] if name.endswith("y") and rows and len(rows[0]) == 1 else rows
    if isinstance(part, str) or not hasattr(part, "__iter__"):
        raise TypeError(f"{name} is a list, an array or a frame, not {part!r}")
    return tables.listed(part)


def _check_rows(rows: list[Any], model: Any, place: str) -> None:
    """ValueError, TypeError: a row is no list of as many numbers as a network of this library takes."""
    count = nn.inputs(model) if isinstance(model, nn.Module) else None
    if count is None:
        return
    for i, row in enumerate(rows):
        if not hasattr(row, "__len__") or isinstance(row, str):
            lists = "; make rows of the numbers: [[x] for x in X]" if isinstance(row, float | int) else ""
            raise TypeError(f"{place}row {i} of X is {row!r}, not a list of {count} numbers{lists}")
        if len(row) != count:
            others = f", and row 0 has {len(rows[0])}" if i else ""
            raise ValueError(f"{place}row {i} of X has {len(row)} numbers, but the model takes {count}{others}")
        if not NO_NUMBERS.isdisjoint(map(type, row)):
            k, odd = next((k, x) for k, x in enumerate(row) if type(x) in NO_NUMBERS)
            raise TypeError(f"{place}X[{i}][{k}] is {odd!r}, which is no number: leave such rows out, or fill them")


def _not_finite(x: Any, at: str) -> str:
    """Where a number in a row is not finite, and what it is; "" where all are."""
    for place, number in zip(_trees.paths(x, at), _trees.entries(x)):
        if isinstance(number, float) and not math.isfinite(number):
            return f"{place} is {number}"
    return ""


def _data(x: Any) -> Any:
    """A prediction as plain numbers."""
    return x.data if isinstance(x, Value) else [_data(part) for part in x] if isinstance(x, list | tuple) else x


def _measure(metrics: Mapping[str, Metric], predictions: list[Any], targets: list[Any]) -> dict[str, float]:
    return {name: float(metric(predictions, targets)) for name, metric in metrics.items()}


class _Bar:
    """A progress bar on stderr, or, where none is wanted, nothing."""

    def __init__(self, progress: bool | None, done: int, epochs: int, batches: int) -> None:
        self.epochs, self.batches = epochs, batches
        self.bar = _progress.bar(progress, total=epochs * batches, initial=done * batches, unit="batch")

    def update(self, loss: float) -> None:
        if self.bar is not None:
            epoch = self.bar.n // self.batches + 1
            self.bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

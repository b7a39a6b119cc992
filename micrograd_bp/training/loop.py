"""The training loop: mini-batches, early stopping, resuming from checkpoints, and the evaluation of a model on data."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp._engine import files
from micrograd_bp._engine import progress as bars
from micrograd_bp._engine.modules import in_mode
from micrograd_bp._engine.randomness import checked_rng
from micrograd_bp.optim import Optimizer
from micrograd_bp.training import parallel
from micrograd_bp.training.checkpoint import History, Run, described, read, rng_state, settings, write
from micrograd_bp.training.compiled import BatchSweep, CompiledSweep, compiled_sweep, row_loss
from micrograd_bp.training.given import check_arguments, not_finite, pairs
from micrograd_bp.training.metrics import Metric, measure, plain
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from concurrent.futures import Executor


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
    checkpoint: files.StrPath | None = None,
    checkpoint_every: int = 1,
    progress: bool | None = None,
    jit: bool | None = None,
    executor: Executor | None = None,
    shards: int | None = None,
) -> History:
    """Train the model: for every batch, one step of the optimizer down the gradient of the mean loss of its rows.

    The parameters trained are the optimizer's; a UserWarning says so where these are not the model's, as of an
    optimizer made for another model. A module trains in training and is measured in evaluation (`Module.train`), and
    is left as it was. KeyboardInterrupt ends the training: the model is left as after the last whole epoch, and the
    history so far returned. Any error leaves it so too; one of the model's or the loss's has a note that names the
    row, counted in its batch.

    Args:
        model: A function of a row x; `loss(model(x), t)` is the loss of the row with its target t.
        loss: A function (prediction, target) -> Value.
        X: The rows: a list or an array, or a pandas or polars frame.
        y: One target for each row: a list or an array, a column of a frame, or the name of a column of X.
        optimizer: Made of the parameters that are to be trained.
        epochs: Passes over the rows.
        batch_size: Rows in a batch; None: all.
        rng: Source of the order of rows; by default seeded with 0.
        shuffle: Whether that order is new in every epoch.
        metrics: Functions (predictions, targets) -> number by name, such as `accuracy`; of the predictions made while
            training.
        validation: Rows (X, y) to measure loss and metrics on after every epoch, or the share of the rows to hold out
            for that.
        penalty: A function () -> Value, added to the loss of every batch but not to the history, such as
            `lambda: losses.l2_penalty(weights, 0.01)`.
        clip: A function called with the parameters before every step, such as
            `functools.partial(optim.clip_grad_norm, max_norm=1.0)`.
        patience: Stop after so many epochs in which the loss (on the validation rows, where there are any) did not
            fall by more than `min_delta` below its least; the parameters of the best epoch are put back.
        min_delta: See `patience`.
        callbacks: Functions (epochs made, history), called after every epoch, such as `Log("run.csv")`; True ends the
            training.
        checkpoint: A file from which, where it exists, training continues, and ends with the same result to the last
            bit as if it had not been broken off (with `jit` to rounding where the model takes more than 64 ways). It
            is the same run with other metrics, epochs, patience and callbacks; with another model, activation,
            learning rate or setting of the optimizer it is not, and refused.
        checkpoint_every: After how many epochs that file is written.
        progress: A bar on stderr: True, False, or (None) on a terminal once the work has taken a second.
        jit: Whether model and loss are recorded, compiled, and replayed over every batch, where the whole run takes
            longer than that: the history is the same to rounding. A model that draws at random, as `Dropout` does,
            has state or takes floats otherwise than Values runs eagerly. None: where the extra `jit` is installed,
            and there is no executor and no checkpoint; True: it is said, in a warning, why it runs eagerly, and with
            a checkpoint it is compiled at once.
        executor: Who computes the gradients: a `ProcessPoolExecutor`, Dask's `Client.get_executor()`, mpi4py's
            `MPIPoolExecutor`, or another. Workers compute on copies of the model and the loss: only losses,
            predictions and gradients of the optimizer's parameters come back. A worker that dies costs a retry and a
            RuntimeWarning.
        shards: Into how many parts each batch is cut for an executor (8), on which number alone the bits of the result
            depend.

    Returns:
        The loss and the metrics of every epoch.

    Raises:
        ValueError: X and y differ in length, there are no rows, rows have another length than the model takes, or the
            checkpoint is damaged or of another run.
        FloatingPointError: The loss of a batch is not finite; it names the number of X or y that is not, where there
            is one.
        TypeError: Model or loss cannot be sent to a worker, targets are text, or another argument is not what it
            should be.

    Example:
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
    check_arguments(model, loss, optimizer, metrics)
    _check_parameters(model, optimizer)
    shards = parallel.SHARDS if shards is None else shards
    rows, targets = pairs(X, y, model, loss)
    if not isinstance(validation, float | tuple | None) or (isinstance(validation, tuple) and len(validation) != 2):
        raise TypeError(f"validation is a share of the rows, 0.2 say, or a pair (X, y), not {validation!r}")
    held = pairs(*validation, model, loss, "validation: ") if isinstance(validation, tuple) else ([], [])
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
        identity |= {"model": described(model), "optimizer": settings(optimizer)}
        if os.path.exists(checkpoint):
            saved = read(checkpoint, identity, optimizer)
            identity["optimizer"] = saved["run"].get("optimizer", identity["optimizer"])
            rng.setstate(rng_state(saved["rng"]["first"]))
    run = Run(optimizer, rng)
    if share:
        rows, targets, held = _hold_out(rows, targets, share, rng)
    if saved is not None:
        run.restore(saved)

    resources = contextlib.ExitStack()
    sweep_rows: Callable[..., parallel.Found] = _here
    if executor is not None:
        sweep_rows = resources.enter_context(parallel.sharded(executor, shards))

    sweep: BatchSweep = functools.partial(_sweep, sweep_rows, model, loss, optimizer.parameters)
    if jit or (jit is None and executor is None and checkpoint is None):
        # With a checkpoint compiled in any case: a run that is resumed with more epochs has the bits of the whole one.
        work = len(rows) * (epochs - run.epoch) if checkpoint is None else None
        sweep = compiled_sweep(model, loss, sweep, work, bool(jit))
    resources.enter_context(in_mode(model, training=True))
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
            if callbacks and isinstance(sweep, CompiledSweep):
                sweep.look()
            whole = run.state()
            if checkpoint is not None and (run.epoch % checkpoint_every == 0 or run.epoch == epochs or run.stopped):
                write(checkpoint, identity, whole)
    except BaseException as error:
        run.restore(whole)
        if not isinstance(error, KeyboardInterrupt):
            raise
        run.history.interrupted = True
        if checkpoint is not None:
            write(checkpoint, identity, whole)
    finally:
        bar.close()
        resources.close()
    if patience is not None:
        run.put_best()
    return run.history


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
    sweep: BatchSweep,
    rows: list[Any],
    targets: list[Any],
    batches: list[list[int]],
    optimizer: Optimizer,
    penalty: Callable[[], Value] | None,
    clip: Callable[[list[Value]], object] | None,
    metrics: Mapping[str, Metric],
    bar: Any,
) -> dict[str, float]:
    """One epoch: a step of the optimizer for every batch of row numbers; returns the mean loss and the metrics."""
    losses, predictions, answers = [], [], []
    for batch in batches:
        optimizer.zero_grad()
        batch_targets = [targets[i] for i in batch]
        mean, outputs = sweep([rows[i] for i in batch], batch_targets)
        if not math.isfinite(mean):
            places = ((f"{name}[{i}]", part[i]) for i in batch for name, part in (("X", rows), ("y", targets)))
            odd = next(filter(None, (not_finite(x, at) for at, x in places)), None)
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
        losses.append(mean * len(batch))
        predictions += outputs
        answers += batch_targets
        bar.update(mean)
    return {"loss": math.fsum(losses) / len(rows), **measure(metrics, predictions, answers)}


def _sweep(
    sweep_rows: Callable[..., parallel.Found],
    model: Callable[[Any], Any],
    loss: Callable[[Any, Any], Any],
    parameters: list[Value],
    rows: list[Any],
    targets: list[Any],
) -> tuple[float, list[Any]]:
    """Add the gradient of the rows' mean loss to the grads; returns the mean loss, and the predictions as numbers."""
    measure = functools.partial(row_loss, model, loss)
    found = sweep_rows(measure, parameters, list(zip(rows, targets)), 1.0 / len(rows))
    return math.fsum([error for error, _ in found]) / len(rows), [prediction for _, prediction in found]


def _here(measure: parallel.Measure, parameters: list[Value], rows: list[Any], scale: float) -> parallel.Found:
    return parallel.sweep_rows(measure, rows, scale)


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

    Args:
        model: A function of a row; a module is measured in evaluation (`Module.eval`).
        loss: A function (prediction, target) -> number.
        X: The rows, as for `fit`.
        y: The targets, as for `fit`.
        metrics: Functions (predictions, targets) -> number by name.
        progress: A bar on stderr: True, False, or (None) on a terminal once the work has taken a second.

    Returns:
        "loss", and each metric, by name.

    Raises:
        ValueError: As for `fit`.
        TypeError: As for `fit`.

    Example:
        >>> from micrograd_bp import losses
        >>> evaluate(lambda x: 2.0 * x, losses.mse, [1.0, 2.0], [2.0, 3.0])
        {'loss': 0.5}
    """
    rows, targets = pairs(X, y, model, loss)
    watch = bars.watch("evaluating", "row", progress, len(rows))
    with in_mode(model, training=False):
        outputs = [plain(model(x)) for x in watch(iter(rows))]
    errors = [plain(loss(output, target)) for output, target in zip(outputs, targets)]
    return {"loss": math.fsum(errors) / len(rows), **measure(metrics or {}, outputs, targets)}


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


class _Bar:
    """A progress bar on stderr, or nothing if none is wanted."""

    def __init__(self, progress: bool | None, done: int, epochs: int, batches: int) -> None:
        self.epochs, self.batches = epochs, batches
        self.bar = bars.bar(progress, total=epochs * batches, initial=done * batches, unit="batch")

    def update(self, loss: float) -> None:
        if self.bar is not None:
            epoch = self.bar.n // self.batches + 1
            self.bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
            self.bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self.bar.update()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

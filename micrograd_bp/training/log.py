"""A log of training: a line for each epoch, as CSV or as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence

from micrograd_bp._engine import files
from micrograd_bp.training.checkpoint import History


class Log:
    """A callback for `fit` that writes the history to a file, a line for each epoch: the epoch, the loss, the metrics.

    The whole file is written after the first epoch of a run, also of a resumed one; later epochs append a line.

    Args:
        path: A file; CSV with a line of names, or, where the name ends in `.jsonl`, an object of JSON in each line.

    Raises:
        OSError: When it is called: the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> from micrograd_bp import losses, nn, optim, training
        >>> line = nn.Neuron(1, nonlin=False, init=lambda *_: 0.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log, sgd = training.Log(f"{folder}/run.csv"), optim.SGD(line.parameters(), lr=0.25)
        ...     _ = training.fit(line, losses.mse, [[1.0]], [2.0], sgd, epochs=2, callbacks=[log])
        ...     print(pathlib.Path(folder, "run.csv").read_text(), end="")
        epoch,loss
        1,4.0
        2,0.0
    """

    def __init__(self, path: files.StrPath) -> None:
        self.path = path
        self.names: list[str] | None = None  # of the columns; None before the file is written
        self.epochs = 0  # number of epochs in the file

    def __call__(self, epoch: int, history: History) -> None:
        """Write the epochs of the history that are not in the file yet; `epoch` has just ended."""
        names = list(history)
        if self.names == names and self.epochs == epoch - 1 and os.path.exists(self.path):
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(self._lines(history, range(epoch - 1, epoch)))
        else:
            head = "" if self._json() else _csv([["epoch", *names]])
            files.write(self.path, head + self._lines(history, range(epoch)))
        self.names, self.epochs = names, epoch

    def _json(self) -> bool:
        return os.fspath(self.path).endswith((".jsonl", ".ndjson"))

    def _lines(self, history: History, epochs: range) -> str:
        rows = [[k + 1, *[numbers[k] for numbers in history.values()]] for k in epochs]
        if not self._json():
            return _csv(rows)
        names = ["epoch", *history]
        plain = ([x if math.isfinite(x) else None for x in row] for row in rows)  # JSON has no nan
        return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in plain)


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

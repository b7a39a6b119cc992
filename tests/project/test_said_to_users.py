"""What is said of a training call that cannot be: what was given, and what is said. It reads like a table."""
# ruff: noqa: E501  # a case a line

import math
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import polars
import pytest

from micrograd_bp import datasets, losses, nn, optim, training

X, Y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1]
NAN = [[0.0, 1.0], [math.nan, 0.0], [1.0, 1.0]]
FRAME = {"a": [0.0, 1.0, 1.0], "b": [1.0, 0.0, 1.0], "kind": [0, 1, 1]}
WORDS = {**FRAME, "b": ["red", "red", "blue"]}
NUMBER = "number the classes, as datasets.from_frame and read_csv do, or y = [classes.index(t) for t in y]"
FROM_FRAME = "datasets.from_frame makes numbers of columns of text"


class Nothing(nn.Module):
    """A module that does not say what it computes."""

    def __init__(self) -> None:
        self.w = nn.Value(1.0)


def fit(
    rows: Any = X,
    targets: Any = Y,
    model: Any = None,
    loss: Any = losses.binary_cross_entropy,
    optimizer: Any = None,
    **options: Any,
) -> training.History:
    model = nn.MLP(2, [3, 1], rng=random.Random(0)) if model is None else model
    optimizer = optim.SGD(model.parameters(), lr=0.1) if optimizer is None else optimizer
    return training.fit(model, loss, rows, targets, optimizer, epochs=2, progress=False, **options)


THREE: Any = 3
FOUR: Any = 4
SAID = [  # (what was given, the kind of error, what is said)
    ("nan in X", lambda: fit(NAN), FloatingPointError, "the loss of a batch became nan: X[1][0] is nan: leave such rows out, or fill them"),
    ("nan in X, compiled", lambda: fit(NAN, jit=True), FloatingPointError, "the loss of a batch became nan: X[1][0] is nan: leave such rows out, or fill them"),
    ("nan in y", lambda: fit(targets=[0.0, 1.0, math.nan], loss=losses.mse), FloatingPointError, "the loss of a batch became nan: y[2] is nan: leave such rows out, or fill them"),
    ("nan in an array", lambda: fit(np.array(NAN)), FloatingPointError, "X[1][0] is nan"),
    ("nan in a frame", lambda: fit(pandas.DataFrame({"a": [0, None, 1], "b": [1, 0, 1]})), FloatingPointError, "X[1][0] is nan"),
    ("a rate that is too high", lambda: fit(loss=lambda p, t: p * math.inf * p), FloatingPointError, "became inf: try a lower learning rate, or clip the gradients"),
    ("a frame of text", lambda: fit(pandas.DataFrame(WORDS)[["a", "b"]]), TypeError, f"column 'b' of X holds 'red' in row 0, which is no number; {FROM_FRAME}"),
    ("a polars frame of text", lambda: fit(polars.DataFrame(WORDS)[["a", "b"]]), TypeError, f"column 'b' of X holds 'red' in row 0, which is no number; {FROM_FRAME}"),
    ("a frame with the target in it", lambda: fit(pandas.DataFrame(FRAME), pandas.DataFrame(FRAME)["kind"]), ValueError, "row 0 of X has 3 numbers, but the model takes 2"),
    ("no such column", lambda: fit(pandas.DataFrame(FRAME), "sort"), ValueError, "X has no column 'sort'; there are 'a', 'b', 'kind'"),
    ("a column's name without a frame", lambda: fit(X, "kind"), TypeError, "y is 'kind'; the name of a column goes with a frame X"),
    ("text targets", lambda: fit(targets=["no", "yes", "yes"]), TypeError, f"y[0] is the text 'no'; {NUMBER}"),
    ("text targets in an array", lambda: fit(targets=np.array(["no", "yes", "yes"])), TypeError, f"y[0] is the text 'no'; {NUMBER}"),
    ("text in X", lambda: fit([["0", "1"], *X[1:]]), TypeError, "X[0][0] is '0', which is no number"),
    ("None in X", lambda: fit([[None, 1.0], *X[1:]]), TypeError, "X[0][0] is None, which is no number"),
    ("numbers for rows", lambda: fit([0.0, 1.0, 2.0]), TypeError, "row 0 of X is 0.0, not a list of 2 numbers; make rows of the numbers: [[x] for x in X]"),
    ("a row too short", lambda: fit([*X[:2], [1.0]]), ValueError, "row 2 of X has 1 numbers, but the model takes 2, and row 0 has 2"),
    ("another number of columns", lambda: fit([[0.0] * 3] * 3), ValueError, "row 0 of X has 3 numbers, but the model takes 2"),
    ("fewer targets", lambda: fit(targets=[0, 1]), ValueError, "X has 3 rows, but y has 2"),
    ("no rows", lambda: fit([], []), ValueError, "there are no rows"),
    ("a path for rows", lambda: fit("table.csv"), TypeError, "X is a list, an array or a frame, not 'table.csv'"),
    ("one number for targets", lambda: fit(targets=1), TypeError, "y is a list, an array or a frame, not 1"),
    ("rng=0", lambda: fit(rng=0), TypeError, "rng is a source of randomness, random.Random(0) say, not 0"),
    ("MLP(rng=3)", lambda: nn.MLP(2, [3], rng=THREE), TypeError, "rng is a source of randomness, random.Random(3) say, not 3"),
    ("moons(rng=3)", lambda: datasets.moons(9, rng=THREE), TypeError, "rng is a source of randomness, random.Random(3) say, not 3"),
    ("split(rng=3)", lambda: datasets.iris().split(rng=THREE), TypeError, "rng is a source of randomness, random.Random(3) say, not 3"),
    ("MLP(2, 4)", lambda: nn.MLP(2, FOUR), TypeError, "MLP takes a list of layers' sizes: MLP(2, [4]), not MLP(2, 4)"),
    ("metrics=[...]", lambda: fit(metrics=[training.accuracy]), TypeError, 'metrics are functions by name, {"accuracy": training.accuracy} say, not [<function'),
    ("a metric by name", lambda: fit(metrics={"accuracy": "accuracy"}), TypeError, "metric 'accuracy' is a function (predictions, targets), not 'accuracy'"),
    ("a loss by name", lambda: fit(loss="mse"), TypeError, "a loss is a function (prediction, target), such as losses.mse, not 'mse'"),
    ("a class for an optimizer", lambda: fit(optimizer=optim.Adam), TypeError, "an optimizer is made of parameters: optim.Adam(model.parameters()), not <class"),
    ("validation=1", lambda: fit(validation=1), TypeError, "validation is a share of the rows, 0.2 say, or a pair (X, y), not 1"),
    ("validation of another width", lambda: fit(validation=([[1.0]], [0])), ValueError, "validation: row 0 of X has 1 numbers, but the model takes 2"),
    ("a module without a forward", lambda: fit(model=Nothing()), NotImplementedError, "Nothing does not say how it computes: define forward(x)"),
    ("a frozen model", lambda: fit(model=nn.MLP(2, [1]).freeze()), ValueError, "SGD has no parameters to update (those of a frozen model are plain floats)"),
    ("a class beyond the last", lambda: fit(model=nn.MLP(2, [2]), targets=[0, 1, 2], loss=losses.cross_entropy), ValueError, "a class is a whole number, 0 to 1, not 2"),
    ("classes from 1 for one logit", lambda: fit(targets=[1, 2, 2]), ValueError, "binary_cross_entropy: a target is a probability, 0 to 1, not 2"),
    ("no frame", lambda: datasets.from_frame([[1.0]]), TypeError, "a frame has columns with names, as those of pandas and polars have, not list"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), [x[1:] for x in SAID], ids=[x[0] for x in SAID])
def test_what_is_said(call: Callable[..., Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


def results(rows: Any = X, targets: Any = Y, **options: Any) -> Any:
    model = nn.MLP(2, [3, 1], rng=random.Random(0))
    fit(rows, targets, model=model, **options)
    return list(model.state_dict().values())


@pytest.mark.parametrize("kind", [pandas.DataFrame, polars.DataFrame])
def test_a_frame_is_taken_as_it_is_by_column_name(kind: type[Any]) -> None:
    frame, expected = kind(FRAME), results()
    assert results(frame[["a", "b"]], frame["kind"]) == expected
    assert results(frame[["a", "b"]], frame[["kind"]]) == expected
    assert results(frame[["kind", "a", "b"]], "kind") == expected
    assert results(frame, "kind", validation=(frame, "kind")) == expected
    assert results(np.array(X), np.array(Y)) == results(np.array(X, dtype="float32"), tuple(Y)) == expected
    model = nn.MLP(2, [1], rng=random.Random(0))
    found = training.evaluate(model, losses.mse, frame, "kind")
    assert found == training.evaluate(model, losses.mse, X, Y)


@pytest.mark.parametrize("kind", [pandas.DataFrame, polars.DataFrame])
def test_a_frame_is_a_dataset(kind: type[Any]) -> None:
    frame = kind({"a": [1.5, None, 2.5], "hue": ["red", "blue", "red"], "kind": ["x", "y", "y"]})
    expected = datasets.Dataset(
        [[1.5, 0.0, 1.0], [2.0, 1.0, 0.0], [2.5, 0.0, 1.0]], [0, 1, 1], ["a", "hue=blue", "hue=red"], ["x", "y"]
    )
    assert datasets.from_frame(frame, missing="mean", categories=True) == expected
    with pytest.raises(ValueError, match=r"the frame, row 1, column 'a': a number is missing; missing=\"drop\""):
        datasets.from_frame(frame, ignore=["hue"])
    with pytest.raises(ValueError, match="the frame, row 0, column 'hue': 'red' is no number"):
        datasets.from_frame(frame, ignore=["a"])


def test_a_module_that_has_a_forward_can_be_called() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            self.slope, self.offset = nn.Value(0.5), nn.Value(0.0)

        def forward(self, x: Any) -> Any:
            return self.slope * x[0] + self.offset

    line = Line()
    history = training.fit(
        line, losses.mse, [[0.0], [1.0]], [1.0, 3.0], optim.SGD(line.parameters(), lr=0.3), epochs=200
    )
    assert history["loss"][-1] < 1e-12
    assert line.freeze()([2.0]) == pytest.approx(5.0, abs=1e-5)


def test_progress_is_shown_while_evaluating(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.MLP(2, [1])
    training.evaluate(model, losses.mse, X, Y, progress=True)
    assert "evaluating: 100%" in capsys.readouterr().err
    training.evaluate(model, losses.mse, X, Y)
    assert capsys.readouterr().err == ""

"""`micrograd-bp predict`: the predictions of a saved model for the rows of a table."""

from __future__ import annotations

import argparse
import csv
import io
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from micrograd_bp import losses, nn
from micrograd_bp._engine import files, tables
from micrograd_bp._engine import progress as bars
from micrograd_bp.cli.options import add_reading, reader_options

DESCRIPTION = """Predict with a model that `micrograd-bp` or save() wrote, for every row of a table.

Columns are found by the names that the model was trained on; others are passed over. Prints CSV: the row's number, the
class and the probability of every class, or the quantity that is predicted."""


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("micrograd-bp predict", description=DESCRIPTION, formatter_class=formatter)
    parser.add_argument("model", metavar="MODEL.json", type=pathlib.Path, help="a feedforward model that save() wrote")
    parser.add_argument("--csv", metavar="FILE", required=True, help="the rows: a line of column names, then cells")
    parser.add_argument("-o", "--out", metavar="FILE", type=pathlib.Path, help="write to a file, not to the terminal")
    add_reading(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """`micrograd-bp predict`; ValueError or OSError: a file cannot be read as it should, or not be written."""
    arguments = _parser().parse_args(argv)
    model = feedforward(arguments.model, "predict")
    table = tables.read(arguments.csv, watch=bars.watch("reading", "line", None), **reader_options(arguments))
    names = model.names or _by_order(table, model)
    first = model.parts[0] if isinstance(model, nn.Sequential) else None
    means = first.means if isinstance(first, nn.Standardize) else ()
    rows = tables.rows_for(table, names.features, missing=arguments.missing, means=means, decimal=arguments.decimal)
    plain = model.freeze()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, row in zip(rows.y, bars.watch("predicting", "row", None, len(rows.X))(iter(rows.X))):
        out = plain(row)
        outputs = out if isinstance(out, list) else [out]
        if not text.tell():
            writer.writerow(["row", *_heads(names, len(outputs))])
        writer.writerow([number + 1, *_answer(names, outputs)])
    if arguments.out is None:
        sys.stdout.write(text.getvalue())
    else:
        files.write(arguments.out, text.getvalue())
        print(f"{arguments.out}: {len(rows.X)} predictions")
    return 0


def feedforward(path: pathlib.Path, command: str) -> Any:
    """Load a model, in evaluation, so that nothing drops; ValueError: it is no function of a row of numbers."""
    model = nn.load(path).eval()
    if not isinstance(model, nn.Neuron | nn.Feedforward):
        raise ValueError(f"{path}: {model!r} is no function of a row of numbers; {command} takes those only")
    return model


def _by_order(table: tables.Table, model: nn.Module) -> nn.Names:
    """The names of the columns for a model that has no names of inputs: as many of the table's as it takes."""
    columns, count = list(table.columns), nn.inputs(model)
    if count is not None and len(columns) != count:
        raise ValueError(
            f"{table.name}: {len(columns)} columns, but the model takes {count} inputs, and does not know their names; "
            "keep the columns that it takes, in its order"
        )
    return nn.Names(columns)


def _heads(names: nn.Names, outputs: int) -> list[str]:
    """The names of the columns of predictions."""
    if names.classes and len(names.classes) not in (outputs, outputs + (outputs == 1)):
        raise ValueError(f"the model has {outputs} outputs, but names {len(names.classes)} classes")
    if names.classes:
        return [names.target or "class", *[f"P({label})" for label in names.classes]]
    if outputs == 1:
        return [names.target or "output"]
    return [f"output {k}" for k in range(1, outputs + 1)]


def _answer(names: nn.Names, outputs: list[float]) -> list[Any]:
    """A prediction: the likeliest class and all probabilities, or the outputs as they are."""
    if not names.classes:
        return outputs
    if len(outputs) == 1:  # the logit of the second of two classes
        outputs = [0.0, *outputs]
    probabilities = losses.softmax(outputs)
    return [names.classes[outputs.index(max(outputs))], *[f"{p:.6g}" for p in probabilities]]

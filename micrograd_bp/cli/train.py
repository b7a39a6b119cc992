"""The command line: train a network on real data, and leave its model and a picture."""

from __future__ import annotations

import argparse
import importlib
import math
import pathlib
import random
import sys
from collections.abc import Sequence
from typing import Any

from micrograd_bp import (
    __version__,
    datasets,
    engine_name,
    losses,
    nn,
    optim,
    training,
)
from micrograd_bp._engine import progress as bars
from micrograd_bp._engine import tables
from micrograd_bp.cli.options import add_reading, positive, reader_options
from micrograd_bp.see.curve import draw_curve
from micrograd_bp.value import Value, topological_order

DESCRIPTION = """Train a multi-layer perceptron: by default to tell the species of Fisher's 150 irises apart.

Three rows in ten are held out to test it. Prints the loss, the accuracy, the learning curve and what was taken for
what, and writes the model (model.json), the learning curve (loss.svg), and a picture of the computation graph of one
neuron's loss (neuron.svg) to a folder."""

EPILOG = """examples:
  micrograd-bp train
  micrograd-bp train --hidden 16 16 --epochs 100 --seed 1 --out run1
  micrograd-bp train --csv wine.csv --target cultivar --no-jit
  micrograd-bp train --csv houses.csv --target price --categories --missing mean --patience 10

micrograd-bp predict model.json --csv new.csv predicts with a saved model: see micrograd-bp predict --help
micrograd-bp export model.json -o model.c writes a saved model as C: see micrograd-bp export --help
micrograd-bp draw "tanh(a*b + c)" a=2 b=-3 c=10 -o graph.svg draws an expression: see micrograd-bp draw --help"""

HELD_OUT = 0.2  # share of the training rows whose loss --patience watches


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("micrograd-bp", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"micrograd_bp {__version__}, {engine_name()} engine")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="a table of your own: a line of column names, then numbers, and a column of targets",
    )
    parser.add_argument("--target", metavar="COLUMN", help="with --csv: the column of targets (default: the last)")
    parser.add_argument("--ignore", metavar="COLUMN", nargs="+", default=[], help="with --csv: columns to pass over")
    parser.add_argument(
        "--task",
        choices=["classification", "regression"],
        help="what the target is (default: regression where it is a number with many values)",
    )
    parser.add_argument(
        "--categories", action="store_true", help="make of a column of text a 0 or 1 for each of its texts"
    )
    parser.add_argument(
        "--hidden",
        metavar="N",
        nargs="*",
        type=positive,
        default=[16],
        help="neurons in each hidden layer (default: 16)",
    )
    parser.add_argument("--epochs", metavar="N", type=positive, default=60, help="passes over the rows (default: 60)")
    parser.add_argument("--batch-size", metavar="N", type=positive, default=16, help="rows in a step (default: 16)")
    parser.add_argument("--lr", metavar="RATE", type=float, default=0.02, help="Adam's learning rate (default: 0.02)")
    parser.add_argument(
        "--patience",
        metavar="N",
        type=positive,
        help="stop after N epochs without a better loss on a fifth of the rows to learn from, which is held out",
    )
    parser.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        help="compile the training (the extra jit; by default where that pays, and without --checkpoint)",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=pathlib.Path,
        default="micrograd_bp_out",
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="written after every epoch; where it exists, training continues from it"
    )
    add_reading(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Train a network; ValueError or OSError: a file cannot be read as it should, or not be written."""
    arguments = _parser().parse_args(argv)
    rng = random.Random(arguments.seed)
    data, target = _data(arguments)
    train, test = data.split(0.3, rng)
    sizes = [len(data.features), *arguments.hidden, len(data.classes) or 1]
    network = nn.MLP(sizes[0], sizes[1:], activation="tanh", init="xavier_uniform", rng=rng)
    scaling = nn.Standardize(*datasets.statistics(train.X))
    learner = nn.Sequential(scaling, network)
    loss: Any = losses.cross_entropy
    metric: tuple[str, Any] = ("accuracy", training.accuracy)
    targets = train.y
    model = learner
    if not data.classes:  # the network learns standardised targets; the model that is kept gives them in their unit
        units = nn.Standardize(*datasets.statistics([[y] for y in train.y]))
        model = nn.Sequential(scaling, network, units.inverse())
        loss, metric, targets = losses.mse, ("R²", training.r2), [units.forward([y])[0] for y in train.y]
    model.names = nn.Names(data.features, data.classes, target)
    optimizer = optim.Adam(learner.parameters(), lr=arguments.lr)
    arguments.out.mkdir(parents=True, exist_ok=True)

    if arguments.csv is None:
        print(f"{demonstration()}\n")
    print(f"{arguments.csv or 'iris'}: {len(train.X)} rows to learn from, {len(test.X)} held out")
    print(f"MLP {'-'.join(map(str, sizes))}: tanh, {len(optimizer.parameters)} parameters, {engine_name()} engine")
    sys.stdout.flush()  # before the bar, which goes to stderr
    options: dict[str, Any] = {"epochs": arguments.epochs, "batch_size": arguments.batch_size, "rng": rng}
    options |= {"checkpoint": arguments.checkpoint, "progress": True, "jit": arguments.jit}
    if arguments.patience is not None:
        options |= {"patience": arguments.patience, "validation": HELD_OUT}
    history = training.fit(learner, loss, train.X, targets, optimizer, **options)
    if history.interrupted:
        print(f"interrupted: the model is the one after epoch {len(history.get('loss', ()))}")
        if not history:
            return 130

    plain = model.freeze()
    predictions = {}
    for side, rows in (("learnt from", train), ("held out", test)):
        found = [plain(x) for x in bars.watch("evaluating", "row", None, len(rows.X))(iter(rows.X))]
        mean = math.fsum(loss(out, y) for out, y in zip(found, rows.y)) / len(found)
        print(f"rows {side}: loss {mean:.4f}, {metric[0]} {metric[1](found, rows.y):.3f}")
        predictions[side] = found
    print(f"\nloss by epoch\n{training.curve(history['loss'])}\n")
    if data.classes:
        table = training.confusion_matrix(predictions["held out"], test.y, len(data.classes))
        print(
            f"the rows held out, by class (on the left) and what they were taken for\n{_matrix(table, data.classes)}\n"
        )

    path = arguments.out / "model.json"
    model.save(path)
    outputs = f"the logits of {', '.join(data.classes)}" if data.classes else target
    print(f"model: {path}, whose outputs are {outputs}")
    print(f"  micrograd_bp.nn.load({str(path)!r}).freeze()({train.X[0]})")
    print(f"  micrograd-bp predict {path} --csv FILE")
    curve = arguments.out / "loss.svg"
    draw_curve({name: history[name] for name in history if "loss" in name}, title="loss by epoch").save(curve)
    print(f"learning curve: {curve}")
    seen = [f"{name}, standardised" for name in data.features]
    inputs = [Value(x, name) for x, name in zip(scaling.forward(train.X[0]), seen)]
    neuron = network.layers[0].neurons[0]
    print(f"picture: {_picture(neuron, inputs, arguments.out / 'neuron')}")
    return 130 if history.interrupted else 0


def _data(arguments: argparse.Namespace) -> tuple[datasets.Dataset, str]:
    """The data set, and the name of its target."""
    if arguments.csv is None:
        only: dict[str, Any] = {
            "target": None,
            "ignore": [],
            "task": None,
            "categories": False,
            "missing": None,
            "header": None,
        }
        given = [f"--{name}" for name, default in only.items() if getattr(arguments, name) != default]
        if given:
            raise ValueError(f"{' and '.join(given)} {'go' if len(given) > 1 else 'goes'} with --csv FILE")
        return datasets.iris(), "species"
    table = tables.read(arguments.csv, watch=bars.watch("reading", "line", None), **reader_options(arguments))
    options = {"task": arguments.task, "missing": arguments.missing, "categories": arguments.categories}
    found = tables.encoded(table, arguments.target, arguments.ignore, **options, decimal=arguments.decimal)
    data = datasets.Dataset(*found)
    if 2 * len(data.classes) > len(data.X):
        many = f"{len(data.classes)} different labels in {len(data.X)} rows"
        remedy = 'a column of classes has each in several rows; task="regression" is for quantities'
        raise ValueError(f"{arguments.csv}: {many}; {remedy}")
    return data, arguments.target or list(table.columns)[-1]


def _matrix(counts: list[list[int]], classes: list[str]) -> str:
    """A confusion matrix as text, with the classes' names."""
    width = max(map(len, (*classes, "00000"))) + 1
    head = "".join(f"{name:>{width}}" for name in classes)
    rows = ["".join(f"{count:>{width}}" for count in row) for row in counts]
    return "\n".join([f"{'':{width}}{head}", *[f"{name:>{width}}{row}" for name, row in zip(classes, rows)]])


def demonstration() -> str:
    """An expression, its graph as text with data and gradients, and its gradients found by finite differences."""

    def f(x: Value, y: Value) -> Value:
        return x * y + x.sin()

    x, y, h = Value(2.0, "x"), Value(3.0, "y"), 1e-6
    z = f(x, y)
    z.backward()
    names: dict[Value, str] = {}
    lines = ["z = x * y + sin(x), recorded as a graph, and dz/d(node) for every node from one walk back along it:"]
    for node in topological_order(z):
        names[node] = node.label or ("z" if node is z else f"v{len(names) - 1}")
        operands = ", ".join(names[operand] for operand in node.operands if isinstance(operand, Value))
        made = f"{names[node]} = {node.op.name}({operands})" if node.op is not None else names[node]
        lines.append(f"  {made:<16} data {node.data:9.6f}   gradient {node.grad:9.6f}")
    by_x = (f(x + h, y) - f(x - h, y)).data / (2 * h)
    by_y = (f(x, y + h) - f(x, y - h)).data / (2 * h)
    lines.append(f"Finite differences give dz/dx = {by_x:.6f} and dz/dy = {by_y:.6f}.")
    return "\n".join(lines)


def _picture(neuron: nn.Neuron, inputs: list[Value], stem: pathlib.Path) -> str:
    """Draw half the squared distance of a neuron's output from 1; returns a line that says where, or why not."""
    for parameter, (name, _) in zip(neuron.parameters(), neuron.named_parameters()):
        parameter.grad, parameter.label = 0.0, name
    loss = losses.sum_of_squares(neuron(inputs), 1.0)
    loss.label = "loss"
    loss.backward()
    try:
        drawing = importlib.import_module("micrograd_bp.see.drawing")
        return f"{drawing.draw(loss).render(stem, format='svg', cleanup=True)}, the graph of one neuron's loss"
    except (ImportError, RuntimeError) as error:  # no package, or no program, that renders
        return f"none, for {str(error).splitlines()[0]}"

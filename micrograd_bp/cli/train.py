"""The command line: train a network on real data, and leave its model and a picture."""

from __future__ import annotations

import argparse
import importlib
import pathlib
import random
import sys
from collections.abc import Sequence

from micrograd_bp import (
    __version__,
    datasets,
    engine_name,
    losses,
    nn,
    optim,
    training,
)
from micrograd_bp.see.curve import draw_curve
from micrograd_bp.value import Value, topological_order

DESCRIPTION = """Train a multi-layer perceptron to tell classes apart: by default the species of Fisher's 150 irises.

Three rows in ten are held out to test it. Prints the loss, the accuracy and the learning curve, and writes the model
(model.json) and a picture of the computation graph of one neuron's loss (neuron.svg) to a folder."""

EPILOG = """examples:
  micrograd-bp
  micrograd-bp --hidden 16 16 --epochs 100 --seed 1 --out run1
  micrograd-bp --csv wine.csv --target cultivar

micrograd-bp draw "tanh(a*b + c)" a=2 b=-3 c=10 -o graph.svg draws an expression: see micrograd-bp draw --help
micrograd-bp export model.json -o model.c writes a saved model as C: see micrograd-bp export --help"""


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("micrograd-bp", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"micrograd_bp {__version__}, {engine_name()} engine")
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="a table of your own: a line of column names, then numbers, and a column of labels",
    )
    parser.add_argument("--target", metavar="COLUMN", help="with --csv: the column of labels (default: the last)")
    parser.add_argument("--ignore", metavar="COLUMN", nargs="+", default=[], help="with --csv: columns to pass over")
    parser.add_argument(
        "--hidden",
        metavar="N",
        nargs="*",
        type=_positive,
        default=[16],
        help="neurons in each hidden layer (default: 16)",
    )
    parser.add_argument("--epochs", metavar="N", type=_positive, default=60, help="passes over the rows (default: 60)")
    parser.add_argument("--lr", metavar="RATE", type=float, default=0.02, help="Adam's learning rate (default: 0.02)")
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
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 1 or more")
    return int(text)


def main(argv: Sequence[str]) -> int:
    """Train a network; ValueError or OSError: a file cannot be read as it should, or not be written."""
    arguments = _parser().parse_args(argv)
    rng = random.Random(arguments.seed)
    data = _data(arguments)
    train, test = data.split(0.3, rng)
    sizes = [len(data.features), *arguments.hidden, len(data.classes)]
    network = nn.MLP(sizes[0], sizes[1:], activation="tanh", init="xavier_uniform", rng=rng)
    scaling = nn.Standardize(*datasets.statistics(train.X))
    model = nn.Sequential(scaling, network)
    optimizer = optim.Adam(model.parameters(), lr=arguments.lr)
    arguments.out.mkdir(parents=True, exist_ok=True)

    print(demonstration())
    print(f"\n{arguments.csv or 'iris'}: {len(train.X)} rows to learn from, {len(test.X)} held out")
    print(f"MLP {'-'.join(map(str, sizes))}: tanh, {len(optimizer.parameters)} parameters, {engine_name()} engine")
    sys.stdout.flush()  # before the bar, which goes to stderr
    options = {"epochs": arguments.epochs, "rng": rng, "checkpoint": arguments.checkpoint, "progress": True}
    history = training.fit(model, losses.cross_entropy, train.X, train.y, optimizer, **options)
    if history.interrupted:
        print(f"interrupted: the model is the one after epoch {len(history.get('loss', ()))}")
        if not history:
            return 130

    plain = model.freeze()
    for side, rows in (("learnt from", train), ("held out", test)):
        found = training.evaluate(plain, losses.cross_entropy, rows.X, rows.y, {"accuracy": training.accuracy})
        print(f"rows {side}: loss {found['loss']:.4f}, accuracy {found['accuracy']:.3f}")
    print(f"\nloss by epoch\n{training.curve(history['loss'])}\n")

    curve = arguments.out / "loss.svg"
    draw_curve(history["loss"], title="loss by epoch").save(curve)
    print(f"learning curve: {curve}")
    path = arguments.out / "model.json"
    model.save(path)
    print(f"model: {path}, whose outputs are the logits of {', '.join(data.classes)}")
    print(f"  micrograd_bp.nn.load({str(path)!r}).freeze()({train.X[0]})")
    inputs = [Value(x, name) for x, name in zip(scaling.forward(train.X[0]), data.features)]
    neuron = network.layers[0].neurons[0]
    print(f"picture: {_picture(neuron, inputs, arguments.out / 'neuron')}")
    return 130 if history.interrupted else 0


def _data(arguments: argparse.Namespace) -> datasets.Dataset:
    if arguments.csv is None:
        if arguments.target is not None or arguments.ignore:
            raise ValueError("--target and --ignore go with --csv FILE")
        return datasets.iris()
    data = datasets.read_csv(arguments.csv, arguments.target, arguments.ignore)
    if 2 * len(data.classes) > len(data.X):
        many = f"{len(data.classes)} different labels in {len(data.X)} rows"
        raise ValueError(f"{arguments.csv}: {many}; the target is a column of classes, each in several rows")
    return data


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
    """Draw half the squared distance of a neuron's output from 1; where the picture went, or why there is none."""
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

"""`micrograd-bp export`: a saved model as C99."""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from micrograd_bp import kernel, nn
from micrograd_bp._engine import files
from micrograd_bp.value import Value


def _export_parser() -> argparse.ArgumentParser:
    description = "Write a saved model as one C99 file: its outputs, and their derivatives by its parameters."
    parser = argparse.ArgumentParser("micrograd-bp export", description=description)
    parser.add_argument("model", metavar="MODEL.json", type=pathlib.Path, help="a feedforward model that save() wrote")
    parser.add_argument("-o", "--out", metavar="FILE", type=pathlib.Path, help="default: MODEL.c beside the model")
    parser.add_argument("--name", help="what the functions' names begin with (default: the name of the C file)")
    parser.add_argument("--float", action="store_true", help="single precision, for small machines")
    return parser


def main(argv: Sequence[str]) -> int:
    """`micrograd-bp export`: a saved model as C; ValueError or OSError: it cannot be read, written, or be C."""
    arguments = _export_parser().parse_args(argv)
    model = nn.load(arguments.model)
    if not isinstance(model, nn.Neuron | nn.Feedforward):
        raise ValueError(f"{arguments.model}: {model!r} is no function of a row of numbers; export takes those only")
    inputs = [Value(0.0) for _ in range(_inputs(model))]
    path = arguments.out or arguments.model.with_suffix(".c")
    name = arguments.name or re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    title = f"{arguments.model.name}, {model!r}"
    program = kernel(model(inputs), inputs, model.parameters())
    files.write(path, program.source("c", name=name, real="float" if arguments.float else "double", title=title))
    print(f"{path}: C99, {len(inputs)} inputs; its first lines say how to call it")
    return 0


def _inputs(model: nn.Module) -> int:
    """How many numbers a model takes."""
    first: Any = model
    while isinstance(first, nn.Sequential) and first.parts:
        first = first.parts[0]
    return len(first.means) if isinstance(first, nn.Standardize) else getattr(first, "nin", 0)

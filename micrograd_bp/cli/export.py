"""`micrograd-bp export`: a saved model as C99."""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from micrograd_bp import kernel, nn
from micrograd_bp._engine import files
from micrograd_bp.cli.predict import feedforward
from micrograd_bp.value import Value

ROWS = 16  # rows of inputs in the C file's own test


def _parser() -> argparse.ArgumentParser:
    description = """Write a saved model as a C99 file, which is C++ too, and its header: its outputs, their derivatives
    by its parameters, the names of its classes, and a main with test vectors (compiled with -DNAME_MAIN)."""
    parser = argparse.ArgumentParser("micrograd-bp export", description=description)
    parser.add_argument("model", metavar="MODEL.json", type=pathlib.Path, help="a feedforward model that save() wrote")
    parser.add_argument("-o", "--out", metavar="FILE", type=pathlib.Path, help="default: MODEL.c beside the model")
    parser.add_argument("--name", help="what the functions' names begin with (default: the name of the C file)")
    parser.add_argument("--float", action="store_true", help="single precision, for small machines")
    parser.add_argument("--values", action="store_true", help="the outputs alone, without derivatives: less code")
    parser.add_argument("--fixed", action="store_true", help="keep the workspace in fixed memory, not on the stack")
    return parser


def main(argv: Sequence[str]) -> int:
    """`micrograd-bp export`: a saved model as C; ValueError or OSError: it cannot be read, written, or be C."""
    arguments = _parser().parse_args(argv)
    model = feedforward(arguments.model, "export")
    names = model.names
    inputs = [Value(0.0, label) for label in (names.features if names else [""] * (nn.inputs(model) or 0))]
    path = arguments.out or arguments.model.with_suffix(".c")
    name = arguments.name or re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    program = kernel(model(inputs), inputs, () if arguments.values else model.parameters())
    written = program.c_files(
        name,
        real="float" if arguments.float else "double",
        title=f"{arguments.model.name}, {model!r}",
        classes=names.classes if names else (),
        rows=_rows(model, len(inputs)),
        fixed=arguments.fixed,
    )
    header = path.with_name(f"{name}.h")
    files.write(header, written[f"{name}.h"])
    files.write(path, written[f"{name}.c"])
    print(f"{path}, {header}: C99 and C++, {len(inputs)} inputs; the first lines of the former say how to call it")
    print(_measured(path, name))
    return 0


def _rows(model: Any, count: int) -> list[list[float]]:
    """Rows of inputs for the test: around the means of the training data, if the model has them."""
    rng = random.Random(0)
    first = model.parts[0] if isinstance(model, nn.Sequential) else None
    means, scales = (first.means, first.scales) if isinstance(first, nn.Standardize) else ([0.0] * count, [1.0] * count)
    return [[mean + scale * rng.gauss(0.0, 1.0) for mean, scale in zip(means, scales)] for _ in range(ROWS)]


def _measured(path: pathlib.Path, name: str) -> str:
    """The size of the compiled code, and what its test prints; or a line that says why neither is known."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return "size and precision: not measured, for want of a C compiler (cc)"
    with tempfile.TemporaryDirectory() as folder:
        built, program = os.path.join(folder, "code.o"), os.path.join(folder, "test")
        flags = ["-std=c99", "-Os", str(path.resolve())]
        test = [f"-D{name.upper()}_MAIN", "-o", program, "-lm"]
        for extra in (["-c", "-o", built], test):
            done = subprocess.run([compiler, *flags, *extra], capture_output=True, text=True, check=False)
            if done.returncode:
                said = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
                return f"size and precision: not measured; {compiler} says: {said}"
        ran = subprocess.run([program], capture_output=True, text=True, check=False).stdout.strip()
        size = shutil.which("size")
        found = subprocess.run([size, built], capture_output=True, text=True, check=False).stdout if size else ""
        numbers = re.findall(r"\d+", found.partition("\n")[2])
    code = f"{int(numbers[0])} bytes of code and constants ({os.path.basename(compiler)} -Os); " if numbers else ""
    return code + ran

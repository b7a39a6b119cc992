"""`python -m benchmarks.compiling`: the time to compile and the size of the code, by the number of nodes.

Of regular graphs, networks w-w-1, and of irregular ones, random operations on random earlier results: how long the
first call of value and gradient takes beyond the second, once the graph is recorded; and how long the C of the values
is, without the numbers of the parameters. With --figure the two are drawn, as docs/scale.md shows them.
"""

from __future__ import annotations

import argparse
import importlib
import random
import time
from pathlib import Path
from typing import Any

from benchmarks import engines

REGULAR = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
IRREGULAR = (1_000, 3_000, 10_000, 30_000)  # from here on a minute and more


def regular(mg: Any, count: int) -> tuple[Any, list[Any], list[Any]]:
    """The squared output of a network of about so many nodes, its inputs and parameters."""
    width = round((count / 2) ** 0.5)
    model = mg.nn.MLP(width, [width, 1], activation="tanh", rng=random.Random(0))
    inputs = [mg.Value(0.1) for _ in range(width)]
    return model(inputs) ** 2, inputs, model.parameters()


def irregular(mg: Any, count: int) -> tuple[Any, list[Any], list[Any]]:
    """A sum of the last of so many random operations."""
    rng = random.Random(0)
    leaves = [mg.Value(rng.uniform(-1.0, 1.0)) for _ in range(16)]
    nodes = list(leaves)
    kinds = (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a.tanh(), lambda a, b: b.sin())
    for _ in range(count):
        nodes.append(rng.choice(kinds)(*rng.choices(nodes[-50:], k=2)))
    return sum(nodes[-50:]), leaves[:8], leaves[8:]


def measured(mg: Any, graph: tuple[Any, list[Any], list[Any]]) -> tuple[int, float, int]:
    """Operations, seconds to compile value and gradient, bytes of the C of the values."""
    np = importlib.import_module("numpy")
    output, inputs, parameters = graph
    kernel = mg.kernel(output, inputs, parameters)
    X = np.full((1, len(inputs)), 0.5)
    start = time.perf_counter()
    kernel.value_and_grad(X)
    middle = time.perf_counter()
    kernel.value_and_grad(X)
    seconds = 2 * middle - start - time.perf_counter()
    text = mg.kernel(output, inputs).source("c")
    return kernel.stats["recorded"], max(seconds, 1e-6), len(text.partition("\n};\n")[2])


def draw(found: dict[str, list[tuple[int, float, int]]], path: Path) -> None:
    """Two panels: seconds, and bytes, by operations."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for ax, column, what in ((axes[0], 1, "seconds to compile"), (axes[1], 2, "bytes of C, without parameters")):
        for (name, rows), colour in zip(found.items(), ("#1f6f8b", "#d1495b")):
            ax.loglog([row[0] for row in rows], [row[column] for row in rows], "o-", ms=4, color=colour, label=name)
        ax.set(xlabel="operations in the graph", ylabel=what)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print a table, and draw it where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiling", description=__doc__)
    parser.add_argument("--figure", type=Path, metavar="FILE", help="an SVG or PNG to write")
    parser.add_argument("--small", action="store_true", help="two small graphs of each kind")
    options = parser.parse_args()
    mg = engines.load("accelerated")
    measured(mg, irregular(mg, 100))  # LLVM is loaded
    sizes = {"regular": REGULAR, "irregular": IRREGULAR}
    found: dict[str, list[tuple[int, float, int]]] = {}
    print("| | operations | seconds | bytes of C |\n|---|---:|---:|---:|")
    for name, make in (("regular", regular), ("irregular", irregular)):
        for count in (200, 600) if options.small else sizes[name]:
            found.setdefault(name, []).append(measured(mg, make(mg, count)))
            print("| {} | {:,} | {:.3g} | {:,} |".format(name, *found[name][-1]), flush=True)
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()

"""`python -m benchmarks.compiling`: the time to compile and the size of the code, by the number of nodes.

Of regular graphs, networks w-w-1; of loops, Euler steps of a pendulum; and of irregular ones, random operations on
random earlier results: the processor time of the first call of value and gradient beyond that of the second, from the
recorded graph on; and how long the C of the values is, without the numbers of the parameters. With --figure both are
drawn, as docs/scale.md shows them.
"""

from __future__ import annotations

import argparse
import importlib
import random
import time
from pathlib import Path
from typing import Any

from benchmarks import engines

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
IRREGULAR = 30_000  # operations at most: 100,000 take minutes


def regular(mg: Any, count: int) -> tuple[Any, list[Any], list[Any]]:
    """The squared output of a network of about so many nodes, its inputs and parameters."""
    width = round((count / 2) ** 0.5)
    model = mg.nn.MLP(width, [width, 1], activation="tanh", rng=random.Random(0))
    inputs = [mg.Value(0.1) for _ in range(width)]
    return model(inputs) ** 2, inputs, model.parameters()


def loop(mg: Any, count: int) -> tuple[Any, list[Any], list[Any]]:
    """The angle of a pendulum after steps of so many operations."""
    a, v, k = mg.Value(0.5), mg.Value(0.1), mg.Value(9.8)
    output, speed = a, v
    for _ in range(count // 6):
        output, speed = output + 0.001 * speed, speed - 0.001 * k * mg.math.sin(output)
    return output, [a], [v, k]


def irregular(mg: Any, count: int) -> tuple[Any, list[Any], list[Any]]:
    """A sum of what is left of so many random operations, each on one number that no other takes and on one of 50."""
    rng = random.Random(0)
    leaves = [mg.Value(rng.uniform(-1.0, 1.0)) for _ in range(16)]
    pool = [rng.choice(leaves) + 0.01 * k for k in range(50)]
    kinds = (
        lambda a, b: 0.5 * (a + b),
        lambda a, b: a * b,
        lambda a, b: a - b,
        lambda a, b: a.tanh() + b,
        lambda a, b: (a * b).sin(),
    )
    for _ in range(count // 8 * 5):  # 1.6 operations each
        a, b = rng.sample(range(50), 2)
        pool[a] = rng.choice(kinds)(pool[a], pool[b])
    return sum(pool), leaves[:8], leaves[8:]


def measured(mg: Any, graph: tuple[Any, list[Any], list[Any]]) -> tuple[int, float, int]:
    """Operations, seconds to compile value and gradient, bytes of the C of the values."""
    np = importlib.import_module("numpy")
    output, inputs, parameters = graph
    X = np.full((1, len(inputs)), 0.5)
    clock = time.process_time
    start = clock()
    kernel = mg.kernel(output, inputs, parameters)
    kernel.value_and_grad(X)
    middle = clock()
    kernel.value_and_grad(X)
    seconds = 2 * middle - start - clock()
    text = mg.kernel(output, inputs).source("c")
    return kernel.stats["recorded"], max(seconds, 1e-6), len(text.partition("\n};\n")[2])


def draw(found: dict[str, list[tuple[int, float, int]]], path: Path) -> None:
    """Two panels: seconds, and bytes, by operations."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    for ax, column, what in (
        (axes[0], 1, "seconds of processor time to compile"),
        (axes[1], 2, "bytes of C, without parameters"),
    ):
        for (name, rows), colour in zip(found.items(), ("#1f6f8b", "#6a994e", "#d1495b")):
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
    parser.add_argument("--most", type=int, default=IRREGULAR, help="operations of the largest irregular graph")
    parser.add_argument("--small", action="store_true", help="two small graphs of each kind")
    options = parser.parse_args()
    mg = engines.load("accelerated")
    measured(mg, irregular(mg, 100))  # LLVM is loaded
    found: dict[str, list[tuple[int, float, int]]] = {}
    print("| | operations | seconds | µs an operation | bytes of C |\n|---|---:|---:|---:|---:|")
    for name, make in (("regular", regular), ("a loop", loop), ("irregular", irregular)):
        for count in (200, 600) if options.small else SIZES:
            if name == "irregular" and count > options.most:
                break
            found.setdefault(name, []).append(measured(mg, make(mg, count)))
            operations, seconds, size = found[name][-1]
            print(
                f"| {name} | {operations:,} | {seconds:.3g} | {1e6 * seconds / operations:.3g} | {size:,} |", flush=True
            )
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()

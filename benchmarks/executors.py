"""`python -m benchmarks.executors`: what two worker processes gain, what shipping costs, and from which size it pays.

One step of training (the gradient over a batch) of a network with w inputs, two layers of w tanh units and one output,
by the plain loop in this process and by two processes; and what is done beside the arithmetic: pickling, and the way
there and back of a step whose rows cost nothing.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.timing import race, unit
from micrograd_bp import Value, engine_name, losses, nn, parallel, training

WORKERS = 2


def step(sweep_rows: Any, model: Any, rows: list[Any]) -> None:
    """The gradient of the mean loss of the rows."""
    measure = functools.partial(training._row_loss, model, losses.mse)
    sweep_rows(measure, model.parameters(), rows, 1.0 / len(rows))


def nothing(parameters: list[Value], row: Any) -> tuple[Value, None]:
    """A row that costs nothing; its parameters are shipped all the same."""
    return parameters[0], None


def idle(sweep_rows: Any, model: Any, rows: list[Any]) -> None:
    """The same step without the arithmetic."""
    parameters = model.parameters()
    sweep_rows(functools.partial(nothing, parameters), parameters, rows, 1.0 / len(rows))


def main() -> None:
    """Print a table: the time of a step alone, and by two workers as a multiple of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--widths", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 16, 64, 256])
    parser.add_argument("--shards", type=int, default=WORKERS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{engine_name()} engine, {WORKERS} worker processes, {options.shards} shards\n")
    print("| width | parameters | rows | one process | two workers | of it shipping | packed |")
    print("|" + "---:|" * 7)
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        for width in options.widths:
            model = nn.MLP(width, [width, width, 1], activation="tanh", rng=random.Random(0))
            rng = random.Random(1)
            for batch in options.batches:
                rows = [([rng.gauss(0, 1) for _ in range(width)], rng.gauss(0, 1)) for _ in range(batch)]
                measure = functools.partial(training._row_loss, model, losses.mse)
                packed = len(parallel._packed(measure, model.parameters())) + 8 * len(model.parameters())
                with parallel.team(pool, options.shards) as shared:
                    timings = race(
                        {
                            "here": functools.partial(step, training._here, model, rows),
                            "workers": functools.partial(step, shared, model, rows),
                            "shipping": functools.partial(idle, shared, model, rows),
                        },
                        rounds=options.rounds,
                    )
                here = timings["here"].best
                ratios = [f"{timings[name].best / here:.2f}" for name in ("workers", "shipping")]
                size = f"{packed / 1024:.1f} KiB"
                print(
                    f"| {width} | {len(model.parameters())} | {batch} | {unit(here)} | {' | '.join(ratios)} | {size} |"
                )


if __name__ == "__main__":
    main()

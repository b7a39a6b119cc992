"""`python -m benchmarks.executors`: what two worker processes gain, what shipping costs, and from which size it pays.

One step of training (the gradient over a batch) of a network with w inputs, two layers of w tanh units and one output.
Three ratios to the plain loop in this process: by the clock on the wall; by processor time along the longest path (this
process's part, then one of two shards), which is what an idle machine of two cores takes but for some 0.1 ms of waking
up; and the part of that path that is no arithmetic: pickling, sending, unpickling, adding up.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import time
from array import array
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.timing import race, unit
from micrograd_bp import Value, engine_name, losses, nn
from micrograd_bp.training import compiled, loop, parallel

WORKERS = 2


def step(sweep_rows: Any, model: Any, rows: list[Any]) -> None:
    """The gradient of the mean loss of the rows."""
    measure = functools.partial(compiled.row_loss, model, losses.mse)
    sweep_rows(measure, model.parameters(), rows, 1.0 / len(rows))


def shard(measure: Any, parameters: list[Value], rows: list[Any]) -> Any:
    """What one of two workers does, done here."""
    packed, numbers = parallel._packed(measure, parameters), array("d", [x.data for x in parameters])
    labels = [x.label for x in parameters]
    return functools.partial(parallel._shard, packed, numbers, labels, 1.0 / len(rows), rows[: len(rows) // 2], 0)


def main() -> None:
    """Print a table: the time of a step alone, and by two workers as a multiple of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--widths", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--batches", nargs="+", type=int, default=[4, 16, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="the smallest network and batch, one round")
    options = parser.parse_args()
    if options.small:
        options.widths, options.batches, options.rounds = [2], [4], 1
    print(f"{engine_name()} engine, {WORKERS} worker processes, {WORKERS} shards\n")
    print("| width | parameters | rows | one process | two, by the wall | two, by the path | shipping | packed |")
    print("|" + "---:|" * 8)
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        for width in options.widths:
            model = nn.MLP(width, [width, width, 1], activation="tanh", rng=random.Random(0))
            parameters = model.parameters()
            rng = random.Random(1)
            measure = functools.partial(compiled.row_loss, model, losses.mse)
            packed = len(parallel._packed(measure, parameters)) + 8 * len(parameters)
            for batch in options.batches:
                rows = [([rng.gauss(0, 1) for _ in range(width)], rng.gauss(0, 1)) for _ in range(batch)]
                with parallel.sharded(pool, WORKERS) as shared:
                    here, there = (functools.partial(step, sweep, model, rows) for sweep in (loop._here, shared))
                    wall = race({"here": here, "there": there}, rounds=options.rounds)
                    steps = {"here": here, "there": there, "shard": shard(measure, parameters, rows)}
                    used = {
                        name: timing.best
                        for name, timing in race(steps, rounds=options.rounds, clock=time.process_time).items()
                    }
                path = used["there"] + used["shard"]
                ratios = (
                    wall["there"].best / wall["here"].best,
                    path / used["here"],
                    (path - used["here"] / WORKERS) / used["here"],
                )
                cells = [width, len(parameters), batch, unit(used["here"]), *(f"{ratio:.2f}" for ratio in ratios)]
                print(f"| {' | '.join(map(str, cells))} | {packed / 1024:.1f} KiB |", flush=True)


if __name__ == "__main__":
    main()

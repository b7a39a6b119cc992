"""`python -m benchmarks.scale`: what a node, an edge and a million of them cost, in memory and time, on each engine.

Chains of nodes with one operand, with two, and one node with very many; recorded and swept back. Memory is what the
process grows by, time is the processor's; every row is measured in a process of its own. A loop of Euler steps says
whether a node costs the same in a large graph as in a small one, and in the tenth graph as in the first.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import mmap
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import engines
from benchmarks.memory import _resident


def unary(mg: Any, count: int) -> Any:
    """A chain of nodes with one operand each."""
    node = mg.Value(0.5)
    for _ in range(count):
        node = -node
    return node


def binary(mg: Any, count: int) -> Any:
    """A chain of nodes with two operands each."""
    node = x = mg.Value(0.5)
    for _ in range(count):
        node = node + x
    return node


def product(mg: Any, count: int) -> Any:
    """The same, with partials that are numbers of their own."""
    node, x = mg.Value(0.5), mg.Value(0.999)
    for _ in range(count):
        node = node * x
    return node


def fan(mg: Any, count: int) -> Any:
    """One node with so many operands, twice each leaf."""
    leaves = [mg.Value(1.0) for _ in range(8)]
    return mg.math.fsum(leaves * (count // 8))


def products(mg: Any, count: int) -> Any:
    """One node with so many operands, as a unit's net input has: half of them weights, half inputs."""
    leaves = [mg.Value(1.0) for _ in range(8)]
    return mg.nn.net_input(leaves * (count // 16), leaves * (count // 16))


def euler(steps: int, k: Any, c: Any) -> Any:
    """A damped spring by Euler's method: eight operations a step."""
    x, v, dt = k * 0.0 + 1.0, c * 0.0, 0.001
    for _ in range(steps):
        a = k * x + c * v
        x = (x + v * dt) * 1.0
        v = v - a * dt
    return x + v


def length(mg: Any, count: int) -> Any:
    """The length of a vector of so many coordinates."""
    leaves = [mg.Value(1.0) for _ in range(8)]
    return mg.math.hypot(*leaves * (count // 8))


def distance(mg: Any, count: int) -> Any:
    """The distance of two points of half as many coordinates each: their differences are nodes too."""
    p, q = ([mg.Value(x) for _ in range(8)] for x in (1.0, 2.0))
    return mg.math.dist(p * (count // 16), q * (count // 16))


def exact_products(mg: Any, count: int) -> Any:
    """The sum, rounded once, of half as many products."""
    return mg.ops.sumprod(*[mg.Value(1.0) for _ in range(8)] * (count // 8))


def factors(mg: Any, count: int) -> Any:
    """The product of so many factors, each with a node of its own."""
    return mg.math.prod([mg.Value(1.0) for _ in range(8)] * (count // 8))


SHAPES: dict[str, Callable[[Any, int], Any]] = {
    "a node of one operand": unary,
    "a node of two operands, x + y": binary,
    "a node of two operands, x * y": product,
    "an operand more, of fsum": fan,
    "an operand more, of net_input": products,
    "an operand more, of hypot": length,
    "an operand more, of dist": distance,
    "an operand more, of sumprod": exact_products,
    "an operand more, of prod": factors,
}


def measured(mg: Any, make: Callable[[Any, int], Any], count: int) -> tuple[float, float, float]:
    """Bytes that the process grew by, nanoseconds of recording, and nanoseconds of backward, each for one."""
    make(mg, 100).backward()
    before = _resident()
    output = make(mg, count)
    output.backward()
    size = _resident() - before
    del output
    times = []
    for _ in range(5):
        gc.collect()
        start = time.process_time()
        output = make(mg, count)
        middle = time.process_time()
        output.backward()
        times.append((middle - start, time.process_time() - middle))
        del output
    record, back = (min(column) / count * 1e9 for column in zip(*times))
    return size / count, record, back


def repeated(mg: Any, count: int, repetitions: int = 10) -> list[tuple[float, ...]]:
    """Of a loop of so many nodes, in the first repetition of a new process and in the last.

    Nanoseconds a node to record and to sweep, user and system; then the time of `grad` as a multiple of recording,
    sweeping and freeing.
    """
    rows = []
    for _ in range(repetitions):
        k, c = mg.Value(1.0), mg.Value(0.1)
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        output = euler(count // 8, k, c)
        output.backward()
        after = resource.getrusage(resource.RUSAGE_SELF)
        del output
        stop = time.process_time()
        mg.grad(lambda k, c: euler(count // 8, k, c), (0, 1))(1.0, 0.1)
        grad = (time.process_time() - stop) / (stop - start)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        rows.append((user / count * 1e9, system / count * 1e9, grad))
    return [rows[0], rows[-1]]


def provided(count: int) -> float:
    """Nanoseconds that the system takes to provide 96 bytes, of as many bytes as so many nodes take, in large pages."""
    memory = mmap.mmap(-1, 96 * count)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    for place in range(0, 96 * count, mmap.PAGESIZE):
        memory[place] = 1
    return (resource.getrusage(resource.RUSAGE_SELF).ru_stime - before) / count * 1e9


def compiled(mg: Any, count: int, rows: int = 4096) -> tuple[float, ...]:
    """Of a network's loss, of about so many nodes with its gradient's: how many are recorded; bytes and ms each.

    And nanoseconds for each and a row, value and gradient, once it is compiled.
    """
    np = importlib.import_module("numpy")
    width = round((count / 6) ** 0.5)
    model = mg.nn.MLP(width, [width, 1], activation="tanh", rng=random.Random(0))
    inputs = [mg.Value(0.5) for _ in range(width)]
    kernel = mg.kernel(model(inputs) ** 2, inputs, model.parameters())
    X = np.random.default_rng(0).normal(size=(rows, width))
    before, start = _resident(), time.process_time()
    kernel.value_and_grad(X)
    compiling, grown = time.process_time() - start, _resident() - before
    times = []
    for _ in range(5):
        start = time.process_time()
        kernel.value_and_grad(X)
        times.append(time.process_time() - start)
    nodes = kernel.stats["recorded"]
    return nodes, grown / nodes, compiling / nodes * 1e3, min(times) / nodes / rows * 1e9


def main() -> None:
    """Print a table for each engine, and one for compiled programs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--only", nargs=2, metavar=("ENGINE", "SHAPE"), help="one row of a table")
    parser.add_argument("--loop", type=int, metavar="COUNT", help="one row of the table of loops")
    parser.add_argument(
        "--provide", type=int, metavar="COUNT", help="what the system takes for the memory of such a loop"
    )
    parser.add_argument("--small", action="store_true", help="a thousand nodes")
    options = parser.parse_args()
    if options.small:
        options.count = 1_000
    if options.only:
        engine, shape = options.only
        print("| {:.0f} | {:.0f} | {:.0f} |".format(*measured(engines.load(engine), SHAPES[shape], options.count)))
        return
    if options.loop:
        first, last = repeated(engines.load("accelerated"), options.loop, 3 if options.small else 10)
        print(("| {:.0f} | {:.0f} | {:.2f} " * 2 + "|").format(*first, *last))
        return
    if options.provide:
        print(f"{provided(options.provide):.0f}")
        return
    for engine in ("pure", "accelerated"):
        print(f"\n**{engine}**\n\n| | bytes | ns to record | ns to sweep |\n|---|---:|---:|---:|")
        for shape in SHAPES:
            command = [sys.executable, "-m", "benchmarks.scale", "--count", str(options.count), "--only", engine, shape]
            row = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"| {shape} {row}", flush=True)
    print("\n**a loop, accelerated**: ns a node to record and sweep it, and `grad` beside them\n")
    print("| nodes | user, at first | system | grad | user, the tenth time | system | grad | system, bare memory |")
    print("|---:" * 8 + "|")
    for count in (1_000,) if options.small else (1_000, 10_000, 100_000, 1_000_000, 10_000_000):
        command = [sys.executable, "-m", "benchmarks.scale", "--loop", str(count), *["--small"] * options.small]
        row = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        command[3:] = ["--provide", str(count)]
        bare = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"| {count:,} {row} {bare} |", flush=True)
    print("\n**compiled**\n\n| recorded | bytes | ms to compile | ns a row |\n|---:|---:|---:|---:|")
    mg = engines.load("accelerated")
    compiled(mg, 100)  # LLVM is loaded
    for count in (500,) if options.small else (1_000, 10_000, 100_000):
        print("| {:.0f} | {:.0f} | {:.3f} | {:.3f} |".format(*compiled(mg, count)))


if __name__ == "__main__":
    main()

"""`python -m benchmarks.loops`: long simulations written as Python loops, compiled, beside the same in C (gcc -O2).

And what the first calls of a compiled function cost, which are not compiled, as a multiple of the function's own time.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import micrograd_bp as mg

START = 0.5, 0.1, 9.8  # angle, velocity, and the square of the frequency


def euler(n: int) -> Callable[..., Any]:
    """The angle of a pendulum after n steps of Euler's method."""

    def run(a: Any, w: Any, k: Any) -> Any:
        for _ in range(n):
            a, w = a + 0.001 * w, w - 0.001 * k * mg.math.sin(a)
        return a

    return run


def runge_kutta(n: int) -> Callable[..., Any]:
    """The same by Runge and Kutta's."""

    def slope(a: Any, w: Any, k: Any) -> tuple[Any, Any]:
        return w, -k * mg.math.sin(a)

    def run(a: Any, w: Any, k: Any) -> Any:
        h = 0.001
        for _ in range(n):
            p1, q1 = slope(a, w, k)
            p2, q2 = slope(a + 0.5 * h * p1, w + 0.5 * h * q1, k)
            p3, q3 = slope(a + 0.5 * h * p2, w + 0.5 * h * q2, k)
            p4, q4 = slope(a + h * p3, w + h * q3, k)
            a = a + h / 6.0 * (p1 + 2.0 * p2 + 2.0 * p3 + p4)
            w = w + h / 6.0 * (q1 + 2.0 * q2 + 2.0 * q3 + q4)
        return a

    return run


def thresholds(x: Any, v: Any, k: Any, c: Any) -> Any:
    """336 steps, in each of which 40 thresholds are asked for."""
    cost = x * 0.0
    for _ in range(336):
        for i in range(40):
            h = 0.05 * i - 1.0
            x, v = x + 0.001 * v, v + 0.001 * (0.01 * mg.math.sin(h * x) - k * x - c * v)
            if x > h:
                cost = cost + (x - h) * 0.01
    return cost + x * x


def seconds(work: Callable[..., Any], point: tuple[Any, ...] = (), times: int = 5) -> float:
    """The best of some runs, with the freeing of what they made."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work(*point)
        best = min(best, time.perf_counter() - start)
    return best


def library(folder: str) -> ctypes.CDLL:
    """The loops in C."""
    target = Path(folder) / "loops.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(target), str(Path(__file__).with_suffix(".c")), "-lm"]
    subprocess.run(command, check=True)
    found = ctypes.CDLL(str(target))
    for name in ("euler", "euler_gradient", "runge_kutta"):
        getattr(found, name).restype = ctypes.c_double
    return found


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loops", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--small", action="store_true", help="a thousand steps")
    options = parser.parse_args()
    mg.jit(lambda x: x * x)(1.0)  # LLVM is loaded
    print("| loop | steps | first call, compiled (s) | a call, a multiple of C |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        c = library(folder)
        start = [*map(ctypes.c_double, START)]
        slopes = (ctypes.c_double * 3)()
        for n in [1_000] if options.small else options.steps:
            gradient = mg.value_and_grad(euler(n), (0, 1, 2))
            for title, function, peer, point in (
                ("Euler", euler(n), c.euler, (n, *start)),
                ("Euler, gradient", gradient, c.euler_gradient, (n, *start, slopes)),
                ("Runge-Kutta", runge_kutta(n), c.runge_kutta, (n, *start)),
            ):
                compiled = mg.jit(function)
                compiled.pays = 0  # it is compiled at once
                first = seconds(compiled, START, 1)
                ratio = seconds(compiled, START) / seconds(peer, point)
                print(f"| {title} | {n:,} | {first:.2f} | {ratio:.2f} |", flush=True)
    print("\n| 336 steps, 40 thresholds | first call | later calls |\n|---|---:|---:|")
    at = 0.5, 0.1, 1.3, 0.1
    slope = mg.value_and_grad(thresholds, (0, 1, 2, 3))
    for title, function, given in (
        ("value, a multiple of the function on Values", thresholds, tuple(map(mg.Value, at))),
        ("gradient, a multiple of the gradient", slope, at),
    ):
        own = seconds(function, given, 3)
        compiled = mg.jit(function)
        first = seconds(compiled, at, 1)
        print(f"| {title} | {first / own:.2f} | {seconds(compiled, at, 3) / own:.2f} |", flush=True)


if __name__ == "__main__":
    main()

"""Fair timing of rivals: in turn, in one process, each after a garbage collection; ratios of the best.

Every benchmark takes --small: the least work that runs all its lines, for the tests.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds a call, over the rounds."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Median over best: 1.0 is a quiet machine."""
        return statistics.median(self.seconds) / self.best


def race(
    rivals: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    least: float = 0.02,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each rival once a round, all of them in every round, each call repeated to last `least` seconds.

    With `least` 0 each is called once a round, and nothing is warmed.

    `clock`: `time.process_time` for rivals of one thread on a machine that does other work as well.
    """
    repeats = dict.fromkeys(rivals, 1)
    for name, run in rivals.items() if least else ():
        run()  # warm: compiled, cached, parameters made
        start = clock()
        run()
        repeats[name] = max(1, round(least / max(clock() - start, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, run in rivals.items():
            gc.collect()
            start = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - start) / repeats[name])
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def races(workloads: Mapping[str, Mapping[str, Callable[[], Callable[[], object]]]], **how: Any) -> None:
    """Race the rivals of each workload and print a table; ImportError while one is made says that it is not here."""
    for title, makers in workloads.items():
        steps, missing = {}, []
        for name, make in makers.items():
            try:
                steps[name] = make()
            except ImportError as error:
                missing.append(f"{name} ({error})")
        timings = race(steps, **how)
        reference = next(iter(timings))
        print(table(title, timings, reference))
        print(f"\nreference: {unit(timings[reference].best)} a call")
        if missing:
            print(f"not here: {'; '.join(missing)}")
        print(flush=True)


def unit(seconds: float) -> str:
    """Seconds in a unit that suits their size."""
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"


def table(title: str, timings: Mapping[str, Timing], reference: str) -> str:
    """One workload as Markdown: every rival's time as a multiple of the reference's."""
    lines = [f"**{title}**", "", "| | times the reference | median / best | rounds |", "|---|---:|---:|---:|"]
    for name, timing in sorted(timings.items(), key=lambda item: item[1].best):
        ratio = timing.best / timings[reference].best
        mark = " (reference)" if name == reference else ""
        lines.append(f"| {name}{mark} | {ratio:.3g} | {timing.spread:.2f} | {len(timing.seconds)} |")
    return "\n".join(lines)

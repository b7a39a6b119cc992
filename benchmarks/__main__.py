"""`python -m benchmarks`: this library beside its peers on the same work, in one process; ratios, not times."""

from __future__ import annotations

import argparse
import platform
import sys

from benchmarks import engines
from benchmarks.memory import bytes_per_node, nanoseconds_per_node
from benchmarks.timing import races
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Run the workloads whose name contains one of the words given (all of them without)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("words", nargs="*", help="only workloads whose name contains one of these; 'nodes' for memory")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the race (default: 7)")
    parser.add_argument("--small", action="store_true", help="one short round, and small graphs")
    options = parser.parse_args()

    def chosen(name: str) -> bool:
        return not options.words or any(word in name for word in options.words)

    print(f"Python {platform.python_version()} on {platform.machine()}. Every rival runs in every round, after a")
    print("garbage collection; the best round counts, median / best tells how quiet the machine was.\n")
    how = {"rounds": 1, "least": 0.0} if options.small else {"rounds": options.rounds}
    races({title: makers for title, makers in WORKLOADS.items() if chosen(title)}, **how)
    if chosen("nodes"):
        nodes((100, 1_000) if options.small else (1_000, 10_000, 100_000, 1_000_000))


def nodes(sizes: tuple[int, ...]) -> None:
    """Bytes and nanoseconds a node on each engine."""
    print("**nodes**: a chain of products and sums, recorded, walked back, freed\n")
    print("| engine | allocated bytes a node | resident bytes a node |", end="")
    print("".join(f" {size:,} nodes |" for size in sizes))
    print("|---" * (3 + len(sizes)) + "|")
    for name in ("pure", "accelerated"):
        try:
            package = engines.load(name)
        except ImportError as error:
            print(f"not here: {error}")
            continue
        allocated, resident = bytes_per_node(package.Value, min(200_000, max(sizes)))
        for collector in (True, False):
            cells = "".join(f" {nanoseconds_per_node(package.Value, size, collector):.0f} ns |" for size in sizes)
            how = "" if collector else ", garbage collector off"
            print(f"| {name}{how} | {allocated:.0f} | {resident:.0f} |{cells}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

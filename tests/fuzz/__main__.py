"""Try random programs: python -m tests.fuzz --programs 100000 --seed 0 --statements floats engines derivatives."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

CHUNK = 500  # programs that Hypothesis writes in one go
ENOUGH = 5  # findings against one statement


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="where to begin (default 0)")
    parser.add_argument("--statements", nargs="+", metavar="NAME", help="which statements to hold (default: all)")
    parser.add_argument("--without", nargs="+", default=[], metavar="FEATURE", help="leave a construct out")
    parser.add_argument("--engine", choices=["accelerated", "pure"], help="which engine to run on")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        os.environ["MICROGRAD_BP_PURE"] = "1" if options.engine == "pure" else ""

    import micrograd_bp as mg  # after the choice of the engine
    from tests.fuzz import statements
    from tests.fuzz.programs import FEATURES, programs

    if options.answer:
        statements.answer(sys.stdin)
        return 0
    if options.engine and mg.engine_name() != options.engine:
        parser.error(f"this is the {mg.engine_name()} engine")
    chosen = options.statements or list(statements.STATEMENTS)
    for name, known in [(name, statements.STATEMENTS) for name in chosen] + [(x, FEATURES) for x in options.without]:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")

    begun, tried, seed, found = time.monotonic(), 0, options.seed, Counter[str]()
    strategy = programs(frozenset(options.without))
    while tried < options.programs and chosen:
        count, finding = statements.search(chosen, strategy, seed, min(CHUNK, options.programs - tried))
        tried += count
        if finding:
            print(f"--- seed {seed}: {finding}\n", flush=True)
            found[finding.name] += 1
            if found[finding.name] == ENOUGH:
                print(f"--- {finding.name} failed {ENOUGH} times and is left out from here on\n", flush=True)
                chosen.remove(finding.name)
        seed += 1
        if tried % 10_000 < CHUNK:
            print(f"{tried} programs after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    rows = ", ".join(f"{name} {count}" for name, count in sorted(statements.checked.items()))
    print(f"{tried} programs in {time.monotonic() - begun:.0f} s on the {mg.engine_name()} engine; rows: {rows}")
    print(f"findings: {dict(found) or 'none'}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

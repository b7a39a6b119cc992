"""What a node costs: bytes (allocated and resident) and time, from 1,000 to 1,000,000 nodes."""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any


def bytes_per_node(Value: Any, nodes: int = 200_000) -> tuple[float, float]:  # noqa: N803 a class
    """(allocated, resident) bytes a node of a chain of multiplications and additions of two Values, after backward."""
    resident = _resident()
    x, y = Value(1.0), Value(0.999)
    chain = x
    for _ in range(nodes // 2):
        chain = chain * y + x
    chain.backward()
    grown = (_resident() - resident) / nodes
    del chain
    tracemalloc.start()
    chain = x
    for _ in range(nodes // 2):
        chain = chain * y + x
    chain.backward()
    allocated = tracemalloc.get_traced_memory()[0] / nodes
    tracemalloc.stop()
    return allocated, grown


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def nanoseconds_per_node(Value: Any, nodes: int, collector: bool) -> float:  # noqa: N803
    """Recording, backward and freeing of a chain, a node, with or without the interpreter's garbage collector."""
    gc.collect()
    if not collector:
        gc.disable()
    try:
        best = float("inf")
        for _ in range(max(3, min(200, 300_000 // nodes))):
            start = time.perf_counter()
            x, y = Value(1.0), Value(0.999)
            chain = x
            for _ in range(nodes // 2):
                chain = chain * y + x
            chain.backward()
            del chain
            best = min(best, time.perf_counter() - start)
    finally:
        gc.enable()
    return best / nodes * 1e9

"""Compiled programs and the memory that they run in: one row, a batch row by row, or sums over a batch."""

from __future__ import annotations

import ctypes
import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp.compiler.emit import CALL, Plan
from micrograd_bp.compiler.machine import Code, host
from micrograd_bp.compiler.program import Program

if TYPE_CHECKING:
    import numpy as np

Column: TypeAlias = tuple[int, int]  # where an input's numbers are: an address, and bytes from row to row
Odd: TypeAlias = tuple[Any, Any]  # arrays: the rows that are not done, and their statuses
_NONE: Odd = ((), ())
# A batch is worked off in blocks of up to a millisecond, whose number and sums do not depend on how many threads
# there are; for less than two of them, a second thread costs more than it brings.
BLOCK = 1_500_000  # operations
ROWS_AT_ONCE = 16384  # at most


@functools.cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, for this process (one that is forked has none of them)."""
    return ThreadPoolExecutor(count, thread_name_prefix="micrograd_bp")


class Scratch:
    """The memory of one call: kernels share nothing, so that several threads may call one at a time."""

    def __init__(self, plan: Plan, inputs: int, parameters: int) -> None:
        import numpy as np

        results, sums = len(plan.results), len(plan.sums)
        sizes = [parameters, sums, max(results, 1), 2 * inputs, ROWS_AT_ONCE // 8, max(results, 1), inputs]
        space = np.zeros(sum(sizes) + plan.scratch_size // 8 + 16)
        at = space.__array_interface__["data"][0]
        self.space = space
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        self.addresses = [at + 8 * start for start in starts]
        views = [space[start : start + size] for start, size in zip(starts, sizes)]
        self.parameters, self.totals = views[0], views[1]
        self.outs, self.table = views[2].view(np.int64), views[3].view(np.int64)
        self.status = views[4].view(np.int8)
        self.row, self.point = views[5], views[6]
        self.shared = -(-(at + 8 * sum(sizes)) // 64) * 64
        self.outs[:results] = self.addresses[5] + 8 * np.arange(results)  # one row's results, side by side
        self.outs[:results] = self.addresses[5] + 8 * np.arange(results)  # one row's results, side by side
        self.one_row = self.call(self.addresses[6], 0, 8, 1)
        self.staged: dict[int, tuple[Any, Any, Any]] = {}

    def call(self, matrix: int, down: int, across: int, n: int, table: int = 0, outs: int = 0, status: int = 0) -> Any:
        """The words of a call."""
        places = self.addresses
        outs, status = outs or places[2], status or places[4]
        words = matrix, down, across, table, n, places[0], outs, status, places[1], 0, self.shared
        block = (ctypes.c_int64 * len(CALL))(*words)
        ctypes.c_double.from_buffer(block, 72).value = 1.0
        return block

    def stage(self, n: int, columns: int) -> tuple[Any, Any, Any]:
        """For small batches of n rows: a matrix to copy them to, the words of the call, and its scale."""
        import numpy as np

        if len(self.staged) > 8:
            self.staged.clear()
        place = np.empty((columns, n))
        words = self.call(place.__array_interface__["data"][0], 8, 8 * n, n)
        self.staged[n] = staged = place.T, words, ctypes.c_double.from_buffer(words, 72)
        return staged


class Native:
    """A program compiled for this machine: results row by row, or sums over a batch."""

    def __init__(
        self,
        program: Program,
        results: Sequence[int],
        sums: Sequence[int],
        guards: Sequence[tuple[int, bool]] = (),
        exact: bool = False,
    ) -> None:
        import numpy as np

        machine = host()
        assert machine is not None
        self.plan = plan = Plan(program, results, sums, guards, exact, machine)
        self.text = plan.text()
        self.code = Code(self.text, plan.level)
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.code.address("kernel"))
        self.calls_python = bool(plan.callbacks)
        self.inputs, self.parameters = len(program.inputs), len(program.parameters)
        self.array, self.count = np.ndarray, len(plan.every) + len(plan.once)
        full = -(-BLOCK // max(1, len(plan.every)))  # rows
        self.block = min(ROWS_AT_ONCE, -(-full // plan.rows) * plan.rows)
        self._idle: list[Scratch] = []

    def scratch(self) -> Scratch:
        try:
            return self._idle.pop()
        except IndexError:
            return Scratch(self.plan, self.inputs, self.parameters)

    def release(self, scratch: Scratch) -> None:
        self._idle.append(scratch)

    def point(self, inputs: Sequence[float], parameters: Any) -> tuple[list[float], int]:
        """The results for one row, and its status."""
        scratch = self.scratch()
        try:
            scratch.point[:] = inputs
            if len(parameters):
                scratch.parameters[:] = parameters
            odd = self.run(scratch.one_row)
            return scratch.row.tolist(), int(scratch.status[0]) if odd else 0
        finally:
            self.release(scratch)

    def rows(self, columns: Sequence[Column], n: int, parameters: Any, out: np.ndarray[Any, Any]) -> Odd:
        """The results of n rows into the rows of `out`, which is contiguous; what is odd: row numbers and statuses."""
        import numpy as np

        starts = range(0, n, self.block)
        base, width = out.__array_interface__["data"][0], 8 * out.shape[1]
        count = len(self.plan.results)

        def block(start: int) -> Odd:
            size = min(self.block, n - start)
            scratch = self.scratch()
            try:
                scratch.parameters[:] = parameters
                scratch.table[:] = self._table(columns, start)
                outs = np.arange(base + 8 * start, base + 8 * start + width * count, width, dtype=np.int64)
                address = outs.__array_interface__["data"][0]
                if not self.run(scratch.call(0, 0, 0, size, scratch.addresses[3], address)):
                    return _NONE
                status = scratch.status[:size]
                odd = np.nonzero(status)[0]
                return odd + start, status[odd].copy()
            finally:
                self.release(scratch)

        parts = [part for part in self._in_threads(block, starts, n) if len(part[0])]
        if not parts:
            return _NONE
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def small_totals(self, matrix: np.ndarray[Any, Any], n: int, parameters: Any, scale: float) -> Any:
        """The sums over the n rows of a small matrix, each times scale, or None where a number was not finite."""
        scratch = self.scratch()
        try:
            if len(scratch.parameters):
                scratch.parameters[:] = parameters
            staged, words, scaled = scratch.staged.get(n) or scratch.stage(n, self.inputs)
            staged[:] = matrix
            scaled.value = scale
            return None if self.run(words) else scratch.totals.copy()
        finally:
            self.release(scratch)

    def totals(self, columns: Sequence[Column], n: int, parameters: Any, again: Callable[[int, int], Any]) -> Any:
        """The sums over n rows, block by block in a fixed order; `again` gives a block's where one is not finite."""
        import numpy as np

        size = n if self.plan.exact else self.block

        def block(start: int) -> Any:
            stop = min(n, start + size)
            scratch = self.scratch()
            try:
                scratch.parameters[:] = parameters
                scratch.table[:] = self._table(columns, start)
                status = np.empty(size, np.int8)
                at = status.__array_interface__["data"][0]
                odd = self.run(scratch.call(0, 0, 0, stop - start, scratch.addresses[3], status=at))
                return again(start, stop) if odd else scratch.totals.copy()
            finally:
                self.release(scratch)

        total = np.zeros(len(self.plan.sums))
        for part in self._in_threads(block, range(0, n, size), n):
            total += part
        return total

    def _table(self, columns: Sequence[Column], start: int) -> list[int]:
        return [address + start * stride for address, stride in columns] + [stride for _, stride in columns]

    def _in_threads(self, block: Callable[[int], Any], starts: range, n: int) -> Iterator[Any]:
        """The blocks' results in order, from as many threads as there are processors where that pays."""
        workers = min(len(starts), os.cpu_count() or 1)
        if workers < 2 or n * len(self.plan.every) < 2 * BLOCK:
            yield from map(block, starts)
            return
        pool = _threads(workers, os.getpid())
        waiting: deque[Future[Any]] = deque()
        for start in starts:  # not all at once: a batch of any size streams through
            waiting.append(pool.submit(block, start))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

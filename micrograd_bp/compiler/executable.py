"""Run compiled programs: for one row of data, for each row of a batch, or summed over a batch."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp.compiler.emit import CALL, Plan
from micrograd_bp.compiler.machine import Code, cores, host
from micrograd_bp.compiler.program import FlatProgram

if TYPE_CHECKING:
    import numpy as np

Column: TypeAlias = tuple[int, int]  # the address of an input's numbers, and the stride in bytes
Odd: TypeAlias = tuple[Any, Any]  # two arrays: the rows of data that could not be computed, and their statuses
_NONE: Odd = ((), ())
# A batch is split into blocks that take up to a millisecond each. The split does not depend on the number of threads,
# so neither does the rounding of sums. Below two blocks a second thread costs more time than it saves.
BLOCK = 1_500_000  # operations
ROWS_AT_ONCE = 16384  # at most


@functools.cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The pool of threads of this process; a forked process makes its own."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "micrograd_bp", initializer=_become_worker)


_thread = threading.local()


def _become_worker() -> None:
    _thread.works = True


class Job:
    """The blocks of a batch, computed by threads while the caller waits and can be interrupted.

    The call returns or raises only after its workers have stopped. An exception may arrive at any time, even during
    that wait, so the job object owns all memory that the workers read and write.
    """

    def __init__(self, plan: Any, block: Callable[[int, int], Any], starts: range, keep: Any) -> None:
        self.plan, self.block, self.starts, self.keep = plan, block, starts, keep
        self.results: list[Any] = [None] * len(starts)
        self.error: BaseException | None = None
        self.word = ctypes.c_int64(0)
        self.stop = ctypes.addressof(self.word)
        self.take = itertools.count().__next__
        # Lists are only appended to, so no lock is needed that an interrupt could leave locked.
        self.entered: list[int] = []
        self.left: list[int] = []
        self.done: list[int] = []
        self.woken: SimpleQueue[None] = SimpleQueue()

    def fail(self, error: BaseException) -> None:
        """Stop the batch; the caller raises the first error."""
        if self.error is None:
            self.error = error
        self.word.value = 1

    def work(self) -> None:
        """Compute blocks until there are none left or the batch is stopped."""
        self.entered.append(1)
        thread, jobs = threading.get_ident(), self.plan.jobs
        before = jobs.get(thread)
        jobs[thread] = self
        try:
            while not self.word.value and (k := self.take()) < len(self.starts):
                self.results[k] = self.block(self.stop, self.starts[k])
                self.done.append(k)
                if not threading.main_thread().is_alive():
                    raise RuntimeError("the interpreter is shutting down: the batch was not finished")
        except BaseException as error:
            self.fail(error)
        finally:
            if before is None:
                del jobs[thread]
            else:
                jobs[thread] = before
            self.left.append(1)
            self.woken.put(None)

    def _settled(self) -> bool:
        if len(self.left) < len(self.entered):
            return False
        return bool(self.word.value) or len(self.done) == len(self.starts)

    def _wait(self) -> None:
        while not self._settled():
            with contextlib.suppress(Empty):
                self.woken.get(timeout=0.05)  # an interrupt may lose the message, hence the timeout

    def run(self, workers: int) -> list[Any]:
        """Compute the blocks with so many threads; returns their results in order."""
        try:
            if getattr(_thread, "works", False):  # called from a worker: no other worker may be free
                self.work()
            else:
                pool = _threads(os.getpid())
                for _ in range(workers):
                    try:
                        pool.submit(contextvars.copy_context().run, self.work)
                    except RuntimeError:  # no new threads: at exit, or at the system's limit
                        self.work()
                self._wait()
        finally:
            self.word.value = 1
            interrupt = None
            while not self._settled():
                try:
                    self._wait()
                except BaseException as error:
                    interrupt = error
            if interrupt is not None:
                raise interrupt
        if self.error is not None:
            raise self.error
        return self.results


class Scratch:
    """The memory of one call. Each call has its own, so that several threads can call a kernel at once."""

    def __init__(self, plan: Plan, inputs: int, parameters: int) -> None:
        import numpy as np

        results, sums = len(plan.results), len(plan.sums)
        sizes = [parameters, sums, max(results, 1), 2 * inputs, ROWS_AT_ONCE // 8, max(results, 1), inputs, 1]
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
        self.outs[:results] = self.addresses[5] + 8 * np.arange(results)  # the results of one row of data, contiguous
        self.one_row = self.call(self.addresses[6], 0, 8, 1)
        self.staged: dict[int, tuple[Any, ...]] = {}

    def call(
        self, matrix: int, down: int, across: int, n: int, table: int = 0, outs: int = 0, status: int = 0, stop: int = 0
    ) -> Any:
        """The argument block of the kernel's function, as 64-bit words."""
        places = self.addresses
        outs, status, stop = outs or places[2], status or places[4], stop or places[7]
        words = matrix, down, across, table, n, places[0], outs, status, places[1], 0, self.shared, stop
        block = (ctypes.c_int64 * len(CALL))(*words)
        ctypes.c_double.from_buffer(block, 72).value = 1.0
        return block

    def stage(self, n: int, columns: int, results: int) -> tuple[Any, ...]:
        """For small batches of n rows: a matrix to copy the data to, the argument block, and the scale in it.

        And where the results, row by row, and the statuses will stand.
        """
        import numpy as np

        if len(self.staged) > 8:
            self.staged.clear()
        place, out, status = np.empty((columns, n)), np.empty((results, n)), np.zeros(n, np.int8)
        at, to, states = [x.__array_interface__["data"][0] for x in (place, out, status)]
        table = to + 8 * n * np.arange(results, dtype=np.int64)
        words = self.call(at, 8, 8 * n, n, outs=table.__array_interface__["data"][0], status=states)
        self.staged[n] = staged = place.T, words, ctypes.c_double.from_buffer(words, 72), out.T, status, table
        return staged


class Native:
    """A program compiled for this machine: results for each row of data, or sums over a batch."""

    def __init__(
        self,
        program: FlatProgram,
        results: Sequence[int],
        sums: Sequence[int],
        guards: Sequence[tuple[int, bool]] = (),
        exact: bool = False,
        single: bool = False,
    ) -> None:
        import numpy as np

        machine = host()
        assert machine is not None
        self.plan = plan = Plan(program, results, sums, guards, exact, machine, single)
        self.text = plan.text()
        self.code = Code(self.text, plan.level, "kernel")
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.code.address)
        self.calls_python = bool(plan.callbacks)
        self.inputs, self.parameters = len(program.inputs), len(program.parameters)
        self.array, self.float = np.ndarray, np.dtype(float)
        self.count = len(plan.every) + len(plan.once)
        full = -(-BLOCK // max(1, plan.operations))  # rows of a block
        self.block = min(ROWS_AT_ONCE, -(-full // plan.rows) * plan.rows)
        self._idle: list[Scratch] = []

    def scratch(self) -> Scratch:
        try:
            return self._idle.pop()
        except IndexError:
            return Scratch(self.plan, self.inputs, self.parameters)

    def release(self, scratch: Scratch) -> None:
        self._idle.append(scratch)

    def point(self, inputs: Sequence[float], parameters: Any, stop: int = 0) -> tuple[list[float], int]:
        """The results for one row of data, and its status. stop: the address of the word that stops the call."""
        if self.calls_python and not stop:
            job = Job(self.plan, lambda stop, _: self.point(inputs, parameters, stop), range(1), None)
            done: tuple[list[float], int] = job.run(1)[0]
            return done
        scratch = self.scratch()
        try:
            scratch.point[:] = inputs
            if len(parameters):
                scratch.parameters[:] = parameters
            odd = self.run(scratch.one_row if not stop else scratch.call(scratch.addresses[6], 0, 8, 1, stop=stop))
            return scratch.row.tolist(), int(scratch.status[0]) if odd else 0
        finally:
            self.release(scratch)

    def rows(
        self, columns: Sequence[Column], n: int, parameters: Any, out: np.ndarray[Any, Any], keep: Any = None
    ) -> Odd:
        """Compute n rows of data into `out`, contiguous, with a row for each result; returns the rows that failed.

        keep: the object that owns the memory of the columns.
        """
        import numpy as np

        base, width = out.__array_interface__["data"][0], 8 * out.shape[1]
        count = len(self.plan.results)

        def block(word: int, start: int) -> Odd:
            size = min(self.block, n - start)
            scratch = self.scratch()
            try:
                scratch.parameters[:] = parameters
                scratch.table[:] = self._table(columns, start)
                outs = np.arange(base + 8 * start, base + 8 * start + width * count, width, dtype=np.int64)
                address = outs.__array_interface__["data"][0]
                if not self.run(scratch.call(0, 0, 0, size, scratch.addresses[3], address, stop=word)):
                    return _NONE
                status = scratch.status[:size]
                odd = np.nonzero(status)[0]
                return odd + start, status[odd].copy()
            finally:
                self.release(scratch)

        found = self._blocks(block, range(0, n, self.block), n, (keep, out))
        parts = [part for part in found if len(part[0])]
        if not parts:
            return _NONE
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def small_totals(self, matrix: np.ndarray[Any, Any], n: int, parameters: Any, scale: float) -> Any:
        """The sums over the n rows of a small matrix, times scale; None if a number was not finite."""
        if self.calls_python:
            return None
        scratch = self.scratch()
        try:
            if len(scratch.parameters):
                scratch.parameters[:] = parameters
            staged, words, scaled, *_ = scratch.staged.get(n) or scratch.stage(n, self.inputs, len(self.plan.results))
            staged[:] = matrix
            scaled.value = scale
            return None if self.run(words) else scratch.totals.copy()
        finally:
            self.release(scratch)

    def both(self, matrix: np.ndarray[Any, Any], parameters: Any, scale: float) -> tuple[Any, Any]:
        """Of a small matrix the results of each row, and the sums times scale; or None, and the statuses of the rows.

        For code that does not call Python.
        """
        n = len(matrix)
        scratch = self.scratch()
        try:
            scratch.parameters[:] = parameters
            found = scratch.staged.get(n) or scratch.stage(n, self.inputs, len(self.plan.results))
            staged, words, scaled, out, status, _ = found
            staged[:] = matrix
            scaled.value = scale
            return (None, status.copy()) if self.run(words) else (out.tolist(), scratch.totals.tolist())
        finally:
            self.release(scratch)

    def totals(
        self, columns: Sequence[Column], n: int, parameters: Any, again: Callable[[int, int], Any], keep: Any = None
    ) -> Any:
        """The sums over n rows, block by block in a fixed order; `again` computes a block whose sums are not finite."""
        import numpy as np

        size = n if self.plan.exact else self.block

        def block(word: int, start: int) -> Any:
            stop = min(n, start + size)
            scratch = self.scratch()
            try:
                scratch.parameters[:] = parameters
                scratch.table[:] = self._table(columns, start)
                status = np.empty(size, np.int8)
                at = status.__array_interface__["data"][0]
                words = scratch.call(0, 0, 0, stop - start, scratch.addresses[3], status=at, stop=word)
                odd = self.run(words)
                return None if odd else scratch.totals.copy()
            finally:
                self.release(scratch)

        total = np.zeros(len(self.plan.sums))
        starts = range(0, n, size)
        for start, part in zip(starts, self._blocks(block, starts, n, keep)):
            total += again(start, min(n, start + size)) if part is None else part
        return total

    def _table(self, columns: Sequence[Column], start: int) -> list[int]:
        return [address + start * stride for address, stride in columns] + [stride for _, stride in columns]

    def _blocks(self, block: Callable[[int, int], Any], starts: range, n: int, keep: Any) -> list[Any]:
        """The results of the blocks in order, computed by as many threads as there are processors if that is faster.

        Code that calls Python never runs in the main thread, where a signal's exception in a callback would be lost;
        nor in several threads at once, since users' rules need not be thread-safe.
        """
        workers = 1 if self.calls_python else min(len(starts), cores())
        big = workers > 1 and n * self.plan.operations >= 2 * BLOCK
        exact = self.plan.exact and bool(self.plan.sums) and n * self.plan.operations >= 2 * BLOCK  # one long block
        if big or exact or self.calls_python:
            return Job(self.plan, block, starts, keep).run(workers)
        return [block(0, start) for start in starts]

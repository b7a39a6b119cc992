"""Locks that a fork does not leave locked for ever in the child."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Lock:
    """As threading.Lock; in a forked process it is free, but for the thread that held it while it forked.

    lost: called in the child where another thread held it, to set right what that one had begun.
    """

    def __init__(self, lost: Callable[[], None] | None = None) -> None:
        self._lost = lost
        self._lock = threading.Lock()
        self._owner = 0  # the thread that holds it
        _locks.add(self)

    def acquire(self, blocking: bool = True, timeout: float = -1.0) -> bool:
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._owner = threading.get_ident()
        return taken

    def release(self) -> None:
        self._owner = 0
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def renew(self) -> None:
        """In a child: free the lock of a thread that is no more."""
        if self._lock.locked() and self._owner != threading.get_ident():
            self._lock = threading.Lock()
            if self._lost is not None:
                self._lost()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

"""Locks that are free in a forked process, even if another thread held them at the fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class Lock:
    """A `threading.Lock` that is free in a forked process, unless the forking thread itself held it.

    lost: called in the child if another thread held it, to undo what that thread had begun.
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
        """In the child: release the lock if the thread that held it does not exist there."""
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

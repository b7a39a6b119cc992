"""Report to a recording of `jit` what happens to Values while a function is being recorded.

RECORDINGS holds the active recording, at most one in a process. Reported are: every node that its thread makes, or that
another thread makes from such nodes; comparisons and roundings, which become guards; exceptions; and reads that cannot
become guards, such as `.data`. Internal code reads `_data` and `_grad`, which is not reported. The accelerated engine
checks RECORDINGS itself; the methods of the reference engine are replaced during a recording, so that they check
nothing at other times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from micrograd_bp._engine import engine
from micrograd_bp._engine.methods import NUMPY_NAMES
from micrograd_bp._engine.operators import as_operand, give_operators
from micrograd_bp._engine.recordings import RECORDINGS, noticed
from micrograd_bp.compiler.locks import Lock
from micrograd_bp.ops import TABLE, Op
from micrograd_bp.value import Value


def _forget() -> None:
    """Called in a forked process, where the thread that was recording does not exist: end its recording."""
    engine.watch(0)
    RECORDINGS.clear()


_one = Lock(_forget)  # one recording at a time


@contextmanager
def watched(recording: Any, wait: float = 0.0) -> Iterator[bool]:
    """Make the recording the active one for the duration; yields False, and does nothing, if another is active.

    wait: how many seconds to wait for the other one; a longer wait could be for a thread that waits for this one.
    """
    if not (_one.acquire(timeout=wait) if wait else _one.acquire(blocking=False)):
        yield False
        return
    try:
        RECORDINGS.append(recording)
        engine.watch(threading.get_ident())
        yield True
    finally:
        engine.watch(0)
        RECORDINGS.clear()
        _one.release()


def _watch(thread: int) -> None:
    """Replace the reference engine's methods by ones that report to the recording; thread 0 restores them."""
    if not _WATCHFUL:
        _WATCHFUL.update(_watchful())
        _PLAIN.update({name: Value.__dict__.get(name, getattr(Value, name)) for name in _WATCHFUL})
    for name, attribute in (_WATCHFUL if thread else _PLAIN).items():
        setattr(Value, name, attribute)


_WATCHFUL: dict[str, Any] = {}
_PLAIN: dict[str, Any] = {}


def _watchful() -> dict[str, Any]:
    """The attributes of Value, by name, in versions that report to the recording."""

    class Methods:
        """Sets attributes of Value, and restores them."""

    give_operators(Methods, _method, _reflected)
    found = {name: x for name, x in vars(Methods).items() if name.startswith("__") and hasattr(x, "op")}
    found |= {op.name: _method(op) for op in TABLE.values() if op.arity == 1}
    found |= {alias: found[name] for alias, name in NUMPY_NAMES.items() if name in found}
    found |= {name: _noticing(name) for name in ("data", "grad", "partials")}
    found["backward"] = _backward
    return found | {"__hash__": _hash, "__init__": _init, "real": property(found["pos"])}


def _method(op: Op) -> Callable[..., Any]:
    def method(self: Value, *others: Any) -> Any:
        operands = [x if isinstance(x, Value) else as_operand(op, x) for x in others]
        return NotImplemented if any(x is NotImplemented for x in operands) else op(self, *operands)

    vars(method)["op"] = op
    return method


def _reflected(op: Op) -> Callable[..., Any]:
    def reflected(self: Value, other: Any) -> Any:
        operand = as_operand(op, other)
        return NotImplemented if operand is NotImplemented else op(operand, self)

    vars(reflected)["op"] = op
    return reflected


def _noticing(name: str) -> Any:
    """A property that reports each read of the attribute, and each assignment to it, to the recording."""
    attribute = Value.__dict__[name]

    def read(self: Value) -> Any:
        noticed(name, self)
        return attribute.__get__(self)

    def write(self: Value, x: Any) -> None:
        noticed(f"an assignment to {name}", self)
        attribute.__set__(self, x)

    return property(read, write if attribute.fset else None, doc=attribute.__doc__)


def _hash(self: Value) -> int:
    noticed("hash()", self)
    return object.__hash__(self)


def _backward(self: Value, seed: float = 1.0) -> None:
    noticed("backward()", self)
    _plain_backward(self, seed)


_plain_init, _plain_backward = Value.__init__, Value.backward


def _init(self: Value, *args: Any, **kwargs: Any) -> None:
    _plain_init(self, *args, **kwargs)
    for recording in RECORDINGS:
        recording.note(self)


if engine.engine_name() == "pure":
    engine.watch = _watch

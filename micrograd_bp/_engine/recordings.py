"""What `jit` and the transforms are recording, and how they are told what happens to a Value meanwhile."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

RECORDINGS: list[Any] = []  # of a function that `jit` records now: one at most; see micrograd_bp.compiler.tracing
# The variables of the functions that transforms and `jit` record now, in all threads: each one's thread and variables.
# No lock, since a fork might leave it locked: an entry is put in, taken out and listed by single operations of a dict.
VARIABLES: dict[object, tuple[int, Any]] = {}
COMPARISONS = (operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge)  # Py_LT to Py_GE in C


def reading(read: Callable[..., Any], operands: tuple[Any, ...], data: list[Any]) -> Any:
    """Return read(*data), for a comparison, bool, int or rounding of the operands.

    The result, or the exception, is reported to the recording of `jit`, which makes a guard of it.
    """
    try:
        result = read(*data)
    except Exception as error:
        for recording in RECORDINGS:
            recording.raised(read, operands, error)
        raise
    if read in COMPARISONS:
        result = bool(result)  # compared with a NumPy number, a float gives a NumPy bool
    for recording in RECORDINGS:
        recording.read(read, operands, result)
    return result


def noticed(what: str, node: Any) -> None:
    """Report to the recording of `jit` a read that cannot become a guard, such as `.data`."""
    for recording in RECORDINGS:
        recording.noticed(what, node)

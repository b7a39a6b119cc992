"""The engine in use: the class of nodes and the walks over graphs, in Python or the same compiled.

The Python is value.py, sweeps.py and flattening.py; the accelerated engine has the same functions in C. Each is chosen
here, when it is imported, and the rest of the package takes them from here.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp import ops
from micrograd_bp._engine.flattening import closed, flat, listening, marked
from micrograd_bp._engine.sweeps import add_to_grads, pushed, read_data, slope_rows, slopes, topological_order

if TYPE_CHECKING:
    from micrograd_bp.value import Value

# fmt: off
__all__ = [
    "add_to_grads", "all_leaves", "closed", "deafen", "engine_name", "flat", "listening", "marked", "pushed",
    "read_data", "slope_rows", "slopes", "topological_order", "variables", "watch",
]
# fmt: on

NODE: Any = None  # the class of nodes, when value.py has been imported


def variables(numbers: Iterable[float]) -> list[Value]:
    """A new leaf for each of the numbers."""
    return list(map(NODE, numbers))


def all_leaves(values: Sequence[Any]) -> bool:
    """Whether all are Values, and none the result of an operation."""
    return all(type(x) is NODE and x.op is None for x in values)


def watch(thread: int) -> None:
    """Report to the recording of `jit` what this thread does to Values; 0: no longer. Replaced by tracing.py."""


def deafen() -> None:
    """Report no further reads to the recording of `jit`, which has been given up."""


def engine_name() -> str:
    """Which Value is in use: the pure Python of value.py, or the same class compiled.

    Returns:
        "pure" or "accelerated". The environment variable MICROGRAD_BP_PURE=1 switches the accelerated one off.

    Example:
        >>> engine_name() in ("pure", "accelerated")
        True
    """
    return "accelerated" if COMPILED else "pure"


def chosen(reference: Any) -> Any:
    """The class of nodes in use: the reference, which value.py defines, or the same compiled."""
    global NODE
    NODE = COMPILED.get("Value", reference)
    if NODE is not reference:
        copy_help(reference, NODE)
    return NODE


def copy_help(reference: Any, compiled: Any) -> None:
    """Give a compiled function, or a class and its methods, the reference's docstring, annotations and signature."""
    if isinstance(reference, type):
        compiled.__doc__, compiled.__signature__ = reference.__doc__, inspect.signature(reference)
        for name, function in vars(reference).items():
            if inspect.isfunction(function) and name in vars(compiled):
                copy_help(function, vars(compiled)[name])
    elif inspect.isfunction(reference) and hasattr(compiled, "__annotations__"):
        compiled.__doc__, compiled.__annotations__ = reference.__doc__, reference.__annotations__
        vars(compiled).update(vars(reference))


def _compiled() -> dict[str, Any]:
    """What the accelerated engine has, by name; nothing where it is not built or is switched off."""
    if not os.environ.get("MICROGRAD_BP_PURE"):
        with contextlib.suppress(ImportError):  # not built: no C compiler, say
            accelerated = importlib.import_module("micrograd_bp._engine.accelerated")
            if accelerated.ops is ops:  # it is there once in a process: a second copy of this package does without
                return dict(accelerated.exports)
    return {}


COMPILED = _compiled()
for _name in set(COMPILED) & set(__all__):
    copy_help(globals()[_name], COMPILED[_name])
    globals()[_name] = COMPILED[_name]

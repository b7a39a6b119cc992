"""Numbers from which no derivative goes back, and a model's outputs without a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp.ops import Op
from micrograd_bp.value import Value

STOP = Op("stop_gradient", "stop", lambda x: x, lambda out, x: (0.0,))


def stop_gradient(x: Any) -> Any:
    """The same numbers as constants: no derivative of any order goes through them, forward or back.

    It is an operation, so that it works in functions that are differentiated or compiled, where `Value.detach` reads
    the number and so ends a recording.

    Args:
        x: A number, a Value, an array, or lists, tuples, dicts and dataclasses of them.

    Returns:
        The same, with a Value for each Value.

    Example:
        >>> import micrograd_bp as mg
        >>> mg.grad(lambda x: x * stop_gradient(x))(3.0)
        3.0
    """
    if isinstance(x, Value):
        return STOP(x)
    entries, kinds, build = trees.taken_apart(x)
    if not any(issubclass(kind, Value) for kind in kinds):
        return x
    return build(iter([STOP(entry) if isinstance(entry, Value) else entry for entry in entries]))


@contextmanager
def no_grad(model: Any = None) -> Iterator[Any]:
    """The model with plain floats for parameters, as they are now: floats out for floats in, no graph, no dropout.

    It is `model.freeze()`, under the name that people look for. Nothing is switched off for the program as a whole: the
    model itself, and other threads, record as ever. To make it takes the time of some fifteen calls of the model; it
    does not follow later updates.

    Args:
        model: An `nn.Module`.

    Returns:
        A context, in which `as plain` gives the frozen model.

    Raises:
        TypeError: It is no module.

    Example:
        >>> from micrograd_bp import nn
        >>> model = nn.MLP(2, [3, 1])
        >>> with no_grad(model) as plain:
        ...     outputs = [plain(x) for x in ([1.0, 2.0], [3.0, 4.0])]
        >>> type(outputs[0])
        <class 'float'>
    """
    freeze = getattr(model, "freeze", None)
    if not callable(freeze):
        what = "a function without derivatives is mg.stop_gradient(f(x)) or f of floats"
        raise TypeError(f"no_grad takes a model, as in `with no_grad(model) as plain: plain(x)`, not {model!r}; {what}")
    yield freeze()

"""Learning-rate schedules, functions from the number of updates made so far to a learning rate; and bounds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from micrograd_bp.ops import number

# For each hyperparameter the least value, and the first value above those allowed.
_BOUNDS = {
    "lr": (0.0, math.inf), "momentum": (0.0, math.inf), "dampening": (-math.inf, math.inf), "eps": (0.0, math.inf),
    "weight_decay": (0.0, math.inf), "beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "alpha": (0.0, 1.0),
}  # fmt: skip


def checked(name: str, value: Any) -> Any:
    """A hyperparameter within its bounds, or a switch."""
    if name in ("nesterov", "centered"):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is True or False, not {value!r}")
        return value
    low, high = _BOUNDS[name]
    if not low <= number(value, name) < high:
        raise ValueError(f"{name} is {value!r}; it is at least {low} and less than {high}")
    return number(value, name)


def whole(name: str, x: int, least: int = 1) -> int:
    """The same whole number; ValueError where it is none, or less than the least."""
    if not isinstance(x, int) or x < least:
        raise ValueError(f"{name} is a whole number, {least} or more, not {x!r}")
    return x


def step_decay(lr: float, every: int, factor: float = 0.1) -> Callable[[int], float]:
    """The schedule lr * factor^(step // every).

    Args:
        lr: The learning rate of the first update.
        every: After how many updates the rate changes, 1 or more.
        factor: What the rate is multiplied by.

    Returns:
        A function from the number of updates made so far to a learning rate.

    Raises:
        ValueError: lr is negative or not finite, or every no whole number from 1 on.

    Example:
        >>> schedule = step_decay(1.0, every=10, factor=0.5)
        >>> schedule(9), schedule(10), schedule(25)
        (1.0, 0.5, 0.25)
    """
    return functools.partial(_step_decay, checked("lr", lr), whole("every", every), factor)


def exponential_decay(lr: float, factor: float) -> Callable[[int], float]:
    """The schedule lr * factor^step.

    Args:
        lr: The learning rate of the first update.
        factor: What the rate is multiplied by at each update.

    Returns:
        A function from the number of updates made so far to a learning rate.

    Raises:
        ValueError: lr is negative or not finite.

    Example:
        >>> exponential_decay(1.0, 0.5)(3)
        0.125
    """
    return functools.partial(_step_decay, checked("lr", lr), 1, factor)


def linear_decay(lr: float, steps: int, end: float = 0.0, warmup: int = 0) -> Callable[[int], float]:
    """The schedule that falls linearly from lr to `end` over a number of steps, and is constant after that.

    Args:
        lr: The largest learning rate, after the warm-up.
        steps: How many updates it takes to come to the end, the warm-up among them.
        end: The last learning rate.
        warmup: How many updates come first in which the rate rises from lr / warmup to lr, fewer than steps.

    Returns:
        A function from the number of updates made so far to a learning rate.

    Raises:
        ValueError: A rate is negative or not finite, or steps or warmup is no such whole number.

    Source:
        Goyal et al., Accurate, large minibatch SGD, 2017 (the warm-up).

    Example:
        >>> schedule = linear_decay(1.0, steps=10, end=0.5)
        >>> schedule(0), schedule(5), schedule(1000)
        (1.0, 0.75, 0.5)
    """
    return _decay(_line, lr, steps, end, warmup)


def cosine_decay(lr: float, steps: int, end: float = 0.0, warmup: int = 0) -> Callable[[int], float]:
    """The schedule that falls from lr to `end` along half a cosine, and is constant after that.

    Args:
        lr: As for `linear_decay`.
        steps: As for `linear_decay`.
        end: As for `linear_decay`.
        warmup: As for `linear_decay`.

    Returns:
        A function from the number of updates made so far to a learning rate.

    Raises:
        ValueError: As for `linear_decay`.

    Source:
        Loshchilov and Hutter, SGDR, 2017, equation 5; Goyal et al., 2017 (the warm-up).

    Example:
        >>> schedule = cosine_decay(1.0, steps=14, warmup=4)
        >>> schedule(0), schedule(3), schedule(9), schedule(14)
        (0.25, 1.0, 0.5, 0.0)
    """
    return _decay(_half_wave, lr, steps, end, warmup)


def _decay(shape: Callable[[float], float], lr: float, steps: int, end: float, warmup: int) -> Callable[[int], float]:
    if whole("warmup", warmup, 0) >= whole("steps", steps):
        raise ValueError(f"warmup ({warmup}) is a part of the steps ({steps})")
    return functools.partial(_warmed, shape, checked("lr", lr), checked("lr", end), warmup, steps)


# At the top of the module, so that a schedule can be pickled.


def _step_decay(lr: float, every: int, factor: float, step: int) -> float:
    return lr * factor ** (step // every)


def _warmed(shape: Callable[[float], float], lr: float, end: float, warmup: int, steps: int, step: int) -> float:
    if step < warmup:
        return lr * (step + 1) / warmup
    return end + (lr - end) * shape(min((step - warmup) / (steps - warmup), 1.0))


def _line(part: float) -> float:
    return 1.0 - part


def _half_wave(part: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * part))

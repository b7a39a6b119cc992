"""Metrics of predictions, and the learning curve as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from micrograd_bp.value import Value

Metric: TypeAlias = Callable[[list[Any], list[Any]], float]


def accuracy(predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """The share of predictions that name the right class.

    A prediction is a list of logits or probabilities, its target the number of the class or such a list; or one logit
    or score, above 0 for the class whose target is above 0 (of 0 and 1, or of -1 and 1).

    >>> accuracy([[0.1, 2.0], [1.0, 0.0]], [1, 1]), accuracy([-3.0, 0.2], [0, 1])
    (0.5, 1.0)
    """
    return sum(map(_right, predictions, targets)) / len(targets)


def _right(prediction: Any, target: Any) -> bool:
    if not isinstance(prediction, list):
        return bool((prediction > 0) == (target > 0))
    return _largest(prediction) == (_largest(target) if isinstance(target, list | tuple) else target)


def _largest(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def curve(numbers: Sequence[float], width: int = 60, height: int = 10) -> str:
    """The numbers as a line in plain characters, for a terminal: a learning curve, say.

    `width` and `height` are those of the plot, in characters. ValueError: none of the numbers is finite.

    >>> print(curve([8.0, 4.0, 2.0, 1.0, 0.5, 0.0], width=6, height=4))
     8 |*
       | *
       |  *
     0 |   ***
       +------
        1    6
    """
    count = min(width, len(numbers))
    columns = [numbers[i * len(numbers) // count : (i + 1) * len(numbers) // count] for i in range(count)]
    means = [math.fsum(column) / len(column) for column in columns]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        raise ValueError("a curve takes finite numbers")
    low, high = min(finite), max(finite)
    step = (high - low) / (height - 1) or 1.0
    levels = [round((mean - low) / step) if math.isfinite(mean) else -1 for mean in means]
    names = {height - 1: f"{high:.3g}", 0: f"{low:.3g}"}
    margin = max(map(len, names.values())) + 1
    lines = [
        f"{names.get(level, ''):>{margin}} |{''.join('*' if at == level else ' ' for at in levels)}".rstrip()
        for level in reversed(range(height))
    ]
    lines.append(f"{'':{margin}} +{'-' * count}")
    last = str(len(numbers)) if count > 1 else ""
    lines.append(f"{'':{margin}}  1{last:>{max(count, len(last) + 2) - 1}}".rstrip())
    return "\n".join(lines)


def plain(x: Any) -> Any:
    """A prediction as plain numbers."""
    return x.data if isinstance(x, Value) else [plain(part) for part in x] if isinstance(x, list | tuple) else x


def measure(metrics: Mapping[str, Metric], predictions: list[Any], targets: list[Any]) -> dict[str, float]:
    return {name: float(metric(predictions, targets)) for name, metric in metrics.items()}

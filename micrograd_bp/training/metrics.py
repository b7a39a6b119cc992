"""Metrics of predictions, and the learning curve as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from micrograd_bp.value import Value

Metric: TypeAlias = Callable[[list[Any], list[Any]], float]


def accuracy(predictions: Sequence[Any], targets: Sequence[Any], threshold: float = 0.0) -> float:
    """The share of predictions that name the right class.

    Args:
        predictions: For every row a list of logits or probabilities, one for each class; or one logit or score, which
            names the second of two classes where it lies above the threshold.
        targets: The number of each row's class, or a list of probabilities of which the largest counts; with one logit
            a row 0 and 1, or -1 and 1.
        threshold: 0 for logits and scores, 0.5 for probabilities, as those of a model that ends in a sigmoid.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: There are no rows, or not as many targets as predictions.

    Example:
        >>> accuracy([[0.1, 2.0], [1.0, 0.0]], [1, 1]), accuracy([-3.0, 0.2], [0, 1])
        (0.5, 1.0)
        >>> accuracy([0.3, 0.8], [0, 1], threshold=0.5)
        1.0
    """
    named = _named(predictions, targets, threshold)
    return sum(guess == true for guess, true in named) / len(named)


def confusion_matrix(
    predictions: Sequence[Any], targets: Sequence[Any], classes: int | None = None, threshold: float = 0.0
) -> list[list[int]]:
    """The number of rows of each class (a row of the matrix) predicted to be of each class (a column).

    Args:
        predictions: As for `accuracy`.
        targets: As for `accuracy`.
        classes: How many there are; by default as many as are met.
        threshold: As for `accuracy`.

    Returns:
        A list of counts for each class.

    Raises:
        ValueError: As for `accuracy`, or a class is met that there is not.

    Example:
        >>> confusion_matrix([[0.1, 2.0], [1.0, 0.0], [0.0, 1.0]], [1, 1, 0])
        [[0, 1], [1, 1]]
    """
    named = _named(predictions, targets, threshold)
    size = classes or max(max(pair) for pair in named) + 1
    counts = [[0] * size for _ in range(size)]
    for guess, true in named:
        counts[true][guess] += 1
    return counts


def precision(predictions: Sequence[Any], targets: Sequence[Any], threshold: float = 0.0) -> float:
    """The share of the rows predicted to be of a class that are of it.

    Args:
        predictions: As for `accuracy`.
        targets: As for `accuracy`.
        threshold: As for `accuracy`.

    Returns:
        The mean over the classes ("macro"), 0 for one that no row was taken for; with one logit a row, that of the
        second class.

    Raises:
        ValueError: As for `accuracy`.

    Example:
        >>> precision([3.0, 0.2, -1.0, 1.0], [1, 0, 1, 1]), precision([[2.0, 1.0], [0.0, 1.0], [0.0, 2.0]], [0, 0, 1])
        (0.6666666666666666, 0.75)
    """
    return _over_classes(predictions, targets, threshold, lambda right, taken, there: _share(right, taken))


def recall(predictions: Sequence[Any], targets: Sequence[Any], threshold: float = 0.0) -> float:
    """The share of the rows of a class that are predicted to be of it.

    Args:
        predictions: As for `accuracy`.
        targets: As for `accuracy`.
        threshold: As for `accuracy`.

    Returns:
        The mean over the classes ("macro"), 0 for one that has no rows; with one logit a row, that of the second class.

    Raises:
        ValueError: As for `accuracy`.

    Example:
        >>> recall([3.0, 0.2, -1.0, 1.0], [1, 0, 1, 1]), recall([[2.0, 1.0], [0.0, 1.0], [0.0, 2.0]], [0, 0, 1])
        (0.6666666666666666, 0.75)
    """
    return _over_classes(predictions, targets, threshold, lambda right, taken, there: _share(right, there))


def f1(predictions: Sequence[Any], targets: Sequence[Any], threshold: float = 0.0) -> float:
    """The harmonic mean of precision and recall.

    Args:
        predictions: As for `accuracy`.
        targets: As for `accuracy`.
        threshold: As for `accuracy`.

    Returns:
        The mean over the classes ("macro"); with one logit a row, that of the second class.

    Raises:
        ValueError: As for `accuracy`.

    Example:
        >>> f1([3.0, 0.2, -1.0, 1.0], [1, 0, 1, 1])
        0.6666666666666666
    """
    return _over_classes(predictions, targets, threshold, lambda right, taken, there: _share(2 * right, taken + there))


def r2(predictions: Sequence[Any], targets: Sequence[Any]) -> float:
    """R², the share of the targets' variance that the predictions explain: 1 - sum (y - t)^2 / sum (t - mean t)^2.

    Args:
        predictions: For every row a number, or a list of some.
        targets: The same of what is right.

    Returns:
        A number up to 1, the mean over the columns where rows are lists. Of targets that are all the same it is 1
        where the predictions are all right, and 0 otherwise.

    Raises:
        ValueError: There are not as many targets as predictions.

    Example:
        >>> r2([1.0, 2.0, 3.5], [1.0, 2.0, 3.0])
        0.875
    """
    guesses, truths = (
        list(zip(*[x if isinstance(x, list | tuple) else [x] for x in y])) for y in (predictions, targets)
    )
    return math.fsum(map(_r2, guesses, truths)) / len(truths)


def _r2(guesses: Sequence[float], truths: Sequence[float]) -> float:
    mean = math.fsum(truths) / len(truths)
    left = math.fsum((y - t) ** 2 for y, t in zip(guesses, truths, strict=True))
    total = math.fsum((t - mean) ** 2 for t in truths)
    return 1.0 - left / total if total else float(not left)


def _named(predictions: Sequence[Any], targets: Sequence[Any], threshold: float) -> list[tuple[int, int]]:
    """For each row the predicted class and the right one."""
    if len(predictions) != len(targets):
        raise ValueError(f"{len(predictions)} predictions, but {len(targets)} targets")
    if not len(targets):
        raise ValueError("a metric of no rows is not defined")
    named = []
    for guess, true in zip(predictions, targets):
        if isinstance(guess, list) and len(guess) > 1:
            named.append((_largest(guess), _largest(true) if isinstance(true, list | tuple) else int(true)))
        else:
            score, side = (x[0] if isinstance(x, list | tuple) else x for x in (guess, true))
            named.append((int(score > threshold), int(side > 0)))
    return named


def _over_classes(
    predictions: Sequence[Any], targets: Sequence[Any], threshold: float, part: Callable[[int, int, int], float]
) -> float:
    """The mean over classes of part(right, predicted, existing), counts of rows; of one logit, the second class's."""
    counts = confusion_matrix(predictions, targets, None, threshold)
    single = not (isinstance(predictions[0], list) and len(predictions[0]) > 1)
    counts = [[*row, 0] for row in counts] + [[0, 0]] if single and len(counts) == 1 else counts
    met = [1] if single else [k for k in range(len(counts)) if any(counts[k]) or any(row[k] for row in counts)]
    parts = [part(counts[k][k], sum(row[k] for row in counts), sum(counts[k])) for k in met]
    return math.fsum(parts) / len(parts)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _largest(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def curve(numbers: Sequence[float], width: int = 60, height: int = 10) -> str:
    """A line plot of the numbers in plain characters, for a terminal: a learning curve, say.

    Args:
        numbers: A number for each epoch.
        width: Of the plot, in characters.
        height: Of the plot, in characters.

    Returns:
        Lines of text.

    Raises:
        ValueError: None of the numbers is finite.

    Example:
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

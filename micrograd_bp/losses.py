"""Losses, for one sample or for a batch: (prediction, target) -> a Value, or a float where all are floats.

A prediction is a number, a list of numbers, or, for a batch, a list of those. The target has the same shape, except for
`cross_entropy`.

>>> from micrograd_bp import Value
>>> logits = [Value(1.0), Value(0.0), Value(-1.0)]
>>> cross_entropy(logits, 0).backward()
>>> [round(logit.grad, 4) for logit in logits]
[-0.3348, 0.2447, 0.09]
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from micrograd_bp import ops
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Loss, Numbers, Predictions, Scalar


def _loss(function: Callable[..., Any]) -> Loss:
    """The function itself, with the type of a loss."""
    return function


@_loss
def mse(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """The mean squared error: (y - t)^2 for each number y of the prediction and t of the target.

    Args:
        prediction: A number, a list of numbers, or a list of lists for a batch.
        target: Numbers in the same shape.
        reduction: "mean" over all terms, "sum" of them, or "none".

    Returns:
        One number: a Value where a Value is among the arguments, else a float. With "none", a term for each number, in
        the shape of the prediction.

    Raises:
        ValueError: The shapes of prediction and target differ, the reduction is unknown, or it is a mean of nothing.

    Example:
        >>> mse([1.0, 2.0], [1.0, 4.0])
        2.0
    """
    return _reduced(_terms("mse", _squared, prediction, target), reduction)


@_loss
def sum_of_squares(prediction: Any, target: Any, reduction: str = "sum") -> Any:
    """Half the sum of squares, 1/2 sum_k (y_k - t_k)^2, whose derivative is y - t.

    Args:
        prediction: A number, a list of numbers, or a list of lists for a batch.
        target: Numbers in the same shape.
        reduction: "sum" over everything, "mean" for that sum divided by the length of the (outer) list, or "none".

    Returns:
        One number: a Value where a Value is among the arguments, else a float. With "none", the half sum of each entry
        of the (outer) list.

    Raises:
        ValueError: As in `mse`.

    Source:
        Bishop, Pattern Recognition and Machine Learning, 2006, equation 5.14.

    Example:
        >>> sum_of_squares([1.0, 2.0], [1.0, 4.0])
        2.0
        >>> sum_of_squares([[1.0, 2.0], [0.0, 0.0]], [[1.0, 4.0], [1.0, 1.0]], reduction="mean")
        1.5
    """
    squares = _terms("sum_of_squares", _squared, prediction, target)
    if reduction == "none" and isinstance(squares, list):
        return [_total(_flat(square)) * 0.5 for square in squares]
    half = _total(_flat(squares)) * 0.5
    return half / len(squares) if reduction == "mean" and isinstance(squares, list) else _reduced(half, reduction)


@_loss
def hinge(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """The max-margin loss: max(0, 1 - t y) for each score y and its class t, -1 or 1.

    Args:
        prediction: A score, a list of scores, or a list of lists for a batch.
        target: The classes, -1 or 1, in the same shape.
        reduction: "mean" over all terms, "sum" of them, or "none".

    Returns:
        As `mse`.

    Raises:
        ValueError: A target is neither -1 nor 1; or as in `mse`.

    Source:
        Cortes and Vapnik, Support-vector networks, 1995.

    Example:
        >>> hinge([0.5, 3.0], [1, 1])
        0.25
    """
    return _reduced(_terms("hinge", _margin, prediction, target), reduction)


@_loss
def binary_cross_entropy(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """The cross-entropy, in nats, of a probability t and of sigmoid(z) for each logit z: softplus(z) - t z.

    Args:
        prediction: A logit (the sigmoid is part of the loss), a list of logits, or a list of lists for a batch.
        target: Probabilities of the class, 0 to 1, in the same shape.
        reduction: "mean" over all terms, "sum" of them, or "none".

    Returns:
        As `mse`.

    Raises:
        ValueError: A target lies outside 0 to 1; or as in `mse`.

    Source:
        Bishop, Pattern Recognition and Machine Learning, 2006, equation 5.21, in logits: no overflow.

    Example:
        >>> binary_cross_entropy(0.0, 1) == math.log(2.0)
        True
        >>> binary_cross_entropy([1000.0, -1000.0], [1, 1])
        500.0
    """
    return _reduced(_terms("binary_cross_entropy", _bernoulli, prediction, target), reduction)


@_loss
def cross_entropy(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """The cross-entropy, in nats, of the target and softmax(z), for a list of logits z, one for each class.

    Args:
        prediction: The logits of one sample (the softmax is part of the loss), two or more, or a list of such lists.
        target: The number of the class, from 0, or a probability for every class; for a batch, a list of these.
        reduction: "mean" over the samples, "sum" of their losses, or "none".

    Returns:
        One number: a Value where a Value is among the arguments, else a float. With "none", a list with one for each
        sample.

    Raises:
        ValueError: There is no such class, the probabilities are negative or do not add up to 1, the lengths differ,
            or the reduction is unknown.

    Source:
        Bishop, Pattern Recognition and Machine Learning, 2006, equation 5.24, in logits: no overflow.

    Example:
        >>> cross_entropy([0.0, 0.0], 1) == math.log(2.0)
        True
        >>> cross_entropy([[1000.0, -1000.0], [0.0, 1000.0]], [1, [0.0, 1.0]], reduction="none")
        [2000.0, 0.0]
    """
    if not _is_list(prediction) or not len(prediction):
        raise ValueError(f"cross_entropy: the prediction is a list of logits, one a class, not {prediction!r}")
    if not _is_list(prediction[0]):
        return _reduced(_categorical(prediction, target), reduction)
    _same_length("cross_entropy", prediction, target)
    return _reduced([_categorical(logits, t) for logits, t in zip(prediction, target)], reduction)


@overload
def huber(
    prediction: Predictions, target: Any, reduction: Literal["mean", "sum"] = "mean", delta: float = 1.0
) -> Value: ...
@overload
def huber(
    prediction: Numbers, target: Numbers, reduction: Literal["mean", "sum"] = "mean", delta: float = 1.0
) -> float: ...
@overload
def huber(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any: ...
def huber(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """Huber's loss: (y - t)^2 / 2 where |y - t| is at most delta, and delta (|y - t| - delta / 2) beyond.

    Args:
        prediction: A number, a list of numbers, or a list of lists for a batch.
        target: Numbers in the same shape.
        reduction: "mean" over all terms, "sum" of them, or "none".
        delta: Where the loss turns from a square into a straight line, in the units of the prediction; positive.

    Returns:
        As `mse`.

    Raises:
        ValueError: delta is not positive; or as in `mse`.

    Source:
        Huber, Robust estimation of a location parameter, 1964.

    Example:
        >>> huber([0.5, 3.0], [0.0, 0.0], reduction="none")
        [0.125, 2.5]
    """
    if not delta > 0.0:
        raise ValueError(f"huber: delta is a positive number, not {delta!r}")
    return _reduced(_terms("huber", functools.partial(_bounded, delta), prediction, target), reduction)


@overload
def l1_penalty(parameters: Iterable[Value], strength: float = 1.0) -> Value: ...
@overload
def l1_penalty(parameters: Iterable[float], strength: float = 1.0) -> float: ...
def l1_penalty(parameters: Iterable[Scalar], strength: float = 1.0) -> Any:
    """The penalty strength * sum |w|, to be added to a loss.

    Args:
        parameters: The weights w.
        strength: The factor, in units of the loss over those of a weight.

    Returns:
        A Value where the weights are Values, else a float.

    Source:
        Tibshirani, Regression shrinkage and selection via the lasso, 1996.

    Example:
        >>> l1_penalty([3.0, -4.0], 0.5)
        3.5
    """
    return _total([abs(w) for w in parameters]) * strength


@overload
def l2_penalty(parameters: Iterable[Value], strength: float = 1.0) -> Value: ...
@overload
def l2_penalty(parameters: Iterable[float], strength: float = 1.0) -> float: ...
def l2_penalty(parameters: Iterable[Scalar], strength: float = 1.0) -> Any:
    """The penalty strength / 2 * sum w^2, to be added to a loss: its gradient is the weight decay of `optim.SGD`.

    Args:
        parameters: The weights w; biases are usually left out.
        strength: The factor, in units of the loss over those of a weight squared.

    Returns:
        A Value where the weights are Values, else a float.

    Source:
        Bishop, Pattern Recognition and Machine Learning, 2006, equation 5.112.

    Example:
        >>> from micrograd_bp.nn import MLP
        >>> model = MLP(2, [3, 1])
        >>> weights = [p for name, p in model.named_parameters() if not name.endswith(".b")]
        >>> l2_penalty(weights, 0.1) > 0.0
        True
        >>> l2_penalty([3.0, -4.0])
        12.5
    """
    return _total([w * w for w in parameters]) * (0.5 * strength)


@overload
def softmax(logits: Sequence[Value]) -> list[Value]: ...
@overload
def softmax(logits: Sequence[float]) -> list[float]: ...
def softmax(logits: Sequence[Scalar]) -> list[Any]:
    """The probabilities exp(z_k) / sum_j exp(z_j) of a list of logits z, without overflow.

    It does not branch on the largest logit: a compiled program would keep the branch.

    Args:
        logits: The logits of one sample, one for each class.

    Returns:
        As many probabilities, Values where the logits are Values; they add up to 1.

    Raises:
        ValueError: There are no logits.

    Source:
        Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.62, divided by the largest power.

    Example:
        >>> softmax([1000.0, 1000.0])
        [0.5, 0.5]
    """
    top = _largest(logits)
    powers = [_call(ops.exp, logit - top) for logit in logits]
    total = _total(powers)
    return [power / total for power in powers]


@overload
def log_softmax(logits: Sequence[Value]) -> list[Value]: ...
@overload
def log_softmax(logits: Sequence[float]) -> list[float]: ...
def log_softmax(logits: Sequence[Scalar]) -> list[Any]:
    """The logarithms of the probabilities of logits z, z_k - log sum_j exp(z_j), without overflow.

    Args:
        logits: The logits of one sample, one for each class.

    Returns:
        As many numbers, 0 or less, Values where the logits are Values.

    Raises:
        ValueError: There are no logits.

    Source:
        The logarithm of `softmax`.

    Example:
        >>> log_softmax([1000.0, 0.0])
        [0.0, -1000.0]
    """
    top = _largest(logits)
    total = _call(ops.log, _total([_call(ops.exp, logit - top) for logit in logits]))
    return [logit - top - total for logit in logits]


def one_hot(target: int, classes: int) -> list[float]:
    """A class as a list of probabilities, one for every class: 1 for its own, 0 for the others.

    Args:
        target: The number of the class, from 0.
        classes: How many classes there are.

    Returns:
        A list of so many floats.

    Raises:
        ValueError: There is no such class.

    Example:
        >>> one_hot(1, 3)
        [0.0, 1.0, 0.0]
    """
    index = _class(target, classes)
    return [1.0 if k == index else 0.0 for k in range(classes)]


# --- the terms ----------------------------------------------------------------------------------------------------


def _squared(y: Any, t: Any) -> Any:
    difference = y - t
    return difference * difference


def _margin(y: Any, t: Any) -> Any:
    if not isinstance(t, Value) and t not in (-1, 1):
        raise ValueError(f"hinge: a target is -1 or 1, not {t!r}")
    return _call(ops.relu, 1.0 - y * t)


def _bernoulli(z: Any, t: Any) -> Any:
    if not isinstance(t, Value) and not 0 <= t <= 1:
        raise ValueError(f"binary_cross_entropy: a target is a probability, 0 to 1, not {t!r}")
    return _call(ops.softplus, z) - z * t


def _bounded(delta: float, y: Any, t: Any) -> Any:
    difference = y - t
    inside = ops.minimum(ops.maximum(difference, -delta), delta)
    return inside * (difference - inside * 0.5)


def _categorical(logits: Sequence[Any], target: Any) -> Any:
    if len(logits) < 2:
        raise ValueError("cross_entropy takes a logit for every class, two or more; binary_cross_entropy takes one")
    if not _is_list(target):
        return _surprise(logits, _class(target, len(logits)))
    _same_length("cross_entropy", logits, target)
    weights = list(target)
    if not any(isinstance(t, Value) for t in weights):
        if min(weights) < 0 or not math.isclose(total := math.fsum(weights), 1.0, abs_tol=1e-6):
            sign = "has a negative probability" if min(weights) < 0 else f"adds up to {total}"
            raise ValueError(f"cross_entropy: target {weights!r} is no distribution: it {sign}")
        if max(weights) == total == 1:
            return _surprise(logits, weights.index(1))
    # A plain probability of 0 leaves no node, and no 0 * -inf.
    chosen = [z * t for z, t in zip(logits, weights) if isinstance(t, Value) or t]
    return functools.reduce(ops.logaddexp, logits) - _total(chosen)


def _surprise(logits: Sequence[Any], index: int) -> Any:
    """-log of the class's probability, as log(1 + sum_j exp(z_j - z_index)), pair by pair.

    It neither overflows nor cancels where the probability is nearly 1, and does not branch on the largest logit, as a
    compiled program would keep the branch.
    """
    rest = [z - logits[index] for k, z in enumerate(logits) if k != index]
    return functools.reduce(ops.logaddexp, rest, 0.0)


def _class(target: Any, classes: int) -> int:
    try:
        index = operator.index(target)
    except TypeError:
        raise ValueError(f"a class is a whole number, 0 to {classes - 1}, not {target!r}") from None
    if not 0 <= index < classes:
        raise ValueError(f"a class is a whole number, 0 to {classes - 1}, not {target!r}")
    return index


# --- shapes -------------------------------------------------------------------------------------------------------


def _call(op: ops.Op, x: Any) -> Any:
    """op(x); for a Value by its method, which is quicker."""
    return getattr(x, op.name)() if isinstance(x, Value) else op(x)


def _largest(logits: Sequence[Any]) -> Any:
    """The largest of the logits, as a node if there are Values: a compiled program would keep a branch."""
    if not len(logits):
        raise ValueError("softmax takes a list of logits, one a class; it is empty")
    if any(isinstance(z, Value) for z in logits):
        return functools.reduce(ops.maximum, logits)
    return max(logits)


def _is_list(x: Any) -> bool:
    return isinstance(x, list | tuple) or hasattr(x, "__len__")


def _same_length(name: str, prediction: Any, target: Any) -> None:
    if not _is_list(target):
        raise ValueError(f"{name}: {len(prediction)} predictions, but the target is {target!r}")
    if len(prediction) != len(target):
        raise ValueError(f"{name}: {len(prediction)} predictions, but {len(target)} targets")


def _terms(name: str, term: Callable[[Any, Any], Any], prediction: Any, target: Any) -> Any:
    """The term of every number, in the shape of the prediction."""
    if not _is_list(prediction):
        if _is_list(target):
            raise ValueError(f"{name}: one prediction, but {len(target)} targets")
        return term(prediction, target)
    _same_length(name, prediction, target)
    return [_terms(name, term, y, t) for y, t in zip(prediction, target)]


def _reduced(terms: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"a loss's reduction is mean, sum or none, not {reduction!r}")
    if reduction == "none" or not isinstance(terms, list):
        return terms
    flat = _flat(terms)
    if reduction == "mean" and not flat:
        raise ValueError("the mean over no predictions is not defined")
    return _total(flat) if reduction == "sum" or len(flat) == 1 else _total(flat) / len(flat)


def _flat(terms: Any) -> list[Any]:
    if not isinstance(terms, list):
        return [terms]
    return [number for term in terms for number in _flat(term)] if any(isinstance(t, list) for t in terms) else terms


def _total(terms: list[Any]) -> Any:
    """The sum, without a node for the 0 that sum() starts with."""
    return functools.reduce(operator.add, terms) if terms else 0.0

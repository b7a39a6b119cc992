"""scikit-learn's interface: a classifier and a regressor for pipelines, grid search and cross-validation.

It needs scikit-learn (`pip install 'micrograd-bp[sklearn]'`) and is imported by its name, `micrograd_bp.estimators`.

>>> from micrograd_bp import datasets
>>> flowers = datasets.iris()
>>> model = MLPClassifier(hidden=(8,), random_state=0).fit(flowers.X, flowers.y)
>>> model.score(flowers.X, flowers.y) > 0.95
True
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from micrograd_bp import datasets, losses, nn, optim
from micrograd_bp.compiler import kernel
from micrograd_bp.training import History
from micrograd_bp.value import Value

try:
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"{error}; for the estimators: pip install 'micrograd-bp[sklearn]'") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


STEPS, LEAST = 600, 20  # with epochs="auto": steps of training at least, and epochs at least


class _MLP(BaseEstimator):  # type: ignore[misc, unused-ignore]  # scikit-learn is not typed
    """The base of both estimators: settings, a network with standardised inputs, and its training."""

    def __init__(
        self,
        hidden: Sequence[int] = (32,),
        *,
        activation: nn.Activation = "relu",
        epochs: int | str = "auto",
        batch_size: int | None = 64,
        lr: float = 0.02,
        weight_decay: float = 0.3,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state

    def _begin(self, rows: NDArray[Any], outputs: int, classes: Sequence[Any], weights: NDArray[Any] | None) -> Any:
        """A new network for these rows, and the source of randomness."""
        if not isinstance(self.hidden, Sequence) or isinstance(self.hidden, str):
            raise TypeError(f"hidden is a list of the layers' sizes, ({self.hidden!r},) say, not {self.hidden!r}")
        for name in ("epochs", "batch_size", "patience"):
            count = getattr(self, name)
            free = (name, count) in (("batch_size", None), ("epochs", "auto"))
            if not free and not (isinstance(count, int | np.integer) and count >= 1):
                raise ValueError(f"{name} is a whole number, 1 or more, not {count!r}")
        self._random = check_random_state(self.random_state)
        rng = random.Random(int(self._random.randint(2**31)))
        sizes = [*self.hidden, outputs]
        init = "he_uniform" if self.activation == "relu" else "xavier_uniform"
        self._network = nn.MLP(rows.shape[1], sizes, activation=self.activation, init=init, rng=rng)
        for neuron in self._network.layers[-1].neurons:  # outputs start small, whatever the activation
            for w in neuron.w:
                w.data *= 0.5
        self._scaling = nn.Standardize(*_statistics(rows, weights))
        self._memory: tuple[Any, ...] | None = None
        names = [str(name) for name in getattr(self, "feature_names_in_", [f"x{k}" for k in range(rows.shape[1])])]
        self._names = nn.Names(names, [str(x) for x in classes])

    def _compile(self, loss: Callable[[Any, Any], Any]) -> None:
        """The loss of one row with its gradient, and the outputs, compiled for batches."""
        inputs = [Value(0.1) for _ in range(self.n_features_in_)]
        outputs = self._network.forward(inputs)
        targets = [Value(1.0 / len(outputs)) for _ in outputs]
        error = loss(outputs, targets) if len(outputs) > 1 else loss(outputs[0], targets[0])
        self._loss = kernel(error, [*inputs, *targets], self._network.parameters())
        self._values = kernel(outputs, inputs, self._network.parameters())

    def _train(
        self, rows: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None, epochs: Any, labels: Any = None
    ) -> None:
        """`epochs` passes of AdamW over the batches, its rate decaying along half a cosine; of one pass, constant."""
        batch = pairs = np.hstack([self._scaled(rows), targets])
        held = None
        if self.early_stopping and epochs != 1:
            share, seed = self.validation_fraction, int(self._random.randint(2**31))
            order = np.arange(len(pairs))
            kept, out = train_test_split(order, test_size=share, random_state=seed, stratify=labels)
            held = pairs[out], None if weights is None else weights[out]
            pairs, weights = pairs[kept], None if weights is None else weights[kept]
        size = len(pairs) if self.batch_size is None else min(int(self.batch_size), len(pairs))
        batches = -(-len(pairs) // size)
        epochs = max(LEAST, -(-STEPS // batches)) if epochs == "auto" else epochs
        steps = epochs * batches
        rate = optim.cosine_decay(self.lr, steps) if epochs > 1 else lambda step: self.lr
        decay = optim.AdamW([Value(0.0)], lr=self.lr, weight_decay=self.weight_decay).weight_decay  # checked
        point = np.array([x.data for x in self._network.parameters()])
        mean, square, step = self._memory or (np.zeros_like(point), np.zeros_like(point), 0)
        start, best, waited = step, None, 0
        for _ in range(epochs):
            order, total = self._random.permutation(len(pairs)), 0.0
            for first in range(0, len(pairs), size):
                chosen = order[first : first + size]
                batch = pairs[chosen]
                error, slopes = self._error(batch, point, None if weights is None else weights[chosen])
                total += error * len(chosen)
                now = rate(step - start)
                step += 1
                mean += 0.1 * (slopes - mean)
                square += 0.001 * (slopes * slopes - square)
                point *= 1.0 - now * decay
                scale = np.sqrt(square / (1.0 - 0.999**step)) + 1e-8
                point -= now / (1.0 - 0.9**step) * mean / scale
            if not np.isfinite(total):
                raise FloatingPointError(f"the loss became {total / len(pairs)}: try a lower lr")
            self.history_.setdefault("loss", []).append(total / len(pairs))
            if held is not None:
                found = self._error(held[0], point, held[1])[0]
                self.history_.setdefault("val_loss", []).append(found)
                waited += 1
                if best is None or found < best[0]:
                    best, waited = (found, point.copy()), 0
                if waited >= self.patience:
                    break
        self._memory = mean, square, step
        for parameter, x in zip(self._network.parameters(), (point if best is None else best[1]).tolist(), strict=True):
            parameter.data = x

    def _error(self, pairs: NDArray[Any], point: NDArray[Any], weights: NDArray[Any] | None) -> tuple[float, Any]:
        """The mean loss of the rows and its gradient; weighted, by weights whose sum is not 0."""
        if weights is None:
            return self._loss.value_and_grad(pairs, point)
        total = weights.sum()
        return self._loss.value_and_grad(pairs, point, weights=weights / total if total else weights)

    def _scaled(self, rows: NDArray[Any]) -> NDArray[Any]:
        scaled: NDArray[Any] = (rows - np.array(self._scaling.means)) / np.array(self._scaling.scales)
        return scaled

    def _outputs(self, rows: ArrayLike) -> NDArray[Any]:
        """The network's outputs for the rows, a column for each."""
        check_is_fitted(self)
        found: NDArray[Any] = self._values(self._scaled(validate_data(self, rows, reset=False, dtype=float)))
        return found

    def _weights(self, sample_weight: Any, rows: NDArray[Any]) -> NDArray[Any] | None:
        if sample_weight is None:
            return None
        weights: NDArray[Any] = _check_sample_weight(sample_weight, rows, ensure_non_negative=True, dtype=float)
        return weights

    @property
    def _continues(self) -> bool:
        """Whether training continues with an existing network."""
        return hasattr(self, "_network")


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc, unused-ignore]
    """A classifier: a multi-layer perceptron whose outputs are logits, trained compiled on their cross-entropy.

    Inputs are standardised. Fitted, it has `classes_`, `model_` (an `nn.Sequential` that takes raw rows and gives
    logits, and knows names; it can be saved, drawn and compiled), and `history_`. Labels may be anything that
    scikit-learn takes, rows a pandas or polars frame.

    Args:
        hidden: neurons in each hidden layer.
        activation: theirs, a row's name.
        epochs: passes over the rows, with AdamW, whose rate falls along half a wave to 0; "auto": as many as make 600
            steps, and 20 at least.
        batch_size: rows in a step; None: all.
        lr: the rate at the start.
        weight_decay: `optim.AdamW`'s: what of every parameter, times the rate, goes away in each step.
        early_stopping: hold out rows, stop where their loss has not fallen for `patience` epochs, keep the best.
        validation_fraction: the share of the rows held out for that.
        patience: how many epochs without a better loss are waited for.
        warm_start: another `fit` goes on from where the last one ended.
        random_state: an int, for the same result each time, or None.

    Example:
        >>> from micrograd_bp import datasets
        >>> moons = datasets.moons(100)
        >>> MLPClassifier(random_state=0).fit(moons.X, moons.y).score(moons.X, moons.y) > 0.95
        True
    """

    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from rows X of numbers and their labels y.

        Args:
            X: rows of numbers, in an array, lists or a frame.
            y: a label for each.
            sample_weight: how much each row counts; 1 unless given.

        Raises:
            ValueError: there is one class only, or X is not finite.
        """
        rows, labels = validate_data(self, X, y, dtype=float)
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"a classifier tells classes apart, but there is one class only: {classes[0]}")
        again = self.warm_start and self._continues
        if again and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start goes on with the classes {self.classes_}, not {classes}")
        weights = self._weights(sample_weight, rows)
        self._fit(rows, numbers, classes, weights, self.epochs, again)
        return self

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """One pass over some more rows, at the constant rate `lr`. Inputs stay standardised by the first call's rows.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: all labels that there will be; needed at the first call, where y has not all of them.

        Raises:
            ValueError: y has a label that is no class.
        """
        first = not self._continues
        rows, labels = validate_data(self, X, y, dtype=float, reset=first)
        check_classification_targets(labels)
        known = self.classes_ if not first else np.unique(labels if classes is None else classes)
        if classes is not None and not first and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes={classes!r} is not the same as on the last call to partial_fit, {known}")
        strange = np.setdiff1d(labels, known)
        if len(strange):
            raise ValueError(f"y has labels that are no classes: {strange}; name all at the first call, classes=[...]")
        self._fit(rows, np.searchsorted(known, labels), known, self._weights(sample_weight, rows), 1, not first)
        return self

    def _fit(self, rows: Any, numbers: Any, classes: Any, weights: Any, epochs: Any, again: bool) -> None:
        self.classes_ = classes
        if not again:
            self._begin(rows, len(classes), classes, weights)
            self._compile(losses.cross_entropy)
            self.history_ = History()
        self._train(rows, np.eye(len(classes))[numbers], weights, epochs, numbers)
        self.model_ = nn.Sequential(self._scaling, self._network)
        self.model_.names = self._names

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """The logits of each row, a column for each class; of two classes their difference, positive for the second."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of each class, a column for each, in the order of `classes_`."""
        logits = self._outputs(X)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest class of each row."""
        places = np.argmax(self._outputs(X), axis=1)
        likeliest: NDArray[Any] = self.classes_[places]
        return likeliest


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc, unused-ignore]
    """A regressor: a multi-layer perceptron with linear outputs, trained compiled on their mean squared error.

    Inputs and targets are standardised. Fitted, it has `model_`, an `nn.Sequential` that takes raw rows and gives
    predictions in the unit of the targets, `mean_` and `scale_` of these, and `history_`.

    Args:
        hidden, activation, epochs, batch_size, lr, weight_decay, early_stopping, validation_fraction, patience,
            warm_start, random_state: as for `MLPClassifier`.

    Example:
        >>> X = [[x / 10.0] for x in range(100)]
        >>> y = [x * x for (x,) in X]
        >>> MLPRegressor(random_state=0).fit(X, y).score(X, y) > 0.95
        True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn from the rows X and their targets y, both numbers.

        Args:
            X: rows of numbers, in an array, lists or a frame.
            y: a target for each, or several, a column each.
            sample_weight: how much each row counts; 1 unless given.

        Raises:
            ValueError: some are not finite.
        """
        return self._fit(X, y, sample_weight, self.epochs, self.warm_start and self._continues)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """One pass over some more rows, at the constant rate `lr`; standardised as at the first call.

        Args:
            X, y, sample_weight: as for `fit`.
        """
        return self._fit(X, y, sample_weight, 1, self._continues)

    def _fit(self, X: Any, y: Any, sample_weight: Any, epochs: Any, again: bool) -> Self:
        rows, targets = validate_data(
            self, X, y, dtype=float, y_numeric=True, multi_output=True, reset=epochs != 1 or not again
        )
        columns = np.asarray(targets, float).reshape(len(rows), -1)
        weights = self._weights(sample_weight, rows)
        if not again:
            self._units: nn.Standardize = nn.Standardize(*_statistics(columns, weights))
            self._begin(rows, columns.shape[1], (), weights)
            self._compile(losses.mse)
            self.history_ = History()
            self._single = targets.ndim == 1
            mean, scale = np.array(self._units.means), np.array(self._units.scales)
            self.mean_: Any = mean[0] if self._single else mean
            self.scale_: Any = scale[0] if self._single else scale
        if columns.shape[1] != len(self._units.means):
            given = f"{columns.shape[1]} columns, and the model that is gone on with has {len(self._units.means)}"
            raise ValueError(f"y has {given}")
        scaled = (columns - np.array(self._units.means)) / np.array(self._units.scales)
        self._train(rows, scaled, weights, epochs)
        self.model_ = nn.Sequential(self._scaling, self._network, self._units.inverse())
        self.model_.names = self._names
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The prediction for each row; of several targets a column each."""
        found: NDArray[Any] = self._outputs(X) * np.array(self._units.scales) + np.array(self._units.means)
        return found[:, 0] if self._single else found


def _statistics(rows: NDArray[Any], weights: NDArray[Any] | None) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of every column, of weighted rows; 1 for a column that is the same."""
    if weights is None or not weights.sum():
        return datasets.statistics(rows.tolist())
    means = np.average(rows, axis=0, weights=weights)
    scales = np.sqrt(np.average((rows - means) ** 2, axis=0, weights=weights))
    there = rows[weights > 0.0]
    same = there.min(axis=0) == there.max(axis=0)
    return means.tolist(), np.where(same | (scales == 0.0), 1.0, scales).tolist()

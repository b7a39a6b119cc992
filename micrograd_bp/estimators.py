"""scikit-learn's interface: a classifier and a regressor for pipelines, grid search and cross-validation.

This room needs scikit-learn (`pip install 'micrograd-bp[sklearn]'`) and is imported by name, `micrograd_bp.estimators`.

>>> from micrograd_bp import datasets
>>> flowers = datasets.iris()
>>> model = MLPClassifier(hidden=(8,), epochs=20, random_state=0).fit(flowers.X, flowers.y)
>>> model.score(flowers.X, flowers.y) > 0.95
True
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from micrograd_bp import datasets, losses, nn, optim, training

try:
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(f"{error}; for the estimators: pip install 'micrograd-bp[sklearn]'") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class _MLP(BaseEstimator):  # type: ignore[misc, unused-ignore]  # scikit-learn is not typed
    """What both estimators share: settings, and the network with its inputs standardised."""

    def __init__(
        self,
        hidden: Sequence[int] = (16,),
        *,
        activation: nn.Activation = "tanh",
        epochs: int = 60,
        batch_size: int | None = 16,
        lr: float = 0.02,
        weight_decay: float = 0.0,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _train(self, rows: NDArray[Any], targets: list[Any], outputs: int, loss: Callable[[Any, Any], Any]) -> None:
        rng = random.Random(int(check_random_state(self.random_state).randint(2**31)))
        sizes = [*self.hidden, outputs]
        network = nn.MLP(rows.shape[1], sizes, activation=self.activation, init="xavier_uniform", rng=rng)
        self.model_ = nn.Sequential(nn.Standardize(*datasets.statistics(rows.tolist())), network)
        optimizer = optim.AdamW(self.model_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        self.history_ = training.fit(
            self.model_,
            loss,
            rows.tolist(),
            targets,
            optimizer,
            epochs=self.epochs,
            batch_size=self.batch_size,
            rng=rng,
            progress=False,
        )

    def _outputs(self, rows: ArrayLike) -> list[list[float]]:
        check_is_fitted(self)
        plain = self.model_.freeze()
        return [plain.forward(row) for row in validate_data(self, rows, reset=False, dtype=float).tolist()]


class MLPClassifier(ClassifierMixin, _MLP):  # type: ignore[misc, unused-ignore]
    """A classifier: a multi-layer perceptron whose outputs are logits, trained on their cross-entropy with Adam.

    - `hidden`: neurons in each hidden layer; `activation`: theirs, a row's name.
    - `epochs`, `batch_size` (None: all rows), `lr`, `weight_decay`: as `training.fit` and `optim.AdamW` have them.
    - `random_state`: an int, for the same result each time, or None.

    Inputs are standardised. Fitted, it has `classes_`, `model_` (an `nn.Sequential` that takes raw rows and gives
    logits; it can be saved, drawn and compiled), and `history_`. Labels may be anything that scikit-learn takes.
    """

    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from rows X of numbers and their labels y. ValueError: there is one class only, or X is not finite."""
        rows, labels = validate_data(self, X, y, dtype=float)
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"a classifier tells classes apart, but there is one class only: {self.classes_[0]}")
        self._train(rows, targets.tolist(), len(self.classes_), losses.cross_entropy)
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """The logits of each row, a column a class; of two classes the difference, positive for the second."""
        logits = np.array(self._outputs(X))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of each class, a column a class, in the order of `classes_`."""
        return np.array([losses.softmax(logits) for logits in self._outputs(X)])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest class of each row."""
        places = np.argmax(self._outputs(X), axis=1)
        likeliest: NDArray[Any] = self.classes_[places]
        return likeliest


class MLPRegressor(RegressorMixin, _MLP):  # type: ignore[misc, unused-ignore]
    """A regressor: a multi-layer perceptron with one linear output, trained on its mean squared error with Adam.

    Settings as for `MLPClassifier`. Inputs and targets are standardised; fitted, it has `model_`, whose output is the
    standardised prediction, `mean_` and `scale_` of the targets, and `history_`.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from the rows X and their targets y, both numbers. ValueError: some are not finite."""
        rows, targets = validate_data(self, X, y, dtype=float, y_numeric=True)
        (self.mean_,), (self.scale_,) = datasets.statistics(targets.reshape(-1, 1).tolist())
        self._train(rows, ((targets - self.mean_) / self.scale_).tolist(), 1, losses.mse)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The prediction for each row."""
        return np.array([output for (output,) in self._outputs(X)]) * self.scale_ + self.mean_

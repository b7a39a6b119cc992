"""Training: mini-batches, history, early stopping, checkpoints, metrics, and work shared by processes.

>>> import random
>>> from micrograd_bp import datasets, losses, nn, optim
>>> rng = random.Random(1)
>>> data, model = datasets.xor(), nn.MLP(2, [4, 1], activation="tanh", rng=rng)
>>> optimizer = optim.Adam(model.parameters(), lr=0.1)
>>> history = fit(model, losses.binary_cross_entropy, data.X, data.y, optimizer, epochs=100, batch_size=4, rng=rng)
>>> [round(model(x).sigmoid().data) for x in data.X]
[0, 1, 1, 0]
>>> history["loss"][-1] < 0.1 * history["loss"][0]
True
"""

from micrograd_bp.training.checkpoint import History
from micrograd_bp.training.log import Log
from micrograd_bp.training.loop import evaluate, fit
from micrograd_bp.training.metrics import (
    Metric,
    accuracy,
    confusion_matrix,
    curve,
    f1,
    precision,
    r2,
    recall,
)

__all__ = [
    "History",
    "Log",
    "Metric",
    "accuracy",
    "confusion_matrix",
    "curve",
    "evaluate",
    "f1",
    "fit",
    "precision",
    "r2",
    "recall",
]

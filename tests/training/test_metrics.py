"""Metrics are scikit-learn's numbers."""

import random

import pytest
from sklearn import metrics as reference

from micrograd_bp import losses, nn, optim, training

NAMES = {"accuracy": "accuracy_score", "precision": "precision_score", "recall": "recall_score", "f1": "f1_score"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_of_several_classes_they_are_scikit_learns(name: str, classes: int) -> None:
    rng = random.Random(classes)
    for n in (1, 3, 40):
        outputs = [[rng.gauss(0, 1) for _ in range(classes)] for _ in range(n)]
        targets = [rng.randrange(classes) for _ in range(n)]
        named = [row.index(max(row)) for row in outputs]
        options = {} if name == "accuracy" else {"average": "macro", "zero_division": 0}
        expected = getattr(reference, NAMES[name])(targets, named, **options)
        assert getattr(training, name)(outputs, targets) == pytest.approx(expected, rel=1e-12)
        hot = [losses.one_hot(t, classes) for t in targets]
        assert getattr(training, name)(outputs, hot) == pytest.approx(expected, rel=1e-12)
        labels = range(classes)
        matrix = reference.confusion_matrix(targets, named, labels=list(labels)).tolist()
        assert training.confusion_matrix(outputs, targets, classes) == matrix


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_of_one_output_they_are_those_of_the_second_class(name: str, threshold: float) -> None:
    rng = random.Random(7)
    for n, shift in ((1, -5.0), (1, 5.0), (30, 0.0), (30, -9.0), (30, 9.0)):
        scores, targets = [rng.gauss(shift, 1) for _ in range(n)], [rng.randrange(2) for _ in range(n)]
        named = [int(score > threshold) for score in scores]
        options = {} if name == "accuracy" else {"zero_division": 0}
        expected = getattr(reference, NAMES[name])(targets, named, **options)
        metric = getattr(training, name)
        assert metric(scores, targets, threshold=threshold) == pytest.approx(expected, rel=1e-12)
        assert metric([[score] for score in scores], targets, threshold=threshold) == pytest.approx(expected, rel=1e-12)
        signs = [1 if t else -1 for t in targets]
        assert metric(scores, signs, threshold=threshold) == pytest.approx(expected, rel=1e-12)


def test_r2_is_scikit_learns() -> None:
    rng = random.Random(9)
    targets = [rng.gauss(5, 3) for _ in range(20)]
    found = [t + rng.gauss(0, 1) for t in targets]
    expected = reference.r2_score(targets, found)
    assert training.r2(found, targets) == pytest.approx(expected, rel=1e-12)
    assert training.r2([[y] for y in found], targets) == pytest.approx(expected, rel=1e-12)
    columns = [[t, t * t] for t in targets], [[y, y] for y in found]
    assert training.r2(columns[1], columns[0]) == pytest.approx(reference.r2_score(*columns), rel=1e-12)
    assert (training.r2([1.0, 1.0], [1.0, 1.0]), training.r2([1.0, 2.0], [1.0, 1.0])) == (1.0, 0.0)


def test_they_go_into_fit() -> None:
    X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    model = nn.MLP(1, [4, 1], activation="tanh", rng=random.Random(0))
    metrics = {name: getattr(training, name) for name in NAMES}
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    history = training.fit(model, losses.binary_cross_entropy, X, y, optimizer, epochs=60, metrics=metrics)
    assert [history[name][-1] for name in NAMES] == [1.0] * 4


def test_what_is_said_of_wrong_ones() -> None:
    with pytest.raises(ValueError, match="2 predictions, but 1 targets"):
        training.f1([0.1, 0.2], [1])
    with pytest.raises(ValueError, match="a metric of no rows is not defined"):
        training.accuracy([], [])

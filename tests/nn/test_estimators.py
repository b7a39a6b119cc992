"""scikit-learn's own checks of an estimator, and what its users do: pipelines, grid search, pickles."""

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas
import polars
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from micrograd_bp import datasets, losses, nn, optim, training
from micrograd_bp.estimators import MLPClassifier, MLPRegressor

SMALL: dict[str, Any] = {"hidden": (3,), "epochs": 4, "lr": 0.05, "batch_size": 16, "random_state": 0}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, of data that its checks make up
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_scikit_learn_accepts_the_estimator(kind: type[Any]) -> None:
    results = check_estimator(kind(hidden=(8,), epochs=100), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 50
    assert {result["status"] for result in results} <= {"passed", "skipped"}  # for lack of the array API, say


# scikit-learn 1.9.1: cross_val_score(MLPClassifier(random_state=0), digits, cv=3) and (Ridge(), diabetes, cv=5), means.
DIGITS, DIABETES = 0.9393433500278241, 0.410174971340889


def test_defaults_are_as_good_as_scikit_learns() -> None:
    X, y = load_digits(return_X_y=True)
    assert cross_val_score(MLPClassifier(random_state=0), X, y, cv=3).mean() >= DIGITS
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(MLPRegressor(random_state=0), X, y, cv=5).mean() >= DIABETES


def test_training_is_that_of_fit_and_adamw() -> None:
    """With all rows in a batch, whose order then counts for nothing: the same parameters and the same history."""
    flowers = datasets.iris()
    options: dict[str, Any] = {"hidden": (4,), "batch_size": None, "epochs": 6, "weight_decay": 0.2, "random_state": 3}
    untrained = MLPClassifier(**options | {"lr": 0.0}).fit(flowers.X, flowers.y).model_
    model = MLPClassifier(**options, lr=0.05).fit(flowers.X, flowers.y)
    optimizer = optim.AdamW(untrained.parameters(), lr=optim.cosine_decay(0.05, 6), weight_decay=0.2)
    history = training.fit(
        untrained, losses.cross_entropy, flowers.X, flowers.y, optimizer, epochs=6, batch_size=None, progress=False
    )
    assert model.history_["loss"] == pytest.approx(history["loss"], rel=1e-9)
    assert list(model.model_.state_dict().values()) == pytest.approx(list(untrained.state_dict().values()), rel=1e-7)


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_weight_is_a_repetition(kind: type[Any]) -> None:
    rng = np.random.RandomState(0)
    X, y, weights = rng.normal(size=(20, 3)), np.arange(20) % 2, np.arange(20) % 4
    options = SMALL | {"batch_size": None}
    weighted = kind(**options).fit(X, y, sample_weight=weights)
    repeated = kind(**options).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    outputs = [model._outputs(X) for model in (weighted, repeated)]
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-6, abs=1e-9)
    assert np.abs(kind(**options).fit(X, y)._outputs(X) - outputs[0]).max() > 1e-3


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_early_stopping_keeps_the_best(kind: type[Any]) -> None:
    rng = np.random.RandomState(1)
    X, y = rng.normal(size=(60, 5)), rng.randint(2, size=60)  # noise: the loss held out soon rises
    options = {"hidden": (16,), "epochs": 200, "lr": 0.05, "weight_decay": 0.0, "random_state": 0}
    model = kind(**options, early_stopping=True, patience=4, validation_fraction=0.3).fit(X, y)
    held = model.history_["val_loss"]
    assert len(held) == len(model.history_["loss"]) == held.index(min(held)) + 1 + 4 < 200
    assert "val_loss" not in kind(**options | {"epochs": 2}).fit(X, y).history_


def test_partial_fit_goes_on_and_knows_its_classes() -> None:
    flowers = datasets.iris()
    X, y = np.array(flowers.X), np.array(flowers.classes)[flowers.y]
    model = MLPClassifier(hidden=(8,), random_state=0)
    order = np.random.RandomState(0).permutation(150)
    for _ in range(30):
        for k in range(3):
            part = order[k::3]
            assert model.partial_fit(X[part], y[part], classes=flowers.classes) is model
    assert model.score(X, y) > 0.95
    assert len(model.history_["loss"]) == 90
    with pytest.raises(ValueError, match=r"y has labels that are no classes: \['rose'\]"):
        model.partial_fit(X[:1], ["rose"])
    with pytest.raises(ValueError, match="is not the same as on the last call to partial_fit"):
        model.partial_fit(X[:1], y[:1], classes=["rose", "setosa"])
    line = MLPRegressor(hidden=(4,), activation="tanh", lr=0.05, random_state=0)
    for _ in range(60):
        line.partial_fit(X[:, :2], X[:, 2])
    assert line.score(X[:, :2], X[:, 2]) > 0.8


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_warm_start_goes_on(kind: type[Any]) -> None:
    flowers = datasets.iris()
    model = kind(**SMALL, warm_start=True).fit(flowers.X, flowers.y)
    first = model.history_["loss"][:]
    before = model.model_.state_dict()
    model.fit(flowers.X, flowers.y)
    assert model.history_["loss"][:4] == first
    assert len(model.history_["loss"]) == 8
    assert model.history_["loss"][-1] < first[-1]
    assert model.set_params(warm_start=False).fit(flowers.X, flowers.y).model_.state_dict() == before
    if kind is MLPClassifier:
        with pytest.raises(ValueError, match="warm_start goes on with the classes"):
            model.set_params(warm_start=True).fit(flowers.X[:100], flowers.y[:100])


def test_several_targets_are_columns() -> None:
    X = np.linspace(-2.0, 2.0, 60).reshape(-1, 1)
    columns = np.hstack([np.sin(X), 100.0 + 50.0 * X])
    model = MLPRegressor(activation="tanh", epochs=150, random_state=0).fit(X, columns)
    assert model.predict(X).shape == columns.shape
    assert model.score(X, columns) > 0.97
    assert model.mean_ == pytest.approx(columns.mean(axis=0))
    assert [y.data for y in model.model_([0.5])] == pytest.approx(model.predict([[0.5]])[0])
    assert MLPRegressor(**SMALL).fit(X, columns[:, :1]).predict(X).shape == (60, 1)
    with pytest.raises(ValueError, match="y has 1 columns, and the model that is gone on with has 2"):
        model.partial_fit(X, columns[:, 0])


def test_frames_are_taken_by_column_name() -> None:
    flowers = datasets.iris()
    for kind in (pandas.DataFrame, polars.DataFrame):
        frame = kind(dict(zip(flowers.features, zip(*flowers.X, strict=True), strict=True)))
        model = MLPClassifier(**SMALL).fit(frame, flowers.y)
        assert list(model.feature_names_in_) == flowers.features
        assert model.model_.names == nn.Names(flowers.features, ["0", "1", "2"])
        assert (model.predict(frame) == MLPClassifier(**SMALL).fit(flowers.X, flowers.y).predict(flowers.X)).all()
        with pytest.raises(ValueError, match="feature names"):
            model.predict(frame[flowers.features[::-1]])


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"hidden": 4}, TypeError, r"hidden is a list of the layers' sizes, \(4,\) say, not 4"),
        ({"hidden": (0,)}, ValueError, "the number of neurons is 1 or more, not 0"),
        ({"activation": "swish"}, ValueError, "activation 'swish' is neither a function nor one of"),
        ({"lr": -1.0}, ValueError, "lr is -1.0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay is -1.0"),
        ({"epochs": 0}, ValueError, "epochs is a whole number, 1 or more, not 0"),
        ({"batch_size": 0}, ValueError, "batch_size is a whole number, 1 or more, not 0"),
        ({"patience": 1.5}, ValueError, "patience is a whole number, 1 or more, not 1.5"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, Any], kind: type[Exception], message: str) -> None:
    for model in (MLPClassifier(**settings), MLPRegressor(**settings)):
        with pytest.raises(kind, match=message):
            model.fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def test_a_rate_that_is_too_high_is_named() -> None:
    X = np.linspace(-2.0, 2.0, 60).reshape(-1, 1)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="try a lower lr"):
        MLPRegressor(lr=1e200, epochs=5, activation="relu", random_state=0).fit(X, X[:, 0])


def test_a_pipeline_and_a_grid_search_take_the_classifier() -> None:
    flowers = datasets.iris()
    names = np.array(flowers.classes)[flowers.y]
    search = GridSearchCV(MLPClassifier(**SMALL), {"epochs": [1, 12], "hidden": [(4,)]}, cv=2)
    search.fit(flowers.X, names)
    assert search.best_params_["epochs"] == 12
    assert search.score(flowers.X, names) > 0.93
    scores = cross_val_score(make_pipeline(StandardScaler(), MLPClassifier(**SMALL)), flowers.X, names, cv=2)
    assert scores.min() > 0.6


def test_the_classifier_is_the_network_that_it_holds() -> None:
    """Probabilities are the softmax of the network's outputs for raw rows; the model is one of this library's."""
    flowers = datasets.iris()
    model = MLPClassifier(**SMALL).fit(flowers.X, flowers.y)
    logits = [[y.data for y in model.model_(row)] for row in flowers.X]
    assert model.predict_proba(flowers.X) == pytest.approx(np.array([losses.softmax(row) for row in logits]))
    assert model.decision_function(flowers.X) == pytest.approx(np.array(logits), rel=1e-9, abs=1e-12)
    found = training.evaluate(model.model_, losses.cross_entropy, flowers.X, flowers.y, {"a": training.accuracy})
    assert model.score(flowers.X, flowers.y) == found["a"]
    assert len(model.history_["loss"]) == 4


def test_two_classes_have_one_decision() -> None:
    data = datasets.moons(40)
    model = MLPClassifier(**SMALL).fit(data.X, ["left" if y else "right" for y in data.y])
    decision = model.decision_function(data.X)
    assert decision.shape == (40,)
    assert list(model.predict(data.X)) == ["right" if d > 0 else "left" for d in decision]


def test_the_regressor_learns_a_curve_in_its_own_units() -> None:
    x = np.linspace(-2.0, 2.0, 60).reshape(-1, 1)
    y = 1000.0 + 50.0 * np.sin(x[:, 0])
    model = MLPRegressor(hidden=(6,), epochs=80, random_state=1).fit(x, y)
    assert model.score(x, y) > 0.98
    assert model.predict([[0.0]]) == pytest.approx(1000.0, abs=5.0)
    again = MLPRegressor(hidden=(6,), epochs=80, random_state=1).fit(x, y)
    assert (again.predict(x) == model.predict(x)).all()
    assert (pickle.loads(pickle.dumps(model)).predict(x) == model.predict(x)).all()


def test_the_package_imports_no_scikit_learn_and_the_room_says_what_it_lacks() -> None:
    lack = "import sys; sys.modules['sklearn'] = None; import micrograd_bp; import micrograd_bp.estimators"
    done = subprocess.run([sys.executable, "-c", lack], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("for the estimators: pip install 'micrograd-bp[sklearn]'")
    assert "ImportError" in done.stderr.splitlines()[-1]

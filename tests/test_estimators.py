"""scikit-learn's own checks of an estimator, and what its users do: pipelines, grid search, pickles."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from micrograd_bp import datasets, losses, training
from micrograd_bp.estimators import MLPClassifier, MLPRegressor

SMALL = {"hidden": (3,), "epochs": 4, "lr": 0.05, "random_state": 0}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, of data that its checks make up
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_scikit_learn_accepts_the_estimator(kind):
    results = check_estimator(kind(**SMALL | {"random_state": None}), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 45
    assert {result["status"] for result in results} <= {"passed", "skipped"}  # for lack of pandas, say


def test_a_pipeline_and_a_grid_search_take_the_classifier():
    flowers = datasets.iris()
    names = np.array(flowers.classes)[flowers.y]
    search = GridSearchCV(MLPClassifier(**SMALL), {"epochs": [1, 12], "hidden": [(4,)]}, cv=2)
    search.fit(flowers.X, names)
    assert search.best_params_["epochs"] == 12
    assert search.score(flowers.X, names) > 0.93
    scores = cross_val_score(make_pipeline(StandardScaler(), MLPClassifier(**SMALL)), flowers.X, names, cv=2)
    assert scores.min() > 0.6


def test_the_classifier_is_the_network_that_it_holds():
    """Probabilities are the softmax of the network's outputs for raw rows; the model is one of this library's."""
    flowers = datasets.iris()
    model = MLPClassifier(**SMALL).fit(flowers.X, flowers.y)
    logits = [[y.data for y in model.model_(row)] for row in flowers.X]
    assert model.predict_proba(flowers.X) == pytest.approx(np.array([losses.softmax(row) for row in logits]))
    assert (model.decision_function(flowers.X) == np.array(logits)).all()
    found = training.evaluate(model.model_, losses.cross_entropy, flowers.X, flowers.y, {"a": training.accuracy})
    assert model.score(flowers.X, flowers.y) == found["a"]
    assert len(model.history_["loss"]) == 4


def test_two_classes_have_one_decision():
    data = datasets.moons(40)
    model = MLPClassifier(**SMALL).fit(data.X, ["left" if y else "right" for y in data.y])
    decision = model.decision_function(data.X)
    assert decision.shape == (40,)
    assert list(model.predict(data.X)) == ["right" if d > 0 else "left" for d in decision]


def test_the_regressor_learns_a_curve_in_its_own_units():
    x = np.linspace(-2.0, 2.0, 60).reshape(-1, 1)
    y = 1000.0 + 50.0 * np.sin(x[:, 0])
    model = MLPRegressor(hidden=(6,), epochs=80, random_state=1).fit(x, y)
    assert model.score(x, y) > 0.98
    assert model.predict([[0.0]]) == pytest.approx(1000.0, abs=5.0)
    again = MLPRegressor(hidden=(6,), epochs=80, random_state=1).fit(x, y)
    assert (again.predict(x) == model.predict(x)).all()
    assert (pickle.loads(pickle.dumps(model)).predict(x) == model.predict(x)).all()


def test_the_package_imports_no_scikit_learn_and_the_room_says_what_it_lacks():
    lack = "import sys; sys.modules['sklearn'] = None; import micrograd_bp; import micrograd_bp.estimators"
    done = subprocess.run([sys.executable, "-c", lack], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("for the estimators: pip install 'micrograd-bp[sklearn]'")
    assert "ImportError" in done.stderr.splitlines()[-1]

"""What the page on other libraries shows, put to harder questions: optimisers of SciPy's, errors, PyTorch's numbers."""

import doctest
import json
import pathlib
import random
from typing import Any

import numpy as np
import pytest
from scipy import optimize

import micrograd_bp as mg
from micrograd_bp import losses, math, nn

HERE = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """The functions that docs/ecosystem.md defines."""
    page = HERE.parent / "docs" / "ecosystem.md"
    names: dict[str, Any] = {"mg": mg, "math": math}
    for example in doctest.DocTestParser().get_examples(page.read_text(encoding="utf-8")):
        if example.source.startswith("def "):
            exec(example.source, names)
    return names


# --- SciPy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP", "trust-exact", "trust-krylov", "Newton-CG"]
)
def test_every_gradient_method_of_scipy_finds_the_minimum(shown: dict[str, Any], method: str) -> None:
    """Rosenbrock's valley in six dimensions, from its usual start; Hessians where the method takes one."""
    start = np.array([-1.2, 1.0] * 3)
    f = shown["rosenbrock"]
    options: dict[str, Any] = {"hess": mg.hessian(f)} if method.startswith("trust") else {}
    if method == "Newton-CG":
        options = {"hessp": lambda x, p: mg.hvp(f, (x,), (p,))}
    found = optimize.minimize(mg.value_and_grad(f), start, jac=True, method=method, tol=1e-9, **options)
    near = np.abs(found.x - 1).max() < 1e-2
    other = abs(found.fun - 3.97394) < 1e-2  # a second minimum, near (-1, 1, 1, 1, 1, 1)
    assert near or other, found


def test_gradient_and_jacobian_are_what_scipy_finds_by_differences(shown: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.normal(size=4)
        f = shown["rosenbrock"]
        assert optimize.check_grad(f, mg.grad(f), x) < 1e-4 * (1.0 + np.abs(mg.grad(f)(x)).max())


def decay(t: Any, p: Any) -> Any:
    return p[0] * math.exp(-p[1] * t) + p[2]


def test_least_squares_steps_are_gauss_newton() -> None:
    """Its first undamped step solves J^T J s = -J^T r, and the fit recovers the parameters of exact data."""
    times = np.linspace(0.0, 4.0, 15)
    truth = [3.0, 1.3, 0.5]
    data = [decay(t, truth) for t in times]

    def residuals(p: Any) -> Any:
        return [decay(t, p) - y for t, y in zip(times, data, strict=True)]

    for method in ("lm", "trf", "dogbox"):
        found = optimize.least_squares(residuals, [1.0, 1.0, 0.0], jac=mg.jacobian(residuals), method=method)
        assert found.x == pytest.approx(truth, rel=1e-6)
    p = np.array([2.9, 1.2, 0.6])
    slopes, r = np.array(mg.jacobian(residuals)(p)), np.array(residuals(p))
    step = np.linalg.lstsq(slopes, -r, rcond=None)[0]
    assert slopes.T @ slopes @ step == pytest.approx(-slopes.T @ r, abs=1e-10)
    half_sum = mg.grad(lambda q: sum(x**2 for x in residuals(q)) * 0.5)(p)
    assert slopes.T @ r == pytest.approx(half_sum)


def test_curve_fit_takes_a_jacobian() -> None:
    times = np.linspace(0.0, 4.0, 15)
    data = np.array([decay(t, [3.0, 1.3, 0.5]) for t in times])
    found, _ = optimize.curve_fit(
        lambda ts, *p: [decay(t, p) for t in ts],
        times,
        data,
        p0=[1.0, 1.0, 0.0],
        jac=lambda ts, *p: np.array(mg.jacobian(lambda q: [decay(t, q) for t in ts])(list(p))),
    )
    assert found == pytest.approx([3.0, 1.3, 0.5], rel=1e-6)


# --- propagation of errors --------------------------------------------------------------------------------------------


def test_errors_of_products_of_powers_add_in_squares_of_relative_errors(shown: dict[str, Any]) -> None:
    """For x^a y^b: (s/f)^2 = (a s_x / x)^2 + (b s_y / y)^2."""
    rng = random.Random(0)
    for _ in range(20):
        x, errors = ({"x": rng.uniform(1, 5), "y": rng.uniform(1, 5)}, {"x": rng.uniform(0, 0.1), "y": 0.05})
        a, b = rng.uniform(-3, 3), rng.uniform(-3, 3)
        value, error, shares = shown["propagated"](lambda v, a=a, b=b: v["x"] ** a * v["y"] ** b, x, errors)
        assert value == pytest.approx(x["x"] ** a * x["y"] ** b)
        assert error / value == pytest.approx(math.hypot(a * errors["x"] / x["x"], b * errors["y"] / x["y"]))
        assert sum(shares.values()) == pytest.approx(1.0)


def test_errors_are_those_of_drawn_samples(shown: dict[str, Any]) -> None:
    """To the first order: for small errors a sample's deviation is the propagated one."""
    rng = np.random.default_rng(1)
    value, error, _ = shown["propagated"](
        lambda v: math.sin(v["a"]) / v["b"], {"a": 0.7, "b": 2.0}, {"a": 1e-3, "b": 2e-3}
    )
    sample = np.sin(rng.normal(0.7, 1e-3, 100_000)) / rng.normal(2.0, 2e-3, 100_000)
    assert value == pytest.approx(sample.mean(), rel=1e-4)
    assert error == pytest.approx(sample.std(), rel=0.02)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def test_parameters_come_from_pytorch_and_go_back(shown: dict[str, Any]) -> None:
    """PyTorch's own numbers: its outputs, its loss, its gradients by its names and in its order."""
    frozen = json.loads((HERE / "fixtures" / "torch_network.json").read_text(encoding="utf-8"))
    model = nn.MLP(3, [4, 5, 2], activation="tanh")
    shown["from_torch"](model, frozen["state_dict"])
    assert shown["to_torch"](model) == frozen["state_dict"]
    assert list(shown["to_torch"](model)) == list(frozen["state_dict"])

    logits = [model(row) for row in frozen["rows"]]
    assert [[y.data for y in row] for row in logits] == [pytest.approx(row, rel=1e-12) for row in frozen["outputs"]]
    loss = losses.cross_entropy(logits, frozen["targets"])
    assert loss.data == pytest.approx(frozen["loss"], rel=1e-12)
    loss.backward()
    gradients = shown["to_torch"](model, read=lambda parameter: parameter.grad)
    for name, numbers in frozen["gradients"].items():
        assert np.array(gradients[name]) == pytest.approx(np.array(numbers), rel=1e-10, abs=1e-15), name


def test_a_state_dict_of_another_shape_is_refused(shown: dict[str, Any]) -> None:
    frozen = json.loads((HERE / "fixtures" / "torch_network.json").read_text(encoding="utf-8"))
    for sizes in ([4, 5], [4, 4, 2], [4, 5, 2, 1]):
        with pytest.raises(ValueError, match="argument"):
            shown["from_torch"](nn.MLP(3, sizes), frozen["state_dict"])

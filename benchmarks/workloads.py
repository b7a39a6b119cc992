"""The same work for every rival: a function that makes `step()`, or ImportError where the rival is not installed.

Every step computes a loss and its gradient; scalar engines build the graph, walk it back and free it. Tensor libraries
do the same arithmetic in the form that suits them (whole arrays), so the comparison is by the task, not by the node.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from benchmarks import engines, minimal_value
from benchmarks.gpt import DOTS, Trainer

Step = Callable[[], object]


def scalar_engine(name: str) -> SimpleNamespace:
    """Value and MLP of micrograd, or of this library on one of its engines."""
    if name == "micrograd":
        engine, nn = importlib.import_module("micrograd.engine"), importlib.import_module("micrograd.nn")
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 50_000))  # it walks a graph by recursion
        return SimpleNamespace(Value=engine.Value, MLP=nn.MLP, package=None)
    package = engines.load(name)
    return SimpleNamespace(Value=package.Value, MLP=package.nn.MLP, package=package)


def moons() -> tuple[list[list[float]], list[float]]:
    """micrograd's demonstration data: 100 points, labels -1 and 1."""
    make_moons = importlib.import_module("sklearn.datasets").make_moons
    points, labels = make_moons(n_samples=100, noise=0.1, random_state=1)
    return points.tolist(), (labels * 2.0 - 1.0).tolist()


def scalar_moons(name: str) -> Step:
    """micrograd's demonstration: MLP 2-16-16-1 with relu, hinge loss, L2 of 1e-4, the full batch."""
    engine = scalar_engine(name)
    points, labels = moons()
    random.seed(1337)
    model = engine.MLP(2, [16, 16, 1])

    def step() -> float:
        inputs = [list(map(engine.Value, row)) for row in points]
        scores = list(map(model, inputs))
        losses = [(1 + -label * score).relu() for label, score in zip(labels, scores)]
        penalty = 1e-4 * sum(p * p for p in model.parameters())
        total = sum(losses) * (1.0 / len(losses)) + penalty
        model.zero_grad()
        total.backward()
        return float(total.data)

    return step


def compiled_moons() -> Step:
    """The same step recorded for one point, compiled and replayed over the batch; parameters as one array."""
    np = importlib.import_module("numpy")
    mg = engines.load("accelerated")
    points, labels = moons()
    random.seed(1337)
    model = mg.nn.MLP(2, [16, 16, 1])
    a, b, label = mg.Value(points[0][0]), mg.Value(points[0][1]), mg.Value(labels[0])
    penalty = 1e-4 * sum(p * p for p in model.parameters())
    loss = (1 - label * model([a, b])).relu() + penalty
    kernel = mg.kernel(loss, inputs=[a, b, label], parameters=model.parameters())
    rows = np.column_stack([np.array(points), np.array(labels)])
    parameters = np.array([p.data for p in model.parameters()])
    return lambda: kernel.value_and_grad(rows, parameters)


def scalar_dot(name: str) -> Step:
    """The dot product of two vectors of 1,000 and its gradient."""
    engine = scalar_engine(name)
    rng = random.Random(0)
    u = [engine.Value(rng.gauss(0.0, 1.0)) for _ in range(1000)]
    v = [engine.Value(rng.gauss(0.0, 1.0)) for _ in range(1000)]
    return lambda: sum((a * b for a, b in zip(u, v)), start=engine.Value(0.0)).backward()


def scalar_chain(name: str) -> Step:
    """x <- relu(0.999 x + 0.001) 5,000 times, and back."""
    engine = scalar_engine(name)

    def step() -> None:
        x = engine.Value(0.5)
        for _ in range(5000):
            x = (x * 0.999 + 0.001).relu()
        x.backward()

    return step


def scalar_floats(name: str, units: bool = False) -> Step:
    """Weighted sums, 2-16-16-1, of 100 points, squared and added up: the arithmetic of a network without activations.

    On Values recorded, walked back and freed, written with operators or (units) as net inputs; on plain floats just
    computed.
    """
    net_input = scalar_engine(name).package.nn.net_input if units else None
    number = float if name == "plain floats" else scalar_engine(name).Value
    rng = random.Random(0)
    points = [[rng.gauss(0.0, 1.0), rng.gauss(0.0, 1.0)] for _ in range(100)]
    layers = [
        [([number(rng.uniform(-0.3, 0.3)) for _ in range(n)], number(0.1)) for _ in range(m)]
        for n, m in ((2, 16), (16, 16), (16, 1))
    ]

    def step() -> None:
        total: Any = number(0.0)
        for x in points:
            for layer in layers:
                if net_input:
                    x = [net_input(w, x, b) for w, b in layer]
                else:
                    x = [sum((wi * xi for wi, xi in zip(w, x)), b) for w, b in layer]
            total = total + x[0] * x[0]
        if name != "plain floats":
            total.backward()

    return step


def scalar_gpt(name: str) -> Step:
    """One training step of the GPT of benchmarks/gpt.py on a name of eight letters."""
    if name == "slots and tuples, pure Python":
        trainer = Trainer(minimal_value.Value, random.Random(0))
    else:
        engine = scalar_engine(name)
        DOTS[engine.Value] = engine.package.nn.net_input
        trainer = Trainer(engine.Value, random.Random(0))
    return lambda: trainer.step("isabella")


def single_rows(name: str) -> Step:
    """micrograd's demonstration row by row: value and gradient of one point's hinge loss, ten points a call."""
    points, labels = moons()
    if name == "PyTorch, eager tensors":
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
        parameters = [torch.tensor(p, requires_grad=True) for p in moons_arrays()[2]]
        rows = [(torch.tensor([x], dtype=torch.float64), torch.tensor([y])) for x, y in zip(points[:10], labels)]

        def tensors() -> None:
            w1, b1, w2, b2, w3, b3 = parameters
            for x, y in rows:
                score = (torch.relu(torch.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)[:, 0]
                torch.relu(1.0 - y * score).sum().backward()

        return tensors
    engine = scalar_engine(name)
    random.seed(1337)
    model = engine.MLP(2, [16, 16, 1])

    def step() -> None:
        for x, y in zip(points[:10], labels):
            (1 - y * model(x)).relu().backward()

    return step


def iris() -> tuple[list[list[float]], list[int]]:
    """The 150 flowers, standardised."""
    load_iris = importlib.import_module("sklearn.datasets").load_iris
    table, labels = load_iris(return_X_y=True)
    return ((table - table.mean(0)) / table.std(0)).tolist(), labels.tolist()


def scalar_iris(name: str) -> Step:
    """One epoch of iris: MLP 4-16-3 with relu, half squared error to one-hot targets, batches of 15, SGD.

    micrograd has no exponential, hence the squared error.
    """
    engine = scalar_engine(name)
    table, labels = iris()
    random.seed(1337)
    model = engine.MLP(4, [16, 3])

    def step() -> None:
        for start in range(0, 150, 15):
            total = engine.Value(0.0)
            for row, label in zip(table[start : start + 15], labels[start : start + 15]):
                for k, score in enumerate(model(row)):
                    error = score - float(k == label)
                    total = total + error * error
            total = total * (0.5 / 15)
            model.zero_grad()
            total.backward()
            for p in model.parameters():
                p.data -= 0.05 * p.grad

    return step


def moons_arrays() -> tuple[Any, Any, list[Any]]:
    """The demonstration's data and a network's parameters as NumPy arrays."""
    np = importlib.import_module("numpy")
    points, labels = moons()
    rng = np.random.default_rng(0)
    shapes = [(2, 16), (16,), (16, 16), (16,), (16, 1), (1,)]
    return np.array(points), np.array(labels), [rng.uniform(-1.0, 1.0, shape) for shape in shapes]


def hinge(xp: Any, parameters: Any, points: Any, labels: Any) -> Any:
    """The demonstration's loss on arrays of NumPy, JAX, autograd or PyTorch (all have `maximum`-like clamps)."""
    w1, b1, w2, b2, w3, b3 = parameters
    relu = xp.relu if hasattr(xp, "relu") else lambda a: xp.maximum(a, 0.0)
    scores = (relu(relu(points @ w1 + b1) @ w2 + b2) @ w3 + b3)[:, 0]
    return relu(1.0 - labels * scores).mean() + 1e-4 * sum((p * p).sum() for p in parameters)


def pytorch_moons() -> Step:
    """The moons step in PyTorch, eager, one thread, double precision."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    points, labels, parameters = moons_arrays()
    points, labels = torch.tensor(points), torch.tensor(labels)
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]

    def step() -> Any:
        loss = hinge(torch, tensors, points, labels)
        for tensor in tensors:
            tensor.grad = None
        loss.backward()
        return loss

    return step


def jax_moons() -> Step:
    """The moons step under jax.jit(value_and_grad), double precision, CPU."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    points, labels, parameters = moons_arrays()
    compiled = jax.jit(jax.value_and_grad(lambda p: hinge(jax.numpy, p, points, labels)))
    return lambda: jax.block_until_ready(compiled(parameters))


def autograd_moons() -> Step:
    """The moons step in HIPS autograd."""
    autograd, xp = importlib.import_module("autograd"), importlib.import_module("autograd.numpy")
    points, labels, parameters = moons_arrays()
    value_and_grad = autograd.value_and_grad(lambda p: hinge(ModuleProxy(xp), p, points, labels))
    return lambda: value_and_grad(parameters)


class ModuleProxy:
    """A module without `relu`, whatever it grows later."""

    def __init__(self, module: ModuleType) -> None:
        self.maximum = module.maximum


def casadi_moons() -> Step:
    """The moons step in CasADi's virtual machine."""
    ca = importlib.import_module("casadi")
    np = importlib.import_module("numpy")
    points, labels, parameters = moons_arrays()
    symbols = [ca.SX.sym(f"p{k}", p.shape[0], p.shape[1] if p.ndim == 2 else 1) for k, p in enumerate(parameters)]
    w1, b1, w2, b2, w3, b3 = symbols
    loss = 0
    for point, label in zip(points, labels):
        hidden = ca.fmax(ca.mtimes(w1.T, ca.DM(point)) + b1, 0)
        hidden = ca.fmax(ca.mtimes(w2.T, hidden) + b2, 0)
        loss += ca.fmax(1 - label * (ca.mtimes(w3.T, hidden) + b3), 0)
    flat = ca.vertcat(*[ca.vec(s) for s in symbols])
    loss = loss / len(points) + 1e-4 * ca.sumsqr(flat)
    function = ca.Function("f", [flat], [loss, ca.gradient(loss, flat)])
    numbers = np.concatenate([p.ravel(order="F") for p in parameters])
    return lambda: function(numbers)


OURS = ("accelerated", "pure")
SCALAR = ("micrograd", *OURS)


def scalar(make: Callable[[str], Step], names: tuple[str, ...] = SCALAR) -> dict[str, Callable[[], Step]]:
    """The rivals of a workload that scalar engines do."""
    return {f"micrograd_bp, {name}" if name in OURS else name: partial(make, name) for name in names}


WORKLOADS: dict[str, dict[str, Callable[[], Step]]] = {
    "moons: one full-batch step of micrograd's demonstration": {
        **scalar(scalar_moons),
        "micrograd_bp, compiled": compiled_moons,
        "PyTorch, eager tensors": pytorch_moons,
        "JAX, jit": jax_moons,
        "autograd, arrays": autograd_moons,
        "CasADi, SX": casadi_moons,
    },
    "single rows of the same network: value and gradient of ten points, one by one": {
        "PyTorch, eager tensors": lambda: single_rows("PyTorch, eager tensors"),
        **scalar(single_rows),
    },
    "GPT of one layer: one training step on a name of eight letters": {
        "slots and tuples, pure Python": lambda: scalar_gpt("slots and tuples, pure Python"),
        **scalar(scalar_gpt, OURS),
    },
    "plain floats: the sums of a network 2-16-16-1, and what their derivatives add": {
        "plain floats": lambda: scalar_floats("plain floats"),
        **scalar(scalar_floats, OURS),
        "micrograd_bp, accelerated, net inputs": lambda: scalar_floats("accelerated", units=True),
        "micrograd_bp, pure, net inputs": lambda: scalar_floats("pure", units=True),
    },
    "dot product of 1,000": scalar(scalar_dot),
    "chain of 15,000 operations": scalar(scalar_chain),
    "iris, one epoch": scalar(scalar_iris),
}

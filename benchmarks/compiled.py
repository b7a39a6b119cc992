"""`python -m benchmarks.compiled`: programs recorded once and compiled, beside JAX, PyTorch, NumPy, CasADi and C.

Double precision, values and gradients, whole Python calls. Each table is one race.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import engines
from benchmarks.timing import race, races, unit
from benchmarks.workloads import casadi_moons, moons, scalar_moons

Step = Callable[[], Any]
np: Any = importlib.import_module("numpy")


def package() -> Any:
    """The library, on the accelerated engine where that is built."""
    try:
        return engines.load("accelerated")
    except ImportError:
        return engines.load("pure")


def jax() -> Any:
    """JAX, in double precision on the CPU."""
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    module.config.update("jax_platforms", "cpu")
    return module


# --- networks: the mean loss over a batch and its gradient ------------------------------------------------------------

SIZES: dict[str, tuple[list[int], str, str, int]] = {  # sizes, activation, loss, rows
    "moons": ([2, 16, 16, 1], "relu", "hinge", 100),
    "iris": ([4, 16, 3], "tanh", "cross entropy", 105),
    "digits": ([64, 32, 10], "relu", "cross entropy", 64),
    "tanh network": ([2, 64, 64, 1], "tanh", "squares", 256),
}


def data(name: str) -> tuple[Any, Any]:
    """Inputs and targets (a label, or a number) of a workload."""
    rng = np.random.default_rng(0)
    if name == "moons":
        points, labels = moons()
        return np.array(points), np.array(labels)
    if name == "tanh network":
        points = rng.uniform(-1.0, 1.0, (256, 2))
        return points, np.sin(3.0 * points[:, 0]) * points[:, 1]
    load = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")
    points, labels = load(return_X_y=True)
    chosen = rng.permutation(len(points))[: SIZES[name][3]]
    scale = points.std(0)
    return ((points - points.mean(0)) / np.where(scale > 0.0, scale, 1.0))[chosen], labels[chosen].astype(float)


def matrices(name: str) -> list[Any]:
    """Weights (outputs x inputs) and biases, layer after layer."""
    rng = np.random.default_rng(1)
    sizes = SIZES[name][0]
    layers = [(rng.uniform(-1.0, 1.0, (n, m)) / m**0.5, np.zeros(n)) for m, n in pairwise(sizes)]
    return [array for layer in layers for array in layer]


def flat(arrays: Sequence[Any]) -> Any:
    """Neuron after neuron, weights then bias: the order of `kernel`'s parameters here."""
    return np.concatenate([np.hstack([w, b[:, None]]).ravel() for w, b in zip(arrays[::2], arrays[1::2])])


def compiled_network(name: str, how: str = "array") -> Step:
    """Recorded for one row, compiled, replayed over the batch."""
    mg = package()
    sizes, activation, loss, _ = SIZES[name]
    points, targets = data(name)
    values = flat(matrices(name))
    parameters = [mg.Value(p) for p in values.tolist()]
    x, target = [mg.Value(v) for v in points[0].tolist()], mg.Value(targets[0])
    rest, layer = iter(parameters), x
    for k, size in enumerate(sizes[1:], 2):
        sums = []
        for _ in range(size):
            weights = [next(rest) for _ in layer]
            sums.append(sum((w * v for w, v in zip(weights, layer)), start=next(rest)))
        layer = [getattr(v, activation)() for v in sums] if k < len(sizes) else sums
    if loss == "hinge":
        output = (1.0 - target * layer[0]).relu() + 1e-4 * sum(p * p for p in parameters)
    elif loss == "squares":
        output = (layer[0] - target) ** 2
    else:
        top = layer[0]
        for score in layer[1:]:
            top = mg.maximum(top, score)
        chosen = layer[0]
        for k, score in enumerate(layer[1:], 1):
            chosen = mg.where(mg.ops.less_equal(k, target), score, chosen)
        output = mg.math.log(sum((score - top).exp() for score in layer)) + top - chosen
    kernel = mg.kernel(output, inputs=[*x, target], parameters=parameters)
    rows = np.column_stack([points, targets])
    if how == "array":
        return lambda: kernel.value_and_grad(rows, values)

    def step() -> Any:
        for p in parameters:
            p.grad = 0.0
        return kernel.backward(rows), parameters

    return step


def array_loss(xp: Any, name: str, arrays: Sequence[Any], points: Any, targets: Any) -> Any:
    """The same mean loss on arrays of JAX or PyTorch."""
    _, activation, loss, _ = SIZES[name]
    layer = points
    for k in range(0, len(arrays), 2):
        layer = layer @ arrays[k].T + arrays[k + 1]
        if k + 2 < len(arrays):
            layer = xp.tanh(layer) if activation == "tanh" else xp.maximum(layer, xp.zeros_like(layer))
    if loss == "hinge":
        margins = 1.0 - targets * layer[:, 0]
        penalty = sum((array * array).sum() for array in arrays)
        return xp.maximum(margins, xp.zeros_like(margins)).mean() + 1e-4 * penalty
    if loss == "squares":
        return ((layer[:, 0] - targets) ** 2).mean()
    rows = xp.arange(len(targets))
    return (xp.logsumexp(layer, 1) - layer[rows, targets]).mean()


def jax_network(name: str) -> Step:
    """jax.jit(value_and_grad), data as arguments."""
    library = jax()
    xp = library.numpy
    points, targets = data(name)
    if SIZES[name][2] == "cross entropy":
        targets = targets.astype(int)
    functions = {n: getattr(xp, n) for n in ("tanh", "maximum", "zeros_like", "arange")}
    space = SimpleNamespace(**functions, logsumexp=library.nn.logsumexp)
    function = library.jit(library.value_and_grad(lambda arrays, x, t: array_loss(space, name, arrays, x, t)))
    arrays, x, t = library.device_put((matrices(name), points, targets))
    return lambda: library.block_until_ready(function(arrays, x, t))


def torch_network(name: str) -> Step:
    """PyTorch, eager, one thread."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    points, targets = (torch.tensor(array) for array in data(name))
    if SIZES[name][2] == "cross entropy":
        targets = targets.long()
    arrays = [torch.tensor(array, requires_grad=True) for array in matrices(name)]

    def step() -> Any:
        for array in arrays:
            array.grad = None
        loss = array_loss(torch, name, arrays, points, targets)
        loss.backward()
        return loss.item(), [array.grad for array in arrays]

    return step


def numpy_moons() -> Step:
    """The moons step, forward and backward pass by hand, on arrays."""
    points, labels = data("moons")
    w1, b1, w2, b2, w3, b3 = arrays = matrices("moons")

    def step() -> Any:
        h1 = np.maximum(points @ w1.T + b1, 0.0)
        h2 = np.maximum(h1 @ w2.T + b2, 0.0)
        margins = 1.0 - labels * (h2 @ w3.T + b3)[:, 0]
        loss = np.maximum(margins, 0.0).mean() + 1e-4 * sum((array * array).sum() for array in arrays)
        d3 = np.where(margins > 0.0, -labels, 0.0)[:, None] / len(labels)
        d2 = (d3 @ w3) * (h2 > 0.0)
        d1 = (d2 @ w2) * (h1 > 0.0)
        gradients = [d1.T @ points, d1.sum(0), d2.T @ h1, d2.sum(0), d3.T @ h2, d3.sum(0)]
        return loss, [gradient + 2e-4 * array for gradient, array in zip(gradients, arrays)]

    return step


def c_moons() -> Step:
    """The moons step in C by hand; ImportError where there is no gcc."""
    folder = Path(tempfile.mkdtemp())
    command = ["gcc", "-O3", "-march=native", "-shared", "-fPIC", "-o", str(folder / "moons.so")]
    try:
        subprocess.run([*command, str(Path(__file__).with_name("moons.c"))], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImportError("gcc") from error
    function = ctypes.CDLL(str(folder / "moons.so")).moons
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    rows, values = np.column_stack(data("moons")), flat(matrices("moons"))
    gradient = np.empty_like(values)
    arguments = rows.ctypes.data, len(rows), values.ctypes.data, gradient.ctypes.data

    def step() -> Any:
        _ = rows, values  # whose memory the arguments point to
        return function(*arguments), gradient

    return step


# --- functions --------------------------------------------------------------------------------------------------------


def rosenbrock(x: Sequence[Any]) -> Any:
    return sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(x))


def compiled_rosenbrock(rows: int) -> Step:
    """Value and gradient at one point or at many; at one, the whole call on a list of floats."""
    mg = package()
    point = np.random.default_rng(0).uniform(-1.0, 2.0, (rows, 100))
    function = mg.jit(mg.value_and_grad(rosenbrock))
    if rows > 1:
        function = mg.jit(mg.vmap(mg.value_and_grad(rosenbrock)))
        return lambda: function(point)
    floats = point[0].tolist()
    while not function.stats["paths"]:  # a large program is compiled after some hundred calls
        function(floats)
    return lambda: function(floats)


def jax_rosenbrock(rows: int) -> Step:
    library = jax()

    def value(x: Any) -> Any:
        return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()

    point = library.device_put(np.random.default_rng(0).uniform(-1.0, 2.0, (rows, 100)))
    function = library.value_and_grad(value)
    if rows == 1:
        point, function = point[0], library.jit(function)
    else:
        function = library.jit(library.vmap(function))
    return lambda: library.block_until_ready(function(point))


def option(rows: int) -> Any:
    """Spot, strike, time, rate, volatility."""
    rng = np.random.default_rng(0)
    low, high = np.array([80.0, 90.0, 0.2, 0.0, 0.1]), np.array([120.0, 110.0, 2.0, 0.05, 0.5])
    return rng.uniform(low, high, (rows, 5))


def black_scholes(xp: Any, spot: Any, strike: Any, time: Any, rate: Any, volatility: Any) -> Any:
    width = volatility * xp.sqrt(time)
    d1 = (xp.log(spot / strike) + (rate + 0.5 * volatility * volatility) * time) / width
    both = [0.5 * xp.erfc(-d / 2.0**0.5) for d in (d1, d1 - width)]
    return spot * both[0] - strike * xp.exp(-rate * time) * both[1]


def compiled_black_scholes(rows: int) -> Step:
    mg = package()
    inputs = [mg.Value(v) for v in option(1)[0].tolist()]
    price = black_scholes(mg.math, *inputs)
    first = mg.gradients(price, inputs)
    second = [mg.gradients(slope, inputs[k:]) for k, slope in enumerate(first)]
    kernel = mg.kernel([price, *first, *(entry for row in second for entry in row)], inputs=inputs)
    points = option(rows)
    return lambda: kernel(points)


def jax_black_scholes(rows: int) -> Step:
    library = jax()
    functions = {n: getattr(library.numpy, n) for n in ("sqrt", "log", "exp")}
    space = SimpleNamespace(**functions, erfc=library.scipy.special.erfc)

    def price(x: Any) -> Any:
        return black_scholes(space, *x)

    function = library.jit(library.vmap(lambda x: (price(x), library.grad(price)(x), library.hessian(price)(x))))
    points = library.device_put(option(rows))
    return lambda: library.block_until_ready(function(points))


WORKLOADS: dict[str, dict[str, Callable[[], Step]]] = {
    "moons: value and gradient of 337 parameters, 100 points": {
        "micrograd_bp, compiled": lambda: compiled_network("moons"),
        "micrograd_bp, compiled, gathered from Values and left in grad": lambda: compiled_network("moons", "Values"),
        "C by hand, gcc -O3 -march=native": c_moons,
        "NumPy by hand": numpy_moons,
        "JAX, jit": lambda: jax_network("moons"),
        "PyTorch, eager": lambda: torch_network("moons"),
        "CasADi, SX": casadi_moons,
        "micrograd": lambda: scalar_moons("micrograd"),
    },
    "iris: 4-16-3, cross-entropy, 105 points": {
        "micrograd_bp, compiled": lambda: compiled_network("iris"),
        "JAX, jit": lambda: jax_network("iris"),
        "PyTorch, eager": lambda: torch_network("iris"),
    },
    "digits: 64-32-10, cross-entropy, 64 points": {
        "micrograd_bp, compiled": lambda: compiled_network("digits"),
        "JAX, jit": lambda: jax_network("digits"),
        "PyTorch, eager": lambda: torch_network("digits"),
    },
    "tanh network: 2-64-64-1, squares, 256 points": {
        "micrograd_bp, compiled": lambda: compiled_network("tanh network"),
        "JAX, jit": lambda: jax_network("tanh network"),
        "PyTorch, eager": lambda: torch_network("tanh network"),
    },
    "Rosenbrock's function of 100 variables and its gradient, one point": {
        "micrograd_bp, compiled": lambda: compiled_rosenbrock(1),
        "JAX, jit": lambda: jax_rosenbrock(1),
    },
    "Rosenbrock's function of 100 variables and its gradient, 10,000 points": {
        "micrograd_bp, compiled": lambda: compiled_rosenbrock(10_000),
        "JAX, jit and vmap": lambda: jax_rosenbrock(10_000),
    },
    "Black-Scholes with all first and second derivatives, 1,000,000 rows": {
        "micrograd_bp, compiled": lambda: compiled_black_scholes(1_000_000),
        "JAX, jit and vmap": lambda: jax_black_scholes(1_000_000),
    },
}


def first_call() -> str:
    """How long recording and compiling takes, and the warm call of the smallest function."""
    start = time.perf_counter()
    compiled_network("moons")()
    moons_time = time.perf_counter() - start
    mg = package()
    small = mg.jit(lambda x, y: mg.math.sin(x) * y)
    small(0.5, 2.0)
    best = min(race({"call": lambda: small(0.5, 2.0)})["call"].seconds)
    return f"moons, recorded and compiled: {unit(moons_time)}; a warm call of two operations: {unit(best)}"


def large_graphs(sizes: Sequence[int]) -> str:
    """Seconds a node to compile graphs of growing size."""
    mg = package()
    rng = random.Random(0)
    lines = ["| nodes | compiled, a node | a row, a node |", "|---:|---:|---:|"]
    for size in sizes:
        leaves = [mg.Value(rng.uniform(-0.5, 0.5)) for _ in range(64)]
        nodes = list(leaves)
        while len(nodes) < size:
            recent = max(0, len(nodes) - 2000)
            a, b = nodes[rng.randrange(recent, len(nodes))], nodes[rng.randrange(recent, len(nodes))]
            nodes.append(a * b if rng.random() < 0.5 else (a - b) * 0.7)
        output = nodes[-1]
        for node in nodes[-2000:-1]:
            output = output + node * 0.01
        rows = rng.uniform(-0.5, 0.5) + np.zeros((64, 32))
        start = time.perf_counter()
        kernel = mg.kernel(output, leaves[:32], leaves[32:])
        kernel(rows)
        compiled = time.perf_counter() - start
        count = kernel.program.count
        run = race({"run": partial(kernel, rows)}, rounds=2)["run"].best
        lines.append(f"| {count:,} | {unit(compiled / count)} | {unit(run / count / 64)} |")
    return "\n".join(lines)


def main() -> None:
    """Race the workloads whose name contains one of the words given (all without; "large" for the large graphs)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="one short round, narrow networks, a small graph")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors\n")
    how: dict[str, Any] = {"rounds": 1, "least": 0.0} if options.small else {"rounds": options.rounds}
    for name in ("digits", "tanh network") if options.small else ():
        widths, activation, loss, rows = SIZES[name]
        SIZES[name] = [widths[0], *[4] * (len(widths) - 2), widths[-1]], activation, loss, rows
    chosen = {
        title: makers
        for title, makers in WORKLOADS.items()
        if not options.words or any(word in title for word in options.words)
    }
    races(chosen, **how)
    if not options.words or "large" in options.words:
        sizes = (1_000,) if options.small else (10_000, 100_000, 1_000_000)
        print(first_call(), "\n", large_graphs(sizes), sep="\n", flush=True)


if __name__ == "__main__":
    main()

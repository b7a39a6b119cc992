"""`python -m benchmarks.crossover`: where the scalar way stops paying against tensors, by the width of a network.

Value and gradient of the mean squared error of a network with w inputs, w tanh units and one output, by each engine, by
a compiled kernel, by PyTorch and by jax.jit: whole Python calls, double precision, the same numbers (checked). With one
core, processor time of one thread; with more (`--cores 2`), wall-clock time, and each rival may use them all. The
engines take a batch row by row, so that theirs is timed for one row and multiplied. The first result is timed from
lists of numbers to value and gradient, with making the model, recording and compiling, without imports.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import math
import os
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks import engines
from benchmarks.timing import race, unit

Step = Callable[[], tuple[float, Any]]  # the loss, and the gradient: weights and bias of each unit in turn
WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512)
SCALAR = ("pure", "accelerated", "compiled")


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def numbers(width: int, rows: int) -> tuple[list[float], list[list[float]], list[float]]:
    """Parameters, rows and targets."""
    rng = random.Random(width)
    parameters = [rng.gauss(0, 1) / math.sqrt(width) for _ in range(width * (width + 1) + width + 1)]
    return (
        parameters,
        [[rng.gauss(0, 1) for _ in range(width)] for _ in range(rows)],
        [rng.gauss(0, 1) for _ in range(rows)],
    )


def loaded(mg: Any, width: int, parameters: list[float]) -> Any:
    """The network with these parameters."""
    model = mg.nn.MLP(width, [width, 1], activation="tanh", init=lambda *_: 0.0)
    for parameter, x in zip(model.parameters(), parameters, strict=True):
        parameter.data = x
    return model


def eager(engine: str, width: int, rows: int) -> Step:
    """One row at a time, as `fit` does; here the first row only, unless there is but one."""
    mg = engines.load(engine)
    parameters, X, t = numbers(width, rows)
    model = loaded(mg, width, parameters)
    weights = model.parameters()

    def step() -> tuple[float, Any]:
        for weight in weights:
            weight.grad = 0.0
        error = (model(X[0]) - t[0]) ** 2
        error.backward()
        return error.data, [weight.grad for weight in weights]

    return step


def compiled(width: int, rows: int) -> Step:
    """The loss of one row recorded, compiled, replayed over the batch."""
    np = importlib.import_module("numpy")
    mg = engines.load("accelerated")
    parameters, X, t = numbers(width, rows)
    model = loaded(mg, width, parameters)
    inputs, target = [mg.Value(x) for x in X[0]], mg.Value(t[0])
    kernel = mg.kernel((model(inputs) - target) ** 2, [*inputs, target], model.parameters())
    data, weights = np.column_stack([X, t]), np.array(parameters)
    return lambda: kernel.value_and_grad(data, weights)


def pytorch(width: int, rows: int) -> Step:
    """Eager PyTorch."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(cores())
    parameters, X, t = (torch.tensor(part, dtype=torch.float64) for part in numbers(width, rows))
    layers = [torch.nn.Linear(width, width), torch.nn.Linear(width, 1)]
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1]).to(torch.float64)
    with torch.no_grad():
        units, last = parameters[: -width - 1].reshape(width, width + 1), parameters[-width - 1 :]
        for layer, block in zip(layers, (units, last[None, :])):
            layer.weight.copy_(block[:, :-1])
            layer.bias.copy_(block[:, -1])

    def step() -> tuple[float, Any]:
        model.zero_grad()
        loss = ((model(X)[:, 0] - t) ** 2).mean()
        loss.backward()
        return loss.item(), layers

    return step


def jax(width: int, rows: int) -> Step:
    """jax.jit(value_and_grad)."""
    if cores() == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    jnp = module.numpy
    parameters, X, t = (jnp.array(part) for part in numbers(width, rows))

    def loss(flat: Any, X: Any, t: Any) -> Any:
        units, last = flat[: -width - 1].reshape(width, width + 1), flat[-width - 1 :]
        hidden = jnp.tanh(X @ units[:, :-1].T + units[:, -1])
        return jnp.mean((hidden @ last[:-1] + last[-1] - t) ** 2)

    both = module.jit(module.value_and_grad(loss))

    def step() -> tuple[float, Any]:
        value, gradient = both(parameters, X, t)
        return float(value), gradient.block_until_ready()

    return step


RIVALS: dict[str, Callable[[int, int], Step]] = {
    "pure": functools.partial(eager, "pure"),
    "accelerated": functools.partial(eager, "accelerated"),
    "compiled": compiled,
    "PyTorch": pytorch,
    "jax.jit": jax,
}


def flat(gradient: Any) -> list[float]:
    """A gradient as one list; PyTorch keeps it with its layers."""
    if isinstance(gradient, list) and not isinstance(gradient[0], float):
        rows = [row for layer in gradient for row in zip(layer.weight.grad.tolist(), layer.bias.grad.tolist())]
        return [x for weights, bias in rows for x in (*weights, bias)]
    return [float(x) for x in gradient]


def check(found: dict[str, tuple[float, Any]]) -> None:
    """All rivals agree with the first."""
    (name, (value, first)), *others = found.items()
    gradient = flat(first)
    for other, (x, result) in others:
        slopes = flat(result)
        assert math.isclose(x, value, rel_tol=1e-9), (name, value, other, x)
        assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(slopes, gradient, strict=True)), other


def main() -> None:
    """Print a table for each size of batch: times as multiples of the faster tensor library's.

    Where none is there, of the fastest.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crossover", description=__doc__)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--cores", type=int, default=1, help="that all may use")
    parser.add_argument("--small", action="store_true", help="the narrowest network, one round")
    options = parser.parse_args()
    if options.small:
        options.widths, options.batches, options.rounds = [2], [1, 4], 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    clock = time.process_time if options.cores == 1 else time.perf_counter
    rivals = {name: RIVALS[name] for name in options.rivals}
    for make in rivals.values():  # imports, and what the first program of all has to build
        with contextlib.suppress(ImportError):
            make(2 if options.small else 24, 2)()
    for rows in options.batches:
        print(f"\n**A batch of {rows}**\n\n| width | parameters | {' | '.join(rivals)} | 1 is | first results |")
        print("|" + "---:|" * (len(rivals) + 4))
        for width in options.widths:
            numbers.cache_clear()
            numbers(width, rows)
            steps, first = {}, {}
            for name, make in rivals.items():
                start = clock()
                try:
                    steps[name] = make(width, rows)
                    steps[name]()
                except ImportError:
                    continue
                first[name] = clock() - start
            check({name: step() for name, step in steps.items() if rows == 1 or name not in ("pure", "accelerated")})
            timings = race(steps, rounds=options.rounds, clock=clock)
            best = {name: x.best * (rows if name in ("pure", "accelerated") else 1) for name, x in timings.items()}
            base = min([best[name] for name in best if name not in SCALAR] or [min(best.values())])
            ratios = [f"{best[name] / base:.3g}" if name in best else "" for name in rivals]
            compiling = ", ".join(f"{name} {unit(first[name])}" for name in ("compiled", "jax.jit") if name in first)
            print(
                f"| {width} | {width * (width + 2) + 1} | {' | '.join(ratios)} | {unit(base)} | {compiling} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

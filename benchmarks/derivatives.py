"""`python -m benchmarks.derivatives`: derivatives beyond the gradient, beside the libraries that have them.

Peers (pip install): casadi for sparse Hessians and implicit functions, jax for Taylor series, checkpoints and
Jacobians of several outputs, uncertainties for correlated inputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

import micrograd_bp as mg
from benchmarks.timing import races
from micrograd_bp import math

Makers: TypeAlias = dict[str, Callable[[], Callable[[], object]]]


def taylor_series(order: int) -> Makers:
    """tanh(x) * exp(x) / x at 0.7."""

    def f(x: Any) -> Any:
        return math.tanh(x) * math.exp(x) / x

    def nested() -> Callable[[], object]:
        derivatives = [f]
        for _ in range(min(order, 8)):
            derivatives.append(mg.grad(derivatives[-1]))
        return lambda: [derivative(0.7) for derivative in derivatives]

    def jet() -> Callable[[], object]:
        import jax
        from jax import numpy as jnp
        from jax.experimental.jet import jet

        jax.config.update("jax_enable_x64", True)
        series = ([1.0] + [0.0] * (order - 1),)
        g = lambda x: jnp.tanh(x) * jnp.exp(x) / x  # noqa: E731
        compiled = jax.jit(lambda x: jet(g, (x,), series))
        return lambda: [float(c) for c in compiled(0.7)[1]]

    def compiled() -> Callable[[], object]:
        run = mg.jit(lambda x: mg.taylor(f, x, order))
        return lambda: run(0.7)

    return {
        "mg.taylor": lambda: lambda: mg.taylor(f, 0.7, order),
        "mg.jit of mg.taylor": compiled,
        "mg.taylor, 30 digits": lambda: lambda: mg.taylor(f, 0.7, order, digits=30),
        f"mg.grad, nested {min(order, 8)} times": nested,
        "jax.jit of jax.experimental.jet": jet,
    }


def correlated_inputs(n: int) -> Makers:
    """The uncertainty of a sum of sines of n correlated numbers."""
    x = [0.1 * i for i in range(n)]
    covariance = [[0.01 * 0.9 ** abs(i - j) for j in range(n)] for i in range(n)]

    def peer() -> Callable[[], object]:
        import numpy as np
        import uncertainties
        from uncertainties import umath

        matrix = np.array(covariance)
        return lambda: sum(umath.sin(a) * a for a in uncertainties.correlated_values(x, matrix)).std_dev

    f = lambda x: sum(math.sin(a) * a for a in x)  # noqa: E731
    return {"mg.propagate": lambda: lambda: mg.propagate(f, x, covariance)[1], "uncertainties": peer}


def rounding(n: int) -> Makers:
    """The rounding error of a recurrence of n steps; its peer is the same recurrence in 50 digits."""
    from micrograd_bp.testing import Precise

    def f(x: Any) -> Any:
        for _ in range(n):
            x = 3.5 * x * (1.0 - x)
        return x

    return {
        "mg.rounding_error": lambda: lambda: mg.rounding_error(f(mg.Value(0.3))).bound,
        "recorded and swept back": lambda: lambda: f(mg.Value(0.3)).backward(),
        "run in 50 digits (mpmath)": lambda: lambda: f(Precise(0.3)),
    }


def opaque() -> Makers:
    """The gradient of a function that calls code without derivatives."""
    import math as plain

    def outside(x: float) -> float:
        return float(plain.sin(x) / x)

    f = mg.custom_derivative(outside, lambda out, x: ((math.cos(x) - out) / x,))

    def jax_callback() -> Callable[[], object]:
        import jax
        import numpy as np
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", True)
        shape = jax.ShapeDtypeStruct((), np.float64)

        @jax.custom_jvp
        def g(x: Any) -> Any:
            return jax.pure_callback(lambda x: np.float64(outside(float(x))), shape, x)

        @g.defjvp
        def _(primals: Any, tangents: Any) -> Any:
            (x,), (t,) = primals, tangents
            out = g(x)
            return out, t * (jnp.cos(x) - out) / x

        slope = jax.jit(jax.grad(g))
        return lambda: float(slope(0.7))

    compiled = mg.jit(mg.grad(f))
    return {
        "mg.grad": lambda: lambda: mg.grad(f)(0.7),
        "mg.jit of mg.grad": lambda: lambda: compiled(0.7),
        "jax.jit of jax.grad, custom_jvp and pure_callback": jax_callback,
    }


def implicit(n: int) -> Makers:
    """The Jacobian, by n parameters, of the steady state of n coupled reactions."""
    params = [1.0 + 0.1 * i for i in range(n)]

    def balance(x: Any, p: Any, exp: Any = math.exp) -> list[Any]:
        return [p[i] - x[i] * exp(0.1 * x[i - 1]) - 0.2 * x[i] * x[i - 2] for i in range(n)]

    def casadi_rootfinder() -> Callable[[], object]:
        import casadi

        x, p = casadi.SX.sym("x", n), casadi.SX.sym("p", n)
        sides = balance([x[i] for i in range(n)], [p[i] for i in range(n)], casadi.exp)
        solver = casadi.rootfinder("s", "newton", {"x": x, "p": p, "g": casadi.vertcat(*sides)})
        q = casadi.MX.sym("q", n)
        jacobian = casadi.Function("j", [q], [casadi.jacobian(solver(x0=[1.0] * n, p=q)["x"], q)])
        return lambda: jacobian(params)

    def solve(p: Any) -> Any:
        return mg.root(balance, [1.0] * n, p)

    compiled = mg.jit(mg.jacobian(solve))
    return {
        "mg.jacobian of mg.root": lambda: lambda: mg.jacobian(solve)(params),
        "mg.jit of mg.jacobian of mg.root": lambda: lambda: compiled(params),
        "mg.root alone": lambda: lambda: solve(params),
        "casadi.rootfinder, jacobian": casadi_rootfinder,
    }


def pendulum(state: Any, gravity: Any, sin: Any = math.sin) -> list[Any]:
    angle, speed = state
    speed = speed - 1e-3 * gravity * sin(angle)
    return [angle + 1e-3 * speed, speed]


def checkpointing(n: int) -> Makers:
    """The derivative by a parameter of n steps of a pendulum."""

    def plain(gravity: Any) -> Any:
        state: Any = [1.0, 0.0]
        for _ in range(n):
            state = pendulum(state, gravity)
        return state[0]

    def kept(snapshots: int | None) -> Callable[[], object]:
        steps = mg.checkpoint(pendulum, n, snapshots)
        return lambda: mg.grad(lambda gravity: steps([1.0, 0.0], gravity)[0])(9.81)

    def jax_remat() -> Callable[[], object]:
        import jax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", True)
        block = round(n**0.5)

        @jax.checkpoint
        def inner(state: Any, gravity: Any) -> Any:
            return jax.lax.scan(lambda s, _: (tuple(pendulum(s, gravity, jnp.sin)), None), state, None, block)[0]

        def loss(gravity: Any) -> Any:
            return jax.lax.scan(lambda s, _: (inner(s, gravity), None), (1.0, 0.0), None, n // block)[0][0]

        slope = jax.jit(jax.grad(loss))
        return lambda: float(slope(9.81))

    return {
        "the loop, recorded": lambda: lambda: mg.grad(plain)(9.81),
        "mg.checkpoint": lambda: kept(None),
        "mg.checkpoint, all states kept": lambda: kept(n),
        "jax.jit of scan and jax.checkpoint": jax_remat,
    }


def long_loop(n: int) -> None:
    """How much memory n checkpointed steps take, and how often each is computed."""
    import resource
    import time

    from micrograd_bp.checkpointing import recomputations

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    steps = mg.checkpoint(pendulum, n)
    slope = mg.grad(lambda gravity: steps([1.0, 0.0], gravity)[0])(9.81)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"**checkpointing {n:,} steps**: {after / 1024:.0f} MB in all, {(after - before) / 1024:.0f} MB")
    print(
        f"of them more than before; each step computed {1.0 + recomputations(n, 4 * n.bit_length()) / n:.2f} times and"
    )
    print(f"recorded once; {time.perf_counter() - start:.0f} s; the slope is {slope:.6g}\n")


def several_outputs(m: int) -> Makers:
    """The Jacobian of m outputs by m inputs of a network of four layers: of one recording, and all of it."""
    from random import Random

    from micrograd_bp._engine.engine import slope_rows, slopes, variables

    rng, width = Random(0), 3 * m // 2
    layers = [[[rng.gauss(0.0, 0.5) for _ in range(width)] for _ in range(width)] for _ in range(4)]
    point = [0.1 * i for i in range(m)]

    def network(x: Any, tanh: Any = math.tanh) -> Any:
        h = [x[i % m] * (1.0 + i) for i in range(width)]
        for layer in layers:
            h = [tanh(sum(w * a for w, a in zip(row, h))) for row in layer]
        return h[:m]

    def recorded(sweeps: Callable[[Any, Any], object]) -> Callable[[], Callable[[], object]]:
        inputs = variables(point)
        outputs = network(inputs)
        return lambda: lambda: sweeps(outputs, inputs)

    def jax_jacobian(which: str) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            import jax
            from jax import numpy as jnp

            jax.config.update("jax_enable_x64", True)
            run = jax.jit(getattr(jax, which)(lambda x: jnp.stack(network(x, jnp.tanh))))
            x = jnp.array(point)
            run(x)
            return lambda: run(x).block_until_ready()

        return make

    def compiled() -> Callable[[], object]:
        run: Any = mg.jit(mg.jacobian(network))
        run.pays = 0  # compile at once
        run(point)
        return lambda: run(point)

    return {
        "one recording, a block of outputs a sweep": recorded(slope_rows),
        "one recording, a block of inputs a sweep": recorded(lambda ys, xs: slope_rows(ys, xs, forward=True)),
        "one recording, a sweep for each output": recorded(lambda ys, xs: [slopes(y, xs) for y in ys]),
        "mg.jacobian": lambda: lambda: mg.jacobian(network)(point),
        "mg.grad of each output": lambda: lambda: [mg.grad(lambda x, i=i: network(x)[i])(point) for i in range(m)],
        "mg.jit of mg.jacobian": compiled,
        "jax.jit of jax.jacrev": jax_jacobian("jacrev"),
        "jax.jit of jax.jacfwd": jax_jacobian("jacfwd"),
    }


def rosenbrock(x: Any, n: int) -> Any:
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(n - 1))


def sparse_hessian(n: int) -> Makers:
    """Of the chained Rosenbrock function: built and evaluated once."""
    import numpy as np

    x = np.linspace(-1.0, 1.0, n)

    def casadi_built() -> Callable[[], object]:
        import casadi

        def run() -> object:
            z = casadi.SX.sym("z", n)
            hessian = casadi.Function("h", [z], [casadi.hessian(rosenbrock(z, n), z)[0]])
            return hessian(x).sparse()

        return run

    return {
        "mg.hessian, sparse": lambda: lambda: mg.hessian(lambda z: rosenbrock(z, n), sparse=True)(x),
        "casadi, built and evaluated": casadi_built,
    }


def sparse_again(n: int) -> Makers:
    """The same Hessian, evaluated again and again: each peer as fast as it gets."""
    import numpy as np

    x = np.linspace(-1.0, 1.0, n)

    def compiled() -> Callable[[], object]:
        run: Any = mg.jit(mg.hessian(lambda z: rosenbrock(z, n), sparse=True))
        run.pays = 0  # compile at once
        run(x)
        return lambda: run(x)

    def casadi_function(c: bool) -> Callable[[], object]:
        import casadi

        z = casadi.SX.sym("z", n)
        hessian = casadi.Function("h", [z], [casadi.hessian(rosenbrock(z, n), z)[0]])
        if c:
            import os
            import subprocess
            import tempfile

            folder = tempfile.mkdtemp()
            here = os.getcwd()
            os.chdir(folder)
            try:
                hessian.generate("h.c")
                subprocess.run(["cc", "-O2", "-shared", "-fPIC", "h.c", "-o", "h.so"], check=True)
                hessian = casadi.external("h", os.path.join(folder, "h.so"))
            finally:
                os.chdir(here)
        return lambda: hessian(x)

    return {
        "mg.jit of mg.hessian, sparse": compiled,
        "mg.hessian, sparse": lambda: lambda: mg.hessian(lambda z: rosenbrock(z, n), sparse=True)(x),
        "casadi, in its virtual machine": lambda: casadi_function(c=False),
        "casadi, generated C": lambda: casadi_function(c=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derivatives", description=__doc__)
    parser.add_argument("words", nargs="*", help="only what has one of these words in its title")
    parser.add_argument("--small", action="store_true", help="one short round of small problems")
    options = parser.parse_args()
    small = options.small
    work: dict[str, Makers] = {
        f"Taylor series to order {4 if small else 20}": taylor_series(4 if small else 20),
        "rounding error": rounding(10 if small else 1000),
        "a derivative of one's own": opaque(),
        "implicit functions": implicit(3 if small else 10),
        "checkpointing": checkpointing(100 if small else 10_000),
        f"sparse Hessian, {5 if small else 5_000} variables": sparse_hessian(5 if small else 5_000),
        f"sparse Hessian again, {5 if small else 5_000} variables": sparse_again(5 if small else 5_000),
        f"Jacobian of {2 if small else 16} outputs": several_outputs(2 if small else 16),
        "correlated inputs": correlated_inputs(3 if small else 100),
    }
    if not options.words or "long" in options.words:
        long_loop(1_000 if small else 10_000_000)
    how = {"rounds": 1, "least": 0.0} if small else {"rounds": 5}
    chosen = [title for title in work if not options.words or any(word in title for word in options.words)]
    races({title: work[title] for title in chosen}, **how)


if __name__ == "__main__":
    main()

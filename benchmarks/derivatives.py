"""`python -m benchmarks.derivatives`: derivatives beyond the gradient, beside the libraries that have them.

Peers (pip install): jax for Taylor series.
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derivatives", description=__doc__)
    parser.add_argument("words", nargs="*", help="only what has one of these words in its title")
    parser.add_argument("--small", action="store_true", help="one short round of small problems")
    options = parser.parse_args()
    small = options.small
    work: dict[str, Makers] = {
        f"Taylor series to order {4 if small else 20}": taylor_series(4 if small else 20),
    }
    how = {"rounds": 1, "least": 0.0} if small else {"rounds": 5}
    chosen = [title for title in work if not options.words or any(word in title for word in options.words)]
    races({title: work[title] for title in chosen}, **how)


if __name__ == "__main__":
    main()

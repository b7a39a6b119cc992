"""`python -m benchmarks.structures`: loops in Python over scalars, beside JAX with arrays and the same loops in C.

A convolution, attention, an LSTM, residuals, a Hessian, a stencil, bodies that attract each other: written with scalars
in plain loops, as one would who has never heard of arrays; in JAX with arrays, as its users do. Value and gradient (of
the Hessian's function, the Hessian) at one point, whole Python calls, one thread, double precision, all compared with
each other. Beside them the C that `kernel.source("c")` writes for the same graph, and C written by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import math
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import engines
from benchmarks.timing import race, unit

Call = Callable[[], tuple[float, Any]]
np: Any = importlib.import_module("numpy")


@dataclass
class Task:
    """One function: f(math, inputs, parameters) on scalars, and on arrays in JAX; its numbers; C by hand, if any."""

    scalars: Callable[[Any, list[Any], list[Any]], Any]
    arrays: Callable[[Any, Any, Any], Any]
    inputs: int
    parameters: int
    by_hand: str = ""
    hessian: bool = False


def numbers(task: Task) -> tuple[Any, Any]:
    """A point."""
    rng = np.random.default_rng(0)
    return rng.normal(size=task.inputs), rng.normal(size=task.parameters) * 0.3


# --- the tasks --------------------------------------------------------------------------------------------------------


def convolution(side: int, filters: int) -> Task:
    """Filters of 3 x 3 over an image, tanh, and the sum of squares."""
    out = side - 2

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        energy = 0.0
        for f in range(filters):
            for i in range(out):
                for j in range(out):
                    total = 0.0
                    for a in range(3):
                        for b in range(3):
                            total = total + w[9 * f + 3 * a + b] * x[side * (i + a) + j + b]
                    energy = energy + math.tanh(total) ** 2
        return energy

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        found = jax.lax.conv(x.reshape(1, 1, side, side), w.reshape(filters, 1, 3, 3), (1, 1), "VALID")
        return (jax.numpy.tanh(found) ** 2).sum()

    by_hand = f"""
#include <math.h>
double by_hand(const double *x, const double *w, double *gradient)
{{
    double energy = 0.0;
    for (int f = 0; f < {filters}; f++) {{
        const double *filter = w + 9 * f;
        double slopes[9] = {{0.0}};
        for (int i = 0; i < {out}; i++)
            for (int j = 0; j < {out}; j++) {{
                double total = 0.0;
                for (int a = 0; a < 3; a++)
                    for (int b = 0; b < 3; b++)
                        total += filter[3 * a + b] * x[{side} * (i + a) + j + b];
                const double y = tanh(total), g = 2.0 * y * (1.0 - y * y);
                energy += y * y;
                for (int a = 0; a < 3; a++)
                    for (int b = 0; b < 3; b++)
                        slopes[3 * a + b] += g * x[{side} * (i + a) + j + b];
            }}
        for (int a = 0; a < 9; a++)
            gradient[9 * f + a] = slopes[a];
    }}
    return energy;
}}
"""
    return Task(scalars, arrays, side * side, 9 * filters, by_hand)


def attention(tokens: int, width: int, heads: int) -> Task:
    """One layer of causal attention, as in benchmarks/gpt.py, and the sum of squares of what it gives."""
    size = width // heads

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        def linear(number: int, v: list[Any]) -> list[Any]:
            start = number * width * width
            return [sum(w[start + width * i + j] * v[j] for j in range(width)) for i in range(width)]

        rows = [x[width * t : width * t + width] for t in range(tokens)]
        queries, keys, values = ([linear(k, row) for row in rows] for k in range(3))
        total = 0.0
        for t in range(tokens):
            mixed: list[Any] = []
            for h in range(0, width, size):
                scores = [
                    math.exp(sum(queries[t][h + i] * keys[s][h + i] for i in range(size)) * size**-0.5)
                    for s in range(t + 1)
                ]
                norm = sum(scores)
                shares = [score / norm for score in scores]
                mixed += [sum(shares[s] * values[s][h + i] for s in range(t + 1)) for i in range(size)]
            total = total + sum(y * y for y in linear(3, mixed))
        return total

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        jnp = jax.numpy
        query, key, value, mix = w.reshape(4, width, width)
        x = x.reshape(tokens, width)
        q, k, v = ((x @ m.T).reshape(tokens, heads, size).transpose(1, 0, 2) for m in (query, key, value))
        scores = q @ k.transpose(0, 2, 1) * size**-0.5
        shares = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -jnp.inf), axis=-1)
        mixed = (shares @ v).transpose(1, 0, 2).reshape(tokens, width)
        return ((mixed @ mix.T) ** 2).sum()

    by_hand = f"""
#include <math.h>
#include <string.h>
enum {{ T = {tokens}, D = {width}, S = {size} }};
static void linear(const double (*m)[D], const double (*x)[D], double (*y)[D])
{{
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) {{
            double total = 0.0;
            for (int j = 0; j < D; j++)
                total += m[i][j] * x[t][j];
            y[t][i] = total;
        }}
}}
static void slopes(const double (*g)[D], const double (*x)[D], double (*d)[D])
{{
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++)
            for (int j = 0; j < D; j++)
                d[i][j] += g[t][i] * x[t][j];
}}
double by_hand(const double *numbers, const double *w, double *gradient)
{{
    static double q[T][D], k[T][D], v[T][D], m[T][D], y[T][D], p[D / S][T][T];
    static double gq[T][D], gk[T][D], gv[T][D], gm[T][D];
    const double (*x)[D] = (const double (*)[D])numbers, (*matrix)[D] = (const double (*)[D])w;
    double (*d)[D] = (double (*)[D])gradient;
    const double scale = 1.0 / sqrt(S);
    double value = 0.0;
    linear(matrix, x, q);
    linear(matrix + D, x, k);
    linear(matrix + 2 * D, x, v);
    memset(m, 0, sizeof m);
    for (int h = 0; h < D / S; h++)
        for (int t = 0; t < T; t++) {{
            double norm = 0.0;
            for (int s = 0; s <= t; s++) {{
                double score = 0.0;
                for (int i = S * h; i < S * h + S; i++)
                    score += q[t][i] * k[s][i];
                p[h][t][s] = exp(score * scale);
                norm += p[h][t][s];
            }}
            for (int s = 0; s <= t; s++) {{
                p[h][t][s] /= norm;
                for (int i = S * h; i < S * h + S; i++)
                    m[t][i] += p[h][t][s] * v[s][i];
            }}
        }}
    linear(matrix + 3 * D, (const double (*)[D])m, y);
    memset(gm, 0, sizeof gm);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) {{
            value += y[t][i] * y[t][i];
            y[t][i] *= 2.0;
            for (int j = 0; j < D; j++)
                gm[t][j] += y[t][i] * matrix[3 * D + i][j];
        }}
    memset(gq, 0, sizeof gq);
    memset(gk, 0, sizeof gk);
    memset(gv, 0, sizeof gv);
    for (int h = 0; h < D / S; h++)
        for (int t = 0; t < T; t++) {{
            double g[T], mean = 0.0;
            for (int s = 0; s <= t; s++) {{
                g[s] = 0.0;
                for (int i = S * h; i < S * h + S; i++) {{
                    g[s] += gm[t][i] * v[s][i];
                    gv[s][i] += p[h][t][s] * gm[t][i];
                }}
                mean += p[h][t][s] * g[s];
            }}
            for (int s = 0; s <= t; s++) {{
                const double a = p[h][t][s] * (g[s] - mean) * scale;
                for (int i = S * h; i < S * h + S; i++) {{
                    gq[t][i] += a * k[s][i];
                    gk[s][i] += a * q[t][i];
                }}
            }}
        }}
    memset(gradient, 0, 4 * D * D * sizeof *gradient);
    slopes((const double (*)[D])gq, x, d);
    slopes((const double (*)[D])gk, x, d + D);
    slopes((const double (*)[D])gv, x, d + 2 * D);
    slopes((const double (*)[D])y, (const double (*)[D])m, d + 3 * D);
    return value;
}}
"""
    return Task(scalars, arrays, tokens * width, 4 * width * width, by_hand)


def lstm(steps: int, units: int) -> Task:
    """A recurrent cell with gates over a series, one number a step; the sum of its last outputs."""
    columns = units + 2

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        def sigmoid(y: Any) -> Any:
            return 1.0 / (1.0 + math.exp(-y))

        h, c = [0.0 * x[0]] * units, [0.0 * x[0]] * units
        for t in range(steps):
            gates = []
            for g in range(4 * units):
                row = w[columns * g : columns * g + columns]
                gates.append(row[0] * x[t] + row[1] + sum(a * b for a, b in zip(row[2:], h)))
            c = [
                sigmoid(gates[k]) * c[k] + sigmoid(gates[units + k]) * math.tanh(gates[2 * units + k])
                for k in range(units)
            ]
            h = [sigmoid(gates[3 * units + k]) * math.tanh(c[k]) for k in range(units)]
        return sum(h)

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        jnp = jax.numpy
        w = w.reshape(4 * units, columns)

        def step(state: Any, x: Any) -> Any:
            h, c = state
            a, b, d, o = (w[:, 0] * x + w[:, 1] + w[:, 2:] @ h).reshape(4, units)
            c = jax.nn.sigmoid(a) * c + jax.nn.sigmoid(b) * jnp.tanh(d)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        (h, _), _ = jax.lax.scan(step, (jnp.zeros(units), jnp.zeros(units)), x)
        return h.sum()

    by_hand = f"""
#include <math.h>
#include <string.h>
enum {{ N = {steps}, U = {units} }};
static double sigmoid(double y) {{ return 1.0 / (1.0 + exp(-y)); }}
double by_hand(const double *x, const double *w, double *gradient)
{{
    static double h[N + 1][U], c[N + 1][U], gates[N][4][U], last[N][U];
    const double (*row)[U + 2] = (const double (*)[U + 2])w;
    double (*slope)[U + 2] = (double (*)[U + 2])gradient;
    double value = 0.0, dh[U], dc[U] = {{0.0}};
    for (int t = 0; t < N; t++) {{
        for (int g = 0; g < 4 * U; g++) {{
            double total = row[g][0] * x[t] + row[g][1];
            for (int j = 0; j < U; j++)
                total += row[g][2 + j] * h[t][j];
            gates[t][g / U][g % U] = g / U == 2 ? tanh(total) : sigmoid(total);
        }}
        for (int k = 0; k < U; k++) {{
            c[t + 1][k] = gates[t][0][k] * c[t][k] + gates[t][1][k] * gates[t][2][k];
            last[t][k] = tanh(c[t + 1][k]);
            h[t + 1][k] = gates[t][3][k] * last[t][k];
        }}
    }}
    for (int k = 0; k < U; k++) {{
        value += h[N][k];
        dh[k] = 1.0;
    }}
    memset(gradient, 0, 4 * U * (U + 2) * sizeof *gradient);
    for (int t = N - 1; t >= 0; t--) {{
        double d[4][U];
        for (int k = 0; k < U; k++) {{
            const double a = gates[t][0][k], b = gates[t][1][k], e = gates[t][2][k], o = gates[t][3][k];
            d[3][k] = dh[k] * last[t][k] * o * (1.0 - o);
            dc[k] += dh[k] * o * (1.0 - last[t][k] * last[t][k]);
            d[0][k] = dc[k] * c[t][k] * a * (1.0 - a);
            d[1][k] = dc[k] * e * b * (1.0 - b);
            d[2][k] = dc[k] * b * (1.0 - e * e);
            dc[k] *= a;
            dh[k] = 0.0;
        }}
        for (int g = 0; g < 4 * U; g++) {{
            const double s = d[g / U][g % U];
            slope[g][0] += s * x[t];
            slope[g][1] += s;
            for (int j = 0; j < U; j++) {{
                slope[g][2 + j] += s * h[t][j];
                dh[j] += s * row[g][2 + j];
            }}
        }}
    }}
    return value;
}}
"""
    return Task(scalars, arrays, steps, 4 * units * columns, by_hand)


def residuals(count: int) -> Task:
    """A decay fitted to data: a sum of squares in a loop over the data, which are plain numbers."""
    rng = random.Random(0)
    data = [(4.0 * k / count, 2.0 * math.exp(-0.7 * 4.0 * k / count) + rng.gauss(0.5, 0.01)) for k in range(count)]

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        total = 0.0 * x[0]
        for t, y in data:
            total = total + (w[0] * math.exp(w[1] * t) + w[2] - y) ** 2
        return total

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        t, y = jax.numpy.array(data).T
        return ((w[0] * jax.numpy.exp(w[1] * t) + w[2] - y) ** 2).sum() + 0.0 * x[0]

    listed = ", ".join(f"{{{t!r}, {y!r}}}" for t, y in data)
    by_hand = f"""
#include <math.h>
static const double data[{count}][2] = {{{listed}}};
double by_hand(const double *x, const double *w, double *gradient)
{{
    double total = 0.0;
    (void)x;
    gradient[0] = gradient[1] = gradient[2] = 0.0;
    for (int k = 0; k < {count}; k++) {{
        const double e = exp(w[1] * data[k][0]), r = w[0] * e + w[2] - data[k][1];
        total += r * r;
        gradient[0] += 2.0 * r * e;
        gradient[1] += 2.0 * r * w[0] * e * data[k][0];
        gradient[2] += 2.0 * r;
    }}
    return total;
}}
"""
    return Task(scalars, arrays, 1, 3, by_hand)


def rosenbrock(count: int) -> Task:
    """The Hessian of Rosenbrock's function of many variables."""

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        return sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(w))

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        return (100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2).sum()

    by_hand = f"""
#include <string.h>
double by_hand(const double *x, const double *w, double *hessian)
{{
    (void)x;
    memset(hessian, 0, {count} * {count} * sizeof *hessian);
    for (int k = 0; k + 1 < {count}; k++) {{
        double *at = hessian + {count + 1} * k;
        at[0] += 1200.0 * w[k] * w[k] - 400.0 * w[k + 1] + 2.0;
        at[1] = at[{count}] = -400.0 * w[k];
        at[{count + 1}] += 200.0;
    }}
    return 0.0;
}}
"""
    return Task(scalars, arrays, 0, count, by_hand, hessian=True)


def stencil(side: int, steps: int) -> Task:
    """Heat on a plate whose rim is held, with one conductivity; the sum of squares after some steps."""

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        u = [x[side * i : side * i + side] for i in range(side)]
        for _ in range(steps):
            new = [row[:] for row in u]
            for i in range(1, side - 1):
                for j in range(1, side - 1):
                    around = u[i - 1][j] + u[i + 1][j] + u[i][j - 1] + u[i][j + 1]
                    new[i][j] = u[i][j] + w[0] * (around - 4.0 * u[i][j])
            u = new
        return sum(y * y for row in u for y in row)

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        u = x.reshape(side, side)
        for _ in range(steps):
            around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
            u = u.at[1:-1, 1:-1].add(w[0] * (around - 4.0 * u[1:-1, 1:-1]))
        return (u * u).sum()

    by_hand = f"""
#include <string.h>
#define N {side}
static double u[{steps + 1}][N][N], d[2][N][N];
static double laplacian(double v[N][N], int i, int j)
{{
    return v[i - 1][j] + v[i + 1][j] + v[i][j - 1] + v[i][j + 1] - 4.0 * v[i][j];
}}
double by_hand(const double *x, const double *w, double *gradient)
{{
    double total = 0.0, slope = 0.0;
    memcpy(u[0], x, sizeof u[0]);
    for (int s = 0; s < {steps}; s++) {{
        memcpy(u[s + 1], u[s], sizeof u[0]);
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++)
                u[s + 1][i][j] += w[0] * laplacian(u[s], i, j);
    }}
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {{
            total += u[{steps}][i][j] * u[{steps}][i][j];
            d[{steps} % 2][i][j] = 2.0 * u[{steps}][i][j];
        }}
    for (int s = {steps} - 1; s >= 0; s--) {{
        double (*g)[N] = d[(s + 1) % 2], (*below)[N] = d[s % 2];
        memcpy(below, g, sizeof d[0]);
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++) {{
                const double a = g[i][j] * w[0];
                slope += g[i][j] * laplacian(u[s], i, j);
                below[i - 1][j] += a;
                below[i + 1][j] += a;
                below[i][j - 1] += a;
                below[i][j + 1] += a;
                below[i][j] -= 4.0 * a;
            }}
    }}
    gradient[0] = slope;
    return total;
}}
"""
    return Task(scalars, arrays, side * side, 1, by_hand)


def bodies(count: int) -> Task:
    """A step of bodies that attract each other, all pairs, and the sum of squares of where they are; by the masses."""

    def scalars(math: Any, x: list[Any], w: list[Any]) -> Any:
        total = 0.0
        for a in range(count):
            pull: list[Any] = [0.0, 0.0, 0.0]
            for b in range(count):
                if a != b:
                    d = [x[3 * b + i] - x[3 * a + i] for i in range(3)]
                    r = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 0.01)
                    s = w[b] / (r * r * r)
                    pull = [p + s * y for p, y in zip(pull, d)]
            total = total + sum((x[3 * a + i] + 0.1 * pull[i]) ** 2 for i in range(3))
        return total

    def arrays(jax: Any, x: Any, w: Any) -> Any:
        x = x.reshape(count, 3)
        d = x[None] - x[:, None]
        pull = (w[None, :, None] * d / ((d * d).sum(-1) + 0.01)[..., None] ** 1.5).sum(1)
        return ((x + 0.1 * pull) ** 2).sum()

    by_hand = f"""
#include <math.h>
double by_hand(const double *x, const double *w, double *gradient)
{{
    double total = 0.0;
    for (int a = 0; a < {count}; a++)
        gradient[a] = 0.0;
    for (int a = 0; a < {count}; a++) {{
        double pull[3] = {{0.0, 0.0, 0.0}}, weights[{count}], g[3];
        for (int b = 0; b < {count}; b++) {{
            double r = 0.01;
            for (int i = 0; i < 3; i++)
                r += (x[3 * b + i] - x[3 * a + i]) * (x[3 * b + i] - x[3 * a + i]);
            weights[b] = 1.0 / (r * sqrt(r));
            for (int i = 0; i < 3; i++)
                pull[i] += w[b] * weights[b] * (x[3 * b + i] - x[3 * a + i]);
        }}
        for (int i = 0; i < 3; i++) {{
            const double y = x[3 * a + i] + 0.1 * pull[i];
            total += y * y;
            g[i] = 0.2 * y;
        }}
        for (int b = 0; b < {count}; b++)
            for (int i = 0; i < 3; i++)
                gradient[b] += g[i] * weights[b] * (x[3 * b + i] - x[3 * a + i]);
    }}
    return total;
}}
"""
    return Task(scalars, arrays, 3 * count, count, by_hand)


def tasks(small: bool) -> dict[str, Task]:
    """All of them, by name."""
    return {
        "convolution, 8 filters on 28 x 28": convolution(6, 2) if small else convolution(28, 8),
        "attention, 16 tokens of 16, 4 heads": attention(4, 4, 2) if small else attention(16, 16, 4),
        "LSTM of 8 units, 100 steps": lstm(4, 2) if small else lstm(100, 8),
        "10,000 residuals": residuals(20) if small else residuals(10_000),
        "jit(hessian(f)), 20 variables": rosenbrock(4) if small else rosenbrock(20),
        "stencil 100 x 100, 3 steps": stencil(5, 2) if small else stencil(100, 3),
        "40 bodies, all pairs": bodies(4) if small else bodies(40),
    }


# --- the rivals -------------------------------------------------------------------------------------------------------


def recorded(task: Task) -> Any:
    """The kernel of a task."""
    mg = engines.load("accelerated")
    x, w = ([mg.Value(y) for y in part.tolist()] for part in numbers(task))
    return mg.kernel(task.scalars(mg.math, x, w), x, w)


def library(task: Task) -> Call:
    """This library: the loops are recorded once."""
    mg = engines.load("accelerated")
    x, w = numbers(task)
    if task.hessian:
        second = mg.jit(mg.hessian(lambda w: task.scalars(mg.math, [], list(w))))
        return lambda: (0.0, second(w))
    kernel, row = recorded(task), x[None, :]
    return lambda: kernel.value_and_grad(row, w)


def jax(task: Task) -> Call:
    """JAX on one thread."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    x, w = (module.numpy.array(part) for part in numbers(task))

    def f(w: Any, x: Any) -> Any:
        return task.arrays(module, x, w)

    if task.hessian:
        second = module.jit(module.hessian(f))
        return lambda: (0.0, second(w, x).block_until_ready())
    both = module.jit(module.value_and_grad(f))

    def call() -> tuple[float, Any]:
        value, gradient = both(w, x)
        return float(value), gradient.block_until_ready()

    return call


def built(source: str, name: str, task: Task) -> Call:
    """A C function of x, w and the place of the gradient, compiled by gcc -O2 with vectors, for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder, "source.c"), Path(folder, "code.so")
        path.write_text(source)
        flags = ["-std=c99", "-O2", "-ftree-vectorize", "-march=native", "-shared", "-fPIC", "-o", str(library)]
        subprocess.run(["cc", *flags, str(path), "-lm"], check=True)
        function = getattr(ctypes.CDLL(str(library)), name)
    function.restype = ctypes.c_double
    x, w = numbers(task)
    gradient = np.zeros((len(w),) * (1 + task.hessian))
    pointers = [array.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for array in (x, w, gradient)]
    return lambda: (function(*pointers), gradient)


def written(task: Task) -> Call:
    """The C that the library writes."""
    if task.hessian:
        raise ImportError("the C of a Hessian is that of its program of values")
    source = recorded(task).source("c")
    if source.count("\n") > 8_000:
        raise ImportError("gcc takes a minute")
    return built(source, "kernel_value_and_grad", task)


def by_hand(task: Task) -> Call:
    """C as one would write it."""
    if not task.by_hand:
        raise ImportError("not written")
    return built(task.by_hand, "by_hand", task)


RIVALS: dict[str, Callable[[Task], Call]] = {
    "this library": library,
    "jax.jit": jax,
    "C, written": written,
    "C, by hand": by_hand,
}


def compared(found: dict[str, tuple[float, Any]]) -> None:
    """All rivals agree."""
    (_, (value, first)), *others = found.items()
    for name, (x, result) in others:
        assert math.isclose(x, value, rel_tol=1e-9), (name, x, value)
        scale = np.abs(np.asarray(first)).max()
        assert np.abs(np.asarray(result) - np.asarray(first)).max() <= 1e-8 * scale, name


def main() -> None:
    """Print a line for each task: this library's time, that of each rival, and times to the first result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures", description=__doc__)
    parser.add_argument("words", nargs="*", help="only tasks whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="small tasks, one round")
    options = parser.parse_args()
    print(
        "Time of this library as a multiple of each rival's, so below 1 it is the faster; seconds to the first result\n"
    )
    print("| | nodes | this library | to jax.jit | to the C it writes | to C by hand | first result | JAX's |")
    print("|---|" + "---:|" * 7)
    for make in RIVALS.values():  # all is imported
        with contextlib.suppress(ImportError):
            make(residuals(200))()
    for title, task in tasks(options.small).items():
        if options.words and not any(word in title for word in options.words):
            continue
        calls, first = {}, {}
        for name, make in RIVALS.items():
            start = time.perf_counter()
            try:
                calls[name] = make(task)
                calls[name]()
            except ImportError:
                continue
            first[name] = time.perf_counter() - start
        compared({name: call() for name, call in calls.items()})
        how = {"rounds": 1, "least": 0.0} if options.small else {"rounds": options.rounds}
        for call in calls.values():
            for _ in range(0 if options.small else 40):  # jit finds arrays after some calls
                call()
        timings = race(calls, **how)
        own = timings["this library"].best
        ratios = [f"{own / timings[name].best:.2g}" if name in timings else "" for name in list(RIVALS)[1:]]
        firsts = [f"{first[name]:.2g} s" if name in first else "" for name in ("this library", "jax.jit")]
        nodes = "" if task.hessian else f"{recorded(task).stats['recorded']:,}"
        print(f"| {title} | {nodes} | {unit(own)} | {' | '.join([*ratios, *firsts])} |", flush=True)


if __name__ == "__main__":
    main()

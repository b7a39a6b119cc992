"""Compiled and eager agree: on every program, on every branch, on every error."""

import functools
import math
import operator
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Value, ops
from micrograd_bp.compiler import emit, executable, guarded, kernels

SMOOTH = [
    op for op in ops.TABLE.values()
    if op.smooth and op.arity in (1, 2) and op.domain[0] == ops.ANY and op not in (ops.truediv, ops.ieee_div)
]  # fmt: skip
backends = pytest.mark.parametrize("backend", ["llvm", "python"])


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code, or Python as where llvmlite is missing."""
    if getattr(request, "param", "llvm") == "python":
        monkeypatch.setattr(kernels, "host", lambda: None)
        monkeypatch.setattr(guarded, "host", lambda: None)


def random_program(seed: int, size: int) -> tuple[Value, list[Value], list[Value]]:
    """A graph of random rows with shared nodes, repeated operands, constants; its inputs and parameters."""
    rng = random.Random(seed)
    leaves = [Value(rng.uniform(-1.0, 1.0)) for _ in range(8)]
    nodes = list(leaves)
    while len(nodes) < size:
        op = rng.choice(SMOOTH) if rng.random() < 0.3 else rng.choice((ops.add, ops.sub, ops.mul))
        operands = [rng.choice(nodes) if rng.random() < 0.9 else rng.uniform(-1.0, 1.0) for _ in range(op.arity or 0)]
        try:
            node = op(*operands) if any(isinstance(x, Value) for x in operands) else nodes[0]
        except (ArithmeticError, ValueError):
            continue
        if abs(node.data) < 4.0 and all(abs(x) < 100.0 for x in node.partials):
            nodes.append(node)
    return sum((node * 0.125 for node in nodes[-6:]), start=nodes[-1].tanh()), leaves[:4], leaves[4:]


def eager(output: Value, inputs: list[Value], parameters: list[Value], row: list[float]) -> list[float]:
    """Value and gradient for other numbers, by recording again."""
    from micrograd_bp.compiler.program import flatten, rerecord

    program, leaves = flatten([output], inputs, parameters)
    nodes = rerecord(program, row, [x.data for x in leaves])
    value = nodes[program.outputs[0]]
    return [value.data, *(g.data for g in mg.gradients(value, [nodes[i] for i in program.parameters]))]


@pytest.mark.parametrize("piece", [emit.PIECE, 9])
@pytest.mark.parametrize("optimised", [emit.OPTIMISED, 0])
@pytest.mark.parametrize("seed", range(6))
def test_random_programs_give_what_eager_gives(
    seed: int, optimised: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit, "PIECE", piece)
    monkeypatch.setattr(emit, "OPTIMISED", optimised)
    output, inputs, parameters = random_program(seed, 60)
    rng = np.random.default_rng(seed)
    rows = np.array([x.data for x in inputs]) + 0.01 * rng.uniform(-1.0, 1.0, (23, 4))
    want = np.array([eager(output, inputs, parameters, row) for row in rows.tolist()])
    exact = mg.kernel(output, inputs, parameters, exact=True)
    assert exact(rows).tolist() == want[:, 0].tolist()
    slopes = mg.kernel(mg.gradients(output, parameters), inputs, exact=True)
    assert slopes(rows).tolist() == want[:, 1:].tolist()
    total = [0.0] * want.shape[1]
    for row in want.tolist():
        total = [a + b for a, b in zip(total, row)]
    value, gradient = exact.value_and_grad(rows, reduction="sum")
    assert [value, *gradient.tolist()] == total
    kernel = mg.kernel(output, inputs, parameters)
    assert kernel(rows) == pytest.approx(want[:, 0], rel=1e-11, abs=1e-12)
    value, gradient = kernel.value_and_grad(rows)
    assert [value, *gradient] == pytest.approx(want.mean(0), rel=1e-10, abs=1e-11)
    weights = rng.uniform(0.0, 1.0, 23)
    value, gradient = kernel.value_and_grad(rows, weights=weights)
    assert [value, *gradient] == pytest.approx(weights @ want, rel=1e-10, abs=1e-11)


@backends
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 63, 64, 65, 130])
def test_a_batch_of_any_size(backend: str, count: int) -> None:
    x, y, w, b = (Value(v) for v in (0.5, 1.0, 2.0, 0.25))
    kernel = mg.kernel((w * x + b - y) ** 2 + 0.1 * w * w, [x, y], [w, b])
    rows = np.random.default_rng(count).normal(size=(count, 2))
    residual = 2.0 * rows[:, 0] + 0.25 - rows[:, 1]
    assert kernel(rows) == pytest.approx(residual**2 + 0.4)
    value, gradient = kernel.value_and_grad(rows)
    assert value == pytest.approx((residual**2).mean() + 0.4)
    assert gradient == pytest.approx([(2 * residual * rows[:, 0]).mean() + 0.4, (2 * residual).mean()])
    assert kernel(rows.tolist()) == pytest.approx(kernel(rows))
    assert kernel(rows[0]) == pytest.approx(kernel(rows)[0])
    assert kernel(np.asfortranarray(rows)) == pytest.approx(kernel(rows))
    assert kernel.value_and_grad(rows[::-1])[0] == pytest.approx(value)


@backends
def test_parameters_are_read_at_each_call_and_gradients_left_in_grad(backend: str) -> None:
    x, w = Value(1.0), Value(3.0)
    kernel = mg.kernel((w * x) ** 2, [x], [w])
    assert kernel([2.0]) == 36.0
    w.data = 1.0
    assert kernel([2.0]) == 4.0
    assert kernel([2.0], parameters=[10.0]) == 400.0
    assert kernel.backward([[1.0], [3.0]]) == 5.0
    assert kernel.backward([[1.0], [3.0]], reduction="sum") == 10.0
    assert w.grad == 10.0 + 20.0
    other = mg.kernel(w * x + Value(5.0), [x], [w])
    assert other([2.0], parameters=[3.0]) == 11.0


def test_large_batches_stream_through_threads_and_the_result_does_not_depend_on_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executable, "BLOCK", 1000)
    output, inputs, parameters = random_program(3, 40)
    kernel = mg.kernel(output, inputs, parameters)
    rows = np.array([x.data for x in inputs]) + 0.01 * np.random.default_rng(0).uniform(-1.0, 1.0, (5000, 4))
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        value, gradient = kernel.value_and_grad(rows)
        results.append([value, *gradient.tolist(), *kernel(rows).tolist()])
    assert results[0] == results[1] == results[2]
    assert results[0][0] == pytest.approx(math.fsum(results[0][5:]) / 5000)


def test_exact_sums_of_large_batches_add_row_after_row() -> None:
    x, w = Value(1.0), Value(0.1)
    rows = np.random.default_rng(0).normal(size=(40_001, 1))
    value, gradient = mg.kernel(w * x, [x], [w], exact=True).value_and_grad(rows, reduction="sum")
    terms, slopes = (0.1 * rows[:, 0]).tolist(), rows[:, 0].tolist()
    assert [value, *gradient] == [functools.reduce(operator.add, terms), functools.reduce(operator.add, slopes)]


def test_kernels_are_safe_in_several_threads_at_a_time() -> None:
    output, inputs, parameters = random_program(4, 40)
    kernel = mg.kernel(output, inputs, parameters)
    base = np.array([x.data for x in inputs])
    batches = [base + 0.001 * k + np.zeros((50 + k, 4)) for k in range(8)]
    want = [kernel.value_and_grad(batch)[0] for batch in batches]
    wrong = []

    def work(k: int) -> None:
        for _ in range(200):
            if kernel.value_and_grad(batches[k])[0] != want[k] or kernel(batches[k]).mean() == math.inf:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- branches --------------------------------------------------------------------------------------------------------


def collatz(x: Any) -> Any:
    steps = 0
    while x > 1.5 and steps < 3:
        x = x / 2.0 if int(x) % 2 == 0 else 1.25 * x + 1.0
        steps += 1
    return x * steps


BRANCHES = [
    lambda x, y: mg.math.log(x) if x > 0.0 else y * 2.0,
    lambda x, y: max(x, y) - min(x, 0.5),
    lambda x, y: abs(x) + (y if x else 1.0),
    lambda x, y: x * round(y) + mg.math.floor(x) - mg.math.ceil(y),
    lambda x, y: x % 1.0 + int(y) if -1.0 <= x < 1.0 else x // 0.5,
    lambda x, y: sorted([x, y, x * y, 0.25])[2],
    lambda x, y: 1.0 / x if not x < 0.1 else mg.sigmoid(y),
    lambda x, y: [x, y][x >= y] + (x if mg.math.isfinite(x / 2.0) else 0.0),
    lambda x, y: collatz(abs(x) * 5.0) + y,
    lambda x, y: mg.math.sqrt(x * x - y) if x * x >= y else 0.0,
]


@backends
@pytest.mark.parametrize("function", BRANCHES)
def test_every_row_takes_its_own_branch(backend: str, function: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    x, y = (np.concatenate([np.round(rng.normal(size=60), 1), [0.0, 1.0, -1.0, 0.5]]) for _ in range(2))
    want = [function(Value(a), Value(b)) for a, b in zip(x.tolist(), y.tolist())]
    want = [v.data if isinstance(v, Value) else v for v in want]
    single = mg.jit(function, paths=200, exact=True)
    assert [single(a, b) for a, b in zip(x[:9].tolist(), y[:9].tolist())] == want[:9]
    compiled = mg.jit(mg.vmap(function), paths=200, exact=True)
    assert compiled(x, y).tolist() == want
    assert compiled(x, y).tolist() == want
    assert single.stats["eager"] == compiled.stats["eager"] == 0
    assert mg.vmap(function)(x, y).tolist() == want
    assert mg.jit(mg.vmap(function), paths=200)(x, y) == pytest.approx(np.array(want, float), rel=1e-13)


def test_a_reading_that_is_no_comparison_holds_for_the_same_numbers_only() -> None:
    near = mg.jit(mg.vmap(lambda x, y: x if mg.math.isclose(x, y, rel_tol=0.1) else y, in_axes=(0, None)))
    x = np.array([1.0, 1.05, 2.0, 1.0])
    assert near(x, 1.0).tolist() == [1.0, 1.05, 1.0, 1.0]
    assert near.stats["rows"] == [2, 1, 1]
    assert mg.jit(mg.vmap(lambda x: 1.0 if mg.math.isnan(x) else x))(np.array([1.0, math.nan, 3.0])).tolist() == [
        1.0,
        1.0,
        3.0,
    ]


def test_beyond_the_number_of_paths_rows_run_eagerly_and_one_warning_names_the_line() -> None:
    def stairs(x: Any) -> Any:
        k = 0
        while k < x:
            k += 1
        return x * k

    compiled = mg.jit(mg.vmap(stairs), paths=3)
    x = np.arange(12.0) + 0.5
    line = stairs.__code__.co_firstlineno + 2
    with pytest.warns(RuntimeWarning, match=rf"test_compiler.py:{line}") as warned:
        got = compiled(x)
    assert got.tolist() == [stairs(v) for v in x.tolist()]
    assert len(warned) == 1
    assert compiled.stats["paths"] == 3
    assert compiled.stats["eager"] == 9
    assert compiled(x).tolist() == got.tolist()  # and it does not warn again


# --- functions -------------------------------------------------------------------------------------------------------


def speed(x: Any, y: Any) -> Any:
    return mg.math.sin(x) * y + x / y


@backends
def test_jit_composes_with_every_transform(backend: str) -> None:
    x, y = 0.5, 2.0
    assert mg.jit(mg.grad(speed, argnums=(0, 1)))(x, y) == pytest.approx(mg.grad(speed, argnums=(0, 1))(x, y))
    assert mg.grad(mg.jit(speed))(x, y) == mg.grad(speed)(x, y)
    for transform in (mg.jacobian, mg.hessian):
        compiled = mg.jit(transform(lambda v: v[0] ** 2 * v[1] + v[1].exp()))
        assert compiled([x, y])[0] == pytest.approx(transform(lambda v: v[0] ** 2 * v[1] + v[1].exp())([x, y])[0])
    assert mg.jit(mg.value_and_grad(speed))(x, y) == pytest.approx(mg.value_and_grad(speed)(x, y))
    assert mg.jit(mg.grad(mg.grad(lambda t: t**3)))(2.0) == 12.0
    assert mg.jit(lambda a, b: mg.jvp(speed, (a, b), (1.0, 0.0))[1])(x, y) == pytest.approx(mg.grad(speed)(x, y))
    outer = mg.jit(lambda t: t * mg.grad(lambda u: t + u)(1.0))  # perturbation confusion would give 2
    assert mg.jit(mg.grad(lambda t: t * mg.grad(lambda u: t + u)(1.0)))(1.0) == 1.0
    assert outer(3.0) == 3.0


@backends
def test_a_batch_keeps_the_structure_of_results(backend: str) -> None:
    def summary(p: Any, scale: Any) -> dict[str, Any]:
        return {"sum": p[0] + p[1] * scale, "both": (p[0], 3.0), "name": "n", "sign": p[0] > 0}

    f = mg.jit(mg.vmap(summary, in_axes=(0, None)))
    x = np.arange(6.0).reshape(3, 2) - 2.0
    got = f(x, 2.0)
    assert got["sum"].tolist() == (x[:, 0] + 2.0 * x[:, 1]).tolist()
    assert got["both"][1].tolist() == [3.0] * 3
    assert got["name"] == "n"
    assert got["sign"].dtype == bool
    assert got["sign"].tolist() == (x[:, 0] > 0).tolist()
    assert f((x[:, 1], x[::-1, 0]), 1.0)["sum"].tolist() == (x[:, 1] + x[::-1, 0]).tolist()
    assert mg.jit(summary)([1, 2], 1.0) == {"sum": 3.0, "both": (1, 3.0), "name": "n", "sign": True}
    assert mg.jit(mg.vmap(lambda v: mg.jacobian(lambda u: u * u)(v)))(x).shape == (3, 2, 2)
    scaled = mg.jit(mg.vmap(lambda v, k: [v, 2.0 * v][k], in_axes=(1, 0)))
    assert scaled(x.T, np.array([0, 1, 0])).tolist() == [x[0].tolist(), (2 * x[1]).tolist(), x[2].tolist()]


@backends
def test_an_array_is_the_whole_array(backend: str) -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    for f in (lambda v: np.sum(v) ** 2, lambda v: v @ v, lambda v: v.T * 2.0, lambda v: (v[0], v.shape, v.max() > 3)):
        want, got = f(x), mg.jit(f)(x)
        assert repr(got) == repr(want).replace("np.True_", "True")
    assert mg.jit(mg.grad(lambda v: np.sum(v) ** 2))(x).tolist() == [[20.0, 20.0]] * 2
    assert mg.jit(np.linalg.norm)(np.array([3.0, 4.0])) == 5.0
    assert mg.jit(lambda v: 1.0 / v)(np.empty((0, 3))).shape == (0, 3)
    assert mg.jit(mg.vmap(lambda v: 1.0 / v))(np.empty((0, 3))).size == 0
    assert mg.jit(lambda v, k: v[k])(np.array([5.0, 6.0]), np.array([1, 0])).tolist() == [6.0, 5.0]
    with pytest.raises((TypeError, ValueError), match=r"jit\(vmap\(f\)\) applies f to each row"):
        mg.jit(lambda v: v if v > 0 else -v)(x)


@backends
def test_what_is_not_finite_is_run_again_eagerly(backend: str) -> None:
    f = mg.jit(lambda x: 1.0 / x.exp() if isinstance(x, Value) else x)
    with pytest.raises(OverflowError, match=r"exp\(x=710\.0\)"):
        assert [f(x) for x in (1.0, 710.0)]
    with pytest.raises(OverflowError, match=r"exp\(x=710\.0\)"):
        mg.jit(mg.vmap(lambda x: 1.0 / x.exp()))(np.array([1.0, 710.0]))
    g = mg.jit(mg.vmap(lambda x: mg.relu(x * 1e308) + 1.0))
    assert g(np.array([1.0, -1e10, 1e10])).tolist() == [1e308, 1.0, math.inf]
    assert g.stats["eager"] == 2
    x, w = Value(1.0, "x"), Value(1.0, "w")
    kernel = mg.kernel(w * mg.math.sqrt(x), [x], [w])
    assert kernel([[4.0], [math.inf]])[1] == math.inf
    with pytest.raises(ValueError, match=r"sqrt\(x=-4\.0\)"):
        kernel.value_and_grad([[1.0], [-4.0]])
    w.data = math.nan
    assert math.isnan(kernel([4.0]))
    assert math.isnan(kernel.value_and_grad([[4.0]])[0])


def test_rows_of_ones_own_compile_whether_their_forward_can_be_traced_or_must_be_called() -> None:
    softsign = mg.Op("softsign", "s", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
    cut = mg.Op("cut", "c", lambda x, y: x if float(x) < y else y * 0.5, lambda out, x, y: (1.0, 0.0), (ops.ANY,) * 2)
    x = np.linspace(-2.0, 2.0, 11)
    for exact in (False, True):
        assert mg.jit(mg.vmap(softsign), exact=exact)(x).tolist() == [softsign(v) for v in x.tolist()]
        assert mg.jit(mg.vmap(mg.grad(lambda v: cut(v, 0.5) * softsign(v))), exact=exact)(x) == pytest.approx(
            [mg.grad(lambda v: cut(v, 0.5) * softsign(v))(v) for v in x.tolist()]
        )

    def fussy(v: Any) -> Any:
        if v > 1.0:
            raise RuntimeError("too large")
        return float(v)

    fuss = mg.Op("fuss", "f", fussy, lambda out, v: (1.0,))
    assert mg.jit(fuss)(0.5) == 0.5
    with pytest.raises(RuntimeError, match="too large"):
        mg.jit(mg.vmap(fuss))(np.array([0.5, 1.5]))


def test_errors_name_what_is_wrong() -> None:
    loose: Any = mg
    x, w = Value(1.0), Value(2.0)
    y = x * w
    with pytest.raises(ValueError, match="one of the leaves of the graph"):
        mg.kernel(y + 1.0, [y])
    with pytest.raises(ValueError, match="twice"):
        mg.kernel(y, [x, x])
    with pytest.raises(ValueError, match="twice"):
        mg.kernel(y, [x], [x])
    with pytest.raises(TypeError, match="recorded Values"):
        loose.kernel(3.0, [x])
    with pytest.raises(TypeError, match="input is a Value"):
        loose.kernel(y, [1.0])
    kernel = mg.kernel(y, [x], [w])
    for wrong in (np.zeros((3, 2)), np.zeros((2, 2, 1)), [[1.0, 2.0]], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"1 columns|1 inputs"):
            kernel(wrong)
    for wrong in (np.array([["a"]]), np.array([[1j]]), np.array([[Value(1.0)]], object)):
        with pytest.raises(TypeError, match="real numbers"):
            kernel(wrong)
    with pytest.raises(ValueError, match="no rows"):
        kernel.value_and_grad(np.zeros((0, 1)))
    with pytest.raises(ValueError, match="2 numbers for 1 parameters"):
        kernel.value_and_grad(np.zeros((3, 1)), [1.0, 2.0])
    with pytest.raises(ValueError, match="2 weights for 3 rows"):
        kernel.value_and_grad(np.zeros((3, 1)), weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="reduction"):
        kernel.value_and_grad(np.zeros((3, 1)), reduction="max")
    with pytest.raises(ValueError, match="one output"):
        mg.kernel([y, x], [x], [w]).value_and_grad([[1.0]])
    with pytest.raises(ValueError, match="python"):
        kernel.source("fortran")
    with pytest.raises(TypeError, match="function"):
        loose.jit(3.0)
    f = mg.jit(speed)
    with pytest.raises(ValueError, match="equally many"):
        mg.jit(mg.vmap(speed))(np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="in_axes=None leaves an argument as it is"):
        mg.jit(mg.vmap(speed))(np.zeros(2), 1.0)
    with pytest.raises(ValueError, match="differently built"):
        mg.jit(mg.vmap(lambda v: [v] if v > 0 else [v, v]))(np.array([1.0, -1.0]))
    with pytest.raises(ZeroDivisionError, match=r"truediv\(x=1\.0, y=0\.0\)"):
        f(1.0, 0.0)


def test_a_changed_structure_is_a_program_of_its_own() -> None:
    f = mg.jit(lambda xs, mode: sum(xs) if mode == "sum" else xs[0])
    assert [f([1.0, 2.0], "sum"), f([1.0, 2.0, 3.0], "sum"), f([1.0, 2.0], "first")] == [3.0, 6.0, 1.0]
    assert f.stats["paths"] == 3


def test_kernels_and_functions_are_pickled() -> None:
    x, w = Value(1.0, "x"), Value(2.0, "w")
    kernel = mg.kernel(mg.math.exp(w * x), [x], [w])
    rows = np.linspace(-1.0, 1.0, 7)[:, None]
    copy = pickle.loads(pickle.dumps(kernel))
    assert copy(rows).tolist() == kernel(rows).tolist()
    assert copy.value_and_grad(rows)[1].tolist() == kernel.value_and_grad(rows)[1].tolist()
    compiled = mg.jit(speed)
    compiled(1.0, 2.0)
    assert pickle.loads(pickle.dumps(compiled))(0.5, 2.0) == compiled(0.5, 2.0)


def test_a_kernel_shows_its_program() -> None:
    x, w = Value(1.0, "x"), Value(2.0, "w")
    kernel = mg.kernel((x * w + x * w) * 1.0 + 0.0, [x], [w])
    assert kernel.constants == [1.0, 0.0]
    assert kernel.stats["recorded"] == 5
    assert kernel.stats["value: compiled, for each row"] == 2  # the product once, the sum; not * 1.0, not + 0.0
    scope: dict[str, Any] = {}
    exec(kernel.source(), scope)
    assert scope["value_and_grad"](3.0, 2.0) == (12.0, 6.0)
    assert "fmul" in kernel.source("llvm")
    f = mg.jit(lambda v: v * 3.0 if v > 1.0 else v)
    assert (f(2.0), f(0.0)) == (6.0, 0.0)
    assert "v * 3.0" in f.source()
    assert "fcmp olt" in f.source("llvm")
    assert f.constants == [3.0, 1.0]


def test_signed_zeros_survive_where_they_can_be_told() -> None:
    side = mg.jit(lambda x: mg.math.copysign(1.0, x + 0.0) + mg.math.atan2(x + 0.0, -1.0))
    assert side(-0.0) == 1.0 + math.pi
    assert mg.jit(lambda x: mg.math.copysign(1.0, x - 0.0))(-0.0) == -1.0


def test_a_sum_of_shared_sums_is_taken_apart_in_no_time() -> None:
    x, w = Value(1.0), Value(0.5)
    total = x * w
    for _ in range(60):
        total = total + total
    assert mg.kernel(total + w, [x], [w]).value_and_grad([[1.0], [1.0]])[1].tolist() == [2.0**60 + 1.0]


def test_a_long_chain_compiles() -> None:
    x, w = Value(0.5), Value(0.25)
    y = x
    for _ in range(3_000):
        y = y * w + x
    kernel = mg.kernel(y, [x], [w])
    assert kernel([0.5]) == pytest.approx(y.data)
    assert kernel.value_and_grad([[0.5], [0.5]])[1].tolist() == pytest.approx([mg.gradients(y, [w])[0].data])


@pytest.mark.parametrize("missing", ["llvmlite", "numpy"])
def test_without_llvmlite_or_numpy_programs_run_in_python_and_a_notice_says_what_to_install(missing: str) -> None:
    code = f"""
import sys, warnings
sys.modules[{missing!r}] = None
import micrograd_bp as mg
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert mg.jit(lambda x: x * x if x > 0 else -x)(-3.0) == 3.0
    x, w = mg.Value(1.0), mg.Value(2.0)
    kernel = mg.kernel((x * w) ** 2, [x], [w])
    assert kernel([[1.0], [2.0]]) == [4.0, 16.0]
    assert kernel.value_and_grad([[1.0], [2.0]]) == (10.0, [10.0])
    assert kernel.backward([[1.0]]) == 4.0 and w.grad == 4.0
assert ["pip install 'micrograd-bp[jit]'" in str(w.message) for w in caught] == [True], caught
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_neither_numpy_nor_llvmlite() -> None:
    code = "import sys, micrograd_bp; sys.exit(bool({'numpy', 'llvmlite'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True)

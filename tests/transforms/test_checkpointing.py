"""Checkpointing: the plain sweep's bits, the optimal number of recomputed steps, and memory that does not grow."""

from __future__ import annotations

import functools
import gc
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value
from micrograd_bp import math as m
from micrograd_bp.checkpointing import recomputations, schedule


def loop(step: Callable[..., Any], n: int) -> Callable[..., Any]:
    def run(state: Any, *params: Any) -> Any:
        for _ in range(n):
            state = step(state, *params)
        return state

    return run


def pendulum(state: list[Any], k: Any) -> list[Any]:
    """Semi-implicit Euler."""
    angle, speed = state
    speed = speed - 0.01 * k * m.sin(angle)
    return [angle + 0.01 * speed, speed]


def lorenz(s: Any, rho: Any) -> Any:
    x, y, z = s["x"], s["y"], s["z"]
    return {
        "x": x + 0.01 * 10.0 * (y - x),
        "y": y + 0.01 * (x * (rho - z) - y),
        "z": z + 0.01 * (x * y - 8.0 / 3.0 * z),
    }


def logistic(x: Any, r: Any) -> Any:
    return r * x * (1.0 - x)


LOOPS = [
    (logistic, 0.3, 3.7, lambda x: x),
    (pendulum, [1.0, 0.0], 9.81, lambda s: s[0] * s[1] + s[0]),
    (lorenz, {"x": 1.0, "y": 2.0, "z": 20.0}, 28.0, lambda s: s["x"] * s["z"] + s["y"]),
]


@functools.cache
def optimum(n: int, s: int) -> int:
    """The least number of steps that are computed again, by looking at all possibilities."""
    if n <= 1:
        return 0
    if s == 1:
        return n * (n - 1) // 2
    return min(k + optimum(n - k, s - 1) + optimum(k, s) for k in range(1, n))


@given(st.integers(1, 90), st.integers(1, 9))
def test_the_schedule_is_optimal_and_keeps_no_more_states_than_it_may(n: int, snapshots: int) -> None:
    kept, most, reversed_, again = [0], 1, [], 0
    for what, start, count in schedule(n, snapshots):
        if what == "advance":
            assert start == kept[-1]
            kept.append(start + count)
            again += count
            most = max(most, len(kept) - 1)  # the last is at work, not kept
        else:
            assert start == kept[-1]
            reversed_.append(start)
            if start and start not in kept[:-1]:
                kept.pop()
    assert reversed_ == list(range(n))[::-1]
    assert most <= max(snapshots, 1)
    assert again == optimum(n, snapshots) == recomputations(n, snapshots)


def test_ten_million_steps_in_96_states_are_computed_six_times() -> None:
    n = 10_000_000
    assert 4 * n.bit_length() == 96
    assert recomputations(n, 96) < 5 * n
    assert recomputations(n, 24) < 8 * n


@pytest.mark.parametrize(("step", "state", "k", "loss"), LOOPS)
def test_the_gradient_is_the_plain_sweeps_to_the_last_bit(
    step: Callable[..., Any], state: Any, k: float, loss: Callable[..., Any]
) -> None:
    """That of all states kept, whatever is kept; and that of the loop as it is recorded, but for a sum's order."""
    f = lambda run: lambda state, k: loss(run(state, k))  # noqa: E731
    for n in (0, 1, 2, 7, 40):
        plain = mg.grad(f(loop(step, n)), (0, 1))(state, k)
        sweeps = [mg.grad(f(mg.checkpoint(step, n, kept)), (0, 1))(state, k) for kept in (None, 1, 2, 3, n + 1)]
        assert all(found == sweeps[-1] for found in sweeps)
        assert f(mg.checkpoint(step, n))(state, k) == f(loop(step, n))(state, k)
        if step is not pendulum:
            assert sweeps[0] == plain
        assert sweeps[0][1] == pytest.approx(plain[1], rel=1e-13)


def test_the_steps_that_are_computed_are_those_of_the_schedule() -> None:
    count = 0

    def counted(x: Any, r: Any) -> Any:
        nonlocal count
        count += 1
        return logistic(x, r)

    n, snapshots = 200, 4
    y = mg.checkpoint(counted, n, snapshots)(Value(0.3), 3.7)
    assert count == n
    y.backward()
    assert count == n + recomputations(n, snapshots) + n  # and each is recorded once


@pytest.mark.parametrize(("step", "state", "k", "loss"), LOOPS)
def test_other_derivatives(step: Callable[..., Any], state: Any, k: float, loss: Callable[..., Any]) -> None:
    plain = lambda state, k: loss(loop(step, 6)(state, k))  # noqa: E731
    kept = lambda state, k: loss(mg.checkpoint(step, 6)(state, k))  # noqa: E731
    second = [mg.grad(mg.grad(f, 1), 1)(state, k) for f in (plain, kept)]
    assert second[0] == pytest.approx(second[1], rel=1e-10)
    third = [mg.grad(mg.grad(mg.grad(f, 1), 1), 1)(state, k) for f in (plain, kept)]
    assert third[0] == pytest.approx(third[1], rel=1e-9)
    push = [mg.jvp(f, (state, k), (state, 0.5)) for f in (plain, kept)]
    assert push[0] == pytest.approx(push[1], rel=1e-12)
    assert mg.gradcheck(kept, state, k, order=1)
    compiled = mg.jit(mg.grad(kept, 1))
    for rate in (k, 1.01 * k):
        assert compiled(state, rate) == pytest.approx(mg.grad(plain, 1)(state, rate), rel=1e-11)
    assert mg.jit(kept)(state, k) == pytest.approx(plain(state, k), rel=1e-13)


def test_backward_adds_up_and_leaves_no_trace() -> None:
    x, r = Value(0.3), Value(3.7)
    y = mg.checkpoint(logistic, 20)(x, r)
    z = y * r + x
    z.backward()
    z.backward()
    a, b = Value(0.3), Value(3.7)
    w = loop(logistic, 20)(a, b) * b + a
    w.backward()
    w.backward()
    assert (x.grad, r.grad) == pytest.approx((a.grad, b.grad), rel=1e-13)
    x.data = 0.9  # the recorded numbers count
    z.backward()
    assert x.grad == pytest.approx(1.5 * a.grad, rel=1e-13)


def test_arrays_and_nested_loops() -> None:
    a = np.array([[0.9, 0.1], [-0.2, 0.95]])
    step = lambda s: m.tanh(a @ s)  # noqa: E731
    twice = mg.checkpoint(mg.checkpoint(step, 5), 4)
    found = mg.jacobian(twice)(np.array([0.5, -0.3]))
    assert np.allclose(found, mg.jacobian(loop(step, 20))(np.array([0.5, -0.3])), rtol=1e-13)


def test_memory_is_that_of_a_few_states() -> None:
    """Of a recorded loop every step costs some hundred bytes; here 3,000 further steps cost next to nothing."""

    def most(n: int, run: Callable[..., Any]) -> Any:
        x, r = Value(0.3), Value(3.7)
        gc.collect()
        tracemalloc.start()
        run(logistic, n)(x, r).backward()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(10, mg.checkpoint)
    assert most(4_000, mg.checkpoint) < most(1_000, mg.checkpoint) + 20_000
    if mg.engine_name() == "pure":  # the other one's nodes are not Python's memory
        assert most(4_000, loop) > most(1_000, loop) + 1_000_000


# --- remat --------------------------------------------------------------------------------------------------------


def wave(x: Any, y: tuple[Any, ...]) -> dict[str, Any]:
    total = 0.0
    for k in range(1, 50):
        total = total + m.sin(k * x) * y[0] / k
    return {"a": total, "b": [total * y[1], x]}


def test_remat_is_the_function() -> None:
    f = mg.remat(wave)
    loss = lambda g: lambda x, y: g(x, y)["a"] * g(x, y)["b"][0] + g(x, y)["b"][1]  # noqa: E731
    args = 0.4, (1.5, -2.0)
    assert f(*args) == wave(*args)
    found, plain = (mg.grad(loss(g), (0, 1))(*args) for g in (f, wave))
    assert found[0] == pytest.approx(plain[0], rel=1e-14)
    assert found[1] == pytest.approx(plain[1], rel=1e-14)
    assert np.allclose(mg.hessian(loss(f))(*args), mg.hessian(loss(wave))(*args), rtol=1e-12)
    assert mg.gradcheck(loss(f), *args, order=1)
    assert mg.jit(mg.grad(loss(f)))(*args) == pytest.approx(mg.grad(loss(wave))(*args), rel=1e-12)


def test_remat_records_again_when_it_is_swept() -> None:
    calls: list[type] = []

    def square(x: Any) -> Any:
        calls.append(type(x))
        return x * x

    f = mg.remat(square)
    x = Value(3.0)
    y = f(x)
    assert calls == [float]
    y.backward()
    assert calls == [float, Value]
    assert x.grad == 6.0


def test_errors() -> None:
    x = Value(2.0)
    half: Any = 3.0
    with pytest.raises(TypeError, match="a Value that is not among its arguments"):
        mg.remat(lambda t: t * x)(Value(1.0))
    with pytest.raises(TypeError, match="a Value that is not among its arguments"):
        mg.checkpoint(lambda t: t * x, 3)(Value(1.0))
    with pytest.raises(ValueError, match="the state after a step"):
        mg.checkpoint(lambda t: [t, t], 3)(Value(1.0))
    with pytest.raises(ValueError, match="snapshots is 1 or more, not 0"):
        mg.checkpoint(logistic, 3, 0)
    with pytest.raises(TypeError, match=r"n is a whole number, not 3\.0"):
        mg.checkpoint(logistic, half)
    with pytest.raises(ZeroDivisionError):
        mg.checkpoint(lambda t: 1.0 / t, 3)(Value(0.0))
    assert math.isfinite(mg.grad(lambda t: mg.checkpoint(lambda s: 0.5 * s, 2_000)(t))(1.0))


def test_partials_are_the_derivatives_and_computed_when_read() -> None:
    def f(x: Any, y: Any) -> Any:
        return m.sin(x) * y + x * x

    x, y = Value(0.5, "x"), Value(-1.25, "y")
    node = mg.remat(f)(x, y)
    assert node.partials[:2] == mg.grad(f, (0, 1))(0.5, -1.25)
    assert {row.name: row.derivative for row in mg.sensitivities(node)} == dict(zip("xy", node.partials))
    state = mg.checkpoint(lambda s: [s[0] + 0.1 * s[1], s[1] - 0.1 * m.sin(s[0])], 20)([x, y])
    state[0].backward()
    assert state[0].partials[:2] == pytest.approx((x.grad, y.grad), rel=1e-14)
    with pytest.raises(ValueError, match=r"how checkpoint.* rounds is not recorded; call its function without"):
        mg.rounding_error(state[0])

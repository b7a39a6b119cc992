"""Every row of the table, compiled, is the row: to the last bit where that is asked for, else to 4 ulp."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Op, ops
from micrograd_bp._engine.instructions import INSTRUCTIONS
from micrograd_bp.compiler.machine import host

ROWS = [op for op in ops.TABLE.values() if op is not ops.polygamma]
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.0,
    -1.0,
    1.5,
    2.0,
    -2.0,
    3.0,
    1e-300,
    -1e300,
    1e300,
    700.0,
    math.inf,
    -math.inf,
    math.nan,
]


# Near their zeros these lose digits of the value, eager and compiled.
UNITS = dict.fromkeys(("gelu", "lgamma", "logaddexp", "silu"), 1.0)


def sampled(op: mg.Op, count: int, rng: random.Random) -> np.ndarray:
    """Points in the row's domain and some special ones anywhere."""
    arity = op.arity or 4

    def coordinate(k: int) -> float:
        low, high = op.domain[min(k, len(op.domain) - 1)]
        if rng.random() < 0.2:
            return rng.choice(SPECIAL)
        x = rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-6.0, 3.0)
        return x if low <= x <= high else rng.uniform(max(low, -1e3), min(high, 1e3))

    return np.array([[coordinate(k) for k in range(arity)] for _ in range(count)])


def graph(op: mg.Op, arity: int) -> tuple[mg.Value, list[mg.Value]]:
    for start, step in ((0.5, 0.125), (1.5, 0.125), (1.0, 1.0)):
        inputs = [mg.Value(start + k * step) for k in range(arity)]
        try:
            return op(*inputs), inputs
        except ValueError:
            continue
    raise AssertionError(op)


def answer(function: Callable[..., Any], row: list[float]) -> Any:
    try:
        return float(function(*row))
    except (ArithmeticError, ValueError) as error:
        return type(error)


def same(x: Any, y: Any) -> bool:
    return x == y and math.copysign(1.0, x) == math.copysign(1.0, y) if x == x else y != y


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_a_compiled_row_is_the_row(op: Op) -> None:
    output, inputs = graph(op, op.arity or 4)
    points = sampled(op, 203, random.Random(op.name))
    answers = [answer(op.forward, row) for row in points.tolist()]
    fine = [k for k, x in enumerate(answers) if isinstance(x, float)]
    want = np.array([answers[k] for k in fine])
    exact = mg.kernel(output, inputs, exact=True)
    assert all(map(same, exact(points[fine]).tolist(), want.tolist()))
    got = mg.kernel(output, inputs)(points[fine])
    for row, x, y in zip(points[fine], got.tolist(), want.tolist()):
        assert same(x, y) or abs(x - y) <= 4 * math.ulp(max(abs(y), UNITS.get(op.name, 0.0))), (row, x, y)
    for k, error in enumerate(answers):
        if not isinstance(error, float):
            with pytest.raises(error):
                exact(points[[*fine, k]])


def test_logaddexp_near_its_zeros() -> None:
    """Where exp(x) + exp(y) is 1: 4 units of 2**-52 from the eager value, as docs/operations.md has it."""
    rng = random.Random(0)
    points = [
        (x, math.log1p(-math.exp(x)) + rng.gauss(0.0, 1e-4)) for x in (-rng.uniform(0.1, 3.0) for _ in range(500))
    ]
    compiled = mg.jit(ops.logaddexp)
    for x, y in points:
        assert abs(compiled(x, y) - ops.logaddexp(x, y)) <= 2.0**-50


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)
def test_compiled_derivatives_are_the_eager_ones(op: Op) -> None:
    arity = op.arity or 4
    output, inputs = graph(op, arity)
    rng = random.Random(op.name)
    points = [row for row in sampled(op, 60, rng).tolist() if isinstance(answer(op.forward, row), float)]
    slopes = mg.kernel(mg.gradients(output, inputs), inputs, exact=True)
    for row in points:
        at = [mg.Value(x) for x in row]
        try:
            want = [slope.data for slope in mg.gradients(op(*at), at)]
        except (ArithmeticError, ValueError) as error:
            with pytest.raises(type(error)):
                slopes(np.array([row]))
            continue
        assert all(x == y or (x != x and y != y) for x, y in zip(slopes(np.array([row]))[0].tolist(), want)), row


def test_functions_of_the_c_library_are_known_to_keep_or_to_make_what_is_not_finite() -> None:
    """What the table says of finiteness holds at the worst points."""
    machine, looked_at = host(), set()
    assert machine
    values = [x for x in SPECIAL if math.isfinite(x)] + [1.7976931348623157e308, -1.7976931348623157e308, 5e-324]
    for op in ROWS:
        facts = INSTRUCTIONS.get(op.native)
        if facts is None or op.arity is None or op.native == "select" or not machine.native(op, op.arity, True):
            continue
        looked_at.add(op.native)
        for x in values:
            row = [x, 1.5, 0.5][: op.arity]
            result = answer(op.forward, row)
            if not facts.makes:
                assert isinstance(result, float), (op, row)
                assert math.isfinite(result), (op, row)
        for position in facts.passes[: op.arity]:
            for bad in (math.inf, -math.inf, math.nan):
                for x in values:
                    row = [x] * op.arity
                    row[position] = bad
                    result = answer(op.forward, row)
                    assert not (isinstance(result, float) and math.isfinite(result)), (op, row)
    assert looked_at == INSTRUCTIONS.keys() - {"select", "hypot", "tgamma"}


def test_the_rows_are_compiled() -> None:
    """Every row that names native code has it in its kernel, so that the tests above compare with something."""
    machine = host()
    assert machine
    for op in ROWS:
        arity = op.arity or len(op.domain)
        native = machine.native(op, arity, False)
        assert native or not op.native, op

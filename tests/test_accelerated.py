"""Two engines, one behaviour: the compiled Value against the reference, bit for bit and word for word."""

from __future__ import annotations

import contextlib
import copy
import decimal
import fractions
import importlib
import itertools
import math
import operator
import os
import pickle
import struct
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp

NAMES = list(micrograd_bp.ops.TABLE)
SPECIAL = [0.0, -0.0, 0.5, 1.0, -1.0, 2.0, -2.5, 3.0, 5e-324, -1e-310, 1e308, -750.0, 710.0, math.inf, -math.inf, math.nan]


def load(engine: str) -> ModuleType:
    """The package with that engine: the one imported, or else a second copy of it beside the first."""
    if micrograd_bp.engine_name() == engine:
        return micrograd_bp
    with mock.patch.dict(sys.modules), mock.patch.dict(os.environ, MICROGRAD_BP_PURE="1" * (engine == "pure")):
        for name in [name for name in sys.modules if name.partition(".")[0] == "micrograd_bp"]:
            del sys.modules[name]
        return importlib.import_module("micrograd_bp")


PURE, FAST = load("pure"), load("accelerated")
ENGINES = (PURE, FAST)
if FAST.engine_name() != "accelerated":
    pytest.skip("the accelerated Value is not built", allow_module_level=True)


def bits(x: Any) -> Any:
    """A float as something that is equal only if it is the same float; every nan is the same."""
    assert type(x) is float
    return "nan" if math.isnan(x) else struct.pack("<d", x)


def described(x: Any) -> Any:
    """What can be seen of a result, without its engine."""
    if hasattr(x, "_record"):
        operands = [described(operand) if isinstance(operand, float) else operand.label for operand in x.operands]
        op = x.op and x.op.name
        return op, x._op, x.label, bits(x.data), bits(x.grad), operands, [bits(partial) for partial in x.partials]
    if isinstance(x, np.ndarray | tuple | list):
        return type(x).__name__, [described(item) for item in x]
    return bits(x) if type(x) is float else (type(x).__name__, repr(x))


def outcome(run: Callable[..., Any], *args: Any) -> Any:
    """What running it gives: its result described, or the exception's type and message."""
    try:
        return described(run(*args))
    except Exception as error:
        cause = error.__cause__
        return type(error), str(error), type(cause), str(cause), getattr(error, "__notes__", None)


def same(run: Callable[[ModuleType], Any]) -> Any:
    """The outcome, equal on both engines."""
    reference, accelerated = (outcome(run, engine) for engine in ENGINES)
    assert accelerated == reference
    return reference


def values(mg: ModuleType, numbers: tuple[float, ...], plain: tuple[bool, ...]) -> list[Any]:
    return [x if bare else mg.Value(x, "xyzw"[i]) for i, (x, bare) in enumerate(zip(numbers, plain, strict=True))]


def points(name: str, arity: int) -> Iterator[tuple[tuple[float, ...], tuple[bool, ...]]]:
    numbers = SPECIAL if arity < 3 else SPECIAL[::3]
    for plain in itertools.product((False, True), repeat=arity):
        for point in itertools.product(numbers, repeat=arity):
            yield point, plain


@pytest.mark.parametrize("name", NAMES)
def test_every_row_at_special_points(name: str) -> None:
    arity = PURE.ops.TABLE[name].arity or 2
    for point, plain in points(name, arity):
        same(lambda mg: mg.ops.TABLE[name](*values(mg, point, plain)))
        if not plain[0]:

            def method(mg: ModuleType) -> Any:
                x, *rest = values(mg, point, plain)
                return getattr(x, name)(*rest)

            same(method)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_every_row_anywhere(name: str, data: st.DataObject) -> None:
    op = PURE.ops.TABLE[name]
    arity = op.arity or data.draw(st.integers(1, 3).map(lambda half: 2 * half))
    domains = (op.domain + op.domain[-1:] * arity)[:arity]
    anywhere = [st.floats() | st.floats(max(low, -99.0), min(high, 99.0)) if low < high else st.just(low) for low, high in domains]
    for _ in range(20):
        point = data.draw(st.tuples(*anywhere))
        plain = data.draw(st.tuples(*[st.booleans()] * arity))
        same(lambda mg: mg.ops.TABLE[name](*values(mg, point, plain)))


def test_a_wrong_number_of_arguments() -> None:
    for name, count in itertools.product(NAMES, range(5)):
        same(lambda mg: mg.ops.TABLE[name](*[mg.Value(0.5) for _ in range(count)]))
        same(lambda mg: mg.Value._record(mg.ops.TABLE[name], tuple(mg.Value(0.5) for _ in range(count))))


class Foreign:
    """A type that Values know nothing of; it answers for itself."""

    def __radd__(self, other: Any) -> str:
        return "radd"

    __rtruediv__ = __rpow__ = __add__ = __lt__ = __radd__


class Float(float):
    """A float of somebody's own."""


OTHERS: list[Any] = [
    3, -2, 0, True, 10**400, 0.25, Float(0.75), fractions.Fraction(3, 7), decimal.Decimal("1.5"), 1j, None, "a", b"b", [1.0],
    (1.0,), {}, object, Foreign(), np.float64(0.3), np.float32(0.3), np.int64(4), np.bool_(True), np.array([1.0, 2.0]),
    np.array(2.0), operator.add,
]  # fmt: skip
OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
OPERATORS += [divmod, operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, operator.matmul]


@pytest.mark.parametrize("operate", OPERATORS, ids=lambda operate: operate.__name__)
def test_operators_beside_anything(operate: Callable[..., Any]) -> None:
    for other in OTHERS:
        same(lambda mg: operate(mg.Value(1.25, "v"), other))
        same(lambda mg: operate(other, mg.Value(1.25, "v")))
    for x, y in itertools.product(SPECIAL, repeat=2):
        same(lambda mg: operate(mg.Value(x, "x"), mg.Value(y, "y")))
        same(lambda mg: operate(mg.Value(x, "x"), y))
        same(lambda mg: operate(x, mg.Value(y, "y")))


@pytest.mark.parametrize("read", [operator.neg, operator.pos, abs, bool, int, float, math.trunc, math.floor, math.ceil, round,
                                  lambda v: round(v, 2), repr, str, format, lambda v: format(v, ".3f"), complex, operator.index,
                                  lambda v: format(v, "nonsense"), len, iter, math.exp, np.tanh, np.arcsin, np.fabs,
                                  lambda v: v.nothing, lambda v: setattr(v, "nothing", 1)])  # fmt: skip
def test_readings(read: Callable[[Any], Any]) -> None:
    for x in SPECIAL:
        same(lambda mg: read(mg.Value(x, "x")))


@pytest.mark.parametrize("data", OTHERS)
def test_construction_from_anything(data: Any) -> None:
    same(lambda mg: mg.Value(data))
    same(lambda mg: mg.Value(1.0, data))
    same(lambda mg: mg.Value(mg.Value(1.0)))
    same(lambda mg: mg.Value(1.0).backward(data))


def test_readers_are_told_the_same() -> None:
    def told(mg: ModuleType) -> list[Any]:
        heard: list[Any] = []

        def reader(how: Any, operands: tuple[Any, ...], result: Any) -> None:
            heard.append((how.__name__, [getattr(x, "label", x) for x in operands], result))

        v, w = mg.Value(1.5, "v"), mg.Value(2.5, "w")
        mg.ops.READERS.append(reader)
        try:
            results = [v < w, v <= 2.0, 1 > v, w >= np.float64(0.5), bool(v), not v, int(w), round(w, 1), math.floor(w), v == w]
            results += [max(v, w) is w, v.relu().data, sorted([w, v])[0].data]
        finally:
            mg.ops.READERS.remove(reader)
        return [repr(heard), repr(results), v < w]

    assert len(same(told)[1]) == 3


# A program: operations with the places of their operands among the numbers made so far, counted from the last.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([name for name in NAMES if name != "polygamma"]),
        st.lists(st.integers(0, 7) | st.floats(-3.0, 3.0), min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=40,
)


def program(mg: ModuleType, leaves: list[float], steps: list[tuple[str, list[float]]]) -> tuple[list[Any], list[Any]]:
    """Everything that a program makes, and the errors met on the way."""
    made: list[Any] = [mg.Value(x, f"x{i}") for i, x in enumerate(leaves)]
    errors = []
    for name, places in steps:
        op = mg.ops.TABLE[name]
        args = [made[max(-1 - place, -len(made))] if isinstance(place, int) else place for place in places]
        try:
            node = op(*args[: 4 if op.arity is None else op.arity])
        except ArithmeticError as error:
            errors.append(str(error))
        except ValueError as error:
            errors.append(str(error))
        else:
            if isinstance(node, mg.Value):
                node.label = f"v{len(made)}"
                made.append(node)
    return made, errors


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=3), STEPS, st.floats())
def test_random_programs(leaves: list[float], steps: list[tuple[str, list[float]]], seed: float) -> None:
    def run(mg: ModuleType) -> Any:
        made, errors = program(mg, leaves, steps)
        order = importlib.import_module(f"{mg.__name__}.value")
        seen = [*made, *errors]
        for node in made[-3:]:
            node.backward(seed)
            seen += [bits(x.grad) for x in made]
        node.backward()
        seen += [bits(x.grad) for x in made]
        return described_all(seen)

    same(run)

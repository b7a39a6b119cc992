"""Compiled is eager: what a function reads, catches, holds and returns is the same under `jit`, or it runs eagerly."""

import collections
import copy
import dataclasses
import datetime
import fractions
import functools
import gc
import itertools
import logging
import math as plain_math
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import types
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Value, losses, math, nn, optim, training


def agrees(f: Callable[..., Any], *calls: tuple[Any, ...], transform: Callable[..., Any] = lambda f: f) -> Any:
    """jit(f) gives what f gives, to the bit, in this order of calls and in the reverse, one at a time and at once."""
    eager = transform(f)
    for order in (calls, calls[::-1]):
        compiled = mg.jit(transform(f), exact=True, paths=40)
        for call in order:
            assert same(outcome(compiled, call), outcome(eager, call)), (call, outcome(compiled, call))
    return compiled


def outcome(f: Any, args: tuple[Any, ...]) -> Any:
    try:
        return f(*args)
    except Exception as error:
        return type(error)


def same(x: Any, y: Any) -> bool:
    return repr(x) == repr(y)


# --- equality and plain arguments ---------------------------------------------------------------------------------


def gcd(a: Any, b: Any) -> Any:
    while b != 0:
        a, b = b, a % b
    return a


def matched(x: Any, k: Any) -> Any:
    match k:
        case 0:
            return x
        case 1 | 2:
            return -x
        case _:
            return x * k


@pytest.mark.parametrize(
    ("f", "calls"),
    [
        (lambda x: 2.0 * x if x == 1 else 3.0 * x, [(1.0,), (2.0,), (1.0,)]),
        (lambda x: 0.0 if x != x else x, [(plain_math.nan,), (2.0,)]),
        (lambda x: 1.0 if x == 0 else math.sin(x) / x, [(0.0,), (-0.0,), (2.0,)]),
        (lambda x, y: x if x in (y, 2.0, 3) else y, [(1.0, 1.0), (2.0, 5.0), (3.0, 5.0), (4.0, 5.0)]),
        (lambda x, y: sorted([(x, 1.0), (y, 0.0), (x, y)])[0][1], [(1.0, 2.0), (2.0, 2.0), (3.0, 2.0), (2.0, 2.5)]),
        (lambda x: [x, 1.0, x].count(1) + x, [(1.0,), (2.0,)]),
        (gcd, [(12.0, 8.0), (9.0, 6.0), (7.0, 0.0)]),
        (lambda x: 1.0 if x < fractions.Fraction(1, 3) else 2.0, [(1.0,), (1 / 3,), (0.3,), (plain_math.nan,)]),
        (lambda x: 1.0 if x < 10**400 else 2.0, [(1.0,), (1e308,)]),
        (lambda x: x if x > 2**53 + 1 else -x, [(2.0**53,), (2.0**53 + 2,)]),
        (lambda x: x if x == 2**53 + 1 else -x, [(2.0**53,), (1.0,)]),
        (lambda x: x if x == 1 + 0j else -x, [(1.0,), (2.0,)]),
        (lambda x, k: x if k == 1 else -x, [(5.0, 1), (5.0, 2), (5.0, 1.0), (5.0, True)]),
        (lambda x, k: x if k % 2 == 0 else -x, [(5.0, 4), (5.0, 3)]),
        (lambda x, k: {0: x, 1: 2 * x}[k], [(1.0, 1), (1.0, 0), (1.0, 2)]),
        (lambda x, k: [x, 2 * x][k], [(1.0, 1), (3.0, 0), (1.0, 5)]),
        (lambda x, k: sum([x] * k), [(1.5, 3), (1.5, 0), (2.5, 3)]),
        (lambda x, n: functools.reduce(lambda a, _: a * x + 1.0, range(n), 0.0), [(0.5, 3), (0.5, 4), (0.25, 3)]),
        (matched, [(1.0, 0), (1.0, 1), (2.0, 2), (1.0, 7), (1.0, 0.0)]),
        (lambda x, name: x * len(name) if name.startswith("a") else x, [(2.0, "abc"), (2.0, "b"), (3.0, "abc")]),
        (lambda x, k: (x, k, k + 1, 2**60 + 1, k == 1), [(1.0, 1), (2.0, 2**70), (1.0, True)]),
        (lambda x: (x, 10**400), [(1.0,), (2.0,)]),
        (lambda k: k + 1, [(1,), (2,), (1.5,)]),
        (lambda x: (plain_math.floor(x), round(x, 1), int(x)), [(1.25,), (2.5,), (-0.25,), (1e19,), (plain_math.inf,)]),
        (lambda x: (x.is_integer(), x.hex()), [(1.25,), (2.0,), (-0.0,), (0.0,)]),
        (lambda x: math.nextafter(x, plain_math.inf) * 2.0, [(0.0,), (-0.0,), (1.0,)]),
        (lambda x: round(x, 1), [(0.0,), (-0.0,), (0.04,), (-0.04,)]),
        (lambda d: d["a"] if d["k"] == 1 else d["b"], [({"a": 1.0, "b": 2.0, "k": k},) for k in (1, 2)]),
    ],
)
def test_branches_and_plain_arguments(f: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    agrees(f, *calls)


def test_the_derivative_by_an_int_is_taken_at_its_float() -> None:
    for transform in (mg.grad, mg.value_and_grad, mg.hessian):
        agrees(lambda x: x**3 + x, (2,), (2.0,), (3,), transform=transform)
    assert mg.jit(mg.grad(lambda x, k: x**k))(2.0, 3) == 12.0


# --- exceptions ---------------------------------------------------------------------------------------------------


def caught(operation: Any, *errors: Any) -> Any:
    def f(*args: Any) -> Any:
        try:
            found = operation(*args)
        except errors:
            return 0.0
        return found * 2.0 + args[0]

    return f


POINTS = [0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e300, -1e300, 710.0, 1e-320]
CATCHING = {
    "log": (caught(math.log, ValueError), 1),
    "sqrt": (caught(math.sqrt, ValueError), 1),
    "exp": (caught(math.exp, OverflowError), 1),
    "acosh, another exception": (caught(math.acosh, ZeroDivisionError), 1),
    "reciprocal": (caught(lambda x: 1.0 / x, ZeroDivisionError), 1),
    "truediv": (caught(lambda x, y: x / y, ZeroDivisionError), 2),
    "floordiv": (caught(lambda x, y: x // y, ZeroDivisionError), 2),
    "mod": (caught(lambda x, y: x % y, ZeroDivisionError), 2),
    "pow": (caught(lambda x, y: x**y, ZeroDivisionError, OverflowError), 2),
    "pow, one of two": (caught(lambda x, y: x**y, ZeroDivisionError), 2),
    "gamma": (caught(math.gamma, ValueError, OverflowError), 1),
    "fmod": (caught(math.fmod, ValueError), 2),
    "int": (caught(lambda x: int(x * 1e200), OverflowError, ValueError), 1),
}


@pytest.mark.parametrize("name", CATCHING)
def test_an_exception_that_is_caught_is_a_branch(name: str) -> None:
    f, count = CATCHING[name]
    calls = [(x,) for x in POINTS] if count == 1 else [(x, y) for x in POINTS[:8] for y in (0.0, 2.0, -1.0, 3.0)]
    agrees(f, *calls)
    single = [call for call in calls if isinstance(outcome(f, call), float)]
    batch = mg.jit(mg.vmap(f), exact=True, paths=40)
    got = batch(*map(np.array, zip(*single)))
    assert got.tolist() == [f(*call) for call in single]


def test_a_checked_operation_whose_result_nobody_wants_is_still_checked() -> None:
    def checked(x: Any) -> Any:
        try:
            math.log(x)
        except ValueError:
            return 0.0
        return 2.0 * x

    agrees(checked, (2.0,), (-1.0,), (3.0,))

    def validated(x: Any) -> Any:
        math.sqrt(x - 1.0)
        return 3.0 * x

    agrees(validated, (2.0,), (0.5,), (1.0,))
    for f, bad in ((math.log, -0.5), (math.log10, -0.5), (math.log2, -0.5), (math.log1p, -2.0), (math.atanh, 2.0)):
        agrees(f, (0.75,), (bad,), transform=mg.grad)


# --- copies and objects -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 1.0


def test_copies_keep_the_derivative() -> None:
    assert mg.grad(lambda s: copy.deepcopy(s)[0] ** 2)([3.0]) == [6.0]
    assert mg.grad(lambda x: copy.copy(x) ** 2)(3.0) == 6.0
    assert mg.grad(lambda x: dataclasses.replace(Point(x), y=2.0).x ** 2)(3.0) == 6.0
    assert mg.grad(lambda x: dataclasses.asdict(Point(x * x))["x"])(3.0) == 6.0
    assert mg.hessian(lambda x: copy.deepcopy({"a": [copy.copy(x)]})["a"][0] ** 3)(2.0) == 12.0
    agrees(lambda x: copy.copy(x) ** 2, (2.0,), (3.0,))
    agrees(lambda x: copy.deepcopy([x, x * x])[1], (2.0,), (3.0,))
    agrees(lambda x: dataclasses.asdict(Point(x, x * x))["y"], (2.0,), (3.0,), transform=mg.grad)


def test_a_closed_over_value_takes_part_in_derivatives() -> None:
    w = Value(3.0, "w")
    f = mg.jit(lambda t: t * w * w)
    for _ in range(2):  # recorded, then compiled
        w.grad = 0.0
        (f(2.0) * w).backward()
        assert w.grad == 2.0 * 3 * 9.0
    (slope,) = mg.gradients(f(2.0), [w])
    assert (slope.data, mg.gradients(slope, [w])[0].data) == (12.0, 4.0)
    w.data = 5.0
    assert f(2.0) == 50.0
    assert mg.grad(lambda v: mg.jit(lambda t: t * v)(3.0))(2.0) == 3.0
    assert mg.hessian(lambda v: mg.jit(lambda t: t * v)(3.0) * v)(2.0) == 6.0
    outer = mg.jit(lambda v: mg.jit(lambda t: t * v)(3.0))
    assert (outer(2.0), outer(5.0)) == (6.0, 15.0)
    assert type(outer(2.0)) is float


def test_a_value_made_before_keeps_its_data() -> None:
    w = Value(2.0)
    before = w * 3.0
    f = mg.jit(lambda t: t * before + w)
    assert [f(1.0), f(2.0)] == [8.0, 14.0]
    w.data = 5.0
    assert [f(1.0), f(2.0)] == [11.0, 17.0]
    w.grad = 0.0
    f(2.0).backward()
    assert w.grad == 7.0


def test_another_value_in_the_same_place_is_noticed() -> None:
    w = Value(2.0)

    def f(t: Any) -> Any:
        return t * w

    compiled = mg.jit(f)
    assert compiled(3.0) == compiled(3.0) == 6.0
    w = Value(7.0)
    assert compiled(3.0) == compiled(3.0) == 21.0


class Scaled:
    def __init__(self, w: Any) -> None:
        self.w = w

    @mg.jit
    def times(self, x: Any) -> Any:
        return x * self.w


def test_objects_are_told_apart_and_may_change_and_go() -> None:
    a, b = Scaled(Value(2.0)), Scaled(Value(3.0))
    assert (a.times(5.0), b.times(5.0), a.times(5.0)) == (10.0, 15.0, 10.0)
    a.w.data = 4.0
    assert a.times(5.0) == 20.0
    a.w = Value(6.0)
    assert a.times(5.0) == 30.0
    a.w = 7.0
    assert (a.times(5.0), type(a.times(5.0))) == (35.0, float)
    assert mg.grad(lambda w: Scaled(w).times(3.0))(2.0) == 3.0
    f = mg.jit(lambda p: p.x * p.x)
    assert mg.grad(lambda x: f(Point(x)))(3.0) == 6.0
    assert (f(Point(2.0)), f(Point(3.0)), f(Point(2.0))) == (4.0, 9.0, 4.0)
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None
    functions = mg.jit(lambda h, x: h(x))
    for i in range(40):
        assert functions(lambda x, i=i: x * i, 1.0) == float(i)
    assert functions.stats["paths"] <= 16


def test_the_number_of_programs_is_bounded() -> None:
    f = mg.jit(lambda x, k: x * k, paths=4)
    with pytest.warns(RuntimeWarning, match="more than 4 kinds of arguments") as warned:
        assert [f(0.5, k) for k in range(12)] == [0.5 * k for k in range(12)]
    assert (f.stats["paths"], len(warned)) == (4, 1)


def test_what_is_returned_is_new_at_each_call() -> None:
    f = mg.jit(lambda x: [x, {"a": (x, 2)}, "s", None])
    first, second = f(1.0), f(1.0)
    assert first == second == [1.0, {"a": (1.0, 2)}, "s", None]
    assert first is not second
    assert first[1] is not second[1]
    point = mg.jit(lambda x: Point(x * 2.0))
    assert [point(1.0), point(2.0), point(1.0)] == [Point(2.0), Point(4.0), Point(2.0)]
    assert type(point(1.0).x) is float
    assert point(1.0) is not point(1.0)
    pair = mg.jit(lambda x: types.SimpleNamespace(x=x * 2.0))
    with pytest.warns(RuntimeWarning, match="it returns SimpleNamespace objects; it runs eagerly"):
        assert [pair(1.0).x, pair(2.0).x, pair(1.0).x] == [2.0, 4.0, 2.0]


# --- what cannot be recorded --------------------------------------------------------------------------------------

UNFAITHFUL = {
    "data": lambda x: x * x.data,
    "grad": lambda x: (x * x).backward() or x.grad,
    "text": lambda x: x * float(f"{x:.1f}"),
    "repr": lambda x: x * repr(x).count("5"),
    "hash": lambda x: {x: x * 2.0}[x],
    "partials": lambda x: x * (x * x).partials[0],
    "an assignment": lambda x: setattr(x, "data", 7.0) or x * 1.0,  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("name", UNFAITHFUL)
def test_a_read_that_no_guard_stands_for_runs_eagerly_after_one_warning(name: str) -> None:
    f = UNFAITHFUL[name]
    compiled = mg.jit(f)
    with pytest.warns(
        RuntimeWarning, match=rf"test_faithful\.py:{f.__code__.co_firstlineno}; it runs eagerly"
    ) as warned:
        got = [compiled(x) for x in (1.25, 2.5, 1.25)]
    want = [f(Value(x)) for x in (1.25, 2.5, 1.25)]
    assert got == want
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert compiled.stats["paths"] == 0


def test_data_of_a_parameter_is_no_constant() -> None:
    w = Value(2.0)
    f = mg.jit(lambda x: x * w.data)
    with pytest.warns(RuntimeWarning, match="data of a Value is read"):
        assert f(3.0) == 6.0
    w.data = 5.0
    assert f(3.0) == 15.0


def test_random_numbers_are_drawn_at_each_call() -> None:
    rng = random.Random(0)
    generator, held = np.random.default_rng(0), {"a": random.Random(0)}
    system = random.SystemRandom()
    sources = [generator.normal, lambda: held["a"].random(), lambda: random.gauss(0, 1), system.random]
    for draw in (random.random, np.random.rand, rng.random, *sources):
        f = mg.jit(lambda x, draw=draw, rng=rng: x * draw())
        with pytest.warns(RuntimeWarning, match="random numbers are drawn"):
            assert f(1.0) != f(1.0)


def test_random_numbers_are_drawn_at_each_call_while_a_module_is_imported(tmp_path: Path) -> None:
    module = "import random, micrograd_bp as mg\nf = mg.jit(lambda x: x * random.random())\nfound = f(1.0), f(1.0)\n"
    (tmp_path / "drawing_module.py").write_text(module)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import drawing_module as m; assert len({{*m.found}}) == 2"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "random numbers are drawn" in done.stderr


def test_what_is_done_besides_happens_at_each_call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def shown(x: Any) -> Any:
        print("here")
        return 2.0 * x

    def logged(x: Any) -> Any:
        logging.getLogger("jitted").warning("here")
        return 2.0 * x

    f = mg.jit(shown)
    with pytest.warns(RuntimeWarning, match="text is printed at .*test_faithful.py:[0-9]+; it runs eagerly"):
        assert [f(1.0), f(2.0), f(3.0)] == [2.0, 4.0, 6.0]
    assert capsys.readouterr().out == "here\n" * 3
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger("jitted").addHandler(handler)
    try:
        f = mg.jit(logged)
        with pytest.warns(RuntimeWarning, match="text is logged at"):
            assert [f(1.0), f(2.0)] == [2.0, 4.0]
    finally:
        logging.getLogger("jitted").removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text() == "here\n" * 2


@pytest.mark.parametrize("clock", [time.time, time.perf_counter_ns, lambda: datetime.datetime.now().timestamp()])
def test_clocks_are_read_at_each_call(clock: Callable[..., Any]) -> None:
    f = mg.jit(lambda x: x + clock())
    with pytest.warns(RuntimeWarning, match="the clock is read at .*test_faithful.py"):
        first = f(0.0)
    time.sleep(0.001)
    assert f(0.0) > first


def test_an_iterator_gives_its_next_item_at_each_call() -> None:
    for items in (iter([1.0, 2.0, 3.0]), (x for x in (1.0, 2.0, 3.0)), itertools.count(1.0)):
        f = mg.jit(lambda x, items=items: x * next(items))
        with pytest.warns(RuntimeWarning, match="an iterator is among what it finds elsewhere"):
            assert [f(1.0), f(1.0), f(1.0)] == [1.0, 2.0, 3.0]


def test_a_module_imported_in_it_makes_no_draw_unnoticed() -> None:
    program = """
        import warnings, numpy, micrograd_bp as mg
        f = mg.jit(lambda x: x * numpy.random.rand())  # numpy.random is imported there, at its first use
        warnings.simplefilter("ignore")
        assert len({f(1.0) for _ in range(4)}) == 4
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- numbers, texts and functions that it finds -------------------------------------------------------------------


GAIN = 2.0


class Settings:
    """Numbers of every kind that a function may find."""

    common = 2.0

    def __init__(self) -> None:
        self.number, self.inner, self.weights, self.table = 2.0, types.SimpleNamespace(deep=2.0), [1.0, 2.0], {"a": 2.0}
        self.array, self.mode, self.nested = np.array([1.0, 2.0]), "plus", [{"k": (1.0, [2.0])}]
        self.unused = 0

    @property
    def twice(self) -> float:
        return 2.0 * self.number

    def of(self, x: Any) -> Any:
        return x * self.number * self.common


class Slotted:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 2.0


def helped(x: Any) -> Any:
    return GAIN * x


def around(f: Any) -> Any:
    return lambda x: f(x) + 1.0


def replaced_function(x: Any) -> Any:
    return 3.0 * x


FINDS: dict[str, Any] = {
    "attribute": (lambda s: lambda x: x * s.number, lambda s: setattr(s, "number", 3.0)),
    "property": (lambda s: lambda x: x * s.twice, lambda s: setattr(s, "number", 3.0)),
    "method": (lambda s: s.of, lambda s: setattr(s, "number", 3.0)),
    "attribute of the class": (lambda s: lambda x: s.of(x), lambda s: setattr(Settings, "common", 3.0)),
    "attribute that hides the class's": (lambda s: lambda x: x * s.common, lambda s: setattr(s, "common", 3.0)),
    "attribute of an attribute": (lambda s: lambda x: x * s.inner.deep, lambda s: setattr(s.inner, "deep", 3.0)),
    "item of a list": (lambda s: lambda x: x * s.weights[0], lambda s: s.weights.__setitem__(0, 3.0)),
    "length of a list": (lambda s: lambda x: sum(x * w for w in s.weights), lambda s: s.weights.append(3.0)),
    "item of a dict": (lambda s: lambda x: x * s.table["a"], lambda s: s.table.update(a=3.0)),
    "new item of a dict": (lambda s: lambda x: x * s.table.get("b", 1.0), lambda s: s.table.update(b=3.0)),
    "item deep inside": (lambda s: lambda x: x * s.nested[0]["k"][1][0], lambda s: s.nested[0]["k"][1].reverse()
                         or s.nested[0]["k"][1].insert(0, 3.0)),
    "array changed in place": (lambda s: lambda x: x * s.array.sum(), lambda s: s.array.__setitem__(0, 3.0)),
    "other array": (lambda s: lambda x: x * s.array.sum(), lambda s: setattr(s, "array", np.ones(5))),
    "text": (lambda s: lambda x: x + 1.0 if s.mode == "plus" else x - 1.0, lambda s: setattr(s, "mode", "minus")),
    "default": (lambda s: lambda x, w=s.weights: x * w[0], lambda s: s.weights.__setitem__(0, 3.0)),
    "partial": (lambda s: functools.partial(lambda t, x: x * t["a"], s.table), lambda s: s.table.update(a=3.0)),
    "inside grad": (lambda s: mg.grad(lambda x: x * x * s.number), lambda s: setattr(s, "number", 3.0)),
    "inside another jit": (lambda s: around(mg.jit(lambda x: x * s.number)), lambda s: setattr(s, "number", 3.0)),
    "sign of zero": (lambda s: lambda x: math.copysign(x, s.table["a"]), lambda s: s.table.update(a=-0.0)),
    "True for 1": (lambda s: lambda x: x if s.table["a"] is True else -x, lambda s: s.table.update(a=True)),
}  # fmt: skip


def plain(y: Any) -> float:
    return float(y.data if isinstance(y, Value) else y)


@pytest.mark.parametrize("name", FINDS)
@pytest.mark.parametrize("batch", [False, True], ids=["call", "batch"])
def test_another_number_in_the_same_place_is_noticed(name: str, batch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "common", 2.0)
    make, change = FINDS[name]
    settings = Settings()
    settings.table["a"] = 1 if name == "True for 1" else 0.0 if name == "sign of zero" else 2.0
    f = make(settings)
    compiled = mg.jit(mg.vmap(f) if batch else f)

    def call() -> Any:
        return compiled(np.array([1.0, 2.0])).tolist() if batch else [compiled(1.0), compiled(2.0)]

    before = [plain(y) for y in (f(1.0), f(2.0))]
    assert call() == call() == before
    change(settings)
    after = [plain(y) for y in (f(1.0), f(2.0))]
    assert call() == call() == after != before
    assert compiled.stats["paths"] == 2


def test_globals_functions_and_slots_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    f, slotted = mg.jit(lambda x: helped(x)), Slotted()
    assert f(1.0) == f(1.0) == 2.0
    monkeypatch.setitem(globals(), "GAIN", 5.0)
    assert f(1.0) == 5.0
    monkeypatch.setitem(globals(), "helped", replaced_function)
    assert f(1.0) == 3.0
    g = mg.jit(lambda x: x * slotted.number)
    assert g(1.0) == 2.0
    slotted.number = 4.0
    assert g(1.0) == 4.0
    counted = mg.jit(counting)
    counting.calls = 0  # type: ignore[attr-defined]
    with pytest.warns(RuntimeWarning, match="it changes calls while it runs"):
        assert [counted(1.0) for _ in range(3)] == [1.0, 2.0, 3.0]


def counting(x: Any) -> Any:
    counting.calls += 1  # type: ignore[attr-defined]
    return x * counting.calls  # type: ignore[attr-defined]


def test_a_number_that_changes_back_finds_its_program_again() -> None:
    scale = [2.0]
    f = mg.jit(lambda x: x * scale[0])
    for _ in range(5):
        for scale[0] in (2.0, 3.0):
            assert f(1.0) == scale[0]
    assert f.stats["paths"] == 2
    assert f.stats["eager"] == 0


def test_what_no_name_in_the_code_reaches_makes_no_other_program() -> None:
    settings = Settings()
    f = mg.jit(lambda x: settings.of(x))
    for settings.unused in range(40):
        settings.weights.append(1.0)
        assert f(1.0) == 4.0
    assert f.stats["paths"] == 1


def test_a_number_that_is_another_at_each_call_makes_few_programs() -> None:
    step = 0

    def f(x: Any) -> Any:
        return x * step

    compiled = mg.jit(f, paths=4)

    def stepped(k: Any) -> Any:
        nonlocal step
        step = k
        return compiled(1.0)

    with pytest.warns(RuntimeWarning, match="more than 4 kinds of arguments"):
        found = [stepped(k) for k in range(20)]
    assert found == [*range(20)]
    assert compiled.stats["paths"] == 4


def test_a_model_that_is_switched_to_training_is_recorded_anew() -> None:
    model = nn.Sequential(nn.Linear(1, 1, rng=random.Random(0)), nn.Dropout(0.5, rng=random.Random(0)))
    model.eval()
    f = mg.jit(lambda x: model([x]))
    whole = [f(1.0).data, f(1.0).data]
    model.train()
    with pytest.warns(RuntimeWarning, match="random numbers are drawn"):
        dropped = {plain(f(1.0)) for _ in range(20)}
    assert whole[0] == whole[1]
    assert len(dropped) == 2


# --- what a function finds and changes ----------------------------------------------------------------------------


def changing_cases() -> Any:
    """Functions that are more than their result: makers of one, and calls."""

    def nonlocal_total() -> Callable[..., Any]:
        total = 0.0

        def add(x: Any) -> Any:
            nonlocal total
            total += x
            return total

        return add

    def default_list() -> Callable[..., Any]:
        def f(x: Any, seen: list[Any] = []) -> Any:  # noqa: B006
            seen.append(x)
            return sum(seen)

        return f

    def log() -> Any:
        lines = []

        def f(x: Any) -> Any:
            lines.append(1)
            return x * len(lines)

        return f

    def toggled() -> Any:
        class Toggle:
            def __init__(self) -> None:
                self.on, self.last = True, None

            def __call__(self, x: Any) -> Any:
                self.on = not self.on
                self.last = x * 2
                return x if self.on else -x

        return Toggle()

    def counter() -> Any:
        count = [0]

        def f(x: Any) -> Any:
            count[0] += 1
            return x * count[0]

        return f

    return [nonlocal_total, default_list, log, toggled, counter]


@pytest.mark.parametrize("make", changing_cases(), ids=lambda make: make.__name__)
def test_a_function_that_changes_something_runs_at_each_call(make: Callable[..., Any]) -> None:
    plain, compiled = make(), mg.jit(make())
    with pytest.warns(RuntimeWarning, match="it changes .* while it runs; it runs eagerly") as warned:
        got = [compiled(x) for x in (1.0, 2.0, 3.0, 1.0)]
    assert repr(got) == repr([plain(x) for x in (1.0, 2.0, 3.0, 1.0)])
    assert len(warned) == 1


def test_what_is_done_to_arguments_is_done() -> None:
    def sorting(xs: list[Any]) -> Any:
        xs.sort()
        xs.append(7.0)
        return xs[0]

    def doubling(a: Any) -> Any:
        a *= 2.0
        return a.sum()

    def noting(d: dict[str, Any]) -> Any:
        d["n"] = d.get("n", 0.0) + d["x"]
        return d["n"]

    cases: list[tuple[Callable[..., Any], Callable[[], Any]]] = [
        (sorting, lambda: [3.0, 1.0]),
        (doubling, lambda: np.array([1.0, 2.0])),
        (noting, lambda: {"x": 2.0}),
    ]
    for f, make in cases:
        mine, theirs = make(), make()
        compiled = mg.jit(f)
        with pytest.warns(RuntimeWarning, match="it changes"):
            got = [float(compiled(mine)) for _ in range(3)]
        assert got == [float(f(theirs)) for _ in range(3)]
        assert repr(mine) == repr(theirs)
        assert type(mine) is type(theirs)


def test_an_error_leaves_no_values_of_a_recording_behind() -> None:
    seen = []

    def f(xs: list[Any], pairs: list[tuple[Any, ...]]) -> Any:
        seen.append(xs[0] * 2.0)
        xs[0] = xs[0] + 1.0
        return math.log(xs[1]) + pairs[0][1]

    compiled, xs, pairs = mg.jit(f), [1.0, -1.0], [(3.0, 4.0)]
    with pytest.raises(ValueError, match="log"):
        compiled(xs, pairs)
    assert repr((seen, xs, pairs)) == "([2.0], [2.0, -1.0], [(3.0, 4.0)])"
    xs[1] = 1.0
    with pytest.warns(RuntimeWarning, match="it changes"):
        assert [compiled(xs, pairs), compiled(xs, pairs)] == [4.0, 4.0]
    assert repr((seen, xs, pairs)) == "([2.0, 4.0, 6.0], [4.0, 1.0], [(3.0, 4.0)])"


def test_arguments_that_are_one_stay_one() -> None:
    def f(a: list[Any], b: list[Any]) -> Any:
        return 1.0 * a[0] if a is b else 2.0 * b[0]

    compiled, xs = mg.jit(f), [3.0, 4.0]
    assert [compiled(xs, xs), compiled(xs, [3.0, 4.0]), compiled(xs, xs)] == [3.0, 6.0, 3.0]


def test_values_that_are_replaced_are_found_again() -> None:
    holder, model = {"w": Value(2.0)}, Scaled([Value(2.0)])
    w = Value(2.0)
    functions = [
        mg.jit(lambda x: holder["w"] * x),
        mg.jit(lambda x: sum([w * x for _ in range(1)])),
        mg.jit(lambda x: model.w[0] * x),
    ]
    assert [f(1.0) for f in functions] == [2.0] * 3
    holder["w"], w, model.w[0] = Value(3.0), Value(4.0), Value(5.0)
    assert [f(1.0) for f in functions] == [3.0, 4.0, 5.0]
    holder, model.w = {"w": Value(6.0)}, [Value(7.0)]
    assert [f(1.0) for f in functions] == [6.0, 4.0, 7.0]


def test_objects_among_the_arguments_are_looked_at_anew() -> None:
    class Configured:
        def __init__(self) -> None:
            self.cfg, self.array, self.nested = {"k": 2.0}, np.array([2.0]), [[2.0]]

    for read, write in (
        (lambda o: o.cfg["k"], lambda o: o.cfg.update(k=3.0)),
        (lambda o: o.array[0], lambda o: o.array.fill(3.0)),
        (lambda o: o.nested[0][0], lambda o: o.nested[0].__setitem__(0, 3.0)),
    ):
        f, o = mg.jit(lambda o, x, read=read: read(o) * x), Configured()
        assert f(o, 1.0) == 2.0
        write(o)
        assert f(o, 1.0) == 3.0
    numbers = iter([1.0, 2.0, 3.0])
    pulled = mg.jit(lambda x, it: x * next(it))
    with pytest.warns(RuntimeWarning, match="an iterator is among its arguments"):
        assert [pulled(1.0, numbers) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_functions_that_are_returned_hold_the_numbers_of_their_call() -> None:
    make = mg.jit(lambda x: lambda y: x * y)
    with pytest.warns(RuntimeWarning, match="it returns function objects"):
        assert (make(2.0)(3.0), make(5.0)(3.0)) == (6.0, 15.0)
    pull = mg.jit(lambda x: mg.vjp(lambda v: v**3, x))
    with pytest.warns(RuntimeWarning, match="it returns function objects"):
        assert [pull(x)[1](1.0) for x in (2.0, 3.0)] == [(12.0,), (27.0,)]


def test_backward_inside_a_function_happens_at_each_call() -> None:
    w = Value(2.0)

    def step(x: Any, t: Any) -> Any:
        loss = (w * x - t) ** 2
        loss.backward()
        return loss

    compiled = mg.jit(step)
    with pytest.warns(RuntimeWarning, match=r"backward\(\) of a Value"):
        assert [compiled(x, 1.0) for x in (1.0, 2.0, 3.0)]
    assert w.grad == 44.0


def test_an_int_on_one_path_and_a_float_on_another() -> None:
    f = lambda x: 0 if x < 0 else x  # noqa: E731
    x = np.array([-1.0, 2.0, -3.0, 0.5])
    assert mg.jit(mg.vmap(f))(x).tolist() == mg.vmap(f)(x).tolist() == [0.0, 2.0, 0.0, 0.5]
    both = mg.jit(mg.vmap(lambda x: [x, 1 if x > 0 else 2.0, 7]))(x)
    assert [column.tolist() for column in both] == [x.tolist(), [2.0, 1.0, 2.0, 1.0], [7] * 4]


def test_leaves_that_a_function_makes_are_constants_however_it_runs() -> None:
    for f in (lambda x: copy.copy(x) * 2, lambda x: Value(3.0) / x, lambda x: Value(0.0) + x):
        g = mg.jit(f)
        for x in (2.0, plain_math.inf, -plain_math.inf, 2.0):
            assert repr(g(x)) == repr(f(Value(x)).data)


# --- threads ------------------------------------------------------------------------------------------------------


def test_branches_that_are_taken_in_a_pool() -> None:
    def f(v: list[Any]) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda x: x if x > 0 else -x, v))

    g = mg.jit(f)
    assert [g([1.0, 2.0]), g([-1.0, 2.0]), g([-1.0, -2.0])] == [3.0, 3.0, 3.0]


def test_two_recordings_at_a_time_lose_nothing() -> None:
    def program(k: int) -> Callable[..., Any]:
        def f(x: Any) -> Any:
            total = 0.0
            for i in range(20):
                total = total + (x * i if x > i - k else -x)
            return total

        return f

    def work(k: int) -> bool:
        f, compiled = program(k), mg.jit(program(k), paths=60)
        points = [i / 2 + 0.25 for i in range(-30, 30)]
        return [compiled(x) for x in points] == [f(x) for x in points]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))


def test_the_first_calls_of_eight_threads_make_one_path() -> None:
    def f(x: Any) -> Any:
        for _ in range(50):
            x = math.sin(x) + 0.5
        return x

    for _ in range(5):
        compiled = mg.jit(f)
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(compiled, [0.5] * 8))
        assert got == pytest.approx([f(0.5)] * 8, rel=1e-12)
        assert compiled.stats["paths"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_compiles_though_another_thread_was_recording(tmp_path: Path) -> None:
    inside, done = tmp_path / "inside", tmp_path / "done"  # files: a lock of an event may be taken while this forks

    def until(path: Path) -> None:
        for _ in range(2000):
            if path.exists():
                return
            time.sleep(0.005)

    def slow(x: Any) -> Any:
        inside.touch()
        until(done)
        return x * 2.0

    compiled = mg.jit(slow)
    thread = threading.Thread(target=compiled, args=(1.0,))
    thread.start()
    until(inside)
    child = os.fork()
    if not child:
        right = mg.jit(math.sin)(0.5) == plain_math.sin(0.5)
        done.touch()
        right = right and compiled(3.0) == 6.0
        os._exit(0 if right and compiled.stats["paths"] == 1 else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    thread.join()
    assert status == 0
    assert compiled.stats["paths"] == 1


# --- training -----------------------------------------------------------------------------------------------------


def hinge_or_square(p: Any, t: int) -> Any:
    return mg.softplus(-p) if t == 1 else mg.softplus(p)


def by_index(p: Any, t: Any) -> Any:
    return (p - [0.5, -0.5, 2.0][t]) ** 2


def by_type(p: Any, t: Any) -> Any:
    return p * p if isinstance(t, int) else (p - t) ** 2


def by_name(p: Any, t: Any) -> Any:
    return (p - {"low": -1.0, "high": 1.0}[t]) ** 2


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (hinge_or_square, [0, 0, 1, 1]),
        (hinge_or_square, [1, 1, 0, 0]),
        (hinge_or_square, [1.0, 0.0, 1.0, 2.0]),
        (by_index, [0, 1, 2, 1]),
        (by_type, [0, 0.5, 1, 1.5]),
        (by_name, ["low", "high", "low", "low"]),
        (losses.mse, [0, 1, 2, 7]),
        (losses.huber, [0.0, 1.0, 2.0, 7.0]),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_trains_the_same_compiled(loss: Callable[..., Any], y: list[Any], shuffle: bool) -> None:
    X = [[-2.0], [-1], [1.0], [2.0]]

    def train(jit: bool) -> tuple[Any, ...]:
        model = nn.MLP(1, [2, 1], activation="tanh", rng=random.Random(0))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        options: dict[str, Any] = {"epochs": 5, "batch_size": 3, "shuffle": shuffle, "progress": False}
        options["rng"] = random.Random(1)
        history = training.fit(model, loss, X, y, optimizer, jit=jit, **options)
        return [p.data for p in model.parameters()], history["loss"]

    eager, compiled = train(False), train(True)
    assert compiled[0] == pytest.approx(eager[0], rel=1e-9)
    assert compiled[1] == pytest.approx(eager[1], rel=1e-9)


def test_a_model_that_tells_nan_from_numbers_trains_the_same_compiled() -> None:
    class Imputing(nn.Module):
        def __init__(self) -> None:
            self.w, self.b, self.missing = Value(0.5), Value(0.1), Value(0.0)

        def __call__(self, x: Any) -> Any:
            return sum(self.w * (self.missing if v != v else v) for v in x) + self.b

    X = [[1.0, 2.0], [plain_math.nan, 1.0], [0.5, plain_math.nan], [3.0, -1.0]]

    def train(jit: bool) -> list[float]:
        model = Imputing()
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        training.fit(model, losses.mse, X, [1.0, 2.0, 3.0, 4.0], optimizer, epochs=4, jit=jit, progress=False)
        return [p.data for p in model.parameters()]

    assert train(True) == pytest.approx(train(False), rel=1e-9)


def test_nothing_is_warned_of_where_all_can_be_recorded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = nn.MLP(2, [3, 1], activation="tanh", rng=random.Random(0))
        f = mg.jit(lambda x: model(x) ** 2)
        assert f([0.5, 1.0]) == pytest.approx((model([0.5, 1.0]) ** 2).data)
        assert type(mg.jit(model.freeze())([0.5, 1.0])) is float


class Counting(nn.Module):
    """A model whose calls can be counted, with a running mean and dropout of its own."""

    def __init__(self, rng: Any) -> None:
        self.w, self.b, self.mean, self.calls, self.rng = Value(0.5), Value(0.1), 0.0, 0, rng
        self.last: Value | None = None

    def __call__(self, x: list[float]) -> Any:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x[0]
        keep = 1.0 if self.rng is None or self.rng.random() > 0.5 else 0.0
        self.last = self.w * (x[0] - self.mean) * keep + self.b
        return self.last


@pytest.mark.parametrize("source", [None, random.Random, np.random.default_rng], ids=["state", "random", "NumPy's"])
@pytest.mark.filterwarnings("ignore:.*it runs eagerly, not compiled:RuntimeWarning")
def test_a_model_with_state_trains_the_same_with_jit(source: Any) -> None:
    X, y = [[-2.0], [-1.0], [1.0], [2.0]], [0.5, 1.0, -1.0, 2.0]

    def train(jit: bool) -> list[float]:
        model = Counting(source and source(1))
        optimizer = optim.SGD(model.parameters(), lr=0.05)
        options: dict[str, Any] = {"epochs": 4, "batch_size": 3, "rng": random.Random(1), "progress": False}
        history = training.fit(model, losses.mse, X, y, optimizer, jit=jit, **options)
        return [*[p.data for p in model.parameters()], *history["loss"], model.calls, model.mean]

    assert train(True) == pytest.approx(train(False), rel=1e-12)


def test_a_guarded_operation_without_native_code_leaves_rows_to_other_paths() -> None:
    def f(x: Any) -> Any:
        return math.lgamma(x) if x > 0 else -x * 1.5

    x = [2.0, 0.0, 3.0, -1.0, 0.0]
    assert mg.jit(mg.vmap(f))(np.array(x)).tolist() == [f(v) for v in x]
    single = mg.jit(f)
    assert [single(v) for v in x + x] == [f(v) for v in x + x]
    assert (single.stats["paths"], single.stats["eager"]) == (2, 0)
    assert mg.jit(mg.vmap(math.frexp))(np.array([5e-324, 1.0, 3.0]))[0].tolist() == [0.5, 0.5, 0.75]


def test_a_row_that_raises_takes_the_path_that_catches() -> None:
    def f(x: Any) -> Any:
        try:
            return math.log(x)
        except ValueError:
            return x * 2.0

    x = [2.0, -1.0, 3.0, -2.0, 0.0, -0.5]
    for values in (x, x[::-1]):
        single, batch = mg.jit(f), mg.jit(mg.vmap(f))
        assert [single(v) for v in values] == pytest.approx([f(v) for v in values], rel=1e-15)
        assert (single.stats["paths"], single.stats["eager"]) == (2, 0)
        assert batch(np.array(values)) == pytest.approx([f(v) for v in values], rel=1e-15)
        assert (batch.stats["paths"], batch.stats["eager"]) == (2, 0)


def test_numbers_that_are_not_finite_make_no_paths() -> None:
    f = mg.jit(lambda x: mg.relu(x * 1e308) + 1.0)
    assert f(1.0) == 1e308
    assert [f(1e10) for _ in range(20)] == [plain_math.inf] * 20
    assert (f.stats["paths"], f.stats["eager"]) == (1, 20)


def test_results_and_arguments_of_classes_of_ones_own() -> None:
    class Pair(tuple[Any, ...]):
        def __new__(cls, x: Any, y: Any) -> Any:
            return tuple.__new__(cls, (x, y))

    class Name(str):
        pass

    def named(x: Any) -> Any:
        name: Any = Name("n")
        name.x = x
        return name

    assert mg.jit(lambda p: p[0] * p[1])(Pair(2.0, 3.0)) == 6.0
    for make, read in (
        (named, lambda r: r.x),
        (lambda x: Pair(x, 2 * x), lambda r: r[1]),
        (lambda x: type("K", (), {"v": x}), lambda r: r.v),
        (lambda x: collections.defaultdict(lambda: x, {"a": x}), lambda r: r["zz"]),
    ):
        f = mg.jit(make)
        with pytest.warns(RuntimeWarning, match="it returns .* objects"):
            got = [read(f(x)) for x in (2.0, 3.0)]
        assert got == [read(make(x)) for x in (2.0, 3.0)]
    calls: list[int] = []

    def counted(x: Any) -> Any:
        calls.append(1)
        return Point(x * 2.0)

    point = mg.jit(counted)
    with pytest.warns(RuntimeWarning):
        assert [point(2.0), point(3.0)] == [Point(4.0), Point(6.0)]
    assert len(calls) == 2


def test_small_things_of_arguments() -> None:
    kind = mg.jit(lambda d: type(next(iter(d))).__name__)
    assert (kind({1: 1.0}), kind({True: 1.0}), kind({1.0: 1.0})) == ("int", "bool", "float")
    assert repr(mg.jit(lambda a: a.sum())(np.array([]))) in ("np.float64(0.0)", "0.0")
    assert mg.jit(lambda self, x: self * x)(self=2.0, x=3.0) == 6.0
    with pytest.raises(TypeError, match="masked"):
        mg.jit(lambda a: a.sum())(np.ma.array([1.0, 2.0], mask=[False, True]))
    nested: tuple[Any, ...] = ()
    for _ in range(3000):
        nested = (1.0, nested)

    def total(node: tuple[Any, ...]) -> Any:
        found = 0.0
        while node:
            found, node = found + node[0], node[1]
        return found

    assert mg.jit(total)(nested) == 3000.0


@pytest.mark.parametrize("transform", [lambda f: f, mg.grad], ids=["value", "gradient"])
def test_a_result_with_many_operands_is_not_compiled(transform: Callable[..., Any]) -> None:
    model = mg.nn.MLP(48, [48, 1], activation="tanh", rng=random.Random(0))
    x = [0.01 * k for k in range(48)]
    f = transform(lambda x: model(x).tanh())
    compiled = mg.jit(f)
    found = [compiled(x) for _ in range(60)]
    assert compiled.stats["paths"] == 0
    results, (expected,) = ([y if isinstance(y, list) else [y] for y in ys] for ys in (found, [f(x)]))
    assert all(isinstance(y, Value) for ys in results for y in ys)
    assert all([y.data for y in ys] == [getattr(y, "data", y) for y in expected] for ys in results)
    grads = []
    for y in (results[0][0], results[-1][0]):
        model.zero_grad()
        y.backward()
        grads.append([p.grad for p in model.parameters()])
    assert grads[0] == grads[1]
    assert any(grads[0])


def test_a_container_may_have_the_key_none() -> None:
    table = {None: Value(3.0)}
    f = mg.jit(lambda x: x * table[None])
    assert [f(2.0).data for _ in range(4)] == [6.0] * 4
    assert f.stats["rows"] == [4]
    table[None] = Value(5.0)
    assert f(2.0).data == 10.0

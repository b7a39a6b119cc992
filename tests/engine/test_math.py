"""`micrograd_bp.math` is `math` on plain numbers, and on Values it is `math` with derivatives."""

import copy
import itertools
import math
import pickle
import sys
import types
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp

from micrograd_bp import Value
from micrograd_bp import math as mg_math
from micrograd_bp._engine import recordings

# Signed zeros, subnormals, the largest and the smallest, and the points at which some function overflows or has a pole.
FLOATS = [0.0, 5e-324, 1e-308, 2.0**-1022, 1e-17, 0.1, 0.5, 1 - 2**-53, 1.0, 1.5, 2.0, 3.0, 7.25, 26.7, 171.7, 710.0,
          1024.0, 2.0**53 + 2.0, 1e16, 1e308, sys.float_info.max, math.inf]  # fmt: skip
FLOATS = [*FLOATS, *(-x for x in FLOATS), math.nan]
OTHERS = [0, 1, 2, 5, -3, True, 10**400, Fraction(1, 3), "1.0", None, 1j, [0.5], object()]
SEQUENCES: list[Any] = [
    [], [0.1], [0.1] * 10, [1, 2, 3], [2, 0.5], [1e308, 1e308, -1e308], [math.inf, -math.inf], [math.inf, math.nan],
    (1e16, 1.0, 1e-16), range(4), [5e-324, 5e-324], [-0.0], [10**400, 2], [Fraction(1, 3), 1], [1.0, "a"], [None], 3.0,
    {1.5: 0, 2.5: 0},
]  # fmt: skip

PUBLIC = [name for name in dir(math) if not name.startswith("_")]
FUNCTIONS = [name for name in PUBLIC if callable(getattr(math, name))]
INTEGRAL = {"comb", "factorial", "gcd", "isqrt", "lcm", "perm"}
SEQUENTIAL = {"fsum", "prod", "dist", "sumprod"} & set(PUBLIC)
FLAT = {"ceil", "floor", "trunc", "isclose", "isfinite", "isinf", "isnan", "nextafter", "ulp"}
SPLIT = {"frexp", "modf"}  # a Value, and a plain number
SMOOTH = sorted({*FUNCTIONS} - INTEGRAL - SEQUENTIAL - FLAT - SPLIT)


def arities(name: str) -> list[int]:
    """How many floats the function takes."""
    return [n for n in range(5) if not isinstance(outcome(getattr(math, name), *[1.0] * n)[1], TypeError)]


def outcome(function: Callable[..., Any], *args: Any, **options: Any) -> tuple[str, Any]:
    """What comes of a call: a result, as type and bits (repr tells all floats apart), or a type of exception."""
    try:
        result = function(*args, **options)
    except Exception as error:
        return type(error).__name__, error
    return f"{type(result).__name__} {result!r}", result


def lift(args: tuple[Any, ...], chosen: tuple[bool, ...]) -> list[Any]:
    return [Value(x) if choice and isinstance(x, (int, float)) else x for x, choice in zip(args, chosen, strict=True)]


def choices(n: int) -> list[tuple[bool, ...]]:
    """Which of n arguments are Values: all ways but none."""
    return [choice for choice in itertools.product([True, False], repeat=n) if any(choice)]


def as_plain(result: Any) -> Any:
    return tuple(map(as_plain, result)) if isinstance(result, tuple) else getattr(result, "data", result)


loose: Any = mg_math  # takes what its types refuse


# --- the drop-in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*PUBLIC, "cbrt", "exp2", "fma", "sumprod"}))
def test_the_names_are_those_of_this_python(name: str) -> None:
    assert hasattr(mg_math, name) == hasattr(math, name)
    if isinstance(getattr(math, name, None), float):
        assert repr(getattr(mg_math, name)) == repr(getattr(math, name))


def test_a_star_import_gives_the_names_of_math_and_no_others() -> None:
    names: dict[str, Any] = {}
    exec("from micrograd_bp.math import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == PUBLIC


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented_and_pickled_by_name(name: str) -> None:
    function = getattr(mg_math, name)
    assert function.__name__ == name
    assert function.__doc__
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_plain_numbers_give_what_math_gives(name: str) -> None:
    ours, theirs = getattr(mg_math, name), getattr(math, name)
    arguments = [*FLOATS, *OTHERS, *SEQUENCES]
    for args in itertools.chain([()], itertools.product(arguments), itertools.product(arguments, repeat=2)):
        assert outcome(ours, *args)[0] == outcome(theirs, *args)[0], args
    for args in [(0.1, 0.2, 0.3), (1e308, 10.0, -1e308), (3, 4, 12), (1.0, 2.0, "a"), (math.inf, 0.0, math.nan)]:
        assert outcome(ours, *args)[0] == outcome(theirs, *args)[0], args


def test_generators_and_options_give_what_math_gives() -> None:
    for name in SEQUENTIAL:
        n = 1 if name in {"fsum", "prod"} else 2
        ours = outcome(getattr(mg_math, name), *[(x / 7 for x in range(9)) for _ in range(n)])
        assert ours[0] == outcome(getattr(math, name), *[(x / 7 for x in range(9)) for _ in range(n)])[0]
    options: Any
    for options in [{"start": 2}, {"start": 0.5}, {"start": "a"}, {"begin": 1}]:
        assert outcome(mg_math.prod, [2, 3], **options)[0] == outcome(math.prod, [2, 3], **options)[0]
    for options in [{"rel_tol": 0.1}, {"abs_tol": 0.1}, {"rel_tol": -1.0}, {"tolerance": 1.0}]:
        assert outcome(mg_math.isclose, 1.0, 1.05, **options)[0] == outcome(math.isclose, 1.0, 1.05, **options)[0]
    for options in [{"steps": 3}, {"steps": -1}]:
        assert outcome(mg_math.nextafter, 1.0, 2, **options)[0] == outcome(math.nextafter, 1.0, 2, **options)[0]


# --- Values: the same value, or the same type of exception ---------------------------------------------------------


@pytest.mark.parametrize("name", [*SMOOTH, *sorted(SPLIT)])
def test_a_value_gives_what_a_float_gives(name: str) -> None:
    ours, theirs = getattr(mg_math, name), getattr(math, name)
    second = range(-1080, 1080, 135) if name == "ldexp" else FLOATS
    for n in arities(name) or [2]:
        if n > 2:
            continue
        for args in itertools.product(FLOATS, *[second] * (n - 1)):
            expected = outcome(theirs, *args)
            for choice in [(True, False)] if name == "ldexp" else choices(n):
                found, result = outcome(ours, *lift(args, choice))
                if isinstance(expected[1], Exception):
                    assert found == expected[0], (args, choice)
                else:
                    assert isinstance(result[0] if name in SPLIT else result, Value), (args, choice, result)
                    assert repr(as_plain(result)) == repr(expected[1]), (args, choice)


@pytest.mark.parametrize("name", sorted(FLAT))
def test_a_flat_function_of_a_value_is_plain(name: str) -> None:
    ours, theirs = getattr(mg_math, name), getattr(math, name)
    for n in arities(name):
        for args in itertools.product(FLOATS, repeat=n):
            expected = outcome(theirs, *args)[0]
            for choice in choices(n):
                assert outcome(ours, *lift(args, choice))[0] == expected, (args, choice)


def test_flat_functions_take_their_options_with_values() -> None:
    assert mg_math.isclose(Value(1.0), 1.05, rel_tol=0.1) is True
    assert mg_math.isclose(1.0, Value(1.05), abs_tol=1e-3) is False
    if sys.version_info >= (3, 12):
        assert mg_math.nextafter(Value(1.0), 2.0, steps=3) == math.nextafter(1.0, 2.0, steps=3)


@pytest.mark.parametrize("name", sorted(SEQUENTIAL))
def test_values_in_sequences_give_what_floats_give(name: str) -> None:
    ours, theirs = getattr(mg_math, name), getattr(math, name)
    points = [[float(x) for x in s if isinstance(x, (int, float)) and x < 10**309] for s in SEQUENCES if s != 3.0]
    for p, q in itertools.product(points, points):
        if name in {"fsum", "prod"} and p is not q:
            continue
        args = (p,) if name in {"fsum", "prod"} else (p, q)
        expected = outcome(theirs, *args)
        for every in (1, 2):  # each a Value, or each second
            lifted = [[Value(x) if i % every == 0 else x for i, x in enumerate(point)] for point in args]
            found, result = outcome(ours, *lifted)
            if isinstance(expected[1], Exception):
                assert found == expected[0], (args, every)
            elif any(lifted):
                assert isinstance(result, Value)
                assert repr(result.data) == repr(float(expected[1])), (args, every)


def test_containers_may_be_mixed_and_of_any_kind() -> None:
    x, y = Value(0.25), Value(4.0)
    terms: Any
    for terms in [
        (x, 1, 0.5, Fraction(1, 4)),
        {x: 0, 2.0: 0},
        numpy.array([x, 2, y]),
        (t for t in [x, numpy.float32(2)]),
    ]:
        assert mg_math.fsum(terms).partials[0] == 1.0
    assert mg_math.prod(numpy.array([x, y, 2.0])).data == 2.0
    assert mg_math.prod([2, numpy.float64(0.5), x], start=y).data == 1.0
    assert mg_math.dist(numpy.array([x, 0.0]), (3.25, y)).data == 5.0
    assert loose.dist([numpy.int64(3), x], iter([0, Value(4.25)])).data == 5.0
    assert loose.hypot(x, numpy.float32(0.0), 0).data == 0.25


# --- derivatives ---------------------------------------------------------------------------------------------------

# The functions of mpmath that go by another name, or by none: as mathematics has them.
MP: dict[str, Callable[..., Any]] = {
    "copysign": lambda x, y: abs(x) * mpmath.sign(y),
    "dist": lambda *args: mp.norm([x - y for x, y in zip(args[: len(args) // 2], args[len(args) // 2 :], strict=True)]),
    "exp2": lambda x: mp.mpf(2) ** x,
    "fma": lambda x, y, z: x * y + z,
    "fmod": lambda x, y: x - y * mp.floor(abs(x / y)) * mpmath.sign(x / y),
    "frexp": lambda x: x / mp.mpf(2) ** math.frexp(float(x))[1],
    "fsum": lambda *args: sum(args),
    "hypot": lambda *args: mp.norm(args),
    "ldexp": lambda x, n: x * mp.mpf(2) ** n,
    "lgamma": lambda x: mp.log(abs(mp.gamma(x))),
    "log": lambda x, base=mp.e: mp.log(x) / mp.log(base),
    "log2": lambda x: mp.log(x) / mp.log(2),
    "modf": lambda x: x - int(x),
    "pow": lambda x, y: x**y,
    "prod": lambda *args: mp.fprod(args),
    "remainder": lambda x, y: x - y * mp.nint(x / y),
    "sumprod": lambda *args: mp.fdot(args[: len(args) // 2], args[len(args) // 2 :]),
}
# Where the function has a derivative in each argument: one interval an argument, or one for all.
INTERVALS: dict[str, list[tuple[float, float]]] = {
    "atan2": [(0.01, 9.0), (-9.0, 9.0)], "acosh": [(1.01, 50.0)],
    "acos": [(-0.99, 0.99)], "asin": [(-0.99, 0.99)], "atanh": [(-0.99, 0.99)],
    "log": [(0.01, 90.0), (1.5, 20.0)], "log10": [(0.01, 90.0)], "log1p": [(-0.99, 90.0)], "log2": [(0.01, 90.0)],
    "gamma": [(0.1, 20.0)], "lgamma": [(0.1, 20.0)], "sqrt": [(0.01, 90.0)], "cbrt": [(0.01, 90.0)],
    "fabs": [(0.01, 90.0)], "pow": [(0.01, 9.0), (-9.0, 9.0)], "copysign": [(0.01, 9.0), (-9.0, -0.01)],
    "ldexp": [(-9.0, 9.0), (3, 3)], "tan": [(-1.5, 1.5)], "fmod": [(7.1, 8.9), (3.0, 3.5)],
    "remainder": [(7.1, 8.9), (3.0, 3.5)], "modf": [(-3.9, -3.1)], "frexp": [(4.1, 7.9)],
}  # fmt: skip
COUNTS = {"log": [1, 2], "hypot": [1, 2, 5], "fsum": [1, 4], "prod": [1, 4], "dist": [2, 6], "sumprod": [2, 6]}


def apply(name: str, *args: Any) -> Any:
    """The function of separate arguments: those that take points or terms are given them."""
    function = getattr(mg_math, name)
    if name in {"fsum", "prod"}:
        return function(args)
    if name in SEQUENTIAL:
        return function(args[: len(args) // 2], args[len(args) // 2 :])
    result = function(*args)
    return result[0] if name in SPLIT else result


def case(name: str) -> st.SearchStrategy[tuple[float, ...]]:
    intervals = INTERVALS.get(name, [(-9.0, 9.0)])
    count = 3 if name == "fma" else len(intervals)

    def points(n: int) -> Any:
        return st.tuples(*[
            st.just(low) if low == high else st.floats(low, high)
            for low, high in (intervals * n if len(intervals) == 1 else intervals)[:n]
        ])  # fmt: skip

    return st.sampled_from(COUNTS.get(name, [count])).flatmap(points)


DIFFERENTIABLE = sorted({*SMOOTH, *SEQUENTIAL, *SPLIT})


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_are_those_of_mathematics(name: str) -> None:
    f = MP.get(name) or getattr(mp, name)

    @settings(deadline=None, max_examples=50)
    @given(case(name))
    def check(args: tuple[float, ...]) -> None:
        values = [Value(x) if name != "ldexp" or i == 0 else int(x) for i, x in enumerate(args)]
        out = apply(name, *values)
        assume(name not in {"hypot", "dist"} or out.data > 1e-3)  # away from the kink
        assume(name != "remainder" or abs(abs(2.0 * out.data / args[1]) - 1.0) > 1e-9)  # away from the jump at a tie
        out.backward()
        with mp.workdps(50):
            exact = [mp.mpf(x) for x in args]
            for i, x in enumerate(values):
                if isinstance(x, Value):
                    slope = mp.diff(lambda t, i=i: f(*exact[:i], t, *exact[i + 1 :]), exact[i])
                    assert abs(x.grad - slope) <= 1e-14 * max(1, abs(slope)), (args, i)

    check()


def black_scholes(math: Any, spot: Any, strike: Any, rate: Any, volatility: Any, years: Any) -> Any:
    """The price of a European call, as it is written with `math`."""
    spread = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (rate + math.pow(volatility, 2) / 2) * years) / spread
    n1, n2 = (math.erfc(-d / math.sqrt(2)) / 2 for d in (d1, d1 - spread))
    return spot * n1 - strike * math.exp(-rate * years) * n2


def test_a_program_written_with_math_is_differentiable_as_it_stands() -> None:
    arguments = 100.0, 95.0, 0.03, 0.25, 0.5
    values = [Value(x) for x in arguments]
    price = black_scholes(mg_math, *values)
    price.backward()
    assert price.data == black_scholes(math, *arguments) == black_scholes(mg_math, *arguments)
    spot, strike, rate, volatility, years = arguments
    d1 = (math.log(spot / strike) + (rate + volatility**2 / 2) * years) / (volatility * math.sqrt(years))
    assert values[0].grad == pytest.approx(math.erfc(-d1 / math.sqrt(2)) / 2, rel=1e-13)  # delta
    vega = spot * math.sqrt(years) * math.exp(-(d1**2) / 2) / math.sqrt(2 * math.pi)
    assert values[3].grad == pytest.approx(vega, rel=1e-13)


# --- readings, and bad input ----------------------------------------------------------------------------------------


def test_whoever_reads_a_number_off_a_value_is_told_and_can_read_again() -> None:
    told: list[tuple[Any, ...]] = []
    ignore = lambda *args: None  # noqa: E731
    listener = types.SimpleNamespace(read=lambda *reading: told.append(reading), note=ignore, noticed=ignore)
    recordings.RECORDINGS.append(listener)
    try:
        x = Value(-6.5)
        results = [mg_math.isnan(x), mg_math.floor(x), mg_math.isclose(1.0, x, abs_tol=9.0), mg_math.ulp(x),
                   mg_math.frexp(x)[1], mg_math.modf(x)[1], mg_math.nextafter(x, 0.0)]  # fmt: skip
    finally:
        recordings.RECORDINGS.pop()
    assert [result for *_, result in told] == results
    for how, operands, result in told:
        assert any(operand is x for operand in operands)
        assert how(*[operand.data if operand is x else operand for operand in operands]) == result


X = Value(2.0, "x")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loose.sin(), r"sin\(\) missing 1 required positional argument"),
        (lambda: loose.sin(X, X), r"sin\(\) takes 1 positional argument but 2 were given"),
        (lambda: loose.sin("a"), "must be real number, not str"),
        (lambda: loose.atan2(X), r"atan2 takes 2 arguments \(y, x\), not 1"),
        (lambda: loose.atan2(X, "a"), r"atan2 cannot take 'a' \(str\); pass a real number"),
        (lambda: loose.hypot(X, None), r"hypot cannot take None \(NoneType\); pass a real number"),
        (lambda: loose.fsum([X, 1j]), r"fsum cannot take 1j \(complex\); pass a real number"),
        (lambda: loose.dist([X], ["a"]), r"dist cannot take 'a' \(str\); pass a real number"),
        (lambda: loose.prod([X, "a"]), r"mul cannot take 'a' \(str\); pass a real number"),
        (lambda: loose.log(X, "a"), "must be real number, not str"),
        (lambda: loose.fsum(X), "'Value' object is not iterable"),
        (
            lambda: loose.gcd(4, X),
            r"gcd takes integers, not Value\(data=2.0, grad=0.0, label='x'\); int\(\) reads one",
        ),
        (lambda: loose.factorial(X), r"factorial takes integers, not Value\(.*; int\(\) reads one"),
        (lambda: loose.ldexp(X, 2.0), r"ldexp takes an integer as its second argument, not 2.0; int\(\) makes one"),
        (lambda: loose.ldexp(1.0, X), r"ldexp takes an integer as its second argument, not Value\("),
    ],
)
def test_a_type_error_says_what_was_given_and_what_to_do(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (ValueError, lambda: mg_math.log(X - 2.0), r"log\(0.0\): math domain error"),
        (ValueError, lambda: mg_math.pow(X - 2.0, -1), r"pow\(0.0, -1.0\): "),
        (ValueError, lambda: mg_math.pow(-X, 0.5), r"pow\(-2.0, 0.5\): .*; take abs\(x\), or cbrt\(x\)"),
        (ValueError, lambda: mg_math.dist([X, 1.0], [X]), "both points must have the same number of dimensions"),
        (OverflowError, lambda: mg_math.exp(X * 1000), r"exp\(2000.0\): math range error"),
        (ZeroDivisionError, lambda: mg_math.log(X, 1), r"truediv\(0.69314\d+, 0.0\): "),
        (ValueError, lambda: mg_math.acosh(X / 4), r"acosh\(0.5\): math domain error"),
        (ValueError, lambda: mg_math.asin(X), r"asin\(x=2.0\): math domain error"),
    ],
)
def test_an_error_names_the_function_and_its_arguments(
    error: type[Exception], call: Callable[..., Any], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()

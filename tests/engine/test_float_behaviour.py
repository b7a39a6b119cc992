"""A Value behaves as a float: arithmetic on Values gives the floats' value to the bit, or their type of exception."""

import fractions
import functools
import math
import numbers
import operator
import statistics
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import testing
from micrograd_bp.testing import Program

# fmt: off
AWKWARD = [0.0, 5e-324, 2.2250738585072014e-308, 1e-308, 1e-16, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 7.25, 2.0**52 + 0.5,
           2.0**53, 1e16, 1e308, 1.7976931348623157e308, math.inf]
# fmt: on
floats = st.one_of(st.sampled_from([*AWKWARD, *(-x for x in AWKWARD), math.nan]), st.floats())
plain = st.one_of(
    floats,
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([2**53 + 1, 2**1023, 2**1024, -(10**400)]),
    st.fractions(),
    st.sampled_from([fractions.Fraction(10**400, 3), fractions.Fraction(1, 10**400), fractions.Fraction(1, 3)]),
)
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
UNARY = [operator.neg, operator.pos, operator.abs]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
READINGS = [bool, int, round, math.floor, math.ceil, math.trunc]


def outcome(f: Callable[..., Any], *args: Any) -> Any:
    """The bits of a float, another value with its type, or the type of exception."""
    try:
        result = f(*args)
    except Exception as error:
        return type(error)
    if isinstance(result, tuple):
        return tuple(outcome(lambda x=x: x) for x in result)
    if isinstance(result, mg.Value):
        result = result.data
    if isinstance(result, float):
        return "nan" if math.isnan(result) else struct.pack("<d", result)
    return type(result), result


def real(function: Callable[..., Any], *args: Any) -> Any:
    """What floats do, with ValueError where a power turns complex (or overflows on its way there)."""
    if function is operator.pow and -math.inf < float(args[0]) < 0.0 < float(args[1]) % 1.0:
        raise ValueError("a negative base with a fractional exponent")
    return function(*args)


@st.composite
def float_programs(draw: Callable[..., Any]) -> Program:
    """Straight-line arithmetic on awkward floats: a program that runs on floats as on Values."""
    point = draw(st.lists(floats, min_size=1, max_size=4))
    steps: list[Any] = []
    for _ in range(draw(st.integers(1, 8))):
        operand = st.integers(0, len(point) + len(steps) - 1)
        function = draw(st.sampled_from([*BINARY, *BINARY, *UNARY]))
        operands = (draw(operand), draw(st.one_of(operand, floats)))
        steps.append((function, operands if function in BINARY else operands[:1]))
    return Program(tuple(steps), tuple(point))


@given(float_programs())
@settings(max_examples=600)
def test_a_program_on_values_does_what_it_does_on_floats(program: Program) -> None:
    steps = tuple((lambda *args, f=function: real(f, *args), operands) for function, operands in program.steps)
    on_floats = outcome(Program(steps, program.point), *program.point)
    assert outcome(program, *map(mg.Value, program.point)) == on_floats


@pytest.mark.parametrize("operate", [*BINARY, divmod, *COMPARISONS], ids=lambda f: f.__name__)
@given(x=floats, y=plain)
@settings(max_examples=100)
def test_any_real_number_beside_a_value(operate: Callable[..., Any], x: float, y: Any) -> None:
    """Ints (too large for a float, as well), bools and fractions, on either side."""
    assert outcome(operate, mg.Value(x), y) == outcome(real, operate, x, y)
    assert outcome(operate, y, mg.Value(x)) == outcome(real, operate, y, x)
    if isinstance(y, float):
        assert outcome(operate, mg.Value(x), mg.Value(y)) == outcome(real, operate, x, y)


@pytest.mark.parametrize("read", [*UNARY, *READINGS], ids=lambda f: f.__name__)
@given(x=floats)
@settings(max_examples=60)
def test_signs_and_readings(read: Any, x: float) -> None:
    assert outcome(read, mg.Value(x)) == outcome(read, x)


@given(x=floats, digits=st.one_of(st.none(), st.integers(-400, 400)))
@settings(max_examples=100)
def test_rounding_to_digits(x: float, digits: int | None) -> None:
    assert outcome(round, mg.Value(x), digits) == outcome(round, x, digits)


@given(x=floats, spec=st.sampled_from([".3f", "+.2e", "10.4g", "%", "08.2f", "n", ",.1f", "d", "zz"]))
@settings(max_examples=60)
def test_formatting(x: float, spec: str) -> None:
    assert outcome(format, mg.Value(x), spec) == outcome(format, x, spec)


@given(x=plain)
def test_a_value_of_any_real_number_is_its_float(x: Any) -> None:
    assert outcome(mg.Value, x) == outcome(float, x)


@pytest.mark.parametrize("function", [min, max, lambda xs: sorted(xs)[0]], ids=["min", "max", "sorted"])
@given(xs=st.lists(floats, min_size=1, max_size=5))
@settings(max_examples=40)
def test_what_only_compares(function: Callable[..., Any], xs: list[float]) -> None:
    assert outcome(function, [mg.Value(x) for x in xs]) == outcome(function, xs)


@given(xs=st.lists(floats, min_size=1, max_size=5), plain=st.integers(0, 4))
@settings(max_examples=100)
def test_a_sum_of_values_adds_from_left_to_right(xs: list[float], plain: int) -> None:
    """On every version; so does that of floats before 3.12, plain numbers among the terms or not."""
    added = outcome(functools.reduce, operator.add, xs, 0)
    assert outcome(sum, [mg.Value(x) for x in xs]) == added
    if sys.version_info < (3, 12):
        assert outcome(sum, [x if i == plain else mg.Value(x) for i, x in enumerate(xs)]) == outcome(sum, xs) == added


def test_a_sum_of_floats_is_compensated_from_3_12_on() -> None:
    """There fsum is what gives both the same bits."""
    terms = [0.1] * 10
    total: Any = sum(map(mg.Value, terms))
    assert total.data == 0.9999999999999999
    assert sum(terms) == (1.0 if sys.version_info >= (3, 12) else 0.9999999999999999)
    assert mg.math.fsum(map(mg.Value, terms)).data == mg.math.fsum(terms) == 1.0


@given(x=st.floats(max_value=-1e-300, allow_infinity=False), y=st.floats(0.01, 0.99))
def test_the_one_exception(x: float, y: float) -> None:
    """A negative base with a fractional exponent: complex for floats, ValueError here."""
    assert isinstance(x**y, complex)
    with pytest.raises(ValueError, match="pow"):
        mg.Value(x) ** y
    with pytest.raises(ValueError, match="pow"):
        x ** mg.Value(y)


@given(program=testing.programs(kinks=True, max_steps=4), wild=st.lists(floats, min_size=3, max_size=3))
@settings(max_examples=100)
def test_rows_do_on_values_what_they_do_on_floats(program: Program, wild: list[float]) -> None:
    point = wild[: len(program.point)]
    steps = tuple((lambda *args, f=function: f(*args), operands) for function, operands in program.steps)
    assert outcome(program, *map(mg.Value, point)) == outcome(Program(steps, program.point), *point)


@pytest.mark.parametrize("compare", COMPARISONS, ids=lambda f: f.__name__)
@given(x=floats, y=st.one_of(st.decimals(), st.complex_numbers(), st.text(max_size=1), st.none()))
@settings(max_examples=100)
def test_comparisons_with_what_is_no_real_number(compare: Callable[..., Any], x: float, y: Any) -> None:
    assert outcome(compare, mg.Value(x), y) == outcome(compare, x, y)
    assert outcome(compare, y, mg.Value(x)) == outcome(compare, y, x)


METHODS = ["is_integer", "hex", "conjugate", "real", "imag", "__trunc__", "__floor__", "__ceil__"]


@pytest.mark.parametrize("name", METHODS)
@given(x=floats)
@settings(max_examples=60)
def test_methods_of_floats(name: str, x: float) -> None:
    def ask(x: Any) -> bool:
        found = getattr(x, name)
        return found() if callable(found) else found

    assert outcome(ask, mg.Value(x)) == outcome(ask, x)


@given(x=floats)
@settings(max_examples=60)
def test_a_ratio_of_integers_is_that_of_the_float_and_says_that_it_has_no_derivative(x: float) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert outcome(lambda y: y.as_integer_ratio(), mg.Value(x)) == outcome(float.as_integer_ratio, x)
    assert [str(warning.message).split("(")[0] for warning in caught] == ["as_integer_ratio"]


def test_a_mean_that_would_lose_its_derivative_says_so() -> None:
    with pytest.warns(UserWarning, match=r"math\.fsum\(xs\) / len\(xs\) keeps it"):
        assert mg.grad(lambda xs: statistics.mean(xs) * xs[0])([1.0, 2.0]) == [1.5, 0.0]
    assert mg.grad(lambda xs: mg.math.fsum(xs) / len(xs) * xs[0])([1.0, 2.0]) == [2.0, 0.5]


def test_the_real_part_and_the_conjugate_keep_the_derivative() -> None:
    assert mg.grad(lambda x: x.real**2 + x.conjugate() + x.imag)(3.0) == 7.0


def test_a_value_is_registered_as_a_real_number() -> None:
    assert isinstance(mg.Value(1.0), numbers.Real)
    assert issubclass(mg.Value, numbers.Number)


def branchy(x: Any, y: Any) -> tuple[Any, ...]:
    """Branches by equality, in all the ways that Python asks for it."""
    found: list[Any] = []
    match x:
        case 0:
            found.append("zero")
        case 1.0 | 2.0:
            found.append("small")
        case _:
            found.append("other")
    while y != 0 and y == y and len(found) < 3:
        x, y = y, x % y
        found.append("step")
    found += [x in (0.0, 1, 2.5), [x, y, x].count(x), (x, y) == (y, x), (x, 1) < (y, 0), [x, y].index(y)]
    found += [x is x, sorted([(x, 1), (y, 0), (x, 0)])[0][1], max((y, 2), (x, 3))[1], {True: 1}.get(x == y, 0)]
    return (x, y, *found)


@given(x=floats, y=floats)
@settings(max_examples=300)
def test_equality_takes_the_branch_that_floats_take(x: float, y: float) -> None:
    def run(x: Any, y: Any) -> tuple[Any, ...]:
        result = branchy(x, y)
        return (*map(plain_bits, result[:2]), *result[2:])

    def plain_bits(x: Any) -> bytes | str:
        return outcome(lambda: x)

    assert outcome(lambda: run(mg.Value(x), mg.Value(y))) == outcome(lambda: run(x * 1.0, y * 1.0))

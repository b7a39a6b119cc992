"""Dataclasses, named tuples and registered classes are taken apart by transforms, `jit`, `vmap` and in parallel."""

import collections
import dataclasses
import math
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Value

Pair = collections.namedtuple("Pair", "slope offset")


@dataclasses.dataclass
class Line:
    """A line, whose name belongs to no derivative."""

    slope: Any
    offset: Any
    name: str = dataclasses.field(default="line", metadata={"static": True})


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """The same, of numbers that do not change."""

    slope: Any
    offset: Any


@dataclasses.dataclass
class Derived:
    """One field is made of the others; the constructor refuses numbers, as people's constructors do."""

    slope: float
    offset: float
    both: float = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if self.slope < 0.0:
            raise ValueError("down")
        self.both = self.slope + self.offset


class Registered:
    """A class without equality, known by two functions."""

    def __init__(self, slope: Any, offset: Any, kind: str = "kind") -> None:
        self.slope, self.offset, self.kind = slope, offset, kind


class Child(Registered):
    """A class whose base is registered."""


mg.register_pytree_node(
    Registered,
    lambda x: ((x.slope, x.offset), x.kind),
    lambda kind, x: Registered(x[0], x[1], kind),
)

KINDS = [Pair, Line, Frozen, Derived, Registered]


def f(line: Any, x: Any) -> Any:
    return line.slope * x**2 + line.offset * mg.math.sin(line.slope)


def numbers(line: Any) -> tuple[Any, ...]:
    return line.slope, line.offset


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_come_in_the_same_class(kind: type[Any]) -> None:
    line, x = kind(2.0, 3.0), 1.5
    expected = mg.grad(lambda p: f(Pair(*p), x))([2.0, 3.0])
    slopes = mg.grad(f)(line, x)
    assert type(slopes) is kind
    assert list(numbers(slopes)) == expected
    value, slopes = mg.value_and_grad(f, argnums=(0, 1))(line, x)
    assert value == f(line, x)
    assert (list(numbers(slopes[0])), slopes[1]) == (expected, 2 * 2.0 * x)
    hessian = mg.hessian(f)(line, x)
    rows = [numbers(row) for row in numbers(hessian)]
    assert rows == [tuple(row) for row in mg.hessian(lambda p: f(Pair(*p), x))([2.0, 3.0])]
    value, tangent = mg.jvp(lambda p: f(p, x), (line,), (kind(1.0, 10.0),))
    assert tangent == pytest.approx(expected[0] + 10 * expected[1])
    _, pull = mg.vjp(f, line, x)
    assert list(numbers(pull(1.0)[0])) == expected
    mg.gradcheck(f, line, x, order=2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_returned_from_functions_too(kind: type[Any]) -> None:
    def g(x: Any) -> Any:
        return kind(x * x, mg.math.exp(x))

    jacobian = mg.jacobian(g)(0.5)
    assert type(jacobian) is kind
    assert numbers(jacobian) == (1.0, math.exp(0.5))
    compiled = mg.jit(g)
    for x in (0.5, 0.75):
        found = compiled(x)
        assert type(found) is kind
        assert numbers(found) == pytest.approx((x * x, math.exp(x)), rel=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_function_takes_it_as_it_takes_a_list(kind: type[Any]) -> None:
    compiled: Any = mg.jit(f)
    slopes: Any = mg.jit(mg.grad(f))
    for a in (2.0, 2.5, 3.0):
        assert compiled(kind(a, 3.0), 1.5) == pytest.approx(f(kind(a, 3.0), 1.5), rel=1e-15)
        assert numbers(slopes(kind(a, 3.0), 1.5)) == pytest.approx(numbers(mg.grad(f)(kind(a, 3.0), 1.5)), rel=1e-14)
    assert len(compiled._paths) == len(slopes._paths) == 1  # recorded once, for all numbers


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Derived])  # whose constructor compares
def test_rows_of_it_are_mapped_over(kind: type[Any]) -> None:
    xs = np.array([1.0, 2.0, 3.0])
    lines, rows = kind(xs, xs + 1), [kind(x, x + 1) for x in xs.tolist()]
    expected = np.array([f(row, row.slope) for row in rows])
    assert mg.vmap(f)(lines, xs) == pytest.approx(expected)
    assert mg.jit(mg.vmap(f))(lines, xs) == pytest.approx(expected, rel=1e-14)
    stacked = mg.vmap(mg.grad(f))(lines, xs)
    assert type(stacked) is kind
    assert stacked.slope == pytest.approx(np.array([mg.grad(f)(row, row.slope).slope for row in rows]))
    squares = mg.vmap(lambda x: kind(x, x * x))(xs)
    assert type(squares) is kind
    assert squares.offset.tolist() == [1.0, 4.0, 9.0]


def error(line: Any, row: Any) -> Any:
    return (line.slope * row[0] + line.offset - row[1]) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_to_workers(kind: type[Any]) -> None:
    with ProcessPoolExecutor(1) as pool:
        value, slopes = mg.parallel_value_and_grad(error, kind(2.0, 0.0), [(1.0, 3.0), (2.0, 5.0)], executor=pool)
    assert type(slopes) is kind
    assert (value, *numbers(slopes)) == (1.0, -3.0, -2.0)


def test_what_is_static_belongs_to_the_path() -> None:
    def g(line: Any) -> Any:
        return line.slope * (2.0 if line.name == "double" else 1.0)

    compiled = mg.jit(g)
    assert [compiled(Line(3.0, 0.0, name)) for name in ("line", "double", "line")] == [3.0, 6.0, 3.0]
    slopes = mg.grad(g)(Line(3.0, 0.0, "double"))
    assert (slopes.slope, slopes.name) == (2.0, "double")
    other = mg.jit(lambda x: x.slope if x.kind == "a" else x.offset)
    assert [other(Registered(1.0, 2.0, kind)) for kind in "aba"] == [1.0, 2.0, 1.0]


def test_they_nest_in_lists_and_in_each_other() -> None:
    tree = {"a": [Line(1.0, 2.0)], "b": Frozen(Line(3.0, 4.0), 5.0)}

    def g(p: dict[str, Any]) -> Any:
        return p["a"][0].slope * p["b"].slope.offset + p["b"].offset * p["a"][0].offset

    for gradient in (mg.grad(g), mg.jit(mg.grad(g))):
        slopes = gradient(tree)
        assert slopes == {"a": [Line(4.0, 5.0)], "b": Frozen(Line(0.0, 1.0), 2.0)}


def test_a_class_takes_after_its_base() -> None:
    slopes = mg.grad(f)(Child(2.0, 3.0), 1.5)
    assert numbers(slopes) == numbers(mg.grad(f)(Registered(2.0, 3.0), 1.5))


def test_what_a_compiled_function_does_to_an_argument_is_done() -> None:
    def g(line: Any) -> Any:
        line.offset = line.slope * 2.0
        return line.offset

    line = Line(3.0, 0.0)
    compiled = mg.jit(g)
    with pytest.warns(RuntimeWarning, match="it changes offset while it runs"):
        assert compiled(line) == 6.0
    assert (line.offset, type(line.offset)) == (6.0, float)
    line.slope = 4.0
    assert compiled(line) == 8.0
    assert (line.offset, type(line.offset)) == (8.0, float)


def test_values_in_a_dataclass_are_read_at_each_call() -> None:
    line = Line(Value(2.0), Value(3.0))
    compiled = mg.jit(f)
    for a in (2.0, 2.5):
        line.slope.data = a
        out = compiled(line, 1.5)
        assert out.data == pytest.approx(f(Line(a, 3.0), 1.5))
        line.slope.grad = 0.0
        out.backward()
        assert line.slope.grad == pytest.approx(mg.grad(f)(Line(a, 3.0), 1.5).slope)


def test_what_is_no_number_is_named_by_its_field() -> None:
    with pytest.raises(TypeError, match=r"args\[0\]\.offset: .*'no'"):
        mg.grad(f)(Line(1.0, "no"), 1.0)
    with pytest.raises(TypeError, match=r"args\[0\]\['a'\]\[0\]\.slope"):
        mg.grad(lambda p: p["a"][0].offset)({"a": [Line(None, 1.0)]})


def test_a_dataclass_with_more_than_its_fields_is_an_object_to_a_compiled_function() -> None:
    @dataclasses.dataclass
    class Cached:
        a: float

        def __post_init__(self) -> None:
            self.double = 2.0 * self.a

    compiled = mg.jit(lambda p, x: p.double * x)
    assert [compiled(Cached(a), 3.0) for a in (1.0, 2.0, 1.0)] == [6.0, 12.0, 6.0]
    with pytest.raises(AttributeError, match="double"):  # it would be a number that no derivative knows of
        mg.grad(lambda p: p.double)(Cached(1.0))


def test_registration_takes_a_class_once() -> None:
    register: Any = mg.register_pytree_node
    with pytest.raises(TypeError, match="a class of your own, not 3"):
        register(3, list, list)
    with pytest.raises(TypeError, match="Registered is registered already"):
        register(Registered, list, list)

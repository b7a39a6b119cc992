"""Transforms of functions: what they compute, in what shape, and that nesting never confuses them."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import os
import random
import threading
import warnings
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops, transforms
from micrograd_bp._engine import recordings
from micrograd_bp.compiler.recording import Recording
from micrograd_bp.compiler.tracing import watched

SMOOTH = [op for op in ops.TABLE.values() if op.smooth]
small = st.integers(-9, 9).map(float)  # products and sums of these are exact
reals = st.floats(-2.0, 2.0)
Pair = namedtuple("Pair", "left right")


def close(a: Any, b: Any, digits: float = 1e-11) -> bool:
    """Trees of numbers that agree to rounding."""
    flat_a, flat_b = np.ravel(np.array(flatten(a))), np.ravel(np.array(flatten(b)))
    return flat_a.shape == flat_b.shape and np.allclose(flat_a, flat_b, rtol=digits, atol=digits)


def flatten(tree: Any) -> list[float]:
    """The numbers in a tree, in order, whatever holds them."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, np.ndarray):
        tree = tree.ravel().tolist()
    if isinstance(tree, (list, tuple)):
        return [x for child in tree for x in flatten(child)]
    return [tree.data if isinstance(tree, Value) else tree]


def wave(x: Any) -> Any:
    """A scalar function of three numbers without symmetry."""
    return ops.sin(x[0] * x[1]) + x[1] ** 3 * ops.exp(x[2]) + x[0] * x[2] ** 2


def waves(x: Any) -> list[Any]:
    """Two numbers out of three."""
    return [wave(x), x[0] * ops.tanh(x[2] - x[1])]


def sample(op: Op, rng: random.Random) -> list[float]:
    """Arguments of moderate size from the row's domain."""
    domains = [op.domain[min(i, len(op.domain) - 1)] for i in range(op.arity or 4)]
    return [rng.uniform(max(low, -3.0), min(high, 3.0)) for low, high in domains]


def forward(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: mg.jvp(f, (x,), (1.0,))[1]


def reverse(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: mg.vjp(f, x)[1]()[0]


# --- what they compute ---


@given(st.lists(small, min_size=6, max_size=6), small)
def test_a_polynomial_is_differentiated_to_the_fifth_order_exactly(coefficients: list[float], x: float) -> None:
    def f(t: Any) -> Any:
        return sum(c * t**k for k, c in enumerate(coefficients))

    for order in range(1, 6):
        f = mg.grad(f)
        expected = sum(math.perm(k, order) * c * x ** (k - order) for k, c in enumerate(coefficients) if k >= order)
        assert f(x) == expected


@given(
    st.lists(st.lists(small, min_size=3, max_size=3), min_size=1, max_size=5), st.lists(small, min_size=3, max_size=3)
)
def test_the_jacobian_of_a_linear_map_is_its_matrix(matrix: list[list[float]], x: list[float]) -> None:
    def f(x: Any) -> list[Any]:
        return [sum(map(operator.mul, row, x)) for row in matrix]

    assert mg.jacobian(f)(x) == matrix  # by columns where there are more rows than columns, by rows otherwise
    value, products = mg.jvp(f, (x,), (x,))
    assert value == products == f(x)
    assert mg.hessian(lambda x: sum(map(operator.mul, f(x), f(x))))(x) == (2 * np.transpose(matrix) @ matrix).tolist()


@given(st.tuples(reals, reals, reals))
def test_the_hessian_is_the_known_one_and_symmetric(x: tuple[float, float, float]) -> None:
    a, b, c = x
    s, co, e = math.sin(a * b), math.cos(a * b), math.exp(c)
    expected = [
        [-b * b * s, co - a * b * s, 2 * c],
        [co - a * b * s, -a * a * s + 6 * b * e, 3 * b * b * e],
        [2 * c, 3 * b * b * e, b**3 * e + 2 * a],
    ]
    hessian = mg.hessian(wave)(list(x))
    assert close(hessian, expected)
    assert close(hessian, np.transpose(hessian))


@given(st.lists(reals, min_size=3, max_size=3), st.lists(reals, min_size=3, max_size=3))
def test_the_hessian_vector_product_is_the_hessian_times_the_vector(x: list[float], v: list[float]) -> None:
    assert close(mg.hvp(wave, (x,), (v,)), np.array(mg.hessian(wave)(x)) @ v)
    assert close(mg.hvp(wave, (np.array(x),), (np.array(v),)), mg.hessian(wave)(np.array(x)) @ v)
    apart = mg.hvp(lambda *x: wave(x), x, v)
    assert isinstance(apart, tuple)
    assert close(apart, mg.hvp(wave, (x,), (v,)))


@given(*[st.lists(reals, min_size=n, max_size=n) for n in (3, 3, 2)])
def test_forward_and_reverse_accumulation_are_adjoint(x: list[float], t: list[float], u: list[float]) -> None:
    value, forward = mg.jvp(waves, (x,), (t,))
    again, pull = mg.vjp(waves, x)
    (reverse,) = pull(u)
    assert value == again == flatten(waves([Value(a) for a in x]))
    assert close(np.dot(u, forward), np.dot(reverse, t))
    jacobian = np.array(mg.jacobian(waves)(x))
    assert close(forward, jacobian @ t)
    assert close(reverse, u @ jacobian)


@given(st.lists(reals, min_size=3, max_size=3))
def test_the_gradient_is_to_the_bit_what_backward_leaves(x: list[float]) -> None:
    leaves = [Value(a) for a in x]
    wave(leaves).backward()
    value, slopes = mg.value_and_grad(wave)(x)
    assert slopes == mg.grad(wave)(x) == [leaf.grad for leaf in leaves]
    assert value == wave(leaves).data
    fresh = [Value(a) for a in x]
    assert slopes == mg._engine.engine.slopes(wave(fresh), fresh)
    assert not any(leaf.grad for leaf in fresh)


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_all_ways_to_the_first_and_second_derivatives_of_a_row_agree(op: Op) -> None:
    args, which = sample(op, random.Random(op.name)), (op.arity or 4) - 1

    def f(x: Any) -> Any:
        return op(*args[:which], x)

    x, slope, along, pulled = args[which], mg.grad(f), forward(f), reverse(f)
    assert close([along(x), pulled(x), mg.jacobian(f)(x), mg.grad(op, which)(*args)], [slope(x)] * 4)
    ways = [outer(inner) for outer in (mg.grad, mg.jacobian, forward, reverse) for inner in (slope, along, pulled)]
    found = [way(x) for way in ways] + [mg.hvp(f, (x,), (1.0,)), mg.hessian(op, which)(*args)]
    assert close(found, [mg.hessian(f)(x)] * len(found))


def test_at_a_branch_not_taken_an_infinite_slope_counts_for_nothing() -> None:
    def f(x: Any) -> Any:
        return ops.where(x, ops.sqrt(x), 0.0)

    assert mg.grad(f)(0.0) == mg.jvp(f, (0.0,), (1.0,))[1] == 0.0
    assert mg.grad(f)(Value(0.0)).data == mg.jvp(f, (Value(0.0),), (1.0,))[1].data == 0.0
    assert mg.jvp(ops.sqrt, (0.0,), (0.0,)) == (0.0, 0.0)  # neither does a direction that does not move
    assert mg.vjp(ops.sqrt, 0.0)[1](0.0) == (0.0,)


# --- shapes ---


def test_derivatives_come_back_in_the_shape_of_the_argument() -> None:
    tree = {"w": [1.0, (2, Value(3.0))], "b": Pair(4.0, np.float64(5.0)), "a": np.array([[6.0, 7.0]])}

    def f(p: Any) -> Any:
        assert isinstance(p["b"], Pair)
        w, (v, u) = p["w"]
        return w * v * u + p["b"].left * p["b"].right + (p["a"] ** 2).sum()

    slopes = mg.grad(f)(tree)
    assert list(slopes) == ["w", "b", "a"]
    assert type(slopes["w"]) is list
    assert type(slopes["w"][1]) is tuple
    assert type(slopes["b"]) is Pair
    assert slopes["a"].shape == (1, 2)
    assert flatten(slopes) == [6.0, 3.0, 2.0, 5.0, 4.0, 12.0, 14.0]
    assert all(isinstance(x, Value) for x in [slopes["w"][0], slopes["b"].right, *slopes["a"].flat])


def test_dictionaries_keep_their_class() -> None:
    def f(p: Any) -> Any:
        return p["x"] * p["y"]

    counts = defaultdict(float, x=2.0, y=3.0)
    slopes = mg.grad(f)(counts)
    assert type(slopes) is defaultdict
    assert slopes == {"x": 3.0, "y": 2.0}
    assert slopes["z"] == 0.0
    assert mg.grad(f)(OrderedDict(y=3.0, x=2.0)) == OrderedDict(y=2.0, x=3.0)
    assert mg.hessian(f)({"x": 2.0, "y": 3.0}) == {"x": {"x": 0.0, "y": 1.0}, "y": {"x": 1.0, "y": 0.0}}
    tangents = {"y": 1.0, "x": 10.0}  # matched by key, not by order
    assert mg.jvp(f, ({"x": 2.0, "y": 3.0},), (tangents,)) == (6.0, 32.0)


def test_arrays_in_and_out() -> None:
    w, x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([7.0, 8.0, 9.0])

    def f(w: Any, x: Any) -> Any:
        return w @ x

    by_w, by_x = mg.jacobian(f, argnums=(0, 1))(w, x)
    assert by_x.dtype == by_w.dtype == float
    assert np.array_equal(by_x, w)
    assert np.array_equal(by_w, np.einsum("ij,k->ijk", np.eye(2), x))
    value, pull = mg.vjp(f, w, x)
    assert np.array_equal(value, w @ x)
    u = np.array([1.0, -1.0])
    assert np.array_equal(pull(u)[0], np.outer(u, x))
    assert np.array_equal(pull(u)[1], u @ w)
    assert np.array_equal(mg.jvp(f, (w, x), (w, x))[1], 2 * w @ x)

    def energy(w: Any) -> Any:
        return (w @ w.T).sum()

    hessian = mg.hessian(energy)(w)
    assert hessian.shape == (2, 3, 2, 3)
    assert np.array_equal(hessian, 2 * np.einsum("ac,bd->abcd", np.ones((2, 2)), np.eye(3)))
    assert np.array_equal(mg.hvp(energy, (w,), (w,)), np.einsum("abcd,cd->ab", hessian, w))


def test_arrays_beside_numbers() -> None:
    x = np.array([2.0, 3.0])

    def f(p: Any) -> Any:
        return {"sum": p["x"].sum() * p["k"], "x": p["x"] * p["k"], "one": p["x"][0]}

    rows = mg.jacobian(f)({"x": x, "k": 5.0})
    assert np.array_equal(rows["sum"]["x"], [5.0, 5.0])
    assert rows["sum"]["k"] == 5.0
    assert np.array_equal(rows["x"]["x"], 5 * np.eye(2))
    assert np.array_equal(rows["x"]["k"], x)
    assert np.array_equal(rows["one"]["x"], [1.0, 0.0])
    assert type(rows["one"]["k"]) is float


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, object])
def test_arrays_of_any_real_type(dtype: Any) -> None:
    slopes = mg.grad(lambda x: np.tanh(x).sum())(np.array([0, 1], dtype=dtype))
    assert slopes.dtype == float
    assert close(slopes, [1.0, 1.0 - math.tanh(1.0) ** 2])


def test_arrays_without_dimensions_or_entries() -> None:
    assert mg.grad(lambda x: x[()] * x[()])(np.array(3.0)).shape == ()
    assert mg.grad(lambda x: np.array(x * x, dtype=object))(3.0) == 6.0
    assert mg.grad(lambda x: sum(x, 0.0))(np.array([])).shape == (0,)
    assert mg.jacobian(lambda x: [])(1.0) == []
    assert mg.jacobian(lambda x: [1.0, 2.0])([]) == [[], []]


def test_argnums_and_keywords() -> None:
    def f(x: Any, y: Any, *, power: int = 1) -> Any:
        return (x * y * y) ** power

    assert mg.grad(f)(2.0, 3.0) == mg.grad(f, -2)(2.0, 3.0) == 9.0
    assert mg.grad(f, 1)(2.0, 3.0) == mg.grad(f, argnums=-1)(2.0, 3.0) == 12.0
    assert mg.grad(f, (1, 0))(2.0, 3.0) == (12.0, 9.0)
    assert mg.grad(f, [0])(2.0, 3.0) == (9.0,)
    assert mg.grad(f)(2.0, 3.0, power=2) == 2 * 18.0 * 9.0
    assert mg.hessian(f, (0, 1))(2.0, 3.0) == ((0.0, 6.0), (6.0, 4.0))
    assert mg.jvp(f, (2.0, 3.0), (1.0, 0.0), power=2) == (324.0, 324.0)
    assert mg.vjp(f, 2.0, 3.0, power=2)[1]() == (324.0, 432.0)
    assert mg.hvp(f, (2.0, 3.0), (1.0, 0.0), power=1) == (0.0, 6.0)


def test_what_does_not_depend_on_the_argument_has_derivative_0() -> None:
    assert mg.grad(lambda x: 3)(2.0) == 0.0
    assert mg.value_and_grad(lambda x: np.float64(3.0))(2.0) == (3.0, 0.0)
    assert mg.hessian(lambda x: x)(2.0) == 0.0
    assert mg.jacobian(lambda x: [x, 1, Value(2.0)])(2.0) == [1.0, 0.0, 0.0]
    assert mg.jvp(lambda x, y: [5.0, x], (2.0, 3.0), (1.0, 1.0)) == ([5.0, 2.0], [0.0, 1.0])
    assert isinstance(mg.grad(lambda x: 3)(Value(2.0)), Value)


def test_outputs_may_be_the_input_itself_or_each_other() -> None:
    def f(x: Any) -> list[Any]:
        y = x * x
        return [x, y, y, y * x]

    assert mg.jacobian(f)(3.0) == [1.0, 6.0, 6.0, 27.0]
    assert mg.vjp(f, 3.0)[1]([1.0, 10.0, 100.0, 1000.0]) == (1.0 + 660.0 + 27000.0,)
    assert mg.jvp(f, (3.0,), (2.0,))[1] == [2.0, 12.0, 12.0, 54.0]
    assert mg.jacobian(lambda x: [[x[0], x[0] * x[1]]])([2.0, 3.0]) == [[[1.0, 0.0], [3.0, 2.0]]]


# --- floats or Values ---


def test_values_come_back_where_a_value_went_in() -> None:
    x = Value(2.0)
    slope = mg.grad(lambda x: x**3)(x)
    assert isinstance(slope, Value)
    assert slope.data == 12.0
    slope.backward()
    assert x.grad == 12.0  # the second derivative
    y = Value(5.0)  # also where it is not the one differentiated by
    for derivative in (
        mg.grad(lambda x, y: x * x * y)(2.0, y),
        mg.grad(lambda x, y: x * x * y["k"][0])(2.0, {"k": [y]}),
        mg.grad(lambda x, y=None: x * x * y)(2.0, y=y),
        mg.grad(lambda x, y: x * x * y[0])(2.0, np.array([y])),
        mg.jvp(lambda x: x * x, (10.0,), (y * 0.2,))[1],
        mg.vjp(lambda x: x * x, 10.0)[1](y * 0.2)[0],
        mg.jacobian(lambda x: [x * x])(y * 2)[0],
    ):
        assert isinstance(derivative, Value)
        assert derivative.data == 20.0
        assert mg.gradients(derivative, [y])[0].data in (4.0, 40.0 / 10.0)


def test_floats_come_back_where_numbers_went_in_though_values_be_enclosed() -> None:
    w = Value(3.0)

    def f(x: Any) -> Any:
        return w * x * x

    assert mg.grad(f)(2) == 12.0
    assert type(mg.grad(f)(2)) is float
    assert type(mg.value_and_grad(f)(2.0)[0]) is float
    assert mg.jvp(f, (2.0,), (1.0,)) == (12.0, 12.0)
    assert mg.jacobian(lambda x: [w * x, x])(1.0) == [3.0, 1.0]
    assert mg.vjp(f, 2.0)[1]() == (12.0,)


def test_inside_another_transform_a_closure_is_differentiated_through() -> None:
    def inner(w: Any) -> Any:
        return mg.grad(lambda x: w * x * x)(3.0)  # 6 w, and no Value among the arguments

    assert mg.grad(inner)(2.0) == 6.0
    assert mg.jvp(inner, (2.0,), (1.0,)) == (12.0, 6.0)
    assert mg.hessian(lambda w: mg.jvp(lambda x: w * w * x, (1.0,), (5.0,))[1])(2.0) == 10.0

    def product(w: Any) -> Any:
        return mg.vjp(lambda x: w * x, 1.0)[1](4.0)[0]

    def square(x: Any) -> Any:
        return x * x

    assert mg.grad(product)(2.0) == 4.0
    slope: Any = mg.grad(square)
    assert isinstance(transforms.recording((), slope, 3.0), Value)
    assert type(mg.grad(lambda x: x * x)(3.0)) is float


def test_no_grad_is_touched() -> None:
    x, y, w = Value(2.0), Value(3.0), Value(5.0)
    h = x * y

    def f(x: Any, y: Any) -> Any:
        return [ops.sin(x * w) * h + y * x, h * h]

    for i, node in enumerate((x, y, w, h)):
        node.grad = 100.0 + i
    for args in ((x, y), (2.0, 3.0), (x, 3.0)):

        def scalar(x: Any, y: Any) -> Any:
            return f(x, y)[0]

        mg.grad(scalar, (0, 1))(*args)
        mg.value_and_grad(scalar)(*args)
        mg.jacobian(f)(*args)
        mg.hessian(scalar)(*args)
        mg.jvp(f, args, (y, 1.0))
        mg.vjp(f, *args)[1]([x, 1.0])
        mg.hvp(scalar, args, (1.0, 1.0))
    assert [node.grad for node in (x, y, w, h)] == [100.0, 101.0, 102.0, 103.0]


def test_a_pull_serves_any_number_of_cotangents() -> None:
    value, pull = mg.vjp(waves, [0.3, 0.4, 0.5])
    rows = [pull(u)[0] for u in ([1.0, 0.0], [0.0, 1.0])]
    assert rows == mg.jacobian(waves)([0.3, 0.4, 0.5])
    assert value == flatten(waves([0.3, 0.4, 0.5]))


@pytest.mark.parametrize(("m", "n"), [(2, 3), (16, 16), (17, 20), (40, 33), (5, 2)])
def test_a_jacobian_has_the_same_bits_of_floats_and_of_values(m: int, n: int) -> None:
    rng = random.Random(m)

    def f(x: Any) -> Any:
        state = [x[i % n] for i in range(max(m, n))]
        for _ in range(4):  # every node has several uses, of several outputs
            mixed = [rng.sample(range(len(state)), 2) for _ in state]
            state = [mg.math.sin(a) * state[i] + 0.5 * state[j] for a, (i, j) in zip(state, mixed)]
        return state[:m]

    point = [rng.uniform(-1.0, 1.0) for _ in range(n)]
    seed = rng.getstate()
    found = mg.jacobian(f)(point)
    rng.setstate(seed)
    assert found == [[entry.data for entry in row] for row in mg.jacobian(f)(list(map(Value, point)))]
    rng.setstate(seed)
    _, pull = mg.vjp(f, point)
    assert close(found, [pull(unit)[0] for unit in np.eye(m).tolist()], 1e-13)


# --- nesting ---


@pytest.mark.parametrize("outer", [mg.grad, forward, reverse])
@pytest.mark.parametrize("inner", [mg.grad, forward, reverse])
def test_perturbations_are_not_confused(outer: Callable[..., Any], inner: Callable[..., Any]) -> None:
    # Siskind and Pearlmutter, "Perturbation confusion and referential transparency", 2005: 1, not 2
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0) == 1.0
    # the inner function called at the outer variable itself
    assert outer(lambda x: inner(lambda y: x * y)(x))(3.0) == 1.0
    assert outer(lambda x: x * inner(lambda y: x * y)(x))(3.0) == 6.0
    assert outer(lambda x: inner(lambda y: x * y * y)(x * x))(3.0) == 6.0 * 9.0
    assert outer(lambda x: inner(lambda y: y * inner(lambda z: x * y * z)(y))(x))(2.0) == 8.0
    # and one function differentiated inside its own derivative
    assert outer(inner(outer(lambda x: x**4)))(2.0) == 48.0


def test_a_value_given_twice_is_two_variables() -> None:
    x = Value(3.0)
    assert flatten(mg.grad(lambda a, b: a * a * b, (0, 1))(x, x)) == [18.0, 9.0]
    assert flatten(mg.grad(lambda v: v[0] * v[0] * v[1])([x, x])) == [18.0, 9.0]


def test_an_enclosed_value_is_not_the_variable() -> None:
    x = Value(3.0)
    assert mg.grad(lambda y: x * y)(x).data == 3.0
    assert mg.jacobian(lambda y: [x * y, x])(x)[1].data == 0.0


@given(st.lists(reals, min_size=3, max_size=3))
def test_transforms_of_transforms_are_the_derivatives_they_should_be(x: list[float]) -> None:
    hessian = mg.hessian(wave)(x)
    assert close(mg.jacobian(mg.grad(wave))(x), hessian)
    assert close(mg.jacobian(mg.jacobian(wave))(x), hessian)
    assert close([mg.grad(lambda x, i=i: mg.grad(wave)(x)[i])(x) for i in range(3)], hessian)
    third = mg.jacobian(mg.hessian(wave))(x)
    assert close(third, mg.hessian(lambda x: mg.grad(wave)(x)[0])(x) + mg.jacobian(mg.jacobian(mg.grad(wave)))(x)[1:])
    v = [1.0, -2.0, 0.5]
    assert close(mg.grad(lambda x: mg.jvp(wave, (x,), (v,))[1])(x), np.array(hessian) @ v)
    assert close(mg.jvp(mg.hessian(wave), (x,), (v,))[1], np.array(third) @ v)
    assert close(mg.grad(lambda x: mg.hvp(wave, (x,), (v,))[0])(x), (np.array(third) @ v)[0])


def test_newtons_iteration_inside_a_derivative() -> None:
    def root(a: Any) -> Any:
        x = 1.0
        for _ in range(8):
            x = x - (x * x - a) / mg.grad(lambda x: x * x - a)(x)
        return x

    assert close(mg.grad(root)(2.0), 0.5 / math.sqrt(2.0))
    assert close(mg.grad(mg.grad(root))(2.0), -0.25 * 2.0**-1.5)


# --- cost ---


def test_the_function_is_called_once_whatever_the_number_of_derivatives() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(x)
        return [sum(x) * a for a in x]

    for transform in (mg.jacobian(f), lambda x: mg.vjp(f, x)[1]([1.0] * 30), mg.hessian(lambda x: f(x)[0])):
        calls.clear()
        transform([0.5] * 30)
        assert len(calls) == 1


def test_a_hundred_inputs_have_a_hessian() -> None:
    n = 100

    def rosenbrock(x: Any) -> Any:
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(n - 1))

    hessian = np.array(mg.hessian(rosenbrock)([1.0] * n))
    assert np.array_equal(np.diag(hessian), [802.0, *[1002.0] * (n - 2), 200.0])
    assert np.array_equal(np.diag(hessian, 1), [-400.0] * (n - 1))
    assert np.count_nonzero(hessian) == 3 * n - 2


def test_an_inner_sweep_stops_at_its_own_variables() -> None:
    seen = []

    def identity(out: Any, x: Any) -> tuple[float]:
        seen.append(x)
        return (1.0,)

    op = Op("traced", "traced", lambda x: x, identity)

    def f(x: Any) -> Any:
        x = op(x)
        seen.clear()
        slope = mg.grad(lambda y: y * y)(x)
        assert not seen  # what x was made of is not looked at
        return slope

    assert mg.grad(f)(3.0) == 2.0
    assert len(seen) == 0


def test_long_chains_need_no_recursion() -> None:
    def f(x: Any) -> Any:
        y = x
        for _ in range(20_000):
            y = y + 1e-5 * y
        return y

    value, slope = mg.value_and_grad(f)(1.0)
    assert close(value, slope)
    assert close(mg.jvp(f, (1.0,), (1.0,)), (value, slope))
    assert mg.grad(mg.grad(f))(1.0) == 0.0


def test_transforms_read_no_data_of_values() -> None:
    listener = Recording()
    with watched(listener):
        x = Value(0.5)
        mg.hessian(lambda x: ops.sin(x) * x)(x)
        mg.jvp(lambda x: [x * x, x], (x,), (x,))
        mg.vjp(lambda x: [x * x, x], x)[1]([x, 0.0])
    assert not listener.guards  # a recording would take each for a branch
    assert not listener.unfaithful


def test_threads_do_not_disturb_each_other() -> None:
    barrier, failures = threading.Barrier(4), []

    def work(k: int) -> None:
        try:
            barrier.wait(10.0)
            for i in range(20):
                x = 1.0 + 0.1 * k + 0.01 * i
                assert type(mg.grad(lambda x: x**3)(x)) is float
                assert close(mg.grad(mg.grad(lambda x: x**3))(x), 6 * x)
                assert close(mg.grad(lambda w, x=x: mg.grad(lambda y: w * y**3)(x))(2.0), 3 * x * x)
                assert close(mg.hvp(wave, ([x, x, x],), ([1.0, 0.0, 0.0],)), mg.hessian(wave)([x, x, x])[0])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

    found: list[Any] = []

    def f(x: Any) -> Any:
        thread = threading.Thread(target=lambda: found.append(mg.grad(lambda y: y * y)(3.0)))
        thread.start()
        thread.join()
        return x

    mg.grad(f)(1.0)
    assert found == [6.0]  # a thread begun inside a derivative is not inside it


# --- names and errors ---


def test_a_derivative_is_named_and_documented_after_its_function() -> None:
    def area(radius: float, *, scale: float = 1.0) -> float:
        """The area of a circle."""
        return math.pi * radius * radius * scale

    slope = mg.grad(area)
    assert slope.__name__ == "grad(area)"
    assert "The area of a circle." in (slope.__doc__ or "")
    assert inspect.signature(slope) == inspect.signature(area)
    assert mg.grad(mg.hessian(area)).__name__ == "grad(hessian(area))"
    assert mg.grad(ops.tanh).__name__ == "grad(tanh)"


def pair(x: Any) -> Any:
    return [x, x]


def nothing(x: Any) -> None:
    return None


def text(x: Any) -> Any:
    return {"k": [x, "a"]}


loose: Any = mg  # takes what its types refuse


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: mg.grad(pair)(1.0), TypeError, r"grad\(pair\): pair must return one number, not \[Value\(.*\(list\)"),
    (lambda: mg.value_and_grad(nothing)(1.0), TypeError, r"value_and_grad\(nothing\): .* not None \(NoneType\)"),
    (lambda: mg.hessian(pair)(1.0), TypeError, r"hessian\(pair\): pair must return one number"),
    (lambda: mg.hvp(pair, (1.0,), (1.0,)), TypeError, r"hvp\(pair\): pair must return one number"),
    (lambda: mg.grad(mg.grad(pair))(1.0), TypeError, r"grad\(pair\): pair must return one number"),
    (
        lambda: mg.grad(mg.grad(wave))([1.0] * 3),
        TypeError,
        r"grad\(grad\(wave\)\): grad\(wave\) must return one number",
    ),
    (lambda: mg.grad(lambda x: x * x)(np.ones(2)), TypeError, r"one number, not array\(\[Value.*\(ndarray\)"),
    (lambda: mg.jacobian(text)(1.0), TypeError, r"jacobian\(text\), text\(\.\.\.\)\['k'\]\[1\]: .*'a' \(str\)"),
    (lambda: mg.grad(wave)("abc"), TypeError, r"grad\(wave\), args\[0\]: .*'abc' \(str\)"),
    (lambda: mg.grad(wave)([1.0, {"k": None}]), TypeError, r"args\[0\]\[1\]\['k'\]: .*None"),
    (lambda: mg.grad(wave)(np.array([[1.0, 1j]])), TypeError, r"args\[0\]\[0, 0\]: .*complex"),
    (lambda: mg.grad(wave, 1)([1.0]), TypeError, r"grad\(wave\): argnums=1, but there are 1 positional"),
    (lambda: loose.grad(wave, "x")([1.0]), TypeError, r"argnums='x'"),
    (lambda: mg.grad(max, (0, -2))(1.0, 2.0), TypeError, r"grad\(max\): argnums=\(0, -2\) names an argument twice"),
    (lambda: loose.jvp(wave, 1.0, 1.0), TypeError, r"jvp\(wave\) takes a tuple of primals.* 1\.0 \(float\)"),
    (lambda: loose.hvp(wave, ([1.0],), 1.0), TypeError, r"hvp\(wave\) takes a tuple of tangents"),
    (lambda: mg.jvp(wave, ([1.0] * 3,), ([1.0] * 2,)), ValueError, r"jvp\(wave\): tangents\[0\] has the keys \[0, 1\]"),
    (lambda: mg.jvp(sum, (np.ones(3),), (np.ones(2),)), ValueError, r"jvp\(sum\): tangents\[0\] is array.*like array"),
    (lambda: mg.jvp(sum, ([1.0],), (["a"],)), TypeError, r"jvp\(sum\), tangents\[0\]\[0\]: .*'a'"),
    (lambda: mg.vjp(pair, 1.0)[1](1.0), ValueError, r"vjp\(pair\): cotangent is 1\.0; it must be built like \["),
    (lambda: mg.vjp(pair, 1.0)[1](), ValueError, r"vjp\(pair\): cotangent"),
    (lambda: mg.grad(ops.log)(-1.0), ValueError, r"log\(-1\.0\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors_say_what_is_wrong_and_leave_nothing_behind(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
    assert type(mg.grad(lambda x: x * x)(3.0)) is float  # no longer inside the call that failed


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
def test_an_array_of_one_number_is_a_number(shape: tuple[int, ...]) -> None:
    def f(x: Any) -> Any:
        result = np.empty(shape, object)
        result[...] = x[0] * x[1]
        return result

    x = np.array([2.0, 3.0])
    assert mg.value_and_grad(f)(x)[0] == 6.0
    assert mg.grad(f)(x).tolist() == [3.0, 2.0]
    assert mg.hessian(f)(x).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert mg.hvp(f, (x,), (np.ones(2),)).tolist() == [1.0, 1.0]


# --- threads ----------------------------------------------------------------------------------------------------------


P = ParamSpec("P")


def elsewhere(f: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Any:
    """f(*args, **kwargs), called in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(f, *args, **kwargs).result()


def there(f: Callable[P, Any]) -> Callable[P, Any]:
    return functools.partial(elsewhere, f)


THREADS = [  # a function of a, whose inner derivatives are taken in other threads; the same function without them
    (lambda a: elsewhere(mg.grad(lambda x: a * x * x), 1.0), lambda a: 2.0 * a),
    (lambda a: elsewhere(mg.hessian(lambda x: a * a * x**3), 1.0), lambda a: 6.0 * a * a),
    (lambda a: elsewhere(mg.jacobian(lambda x: [a * x, x * x]), 2.0)[0] * a, lambda a: a * a),
    (lambda a: elsewhere(lambda: mg.vjp(lambda x: a * x * x, 3.0)[1]()[0]), lambda a: 6.0 * a),
    (lambda a: elsewhere(lambda: mg.jvp(lambda x: a * x * x, (3.0,), (a,))[1]), lambda a: 6.0 * a * a),
    (lambda a: elsewhere(mg.value_and_grad(lambda x: (a * a + x) * x), 2.0)[0], lambda a: (a * a + 2.0) * 2.0),
    (
        lambda a: elsewhere(there(mg.grad(lambda x: x * elsewhere(mg.grad(lambda y: a * a * y), 1.0))), 1.0),
        lambda a: a * a,
    ),
    (lambda a: a * elsewhere(mg.grad(lambda y: a + y), 1.0), lambda a: a),  # perturbation confusion
    (lambda a: a * elsewhere(mg.grad(lambda y: y * y), a), lambda a: 2.0 * a * a),
    (lambda a: elsewhere(mg.grad(lambda x: (b := a.sin()) * x * b), 1.0), lambda a: ops.sin(a) ** 2),
]


@pytest.mark.parametrize(("f", "same"), THREADS)
def test_an_inner_derivative_in_another_thread_is_differentiated(f: Any, same: Any) -> None:
    third = mg.grad(mg.hessian(f)), mg.grad(mg.hessian(same))
    forward = (lambda x: mg.jvp(mg.grad(f), (x,), (1.0,))), (lambda x: mg.jvp(mg.grad(same), (x,), (1.0,)))
    for found, right in ((mg.grad(f), mg.grad(same)), (mg.hessian(f), mg.hessian(same)), third, forward):
        assert close(found(0.75), right(0.75))


def test_derivatives_in_other_threads_stay_floats_where_they_depend_on_nothing_outside() -> None:
    def f(a: Any) -> Any:
        inner = elsewhere(mg.grad(lambda x: x * x), 3.0)
        assert type(inner) is float
        return a * inner

    assert mg.grad(f)(2.0) == 6.0


def test_a_pool_of_threads_maps_derivatives() -> None:
    def f(v: Any) -> Any:
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(lambda k: mg.grad(lambda x: x**3 * v[k % len(v)])(float(k)), range(40)))

    v = [1.0, 2.0, 3.0]
    assert mg.grad(f)(v) == [sum(3.0 * k * k for k in range(40) if k % 3 == i) for i in range(3)]


def test_threads_that_differentiate_at_once_know_nothing_of_each_other() -> None:
    """Each thread's own nesting, many times, beside others: right every time, and nothing is left behind."""

    def work(seed: int) -> list[float]:
        rng = random.Random(seed)
        found = []
        for _ in range(30):
            x = float(rng.randrange(1, 9))
            found.append(mg.grad(lambda a: a * mg.grad(lambda b: a * b * b)(x))(x) - 4.0 * x * x)  # noqa: B023
        return found

    with ThreadPoolExecutor(8) as pool:
        assert not any(map(any, pool.map(work, range(8))))
    with pytest.raises(ZeroDivisionError):
        elsewhere(mg.grad(lambda x: x / 0.0), 1.0)
    assert not recordings.VARIABLES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_forgets_the_recordings_of_threads_left_behind() -> None:
    started, done = threading.Event(), threading.Event()

    def slow(x: Value) -> Value:
        started.set()
        done.wait()
        return x

    thread = threading.Thread(target=mg.grad(slow), args=(1.0,))
    thread.start()
    started.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # which Python 3.12 gives beside threads
        pid = os.fork()
    if pid == 0:
        os._exit(len(recordings.VARIABLES))
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

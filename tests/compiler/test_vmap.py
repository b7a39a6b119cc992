"""`vmap`: a function for every row, stacked; by every kind of argument, and in and around every transform."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Value, ops

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def cube(x: Any) -> Any:
    return x * x * x


def dot(x: Any, y: Any) -> Any:
    return sum(map(operator.mul, x, y))


def same(found: Any, right: Any) -> bool:
    """Trees of the same build, of arrays that are the same to the bit and have the same type of numbers."""
    if isinstance(found, np.ndarray):
        right = np.array(right)
        return (found.dtype, found.shape) == (right.dtype, right.shape) and np.array_equal(found, right)
    if not isinstance(found, (list, tuple, dict)):
        return found == right
    keys = found if isinstance(found, dict) else range(len(found))
    return type(found) is type(right) and all(same(found[key], right[key]) for key in keys)


ROWS = [  # function, in_axes, arguments, what it gives
    (cube, 0, ([1.0, 2.0],), [1.0, 8.0]),
    (cube, 0, (np.array([1.0, 2.0]),), [1.0, 8.0]),
    (cube, 0, (np.array([2], np.float32),), [8.0]),
    (cube, 0, (X,), X**3),
    (sum, 0, (X.tolist(),), [6.0, 15.0]),
    (sum, 0, (X,), [6.0, 15.0]),
    (sum, 1, (X,), [5.0, 7.0, 9.0]),
    (sum, -1, (X,), [5.0, 7.0, 9.0]),
    (sum, 0, (list(X),), [6.0, 15.0]),
    (lambda p: sum(p["x"]), 0, ({"x": list(X)},), [6.0, 15.0]),
    (sum, 1, (X.tolist(),), [5.0, 7.0, 9.0]),
    (dot, (0, None), (X, [1.0, 0.0, 2.0]), [7.0, 16.0]),
    (dot, (None, 0), ([1.0, 0.0, 2.0], X), [7.0, 16.0]),
    (dot, (1, 0), (X.T.tolist(), X), [14.0, 77.0]),
    (lambda p, x: p["w"] * x + p["b"], (None, 0), ({"w": 2.0, "b": 1.0}, [1.0, 2.0]), [3.0, 5.0]),
    (lambda p: p["w"] * p["x"][0], 0, ({"w": [1.0, 2.0], "x": (np.array([3.0, 4.0]),)},), [3.0, 8.0]),
    (lambda p: p["w"] * p["x"], ({"w": None, "x": 0},), ({"w": 2.0, "x": [3.0, 4.0]},), [6.0, 8.0]),
    (lambda p: p[0] * p[1], ([None, 0],), ([2.0, [3.0, 4.0]],), [6.0, 8.0]),
    (lambda x: [x, (x * x, {"k": np.array([x, 1.0])})], 0, ([2.0, 3.0],),
     [[2.0, 3.0], ([4.0, 9.0], {"k": [[2.0, 1.0], [3.0, 1.0]]})]),
    (lambda x: {"name": "n", "x": x}, 0, ([2.0, 3.0],), {"name": "n", "x": [2.0, 3.0]}),
    (lambda x: (x, None), 0, ([2.0, 3.0],), ([2.0, 3.0], None)),
    (math.floor, 0, ([1.5, 2.5],), [1, 2]),
    (lambda x: x > 1, 0, ([0.5, 2.5],), [False, True]),
    (lambda x, y: x if x > 0 else y, 0, ([1.0, -1.0], [5.0, 6.0]), [1.0, 6.0]),
    (cube, 0, ([],), np.empty(0)),
    (cube, 0, (np.empty((0, 3)),), np.empty(0)),
    (dot, (0, None), ([], [1.0]), np.empty(0)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "in_axes", "args", "right"), ROWS)
def test_each_row_is_what_the_function_gives_for_it(
    f: Callable[..., Any], in_axes: int | tuple[Any, ...], args: tuple[Any, ...], right: Any
) -> None:
    assert same(mg.vmap(f, in_axes)(*args), right)
    assert same(mg.jit(mg.vmap(f, in_axes))(*args), right)


def test_rows_are_plain_floats_and_raise_as_they_do() -> None:
    kinds: list[type] = []

    def noted(x: Any) -> Any:
        kinds.append(type(x))
        return x

    mg.vmap(noted)(np.array([1.0, 2.0]))
    assert kinds == [float, float]
    with pytest.raises(ZeroDivisionError):
        mg.vmap(lambda x: 1.0 / x)(np.array([1.0, 0.0]))


def test_keywords_are_passed_on() -> None:
    assert same(mg.vmap(lambda x, power: x**power)([2.0, 3.0], power=2), [4.0, 9.0])


def test_inside_are_derivatives_row_by_row() -> None:
    assert same(mg.vmap(mg.grad(cube))([1.0, 2.0]), [3.0, 12.0])
    assert same(mg.vmap(mg.value_and_grad(lambda v: dot(v, v)))(X), ([14.0, 77.0], 2.0 * X))
    hessians = np.array([[[2 * b, 2 * a, 0], [2 * a, 0, 0], [0, 0, 0]] for a, b, _ in X])
    assert same(mg.vmap(mg.hessian(lambda v: v[0] ** 2 * v[1]))(X), hessians)
    assert same(mg.vmap(mg.jacobian(lambda x: [x, x * x]))([2.0, 3.0]), [np.array([1.0, 1.0]), np.array([4.0, 6.0])])
    assert same(mg.vmap(lambda x, t: mg.jvp(cube, (x,), (t,))[1])([1.0, 2.0], [1.0, 10.0]), [3.0, 120.0])
    assert same(mg.vmap(lambda x: mg.vjp(cube, x)[1](2.0)[0])([1.0, 2.0]), [6.0, 24.0])
    assert same(mg.vmap(lambda x: mg.hvp(cube, (x,), (1.0,)))([1.0, 2.0]), [6.0, 12.0])
    assert same(mg.vmap(mg.vmap(cube))(X), X**3)
    assert same(mg.vmap(mg.vmap(operator.mul, (None, 0)), (0, None))([1.0, 2.0], [3.0, 4.0]), [[3.0, 4.0], [6.0, 8.0]])


def test_outside_are_derivatives_of_the_whole() -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert same(mg.grad(lambda x: mg.vmap(cube)(x).sum())(x), 3 * x**2)
    assert same(mg.jacobian(mg.vmap(cube))(x), np.diag(3 * x**2))
    assert same(mg.hessian(lambda x: mg.vmap(cube)(x).sum())(x), np.diag(6 * x))
    assert mg.grad(lambda a: mg.vmap(lambda x: a * x)(x).sum())(5.0) == 6.0
    assert mg.grad(lambda a: sum(mg.vmap(mg.grad(lambda t: a * cube(t)))(x)))(5.0) == 42.0
    value, slope = mg.jvp(mg.vmap(cube), (x,), (np.ones(3),))
    assert same(value, x**3)
    assert same(slope, 3 * x**2)
    value, pull = mg.vjp(mg.vmap(dot, (0, None)), X, [1.0, 1.0, 1.0])
    assert same(value, [6.0, 15.0])
    assert pull(np.array([1.0, 10.0]))[1] == [41.0, 52.0, 63.0]
    assert mg.gradcheck(lambda v: mg.vmap(lambda x: ops.sin(x) * v[0])(v), [0.5, 0.75])


def test_values_in_give_values_out() -> None:
    w = Value(2.0)
    out = mg.vmap(lambda x: w * x)(np.array([1.0, 3.0]))
    assert out.dtype == object
    out.sum().backward()
    assert w.grad == 4.0
    rows = [Value(1.0), 2.0]
    assert [type(x) for x in mg.vmap(lambda x: x)(rows)] == [Value, float]


def test_what_it_is_of_can_be_read() -> None:
    f: Any = mg.vmap(cube, (0,))
    assert (f.function, f.in_axes, f.__name__, f.__wrapped__) == (cube, (0,), "vmap(cube)", cube)


def uneven(x: Any) -> Any:
    return [x] if x > 1.0 else x


loose: Any = mg  # takes what its types refuse


ERRORS = [
    (lambda: mg.vmap(dot)(X, X[:1]), ValueError, r"vmap\(dot\): args\[0\] has 2, args\[1\] has 1 rows; they must"),
    (lambda: mg.vmap(cube)({"a": [1.0], "b": [1.0, 2.0]}), ValueError, r"\['a'\] has 1, args\[0\]\['b'\] has 2"),
    (lambda: mg.vmap(cube)(2.0), TypeError, r"vmap\(cube\): args\[0\] has no axis 0: 2\.0 \(float\); in_axes=None"),
    (lambda: mg.vmap(cube, 2)(X), TypeError, r"args\[0\] has no axis 2: array"),
    (lambda: mg.vmap(cube, -1)([1.0]), TypeError, r"args\[0\] has no axis -1: \[1\.0\] \(list\)"),
    (lambda: mg.vmap(sum, 1)([[1.0], [1.0, 2.0]]), ValueError, r"the rows of args\[0\] differ in length along axis 1"),
    (lambda: mg.vmap(cube, None)(2.0), ValueError, r"no argument is mapped; in_axes=None"),
    (lambda: mg.vmap(cube)(), ValueError, r"no argument is mapped"),
    (lambda: mg.vmap(dot, (0,))(X, X), ValueError, r"in_axes=\(0,\) is for 1 arguments, not 2"),
    (lambda: mg.vmap(dot, ({"a": 0}, 0))(X, X), ValueError, r"in_axes=\{'a': 0\} is not built like args\[0\], array"),
    (lambda: mg.vmap(cube, "0")(X), TypeError, r"an axis is an int or None, not '0' \(str\)"),
    (lambda: mg.vmap(cube, True)(X), TypeError, r"an axis is an int or None, not True"),
    (lambda: loose.vmap(3.0), TypeError, r"vmap takes a function, not 3\.0"),
    (lambda: mg.vmap(uneven)([1.0, 2.0]), ValueError, r"vmap\(uneven\) gives .* 1\.0 for row 0 and \[2\.0\] for row 1"),
    (lambda: mg.vmap(uneven)([2.0, 1.0]), ValueError, r"\[2\.0\] for row 0 and 1\.0 for row 1"),
    (lambda: mg.vmap(lambda x: np.ones(int(x)))([2.0, 1.0]), ValueError, r"1\.\]\) for row 0 and array\(\[1\.\]\)"),
    (lambda: mg.vmap(lambda x: {"k": str(x)})([2.0, 1.0]), ValueError, r"'2\.0' for row 0 and '1\.0' for row 1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors_say_what_is_wrong(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

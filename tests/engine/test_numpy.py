"""NumPy's numbers beside Values, and NumPy's functions on arrays of them."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Value, where
from micrograd_bp import math as mg_math

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]
SCALARS: list[Any] = [np.float64(2.5), np.float32(2.5), np.float16(2.5), np.longdouble(2.5), np.int64(2), np.int8(2),
                      np.uint8(2), np.bool_(True), np.array(2.5)]  # fmt: skip
POINTS = [0.25, 0.5, 0.75]


def values(*data: float) -> Any:
    return np.array([Value(x) for x in data], dtype=object)


def plain(results: Any) -> Any:
    """An array of Values, or of what a flat function gives, as an array of floats."""
    data: Callable[[Any], Any] = lambda x: getattr(x, "data", x)  # noqa: E731
    return np.vectorize(lambda x: float(data(x)), otypes=[float])(results)


def slopes(f: Callable[..., Any], xs: Any) -> Any:
    """The derivatives of a scalar function of an array by central differences, good to about 1e-9."""
    step = 1e-5
    return np.array([(f(xs + e) - f(xs - e)) / (2 * step) for e in step * np.eye(len(xs))])


# --- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
@pytest.mark.parametrize("op", OPERATORS)
def test_a_numpy_number_on_either_side_is_a_float(op: Callable[..., Any], scalar: Any) -> None:
    for ours, floats, i in (
        (lambda x: op(x, scalar), lambda x: op(x, float(scalar)), 0),
        (lambda x: op(scalar, x), lambda x: op(float(scalar), x), 1),
    ):
        x, y = Value(0.75), Value(0.75)
        out, expected = ours(x), floats(y)
        assert type(out) is type(expected) is Value
        assert type(out.data) is float
        assert (out.data, out.partials) == (expected.data, expected.partials)
        assert out.operands[i] is x


@pytest.mark.parametrize("scalar", SCALARS[:-1], ids=lambda scalar: type(scalar).__name__)
@pytest.mark.parametrize("op", COMPARISONS)
def test_a_comparison_with_a_numpy_number_is_a_plain_bool(op: Callable[..., Any], scalar: Any) -> None:
    x = Value(2.25)
    assert op(x, scalar) is op(2.25, float(scalar))
    assert op(scalar, x) is op(float(scalar), 2.25) or scalar.dtype == np.longdouble  # compares as NumPy pleases


def test_a_value_made_from_a_numpy_number_holds_a_float() -> None:
    float32: Any = np.float32(0.1)
    for scalar in SCALARS[:-1]:
        assert type(Value(scalar).data) is float
        assert Value(scalar).data == scalar
    assert Value(float32).data == float(np.float32(0.1))


# --- arrays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [*OPERATORS, *COMPARISONS])
@pytest.mark.parametrize("array", [np.array([0.5, 2.0, 3.0]), np.array([[1, 2], [3, 4]]), np.array([True, True])])
def test_an_array_beside_a_value_works_element_by_element(op: Callable[..., Any], array: Any) -> None:
    for ours, floats in ((op(array, Value(1.5)), op(array, 1.5)), (op(Value(1.5), array), op(1.5, array))):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype == (bool if op in COMPARISONS else object)
        np.testing.assert_array_equal(plain(ours), floats)


def test_arrays_of_values_and_of_numbers_mix() -> None:
    w = values(1.0, 2.0, 3.0)
    out = (w * np.array([0.5, 1.0, 2.0]) + 1).sum()
    out.backward()
    assert out.data == 11.5
    assert [x.grad for x in w] == [0.5, 1.0, 2.0]
    w -= 0.5
    assert list(plain(w)) == [0.5, 1.5, 2.5]


def test_equality_compares_data_in_arrays_too() -> None:
    a, b = values(1.0, 2.0), values(1.0, 3.0)
    assert list(a == a[0]) == list(a[0] == a) == list(a == 1.0) == list(a == b) == [True, False]
    assert np.array_equal(a, a.copy())


def test_a_mask_selects_and_a_choice_chooses() -> None:
    a = values(-1.0, 2.0, -3.0, 4.0)
    assert list(plain(a[a > 0])) == [2.0, 4.0]
    np.where(a > 0, a, 0.0).sum().backward()
    assert [x.grad for x in a] == [0.0, 1.0, 0.0, 1.0]


# NumPy's functions that have a loop for objects, but an object's own logical_xor is more than a float has either.
UFUNCS = [
    ufunc
    for name, ufunc in sorted(vars(np).items())
    if isinstance(ufunc, np.ufunc) and ufunc.signature is None and any("O" in kind for kind in ufunc.types)
    if name != "logical_xor"
]


@pytest.mark.parametrize("ufunc", dict.fromkeys(UFUNCS), ids=lambda ufunc: ufunc.__name__)
def test_a_function_of_numpy_does_to_values_what_it_does_to_floats(ufunc: Any) -> None:
    points = np.array(POINTS) + (1.0 if ufunc is np.arccosh else 0.0)
    others = [np.array([1.25, 1.5, 2.75])] * (ufunc.nin - 1)
    try:
        expected = ufunc(points, *others)
    except TypeError:  # of integers only
        with pytest.raises(TypeError):
            ufunc(values(*points), *[values(*other) for other in others])
        return
    a = values(*points)
    out = ufunc(a, *[values(*other) for other in others])
    if ufunc in {np.logical_and, np.logical_or}:
        out = out.astype(bool)  # an object's `and` is one of the operands
    np.testing.assert_allclose(plain(out), expected, rtol=1e-15)
    if expected.dtype == float and isinstance(out[0], Value):
        sum(out).backward()
        gradient = slopes(lambda xs: ufunc(xs, *others).sum(), points)
        np.testing.assert_allclose([x.grad for x in a], gradient, rtol=1e-8, atol=1e-8)
    elif expected.dtype == float:
        assert ufunc.__name__ in {"ceil", "floor", "trunc", "rint", "sign"}  # flat: plain numbers


def test_a_function_of_numpy_takes_a_single_value() -> None:
    x: Any = Value(0.5)  # which NumPy's types do not know
    out = np.arctan2(np.tanh(x), 2.0)
    out.backward()
    assert x.grad == pytest.approx((1 - np.tanh(0.5) ** 2) * 2 / (4 + np.tanh(0.5) ** 2), rel=1e-14)


W = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [1.0, 2.0, 0.5]])


@pytest.mark.parametrize(
    "f",
    [
        lambda a: a.sum(),
        lambda a: a.mean(),
        lambda a: a.prod(),
        lambda a: np.dot(a, W[0]),
        lambda a: np.dot(W[1], a),
        lambda a: (W @ a) @ a,
        lambda a: (np.diag(a) @ W @ np.diag(a)).trace(),
        lambda a: np.tanh(W @ a).sum(),
        lambda a: np.vdot(a, a),
        lambda a: np.inner(a, W).sum(),
        lambda a: (np.outer(a, a) * W).sum(),
        lambda a: np.tensordot(W, a, 1).prod(),
        lambda a: np.convolve(a, a).max(),
        lambda a: np.cumsum(a)[1] * np.cumprod(a)[2],
        lambda a: np.var(a),
        lambda a: np.std(a),
        lambda a: np.linalg.norm(a),
        lambda a: np.linalg.norm(a - W[0]),
        lambda a: np.average(a, weights=[1, 2, 3]),
        lambda a: np.polyval(a, 1.5),
        lambda a: np.diff(a).prod(),
        lambda a: np.clip(a, 0.3, 0.6).sum(),
        lambda a: np.sort(a)[-1] * np.min(a) - a[np.argmax(a)],
        lambda a: np.median(a),
        lambda a: np.cross(a, W[0])[1],
        lambda a: np.logaddexp.reduce(np.exp(W @ np.array([1.0, 2.0, 3.0]))) * a[0],
        lambda a: np.hypot(a[0], np.arctan2(a[1], a[2])) + np.square(a).sum() + np.reciprocal(a)[0],
        lambda a: (np.stack([a, 2.0 * a]).reshape(3, 2).T[1] ** 2).sum(),
        lambda a: np.einsum("i,ij,j", a, W, a),
        lambda a: np.einsum("ij,j->i", W, a, optimize=True).prod(),
        lambda a: np.where(a > 0.3, a * a, 3.0 * a).sum(),
        lambda a: np.select([a > 0.6, a > 0.3], [a, a * a], 0.0 * a).sum(),
        lambda a: np.maximum(a, 0.6).sum() * np.fmin(a, 0.3).sum(),
        lambda a: np.sinc(a).prod(),
        lambda a: np.linalg.norm(a, 1) * np.linalg.norm(a, np.inf),
        lambda a: np.linalg.norm(np.outer(a, a)),
        lambda a: np.linalg.matrix_power(np.outer(a, a), 3).sum(),
        lambda a: np.nansum(a) * np.nanmax(a) * np.ptp(a),
        lambda a: np.quantile(a, 0.3),
        lambda a: np.std(a, ddof=1),
        lambda a: (np.sign(a - 0.4) * a).sum(),
        lambda a: np.sort(a)[::-1][0] / np.sort(a)[0],
    ],
)
def test_programs_of_numpy_are_differentiable(f: Callable[..., Any]) -> None:
    a = values(*POINTS)
    out = f(a)
    out.backward()
    assert out.data == pytest.approx(f(np.array(POINTS)), rel=1e-14)
    np.testing.assert_allclose([x.grad for x in a], slopes(f, np.array(POINTS)), rtol=1e-7, atol=1e-8)


def test_what_would_drop_the_gradient_in_silence_raises() -> None:
    a = values(1.0, 2.0)
    for drop in (lambda: a.astype(float), lambda: np.asarray(a, dtype=float), lambda: np.float64(a[0])):
        with pytest.raises(TypeError, match=r"would drop its gradient; take \.data"):
            drop()


def test_a_float_array_takes_no_value_and_says_what_kind_of_array_does() -> None:
    a = np.zeros(2)
    x: Any = Value(1.0)
    for write in (
        lambda: a.__setitem__(0, x),
        lambda: a.__setitem__(slice(None), values(1.0, 2.0)),
        lambda: a.fill(x),
        lambda: np.put(a, [0], [x]),
        lambda: np.fromiter([x], float),
        lambda: np.full(2, x, dtype=float),
    ):
        with pytest.raises(
            TypeError, match=r"would drop its gradient.*an array that is to hold Values has dtype object"
        ):
            write()
    assert a.tolist() == [0.0, 0.0]


REFUSED = {  # by NumPy, for objects of any kind: an array, then whatever else
    **dict.fromkeys([np.isnan, np.isfinite, np.isinf, np.signbit, np.modf, np.frexp, np.fft.fft], lambda f, a: f(a)),
    **dict.fromkeys(
        [np.logaddexp, np.logaddexp2, np.heaviside, np.copysign, np.nextafter, np.divmod, np.float_power],
        lambda f, a: f(a, 1.5),
    ),
    np.allclose: lambda f, a: f(a, a),
    np.interp: lambda f, a: f(a, [0.0, 1.0], [2.0, 3.0]),
    np.linalg.solve: lambda f, a: f(W, a),
    np.sinc: lambda f, a: f(a * 0.0),
    **dict.fromkeys(
        [np.linalg.inv, np.linalg.det, np.linalg.slogdet, np.linalg.eig, np.linalg.eigh, np.linalg.svd, np.linalg.qr,
         np.linalg.cholesky, np.linalg.pinv, np.linalg.cond, np.linalg.matrix_rank],
        lambda f, a: f(W + np.diag(a)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("f", REFUSED, ids=lambda f: f.__name__)
def test_what_numpy_cannot_do_with_objects_is_an_error_and_no_number(f: Any) -> None:
    with pytest.raises(TypeError):
        REFUSED[f](f, values(*POINTS))


@pytest.mark.parametrize(
    ("f", "reference"),
    [
        (np.frompyfunc(mg.logaddexp, 2, 1), np.logaddexp),
        (np.frompyfunc(mg_math.copysign, 2, 1), np.copysign),
        (np.frompyfunc(lambda x, _: mg.step(x), 2, 1), np.heaviside),
    ],
)
def test_a_row_is_a_function_of_arrays_by_frompyfunc(f: Callable[..., Any], reference: Callable[..., Any]) -> None:
    a, other = values(*POINTS), np.array([0.5, -1.0, 2.0])
    out = f(a, other)
    np.testing.assert_allclose(plain(out), reference(np.array(POINTS), other), rtol=1e-15)
    out.sum().backward()
    np.testing.assert_allclose(
        [x.grad for x in a], slopes(lambda xs: reference(xs, other).sum(), np.array(POINTS)), atol=1e-9
    )


def test_a_nan_is_left_out_where_numpy_leaves_it_out() -> None:
    a = values(1.0, math.nan, 3.0)
    assert np.nansum(a).data == 4.0
    assert np.nanmean(a).data == 2.0
    np.nansum(a).backward()
    assert [x.grad for x in a] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("exponent", [0, 0.0, 0.5, 1, 2, 2.0, 3, 5.5, Value(2.0), Value(0.5)], ids=str)
@pytest.mark.parametrize("base", [0.0, -0.0])
def test_a_power_of_zero_warns_of_nothing(base: float, exponent: Any) -> None:
    """Warnings are errors here: where the value is a number, a derivative that is infinite is no concern of NumPy's."""
    x = exponent.data if isinstance(exponent, Value) else exponent
    assert (values(base) ** exponent)[0].data == base**x
    assert np.power(values(base), exponent)[0].data == base**x
    assert np.power(base, values(x))[0].data == base**x


@pytest.mark.parametrize("f", [np.linalg.norm, lambda v: np.sqrt((v * v).sum()), lambda v: (v @ v) ** 0.5])
def test_the_norm_at_zero_has_one_derivative_whichever_way_it_is_taken(f: Any) -> None:
    zero, tangent = np.zeros(2), np.ones(2)
    gradient = mg.grad(f)(zero)
    assert mg.jvp(f, (zero,), (tangent,))[1] == gradient @ tangent == 0.0
    assert mg.jacobian(f)(zero).tolist() == gradient.tolist() == [0.0, 0.0]
    a = values(0.0, 0.0)
    f(a).backward()
    assert [x.grad for x in a] == [0.0, 0.0]


def test_a_condition_of_numpy_chooses() -> None:
    x, y = Value(1.0), Value(2.0)
    yes: Any = np.float64(1.0) > 0.0
    no: Any = np.bool_(False)
    assert where(yes, x, y).data == 1.0
    assert where(no, x, y).data == 2.0


@pytest.mark.parametrize("name", ["sin", "lgamma", "atan2", "copysign"])
def test_functions_of_math_go_through_arrays_element_by_element(name: str) -> None:
    function, op = getattr(mg.math, name), mg.ops.TABLE[name]
    x, y = np.array([[0.5, 1.5], [2.5, 3.0]]), np.array([2.0, -1.0])
    args = (x, y)[: op.arity]
    want = [[op(*(a[i, j] if a.ndim == 2 else a[j] for a in args)) for j in range(2)] for i in range(2)]
    got = function(*args)
    assert got.dtype == float
    assert got.tolist() == want
    assert plain(function(values(*x.ravel()).reshape(2, 2), *args[1:])).tolist() == want
    assert function(np.empty((0, 2)), *args[1:]).shape == (0, 2)
    assert mg.jit(lambda v: function(v, *args[1:]))(x).tolist() == want


def test_an_elementwise_function_of_an_array_is_differentiated() -> None:
    sin: Any = mg.math.sin
    slopes = mg.grad(lambda v: (sin(v) * 2.0).sum())(np.array([0.5, 1.0]))
    assert slopes.tolist() == [mg.grad(lambda t: mg.math.sin(t) * 2.0)(t) for t in (0.5, 1.0)]

"""Python's `math`, differentiable: import it in place of `math`, and a numeric program takes Values.

Every name of `math` is here. A function with a derivative takes and gives Values, and goes through NumPy arrays element
by element. A function whose derivative is 0 everywhere reads the data and gives a plain result, and one of integers
refuses Values as it refuses floats. Plain numbers give what `math` gives.

>>> from micrograd_bp import Value, math
>>> x = Value(2.0)
>>> math.hypot(math.sin(x), 3.0).backward()
>>> x.grad
-0.12071076969286149
>>> math.floor(x * math.pi), math.sin(2.0)
(6, 0.9092974268256817)
"""

from __future__ import annotations

import functools
import math
import operator
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from micrograd_bp import ops
from micrograd_bp._engine import symbolic
from micrograd_bp._engine.recordings import RECORDINGS, reading
from micrograd_bp.ops import Op, number
from micrograd_bp.value import Value, engine_name

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Binary, Scalar, Unary, Variadic

SCALARS = {Value, float, int}
MathFunction = TypeVar("MathFunction", bound=Callable[..., Any])


def _recorded(*args: Any) -> bool:
    """Whether a Value, or another object with the `_record` protocol, is among the arguments."""
    for arg in args:  # noqa: SIM110 - any() would take three times as long
        if type(arg) is not float and hasattr(type(arg), "_record"):
            return True
    return False


def _is_array(x: Any) -> bool:
    """Whether x is a NumPy array with axes; does not import NumPy."""
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)  # missing while another thread imports NumPy
    return ndarray is not None and isinstance(x, ndarray) and x.ndim > 0


def _elementwise(op: Op, *args: Any) -> Any:
    """Apply the op to arrays element by element, with broadcasting; gives floats if no Values are among them."""
    import numpy

    result: Any = numpy.frompyfunc(lambda *numbers: op(*numbers), len(args), 1)(*args)
    return result.astype(float) if all(type(x) is float for x in result.ravel().tolist()) else result


def _named(function: Any, plain: Callable[..., Any]) -> Any:
    """Give the function the name and the docstring of `math`'s."""
    function.__name__ = function.__qualname__ = plain.name if isinstance(plain, Op) else plain.__name__
    function.__doc__ = plain.__doc__
    return function


def _row(op: Op, plain: Any = None) -> Any:
    """The function for an op: `math`'s own function on plain numbers, else the op."""
    plain = plain or getattr(math, op.name)
    method = getattr(Value, op.name)
    told = engine_name() == "accelerated"  # its methods report to a recording themselves

    def unary(x: Any, /) -> Any:
        if type(x) is Value:  # the method takes a third of the time of calling the op
            return op(x) if RECORDINGS and not told else method(x)
        if type(x) is float:
            return plain(x)
        return _elementwise(op, x) if _is_array(x) else op(x) if hasattr(type(x), "_record") else plain(x)

    def function(*args: Any) -> Any:
        kinds = {*map(type, args)}  # of which there are few, however many arguments
        if not kinds <= SCALARS and any(map(_is_array, args)):
            return _elementwise(op, *args)
        return op(*args) if any(hasattr(kind, "_record") for kind in kinds) else plain(*args)

    named = _named(unary if op.arity == 1 else function, plain)
    if not isinstance(plain, Op):  # whose documentation says it
        named.__doc__ += (
            f"\n\nWith out for the result, the derivative by each argument: {', '.join(symbolic.derivatives(op))}."
        )
    return named


def _reading(plain: MathFunction) -> MathFunction:
    """A function of `math` whose derivative is 0: it reads the data of Values and gives a plain result."""

    def function(*args: Any, **options: Any) -> Any:
        if not _recorded(*args):
            return plain(*args, **options)
        how = functools.partial(plain, **options) if options else plain
        return reading(how, args, [arg._data if isinstance(arg, Value) else arg for arg in args])

    named: MathFunction = _named(function, plain)
    return named


def _integral(plain: MathFunction) -> MathFunction:
    """A function of `math` that takes integers, and refuses Values as it refuses floats."""

    def function(*args: Any) -> Any:
        for arg in args:
            if isinstance(arg, Value):
                raise TypeError(f"{plain.__name__} takes integers, not {arg!r}; int() reads one off a Value")
        return plain(*args)

    named: MathFunction = _named(function, plain)
    return named


e, inf, nan, pi, tau = math.e, math.inf, math.nan, math.pi, math.tau

acos: Unary = _row(ops.acos)
acosh: Unary = _row(ops.acosh)
asin: Unary = _row(ops.asin)
asinh: Unary = _row(ops.asinh)
atan: Unary = _row(ops.atan)
atan2: Binary = _row(ops.atan2)
atanh: Unary = _row(ops.atanh)
cbrt: Unary = _row(ops.cbrt)
copysign: Binary = _row(ops.copysign)
cos: Unary = _row(ops.cos)
cosh: Unary = _row(ops.cosh)
degrees: Unary = _row(ops.degrees)
erf: Unary = _row(ops.erf)
erfc: Unary = _row(ops.erfc)
exp: Unary = _row(ops.exp)
exp2: Unary = _row(ops.exp2)
expm1: Unary = _row(ops.expm1)
fabs: Unary = _row(ops.abs, math.fabs)
fmod: Binary = _row(ops.fmod)
gamma: Unary = _row(ops.gamma)
hypot: Variadic = _row(ops.hypot)
lgamma: Unary = _row(ops.lgamma)
log10: Unary = _row(ops.log10)
log1p: Unary = _row(ops.log1p)
log2: Unary = _row(ops.log2)
radians: Unary = _row(ops.radians)
remainder: Binary = _row(ops.remainder)
sin: Unary = _row(ops.sin)
sinh: Unary = _row(ops.sinh)
sqrt: Unary = _row(ops.sqrt)
tan: Unary = _row(ops.tan)
tanh: Unary = _row(ops.tanh)
if sys.version_info >= (3, 13):
    fma: Variadic = _row(ops.fma)

ceil, floor, trunc = math.ceil, math.floor, math.trunc  # they call a Value's own methods
isclose = _reading(math.isclose)
isfinite = _reading(math.isfinite)
isinf = _reading(math.isinf)
isnan = _reading(math.isnan)
nextafter = _reading(math.nextafter)
ulp = _reading(math.ulp)

comb = _integral(math.comb)
factorial = _integral(math.factorial)
gcd = _integral(math.gcd)
isqrt = _integral(math.isqrt)
lcm = _integral(math.lcm)
perm = _integral(math.perm)


@overload
def dist(p: Iterable[Value], q: Iterable[Scalar], /) -> Value: ...
@overload
def dist(p: Iterable[float], q: Iterable[Value], /) -> Value: ...
@overload
def dist(p: Iterable[float], q: Iterable[float], /) -> float: ...
@overload
def dist(p: Iterable[Scalar], q: Iterable[Scalar], /) -> Any: ...
def dist(p: Any, q: Any, /) -> Any:
    """The Euclidean distance of two points.

    Args:
        p: The coordinates of a point.
        q: The coordinates of another, as many.

    Returns:
        The square root of the sum of (p_k - q_k)^2.

    Raises:
        TypeError: A coordinate is no real number.
        ValueError: One point has more coordinates than the other.

    Example:
        >>> x = Value(5.0)
        >>> dist([x, 2.0], [2.0, 6.0]).backward()
        >>> x.grad
        0.6
    """
    p, q = tuple(p), tuple(q)
    try:
        return math.dist(p, q)
    except TypeError:
        if not _recorded(*p, *q):
            raise
    p, q = ([x if hasattr(type(x), "_record") else number(x, "dist") for x in point] for point in (p, q))
    return ops.hypot(*map(operator.sub, p, q))


@overload
def frexp(x: Value, /) -> tuple[Value, int]: ...
@overload
def frexp(x: float, /) -> tuple[float, int]: ...
def frexp(x: Any, /) -> Any:
    """The mantissa and the exponent of x, such that x = mantissa * 2**exponent.

    Args:
        x: A number.

    Returns:
        A pair: the mantissa, with a size from 0.5 to less than 1 (or 0), and the exponent, a plain int.

    Raises:
        TypeError: x is no real number.

    Example:
        >>> mantissa, exponent = frexp(Value(6.0))
        >>> mantissa.data, exponent, mantissa.partials[0]
        (0.75, 3, 0.125)
    """
    if not isinstance(x, Value):
        return math.frexp(x)
    exponent = _exponent(x)
    return ops.ldexp(x, -exponent), exponent


@overload
def fsum(seq: Iterable[Value], /) -> Value: ...
@overload
def fsum(seq: Iterable[float], /) -> float: ...
@overload
def fsum(seq: Iterable[Scalar], /) -> Any: ...
def fsum(seq: Any, /) -> Any:
    """The sum of the terms, rounded once.

    Args:
        seq: The terms.

    Returns:
        The float nearest to the exact sum; a Value where a Value is among the terms.

    Raises:
        OverflowError: A partial sum is too large for a float.
        TypeError: A term is no real number.

    Example:
        >>> x = Value(1e-16)
        >>> fsum([1.0, x, x]).data, sum([1.0, x, x]).data
        (1.0000000000000002, 1.0)
    """
    terms = tuple(seq)
    try:
        return math.fsum(terms)
    except TypeError:
        if not _recorded(*terms):
            raise
    return ops.fsum(*terms)


@overload
def ldexp(x: Value, i: int, /) -> Value: ...
@overload
def ldexp(x: float, i: int, /) -> float: ...
def ldexp(x: Any, i: Any, /) -> Any:
    """x * 2**i, the inverse of `frexp`.

    Args:
        x: A number.
        i: An int.

    Returns:
        The product.

    Raises:
        OverflowError: The product is too large for a float.
        TypeError: i is no int.

    Example:
        >>> ldexp(Value(0.75), 3).data
        6.0
    """
    if not _recorded(x, i):
        return math.ldexp(x, i)
    if not isinstance(i, int):
        raise TypeError(f"ldexp takes an integer as its second argument, not {i!r}; int() makes one of it")
    return ops.ldexp(x, min(max(i, -9999), 9999))  # beyond these, the result is 0 or overflows in any case


@overload
def log(x: Value, base: Scalar = e, /) -> Value: ...
@overload
def log(x: float, base: Value, /) -> Value: ...
@overload
def log(x: float, base: float = e, /) -> float: ...
def log(x: Any, base: Any = e, /) -> Any:
    """The logarithm of x.

    Args:
        x: A positive number, or an array of them.
        base: The base, a positive number; e by default.

    Returns:
        log(x) / log(base).

    Raises:
        ValueError: x or base is not positive.
        ZeroDivisionError: The base is 1.

    Example:
        >>> x = Value(8.0)
        >>> log(x, 2).data, log(x).partials[0]
        (3.0, 0.125)
    """
    return _ln(x) if base is e else _ln(x) / _ln(base)


@overload
def modf(x: Value, /) -> tuple[Value, float]: ...
@overload
def modf(x: float, /) -> tuple[float, float]: ...
def modf(x: Any, /) -> Any:
    """The fractional and the whole part of x, both with its sign.

    Args:
        x: A number.

    Returns:
        A pair: the fractional part, whose derivative is 1, and the whole part, a plain float.

    Raises:
        TypeError: x is no real number.

    Example:
        >>> fraction, whole = modf(Value(-2.5))
        >>> fraction.data, whole, fraction.partials[0]
        (-0.5, -2.0, 1.0)
    """
    if not isinstance(x, Value):
        return math.modf(x)
    whole = _whole(x)
    return copysign(0.0, x) if math.isinf(whole) else fmod(x, 1.0), whole


@overload
def pow(x: Value, y: Scalar, /) -> Value: ...
@overload
def pow(x: float, y: Value, /) -> Value: ...
@overload
def pow(x: float, y: float, /) -> float: ...
def pow(x: Any, y: Any, /) -> Any:
    """x to the power of y.

    Args:
        x: The base.
        y: The exponent.

    Returns:
        x**y.

    Raises:
        OverflowError: The power is too large for a float.
        ValueError: x is 0 and y negative (where `**` raises ZeroDivisionError), or x negative and y no whole number.

    Example:
        >>> pow(Value(2.0), 3).partials[0]
        12.0
    """
    if not _recorded(x, y):
        return math.pow(x, y)
    try:
        return ops.pow(x, y)
    except ZeroDivisionError as error:
        raise ValueError(*error.args) from error


@overload
def prod(iterable: Iterable[Value], /, *, start: Scalar = 1) -> Value: ...
@overload
def prod(iterable: Iterable[float], /, *, start: float = 1) -> float: ...
@overload
def prod(iterable: Iterable[Scalar], /, *, start: Scalar = 1) -> Any: ...
def prod(iterable: Any, /, *, start: Any = 1) -> Any:
    """The product of the factors.

    Args:
        iterable: The factors.
        start: A first factor; the product of no factors.

    Returns:
        The product.

    Example:
        >>> x = Value(2.0)
        >>> prod([x, x, 3.0]).backward()
        >>> x.grad
        12.0
    """
    return math.prod(iterable, start=start)


if sys.version_info >= (3, 12):

    @overload
    def sumprod(p: Iterable[Value], q: Iterable[Scalar], /) -> Value: ...
    @overload
    def sumprod(p: Iterable[float], q: Iterable[Value], /) -> Value: ...
    @overload
    def sumprod(p: Iterable[float], q: Iterable[float], /) -> float: ...
    @overload
    def sumprod(p: Iterable[Scalar], q: Iterable[Scalar], /) -> Any: ...
    def sumprod(p: Any, q: Any, /) -> Any:
        """The sum of the products of two sequences, rounded once.

        Args:
            p: The first factors.
            q: The second factors, as many.

        Returns:
            The sum of p_k * q_k.

        Raises:
            TypeError: A factor is no real number.
            ValueError: One sequence is longer than the other.

        Example:
            >>> x = Value(3.0)
            >>> sumprod([x, 1.0], [2.0, 4.0]).data
            10.0
        """
        p, q = tuple(p), tuple(q)
        if len(p) != len(q) or not _recorded(*p, *q):
            return math.sumprod(p, q)
        return ops.sumprod(*p, *q)


@_reading
def _exponent(x: Scalar) -> int:
    return math.frexp(x)[1]


@_reading
def _whole(x: Scalar) -> float:
    return math.modf(x)[1]


_ln: Unary = _row(ops.log)

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "comb", "copysign", "cos", "cosh",
    "degrees", "dist", "e", "erf", "erfc", "exp", "exp2", "expm1", "fabs", "factorial", "floor", "fmod", "frexp",
    "fsum", "gamma", "gcd", "hypot", "inf", "isclose", "isfinite", "isinf", "isnan", "isqrt", "lcm", "ldexp",
    "lgamma", "log", "log1p", "log2", "log10", "modf", "nan", "nextafter", "perm", "pi", "pow", "prod", "radians",
    "remainder", "sin", "sinh", "sqrt", "tan", "tanh", "tau", "trunc", "ulp",
]  # fmt: skip
if sys.version_info >= (3, 12):
    __all__ += ["sumprod"]
if sys.version_info >= (3, 13):
    __all__ += ["fma"]
# relu and its like; not in __all__, since a star import gives the names of `math`. fma and sumprod depend on Python.
_others = [op.name for op in ops.PUBLIC if op.name not in (*globals(), "fma", "sumprod")]
globals().update({name: _row(ops.TABLE[name], ops.TABLE[name]) for name in _others})
_newer = [name for name in dir(math) if not name.startswith("_") and name not in __all__]
globals().update({name: getattr(math, name) for name in _newer})  # unchanged, so they raise on Values
__all__.extend(_newer)

"""Values of rows that take more than a line: IEEE arithmetic that never raises, and the polygamma functions."""

import functools
import math
import sys
from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, getcontext, localcontext
from fractions import Fraction
from typing import Any


def ieee_div(x: float, y: float) -> float:
    """x / y as IEEE 754 has it: division by zero gives inf or nan and never raises."""
    if y:
        return x / y
    return math.nan if x == 0.0 or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)


def ieee_pow(x: float, y: float) -> float:
    """x**y as IEEE 754 has it: overflow and poles give inf, a fractional power of a negative base nan."""
    if x == 0.0 and y < 0.0:  # not left to C, whose flag of a division by zero NumPy would warn of
        return math.copysign(math.inf, x) if y % 2.0 == 1.0 else math.inf
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0.0 and y % 2.0 == 1.0 else math.inf
    except ValueError:
        return math.nan


def over(numerators: Iterable[Any], denominator: Any) -> tuple[Any, ...]:
    """Each of the numerators divided by the denominator."""
    return tuple([x / denominator for x in numerators])


def real_pow(x: float, y: float) -> float:
    """x**y, in the reals: where floats would turn complex, ValueError."""
    if -math.inf < x < 0.0 < y % 1.0:
        raise ValueError("a negative base with a fractional exponent has no real power; take abs(x), or cbrt(x)")
    power: float = x**y
    return power


def ldexp(x: float, n: float) -> float:
    """x * 2**n: exact for whole n, as math.ldexp has it, and smooth between."""
    power: float = math.ldexp(x, math.floor(n)) * 2.0 ** (n % 1.0)
    if math.isinf(power) and math.isfinite(x):
        raise OverflowError("math range error")
    return power


def floor(x: float) -> float:
    """The largest whole number up to x, as a float; of an infinity, itself."""
    return x // 1.0 if math.isfinite(x) else x


def fma(x: float, y: float, z: float) -> float:
    """x * y + z, rounded once."""
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return x * y + z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    return float(exact) if exact else x * y + z


def net_input(*args: float) -> float:
    """b + w_1 x_1 + ... + w_n x_n, from left to right, of b, w_1, ... w_n, x_1, ... x_n; b may be missing."""
    if not args:
        return 0.0
    half, odd = divmod(len(args), 2)
    total = args[0] if odd else args[0] * args[half]
    for w, x in zip(args[1 : half + odd], args[half + 1 :]):
        total = total + w * x
    return total


def where(c: float, x: float, y: float) -> float:
    """x where c is not 0, else y."""
    return x if c else y


def less(x: float, y: float) -> float:
    """1 where x < y, else 0."""
    return 1.0 if x < y else 0.0


def less_equal(x: float, y: float) -> float:
    """1 where x <= y, else 0."""
    return 1.0 if x <= y else 0.0


def fsum(*args: float) -> float:
    """The sum of the arguments, rounded once."""
    return math.fsum(args)


def sumprod(*args: float) -> float:
    """The dot product of the first half of the arguments with the second, rounded once."""
    p, q = args[: len(args) // 2], args[len(args) // 2 :]
    if sys.version_info >= (3, 12):
        return float(math.sumprod(p, q))
    rounded = sum((x * y for x, y in zip(p, q, strict=True)), 0.0)
    if not math.isfinite(rounded):
        return rounded
    return float(sum(Fraction(x) * Fraction(y) for x, y in zip(p, q, strict=True)))


# The Bernoulli numbers B_2, B_4, ... as numerators and denominators
_BERNOULLI = (
    *((1, (1, 6)), (2, (-1, 30)), (3, (1, 42)), (4, (-1, 30)), (5, (5, 66))),
    *((6, (-691, 2730)), (7, (7, 6)), (8, (-3617, 510)), (9, (43867, 798)), (10, (-174611, 330))),
    *((11, (854513, 138)), (12, (-236364091, 2730)), (13, (8553103, 6)), (14, (-23749461029, 870))),
    *((15, (8615841276005, 14322)), (16, (-7709321041217, 510))),
)
_TERMS = 9  # of them where nothing cancels
_HALF_LOG_TAU = Decimal("0.91893853320467274178032973640561763986")
# Digits enough that sums which cancel, near a zero or beside a pole, are right to the last bit of a float.
_DIGITS = 34
_DECIMALS = Context(prec=_DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])


def polygamma(order: float, x: float) -> float:
    """The derivative of that order of digamma (order 0: digamma itself).

    Recurrence upwards and the asymptotic series; the reflection formula below -10 (Abramowitz and Stegun 6.3.18 to
    6.4.11). ValueError: a pole, or no such order; OverflowError: an order above 200.
    """
    if order > 200.0:  # the time is cubic in the order, and 171! is no float any more
        raise OverflowError("polygamma of an order above 200 is out of range")
    if not order >= 0.0 or order % 1.0:
        raise ValueError(f"polygamma's order is a whole number from 0 to 200, not {order!r}")
    n = int(order)
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x == math.inf:
        return 0.0 if n else x
    if x <= 0.0 and x == math.floor(x):
        raise ValueError("polygamma has a pole at every integer from 0 downwards")
    digits = _DIGITS + 2 * n
    with localcontext(_DECIMALS, prec=digits):
        value = _reflected(n, x, _TERMS)
        if n and x > 0.0:
            return float(value)
        size = math.factorial(n) / Decimal(min(abs(x - round(x)), 1.0) if x < 0.0 else 1.0) ** (n + 1)
    if abs(value) > size / 100:
        return float(value)
    while True:  # near a zero, or midway between poles, it cancels
        digits *= 2
        with localcontext(_DECIMALS, prec=digits):
            value = _reflected(n, x, len(_BERNOULLI))
            if abs(value).scaleb(digits - _DIGITS) > size:
                return float(value)


def _reflected(n: int, x: float, terms: int) -> Decimal:
    """polygamma, to as many terms of the asymptotic series and the current number of digits."""
    if x > -10.0:
        return _polygamma(n, Decimal(x), terms)
    # Reflection at x less reflection at r, whole periods of the cotangent away: no trigonometry is left.
    r, turn = Decimal(x - round(x)), Decimal((-1) ** n)
    return _polygamma(n, r, terms) + turn * (_polygamma(n, 1 - Decimal(x), terms) - _polygamma(n, 1 - r, terms))


def _polygamma(n: int, x: Decimal, terms: int) -> Decimal:
    """-(-1)**n times the sum over the steps up to x >= 10 + 2 n, or 45 + 2 n, and the asymptotic series there."""
    total = Decimal(0)
    start = (10 if terms == _TERMS else 45) + 2 * n
    while x < start:
        total += x ** (-n - 1)
        x += 1
    total = math.factorial(n) * (total + x ** (-n - 1) / 2) + (math.factorial(n - 1) / x**n if n else -_log(x))
    total += _horner(_coefficients(n, terms), 1 / (x * x)) / x**n
    return total if n % 2 else -total


@functools.cache
def _coefficients(n: int, terms: int) -> list[Decimal]:
    """Of the asymptotic series of polygamma n, from the last term to the first, in 1 / x**2."""
    with localcontext(_DECIMALS, prec=2 * _DIGITS + 2 * n):
        series = [
            Decimal(b * math.factorial(2 * k + n - 1)) / (c * math.factorial(2 * k)) for k, (b, c) in _BERNOULLI[:terms]
        ]
    return series[::-1]


def _horner(coefficients: list[Decimal], x: Decimal) -> Decimal:
    total = Decimal(0)
    for c in coefficients:
        total = (total + c) * x
    return total


def _log(x: Decimal) -> Decimal:
    """log(x) by a step of Newton's method from the float: a quarter of the time of Decimal.ln, for as many digits."""
    if getcontext().prec > _DIGITS:
        return x.ln()
    y = Decimal(math.log(x))
    return y + x * (-y).exp() - 1


def true_gamma(x: float) -> float:
    """The gamma function to the last bit, inf where it overflows: math.gamma may be off by 10 ulp.

    Recurrence upwards, then Stirling's series (Abramowitz and Stegun 6.1.40). ValueError: a pole.
    """
    if x == -math.inf or (x <= 0.0 and x % 1.0 == 0.0):
        raise ValueError("gamma has a pole at every integer from 0 downwards")
    if not -200.0 < x < 200.0:  # too small for a float, too large, or nan
        return 0.0 if x < 0.0 else x * math.inf
    with localcontext(_DECIMALS):
        z, product = Decimal(x), Decimal(1)
        while z < 10:
            product *= z
            z += 1
        series = [c / (2 * k - 1) for k, c in zip(range(_TERMS, 0, -1), _coefficients(0, _TERMS))]
        power = (z - Decimal("0.5")) * _log(z) - z + _HALF_LOG_TAU + _horner(series, 1 / (z * z)) * z
        return float(power.exp() / product)

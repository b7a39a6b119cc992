"""Values of rows that take more than a line: IEEE arithmetic that never raises, and the polygamma functions."""

import math
import sys
from fractions import Fraction


def ieee_div(x: float, y: float) -> float:
    """x / y as IEEE 754 has it: division by zero gives inf or nan and never raises."""
    if y:
        return x / y
    return math.nan if x == 0.0 or x != x else math.copysign(math.inf, x) * math.copysign(1.0, y)


def ieee_log(x: float) -> float:
    """log(x) as IEEE 754 has it: -inf at 0 and nan below."""
    return math.log(x) if x > 0.0 else -math.inf if x == 0.0 else math.nan


def ieee_pow(x: float, y: float) -> float:
    """x**y as IEEE 754 has it: overflow and poles give inf, a fractional power of a negative base nan."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0.0 and y % 2.0 == 1.0 else math.inf
    except ValueError:
        if x < 0.0:
            return math.nan
        return math.copysign(math.inf, x) if y % 2.0 == 1.0 else math.inf


def real_pow(x: float, y: float) -> float:
    """x**y, in the reals: where floats would turn complex, ValueError."""
    if -math.inf < x < 0.0 < y % 1.0:
        raise ValueError("a negative base with a fractional exponent has no real power; take abs(x), or cbrt(x)")
    power: float = x**y
    return power


def logaddexp(x: float, y: float) -> float:
    """log(exp(x) + exp(y)) without overflow."""
    if x == y:
        return x + math.log(2.0)
    return (x if x > y else y) + math.log1p(math.exp(-abs(x - y)))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    t = math.exp(-abs(x))
    return (t if x < 0.0 else 1.0) / (1.0 + t)


def fma(x: float, y: float, z: float) -> float:
    """x * y + z, rounded once."""
    if not (math.isfinite(x) and math.isfinite(y) and math.isfinite(z)):
        return x * y + z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    return float(exact) if exact else x * y + z


def sumprod(*args: float) -> float:
    """The dot product of the first half of the arguments with the second, rounded once."""
    p, q = args[: len(args) // 2], args[len(args) // 2 :]
    if sys.version_info >= (3, 12):
        return float(math.sumprod(p, q))
    rounded = sum((x * y for x, y in zip(p, q, strict=True)), 0.0)
    if not math.isfinite(rounded):
        return rounded
    exact = sum(Fraction(x) * Fraction(y) for x, y in zip(p, q, strict=True))
    return float(exact) if exact else rounded


# The Bernoulli numbers B_2, B_4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)


def polygamma(order: float, x: float) -> float:
    """The derivative of that order of digamma (order 0: digamma itself).

    Recurrence up to x >= 20 + order, summed without rounding, then the asymptotic series; below -200 the
    reflection formula (Abramowitz and Stegun 6.3.5 to 6.4.12).
    """
    n = int(order)
    if n != order or n < 0:
        raise ValueError(f"polygamma's order is a non-negative integer, not {order!r}")
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x == math.inf:
        return 0.0 if n else x
    if x <= 0.0 and x == math.floor(x):
        raise ValueError("polygamma has a pole at every integer from 0 downwards")
    if n > 170:
        raise OverflowError("polygamma of an order above 170 is out of range")  # and its factorial takes for ever
    sign = -1.0 if n % 2 else 1.0
    if x < -200.0:
        return sign * polygamma(n, 1.0 - x) - _cot_derivative(n, x - round(x))
    scale = float(math.factorial(n))
    terms = []
    while x < 20.0 + n:
        terms.append(-sign * scale * ieee_pow(x, -1.0 - n))
        x += 1.0
    if n == 0:
        terms += [math.log(x), -0.5 / x]
    else:
        terms += [-sign * scale / n * x**-n, -sign * 0.5 * scale * ieee_pow(x, -1.0 - n)]
    for k, b in enumerate(_BERNOULLI, start=1):
        terms.append(-sign * b * (math.factorial(2 * k + n - 1) / math.factorial(2 * k)) * ieee_pow(x, -2.0 * k - n))
    return math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)


def _cot_derivative(n: int, x: float) -> float:
    """The n-th derivative of pi * cot(pi * x): a polynomial in c = cot(pi * x), since c' = -pi (1 + c**2)."""
    coefficients = [0.0, math.pi]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-math.pi * (a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    cot = 1.0 / math.tan(math.pi * x)
    return math.fsum(c * cot**k for k, c in enumerate(coefficients))

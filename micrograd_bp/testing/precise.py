"""Arithmetic to 50 digits, and derivatives by finite differences carried out in it."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from micrograd_bp import ops
from micrograd_bp._engine.ieee import Quiet, bare
from micrograd_bp._engine.sweeps import adjoints
from micrograd_bp.ops import Op, Operand
from micrograd_bp.value import Value, topological_order

DIGITS = 50


def needs(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"micrograd_bp.testing needs {module}: pip install 'micrograd-bp[test]'") from error


# --- numbers of 50 digits -----------------------------------------------------------------------------------------


@functools.cache
def arithmetic() -> Any:
    """mpmath's arithmetic, set to 50 digits; other users of mpmath keep their precision.

    Returns:
        A context of mpmath's, with its functions and numbers.

    Raises:
        ImportError: mpmath is missing.

    Example:
        >>> arithmetic().dps
        50
    """
    mp = needs("mpmath").mp.clone()
    mp.dps = DIGITS
    return mp


class Precise(Operand):
    """A number of 50 digits that any op can be applied to, and that functions written for Values take.

    It takes part in ops as Values do: an op called with a `Precise` number among its arguments calls its `_record`.

    Args:
        x: An int, a float, a number of mpmath's, or text that mpmath reads as a number.

    Example:
        >>> print(Precise(2).sqrt())
        1.4142135623730950488016887242096980785696718753769
    """

    __slots__ = ("number",)

    def __init__(self, x: Any) -> None:
        self.number: Any = x.number if isinstance(x, Precise) else arithmetic().mpf(x)

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Precise:
        numbers = [Precise(arg) for arg in args]
        function = _function(op)
        if function is None:
            formula = op.decomposition or op.forward
            try:
                return Precise(formula(*numbers))
            except ZeroDivisionError:  # it may be in a branch that is not taken: where(x, sinh(x) / x, 1.0) at 0
                result = Precise(bare(formula(*map(Quiet, numbers))))
                if not arithmetic().isfinite(result.number):
                    raise
                return result
        result = function(*[x.number for x in numbers])
        if isinstance(result, arithmetic().mpc):
            raise ValueError(f"{op.name}({', '.join(map(str, numbers))}) is not real")
        return Precise(result)

    def __getattr__(self, name: str) -> Callable[..., Precise]:
        if name in ops.TABLE:
            op: Any = ops.TABLE[name]
            return functools.partial(op, self)
        raise AttributeError(f"{name!r} is no operation of the table")

    def __bool__(self) -> bool:
        return bool(self.number)

    def __lt__(self, other: Any) -> bool:
        return bool(self.number < Precise(other).number)

    def __le__(self, other: Any) -> bool:
        return bool(self.number <= Precise(other).number)

    def __gt__(self, other: Any) -> bool:
        return bool(self.number > Precise(other).number)

    def __ge__(self, other: Any) -> bool:
        return bool(self.number >= Precise(other).number)

    def __str__(self) -> str:
        return str(self.number)

    __repr__ = __str__


def _function(op: Op) -> Callable[..., Any] | None:
    """mpmath's function for an op, found by the op's name or its C function's; None: run the op's own formula."""
    native = op.native.removeprefix("llvm.")
    known = _functions()
    if ops.TABLE.get(op.name) is op and op.name in known:
        return known[op.name]
    if native in known:
        return known[native]
    if op.decomposition is not None or not (native or ops.TABLE.get(op.name) is op):
        return None
    return operator_of(op) or getattr(arithmetic(), native or op.name, None)


def operator_of(op: Op) -> Callable[..., Any] | None:
    """Python's operator for an op, None if there is none."""
    return getattr(operator, op.name, None) if hasattr(float, f"__{op.name}__") else None


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    """Values of functions that mpmath lacks, or names otherwise than the table and C do."""
    mp = arithmetic()

    def divide(x: Any, y: Any) -> Any:
        return x / y if y else mp.nan if not x else mp.sign(x) * mp.inf

    def exp(x: Any) -> Any:  # beyond this the result is no float, and takes long
        return mp.exp(x) if abs(x) < 1e9 else mp.zero if x < 0 else mp.inf

    def power(x: Any, y: Any) -> Any:
        if x == 0:
            return mp.inf if y < 0 else x**y
        if x < 0 and y != mp.floor(y):
            return mp.nan
        turn = -1 if x < 0 and y % 2 else 1
        with mp.extradps(int(mp.log10(abs(y) + 1))):
            return turn * exp(y * mp.ln(abs(x)))

    def fmod(x: Any, y: Any) -> Any:
        if not y:
            raise ZeroDivisionError("a remainder by zero")
        return mp.sign(x) * (abs(x) % abs(y))

    def remainder(x: Any, y: Any) -> Any:
        if not y:
            raise ZeroDivisionError("a remainder by zero")
        rest, y = abs(x) % abs(y), abs(y)
        odd = abs(x) % (2 * y) >= y
        return mp.sign(x) * (rest - y if (2 * rest, odd) > (y, False) else rest)

    def polygamma(n: Any, x: Any) -> Any:
        if n != mp.floor(n) or n < 0 or (x <= 0 and x == mp.floor(x)):
            raise ValueError("no such order, or a pole")
        n, turn, rest = int(n), (-1) ** int(n), x - mp.nint(x)
        if x > 0.5:
            return mp.psi(n, x)
        with mp.extradps(int(n * (2 + mp.log10(1 - x)))):  # midway between poles nearly all digits cancel
            # The reflection formula at x less the one at x's distance from a whole number: no psi below 1/2.
            near = mp.psi(n, 1 + rest) - turn * mp.factorial(n) / rest ** (n + 1)
            return near + turn * (mp.psi(n, 1 - x) - mp.psi(n, 1 - rest))

    return {
        "fdiv": divide,
        "truediv": operator.truediv,
        "fmul": operator.mul,
        "pow": power,
        "fma": lambda x, y, z: x * y + z,
        "fsum": lambda *args: mp.fsum(args),
        "sumprod": lambda *args: mp.fdot(args[: len(args) // 2], args[len(args) // 2 :]),
        "hypot": lambda *args: mp.sqrt(mp.fsum(x * x for x in args)),
        "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
        "exp": exp,
        "exp2": lambda x: exp(x * mp.ln2),
        "ieee_log": lambda x: mp.ln(x) if x > 0 else -mp.inf if x == 0 else mp.nan,
        "log2": lambda x: mp.log(x, 2),
        "ldexp": lambda x, n: x * mp.mpf(2) ** n,
        "erfc": lambda x: mp.erfc(x) if abs(x) < 1e9 else mp.zero if x > 0 else mp.mpf(2),
        "tgamma": mp.gamma,
        "true_gamma": mp.gamma,
        "lgamma": lambda x: mp.re(mp.loggamma(x)),
        "polygamma": polygamma,
        "select": lambda c, x, y: x if c else y,
        "fcmp olt": lambda x, y: mp.one if x < y else mp.zero,
        "fcmp ole": lambda x, y: mp.one if x <= y else mp.zero,
        "copysign": lambda x, y: abs(x) if y >= 0 else -abs(x),
        "frem": fmod,
        "remainder": remainder,
    }


# --- derivatives to 50 digits -------------------------------------------------------------------------------------


def derivative(f: Callable[..., Any], point: Sequence[float], *axes: int) -> Any:
    """A partial derivative of f, of any order, by central differences in 50-digit arithmetic.

    Args:
        f: An op, a `Program`, a `replay`, or any function written with operators and micrograd_bp.math.
        point: The arguments, as floats.
        *axes: The arguments to differentiate by, one per order: (0, 0, 1) is d3 f / dx0 dx0 dx1.

    Returns:
        A number of mpmath's, right to 1e-25 of max(|derivative|, 1).

    Raises:
        ValueError: f is not real and finite all around the point.

    Source:
        The step is far below the distance of two floats, and digits are added until what cancels costs none.

    Example:
        >>> print(arithmetic().nstr(derivative(lambda x, y: x**3 * y, [2.0, 5.0], 0, 0, 1), 15))
        12.0
    """
    stencil: dict[tuple[int, ...], float] = {}
    for signs in itertools.product((1, -1), repeat=len(axes)):
        shift = tuple(sum(s for s, axis in zip(signs, axes) if axis == i) for i in range(len(point)))
        stencil[shift] = stencil.get(shift, 0.0) + math.prod(signs) / 2 ** len(axes)
    return _differences(f, point, len(axes), [stencil])[0]


def kinked(f: Callable[..., Any], point: Sequence[float], axis: int) -> bool:
    """Whether f has a kink or a jump at the point, along one argument.

    Args:
        f: A function as `derivative` takes it.
        point: The arguments, as floats.
        axis: Which argument is moved.

    Returns:
        Whether the slopes on the two sides differ, by 1e-9 of their size or more.

    Raises:
        ValueError: f is not real and finite all around the point.

    Example:
        >>> from micrograd_bp import ops
        >>> kinked(ops.relu, [0.0], 0), kinked(ops.relu, [5e-324], 0)
        (True, False)
    """
    return _broken(_slopes(f, point, axis))


def _slopes(f: Callable[..., Any], point: Sequence[float], axis: int) -> list[Any]:
    """The slopes of f over four steps, two on each side of the point."""
    at = [tuple(shift if i == axis else 0 for i in range(len(point))) for shift in range(-2, 3)]
    return _differences(f, point, 1, [{left: -1.0, right: 1.0} for left, right in itertools.pairwise(at)])


def _broken(slopes: Sequence[Any]) -> bool:
    return bool(max(slopes) - min(slopes) > 1e-9 * max(1, *map(abs, slopes)))


def _differences(
    f: Callable[..., Any], point: Sequence[float], order: int, stencils: list[dict[tuple[int, ...], float]]
) -> list[Any]:
    """For each stencil, the sum of weight * f(point + shift * step) over step**order; cancelling costs no digits."""
    mp = arithmetic()
    sizes = [abs(x) for x in point if x] or [1.0]
    step = mp.mpf(10) ** -30 * min(1.0, *sizes)  # far below the spacing of floats
    digits = DIGITS + int(mp.log10(max(sizes) / step))
    while True:
        with mp.workdps(digits):
            values = {}
            for shift in set().union(*stencils):
                args = [mp.mpf(x) + s * step for x, s in zip(point, shift)]
                values[shift] = Precise(f(*map(Precise, args))).number
            if not all(map(mp.isfinite, values.values())):
                raise ValueError(f"not real and finite all around {list(point)}")
            results = [mp.fsum(w * values[shift] for shift, w in stencil.items()) / step**order for stencil in stencils]
            noise = max(1, *map(abs, values.values())) / step**order / max(1, min(map(abs, results)))
            wanted = DIGITS // 2 + int(mp.log10(noise))
        if wanted <= digits:
            return results
        digits = wanted + 10


# --- the error of a row -------------------------------------------------------------------------------------------


class Errors(NamedTuple):
    """The errors of an op at a point, in units in the last place: of its value, and of each local derivative.

    Args:
        value: The error of the value, in units in the last place of the value.
        partials: Those of the derivatives, in units in the last place of max(|derivative|, 1); empty where there is no
            derivative: at a kink, a jump or an end of the domain.

    Example:
        >>> from micrograd_bp import ops
        >>> errors(ops.relu, 0.0)
        Errors(value=0.0, partials=())
    """

    value: float
    partials: tuple[float, ...]


def errors(op: Op, *point: float) -> Errors:
    """The errors of an op at a point, against arithmetic to 50 digits; it takes ops of your own, too.

    What overflows counts as 2**1024, and nan as right where there is no derivative.

    Args:
        op: The op.
        *point: Its arguments, as floats.

    Returns:
        The errors of the value and of each local derivative, in units in the last place.

    Raises:
        ValueError: The op has no value there; or another exception that the op itself raises.

    Example:
        >>> softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
        >>> max(errors(softsign, 3.0).partials) < 4
        True
    """
    inputs = [Value(x) for x in point]
    output = op(*inputs)
    output.backward()
    value = _ulps(output.data, Precise(op(*map(Precise, point))).number, 0.0)
    partials = []
    for axis, x in enumerate(inputs):
        try:
            slopes = _slopes(op, point, axis)
        except (ValueError, ZeroDivisionError):  # not real on both sides
            if not math.isnan(x.grad):
                return Errors(value, ())
            partials.append(0.0)
        else:
            if _broken(slopes):
                return Errors(value, ())
            partials.append(_ulps(x.grad, (slopes[1] + slopes[2]) / 2, 1.0))
    return Errors(value, tuple(partials))


def sensitivity(output: Value) -> float:
    """The effect of rounding on a Value, to first order: the sum over its graph of |data * d output / d data|.

    An error of one rounding in every number on the way changes the output by at most 2**-53 times this.

    Args:
        output: The Value.

    Returns:
        The sum; nodes whose term is not finite do not count.

    Source:
        Higham, Accuracy and stability of numerical algorithms, 2002, section 1.6, summed over all intermediate results.

    Example:
        >>> x = Value(3.0)
        >>> sensitivity(x * x - 8.0)  # |out| + |x * x| + |x * 2 x|
        28.0
    """
    order = topological_order(output)
    slopes = adjoints(output, order)
    terms = (abs(node.data * slopes[node]) for node in reversed(order))
    return sum(term for term in terms if math.isfinite(term))


def _ulps(x: float, exact: Any, least: float) -> float:
    """|x - exact| in units in the last place of max(|exact|, least)."""
    mp = arithmetic()
    if mp.isnan(exact):
        return 0.0 if math.isnan(x) else math.inf
    end = mp.mpf(2) ** 1024
    exact, computed = (min(max(y, -end), end) for y in (exact, mp.mpf(x)))
    unit = math.ulp(min(max(float(abs(exact)), least), ops.MAX))
    return float(abs(computed - exact) / unit)


# --- where to evaluate --------------------------------------------------------------------------------------------


def points(op: Op, count: int, rng: random.Random) -> Iterator[tuple[float, ...]]:
    """Points all over the domain of an op: every magnitude, whole numbers and halves and their neighbours, the ends.

    Args:
        op: The op.
        count: How many points.
        rng: The source of randomness.

    Returns:
        An iterator of points, each with a float for each argument, two for an op of any number of arguments, often of
        one magnitude. Not every point need have a value: x**y may overflow.

    Example:
        >>> from micrograd_bp import ops
        >>> all(-1.0 <= x <= 1.0 for (x,) in points(ops.asin, 100, random.Random(0)))
        True
    """
    for _ in range(count):
        point: list[float] = []
        for low, high in domains(op):
            x = math.nan
            while not low <= x <= high:
                x = rng.choice(_SAMPLERS)(rng, low, high, point)
            point.append(x + 0.0)  # no -0.0: numbers of 50 digits have one zero
        yield tuple(point)


def domains(op: Op, variadic: int = 2) -> list[tuple[float, float]]:
    """The domain of each argument of an op.

    Args:
        op: The op.
        variadic: How many arguments an op gets that takes any number of them.

    Returns:
        The least and the greatest number for each argument.

    Example:
        >>> from micrograd_bp import ops
        >>> domains(ops.asin)
        [(-1.0, 1.0)]
    """
    return [op.domain[min(i, len(op.domain) - 1)] for i in range(variadic if op.arity is None else op.arity)]


def _near(x: float, rng: random.Random) -> float:
    """x or a float beside it."""
    for _ in range(rng.randrange(4)):
        x = math.nextafter(x, rng.choice((-math.inf, math.inf)))
    return x


_SAMPLERS: tuple[Callable[[random.Random, float, float, list[float]], float], ...] = (
    lambda rng, low, high, others: rng.choice((-1, 1)) * 2.0 ** rng.uniform(-1074, 1023.999),
    lambda rng, low, high, others: rng.choice((-1, 1)) * 2.0 ** rng.uniform(-40, 40),
    lambda rng, low, high, others: rng.uniform(-1, 1) * 10.0 ** rng.randrange(4),
    lambda rng, low, high, others: rng.uniform(max(low, -1e3), min(high, 1e3)),
    lambda rng, low, high, others: float(rng.randrange(-20, 21)),
    lambda rng, low, high, others: _near(rng.randrange(-400, 401) / 2, rng),
    lambda rng, low, high, others: _near(rng.choice((low, high)), rng),
    lambda rng, low, high, others: rng.choice((-1, 1)) * _near(rng.choice(others or [1.0]), rng),
    lambda rng, low, high, others: rng.uniform(-2, 2) * rng.choice(others or [0.0]),
)

"""Proofs for derivatives: arithmetic to 50 digits, and random differentiable programs for Hypothesis.

A row of the table, a recorded graph or a random program runs on floats, on Values and on `Precise` numbers alike; what
the chain rule gives is held to finite differences carried out in 50 digits, which are sharp where floats are not.
Needs `pip install 'micrograd-bp[test]'` (mpmath, Hypothesis); nothing is imported before it is used.

>>> from micrograd_bp import ops
>>> str(derivative(ops.tanh, [0.5], 0))[:30]
'0.7864477329659274101496989343'
>>> errors(ops.tanh, 0.5).partials[0] < 4
True
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from micrograd_bp import ops
from micrograd_bp._methods import operators
from micrograd_bp.names import Name
from micrograd_bp.ops import Op
from micrograd_bp.value import Value, topological_order

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

DIGITS = 50


def _needs(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"micrograd_bp.testing needs {module}: pip install 'micrograd-bp[test]'") from error


# --- numbers of 50 digits -----------------------------------------------------------------------------------------


@functools.cache
def arithmetic() -> Any:
    """mpmath's arithmetic of 50 digits, of our own: nobody else's precision is touched."""
    mp = _needs("mpmath").mp.clone()
    mp.dps = DIGITS
    return mp


class Precise:
    """A number of 50 digits that any row of the table can be applied to.

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
            return Precise((op.expansion or op.forward)(*numbers))
        result = function(*[x.number for x in numbers])
        if isinstance(result, arithmetic().mpc):
            raise ValueError(f"{op.name}({', '.join(map(str, numbers))}) is not real")
        return Precise(result)

    def __getattr__(self, name: str) -> Callable[..., Precise]:
        if name in ops.TABLE:
            return functools.partial(ops.TABLE[name], self)
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


operators(Precise, lambda op: lambda *args: op(*args), lambda op: lambda y, x: op(x, y))


def _function(op: Op) -> Callable[..., Any] | None:
    """What a row stands for on mpmath's numbers, by its name or its native code's; None: run its own program."""
    native = op.native.lstrip("~").removeprefix("llvm.")
    known = _functions()
    if ops.TABLE.get(op.name) is op and op.name in known:
        return known[op.name]
    if native in known:
        return known[native]
    if op.expansion is not None or not (native or ops.TABLE.get(op.name) is op):
        return None
    return _operator(op) or getattr(arithmetic(), native or op.name, None)


def _operator(op: Op) -> Callable[..., Any] | None:
    """The Python operator that a row is written with, if it is."""
    return getattr(operator, op.name, None) if hasattr(float, f"__{op.name}__") else None


@functools.cache
def _functions() -> dict[str, Callable[..., Any]]:
    """The values (never derivatives) that mpmath lacks, or has under another name than the table and C."""
    mp = arithmetic()

    def divide(x: Any, y: Any) -> Any:
        return x / y if y else mp.nan if not x else mp.sign(x) * mp.inf

    def exp(x: Any) -> Any:  # beyond, it is no float by far, and slow
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
        with mp.extradps(int(n * (2 + mp.log10(1 - x)))):  # midway between poles nearly all of it cancels
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
        "logaddexp": lambda x, y: max(x, y) + mp.log1p(mp.exp(-abs(x - y))),
        "ldexp": lambda x, n: x * mp.mpf(2) ** n,
        "gelu": lambda x: x * mp.ncdf(x) if abs(x) < 1e9 else max(x, mp.zero),
        "erfc": lambda x: mp.erfc(x) if abs(x) < 1e9 else mp.zero if x > 0 else mp.mpf(2),
        "tgamma": mp.gamma,
        "true_gamma": mp.gamma,
        "lgamma": lambda x: mp.re(mp.loggamma(x)),
        "digamma": lambda x: polygamma(mp.zero, x),
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

    `axes` are the arguments to differentiate by, one per order: (0, 0, 1) is d3 f / dx0 dx0 dx1. f is a row of the
    table, a `Program`, a `replay`, or any function written with operators and micrograd_bp.math. The result is a
    number of mpmath's, right to 1e-25 of max(|derivative|, 1). ValueError: f is not real all around the point.

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
    step = mp.mpf(10) ** -30 * min(1.0, *sizes)  # far below the distance from one float to the next
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
    """How far a row is from the truth, in units in the last place: its value, and each of its local derivatives."""

    value: float
    partials: tuple[float, ...]  # empty where there is none: at a kink, a jump, an end of the domain


def errors(op: Op, *point: float) -> Errors:
    """The errors of a row at a point, measured against 50 digits.

    In units in the last place: of the value itself; for a derivative, of max(|derivative|, 1). What overflows counts as
    2**1024, and nan as right where there is no derivative. Raises what the row itself raises. A row of one's own is
    proved by this as the rows of the table are.

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
    """What rounding can do to a Value, to first order: the sum over its graph of |data * d output / d data|.

    An error of one rounding in every number on the way changes the output by at most 2**-53 times this. What is not
    finite does not count.

    >>> x = Value(3.0)
    >>> sensitivity(x * x - 8.0)  # |out| + |x * x| + |x * 2 x|
    28.0
    """
    adjoints: dict[Any, float] = {output: 1.0}
    total = 0.0
    for node in reversed(topological_order(output)):
        adjoint = adjoints.get(node, 0.0)
        if adjoint and math.isfinite(node.data * adjoint):
            total += abs(node.data * adjoint)
            for operand, partial in zip(node.operands, node.partials):
                if isinstance(operand, Value):
                    adjoints[operand] = adjoints.get(operand, 0.0) + adjoint * partial
    return total


def _ulps(x: float, exact: Any, least: float) -> float:
    """|x - exact| in units in the last place of max(|exact|, least)."""
    mp = arithmetic()
    if mp.isnan(exact):
        return 0.0 if math.isnan(x) else math.inf
    end = mp.mpf(2) ** 1024
    exact, computed = (min(max(y, -end), end) for y in (exact, mp.mpf(x)))
    unit = math.ulp(min(max(float(abs(exact)), least), ops.MAX))
    return float(abs(computed - exact) / unit)


# --- programs -----------------------------------------------------------------------------------------------------

MARGIN = 1 / 64  # of a random program's numbers from kinks, poles and the ends of domains
LARGE = 1000.0  # the largest number and the largest local derivative in a random program
Step = tuple[Callable[..., Any], tuple[int | float, ...]]


@dataclass(frozen=True, repr=False)
class Program:
    """A straight-line program and a point to run it at; it takes floats, Values or `Precise` numbers.

    Each step is a row of the table (or any function) with its operands: an int is the number of an input or of an
    earlier step, inputs first; a float is a constant. The last step is the result. The repr is Python, to be pasted.

    >>> from micrograd_bp import ops
    >>> program = Program(((ops.mul, (0, 1)), (ops.pow, (2, -2.0)), (ops.hypot, (3, 3))), (2.0, 0.25))
    >>> program
    from micrograd_bp.ops import hypot
    def program(x0, x1):
        v2 = x0 * x1
        v3 = v2**(-2)
        v4 = hypot(v3, v3)
        return v4
    point = (2.0, 0.25)
    >>> program(*program.point)
    5.656854249492381
    >>> print(arithmetic().nstr(derivative(program, program.point, 0), 15))
    -5.65685424949238
    """

    steps: tuple[Step, ...]
    point: tuple[float, ...]

    def __call__(self, *args: Any) -> Any:
        values = list(args)
        for function, operands in self.steps:
            if isinstance(function, Op):
                function = _operator(function) or function
            values.append(function(*[values[x] if isinstance(x, int) else x for x in operands]))
        return values[-1]

    def __repr__(self) -> str:
        inputs = [f"x{i}" for i in range(len(self.point))]
        names = inputs + [f"v{i}" for i in range(len(inputs), len(inputs) + len(self.steps))]
        called = {f.name for f, _ in self.steps if ops.TABLE.get(getattr(f, "name", "")) is f and not _operator(f)}
        lines = [f"from micrograd_bp.ops import {', '.join(sorted(called))}"] if called else []
        lines.append(f"def program({', '.join(inputs)}):")
        for name, (function, operands) in zip(names[len(inputs) :], self.steps):
            shown = [Name(names[x]) if isinstance(x, int) else x for x in operands]
            if isinstance(function, Op) and _operator(function):
                text = function(*shown).text
            else:
                called_as = getattr(function, "name", "") or getattr(function, "__name__", repr(function))
                text = f"{called_as}({', '.join(x.text if isinstance(x, Name) else repr(x) for x in shown)})"
            lines.append(f"    {name} = {text}")
        return "\n".join([*lines, f"    return {names[-1]}", f"point = {self.point}"])


def replay(output: Value, inputs: Sequence[Value]) -> Callable[..., Any]:
    """A recorded graph as a function of some of its nodes again: of floats, Values or `Precise` numbers.

    The other leaves keep their data. With `derivative` it proves a gradient: derivative(replay(y, [x]), [x.data], 0).

    >>> x = Value(3.0)
    >>> y = x * x + 1.0
    >>> replay(y, [x])(10.0)
    101.0
    """
    order = topological_order(output)

    def run(*args: Any) -> Any:
        values: dict[Any, Any] = dict(zip(inputs, args, strict=True))
        for node in order:
            if node not in values:
                operands = [values[x] if isinstance(x, Value) else x for x in node.operands]
                values[node] = node.data if node.op is None else node.op(*operands)
        return values[output]

    return run


# --- where to evaluate --------------------------------------------------------------------------------------------


def points(op: Op, count: int, rng: random.Random) -> Iterator[tuple[float, ...]]:
    """Points all over the domain of a row: every magnitude, whole numbers and halves and their neighbours, the ends.

    A variadic row gets two arguments; often they are of one magnitude. Not every point need have a value: x**y may
    overflow.
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


def arguments(op: Op) -> SearchStrategy[tuple[float, ...]]:
    """A Hypothesis strategy: points of the domain of a row; two arguments for a variadic row."""
    st = _needs("hypothesis").strategies
    each = []
    for low, high in domains(op):
        whole = st.integers(math.ceil(max(low, -400)), math.floor(min(high, 400))).map(float)
        each.append(st.one_of(whole, st.floats(low, high)).map(lambda x: x + 0.0))  # no -0.0
    strategy: SearchStrategy[tuple[float, ...]] = st.tuples(*each)
    return strategy


def programs(
    rows: Sequence[Op] = (), *, max_inputs: int = 3, max_steps: int = 8, kinks: bool = False
) -> SearchStrategy[Program]:
    """A Hypothesis strategy: random differentiable programs, each with a point to evaluate it at.

    Directed acyclic graphs of the given rows (all smooth rows of the table if none are given; with `kinks`, all rows)
    with shared nodes, repeated operands, constants, and inputs and steps that nothing depends on. At its point every
    number and every local derivative is at most `LARGE`, and every operand is `MARGIN` away from kinks, poles and the
    ends of domains. Rows of one's own are welcome.
    """
    hypothesis = _needs("hypothesis")
    st = hypothesis.strategies
    table = list(rows) or [op for op in ops.TABLE.values() if op.smooth or kinks]
    ranges = [(0.125, 0.875), (1.125, 4.0), (-0.875, -0.125), (-4.0, -1.125)]
    inputs = st.lists(st.one_of([st.floats(*ends) for ends in ranges]), min_size=1, max_size=max_inputs)
    constants = st.one_of(st.sampled_from([1.0, 2.0, 3.0, -1.0, 0.5, 0.0]), *[st.floats(*ends) for ends in ranges])

    def build(draw: Any) -> Program:
        values = draw(inputs)
        point, steps = tuple(values), []
        for _ in range(draw(st.integers(1, max_steps))):
            last = len(values) - 1
            variable = st.one_of(st.integers(max(0, last - 2), last), st.integers(0, last))
            operands = [draw(variable), *draw(st.tuples(*[st.one_of(variable, constants)] * 3))]
            if draw(st.booleans()):
                operands[0], operands[1] = operands[1], operands[0]
            fitting = []
            for op in table:
                limits = domains(op)
                chosen = tuple(low if low == high else x for x, (low, high) in zip(operands, limits))
                if any(isinstance(x, int) for x in chosen) and _tame(op, chosen, values):
                    fitting.append((op, chosen))
            if fitting:
                op, chosen = draw(st.sampled_from(fitting))
                steps.append((op, chosen))
                values.append(op(*[values[x] if isinstance(x, int) else x for x in chosen]))
        hypothesis.assume(steps)
        return Program(tuple(steps), point)

    strategy: SearchStrategy[Program] = st.composite(build)()
    return strategy


def _tame(op: Op, operands: tuple[int | float, ...], values: Sequence[float]) -> bool:
    """Whether a row may be applied there: moderate numbers, and nothing abrupt within the margin."""
    args = [values[x] if isinstance(x, int) else x for x in operands]
    margins = [MARGIN * max(1.0, abs(x)) if isinstance(i, int) else 0.0 for i, x in zip(operands, args)]
    for x, margin, (low, high) in zip(args, margins, domains(op, len(args))):
        if not low + margin <= x <= high - margin:
            return False
    try:
        out, slopes = _local(op, args, margins)
        if not all(abs(x) <= LARGE for x in (out, *slopes)):
            return False
        for signs in itertools.product((-1, 1), repeat=len(args)):
            shifts = [sign * margin for sign, margin in zip(signs, margins)]
            there, others = _local(op, [x + shift for x, shift in zip(args, shifts)], margins)
            error = abs(there - out - math.fsum(p * shift for p, shift in zip(slopes, shifts)))
            turn = max(abs(p - q) / (1 + abs(p)) for p, q in zip(slopes, others))
            if not (op.smooth or (error <= MARGIN / 4 * (1 + abs(out)) and turn <= 0.25)):
                return False
    except (ArithmeticError, ValueError):
        return False
    return True


def _local(op: Op, args: Sequence[float], margins: Sequence[float]) -> tuple[float, list[float]]:
    """The value of a row and its slopes along the variable operands, 0 along constants."""
    out = op.forward(*args)
    return out, [p if margin else 0.0 for p, margin in zip(op.partials(out, *args), margins)]

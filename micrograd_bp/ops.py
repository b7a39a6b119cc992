"""The table of operations: all that is known of an operation stands in its row.

A row gives the value (`forward`) and the local derivatives (`partials`). A rule is written with operators and
other rows only, so the same rule runs on floats (`backward`), on Values (`gradients`, to any order) and on names
(the formula in a document). A new operation is one more row:

>>> softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
>>> softsign(1.0)
0.5
"""

from __future__ import annotations

import builtins
import inspect
import math
import operator
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from micrograd_bp._engine import special as _forward

MAX = 1.7976931348623157e308  # the largest float
TINY = 5e-324  # the smallest
EPS = 2.0**-53  # between 1 and the float below it
ANY = (-MAX, MAX)
TWO, POSITIVE, UNIT = (ANY, ANY), ((TINY, MAX),), ((-1.0, 1.0),)
RECORDINGS: list[Any] = []  # of a function that `jit` records now: one at most; see micrograd_bp.compiler.tracing
# The variables of the functions that transforms and `jit` record now, in all threads: each one's thread and variables.
# No lock, since a fork might leave it locked: an entry is put in, taken out and listed by single operations of a dict.
VARIABLES: dict[object, tuple[int, Any]] = {}
LN2, LN10 = math.log(2.0), math.log(10.0)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """An operation on real numbers, of any arity, and its derivative: one row of the table.

    Called on numbers it returns a float; with a Value among the arguments it returns a Value and records itself.
    Trailing arguments with a default in `partials` may be left out. TypeError: a wrong number of arguments, or one
    that is no real number.
    """

    name: str  # the public function's name
    symbol: str  # how a drawing or a formula shows it
    forward: Callable[..., float]
    partials: Callable[..., tuple[Any, ...]]  # (out, *args) -> d out / d arg, one per argument
    domain: tuple[tuple[float, float], ...] = (ANY,)  # where tests sample each argument; the last repeats
    smooth: bool = True  # False: a kink or a jump somewhere in the domain
    # `forward` for the compiler: an LLVM instruction, intrinsic or function of C's math.h ("~": to 4 ulp, not to the
    # bit); or an equal program in simpler rows; or neither: `forward` itself is run on Values or, failing that, called.
    native: str = ""
    expansion: Callable[..., Any] | None = None
    parameters: tuple[str, ...] = field(init=False)
    arity: int | None = field(init=False)  # None: any number of arguments
    defaults: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        signature = list(inspect.signature(self.partials).parameters.values())[1:]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in signature)
        object.__setattr__(self, "parameters", tuple(p.name for p in signature))
        object.__setattr__(self, "arity", None if variadic else len(signature))
        object.__setattr__(self, "defaults", tuple(p.default for p in signature if p.default is not p.empty))

    def __call__(self, *args: Any) -> Any:
        """The operation's value: a float for numbers, a Value where one is among the arguments."""
        if len(args) != self.arity:
            args = self._complete(args)
        taker = None
        for arg in args:
            if type(arg) is not float:
                if not hasattr(type(arg), "_record"):  # as Values and names have, to take part in a row
                    return self(*[x if hasattr(type(x), "_record") else number(x, self.name) for x in args])
                taker = arg
        return self.forward(*args) if taker is None else taker._record(self, args)

    def _complete(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with the defaults filled in, or a TypeError that says how many there should be."""
        if self.arity is None:
            return args
        missing = self.arity - len(args)
        if not 0 <= missing <= len(self.defaults):
            expected = f"{self.arity} argument{'s' * (self.arity != 1)} ({', '.join(self.parameters)})"
            raise TypeError(f"{self.name} takes {expected}, not {len(args)}")
        return args + self.defaults[len(self.defaults) - missing :]

    def failure(self, error: Exception, operands: tuple[Any, ...]) -> Exception:
        """The same exception, saying which operation failed on which numbers (and labels)."""
        for recording in RECORDINGS:
            recording.raised(self, operands, error)
        labels = (f"{x.label}=" if getattr(x, "label", "") else "" for x in operands)
        shown = ", ".join(f"{label}{getattr(x, '_data', x)!r}" for label, x in zip(labels, operands))
        if type(error) in (ZeroDivisionError, OverflowError, ValueError):
            return type(error)(f"{self.name}({shown}): {''.join(map(str, error.args[-1:]))}")
        error.add_note(f"raised by {self.name}({shown})")
        return error

    def __repr__(self) -> str:
        return f"<Op {self.name}({', '.join(self.parameters)})>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if TABLE.get(self.name) is self:
            return self.name  # pickled as the row of this table
        rule = (self.name, self.symbol, self.forward, self.partials)
        return Op, (*rule, self.domain, self.smooth, self.native, self.expansion)


def number(x: Any, taker: str = "Value") -> float:
    """x as a float; TypeError where it is no real number."""
    if type(x) is float:
        return x
    recorded = hasattr(type(x), "_record")  # a Value is registered as a Real, too
    if type(x) is int or (isinstance(x, Real) and not recorded) or type(x).__name__ in ("bool", "bool_"):
        return float(x)  # NumPy's bool is no Real
    advice = "take its .data for the number, or use it as it is" if recorded else "pass a real number"
    verb = "hold" if taker == "Value" else "take"
    raise TypeError(f"{taker} cannot {verb} {reprlib.repr(x)} ({type(x).__name__}); {advice}")


def choose(c: Any, f: Callable[[Any], Any], g: Callable[[Any], Any], x: Any) -> Any:
    """f(x) where c, else g(x); settled at once where the condition is a plain number: a constant exponent, say."""
    if isinstance(c, float):
        return f(x) if c else g(x)
    return where(c, f(x), g(x))


# fmt: off
# --- arithmetic ---------------------------------------------------------------------------------------------------

add: Op = Op("add", "+", operator.add, lambda out, x, y: (1.0, 1.0), TWO, native="fadd")
sub: Op = Op("sub", "-", operator.sub, lambda out, x, y: (1.0, -1.0), TWO, native="fsub")
mul: Op = Op("mul", "*", operator.mul, lambda out, x, y: (y, x), TWO, native="fmul")
truediv: Op = Op("truediv", "/", operator.truediv, lambda out, x, y: (1.0 / y, -out / y), TWO, native="fdiv")
floordiv: Op = Op("floordiv", "//", operator.floordiv, lambda out, x, y: (0.0, 0.0), TWO, smooth=False,
                  expansion=lambda x, y: _whole((x - fmod(x, y)) / y - _wraps(fmod(x, y), y), x / y))
mod: Op = Op("mod", "%", operator.mod, lambda out, x, y: (1.0, -(x // y)), TWO, smooth=False,
             expansion=lambda x, y: where(m := fmod(x, y), where(_wraps(m, y), m + y, m), copysign(0.0, y)))
neg: Op = Op("neg", "-", operator.neg, lambda out, x: (-1.0,), native="fneg")
pos: Op = Op("pos", "+", operator.pos, lambda out, x: (1.0,), expansion=lambda x: x)
abs: Op = Op("abs", "abs", operator.abs, lambda out, x: (sign(x),), smooth=False, native="llvm.fabs")
# y * x**(y - 1) is off by many ulp where y - 1 is rounded; there y * out / x is not, and neither over- nor underflows.
pow: Op = Op("pow", "**", _forward.real_pow,
             lambda out, x, y: (choose(less(y, 0.5) * (y % 1.0) + less(2.0**53, abs(y)),
                                       lambda p: where(x, ieee_div(y * out, x), p), lambda p: p,
                                       chain(y, ieee_pow(x, y - 1.0))),
                                chain(choose(x, lambda out: out, lambda out: where(step(y), out, -x), out),
                                      ieee_log(x))),  # 0**0 by y: 0
             ((0.0, MAX), ANY), native="pow")
fma: Op = Op("fma", "fma", getattr(math, "fma", _forward.fma), lambda out, x, y, z: (y, x, 1.0), (ANY, ANY, ANY),
             native="llvm.fma")
fsum: Op = Op("fsum", "fsum", lambda *args: math.fsum(args), lambda out, *args: (1.0,) * len(args), TWO)
net_input: Op = Op("net_input", "Σ", _forward.net_input,
                   lambda out, *args: ((1.0,) * (b := len(args) % 2) + args[len(args) // 2 + b :]
                                       + args[b : len(args) // 2 + b]), TWO)
sumprod: Op = Op("sumprod", "sumprod", _forward.sumprod,
                 lambda out, *args: args[len(args) // 2 :] + args[: len(args) // 2], TWO)

# --- exponentials, logarithms, roots ------------------------------------------------------------------------------

EXP = ((-MAX, 709.782712893384),)  # beyond, it overflows

exp: Op = Op("exp", "exp", math.exp, lambda out, x: (out,), EXP, native="exp")
exp2: Op = Op("exp2", "exp2", math.exp2, lambda out, x: (out * LN2,), ((-MAX, 1024.0 - 2.0**-43),), native="exp2")
expm1: Op = Op("expm1", "expm1", math.expm1, lambda out, x: (exp(x),), EXP, native="expm1")
log: Op = Op("log", "log", math.log, lambda out, x: (1.0 / x,), POSITIVE, native="log")
log2: Op = Op("log2", "log2", math.log2, lambda out, x: (1.0 / LN2 / x,), POSITIVE, native="log2")
log10: Op = Op("log10", "log10", math.log10, lambda out, x: (1.0 / LN10 / x,), POSITIVE, native="log10")
log1p: Op = Op("log1p", "log1p", math.log1p, lambda out, x: (1.0 / (1.0 + x),), ((-1.0 + EPS, MAX),), native="log1p")
sqrt: Op = Op("sqrt", "sqrt", math.sqrt, lambda out, x: (ieee_div(0.5, out),), ((0.0, MAX),), native="llvm.sqrt")
cbrt: Op = Op("cbrt", "cbrt", math.cbrt, lambda out, x: (ieee_div(ieee_div(1.0 / 3.0, r := true_cbrt(x)), r),),
              native="cbrt")
square: Op = Op("square", "square", lambda x: x * x, lambda out, x: (2.0 * x,))
reciprocal: Op = Op("reciprocal", "reciprocal", lambda x: 1.0 / x, lambda out, x: (-out * out,))
logaddexp: Op = Op("logaddexp", "logaddexp", _forward.logaddexp,
                   lambda out, x, y: (where(c := abs(compare(x, y)) + less(abs(x), math.inf), sigmoid(x - y), 0.5),
                                      where(c, sigmoid(y - x), 0.5)),  # c: not the same infinity twice
                   TWO, expansion=lambda x, y: where(compare(x, y), maximum(x, y) + log1p(exp(-abs(x - y))), x + LN2))
ldexp: Op = Op("ldexp", "ldexp", _forward.ldexp, lambda out, x, n: (ieee_pow(2.0, n), out * LN2),
               (ANY, (-1000.0, 1000.0)))

# --- trigonometry -------------------------------------------------------------------------------------------------

COSH = ((-710.4758600739439, 710.4758600739439),)  # beyond, it overflows

sin: Op = Op("sin", "sin", math.sin, lambda out, x: (cos(x),), native="sin")
cos: Op = Op("cos", "cos", math.cos, lambda out, x: (-sin(x),), native="cos")
tan: Op = Op("tan", "tan", math.tan, lambda out, x: (1.0 + out * out,), native="tan")
asin: Op = Op("asin", "asin", math.asin,
                  lambda out, x: (ieee_div(1.0, sqrt((1.0 - x) * (1.0 + x))),), UNIT, native="asin")
acos: Op = Op("acos", "acos", math.acos,
                  lambda out, x: (-ieee_div(1.0, sqrt((1.0 - x) * (1.0 + x))),), UNIT, native="acos")
atan: Op = Op("atan", "atan", math.atan, lambda out, x: (1.0 / (1.0 + x * x),), native="atan")
atan2: Op = Op("atan2", "atan2", math.atan2, lambda out, y, x: (_inverted(x, y), -_inverted(y, x)), TWO, native="atan2")
hypot: Op = Op("hypot", "hypot", math.hypot, lambda out, *args: _normed(out, args), TWO, native="~hypot")
degrees: Op = Op("degrees", "degrees", lambda x: x * (180.0 / math.pi), lambda out, x: (180.0 / math.pi,))
radians: Op = Op("radians", "radians", lambda x: x * (math.pi / 180.0), lambda out, x: (math.pi / 180.0,))
sinh: Op = Op("sinh", "sinh", math.sinh, lambda out, x: (cosh(x),), COSH, native="sinh")
cosh: Op = Op("cosh", "cosh", math.cosh, lambda out, x: (sinh(x),), COSH, native="cosh")
tanh: Op = Op("tanh", "tanh", math.tanh, lambda out, x: (1.0 - out * out,), native="tanh")
asinh: Op = Op("asinh", "asinh", math.asinh, lambda out, x: (1.0 / hypot(1.0, x),), native="asinh")
acosh: Op = Op("acosh", "acosh", math.acosh, lambda out, x: (ieee_div(1.0, sqrt(x - 1.0) * sqrt(x + 1.0)),),
               ((1.0, MAX),), native="acosh")
atanh: Op = Op("atanh", "atanh", math.atanh, lambda out, x: (1.0 / ((1.0 - x) * (1.0 + x)),),
               ((-1.0 + EPS, 1.0 - EPS),), native="atanh")

# --- error function, gamma function -------------------------------------------------------------------------------

erf: Op = Op("erf", "erf", math.erf, lambda out, x: (2.0 / math.sqrt(math.pi) * exp(-x * x),), native="erf")
erfc: Op = Op("erfc", "erfc", math.erfc, lambda out, x: (-2.0 / math.sqrt(math.pi) * exp(-x * x),), native="erfc")
gamma: Op = Op("gamma", "gamma", math.gamma, lambda out, x: (true_gamma(x) * digamma(x),),
                ((-MAX, 171.6243769563027),), native="~tgamma")
lgamma: Op = Op("lgamma", "lgamma", math.lgamma, lambda out, x: (digamma(x),))
digamma: Op = Op("digamma", "digamma", lambda x: _forward.polygamma(0, x), lambda out, x: (polygamma(1.0, x),))
polygamma: Op = Op("polygamma", "polygamma", _forward.polygamma, lambda out, n, x: (math.nan, polygamma(n + 1.0, x)),
                   ((0.0, 0.0), ANY))  # an order from 0 to 170 is proved too

# --- comparison, choice, rounding; flat or kinked -----------------------------------------------------------------

maximum: Op = Op("maximum", "max", lambda x, y: x if x >= y else y if y > x else x + y,
                 lambda out, x, y: (0.5 + 0.5 * (c := compare(x, y)), 0.5 - 0.5 * c), TWO, smooth=False,
                 expansion=lambda x, y: where(less_equal(y, x), x, where(less(x, y), y, x + y)))
minimum: Op = Op("minimum", "min", lambda x, y: x if x <= y else y if y < x else x + y,
                 lambda out, x, y: (0.5 - 0.5 * (c := compare(x, y)), 0.5 + 0.5 * c), TWO, smooth=False,
                 expansion=lambda x, y: where(less_equal(x, y), x, where(less(y, x), y, x + y)))
clip: Op = Op("clip", "clip", lambda x, low, high: minimum(maximum(x, low), high),
              lambda out, x, low, high: ((h := 0.5 + 0.5 * (b := compare(high, maximum(x, low))))
                                         * (0.5 + 0.5 * (c := compare(x, low))), h * (0.5 - 0.5 * c), 0.5 - 0.5 * b),
              (ANY, ANY, ANY), smooth=False)
where: Op = Op("where", "where", lambda c, x, y: x if c else y,
               lambda out, c, x, y: (0.0, where(c, 1.0, 0.0), where(c, 0.0, 1.0)), (ANY, ANY, ANY), smooth=False,
               native="select")
less: Op = Op("less", "<", lambda x, y: 1.0 if x < y else 0.0, lambda out, x, y: (0.0, 0.0), TWO, smooth=False,
              native="fcmp olt")
less_equal: Op = Op("less_equal", "<=", lambda x, y: 1.0 if x <= y else 0.0, lambda out, x, y: (0.0, 0.0), TWO,
                    smooth=False, native="fcmp ole")
compare: Op = Op("compare", "<=>", lambda x, y: 1.0 if x > y else -1.0 if x < y else 0.0 if x == y else math.nan,
                 lambda out, x, y: (0.0, 0.0), TWO, smooth=False,
                 expansion=lambda x, y: where(less(y, x), 1.0,
                                              where(less(x, y), -1.0, where(less_equal(x, y), 0.0, math.nan))))
sign: Op = Op("sign", "sign", lambda x: 1.0 if x > 0.0 else -1.0 if x < 0.0 else x, lambda out, x: (0.0,),
                  smooth=False, expansion=lambda x: where(less(0.0, x), 1.0, where(less(x, 0.0), -1.0, x)))
step: Op = Op("step", "step", lambda x: 1.0 if x > 0.0 else 0.0 if x <= 0.0 else x, lambda out, x: (0.0,), smooth=False,
              expansion=lambda x: where(less(0.0, x), 1.0, where(less_equal(x, 0.0), 0.0, x)))
copysign: Op = Op("copysign", "copysign", math.copysign,
                  lambda out, x, y: (copysign(1.0, x) * copysign(1.0, y), 0.0), TWO, smooth=False,
                  native="llvm.copysign")
fmod: Op = Op("fmod", "fmod", math.fmod, lambda out, x, y: (1.0, ieee_div(out - x, y)), TWO, smooth=False,
              native="frem")
remainder: Op = Op("remainder", "remainder", math.remainder,  # out - x may overflow
                   lambda out, x, y: (1.0, ieee_div(out * (s := rescale(abs(x))) - x * s, y * s)), TWO, smooth=False,
                   native="remainder")
floor: Op = Op("floor", "floor", _forward.floor, lambda out, x: (0.0,), smooth=False, native="llvm.floor")

# --- activations --------------------------------------------------------------------------------------------------

relu: Op = Op("relu", "relu", lambda x: 0.0 if x <= 0.0 else x, lambda out, x: (step(x),), smooth=False,
              expansion=lambda x: where(less_equal(x, 0.0), 0.0, x))
leaky_relu: Op = Op("leaky_relu", "leaky_relu", lambda x, slope: x if x > 0.0 else slope * x,
                    lambda out, x, slope=0.01: (where(step(x), 1.0, slope), where(step(x), 0.0, x)),
                    TWO, smooth=False, expansion=lambda x, slope: where(less(0.0, x), x, slope * x))
elu: Op = Op("elu", "elu", lambda x, alpha: x if x > 0.0 else alpha * math.expm1(x),
             lambda out, x, alpha=1.0: (where(c := step(x), 1.0, alpha * exp(m := minimum(x, 0.0))),
                                        where(c, 0.0, expm1(m))),
             TWO, smooth=False,
             expansion=lambda x, alpha: where(less(0.0, x), x, alpha * expm1(minimum(x, 0.0))))
gelu: Op = Op("gelu", "gelu", lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2.0)),
              lambda out, x: (0.5 * erfc(-x / math.sqrt(2.0)) + x * exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi),),
              expansion=lambda x: 0.5 * x * erfc(-x / math.sqrt(2.0)))
sigmoid: Op = Op("sigmoid", "sigmoid", _forward.sigmoid, lambda out, x: (out * (1.0 - out),),
                 expansion=lambda x: where(less(x, 0.0), exp(-abs(x)), 1.0) / (1.0 + exp(-abs(x))))
silu: Op = Op("silu", "silu", lambda x: x * _forward.sigmoid(x), lambda out, x: (sigmoid(x) + out * sigmoid(-x),),
              expansion=lambda x: x * sigmoid(x))
softplus: Op = Op("softplus", "softplus", lambda x: (x if x > 0.0 else 0.0) + math.log1p(math.exp(-builtins.abs(x))),
                  lambda out, x: (sigmoid(x),), expansion=lambda x: where(less(0.0, x), x, 0.0) + log1p(exp(-abs(x))))
log_sigmoid: Op = Op("log_sigmoid", "log_sigmoid",
                     lambda x: (x if x < 0.0 else 0.0) - math.log1p(math.exp(-builtins.abs(x))),
                     lambda out, x: (sigmoid(-x),),
                     expansion=lambda x: where(less(x, 0.0), x, 0.0) - log1p(exp(-abs(x))))

# --- for rules: the chain rule's product, in which 0 wins; IEEE 754 arithmetic that never raises; others ------------

chain: Op = Op("chain", "*", lambda g, p: g * p if g and p else 0.0, lambda out, g, p: (p, g), TWO,
               native="~fmul", expansion=lambda g, p: where(g, where(p, g * p, 0.0), 0.0))
ieee_div: Op = Op("ieee_div", "/", _forward.ieee_div, lambda out, x, y: (ieee_div(1.0, y), -ieee_div(out, y)), TWO,
                  native="fdiv")
ieee_log: Op = Op("ieee_log", "log", _forward.ieee_log, lambda out, x: (ieee_div(1.0, x),), POSITIVE, native="log")
ieee_pow: Op = Op("ieee_pow", "**", _forward.ieee_pow,
                  lambda out, x, y: (pow.partials(out, x, y)[0], chain(out, ieee_log(x))), pow.domain, native="pow")
true_cbrt: Op = Op("true_cbrt", "cbrt", _forward.true_cbrt, lambda out, x: (ieee_div(ieee_div(1.0 / 3.0, out), out),),
                   expansion=lambda x: where(x, where(less(abs(x), math.inf), _newton(cbrt(x), x), x), x))
true_gamma: Op = Op("true_gamma", "gamma", _forward.true_gamma, lambda out, x: (out * digamma(x),), gamma.domain,
                    native="~tgamma")
rescale: Op = Op("rescale", "rescale", lambda h: where(less(h, 2.0**-900), 2.0**600,
                                                       where(less(2.0**900, h), 2.0**-600, 1.0)),
                 lambda out, h: (0.0,), smooth=False)
# Added to a slope that is 0 by convention at a tip, as hypot's at the origin: it has no derivative there.
corner: Op = Op("corner", "corner", lambda h, *args: 0.0,
                lambda out, h, *args: (0.0, *[ieee_div(0.0, h) for _ in args]), (POSITIVE[0], ANY),
                smooth=False, expansion=lambda h, *args: 0.0)
# fmt: on


def _normed(h: Any, args: Any) -> Any:
    """The arguments over their hypot h, by way of middling numbers: h may overflow, or be subnormal and inexact."""
    scaled = [x * rescale(h) for x in args]
    radius = where(h, hypot(*scaled), 1.0)
    tip = corner(h, *args)
    return tuple(ieee_div(x, radius) + tip for x in scaled)


def _inverted(x: Any, y: Any) -> Any:
    """x / (x**2 + y**2) by way of the smaller ratio, since a square may be no float; 0 at the origin."""
    steep = ieee_div((r := ieee_div(x, y)) / (1.0 + r * r), y)
    flat = ieee_div(1.0 / (1.0 + (t := ieee_div(y, x)) * t), x)
    return where(less(abs(x), abs(y)), steep, where(x, flat, corner(abs(x) + abs(y), x, y)))


def _newton(root: Any, x: Any) -> Any:
    """A cube root of x by a step of Newton's method."""
    return root - (root - ieee_div(x, root * root)) / 3.0


def _wraps(m: Any, y: Any) -> Any:
    """1 where Python's remainder differs from C's remainder m by y: they have opposite signs."""
    return less(sign(m) * sign(y), 0.0)


def _whole(quotient: Any, ratio: Any) -> Any:
    """A quotient that is whole but for rounding, made whole; a zero takes the sign of the ratio."""
    whole = floor(quotient)
    return where(quotient, whole + less(0.5, quotient - whole), copysign(0.0, ratio))


TABLE = {op.name: op for op in list(globals().values()) if isinstance(op, Op)}

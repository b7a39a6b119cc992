"""The table of operations: all that is known of an operation stands in its row.

A row gives a name, how pictures show it, the value, and the rule: from the value `out` and the arguments, the
derivative by each argument, as a textbook has it. The value is a function of Python's or a formula in other rows. Rules
and formulas are written with operators and other rows only, so that the same text runs on floats (`backward`), on
Values (`gradients`, to any order) and on names (the formula in a document), and is written out as C and as machine
code. A new operation is one more row:

>>> softsign = Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
>>> softsign(1.0)
0.5
"""

from __future__ import annotations

import math
import operator
from typing import Any

from micrograd_bp._engine import native, special, symbolic
from micrograd_bp._engine.ieee import choose
from micrograd_bp._engine.op import ANY, MAX, TINY, Op, number
from micrograd_bp._engine.operand import TABLE, Operand

__all__ = ["ANY", "MAX", "TABLE", "TINY", "Op", "Operand", "number"]  # and every row

EPS = 2.0**-53  # between 1 and the float below it
TWO, POSITIVE, UNIT = (ANY, ANY), ((TINY, MAX),), ((-1.0, 1.0),)
LN2, LN10, SQRT2 = math.log(2.0), math.log(10.0), math.sqrt(2.0)

# fmt: off
# --- arithmetic ---------------------------------------------------------------------------------------------------

add: Op = Op("add", "+", operator.add, lambda out, x, y: (1.0, 1.0), TWO, native="fadd")
sub: Op = Op("sub", "-", operator.sub, lambda out, x, y: (1.0, -1.0), TWO, native="fsub")
mul: Op = Op("mul", "*", operator.mul, lambda out, x, y: (y, x), TWO, native="fmul")
truediv: Op = Op("truediv", "/", operator.truediv, lambda out, x, y: (1.0 / y, -out / y), TWO, native="fdiv")
floordiv: Op = Op("floordiv", "//", operator.floordiv, lambda out, x, y: (0.0, 0.0), TWO, smooth=False,
                  decomposition=lambda x, y: _whole((x - fmod(x, y)) / y - _wraps(fmod(x, y), y), x / y))
mod: Op = Op("mod", "%", operator.mod, lambda out, x, y: (1.0, -(x // y)), TWO, smooth=False,
             decomposition=lambda x, y: where(m := fmod(x, y), where(_wraps(m, y), m + y, m), copysign(0.0, y)))
neg: Op = Op("neg", "-", operator.neg, lambda out, x: (-1.0,), native="fneg")
pos: Op = Op("pos", "+", operator.pos, lambda out, x: (1.0,), decomposition=lambda x: x)
abs: Op = Op("abs", "abs", operator.abs, lambda out, x: (sign(x),), smooth=False, native="llvm.fabs")
pow: Op = Op("pow", "**", special.real_pow, lambda out, x, y: (power_slope(out, x, y), power_growth(out, x, y)),
             ((0.0, MAX), ANY), native="pow")
fma: Op = Op("fma", "fma", getattr(math, "fma", special.fma), lambda out, x, y, z: (y, x, 1.0), (ANY, ANY, ANY),
             native="llvm.fma")
fsum: Op = Op("fsum", "fsum", special.fsum, lambda out, *args: (1.0,) * len(args), TWO)
net_input: Op = Op("net_input", "Σ", special.net_input,
                   lambda out, *args: ((1.0,) * (b := len(args) % 2) + args[len(args) // 2 + b :]
                                       + args[b : len(args) // 2 + b]), TWO)
sumprod: Op = Op("sumprod", "sumprod", special.sumprod,
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
sqrt: Op = Op("sqrt", "sqrt", math.sqrt, lambda out, x: (0.5 / out,), ((0.0, MAX),), native="llvm.sqrt")
cbrt: Op = Op("cbrt", "cbrt", math.cbrt, lambda out, x: (1.0 / 3.0 / true_cbrt(x) / true_cbrt(x),), native="cbrt")
square: Op = Op("square", "square", lambda x: x * x, lambda out, x: (2.0 * x,))
reciprocal: Op = Op("reciprocal", "reciprocal", lambda x: 1.0 / x, lambda out, x: (-out * out,))
logaddexp: Op = Op("logaddexp", "logaddexp", lambda x, y: maximum(x, y) + log1p(exp(-abs(gap(x, y)))),
                   lambda out, x, y: (sigmoid(gap(x, y)), sigmoid(gap(y, x))), TWO)
ldexp: Op = Op("ldexp", "ldexp", special.ldexp, lambda out, x, n: (2.0**n, out * LN2), (ANY, (-1000.0, 1000.0)))

# --- trigonometry -------------------------------------------------------------------------------------------------

COSH = ((-710.4758600739439, 710.4758600739439),)  # beyond, it overflows

sin: Op = Op("sin", "sin", math.sin, lambda out, x: (cos(x),), native="sin")
cos: Op = Op("cos", "cos", math.cos, lambda out, x: (-sin(x),), native="cos")
tan: Op = Op("tan", "tan", math.tan, lambda out, x: (1.0 + out * out,), native="tan")
asin: Op = Op("asin", "asin", math.asin, lambda out, x: (1.0 / sqrt((1.0 - x) * (1.0 + x)),), UNIT, native="asin")
acos: Op = Op("acos", "acos", math.acos, lambda out, x: (-1.0 / sqrt((1.0 - x) * (1.0 + x)),), UNIT, native="acos")
atan: Op = Op("atan", "atan", math.atan, lambda out, x: (1.0 / (1.0 + x * x),), native="atan")
atan2: Op = Op("atan2", "atan2", math.atan2, lambda out, y, x: (x / (x * x + y * y), -y / (x * x + y * y)), TWO,
               native="atan2", degree=0)
hypot: Op = Op("hypot", "hypot", math.hypot, lambda out, *args: special.over(args, hypot(*args)), TWO,
               native="hypot", exact=False, degree=1)
degrees: Op = Op("degrees", "degrees", lambda x: x * (180.0 / math.pi), lambda out, x: (180.0 / math.pi,))
radians: Op = Op("radians", "radians", lambda x: x * (math.pi / 180.0), lambda out, x: (math.pi / 180.0,))
sinh: Op = Op("sinh", "sinh", math.sinh, lambda out, x: (cosh(x),), COSH, native="sinh")
cosh: Op = Op("cosh", "cosh", math.cosh, lambda out, x: (sinh(x),), COSH, native="cosh")
tanh: Op = Op("tanh", "tanh", math.tanh, lambda out, x: (1.0 - out * out,), native="tanh")
asinh: Op = Op("asinh", "asinh", math.asinh, lambda out, x: (1.0 / hypot(1.0, x),), native="asinh")
acosh: Op = Op("acosh", "acosh", math.acosh, lambda out, x: (1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)),), ((1.0, MAX),),
               native="acosh")
atanh: Op = Op("atanh", "atanh", math.atanh, lambda out, x: (1.0 / ((1.0 - x) * (1.0 + x)),),
               ((-1.0 + EPS, 1.0 - EPS),), native="atanh")

# --- error function, gamma function -------------------------------------------------------------------------------

erf: Op = Op("erf", "erf", math.erf, lambda out, x: (2.0 / math.sqrt(math.pi) * exp(-x * x),), native="erf")
erfc: Op = Op("erfc", "erfc", math.erfc, lambda out, x: (-2.0 / math.sqrt(math.pi) * exp(-x * x),), native="erfc")
gamma: Op = Op("gamma", "gamma", math.gamma, lambda out, x: (true_gamma(x) * digamma(x),),
                ((-MAX, 171.6243769563027),), native="tgamma", exact=False)
lgamma: Op = Op("lgamma", "lgamma", math.lgamma, lambda out, x: (digamma(x),))
digamma: Op = Op("digamma", "digamma", lambda x: polygamma(0.0, x), lambda out, x: (polygamma(1.0, x),))
polygamma: Op = Op("polygamma", "polygamma", special.polygamma, lambda out, n, x: (math.nan, polygamma(n + 1.0, x)),
                   ((0.0, 0.0), ANY))  # an order from 0 to 170 is proved too

# --- comparison, choice, rounding; flat or kinked -----------------------------------------------------------------

maximum: Op = Op("maximum", "max", lambda x, y: where(less_equal(y, x), x, where(less(x, y), y, x + y)),
                 lambda out, x, y: (share(x, y), share(y, x)), TWO, smooth=False)
minimum: Op = Op("minimum", "min", lambda x, y: where(less_equal(x, y), x, where(less(y, x), y, x + y)),
                 lambda out, x, y: (share(y, x), share(x, y)), TWO, smooth=False)
clip: Op = Op("clip", "clip", lambda x, low, high: minimum(maximum(x, low), high),
              lambda out, x, low, high: (share(high, m := maximum(x, low)) * share(x, low),
                                         share(high, m) * share(low, x), share(m, high)), (ANY, ANY, ANY), smooth=False)
where: Op = Op("where", "where", special.where,
               lambda out, c, x, y: (0.0, where(c, 1.0, 0.0), where(c, 0.0, 1.0)), (ANY, ANY, ANY), smooth=False,
               native="select")
less: Op = Op("less", "<", special.less, lambda out, x, y: (0.0, 0.0), TWO, smooth=False,
              native="fcmp olt")
less_equal: Op = Op("less_equal", "<=", special.less_equal, lambda out, x, y: (0.0, 0.0), TWO,
                    smooth=False, native="fcmp ole")
compare: Op = Op("compare", "<=>",
                 lambda x, y: where(less(y, x), 1.0, where(less(x, y), -1.0, where(less_equal(x, y), 0.0, math.nan))),
                 lambda out, x, y: (0.0, 0.0), TWO, smooth=False)
sign: Op = Op("sign", "sign", lambda x: where(less(0.0, x), 1.0, where(less(x, 0.0), -1.0, x)), lambda out, x: (0.0,),
              smooth=False)
step: Op = Op("step", "step", lambda x: where(less(0.0, x), 1.0, where(less_equal(x, 0.0), 0.0, x)),
              lambda out, x: (0.0,), smooth=False)
copysign: Op = Op("copysign", "copysign", math.copysign,
                  lambda out, x, y: (copysign(1.0, x) * copysign(1.0, y), 0.0), TWO, smooth=False,
                  native="llvm.copysign")
fmod: Op = Op("fmod", "fmod", math.fmod, lambda out, x, y: (1.0, (out - x) / y), TWO, smooth=False, native="frem")
remainder: Op = Op("remainder", "remainder", math.remainder, lambda out, x, y: (1.0, (out - x) / y), TWO,
                   smooth=False, native="remainder", degree=1)
floor: Op = Op("floor", "floor", special.floor, lambda out, x: (0.0,), smooth=False, native="llvm.floor")

# --- activations --------------------------------------------------------------------------------------------------

relu: Op = Op("relu", "relu", lambda x: where(less_equal(x, 0.0), 0.0, x), lambda out, x: (step(x),), smooth=False)
leaky_relu: Op = Op("leaky_relu", "leaky_relu", lambda x, slope: where(less(0.0, x), x, slope * x),
                    lambda out, x, slope=0.01: (where(step(x), 1.0, slope), where(step(x), 0.0, x)), TWO, smooth=False)
elu: Op = Op("elu", "elu", lambda x, alpha: where(less(0.0, x), x, alpha * expm1(minimum(x, 0.0))),
             lambda out, x, alpha=1.0: (where(c := step(x), 1.0, alpha * exp(m := minimum(x, 0.0))),
                                        where(c, 0.0, expm1(m))), TWO, smooth=False)
gelu: Op = Op("gelu", "gelu", lambda x: 0.5 * x * erfc(-x / SQRT2),
              lambda out, x: (0.5 * erfc(-x / SQRT2) + x * exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi),))
sigmoid: Op = Op("sigmoid", "sigmoid", lambda x: where(less(x, 0.0), t := exp(-abs(x)), 1.0) / (1.0 + t),
                 lambda out, x: (out * (1.0 - out),))
silu: Op = Op("silu", "silu", lambda x: x * sigmoid(x), lambda out, x: (sigmoid(x) + out * sigmoid(-x),))
softplus: Op = Op("softplus", "softplus", lambda x: where(less(0.0, x), x, 0.0) + log1p(exp(-abs(x))),
                  lambda out, x: (sigmoid(x),))
log_sigmoid: Op = Op("log_sigmoid", "log_sigmoid", lambda x: where(less(x, 0.0), x, 0.0) - log1p(exp(-abs(x))),
                     lambda out, x: (sigmoid(-x),))

# --- for rules only -----------------------------------------------------------------------------------------------

PUBLIC = tuple([op for op in list(globals().values()) if isinstance(op, Op)])

# The chain rule's product: 0 times anything is 0, an infinity too.
chain: Op = Op("chain", "*", lambda g, p: where(g, where(p, g * p, 0.0), 0.0), lambda out, g, p: (p, g), TWO,
               native="fmul", exact=False)
# Arithmetic as IEEE 754 has it: it gives inf or nan and never raises.
ieee_div: Op = Op("ieee_div", "/", special.ieee_div, lambda out, x, y: (1.0 / y, -out / y), TWO, native="fdiv")
ieee_log: Op = Op("ieee_log", "log", lambda x: where(less(0.0, x), log(x), where(x, math.nan, -math.inf)),
                  lambda out, x: (1.0 / x,), POSITIVE, native="log")
ieee_pow: Op = Op("ieee_pow", "**", special.ieee_pow,
                  lambda out, x, y: (power_slope(out, x, y), chain(out, ieee_log(x))), pow.domain, native="pow")
# C's cbrt and gamma may be off by 4 and 10 ulp, which their derivatives could not bear.
true_cbrt: Op = Op("true_cbrt", "cbrt", lambda x: where(x, where(less(abs(x), math.inf), newton(cbrt(x), x), x), x),
                   lambda out, x: (1.0 / 3.0 / out / out,))
true_gamma: Op = Op("true_gamma", "gamma", special.true_gamma, lambda out, x: (out * digamma(x),), gamma.domain,
                    native="tgamma", exact=False)
# What the larger of two numbers gets of a derivative: 1; the smaller 0; each 1/2 at a tie.
share: Op = Op("share", "share", lambda x, y: 0.5 + 0.5 * compare(x, y), lambda out, x, y: (0.0, 0.0), TWO,
                smooth=False)
# x - y, and 0 of the same infinity twice.
gap: Op = Op("gap", "-", lambda x, y: where(less_equal(x, y) * less_equal(y, x), 0.0, x - y),
             lambda out, x, y: (1.0, -1.0), TWO)
# A power of two that brings a number so near to 1 that it can be squared, and a quotient with it does not underflow.
rescale: Op = Op("rescale", "rescale",
                 lambda h: where(less(h, 2.0**-500), 2.0**600,
                                 where(less(h, 2.0**500), 1.0, where(less(h, 2.0**900), 2.0**-490, 2.0**-600))),
                 lambda out, h: (0.0,), smooth=False)
# Whether y - 1 is rounded, or may be: a fraction below 1/2, or a number beyond 2**53.
inexact: Op = Op("inexact", "inexact", lambda y: less(y, 0.5) * less(floor(y), y) + less(2.0**106, y * y),
                 lambda out, y: (0.0,), smooth=False)
# A slope that is 0 by convention where h, the size of the arguments, is 0: it has no derivative there.
corner: Op = Op("corner", "corner", lambda h, *args: 0.0, lambda out, h, *args: (0.0, *[0.0 / h for _ in args]),
                (POSITIVE[0], ANY), smooth=False)
# fmt: on


def power_slope(out: Any, x: Any, y: Any) -> Any:
    """y * x**(y - 1), which is off by many ulp where y - 1 is rounded; y * out / x is not, and does not overflow."""
    slope = chain(y, ieee_pow(x, y - 1.0))
    return choose(
        inexact(y), lambda slope: where(x, ieee_div(y * out, x), slope), lambda slope: slope, slope, usual=False
    )


def power_growth(out: Any, x: Any, y: Any) -> Any:
    """out * log(x), and 0 of 0**0."""
    growing = choose(x, lambda out: out, lambda out: where(step(y), out, -x), out, usual=True)
    return chain(growing, ieee_log(x))


def newton(root: Any, x: Any) -> Any:
    """A cube root of x by a step of Newton's method."""
    return root - (root - ieee_div(x, root * root)) / 3.0


def _wraps(m: Any, y: Any) -> Any:
    """1 where Python's remainder differs from C's remainder m by y: they have opposite signs."""
    return less(sign(m) * sign(y), 0.0)


def _whole(quotient: Any, ratio: Any) -> Any:
    """A quotient that is whole but for rounding, made whole; a zero takes the sign of the ratio."""
    whole = floor(quotient)
    return where(quotient, whole + less(0.5, quotient - whole), copysign(0.0, ratio))


TABLE.update((op.name, op) for op in list(globals().values()) if isinstance(op, Op))
native.compile_formulas()
symbolic.give_help()
__all__ += TABLE.keys()

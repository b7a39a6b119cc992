"""The table of machine instructions and C functions: all that the code generators know of them.

An op names in `native` what computes it: an instruction or intrinsic of LLVM's, or a function of C's math.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What an instruction or function computes, and what it does with special numbers."""

    c: str = ""  # C's expression, where it is not a call of the function by its name
    test: str = ""  # of a comparison: what is compared, in C and in Python
    llvm: bool = False  # an instruction of LLVM's that takes and gives numbers
    numpy: str = ""  # NumPy's function, if there is one
    bits: bool = False  # NumPy's function gives the same bits
    makes: bool = True  # the result may be inf or nan although all operands are finite
    tame: bool = False  # of finite operands the result is inf or nan by an overflow only
    passes: tuple[int, ...] = ()  # the operands of which inf or nan always makes the result inf or nan
    calm: bool = False  # Python's own function never raises
    neutral: tuple[tuple[int, float], ...] = ()  # (which operand, its value) for which the result is the other operand
    nearly_neutral: tuple[tuple[int, float], ...] = ()  # likewise, except that -0.0 becomes 0.0
    signs: bool = False  # the result differs, and is finite, for 0.0 and -0.0

    def text(self, name: str, operands: list[str]) -> str:
        """The expression in C."""
        return self.c.format(*operands) if self.c else f"{name.removeprefix('llvm.')}({', '.join(operands)})"


UNKNOWN = Instruction(signs=True)  # an op without native code
_arithmetic = partial(Instruction, llvm=True, bits=True)
_ring = partial(_arithmetic, tame=True, calm=True, passes=(0, 1))
_choice = partial(Instruction, bits=True, makes=False, tame=True, calm=True)
_bounded = partial(Instruction, makes=False, tame=True, calm=True)  # a finite result whatever the operand
_kept = partial(Instruction, makes=False, tame=True, passes=(0,))  # finite exactly where the operand is
_made = partial(Instruction, passes=(0,))  # not finite where the operand is not
INSTRUCTIONS = {
    "fadd": _ring(c="{} + {}", numpy="add", neutral=((0, -0.0), (1, -0.0)), nearly_neutral=((0, 0.0), (1, 0.0))),
    "fsub": _ring(c="{} - {}", numpy="subtract", neutral=((1, 0.0),)),
    "fmul": _ring(c="{} * {}", numpy="multiply", neutral=((0, 1.0), (1, 1.0))),
    "fdiv": _arithmetic(c="{} / {}", numpy="divide", passes=(0,), neutral=((1, 1.0),)),
    "frem": _arithmetic(c="fmod({}, {})", numpy="fmod", passes=(0,)),
    "fneg": _kept(c="-{}", numpy="negative", llvm=True, bits=True, calm=True),
    "select": _choice(c="{} != 0.0 ? {} : {}", numpy="where"),
    "fcmp olt": _choice(c="{} < {} ? 1.0 : 0.0", test="{} < {}", numpy="less"),
    "fcmp ole": _choice(c="{} <= {} ? 1.0 : 0.0", test="{} <= {}", numpy="less_equal"),
    "llvm.fabs": _kept(numpy="fabs", bits=True, calm=True),
    "llvm.copysign": _kept(numpy="copysign", bits=True, calm=True, signs=True),
    "llvm.floor": _kept(numpy="floor", bits=True),
    "llvm.sqrt": _made(numpy="sqrt", bits=True),
    "llvm.fma": Instruction(tame=True, passes=(0, 1, 2)),
    "exp": Instruction(numpy="exp"),
    "exp2": Instruction(numpy="exp2"),
    "expm1": Instruction(numpy="expm1"),
    "log": _made(numpy="log"),
    "log2": _made(numpy="log2"),
    "log10": _made(numpy="log10"),
    "log1p": _made(numpy="log1p"),
    "pow": Instruction(numpy="power", neutral=((1, 1.0),)),
    "cbrt": _kept(numpy="cbrt", calm=True),
    "hypot": Instruction(numpy="hypot"),
    "sin": _kept(numpy="sin"),
    "cos": _kept(numpy="cos"),
    "tan": _made(numpy="tan"),
    "asin": _made(numpy="arcsin"),
    "acos": _made(numpy="arccos"),
    "atan": _bounded(numpy="arctan"),
    "atan2": _bounded(numpy="arctan2", signs=True),
    "sinh": _made(numpy="sinh"),
    "cosh": _made(numpy="cosh"),
    "tanh": _bounded(numpy="tanh"),
    "asinh": _kept(numpy="arcsinh", calm=True),
    "acosh": _made(numpy="arccosh"),
    "atanh": _made(numpy="arctanh"),
    "erf": _bounded(),
    "erfc": _bounded(),
    "tgamma": Instruction(),
    "remainder": Instruction(),
}  # fmt: skip


def instruction(name: str) -> Instruction:
    """The entry for an instruction or function; `UNKNOWN` if the table has none of that name."""
    return INSTRUCTIONS.get(name, UNKNOWN if not name else Instruction())


# C functions for ops that C's math.h lacks; `forward` is Python that asks for the numbers. An op of any arity gets an
# array and its length. Sums are as if done in twice the precision (Ogita, Rump and Oishi, 2005), not exact.
C_FUNCTIONS = {
    "lgamma": "static double lgamma_op(double x)\n{\n    return lgamma(x);\n}\n",
    "ldexp": "static double ldexp_op(double x, double n)\n{\n"
    "    return ldexp(x, (int)fmax(-4200.0, fmin(floor(n), 4200.0))) * exp2(n - floor(n));\n}\n",
    "hypot": """static double hypot_op(int n, const double *x)
{
    double length = 0.0;
    for (int i = 0; i < n; i++)
        length = hypot(length, x[i]);
    return length;
}
""",
    "fsum": """static double fsum_op(int n, const double *x)
{
    double sum = 0.0, rest = 0.0;
    for (int i = 0; i < n; i++) {
        const double next = sum + x[i], part = next - sum;
        rest += (sum - (next - part)) + (x[i] - part);
        sum = next;
    }
    return isfinite(rest) ? sum + rest : sum;
}
""",
    "sumprod": """static double sumprod_op(int n, const double *x)
{
    double sum = 0.0, rest = 0.0;
    for (int i = 0; i < n / 2; i++) {
        const double product = x[i] * x[n / 2 + i], next = sum + product, part = next - sum;
        rest += fma(x[i], x[n / 2 + i], -product) + ((sum - (next - part)) + (product - part));
        sum = next;
    }
    return isfinite(rest) ? sum + rest : sum;
}
""",
    "polygamma": """static const double bernoulli[10] = {
    1.0 / 6.0, -1.0 / 30.0, 1.0 / 42.0, -1.0 / 30.0, 5.0 / 66.0,
    -691.0 / 2730.0, 7.0 / 6.0, -3617.0 / 510.0, 43867.0 / 798.0, -174611.0 / 330.0
};

/* n! (1 / x**(n + 1) + 1 / (x + 1)**(n + 1) + ...), for n > 0: steps upwards, then the asymptotic series. */
static double polygamma_sum(int n, double x)
{
    double sum = 0.0, first, ratio, series;
    for (; x < 20.0 + n; x += 1.0) {
        double power = 1.0 / x;
        for (int k = 1; k <= n; k++)
            power *= k / x;
        sum += power;
    }
    first = 1.0 / x; /* (n - 1)! / x**n: multiplied in turn, so that neither factor overflows */
    for (int k = 1; k < n; k++)
        first *= k / x;
    series = 1.0 + 0.5 * n / x;
    ratio = 0.5 * n / x * (n + 1) / x;
    for (int k = 1; k <= 10; k++) {
        series += bernoulli[k - 1] * ratio;
        ratio *= (n + 2.0 * k) / (2.0 * k + 1.0) / x * ((n + 2.0 * k + 1.0) / (2.0 * k + 2.0) / x);
    }
    return sum + first * series;
}

static double polygamma_op(double order, double x)
{
    const int n = (int)order;
    double sum = 0.0, power;
    if (n > 0) { /* below 0 by the sums at the distances from the nearest pole: no term is lost, no trigonometry */
        const double sign = n % 2 ? -1.0 : 1.0, rest = x - round(x);
        if (x >= -0.5)
            return -sign * polygamma_sum(n, x);
        return -sign * polygamma_sum(n, rest) + polygamma_sum(n, 1.0 - rest) - polygamma_sum(n, 1.0 - x);
    }
    if (x < -20.0) {
        const double pi = 3.141592653589793;
        return polygamma_op(0.0, 1.0 - x) - pi / tan(pi * (x - round(x)));
    }
    for (; x < 20.0; x += 1.0)
        sum -= 1.0 / x;
    sum += log(x) - 0.5 / x;
    power = 1.0;
    for (int k = 1; k <= 10; k++) {
        power /= x * x;
        sum -= bernoulli[k - 1] / (2.0 * k) * power;
    }
    return sum;
}
""",
}

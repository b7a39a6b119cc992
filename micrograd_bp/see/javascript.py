"""The table written as JavaScript: every row that a page needs, its value and its rule, run on symbols.

>>> from micrograd_bp import ops
>>> print(javascript([(ops.tanh, 1)]).text)
R.tanh = (x) => Math.tanh(x);
D.tanh = (out, x) => { const t1 = out * out; const t2 = 1 - t1; return [t2]; };
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import TABLE, Op

# What a row's `native` instruction or function of C is in JavaScript; functions without Math are those of numeric.js.
NATIVE = {
    "fadd": "{0} + {1}",
    "fsub": "{0} - {1}",
    "fmul": "{0} * {1}",
    "fdiv": "{0} / {1}",
    "frem": "{0} % {1}",
    "fneg": "-{0}",
    "select": "{0} !== 0 ? {1} : {2}",
    "fcmp olt": "{0} < {1} ? 1 : 0",
    "fcmp ole": "{0} <= {1} ? 1 : 0",
    "exp2": "Math.pow(2, {0})",
    **{f"llvm.{name}": f"Math.{name.removeprefix('f')}({{0}})" for name in ("fabs", "sqrt")},
    "llvm.floor": "Math.floor({0})",
    "llvm.fma": "fma({0}, {1}, {2})",
    "llvm.copysign": "copysign({0}, {1})",
    **{
        name: f"Math.{name}({{0}})"
        for name in (
            *("exp", "expm1", "log", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan"),
            *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        )
    },
    "atan2": "Math.atan2({0}, {1})",
    "pow": "pow({0}, {1})",
    "remainder": "remainder({0}, {1})",
    "erf": "erf({0})",
    "erfc": "erfc({0})",
    "tgamma": "tgamma({0})",
    "hypot": "Math.hypot({all})",
}
NUMERIC = ("fsum", "sumprod", "ldexp", "lgamma", "digamma", "polygamma")  # rows that numeric.js has by their names

Use = tuple[Op, int]  # a row, on so many operands


class Script(NamedTuple):
    """JavaScript that fills `R` (values) and `D` (local derivatives), and the key of each row in them."""

    text: str
    keys: dict[Use, str]


def javascript(uses: Iterable[Use]) -> Script:
    """The rows in JavaScript, with all rows that their rules call.

    A value is that of the row's `native` function, else of its `decomposition`, else `forward` itself is run on
    symbols; rows whose `forward` is a routine of Python's have their counterpart in numeric.js.

    Args:
        uses: rows, each with a number of operands.

    Raises:
        ValueError: an op of your own takes a branch on a number, or calls a function that takes floats only.
    """
    keys: dict[Use, str] = {}
    lines: list[str] = []
    pending: list[Use] = []

    def key(op: Op, count: int) -> str:
        use = op, count
        if use not in keys:
            name = op.name if op.arity is not None else f"{op.name}_{count}"
            if TABLE.get(op.name) is not op or name in keys.values():
                name = f"own{len(keys)}"
            keys[use] = name
            pending.append(use)
        return keys[use]

    def primitive(op: Op, texts: list[str]) -> str:
        if op.native in NATIVE and (op.exact or op.decomposition is None):
            return NATIVE[op.native].format(*texts, all=", ".join(texts))
        return f"{op.name}({', '.join(texts)})" if TABLE.get(op.name) is op and op.name in NUMERIC else ""

    def call(op: Op, texts: list[str]) -> str:
        return primitive(op, texts) or f"R.{key(op, len(texts))}({', '.join(texts)})"

    for op, count in uses:
        key(op, count)
    for op, count in pending:  # the list grows meanwhile
        names = list(op.parameters) if op.arity is not None else [f"x{place}" for place in range(1, count + 1)]
        arguments = ", ".join(names)
        body = primitive(op, names) or _body(op, op.decomposition or op.forward, names, call)
        lines.append(f"R.{keys[op, count]} = ({arguments}) => {body};")
        body = _body(op, op.partials, ["out", *names], call)
        lines.append(f"D.{keys[op, count]} = (out, {arguments}) => {body};")
    return Script("\n".join(lines), keys)


def _body(op: Op, function: Callable[..., Any], names: list[str], call: Callable[[Op, list[str]], str]) -> str:
    """A function of the table as the body of an arrow function, with a constant for each distinct operation."""
    texts: dict[str, str] = {}

    class Symbol(Expr):
        __slots__ = ()
        RANKS: ClassVar = Expr.RANKS

        @classmethod
        def of(cls, x: Any) -> Expr:
            if isinstance(x, cls):
                return x
            if not math.isfinite(x):
                return cls("NaN" if x != x else "Infinity" if x > 0 else "(-Infinity)")
            text = repr(float(x)).removesuffix(".0") if x or math.copysign(1.0, x) > 0 else "-0"
            return cls(f"({text})" if text[0] == "-" else text)

        @classmethod
        def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
            text = call(op, [cls.of(arg).text for arg in args])
            return cls(texts.setdefault(text, f"t{len(texts) + 1}"))

    try:
        found = function(*map(Symbol, names))
        results = [Symbol.of(x).text for x in found] if isinstance(found, tuple) else Symbol.of(found).text
    except Exception as error:  # whatever a function that is meant for numbers may raise
        raise ValueError(f"{op.name} is computed by Python only: {error}") from error
    steps = "".join(f"const {name} = {text}; " for text, name in texts.items())
    result = f"[{', '.join(results)}]" if isinstance(results, list) else results
    return f"{{ {steps}return {result}; }}" if steps or isinstance(results, list) else result

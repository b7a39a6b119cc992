"""Functions of a vector register that are faster here than in the C library, as LLVM's text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

# exp(r) = 1 + r + r**2 q(r) for |r| <= log(2) / 2: the coefficients of q, the constant first, from its expansion in
# Chebyshev polynomials, which ends here with an error of 1.4e-18.
QUOTIENT = (
    0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326141, 0.0013888888888883752, 0.00019841269874800493,
    2.4801587325533363e-05, 2.7557255425746435e-06, 2.7557273661348637e-07, 2.510520637395701e-08,
    2.0914679376583935e-09,
)  # fmt: skip
LOG2, REST = 0.6931471805599453, 2.3190468138462996e-17  # log(2) as a sum of two numbers
ROUND = 1.5 * 2.0**52  # added to a number it leaves the next whole one in the lowest bits
ONE = 19.1  # tanh of more is 1


class Writer(Protocol):
    """What writes lines on vectors of so many numbers."""

    vector: str
    width: int

    def literal(self, x: float) -> str: ...
    def assign(self, text: str) -> str: ...
    def intrinsic(self, name: str, operands: Sequence[str]) -> str: ...


def tanh(w: Writer, x: str) -> str:
    """tanh, right to 3 ulp.

    With e = exp(-2 |x|) = s (1 + p), where s is a power of two, tanh |x| is (1 - s - s p) / (1 + s + s p), in which
    both are rounded once and nothing cancels.
    """
    size = w.intrinsic("llvm.fabs", [x])
    most = w.literal(ONE)
    over = w.assign(f"fcmp ogt {w.vector} {size}, {most}")
    bounded = w.assign(f"select <{w.width} x i1> {over}, {w.vector} {most}, {w.vector} {size}")
    y = _op(w, "fmul", bounded, w.literal(-2.0))
    shifted = _fma(w, y, w.literal(1.0 / math.log(2.0)), w.literal(ROUND))
    n = _op(w, "fsub", shifted, w.literal(ROUND))
    r = _fma(w, n, w.literal(-REST), _fma(w, n, w.literal(-LOG2), y))
    square = _op(w, "fmul", r, r)
    p = _fma(w, _polynomial(w, QUOTIENT, r, square), square, r)
    bits = f"<{w.width} x i64>"
    number = w.assign(f"bitcast {w.vector} {shifted} to {bits}")
    exponent = w.assign(f"shl {bits} {number}, {_whole(w, 52)}")
    power = w.assign(f"add {bits} {exponent}, {_whole(w, 1023 << 52)}")
    s = w.assign(f"bitcast {bits} {power} to {w.vector}")
    above = _fma(w, w.assign(f"fneg {w.vector} {s}"), p, _op(w, "fsub", w.literal(1.0), s))
    below = _fma(w, s, p, _op(w, "fadd", w.literal(1.0), s))
    return w.intrinsic("llvm.copysign", [_op(w, "fdiv", above, below), x])


def _op(w: Writer, name: str, a: str, b: str) -> str:
    return w.assign(f"{name} {w.vector} {a}, {b}")


def _fma(w: Writer, a: str, b: str, c: str) -> str:
    return w.intrinsic("llvm.fma", [a, b, c])


def _whole(w: Writer, x: int) -> str:
    return "<" + ", ".join([f"i64 {x}"] * w.width) + ">"


def _polynomial(w: Writer, coefficients: Sequence[float], x: str, square: str) -> str:
    """By halves, as Estrin has it, so that little waits for another."""
    terms = [w.literal(c) for c in coefficients]
    while len(terms) > 1:
        pairs = [_fma(w, b, x, a) for a, b in zip(terms[::2], terms[1::2])]
        terms = pairs + terms[2 * len(pairs) :]
        x = square
        if len(terms) > 2:
            square = _op(w, "fmul", square, square)
    return terms[0]


# By the name of the C library's function; the machine must have fused multiply-adds.
FUNCTIONS: dict[str, Callable[[Writer, str], str]] = {"tanh": tanh}

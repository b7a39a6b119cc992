"""Functions of a vector register that are faster here than in the C library, as LLVM's text."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

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


class Lanes:
    """Lines of LLVM's text on vectors of so many lanes; constants are read from one table, at one address."""

    def __init__(self, lanes: int) -> None:
        self.lanes, self.lines = lanes, list[str]()
        self.vector, self.bits = f"<{lanes} x double>", f"<{lanes} x i64>"
        self.table: list[float] = []

    def assign(self, text: str) -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def number(self, x: float) -> str:
        if x not in self.table:
            self.table.append(x)
        one = self.assign(f"getelementptr double, ptr @table, i64 {self.table.index(x)}")
        one = self.assign(f"load double, ptr {one}, align 8")
        one = self.assign(f"insertelement {self.vector} undef, double {one}, i64 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.assign(f"shufflevector {self.vector} {one}, {self.vector} undef, {zeros}")

    def op(self, name: str, *operands: str) -> str:
        return self.assign(f"{name} {self.vector} {', '.join(operands)}")

    def fma(self, a: str, b: str, c: str) -> str:
        v = self.vector
        return self.assign(f"call {v} @llvm.fma.v{self.lanes}f64({v} {a}, {v} {b}, {v} {c})")

    def cast(self, x: str, to: str) -> str:
        return self.assign(f"bitcast {self.bits if to == self.vector else self.vector} {x} to {to}")

    def integer(self, name: str, a: str, b: int) -> str:
        return self.assign(f"{name} {self.bits} {a}, <{', '.join([f'i64 {b}'] * self.lanes)}>")

    def ratio(self, a: str, b: str) -> str:
        """a / b to an ulp, for b between 1 and 2: by Newton's method where there is a first guess of 14 bits."""
        if self.lanes != 8:
            return self.op("fdiv", a, b)
        v = self.vector
        guess = self.assign(f"call {v} @llvm.x86.avx512.rcp14.pd.512({v} {b}, {v} zeroinitializer, i8 -1)")
        minus = self.op("fneg", b)
        guess = self.fma(guess, self.fma(minus, guess, self.number(1.0)), guess)
        first = self.op("fmul", a, guess)
        return self.fma(self.fma(minus, first, a), guess, first)

    def polynomial(self, coefficients: Sequence[float], x: str, power: str) -> str:
        """The polynomial, the constant first; power: x squared. By halves (Estrin), so that little waits for another."""
        terms = [self.number(c) for c in coefficients]
        while len(terms) > 1:
            pairs = [self.fma(b, x, a) for a, b in zip(terms[::2], terms[1::2])]
            terms = pairs + terms[2 * len(pairs) :]
            if len(terms) > 1:
                x, power = power, self.op("fmul", power, power) if len(terms) > 2 else ""
        return terms[0]

    def function(self, name: str, result: str) -> str:
        """The text: the function of %x."""
        v = self.vector
        numbers = ", ".join(f"double 0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016x}" for x in self.table)
        lines = "\n".join(self.lines)
        return f"""@table = internal constant [{len(self.table)} x double] [{numbers}], align 64
declare {v} @llvm.fma.v{self.lanes}f64({v}, {v}, {v})
declare {v} @llvm.x86.avx512.rcp14.pd.512({v}, {v}, i8)
define {v} @{name}({v} %x) {{
{lines}
ret {v} {result}
}}
"""


def tanh(lanes: int, name: str) -> str:
    """tanh of so many lanes, right to 3 ulp; the machine must have fused multiply-adds.

    With e = exp(-2 |x|) = s (1 + p), where s is a power of two, tanh |x| is (1 - s - s p) / (1 + s + s p), in which
    both are rounded once and nothing cancels.
    """
    w = Lanes(lanes)
    bits = w.cast("%x", w.bits)
    sign = w.integer("and", bits, -(1 << 63))
    size = w.cast(w.integer("and", bits, (1 << 63) - 1), w.vector)
    most = w.number(ONE)
    over = w.assign(f"fcmp ogt {w.vector} {size}, {most}")
    y = w.op("fmul", w.assign(f"select <{lanes} x i1> {over}, {w.vector} {most}, {w.vector} {size}"), w.number(-2.0))
    shifted = w.fma(y, w.number(1.0 / math.log(2.0)), w.number(ROUND))
    n = w.op("fsub", shifted, w.number(ROUND))
    r = w.fma(n, w.number(-REST), w.fma(n, w.number(-LOG2), y))
    square = w.op("fmul", r, r)
    p = w.fma(w.polynomial(QUOTIENT, r, square), square, r)
    s = w.cast(w.integer("add", w.integer("shl", w.cast(shifted, w.bits), 52), 1023 << 52), w.vector)
    above = w.fma(w.op("fneg", s), p, w.op("fsub", w.number(1.0), s))
    below = w.fma(s, p, w.op("fadd", w.number(1.0), s))
    t = w.cast(w.ratio(above, below), w.bits)
    return w.function(name, w.cast(w.assign(f"or {w.bits} {t}, {sign}"), w.vector))

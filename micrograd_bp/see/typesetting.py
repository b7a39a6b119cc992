"""Formulas in LaTeX and in MathML, which browsers typeset themselves: how they write the symbols of the table."""

from __future__ import annotations

import html
import re
from typing import Any, ClassVar

from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op

LATEX, MATHML = 0, 1
FORMS = {  # by symbol, if it has a notation of its own: how tightly that binds, and its LaTeX and MathML
    "/": (3, (r"\frac{{{0}}}{{{1}}}", "<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>")),
    "//": (5, (
        r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor",
        "<mrow><mo>⌊</mo><mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac><mo>⌋</mo></mrow>",
    )),
    "**": (4, ("{0}^{{{1}}}", "<msup><mrow>{0}</mrow><mrow>{1}</mrow></msup>")),
    "exp": (4, ("e^{{{0}}}", "<msup><mi>e</mi><mrow>{0}</mrow></msup>")),
    "sqrt": (5, (r"\sqrt{{{0}}}", "<msqrt>{0}</msqrt>")),
    "cbrt": (5, (r"\sqrt[3]{{{0}}}", "<mroot><mrow>{0}</mrow><mn>3</mn></mroot>")),
    "abs": (5, (r"\left|{0}\right|", "<mrow><mo>|</mo>{0}<mo>|</mo></mrow>")),
    "floor": (5, (r"\left\lfloor {0} \right\rfloor", "<mrow><mo>⌊</mo>{0}<mo>⌋</mo></mrow>")),
}  # fmt: skip
SIGNS = {"*": (r"\cdot", "·"), "-": ("-", "−"), "%": (r"\bmod", "mod")}  # others are written as they are
GREEK = {
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi"),
    *("pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
}


class Typeset(Expr):
    """A name that writes formulas in a markup language, by the templates of a subclass."""

    __slots__ = ()
    RANKS: ClassVar = Expr.RANKS
    LANGUAGE: ClassVar[int]  # the column of FORMS and SIGNS
    INFIX: ClassVar[str]  # of two operands and the sign between them
    PREFIX: ClassVar[str]  # of a sign and its operand
    CALL: ClassVar[str]  # of a function's name and its arguments
    COMMA: ClassVar[str]
    BRACKETS: ClassVar[str]
    SCIENTIFIC: ClassVar[str]  # of a mantissa and an exponent of 10

    @classmethod
    def number(cls, text: str) -> str:
        """The digits of a number, perhaps with a sign; or inf, -inf, nan."""
        raise NotImplementedError

    @classmethod
    def indexed(cls, name: str, indices: list[str]) -> str:
        """A name with indices."""
        raise NotImplementedError

    @classmethod
    def function(cls, name: str) -> str:
        """The name of a function."""
        raise NotImplementedError

    @classmethod
    def of(cls, x: Any) -> Expr:
        name = x if isinstance(x, cls) else Expr.of(x)
        if isinstance(name, cls):
            return name
        mantissa, _, exponent = name.text.partition("e")
        if exponent:
            return cls(cls.SCIENTIFIC.format(cls.number(mantissa), cls.number(str(int(exponent)))), 2)
        return cls(cls.number(mantissa), name.rank)

    @classmethod
    def variable(cls, name: str) -> Expr:
        """A name with its numbers as indices: x1, w_hidden, w[0], theta2."""
        base, *indices = re.findall(r"[^\W\d_]+|\d+", name) or [name]
        return cls(cls.indexed(base, indices))

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        names = [cls.of(arg) for arg in args]
        if op.symbol == "Σ" and args:
            return cls.of(op.forward(*names))  # it is a formula
        texts = [name.text for name in names]
        if op.symbol in FORMS:
            rank, forms = FORMS[op.symbol]
            if op.symbol == "**":
                texts[0] = names[0]._inside(5)
            return cls(forms[cls.LANGUAGE].format(*texts), rank)
        rank, signs = cls.RANKS.get(op.symbol, 5), SIGNS.get(op.symbol, (op.symbol, op.symbol))
        if rank < 5 and len(names) == 2:
            left, right = names[0]._inside(rank), names[1]._inside(rank + 1)
            return cls(cls.INFIX.format(left, signs[cls.LANGUAGE], right), rank)
        if rank < 5:
            return cls(cls.PREFIX.format(signs[cls.LANGUAGE], names[0]._inside(3)), 3)
        function = cls.function(op.symbol if op.symbol.isalpha() else op.name)
        return cls(cls.CALL.format(function, cls.COMMA.join(texts)))

    def _inside(self, rank: int) -> str:
        return self.text if self.rank >= rank else self.BRACKETS.format(self.text)


class Latex(Typeset):
    r"""A name that writes LaTeX.

    >>> from micrograd_bp import ops
    >>> print((1.0 / ops.sqrt(Latex.variable("theta2"))).text)
    \frac{1}{\sqrt{\theta_{2}}}
    """

    __slots__ = ()
    LANGUAGE = LATEX
    INFIX = "{0} {1} {2}"
    PREFIX = "{0}{1}"
    CALL = r"\operatorname{{{0}}}\left({1}\right)"
    COMMA = ", "
    BRACKETS = r"\left({0}\right)"
    SCIENTIFIC = r"{0} \cdot 10^{{{1}}}"

    @classmethod
    def number(cls, text: str) -> str:
        return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\mathrm{nan}"}.get(text, text)

    @classmethod
    def indexed(cls, name: str, indices: list[str]) -> str:
        base = rf"\{name}" if name in GREEK else name if len(name) == 1 else rf"\mathrm{{{name}}}"
        return f"{base}_{{{','.join(indices)}}}" if indices else base

    @classmethod
    def function(cls, name: str) -> str:
        return name.replace("_", r"\_")


class MathML(Typeset):
    """A name that writes MathML.

    >>> from micrograd_bp import ops
    >>> ops.sqrt(MathML.variable("x1")).text
    '<msqrt><msub><mi>x</mi><mn>1</mn></msub></msqrt>'
    """

    __slots__ = ()
    LANGUAGE = MATHML
    INFIX = "{0}<mo>{1}</mo>{2}"
    PREFIX = "<mo>{0}</mo>{1}"
    CALL = "<mi>{0}</mi><mo>(</mo>{1}<mo>)</mo>"
    COMMA = "<mo>,</mo>"
    BRACKETS = "<mo>(</mo>{0}<mo>)</mo>"
    SCIENTIFIC = "{0}<mo>·</mo><msup><mn>10</mn>{1}</msup>"

    @classmethod
    def number(cls, text: str) -> str:
        digits = f"<mn>{text.removeprefix('-').replace('inf', '∞')}</mn>"
        return f"<mo>−</mo>{digits}" if text[0] == "-" else digits

    @classmethod
    def indexed(cls, name: str, indices: list[str]) -> str:
        letters = f"<mi>{html.escape(name)}</mi>"
        if not indices:
            return letters
        below = [f"<mn>{x}</mn>" if x.isdecimal() else f"<mi>{x}</mi>" for x in indices]
        return f"<msub>{letters}{below[0] if len(below) == 1 else f'<mrow>{cls.COMMA.join(below)}</mrow>'}</msub>"

    @classmethod
    def function(cls, name: str) -> str:
        return html.escape(name)

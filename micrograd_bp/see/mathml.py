"""Formulas as MathML, which browsers typeset without help."""

from __future__ import annotations

import html
import re
from typing import Any, ClassVar

from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import Op


class MathML(Expr):
    """A name that writes MathML: what the symbols of the rows look like in print.

    >>> from micrograd_bp import ops
    >>> ops.sqrt(MathML.variable("x1")).text
    '<msqrt><msub><mi>x</mi><mn>1</mn></msub></msqrt>'
    """

    __slots__ = ()
    RANKS: ClassVar = Expr.RANKS
    FORMS: ClassVar = {  # by symbol: how it is written, and how tightly that binds
        "/": ("<mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac>", 3),
        "//": ("<mrow><mo>⌊</mo><mfrac><mrow>{0}</mrow><mrow>{1}</mrow></mfrac><mo>⌋</mo></mrow>", 5),
        "sqrt": ("<msqrt>{0}</msqrt>", 5),
        "cbrt": ("<mroot><mrow>{0}</mrow><mn>3</mn></mroot>", 5),
        "abs": ("<mrow><mo>|</mo>{0}<mo>|</mo></mrow>", 5),
        "exp": ("<msup><mi>e</mi><mrow>{0}</mrow></msup>", 4),
        "floor": ("<mrow><mo>⌊</mo>{0}<mo>⌋</mo></mrow>", 5),
    }
    INFIX: ClassVar = {"*": "·", "-": "−", "%": "mod", "<": "&lt;", "<=": "≤"}

    @classmethod
    def of(cls, x: Any) -> Expr:
        name = x if isinstance(x, cls) else Expr.of(x)
        if isinstance(name, cls):
            return name
        mantissa, _, exponent = name.text.partition("e")
        sign, digits = ("<mo>−</mo>", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
        number = f"{sign}<mn>{digits.replace('inf', '∞')}</mn>"
        if exponent:
            return cls(f"{number}<mo>·</mo><msup><mn>10</mn>{cls.of(int(exponent)).text}</msup>", 2)
        return cls(number, name.rank)

    @classmethod
    def variable(cls, name: str) -> Expr:
        """A name with its numbers as indices: x1, w_hidden, w[0], theta2."""
        base, *indices = re.findall(r"[^\W\d_]+|\d+", name) or [name]
        letters = f"<mi>{html.escape(base)}</mi>"
        if not indices:
            return cls(letters)
        below = "<mo>,</mo>".join(
            f"<m{'n' if x.isdecimal() else 'i'}>{x}</m{'n' if x.isdecimal() else 'i'}>" for x in indices
        )
        return cls(f"<msub>{letters}{below if len(indices) == 1 else f'<mrow>{below}</mrow>'}</msub>")

    @classmethod
    def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
        names = [cls.of(arg) for arg in args]
        if op.symbol == "Σ" and args:
            return cls.of(op.forward(*names))  # it is a formula
        form, rank = cls.FORMS.get(op.symbol, ("", 0))
        if form:
            return cls(form.format(*(name.text for name in names)), rank)
        rank = cls.RANKS.get(op.symbol, 5)
        if op.symbol == "**":
            return cls(f"<msup><mrow>{names[0]._inside(5)}</mrow><mrow>{names[1].text}</mrow></msup>", 4)
        symbol = f"<mo>{cls.INFIX.get(op.symbol, op.symbol)}</mo>"
        if rank < 5 and len(names) == 2:
            return cls(f"{names[0]._inside(rank)}{symbol}{names[1]._inside(rank + 1)}", rank)
        if rank < 5:
            return cls(f"{symbol}{names[0]._inside(3)}", 3)
        function = html.escape(op.symbol if op.symbol.isalpha() else op.name)
        inside = "<mo>,</mo>".join(name.text for name in names)
        return cls(f"<mi>{function}</mi><mo>(</mo>{inside}<mo>)</mo>")

    def _inside(self, rank: int) -> str:
        return self.text if self.rank >= rank else f"<mo>(</mo>{self.text}<mo>)</mo>"

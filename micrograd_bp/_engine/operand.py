"""What stands beside floats in the table's formulas: objects on which an operation can be called as on a float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from micrograd_bp._engine.op import Op

TABLE: dict[str, Op] = {}  # the rows of ops.py, by name


class Operand:
    """What can stand beside floats in a rule: an object whose class has `_record(op, args)`, and Python's operators.

    An Op called on it gives what its `_record` gives; operators call the Op. So one rule computes with floats, makes
    graphs of Values, and writes formulas:

    >>> class Text(Operand):
    ...     def __init__(self, text):
    ...         self.text = text
    ...
    ...     @staticmethod
    ...     def _record(op, args):
    ...         return Text(f"{op.name}({', '.join(getattr(x, 'text', str(x)) for x in args)})")
    >>> from micrograd_bp import ops
    >>> ops.tanh.rule(Text("out"), Text("x"))[0].text
    'sub(1.0, mul(out, out))'
    """

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return TABLE["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return TABLE["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return TABLE["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return TABLE["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return TABLE["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return TABLE["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return TABLE["truediv"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return TABLE["truediv"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return TABLE["floordiv"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return TABLE["floordiv"](other, self)

    def __mod__(self, other: Any) -> Any:
        return TABLE["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return TABLE["mod"](other, self)

    def __pow__(self, other: Any) -> Any:
        return TABLE["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return TABLE["pow"](other, self)

    def __neg__(self) -> Any:
        return TABLE["neg"](self)

    def __pos__(self) -> Any:
        return TABLE["pos"](self)

    def __abs__(self) -> Any:
        return TABLE["abs"](self)

"""What an operation is: one row of the table in ops.py, what calling it does, and how its rule is read."""

from __future__ import annotations

import functools
import inspect
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, overload

if TYPE_CHECKING:
    from micrograd_bp.value import Value

MAX = 1.7976931348623157e308  # the largest float
TINY = 5e-324  # the smallest
ANY = (-MAX, MAX)
TABLE: dict[str, Op] = {}  # the rows of ops.py, by name
RECORDINGS: list[Any] = []  # of a function that `jit` records now: one at most; see micrograd_bp.compiler.tracing
# The variables of the functions that transforms and `jit` record now, in all threads: each one's thread and variables.
# No lock, since a fork might leave it locked: an entry is put in, taken out and listed by single operations of a dict.
VARIABLES: dict[object, tuple[int, Any]] = {}


@dataclass(frozen=True, slots=True, eq=False, repr=False, init=False)
class Op:
    """An operation on real numbers, of any arity, and its derivative: one row of the table.

    Called on numbers it returns a float; with a Value among the arguments it returns a Value and records itself.
    Trailing arguments with a default in the rule may be left out.

    Args:
        name: The public function's name.
        symbol: How a drawing or a formula shows it.
        forward: The value, of floats.
        rule: A function (out, *args) that gives a tuple: the derivative of the value `out` by each argument, written
            with operators and other ops, so that it runs on Values too.
        domain: From where to where the tests sample each argument; the last pair is for all further ones.
        smooth: False if there is a kink or a jump somewhere in the domain.
        native: An instruction of LLVM's, or a function of C's math.h, that gives the value.
        decomposition: The value as a formula in other ops, for compilers, where `forward` is not one itself.
        exact: Whether `native` gives the bits of `forward`; else it is within 4 ulp.
        degree: 0 or 1 of a homogeneous operation, f(s*x, s*y) = s**degree * f(x, y): the rule is taken of arguments
            scaled by a power of two, so that no square in it overflows.
        partials: An earlier name of `rule`.
        expansion: An earlier name of `decomposition`.

    Raises:
        TypeError: No rule; or, when it is called, a wrong number of arguments, or one that is no real number.

    Example:
        >>> cube = Op("cube", "cube", lambda x: x * x * x, lambda out, x: (3.0 * x * x,))
        >>> cube(2.0), cube.partials(8.0, 2.0)
        (8.0, (12.0,))
    """

    name: str  # the public function's name
    symbol: str  # how a drawing or a formula shows it
    forward: Callable[..., float]  # the value, of floats
    rule: Callable[..., tuple[Any, ...]]  # (out, *args) -> d out / d arg, one per argument, as a textbook has it
    domain: tuple[tuple[float, float], ...]  # where tests sample each argument; the last repeats
    smooth: bool  # False: a kink or a jump somewhere in the domain
    # The value for the compiler: an LLVM instruction, intrinsic or function of C's math.h; or a formula in other rows;
    # or neither: `forward` itself is run on Values or, failing that, called.
    native: str
    decomposition: Callable[..., Any] | None
    exact: bool  # whether `native` gives the bits of `forward`; else it is within 4 ulp
    degree: int | None  # 0 or 1: f(s*x, s*y) = s**degree * f(x, y), so that the rule can be taken of scaled arguments
    parameters: tuple[str, ...] = field(init=False)
    arity: int | None = field(init=False)  # None: any number of arguments
    defaults: tuple[float, ...] = field(init=False)
    # The rule as it is run: of scaled arguments if there is a degree; the table's own are written out, see native.py.
    rule_of_floats: Callable[..., tuple[Any, ...]] = field(init=False)
    rule_of_values: Callable[..., tuple[Any, ...]] = field(init=False)

    def __init__(
        self,
        name: str,
        symbol: str,
        forward: Callable[..., float],
        rule: Callable[..., tuple[Any, ...]] | None = None,
        domain: tuple[tuple[float, float], ...] = (ANY,),
        smooth: bool = True,
        native: str = "",
        decomposition: Callable[..., Any] | None = None,
        exact: bool = True,
        degree: int | None = None,
        *,
        partials: Callable[..., tuple[Any, ...]] | None = None,
        expansion: Callable[..., Any] | None = None,
    ) -> None:
        rule = rule or partials  # what `rule` and `decomposition` were called before
        if rule is None:
            raise TypeError(
                f"Op {name!r} has no rule: a function (out, *args) that gives a tuple, one partial per argument"
            )
        run = rule if degree is None else functools.partial(scaled, self)
        signature = list(inspect.signature(rule).parameters.values())[1:]
        variadic = any(p.kind is p.VAR_POSITIONAL for p in signature)
        facts = {
            "name": name, "symbol": symbol, "forward": forward, "rule": rule, "domain": domain, "smooth": smooth,
            "native": native.removeprefix("~"), "exact": exact and native[:1] != "~", "degree": degree,
            "decomposition": decomposition or expansion,
            "parameters": tuple(p.name for p in signature),
            "arity": None if variadic else len(signature),
            "rule_of_floats": run, "rule_of_values": run,
            "defaults": tuple(p.default for p in signature if p.default is not p.empty),
        }  # fmt: skip
        for fact, x in facts.items():
            object.__setattr__(self, fact, x)

    @overload
    def __call__(self, *args: float) -> float: ...
    @overload
    def __call__(self, x: Value, /, *args: Value | float) -> Value: ...
    @overload
    def __call__(self, x: float, y: Value, /, *args: Value | float) -> Value: ...
    @overload
    def __call__(self, *args: Any) -> Any: ...
    def __call__(self, *args: Any) -> Any:
        """The operation's value: a float for numbers, a Value where one is among the arguments (*args)."""
        if len(args) != self.arity:
            args = self._complete(args)
        taker = None
        for arg in args:
            if type(arg) is not float:
                if not hasattr(type(arg), "_record"):  # see Operand
                    return self(*[x if hasattr(type(x), "_record") else number(x, self.name) for x in args])
                taker = arg
        return self.forward(*args) if taker is None else taker._record(self, args)

    def partials(self, out: Any, *args: Any) -> tuple[Any, ...]:
        """The local derivatives at *args, where the operation gives `out`: floats of floats, graphs of Values.

        The rule, read in IEEE arithmetic where Python's would raise, and of scaled arguments where a square might
        overflow.

        >>> from micrograd_bp import ops
        >>> ops.sqrt.partials(0.0, 0.0), ops.atan2.partials(0.0, 0.0, 1e-300)
        ((inf,), (1e+300, -0.0))
        """
        try:
            return (self.rule_of_floats if type(out) is float else self.rule_of_values)(out, *args)
        except (ArithmeticError, ValueError) as error:
            try:
                return quietly(self, out, *args)
            except Exception:
                raise error from None

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
        """The same kind of exception as `error`, saying which operation failed on which operands (and labels)."""
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
            return self.name  # pickled as the row of the table
        row = (self.name, self.symbol, self.forward, self.rule, self.domain, self.smooth)
        return Op, (*row, self.native, self.decomposition, self.exact, self.degree)


Op.__module__ = "micrograd_bp.ops"  # where a pickle finds a row by its name


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


# --- how a rule is read -------------------------------------------------------------------------------------------


class Quiet(Operand):
    """A number (or Value) whose arithmetic is that of IEEE 754: a division by zero gives inf or nan and never raises.

    >>> (0.5 / Quiet(0.0)).number
    inf
    """

    __slots__ = ("number",)
    IEEE: ClassVar = {"truediv": "ieee_div", "log": "ieee_log", "pow": "ieee_pow"}

    def __init__(self, x: Any) -> None:
        self.number = x

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Quiet:
        if op.name in Quiet.IEEE and TABLE[op.name] is op:
            op = TABLE[Quiet.IEEE[op.name]]
        return Quiet(op(*map(bare, args)))


def bare(x: Any) -> Any:
    """The number in a Quiet one; anything else as it is."""
    return x.number if type(x) is Quiet else x


def quietly(op: Op, *args: Any) -> tuple[Any, ...]:
    """The operation's partials in IEEE arithmetic."""
    rule = op.rule if op.degree is None else functools.partial(scaled, op)
    partials = rule(*map(Quiet, args))
    return tuple(map(bare, partials)) if type(partials) is tuple else partials


def scaled(op: Op, out: Any, *args: Any) -> tuple[Any, ...]:
    """The partials of a homogeneous operation, by its rule of arguments that are scaled by a power of two.

    So no square overflows, or is subnormal and inexact. At the origin the slopes are 0 by convention, and have no
    derivatives; at infinity those of degree -1 are 0.
    """
    absolute, maximum, where = TABLE["abs"], TABLE["maximum"], TABLE["where"]
    size = functools.reduce(maximum, map(absolute, args))
    if type(bare(size)) is float and 2.0**-500 < bare(size) < 2.0**500:
        return op.rule(out, *args)
    scale = TABLE["rescale"](size)
    partials = op.rule(out * scale if op.degree else out, *[x * scale for x in args])
    if not op.degree:
        infinite = TABLE["less_equal"](math.inf, size)
        partials = tuple([where(infinite, 0.0, p * scale) for p in partials])
    corner = TABLE["corner"](size, *args)
    return tuple([p if type(p) is float else where(size, p, corner) for p in partials])

"""What an operation is: one row of the table in ops.py, and what calling it does."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, overload

from micrograd_bp._engine.ieee import quietly, scaled
from micrograd_bp._engine.operand import TABLE
from micrograd_bp._engine.recordings import RECORDINGS

if TYPE_CHECKING:
    from micrograd_bp.value import Value

MAX = 1.7976931348623157e308  # the largest float
TINY = 5e-324  # the smallest
ANY = (-MAX, MAX)


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

    name: str
    symbol: str
    forward: Callable[..., float]
    rule: Callable[..., tuple[Any, ...]]  # (out, *args) -> d out / d arg, one per argument, as a textbook has it
    domain: tuple[tuple[float, float], ...]
    smooth: bool
    native: str
    decomposition: Callable[..., Any] | None
    exact: bool
    degree: int | None
    # What follows is read off the rule.
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
        node = None
        for arg in args:
            if type(arg) is not float:
                if not hasattr(type(arg), "_record"):  # an int, say; what has it is a Value, or see Operand
                    return self(*[x if hasattr(type(x), "_record") else number(x, self.name) for x in args])
                node = arg
        return self.forward(*args) if node is None else node._record(self, args)

    def linearize(self, data: Sequence[float], operands: tuple[Any, ...]) -> tuple[float, tuple[float, ...]]:
        """The value and the derivative by each operand, at these data: what a node of the graph records.

        An error, of the operation at a point where it has no value, say, names the operation and the operands.
        """
        try:
            out = self.forward(*data)
            try:
                partials = self.rule_of_floats(out, *data)
            except (ArithmeticError, ValueError):
                partials = self.partials(out, *data)  # in IEEE arithmetic
        except Exception as error:
            raise self.failure(error, operands) from error
        if type(partials) is not tuple or len(partials) != len(data):
            raise TypeError(f"{self.name}: its rule gives {partials!r}; it must give a tuple, one partial per argument")
        for partial in partials:
            if type(partial) is not float:
                partials = tuple([number(partial, self.name) for partial in partials])
        return out if type(out) is float else number(out, self.name), partials

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

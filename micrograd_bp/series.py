"""Taylor series of functions: `taylor`, one walk over the graph with power series in place of numbers.

The coefficients of a row's result follow from its rule in the table: y = row(x) has y' = p x' with p its partial, so

    k y_k = sum of j x_j p_(k-j) for j = 1 ... k,

and as p is made of `out` and the arguments, each of its coefficients is known before it is needed: for exp, whose rule
is `out`, this is the recurrence that the textbooks give, and likewise for tanh, `1 - out * out`. Written by hand are
products, quotients and choices, and what the rules of powers and hypot become by x y' = r y x'. (Griewank and Walther,
Evaluating Derivatives, 2nd ed., 2008, chapter 13.)

>>> from micrograd_bp import math
>>> taylor(math.exp, 0.0, 4)
[1.0, 1.0, 0.5, 0.16666666666666666, 0.041666666666666664]
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from micrograd_bp import ops
from micrograd_bp._engine import trees
from micrograd_bp._engine.operators import give_operators
from micrograd_bp._engine.signatures import P
from micrograd_bp._engine.sweeps import Number, ordered
from micrograd_bp.ops import Op
from micrograd_bp.testing import Precise, arithmetic
from micrograd_bp.transforms import _Call, _finished, _holds_value, _name, recording
from micrograd_bp.value import Value

PRODUCTS = 64  # powers up to this one are products: exact for polynomials, and right where the base is 0


def taylor(f: Callable[P, Any], x: Any, order: int, *curve: Any, digits: int | None = None) -> list[Any]:
    """The Taylor coefficients of f at x, from the 0th to the given order: f(x + t) = c[0] + c[1] t + c[2] t**2 + ...

    Where x is not one number, or where the curve is given, they are those of f(x + v t + w t**2 + ...) by t.

    Args:
        f: A function of one argument. What it gives (a number, an array, or lists, tuples and dicts of them) is the
            shape of each coefficient.
        x: The argument: a number, an array, or lists, tuples and dicts of them.
        order: How many coefficients follow the 0th. The time grows with its square.
        *curve: V, w, ...: the coefficients of t, t**2, ... of the argument, each built like x. A line has v alone;
            for one number it is 1.0 unless given.
        digits: Compute with so many decimal digits (pip install mpmath), and round at the end. In floats digits are
            lost where a coefficient is far smaller than those of its parts, as in every recurrence: of sinh(x) / x
            at 0.7 all are lost by order 20, and with 50 digits none.

    Returns:
        A list of order + 1 coefficients, floats; Values, to be differentiated again, where a Value is among the
        arguments or the call stands in a function that is being differentiated. The k-th derivative is k! c[k].
        At a kink the convention of the row holds to every order; where f has no series, as sqrt at 0, they are inf
        or nan.

    Raises:
        TypeError: X is not one number and there is no curve; the order is no int; f gives what is no number.
        ValueError: A negative order, or a curve that is not built like x.

    Example:
        >>> taylor(lambda x: 1.0 / (1.0 - x), 0.0, 5)
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        >>> taylor(lambda p: p[0] * p[1], [2.0, 3.0], 3, [1.0, 10.0])  # (2 + t) (3 + 10 t)
        [6.0, 23.0, 10.0, 0.0]
    """
    title = f"taylor({_name(f)})"
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(f"{title}: order is a whole number, not {order!r} ({type(order).__name__})")
    if order < 0:
        raise ValueError(f"{title}: order is 0 or more, not {order}")
    if digits is not None and (type(digits) is not int or digits < 1):
        raise ValueError(f"{title}: digits is a whole number, 1 or more, not {digits!r}")
    if not curve:
        if isinstance(x, trees.CONTAINERS) or trees.is_array(x):
            raise TypeError(f"{title}: give the direction, built like x: taylor(f, x, {order}, v)")
        curve = (1.0,)
    call = _Call(title, f, (x,), {})
    graph = call.graph = call.graph or _holds_value(curve)
    if graph and digits:
        raise TypeError(f"{title}: of so many digits, coefficients cannot be differentiated; leave digits out")
    steps = [call.matched(x, v, f"coefficient {k} of the curve") for k, v in enumerate(curve, 1)]
    walk = _Walk(graph, digits)
    for node, *rest in zip(call.variables, *steps, strict=True):
        walk.known[node] = Series(walk, None, (), [walk.number(node), *rest])
    steps_taken = walk.follow(call.outputs, call.variables, given=not digits)
    with walk.arithmetic():
        for k in range(order + 1):  # operands before results, so that the recursion stays shallow
            for series in steps_taken:
                series.at(k)
        outputs = [walk.of(y) for y in call.outputs]
        numbers = [[walk.rounded(y.at(k)) for y in outputs] for k in range(order + 1)]
    return [trees.shaped(call.result, _finished(row, graph)) for row in numbers]


class _Walk:
    """The series of one call, each made once: those of the graph's nodes and those that their rules compute."""

    def __init__(self, graph: bool, digits: int | None) -> None:
        self.graph, self.digits = graph, digits
        self.known: dict[Any, Series] = {}

    def number(self, node: Value) -> Number:
        """The 0th coefficient of a node."""
        if self.digits:
            return Precise(node._data)
        return node if self.graph else node._data

    def arithmetic(self) -> Any:
        """A context in which numbers have the wanted number of digits."""
        return arithmetic().workdps(self.digits) if self.digits else contextlib.nullcontext()

    def rounded(self, x: Number) -> Number:
        return float(x.number) if isinstance(x, Precise) else x

    def of(self, node: Value) -> Series:
        """The series of a node; a constant if the node does not depend on the variables."""
        if node not in self.known:
            self.known[node] = Series(self, None, (), [self.number(node)])
        return self.known[node]

    def given(self, x: Any) -> Series:
        """The series of an operand; of a number, a constant."""
        return x if isinstance(x, Series) else Series(self, None, (), [Precise(x) if self.digits else x])

    def follow(self, outputs: list[Value], inputs: list[Value], given: bool) -> list[Series]:
        """Compute the series of all nodes that the outputs depend on, operands first, from those of the inputs.

        given: the data of the nodes are their 0th coefficients.
        """
        found: list[Series] = []
        for node in ordered(outputs, inputs):
            if node in self.known or node.op is None:
                continue
            args = tuple([self.of(x) if isinstance(x, Value) else x for x in node.operands])
            recorded = getattr(node.op, "recorded", None)
            if recorded is None:
                self.known[node] = Series(self, node.op, args, [self.number(node)] if given else [])
                found.append(self.known[node])
            else:  # `checkpoint` and `remat`: the operations that they stand for
                results, inputs, k = recorded(node.operands)
                self.known.update({x: self.given(y) for x, y in zip(inputs, args)})
                found += self.follow(results, inputs, given=False)
                self.known[node] = self.of(results[k])
        return found

    def made(self, op: Op, args: tuple[Any, ...]) -> Series:
        """The series of an op applied to these arguments."""
        key = op, *[id(x) if isinstance(x, Series) else repr(x) for x in args]
        if key not in self.known:
            self.known[key] = Series(self, op, args, [])
        return self.known[key]


class Series:
    """A power series whose coefficients are computed when they are first asked for; a rule can be run on it."""

    __slots__ = ("args", "coefficients", "op", "rule", "rule_steps", "walk")

    def __init__(self, walk: _Walk, op: Op | None, args: tuple[Any, ...], coefficients: list[Number]) -> None:
        self.walk, self.op, self.args, self.coefficients = walk, op, args, coefficients
        self.rule: list[tuple[Any, Any]] | None = None  # (argument, partial) for each argument that is a series
        self.rule_steps: list[Series] = []  # the operations of a rule that ran on Values

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Series:
        walk: _Walk = next(x.walk for x in args if isinstance(x, Series))
        return walk.made(op, args)

    def at(self, k: int) -> Number:
        """Coefficient k."""
        found = self.coefficients
        while len(found) <= k:
            found.append(self._next(len(found)))
        return found[k]

    def _next(self, k: int) -> Number:
        """Coefficient k, after all earlier ones have been computed."""
        if self.op is None:
            return 0.0
        if k == 0:
            try:
                return self.op(*[_at(x, 0) for x in self.args])
            except TypeError as error:
                if not self.walk.digits:
                    raise
                raise TypeError(f"taylor: {self.op.name} is a function of floats; leave digits out") from error
        by_hand = RECURRENCES.get(self.op)
        return self.by_rule(self.op, k) if by_hand is None else by_hand(self, k, *self.args)

    def by_rule(self, op: Op, k: int) -> Number:
        """Coefficient k from the partials."""
        if self.rule is None:
            rule: Callable[..., tuple[Any, ...]] = RULES.get(op, op.partials)
            opaque = getattr(op.rule, "of_values", False)
            try:
                partials = None if opaque else rule(self, *self.args)
            except TypeError:  # it compares its arguments, or calls what knows Values alone
                partials = None
            partials = self._through_values(op) if partials is None else partials
            self.rule = [(x, p) for x, p in zip(self.args, partials, strict=True) if isinstance(x, Series)]
        for series in self.rule_steps:
            series.at(k - 1)
        total: Number = 0.0
        for x, p in self.rule:
            if isinstance(p, Series):
                terms = [_product(j * x.at(j), p.at(k - j)) for j in range(1, k + 1) if not _is_0(x.at(j))]
                total = total + _sum(terms) / k
            else:
                total = total + _product(x.at(k), p)
        return total

    def _through_values(self, op: Op) -> tuple[Any, ...]:
        """The partials by a rule that runs on Values only, such as that of `root`: the graph that it records is run."""
        args = [x._free() if isinstance(x, Series) else Value(x) for x in self.args]
        out = self._free()
        partials = recording(args, op.partials, out, *args)
        walk = self.walk
        walk.known[out] = self
        walk.known.update({x: walk.given(y) for x, y in zip(args, self.args)})
        graphs = [p for p in partials if isinstance(p, Value)]
        self.rule_steps = walk.follow(graphs, [out, *args], given=False)
        return tuple([walk.of(p) if isinstance(p, Value) else p for p in partials])

    def _free(self) -> Value:
        """A new Value with the 0th coefficient; while a graph is recorded, one whose comparisons become guards."""
        return self.at(0) * 1.0 if self.walk.graph else Value(self._data)

    @property
    def _data(self) -> float:
        """The 0th coefficient as a float, for code that reads a Value's data."""
        first: Any = self.at(0)
        return float(first.number) if isinstance(first, Precise) else float(getattr(first, "_data", first))

    def __bool__(self) -> bool:
        raise TypeError("a rule that asks for a number's value has no series; a rule chooses with where(c, x, y)")


give_operators(Series, lambda op: lambda *args: op(*args), lambda op: lambda y, x: op(x, y))


def _at(x: Any, k: int) -> Number:
    return x.at(k) if isinstance(x, Series) else x if k == 0 else 0.0


def _is_0(x: Number) -> bool:
    return type(x) is float and x == 0.0


def _product(x: Number, y: Number) -> Number:
    """The chain rule's product: 0 times anything is 0."""
    return 0.0 if _is_0(x) or _is_0(y) else x * y


def _sum(terms: list[Number]) -> Number:
    return sum(terms[1:], start=terms[0]) if terms else 0.0


# --- recurrences and rules by hand --------------------------------------------------------------------------------


def _times(out: Series, k: int, x: Any, y: Any) -> Number:
    """Coefficient k of a product (Cauchy's rule)."""
    if not isinstance(x, Series) or not isinstance(y, Series):
        return _product(_at(x, k), y) if isinstance(x, Series) else _product(x, _at(y, k))
    return _sum([_product(x.at(j), y.at(k - j)) for j in range(k + 1)])


def _over(out: Series, k: int, x: Any, y: Any) -> Number:
    """Coefficient k of a quotient, from out * y = x."""
    rest = _at(x, k)
    if isinstance(y, Series):
        rest = rest - _sum([_product(y.at(j), out.at(k - j)) for j in range(1, k + 1)])
    return 0.0 if _is_0(rest) else ops.ieee_div(rest, _at(y, 0))


def _chosen(out: Series, k: int, c: Any, x: Any, y: Any) -> Number:
    """Coefficient k of `where`: that of the chosen argument."""
    return _at(x if _at(c, 0) else y, k)


def _raised(out: Series, k: int, x: Any, y: Any) -> Number:
    """Coefficient k of a power; by repeated products if the exponent is a small whole number."""
    if type(y) is float and y % 1.0 == 0.0 and abs(y) <= PRODUCTS:
        return _at(_products(x, int(y)), k)
    return out.by_rule(ops.pow, k)


def _products(x: Series, n: int) -> Any:
    """x**n as squares and products."""
    if n < 0:
        return ops.ieee_div(1.0, _products(x, -n))
    if n < 2:
        return x if n else 1.0
    half = _products(x, n // 2)
    return half * half * x if n % 2 else half * half


def _power_rule(out: Series, x: Any, y: Any) -> tuple[Any, Any]:
    """The rule of x**y by x y' = r y x', in which no other power stands."""
    by_x = ops.ieee_div(y * out, x) if isinstance(x, Series) else 0.0
    return by_x, out * ops.ieee_log(x) if isinstance(y, Series) else 0.0


RECURRENCES: dict[Op, Callable[..., Number]] = {
    **dict.fromkeys((ops.mul, ops.chain), _times),
    **dict.fromkeys((ops.truediv, ops.ieee_div), _over),
    **dict.fromkeys((ops.pow, ops.ieee_pow), _raised),
    ops.where: _chosen,
}
RULES: dict[Op, Callable[..., tuple[Any, ...]]] = {
    ops.pow: _power_rule,
    ops.hypot: lambda out, *args: tuple([ops.ieee_div(x, out) for x in args]),
}

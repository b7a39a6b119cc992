"""Functions whose derivative is written by hand: `custom_derivative`, for code that cannot run on Values.

>>> import math
>>> from micrograd_bp import Value
>>> @custom_derivative
... def arcsinh(x):                      # a call into a C library, say
...     return math.asinh(x)
>>> @arcsinh.partials
... def arcsinh(out, x):                 # d out / d x, for floats and for Values
...     return (1.0 / (1.0 + x * x) ** 0.5,)
>>> x = Value(0.75)
>>> arcsinh(x).backward()
>>> x.grad
0.8
"""

from __future__ import annotations

import functools
import reprlib
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp.ops import Op, number
from micrograd_bp.transforms import numbers_only

KEPT = 64  # structures of arguments whose operations are kept


def custom_derivative(function: Callable[..., Any], partials: Callable[..., Any] | None = None) -> CustomDerivative:
    """A Python function with a derivative of your own, of any number of inputs and outputs, and of any order.

    Args:
        function: Of floats, arrays, lists, tuples and dicts of them, to such a tree of numbers. It is always called
            with plain numbers, so it may call what knows no Values: a C library, a table, a quadrature. What is no
            float among its arguments (an int, a string), and keyword arguments, arrive as they are.
        partials: Its rule, given here or by the decorator `@function.partials`. It is called with the function's
            result and its arguments, and gives the derivatives as `jacobian` does: for one number a tuple with an
            entry for each argument, built like the argument; for several outputs such a tuple in the place of each;
            where output or argument is an array, an array of shape output.shape + argument.shape. Entries for what is
            no float are not looked at. A rule written with operators, `micrograd_bp.math` and functions that have a
            rule themselves gives derivatives of every order.

    Returns:
        A function that gives what the function gives for plain numbers, and Values where one is among the arguments:
        each output is an operation of its own, which is drawn, swept, compiled (by calls of the function) and checked
        by `gradcheck` as any row.

    Raises:
        TypeError, when it is called: the rule is missing or gives something that is built otherwise; the function gives
        what is no number.

    Example:
        >>> import math
        >>> from micrograd_bp import Value
        >>> @custom_derivative
        ... def polar(x, y):
        ...     return [math.hypot(x, y), math.atan2(y, x)]
        >>> @polar.partials
        ... def polar(out, x, y):
        ...     r, _ = out
        ...     return [(x / r, y / r), (-y / r**2, x / r**2)]
        >>> polar(3.0, 4.0)[0], polar(Value(3.0), 4.0)[0]
        (5.0, Value(data=5.0, grad=0.0))
    """
    return CustomDerivative(function, partials)


class CustomDerivative:
    """A function with a derivative of its own: the result of `custom_derivative`."""

    def __init__(self, function: Callable[..., Any], rule: Callable[..., Any] | None = None) -> None:
        for f in (function, rule or function):
            if not callable(f):
                raise TypeError(f"custom_derivative takes a function, not {reprlib.repr(f)} ({type(f).__name__})")
        self.__module__, self.__qualname__ = type(self).__module__, ""
        functools.update_wrapper(self, function, updated=())
        self.function, self.rule = function, rule
        self.name = getattr(function, "__name__", "custom")
        self._known = _memory()

    def partials(self, rule: Callable[..., Any]) -> CustomDerivative:
        """Set the function's rule; a decorator."""
        if not callable(rule):
            raise TypeError(f"{self.name}.partials takes a function, not {reprlib.repr(rule)} ({type(rule).__name__})")
        self.rule = rule
        self._known = _memory()
        return self

    def __reduce__(self) -> Any:
        place: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            place = getattr(place, name, None)
        return self.__qualname__ if place is self else (CustomDerivative, (self.function, self.rule))

    def __repr__(self) -> str:
        return f"<custom_derivative {self.name}>"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's result; Values where a Value is among the arguments."""
        leaves = trees.leaves(args)
        operands = operands_of(leaves)
        if not any(map(_recorded, operands)):
            if any(map(_recorded, trees.entries(kwargs))):
                raise TypeError(f"{self.name}: a Value is passed by keyword; only by position it has a partial")
            return self.function(*args, **kwargs)
        if self.rule is None:
            raise TypeError(f"{self.name} has no rule for its derivatives; give it one with @{self.name}.partials")
        return self._rows(args, leaves, kwargs)(operands)

    def _rows(self, args: tuple[Any, ...], leaves: list[Any], kwargs: dict[str, Any]) -> OutputOps:
        """The operations for arguments of this structure, made once."""
        others = [x for x in leaves if not _is_operand(x)]
        try:
            key = _build(args), tuple([(type(x), x) for x in others]), tuple(kwargs.items())
            found = self._known().get(key)
        except TypeError:  # it cannot be hashed
            return self._made(args, kwargs)
        if found is None:
            if len(self._known()) >= KEPT:
                self._known().clear()
            found = self._known()[key] = self._made(args, kwargs)
        return found

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> OutputOps:
        def run(*args: Any) -> Any:
            return self.function(*args, **kwargs)

        def slopes(result: Any, args: tuple[Any, ...]) -> list[list[Any]]:
            assert self.rule is not None
            given = self.rule(result, *args, **kwargs)
            try:
                rows = _rows_of(result, given, args)
                return [[x if _recorded(x) else number(x, "a partial") for x in row] for row in rows]
            except (TypeError, ValueError) as error:
                rule = f"the rule {getattr(self.rule, '__name__', self.rule)} of {self.name}"
                wanted = f"a tuple of {len(args)}, a derivative for each argument and built like it"
                wanted += ", in the place of each output" if isinstance(result, trees.CONTAINERS) else ""
                raise TypeError(f"{rule} gave {reprlib.repr(given)}: {error}; expected {wanted}") from None

        return OutputOps(self.name, run, slopes, args)


def _memory() -> Callable[[], dict[Any, OutputOps]]:
    """A dict for caching, kept out of the attributes that `jit` watches for side effects."""
    kept: dict[Any, OutputOps] = {}
    return lambda: kept


class OutputOps:
    """A function, for arguments of one structure, as operations: one for each of its outputs.

    run: the function, of plain numbers. slopes: from its result and its arguments, floats or Values, to the
    derivatives of each output by all operands: the floats and Values among the arguments, and the entries of arrays.
    of_values: whether slopes record graphs, and so run on floats and Values alone, not on power series.
    """

    def __init__(
        self,
        name: str,
        run: Callable[..., Any],
        slopes: Callable[[Any, tuple[Any, ...]], Sequence[Sequence[Any]]],
        args: tuple[Any, ...],
        of_values: bool = False,
    ) -> None:
        self.name, self.run, self.slopes, self.of_values = name, run, slopes, of_values
        leaves = trees.leaves(args)
        self.leaves: list[Any] = [_plain(x) if _is_operand(x) else x for x in leaves]
        self.outline = trees.outline(args)
        self.ops: tuple[Op, ...] = ()
        self.build: Callable[[Sequence[Any]], Any] = list
        self._last: tuple[bytes, list[float]] = b"", []
        self._partials: tuple[bytes, Sequence[Sequence[Any]]] = b"", []

    def __call__(self, operands: Sequence[Any]) -> Any:
        """The function's result for these operands, with an operation on them for each of its numbers."""
        self.evaluate([getattr(x, "_data", x) for x in operands])
        return self.build([op(*operands) for op in self.ops])

    def arguments(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        """The function's arguments, rebuilt from these operands."""
        rest, leaves = iter(operands), []
        for leaf in self.leaves:
            if not _is_operand(leaf):
                leaves.append(leaf)
            elif trees.is_array(leaf):
                leaves.append(trees.array(list(islice(rest, leaf.size)), leaf.shape))
            else:
                leaves.append(next(rest))
        arguments: tuple[Any, ...] = trees.rebuilt(self.outline, iter(leaves))
        return arguments

    def evaluate(self, operands: Sequence[Any]) -> list[float]:
        """The outputs for these numbers, cached: each output is an operation, but the function is called once."""
        bits = array("d", operands).tobytes()
        known, values = self._last
        if known != bits or not self.ops:
            result = numbers_only(self.run, *self.arguments([float(x) for x in operands]))
            try:
                values = [number(x, self.name) for x in trees.entries(result)]
            except TypeError as error:
                raise TypeError(f"{self.name} returned {reprlib.repr(result)}; {error}") from None
            if not self.ops:
                self.build = functools.partial(trees.shaped, result)
                self.ops = tuple([self._op(k, len(values)) for k in range(len(values))])
            elif len(values) != len(self.ops):
                raise TypeError(f"{self.name} returned {len(values)} numbers, and {len(self.ops)} before")
            self._last = bits, values
        return values

    def _op(self, k: int, count: int) -> Op:
        name = self.name if count == 1 else f"{self.name}[{k}]"

        def partials(out: Any, *operands: Any) -> tuple[Any, ...]:
            return self.partials(k, out, operands)

        vars(partials)["of_values"] = self.of_values
        return Op(name, name, lambda *operands: self.evaluate(operands)[k], partials)

    def partials(self, k: int, out: Any, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The derivatives of output k by the operands: floats for floats, graphs for Values."""
        args = self.arguments(operands)
        if any(map(_recorded, operands)):
            outputs = [out if op is self.ops[k] else op(*operands) for op in self.ops]
            return tuple(self.slopes(self.build(outputs), args)[k])
        bits = array("d", operands).tobytes()
        known, rows = self._partials
        if known != bits:
            values = self.evaluate(operands)
            rows = numbers_only(self.slopes, self.build(values), args)
            self._partials = bits, rows
        return tuple(rows[k])


def _rows_of(out: Any, given: Any, args: tuple[Any, ...]) -> Iterator[list[Any]]:
    """The derivatives of each entry of the outputs by all entries of the arguments."""
    if isinstance(out, trees.CONTAINERS):
        for part, slopes in _pairs(out, given):
            yield from _rows_of(part, slopes, args)
        return
    if not isinstance(given, (tuple, list)) or len(given) != len(args):
        raise ValueError(f"{reprlib.repr(given)} is no tuple of {len(args)}")
    blocks: list[list[list[Any]]] = []  # of each leaf of the arguments, rows for the entries of the output
    for arg, part in zip(args, given):
        for x, slopes in _leaves(arg, part):
            wanted = trees.shape(out) + trees.shape(x)
            if trees.shape(slopes) != wanted:
                raise ValueError(f"a derivative has shape {trees.shape(slopes)}, not {wanted}")
            entries, width = trees.elements(slopes), trees.size(x)
            blocks.append([entries[i * width : (i + 1) * width] for i in range(trees.size(out))])
    for i in range(trees.size(out)):
        yield [entry for block in blocks for entry in block[i]]


def _leaves(arg: Any, part: Any) -> Iterator[tuple[Any, Any]]:
    """The leaves of an argument, each with its derivative."""
    if not isinstance(arg, trees.CONTAINERS):
        if _is_operand(arg):
            yield arg, part
    else:
        for child, slopes in _pairs(arg, part):
            yield from _leaves(child, slopes)


def _pairs(tree: Any, other: Any) -> list[tuple[Any, Any]]:
    """The children of two containers of the same structure, in pairs."""
    if not isinstance(other, trees.CONTAINERS) or set(trees.keys(other)) != set(trees.keys(tree)):
        raise ValueError(f"{reprlib.repr(other)} is not built like {reprlib.repr(tree)}")
    others = dict(zip(trees.keys(other), trees.children_of(other)))
    return [(child, others[key]) for key, child in zip(trees.keys(tree), trees.children_of(tree))]


def _recorded(x: Any) -> bool:
    """Whether operations record it: a Value, or what stands for one during recording."""
    return hasattr(type(x), "_record")


def _is_operand(leaf: Any) -> bool:
    """Whether derivatives are taken by it: a float (NumPy's too), a Value, or an array of these."""
    return _recorded(leaf) or isinstance(leaf, float) or (trees.is_array(leaf) and leaf.dtype.kind in "fO")


def _plain(leaf: Any) -> Any:
    """The leaf with floats in place of Values."""
    return trees.array([0.0] * leaf.size, leaf.shape) if trees.is_array(leaf) else 0.0


def _operands(leaf: Any) -> list[Any]:
    """The numbers of a leaf by which derivatives are taken."""
    return trees.elements(leaf) if _is_operand(leaf) else []


def operands_of(leaves: list[Any]) -> list[Any]:
    """The floats and Values among the leaves by which derivatives are taken."""
    return [x if _recorded(x) else number(x, "custom_derivative") for leaf in leaves for x in _operands(leaf)]


def _build(tree: Any) -> Any:
    """The structure of a tree without its numbers, as a hashable object."""
    if isinstance(tree, trees.CONTAINERS):
        return type(tree), tuple([(key, _build(x)) for key, x in zip(trees.keys(tree), trees.children_of(tree))])
    return ("array", *trees.shape(tree)) if trees.is_array(tree) else _is_operand(tree)

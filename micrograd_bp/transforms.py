"""Derivatives of functions: a transform takes a function and gives the function of its derivatives.

The function is called once, with new variables in place of the arguments to differentiate by, and recorded. The graph
is then traversed in one sweep, from the outputs back (`grad`, `vjp`) or from the variables on (`jvp`), with the same
partials.

>>> cube = lambda x: x**3
>>> grad(cube)(2.0), grad(grad(cube))(2.0)
(12.0, 12.0)

An argument is a number, an array, a Value, or lists, tuples, dicts and dataclasses of them; derivatives come back in
its shape, by a dataclass in the fields of another.
They are floats (or float arrays) where plain numbers come in. Where a Value is among the arguments, or where the call
stands inside a function that is itself being differentiated, they are Values, which can be differentiated again.
The `grad` of a Value is never touched.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from numbers import Real
from threading import get_ident
from typing import Any, TypeAlias

from micrograd_bp._engine import trees
from micrograd_bp._engine.engine import pushed, slope_rows, slopes, variables
from micrograd_bp._engine.recordings import RECORDINGS, VARIABLES
from micrograd_bp._engine.signatures import P, R
from micrograd_bp._engine.sweeps import Number, float_partials, graph_partials, ordered, pull, push
from micrograd_bp.ops import number
from micrograd_bp.sparse import Entries, Tape, from_rows, hessian_rows, jacobian_rows
from micrograd_bp.value import Value, topological_order

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]

_RECORDING: ContextVar[bool] = ContextVar("recording", default=False)
inside = _RECORDING.get  # whether this thread is inside a function that is being differentiated or recorded


def grad(f: Callable[P, Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[P, Any]:
    """The gradient of a scalar function, as a function of the same arguments.

    Args:
        f: A function that returns one number (an array of one number, of whatever shape, is one).
        argnums: The positional argument to differentiate by, or a sequence of them; negative ones count from the end.
        has_aux: Whether f returns (number, aux), of which the number is differentiated.

    Returns:
        A function of f's arguments. It returns the derivatives in the shape of the argument: a float for a number, an
        array for an array, a list, tuple or dict for one of these; a tuple of them where argnums is a sequence. Keyword
        arguments are passed on. With has_aux, a pair: that, and aux, with floats for Values where derivatives
        are floats.

    Raises:
        TypeError: When it is called: f returns anything but one number, an argument holds something that is no number,
            or there is no such argument.

    Source:
        Reverse accumulation: Griewank and Walther, Evaluating Derivatives, 2008, section 3.2.

    Example:
        >>> grad(lambda p: p["a"] * p["b"][0])({"a": 2.0, "b": [3.0, 4.0]})
        {'a': 3.0, 'b': [2.0, 0.0]}
    """
    return _gradient("grad", f, argnums, has_aux)


def value_and_grad(f: Callable[P, R], argnums: Argnums = 0, has_aux: bool = False) -> Callable[P, tuple[R, Any]]:
    """The value of a scalar function and its gradient, from one recording.

    Args:
        f: A function that returns one number.
        argnums: The positional argument to differentiate by, or a sequence of them, as in `grad`.
        has_aux: Whether f returns (number, aux), of which the number is differentiated.

    Returns:
        A function of f's arguments that returns a pair: f's value, and the gradient as `grad` gives it. With has_aux
        the value is a pair, too: (number, aux).

    Raises:
        TypeError: As in `grad`.

    Example:
        >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
        (6.0, (3.0, 2.0))
        >>> value_and_grad(lambda x: (x * x, {"half": x / 2, "name": "a"}), has_aux=True)(3.0)
        ((9.0, {'half': 1.5, 'name': 'a'}), 6.0)
    """

    def derive(call: _Call) -> Any:
        value, slopes = call.value_and_gradient()
        return ((value, call.auxiliary()), slopes) if has_aux else (value, slopes)

    return _transform("value_and_grad", f, argnums, derive, has_aux=has_aux, scalar=True)


def jacobian(f: Callable[P, Any], argnums: Argnums = 0, *, sparse: bool = False) -> Callable[P, Any]:
    """The derivatives of every output by every input: in the shape of the output, each in the shape of the input.

    f is recorded once, and the graph is swept for the outputs or for the inputs, whichever are fewer: for sixteen of
    them at once in the accelerated engine, whose sweeps then carry vectors. Sums are those of `topological_order`
    of all outputs together: where the outputs meet a node in other orders, an entry may differ in its last bit from
    `grad` of that output.

    Args:
        f: A function that returns numbers: one, an array, or lists, tuples and dicts of them.
        argnums: The positional argument to differentiate by, or a sequence of them, as in `grad`.
        sparse: Whether to give a `scipy.sparse.csr_array` instead (pip install scipy), with a row for each number of
            the output and a column for each of the input, in their order; the pattern is read off the graph.

    Returns:
        A function of f's arguments. For lists it returns a list of rows, a row for each output. Where output or input
        is an array, an entry is an array of shape output.shape + input.shape; an array of outputs by a list of inputs
        gives a list of columns. Inside a function that is being differentiated, a sparse array is the named tuple
        (data, indices, indptr, shape) of one, with Values for data.

    Raises:
        TypeError: As in `grad`, but for the number of outputs.

    Source:
        Vector modes: Griewank and Walther, Evaluating Derivatives, 2008, sections 3.1 and 3.2.

    Example:
        >>> import numpy as np
        >>> f = lambda x: [x[0] * x[1], 5 * x[0]]
        >>> jacobian(f)([2.0, 3.0])  # [by output][by input]
        [[3.0, 2.0], [5.0, 0.0]]
        >>> jacobian(lambda x: np.array(f(x)))(np.array([2.0, 3.0]))  # [by output, by input]
        array([[3., 2.],
               [5., 0.]])
        >>> jacobian(lambda x: np.array(f(x)))([2.0, 3.0])  # one array of the outputs' derivatives for each input
        [array([3., 5.]), array([2., 0.])]
    """
    if sparse:
        return _sparse("jacobian", f, argnums, _Call.sparse_jacobian)
    return _transform("jacobian", f, argnums, _Call.jacobian)


def hessian(f: Callable[P, Any], argnums: Argnums = 0, *, sparse: bool = False) -> Callable[P, Any]:
    """The second derivatives of a scalar function: the Jacobian of its gradient.

    Args:
        f: A function that returns one number.
        argnums: The positional argument to differentiate by, or a sequence of them, as in `grad`.
        sparse: Whether to give a `scipy.sparse.csr_array`, as in `jacobian`, from one sweep over the graph of f.

    Returns:
        A function of f's arguments. By a number it returns a number, by a list of n numbers n lists of n, by an array
        of shape s an array of shape s + s.

    Raises:
        TypeError: As in `grad`.

    Example:
        >>> hessian(lambda x: x[0] ** 2 * x[1])([2.0, 3.0])
        [[6.0, 4.0], [4.0, 0.0]]
        >>> print(hessian(lambda x: x[0] ** 2 + x[1] * x[2], sparse=True)([2.0, 3.0, 4.0]).toarray())
        [[2. 0. 0.]
         [0. 0. 1.]
         [0. 1. 0.]]
    """
    if sparse:
        return _sparse("hessian", f, argnums, _Call.sparse_hessian)
    return _transform("hessian", f, argnums, _Call.jacobian, recorded=_gradient("hessian", f, argnums))


def jvp(f: Callable[P, R], primals: Sequence[Any], tangents: Sequence[Any], /, **kwargs: Any) -> tuple[R, R]:
    """f(*primals, **kwargs) and its derivative in the direction of the tangents: the Jacobian times the tangents.

    One sweep from the variables on, whatever the number of outputs.

    Args:
        f: A function that returns numbers: one, an array, or lists, tuples and dicts of them.
        primals: The positional arguments of f, in a tuple or list.
        tangents: The direction, in the same shape: a number for a number, an array for an array of its shape.
        **kwargs: Keyword arguments of f, which are not differentiated by.

    Returns:
        A pair, each in the shape of f's value: the value, and the derivative.

    Raises:
        TypeError: f returns, or an argument holds, something that is no number.
        ValueError: The tangents are not in the shape of the primals.

    Source:
        Forward accumulation: Griewank and Walther, Evaluating Derivatives, 2008, section 3.1.

    Example:
        >>> jvp(lambda x, y: [x * y, x + y], (2.0, 3.0), (1.0, 10.0))
        ([6.0, 5.0], [23.0, 11.0])
    """
    return _jvp(f"jvp({_name(f)})", f, primals, tangents, kwargs)


def vjp(f: Callable[P, R], /, *primals: P.args, **kwargs: P.kwargs) -> tuple[R, Callable[..., tuple[Any, ...]]]:
    """f(*primals, **kwargs), and the function from a cotangent of it to cotangents of the primals.

    Each call of that function is one sweep from the outputs back, whatever the number of inputs.

    Args:
        f: A function that returns numbers: one, an array, or lists, tuples and dicts of them.
        *primals: The positional arguments of f.
        **kwargs: Keyword arguments of f, which are not differentiated by.

    Returns:
        A pair: f's value, and a function. That takes a cotangent in the shape of the value (1.0 unless given;
        ValueError where the shape is another) and returns a tuple, for each primal the cotangent in its shape.

    Raises:
        TypeError: f returns, or an argument holds, something that is no number.

    Example:
        >>> value, pull = vjp(lambda x, y: [x * y, x + y], 2.0, 3.0)
        >>> value, pull([1.0, 10.0])
        ([6.0, 5.0], (13.0, 12.0))
    """
    call = _Call(f"vjp({_name(f)})", f, primals, kwargs)

    def pull(cotangent: Any = 1.0) -> Any:
        cotangents = call.matched(call.result, cotangent, "cotangent")
        graph = call.graph or _RECORDING.get() or _holds_value(cotangents)
        return call.rebuild(iter(call.pull(cotangents, graph)))

    return call.value(), pull


def hvp(f: Callable[P, Any], primals: Sequence[Any], tangents: Sequence[Any], /, **kwargs: Any) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian: forward over reverse, two sweeps.

    Args:
        f: A function that returns one number.
        primals: The positional arguments of f, in a tuple or list; the Hessian is that of f as a function of all.
        tangents: The vector, in the same shape: a number for a number, an array for an array of its shape.
        **kwargs: Keyword arguments of f, which are not differentiated by.

    Returns:
        The product, in the shape of the one primal; where there are several, a tuple with an entry for each.

    Raises:
        TypeError: f returns anything but one number, or an argument holds something that is no number.
        ValueError: The tangents are not in the shape of the primals.

    Source:
        Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Example:
        >>> hvp(lambda x: x[0] ** 2 * x[1], ([2.0, 3.0],), ([1.0, 1.0],))
        [10.0, 4.0]
    """
    products = _jvp(f"hvp({_name(f)})", _gradient("hvp", f, None), primals, tangents, kwargs)[1]
    return products[0] if len(products) == 1 else products


def vmap(f: Callable[P, Any], in_axes: Any = 0) -> Vmap:
    """f applied to every row of its arguments, as a function of all rows at once; the results are stacked into arrays.

    It nests with every transform, inside and outside. `jit(vmap(f))` is the batch, compiled.

    Args:
        f: A function that returns a number, an array, or lists, tuples and dicts of them, built alike for every row.
        in_axes: Along which axis of each argument the rows lie. An int for all arguments, or a tuple with an entry for
            each: an int, None for an argument that is the same for every row, or, as the argument, a tuple or dict of
            these. An array's rows lie along that axis; a list is a list of rows; a tuple or dict has a row of each of
            its entries. Keyword arguments are passed on as they are.

    Returns:
        A function of f's arguments with a further axis. It returns f's result with an array, of floats or of Values,
        for each number or array; what is no number must be the same for all rows. No rows give an empty array.

    Raises:
        TypeError: When it is called: an argument has no such axis.
        ValueError: When it is called: arguments have different numbers of rows, there is none to map over, or rows give
            results that are built differently.

    Example:
        >>> vmap(lambda x, a: a * x[0] + x[1], in_axes=(0, None))([[1.0, 2.0], [3.0, 4.0]], 10.0)
        array([12., 34.])
        >>> vmap(grad(lambda x: x**3))([1.0, 2.0])
        array([ 3., 12.])
        >>> grad(lambda a: vmap(lambda x: a * x)([1.0, 2.0]).sum())(5.0)
        3.0
    """
    return Vmap(f, in_axes)


class Vmap:
    """The function that `vmap` returns: called with all rows, it calls `function` row by row."""

    function: Function
    in_axes: Any

    def __init__(self, function: Function, in_axes: Any = 0) -> None:
        if not callable(function):
            raise TypeError(f"vmap takes a function, not {reprlib.repr(function)} ({type(function).__name__})")
        functools.update_wrapper(self, function, updated=())
        self.function, self.in_axes = function, in_axes
        self.__name__ = self.__qualname__ = f"vmap({_name(function)})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function's results for all rows, stacked."""
        axes = self.in_axes if isinstance(self.in_axes, (tuple, list)) else (self.in_axes,) * len(args)
        if len(axes) != len(args):
            raise ValueError(f"{self.__name__}: in_axes={self.in_axes!r} is for {len(axes)} arguments, not {len(args)}")
        sizes: dict[str, int] = {}
        rows = [self.rows(arg, axis, f"args[{i}]", sizes) for i, (arg, axis) in enumerate(zip(args, axes))]
        if not sizes:
            raise ValueError(f"{self.__name__}: no argument is mapped; in_axes={self.in_axes!r}")
        if len(set(sizes.values())) > 1:
            given = ", ".join(f"{at} has {size}" for at, size in sizes.items())
            raise ValueError(f"{self.__name__}: {given} rows; they must be equally many")
        (count,) = set(sizes.values())
        results = [self.function(*[row(i) for row in rows], **kwargs) for i in range(count)]
        return self.stacked(results) if results else _numpy().empty(0)

    def rows(self, tree: Any, axes: Any, at: str, sizes: dict[str, int]) -> Callable[[int], Any]:
        """A function that gives row i of an argument; adds the number of rows of each leaf to `sizes`."""
        if axes is None:
            return lambda i: tree
        if isinstance(axes, trees.CONTAINERS):
            if not isinstance(tree, trees.CONTAINERS) or set(trees.keys(axes)) != set(trees.keys(tree)):
                raise ValueError(f"{self.__name__}: in_axes={axes!r} is not built like {at}, {reprlib.repr(tree)}")
            each = dict(zip(trees.keys(axes), trees.children_of(axes)))
        elif isinstance(tree, trees.CONTAINERS) and not isinstance(tree, list):
            each = dict.fromkeys(trees.keys(tree), axes)
        else:
            found = self.along(tree, axes, at)
            sizes[at] = len(found)
            return found.__getitem__
        children = zip(trees.keys(tree), trees.children_of(tree))
        parts = [self.rows(child, each[key], f"{at}[{key!r}]", sizes) for key, child in children]
        return lambda i: trees.like(tree, [part(i) for part in parts])

    def along(self, leaf: Any, axis: Any, at: str) -> list[Any]:
        """The rows of an array or of a list along an axis."""
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise TypeError(f"{self.__name__}: an axis is an int or None, not {axis!r} ({type(axis).__name__})")
        if trees.is_array(leaf) and -leaf.ndim <= axis < leaf.ndim:
            moved = _numpy().moveaxis(leaf, axis, 0)
            return moved.tolist() if leaf.ndim == 1 else list(moved)  # plain floats, which raise as floats do
        if isinstance(leaf, list) and axis == 0:
            return leaf
        if isinstance(leaf, list) and axis > 0:
            columns = [self.along(row, axis - 1, f"{at}[{i}]") for i, row in enumerate(leaf)]
            if len(set(map(len, columns))) > 1:
                raise ValueError(f"{self.__name__}: the rows of {at} differ in length along axis {axis}")
            return list(map(list, zip(*columns)))
        shown = f"{reprlib.repr(leaf)} ({type(leaf).__name__})"
        raise TypeError(f"{self.__name__}: {at} has no axis {axis}: {shown}; in_axes=None leaves an argument as it is")

    def __repr__(self) -> str:
        return f"<{self.__name__}>"

    def stacked(self, results: list[Any]) -> Any:
        """Stack the results of the rows: an array for every number or array in them."""
        numpy, first = _numpy(), results[0]
        for i, other in enumerate(results):
            if _build(other) != _build(first):
                given = f"{reprlib.repr(first)} for row 0 and {reprlib.repr(other)} for row {i}"
                raise ValueError(f"{self.__name__} gives differently built results: {given}; map it with a loop")
        if isinstance(first, trees.CONTAINERS):
            columns = zip(*[trees.children_of(x) for x in results])
            return trees.like(first, [self.stacked(list(column)) for column in columns])
        if trees.is_array(first):
            return numpy.stack(results)
        if not isinstance(first, (Real, numpy.bool_)):
            return first
        return numpy.array(results, object if any(isinstance(x, Value) for x in results) else None)


def _build(result: Any) -> Any:
    """The structure of a result, which must be the same for all rows."""
    if isinstance(result, trees.CONTAINERS):
        return type(result), trees.keys(result), trees.rest_of(result)
    if trees.is_array(result):
        return "array", result.shape
    return "number" if isinstance(result, Real) or type(result).__name__ in ("bool_", "bool") else result


def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise ImportError("vmap stacks its results in NumPy arrays: pip install numpy") from error


def recording(variables: Sequence[Value], f: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    """Call f; meanwhile, transforms called in this thread return Values, as in a function that is being differentiated.

    Used where a function is recorded, since a derivative in it may depend on variables that are not its arguments. In
    other threads a transform returns Values if its function has used one of the variables. No context manager: an
    interrupt at the start of its `__exit__` would leave this thread recording for good.
    """
    before, key = _RECORDING.get(), object()
    try:
        VARIABLES[key] = get_ident(), variables
        _RECORDING.set(True)
        return f(*args, **kwargs)
    finally:  # an interrupt comes after a call: the last one here
        if key in VARIABLES:
            del VARIABLES[key]
        _RECORDING.set(before)


def numbers_only(f: Callable[..., R], /, *args: Any) -> R:
    """Call f; meanwhile, this thread is in no function that is differentiated or recorded: plain numbers come out.

    For what is opaque to derivatives: a solver that makes use of derivatives of its own.
    """
    before, paused = _RECORDING.get(), RECORDINGS[:]
    try:
        RECORDINGS.clear()
        _RECORDING.set(False)
        return f(*args)
    finally:
        RECORDINGS[:] = paused
        _RECORDING.set(before)


def _forked() -> None:
    """In a forked process: remove the recordings of threads that do not exist there."""
    for key, (thread, _) in list(VARIABLES.items()):
        if thread != get_ident():
            del VARIABLES[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class _Call:
    """One call of f, recorded between variables of its own and its outputs; and the sweeps over that graph.

    The variables are new nodes even where an argument is a Value: were they not, an inner derivative by x and an
    outer one by x would be confused.
    """

    def __init__(
        self,
        title: str,
        f: Function,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: Argnums | None = None,
        has_aux: bool = False,
    ) -> None:
        self.title, self.function = title, f
        chosen = self.positions(argnums, len(args))
        self.inputs: Any = args[chosen[0]] if isinstance(argnums, int) else tuple([args[i] for i in chosen])
        entries, kinds, self.rebuild = trees.taken_apart(self.inputs)
        floats = kinds == {float}
        self.graph = inside() or (not floats and _of_values(kinds))  # whether derivatives are Values
        if not self.graph and (kwargs or len(chosen) < len(args)):
            self.graph = _holds_value(([x for i, x in enumerate(args) if i not in chosen], kwargs))
        if floats:
            self.variables = variables(entries)
        else:
            numbers = []
            for i in chosen:
                numbers += self.numbers(trees.entries(args[i]), args[i], f"args[{i}]")
            self.variables = [x.pos() if isinstance(x, Value) else Value(x) for x in numbers]
        self.tapes: dict[bool, Tape] = {}
        self.leaves: list[Value] | None = None  # in place of the derivatives, see `deferred`
        inputs = self.rebuild(iter(self.variables))
        replaced = list(args)
        for i, x in zip(chosen, [inputs] if isinstance(argnums, int) else inputs):
            replaced[i] = x
        self.result = recording(self.variables, f, *replaced, **kwargs)
        self.aux: Any = None
        if has_aux:
            if not isinstance(self.result, tuple) or len(self.result) != 2:
                raise TypeError(f"{title}: with has_aux {self.name} returns (number, aux), not {self.result!r}")
            self.result, self.aux = self.result
        if VARIABLES and not self.graph:
            self.graph = self.depends_on([x for _, variables in list(VARIABLES.values()) for x in variables])

    def depends_on(self, others: list[Value]) -> bool:
        """Whether an output depends on one of these variables, which belong to recordings in other threads."""
        values = [x for x in trees.entries(self.result) if isinstance(x, Value)] if others else []
        return bool(values) and not set(topological_order(sum(values[1:], start=values[0]))).isdisjoint(others)

    def positions(self, argnums: Argnums | None, count: int) -> list[int]:
        """The indices of the arguments to differentiate by; all of them for None."""
        everything = range(count)
        chosen = everything if argnums is None else [argnums] if isinstance(argnums, int) else argnums
        try:
            found = [everything[i] for i in chosen]
        except (IndexError, TypeError):
            raise TypeError(f"{self.title}: argnums={argnums!r}, but there are {count} positional arguments") from None
        if len(set(found)) < len(found):
            raise TypeError(f"{self.title}: argnums={argnums} names an argument twice")
        return found

    def numbers(self, entries: Iterable[Any], tree: Any, at: str) -> list[Number]:
        """The entries of a tree, real numbers as floats; TypeError names the entry that is no number."""
        numbers: list[Number] = []
        for x in entries:
            try:
                numbers.append(x if isinstance(x, Value) else number(x))
            except TypeError as error:
                raise TypeError(f"{self.title}, {list(trees.locations(tree, at))[len(numbers)]}: {error}") from None
        return numbers

    def matched(self, tree: Any, other: Any, at: str) -> list[Number]:
        """The entries of a tangent or cotangent, in the order of the tree that it belongs to."""
        return self.numbers(trees.matched(tree, other, f"{self.title}: {at}"), tree, at)

    @functools.cached_property
    def outputs(self) -> list[Value]:
        """The numbers that f returned, as Values."""
        if type(self.result) is Value:
            return [self.result]
        numbers = self.numbers(trees.entries(self.result), self.result, f"{self.name}(...)")
        return [x if isinstance(x, Value) else Value(x) for x in numbers]

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return _name(self.function)

    @property
    def output(self) -> Value:
        """The one number that f returned; TypeError where it returned anything else."""
        if type(self.result) is Value:
            return self.result
        x = self.result.item() if trees.is_array(self.result) and self.result.size == 1 else self.result
        if not isinstance(x, (Value, Real)):
            kind = f"{reprlib.repr(x)} ({type(x).__name__})"
            raise TypeError(f"{self.title}: {self.name} must return one number, not {kind}; for several, take jacobian")
        return self.outputs[0]

    def value(self) -> Any:
        """What f returned, as Values or floats."""
        return trees.shaped(self.result, _finished(self.outputs, self.graph))

    def auxiliary(self) -> Any:
        """What f returned beside its number, with floats for Values where derivatives are floats."""
        entries, kinds, build = trees.taken_apart(self.aux)
        if self.graph or not _of_values(kinds):
            return self.aux
        return build(iter([x._data if isinstance(x, Value) else x for x in entries]))

    def value_and_gradient(self) -> tuple[Number, Any]:
        """The only output, and its derivatives in the shape of the inputs."""
        (value,) = _finished([self.output], self.graph)
        return value, self.gradient()

    def gradient(self) -> Any:
        """The derivatives of the only output, in the shape of the inputs."""
        output = self.output
        derivatives = self.pull([1.0], True) if self.graph else slopes(output, self.variables)
        return self.rebuild(iter(derivatives))

    def deferred(self) -> tuple[Value, list[Value], list[Value]]:
        """The output, the variables, and leaves in place of the derivatives by them, of which no graph is made."""
        self.leaves = variables(slopes(self.output, self.variables))
        return self.output, self.variables, self.leaves

    def rows(self) -> list[list[Number]]:
        """The derivatives of every output by all variables."""
        m, n = len(self.outputs), len(self.variables)
        found = None if self.graph or min(m, n) < 2 else slope_rows(self.outputs, self.variables, m > n)
        if found is not None:
            return found
        if m <= n:
            return [self.pull(unit, self.graph) for unit in _units(m)]
        columns = [self.push(unit, self.graph) for unit in _units(n)]
        return [[column[i] for column in columns] for i in range(m)]

    def jacobian(self) -> Any:
        """The derivatives of all outputs by all inputs, in the shape of the result, each in the shape of the inputs."""
        rest = iter(self.rows())

        def blocks(output: Any) -> Iterator[Any]:
            """The derivatives of one leaf of the result by every leaf of the inputs."""
            mine, start = list(islice(rest, trees.size(output))), 0
            for x in trees.leaves(self.inputs):
                stop = start + trees.size(x)
                yield trees.outer(output, x, [entry for row in mine for entry in row[start:stop]])
                start = stop

        return trees.rebuilt(self.result, (trees.rebuilt(self.inputs, blocks(y)) for y in trees.leaves(self.result)))

    def sparse_jacobian(self) -> Entries:
        """The derivatives of all outputs by all variables, those that may differ from 0."""
        rows = jacobian_rows(self.outputs, self.variables, self.tape(self.graph))
        return from_rows(rows, len(self.variables))

    def sparse_hessian(self) -> Entries:
        """The second derivatives of the only output, those that may differ from 0."""
        rows = hessian_rows(self.output, self.variables, self.tape(self.graph), self.graph)
        return from_rows(rows, len(self.variables))

    def tape(self, graph: bool) -> Tape:
        """The graph between variables and outputs, in the order of a sweep; made when first needed."""
        if graph not in self.tapes:
            self.tapes[graph] = _tape(self.outputs, self.variables, graph)
        return self.tapes[graph]

    def pull(self, cotangents: Sequence[Number], graph: bool) -> list[Number]:
        """Reverse accumulation: the cotangents of the variables, from those of the outputs."""
        if self.leaves is not None:
            return [*self.leaves]
        if not graph:  # as the gradient of sum(output * cotangent)
            terms = [y if u == 1.0 else y * u for y, u in zip(self.outputs, cotangents) if u != 0.0]
            return slopes(sum(terms[1:], start=terms[0]), self.variables) if terms else [0.0 for _ in self.variables]
        adjoints: dict[Any, Number] = {}
        for output, cotangent in zip(self.outputs, cotangents):
            adjoints[output] = adjoints[output] + cotangent if output in adjoints else cotangent
        pull(reversed(self.tape(graph)), adjoints)
        return _finished([adjoints.get(x, 0.0) for x in self.variables], graph)

    def push(self, tangents: Sequence[Number], graph: bool) -> list[Number]:
        """Forward accumulation: the tangents of the outputs, from those of the variables."""
        if not graph:
            found = pushed(self.outputs, self.variables, [float(x) for x in tangents])
            if not any(map(math.isnan, found)):
                return found  # else there may be nodes without recorded partials, as `checkpoint` makes them
        known: dict[Any, Number] = dict(zip(self.variables, tangents))
        push(self.tape(graph), known)
        return _finished([known.get(x, 0.0) for x in self.outputs], graph)


def _tape(outputs: list[Value], variables: list[Value], graph: bool) -> Tape:
    """The nodes that the outputs depend on, each after its operands, with operands and partials.

    As in `topological_order`, but the walk stops at the variables, whose own operands are no part of the function. With
    `graph` the partials are Values, and nodes that do not depend on the variables are left out; with floats, finding
    them would cost twice what it saves.
    """
    order = [node for node in ordered(outputs, variables) if node.op is not None]
    if not graph:
        return [(node, node.operands, float_partials(node)) for node in order]
    tape: Tape = []
    reached = set(variables)
    for node in order:
        if node.op is not None and not reached.isdisjoint(node.operands):
            edges = [(x, partial) for x, partial in zip(node.operands, graph_partials(node, node.op)) if x in reached]
            tape.append((node, [x for x, _ in edges], [partial for _, partial in edges]))
            reached.add(node)
    return tape


def _finished(numbers: Iterable[Number], graph: bool) -> list[Number]:
    """All of them as Values, or all of them as floats."""
    if graph:
        return [x if isinstance(x, Value) else Value(x) for x in numbers]
    return [float(x._data if isinstance(x, Value) else x) for x in numbers]


def _units(n: int) -> list[list[float]]:
    """The unit vectors."""
    return [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]


def _holds_value(tree: Any) -> bool:
    """Whether a result holds a Value."""
    leaves = trees.leaves(tree)
    arrays = [x for x in leaves if trees.is_array(x) and x.dtype.hasobject] if "numpy" in sys.modules else []
    return any(_of_values(set(map(type, entries))) for entries in (leaves, *map(trees.elements, arrays)))


def _of_values(kinds: set[type]) -> bool:
    """Whether one of these types is Value; checking the types of all entries is faster than checking the entries."""
    return any(issubclass(kind, Value) for kind in kinds)


def _name(f: Function) -> str:
    """The function's name in messages."""
    name = getattr(f, "__name__", getattr(f, "name", None))  # an Op has a name
    return name if isinstance(name, str) else reprlib.repr(f)


def _jvp(title: str, f: Function, primals: Any, tangents: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """`jvp` under another title."""
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (list, tuple)):
            kind = f"{reprlib.repr(given)} ({type(given).__name__})"
            raise TypeError(f"{title} takes a tuple of {name}, one for each argument, not {kind}")
    call = _Call(title, f, tuple(primals), kwargs)
    call.graph = call.graph or _holds_value(tangents)
    products = call.push(call.matched(call.inputs, tuple(tangents), "tangents"), call.graph)
    return call.value(), trees.shaped(call.result, products)


def _gradient(transform: str, f: Function, argnums: Argnums | None, has_aux: bool = False) -> Function:
    """`grad` under another title."""

    def derive(call: _Call) -> Any:
        slopes = call.gradient()
        return (slopes, call.auxiliary()) if has_aux else slopes

    return _transform(transform, f, argnums, derive, has_aux=has_aux, scalar=True)


def _sparse(transform: str, f: Function, argnums: Argnums, derive: Callable[[_Call], Entries]) -> Function:
    """The function that gives a sparse array; `jit` compiles what finds its entries."""
    found = _transform(transform, f, argnums, derive)

    @functools.wraps(found)
    def derivative(*args: Any, **kwargs: Any) -> Any:
        return found(*args, **kwargs).array()

    vars(derivative)["entries"] = found
    return derivative


def _transform(
    transform: str,
    f: Function,
    argnums: Argnums | None,
    derive: Callable[[_Call], Any],
    recorded: Function | None = None,
    has_aux: bool = False,
    scalar: bool = False,
) -> Function:
    """The function that records a call of f (or of `recorded`), and returns `derive` of the recording.

    scalar: it takes the gradient of one number, once, which a compiler may do by itself: in two parts.
    """
    name = _name(f)
    title = f"{transform}({name})"

    def derivative(*args: Any, **kwargs: Any) -> Any:
        return derive(_Call(title, recorded or f, args, kwargs, argnums, has_aux))

    functools.update_wrapper(derivative, f, _KEPT, ())
    vars(derivative)["is_derivative"] = True  # it gives numbers for numbers
    if scalar:

        def called(args: Any, kwargs: Any) -> _Call:
            return _Call(title, recorded or f, args, kwargs, argnums, has_aux)

        vars(derivative)["parts"] = called, derive
    derivative.__name__ = derivative.__qualname__ = title
    derivative.__doc__ = f"{title}, by argument {argnums}; arguments as for {name}.\n\n{f.__doc__ or ''}"
    return derivative


# What a derivative has of its function, beside what is written anew
_KEPT = [name for name in functools.WRAPPER_ASSIGNMENTS if name not in ("__name__", "__qualname__", "__doc__")]

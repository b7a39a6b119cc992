"""Derivatives of functions: a transform takes a function and gives the function of its derivatives.

The function is called once and recorded, with variables of its own in place of the arguments that are differentiated;
then that graph is swept, from the outputs back (`grad`, `vjp`) or from the variables on (`jvp`), by the same partials.

>>> cube = lambda x: x**3
>>> grad(cube)(2.0), grad(grad(cube))(2.0)
(12.0, 12.0)

An argument is a number, an array, a Value, or lists, tuples and dicts of them; derivatives come back in its shape.
They are floats (or float arrays) where plain numbers come in. Where a Value is among the arguments, or where the call
stands inside a function that is itself being differentiated, they are Values, which can be differentiated again.
The `grad` of a Value is never touched.
"""

from __future__ import annotations

import functools
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from numbers import Real
from threading import get_ident
from typing import Any, TypeAlias

from micrograd_bp import _trees
from micrograd_bp.ops import VARIABLES, number
from micrograd_bp.value import Value, _partials, _product, slopes, topological_order

Function: TypeAlias = Callable[..., Any]
Argnums: TypeAlias = int | Sequence[int]
Number: TypeAlias = Any  # a float; or a Value, where the result is to be differentiated again
Tape: TypeAlias = list[tuple[Value, Sequence[Number], Sequence[Number]]]  # (node, operands, partials), operands first

_RECORDING: ContextVar[bool] = ContextVar("recording", default=False)


def grad(f: Function, argnums: Argnums = 0) -> Function:
    """The gradient of a scalar function, as a function of the same arguments.

    argnums: the positional argument to differentiate by, or a sequence of them, for a tuple of gradients; negative
    ones count from the end. Keyword arguments are passed on. TypeError: f returns anything but one number, or an
    argument holds something that is no number.

    >>> grad(lambda p: p["a"] * p["b"][0])({"a": 2.0, "b": [3.0, 4.0]})
    {'a': 3.0, 'b': [2.0, 0.0]}
    """
    return _gradient("grad", f, argnums)


def value_and_grad(f: Function, argnums: Argnums = 0) -> Function:
    """The value of a scalar function and its gradient, from one recording. Arguments and errors as in `grad`.

    >>> value_and_grad(lambda x, y: x * y, argnums=(0, 1))(2.0, 3.0)
    (6.0, (3.0, 2.0))
    """
    return _transform("value_and_grad", f, argnums, _Call.value_and_gradient)


def jacobian(f: Function, argnums: Argnums = 0) -> Function:
    """The derivatives of every output by every input: in the shape of the output, each in the shape of the input.

    Where one of the two is an array, an entry is an array of shape output.shape + input.shape. f is recorded once and
    swept once for each output or once for each input, whichever are fewer. Arguments and errors as in `grad`.

    >>> jacobian(lambda x: [x[0] * x[1], 5 * x[0]])([2.0, 3.0])
    [[3.0, 2.0], [5.0, 0.0]]
    """
    return _transform("jacobian", f, argnums, _Call.jacobian)


def hessian(f: Function, argnums: Argnums = 0) -> Function:
    """The second derivatives of a scalar function: the Jacobian of its gradient.

    By a list of n numbers it is n lists of n, by an array of shape s an array of shape s + s, by a number a number.
    Arguments and errors as in `grad`.

    >>> hessian(lambda x: x[0] ** 2 * x[1])([2.0, 3.0])
    [[6.0, 4.0], [4.0, 0.0]]
    """
    return _transform("hessian", f, argnums, _Call.jacobian, recorded=_gradient("hessian", f, argnums))


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], /, **kwargs: Any) -> tuple[Any, Any]:
    """f(*primals, **kwargs) and its derivative in the direction of the tangents: the Jacobian times the tangents.

    Forward accumulation: one sweep from the variables on, whatever the number of outputs. primals: a tuple or list of
    f's arguments; tangents: built alike (ValueError otherwise), a number for a number, an array for an array.
    TypeError: f returns, or an argument holds, something that is no number.

    >>> jvp(lambda x, y: [x * y, x + y], (2.0, 3.0), (1.0, 10.0))
    ([6.0, 5.0], [23.0, 11.0])
    """
    return _jvp(f"jvp({_name(f)})", f, primals, tangents, kwargs)


def vjp(f: Function, /, *primals: Any, **kwargs: Any) -> tuple[Any, Function]:
    """f(*primals, **kwargs), and the function from a cotangent of it to cotangents of the primals.

    Reverse accumulation: each call of that function is one sweep, whatever the number of inputs. It takes a cotangent
    built as f's value is (ValueError otherwise), 1.0 unless given, and gives a tuple, an entry for each primal.
    TypeError as in `jvp`.

    >>> value, pull = vjp(lambda x, y: [x * y, x + y], 2.0, 3.0)
    >>> value, pull([1.0, 10.0])
    ([6.0, 5.0], (13.0, 12.0))
    """
    call = _Call(f"vjp({_name(f)})", f, primals, kwargs)

    def pull(cotangent: Any = 1.0) -> Any:
        cotangents = call.matched(call.result, cotangent, "cotangent")
        graph = call.graph or _RECORDING.get() or _holds_value(cotangents)
        return _trees.shaped(call.inputs, call.pull(cotangents, graph))

    return call.value(), pull


def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any], /, **kwargs: Any) -> Any:
    """The Hessian of a scalar function times a vector, without the Hessian: forward over reverse, two sweeps.

    Arguments and errors as in `jvp`. The product has the shape of the one primal; where there are several it is a
    tuple, an entry for each, and the Hessian is that of f as a function of all of them.

    >>> hvp(lambda x: x[0] ** 2 * x[1], ([2.0, 3.0],), ([1.0, 1.0],))
    [10.0, 4.0]
    """
    products = _jvp(f"hvp({_name(f)})", _gradient("hvp", f, None), primals, tangents, kwargs)[1]
    return products[0] if len(products) == 1 else products


@contextmanager
def recording(variables: Sequence[Value] = ()) -> Iterator[None]:
    """While it lasts, in this thread, every transform gives Values, as inside a function that is differentiated.

    For whoever records a function: a derivative may depend on a variable that is not among its arguments. In other
    threads those transforms give Values whose function has come upon one of the variables.
    """
    token, key = _RECORDING.set(True), object()
    VARIABLES[key] = get_ident(), variables
    try:
        yield
    finally:
        VARIABLES.pop(key, None)
        _RECORDING.reset(token)


def vmap(f: Function, in_axes: Any = 0) -> Vmap:
    """f for each row of arrays: the function that maps f over an axis of its arguments and stacks what it returns.

    in_axes: the axis of every argument along which its rows lie, None for an argument that is the same for all rows,
    or a tuple with an entry for each argument. An argument is an array, a list of rows, or a tuple or dict of these;
    each is mapped. Results are stacked along a first axis: numbers to an array of shape (n,), arrays of shape s to
    (n, *s), and lists, tuples and dicts part by part; they hold Values where f gives Values. Keyword arguments are
    the same for all rows. No rows give an empty array. `jit(vmap(f))` is the batch, compiled. ValueError: arguments of
    different lengths, rows with results that are built differently. TypeError: an argument has no such axis.

    >>> import numpy as np
    >>> vmap(lambda x, y: x * y + 1.0)(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [4.0, 9.0]
    >>> vmap(grad(lambda v, a: a * (v * v).sum()), in_axes=(0, None))(np.eye(2), 0.5).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return Vmap(f, in_axes)


class Vmap:
    """A function over a batch; see `vmap`."""

    def __init__(self, function: Function, in_axes: Any) -> None:
        if not callable(function):
            raise TypeError(f"vmap takes a function, not {function!r}")
        functools.update_wrapper(self, function, updated=())
        self.function, self.in_axes = function, in_axes

    def __repr__(self) -> str:
        return f"<vmap of {_name(self.function)}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        title = f"vmap({_name(self.function)})"
        axes = self.in_axes
        axes = tuple(axes) if isinstance(axes, (tuple, list)) else (axes,) * len(args)
        if len(axes) != len(args):
            raise ValueError(f"{title}: in_axes has {len(axes)} entries for {len(args)} arguments")
        sizes = {f"args[{k}]": n for k, (arg, axis) in enumerate(zip(args, axes)) for n in _sizes(arg, axis, title, k)}
        if not sizes:
            raise ValueError(f"{title}: no argument is mapped; in_axes is {self.in_axes!r}")
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name} has {n} rows" for name, n in sizes.items())
            raise ValueError(f"{title}: {said}; they must be equally many")
        n = next(iter(sizes.values()))
        results = [self.function(*[_row(arg, axis, i) for arg, axis in zip(args, axes)], **kwargs) for i in range(n)]
        return _stacked(results, title)


def _sizes(tree: Any, axis: int | None, title: str, k: int) -> list[int]:
    """How many rows each array or list of an argument has; at most two different ones are told."""
    if axis is None:
        return []
    if isinstance(tree, (tuple, dict)):
        return [n for x in (tree.values() if isinstance(tree, dict) else tree) for n in _sizes(x, axis, title, k)]
    if isinstance(tree, list) and axis == 0:
        return [len(tree)]
    if not _trees.is_array(tree) or not -tree.ndim <= axis < tree.ndim:
        kind = f"{reprlib.repr(tree)} ({type(tree).__name__})"
        raise TypeError(f"{title}: args[{k}] has no axis {axis}: {kind}; in_axes=None leaves an argument as it is")
    return [tree.shape[axis]]


def _row(tree: Any, axis: int | None, i: int) -> Any:
    """Row i of an argument: a number, not NumPy's kind of it, where the row is one."""
    if axis is None:
        return tree
    if isinstance(tree, (tuple, dict)):
        parts = [_row(x, axis, i) for x in (tree.values() if isinstance(tree, dict) else tree)]
        if isinstance(tree, dict):
            return dict(zip(tree, parts))
        return tree._make(parts) if hasattr(tree, "_make") else tuple(parts)
    if isinstance(tree, list):
        return tree[i]
    row = tree.take(i, axis)
    return row if row.ndim else row.item()


def _stacked(results: list[Any], title: str) -> Any:
    """The results of the rows, part by part as arrays."""
    import numpy as np

    if not results:
        return np.empty(0)
    first = results[0]
    shapes = [[_trees.shape(x) for x in _trees.leaves(result)] for result in results]
    kinds = {type(x) if isinstance(x, _trees.CONTAINERS) else None for x in results}
    if any(shape != shapes[0] for shape in shapes) or len(kinds) > 1:
        raise ValueError(f"{title} returns differently built results for its rows; map it with a loop")
    columns = zip(*[_trees.leaves(result) for result in results])

    def stacked(column: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
        if not all(isinstance(x, Real) or _trees.is_array(x) for x in column):
            if all(x is column[0] or x == column[0] for x in column):
                return column[0]
            raise ValueError(f"{title} returns {column[0]!r} and others that cannot be stacked; map it with a loop")
        if any(isinstance(x, Value) or (_trees.is_array(x) and x.dtype.hasobject) for x in column):
            numbers = [y for x in column for y in _trees.elements(x)]
            return _trees.array([float(y) if not isinstance(y, Value) else y for y in numbers], (len(column), *shape))
        return np.array(column)

    return _trees.rebuilt(first, iter([stacked(c, shape) for c, shape in zip(columns, shapes[0])]))


def is_recording() -> bool:
    """Whether this thread is inside a function that is being differentiated or recorded."""
    return _RECORDING.get()


def _forked() -> None:
    """Forget the recordings of threads that a fork has left behind."""
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
        self, title: str, f: Function, args: Sequence[Any], kwargs: dict[str, Any], argnums: Argnums | None = None
    ) -> None:
        self.title, self.name = title, _name(f)
        self.graph = _RECORDING.get() or _holds_value((args, kwargs))  # whether the derivatives are Values
        chosen = self.positions(argnums, len(args))
        self.inputs: Any = args[chosen[0]] if isinstance(argnums, int) else tuple(args[i] for i in chosen)
        self.variables: list[Value] = []
        self.tapes: dict[bool, Tape] = {}
        replaced = list(args)
        for i in chosen:
            numbers = self.numbers(_trees.entries(args[i]), args[i], f"args[{i}]")
            variables = [x.pos() if isinstance(x, Value) else Value(x) for x in numbers]
            replaced[i] = _trees.shaped(args[i], variables)
            self.variables += variables
        with recording(self.variables):
            self.result = f(*replaced, **kwargs)
        if VARIABLES and not self.graph:
            self.graph = self.depends_on([x for _, variables in list(VARIABLES.values()) for x in variables])

    def depends_on(self, others: list[Value]) -> bool:
        """Whether an output was made of one of these variables, of recordings in other threads."""
        values = [x for x in _trees.entries(self.result) if isinstance(x, Value)] if others else []
        return bool(values) and not set(topological_order(sum(values[1:], start=values[0]))).isdisjoint(others)

    def positions(self, argnums: Argnums | None, count: int) -> list[int]:
        """Which of so many positional arguments are differentiated; all of them for None."""
        chosen = range(count) if argnums is None else [argnums] if isinstance(argnums, int) else argnums
        try:
            found = [range(count)[i] for i in chosen]
        except (IndexError, TypeError):
            raise TypeError(f"{self.title}: argnums={argnums!r}, but there are {count} positional arguments") from None
        if len(set(found)) < len(found):
            raise TypeError(f"{self.title}: argnums={argnums} names an argument twice")
        return found

    def numbers(self, entries: Iterable[Any], tree: Any, at: str) -> list[Number]:
        """The entries of a tree, real numbers as floats; TypeError says where something is that is no number."""
        numbers: list[Number] = []
        for x in entries:
            try:
                numbers.append(x if isinstance(x, Value) else number(x))
            except TypeError as error:
                raise TypeError(f"{self.title}, {list(_trees.paths(tree, at))[len(numbers)]}: {error}") from None
        return numbers

    def matched(self, tree: Any, other: Any, at: str) -> list[Number]:
        """The entries of a tangent or cotangent, in the order of the tree that it belongs to."""
        return self.numbers(_trees.matched(tree, other, f"{self.title}: {at}"), tree, at)

    @functools.cached_property
    def outputs(self) -> list[Value]:
        """The numbers that f returned, as Values."""
        numbers = self.numbers(_trees.entries(self.result), self.result, f"{self.name}(...)")
        return [x if isinstance(x, Value) else Value(x) for x in numbers]

    @functools.cached_property
    def output(self) -> Value:
        """The one number that f returned; TypeError where it returned anything else."""
        x = self.result[()] if _trees.is_array(self.result) and not self.result.shape else self.result
        if not isinstance(x, (Value, Real)):
            kind = f"{reprlib.repr(x)} ({type(x).__name__})"
            raise TypeError(f"{self.title}: {self.name} must return one number, not {kind}; for several, take jacobian")
        return self.outputs[0]

    def value(self) -> Any:
        """What f returned, as Values or floats."""
        return _trees.shaped(self.result, _finished(self.outputs, self.graph))

    def value_and_gradient(self) -> tuple[Number, Any]:
        """The only output, and its derivatives in the shape of the inputs."""
        (value,) = _finished([self.output], self.graph)
        return value, _trees.shaped(self.inputs, self.pull([1.0], self.graph))

    def jacobian(self) -> Any:
        """The derivatives of all outputs by all inputs, in the shape of the result, each in the shape of the inputs."""
        m, n = len(self.outputs), len(self.variables)
        if m <= n:
            rows = [self.pull(unit, self.graph) for unit in _units(m)]
        else:
            columns = [self.push(unit, self.graph) for unit in _units(n)]
            rows = [[column[i] for column in columns] for i in range(m)]
        rest = iter(rows)

        def blocks(output: Any) -> Iterator[Any]:
            """The derivatives of one leaf of the result by every leaf of the inputs."""
            mine, start = list(islice(rest, _trees.size(output))), 0
            for x in _trees.leaves(self.inputs):
                stop = start + _trees.size(x)
                yield _trees.outer(output, x, [entry for row in mine for entry in row[start:stop]])
                start = stop

        return _trees.rebuilt(self.result, (_trees.rebuilt(self.inputs, blocks(y)) for y in _trees.leaves(self.result)))

    def tape(self, graph: bool) -> Tape:
        """The graph between the variables and the outputs, made ready to be swept when first needed."""
        if graph not in self.tapes:
            self.tapes[graph] = _tape(self.outputs, self.variables, graph)
        return self.tapes[graph]

    def pull(self, cotangents: Sequence[Number], graph: bool) -> list[Number]:
        """Reverse accumulation: the cotangents of the variables, from those of the outputs."""
        if not graph:  # of the sum of the outputs, each times its cotangent
            terms = [y if u == 1.0 else y * u for y, u in zip(self.outputs, cotangents) if u != 0.0]
            return slopes(sum(terms[1:], start=terms[0]), self.variables) if terms else [0.0 for _ in self.variables]
        adjoints: dict[Value, Number] = {}
        for output, cotangent in zip(self.outputs, cotangents):
            adjoints[output] = adjoints[output] + cotangent if output in adjoints else cotangent
        for node, operands, partials in reversed(self.tape(graph)):
            if node in adjoints:
                for operand, partial in zip(operands, partials):
                    term = _product(adjoints[node], partial)
                    if isinstance(term, Value) or term:
                        adjoints[operand] = adjoints[operand] + term if operand in adjoints else term
        return _finished([adjoints.get(x, 0.0) for x in self.variables], graph)

    def push(self, tangents: Sequence[Number], graph: bool) -> list[Number]:
        """Forward accumulation: the tangents of the outputs, from those of the variables."""
        product = _product if graph else _float_product
        known: dict[Value, Number] = dict(zip(self.variables, tangents))
        for node, operands, partials in self.tape(graph):
            for operand, partial in zip(operands, partials):
                tangent = known.get(operand)
                if tangent is not None:
                    term = product(tangent, partial)
                    if type(term) is not float or term:
                        known[node] = known[node] + term if node in known else term
        return _finished([known.get(x, 0.0) for x in self.outputs], graph)


def _tape(outputs: list[Value], variables: list[Value], graph: bool) -> Tape:
    """The nodes that the outputs depend on, each after its operands, with operands and partials.

    As `topological_order`, but no further back than the variables: what they were made of is not the function's. For
    a graph the partials are Values, and what does not depend on the variables is left out; with floats, looking for
    it would cost more than it saves (2x).
    """
    reached = set(variables)
    uses = dict.fromkeys(outputs, 0)
    nodes = list(uses)
    for node in nodes:  # the list grows meanwhile
        if node not in reached:
            for operand in node.operands:
                if isinstance(operand, Value):
                    if operand in uses:
                        uses[operand] += 1
                    else:
                        uses[operand] = 1
                        nodes.append(operand)
    order, ready = [], [node for node in dict.fromkeys(outputs) if not uses[node]]
    while ready:
        node = ready.pop()
        if node.op is not None and node not in reached:
            order.append(node)
            for operand in node.operands:
                if isinstance(operand, Value):
                    uses[operand] = left = uses[operand] - 1
                    if not left:
                        ready.append(operand)
    order.reverse()
    if not graph:
        return [(node, node.operands, node._partials) for node in order]
    tape: Tape = []
    for node in order:
        if node.op is not None and not reached.isdisjoint(node.operands):
            edges = [(x, partial) for x, partial in zip(node.operands, _partials(node, node.op)) if x in reached]
            tape.append((node, [x for x, _ in edges], [partial for _, partial in edges]))
            reached.add(node)
    return tape


def _float_product(tangent: float, partial: float) -> float:
    """The chain rule's product: 0 times anything is 0."""
    return tangent * partial if tangent and partial else 0.0


def _finished(numbers: Iterable[Number], graph: bool) -> list[Number]:
    """All of them as Values, or all of them as floats."""
    if graph:
        return [x if isinstance(x, Value) else Value(x) for x in numbers]
    return [float(x._data if isinstance(x, Value) else x) for x in numbers]


def _units(n: int) -> list[list[float]]:
    """The unit vectors."""
    return [[1.0 if i == j else 0.0 for j in range(n)] for i in range(n)]


def _holds_value(tree: Any) -> bool:
    """Whether a Value is in it."""
    return any(
        isinstance(x, Value)
        for leaf in _trees.leaves(tree)
        for x in (_trees.elements(leaf) if _trees.is_array(leaf) and leaf.dtype.hasobject else (leaf,))
    )


def _name(f: Function) -> str:
    """What messages call the function."""
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
    return call.value(), _trees.shaped(call.result, products)


def _gradient(transform: str, f: Function, argnums: Argnums | None) -> Function:
    """`grad` under another title."""
    return _transform(transform, f, argnums, lambda call: call.value_and_gradient()[1])


def _transform(
    transform: str,
    f: Function,
    argnums: Argnums | None,
    derive: Callable[[_Call], Any],
    recorded: Function | None = None,
) -> Function:
    """The function that calls f (or another in its place), recorded, and gives what derive makes of the recording."""
    title = f"{transform}({_name(f)})"

    @functools.wraps(f, updated=())
    def derivative(*args: Any, **kwargs: Any) -> Any:
        return derive(_Call(title, recorded or f, args, kwargs, argnums))

    derivative.__name__ = derivative.__qualname__ = title
    derivative.__doc__ = f"{title}, by argument {argnums}; arguments as for {_name(f)}.\n\n{f.__doc__ or ''}"
    return derivative

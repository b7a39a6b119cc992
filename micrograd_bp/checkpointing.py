"""Derivatives in little memory: `checkpoint` for a loop of many steps, `remat` for one function.

A reverse sweep needs the steps in reverse. Rather than recording all of them, some states are kept, and the others are
computed again from these: with s states kept and every step computed at most r + 1 times, C(s + r, s) steps can be
reversed, and which states to keep is the binomial schedule (Griewank and Walther, Algorithm 799: revolve, 2000).

>>> from micrograd_bp import grad
>>> day = lambda x, rate: x + rate * x * (1.0 - x)
>>> def year(rate, x=0.01):
...     for _ in range(365):
...         x = day(x, rate)
...     return x
>>> grad(year)(0.01) == grad(lambda rate: checkpoint(day, 365)(0.01, rate))(0.01)
True
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp._engine.by_hand import ByHand
from micrograd_bp._engine.engine import variables
from micrograd_bp._engine.signatures import P, R
from micrograd_bp.custom import OutputOps, operands_of
from micrograd_bp.ops import number
from micrograd_bp.transforms import _Call, _name, numbers_only
from micrograd_bp.value import Value, topological_order


def checkpoint(step: Callable[..., Any], n: int, snapshots: int | None = None) -> Callable[..., Any]:
    """The function from a state to the state n steps later, differentiated in memory for a few states.

    It stands for the loop

        for _ in range(n):
            state = step(state, *params)

    Args:
        step: From a state (a number, an array, or lists, tuples and dicts of numbers) to one that is built alike; it
            may take parameters, which are differentiated by as well. It must give the same for the same numbers, and
            make use of no other Values (TypeError).
        n: How many steps.
        snapshots: How many states are kept, 1 or more; 4 log2(n) unless given. With s of them a sweep computes
            `recomputations(n, s)` steps beside the first n: for 10,000,000 steps and 96 states each step four to five
            times again; memory and time trade as r n for s = O(n**(1/r)).

    Returns:
        A function of a state and the parameters. On plain numbers it is the loop; where a Value is among its arguments
        each number of the result is an operation on them. A reverse sweep (`backward`, `grad`) goes back step by step
        in the order of the recorded loop's sweep, and gives the same bits whatever is kept. (They are the recorded
        loop's, unless that adds up what several steps send to one parameter, or several uses of a number in its own
        step and the next, in another order.) Forward sweeps, derivatives of second order and compiled code take the
        derivatives from a loop that carries tangents along, which is checkpointed in its turn.

    Raises:
        TypeError, ValueError: n or snapshots is no such count; a step's result is not built like its state.

    Example:
        >>> from micrograd_bp import Value
        >>> x = Value(3.0)
        >>> y = checkpoint(lambda x: 0.5 * x + 1.0, 1_000)(x)
        >>> y.backward()
        >>> y.data, x.grad == 0.5**1000
        (2.0, True)
    """
    for name, count, least in (("n", n, 0), ("snapshots", 1 if snapshots is None else snapshots, 1)):
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"checkpoint: {name} is a whole number, not {count!r} ({type(count).__name__})")
        if count < least:
            raise ValueError(f"checkpoint: {name} is {least} or more, not {count}")
    title = f"checkpoint({_name(step)})"
    kept = snapshots or 4 * n.bit_length() or 1

    @functools.wraps(step, updated=())
    def steps(state: Any, /, *params: Any) -> Any:
        operands = operands_of(trees.leaves(params))
        numbers = [x if isinstance(x, Value) else number(x, title) for x in trees.entries(state)]
        build = trees.taken_apart(state)[2]
        template = build(iter([0.0] * len(numbers)))
        simple = type(state) in (list, tuple) and all(isinstance(x, (Value, float)) for x in state)

        def flat(after: Any) -> list[Any]:
            if simple and type(after) is type(state) and len(after) == len(numbers):
                return list(after)
            return list(trees.matched(template, after, f"{title}: the state after a step"))

        arguments = OutputOps(title, list, _none, params).arguments
        loop = _StateLoop(title, step, lambda entries: build(iter(entries)), flat, arguments, n, kept)
        if not any(isinstance(x, Value) for x in (*numbers, *operands)):
            return build(iter(flat(loop.advance(build(iter(numbers)), arguments(operands), n))))
        return build(iter(_recomputed(loop, numbers, operands)))

    steps.__name__ = steps.__qualname__ = title
    return steps


def remat(f: Callable[P, R]) -> Callable[P, R]:
    """The same function, but its graph is not kept: the reverse sweep records it again, and differentiates it at once.

    So only one call's graph is in memory at a time, at the price of one more evaluation of f.

    Args:
        f: A function of numbers, arrays, lists, tuples and dicts of them, that gives such a tree. What it is to be
            differentiated by is among its arguments.

    Returns:
        A function of the same arguments; where a Value is among them, each number of its result is an operation on
        them.

    Raises:
        TypeError: When it is called, f makes use of a Value that is not among its arguments.

    Example:
        >>> from micrograd_bp import Value, math
        >>> def long_sum(x):
        ...     return sum(math.sin(k * x) for k in range(1000))
        >>> x = Value(0.5)
        >>> y = remat(long_sum)(x)
        >>> len(y.operands), y.op.name
        (2, 'remat(long_sum)')
        >>> y.backward()
        >>> from micrograd_bp import grad
        >>> x.grad == grad(long_sum)(0.5)
        True
    """
    title = f"remat({_name(f)})"

    @functools.wraps(f, updated=())
    def again(*args: Any, **kwargs: Any) -> Any:
        operands = operands_of(trees.leaves(args))
        if not any(isinstance(x, Value) for x in operands):
            return f(*args, **kwargs)
        shapes: list[Any] = []

        def flat(result: Any) -> list[Any]:
            shapes[:] = [result]
            return trees.entries(result)

        arguments = OutputOps(title, list, _none, args).arguments
        loop = _StateLoop(title, lambda _, *args: f(*args, **kwargs), lambda _: None, flat, arguments, 1, 1)
        outputs = _recomputed(loop, [], operands)
        return trees.shaped(shapes[0], outputs)

    again.__name__ = again.__qualname__ = title
    return again


# --- the schedule -------------------------------------------------------------------------------------------------


def recomputations(n: int, snapshots: int) -> int:
    """The least number of steps that must be computed again to reverse n steps with so many states kept.

    It is r n - C(s + r, s + 1), with the least r for which n <= C(s + r, s).

    Args:
        n: How many steps.
        snapshots: How many states are kept, s.

    Returns:
        The count, beside the first n steps; each step is recorded once as well.

    Example:
        >>> recomputations(10, 1), recomputations(10, 3), recomputations(10, 10)
        (45, 15, 9)
    """
    r = 0
    while math.comb(snapshots + r, snapshots) < n:
        r += 1
    return r * n - math.comb(snapshots + r, snapshots + 1)


def schedule(n: int, snapshots: int) -> Iterator[tuple[str, int, int]]:
    """The actions that reverse n steps: ("advance", i, k), k steps on from state i, and ("reverse", i, 1), step i.

    An advance keeps the state that it begins at until the steps from there on are reversed.
    """
    kept = [0]
    ends = [n]  # for each kept state, the end of the steps that are reversed from it
    while kept:
        start, end, free = kept[-1], ends[-1], snapshots - len(kept)
        if end - start == 1:
            yield "reverse", start, 1
            ends[-1] = start
            while kept and ends[-1] == kept[-1]:
                kept.pop()
                ends.pop()
                if kept:
                    ends[-1] = start
            continue
        k = _stride(end - start, free + 1)
        yield "advance", start, k
        kept.append(start + k)
        ends.append(end)


def _stride(n: int, s: int) -> int:
    """How many of n steps to advance before the next state is kept, with s states available."""
    if s == 1:
        return n - 1
    r = 1
    while math.comb(s + r, s) < n:
        r += 1
    return max(1, min(math.comb(s + r - 1, s), n - math.comb(s + r - 2, s - 1)))


class _StateLoop:
    """Steps of a state, forwards and in reverse.

    shaped: builds a state from its numbers. flat: the numbers of a state. arguments: the parameters from operands.
    """

    def __init__(
        self,
        title: str,
        step: Callable[..., Any],
        shaped: Callable[[Sequence[Any]], Any],
        flat: Callable[[Any], list[Any]],
        arguments: Callable[[Sequence[Any]], tuple[Any, ...]],
        n: int,
        snapshots: int,
    ) -> None:
        self.title, self.step, self.n, self.snapshots = title, step, n, snapshots
        self.shaped, self.flat, self.arguments = shaped, flat, arguments

    def advance(self, state: Any, params: tuple[Any, ...], steps: int) -> Any:
        """The state after a number of steps."""
        step = self.step
        for _ in range(steps):
            state = step(state, *params)
        return state

    def run(self, state: Sequence[float], params: Sequence[float]) -> list[float]:
        """The last state's numbers, as floats."""
        last = self.flat(self.advance(self.shaped(state), self.arguments(params), self.n))
        if any(isinstance(x, Value) for x in last):
            raise TypeError(f"{self.title} makes use of a Value that is not among its arguments; pass it as one")
        return [number(x, self.title) for x in last]

    def pull(self, state: list[float], params: list[float], cotangents: dict[int, float]) -> list[float]:
        """The cotangents of the first state and of the parameters, from those of the last state.

        cotangents: by the numbers' indices, in the order in which a sweep over the whole loop would reach them.
        """
        given = variables(params)  # the same for all steps: grads accumulate as in a sweep over the whole loop
        plain, recorded = self.arguments(params), self.arguments(given)
        states = [self.shaped(state)]
        for what, _, count in schedule(self.n, self.snapshots) if self.n else ():
            if what == "advance":
                states.append(self.advance(states[-1], plain, count))
            else:
                last = states.pop() if len(states) > 1 else states[-1]
                cotangents = self._one(self.flat(last) if state else [], recorded, cotangents)
        return [*[cotangents.get(i, 0.0) for i in range(len(state))], *[x._grad for x in given]]

    def _one(self, state: list[float], params: tuple[Any, ...], cotangents: dict[int, float]) -> dict[int, float]:
        """Reverse one step: the cotangents of its state from those of its result."""
        inputs = variables(state)
        outputs = self.flat(self.step(self.shaped(inputs), *params))
        terms = [outputs[i] * u for i, u in cotangents.items() if u and isinstance(outputs[i], Value)]
        if not terms:
            return {}
        total = sum(terms[-2::-1], start=terms[-1])  # a reverse sweep reaches the term added last first
        total.backward()
        places = {x: i for i, x in enumerate(inputs)}
        return {places[x]: x._grad for x in reversed(topological_order(total)) if x in places}

    def tangents(self, size: int, count: int) -> _StateLoop:
        """The loop that also advances the derivatives of its state, of that size, by the first state and parameters."""

        def once(state: list[Any], params: list[Any]) -> list[Any]:
            return self.flat(self.step(self.shaped(state), *self.arguments(params)))

        def step(state: list[Any], params: list[Any]) -> list[Any]:
            call = _Call(self.title, once, (state[:size], params), {})
            graph = call.graph = call.graph or any(isinstance(x, Value) for x in state)
            carried = []
            for j in range(size + count):
                own = [float(i + size == j) for i in range(count)]
                carried += call.push([*state[size * (j + 1) : size * (j + 2)], *own], graph)
            return [*(call.outputs if graph else [x._data for x in call.outputs]), *carried]

        return _StateLoop(self.title, step, list, list, lambda operands: (list(operands),), self.n, self.snapshots)


def _none(result: Any, args: tuple[Any, ...]) -> Sequence[Sequence[Any]]:
    return []


# --- nodes that reverse by recomputing ----------------------------------------------------------------------------


def _recomputed(loop: _StateLoop, state: list[Any], params: list[Any]) -> list[Value]:
    """The last state as operations on the first one and the parameters.

    A reverse sweep on floats collects the adjoints of all outputs in one node, which then reverses the loop once. Any
    other derivative takes the partials of the outputs from the loop extended by tangents.
    """
    size, operands = len(state), (*state, *params)
    data = [getattr(x, "_data", x) for x in operands]

    def slopes(last: Any, args: Any) -> list[list[Any]]:
        first, given = args
        if not size:  # one function, no state
            return _Call(loop.title, lambda p: loop.flat(loop.step(None, *loop.arguments(p))), (given,), {}).rows()
        units = [float(i == j) for j in range(len(operands)) for i in range(size)]
        carried = loop.tangents(size, len(given))
        values = any(isinstance(x, Value) for x in (*first, *given))
        through = _recomputed if values else lambda loop, state, given: loop.run(state, given)
        flat = through(carried, [*first, *units], given)[size:]
        return [flat[i::size] for i in range(size)]

    rows = OutputOps(loop.title, loop.run, slopes, ([0.0] * size, [0.0] * len(params)), of_values=True)
    values = rows.evaluate(data)
    adjoints: dict[int, float] = {}

    def gather(node: Any) -> None:
        cotangents = dict(adjoints)
        adjoints.clear()
        if any(cotangents.values()):
            slopes = numbers_only(loop.pull, data[:size], data[size:], cotangents)
            for x, slope in zip(node.operands, slopes):
                if isinstance(x, Value) and slope:
                    x._grad += slope

    def leave(k: int, node: Any) -> None:
        adjoints[k] = node._grad

    def zeros(out: Any, *operands: Any) -> tuple[float, ...]:
        return (0.0,) * len(operands)

    @functools.lru_cache(1)
    def unrolled(operands: tuple[Any, ...]) -> _Call:
        numbers = [getattr(x, "_data", x) for x in operands]

        def once(state: list[Any], params: list[Any]) -> list[Any]:
            return loop.flat(loop.advance(loop.shaped(state), loop.arguments(params), loop.n))

        return _Call(loop.title, once, (numbers[:size], numbers[size:]), {})

    def recorded(k: int, operands: tuple[Any, ...]) -> tuple[list[Value], list[Value], int]:
        """The loop as operations on variables of its own: the last state, the variables, and which output it is."""
        call = unrolled(operands[:-1])
        return call.outputs, call.variables, k

    gathering = _node(0.0, ByHand.opaque(loop.title, lambda *operands: 0.0, zeros, gather), operands)
    outputs = []
    for k, op in enumerate(rows.ops):

        def partials(out: Any, *operands: Any, op: Any = op) -> tuple[Any, ...]:
            return (*op.partials(out, *operands[:-1]), 0.0)

        def forward(*operands: float, op: Any = op) -> float:
            return float(op.forward(*operands[:-1]))

        hand = ByHand.opaque(op.name, forward, partials, functools.partial(leave, k), functools.partial(recorded, k))
        outputs.append(_node(values[k], hand, (*operands, gathering)))
    return outputs


def _node(data: float, op: ByHand, operands: tuple[Any, ...]) -> Value:
    node = Value(data)
    node._set_op(op, operands)
    return node

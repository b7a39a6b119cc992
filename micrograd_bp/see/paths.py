"""The paths from an output to a node: each with the product of its local derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from micrograd_bp._engine.labels import check_value
from micrograd_bp.ops import chain
from micrograd_bp.see.trace import Trace
from micrograd_bp.value import Value


class Path(NamedTuple):
    """One path: its nodes from the output to x, the local derivative of each step, and their product."""

    nodes: tuple[Value, ...]
    partials: tuple[float, ...]
    product: float


class Paths:
    """The paths from an output to x; prints their count, those listed, and the sum of their products."""

    def __init__(self, trace: Trace, x: Value, count: int, listed: Sequence[Path], number_format: str) -> None:
        self.count = count
        self.listed = listed
        self.gradient = trace.adjoints.get(x, 0.0)
        self._trace, self._x, self._format = trace, x, number_format

    @property
    def total(self) -> float:
        """The sum of the listed products: the gradient, where all paths are listed."""
        return sum((path.product for path in self.listed), 0.0)

    def __str__(self) -> str:
        names, spec = self._trace.names, self._format
        ends = f"from {names[self._trace.output]} to {names.get(self._x, self._x.label or 'x')}"
        count = f"{self.count:,}" if self.count < 10**15 else f"about 10**{math.log10(self.count):.1f}"
        lines = [f"{count} path{'s' * (self.count != 1)} {ends}"]
        for path in self.listed:
            steps = [names[node] for node in path.nodes]
            factors = [format(partial, spec) for partial in path.partials]
            lines.append(f"  {_short(steps, ' <- ')}:  {_short(factors, ' * ') or '1'} = {path.product:{spec}}")
        if len(self.listed) < self.count:
            rest = self.count - len(self.listed)
            lines.append(f"  ... and {f'{rest:,}' if rest < 10**15 else 'all the others'}, which are not listed")
            lines.append(f"sum of the listed products: {self.total:{spec}}")
        else:
            lines.append(f"sum of the products: {self.total:{spec}}")
        lines.append(f"the gradient, from one sweep over {len(self._trace.interior):,} nodes: {self.gradient:{spec}}")
        return "\n".join(lines)

    __repr__ = __str__


def paths(output: Value, x: Value, limit: int = 100, number_format: str = ".6g") -> Paths:
    """Every path from the output to x, with the product of its local derivatives: their sum is the gradient.

    An operand used twice, as in x * x, makes two paths.

    Args:
        output: Where the paths begin.
        x: Where they end.
        limit: At most so many are listed; they are counted all the same.
        number_format: A format specification for the products.

    Returns:
        The paths: `.count` is exact, however many there are; `.listed` holds some, `.total` is their sum
        and `.gradient` what the backward sweep gives.

    Raises:
        TypeError: `output` or `x` is no Value.
        ValueError: The limit is negative.

    Source:
        That the sum over paths is the gradient is Bauer's formula (Computational graphs and rounding error,
        1974).

    Example:
        >>> a = Value(3.0, "a")
        >>> b = a * a
        >>> paths(b.sin() * b, a)
        4 paths from v3 to a
          v3 <- v2 <- v1 <- a:  9 * -0.91113 * 3 = -24.6005
          v3 <- v2 <- v1 <- a:  9 * -0.91113 * 3 = -24.6005
          v3 <- v1 <- a:  0.412118 * 3 = 1.23636
          v3 <- v1 <- a:  0.412118 * 3 = 1.23636
        sum of the products: -46.7283
        the gradient, from one sweep over 3 nodes: -46.7283
    """
    check_value(output, "paths")
    check_value(x, "paths")
    if limit < 0:
        raise ValueError(f"limit is a count of paths, 0 or more; not {limit}")
    trace = Trace(output)
    reaching = {x}  # the nodes that depend on x: no path runs through others
    for node in trace.interior:
        if node is not x and not reaching.isdisjoint(node._prev):
            reaching.add(node)
    counts = {output: 1}
    for node in reversed(trace.interior):
        if node in counts and node is not x:
            count = counts.pop(node)
            for operand in node.operands:
                if operand in reaching and isinstance(operand, Value):
                    counts[operand] = counts.get(operand, 0) + count
    listed = list(itertools.islice(_walk(output, x, reaching), limit)) if x in counts else []
    return Paths(trace, x, counts.get(x, 0), listed, number_format)


def _walk(output: Value, x: Value, reaching: set[Value]) -> Iterator[Path]:
    """The paths one by one; every step goes to a node that depends on x, so that no walk ends elsewhere."""

    def steps(node: Value, product: float) -> Iterator[tuple[Value, float, float]]:
        for operand, partial in zip(node.operands, node.partials):
            if operand in reaching and isinstance(operand, Value):
                yield operand, partial, chain(product, partial)

    nodes, partials = [output], [math.nan]
    stack = [steps(output, 1.0)] if output is not x else []
    if output is x:
        yield Path((x,), (), 1.0)
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            nodes.pop()
            partials.pop()
            continue
        node, partial, product = step
        if node is x:
            yield Path((*nodes, x), (*partials[1:], partial), product)
        else:
            nodes.append(node)
            partials.append(partial)
            stack.append(steps(node, product))


def _short(parts: list[str], separator: str) -> str:
    """The parts joined in a line; of very many, the middle ones are replaced by dots."""
    shown = parts if len(parts) <= 16 else [*parts[:7], f"... {len(parts) - 14} more ...", *parts[-7:]]
    return separator.join(shown)

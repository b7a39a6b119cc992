"""What a compiled function returns: lists, tuples and arrays like those of its recording, with other numbers."""

from __future__ import annotations

import enum
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp.compiler.arguments import PLAIN, is_container, is_number
from micrograd_bp.ops import number
from micrograd_bp.value import Value


@dataclass(frozen=True, slots=True)
class Constant:
    """A leaf of a result that is the same in every call along a path: an int, a string, None."""

    value: Any


@dataclass
class Result:
    """The result of a function: its entries in order, and how to rebuild its structure with other numbers."""

    skeleton: Any  # the containers, with None at each leaf
    leaves: list[Any]  # float or np.float64, the shape of an array, or a Constant
    entries: list[Any]  # Values and floats, those of arrays too
    build: Callable[[list[Any]], Any] | None = None

    @classmethod
    def of(cls, result: Any, scalar: type = float) -> Result:
        """Describe a function's result; scalar: the type of its plain numbers. TypeError: it cannot be rebuilt."""
        leaves: list[Any] = []
        entries: list[Any] = []
        for leaf in parts(result):
            if trees.is_array(leaf) and leaf.dtype.kind in "fO":
                leaves.append(leaf.shape)
                entries += [x if isinstance(x, Value) else number(x) for x in trees.elements(leaf)]
            elif isinstance(leaf, Value):
                leaves.append(scalar)
                entries.append(leaf)
            elif is_number(leaf):
                leaves.append(type(leaf))
                entries.append(float(leaf))
            elif is_plain(leaf):
                leaves.append(Constant(leaf))
            else:
                raise TypeError(f"it returns {type(leaf).__name__} objects")
        return cls(trees.outline(result), leaves, entries)

    @functools.cached_property
    def of_arrays(self) -> bool:
        """Whether all numbers of the result are entries of arrays."""
        return all(isinstance(leaf, (tuple, Constant)) for leaf in self.leaves)

    def alike(self, other: Result) -> bool:
        """Whether two results have the same structure; any numbers match, constant or not."""
        kinds = [[kind_of(leaf) for leaf in x.leaves] for x in (self, other)]
        return bool(self.skeleton == other.skeleton and kinds[0] == kinds[1])

    def rows(self) -> tuple[list[int], dict[int, float]]:
        """The positions of the entries among all numbers of the result, and the constants at the other positions."""
        entries: list[int] = []
        constants: dict[int, float] = {}
        start = 0
        for leaf in self.leaves:
            size = math.prod(leaf) if isinstance(leaf, tuple) else int(kind_of(leaf) is float)
            if not isinstance(leaf, Constant):
                entries += range(start, start + size)
            elif size:
                constants[start] = float(leaf.value) if abs(leaf.value) < 2**1000 else math.nan
            start += size
        return entries, constants

    def rebuilt(self, numbers: list[Any]) -> Any:
        """Rebuild the result's structure with these numbers."""
        if self.build is None:
            self.build = _builder(self.skeleton, iter(self.leaves), [0])
        return self.build(numbers)


def kind_of(leaf: Any) -> Any:
    """What makes leaves of results alike: `float` for any number, else an array's shape or a constant's type."""
    if isinstance(leaf, Constant):
        return float if isinstance(leaf.value, (int, Fraction)) and type(leaf.value) is not bool else type(leaf.value)
    return float if isinstance(leaf, type) else leaf


def _builder(skeleton: Any, leaves: Iterator[Any], start: list[int]) -> Callable[[list[Any]], Any]:
    """A function that rebuilds a skeleton with the numbers from position start[0] on; start[0] is moved past them."""
    first = start[0]
    if skeleton is None:
        leaf = next(leaves)
        if isinstance(leaf, type):
            start[0] += 1
            return (lambda numbers: numbers[first]) if leaf is float else lambda numbers: _scalar(leaf, numbers[first])
        if isinstance(leaf, Constant):
            return lambda numbers: leaf.value
        start[0] = stop = first + math.prod(leaf)
        return lambda numbers: trees.array(numbers[first:stop], leaf)
    kind = type(skeleton)
    children = list(trees.children_of(skeleton))
    if kind in (list, tuple) and not any(child is not None for child in children):
        kinds = [next(leaves) for _ in children]
        if all(leaf is float for leaf in kinds):
            start[0] = stop = first + len(kinds)
            return lambda numbers: kind(numbers[first:stop])
        leaves = iter(kinds)
    if kind in (list, tuple, dict):
        parts = [_builder(child, leaves, start) for child in children]
        if kind is dict:
            return lambda numbers: {name: part(numbers) for name, part in zip(skeleton, parts)}
        return lambda numbers: kind([part(numbers) for part in parts])
    parts = [_builder(None, leaves, start) for _ in trees.leaves(skeleton)]
    return lambda numbers: trees.rebuilt(skeleton, (part(numbers) for part in parts))


def _scalar(kind: type, x: Any) -> Any:
    """A number converted to that type; a Value unchanged."""
    return x if isinstance(x, Value) else kind(x)


def parts(tree: Any) -> list[Any]:
    """The leaves of a result; a container that cannot be rebuilt is a leaf."""
    if isinstance(tree, trees.CONTAINERS) and (not is_container(tree) or isinstance(tree, defaultdict)):
        return [tree]
    if not isinstance(tree, trees.CONTAINERS):
        return [tree]
    return [part for child in trees.children_of(tree) for part in parts(child)]


def is_plain(leaf: Any) -> bool:
    """Whether the leaf is of an immutable class."""
    return type(leaf) in PLAIN or isinstance(leaf, (enum.Enum, bool)) or type(leaf).__module__ == "numpy"


def is_opaque(leaf: Any) -> bool:
    """Whether a leaf of a result is an object that may contain numbers."""
    return not (isinstance(leaf, Value) or is_number(leaf) or is_plain(leaf) or trees.is_array(leaf))

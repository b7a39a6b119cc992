"""Numbers in lists, tuples, dicts and NumPy arrays, nested as they come: taken apart, and put together again.

A leaf is whatever is no list, tuple or dict; an entry is a leaf, or an element of one that is an array.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """(key, child) of a list, tuple or dict; None for a leaf."""
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, (list, tuple)) else None


def is_array(leaf: Any) -> bool:
    """Whether the leaf is a NumPy array, found out without importing NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(leaf, numpy.ndarray)


def shape(leaf: Any) -> tuple[int, ...]:
    """The shape of an array, () for anything else."""
    return tuple(leaf.shape) if is_array(leaf) else ()


def size(leaf: Any) -> int:
    """How many entries a leaf has."""
    return int(leaf.size) if is_array(leaf) else 1


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves, in order."""
    children = _children(tree)
    if children is None:
        yield tree
    else:
        for _, child in children:
            yield from leaves(child)


def elements(leaf: Any) -> list[Any]:
    """The entries of one leaf."""
    return list(leaf.ravel().tolist()) if is_array(leaf) else [leaf]


def entries(tree: Any) -> list[Any]:
    """The entries of all leaves, in order."""
    return [entry for leaf in leaves(tree) for entry in elements(leaf)]


def paths(tree: Any, at: str) -> Iterator[str]:
    """Where the entries stand, as Python would index them: at['w'][0], and at[1, 2] in an array."""
    children = _children(tree)
    if children is not None:
        for key, child in children:
            yield from paths(child, f"{at}[{key!r}]")
    elif shape(tree):
        for index in sys.modules["numpy"].ndindex(tree.shape):
            yield f"{at}[{', '.join(map(str, index))}]"
    else:
        yield at


def matched(tree: Any, other: Any, at: str) -> Iterator[Any]:
    """The entries of another tree in the order of this one; ValueError where the two are not built alike."""
    children, others = _children(tree), _children(other)
    if children is None or others is None:
        if children is not None or others is not None or shape(tree) != shape(other):
            raise ValueError(f"{at} is {other!r}, which is not built as {tree!r} is")
        yield from elements(other)
    elif dict(children).keys() != dict(others).keys():
        raise ValueError(f"{at} has entries {[key for key, _ in others]}, not {[key for key, _ in children]}")
    else:
        for key, child in children:
            yield from matched(child, dict(others)[key], f"{at}[{key!r}]")


def array(numbers: list[Any], dimensions: tuple[int, ...]) -> Any:
    """A NumPy array of that shape: of floats where all the numbers are floats, of objects otherwise."""
    numpy = sys.modules["numpy"]
    result = numpy.empty(len(numbers), float if all(type(x) is float for x in numbers) else object)
    result[:] = numbers
    return result.reshape(dimensions)


def outer(first: Any, second: Any, numbers: list[Any]) -> Any:
    """Numbers for every pair of entries of two leaves: one number, or an array where one of the two is an array."""
    if is_array(first) or is_array(second):
        return array(numbers, shape(first) + shape(second))
    return numbers[0]


def rebuilt(tree: Any, new_leaves: Iterator[Any]) -> Any:
    """The same lists, tuples (named ones too) and dicts around other leaves."""
    children = _children(tree)
    if children is None:
        return next(new_leaves)
    new = [rebuilt(child, new_leaves) for _, child in children]
    if isinstance(tree, dict):
        result = copy.copy(tree)  # of its own class, a defaultdict with its default
        for (key, _), child in zip(children, new):
            result[key] = child
        return result
    return tree._make(new) if hasattr(tree, "_make") else type(tree)(new)


def shaped(tree: Any, numbers: Iterable[Any]) -> Any:
    """The same tree around other entries."""
    rest = iter(numbers)
    old = leaves(tree)
    return rebuilt(tree, (array(list(islice(rest, x.size)), x.shape) if is_array(x) else next(rest) for x in old))

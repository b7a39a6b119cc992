"""Numbers in lists, tuples, dicts and NumPy arrays, nested as they come: taken apart, and put together again.

A leaf is whatever is no list, tuple or dict; an entry is a leaf, or an element of one that is an array.
"""

from __future__ import annotations

import copy
import reprlib
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

CONTAINERS = (list, tuple, dict)


def _children(tree: Any) -> list[Any] | tuple[Any, ...]:
    """What a list, tuple or dict holds."""
    return list(tree.values()) if isinstance(tree, dict) else tree


def _keys(tree: Any) -> list[Any]:
    """The indices or keys of a list, tuple or dict."""
    return list(tree if isinstance(tree, dict) else range(len(tree)))


def is_array(leaf: Any) -> bool:
    """Whether the leaf is a NumPy array, found out without importing NumPy."""
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)  # missing while another thread imports NumPy
    return ndarray is not None and isinstance(leaf, ndarray)


def shape(leaf: Any) -> tuple[int, ...]:
    """The shape of an array, () for anything else."""
    return tuple(leaf.shape) if is_array(leaf) else ()


def size(leaf: Any) -> int:
    """How many entries a leaf has."""
    return int(leaf.size) if is_array(leaf) else 1


def leaves(tree: Any) -> list[Any]:
    """The leaves, in order."""
    if not isinstance(tree, CONTAINERS):
        return [tree]
    found = []
    for child in _children(tree):
        if isinstance(child, CONTAINERS):
            found += leaves(child)
        else:
            found.append(child)
    return found


def elements(leaf: Any) -> list[Any]:
    """The entries of one leaf."""
    return list(leaf.ravel().tolist()) if is_array(leaf) else [leaf]


def entries(tree: Any) -> list[Any]:
    """The entries of all leaves, in order."""
    return [entry for leaf in leaves(tree) for entry in elements(leaf)]


def paths(tree: Any, at: str) -> Iterator[str]:
    """Where the entries stand, as Python would index them: at['w'][0], and at[1, 2] in an array."""
    if isinstance(tree, CONTAINERS):
        for key, child in zip(_keys(tree), _children(tree)):
            yield from paths(child, f"{at}[{key!r}]")
    elif shape(tree):
        for index in sys.modules["numpy"].ndindex(tree.shape):
            yield f"{at}[{', '.join(map(str, index))}]"
    else:
        yield at


def matched(tree: Any, other: Any, at: str) -> Iterator[Any]:
    """The entries of another tree in the order of this one; ValueError where the two are not built alike."""
    nested = isinstance(tree, CONTAINERS)
    if nested != isinstance(other, CONTAINERS) or shape(tree) != shape(other):
        raise ValueError(f"{at} is {reprlib.repr(other)}; it must be built like {reprlib.repr(tree)}")
    if not nested:
        yield from elements(other)
    elif set(_keys(tree)) != set(_keys(other)):
        raise ValueError(f"{at} has the keys {_keys(other)}; it must be built like {reprlib.repr(tree)}")
    else:
        others = dict(zip(_keys(other), _children(other)))
        for key, child in zip(_keys(tree), _children(tree)):
            yield from matched(child, others[key], f"{at}[{key!r}]")


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


def rebuilt(tree: Any, new: Iterator[Any]) -> Any:
    """The same lists, tuples (named ones too) and dicts around other leaves."""
    if not isinstance(tree, CONTAINERS):
        return next(new)
    children = [rebuilt(child, new) if isinstance(child, CONTAINERS) else next(new) for child in _children(tree)]
    if isinstance(tree, dict):
        result = copy.copy(tree)  # of its own class, a defaultdict with its default
        for key, child in zip(_keys(tree), children):
            result[key] = child
        return result
    return tree._make(children) if hasattr(tree, "_make") else type(tree)(children)


def shaped(tree: Any, numbers: Iterable[Any]) -> Any:
    """The same tree around other entries."""
    rest = iter(numbers)
    old = leaves(tree)
    return rebuilt(tree, (array(list(islice(rest, x.size)), x.shape) if is_array(x) else next(rest) for x in old))

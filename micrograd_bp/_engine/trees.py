"""Numbers in lists, tuples, dicts and NumPy arrays, nested as they come: taken apart, and put together again.

A leaf is whatever is no list, tuple or dict; an entry is a leaf, or an element of one that is an array.
"""

from __future__ import annotations

import copy
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

CONTAINERS = (list, tuple, dict)


def children_of(tree: Any) -> list[Any] | tuple[Any, ...]:
    """What a list, tuple or dict holds."""
    return list(tree.values()) if isinstance(tree, dict) else tree


def keys(tree: Any) -> list[Any]:
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
    children = children_of(tree)
    if not any(issubclass(kind, CONTAINERS) for kind in set(map(type, children))):
        return list(children)
    found = []
    for child in children:
        if isinstance(child, CONTAINERS):
            found += leaves(child)
        else:
            found.append(child)
    return found


def has_list(tree: Any) -> bool:
    """Whether it is a list, or has one among the entries of its tuples and dicts."""
    if isinstance(tree, (tuple, dict)):
        return any(map(has_list, children_of(tree)))
    return isinstance(tree, list)


def elements(leaf: Any) -> list[Any]:
    """The entries of one leaf."""
    found: list[Any] = leaf.ravel().tolist() if is_array(leaf) else [leaf]
    return found


def entries(tree: Any) -> list[Any]:
    """The entries of all leaves, in order."""
    return taken_apart(tree)[0]


def taken_apart(tree: Any) -> tuple[list[Any], set[type], Callable[[Iterator[Any]], Any]]:
    """The entries of all leaves, their types, and the function that builds the same tree around other entries.

    One look at the types tells all of a long list: to ask every entry took ten times as long as recording a sum.
    """
    if is_array(tree):
        size, dimensions = tree.size, tree.shape
        found = elements(tree)
        return found, set(map(type, found)), lambda new: array(list(islice(new, size)), dimensions)
    if not isinstance(tree, CONTAINERS):
        return [tree], {type(tree)}, next
    children = children_of(tree)
    kinds = set(map(type, children))
    numpy = sys.modules.get("numpy")
    nested = CONTAINERS if numpy is None else (*CONTAINERS, numpy.ndarray)
    if not any(issubclass(kind, nested) for kind in kinds):
        size = len(children)
        return list(children), kinds, lambda new: like(tree, list(islice(new, size)))
    parts = [taken_apart(child) for child in children]
    builders = [build for _, _, build in parts]
    found = [x for part, _, _ in parts for x in part]
    return found, set().union(*[kinds for _, kinds, _ in parts]), lambda new: like(tree, [f(new) for f in builders])


def paths(tree: Any, at: str) -> Iterator[str]:
    """Where the entries stand, as Python would index them: at['w'][0], and at[1, 2] in an array."""
    if isinstance(tree, CONTAINERS):
        for key, child in zip(keys(tree), children_of(tree)):
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
    elif set(keys(tree)) != set(keys(other)):
        raise ValueError(f"{at} has the keys {keys(other)}; it must be built like {reprlib.repr(tree)}")
    else:
        others = dict(zip(keys(other), children_of(other)))
        for key, child in zip(keys(tree), children_of(tree)):
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
    return like(
        tree, [rebuilt(child, new) if isinstance(child, CONTAINERS) else next(new) for child in children_of(tree)]
    )


def like(tree: Any, children: list[Any]) -> Any:
    """A list, tuple or dict of the same class around these children."""
    if type(tree) is list:
        return children
    if isinstance(tree, dict):
        result = copy.copy(tree)  # of its own class, a defaultdict with its default
        for key, child in zip(keys(tree), children):
            result[key] = child
        return result
    return tree._make(children) if hasattr(tree, "_make") else type(tree)(children)


def shaped(tree: Any, numbers: Iterable[Any]) -> Any:
    """The same tree around other entries."""
    return taken_apart(tree)[2](iter(numbers))

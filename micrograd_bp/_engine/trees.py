"""Flatten nested lists, tuples, dicts, dataclasses and NumPy arrays to their numbers, and rebuild them.

A leaf is anything that is no list, tuple, dict, dataclass or object of a registered class. An entry is a leaf that is
no array, or an element of an array.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any


class Node(abc.ABC):  # noqa: B024
    """Classes whose objects are flattened: dataclasses, and classes registered with `register_pytree_node`."""

    @classmethod
    def __subclasshook__(cls, kind: Any) -> Any:
        own = kind.__module__.startswith("micrograd_bp.") or hasattr(kind, "named_parameters")  # a model is a leaf
        return (dataclasses.is_dataclass(kind) and not own) or NotImplemented


REGISTERED: dict[type, tuple[Callable[[Any], tuple[Iterable[Any], Any]], Callable[[Any, list[Any]], Any]]] = {}

CONTAINERS = (list, tuple, dict, Node)


def register_pytree_node(
    cls: type, flatten: Callable[[Any], tuple[Iterable[Any], Any]], unflatten: Callable[[Any, list[Any]], Any]
) -> None:
    """Let transforms, `jit` and `parallel_value_and_grad` look into objects of a class, as into a list.

    Named tuples and dataclasses need no registration. A dataclass's children are its fields, each a number by itself,
    without those of `field(metadata={"static": True})`; it is built again field by field, without its constructor.

    Args:
        cls: A class of one's own.
        flatten: A function x -> (children, rest): what holds numbers, and what is the same for all numbers, hashable
            for `jit`.
        unflatten: A function (rest, children) -> the like of x around other children. The pair is JAX's.

    Raises:
        TypeError: It is no class of one's own, or one that is registered already.

    Example:
        >>> import micrograd_bp as mg
        >>> class Line:
        ...     __module__ = "mine"
        ...     def __init__(self, slope, offset):
        ...         self.slope, self.offset = slope, offset
        >>> register_pytree_node(Line, lambda x: ([x.slope, x.offset], None), lambda rest, new: Line(*new))
        >>> slopes = mg.grad(lambda line, x: line.slope * x + line.offset)(Line(2.0, 1.0), 3.0)
        >>> slopes.slope, slopes.offset
        (3.0, 1.0)
    """
    if not isinstance(cls, type) or issubclass(cls, (list, tuple, dict)) or cls.__module__.startswith("micrograd_bp."):
        raise TypeError(f"register_pytree_node takes a class of your own, not {cls!r}")
    if cls in REGISTERED:
        raise TypeError(f"register_pytree_node: {cls.__qualname__} is registered already")
    REGISTERED[cls] = flatten, unflatten
    Node.register(cls)


@dataclasses.dataclass
class Outline:
    """The structure of an object whose class is flattened, without its numbers; `like` builds an object from it."""

    kind: type
    names: list[Any]
    rest: Any
    children: list[Any]


Node.register(Outline)


def _flattened(tree: Any) -> Outline:
    """The children's names, the children and the rest of an object whose class is flattened."""
    if isinstance(tree, Outline):
        return tree
    registered = _registered(type(tree))
    if registered is not None:
        children, rest = registered[0](tree)
        listed = list(children)
        return Outline(type(tree), list(range(len(listed))), rest, listed)
    fields = dataclasses.fields(tree)
    static = [field.name for field in fields if field.metadata.get("static")]
    names = [field.name for field in fields if field.name not in static]
    rest = tuple((name, getattr(tree, name)) for name in static)
    return Outline(type(tree), names, rest, [getattr(tree, name) for name in names])


def _registered(
    kind: type,
) -> tuple[Callable[[Any], tuple[Iterable[Any], Any]], Callable[[Any, list[Any]], Any]] | None:
    """The flatten and unflatten functions of a class, or of its nearest base that has them."""
    return next((REGISTERED[base] for base in kind.__mro__ if base in REGISTERED), None)


def has_more(tree: Any) -> bool:
    """Whether an object of a dataclass has attributes that are no fields."""
    return _registered(type(tree)) is None and not getattr(tree, "__dict__", {}).keys() <= {
        field.name for field in dataclasses.fields(tree)
    }


def outline(tree: Any) -> Any:
    """The containers of a tree with None at every leaf; objects become an Outline, since they might refuse None."""
    if not isinstance(tree, CONTAINERS):
        return None
    if isinstance(tree, (list, tuple, dict)):
        return like(tree, [outline(child) for child in children_of(tree)])
    found = _flattened(tree)
    return Outline(found.kind, found.names, found.rest, [outline(child) for child in found.children])


def children_of(tree: Any) -> list[Any] | tuple[Any, ...]:
    """The children of a container, in order."""
    if isinstance(tree, (list, tuple)):
        return tree
    return list(tree.values()) if isinstance(tree, dict) else _flattened(tree).children


def keys(tree: Any) -> list[Any]:
    """The indices, keys or fields of a container."""
    if isinstance(tree, (list, tuple, dict)):
        return list(tree if isinstance(tree, dict) else range(len(tree)))
    return _flattened(tree).names


def rest_of(tree: Any) -> Any:
    """What an object whose class is flattened holds beside its children; None for other containers."""
    return None if isinstance(tree, (list, tuple, dict)) else _flattened(tree).rest


def array_type() -> Any:
    """NumPy's type of arrays; None where NumPy is not imported, or is being imported by another thread."""
    return getattr(sys.modules.get("numpy"), "ndarray", None)


def is_array(leaf: Any) -> bool:
    """Whether the leaf is a NumPy array; does not import NumPy."""
    ndarray = array_type()
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
    """Whether a tree is a list, or has one at any depth."""
    if isinstance(tree, list):
        return True
    return isinstance(tree, CONTAINERS) and any(map(has_list, children_of(tree)))


def elements(leaf: Any) -> list[Any]:
    """The entries of one leaf."""
    found: list[Any] = leaf.ravel().tolist() if is_array(leaf) else [leaf]
    return found


def entries(tree: Any) -> list[Any]:
    """The entries of all leaves, in order."""
    return taken_apart(tree)[0]


def taken_apart(tree: Any) -> tuple[list[Any], set[type], Callable[[Iterator[Any]], Any]]:
    """The entries of all leaves, the set of their types, and a function that rebuilds the tree from other entries.

    Long lists are checked by the set of types, since a check of every entry took ten times as long as recording a sum.
    """
    kind = type(tree)
    if kind is float:
        return [tree], {float}, next
    if (kind is tuple or kind is list) and {*map(type, tree)} == {float}:  # the commonest, at a third of the time
        count = len(tree)
        return list(tree), {float}, lambda new: kind(islice(new, count))
    if is_array(tree):
        size, dimensions = tree.size, tree.shape
        found = elements(tree)
        return found, set(map(type, found)), lambda new: array(list(islice(new, size)), dimensions)
    if not isinstance(tree, CONTAINERS):
        return [tree], {type(tree)}, next
    children = children_of(tree)
    kinds = set(map(type, children))
    ndarray = array_type()
    nested = CONTAINERS if ndarray is None else (*CONTAINERS, ndarray)
    if not any(issubclass(kind, nested) for kind in kinds):
        size = len(children)
        return list(children), kinds, lambda new: like(tree, list(islice(new, size)))
    parts = [taken_apart(child) for child in children]
    builders = [build for _, _, build in parts]
    found = [x for part, _, _ in parts for x in part]
    return found, set().union(*[kinds for _, kinds, _ in parts]), lambda new: like(tree, [f(new) for f in builders])


def locations(tree: Any, at: str) -> Iterator[str]:
    """For each entry, the Python expression that indexes it: at['w'][0], and at[1, 2] in an array."""
    if isinstance(tree, CONTAINERS):
        for key, child in zip(keys(tree), children_of(tree)):
            field = isinstance(key, str) and not isinstance(tree, dict)
            yield from locations(child, f"{at}.{key}" if field else f"{at}[{key!r}]")
    elif shape(tree):
        for index in sys.modules["numpy"].ndindex(tree.shape):
            yield f"{at}[{', '.join(map(str, index))}]"
    else:
        yield at


def matched(tree: Any, other: Any, at: str) -> Iterator[Any]:
    """The entries of another tree in the order of this one; ValueError where the structures differ."""
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
    """A NumPy array of that shape, of floats if all the numbers are floats, of objects otherwise."""
    numpy = sys.modules["numpy"]
    if isinstance(numbers, numpy.ndarray):
        return numbers.reshape(dimensions)
    result = numpy.empty(len(numbers), float if {*map(type, numbers)} <= {float} else object)
    result[:] = numbers
    return result.reshape(dimensions)


def outer(first: Any, second: Any, numbers: list[Any]) -> Any:
    """The numbers, one for each pair of entries of two leaves: a plain number, or an array if either leaf is one."""
    if is_array(first) or is_array(second):
        return array(numbers, shape(first) + shape(second))
    return numbers[0]


def rebuilt(tree: Any, new: Iterator[Any]) -> Any:
    """A tree of the same structure with these leaves."""
    if not isinstance(tree, CONTAINERS):
        return next(new)
    return like(
        tree, [rebuilt(child, new) if isinstance(child, CONTAINERS) else next(new) for child in children_of(tree)]
    )


def like(tree: Any, children: list[Any]) -> Any:
    """A container of the same class with these children."""
    if type(tree) is list:
        return children
    if not isinstance(tree, (list, tuple, dict)):
        found = _flattened(tree)
        registered = _registered(found.kind)
        if registered is not None:
            return registered[1](found.rest, children)
        new: Any = object.__new__(found.kind)  # no constructor, which might refuse a gradient, or change it
        for name, x in (*zip(found.names, children), *found.rest):
            object.__setattr__(new, name, x)
        return new
    if isinstance(tree, dict):
        result = copy.copy(tree)  # of its own class, a defaultdict with its default
        for key, child in zip(keys(tree), children):
            result[key] = child
        return result
    return tree._make(children) if hasattr(tree, "_make") else type(tree)(children)


def shaped(tree: Any, numbers: Iterable[Any]) -> Any:
    """A tree of the same structure with these entries."""
    return taken_apart(tree)[2](iter(numbers))

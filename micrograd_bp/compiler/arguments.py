"""The arguments of a compiled function: a key for all that is no float, and the floats, for which Values are put in."""

from __future__ import annotations

import enum
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

from micrograd_bp._engine import trees
from micrograd_bp.compiler.surroundings import snapshot
from micrograd_bp.value import Value

# Objects in arguments and results that are constants of a path, compared by type and value.
PLAIN = (int, str, bytes, complex, Fraction, Decimal, enum.Enum, type(None), type(...), range)
CONTAINERS = 24  # attributes and items of an object argument that are compared at each call, at most


class Scan:
    """Reads the arguments of a call: the floats, and a key that stands for everything else."""

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.values = False
        self.used_up = False  # an iterator is among them
        self.held: list[Any] = []
        self._seen: dict[int, int] = {}  # by id: the number of each list, dict and array, in order

    def key(self, tree: Any) -> Any:
        """The key of an argument, whose floats are added to `numbers`."""
        kind = type(tree)
        if kind is float:
            self.numbers.append(tree)
            return float
        if isinstance(tree, (list, dict, trees.Node)) or trees.is_array(tree):
            if id(tree) in self._seen:
                return "again", self._seen[id(tree)]
            self._seen[id(tree)] = len(self._seen)
        if _is_open(tree):
            if isinstance(tree, dict):
                return (kind, *[(type(name), name, self.key(x)) for name, x in tree.items()])
            if isinstance(tree, trees.Node):
                return (kind, self._rest(trees.rest_of(tree)), *[self.key(x) for x in trees.children_of(tree)])
            if all(type(x) is float for x in tree):
                self.numbers += tree
                return kind, len(tree)
            return (kind, *[self.key(x) for x in tree])
        if isinstance(tree, Value):
            self.values = True
            return Value
        if trees.is_array(tree):
            return self._array(tree)
        if is_number(tree):
            self.numbers.append(float(tree))
            return float
        return self._other(tree)

    def _rest(self, rest: Any) -> Any:
        """The key of what an object that is taken apart holds besides its children."""
        try:
            hash(rest)
        except TypeError:
            return self._thing(rest)
        return type(rest), rest

    def _array(self, array: Any) -> Any:
        if hasattr(array, "mask"):
            raise TypeError("jit takes no masked array, whose mask would be lost; pass array.filled(...)")
        if array.dtype.kind == "f":
            self.numbers += array.astype(float).ravel().tolist()
            return "array", array.shape
        if array.dtype.hasobject:
            return ("array", array.shape, *[self.key(x) for x in array.ravel().tolist()])
        return "array", array.shape, str(array.dtype), array.tobytes()

    def _other(self, x: Any) -> Any:
        """The key of an object that is no float: a plain one by value, others by identity and contents."""
        if isinstance(x, PLAIN) or type(x).__module__ == "numpy":
            try:
                hash(x)
            except TypeError:
                return self._thing(x)
            return type(x), x, str(x) if isinstance(x, (complex, Decimal)) else ""  # -0.0, 1.0 and 1.00
        return self._thing(x)

    def _thing(self, x: Any) -> Any:
        self.held.append(x)
        self.used_up |= hasattr(type(x), "__next__")
        return type(x), id(x), snapshot([x], CONTAINERS)


def is_container(x: Any) -> bool:
    """Whether it is a container that can be rebuilt; other containers are treated as plain objects."""
    named = isinstance(x, tuple) and hasattr(x, "_make")
    return type(x) in (list, tuple, dict, OrderedDict, defaultdict) or named or isinstance(x, trees.Node)


def _is_open(x: Any) -> bool:
    """Whether an argument is taken apart into the floats that it holds.

    A dataclass is not if it holds Values, which are read at each call, or has attributes besides its fields, which may
    be computed from them.
    """
    if not isinstance(x, trees.Node):
        return is_container(x)
    return not trees.has_more(x) and not any(isinstance(leaf, Value) for leaf in trees.leaves(x))


def is_number(x: Any) -> bool:
    """Whether it is a float or a NumPy float; other subclasses of float are treated as objects."""
    return type(x) is float or (isinstance(x, float) and type(x).__module__ == "numpy")


Copies = dict[int, tuple[Any, Any]]  # an argument's list, dict or array, and its copy around Values, by the first's id


def filled(tree: Any, numbers: Iterator[Any], copies: Copies) -> Any:
    """A copy of the arguments with these numbers for their floats, in the order of Scan; shared objects stay shared."""
    if id(tree) in copies:
        return copies[id(tree)][1]
    if _is_open(tree):
        new = trees.like(tree, [filled(x, numbers, copies) for x in trees.children_of(tree)])
    elif trees.is_array(tree) and tree.dtype.kind in "fO" and tree.size:
        new = sys.modules["numpy"].empty(tree.shape, object)
        flat = tree.ravel().tolist()
        new.ravel()[:] = [next(numbers) if tree.dtype.kind == "f" else filled(x, numbers, copies) for x in flat]
    else:
        return next(numbers) if is_number(tree) else tree
    if isinstance(tree, (list, dict, trees.Node)) or trees.is_array(tree):
        copies[id(tree)] = tree, new
    return new


def written_back(copies: Copies) -> None:
    """Apply to the arguments the changes that the function made to their copies."""
    originals = {id(copy): original for original, copy in copies.values()}

    def number_of(x: Any) -> Any:
        if isinstance(x, tuple) and is_container(x):
            return trees.like(x, [number_of(y) for y in x])
        return originals.get(id(x), x._data if isinstance(x, Value) else x)

    for original, copy in copies.values():
        if isinstance(original, list):
            original[:] = map(number_of, copy)
        elif isinstance(original, dict):
            new = {name: number_of(x) for name, x in copy.items()}
            original.clear()
            original.update(new)
        elif isinstance(original, trees.Node):
            for name in vars(copy) if hasattr(copy, "__dict__") else trees.keys(copy):
                object.__setattr__(original, name, number_of(getattr(copy, name)))
        elif original.dtype.kind == "f":
            original[...] = trees.array([number_of(x) for x in copy.ravel().tolist()], copy.shape)
        else:
            original[...] = copy

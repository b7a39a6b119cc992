"""Find the Values in an object: in its attributes, lists, tuples, dicts, deques, arrays, and the objects in those.

>>> from micrograd_bp.value import Value
>>> held = search({"w": [Value(1.0), Value(2.0)], "b": Value(3.0)})
>>> list(held.names())
['w.0', 'w.1', 'b']
"""

from __future__ import annotations

import functools
import gc
import itertools
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple, TypeAlias

from micrograd_bp._engine import trees
from micrograd_bp._engine.engine import all_leaves
from micrograd_bp.ops import Op
from micrograd_bp.value import Value

CLOSED = (type, types.ModuleType, Op)  # not searched: their Values belong to a program, not to a model
ATOMS = frozenset((int, float, str, bool, type(None)))  # they hold nothing
KEYLESS = ("function", "mapping", "set")  # these hold members without a key: closures, dict keys, items of a set
BUILTIN = (list, tuple, dict, set, frozenset)


# A group of members of a part, its items (by index or key) or its attributes (by name): the group that the part is in,
# the part's key there, and whether the members are items. A plain tuple, for there is one for every list of weights.
Parent: TypeAlias = "tuple[Parent | None, Any, bool]"
NOWHERE: tuple[Parent, Any] = (None, None, False), None


def exact(place: Parent, key: Any) -> str:
    """The path to a member as Python source, such as layers[0].w; tells the key 1 from the key "1"."""
    steps = [*_steps(place), (key, place[2])]
    return "".join(f"[{step!r}]" if items else f".{step}" for step, items in steps).removeprefix(".")


def _steps(place: Parent) -> list[tuple[Any, bool]]:
    """The keys that lead to a place, and whether each is that of an item."""
    steps = []
    above, key, _ = place
    while above is not None:
        steps.append((key, above[2]))
        above, key, _ = above
    return steps[::-1]


class Held(NamedTuple):
    """What `search` finds."""

    leaves: dict[Value, tuple[Parent, Any]]  # the parameters, each with the place where it was found first
    results: list[Value]  # Values with an operation: outputs that the object keeps
    parts: list[tuple[Parent, Any, Any]]  # (place, key, part): everything else that may have members, each once

    def names(self) -> dict[str, Value]:
        """The leaves by name: the path with dots, or the exact path where two leaves would have the same name.

        ValueError: two leaves have the same exact path, too.
        """
        plain: list[str] = []
        last: Any = self
        prefix = ""  # of the names of a place's members
        for place, key in self.leaves.values():
            if place is not last:
                last, prefix = place, "".join(f"{step}." for step, _ in _steps(place))
            plain.append(f"{prefix}{key}")
        named = dict(zip(plain, self.leaves))
        if len(named) < len(plain):
            count, named = Counter(plain), {}
            for name, (leaf, (place, key)) in zip(plain, self.leaves.items()):
                name = name if count[name] == 1 else exact(place, key)
                if name in named:
                    raise ValueError(f"two parameters have the name {name}; give one of them another key or attribute")
                named[name] = leaf
        return named


def search(root: Any, owners: tuple[type, ...] = (), places: bool = True) -> Held:
    """Find every Value in an object, each once and in order, without recursion.

    Types, modules and this library's own objects are not searched, except instances of `owners`, whose class attributes
    are checked as well. places: whether the place of each leaf is noted. TypeError: a leaf is found only where it has
    no key or attribute name (in a set, a dict's key, an iterator, a function's closure, on a class), so that it could
    not be named.
    """
    leaves: dict[Value, tuple[Parent, Any]] = {}
    results: dict[Value, None] = {}
    parts: list[tuple[Parent, Any, Any]] = []
    unplaced: list[tuple[Value, Parent | None, Any, str]] = []
    stack: list[tuple[Iterator[tuple[Any, Any]], Parent]] = []
    seen, classes, found = {id(root)}, set(), leaves.setdefault

    def enter(part: Any, above: Parent | None, key: Any) -> None:
        own: Any = type(part)
        kind = _kind(own)
        if kind.sort == "own" and not (kind.slots or kind.classes) and isinstance(part, owners):
            stack.append((iter(vars(part).items()), (above, key, False)))  # a layer, say: half of the time
            return
        groups = _groups(part, kind, owners)
        for items, pairs in reversed(groups):
            stack.append((iter(pairs), (above, key, items)))
        if kind.sort in KEYLESS or not groups:
            unplaced.extend((value, above, key, f"a {own.__name__}") for value in _unplaced(part, kind.sort))
        if kind.classes and own not in classes and isinstance(part, owners):
            classes.add(own)
            for base in kind.classes:
                for name, x in vars(base).items():
                    if isinstance(x, Value) or type(x) in BUILTIN:
                        text = f"the class attribute {base.__name__}.{name}"
                        unplaced.extend((value, None, None, text) for value in _values(x))

    enter(root, None, None)
    while stack:
        pairs, place = stack[-1]
        for key, member in pairs:
            if type(member) in ATOMS:
                continue
            if isinstance(member, Value):
                if member.op is None:
                    found(member, (place, key) if places else NOWHERE)
                else:
                    results[member] = None
                continue
            kind: Any = type(member)
            plain = kind is list or kind is tuple
            if id(member) not in seen and (plain or not _kind(kind).simple):
                seen.add(id(member))
                parts.append((place, key, member))  # keeps the member alive, so that no other object gets its id
                if not plain:
                    enter(member, place, key)
                elif not all_leaves(member):
                    stack.append((enumerate(member), (place, key, True)))
                else:  # a list of weights, at once
                    within: Parent = (place, key, True)
                    for k, leaf in enumerate(member) if places else ():
                        found(leaf, (within, k))
                    if not places:
                        leaves.update(dict.fromkeys(member, NOWHERE))
                    continue
                break
        else:
            stack.pop()
    for value, above, key, holder in unplaced:
        if value not in leaves and value.op is None:
            where = "" if above is None else f"{exact(above, key)}: "
            raise TypeError(
                f"{where}{holder} holds {value!r}, where it has no place of its own; keep parameters in attributes, "
                "lists, tuples, dicts (as values) or arrays of the model"
            )
    return Held(leaves, list(results), parts)


def _groups(part: Any, kind: Kind, owners: tuple[type, ...]) -> list[tuple[bool, Iterable[tuple[Any, Any]]]]:
    """The members of a part with their keys: (True, items by index or key), (False, attributes by name)."""
    sort = kind.sort
    groups: list[tuple[bool, Iterable[tuple[Any, Any]]]] = []
    if sort == "own" and not isinstance(part, owners):
        wrapped = getattr(part, "__wrapped__", None)  # a model, say, that was given to jit
        return [(False, [("__wrapped__", wrapped)])] if wrapped is not None else []
    if sort == "array":
        if part.dtype == object:
            indices = (".".join(map(str, index)) for index in itertools.product(*map(range, part.shape)))
            groups.append((True, zip(indices if part.ndim > 1 else range(part.size), part.ravel().tolist())))
    elif sort == "sequence":
        groups.append((True, enumerate(part)))
    elif sort == "mapping":
        groups.append((True, [(key, part[key]) for key in part]))
    if sort not in ("array", "function", "closed"):
        attributes = getattr(part, "__dict__", None)
        if attributes:
            groups.append((False, attributes.items()))
        if kind.slots and (slots := [(name, getattr(part, name)) for name in kind.slots if hasattr(part, name)]):
            groups.append((False, slots))
    return groups


class Kind(NamedTuple):
    """How `search` treats the instances of a type."""

    sort: str
    simple: bool  # an instance holds nothing: a number, a text, a NumPy scalar
    slots: tuple[str, ...]
    classes: tuple[type, ...]  # the type and its bases, except Python's and this library's, which hold no Values


@functools.lru_cache(1024)
def _kind(cls: Any) -> Kind:
    slots, sort = tuple(_slots(cls)), _sort(cls)
    collected = cls.__flags__ & 1 << 14  # Py_TPFLAGS_HAVE_GC: an instance may hold other objects
    simple = not (collected or cls.__dictoffset__ or slots or sort == "array")
    bases = tuple(base for base in cls.__mro__ if not base.__module__.startswith(("builtins", "micrograd_bp.")))
    return Kind(sort, simple, slots, bases)


def _sort(cls: Any) -> str:
    for sort, kinds in (
        ("closed", CLOSED),
        ("function", types.FunctionType),
        ("sequence", (list, tuple, deque)),
        ("mapping", (dict, Mapping)),
        ("set", Set),
    ):
        if issubclass(cls, kinds):
            return sort
    ndarray = trees.array_type()
    if ndarray is not None and issubclass(cls, ndarray):
        return "array"
    return "own" if cls.__module__.startswith("micrograd_bp.") else "object"


def _slots(kind: type) -> list[str]:
    """The names of a class's slots and of the members of types written in C, such as a partial's arguments."""
    return [
        name
        for base in kind.__mro__
        for name, x in vars(base).items()
        if isinstance(x, types.MemberDescriptorType) and name != "__weakref__"
    ]


def _unplaced(part: Any, sort: str) -> list[Value]:
    """The Values in a part that are not reached by a key or attribute name."""
    held: Iterable[Any]
    if sort == "function":
        held = [part.__defaults__, part.__kwdefaults__, vars(part), *(part.__closure__ or ())]
    elif sort == "mapping":
        held = [key for key in part if type(key) is not str]
    elif sort == "array":  # a structured array
        held = part.tolist() if part.dtype.hasobject and part.dtype != object else ()
    elif sort in ("set", "object"):
        held = gc.get_referents(part)
    else:
        return []
    return [value for x in held for value in _values(x)]


def _values(x: Any) -> Iterator[Value]:
    """The Values in lists, tuples, dicts, sets and cells of functions."""
    stack, seen = [x], set()
    while stack:
        x = stack.pop()
        if isinstance(x, Value):
            yield x
        elif (type(x) in BUILTIN or type(x) is types.CellType) and id(x) not in seen:
            seen.add(id(x))
            stack += gc.get_referents(x)

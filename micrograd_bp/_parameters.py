"""The Values that an object holds: in its attributes, lists, tuples, dicts, deques, arrays, and in the objects in them.

>>> from micrograd_bp.value import Value
>>> held = search({"w": [Value(1.0), Value(2.0)], "b": Value(3.0)})
>>> list(held.names())
['w.0', 'w.1', 'b']
"""

from __future__ import annotations

import functools
import gc
import itertools
import sys
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

from micrograd_bp.ops import Op
from micrograd_bp.value import Value

CLOSED = (type, types.ModuleType, Op)  # what these hold belongs to a program, not to a model
BUILTIN = (list, tuple, dict, set, frozenset)


class Place(NamedTuple):
    """A group of members of a part: its items, by index or key, or its attributes, by name."""

    above: Place | None
    key: Any  # of the part, in the group above
    items: bool
    prefix: str  # of its members' names, with dots for all steps: layers.0.

    def exact(self, key: Any) -> str:
        """The way to a member as Python writes it, where the key 1 is not the key "1": layers[0].w."""
        step = f"[{key!r}]" if self.items else f".{key}"
        return self.above.exact(self.key) + step if self.above is not None else step.removeprefix(".")


class Held(NamedTuple):
    """What `search` finds."""

    leaves: dict[Value, tuple[Place, Any]]  # the parameters, and where each is met first
    results: list[Value]  # Values with an operation: outputs that were kept
    parts: list[tuple[Place, Any, Any]]  # (place, key, part): all else that may hold members, each once

    def names(self) -> dict[str, Value]:
        """The leaves by name: by the path with dots, or by the exact one where two leaves would have the same name.

        ValueError: they have the same name all the same.
        """
        plain = [f"{place.prefix}{key}" for place, key in self.leaves.values()]
        named = dict(zip(plain, self.leaves))
        if len(named) < len(plain):
            count, named = Counter(plain), {}
            for name, (leaf, (place, key)) in zip(plain, self.leaves.items()):
                name = name if count[name] == 1 else place.exact(key)
                if name in named:
                    raise ValueError(f"two parameters have the name {name}; give one of them another key or attribute")
                named[name] = leaf
        return named


def search(root: Any, owners: tuple[type, ...] = ()) -> Held:
    """Every Value that an object holds, each once and in order, found without recursion.

    Nothing is looked for in types, modules and this library's own objects, but for instances of `owners`; on these
    attributes of their class count as well. TypeError: a leaf stands only where it has no place of its own (in a set, a
    dict's key, an iterator, a function's closure, on a class), so that it would be missed.
    """
    leaves: dict[Value, tuple[Place, Any]] = {}
    results: dict[Value, None] = {}
    parts: list[tuple[Place, Any, Any]] = []
    unplaced: list[tuple[Value, str]] = []
    stack: list[tuple[Iterator[tuple[Any, Any]], Place]] = []
    seen, classes, found = {id(root)}, set(), leaves.setdefault

    def enter(part: Any, above: Place | None, key: Any) -> None:
        prefix = "" if above is None else f"{above.prefix}{key}."
        groups = _groups(part, owners)
        for items, pairs in reversed(groups):
            stack.append((iter(pairs), Place(above, key, items, prefix)))
        for value in _unplaced(part, not groups):
            unplaced.append((value, f"{prefix[:-1]}: " * bool(prefix) + f"a {type(part).__name__}"))
        if type(part) not in classes and isinstance(part, owners):
            classes.add(type(part))
            for kind in type(part).__mro__:
                for name, x in vars(kind).items():
                    if isinstance(x, Value) or type(x) in BUILTIN:
                        unplaced.extend((value, f"the class attribute {kind.__name__}.{name}") for value in _values(x))

    enter(root, None, None)
    while stack:
        pairs, place = stack[-1]
        for key, member in pairs:
            if isinstance(member, Value):
                if member.op is None:
                    found(member, (place, key))
                else:
                    results[member] = None
                continue
            kind: Any = type(member)
            if not _simple(kind) and id(member) not in seen:
                seen.add(id(member))
                parts.append((place, key, member))  # which keeps it alive, so that its id stays its own
                enter(member, place, key)
                break
        else:
            stack.pop()
    for value, where in unplaced:
        if value not in leaves and value.op is None:
            raise TypeError(
                f"{where} holds {value!r}, where it has no place of its own; keep parameters in attributes, lists, "
                "tuples, dicts (as values) or arrays of the model"
            )
    return Held(leaves, list(results), parts)


def _groups(part: Any, owners: tuple[type, ...]) -> list[tuple[bool, Iterable[tuple[Any, Any]]]]:
    """The members of a part with their keys: (True, items), (False, attributes)."""
    kind: Any = type(part)
    if kind is list or kind is tuple:
        return [(True, enumerate(part))]
    if kind is dict:
        return [(True, part.items())]
    sort = _sort(kind)
    groups: list[tuple[bool, Iterable[tuple[Any, Any]]]] = []
    if sort == "array":
        if part.dtype == object:
            indices = (".".join(map(str, index)) for index in itertools.product(*map(range, part.shape)))
            groups.append((True, zip(indices if part.ndim > 1 else range(part.size), part.ravel().tolist())))
    elif sort == "sequence":
        groups.append((True, enumerate(part)))
    elif sort == "mapping":
        groups.append((True, [(key, part[key]) for key in part]))
    if sort == "own" and not isinstance(part, owners):
        wrapped = getattr(part, "__wrapped__", None)  # a model, say, that was given to jit
        return [(False, [("__wrapped__", wrapped)])] if wrapped is not None else []
    if sort not in ("array", "function", "closed"):
        attributes = getattr(part, "__dict__", None)
        if attributes:
            groups.append((False, attributes.items()))
        if slots := [(name, getattr(part, name)) for name in _slots(kind) if hasattr(part, name)]:
            groups.append((False, slots))
    return groups


@functools.lru_cache(1024)
def _sort(kind: Any) -> str:
    """What instances of a type are to the search."""
    for sort, kinds in (
        ("closed", CLOSED),
        ("function", types.FunctionType),
        ("sequence", (list, tuple, deque)),
        ("mapping", (dict, Mapping)),
        ("set", Set),
    ):
        if issubclass(kind, kinds):
            return sort
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray):
        return "array"
    return "own" if kind.__module__.startswith("micrograd_bp.") else "object"


@functools.lru_cache(1024)
def _simple(kind: type) -> bool:
    """Whether an instance holds nothing: a number, a text, a NumPy scalar."""
    collected = kind.__flags__ & 1 << 14  # Py_TPFLAGS_HAVE_GC: it may hold other objects
    return not (collected or kind.__dictoffset__ or _sort(kind) == "array" or _slots(kind))


@functools.lru_cache(1024)
def _slots(kind: type) -> list[str]:
    """The slots of a class, and what C's objects have of the kind: a partial's arguments, a method's object."""
    return [
        name
        for base in kind.__mro__
        for name, x in vars(base).items()
        if isinstance(x, types.MemberDescriptorType) and name != "__weakref__"
    ]


def _unplaced(part: Any, closed: bool) -> list[Value]:
    """The Values in a part that are no member with a key."""
    kind: Any = type(part)
    sort = _sort(kind)
    held: Iterable[Any]
    if sort == "function":
        held = [part.__defaults__, part.__kwdefaults__, vars(part), *(part.__closure__ or ())]
    elif sort == "mapping":
        held = [key for key in part if type(key) is not str]
    elif sort == "array":  # of records
        held = part.tolist() if part.dtype.hasobject and part.dtype != object else ()
    elif sort == "set" or (closed and sort == "object"):
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

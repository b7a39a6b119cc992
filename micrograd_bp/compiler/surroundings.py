"""What a function can reach besides the numbers in its arguments: closure, globals that it names, attributes.

`jit` uses it for three checks: whether an object among the arguments has changed since the last call; whether a call
has side effects, in which case the function runs eagerly; and where the Values are that the function reads, so that it
notices when another Value is put in such a place.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from micrograd_bp._engine import trees
from micrograd_bp.ops import Op
from micrograd_bp.value import Value

LIMIT = 1_000  # objects that are searched
ATOMS = (int, float, complex, str, bytes, type(None), type(...), range)
ENDS = frozenset((*ATOMS, Value))  # classes whose objects contain no others
OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, Op, Value)


class Place(NamedTuple):
    """A reference to an object: an item of a container, an attribute of an object, the content of a closure's cell."""

    holder: Any
    key: Any  # None: a cell
    content: Any

    def is_current(self) -> bool:
        """Whether the place still holds the same object."""
        holder, key = self.holder, self.key
        try:
            if key is None:
                return holder.cell_contents is self.content
            if isinstance(holder, (dict, list, tuple, deque)):
                return holder[key] is self.content
            return getattr(holder, key) is self.content
        except (LookupError, AttributeError, ValueError):
            return False

    def put(self, x: Any) -> None:
        """Assign another object to the place."""
        if self.key is None:
            self.holder.cell_contents = x
        elif isinstance(self.holder, (dict, list, deque)):
            self.holder[self.key] = x
        elif not isinstance(self.holder, (tuple, set, frozenset)):
            setattr(self.holder, self.key, x)


def all_current(places: Iterable[Place]) -> Callable[[], bool]:
    """A check that all of these are current: 0.05 us for an item of a container, where `is_current` takes 0.8."""
    places = list(places)
    items = [x for x in places if x.key is not None and isinstance(x.holder, (dict, list, tuple, deque))]
    others = [x for x in places if x.key is None or not isinstance(x.holder, (dict, list, tuple, deque))]

    def check() -> bool:
        try:
            for holder, key, content in items:
                if holder[key] is not content:
                    return False
        except LookupError:
            return False
        return all(x.is_current() for x in others)

    return check


def places(roots: Iterable[Any], limit: int = LIMIT) -> Iterator[Place]:
    """Every place that can be reached from the roots by name, breadth first; at most `limit` objects are searched."""
    waiting = deque(roots)
    first = {id(x) for x in waiting}
    seen: set[int] = set()
    while waiting and len(seen) < limit:
        x = waiting.popleft()
        if id(x) in seen or isinstance(x, (*ATOMS, *OPAQUE)) or (_is_foreign(x) and id(x) not in first):
            continue
        seen.add(id(x))
        for place in _inside(x):
            yield place
            if type(place.content) not in ENDS:
                waiting.append(place.content)


ENTERED = (list, tuple, dict, set, frozenset, deque, types.MethodType, types.SimpleNamespace, functools.partial)


def _is_foreign(x: Any) -> bool:
    """Whether an object is an internal one of Python, NumPy or this package, which users do not assign to by name."""
    if isinstance(x, ENTERED):
        return False
    module = str(x.__module__ if isinstance(x, types.FunctionType) else type(x).__module__)
    top = module.partition(".")[0]
    if isinstance(x, types.FunctionType):
        return top == "micrograd_bp" or top in sys.stdlib_module_names
    if top in ("__main__", "__mp_main__"):
        return False
    return top in sys.stdlib_module_names or top in ("numpy", "llvmlite") or module.startswith("micrograd_bp.compiler")


def _inside(x: Any) -> Iterator[Place]:
    if isinstance(x, dict):
        for key, content in x.items():
            yield Place(x, key, content)
    elif isinstance(x, (list, tuple, deque)):
        for k, content in enumerate(x):
            yield Place(x, k, content)
    elif isinstance(x, (set, frozenset)):
        for content in x:
            yield Place(x, "", content)
    elif isinstance(x, types.FunctionType):
        for cell in x.__closure__ or ():
            if _is_filled(cell):
                yield Place(cell, None, cell.cell_contents)
        for name in _names(x.__code__):
            if name in x.__globals__:
                yield Place(x.__globals__, name, x.__globals__[name])
        for content in (x.__defaults__, x.__kwdefaults__):
            if content:
                yield Place(x, "__defaults__" if content is x.__defaults__ else "__kwdefaults__", content)
    elif isinstance(x, types.MethodType):
        yield Place(x, "__self__", x.__self__)
        yield Place(x, "__func__", x.__func__)
    elif isinstance(x, functools.partial):
        yield from (Place(x, "func", x.func), Place(x, "args", x.args), Place(x, "keywords", x.keywords))
    else:
        call = next((vars(kind)["__call__"] for kind in type(x).__mro__ if "__call__" in vars(kind)), None)
        if isinstance(call, types.FunctionType):
            yield Place(type(x), "__call__", call)
        for name in _slots(type(x)):
            yield Place(x, name, getattr(x, name, None))
        attributes = _attributes(x)
        for name, content in attributes.items():
            yield Place(attributes, name, content)


def _attributes(x: Any) -> dict[str, Any]:
    """The dict of an object's attributes, which does not keep the object alive."""
    try:
        attributes = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function's code, and in the code nested in it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _names(inner)


def _slots(kind: type) -> list[str]:
    found = [getattr(base, "__slots__", ()) for base in kind.__mro__]
    names = [name for slots in found for name in ([slots] if isinstance(slots, str) else slots)]
    return [name for name in names if name not in ("__dict__", "__weakref__") and not name.startswith("__")]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def leaf_places(roots: Iterable[Any], leaves: Iterable[Value], limit: int = 64) -> list[Place]:
    """The places of the leaves and of what contains them: while all are current, the function reads the same leaves."""
    above: dict[int, Place] = {}  # the place of an object, by its id
    wanted, found = {id(x) for x in leaves}, {}
    for place in places(roots):
        above.setdefault(id(place.content), place)
        if not isinstance(place.content, (*ATOMS, *OPAQUE)):
            above.setdefault(id(_attributes(place.content)), place)
        if id(place.content) in wanted:
            at: Place | None = place
            while at is not None and (id(at.holder), _key(at.key)) not in found:
                found[id(at.holder), _key(at.key)] = at
                at = above.get(id(at.holder))
        if len(found) >= limit:
            break
    return list(found.values())


def settled(roots: Iterable[Any], own: Callable[[Value], bool]) -> bool:
    """Replace the recording's own Values by numbers; False if there are functions, whose closures may hold more."""
    found = list(places(roots))
    if any(isinstance(x, types.FunctionType) and _is_foreign(x) for x in (*roots, *[place.content for place in found])):
        return False
    try:
        for place in found:
            if isinstance(place.content, Value) and own(place.content):
                place.put(place.content._data)
    except (AttributeError, TypeError):
        return False
    return not any(isinstance(x.content, Value) and own(x.content) for x in places(roots))


def snapshot(roots: Iterable[Any], limit: int = LIMIT) -> tuple[Any, ...]:
    """The content of every place, to compare with a later one: numbers and text by value, others by identity."""
    roots = list(roots)
    return (*[atom(x) for x in roots], *[(id(x.holder), _key(x.key), atom(x.content)) for x in places(roots, limit)])


def _key(key: Any) -> Any:
    return key if isinstance(key, (str, int, type(None))) else id(key)


def atom(x: Any) -> Any:
    """A key for comparing an object with a later one in its place: its value or state, or its id; not its contents."""
    if type(x) is Value:
        return id(x), 0
    if isinstance(x, ATOMS):
        return type(x), x if x == x else "nan", str(x) if isinstance(x, (float, complex)) else ""
    if isinstance(x, random.Random) and not isinstance(x, random.SystemRandom):
        return "random", id(x), hash(x.getstate())
    if (generator := getattr(x, "bit_generator", None)) is not None:
        return "random", id(x), repr(generator.state)
    if trees.is_array(x):
        return id(x), x.shape, hash(x.tobytes()) if x.nbytes <= 1 << 20 and not x.dtype.hasobject else _elements(x)
    if isinstance(x, (bytearray, memoryview)) or type(x).__module__ == "array":
        return id(x), hash(bytes(x))
    return id(x), len(x) if isinstance(x, (dict, list, set, deque)) else 0


def _elements(x: Any) -> Any:
    return tuple(map(id, x.ravel().tolist())) if x.dtype.hasobject and x.size <= LIMIT else ""


def difference(before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    """A description of what has changed between two snapshots; "" if nothing has."""
    if before == after:
        return ""
    for old, new in zip(before, after):
        if old != new:
            if "random" in (old[0], old[-1][0] if isinstance(old[-1], tuple) else ""):
                return "random numbers are drawn in it"
            name = old[1] if len(old) == 3 and isinstance(old[1], str) else ""
            return f"it changes {name or 'what it finds'} while it runs"
    return "it changes what it finds while it runs"


def drawing(function: Any) -> bool:
    """Whether this built-in function draws a random number."""
    return isinstance(getattr(function, "__self__", None), random.Random) or function.__name__ == "urandom"


def numpy_state() -> Any:
    """The state of NumPy's global random generator; None where NumPy is not loaded."""
    get_state = getattr(sys.modules.get("numpy.random"), "get_state", None)  # missing while another thread imports it
    if get_state is None:
        return None
    name, keys, *rest = get_state()
    return name, keys.tobytes(), *rest

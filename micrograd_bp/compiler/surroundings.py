"""What a function can reach besides the numbers in its arguments: closure, globals that it names, attributes.

`jit` uses it for four checks: whether an object among the arguments has changed since the last call; whether a call
has side effects, in which case the function runs eagerly; where the Values are that the function reads, so that it
notices when another Value is put in such a place; and which plain numbers, texts and functions it finds, so that it
notices when one of them has become another.
"""

from __future__ import annotations

import datetime
import dis
import functools
import io
import operator
import os
import random
import sys
import time
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


CELL = "cell_contents"  # of a closure


class Place(NamedTuple):
    """A reference to an object: an item of a container, or an attribute of an object, such as a closure's cell."""

    holder: Any
    key: Any
    content: Any

    def is_current(self) -> bool:
        """Whether the place still holds the same object."""
        holder, key = self.holder, self.key
        try:
            if isinstance(holder, (dict, list, tuple, deque)):
                return holder[key] is self.content
            return getattr(holder, key) is self.content
        except (LookupError, AttributeError, ValueError):
            return False

    def put(self, x: Any) -> None:
        """Assign another object to the place."""
        if isinstance(self.holder, (dict, list, deque)):
            self.holder[self.key] = x
        elif not isinstance(self.holder, (tuple, set, frozenset)):
            setattr(self.holder, self.key, x)


def all_current(places: Iterable[Place]) -> Callable[[], bool]:
    """A check that all of these are current: 0.05 us for an item of a container, where `is_current` takes 0.8."""
    places = list(places)
    items = [x for x in places if isinstance(x.holder, (dict, list, tuple, deque))]
    others = [x for x in places if not isinstance(x.holder, (dict, list, tuple, deque))]

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
                yield Place(cell, CELL, cell.cell_contents)
        for name in _names(x.__code__):
            if name in x.__globals__:
                yield Place(x.__globals__, name, x.__globals__[name])
        for name, content in x.__dict__.items():
            yield Place(x.__dict__, name, content)
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
        for base in type(x).__mro__:
            for name, content in vars(base).items() if _is_users(base) else ():
                if isinstance(content, ATOMS) and not name.startswith("__"):
                    yield Place(base, name, content)
        for name in _slots(type(x)):
            yield Place(x, name, getattr(x, name, None))
        attributes = _attributes(x)
        for name, content in attributes.items():
            yield Place(attributes, name, content)


def _is_users(kind: Any) -> bool:
    """Whether a class or function is the user's, or a module (which has a name instead), and not a library's."""
    return not _is_librarys(str(getattr(kind, "__module__", None) or kind.__name__).partition(".")[0])


@functools.lru_cache(1_000)
def _is_librarys(top: str) -> bool:
    """Whether a module that is reached from the top level belongs to a library that is installed."""
    if top in (*sys.stdlib_module_names, "micrograd_bp"):
        return top not in ("__main__", "__mp_main__")
    path = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in path or "dist-packages" in path


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


# --- plain numbers, texts and functions -----------------------------------------------------------------------------

BYTES = 1 << 17  # of a larger array it is only noticed that it is another array
CHANGING = (list, dict, set, deque)


class Surroundings:
    """What a function finds outside its arguments by the names in its code, as it was when this was made.

    `key` describes it: numbers and texts by value, functions by their code, and where they stand. Values are not in it.
    `iterates`: there is an iterator among it, from which each call may take another item.
    """

    def __init__(self, root: Any) -> None:
        self.iterates = False
        attributes: set[str] = set()
        known = -1
        while known < len(attributes):  # a function that is found may name more of them
            known = len(attributes)
            self._cells: list[tuple[types.CellType, Any]] = []
            self._named: list[tuple[Any, str, Any]] = []  # in a dict or a class's mapping
            self._slots: list[tuple[Any, str, Any]] = []
            self._filled: list[tuple[Any, list[Any]]] = []
            self._arrays: list[tuple[Any, bytes]] = []
            found = tuple(self._search(root, attributes))
            self.key = found, tuple(name for _, name, _ in (*self._named, *self._slots))
        # Two functions may name the same global.
        self._named = list({(id(x), name): (x, name, content) for x, name, content in self._named}.values())

    def is_current(self) -> bool:
        """Whether all of it is still the same."""
        try:
            for cell, content in self._cells:
                if cell.cell_contents is not content:
                    return False
            for holder, name, content in self._named:
                if holder.get(name, MISSING) is not content:
                    return False
            for x, name, content in self._slots:
                if getattr(x, name, MISSING) is not content:
                    return False
        except ValueError:  # a cell is empty now
            return False
        for container, contents in self._filled:
            now = _contents(container)
            if len(now) != len(contents) or not all(map(operator.is_, now, contents)):
                return False
        return not self._arrays or all(array.tobytes() == content for array, content in self._arrays)

    @property
    def is_fixed(self) -> bool:
        """Whether none of it can change."""
        return not (self._cells or self._named or self._slots or self._filled or self._arrays)

    def _search(self, root: Any, attributes: set[str]) -> Iterator[Any]:
        """The parts of `key`, breadth first; the places are noted."""
        waiting = deque([root])
        seen: dict[int, int] = {}
        while waiting and len(seen) < LIMIT:
            x = waiting.popleft()
            if isinstance(x, (*ATOMS, Op)):
                yield atom(x)
            elif isinstance(x, Value) or id(x) in seen:
                yield seen.get(id(x))
            else:
                seen[id(x)] = len(seen)
                self.iterates |= hasattr(type(x), "__next__")
                yield _kept(x)
                waiting += self._inside(x, attributes, x is root)

    def _inside(self, x: Any, attributes: set[str], is_root: bool) -> list[Any]:
        """What an object contains, as far as the code can name it; where it may be replaced, that is noted."""
        kind = type(x)
        if isinstance(x, types.FunctionType):
            return self._of_function(x, attributes, is_root)
        if isinstance(x, types.MethodType):
            return [x.__func__, x.__self__]
        if isinstance(x, functools.partial):
            return [x.func, x.args, x.keywords]
        if isinstance(x, CHANGING):
            contents = list(_contents(x))
            if not all(isinstance(content, Value) for content in contents):
                self._filled.append((x, contents))
            return contents
        if isinstance(x, (tuple, frozenset)):
            return [*x]
        if trees.is_array(x):
            if x.dtype.hasobject:
                return list(x.ravel().tolist()) if x.size <= LIMIT else []
            if x.nbytes <= BYTES and x.flags.writeable:
                self._arrays.append((x, x.tobytes()))
            return []
        if isinstance(x, type):
            return self._of_class(x, attributes)
        if isinstance(x, types.ModuleType):
            return self._of_module(x, attributes)
        wrapped = _attributes(x).get("__wrapped__", getattr(x, "__wrapped__", None) if kind in CACHES else None)
        if wrapped is not None:
            return [wrapped]
        if (_is_foreign(x) and not is_root) or isinstance(x, OPAQUE):
            return []
        own = kind.__module__.partition(".")[0] == "micrograd_bp"  # whose methods are not searched for names
        held, hidden = _attributes(x), len(self._named)
        contents = [] if own else self._of_class(kind, attributes)
        if held:  # an attribute of the class is hidden by one of the object
            self._named += [(held, name, MISSING) for _, name, _ in self._named[hidden:] if name not in held]
        for name in list(held) if own else [name for name in held if name in attributes]:
            contents += self._noted(self._named, held, name, held[name])
        for name in _slots(kind):
            if name in attributes:
                contents += self._noted(self._slots, x, name, getattr(x, name, MISSING))
        return contents

    def _of_function(self, x: types.FunctionType, attributes: set[str], is_root: bool) -> list[Any]:
        contents: list[Any] = []
        for cell in x.__closure__ or ():
            if _is_filled(cell):
                contents.append(cell.cell_contents)
                if not isinstance(contents[-1], Value) and (is_root or _is_users(x)):
                    self._cells.append((cell, contents[-1]))
        if not is_root and not _is_users(x):
            return contents
        names, more = _named_in(x.__code__)
        attributes |= more
        for name in names:
            if name in x.__globals__:
                content = x.__globals__[name]
                is_module = isinstance(content, types.ModuleType)
                contents += [content] if is_module else self._noted(self._named, x.__globals__, name, content)
        for name in x.__dict__:
            if name in attributes:
                contents += self._noted(self._named, x.__dict__, name, x.__dict__[name])
        for defaults in (x.__defaults__, x.__kwdefaults__):
            contents += [] if defaults is None else [defaults]
        return contents

    def _of_class(self, kind: type, attributes: set[str]) -> list[Any]:
        """Attributes of the class and of its bases: numbers and texts, and the functions of methods and properties."""
        contents: list[Any] = []
        for base in filter(_is_users, kind.__mro__):
            held = vars(base)
            for name in held:
                if name in attributes or name == "__call__":
                    x = held[name]
                    if isinstance(x, (*ATOMS, *CHANGING, tuple)):
                        contents += self._noted(self._named, held, name, x)
                    else:
                        x = getattr(x, "fget", getattr(x, "__func__", x))
                        contents += [x] if isinstance(x, types.FunctionType) else []
        return contents

    def _of_module(self, module: types.ModuleType, attributes: set[str]) -> list[Any]:
        contents: list[Any] = []
        held = vars(module) if _is_users(module) else {}
        for name in sorted(attributes.intersection(held)):
            if isinstance(held[name], (*ATOMS, *CHANGING, tuple, types.FunctionType)):
                contents += self._noted(self._named, held, name, held[name])
        return contents

    @staticmethod
    def _noted(places: list[tuple[Any, str, Any]], holder: Any, name: str, content: Any) -> list[Any]:
        if not isinstance(content, Value):
            places.append((holder, name, content))
        return [content]


MISSING = object()
CACHES = (type(functools.lru_cache(len)),)


def _contents(x: Any) -> Any:
    """Of a dict its values and keys, of other containers the items."""
    return (*x.values(), *x) if isinstance(x, dict) else x


def _kept(x: Any) -> Any:
    """How an object that is no number or text is told from another: by what it holds, where that is looked at."""
    if isinstance(x, types.FunctionType):
        return x.__code__
    if isinstance(x, (*CHANGING, tuple, frozenset)):
        return type(x), len(x)
    if trees.is_array(x):
        return str(x.dtype), x.shape, hash(x.tobytes()) if not x.dtype.hasobject and x.nbytes <= BYTES else id(x)
    foreign = _is_foreign(x) and not hasattr(x, "__wrapped__")
    return type(x), id(x) if foreign or isinstance(x, OPAQUE) else ""


@functools.lru_cache(1_000)
def _named_in(code: types.CodeType) -> tuple[list[str], set[str]]:
    """The names of globals in a function's code, and those of attributes; of the code nested in it too."""
    found = [x.argval for x in dis.get_instructions(code) if x.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    attributes = set(code.co_names).difference(found)
    attributes |= {x.argval for x in dis.get_instructions(code) if x.opname in ("LOAD_ATTR", "LOAD_METHOD")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names, more = _named_in(inner)
            found += names
            attributes |= more
    return list(dict.fromkeys(found)), attributes


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


CLOCKS: tuple[Any, ...] = (
    time.time,
    time.time_ns,
    time.monotonic,
    time.monotonic_ns,
    time.perf_counter,
    time.perf_counter_ns,
)
CLOCKS += (time.process_time, time.process_time_ns, time.localtime, time.gmtime)
# Pyodide has no clock of a thread.
CLOCKS += tuple(getattr(time, name) for name in ("thread_time", "thread_time_ns") if hasattr(time, name))
OUTSIDE = {
    **dict.fromkeys((*CLOCKS, datetime.datetime.now, datetime.date.today), "the clock is read"),
    **dict.fromkeys((open, input), "a file is read"),
    print: "text is printed",
    os.urandom: "random numbers are drawn",  # by random.SystemRandom too
}


def outside(function: Any, caller: str) -> str:
    """What a built-in function does that is to be done at every call, such as drawing a random number; or "".

    caller: the module that calls it. Libraries read clocks and files for purposes of their own, callbacks of the
    garbage collector among them.
    """
    owner = getattr(function, "__self__", None)
    if isinstance(owner, random.Random) or function is os.urandom:
        return "random numbers are drawn"
    top = caller.partition(".")[0]
    found = "text is written or read" if isinstance(owner, io.IOBase) else OUTSIDE.get(function, "")
    if top == "logging":
        return found and "text is logged"
    return "" if _is_librarys(top) else found


def numpy_state() -> Any:
    """The state of NumPy's global random generator; None where NumPy is not loaded."""
    get_state = getattr(sys.modules.get("numpy.random"), "get_state", None)  # missing while another thread imports it
    if get_state is None:
        return None
    name, keys, *rest = get_state()
    return name, keys.tobytes(), *rest

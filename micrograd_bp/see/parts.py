"""The parts of a model, and the part to which each node of a graph belongs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from micrograd_bp._engine.labels import Listing
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.value import Value


@dataclass(eq=False)
class Part:
    """A part of a model, such as a layer or a neuron: whatever has parameters(), or an entry of a mapping."""

    name: str
    module: Any
    parent: Part | None
    parameters: list[Value] = field(default_factory=list)  # its own, not those of its parts
    parts: list[Part] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def path(self) -> str:
        """The name with those of the parts around it, but for the model itself: layers[0].neurons[3]."""
        return ".".join(part.name for part in self.chain()[1:]) or self.name

    @property
    def title(self) -> str:
        plain = self.parent is None or isinstance(self.module, Mapping | list | tuple | Value)
        return self.name if plain else f"{self.name}: {type(self.module).__name__}"

    def walk(self) -> Iterator[Part]:
        """This part and all within it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def chain(self) -> list[Part]:
        """The parts from the whole model down to this one."""
        return [*(self.parent.chain() if self.parent else []), self]


def find_parts(model: Any) -> Part:
    """The tree of a model's parts, found through its attributes, lists, tuples and dicts."""
    seen: set[int] = set()

    def explore(x: Any, name: str, part: Part, top: bool = False) -> None:
        if id(x) in seen:
            return
        seen.add(id(x))
        if isinstance(x, Value):
            if x.op is None:  # else an output that the model keeps
                part.parameters.append(x)
        elif isinstance(x, Mapping):
            for key, item in x.items():
                inner = Part(str(key), item, part) if top else part
                explore(item, str(key) if top else f"{name}[{key!r}]", inner)
                if inner is not part:
                    part.parts.append(inner)
        elif isinstance(x, list | tuple):
            for place, item in enumerate(x):
                explore(item, f"{name}[{place}]", part)
        elif callable(getattr(x, "parameters", None)) and not isinstance(x, type):
            inner = part if top or part.module is x else Part(name, x, part)
            slots = [slot for kind in type(x).__mro__ for slot in getattr(kind, "__slots__", ())]
            for attribute in [*getattr(x, "__dict__", ()), *slots]:
                explore(getattr(x, attribute, None), attribute, inner)
            known = {parameter for each in inner.walk() for parameter in each.parameters}
            inner.parameters += [p for p in x.parameters() if isinstance(p, Value) and p not in known]
            if inner is not part and any(each.parameters for each in inner.walk()):
                part.parts.append(inner)

    root = Part("model" if isinstance(model, Mapping | list | tuple) else type(model).__name__, model, None)
    explore(model, root.name, root, top=True)
    if not any(part.parameters for part in root.walk()):
        raise TypeError(f"no parameters in {model!r}; a model has parameters(), or is a mapping from names to Values")
    return root


def members(listing: Listing, root: Part) -> dict[Value, Part]:
    """The part of a model to which each node belongs, as far as the graph alone can tell.

    A node computed with a part's own parameters belongs to the part; so do sums and products of such nodes, and a
    function of one such node that nothing else uses: the activation. A node on the way from there to other parameters
    belongs to the smallest part that holds everything it is computed from. The loss belongs to no part.
    """
    owner = {parameter: part for part in root.walk() for parameter in part.parameters}
    member = {leaf: owner[leaf] for leaf in listing.leaves if leaf in owner}
    origin = dict(member)  # the part that a node is computed from
    uses = Counter(x for node in listing.interior for x in node.operands if isinstance(x, Value))
    functions: set[Value] = set()
    for repeated in (False, True):
        for node in listing.interior:
            values = [x for x in node.operands if isinstance(x, Value)]
            own = [owner[x] for x in values if x in owner]
            homes = own or [origin[x] for x in values if x in origin]
            if not homes or node in member:
                continue
            origin[node] = home = functools.reduce(_common, homes)
            symbol = node.op.symbol if node.op is not None else ""
            inside = all(x in member and member[x] is home for x in values)
            several, last = len(set(values)) > 1, values[0] in functions
            if symbol == "+" and any(type(x) is float and not x for x in node.operands) and not last:
                several = True  # as sum() begins
            if own or (inside and several):
                member[node] = home
            elif inside and symbol not in Expr.RANKS and uses[values[0]] == 1 and not last:
                member[node] = home
                functions.add(node)
        for node in reversed(listing.interior if not repeated else []):
            if node in member:
                for x in node.operands:
                    if isinstance(x, Value) and x not in member and x in origin:
                        member[x] = origin[x]
    return member


def _common(part: Part, other: Part) -> Part:
    """The smallest part that holds both."""
    return [a for a, b in zip(part.chain(), other.chain()) if a is b][-1]

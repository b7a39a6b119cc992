"""A recorded graph as a flat program: a list of ops, each with the positions of its operands.

`flatten` makes it from Values without recursion, `rerecord` makes Values from it again.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, overload

from micrograd_bp._engine.engine import flat, marked
from micrograd_bp.ops import Op, add, mul, net_input, number, pos
from micrograd_bp.value import Value, topological_order

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
# (op, n, exact) -> the instruction for an op with n operands, or "" if there is none.
InstructionFor: TypeAlias = Callable[[Op, int, bool], str]


@dataclass(frozen=True, slots=True)
class Written:
    """Numbers in a row, written by nodes: (node, first, step, turns) where the node of a loop is, turn by turn.

    Turns are 1 for what the node is before the loop that reads them. No place is written twice; the others are 0.
    """

    size: int
    places: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a sequence: in iteration `turn` of a loop the one at first + step * turn, elsewhere the first.

    The sequence is "inputs", "parameters", a tuple of numbers, or a node of a loop: its numbers in all iterations; or
    Written.
    """

    sequence: str | tuple[float, ...] | int | Written
    first: int
    step: int = 0

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes whose numbers are read."""
        if isinstance(self.sequence, Written):
            return tuple([i for i, *_ in self.sequence.places])
        return (self.sequence,) if isinstance(self.sequence, int) else ()


@dataclass(slots=True)
class Loop:
    """The nodes from start to stop are computed `count` times; afterwards they have the numbers of the last iteration.

    `carried` holds triples (leaf, a, b): the leaf has the number of node a, which stands before the loop, in the first
    iteration, and after that the number that node b had in the iteration before.
    """

    start: int
    stop: int
    count: int
    carried: list[tuple[int, int, int]] = field(default_factory=list)
    reads: dict[int, Element] = field(default_factory=dict)  # leaves with another number in each iteration

    def last(self, leaf: int) -> Element:
        """What such a leaf stands for after the loop: the element of the last iteration."""
        read = self.reads[leaf]
        return Element(read.sequence, read.first + read.step * (self.count - 1))


LARGE = 20_000  # nodes from which on a graph is taken apart by NumPy


class PerNode(Protocol[T]):
    """The ops or the operands of a program, node by node: a list, or the compact form of a large program."""

    def append(self, x: T, /) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...
    @overload
    def __getitem__(self, i: int, /) -> T: ...
    @overload
    def __getitem__(self, i: slice, /) -> Sequence[T]: ...


@dataclass(slots=True)
class FlatProgram:
    """Straight-line code: node i applies the op ops[i] to the nodes operands[i], which come before it.

    A leaf has no op; it is an input, a parameter, or a number in `constants`. A path through a function is valid while
    its `guards` have the truth values they had. `checks` are nodes that no output needs, but whose operation may raise:
    they are computed to see whether they are finite. `raised` are operations that raised when the path was recorded, in
    exceptions that the function caught: only guards read them, and they are expected not to be finite.
    """

    ops: PerNode[Op | None] = field(default_factory=list)
    operands: PerNode[tuple[int, ...]] = field(default_factory=list)
    constants: dict[int, float] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    parameters: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    guards: list[int] = field(default_factory=list)
    checks: list[int] = field(default_factory=list)
    raised: list[int] = field(default_factory=list)
    precise: set[int] = field(default_factory=set)  # exact even in a fast program: guards read them
    labels: dict[int, str] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)  # one after the other; see loops.py
    reads: dict[int, Element] = field(default_factory=dict)  # leaves that stand for one number of a sequence
    longest: int = 0  # the operations on the longest chain of dependent ones, additions apart; 0: not known
    _known: dict[Any, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ops)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "_known"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, x in state.items():
            setattr(self, name, x)
        self._known = {}

    def leaf(self) -> int:
        """Add a leaf; the caller puts it into inputs, parameters or constants."""
        self.ops.append(None)
        self.operands.append(())
        return len(self.ops) - 1

    def constant(self, x: float) -> int:
        """The leaf with this number, added if there is none yet; 0.0 and -0.0 are different numbers."""
        key = x if x and x == x else repr(x)
        i = self._known.get(key)
        if i is None:
            i = self._known[key] = self.leaf()
            self.constants[i] = x
        return i

    def node(self, op: Op, operands: tuple[int, ...]) -> int:
        """The node that applies the op to these operands, added if there is none yet."""
        key = (op, operands)
        i = self._known.get(key)
        if i is None:
            i = self._known[key] = len(self.ops)
            self.ops.append(op)
            self.operands.append(operands)
        return i

    def with_outputs(self, outputs: list[int]) -> FlatProgram:
        """A program of the same nodes with other outputs, without guards and checks."""
        made = FlatProgram(self.ops, self.operands, self.constants, self.inputs, self.parameters, outputs)
        made.raised, made.labels = self.raised, self.labels
        return made

    def weighted(self) -> FlatProgram:
        """The program whose first output is multiplied by a further input."""
        made = copy.copy(self)
        made.ops, made.operands = [*self.ops, None, mul], [*self.operands, (), (self.outputs[0], len(self))]
        made.inputs, made.outputs = [*self.inputs, len(self)], [len(self) + 1, *self.outputs[1:]]
        return made

    def combined(self) -> FlatProgram:
        """The program with a further output: the sum of all outputs, each multiplied by a further input."""
        made = copy.copy(self)
        made.ops, made.operands, made.inputs = [*self.ops], [*self.operands], [*self.inputs]
        total = -1
        for k, output in enumerate(self.outputs):
            made.inputs.append(made.leaf())
            made.ops.append(mul)
            made.operands.append((made.inputs[-1], output))
            if k:
                made.ops.append(add)
                made.operands.append((total, len(made) - 2))
            total = len(made) - 1
        made.outputs = [*self.outputs, total]
        return made

    def links(self) -> dict[int, tuple[int, ...]]:
        """For each leaf that stands for other nodes, these nodes."""
        found: dict[int, tuple[int, ...]] = {}
        for reads in (self.reads, *[loop.reads for loop in self.loops]):
            found |= {leaf: x.nodes for leaf, x in reads.items() if x.nodes}
        return found | {leaf: (a, b) for loop in self.loops for leaf, a, b in loop.carried}

    @property
    def count(self) -> int:
        """The number of nodes that are operations."""
        if isinstance(self.ops, Ops):
            return len(self.ops) - int((self.ops.code == self.ops.ops.index(None)).sum())
        return sum(op is not None for op in self.ops)


def flatten(
    outputs: Sequence[Value | float],
    inputs: Sequence[Value],
    parameters: Sequence[Value] = (),
    guards: Sequence[Value | float] = (),
    checks: Callable[[Container[Value]], Sequence[Value]] | None = None,
    raised: Sequence[Value] = (),
    within: Callable[[Value], bool] | None = None,
) -> tuple[FlatProgram, list[Value]]:
    """Make a program from a graph; returns it and its parameters: those given, then all other leaves.

    Nodes are ordered depth first, output by output, so that a derivative stands near the values that it is made of.
    within: a predicate, whether a node was made by the recorded function: nodes made elsewhere become leaves, and its
    own leaves constants. ValueError: an input or parameter is given twice, or is no leaf.
    """
    given: set[Value] = set()
    for kind, values in (("an input", inputs), ("a parameter", parameters)):
        for x in values:
            if not isinstance(x, Value):
                raise TypeError(f"{kind} is a Value, not {x!r} ({type(x).__name__})")
            if x.op is not None:
                raise ValueError(f"{x!r} is the result of {x.op.name}; {kind} is one of the leaves of the graph")
            if x in given:
                raise ValueError(f"{x!r} is given twice; each input and each parameter is a leaf of its own")
            given.add(x)
    plain = within is None and checks is None and not guards and not raised
    if plain and len(outputs) == 1 and isinstance(outputs[0], Value) and importlib.util.find_spec("numpy") is not None:
        nodes = topological_order(outputs[0])
        if len(nodes) > LARGE:
            return _flatten_large(nodes, inputs, parameters)
    program = FlatProgram()
    place: dict[Value, int] = {}
    leaves = list(parameters)
    for places, own in ((program.inputs, inputs), (program.parameters, leaves)):
        for x in own:
            place[x] = program.leaf()
            places.append(place[x])
    for places, some in (program.outputs, outputs), (program.guards, guards), (program.raised, raised):
        places += [_placed(x, program, place, leaves, within) for x in some]
    if checks is not None:
        program.checks += [_placed(x, program, place, leaves, within) for x in checks(place)]
    program.labels = {i: node.label for node, i in place.items() if node.label}
    return program, leaves


class _Fixed(Sequence[Any]):
    """The ops or operands of a large program, to which no node is added."""

    def append(self, x: Any, /) -> None:
        raise TypeError("a large program is not added to; `lower` makes one that can be")


class Ops(_Fixed):
    """The ops of a large program, stored as one number of 4 bytes per node."""

    def __init__(self, code: np.ndarray[Any, Any], ops: list[Op | None]) -> None:
        self.code, self.ops = code, ops

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [*map(self.ops.__getitem__, self.code[i].tolist())]
        return self.ops[self.code[i]]

    def __iter__(self) -> Iterator[Op | None]:
        return map(self.ops.__getitem__, self.code.tolist())


class Operands(_Fixed):
    """The operands of a large program, stored one after the other in one array."""

    def __init__(self, counts: np.ndarray[Any, Any], child: np.ndarray[Any, Any]) -> None:
        import numpy as np

        self.child, self.first = child, np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=self.first[1:])

    def __len__(self) -> int:
        return len(self.first) - 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        k = i + len(self) if i < 0 else i
        return tuple(self.child[self.first[k] : self.first[k + 1]].tolist())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        child, first = self.child.tolist(), self.first.tolist()
        return (tuple(child[a:b]) for a, b in itertools.pairwise(first))


def table(program: FlatProgram) -> tuple[list[Op | None], Any, Any, Any]:
    """A program as arrays: its distinct ops, each node's index among these, its number of operands, all operands."""
    import numpy as np

    n = len(program)
    if isinstance(program.ops, Ops) and isinstance(program.operands, Operands):
        return program.ops.ops, program.ops.code, np.diff(program.operands.first), program.operands.child
    ops: list[Op | None] = list(dict.fromkeys(program.ops))
    codes = {op: k for k, op in enumerate(ops)}
    code = np.fromiter(map(codes.__getitem__, program.ops), np.int32, n)
    counts = np.fromiter(map(len, program.operands), np.int32, n)
    child = np.fromiter(itertools.chain.from_iterable(program.operands), np.int32, int(counts.sum()))
    return ops, code, counts, child


def flatten_recording(
    nodes: list[Value],
    outputs: Sequence[Value | float],
    inputs: Sequence[Value],
    guards: Sequence[Value],
    raised: Sequence[Value],
    may_raise: Callable[[Op], Any],
) -> tuple[FlatProgram, list[Value]]:
    """Make a program of all nodes of a long recording, in the order of their creation; otherwise as `flatten`."""
    import numpy as np

    ops, codes, sizes, operands, numbers, own_leaves, foreign, ends = flat(nodes, [*outputs, *inputs, *guards, *raised])
    code, counts, child = [np.frombuffer(x, np.int32) if x else np.zeros(0, np.int32) for x in (codes, sizes, operands)]
    needed = array("b", bytes(len(code)))
    wanted, roots = np.frombuffer(needed, np.int8), np.frombuffer(ends, np.int32)
    wanted[roots[roots >= 0]] = 1
    free = ops.index(add) if add in ops else -1
    marked(codes, sizes, operands, needed, free)
    risky = np.array([bool(may_raise(op)) for op in [*ops, pos]])  # the last is for leaves, whose code is -1
    checks = np.flatnonzero((wanted == 0) & risky[code] & (code >= 0))
    wanted[checks] = 1
    longest = marked(codes, sizes, operands, needed, free)
    program = FlatProgram()
    program.longest = longest
    last = len(outputs) + len(inputs)
    given = roots[len(outputs) : last]
    own = np.flatnonzero(code < 0)
    constant = (wanted[own] != 0) & ~np.isin(own, given)
    own_leaves = [own_leaves[k] for k in np.flatnonzero(constant).tolist()]
    own = own[constant]
    kept = (wanted != 0) & (code >= 0)
    every = bool((kept | (code < 0)).all())  # leaves have no operands
    child, owner_counts = child if every else child[np.repeat(kept, counts)], counts[kept]
    outer = np.zeros(0, np.int32)
    if foreign:
        read = np.concatenate((child, roots))
        outer = np.unique(read[(read < 0) & (read % 2 == 0)])[::-1]  # -2, -4, ...
    first_number = len(inputs) + len(outer)
    first_own = first_number + len(numbers)
    start = first_own + len(own)
    shift = 2 * max(len(foreign), len(numbers)) + 1
    place = np.full(shift + len(code), -1, np.int32)  # where x goes, at index shift + x: x is -shift or more
    place[shift + outer] = len(inputs) + np.arange(len(outer))
    place[shift - 1 - 2 * np.arange(len(numbers))] = first_number + np.arange(len(numbers))
    place[shift + given] = np.arange(len(inputs))
    place[shift + own] = first_own + np.arange(len(own))
    place[shift:][kept] = start + np.arange(int(kept.sum()), dtype=np.int32)

    def placed(x: Any) -> Any:
        return place[x + np.int32(shift)]

    program.ops = Ops(np.concatenate((np.full(start, len(ops), np.int32), code[kept])), [*ops, None])
    counted = np.concatenate((np.zeros(start, np.int32), owner_counts))
    program.operands = Operands(counted, placed(child))
    program.inputs = list(range(len(inputs)))
    program.parameters = list(range(len(inputs), first_number))
    program.constants = dict(enumerate(numbers, first_number))
    program.constants |= {first_own + k: x._data for k, x in enumerate(own_leaves)}
    where = placed(roots).tolist()
    program.outputs = where[: len(outputs)]
    program.guards = where[last : last + len(guards)]
    program.raised = where[last + len(guards) :]
    program.checks = placed(checks).tolist()
    leaves = [foreign[-k // 2 - 1] for k in outer.tolist()]
    program.labels = {i: x.label for i, x in enumerate([*inputs, *leaves]) if x.label}
    return program, leaves


def _flatten_large(
    nodes: list[Value], inputs: Sequence[Value], parameters: Sequence[Value]
) -> tuple[FlatProgram, list[Value]]:
    """`flatten` of these nodes in topological order, by the engine and by NumPy: in a fifth of the time."""
    output, own = nodes[-1], [x for x in nodes if x.op is None]
    nodes = [x for x in nodes if x.op is not None]
    labelled = [x for x in nodes if x.label]
    given = [*inputs, *parameters]
    program, leaves = flatten_recording(nodes, [output], (), [*given, *labelled], (), lambda op: False)
    where, known = program.guards, set(given)
    at = dict(zip(leaves, program.parameters))
    others = [(at[x], x) for x in own if x not in known]  # in the order of a small graph's leaves
    program.inputs = where[: len(inputs)]
    program.parameters = [*where[len(inputs) : len(given)], *(i for i, _ in others)]
    program.guards = []
    program.labels |= {i: x.label for i, x in zip(where[len(given) :], labelled)}
    return program, [*parameters, *(x for _, x in others)]


def _placed(
    output: Value | float,
    program: FlatProgram,
    place: dict[Value, int],
    leaves: list[Value],
    within: Callable[[Value], bool] | None,
) -> int:
    """Add an output and the nodes that it depends on to the program; returns its position."""
    if not isinstance(output, Value):
        return program.constant(number(output, "a program's output"))
    constant, ops, operands = program.constant, program.ops, program.operands
    stack = [output]
    while stack:
        node = stack[-1]
        if node in place:
            stack.pop()
            continue
        own = within is None or within(node)  # a node made before the recording becomes a leaf, even if it has an op
        op = node.op if own else None
        if op is None:
            stack.pop()
            if within is not None and own:  # a leaf made by the function is a constant
                place[node] = constant(node._data)
                continue
            place[node] = leaf = program.leaf()
            program.parameters.append(leaf)
            leaves.append(node)
            continue
        waiting = [x for x in node.operands if isinstance(x, Value) and x not in place]
        if waiting:
            waiting.reverse()
            stack += waiting
            continue
        stack.pop()
        where = tuple([place[x] if isinstance(x, Value) else constant(x) for x in node.operands])
        if op is net_input:
            place[node] = _opened(where, program)
            continue
        place[node] = len(ops)  # equal nodes are not merged here, so that `rerecord` gives the recorded graph
        ops.append(op)
        operands.append(where)
    return place[output]


def _opened(where: tuple[int, ...], program: FlatProgram) -> int:
    """Add a net input as products and sums, so that arrays and loops are found among them; returns its position."""
    half, odd = divmod(len(where), 2)
    total = where[0] if odd else None
    for pair in zip(where[odd : half + odd], where[half + odd :]):
        program.ops.append(mul)
        program.operands.append(pair)
        if total is not None:
            program.ops.append(add)
            program.operands.append((total, len(program.ops) - 2))
        total = len(program.ops) - 1
    return program.constant(0.0) if total is None else total


def rerecord(program: FlatProgram, inputs: Sequence[float], parameters: Sequence[Any]) -> list[Any]:
    """Run the program eagerly on these numbers or Values, which records the graph again; returns a Value for each node.

    The entry is None for an operation that is expected to raise, and for what is computed from it.
    """
    nodes: list[Any] = [program.constants.get(i) for i in range(len(program))]
    for places, data in ((program.inputs, inputs), (program.parameters, parameters)):
        for i, x in zip(places, data, strict=True):
            nodes[i] = x if isinstance(x, Value) else Value(x, label=program.labels.get(i, ""))
    missing = above(program, program.raised) if program.raised else ()
    for i, op in enumerate(program.ops):
        if op is not None and not (missing and missing[i]):
            nodes[i] = op(*[nodes[k] for k in program.operands[i]])
            if i in program.labels:
                nodes[i].label = program.labels[i]
    return nodes


def live(program: FlatProgram, roots: Iterable[int], stop: Iterable[int] = ()) -> list[bool]:
    """For each node, whether a root depends on it; the operands of the nodes in `stop` are not followed."""
    needed = [False] * len(program)
    ends, links = set(stop), program.links()
    waiting = list(roots)
    while waiting:
        for i in waiting:
            needed[i] = True
        for i in range(len(program) - 1, -1, -1):
            if needed[i] and i not in ends:
                for k in program.operands[i]:
                    needed[k] = True
        waiting = [i for leaf, nodes in links.items() if needed[leaf] for i in nodes if not needed[i]]
    return needed


def above(program: FlatProgram, roots: Iterable[int]) -> list[bool]:
    """For each node, whether it is a root or depends on one."""
    reached = [False] * len(program)
    for i in roots:
        reached[i] = True
    for i, operands in enumerate(program.operands):
        reached[i] = reached[i] or any(reached[k] for k in operands)
    return reached

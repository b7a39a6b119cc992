"""Stretches of a flat program that repeat, found and rolled up into loops.

A stretch of nodes repeats with a period if the ops are the same a period later, and the place of every operand changes
evenly from one turn (iteration) to the next. The place may stay: a node before the loop. It may move by the period: a
node of the same turn, or of an earlier one, whose number is carried. It may move by another step: inputs, parameters,
or the numbers of an earlier loop, of which each turn reads another. Or the operand is a constant, in each turn its own.
A rolled program computes the numbers of the flat one, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micrograd_bp.compiler.program import Element, FlatProgram, Loop, Ops, Written, live, table
from micrograd_bp.ops import add, pos

if TYPE_CHECKING:
    import numpy as np

# Shorter programs are compiled as they are. A loop has at least so many turns, and spares at least so many nodes; all
# loops together must spare half of the nodes.
SMALL, TURNS, WORTH = 2_000, 8, 60
LAG, GATHERED, LOOPS = 8, 1_000, 64  # at most: turns that a number is carried, numbers that a loop gathers, loops
WINDOW, WINDOWS, SAMPLED = 1 << 16, 6, 1 << 19  # more nodes than SAMPLED are searched in some windows only
NONE, CONSTANT, INPUT, PARAMETER, MOST = -1, -2, -(1 << 29), 1 << 28, 1 << 28  # what an operand is, if it is no node
DEPTH, WIDTH = 100, 128  # chains this long, with few operations side by side, become loops rather than arrays
WIDE = 6  # operands of a node in a loop, at most


@dataclass(slots=True)
class Nodes:
    """The nodes of a program that compute something, in order."""

    nodes: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]  # for every node of the program, its place among these
    code: np.ndarray[Any, Any]  # the same for the same op, number of operands, and truth as a guard
    columns: list[Any]  # for each operand: its place among the nodes, or the code of what else it is
    first: np.ndarray[Any, Any]  # for each node, the index of its first operand in `child`
    child: np.ndarray[Any, Any]  # the nodes of all operands
    aliases: dict[int, int]  # nodes that are an input under another name

    def steady(self, low: int, high: int, period: int) -> Any:
        """For each node but the last two periods, whether it and the two a period further on go on evenly."""
        code = self.code[low:high]
        alike = code[:-period] == code[period:]
        same = alike[:-period] & alike[period:]
        for column in self.columns:
            part = column[low:high]
            step = part[period:] - part[:-period]
            same &= step[:-period] == step[period:]
        return same


@dataclass(slots=True)
class Stretch:
    """A stretch of nodes that repeats, and the loop that it has become."""

    start: int
    period: int
    turns: int
    body: list[int]  # the new nodes
    carried: dict[int, int]  # by the place in the body of a node, a leaf that stands for it a turn ago

    @property
    def stop(self) -> int:
        return self.start + self.period * self.turns


def _interleaved(
    program: FlatProgram, guards: Sequence[tuple[int, bool]], variables: Sequence[int]
) -> tuple[FlatProgram, Sequence[tuple[int, bool]], Sequence[int]]:
    """The program with the nodes that only guards and checks read moved next to their operands."""
    needed = live(program, program.outputs)
    keys = [-1 if op is None else i for i, op in enumerate(program.ops)]
    moved = False
    for i, op in enumerate(program.ops):
        if op is not None and not needed[i]:
            keys[i] = max([keys[k] for k in program.operands[i]], default=-1)
            moved = True
    if not moved:
        return program, guards, variables
    order = sorted(range(len(program)), key=keys.__getitem__)
    place = [0] * len(order)
    for k, i in enumerate(order):
        place[i] = k
    made = FlatProgram([program.ops[i] for i in order])
    made.operands = [tuple([place[k] for k in program.operands[i]]) for i in order]
    made.constants = {place[i]: x for i, x in program.constants.items()}
    for name in ("inputs", "parameters", "outputs", "guards", "checks"):
        setattr(made, name, [place[i] for i in getattr(program, name)])
    return made, [(place[i], truth) for i, truth in guards], [place[i] for i in variables]


def _nodes(program: FlatProgram, guards: Sequence[tuple[int, bool]], variables: Sequence[int]) -> Nodes:
    """The nodes that compute something. Variables are in no loop; one that copies an input is read as the input."""
    import numpy as np

    ops, code, counts, child = table(program)
    computed = code != (ops.index(None) if None in ops else -1)
    aliases = _aliases(program, variables, child)
    computed[list(aliases)] = False
    nodes = np.flatnonzero(computed).astype(np.int32)
    position = np.cumsum(computed, dtype=np.int32)
    position -= 1
    kind = position.copy()
    kind[~computed] = CONSTANT
    for leaves, base in ((program.inputs, INPUT), (program.parameters, PARAMETER)):
        kind[leaves] = base + np.arange(len(leaves), dtype=np.int32)
    kind[list(aliases)] = kind[list(aliases.values())]
    owner = np.repeat(computed, counts)
    if not owner.all():
        child = child[owner]
    counts = counts[nodes]
    first = np.zeros(len(nodes) + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    code = code[nodes].astype(np.int32) * (WIDE + 1) + np.minimum(counts, WIDE).astype(np.int32)
    code *= 4
    for i, truth in dict.fromkeys(guards):
        if computed[i]:
            code[position[i]] += 1 + truth
    apart = np.zeros(len(nodes), bool)
    apart[[position[i] for i in variables if computed[i]]] = True
    wide = np.flatnonzero((counts > WIDE) | apart)
    code[wide] = -1 - np.arange(len(wide))
    columns = []
    for k in range(min(WIDE, int(counts.max(initial=0)))):
        has = counts > k
        column = np.full(len(nodes), NONE, np.int32)
        column[has] = kind[child[first[:-1][has] + k]]
        columns.append(column)
    return Nodes(nodes, position, code, columns, first, child, aliases)


def _aliases(program: FlatProgram, variables: Sequence[int], child: Any) -> dict[int, int]:
    """The variables that are copies of inputs which nothing else reads, each with its input."""
    copies = {i: program.operands[i][0] for i in variables if program.ops[i] is pos}
    if not copies:
        return {}
    import numpy as np

    uses = np.bincount(child, minlength=len(program))
    uses[[*program.outputs, *program.guards, *program.checks]] += 1
    inputs = set(program.inputs)
    return {i: k for i, k in copies.items() if k in inputs and uses[k] == 1}


# --- finding ----------------------------------------------------------------------------------------------------------


def _periods(nodes: Nodes, low: int, high: int) -> list[int]:
    """Distances at which nodes, or windows of 4, 16, 64, ... nodes, occur again; the likeliest period first."""
    import numpy as np

    mark = nodes.code[low:high].astype(np.uint32) * np.uint32(0x297A2D39)
    here = np.arange(low, high, dtype=np.int32)
    for k, column in enumerate(nodes.columns):
        part = column[low:high]
        back = here - part
        kind = np.where((part >= 0) & (part < MOST), np.where(back < 64, back, 64), np.where(part < 0, 65, 66))
        kind[part == CONSTANT] = 67
        mixed = (kind.astype(np.uint32) + np.uint32(0x9E3779B9)) * np.uint32(2 * k + 1)
        mixed ^= mixed >> np.uint32(15)
        mark += mixed * np.uint32(0x2C1B3C6D)
    weights: dict[int, int] = {}
    size = 1
    while 2 * size < len(mark):
        order = np.argsort(mark, kind="stable")
        gaps = np.diff(order)[mark[order[1:]] == mark[order[:-1]]]
        periods, counts = np.unique(gaps, return_counts=True)
        for k in np.argsort(-counts, kind="stable")[:4].tolist():
            if counts[k] >= TURNS - 2:
                weights[int(periods[k])] = max(weights.get(int(periods[k]), 0), int(counts[k]))
        for _ in range(2):
            if 2 * size < len(mark):
                mark = mark[:-size] * np.uint32(0x85EBCA6B) + (mark[size:] ^ (mark[size:] >> np.uint32(13)))
                size *= 2
    return sorted(weights, key=lambda period: -weights[period])


def _longest(nodes: Nodes, low: int, high: int, period: int) -> tuple[int, int]:
    """The start of the longest stretch with this period, and its turns; 0 turns: there is none."""
    import numpy as np

    if high - low < 3 * period:
        return low, 0
    edges = np.flatnonzero(np.diff(nodes.steady(low, high, period), prepend=False, append=False))
    if not len(edges):
        return low, 0
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    k = int(np.argmax(lengths))
    return low + int(starts[k]), int(lengths[k]) // period + 2


def _best(nodes: Nodes, low: int, high: int) -> tuple[int, int, int] | None:
    """The start, period and turns of the repeating stretch that spares most nodes."""
    size = high - low
    spared: dict[int, int] = {}
    if size > SAMPLED:
        for k in range(WINDOWS):
            at = low + k * (size - WINDOW) // (WINDOWS - 1)
            for period in _periods(nodes, at, at + WINDOW):
                turns = _longest(nodes, at, at + WINDOW, period)[1]
                spared[period] = max(spared.get(period, 0), (turns - 1) * period)
        likely = sorted(spared, key=lambda period: (-spared[period], period))[:4]
    else:
        likely = _periods(nodes, low, high)
    best, most = None, WORTH - 1
    for period in likely:
        if (size // period - 1) * period <= most:
            continue
        start, turns = _longest(nodes, low, high, period)
        # A shorter body is better, even if it spares a little less than a body of several of its turns.
        gain = (turns - 1) * period
        if turns >= TURNS and (gain > most or (best is not None and gain + best[1] > most and period < best[1])):
            best, most = (start, period, turns), max(gain, most)
    return best


def _stretches(nodes: Nodes) -> list[Stretch]:
    """The stretches that repeat, in order."""
    waiting, found = [(0, len(nodes.nodes))], list[Stretch]()
    while waiting and len(found) < LOOPS:
        low, high = waiting.pop()
        if high - low > WORTH and (best := _best(nodes, low, high)) is not None:
            stretch = Stretch(*best, [], {})
            found.append(stretch)
            waiting += [(low, stretch.start), (stretch.stop, high)]
    return sorted(found, key=lambda stretch: stretch.start)


# --- rolling up -------------------------------------------------------------------------------------------------------


class UnevenError(Exception):
    """A stretch cannot be made a loop."""


class Roller:
    """A rolled program under construction."""

    def __init__(self, program: FlatProgram, nodes: Nodes) -> None:
        self.program, self.nodes, self.rolled = program, nodes, FlatProgram()
        self.loops: list[Stretch] = []
        self.done = 0  # how many nodes have been copied
        self.place: dict[int, int] = {}  # the new nodes of leaves, and of nodes outside loops
        self.reads: dict[tuple[int, int], int] = {}  # leaves for a node of a loop in a turn, by the new node
        for name in ("inputs", "parameters"):
            for i in getattr(program, name):
                self.place[i] = self.rolled.leaf()
                getattr(self.rolled, name).append(self.place[i])
        for i, x in program.constants.items():
            self.place[i] = self.rolled.constant(x)
        for i, k in nodes.aliases.items():
            self.place[i] = self.place[k]

    def loop_of(self, k: int) -> Stretch | None:
        """The loop that a node is in; None: it is in none."""
        return next((x for x in self.loops if x.start <= k < x.stop), None)

    def read(self, i: int) -> int:
        """The new node for a node that is read outside loops."""
        found = self.place.get(i)
        if found is not None:
            return found
        k = int(self.nodes.position[i])
        loop = self.loop_of(k)
        assert loop is not None
        turn, offset = divmod(k - loop.start, loop.period)
        if turn == loop.turns - 1:
            return loop.body[offset]
        if turn == loop.turns - 2 and offset in loop.carried:
            return loop.carried[offset]
        key = loop.body[offset], turn
        if key not in self.reads:
            self.reads[key] = leaf = self.rolled.leaf()
            self.rolled.reads[leaf] = Element(*key)
        return self.reads[key]

    def copy(self, k: int, read: Callable[[int], int]) -> int:
        """Copy a node, with operands read in their new places."""
        i = int(self.nodes.nodes[k])
        operands = tuple([read(j) for j in self.program.operands[i]])  # which may add leaves
        self.rolled.ops.append(self.program.ops[i])
        self.rolled.operands.append(operands)
        return len(self.rolled) - 1

    def straight(self, stop: int) -> None:
        """Copy the nodes up to a place."""
        for k in range(self.done, stop):
            self.place[int(self.nodes.nodes[k])] = self.copy(k, self.read)
        self.done = stop

    # --- a loop ---------------------------------------------------------------------------------------------------

    def fitted(self, start: int, period: int, turns: int) -> tuple[int, int]:
        """The start and turns of a part of the stretch whose operands are all even. UnevenError: there is none."""
        while turns >= TURNS and (turns - 1) * period >= WORTH:
            other = next(filter(None, self._other_parts(start, period, turns)), None)
            if other is None:
                return start, turns
            start, turns = start + other[0] * period, other[1] - other[0]
        raise UnevenError

    def _other_parts(self, start: int, period: int, turns: int) -> Any:
        """For each operand of a turn None, or the turns, from a first one to before a second, for which it is even."""
        for column in self.nodes.columns:
            first, second = (
                column[start : start + period].tolist(),
                column[start + period : start + 2 * period].tolist(),
            )
            for a, b in zip(first, second):
                step = b - a
                last = a + step * (turns - 1)
                if _kind(a) != _kind(last):
                    raise UnevenError
                if _kind(a):
                    continue
                if not step:
                    yield (1, turns) if a >= start else None
                elif max(a, last) < start:
                    yield self._span(a, step, turns)
                elif step != period or (a < start and (start - a - 1) // period >= LAG):
                    raise UnevenError

    def _begun(self, start: int, period: int, turns: int) -> bool:
        """Whether the turn before is one of them too, where what it reads of an earlier turn may be anything."""
        import numpy as np

        nodes, before = self.nodes, start - period
        if before < self.done or not (nodes.code[before:start] == nodes.code[start : start + period]).all():
            return False
        for column in nodes.columns:
            zeroth, first, second = (column[x : x + period] for x in (before, start, start + period))
            step = second - first
            kinds = [np.searchsorted((CONSTANT, NONE, 0, MOST), x, side="right") for x in (zeroth, first)]
            carried = (step == period) & (first < start) & (first + step * (turns - 1) >= start)
            anything = carried & ((zeroth < before) | (zeroth >= MOST)) & (zeroth != NONE)
            even = ~carried & (first - zeroth == step) & ((first < before) | (first >= start)) & (kinds[0] == kinds[1])
            if not (anything | even).all():
                return False
        return True

    def _span(self, first: int, step: int, turns: int) -> tuple[int, int] | None:
        """The turns in which one loop gives these nodes, if these are most turns; else they are gathered."""
        middle = first + step * (turns // 2)
        loop = self.loop_of(middle)
        if loop is not None and step % loop.period == 0:
            inside = sorted(((loop.start - first) / step, (loop.stop - 1 - first) / step))
            low, high = max(0, -int(-inside[0] // 1)), min(turns, int(inside[1] // 1) + 1)
            if (low, high) == (0, turns):
                return None
            if 2 * (high - low) >= turns:
                return low, high
        if turns > GATHERED:
            raise UnevenError
        return None

    def loop(self, start: int, period: int, turns: int) -> None:
        """Add the loop, after the nodes that come before it."""
        nodes, rolled = self.nodes, self.rolled
        second, turns = self.fitted(start, period, turns)
        start = second - period if self._begun(second, period, turns) else second
        turns += start < second
        self.straight(start)
        made = Stretch(start, period, turns, [], {})
        first, width = int(nodes.first[start]), int(nodes.first[start + period] - nodes.first[start])
        edges = nodes.child[first : first + width * turns].reshape(turns, width)
        reads: dict[Element, int] = {}
        # Leaves that stand for a node one or more turns ago, by its offset and what they are in the first turns.
        carried: dict[tuple[int, ...], int] = {}
        inside: list[Any] = []  # of each operand: the offset of a node of this turn; or a key of these; or a new node

        def turning(read: Element) -> tuple[int]:
            if read not in reads:
                reads[read] = rolled.leaf()
            return (reads[read],)

        for k in range(period):
            low, high = int(nodes.first[start + k]), int(nodes.first[start + k + 1])
            for at, column in zip(range(low - first, high - first), nodes.columns):
                a, step = int(column[second + k]), int(column[second + period + k]) - int(column[second + k])
                kind = _kind(a)
                a -= step * (start < second)
                if kind == CONSTANT:
                    ids = edges[:, at]
                    if (ids == ids[0]).all():
                        inside.append((self.place[int(ids[0])],))
                    else:
                        inside.append(turning(Element(tuple([self.program.constants[i] for i in ids.tolist()]), 0, 1)))
                elif kind and step:
                    name = "inputs" if kind == INPUT else "parameters"
                    inside.append(turning(Element(name, a - kind, step)))
                elif kind or not step:
                    inside.append((self.read(int(edges[0, at])),))
                elif max(a, a + step * (turns - 1)) < start:
                    inside.append(turning(self._sequence(a, step, edges[:, at])))
                elif a >= start:
                    inside.append(a - start)
                else:
                    ago = -((a - start) // period)
                    key = ((a - start) % period, *[self.read(i) for i in edges[:ago, at].tolist()])
                    inside.append(key)
                    for length in range(len(key), 1, -1):
                        carried[key[0], *key[len(key) - length + 1 :]] = -1
        for key in carried:
            carried[key] = rolled.leaf()
        begin, ends = len(rolled), iter(inside)

        def operand(_: int) -> int:
            found = next(ends)
            if isinstance(found, int):
                return made.body[found]
            return found[0] if len(found) == 1 else carried[found]

        for k in range(start, start + period):
            made.body.append(self.copy(k, operand))
        entries = []
        for key, leaf in carried.items():
            after = made.body[key[0]] if len(key) == 2 else carried[key[0], *key[2:]]
            entries.append((leaf, key[1], after))
            if len(key) == 2:
                made.carried[key[0]] = leaf
        turned = {leaf: read for read, leaf in reads.items()}
        rolled.loops.append(Loop(begin, len(rolled), turns, entries, turned))
        self.loops.append(made)
        self.done = made.stop

    def _sequence(self, first: int, step: int, ids: Any) -> Element:
        """The sequence by which the loop reads nodes that stand before it, one in each turn."""
        loop = self.loop_of(first)
        if loop is not None and step % loop.period == 0 and self.loop_of(first + step * (len(ids) - 1)) is loop:
            turn, offset = divmod(first - loop.start, loop.period)
            return Element(loop.body[offset], turn, step // loop.period)
        places = [(self.read(i), turn, 0, 1) for turn, i in enumerate(ids.tolist())]
        return Element(Written(len(ids), tuple(places)), 0, 1)

    def new(self, i: int) -> int:
        """The node of the rolled program for a node, the same for all turns of a loop."""
        if i in self.place:
            return self.place[i]
        k = int(self.nodes.position[i])
        loop = self.loop_of(k)
        assert loop is not None
        return loop.body[(k - loop.start) % loop.period]


def _kind(a: int) -> int:
    """The code of what an operand is; 0: a node that computes something."""
    if 0 <= a < MOST:
        return 0
    return PARAMETER if a > 0 else a if a in (NONE, CONSTANT) else INPUT


def deep(program: FlatProgram) -> bool:
    """Whether loops are tried before arrays, since the arrays would be many and short."""
    longest = program.longest
    if not longest and len(program) >= SMALL:
        lengths = [0] * len(program)
        for i, (op, operands) in enumerate(zip(program.ops, program.operands)):
            if operands:
                lengths[i] = max([lengths[k] for k in operands]) + (op is not add)
        longest = program.longest = max(lengths, default=0)
    return longest >= DEPTH and len(program) < WIDTH * longest


def roll(
    program: FlatProgram, guards: Sequence[tuple[int, bool]] = (), variables: Sequence[int] = ()
) -> tuple[FlatProgram, list[tuple[int, bool]]] | None:
    """The program with its repeating stretches as loops, and its guards; None: no loop would pay.

    variables: nodes by which it is to be differentiated, each of which is one node of the result.
    """
    if not SMALL <= len(program) < MOST or program.raised:
        return None
    if not isinstance(program.ops, Ops):  # else all stands where it was made
        program, guards, variables = _interleaved(program, guards, variables)
    nodes = _nodes(program, guards, variables)
    stretches = _stretches(nodes)
    count = len(nodes.nodes)
    if 2 * sum(x.period * (x.turns - 1) for x in stretches) < count:
        return None
    roller = Roller(program, nodes)
    for stretch in stretches:
        try:
            roller.loop(stretch.start, stretch.period, stretch.turns)
        except UnevenError:
            continue
        if 2 * (roller.done - sum(x.period * (x.turns - 1) for x in roller.loops)) > count:
            return None
    rolled = roller.rolled
    left = count - sum(x.period * (x.turns - 1) for x in roller.loops)
    if not roller.loops or 2 * left > count:
        return None
    roller.straight(count)
    rolled.outputs = [roller.read(i) for i in program.outputs]
    found = list(dict.fromkeys([(roller.new(i), truth) for i, truth in guards]))
    rolled.guards = [i for i, _ in found]
    rolled.checks = list(dict.fromkeys([roller.new(i) for i in program.checks]))
    return rolled, found

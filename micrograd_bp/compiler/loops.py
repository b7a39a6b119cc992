"""A stretch of a flat program that repeats with its own results, found and rolled up into a loop.

Every node is marked by its op and by how far back each operand is; leaves, and what is read over a long stretch, by
what they are. Where the marks repeat with a period, the nodes of one period are the body of a loop: an operand of the
period before is carried from turn to turn. The numbers of a rolled program are those of the flat one, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micrograd_bp.compiler.program import FlatProgram, Loop, Ops, live, table

if TYPE_CHECKING:
    import numpy as np

# Code of fewer nodes is compiled as it is; a loop has so many turns at least, and leaves at most half of the nodes.
SMALL, TURNS, PERIODS = 2_000, 8, 12


@dataclass(slots=True)
class Marked:
    """The nodes of a program that compute something, in order: which they are, and what marks each operand."""

    nodes: np.ndarray[Any, Any]
    position: np.ndarray[Any, Any]  # of every node among them
    code: np.ndarray[Any, Any]
    first: np.ndarray[Any, Any]  # operand of each
    child: np.ndarray[Any, Any]  # of each operand, the node
    back: np.ndarray[Any, Any]  # and how far back it is; 0: it is told by what it is

    def alike(self, start: int, period: int, turns: int) -> bool:
        """Whether the turns from a node on are the same."""
        stop = start + period * turns
        low, high = int(self.first[start]), int(self.first[stop])
        width = int(self.first[start + period]) - low
        if high - low != width * turns:
            return False
        counts = (self.first[start + 1 : stop + 1] - self.first[start:stop]).reshape(turns, period)
        code, back = self.code[start:stop].reshape(turns, period), self.back[low:high].reshape(turns, width)
        child = self.child[low:high].reshape(turns, width)
        told = back[0] == 0
        return bool(
            (code == code[0]).all()
            and (counts == counts[0]).all()
            and (back == back[0]).all()
            and (child[:, told] == child[0, told]).all()
        )


def _interleaved(
    program: FlatProgram, guards: Sequence[tuple[int, bool]]
) -> tuple[FlatProgram, Sequence[tuple[int, bool]]]:
    """The program with what guards and checks alone read next to its operands, not after the outputs."""
    needed = live(program, program.outputs)
    keys = [-1 if op is None else i for i, op in enumerate(program.ops)]
    moved = False
    for i, op in enumerate(program.ops):
        if op is not None and not needed[i]:
            keys[i] = max([keys[k] for k in program.operands[i]], default=-1)
            moved = True
    if not moved:
        return program, guards
    order = sorted(range(len(program)), key=keys.__getitem__)
    place = [0] * len(order)
    for k, i in enumerate(order):
        place[i] = k
    made = FlatProgram([program.ops[i] for i in order])
    made.operands = [tuple([place[k] for k in program.operands[i]]) for i in order]
    made.constants = {place[i]: x for i, x in program.constants.items()}
    for name in ("inputs", "parameters", "outputs", "guards", "checks"):
        setattr(made, name, [place[i] for i in getattr(program, name)])
    return made, [(place[i], truth) for i, truth in guards]


def _marked(program: FlatProgram) -> tuple[Marked, Any]:
    """The nodes marked, and a number for each that is the same for the same marks."""
    import numpy as np

    n = len(program)
    ops, code, counts, child = table(program)
    computed = code != (ops.index(None) if None in ops else -1)
    nodes = np.flatnonzero(computed).astype(np.int32)
    owner = np.repeat(np.arange(n, dtype=np.int32), counts)
    position = np.cumsum(computed, dtype=np.int32)
    position -= 1
    last = np.zeros(n, np.int32)
    last[child] = owner  # the last of several
    span = position[last]
    span -= position
    told = (span > len(nodes) // 4) | ~computed
    back = position[owner]
    back -= position[child]
    back[told[child]] = 0
    counts = counts[nodes]
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))
    mixed = np.where(back == 0, 2 * child + 1, 2 * back).astype(np.uint32)
    place = np.arange(len(child), dtype=np.uint32)
    place -= np.repeat(first[:-1].astype(np.uint32), counts)
    place *= np.uint32(2)
    place += np.uint32(1)
    mixed += np.uint32(0x9E3779B9)
    mixed *= place
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x2C1B3C6D)
    mark = np.add.reduceat(mixed, first[:-1], dtype=np.uint32) + code[nodes].astype(np.uint32) * np.uint32(0x297A2D39)
    return Marked(nodes, position, code[nodes], first, child, back), mark


def _stretch(mark: Any) -> tuple[int, int, int]:
    """Start, period and turns of the stretch that repeats and spares most nodes; (0, 0, 0): there is none."""
    import numpy as np

    order = np.argsort(mark, kind="stable")
    gaps = np.diff(order)[mark[order[1:]] == mark[order[:-1]]]
    periods, counts = np.unique(gaps, return_counts=True)
    best, spared = (0, 0, 0), 0
    for period in periods[np.argsort(-counts, kind="stable")][:PERIODS].tolist():
        same = np.concatenate(([False], mark[:-period] == mark[period:], [False]))
        edges = np.flatnonzero(np.diff(same))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        k = int(np.argmax(lengths))
        turns = int(lengths[k]) // period + 1
        if (turns - 1) * period > spared:
            best, spared = (int(starts[k]), period, turns), (turns - 1) * period
    return best


def roll(
    program: FlatProgram, guards: Sequence[tuple[int, bool]] = ()
) -> tuple[FlatProgram, list[tuple[int, bool]]] | None:
    """The program as a loop with what is before and after it, and its guards; None where there is none that pays."""
    if len(program) < SMALL or program.raised:
        return None
    if not isinstance(program.ops, Ops):  # else all stands where it was made
        program, guards = _interleaved(program, guards)
    marked, mark = _marked(program)
    start, period, turns = _stretch(mark)
    first, child, back, position = marked.first, marked.child, marked.back, marked.position
    count = len(marked.nodes)
    while turns >= TURNS:  # the body may not be told of what is in the loop; what it carries has a beginning
        low, high = int(first[start]), int(first[start + period])
        within = [int(marked.nodes[start]) <= k for k, far in zip(child[low:high], back[low:high]) if not far]
        computed = [program.ops[k] is not None for k, far in zip(child[low:high], back[low:high]) if not far]
        if start >= period and not any(a and b for a, b in zip(within, computed)):
            break
        start, turns = start + period, turns - 1
    if turns < TURNS or 2 * (turns - 1) * period < count or not marked.alike(start, period, turns):
        return None
    stop = start + period * turns

    def offset(i: int) -> int | None:
        """The place of a node in the body; None: it is not in the loop."""
        k = int(position[i])
        return (k - start) % period if program.ops[i] is not None and start <= k < stop else None

    # The condition of a guard in the loop is the same in all turns.
    truths: dict[int, list[bool]] = {}
    for i, truth in guards:
        if (k := offset(i)) is not None:
            truths.setdefault(k, []).append(truth)
    if any(len(found) != turns or len(set(found)) > 1 for found in truths.values()):
        return None
    rolled = FlatProgram()
    place: dict[int, int] = {}
    for name in ("inputs", "parameters"):
        for i in getattr(program, name):
            place[i] = rolled.leaf()
            getattr(rolled, name).append(place[i])
    for i, x in program.constants.items():
        place[i] = rolled.constant(x)

    def copy(k: int, read: Any) -> int:
        """A node copied, with operands read in their new places."""
        i = int(marked.nodes[k])
        rolled.ops.append(program.ops[i])
        rolled.operands.append(tuple([read(j) for j in program.operands[i]]))
        return len(rolled) - 1

    for k in range(start):
        place[int(marked.nodes[k])] = copy(k, place.__getitem__)
    carried: dict[int, int] = {}  # by the place in the body of the node in the turn before
    for at in range(int(first[start]), int(first[start + period])):
        k = int(position[child[at]]) - start
        if back[at] and k < 0:
            if k < -period:
                return None
            carried.setdefault(k + period, 0)
    for k in carried:
        carried[k] = rolled.leaf()
    body: list[int] = []
    begin = len(rolled)

    def inside(i: int) -> int:
        """An operand of the body: of this turn, of the turn before, or of before the loop."""
        k = int(position[i]) - start
        if program.ops[i] is None or k < -period or (k < 0 and k + period not in carried):
            return place[i]
        return body[k] if k >= 0 else carried[k + period]

    for k in range(start, start + period):
        at = int(first[k])
        i = int(marked.nodes[k])
        reads = {
            j: place[j] if not far else inside(j)
            for j, far in zip(program.operands[i], back[at : first[k + 1]].tolist())
        }
        body.append(copy(k, reads.__getitem__))
    carries = [(leaf, place[int(marked.nodes[start + k - period])], body[k]) for k, leaf in carried.items()]
    rolled.loops = [Loop(begin, len(rolled), turns, carries)]

    for k, new in enumerate(body):
        place[int(marked.nodes[stop - period + k])] = new
    try:
        for k in range(stop, count):
            place[int(marked.nodes[k])] = copy(k, place.__getitem__)
        rolled.outputs = [place[i] for i in program.outputs]
        found = [(place[i] if (k := offset(i)) is None else body[k], truth) for i, truth in guards]
        checks = [place[i] if (k := offset(i)) is None else body[k] for i in program.checks]
    except KeyError:  # something after the loop reads more than its last turn
        return None
    guards = list(dict.fromkeys(found))
    rolled.guards, rolled.checks = [i for i, _ in guards], list(dict.fromkeys(checks))
    return rolled, guards

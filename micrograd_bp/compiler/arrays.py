"""The arrays in a flat program, found by counting: nodes of the same structure, sums, matrix products.

A node's class is its op together with the classes of its operands, so no node depends on another of its class: a
class is an array [member, row of the batch], and each of its operands is an array read at fixed places. A tree of
additions each used once is one sum; a product used once inside a sum is part of it. All is found level by level with
NumPy, at a fixed cost a node; what is not regular is left to the straight-line compiler.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from micrograd_bp.compiler.program import FlatProgram, Operands, Ops, live, table
from micrograd_bp.ops import Op, add, mul, neg, sub

if TYPE_CHECKING:
    import numpy as np

Places: TypeAlias = "np.ndarray[Any, Any]"  # of members in an array

# The first arrays of every program; those of its steps follow.
INPUTS, PARAMETERS, CONSTANTS = 0, 1, 2
LEAVES = 3
# An array costs NumPy some 10 us a call, value and gradient, whatever its size; a node of straight-line code 0.3 ms to
# compile, and then 0.5 ns a row. So fewer nodes than SMALL, or fewer than MEMBERS in an array, are straight-line code.
SMALL, MEMBERS = 4_000, 64
CHAIN = 8  # subtractions one after the other that are a sum
SHIFT = 1 << 20  # arrays there may be: a product of members of arrays a and b in a sum is coded as (a + 1) * SHIFT + b


@dataclass(slots=True)
class Map:
    """An array whose members are an op applied to one member of each operand: (array, places)."""

    op: Op
    size: int
    reads: list[tuple[int, Places]]
    precise: bool = False  # computed to the bit


@dataclass(slots=True)
class Terms:
    """Part of a sum: members of an array, places [member of the sum, term]."""

    source: int
    places: Places


@dataclass(slots=True)
class Products:
    """Part of a sum: products of members of two arrays, places [member of the sum, term]."""

    left: int
    left_places: Places
    right: int
    right_places: Places


@dataclass(slots=True)
class Sum:
    """An array whose members are sums."""

    size: int
    parts: list[Terms | Products] = field(default_factory=list)


@dataclass(slots=True)
class ArrayProgram:
    """Arrays in the order of their computation. uniform: whether an array is the same for all rows of a batch."""

    steps: list[Map | Sum]
    sizes: list[int]
    uniform: list[bool]
    constants: list[float]
    array: Places  # of each node of the flat program: the number of its array; -1: it is part of a sum
    member: Places  # and its place there

    def at(self, nodes: list[int]) -> list[tuple[int, Places, Places]]:
        """Where nodes are: array, members, and which of the nodes these are."""
        import numpy as np

        arrays = self.array[np.array(nodes, np.intp)]
        found = []
        for k in np.unique(arrays).tolist():
            which = np.nonzero(arrays == k)[0]
            found.append((k, self.member[np.array(nodes, np.intp)[which]], which))
        return found


def find(
    program: FlatProgram, exact: bool = False, small: int | None = None, share: float | None = None
) -> ArrayProgram | None:
    """The arrays of a program; None where it is too small or too irregular for them to pay.

    exact: no sum is taken in another order. What guards read never is. small, share: other limits than SMALL and
    MEMBERS.
    """
    if len(program) < (SMALL if small is None else small) or program.raised:
        return None
    program, place = (program, None) if exact else _added(program)
    found = _find(program, exact, MEMBERS if share is None else share)
    if found is not None and place is not None:
        found.array, found.member = found.array[place], found.member[place]
    return found


def _added(program: FlatProgram) -> tuple[FlatProgram, Places | None]:
    """The program with long chains of subtractions, e - x - y - ..., as sums of negated terms, to the same bits.

    Returns it, and where each node is now; None: nothing is changed.
    """
    import numpy as np

    ops, code, counts, child = table(program)
    if sub not in ops:
        return program, None
    minus = code == ops.index(sub)
    linear = minus | (code == ops.index(add)) if add in ops else minus
    n = len(program)
    first = np.zeros(n + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    uses = np.bincount(child, minlength=n)
    uses[[*program.outputs, *program.guards, *program.checks]] += 1
    owner = np.flatnonzero(linear)
    before = child[first[owner]]
    inner = linear[before] & (uses[before] == 1)
    whole = np.arange(n)
    whole[before[inner]] = owner[inner]
    while not np.array_equal(further := whole[whole], whole):
        whole = further
    chosen = minus & (np.bincount(whole[minus], minlength=n)[whole] >= CHAIN)
    at = np.flatnonzero(chosen)
    if not len(at):
        return program, None
    inserted = np.cumsum(chosen)  # each negation stands before the addition that reads it
    place = np.arange(n) + inserted
    ops = list(dict.fromkeys([*ops, add, neg]))
    new_code, new_counts = np.full(n + len(at), ops.index(neg), np.int32), np.ones(n + len(at), np.int32)
    new_code[place], new_counts[place] = np.where(chosen, ops.index(add), code), counts
    new_child = np.empty(len(child) + len(at), np.int32)
    new_child[np.arange(len(child)) + np.repeat(inserted, counts)] = place[child]
    new_child[first[at] + inserted[at] - 1] = place[child[first[at] + 1]]
    new_child[first[at] + inserted[at] + 1] = place[at] - 1
    made = copy.copy(program)
    made.ops, made.operands = Ops(new_code, ops), Operands(new_counts, new_child)
    for name in ("inputs", "parameters", "outputs", "guards", "checks"):
        setattr(made, name, place[np.array(getattr(program, name), np.intp)].tolist())
    made.longest = 0
    made.constants = {int(place[i]): x for i, x in program.constants.items()}
    return made, place


def _find(program: FlatProgram, exact: bool, share: float) -> ArrayProgram | None:
    """`find`, however small the program is."""
    if program.longest // 2 > len(program) // share:
        return None  # of those that wait for one another every other one at least is of an array of its own
    import numpy as np

    n = len(program)
    ops, code, counts, child = table(program)
    codes = {op: k for k, op in enumerate(ops)}
    is_node = code != codes.get(None, -1)
    owner = np.repeat(np.arange(n, dtype=np.int32), counts)
    roots = np.array([*program.outputs, *program.guards, *program.checks], np.int32)
    uses = np.bincount(child, minlength=n)
    uses[roots] += 1
    if (uses[is_node] == 0).any():  # nodes that nobody needs
        needed = np.array(live(program, roots.tolist()))
        is_node &= needed
        kept = needed[owner]
        child, owner = child[kept], owner[kept]
        uses = np.bincount(child, minlength=n)
        uses[roots] += 1
    precise = np.full(n, exact)
    if program.guards and not exact:
        precise = np.array(live(program, program.guards))
    first = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=n), out=first[1:])

    # Sums: the additions that are used once, by another addition, are part of it.
    loose = is_node & ~precise
    adds, muls = loose & (code == codes.get(add, -1)), loose & (code == codes.get(mul, -1))
    once = uses == 1
    inner = adds[owner] & adds[child] & once[child]
    whole = np.arange(n, dtype=np.int32)
    whole[child[inner]] = owner[inner]
    hidden = np.zeros(n, bool)
    hidden[child[inner]] = True
    while True:  # each part's sum, twice as far up in every turn
        further = whole[whole]
        if np.array_equal(further, whole):
            break
        whole = further
    is_term = adds[owner] & ~inner
    term, total = child[is_term], whole[owner[is_term]]
    is_product = muls[term] & once[term]
    hidden[term[is_product]] = True
    left, right = term.copy(), np.full(len(term), -1, np.int32)
    at = first[term[is_product]]
    left[is_product], right[is_product] = child[at], child[at + 1]
    by_sum = np.argsort(total, kind="stable")
    total, left, right = total[by_sum], left[by_sum], right[by_sum]
    first_term = np.searchsorted(total, np.arange(n + 1))
    visible = is_node & ~hidden
    sums = adds & visible

    # Who reads whom, of the nodes that are left.
    reads = (visible & ~sums)[owner]
    two = right >= 0
    consumer = np.concatenate((owner[reads], total, total[two]))
    source = np.concatenate((child[reads], left, right[two]))
    inside = visible[source]
    consumer, source = consumer[inside], source[inside]
    waiting = np.bincount(consumer, minlength=n)
    order = np.argsort(source, kind="stable")
    consumer = consumer[order]
    reader = np.searchsorted(source[order], np.arange(n + 1))
    del order, source, inside, owner, is_term, term, is_product, by_sum

    array, member = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    for k, leaves in enumerate((program.inputs, program.parameters, list(program.constants))):
        array[leaves], member[leaves] = k, np.arange(len(leaves))
    found = ArrayProgram(
        [],
        [len(program.inputs), len(program.parameters), len(program.constants)],
        [False, True, True],
        list(program.constants.values()),
        array,
        member,
    )
    ready = np.nonzero(visible & (waiting == 0))[0]
    most = int(is_node.sum() // share)
    groups: list[Any]
    while len(ready):
        is_sum = sums[ready]
        for nodes, starts, of in ((ready[~is_sum], first, child), (ready[is_sum], first_term, None)):
            if not len(nodes):
                continue
            size = starts[nodes + 1] - starts[nodes]
            entries = _ranges(starts[nodes], size)
            if of is not None:
                groups = _maps(found, nodes, size, of[entries], code[nodes] + n * precise[nodes])
            else:
                groups = _sums(found, nodes, size, left[entries], right[entries])
            for members, step in groups:
                if isinstance(step, Map):
                    step.op, step.precise = ops[code[members[0]]], bool(precise[members[0]])
                if len(found.sizes) > most + LEAVES:
                    return None
                array[members], member[members] = len(found.sizes), np.arange(len(members))
                found.steps.append(step)
                found.sizes.append(step.size)
                found.uniform.append(all(found.uniform[k] for k in sources(step)))
        done = consumer[_ranges(reader[ready], reader[ready + 1] - reader[ready])]
        reached, times = np.unique(done, return_counts=True)
        waiting[reached] -= times
        ready = reached[waiting[reached] == 0]
    _order(found)
    return found


def _order(found: ArrayProgram) -> None:
    """Put the members of every array in the order of what they read, so that more is read in order."""
    import numpy as np

    moved: list[Any] = [None] * len(found.sizes)  # where each member is now; None: where it was

    def new(k: int, places: Places) -> Places:
        return places if moved[k] is None else moved[k][places]

    for number, step in enumerate(found.steps, LEAVES):
        sides: list[tuple[int, Places]] = []  # an array that is read, and the places of the first terms
        if isinstance(step, Map):
            sides = step.reads = [(k, new(k, places)) for k, places in step.reads]
        else:
            for part in step.parts:
                if isinstance(part, Terms):
                    part.places = new(part.source, part.places)
                    if step.size == 1:
                        part.places = np.sort(part.places)
                    sides.append((part.source, part.places[:, 0]))
                else:
                    left, right = new(part.left, part.left_places), new(part.right, part.right_places)
                    if moved[part.left] is not None or moved[part.right] is not None:
                        terms = np.lexsort((right, left))  # the order of terms is free
                        left, right = np.take_along_axis(left, terms, 1), np.take_along_axis(right, terms, 1)
                    part.left_places, part.right_places = left, right
                    sides += [(part.left, part.left_places[:, 0]), (part.right, part.right_places[:, 0])]
        ranked = []
        for k, places in sides:  # first what is read once each, of what varies and comes early; then rows of matrices
            often = len(np.unique(places)) < step.size
            ranked.append((often, k == CONSTANTS, found.uniform[k] != often, k))
        keys = [sides[k][1] for k in sorted(range(len(ranked)), key=ranked.__getitem__)]
        order = np.lexsort(keys[::-1])
        if (order[1:] > order[:-1]).all():
            continue
        moved[number] = np.empty(step.size, np.int32)
        moved[number][order] = np.arange(step.size, dtype=np.int32)
        if isinstance(step, Map):
            step.reads = [(k, places[order]) for k, places in step.reads]
            continue
        for part in step.parts:
            if isinstance(part, Terms):
                part.places = part.places[order]
            else:
                part.left_places, part.right_places = part.left_places[order], part.right_places[order]
    for k, places in enumerate(moved):
        if places is not None:
            of = np.flatnonzero(found.array == k)
            found.member[of] = places[found.member[of]]


def sources(step: Map | Sum) -> list[int]:
    """The arrays that a step reads."""
    if isinstance(step, Map):
        return [k for k, _ in step.reads]
    return [k for part in step.parts for k in ((part.source,) if isinstance(part, Terms) else (part.left, part.right))]


def _ranges(starts: Places, sizes: Places) -> Places:
    """range(start, start + size) for each, one after the other."""
    import numpy as np

    ends = np.cumsum(sizes)
    places: Places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)
    return places


def _alike(nodes: Places, sizes: Places, items: Places, extra: Places) -> list[Any]:
    """Nodes in groups of equal extra and equal items; for each its positions among the nodes, and in the items."""
    import numpy as np

    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(items)) - np.repeat(starts, sizes)
    mixed = (items.astype(np.uint64) + np.uint64(0x9E3779B9)) * (place.astype(np.uint64) * np.uint64(2) + np.uint64(1))
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mark = np.add.reduceat(mixed, starts) + extra.astype(np.uint64) * np.uint64(0x94D049BB133111EB)
    _, group = np.unique(mark, return_inverse=True)
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1, append=-1))
    parts = []
    for a, b in itertools.pairwise(bounds.tolist()):
        parts.append(np.sort(order[a:b]))
    found = []
    while parts:
        which = parts.pop()
        one = which[0]
        same = (sizes[which] == sizes[one]) & (extra[which] == extra[one])
        if same.all():
            at = starts[which][:, None] + np.arange(sizes[one])
            same = (items[at] == items[at[0]]).all(axis=1)
        if not same.all():  # two kinds of node with one mark
            parts += [which[same], which[~same]]
            continue
        found.append((which, at))
    found.sort(key=lambda pair: int(nodes[pair[0][0]]))
    return found


def _maps(found: ArrayProgram, nodes: Places, sizes: Places, operands: Places, kinds: Places) -> list[Any]:
    """The maps among nodes that are ready, with their members."""
    made = []
    for which, at in _alike(nodes, sizes, found.array[operands], kinds):
        where = operands[at]
        reads = [(int(found.array[column[0]]), found.member[column]) for column in where.T]
        made.append((nodes[which], Map(add, len(which), reads)))
    return made


def _sums(found: ArrayProgram, nodes: Places, sizes: Places, left: Places, right: Places) -> list[Any]:
    """The sums among nodes that are ready, with their members; their terms in the order of what they are."""
    import numpy as np

    array, member = found.array, found.member
    two = right >= 0
    a = array[left].astype(np.int64)
    b = np.where(two, array[right], -1).astype(np.int64)
    rank = np.where(np.array(found.uniform), -1, 1) * SHIFT + np.arange(len(found.uniform))
    swap = two & (rank[a] > rank[b])  # what is the same for all rows stands on the left
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    kind = np.where(two, (a + 1) * SHIFT + b, a)
    number = np.repeat(np.arange(len(nodes)), sizes)
    order = np.lexsort((np.where(two, member[right], 0), np.where(two, member[left], 0), kind, number))
    left, right, kind = left[order], right[order], kind[order]
    made = []
    for which, at in _alike(nodes, sizes, kind, np.zeros(len(nodes), np.int64)):
        step = Sum(len(which))
        kinds = kind[at[0]]
        bounds = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(kinds)]
        for low, high in itertools.pairwise(bounds):
            part, places = int(kinds[low]), at[:, low:high]
            if part < SHIFT:
                step.parts.append(Terms(part, member[left[places]]))
            else:
                other, own = part // SHIFT - 1, part % SHIFT
                step.parts.append(Products(other, member[left[places]], own, member[right[places]]))
        made.append((nodes[which], step))
    return made

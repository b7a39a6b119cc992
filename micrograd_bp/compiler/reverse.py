"""The backward sweep of a flat program, as a program: reverse accumulation, through loops too.

A loop is run in reverse. Numbers that one turn (iteration) reads from another are stored; others are stored only if
they are not cheap to compute again. The adjoint of a node that all turns read is summed from the last turn to the
first; the adjoints of a sequence's elements are stored turn by turn, for the loop that computes the sequence. The
partials are the rules of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from micrograd_bp._engine.instructions import instruction
from micrograd_bp.compiler.evaluation import partials_program
from micrograd_bp.compiler.program import Element, FlatProgram, Loop, Written, above
from micrograd_bp.ops import Op, add, chain, neg

CHEAP = 6  # a number of the forward loop is computed again, not stored, if that takes at most so many operations


def with_gradient(program: FlatProgram, output: int, inputs: Sequence[int]) -> FlatProgram:
    """The program with the derivatives of a node by other nodes among its outputs, after those that it has.

    UnsuitableError: a rule cannot be written with ops, or a loop reads something for which it cannot be reversed.
    """
    return _Sweep(program, output, inputs).program


class _Sweep:
    """The program under construction, and the adjoints of its nodes as far as they have been computed."""

    def __init__(self, source: FlatProgram, output: int, inputs: Sequence[int]) -> None:
        self.program = program = FlatProgram(list(source.ops), list(source.operands), dict(source.constants))
        for name in ("inputs", "parameters", "outputs", "guards", "checks", "raised", "loops"):
            setattr(program, name, list(getattr(source, name)))
        program.reads, program.labels = dict(source.reads), dict(source.labels)
        self.source, self.size = source, len(source)
        self.relevant = self._relevant(inputs)
        self.rules: dict[tuple[Op, tuple[float | None, ...], tuple[int, ...]], FlatProgram] = {}
        self.adjoints: dict[int, int] = {output: program.constant(1.0)}
        # For nodes of loops, adjoints that come turn by turn: a node of a reversed loop, its first turn, step, turns.
        self.arrivals: dict[int, list[tuple[int, int, int, int]]] = {}
        self.found: dict[tuple[int, int], int] = {}  # leaves for a node of a reversed loop in a turn
        stop = self.size
        if not source.loops:
            self._as_eager(output)
            stop = 0
        for loop in reversed(source.loops):
            self._straight(range(loop.stop, stop))
            self._reversed(loop)
            stop = loop.start
        self._straight(range(stop))
        zero = program.constant(0.0)
        program.outputs += [self.adjoints.get(i, zero) for i in inputs]

    def _relevant(self, inputs: Sequence[int]) -> list[bool]:
        """For each node, whether it depends on the inputs."""
        source = self.source
        turning = [*source.reads.items(), *[item for loop in source.loops for item in loop.reads.items()]]
        links = source.links()
        roots = set(inputs)
        for leaf, read in turning:
            if isinstance(read.sequence, str) and not roots.isdisjoint(getattr(source, read.sequence)):
                roots.add(leaf)
        while True:
            reached = above(source, roots)
            more = {leaf for leaf, nodes in links.items() if not reached[leaf] and any(reached[i] for i in nodes)}
            if not more:
                return reached
            roots |= more

    # --- adding nodes -----------------------------------------------------------------------------------------------

    def _node(self, op: Op, *operands: int) -> int:
        self.program.ops.append(op)
        self.program.operands.append(operands)
        return len(self.program) - 1

    def _add(self, adjoints: dict[int, int], i: int, term: int) -> None:
        adjoints[i] = self._node(add, adjoints[i], term) if i in adjoints else term

    def _rule(self, i: int) -> tuple[list[int], FlatProgram]:
        """The operands of a node whose adjoints are wanted, and its partials by them."""
        source = self.source
        op, operands = source.ops[i], source.operands[i]
        assert op is not None
        wanted = [k for k, x in enumerate(operands) if self.relevant[x]]
        known = tuple([source.constants.get(x) for x in operands])
        key = op, known, tuple(wanted)
        if key not in self.rules:
            self.rules[key] = partials_program(op, known, wanted)
        return [operands[k] for k in wanted], self.rules[key]

    def _pass_on(self, i: int, adjoints: dict[int, int], place: dict[int, int]) -> None:
        """Apply the chain rule at a node; place: the nodes that have the numbers of a reversed turn."""
        targets, rule = self._rule(i)
        adjoint = adjoints[i]
        values = [place.get(k, k) for k in (i, *self.source.operands[i])]
        at = dict(zip(rule.inputs, values))
        for k, op in enumerate(rule.ops):
            if k in rule.constants:
                at[k] = self.program.constant(rule.constants[k])
            elif op is not None:
                at[k] = self._node(op, *[at[j] for j in rule.operands[k]])
        for target, output in zip(targets, rule.outputs):
            factor = rule.constants.get(output)
            if factor == 0.0:
                continue
            term = adjoint
            if factor == -1.0:
                term = self._node(neg, adjoint)
            elif factor != 1.0:
                term = self._node(chain, adjoint, at[output])
            self._add(adjoints, target, term)

    def _straight(self, nodes: range) -> None:
        for i in reversed(nodes):
            if i in self.adjoints and self.relevant[i] and self.source.ops[i] is not None:
                self._pass_on(i, self.adjoints, {})

    def _as_eager(self, output: int) -> None:
        """The sweep over a program without loops, in the order of Value.backward, so that sums have the same bits."""
        source = self.source
        operands = source.operands
        uses = [0] * self.size
        found = [output]
        for i in found:  # the list grows meanwhile
            for k in operands[i]:
                if not uses[k] and source.ops[k] is not None:
                    found.append(k)
                uses[k] += 1
        ready = [output]
        while ready:
            i = ready.pop()
            if i in self.adjoints and self.relevant[i]:
                self._pass_on(i, self.adjoints, {})
            for k in operands[i]:
                uses[k] -= 1
                if not uses[k] and source.ops[k] is not None:
                    ready.append(k)

    # --- a loop -----------------------------------------------------------------------------------------------------

    def _reversed(self, loop: Loop) -> None:
        """Add the loop that runs from the last turn to the first, and the adjoints of the nodes before the loop."""
        program, adjoints = self.program, self.adjoints
        body = [i for i in range(loop.start, loop.stop) if self.source.ops[i] is not None]
        leaves = [leaf for leaf, _, _ in loop.carried]
        inside = {*body, *loop.reads, *leaves}
        active = [i for i in (*loop.reads, *leaves, *body) if self.relevant[i]]
        self._single_turns(inside)
        if not any(i in adjoints or i in self.arrivals for i in active):
            return
        kept = self._kept(loop, body, [i for i in active if self.source.ops[i] is not None], inside)
        reads: dict[int, Element] = {}
        place: dict[int, int] = {}
        last = loop.count - 1
        for i in kept:
            read = loop.reads.get(i)
            again = (
                Element(i, last, -1)
                if read is None
                else Element(read.sequence, read.first + read.step * last, -read.step)
            )
            place[i] = program.leaf()
            reads[place[i]] = again
        passed = {after: leaf for leaf, _, after in loop.carried if self.relevant[leaf] and self.relevant[after]}
        arriving = {i: program.leaf() for i in active if i in adjoints or i in passed}
        outer = dict.fromkeys(
            x for i in body if self.relevant[i] for x in self.source.operands[i] if x not in inside and self.relevant[x]
        )
        sums = {i: program.leaf() for i in outer}
        given: list[tuple[int, int]] = []  # nodes, each with the leaf for its adjoint in each turn
        for i in active:
            for row in self._rows(self.arrivals.get(i, ()), loop.count):
                given.append((i, program.leaf()))
                reads[given[-1][1]] = Element(row, last, -1)
        named = {after: leaf for leaf, _, after in loop.carried}
        for i, leaf in [*arriving.items(), *sums.items()]:
            if label := program.labels.get(named.get(i, i)):
                program.labels[leaf] = f"d_{label}"
        zero = program.constant(0.0)
        start = len(program)
        for i in body:
            if i in self.again:
                op = self.source.ops[i]
                assert op is not None
                place[i] = self._node(op, *[place.get(k, k) for k in self.source.operands[i]])
        mine = arriving | sums
        for i, leaf in given:
            self._add(mine, i, leaf)
        for i in reversed(body):
            if i in mine and self.relevant[i]:
                self._pass_on(i, mine, place)
        carried = [(leaf, adjoints.get(i, zero), mine[i]) for i, leaf in sums.items()]
        following: dict[int, int] = {}
        for leaf, _, after in loop.carried:
            if leaf in mine and after in arriving:
                self._add(following, after, mine[leaf])
        carried += [(leaf, adjoints.get(i, zero), following.get(i, zero)) for i, leaf in arriving.items()]
        program.loops.append(Loop(start, len(program), loop.count, carried, reads))
        for i in sums:
            adjoints[i] = mine[i]
        for leaf, before, _ in loop.carried:
            if leaf in mine and self.relevant[before]:
                self._add(adjoints, before, mine[leaf])
        for leaf, read in loop.reads.items():
            if leaf in mine and self.relevant[leaf]:
                self._deliver(read, mine[leaf], loop.count)

    def _single_turns(self, inside: set[int]) -> None:
        """The adjoints of nodes of a loop in single turns, which are read after it, are written down by the turn."""
        for leaf, read in self.source.reads.items():
            if leaf in self.adjoints and isinstance(read.sequence, int) and read.sequence in inside:
                arrival = (self.adjoints[leaf], read.first, 0, 1)
                self.arrivals.setdefault(read.sequence, []).append(arrival)

    def _rows(self, arrivals: Sequence[tuple[int, int, int, int]], turns: int) -> list[Written]:
        """Rows of adjoints for so many turns; those that arrive in single turns share one as far as they can."""
        rows: list[list[tuple[int, int, int, int]]] = []
        taken: list[set[int]] = []
        for arrival in arrivals:
            _, first, step, count = arrival
            turns_of = range(first, first + 1) if count == 1 else range(first, first + step * count, step)
            k = next((k for k, known in enumerate(taken) if known.isdisjoint(turns_of)), len(rows))
            if k == len(rows):
                rows.append([])
                taken.append(set())
            rows[k].append(arrival)
            taken[k].update(turns_of)
        return [Written(turns, tuple(row)) for row in rows]

    def _deliver(self, read: Element, adjoint: int, turns: int) -> None:
        """Pass on the adjoints that the turns of a reversed loop compute for the elements of a sequence."""
        first, step = read.first + read.step * (turns - 1), -read.step
        if isinstance(read.sequence, int):
            self.arrivals.setdefault(read.sequence, []).append((adjoint, first, step, turns))
        elif isinstance(read.sequence, Written):
            for i, at, _, _ in read.sequence.places:
                if self.relevant[i]:
                    self._add(self.adjoints, i, self._in_turn(adjoint, (at - first) // step))
        elif isinstance(read.sequence, str):
            targets = getattr(self.source, read.sequence)
            for turn in range(turns):
                i = targets[first + step * turn]
                if self.relevant[i]:
                    self._add(self.adjoints, i, self._in_turn(adjoint, turn))

    def _in_turn(self, i: int, turn: int) -> int:
        """A node that has the number of a node of the last reversed loop in one of its turns."""
        loop = self.program.loops[-1]
        if not (loop.start <= i < loop.stop or i in loop.reads or any(i == leaf for leaf, _, _ in loop.carried)):
            return i  # the same in all turns
        if (i, turn) not in self.found:
            self.found[i, turn] = leaf = self.program.leaf()
            self.program.reads[leaf] = Element(i, turn)
        return self.found[i, turn]

    def _kept(self, loop: Loop, body: list[int], active: list[int], inside: set[int]) -> list[int]:
        """The nodes whose numbers the reversed turns read; `again` collects those that they compute again."""
        source = self.source
        effort: dict[int, int] = {}  # operations that it takes to compute it again; 0: it is stored
        for i in body:
            op = source.ops[i]
            assert op is not None
            size = 1 + sum(effort.get(k, 0) for k in source.operands[i])
            effort[i] = size if op.native in REPEATED and size <= CHEAP else 0
        needed: set[int] = set()
        for i in active:
            _, rule = self._rule(i)
            read = {k for j in range(len(rule)) for k in rule.operands[j]} | {*rule.outputs}
            needed.update(k for place, k in zip(rule.inputs, (i, *source.operands[i])) if place in read and k in inside)
        self.again: set[int] = set()
        for i in reversed(body):
            if i in needed and effort[i]:
                self.again.add(i)
                needed.update(k for k in source.operands[i] if k in inside)
        return [i for i in sorted(needed) if i not in self.again]


REPEATED = [name for name in ("fadd", "fsub", "fmul", "fneg", "select", "fcmp olt", "fcmp ole") if instruction(name)]

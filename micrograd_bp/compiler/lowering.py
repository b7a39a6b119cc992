"""A flat program rewritten with ops for which the machine has instructions, by what the table says of each op.

Equal nodes are merged, constants folded, and nodes that nothing reads dropped.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from micrograd_bp._engine.instructions import instruction
from micrograd_bp.compiler.program import Element, FlatProgram, InstructionFor, Loop, Written, live
from micrograd_bp.ops import TABLE, Op, Operand, number


class Tracer(Operand):
    """A tracer: stands for a node of the program under construction while an op's rule or formula runs.

    Operators and ops called on it add nodes. Anything else that a rule may do with it (a comparison, `bool`, `float`,
    its hash, class or text) would need its number: that raises TypeError, and marks the rule as refused, because the
    rule may catch the error and continue without the number.
    """

    __slots__ = ("index", "taker")

    def __init__(self, taker: Lowering | TracedRule, index: int) -> None:
        self.taker = taker
        self.index = index

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Any:
        taker = next(arg.taker for arg in args if isinstance(arg, Tracer))
        constant = taker.program.constant
        where = [x.index if isinstance(x, Tracer) else constant(number(x, op.name)) for x in args]
        return taker.symbol(taker.apply(op, tuple(where)))

    def _unknown(self, *_: Any) -> NoReturn:
        self.taker.refused = True
        raise TypeError("a rule that asks for a number's value cannot be lowered")

    def __getattr__(self, name: str) -> NoReturn:
        self.taker.refused = True
        raise AttributeError(f"a number's {name} is not known while a rule is lowered")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __hash__ = _unknown
    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _unknown
    __str__ = __repr__ = __format__ = __iter__ = __len__ = __getitem__ = __contains__ = _unknown
    __copy__ = __deepcopy__ = __reduce_ex__ = __divmod__ = __rdivmod__ = _unknown
    __class__ = property(_unknown)  # isinstance(x, float) asks for it


class TracedRule:
    """A user's function, run once on tracers: a program of the ops that it calls, whose inputs are its arguments."""

    def __init__(self, rule: Callable[..., Any], count: int, known: Sequence[float | None]) -> None:
        self.program = program = FlatProgram()
        self.refused = False
        program.inputs = [program.leaf() for _ in range(count)]
        args = [Tracer(self, i) if x is None else x for i, x in zip(program.inputs, known)]
        try:
            result = rule(*args)
            self.output = result.index if isinstance(result, Tracer) else program.constant(number(result))
        except Exception:
            self.refused = True

    def symbol(self, index: int) -> Tracer:
        return Tracer(self, index)

    def apply(self, op: Op, operands: tuple[int, ...]) -> int:
        return self.program.node(op, operands)

    def __call__(self, *args: float) -> float:
        nodes: list[Any] = [self.program.constants.get(i) for i in range(len(self.program))]
        nodes[: len(args)] = args
        for i, op in enumerate(self.program.ops):
            if op is not None:
                nodes[i] = op.forward(*[nodes[k] for k in self.program.operands[i]])
        return float(nodes[self.output])

    def agrees(self, op: Op, known: Sequence[float | None], ulps: int) -> bool:
        """Whether the program gives the op's values, and raises its errors, at points all over the domain."""
        for point in sample_points(op, known):
            want, got = _outcome(op.forward, point), _outcome(self, point)
            if repr(want) != repr(got):
                near = isinstance(want, float) and isinstance(got, float) and abs(got - want) <= ulps * math.ulp(want)
                if not near or want == 0.0:
                    return False
        return True


SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, 1e-9, -1e-9, 1e9, -1e9, 1e200, -1e200, 5e-324)


def sample_points(op: Op, known: Sequence[float | None]) -> list[list[float]]:
    """Dozens of points of the op's domain, special and pseudo-random ones; known operands keep their numbers."""
    rng = random.Random(0)
    axes = []
    for k, x in enumerate(known):
        low, high = op.domain[min(k, len(op.domain) - 1)]
        wide, near = max(low, -100.0), min(high, 100.0)
        axis = [x for x in SPECIAL if low <= x <= high]
        axis += [rng.uniform(wide, near) if wide < near else rng.uniform(low, high) for _ in range(48 - len(axis))]
        axis += [float(round(x)) for x in axis if abs(x) < 1e9 and low <= round(x) <= high][:16]
        rng.shuffle(axis)
        axes.append(axis if x is None else [x] * len(axis))
    count = max(map(len, axes), default=1)
    return [[axis[i % len(axis)] for axis in axes] for i in range(count)]


def _outcome(function: Callable[..., float], point: Sequence[float]) -> float | type:
    """The function's value at a point, or the type of its exception."""
    try:
        return float(function(*point))
    except Exception as error:
        return type(error)


# Powers with these exponents become products, at most 2 ulp from the C library's `pow`; not in an exact program.
POWERS: dict[float, Callable[[Any], Any]] = {
    2.0: lambda x: x * x,
    3.0: lambda x: x * x * x,
    4.0: lambda x: (x * x) * (x * x),
    -1.0: lambda x: 1.0 / x,
    -2.0: lambda x: 1.0 / (x * x),
}


def lower(source: FlatProgram, native: InstructionFor, exact: bool) -> FlatProgram:
    """Rewrite a program with ops that have an instruction; an op that cannot be written with these stays as it is.

    x * 0 stays a product, because it is not 0 where x is not finite, or raises. x + 0.0 becomes x where no bit of a
    result changes. The nodes that guards depend on are lowered exactly, even if the program is not.
    """
    if not exact:
        program = Lowering(source, native, exact, nearly=True).program
        if not any(op is not None and instruction(op.native).signs for op in program.ops):
            return program
    return Lowering(source, native, exact, nearly=False).program


class Lowering:
    """The state of `lower`: the old program and the new one."""

    def __init__(self, source: FlatProgram, native: InstructionFor, exact: bool, nearly: bool) -> None:
        self.program = program = FlatProgram()
        self.native, self.exact, self.nearly = native, exact, nearly
        self.refused = False
        self._traces: dict[Any, TracedRule | None] = {}
        place: list[int] = [0] * len(source)
        for i in (*source.inputs, *source.parameters):
            place[i] = program.leaf()
        program.inputs = [place[i] for i in source.inputs]
        program.parameters = [place[i] for i in source.parameters]
        for i, x in source.constants.items():
            place[i] = program.constant(x)
        for loop in source.loops:
            for i, _, _ in loop.carried:
                place[i] = program.leaf()
        precise = live(source, source.guards)
        reads = {i: read for known in (source.reads, *[x.reads for x in source.loops]) for i, read in known.items()}
        made: dict[int, Element] = {}
        fresh: set[int] = set()  # the leaves that stay leaves
        spans = [[sys.maxsize, sys.maxsize] for _ in source.loops]  # the loops' nodes in the new program
        edges = {i for loop in source.loops for i in (loop.start, loop.stop)}
        for i, op in enumerate(source.ops):
            if i in edges:
                for k, loop in enumerate(source.loops):
                    for end in (0, 1):
                        if (loop.start, loop.stop)[end] == i:
                            spans[k][end] = len(program)
            if i in reads:
                read = reads[i]
                if isinstance(read.sequence, int):
                    k = place[read.sequence]
                    if k in program.constants or not self._varies(source, read.sequence, spans, place, made):
                        place[i] = k  # it has the same number in all iterations
                        continue
                    read = Element(k, read.first, read.step)
                    if k in made and not isinstance(made[k].sequence, Written):  # a leaf that reads a sequence itself
                        inner = made[k]
                        read = Element(inner.sequence, inner.first + inner.step * read.first, inner.step * read.step)
                        if isinstance(read.sequence, str) and not read.step:
                            place[i] = getattr(program, read.sequence)[read.first]
                            continue
                elif isinstance(read.sequence, Written):
                    read = Element(self._written(source, read.sequence, spans, place, made), read.first, read.step)
                place[i] = program.leaf()
                made[place[i]] = read
                fresh.add(i)
            elif op is not None:
                self.exact = exact or precise[i]
                self.nearly = nearly and not precise[i]
                place[i] = self.apply(op, tuple([place[k] for k in source.operands[i]]))
        for name in ("outputs", "guards", "checks", "raised"):
            setattr(program, name, [place[i] for i in getattr(source, name)])
        for loop, (start, stop) in zip(source.loops, spans):
            carried = [(place[a], place[b], place[c]) for a, b, c in loop.carried]
            mine = {place[i]: made[place[i]] for i in loop.reads if i in fresh}
            program.loops.append(Loop(min(start, len(program)), min(stop, len(program)), loop.count, carried, mine))
        program.reads = {place[i]: made[place[i]] for i in source.reads if i in fresh}
        program.labels = {place[i]: label for i, label in source.labels.items()}
        self._keep_errors(source, place)

    def _written(
        self, source: FlatProgram, row: Written, spans: list[list[int]], place: list[int], made: dict[int, Element]
    ) -> Written:
        """The same numbers, written by nodes of the new program."""
        places = []
        for i, first, step, turns in row.places:
            if turns > 1 and (place[i] in self.program.constants or not self._varies(source, i, spans, place, made)):
                places += [(place[i], first + step * turn, 0, 1) for turn in range(turns)]
            else:
                places.append((place[i], first, step, turns))
        return Written(row.size, tuple(places))

    def _varies(
        self, source: FlatProgram, i: int, spans: list[list[int]], place: list[int], made: dict[int, Element]
    ) -> bool:
        """Whether a node of a loop, placed in the new program, may still have another number in each iteration."""
        loop, (start, stop) = next(
            (loop, span)
            for loop, span in zip(source.loops, spans)
            if loop.start <= i < loop.stop or i in loop.reads or any(i == leaf for leaf, _, _ in loop.carried)
        )
        leaves = {place[leaf] for leaf, _, _ in loop.carried}
        leaves |= {place[leaf] for leaf in loop.reads if place[leaf] in made}
        return start <= place[i] < stop or place[i] in leaves

    def _keep_errors(self, source: FlatProgram, place: list[int]) -> None:
        """Add checks for operations that may raise but were dropped, since a constant condition never selects them."""
        program = self.program
        for i in source.raised:  # its operands must be finite: only then does it raise as it did when it was recorded
            program.checks += [place[k] for k in source.operands[i]]
        wanted = live(source, [*source.outputs, *source.guards, *source.checks])
        kept = live(program, [*program.outputs, *program.guards, *program.checks])
        for i in range(len(source) - 1, -1, -1):
            op, k = source.ops[i], place[i]
            if wanted[i] and op is not None and not kept[k] and not instruction(op.native).calm:
                program.checks.append(k)
                waiting = [k]
                while waiting:
                    k = waiting.pop()
                    if not kept[k]:
                        kept[k] = True
                        waiting += program.operands[k]
        program.checks = [k for k in dict.fromkeys(program.checks) if k not in program.constants]

    def symbol(self, index: int) -> Tracer | float:
        """What stands for a node among the arguments of a rule: a float for a constant, else a tracer."""
        return self.program.constants[index] if index in self.program.constants else Tracer(self, index)

    def apply(self, op: Op, operands: tuple[int, ...]) -> int:
        """Add the op applied to these operands, written with ops that have an instruction; returns the node."""
        program = self.program
        constants = program.constants
        known: list[Any] = [constants.get(i) for i in operands]
        if None not in known:
            try:
                return program.constant(op.forward(*known))
            except (ArithmeticError, ValueError):
                pass  # it will be raised again, with labels, when the program runs
        native = self.native(op, len(operands), self.exact)
        if not native:
            simpler = self._simpler(op, operands, known)
            if simpler is not None:
                return simpler
        else:
            if native == "select" and (known[0] is not None or operands[1] == operands[2]):
                return operands[1] if known[0] else operands[2]
            if native == "pow" and known[1] in POWERS and not self.exact:
                return int(POWERS[known[1]](Tracer(self, operands[0])).index)
            known_of = instruction(native)
            for position, x in (*known_of.nearly_neutral * self.nearly, *known_of.neutral):
                k = known[position]
                if k is not None and k == x and math.copysign(1.0, k) == math.copysign(1.0, x):
                    return operands[1 - position]
        node = program.node(op, operands)
        if self.exact:
            program.precise.add(node)
        return node

    def _simpler(self, op: Op, operands: tuple[int, ...], known: list[Any]) -> int | None:
        """The op written as its decomposition, or as its `forward`; None if neither can run on tracers."""
        for rule in (op.decomposition, op.forward):
            if rule is None:
                continue
            if TABLE.get(op.name) is not op:
                trace = self._traced(op, rule, (None,) * len(operands)) or self._traced(op, rule, tuple(known))
                if trace is not None:
                    return self._inlined(trace, operands)
                continue
            before, self.refused = self.refused, False
            try:
                result = rule(*map(self.symbol, operands))
                if not self.refused:
                    return result.index if isinstance(result, Tracer) else self.program.constant(number(result))
            except Exception:  # the rule reads a number: the op is called when the program runs
                continue
            finally:
                self.refused = before
        return None

    def _traced(self, op: Op, rule: Callable[..., Any], known: tuple[float | None, ...]) -> TracedRule | None:
        """A user's op written with other ops, if its function runs on tracers and the result agrees with it."""
        key = op, rule, tuple([x if x is None else repr(x) for x in known]), self.exact
        if key not in self._traces:
            trace = TracedRule(rule, len(known), known)
            ulps = 0 if self.exact or rule is op.forward else 4
            self._traces[key] = None if trace.refused or not trace.agrees(op, known, ulps) else trace
        return self._traces[key]

    def _inlined(self, trace: TracedRule, operands: tuple[int, ...]) -> int:
        place = [*operands, *[0] * (len(trace.program) - len(operands))]
        for i, op in enumerate(trace.program.ops):
            if i in trace.program.constants:
                place[i] = self.program.constant(trace.program.constants[i])
            elif op is not None:
                place[i] = self.apply(op, tuple([place[k] for k in trace.program.operands[i]]))
        return place[trace.output]

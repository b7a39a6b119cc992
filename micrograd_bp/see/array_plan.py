"""The content of a picture of a graph's arrays: a box for each array, an edge for each way in which one is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from micrograd_bp._engine.labels import Listing, written
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler import arrays
from micrograd_bp.compiler.array_parts import distinct_rows, is_single, levels
from micrograd_bp.compiler.evaluation import UnsuitableError
from micrograd_bp.compiler.loop_text import LoopExpressions, python_instruction, whole_turns
from micrograd_bp.compiler.loops import roll
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.program import FlatProgram, flatten
from micrograd_bp.ops import Op
from micrograd_bp.value import Value


@dataclass(slots=True)
class Box:
    """An array: what it is called, how many members it has, of which shape, what they are, and its kind of box."""

    name: str
    size: int
    shape: str
    formula: str
    kind: str


@dataclass(slots=True)
class ArrayPlan:
    """Boxes, each after those that it reads, and edges: from, to, how it is read.

    What stands in a loop has a frame, from one box to another, with the number of turns; an edge from a later box to an
    earlier one is what is carried to the next turn.
    """

    boxes: list[Box]
    edges: list[tuple[int, int, str]]
    nodes: int
    frames: list[tuple[int, int, int]] = field(default_factory=list)


def array_plan(outputs: Sequence[Value]) -> ArrayPlan:
    """The arrays of the graph of these outputs, however few their members; or its loops, where these are fewer boxes.

    Leaves that are read together are one box: the weights of a layer, say, and its biases. Raises ImportError without
    NumPy.
    """
    try:
        import numpy as np
    except ImportError as error:
        raise ImportError("draw(arrays=True) finds arrays with NumPy: pip install numpy") from error
    leaves = sorted(Listing(outputs).leaves, key=lambda x: _parts(x.label))  # x2 before x10
    program, leaves = flatten(outputs, [], leaves)
    looped = roll(program)
    found = arrays.find(program, small=0, share=1)
    if looped is not None and (found is None or looped[0].count < len(found.steps)):
        with contextlib.suppress(UnsuitableError):  # loops that read the numbers of others, say: arrays show them
            return _LoopPlanner(whole_turns(looped[0], [x.label for x in leaves]), program.count).plan()
    if found is None:
        raise ValueError("draw(arrays=True) shows what operations give, and some of these have raised")
    made = _Planner(found, [x.label for x in leaves])
    shown = {int(k) for k in np.unique(found.array[program.outputs])}
    for k, step in enumerate(found.steps, arrays.LEAVES):
        made.step(k, step, k in shown)
    if not found.steps:
        raise ValueError("draw(arrays=True) shows arrays of operations; the output is a leaf")
    return ArrayPlan(made.boxes, made.edges, program.count)


class _LoopPlanner(LoopExpressions):
    """The boxes and edges of a program with loops."""

    def __init__(self, program: FlatProgram, nodes: int) -> None:
        program = lower(program, python_instruction, exact=True)
        labels = [program.labels.get(i, "") for i in program.parameters]
        names = {
            i: label if label and labels.count(label) == 1 else f"w{k + 1}"
            for k, (i, label) in enumerate(zip(program.parameters, labels))
        }
        super().__init__(program, python_instruction, names, [])
        self.made = ArrayPlan([], [], nodes)
        self.box: dict[int, int] = {}  # of a node

    def spell(self, op: Op, operands: list[Expr]) -> Expr:
        return Expr._record(op, tuple(operands))

    def literal(self, x: float) -> Expr:
        return Expr.of(x)

    def sequence(self, name: str) -> str:
        return "w"

    def table(self, name: str, numbers: tuple[str, ...]) -> str:
        return ""

    def put(self, i: int, name: str, formula: str, kind: str = "interior", reads: Sequence[int] = ()) -> int:
        """A box, after those of leaves that it is the first to read; its number."""
        sources = [self.found(k) for k in reads if k not in self.program.constants and k not in self.turning]
        self.made.boxes.append(Box(name, 1, "", formula, kind))
        self.made.edges += [(k, len(self.made.boxes) - 1, "") for k in sources]
        self.box[i] = len(self.made.boxes) - 1
        return self.box[i]

    def found(self, i: int) -> int:
        """The box of a node, made where it is a leaf that is read for the first time."""
        return self.box[i] if i in self.box else self.put(i, self.names[i].text, "", "leaf")

    def plan(self) -> ArrayPlan:
        """The plan."""
        outside = {
            k for part in self.parts if part.loop is not None for i in part.nodes for k in self.program.operands[i]
        }
        for k in sorted(outside & {*self.program.parameters}):
            self.found(k)  # leaves stand outside the frames
        for number, part in enumerate(self.parts):
            loop = part.loop
            carried = self.carried(part)
            before = self.parts[number - 1] if loop is not None else part
            for _, first, _ in carried:
                if first in before.inside:
                    self.put(
                        first, self.numbered("t"), self.formula(first, before).text, reads=[*before.inside[first][0]]
                    )
                elif first not in self.program.constants:
                    self.found(first)
            start = len(self.made.boxes)
            for leaf, first, _ in carried:
                given = self.program.constants.get(first)
                self.put(leaf, self.named(leaf, "s").text, "" if given is None else f"{given:g} at first", "carried")
                if given is None:
                    self.made.edges.append((self.box[first], self.box[leaf], "at first"))
            for i, read in part.statements:
                formula = self.formula(i, part).text
                self.put(i, self.named(i).text, formula, reads=sorted(read))
            for leaf, _, after in carried:
                if after in part.last:
                    name, formula = f"next {self.names[leaf].text}", self.formula(after, part).text
                    self.put(after, name, formula, reads=sorted(part.inside[after][0]))
                if after != leaf and after not in self.program.constants:
                    self.made.edges.append((self.found(after), self.box[leaf], "next turn"))
            if loop is not None:
                self.made.frames.append((start, len(self.made.boxes), loop.count))
                for leaf, _, after in carried:
                    self.names[after] = self.names[leaf]
        end = self.parts[-1]
        for i in self.program.outputs:
            if i in end.inside:
                self.put(i, "out", self.formula(i, end).text, reads=sorted(end.inside[i][0]))
            self.made.boxes[self.found(i)].kind = "output"
        return self.made


class _Planner:
    """Collects the boxes and edges, array by array."""

    def __init__(self, program: arrays.ArrayProgram, labels: Sequence[str]) -> None:
        self.program, self.labels = program, labels
        self.boxes: list[Box] = []
        self.edges: list[tuple[int, int, str]] = []
        self.box: dict[int, int] = {}  # the box of each array
        self.groups: dict[bytes, tuple[int, arrays.Places]] = {}  # leaves that are read together: their box

    def step(self, k: int, step: arrays.Map | arrays.Sum, output: bool) -> None:
        """Add the box of an array, after the boxes of the leaves that no array before it reads."""
        reads: list[tuple[int, str]] = []
        if isinstance(step, arrays.Map):
            names = [self.read(source, places, reads) for source, places in step.reads]
            size, formula = step.size, written(step.op, names)
        else:
            terms = []
            for part in sorted(step.parts, key=lambda part: isinstance(part, arrays.Terms)):
                terms.append(self.terms(part, reads) if isinstance(part, arrays.Terms) else self.products(part, reads))
            size, formula = step.size, " + ".join(x for x in terms if x != "0") or "0"
        self.box[k] = len(self.boxes)
        name = f"h{k - arrays.LEAVES + 1}"
        self.boxes.append(Box(name, size, f"{size:,}" if size > 1 else "", formula, "output" if output else "interior"))
        self.edges += [(source, self.box[k], how) for source, how in dict.fromkeys(reads)]

    def read(self, k: int, places: arrays.Places, reads: list[tuple[int, str]]) -> Expr | float:
        """The name of what is read, whose edge is added to `reads`."""
        if k == arrays.CONSTANTS:
            numbers = [self.program.constants[i] for i in places.ravel().tolist()]
            return numbers[0] if len({repr(x) for x in numbers}) == 1 else Expr("constants")
        box, size, own = self.source(k, places)
        reads.append((box, how_read(own, size)))
        return Expr(self.boxes[box].name)

    def source(self, k: int, places: arrays.Places) -> tuple[int, int, arrays.Places]:
        """The box that is read, its size, and the places in it."""
        import numpy as np

        if k != arrays.PARAMETERS:
            return self.box[k], self.program.sizes[k], places
        members = np.unique(places)
        key = members.tobytes()
        if key not in self.groups:
            name = _common([self.labels[i] for i in members.tolist()]) or f"w{len(self.groups) + 1}"
            taken = {box.name for box in self.boxes}
            name = name if name not in taken else f"{name} ({len(self.groups) + 1})"
            sides = [n for n in places.shape if n > 1] if places.size == len(members) else [len(members)]
            shape = " × ".join(f"{n:,}" for n in sides)
            self.groups[key] = len(self.boxes), members
            self.boxes.append(Box(name, len(members), shape if len(members) > 1 else "", "", "leaf"))
        box, members = self.groups[key]
        return box, len(members), np.searchsorted(members, places)

    def terms(self, part: arrays.Terms, reads: list[tuple[int, str]]) -> str:
        """The text of a sum of members."""
        name = self.read(part.source, part.places, reads)
        length = part.places.shape[1]
        text = name.text if isinstance(name, Expr) else f"{name:g}"
        if text in ("0", "1") or length == 1:
            return text if length == 1 or text == "0" else f"{length}"
        return f"{length}·{text}" if is_single(part.places) else f"Σ {text}"

    def products(self, part: arrays.Products, reads: list[tuple[int, str]]) -> str:
        """The text of a sum of products: a matrix product, if all rows of one operand meet all columns of the other."""
        found = [distinct_rows(places)[0] for places in (part.left_places, part.right_places)]
        grid = part.left_places.shape[1] > 1 and len(found[0]) * len(found[1]) == len(part.left_places) > 1
        if not grid:
            found = [part.left_places, part.right_places]
        sides = []
        for k, places in zip((part.left, part.right), found):
            name = self.read(k, places, reads)
            sides.append(name.text if isinstance(name, Expr) else f"{name:g}")
        if grid:
            return " @ ".join(sides)
        if "1" in sides:
            sides.remove("1")
        return ("Σ " if part.left_places.shape[1] > 1 else "") + "·".join(sides)


def how_read(places: arrays.Places, size: int) -> str:
    """How members of an array of that size are read: whole, a slice, broadcast (one for all), or gathered.

    Example:
        >>> import numpy as np
        >>> how_read(np.arange(5), 5), how_read(np.arange(0, 10, 2), 10), how_read(np.zeros(5, int), 10)
        ('whole', 'slice 0:10:2', 'broadcast [0]')
        >>> how_read(np.array([[0, 1], [1, 2]]), 3)
        'gathered 2 × 2'
    """
    import numpy as np

    shape = " × ".join(f"{n:,}" for n in places.shape if n > 1 or places.ndim == 1)
    if is_single(places):
        where = "" if size == 1 else f" [{places.flat[0]}]"
        return f"broadcast{where}" if places.size > 1 else f"member{where}" if where else "whole"
    if places.ndim > 1 and len(places) > 1 and (places == places[0]).all():
        return how_read(places[0], size)  # a vector that meets every row of a matrix
    if places.ndim > 1 and places.shape[1] > 1 and (places == places[:, :1]).all():
        return f"{how_read(places[:, 0], size)}, broadcast"
    flat = places.ravel()
    found = levels(flat)
    if found is not None and len(found[1]) == 1 and found[1][0][1] > 0:
        first, [(count, step)] = found
        if count == size and step == 1:
            return "whole"
        return f"slice {first}:{first + step * count}" + (f":{step}" if step > 1 else "")
    if len(flat) == size and np.array_equal(np.sort(flat), np.arange(size)):
        return "permuted"
    return f"gathered {shape}"


def _parts(label: str) -> list[Any]:
    """A label taken apart: text, number, text, ..."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", label))]


def _common(labels: Sequence[str]) -> str:
    """The label that the leaves share, without the numbers in which they differ; "": they share none."""
    parts = [[str(part) for part in _parts(label)] for label in labels]
    if not labels or not labels[0] or len({len(part) for part in parts}) > 1:
        return ""
    columns = [set(column) for column in zip(*parts)]
    if any(len(column) > 1 and k % 2 == 0 for k, column in enumerate(columns)):
        return ""
    return "".join(next(iter(column)) if len(column) == 1 else "i" if len(labels) > 1 else "" for column in columns)

"""Array programs as readable Python: maps, sums, matrix products and gathers in NumPy, as one would write by hand.

An array is a matrix with a column for each row of the batch; an array of one member is a vector, or a number where it
is the same for all rows. Value and gradient are the backward sweep written out, array by array.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from micrograd_bp._engine.instructions import instruction
from micrograd_bp._engine.labels import usable
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.array_parts import (
    Rule,
    Rules,
    constants_read,
    distinct_rows,
    grid_order,
    is_single,
    layout,
    levels,
    needing,
)
from micrograd_bp.compiler.arrays import CONSTANTS, INPUTS, LEAVES, PARAMETERS, ArrayProgram, Map, Places, Sum, Terms
from micrograd_bp.compiler.evaluation import UnsuitableError, numpy_instruction
from micrograd_bp.compiler.python import Source
from micrograd_bp.ops import Op

WIDTH = 88  # characters of an expression that is put into another, at most
INLINE = 4  # instructions of a rule that is written in place, at most
OPERATORS = {"fadd": ("+", 1), "fsub": ("-", 1), "fmul": ("*", 2), "fdiv": ("/", 2)}
OPERATORS |= {"fcmp olt": ("<", 0), "fcmp ole": ("<=", 0)}
CHAIN = """def chain(slope, partial):
    return np.where((slope == 0.0) | (partial == 0.0), 0.0, slope * partial)"""


def _spell(name: str, op: Op, operands: list[Expr]) -> Expr:
    """An instruction in NumPy."""
    if name == "number":
        return Expr(f"1.0 * ({operands[0].text})", 2)
    if name in OPERATORS:
        symbol, rank = OPERATORS[name]
        return Expr(f"{operands[0]._inside(max(rank, 1))} {symbol} {operands[1]._inside(rank + 1)}", rank)
    if name == "fneg":
        return Expr(f"-{operands[0]._inside(3)}", 3)
    function = instruction(name).numpy
    if not function:
        raise UnsuitableError
    return Expr(f"np.{function}({', '.join(x.text for x in operands)})")


def _literal(x: float) -> Expr:
    """A number in NumPy."""
    text = repr(x) if math.isfinite(x) else "np.nan" if x != x else "np.inf" if x > 0.0 else "-np.inf"
    return Expr(text, 3 if text[0] == "-" else 5)


def _times(count: int, x: Expr) -> Expr:
    return x if count == 1 else Expr(f"{float(count)!r} * {x._inside(3)}", 2)


def _product(*factors: Expr) -> Expr:
    kept = [x for x in factors if x.text != "1.0"] or [*factors[:1]]
    if len(kept) == 1:
        return kept[0]
    return Expr(" * ".join(x._inside(2 + (k > 0)) for k, x in enumerate(kept)), 2)


def array_source(
    program: ArrayProgram, outputs: Sequence[int], *, gradient: int | None = None, name: str = ""
) -> Source | None:
    """The array program as a function of a batch and of all numbers that are no inputs; None: NumPy lacks a function.

    Args:
        program: What `arrays.find` found.
        outputs: Nodes of the flat program.
        gradient: The first so many parameters, by which the one output is differentiated; None: the values are wanted.
        name: The function's; "value" or "value_and_grad" by default.
    """
    try:
        return _NumPyWriter(program).source(list(outputs), gradient, name)
    except UnsuitableError:
        return None


class _NumPyWriter:
    """Writes one function."""

    def __init__(self, program: ArrayProgram) -> None:
        self.program, self.sizes, self.uniform = program, program.sizes, program.uniform
        self.rules = Rules(numpy_instruction, _spell, _literal)
        self.above: list[str] = []  # tables and functions
        self.tables: dict[Any, str] = {}
        self.functions: dict[Any, str] = {}
        self.taken = {"np", "value", "value_and_grad", "chain", "rows", "slope", "partial"}
        self.views: dict[str, str] = {}  # of parameters: their text, by name
        self.inlined: dict[int, Expr] = {}
        self.forward = True  # what is written now
        self.contributions: dict[int, list[tuple[str, str]]] = {}  # to adjoints: index, or "" for the whole, and text
        self.same: dict[int, str] = {}  # adjoints that are another one
        self.slopes: list[str] = []  # lines that add to those of the parameters
        self.steps = dict(enumerate(program.steps, LEAVES))

    # --- names ------------------------------------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """The name, with the first number that is free if it is taken."""
        count, made = 1, name
        while made in self.taken:
            count += 1
            made = f"{name[0]}{count}" if name[1:] == "1" else f"{name}_{count}"
        self.taken.add(made)
        return made

    def array(self, k: int) -> Expr:
        """An array's name, or the expression that is written in its place."""
        if self.forward and k in self.inlined:
            return self.inlined[k]
        return Expr("x" if k == INPUTS else "w" if k == PARAMETERS else f"h{k - LEAVES + 1}")

    def adjoint(self, k: int) -> str:
        """The name of an array's adjoint, or of the other adjoint that it equals."""
        return self.same.get(k, f"d{self.array(k).text}")

    def table(self, places: Places) -> str:
        """The name of a constant table of places, with the shape that it has here."""
        shape = places.shape
        key = places.astype("int64").tobytes()
        if key not in self.tables:
            name = self.fresh("I1")
            self.tables[key] = name
            self.above.append(f"{name} = {_range(places)}")
            self.tables[name] = shape
        name = self.tables[key]
        if self.tables[name] == shape:
            return name
        return f"{name}.ravel()" if len(shape) == 1 else f"{name}.reshape{shape}"

    def numbers(self, places: Places) -> str:
        """The name of a table of constants, in the shape of the places."""
        constants = self.program.constants
        values = [constants[i] for i in places.ravel().tolist()]
        key = ("numbers", tuple(map(repr, values)), places.shape)
        if key not in self.tables:
            name = self.tables[key] = self.fresh("C1")
            text = _wrapped(f"{name} = np.array([", ", ".join(_literal(x).text for x in values), "])")
            self.above.append(text + (f".reshape{places.shape}" if places.ndim > 1 else ""))
        return str(self.tables[key])

    # --- reading ----------------------------------------------------------------------------------------------------

    def one(self, k: int, place: int) -> Expr:
        """A member of an array: a vector, or a number."""
        if k == CONSTANTS:
            return _literal(self.program.constants[place])
        if k == PARAMETERS:
            return Expr(f"w[{place}]")
        if self.sizes[k] == 1:
            return self.array(k)
        return Expr(f"{self.array(k).text}[{place}, 0]" if self.uniform[k] else f"{self.array(k).text}[{place}]")

    def index(self, k: int, places: Places) -> str:
        """The index that selects these members, in brackets; "" for the whole array."""
        count, first = len(places), int(places[0])
        steps = places[1:] - places[:-1]
        step = int(steps[0]) if count > 1 else 1
        if count == 1 and self.sizes[k] > 1:
            return str(first)
        if step and (steps == step).all():
            if step == 1 and count == self.sizes[k]:
                return ""
            stop = first + step * count
            end = "" if stop < 0 or (step == 1 and stop == self.sizes[k]) else str(stop)
            return f"{first or ''}:{end}" + (f":{step}" if step != 1 else "")
        return self.table(places)

    def read(self, k: int, places: Places) -> Expr:
        """Members as a matrix with a column for each row of the batch; always the same member as a vector or number."""
        if is_single(places):
            return self.one(k, int(places[0]))
        if k == CONSTANTS:
            return Expr(f"{self.numbers(places)}[:, None]")
        index = self.index(k, places)
        if k == PARAMETERS:
            if not index:
                return Expr("w[:, None]")
            return self.view("b", f"w[{index}, None]" if index[0] != "I" else f"w[{index}][:, None]")
        return Expr(f"{self.array(k).text}[{index}]") if index else self.array(k)

    def view(self, letter: str, text: str) -> Expr:
        """A name for numbers among the parameters."""
        if text not in self.views:
            self.views[text] = self.fresh(f"{letter}1")
        return Expr(self.views[text])

    def block(self, k: int, places: Places) -> Expr:
        """Members in the shape of the places, and a last axis of rows."""
        a, b = places.shape
        flat = places.ravel()
        whole = (flat[1:] - flat[:-1] == 1).all()
        if k == CONSTANTS:
            return Expr(f"{self.numbers(places)}[:, :, None]")
        if k == PARAMETERS:
            if whole:
                return self.view("p", f"w[{flat[0]}:{flat[-1] + 1}].reshape({a}, {b}, 1)")
            return self.view("p", f"w[{self.table(places)}][:, :, None]")
        if whole:
            return Expr(f"{self.read(k, flat)._inside(5)}.reshape({a}, {b}, -1)")
        return Expr(f"{self.array(k)._inside(5)}[{self.table(places)}]")

    def matrix(self, k: int, places: Places) -> Expr:
        """Members of an array that is the same for all rows as a matrix; as a vector, where it has one row."""
        if len(places) == 1:
            places = places[0]
        if k == CONSTANTS:
            return Expr(self.numbers(places))
        if k == PARAMETERS:
            text, turned = layout(places, self.sizes[k], self.table)
            return self.view("W" if places.ndim > 1 else "v", f"w{text}{'.T' * turned}")
        flat = f"{self.array(k)._inside(5)}[:, 0]" if self.sizes[k] > 1 else f"np.full(1, {self.array(k).text})"
        text, turned = layout(places, self.sizes[k], self.table)
        return Expr(f"{flat}{text}{'.T' * turned}")

    # --- forward ----------------------------------------------------------------------------------------------------

    def rule(self, op: Op, lowered: Any, key: Any, title: str, names: Sequence[Expr]) -> Rule:
        """A rule applied to operands: written in place if it is short, else as a call of a function."""
        found = self.rules.read(lowered, names)
        uses = self.rules.reads(lowered)
        simple = all(re.fullmatch(r"-?[\w.]+(\[[\w:, ]+\])?", x.text) or n < 2 for x, n in zip(names, uses))
        if simple and found.count <= INLINE and not found.lines:
            return found
        if key not in self.functions:
            name = self.functions[key] = self.fresh(title if usable(title) else "rule")
            letters = ["x", "y", "z"] if len(names) <= 3 else [f"x{k + 1}" for k in range(len(names))]
            if title != op.name:  # a partial takes the op's result as its first argument
                letters = ["out", *(["x", "y", "z"] if len(names) <= 4 else [f"x{k + 1}" for k in range(len(names))])]
            inside = self.rules.read(lowered, [Expr(x) for x in letters])
            arguments = ", ".join(x for x, used in zip(letters, uses) if used)
            lines = [f"{a} = {b}" for a, b in inside.lines] + [f"return {inside.result.text}"]
            self.above.append(textwrap.indent("\n".join(map(_broken, lines)), "    "))
            self.above[-1] = f"def {name}({arguments}):\n{self.above[-1]}"
        given = ", ".join(x.text for x, used in zip(names, uses) if used)
        found.result = Expr(f"{self.functions[key]}({given})")
        return found

    def map(self, k: int, step: Map) -> Expr:
        """The expression for the members of a map."""
        known = constants_read(self.program, step)
        names = [self.read(*read) for read in step.reads]
        key = (step.op, tuple(map(repr, known)), step.precise)
        lowered = self.rules.value(step.op, known, step.precise)
        text = self.rule(step.op, lowered, key, step.op.name, names).result
        return self.full(k, text, any(not is_single(places) for _, places in step.reads))

    def full(self, k: int, text: Expr, has_members: bool) -> Expr:
        """The text with an axis of members, if the array has one."""
        if self.sizes[k] == 1 or has_members:
            return text
        return Expr(f"np.broadcast_to({text.text}, ({self.sizes[k]}, {self.columns(k)}))")

    def columns(self, k: int) -> str:
        """How many columns an array has."""
        return "1" if self.uniform[k] else "rows"

    def sum(self, k: int, step: Sum) -> Expr:
        """The expression for an array of sums: products first."""
        parts = sorted(step.parts, key=lambda part: isinstance(part, Terms))
        texts = [self.terms(part) if isinstance(part, Terms) else self.products(part) for part in parts]
        texts = [x for x in texts if not re.fullmatch(r"([\d.]+ \* )?0\.0", x[0].text)] or texts[:1]
        text = Expr(" + ".join(x._inside(1 + (i > 0)) for i, (x, _) in enumerate(texts)), 1 if len(texts) > 1 else 5)
        if len(texts) == 1:
            text = texts[0][0]
        return self.full(k, text, any(members for _, members in texts))

    def terms(self, part: Terms) -> tuple[Expr, bool]:
        """A sum of members, and whether it has an axis of members."""
        count, length = part.places.shape
        if is_single(part.places):
            return _times(length, self.one(part.source, int(part.places[0, 0]))), False
        if length == 1:
            return self.read(part.source, part.places.ravel()), True
        if count == 1:
            x = self.read(part.source, part.places[0])._inside(5)
            return Expr(f"{x}.sum()" if self.uniform[part.source] else f"{x}.sum(axis=0)"), False
        return Expr(f"{self.block(part.source, part.places)._inside(5)}.sum(axis=1)"), True

    def products(self, part: Any) -> tuple[Expr, bool]:
        """A sum of products, and whether it has an axis of members."""
        (count, length), left, right = part.left_places.shape, part.left, part.right
        grid = self.grid(part)
        if grid is not None:
            rows, vectors, order = grid
            matrix = self.matrix(left, rows)
            if len(vectors) == 1:
                text = f"{matrix.text} @ {self.read(right, vectors[0])._inside(3)}"
                if count == 1 and self.uniform[right]:
                    return Expr(f"({text})[0]"), False
                return Expr(text, 2), count > 1
            text = f"np.tensordot({matrix.text}, {self.block(right, vectors.T).text}, 1)"
            if len(rows) > 1:
                text += f".reshape({count}, -1)"
            return Expr(text if order is None else f"{text}[{self.table(order)}]"), True
        singles = [is_single(places) for places in (part.left_places, part.right_places)]
        a, b = self.operands(part)
        if all(singles):
            return _times(length, _product(a, b)), False
        if length == 1:
            return _product(a, b), count > 1
        axis = self.axis(count, [k for k, single in zip((left, right), singles) if not single])
        if any(singles):
            one, many = (a, b) if singles[0] else (b, a)
            return _product(one, Expr(f"{many._inside(5)}.sum({axis})")), count > 1
        return Expr(f"({_product(a, b).text}).sum({axis})"), count > 1

    def axis(self, count: int, arrays: Sequence[int]) -> str:
        """The argument `axis` of np.sum for the terms of a sum."""
        return "axis=1" if count > 1 else "" if all(self.uniform[k] for k in arrays) else "axis=0"

    def operands(self, part: Any) -> list[Expr]:
        """Both operands of products: [member, term, row], without the axes that have one place."""
        made = []
        for k, places in ((part.left, part.left_places), (part.right, part.right_places)):
            flat = is_single(places) or 1 in places.shape
            made.append(self.read(k, places.ravel()) if flat else self.block(k, places))
        return made

    def grid(self, part: Any) -> Any:
        """Products as those of a matrix, the same for all rows, with vectors; and the members' order, if it differs.

        None: they are not products of a matrix.
        """
        import numpy as np

        if not self.uniform[part.left] or part.left_places.shape[1] == 1 or is_single(part.right_places):
            return None
        vectors, of_vector = distinct_rows(part.right_places)
        if len(vectors) == 1:
            return part.left_places, vectors, None
        rows, of_row = distinct_rows(part.left_places)
        place = grid_order(len(rows), of_row, len(vectors), of_vector)
        if place is None:
            return None
        return rows, vectors, None if np.array_equal(place, np.arange(len(place))) else place

    # --- backward ---------------------------------------------------------------------------------------------------

    def give(self, k: int, places: Places, delta: Expr, varying: bool, members: bool = True) -> None:
        """Record what is to be added to the adjoints of members that were read.

        varying: whether delta has a column for each row; members: whether it has an axis of members, which it has not
        where there is one.
        """
        members = members and len(places) > 1
        text = delta._inside(5)
        single = is_single(places)
        if single and members:
            text, members = f"{text}.sum(axis=0)" if not self.uniform[k] else f"{text}.sum()", False
            if self.uniform[k]:
                varying = False
        if self.uniform[k] and varying:
            text = f"{text}.sum(axis=1{'' if k == PARAMETERS else ', keepdims=True'})" if members else f"{text}.sum()"
        elif k == PARAMETERS and members:
            text = f"{text}[:, 0]"
        elif text == f"({delta.text})":
            text = delta.text
        if single:
            places = places[:1]
        index = self.index(k, places) if k != PARAMETERS or len(places) > 1 else str(places[0])
        if k == PARAMETERS:
            self.slopes.append(self.added("dw", index or ":", places, text))
            return
        if not index and not members and self.sizes[k] > 1:
            text = f"np.broadcast_to({text}, ({self.sizes[k]}, {self.columns(k)}))"
        self.contributions.setdefault(k, []).append(
            (self.added(self.adjoint(k), index, places, text) if index else "", text)
        )

    @staticmethod
    def added(target: str, index: str, places: Places, text: str) -> str:
        """The line that adds to members; where some are read twice, one by one."""
        if index[0] == "I" and len(set(places.ravel().tolist())) < places.size:
            return f"np.add.at({target}, {index}, {text})"
        return f"{target}[{index}] += {text}"

    def give_matrix(self, k: int, places: Places, delta: Expr) -> None:
        """Record what is to be added to the adjoints of a matrix, [row, term], or of its one row."""
        if k == PARAMETERS:
            if len(places) == 1:
                places = places[0]
            index, turned = layout(places, self.sizes[k], self.table)
            text = f"{delta._inside(5)}.T" if turned else delta.text
            if index.startswith("[I"):
                self.slopes.append(self.added("dw", index[1:-1], places, text))
            else:
                self.slopes.append(f"dw{index if index.endswith(']') else f'{index}[:]'} += {text}")
        else:
            self.give(k, places.ravel(), Expr(f"{delta._inside(5)}.reshape(-1, 1)"), False)

    def total(self, text: Expr, k: int, source: int, members: bool) -> tuple[Expr, bool]:
        """The adjoint of step k, for a source: summed over the rows where that is the same for all."""
        if not self.uniform[source] or self.uniform[k]:
            return text, not self.uniform[k]
        return Expr(f"{text._inside(5)}.sum({'axis=1, keepdims=True' if members else ''})"), False

    def back_map(self, k: int, step: Map, needs: Sequence[bool], lines: list[str]) -> None:
        """The adjoints of a map's operands."""
        known = constants_read(self.program, step)
        names = [self.array(k), *[self.read(*read) for read in step.reads]]
        g, varying = Expr(self.adjoint(k)), not self.uniform[k]
        for position, (source, places) in enumerate(step.reads):
            if not needs[source]:
                continue
            lowered = self.rules.slope(step.op, known, position)
            title = f"{step.op.name}_slope" + ("" if len(step.reads) == 1 else f"_{position + 1}")
            key = (step.op, tuple(map(repr, known)), f"slope {position}")
            slope = self.rule(step.op, lowered, key, title, names)
            if slope.constant == 0.0:
                continue
            if slope.constant == 1.0:
                delta = g
            elif slope.constant == -1.0:
                delta = Expr(f"-{g.text}", 3)
            elif slope.tame:
                delta = _product(g, slope.result)
            else:
                if CHAIN not in self.above:
                    self.above.append(CHAIN)
                delta = Expr(f"chain({g.text}, {slope.result.text})")
            self.give(source, places, delta, varying)

    def back_terms(self, k: int, part: Terms, needs: Sequence[bool]) -> None:
        """The adjoints of terms."""
        count, length = part.places.shape
        if not needs[part.source]:
            return
        g, varying = Expr(self.adjoint(k)), not self.uniform[k]
        flat = part.places.ravel()
        if length == 1:
            self.give(part.source, flat, g, varying)
        elif is_single(flat):
            if count > 1:
                g = Expr(f"{g.text}.sum(axis=0)")
            self.give(part.source, flat[:1], _times(length, g), varying, False)
        elif count == 1:
            self.give(part.source, flat, g, varying, False)
        else:
            self.give(part.source, flat, Expr(f"np.repeat({g.text}, {length}, axis=0)"), varying)

    def back_products(self, k: int, part: Any, needs: Sequence[bool]) -> None:
        """The adjoints of both operands of products."""
        (count, length), left, right = part.left_places.shape, part.left, part.right
        g, varying = Expr(self.adjoint(k)), not self.uniform[k]
        grid = self.grid(part)
        if grid is not None:
            rows, vectors, order = grid
            matrix = self.matrix(left, rows)
            g, varying = self.total(g, k, right, count > 1)
            if order is not None:
                g = Expr(f"{g.text}[{self.table(order.argsort())}]")
            if len(vectors) == 1:
                x = self.read(right, vectors[0])
                if needs[left]:
                    inner = f"{g.text} @ {x._inside(5)}.T" if count > 1 else f"{x.text} @ {g.text}"
                    if count == 1 and self.uniform[right]:
                        inner = f"{x._inside(5)}[:, 0] * {g.text}"
                    self.give_matrix(left, rows, Expr(inner, 2))
                if needs[right]:
                    slopes = Expr(f"{matrix._inside(5)}.T @ {g.text}", 2)
                    if count == 1:
                        slopes = Expr(f"{matrix._inside(5)}[:, None] * {g.text}", 2)
                    self.give(right, vectors[0], slopes, varying)
                return
            x = self.block(right, vectors.T)
            if len(rows) > 1:
                g = Expr(f"{g._inside(5)}.reshape({len(rows)}, {len(vectors)}, -1)")
            if needs[left]:
                axes = "([1, 2], [1, 2])" if len(rows) > 1 else "([0, 1], [1, 2])"
                self.give_matrix(left, rows, Expr(f"np.tensordot({g.text}, {x.text}, {axes})"))
            if needs[right]:
                product = f"np.tensordot({matrix.text}.T, {g.text}, 1)"
                if len(rows) == 1:
                    product = f"np.multiply.outer({matrix.text}, {g.text})"
                self.give(right, vectors.T.ravel(), Expr(f"{product}.reshape({vectors.size}, -1)"), varying)
            return
        sides = [(left, part.left_places, right, part.right_places), (right, part.right_places, left, part.left_places)]
        for (source, places, _other, other_places), x in zip(sides, reversed(self.operands(part))):
            if not needs[source]:
                continue
            single, other_single, flat = is_single(places), is_single(other_places), places.ravel()
            delta = _product(g, x)
            if count == 1 < length and other_single:
                self.give(
                    source, flat[:1] if single else flat, _times(length, delta) if single else delta, varying, False
                )
            elif 1 in (count, length):
                self.give(source, flat, delta, varying)
            else:
                if other_single:
                    delta = Expr(f"np.repeat({delta.text}, {length}, axis=0)")
                else:
                    delta = Expr(f"({g.text}[:, None] * {x._inside(3)}).reshape({count * length}, -1)")
                self.give(source, flat, delta, varying)

    # --- functions --------------------------------------------------------------------------------------------------

    def source(self, outputs: list[int], gradient: int | None, name: str) -> Source:
        """The text of the function."""
        found = self.program.at(outputs)
        back: list[str] = []
        self.forward = False
        for k, step in self.steps.items():  # names are given in the order of the arrays
            _ = self.map(k, step) if isinstance(step, Map) else self.sum(k, step)
        if gradient is None:
            ends, result = self.values(found, len(outputs))
        else:
            ends, result = [], self.backward(found[0][0], int(found[0][1][0]), gradient, back)
        self.forward = True
        lines = self.steps_forward("\n".join([*back, *ends, result]))
        views = [
            f"{name} = {text}"
            for text, name in self.views.items()
            if re.search(rf"\b{name}\b", "\n".join(lines + back))
        ]
        body = "\n".join(map(_broken, [*views, *lines, *back, *ends, result]))
        used = set(re.findall(r"\w+", body))
        start = ["x = X.T" if self.sizes[INPUTS] > 1 else "x = X[:, 0]"] if "x" in used else []
        start += ["rows = len(X)"] if "rows" in used else []
        name = name or ("value" if gradient is None else "value_and_grad")
        inputs, numbers = self.sizes[INPUTS], self.sizes[PARAMETERS]
        what = "the value for each row" if gradient is None else f"the mean, and its gradient by {gradient} of them"
        numbers_of = f"w: {numbers} numbers, the data of the leaves"
        title = f'"""X: a row of {inputs} inputs for each sample; {numbers_of}. Returns {what}."""'
        code = textwrap.indent("\n".join([title, *start, body]), "    ")
        text = "\n\n\n".join(["import numpy as np", *self.grouped(code), f"def {name}(X, w):\n{code}"])
        return Source(text, name, {})

    def grouped(self, code: str) -> list[str]:
        """The tables and functions that the code uses: tables stand together."""
        used = set(re.findall(r"\w+", code))
        above = [x for x in self.above if re.split(r"\W", x.removeprefix("def "))[0] in used]
        tables = "\n".join(x for x in above if not x.startswith("def "))
        return [tables] * bool(tables) + [x for x in above if x.startswith("def ")]

    def steps_forward(self, rest: str) -> list[str]:
        """The lines that compute the arrays; an array that is read once, and whole, is written into its reader."""
        named = set(re.findall(r"\w+", rest))
        uses = [0] * len(self.sizes)
        whole = [True] * len(self.sizes)
        for step in self.steps.values():
            for k, places in step.reads if isinstance(step, Map) else _reads(step):
                uses[k] += 1
                whole[k] &= (
                    len(places) == self.sizes[k] and not self.index(k, places)
                    if len(places) > 1
                    else self.sizes[k] == 1
                )
        lines = []
        for k, step in self.steps.items():
            text = self.map(k, step) if isinstance(step, Map) else self.sum(k, step)
            name = f"h{k - LEAVES + 1}"
            if name not in named and uses[k] == 1 and whole[k] and len(text.text) <= WIDTH:
                self.inlined[k] = text
            else:
                lines.append(f"{name} = {text.text}")
        return lines

    def values(self, found: list[Any], count: int) -> tuple[list[str], str]:
        """The lines that gather the outputs, and what is returned: a number, or a row of them, for each row."""
        import numpy as np

        if count == 1:
            k, members, _ = found[0]
            text = self.one(k, int(members[0])).text
            return [], f"return np.full(len(X), {text})" if self.uniform[k] else f"return {text}"
        k, members, which = found[0]
        if len(found) == 1 and not self.uniform[k] and np.array_equal(which, np.arange(count)):
            return [], f"return {self.read(k, members)._inside(5)}.T"
        lines = [f"out = np.empty((rows, {count}))"]
        for k, members, which in found:
            index = str(which[0]) if len(which) == 1 else self.index_of(which, count)
            lines.append(f"out[:, {index}] = {self.read(k, members)._inside(5)}" + ".T" * (len(which) > 1))
        return lines, "return out"

    def index_of(self, which: Places, count: int) -> str:
        """Places in a result, in brackets."""
        step = int(which[1] - which[0])
        if (which[1:] - which[:-1] == step).all():
            return f"{which[0]}:{which[-1] + 1}" + (f":{step}" if step != 1 else "")
        return self.table(which)

    def backward(self, output: int, place: int, parameters: int, back: list[str]) -> str:
        """The lines of the backward sweep; returns the last one."""
        import numpy as np

        needs = needing(self.program)
        seed = Expr("1.0") if self.uniform[output] else Expr("np.full(rows, 1.0 / rows)")
        back.append("dw = np.zeros(len(w))")
        if needs[output]:
            self.give(output, np.array([place]), seed, not self.uniform[output], False)
        for k in reversed(self.steps):
            if k not in self.contributions or not needs[k]:
                continue
            back += self.adjoint_lines(k)
            step = self.steps[k]
            self.slopes = []
            if isinstance(step, Map):
                self.back_map(k, step, needs, back)
            else:
                for part in step.parts:
                    if isinstance(part, Terms):
                        self.back_terms(k, part, needs)
                    else:
                        self.back_products(k, part, needs)
            back += self.slopes
            self.slopes = []
        back += self.slopes
        text = self.one(output, place).text
        value = text if self.uniform[output] else f"{text}.mean()"
        return f"return {value}, dw" + ("" if parameters == self.sizes[PARAMETERS] else f"[:{parameters}]")

    def adjoint_lines(self, k: int) -> list[str]:
        """The lines that add up the recorded contributions to an adjoint."""
        name = self.adjoint(k)
        if len(self.contributions[k]) == 1 and re.fullmatch(r"\w+", self.contributions[k][0][1]):
            index, text = self.contributions[k][0]
            if not index:
                self.same[k] = text
                return []
        wholes = [text for index, text in self.contributions[k] if not index]
        parts = [index for index, _ in self.contributions[k] if index]
        if not wholes:
            return [f"{name} = np.zeros(({self.sizes[k]}, {self.columns(k)}))", *parts]
        if parts and len(wholes) == 1:
            return [f"{name} = {wholes[0]} + 0.0", *parts]
        return [f"{name} = {' + '.join(wholes)}", *parts]


def _broken(line: str) -> str:
    """A line, broken into several if it is long."""
    found = re.fullmatch(r"(\w+(?:\[.*\])? \+?=|return) (.*)", line)
    if len(line) <= 112 or found is None:
        return line
    inner = textwrap.wrap(found[2], 108, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"{found[1]} (", *(f"    {part}" for part in inner), ")"])


def _reads(step: Sum) -> list[tuple[int, Places]]:
    """The arrays that a sum reads; one read through a table counts twice, so that it is not written in place."""
    found = []
    for part in step.parts:
        if isinstance(part, Terms):
            found += [(part.source, part.places.ravel())] * (2 if 1 not in part.places.shape else 1)
            continue
        for k, places in ((part.left, part.left_places), (part.right, part.right_places)):
            found += [(k, places.ravel())]
    return found


def _range(places: Places) -> str:
    """The expression of a table of places: a sum of ranges, or a list of numbers."""
    found = levels(places)
    shape = "" if places.ndim == 1 else f".reshape{places.shape}"
    if found is None or len(found[1]) < 1:
        text = _wrapped("np.array([", ", ".join(map(str, places.ravel().tolist())), "])")
        return text + shape
    first, ranges = found
    terms = [str(first)] * (first != 0)
    for depth, (count, step) in enumerate(ranges):
        later = len(ranges) - 1 - depth
        factor = "" if step == 1 else f"{step} * "
        terms.append(f"{factor}np.arange({count})" + (f"[:{', None' * later}]" if later else ""))
    text = " + ".join(terms).replace("+ -", "- ")
    if len(terms) == 1 and not shape:
        return text
    return f"({text})" + (shape or (".ravel()" if len(ranges) > 1 else ""))


def _wrapped(before: str, inside: str, after: str) -> str:
    """Numbers in brackets, in one or several lines."""
    if len(before) + len(inside) + len(after) <= 116:
        return before + inside + after
    lines = textwrap.wrap(inside, 112)
    return "\n".join([before, *(f"    {line}" for line in lines), after])

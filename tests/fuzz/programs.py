"""Random Python functions, as source: what people write around arithmetic on floats.

A program is a function of a few floats and ints. It branches, loops, catches exceptions, keeps numbers in lists, dicts
and dataclasses, copies and sorts them, and calls functions of its own. Every loop ends, no whole number grows without
bound, and nothing is read before it is written: what a program raises is ZeroDivisionError, ValueError, OverflowError
or IndexError, for floats as for Values.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from micrograd_bp.nn import net_input

# Constructs that a run can leave out, by name: what holds of the library without them can be asked on its own.
FEATURES = ("equality", "copies", "exceptions", "text", "integers", "closures")
COMMON = (0.0, 1.0, -1.0, 0.5, 2.0, -0.0, 3.0, -2.0, 0.1, -0.5)
WILD = (
    math.inf, -math.inf, math.nan, 1e308, -1e308, 1.7976931348623157e308, 5e-324, -5e-324, 2.2250738585072014e-308,
    1e-300, 1e-16, 1e16, 2.0**53, 709.0, 1e154, -745.5,
)  # fmt: skip
UNARY = (
    "sqrt", "exp", "log", "sin", "cos", "tanh", "fabs", "atan", "expm1", "log1p", "log2", "log10", "exp2", "cbrt",
    "tan", "asin", "acos", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "gamma", "lgamma", "degrees",
    "radians",
)  # fmt: skip
BINARY = ("atan2", "hypot", "copysign", "fmod", "pow", "remainder")
CAUGHT = ("ZeroDivisionError", "ValueError", "OverflowError", "ArithmeticError", "(ValueError, ArithmeticError)")


@dataclasses.dataclass
class Point:
    """The dataclass that programs use."""

    u: Any
    v: Any


def plain_sum(numbers: Any, start: Any = 0) -> Any:
    """`sum` as additions from left to right, which is what it is on Values; of floats it is more from 3.12 on."""
    return functools.reduce(lambda x, y: x + y, numbers, start)


def real_power(x: Any, y: Any) -> Any:
    """x**y in the reals, as Values have it: ValueError where plain numbers would turn complex."""
    if isinstance(x, (int, float)) and isinstance(y, (int, float)) and -math.inf < x < 0.0 < y % 1.0:
        raise ValueError("a negative base with a fractional exponent")
    return x**y


class Powers(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Pow):
            return node
        return ast.Call(ast.Name("real_power", ast.Load()), [node.left, node.right], [])


class Handlers(ast.NodeTransformer):
    """Each `except` says first that it was reached."""

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(ast.Call(ast.Name("caught", ast.Load()), [], [])))
        return node


@dataclasses.dataclass(frozen=True, repr=False)
class FuzzProgram:
    """The source of a function `f`, and the rows of arguments that it is called with, one after the other."""

    source: str
    rows: tuple[tuple[float | int, ...], ...]

    def function(self, library: Any, caught: Callable[[], None] | None = None) -> Callable[..., Any]:
        """The function, with `math` or a drop-in for it; `caught` is called in every `except`."""
        tree: ast.Module = Powers().visit(ast.parse(self.source))
        if caught:
            tree = Handlers().visit(tree)
        scope = {"math": library, "copy": copy, "dataclasses": dataclasses, "Point": Point, "real_power": real_power}
        scope["net_input"] = net_input
        scope |= {"caught": caught, "__name__": "fuzz"} | ({"sum": plain_sum} if sys.version_info >= (3, 12) else {})
        exec(compile(ast.fix_missing_locations(tree), "<program>", "exec"), scope)
        function: Callable[..., Any] = scope["f"]
        return function

    def __repr__(self) -> str:
        return "\n".join([self.source, *[f"f({', '.join(map(shown, row))})" for row in self.rows]])


def shown(x: float | int) -> str:
    return repr(x) if math.isfinite(x) else f'float("{x!r}")'


@functools.cache
def whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


class Author:
    """Writes one function. The methods for expressions give text: of an expression that is a float for sure
    (`real`), a float or a whole number (`number`), a truth (`truth`), a whole number (`integer`)."""

    def __init__(self, draw: Callable[..., Any], without: frozenset[str], floats: list[str], ints: list[str]) -> None:
        self.draw, self.without = draw, without
        self.reals, self.ints = list(floats), list(ints)  # names in scope
        self.numbers: list[str] = []
        self.lists: list[str] = []
        self.dicts: list[str] = []
        self.points: list[str] = []
        self.functions: list[str] = []
        self.own: set[str] = {*floats}  # what the function at hand may assign
        self.lines: list[str] = []
        self.indent, self.nesting, self.names, self.loops = 1, 0, 0, 0
        self.budget = self.upto(12) + 2

    # --- drawing ---

    def upto(self, high: int) -> int:
        number: int = self.draw(whole(0, high))
        return number

    def pick(self, *options: Any) -> Any:
        """One of the options; a program shrinks towards the first."""
        return options[self.upto(len(options) - 1)] if len(options) > 1 else options[0]

    def has(self, feature: str) -> bool:
        return feature not in self.without

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    # --- expressions ---

    def constant(self) -> str:
        return repr(self.pick(*COMMON) if self.upto(9) < 9 else self.pick(*(x for x in WILD if math.isfinite(x))))

    def real(self, depth: int) -> str:
        if depth <= 0 or self.upto(5) == 0:
            return self.pick(*self.reals, self.reals[-1]) if self.upto(3) < 3 else self.constant()
        write = self.pick(
            self.operator, self.operator, self.operator, self.operator, self.row, self.row, self.row, self.power,
            self.rows, self.signed, self.chosen, self.rare, self.rare,
        )  # fmt: skip
        return write(depth - 1)

    def operator(self, depth: int) -> str:
        sides = self.real(depth), self.number(depth)
        left, right = sides if self.upto(2) < 2 else sides[::-1]
        return f"({left} {self.pick('+', '*', '-', '/', '*', '-', '/', '%', '//')} {right})"

    def power(self, depth: int) -> str:
        exponent = self.pick("2", "0.5", "3", "-1", "0", "1", "2.0", "-2", "1.5", "")
        return f"{self.real(depth)} ** {exponent or self.number(depth)}".join("()")

    def row(self, depth: int) -> str:
        return f"math.{self.pick(*UNARY[: 6 if self.upto(1) else None])}({self.number(depth)})"

    def rows(self, depth: int) -> str:
        kind = self.upto(9)
        if kind < 7:
            return f"math.{self.pick(*BINARY)}({self.real(depth)}, {self.number(depth)})"
        if kind == 7:
            return f"math.ldexp({self.real(depth)}, {self.integer(depth)} % 5 - 2)"
        if kind == 8:
            return f"math.fsum({self.real(depth)} for _ in range(2))"
        return f"math.dist(({self.real(depth)}, {self.number(depth)}), ({self.number(depth)}, 1.0))"

    def signed(self, depth: int) -> str:
        return self.pick("-{}", "abs({})", "+{}", "(-{})").format(self.real(depth))

    def chosen(self, depth: int) -> str:
        return f"({self.real(depth)} if {self.truth(depth)} else {self.real(depth)})"

    def rare(self, depth: int) -> str:
        x = self.real(depth)
        options = [f"round({x}, {self.pick(0, 1, 2, -1)})", f"divmod({x}, {self.number(depth)})[{self.upto(1)}]"]
        options.append(f"math.modf({x})[{self.upto(1)}]")
        options.append(f"math.frexp({x})[0]")
        options.append(f"(lambda y: y * {self.pick('y', x)})({self.real(depth)})")
        options.append(f"math.prod([{x}, {self.number(depth)}])")
        options.append(f"net_input([{x}, {self.number(depth)}], [{self.real(depth)}, 0.5], {self.number(depth)})")
        if self.has("copies"):
            options += [f"copy.copy({x})", f"copy.deepcopy({x})", f"copy.deepcopy([{x}])[0]"]
        if self.has("text"):
            options.append(f'float(format({x}, ".3f"))')
        if self.functions:
            options += [self.call(depth)] * 3
        return self.pick(*options)

    def call(self, depth: int) -> str:
        name = self.pick(*self.functions)
        count = self.integer(depth)
        return f"{name}({self.real(depth)}, {count} % 4)" if name[0] == "r" else f"{name}({self.real(depth)})"

    def number(self, depth: int) -> str:
        """A float, or a whole number that may stand where a float could."""
        kind = self.upto(9)
        if depth <= 0 or kind < 4:
            if self.numbers and self.upto(3) == 0:
                return self.pick(*self.numbers)
            return self.real(depth) if kind or not self.has("integers") else self.integer(0)
        depth -= 1
        if kind == 4:
            return f"{self.pick('min', 'max')}({self.number(depth)}, {self.number(depth)})"
        holders = [
            write
            for names, write in ((self.lists, self.of_list), (self.dicts, self.of_dict), (self.points, self.of_point))
            if names
        ]
        if kind in (5, 6, 7) and holders:
            return self.pick(*holders)(depth)
        if kind == 8 and self.has("integers"):
            return self.integer(depth)
        if kind == 9:
            return f"({self.number(depth)} if {self.truth(depth)} else {self.number(depth)})"
        return self.real(depth)

    def of_list(self, depth: int) -> str:
        items = self.pick(*self.lists)
        return self.pick(
            f"sum({items})", f"{items}[0]", f"max({items})", f"min({items})", f"sorted({items})[-1]",
            f"{items}[-1]", f"{items}[{self.integer(depth)} % 3]", f"sum(y * y for y in {items})",
            f"max({items}, key=abs)", f"sum(sorted({items}, reverse=True)[:2])", f"max({items}, default=0.0)",
            f"{items}[max(range(len({items})), key={items}.__getitem__)]", f"math.fsum({items})",
            f"math.prod({items})", f"math.hypot(*{items})",
        )  # fmt: skip

    def of_dict(self, depth: int) -> str:
        items = self.pick(*self.dicts)
        return self.pick(
            f"{items}.get({self.integer(depth)}, {self.number(depth)})", f"sum({items}.values())",
            f"max({items}.values())", f"{items}[min({items})]",
        )  # fmt: skip

    def of_point(self, depth: int) -> str:
        point = self.pick(*self.points)
        options = [f"{point}.u", f"{point}.v"]
        if self.has("copies"):
            options += [f"copy.copy({point}).u", f"copy.deepcopy({point}).v", f'dataclasses.asdict({point})["u"]']
            options += [f"dataclasses.replace({point}, u={self.number(depth)}).{self.pick('u', 'v')}"]
            options += [f"sum(dataclasses.astuple({point}))"]
        return self.pick(*options)

    def integer(self, depth: int) -> str:
        if depth <= 0 or self.upto(2) == 0:
            return self.pick(*self.ints) if self.ints and self.upto(3) else repr(self.upto(3))
        depth -= 1
        options = [
            f"int({self.real(depth)})", f"math.floor({self.real(depth)})", f"round({self.real(depth)})",
            f"math.ceil({self.real(depth)})", f"math.trunc({self.real(depth)})", f"({self.integer(depth)} + 1)",
            f"({self.integer(depth)} % 3)", f"int({self.truth(depth)})", f"({self.integer(depth)} // 2)",
        ]  # fmt: skip
        if self.lists:
            options.append(f"len({self.pick(*self.lists)})")
            if self.has("equality"):
                options += [f"{self.pick(*self.lists)}.{self.pick('count', 'index')}({self.number(depth)})"]
        if self.has("equality"):
            options.append(f"sorted([({self.number(depth)}, 1), ({self.number(depth)}, 0)])[0][1]")
        return self.pick(*options)

    def truth(self, depth: int) -> str:
        depth -= 1
        x, y = self.real(depth), self.number(depth)
        kind = self.upto(15)
        if kind < 4:
            return f"{x} {self.pick('<', '>', '<=', '>=')} {y}"
        if (kind < 7 or kind > 13) and self.has("equality"):
            return self.pick(
                f"{x} == {y}", f"{x} != {y}", f"{x} == {self.pick('0', '1', '0.0')}", f"{x} != {x}",
                f"{x} in ({y}, {self.number(depth)})", f"{x} not in (0.0, 1.0)",
                f"({x}, {y}) < ({self.real(depth)}, {self.number(depth)})", f"[{x}, {y}] == [{y}, {x}]",
                f"(0, {x}) <= (0, {y})", f"{y} == {x} == {self.number(depth)}", f"{{0: {x}}} == {{0: {y}}}",
            )  # fmt: skip
        if kind == 7:
            return f"{self.number(depth)} {self.pick('<', '<=')} {x} {self.pick('<', '>=')} {y}"
        if kind == 8:
            return self.pick(f"not {x}", f"bool({x})", x)
        if kind == 9 and depth > 0:
            return f"({self.truth(depth)} {self.pick('and', 'or')} {self.truth(depth)})"
        if kind == 10 and self.lists:
            items = self.pick(*self.lists)
            return self.pick(f"any(y > {x} for y in {items})", f"all(y < {x} for y in {items})", f"any({items})")
        if kind == 11:
            return self.pick(
                f"math.isnan({x})", f"math.isinf({x})", f"math.isfinite({x})", f"math.isclose({x}, {y})",
                f"math.copysign(1.0, {x}) < 0.0",
            )  # fmt: skip
        if kind == 12 and self.has("integers"):
            n = self.integer(depth)
            return self.pick(f"{n} == 1", f"{n} % 2 == 0", f"{n} < 2", f"{n} in (0, 2)", f"{n} <= {x}")
        return f"{x} < {y}"

    # --- statements ---

    def write(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    @contextmanager
    def block(self, *headers: str) -> Any:
        """An indented block: the names that it brings are gone after it."""
        for header in headers:
            self.write(header)
        kept = [list(names) for names in self.scopes()]
        self.indent += 1
        self.nesting += 1
        start = len(self.lines)
        yield
        if len(self.lines) == start:
            self.write("pass")
        self.nesting -= 1
        self.indent -= 1
        for names, before in zip(self.scopes(), kept, strict=True):
            names[:] = before

    def scopes(self) -> list[list[str]]:
        return [self.reals, self.numbers, self.ints, self.lists, self.dicts, self.points, self.functions]

    def statements(self, most: int) -> None:
        for _ in range(self.pick(1, *range(1, most + 1), most)):
            if self.budget > 0:
                self.budget -= 1
                options = [self.assign, self.assign, self.augment, self.build, self.change]
                if self.nesting < 3:
                    options += [self.branch, self.branch, self.repeat, self.each, self.match, self.leave]
                    options += [self.attempt] * 2 * self.has("exceptions")
                    options += [self.define] * self.has("closures")
                if self.loops:
                    options.append(self.jump)
                self.pick(*options)()

    def assign(self) -> None:
        if self.upto(2) == 0:
            name, text = self.name("m"), self.number(2)
            self.write(f"{name} = {text}")
            self.numbers.append(name)
            self.own.add(name)
            return
        mine = [name for name in self.reals if name in self.own]
        text = self.real(3)
        name = self.pick("", *mine) or self.name("v")
        self.write(f"{name} = {text}")
        if name not in self.reals:
            self.reals.append(name)
            self.own.add(name)

    def augment(self) -> None:
        mine = [name for name in self.reals if name in self.own]
        if len(mine) > 1 and self.upto(3) == 0:
            x, y = self.pick(*mine), self.pick(*mine)
            self.write(f"{x}, {y} = {self.real(1)}, {x}")
        elif mine:
            self.write(f"{self.pick(*mine)} {self.pick('+=', '*=', '-=', '/=')} {self.number(2)}")

    def build(self) -> None:
        kind = self.upto(4)
        if kind < 2:
            name = self.name("a")
            first, *others = [self.number(2) for _ in range(1 + self.upto(2))]
            inside = [first, *others]
            text = f"[{', '.join(inside)}]"
            if self.lists and self.upto(2) == 0:
                other = self.pick(*self.lists)
                more = [f"copy.{self.pick('copy', 'deepcopy')}({other})"] if self.has("copies") else []
                y = self.pick(*self.reals)
                text = self.pick(
                    f"[y * {y} for y in {other}]", f"{other}[::-1]", f"sorted({other})", f"{other} + [{y}]",
                    f"[y for y in {other} if y > {y}]", f"list(map(abs, {other}))", *more,
                )  # fmt: skip
            self.write(f"{name} = {text}")
            self.lists.append(name)
        elif kind == 2:
            name = self.name("d")
            self.write(f"{name} = {{{self.integer(1)}: {self.number(2)}, 1: {self.number(2)}}}")
            self.dicts.append(name)
        else:
            name = self.name("p")
            text = f"Point({self.real(1)}, {self.number(2)})"
            if self.points and self.has("copies") and self.upto(1):
                other = self.pick(*self.points)
                text = self.pick(f"dataclasses.replace({other}, v={self.real(1)})", f"copy.deepcopy({other})")
            self.write(f"{name} = {text}")
            self.points.append(name)

    def change(self) -> None:
        options = []
        if self.lists:
            items = self.pick(*self.lists)
            options += [f"{items}.append({self.number(1)})", f"{items}[{self.integer(1)} % 2] = {self.number(2)}"]
            options += [f"{items}.sort()", f"{items}.reverse()", f"{items}[0] *= {self.real(1)}"]
            options += [f"{items}.remove({self.number(1)})"] * self.has("equality")
        if self.dicts:
            items = self.pick(*self.dicts)
            options += [f"{items}[{self.integer(1)}] = {self.number(2)}", f"{items}[1] += {self.real(1)}"]
        if self.points:
            options += [f"{self.pick(*self.points)}.{self.pick('u', 'v')} = {self.number(2)}"]
        if options:
            self.write(self.pick(*options))

    def branch(self) -> None:
        with self.block(f"if {self.truth(2)}:"):
            self.statements(2)
        if self.upto(2) == 0:
            with self.block(f"elif {self.truth(1)}:"):
                self.statements(2)
        if self.upto(1):
            with self.block("else:"):
                self.statements(2)

    def repeat(self) -> None:
        count = self.name("i")
        self.write(f"{count} = 0")
        with self.block(f"while {self.truth(2)}:"):
            self.write(f"{count} += 1")
            with self.block(f"if {count} > {self.upto(3)}:"):
                self.write("break")
            self.ints.append(count)
            self.loops += 1
            self.statements(2)
            self.loops -= 1

    def each(self) -> None:
        name = self.name("i")
        if self.lists and self.upto(1):
            items = self.pick(*self.lists)
            with self.block(f"for {name} in list({items}):"):
                self.numbers.append(name)
                self.loops += 1
                self.statements(2)
                self.loops -= 1
            return
        with self.block(
            f"for {name} in range({self.pick('3', self.integer(1) + ' % 4', f'min({self.integer(2)}, 3)')}):"
        ):
            self.ints.append(name)
            self.loops += 1
            self.statements(2)
            self.loops -= 1

    def jump(self) -> None:
        with self.block(f"if {self.truth(1)}:"):
            self.write(self.pick("break", "continue"))

    def leave(self) -> None:
        with self.block(f"if {self.truth(2)}:"):
            if self.upto(5) == 0 and self.has("exceptions"):
                self.write(f"raise {self.pick('ValueError', 'ZeroDivisionError')}")
            else:
                self.write(f"return {self.number(2)}")

    def attempt(self) -> None:
        with self.block("try:"):
            self.assign()
            self.statements(2)
        with self.block(f"except {self.pick(*CAUGHT)}:"):
            self.statements(2)
        if self.upto(3) == 0:
            with self.block("else:"):
                self.statements(1)
        if self.upto(4) == 0:
            with self.block("finally:"):
                self.augment()

    def match(self) -> None:
        subject = self.integer(1)
        patterns = ["0", "1 | 2", "-1"]
        if self.has("equality") and self.upto(2):
            subject = self.real(1)
            patterns = ["0.0", "1", "0.5 | 2.0", "-1.0"]
        with self.block(f"match {subject}:"):
            with self.block(f"case {self.pick(*patterns)}:"):
                self.statements(2)
            if self.upto(1):
                name = self.name("i")
                with self.block(f"case {name} if {name} > {self.number(1)}:"):
                    self.numbers.append(name)
                    self.statements(1)
            if self.upto(1):
                with self.block("case _:"):
                    self.statements(2)

    def define(self) -> None:
        """A function inside: a closure, one that counts down, or one that changes a name outside."""
        recursive = self.upto(2) == 0
        name = self.name("r" if recursive else "g")
        mine = [x for x in self.reals if x in self.own]
        argument, own, loops = self.name("y"), self.own, self.loops
        outside = self.pick("", *mine) if self.indent == 1 or self.upto(1) else ""
        self.own, self.loops = {argument}, 0
        with self.block(f"def {name}({argument}{', n' * recursive}):"):
            if outside:
                self.write(f"nonlocal {outside}")
                self.own.add(outside)
            self.reals.append(argument)
            if recursive:
                with self.block("if n == 0:"):
                    self.write(f"return {self.real(1)}")
                self.write(f"return {name}({self.real(2)}, n - 1){self.pick('', f' * {argument}')}")
            else:
                self.statements(2)
                self.write(f"return {self.real(2)}")
        self.own, self.loops = own, loops
        self.functions.append(name)


@functools.cache
def arguments(kind: str) -> st.SearchStrategy[float]:
    """The floats of a row: of few values, so that many are equal; middling; or any at all."""
    few, middling = st.sampled_from(COMMON[:5]), st.floats(-4.0, 4.0)
    if kind == "few":
        return few
    if kind == "middling":
        return st.one_of(middling, middling, st.sampled_from(COMMON))
    return st.one_of(st.sampled_from(COMMON), middling, st.sampled_from(WILD), st.floats())


@st.composite
def programs(draw: Callable[..., Any], without: frozenset[str] = frozenset(), most_rows: int = 4) -> FuzzProgram:
    """A Hypothesis strategy: a function and the rows to call it with."""
    floats = [f"x{i}" for i in range(1 + draw(whole(0, 2)))]
    ints = [f"n{i}" for i in range(draw(whole(0, 2)))] if "integers" not in without else []
    author = Author(draw, without, floats, ints)
    author.statements(6)
    parts = [author.number(2), *author.reals[len(floats) :][-2:], *author.numbers[-1:]]
    author.write(f"return {' + '.join(parts)}")
    source = "\n".join([f"def f({', '.join(floats + ints)}):", *author.lines])
    rows = []
    for _ in range(1 + draw(whole(0, most_rows - 1))):
        kind = draw(st.sampled_from(("any", "middling", "few", "few")))
        rows.append((*(draw(arguments(kind)) for _ in floats), *(draw(whole(-3, 5)) for _ in ints)))
    return FuzzProgram(source, tuple(rows))

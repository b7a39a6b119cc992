"""Programs with loops as C99: `for` loops over carried numbers; reversed loops read what the others have stored."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

from micrograd_bp._engine.instructions import INSTRUCTIONS
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.compiler.array_c import CHAIN, LINE, counted, spelled, table
from micrograd_bp.compiler.loop_text import LoopWriter
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.program import FlatProgram, InstructionFor, Loop
from micrograd_bp.ops import Op, chain

KEYWORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long register
restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
"""
# Further names that a variable cannot have: keywords of C++, names of math.h, and names in the functions.
TAKEN = """
alignas alignof and and_eq asm bitand bitor bool catch class compl concept const_cast constexpr consteval constinit
decltype delete dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr operator
or or_eq private protected public reinterpret_cast requires static_assert static_cast template this throw true try
typeid typename using virtual xor xor_eq NAN INFINITY HUGE_VAL HUGE_VALF EOF NULL i v x w out gradient cotangent main
chain
"""


class LoopsInC(LoopWriter):
    """Writes the lines of one function; `above` has the tables and functions that it uses, `size` is its workspace's.

    inputs: the names of the inputs.
    """

    def __init__(
        self,
        program: FlatProgram,
        inputs: Sequence[str],
        native: InstructionFor,
        literal: Callable[[float], str],
        call: Callable[[str, Op, list[str]], str],
        exact: bool,
    ) -> None:
        def known(op: Op, count: int, exact: bool) -> str:
            return "chain" if op is chain else native(op, count, exact)

        program = lower(program, known, exact)
        names = dict(zip(program.inputs, inputs)) | {i: f"w[{k}]" for k, i in enumerate(program.parameters)}
        self.number, self.call = literal, call
        self.size = 0
        self.exact = exact
        super().__init__(program, known, names, [*KEYWORDS.split(), *TAKEN.split(), *INSTRUCTIONS])

    def function(self, results: Sequence[str]) -> list[str]:
        """The lines of the function; results: what each output is assigned to, "return" if it is returned."""
        self.write()
        end = self.parts[-1]
        ends = [(place, self.expression(i, end).text) for place, i in zip(results, self.program.outputs, strict=True)]
        self.lines += [f"{place} = {text};" for place, text in ends if place != "return"]
        self.lines += [f"return {text};" for place, text in ends if place == "return"]
        return [part for line in self.lines for part in _broken(line)]

    def spell(self, op: Op, operands: list[Expr]) -> Expr:
        name = self.native(op, len(operands), self.exact)
        if name == "chain":
            if CHAIN not in self.above:
                self.above.append(CHAIN)
            return Expr(f"chain({', '.join(x.text for x in operands)})")
        return spelled(name, op, operands, self.call)

    def chosen(self, test: str, x: Expr, y: Expr) -> Expr:
        return Expr(f"{test} ? {x._inside(1)} : {y.text}", 0)

    def truth(self, x: Expr) -> str:
        return f"{x._inside(1)} != 0.0"

    def literal(self, x: float) -> Expr:
        text = self.number(x)
        return Expr(text[1:-1], 3) if text.startswith("(-") else Expr(text)

    def sequence(self, name: str) -> str:
        return "x" if name == "inputs" else "w"

    def table(self, name: str, numbers: tuple[str, ...]) -> str:
        return table(f"static const double {name}[{len(numbers)}]", numbers)

    def define(self, name: str, text: str) -> list[str]:
        return [f"const double {name} = {text};"]

    def declare(self, name: str, text: str) -> list[str]:
        return [f"double {name} = {text};"]

    def before(self, name: str) -> list[str]:
        return [f"double {name} = 0.0;"]

    def assign(self, names: list[str], texts: list[str]) -> list[str]:
        later = [(self.fresh(f"next_{name}"), text) for name, text in zip(names[1:], texts[1:])]
        lines = [f"const double {name} = {text};" for name, text in later]
        lines.append(f"{names[0]} = {texts[0]};")
        return lines + [f"{name} = {text};" for name, (text, _) in zip(names[1:], later)]

    def keep(self, i: int, loop: Loop) -> str:
        name = self.fresh(f"kept_{self.names[i].text}") if i in self.names else self.numbered("kept")
        self.lines.append(f"double *const {name} = v{f' + {self.size}' if self.size else ''};")
        self.size += loop.count
        return name

    def store(self, name: str, text: str, loop: Loop) -> str:
        return f"{name}[{f'{loop.count - 1} - i' if self.descends(loop) else 'i'}] = {text};"

    def turns(self, loop: Loop, lines: list[str]) -> list[str]:
        return counted("i", loop.count, lines, self.descends(loop))


def _broken(line: str) -> list[str]:
    """A line, broken into several if it is long."""
    if len(line) <= LINE:
        return [line]
    indent = re.match(" *", line)
    assert indent is not None
    after = f"{indent[0]}    "
    return textwrap.wrap(
        line, LINE, subsequent_indent=after, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )

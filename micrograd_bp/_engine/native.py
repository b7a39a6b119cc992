"""The table written as code: a row's formula or rule, run on terms, is a list of steps; these are written out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from micrograd_bp._engine.instructions import INSTRUCTIONS
from micrograd_bp._engine.op import Op, Operand, number


class Term(Operand):
    """The result of a step, for a formula to go on with. Asked whether it is true, it raises TypeError."""

    __slots__ = ("index", "steps")

    def __init__(self, steps: Steps, index: int) -> None:
        self.steps, self.index = steps, index

    @staticmethod
    def _record(op: Op, args: tuple[Any, ...]) -> Any:
        steps = next(x.steps for x in args if isinstance(x, Term))
        return steps.take(op, tuple([x if isinstance(x, Term) else number(x, op.name) for x in args]))

    def __bool__(self) -> bool:
        raise TypeError("a term of a formula is neither true nor false; choose with where(c, x, y)")


class Steps:
    """What formulas of the same arguments compute, step by step, equal steps merged.

    opens: whether a row is taken apart into the rows of its own formula.
    """

    def __init__(self, parameters: Sequence[str], opens: Callable[[Op], bool]) -> None:
        self.opens = opens
        self.rows: list[Op | str] = list(parameters)
        self.operands: list[tuple[int | float, ...]] = [()] * len(parameters)
        self.known: dict[Any, Term] = {}
        self.arguments = [Term(self, k) for k in range(len(parameters))]

    def take(self, op: Op, args: tuple[Any, ...]) -> Any:
        """The row on these terms and floats: a step, or the steps of its formula."""
        if op.decomposition is not None and self.opens(op):
            return op.decomposition(*args)
        operands = tuple([x.index if isinstance(x, Term) else x for x in args])
        key = op, tuple(map(repr, operands))  # 0.0 and -0.0 are two
        if key not in self.known:
            self.known[key] = Term(self, len(self.rows))
            self.rows.append(op)
            self.operands.append(operands)
        return self.known[key]

    def written(self, results: Iterable[Any], dialect: Dialect) -> tuple[list[str], list[str]]:
        """Assignments of the steps that are needed more than once, and an expression for each of the results."""
        ends = [x.index if isinstance(x, Term) else float(x) for x in results]
        uses = [0] * len(self.rows)
        for x in ends:
            if isinstance(x, int):
                uses[x] += 1
        for i in reversed(range(len(self.rows))):
            if uses[i]:
                for k in self.operands[i]:
                    if isinstance(k, int):
                        uses[k] += 1
        texts: dict[int, str] = {}

        def text(x: int | float) -> str:
            return texts[x] if isinstance(x, int) else dialect.constant(x)

        lines = []
        for i, (row, operands) in enumerate(zip(self.rows, self.operands)):
            if isinstance(row, str):
                texts[i] = row
            elif uses[i]:
                texts[i] = dialect.expression(row, [text(k) for k in operands])
                if uses[i] > 1:
                    lines.append(dialect.assignment.format(f"t{i}", texts[i]))
                    texts[i] = f"t{i}"
        return lines, [text(x) for x in ends]


class Dialect:
    """Python, in which the rows of a formula are written."""

    assignment = "{} = {}"
    choice = "({1} if {0} else {2})"
    truth, falsity = "(1.0 if {} else 0.0)", "{}"

    def constant(self, x: float) -> str:
        return f"({x!r})" if repr(x)[0] == "-" else repr(x)

    def expression(self, op: Op, operands: list[str]) -> str:
        test = INSTRUCTIONS[op.native].test if op.native in INSTRUCTIONS else ""
        if test:
            return self.truth.format(test.format(*operands))
        if op.native == "select":
            return self.choice.format(self.condition(operands[0]), *operands[1:])
        return self.other(op, operands)

    def condition(self, text: str) -> str:
        """What a number's being nonzero says, in the shortest way: the comparison itself that made it 1.0 or 0.0."""
        before, after = self.truth.split("{}")
        inside = text[len(before) : -len(after)]
        whole = text.startswith(before) and text.endswith(after) and after not in inside
        return inside if whole else self.falsity.format(text)

    def other(self, op: Op, operands: list[str]) -> str:
        if hasattr(float, f"__{op.name}__") and not op.symbol.isalpha():
            return f"({f' {op.symbol} '.join(operands)})" if len(operands) == 2 else f"({op.symbol}{operands[0]})"
        return f"{op.name}({', '.join(operands)})"


def compile_formulas(table: dict[str, Op]) -> None:
    """Find the rows whose value is a formula in other rows, and write it as a function of floats.

    The formula becomes the row's decomposition, and the function its `forward`: that takes a third of the time.
    """
    for op in table.values():
        if getattr(op.forward, "__name__", "") == "<lambda>":
            count = 2 if op.arity is None else op.arity
            try:
                op.forward(*Steps(op.parameters * count, lambda op: False).arguments[:count])
            except TypeError:  # it is written in Python, not in rows: `x if c else y`
                continue
            object.__setattr__(op, "decomposition", op.forward)
    functions = []
    for op in table.values():
        if op.decomposition is op.forward and op.arity is not None:
            steps = Steps(op.parameters, lambda op: op.decomposition is op.forward)
            lines, (result,) = steps.written([op.decomposition(*steps.arguments)], Dialect())
            body = "".join(f"    {line}\n" for line in lines)
            functions.append(f"def {op.name}({', '.join(op.parameters)}):\n{body}    return {result}\n")
    names: dict[str, Any] = {"inf": float("inf"), "nan": float("nan"), **{op.name: op.forward for op in table.values()}}
    exec(compile("\n".join(functions), "<formulas of micrograd_bp.ops>", "exec"), names)
    for op in table.values():
        object.__setattr__(op, "forward", names[op.name])

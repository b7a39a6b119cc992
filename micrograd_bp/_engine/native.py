"""The table as code: a formula or rule, run on symbolic terms, gives a list of steps, written as Python or C."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from micrograd_bp._engine.ieee import Quiet, quietly, scaled
from micrograd_bp._engine.instructions import INSTRUCTIONS
from micrograd_bp._engine.op import Op, number
from micrograd_bp._engine.operand import TABLE, Operand


class Term(Operand):
    """The symbolic result of a step, an operand of further steps; `bool()` of it raises TypeError."""

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
    """A formula as a list of steps, in which equal steps are merged.

    opens: the ops that are replaced by the ops of their own formula.
    """

    def __init__(self, parameters: Sequence[str], opens: Collection[Op]) -> None:
        self.opens = opens
        self.ops: list[Op | str] = list(parameters)
        self.operands: list[tuple[int | float, ...]] = [()] * len(parameters)
        self.known: dict[Any, Term] = {}
        self.results: tuple[Any, ...] = ()

    def take(self, op: Op, args: tuple[Any, ...]) -> Any:
        """The op applied to these terms and floats: a step, or the steps of its formula."""
        if op.decomposition is not None and op in self.opens:
            return op.decomposition(*args)
        operands = tuple([x.index if isinstance(x, Term) else x for x in args])
        key = op, tuple(map(repr, operands))  # 0.0 and -0.0 are two
        if key not in self.known:
            self.known[key] = Term(self, len(self.ops))
            self.ops.append(op)
            self.operands.append(operands)
        return self.known[key]

    def calls(self) -> bool:
        """Whether a step is anything else than one of Python's operators."""
        return any(isinstance(op, Op) and not _is_operator(op) for op in self.ops)

    def written(self, dialect: Dialect) -> tuple[list[str], list[str]]:
        """Assignments for steps that are used more than once, and an expression for each result."""
        ends = [x.index if isinstance(x, Term) else float(x) for x in self.results]
        uses = [sum(type(x) is int and x == i for x in ends) for i in range(len(self.ops))]
        for i in reversed(range(len(self.ops))):
            for k in self.operands[i] if uses[i] else ():
                if isinstance(k, int):
                    uses[k] += 1
        texts: dict[int, str] = {}

        def text(x: int | float) -> str:
            return texts[x] if isinstance(x, int) else dialect.constant(x)

        lines = []
        for i, (op, operands) in enumerate(zip(self.ops, self.operands)):
            if isinstance(op, str):
                texts[i] = op
            elif uses[i]:
                texts[i] = dialect.expression(op, [text(k) for k in operands])
                if uses[i] > 1 and not dialect.is_cheap(op):
                    lines.append(dialect.assignment.format(f"t{i}", texts[i]))
                    texts[i] = f"t{i}"
        return lines, [text(x) for x in ends]


def traced(formula: Callable[..., Any], op: Op, opens: Collection[Op], out: bool = False) -> Steps:
    """The steps of an op's formula, or of its rule, whose first argument is the value `out`."""
    parameters = ["out"] * out + [*op.parameters, *op.parameters[-1:] * (op.arity is None)]
    steps = Steps([f"{name}{k}" if name in parameters[:k] else name for k, name in enumerate(parameters)], opens)
    made = formula(*[Term(steps, k) for k in range(len(parameters))])
    steps.results = made if type(made) is tuple else (made,)
    return steps


def _is_operator(op: Op) -> bool:
    """Whether Python's floats have an operator for the op."""
    return hasattr(float, f"__{op.name}__") and not op.symbol.isalpha()


# --- Python -------------------------------------------------------------------------------------------------------


class Dialect:
    """How steps are written: here as Python on floats."""

    assignment = "{} = {}"
    choice = "({1} if {0} else {2})"
    one_or_zero, truth = "(1.0 if {} else 0.0)", "{}"

    def constant(self, x: float) -> str:
        return f"({x!r})" if repr(x)[0] == "-" else repr(x)

    def expression(self, op: Op, operands: list[str]) -> str:
        """The text of an op applied to operands."""
        test = INSTRUCTIONS[op.native].test if op.native in INSTRUCTIONS else ""
        if test:
            return self.one_or_zero.format(test.format(*operands))
        if op.native == "select":
            return self.choice.format(self.condition(operands[0]), *operands[1:])
        return self.other(op, operands)

    def is_cheap(self, op: Op) -> bool:
        """Whether a step is repeated at each use instead of being assigned, as a comparison is."""
        return op.native.startswith("fcmp")

    def condition(self, text: str) -> str:
        """Whether a number is not 0: of one that a comparison gives, the comparison."""
        before, after = self.one_or_zero.split("{}")
        inside = text[len(before) : -len(after)]
        is_comparison = text.startswith(before) and text.endswith(after) and after not in inside
        return inside if is_comparison else self.truth.format(text)

    def other(self, op: Op, operands: list[str]) -> str:
        if _is_operator(op):
            return f"({f' {op.symbol} '.join(operands)})" if len(operands) == 2 else f"({op.symbol}{operands[0]})"
        return f"{op.name}({', '.join(operands)})"


class OpCalls(Dialect):
    """Python in which ops are called, so that it runs on Values, and in which no arithmetic raises."""

    def expression(self, op: Op, operands: list[str]) -> str:
        return self.other(TABLE[Quiet.IEEE.get(op.name, op.name)], operands)

    def is_cheap(self, op: Op) -> bool:
        return False


class C(Dialect):
    """C on doubles. LookupError: there is no C that gives the bits of an op."""

    assignment = "const double {} = {};"
    choice = "({} ? {} : {})"
    one_or_zero, truth = "({} ? 1.0 : 0.0)", "{} != 0.0"

    def constant(self, x: float) -> str:
        return {"inf": "INFINITY", "-inf": "(-INFINITY)", "nan": "NAN"}.get(repr(x)) or super().constant(x)

    def other(self, op: Op, operands: list[str]) -> str:
        if op.native not in INSTRUCTIONS or not op.exact:
            raise LookupError(f"no C gives the bits of {op.name}")
        text = INSTRUCTIONS[op.native].text(op.native, operands)
        return f"({text})" if INSTRUCTIONS[op.native].c else text


def compile_formulas() -> None:
    """Write the formulas and rules of the table as functions of floats, which take a third of the time.

    An op whose value is a formula in other ops gets it as its decomposition, and the function as its `forward`. A rule
    that raises somewhere where the op has a value is written for Values as well: in IEEE arithmetic, so that it makes
    the same graph at every point.
    """
    for op in TABLE.values():
        if getattr(op.forward, "__name__", "") == "<lambda>":
            with contextlib.suppress(TypeError):  # it is written in Python, not in ops: `x if c else y`
                traced(op.forward, op, opens=())
                object.__setattr__(op, "decomposition", op.forward)
    opens = [op for op in TABLE.values() if op.decomposition is op.forward]
    fixed = [op for op in TABLE.values() if op.arity is not None]
    texts = [_function(op.name, traced(op.forward, op, opens), Dialect()) for op in fixed if op in opens]
    rules = [(op, traced(op.rule, op, opens, out=True)) for op in fixed if op.degree is None]
    texts += [_function(f"{op.name}_rule", rule, Dialect()) for op, rule in rules if rule.calls()]
    numbers = {"inf": float("inf"), "nan": float("nan")}
    names = _executed(texts, numbers | {op.name: op.forward for op in TABLE.values()})
    for op in TABLE.values():
        object.__setattr__(op, "forward", names[op.name])
        object.__setattr__(op, "rule_of_floats", names.get(f"{op.name}_rule", op.rule_of_floats))
    texts = []
    for op in filter(_is_singular, TABLE.values()):
        if op.arity is not None:
            texts.append(_function(f"{op.name}_rule", traced(op.rule_of_values, op, opens=(), out=True), OpCalls()))
        object.__setattr__(op, "rule_of_values", functools.partial(quietly, op))
    names = _executed(texts, numbers | TABLE)
    for op in TABLE.values():
        object.__setattr__(op, "rule_of_values", names.get(f"{op.name}_rule", op.rule_of_values))


def _function(name: str, steps: Steps, dialect: Dialect) -> str:
    """A Python function of the steps: of an op's value, or, as a tuple, of its rule."""
    lines, results = steps.written(dialect)
    body = "".join(f"    {line}\n" for line in lines)
    parameters = ", ".join(op for op in steps.ops if isinstance(op, str))
    return f"def {name}({parameters}):\n{body}    return {', '.join(results)}{',' * name.endswith('_rule')}\n"


def _executed(texts: Sequence[str], names: dict[str, Any]) -> dict[str, Any]:
    """Run the texts, which are written here from the table: the names, and the functions that they define."""
    exec(compile("\n".join(texts), "<formulas of micrograd_bp.ops>", "exec"), names)
    return names


def _is_singular(op: Op) -> bool:
    """Whether the rule raises where the op has a value: at 0, at 1, or at an end of the domain."""
    if not any(getattr(step, "name", "") in Quiet.IEEE for step in traced(op.rule, op, opens=(), out=True).ops):
        return False
    domains = [op.domain[min(k, len(op.domain) - 1)] for k in range(2 if op.arity is None else op.arity)]
    for point in itertools.product(*[(*ends, 0.0, 1.0, -1.0, 5e-324, 1050.0) for ends in domains]):
        with contextlib.suppress(ArithmeticError, ValueError):
            out = op.forward(*point)
            try:
                op.rule(out, *point)
            except (ArithmeticError, ValueError):
                return True
    return False


# --- C ------------------------------------------------------------------------------------------------------------

RULES = """\
# Written by micrograd_bp/_engine/native.py from the table of operations: do not edit.
cdef extern from *:
    \"\"\"
#include <math.h>
#if defined(__GNUC__)
#define ALWAYS __inline__ __attribute__((always_inline))
#else
#define ALWAYS __inline
#endif
/* The value of an op and its derivatives; 0 where the Op must do it: it may raise there. */
{functions}
    \"\"\"
    bint unary_rule(int code, double x, double *value, double *partial) noexcept
    bint binary_rule(int code, double x, double y, double *value, double *by_x, double *by_y) noexcept


cpdef enum Code:  # the ops of one argument, then those of two, by their names in capitals
{codes}

cdef enum:
    OP_COUNT = {count}
"""


def rules() -> str:
    """The ops of one and two arguments for the accelerated engine: a code for each, and value and derivatives in C.

    An op that no C can do is left out.
    """
    functions: list[str] = []
    codes: list[str] = []
    for count, name, arguments in ((1, "unary_rule", "double x"), (2, "binary_rule", "double x, double y")):
        places = ["*value", *["*partial", "*by_x", "*by_y"][count - 1 : 2 * count - 1]]
        cases = []
        for op in TABLE.values():
            if op.arity == count:
                with contextlib.suppress(LookupError):
                    cases.append(f"    case {len(codes)}: {{ /* {op.name} */ {_case(op, places)} }}")
                    codes.append(f"    {op.name.upper()} = {len(codes)}")
        pointers = ", ".join(f"double {place}" for place in places)
        functions.append(
            f"static ALWAYS int {name}(int code, {arguments}, {pointers})\n{{\n    switch (code) {{\n"
            + "\n".join(cases)
            + "\n    }\n    return 0;\n}"
        )
    return RULES.format(functions="\n".join(functions), codes="\n".join(codes), count=len(codes))


def _case(op: Op, places: list[str]) -> str:
    """The C statements for one op: they set its value and partials, and return 0 where the Op must compute them."""
    opens = [other for other in TABLE.values() if other.decomposition is not None]
    names = "xy"[: op.arity]
    steps = Steps(names, opens)
    arguments = [Term(steps, k) for k in range(len(names))]
    value = op.decomposition(*arguments) if op.decomposition else steps.take(op, tuple(arguments))
    steps.results = (value, *(op.rule if op.degree is None else functools.partial(scaled, op))(value, *arguments))
    lines, results = steps.written(C())
    noisy = {f"t{i}" for i, step in enumerate(steps.ops) if isinstance(step, Op) and not INSTRUCTIONS[step.native].calm}
    # What is infinite is left to the Op as well, for the processor's flags, of which NumPy warns. Of two derivatives
    # the first is looked at: that of a power by its exponent is nan below 0, and raises no flag.
    finite = [f"isfinite({place})" for place in places[:2]]
    finite += [f"!isinf({name})" for name in (line.split()[2] for line in lines) if name in noisy]
    calm = all(INSTRUCTIONS[step.native].calm for step in steps.ops if isinstance(step, Op))
    lines += [f"{place} = {result};" for place, result in zip(places, results, strict=True)]
    lines.append("return 1;" if calm else f"return {' && '.join(finite)};")
    return " ".join(lines)

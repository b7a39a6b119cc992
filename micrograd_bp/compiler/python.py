"""Write graphs as straight-line Python source: one assignment per node, with Python's operators.

>>> from micrograd_bp.value import Value, gradients
>>> a, b = Value(2.0, "a"), Value(-3.0, "b")
>>> source = python_source([(a * b).tanh()], [a, b])
>>> print(source)
def f(a, b):
    v1 = a * b
    v2 = tanh(v1)
    return (v2,)
>>> source.function()(0.5, 0.5)
(0.24491866240370913,)
"""

from __future__ import annotations

import math
import operator
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from micrograd_bp._engine.labels import check_values, fresh, node_names, usable
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp.ops import TABLE, Op, chain, ieee_pow, mul, pow
from micrograd_bp.value import Value, topological_order

NUMBERS = {"inf": math.inf, "nan": math.nan}  # floats whose repr is a name, not a literal
OUTPUTS = Op("outputs", ",", lambda *args: 0.0, lambda out, *args: (0.0,) * len(args))  # its operands are the outputs


class Source(str):
    """Python source of one function; `namespace` has the functions and numbers that it uses."""

    name: str
    namespace: dict[str, Any]

    def __new__(cls, text: str, name: str, namespace: dict[str, Any]) -> Source:
        source = super().__new__(cls, text)
        source.name = name
        source.namespace = namespace
        return source

    def function(self, **replaced: Any) -> Callable[..., Any]:
        """Compile the source to a function of floats; `replaced` overrides names of the namespace."""
        scope = self.namespace | replaced
        exec(compile(self, f"<{self.name} of micrograd_bp>", "exec"), scope)  # PythonWriter writes each name
        function: Callable[..., Any] = scope[self.name]
        return function

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"


class PythonWriter:
    """Writes the nodes of a graph as Python assignments to distinct names.

    An input or an interior node goes by its label, where that is a usable name and no other node has it, else it is
    x1, x2, ... (by its place among the inputs) or v1, v2, ... (in order of evaluation). Other leaves are numbers, or
    variables where they have such a label. `order` holds what is to be evaluated, each node after its operands.
    """

    def __init__(self, outputs: Sequence[Value], inputs: Sequence[Value], name: str) -> None:
        if not usable(name) or name in TABLE or name in NUMBERS:
            raise ValueError(f"{name!r} is no name for a function, or that of an op")
        if len(set(inputs)) != len(inputs):
            raise ValueError("the inputs are not distinct; pass each Value once")
        self.name, self.inputs = name, tuple(inputs)
        self.order = evaluation_order(outputs, inputs)
        self.namespace: dict[str, Any] = {}
        self.functions: dict[tuple[Op, str], str] = {}
        self.text = _text(self)
        names = node_names(self.order, inputs, usable, {*TABLE, *NUMBERS})
        self.taken = {*TABLE, *NUMBERS, *names.values(), name}
        self.variables = {node: self.text(name) for node, name in names.items()}

    def call(self, op: Op, part: str, args: Sequence[Expr | float]) -> str:
        """A call of an op's `forward` or `partials`, which is added to the namespace under a distinct name."""
        if (op, part) not in self.functions:
            name = op.name if part == "forward" else f"{op.name}_{part}"
            if TABLE.get(name) is not op:
                name = fresh(name if usable(name) else "op", self.taken)
            self.functions[op, part] = name
            self.namespace[name] = getattr(op, part)
        return f"{self.functions[op, part]}({', '.join(self.text.of(arg).text for arg in args)})"

    def operand(self, x: Value | float) -> Expr | float:
        """A variable's name, or the number that a constant is."""
        return self.variables.get(x, x.data) if isinstance(x, Value) else x

    def expression(self, op: Op, args: Sequence[Expr | float]) -> str:
        """The Python expression for an op on names and numbers."""
        return self.text._record(op, tuple(args)).text

    def forward(self) -> Iterable[str]:
        """The assignments that evaluate the outputs."""
        for node in self.order:
            if node.op is not None:
                text = self.expression(node.op, [*map(self.operand, node.operands)])
                if text.isidentifier() and text not in NUMBERS:
                    self.variables[node] = self.text(text)  # it is another variable
                else:
                    yield f"{self.variables[node].text} = {text}"
            elif node in self.variables:
                yield f"{self.variables[node].text} = {self.text.of(node.data).text}"

    def source(self, body: Iterable[str], results: tuple[str, str, str], header: bool = False) -> Source:
        """The source of the function, with a header that imports the ops it uses.

        `results`: what follows `return`, up to an opening bracket, within the brackets, and from there on.
        """
        before, inside, after = results
        arguments = ", ".join(self.variables[node].text for node in self.inputs)
        lines = [_wrapped(f"def {self.name}(", arguments, "):"), *(f"    {line}" for line in body)]
        lines.append(_wrapped(f"    return {before}", inside, after))
        return self.finished(lines, header)

    def finished(self, lines: list[str], header: bool = False) -> Source:
        """The source of these lines, with what they use."""
        written = set(re.findall(r"\w+", "\n".join(lines)))  # a rule may have called ops whose results are not used
        namespace = {name: x for name, x in self.namespace.items() if name in written}
        if header:
            imports = (("math", NUMBERS.keys()), ("micrograd_bp.ops", TABLE.keys()))
            needed = [(module, sorted(names & namespace.keys())) for module, names in imports]
            above = [f"from {module} import {', '.join(names)}" for module, names in needed if names]
            lines[:0] = [*above, "", ""] if above else []
        return Source("\n".join(lines), self.name, namespace)


def python_source(
    outputs: Sequence[Value],
    inputs: Sequence[Value],
    name: str = "f",
    *,
    guards: Sequence[tuple[Value, bool]] = (),
    header: bool = False,
) -> Source:
    """The graphs of the outputs as a function of the inputs, in Python.

    The function takes a float for every input (any node; what lies behind it is left out) and returns a tuple, a float
    for every output, with the bits that recording gives. A leaf that is no input is a constant. `name` is the
    function's. guards: nodes with the truth values that they must have, or the function raises AssertionError.
    header: whether the text imports the ops that it uses. ValueError: an input given twice, or a name that is none.

    >>> x = Value(3.0, "x")
    >>> print(python_source([2 * x**2 + 1], [x], name="parabola"))
    def parabola(x):
        v1 = x ** 2.0
        v2 = 2.0 * v1
        v3 = v2 + 1.0
        return (v3,)
    """
    check_values(outputs, "python_source", "outputs")
    check_values(inputs, "python_source", "inputs")
    writer = PythonWriter([*outputs, *[x for x, _ in guards]], inputs, name)
    body = [*writer.forward()]
    body += [f"assert {'' if truth else 'not '}{writer.text.of(writer.operand(x)).text}" for x, truth in guards]
    results = [writer.text.of(writer.operand(output)).text for output in outputs]
    return writer.source(body, ("(", ", ".join(results) + "," * (len(results) == 1), ")"), header)


def evaluation_order(outputs: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
    """Every node that the outputs need, each after its operands, but for the inputs and what only they need."""
    needed = set(outputs).difference(inputs)
    order = topological_order(OUTPUTS(*outputs))[:-1] if outputs else []
    given = set(inputs)
    for node in reversed(order):
        if node in needed:
            needed.update(x for x in node.operands if isinstance(x, Value) and x not in given)
    return [node for node in order if node in needed]


def _text(writer: PythonWriter) -> type[Expr]:
    """Expressions that give exactly an op's floats: an operator is used only where `forward` is Python's own."""

    class PythonText(Expr):
        __slots__ = ()
        RANKS: ClassVar = Expr.RANKS

        @classmethod
        def of(cls, x: Any) -> Expr:
            if isinstance(x, cls):
                return x
            text = repr(float(x))
            if not math.isfinite(x):
                writer.namespace |= NUMBERS
            return cls(text, 3 if text[0] == "-" else 5)

        @classmethod
        def _record(cls, op: Op, args: tuple[Any, ...]) -> Expr:
            if op.forward is getattr(operator, op.name, None) and op.symbol in cls.RANKS:
                return super()._record(op, args)
            names = [cls.of(arg) for arg in args]
            if op is pow and re.fullmatch(r"-?\d+\.0", names[1].text):  # other powers may be complex
                return cls(f"{names[0]._inside(5)} ** {names[1]._inside(3)}", 4)
            if op is chain and isinstance(args[0], float) and args[0]:  # a factor that is not 0: a plain product
                return super()._record(mul, args)
            if op is ieee_pow and args[1] == 1.0:
                return names[0]
            return cls(writer.call(op, "forward", names))

    return PythonText


def _wrapped(before: str, names: str, after: str) -> str:
    """Names in brackets, in one or several lines."""
    if len(before) + len(names) + len(after) <= 100:
        return before + names + after
    indent = " " * (len(before) - len(before.lstrip()))
    inner = textwrap.indent(textwrap.fill(names, 96, break_long_words=False, break_on_hyphens=False), indent + "    ")
    return f"{before}\n{inner}\n{indent}{after}"

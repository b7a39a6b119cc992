"""Graphs written as straight-line Python: one assignment a node, operators where Python has them.

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

import keyword
import math
import operator
import re
import reprlib
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from micrograd_bp.names import Name
from micrograd_bp.ops import TABLE, Op, chain, ieee_pow, mul, pow
from micrograd_bp.value import Value, topological_order

NUMBERS = {"inf": math.inf, "nan": math.nan}  # floats whose repr is a name
OUTPUTS = Op("outputs", ",", lambda *args: 0.0, lambda out, *args: (0.0,) * len(args))  # many outputs seen as one


class Source(str):
    """Python source of one function, with the functions and numbers that it needs in `namespace`."""

    name: str
    namespace: dict[str, Any]

    def __new__(cls, text: str, name: str, namespace: dict[str, Any]) -> Source:
        source = super().__new__(cls, text)
        source.name = name
        source.namespace = namespace
        return source

    def function(self, **replaced: Any) -> Callable[..., Any]:
        """The function, ready to be called with floats; `replaced` stands in for names of the namespace."""
        scope = self.namespace | replaced
        exec(compile(self, f"<{self.name} of micrograd_bp>", "exec"), scope)  # written here, name by name: see Writer
        function: Callable[..., Any] = scope[self.name]
        return function

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"


class Writer:
    """Writes the nodes of a graph as Python, under names of which no two are alike.

    An input or an interior node goes by its label, where that is a usable name and no other node has it, else it is
    x1, x2, ... (by its place among the inputs) or v1, v2, ... (in order of evaluation). Other leaves are numbers, or
    variables where they have such a label. `order` holds what is to be evaluated, each node after its operands.
    """

    def __init__(self, outputs: Sequence[Value], inputs: Sequence[Value], name: str) -> None:
        if not usable(name) or name in TABLE or name in NUMBERS:
            raise ValueError(f"{name!r} is no name for a function, or that of a row")
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

    def call(self, op: Op, part: str, args: Sequence[Name | float]) -> str:
        """The call of a row's `forward` or `partials`, which is put into the namespace under a name of its own."""
        if (op, part) not in self.functions:
            name = op.name if part == "forward" else f"{op.name}_{part}"
            if TABLE.get(name) is not op:
                name = fresh(name if usable(name) else "op", self.taken)
            self.functions[op, part] = name
            self.namespace[name] = getattr(op, part)
        return f"{self.functions[op, part]}({', '.join(self.text.of(arg).text for arg in args)})"

    def operand(self, x: Value | float) -> Name | float:
        """A variable's name, or the number that a constant is."""
        return self.variables.get(x, x.data) if isinstance(x, Value) else x

    def expression(self, op: Op, args: Sequence[Name | float]) -> str:
        """The operation on names and numbers, as Python."""
        return self.text._record(op, tuple(args)).text

    def forward(self) -> Iterable[str]:
        """The assignments that evaluate the outputs."""
        for node in self.order:
            if node.op is not None:
                yield f"{self.variables[node].text} = {self.expression(node.op, [*map(self.operand, node.operands)])}"
            elif node in self.variables:
                yield f"{self.variables[node].text} = {self.text.of(node.data).text}"

    def source(self, body: Iterable[str], results: tuple[str, str, str], header: bool = False) -> Source:
        """The function; with a header that imports the rows, it runs wherever the package is.

        `results`: what follows `return`, up to an opening bracket, within the brackets, and from there on.
        """
        before, inside, after = results
        arguments = ", ".join(self.variables[node].text for node in self.inputs)
        lines = [_wrapped(f"def {self.name}(", arguments, "):"), *(f"    {line}" for line in body)]
        lines.append(_wrapped(f"    return {before}", inside, after))
        written = set(re.findall(r"\w+", "\n".join(lines)))  # a rule may have called rows for what was not needed
        namespace = {name: x for name, x in self.namespace.items() if name in written}
        if header:
            imports = (("math", NUMBERS.keys()), ("micrograd_bp.ops", TABLE.keys()))
            needed = [(module, sorted(names & namespace.keys())) for module, names in imports]
            above = [f"from {module} import {', '.join(names)}" for module, names in needed if names]
            lines[:0] = [*above, "", ""] if above else []
        return Source("\n".join(lines), self.name, namespace)


def python_source(outputs: Sequence[Value], inputs: Sequence[Value], name: str = "f") -> Source:
    """The graphs of the outputs as a function of the inputs, in Python.

    The function takes a float for every input (any node; what lies behind it is left out) and returns a tuple, a float
    for every output, with the bits that recording gives. A leaf that is no input is a constant. `name` is the
    function's. ValueError: an input given twice, or a name that is none.

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
    writer = Writer(outputs, inputs, name)
    results = [writer.text.of(writer.operand(output)).text for output in outputs]
    return writer.source(writer.forward(), ("(", ", ".join(results) + "," * (len(results) == 1), ")"))


def evaluation_order(outputs: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
    """Every node that the outputs need, each after its operands, but for the inputs and what only they need."""
    needed = set(outputs).difference(inputs)
    order = topological_order(OUTPUTS(*outputs))[:-1] if outputs else []
    given = set(inputs)
    for node in reversed(order):
        if node in needed:
            needed.update(x for x in node.operands if isinstance(x, Value) and x not in given)
    return [node for node in order if node in needed]


class Listing:
    """The nodes of a graph under the names by which pictures, tables and explanations call them.

    `leaves` stand in the order in which they are first used, `interior` in the order of evaluation, `nodes` are both;
    `output` is the first of the `outputs`.
    """

    def __init__(self, output: Value | Sequence[Value]) -> None:
        self.outputs = (output,) if isinstance(output, Value) else tuple(output)
        self.output = self.outputs[0]
        several = len(self.outputs) > 1
        order = topological_order(OUTPUTS(*self.outputs))[:-1] if several else topological_order(self.output)
        self.interior = [node for node in order if node.op is not None]
        used = (x for node in self.interior for x in node.operands if isinstance(x, Value) and x.op is None)
        self.leaves = list(dict.fromkeys([*used, *(node for node in self.outputs if node.op is None)]))
        self.nodes = self.leaves + self.interior
        self.names = node_names(order, self.leaves, readable)

    def named(self, x: Value | float) -> Name | float:
        """An operand as a formula writes it."""
        return Name(self.names[x]) if isinstance(x, Value) else x

    def expression(self, node: Value) -> str:
        """What an interior node is of its operands: v1 * v2; nothing for a leaf."""
        return "" if node.op is None else Name._record(node.op, tuple(map(self.named, node.operands))).text


def readable(label: str) -> bool:
    """Whether a label can stand in a formula: a word, perhaps with indices, as w[0] or layer1.b."""
    return len(label) <= 24 and re.fullmatch(r"[^\W\d]\w*(\[\w+\]|\.\w+)*", label) is not None


def node_names(
    nodes: Iterable[Value], inputs: Iterable[Value], accept: Callable[[str], bool], taken: Iterable[str] = ()
) -> dict[Value, str]:
    """A name for every input, every interior node and every other leaf with a label that can be one; no two alike.

    A label that is accepted, not taken and no other node's is the name; else inputs are x1, x2, ... by their place,
    interior nodes v1, v2, ... in the order of `nodes`.
    """
    nodes, places = list(nodes), {node: place for place, node in enumerate(inputs, start=1)}
    count = Counter(node.label for node in dict.fromkeys((*places, *nodes)))
    labels = {label for label in count if count[label] == 1 and label not in taken and accept(label)}
    used = {*taken, *labels}
    names = {node: node.label if node.label in labels else fresh(f"x{place}", used) for node, place in places.items()}
    interior = 0
    for node in nodes:
        if node in places:
            continue
        interior += node.op is not None
        if node.label in labels:
            names[node] = node.label
        elif node.op is not None:
            names[node] = fresh(f"v{interior}", used)
    return names


def check_value(x: Any, taker: str) -> None:
    """TypeError: x, which goes to this function, is no Value."""
    if not isinstance(x, Value):
        raise TypeError(f"{taker} takes a Value, not {reprlib.repr(x)} ({type(x).__name__})")


def check_outputs(output: Any, taker: str) -> None:
    """TypeError: this is neither a Value nor a sequence of some Values."""
    if isinstance(output, list | tuple) and output:
        check_values(output, taker, "output")
    else:
        check_value(output, taker)


def check_values(xs: Any, taker: str, what: str) -> None:
    """TypeError: xs is no sequence of Values."""
    if isinstance(xs, Value) or not isinstance(xs, Iterable):
        raise TypeError(f"{taker}: {what} is a sequence of Values, not {reprlib.repr(xs)} ({type(xs).__name__})")
    for x in xs:
        if not isinstance(x, Value):
            raise TypeError(f"{taker}: {what} holds {reprlib.repr(x)} ({type(x).__name__}); pass a Value")


def fresh(name: str, used: set[str]) -> str:
    """The name, or that name with as many underscores as make it new; from now on it is used."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def usable(name: str) -> bool:
    """Whether a label can stand as a variable's name (and is what Python would make of it)."""
    plain = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
    return plain and not name.startswith("__") and len(name) <= 40


def _text(writer: Writer) -> type[Name]:
    """Names that write Python which gives the rows' floats: an operator only where `forward` is Python's own."""

    class Text(Name):
        __slots__ = ()
        RANKS: ClassVar = Name.RANKS

        @classmethod
        def of(cls, x: Any) -> Name:
            if isinstance(x, cls):
                return x
            text = repr(float(x))
            if not math.isfinite(x):
                writer.namespace |= NUMBERS
            return cls(text, 3 if text[0] == "-" else 5)

        @classmethod
        def _record(cls, op: Op, args: tuple[Any, ...]) -> Name:
            if op.forward is getattr(operator, op.name, None) and op.symbol in cls.RANKS:
                return super()._record(op, args)
            names = [cls.of(arg) for arg in args]
            if op is pow and re.fullmatch(r"-?\d+\.0", names[1].text):  # any other power may be no real number
                return cls(f"{names[0]._inside(5)} ** {names[1]._inside(3)}", 4)
            if op is chain and isinstance(args[0], float) and args[0]:  # the product, then, whatever it is
                return super()._record(mul, args)
            if op is ieee_pow and args[1] == 1.0:
                return names[0]
            return cls(writer.call(op, "forward", names))

    return Text


def _wrapped(before: str, names: str, after: str) -> str:
    """Names between brackets, in one line or in several."""
    if len(before) + len(names) + len(after) <= 100:
        return before + names + after
    indent = " " * (len(before) - len(before.lstrip()))
    inner = textwrap.indent(textwrap.fill(names, 96, break_long_words=False, break_on_hyphens=False), indent + "    ")
    return f"{before}\n{inner}\n{indent}{after}"

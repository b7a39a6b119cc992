"""Programs as C99: one self-contained file with straight-line functions, for microcontrollers and other languages."""

from __future__ import annotations

import collections
import hashlib
import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from micrograd_bp._engine.instructions import C_FUNCTIONS, instruction
from micrograd_bp._engine.symbolic import Expr
from micrograd_bp._version import __version__
from micrograd_bp.compiler.array_c import ArrayWriter
from micrograd_bp.compiler.arrays import ArrayProgram
from micrograd_bp.compiler.evaluation import UnsuitableError
from micrograd_bp.compiler.loop_c import KEYWORDS, LoopsInC
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.program import FlatProgram, live
from micrograd_bp.ops import Op

PIECE = 400  # lines of a function: gcc -O1 takes 112 s for a function of 16,000
STACK = 1 << 15  # numbers that a function keeps on the stack, 256 kB at most; a larger array is static
FEW = 100  # as many parameters without labels are listed one per line


@dataclass
class Graph:
    """What a file is written from: the program of a graph's values, and, if it has parameters, that of its gradient."""

    value: FlatProgram
    arrays: ArrayProgram | None  # those of `value`, if loops over arrays are to be written
    gradient: Callable[[], FlatProgram]  # outputs: those of `value`, then the slopes; last inputs: the cotangents
    labels: Sequence[str]  # of the inputs, then of all other leaves
    leaves: Sequence[float]  # the numbers of all leaves that are no inputs
    parameters: int  # how many of these leaves, the first ones, are differentiated by
    single: bool  # one value, to be returned; else a list of them
    title: str = "a recorded graph"
    looped: Sequence[FlatProgram] = ()  # `value`, and where it has parameters `gradient`, as loops, where it is such
    exact: bool = False


def source(
    graph: Graph, name: str = "kernel", real: str = "double", *, include: str = "", fixed: bool = False
) -> tuple[str, int]:
    """The C99 file, and how many numbers its workspace has; see `Kernel.source` and `Kernel.c_files`.

    ValueError: the name is no identifier of C, real is neither "double" nor "float", or there is no C for an op.
    """
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name) or name in KEYWORDS.split():
        raise ValueError(f"functions are named after {name!r}, which is no identifier of C")
    if real not in ("double", "float"):
        raise ValueError(f'real is "double" or "float", not {real!r}')
    writer = _CWriter(name, real == "float", fixed, graph.exact)
    several = not graph.single
    results = [f"out[{k}]" for k in range(len(graph.value.outputs))] if several else ["return"]
    inputs = [f"x[{k}]" for k in range(len(graph.value.inputs))]
    functions = writer.looped(graph, inputs, results, graph.looped)
    if not functions and graph.arrays is not None:
        functions = writer.loops(graph)
    if not functions and graph.value.count <= PIECE:
        functions = writer.looped(graph, inputs, results, [graph.value, *[graph.gradient()] * bool(graph.parameters)])
    if not functions:
        functions.append(writer.function(graph.value, "value", inputs, results, ["out"] if several else []))
    if graph.parameters and not any("_value_and_" in text for text in functions):
        gradient = graph.gradient()
        slopes = [f"gradient[{k}]" for k in range(graph.parameters)]
        if several:
            cotangents = [f"cotangent[{k}]" for k in range(len(results))]
            wanted = (inputs + cotangents, results + slopes, ["out", "gradient"])
            functions.append(writer.function(gradient, "value_and_vjp", *wanted))
        else:
            functions.append(writer.function(gradient, "value_and_grad", inputs, results + slopes, ["gradient"]))
    parts = [
        _comment(graph, name, several, not fixed and writer.workspace > STACK),
        "#include <math.h>\n" + (f'#include "{include}"\n' if include else ""),
    ]
    if graph.leaves:
        lines = [f"    {writer.literal(x)}," for x in graph.leaves]
        labels = graph.labels[len(inputs) :]
        if any(labels) or len(lines) <= FEW:
            lines = [f"{line} /* w[{k}] {_plain(label)} */" for k, (line, label) in enumerate(zip(lines, labels))]
        else:
            count = range(0, len(lines), 4)
            lines = [f"    {' '.join(map(str.lstrip, lines[k : k + 4]))} /* from w[{k}] on */" for k in count]
        parts.append(f"const double {name}_parameters[{len(graph.leaves)}] = {{\n" + "\n".join(lines) + "\n};\n")
    parts += [text for name, text in C_FUNCTIONS.items() if name in writer.used]
    if fixed and writer.workspace:
        parts.append(f"static double {name}_workspace[{writer.workspace}];\n")
    text = "\n".join([*parts, *functions])
    return _single(text) if writer.single else text, writer.workspace


class _CWriter:
    """Functions of one file."""

    def __init__(self, name: str, single: bool, fixed: bool = False, exact: bool = True) -> None:
        self.name, self.single, self.fixed, self.exact = name, single, fixed, exact
        self.workspace = 0  # the most numbers that one piece of a function leaves for others
        self.used: set[str] = set()  # the functions of C_FUNCTIONS that the file needs

    def place(self, size: int) -> str:
        """The line that declares a function's workspace of so many numbers; a large one is static, not on the stack."""
        self.workspace = max(self.workspace, size)
        if self.fixed:
            return f"double *const v = {self.name}_workspace;"
        return f"{'static ' * (size > STACK)}double v[{size}];"

    def literal(self, x: float) -> str:
        """The number as a literal of C, with the digits that make it exact."""
        if self.single:
            try:
                x = struct.unpack("f", struct.pack("f", x))[0]
            except OverflowError:
                x = math.copysign(math.inf, x)
        if x != x:
            return "(double)NAN"
        text = "(double)INFINITY" if math.isinf(x) else repr(abs(x))
        return f"(-{text})" if math.copysign(1.0, x) < 0.0 else text

    def function(
        self, source: FlatProgram, suffix: str, inputs: list[str], results: list[str], written: list[str]
    ) -> str:
        """A function of one row x and the parameters w. It returns the first result, or assigns all results.

        A long program is cut into functions of PIECE lines each, since a C compiler's time grows faster than their
        length. They pass numbers on in an array v, whose places are reused.
        """
        program = lower(source, self.native, self.exact)
        needed = live(program, program.outputs)
        names = dict(zip(program.inputs, inputs)) | {i: f"w[{k}]" for k, i in enumerate(program.parameters)}
        names |= {i: self.literal(x) for i, x in program.constants.items()}
        same = self.products(program)
        nodes = [i for i, op in enumerate(program.ops) if op is not None and needed[i] and i not in same]
        operands = {i: [same.get(k, k) for k in program.operands[i]] for i in nodes}
        outputs = [same.get(i, i) for i in program.outputs]
        pieces = [nodes[k : k + PIECE] for k in range(0, len(nodes), PIECE)]
        slots, size = _slots(pieces, operands, outputs) if len(pieces) > 1 else ({}, 0)
        read = ["x", "w"] + (["cotangent"] if inputs and inputs[-1].startswith("cotangent") else [])
        arguments = [f"const double *{array}" for array in read]
        called = ", ".join([*read, "v"])
        parts, calls = [], [self.place(size)] if slots else []
        lines: list[str] = []
        for number, piece in enumerate(pieces):
            lines, known = [], names | {i: f"v[{slot}]" for i, slot in slots.items()}
            for i in piece:
                op = program.ops[i]
                assert op is not None
                arguments_of = [known[k] for k in operands[i]]
                if op.arity is None and self.native(op, len(arguments_of), True) == f"{op.name}_op":
                    lines.append(
                        f"const double a{i}[] = {{{', '.join(arguments_of)}}};"
                    )  # C++ has no literals of arrays
                    arguments_of = [str(len(arguments_of)), f"a{i}"]
                lines.append(f"const double t{i} = {self.expression(op, arguments_of, len(operands[i]))};")
                known[i] = f"t{i}"
            if slots:
                lines += [f"v[{slots[i]}] = t{i};" for i in piece if i in slots]
                title = f"{self.name}_{suffix}_{number}"
                parts.append(_definition("static void", title, [*arguments, "double *v"], _unused(lines, read)))
                calls.append(f"{title}({called});")
        names |= {i: f"v[{slot}]" for i, slot in slots.items()} if slots else {i: f"t{i}" for i in nodes}
        lines = calls if slots else lines
        pairs = list(zip(results, [names[i] for i in outputs], strict=True))
        lines += [f"{place} = {number};" for place, number in pairs if place != "return"]
        lines += [f"return {number};" for place, number in pairs if place == "return"]
        kind = "double" if "return" in results else "void"
        arguments += [f"double *{array}" for array in written]
        parts.append(_definition(kind, f"{self.name}_{suffix}", arguments, lines if slots else _unused(lines, read)))
        return "\n".join(parts)

    def looped(self, graph: Graph, inputs: list[str], results: list[str], programs: Sequence[FlatProgram]) -> list[str]:
        """Functions of short programs, or of programs with loops; none where C lacks an op of theirs."""
        several = not graph.single
        titles = ["value", "value_and_vjp" if several else "value_and_grad"]
        above: list[str] = []
        functions: list[str] = []
        for title, program in zip(titles, programs):
            read = ["x", "w"] + ["cotangent"] * (several and title != "value")
            written = ["out"] * several + ["gradient"] * (title != "value")
            arguments = [f"const double *{array}" for array in read] + [f"double *{array}" for array in written]
            given = inputs + [f"cotangent[{k}]" for k in range(len(results))] * ("cotangent" in read)
            slopes = [f"gradient[{k}]" for k in range(graph.parameters)] * ("gradient" in written)
            try:
                made = LoopsInC(program, given, self.native, self.literal, self._called, self.exact)
                lines = _unused(made.function([*results, *slopes]), read)
            except UnsuitableError:
                self.used.clear()
                return []
            functions.append(self.definition(title, several, arguments, lines, made.size))
            above += [text for text in made.above if text not in above]
        return [*above, *functions]

    def definition(self, title: str, several: bool, arguments: list[str], lines: list[str], size: int) -> str:
        """The text of a function, with the declaration of its workspace."""
        if size:
            lines = [self.place(size), *lines]
        return _definition("void" if several else "double", f"{self.name}_{title}", arguments, lines)

    def loops(self, graph: Graph) -> list[str]:
        """The functions as loops over arrays: values, and value and gradient; none where C lacks an op of theirs."""
        assert graph.arrays is not None
        several = not graph.single
        made: list[tuple[list[list[str]], int]] = []
        try:
            call = self._called
            writer = ArrayWriter(graph.arrays, graph.value.outputs, self.native, self.literal, call)
            made.append(writer.function(None, several))
            if graph.parameters:
                made.append(writer.function(graph.parameters, several))
        except UnsuitableError:
            self.used.clear()
            return []
        titles = ["value", "value_and_vjp" if several else "value_and_grad"]
        functions = []
        for title, (pieces, size) in zip(titles, made):
            read = ["x", "w"] + ["cotangent"] * (several and title != "value")
            written = ["out"] * several + ["gradient"] * (title != "value")
            arguments = [f"const double *{array}" for array in read] + [f"double *{array}" for array in written]
            name = f"{self.name}_{title}"
            parts, calls = [], []
            for number, lines in enumerate(pieces[:-1]):
                lines = _unused(lines, [*read, *written])
                parts.append(_definition("static void", f"{name}_{number}", [*arguments, "double *v"], lines))
                calls.append(f"{name}_{number}({', '.join([*read, *written, 'v'])});")
            lines = [*calls, *pieces[-1]]
            lines = lines if calls else _unused(lines, read)
            parts.append(self.definition(title, several, arguments, lines, size))
            functions.append("\n".join(parts))
        functions[0] = "\n".join([*writer.above, functions[0]])
        return functions

    def _called(self, name: str, op: Op, operands: list[str]) -> str:
        return self.expression(op, operands, len(operands))

    def native(self, op: Op, count: int, exact: bool) -> str:
        """The C function or operator for an op with n operands; "" if none, or if its decomposition is closer."""
        fits = op.arity is not None or count == len(op.domain)
        if op.native and fits and (op.exact or op.decomposition is None):
            return op.native
        return f"{op.name}_op" if op.name in C_FUNCTIONS else ""

    def products(self, program: FlatProgram) -> dict[int, int]:
        """The nodes that equal a product g * p because p is finite, each with the node of the product.

        The chain rule's product is `where(g, where(p, g * p, 0), 0)`; with a finite p one choice, or both, can go.
        """
        tame = [False] * len(program)
        found: dict[int, int] = {}
        for i, (op, operands) in enumerate(zip(program.ops, program.operands)):
            native = self.native(op, len(operands), True) if op is not None else ""
            known = [tame[k] for k in operands]
            tame[i] = (
                math.isfinite(program.constants.get(i, 0.0)) if op is None else instruction(native).tame and all(known)
            )
            if self.is_choice(program, i):
                condition, chosen, _ = operands
                chosen = product = found.get(chosen, chosen)
                if self.is_choice(program, product):
                    product = program.operands[product][1]
                factors = program.operands[product]
                of = program.ops[product]
                if of is not None and of.native == "fmul" and condition in factors:
                    other = factors[factors[0] == condition]
                    if tame[other]:
                        found[i], tame[i] = chosen, tame[chosen]
        return found

    def is_choice(self, program: FlatProgram, i: int) -> bool:
        """Whether the node is `where(c, x, 0)`."""
        op = program.ops[i]
        return op is not None and op.native == "select" and program.constants.get(program.operands[i][2]) == 0.0

    def expression(self, op: Op, operands: list[str], count: int) -> str:
        native = self.native(op, count, True)
        if not native:
            raise ValueError(
                f"there is no C for {op.name}: give its Op native=, a function of math.h, or decomposition="
            )
        if instruction(native).c:
            return instruction(native).text(native, operands)
        arguments = ", ".join(operands)
        if native == f"{op.name}_op":
            self.used.add(op.name)
        return f"{native.removeprefix('llvm.')}({arguments})"


def _slots(pieces: list[list[int]], operands: dict[int, list[int]], outputs: list[int]) -> tuple[dict[int, int], int]:
    """The place in v of each number that a later piece reads, and how many places there are.

    A place is free after the last piece that reads it; a number computed in that piece does not take it yet.
    """
    born = {i: number for number, piece in enumerate(pieces) for i in piece}
    last = {i: number for number, piece in enumerate(pieces) for j in piece for i in operands[j] if i in born}
    last |= {i: len(pieces) for i in outputs if i in born}
    slots: dict[int, int] = {}
    size = 0
    free: list[int] = []
    dying: list[list[int]] = [[] for _ in range(len(pieces) + 1)]
    for number, piece in enumerate(pieces):
        for i in piece:
            if last[i] > number:
                slots[i] = free.pop() if free else size
                size = max(size, slots[i] + 1)
                dying[last[i]].append(slots[i])
        free += dying[number]
    return slots, size


def _unused(lines: list[str], arrays: list[str]) -> list[str]:
    """The lines, preceded by `(void)x;` for each array that they do not read, which would make compilers warn."""
    text = "\n".join(lines)
    return [f"(void){array};" for array in arrays if f"{array}[" not in text] + lines


def _definition(kind: str, name: str, arguments: list[str], lines: list[str]) -> str:
    body = "\n".join(f"    {line}" for line in lines)
    return f"{kind} {name}({', '.join(arguments)})\n{{\n{body}\n}}\n"


def _single(text: str) -> str:
    """The text in single precision: its types, its literals, and the functions of math.h."""
    head, hash_include, code = text.partition("#include <math.h>")
    code = re.sub(r"\bdouble\b", "float", code)
    code = re.sub(r"(?<![\w.])(\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+)(?![\w.])", r"\1f", code)
    code = re.sub(r"(?<!\w)([a-z][a-z0-9]*)\((?!void)", _suffixed, code)
    return head.replace("double", "float") + hash_include + code


def _suffixed(match: re.Match[str]) -> str:
    name = match[1]
    return match[0] if name in ("for", "if", "isfinite", "float", "int") else f"{name}f("


def _comment(graph: Graph, name: str, several: bool, static: bool) -> str:
    """The comment at the top: what the graph is, and how to call the functions; static: whether v is a static array."""
    program = graph.value
    counts = collections.Counter(op.name for op in program.ops if op is not None)
    made = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    names = [op.name if op is not None else None for op in program.ops]
    recorded = (names, program.operands, sorted(program.constants.items()), program.inputs, program.parameters)
    fingerprint = hashlib.sha256(repr((*recorded, program.outputs)).encode()).hexdigest()[:16]
    inputs, leaves, outputs = len(program.inputs), len(graph.leaves), len(program.outputs)
    lines = [
        _plain(graph.title),
        f"C99, written by micrograd_bp {__version__}.",
        "",
        f"Recorded: {program.count} operations ({made or 'none'}); fingerprint {fingerprint}.",
    ]
    if program.count <= 8:
        lines += [f"out[{k}] = {formula}" for k, formula in enumerate(_formulas(program))]
    lines += ["", f"const double *x: {inputs} inputs"]
    lines += [f"  x[{k}]: {_plain(label)}" for k, label in enumerate(graph.labels[:inputs]) if label]
    lines.append(f"const double *w: {leaves} numbers, such as {name}_parameters" if leaves else "w: unused, may be 0")
    if several:
        lines.append(f"double *out: {outputs} outputs")
        slope = "the sum of cotangent[j] * out[j]"
    else:
        slope = "the value"
    if graph.parameters:
        lines.append(f"double *gradient: {graph.parameters} numbers; gradient[k] is the derivative of {slope} by w[k]")
        if several:
            lines.append(f"const double *cotangent: {outputs} numbers: the derivatives of a loss by the outputs, say")
        lines.append("gradient is another array than w: it is written while w is still read.")
    if static:
        title = "value" if not graph.parameters else "value_and_vjp" if several else "value_and_grad"
        lines.append(f"What is kept meanwhile has a fixed place in memory: no two threads may call {title} at once.")
    lines += [
        "",
        "x and w are finite. Where Python raises an exception, results are inf or nan, as IEEE 754 has it.",
        "A branch that the recording took is taken for every x.",
    ]
    return "/*\n" + "\n".join(f" * {line}".rstrip() for line in lines) + "\n */\n"


def _formulas(program: FlatProgram) -> list[str]:
    names = {i: Expr(f"x[{k}]") for k, i in enumerate(program.inputs)}
    names |= {i: Expr(f"w[{k}]") for k, i in enumerate(program.parameters)}
    names |= {i: Expr.of(x) for i, x in program.constants.items()}
    for i, op in enumerate(program.ops):
        if op is not None:
            names[i] = op(*[names[k] for k in program.operands[i]])
    return [names[i].text for i in program.outputs]


def _plain(text: str) -> str:
    """A label or title for a comment, which it must not end."""
    plain = re.sub(r"[^\w .,:;()\[\]=+-]", "_", text, flags=re.ASCII)
    return plain if len(plain) <= 110 else f"{plain[:107]}..."

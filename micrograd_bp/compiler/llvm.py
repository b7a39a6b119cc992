"""Writes expressions as LLVM IR: a node as the instructions for it, with its number in a register or in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, Protocol

from micrograd_bp._engine.instructions import instruction
from micrograd_bp.compiler.machine import Host, vector_function
from micrograd_bp.compiler.program import FlatProgram
from micrograd_bp.compiler.vector_math import FUNCTIONS
from micrograd_bp.ops import Op

FUSED = ("fmul", "fadd")


def hexadecimal(x: float) -> str:
    return f"0x{struct.unpack('>Q', struct.pack('>d', x))[0]:016X}"


class Context(Protocol):
    """What an `LLVMWriter` needs to know of the program around it: a `Plan`, or the loops of an array program."""

    @property
    def exact(self) -> bool: ...
    @property
    def fuses(self) -> bool: ...
    @property
    def host(self) -> Host: ...
    @property
    def program(self) -> FlatProgram: ...
    @property
    def uses(self) -> list[int]: ...
    def precise(self, i: int) -> bool: ...
    def declare(self, name: str, vector: str, arity: int) -> None: ...
    def scalar(self, op: Op, native: str, arity: int) -> str: ...


class LLVMWriter:
    """Straight-line LLVM code for nodes of a program, `width` rows at a time."""

    def __init__(self, plan: Context, width: int, load: Callable[[LLVMWriter, int], str], prefix: str = "%t") -> None:
        self.plan, self.width, self.load, self.prefix = plan, width, load, prefix
        self.program = plan.program
        self.vector = f"<{width} x double>"
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.conditions: dict[int, str] = {}  # i1 vectors: where a node is not 0
        self.pending: dict[int, tuple[int, ...]] = {}  # the factors of products that may be fused into a multiply-add
        self.literals: dict[Any, str] = {}

    def literal(self, x: float) -> str:
        key = x or repr(x)  # 0.0 and -0.0 have different keys
        text = self.literals.get(key)
        if text is None:
            text = self.literals[key] = self._literal(x)
        return text

    def _literal(self, x: float) -> str:
        return "<" + ", ".join([f"double {hexadecimal(x)}"] * self.width) + ">"

    def assign(self, text: str) -> str:
        name = f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def at(self, pointer: str, offset: int) -> str:
        return self.assign(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer

    def read(self, pointer: str, offset: int) -> str:
        return self.assign(f"load {self.vector}, ptr {self.at(pointer, offset)}, align {8 * self.width}")

    def splat(self, scalar: str) -> str:
        """A vector with the number in every lane."""
        one = self.assign(f"insertelement {self.vector} undef, double {scalar}, i64 0")
        zeros = ", ".join(["i32 0"] * self.width)
        return self.assign(f"shufflevector {self.vector} {one}, {self.vector} undef, <{self.width} x i32> <{zeros}>")

    def write(self, value: str, pointer: str, offset: int) -> None:
        place = self.at(pointer, offset)
        self.lines.append(f"store {self.vector} {value}, ptr {place}, align {8 * self.width}")

    def value(self, i: int) -> str:
        """The name of the vector of a node's numbers, which is loaded if this code has not computed it."""
        name = self.names.get(i)
        if name is None:
            if i in self.pending:
                a, b = self.pending.pop(i)
                name = self.assign(f"fmul contract {self.vector} {self.value(a)}, {self.value(b)}")
            elif i in self.conditions:
                bits = f"<{self.width} x i1> {self.conditions[i]}"
                one, zero = self.literal(1.0), self.literal(0.0)
                name = self.assign(f"select {bits}, {self.vector} {one}, {self.vector} {zero}")
            elif i in self.program.constants:
                return self.literal(self.program.constants[i])
            else:
                name = self.load(self, i)
            self.names[i] = name
        return name

    def truth(self, i: int) -> str:
        """The name of the i1 vector that is set in the lanes where the node is not 0."""
        if i not in self.conditions:
            self.conditions[i] = self.assign(f"fcmp une {self.vector} {self.value(i)}, {self.literal(0.0)}")
        return self.conditions[i]

    def flags(self, precise: bool) -> str:
        return "" if precise else "contract "

    def multiply_add(self, product: int, addend: str, precise: bool) -> str:
        """product + addend, in one instruction where the product is used here only."""
        if product in self.pending:
            a, b = self.pending.pop(product)
            return self.intrinsic("llvm.fma", [self.value(a), self.value(b), addend])
        return self.assign(f"fadd {self.flags(precise)}{self.vector} {self.value(product)}, {addend}")

    def watch(self, i: int, bad: str) -> str:
        """bad + 0 * node, which is 0 as long as all nodes are finite, and nan after one that is not."""
        zero = self.literal(0.0)
        if self.plan.fuses:
            return self.intrinsic("llvm.fma", [self.value(i), zero, bad])
        flags = self.flags(self.plan.exact)
        product = self.assign(f"fmul {flags}{self.vector} {self.value(i)}, {zero}")
        return self.assign(f"fadd {flags}{self.vector} {product}, {bad}")

    def intrinsic(self, name: str, operands: Sequence[str]) -> str:
        full = f"{name}.v{self.width}f64"
        self.plan.declare(full, self.vector, len(operands))
        arguments = ", ".join(f"{self.vector} {x}" for x in operands)
        return self.assign(f"call {self.vector} @{full}({arguments})")

    def node(self, i: int) -> None:
        """The code of one node."""
        op, operands = self.program.ops[i], self.program.operands[i]
        assert op is not None
        plan, vector = self.plan, self.vector
        precise = plan.precise(i)
        native = plan.host.native(op, len(operands), precise)
        fuses = plan.fuses and not precise and native in FUSED
        if instruction(native).llvm and not fuses:
            values = ", ".join([self.value(k) for k in operands])
            flags = self.flags(precise or native == "frem")
            self.names[i] = self.assign(f"{native} {flags}{vector} {values}")
        elif native.startswith("fcmp "):
            a, b = map(self.value, operands)
            self.conditions[i] = self.assign(f"{native} {vector} {a}, {b}")
        elif native == "select":
            bits = f"<{self.width} x i1> {self.truth(operands[0])}"
            x, y = self.value(operands[1]), self.value(operands[2])
            self.names[i] = self.assign(f"select {bits}, {vector} {x}, {vector} {y}")
        elif native == "fmul":
            a, b = map(self.value, operands)
            if plan.uses[i] == 1:
                self.pending[i] = operands
            else:
                self.names[i] = self.assign(f"fmul contract {vector} {a}, {b}")
        elif native == "fadd":
            product, other = operands if operands[0] in self.pending else operands[::-1]
            self.names[i] = self.multiply_add(product, self.value(other), precise)
        else:
            arguments = [self.value(k) for k in operands]
            known = native.startswith("llvm.")
            self.names[i] = self.intrinsic(native, arguments) if known else self.call(op, native, arguments, precise)

    def call(self, op: Op, native: str, values: list[str], precise: bool) -> str:
        """Call the op's function: that of libmvec for each register of lanes, or else a scalar one for each lane."""
        plan = self.plan
        if native in FUNCTIONS and plan.host.fma and not precise:
            return FUNCTIONS[native](self, *values)
        lanes = plan.host.lanes
        vectorised = native and not precise and self.width % lanes == 0
        function = vector_function(plan.host, op, len(values)) if vectorised else ""
        if function:
            part = f"<{lanes} x double>"
            plan.declare(function, part, len(values))
            results = []
            for start in range(0, self.width, lanes):
                pieces = [self._lanes(value, start, lanes) for value in values]
                results.append(self.assign(f"call {part} @{function}({', '.join(f'{part} {x}' for x in pieces)})"))
            while len(results) > 1:
                size = self.width // len(results)
                mask = ", ".join(f"i32 {k}" for k in range(2 * size))
                results = [
                    self.assign(
                        f"shufflevector <{size} x double> {a}, <{size} x double> {b}, <{2 * size} x i32> <{mask}>"
                    )
                    for a, b in zip(results[::2], results[1::2])
                ]
            return results[0]
        function = plan.scalar(op, native, len(values))
        result = "undef"
        for lane in range(self.width):
            parts = [self.assign(f"extractelement {self.vector} {value}, i64 {lane}") for value in values]
            part = self.assign(f"call double {function}({', '.join(f'double {x}' for x in parts)})")
            result = self.assign(f"insertelement {self.vector} {result}, double {part}, i64 {lane}")
        return result

    def _lanes(self, value: str, start: int, count: int) -> str:
        if count == self.width:
            return value
        mask = ", ".join(f"i32 {k}" for k in range(start, start + count))
        return self.assign(f"shufflevector {self.vector} {value}, {self.vector} undef, <{count} x i32> <{mask}>")


INTERLEAVED, LONG = 6, 8


def interleaved(program: FlatProgram, order: list[int], uses: list[int]) -> list[int]:
    """Reorder the nodes so that up to INTERLEAVED long sums, such as a layer's neurons, are added up side by side.

    Each addition of a sum waits for the one before it; the additions of other sums fill that latency, and an operand
    that the sums share is loaded once. No result changes. 2-64-64-1: 1.5 times as fast.
    """
    position = [-1] * len(program)
    for k, i in enumerate(order):
        position[i] = k
    natives = [op.native if op is not None else "" for op in program.ops]
    sums: dict[int, list[int]] = {}  # the additions of each sum, by the last one so far
    for i in order:
        if natives[i] == "fadd":
            before = next((k for k in program.operands[i] if k in sums and uses[k] == 1), None)
            sums[i] = sums.pop(before) if before is not None else []
            sums[i].append(i)
    groups: dict[int, list[list[int]]] = {}  # by the place where a group starts: the nodes of each of its sums
    start, size = -1, 0
    found = []
    for additions in sums.values():
        if len(additions) >= LONG:
            steps, ready = [], -1
            inside = set(additions)
            for i in additions:
                for k in program.operands[i]:
                    if natives[k] == "fmul" and uses[k] == 1 and position[k] >= 0:
                        steps.append(k)
                        ready = max(ready, *(position[j] for j in program.operands[k]))
                    elif k not in inside:
                        ready = max(ready, position[k])
                steps.append(i)
            first = min(position[i] for i in steps)
            if ready < first:
                found.append((first, ready, steps))
    moved = set()
    for first, ready, steps in sorted(found):
        if start < 0 or ready >= start or size == INTERLEAVED:
            start, size = first, 0
            groups[start] = []
        groups[start].append(steps)
        size += 1
        moved.update(steps)
    result = []
    for k, i in enumerate(order):
        if k in groups:
            result += [node for step in zip_longest(*groups[k]) for node in step if node is not None]
        if i not in moved:
            result.append(i)
    return result

"""A path through a function: its program, the guards under which it may be taken, and how it is run."""

from __future__ import annotations

import contextlib
import copy as copying
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from micrograd_bp._engine.engine import read_data
from micrograd_bp._engine.progress import elapsed
from micrograd_bp.compiler import arrays as finding
from micrograd_bp.compiler.array_parts import find_for_text
from micrograd_bp.compiler.array_text import array_source
from micrograd_bp.compiler.evaluation import Arrays, UnsuitableError
from micrograd_bp.compiler.executable import Native
from micrograd_bp.compiler.kernels import Kernel
from micrograd_bp.compiler.loop_text import loop_source, readable, whole_turns
from micrograd_bp.compiler.loops import deep, roll
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.machine import host
from micrograd_bp.compiler.program import FlatProgram, rerecord
from micrograd_bp.compiler.python import python_source
from micrograd_bp.compiler.reverse import with_gradient
from micrograd_bp.compiler.surroundings import Place, all_current
from micrograd_bp.compiler.vectors import COPIED, SHARE, arrays
from micrograd_bp.ops import Op
from micrograd_bp.value import Value, gradients

if TYPE_CHECKING:
    import numpy as np


from micrograd_bp.compiler.results import Result


@dataclass(frozen=True, slots=True)
class Slopes:
    """The derivatives that a program is to give: its last outputs are a node, and the nodes to differentiate it by.

    The other outputs are results. `order` has the place of each output and derivative among the results of the path.
    """

    order: list[int]
    inputs: int

    def added(self, program: FlatProgram) -> FlatProgram:
        """The program with the derivatives among its outputs. UnsuitableError: a rule cannot be compiled."""
        stop = len(program.outputs) - self.inputs
        plain = copying.copy(program)
        plain.outputs = program.outputs[: stop - 1]
        # The node must be finite too: where it raises, its derivatives may be numbers, as 1 / x is where log(x) is not.
        plain.checks = [*program.checks, program.outputs[stop - 1]]
        made = with_gradient(plain, program.outputs[stop - 1], program.outputs[stop:])
        made.outputs = [made.outputs[k] for k in self.order]
        return made


@dataclass(slots=True)
class GuardedProgram:
    """One way through a function: a program with guards, and the structure of the result."""

    forward: FlatProgram
    slopes: Slopes | None
    leaves: list[Value]  # the Values that it reads besides its arguments
    result: Result
    at: list[float]  # the numbers with which it was recorded
    expected: list[bool]  # the truth value of each guard
    lines: list[str]  # where each guard was read
    linked: list[int]  # the outputs that depend on leaves
    exact: bool
    places: list[Place] = field(default_factory=list)  # the places where the function finds its leaves
    check: Callable[[], bool] | None = None  # whether the places are current
    rows: int = 0  # how many took this path
    kernels: dict[int, Kernel] = field(default_factory=dict)  # by output: its value and gradient by the leaves
    arrays: Arrays | None = None  # used in place of straight-line code, where the graph is regular
    native: Native | None = None
    replayed: Callable[..., tuple[float, ...]] | None = None
    asked: Callable[..., tuple[float, ...]] | None = None  # the guards alone, in Python
    whole: FlatProgram | None = None
    single: bool = False  # it is called for one row at a time
    outside: bool | None = None  # whether leaves are results of operations, recorded elsewhere; None: not known yet
    trained: bool = False  # the gradient of its last output by the leaves is computed too, summed over the rows

    @property
    def program(self) -> FlatProgram:
        """The program for all results."""
        if self.whole is None:
            self.whole = self.forward if self.slopes is None else self.slopes.added(self.forward)
        return self.whole

    def rolled(self, whole: bool = False) -> tuple[FlatProgram, list[tuple[int, bool]]] | None:
        """The program as loops, with its guards, or None if there are none; whole: with all turns in the loops."""
        if self.slopes is not None and self.exact:
            return None  # in loops, the sums of the derivatives would be rounded otherwise
        count = 0 if self.slopes is None else self.slopes.inputs
        variables = self.forward.outputs[len(self.forward.outputs) - count :]
        found = roll(self.forward, list(zip(self.forward.guards, self.expected, strict=True)), variables)
        if found is not None and whole and not readable(found[0]):
            return None
        if found is not None and whole:
            leaves = (*self.forward.inputs, *self.forward.parameters)
            found = whole_turns(found[0], [self.forward.labels.get(i, "") for i in leaves]), found[1]
        if found is None or self.slopes is None:
            return found
        try:
            return self.slopes.added(found[0]), found[1]
        except UnsuitableError:
            return None

    @property
    def vector(self) -> bool:
        """Whether its numbers never leave NumPy: they are computed as arrays, and all results are arrays."""
        return self.arrays is not None and not self.linked and self.result.of_arrays

    def parameters(self) -> Sequence[float]:
        """The present data of the leaves."""
        return read_data(self.leaves)

    def is_current(self) -> bool:
        """Whether the function would still read the same leaves."""
        if self.check is None:
            self.check = all_current(self.places)
        return self.check()

    def compile(self, limit: float = math.inf) -> bool:
        """Compile to arrays, machine code, or Python where llvmlite is missing; limit: nodes of code, at most."""
        with elapsed("compiling"):
            return self._compile(limit)

    def _compile(self, limit: float) -> bool:
        machine = host()
        rolled, first = None, machine is not None and deep(self.forward)
        if first:
            rolled = self.rolled()
        few = self.forward.longest > len(self.forward) // min(SHARE, finding.MEMBERS)  # members each
        if rolled is None and not few and importlib.util.find_spec("numpy") is not None:
            guards = list(zip(self.program.guards, self.expected, strict=True))
            self.arrays = arrays(self.program, guards, self.exact)
        if self.arrays is not None:
            return True
        if machine is not None and not first:
            rolled = self.rolled()
        if machine is None and limit < math.inf:
            return False
        if machine is not None:
            source, guards = rolled or (self.program, list(zip(self.program.guards, self.expected, strict=True)))
            if source.count > limit:
                return False
            count = len(source.outputs)
            if self.trained:
                with contextlib.suppress(UnsuitableError):
                    source = with_gradient(source, source.outputs[-1], source.parameters)
            program = lower(source, machine.native, self.exact)
            known = {i: bool(x) for i, x in program.constants.items()}
            guards = [(i, x) for i, (_, x) in zip(program.guards, guards, strict=True) if known.get(i) != x]
            single = self.single and bool(program.loops)
            results, sums = program.outputs[:count], program.outputs[count:]
            self.native = Native(program, results, sums, guards, self.exact, single)
        if self.native is None or self.native.calls_python:  # on one row, Python raises the exceptions
            self.replayed = self.source().function()
            if self.expected and not self.program.raised:
                self.asked = self.source(guards=True).function()
        return True

    def source(self, guards: bool = False) -> Any:
        """The path as Python source: its outputs, guards and checks, or the guards alone."""
        if self.arrays is not None and not guards:
            found = find_for_text(self.program, self.exact)
            wanted = [*self.program.outputs, *self.program.guards, *self.program.checks]
            if found is not None and (text := array_source(found, wanted)) is not None:
                return text
        nodes: list[Any] = rerecord(self.program, self.at, self.parameters())
        program = self.program
        wanted = [
            nodes[i] for i in (program.guards if guards else (*program.outputs, *program.guards, *program.checks))
        ]
        values = [x if isinstance(x, Value) else Value(x) for x in wanted if x is not None]
        return python_source(values, [nodes[i] for i in (*program.inputs, *program.parameters)])

    def text(self) -> str:
        """The path as Python, to be read: a function that returns the outputs."""
        if self.arrays is not None:
            return str(self.source())
        looped = None if importlib.util.find_spec("numpy") is None else self.rolled(whole=True)
        if looped is not None:
            made = loop_source(looped[0], "f", [truth for _, truth in looped[1]])
            if made is not None:
                return str(made)
        program = self.program
        nodes: list[Any] = rerecord(program, self.at, self.parameters())
        guards = [(nodes[i], truth) for i, truth in zip(program.guards, self.expected, strict=True)]
        guards = [(x, truth) for x, truth in guards if isinstance(x, Value)]
        outputs = [x if isinstance(x, Value) else Value(x) for x in (nodes[i] for i in program.outputs)]
        leaves = [nodes[i] for i in (*program.inputs, *program.parameters)]
        return python_source(outputs, leaves, guards=guards, header=True)

    def point(self, data: Sequence[float]) -> tuple[list[float], int]:
        """The outputs for one row of data, and a status: 0 done, 1 a guard failed, 2 a number is not finite."""
        if self.arrays is not None:
            out, status = self.arrays.point(data, self.parameters())
            return (out if self.vector else out.tolist()), status
        if self.replayed is None:
            assert self.native is not None
            return self.native.point(data, self.parameters())
        if self.program.raised:  # an exception is expected here, and Python must raise it
            return [], 1
        numbers = (*data, *self.parameters())
        try:
            if self.asked is not None and any(bool(x) != y for x, y in zip(self.asked(*numbers), self.expected)):
                return [], 1
            results = self.replayed(*numbers)
        except (ArithmeticError, ValueError):
            return [], 2
        count = len(self.program.outputs)
        return list(results[:count]), 0 if all(map(math.isfinite, results)) else 2

    def kernel(self, k: int) -> Kernel:
        """Output k and its gradient by the leaves, compiled."""
        if k not in self.kernels:
            program = self.program.with_outputs([self.program.outputs[k]])
            self.kernels[k] = Kernel(program, self.at, self.leaves, len(self.leaves), True, self.exact)
        return self.kernels[k]

    def entries(self, results: list[Any], data: Sequence[float]) -> list[Any]:
        """The outputs as the function returns them: as Values where they depend on leaves, else floats."""
        for k in self.linked:
            results[k] = self._link(k, results[k], data)
        return results

    def _link(self, k: int, result: float, data: Sequence[float]) -> Value:
        """A node for output k whose operands are the leaves, so that it can be differentiated by them."""
        kernel = self.kernel(k)
        program, row = kernel.program, list(data)

        def partials(out: Any, *leaves: Any) -> tuple[Any, ...]:
            if set(map(type, leaves)) == {float}:
                return tuple(kernel.value_and_grad([row])[1].tolist())
            variables = [x.pos() if isinstance(x, Value) else Value(x) for x in leaves]
            nodes: list[Any] = rerecord(program, row, variables)
            return tuple(gradients(nodes[program.outputs[0]], variables))

        op = Op("jit", "jit", lambda *leaves: result, partials)
        linked: Value = op(*self.leaves)
        return linked


def _matrix_of(columns: list[Any]) -> Any:
    """The array whose columns these are, side by side; None if they are not."""
    import numpy as np

    first = columns[0]
    if first.ndim != 1 or any(x.strides != first.strides for x in columns):
        return None
    addresses = [x.__array_interface__["data"][0] for x in columns]
    if addresses != list(range(addresses[0], addresses[0] + 8 * len(columns), 8)):
        return None
    return np.lib.stride_tricks.as_strided(first, (len(first), len(columns)), (*first.strides, 8), writeable=False)


def run_rows(path: GuardedProgram, columns: list[Any], n: int, out: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Compute rows along a path into `out`; returns the rows that failed and their statuses."""
    import numpy as np

    if path.arrays is not None:
        matrix = _matrix_of(columns) if n * len(columns) > COPIED else None

        def block(start: int, stop: int) -> Any:
            if matrix is not None:
                return matrix[start:stop].T
            X = np.empty((len(columns), stop - start))
            for x, column in zip(X, columns):
                x[:] = column[start:stop] if column.ndim else column
            return X

        return path.arrays.rows(block, n, path.parameters(), out)
    if path.native is not None:
        places = []
        for x in columns:
            interface = x.__array_interface__
            places.append((interface["data"][0], x.strides[0] if x.ndim else 0))
        return path.native.rows(places, n, path.parameters(), out, columns)
    odd, statuses = [], []
    for i in range(n):
        results, status = path.point([float(x[i]) if x.ndim else float(x) for x in columns])
        if status:
            odd.append(i)
            statuses.append(status)
        else:
            out[:, i] = results
    return odd, statuses

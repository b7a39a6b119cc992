"""`kernel`: compile a recorded graph for batches: a value for each row of data, or their sum with its gradient."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import operator
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from micrograd_bp._engine import trees
from micrograd_bp._engine.engine import add_to_grads, read_data
from micrograd_bp._engine.progress import elapsed
from micrograd_bp.compiler import c99, c_project
from micrograd_bp.compiler.array_parts import find_for_text
from micrograd_bp.compiler.array_text import array_source
from micrograd_bp.compiler.arrays import ArrayProgram
from micrograd_bp.compiler.evaluation import Arrays, Summands, UnsuitableError
from micrograd_bp.compiler.executable import Native
from micrograd_bp.compiler.loop_text import loop_source, readable, whole_turns
from micrograd_bp.compiler.loops import deep, roll
from micrograd_bp.compiler.lowering import lower
from micrograd_bp.compiler.machine import INSTALL, host
from micrograd_bp.compiler.program import FlatProgram, flatten, rerecord
from micrograd_bp.compiler.python import Source, python_source
from micrograd_bp.compiler.reverse import with_gradient
from micrograd_bp.compiler.vectors import COPIED, arrays
from micrograd_bp.ops import number
from micrograd_bp.value import Value, gradients

if TYPE_CHECKING:
    import numpy as np

TITLES = {"value": "value", "gradient": "value_and_grad"}  # of functions in texts
PAGE, LINES = 40, 4  # arrays that are a page of text; operations of a loop that make about as much text as one array
FEW = 100  # operations of a loop that is shorter than arrays in any case


def kernel(
    output: Value | Sequence[Value],
    inputs: Sequence[Value],
    parameters: Sequence[Value] = (),
    *,
    exact: bool = False,
) -> Kernel:
    """Compile a recorded graph for batches: the inputs, leaves of the graph, become the columns of a matrix.

    Every row takes the branches that the recording took; `jit` finds out where a row needs others.

    Args:
        output: A Value; or several, for a kernel that gives several values a row.
        inputs: The leaves that have a number in each row, in the order of the columns.
        parameters: The leaves whose gradient `value_and_grad` gives, in this order. Like all leaves that are no inputs,
            they are read at each call.
        exact: Whether every number is the eager engine's to the last bit: no fused multiply-add, and no vector versions
            of mathematical functions.

    Returns:
        A `Kernel`.

    Raises:
        TypeError: output is no Value, and no list or tuple of Values.
        ValueError: An input or parameter is no leaf, or is given twice.

    Example:
        >>> x, w = Value(1.0, "x"), Value(3.0, "w")
        >>> loss = kernel(0.5 * (w * x - 1.0) ** 2, inputs=[x], parameters=[w])
        >>> [loss(row) for row in ([1.0], [2.0])]
        [2.0, 12.5]
    """
    outputs = [output] if isinstance(output, Value) else list(output) if isinstance(output, (list, tuple)) else []
    if not outputs or not all(isinstance(x, Value) for x in outputs):
        raise TypeError(f"a kernel is made of recorded Values, not of {output!r}")
    program, leaves = flatten(outputs, inputs, parameters)
    return Kernel(program, [x._data for x in inputs], leaves, len(parameters), isinstance(output, Value), exact)


class Kernel:
    """A compiled graph, as `kernel` returns it: a function of a batch.

    It is safe to call from several threads, and is pickled with its program and parameters.

    Attributes:
        leaves: The leaves of the graph that are no inputs, the parameters first: the array w of `source()` holds their
            data in this order.
        parameters: Those of them by which it is differentiated.

    Example:
        >>> x, w = Value(1.0), Value(3.0)
        >>> line = kernel(w * x, [x], [w])
        >>> line([2.0]), line.value_and_grad([[1.0], [2.0]])[0]
        (6.0, 4.5)
    """

    def __init__(
        self, program: FlatProgram, at: list[float], leaves: list[Value], parameters: int, single: bool, exact: bool
    ) -> None:
        self.program, self.leaves, self.single, self.exact = program, leaves, single, exact
        self.parameters = leaves[:parameters]
        self._point = [at, [x._data for x in leaves]]  # the numbers at which the graph was recorded
        self._made: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: x for name, x in self.__dict__.items() if name != "_made"}
        return _restored, (state,)

    # --- calls ------------------------------------------------------------------------------------------------------

    def __call__(self, X: Any, parameters: Any = None) -> Any:
        """The values of all rows.

        Where a number is not finite, the row is evaluated eagerly: what that gives or raises is the answer.

        Args:
            X: A matrix, a row for each sample and a column for each input; or one row.
            parameters: Numbers to take in place of the parameters' data, in their order.

        Returns:
            An array with a number for each row (a list, where X is one and llvmlite is missing); a number for
            one row. Where there are several outputs, they stand in as many columns.

        Raises:
            TypeError: X, or parameters, holds anything but real numbers.
            ValueError: The number of columns is not that of the inputs, or that of the parameters differs.

        Example:
            >>> x = Value(1.0)
            >>> [float(y) for y in kernel(x * x, [x])([[1.0], [3.0]])]
            [1.0, 9.0]
        """
        point = self._data(parameters)
        if not _array_like(X) and (not len(X) or not hasattr(X[0], "__len__")):
            results = self._single(X, point)[0]
            return results[0] if self.single else results
        found = self._arrays()
        native = self._native("value") if found is None else None
        if native is None and found is None:
            rows = [self._single(row, point)[0] for row in X]
            return _like(X, [row[0] for row in rows] if self.single else rows)
        import numpy as np

        matrix = self._matrix(X)
        if matrix.ndim == 1:
            results, _ = self._single(matrix.tolist(), point)
            return results[0] if self.single else np.array(results)
        out = np.empty((len(self.program.outputs), len(matrix)))
        if found is not None:
            rows_odd, _ = found.rows(_block(matrix), len(matrix), point, out)
        else:
            assert native is not None
            rows_odd, _ = native.rows(_columns(matrix), len(matrix), point, out, matrix)
        for i in rows_odd:
            out[:, i] = self._eager(matrix[i].tolist(), point)
        return out[0] if self.single else out.T

    def value_and_grad(
        self,
        X: Any,
        parameters: Any = None,
        *,
        weights: Any = None,
        reduction: str = "mean",
    ) -> tuple[float, Any]:
        """The mean over the rows, and its gradient by the parameters.

        Rows with a number that is not finite are evaluated eagerly.

        Args:
            X: A matrix, a row for each sample and a column for each input.
            parameters: An array of numbers to take in place of the parameters' data.
            weights: A number for each row: the value is then the sum of weight times output.
            reduction: "mean" or "sum" over the rows, where there are no weights.

        Returns:
            A pair: the value, a float, and the gradient, an array with an entry for each parameter.

        Raises:
            TypeError: X, weights or parameters hold anything but real numbers.
            ValueError: There are several outputs or no rows, shapes do not fit, or the reduction is unknown.

        Example:
            >>> x, w = Value(1.0), Value(3.0)
            >>> value, slope = kernel((w * x) ** 2, [x], [w]).value_and_grad([[1.0], [2.0]])
            >>> value, [float(x) for x in slope]
            (22.5, [15.0])
        """
        if reduction not in ("mean", "sum"):
            raise ValueError(f'reduction is "mean" or "sum", not {reduction!r}')
        point = self._data(parameters)
        found = self._arrays(gradient=True)
        if found is not None:
            return self._by_arrays(found, X, point, weights, reduction)
        native = self._native("gradient", len(X))
        if native is None or weights is not None or self.exact:
            return self._weighted(X, point, weights, reduction)
        matrix = X if type(X) is native.array and X.ndim == 2 and X.dtype is native.float else self._matrix(X, 2)
        n, columns = matrix.shape
        if columns != native.inputs or not n:
            self._check(matrix)
        scale = 1.0 / n if reduction == "mean" else 1.0
        small = n <= native.block and n * columns <= COPIED
        total = native.small_totals(matrix, n, point, scale) if small else None
        if total is None:
            total = scale * self._totals(native, matrix, point)
        return float(total[0]), total[1:]

    def backward(self, X: Any, *, weights: Any = None, reduction: str = "mean") -> float:
        """The mean over the rows; its gradient is added to the `grad` of the parameters, as Value.backward does.

        Args:
            X: A matrix, a row for each sample and a column for each input.
            weights: A number for each row: the value is then the sum of weight times output.
            reduction: "mean" or "sum" over the rows, where there are no weights.

        Returns:
            The value.

        Raises:
            TypeError: As in `value_and_grad`.
            ValueError: As in `value_and_grad`.

        Example:
            >>> x, w = Value(1.0), Value(3.0)
            >>> kernel((w * x) ** 2, [x], [w]).backward([[1.0], [2.0]]), w.grad
            (22.5, 15.0)
        """
        value, slopes = self.value_and_grad(X, weights=weights, reduction=reduction)
        add_to_grads(self.parameters, slopes if isinstance(slopes, list) else array("d", slopes.tobytes()))
        return value

    # --- to look at -------------------------------------------------------------------------------------------------

    @overload
    def source(
        self, language: Literal["python"] = ..., *, name: str = ..., real: str = ..., title: str = ...
    ) -> Source: ...
    @overload
    def source(self, language: str, *, name: str = ..., real: str = ..., title: str = ...) -> str: ...
    def source(
        self,
        language: str = "python",
        *,
        name: str = "kernel",
        real: str = "double",
        title: str = "A recorded graph",
    ) -> str:
        r"""The program as text, to read and to run.

        Args:
            language: "python" for value, or value and gradient, in Python: a function of the inputs and of all other
                `leaves`, with a loop where the graph repeats itself. Of a regular graph of 1,000 nodes or more it is
                the arrays in NumPy: a function of a matrix and of an array w of the data of the other leaves, whose
                value is the mean over the rows. "llvm" for the text that is compiled; "c" for one self-contained C99
                file, value and gradient, that needs math.h and nothing else: with loops over arrays or over turns,
                where there are such.
            name: What the functions of the C file begin with.
            real: The type of the numbers in the C file, "double" or "float".
            title: What stands at the top of the C file, with a formula of the graph, or counts and a fingerprint.

        Returns:
            The text. For several outputs, C's gradient is that of their sum with given weights (`value_and_vjp`), so
            that it goes with any loss.

        Raises:
            ImportError: LLVM's text is asked for, and llvmlite is missing.
            ValueError: There is no such language, no C for an op of the graph, or name or real cannot be.

        Example:
            >>> x, w = Value(1.0, "x"), Value(3.0, "w")
            >>> print(kernel((w * x).tanh(), [x]).source("c").rpartition("\n\n")[2], end="")
            double kernel_value(const double *x, const double *w)
            {
                return tanh(w[0] * x[0]);
            }
        """
        kind = "gradient" if self.parameters and self.single else "value"
        if language == "python":
            made = self._loop_source(kind) or self._array_source(kind)
            if made is None and self.program.count <= c99.PIECE:
                made = loop_source(self._graph(kind), TITLES[kind])
            return made or self._python(kind)[0]
        if language == "llvm":
            native = self._native(kind)
            if native is None:
                raise ImportError(f"LLVM's text needs llvmlite: {INSTALL}")
            return native.text
        if language == "c":
            return c99.source(self._c_graph(title), name, real)[0]
        raise ValueError(f'source is "python", "llvm" or "c", not {language!r}')

    def c_files(
        self,
        name: str = "kernel",
        *,
        real: str = "double",
        title: str = "A recorded graph",
        classes: Sequence[str] = (),
        rows: Sequence[Sequence[float]] = (),
        fixed: bool = False,
    ) -> dict[str, str]:
        """The program as a C file and its header, by name: what `source("c")` writes, to be built into a project.

        The header has macros for the sizes, and can be included from C and from C++, as which the C file also compiles.

        Args:
            name, real, title: as for `source`.
            classes: what the outputs are called; they become an array of strings.
            rows: inputs for a test: with them the C file has a `main`, compiled where the macro NAME_MAIN is defined,
                that compares its outputs with those in double precision.
            fixed: the numbers that one function leaves for the next have a fixed place in memory, not on the stack;
                then no two threads may call at once. The macro NAME_WORKSPACE says how many they are.

        Raises:
            ValueError: as for `source`; or the classes are not as many as the outputs.

        Example:
            >>> x = Value(1.0, "x")
            >>> files = kernel([x.tanh(), -x], [x]).c_files("wave", classes=["up", "down"])
            >>> list(files)
            ['wave.h', 'wave.c']
            >>> "#define WAVE_OUTPUTS 2" in files["wave.h"]
            True
        """
        point = [x._data for x in self.leaves]
        expected = [self._eager(row, point) for row in rows]
        tests = list(zip(rows, expected))
        return c_project.files(self._c_graph(title), name, real, list(classes), tests, fixed)

    def _c_graph(self, title: str) -> c99.Graph:
        looped = self._looped(["value", "gradient"][: 1 + bool(self.parameters)])
        found = None
        if not looped and importlib.util.find_spec("numpy") is not None and not (self.exact and self.parameters):
            found = self._text_arrays()

        def gradient() -> FlatProgram:
            return self._graph("gradient") if self.single else flatten(*self._recorded("cotangents"))[0]

        leaves = [x._data for x in self.leaves]
        single, exact = self.single, self.exact
        count = len(self.parameters)
        return c99.Graph(self.program, found, gradient, self._labels(), leaves, count, single, title, looped, exact)

    def _labels(self) -> list[str]:
        """The labels of the inputs, then of all other leaves."""
        return [self.program.labels.get(i, "") for i in (*self.program.inputs, *self.program.parameters)]

    def _looped(self, kinds: Sequence[str]) -> list[FlatProgram]:
        """The program for each kind as loops that are to be read; none: it is none, or its sums had other bits."""
        if importlib.util.find_spec("numpy") is None or (self.exact and "gradient" in kinds):
            return []
        rolled = self._rolled("value")
        if rolled is None or not readable(rolled):
            return []
        if rolled.count > FEW or any(loop.reads for loop in rolled.loops):  # which of the two texts is shorter
            found = self._text_arrays()
            if found is not None and (len(found.steps) < PAGE or LINES * len(found.steps) < rolled.count):
                return []
        values = whole_turns(rolled, self._labels())
        made = {"value": values}
        if "gradient" in kinds:
            total = values if self.single else values.combined()
            try:
                slopes = with_gradient(total, total.outputs[-1], values.parameters[: len(self.parameters)])
            except UnsuitableError:
                return []
            if not self.single:
                del slopes.outputs[len(values.outputs)]
            made["gradient"] = slopes
        return [made[kind] for kind in kinds]

    @property
    def constants(self) -> list[float]:
        """The numbers that were plain floats when the graph was recorded, and stay what they were."""
        return list(self.program.constants.values())

    @property
    def stats(self) -> dict[str, int]:
        """Counts of nodes as recorded, and of their arrays; or with the gradient's, and after simplification."""
        counts = {"recorded": self.program.count}
        found = self._arrays()
        if found is not None:
            return counts | {"arrays": len(found.steps)}
        for kind in ("value", "gradient") if self.parameters and self.single else ("value",):
            counts[f"{kind}: nodes"] = (self._rolled(kind) or self._graph(kind)).count
            native = self._native(kind)
            if native is not None:
                counts[f"{kind}: compiled, for each row"] = len(native.plan.every)
                counts[f"{kind}: compiled, once a call"] = len(native.plan.once)
        return counts

    # --- what is made at need ---------------------------------------------------------------------------------------

    def _graph(self, kind: str) -> FlatProgram:
        """The program of a kind: "value"; "gradient" for both; "weighted", both times a weight, a further input."""
        if kind == "value":
            return self.program
        if not self.single:
            raise ValueError("the gradient is that of one output; this kernel has several")
        program: FlatProgram | None = self._made.get(f"{kind} program")
        if program is None:
            program = self._made[f"{kind} program"] = flatten(*self._recorded(kind))[0]
        return program

    def _recorded(self, kind: str) -> tuple[list[Any], list[Value], list[Value]]:
        """Record the graph again, with derivatives; returns outputs, inputs and parameters."""
        nodes = rerecord(self.program, *self._point)
        outputs: list[Any] = [nodes[i] for i in self.program.outputs]
        inputs = [nodes[i] for i in self.program.inputs]
        leaves = [nodes[i] for i in self.program.parameters]
        if kind == "weighted":
            inputs.append(Value(1.0, "weight"))
            outputs[0] = outputs[0] * inputs[-1]
        total = outputs[0]
        if kind == "cotangents":
            cotangents = [Value(1.0, f"cotangent {k}") for k in range(len(outputs))]
            inputs += cotangents
            total = functools.reduce(operator.add, map(operator.mul, cotangents, outputs))
        if kind != "value":
            known = {*inputs, *leaves}
            slopes = gradients(total, leaves[: len(self.parameters)])
            for x in slopes:
                outputs.append(x._data if x.op is None and x not in known else x)  # a derivative that is constant
        return outputs, inputs, leaves

    def _native(self, kind: str, rows: int = 0) -> Native | None:
        """The compiled program, loops for one row on their own; None where llvmlite or NumPy is missing."""
        name = f"{kind} of a row" if rows == 1 and not self.exact and self._rolled(kind) is not None else kind
        if name not in self._made:
            with elapsed("compiling"):
                self._made[name] = self._compiled(kind, single=name != kind)
        made: Native | None = self._made[name]
        return made

    def _compiled(self, kind: str, single: bool) -> Native | None:
        machine = host()
        if machine is None:
            return None
        rolled = self._rolled(kind)
        program = lower(self._graph(kind) if rolled is None else rolled, machine.native, self.exact)
        results, sums = (program.outputs, []) if kind == "value" else ([], program.outputs)
        return Native(program, results, sums, exact=self.exact, single=single)

    def _rolled(self, kind: str) -> FlatProgram | None:
        """The program of a kind rolled up into loops; None: it has none, or its sums would be rounded otherwise."""
        name = f"{kind} rolled"
        made: FlatProgram | None = self._made.get(name)
        if name in self._made:
            return made
        if kind == "value":
            found = roll(self.program)
            made = None if found is None else found[0]
        elif self.single and not self.exact and (values := self._rolled("value")) is not None:
            program = values.weighted() if kind == "weighted" else values
            with contextlib.suppress(UnsuitableError):
                made = with_gradient(program, program.outputs[0], program.parameters[: len(self.parameters)])
        self._made[name] = made
        return made

    def _arrays(self, gradient: bool = False) -> Arrays | None:
        """The graph as arrays, for values or for the gradient too; None: straight-line code is used."""
        if "arrays" not in self._made:
            found = None
            if importlib.util.find_spec("numpy") is not None:
                with elapsed("compiling"):
                    looped = deep(self.program) and host() is not None and self._rolled("value") is not None
                    found = None if looped else arrays(self.program, exact=self.exact)
            self._made["arrays"] = found
        made: Arrays | None = self._made["arrays"]
        if not gradient or made is None:
            return made
        if "slopes" not in self._made:
            try:
                suits = self.single and not self.exact  # the adjoints are added up in another order
                if suits:
                    made.prepare(len(self.parameters))
            except UnsuitableError:
                suits = False
            self._made["slopes"] = suits
        return made if self._made["slopes"] else None

    def _array_source(self, kind: str) -> Source | None:
        """The arrays of the graph as Python text; None: there are none, or sums would be added in another order."""
        if importlib.util.find_spec("numpy") is None or (self.exact and kind == "gradient"):
            return None
        if "array text" not in self._made:
            found = self._text_arrays()
            count = len(self.parameters) if kind == "gradient" else None
            self._made["array text"] = found and array_source(found, self.program.outputs, gradient=count)
        made: Source | None = self._made["array text"]
        return made

    def _text_arrays(self) -> ArrayProgram | None:
        """The arrays of the graph, where these are to be read."""
        if "text arrays" not in self._made:
            self._made["text arrays"] = find_for_text(self.program, self.exact)
        made: ArrayProgram | None = self._made["text arrays"]
        return made

    def _loop_source(self, kind: str) -> Source | None:
        """The loops of the graph in Python; None: it has none."""
        looped = self._looped([kind])
        return loop_source(looped[0], TITLES[kind]) if looped else None

    def _python(self, kind: str) -> tuple[str, Callable[..., tuple[float, ...]]]:
        """The program as Python: its source, and the function of inputs and parameters."""
        name = f"{kind} python"
        if name not in self._made:
            outputs, inputs, leaves = self._recorded(kind)
            values = [x if isinstance(x, Value) else Value(x) for x in outputs]
            source = python_source(values, [*inputs, *leaves], name=TITLES[kind], header=True)
            self._made[name] = source, source.function()
        made: tuple[str, Callable[..., tuple[float, ...]]] = self._made[name]
        return made

    # --- rows -------------------------------------------------------------------------------------------------------

    def _data(self, parameters: Any) -> Any:
        """The numbers of all leaves that are no inputs, the parameters' first."""
        if parameters is None:
            return read_data(self.leaves)
        numbers = _numbers(parameters, len(self.parameters), "parameters", "parameter")
        if len(self.leaves) == len(self.parameters):
            return numbers
        return [*numbers, *(x.data for x in self.leaves[len(self.parameters) :])]

    def _single(self, row: Sequence[float], point: Any) -> tuple[list[float], int]:
        """The outputs for one row of data."""
        if len(row) != len(self.program.inputs):
            raise ValueError(f"{len(row)} numbers in a row for {len(self.program.inputs)} inputs")
        try:
            array("d", [*row])  # the fastest check that all are numbers; NumPy would accept text
        except TypeError:
            row = [number(x, "a kernel's row") for x in row]
        found = self._arrays()
        if found is not None:
            numbers, status = found.point(row, point)
            return (self._eager(row, point), status) if status else (numbers.tolist(), 0)
        native = self._native("value", 1)
        if native is not None and not native.calls_python:
            results, status = native.point(row, point)
            return (self._eager(row, point), status) if status else (results, 0)
        try:
            return list(self._python("value")[1](*map(float, row), *point)), 0
        except (ArithmeticError, ValueError):
            return self._eager(row, point), 2

    def _eager(self, row: Sequence[float], point: Any) -> list[float]:
        """The outputs for one row of data, computed and raising as the eager engine does."""
        nodes: list[Any] = rerecord(self.program, [float(x) for x in row], [float(x) for x in point])
        return [x._data if isinstance(x, Value) else x for x in (nodes[i] for i in self.program.outputs)]

    def _eager_gradient(self, row: Sequence[float], point: Any) -> list[float]:
        """The output and its gradient by the parameters for one row of data, by the eager engine."""
        nodes = rerecord(self.program, [float(x) for x in row], [float(x) for x in point])
        output = nodes[self.program.outputs[0]]
        output.backward()
        return [output.data, *(nodes[i].grad for i in self.program.parameters[: len(self.parameters)])]

    def _matrix(self, X: Any, dimensions: int = 0) -> np.ndarray[Any, Any]:
        """X as a matrix of floats with a column for each input."""
        import numpy as np

        if isinstance(X, np.ma.MaskedArray):
            raise TypeError(
                "a batch has no masked numbers: drop them (X[~X.mask.any(axis=1)]) or fill them (X.filled(0.0))"
            )
        given = np.asarray(X)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"a batch is an array of real numbers, not of {given.dtype} (say, X.astype(float))")
        matrix = given.astype(float, copy=False)
        if matrix.ndim not in ((dimensions,) if dimensions else (1, 2)) or matrix.shape[-1] != len(self.program.inputs):
            raise ValueError(
                f"X has shape {matrix.shape}; it needs {len(self.program.inputs)} columns, one for each input"
            )
        return matrix

    def _check(self, matrix: np.ndarray[Any, Any]) -> None:
        self._matrix(matrix, 2)
        raise ValueError("X has no rows; a mean needs at least one")

    def _totals(self, native: Native, matrix: np.ndarray[Any, Any], point: Any, weights: Any = None) -> Any:
        """The sums over the rows, block by block."""
        columns = _columns(matrix)
        if weights is not None:
            columns.append(_columns(weights[:, None])[0])
        again = self._again(matrix, point, weights)
        return native.totals(columns, len(matrix), point, again, (matrix, weights))

    def _again(self, matrix: np.ndarray[Any, Any], point: Any, weights: Any) -> Callable[[int, int], Any]:
        """A function that computes the sums over some of the rows with the eager engine."""
        import numpy as np

        def again(start: int, stop: int) -> Any:
            total = np.zeros(1 + len(self.parameters))
            for i in range(start, stop):
                scale = 1.0 if weights is None else float(weights[i])
                total += scale * np.array(self._eager_gradient(matrix[i].tolist(), point))
            return total

        return again

    def _by_arrays(self, found: Arrays, X: Any, point: Any, weights: Any, reduction: str) -> tuple[float, Any]:
        """`value_and_grad` with arrays."""
        import numpy as np

        n = len(X)
        scale = 1.0 / n if reduction == "mean" and n else 1.0
        if weights is not None:
            weights = np.ascontiguousarray(_numbers(weights, n, "weights", "row"), float)
        elif type(X) is np.ndarray and X.dtype is np.dtype(float) and X.ndim == 2 and n:
            total = found.small_totals(X, point, len(self.parameters), scale)
            if total is not None:
                return float(total[0]), total[1:]
        matrix = self._matrix(X, 2)
        if not n:
            self._check(matrix)
        again = self._again(matrix, point, weights)
        total = found.totals(Summands(_block(matrix), n, point, len(self.parameters), again, weights, scale))
        return float(total[0]), total[1:]

    def _weighted(self, X: Any, point: Any, weights: Any, reduction: str) -> tuple[float, Any]:
        """The slow cases of value_and_grad: with weights, exact, or in Python."""
        n = len(X)
        if weights is not None:
            weights = _numbers(weights, n, "weights", "row")
        native = self._native("gradient" if weights is None else "weighted")
        if native is None:
            return self._in_python(X, point, weights, reduction)
        import numpy as np

        matrix = self._matrix(X, 2)
        if not n:
            self._check(matrix)
        given = None if weights is None else np.ascontiguousarray(weights, float)
        total = self._totals(native, matrix, point, given)
        if weights is None and reduction == "mean":
            total /= n
        return float(total[0]), total[1:]

    def _in_python(self, X: Any, point: Any, weights: Any, reduction: str) -> tuple[float, Any]:
        function = self._python("gradient")[1]
        n = len(X)
        if not n:
            raise ValueError("X has no rows; a mean needs at least one")
        total = [0.0] * (1 + len(self.parameters))
        for k, row in enumerate(X):
            if len(row) != len(self.program.inputs):
                raise ValueError(f"{len(row)} numbers in a row for {len(self.program.inputs)} inputs")
            try:
                results: Sequence[float] = function(*map(float, row), *point)
            except (ArithmeticError, ValueError):
                results = [math.nan]
            if not all(map(math.isfinite, results)):
                results = self._eager_gradient(row, point)
            scale = 1.0 if weights is None else weights[k]
            total = [a + scale * b for a, b in zip(total, results)]
        if weights is None and reduction == "mean":
            total = [x / n for x in total]
        return float(total[0]), _like(X, total[1:])


def _restored(state: dict[str, Any]) -> Kernel:
    made = Kernel.__new__(Kernel)
    made.__dict__.update(state, _made={})
    return made


def _numbers(given: Any, count: int, what: str, each: str) -> Any:
    """Check that these are `count` real numbers; returns a list, or a contiguous array of floats for an array."""
    if type(given) is trees.array_type() and given.shape == (count,):  # 0.3 us, where the general case takes 2
        numpy = sys.modules["numpy"]
        if given.dtype is numpy.dtype(float):
            return numpy.ascontiguousarray(given)
    if not _array_like(given):
        if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
            raise TypeError(
                f"{what} are a list or an array, a number for each {each} in order, not {type(given).__name__}"
            )
        numbers: Any = [number(x, what) for x in given]
    else:
        np = importlib.import_module("numpy")
        if isinstance(given, np.ma.MaskedArray):
            raise TypeError(f"{what} cannot be masked: fill them ({what}.filled(0.0), say)")
        if given.dtype.kind not in "fiub":
            part = ".real" if given.dtype.kind == "c" else ""
            raise TypeError(f"{what} are real numbers, not {given.dtype} (say, {what}{part}.astype(float))")
        if given.ndim != 1:
            raise ValueError(f"{what} of shape {given.shape}; they need the shape ({count},): a number for each {each}")
        numbers = np.ascontiguousarray(given, float)
    if len(numbers) != count:
        raise ValueError(
            f"{len(numbers)} {what} for {count} {each}s"
            if each == "row"
            else f"{len(numbers)} numbers for {count} {what}"
        )
    return numbers


def _array_like(X: Any) -> bool:
    return hasattr(X, "__array_interface__")


def _like(X: Any, rows: list[Any]) -> Any:
    """The results, as an array if the batch was one."""
    return importlib.import_module("numpy").array(rows) if _array_like(X) else rows


def _block(matrix: np.ndarray[Any, Any]) -> Callable[[int, int], Any]:
    """What gives some of the rows of a batch as an array with a row for each input; no number is copied."""
    return lambda start, stop: matrix[start:stop].T


def _columns(matrix: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    address, (down, across) = matrix.__array_interface__["data"][0], matrix.strides
    return [(address + k * across, down) for k in range(matrix.shape[1])]

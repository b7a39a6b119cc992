"""Array programs as machine code: one call for a batch, values or sums with their gradient.

A call computes its rows block by block, in memory of its own that does not grow with the batch. Large batches are split
into shares for threads; the shares do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp.compiler import arrays as finding
from micrograd_bp.compiler.arrays import INPUTS, PARAMETERS, find
from micrograd_bp.compiler.evaluation import Arrays, Summands, UnsuitableError
from micrograd_bp.compiler.executable import Job
from micrograd_bp.compiler.machine import Code, Host, cores, host, loop, row_status
from micrograd_bp.compiler.program import FlatProgram
from micrograd_bp.compiler.vector_loops import ARGUMENTS, Buffer, Loops
from micrograd_bp.compiler.vector_sweeps import ArraySweeps

if TYPE_CHECKING:
    import numpy as np

# From so many nodes on, and with so many in an array, arrays are at least as fast as straight-line code (8-8-1: as
# fast, 16-16-1 with one row: 1.3 times, 24-24-1: twice), and compiled in a fraction of the time.
SMALL, SHARE = 500, 32
COPIED = 8192  # numbers: fewer are copied (0.5 us), since their address from NumPy would take longer (1.6 us)
# Rows of a block: few enough that what it keeps stays in the cache, but enough for products of matrices.
KEPT, LEAST, MOST = 1 << 14, 64, 128
# Operations that are worth another thread, some 0.5 ms; sums are of so many shares at most, each of so many operations
# for each slope that is then to be added; and operations after which an interrupt should be answered.
CHUNK, SHARES, FULL, LONG = 20_000_000, 8, 256, 1_000_000_000
# Layout of the argument block: the code is called with a pointer to these words.
ARRAY_CALL = {
    "rows": "ptr", "sx": "i64",  # the inputs, and the distance of two rows, in numbers
    "n": "i64", "p": "ptr",
    "weights": "ptr", "scale": "double",  # a number for each row; if null, the scale for all
    "outs": "ptr", "so": "i64",  # the results, and the distance of two results, in numbers
    "status": "ptr", "totals": "ptr", "w": "ptr",
    "stop": "ptr",  # a word that ends the call between two blocks of rows as soon as it is not 0
}  # fmt: skip


class Emission(Loops):
    """Writes the code for values, or for sums with their gradient; single: of one row, with members in lanes."""

    def __init__(self, owner: Vectors, machine: Host, gradient: bool, single: bool) -> None:
        super().__init__(owner, machine, gradient, single)
        self.text = self._text()

    def _text(self) -> str:
        """The LLVM module."""
        sweeps = ArraySweeps(self)
        zeroed = [self._clear(k, buffer) for k, buffer in enumerate(self.zeroed) if buffer.uniform]
        clear = "".join(self._clear(k, buffer) for k, buffer in enumerate(self.zeroed) if not buffer.uniform)
        inputs = self.values[INPUTS]
        arguments = "\n".join(
            f"%{name}.at = getelementptr i64, ptr %call, i64 {k}\n%{name} = load {kind}, ptr %{name}.at, align 8"
            for k, (name, kind) in enumerate(ARRAY_CALL.items())
        )
        start = f"{arguments}\n%q = getelementptr double, ptr %totals, i64 1\n%common = {self.common_bad.at(0)}\n"
        start += f"call void @llvm.memset.p0.i64(ptr %common, i8 0, i64 {8 * self.lanes}, i1 false)\n"
        start += self._clear("cg", self.common_guard)
        if self.gradient and not self.exclusive:
            start += f"call void @llvm.memset.p0.i64(ptr %q, i8 0, i64 {8 * self.owner.sizes[PARAMETERS]}, i1 false)\n"
        start += "".join(zeroed)
        exclusive = "true" if self.exclusive else "false"
        plain = f"ptr %w, ptr %p, ptr %q, ptr %rows, i64 %sx, i64 1, i64 1, i1 {exclusive}"
        chosen = "%heavy = icmp ne ptr %weights, null\n%one = select i1 %heavy, ptr %weights, ptr %scale.at\n"
        chosen += "%many = select i1 %heavy, i64 1, i64 0\n"

        def calls(lines: list[str], arguments: str) -> str:
            return "\n".join(lines).replace(ARGUMENTS, arguments) + "\n"

        if self.single:
            start += f"%in = {inputs.at(0)}\n"
            start += f"call void @llvm.memcpy.p0.p0.i64(ptr %in, ptr %rows, i64 {8 * inputs.size}, i1 false)\n"
            if self.gradient:
                start += f"{chosen}%seed.x = load double, ptr %one, align 8\n%seed = {self.seed.at(0)}\n"
                start += "store double %seed.x, ptr %seed, align 8\n"
        start += calls(sweeps.once, plain)
        if not self.single:
            block = f"""%halt.x = load volatile i64, ptr %stop, align 8
%halt = icmp ne i64 %halt.x, 0
br i1 %halt, label %block.skip, label %block.work
block.work:
%start = mul i64 %b, {self.cols}
%left = sub i64 %n, %start
%full = icmp uge i64 %left, {self.cols}
%count = select i1 %full, i64 {self.cols}, i64 %left
%count.up = add i64 %count, {self.lanes - 1}
%vecs = udiv i64 %count.up, {self.lanes}
%cols = mul i64 %vecs, {self.lanes}
%last = sub i64 %count, 1
%x.at = mul i64 %start, %sx
%x = getelementptr double, ptr %rows, i64 %x.at
%bad = {self.bad.at(0)}
%bytes = mul i64 %cols, 8
call void @llvm.memset.p0.i64(ptr %bad, i8 0, i64 %bytes, i1 false)
%guard = {self.guard.at(0)}
call void @llvm.memset.p0.i64(ptr %guard, i8 0, i64 %bytes, i1 false)
{self._staged(inputs) if inputs.used else ""}{clear}%first = icmp eq i64 %b, {0 if self.exclusive else -1}
{self._seeds() if self.gradient else ""}{calls(sweeps.every, ARGUMENTS)}"""
            if self.gradient:
                fold = f"""%f.p = getelementptr {self.vector}, ptr %bad, i64 %f
%f.x = load {self.vector}, ptr %f.p, align 8
%f.c = load {self.vector}, ptr %common, align 8
%f.y = fadd {self.vector} %f.x, %f.c
store {self.vector} %f.y, ptr %common, align 8"""
                block += calls(sweeps.back, ARGUMENTS) + loop("f", "%vecs", fold)
            else:
                block += self._results() + self._statuses()
            block += "\nbr label %block.skip\nblock.skip:"
            start += f"%b.up = add i64 %n, {self.cols - 1}\n%blocks = udiv i64 %b.up, {self.cols}\n"
            start += "%odd = alloca i64\nstore i64 0, ptr %odd, align 8\n"
            start += (chosen if self.gradient else "") + loop("b", "%blocks", block) + "\n"
        start += calls(sweeps.back_once, plain)
        if self.gradient:
            assert self.total is not None
            start += f"""%total.p = {self.total.at(0)}
%total = load double, ptr %total.p, align 8
store double %total, ptr %totals, align 8
%total.0 = fmul double %total, 0.0
{self._common()}%wrong = fadd double %common.r, %total.0
%is.bad = fcmp uno double %wrong, 0.0
%answer = zext i1 %is.bad to i64
"""
        elif self.single:
            start += (
                "%start = add i64 0, 0\n%count = add i64 0, 1\n"
                + self._results()
                + self._common()
                + f"""
%cg.p = {self.common_guard.at(0)}
%cg.x = load double, ptr %cg.p, align 8
%other = fcmp une double %cg.x, 0.0
%is.bad = fcmp uno double %common.r, 0.0
%code2 = select i1 %is.bad, i8 2, i8 0
%code = select i1 %other, i8 1, i8 %code2
store i8 %code, ptr %status, align 1
%answer = zext i8 %code to i64
"""
            )
        else:
            start += "%answer = load i64, ptr %odd, align 8\n"
        self.declarations["memcpy"] = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
        self.declarations["memset"] = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
        driver = f"define i64 @run(ptr %call) {{\n{start}ret i64 %answer\n}}"
        return "\n".join([*dict.fromkeys(self.declarations.values()), *self.functions, driver])

    def _clear(self, name: Any, buffer: Buffer) -> str:
        count = f"{8 * buffer.size}" if buffer.uniform else f"{8 * buffer.size * self.ld}"
        text = f"%clear{name} = {buffer.at(0)}\n"
        return f"{text}call void @llvm.memset.p0.i64(ptr %clear{name}, i8 0, i64 {count}, i1 false)\n"

    def _common(self) -> str:
        """Code that sets %common.r: nan if a number that is the same for all rows is not finite."""
        return f"%common.v = load {self.vector}, ptr %common, align 8\n" + self._sum(
            "common.r", "%common.v", self.lanes
        )

    def _staged(self, inputs: Buffer) -> str:
        """Code that copies the inputs of a block, input by input; beyond the last row, the last row is repeated."""
        whole = inputs.size // self.lanes * self.lanes
        text = f"%stage = {inputs.at(0)}\n"
        if whole:
            text += (
                f"call void {self.pointers[2]}(ptr %x, i64 %sx, ptr %stage, i64 {self.ld}, i64 %count, i64 {whole})\n"
            )
        if inputs.size > whole:
            number = """%g.over = icmp ugt i64 %g, %last
%g.row = select i1 %g.over, i64 %last, i64 %g
%g.m = mul i64 %g.row, %sx
%g.p = getelementptr double, ptr %h.x, i64 %g.m
%g.x = load double, ptr %g.p, align 8
%g.to = getelementptr double, ptr %h.to, i64 %g
store double %g.x, ptr %g.to, align 8"""
            text += loop(
                "h",
                str(inputs.size),
                f"""%h.x = getelementptr double, ptr %x, i64 %h
%h.m = mul i64 %h, {self.ld}
%h.to = getelementptr double, ptr %stage, i64 %h.m
{loop("g", "%cols", number)}""",
                str(whole),
            )
            text += "\n"
        return text

    def _seeds(self) -> str:
        """Code that sets the weights of a block's rows; 0 beyond the last row."""
        weight = """%d.in = icmp ult i64 %d, %count
%d.row = select i1 %d.in, i64 %d, i64 0
%d.at = add i64 %d.row, %start
%d.m = mul i64 %d.at, %many
%d.p = getelementptr double, ptr %one, i64 %d.m
%d.x = load double, ptr %d.p, align 8
%d.y = select i1 %d.in, double %d.x, double 0.0
%d.to = getelementptr double, ptr %seed, i64 %d
store double %d.y, ptr %d.to, align 8"""
        return f"%seed = {self.seed.at(0)}\n{loop('d', '%cols', weight)}\n"

    def _results(self) -> str:
        """Code that copies the outputs of a block to their places."""
        text = ""
        for number, (k, members, which) in enumerate(self.owner.outputs):
            name, buffer = f"y{number}", self.values[k]
            body = f"""%{name}.mp = getelementptr i64, ptr {self.table(members)}, i64 %{name}
%{name}.m = load i64, ptr %{name}.mp, align 8
%{name}.wp = getelementptr i64, ptr {self.table(which)}, i64 %{name}
%{name}.w = load i64, ptr %{name}.wp, align 8
{self._pointer(f"{name}.p", buffer, f"%{name}.m", 1 if buffer.uniform else self.ld)}%{name}.s = mul i64 %{name}.w, %so
%{name}.o = add i64 %{name}.s, %start
%{name}.q = getelementptr double, ptr %outs, i64 %{name}.o
"""
            if buffer.uniform:
                inner = f"%{name}.r = getelementptr double, ptr %{name}.q, i64 %{name}i\n"
                inner += f"store double %{name}.x, ptr %{name}.r, align 8"
                body += f"%{name}.x = load double, ptr %{name}.p, align 8\n{loop(name + 'i', '%count', inner)}"
            else:
                body += f"%{name}.b = mul i64 %count, 8\n"
                body += f"call void @llvm.memcpy.p0.p0.i64(ptr %{name}.q, ptr %{name}.p, i64 %{name}.b, i1 false)"
            text += loop(name, str(len(members)), body) + "\n"
        return text

    def _statuses(self) -> str:
        """Code that stores a status for each row of a block, and counts those that are not 0."""
        row = f"""%e.bp = getelementptr double, ptr %bad, i64 %e
%e.b = load double, ptr %e.bp, align 8
%e.bs = fadd double %e.b, %common.r
%e.bad = fcmp uno double %e.bs, 0.0
%e.gp = getelementptr double, ptr %guard, i64 %e
%e.g = load double, ptr %e.gp, align 8
%e.gs = fadd double %e.g, %cg.x
%e.other = fcmp une double %e.gs, 0.0
{row_status("e", "%odd")}"""
        common = self._common() + f"%cg.p = {self.common_guard.at(0)}\n%cg.x = load double, ptr %cg.p, align 8\n"
        return common + loop("e", "%count", row) + "\n"


class Vectors(Arrays):
    """An array program as machine code, ready to run."""

    def __init__(self, program: Any, outputs: list[int], guards: list[tuple[int, bool]], checks: list[int]) -> None:
        import numpy as np

        machine = host()
        assert machine is not None
        self.machine, self.choose = machine, machine.native
        super().__init__(program, outputs, guards, checks)
        lanes = machine.lanes
        rows = min(MOST, max(LEAST, KEPT // self.kept))
        self.vectors = max(1, rows // lanes)
        self.block = self.vectors * lanes
        read = np.zeros(self.sizes[PARAMETERS], bool)
        for step in self.steps:
            for places in step.parameters():
                read[places] = True
        self.covered = bool(read.all())
        self.operations: int = 1 + sum(step.work() for step in self.steps)
        self.jobs: dict[int, Any] = {}
        self._codes: dict[tuple[bool, bool], MachineCode] = {}
        self._texts: dict[tuple[bool, bool], Emission] = {}
        self._spare: list[Any] = []  # arrays of sums to use again: new memory would be 3 % of a call of 512-512-1

    def code(self, gradient: bool, single: bool) -> MachineCode:
        """The code for values, or for sums with their gradient, of one row or of many."""
        key = gradient, single
        if key not in self._codes:
            emission = self._texts.pop(key, None) or Emission(self, self.machine, gradient, single)
            self._codes[key] = MachineCode(emission)
        return self._codes[key]

    def small_totals(self, X: Any, point: Any, parameters: int, scale: float) -> Any:
        """`totals` of a matrix of floats, times scale; None if a thread is not enough, or a number is not finite."""
        n, columns = X.shape
        if n * self.operations >= CHUNK or columns != self.sizes[INPUTS]:
            return None
        code = self.code(True, n == 1)
        if X.size <= COPIED and self.sizes[PARAMETERS] <= COPIED:
            total = code.small(X, n, point, scale)
        else:
            total = code.large(X, n, point, scale)
        return total if total is None or len(total) == 1 + parameters else total[: 1 + parameters]

    def rows(self, block: Callable[[int, int], Any], n: int, point: Any, out: np.ndarray[Any, Any]) -> tuple[Any, Any]:
        """Compute n rows into columns of `out`; returns the rows that failed and their statuses, as `Native.rows`."""
        import numpy as np

        if not n:
            return (), ()
        code = self.code(False, n == 1)
        point = np.ascontiguousarray(point, float)
        size = self._share(n)

        def part(word: int, start: int) -> Any:
            stop = min(n, start + size)
            X = np.ascontiguousarray(block(start, stop).T)
            status = np.empty(stop - start, np.int8)
            odd = code(X, stop - start, point, None, 0.0, out[:, start:stop], status, None, word)
            found = np.nonzero(status)[0] if odd else np.zeros(0, np.intp)
            return found + start, status[found]

        parts = self._shared(part, range(0, n, size), n, (out, point))
        return np.concatenate([x for x, _ in parts]), np.concatenate([x for _, x in parts])

    def point(self, row: Sequence[float], point: Any) -> tuple[Any, int]:
        """The outputs for one row, and its status."""
        import numpy as np

        code = self.code(False, True)
        if self.sizes[PARAMETERS] <= COPIED:
            return code.one(row, point, self.count)
        out, status = np.empty((self.count, 1)), np.empty(1, np.int8)
        X = np.array(row, float).reshape(1, -1)
        code(X, 1, np.ascontiguousarray(point, float), None, 0.0, out, status, None, 0)
        return out[:, 0], int(status[0])

    def prepare(self, parameters: int) -> None:
        super().prepare(parameters)
        self._texts[True, False] = Emission(self, self.machine, True, False)  # it says whether it can be done

    def totals(self, rows: Summands) -> Any:
        """The sum of the one output over the rows, and its gradient by the first parameters."""
        import numpy as np

        n, weights, scale = rows.n, rows.weights, rows.scale
        point = np.ascontiguousarray(rows.point, float)
        code = self.code(True, n == 1)
        count = 1 + self.sizes[PARAMETERS]
        size = max(-(-n // SHARES), FULL * count // self.operations) if n * self.operations >= CHUNK else n
        size = -(-size // self.block) * self.block
        spare = self._spare

        def part(word: int, start: int, stop: int = 0) -> Any:
            stop = stop or min(n, start + size)
            try:
                total = spare.pop()
            except IndexError:
                total = np.empty(count)
            X = np.ascontiguousarray(rows.block(start, stop).T)
            some = None if weights is None else weights[start:stop]
            bad = code(X, stop - start, point, some, scale, None, None, total, word)
            return None if bad else total[: 1 + rows.parameters]

        def halves(start: int, stop: int) -> Any:
            """The sum over rows of which one is not finite: its block is computed by `again`, the others as usual."""
            if stop - start <= self.block:
                return rows.again(start, stop) * (scale if weights is None else 1.0)
            middle = start + -(-(stop - start) // 2 // self.block) * self.block
            found = [(part(0, low, high), low, high) for low, high in ((start, middle), (middle, stop))]
            return sum(halves(low, high) if total is None else total for total, low, high in found)

        starts = range(0, n, size)
        total = None
        for start, found in zip(starts, self._shared(part, starts, n, (point, weights))):
            if found is None:
                found = halves(start, min(n, start + size))
            if total is None:
                total = found
            else:
                total += found
                if found.base is not None:
                    spare.append(found.base)
        return total

    def _share(self, n: int) -> int:
        """How many rows a share has, to be worth a thread; the split does not depend on the number of threads."""
        blocks = CHUNK // (self.operations * self.block) + 1
        return int(min(n, blocks * self.block))

    def _shared(self, part: Callable[[int, int], Any], starts: range, n: int, keep: Any) -> list[Any]:
        """The results of the shares in order, by threads where that is faster."""
        workers = min(len(starts), cores())
        if workers > 1 or n * self.operations > LONG:
            return Job(self, part, starts, keep).run(workers)
        return [part(0, start) for start in starts]


class Memory:
    """The memory of one call. Each call has its own, so that several threads can call at once."""

    def __init__(self, program: MachineCode) -> None:
        import numpy as np

        self.space = np.zeros(program.space + 16)
        first = -(address(self.space) // 8) % 8  # vectors are aligned to lines of the cache
        for offset, numbers in program.initial:
            self.space[first + offset : first + offset + len(numbers)] = numbers
        self.at = address(self.space) + 8 * first
        self.words = self.call(0, 0, 0)
        self.point = np.empty(program.parameters if program.parameters <= COPIED else 0)
        self.total = np.empty(len(self.point) + 1)
        self.staged: dict[int, Any] = {}
        self.out: Any = None

    def call(self, rows: int, stride: int, n: int) -> Any:
        """The argument block of the code, as 64-bit words, followed by a word of 0 for `stop`."""
        words = (ctypes.c_int64 * (len(ARRAY_CALL) + 1))(rows, stride, n)
        words[10], words[11] = self.at, ctypes.addressof(words) + 8 * len(ARRAY_CALL)
        return words

    def stage(self, n: int, columns: int) -> Any:
        """For small batches of n rows: a matrix to copy the data to, the argument block, and the scale in it."""
        import numpy as np

        if len(self.staged) > 8:
            self.staged.clear()
        place = np.empty((n, columns))
        words = self.call(address(place), columns, n)
        words[3], words[9] = address(self.point), address(self.total)
        self.staged[n] = staged = place, words, ctypes.c_double.from_buffer(words, 40)
        return staged


class MachineCode:
    """Compiled code, with memory for its calls."""

    def __init__(self, emission: Emission) -> None:
        self.text, self.space, self.initial = emission.text, emission.space, emission.initial
        self.inputs, self.parameters = (emission.owner.sizes[k] for k in (INPUTS, PARAMETERS))
        self.kept = emission.tables, emission.library
        self.code = Code(self.text, 1, "run")
        self.run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(self.code.address)
        self._idle: list[Memory] = []

    def __call__(
        self, X: Any, n: int, point: Any, weights: Any, scale: float, out: Any, status: Any, total: Any, word: int
    ) -> int:
        """Run the code on n rows; returns how many have failed, or of sums, whether a number was not finite."""
        memory = self._memory()
        try:
            words = memory.words
            words[0], words[1], words[2], words[3] = address(X), X.strides[0] // 8, n, address(point)
            words[4] = 0 if weights is None else address(weights)
            ctypes.c_double.from_buffer(words, 40).value = scale
            if out is not None:
                words[6], words[7], words[8] = address(out), out.strides[0] // 8, address(status)
            if total is not None:
                words[9] = address(total)
            words[11] = word or ctypes.addressof(words) + 8 * len(ARRAY_CALL)
            return int(self.run(words))
        finally:
            self._idle.append(memory)

    def small(self, X: Any, n: int, point: Any, scale: float) -> Any:
        """The sums over the n rows of a small matrix, times scale; None if a number was not finite."""
        memory = self._memory()
        try:
            place, words, factor = memory.staged.get(n) or memory.stage(n, self.inputs)
            place[:] = X
            memory.point[:] = point
            factor.value = scale
            return None if self.run(words) else memory.total.copy()
        finally:
            self._idle.append(memory)

    def large(self, X: Any, n: int, point: Any, scale: float) -> Any:
        """`small` for a matrix that is not copied, since it is large."""
        import numpy as np

        X, point = np.ascontiguousarray(X), np.ascontiguousarray(point, float)
        total = np.empty(1 + self.parameters)
        return None if self(X, n, point, None, scale, None, None, total, 0) else total

    def one(self, row: Sequence[float], point: Any, count: int) -> tuple[Any, int]:
        """The `count` outputs for one row, in a new array, and its status."""
        memory = self._memory()
        try:
            place, words, _ = memory.staged.get(1) or memory.stage(1, self.inputs)
            if memory.out is None:
                import numpy as np

                memory.out = out = np.empty(count), np.empty(1, np.int8)
                words[6], words[7], words[8] = address(out[0]), 1, address(out[1])
            place[0] = row
            memory.point[:] = point
            status = self.run(words)
            return memory.out[0].copy(), status
        finally:
            self._idle.append(memory)

    def _memory(self) -> Memory:
        try:
            return self._idle.pop()
        except IndexError:
            return Memory(self)


def address(array: Any) -> int:
    """The address of an array's numbers."""
    return int(array.__array_interface__["data"][0])


def arrays(program: FlatProgram, guards: Sequence[tuple[int, bool]] = (), exact: bool = False) -> Arrays | None:
    """A program as arrays, ready to run; None if straight-line code is better, or arrays are impossible."""
    compiled = len(program) >= min(SMALL, finding.SMALL) and importlib.util.find_spec("llvmlite") is not None
    compiled = compiled and host() is not None
    if compiled:
        found = find(program, exact, min(SMALL, finding.SMALL), min(SHARE, finding.MEMBERS))
    else:
        found = find(program, exact)
    if found is None:
        return None
    kinds: list[type[Arrays]] = [Vectors] if compiled else []
    if len(program) >= finding.SMALL:
        kinds.append(Arrays)
    for kind in kinds:
        try:
            return kind(found, program.outputs, list(guards), program.checks)
        except UnsuitableError:
            continue
    return None

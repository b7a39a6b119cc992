"""The machine that runs this process: its instructions, its C library, and LLVM IR compiled for it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import math
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from micrograd_bp._engine.instructions import instruction
from micrograd_bp._engine.progress import elapsed
from micrograd_bp.ops import Op

INSTALL = "pip install 'micrograd-bp[jit]'"
PATIENCE = 10.0  # seconds that the exit of the interpreter waits for a call of LLVM


@dataclass(frozen=True)
class Host:
    """The machine that code is generated for: its vector registers, its functions, and llvmlite's binding."""

    lanes: int  # doubles in a vector register
    mangling: str  # the letter for such a register in the names of libmvec's functions
    fma: bool
    llvm: Any
    _known: dict[Any, str] = field(default_factory=dict, compare=False)

    def native(self, op: Op, count: int, exact: bool) -> str:
        """The instruction or function of this machine for an op with n operands; "" if there is none."""
        known = self._known.get((op, count, exact))
        if known is None:
            known = self._known[op, count, exact] = self._find(op, count, exact)
        return known

    def _find(self, op: Op, count: int, exact: bool) -> str:
        name = op.native
        if not name or (exact and not op.exact) or (op.arity is None and count != len(op.domain)):
            return ""
        is_instruction = instruction(name).llvm or name == "select" or name.startswith(("llvm.", "fcmp "))
        return name if is_instruction or function_address(name) else ""


class _Compiling:
    """Serialises calls of LLVM, whose global context is not thread-safe.

    A fork waits until no compilation runs, since a lock held at the fork, ours or llvmlite's, would never be released
    in the child. Calls are made in a helper thread: a signal handler that raises inside llvmlite would leave its lock
    held. The exit of the interpreter waits for a call that an interrupt has left running, but not without end: a thread
    that is interrupted while it starts another one can leave that waiting for good.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.codes: weakref.WeakSet[Code] = weakref.WeakSet()
        self.dropped: SimpleQueue[Any] = SimpleQueue()  # engines to be closed at the next call
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self.before_fork, after_in_parent=self.after_fork, after_in_child=self.renew)
        atexit.register(self.abandon)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return function(*args), called while no other thread calls LLVM."""
        if threading.get_ident() != threading.main_thread().ident:
            return self._call(function, args)
        answer: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def work() -> None:
            try:
                answer.put((self._call(function, args), None))
            except BaseException as error:
                answer.put((None, error))

        try:
            threading.Thread(target=work, name="micrograd_bp compiles", daemon=True).start()
        except RuntimeError:  # no thread can be started: the interpreter is shutting down, or there are too many
            work()
        with elapsed("compiling"):
            result, error = answer.get()
        if error is not None:
            raise error
        return result

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with self.lock:
            while not self.dropped.empty():
                with contextlib.suppress(ctypes.ArgumentError):  # the garbage collector has emptied it already
                    self.dropped.get().close()
            return function(*args)

    def before_fork(self) -> None:
        self.lock.acquire()

    def after_fork(self) -> None:
        with contextlib.suppress(RuntimeError):  # not acquired: an interrupt came while the fork waited
            self.lock.release()

    def renew(self) -> None:
        self.lock = threading.RLock()

    def abandon(self) -> None:
        """Called at exit: keep all machine code in memory, since a daemon thread may be running it."""
        if self.lock.acquire(timeout=PATIENCE):
            self.lock.release()
        for code in list(self.codes):
            code.engine.detach()
        while not self.dropped.empty():
            self.dropped.get().detach()


_compiling = _Compiling()


def declare(machine: Host, function: str) -> None:
    """Register the address of the C library's function with LLVM."""
    _compiling.call(machine.llvm.add_symbol, function, function_address(function))


@functools.cache
def function_address(function: str) -> int:
    """The address of the C library's function; 0 if there is none of that name."""
    for name in (None, "libm.so.6", "ucrtbase"):
        library = _library(name)
        if hasattr(library, function):
            return ctypes.cast(getattr(library, function), ctypes.c_void_p).value or 0
    return 0


@functools.cache
def vector_function(machine: Host, op: Op, arity: int) -> str:
    """The name of libmvec's function for the op, if there is one that agrees with `forward` to 4 ulp, else ""."""
    library = _library("libmvec.so.1")
    name = f"_ZGV{machine.mangling}N{machine.lanes}{'v' * arity}_{op.native}"
    if not machine.mangling or arity not in (1, 2) or not hasattr(library, name):
        return ""
    _compiling.call(machine.llvm.add_symbol, name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    points = list(zip(*(_probes(*op.domain[min(k, len(op.domain) - 1)], k) for k in range(arity))))
    points += points[: -len(points) % machine.lanes]
    columns = [(ctypes.c_double * len(points))(*column) for column in zip(*points)]
    out = (ctypes.c_double * len(points))()
    vector = f"<{machine.lanes} x double>"
    loads = "".join(
        f"%p{k} = getelementptr {vector}, ptr %{'xy'[k]}, i64 %i\n%v{k} = load {vector}, ptr %p{k}, align 8\n"
        for k in range(arity)
    )
    arguments = ", ".join(f"{vector} %v{k}" for k in range(arity))
    body = f"""{loads}%r = call {vector} @{name}({arguments})
%q = getelementptr {vector}, ptr %o, i64 %i
store {vector} %r, ptr %q, align 8"""
    code = Code(
        f"""declare {vector} @{name}({", ".join([vector] * arity)})
define void @probe(ptr %x, ptr %y, ptr %o, i64 %n) {{
{loop("i", "%n", body)}
ret void
}}""",
        0,
        "probe",
    )
    probe = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64)(code.address)
    probe(columns[0], columns[-1], out, len(points) // machine.lanes)
    for point, got in zip(points, out):
        try:
            want = op.forward(*point)
        except (ArithmeticError, ValueError):
            continue
        if not abs(got - want) <= 4 * math.ulp(want):
            return ""
    return name


def cores() -> int:
    """The processors that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return (len(allowed(0)) if allowed else os.cpu_count()) or 1


def _library(name: str | None) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except (OSError, TypeError):
        return None


def _probes(low: float, high: float, place: int, count: int = 128) -> list[float]:
    """Points of an argument's domain, about evenly spaced in magnitude, in another order for each place."""
    sizes = [sign * 10.0 ** (k / 8.0 - 12.0) for k in range(count) for sign in (1.0, -1.0)]
    points = [x for x in sizes if low <= x <= high] or [low]
    middle = [low + (high - low) * k / 64.0 for k in range(1, 64)] if high - low < 1e4 else []
    points += middle
    return [points[(k * (1 + 6 * place)) % len(points)] for k in range(2 * count)]


def _features(llvm: Any) -> dict[str, bool]:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return dict(llvm.get_host_cpu_features())


@functools.cache
def host() -> Host | None:
    """The machine that runs this process; None if llvmlite or NumPy is missing."""
    try:
        with _compiling.lock:  # a fork waits: an import begun by another thread would never end in the child
            import numpy  # noqa: F401
            from llvmlite import binding as llvm
    except ImportError as error:
        message = f"{error.name} is missing, so programs are compiled to Python; for machine code: {INSTALL}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return None
    features = _compiling.call(_features, llvm)
    for feature, lanes, mangling in (("avx512f", 8, "e"), ("avx2", 4, "d"), ("sse2", 2, "b"), ("neon", 2, "n")):
        if features.get(feature):
            return Host(lanes, mangling, bool(features.get("fma")) or feature == "neon", llvm)
    return Host(2, "", False, llvm)


class Code:
    """LLVM IR compiled to machine code at level 0 to 3 of the code generator; it is freed with this object."""

    engine: Any = None
    address: int  # of the function of the given name

    def __init__(self, text: str, level: int, name: str) -> None:
        _compiling.call(self._make, text, level, name)

    def _make(self, text: str, level: int, name: str) -> None:
        machine = host()
        assert machine is not None
        llvm = machine.llvm
        module = llvm.parse_assembly(text)
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=level
        )
        # The module refers to the engine: an interrupt may drop this object before it is complete.
        self.engine = engine = llvm.create_mcjit_compiler(module, target)
        engine.finalize_object()
        self.address = int(engine.get_function_address(name))
        _compiling.codes.add(self)

    def __del__(self) -> None:
        if self.engine is not None and not self.engine.closed:
            _compiling.dropped.put(self.engine)


def row_status(row: str, counter: str) -> str:
    """LLVM's text that stores the status of a row of a block, and counts in `counter` the rows whose status is not 0.

    It is 1 where `%{row}.other` is set (a guard differs), else 2 where `%{row}.bad` is (a number not finite), else 0.
    """
    return f"""%{row}.finite = select i1 %{row}.bad, i8 2, i8 0
%{row}.code = select i1 %{row}.other, i8 1, i8 %{row}.finite
%{row}.at = add i64 %{row}, %start
%{row}.to = getelementptr i8, ptr %status, i64 %{row}.at
store i8 %{row}.code, ptr %{row}.to, align 1
%{row}.not = icmp ne i8 %{row}.code, 0
%{row}.one = zext i1 %{row}.not to i64
%{row}.old = load i64, ptr {counter}, align 8
%{row}.new = add i64 %{row}.old, %{row}.one
store i64 %{row}.new, ptr {counter}, align 8"""


def loop(name: str, count: str, body: str, start: str = "0") -> str:
    """LLVM's text for `for name in range(start, count)`."""
    return f"""br label %{name}.before
{name}.before:
br label %{name}.test
{name}.test:
%{name} = phi i64 [{start}, %{name}.before], [%{name}.next, %{name}.latch]
%{name}.more = icmp ult i64 %{name}, {count}
br i1 %{name}.more, label %{name}.body, label %{name}.done
{name}.body:
{body}
br label %{name}.latch
{name}.latch:
%{name}.next = add i64 %{name}, 1
br label %{name}.test
{name}.done:"""

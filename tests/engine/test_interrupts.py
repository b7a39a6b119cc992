"""Interrupts, threads, forks and exits while compiled code runs: each in a process of its own where it could crash."""

from __future__ import annotations

import gc
import math as pm
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, math
from micrograd_bp._engine.engine import slope_rows, variables

np = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def script(code: str, *arguments: str) -> str:
    """What a program prints, which ends well."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


ALARMED = """
    import random, signal, sys, time
    import numpy as np, micrograd_bp as mg
    from micrograd_bp import Value, math, transforms
    from micrograd_bp._engine import recordings
    rng = random.Random(0)
    array, x = np.array([Value(1.0) for _ in range(30)]), Value(2.0)
    job, shortest = {
        "numpy": (lambda: [array * x for _ in range(20)], 0.00005),  # NumPy looks for `__array_wrap__` of x
        "transforms": (lambda: mg.hessian(lambda v: sum(a * a * b for a, b in zip(v, v[1:])))([1.0] * 9), 0.0005),
        "jit": (lambda: mg.jit(lambda x, k=rng.random(): math.sin(x * k) + sum(x for _ in range(20)))(1.0), 0.0005),
    }[sys.argv[1]]
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupts, end = 0, time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, shortest * rng.choice([1, 3, 20]) * (0.2 + rng.random()))
            try:
                job()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts > 20, interrupts
    slope = mg.grad(lambda x: x * x)(3.0)
    print(transforms.inside(), len(recordings.VARIABLES), sys.getprofile(), type(slope).__name__)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
@pytest.mark.parametrize("job", ["numpy", "transforms", "jit"])
def test_an_interrupt_leaves_no_thread_recording(job: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(ALARMED), job, "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "False 0 None float"), done.stderr[-2000:]


INTERRUPTED = """
    import sys, threading, time, _thread
    import numpy as np, micrograd_bp as mg
    from micrograd_bp import Value, math
    which, n = sys.argv[1], 200_000
    x, w = Value(0.5), Value(1.0)
    y = w * x
    for _ in range(60):
        y = math.sin(y) + w
    X = np.random.default_rng(0).random((n, 1))
    if which == "callback":
        y, X = math.lgamma(w * x + 2.0), X[:40_000]
    kernel = mg.kernel(y, [x], [w], exact=which == "exact")
    batch = mg.jit(mg.vmap(lambda x: math.sin(x) + math.cos(x) * 2.0))
    column = np.random.default_rng(0).random(400_000)
    call = {
        "kernel": lambda: kernel(X),
        "sums": lambda: kernel.value_and_grad(X),
        "exact": lambda: kernel.value_and_grad(X),
        "callback": lambda: kernel(X),
        "jit": lambda: batch(column),
    }[which]
    def interrupt_twice(begun, delay):
        begun.wait()
        for pause in (delay, 0.0004):
            time.sleep(pause)
            _thread.interrupt_main()

    want, interrupts = call(), 0
    for trial in range(8):
        begun = threading.Event()
        thread = threading.Thread(target=interrupt_twice, args=(begun, 0.02 + 0.007 * trial))
        thread.start()
        try:
            begun.set()
            while True:
                call()
        except KeyboardInterrupt:
            interrupts += 1
        try:
            thread.join()
        except KeyboardInterrupt:
            thread.join()
        marks = [np.zeros(n) for _ in range(4)]
        time.sleep(0.05)
        assert not any(mark.any() for mark in marks)
    again = call()
    assert np.array_equal(np.hstack(again), np.hstack(want))
    print(interrupts)
"""


@pytest.mark.parametrize("which", ["kernel", "sums", "exact", "callback", "jit"])
def test_an_interrupted_batch_leaves_memory_alone(which: str) -> None:
    assert script(INTERRUPTED, which) == "8"


class AbyssError(BaseException):
    """Neither an Exception nor an interrupt."""


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, AbyssError, ValueError, RecursionError]
)
@pytest.mark.parametrize("way", ["row", "array", "sums", "weights"])
def test_what_a_callback_raises_is_raised(error: type[Exception], way: str) -> None:
    calls: list[float] = []

    def forward(x: float) -> float:
        if isinstance(x, float):
            calls.append(x)
            if x == 700.0:
                raise error("abyss")
            return x if x > 0.0 else -x
        raise TypeError(x)

    own = mg.Op("own", "own", forward, lambda out, x: (1.0,))
    x, w = Value(1.0), Value(1.0)
    kernel = mg.kernel(own(w * x), [x], [w])
    X = np.arange(20_000.0)[:, None] + 1.0
    call: dict[str, Any] = {
        "row": lambda X: kernel(X[699].tolist()),
        "array": lambda X: kernel(X),
        "sums": lambda X: kernel.value_and_grad(X),
        "weights": lambda X: kernel.value_and_grad(X, weights=X[:, 0]),
    }
    del calls[:]
    with pytest.raises(error, match="abyss"):
        call[way](X)
    assert len(calls) < 20_000 or issubclass(error, Exception)  # of such the rest is done before its row is run again
    X[699] = 1.0
    if way == "array":
        assert kernel(X).tolist() == X[:, 0].tolist()
    else:
        call[way](X)  # nothing is left of the error


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_signal_is_never_lost_in_a_callback() -> None:
    kernel = mg.jit(mg.vmap(math.lgamma))
    X = np.linspace(3.5, 40.0, 30_000)
    want = kernel(X)
    assert want[:5].tolist() == [pm.lgamma(x) for x in X[:5].tolist()]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupted = 0
    try:
        for trial in range(20):
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0003 * trial)
            try:
                found = kernel(X)
                while signal.getitimer(signal.ITIMER_REAL)[0]:
                    pass
            except KeyboardInterrupt:
                interrupted += 1
            else:
                assert np.array_equal(found, want)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 10


def test_callbacks_nest() -> None:
    """A rule may itself call compiled code, from within the worker that runs it."""
    x = Value(1.0)
    inner = mg.kernel(math.lgamma(x), [x])
    rows = np.linspace(2.0, 3.0, 50)[:, None]

    def forward(y: float) -> float:
        return float(inner(rows).sum()) + float(inner([float(y)]))

    outer = mg.kernel(mg.Op("own", "own", forward, lambda out, y: (0.0,))(x), [x])
    assert outer(np.array([[2.0], [3.0]])).tolist() == [forward(2.0), forward(3.0)]


def test_the_context_of_the_caller_is_that_of_callbacks() -> None:
    import decimal

    own = mg.Op("own", "own", lambda x: float(decimal.Decimal(1) / decimal.Decimal(x)), lambda out, x: (0.0,))
    x = Value(3.0)
    kernel = mg.kernel(own(x), [x])
    with decimal.localcontext() as context:
        context.prec = 3
        assert kernel(np.array([[3.0], [6.0]])).tolist() == [0.333, 0.167]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
@pytest.mark.parametrize("forward", [False, True])
def test_an_interrupted_jacobian_leaves_nothing_half_done(forward: bool) -> None:
    x = variables([0.1 * i for i in range(40)])
    y = list(x)
    for _ in range(300 if mg.engine_name() == "accelerated" else 10):
        y = [math.sin(a) * b + 0.5 for a, b in zip(y, y[1:] + y[:1])]
    for i, node in enumerate(x + y):
        node.grad = float(i)
    want = slope_rows(y, x, forward)
    gc.disable()  # an interrupt within one of its callbacks, which Hypothesis has, is lost
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def interrupted(delay: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while True:
            assert slope_rows(y, x, forward) == want

    try:
        for trial in range(10):
            with pytest.raises(KeyboardInterrupt):
                interrupted(0.0005 + 0.0005 * trial)
            assert [node.grad for node in x + y] == list(map(float, range(80)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert slope_rows(y, x, forward) == want


EXITS = """
    import sys, threading, time
    import numpy as np, micrograd_bp as mg
    from micrograd_bp import Value, math
    which = sys.argv[1]
    x, w = Value(0.5), Value(1.0)
    y = math.lgamma(w * x + 2.0) if which == "callback" else w * x
    for _ in range(60):
        y = math.sin(y) + w
    kernel = mg.kernel(y, [x], [w])
    X = np.random.default_rng(0).random((20_000 if which == "one thread" else 600_000, 1))
    kernel(X[:10]), kernel.value_and_grad(X[:10])
    started = threading.Event()
    def run():
        while True:
            started.set()
            kernel(X) if which != "sums" else kernel.value_and_grad(X)
    threading.Thread(target=run, daemon=True).start()
    started.wait()
    time.sleep(0.05)
    print("end")
"""


@pytest.mark.parametrize("which", ["many", "one thread", "sums", "callback"])
def test_the_interpreter_ends_while_compiled_code_runs(which: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(EXITS), which]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stdout.strip()) == (0, "end"), done.stderr


FORKS = """
    import os, sys, threading, time
    import numpy as np, micrograd_bp as mg
    from micrograd_bp import Value, math
    stop = False
    def compile_on(k):
        while not stop:
            k += 2
            def f(x, k=k):
                for i in range(200): x = math.sin(x) + float(i + k)
                return x
            mg.jit(f)(1.0)
    x = Value(1.0)
    kernel = mg.kernel(math.sin(x) * math.lgamma(x), [x])
    f = mg.jit(lambda x: math.sin(x) * 3.0)
    X = np.random.default_rng(0).random((300_000, 1)) + 1.0
    want = kernel(X[:1000]).tolist()
    threads = [threading.Thread(target=compile_on, args=(k,)) for k in range(2)]
    for thread in threads: thread.start()
    lost = 0
    for trial in range(8):
        time.sleep(0.02 + 0.01 * trial)
        pid = os.fork()
        if pid == 0:
            good = f(1.0) == mg.jit(lambda x: math.sin(x) * 3.0)(1.0) and kernel(X[:1000]).tolist() == want
            good = good and mg.jit(mg.vmap(lambda x: x * 2.0))(X[:, 0]).tolist() == (2.0 * X[:, 0]).tolist()
            os._exit(0 if good else 3)
        end = time.time() + 30
        while time.time() < end:
            done, code = os.waitpid(pid, os.WNOHANG)
            if done: break
            time.sleep(0.01)
        else:
            os.kill(pid, 9); os.waitpid(pid, 0); code = "hangs"
        lost += code != 0
    stop = True
    for thread in threads: thread.join()
    print(lost)
"""


IMPORTING = """
    import os, sys, threading, time
    import micrograd_bp as mg
    from micrograd_bp import math
    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == "llvmlite.binding":
                begun.set()
                time.sleep(0.5)  # the import lasts until after the fork
    begun = threading.Event()
    sys.meta_path.insert(0, Slow())
    f = mg.jit(lambda x: math.sin(x) * 3.0)
    thread = threading.Thread(target=f, args=(1.0,))
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        os._exit(mg.jit(lambda x: x * 2.0)(1.0) != 2.0)
    end, ended = time.time() + 30.0, (0, 0)
    while not ended[0] and time.time() < end:
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, 9)
    thread.join()
    print("ended" if ended == (child, 0) else "hangs")
"""


@forks
def test_a_fork_while_another_thread_imports_the_compiler() -> None:
    command = [sys.executable, "-c", textwrap.dedent(IMPORTING)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "ended", done.stderr


@forks
def test_a_fork_while_other_threads_compile() -> None:
    command = [sys.executable, "-c", textwrap.dedent(FORKS)]  # Python 3.12 warns of forks beside threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


@mg.jit
def cubed(x: float) -> float:
    return x * x * x if x > 0.0 else 0.0


x, w = Value(1.0), Value(2.0)
product = mg.kernel(math.sin(w * x), [x], [w])
MANY = np.random.default_rng(0).random((200_000, 1))


def in_a_process(k: int) -> tuple[float, float]:
    return cubed(float(k)), float(product.value_and_grad(MANY)[0])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_processes(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    want = [in_a_process(k) for k in range(4)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(in_a_process, range(4))) == want
        sent = pool.submit(product, MANY[:5])  # the kernel itself, pickled
        assert sent.result().tolist() == product(MANY[:5]).tolist()


FIRST = """
    import threading
    import micrograd_bp as mg
    from micrograd_bp import Value, math
    count = 16
    functions = [mg.jit(lambda x, k=k: math.tanh(x) * float(k)) for k in range(count)]
    shared = mg.jit(lambda x: math.sin(x) if x > 0.5 else -x)
    x, w = Value(1.0), Value(2.0)
    kernel = mg.kernel(math.exp(w * x), [x], [w], exact=True)
    barrier, results = threading.Barrier(count), [None] * count
    def run(k):
        barrier.wait()
        results[k] = functions[k](0.5), shared(0.25 + 0.5 * (k % 2)), kernel([0.5]), kernel.value_and_grad([[0.5]])[0]
    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    from math import tanh, sin, exp
    for k in range(count):
        assert results[k] == (tanh(0.5) * k, -0.25 if k % 2 == 0 else sin(0.75), exp(1.0), exp(1.0)), results[k]
    print("right")
"""


def test_first_calls_in_many_threads() -> None:
    for _ in range(4):
        assert script(FIRST) == "right"


def test_batches_in_many_threads_at_once() -> None:
    kernels = [(mg.kernel(math.sin(w * x) + float(k), [x], [w]), k) for k in range(4)]
    want = [kernel(MANY).tolist() for kernel, _ in kernels]
    found: dict[int, Any] = {}

    def run(k: int) -> None:
        found[k] = [kernels[k % 4][0](MANY).tolist() for _ in range(3)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[k] == [want[k % 4]] * 3 for k in range(12))

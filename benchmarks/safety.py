"""The accelerated engine under a memory checker, and on graphs too large for the test suite.

python -m benchmarks.safety              compiled with AddressSanitizer and UBSan (gcc)
python -m benchmarks.safety generated    compiled programs as C, in threads, with AddressSanitizer and ThreadSanitizer
python -m benchmarks.safety scale        ten million nodes, a million graphs
python -m benchmarks.safety soak --minutes 10    everything at once: interrupts, forks, threads, drops
"""

from __future__ import annotations

import _thread
import argparse
import copy
import gc
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run(command: list[str], folder: Path, **environment: str) -> None:
    print("$", *(f"{name}={value}" for name, value in environment.items()), *command, flush=True)
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **environment})


def build(folder: Path, flags: str) -> None:
    """A copy of the package with the engine compiled in place, with those flags and without its pool of freed nodes."""
    for name in ("micrograd_bp", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    run(command, folder, CFLAGS=f"{flags} -g -DPOOL=0", LDFLAGS=flags)


def sanitized(folder: Path, seeds: int) -> None:
    """The engine's tests, on a Python whose every allocation AddressSanitizer sees."""
    build(folder, "-fsanitize=address,undefined -fno-sanitize-recover=undefined")
    where = [[os.environ.get("CC", "gcc"), f"-print-file-name={name}"] for name in ("libasan.so", "libubsan.so")]
    libraries = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for command in where
    ]
    environment = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    environment |= {"PYTHONPATH": str(folder), "MICROGRAD_BP_FUZZ_SEEDS": str(seeds)}
    tests = ["tests/engine/test_safety.py", "tests/engine/test_accelerated.py", "tests/engine/test_interrupts.py"]
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], folder, **environment)


def scale() -> None:
    """A chain of ten million nodes, then a million graphs: time, and resident memory a node and in the end."""
    from benchmarks.memory import _resident
    from micrograd_bp import Value, engine_name

    print(f"{engine_name()} engine")
    nodes = 10_000_000
    before, start = _resident(), time.perf_counter()
    x = chain = Value(0.5)
    for _ in range(nodes // 2):
        chain = chain * 0.5 + x
    recorded, resident = time.perf_counter(), _resident()
    chain.backward()
    walked = time.perf_counter()
    assert x.grad == 2.0, x.grad
    del chain
    freed = time.perf_counter()
    print(f"a chain of {nodes:,}: {(resident - before) / nodes:.0f} bytes a node; ", end="")
    print(f"recorded {recorded - start:.2f} s, walked {walked - recorded:.2f} s, freed {freed - walked:.2f} s")
    for count in (1_000, 1_000_000):
        for _ in range(count):
            loss = (x * 0.5 + x.tanh()) ** 2
            loss.backward()
        print(f"after {count:,} graphs: {_resident() / 2**20:.1f} MiB resident")


def generated(folder: Path) -> None:
    """Kernels as C, each run on rows of every kind in four threads: first one sanitizer sees it, then the other."""
    from micrograd_bp import Value, kernel, losses, nn, ops

    x, y = Value(0.5, "x"), Value(0.25, "y")
    model = nn.MLP(2, [8, 8, 1], rng=random.Random(0))
    programs = {"mlp": kernel(losses.mse(model([x, y]), 1.0), [x, y], model.parameters())}
    skipped = []
    for op in ops.TABLE.values():
        w = Value(0.75, "w")
        arguments = [w * x, w * y + 1.0, x * y + 2.0][: op.arity or 3]
        try:
            programs[op.name] = kernel(op(*arguments), [x, y], [w])
            programs[op.name].source("c")
        except (ArithmeticError, ValueError):
            programs.pop(op.name, None)
            skipped.append(op.name)
    declared, calls = [], []
    for name, program in programs.items():
        (folder / f"k_{name}.c").write_text(program.source("c", name=f"k_{name}"))
        declared.append(f"double k_{name}_value(const double *, const double *);")
        declared.append(f"double k_{name}_value_and_grad(const double *, const double *, double *);")
        calls.append(f"run(k_{name}_value, k_{name}_value_and_grad, {len(program.leaves)});")
    newline = "\n"
    main = f"""
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static const double odd[] = {{0.0, -0.0, 0.5, -0.5, 1.0, 3.0, 1e-300, 1e300, -1e300, INFINITY, -INFINITY, NAN}};
static void run(double (*value)(const double *, const double *),
                double (*slopes)(const double *, const double *, double *), int leaves)
{{
    double *x = malloc(2 * sizeof(double)), *w = malloc(leaves * sizeof(double)), *g = malloc(leaves * sizeof(double));
    for (int k = 0; k < leaves; k++) w[k] = 0.75 / (k + 1);
    for (int i = 0; i < 12; i++) for (int j = 0; j < 12; j++) {{
        x[0] = odd[i]; x[1] = odd[j];
        value(x, w); slopes(x, w, g);
    }}
    free(x); free(w); free(g);
}}
static void *all(void *nothing)
{{
    {newline.join(calls)}
    return nothing;
}}
int main(void)
{{
    pthread_t threads[4];
    for (int k = 0; k < 4; k++) pthread_create(threads + k, 0, all, 0);
    for (int k = 0; k < 4; k++) pthread_join(threads[k], 0);
    puts("{len(programs)} kernels ran");
    return 0;
}}
"""
    (folder / "known").write_text("race:lgamma_op\n")  # the C library's lgamma writes a global that nothing here reads
    (folder / "all.c").write_text(newline.join([*declared, main]))
    files = sorted(file.name for file in folder.glob("*.c"))
    print("not recorded at these points:", *skipped or ["none"])
    for flags in ("-fsanitize=address,undefined -fno-sanitize-recover=undefined", "-fsanitize=thread"):
        compiler = os.environ.get("CC", "gcc")
        run(
            [
                compiler,
                "-std=c99",
                "-g",
                "-O1",
                *flags.split(),
                *files,
                "-o",
                "all",
                "-lm",
                "-pthread",
            ],
            folder,
        )
        run(["./all"], folder, TSAN_OPTIONS=f"suppressions={folder / 'known'}")


class Soak:
    """Compiled and eager work at random, each with a known answer, interrupted, forked, threaded and dropped."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        import micrograd_bp as mg
        from micrograd_bp import Value, math, nn

        self.rng, self.np, self.mg = random.Random(seed), np, mg
        self.counts: Counter[str] = Counter()
        self.column = np.random.default_rng(seed).random(300_000) * 4.0 - 2.0
        x, w = Value(0.5, "x"), Value(1.5, "w")
        deep = w * x
        for _ in range(30):
            deep = math.sin(deep) + 0.5 * w
        self.kernels = [
            mg.kernel(deep, [x], [w]),
            mg.kernel(math.lgamma(w * x + 9.0), [x], [w]),  # calls Python
            mg.kernel(math.exp(x) * w, [x], [w], exact=True),
        ]
        self.sizes = (1, 50, 4_000, 20_000)
        self.known = {}
        for k, kernel in enumerate(self.kernels):
            for n in (*self.sizes, 300_000):
                if n < 300_000 or k == 0:
                    X = self.column[:n, None]
                    self.known[k, n] = X, kernel(X), np.hstack(kernel.value_and_grad(X))
        self.branches = mg.jit(mg.vmap(lambda x: math.sin(x) if x > 1.0 else x * x if x > 0.0 else -x))
        self.expected = self.branches(self.column[:20_000])
        self.model = nn.MLP(2, [4, 1], rng=random.Random(0))
        self.slopes = self.eager_slopes()

    def eager_slopes(self) -> list[float]:
        from micrograd_bp import losses

        model = copy.deepcopy(self.model)
        losses.mse(model([0.5, -0.25]), 1.0).backward()
        return [p.grad for p in model.parameters()]

    # --- what is done: each gives whether the answer was right

    def batch(self) -> bool:
        k, n = self.rng.choice(list(self.known))
        X, want, _ = self.known[k, n]
        return bool(self.np.array_equal(self.kernels[k](X), want))

    def sums(self) -> bool:
        k, n = self.rng.choice(list(self.known))
        X, _, want = self.known[k, n]
        return bool(self.np.array_equal(self.np.hstack(self.kernels[k].value_and_grad(X)), want))

    def paths(self) -> bool:
        return bool(self.np.array_equal(self.branches(self.column[:20_000]), self.expected))

    def compiles(self) -> bool:
        number, depth = self.rng.random(), self.rng.choice((3, 200))

        def f(x: Any) -> Any:
            for _ in range(depth):
                x = x * 0.5 + number
            return x

        return bool(self.mg.jit(f, exact=True)(1.0) == f(1.0))

    def eager(self) -> bool:
        return self.eager_slopes() == self.slopes

    def tower(self) -> bool:
        x = chain = self.mg.Value(0.5)
        for _ in range(self.rng.choice((10, 30_000))):
            chain = chain * 0.5 + x
        chain.backward()
        return abs(x.grad - 2.0) < 0.01

    def drops(self) -> bool:
        k = self.rng.randrange(len(self.kernels))
        self.kernels[k] = pickle.loads(pickle.dumps(self.kernels[k]))  # it is compiled anew
        return True

    def forks(self) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if self.batch() and self.compiles() and self.eager() else 1
            finally:
                os._exit(code)
        end = time.monotonic() + 120.0
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return status == 0
            time.sleep(0.002)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return False

    def threads(self) -> bool:
        acts = (self.batch, self.sums, self.paths, self.compiles, self.eager, self.tower)
        right: list[bool] = []
        workers = [
            threading.Thread(target=lambda: right.append(self.rng.choice(acts)()))
            for _ in range(self.rng.choice((2, 8)))
        ]
        for worker in workers:
            worker.start()
        if self.rng.random() < 0.3:
            right.append(self.forks())
        for worker in workers:
            worker.join()
        return len(right) >= len(workers) and all(right)

    def step(self) -> None:
        """One act, in a third of all cases interrupted."""
        names = ("batch", "sums", "paths", "compiles", "eager", "tower", "drops", "forks", "threads")
        name = self.rng.choices(names, (8, 8, 3, 3, 4, 2, 1, 1, 2))[0]
        timer = None
        if name not in ("forks", "threads") and self.rng.random() < 0.33:
            delay = self.rng.choice((0.0001, 0.003, 0.02)) * self.rng.random()
            timer = threading.Timer(delay, _thread.interrupt_main)
        try:
            try:
                if timer is not None:
                    timer.start()
                if not getattr(self, name)():
                    self.counts[f"WRONG {name}"] += 1
                self.counts[name] += 1
            finally:
                if timer is not None:
                    timer.join()
                    time.sleep(0.0)
        except KeyboardInterrupt:
            self.counts["interrupted"] += 1
            marks = [self.np.zeros(20_000) for _ in range(3)]  # where the results would have been
            time.sleep(0.003)
            if any(mark.any() for mark in marks):
                self.counts["WRONG memory"] += 1


def soak(minutes: float, seed: int) -> None:
    """ValueError: an answer was wrong, or memory grew."""
    from benchmarks.memory import _resident

    room = Soak(seed)
    start = report = time.monotonic()
    resident: list[float] = []
    while time.monotonic() < start + 60.0 * minutes:
        try:
            room.step()
        except KeyboardInterrupt:  # a late one
            room.counts["interrupted"] += 1
        if time.monotonic() >= report:
            gc.collect()
            resident.append(_resident() / 2**20)
            print(f"{(report - start) / 60.0:.1f} min: {resident[-1]:.0f} MiB resident,", dict(room.counts), flush=True)
            report += 3.0 * minutes
    third = len(resident) // 3
    before, after = max(resident[third : 2 * third]), max(resident[2 * third :])
    wrong = {name: count for name, count in room.counts.items() if name.startswith("WRONG")}
    print(f"at most {before:.0f} MiB in the second third, {after:.0f} MiB in the last; wrong: {wrong or 'nothing'}")
    if wrong or after > before * 1.1 + 20.0:
        raise ValueError("the soak found a fault")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.safety", description=__doc__)
    parser.add_argument("run", nargs="?", choices=("sanitized", "generated", "scale", "soak"), default="sanitized")
    parser.add_argument("--seeds", type=int, default=30, help="runs of the fuzzer (default: 30)")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the soak (default: 0)")
    options = parser.parse_args()
    if options.run == "scale":
        scale()
    elif options.run == "soak":
        soak(options.minutes, options.seed)
    elif options.run == "generated":
        with tempfile.TemporaryDirectory() as folder:
            generated(Path(folder))
    else:
        with tempfile.TemporaryDirectory() as folder:
            sanitized(Path(folder), options.seeds)


if __name__ == "__main__":
    main()

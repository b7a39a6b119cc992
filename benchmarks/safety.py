"""The accelerated engine under a memory checker, and on graphs too large for the test suite.

python -m benchmarks.safety              compiled with AddressSanitizer and UBSan (gcc)
python -m benchmarks.safety scale        ten million nodes, a million graphs
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    tests = ["tests/test_safety.py", "tests/test_accelerated.py"]
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.safety", description=__doc__)
    parser.add_argument("run", nargs="?", choices=("sanitized", "scale"), default="sanitized")
    parser.add_argument("--seeds", type=int, default=30, help="runs of the fuzzer (default: 30)")
    options = parser.parse_args()
    if options.run == "scale":
        scale()
    else:
        with tempfile.TemporaryDirectory() as folder:
            sanitized(Path(folder), options.seeds)


if __name__ == "__main__":
    main()

"""Every benchmark still runs: its smallest size, in a process of its own, with nothing asked of its times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import micrograd_bp as mg

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)

COMMANDS = {  # the module after "python -m", and what stands in the tables that it prints
    "benchmarks": ["micrograd_bp, accelerated", "micrograd_bp, compiled", "dot product", "| pure |"],
    "benchmarks.compiled": ["Rosenbrock", "Black-Scholes", "a warm call", "nodes"],
    "benchmarks.compiling": ["| regular |", "| irregular |"],
    "benchmarks.crossover": ["| 2 | 9 |"],
    "benchmarks.derivatives": ["Taylor series", "mg.taylor (reference)"],
    "benchmarks.executors": ["| 2 | 15 | 4 |"],
    "benchmarks.gpt": ["parameters", "step     3: loss"],
    "benchmarks.structures": ["| convolution", "| LSTM", "| jit(hessian(f))", "| 40 bodies"],
    "benchmarks.loops": ["| Euler, gradient", "| Runge-Kutta", "| gradient, a multiple"],
    "benchmarks.scale": ["**pure**", "**accelerated**", "**compiled**"],
}


@pytest.mark.skipif(mg.engine_name() == "pure", reason="they load both engines")
@pytest.mark.parametrize("module", COMMANDS)
def test_it_runs_small(module: str) -> None:
    package = Path(mg.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", module, "--small"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for words in COMMANDS[module]:
        assert words in done.stdout, done.stdout


def test_every_benchmark_is_run() -> None:
    """All but the library of sizes and clocks, and safety, which needs a compiler with sanitizers."""
    programs = {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if 'if __name__ == "__main__":' in path.read_text()
    }
    assert programs - {"safety"} == {name.partition(".")[2] or "__main__" for name in COMMANDS}

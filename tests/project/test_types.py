"""Type checkers find a user's mistakes, and nothing else, in a program on an installed micrograd_bp."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import micrograd_bp as mg
from micrograd_bp._engine import stubs

PROGRAM = Path(__file__).parents[1] / "fixtures" / "typed_program.txt"
HOME = Path(mg.__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the program and nothing else."""
    place = tmp_path_factory.mktemp("program")
    shutil.copy(PROGRAM, place / "program.py")
    return place


@pytest.fixture(scope="module")
def around() -> list[str]:
    """The package's own folder, for checkers to look into, where the package is not installed; else nothing."""
    look = "import micrograd_bp, os; print(os.path.dirname(os.path.dirname(os.path.abspath(micrograd_bp.__file__))))"
    found = subprocess.run([sys.executable, "-I", "-c", look], capture_output=True, text=True, check=False)
    return [] if found.stdout.strip() == str(HOME) else [str(HOME)]


def mistakes(place: Path) -> set[int]:
    """The numbers of the lines that are wrong."""
    lines = (place / "program.py").read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# mistake")}


def test_mypy_finds_the_mistakes_and_nothing_else(folder: Path, around: list[str]) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder / "cache")]
    command += ["--follow-imports", "silent"] * len(around)  # without its own errors where it is no installed package
    environment = {**os.environ, "MYPYPATH": os.pathsep.join(around)}
    done = subprocess.run(
        [*command, "program.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found = re.findall(r"^program\.py:(\d+): error: .*$", done.stdout, re.MULTILINE)
    assert {int(number) for number in found} == mistakes(folder), done.stdout + done.stderr
    assert len(found) == len(done.stdout.splitlines()) == 5, done.stdout


def test_pyright_finds_the_mistakes_and_nothing_else(folder: Path, around: list[str]) -> None:
    (folder / "pyrightconfig.json").write_text(json.dumps({"include": ["program.py"], "extraPaths": around}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    shown = "\n".join(f"{x['range']['start']['line'] + 1}: {x['message']}" for x in found)
    assert {x["range"]["start"]["line"] + 1 for x in found} == mistakes(folder), shown + done.stderr


def test_the_declarations_are_those_of_the_table() -> None:
    path = HOME / "micrograd_bp" / "_engine" / "declarations.pyi"
    remedy = "build again (pip install, or setup.py build_ext --inplace), or run python -m micrograd_bp._engine.stubs"
    assert path.read_text(encoding="utf-8") == stubs.declarations(), remedy

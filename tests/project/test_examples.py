"""Every example is short, runs by itself on the engine under test, and prints what its docstring says."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import micrograd_bp as mg

FOLDER = Path(__file__).parents[2] / "examples"
if not FOLDER.is_dir():
    pytest.skip("the examples are not beside the tests", allow_module_level=True)
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    said = text.split("Prints:\n", 1)[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(mg.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip() == textwrap.dedent(said).rstrip()
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_there_are_five_and_each_is_read_in_a_minute() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in EXAMPLES}
    assert len(lengths) >= 5
    assert max(lengths.values()) <= 60, lengths
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in index for name in lengths)

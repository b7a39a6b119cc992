"""Every notebook runs from top to bottom in a fresh kernel, and what is committed is what a run gives.

Numbers are compared to a tolerance, pictures by the text in them; cells tagged `timing` show measurements, and their
outputs are not compared.
"""

import base64
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp

nbformat = pytest.importorskip("nbformat", reason="the notebooks need pip install 'micrograd-bp[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need pip install 'micrograd-bp[notebooks]'")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|var|work|Users)/")

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def shown(cell: Any) -> str:
    """The text that a cell shows: what is printed, results, words in drawings; without addresses in memory.

    A kernel under load sends in two pieces what it sends in one otherwise: pieces of one stream are joined.
    """
    parts: list[str] = []
    stream = None
    for output in cell.outputs:
        before, stream = stream, output.get("name")
        if stream:
            parts += [f"{stream}: "] if stream != before else []
            parts[-1] += output.text
        else:
            assert output.output_type != "error", output.ename
            kinds = sorted(output.data)
            picture = any(kind.startswith("image/") for kind in kinds)
            parts.append(f"{' '.join(kinds)}: {'' if picture else output.data.get('text/plain', '')}")
            parts += re.findall(r"<text[^>]*>([^<]*)</text>", output.data.get("image/svg+xml", ""))
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join(parts))


def close(x: str, y: str) -> bool:
    return math.isclose(float(x), float(y), rel_tol=1e-5, abs_tol=1e-9)


def test_the_pieces_of_a_stream_are_one_text() -> None:
    def stream(text: str, name: str = "stdout") -> Any:
        return nbformat.v4.new_output("stream", name=name, text=text)

    def cell(*outputs: Any) -> Any:
        return nbformat.v4.new_code_cell(outputs=list(outputs))

    result = nbformat.v4.new_output("display_data", data={"text/plain": "3"})
    assert shown(cell(stream("a 1"), stream("2\n"))) == shown(cell(stream("a 12\n")))
    assert shown(cell(stream("a"), stream("b", "stderr"))) != shown(cell(stream("ab")))
    assert shown(cell(stream("a"), result, stream("b"))) != shown(cell(stream("ab"), result))


@notebooks
def test_outputs_are_what_a_run_gives(path: Path) -> None:
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    here = {"metadata": {"path": str(FOLDER)}}
    client = nbclient.NotebookClient(fresh, timeout=300, kernel_name="python3", resources=here)
    package = Path(micrograd_bp.__file__).parent.parent  # the kernel imports what this test does
    client.execute(env=os.environ | {"PYTHONPATH": str(package)})
    for before, after in zip(committed.cells, fresh.cells, strict=True):
        if before.cell_type == "code" and "timing" not in before.metadata.get("tags", []):
            old, new = shown(before), shown(after)
            assert NUMBER.sub("#", old) == NUMBER.sub("#", new), before.source
            assert all(map(close, NUMBER.findall(old), NUMBER.findall(new))), f"{before.source}\n{old}\n{new}"


@notebooks
def test_committed_as_run_once_from_the_top(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [cell.source for cell in code for output in cell.outputs if output.get("name") == "stderr"]
    assert not ABSOLUTE.findall(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 400_000


def test_the_index_shows_every_notebook() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"]({path.name})" in index, f"{path.name} has no row"
    linked = set(re.findall(r'src="(images/[^"]+)"', index))
    assert linked == {f"images/{path.name}" for path in (FOLDER / "images").iterdir()}


@notebooks
def test_the_index_shows_a_picture_as_its_notebook_has_it(path: Path) -> None:
    pictures = [
        base64.b64decode(output.data["image/png"])
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert (FOLDER / "images" / f"{path.stem}.png").read_bytes() in pictures

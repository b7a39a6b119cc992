"""What the README and the pages in docs say is so; their examples run as doctests."""

import itertools
import math
import re
from pathlib import Path

import pytest

import micrograd_bp as mg
from micrograd_bp import ops
from micrograd_bp._engine import symbolic

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def between(page: str, start: str, end: str) -> str:
    return text(page).split(f"<!-- {start} -->", 1)[1].split(f"<!-- {end} -->", 1)[0].strip()


def special_points() -> list[tuple[str, ...]]:
    rows = between("docs/special-points.md", "special points", "end of special points").splitlines()[2:]
    return [tuple(cell.strip().strip("`") for cell in row.strip("|").split("|")) for row in rows]


def same(x: float, y: float) -> bool:
    return x == y or (math.isnan(x) and math.isnan(y))


def test_the_table_of_operations_is_the_table_in_the_code() -> None:
    assert between("docs/operations.md", "operations", "end of operations") == symbolic.operations_table()


@pytest.mark.parametrize(("expression", "point", "value", "derivatives", "second"), special_points())
def test_special_point(expression: str, point: str, value: str, derivatives: str, second: str) -> None:
    """The second derivatives are by xx, or by xx, xy and yy; xy and yx are the same."""
    inputs = {name: mg.Value(float(number)) for name, number in re.findall(r"(\w)=([-\w.]+)", point)}
    output = eval(expression, dict(ops.TABLE), dict(inputs))
    expected = [float(number) for number in derivatives.split(",")]
    output.backward()
    graphs = mg.gradients(output, list(inputs.values()))
    assert same(output.data, float(value))
    for x, graph, slope in zip(inputs.values(), graphs, expected, strict=True):
        assert same(x.grad, slope)
        assert same(graph.data, slope)
    hessian = [[entry.data for entry in mg.gradients(graph, list(inputs.values()))] for graph in graphs]
    numbers = [float(number) for number in second.split(",")]
    places = list(itertools.combinations_with_replacement(range(len(inputs)), 2))
    for (i, j), number in zip(places, numbers, strict=True):
        assert same(hessian[i][j], number)
        assert same(hessian[j][i], number)


def anchors(page: str) -> set[str]:
    """The names by which a page's headings are linked."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_headings_and_the_readme_to_every_page(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*\.md)(?:#([^)]*))?\)", page)
    for target, heading in links:
        if heading:
            assert heading in anchors((path.parent / target).read_text(encoding="utf-8")), f"{target}#{heading}"
    if path.name == "README.md":
        assert {(path.parent / target) for target, _ in links} >= set(PAGES) - {path}  # no page is left out


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    readme = text("README.md")
    assert len(readme.splitlines()) <= 150
    assert "python -m pip install -e '.[test]' && python -m pytest " in readme
    assert "python -m pip install -e '.[draw,jit]' && python -m micrograd_bp " in readme

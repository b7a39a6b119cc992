"""What the README says of operations and special points is what the library does."""

import itertools
import math
import re
from pathlib import Path

import pytest

import micrograd_bp as mg
from micrograd_bp import names, ops

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def between(start: str, end: str) -> str:
    return README.split(f"<!-- {start} -->", 1)[1].split(f"<!-- {end} -->", 1)[0].strip()


def special_points() -> list[tuple[str, ...]]:
    rows = between("special points", "end of special points").splitlines()[2:]
    return [tuple(cell.strip().strip("`") for cell in row.strip("|").split("|")) for row in rows]


def same(x: float, y: float) -> bool:
    return x == y or (math.isnan(x) and math.isnan(y))


def test_the_table_of_operations_is_the_table_in_the_code():
    assert between("operations", "end of operations") == names.operations_table()


@pytest.mark.parametrize(("expression", "point", "value", "derivatives", "second"), special_points())
def test_special_point(expression, point, value, derivatives, second):
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

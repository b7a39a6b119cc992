"""What the README says of operations and special points is what the library does."""

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


@pytest.mark.parametrize(("expression", "point", "value", "derivatives"), special_points())
def test_special_point(expression, point, value, derivatives):
    inputs = {name: mg.Value(float(number)) for name, number in re.findall(r"(\w)=([-\w.]+)", point)}
    output = eval(expression, dict(ops.TABLE), dict(inputs))
    expected = [float(number) for number in derivatives.split(",")]
    output.backward()
    graphs = mg.gradients(output, list(inputs.values()))
    assert same(output.data, float(value))
    for x, graph, slope in zip(inputs.values(), graphs, expected, strict=True):
        assert same(x.grad, slope)
        assert same(graph.data, slope)

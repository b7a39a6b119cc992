"""A program written for micrograd runs unchanged but for its import, with the same numbers."""

import math
import re
from typing import Any

import pytest

from micrograd_bp import Value

# What the import lines say instead. Each program leaves the Values to compare in `results`.
IMPORTS = {"micrograd.engine": "micrograd_bp", "micrograd.nn": "micrograd_bp.nn"}

OPERATORS = """
from micrograd.engine import Value
u, v, w = Value(0.5), Value(-1.25), Value(3.0)
t = u * w - v / 2 + 4
t *= -v
t = 1 - t + (u - w) ** 2
k = (t * 0.1).relu() + (-t).relu() * 0.01
k -= w**-1 / (2 + u * u)
k += 3 / t + 0.5 * t - u
k /= w + 5
out = k**2 + (w + u) ** 0.5 + sum([u, v, w, 1.5]) + t**3
out.backward()
results = [u, v, w, t, k, out]
"""
SHARING = """
from micrograd.engine import Value
a, b = Value(0.75), Value(-0.5)
c = a
for i in range(6):
    c = c * b + c + a * a
    c = (c + c) * 0.4 + a.relu() - b.relu()
c.backward()
results = [a, b, c]
"""
LEARNING = """
import random

from micrograd.engine import Value

class Unit:
    def __init__(self, rng, count, bent):
        self.weights = [Value(rng.uniform(-1, 1)) for _ in range(count)]
        self.bias = Value(0)
        self.bent = bent

    def __call__(self, inputs):
        total = sum((w * x for w, x in zip(self.weights, inputs)), self.bias)
        return total.relu() if self.bent else total

    def parameters(self):
        return self.weights + [self.bias]

rng = random.Random(5)
hidden = [Unit(rng, 2, True) for _ in range(4)]
last = Unit(rng, 4, False)
parameters = [p for unit in hidden + [last] for p in unit.parameters()]
points = [([1.0, -0.5], 1), ([-1.0, 0.25], -1), ([0.5, 2], 1), ([-0.5, -2], -1)]
results = list(parameters)
for step in range(12):
    scores = [last([unit(xs) for unit in hidden]) for xs, _ in points]
    margins = [(1 + -y * score).relu() for (_, y), score in zip(points, scores)]
    loss = sum(margins) * (1.0 / len(margins)) + 1e-3 * sum(p * p for p in parameters)
    for p in parameters:
        p.grad = 0
    loss.backward()
    for p in parameters:
        p.data -= (0.5 - 0.03 * step) * p.grad
    results.append(loss)
assert results[-1].data < results[len(parameters)].data / 4
"""
TRACING = """
from graphviz import Digraph
from micrograd.engine import Value

def trace(root):
    nodes, edges = set(), set()
    def visit(node):
        if node not in nodes:
            nodes.add(node)
            for child in node._prev:
                edges.add((child, node))
                visit(child)
    visit(root)
    return nodes, edges

def draw_dot(root):
    dot = Digraph(format="svg", graph_attr={"rankdir": "LR"})
    nodes, edges = trace(root)
    for node in nodes:
        dot.node(name=str(id(node)), label="{ data %.4f | grad %.4f }" % (node.data, node.grad), shape="record")
        if node._op:
            dot.node(name=str(id(node)) + node._op, label=node._op)
            dot.edge(str(id(node)) + node._op, str(id(node)))
    for child, node in edges:
        dot.edge(str(id(child)), str(id(node)) + node._op)
    return dot

x, y = Value(1.5), Value(-1.0)
out = ((x * y + 3.0) * x).relu() + 0.5 * x
out.backward()
results = [x, y, out]
nodes, edges = trace(out)
shape = sorted((node.data, float(node.grad), node._op.lower(), len(node._prev)) for node in nodes if node._op)
picture = draw_dot(out).source
"""


def run(program: str, ours: bool) -> dict[str, Any]:
    """The names that a program for micrograd leaves: as it is, or with our import."""
    if ours:
        program = re.sub("|".join(IMPORTS), lambda match: IMPORTS[match[0]], program)
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    return namespace


@pytest.mark.parametrize("program", [OPERATORS, SHARING, LEARNING, TRACING])
def test_only_the_import_changes(program):
    theirs, ours = (run(program, ours)["results"] for ours in (False, True))
    assert all(type(value) is Value for value in ours)
    assert [value.data for value in ours] == pytest.approx([value.data for value in theirs], rel=1e-12)
    assert [value.grad for value in ours] == pytest.approx([value.grad for value in theirs], rel=1e-12, abs=1e-15)


def test_a_notebook_draws_the_same_picture():
    theirs, ours = run(TRACING, ours=False), run(TRACING, ours=True)
    assert ours["shape"] == theirs["shape"]
    assert (len(ours["nodes"]), len(ours["edges"])) == (len(theirs["nodes"]), len(theirs["edges"]))
    ours_labels, theirs_labels = (
        sorted(
            re.split(r"label=| \| grad", line)[1].lower() for line in program["picture"].splitlines() if "label" in line
        )
        for program in (ours, theirs)
    )
    assert ours_labels == theirs_labels  # without the gradients of constants, which micrograd computes
    assert ours["picture"].count("->") == theirs["picture"].count("->")


def test_a_leaf_has_no_past_and_an_operation_has_its_symbol():
    x = Value(2.0)
    assert (x._prev, x._op) == (set(), "")
    y = Value(-1.0)
    assert ((x * y)._prev, (x * y)._op) == ({x, y}, "*")
    assert (x + x)._prev == {x}
    constants = (x**3)._prev - {x}
    assert [constant.data for constant in constants] == [3.0]


# --- where micrograd 0.1.0 is wrong -------------------------------------------------------------------------------


IMPORT = "from micrograd.engine import Value\n"


def test_backward_twice_adds_the_derivative_twice():
    program = f"{IMPORT}x = Value(3.0)\ny = x * x\nz = y * 2.0\nz.backward()\nz.backward()\n"
    ours, theirs = run(program, ours=True), run(program, ours=False)
    assert ours["x"].grad == 2 * 12.0
    assert ours["y"].grad == 2.0  # d z / d y, however often it is asked for
    assert theirs["x"].grad == 12.0 + 24.0  # micrograd's second sweep starts from the first one's y.grad


def test_two_outputs_add_up_in_the_leaves_alone():
    program = f"{IMPORT}x = Value(3.0)\ny = x * x\n(y * 2.0).backward()\n(y * 5.0).backward()\n"
    ours, theirs = run(program, ours=True), run(program, ours=False)
    assert ours["x"].grad == 7.0 * 6.0
    assert theirs["x"].grad == 2.0 * 6.0 + 7.0 * 6.0


def test_a_repeated_operand_keeps_both_its_edges():
    x = Value(3.0)
    assert (x * x).operands == (x, x)
    assert (x * x).partials == (3.0, 3.0)


def test_a_long_program_needs_no_recursion():
    program = f"{IMPORT}x = y = Value(1.0)\nfor i in range(5000):\n    y = y + 0.001\ny.backward()\n"
    assert run(program, ours=True)["x"].grad == 1.0
    with pytest.raises(RecursionError):
        run(program, ours=False)


def test_a_value_may_be_an_exponent_and_a_negative_number_divides():
    program = f"{IMPORT}x = Value(2.0)\ny = x**x / -4\ny.backward()\n"
    assert run(program, ours=True)["x"].grad == pytest.approx(-(1 + math.log(2.0)), rel=1e-15)
    with pytest.raises(AssertionError):
        run(program, ours=False)

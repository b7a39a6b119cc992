"""A program written for micrograd runs unchanged but for its import, with the same numbers."""

import copy
import math
import pickle
import re
from typing import Any

import pytest

import micrograd_bp as mg
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
def test_only_the_import_changes(program: str) -> None:
    theirs, ours = (run(program, ours)["results"] for ours in (False, True))
    assert all(type(value) is Value for value in ours)
    assert [value.data for value in ours] == pytest.approx([value.data for value in theirs], rel=1e-12)
    assert [value.grad for value in ours] == pytest.approx([value.grad for value in theirs], rel=1e-12, abs=1e-15)


def test_a_notebook_draws_the_same_picture() -> None:
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


def test_a_leaf_has_no_past_and_an_operation_has_its_symbol() -> None:
    x = Value(2.0)
    assert (x._prev, x._op) == (set(), "")
    y = Value(-1.0)
    assert ((x * y)._prev, (x * y)._op) == ({x, y}, "*")
    assert (x + x)._prev == {x}
    constants = (x**3)._prev - {x}
    assert [constant.data for constant in constants] == [3.0]


# --- where micrograd 0.1.0 is wrong -------------------------------------------------------------------------------


IMPORT = "from micrograd.engine import Value\n"


def test_backward_twice_adds_the_derivative_twice() -> None:
    program = f"{IMPORT}x = Value(3.0)\ny = x * x\nz = y * 2.0\nz.backward()\nz.backward()\n"
    ours, theirs = run(program, ours=True), run(program, ours=False)
    assert ours["x"].grad == 2 * 12.0
    assert ours["y"].grad == 2.0  # d z / d y, however often it is asked for
    assert theirs["x"].grad == 12.0 + 24.0  # micrograd's second sweep starts from the first one's y.grad


def test_two_outputs_add_up_in_the_leaves_alone() -> None:
    program = f"{IMPORT}x = Value(3.0)\ny = x * x\n(y * 2.0).backward()\n(y * 5.0).backward()\n"
    ours, theirs = run(program, ours=True), run(program, ours=False)
    assert ours["x"].grad == 7.0 * 6.0
    assert theirs["x"].grad == 2.0 * 6.0 + 7.0 * 6.0


def test_a_repeated_operand_keeps_both_its_edges() -> None:
    x = Value(3.0)
    assert (x * x).operands == (x, x)
    assert (x * x).partials == (3.0, 3.0)


def test_a_long_program_needs_no_recursion() -> None:
    program = f"{IMPORT}x = y = Value(1.0)\nfor i in range(5000):\n    y = y + 0.001\ny.backward()\n"
    assert run(program, ours=True)["x"].grad == 1.0
    with pytest.raises(RecursionError):
        run(program, ours=False)


def test_a_value_may_be_an_exponent_and_a_negative_number_divides() -> None:
    program = f"{IMPORT}x = Value(2.0)\ny = x**x / -4\ny.backward()\n"
    assert run(program, ours=True)["x"].grad == pytest.approx(-(1 + math.log(2.0)), rel=1e-15)
    with pytest.raises(AssertionError):
        run(program, ours=False)


# --- programs as people write them --------------------------------------------------------------------------------

STEPPING = """
from micrograd.engine import Value
a, b, c = Value(2.0), Value(-3.0), Value(10.0)
e = a * b
d = e + c
L = d.relu() * 1.5
L.grad = 1.0
for node in (L, list(L._prev)[0] if not list(L._prev)[0]._op == '' else list(L._prev)[1], d, e):
    node._backward()
results = [a, b, c, e, d, L]
"""
OWN_WALK = """
from micrograd.engine import Value
x, y = Value(0.5), Value(-1.5)
out = ((x * y + x) * 3.0 - y**2).relu() + x
topo, visited = [], set()
def build(v):
    if v not in visited:
        visited.add(v)
        for child in v._prev:
            build(child)
        topo.append(v)
build(out)
out.grad = 1.0
for node in reversed(topo):
    node._backward()
results = [x, y, out]
"""
OWN_OPERATION = """
import copy
import math
import pickle
from micrograd.engine import Value

def tanh(self):
    t = math.tanh(self.data)
    out = Value(t, (self,), 'tanh')
    def _backward():
        self.grad += (1 - t * t) * out.grad
    out._backward = _backward
    return out

def times(self, other):
    out = Value(self.data * other.data, (self, other), '*')
    def _backward():
        self.grad += other.data * out.grad
        other.grad += self.data * out.grad
    out._backward = _backward
    return out

x, w, b = Value(2.0), Value(-3.0), Value(6.7)
n = times(x, w) + b
o = tanh(n) * n + tanh(x)
o.backward()
results = [x, w, b, o]
operations = (n._op, tanh(x)._op, len(n._prev))
"""
ATTRIBUTES = """
from micrograd.engine import Value
parameters = [Value(1.0), Value(-2.0)]
for p in parameters:
    p.m, p.v = 0.0, 0.0
for step in range(5):
    loss = sum((p - 0.5) ** 2 for p in parameters)
    for p in parameters:
        p.grad = 0.0
    loss.backward()
    for p in parameters:
        p.m = 0.9 * p.m + 0.1 * p.grad
        p.v = 0.99 * p.v + 0.01 * p.grad**2
        p.data -= 0.1 * p.m / (p.v**0.5 + 1e-8)
results = parameters
"""
CONSTRUCTING = """
from micrograd.engine import Value
x = Value(2.0, (), "+")
y = Value(3.0, _op="x")
z = Value(data=4.0, _children=())
out = x * y + z
out.backward()
results = [x, y, z, out]
"""


@pytest.mark.parametrize("program", [STEPPING, OWN_WALK, OWN_OPERATION, ATTRIBUTES, CONSTRUCTING])
def test_programs_that_step_through_nodes_by_hand(program: str) -> None:
    theirs, ours = (run(program, ours)["results"] for ours in (False, True))
    assert [value.data for value in ours] == pytest.approx([value.data for value in theirs], rel=1e-12)
    assert [value.grad for value in ours] == pytest.approx([value.grad for value in theirs], rel=1e-12, abs=1e-15)


def test_an_operation_made_by_hand_stands_in_a_graph_like_any_other() -> None:
    names = run(OWN_OPERATION, ours=True)
    assert names["operations"] == ("+", "tanh", 2)
    assert mg.grad(names["tanh"])(0.3) == pytest.approx(1 - math.tanh(0.3) ** 2, rel=1e-15)
    assert names["x"].grad != 0.0  # untouched by the transform
    product = names["times"](Value(2.0), Value(3.0))
    assert product.op.symbol == "*"
    assert "tanh" in mg.draw(names["tanh"](Value(1.0, "x"))).source


def test_the_second_derivative_of_an_operation_made_by_hand_is_refused() -> None:
    tanh = run(OWN_OPERATION, ours=True)["tanh"]
    x = Value(0.5)
    y = tanh(x)
    with pytest.raises(TypeError, match=r"tanh is known to its _backward alone.*need an Op"):
        mg.gradients(y * y, [x])
    with pytest.raises(TypeError, match="need an Op"):
        mg.hessian(tanh)(0.5)
    (y * y).backward()
    assert x.grad == pytest.approx(2 * y.data * (1 - y.data**2), rel=1e-14)


def test_a_step_of_ones_own_replaces_that_of_any_node() -> None:
    x = Value(3.0)
    clipped: Any = x * 100.0
    clipped._backward = lambda: setattr(x, "grad", x.grad + min(clipped.grad * 100.0, 1.0))
    (clipped * 2.0).backward()
    assert x.grad == 1.0
    assert clipped.operands == (x, 100.0)
    with pytest.raises(TypeError, match="_backward is a function"):
        clipped._backward = 3


def test_attributes_of_ones_own() -> None:
    x: Any = Value(1.0)
    x.color, x.history = "red", [1.0]
    assert (x.color, copy.deepcopy(x).history, pickle.loads(pickle.dumps(x)).color) == ("red", [1.0], "red")
    del x.color
    with pytest.raises(AttributeError, match="color"):
        x.color  # noqa: B018
    for _ in range(3):
        assert not hasattr(Value(1.0), "history")  # nor where the memory is used again
        del x
        x = Value(2.0)
        assert not hasattr(x, "history")
    for name in ("_prev", "_op"):
        with pytest.raises(AttributeError, match=name):
            setattr(x, name, ())


@pytest.mark.parametrize("children", [3, 0.5, "ab", [["x"]]], ids=repr)
def test_children_are_numbers_of_a_graph(children: Any) -> None:
    if isinstance(children, str):
        assert Value(1.0, children).label == "ab"
    else:
        with pytest.raises(TypeError):
            Value(1.0, children, "+")

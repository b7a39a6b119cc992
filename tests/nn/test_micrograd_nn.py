"""Programs for micrograd.nn run with only the import changed, and give the same numbers."""

import importlib
import random
from typing import Any

import pytest

PACKAGES = {"micrograd": "micrograd.engine", "micrograd_bp": "micrograd_bp.value"}

PARAMETERS = """
random.seed(1)
model = MLP(2, [16, 16, 1])
report(str(model), len(model.parameters()))
report(*[p.data for p in model.parameters()])
neuron, linear, layer, module = Neuron(3), Neuron(3, nonlin=False), Layer(3, 2, nonlin=False), Module()
report(neuron, linear, layer, module.parameters(), len(neuron.w), neuron.b.data)
report(*[p.data for part in (neuron, linear, layer) for p in part.parameters()])
"""

OUTPUTS = """
random.seed(2)
single, several = MLP(3, [4, 1]), MLP(3, [4, 2])
x = [0.5, -1.5, 2.0]
report(single(x).data, [out.data for out in several(x)])
report(Layer(3, 1)(x).data, [out.data for out in Layer(3, 2)(x)], Neuron(3)(x).data, Neuron(3, nonlin=False)(x).data)
report(single([Value(xi) for xi in x]).data)
report(MLP(3, [])(x), single.layers[0].neurons[1].nonlin, single.layers[1].neurons[0].nonlin)
"""

SUBCLASS = """
class Twice(Module):
    def __init__(self):
        self.inner = MLP(2, [3, 1])
        self.factor = Value(2.0)
    def __call__(self, x):
        return self.inner(x) * self.factor
    def parameters(self):
        return self.inner.parameters() + [self.factor]

random.seed(3)
twice = Twice()
twice([1.0, 2.0]).backward()
report(*[p.grad for p in twice.parameters()])
twice.zero_grad()
report(*[p.grad for p in twice.parameters()])
"""

TRAINING = """
random.seed(1337)
points = [(random.uniform(-1, 1), random.uniform(-1, 1)) for _ in range(12)]
classes = [1 if a * b > 0 else -1 for a, b in points]
model = MLP(2, [8, 8, 1])
for k in range(6):
    inputs = [list(map(Value, point)) for point in points]
    scores = list(map(model, inputs))
    losses = [(1 + -yi * score).relu() for yi, score in zip(classes, scores)]
    data_loss = sum(losses) * (1.0 / len(losses))
    reg_loss = 1e-4 * sum((p * p for p in model.parameters()))
    total_loss = data_loss + reg_loss
    accuracy = [(yi > 0) == (score.data > 0) for yi, score in zip(classes, scores)]
    model.zero_grad()
    total_loss.backward()
    for p in model.parameters():
        p.data -= (1.0 - 0.9 * k / 100) * p.grad
    report(total_loss.data, sum(accuracy))
report(*[p.grad for p in model.parameters()])
report(*[p.data for p in model.parameters()])
"""


def run(program: str, package: str) -> list[Any]:
    reports = []
    names = {
        name: getattr(importlib.import_module(f"{package}.nn"), name) for name in ("Module", "Neuron", "Layer", "MLP")
    }
    names |= {"Value": importlib.import_module(PACKAGES[package]).Value, "random": random}
    state = random.getstate()
    try:
        exec(program, names | {"report": lambda *what: reports.append([x if is_data(x) else str(x) for x in what])})
    finally:
        random.setstate(state)
    return reports


def is_data(x: Any) -> bool:
    return isinstance(x, int | float) or (isinstance(x, list) and all(map(is_data, x)))


@pytest.mark.parametrize("program", [PARAMETERS, OUTPUTS], ids=["parameters", "outputs"])
def test_the_same_to_the_last_bit(program: str) -> None:
    assert run(program, "micrograd_bp") == run(program, "micrograd")


@pytest.mark.parametrize("program", [SUBCLASS, TRAINING], ids=["subclass", "training"])
def test_the_same_but_for_the_order_of_sums(program: str) -> None:
    """micrograd sums gradients in the order of a set, which differs from run to run."""
    ours, theirs = run(program, "micrograd_bp"), run(program, "micrograd")
    assert len(ours) == len(theirs) > 1
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-9, abs=1e-12)

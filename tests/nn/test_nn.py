"""Modules: parameters and their names, initial weights, frozen copies, recurrent cells, and models in files."""

import copy
import dataclasses
import functools
import itertools
import json
import math
import pickle
import random
import statistics
import types
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_bp import Value, gradients, losses, nn, ops, optim


def models() -> Any:
    rng = random.Random(0)
    return [
        nn.Neuron(2, activation="sigmoid", rng=rng),
        nn.Neuron(2, nonlin=False, rng=rng),
        nn.Layer(2, 3, activation=ops.softplus, rng=rng),
        nn.Layer(2, 1, activation=None, rng=rng),
        nn.MLP(2, [3, 1], rng=rng),
        nn.MLP(2, [1, 2], activation="tanh", output_activation="leaky_relu", rng=rng),
        nn.Sequential(nn.Standardize([0.5, 1.0], [2.0, 0.1]), nn.Layer(2, 1, rng=rng), nn.MLP(1, [2, 2], rng=rng)),
        nn.RNNCell(2, 3, activation="relu", rng=rng),
        nn.GRUCell(2, 3, rng=rng),
        nn.LSTMCell(2, 3, rng=rng),
    ]


every_model = pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)


def plain(out: Any) -> Any:
    return (
        [plain(part) for part in out] if isinstance(out, list | tuple) else out.data if isinstance(out, Value) else out
    )


def leaves(out: float) -> list[float]:
    return [leaf for part in out for leaf in leaves(part)] if isinstance(out, list | tuple) else [out]


# --- parameters ---------------------------------------------------------------------------------------------------


@every_model
def test_parameters_have_names_in_order_and_carry_them(model: Any) -> None:
    named = model.named_parameters()
    assert [parameter for _, parameter in named] == model.parameters()
    assert [name for name, _ in named] == [parameter.label for parameter in model.parameters()]
    assert len(set(model.parameters())) == len({name for name, _ in named}) == len(named) > 0
    assert model.state_dict() == {name: parameter.data for name, parameter in named}


def test_names_are_paths() -> None:
    model = nn.Sequential(nn.Standardize([0.0], [1.0]), nn.MLP(1, [2, 1]))
    assert [name for name, _ in model.named_parameters()][:4] == [
        "parts.1.layers.0.neurons.0.w.0",
        "parts.1.layers.0.neurons.0.b",
        "parts.1.layers.0.neurons.1.w.0",
        "parts.1.layers.0.neurons.1.b",
    ]


class Odd(nn.Module):
    """Shares a part, ties a weight, refers to itself, and keeps Values in a dict and in a tuple."""

    def __init__(self) -> None:
        self.first = nn.Neuron(2)
        self.again: dict[str, Any] = {"shared": self.first, "more": (Value(1.0), [Value(2.0)])}
        self.first.w[1] = self.first.w[0]
        self.myself = self
        self.name, self.missing = "odd", None


def test_a_parameter_counts_once_however_it_is_reached() -> None:
    odd = Odd()
    names = ["first.w.0", "first.b", "again.more.0", "again.more.1.0"]
    assert [name for name, _ in odd.named_parameters()] == names
    assert odd.parameters() == [odd.first.w[0], odd.first.b, odd.again["more"][0], odd.again["more"][1][0]]
    odd.load_state_dict(dict.fromkeys(names, 7.0))
    assert odd.first.w[1].data == 7.0
    assert odd.freeze().first.w == [7.0, 7.0]


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Any
    second: Any


class Slotted:
    __slots__ = ("__hidden", "shown", "unset")

    def __init__(self, shown: Any, hidden: Any) -> None:
        self.shown, self.__hidden = shown, hidden

    def total(self, x: Any) -> Any:
        return self.shown * x + self.__hidden


class Stack(list[Any]):
    scale = 1.0


class Holder(nn.Module):
    """A model that keeps whatever it is given."""

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def __call__(self, x: Any) -> Any:
        return sum((w * x for w in values_in(self.kept)), start=0.0)


def values_in(kept: Any) -> list[Any]:
    """The numbers of a Holder, whatever it holds them in."""
    if isinstance(kept, Value | float):
        return [kept]
    if isinstance(kept, np.ndarray):
        return kept.ravel().tolist()
    if isinstance(kept, Mapping):
        return [x for part in kept.values() for x in values_in(part)]
    if isinstance(kept, list | tuple | deque):
        return [x for part in [*kept, *vars_of(kept)] for x in values_in(part)]
    return [x for part in vars_of(kept) for x in values_in(part)]


def vars_of(x: Any) -> Any:
    if isinstance(x, functools.partial):
        return [*x.args, *x.keywords.values()]
    if isinstance(x, types.MethodType):
        return vars_of(x.__self__)
    if isinstance(x, Slotted):
        return [x.shown, getattr(x, "_Slotted__hidden")]  # noqa: B009
    return list(getattr(x, "__dict__", {}).values())


def stacked(a: Any, b: Any) -> Any:
    stack = Stack([a])
    stack.scale = b
    return stack


HOLDERS = {
    "array": (lambda a, b: np.array([a, b]), ["0", "1"]),
    "matrix": (lambda a, b: np.array([[a], [b]]), ["0.0", "1.0"]),
    "array of no dimension": (lambda a, b: [np.array(a, dtype=object), b], ["0.0", "1"]),
    "deque": (lambda a, b: deque([a, b], maxlen=2), ["0", "1"]),
    "frozen dataclass": (Pair, ["first", "second"]),
    "dataclass in a list": (lambda a, b: [Pair(a, [b])], ["0.first", "0.second.0"]),
    "namespace": (lambda a, b: types.SimpleNamespace(a=a, b=b), ["a", "b"]),
    "slots": (Slotted, ["_Slotted__hidden", "shown"]),
    "list with an attribute": (stacked, ["0", "scale"]),
    "method": (lambda a, b: Slotted(a, b).total, ["__self__._Slotted__hidden", "__self__.shown"]),
    "partial": (lambda a, b: functools.partial(print, a, b), ["args.0", "args.1"]),
    "ordered dict": (lambda a, b: OrderedDict(b=a, a=b), ["b", "a"]),
    "UserDict": (lambda a, b: UserDict(b=a, a=b), ["b", "a"]),
    "keys that differ in type": (lambda a, b: {1: a, "1": b}, ["[1]", "['1']"]),
    "keys that differ in type, turned": (lambda a, b: {"1": a, 1: b}, ["['1']", "[1]"]),
    "a key with a dot": (lambda a, b: {"a.0": a, "a": [b]}, ["['a.0']", "['a'][0]"]),
    "an empty key": (lambda a, b: {"": a, "x": b}, ["", "x"]),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_parameters_are_found_wherever_they_are_kept(holder: str, tmp_path: Path) -> None:
    keep, paths = HOLDERS[holder]
    a, b = Value(2.0), Value(3.0)
    model, other = Holder(keep(a, b)), Holder(keep(Value(0.0), Value(0.0)))
    names = [f"kept{path}" if path.startswith("[") else f"kept.{path}" for path in paths]
    if holder == "UserDict":
        names = [f"kept.{path}" for path in paths]
    named = model.named_parameters()
    assert [name for name, _ in named] == names
    assert {id(x) for _, x in named} == {id(x) for x in model.parameters()} == {id(a), id(b)}
    assert len(named) == 2
    other.load_state_dict(model.state_dict())
    assert other.state_dict() == model.state_dict()
    model.save(tmp_path / "model.json")
    again = Holder(keep(Value(0.0), Value(0.0)))
    again.load(tmp_path / "model.json")
    assert again.state_dict() == model.state_dict()

    frozen = model.freeze()
    assert frozen.parameters() == []
    assert (frozen(0.5), type(frozen(0.5))) == (model(0.5).data, float)

    twin = copy.deepcopy(model)
    assert twin.state_dict() == model.state_dict()
    twin(1.0).backward()
    for x in twin.parameters():
        x.data = -1.0
    assert [(x.data, x.grad) for x in (a, b)] == [(2.0, 0.0), (3.0, 0.0)]
    assert [x.grad for x in twin.parameters()] == [1.0, 1.0]


def closing_over(x: Any) -> Any:
    return lambda y: x * y


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda a: {a}, "kept: a set holds Value"),
        (lambda a: [frozenset([a])], r"kept\[0\]: a frozenset holds"),
        (lambda a: {a: 1.0}, "kept: a dict holds"),
        (closing_over, "kept: a function holds"),
        (lambda a: lambda x, a=a: a * x, "kept: a function holds"),
        (lambda a: iter([a]), "kept: a list_iterator holds"),
        (lambda a: itertools.repeat(a), "kept: a repeat holds"),
        (lambda a: np.array([(a, 1.0)], dtype=[("w", object), ("x", float)]), "kept: a ndarray holds"),
    ],
)
def test_a_parameter_that_has_no_place_is_refused_and_not_missed(keep: Callable[..., Any], message: str) -> None:
    a = Value(2.0)
    model: Any = Holder(keep(a))
    for read in (model.parameters, model.named_parameters, model.state_dict, model.zero_grad, model.freeze):
        with pytest.raises(TypeError, match=message + r".*keep parameters in attributes, lists"):
            read()
    model.own = a  # now it has a place, and what else refers to it does no harm
    assert [name for name, _ in model.named_parameters()] == ["own"]


def test_a_parameter_on_the_class_is_refused() -> None:
    class Shared(nn.Module):
        w = Value(1.0)

    with pytest.raises(TypeError, match=r"the class attribute Shared\.w holds"):
        Shared().parameters()


def test_parameters_that_cannot_be_told_apart_are_refused() -> None:
    class Key:
        def __repr__(self) -> str:
            return "key"

    with pytest.raises(ValueError, match=r"two parameters have the name kept\[key\]"):
        Holder({Key(): Value(1.0), Key(): Value(2.0)}).state_dict()


def test_an_output_that_is_kept_is_no_parameter() -> None:
    model: Any = nn.MLP(2, [3, 1], rng=random.Random(0))
    names = [name for name, _ in model.named_parameters()]
    model.last = [model([1.0, 2.0])]
    model.last[0].backward()
    assert [name for name, _ in model.named_parameters()] == names
    assert len(model.parameters()) == len(names)
    nn.MLP(2, [3, 1]).load_state_dict(model.state_dict())
    assert type(model.freeze().last[0]) is float


def test_what_belongs_to_the_program_is_not_searched() -> None:
    other = nn.Neuron(1)
    model = Holder(
        [Value(1.0), math, nn, nn.Neuron, ops.tanh, optim.SGD(other.parameters()), math.sin, random.Random(0)]
    )
    assert [name for name, _ in model.named_parameters()] == ["kept.0"]


def test_parameters_nested_without_end_are_found() -> None:
    nested: list[Any] = [Value(1.0)]
    for _ in range(5000):
        nested = [nested]
    model = Holder(nested)
    assert len(model.parameters()) == 1
    assert model.named_parameters()[0][0].count(".") == 5001


@every_model
def test_gradients_start_anew(model: Any) -> None:
    for parameter in model.parameters():
        parameter.grad = 3.0
    model.zero_grad()
    assert {parameter.grad for parameter in model.parameters()} == {0.0}


@every_model
def test_a_wrong_state_changes_nothing(model: Any) -> None:
    before = model.state_dict()
    name = next(iter(before))
    for state, error in (
        ({}, ValueError),
        (before | {"more": 1.0}, ValueError),
        ({key: x for key, x in before.items() if key != name}, ValueError),
        (dict.fromkeys(before, 2.0) | {name: "1"}, TypeError),
        ([1.0], ValueError),
    ):
        with pytest.raises(error):
            model.load_state_dict(state)
        assert model.state_dict() == before


# --- initial weights ----------------------------------------------------------------------------------------------

SPREADS = {  # the standard deviation for 50 inputs and 20 units
    "micrograd": 1 / math.sqrt(3),
    "xavier_uniform": math.sqrt(2 / 70),
    "glorot_uniform": math.sqrt(2 / 70),
    "xavier_normal": math.sqrt(2 / 70),
    "glorot_normal": math.sqrt(2 / 70),
    "pytorch": math.sqrt(1 / 150),
    "he_uniform": math.sqrt(2 / 50),
    "kaiming_uniform": math.sqrt(2 / 50),
    "he_normal": math.sqrt(2 / 50),
    "kaiming_normal": math.sqrt(2 / 50),
}


@pytest.mark.parametrize("init", nn.INITS)
def test_initial_weights_have_the_spread_of_their_name(init: str) -> None:
    layer = nn.Layer(50, 20, init=init, rng=random.Random(0))
    weights = [w.data for neuron in layer.neurons for w in neuron.w]
    assert statistics.fmean(weights) == pytest.approx(0.0, abs=0.1 * SPREADS[init])
    assert statistics.pstdev(weights) == pytest.approx(SPREADS[init], rel=0.1)
    if "normal" not in init:
        assert max(map(abs, weights)) <= SPREADS[init] * math.sqrt(3)
    assert {neuron.b.data for neuron in layer.neurons} == {0.0}


def test_randomness_is_an_argument() -> None:
    def build(rng: random.Random) -> list[dict[str, float]]:
        return [nn.MLP(2, [3, 1], rng=rng).state_dict(), nn.LSTMCell(2, 2, rng=rng).state_dict()]

    assert build(random.Random(5)) == build(random.Random(5)) != build(random.Random(6))
    state = random.getstate()
    build(random.Random(5))
    assert random.getstate() == state
    assert nn.Neuron(2, init=lambda fan_in, fan_out, rng: fan_in + fan_out).w[0].data == 3.0


def test_equal_weights_stay_equal_and_random_ones_do_not() -> None:
    """Why weights start at random: hidden units that are alike get the same gradient for ever."""
    for init, alike in ((lambda fan_in, fan_out, rng: 0.5, True), ("xavier_uniform", False)):
        model = nn.MLP(2, [3, 1], activation="tanh", init=init, rng=random.Random(0))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            losses.mse(model([1.0, -2.0]), 0.7).backward()
            optimizer.step()
        hidden = [tuple(p.data for p in neuron.parameters()) for neuron in model.layers[0].neurons]
        assert (len(set(hidden)) == 1) is alike


# --- calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_every_row_of_one_number_is_an_activation(activation: str) -> None:
    neuron = nn.Neuron(1, activation=activation, init=lambda *_: 0.5)
    row = ops.TABLE[activation]
    x = max(0.625, row.domain[0][0])
    assert neuron([2 * x]).data == neuron.freeze()([2 * x]) == row(x)
    assert nn.Neuron(1, activation=row).activation == activation


def test_an_activation_may_be_oddfunction() -> None:
    neuron = nn.Neuron(1, activation=lambda x: x * x * x, init=lambda *_: 0.5)
    assert neuron([4.0]).data == neuron.freeze()([4.0]) == 8.0
    softsign = ops.Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
    assert nn.MLP(1, [1], output_activation=softsign, init=lambda *_: 1.0)([1.0]).data == 0.5
    assert repr(nn.Neuron(1, activation=softsign)) == "SoftsignNeuron(1)"
    assert repr(nn.Neuron(1, activation=math.exp)) == "ExpNeuron(1)"
    assert repr(nn.Neuron(1, activation=None)) == "LinearNeuron(1)"


def test_a_single_output_is_no_list_where_micrograd_has_none() -> None:
    x = [1.0, 2.0]
    one, two = nn.Layer(2, 1), nn.Layer(2, 2)
    assert isinstance(one(x), Value)
    assert len(one.forward(x)) == 1
    assert len(two(x)) == len(two.forward(x)) == 2
    narrow = nn.MLP(2, [1, 2])  # micrograd's own fails on a single neuron in the middle
    assert len(narrow(x)) == 2
    assert isinstance(nn.Sequential(nn.Neuron(2), nn.Layer(1, 1))(x), Value)


def test_no_node_is_made_without_need() -> None:
    neuron = nn.Neuron(3)
    nodes = []
    todo = [neuron([1.0, 2.0, 3.0])]
    while todo:
        node = todo.pop()
        nodes.append(node)
        todo += [operand for operand in node.operands if isinstance(operand, Value) and operand.op is not None]
    assert sorted(node.op.name for node in nodes if node.op) == ["net_input", "relu"]


loose: Any = nn  # takes what nn's types refuse


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Neuron(2)([1.0]), ValueError, r"Neuron\(2\) takes 2 inputs, not 1"),
        (lambda: nn.MLP(2, [3])([1.0, 2.0, 3.0]), ValueError, "takes 2 inputs, not 3"),
        (lambda: nn.RNNCell(1, 2)([1.0], [0.0]), ValueError, "takes 3 inputs, not 2"),
        (lambda: nn.Standardize([1.0], [1.0])([1.0, 2.0]), ValueError, "takes 1 inputs, not 2"),
        (lambda: nn.Neuron(0), ValueError, "inputs is 1 or more, not 0"),
        (lambda: loose.Layer(2, 2.5), TypeError, "neurons is a whole number, not 2.5"),
        (lambda: loose.MLP(2, [3, "1"]), TypeError, "neurons is a whole number, not '1'"),
        (lambda: nn.LSTMCell(1, -1), ValueError, "hidden units is 1 or more, not -1"),
        (lambda: nn.Neuron(2, activation="thanh"), ValueError, "activation 'thanh' is neither a function nor one of"),
        (lambda: nn.Neuron(2, activation="mul"), ValueError, "activation 'mul'"),
        (lambda: loose.Neuron(2, activation=3), ValueError, "activation 3"),
        (lambda: nn.Neuron(2, init="zeros"), ValueError, "init 'zeros' is neither a function nor one of micrograd"),
        (
            lambda: loose.Sequential(nn.Layer(1, 1), 3),
            TypeError,
            "a part of Sequential is a module or a function, not 3",
        ),
        (lambda: nn.Standardize([1.0], []), ValueError, "as many scales as means"),
        (lambda: nn.Standardize([1.0], [0.0]), ValueError, "other than 0"),
        (lambda: nn.Standardize([math.inf], [1.0]), ValueError, "finite"),
        (lambda: nn.Feedforward()([1.0]), NotImplementedError, "define forward"),
    ],
)
def test_errors_say_what_is_wrong(call: Callable[..., Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# --- frozen copies ------------------------------------------------------------------------------------------------


@every_model
@given(x=st.lists(st.floats(-100, 100), min_size=2, max_size=2))
def test_a_frozen_copy_gives_the_same_floats_without_a_graph(model: Any, x: list[float]) -> None:
    frozen = model.freeze()
    assert type(frozen) is type(model)
    assert frozen.parameters() == []
    out = frozen(x)
    assert set(map(type, leaves(out))) == {float}
    assert plain(out) == plain(model(x))


@every_model
def test_copies_and_pickles_are_models(model: Any) -> None:
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.state_dict() == model.state_dict()
        assert not set(again.parameters()) & set(model.parameters())
        assert plain(again([1.0, -2.0])) == plain(model([1.0, -2.0]))
    assert plain(pickle.loads(pickle.dumps(model.freeze()))([1.0, -2.0])) == plain(model([1.0, -2.0]))


# --- recurrent cells ----------------------------------------------------------------------------------------------


def sigmoid(x: Any) -> Any:
    return 1 / (1 + math.exp(-x))


def affine(layer: Any, x: list[float]) -> list[float]:
    return [sum(w.data * xi for w, xi in zip(n.w, x, strict=True)) + n.b.data for n in layer.neurons]


def test_cells_compute_their_equations() -> None:
    rng = random.Random(1)
    x, h, c = ([rng.uniform(-1, 1) for _ in range(n)] for n in (2, 3, 3))
    cell: Any = nn.RNNCell(2, 3, rng=rng)
    assert plain(cell(x, h)) == pytest.approx([math.tanh(z) for z in affine(cell.layer, x + h)])

    cell = nn.GRUCell(2, 3, rng=rng)
    r, z = ([sigmoid(a) for a in affine(gate, x + h)] for gate in (cell.reset, cell.update))
    n = [math.tanh(a) for a in affine(cell.candidate, x + [ri * hi for ri, hi in zip(r, h, strict=True)])]
    assert plain(cell(x, h)) == pytest.approx([zi * hi + (1 - zi) * ni for zi, hi, ni in zip(z, h, n, strict=True)])

    cell = nn.LSTMCell(2, 3, rng=rng)
    i, f, o = ([sigmoid(a) for a in affine(gate, x + h)] for gate in (cell.input, cell.forget, cell.output))
    g = [math.tanh(a) for a in affine(cell.candidate, x + h)]
    memory = [fi * ci + ii * gi for fi, ci, ii, gi in zip(f, c, i, g, strict=True)]
    output = [oi * math.tanh(mi) for oi, mi in zip(o, memory, strict=True)]
    assert plain(cell(x, (h, c))) == [pytest.approx(output), pytest.approx(memory)]
    assert {neuron.b.data for neuron in cell.forget.neurons} == {1.0}
    with pytest.raises(ValueError, match=r"LSTMCell\(2, 3\) remembers 3 numbers, not 2"):
        cell(x, (h, c[:2]))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_the_first_state_is_zero(kind: type[Any]) -> None:
    cell = kind(2, 3, rng=random.Random(0))
    zero = [0.0, 0.0, 0.0]
    assert plain(cell([1.0, 2.0])) == plain(cell([1.0, 2.0], (zero, zero) if kind is nn.LSTMCell else zero))


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_gradients_through_time_are_limits_of_differences(kind: type[Any]) -> None:
    cell = kind(1, 2, rng=random.Random(2))

    def last(cell: Any) -> Any:
        state: Any = None
        for x in (1.0, -0.5, 2.0, 0.25):
            state = cell([x], state)
        return sum(state[0]) if isinstance(state, tuple) else sum(state)

    last(cell).backward()
    for parameter, h in itertools.product(cell.parameters(), [1e-5]):
        data, sides = parameter.data, []
        for side in (h, -h):
            parameter.data = data + side
            sides.append(last(cell.freeze()))
        parameter.data = data
        assert parameter.grad == pytest.approx((sides[0] - sides[1]) / (2 * h), abs=1e-8)


def test_gradients_vanish_or_explode_with_length() -> None:
    """Through a linear unit, d h_T / d h_0 = w^T."""
    for w in (0.5, 1.0, 1.5):
        cell = nn.RNNCell(1, 1, activation=None, init=lambda *_, w=w: w)
        start = Value(1.0)
        state = [start]
        for _ in range(30):
            state = cell([0.0], state)
        assert gradients(state[0], [start])[0].data == pytest.approx(w**30)


class Parity(nn.Module):
    def __init__(self, rng: random.Random) -> None:
        self.cell = nn.GRUCell(1, 4, rng=rng)
        self.odd = nn.Layer(4, 1, nonlin=False, init="xavier_uniform", rng=rng)

    def __call__(self, bits: Sequence[float]) -> Any:
        state: Any = None
        for bit in bits:
            state = self.cell([bit], state)
        return self.odd(state)


def test_a_recurrent_cell_learns_parity() -> None:
    """From strings of up to 8 bits with their parity to all 256 strings of 8."""
    rng = random.Random(0)
    model = Parity(rng)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for step in range(200):
        optimizer.zero_grad()
        for _ in range(8):
            bits = [rng.choice([-1.0, 1.0]) for _ in range(rng.randint(1, 8))]
            losses.binary_cross_entropy(model(bits), bits.count(1.0) % 2).backward(1 / 8)
        optim.clip_grad_norm(optimizer.parameters, 1.0)
        optimizer.step()
        if step % 25 == 24:
            frozen = model.freeze()
            strings = itertools.product([-1.0, 1.0], repeat=8)
            if all((frozen(bits) > 0) == (bits.count(1.0) % 2 == 1) for bits in strings):
                return
    pytest.fail("not learnt in 200 steps")


# --- files --------------------------------------------------------------------------------------------------------


@every_model
def test_a_saved_model_comes_back_to_the_last_bit(model: Any, tmp_path: Path) -> None:
    for parameter, data in zip(model.parameters(), [math.inf, -math.inf, math.nan, 5e-324, -0.0, 0.1], strict=False):
        parameter.data = data
    path = tmp_path / "model.json"
    model.save(path)
    json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN: other languages read it too
    again = nn.load(path)
    other = copy.deepcopy(model)
    other.load_state_dict(dict.fromkeys(model.state_dict(), 0.0))
    other.load(path)
    for found in (again, other):
        assert type(found) is type(model)
        assert list(map(repr, found.state_dict().items())) == list(map(repr, model.state_dict().items()))
        assert found.architecture() == model.architecture()
    assert repr(again) == repr(model)
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


def test_a_module_of_ones_own_is_saved_and_loads_itself(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    model, other = Parity(random.Random(0)), Parity(random.Random(1))
    model.save(path)
    other.load(path)
    assert other.state_dict() == model.state_dict()
    with pytest.raises(ValueError, match=r"Parity.*no module of this library; construct the model"):
        nn.load(path)


def test_what_cannot_be_saved_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    model: Any
    for model, message in (
        (nn.MLP(2, [3, 1], activation=lambda x: x * x), "lambda.*cannot be saved"),
        (nn.Sequential(nn.Layer(1, 1), max), "built-in function max.*cannot be saved"),
        (nn.MLP(2, [3, 1]).freeze(), "MLP has no parameters to save; where it is frozen"),
    ):
        with pytest.raises(ValueError, match=message):
            model.save(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.json"
    nn.Neuron(2).save(path)
    before = path.read_bytes()

    def fail(*_: int | str) -> Never:
        raise OSError("the disk is full")

    for broken in ("os.replace", "os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, fail)
            with pytest.raises(OSError, match="disk is full"):
                nn.Neuron(2).save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


SAVED: dict[str, Any] = {
    "format": "micrograd_bp model",
    "version": 1,
    "architecture": {"type": "MLP", "nin": 1, "nouts": [2], "activation": "relu", "output_activation": None},
    "parameters": {
        "layers.0.neurons.0.w.0": 1.0,
        "layers.0.neurons.0.b": 2.0,
        "layers.0.neurons.1.w.0": 3.0,
        "layers.0.neurons.1.b": 4.0,
    },
}


def changed(part: str, **changes: Any) -> dict[str, Any]:
    return SAVED | {part: SAVED[part] | changes}


WRONG = {
    "empty": ("", "line 1, column 1: .*damaged"),
    "no JSON": ("pickle\x80\x04", "damaged"),
    "a list": ("[]", "no micrograd_bp model file"),
    "a number": ("1", "no micrograd_bp model file"),
    "nested": ("[" * 100_000, "nested too deeply"),
    "NaN": (json.dumps(changed("parameters", **{"layers.0.neurons.0.b": math.nan})), "NaN is no JSON"),
    "twice": ('{"format": 1, "format": 2}', '"format" stands there twice'),
    "digits": ('{"format": ' + "1" * 10_000 + "}", "model.json"),
    "other format": (SAVED | {"format": "other"}, "no micrograd_bp model file"),
    "other version": (SAVED | {"version": 2}, "version 2 of the micrograd_bp model format; this library reads 1"),
    "more": (SAVED | {"more": 1}, 'has the unknown "more"'),
    "no parameters": ({key: SAVED[key] for key in SAVED if key != "parameters"}, 'lacks "parameters"'),
    "parameters a list": (SAVED | {"parameters": [1.0]}, "parameters: no object"),
    "parameter missing": (
        SAVED | {"parameters": {"layers.0.neurons.0.w.0": 1.0, "b": 1.0}},
        r'parameters lacks "layers\.0\.neur',
    ),
    "parameter unknown": (changed("parameters", more=1.0), 'parameters has the unknown "more"'),
    "a string": (changed("parameters", **{"layers.0.neurons.0.b": "2.0"}), r'neurons\.0\.b: "2\.0" is no float'),
    "true": (changed("parameters", **{"layers.0.neurons.0.b": True}), r"neurons\.0\.b: true is no float"),
    "a huge whole number": (changed("parameters", **{"layers.0.neurons.0.b": 10**400}), r"neurons\.0\.b: a int is no"),
    "no architecture": (SAVED | {"architecture": None}, "architecture: .* is no module of this library"),
    "a type of list": (changed("architecture", type=["MLP"]), "is no module of this library"),
    "another type": (changed("architecture", type="os.system"), r"os\.system.* is no module of this library"),
    "init": (changed("architecture", init="micrograd"), 'architecture has the unknown "init"'),
    "nin": (changed("architecture", nin=0), "architecture: the number of inputs is 1 or more"),
    "nin of text": (changed("architecture", nin="1"), "architecture: the number of inputs is a whole number"),
    "nouts": (changed("architecture", nouts=2), "architecture: "),
    "activation": (changed("architecture", activation="__import__('os')"), "architecture: activation"),
    "activation of list": (changed("architecture", activation=["relu"]), "architecture: activation"),
    "huge": (changed("architecture", nouts=[10**12]), "architecture: more weights than the file has parameters"),
    "huge inputs": (changed("architecture", nin=10**30), "architecture: more weights than the file has parameters"),
    "parts": (SAVED | {"architecture": {"type": "Sequential", "parts": {}}}, "architecture: parts: a dict is no list"),
    "part": (
        SAVED | {"architecture": {"type": "Sequential", "parts": [{"type": "Neuron", "nin": 1}]}},
        r'architecture: parts\[0\] lacks "nonlin", "activation"',
    ),
    "means": (
        SAVED | {"architecture": {"type": "Standardize", "means": ["a"], "scales": [1.0]}},
        "architecture: Standardize cannot take 'a'",
    ),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_changes_nothing(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        nn.load(path)
    assert str(error.value).startswith(str(path))
    model = nn.MLP(1, [2])
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"model\.json"):
        model.load(path)
    assert model.state_dict() == before


def test_a_model_does_not_load_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    nn.MLP(1, [2], output_activation="tanh").save(path)
    with pytest.raises(ValueError, match=r"holds MLP\(.*'tanh'\), but this model is MLP\(.*None\)"):
        nn.MLP(1, [2]).load(path)


def test_a_file_cut_short_anywhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    nn.MLP(1, [1]).save(path)
    content = path.read_bytes()
    for length in range(len(content) - 1):  # the last byte is the end of the line
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"model\.json"):
            nn.load(path)
    path.write_bytes(b"\xff" + content)
    with pytest.raises(ValueError, match="byte 0 is no UTF-8"):
        nn.load(path)


NAMES = [*SAVED["architecture"], *SAVED["parameters"]]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["MLP", "relu", "inf"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "nin", "nouts"]), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@given(st.sampled_from(["architecture", "parameters"]), st.sampled_from(NAMES), json_values)
def test_whatever_stands_in_a_file_it_loads_or_says_why_not(folder: Path, part: str, name: str, value: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(changed(part, **{name: value})))
    try:
        model = nn.load(path)
    except ValueError as error:
        found = str(error).startswith(str(path))
    else:
        found = len(model.parameters()) == 4
    assert found

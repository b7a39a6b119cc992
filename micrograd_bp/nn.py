"""Neurons, layers, networks and recurrent cells: micrograd's `nn`, and models that can be named, saved and frozen.

>>> import random
>>> model = MLP(2, [3, 1], activation="tanh", rng=random.Random(0))
>>> model
MLP of [Layer of [TanhNeuron(2), TanhNeuron(2), TanhNeuron(2)], Layer of [LinearNeuron(3)]]
>>> out = model([1.0, -2.0])
>>> out.backward()
>>> name, weight = model.named_parameters()[0]
>>> name, round(weight.grad, 6)
('layers.0.neurons.0.w.0', 0.505737)
"""

from __future__ import annotations

import copy
import math
import operator
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

from micrograd_bp import ops
from micrograd_bp._engine import files
from micrograd_bp._engine.parameters import search
from micrograd_bp._engine.randomness import checked_rng
from micrograd_bp.value import Value, layer_outputs
from micrograd_bp.value import net_input as net_input

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Frozen, Operand, Output, Row

Activation: TypeAlias = str | Callable[[Any], Any] | None
Init: TypeAlias = str | Callable[[int, int, Any], float]

FORMAT, VERSION = "micrograd_bp model", 1

# (number of inputs, number of units, source of randomness) -> a weight; every bias starts at 0.
INITS: dict[str, Callable[[int, int, Any], float]] = {
    "micrograd": lambda fan_in, fan_out, rng: rng.uniform(-1, 1),
    # Glorot and Bengio, 2010: keeps the variance of activations and adjoints through tanh layers.
    "xavier_uniform": lambda fan_in, fan_out, rng: rng.uniform(-1, 1) * math.sqrt(6 / (fan_in + fan_out)),
    "xavier_normal": lambda fan_in, fan_out, rng: rng.gauss(0, 1) * math.sqrt(2 / (fan_in + fan_out)),
    # He, Zhang, Ren and Sun, 2015: the same for ReLU, which loses half of the variance.
    "he_uniform": lambda fan_in, fan_out, rng: rng.uniform(-1, 1) * math.sqrt(6 / fan_in),
    "he_normal": lambda fan_in, fan_out, rng: rng.gauss(0, 1) * math.sqrt(2 / fan_in),
}
for _author, _first_name in (("xavier", "glorot"), ("he", "kaiming")):
    INITS |= {f"{_first_name}_{shape}": INITS[f"{_author}_{shape}"] for shape in ("uniform", "normal")}


# The rows that can be called with one number.
ACTIVATIONS = {
    name: op for name, op in ops.TABLE.items() if op.arity is not None and op.arity - len(op.defaults) <= 1 <= op.arity
}


class Names(NamedTuple):
    """What a model's inputs and outputs are called; kept in its attribute `names`, it is saved and loaded with it.

    >>> from micrograd_bp import datasets
    >>> data, model = datasets.iris(), MLP(4, [8, 3])
    >>> model.names = Names(data.features, data.classes)
    """

    features: Sequence[str]
    classes: Sequence[str] = ()  # none where the outputs are quantities
    target: str = ""


class Module:
    """A part of a model; its parameters are the Values among its attributes, and in what these hold.

    So are those in lists, tuples, dicts, deques, NumPy arrays and other objects, however nested. A Value that has an
    operation, an output that is kept, is none. TypeError of all methods: a Value stands where it has no place of its
    own, in a set or a function's closure, say, so that it would be missed.

    A module of one's own sets its parts in `__init__` and says in `__call__` or in `forward` what it computes:

    >>> class Line(Module):
    ...     def __init__(self):
    ...         self.slope, self.offset = Value(2.0), Value(1.0)
    ...
    ...     def __call__(self, x):
    ...         return self.slope * x + self.offset
    >>> Line().named_parameters()
    [('slope', Value(data=2.0, grad=0.0)), ('offset', Value(data=1.0, grad=0.0))]
    >>> Line().freeze()(3.0)
    7.0
    """

    names: Names | None = None
    _arguments: ClassVar[tuple[str, ...]] = ()  # of the constructor, as far as they say what a saved model is

    def named_parameters(self) -> list[tuple[str, Value]]:
        """Every parameter once, with the path of attributes and indices that leads to it.

        No two have the same name: where the dots of paths would make it so, brackets tell them apart.

        >>> model = Module()
        >>> model.d = {1: Value(1.0), "1": Value(2.0), "x": Value(3.0)}
        >>> [name for name, _ in model.named_parameters()]
        ['d[1]', "d['1']", 'd.x']
        """
        return list(search(self, (Module,)).names().items())

    def parameters(self) -> list[Value]:
        """Every parameter once, in the order of `named_parameters`."""
        return list(search(self, (Module,), places=False).leaves)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes: by default what its method `forward` does."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a module of one's own computes, where it does not define `__call__` for that."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward(x)")

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, float]:
        """The data of every parameter, by name."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Set the data of every parameter from a `state_dict`.

        ValueError: names are missing or unknown. TypeError: an entry is no real number. Then nothing is changed.

        >>> model, other = Neuron(2), Neuron(2)
        >>> other.load_state_dict(model.state_dict())
        >>> other.w[1].data == model.w[1].data
        True
        """
        parameters = dict(self.named_parameters())
        files.check_keys(state, parameters, "the state")
        numbers = [ops.number(state[name], name) for name in parameters]
        for parameter, data in zip(parameters.values(), numbers, strict=True):
            parameter.data = data

    def freeze(self) -> Self:
        """A copy of the model with plain floats for parameters: the same code, floats out for floats in, no graph.

        A module or an activation of one's own takes part if it uses operators and rows of the table (`ops.exp(x)`),
        not the methods that only a Value has (`x.exp()`).

        >>> model = MLP(2, [3, 1])
        >>> model.freeze()([1.0, -2.0]) == model([1.0, -2.0]).data
        True
        """
        held = search(self, (Module,), places=False)
        return copy.deepcopy(self, {id(value): value.data for value in (*held.leaves, *held.results)})

    def architecture(self) -> dict[str, Any]:
        """What a saved model says of this module beside its parameters, as JSON has it.

        ValueError: an activation is a function that is no row of the table.
        """
        kind = type(self)
        if MODULES.get(kind.__name__) is not kind:
            return {"type": f"{kind.__module__}.{kind.__qualname__}"}
        return {"type": kind.__name__, **{name: _plain(getattr(self, name)) for name in self._arguments}}

    def save(self, path: files.Path) -> None:
        """Write architecture, names and parameters, to the last bit, to a JSON file; whole or not at all.

        ValueError: an activation is a function that is no row of the table, there are no parameters, or modules are
        nested to more than 100 levels. OSError: it cannot be written; what stood at the path stays.
        """
        state = self.state_dict()
        if not state:
            name = type(self).__name__
            raise ValueError(f"{name} has no parameters to save; where it is frozen, save the model it was frozen from")
        try:
            architecture = self.architecture()
        except RecursionError:
            raise ValueError(f"{path}: modules within modules to so many levels cannot be saved") from None
        content = {"format": FORMAT, "version": VERSION, "architecture": architecture, "parameters": state}
        if isinstance(self.names, Names):
            features, classes, target = self.names
            content["names"] = {"features": list(features), "classes": list(classes), "target": target}
        files.write_json(path, content)

    def load(self, path: files.Path) -> None:
        """Set the parameters, and the names where there are some, from a file that `save` of such a model wrote.

        ValueError: the file is damaged, or holds another architecture. Then nothing is changed.
        """
        content = _read(path)
        if content["architecture"] != self.architecture():
            raise ValueError(
                f"{path}: holds {_shown(content['architecture'])}, but this model is {_shown(self.architecture())}"
            )
        _fill(self, content["parameters"], f"{path}: parameters")
        self.names = content["names"] or self.names

    def _label(self) -> None:
        """Label the parameters with their names, for pictures and messages."""
        for name, parameter in self.named_parameters():
            parameter.label = name


class Neuron(Module):
    """activation(w1 x1 + ... + wn xn + b), or without the activation where `nonlin` is False.

    `nin` inputs; `activation` the name of a row of the table (`"relu"`, `"tanh"`), any function of one number, or
    None; `init` a name in `INITS` or a function (fan_in, fan_out, rng) -> weight; `rng` the source of randomness, by
    default, as in micrograd, the functions of the module `random`; `fan_out` for `init`, the units of the layer.

    >>> neuron = Neuron(2, activation="tanh")
    >>> neuron.w[0].data, neuron.w[1].data, neuron.b.data = -3.0, 1.0, 6.8813735870195432
    >>> round(neuron([2.0, 0.0]).data, 6)
    0.707107
    """

    _arguments = ("nin", "nonlin", "activation")

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        *,
        activation: Activation = "relu",
        init: Init = "micrograd",
        rng: random.Random | None = None,
        fan_out: int = 1,
    ) -> None:
        self.nin = _count(nin, "inputs")
        draw = init if callable(init) else _named(INITS, init, "init")
        source = random if rng is None else checked_rng(rng)
        self.w: list[Value] = [Value(draw(nin, fan_out, source)) for _ in range(nin)]
        self.b: Value = Value(0.0)
        self.nonlin = bool(nonlin)
        self.activation = _activation(activation)
        self._label()

    if TYPE_CHECKING:

        def freeze(self) -> Frozen: ...  # type: ignore[override]

    def __call__(self, x: Row) -> Value:
        """The neuron's output, for a sequence of `nin` numbers; ValueError: there are more or fewer."""
        if len(x) != len(self.w):
            raise ValueError(f"{self!r} takes {len(self.w)} inputs, not {len(x)}")
        total: Any = net_input(self.w, x, self.b)
        out: Value = _activate(self.activation, total) if self.nonlin else total
        return out

    def __repr__(self) -> str:
        phi = self.activation if self.nonlin else None
        name = phi if isinstance(phi, str) else phi.name if isinstance(phi, ops.Op) else getattr(phi, "__name__", "")
        kind = {"": "Linear" if phi is None else "Own", "relu": "ReLU"}.get(name, name.capitalize())
        return f"{kind}Neuron({self.nin})"


class Feedforward(Module):
    """A module from numbers to a list of numbers; called, it gives a single output as it is, not as a list of one."""

    if TYPE_CHECKING:

        def freeze(self) -> Frozen: ...  # type: ignore[override]

    def forward(self, x: Row) -> list[Value]:
        """The outputs, always as a list."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward(x)")

    def __call__(self, x: Row) -> Output:
        """The outputs: a list, or, as in micrograd, the output where there is but one."""
        outputs: Any = self.forward(x)
        out: Output = outputs[0] if len(outputs) == 1 else outputs
        return out


class Layer(Feedforward):
    """`nout` neurons of `nin` inputs each; the other arguments are `Neuron`'s.

    >>> len(Layer(2, 3)([1.0, 2.0]))
    3
    """

    _arguments = ("nin", "nout", "nonlin", "activation")

    def __init__(
        self,
        nin: int,
        nout: int,
        nonlin: bool = True,
        *,
        activation: Activation = "relu",
        init: Init = "micrograd",
        rng: random.Random | None = None,
    ) -> None:
        self.nin, self.nout = _count(nin, "inputs"), _count(nout, "neurons")
        self.nonlin, self.activation = bool(nonlin), _activation(activation)
        self.neurons: list[Neuron] = [
            Neuron(nin, nonlin, activation=activation, init=init, rng=rng, fan_out=nout) for _ in range(nout)
        ]
        self._label()

    def forward(self, x: Row) -> list[Value]:
        """The outputs of the neurons, for a sequence of `nin` numbers; ValueError: there are more or fewer."""
        return layer_outputs(Neuron, self.neurons, x)

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(repr, self.neurons))}]"


class MLP(Feedforward):
    """A multi-layer perceptron: `nin` inputs, then layers of `nouts` neurons.

    `activation` is that of the hidden layers, `output_activation` that of the last (by default none: the last layer
    is linear, its outputs logits where the task is classification); the other arguments are `Neuron`'s.

    >>> len(MLP(3, [4, 4, 1]).parameters())
    41
    """

    _arguments = ("nin", "nouts", "activation", "output_activation")

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        *,
        activation: Activation = "relu",
        output_activation: Activation = None,
        init: Init = "micrograd",
        rng: random.Random | None = None,
    ) -> None:
        if not isinstance(nouts, Sequence) or isinstance(nouts, str):
            raise TypeError(
                f"MLP takes a list of layers' sizes: MLP({nin!r}, [{nouts!r}]), not MLP({nin!r}, {nouts!r})"
            )
        self.nin, self.nouts = _count(nin, "inputs"), [_count(nout, "neurons") for nout in nouts]
        self.activation, self.output_activation = _activation(activation), _activation(output_activation)
        sizes = [self.nin, *self.nouts]
        activations = [activation] * (len(nouts) - 1) + [output_activation]
        self.layers: list[Layer] = [
            Layer(fan_in, fan_out, phi is not None, activation=phi, init=init, rng=rng)
            for fan_in, fan_out, phi in zip(sizes, sizes[1:], activations)
        ]
        self._label()

    def forward(self, x: Row) -> list[Value]:
        """The outputs of the last layer, for a sequence of `nin` numbers; ValueError: there are more or fewer."""
        out = list(x)
        for layer in self.layers:
            out = layer.forward(out)
        return out

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


class Sequential(Feedforward):
    """Parts one after the other: modules with `forward`, or any functions from a list of numbers to a list of numbers.

    >>> model = Sequential(Standardize([1.0, 2.0], [0.5, 0.5]), Layer(2, 3), Layer(3, 1, nonlin=False))
    >>> model([1.0, 2.0])
    Value(data=0.0, grad=0.0)
    """

    _arguments = ("parts",)

    def __init__(self, *parts: Callable[[Any], Any]) -> None:
        for part in parts:
            if not callable(part):
                raise TypeError(f"a part of Sequential is a module or a function, not {part!r}")
        self.parts = parts
        self._label()

    def forward(self, x: Row) -> list[Value]:
        """The outputs of the last part."""
        numbers: list[Any] = list(x)
        for part in self.parts:
            out = part.forward(numbers) if isinstance(part, Feedforward) else part(numbers)
            numbers = list(out) if isinstance(out, list | tuple) else [out]
        return numbers

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.parts))})"


class Standardize(Feedforward):
    """(x - mean) / scale for each input, with fixed numbers: a model that begins with it takes raw measurements.

    ValueError: the lists differ in length, a number is not finite, or a scale is 0.

    >>> Standardize([5.0, 3.0], [2.0, 0.5])([6.0, 2.0])
    [0.5, -2.0]
    """

    _arguments = ("means", "scales")

    def __init__(self, means: Sequence[float], scales: Sequence[float]) -> None:
        self.means = [ops.number(mean, "Standardize") for mean in means]
        self.scales = [ops.number(scale, "Standardize") for scale in scales]
        if len(self.means) != len(self.scales):
            raise ValueError(f"Standardize takes as many scales as means, not {len(self.scales)} and {len(self.means)}")
        if 0.0 in self.scales or not all(map(math.isfinite, self.means + self.scales)):
            raise ValueError("Standardize takes finite means, and finite scales other than 0")

    if TYPE_CHECKING:

        def __call__(self, x: Row) -> Any: ...

    def forward(self, x: Row) -> list[Any]:
        """The standardised inputs; ValueError: there are more or fewer of them than means."""
        if len(x) != len(self.means):
            raise ValueError(f"{self!r} takes {len(self.means)} inputs, not {len(x)}")
        return [(xi - mean) / scale for xi, mean, scale in zip(x, self.means, self.scales)]

    def inverse(self) -> Standardize:
        """The module that undoes this one, to rounding: numbers of mean 0 and deviation 1 in their unit again.

        >>> Standardize([5.0], [2.0]).inverse()([0.5])
        6.0
        """
        return Standardize(
            [-mean / scale for mean, scale in zip(self.means, self.scales)], [1 / x for x in self.scales]
        )

    def __repr__(self) -> str:
        return f"Standardize({self.means}, {self.scales})"


class Cell(Module):
    """A recurrent cell of `nin` inputs and `nhidden` hidden units, called as cell(x, state) at every step of time.

    Unrolling is a loop, and backpropagation through time is `backward` on what the loop recorded. `state` is left out
    (None) at the first step, and stands for zeros. `init` and `rng` are `Neuron`'s.
    """

    _arguments: ClassVar[tuple[str, ...]] = ("nin", "nhidden")

    def __init__(self, nin: int, nhidden: int) -> None:
        self.nin, self.nhidden = _count(nin, "inputs"), _count(nhidden, "hidden units")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nin}, {self.nhidden})"


class RNNCell(Cell):
    """Elman's recurrent unit: state' = activation(W [x, state] + b); the state is also the output.

    >>> cell, state = RNNCell(1, 4, rng=random.Random(0)), None
    >>> for x in [1.0, 0.0, 1.0]:
    ...     state = cell([x], state)
    >>> len(state)
    4
    """

    _arguments = ("nin", "nhidden", "activation")

    def __init__(
        self,
        nin: int,
        nhidden: int,
        *,
        activation: Activation = "tanh",
        init: Init = "xavier_uniform",
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(nin, nhidden)
        self.activation = _activation(activation)
        self.layer = Layer(nin + nhidden, nhidden, activation=activation, init=init, rng=rng)
        self._label()

    def __call__(self, x: Row, state: Sequence[Operand] | None = None) -> list[Value]:
        """The next state, a list of `nhidden` numbers."""
        return self.layer.forward([*x, *(_zeros(self.nhidden) if state is None else state)])


class GRUCell(Cell):
    """The gated recurrent unit of Cho et al., 2014 (equations 5 to 8); the state is also the output.

    r = sigmoid(W_r [x, h] + b_r), z = sigmoid(W_z [x, h] + b_z), c = tanh(W_c [x, r h] + b_c), h' = z h + (1 - z) c.

    >>> cell = GRUCell(1, 4, rng=random.Random(0))
    >>> len(cell([1.0], cell([0.5])))
    4
    """

    def __init__(
        self, nin: int, nhidden: int, *, init: Init = "xavier_uniform", rng: random.Random | None = None
    ) -> None:
        super().__init__(nin, nhidden)
        self.reset = Layer(nin + nhidden, nhidden, activation="sigmoid", init=init, rng=rng)
        self.update = Layer(nin + nhidden, nhidden, activation="sigmoid", init=init, rng=rng)
        self.candidate = Layer(nin + nhidden, nhidden, activation="tanh", init=init, rng=rng)
        self._label()

    def __call__(self, x: Row, state: Sequence[Operand] | None = None) -> list[Value]:
        """The next state, a list of `nhidden` numbers."""
        h = _zeros(self.nhidden) if state is None else state
        both = [*x, *h]
        kept = [r * hi for r, hi in zip(self.reset.forward(both), h)]
        candidates = self.candidate.forward([*x, *kept])
        return [c + z * (hi - c) for z, hi, c in zip(self.update.forward(both), h, candidates)]


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with the forget gate of Gers et al., 2000.

    i, f, o = sigmoid(W [x, h] + b) each, g = tanh(W_g [x, h] + b_g); c' = f c + i g; h' = o tanh(c'). The forget
    gate's bias starts at 1 (Jozefowicz et al., 2015), so that gradients last from the start.

    >>> cell, state = LSTMCell(1, 4, rng=random.Random(0)), None
    >>> for x in [1.0, 0.0, 1.0]:
    ...     output, memory = state = cell([x], state)
    >>> len(output), len(memory)
    (4, 4)
    """

    def __init__(
        self, nin: int, nhidden: int, *, init: Init = "xavier_uniform", rng: random.Random | None = None
    ) -> None:
        super().__init__(nin, nhidden)
        self.input = Layer(nin + nhidden, nhidden, activation="sigmoid", init=init, rng=rng)
        self.forget = Layer(nin + nhidden, nhidden, activation="sigmoid", init=init, rng=rng)
        self.output = Layer(nin + nhidden, nhidden, activation="sigmoid", init=init, rng=rng)
        self.candidate = Layer(nin + nhidden, nhidden, activation="tanh", init=init, rng=rng)
        for neuron in self.forget.neurons:
            neuron.b.data = 1.0
        self._label()

    def __call__(
        self, x: Row, state: tuple[Sequence[Operand], Sequence[Operand]] | None = None
    ) -> tuple[list[Value], list[Value]]:
        """The next state: (output, memory), each a list of `nhidden` numbers."""
        h, c = (_zeros(self.nhidden), _zeros(self.nhidden)) if state is None else state
        if len(c) != self.nhidden:
            raise ValueError(f"{self!r} remembers {self.nhidden} numbers, not {len(c)}")
        both = [*x, *h]
        gates = (gate.forward(both) for gate in (self.forget, self.input, self.candidate))
        memory = [f * ci + i * g for ci, f, i, g in zip(c, *gates)]
        return [o * _activate("tanh", m) for o, m in zip(self.output.forward(both), memory)], memory


MODULES: dict[str, Any] = {
    kind.__name__: kind for kind in (Neuron, Layer, MLP, Sequential, Standardize, RNNCell, GRUCell, LSTMCell)
}


def inputs(model: Any) -> int | None:
    """How many numbers a row of a model's has; None where it does not say.

    >>> inputs(Sequential(Standardize([1.0, 2.0], [1.0, 1.0]), MLP(2, [1])))
    2
    """
    while isinstance(model, Sequential) and model.parts:
        model = model.parts[0]
    count = len(model.means) if isinstance(model, Standardize) else getattr(model, "nin", None)
    return count if isinstance(model, Neuron | Feedforward) and isinstance(count, int) else None


def load(path: files.Path) -> Any:
    """The model in a file that `Module.save` wrote, rebuilt from the architecture that the file names.

    ValueError: the file is damaged, or holds a module that is none of this library's; it names file and place. A file
    is read as data: nothing in it is run, and no more is built than it has numbers for.

    >>> import tempfile
    >>> model = MLP(2, [3, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.json")
    ...     again = load(f"{folder}/model.json")
    >>> again([1.0, 2.0]).data == model([1.0, 2.0]).data
    True
    """
    content = _read(path)
    numbers = iter(content["parameters"])

    def draw(fan_in: int, fan_out: int, rng: Any) -> float:
        if next(numbers, None) is None:
            raise ValueError("more weights than the file has parameters")
        return 0.0

    model = _build(content["architecture"], f"{path}: architecture", draw)
    _fill(model, content["parameters"], f"{path}: parameters")
    model.names = content["names"]
    return model


def _read(path: files.Path) -> dict[str, Any]:
    content = files.read_json(path, FORMAT, VERSION, ("architecture", "parameters"), ("names",))
    if not isinstance(content["parameters"], dict):
        raise ValueError(f"{path}: parameters: no object")
    names = content.setdefault("names", None)
    if names is not None:
        place = f"{path}: names"
        files.check_keys(names, Names._fields, place)
        features, classes = (files.several(names[key], f"{place}: {key}", files.text) for key in Names._fields[:2])
        content["names"] = Names(features, classes, files.text(names["target"], f"{place}: target"))
    return content


def _build(spec: Any, place: str, draw: Init) -> Module:
    """The module that an architecture describes, its weights from `draw`."""
    kind = MODULES.get(spec["type"]) if isinstance(spec, dict) and isinstance(spec.get("type"), str) else None
    if kind is None:
        raise ValueError(f"{place}: {_shown(spec)} is no module of this library; construct the model, then call .load")
    files.check_keys(spec, ("type", *kind._arguments), place)
    arguments = {name: spec[name] for name in kind._arguments}
    try:
        if kind is Sequential:
            parts = files.several(spec["parts"], f"{place}: parts", lambda part, place: _build(part, place, draw))
            return Sequential(*parts)
        return kind(**arguments) if kind is Standardize else kind(**arguments, init=draw)
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(place) else f"{place}: {text}") from None


def _fill(model: Module, state: dict[str, Any], place: str) -> None:
    """Set every parameter from a file's state, or none of them."""
    files.check_keys(state, dict(model.named_parameters()), place)
    model.load_state_dict({name: files.real(data, f"{place}: {name}") for name, data in state.items()})


def _shown(spec: Any) -> str:
    """An architecture, in brief: for messages."""
    if not isinstance(spec, dict):
        return "what it has"
    arguments = ", ".join(f"{name}={value!r}"[:80] for name, value in spec.items() if name != "type")
    return f"{str(spec.get('type'))[:80]}({arguments})"


def _plain(argument: Any) -> Any:
    """A constructor's argument as JSON has it."""
    if isinstance(argument, Module):
        return argument.architecture()
    if isinstance(argument, list | tuple):
        return [_plain(part) for part in argument]
    if callable(argument):
        raise ValueError(f"{argument!r} cannot be saved: a file holds rows of the table by name, and modules")
    return argument


def _count(x: Any, what: str) -> int:
    try:
        count = int(operator.index(x))
    except TypeError:
        raise TypeError(f"the number of {what} is a whole number, not {x!r} ({type(x).__name__})") from None
    if count < 1:
        raise ValueError(f"the number of {what} is 1 or more, not {count}")
    return count


def _named(table: dict[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{what} {name!r} is neither a function nor one of {', '.join(table)}")
    return table[name]


def _activation(activation: Activation) -> Activation:
    """An activation as modules keep it: a row of the table by name, another function as it is."""
    if isinstance(activation, ops.Op) and ops.TABLE.get(activation.name) is activation:
        activation = activation.name
    if activation is None or (not isinstance(activation, str) and callable(activation)):
        return activation
    row: ops.Op = _named(ACTIVATIONS, activation, "activation")
    return row.name


def _activate(activation: Activation, x: Operand) -> Any:
    """activation(x); on a Value by the method, which takes a third of the row's own time (0.6 and 2.2 us, relu)."""
    if not isinstance(activation, str):
        return x if activation is None else activation(x)
    return getattr(x, activation)() if isinstance(x, Value) else ops.TABLE[activation](x)


def _zeros(n: int) -> list[float]:
    return [0.0] * n

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

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from micrograd_bp import ops
from micrograd_bp._engine.modules import (
    ACTIVATIONS,
    INITS,
    MODULES,
    Activation,
    Feedforward,
    Init,
    Module,
    Names,
    activate,
    activation_of,
    count,
    load,
    named,
)
from micrograd_bp._engine.randomness import checked_rng
from micrograd_bp._engine.units import layer_outputs, net_input
from micrograd_bp.layers import (
    GELU,
    Dropout,
    Elementwise,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from micrograd_bp.losses import cross_entropy, log_softmax, softmax
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Frozen, Row, Scalar

__all__ = [
    "ACTIVATIONS",
    "GELU",
    "INITS",
    "MLP",
    "MODULES",
    "Activation",
    "Cell",
    "Dropout",
    "Embedding",
    "Feedforward",
    "Flatten",
    "GRUCell",
    "Init",
    "LSTMCell",
    "Layer",
    "LayerNorm",
    "Linear",
    "Module",
    "Names",
    "Neuron",
    "RNNCell",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Standardize",
    "Tanh",
    "Value",
    "cross_entropy",
    "inputs",
    "load",
    "log_softmax",
    "net_input",
    "softmax",
]


class Neuron(Module):
    """activation(w1 x1 + ... + wn xn + b), or without the activation where `nonlin` is False.

    Args:
        nin: How many inputs.
        nonlin: Whether there is an activation.
        activation: The name of a row of the table (`"relu"`, `"tanh"`), any function of one number, or None.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.
        fan_out: For `init`, the units of the layer.

    Raises:
        ValueError: There are no inputs, or no such activation or `init`.

    Example:
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
        self._set_up(nin, nonlin, activation, init, rng, fan_out)
        self._label()

    def _set_up(
        self, nin: int, nonlin: bool, activation: Activation, init: Init, rng: random.Random | None, fan_out: int
    ) -> None:
        """All of the constructor but the labels, which come from the outermost module only."""
        self.nin = count(nin, "inputs")
        draw = init if callable(init) else named(INITS, init, "init")
        source = random if rng is None else checked_rng(rng)
        self.w: list[Value] = [Value(draw(nin, fan_out, source)) for _ in range(nin)]
        self.b: Value = Value(0.0)
        self.nonlin = bool(nonlin)
        self.activation = activation_of(activation)

    if TYPE_CHECKING:

        def freeze(self) -> Frozen: ...  # type: ignore[override]

    def __call__(self, x: Row) -> Value:
        """The neuron's output, for a sequence x of `nin` numbers; ValueError: there are more or fewer."""
        if len(x) != len(self.w):
            raise ValueError(f"{self!r} takes {len(self.w)} inputs, not {len(x)}")
        total: Any = net_input(self.w, x, self.b)
        out: Value = activate(self.activation, total) if self.nonlin else total
        return out

    def __repr__(self) -> str:
        phi = self.activation if self.nonlin else None
        name = phi if isinstance(phi, str) else phi.name if isinstance(phi, ops.Op) else getattr(phi, "__name__", "")
        kind = {"": "Linear" if phi is None else "Own", "relu": "ReLU"}.get(name, name.capitalize())
        return f"{kind}Neuron({self.nin})"


class Layer(Feedforward):
    """Neurons beside each other, all with the same inputs.

    Args:
        nin: How many inputs.
        nout: How many neurons.
        nonlin: Whether there is an activation.
        activation: The name of a row of the table (`"relu"`, `"tanh"`), any function of one number, or None.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.

    Raises:
        ValueError: As for `Neuron`.

    Example:
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
        self._set_up(nin, nout, nonlin, activation, init, rng)
        self._label()

    def _set_up(
        self, nin: int, nout: int, nonlin: bool, activation: Activation, init: Init, rng: random.Random | None
    ) -> None:
        """All of the constructor but the labels, which come from the outermost module only."""
        self.nin, self.nout = count(nin, "inputs"), count(nout, "neurons")
        self.nonlin, self.activation = bool(nonlin), activation_of(activation)
        self.neurons: list[Neuron] = []
        for _ in range(nout):
            neuron = Neuron.__new__(Neuron)
            neuron._set_up(nin, nonlin, activation, init, rng, nout)
            self.neurons.append(neuron)

    def forward(self, x: Row) -> list[Value]:
        """The outputs of the neurons, for a sequence x of `nin` numbers; ValueError: there are more or fewer."""
        return layer_outputs(Neuron, self.neurons, x)

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(repr, self.neurons))}]"


class MLP(Feedforward):
    """A multi-layer perceptron: layers of neurons one after the other.

    Args:
        nin: How many inputs.
        nouts: How many neurons in each layer.
        activation: That of the hidden layers, as for `Neuron`.
        output_activation: That of the last; by default none: the last layer is linear, its outputs logits where the
            task is classification.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.

    Raises:
        ValueError: As for `Neuron`.
        TypeError: The sizes are no list.

    Example:
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
        self.nin, self.nouts = count(nin, "inputs"), [count(nout, "neurons") for nout in nouts]
        self.activation, self.output_activation = activation_of(activation), activation_of(output_activation)
        sizes = [self.nin, *self.nouts]
        activations = [activation] * (len(nouts) - 1) + [output_activation]
        self.layers: list[Layer] = []
        for fan_in, fan_out, phi in zip(sizes, sizes[1:], activations):
            layer = Layer.__new__(Layer)
            layer._set_up(fan_in, fan_out, phi is not None, phi, init, rng)
            self.layers.append(layer)
        self._label()

    def forward(self, x: Row) -> list[Value]:
        """The outputs of the last layer, for a sequence x of `nin` numbers; ValueError: there are more or fewer."""
        out = list(x)
        for layer in self.layers:
            out = layer.forward(out)
        return out

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


class Sequential(Feedforward):
    """Parts one after the other: modules with `forward`, or any functions from a list of numbers to a list of numbers.

    Args:
        *parts: The first gets the inputs, each other the outputs of the one before.

    Raises:
        TypeError: A part cannot be called.

    Example:
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
        """The outputs of the last part, for the numbers x."""
        numbers: list[Any] = list(x)
        for part in self.parts:
            out = part.forward(numbers) if isinstance(part, Feedforward) else part(numbers)
            numbers = list(out) if isinstance(out, list | tuple) else [out]
        return numbers

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.parts))})"


class Standardize(Feedforward):
    """(x - mean) / scale for each input, with fixed numbers: a model that begins with it takes raw measurements.

    Args:
        means: A number for each input.
        scales: Likewise; none is 0.

    Raises:
        ValueError: The lists differ in length, a number is not finite, or a scale is 0.

    Example:
        >>> Standardize([5.0, 3.0], [2.0, 0.5])([6.0, 2.0])
        [0.5, -2.0]
    """

    _arguments = ("means", "scales")
    _drawn = False

    def __init__(self, means: Sequence[float], scales: Sequence[float]) -> None:
        self.means = [ops.number(mean, "Standardize") for mean in means]
        self.scales = [ops.number(scale, "Standardize") for scale in scales]
        if len(self.means) != len(self.scales):
            raise ValueError(f"Standardize takes as many scales as means, not {len(self.scales)} and {len(self.means)}")
        if 0.0 in self.scales or not all(map(math.isfinite, self.means + self.scales)):
            raise ValueError("Standardize takes finite means, and finite scales other than 0")
        self.nin = self.nout = len(self.means)

    if TYPE_CHECKING:

        def __call__(self, x: Row) -> Any: ...

    def forward(self, x: Row) -> list[Any]:
        """The standardised numbers x; ValueError: there are more or fewer of them than means."""
        if len(x) != len(self.means):
            raise ValueError(f"{self!r} takes {len(self.means)} inputs, not {len(x)}")
        return [(xi - mean) / scale for xi, mean, scale in zip(x, self.means, self.scales)]

    def inverse(self) -> Standardize:
        """The module that undoes this one, to rounding: it turns standardised numbers back into their unit.

        >>> Standardize([5.0], [2.0]).inverse()([0.5])
        6.0
        """
        return Standardize(
            [-mean / scale for mean, scale in zip(self.means, self.scales)], [1 / x for x in self.scales]
        )

    def __repr__(self) -> str:
        return f"Standardize({self.means}, {self.scales})"


class Cell(Module):
    """A recurrent cell, called as cell(x, state) at every step of time.

    Unrolling is a loop, and backpropagation through time is `backward` on what the loop recorded. `state` is left out
    (None) at the first step, and stands for zeros.

    Args:
        nin: How many inputs.
        nhidden: How many hidden units.

    Raises:
        ValueError: One of them is less than 1.

    Example:
        >>> isinstance(GRUCell(1, 4), Cell)
        True
    """

    _arguments: ClassVar[tuple[str, ...]] = ("nin", "nhidden")

    def __init__(self, nin: int, nhidden: int) -> None:
        self.nin, self.nhidden = count(nin, "inputs"), count(nhidden, "hidden units")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nin}, {self.nhidden})"


class RNNCell(Cell):
    """Elman's recurrent unit: state' = activation(W [x, state] + b); the state is also the output.

    Args:
        nin: How many inputs.
        nhidden: How many hidden units.
        activation: The name of a row of the table (`"relu"`, `"tanh"`), any function of one number, or None.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.

    Raises:
        ValueError: As for `Neuron`.

    Source:
        Elman, Finding structure in time, Cognitive Science 14, 1990.

    Example:
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
        self.activation = activation_of(activation)
        self.layer = Layer(nin + nhidden, nhidden, activation=activation, init=init, rng=rng)
        self._label()

    def __call__(self, x: Row, state: Sequence[Scalar] | None = None) -> list[Value]:
        """The next state, a list of `nhidden` numbers, from the inputs x and the state before."""
        return self.layer.forward([*x, *(_zeros(self.nhidden) if state is None else state)])


class GRUCell(Cell):
    """The gated recurrent unit; the state is also the output.

    r = sigmoid(W_r [x, h] + b_r), z = sigmoid(W_z [x, h] + b_z), c = tanh(W_c [x, r h] + b_c), h' = z h + (1 - z) c.

    Args:
        nin: How many inputs.
        nhidden: How many hidden units.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.

    Raises:
        ValueError: As for `Neuron`.

    Source:
        Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, equations 5 to 8.

    Example:
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

    def __call__(self, x: Row, state: Sequence[Scalar] | None = None) -> list[Value]:
        """The next state, a list of `nhidden` numbers, from the inputs x and the state before."""
        h = _zeros(self.nhidden) if state is None else state
        both = [*x, *h]
        kept = [r * hi for r, hi in zip(self.reset.forward(both), h)]
        candidates = self.candidate.forward([*x, *kept])
        return [c + z * (hi - c) for z, hi, c in zip(self.update.forward(both), h, candidates)]


class LSTMCell(Cell):
    """Long short-term memory, with a forget gate.

    i, f, o = sigmoid(W [x, h] + b) each, g = tanh(W_g [x, h] + b_g); c' = f c + i g; h' = o tanh(c'). The forget gate's
    bias starts at 1, so that gradients last from the start.

    Args:
        nin: How many inputs.
        nhidden: How many hidden units.
        init: A name in `INITS` or a function (fan_in, fan_out, rng) -> weight.
        rng: The source of randomness; by default, as in micrograd, the functions of the module `random`.

    Raises:
        ValueError: As for `Neuron`.

    Source:
        Hochreiter and Schmidhuber, 1997; the forget gate of Gers et al., 2000; its bias of Jozefowicz et al., 2015.

    Example:
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
        self, x: Row, state: tuple[Sequence[Scalar], Sequence[Scalar]] | None = None
    ) -> tuple[list[Value], list[Value]]:
        """The next state, (output, memory), each a list of `nhidden` numbers, from inputs x and the last state."""
        h, c = (_zeros(self.nhidden), _zeros(self.nhidden)) if state is None else state
        if len(c) != self.nhidden:
            raise ValueError(f"{self!r} remembers {self.nhidden} numbers, not {len(c)}")
        both = [*x, *h]
        gates = (gate.forward(both) for gate in (self.forget, self.input, self.candidate))
        memory = [f * ci + i * g for ci, f, i, g in zip(c, *gates)]
        return [o * activate("tanh", m) for o, m in zip(self.output.forward(both), memory)], memory


def inputs(model: Any) -> int | None:
    """The number of a model's inputs.

    Args:
        model: A module.

    Returns:
        The number; None where the model does not say, or takes something else than a row of numbers.

    Example:
        >>> inputs(Sequential(Standardize([1.0, 2.0], [1.0, 1.0]), MLP(2, [1])))
        2
    """
    if isinstance(model, Sequential):
        part = next((part for part in model.parts if not isinstance(part, Elementwise)), None)
        return inputs(part)
    size = getattr(model, "nin", None)
    return size if isinstance(model, Neuron | Feedforward) and isinstance(size, int) else None


def _zeros(n: int) -> list[float]:
    return [0.0] * n


MODULES |= {kind.__name__: kind for kind in (Neuron, Layer, MLP, Sequential, Standardize, RNNCell, GRUCell, LSTMCell)}

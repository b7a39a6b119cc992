"""The class Module: a part of a model, whose parameters are named, saved, loaded, frozen and trained."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

from micrograd_bp import ops
from micrograd_bp._engine import files
from micrograd_bp._engine.parameters import exact, search
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Frozen, Output, Row, Scalar

Activation: TypeAlias = str | Callable[[Any], Any] | None
Init: TypeAlias = str | Callable[[int, int, Any], float]

FORMAT, VERSION = "micrograd_bp model", 1

# (number of inputs, number of units, source of randomness) -> a weight; every bias starts at 0.
INITS: dict[str, Callable[[int, int, Any], float]] = {
    "micrograd": lambda fan_in, fan_out, rng: rng.uniform(-1, 1),
    # Glorot and Bengio, 2010: keeps the variance of activations and adjoints through tanh layers.
    "xavier_uniform": lambda fan_in, fan_out, rng: rng.uniform(-1, 1) * math.sqrt(6 / (fan_in + fan_out)),
    "xavier_normal": lambda fan_in, fan_out, rng: rng.gauss(0, 1) * math.sqrt(2 / (fan_in + fan_out)),
    "pytorch": lambda fan_in, fan_out, rng: rng.uniform(-1, 1) / math.sqrt(fan_in),
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
    """Names for a model's inputs and outputs: the attribute `names`, which is saved and loaded with the model.

    Args:
        features: A name for each input.
        classes: A name for each class; none where the outputs are quantities.
        target: What is predicted.

    Example:
        >>> from micrograd_bp import datasets, nn
        >>> data, model = datasets.iris(), nn.MLP(4, [8, 3])
        >>> model.names = Names(data.features, data.classes, "species")
    """

    features: Sequence[str]
    classes: Sequence[str] = ()  # none where the outputs are quantities
    target: str = ""


class Module:
    """A part of a model; its parameters are the Values among its attributes, and in what these hold.

    So are those in lists, tuples, dicts, deques, NumPy arrays and other objects, however nested. A Value that has an
    operation, an output that is kept, is none. TypeError of all methods: a Value stands where it has no place of its
    own, in a set or a function's closure, say, so that it would be missed.

    A module of one's own sets its parts in `__init__` and says in `__call__` or in `forward` what it computes.

    Example:
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
    training: bool = True  # whether Dropout drops
    _arguments: ClassVar[tuple[str, ...]] = ()  # arguments of the constructor that a saved model consists of
    _drawn: ClassVar[bool] = True  # whether the constructor takes `init`

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
        """What the module computes of `*args` and `**kwargs`: by default what its method `forward` does."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a module of one's own computes of `*args` and `**kwargs`, where it does not define `__call__`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward(x)")

    def modules(self) -> Iterator[tuple[str, Module]]:
        """The module itself, under the name "", and every module in it by its path, each once.

        Example:
            >>> from micrograd_bp import nn
            >>> [name for name, part in nn.MLP(2, [3, 1]).modules() if isinstance(part, nn.Layer)]
            ['layers[0]', 'layers[1]']
        """
        yield from _modules(self)

    def train(self, mode: bool = True) -> Self:
        """Put the module and all in it into training, where `Dropout` drops, or (mode False) into evaluation.

        `training.fit` does so while it trains, and puts the model back as it was.
        """
        set_training(self, mode)
        return self

    def eval(self) -> Self:
        """Put the module and all in it into evaluation, where `Dropout` does nothing."""
        set_training(self, False)
        return self

    def summary(self) -> str:
        """The parts of the model, how many numbers go in and out of each, and how many parameters it has, as a table.

        Example:
            >>> from micrograd_bp import nn
            >>> print(nn.MLP(2, [3, 1]).summary())
            part       module       in  out  parameters
            layers[0]  Layer: relu   2    3           9
            layers[1]  Layer         3    1           4
                       MLP           2    1          13
        """
        rows: list[tuple[str, ...]] = [("part", "module", "in", "out", "parameters")]
        parts = [(name, part) for name, part in _modules(self) if name]
        shown = [(name, part) for name, part in parts if not any(name.startswith(f"{of}") for of in _units(parts))]
        for name, part in [*shown, ("", self)]:
            activation = getattr(part, "activation", None) if getattr(part, "nonlin", True) else None
            kind = type(part).__name__ + (
                f": {activation}" if isinstance(activation, str) and hasattr(part, "nin") and name else ""
            )
            sizes = [str(size) if isinstance(size, int) else "" for size in _sizes(part)]
            rows.append((name, kind, *sizes, f"{len(part.parameters()):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}".rstrip()
            for a, b, c, d, e in rows
        )

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def state_dict(self) -> dict[str, float]:
        """The data of every parameter, by name."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Set the data of every parameter from the `state` that `state_dict` gave.

        ValueError: names are missing or unknown. TypeError: an entry is no real number. Then nothing is changed.

        >>> from micrograd_bp import nn
        >>> model, other = nn.Neuron(2), nn.Neuron(2)
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

        It is in evaluation, so that `Dropout` does nothing.

        A module or an activation of one's own takes part if it uses operators and rows of the table (`ops.exp(x)`),
        not the methods that only a Value has (`x.exp()`).

        >>> from micrograd_bp import nn
        >>> model = nn.MLP(2, [3, 1])
        >>> model.freeze()([1.0, -2.0]) == model([1.0, -2.0]).data
        True
        """
        held = search(self, (Module,), places=False)
        frozen = copy.deepcopy(self, {id(value): value.data for value in (*held.leaves, *held.results)})
        set_training(frozen, False)
        return frozen

    def architecture(self) -> dict[str, Any]:
        """What a saved model says of this module beside its parameters, as JSON has it.

        ValueError: an activation is a function that is no row of the table.
        """
        kind = type(self)
        if MODULES.get(kind.__name__) is not kind:
            return {"type": f"{kind.__module__}.{kind.__qualname__}"}
        return {"type": kind.__name__, **{name: _plain(x) for name, x in self._settings().items()}}

    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments that say what a saved model is."""
        return {name: getattr(self, name) for name in self._arguments}

    def save(self, path: files.StrPath) -> None:
        """Write architecture, names and parameters, to the last bit, to the JSON file `path`; whole or not at all.

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

    def load(self, path: files.StrPath) -> None:
        """Set the parameters, and the names if any, from the file `path` that `save` of such a model wrote.

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


class Feedforward(Module):
    """A module from numbers to a list of numbers; called, it gives a single output as it is, not as a list of one.

    Example:
        >>> class Doubled(Feedforward):
        ...     def forward(self, x):
        ...         return [2.0 * xi for xi in x]
        >>> Doubled()([1.0, 2.0]), Doubled()([3.0])
        ([2.0, 4.0], 6.0)
    """

    if TYPE_CHECKING:

        def freeze(self) -> Frozen: ...  # type: ignore[override]

    def forward(self, x: Row) -> list[Value]:
        """The outputs for the numbers x, always as a list."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward(x)")

    def __call__(self, x: Row) -> Output:
        """The outputs for the numbers x: a list, or, as in micrograd, the output where there is but one."""
        outputs: Any = self.forward(x)
        out: Output = outputs[0] if len(outputs) == 1 else outputs
        return out


MODULES: dict[str, Any] = {}  # by name: those of this library, which a file may name


def load(path: files.StrPath) -> Any:
    """The model in a file that `Module.save` wrote, rebuilt from the architecture that the file names.

    A file is read as data: nothing in it is run, and no more is built than it has numbers for.

    Args:
        path: The file.

    Returns:
        The model, with its names.

    Raises:
        ValueError: The file is damaged, or holds a module that is none of this library's; it names file and place.
        OSError: It cannot be read.

    Example:
        >>> import tempfile
        >>> from micrograd_bp import nn
        >>> model = nn.MLP(2, [3, 1])
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


def _read(path: files.StrPath) -> dict[str, Any]:
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
        if kind._arguments == ("parts",):
            parts = files.several(spec["parts"], f"{place}: parts", lambda part, place: _build(part, place, draw))
            built: Module = kind(*parts)
        else:
            built = kind(**arguments, init=draw) if kind._drawn else kind(**arguments)
        return built
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        raise ValueError(text if text.startswith(place) else f"{place}: {text}") from None


def _fill(model: Module, state: dict[str, Any], place: str) -> None:
    """Set every parameter from a file's state, or none of them."""
    files.check_keys(state, dict(model.named_parameters()), place)
    model.load_state_dict({name: files.real(data, f"{place}: {name}") for name, data in state.items()})


def _modules(model: Module) -> Iterator[tuple[str, Module]]:
    """`Module.modules`, also for a model whose attribute of that name is something else."""
    yield "", model
    for place, key, part in search(model, (Module,)).parts:
        if isinstance(part, Module) and part is not model:
            yield exact(place, key), part


def set_training(model: Module, mode: bool) -> None:
    """`Module.train`, also for a model whose attribute of that name is something else."""
    for _, part in list(_modules(model)):
        part.training = mode


@contextmanager
def in_mode(model: Any, training: bool) -> Iterator[None]:
    """A context with the model in training or evaluation mode; afterwards every part has its former mode."""
    parts = [part for _, part in _modules(model)] if isinstance(model, Module) else []
    before = [part.training for part in parts]
    try:
        for part in parts:
            part.training = training
        yield
    finally:
        for part, mode in zip(parts, before):
            part.training = mode


def _units(parts: list[tuple[str, Module]]) -> list[str]:
    """The parts that a summary does not list by themselves: the neurons of a layer."""
    return [f"{name}." for name, part in parts if type(part).__name__ in ("Layer", "Neuron")]


def _sizes(part: Any) -> tuple[Any, Any]:
    """The numbers of inputs and outputs of a module; None if it does not declare them."""
    outputs = getattr(part, "nouts", None) or [getattr(part, "nout", None)]
    return getattr(part, "nin", None), outputs[-1]


def _shown(spec: Any) -> str:
    """A short text of an architecture, for messages."""
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


def count(x: Any, what: str) -> int:
    try:
        count = int(operator.index(x))
    except TypeError:
        raise TypeError(f"the number of {what} is a whole number, not {x!r} ({type(x).__name__})") from None
    if count < 1:
        raise ValueError(f"the number of {what} is 1 or more, not {count}")
    return count


def named(table: dict[str, Any], name: Any, what: str) -> Any:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{what} {name!r} is neither a function nor one of {', '.join(table)}")
    return table[name]


def activation_of(activation: Activation) -> Activation:
    """An activation as modules keep it: a row of the table by name, another function as it is."""
    if isinstance(activation, ops.Op) and ops.TABLE.get(activation.name) is activation:
        activation = activation.name
    if activation is None or (not isinstance(activation, str) and callable(activation)):
        return activation
    row: ops.Op = named(ACTIVATIONS, activation, "activation")
    return row.name


def activate(activation: Activation, x: Scalar) -> Any:
    """activation(x); on a Value by the method, which takes a third of the row's own time (0.6 and 2.2 us, relu)."""
    if not isinstance(activation, str):
        return x if activation is None else activation(x)
    return getattr(x, activation)() if isinstance(x, Value) else ops.TABLE[activation](x)

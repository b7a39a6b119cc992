"""Layers under PyTorch's names, from lists of numbers to lists of numbers; `nn` shows them.

>>> import random
>>> from micrograd_bp import nn
>>> model = nn.Sequential(nn.Linear(3, 8, rng=random.Random(0)), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
>>> len(model([0.5, -1.0, 2.0]))
2
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

from micrograd_bp import ops
from micrograd_bp._engine.modules import (
    INITS,
    MODULES,
    Feedforward,
    Init,
    Module,
    activate,
    count,
    named,
)
from micrograd_bp._engine.randomness import checked_rng
from micrograd_bp._engine.units import net_input
from micrograd_bp.losses import softmax
from micrograd_bp.value import Value

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Row


class Linear(Feedforward):
    """W x + b: PyTorch's `nn.Linear`, with its names and its initialisation, all uniform in ±1/sqrt(nin).

    Args:
        nin: How many numbers come in.
        nout: How many go out.
        bias: Whether there is a b.
        init: A name in `nn.INITS` or a function (fan_in, fan_out, rng) -> number; of the bias as well.
        rng: Source of randomness; by default the functions of the module `random`.

    Raises:
        ValueError: A number is less than 1, or there is no such `init`.

    Example:
        >>> layer = Linear(2, 3, bias=False)
        >>> [name for name, _ in layer.named_parameters()][:3]
        ['weight.0.0', 'weight.0.1', 'weight.1.0']
    """

    _arguments = ("nin", "nout", "bias")

    def __init__(
        self, nin: int, nout: int, bias: bool = True, *, init: Init = "pytorch", rng: random.Random | None = None
    ) -> None:
        self.nin, self.nout = count(nin, "inputs"), count(nout, "outputs")
        draw = init if callable(init) else named(INITS, init, "init")
        source = random if rng is None else checked_rng(rng)
        self.weight = [[Value(draw(nin, nout, source)) for _ in range(nin)] for _ in range(nout)]
        self.bias = [Value(draw(nin, nout, source)) for _ in range(nout)] if bias else None
        self._label()

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "bias": self.bias is not None}

    def forward(self, x: Row) -> list[Any]:
        """The outputs, for a sequence x of `nin` numbers; ValueError: there are more or fewer."""
        _check(self, x, self.nin)
        if self.bias is None:
            return [net_input(row, x) for row in self.weight]
        return [net_input(row, x, b) for row, b in zip(self.weight, self.bias)]

    def __repr__(self) -> str:
        return f"Linear({self.nin}, {self.nout}{'' if self.bias is not None else ', bias=False'})"


class Elementwise(Feedforward):
    """A layer that gives as many numbers as it takes, whatever their number."""

    _drawn = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(getattr(self, name)) for name in self._arguments)})"


class Dropout(Elementwise):
    """In training each number is 0 with probability p, else it is divided by 1 - p; in evaluation nothing happens.

    `model.train()` and `model.eval()` say which it is; a new model is in training, a frozen one in evaluation, and
    `training.fit` sees to it by itself. Training a model that drops is not compiled, since every row has another mask.

    Args:
        p: The probability, 0 to 1.
        rng: Source of randomness; by default the functions of the module `random`. Where it is the one that `fit` gets,
            a run that is resumed ends as if it had not been broken off.

    Raises:
        ValueError: p is no probability.

    Source:
        Srivastava et al., Dropout, Journal of Machine Learning Research 15, 2014; scaled as PyTorch has it.

    Example:
        >>> layer = Dropout(0.5, rng=random.Random(1))
        >>> layer([1.0, 2.0, 3.0]), layer.eval()([1.0, 2.0, 3.0])
        ([0.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    """

    _arguments = ("p",)

    def __init__(self, p: float = 0.5, *, rng: random.Random | None = None) -> None:
        self.p = ops.number(p, "Dropout")
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"Dropout: p is a probability, 0 to 1, not {p!r}")
        self.rng: Any = None if rng is None else checked_rng(rng)

    def forward(self, x: Row) -> list[Any]:
        """The numbers x, some of them 0 in training."""
        if not self.training or self.p == 0.0:
            return list(x)
        draw, keep = (random if self.rng is None else self.rng).random, 1.0 - self.p
        return [xi / keep if draw() >= self.p else 0.0 for xi in x]


class LayerNorm(Feedforward):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the numbers that come in.

    Args:
        nin: How many numbers there are; a weight, at first 1, and a bias, at first 0, for each.
        eps: Added to the variance, the mean square of x - mean.
        init: A function (nin, nin, rng) -> weight; by default all are 1.

    Raises:
        ValueError: nin is less than 1, or eps is negative.

    Source:
        Ba, Kiros and Hinton, Layer normalization, 2016.

    Example:
        >>> [round(y.data, 4) for y in LayerNorm(3)([1.0, 2.0, 3.0])]
        [-1.2247, 0.0, 1.2247]
    """

    _arguments = ("nin", "eps")

    def __init__(self, nin: int, eps: float = 1e-5, *, init: Init | None = None) -> None:
        self.nin = self.nout = count(nin, "numbers")
        self.eps = ops.number(eps, "LayerNorm")
        if not self.eps >= 0.0:
            raise ValueError(f"LayerNorm: eps is 0 or more, not {eps!r}")
        self.weight = [Value(init(nin, nin, None) if callable(init) else 1.0) for _ in range(nin)]
        self.bias = [Value(0.0) for _ in range(nin)]
        self._label()

    def forward(self, x: Row) -> list[Any]:
        """The normalised numbers, for `nin` numbers x; ValueError: there are more or fewer."""
        _check(self, x, self.nin)
        mean = _sum(x) / len(x)
        centred = [xi - mean for xi in x]
        deviation = activate("sqrt", _sum([c * c for c in centred]) / len(x) + self.eps)
        return [c / deviation * w + b for c, w, b in zip(centred, self.weight, self.bias)]

    def __repr__(self) -> str:
        return f"LayerNorm({self.nin}, eps={self.eps})"


class Embedding(Module):
    """A list of parameters for each of some things: words, say. Called with a thing's number, it gives that list.

    A list of numbers gives a list of lists, in a `Sequential` to be made one list by `Flatten`. Which entry it is
    belongs to the path of a compiled function, as any branch does.

    Args:
        size: How many things there are, numbered from 0.
        dim: How many parameters each has, normal at first with deviation 1.
        init: A name in `nn.INITS` or a function (size, dim, rng) -> number.
        rng: Source of randomness; by default the functions of the module `random`.

    Raises:
        ValueError: A number is less than 1, or there is no such `init`.

    Example:
        >>> words = Embedding(10, 4, rng=random.Random(0))
        >>> words(3) is words.weight[3], len(words([3, 1, 3]))
        (True, 3)
    """

    _arguments = ("size", "dim")

    def __init__(self, size: int, dim: int, *, init: Init | None = None, rng: random.Random | None = None) -> None:
        self.size, self.dim = count(size, "things"), count(dim, "parameters of each")
        draw = _normal if init is None else init if callable(init) else named(INITS, init, "init")
        source = random if rng is None else checked_rng(rng)
        self.weight = [[Value(draw(size, dim, source)) for _ in range(dim)] for _ in range(size)]
        self._label()

    def forward(self, x: Any) -> Any:
        """The parameters of one thing x, or of each in a list; ValueError: there is no such thing."""
        if hasattr(x, "__len__"):
            return [self.weight[self._index(k)] for k in x]
        return self.weight[self._index(x)]

    def _index(self, x: Any) -> int:
        try:
            index = int(x)  # of a Value a guard, while a function is recorded
        except (ValueError, OverflowError):  # nan, inf
            index = -1
        if index != x or not 0 <= index < self.size:
            raise ValueError(f"{self!r} has the numbers 0 to {self.size - 1}, not {x!r}")
        return index

    def __repr__(self) -> str:
        return f"Embedding({self.size}, {self.dim})"


class Flatten(Elementwise):
    """Flattens nested lists of numbers, of any depth, into one list.

    Example:
        >>> Flatten()([[1.0, 2.0], [3.0, [4.0]]])
        [1.0, 2.0, 3.0, 4.0]
    """

    def forward(self, x: Any) -> list[Any]:
        """The numbers in x, in order."""
        return [number for part in x for number in (self.forward(part) if hasattr(part, "__len__") else [part])]


class Softmax(Elementwise):
    """The probabilities of logits: `losses.softmax`, as the last layer of a model that is not to give logits.

    Example:
        >>> Softmax()([0.0, 0.0])
        [0.5, 0.5]
    """

    def forward(self, x: Row) -> list[Any]:
        """The probabilities of logits x."""
        logits: Any = x
        probabilities: list[Any] = softmax(logits)
        return probabilities


class Activate(Elementwise):
    """A row of the table, applied to each number; `nn.Tanh`, `nn.ReLU` and so on are such layers."""

    activation: ClassVar[str] = "pos"

    def forward(self, x: Row) -> list[Any]:
        """The row's value at each number of x."""
        return [activate(self.activation, xi) for xi in x]


class ReLU(Activate):
    """max(x, 0) of each number.

    Example:
        >>> ReLU()([-1.0, 2.0])
        [0.0, 2.0]
    """

    activation = "relu"


class Tanh(Activate):
    """tanh(x) of each number.

    Example:
        >>> Tanh()([0.0, 1.0])
        [0.0, 0.7615941559557649]
    """

    activation = "tanh"


class Sigmoid(Activate):
    """1 / (1 + exp(-x)) of each number.

    Example:
        >>> Sigmoid()([0.0, 1000.0])
        [0.5, 1.0]
    """

    activation = "sigmoid"


class GELU(Activate):
    """x times the normal distribution function at x, of each number (Hendrycks and Gimpel, 2016).

    Example:
        >>> GELU()([0.0, 10.0])
        [0.0, 10.0]
    """

    activation = "gelu"


class SiLU(Activate):
    """x sigmoid(x) of each number.

    Example:
        >>> SiLU()([0.0, 100.0])
        [0.0, 100.0]
    """

    activation = "silu"


def _check(layer: Module, x: Any, size: int) -> None:
    if len(x) != size:
        raise ValueError(f"{layer!r} takes {size} inputs, not {len(x)}")


def _sum(terms: Any) -> Any:
    """The sum from left to right, without a node for a 0; sum() of floats would round otherwise than a graph does."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _normal(fan_in: int, fan_out: int, rng: Any) -> float:
    return float(rng.gauss(0.0, 1.0))


MODULES |= {
    kind.__name__: kind
    for kind in (Linear, Dropout, LayerNorm, Embedding, Flatten, Softmax, ReLU, Tanh, Sigmoid, GELU, SiLU)
}

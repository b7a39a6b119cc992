"""Optimisers, learning-rate schedules and gradient clipping; updates and names are PyTorch's.

>>> from micrograd_bp import Value
>>> x = Value(3.0)
>>> optimizer = SGD([x], lr=0.1, momentum=0.5)
>>> for _ in range(100):
...     optimizer.zero_grad()
...     (x * x).backward()
...     optimizer.step()
>>> abs(x.data) < 1e-10
True
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from micrograd_bp._engine import files
from micrograd_bp._engine.schedules import checked, cosine_decay, exponential_decay, linear_decay, step_decay, whole
from micrograd_bp.value import Value

Rate: TypeAlias = float | Callable[[int], float]  # or a schedule: number of updates made so far -> learning rate

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "Rate",
    "clip_grad_norm",
    "clip_grad_value",
    "cosine_decay",
    "exponential_decay",
    "lbfgs",
    "linear_decay",
    "step_decay",
]


class Optimizer:
    """The base class of optimisers: parameters, learning rate, the count of updates, and lists of floats as memory.

    Your own optimiser names its hyperparameters and memories, and defines `_update(rate)`.

    Args:
        parameters: The Values to update, leaves all.
        lr: The learning rate, or a schedule: a function from the number of updates made so far (0 at the first) to it.
        **hyperparameters: Numbers that become attributes.

    Raises:
        ValueError: There are no parameters, or one of them twice, or one is the result of an operation, which the
            next forward pass computes anew; or a hyperparameter is out of its bounds.
        TypeError: A parameter is no Value.

    Example:
        >>> class SignDescent(Optimizer):
        ...     def _update(self, rate):
        ...         for parameter in self.parameters:
        ...             parameter.data -= math.copysign(rate, parameter.grad)
        >>> x = Value(1.0)
        >>> (x * x).backward()
        >>> SignDescent([x], lr=0.25).step()
        >>> x.data
        0.75
    """

    _hyperparameters: ClassVar[tuple[str, ...]] = ()
    _memories: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parameters: Iterable[Value], lr: Rate, **hyperparameters: Any) -> None:
        self.parameters = list(parameters)
        name = type(self).__name__
        for parameter in self.parameters:
            if not isinstance(parameter, Value):
                raise TypeError(f"{name} updates Values, not {parameter!r}; pass model.parameters()")
            if parameter.op is not None:
                made = f"{parameter!r} is the result of {parameter.op.name}"
                raise ValueError(f"{name} updates leaves, but {made}; pass the Values that it is computed from")
        if not self.parameters:
            raise ValueError(f"{name} has no parameters to update (those of a frozen model are plain floats)")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            raise ValueError(f"{name}: a parameter is listed twice, and would be updated twice")
        self.lr = lr if callable(lr) else checked("lr", lr)
        for hyperparameter, value in hyperparameters.items():
            setattr(self, hyperparameter, checked(hyperparameter, value))
        self.steps = 0
        self.memory = {memory: [0.0] * len(self.parameters) for memory in self._memories}

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return self.lr(self.steps) if callable(self.lr) else self.lr

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0.

        Example:
            >>> x = Value(1.0)
            >>> (x * x).backward()
            >>> SGD([x]).zero_grad()
            >>> x.grad
            0.0
        """
        for parameter in self.parameters:
            parameter.grad = 0.0

    def step(self) -> None:
        """Update the data of every parameter from its grad.

        Example:
            >>> x = Value(1.0)
            >>> (x * x).backward()
            >>> SGD([x], lr=0.25).step()
            >>> x.data
            0.5
        """
        rate = self.rate
        self.steps += 1
        self._update(rate)

    def _update(self, rate: float) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say how it updates: define _update(rate)")

    def state_dict(self) -> dict[str, Any]:
        """Hyperparameters, count of updates and memory, in types that JSON can hold.

        Returns:
            A dict for `load_state_dict`; under "lr" it has None where that is a schedule.

        Example:
            >>> SGD([Value(1.0)], lr=0.1).state_dict()["lr"]
            0.1
        """
        settings = {name: getattr(self, name) for name in self._hyperparameters}
        return {
            "type": type(self).__name__,
            "lr": None if callable(self.lr) else self.lr,
            **settings,
            "steps": self.steps,
            "memory": {name: list(numbers) for name, numbers in self.memory.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state_dict` of an optimiser of the same type; a schedule stays as it was constructed.

        Args:
            state: What `state_dict` returned.

        Raises:
            ValueError: The state is of another type, of other parameters, or damaged. Then nothing is changed.

        Example:
            >>> x = Value(3.0)
            >>> optimizer, other = Adam([x], lr=0.1), Adam([x])
            >>> other.load_state_dict(optimizer.state_dict())
            >>> other.lr
            0.1
        """
        place = f"the state of {type(self).__name__}"
        files.check_keys(state, ("type", "lr", *self._hyperparameters, "steps", "memory"), place)
        if state["type"] != type(self).__name__:
            raise ValueError(f"{place}: it is a state of {state['type']!r}")
        if (state["lr"] is None) != callable(self.lr):
            raise ValueError(f"{place}: one has a schedule, and the other a constant lr")
        files.check_keys(state["memory"], self._memories, f"{place}: memory")
        memory = {
            name: files.several(numbers, f"{place}: {name}", count=len(self.parameters))
            for name, numbers in state["memory"].items()
        }
        steps = files.natural(state["steps"], f"{place}: steps")
        settings: dict[str, Any] = {name: checked(name, state[name]) for name in self._hyperparameters}
        settings["lr"] = self.lr if state["lr"] is None else checked("lr", state["lr"])
        vars(self).update(settings, steps=steps, memory=memory)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("lr", *self._hyperparameters))
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, dampening, Nesterov's momentum and weight decay as PyTorch has them.

    g = grad + weight_decay w; v = momentum v + (1 - dampening) g (at first v = g); w -= lr v, or with Nesterov
    w -= lr (g + momentum v).

    Args:
        parameters: The Values to update, leaves all.
        lr: The learning rate, or a schedule: a function from the number of updates made so far to it.
        momentum: How much of the velocity v is kept at each update, 0 for none.
        dampening: How much less of the gradient is added to v.
        weight_decay: A multiple of w that is added to the gradient.
        nesterov: Whether the gradient is taken as if v had been followed already.

    Raises:
        ValueError: Nesterov's momentum without momentum, or with dampening; or as in `Optimizer`.

    Source:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization and momentum in deep learning, 2013.

    Example:
        >>> x = Value(1.0)
        >>> optimizer = SGD([x], lr=0.1)
        >>> (x * x).backward()
        >>> optimizer.step()
        >>> round(x.data, 6)
        0.8
    """

    _hyperparameters = ("momentum", "dampening", "weight_decay", "nesterov")
    _memories = ("velocity",)
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: Rate = 0.001,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and (not momentum or dampening):
            raise ValueError("SGD: Nesterov's momentum takes a momentum, and no dampening")
        settings = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(parameters, lr, **settings)

    def _update(self, rate: float) -> None:
        momentum, decay, velocity = self.momentum, self.weight_decay, self.memory["velocity"]
        fresh = 1.0 if self.steps == 1 else 1.0 - self.dampening
        for i, parameter in enumerate(self.parameters):
            step = _decayed(parameter, decay)
            if momentum:
                velocity[i] = v = momentum * velocity[i] + fresh * step
                step = step + momentum * v if self.nesterov else v
            parameter.data -= rate * step


class Adam(Optimizer):
    """Adam: the running mean of the gradient over the root of the running mean of its squares, both unbiased.

    g = grad + weight_decay w; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    w -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Args:
        parameters: The Values to update, leaves all.
        lr: The learning rate, or a schedule: a function from the number of updates made so far to it.
        betas: How much of the two means is kept at each update: beta1 and beta2, each from 0 to less than 1.
        eps: Added to the root, so that nothing is divided by 0.
        weight_decay: A multiple of w that is added to the gradient.

    Raises:
        ValueError: As in `Optimizer`.

    Source:
        Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.

    Example:
        >>> x = Value(1.0)
        >>> optimizer = Adam([x], lr=0.1)
        >>> (x * x).backward()
        >>> optimizer.step()
        >>> round(x.data, 6)
        0.9
    """

    _hyperparameters = ("beta1", "beta2", "eps", "weight_decay")
    _memories = ("mean", "square")
    beta1: float
    beta2: float
    eps: float
    weight_decay: float

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay)

    def _update(self, rate: float) -> None:
        self._adapt(rate, self.weight_decay)

    def _adapt(self, rate: float, decay: float) -> None:
        beta1, beta2, eps = self.beta1, self.beta2, self.eps
        mean, square = self.memory["mean"], self.memory["square"]
        step = rate / (1.0 - beta1**self.steps)
        scale = math.sqrt(1.0 - beta2**self.steps)
        for i, parameter in enumerate(self.parameters):
            g = _decayed(parameter, decay)
            mean[i] = m = mean[i] + (1.0 - beta1) * (g - mean[i])
            square[i] = v = beta2 * square[i] + (1.0 - beta2) * g * g
            parameter.data -= step * m / (math.sqrt(v) / scale + eps)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: first w -= lr weight_decay w, then Adam's update without decay.

    Args:
        parameters: The Values to update, leaves all.
        lr: The learning rate, or a schedule: a function from the number of updates made so far to it.
        betas: How much of Adam's two means is kept at each update, each from 0 to less than 1.
        eps: Added to the root, so that nothing is divided by 0.
        weight_decay: The part of w, times the learning rate, that is subtracted from w.

    Raises:
        ValueError: As in `Optimizer`.

    Source:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2.

    Example:
        >>> x = Value(1.0)
        >>> optimizer = AdamW([x], lr=0.1, weight_decay=0.5)
        >>> (x * x).backward()
        >>> optimizer.step()
        >>> round(x.data, 6)
        0.85
    """

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: Rate = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _update(self, rate: float) -> None:
        keep = 1.0 - rate * self.weight_decay
        for parameter in self.parameters:
            parameter.data *= keep
        self._adapt(rate, 0.0)


class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of the running mean of its squares.

    g = grad + weight_decay w; s = alpha s + (1 - alpha) g^2; v = momentum v + g / (sqrt(s) + eps); w -= lr v.

    Args:
        parameters: The Values to update, leaves all.
        lr: The learning rate, or a schedule: a function from the number of updates made so far to it.
        alpha: How much of the mean of squares s is kept at each update, from 0 to less than 1.
        eps: Added to the root, so that nothing is divided by 0.
        weight_decay: A multiple of w that is added to the gradient.
        momentum: How much of the velocity v is kept at each update, 0 for none.
        centered: Whether the square of the running mean of g is subtracted from s.

    Raises:
        ValueError: As in `Optimizer`.

    Source:
        Hinton, Neural networks for machine learning, lecture 6e, 2012; centered: Graves, Generating sequences with
        recurrent neural networks, 2013.

    Example:
        >>> x = Value(1.0)
        >>> optimizer = RMSprop([x], lr=0.1, alpha=0.75)
        >>> (x * x).backward()
        >>> optimizer.step()
        >>> round(x.data, 6)
        0.8
    """

    _hyperparameters = ("alpha", "eps", "weight_decay", "momentum", "centered")
    _memories = ("square", "mean", "velocity")
    alpha: float
    eps: float
    weight_decay: float
    momentum: float
    centered: bool

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: Rate = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        settings = {
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(parameters, lr, **settings)

    def _update(self, rate: float) -> None:
        alpha, momentum, decay = self.alpha, self.momentum, self.weight_decay
        square, mean, velocity = self.memory["square"], self.memory["mean"], self.memory["velocity"]
        for i, parameter in enumerate(self.parameters):
            g = _decayed(parameter, decay)
            square[i] = s = alpha * square[i] + (1.0 - alpha) * g * g
            if self.centered:
                mean[i] = m = mean[i] + (1.0 - alpha) * (g - mean[i])
                s = max(s - m * m, 0.0)  # rounding can take it below
            velocity[i] = v = momentum * velocity[i] + g / (math.sqrt(s) + self.eps)
            parameter.data -= rate * v


def _decayed(parameter: Value, decay: float) -> float:
    """The gradient of the loss plus decay / 2 * w^2; decay 0 adds nothing, even for an infinite weight."""
    return parameter.grad + decay * parameter.data if decay else parameter.grad


# --- all rows at once -------------------------------------------------------------------------------------------------


def lbfgs(
    loss: Callable[[], Value],
    parameters: Iterable[Value],
    *,
    steps: int = 200,
    tolerance: float = 1e-9,
    memory: int = 10,
) -> list[float]:
    """Minimise a loss by SciPy's L-BFGS, which suits small data and few parameters.

    Each step is a line search along a direction made from the last gradients; there is no learning rate. The loss must
    be the same function at every call: of all rows, without dropout.

    Args:
        loss: A function without arguments that gives the loss as a Value, computed from the parameters' data.
        parameters: The leaves to change; they are left where the loss was least.
        steps: How many at most.
        tolerance: It ends where the largest entry of the gradient is below this, or a step lowers the loss by less
            than this times the loss.
        memory: How many of the last steps make the direction.

    Returns:
        The loss at the start and after each step.

    Raises:
        FloatingPointError: The loss is not finite at the start.
        ValueError: As for `SGD`, or steps or memory is less than 1.
        TypeError: As for `SGD`, or the loss is no Value. An exception of the loss's leaves the parameters as they were.
        ImportError: SciPy is missing.

    Source:
        Byrd, Lu, Nocedal and Zhu, A limited memory algorithm for bound constrained optimization, 1995.

    Example:
        >>> x, y = Value(-1.0), Value(2.0)
        >>> history = lbfgs(lambda: (1 - x) ** 2 + 100 * (y - x * x) ** 2, [x, y])  # Rosenbrock's valley
        >>> round(x.data, 4), round(y.data, 4), history[-1] < 1e-9
        (1.0, 1.0, True)
    """
    optimizer = SGD(parameters, lr=0.0)  # which checks them
    leaves = optimizer.parameters
    whole("steps", steps)
    whole("memory", memory)
    try:
        minimize = importlib.import_module("scipy.optimize").minimize
    except ImportError as error:
        raise ImportError("lbfgs takes SciPy: pip install scipy") from error
    start = [x.data for x in leaves]
    known: dict[tuple[float, ...], float] = {}

    def put(point: Iterable[float]) -> None:
        for leaf, x in zip(leaves, point):
            leaf.data = float(x)

    def value_and_slopes(point: Any) -> tuple[float, list[float]]:
        put(point)
        optimizer.zero_grad()
        found = loss()
        if not isinstance(found, Value):
            raise TypeError(f"the loss gives {found!r}, which has no gradient; is the model frozen?")
        found.backward()
        known[tuple(point)] = found.data
        return found.data, [leaf.grad for leaf in leaves]

    try:
        first, _ = value_and_slopes(start)
        if not math.isfinite(first):
            raise FloatingPointError(f"the loss is {first} at the start; L-BFGS needs a finite one to go on from")
        history = [first]

        def note(point: Any) -> None:
            history.append(known[tuple(point)])

        options = {"maxiter": steps, "gtol": tolerance, "ftol": tolerance, "maxcor": memory, "maxfun": 20 * steps + 20}
        result = minimize(value_and_slopes, start, jac=True, method="L-BFGS-B", callback=note, options=options)
    except BaseException:
        put(start)
        raise
    put(result.x)
    optimizer.zero_grad()
    return history


# --- clipping: between backward() and step() ------------------------------------------------------------------------


def clip_grad_value(parameters: Iterable[Value], clip_value: float) -> None:
    """Clip every grad to the interval from -clip_value to clip_value.

    Args:
        parameters: The Values whose grad is clipped.
        clip_value: The largest absolute value of a grad, 0 or more.

    Raises:
        ValueError: clip_value is negative or nan.

    Example:
        >>> x = Value(3.0)
        >>> (x * x).backward()
        >>> clip_grad_value([x], 5.0)
        >>> x.grad
        5.0
    """
    if not clip_value >= 0.0:
        raise ValueError(f"clip_value is 0 or more, not {clip_value!r}")
    for parameter in parameters:
        parameter.grad = min(max(parameter.grad, -clip_value), clip_value)


def clip_grad_norm(parameters: Iterable[Value], max_norm: float, norm_type: float = 2.0) -> float:
    """Scale all grads by one factor, so that the norm of their vector is at most max_norm.

    Args:
        parameters: The Values whose grads are scaled.
        max_norm: The largest norm, 0 or more.
        norm_type: The p of the p-norm, positive; inf for the largest absolute value.

    Returns:
        The norm before.

    Raises:
        ValueError: max_norm is negative or nan, or norm_type not positive.

    Source:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013, algorithm 1.

    Example:
        >>> x, y = Value(1.5), Value(2.0)
        >>> (x * x + y * y).backward()
        >>> clip_grad_norm([x, y], 1.0)
        5.0
        >>> round(x.grad, 3), round(y.grad, 3)
        (0.6, 0.8)
    """
    if not max_norm >= 0.0 or not norm_type > 0.0:
        raise ValueError(f"max_norm is 0 or more and norm_type more than 0, not {max_norm!r} and {norm_type!r}")
    parameters = list(parameters)
    norm = _norm([abs(parameter.grad) for parameter in parameters], norm_type)
    factor = max_norm / (norm + 1e-6)  # as PyTorch has it: no division by 0
    if factor < 1.0:
        for parameter in parameters:
            parameter.grad *= factor
    return norm


def _norm(sizes: list[float], p: float) -> float:
    if p == 2.0:
        return math.hypot(*sizes)
    top = max(sizes, default=0.0)
    if p == math.inf or top in (0.0, math.inf):
        return top
    return float(top * math.fsum((size / top) ** p for size in sizes) ** (1.0 / p))  # no overflow in the powers

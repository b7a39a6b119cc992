"""The net inputs of units: sums of products that are one node of the graph each."""

from __future__ import annotations

import importlib
from typing import Any

from micrograd_bp import ops
from micrograd_bp._engine.engine import copy_help, engine_name
from micrograd_bp._engine.operators import general_net_input
from micrograd_bp._engine.recordings import RECORDINGS
from micrograd_bp.value import Value


def net_input(w: Any, x: Any, b: Any = None) -> Any:
    """The net input of a unit, b + w_1 x_1 + ... + w_n x_n, added from left to right, as one node of the graph.

    Its grad is the unit's delta.

    Args:
        w: The weights, Values or numbers.
        x: The inputs, as many as there are weights.
        b: The bias, if there is one.

    Returns:
        A Value, or a float where all of them are numbers.

    Raises:
        ValueError: There are more weights than inputs, or fewer.
        TypeError: One of them is no real number.

    Source:
        Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, 1986, equation 1.

    Example:
        >>> w, x = [Value(2.0), Value(-1.0)], [Value(3.0), Value(4.0)]
        >>> net = net_input(w, x, b=0.5)
        >>> net, net.partials
        (Value(data=2.5, grad=0.0), (1.0, 3.0, 4.0, 2.0, -1.0))
    """
    if not RECORDINGS and len(w) == len(x):
        args = (*w, *x) if b is None else (b, *w, *x)
        if {Value} <= {*map(type, args)} <= {Value, float}:
            data = [y._data if type(y) is Value else y for y in args]
            node = Value.__new__(Value)
            start, n = len(args) % 2, len(args) - len(x)
            total = data[0] if start else data[0] * data[n]
            for wi, xi in zip(data[1:n], data[n + 1 - start :]):
                total = total + wi * xi
            node._data = total
            node._grad = 0.0
            node._label = ""
            node.op = ops.net_input
            node.operands = args
            node._partials = (*(1.0,) * start, *data[n:], *data[start:n])
            return node
    return general_net_input(w, x, b)


def layer_outputs(kind: Any, neurons: list[Any], x: Any) -> list[Any]:
    """The outputs of all neurons for the inputs x."""
    return [neuron(x) for neuron in neurons]


if engine_name() == "accelerated":
    _accelerated = importlib.import_module("micrograd_bp._engine.accelerated")
    copy_help(net_input, _accelerated.net_input)
    net_input, layer_outputs = _accelerated.net_input, _accelerated.layer_outputs

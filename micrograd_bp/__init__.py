"""Scalar automatic differentiation: record, differentiate, see.

>>> import micrograd_bp as mg
>>> x = mg.Value(0.5)
>>> mg.sigmoid(2.0 * x).backward()
>>> round(x.grad, 6)
0.393224
"""

import builtins
from typing import TYPE_CHECKING

from micrograd_bp import datasets, losses, math, nn, ops, optim, testing, training
from micrograd_bp._engine.detaching import no_grad, stop_gradient
from micrograd_bp._engine.trees import register_pytree_node
from micrograd_bp._version import __version__
from micrograd_bp.check import gradcheck
from micrograd_bp.checkpointing import checkpoint, remat
from micrograd_bp.compiler import jit, kernel
from micrograd_bp.custom import custom_derivative
from micrograd_bp.implicit import argmin, fixed_point, root
from micrograd_bp.ops import Op
from micrograd_bp.see.backward_pass import backward_source
from micrograd_bp.see.curve import draw_curve
from micrograd_bp.see.drawing import draw
from micrograd_bp.see.explorer import explore
from micrograd_bp.see.formula import formula
from micrograd_bp.see.network import draw_network
from micrograd_bp.see.paths import paths
from micrograd_bp.see.trace import trace_table
from micrograd_bp.series import taylor
from micrograd_bp.training.parallel import parallel_value_and_grad
from micrograd_bp.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from micrograd_bp.uncertainty import propagate, rounding_error, sensitivities
from micrograd_bp.value import Value, engine_name, gradients, topological_order

if TYPE_CHECKING:  # the ops, each with its own signature
    from micrograd_bp._engine.declarations import *  # noqa: F403

__all__ = [
    "Op",
    "Value",
    "__version__",
    "argmin",
    "backward_source",
    "checkpoint",
    "custom_derivative",
    "datasets",
    "draw",
    "draw_curve",
    "draw_network",
    "engine_name",
    "explore",
    "fixed_point",
    "formula",
    "grad",
    "gradcheck",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jit",
    "jvp",
    "kernel",
    "losses",
    "math",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "parallel_value_and_grad",
    "paths",
    "propagate",
    "register_pytree_node",
    "remat",
    "root",
    "rounding_error",
    "sensitivities",
    "stop_gradient",
    "taylor",
    "testing",
    "topological_order",
    "trace_table",
    "training",
    "value_and_grad",
    "vjp",
    "vmap",
]

_names = [op.name for op in ops.PUBLIC if not hasattr(builtins, op.name)]  # abs(x) and pow(x, y) are Python's own
globals().update({name: ops.TABLE[name] for name in _names})
__all__ += _names


def __dir__() -> list[str]:
    return sorted(__all__)

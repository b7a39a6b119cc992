"""Proofs for derivatives: arithmetic to 50 digits, and random differentiable programs for Hypothesis.

An operation of the table, a recorded graph or a random program runs on floats, on Values and on `Precise` numbers
alike; what the chain rule gives is held to finite differences carried out in 50 digits, which are sharp where floats
are not. Needs `pip install 'micrograd-bp[test]'` (mpmath, Hypothesis); nothing is imported before it is used.

>>> from micrograd_bp import ops
>>> str(derivative(ops.tanh, [0.5], 0))[:30]
'0.7864477329659274101496989343'
>>> errors(ops.tanh, 0.5).partials[0] < 4
True
"""

from micrograd_bp.testing.precise import (
    DIGITS,
    Errors,
    Precise,
    arithmetic,
    derivative,
    domains,
    errors,
    kinked,
    points,
    sensitivity,
)
from micrograd_bp.testing.random_programs import Program, arguments, programs, replay

__all__ = [
    "DIGITS",
    "Errors",
    "Precise",
    "Program",
    "arguments",
    "arithmetic",
    "derivative",
    "domains",
    "errors",
    "kinked",
    "points",
    "programs",
    "replay",
    "sensitivity",
]

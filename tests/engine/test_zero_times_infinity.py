"""In the chain rule's product 0 times anything is 0: whichever factor is 0, and in whichever direction.

So a branch that is not taken makes no nan, and every way to a derivative gives the same number at a point where a
partial is 0 or infinite.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import math as gm
from micrograd_bp import ops

POINTS = [  # function, point, derivative
    (lambda x: gm.sqrt(ops.floor(x)), 0.5, 0.0),
    (lambda x: x ** ops.step(x + 5.0), -2.0, 1.0),
    (lambda x: gm.sqrt(x**4), 0.0, 0.0),
    (lambda x: gm.sqrt(x**2), 0.0, 0.0),
    (lambda x: gm.sqrt(x) ** 2, 0.0, 0.0),
    (lambda x: gm.sqrt(x) * 0.0, 0.0, 0.0),
    (lambda x: gm.cbrt(x * x * x), 0.0, 0.0),
    (lambda x: ops.where(x, gm.sqrt(x), x), 0.0, 1.0),
    (lambda x: ops.sign(x) ** 0.5, 2.0, 0.0),
    (lambda x: gm.asin(ops.step(x)), 3.0, 0.0),
    (lambda x: gm.acos(gm.cos(x)), 0.0, 0.0),
    (lambda x: (x * 0.0) ** 0.5 + x, 2.0, 1.0),
    (lambda x: gm.sqrt(x), 0.0, math.inf),
]


def ways(f: Callable[..., Any], x: Any) -> Iterator[Any]:
    """The derivative, one way after another."""
    v = mg.Value(x)
    y = f(v)
    y.backward()
    yield v.grad
    yield mg.gradients(y, [v])[0].data
    yield mg.grad(f)(x)
    yield mg.jvp(f, (x,), (1.0,))[1]
    yield mg.grad(lambda x: mg.vjp(f, x)[0])(x)
    yield mg.jacobian(lambda v: [f(v[0])])([x])[0][0]
    yield mg.jacobian(lambda v: [f(v[0]), v[0]])([x])[0][0]
    yield mg.jacobian(lambda v: f(v[0]) + 0.0 * v[1])([x, x])[0]
    yield mg.jacobian(lambda v: [v[1], f(v[0])])([x, x])[1][0]  # a vector for each node, from the outputs back
    yield mg.jacobian(lambda v: [v[1], f(v[0]), v[1]])([x, x])[1][0]  # and on from the inputs
    yield mg.grad(lambda a: f(a[0]))(np.array([x]))[0]
    yield mg.backward_source(y, [v]).function()(x)[1][0]
    yield mg.paths(y, v).total
    yield mg.jit(mg.grad(f))(x)
    yield mg.jit(mg.grad(f), exact=True)(x)


@pytest.mark.parametrize(("f", "x", "slope"), POINTS)
def test_every_way_gives_the_same_number(f: Callable[..., Any], x: float, slope: float) -> None:
    assert set(ways(f, x)) == {slope}


@pytest.mark.parametrize("other", [0.0, 1.0, math.inf, -math.inf, math.nan])
def test_the_product_is_0_whichever_factor_is(other: float) -> None:
    assert ops.chain(0.0, other) == ops.chain(other, 0.0) == 0.0
    for factors in ((0.0, other), (other, 0.0)):
        product = ops.chain(*map(mg.Value, factors))
        assert product.data == 0.0

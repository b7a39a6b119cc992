"""Derivatives written by hand: of any order, of trees of inputs and outputs, with every transform; and wrong ones."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value
from micrograd_bp import math as m

reals = st.floats(0.25, 2.0)


def opaque(x: Any, y: Any) -> list[float]:
    assert type(x) is type(y) is float  # never a Value
    return [math.sin(x) * y, math.hypot(x, y)]


sines = mg.custom_derivative(opaque, lambda out, x, y: [(m.cos(x) * y, m.sin(x)), (x / out[1], y / out[1])])


def open_(x: Any, y: Any) -> list[Any]:
    return [m.sin(x) * y, m.hypot(x, y)]


def mixed(f: Any) -> Callable[..., Any]:
    return lambda x, y: f(x * y, x + y)[0] * f(x, y)[1]


@given(reals, reals)
def test_it_is_the_function_that_can_be_recorded(x: float, y: float) -> None:
    f, g = mixed(sines), mixed(open_)
    assert f(x, y) == g(x, y)
    assert mg.grad(f, (0, 1))(x, y) == pytest.approx(mg.grad(g, (0, 1))(x, y), rel=1e-13, abs=1e-13)
    assert mg.jvp(f, (x, y), (1.0, -2.0)) == pytest.approx(mg.jvp(g, (x, y), (1.0, -2.0)), rel=1e-13, abs=1e-13)
    both = [np.array(mg.hessian(lambda p, h=h: h(*p))([x, y])) for h in (f, g)]
    assert np.allclose(both[0], both[1], rtol=1e-11, atol=1e-11)
    third = [mg.grad(mg.grad(mg.grad(h)))(x, y) for h in (f, g)]
    assert third[0] == pytest.approx(third[1], rel=1e-9, abs=1e-9)
    assert mg.taylor(lambda p: f(*p), [x, y], 4, [1.0, 1.0]) == pytest.approx(
        mg.taylor(lambda p: g(*p), [x, y], 4, [1.0, 1.0]), rel=1e-10, abs=1e-10
    )


def test_the_function_is_called_once_for_all_outputs() -> None:
    calls: list[Any] = []

    def counting(*args: Any) -> Any:
        calls.append(args)
        return opaque(*args)

    counted = mg.custom_derivative(counting, sines.rule)
    x, y = Value(0.5), Value(0.25)
    a, b = counted(x, y)
    (a * b).backward()
    assert calls == [(0.5, 0.25)]
    assert [node.op.name for node in (a, b)] == ["counting[0]", "counting[1]"]
    assert a.op is counted(y, x)[0].op  # one row for all calls that are built alike


def test_it_is_compiled() -> None:
    f = mixed(sines)
    compiled = mg.jit(lambda x, y: f(x, y) + x, exact=True)
    slope = mg.jit(mg.grad(f))
    for x in (0.5, 0.75, 1.25):
        assert compiled(x, 0.5) == f(x, 0.5) + x
        assert slope(x, 0.5) == pytest.approx(mg.grad(f)(x, 0.5), rel=1e-13)
    assert compiled.stats["paths"] == 1
    batch = np.array([0.5, 0.75, 1.25])
    assert mg.jit(mg.vmap(f))(batch, batch).tolist() == pytest.approx([f(x, x) for x in batch.tolist()])
    assert mg.gradcheck(f, 0.5, 0.75)


def test_trees_arrays_and_what_is_no_float() -> None:
    @mg.custom_derivative
    def f(w: dict[str, float], x: Any, power: Any, name: str = "", scale: Any = 1.0) -> dict[str, Any]:
        assert type(power) is int
        assert name == "n"
        return {"y": scale * w["a"] * x**power}

    @f.partials  # type: ignore[no-redef]
    def f(
        out: dict[str, Any], w: dict[str, Any], x: Any, power: Any, name: str = "", scale: Any = 1.0
    ) -> dict[str, tuple[Any, ...]]:
        slopes = np.diag(scale * w["a"] * power * x ** (power - 1))
        return {"y": ({"a": scale * x**power}, slopes, None)}

    x = np.array([1.0, 2.0])
    loss = lambda w, x: f(w, x, 3, name="n", scale=0.5)["y"].sum()  # noqa: E731
    assert loss({"a": 2.0}, x) == 9.0
    assert mg.grad(loss)({"a": 2.0}, x) == {"a": 4.5}
    assert mg.grad(loss, 1)({"a": 2.0}, x).tolist() == [3.0, 12.0]
    assert mg.grad(lambda a: mg.grad(loss, 1)({"a": a}, x).sum())(2.0) == 7.5
    index = np.array([1, 0])
    pick = mg.custom_derivative(lambda x, i: x[i], lambda out, x, i: (np.eye(2)[i], None))
    assert mg.grad(lambda x: pick(x, index)[0])(x).tolist() == [0.0, 1.0]


def test_a_method_and_a_second_rule() -> None:
    class Gain:
        factor = 3.0

        @mg.custom_derivative
        def times(self, x: Any) -> Any:
            return self.factor * x

        @times.partials  # type: ignore[no-redef]
        def times(out: Any, self, x: Any) -> tuple[Any, ...]:  # noqa: N805
            return None, self.factor

    assert mg.grad(Gain().times)(2.0) == 3.0
    f = mg.custom_derivative(math.exp, lambda out, x: (0.0,))
    x = Value(1.0)
    f(x)
    f.partials(lambda out, x: (out,))
    f(x).backward()
    assert x.grad == math.e
    assert repr(f) == "<custom_derivative exp>"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda out, x, y: y, "no tuple of 2; expected a tuple of 2, a derivative for each argument"),
        (lambda out, x, y: (y,), r"\(3.0,\) is no tuple of 2"),
        (lambda out, x, y: (y, "a"), "cannot take 'a'"),
        (lambda out, x, y: (y, [1.0]), "a partial cannot take"),
        (lambda out, x, y: (y, np.ones(2)), r"has shape \(2,\), not \(\)"),
        (lambda out, x, y: None, "None is no tuple"),
    ],
)
def test_a_rule_that_is_built_otherwise_is_named(rule: Callable[..., Any], words: str) -> None:
    f = mg.custom_derivative(lambda x, y: x * y, rule)
    with pytest.raises(TypeError, match=f"the rule <lambda> of <lambda> gave .*{words}"):
        f(Value(2.0), Value(3.0))


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"give it one with @f\.partials"):
        _named_f()(Value(1.0))
    with pytest.raises(TypeError, match=r"returned 'a'; .*cannot take 'a'"):
        mg.custom_derivative(lambda x: "a", lambda out, x: (1.0,))(Value(1.0))
    with pytest.raises(TypeError, match="in the place of each output"):
        mg.custom_derivative(lambda x: [x, x], lambda out, x: (1.0,))(Value(1.0))
    with pytest.raises(TypeError, match="only by position"):
        mg.custom_derivative(lambda x=1.0: x, lambda out, x: (1.0,))(x=Value(1.0))
    number: Any = 3
    with pytest.raises(TypeError, match=re.escape("takes a function, not 3 (int)")):
        mg.custom_derivative(number)
    with pytest.raises(ZeroDivisionError):
        mg.custom_derivative(lambda x: 1.0 / x, lambda out, x: (out,))(Value(0.0))


def _named_f() -> Any:
    def f(x: Any) -> Any:
        return x

    return mg.custom_derivative(f)


def test_a_wrong_rule_is_found() -> None:
    wrong = mg.custom_derivative(math.sin, lambda out, x: (1.0005 * m.cos(x),))
    with pytest.raises(AssertionError, match=r"d sin\(\.\.\.\) / d args\[0\] is"):
        mg.gradcheck(wrong, 0.5)
    second = mg.custom_derivative(math.cos, lambda out, x: (0.9 * m.sin(-x),))
    right_once = mg.custom_derivative(math.sin, lambda out, x: (second(x),))
    assert mg.gradcheck(right_once, 0.5, order=1)
    with pytest.raises(AssertionError, match="by finite differences"):
        mg.gradcheck(right_once, 0.5)

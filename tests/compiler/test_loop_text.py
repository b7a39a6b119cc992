"""Loops found in graphs of scalars, written as Python and as C99: for loops, and the eager engine's numbers."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value
from micrograd_bp.compiler import c99, loops, program
from tests.compiler.test_c99 import compiled
from tests.compiler.test_loops import FUNCTIONS, ROLLED, body, pendulum, product, total

np = pytest.importorskip("numpy")

__all__ = ["compiled"]  # a fixture


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are found in short programs too."""
    monkeypatch.setattr(loops, "SMALL", 0)


def recorded(
    f: Callable[..., Any],
    point: Sequence[float],
    inputs: int = 1,
    labels: Sequence[str] = ("", "", ""),
) -> tuple[Any, ...]:
    """A kernel of the function, and what the eager engine gives: the value, and the derivatives by the parameters."""
    leaves = [Value(x, label) for x, label in zip(point, labels)]
    output = f(*leaves)
    (output if isinstance(output, Value) else output[0]).backward()
    kernel: Any = mg.kernel(output, leaves[:inputs], leaves[inputs:])
    return kernel, output, [x.grad for x in leaves[inputs:]]


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_both_texts_are_the_eager_engines_value_and_gradient(
    compiled: Callable[..., Any], f: Callable[..., Any]
) -> None:
    point = [0.3, -0.2, 0.7]
    kernel, output, slopes = recorded(product(f), point)
    text, code = kernel.source(), kernel.source("c")
    found = text.function()(*point)
    assert found == pytest.approx((output.data, *slopes), rel=1e-11, abs=1e-12)
    call = compiled(code)
    value, gradient = call("kernel_value_and_grad", point[:1], point[1:], sizes=[2])
    assert [value, *gradient] == pytest.approx([output.data, *slopes], rel=1e-11, abs=1e-12)
    assert call("kernel_value", point[:1], point[1:])[0] == pytest.approx(output.data, rel=1e-12, abs=1e-13)
    if f in ROLLED:
        assert text.count("\n    for ") == code.count("for (int i = ") - 1 == 2
        assert len(text.splitlines()) < 60


def test_a_pendulum_reads_as_written_by_hand() -> None:
    def steps(a: Any, w: Any, k: Any) -> Any:
        for _ in range(10_000):
            a, w = a + 0.001 * w, w - 0.001 * k * mg.math.sin(a)
        return a

    kernel, _, _ = recorded(steps, (0.5, 0.1, 9.8), 0, "awk")
    assert kernel.source().splitlines() == [
        "from micrograd_bp.ops import cos, sin",
        "",
        "",
        "def value_and_grad(a, w, k):",
        "    kept_a = []",
        "    kept1 = []",
        "    for _ in range(10000):",
        "        kept_a.append(a)",
        "        t1 = 0.001 * k",
        "        t2 = sin(a)",
        "        kept1.append(t2)",
        "        a = a + 0.001 * w",
        "        w = w - t1 * t2",
        "    d_a = 1.0",
        "    d_k = 0.0",
        "    d_w = 0.0",
        "    for i in reversed(range(10000)):",
        "        t3 = -d_w",
        "        d_k = d_k + t3 * kept1[i] * 0.001",
        "        d_w = d_w + d_a * 0.001",
        "        d_a = t3 * t1 * cos(kept_a[i]) + d_a",
        "    return (a, d_a, d_w, d_k)",
    ]
    code = kernel.source("c").partition("\n};\n")[2]
    assert code.count("\n") < 50
    assert "    for (int i = 9999; i >= 0; i--) {\n        const double t3 = -d_w;\n" in code


@pytest.mark.parametrize("real", ["double", "float"])
@pytest.mark.parametrize("fixed", [False, True])
def test_several_outputs_of_a_loop_are_pulled_back(compiled: Callable[..., Any], real: str, fixed: bool) -> None:
    point, cotangent = [0.3, -0.2, 0.7], [0.5, -2.0]
    kernel, outputs, _ = recorded(pendulum, point)
    leaves = [Value(x) for x in point]
    total([c * y for c, y in zip(cotangent, pendulum(*leaves))]).backward()
    files = kernel.c_files("kernel", real=real, fixed=fixed)
    code = files["kernel.c"].replace('#include "kernel.h"\n', "")
    assert ("static double kernel_workspace[" in code) == (fixed and real == "double")
    _, out, gradient = compiled(code, real)("kernel_value_and_vjp", point[:1], point[1:], cotangent, sizes=[2, 2])
    near = 1e-12 if real == "double" else 1e-4
    assert out == pytest.approx([y.data for y in outputs], rel=near)
    assert gradient == pytest.approx([x.grad for x in leaves[1:]], rel=near)


def test_what_many_turns_keep_is_not_on_the_stack(
    compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million turns would keep 16 MB."""
    monkeypatch.setattr(c99, "STACK", 50)
    kernel, output, slopes = recorded(product(pendulum), [0.3, -0.2, 0.7])
    code = kernel.source("c")
    assert "\n    static double v[120];\n" in code
    assert "no two threads may call value_and_grad at once" in code
    for _ in range(2):
        value, gradient = compiled(code)("kernel_value_and_grad", [0.3], [-0.2, 0.7], sizes=[2])
        assert [value, *gradient] == pytest.approx([output.data, *slopes], rel=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(8, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_random_recurrences_in_python(seed: int, states: int, turns: int, after: bool) -> None:
    step = body(random.Random(seed), states)

    def f(x: Any, y: Any, z: Any) -> Any:
        fixed = [x * y, mg.math.cos(z)]
        state = [x, y, z][:states]
        for _ in range(turns):
            state = step(state, fixed)
        return total(state) * fixed[0] + x if after else state[0] * 1.0

    rng = random.Random(seed)
    for inputs in (0, 2):
        point = [rng.uniform(-1.5, 1.5) for _ in range(3)]
        kernel, output, slopes = recorded(f, point, inputs)
        found = kernel.source().function()(*point)
        assert found == pytest.approx((output.data, *slopes), rel=1e-10, abs=1e-12)
        values = kernel._loop_source("value")
        assert values is None or values.function()(*point) == (output.data,)


@pytest.mark.parametrize("seed", range(12))
def test_random_recurrences_in_c(compiled: Callable[..., Any], seed: int) -> None:
    rng = random.Random(seed)
    step = body(rng, 3)

    def f(x: Any, y: Any, z: Any) -> Any:
        state, fixed = [x, y, z], [x * y, mg.math.cos(z)]
        for _ in range(20):
            state = step(state, fixed)
        return total(state)

    point = [rng.uniform(-1.5, 1.5) for _ in range(3)]
    kernel, output, slopes = recorded(f, point, 1)
    call = compiled(kernel.source("c"), flags=["-O2"])
    value, gradient = call("kernel_value_and_grad", point[:1], point[1:], sizes=[2])
    assert [value, *gradient] == pytest.approx([output.data, *slopes], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("label", ["w", "x", "v", "i", "sin", "double", "class", "kept1", "t1", "é", "range", "lambda"])
def test_names_that_mean_something_else(compiled: Callable[..., Any], label: str) -> None:
    f = product(pendulum)
    kernel, output, slopes = recorded(f, [0.3, -0.2, 0.7], 1, (label, "a", label))
    found = kernel.source().function()(0.3, -0.2, 0.7)
    assert found == pytest.approx((output.data, *slopes), rel=1e-11)
    value, gradient = compiled(kernel.source("c"))("kernel_value_and_grad", [0.3], [-0.2, 0.7], sizes=[2])
    assert [value, *gradient] == pytest.approx([output.data, *slopes], rel=1e-11)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_text_of_a_jitted_loop_returns_its_outputs_and_asserts_its_guards(f: Callable[..., Any]) -> None:
    g = mg.jit(f, paths=60)
    g.pays = 0
    want = g(0.3, 0.4, 0.5)
    text = g.source()
    scope: dict[str, Any] = {}
    exec(text, scope)
    found = scope["f"](0.3, 0.4, 0.5)
    assert found == pytest.approx(want if isinstance(want, tuple) else (want,), rel=1e-14)
    if f in ROLLED:
        assert "\n    for _ in range(" in text
    if f.__name__ == "watched":
        assert "        assert -100.0 < " in text
        with pytest.raises(AssertionError):
            scope["f"](-500.0, 0.4, 0.5)


def test_it_is_said_which_number_of_w_is_whose(compiled: Callable[..., Any]) -> None:
    a, b, c = Value(2.0, "a"), Value(3.0, "b"), Value(5.0)
    f = mg.jit(lambda x: x * b - a + c)
    assert f(1.0).data == 6.0
    assert f.leaves == [[b, a, c]]
    scope: dict[str, Any] = {}
    exec(f.source(), scope)
    assert scope["f"](1.0, *[x.data for x in f.leaves[0]]) == (6.0,)
    x = Value(1.0, "x")
    kernel = mg.kernel(x * b - a + c, [x], [a])
    assert kernel.leaves == [a, b, c]
    code = kernel.source("c")
    assert "    3.0, /* w[1] b */\n" in code
    assert "gradient is another array than w" in code
    assert compiled(code)("kernel_value", [1.0], [x.data for x in kernel.leaves]) == (6.0,)


def test_the_leaves_of_a_large_graph_have_the_order_of_a_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mg.nn.MLP(5, [4, 1], rng=random.Random(0))
    inputs, others = [Value(0.1 * k) for k in range(5)], [Value(1.0) for _ in range(20)]
    output = model(inputs) * total([x.tanh() for x in others[::-1]]) + others[3] * 2.0
    small = mg.kernel(output, inputs[:2], others[5:7]).leaves
    monkeypatch.setattr(program, "LARGE", 1)
    large = mg.kernel(output, inputs[:2], others[5:7]).leaves
    assert list(map(id, large)) == list(map(id, small))

"""Compiled code does what the eager engine does, or says that it cannot, and never harms the process it runs in."""

from __future__ import annotations

import functools
import math as pm
import operator
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, math, ops

np: Any = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")

from micrograd_bp.compiler.executable import Native  # noqa: E402
from micrograd_bp.compiler.lowering import lower  # noqa: E402
from micrograd_bp.compiler.machine import host  # noqa: E402
from micrograd_bp.compiler.program import flatten, rerecord  # noqa: E402

# --- guards ---------------------------------------------------------------------------------------------------------


def path(
    outputs: Sequence[Any],
    inputs: Sequence[Value],
    *,
    guards: Sequence[tuple[Any, bool]] = (),
    checks: Sequence[Value] = (),
    raised: Sequence[Value] = (),
    exact: bool = False,
) -> Native:
    program, _ = flatten(outputs, inputs, (), [condition for condition, _ in guards], lambda place: checks, raised)
    machine = host()
    assert machine is not None
    lowered = lower(program, machine.native, exact)
    expected = [(i, truth) for i, (_, truth) in zip(lowered.guards, guards)]
    return Native(lowered, lowered.outputs, [], expected, exact)


def statuses(native: Native, rows: Sequence[Sequence[float]]) -> list[int]:
    """Of each row in a batch, which are those of one row at a time."""
    matrix = np.array(rows, float).T.copy()
    start = matrix.__array_interface__["data"][0]
    columns = [(start + k * matrix.strides[0], 8) for k in range(len(matrix))]
    out = np.empty((len(native.plan.results), len(rows)))
    odd, status = native.rows(columns, len(rows), [0.0] * native.parameters, out)
    found = np.zeros(len(rows), int)
    found[np.asarray(odd, int)] = status
    for k in range(0, len(rows), 50):
        assert native.point(rows[k], [0.0] * native.parameters)[1] == found[k]
    return [int(x) for x in found]


rng = random.Random(3)
COUNT = 20_000


def doubled() -> list[float]:
    root, a = rng.uniform(-9.0, 9.0), rng.uniform(0.1, 5.0)
    return [a, -2.0 * a * root, a * root * root]


def collinear() -> list[float]:
    x, y, u, v, t = (rng.uniform(-5.0, 5.0) for _ in range(5))
    return [x, y, x + u, y + v, x + t * u, y + t * v]


def dot(v: Any, w: Any) -> Any:
    """Added from left to right, as Values are: from Python 3.12 on `sum` compensates for floats."""
    return functools.reduce(operator.add, map(operator.mul, v, w))


TIES: dict[str, tuple[Callable[..., Any], Callable[[], list[float]]]] = {
    "square": (lambda x, c: (x * x - c, 0.0), lambda: [x := rng.uniform(-9.0, 9.0), x * x]),
    "power": (lambda x, c: (x**3 - c, 0.0), lambda: [x := rng.uniform(-9.0, 9.0), x**3]),
    "discriminant": (lambda a, b, c: (b * b - 4.0 * a * c, 0.0), doubled),
    "collinear": (lambda a, b, c, d, e, f: ((c - a) * (f - b), (d - b) * (e - a)), collinear),
    "sine": (lambda x, s: (math.sin(x), s), lambda: [x := rng.uniform(-9.0, 9.0), pm.sin(x)]),
    "hypot": (lambda x, y, h: (math.hypot(x, y), h), lambda: [x := rng.random(), y := rng.random(), pm.hypot(x, y)]),
    "long": (
        lambda *v: (dot(v[:9], v[9:18]), v[18]),
        lambda: [*(v := [rng.uniform(-1.0, 1.0) for _ in range(18)]), dot(v[:9], v[9:])],
    ),
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tie", TIES)
def test_a_tie_takes_the_branch_that_eager_takes(tie: str, exact: bool) -> None:
    function, draw = TIES[tie]
    rows = [draw() for _ in range(COUNT if tie != "hypot" else 2000)]
    inputs = [Value(x) for x in rows[0]]
    left, right = function(*inputs)
    others = [left * right + inputs[0] * inputs[0]]  # outputs that use the same nodes
    native = path(others, inputs, guards=[(ops.less_equal(right, left), True)], exact=exact)
    expected = []
    for row in rows:
        a, b = function(*row)
        expected.append(int(not b <= a))
    assert statuses(native, rows) == expected


def test_a_tie_in_a_large_program() -> None:
    """Beyond 20,000 nodes multiply-adds are written by hand."""
    rows = [[a := rng.uniform(-9.0, 9.0), a * a] for _ in range(200)]
    x, c = Value(1.0), Value(1.0)
    total = x
    for k in range(11_000):
        total = total * 0.5 + c * (1.0 / (k + 1))
    native = path([total], [x, c], guards=[(ops.less_equal(0.0, x * x - c), True)])
    assert native.plan.level == 0
    assert statuses(native, rows) == [0] * 200


def test_only_what_guards_read_is_computed_to_the_bit() -> None:
    x, y = Value(1.0), Value(2.0)
    native = path([x * y + math.sin(y)], [x, y], guards=[(ops.less(0.0, x * x - 1.0), True)])
    assert "fmul contract" in native.text
    assert "= fmul <" in native.text


def test_dead_operations_that_raise_are_checked() -> None:
    x = Value(2.0)
    native = path([1.0 / (x + 3.0)], [x], checks=[math.log(x)])
    assert statuses(native, [[1.0], [-1.0], [0.0], [2.0]]) == [0, 2, 2, 0]


def test_a_branch_that_a_constant_shuts_out_is_checked() -> None:
    x = Value(2.0)
    native = path([ops.where(1.0, x, math.log(x) * 2.0)], [x])
    assert statuses(native, [[1.0], [-1.0], [2.0]]) == [0, 2, 0]


@pytest.mark.parametrize("failing", [ops.log, ops.log1p, ops.gamma, ops.logaddexp, ops.exp])
def test_what_was_expected_to_raise_is_not_watched(failing: ops.Op) -> None:
    x = Value(2.0)
    node = failing(*[x] * (failing.arity or 1))
    finite = ops.less_equal(abs(node), ops.MAX)
    native = path([x * 2.0], [x], guards=[(finite, False)], raised=[node])
    rows = [[-800.0], [800.0], [1.0], [-3.0], [pm.nan], [pm.inf]]
    expected = []
    for (point,) in rows:
        try:
            failing.forward(*[point] * (failing.arity or 1))
            expected.append(2 if not pm.isfinite(point) else 1)
        except (ArithmeticError, ValueError):
            expected.append(0)
    found = statuses(native, rows)
    assert [a for a in found if a != 1] == [b for a, b in zip(found, expected) if a != 1]
    assert [a for a, b in zip(found, expected) if b == 1] == [1] * expected.count(1)


def test_what_raised_is_left_out_of_a_replay() -> None:
    x = Value(2.0)
    node = math.log(x)
    program, _ = flatten([x * 2.0], [x], guards=[ops.less_equal(abs(node), ops.MAX)], raised=[node])
    program = pickle.loads(pickle.dumps(program))
    nodes = rerecord(program.with_outputs(program.outputs), [-1.0], [])
    assert nodes[program.outputs[0]].data == -2.0
    assert nodes[program.raised[0]] is None
    assert nodes[program.guards[0]] is None


# --- rules of one's own ---------------------------------------------------------------------------------------------

TABLE = {0.0: 10.0, 1.0: 5.0, 2.0: 7.0}


def swallowed(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A rule that goes on without the number where it cannot have it."""

    def rule(x: Any) -> Any:
        try:
            return 2.0 * x if read(x) else x * x
        except Exception:
            return 0.0 * x

    return rule


RULES: dict[str, Callable[[Any], Any]] = {
    "looked up": lambda x: TABLE.get(x, -1.0),
    "in a set": lambda x: 1.0 if x in {1.0, 2.0} else x,
    "compared": swallowed(lambda x: x > 0.5),
    "equal": swallowed(lambda x: x == 1.0),
    "unequal": swallowed(lambda x: x != 1.0),
    "truth": swallowed(bool),
    "float": swallowed(lambda x: float(x) - 1.0),
    "int": swallowed(lambda x: int(x) % 2),
    "round": swallowed(lambda x: round(x) % 2),
    "sine": swallowed(pm.sin),
    "class": swallowed(lambda x: isinstance(x, float)),
    "type": lambda x: 2.0 * x if type(x) is float else x,
    "attribute": swallowed(lambda x: x.is_integer()),
    "text": swallowed(lambda x: "1" in str(x)),
    "repr": swallowed(lambda x: "1" in repr(x)),
    "format": swallowed(lambda x: "1" in f"{x:.1f}"),
    "hash": swallowed(lambda x: hash(x) % 2),
    "divmod": swallowed(lambda x: divmod(x, 2.0)[0] > 0.0),
    "hasattr": lambda x: 3.0 * x if hasattr(x, "hex") else x,
    "sequence": lambda x: x[0] if hasattr(type(x), "__getitem__") else x + 1.0,
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_asks_for_the_number_is_called(rule: str, exact: bool) -> None:
    op = mg.Op("own", "own", RULES[rule], lambda out, x: (0.0,))
    x = Value(1.0)
    kernel = mg.kernel(op(x) + 0.0, [x], exact=exact)
    points = [0.0, 1.0, 2.0, -1.0, 0.25, 3.0, -2.5]
    assert [kernel([x]) for x in points] == [op(x) for x in points]
    assert kernel(np.array(points)[:, None]).tolist() == [op(x) for x in points]


def test_rules_of_arithmetic_are_traced() -> None:
    softsign = mg.Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
    power = mg.Op("power", "power", lambda x, n: x if n == 1.0 else x**n, lambda out, x, n: (n, 0.0))
    x = Value(0.5)
    native = path([softsign(x), power(x, 3.0), softsign(softsign(x))], [x])
    assert not native.calls_python
    assert statuses(native, [[1.0], [-2.0]]) == [0, 0]
    assert native.point([-2.0], [])[0] == [-2.0 / 3.0, -8.0, (-2.0 / 3.0) / (1.0 + 2.0 / 3.0)]
    y = Value(1.0)
    assert path([power(x, y)], [x, y]).calls_python  # n is not known


# --- arrays as they come --------------------------------------------------------------------------------------------


class Sub(np.ndarray):
    pass


def unaligned(a: Any) -> Any:
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    made = raw.view(float).reshape(a.shape)
    made[...] = a
    return made


def frozen(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda a: a,
    "big-endian": lambda a: a.astype(">f8"),
    "little-endian": lambda a: a.astype("<f8"),
    "half": lambda a: a.astype(np.float16),
    "single": lambda a: a.astype(np.float32),
    "single, big-endian": lambda a: a.astype(">f4"),
    "long double": lambda a: a.astype(np.longdouble),
    "ints": lambda a: a.astype(int),
    "unsigned bytes": lambda a: a.astype(np.uint8),
    "shorts, big-endian": lambda a: a.astype(">i2"),
    "columns first": np.asfortranarray,
    "every other": lambda a: np.repeat(np.repeat(a, 2, 0), 3, -1)[::2, ::3] if a.ndim == 2 else np.repeat(a, 2)[::2],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "backwards across": lambda a: np.flip(np.flip(a).copy()),
    "one byte off": unaligned,
    "read-only": frozen,
    "a subclass": lambda a: a.view(Sub),
    "a field": lambda a: np.stack([a, a], -1).view([("a", float), ("b", float)])["b"][..., 0],
    "a list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("rows", [1, 7, 9000])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_batch_is_read_whatever_its_layout(layout: str, rows: int) -> None:
    x, y, w, v = (Value(k, n) for k, n in ((1.0, "x"), (2.0, "y"), (3.0, "w"), (1.0, "v")))
    kernel = mg.kernel((w * x - y * v) ** 2, [x, y], [w, v])
    X = np.arange(rows * 2).reshape(rows, 2) % 5 + 1.0
    given = LAYOUTS[layout]
    before = np.array(X)
    assert kernel(given(X)).tolist() == ((3.0 * X[:, 0] - X[:, 1]) ** 2).tolist()
    value, slopes = kernel.value_and_grad(given(X))
    assert [value, *slopes] == pytest.approx([*map(float, np.hstack(kernel.value_and_grad(X)))], rel=1e-14)
    assert value == pytest.approx(((3.0 * X[:, 0] - X[:, 1]) ** 2).mean())
    weights = X[:, 0]
    value, slopes = kernel.value_and_grad(given(X), weights=given(weights))
    assert value == pytest.approx((weights * (3.0 * X[:, 0] - X[:, 1]) ** 2).sum())
    point = np.array([2.0, 1.0])
    assert kernel(X, given(point)).tolist() == ((2.0 * X[:, 0] - X[:, 1]) ** 2).tolist()
    assert kernel.value_and_grad(X, given(point))[0] == pytest.approx(((2.0 * X[:, 0] - X[:, 1]) ** 2).mean())
    assert kernel.backward(given(X)) == pytest.approx(((3.0 * X[:, 0] - X[:, 1]) ** 2).mean())
    assert kernel(given(X[0])) == (3.0 * X[0, 0] - X[0, 1]) ** 2
    assert (before == X).all()


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "complex": (lambda a: a + 0j, TypeError, "real numbers, not (of )?complex128"),
    "objects": (lambda a: a.astype(object), TypeError, "real numbers, not (of )?object"),
    "text": (lambda a: a.astype(str), TypeError, "real numbers, not (of )?<U"),
    "dates": (lambda a: a.astype("M8[s]"), TypeError, "real numbers, not (of )?datetime64"),
    "masked": (lambda a: np.ma.masked_array(a, a > 2.0), TypeError, "masked.*filled"),
    "one more dimension": (lambda a: a[..., None], ValueError, "shape"),
    "one number less": (lambda a: a[..., :-1], ValueError, "shape|numbers|weights"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_real_numbers_is_refused(kind: str) -> None:
    given, error, message = REFUSED[kind]
    x, y, w, v = Value(1.0), Value(2.0), Value(3.0), Value(1.0)
    kernel = mg.kernel((w * x - y * v) ** 2, [x, y], [w, v])
    X = np.arange(10.0).reshape(5, 2)
    for call in (
        lambda: kernel(given(X)),
        lambda: kernel.value_and_grad(given(X)),
        lambda: kernel.backward(given(X)),
        lambda: kernel.value_and_grad(X, weights=given(np.ones(5))),
        lambda: kernel(X, given(np.ones(2))),
        lambda: kernel.value_and_grad(X, given(np.ones(2))),
    ):
        with pytest.raises(error, match=message):
            call()
    assert (w.grad, v.grad) == (0.0, 0.0)


@pytest.mark.parametrize("given", [{"w": 1.0, "v": 2.0}, {1.0, 2.0}, "ab", ["1", "2"], [1j, 2j], [None, 1.0], 3.0])
def test_parameters_are_numbers_in_order(given: Any) -> None:
    x, w, v = Value(1.0), Value(3.0), Value(1.0)
    kernel = mg.kernel(w * x + v, [x], [w, v])
    for call in (
        lambda: kernel([1.0], given),
        lambda: kernel([[1.0], [2.0]], given),
        lambda: kernel.value_and_grad([[1.0], [2.0]], given),
        lambda: kernel.value_and_grad([[1.0], [2.0]], weights=given),
    ):
        with pytest.raises(TypeError, match=r"number|parameters|weights"):
            call()


@pytest.mark.parametrize("row", [["1"], [1j], [None], [Value(1.0)]])
def test_a_row_is_of_real_numbers(row: list[Any]) -> None:
    x = Value(1.0)
    kernel = mg.kernel(2.0 * x, [x])
    with pytest.raises(TypeError, match=r"a kernel's row|real numbers"):
        kernel(row)
    assert kernel([np.float32(0.5)]) == kernel([0.5]) == 1.0
    assert kernel([True]) == kernel([1]) == 2.0

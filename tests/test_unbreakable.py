"""Compiled code does what the eager engine does, or says that it cannot, and never harms the process it runs in."""

from __future__ import annotations

import math as pm
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, math, ops

np = pytest.importorskip("numpy")
pytest.importorskip("llvmlite")

from micrograd_bp.compiler.machine import host  # noqa: E402
from micrograd_bp.compiler.native import Native  # noqa: E402
from micrograd_bp.compiler.program import flatten, lower, replay  # noqa: E402

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
    program, _ = flatten(outputs, inputs, (), [condition for condition, _ in guards], checks, raised)
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


TIES: dict[str, tuple[Callable[..., Any], Callable[[], list[float]]]] = {
    "square": (lambda x, c: (x * x - c, 0.0), lambda: [x := rng.uniform(-9.0, 9.0), x * x]),
    "power": (lambda x, c: (x**3 - c, 0.0), lambda: [x := rng.uniform(-9.0, 9.0), x**3]),
    "discriminant": (lambda a, b, c: (b * b - 4.0 * a * c, 0.0), doubled),
    "collinear": (lambda a, b, c, d, e, f: ((c - a) * (f - b), (d - b) * (e - a)), collinear),
    "sine": (lambda x, s: (math.sin(x), s), lambda: [x := rng.uniform(-9.0, 9.0), pm.sin(x)]),
    "hypot": (lambda x, y, h: (math.hypot(x, y), h), lambda: [x := rng.random(), y := rng.random(), pm.hypot(x, y)]),
    "long": (
        lambda *v: (sum(a * b for a, b in zip(v[:9], v[9:18])), v[18]),
        lambda: [*(v := [rng.uniform(-1.0, 1.0) for _ in range(18)]), sum(a * b for a, b in zip(v[:9], v[9:]))],
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
    rows = [[x := rng.uniform(-9.0, 9.0), x * x] for _ in range(200)]
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
    nodes = replay(program.with_outputs(program.outputs), [-1.0], [])
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

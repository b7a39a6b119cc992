"""Every row of the table against arithmetic of 50 digits: value, first and second derivatives; and the rule itself.

"Ulp" is a unit in the last place. A derivative is right if it is within 4 ulp of max(|derivative|, 1).
"""

import itertools
import math
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, ops, testing
from micrograd_bp._engine.symbolic import derivatives

ROWS = list(ops.TABLE.values())
NO_VALUE = (ValueError, ZeroDivisionError, OverflowError)
every_row = pytest.mark.parametrize("op", ROWS, ids=lambda op: op.name)

# Values in ulp of the value itself; these two are the standard library's, whose errors go that far.
VALUE_ULPS = {"gamma": 10.0, "lgamma": 30.0}
# Near their zeros and far out these lose digits of the value, as the formulas that floats have for them do.
VALUE_ULPS_OF_ONE = {"gelu", "lgamma", "logaddexp", "silu"}


def bits(x: Any) -> bytes:
    return struct.pack("<d", math.nan if math.isnan(x) else x)


def kinks_lie_apart(op: Op, point: tuple[Any, ...]) -> bool:
    """x // y, x % y and their like jump between neighbouring floats where |x / y| is large."""
    sizes = [abs(x) for x in point if x]
    return op.smooth or len(sizes) < 2 or max(sizes) < 1e12 * min(sizes)


def check(op: Op, point: tuple[Any, ...]) -> bool:
    """Hold a row to 50 digits at a point, or its exception to there being no such float; whether it was proved."""
    if not kinks_lie_apart(op, point):
        return False
    try:
        value, partials = testing.errors(op, *point)
    except NO_VALUE:
        assert has_no_value(op, point)
        return False
    if op.name in VALUE_ULPS_OF_ONE:
        value *= math.ulp(op(*point)) / math.ulp(max(abs(op(*point)), 1.0))
    assert value <= VALUE_ULPS.get(op.name, 4.0)
    assert all(partial <= 4.0 for partial in partials)
    return bool(partials)


def has_no_value(op: Any, point: Any) -> bool:
    try:
        exact = abs(op(*map(testing.Precise, point)).number)
    except NO_VALUE:
        return True
    return not exact < ops.MAX


def negative_bases() -> list[tuple[Any, ...]]:
    rng = random.Random("negative bases")
    return [(-(2.0 ** rng.uniform(-5, 5)), float(rng.randrange(-40, 41))) for _ in range(60)]


def orders() -> list[tuple[Any, ...]]:
    rng = random.Random("orders")
    return [(float(n), rng.choice((1, -1)) * 2.0 ** rng.uniform(-8, 8)) for n in [*range(1, 20), 40, 100, 169, 170]]


@every_row
def test_values_and_derivatives_to_4_ulp_all_over_the_domain(op: Op) -> None:
    points = list(testing.points(op, 120, random.Random(op.name)))
    points += itertools.product(*[dict.fromkeys(ends) for ends in testing.domains(op)])
    points += {"pow": negative_bases(), "polygamma": orders()}.get(op.native or op.name, [])
    proved = sum(check(op, point) for point in points)
    assert proved >= 10


def zeros(order: int) -> Iterator[float]:
    """The zeros of polygamma as the floats next to them, found by halving."""
    brackets = [(1.0, 2.0)] if order == 0 else []
    for k in (*range(30), 100, 1000, 10**6):
        brackets.append((-k - 1 + 1e-6, -k - 1e-6))
    for low, high in brackets:
        rising = ops.polygamma(float(order), high) > 0.0
        while (middle := (low + high) / 2) not in (low, high):
            low, high = (low, middle) if (ops.polygamma(float(order), middle) > 0.0) is rising else (middle, high)
        yield from (low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf))


@pytest.mark.parametrize("order", [0, 2, 4])
def test_values_of_polygamma_to_4_ulp_near_its_zeros(order: int) -> None:
    for x in zeros(order):
        assert testing.errors(ops.polygamma, float(order), x).value <= 4.0, x
        assert order or testing.errors(ops.digamma, x).value <= 4.0, x


@pytest.mark.parametrize("point", [(100.0, -200.5), (170.0, -50.5), (40.0, -1000.5), (100.0, -200.25), (101.0, -200.5)])
def test_values_of_polygamma_to_4_ulp_midway_between_poles(point: tuple[Any, ...]) -> None:
    """Where nearly all of the sum over the poles cancels: held to that sum, pole by pole, in 600 digits."""
    mp = testing.arithmetic()
    n, x = int(point[0]), mp.mpf(point[1])
    with mp.workdps(600):
        far = mp.psi(n, x + 1200)  # by the recurrence; there no terms cancel
        exact = far - (-1) ** n * mp.factorial(n) * mp.fsum(1 / (x + k) ** (n + 1) for k in range(1200))
    assert abs(ops.polygamma(*point) - exact) <= 4.0 * math.ulp(float(exact))
    assert testing.errors(ops.polygamma, *point).value <= 4.0


@pytest.mark.parametrize("size", [5e-324, 1e-320, 1e-310, 2.0**-1022, 1e-300, 1e300])
def test_slopes_of_atan2_to_4_ulp_among_the_smallest_and_the_largest_floats(size: float) -> None:
    rng = random.Random(size)
    for _ in range(60):
        point = [rng.randrange(-99, 100) * size * rng.choice((1.0, 2.0**20)) + 0.0 for _ in range(2)]
        assert all(partial <= 4.0 for partial in testing.errors(ops.atan2, *point).partials), point


@every_row
@given(data=st.data())
@settings(max_examples=20)
def test_no_point_of_the_domain_is_a_counterexample(op: Op, data: Any) -> None:
    check(op, data.draw(testing.arguments(op)))


@pytest.mark.parametrize("op", [op for op in ROWS if op.smooth], ids=lambda op: op.name)
def test_second_derivatives(op: Op) -> None:
    """Gradients of gradients: the rules themselves differentiated.

    An ulp is lost for each of a few roundings of each number in their graph, and nothing else.
    """
    proved = 0
    for point in testing.points(op, 80, random.Random(op.name)):
        moderate = all(x == 0.0 or 1e-100 < abs(x) < 1e100 for x in point)
        if not moderate or not check(op, point):
            continue
        inputs = [mg.Value(x) for x in point]
        slopes = mg.gradients(op(*inputs), inputs)
        axes = [i for i, slope in enumerate(slopes) if not math.isnan(slope.data)]
        curvatures = {(i, j): mg.gradients(slopes[i], inputs)[j] for i in axes for j in axes}
        for (i, j), curvature in curvatures.items():
            try:
                exact = testing.derivative(op, point, i, j)
            except ValueError:  # an end of the domain
                continue
            if abs(exact) < 1e300:
                bound = 2.0**-50 * max(1.0, testing.sensitivity(curvature))
                assert abs(curvature.data - exact) <= bound, (point, i, j)
                proved += 1
    assert proved >= 10


@pytest.mark.parametrize("op", [op for op in ROWS if op.smooth], ids=lambda op: op.name)
def test_a_second_derivative_is_a_number_only_where_there_is_one(op: Op) -> None:
    """At 0, at 1, at the ends of the domain: the truth, inf or nan; and the order of differentiating is no matter."""
    looked_at = 0
    for point in itertools.product(*[nearby(*ends) for ends in testing.domains(op)]):
        inputs = [mg.Value(x) for x in point]
        try:
            slopes = mg.gradients(op(*inputs), inputs)
        except NO_VALUE:
            continue
        axes = [i for i, slope in enumerate(slopes) if not math.isnan(slope.data)]
        hessian = {(i, j): mg.gradients(slopes[i], inputs)[j].data for i in axes for j in axes}
        for (i, j), curvature in hessian.items():
            looked_at += 1
            assert curvature == pytest.approx(hessian[j, i], rel=1e-15, nan_ok=True) or by_convention(op, point)
            if not math.isfinite(curvature) or by_convention(op, point):
                continue
            assert not any(testing.kinked(op, point, axis) for axis in axes), (point, i, j)
            assert abs(curvature - testing.derivative(op, point, i, j)) <= 2.0**-45 * max(1.0, abs(curvature))
    assert looked_at


def nearby(low: float, high: float) -> list[float]:
    return [x for x in (low, high, 0.0, 1.0, -1.0, 2.0) if low <= x <= high and abs(x) <= 1000.0]


def by_convention(op: Op, point: tuple[Any, ...]) -> bool:
    """0**y is constant but for its slope by the base; an angle is one on both sides of the cut; rules divide by 0."""
    if op is ops.ieee_div:
        return point[1] == 0.0
    return (op.native == "pow" and point[0] == 0.0) or (op is ops.atan2 and point[0] == 0.0 > point[1])


@pytest.mark.parametrize("x", [5e-324, -5e-324, 1e-310, 2.0**-1022, 1e-200])
def test_the_second_derivative_of_cbrt_overflows_to_infinity(x: float) -> None:
    assert mg.hessian(mg.math.cbrt)(x) == math.copysign(math.inf, -x)


# fmt: off
AWKWARD = [0.0, 5e-324, 1e-310, 2.0**-1022, 1e-20, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 36.9, 710.0, 2.0**53, 1e300, ops.MAX]
# fmt: on
AWKWARD += [-x for x in AWKWARD] + [math.inf, -math.inf, math.nan]


def arity(op: Op) -> int:
    return 2 if op.arity is None else op.arity


def awkward_points(op: Op) -> Iterator[tuple[Any, ...]]:
    rng = random.Random(op.name)
    everything = list(itertools.product(AWKWARD, repeat=arity(op)))
    yield from rng.sample(everything, min(len(everything), 1300))
    yield from testing.points(op, 300, rng)


@every_row
def test_a_decomposition_equals_forward_bit_for_bit(op: Op) -> None:
    """Where the value is finite; elsewhere it may raise instead, which C's arithmetic does not."""
    if op.decomposition is None:
        assert op.native or op.name not in ("floordiv", "mod")  # which C has otherwise than Python
        return
    compared = 0
    for point in awkward_points(op):
        try:
            value = op.forward(*point)
        except NO_VALUE:
            continue
        try:
            expanded = op.decomposition(*point)
        except NO_VALUE:
            assert not math.isfinite(value)
        else:
            assert bits(expanded) == bits(value), point
            compared += 1
    assert compared > 200


@every_row
def test_a_value_is_the_float_whichever_way_it_is_recorded(op: Op) -> None:
    """Through the row, the method, the operator: the same data and the same derivatives, to the last bit."""
    for point in awkward_points(op):
        try:
            data = op(*point)
        except NO_VALUE as error:
            with pytest.raises(type(error)):
                op(*map(mg.Value, point))
            with pytest.raises(type(error)):
                getattr(mg.Value(point[0]), op.name)(*map(mg.Value, point[1:]))
            continue
        results = []
        for record in (op, lambda first, *others: getattr(first, op.name)(*others)):
            inputs = [mg.Value(x) for x in point]
            output = record(*inputs)
            assert bits(output.data) == bits(data)
            assert output.op is op
            assert all(a is b for a, b in zip(output.operands, inputs, strict=True))
            output.backward()
            results.append([bits(x.grad + 0.0) for x in inputs])
        assert results[0] == results[1] == [bits(partial + 0.0) for partial in op.partials(data, *point)]


@every_row
def test_a_rule_is_generic(op: Op) -> None:
    """Floats give floats, Values give Values (or plain floats, where a derivative is constant), names give formulas."""
    (point,) = itertools.islice((p for p in testing.points(op, 400, random.Random(7)) if defined(op, p)), 1)
    numeric = op.partials(op(*point), *point)
    inputs = [mg.Value(x) for x in point]
    symbolic = op.partials(op(*inputs), *inputs)
    text = derivatives(op, "out", *(op.parameters if op.arity else "xy"))
    assert len(numeric) == len(symbolic) == len(text) == len(point)
    assert all(type(partial) is float for partial in numeric)
    assert all(type(partial) is float or isinstance(partial, mg.Value) for partial in symbolic)
    data = [partial.data if isinstance(partial, mg.Value) else partial for partial in symbolic]
    assert [*map(bits, data)] == [*map(bits, numeric)]
    assert all(isinstance(formula, str) and formula for formula in text)


def defined(op: Op, point: tuple[Any, ...]) -> bool:
    try:
        return math.isfinite(op(*point))
    except NO_VALUE:
        return False


def test_a_row_of_ones_own_is_proved_in_the_same_way() -> None:
    right = mg.Op("cube", "cube", lambda x: x * x * x, lambda out, x: (3.0 * x * x,))
    wrong = mg.Op("cube", "cube", lambda x: x * x * x, lambda out, x: (3.0 * x * x * (1 + 1e-14),))
    assert max(testing.errors(right, 1.7).partials) < 4.0 < max(testing.errors(wrong, 1.7).partials)

"""Random programs against finite differences in 50-digit arithmetic: what the chain rule makes of the rows.

A derivative may be off by some roundings of each number in its own graph, and by nothing else; the programs are tame
enough that this is 1e-12 of the largest of those numbers.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, ops, testing
from micrograd_bp.testing import Program

softsign = mg.Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
lerp = mg.Op("lerp", "lerp", lambda t, x, y: x + t * (y - x), lambda out, t, x, y: (y - x, 1.0 - t, t))


def recorded(program: Program) -> tuple[Any, ...]:
    inputs = [mg.Value(x) for x in program.point]
    return program(*inputs), inputs


def near(value: Any, exact: Any) -> bool:
    """Within 4 ulp for every number that led to the value."""
    return abs(value.data - exact) <= 2.0**-50 * max(1.0, testing.sensitivity(value))


def check_first_order(program: Program) -> None:
    output, inputs = recorded(program)
    output.backward()
    graphs = mg.gradients(output, inputs)
    for i, (x, graph) in enumerate(zip(inputs, graphs, strict=True)):
        exact = testing.derivative(program, program.point, i)
        assert near(graph, exact)
        assert abs(x.grad - graph.data) <= 2.0**-50 * max(1.0, testing.sensitivity(graph))


def check_second_order(program: Program) -> None:
    output, inputs = recorded(program)
    for i, slope in enumerate(mg.gradients(output, inputs)):
        for j, curvature in enumerate(mg.gradients(slope, inputs)[: i + 1]):
            assert near(curvature, testing.derivative(program, program.point, i, j))


@given(testing.programs())
@settings(max_examples=150)
def test_gradients(program: Program) -> None:
    check_first_order(program)


@given(testing.programs(max_steps=5))
@settings(max_examples=80)
def test_gradients_of_gradients(program: Program) -> None:
    check_second_order(program)


@given(testing.programs(kinks=True, max_steps=6))
@settings(max_examples=100)
def test_gradients_with_kinks_at_a_distance(program: Program) -> None:
    check_first_order(program)


@given(testing.programs([softsign, lerp, ops.mul, ops.add], max_steps=5))
@settings(max_examples=40)
def test_rows_of_ones_own(program: Program) -> None:
    check_first_order(program)
    check_second_order(program)


@given(testing.programs(max_steps=4))
@settings(max_examples=40)
def test_a_derivative_is_a_program_again(program: Program) -> None:
    """The graph of a gradient, run at 50 digits, is the derivative at 50 digits: no rounding is left to blame."""
    output, inputs = recorded(program)
    point = [testing.Precise(x) for x in program.point]
    for i, graph in enumerate(mg.gradients(output, inputs)):
        exact = testing.derivative(program, program.point, i)
        assert abs(testing.Precise(testing.replay(graph, inputs)(*point)).number - exact) <= 1e-14 * max(1, abs(exact))


@given(testing.programs(max_steps=6), st.data())
@settings(max_examples=40)
def test_an_input_may_be_any_node(program: Program, data: Any) -> None:
    """By an interior node: the derivative of what follows it, with the node replaced by a variable."""
    output, _ = recorded(program)
    order = mg.value.topological_order(output)
    node = data.draw(st.sampled_from(order))
    (slope,) = mg.gradients(output, [node])
    unused = mg.Value(1.0)
    assert mg.gradients(output, [unused, node])[0].data == 0.0
    assert near(slope, testing.derivative(testing.replay(output, [node]), [node.data], 0))


@given(testing.programs())
@settings(max_examples=100)
def test_floats_values_and_50_digits_agree(program: Program) -> None:
    output, inputs = recorded(program)
    assert output.data == program(*program.point) == testing.replay(output, inputs)(*program.point)
    assert near(output, testing.Precise(program(*map(testing.Precise, program.point))).number)


@given(testing.programs(kinks=True))
@settings(max_examples=60)
def test_the_repr_of_a_program_is_python(program: Program) -> None:
    scope: dict[str, Any] = {}
    exec(repr(program), scope)
    assert scope["point"] == program.point
    assert scope["program"](*program.point) == program(*program.point)


@pytest.mark.parametrize("op", ops.TABLE.values(), ids=lambda op: op.name)
def test_every_row_has_its_turn(op: Op) -> None:
    """A strategy that could not place the row anywhere would fail as unsatisfiable."""

    @given(testing.programs([op], max_steps=3))
    @settings(max_examples=4)
    def composed_with_itself(program: Program) -> None:
        check_first_order(program)

    composed_with_itself()


def test_programs_share_repeat_and_leave_out() -> None:
    seen: set[Any] = set()

    @given(testing.programs())
    @settings(max_examples=100)
    def look(program: Program) -> None:
        operands = [operand for _, chosen in program.steps for operand in chosen]
        used = {operand for operand in operands if isinstance(operand, int)}
        seen.update({"constant"} if any(isinstance(operand, float) for operand in operands) else ())
        seen.update({"unused"} if not used.issuperset(range(len(program.point))) else ())
        seen.update({"repeated"} if any(len({*chosen}) < len(chosen) for _, chosen in program.steps) else ())
        seen.update({"shared"} if any(operands.count(i) > 1 for i in used) else ())

    look()
    assert seen == {"constant", "unused", "repeated", "shared"}


@given(testing.programs(kinks=True))
@settings(max_examples=50)
def test_a_program_keeps_its_distance_from_kinks(program: Program) -> None:
    assert not any(testing.kinked(program, program.point, axis) for axis in range(len(program.point)))


@pytest.mark.parametrize("f", [lambda x: x.sqrt(), lambda x: 1 / x, lambda x: x**0.5])
def test_a_derivative_at_the_end_of_the_domain_is_refused(f: Callable[..., Any]) -> None:
    with pytest.raises((ValueError, ZeroDivisionError)):
        testing.derivative(f, [0.0], 0, 0)

"""Bad input raises an error that names what was given and what to do, and nothing is half-recorded."""

import copy
import decimal
import math
import operator
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import micrograd_bp as mg
from micrograd_bp import Op, Value, ops
from micrograd_bp.value import topological_order

NO_NUMBERS = ["a", b"1", None, 1j, [1.0], (1.0,), {}, {1.0}, object(), Ellipsis, len]
ARRAYS = [np.array([1.0, 2.0]), np.array(1.0), np.array([Value(1.0)])]
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]


def program() -> tuple[Value, Value, Value]:
    """A recorded graph that has been differentiated: two leaves and the output."""
    x, y = Value(2.0, "x"), Value(-3.0, "y")
    out = (x * y).tanh() + x / y - x
    out.backward()
    return x, y, out


def state(out: Value) -> list[tuple[Any, ...]]:
    """All that a graph holds."""
    return [(id(node), node.data, node.grad, node.label, node.op, node.operands, node.partials)
            for node in topological_order(out)]  # fmt: skip


@pytest.fixture
def graph() -> Iterator[tuple[Any, ...]]:
    """A graph that must be, after whatever the test does to it, as it was, and still differentiable."""
    x, y, out = program()
    before = state(out)
    yield x, y, out
    assert state(out) == before
    fresh_x, fresh_y, fresh = program()
    out.backward()
    fresh.backward()
    assert (x.grad, y.grad) == (fresh_x.grad, fresh_y.grad)


def named(thing: Any) -> str:
    """What a message must say of the thing given: its type."""
    return type(thing).__name__


# --- no numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [*NO_NUMBERS, *ARRAYS, decimal.Decimal(1)], ids=named)
def test_a_value_holds_real_numbers_only(thing: Any) -> None:
    with pytest.raises(TypeError, match=rf"Value cannot hold .*\({named(thing)}\); pass a real number"):
        Value(thing)


def test_a_value_in_a_value_is_refused_with_advice() -> None:
    value: Any = Value(1.0)
    with pytest.raises(TypeError, match=r"Value cannot hold Value\(.*\(Value\); take its \.data"):
        Value(value)


def test_an_integer_beyond_all_floats_overflows_as_it_does_for_floats(graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    for call in (lambda: Value(10**400), lambda: x + 10**400, lambda: 10**400 * x, lambda: mg.maximum(x, 10**400)):
        with pytest.raises(OverflowError, match="int too large to convert to float"):
            call()


@pytest.mark.parametrize("label", [1, None, b"x", Value(1.0), 0.5], ids=named)
def test_a_label_is_text(label: Any) -> None:
    with pytest.raises(TypeError, match=rf"label is a str, not .*\({named(label)}\)"):
        Value(1.0, label)


@pytest.mark.parametrize("thing", NO_NUMBERS, ids=named)
@pytest.mark.parametrize("op", BINARY)
def test_an_operator_says_which_operand_it_cannot_take(
    op: Callable[..., Any], thing: Any, graph: tuple[Any, ...]
) -> None:
    x, _, out = graph
    message = rf"{op.__name__} cannot take .*\({named(thing)}\); pass a real number"
    calls = [lambda: op(x, thing), lambda: op(out, thing)]
    if op is not operator.mod or not isinstance(thing, (str, bytes)):  # for which % is formatting
        calls.append(lambda: op(thing, x))
    for call in calls:
        with pytest.raises(TypeError, match=message):
            call()


def test_a_number_of_another_kind_is_refused_as_floats_refuse_it(graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for \+: 'Value' and 'decimal.Decimal'"):
        x + decimal.Decimal(1)
    for operate in (lambda: x @ x, lambda: ~x, lambda: x & 1, lambda: x << 1):
        with pytest.raises(TypeError, match="'Value'"):
            operate()


@pytest.mark.parametrize("thing", [*NO_NUMBERS, *ARRAYS], ids=named)
def test_a_row_says_which_argument_it_cannot_take(thing: Any, graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    message = rf"cannot take .*\({named(thing)}\); pass a real number"
    for call in (lambda: mg.relu(thing), lambda: mg.maximum(x, thing), lambda: mg.where(thing, x, 1.0),
                 lambda: x.hypot(thing), lambda: x.clip(0.0, thing), lambda: ops.fsum(1.0, x, thing)):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize("thing", ["a", None, 1j, [1.0], (1.0,), {}], ids=named)
@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
def test_a_comparison_names_both_kinds(compare: Callable[..., Any], thing: Any, graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    with pytest.raises(TypeError, match=rf"not supported between instances of 'Value' and '{named(thing)}'"):
        compare(x, thing)
    with pytest.raises(TypeError, match=rf"not supported between instances of '{named(thing)}' and 'Value'"):
        compare(thing, x)


# --- arity, names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in ops.TABLE.values() if op.arity is not None], ids=lambda op: op.name)
def test_a_row_counts_its_arguments(op: Op, graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    assert op.arity is not None
    fewest = op.arity - len(op.defaults)
    for count in (0, fewest - 1, op.arity + 1):
        takes = rf"{op.name} takes {op.arity} arguments? \({', '.join(op.parameters)}\), not {count}"
        with pytest.raises(TypeError, match=takes):
            op(*[x] * count)
        with pytest.raises(TypeError, match=takes):
            op(*[0.5] * count)
    with pytest.raises(TypeError, match=rf"{op.name}\b.* takes "):
        getattr(x, op.name)(*[x] * op.arity)  # one too many: the Value itself is the first


def test_what_is_not_there_is_named(graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    with pytest.raises(AttributeError, match="'Value' object has no attribute 'tahn'"):
        x.tahn()
    with pytest.raises(AttributeError, match="'Value' object has no attribute 'gard'"):
        x.gard += 1.0


# --- outside the domain -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (
            ValueError,
            lambda x, y: y**0.5,
            r"pow\(y=-3.0, 0.5\): a negative base .* no real power; take abs\(x\), or cbrt",
        ),
        (ValueError, lambda x, y: y ** y.reciprocal(), r"pow\(y=-3.0, -0.3333333333333333\): a negative base"),
        (ValueError, lambda x, y: (-8.0) ** (x / 6), r"pow\(-8.0, 0.3333333333333333\): a negative base"),
        (ValueError, lambda x, y: y.log(), r"log\(y=-3.0\): math domain error"),
        (ValueError, lambda x, y: mg.math.sqrt(x * y), r"sqrt\(-6.0\): math domain error"),
        (ValueError, lambda x, y: x.acos(), r"acos\(x=2.0\): math domain error"),
        (ZeroDivisionError, lambda x, y: y / 0, r"truediv\(y=-3.0, 0.0\): float division by zero"),
        (ZeroDivisionError, lambda x, y: 1 / (x - 2), r"truediv\(1.0, 0.0\): float division by zero"),
        (ZeroDivisionError, lambda x, y: x // (x - x), r"floordiv\(x=2.0, 0.0\): "),
        (ZeroDivisionError, lambda x, y: x % 0, r"mod\(x=2.0, 0.0\): "),
        (ZeroDivisionError, lambda x, y: divmod(x, 0), r"floordiv\(x=2.0, 0.0\): "),
        (ZeroDivisionError, lambda x, y: (x - 2) ** y, r"pow\(0.0, y=-3.0\): 0.0 cannot be raised to a negative power"),
        (OverflowError, lambda x, y: (x * 400).exp(), r"exp\(800.0\): math range error"),
        (OverflowError, lambda x, y: x**1e6, r"pow\(x=2.0, 1000000.0\): Numerical result out of range"),
    ],
)
def test_an_error_of_arithmetic_names_the_operation_and_its_operands(
    error: type[Exception], call: Callable[..., Any], message: str, graph: tuple[Any, ...]
) -> None:
    x, y, _ = graph
    with pytest.raises(error, match=message):
        call(x, y)


# --- readings -----------------------------------------------------------------------------------------------------


def test_float_refuses_and_says_what_to_do_instead(graph: tuple[Any, ...]) -> None:
    x, _, out = graph
    advice = r"float\(\) of a Value would drop its gradient; take \.data, or functions of micrograd_bp\.math"
    for read in (float, complex, math.exp, math.isnan, lambda v: math.fsum([v]), lambda v: math.hypot(v, 1.0),
                 np.float64, lambda v: np.array([v]).astype(float)):  # fmt: skip
        for value in (x, out):
            with pytest.raises(TypeError, match=advice):
                read(value)


def test_a_value_is_no_index_no_sequence_and_no_function(graph: tuple[Any, ...]) -> None:
    x, _, _ = graph
    for use in (lambda: [1, 2, 3][x], lambda: range(x), lambda: "a" * x, lambda: x[0], lambda: len(x), lambda: [*x],
                lambda: x(), lambda: math.gcd(x, 2), lambda: mg.math.gcd(x, 2)):  # fmt: skip
        with pytest.raises(TypeError, match=r"Value|mul"):
            use()


def test_rounding_refuses_what_it_refuses_for_floats(graph: tuple[Any, ...]) -> None:
    x, y, _ = graph
    digits: Any
    for digits in ("a", 1.5, y):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            round(x, digits)
    for read in (int, round, math.floor, math.ceil, math.trunc):
        with pytest.raises(ValueError, match="cannot convert float NaN to integer"):
            read(x * math.nan)
        with pytest.raises(OverflowError, match="cannot convert float infinity to integer"):
            read(x * math.inf)
    with pytest.raises(ValueError, match="Unknown format code 'd' for object of type 'float'"):
        f"{x:d}"


# --- differentiating ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ["a", None, 1j, [1.0], np.array([1.0]), Value(1.0)], ids=named)
def test_a_seed_is_a_number(seed: Any, graph: tuple[Any, ...]) -> None:
    _, _, out = graph
    with pytest.raises(TypeError, match=rf"backward cannot take .*\({named(seed)}\); "):
        out.backward(seed)


def test_gradients_are_of_values_by_values(graph: tuple[Any, ...]) -> None:
    x, _, out = graph
    for arguments in ((1.0, [x]), (out, x), (out, [x, 1.0]), ([out], [x]), (out, ["x"])):
        with pytest.raises(TypeError, match="gradients takes a Value and a sequence of Values, not "):
            mg.gradients(*arguments)
    nothing: Any = None
    with pytest.raises(TypeError, match="iterable"):
        mg.gradients(out, nothing)


def test_a_graph_whose_data_was_changed_is_not_differentiated_wrongly() -> None:
    x, _, out = program()
    x.data = 5.0
    before = state(out)
    with pytest.raises(
        ValueError, match=r"data of an operand of Value\(.*\) \(\w+\) was changed after recording; record"
    ):
        mg.gradients(out, [x])
    assert state(out) == before


# --- a user's own row -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "rule", "error", "message"),
    [
        (lambda x: "a", lambda out, x: (1.0,), TypeError, r"mine cannot take 'a' \(str\)"),
        (lambda x: None, lambda out, x: (1.0,), TypeError, r"mine cannot take None \(NoneType\)"),
        (lambda x: x, lambda out, x: (1j,), TypeError, r"mine cannot take 1j \(complex\)"),
        (lambda x: x, lambda out, x: (1.0, 2.0), TypeError, r"mine: its rule gives \(1.0, 2.0\); it must give a tuple"),
        (
            lambda x: x,
            lambda out, x: 1.0,
            TypeError,
            r"mine: its rule gives 1.0; it must give a tuple, one partial per",
        ),
        (lambda x: x, lambda out, x: None, TypeError, "mine: its rule gives None; it must give a tuple"),
        (lambda x: 1 / 0, lambda out, x: (1.0,), ZeroDivisionError, r"mine\(x=2.0\): division by zero"),
        (lambda x: x, lambda out, x: (1 / 0,), ZeroDivisionError, r"mine\(x=2.0\): division by zero"),
    ],
)
def test_a_row_that_is_wrong_is_found_out_when_it_is_used(
    forward: Callable[..., Any],
    rule: Callable[..., Any],
    error: type[Exception],
    message: str,
    graph: tuple[Any, ...],
) -> None:
    x, _, _ = graph
    with pytest.raises(error, match=message):
        Op("mine", "mine", forward, rule)(x)


def test_an_unforeseen_exception_passes_with_a_note(graph: tuple[Any, ...]) -> None:
    x, _, _ = graph

    class UnforeseenError(Exception):
        pass

    def forward(x: float) -> float:
        raise UnforeseenError

    with pytest.raises(UnforeseenError) as caught:
        Op("mine", "mine", forward, lambda out, x: (1.0,))(x)
    assert caught.value.__notes__ == ["raised by mine(x=2.0)"]


def test_what_failed_can_be_mended_and_run_again() -> None:
    x = Value(0.0, "x")
    with pytest.raises(ZeroDivisionError):
        1 / x
    x.data = 4.0
    (1 / x).backward()
    assert x.grad == -0.0625
    assert pickle.loads(pickle.dumps(x)).grad == copy.copy(x).grad == -0.0625

"""C sources: compiled as strict C99 without a warning, they are the eager engine's values and gradients."""

import ctypes
import math
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Op, Value, losses, nn, ops
from micrograd_bp import cli as command
from micrograd_bp.compiler import array_c, array_parts, c99
from tests.compiler.test_arrays import GRAPHS, eager, recorded

STRICT = ["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-Wshadow"]
REALS = {"double": ctypes.c_double, "float": ctypes.c_float}


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Any]:
    """A function of the source and the type of its numbers: calls of its functions, with lists for arrays."""

    def build(source: str, real: str = "double", flags: list[str] | tuple[Any, ...] = ("-O1",)) -> Callable[..., Any]:
        path, library = tmp_path / "source.c", tmp_path / f"lib{len(list(tmp_path.iterdir()))}.so"
        path.write_text(source)
        done = subprocess.run(
            [*STRICT, *flags, "-shared", "-fPIC", "-o", library, path, "-lm"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        loaded, kind = ctypes.CDLL(str(library)), REALS[real]

        def call(name: str, *given: list[Any], sizes: Any = ()) -> tuple[Any, ...]:
            """The result, then what the function wrote into its last arrays, of these sizes."""
            written = [(kind * size)() for size in sizes]
            function = getattr(loaded, name)
            function.restype = kind if re.search(rf"^{real} {name}\(", source, re.M) else None
            result = function(*[(kind * len(numbers))(*numbers) for numbers in given], *written)
            return result, *map(list, written)

        return call

    return build


def network(*sizes: Any, activation: str = "tanh") -> tuple[Any, ...]:
    rng = random.Random(1)
    model = nn.MLP(sizes[0], sizes[1:], activation=activation, init="xavier_uniform", rng=rng)
    inputs = [Value(rng.uniform(-1, 1), f"x{k}") for k in range(sizes[0])]
    return model, inputs, rng


def test_value_and_gradient_of_a_loss_are_the_eager_ones(compiled: Callable[..., Any]) -> None:
    """One translation unit of plain C: to the bit, but for 4 ulp of the mathematical functions, which tests allow."""
    model, inputs, rng = network(3, 5, 2)
    loss = losses.mse(model(inputs), [0.25, -0.5])
    call = compiled(mg.kernel(loss, inputs, model.parameters()).source("c"))
    for _ in range(5):
        row = [rng.uniform(-2, 2) for _ in inputs]
        weights = [rng.gauss(0, 1) for _ in model.parameters()]
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.data = weight
        model.zero_grad()
        eager = losses.mse(model(row), [0.25, -0.5])
        eager.backward()
        value, gradient = call("kernel_value_and_grad", row, weights, sizes=[len(weights)])
        assert value == pytest.approx(eager.data, rel=1e-14)
        assert gradient == pytest.approx([p.grad for p in model.parameters()], rel=1e-12, abs=1e-15)
        assert call("kernel_value", row, weights) == (value,)


def test_single_precision(compiled: Callable[..., Any]) -> None:
    """Everything is a float: -Wdouble-promotion finds no double. The value is the eager one to single precision."""
    model, inputs, _ = network(3, 5, 2)
    loss = losses.cross_entropy(model(inputs), 1)
    loss.backward()
    source = mg.kernel(loss, inputs, model.parameters()).source("c", name="net", real="float")
    assert "double" not in source
    weights = [p.data for p in model.parameters()]
    value, gradient = compiled(source, "float")(
        "net_value_and_grad", [x.data for x in inputs], weights, sizes=[len(weights)]
    )
    assert value == pytest.approx(loss.data, rel=1e-6)
    assert gradient == pytest.approx([p.grad for p in model.parameters()], rel=1e-4, abs=1e-6)


def test_several_outputs_are_pulled_back_by_any_cotangent(compiled: Callable[..., Any]) -> None:
    model, inputs, rng = network(2, 4, 3)
    outputs, parameters = model(inputs), model.parameters()
    call = compiled(mg.kernel(outputs, inputs, parameters).source("c"))
    row, weights = [x.data for x in inputs], [p.data for p in parameters]
    assert call("kernel_value", row, weights, sizes=[3])[1] == pytest.approx([y.data for y in outputs], rel=1e-14)
    for cotangent in ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [rng.gauss(0, 1) for _ in range(3)]):
        model.zero_grad()
        for y, c in zip(outputs, cotangent, strict=True):
            y.backward(c)
        _, out, gradient = call("kernel_value_and_vjp", row, weights, cotangent, sizes=[3, len(weights)])
        assert out == pytest.approx([y.data for y in outputs], rel=1e-14)
        assert gradient == pytest.approx([p.grad for p in parameters], rel=1e-12, abs=1e-15)


# --- every row of the table -------------------------------------------------------------------------------------------

ROWS = list(ops.TABLE.values())


def point(op: Op, rng: random.Random) -> list[float]:
    """Somewhere in the row's domain."""
    count = op.arity or 4
    bounds = [op.domain[min(k, len(op.domain) - 1)] for k in range(count)]
    if op is ops.polygamma:
        return [float(rng.randrange(4)), rng.uniform(0.1, 30.0)]
    if op in (ops.gamma, ops.lgamma, ops.digamma):
        return [rng.choice([rng.uniform(-19.9, 30.0), rng.uniform(-300.0, -20.1) if op is ops.digamma else 2.5])]
    return [
        rng.choice([-1.0, 0.0, 0.5, 1.0, 2.0]) if rng.random() < 0.1 else rng.uniform(max(low, -20.0), min(high, 20.0))
        for low, high in bounds
    ]


def close(got: float, want: float) -> bool:
    return got == want or (got != got and want != want) or abs(got - want) <= 1e-11 * max(abs(want), 1e-3)


def derived(op: Op, row: list[float], order: int) -> tuple[list[Value], list[Value]] | None:
    """The row's value at a point, or its derivatives; None where the eager engine raises."""
    own = [Value(x) for x in row]
    try:
        value = op(*own)
        outputs = mg.gradients(value, own[op is ops.polygamma :]) if order else [value]  # none by polygamma's order
    except (ArithmeticError, ValueError):
        return None
    return own, outputs


@pytest.mark.parametrize("order", [0, 1])
def test_every_row_of_the_table(compiled: Callable[..., Any], order: int) -> None:
    """All rows in one file, each with inputs of its own; or all their derivatives."""
    rng = random.Random(3)
    made = [next(filter(None, (derived(op, point(op, rng), order) for _ in range(100)))) for op in ROWS]
    inputs = [x for own, _ in made for x in own]
    outputs = [y.pos() for _, outputs in made for y in outputs]
    kernel = mg.kernel(outputs, inputs)
    call, rest = compiled(kernel.source("c"), flags=["-O0"]), [x.data for x in kernel.leaves]  # derivatives of 1, say
    seen = dict.fromkeys(ROWS, 0)
    for _ in range(60):
        rows = [point(op, rng) for op in ROWS]
        found = iter(call("kernel_value", [x for row in rows for x in row], rest, sizes=[len(outputs)])[1])
        for op, row, (_, slots) in zip(ROWS, rows, made, strict=True):
            got = [next(found) for _ in slots]
            eager = derived(op, row, order)
            if eager is not None:  # where it raises, C has what IEEE 754 says
                want = [y.data for y in eager[1]]
                assert all(map(close, got, want)), (op, row, got, want)
                seen[op] += 1
    assert min(seen.values()) > 10, seen


def test_where_eager_raises_c_is_not_finite(compiled: Callable[..., Any]) -> None:
    x = Value(2.0)
    call = compiled(mg.kernel([x.log(), 1.0 / x, x.sqrt(), x.exp(), x**-1.5], [x]).source("c"))
    _, out = call("kernel_value", [-1.0], [0.0], sizes=[5])
    assert math.isnan(out[0])
    assert math.isnan(out[2])
    assert math.isnan(out[4])
    assert call("kernel_value", [0.0], [0.0], sizes=[5])[1][1] == math.inf
    assert call("kernel_value", [1000.0], [0.0], sizes=[5])[1][3] == math.inf


def test_an_adjoint_of_zero_passes_nothing_on(compiled: Callable[..., Any]) -> None:
    """0 * inf is 0 in the chain rule: relu is flat where sqrt is infinitely steep."""
    w, v = Value(0.0), Value(2.0)
    graph = mg.kernel((-w.sqrt()).relu() * v.tanh(), [], [w, v])
    assert compiled(graph.source("c"))("kernel_value_and_grad", [], [0.0, 2.0], sizes=[2]) == (0.0, [0.0, 0.0])


@pytest.mark.parametrize("real", ["double", "float"])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("piece", [1, 7, 50])
def test_a_program_cut_into_functions_is_the_program(
    compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, piece: int, single: bool, real: str
) -> None:
    """To the bit, gradients too, however short the pieces; and no function is longer than they are to be."""
    model, inputs, rng = network(3, 6, 2)
    outputs = model(inputs)
    kernel = mg.kernel(losses.mse(outputs, [0.25, -0.5]) if single else outputs, inputs, model.parameters())
    whole = kernel.source("c", real=real)
    monkeypatch.setattr(c99, "PIECE", piece)
    cut = kernel.source("c", real=real)
    bodies = re.findall(r"^static void kernel_value_and_\w+\([^)]*\)\n\{\n(.*?)^\}", cut, re.M | re.S)
    assert max(len(re.findall(rf"^    const {real} t", body, re.M)) for body in bodies) == piece
    calls = [compiled(source, real) for source in (whole, cut)]
    for _ in range(3):
        row = [rng.gauss(0, 1) for _ in inputs], [rng.gauss(0, 1) for _ in model.parameters()]
        if single:
            found = [call("kernel_value_and_grad", *row, sizes=[len(row[1])]) for call in calls]
        else:
            found = [call("kernel_value_and_vjp", *row, [0.5, -2.0], sizes=[2, len(row[1])]) for call in calls]
            assert calls[1]("kernel_value", *row, sizes=[2])[1] == found[0][1]
        assert found[0] == found[1]


def test_a_result_may_overwrite_what_is_read(compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are written last, by a program in pieces too: x = f(x) in place."""
    x, y = Value(2.0), Value(3.0)
    kernel = mg.kernel([x * y + 1.0, x - y * y], [x, y])
    monkeypatch.setattr(c99, "PIECE", 1)
    source = kernel.source("c") + "void in_place(double *x)\n{\n    kernel_value(x, x, x);\n}\n"
    source = source.replace("void in_place", "void in_place(double *x);\nvoid in_place")
    assert compiled(source)("in_place", sizes=[2])[1] == [1.0, 0.0]


@pytest.mark.parametrize("order", [0, 1, 2, 5, 20, 100, 169])
def test_polygamma_of_any_order_below_0_too(compiled: Callable[..., Any], order: int) -> None:
    x, n = Value(2.5), Value(float(order))
    call = compiled(mg.kernel(ops.polygamma(n, x), [n, x]).source("c"))
    rng = random.Random(order)
    for at in (-1.5, -0.25, 0.75, 3.5, -200.5, -40.125, -1e6 - 0.5, *(rng.uniform(-300.0, 300.0) for _ in range(40))):
        try:
            want = ops.polygamma(float(order), at)
        except OverflowError:
            want = math.inf
        (got,) = call("kernel_value", [float(order), at], [])
        assert got == pytest.approx(want, rel=1e-11, abs=1e-13 * (order == 0) + 1e-300) or abs(got) == abs(want), at


def test_the_derivative_of_digamma_ends_everywhere(compiled: Callable[..., Any]) -> None:
    x = Value(0.5)
    call = compiled(mg.kernel(mg.gradients(ops.digamma(x), [x]), [x]).source("c"))
    for at in (-1e16, -1e300, -(2.0**53) + 1.0, 0.0):  # poles: Python raises
        assert not math.isfinite(call("kernel_value", [at], [0.0], sizes=[1])[1][0])
    for at in (-1e15 - 0.5, -1e9 - 0.25, 1e300):
        assert call("kernel_value", [at], [0.0], sizes=[1])[1][0] == pytest.approx(ops.polygamma(1.0, at))


# --- odd graphs -------------------------------------------------------------------------------------------------------


def test_graphs_without_inputs_or_parameters_or_operations(compiled: Callable[..., Any]) -> None:
    x, w = Value(2.0), Value(3.0)
    assert compiled(mg.kernel(w * w, [], [w]).source("c"))("kernel_value_and_grad", [], [4.0], sizes=[1]) == (
        16.0,
        [8.0],
    )
    assert compiled(mg.kernel(x * x, [x]).source("c"))("kernel_value", [4.0], []) == (16.0,)
    assert compiled(mg.kernel(x, [x], [w]).source("c"))("kernel_value_and_grad", [4.0], [1.0], sizes=[1]) == (
        4.0,
        [0.0],
    )


@pytest.mark.parametrize("real", ["double", "float"])
def test_numbers_that_c_writes_otherwise(compiled: Callable[..., Any], real: str) -> None:
    x = Value(1.0)
    numbers = [math.inf, -math.inf, math.nan, 1e300, -5e-324, -0.0, 1e22, 0.1, 3.0, -2.5]
    terms = [ops.where(x, c, 1.0) for c in numbers]
    _, out = compiled(mg.kernel(terms, [x]).source("c", real=real), real)("kernel_value", [1.0], [], sizes=[10])
    wanted = [float(REALS[real](c).value) for c in numbers]
    assert str(out) == str(wanted)


@settings(max_examples=25)
@given(st.text(max_size=30))
def test_no_label_ends_its_comment(label: str) -> None:
    """A label cannot turn into code: the comments removed, the source is that of any other label."""
    x, w = Value(1.0, label), Value(2.0, label)
    plain, shown = (
        re.sub(r"/\*.*?\*/", "", mg.kernel(a * b, [a], [b]).source("c"), flags=re.S)
        for a, b in ((Value(1.0), Value(2.0)), (x, w))
    )
    assert shown == plain
    assert mg.kernel(x * w, [x], [w]).source("c").isascii()


def test_what_cannot_be_written() -> None:
    x = Value(1.0)
    own = mg.Op("bessel", "J", lambda x: float(round(x)), lambda out, x: (1.0,))
    for graph, options, message in (
        (own(x), {}, "there is no C for bessel: give its Op native="),
        (x * x, {"name": "a b"}, "'a b', which is no identifier of C"),
        (x * x, {"name": "while"}, "'while', which is no identifier of C"),
        (x * x, {"real": "half"}, 'real is "double" or "float", not \'half\''),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            mg.kernel(graph, [x]).source("c", **options)
    with pytest.raises(ValueError, match='source is "python", "llvm" or "c", not \'go\''):
        mg.kernel(x * x, [x]).source("go")


def test_a_row_of_ones_own_is_lowered_by_its_rule(compiled: Callable[..., Any]) -> None:
    softsign = mg.Op("softsign", "softsign", lambda x: x / (1 + abs(x)), lambda out, x: ((1 - abs(out)) ** 2,))
    w = Value(1.5)
    call = compiled(mg.kernel(softsign(w), [], [w]).source("c"))
    assert call("kernel_value_and_grad", [], [-3.0], sizes=[1]) == (-0.75, [0.0625])


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are written whatever their size."""
    monkeypatch.setattr(array_parts, "SMALL", 0)
    monkeypatch.setattr(array_parts, "MEMBERS", 1e-3)


@pytest.mark.parametrize("name", GRAPHS)
def test_arrays_are_loops(compiled: Callable[..., Any], small: None, name: str) -> None:
    """Value and gradient, to the accuracy of arrays: sums are taken in another order."""
    pytest.importorskip("numpy")
    f, inputs, parameters, output = recorded(GRAPHS[name])
    source = mg.kernel(output, inputs, parameters).source("c")
    assert "for (int i = 0; i < " in source
    call, weights, rng = compiled(source), [p.data for p in parameters], random.Random(0)
    for _ in range(3):
        row = [rng.gauss(0.0, 1.0) for _ in inputs]
        want, slopes = eager(f, row, parameters)
        value, gradient = call("kernel_value_and_grad", row, weights, sizes=[len(weights)])
        assert value == pytest.approx(want, rel=1e-12, abs=1e-13)
        assert gradient == pytest.approx(slopes, rel=1e-10, abs=1e-12)
        assert call("kernel_value", row, weights) == (value,)


@pytest.mark.parametrize("real", ["double", "float"])
def test_several_outputs_of_arrays_are_pulled_back(compiled: Callable[..., Any], real: str) -> None:
    """The C of a network 64-32-10 is a page, beside its parameters."""
    pytest.importorskip("numpy")
    model, inputs, rng = network(64, 32, 10)
    outputs, parameters = model(inputs), model.parameters()
    source = mg.kernel(outputs, inputs, parameters).source("c", real=real)
    assert source.partition("\n};\n")[2].count("\n") < 120
    call = compiled(source, real)
    row, weights = [rng.gauss(0.0, 1.0) for _ in inputs], [p.data for p in parameters]
    cotangent = [rng.gauss(0.0, 1.0) for _ in outputs]
    for y, c in zip(model(row), cotangent, strict=True):
        y.backward(c)
    _, out, gradient = call("kernel_value_and_vjp", row, weights, cotangent, sizes=[10, len(weights)])
    accuracy = 1e-12 if real == "double" else 1e-4
    assert out == pytest.approx([y.data for y in model(row)], rel=accuracy, abs=accuracy)
    assert gradient == pytest.approx([p.grad for p in parameters], rel=accuracy, abs=accuracy)


@pytest.mark.parametrize("name", ["dense tanh", "attention", "recurrent", "odd_reads"])
def test_many_arrays_are_cut_into_functions(
    compiled: Callable[..., Any], small: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To the bit: they leave arrays, and those of one member too, for each other in the workspace."""
    pytest.importorskip("numpy")
    _, inputs, parameters, output = recorded(GRAPHS[name])
    kernel = mg.kernel(output, inputs, parameters)
    whole = kernel.source("c")
    monkeypatch.setattr(array_c, "MANY", 0)
    monkeypatch.setattr(array_c, "PIECE", 10)
    cut = kernel.source("c")
    assert "static void kernel_value_and_grad_3(" in cut
    data = [x.data for x in inputs], [p.data for p in parameters]
    calls = [compiled(source, flags=["-O0"]) for source in (whole, cut)]
    found = [call("kernel_value_and_grad", *data, sizes=[len(parameters)]) for call in calls]
    assert found[0] == found[1]
    assert calls[1]("kernel_value", *data) == found[0][:1]


def test_leaves_that_are_no_parameters_get_no_slope(compiled: Callable[..., Any], small: None) -> None:
    pytest.importorskip("numpy")
    inputs, held, parameters = [[Value(0.1 * k - 0.3) for k in range(8)] for _ in range(3)]
    output: Any = sum((a * b + c).tanh() for a, b, c in zip(inputs, parameters + held, held + parameters[::-1]))
    source = mg.kernel(output, inputs, parameters[:5]).source("c")
    output.backward()
    rest = mg.kernel(output, inputs, parameters[:5]).leaves
    _, gradient = compiled(source)(
        "kernel_value_and_grad", [x.data for x in inputs], [x.data for x in rest], sizes=[len(rest)]
    )
    assert gradient[:5] == pytest.approx([p.grad for p in parameters[:5]], rel=1e-12)
    assert gradient[5:] == [0.0] * len(gradient[5:])


def test_arrays_hold_the_rules_at_special_points(compiled: Callable[..., Any], small: None) -> None:
    """0 * inf is 0 in the chain rule, and an op without C is named."""
    pytest.importorskip("numpy")
    x, w = Value(1.0), Value(2.0)
    source = mg.kernel((x * w).sqrt() * 0.0 + w * 3.0, [x], [w]).source("c")
    assert "chain(" in source
    assert compiled(source)("kernel_value_and_grad", [0.0], [2.0], sizes=[1])[1] == [3.0]
    own = mg.Op("bessel", "J", lambda x: float(round(x)), lambda out, x: (1.0,))
    with pytest.raises(ValueError, match="there is no C for bessel"):
        mg.kernel(own(x), [x]).source("c")


def test_exact_c_keeps_the_order_of_the_graph(compiled: Callable[..., Any], small: None) -> None:
    pytest.importorskip("numpy")
    model, inputs, rng = network(12, 8, 1)
    call = compiled(mg.kernel(model(inputs), inputs, exact=True).source("c"), flags=["-O1", "-ffp-contract=off"])
    for _ in range(5):
        row = [rng.gauss(0.0, 1.0) for _ in inputs]
        leaves = [x.data for x in mg.kernel(model(inputs), inputs).leaves]
        assert call("kernel_value", row, leaves)[0] == pytest.approx(model(row).data, rel=4e-16)


# --- the command ------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return command.main([str(argument) for argument in arguments]), *capsys.readouterr()


@pytest.mark.parametrize("real", ["double", "float"])
def test_export_writes_a_saved_model(
    compiled: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, real: str
) -> None:
    """The model of the main job: raw measurements in, logits out."""
    scaling = nn.Standardize([5.0, 3.0], [2.0, 0.5])
    model = nn.Sequential(scaling, nn.MLP(2, [3, 2], activation="relu", rng=random.Random(0)))
    path, out = tmp_path / "my model.json", tmp_path / "my model.c"
    model.save(path)
    code, said, _ = run(capsys, "export", path, *(["--float"] if real == "float" else []))
    assert code == 0
    first, last = said.splitlines()
    files = f"{out}, {tmp_path / 'my_model.h'}"
    assert first == f"{files}: C99 and C++, 2 inputs; the first lines of the former say how to call it"
    measured = re.fullmatch(r"\d+ bytes of code and constants \(\S+ -Os\); 16 rows: .* is (\S+) of max\(.*", last)
    assert measured
    assert float(measured[1]) < (1e-14 if real == "double" else 1e-5)
    source = out.read_text()
    assert "my model.json, Sequential(Standardize([5.0, 3.0], [2.0, 0.5]), MLP of [Layer of [ReLUNeuron(2)" in source
    weights = [p.data for p in model.parameters()]
    _, logits = compiled(source, real)("my_model_value", [6.0, 2.0], weights, sizes=[2])
    assert logits == pytest.approx(model.freeze()([6.0, 2.0]), rel=1e-12 if real == "double" else 1e-5)


def test_export_of_a_neuron_returns_its_value(
    compiled: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    neuron = nn.Neuron(2, activation="sigmoid", rng=random.Random(0))
    neuron.save(tmp_path / "n.json")
    assert run(capsys, "export", tmp_path / "n.json", "-o", tmp_path / "unit.c", "--name", "unit")[0] == 0
    value, gradient = compiled((tmp_path / "unit.c").read_text())(
        "unit_value_and_grad", [1.0, 2.0], [p.data for p in neuron.parameters()], sizes=[3]
    )
    out = neuron([1.0, 2.0])
    out.backward()
    assert value == pytest.approx(out.data, rel=1e-14)
    assert gradient == pytest.approx([p.grad for p in neuron.parameters()], rel=1e-12)


def test_export_says_what_is_wrong_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nn.RNNCell(1, 2).save(tmp_path / "cell.json")
    nn.Neuron(1).save(tmp_path / "n.json")
    for arguments, message in (
        (["export", tmp_path / "none.json"], "No such file"),
        (["export", tmp_path / "cell.json"], "RNNCell(1, 2) is no function of a row of numbers"),
        (["export", tmp_path / "n.json", "--name", "9"], "'9', which is no identifier of C"),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.c"))

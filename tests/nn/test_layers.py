"""Layers under PyTorch's names give PyTorch's numbers, eager, frozen, compiled, saved and in C.

The numbers are in fixtures/torch_layers.json, written by make_torch_layers.py beside it.
"""

import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Value, losses, nn, optim, training

TORCH = json.loads((Path(__file__).parents[1] / "fixtures" / "torch_layers.json").read_text())
MAKE = {
    "Linear": lambda: nn.Linear(3, 4),
    "Linear without bias": lambda: nn.Linear(3, 2, bias=False),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "LayerNorm, another eps": lambda: nn.LayerNorm(4, eps=0.5),
    "ReLU": nn.ReLU,
    "Tanh": nn.Tanh,
    "Sigmoid": nn.Sigmoid,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Softmax": nn.Softmax,
    "Dropout in evaluation": lambda: nn.Dropout(0.3).eval(),
    "Sequential": lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 2), nn.Softmax()),
}


def flat(tree: Any) -> list[float]:
    return [x for part in tree for x in flat(part)] if isinstance(tree, list) else [tree]


def made(name: str) -> tuple[Any, ...]:
    """The layer with PyTorch's parameters: their names are PyTorch's, followed by indices."""
    layer, known = MAKE[name](), TORCH["layers"][name]
    state: dict[str, Any] = {}
    for key, tensor in known["state_dict"].items():
        prefix = f"parts.{key}" if name == "Sequential" else key
        rows = [(f"{i}", row) for i, row in enumerate(tensor)]
        for i, row in rows:
            cells = enumerate(row) if isinstance(row, list) else [(None, row)]
            state |= {f"{prefix}.{i}" + (f".{k}" if k is not None else ""): x for k, x in cells}
    layer.load_state_dict(state)
    return layer, known


def near(x: list[float]) -> Any:
    return pytest.approx(x, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", MAKE)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    layer, known = made(name)
    x = [Value(number) for number in known["x"]]
    out = layer.forward(x)
    assert [mg.Value.item(y) if isinstance(y, Value) else y for y in out] == near(known["out"])
    sum(y * c for y, c in zip(out, known["cotangent"], strict=True)).backward()
    assert [xi.grad for xi in x] == near(known["by x"])
    slopes = [slope for tensor in known["by parameters"].values() for slope in flat(tensor)]
    assert [p.grad for p in layer.parameters()] == near(slopes)


@pytest.mark.parametrize("name", MAKE)
def test_frozen_compiled_saved_and_exported_it_is_the_same(name: str, tmp_path: Path) -> None:
    layer, known = made(name)
    frozen = layer.freeze().forward(known["x"])
    assert frozen == near(known["out"])
    assert all(type(y) is float for y in frozen)
    compiled = mg.jit(lambda x: [y + 0.0 for y in layer.forward(x)])
    for shift in (0.0, 0.25):
        x = [number + shift for number in known["x"]]
        outputs = [y.data if isinstance(y, Value) else y for y in compiled(x)]
        assert outputs == near([y.data if isinstance(y, Value) else y for y in layer.freeze().forward(x)])
    model = nn.Sequential(layer, nn.Linear(len(known["out"]), 2, rng=random.Random(0))).eval()
    model.save(tmp_path / "model.json")
    again = nn.load(tmp_path / "model.json")
    assert repr(again) == repr(model)
    assert again.freeze()(known["x"]) == model.freeze()(known["x"])
    other = nn.Sequential(MAKE[name](), nn.Linear(len(known["out"]), 2))
    other.load(tmp_path / "model.json")
    assert other.freeze()(known["x"]) == model.freeze()(known["x"])
    inputs = [Value(number) for number in known["x"]]
    files = mg.kernel(model(inputs), inputs, model.parameters()).c_files("net", rows=[known["x"], [1.0] * len(inputs)])
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    subprocess.run(["cc", "-std=c99", "-DNET_MAIN", "net.c", "-o", "test", "-lm"], cwd=tmp_path, check=True)
    subprocess.run(["./test"], cwd=tmp_path, check=True, capture_output=True)


def test_an_embedding_is_pytorchs(tmp_path: Path) -> None:
    known = TORCH["embedding"]
    layer = nn.Embedding(5, 3)
    layer.load_state_dict({f"weight.{i}.{k}": x for i, row in enumerate(known["weight"]) for k, x in enumerate(row)})
    out = layer(known["indices"])
    assert [[y.data for y in row] for row in out] == known["out"]
    sum(
        y * c for row, weights in zip(out, known["cotangent"], strict=True) for y, c in zip(row, weights, strict=True)
    ).backward()
    assert [p.grad for p in layer.parameters()] == near(flat(known["by weight"]))
    assert layer(1) is layer.weight[1]
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(6, 1, rng=random.Random(0)))
    model.save(tmp_path / "model.json")
    again = nn.load(tmp_path / "model.json")
    compiled = mg.jit(lambda x: model(x) + 0.0)
    for pair in ([4, 1], [0, 2], [4.0, 1.0], [4, 1]):
        assert again.freeze()(pair) == model.freeze()(pair) == model(pair).data == compiled(pair).data
    for wrong in (5, -1, 1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"Embedding\(5, 3\) has the numbers 0 to 4, not"):
            layer(wrong)


def test_words_are_learnt_compiled_as_eager() -> None:
    """Which of three words comes first, by an embedding that starts at random: eager and compiled histories agree."""
    X, y = [[a, b] for a in range(3) for b in range(3)], [a for a in range(3) for _ in range(3)]

    def run(jit: bool) -> Any:
        rng = random.Random(1)
        model = nn.Sequential(nn.Embedding(3, 2, rng=rng), nn.Flatten(), nn.Linear(4, 3, rng=rng))
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        return training.fit(model, losses.cross_entropy, X, y, optimizer, epochs=40, batch_size=9, rng=rng, jit=jit)

    eager, compiled = run(False)["loss"], run(True)["loss"]
    assert eager[-1] < 0.2 * eager[0]
    assert compiled == pytest.approx(eager, rel=1e-8)


@pytest.mark.parametrize("name", TORCH["functions"])
def test_softmax_and_its_logarithm_are_pytorchs(name: str) -> None:
    known = TORCH["functions"][name]
    function = getattr(nn, name.split(",")[0])
    x = [Value(number) for number in known["x"]]
    out = function(x)
    assert [y.data for y in out] == pytest.approx(known["out"], rel=1e-11, abs=1e-15)
    assert function(known["x"]) == [y.data for y in out]
    sum(y * c for y, c in zip(out, known["cotangent"], strict=True)).backward()
    assert [xi.grad for xi in x] == pytest.approx(known["by x"], rel=1e-10, abs=1e-13)
    compiled = mg.jit(function)
    for row in (known["x"], known["x"][::-1], sorted(known["x"])):
        assert compiled(row) == pytest.approx(function(row), rel=1e-12, abs=1e-15)
    assert len(compiled._paths) == 1  # whichever is the largest


# --- training and evaluation ------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    layer = nn.Dropout(0.25, rng=random.Random(0))
    out = [y for _ in range(200) for y in layer.forward([3.0] * 50)]
    assert set(out) == {0.0, 4.0}
    assert out.count(0.0) / len(out) == pytest.approx(0.25, abs=0.01)
    assert sum(out) / len(out) == pytest.approx(3.0, abs=0.05)
    assert nn.Dropout(0.0).forward([1.0, 2.0]) == [1.0, 2.0]
    assert nn.Dropout(1.0).forward([1.0, 2.0]) == [0.0, 0.0]
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="Dropout: p is a probability"):
            nn.Dropout(wrong)


def dropping(rng: random.Random) -> Any:
    return nn.Sequential(nn.Linear(2, 8, rng=rng), nn.Dropout(0.5, rng=rng), nn.Linear(8, 1, rng=rng))


def test_train_and_eval_reach_every_part() -> None:
    model = dropping(random.Random(0))
    assert model.training
    assert model([1.0, 2.0]).data != model([1.0, 2.0]).data
    assert model.eval() is model
    assert [part.training for _, part in model.modules()] == [False] * 4
    assert model([1.0, 2.0]).data == model([1.0, 2.0]).data == model.freeze()([1.0, 2.0])
    model.train()
    assert model.freeze()([1.0, 2.0]) == model.eval()([1.0, 2.0]).data  # a frozen model is in evaluation
    with mg.no_grad(model.train()) as plain:
        assert plain([1.0, 2.0]) == plain([1.0, 2.0])
    assert model.training


@pytest.mark.parametrize("mode", [True, False])
def test_fit_trains_in_training_measures_in_evaluation_and_leaves_the_model_as_it_was(mode: bool) -> None:
    seen = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            self.w = Value(1.0)

        def forward(self, x: Any) -> Any:
            seen.append(self.training)
            return self.w * x[0]

    model = Spy().train(mode)
    training.fit(
        model,
        losses.mse,
        [[1.0], [2.0]],
        [1.0, 2.0],
        optim.SGD(model.parameters()),
        epochs=1,
        validation=([[1.0]], [1.0]),
    )
    assert seen == [True, True, False]
    assert model.training is mode
    with pytest.raises(ZeroDivisionError):
        training.fit(model, lambda p, t: p / 0.0, [[1.0]], [1.0], optim.SGD(model.parameters()), epochs=1)
    assert model.training is mode


def test_a_resumed_run_drops_as_the_whole_one_where_the_randomness_is_one(tmp_path: Path) -> None:
    X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.2]], [1.0, -1.0, 0.0, 0.5]

    def run(epochs: Any, **options: Any) -> dict[str, float]:
        rng = random.Random(3)
        model = dropping(rng)
        training.fit(
            model,
            losses.mse,
            X,
            y,
            optim.Adam(model.parameters(), lr=0.01),
            epochs=epochs,
            batch_size=2,
            rng=rng,
            **options,
        )
        return model.state_dict()

    whole = run(6)
    run(2, checkpoint=tmp_path / "c.json")
    assert run(6, checkpoint=tmp_path / "c.json") == whole


def test_compiled_training_of_a_model_that_drops_says_that_it_runs_eagerly(tmp_path: Path) -> None:
    rng = random.Random(3)
    options: dict[str, Any] = {"epochs": 2, "rng": rng, "jit": True}
    options["checkpoint"] = tmp_path / "run.json"  # with which it always compiles
    model = dropping(rng)
    X, y = [[0.0, 1.0], [1.0, 0.0]], [1.0, -1.0]
    with pytest.warns(RuntimeWarning, match="random numbers are drawn at .*; it runs eagerly"):
        training.fit(model, losses.mse, X, y, optim.SGD(model.parameters(), lr=0.01), **options)


def test_a_model_may_call_something_else_eval_and_modules() -> None:
    class Odd(nn.Module):
        modules: Any  # not the methods of these names
        eval: Any

        def __init__(self) -> None:
            self.modules = [nn.Linear(1, 1)]
            self.eval = 3

        def forward(self, x: Any) -> Any:
            return self.modules[0](x)

    model = Odd()
    assert model.freeze()([1.0]) == model([1.0]).data


# --- what goes nowhere back -----------------------------------------------------------------------------------------


def test_stop_gradient_is_a_constant_to_every_derivative() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * mg.stop_gradient(x * y) + mg.stop_gradient({"a": [y, 2.0]})["a"][0]

    assert f(3.0, 2.0) == 20.0
    assert mg.grad(f, argnums=(0, 1))(3.0, 2.0) == (6.0, 0.0)
    assert mg.jit(mg.grad(f, argnums=(0, 1)))(3.0, 2.0) == (6.0, 0.0)
    assert mg.jvp(f, (3.0, 2.0), (1.0, 1.0)) == (20.0, 6.0)
    assert mg.hessian(lambda p: f(*p))([3.0, 2.0]) == [[0.0, 0.0], [0.0, 0.0]]
    assert mg.stop_gradient([1.0, "a"]) == [1.0, "a"]
    x = Value(3.0)
    inner = mg.stop_gradient(x * x)
    (inner * x).backward()
    assert (x.grad, inner.data) == (9.0, 9.0)


def test_detach_is_a_leaf_and_item_is_the_number() -> None:
    x = Value(3.0, label="x")
    y = (x * x).detach()
    assert (y.data, y.op, y.operands) == (9.0, None, ())
    assert (x.detach().label, x.detach() is x) == ("x", False)
    (x * y).backward()
    assert (x.grad, y.grad) == (9.0, 3.0)
    assert (x.item(), type(x.item())) == (3.0, float)
    with pytest.warns(RuntimeWarning, match="data of a Value is read"):
        assert mg.jit(lambda x: x * x.detach())(3.0) == 9.0


def test_no_grad_takes_a_model() -> None:
    model = nn.MLP(2, [3, 1])
    with mg.no_grad(model) as plain:
        assert plain([1.0, 2.0]) == model([1.0, 2.0]).data
    for given in ((), (lambda x: x,)):
        with pytest.raises(TypeError, match=r"`with no_grad\(model\) as plain: plain\(x\)`"), mg.no_grad(*given):
            pass


# --- derivatives and something beside --------------------------------------------------------------------------------


def test_a_function_may_return_more_than_what_is_differentiated() -> None:
    def f(x: Any, y: Any) -> tuple[Any, ...]:
        return x * y, {"sum": x + y, "list": [x, 1], "name": "f"}

    aux = {"sum": 5.0, "list": [2.0, 1], "name": "f"}
    assert mg.grad(f, has_aux=True)(2.0, 3.0) == (3.0, aux)
    assert mg.value_and_grad(f, argnums=(0, 1), has_aux=True)(2.0, 3.0) == ((6.0, aux), (3.0, 2.0))
    compiled = mg.jit(mg.value_and_grad(f, has_aux=True))
    assert compiled(2.0, 3.0) == ((6.0, aux), 3.0)
    assert compiled(4.0, 3.0)[0][0] == 12.0
    # inside another derivative aux stays a Value: d/dx of (df/dx + aux) with f = x^3, aux = x^2
    inner = mg.grad(lambda x: (x**3, x * x), has_aux=True)
    assert mg.grad(lambda x: sum(inner(x)))(2.0) == 12.0 + 4.0
    with pytest.raises(TypeError, match=r"with has_aux <lambda> returns \(number, aux\), not "):
        mg.grad(lambda x: x * x, has_aux=True)(2.0)


# --- L-BFGS -----------------------------------------------------------------------------------------------------------


def test_lbfgs_ends_where_pytorchs_does() -> None:
    known = TORCH["lbfgs"]
    w = [Value(0.0) for _ in range(3)]

    def loss() -> Any:
        errors = [
            sum(wi * xi for wi, xi in zip(w, row, strict=True)) - t
            for row, t in zip(known["X"], known["y"], strict=True)
        ]
        return sum(e * e for e in errors) / len(errors) + 0.1 * sum(wi**4 for wi in w)

    history = optim.lbfgs(loss, w, tolerance=1e-14)
    assert [wi.data for wi in w] == pytest.approx(known["w"], rel=1e-6)
    assert history[-1] == pytest.approx(known["loss"], rel=1e-12)
    assert history == sorted(history, reverse=True)
    assert loss().data == history[-1]
    assert [wi.grad for wi in w] == [0.0] * 3


def test_lbfgs_leaves_the_parameters_where_it_failed_before_it_began() -> None:
    x = Value(2.0)
    with pytest.raises(FloatingPointError, match="the loss is nan at the start"):
        optim.lbfgs(lambda: x * math.nan, [x])
    calls = []

    def breaks() -> Any:
        calls.append(x.data)
        if len(calls) == 3:
            raise KeyError("here")
        return (x - 5.0) ** 4

    with pytest.raises(KeyError):
        optim.lbfgs(breaks, [x])
    assert x.data == 2.0
    number: Any = 3.0
    with pytest.raises(TypeError, match="which has no gradient"):
        optim.lbfgs(lambda: number, [x])
    with pytest.raises(ValueError, match="steps is a whole number"):
        optim.lbfgs(lambda: x * x, [x], steps=0)


# --- a summary and a log ----------------------------------------------------------------------------------------------


def test_a_summary_counts_every_parameter_once() -> None:
    model = nn.Sequential(
        nn.Standardize([0.0] * 3, [1.0] * 3), nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)
    )
    lines = [line.split() for line in model.summary().splitlines()]
    counts = [int(line[-1]) for line in lines[1:]]
    assert counts == [0, 16, 8, 0, 0, 10, 34]  # Standardize's numbers are fixed
    assert counts[-1] == len(model.parameters())
    assert lines[2] == ["parts[1]", "Linear", "3", "4", "16"]
    cell = nn.LSTMCell(2, 3).summary().splitlines()
    assert cell[-1].split() == ["LSTMCell", "2", str(len(nn.LSTMCell(2, 3).parameters()))]


@pytest.mark.parametrize("name", ["run.csv", "run.jsonl"])
def test_a_log_has_a_line_for_each_epoch(name: str, tmp_path: Path) -> None:
    X, y = [[0.0], [1.0]], [0.0, 1.0]
    path = tmp_path / name

    def run(epochs: Any, lr: Any = 0.1) -> Any:
        model = nn.Linear(1, 1, rng=random.Random(0))
        log = training.Log(path)
        options: dict[str, Any] = {"validation": (X, y), "metrics": {"r2": training.r2}}
        return training.fit(
            model,
            losses.mse,
            X,
            y,
            optim.SGD(model.parameters(), lr=lr),
            epochs=epochs,
            callbacks=[log],
            checkpoint=tmp_path / "c",
            **options,
        )

    run(2)
    history = run(5)  # resumed: the lines before are there
    lines = path.read_text().splitlines()
    names = ["epoch", "loss", "r2", "val_loss", "val_r2"]
    if name.endswith("csv"):
        assert lines[0] == ",".join(names)
        rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    else:
        rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert all([row[key] for row in rows] == history[key] for key in history)

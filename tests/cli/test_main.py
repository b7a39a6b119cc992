"""The command line: the main job on iris and on a table of one's own, and one clear line for an error."""
# ruff: noqa: E501  # what is said, a case a line

import json
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

from micrograd_bp import cli as command
from micrograd_bp import datasets, losses, nn, training
from micrograd_bp.cli import train


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = command.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_main_job_learns_iris_and_leaves_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "--epochs", 15, "--hidden", 8, "--seed", 3, "--out", tmp_path / "run")
    assert code == 0
    assert "epoch 15/15" in err
    lines = out.splitlines()
    assert "iris: 105 rows to learn from, 45 held out" in lines
    assert any(line.startswith("MLP 4-8-3: tanh, 67 parameters") for line in lines)
    accuracies = [float(line.split()[-1]) for line in lines if line.startswith("rows ")]
    assert len(accuracies) == 2
    assert min(accuracies) > 0.85
    assert sum(line.count("*") for line in lines if " |" in line) == 15  # the learning curve

    path = tmp_path / "run" / "model.json"
    assert f"model: {path}, whose outputs are the logits of setosa, versicolor, virginica" in lines
    data = datasets.iris()
    found = training.evaluate(nn.load(path).freeze(), losses.cross_entropy, data.X, data.y, {"a": training.accuracy})
    assert found["a"] == pytest.approx(0.7 * accuracies[0] + 0.3 * accuracies[1], abs=1e-3)

    heading = lines.index("the rows held out, by class (on the left) and what they were taken for")
    assert lines[heading + 1].split() == data.classes
    counts = [line.split() for line in lines[heading + 2 : heading + 5]]
    assert [row[0] for row in counts] == data.classes
    assert [sum(map(int, row[1:])) for row in counts] == [15, 15, 15]
    right = sum(int(row[1 + k]) for k, row in enumerate(counts))
    assert right / 45 == pytest.approx(accuracies[1], abs=1e-3)
    svg = xml.etree.ElementTree.parse(tmp_path / "run" / "loss.svg").getroot()
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}polyline"))) == 1

    picture = lines[-1].removeprefix("picture: ")
    assert picture != lines[-1]
    if not picture.startswith("none, for "):
        assert os.path.getsize(picture.split(", ")[0]) > 1000


def test_the_demonstration_shows_a_graph_and_checks_it(capsys: pytest.CaptureFixture[str]) -> None:
    out = train.demonstration()
    assert "v1 = mul(x, y)   data  6.000000   gradient  1.000000" in out
    assert "x                data  2.000000   gradient  2.583853" in out
    assert "Finite differences give dz/dx = 2.583853 and dz/dy = 2.000000." in out


def test_a_table_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    data = datasets.spirals(40)
    rows = "".join(f"{k},{x},{'AB'[label]},{y}\n" for k, ((x, y), label) in enumerate(zip(data.X, data.y, strict=True)))
    path.write_text("id,x,arm,y\n" + rows)
    arguments = ["--csv", path, "--target", "arm", "--ignore", "id", "--hidden", 3, 2, "--epochs", 2, "--out", tmp_path]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert f"{path}: 28 rows to learn from, 12 held out" in out
    assert "MLP 2-3-2-2: tanh" in out
    assert "the logits of A, B" in out
    assert "Finite differences" not in out  # the demonstration is for those who bring no table
    assert nn.load(tmp_path / "model.json").parts[1].nouts == [3, 2, 2]


def test_the_same_seed_gives_the_same_model_and_a_checkpoint_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--hidden", 2]
    for name, epochs, more in (
        ("a", 4, []),
        ("b", 2, ["--checkpoint", tmp_path / "c"]),
        ("b", 4, ["--checkpoint", tmp_path / "c"]),
    ):
        assert run(capsys, *options, *more, "--epochs", epochs, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a" / "model.json").read_text() == (tmp_path / "b" / "model.json").read_text()
    assert run(capsys, *options, "--seed", 1, "--epochs", 4, "--out", tmp_path / "b")[0] == 0
    assert (tmp_path / "a" / "model.json").read_text() != (tmp_path / "b" / "model.json").read_text()


def test_a_quantity_is_learnt_in_its_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Houses: text and gaps among the columns, a price of many values; the model gives prices for raw rows."""
    rows = [(size, "AB"[size % 2], 1000.0 * size + (5000.0 if size % 2 else 0.0)) for size in range(20, 80)]
    path = tmp_path / "houses.csv"
    path.write_text("size,town,price\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows) + ",A,30000\n")
    options = ["--categories", "--missing", "mean", "--hidden", "4", "--epochs", "150", "--batch-size", "8", "--jit"]
    code, out, err = run(capsys, "train", "--csv", path, "--patience", 100, "--out", tmp_path, *options)
    assert code == 0, err
    assert "MLP 3-4-1: tanh" in out
    assert "whose outputs are price" in out
    assert float(out.split("rows learnt from: ")[1].split("R² ")[1].split()[0]) > 0.9
    model = nn.load(tmp_path / "model.json")
    assert model.names == nn.Names(["size", "town=A", "town=B"], [], "price")
    assert model([40.0, 1.0, 0.0]).data == pytest.approx(40_000.0, rel=0.1)

    new = tmp_path / "new.csv"
    new.write_text("town,other,size\nB,x,51\nA,y,\n")
    code, out, err = run(capsys, "predict", tmp_path / "model.json", "--csv", new, "--missing", "mean")
    assert (code, err) == (0, "")
    head, first, second = out.splitlines()
    assert head == "row,price"
    plain = model.freeze()
    assert float(first.removeprefix("1,")) == plain([51.0, 0.0, 1.0])
    assert float(second.removeprefix("2,")) == plain([model.parts[0].means[0], 1.0, 0.0])
    code, out, _ = run(capsys, "predict", tmp_path / "model.json", "--csv", new, "--missing", "drop")
    assert out.splitlines() == [head, first]


def test_predictions_have_names_and_probabilities(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = datasets.iris()
    assert run(capsys, "--epochs", 3, "--hidden", 4, "--out", tmp_path)[0] == 0
    path = tmp_path / "model.json"
    model = nn.load(path)
    assert model.names == nn.Names(data.features, data.classes, "species")
    new = tmp_path / "new.csv"
    order = [2, 0, 3, 1]  # columns are found by name
    lines = [",".join(f'"{data.features[k]}"' for k in order), *[",".join(str(x[k]) for k in order) for x in data.X]]
    new.write_text("\n".join(lines))
    code, out, err = run(capsys, "predict", path, "--csv", new, "-o", tmp_path / "out.csv")
    assert (code, err, out) == (0, "", f"{tmp_path / 'out.csv'}: 150 predictions\n")
    head, *found = (tmp_path / "out.csv").read_text().splitlines()
    assert head == "row,species,P(setosa),P(versicolor),P(virginica)"
    plain = model.freeze()
    for number, (line, x) in enumerate(zip(found, data.X, strict=True), 1):
        row, name, *shares = line.split(",")
        expected = losses.softmax(plain(x))
        assert int(row) == number
        assert name == data.classes[expected.index(max(expected))]
        assert [float(share) for share in shares] == pytest.approx(expected, rel=1e-5)


def test_what_predict_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "--epochs", 1, "--hidden", 2, "--out", tmp_path)[0] == 0
    model, table, cell = tmp_path / "model.json", tmp_path / "t.csv", tmp_path / "cell.json"
    nn.MLP(2, [2]).save(bare := tmp_path / "bare.json")
    nn.RNNCell(1, 1).save(cell)
    table.write_text("a,b\n1,2\n3,4\n")
    for arguments, message in (
        ([model, "--csv", table], "t.csv, line 1: the model takes 'sepal length (cm)', but the columns are 'a', 'b'"),
        ([model, "--csv", tmp_path / "none.csv"], "none.csv: No such file"),
        ([table, "--csv", table], "t.csv, line 1, column 1"),
        ([cell, "--csv", table], "RNNCell(1, 1) is no function of a row of numbers; predict takes those only"),
    ):
        code, out, err = run(capsys, "predict", *arguments)
        assert (code, out) == (2, "")
        assert message in err
    code, out, err = run(capsys, "predict", bare, "--csv", table)  # without names, the columns in their order
    plain = nn.load(bare).freeze()
    assert [float(x) for x in out.splitlines()[1].split(",")[1:]] == plain([1.0, 2.0])
    table.write_text("a,b,c\n1,2,3\n")
    code, out, err = run(capsys, "predict", bare, "--csv", table)
    assert code == 2
    assert "3 columns, but the model takes 2 inputs, and does not know their names" in err


@pytest.mark.parametrize("epochs", [0, 2])
def test_an_interrupted_run_leaves_the_model_of_its_last_epoch(
    epochs: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross_entropy, calls = losses.cross_entropy, []

    def interrupted(prediction: list[Any], target: Any) -> Any:
        calls.append(target)
        if len(calls) == 105 * epochs + 50:
            raise KeyboardInterrupt
        return cross_entropy(prediction, target)

    monkeypatch.setattr(losses, "cross_entropy", interrupted)
    code, out, _ = run(capsys, "--hidden", 2, "--out", tmp_path)
    assert code == 130
    assert f"interrupted: the model is the one after epoch {epochs}" in out
    assert (tmp_path / "model.json").exists() is (epochs > 0)


def test_errors_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,x\n2,y\n3,?\nfour,x\n")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("a,b\n" + "".join(f"{k},{k * 1.5}\n" for k in range(9)))
    gaps, texts, bare = (tmp_path / f"{name}.csv" for name in ("gaps", "texts", "bare"))
    gaps.write_text("a,b\n1,x\n,y\n")
    texts.write_text("hue,b\nred,x\nblue,y\n")
    bare.write_text("1,2\n3,4\n")
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["--csv", tmp_path / "none.csv"], "none.csv: No such file or directory"),
        (["--csv", tmp_path], "Is a directory"),
        (["--csv", table], "table.csv, line 5, column 'a': 'four' is no number"),
        (["--csv", table, "--target", "c"], "table.csv, line 1: no column 'c'; there are 'a', 'b'"),
        (
            ["--csv", numbers, "--task", "classification"],
            "numbers.csv: 9 different labels in 9 rows; a column of classes",
        ),
        (["--csv", numbers, "--header", "no"], "line 1, column 'column 1': 'a' is no number"),
        (
            ["--csv", gaps],
            "gaps.csv, line 3, column 'a': a number is missing; --missing drop leaves such rows out, --missing mean puts",
        ),
        (
            ["--csv", texts],
            "texts.csv, line 2, column 'hue': 'red' is no number; mend it; or --ignore 'hue' leaves the column out, --categories makes",
        ),
        (
            ["--csv", bare],
            "line 1: numbers, where the names of the columns should be; --header no calls the columns column 1, column 2, ...; --header yes takes",
        ),
        (["--target", "a"], "--target goes with --csv FILE"),
        (["--categories", "--task", "regression"], "--task and --categories go with --csv FILE"),
        (["--lr", -1], "lr is -1.0"),
        (["--lr", "inf"], "lr is inf"),
        (["--out", tmp_path / "file" / "below"], "Not a directory"),
        (["--checkpoint", numbers, "--out", tmp_path], "numbers.csv, line 1, column 1"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        lines = [line for line in err.splitlines() if "micrograd-bp: error:" in line]
        assert len(lines) == 1, err
        assert message in lines[0]
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "argument --hidden: '0' is no whole number, 1 or more"),
        (["--epochs", "many"], "argument --epochs: 'many' is no whole number, 1 or more"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_arguments_exit_with_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_it_runs_as_a_module_and_explains_itself() -> None:
    root = os.path.dirname(os.path.dirname(nn.__file__))
    environment = os.environ | {"PYTHONPATH": root, "COLUMNS": "120"}
    found = subprocess.run(
        [sys.executable, "-m", "micrograd_bp", "--help"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0
    for word in (
        "--csv",
        "--task",
        "--jit",
        "--batch-size",
        "--patience",
        "predict",
        "--target",
        "--hidden",
        "--epochs",
        "--seed",
        "--out",
        "iris",
        "model.json",
        "examples:",
    ):
        assert word in found.stdout
    program = "import sys, micrograd_bp.__main__; print([m for m in ('tqdm', 'graphviz', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == []  # the standard library alone, until the work needs more

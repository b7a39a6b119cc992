"""The command line: the main job on iris and on a table of one's own, and one clear line for an error."""

import json
import os
import subprocess
import sys

import pytest

from micrograd_bp import cli as command
from micrograd_bp import datasets, losses, nn, training
from micrograd_bp.cli import train


def run(capsys, *arguments):
    code = command.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_main_job_learns_iris_and_leaves_a_model(capsys, tmp_path):
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

    picture = lines[-1].removeprefix("picture: ")
    assert picture != lines[-1]
    if not picture.startswith("none, for "):
        assert os.path.getsize(picture.split(", ")[0]) > 1000


def test_the_demonstration_shows_a_graph_and_checks_it(capsys):
    out = train.demonstration()
    assert "v1 = mul(x, y)   data  6.000000   gradient  1.000000" in out
    assert "x                data  2.000000   gradient  2.583853" in out
    assert "Finite differences give dz/dx = 2.583853 and dz/dy = 2.000000." in out


def test_a_table_of_ones_own(capsys, tmp_path):
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
    assert nn.load(tmp_path / "model.json").parts[1].nouts == [3, 2, 2]


def test_the_same_seed_gives_the_same_model_and_a_checkpoint_goes_on(capsys, tmp_path):
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


@pytest.mark.parametrize("epochs", [0, 2])
def test_an_interrupted_run_leaves_the_model_of_its_last_epoch(epochs, capsys, tmp_path, monkeypatch):
    cross_entropy, calls = losses.cross_entropy, []

    def interrupted(prediction, target):
        calls.append(target)
        if len(calls) == 105 * epochs + 50:
            raise KeyboardInterrupt
        return cross_entropy(prediction, target)

    monkeypatch.setattr(losses, "cross_entropy", interrupted)
    code, out, _ = run(capsys, "--hidden", 2, "--out", tmp_path)
    assert code == 130
    assert f"interrupted: the model is the one after epoch {epochs}" in out
    assert (tmp_path / "model.json").exists() is (epochs > 0)


def test_errors_are_one_line_and_exit_code_2(capsys, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,x\n2,y\n3,?\nfour,x\n")
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("a,b\n" + "".join(f"{k},{k * 1.5}\n" for k in range(9)))
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["--csv", tmp_path / "none.csv"], "none.csv: No such file or directory"),
        (["--csv", tmp_path], "Is a directory"),
        (["--csv", table], "table.csv, line 5, column 'a': 'four' is no number"),
        (["--csv", table, "--target", "c"], "table.csv, line 1: no column 'c'; there are 'a', 'b'"),
        (["--csv", numbers], "numbers.csv: 9 different labels in 9 rows; the target is a column of classes"),
        (["--target", "a"], "--target and --ignore go with --csv FILE"),
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
def test_wrong_arguments_exit_with_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_it_runs_as_a_module_and_explains_itself():
    root = os.path.dirname(os.path.dirname(nn.__file__))
    environment = os.environ | {"PYTHONPATH": root, "COLUMNS": "120"}
    found = subprocess.run(
        [sys.executable, "-m", "micrograd_bp", "--help"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0
    for word in ("--csv", "--target", "--hidden", "--epochs", "--seed", "--out", "iris", "model.json", "examples:"):
        assert word in found.stdout
    program = "import sys, micrograd_bp.__main__; print([m for m in ('tqdm', 'graphviz', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert json.loads(found.stdout) == []  # the standard library alone, until the work needs more

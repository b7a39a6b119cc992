"""An exported model in a project: compiled as C and as C++ with warnings as errors, it passes its own test."""

import ctypes
import itertools
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from micrograd_bp import Value, cli, datasets, kernel, nn, ops
from micrograd_bp.compiler.c_project import literal

WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-Wshadow", "-O1"]
LANGUAGES = {"C": ["cc", "-std=c99", *WARNINGS], "C++": ["c++", "-x", "c++", "-std=c++11", *WARNINGS]}


def classifier(hidden: tuple[Any, ...] = (5,)) -> tuple[Any, ...]:
    rng = random.Random(3)
    data = datasets.iris()
    network = nn.MLP(4, [*hidden, 3], activation="tanh", init="xavier_uniform", rng=rng)
    model = nn.Sequential(nn.Standardize(*datasets.statistics(data.X)), network)
    model.names = nn.Names(data.features, ['se"to\\sa', "vérsicolor", "v??/"], "species")
    return model, data.X[::10]


def project(model: Any, rows: list[list[float]], folder: Path, **options: Any) -> dict[str, str]:
    labels = model.names.features if model.names else [""] * (nn.inputs(model) or 0)
    inputs = [Value(0.0, label) for label in labels]
    classes = model.names.classes if model.names else ()
    files = kernel(model(inputs), inputs, model.parameters()).c_files("net", rows=rows, classes=classes, **options)
    for name, text in files.items():
        (folder / name).write_text(text)
    return files


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("language", "real", "fixed"), list(itertools.product(LANGUAGES, ["double", "float"], [False, True]))
)
def test_a_model_passes_its_own_test(language: str, real: str, fixed: bool, tmp_path: Path) -> None:
    """A model of more lines than one function has, so that functions leave numbers for each other in the workspace."""
    model, rows = classifier(hidden=(12, 10))
    files = project(model, rows, tmp_path, real=real, fixed=fixed)
    run([*LANGUAGES[language], "-DNET_MAIN", "net.c", "-o", "test", "-lm"], tmp_path)
    said = re.fullmatch(r"15 rows: .* is (\S+) of max\(\|output\|, 1\)\n", run(["./test"], tmp_path))
    assert said
    assert float(said[1]) < (1e-14 if real == "double" else 1e-5)
    (size,) = map(int, re.findall(r"#define NET_WORKSPACE (\d+)", files["net.h"]))
    assert size > 0
    assert (f"static {real} net_workspace[{size}];" in files["net.c"]) is fixed
    assert (f"{real} v[" in files["net.c"]) is not fixed


def test_an_exported_model_drops_nothing(tmp_path: Path) -> None:
    """A model that is loaded is in training: recorded so, the C would hold one draw of Dropout for ever."""
    rng = random.Random(0)
    model = nn.Sequential(nn.Linear(3, 6, rng=rng), nn.LayerNorm(6), nn.Dropout(0.5), nn.Linear(6, 2, rng=rng))
    model.save(tmp_path / "net.json")
    assert cli.main(["export", str(tmp_path / "net.json")]) == 0
    run([*LANGUAGES["C"], "-shared", "-fPIC", "net.c", "-o", "net.so", "-lm"], tmp_path)
    library, row, out = ctypes.CDLL(str(tmp_path / "net.so")), [0.5, -1.0, 2.0], (ctypes.c_double * 2)()
    parameters = (ctypes.c_double * 50).in_dll(library, "net_parameters")
    library.net_value((ctypes.c_double * 3)(*row), parameters, out)
    assert list(out) == pytest.approx(model.freeze()(row), rel=1e-14)


@pytest.mark.parametrize(
    ("language", "real", "fixed"), [("C", "float", True), ("C++", "double", False), ("C++", "float", True)]
)
def test_a_model_of_arrays_passes_its_own_test(language: str, real: str, fixed: bool, tmp_path: Path) -> None:
    """Loops, in C++ too; arrays have places in the workspace, which they take in turn."""
    pytest.importorskip("numpy")
    model, rows = classifier(hidden=(24, 16))
    files = project(model, rows, tmp_path, real=real, fixed=fixed)
    assert "for (int k = 0; k < 24; k++)" in files["net.c"]
    run([*LANGUAGES[language], "-DNET_MAIN", "net.c", "-o", "test", "-lm"], tmp_path)
    said = re.fullmatch(r"15 rows: .* is (\S+) of max\(\|output\|, 1\)\n", run(["./test"], tmp_path))
    assert said
    assert float(said[1]) < (1e-14 if real == "double" else 1e-5)
    (size,) = map(int, re.findall(r"#define NET_WORKSPACE (\d+)", files["net.h"]))
    assert 0 < size < 100
    assert (f"static {real} net_workspace[{size}];" in files["net.c"]) is fixed


USER = """
#include <stdio.h>
#include "net.h"
#include "net.h"

int main(void)
{
    const REAL x[NET_INPUTS] = {5.1f, 3.5f, 1.4f, 0.2f};
    REAL out[NET_OUTPUTS], cotangent[NET_OUTPUTS] = {1, 0, 0}, gradient[NET_PARAMETERS];
    net_value(x, net_parameters, out);
    for (int k = 0; k < NET_CLASSES; k++)
        printf("%s %.6g\\n", net_classes[k], (double)out[k]);
    net_value_and_vjp(x, net_parameters, cotangent, out, gradient);
    printf("%d %.6g\\n", NET_PARAMETERS, (double)gradient[NET_PARAMETERS - 3]);
    return 0;
}
"""


@pytest.mark.parametrize(("language", "real"), list(itertools.product(LANGUAGES, ["double", "float"])))
def test_a_program_in_either_language_uses_the_header(language: str, real: str, tmp_path: Path) -> None:
    """Compiled as C, linked into C or C++: the names are C's; sizes, classes and numbers are the model's."""
    model, rows = classifier()
    project(model, rows, tmp_path, real=real)
    (tmp_path / "user.c").write_text(USER.replace("REAL", real))
    run([*LANGUAGES["C"], "-c", "net.c"], tmp_path)
    run([*LANGUAGES[language], "-c", "user.c"], tmp_path)
    run([LANGUAGES[language][0], "user.o", "net.o", "-o", "user", "-lm"], tmp_path)
    lines = run(["./user"], tmp_path).splitlines()
    out = model([5.1, 3.5, 1.4, 0.2])
    for line, name, y in zip(lines, model.names.classes, out, strict=False):
        assert line.rpartition(" ")[0] == name
        assert float(line.rpartition(" ")[2]) == pytest.approx(y.data, rel=1e-5)
    model.zero_grad()
    out[0].backward()
    count, slope = lines[3].split()
    parameters = model.parameters()
    assert (int(count), float(slope)) == (len(parameters), pytest.approx(parameters[-3].grad, abs=1e-5))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_row_of_any_number_of_operands_is_c_and_cplusplus(language: str, tmp_path: Path) -> None:
    x = [Value(float(k), f"x{k}") for k in range(1, 5)]
    outputs = [ops.hypot(*x), ops.fsum(*x), ops.sumprod(*x), ops.lgamma(x[1]), ops.ldexp(x[0], x[1])]
    weight = Value(1.5)
    files = kernel([weight * y for y in outputs], x, [weight]).c_files("net", rows=[[1.0, 2.0, 3.0, 4.0]])
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    run([*LANGUAGES[language], "-DNET_MAIN", "net.c", "-o", "test", "-lm"], tmp_path)
    run(["./test"], tmp_path)


def test_a_single_output_is_returned(tmp_path: Path) -> None:
    model = nn.Neuron(2, activation="sigmoid", rng=random.Random(0))
    project(model, [[1.0, 2.0], [-1.0, 0.5]], tmp_path)
    assert "double net_value(const double *x, const double *w);" in (tmp_path / "net.h").read_text()
    run([*LANGUAGES["C"], "-DNET_MAIN", "net.c", "-o", "test", "-lm"], tmp_path)
    run(["./test"], tmp_path)


def test_a_wrong_number_fails_the_test(tmp_path: Path) -> None:
    model, rows = classifier()
    files = project(model, rows, tmp_path)
    (first,) = re.findall(r"net_parameters\[\d+\] = \{\n    (\S+),", files["net.c"])
    (tmp_path / "net.c").write_text(files["net.c"].replace(first, "0.5", 1))
    run([*LANGUAGES["C"], "-DNET_MAIN", "net.c", "-o", "test", "-lm"], tmp_path)
    assert subprocess.run(["./test"], cwd=tmp_path, capture_output=True).returncode == 1


def test_texts_are_strings_of_c() -> None:
    assert literal('a"b\\c') == '"a\\042b\\134c"'
    assert literal("é??") == '"\\303\\251\\077\\077"'
    assert literal("1\n") == '"1\\012"'


def test_the_names_of_classes_are_as_many_as_the_outputs() -> None:
    x = Value(1.0)
    with pytest.raises(ValueError, match="3 classes for 1 outputs"):
        kernel(x.tanh(), [x]).c_files(classes=["a", "b", "c"])


def test_the_command_says_what_it_could_not_measure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nn.Neuron(2).save(tmp_path / "n.json")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert cli.main(["export", str(tmp_path / "n.json")]) == 0
    assert "size and precision: not measured, for want of a C compiler (cc)" in capsys.readouterr().out
    monkeypatch.setenv("CC", shutil.which("false") or "")
    assert cli.main(["export", str(tmp_path / "n.json"), "--float", "--fixed"]) == 0
    assert "not measured; " in capsys.readouterr().out

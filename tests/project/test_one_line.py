"""A new operation is one line of the package: it is on both engines then, compiled, drawn, typeset and proved."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import micrograd_bp as mg

PACKAGE = Path(mg.__file__).parent
ROOT = PACKAGE.parent
BEFORE = "# --- for rules only ---"
LINE = (
    'log_cosh: Op = Op("log_cosh", "log_cosh", lambda x: abs(x) + log1p(exp(-2.0 * abs(x))) - LN2, '
    "lambda out, x: (tanh(x),))\n"
)
OTHERS = (  # of two arguments; with a value that is no formula of ops, and a branch that divides by 0; with kinks
    'harmonic: Op = Op("harmonic", "harmonic", lambda x, y: 2.0 * x * y / (x + y), '
    "lambda out, x, y: (2.0 * square(y / (x + y)), 2.0 * square(x / (x + y))), ((0.5, 2.0),))\n"
    'sinhc: Op = Op("sinhc", "sinhc", lambda x: math.sinh(x) / x if x else 1.0, '
    "lambda out, x: (where(x, (cosh(x) - out) / x, 0.0),), ((0.5, 2.0),), "
    "decomposition=lambda x: where(x, sinh(x) / x, 1.0))\n"
    'hard_tanh: Op = Op("hard_tanh", "hard_tanh", lambda x: minimum(maximum(x, -1.0), 1.0), '
    "lambda out, x: (share(x, -1.0) * share(1.0, x),), smooth=False)\n"
)
CHECKS = """
import itertools, math, random, sys
import numpy as np
import micrograd_bp as mg
from micrograd_bp import ops, testing
from micrograd_bp._engine import instructions, native, stubs, symbolic

op, x = ops.log_cosh, mg.Value(0.5, "x")
assert mg.engine_name() == sys.argv[1]
assert mg.log_cosh is op is ops.TABLE["log_cosh"] and "log_cosh" in dir(mg)
assert op(0.0) == 0.0 and abs(op(1000.0) - (1000.0 - math.log(2.0))) < 1e-12
y = x.log_cosh()
y.backward()
assert y.op is op and x.grad == math.tanh(0.5) and mg.math.log_cosh(x).data == y.data == op(0.5)
assert mg.grad(mg.grad(op))(0.5) == 1.0 - math.tanh(0.5) ** 2
if sys.argv[1] == "accelerated":  # natively, and the bits of the reference
    from micrograd_bp._engine import accelerated
    assert accelerated.Code.LOG_COSH < accelerated.Code.ADD
    from micrograd_bp import value
    for point in testing.points(op, 300, random.Random(1)):
        assert op(mg.Value(*point)).data == op.forward(*point)
        assert op(mg.Value(*point)).partials == op.partials(op.forward(*point), *point)

assert mg.gradcheck(op, 0.7, order=2)  # the proofs
proved = 0
for point in testing.points(op, 100, random.Random(2)):
    value, partials = testing.errors(op, *point)
    assert value * math.ulp(op(*point)) <= 4.0 * math.ulp(max(abs(op(*point)), 1.0))
    assert all(partial <= 4.0 for partial in partials)
    proved += len(partials)
assert proved > 50

rows = np.linspace(-3.0, 3.0, 101)
want = [op(v) for v in rows.tolist()]
assert mg.math.log_cosh(rows).tolist() == want  # NumPy
wanted = [v.data for v in mg.math.log_cosh(np.array([mg.Value(v) for v in rows.tolist()], dtype=object))]
assert wanted == want
kernel = mg.kernel(y, inputs=[x], exact=True)  # LLVM, to the last bit
assert kernel(rows.reshape(-1, 1)).tolist() == want
compiled = mg.jit(mg.grad(op), exact=True)
assert [compiled(v) for v in rows.tolist()] == [math.tanh(v) for v in rows.tolist()]
source = kernel.source("c")  # of C's own functions
assert "log1p(" in source and "log_cosh" not in source.split("*/")[1]
assert "log_cosh" in mg.draw(y).source and "log_cosh" in str(mg.trace_table(y))  # pictures
assert mg.formula(y) == "log_cosh(x)" and r"\\operatorname{log\\_cosh}" in mg.formula(y).latex
assert mg.backward_source(y, [x]).function()(0.5)[1] == [math.tanh(0.5)]
assert "| `log_cosh(x)` | `log_cosh` | `tanh(x)` |" in symbolic.operations_table()  # the documents
assert op.__doc__.startswith("log_cosh(x) = ") and "tanh(x)" in op.__doc__
assert "def log_cosh(self) -> Value:" in stubs.declarations()

for name, point, slopes in (("harmonic", (0.5, 1.5), (1.125, 0.125)), ("sinhc", (0.0,), (0.0,)),
                            ("hard_tanh", (1.0,), (0.5,)), ("hard_tanh", (2.0,), (0.0,))):
    op, xs = getattr(mg, name), [mg.Value(v, n) for v, n in zip(point, "xy")]
    y = getattr(xs[0], name)(*xs[1:])
    y.backward()
    assert tuple(x.grad for x in xs) == slopes and mg.gradcheck(op, *[1.25, 0.75][: len(xs)], order=2)
    if sys.argv[1] == "accelerated":
        assert hasattr(accelerated.Code, name.upper())
    assert all(partial <= 4.0 for partial in testing.errors(op, *point).partials)  # of a kink there are none
    rows = np.linspace(0.0, 2.0, 50 * len(xs)).reshape(-1, len(xs))[1:]
    assert mg.kernel(y, inputs=xs, exact=True)(rows).tolist() == [op(*row) for row in rows.tolist()]
    assert mg.jit(mg.grad(op, argnums=tuple(range(len(xs)))), exact=True)(*point) == slopes
    assert f"`{name}(" in symbolic.operations_table() and name in mg.draw(y).source
print("checked")
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which the line is added, with the accelerated engine built anew if this one has it."""
    root = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "rules.pxi", "declarations.pyi")
    shutil.copytree(PACKAGE, root / "micrograd_bp", ignore=left_out)
    table = root / "micrograd_bp" / "ops.py"
    text = table.read_text(encoding="utf-8")
    assert text.count(BEFORE) == 1
    table.write_text(text.replace(BEFORE, LINE + OTHERS + "\n" + BEFORE), encoding="utf-8")
    if mg.engine_name() == "accelerated":
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, root / name)
        run(root, "setup.py", "-q", "build_ext", "--inplace", CFLAGS="-O0")
    return root


def run(root: Path, *arguments: str, **environment: str) -> str:
    """What Python prints, called in the copy."""
    environment = {**os.environ, "PYTHONPATH": str(root), **environment}
    done = subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_operation_added_in_one_line_works_everywhere(copy: Path) -> None:
    assert run(copy, "-W", "error", "-c", CHECKS, mg.engine_name()).strip() == "checked"


def test_a_random_program_with_it_is_differentiated_as_floats_are(copy: Path) -> None:
    """Beside other ops, in graphs: the gradient against central differences in 50 digits."""
    seed = random.Random(3).randrange(1000)
    program = f"""
import random
from micrograd_bp import Value, gradients, ops, testing
rng = random.Random({seed})
for _ in range(20):
    f = lambda a, b: ops.log_cosh(a * b + ops.log_cosh(b)) * ops.sigmoid(a) - ops.log_cosh(a / (1.5 + ops.log_cosh(b)))
    point = [rng.uniform(-2.0, 2.0), rng.uniform(-2.0, 2.0)]
    inputs = [Value(x) for x in point]
    for axis, slope in enumerate(gradients(f(*inputs), inputs)):
        exact = float(testing.derivative(f, point, axis))
        assert abs(slope.data - exact) <= 1e-14 * max(1.0, abs(exact))
print("proved")
"""
    assert run(copy, "-c", program).strip() == "proved"

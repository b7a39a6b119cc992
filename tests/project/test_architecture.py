"""The modules of the package stand in layers, and the package needs nothing but the standard library to be imported."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import micrograd_bp as mg

PACKAGE = Path(mg.__file__).parent
LAYERS = [  # a module imports only what stands above it in this list
    "_version _engine _engine.operand _engine.ieee _engine.recordings _engine.op _engine.instructions _engine.native",
    "_engine.symbolic",
    "_engine.files _engine.signatures _engine.special _engine.trees compiler.locks see",
    "_engine.progress _engine.randomness _engine.tables datasets",
    "ops",
    "_engine.by_hand _engine.operators _engine.methods _engine.sweeps _engine.flattening",
    "_engine.accelerated _engine.engine",
    "value",
    "_engine.units _engine.stubs _engine.labels _engine.parameters _engine.detaching _engine.modules",
    "_engine.schedules math losses layers nn optim",
    "sparse transforms check uncertainty custom implicit checkpointing",
    "testing.precise testing.random_programs testing",
    "series",
    "compiler.machine compiler.program compiler.lowering compiler.vector_math compiler.llvm compiler.emit",
    "compiler.executable compiler.python",
    "compiler.arrays compiler.evaluation compiler.matrices compiler.vector_loops",
    "compiler.vector_sweeps compiler.vectors",
    "compiler.array_parts compiler.array_text compiler.array_c compiler.loop_text compiler.loop_c",
    "compiler.c99 compiler.c_project compiler.loops compiler.reverse compiler.kernels",
    "compiler.tracing compiler.surroundings compiler.arguments compiler.results compiler.recording compiler.guarded",
    "compiler.functions compiler",
    "see.array_plan see.parts see.opened see.trace see.typesetting see.paths see.formula see.backward_pass",
    "see.drawing see.javascript see.explorer",
    "see.svg see.network see.curve",
    "training.metrics training.checkpoint training.parallel training.compiled training.given training.log",
    "training.loop training",
    "estimators",
    "__init__",
    "cli.options cli.parse cli.draw cli.predict cli.export cli.train cli __main__",
]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]
}
TYPES = "TYPE_CHECKING"  # what stands under it is not imported when a program runs
IMPORT = re.compile(r"^[ \t]*((?:from[ \t]+[\w.]+[ \t]+)?c?import[ \t]+(?:\([^)]*\)|.*))", re.MULTILINE)


def imports(path: Path) -> set[str]:
    """The modules of the package that a module names in an import, anywhere in it; `.pyx` is read line by line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":  # with the parts that it includes
        text += "\n".join(part.read_text(encoding="utf-8") for part in path.parent.glob("*.pxi"))
        text = "\n".join(IMPORT.findall(text)).replace("cimport", "import")
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(text)]
    for node in nodes:  # the list grows meanwhile
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "micrograd_bp":
            package = (node.module or "").removeprefix("micrograd_bp").removeprefix(".")
            for alias in node.names:
                module = f"{package}.{alias.name}".removeprefix(".")
                found.add(module if module in MODULES else package or "__init__")
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "micrograd_bp"]
            found |= {name.removeprefix("micrograd_bp").removeprefix(".") or "__init__" for name in names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path.name}: relative import"
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == TYPES):
            nodes += ast.iter_child_nodes(node)
    return found


def test_every_module_has_its_place() -> None:
    modules = {*MODULES, "_engine.accelerated"}  # whose source is not in a wheel
    assert sorted(" ".join(LAYERS).split()) == sorted(modules)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    order = " ".join(LAYERS).split()
    assert imports(MODULES[module]) <= {*order[: order.index(module)]}


def test_the_front_shows_what_is_public_and_nothing_else() -> None:
    assert dir(mg) == sorted(mg.__all__)
    assert all(hasattr(mg, name) for name in mg.__all__)
    modules = {name for name in MODULES if "." not in name} - {"__init__", "__main__"}
    functions = {name for name in mg.__all__ if not isinstance(getattr(mg, name), type(mg))}
    assert not functions & modules  # no function shares its name with a module


def test_no_two_things_have_one_name() -> None:
    names: Counter[str] = Counter(path.stem for path in MODULES.values() if path.stem != "__init__")
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [*node.targets] if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            defined = [target.id for target in named if isinstance(target, ast.Name)]
            defined += [node.name] if isinstance(node, ast.ClassDef) else []
            names.update(name for name in defined if re.fullmatch(r"_*[A-Z]+[a-z]\w*", name))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_table_and_the_node_are_read_in_one_sitting() -> None:
    assert sum(MODULES[name].read_text(encoding="utf-8").count("\n") for name in ("ops", "value")) <= 450


def test_importing_the_package_imports_nothing_outside_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import micrograd_bp\n"
        "found = {name for name in set(sys.modules) - before if getattr(sys.modules[name], '__spec__', None)}\n"
        "names = {name.split('.')[0] for name in found}\n"  # without those that Cython makes up at run time
        "print(sorted(names - set(sys.stdlib_module_names) - {'micrograd_bp'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

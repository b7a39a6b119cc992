"""What the site has beside docs/: notebooks as chapters, explorer pages, the reference, the playground's wheel.

A hook of MkDocs, see mkdocs.yml. The playground loads Pyodide from MICROGRAD_BP_PYODIDE, by default from where it is
hosted, and this package from the pure wheel that MICROGRAD_BP_WHEEL names, by default one that is built here.
"""

import base64
import inspect
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import micrograd_bp as mg
from micrograd_bp import Value, nn

ROOT = Path(__file__).parent.parent.parent
PYODIDE = "https://cdn.jsdelivr.net/pyodide/v{}/full/"
PYODIDE_VERSION = "314.0.7"  # of the npm package `pyodide`, with which .ci/run tests the playground
MODULES = ("math", "nn", "losses", "optim", "training", "datasets", "testing")


def on_files(files: Any, *, config: Any) -> Any:
    """Add all pages and files that are not in docs/."""
    from mkdocs.structure.files import File

    here = Path(__file__).parent
    made: dict[str, str | bytes] = {
        "index.md": (here / "home.md").read_text("utf-8"),
        "start.md": start(),
        "playground.md": (here / "playground.md").read_text("utf-8"),
        "changelog.md": (ROOT / "CHANGELOG.md")
        .read_text("utf-8")
        .replace("](docs/", "](")
        .replace("](examples)", "](examples.md)"),
        "examples.md": examples(),
        "explorers/neuron.html": explorer_of_a_neuron(),
        "explorers/network.html": explorer_of_a_network(),
        "_site/pictures/graph.svg": (ROOT / "notebooks" / "pictures" / "graph.svg").read_bytes(),
        "_site/pictures/network.svg": (ROOT / "notebooks" / "pictures" / "network.svg").read_bytes(),
    }
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made |= chapter(path)
    made["notebooks/index.md"] = re.sub(
        r"\]\((\w+)\.ipynb\)", r"](\1.md)", (ROOT / "notebooks/README.md").read_text("utf-8")
    )
    for path in (ROOT / "notebooks" / "images").glob("*.png"):
        made[f"notebooks/images/{path.name}"] = path.read_bytes()
    made |= reference()
    name, content = wheel()
    made[f"_site/{name}"] = content
    made["_site/playground.json"] = json.dumps({
        "pyodide": os.environ.get("MICROGRAD_BP_PYODIDE", PYODIDE.format(PYODIDE_VERSION)), "wheel": name,
    })  # fmt: skip
    for uri, page in made.items():
        files.append(File.generated(config, uri, content=page))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of pages in docs/ to notebooks, as links to their chapters."""
    return re.sub(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", r"](notebooks/\1.md)", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers typeset without a script."""
    from latex2mathml.converter import convert

    def typeset(match: re.Match[str]) -> str:
        latex = match[2].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()
        block = match[1] == "div"
        text = convert(latex[2:-2], display="block" if block else "inline")
        return f'<div class="formula">{text}</div>' if block else text

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', typeset, html, flags=re.S)


# --- pages --------------------------------------------------------------------------------------------------------


def start() -> str:
    """The README from its installation on, with the links of this site."""
    readme = (ROOT / "README.md").read_text("utf-8")
    text = "# Getting started\n\n" + readme[readme.index("## Install") : readme.index("## Read on")]
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text).replace("](docs/", "](")
    return text.replace("](notebooks/README.md)", "](notebooks/index.md)")


def examples() -> str:
    """The programs in examples/, each with its text."""
    pages = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        pages.append(f"## {path.stem.capitalize()}\n\n```python\n{path.read_text('utf-8').strip()}\n```\n")
    return "# Examples\n\nShort programs, each complete; they are in `examples/`.\n\n" + "\n".join(pages)


def explorer_of_a_neuron() -> str:
    x1, x2, w1, w2 = Value(2.0, "x1"), Value(0.5, "x2"), Value(-3.0, "w1"), Value(1.0, "w2")
    b = Value(6.7, "b")
    out = (x1 * w1 + x2 * w2 + b).tanh()
    out.label = "out"
    loss = (out - 1.0) ** 2
    loss.label = "loss"
    return mg.explore(loss, path=None, title="A neuron learns", parameters=[w1, w2, b]).html


def explorer_of_a_network() -> str:
    model = nn.MLP(2, [3, 1], activation="tanh", rng=random.Random(3))
    x1, x2, target = Value(0.0, "x1"), Value(0.0, "x2"), Value(-1.0, "target")
    loss = (model([x1, x2]) - target) ** 2
    loss.label = "loss"
    rows = {x1: [-1.0, -1.0, 1.0, 1.0], x2: [-1.0, 1.0, -1.0, 1.0], target: [-1.0, 1.0, 1.0, -1.0]}
    return mg.explore(loss, path=None, title="A network learns exclusive or", model=model, examples=rows).html


def chapter(path: Path) -> dict[str, str | bytes]:
    """A notebook as a page with its outputs, and the pictures in it."""
    made: dict[str, str | bytes] = {}
    lines = []

    def keep(name: str, content: str | bytes) -> str:
        made[f"notebooks/{path.stem}_files/{name}"] = content
        return f"{path.stem}_files/{name}"

    for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = re.sub(r"\]\((\w+)\.ipynb(#[^)]*)?\)", r"](\1.md)", source)
            lines.append(text.replace("](../docs/", "](../"))
            continue
        lines.append(f"```python\n{source}\n```")
        for place, output in enumerate(cell.get("outputs", ())):
            data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
            name = f"{number}_{place}"
            if "image/svg+xml" in data:
                lines.append(f"![drawing]({keep(f'{name}.svg', data['image/svg+xml'])})")
            elif kind := next((kind for kind in ("image/png", "image/gif") if kind in data), ""):
                lines.append(f"![figure]({keep(f'{name}.{kind[6:]}', base64.b64decode(data[kind]))})")
            elif "<iframe srcdoc=" in data.get("text/html", ""):
                page = re.search(r'srcdoc="([^"]*)"', data["text/html"])
                assert page is not None
                text = page[1].replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'")
                source = keep(f"{name}.html", text.replace("&amp;", "&"))
                lines.append(f'<iframe class="explorer" src="{source}" title="explorer"></iframe>')
            elif "text/html" in data:
                lines.append(f'<div class="output">{" ".join(data["text/html"].split())}</div>')
            else:
                text = "".join(output.get("text", ())) or data.get("text/plain", "")
                lines.append(f"```text\n{text.rstrip()}\n```" if text.strip() else "")
    made[f"notebooks/{path.stem}.md"] = "\n\n".join(lines)
    return made


def reference() -> dict[str, str | bytes]:
    """A page for the front and one for each of its modules: every public name, from its docstring."""
    rows = [name for name in mg.__all__ if isinstance(getattr(mg, name), mg.Op)]
    names = [name for name in mg.__all__ if callable(getattr(mg, name)) and name not in rows]
    rest = sorted(set(mg.__all__) - {*rows, *names, *MODULES, "ops", "__version__"})
    assert all(inspect.ismodule(getattr(mg, name)) for name in rest), rest
    text = [
        "# micrograd_bp",
        "`import micrograd_bp as mg`; the modules are "
        + ", ".join(f"[`mg.{name}`]({name}.md)" for name in MODULES)
        + ".",
        "Rows of the [table of operations](../operations.md): " + ", ".join(f"`mg.{name}`" for name in rows) + ".",
        *(f"::: {home(getattr(mg, name))}" for name in names),
    ]
    pages: dict[str, str | bytes] = {"reference/index.md": "\n\n".join(text)}
    seen = {home(getattr(mg, name)) for name in names}  # what stands on a page already
    for module in MODULES:
        inside = getattr(mg, module)
        own = getattr(inside, "__all__", None) or [
            name for name, x in vars(inside).items()
            if name[0] != "_" and callable(x) and getattr(x, "__module__", "") == inside.__name__
        ]  # fmt: skip
        text = [f"# micrograd_bp.{module}", (inspect.getdoc(inside) or "").split("\n\n")[0]]
        found = [(name, getattr(inside, name)) for name in own]
        plain = [name for name, x in found if not (inspect.isfunction(x) or inspect.isclass(x))]
        if plain:
            text.append(
                "Rows of the table, functions of Python's, and constants: "
                + ", ".join(f"`{name}`" for name in plain)
                + "."
            )
        text += [f"::: {home(x)}" for name, x in found if name not in plain and home(x) not in seen]
        seen |= {home(x) for name, x in found if name not in plain}
        pages[f"reference/{module}.md"] = "\n\n".join(text)
    return pages


def home(x: Any) -> str:
    """The module and name under which a function or class is written."""
    return "micrograd_bp.value.Value" if x is Value else f"{x.__module__}.{x.__qualname__}"


def wheel() -> tuple[str, bytes]:
    """The pure wheel, by name and content."""
    given = os.environ.get("MICROGRAD_BP_WHEEL")
    if given:
        return Path(given).name, Path(given).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, str(ROOT)]
        subprocess.run(command, check=True, env=os.environ | {"MICROGRAD_BP_PURE": "1"})
        (path,) = Path(folder).glob("*-py3-none-any.whl")
        return path.name, path.read_bytes()

"""What stands around the code agrees with it and with each other."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import micrograd_bp as mg

ROOT = Path(__file__).parents[2]
if not (ROOT / ".ci").is_dir():
    pytest.skip("the source tree is not around the tests", allow_module_level=True)

PAGES = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("*/*.md") if not path.parent.name.startswith("."))])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_one_version_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (version,), (date,) = (re.findall(rf"^{key}: (.+)$", citation, re.M) for key in ("version", "date-released"))
    assert version == mg.__version__
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] in ("Unreleased", f"{version} ({date})")
    assert f"{version} ({date})" in headings


def test_the_workflow_and_the_guide_run_what_there_is() -> None:
    assert "run: bash .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "\nbash .ci/run\n" in guide
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = re.search(r"-e '\.\[([^]]+)\]'", guide)
    assert asked
    assert set(asked[1].split(",")) <= set(extras)
    named = set(re.findall(r"(?:tests|docs|micrograd_bp)/[\w/-]+\.\w+", guide))
    assert named
    assert all((ROOT / name).exists() for name in named)


def release() -> ModuleType:
    """The script that names a version."""
    spec = importlib.util.spec_from_file_location("version", ROOT / ".ci" / "version.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The three files that hold the version, with something under Unreleased."""
    for name in ("micrograd_bp/_version.py", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    changes = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    if "## Unreleased" not in changes:
        (tmp_path / "CHANGELOG.md").write_text(changes.replace("\n## ", "\n## Unreleased\n\n- new\n\n## ", 1), "utf-8")
    return tmp_path


def test_a_version_is_named_in_one_place(copy: Path) -> None:
    release().stamp(copy, "7.8.9", "2030-01-02")
    assert (copy / "micrograd_bp/_version.py").read_text("utf-8") == '__version__ = "7.8.9"\n'
    assert "version: 7.8.9\ndate-released: 2030-01-02\n" in (copy / "CITATION.cff").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", (copy / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "7.8.9 (2030-01-02)"
    assert "Unreleased" not in headings
    notes = release().notes(copy)
    assert notes
    assert "## " not in notes


@pytest.mark.parametrize(("version", "message"), [("1.0", "a version is such as"), ("9.9.9", "stands there 0 times")])
def test_a_version_that_cannot_be_named_changes_nothing(copy: Path, version: str, message: str) -> None:
    if version == "9.9.9":
        path = copy / "CITATION.cff"
        path.write_text(path.read_text("utf-8").replace("version:", "number:"), "utf-8")
    before = {path: path.read_bytes() for path in copy.rglob("*.*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        release().stamp(copy, version, "2030-01-02")
    assert {path: path.read_bytes() for path in copy.rglob("*.*") if path.is_file()} == before


def test_a_release_builds_wheels_for_every_python_that_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["cibuildwheel"]["build"].split() == [f"cp3{minor}-*" for minor in (11, 12, 13, 14)]
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    guide = (ROOT / "RELEASING.md").read_text(encoding="utf-8")
    assert "python .ci/version.py --notes" in workflow
    assert "python .ci/version.py 0.2.0" in guide
    named = [
        word
        for text in project["tool"]["cibuildwheel"]["test-command"]
        for word in re.findall(r"\{project\}/(\S+)", text)
    ]
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_the_package_imports_without_the_clocks_that_pyodide_lacks() -> None:
    lack = "import time; del time.thread_time, time.thread_time_ns; import micrograd_bp"
    subprocess.run([sys.executable, "-c", lack], check=True)

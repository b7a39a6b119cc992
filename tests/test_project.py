"""What stands around the code agrees with it and with each other."""

import re
import tomllib
from pathlib import Path

import pytest

import micrograd_bp as mg

ROOT = Path(__file__).parent.parent
if not (ROOT / ".ci").is_dir():
    pytest.skip("the source tree is not around the tests", allow_module_level=True)

PAGES = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("*/*.md") if not path.parent.name.startswith("."))])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    version, date = (re.search(rf"^{key}: (.+)$", citation, re.M)[1] for key in ("version", "date-released"))
    assert version == mg.__version__
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] in ("Unreleased", f"{version} ({date})")
    assert f"{version} ({date})" in headings


def test_the_workflow_and_the_guide_run_what_there_is():
    assert "run: bash .ci/run\n" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "\nbash .ci/run\n" in guide
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = re.search(r"-e '\.\[([^]]+)\]'", guide)[1].split(",")
    assert set(asked) <= set(extras)
    named = set(re.findall(r"(?:tests|docs|micrograd_bp)/[\w-]+\.\w+", guide))
    assert named
    assert all((ROOT / name).exists() for name in named)

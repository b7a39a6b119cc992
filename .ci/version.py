"""The version, told once: `python .ci/version.py 0.2.0` names what CHANGELOG.md has under Unreleased, and dates it.

_version.py, CITATION.cff and CHANGELOG.md are written together, or none of them where something is not as it should be.
`python .ci/version.py --notes` prints what the newest version brings, for the release's page.
"""

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")


def stamp(root: Path, version: str, date: str) -> None:
    """Write a new version and its date into the three files; ValueError: it is no version, or there is nothing new."""
    if not NUMBER.fullmatch(version):
        raise ValueError(f"a version is such as 0.2.0 or 0.2.0rc1, not {version!r}")
    edits = {
        "micrograd_bp/_version.py": (r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"'),
        "CITATION.cff": (r"(?m)^version: .*\ndate-released: .*$", f"version: {version}\ndate-released: {date}"),
        "CHANGELOG.md": (r"(?m)^## Unreleased$", f"## {version} ({date})"),
    }
    written = {}
    for name, (pattern, text) in edits.items():
        content, count = re.subn(pattern, text, (root / name).read_text("utf-8"))
        if count != 1:
            raise ValueError(f"{name}: {pattern} stands there {count} times, not once")
        written[name] = content
    if f"## {version} (" in (root / "CHANGELOG.md").read_text("utf-8"):
        raise ValueError(f"CHANGELOG.md has {version} already")
    for name, content in written.items():
        (root / name).write_text(content, "utf-8")


def notes(root: Path) -> str:
    """The newest section of the changelog, without its heading."""
    sections = re.split(r"(?m)^## .+$", (root / "CHANGELOG.md").read_text("utf-8"))
    return sections[1].strip()


if __name__ == "__main__":
    if sys.argv[1:] == ["--notes"]:
        print(notes(ROOT))
    elif len(sys.argv) == 2:
        stamp(ROOT, sys.argv[1], datetime.date.today().isoformat())
    else:
        sys.exit(__doc__)

"""Docstrings as mkdocstrings reads them: a section Example is one of Examples, and programs are shown as they are."""

import re
from typing import Any

try:
    from griffe import Extension
except ImportError:  # where the site is not built, and doctests are looked for
    Extension = object


PROGRAM = re.compile(r"^(>>> .*(?:\n.+)*(?:\n\n>>> .*(?:\n.+)*)*)", re.MULTILINE)  # one that stands in no section


class Sections(Extension):
    """Renames the section while the package is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = PROGRAM.sub(r"```pycon\n\1\n```", text)

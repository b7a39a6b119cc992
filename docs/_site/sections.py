"""Docstrings as mkdocstrings reads them: a section Example is one of Examples, whose programs are shown as they are."""

import re
from typing import Any

try:
    from griffe import Extension
except ImportError:  # where the site is not built, and doctests are looked for
    Extension = object


class Sections(Extension):
    """Renames the section while the package is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)

"""Docstrings as mkdocstrings reads them: a section Example is one of Examples; programs are shown as they are."""

import ast
import re
from typing import Any

try:
    from griffe import Docstring, Extension
except ImportError:  # where the site is not built, and doctests are looked for
    Docstring = Extension = object


PROGRAM = re.compile(r"^(>>> .*(?:\n.+)*(?:\n\n>>> .*(?:\n.+)*)*)", re.MULTILINE)  # one that stands in no section


class Sections(Extension):
    """Renames the section while the package is read."""

    def on_attribute_instance(self, *, attr: Any, **_: Any) -> None:
        """Shows an attribute that `checked` makes as one of its type, with the docstring that is given there."""
        if getattr(getattr(attr.value, "function", None), "name", "") == "checked":
            attr.docstring = Docstring(ast.literal_eval(attr.value.arguments[-1]), parent=attr)
            attr.value = None

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = PROGRAM.sub(r"```pycon\n\1\n```", text)

"""Help where people look: every public name has a docstring in sections, with an example, and is annotated."""

import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import micrograd_bp as mg
from micrograd_bp import Op
from micrograd_bp.compiler.kernels import Kernel

SECTIONS = ("Args", "Returns", "Raises", "Source", "Example")
MODULES = (mg, mg.nn, mg.losses, mg.optim, mg.training, mg.datasets, mg.testing, mg.math)


def shown(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions, classes and ops that a module shows: by its `__all__`, or those that are defined in it."""
    for name in getattr(module, "__all__", vars(module)):
        x = getattr(module, name)
        home = getattr(x, "__module__", None) or ""
        own = home.startswith("micrograd_bp") if hasattr(module, "__all__") else home == module.__name__
        made = getattr(getattr(x, "__code__", None), "co_name", name) != name  # from an op or from Python's math
        if callable(x) and own and not made and not name.startswith("_"):
            yield f"{home}.{name}", x


def methods(name: str, cls: Any) -> Iterator[tuple[str, Any]]:
    """The public methods that a class defines; of Value, those that floats do not have and the table does not give."""
    for member in vars(cls) if isinstance(cls, type) else ():
        given = cls is mg.Value and (member in mg.ops.TABLE or hasattr(float, member))
        x = getattr(cls, member)
        routine = inspect.isroutine(x) and x.__name__ == member  # no alias
        if routine and not given and (member == "__call__" or not member.startswith("_")):
            yield f"{name}.{member}", x


NAMES = dict(entry for module in MODULES for entry in shown(module)) | {"micrograd_bp.compiler.kernels.Kernel": Kernel}
METHODS = dict(entry for top in NAMES.items() for entry in methods(*top))


def sections(x: Any) -> dict[str, str]:
    """The sections of a docstring by name; the first, without a name, is the text before them."""
    text = re.split(rf"^({'|'.join(SECTIONS)}):$", inspect.getdoc(x) or "", flags=re.MULTILINE)
    return dict(zip(["", *text[1::2]], text[::2]))


def signature(x: Any) -> tuple[dict[str, inspect.Parameter], Any] | None:
    """The parameters but self, by name, and the annotation of the result; None where C has no signature."""
    try:
        found = inspect.signature(x)
    except ValueError:
        return None
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = {f"{stars.get(p.kind, '')}{name}": p for name, p in found.parameters.items() if name != "self"}
    return parameters, found.return_annotation


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_does_in_sections_and_shows_it(name: str) -> None:
    x = NAMES[name]
    text, found = sections(x), signature(x)
    assert re.fullmatch(r"\S.*\.", text[""].split("\n\n")[0].strip())  # one line
    assert list(text) == [section for section in ("", *SECTIONS) if section in text]
    assert ">>> " in text["Example"]
    if found is not None and x is not Kernel:  # which kernel() makes
        parameters, result = found
        named = re.findall(r"^    (\*{0,2}\w+): \S", text.get("Args", ""), re.MULTILINE)
        assert sorted(named) == sorted(parameters)
        assert ("Returns" in text) == (not isinstance(x, type) and result != "None")


@pytest.mark.parametrize("name", METHODS)
def test_a_public_method_says_what_it_does_and_names_every_parameter(name: str) -> None:
    text, found = inspect.getdoc(METHODS[name]) or "", signature(METHODS[name])
    assert re.fullmatch(r"\S.*\.", text.split("\n\n")[0])
    assert not found or all(re.search(rf"(?<!\w){re.escape(parameter)}(?!\w)", text) for parameter in found[0])


@pytest.mark.parametrize("name", NAMES | METHODS)
def test_every_parameter_and_result_is_annotated(name: str) -> None:
    x = (NAMES | METHODS)[name]
    found = signature(x)
    if found is not None and not inspect.isbuiltin(x):
        parameters, result = found
        assert isinstance(x, type) or result is not inspect.Parameter.empty
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())


@pytest.mark.parametrize("op", mg.ops.PUBLIC, ids=lambda op: op.name)
def test_the_method_of_an_op_has_the_parameters_of_the_row_and_says_where_to_read_on(op: Op) -> None:
    method = getattr(mg.Value, op.name)
    shown, row = signature(method), signature(op)
    assert shown is not None
    assert row is not None
    (parameters, result), (expected, _) = shown, row
    assert list(parameters) == (list(expected)[1:] if op.arity is not None else ["*args"])
    assert result == "Value"
    assert f"help(micrograd_bp.ops.{op.name})" in method.__doc__


def test_the_constructor_of_a_value_shows_its_parameters() -> None:
    shown = signature(mg.Value)
    assert shown is not None
    assert list(shown[0]) == ["data", "_children", "_op", "label"]


def test_help_of_a_users_op_calls_none_of_its_functions() -> None:
    def refuse(*args: float) -> Any:
        raise AssertionError(args)

    op = mg.Op("own", "own", refuse, refuse)
    assert "The operation own(" in (op.__doc__ or "")
    assert mg.grad(op).__name__ == "grad(own)"  # has the documentation of the op
    refuse.__doc__ = "What its author says."
    assert op.__doc__ == "What its author says."

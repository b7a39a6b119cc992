"""Type declarations written from the table: what a type checker and an editor's completion know of Value and the ops.

`python -m micrograd_bp._engine.stubs` writes them to `declarations.pyi` beside this file, and the table as C, for the
accelerated engine, to `rules.pxi`; so does every build. Nothing imports these files when a program runs.
"""

from __future__ import annotations

import operator
import os

from micrograd_bp import ops
from micrograd_bp._engine import files, native, symbolic
from micrograd_bp._engine.methods import FLOAT_METHODS, NUMPY_NAMES
from micrograd_bp.ops import Op

HEADER = '''\
"""Written by micrograd_bp/_engine/stubs.py from the table of operations: do not edit."""
# mypy: disable-error-code="misc,override"

from collections.abc import Callable
from typing import Any, overload

from micrograd_bp._engine.signatures import Array, Scalar
from micrograd_bp.ops import Op
from micrograd_bp.value import Value
'''

# Methods that floats have beside the operations of the table, and micrograd's names.
READINGS = """\
    @property
    def real(self) -> Value: ...
    @property
    def imag(self) -> float: ...
    _backward: Callable[[], object]
    @property
    def _prev(self) -> set[Value]: ...
    @property
    def _op(self) -> str: ...
    def _set_op(self, op: Op, operands: tuple[Any, ...]) -> None: ...
    def __float__(self) -> float: ...
    def __divmod__(self, other: Scalar) -> tuple[Value, Value]: ...
    def __rdivmod__(self, other: float) -> tuple[Value, Value]: ...
    def __lt__(self, other: Scalar) -> bool: ...
    def __le__(self, other: Scalar) -> bool: ...
    def __gt__(self, other: Scalar) -> bool: ...
    def __ge__(self, other: Scalar) -> bool: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __trunc__(self) -> int: ...
    def __floor__(self) -> int: ...
    def __ceil__(self) -> int: ...
    @overload
    def __round__(self) -> int: ...
    @overload
    def __round__(self, ndigits: int) -> float: ...
"""
RESULTS = {"is_integer": "bool", "as_integer_ratio": "tuple[int, int]", "hex": "str"}


def declarations() -> str:
    """The text of the file.

    >>> "def tanh(self) -> Value:" in declarations()
    True
    """
    kinds = {_parameters(op): _class_name(op) for op in ops.PUBLIC}
    methods = [line for op in ops.PUBLIC for line in (*_method(op), *_operators(op))]
    methods += [f"    def {read.__name__}(self) -> {RESULTS[read.__name__]}: ..." for read in FLOAT_METHODS]
    methods += [f"    {alias} = {name}" for alias, name in NUMPY_NAMES.items() if not name.startswith("__")]
    parts = [
        HEADER,
        f"__all__ = {[op.name for op in ops.PUBLIC]}\n",
        "class Arithmetic:\n" + "\n".join(methods) + "\n" + READINGS,
        *[_call_class(name, *parameters) for parameters, name in kinds.items()],
        "\n".join(f"{op.name}: {kinds[_parameters(op)]}" for op in ops.PUBLIC) + "\n",
    ]
    return "\n".join(parts)


def write() -> None:
    """Write the files, unless they are up to date."""
    for name, text in (("declarations.pyi", declarations()), ("rules.pxi", native.rules())):
        _write(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), text)


def _write(path: str, text: str) -> None:
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except OSError:
        pass
    files.write(path, text)


def _parameters(op: Op) -> tuple[tuple[str, ...], tuple[float, ...], bool]:
    """The names of an op's parameters, the defaults of the last ones, and whether it takes any number of arguments."""
    return ((), (), True) if op.arity is None else (op.parameters, op.defaults, False)


def _class_name(op: Op) -> str:
    """The class of all ops with these parameters."""
    names = "".join(name.capitalize() for name in op.parameters)
    defaults = "".join(f"_{default}".replace(".", "_").replace("-", "m") for default in op.defaults)
    return f"Op{names}{defaults}" if op.arity is not None else "OpVariadic"


def _method(op: Op) -> list[str]:
    """The declaration of the method of Value for an op, with a line of documentation."""
    names = op.parameters if op.arity is not None else ("x", "y")
    given = "".join(f", {text}" for text in _typed(names[1:], op.defaults, ["Scalar"] * (len(names) - 1)))
    rest = ", /, *args: Scalar" if op.arity is None else f"{given}, /" if given else ""
    call = f"{op.name}({', '.join(names)}{', ...' * (op.arity is None)})"
    derivatives = ", ".join(symbolic.derivatives(op, "out", *names))
    return [
        f"    def {op.name}(self{rest}) -> Value:",
        f'        """{call}, where self is {names[0]}; by each argument, its derivative is {derivatives}."""',
    ]


def _operators(op: Op) -> list[str]:
    """The declarations of the operator that stands for an op, if there is one."""
    if not (hasattr(operator, op.name) and hasattr(float, f"__{op.name}__")):
        return []
    if op.arity == 1:
        return [f"    def __{op.name}__(self) -> Value: ..."]
    return [
        f"    def __{op.name}__(self, other: Scalar) -> Value: ...",
        f"    def __r{op.name}__(self, other: float) -> Value: ...",
    ]


def _call_class(name: str, parameters: tuple[str, ...], defaults: tuple[float, ...], variadic: bool) -> str:
    """The class of the ops with these parameters: floats give a float; a Value among the arguments, a Value."""
    n = len(parameters)
    cases = [(["float"] * n, "float")]
    cases += [(["float"] * k + ["Value"] + ["Scalar"] * (n - 1 - k), "Value") for k in range(n)]
    cases += [(["Scalar"] * k + ["Array"] + ["Scalar | Array"] * (n - 1 - k), "Any") for k in range(n)]
    calls = [(", ".join(_typed(parameters, defaults, kinds)), result) for kinds, result in cases]
    if variadic:
        calls = [
            ("x: float = ..., y: float = ..., /, *args: float", "float"),
            ("x: Value, /, *args: Scalar", "Value"),
            ("x: float, y: Value, /, *args: Scalar", "Value"),
            ("x: Scalar | Array, /, *args: Scalar | Array", "Any"),
        ]
    lines = [f"class {name}(Op):"]
    for given, result in calls:
        lines += ["    @overload", f"    def __call__(self, {given}{', /' * (not variadic)}) -> {result}: ..."]
    return "\n".join(lines) + "\n"


def _typed(parameters: tuple[str, ...], defaults: tuple[float, ...], kinds: list[str]) -> list[str]:
    """Parameters with their types; the last ones with defaults, where their types say nothing else than numbers."""
    values = [""] * (len(parameters) - len(defaults)) + [f" = {default!r}" for default in defaults]
    typed: list[str] = []
    for name, kind, value in zip(reversed(parameters), reversed(kinds), reversed(values)):
        value = value if kind in ("float", "Scalar") and (not typed or "=" in typed[0]) else ""
        typed.insert(0, f"{name}: {kind}{value}")
    return typed


if __name__ == "__main__":
    write()

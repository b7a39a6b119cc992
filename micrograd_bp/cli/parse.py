"""Expressions typed on a command line: parsed, looked up in the table of operations, recorded; never run as code."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from micrograd_bp import ops
from micrograd_bp.value import Value

LONGEST = 10_000  # characters
OPERATORS = {
    ast.Add: ops.add, ast.Sub: ops.sub, ast.Mult: ops.mul, ast.Div: ops.truediv, ast.FloorDiv: ops.floordiv,
    ast.Mod: ops.mod, ast.Pow: ops.pow, ast.USub: ops.neg, ast.UAdd: ops.pos,
}  # fmt: skip
CONSTANTS = {name: getattr(math, name) for name in ("pi", "e", "tau", "inf", "nan")}
FUNCTIONS = {op.symbol: op for op in reversed(ops.TABLE.values()) if op.symbol.isalpha()} | ops.TABLE  # max as well


def record(text: str, values: Mapping[str, float]) -> Value:
    """The graph of an expression, with a labelled leaf for each of the values.

    Numbers, the operators + - * / // % **, the functions of the table of operations, and pi, e, tau, inf, nan. All
    arithmetic is that of floats. ValueError: anything else, a name without a value, a value without a name, a point
    where the expression has no value; with the place in the text.

    >>> record("tanh(a*b + c)", {"a": 2, "b": -3, "c": 6}).data
    0.0
    """
    text = " ".join(text.split())
    if len(text) > LONGEST:
        raise ValueError(f"an expression of {len(text):,} characters is too long; up to {LONGEST:,} are read")
    leaves = {name: Value(number, name) for name, number in values.items()}
    results: dict[ast.AST, Any] = {}
    used = set()
    for node in _operands_first(text):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            results[node] = _evaluate(text, node, float, node.value)
        elif isinstance(node, ast.Name) and node.id in leaves | CONSTANTS:
            results[node] = leaves[node.id] if node.id in leaves else CONSTANTS[node.id]
            used.add(node.id)
        elif isinstance(node, ast.Name):
            call = f"{node.id}(...)" if node.id in FUNCTIONS else f"{node.id}=NUMBER"
            raise _mistake(text, node, f"no value for {node.id}; write {call}")
        elif isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATORS:
            args = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.operand]
            results[node] = _evaluate(text, node, OPERATORS[type(node.op)], *[results[arg] for arg in args])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            if node.keywords:
                raise _mistake(text, node.keywords[0], "arguments go by their place here, not by name")
            results[node] = _evaluate(text, node, FUNCTIONS[node.func.id], *[results[arg] for arg in node.args])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            close = difflib.get_close_matches(node.func.id, FUNCTIONS, 1) or sorted(FUNCTIONS)
            raise _mistake(text, node.func, f"no function {node.func.id}; there is {', '.join(close)}")
        else:
            raise _mistake(text, node, "only numbers, names, + - * / // % ** and calls of functions can stand here")
    if unused := [name for name in leaves if name not in used]:
        raise ValueError(f"{', '.join(unused)}: given, but not in the expression {text}")
    output = results[node]
    if not isinstance(output, Value):
        raise ValueError(f"{text} is {output!r}, a constant: there is no name to differentiate by")
    return output


def _operands_first(text: str) -> Iterator[Any]:
    """The parts of the expression, each after its operands; found without recursion."""
    if not text:
        raise ValueError("the expression is empty")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise _mistake(text, (error.offset or 1) - 1, error.msg) from None
    except (RecursionError, MemoryError):
        raise ValueError("the expression is nested too deeply") from None
    stack: list[tuple[ast.AST, bool]] = [(tree, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
            continue
        stack.append((node, True))
        operands = {ast.BinOp: ("left", "right"), ast.UnaryOp: ("operand",)}.get(type(node), ())
        parts = [getattr(node, name) for name in operands] + (node.args if isinstance(node, ast.Call) else [])
        stack += [(part, False) for part in reversed(parts)]


def _evaluate(text: str, node: ast.AST, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except (ArithmeticError, ValueError, TypeError) as error:
        said: Exception = error
        if isinstance(function, ops.Op) and not any(isinstance(arg, Value) for arg in args):
            said = function.failure(type(error)(error.args[-1]), args)  # in the words of a recorded operation
        raise _mistake(text, node, str(said)) from error


def _mistake(text: str, place: Any, message: str) -> ValueError:
    """The error, with the part of the text that it is about and a caret under its column."""
    start = end = place
    if not isinstance(place, int):
        start, end = (len(text.encode()[:offset].decode()) for offset in (place.col_offset, place.end_col_offset))
    start = min(start, len(text))
    left = max(0, start - 60)
    shown = text[left : left + 110]
    marks = "^".ljust(min(end - start, len(shown) - (start - left)), "~")
    return ValueError(f"{message}\n  {shown}\n  {' ' * (start - left)}{marks}")

"""`micrograd-bp draw`: an expression as a picture, a page or a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from micrograd_bp._engine import files
from micrograd_bp.cli.parse import FUNCTIONS, record
from micrograd_bp.see.drawing import draw
from micrograd_bp.see.explorer import explore
from micrograd_bp.see.trace import trace_table
from micrograd_bp.value import Value

WRITERS: dict[str, Callable[[Value, Path], object]] = {
    **{
        suffix: lambda output, path: draw(output).render(outfile=path, format=path.suffix[1:].lower(), cleanup=True)
        for suffix in (".svg", ".png", ".pdf")
    },
    ".dot": lambda output, path: files.write(path, draw(output).source),
    ".html": explore,
}


def main(arguments: Sequence[str]) -> int:
    """Draw an expression: a picture, a page to step through (.html), or its trace table on the terminal."""
    functions = f"functions: {', '.join(sorted(FUNCTIONS))}; also pi, e, tau, inf, nan"
    parser = argparse.ArgumentParser("micrograd-bp draw", description=main.__doc__, epilog=functions)
    parser.add_argument("expression", help="such as 'tanh(a*b + c)'")
    parser.add_argument("values", metavar="NAME=NUMBER", nargs="*", help="a value for each name in the expression")
    suffixes = ", ".join(WRITERS)
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help=f"where to; its suffix is one of {suffixes}")
    options = ("-o", "--output", "-h", "--help")
    # argparse takes an expression that begins with a minus sign for an option, unless a blank stands in front
    given = parser.parse_args([f" {x}" if x[:1] == "-" and x.split("=")[0] not in options else x for x in arguments])
    path: Path | None = given.output
    if path is not None and path.suffix.lower() not in WRITERS:
        raise ValueError(f"{path}: the suffix says what to write, one of {suffixes}")
    output = record(given.expression, _values(given.values))
    output.backward()
    if path is None:
        print(trace_table(output))
    else:
        WRITERS[path.suffix.lower()](output, path)
        print(path)
    return 0


def _values(texts: Sequence[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = text.strip().partition("=")
        try:
            value = float(number) if name.isidentifier() else None
        except ValueError:
            value = None
        if value is None:
            raise ValueError(f"{text.strip()!r} is no NAME=NUMBER, such as a=2")
        if name in values:
            raise ValueError(f"{name} is given twice")
        values[name] = value
    return values

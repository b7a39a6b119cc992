"""Options that several commands share: how a CSV file is to be read."""

from __future__ import annotations

import argparse
import re
from typing import Any

REMEDIES = (  # how a reader's message names the remedy in Python; the option to name instead
    (r'\b(missing|task|encoding|decimal)="([^"]*)"', r"--\1 \2"),
    (r"\bignore=\[('[^']*')\]", r"--ignore \1"),
    (r"\bcategories=True", "--categories"),
    (r"\bheader=(True|False)", lambda match: f"--header {'yes' if match[1] == 'True' else 'no'}"),
)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Options of a command that reads a CSV file; `reader_options` makes keyword arguments of them."""
    group = parser.add_argument_group("how the table is read")
    group.add_argument(
        "--missing", choices=["drop", "mean"], help="cells without a number: leave the row out, or put the mean there"
    )
    group.add_argument("--header", choices=["yes", "no"], help="whether the first line names the columns")
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="of the text, cp1252 say (default: utf-8)")
    group.add_argument("--decimal", default=".", metavar="MARK", help="of the numbers, a comma say (default: a point)")


def reader_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for a reader of CSV files."""
    header = {"yes": True, "no": False}.get(arguments.header)
    return {"header": header, "encoding": arguments.encoding}


def as_options(message: str) -> str:
    """The message with options of the command in place of the arguments of functions that it recommends."""
    for python, option in REMEDIES:
        message = re.sub(python, option, message)
    return message


def positive(text: str) -> int:
    """A whole number from the command line, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 1 or more")
    return int(text)

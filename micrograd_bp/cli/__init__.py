"""The command line: `micrograd-bp`, also `python -m micrograd_bp`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from micrograd_bp.cli import draw, export, predict, train
from micrograd_bp.cli.options import as_options

# By the first argument; without one, a network is trained.
COMMANDS = {"train": train.main, "draw": draw.main, "export": export.main, "predict": predict.main}


def main(argv: Sequence[str] | None = None) -> int:
    """The command `micrograd-bp`, also `python -m micrograd_bp`; the exit code is 2 for an error of the user's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]](arguments[1:])
        return train.main(arguments)
    except (ValueError, ArithmeticError, ImportError, OSError) as error:
        place = f"{error.filename}: " if isinstance(error, OSError) and error.filename is not None else ""
        message = as_options(str(getattr(error, "strerror", None) or error))
        print(f"micrograd-bp: error: {place}{message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("micrograd-bp: interrupted", file=sys.stderr)
        return 130

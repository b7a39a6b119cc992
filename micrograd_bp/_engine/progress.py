"""Progress bars on stderr, by tqdm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

INSTALL = "a progress bar takes tqdm: pip install tqdm, or pass progress=False"


def wanted(progress: bool | None) -> bool:
    """Whether a bar is to be shown: as asked, or, for None, on a terminal."""
    return bool(progress) or (progress is None and sys.stderr is not None and sys.stderr.isatty())


def bar(progress: bool | None, **options: Any) -> Any:
    """A bar of tqdm's, or None where none is wanted; unless asked for it comes after a second of work."""
    if not wanted(progress):
        return None
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return tqdm(delay=0.0 if progress else 1.0, file=sys.stderr, **options)


def watch(title: str, unit: str, progress: bool | None, total: int | None = None) -> Callable[[Any], Iterable[Any]]:
    """A function that wraps an iterable in a progress bar, or returns it as it is where none is wanted."""

    def around(items: Iterator[Any]) -> Iterable[Any]:
        shown = bar(progress, iterable=items, desc=title, unit=unit, total=total)
        return items if shown is None else shown

    return around

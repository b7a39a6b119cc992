"""Progress bars on stderr, by tqdm."""

from __future__ import annotations

import contextlib
import sys
import threading
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


_running: list[str] = []  # what is shown


@contextlib.contextmanager
def elapsed(title: str, patience: float = 2.0) -> Iterator[None]:
    """On a terminal show a title and the time gone, while a block runs that has taken so many seconds already.

    Within another such block nothing more is shown. A thread shows it, since the block may be one call.
    """
    if _running or not wanted(None):
        yield
        return
    ended = threading.Event()

    def show() -> None:
        if ended.wait(patience):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            return
        line = tqdm(desc=title, bar_format="{desc}, {elapsed}", delay=0.001, leave=False, file=sys.stderr)
        line.start_t -= patience
        line.refresh()
        while not ended.wait(0.5):
            line.refresh()
        line.close()

    thread = threading.Thread(target=show, name=f"micrograd_bp shows: {title}", daemon=True)
    _running.append(title)
    try:
        with contextlib.suppress(RuntimeError):  # no further threads
            thread.start()
        yield
    finally:
        ended.set()
        _running.clear()
        if thread.ident is not None:
            thread.join()


def watch(title: str, unit: str, progress: bool | None, total: int | None = None) -> Callable[[Any], Iterable[Any]]:
    """A function that wraps an iterable in a progress bar, or returns it as it is where none is wanted."""

    def around(items: Iterator[Any]) -> Iterable[Any]:
        shown = bar(progress, iterable=items, desc=title, unit=unit, total=total)
        return items if shown is None else shown

    return around

"""Numbers in files: JSON, written whole or not at all, read as data that may be damaged or hostile."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import IO, Any, TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]

LONGEST = 50  # characters of a target's name in the name of its temporary file: file systems allow 255 bytes
DEEPEST = 200  # nested lists and objects in a file: enough for 100 nested models, within Python's recursion limit


def write(path: StrPath, content: str | bytes, *, folders: bool = False) -> None:
    """Write text or bytes to a temporary file beside the path, then put it in the path's place in one step.

    The old file stays until then, whatever happens; where two processes write at once, the file of the last one stays,
    whole. A device or a pipe is written to directly. folders: whether missing folders are created. OSError: it names
    the path.
    """
    data = content.encode() if isinstance(content, str) else content
    target = os.path.realpath(path)  # a symbolic link stays a link
    try:
        if folders:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as file:  # IsADirectoryError: it is one
                file.write(data)
            return
        _clear(target)
        while not _replace(target, data):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def _replace(target: str, data: bytes) -> bool:
    """Write the file; False if another process's `_clear` removed the temporary file before it was locked."""
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:LONGEST]}.{os.getpid()}.{os.urandom(8).hex()}.tmp")
    file = open(temporary, "xb")  # noqa: SIM115  # open, and so locked, until it is in its place
    try:
        _lock(file)
        if not os.path.exists(temporary):
            file.close()
            return False
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if sys.platform == "win32":  # no open file is moved or removed there
            file.close()
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):  # close() tries to write what is still buffered
            file.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    file.close()
    return True


def _clear(target: str) -> None:
    """Remove the temporary files of writers to this target that were killed: those that are not locked."""
    folder, name = os.path.split(target)
    left = re.compile(rf"\.{re.escape(name[:LONGEST])}\.\d+(\.[0-9a-f]+)?\.tmp")
    with contextlib.suppress(OSError):  # a folder that cannot be read
        for found in filter(left.fullmatch, os.listdir(folder)):
            temporary = os.path.join(folder, found)
            with contextlib.suppress(OSError):
                if sys.platform == "win32":
                    os.unlink(temporary)
                    continue
                with open(temporary, "rb") as file:
                    if _lock(file, wait=False):
                        os.unlink(temporary)


def _lock(file: IO[bytes], wait: bool = True) -> bool:
    """Lock a file until it is closed or the process ends; False where it cannot be locked.

    A lock is safer than a process number in the name, which may be another process's in another container.
    """
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):  # locked, or a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
    return False


def write_json(path: StrPath, content: dict[str, Any]) -> None:
    """Write strict JSON: floats to the last bit, and those that JSON lacks as "nan", "inf" and "-inf".

    ValueError: it is nested so deeply that `read_json` would refuse it.
    """
    check_depth(content, str(path))
    write(path, json.dumps(_strict(content), indent=1, allow_nan=False) + "\n")


def _strict(x: Any) -> Any:
    if isinstance(x, float) and not math.isfinite(x):
        return repr(float(x))
    if isinstance(x, dict):
        return {key: _strict(value) for key, value in x.items()}
    return [_strict(value) for value in x] if isinstance(x, list | tuple) else x


def read_json(
    path: StrPath, kind: str, version: int, keys: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Read a file that `write_json` wrote: an object with the format, the version and the keys.

    ValueError: it is anything else; the message names the file and the place in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_object, parse_constant=_constant)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no UTF-8; this is no {kind} file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}; damaged") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply for a {kind} file; damaged") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise ValueError(f'{path}: no {kind} file, for it lacks "format": "{kind}"')
    if content.get("version") != version:
        raise ValueError(
            f"{path}: version {content.get('version')!r} of the {kind} format; this library reads {version}"
        )
    there = [key for key in optional if key in content]
    check_keys(content, ("format", "version", *keys, *there), str(path))
    check_depth(content, str(path))
    return content


def check_depth(content: Any, place: str) -> None:
    """Raise ValueError where lists and objects are nested more than DEEPEST levels deep; uses no recursion."""
    level = [content]
    for _ in range(DEEPEST):
        inner = [part.values() if isinstance(part, dict) else part for part in level]
        level = [x for part in inner for x in part if isinstance(x, dict | list | tuple)]
        if not level:
            return
    raise ValueError(f"{place}: nested too deeply, to more than {DEEPEST} levels; damaged, or no model that is taken")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{_shown(name)} stands there twice")
        members[name] = value
    return members


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def check_keys(content: Any, keys: Collection[str], place: str) -> None:
    """Raise ValueError unless the content at this place is an object with exactly these keys."""
    if not isinstance(content, dict):
        raise ValueError(f"{place}: {_shown(content)} is no object")
    missing = [key for key in keys if key not in content]
    unknown = [key for key in content if key not in keys]
    if missing or unknown:
        word, names = ("lacks", missing) if missing else ("has the unknown", unknown)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"{place} {word} {', '.join(map(_shown, names[:3]))}{more}")


def real(x: Any, place: str) -> float:
    """The entry at this place of a file, a float; ValueError otherwise."""
    if type(x) in (int, float):
        try:
            return float(x)
        except OverflowError:
            pass
    elif type(x) is str and x in ("nan", "inf", "-inf"):
        return float(x)
    raise ValueError(f"{place}: {_shown(x)} is no float")


def text(x: Any, place: str) -> str:
    """The entry at this place of a file, a string; ValueError otherwise."""
    if type(x) is str:
        return x
    raise ValueError(f"{place}: {_shown(x)} is no text")


def natural(x: Any, place: str) -> int:
    """The entry at this place of a file, a whole number from 0 on; ValueError otherwise."""
    if type(x) is int and x >= 0:
        return x
    raise ValueError(f"{place}: expected a whole number, 0 or more, got {_shown(x)}")


def several(x: Any, place: str, item: Callable[[Any, str], Any] = real, count: int | None = None) -> list[Any]:
    """The entry at this place of a file, a list of that length; ValueError otherwise."""
    if type(x) is not list:
        raise ValueError(f"{place}: {_shown(x)} is no list")
    if count is not None and len(x) != count:
        raise ValueError(f"{place}: a list of {len(x)}, not of {count}")
    return [item(entry, f"{place}[{i}]") for i, entry in enumerate(x)]


def _shown(x: Any) -> str:
    if isinstance(x, list | dict) or (type(x) is int and abs(x) > 10**20):
        return f"a {type(x).__name__}"
    text = json.dumps(x)
    return text if len(text) < 60 else text[:57] + "..."

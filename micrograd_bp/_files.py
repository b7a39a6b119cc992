"""Numbers in files: JSON, written whole or not at all, read as data that may be damaged or hostile."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

Path: TypeAlias = str | os.PathLike[str]


def write(path: Path, content: str | bytes) -> None:
    """Write text or bytes to a temporary file beside the path, then put it in the path's place in one step."""
    path = os.path.realpath(path)  # a link stays one
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON: floats to the last bit, and those that JSON lacks as "nan", "inf" and "-inf"."""
    write(path, json.dumps(_strict(content), indent=1, allow_nan=False) + "\n")


def _strict(x: Any) -> Any:
    if isinstance(x, float) and not math.isfinite(x):
        return repr(float(x))
    if isinstance(x, dict):
        return {key: _strict(value) for key, value in x.items()}
    return [_strict(value) for value in x] if isinstance(x, list | tuple) else x


def read_json(path: Path, kind: str, version: int, keys: tuple[str, ...]) -> dict[str, Any]:
    """The object in a file that `write_json` wrote: {"format": kind, "version": version, and the keys}.

    ValueError: anything else, with the file and the place.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is no UTF-8; this is no {kind} file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}, column {error.colno}: {error.msg}; damaged") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply for a {kind} file") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise ValueError(f'{path}: no {kind} file, for it lacks "format": "{kind}"')
    if content.get("version") != version:
        raise ValueError(
            f"{path}: version {content.get('version')!r} of the {kind} format; this library reads {version}"
        )
    check_keys(content, ("format", "version", *keys), str(path))
    return content


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
    """ValueError: the content of this place is no object with these keys and no others."""
    if not isinstance(content, dict):
        raise ValueError(f"{place}: {_shown(content)} is no object")
    missing = [key for key in keys if key not in content]
    unknown = [key for key in content if key not in keys]
    if missing or unknown:
        word, names = ("lacks", missing) if missing else ("has the unknown", unknown)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"{place} {word} {', '.join(map(_shown, names[:3]))}{more}")


def real(x: Any, place: str) -> float:
    """The float that stands at this place of a file."""
    if type(x) in (int, float):
        try:
            return float(x)
        except OverflowError:
            pass
    elif type(x) is str and x in ("nan", "inf", "-inf"):
        return float(x)
    raise ValueError(f"{place}: {_shown(x)} is no float")


def natural(x: Any, place: str) -> int:
    """The whole number, 0 or more, that stands at this place of a file."""
    if type(x) is int and x >= 0:
        return x
    raise ValueError(f"{place}: {_shown(x)} is no count")


def several(x: Any, place: str, item: Callable[[Any, str], Any] = real, count: int | None = None) -> list[Any]:
    """The list of so many items that stands at this place of a file."""
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

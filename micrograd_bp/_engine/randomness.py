"""The source of randomness that functions take as `rng`."""

from __future__ import annotations

from typing import Any


def checked_rng(rng: Any) -> Any:
    """The same, where it is a random.Random or does as one does. TypeError: it is anything else, a seed say."""
    if not all(callable(getattr(rng, method, None)) for method in ("gauss", "uniform", "shuffle", "getstate")):
        example = rng if isinstance(rng, int) and not isinstance(rng, bool) else 0
        raise TypeError(f"rng is a source of randomness, random.Random({example}) say, not {rng!r}")
    return rng

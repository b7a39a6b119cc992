"""Learning curves as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from micrograd_bp.see.svg import SVGPicture, label

COLOURS = ("#3d85c6", "#d9622b", "#3b9a5f", "#9a68b8", "#c99a1a", "#7d8590")  # readable on white and on black
WIDTH, HEIGHT = 640.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 20.0, 46.0
MOST = 1_000  # points of a curve: more than there are pixels; of a longer one, means


def draw_curve(
    numbers: Sequence[float] | Mapping[str, Sequence[float]],
    *,
    title: str = "",
    x_label: str = "epoch",
    log: bool | None = None,
) -> SVGPicture:
    """Numbers over their places 1, 2, ... as a line: a learning curve, say.

    Args:
        numbers: A sequence, or several by name, such as `training.fit`'s history; what is not finite leaves
            a gap.
        title: A line above the picture.
        x_label: What is counted along the axis.
        log: Whether the scale is logarithmic; by default where all numbers are positive and span two
            decades or more.

    Returns:
        A picture in SVG, which shows itself in a notebook; `.save("loss.svg")` writes it.

    Raises:
        ValueError: None of the numbers is finite, or `log` is asked for and one of them is not positive.

    Example:
        >>> draw_curve([1.0, 0.1, 0.01, 0.001])
        <Picture: a curve of 4 numbers from 0.001 to 1, on a logarithmic scale>
    """
    series = (
        {str(name): list(map(float, row)) for name, row in numbers.items()}
        if isinstance(numbers, Mapping)
        else {"": list(map(float, numbers))}
    )
    count = max(map(len, series.values()), default=0)
    series = {name: row for name, row in series.items() if any(map(math.isfinite, row))}
    finite = [y for row in series.values() for y in row if math.isfinite(y)]
    if not finite:
        raise ValueError("a curve takes finite numbers; there are none")
    low, high = min(finite), max(finite)
    if log and low <= 0.0:
        raise ValueError(f"a logarithmic scale takes positive numbers, not {low!r}; leave log out")
    if log is None:
        log = low > 0.0 and math.log10(high) - math.log10(low) >= 2.0
    ticks = _decades(low, high) if log else _ticks(low, high)
    bottom, top = min(low, ticks[0]), max(high, ticks[-1])

    def place(y: float) -> float:
        y, below, above = (
            map(math.log, (y, bottom, top)) if log else (y / 2, bottom / 2, top / 2)
        )  # no difference overflows
        return TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (y - below) / (above - below))

    def along(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((x - 1.0) / (count - 1) if count > 1 else 0.5)

    elements = []
    for tick in ticks:
        elements.append(f'<path class="line" d="M{LEFT} {place(tick):.1f}H{WIDTH - RIGHT}"/>')
        elements.append(label(LEFT - 8, place(tick) + 4.5, f"{tick:.4g}", class_="quiet", text_anchor="end"))
    marks = sorted({1, count, *(round(t) for t in _ticks(1, count) if 1 < t < 0.93 * count and t == round(t))})
    for mark in marks:
        elements.append(label(along(mark), HEIGHT - BOTTOM + 20, f"{mark:,}", class_="quiet", text_anchor="middle"))
    elements.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, class_="quiet", text_anchor="middle"))
    across = LEFT + 12.0
    for (name, row), colour in zip(series.items(), COLOURS * (len(series) // len(COLOURS) + 1)):
        pieces: list[list[str]] = [[]]
        for x, y in _thinned(row, log):
            if math.isfinite(y):
                pieces[-1].append(f"{along(x):.1f},{place(y):.1f}")
            elif pieces[-1]:
                pieces.append([])
        for points in filter(None, pieces):
            if len(points) == 1:
                cx, cy = points[0].split(",")
                elements.append(f'<circle cx="{cx}" cy="{cy}" r="3" fill="{colour}"/>')
            else:
                shape = f'fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"'
                elements.append(f'<polyline {shape} points="{" ".join(points)}"/>')
        if name:
            if across > LEFT + 12.0 and across + 26 + 7.5 * len(name) > WIDTH:
                break
            elements.append(f'<rect x="{across:.0f}" y="6" width="18" height="4" rx="2" fill="{colour}"/>')
            elements.append(label(across + 24, 13, name))
            across += 44 + 7.5 * len(name)
    several = f"{len(series)} curves" if len(series) > 1 else "a curve"
    scale = ", on a logarithmic scale" if log else ""
    return SVGPicture(
        f"{several} of {count:,} numbers from {low:.4g} to {high:.4g}{scale}", WIDTH, HEIGHT, elements, title
    )


def _thinned(row: list[float], log: bool) -> list[tuple[float, float]]:
    """The points, or of very many the means of neighbours (geometric ones on a logarithmic scale)."""
    if len(row) <= MOST:
        return [(place, y) for place, y in enumerate(row, start=1)]
    points = []
    for k in range(MOST):
        start, end = k * len(row) // MOST, (k + 1) * len(row) // MOST
        finite = [y for y in row[start:end] if math.isfinite(y)]
        mean = math.nan
        if finite:
            mean = math.exp(math.fsum(map(math.log, finite)) / len(finite)) if log else math.fsum(finite) / len(finite)
        points.append(((start + 1 + end) / 2, mean))
    return points


def _ticks(low: float, high: float) -> list[float]:
    """Some round numbers from at most `low` to at least `high`."""
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2
    span = high - low
    if not math.isfinite(span):
        return [low, 0.0, high]
    unit = 10.0 ** math.floor(math.log10(span / 4))
    unit *= next(m for m in (1, 2, 2.5, 5, 10) if span / (m * unit) <= 5)
    first, last = math.floor(low / unit), math.ceil(high / unit)
    return [k * unit for k in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from at most `low` to at least `high`, not more than some."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    apart = -(-(last - first) // 7)
    powers = [float(f"1e{k}") for k in range(first, last + apart, apart) if -323 <= k <= 308]
    return powers if len(powers) > 1 else [low, high]

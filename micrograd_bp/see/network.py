"""A network as its textbook draws it: units in columns, weights by width and colour, deltas at the units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from micrograd_bp.see.svg import SVGPicture, label

if TYPE_CHECKING:
    from micrograd_bp._engine.signatures import Scalar

COLUMN, ROW, RADIUS, MARGIN = 190.0, 62.0, 21.0, 26.0  # pixels
WIDEST = 6.0  # width of the line of the largest weight

Unit = tuple[list[Any], Any]  # a unit's weights and bias


def draw_network(
    model: Any,
    x: Sequence[Scalar] | None = None,
    *,
    names: Sequence[str] = (),
    title: str = "",
    number_format: str = ".3g",
    max_units: int = 12,
) -> SVGPicture:
    """The picture of a network of neurons: columns of units, and a line for every weight.

    Width stands for a weight's magnitude, colour for its sign. Where biases have a grad, each unit shows its delta, the
    derivative of the error by the unit's net input, which is what backward() leaves in the bias: summed over the rows
    since zero_grad().

    Args:
        model: A neuron, a layer, an MLP, or a Sequential of them; also micrograd's, or whatever has such
            `neurons` with weights `w` and a bias `b`, or `layers` of them.
        x: A row of numbers, as many as the model has inputs: units show what they give for it.
        names: What the inputs are called (default: x1, x2, ...).
        title: A line above the picture.
        number_format: A format specification for signals and deltas.
        max_units: Of a longer column so many units are drawn, the first and the last; 2 or more.

    Returns:
        A picture in SVG, which shows itself in a notebook; `.save("network.svg")` writes it.

    Raises:
        TypeError: The model is not made of neurons in layers.
        ValueError: There are fewer than 2 units to be drawn, or too many or too few numbers or names.

    Source:
        The notation is that of Bishop, Pattern recognition and machine learning (2006), section 5.3.

    Example:
        >>> import random
        >>> from micrograd_bp import nn
        >>> draw_network(nn.MLP(2, [3, 1], rng=random.Random(0)), [1.0, 2.0])
        <Picture: a network of 2 inputs and layers of 3 and 1 units>
    """
    if max_units < 2:
        raise ValueError(f"max_units is 2 or more, not {max_units}")
    parts = list(_parts(model))
    layers = [units for _, units in parts if units]
    if not layers:
        raise TypeError(
            f"no layers of neurons in {model!r}; draw_network takes a neuron, a layer, an MLP or a Sequential of them, "
            "mg.draw(output, model=model) draws whatever was computed"
        )
    inputs = len(layers[0][0][0])
    for place, (units, before) in enumerate(zip(layers, [inputs, *map(len, layers)])):
        if any(len(weights) != before for weights, _ in units):
            raise TypeError(f"layer {place} of {model!r} does not take the {before} numbers that are before it")
    if names and len(names) != inputs:
        raise ValueError(f"{len(names)} names for {inputs} inputs")
    names = names or [f"x{place}" for place in range(1, inputs + 1)]
    signals = [] if x is None else _signals(model, parts, x, inputs)
    columns = [inputs, *map(len, layers)]
    weights = [abs(_number(w)) for units in layers for row, _ in units for w in row]
    largest = max(weights, default=0.0) or 1.0
    deltas = [[getattr(bias, "grad", 0.0) for _, bias in units] for units in layers]
    shown = [_shown(count, max_units) for count in columns]
    tallest = max(len(places) for places in shown)
    wide = max(COLUMN, 2.2 * RADIUS + 7.5 * max(map(len, names)))
    left = MARGIN + RADIUS + (0.0 if signals else 7.5 * max(map(len, names)) / 2)

    def point(column: int, row: int) -> tuple[float, float]:
        return left + wide * column, MARGIN + 24 + ROW * (row + 0.5 + (tallest - len(shown[column])) / 2)

    lines, drawn = [], []
    for column, units in enumerate(layers):
        for row, unit in enumerate(shown[column + 1]):
            for start, source in enumerate(shown[column]):
                if unit is not None and source is not None:
                    w = _number(units[unit][0][source])
                    (x1, y1), (x2, y2) = point(column, start), point(column + 1, row)
                    if w == w:
                        width = 0.3 + (WIDEST - 0.3) * min(abs(w) / largest, 1.0)
                        lines.append(
                            f'<line class="{"plus" if w > 0 else "minus"}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" '
                            f'y2="{y2:.1f}" stroke-width="{width:.2f}" opacity=".7"><title>{w:.6g}</title></line>'
                        )
    for column, places in enumerate(shown):
        heading = "inputs" if not column else "outputs" if column == len(layers) else f"layer {column}"
        drawn.append(label(point(column, 0)[0], MARGIN, heading, class_="quiet", text_anchor="middle"))
        for row, unit in enumerate(places):
            cx, cy = point(column, row)
            if unit is None:
                drawn.append(label(cx, cy + 4, f"{columns[column] - max_units + 1:,} more", text_anchor="middle"))
                continue
            text = names[unit] if not column and not signals else ""
            if signals:
                text = format(signals[column][unit], number_format)
            if not column and signals:
                drawn.append(label(cx, cy - RADIUS - 4, names[unit], class_="quiet", text_anchor="middle"))
            half = max(RADIUS, 3.9 * len(text) + 6)
            drawn.append(
                f'<rect class="unit" x="{cx - half:.1f}" y="{cy - RADIUS:.1f}" width="{2 * half:.1f}" '
                f'height="{2 * RADIUS:.0f}" rx="{RADIUS:.0f}"/>'
            )
            drawn.append(label(cx, cy + 4.5, text, text_anchor="middle"))
            delta = deltas[column - 1][unit] if column else 0.0
            if delta:
                words = f"δ {delta:+{number_format.lstrip('+')}}"
                across = 7.0 * len(words) + 8
                drawn.append(
                    f'<rect class="delta" x="{cx - across / 2:.1f}" y="{cy + RADIUS - 3:.1f}" width="{across:.1f}" '
                    f'height="17" rx="5"/>'
                )
                drawn.append(label(cx, cy + RADIUS + 10, words, font_size="12", text_anchor="middle"))
    legend = [f"width: magnitude of a weight, up to {max(weights, default=0.0):.3g}"]
    if any(map(any, deltas)):
        legend.append("δ: derivative of the error by a unit's net input")
    height = MARGIN + 24 + ROW * tallest + 26
    for begin, kind, words in ((MARGIN, "plus", "positive"), (MARGIN + 96, "minus", "negative")):
        shape = f'class="{kind}" stroke-width="4"'
        drawn.append(f'<line {shape} x1="{begin:.0f}" y1="{height:.0f}" x2="{begin + 24:.0f}" y2="{height:.0f}"/>')
        drawn.append(label(begin + 30, height + 4, words, class_="quiet"))
    drawn += [
        *[label(MARGIN, height + 22 + 18 * row, words, class_="quiet") for row, words in enumerate(legend)],
    ]
    total = max(2 * left + wide * len(layers), 370.0)
    sizes = " and ".join(filter(None, [", ".join(map(str, columns[1:-1])), str(columns[-1])]))
    one = "layers of" if len(layers) > 1 else "a layer of"
    description = f"a network of {inputs} inputs and {one} {sizes} unit{'s' * (columns[1:] != [1])}"
    return SVGPicture(description, total, height + 14 + 18 * len(legend), lines + drawn, title)


def _parts(model: Any) -> Any:
    """The parts of the model in the order of their application, each with its units if it is a layer of neurons."""
    inner = next(filter(None, (getattr(model, name, None) for name in ("layers", "parts"))), None)
    if isinstance(inner, list | tuple):
        for part in inner:
            yield from _parts(part)
    elif isinstance(getattr(model, "neurons", None), list | tuple):
        yield model, [(list(neuron.w), neuron.b) for neuron in model.neurons]
    elif isinstance(getattr(model, "w", None), list | tuple) and hasattr(model, "b"):
        yield model, [(list(model.w), model.b)]
    elif callable(getattr(model, "parameters", None)) and model.parameters():
        raise TypeError(f"{model!r} is no layer of neurons, nor made of them; draw_network cannot show its parameters")
    else:
        yield model, []


def _signals(model: Any, parts: list[tuple[Any, list[Unit]]], x: Sequence[Scalar], inputs: int) -> list[list[float]]:
    """The inputs of the first layer of neurons, then the outputs of each layer."""
    row: Any = list(x)
    signals: list[list[float]] = []
    for part, units in parts:
        if units and not signals:
            if len(row) != inputs:
                raise ValueError(f"{model!r} takes {inputs} numbers, not {len(row)}")
            signals.append([_number(number) for number in row])
        out = part(row)
        row = list(out) if isinstance(out, list | tuple) else [out]
        if units:
            signals.append([_number(number) for number in row])
    return signals


def _shown(count: int, most: int) -> list[int | None]:
    """The places of a column that are drawn; None stands for those that are left out."""
    if count <= most:
        return list(range(count))
    last = (most - 1) // 2
    return [*range(most - 1 - last), None, *range(count - last, count)]


def _number(x: Any) -> float:
    return float(getattr(x, "data", x))

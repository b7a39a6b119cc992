"""Networks and learning curves as pictures: what they show is what the model and the numbers are."""

import itertools
import math
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import micrograd_bp as mg
from micrograd_bp import Value, losses, nn

SVG = "{http://www.w3.org/2000/svg}"


def elements(picture: Any, tag: str) -> list[Any]:
    return list(ElementTree.fromstring(picture.svg).iter(f"{SVG}{tag}"))


def texts(picture: Any) -> list[str]:
    return [element.text or "" for element in elements(picture, "text")]


def weights(model: Any) -> list[float]:
    return [w.data for layer in model.layers for neuron in layer.neurons for w in neuron.w]


def network(*sizes: Any, seed: int = 0) -> Any:
    return nn.MLP(sizes[0], list(sizes[1:]), activation="tanh", rng=random.Random(seed))


def test_every_weight_is_a_line_of_its_width_and_colour() -> None:
    model = network(3, 4, 2)
    lines = [line for line in elements(mg.draw_network(model), "line") if line.find(f"{SVG}title") is not None]
    assert [float(line.find(f"{SVG}title").text) for line in lines] == [float(f"{w:.6g}") for w in weights(model)]
    for line, w in zip(lines, weights(model), strict=True):
        assert line.get("class") == ("plus" if w > 0 else "minus")
        assert float(line.get("stroke-width")) == pytest.approx(
            0.3 + 5.7 * abs(w) / max(map(abs, weights(model))), abs=0.006
        )


def test_units_show_their_signals_and_deltas() -> None:
    model, x = network(2, 3, 1), [0.5, -1.5]
    hidden = [neuron(x) for neuron in model.layers[0].neurons]
    loss = losses.sum_of_squares(model(x), 1.0)
    loss.backward()
    words = texts(mg.draw_network(model, x, number_format=".5f"))
    shown = [f"{number:.5f}" for number in (*x, *(h.data for h in hidden), model(x).data)]
    assert set(shown) <= set(words)
    delta = model(x).data - 1.0  # of a linear output under half a squared error
    back = [delta * w.data * (1 - h.data**2) for w, h in zip(model.layers[1].neurons[0].w, hidden)]
    assert [word for word in words if word.startswith("δ ")] == [f"δ {d:+.5f}" for d in (*back, delta)]


def test_without_gradients_there_are_no_deltas_and_without_a_row_no_signals() -> None:
    words = texts(mg.draw_network(network(2, 3, 1), names=["left", "right"]))
    assert {"left", "right", "inputs", "layer 1", "outputs"} <= set(words)
    assert not [word for word in words if "δ" in word]


def test_a_long_column_shows_its_ends_and_how_many_are_between() -> None:
    picture = mg.draw_network(network(2, 30, 1), max_units=7)
    assert "24 more" in texts(picture)
    assert len([rect for rect in elements(picture, "rect") if rect.get("class") == "unit"]) == 2 + 6 + 1


def test_sequences_frozen_models_and_micrograd_s_own_are_drawn() -> None:
    micrograd_nn = pytest.importorskip("micrograd.nn")
    model = nn.Sequential(nn.Standardize([1.0, 2.0], [2.0, 4.0]), network(2, 3, 2))
    row = [3.0, 10.0]
    assert {"1", "2"} <= set(texts(mg.draw_network(model, row)))  # standardised
    assert texts(mg.draw_network(model.freeze(), row)) == texts(mg.draw_network(model, row))
    assert repr(mg.draw_network(micrograd_nn.MLP(2, [3, 1]), [1.0, 2.0])).endswith(
        "2 inputs and layers of 3 and 1 units>"
    )
    assert repr(mg.draw_network(nn.Neuron(2))) == "<Picture: a network of 2 inputs and a layer of 1 unit>"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(TypeError, match="no layers of neurons in 3"):
        mg.draw_network(3)
    with pytest.raises(TypeError, match="is no layer of neurons, nor made of them"):
        mg.draw_network(nn.Sequential(nn.RNNCell(2, 3)))
    with pytest.raises(ValueError, match="takes 2 numbers, not 1"):
        mg.draw_network(network(2, 1), [1.0])
    with pytest.raises(ValueError, match="1 names for 2 inputs"):
        mg.draw_network(network(2, 1), names=["x"])
    with pytest.raises(ValueError, match="max_units is 2 or more"):
        mg.draw_network(network(2, 1), max_units=1)


def heights(picture: Any) -> list[list[float]]:
    """The heights of the points of each line, from below."""
    lines = elements(picture, "polyline")
    return [[-float(point.split(",")[1]) for point in line.get("points").split()] for line in lines]


@given(st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=50))
def test_a_curve_rises_and_falls_with_its_numbers_on_either_scale(numbers: list[float]) -> None:
    for log in (True, False, None):
        (line,) = heights(mg.draw_curve(numbers, log=log))
        assert len(line) == len(numbers)
        for (a, b), (p, q) in zip(itertools.pairwise(numbers), itertools.pairwise(line)):
            assert p <= q if a <= b else p >= q
        assert all(-274.05 <= y <= -19.95 for y in line)


def test_decades_have_a_logarithmic_scale_where_they_are_spanned() -> None:
    geometric = [10.0**-k for k in range(5)]
    (line,) = heights(mg.draw_curve(geometric))
    steps = [b - a for a, b in itertools.pairwise(line)]
    assert max(steps) - min(steps) <= 0.11
    assert {"1", "0.1", "0.01", "0.001", "0.0001"} <= set(texts(mg.draw_curve(geometric)))
    assert "logarithmic" not in repr(mg.draw_curve([3.0, 2.0, 1.0]))
    assert "logarithmic" not in repr(mg.draw_curve([100.0, 1.0, 0.0]))


def test_a_history_is_drawn_as_it_is_with_gaps_for_what_is_not_finite() -> None:
    picture = mg.draw_curve({"loss": [3.0, 2.0, math.nan, 1.0, 0.5], "val_loss": [3.0, math.inf], "none": [math.nan]})
    assert [len(line) for line in heights(picture)] == [2, 2]
    assert len(elements(picture, "circle")) == 1
    assert {"loss", "val_loss"} <= set(texts(picture))
    assert "none" not in texts(picture)


def test_a_very_long_curve_is_thinned_by_means() -> None:
    (line,) = heights(mg.draw_curve([float(k % 2) + 1e-3 * (k // 2000) for k in range(100_000)]))
    assert len(line) == 1000
    assert line == sorted(line)


def test_a_curve_of_nothing_is_refused() -> None:
    numbers: Any
    for numbers in ([], [math.nan], {}, {"loss": []}):
        with pytest.raises(ValueError, match="a curve takes finite numbers"):
            mg.draw_curve(numbers)
    with pytest.raises(ValueError, match=r"a logarithmic scale takes positive numbers, not 0\.0"):
        mg.draw_curve([1.0, 0.0], log=True)


@pytest.mark.parametrize("title", ["<script>", "a & b", "\ud800", "\x00", "]]>"])
def test_any_title_is_shown_and_written(title: str, tmp_path: Path) -> None:
    for picture in (mg.draw_network(network(2, 1), title=title), mg.draw_curve([1.0, 2.0], title=title)):
        picture.save(tmp_path / "new" / "picture.svg")
        assert (tmp_path / "new" / "picture.svg").read_text("utf-8") == picture.svg == picture._repr_svg_()
        assert title.encode("unicode_escape").decode() in texts(picture) or title in texts(picture)


def test_pictures_change_nothing() -> None:
    model = network(2, 2, 1)
    before = [(p.data, p.grad) for p in model.parameters()]
    mg.draw_network(model, [Value(1.0), Value(2.0)])
    assert [(p.data, p.grad) for p in model.parameters()] == before

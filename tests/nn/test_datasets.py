"""Data sets: what is in them, how they are split and scaled, and what is said of a table that is none."""

import collections
import math
import random
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micrograd_bp import datasets, nn


def test_iris_is_fishers_table() -> None:
    data = datasets.iris()
    assert collections.Counter(data.y) == {0: 50, 1: 50, 2: 50}
    assert data.classes == ["setosa", "versicolor", "virginica"]
    assert data.features == ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    assert (data.X[34], data.X[37]) == ([4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1])  # wrong in the UCI copy
    means = [datasets.statistics([x for x, k in zip(data.X, data.y, strict=True) if k == j])[0] for j in range(3)]
    assert [[round(mean, 3) for mean in row] for row in means] == [  # Fisher's table II
        [5.006, 3.428, 1.462, 0.246],
        [5.936, 2.770, 4.260, 1.326],
        [6.588, 2.974, 5.552, 2.026],
    ]


@given(st.integers(4, 60), st.integers(0, 2**32))
def test_moons_and_spirals_lie_on_their_curves(n: int, seed: int) -> None:
    moons = datasets.moons(n, 0.0, random.Random(seed))
    for (x, y), k in zip(moons.X, moons.y, strict=True):
        assert math.hypot(x - k, y - 0.5 * k) == pytest.approx(1.0)
        assert y <= 0.5 + 1e-12 if k else y >= -1e-12
    spirals = datasets.spirals(n, 3, 0.0, 1.5, random.Random(seed))
    for (x, y), k in zip(spirals.X, spirals.y, strict=True):
        radius = math.hypot(x, y)
        angle = 2 * math.pi * (1.5 * radius + k / 3)
        assert (x, y) == pytest.approx((radius * math.cos(angle), radius * math.sin(angle)), abs=1e-12)
    for data in (moons, spirals):
        counts = collections.Counter(data.y)
        assert len(data.X) == n
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("make", [datasets.moons, datasets.spirals])
def test_noise_comes_from_the_seed_and_has_its_size(make: Callable[..., Any]) -> None:
    assert make(40, rng=random.Random(1)) == make(40, rng=random.Random(1)) != make(40, rng=random.Random(2))
    assert make(40) == make(40, rng=random.Random(0))
    exact, noisy = make(1000, noise=0.0), make(1000, noise=0.3, rng=random.Random(3))
    errors = [a - b for rows in zip(exact.X, noisy.X, strict=True) for a, b in zip(*rows, strict=True)]
    assert statistics.fmean(errors) == pytest.approx(0.0, abs=0.03)
    assert statistics.pstdev(errors) == pytest.approx(0.3, rel=0.05)


@given(st.floats(0.1, 0.9), st.integers(0, 2**32))
def test_a_split_holds_out_the_same_share_of_every_class(share: float, seed: int) -> None:
    data = datasets.iris()
    train, test = data.split(share, random.Random(seed))
    rows = sorted(zip(train.X + test.X, train.y + test.y, strict=True))
    assert rows == sorted(zip(data.X, data.y, strict=True))
    assert set(collections.Counter(test.y).values()) == {round(50 * share)}
    assert (train, test) == data.split(share, random.Random(seed))


def test_a_split_has_two_sides() -> None:
    data = datasets.xor()
    for share in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            data.split(share)
    with pytest.raises(ValueError, match=r"4 rows are too few to hold out 0\.1"):
        data.split(0.1)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=2, max_size=20))
def test_standardised_columns_have_mean_0_and_deviation_1(rows: list[list[float]]) -> None:
    train, other = datasets.standardize(rows, rows[:1])
    assert other == train[:1]
    for before, column in zip(zip(*rows, strict=True), zip(*train, strict=True), strict=True):
        spread = max(before) - min(before)
        if spread > 1e-6 * max(map(abs, before)):
            assert statistics.fmean(column) == pytest.approx(0.0, abs=1e-6)
            assert statistics.pstdev(column) == pytest.approx(1.0, rel=1e-6)
        if spread == 0.0:
            assert column == pytest.approx([0.0] * len(rows), abs=1e-9)
    module = nn.Standardize(*datasets.statistics(rows))
    assert [module.forward(row) for row in rows] == train


def test_a_mean_takes_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        datasets.statistics([])


# --- tables of one's own ------------------------------------------------------------------------------------------


def table(folder: Path, content: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@given(st.binary(max_size=60) | st.text('a,;\t"\n\r0.x', max_size=60))
def test_whatever_stands_in_a_file_it_is_a_table_or_says_why_not(folder: Path, content: bytes | str) -> None:
    path = table(folder, content)
    try:
        data = datasets.read_csv(path)
    except ValueError as error:
        fine = re.match(rf"{re.escape(str(path))}[:,] ", str(error)) is not None
    else:
        fine = len(data.X) == len(data.y) > 0 and (not data.classes or 1 < len(data.classes) <= len(data.X))
    assert fine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")

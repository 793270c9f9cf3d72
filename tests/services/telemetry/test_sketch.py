from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.telemetry import sketch

NUMBERS = st.floats(-1e15, 1e15, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-12)
RANKS = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0]


def encoded(values: Sequence[float]) -> bytes:
    return sketch.Sketch().plus(sketch.keys_of(np.array(values)).tolist()).encode()


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=60), min_size=1, max_size=4))
def test_quantiles_are_within_the_accuracy(groups: list[list[float]]) -> None:
    bins, owners = sketch.decode([encoded(values) for values in groups])
    found = sketch.quantiles(bins, owners, len(groups), RANKS)
    for values, row in zip(groups, found, strict=True):
        exact = np.quantile(values, RANKS, method="lower")
        assert np.all(np.abs(row - exact) <= sketch.ACCURACY * np.abs(exact) * (1 + 1e-9))


@given(st.lists(st.lists(st.integers(-5, 5)), max_size=5))
def test_a_sketch_grows_and_leaves_those_before_as_they_were(parts: list[list[int]]) -> None:
    grown = [sketch.Sketch()]
    for part in parts:
        grown[-1].plus([7, *part])  # is not kept
        grown.append(grown[-1].plus(part))
    again = sketch.Sketch(grown[-1].encode()).plus([3])
    numbers: list[int] = []
    for one, part in zip([*grown, again], [[], *parts, [3]], strict=True):
        numbers += part
        bins, _ = sketch.decode([one.encode()])
        assert dict(bins.tolist()) == Counter(numbers)
        assert len(bins) == len(set(numbers))


def test_merged_sketches_are_those_of_all_numbers() -> None:
    numbers = np.random.default_rng(7).lognormal(size=2_000)
    merged, _ = sketch.decode([encoded(part) for part in np.array_split(numbers, 2)])
    single, _ = sketch.decode([encoded(numbers)])
    zeros = [np.zeros(len(bins), np.intp) for bins in (merged, single)]
    assert sketch.quantiles(merged, zeros[0], 1, RANKS) == pytest.approx(
        sketch.quantiles(single, zeros[1], 1, RANKS)
    )


def test_a_group_without_numbers_has_no_quantile() -> None:
    bins, owners = sketch.decode([encoded([]), encoded([2.0])])
    found = sketch.quantiles(bins, owners, 3, [0.5])
    assert np.isnan(found[[0, 2], 0]).all()
    assert found[1, 0] == pytest.approx(2.0, rel=sketch.ACCURACY)
    assert np.isnan(sketch.quantiles(bins[:0], owners[:0], 1, [0.5])).all()

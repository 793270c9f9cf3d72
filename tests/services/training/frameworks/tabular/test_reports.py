"""What predictions are told to be worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.training.frameworks.tabular.reports import baseline_accuracy, doubts

CLASSES = ["no", "fraud", "rare"]


@pytest.mark.parametrize(
    ("expected", "predicted", "told"),
    [
        ([0, 0, 0, 1, 2], [0, 0, 0, 1, 2], []),
        ([0, 0, 0, 1, 2], [0, 0, 0, 0, 2], ["never predicted: 'fraud' (1 rows)"]),
        (
            [0, 0, 0, 1, 2], [0, 0, 0, 0, 0],
            [
                "right in 0.6000 of the rows, and always saying 'no' in 0.6000",
                "never predicted: 'fraud' (1 rows), 'rare' (1 rows)",
            ],
        ),
        ([0, 0, 1], [0, 0, 1], ["not among the held-out rows: 'rare'"]),
    ],
)  # fmt: skip
def test_what_an_accuracy_hides_is_said(
    expected: list[int], predicted: list[int], told: list[str]
) -> None:
    found = doubts(np.array(expected), np.array(predicted), CLASSES)
    assert len(found) == len(told)
    for line, part in zip(found, told, strict=True):
        assert part in line


@given(st.lists(st.integers(0, 2), min_size=1))
def test_a_constant_has_the_baseline(expected: list[int]) -> None:
    rows = np.array(expected)
    best = max(float((rows == code).mean()) for code in range(3))
    assert baseline_accuracy(rows) == pytest.approx(best)

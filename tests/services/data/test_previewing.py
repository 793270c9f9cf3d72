import json
import math
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from mcp_hub.services.data.cells import cell, rounded
from mcp_hub.services.data.previewing import preview_frame


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (2**60, 2**60),
        (1.5, 1.5),
        (math.nan, None),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),  # noqa: DTZ001
        (b"abc", "<3 bytes>"),
        ([1, math.nan, "x"], [1, None, "x"]),
        ({"a": [date(2024, 1, 2)], "b": timedelta(minutes=1)}, {"a": ["2024-01-02"], "b": 60.0}),
        (list(range(100)), json.dumps(list(range(100)))[:79] + "…"),
    ],
)
def test_a_cell_is_short_json(value: Any, shown: Any) -> None:
    assert cell(value)[0] == shown
    json.dumps(cell(value)[0], allow_nan=False)


def test_numbers_keep_six_digits() -> None:
    assert rounded(1234567.89) == 1234570.0
    assert rounded(0.000123456789) == 0.000123457
    assert rounded(math.inf) is None
    assert rounded(None) is None


def test_the_first_rows() -> None:
    frame = pl.DataFrame({"a": range(20), "ü": [[i] for i in range(20)]})
    preview = preview_frame(frame, "d:1", 2)
    assert preview.model_dump() == {
        "dataset": "d:1",
        "columns": ["a", "ü"],
        "rows": [[0, [0]], [1, [1]]],
        "total_rows": 20,
        "truncated": False,
        "omitted_columns": 0,
    }
    assert len(preview_frame(frame, "d:1", 100).rows) == 20


def test_cut_cells_are_said_to_be_cut() -> None:
    assert preview_frame(pl.DataFrame({"a": ["x" * 81]}), "d:1", 5).truncated
    assert not preview_frame(pl.DataFrame({"a": ["x" * 81]})[:0], "d:1", 5).truncated


def test_wide_tables_show_sixty_columns_and_as_many_rows_as_fit() -> None:
    frame = pl.DataFrame({f"c{i}": ["y" * 70] * 100 for i in range(200)})
    preview = preview_frame(frame, "d:1", 100)
    assert len(preview.columns) == 60
    assert preview.omitted_columns == 140
    assert 1 <= len(preview.rows) < 100
    assert preview.truncated
    assert len(preview.model_dump_json()) < 25_000

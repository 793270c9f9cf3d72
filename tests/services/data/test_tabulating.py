import math
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded
from mcp_hub.adapters.sources.port import Row, Untyped
from mcp_hub.services.data.reading import read_frame
from mcp_hub.services.data.tabulating import Table

DAY = datetime(2020, 1, 2)  # noqa: DTZ001 - in UTC, as all cells
KINDS: list[st.SearchStrategy[Any]] = [
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text("aé🚀"),
    st.binary(max_size=3), st.datetimes(),
]  # fmt: skip


def _untyped(*texts: str) -> list[Untyped]:
    return [Untyped(text) for text in texts]


@st.composite
def batches(draw: st.DrawFn) -> list[list[Row]]:
    kinds = {name: draw(st.sampled_from(KINDS)) for name in ("a", "b", "c.d")}
    cells = {name: st.none() | kind for name, kind in kinds.items()}
    row = st.fixed_dictionaries({}, optional=cells)
    return draw(st.lists(st.lists(row, min_size=1, max_size=5), min_size=1, max_size=4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(batches())
def test_what_went_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Row]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    table = Table(folder, 10**7, 10**6)
    for batch in batches:
        table.add(batch)
    rows = [row for batch in batches for row in batch]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        with pytest.raises(InvalidArgument):
            table.save(folder / "content")
        return
    table.save(folder / "content")
    frame = pl.read_parquet(folder / "content")
    assert frame.columns == names
    assert frame.rows() == [tuple(row.get(name) for name in names) for row in rows]


@pytest.mark.parametrize(
    ("cells", "dtype", "expected"),
    [
        ([1, 2.5, None], pl.Float64(), [1.0, 2.5, None]),
        ([1, "x"], pl.String(), ["1", "x"]),
        ([True, 1], pl.String(), ["true", "1"]),
        ([DAY, "x", b"\1"], pl.String(), ["2020-01-02T00:00:00", "x", "01"]),
        ([None, None], pl.String(), [None, None]),
        ([math.inf, 1], pl.Float64(), [math.inf, 1.0]),
        (_untyped("1", "-20", ""), pl.Int64(), [1, -20, None]),
        (_untyped("1", "2.50", "-1e3", ".5"), pl.Float64(), [1.0, 2.5, -1000.0, 0.5]),
        (_untyped("true", "false"), pl.Boolean(), [True, False]),
        (_untyped("007", "12", ""), pl.String(), ["007", "12", ""]),
        (_untyped(str(2**63), "1"), pl.Float64(), [2.0**63, 1.0]),
        (_untyped("nan", "-", "+1", "True"), pl.String(), ["nan", "-", "+1", "True"]),
    ],
)
def test_a_column_has_one_type(
    tmp_path: Path, cells: list[Any], dtype: pl.DataType, expected: list[Any]
) -> None:
    table = Table(tmp_path, 10**6, 10**6)
    for cell in cells:
        table.add([{"x": cell}])
    table.save(tmp_path / "content")
    frame = pl.read_parquet(tmp_path / "content")
    assert frame.schema == {"x": dtype}
    assert frame["x"].to_list() == expected


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        table = Table(folder, 10**8, 10**6)
        for start in range(0, 30_000, 10_000):
            table.add([{"n": n, "text": f"row {n % 7}"} for n in range(start, start + 10_000)])
        table.save(folder / "content")
        contents.append((folder / "content").read_bytes())
    assert contents[0] == contents[1]
    frame = read_frame(tmp_path / "1" / "content", "parquet")
    assert frame["n"].to_list() == list(range(30_000))


def test_too_much_is_refused_before_it_is_all_there(tmp_path: Path) -> None:
    table = Table(tmp_path, 1_000_000, 10**6)
    for number in range(9):
        table.add([{"n": number, "text": "x" * 100_000}])
    with pytest.raises(LimitExceeded, match="1000000 bytes") as raised:
        table.add([{"n": 9, "text": "x" * 100_000}])
    assert "query.limit" in (raised.value.hint or "")
    with pytest.raises(LimitExceeded, match="columns"):
        Table(tmp_path, 10**9, 10**6).add([{f"c{number}": 1 for number in range(6000)}])


def test_more_rows_than_allowed_are_refused(tmp_path: Path) -> None:
    table = Table(tmp_path, 10**6, 3)
    table.add([{"x": 1}] * 3)
    with pytest.raises(LimitExceeded, match="more than the 3 rows"):
        table.add([{"x": 1}])

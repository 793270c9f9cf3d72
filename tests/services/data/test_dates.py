from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.analysis import Inspected, inspect
from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.reading import read_frame, read_with_options


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-01-31", None], ["2024-01-31T00:00:00", None]),
        (["2024-1-5 7:05"], ["2024-01-05T07:05:00"]),
        (["2024-01-31 10:00"], ["2024-01-31T10:00:00"]),
        (["2024-01-31T10:00:30"], ["2024-01-31T10:00:30"]),
        (["2024-01-31T10:00:30.250000"], ["2024-01-31T10:00:30.250000"]),
        (["2024-01-31T10:00:00Z"], ["2024-01-31T10:00:00"]),
        (["2024-01-31 10:00:00 UTC"], ["2024-01-31T10:00:00"]),
        (["2024-01-31T10:00:00+02:00", "2024-02-01T00:00:00Z"],
         ["2024-01-31T08:00:00", "2024-02-01T00:00:00"]),
        (["2024/1/31"], ["2024-01-31T00:00:00"]),
        (["01/02/2024", "12/31/2024"], ["2024-01-02T00:00:00", "2024-12-31T00:00:00"]),
        (["01/02/2024", "31/12/2024"], ["2024-02-01T00:00:00", "2024-12-31T00:00:00"]),
        (["01/02/2024"], ["2024-01-02T00:00:00"]),
        (["31-12-2024 23:59"], ["2024-12-31T23:59:00"]),
        (["31.12.2024"], ["2024-12-31T00:00:00"]),
        (["01.02.2024"], ["2024-02-01T00:00:00"]),
        (["01.02.2024", "12.31.2024"], ["2024-01-02T00:00:00", "2024-12-31T00:00:00"]),
        (["5 Jan 2024"], ["2024-01-05T00:00:00"]),
        (["January 5, 2024"], ["2024-01-05T00:00:00"]),
        ([" 2024-01-31 "], ["2024-01-31T00:00:00"]),
    ],
)  # fmt: skip
def test_date_formats(texts: list[str | None], expected: list[str | None]) -> None:
    parsed = parse_datetimes(pl.Series(texts))
    assert parsed is not None
    assert [value and value.isoformat() for value in parsed] == expected


@pytest.mark.parametrize(
    "texts", [["2024-13-45"], ["2024-01-31", "x"], ["10:00"], ["2024"], ["1.5"], [None], ["a b"]]
)
def test_what_is_no_date(texts: list[str | None]) -> None:
    assert parse_datetimes(pl.Series(texts, dtype=pl.String)) is None


def test_typed_dates_become_naive_datetimes() -> None:
    assert parse_datetimes(pl.Series([date(2024, 1, 2)])).item() == datetime(2024, 1, 2)  # noqa: DTZ001
    assert parse_datetimes(pl.Series([1, 2])) is None


def write(tmp_path: Path, *dates: str, due: list[str] | None = None) -> Path:
    file = tmp_path / "d.csv"
    rows = zip(dates, due or ["x"] * len(dates), "ab" * len(dates), strict=False)
    file.write_text("at,due,y\n" + "".join(f"{','.join(row)}\n" for row in rows))
    return file


def inspected(file: Path, **options: Any) -> Inspected:
    return inspect(file, "csv", options)


@pytest.mark.parametrize("mark", ["/", "-", "."])
def test_an_order_that_no_date_settles_is_told_and_an_option_settles_it(
    tmp_path: Path, mark: str
) -> None:
    file = write(tmp_path, *(f"{text}".replace("/", mark) for text in ("3/3/2024", "3/4/2024")))
    [warning] = inspected(file).warnings
    assert (warning.code, warning.columns) == ("date_order", ["at"])
    read = "2024-04-03" if mark == "." else "2024-03-04"
    assert f"'at' has 3{mark}4{mark}2024, read as {read}" in warning.message
    assert warning.message.endswith("register with options.day_first=true or false.")
    for day_first, month in ((True, 4), (False, 3)):
        found = inspected(file, day_first=day_first)
        assert found.warnings == []
        assert found.options["day_first"] is day_first
        frame = read_frame(file, "csv", found.options)
        assert frame["at"].to_list() == [datetime(2024, 3, 3), datetime(2024, month, 7 - month)]  # noqa: DTZ001


def test_one_date_settles_the_order_of_the_whole_file(tmp_path: Path) -> None:
    file = write(tmp_path, "3/4/2024", "5/6/2024", due=["1/2/2024", "25/12/2024"])
    frame, found = read_with_options(file, "csv")
    assert found == {"separator": ",", "day_first": True}
    assert frame["at"].dt.month().to_list() == [4, 6]
    assert frame["due"].dt.month().to_list() == [2, 12]
    assert inspected(file).warnings == []
    assert read_frame(file, "csv", found).equals(frame)


def test_dates_that_contradict_each_other_are_read_each_by_itself(tmp_path: Path) -> None:
    file = write(tmp_path, "3/25/2024", "5/6/2024", due=["1/2/2024", "25/12/2024"])
    frame, found = read_with_options(file, "csv")
    assert "day_first" not in found
    assert frame["at"].dtype == pl.String
    assert inspected(file).warnings == []
    with pytest.raises(InvalidArgument, match="not all dates of 'at' read so"):
        inspected(file, day_first=True)
    kept = inspected(file, day_first=True, string_columns=["at"])
    assert [column["dtype"] for column in kept.columns][:2] == ["String", DATETIME]


@pytest.mark.parametrize("texts", [["3/3/2024"], ["2024-03-04"], ["3/4/2024", "x"], ["a", "b"]])
def test_there_is_nothing_to_settle(tmp_path: Path, texts: list[str]) -> None:
    found = inspected(write(tmp_path, *texts))
    assert [w.code for w in found.warnings if w.code != "few_rows"] == []
    assert "day_first" not in found.options


DATETIME = "Datetime(time_unit='us', time_zone=None)"

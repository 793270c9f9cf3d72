import io
import json
import threading
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.services.data import reading
from mcp_hub.services.data.reading import read_frame, read_with_options


def write(tmp_path: Path, content: bytes | str) -> Path:
    file = tmp_path / "content"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1, "b": "x"}, {"a": 2, "b": null}]',
        '\ufeff[{"a": 1, "b": "x"}, {"a": 2}]',
        '{"a": [1, 2], "b": ["x", null]}',
        '\n {"a": [1, 2], "b": ["x", null]} \n',
    ],
)
def test_json_rows_or_columns(tmp_path: Path, text: str) -> None:
    frame = read_frame(write(tmp_path, text), "json")
    assert frame.to_dict(as_series=False) == {"a": [1, 2], "b": ["x", None]}


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "b": "x"}\n{"a": 2}\n', '{"a": 1, "b": "x"}\r\n\r\n{"a": 2, "b": null}'],
)
def test_json_lines(tmp_path: Path, text: str) -> None:
    frame = read_frame(write(tmp_path, text), "jsonl")
    assert frame.to_dict(as_series=False) == {"a": [1, 2], "b": ["x", None]}


def test_a_key_that_appears_late_is_a_column(tmp_path: Path) -> None:
    rows = [{"a": i} for i in range(3000)] + [{"a": 0.5, "späť": "ü"}]
    frame = read_frame(write(tmp_path, "\n".join(map(json.dumps, rows))), "jsonl")
    assert frame.schema == {"a": pl.Float64, "späť": pl.String}
    assert frame["späť"].to_list()[-1] == "ü"
    assert read_frame(write(tmp_path, json.dumps(rows)), "json").equals(frame)


def test_nan_and_infinity_as_python_writes_them(tmp_path: Path) -> None:
    rows = [{"a": float("nan")}, {"a": float("inf")}, {"a": 1.5}]
    frame = read_frame(write(tmp_path, json.dumps(rows)), "json")
    assert frame["a"].to_list() == [None, float("inf"), 1.5]
    frame = read_frame(write(tmp_path, "\n".join(map(json.dumps, rows))), "jsonl")
    assert frame["a"].to_list() == [None, float("inf"), 1.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("[]", "no columns"),
        ("{}", "no columns"),
        ('{"a": []}', "no rows"),
        ('[{"a": 1', "broken at line 1, column 9"),
        ('[{"a": 1},\n{"a" 2}]', "broken at line 2, column 6"),
        ('[{"a": 1}] extra', "broken"),
        ("[1, 2]", "Row 0"),
        ('[{"a": 1}, 5]', "Row 1"),
        ('[{"a": 1}, null]', "Row 1"),
        ("null", "neither"),
        ('"text"', "neither"),
        ('{"a": 1, "b": 2}', "neither"),
        ('{"a": {"0": 1, "1": 2}}', "neither"),
        ('{"a": [1, 2], "b": [3]}', "'b' has 1 values, 'a' has 2"),
        ('[{"a": 1}, {"a": [1]}]', "do not fit together"),
        ('[{"": 1}]', "empty name"),
        ('[{"^a$": 1}]', "begins with"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_broken_json_says_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        read_frame(write(tmp_path, text), "json")
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", "empty"),
        ('{"a": 1}\n[1]\n', "Line 2 is no JSON object"),
        ('{"a": 1}\n{"a":\n', "Line 2 is not JSON"),
        ('{"a": 1}\nfoo\n', "Line 2 is not JSON"),
        ('{"a": 1}{"a": 2}', "Line 1 is not JSON"),
    ],
)
def test_broken_json_lines_say_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_frame(write(tmp_path, text), "jsonl")


@pytest.mark.parametrize("format", ["json", "jsonl"])
def test_json_that_is_not_utf8(tmp_path: Path, format: str) -> None:
    with pytest.raises(InvalidArgument, match="not UTF-8: byte 7 is 0xe4"):
        read_frame(write(tmp_path, b'{"a": "\xe4"}'), format)


def test_broken_json_too_large_for_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PYTHON_JSON_BYTES", 5)
    with pytest.raises(InvalidArgument, match="cannot be read as json"):
        read_frame(write(tmp_path, '[{"a": 1'), "json")


def test_parquet_becomes_the_few_types_of_a_frame(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    frame = pl.DataFrame(
        {
            "category": pl.Series(["a", "b"], dtype=pl.Categorical),
            "decimal": pl.Series([Decimal("1.50"), None]),
            "duration": [timedelta(seconds=90), None],
            "date": [date(2024, 1, 2), None],
            "zoned": [datetime(2024, 1, 2, 12, tzinfo=zone), None],
            "nothing": [None, None],
            "nan": [float("nan"), 1.0],
            "small": pl.Series([1, None], dtype=pl.UInt8),
            "list": [[1, 2], None],
        }
    )
    read = read_frame(write(tmp_path, parquet(frame)), "parquet")
    assert read.to_dict(as_series=False) == {
        "category": ["a", "b"],
        "decimal": [1.5, None],
        "duration": [90.0, None],
        "date": [date(2024, 1, 2), None],
        "zoned": [datetime(2024, 1, 2, 10, tzinfo=UTC).replace(tzinfo=None), None],
        "nothing": [None, None],
        "nan": [None, 1.0],
        "small": [1, None],
        "list": [[1, 2], None],
    }
    assert read.schema["nothing"] == pl.String


def test_damaged_parquet(tmp_path: Path) -> None:
    whole = parquet(pl.DataFrame({"a": range(1000)}))
    broken = whole[:100] + bytes(len(whole) - 200) + whole[-100:]
    for content, message in (
        (b"", "does not begin with PAR1"),
        (b"a,b\n1,2\n", "does not begin with PAR1"),
        (whole[: len(whole) // 2], "cut short"),
        (b"PAR1PAR1", "cannot be read as parquet"),
        (b"PAR1" + bytes(range(256)) + b"PAR1", "cannot be read as parquet"),
        (broken, "cannot be read as parquet"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            read_frame(write(tmp_path, content), "parquet")


def test_parquet_without_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="1 columns but no rows"):
        read_frame(write(tmp_path, parquet(pl.DataFrame({"a": []}))), "parquet")


def test_too_many_columns(tmp_path: Path) -> None:
    names = ",".join(f"c{i}" for i in range(reading.MAX_COLUMNS + 1))
    with pytest.raises(LimitExceeded, match="5001 columns; at most 5000"):
        read_frame(write(tmp_path, f"{names}\n{names}\n"), "csv")


def test_parquet_that_is_small_on_disk_and_huge_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.select(a=pl.repeat(1, 100_000), b=pl.repeat(2, 100_000))
    file = write(tmp_path, parquet(frame))
    monkeypatch.setattr(reading, "MAX_CELLS", 199_999)
    with pytest.raises(LimitExceeded, match="200000 cells; at most 199999"):
        read_frame(file, "parquet")


def test_a_column_name_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="257 characters"):
        read_frame(write(tmp_path, f"{'x' * 257},b\n1,2\n"), "csv")


def test_a_file_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    for format in ("csv", "json", "parquet"):
        with pytest.raises(Unavailable):
            read_frame(tmp_path / "gone", format)


def test_unknown_formats_and_options_come_before_the_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="Unknown format 'xls'"):
        read_frame(tmp_path / "gone", "xls")
    with pytest.raises(InvalidArgument, match="Unknown json option"):
        read_frame(tmp_path / "gone", "json", {"separator": ","})


def test_the_found_options_read_the_same_again(tmp_path: Path) -> None:
    file = write(tmp_path, "a; b\n1; x\n2; y\n")
    frame, options = read_with_options(file, "csv")
    assert options == {"separator": ";", "trim": True}
    again, same = read_with_options(file, "csv", options)
    assert again.equals(frame)
    assert same == options
    assert read_with_options(write(tmp_path, '[{"a": 1}]'), "json")[1] == {}


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, format: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(content)
    with suppress(InvalidArgument):
        assert read_frame(file, format).height > 0


def test_reading_leaves_other_threads_running(tmp_path: Path) -> None:
    file = write(tmp_path, "a,b,c\n" + "1.5,some text,2024-01-01\n" * 400_000)
    done = threading.Event()
    result: dict[str, Any] = {}

    def read() -> None:
        result["frame"] = read_frame(file, "csv")
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    thread.join()
    assert result["frame"].height == 400_000
    assert turns > 3

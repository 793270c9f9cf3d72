"""Rows a part at a time are the rows of the whole, whatever the file looks like."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data import slicing
from mcp_hub.services.data.csv_reading import read_csv, read_csv_parts
from mcp_hub.services.data.options import CsvOptions
from mcp_hub.services.data.reading import read_with_options
from mcp_hub.services.data.slicing import parse_dtype, read_slices

Cells = list[tuple[str, str]]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicing, "WHOLE_BYTES", 300)
    monkeypatch.setattr(slicing, "PART_BYTES", 300)


FRAME = pl.DataFrame(
    {"a": range(200), "b": ["x", None, 'a "b", c\nd', "é"] * 50, "c": [0.5, 1.0] * 100}
)


@pytest.mark.usefixtures("small_parts")
def test_dates_have_their_order_in_every_part(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    days = [f"{day}/{1 + day % 12}/2024" if day < 13 or day > 19 else "" for day in range(1, 29)]
    file.write_text("at,b\n" + "".join(f"{day},{'x' * 20}\n" for day in days))
    whole, found = read_with_options(file, "csv")
    assert found["day_first"] is True
    assert whole["at"].dt.day().to_list() == [
        day if text else None for day, text in enumerate(days, 1)
    ]
    slices = list(read_slices(file, "csv", found, dtypes=_dtypes(whole)))
    assert len(slices) > 2
    assert pl.concat(slices).equals(whole)


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "json", "parquet"])
@pytest.mark.usefixtures("small_parts")
def test_slices_are_the_frame(tmp_path: Path, format: str) -> None:
    file = tmp_path / f"f.{format}"
    match format:
        case "csv" | "tsv":
            FRAME.write_csv(file, separator="," if format == "csv" else "\t")
        case "jsonl":
            FRAME.write_ndjson(file)
        case "json":
            FRAME.write_json(file)
        case _:
            FRAME.write_parquet(file)
    assert _sliced(file, format).equals(FRAME)
    assert _sliced(file, format, first=123).equals(FRAME.slice(123))
    assert _sliced(file, format, columns=["c", "b"]).equals(FRAME.select("c", "b"))
    assert list(read_slices(file, format, dtypes=_dtypes(FRAME), first=200)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "utf-16"},
        {"encoding": "latin-1", "skip_lines": 2},
        {"trim": True},
        {"has_header": False, "columns": ["a", "b", "c"], "quote": "'"},
        {"string_columns": ["a", "c"], "null_values": ["x"]},
    ],
)
@pytest.mark.usefixtures("small_parts")
def test_slices_are_the_frame_in_other_dialects(tmp_path: Path, options: dict[str, Any]) -> None:
    file = tmp_path / "f.csv"
    quote = options.get("quote", '"')
    text = FRAME.write_csv(
        include_header=options.get("has_header", True), quote_char=quote, line_terminator="\r\n"
    )
    noted = 'made by "hand\n\n' if "skip_lines" in options else ""
    file.write_bytes((noted + text).encode(options.get("encoding", "utf-8")))
    whole, found = read_with_options(file, "csv", options)
    assert whole.shape == FRAME.shape
    slices = list(read_slices(file, "csv", found, dtypes=_dtypes(whole)))
    assert len(slices) > 3
    assert pl.concat(slices).equals(whole)


@pytest.mark.usefixtures("small_parts")
def test_types_are_those_of_all_rows(tmp_path: Path) -> None:
    """Each column shows its type only in the last part, or has none, or is nested."""
    rows: list[dict[str, Any]] = [{"i": n, "n": None, "l": [], "s": {"k": n}} for n in range(100)]
    rows += [{"i": 0.5, "n": None, "l": [1.5], "s": {"k": None, "é'": ["x"]}, "late": True}]
    file = tmp_path / "f.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    whole, _ = read_with_options(file, "jsonl")
    assert pl.concat(read_slices(file, "jsonl", dtypes=_dtypes(whole))).equals(whole)
    file = tmp_path / "f.csv"
    file.write_text("i,f,n,b,h\n" + "1,2,,true,1\n" * 100 + f"1,2.5,,maybe,{10**25}\n")
    whole, found = read_with_options(file, "csv")
    assert [str(dtype) for dtype in whole.dtypes] == [
        "Int64", "Float64", "String", "String", "Int128",
    ]  # fmt: skip
    assert pl.concat(read_slices(file, "csv", found, dtypes=_dtypes(whole))).equals(whole)


@pytest.mark.parametrize("dtype", [pl.Int64(), pl.List(pl.Float64()), pl.Struct({"a'": pl.Null()})])
def test_types_are_read_as_they_are_written(dtype: pl.DataType) -> None:
    assert parse_dtype(str(dtype)) == dtype


def test_what_no_text_has_is_no_type() -> None:
    with pytest.raises(ValueError, match="Decimal"):
        parse_dtype(str(pl.Decimal(9, 2)))


cell = st.text(st.sampled_from("a1,\"\n '\ré"), max_size=9)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=12), st.integers(8, 40), st.booleans())
@example([('5" pipe', "x"), ("\n", '"'), ("", "")], 8, False)
@example([("", "\r\r"), ("", "")], 8, False)
def test_parts_of_a_csv_end_behind_records(
    tmp_path: Path, rows: Cells, size: int, quoted: bool
) -> None:
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows([("p", "q"), *rows])
    options = CsvOptions(separator=",", null_values=[], trim=False, string_columns=["p", "q"])
    file = tmp_path / "f.csv"
    file.write_bytes(text.getvalue().encode())
    try:
        whole, completed = read_csv(file.read_bytes(), options)
    except InvalidArgument:
        return  # such as a line end within a cell that is not quoted
    parts = list(read_csv_parts(file, completed, dict(whole.schema), size))
    assert pl.concat([whole.clear(), *parts]).equals(whole)


@pytest.mark.parametrize("content", ["size,n\n" + '5" pipe,3\n6,4\n' * 9, "a,b\r1,x\r2,y\r3,z\r"])
def test_parts_of_a_csv_with_a_lone_quote_or_of_an_old_mac(tmp_path: Path, content: str) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(content.encode())
    whole, options = read_csv(file.read_bytes(), CsvOptions())
    parts = list(read_csv_parts(file, options, dict(whole.schema), 20))
    assert pl.concat(parts).equals(whole)


def _sliced(file: Path, format: str, **only: Any) -> pl.DataFrame:
    slices = list(read_slices(file, format, dtypes=_dtypes(FRAME), **only))
    assert len(slices) > 1 or format in ("json", "parquet")
    return pl.concat(slices)


def _dtypes(frame: pl.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.schema.items()}

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.data.analysis import Inspected, inspect
from mcp_hub.services.data.kinds import infer_kinds
from mcp_hub.services.data.misreadings import find_misreadings
from mcp_hub.services.data.options import CsvOptions

RANDOM = random.Random(0)


def mixed(mark: str, count: int = 400, odd: int = 16) -> list[str]:
    numbers = [f"{RANDOM.gauss(0, 1):.4f}" for _ in range(count - odd)]
    return numbers + [mark] * odd


def read(tmp_path: Path, text: str, **options: Any) -> Inspected:
    file = tmp_path / "d.csv"
    file.write_text(text)
    return inspect(file, "csv", options)


def kinds_of(found: Inspected) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in found.columns}


def table(**columns: list[str]) -> str:
    rows = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    return "\n".join(rows) + "\n"


def advised(message: str) -> list[str]:
    """The value that a warning gives for options.null_values."""
    values: list[str] = json.loads(message.rpartition("options.null_values=")[2].removesuffix("."))
    return values


@pytest.mark.parametrize("mark", ["?", "-", "None", "missing"])
def test_a_mark_for_missing_numbers_is_named_and_the_advice_holds(
    tmp_path: Path, mark: str
) -> None:
    text = table(x=mixed(mark), n=[*mixed("NA")], y=["a", "b"] * 200)
    found = read(tmp_path, text)
    assert kinds_of(found) == {"x": "category", "n": "number", "y": "category"}
    [warning] = found.warnings
    assert (warning.code, warning.columns) == ("mostly_numbers", ["x"])
    assert warning.message.startswith(f"96 % of 'x' are numbers, the rest is {mark!r} (16).")
    again = read(tmp_path, text, null_values=advised(warning.message))
    assert kinds_of(again) == {"x": "number", "n": "number", "y": "category"}
    assert again.warnings == []


def test_few_whole_numbers_with_a_mark(tmp_path: Path) -> None:
    values = [str(i % 9) for i in range(380)] + ["bad"] * 20
    found = read(tmp_path, table(x=values, z=["1.5", "2.5"] * 200))
    assert [warning.code for warning in found.warnings] == ["mostly_numbers"]


def test_numbers_with_a_decimal_comma(tmp_path: Path) -> None:
    values = [value.replace(".", ",") for value in mixed("?")]
    text = table(x=values, y=["a", "b"] * 200).replace(",a", ";a").replace(",b", ";b")
    text = text.replace("x,y", "x;y")
    [warning] = read(tmp_path, text, decimal_comma=True).warnings
    options = {"decimal_comma": True, "null_values": advised(warning.message)}
    assert kinds_of(read(tmp_path, text, **options))["x"] == "number"
    # Without the option the mark alone would not make them numbers.
    [warning] = read(tmp_path, text).warnings
    assert "null_values" not in warning.message


def test_cells_that_may_mean_more_than_missing_are_only_told(tmp_path: Path) -> None:
    values = [str(i) for i in range(380)] + [f"{i} kg" for i in range(20)]
    [warning] = read(tmp_path, table(x=values, y=["a", "b"] * 200)).warnings
    assert "'0 kg' (1), '1 kg' (1), '10 kg' (1) and 17 more" in warning.message
    assert "null_values" not in warning.message


def test_codes_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, table(n=[f"{i:06}" for i in range(400)], y=["1", "2"] * 200))
    assert kinds_of(found)["n"] == "category"
    [warning] = found.warnings
    assert (warning.code, warning.columns) == ("leading_zeros", ["n"])
    assert warning.message.endswith('config.columns={"n": "number"}.')


def test_what_is_no_csv_is_to_be_mended_in_its_source() -> None:
    frame = pl.DataFrame({"x": mixed("?"), "y": ["a", "b"] * 200})
    [warning] = find_misreadings(frame, infer_kinds(frame), None)
    assert warning.message.endswith(
        "make it null in the source, or for CSV set options.null_values."
    )


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", "1", "2"] * 100,  # hardly numbers
        [f"{i:05}" for i in range(380)] + ["?"] * 20,  # codes
        [f"{1 + i % 28}.{1 + i % 12}.2024" for i in range(380)] + ["?"] * 20,  # dates
        [f"10.0.{i % 9}.{i}" for i in range(380)] + ["?"] * 20,  # addresses
    ],
)
def test_other_texts_are_no_numbers(values: list[str]) -> None:
    frame = pl.DataFrame({"x": values, "y": ["a", "b"] * 200})
    assert "mostly_numbers" not in [
        warning.code for warning in find_misreadings(frame, infer_kinds(frame), CsvOptions())
    ]


@given(
    st.lists(st.integers(-999, 999) | st.floats(-1e9, 1e9), min_size=12, max_size=40),
    st.lists(
        st.sampled_from(["?", "-", ".", "n.a.", "#", "unknown", "--"]), min_size=1, max_size=3
    ),
)
def test_whatever_numbers_and_marks_the_advice_makes_it_a_number(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], marks: list[str]
) -> None:
    text = table(x=[*map(repr, numbers), *marks], y=["a"] * (len(numbers) + len(marks)))
    folder = tmp_path_factory.mktemp("csv")
    [warning] = read(folder, text).warnings
    again = read(folder, text, null_values=advised(warning.message))
    assert again.columns[0]["dtype"] in ("Int64", "Float64")

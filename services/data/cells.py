"""Values as an agent sees them: JSON, short, and no more digits than mean something."""

import json
import math
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

MAX_TEXT = 80
_DIGITS = 6


def rounded(number: float | None) -> float | None:
    """`number` to six significant digits; None where it is missing or infinite."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.{_DIGITS}g}")


def short(text: str) -> str:
    """`text`, cut to 80 characters, the last of which then is an ellipsis."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def iso_texts(column: pl.Series) -> pl.Series:
    """Dates and times as ISO 8601, also of years that Python's dates do not reach."""
    if column.dtype == pl.Date:
        return column.dt.strftime("%Y-%m-%d")
    return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.f")


def extremes(column: pl.Series) -> tuple[Any, Any]:
    """The smallest and the largest value, numbers as they are and dates as ISO 8601."""
    bounds = (
        column.to_frame("x").select(low=pl.col("x").min(), high=pl.col("x").max()).get_columns()
    )
    low, high = (iso_texts(b) if column.dtype.is_temporal() else b for b in bounds)
    return low.item(), high.item()


def counted(column: pl.Series) -> pl.DataFrame:
    """The distinct values of a column (`value`), missing ones left out, and how many `rows` have
    each: the most frequent first, and equally frequent ones in their order."""
    counts = column.drop_nulls().alias("value").value_counts(name="rows")
    return counts.sort(["rows", "value"], descending=[True, False])


def cell(value: Any) -> tuple[Any, bool]:
    """A value as JSON, and whether it was cut: dates as ISO 8601, NaN as null, infinities and
    bytes as text, long nested values as cut JSON text."""
    if value is None or isinstance(value, bool | int):
        return value, False
    if isinstance(value, float):
        if math.isnan(value):
            return None, False
        return (value, False) if math.isfinite(value) else (str(value), False)
    if isinstance(value, str):
        return short(value), len(value) > MAX_TEXT
    if isinstance(value, date | datetime):
        return value.isoformat(), False
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>", True
    if isinstance(value, list | tuple | dict):
        plain = _plain(value)
        text = json.dumps(plain, ensure_ascii=False)
        return (plain, False) if len(text) <= MAX_TEXT else (short(text), True)
    return short(str(value)), False


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return cell(value)[0]

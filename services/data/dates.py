"""Columns of dates: how they are read, and in which order of day and month.

In 3/4/2024 the day or the month may be first. Where any date of a column has a day beyond 12, that
settles it. Otherwise the month is first, as in pandas, and with dots the day.
"""

import re
from collections.abc import Collection
from typing import Final

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.cells import short

_DATES: Final = {
    re.compile(r"^\d{4}-\d{1,2}-\d{1,2}"): ("%Y-%m-%d",),
    re.compile(r"^\d{4}/\d{1,2}/\d{1,2}"): ("%Y/%m/%d",),
    re.compile(r"^\d{1,2} [A-Za-z]{3,9} \d{4}"): ("%d %b %Y", "%d %B %Y"),
    re.compile(r"^[A-Za-z]{3,9} \d{1,2}, \d{4}"): ("%b %d, %Y", "%B %d, %Y"),
}
_ORDERED: Final = re.compile(r"^\d{1,2}([-/.])\d{1,2}\1\d{4}")
_TIMES: Final = ("", " %H:%M", " %H:%M:%S%.f", " %H:%M:%S%.f%#z", " %H:%M%#z")


def parse_datetimes(column: pl.Series, day_first: bool | None = None) -> pl.Series | None:
    """A column of dates as naive UTC datetimes; None where it is not one.

    Strings count where all of them read by one format: ISO 8601 or another common one. With
    `day_first`, dates such as 3/4/2024 are read in that order alone.
    """
    if column.dtype == pl.Date or column.dtype == pl.Datetime:
        return column.cast(pl.Datetime("us"))
    if column.dtype != pl.String:
        return None
    formats = [date + time for date in _formats(_first(column), day_first) for time in _TIMES]
    if not formats:
        return None
    # One form for the many ways ISO 8601 has of the same thing.
    values = column.str.strip_chars().str.replace(r"^(\S{8,10})[T ] ?", "$1 ")
    values = values.str.replace(r" ?(Z|UTC)$", "+00:00")
    found = (_parse_all(values, format) for format in formats)
    return next((parsed for parsed in found if parsed is not None), None)


def is_ambiguous(column: pl.Series) -> bool:
    """Whether a text column's dates read in both orders, and not as the same."""
    day, month = _in_both_orders(column)
    return day is not None and month is not None and not day.equals(month)


def find_day_first(frame: pl.DataFrame, texts: Collection[str]) -> bool | None:
    """Whether the day is first in the frame's dates; None where they do not settle it.

    `texts` are columns that are not looked at.
    """
    settled = set()
    for column in frame.get_columns():
        if column.name not in texts:
            day, month = _in_both_orders(column)
            if (day is None) != (month is None):
                settled.add(day is not None)
    return settled.pop() if len(settled) == 1 else None


def in_order(frame: pl.DataFrame, day_first: bool, texts: Collection[str]) -> pl.DataFrame:
    """The frame with its texts of dates such as 3/4/2024, but for the columns `texts`, as times.

    Raises:
        InvalidArgument: the dates of a column read in the other order alone.
    """
    columns = []
    for column in frame.get_columns():
        if column.name in texts or column.dtype != pl.String:
            continue
        if not _ORDERED.match(_first(column)):
            continue
        parsed = parse_datetimes(column, day_first)
        if parsed is not None:
            columns.append(parsed)
        elif parse_datetimes(column, not day_first) is not None:
            raise InvalidArgument(
                f"options.day_first is {str(day_first).lower()}, but not all dates of "
                f"{short(column.name)!r} read so.",
                f"Leave it out, or keep {short(column.name)!r} as text by string_columns.",
            )
    return frame.with_columns(columns)


def as_datetimes(column: pl.Series, day_first: bool | None) -> pl.Series:
    """A part of a text column all of which reads as dates."""
    parsed = parse_datetimes(column, day_first)
    return parsed if parsed is not None else column.cast(pl.Datetime("us"))


def _in_both_orders(column: pl.Series) -> tuple[pl.Series | None, pl.Series | None]:
    """A text column of dates that have an order, with the day first and with the month first."""
    if column.dtype != pl.String or not _ORDERED.match(_first(column)):
        return None, None
    return parse_datetimes(column, day_first=True), parse_datetimes(column, day_first=False)


def _first(column: pl.Series) -> str:
    return str(column.drop_nulls().first() or "").strip()


def _formats(first: str, day_first: bool | None) -> list[str]:
    """The formats of a date that the text `first` may have, in the order of their likelihood."""
    if (ordered := _ORDERED.match(first)) is None:
        return [date for shape, dates in _DATES.items() if shape.match(first) for date in dates]
    mark = ordered[1]
    orders = [mark == ".", mark != "."] if day_first is None else [day_first]
    return [mark.join(("%d", "%m", "%Y") if day else ("%m", "%d", "%Y")) for day in orders]


def _parse_all(values: pl.Series, format: str) -> pl.Series | None:
    missing = values.null_count()
    for tried in (values.drop_nulls().head(50), values):
        parsed = tried.str.to_datetime(format, strict=False, time_unit="us")
        if parsed.null_count() != (missing if tried is values else 0):
            return None
    if "%#z" in format:
        parsed = parsed.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return parsed

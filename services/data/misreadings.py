"""What of a file is likely read otherwise than it is meant, and how to have it read rightly."""

import json
import re
from typing import Final

import polars as pl

from mcp_hub.services.data.cells import counted, short
from mcp_hub.services.data.dates import is_ambiguous, parse_datetimes
from mcp_hub.services.data.kinds import has_codes, numbers_as_text, odd_cells
from mcp_hub.services.data.options import CsvOptions
from mcp_hub.services.data.views import ColumnKind, DataWarning

_COLUMNS_TOLD: Final = 3
_CELLS_TOLD: Final = 3
_MOST_MARKS: Final = 5
"""Who marks missing values does so in few ways; more are values of their own, such as `12 kg`."""


def find_misreadings(
    frame: pl.DataFrame, kinds: dict[str, ColumnKind], csv: CsvOptions | None
) -> list[DataWarning]:
    """Warnings, one a code; `csv` is how the file was read, unless it describes itself."""
    warnings = []
    texts = [name for name in frame.columns if frame[name].dtype == pl.String]
    numbers = [name for name in texts if kinds[name] == "category" and numbers_as_text(frame[name])]
    if numbers:
        message = "Numbers written as text, as $1,234 or 5 %: training takes them for categories."
        warnings.append(DataWarning.about("numbers_as_text", numbers, message))
    if codes := [name for name in texts if has_codes(frame[name])]:
        message = (
            "Cells like 01001 are codes, kept as text. Where they are numbers, give training "
            f"config.columns={json.dumps({codes[0]: 'number'}, ensure_ascii=False)}."
        )
        warnings.append(DataWarning.about("leading_zeros", codes, message))
    odd = {name: cells for name in texts if (cells := odd_cells(frame[name])) is not None}
    if odd:
        told = "; ".join(
            _told(frame[name], cells) for name, cells in list(odd.items())[:_COLUMNS_TOLD]
        )
        marks = _marks(frame, odd, csv)
        message = f"{told}. Training takes them for categories. {_advice(marks, csv)}"
        warnings.append(DataWarning.about("mostly_numbers", list(odd), message))
    if dates := [name for name in texts if is_ambiguous(frame[name])]:
        told = "; ".join(_as_read(frame[name]) for name in dates[:_COLUMNS_TOLD])
        settle = "register with options.day_first=true or false"
        if csv is None:
            settle = "write dates as 2024-04-03 in the source, or for CSV set options.day_first"
        message = f"Day and month may change places: {told}. To settle it, {settle}."
        warnings.append(DataWarning.about("date_order", dates, message))
    return warnings


def _as_read(column: pl.Series) -> str:
    """A date of a column that may be read otherwise, and as what it is read."""
    read, otherwise = parse_datetimes(column), parse_datetimes(column, day_first=True)
    assert read is not None
    assert otherwise is not None
    if read.equals(otherwise):
        otherwise = parse_datetimes(column, day_first=False)
    at = int((read != otherwise).arg_true()[0])
    return f"{short(column.name)!r} has {column[at].strip()}, read as {read[at]:%Y-%m-%d}"


def _told(column: pl.Series, odd: pl.Series) -> str:
    counts = counted(odd)
    shown = ", ".join(
        f"{short(cell)!r} ({rows})" for cell, rows in counts.head(_CELLS_TOLD).iter_rows()
    )
    more = f" and {counts.height - _CELLS_TOLD} more" if counts.height > _CELLS_TOLD else ""
    values = column.len() - column.null_count()
    # Cut, not rounded: 100 % would be untrue.
    share = 100 * (values - odd.len()) // values
    return f"{share} % of {short(column.name)!r} are numbers, the rest is {shown}{more}"


def _marks(frame: pl.DataFrame, odd: dict[str, pl.Series], csv: CsvOptions | None) -> list[str]:
    """The cells without which the columns would be read as numbers, as far as they can mean that
    a value is missing."""
    mark = "," if csv is not None and csv.decimal_comma else "."
    plain = rf"^[-+]?(\d+{re.escape(mark)}?\d*|{re.escape(mark)}\d+)([eE][-+]?\d+)?$"
    marks: dict[str, None] = {}
    for name, cells in odd.items():
        column = frame[name].drop_nulls()
        numbers = int(column.str.contains(plain).sum())
        if numbers + cells.len() == column.len() and cells.n_unique() <= _MOST_MARKS:
            marks |= dict.fromkeys(cells.unique().sort().to_list())
    return list(marks)


def _advice(marks: list[str], csv: CsvOptions | None) -> str:
    if not marks:
        return "Write plain numbers, and nothing where one is missing."
    if csv is None:
        settle = "make it null in the source, or for CSV set options.null_values"
        return f"Where the rest means missing, {settle}."
    # The option takes the place of the cells that mean missing without it.
    values = json.dumps([*marks, *csv.null_values], ensure_ascii=False)
    return f"Where the rest means missing, register with options.null_values={values}."

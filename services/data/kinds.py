"""What each column means to a model, inferred from its type, its values and its name.

The rules, in order, for a column with n values that are not missing, d of them distinct:

- constant: no values, or one value throughout.
- boolean, datetime: the stored type, or strings that all read as dates of one format.
- identifier: names the row and says nothing else, so that a model would learn it by heart.
  Numbers or strings whose name ends in `id`, `uuid`, `key`, … and of which at least half are
  distinct; row numbers, that is 0 or 1 and so on up in a first column; at least
  `MIN_CODES` strings without spaces of which nearly all are distinct (`NEARLY_ALL`); nested
  values and bytes, which no model here takes. The target never is one, nor is any column where
  all features would be.
- category: repeating integers whose name ends in `id`, `code`, `zip`, …; strings that are not text.
- number: every other number. A text column of numbers with some other cells (`odd_cells`) is a
  category, never an identifier: it would be left out, and nobody would know.
- text: strings of which most have several words, and which are many (`_is_text`).
"""

import re
from collections.abc import Mapping
from typing import Final

import polars as pl

from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.views import ColumnKind

MIN_CODES: Final = 20
NEARLY_ALL: Final = 0.95
MIN_ROW_NUMBERS: Final = 20
MOSTLY: Final = 0.8
"""The share of numbers from which a text column is suspected to be meant as one of numbers."""

_SAMPLE: Final = 10_000
_ID_NAMES: Final = {"id", "uuid", "guid", "key", "idx", "index", "rowid", "rownum", "unnamed0"}
_CODE_NAMES: Final = {"id", "code", "zip", "zipcode", "postcode", "postal"}
_NAME_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Some scripts put no spaces between words: two of their characters count as a word.
_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}]"
_SEVERAL_WORDS: Final = rf"\S\s+\S|{_UNSPACED}{{5}}"
_NUMBER_AS_TEXT: Final = r"^\s*[-+(]?\s*\p{Sc}?\s*[-+]?\d[\d.,'\s]*\s*(%|\p{Sc}|\))?\s*$"

# One number: neither a date with dots nor an address. `1,234.50` counts, `3.4.2025` does not.
_WRITTEN_NUMBER: Final = (
    r"^\s*[-+(]?\s*\p{Sc}?\s*[-+]?((\d{1,3}([.,'\s]\d{3})+|\d+)([.,]\d*)?|[.,]\d+)"
    r"([eE][-+]?\d+)?\s*(%|\p{Sc}|\))?\s*$"
)
CODE: Final = r"^\s*0[0-9]+\s*$"
"""Digits with a zero before them: 01001 is another code than 1001, and neither is a number."""


def infer_kinds(
    frame: pl.DataFrame, target: str | None = None, distinct: Mapping[str, int] | None = None
) -> dict[str, ColumnKind]:
    """The kind of every column of a frame as `read_frame` gives it; `target` is no identifier.

    `distinct` is what `count_distinct` says of the frame, where that is known already.
    """
    kinds = _kinds(frame, target, distinct or count_distinct(frame))
    features = [name for name in frame.columns if name != target]
    useful = [name for name in features if kinds[name] not in ("identifier", "constant")]
    if len(useful) < (1 if target else 2):
        for name in features:
            if kinds[name] == "identifier" and not is_opaque(frame[name].dtype):
                kinds[name] = "number" if frame[name].dtype.is_numeric() else "category"
    return kinds


def row_names(frame: pl.DataFrame) -> list[str]:
    """The columns that name the row, also where there is little else; none of nested values."""
    kinds = _kinds(frame, None, count_distinct(frame))
    return [
        name
        for name, kind in kinds.items()
        if kind == "identifier" and not is_opaque(frame[name].dtype)
    ]


def count_distinct(frame: pl.DataFrame) -> dict[str, int]:
    """How many distinct values each column has, missing ones left out."""
    return {name: frame[name].drop_nulls().n_unique() for name in frame.columns}


def is_opaque(dtype: pl.DataType) -> bool:
    """Whether a column's values are nested, or bytes: nothing that a model takes."""
    return dtype.is_nested() or dtype in (pl.Binary, pl.Object)


def numbers_as_text(column: pl.Series) -> bool:
    """Whether a string column holds numbers that are written so that they stay text: `$1,234`."""
    if column.dtype != pl.String:
        return False
    values = _sample(column)
    is_written = values.len() > 0 and bool(values.str.contains(_NUMBER_AS_TEXT).all())
    return is_written and not values.str.contains(CODE).any()


def has_codes(column: pl.Series) -> bool:
    """Whether all values of a text column are digits, and one has a zero before them: 01001."""
    if column.dtype != pl.String or not column.str.contains(CODE).any():
        return False
    return bool(column.drop_nulls().str.contains(r"^\s*[0-9]+\s*$").all())


def odd_cells(column: pl.Series) -> pl.Series | None:
    """The values of a text column that are no numbers, where most are; None otherwise.

    Digits with a zero before them are codes.
    """
    if column.dtype != pl.String:
        return None
    values = column.drop_nulls()
    is_number = values.str.contains(_WRITTEN_NUMBER)
    odd = values.filter(~is_number)
    is_mixed = 0 < odd.len() <= values.len() - MOSTLY * values.len()
    return odd if is_mixed and not values.str.contains(CODE).any() else None


def _kinds(
    frame: pl.DataFrame, target: str | None, distinct: Mapping[str, int]
) -> dict[str, ColumnKind]:
    return {
        name: _kind(frame[name], distinct[name], position == 0 and frame.width > 1, name == target)
        for position, name in enumerate(frame.columns)
    }


def _kind(column: pl.Series, d: int, is_first: bool, is_target: bool) -> ColumnKind:
    dtype = column.dtype
    if is_opaque(dtype):
        return "identifier"
    n = column.len() - column.null_count()
    if d == 0 or (d == 1 and n == column.len()):
        return "constant"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_temporal():
        return "datetime"
    if dtype.is_numeric():
        return _number_kind(column, d, n, is_first, is_target)
    return _string_kind(column, d, n, is_target)


def _number_kind(column: pl.Series, d: int, n: int, is_first: bool, is_target: bool) -> ColumnKind:
    if not column.dtype.is_integer():
        return "number"
    if not is_target:
        if _named(column.name, _ID_NAMES) and 2 * d >= n:
            return "identifier"
        if is_first and d == n == column.len() >= MIN_ROW_NUMBERS and _counts_rows(column):
            return "identifier"
    return "category" if _named(column.name, _CODE_NAMES) and 2 * d < n else "number"


def _string_kind(column: pl.Series, d: int, n: int, is_target: bool) -> ColumnKind:
    if parse_datetimes(column) is not None:
        return "datetime"
    sample = _sample(column)
    several_words = float(sample.str.contains(_SEVERAL_WORDS).mean())  # type: ignore[arg-type]
    if is_target:
        return "text" if _is_text(sample, several_words, d, n) else "category"
    if _named(column.name, _ID_NAMES) and 2 * d >= n and several_words < 0.5:
        return "identifier"
    if _is_text(sample, several_words, d, n):
        return "text"
    is_code = several_words < 0.1 and n >= MIN_CODES and d >= NEARLY_ALL * n
    is_numbers = numbers_as_text(column) or odd_cells(sample) is not None
    return "identifier" if is_code and not is_numbers else "category"


def _is_text(sample: pl.Series, several_words: float, d: int, n: int) -> bool:
    """Whether mostly several words, and either mostly different or long and many.

    Names of two words (`New York`) are text only where there are many different ones.
    """
    if several_words <= 0.5:
        return False
    characters = float(sample.str.len_chars().mean())  # type: ignore[arg-type]
    breaks = sample.str.count_matches(r"\s+") + sample.str.count_matches(_UNSPACED) / 2
    words = 1 + float(breaks.mean())  # type: ignore[arg-type]
    if 2 * d >= n:
        return d >= MIN_CODES or words >= 3 or characters >= 20
    return d >= 50 and (words >= 5 or characters >= 40)


def _counts_rows(column: pl.Series) -> bool:
    start = column[0]
    return start in (0, 1) and bool((column.diff().drop_nulls() == 1).all())


def _named(name: str, endings: set[str]) -> bool:
    parts = [part.lower() for part in _NAME_PARTS.findall(name)]
    return bool(parts) and (parts[-1] in endings or "".join(parts) in endings)


def _sample(column: pl.Series) -> pl.Series:
    """At most `_SAMPLE` of the values, evenly spread, the same each time."""
    values = column.drop_nulls()
    return values.gather_every(max(1, -(-values.len() // _SAMPLE)))

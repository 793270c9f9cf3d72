"""Which columns a model uses and as what, and their values as `predict` will be given them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import polars as pl

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.data.dates import parse_datetimes
from mcp_hub.services.data.kinds import infer_kinds
from mcp_hub.services.inference.encoding import Arrays, encode_rows
from mcp_hub.services.registry.views import InputField
from mcp_hub.services.training.frameworks.tabular import InputKind, TableConfig

_LARGEST = 1e37
"""Float32 ends at 3.4e38; differences of two numbers must stay within it."""

_CELLS_AT_ONCE = 1_000_000
_KINDS = get_args(InputKind)


@dataclass(frozen=True, slots=True)
class Columns:
    """The used columns with their kinds, in the order of the data; the others with the reason."""

    kinds: dict[str, InputKind]
    dropped: dict[str, str]

    def inputs(self) -> list[InputField]:
        """The model's inputs. All take null, since every kind has a stand-in for it."""
        return [_input(name, kind) for name, kind in self.kinds.items()]


def choose_columns(frame: pl.DataFrame, target: str | None, config: TableConfig) -> Columns:
    """Decide on every column but the target, if there is one, by `config` and else by inference.

    Raises:
        InvalidArgument: `config` names a column that does not exist, or no column is left.
    """
    config.check_columns(frame.columns, target)
    kinds: dict[str, InputKind] = {}
    dropped: dict[str, str] = {}
    for name, inferred in infer_kinds(frame, target).items():
        if name == target:
            continue
        if name in config.drop:
            dropped[name] = "by config"
        elif name in config.columns:
            kinds[name] = config.columns[name]
        elif inferred == "constant" or inferred == "identifier":
            dropped[name] = inferred
        else:
            kinds[name] = inferred
    if not kinds:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in [*dropped.items()][:20])
        raise InvalidArgument(
            f"No column is left to learn {repr(target) if target else 'anything'} from: "
            f"{reasons or 'there is no other'}.",
            "To use a column all the same, give its kind: config.columns={name: kind}."
            if dropped
            else "Give data with further columns.",
        )
    return Columns(kinds, dropped)


def plain_values(frame: pl.DataFrame, columns: Columns) -> tuple[pl.DataFrame, dict[str, int]]:
    """The used columns as JSON has them (numbers, booleans, strings, null).

    Also counts, by column, the values that count as missing: numbers that are not finite or
    beyond ±1e37, and dates outside the years 1 to 9999.

    Raises:
        InvalidArgument: a column's values are not of the kind that `config` gives it.
    """
    plain: dict[str, pl.Series] = {}
    unusable: dict[str, int] = {}
    for name, kind in columns.kinds.items():
        plain[name] = _AS_KIND[kind](frame[name])
        if lost := plain[name].null_count() - frame[name].null_count():
            unusable[name] = lost
    return pl.DataFrame(plain), unusable


def encode(plain: pl.DataFrame, inputs: list[InputField]) -> Arrays:
    """The tensors of all rows, read as `predict` reads rows."""
    size = max(1, _CELLS_AT_ONCE // len(inputs))
    parts = [encode_rows(inputs, rows.to_dicts()) for rows in plain.iter_slices(size)]
    return {field.name: np.concatenate([part[field.name] for part in parts]) for field in inputs}


def _input(name: str, kind: InputKind) -> InputField:
    dtype = "string" if kind in ("category", "text") else "float32"
    width = 6 if kind == "datetime" else 1
    return InputField(name=name, dtype=dtype, shape=[None, width], kind=kind, nullable=True)


def _numbers(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        values = column.str.strip_chars().cast(pl.Float64, strict=False)
        _refuse(column, values.is_null() & column.is_not_null(), "number")
    elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
        values = column.cast(pl.Float64)
    else:
        _refuse(column, column.is_not_null(), "number")
        values = column.cast(pl.Float64)
    held = values.is_finite() & (values.abs() <= _LARGEST)
    return values.set(~held.fill_null(True), None)


def _booleans(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Boolean:
        return column
    texts = _texts(column).str.to_lowercase()
    true, false = texts.is_in(["true", "1"]), texts.is_in(["false", "0"])
    _refuse(column, ~(true | false), "boolean")
    return true


def _texts(column: pl.Series) -> pl.Series:
    dtype = column.dtype
    if dtype.is_float():
        # A whole number is written as one: the text of a code that was read as a float.
        whole = column.cast(pl.Int64, strict=False)
        written = column.cast(pl.String)
        return written.zip_with(~(whole == column).fill_null(False), whole.cast(pl.String))
    if dtype == pl.Date or dtype == pl.Datetime:
        return column.dt.to_string("iso")
    if dtype.is_nested() or dtype == pl.Binary:
        _refuse(column, column.is_not_null(), "text")
    return column.cast(pl.String)


def _datetimes(column: pl.Series) -> pl.Series:
    values = parse_datetimes(column)
    if values is None:
        _refuse(column, column.is_not_null(), "datetime")
        return column.cast(pl.String)
    values = values.set(~values.dt.year().is_between(1, 9999).fill_null(True), None)
    return values.dt.strftime("%Y-%m-%dT%H:%M:%S")


def _refuse(column: pl.Series, wrong: pl.Series, kind: str) -> None:
    at = wrong.fill_null(False).arg_true()
    if at.len():
        raise InvalidArgument(
            f"The column {column.name!r} is to be a {kind}, but row {at[0]} holds "
            f"{str(column[at[0]])[:60]!r}.",
            f"Correct the data; in training, config.columns may give another of the kinds "
            f"{', '.join(_KINDS)}.",
        )


_AS_KIND: dict[InputKind, Callable[[pl.Series], pl.Series]] = {
    "number": _numbers,
    "boolean": _booleans,
    "category": _texts,
    "text": _texts,
    "datetime": _datetimes,
}

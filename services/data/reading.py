"""Reading a data set's file into a polars frame, the same way at each use.

Whatever the format, the frame holds integers, floats without NaN (it is missing), booleans,
strings, dates, naive UTC datetimes, or nested values and bytes as they are.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PanicException, PolarsError

from mcp_hub.adapters.errors import HubError, InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.services.data.csv_reading import read_csv
from mcp_hub.services.data.dates import find_day_first, in_order
from mcp_hub.services.data.options import CsvOptions, NoOptions, check_format, parse_options

MAX_COLUMNS = 5_000
MAX_CELLS = 250_000_000
MAX_COLUMN_NAME = 256

# Python's parser is slow and holds the GIL; it is for telling what is wrong, or for NaN.
PYTHON_JSON_BYTES = 16 * 1024 * 1024


def read_frame(path: Path, format: str, options: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Read the whole file at `path`, inferring types over all rows.

    Raises:
        InvalidArgument: the file is not what `format` and `options` say, or has no rows.
        LimitExceeded: it has more columns or cells than the hub takes.
        Unavailable: the file cannot be read.
    """
    return _read(path, format, options)[0]


def read_with_options(
    path: Path, format: str, options: Mapping[str, Any] | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """As `read_frame`, with the options that fix how this file is read: given and found ones.

    Where the file's dates show whether the day is first, that is an option found: further rows of
    the file need not show it.
    """
    frame, settings = _read(path, format, options)
    if isinstance(settings, CsvOptions) and settings.day_first is None:
        day_first = find_day_first(frame, settings.string_columns)
        if day_first is not None:
            settings = settings.model_copy(update={"day_first": day_first})
            frame = in_order(frame, day_first, settings.string_columns)
    return frame, settings.model_dump(exclude_defaults=True)


def _read(
    path: Path, format: str, options: Mapping[str, Any] | None
) -> tuple[pl.DataFrame, NoOptions]:
    settings = parse_options(check_format(format), options)
    try:
        if isinstance(settings, CsvOptions):
            if format == "tsv" and settings.separator is None:
                settings = settings.model_copy(update={"separator": "\t"})
            frame, settings = read_csv(path.read_bytes(), settings)
            if settings.day_first is not None:
                frame = in_order(frame, settings.day_first, settings.string_columns)
        elif format == "parquet":
            frame = _read_parquet(path)
        elif format == "json":
            frame = _read_json(path.read_bytes(), _from_json, pl.read_json, "JSON")
        else:
            frame = _read_json(path.read_bytes(), _from_json_lines, pl.read_ndjson, "JSON Lines")
    except HubError:
        raise
    except (PolarsError, ValueError) as error:
        raise _damaged(format, str(error)) from error
    except OSError as error:
        raise Unavailable(f"The file cannot be read: {error.strerror or error}.") from error
    except PanicException as error:  # polars' parsers give up this way, too
        raise _damaged(format, str(error)) from error
    return normalised(_checked(frame)), settings


def _damaged(format: str, reason: str) -> InvalidArgument:
    summary = reason.splitlines()[0][:300] if reason else "the parser gave up"
    return InvalidArgument(
        f"The content cannot be read as {format}: {summary}.",
        f"Check that the file is whole and that its format is {format}.",
    )


def _checked(frame: pl.DataFrame) -> pl.DataFrame:
    if frame.width == 0:
        raise InvalidArgument("The data has no columns.", "Give at least one column and one row.")
    if frame.height == 0:
        raise InvalidArgument(
            f"The data has {frame.width} columns but no rows.",
            "Give at least one row. For CSV without a header, pass options has_header=false.",
        )
    check_size(frame.height, frame.width)
    for name in frame.columns:
        if not name.strip():
            raise InvalidArgument("A column has an empty name.", "Name every column.")
        # Polars takes such a name for an expression that selects columns.
        if name.startswith("^") and name.endswith("$"):
            raise InvalidArgument(
                f"The column name {name[:40]!r} begins with ^ and ends with $.",
                "Rename the column: such a name would stand for a pattern of names.",
            )
        if len(name) > MAX_COLUMN_NAME:
            raise InvalidArgument(
                f"The column name {name[:40]!r}… has {len(name)} characters.",
                f"A column name has at most {MAX_COLUMN_NAME}. Is the header row missing?",
            )
    return frame


def check_size(rows: int, columns: int) -> None:
    """Raises LimitExceeded where a frame of that size is more than the hub takes."""
    if columns > MAX_COLUMNS:
        raise LimitExceeded(
            f"The data has {columns} columns; at most {MAX_COLUMNS} are allowed.",
            "Select the columns that matter, or store one row an observation.",
        )
    if rows * columns > MAX_CELLS:
        raise LimitExceeded(
            f"The data has {rows} rows of {columns} columns, {rows * columns} cells; "
            f"at most {MAX_CELLS} are allowed.",
            "Select the columns that matter, or take a sample of the rows.",
        )


def _read_parquet(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 4))
        tail = file.read(4)
    if head != b"PAR1":
        raise InvalidArgument(
            "The content is not Parquet: it does not begin with PAR1.",
            "Pass the format that the file really has.",
        )
    if tail != b"PAR1":
        raise InvalidArgument(
            "The Parquet file is cut short: it does not end with PAR1.", "Write or copy it again."
        )
    scan = pl.scan_parquet(path, glob=False)
    rows = scan.select(pl.len()).collect().item()
    check_size(rows, len(scan.collect_schema()))
    return scan.collect()


def _read_json(
    data: bytes,
    read_in_python: Callable[[bytes], pl.DataFrame],
    read: Callable[..., pl.DataFrame],
    what: str,
) -> pl.DataFrame:
    if not data.strip():
        raise InvalidArgument(f"The {what} is empty.", "Give at least one row.")
    try:
        frame = read(io.BytesIO(data), infer_schema_length=None)
        return _exploded(frame) if what == "JSON" and data.lstrip()[:1] == b"{" else frame
    except (PolarsError, PanicException):
        if len(data) > PYTHON_JSON_BYTES:
            raise
    try:
        return read_in_python(data)
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"The {what} is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}.",
            "Save it as UTF-8.",
        ) from error
    except RecursionError as error:
        raise InvalidArgument(f"The {what} is nested too deeply.", "Flatten it.") from error


def _from_json(data: bytes) -> pl.DataFrame:
    try:
        rows = json.loads(data)
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"The JSON is broken at line {error.lineno}, column {error.colno}: {error.msg}.",
            "Is the file cut short? JSON Lines has the format jsonl.",
        ) from error
    if isinstance(rows, dict):
        return _exploded(_frame([rows]))
    if not isinstance(rows, list):
        raise _not_rows()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidArgument(
                f"Row {number} (from 0) of the JSON array is no object.",
                'Write an array of objects, [{"a": 1}, …], or an object of columns, {"a": [1, …]}.',
            )
    return _frame(rows)


def _from_json_lines(data: bytes) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidArgument(
                f"Line {number} is not JSON: {error.msg} at column {error.colno}.",
                "JSON Lines has one whole object a line; an array has the format json.",
            ) from error
        if not isinstance(row, dict):
            raise InvalidArgument(
                f"Line {number} is no JSON object.", 'Write one object a line: {"a": 1, "b": "x"}.'
            )
        rows.append(row)
    return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    try:
        return pl.from_dicts(rows, infer_schema_length=None, strict=False)
    except (PolarsError, TypeError, OverflowError) as error:
        raise InvalidArgument(
            f"The rows' values do not fit together: {str(error).splitlines()[0][:200]}",
            "Give each column one type throughout: numbers, texts, or lists, but no mixture.",
        ) from error


def _exploded(frame: pl.DataFrame) -> pl.DataFrame:
    """An object of columns, read as one row of lists, as the rows that it means."""
    if not all(isinstance(dtype, pl.List) for dtype in frame.dtypes):
        raise _not_rows()
    lengths = {name: frame[name].list.len().item() for name in frame.columns}
    if len(set(lengths.values())) > 1:
        shortest, longest = (
            min(lengths, key=lengths.__getitem__),
            max(lengths, key=lengths.__getitem__),
        )
        raise InvalidArgument(
            f"The columns differ in length: {shortest!r} has {lengths[shortest]} values, "
            f"{longest!r} has {lengths[longest]}.",
            "Give every column one value a row, null where it is missing.",
        )
    return pl.DataFrame({name: frame[name].item() for name in frame.columns})


def _not_rows() -> InvalidArgument:
    return InvalidArgument(
        "The JSON is neither an array of objects nor an object of columns.",
        'Write [{"a": 1, "b": "x"}, …] or {"a": [1, …], "b": ["x", …]}; '
        'in pandas, to_json(orient="records").',
    )


def normalised(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with each column in one of the types that data sets have."""
    columns = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Categorical | pl.Enum | pl.Time | pl.Null):
            columns.append(column.cast(pl.String))
        elif isinstance(dtype, pl.Decimal):
            columns.append(column.cast(pl.Float64))
        elif isinstance(dtype, pl.Duration):
            columns.append(column.dt.total_microseconds().cast(pl.Float64) / 1e6)
        elif isinstance(dtype, pl.Datetime) and dtype.time_zone:
            columns.append(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None))
        elif dtype.is_float():
            columns.append(column.fill_nan(None))
    return frame.with_columns(columns)

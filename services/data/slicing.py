"""Reading a data set's rows a part at a time, for those who need not have all of them at once."""

import ast
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mcp_hub.services.data.csv_reading import read_csv_parts
from mcp_hub.services.data.options import CsvOptions, check_format, parse_options
from mcp_hub.services.data.reading import PYTHON_JSON_BYTES, normalised, read_frame

WHOLE_BYTES = PYTHON_JSON_BYTES
"""Text of so many bytes is read whole, with all the trouble that `read_frame` takes over it."""
PART_BYTES = 6 * 1024 * 1024
"""Longer than the longest header that there may be."""
_SLICE_ROWS = 65_536


def read_slices(
    path: Path,
    format: str,
    options: Mapping[str, Any] | None = None,
    *,
    dtypes: Mapping[str, str],
    columns: Sequence[str] | None = None,
    first: int = 0,
) -> Iterator[pl.DataFrame]:
    """The rows from `first` on, in their order, some at a time; of all `columns` or of some.

    `dtypes` are those that the file's registration recorded, by column: of text they show only in
    all of its rows. The memory that this takes is that of a part of the file; a JSON array is held
    whole. Raises as `read_frame`.
    """
    if format == "parquet":
        yield from _parquet_slices(path, columns, first)
        return
    for frame in _text_parts(path, format, options, dtypes):
        if first < frame.height:
            part = normalised(frame if columns is None else frame.select(columns))
            yield from part.slice(first).iter_slices(_SLICE_ROWS)
        first = max(0, first - frame.height)


def _parquet_slices(
    path: Path, columns: Sequence[str] | None, first: int
) -> Iterator[pl.DataFrame]:
    rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    for start in range(first, rows, _SLICE_ROWS):
        part = pl.scan_parquet(path, glob=False).slice(start, _SLICE_ROWS)
        yield normalised((part if columns is None else part.select(columns)).collect())


def _text_parts(
    path: Path, format: str, options: Mapping[str, Any] | None, dtypes: Mapping[str, str]
) -> Iterator[pl.DataFrame]:
    if format == "json" or path.stat().st_size <= WHOLE_BYTES:
        yield read_frame(path, format, options)
        return
    schema = {name: parse_dtype(dtype) for name, dtype in dtypes.items()}
    settings = parse_options(check_format(format), options)
    if isinstance(settings, CsvOptions):
        yield from read_csv_parts(path, settings, schema, PART_BYTES)
    else:
        yield from _json_lines_parts(path, schema)


def _json_lines_parts(path: Path, schema: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    rest = b""
    with path.open("rb") as file:
        while data := file.read(PART_BYTES):
            lines, found, rest = (rest + data).rpartition(b"\n")
            if found and lines.strip():
                yield pl.read_ndjson(io.BytesIO(lines), schema=schema)
    if rest.strip():
        yield pl.read_ndjson(io.BytesIO(rest), schema=schema)


def parse_dtype(text: str) -> pl.DataType:
    """The type of a column of CSV or JSON from what `str` makes of it."""
    return _dtype(ast.parse(text, mode="eval").body)


def _dtype(node: ast.expr) -> pl.DataType:
    match node:
        case ast.Name(name):
            plain: type[pl.DataType] = getattr(pl, name)
            return plain()
        case ast.Call(ast.Name("Datetime")):
            return pl.Datetime("us")
        case ast.Call(ast.Name("List"), [inner]):
            return pl.List(_dtype(inner))
        case ast.Call(ast.Name("Struct"), [ast.Dict(keys, values)]):
            names = [ast.literal_eval(key) for key in keys if key is not None]
            return pl.Struct(dict(zip(names, map(_dtype, values), strict=True)))
    raise ValueError(f"no type of a column of text: {ast.unparse(node)}")

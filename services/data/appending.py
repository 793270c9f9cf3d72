"""A table with further rows behind its own, as Parquet, in bounded memory."""

from pathlib import Path

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.services.data.kinds import is_opaque
from mcp_hub.services.data.reading import check_size


def append_rows(table: Path, rows: Path, whole: Path, max_rows: int) -> None:
    """Write the rows of `table`, and behind them those of `rows`, to `whole`; all are Parquet.

    Columns that one lacks are missing there. Where types differ, numbers become floats, days
    times, and everything else text.

    Raises:
        InvalidArgument: nested values or bytes meet another type.
        LimitExceeded: there are more rows or cells than the hub takes.
        Unavailable: the disk does not take them.
    """
    parts = [pl.scan_parquet(path, glob=False) for path in (table, rows)]
    schemas = [part.collect_schema() for part in parts]
    names = list(dict.fromkeys(name for schema in schemas for name in schema))
    count = sum(part.select(pl.len()).collect().item() for part in parts)
    if count > max_rows:
        raise LimitExceeded(
            f"It would have {count} rows; at most {max_rows} are allowed.",
            "Stop it and begin another with a later part of the source, or raise data.max_rows.",
        )
    check_size(count, len(names))
    types = {name: _common(name, parts, schemas) for name in names}
    aligned = [
        part.select(
            pl.col(name).cast(type) if name in schema else pl.lit(None, type).alias(name)
            for name, type in types.items()
        )
        for part, schema in zip(parts, schemas, strict=True)
    ]
    try:
        pl.concat(aligned).sink_parquet(whole, maintain_order=True)
    except OSError as error:
        raise Unavailable(
            f"The rows cannot be written: {error.strerror or error}.",
            "Check the disk's free space.",
        ) from error


def _common(name: str, parts: list[pl.LazyFrame], schemas: list[pl.Schema]) -> pl.DataType:
    found = [schema[name] for schema in schemas if name in schema]
    if len(set(found)) > 1:
        # A column without a value has no type of its own.
        filled = [
            schema[name]
            for part, schema in zip(parts, schemas, strict=True)
            if name in schema and part.select(pl.col(name).is_not_null().any()).collect().item()
        ]
        found = filled or found
    if len(set(found)) == 1:
        return found[0]
    if any(map(is_opaque, found)):
        raise InvalidArgument(
            f"The column {name!r} was {found[0]} before and now is {found[1]}.",
            "Give it one type throughout.",
        )
    if all(dtype.is_numeric() for dtype in found):
        return pl.Int64() if all(dtype.is_integer() for dtype in found) else pl.Float64()
    if all(isinstance(dtype, pl.Date | pl.Datetime) for dtype in found):
        return pl.Datetime("us")
    return pl.String()

"""Rows from a source as a Parquet file, in bounded memory."""

import pickle
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.adapters.sources.port import Cell, Row, Untyped
from mcp_hub.services.data.reading import check_size

_TYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({bool}): pl.Boolean(),
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({datetime}): pl.Datetime("us"),
    frozenset({bytes}): pl.Binary(),
}

_INT64 = range(-(2**63), 2**63)
# With a zero before it, a number is a code.
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)?(?:\.\d+)?(?:[eE][-+]?\d+)?|-?inf|-?Infinity")
_TRUTH = ("true", "false")


class Table:
    """Takes rows in batches, keeps them in files of a folder, and writes them as one table.

    A column's type is that of all its values: whole numbers, numbers, booleans, datetimes, bytes,
    and text for texts and for everything mixed. A text of a source without types counts as what
    it says; an empty one is missing, but in a column of text. Columns are in the order in which
    they came up.
    The methods block: call them in a thread, one at a time.
    """

    def __init__(self, folder: Path, max_bytes: int, max_rows: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._types: dict[str, set[type]] = {}
        self._batches = self._rows = self._size = 0

    def add(self, rows: list[Row]) -> None:
        """Take further rows.

        Raises:
            LimitExceeded: there are more bytes, columns or cells than the hub takes.
            Unavailable: the disk does not take them.
        """
        for row in rows:
            for name, cell in row.items():
                kinds = self._types.setdefault(name, set())
                kind = _type_of(cell)
                if kind is not None:
                    kinds.add(kind)
        self._rows += len(rows)
        if self._rows > self._max_rows:
            raise LimitExceeded(
                f"There are more than the {self._max_rows} rows that are allowed.",
                "Read fewer with query.sql, query.filter, query.since or query.limit, or raise "
                "data.max_rows in the configuration.",
            )
        check_size(self._rows, len(self._types))
        data = pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)
        self._size += len(data)
        if self._size > self._max_bytes:
            raise LimitExceeded(
                f"The rows take more than the {self._max_bytes} bytes that are allowed.",
                "Read fewer with query.sql, query.filter, query.fields or query.limit, or raise "
                "data.max_mb in the configuration.",
            )
        self._write(self._batch(self._batches), data)
        self._batches += 1

    def save(self, path: Path) -> None:
        """Write all rows to `path` as Parquet.

        Raises:
            InvalidArgument: there are no rows, or no columns.
            Unavailable: the disk does not take them.
        """
        if not self._rows or not self._types:
            raise InvalidArgument(
                f"The source gives {self._rows} rows of {len(self._types)} columns.",
                "Check the query: a data set needs at least one of each.",
            )
        schema = {
            name: _TYPES.get(frozenset(kinds), pl.String()) for name, kinds in self._types.items()
        }
        try:
            parts = list(self._parts(schema))
            pl.scan_parquet(parts, glob=False).sink_parquet(path, maintain_order=True)
        except OSError as error:
            raise _full(error) from error

    def _parts(self, schema: dict[str, pl.DataType]) -> Iterator[Path]:
        for number in range(self._batches):
            batch = self._batch(number)
            rows: list[Row] = pickle.loads(batch.read_bytes())
            columns = {
                name: pl.Series(name, [_fitting(row.get(name), type) for row in rows], type)
                for name, type in schema.items()
            }
            part = batch.with_suffix(".parquet")
            pl.DataFrame(columns).write_parquet(part)
            batch.unlink()
            yield part

    def _batch(self, number: int) -> Path:
        return self._folder / f"{number:06}.rows"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.write_bytes(data)
        except OSError as error:
            raise _full(error) from error


def _type_of(cell: Cell) -> type | None:
    """What a cell's column must hold for it; None where anything does."""
    if not isinstance(cell, Untyped):
        return None if cell is None else type(cell)
    if not cell:
        return None
    if _WHOLE.fullmatch(cell) and int(cell) in _INT64:
        return int
    if cell in _TRUTH:
        return bool
    return float if _NUMBER.fullmatch(cell) and cell not in ("-", "") else str


def _fitting(cell: Cell, type: pl.DataType) -> Cell:
    if cell is None:
        return None
    if isinstance(cell, Untyped) and not isinstance(type, pl.String):
        return _meant(cell, type)
    if isinstance(type, pl.Float64):
        return float(cell)  # type: ignore[arg-type]
    return _text(cell) if isinstance(type, pl.String) else cell


def _meant(cell: Untyped, type: pl.DataType) -> Cell:
    if not cell:
        return None
    if isinstance(type, pl.Boolean):
        return cell == "true"
    return int(cell) if isinstance(type, pl.Int64) else float(cell)


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):
        return cell.isoformat()
    return cell.hex() if isinstance(cell, bytes) else str(cell)


def _full(error: OSError) -> Unavailable:
    return Unavailable(
        f"The rows cannot be written: {error.strerror or error}.", "Check the disk's free space."
    )

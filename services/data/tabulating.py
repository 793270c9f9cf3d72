"""Rows from a source as a Parquet file, in bounded memory."""

import pickle
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.adapters.sources.port import Cell, Row
from mcp_hub.services.data.reading import check_size

_TYPES: dict[frozenset[type], pl.DataType] = {
    frozenset({bool}): pl.Boolean(),
    frozenset({int}): pl.Int64(),
    frozenset({float}): pl.Float64(),
    frozenset({int, float}): pl.Float64(),
    frozenset({datetime}): pl.Datetime("us"),
    frozenset({bytes}): pl.Binary(),
}


class Table:
    """Takes rows in batches, keeps them in files of a folder, and writes them as one table.

    A column's type is that of all its values: whole numbers, numbers, booleans, datetimes, bytes,
    and text for texts and for everything mixed. Columns are in the order in which they came up.
    The methods block: call them in a thread, one at a time.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
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
                if cell is not None:
                    kinds.add(type(cell))
        self._rows += len(rows)
        check_size(self._rows, len(self._types))
        data = pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)
        self._size += len(data)
        if self._size > self._max_bytes:
            raise LimitExceeded(
                f"The rows take more than the {self._max_bytes} bytes that are allowed.",
                "Read fewer with query.filter, query.fields or query.limit, or raise data.max_mb "
                "in the configuration.",
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
                "Check query.filter and query.fields: a data set needs at least one of each.",
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


def _fitting(cell: Cell, type: pl.DataType) -> Cell:
    if cell is None:
        return None
    if isinstance(type, pl.Float64):
        return float(cell)  # type: ignore[arg-type]
    return _text(cell) if isinstance(type, pl.String) else cell


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):
        return cell.isoformat()
    return cell.hex() if isinstance(cell, bytes) else str(cell)


def _full(error: OSError) -> Unavailable:
    return Unavailable(
        f"The rows cannot be written: {error.strerror or error}.", "Check the disk's free space."
    )

"""Telemetry records in SQLite."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from sqlalchemy import Connection, text

from mcp_hub.adapters.database.upsert import in_statements
from mcp_hub.adapters.records.inserting import insert_new
from mcp_hub.adapters.records.port import Row

_DELETE = text(
    "DELETE FROM telemetry_records WHERE rowid IN "
    "(SELECT rowid FROM telemetry_records WHERE time < :time ORDER BY time LIMIT :limit)"
)

# CROSS JOIN has SQLite go by the series, which the index begins with.
_DELETE_KIND = text(
    "DELETE FROM telemetry_records WHERE rowid IN (SELECT r.rowid FROM telemetry_series s "
    "CROSS JOIN telemetry_records r ON r.series = s.series "
    "WHERE s.kind = :kind AND r.time < :time LIMIT :limit)"
)


class SqliteRecordStore:
    """Hundreds of rows a statement, each run without holding the interpreter's lock.

    `executemany` lets go of the lock and takes it again for every row, and waits each time for
    the thread that prepares the next rows.
    """

    def insert(self, connection: Connection, rows: Sequence[Row], *, all_new: bool) -> list[int]:
        return insert_new(connection, rows, _insert, all_new=all_new)

    def delete_before(
        self, connection: Connection, time: int, limit: int, kind: str | None = None
    ) -> int:
        values = {"time": time, "limit": limit}
        if kind is not None:
            return connection.execute(_DELETE_KIND, values | {"kind": kind}).rowcount
        return connection.execute(_DELETE, values).rowcount


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    for some in in_statements(rows):
        connection.exec_driver_sql(_statement(len(some)), tuple(chain.from_iterable(some)))


@lru_cache(maxsize=8)
def _statement(count: int) -> str:
    row = f"({', '.join('?' * len(Row._fields))})"
    names = ", ".join(Row._fields)
    return f"INSERT INTO telemetry_records ({names}) VALUES {', '.join([row] * count)}"

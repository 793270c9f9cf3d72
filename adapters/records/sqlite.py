"""Telemetry records in SQLite."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from mcp_hub.adapters.records.inserting import insert_new
from mcp_hub.adapters.records.port import Row

_INSERT = (
    f"INSERT INTO telemetry_records ({', '.join(Row._fields)}) "
    f"VALUES ({', '.join('?' * len(Row._fields))})"
)
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
    """One prepared statement for all rows of a batch."""

    def insert(self, connection: Connection, rows: Sequence[Row]) -> list[int]:
        return insert_new(connection, rows, _insert)

    def delete_before(
        self, connection: Connection, time: int, limit: int, kind: str | None = None
    ) -> int:
        values = {"time": time, "limit": limit}
        if kind is not None:
            return connection.execute(_DELETE_KIND, values | {"kind": kind}).rowcount
        return connection.execute(_DELETE, values).rowcount


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    connection.exec_driver_sql(_INSERT, list(rows))

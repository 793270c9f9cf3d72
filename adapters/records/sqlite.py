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


class SqliteRecordStore:
    """One prepared statement for all rows of a batch."""

    def insert(self, connection: Connection, rows: Sequence[Row]) -> list[int]:
        return insert_new(connection, rows, _insert)

    def delete_before(self, connection: Connection, time: int, limit: int) -> int:
        return connection.execute(_DELETE, {"time": time, "limit": limit}).rowcount


def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    connection.exec_driver_sql(_INSERT, list(rows))

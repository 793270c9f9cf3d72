"""Telemetry records in PostgreSQL: COPY into partitions by day."""

from collections.abc import Sequence
from typing import Any

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import await_only

from mcp_hub.adapters.records.inserting import insert_new
from mcp_hub.adapters.records.port import Row

TABLE = "telemetry_records"
DAY_NS = 24 * 3600 * 10**9
_DAYS_KNOWN = 1_000

_PARTITIONS = text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
    "WHERE i.inhparent = 'telemetry_records'::regclass"
)
_IN_DEFAULT = text(
    "SELECT EXISTS (SELECT FROM telemetry_records_default WHERE time >= :first AND time < :last)"
)
# Two writers that begin a day at once: one makes its partition, the other waits and finds it.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('mcp-hub telemetry partitions'))")
_DELETE = text(
    "DELETE FROM telemetry_records WHERE (time, id) IN "
    "(SELECT time, id FROM telemetry_records WHERE time < :time ORDER BY time LIMIT :limit)"
)

_DELETE_KIND = text(
    "DELETE FROM telemetry_records WHERE (time, id) IN (SELECT r.time, r.id "
    "FROM telemetry_series s JOIN telemetry_records r ON r.series = s.series "
    "WHERE s.kind = :kind AND r.time < :time LIMIT :limit)"
)


class PostgresRecordStore:
    """Rows by COPY, a partition for each day that has some, whole days dropped when they are old.

    Records of a day that had none when they came are in the default partition, if making a
    partition is not permitted; they are found all the same.
    """

    def __init__(self) -> None:
        self._days: set[int] = set()

    def insert(self, connection: Connection, rows: Sequence[Row], *, all_new: bool) -> list[int]:
        days = {row.time // DAY_NS for row in rows}
        if not days <= self._days:
            self._ensure_partitions(connection, days)
        return insert_new(connection, rows, _copy, all_new=all_new)

    def delete_before(
        self, connection: Connection, time: int, limit: int, kind: str | None = None
    ) -> int:
        if kind is not None:
            values = {"time": time, "limit": limit, "kind": kind}
            return connection.execute(_DELETE_KIND, values).rowcount
        for name in connection.execute(_PARTITIONS).scalars():
            day = _day_of(name)
            if day is not None and (day + 1) * DAY_NS <= time:
                removed = connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
                connection.execute(text(f"DROP TABLE {name}"))
                self._days.discard(day)
                return int(removed)
        return connection.execute(_DELETE, {"time": time, "limit": limit}).rowcount

    def _ensure_partitions(self, connection: Connection, days: set[int]) -> None:
        connection.execute(_LOCK)
        present = {_day_of(name) for name in connection.execute(_PARTITIONS).scalars()}
        for day in sorted(days - present):
            bounds = {"first": day * DAY_NS, "last": (day + 1) * DAY_NS}
            if connection.execute(_IN_DEFAULT, bounds).scalar_one():
                continue
            connection.execute(
                text(
                    f"CREATE TABLE {TABLE}_{day} PARTITION OF {TABLE} "
                    f"FOR VALUES FROM ({bounds['first']}) TO ({bounds['last']})"
                )
            )
        if len(self._days) > _DAYS_KNOWN:
            self._days.clear()
        self._days |= days


def _day_of(name: str) -> int | None:
    """The day, since the epoch, of the partition `name`; None for the default one."""
    number = name.removeprefix(f"{TABLE}_")
    return int(number) if number.isdigit() else None


def _copy(connection: Connection, rows: Sequence[Row]) -> None:
    adapted: Any = connection.connection.dbapi_connection
    driver = adapted.driver_connection
    try:
        await_only(driver.copy_records_to_table(TABLE, records=rows, columns=Row._fields))
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _as_statements_do(connection, adapted, error) from error


def _as_statements_do(connection: Connection, adapted: Any, error: Exception) -> BaseException:
    """The exception that SQLAlchemy raises where a statement fails with asyncpg's `error`."""
    errors = connection.dialect.loaded_dbapi.Error
    try:
        adapted._handle_exception(error)
    except errors as translated:
        return DBAPIError.instance(f"COPY {TABLE}", None, translated, errors)
    return error

"""The sandbox on PostgreSQL: a checked statement, in a transaction that may only read."""

import time
from typing import Any
from uuid import uuid4

import asyncpg
from anyio import to_thread
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Denied, HubError, Unavailable
from mcp_hub.adapters.records.sandbox import (
    Gathering,
    Limits,
    Selected,
    check_text,
    too_slow,
    wrong,
)

READER = "mcp_hub_telemetry"
"""A role that may read telemetry's tables alone; used where an administrator has made it."""

_AT_ONCE = 20
_LEAST_S = 0.001
_CANCELLED = "57014"
_PERMISSION = "42501"
_NOT_OF_THE_SQL = ("08", "53", "57", "58", "XX")

_BOUNDS = (
    "SET LOCAL work_mem = '16MB'",
    "SET LOCAL max_parallel_workers_per_gather = 0",
    "SET LOCAL standard_conforming_strings = on",
    "SET LOCAL jit = off",
)
_FILES = "SET LOCAL temp_file_limit = '1GB'"
_MAY_LIMIT_FILES = "SELECT current_setting('is_superuser')::bool"
_HAS_READER = (
    f"SELECT count(*) FROM pg_roles WHERE rolname = '{READER}' "
    "AND pg_has_role(current_user, oid, 'MEMBER') "
    "AND has_table_privilege(oid, 'telemetry_records', 'SELECT')"
)


class PostgresSandbox:
    """A SELECT of allowed parts, in a read-only transaction with bounds on time and memory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def select(self, sql: str, limits: Limits) -> Selected:
        check_text(sql)
        checked = await to_thread.run_sync(_checked, sql)
        return await self._database.read(lambda connection: _run(connection, checked, limits))


def _checked(sql: str) -> str:
    # The parser is not loaded before it is needed.
    from mcp_hub.adapters.records.postgresql_select import checked_select

    return checked_select(sql)


def _run(connection: Connection, sql: str, limits: Limits) -> Selected:
    for bound in (
        f"SET LOCAL statement_timeout = {round(limits.timeout_s * 1000)}",
        *_BOUNDS,
    ):
        connection.exec_driver_sql(bound)
    if connection.exec_driver_sql(_MAY_LIMIT_FILES).scalar_one():
        connection.exec_driver_sql(_FILES)
    if connection.exec_driver_sql(_HAS_READER).scalar_one():
        connection.exec_driver_sql(f"SET LOCAL ROLE {READER}")
    driver: Any = connection.connection.driver_connection
    try:
        return await_only(_fetched(driver, sql, limits))
    except TimeoutError as error:
        raise too_slow(limits.timeout_s) from error
    except asyncpg.PostgresError as error:
        raise _meaning(error, limits) from error
    except (ValueError, OverflowError) as error:
        raise wrong(f"it gives a value that cannot be shown: {error}") from error


async def _fetched(driver: Any, sql: str, limits: Limits) -> Selected:
    # The server's own limit is for each piece.
    deadline = time.monotonic() + limits.timeout_s
    statement = await driver.prepare(sql, name=f"telemetry_sql_{uuid4().hex}")
    cursor = await statement.cursor()
    gathering = Gathering([column.name for column in statement.get_attributes()], limits)
    while rows := await cursor.fetch(_AT_ONCE, timeout=max(deadline - time.monotonic(), _LEAST_S)):
        if not all(gathering.add(row) for row in rows):
            break
    return gathering.done()


def _meaning(error: asyncpg.PostgresError, limits: Limits) -> HubError:
    code = error.sqlstate or ""
    if code == _CANCELLED:
        return too_slow(limits.timeout_s)
    if code == _PERMISSION:
        return Denied(
            f"The database's user may not: {error}.", f"Grant it, or the role {READER}, SELECT."
        )
    if code[:2] in _NOT_OF_THE_SQL:
        return Unavailable(f"The database cannot be read: {error}.", "Try again.")
    return wrong(str(error).split("\n")[0].rstrip("."))

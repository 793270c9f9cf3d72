"""The tables of a PostgreSQL database, and what a SELECT makes of them."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg
from anyio import CancelScope, move_on_after, to_thread
from asyncpg.prepared_stmt import PreparedStatement

from mcp_hub.adapters.database.postgresql_url import dsn_of, settings_of
from mcp_hub.adapters.errors import (
    HubError,
    InvalidArgument,
    NotFound,
    TimedOut,
    Unavailable,
    names_hint,
)
from mcp_hub.adapters.sources import sql
from mcp_hub.adapters.sources.port import Batch, Cell, Query, Row
from mcp_hub.adapters.sources.querying import Pace, number_cell
from mcp_hub.adapters.sources.sql import CursorColumn, SqlSource, cursor_value
from mcp_hub.adapters.urls import without_secret

TIMEOUT_S = 60.0
_CONNECT_S = 10.0
_CLOSE_S = 2.0
_MAX_ITEMS = 1_000
_SETTINGS = {
    "default_transaction_read_only": "on",
    # Without it a scan of a large table may begin in its middle.
    "synchronize_seqscans": "off",
}
_TABLES = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname
            ELSE n.nspname || '.' || c.relname END AS name,
       c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS quoted
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY 1
"""
_KEY = """
SELECT quote_ident(a.attname)
FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1 AND i.indisprimary ORDER BY k.place
"""
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_QUERY_CLASSES = ("0A", "21", "22", "34", "42", "54", "P0")
_CANCELLED, _PERMISSION = "57014", "42501"
# Of the state that a transaction is in, here a read-only one.
_WRITES = "25"
_PARSERS = {
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
}


class PostgresSource(SqlSource):
    """Reads in one read-only transaction, tables in the order of their primary key.

    The server itself refuses what would write, and ends a piece that takes too long. What the
    user may do beyond writing, such as read the server's files, only its rights can bound: give
    it SELECT and nothing else.
    """

    kind = "a PostgreSQL database"

    def __init__(self, url: str, setting: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """`setting` is what to name where `url` is wrong; `timeout_s` is for each batch.

        Raises:
            InvalidArgument: `url` cannot be read, or names no database.
        """
        self._dsn = dsn_of(url)
        self._shown = without_secret(url)
        self._settings = settings_of(url, timeout_s) | _SETTINGS
        self._setting = setting
        self._timeout_s = timeout_s

    async def items(self) -> list[str]:
        async with self._connected() as connection:
            with self._translated():
                return [row["name"] for row in await connection.fetch(_TABLES)][:_MAX_ITEMS]

    async def check(self) -> str:
        async with self._connected() as connection:
            version = connection.get_server_version()
        return f"PostgreSQL {version.major}.{version.minor}, {self._shown}"

    async def close(self) -> None:
        pass

    async def _batches(
        self, item: str, query: Query, column: CursorColumn | None, after: str | None
    ) -> AsyncGenerator[Batch, None]:
        async with self._connected() as connection:
            with self._translated():
                await connection.transaction(isolation="repeatable_read", readonly=True).start()
                select = query.sql or await _select_of(connection, item, query)
                arguments = list(query.parameters or ())
                if column is not None:
                    place = f"${len(arguments) + 1}" if after else None
                    select = sql.grown(select, column.name, place)
                statement = await connection.prepare(select)
                names = [attribute.name for attribute in statement.get_attributes()]
                if not names:
                    raise sql.no_rows()
                sql.check_columns(names)
                if column is not None:
                    column.check_named(names)
                arguments = _typed(arguments, statement)
                arguments += [cursor_value(after)] if column is not None and after else []
                cursor = await statement.cursor(*arguments)
            pace = Pace()
            left = query.limit
            while left != 0:
                wanted = pace.rows if left is None else min(left, pace.rows)
                with self._translated():
                    records = await cursor.fetch(wanted)
                if not records:
                    return
                rows = await to_thread.run_sync(_rows, names, records)
                if column is not None:
                    for record in records:
                        column.take(record[column.name])
                pace.measure(rows)
                left = None if left is None else left - len(rows)
                yield Batch(rows, column.text() if column else "")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        with self._translated():
            connection = await asyncpg.connect(
                self._dsn,
                timeout=_CONNECT_S,
                # Later than the server's own time-out, which says what it is.
                command_timeout=self._timeout_s + _CLOSE_S,
                statement_cache_size=0,
                server_settings=self._settings,
            )
        try:
            yield connection
        finally:
            with CancelScope(shield=True), move_on_after(_CLOSE_S):
                await connection.close(timeout=_CLOSE_S)
            connection.terminate()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> HubError:
        said = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        wrong_argument = said.startswith("invalid input for query argument")
        if isinstance(error, asyncpg.PostgresError) and not wrong_argument:
            return self._refusal(error, said)
        if isinstance(error, TimeoutError):
            return TimedOut(
                f"PostgreSQL at {self._shown} did not answer in time.", self._slow_hint()
            )
        if isinstance(error, OSError) or "connection is closed" in said:
            return self._lost(said)
        return InvalidArgument(
            f"query.parameters do not fit the query: {said}.",
            "Placeholders are $1, $2, …; write $1::int, $1::date or the like where a type is "
            "taken wrongly.",
        )

    def _refusal(self, error: asyncpg.PostgresError, said: str) -> HubError:
        code = error.sqlstate or ""
        if code[:2] == _WRITES:
            return sql.writes(f"PostgreSQL says {said}")
        if code == _CANCELLED:
            return TimedOut(f"The query took longer than {self._timeout_s:g} s.", self._slow_hint())
        if code == _PERMISSION:
            return Unavailable(
                f"PostgreSQL at {self._shown}: {said}.", "Grant the source's user SELECT on it."
            )
        if code[:2] in _QUERY_CLASSES:
            position = getattr(error, "position", None)
            where = f", at character {position}" if position else ""
            told = " ".join(filter(None, [getattr(error, "hint", None)]))
            return InvalidArgument(
                f"PostgreSQL does not take the query: {said[:300]}{where}.",
                told or "One SELECT at a time; placeholders are $1, $2, …",
            )
        if code[:2] in ("28", "3D"):
            return Unavailable(
                f"PostgreSQL at {self._shown} refuses: {said}.",
                f"Check the user, the password and the database in {self._setting}.",
            )
        return self._lost(said)

    def _lost(self, said: str) -> Unavailable:
        return Unavailable(
            f"PostgreSQL at {self._shown} cannot be reached, or broke off: {said}.",
            f"Check that it runs and that {self._setting} names it, then try again.",
        )

    def _slow_hint(self) -> str:
        return "Read less, add an index, or raise data.query_timeout_s in the configuration."


async def _select_of(connection: "asyncpg.Connection[Any]", item: str, query: Query) -> str:
    tables = {row["name"]: row for row in await connection.fetch(_TABLES)}
    if item not in tables:
        hint = names_hint(item, tables, "tables")
        raise NotFound(f"There is no table {item!r} that the source's user may read.", hint)
    table = tables[item]
    if query.fields:
        columns = [row[0] for row in await connection.fetch(_COLUMNS, table["oid"])]
        sql.check_fields(query.fields, columns, item)
    key = [row[0] for row in await connection.fetch(_KEY, table["oid"])]
    order = f" ORDER BY {', '.join(key)}" if key else ""
    return f"SELECT {sql.columns_of(query.fields)} FROM {table['quoted']}{order}"


def _typed(values: Sequence[Any], statement: "PreparedStatement[Any]") -> list[Any]:
    """JSON's values as asyncpg takes them for the statement's placeholders."""
    types = [parameter.name for parameter in statement.get_parameters()]
    # Where there are too many or too few, asyncpg says so.
    types += ["text"] * (len(values) - len(types))
    return [_argument(value, type) for value, type in zip(values, types, strict=False)]


def _argument(value: Any, type: str) -> Any:
    if isinstance(value, str) and type in _PARSERS:
        return _PARSERS[type](value)
    if type == "numeric" and isinstance(value, int | float | str):
        try:
            return Decimal(str(value))
        except InvalidOperation as error:
            raise ValueError(f"{value!r} is no number") from error
    if type in ("json", "jsonb") and not isinstance(value, str):
        return json.dumps(value)
    return value


def _rows(names: Sequence[str], records: Sequence[Any]) -> list[Row]:
    return [dict(zip(names, map(_cell, record), strict=True)) for record in records]


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str | bool | int | bytes):
        return value
    if isinstance(value, float):
        return number_cell(value)
    if isinstance(value, Decimal):
        return number_cell(float(value))
    if isinstance(value, datetime):
        return sql.in_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - in UTC, as all cells
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)

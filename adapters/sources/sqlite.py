"""The tables of a SQLite file, and what a SELECT makes of them."""

import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from anyio import to_thread

from mcp_hub.adapters.errors import InvalidArgument, NotFound, TimedOut, Unavailable, names_hint
from mcp_hub.adapters.sources import sql
from mcp_hub.adapters.sources.port import Batch, Query, Row
from mcp_hub.adapters.sources.querying import BATCH_BYTES, BATCH_ROWS, weight
from mcp_hub.adapters.sources.sql import CursorColumn, SqlSource, cursor_value

T = TypeVar("T")

TIMEOUT_S = 60.0
_BUSY_S = 5.0
_STEPS = 20_000
_LONGEST_VALUE = 64 * 1024 * 1024
_MAX_ITEMS = 1_000
_READS = {
    sqlite3.SQLITE_READ, sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
}  # fmt: skip
_FORBIDDEN = ("not authorized", "authorization denied", "attempt to write", "access to ")
_TABLES = (
    "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
    "AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"
)


class SqliteSource(SqlSource):
    """Reads a file that it opens read-only, tables in the order of their rowid.

    SQLite itself refuses what is more than reading: the file is opened so, and its authorizer
    allows neither other files nor pragmas. A value has at most 64 MiB.
    """

    kind = "a SQLite file"

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        """`timeout_s` is for each batch of rows."""
        self._path = path
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._connection: sqlite3.Connection | None = None

    async def items(self) -> list[str]:
        return await self._run(lambda connection: _names(connection)[:_MAX_ITEMS])

    async def check(self) -> str:
        await self._run(_names)
        return f"SQLite {sqlite3.sqlite_version}, {self._path}"

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await to_thread.run_sync(connection.close)

    async def _batches(
        self, item: str, query: Query, column: CursorColumn | None, after: str | None
    ) -> AsyncGenerator[Batch, None]:
        reading = await self._run(lambda c: _Reading(c, item, query, column, after))
        while rows := await self._run(lambda _: reading.next()):
            yield Batch(rows, column.text() if column else "")

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            self._deadline = time.monotonic() + self._timeout_s
            with self._translated():
                if self._connection is None:
                    self._connection = self._connect()
                return work(self._connection)

        return await to_thread.run_sync(run)

    def _connect(self) -> sqlite3.Connection:
        # A file that is not there must not be made.
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=ro",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS)
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> Exception:
        said = str(error).rstrip(".")
        if said == "interrupted":
            return TimedOut(
                f"SQLite took longer than {self._timeout_s:g} s.",
                "Read less, or raise data.query_timeout_s in the configuration.",
            )
        if said.startswith(_FORBIDDEN):
            return sql.writes(f"SQLite says {said}")
        if "not a database" in said or "malformed" in said:
            return InvalidArgument(
                f"{self._path} is no sound SQLite file: {said}.", "Name another file."
            )
        if isinstance(error, sqlite3.OperationalError) and said.startswith(
            ("database is locked", "unable to open", "disk I/O", "database schema is locked")
        ):
            return Unavailable(
                f"{self._path} cannot be read: {said}.",
                "Try again when no other program is writing to it.",
            )
        return InvalidArgument(
            f"SQLite does not take the query: {said[:300]}.",
            "Placeholders are ?, one for each of query.parameters; one statement at a time.",
        )


class _Reading:
    """A statement that is being run."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        item: str,
        query: Query,
        column: CursorColumn | None,
        after: str | None,
    ) -> None:
        select, arguments = query.sql, list(query.parameters or ())
        if select is None:
            names = _names(connection)
            if item not in names:
                hint = names_hint(item, names, "tables")
                raise NotFound(f"There is no table {item!r} in the file.", hint)
            # SQLite takes a quoted name that it does not know for a text.
            sql.check_fields(query.fields, _columns(connection, item), item)
            # Whatever indexes there are, in the order of the rowid.
            table = f"{sql.quoted(item)} NOT INDEXED"
            select = f"SELECT {sql.columns_of(query.fields)} FROM {table}"
        if column is not None:
            select = sql.grown(select, column.name, "?" if after else None)
            arguments += [cursor_value(after)] if after else []
        found = connection.execute(select, arguments)
        if found.description is None:
            raise sql.no_rows()
        self._columns = [name for name, *_ in found.description]
        sql.check_columns(self._columns)
        if column is not None:
            column.check_named(self._columns)
        self._found = found
        self._column = column
        self._left = query.limit

    def next(self) -> list[Row]:
        """Further rows, none where there are no more."""
        rows: list[Row] = []
        size = 0
        while len(rows) < BATCH_ROWS and size < BATCH_BYTES and self._left != 0:
            values = self._found.fetchone()
            if values is None:
                break
            row = dict(zip(self._columns, values, strict=True))
            if self._column is not None:
                self._column.take(row[self._column.name])
            rows.append(row)
            size += weight(row)
            if self._left is not None:
                self._left -= 1
        return rows


def _names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute(_TABLES)]


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    none = connection.execute(f"SELECT * FROM {sql.quoted(table)} LIMIT 0")
    return [name for name, *_ in none.description]


def _authorize(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY

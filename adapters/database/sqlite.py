"""The embedded database: one SQLite file in WAL mode, shared by any number of processes."""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from mcp_hub import migrations
from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.errors import Conflict, Unavailable

T = TypeVar("T")

_BUSY_TIMEOUT_S = 30.0
_READERS = 4


class SqliteDatabase:
    """SQLite through SQLAlchemy, each transaction in one hop to a thread.

    WAL lets readers go on while one process writes. A write takes the write lock when it begins
    (`BEGIN IMMEDIATE`), so it waits its turn instead of failing half way. With
    `synchronous=NORMAL` a commit survives the death of any process, though the last ones may be
    lost when the machine loses power.
    """

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
            pool_size=_READERS + 1,
            max_overflow=0,
        )
        event.listen(self._engine, "connect", _set_pragmas)
        event.listen(self._engine, "begin", _begin)
        self._readers = anyio.CapacityLimiter(_READERS)
        # SQLite has one writer at a time; queueing here is fair, its own busy wait is not.
        self._writer = anyio.CapacityLimiter(1)

    async def read(self, work: Callable[[Connection], T]) -> T:
        run = partial(self._transaction, work, "BEGIN")
        return await to_thread.run_sync(run, limiter=self._readers)

    async def write(self, work: Callable[[Connection], T]) -> T:
        run = partial(self._transaction, work, "BEGIN IMMEDIATE")
        return await to_thread.run_sync(run, limiter=self._writer)

    async def upgrade(self) -> list[str]:
        def apply(connection: Connection) -> list[str]:
            current = _revision(connection)
            if current == migrations.HEAD:
                return []
            return _migrate(connection, current)

        if await self.read(_revision) == migrations.HEAD:
            return []
        return await self.write(apply)

    async def check(self) -> str:
        version = await self.read(lambda c: c.execute(text("SELECT sqlite_version()")).scalar_one())
        return f"SQLite {version}, {self._path}"

    async def close(self) -> None:
        await to_thread.run_sync(self._engine.dispose)

    def _transaction(self, work: Callable[[Connection], T], begin: str) -> T:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._engine.connect() as connection:
                connection = connection.execution_options(mcp_hub_begin=begin)
                with connection.begin():
                    return work(connection)
        except OSError as error:
            raise Unavailable(
                f"The database {self._path} cannot be opened: {error.strerror}.",
                "Check that the folder exists and may be written, or set MCP_HUB_DATA_DIR.",
            ) from error
        except DBAPIError as error:
            if isinstance(error, OperationalError) or _is_storage_fault(error.orig):
                raise Unavailable(
                    f"The database {self._path} is unavailable: {error.orig}.", _hint(error.orig)
                ) from error
            raise


def _set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin` chooses the kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -16384",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options()["mcp_hub_begin"])


def _is_storage_fault(fault: BaseException | None) -> bool:
    return isinstance(fault, sqlite3.DatabaseError) and "malformed" in str(fault)


def _hint(fault: BaseException | None) -> str:
    reason = str(fault)
    if "locked" in reason:
        return f"Another process held the write lock for over {_BUSY_TIMEOUT_S:.0f} s; try again."
    if "full" in reason:
        return "Free some disk space, then try again."
    if "readonly" in reason or "unable to open" in reason:
        return "Check that the file and its folder may be written, or set MCP_HUB_DATA_DIR."
    return "Run `mcp-hub doctor`."


def _revision(connection: Connection) -> str | None:
    known = connection.execute(
        text("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'")
    ).scalar()
    if not known:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(connection: Connection, current: str | None) -> list[str]:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = migrations.alembic_config(connection)
    script = ScriptDirectory.from_config(config)
    known = [revision.revision for revision in script.walk_revisions()]
    if current is not None and current not in known:
        raise Conflict(
            f"The database is at revision {current}, which this mcp-hub does not know.",
            f"Upgrade mcp-hub; this version knows {migrations.HEAD}.",
        )
    command.upgrade(config, migrations.HEAD)
    applied = known[: known.index(current)] if current else known
    return list(reversed(applied))

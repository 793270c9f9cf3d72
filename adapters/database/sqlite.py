"""The embedded database: one SQLite file in WAL mode, shared by any number of processes."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from mcp_hub import migrations
from mcp_hub.adapters.database.migrating import revision, upgrade
from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.errors import Unavailable

T = TypeVar("T")

_READERS = 4
_WAL_RETRY_S = 0.02
_LOCK_RETRY_S = (0.001, 0.01)
"""How often the write lock is tried for in the first second, and after that. SQLite's own waiting
backs off to a tenth of a second, and so leaves the lock idle while many processes want it."""
_PRAGMAS = (
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cache_size = -16384",
    # More pages of the log than this are moved by whoever commits: see `_SHORTEN_AFTER`.
    "wal_autocheckpoint = 4000",
)

_SHORTEN_AFTER = 64
"""After so many commits the log is moved into the file by a thread of its own."""

_CHECK_ACCESS = "Check that the file and its folder may be written, or set MCP_HUB_DATA_DIR."
_CHECK_DISK = "Check the disk: the operating system refused to read or write the file."
_RESTORE = "Restore the file from a backup, or move it away to begin with an empty database."
_TRY_AGAIN = "Other processes kept it locked; try again."
_HINTS = {
    sqlite3.SQLITE_BUSY: _TRY_AGAIN,
    sqlite3.SQLITE_LOCKED: _TRY_AGAIN,
    sqlite3.SQLITE_PROTOCOL: _TRY_AGAIN,
    sqlite3.SQLITE_FULL: "Free some disk space, then try again.",
    sqlite3.SQLITE_IOERR: _CHECK_DISK,
    sqlite3.SQLITE_PERM: _CHECK_ACCESS,
    sqlite3.SQLITE_READONLY: _CHECK_ACCESS,
    sqlite3.SQLITE_CANTOPEN: _CHECK_ACCESS,
    sqlite3.SQLITE_CORRUPT: _RESTORE,
    sqlite3.SQLITE_NOTADB: _RESTORE,
}
"""What to do about SQLite's primary result codes that are no fault of a statement's."""


class SqliteDatabase:
    """SQLite through SQLAlchemy, each transaction in one hop to a thread.

    WAL lets readers go on while one process writes. A write takes the write lock when it begins
    (`BEGIN IMMEDIATE`), so it waits its turn, up to `busy_timeout_s` seconds, instead of failing
    half way. With `synchronous=NORMAL` a commit survives the death of any process, though the
    last ones may be lost when the machine loses power.

    While it is open, the file must not be opened by other means in the same process: on POSIX,
    closing it drops the locks that SQLite holds.
    """

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path, busy_timeout_s: float = 30.0) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._reading = self._engine(_begin_reading, "query_only = ON")
        self._writing = self._engine(self._begin_writing, "busy_timeout = 0")
        self._readers = anyio.CapacityLimiter(_READERS)
        # SQLite has one writer at a time; queueing here is fair, its own busy wait is not.
        self._writer = anyio.CapacityLimiter(1)
        self._commits = 0
        self._mover = ThreadPoolExecutor(1, "sqlite-checkpoint")
        self._watcher: sqlite3.Connection | None = None

    async def read(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        run = partial(self._transaction, self._reading, work)
        return await to_thread.run_sync(run, limiter=self._readers)

    async def write(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        run = partial(self._transaction, self._writing, work)
        result = await to_thread.run_sync(run, limiter=self._writer)
        self._commits += 1
        if self._commits % _SHORTEN_AFTER == 0:
            self._mover.submit(self._shorten_log)
        return result

    async def version(self) -> int | None:
        watcher = self._watcher or await self._watch()
        try:
            found = watcher.execute("PRAGMA data_version").fetchall()
        except sqlite3.Error:
            return None
        version: int = found[0][0]
        return version

    async def _watch(self) -> sqlite3.Connection:
        """A connection of the event loop's own, which must not wait for other processes."""
        pragmas = ("query_only = ON", "busy_timeout = 0")
        opened = await to_thread.run_sync(self._connect, pragmas, limiter=self._readers)
        if self._watcher is None:
            self._watcher = opened
        else:
            opened.close()
        return self._watcher

    async def upgrade(self) -> list[str]:
        if await self.read(revision) == migrations.HEAD:
            return []
        return await self.migrate(upgrade)

    async def migrate(self, work: Callable[[Connection], T]) -> T:
        return await self.write(work)

    async def check(self) -> str:
        version = await self.read(lambda c: c.execute(text("SELECT sqlite_version()")).scalar_one())
        return f"SQLite {version}, {self._path}"

    async def close(self) -> None:
        await to_thread.run_sync(self._mover.shutdown)
        if self._watcher is not None:
            self._watcher.close()
        for engine in (self._reading, self._writing):
            await to_thread.run_sync(engine.dispose)

    def _shorten_log(self) -> None:
        """Move what is in the log into the file while commits go on, which else wait for it.

        What cannot be moved now is moved the next time, or by a commit that finds much of it.
        """
        with suppress(sqlite3.Error), closing(self._connect(())) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _engine(self, begin: Callable[[Connection], None], *pragmas: str) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            creator=partial(self._connect, pragmas),
            poolclass=QueuePool,
            # The limiters bound the connections, but for those of cancelled callers.
            max_overflow=-1,
            pool_use_lifo=True,
        )
        event.listen(engine, "begin", begin)
        return engine

    def _begin_writing(self, connection: Connection) -> None:
        """Begin with the write lock, as soon as no other process has it."""
        began = time.monotonic()
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except DBAPIError as error:
            driver = connection.connection.dbapi_connection
            while not _took_lock(driver, error):
                waited = time.monotonic() - began
                if waited >= self._busy_timeout_s:
                    raise
                time.sleep(_LOCK_RETRY_S[waited >= 1])

    def _connect(self, pragmas: tuple[str, ...]) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The folder of the database {self._path} cannot be made: {error.strerror}.",
                _CHECK_ACCESS,
            ) from error
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            # The driver must not begin transactions by itself: the engine chooses the kind.
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            self._enter_wal(connection)
            for pragma in (*_PRAGMAS, *pragmas):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL, which only the first process to open a new file has to do.

        When several try at once, SQLite refuses all but one without waiting.
        """
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_WAL_RETRY_S)
            else:
                return

    def _transaction(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except DBAPIError as error:
            hint = _HINTS.get(_code(error.orig))
            if hint is None:
                raise
            raise Unavailable(
                f"The database {self._path} is unavailable: {error.orig}.", hint
            ) from error


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _took_lock(driver: Any, error: DBAPIError) -> bool:
    """Whether the write lock was there at this further try; raises `error` if trying is no use."""
    if _code(error.orig) != sqlite3.SQLITE_BUSY:
        raise error
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as again:
        if _code(again) != sqlite3.SQLITE_BUSY:
            raise error from again
        return False
    return True


def _code(error: BaseException | None) -> int:
    """The primary result code of SQLite's `error`; 0 where it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

"""The database of a team: PostgreSQL through SQLAlchemy and asyncpg."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from mcp_hub import migrations
from mcp_hub.adapters.database.migrating import revision, upgrade
from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.database.postgresql_errors import Failure, failure_of, reason_of
from mcp_hub.adapters.database.postgresql_url import dsn_of, settings_of
from mcp_hub.adapters.errors import Conflict, InvalidArgument, Unavailable
from mcp_hub.adapters.urls import without_secret

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MIGRATION_LOCK = 0x6D6370687562  # "mcphub"
_MIGRATION_S = 3600.0
_RECONNECT_S = 5.0
_CLOSE_S = 5.0
_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.25


@dataclass(slots=True)
class _Call:
    """How far one run of a transaction has come."""

    connected: bool = False
    may_be_committed: bool = False


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """Closes in a second at most: asyncpg would wait for a server that does not answer."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        with suppress(TimeoutError):
            await super().close(timeout=timeout or 1.0)


class PostgresDatabase:
    """One PostgreSQL database, shared by any number of hubs on any number of machines.

    `url` is as libpq takes it, TLS options included (`sslmode`, `sslrootcert`, …). The server
    ends a statement after `statement_timeout_s`; a whole call, with its wait for one of
    `pool_size + pool_overflow` connections, ends `connect_timeout_s` later at the latest.

    A transaction runs on the event loop, in a greenlet that leaves it while the server works.
    It is REPEATABLE READ, and is run again when the server ends it because of another one; also
    when the connection is lost before the commit, so that a server which is restarted costs a
    delay of some seconds and no error. SERIALIZABLE would spare services their `touch`; with
    twelve writers on one table it was tried, and had four times the conflicts and let the
    largest transactions starve.

    Raises:
        InvalidArgument: `url` is none of PostgreSQL's.
    """

    dialect: Dialect = "postgresql"

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        pool_overflow: int = 10,
        connect_timeout_s: float = 10.0,
        statement_timeout_s: float = 30.0,
    ) -> None:
        self._dsn = dsn_of(url)
        self._shown = without_secret(url)
        self._most_connections = pool_size + pool_overflow
        self._connect_timeout_s = connect_timeout_s
        self._call_timeout_s = statement_timeout_s + connect_timeout_s
        self._settings = settings_of(url, statement_timeout_s)
        self._was_reached = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=pool_overflow,
            # The deadline of the call comes first.
            pool_timeout=_MIGRATION_S,
            pool_use_lifo=True,
        )
        engine = self._pool.sync_engine
        _leave_json_to_the_driver(engine.dialect)
        event.listen(engine, "checkout", _refuse_closed)
        self._reading = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._writing = engine.execution_options(isolation_level="REPEATABLE READ")
        self._at_once = engine.execution_options(isolation_level="AUTOCOMMIT")
        # Whoever waited for the lock must see what was done before.
        self._migrating = engine.execution_options(isolation_level="READ COMMITTED")

    async def read(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        return await self._run(self._at_once if one_statement else self._reading, work)

    async def write(self, work: Callable[[Connection], T], *, one_statement: bool = False) -> T:
        engine = self._at_once if one_statement else self._writing
        return await self._run(engine, work, writes=True)

    async def upgrade(self) -> list[str]:
        if await self.read(revision) == migrations.HEAD:
            return []
        return await self.migrate(upgrade)

    async def migrate(self, work: Callable[[Connection], T]) -> T:
        def run(connection: Connection) -> T:
            connection.execute(text(f"SET LOCAL statement_timeout = '{_MIGRATION_S:.0f}s'"))
            self._lock_migrations(connection)
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != "UTF8":
                raise Conflict(
                    f"The database {self._shown} keeps text as {encoding}, not as UTF-8.",
                    "Make another: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
                )
            return work(connection)

        return await self._run(self._migrating, run, writes=True, within_s=_MIGRATION_S)

    def _lock_migrations(self, connection: Connection) -> None:
        key = {"key": _MIGRATION_LOCK}
        try_it = text("SELECT pg_try_advisory_xact_lock(:key)")
        if not connection.execute(try_it, key).scalar_one():
            logger.warning("Another process migrates %s; waiting for it to end", self._shown)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)

    async def check(self) -> str:
        query = text("SHOW server_version")
        version = await self._run(
            self._at_once, lambda c: c.execute(query).scalar_one(), reconnect_s=0
        )
        return f"PostgreSQL {version}, {self._shown}"

    async def close(self) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._pool.dispose()

    async def _connect(self, *_args: Any, **_options: Any) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=self._connect_timeout_s,
            server_settings=self._settings,
            connection_class=_Connection,
        )
        self._was_reached = True
        return connection

    async def _run(
        self,
        engine: Engine,
        work: Callable[[Connection], T],
        *,
        writes: bool = False,
        within_s: float | None = None,
        reconnect_s: float = _RECONNECT_S,
    ) -> T:
        """Run a transaction to its end, in a task of its own.

        A caller that is cancelled leaves at once. To cancel the transaction itself would cost the
        connection, and asyncpg reports a connection that is given up while it is made as a fault.
        """
        within_s = within_s or self._call_timeout_s
        task = asyncio.create_task(self._repeat(engine, work, writes, within_s, reconnect_s))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A caller that was cancelled meanwhile does not ask: asyncio would complain of that.
            task.exception()

    async def _repeat(
        self,
        engine: Engine,
        work: Callable[[Connection], T],
        writes: bool,
        within_s: float,
        reconnect_s: float,
    ) -> T:
        """Run a transaction, again where another one or a restart ended it, to its deadline."""
        begin = time.monotonic()
        longest_pause_s = _FIRST_PAUSE_S
        while True:
            call = _Call()
            try:
                async with asyncio.timeout(begin + within_s - time.monotonic()) as limit:
                    return await greenlet_spawn(_transaction, engine, work, call)
            except TimeoutError as error:
                raise self._timed_out(call, error, limit.expired(), writes) from error
            except (DBAPIError, OSError) as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                in_doubt = writes and call.may_be_committed and failure.kind == "lost"
                again_s = 0.0
                if failure.kind == "conflict":
                    again_s = within_s
                elif failure.kind in ("lost", "unsent") and self._was_reached and not in_doubt:
                    again_s = reconnect_s
                pause_s = random.uniform(0, longest_pause_s)
                if time.monotonic() + pause_s > begin + again_s:
                    raise self._failed(error, failure, in_doubt) from error
                logger.debug("A transaction is run again: %s", error)
            await asyncio.sleep(pause_s)
            longest_pause_s = min(2 * longest_pause_s, _LONGEST_PAUSE_S)

    def _timed_out(
        self, call: _Call, error: TimeoutError, expired: bool, writes: bool
    ) -> Unavailable:
        if not expired:
            said = str(error) or f"no answer within {self._connect_timeout_s:g} s"
            return self._unavailable(said, "Check that the server runs and is not overloaded.")
        if not call.connected:
            return self._unavailable(
                f"all {self._most_connections} connections were busy for "
                f"{self._call_timeout_s:g} s",
                "Do less at once, or run more hub processes.",
            )
        said = f"no answer within {self._call_timeout_s:g} s"
        if writes and call.may_be_committed:
            return self._unavailable(f"{said}, {_IN_DOUBT}", _LOOK)
        return self._unavailable(said, "Check that the server runs and is not overloaded.")

    def _failed(
        self, error: DBAPIError | OSError, failure: Failure, in_doubt: bool
    ) -> Unavailable | InvalidArgument:
        reason = reason_of(error)
        if failure.kind == "value":
            return InvalidArgument(f"The database cannot keep this: {reason}.", failure.hint)
        if in_doubt:
            return self._unavailable(f"{reason}, {_IN_DOUBT}", _LOOK)
        return self._unavailable(reason, failure.hint)

    def _unavailable(self, reason: str, hint: str) -> Unavailable:
        return Unavailable(f"The database {self._shown} is unavailable: {reason}.", hint)


_IN_DOUBT = "and what was being written may or may not be there"
_LOOK = "See whether it is there before you do it again."


def _transaction(engine: Engine, work: Callable[[Connection], T], call: _Call) -> T:
    with engine.connect() as connection, connection.begin():
        call.connected = True
        call.may_be_committed = engine.get_execution_options()["isolation_level"] == "AUTOCOMMIT"
        result = work(connection)
        call.may_be_committed = True
    return result


def _leave_json_to_the_driver(dialect: Any) -> None:
    """Have JSON passed as text by asyncpg's own codecs, in C, and parsed by SQLAlchemy's types.

    SQLAlchemy's codecs are called for each value, also for those of COPY, and parse what nobody
    asked for.
    """

    async def nothing(connection: object) -> None: ...

    dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = nothing
    dialect.supports_native_json_deserialization = False


def _refuse_closed(dbapi_connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection whose end is known, without asking the server."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError

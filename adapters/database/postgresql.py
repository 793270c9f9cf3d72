"""The database of a team: PostgreSQL through SQLAlchemy and asyncpg."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_hub import migrations
from mcp_hub.adapters.database.migrating import revision, upgrade
from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.urls import without_secret

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 5
_MIGRATION_LOCK = 0x6D6370687562  # "mcphub"
_CONFLICTS = frozenset({"40001", "40P01"})

_TRY_AGAIN = "The connection was lost; try again."
_HINTS = {
    "08": _TRY_AGAIN,
    "25006": "The server is read-only: connect to the primary.",
    "28": "Check the user and the password in database_url.",
    "3D": "There is no such database: check database_url, or let `mcp-hub up` make it.",
    "42501": "Grant the user what it lacks, or run `mcp-hub up` as the database's owner.",
    "53": "The server is short of disk, memory or connections; give it more, then try again.",
    "55P03": "Another process kept it locked; try again.",
    "57": "The server is starting, stopping or ended the statement; try again.",
}
"""What to do about PostgreSQL's error codes, or classes of them, that are no statement's fault."""


class PostgresDatabase:
    """One PostgreSQL database, shared by any number of hubs on any number of machines.

    `url` is as libpq takes it, TLS options included (`sslmode`, `sslrootcert`, …). A transaction
    that the server ends because of another one is run again. Every call has a deadline.
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
        self._url = url
        self._shown = without_secret(url)
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=pool_overflow,
            pool_timeout=connect_timeout_s,
            # A server that was restarted meanwhile costs a reconnection, not an error.
            pool_pre_ping=True,
            pool_use_lifo=True,
        )

    async def read(self, work: Callable[[Connection], T]) -> T:
        async def run() -> T:
            async with self._engine.connect() as connection:
                await connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
                async with connection.begin():
                    return await connection.run_sync(work)

        return await self._guarded(run)

    async def write(self, work: Callable[[Connection], T]) -> T:
        async def run() -> T:
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

        return await self._guarded(run)

    async def upgrade(self) -> list[str]:
        if await self.read(revision) == migrations.HEAD:
            return []

        def apply(connection: Connection) -> list[str]:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            return upgrade(connection)

        return await self.write(apply)

    async def check(self) -> str:
        version = await self.read(lambda c: c.execute(text("SHOW server_version")).scalar_one())
        return f"PostgreSQL {version}, {self._shown}"

    async def close(self) -> None:
        await self._engine.dispose()

    async def _connect(self, *_args: Any, **_options: Any) -> asyncpg.Connection:
        milliseconds = str(round(self._statement_timeout_s * 1000))
        return await asyncpg.connect(
            self._url,
            timeout=self._connect_timeout_s,
            # For a server that is there but no longer answers; its own limit comes first.
            command_timeout=self._statement_timeout_s + self._connect_timeout_s,
            server_settings={
                "application_name": "mcp-hub",
                "statement_timeout": milliseconds,
                "lock_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                "timezone": "UTC",
            },
        )

    async def _guarded(self, run: Callable[[], Awaitable[T]]) -> T:
        """Run a transaction, again after a conflict; what the server lacks becomes Unavailable."""
        for attempt in range(_ATTEMPTS):
            try:
                return await run()
            except IntegrityError:
                raise
            except DBAPIError as error:
                code = _sqlstate(error)
                if code in _CONFLICTS and attempt < _ATTEMPTS - 1:
                    logger.debug("A transaction is run again: %s", code)
                    await anyio.sleep(0.01 * 2**attempt)
                    continue
                hint = _hint(code) or (_TRY_AGAIN if error.connection_invalidated else None)
                if hint is None:
                    raise
                raise self._unavailable(error.orig, hint) from error
            except asyncpg.PostgresError as error:
                hint = _hint(error.sqlstate or "")
                raise self._unavailable(error, hint or "Check database_url.") from error
            except (asyncpg.InterfaceError, OSError, TimeoutError, PoolTimeoutError) as error:
                raise self._unavailable(
                    error, "Check that the server runs and that database_url names it."
                ) from error
        raise AssertionError("the last attempt returns or raises")

    def _unavailable(self, error: BaseException | None, hint: str) -> Unavailable:
        # SQLAlchemy puts asyncpg's class before its words.
        reason = str(error).rpartition(">: ")[2] or type(error).__name__
        return Unavailable(f"The database {self._shown} is unavailable: {reason}.", hint)


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _hint(code: str) -> str | None:
    return _HINTS.get(code) or _HINTS.get(code[:2])

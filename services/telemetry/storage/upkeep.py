"""What goes on beside the questions: hours are sealed, and what is old is removed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import anyio
from sqlalchemy import Connection, func, select, text

from mcp_hub.adapters.database.port import Database, Dialect
from mcp_hub.adapters.database.telemetry_schema import telemetry_hours, telemetry_records
from mcp_hub.services.background import beside
from mcp_hub.services.leading import run_as_leader
from mcp_hub.services.telemetry.storage.retention import Retention
from mcp_hub.services.telemetry.storage.sealing import Sealing

logger = logging.getLogger(__name__)

LEASE = "telemetry upkeep"

_BEGIN_S = 5.0
"""A command that is over sooner has no part in it."""
_EVERY_S = 60.0
_MB = 1024 * 1024


class Upkeep:
    """Run in every hub process; one of them at a time does it."""

    def __init__(self, database: Database, sealing: Sealing, retention: Retention) -> None:
        self._database = database
        self._sealing = sealing
        self._retention = retention

    @asynccontextmanager
    async def running(self, *, begin_s: float = _BEGIN_S) -> AsyncIterator[None]:
        """Do it in the background while the context lasts."""
        async with beside(partial(self._run, begin_s)):
            yield

    async def check(self) -> str:
        """What is stored, how far sealing has come: for `hub_health`.

        Raises:
            Unavailable: the database does not answer.
        """
        stored = await self._database.read(partial(_stored, self._database.dialect))
        lag = await self._sealing.lag()
        if lag.since is None:
            return f"{stored}; no hour waits to be sealed"
        since = datetime.fromtimestamp(lag.since // 10**9, UTC).strftime("%Y-%m-%dT%H:%MZ")
        return f"{stored}; {lag.waiting:,} wait to be sealed, the oldest since {since}"

    async def _run(self, begin_s: float, _scope: anyio.CancelScope) -> None:
        await anyio.sleep(begin_s)
        await run_as_leader(self._database, LEASE, self._work)

    async def _work(self) -> None:
        while True:
            # Each ends by itself, and the next round tries it again.
            try:
                await self._sealing.seal_due()
            except Exception:
                logger.exception("Telemetry was not sealed")
            try:
                removed = await self._retention.remove_old()
                if removed:
                    logger.info("Removed %d old telemetry records", removed)
            except Exception:
                logger.exception("Old telemetry was not removed")
            await anyio.sleep(_EVERY_S)


def _stored(dialect: Dialect, connection: Connection) -> str:
    table = telemetry_hours.c
    hours, size = connection.execute(
        select(func.count(), func.coalesce(func.sum(table.bytes), 0)).where(
            table.sealed_version == table.version
        )
    ).one()
    sizes = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        "postgresql": "SELECT pg_database_size(current_database())",
    }
    whole = connection.execute(text(sizes[dialect])).scalar_one()
    oldest = connection.execute(select(func.min(telemetry_records.c.time))).scalar()
    since = "no records"
    if oldest is not None:
        since = f"records since {datetime.fromtimestamp(oldest // 10**9, UTC):%Y-%m-%dT%H:%MZ}"
    return (
        f"{since}; database {whole / _MB:,.1f} MB; "
        f"{hours:,} hours sealed in {float(size) / _MB:,.1f} MB"
    )

"""Work that one process among many does: whoever holds its lease, by the database's clock."""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

import anyio
from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import DBAPIError

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import leases
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.background import beside

logger = logging.getLogger(__name__)

LEASE_S = 30.0
"""A leader that was killed is followed so much later at the latest, and a third of it."""

_NOT_NOW = (Unavailable, DBAPIError)
"""No answer, or a schema that was taken back under a running process."""


@asynccontextmanager
async def lead(database: Database, name: str, *, lease_s: float = LEASE_S) -> AsyncIterator[None]:
    """Wait to be the one process that leads `name`, and be it while the body runs.

    The body is cancelled when the lease can no longer be renewed, before another process may
    begin; the context then ends as if the body had.
    """
    lease = _Lease(database, name, lease_s)
    await lease.wait()
    logger.debug("This process leads %s", name)
    try:
        async with beside(lease.keep):
            yield
    finally:
        with anyio.move_on_after(lease_s / 3, shield=True):
            await lease.release()


async def run_as_leader(
    database: Database, name: str, work: Callable[[], Awaitable[None]], *, lease_s: float = LEASE_S
) -> None:
    """Run `work` whenever this process leads `name`, until cancelled or `work` returns.

    `work` may be cancelled at any await, when the lease is lost, and is then run again once it is
    regained.
    """
    done = False
    while not done:
        async with lead(database, name, lease_s=lease_s):
            await work()
            done = True


class _Lease:
    """A row of `leases`, which expires unless its holder renews it."""

    def __init__(self, database: Database, name: str, lease_s: float) -> None:
        self._database = database
        self._name = name
        self._lease_s = lease_s
        self._holder = uuid4().hex
        self._until = -math.inf

    async def taken(self) -> bool:
        """Take the lease if it is free, or renew it; whether this process holds it now."""
        begin = monotonic()
        try:
            if self._until < begin and await self._database.read(self._is_anothers):
                return False
            held = await self._database.write(self._take, one_statement=True)
        except _NOT_NOW as error:
            logger.debug("The lease of %s: %s", self._name, error)
            return False
        if held:
            # Counted from before the call: what it took is not ours.
            self._until = begin + self._lease_s
        return held

    async def wait(self) -> None:
        """Return once this process holds the lease."""
        while True:
            if await self.taken():
                return
            await anyio.sleep(self._lease_s / 3)

    async def keep(self, scope: anyio.CancelScope) -> None:
        """Renew the lease; cancel `scope` once it is another's or may be."""
        while True:
            await anyio.sleep(self._lease_s / 3)
            with anyio.move_on_after(max(0.0, self._until - monotonic())):
                if await self.taken():
                    continue
            if monotonic() >= self._until or await self._is_lost():
                logger.warning("This process no longer leads %s", self._name)
                scope.cancel()
                return

    async def release(self) -> None:
        own = (leases.c.name == self._name, leases.c.holder == self._holder)
        try:
            await self._database.write(
                lambda c: c.execute(delete(leases).where(*own)), one_statement=True
            )
        except _NOT_NOW:
            logger.debug("The lease of %s is left to expire", self._name)

    async def _is_lost(self) -> bool:
        try:
            return await self._database.read(self._is_anothers)
        except _NOT_NOW:
            return False

    def _is_anothers(self, connection: Connection) -> bool:
        found = select(leases.c.holder).where(
            leases.c.name == self._name, leases.c.expires_at > now_ms()
        )
        holder = connection.execute(found).scalar()
        return holder is not None and holder != self._holder

    def _take(self, connection: Connection) -> bool:
        insert = insert_for(connection, leases).values(
            name=self._name, holder=self._holder, expires_at=now_ms() + round(self._lease_s * 1000)
        )
        mine = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
            where=(leases.c.holder == self._holder) | (leases.c.expires_at <= now_ms()),
        )
        return connection.execute(mine).rowcount == 1

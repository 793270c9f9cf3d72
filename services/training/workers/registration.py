"""A worker's row: what tells others that it is alive, and what it has."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from sqlalchemy import delete, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.liveness import this_host

logger = logging.getLogger(__name__)


class Registration:
    """A worker's place in the list of workers. Each method raises Unavailable."""

    def __init__(self, database: Database, worker_id: str, *, concurrency: int, gpus: int) -> None:
        self._database = database
        self._worker_id = worker_id
        self._concurrency = concurrency
        self._gpus = gpus

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Be in the list meanwhile."""
        await self.enter()
        logger.info("%s started: %s jobs at a time", self._worker_id, self._concurrency)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True), suppress(Unavailable):
                await self.leave()
            logger.info("%s ended", self._worker_id)

    async def enter(self) -> None:
        """Enter the list."""
        row = workers.insert().values(
            id=self._worker_id, host=this_host(), pid=os.getpid(), concurrency=self._concurrency,
            gpus=self._gpus or None, started_at=now_ms(), heartbeat_at=now_ms(),
        )  # fmt: skip
        await self._database.write(lambda c: c.execute(row).close())

    async def beat(self) -> None:
        """Say that the worker is alive."""
        alive = update(workers).where(workers.c.id == self._worker_id)
        statement = alive.values(heartbeat_at=now_ms())
        await self._database.write(lambda c: c.execute(statement).close(), one_statement=True)

    async def leave(self) -> None:
        """Leave the list."""
        gone = delete(workers).where(workers.c.id == self._worker_id)
        await self._database.write(lambda c: c.execute(gone).close())

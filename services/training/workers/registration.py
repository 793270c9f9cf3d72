"""A worker's row: what tells others that it is alive, and what it has."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
from sqlalchemy import Connection, delete

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.database.upsert import insert_for
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
        self._is_listed = False
        # A beat that was on its way must not enter again what has just left.
        self._changing = anyio.Lock()

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
        """Enter the list; where that fails, the next beat does."""
        self._is_listed = True
        await self.beat()

    async def beat(self) -> None:
        """Say that the worker is alive, also to those who took it for gone and forgot it."""
        async with self._changing:
            if self._is_listed:
                await self._database.write(self._write_beat, one_statement=True)

    async def leave(self) -> None:
        """Leave the list."""
        gone = delete(workers).where(workers.c.id == self._worker_id)
        async with self._changing:
            await self._database.write(lambda c: c.execute(gone).close())
            self._is_listed = False

    def _write_beat(self, connection: Connection) -> None:
        row = insert_for(connection, workers).values(
            id=self._worker_id, host=this_host(), pid=os.getpid(), concurrency=self._concurrency,
            gpus=self._gpus or None, started_at=now_ms(), heartbeat_at=now_ms(),
        )  # fmt: skip
        alive = row.on_conflict_do_update(index_elements=["id"], set_={"heartbeat_at": now_ms()})
        connection.execute(alive)

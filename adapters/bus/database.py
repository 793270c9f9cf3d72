"""The bus as a table of the database, polled while somebody listens."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from sqlalchemy import Connection, delete, func, insert, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import changes, now_ms
from mcp_hub.adapters.errors import Unavailable

logger = logging.getLogger(__name__)

_BUFFER = 1000
_BATCH = 1000
_KEPT_MS = 3_600_000
_PRUNE_EVERY_S = 600.0


class _Subscriber(NamedTuple):
    send: MemoryObjectSendStream[str]
    receive: MemoryObjectReceiveStream[str]


class DatabaseBus:
    """Notices as rows of `changes`; subscribers in the same process are told without them.

    What other processes publish is polled every `poll_s` seconds by one asyncio task. It belongs
    to the bus, not to a request: it lives from the first subscription to the end of the last.
    """

    def __init__(self, database: Database, poll_s: float = 0.2) -> None:
        self._database = database
        self._poll_s = poll_s
        self._origin = secrets.token_hex(8)
        self._subscribers: set[_Subscriber] = set()
        self._starting = anyio.Lock()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False
        self._prune_at = time.monotonic()

    async def publish(self, topic: str) -> None:
        self._deliver(topic)
        prune = time.monotonic() >= self._prune_at
        if prune:
            self._prune_at = time.monotonic() + _PRUNE_EVERY_S

        def record(connection: Connection) -> None:
            connection.execute(
                insert(changes).values(topic=topic, origin=self._origin, created_at=now_ms())
            )
            if prune:
                expired = changes.c.created_at < now_ms() - _KEPT_MS
                connection.execute(delete(changes).where(expired))

        try:
            await self._database.write(record)
        except Unavailable as error:
            logger.warning("Other processes were not told that %s changed: %s", topic, error)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[MemoryObjectReceiveStream[str]]:
        send, receive = anyio.create_memory_object_stream[str](_BUFFER)
        subscriber = _Subscriber(send, receive)
        with send, receive, receive.clone() as stream:
            try:
                if self._closed:
                    send.close()
                else:
                    self._subscribers.add(subscriber)
                    await self._start()
                yield stream
            finally:
                self._subscribers.discard(subscriber)
                if not self._subscribers:
                    await self._stop()

    async def close(self) -> None:
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.send.close()
        self._subscribers.clear()
        await self._stop()

    def _deliver(self, topic: str) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber.send.send_nowait(topic)
            except anyio.WouldBlock:
                subscriber.receive.receive_nowait()
                subscriber.send.send_nowait(topic)

    async def _start(self) -> None:
        async with self._starting:
            if self._poller is None:
                newest = select(func.coalesce(func.max(changes.c.id), 0))
                seen: int = await self._database.read(lambda c: c.execute(newest).scalar_one())
                if self._closed:
                    return
                self._poller = asyncio.create_task(self._poll(seen), name="mcp-hub bus")

    async def _stop(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([poller])

    async def _poll(self, seen: int) -> None:
        """Deliver what other processes published after the row `seen`, until cancelled."""
        answers = True
        while True:
            try:
                rows = await self._database.read(partial(_newer, seen))
            except Unavailable as error:
                if answers:
                    logger.warning("Notices of other processes are late: %s", error)
                answers, rows = False, []
            else:
                answers = True
            for id_, topic, origin in rows:
                seen = id_
                if origin != self._origin:
                    self._deliver(topic)
            if len(rows) < _BATCH:
                await asyncio.sleep(self._poll_s)


def _newer(seen: int, connection: Connection) -> list[tuple[int, str, str]]:
    query = (
        select(changes.c.id, changes.c.topic, changes.c.origin)
        .where(changes.c.id > seen)
        .order_by(changes.c.id)
        .limit(_BATCH)
    )
    return [(id_, topic, origin) for id_, topic, origin in connection.execute(query)]

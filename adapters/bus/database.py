"""The bus as a table of the database, polled while somebody listens."""

import asyncio
import logging
import time
from functools import partial

from sqlalchemy import Connection, delete, func, insert, select

from mcp_hub.adapters.bus.fan_out import FanOutBus, Listen
from mcp_hub.adapters.database.combining import CombinedWrites
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import changes
from mcp_hub.adapters.errors import Unavailable

logger = logging.getLogger(__name__)

_BATCH = 1000
_KEPT_MS = 3_600_000
_PRUNE_EVERY_S = 600.0
_APPEARS_WITHIN_S = 5.0


class DatabaseBus(FanOutBus):
    """Notices as rows of `changes`; what other processes publish is polled every `poll_s`."""

    def __init__(self, database: Database, poll_s: float = 0.2) -> None:
        super().__init__()
        self._database = database
        self._writes = CombinedWrites(database)
        self._poll_s = poll_s
        self._prune_at = time.monotonic()

    async def check(self) -> str:
        newest = select(func.max(changes.c.id))
        await self._database.read(lambda c: c.execute(newest).close(), one_statement=True)
        return "in the database"

    async def _send(self, topic: str) -> None:
        prune = time.monotonic() >= self._prune_at
        if prune:
            self._prune_at = time.monotonic() + _PRUNE_EVERY_S
            expired = delete(changes).where(changes.c.created_at < now_ms() - _KEPT_MS)
            await self._writes.run(lambda c: c.execute(expired).close())
        notice = insert(changes).values(topic=topic, origin=self._origin, created_at=now_ms())
        await self._writes.run(lambda c: c.execute(notice).close())

    async def _connect(self) -> Listen:
        newest = select(func.coalesce(func.max(changes.c.id), 0))
        seen: int = await self._database.read(
            lambda c: c.execute(newest).scalar_one(), one_statement=True
        )
        return partial(self._poll, seen)

    async def _poll(self, seen: int) -> None:
        """Deliver what other processes published after the row `seen`.

        Rows may appear out of the order of their numbers: a number that was passed over is looked
        for until whoever was given it must have committed, or will not.
        """
        answers = True
        passed_over: dict[int, float] = {}
        while True:
            try:
                work = partial(_newer, seen, list(passed_over))
                rows = await self._database.read(work, one_statement=True)
            except Unavailable as error:
                if answers:
                    logger.warning("Notices of other processes are late: %s", error)
                answers, rows = False, []
            else:
                answers = True
            now = time.monotonic()
            for id_, topic, origin in rows:
                between = range(max(seen + 1, id_ - _BATCH), id_)
                passed_over |= dict.fromkeys(between, now + _APPEARS_WITHIN_S)
                passed_over.pop(id_, None)
                seen = max(seen, id_)
                if origin != self._origin:
                    self._deliver(topic)
            passed_over = {id_: until for id_, until in passed_over.items() if until > now}
            if len(rows) < _BATCH:
                await asyncio.sleep(self._poll_s)


def _newer(seen: int, passed_over: list[int], connection: Connection) -> list[tuple[int, str, str]]:
    query = (
        select(changes.c.id, changes.c.topic, changes.c.origin)
        .where((changes.c.id > seen) | changes.c.id.in_(passed_over))
        .order_by(changes.c.id)
        .limit(_BATCH)
    )
    return [(id_, topic, origin) for id_, topic, origin in connection.execute(query)]

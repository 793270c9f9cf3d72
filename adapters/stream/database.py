"""The stream as tables of the database."""

from collections.abc import Sequence
from typing import Any

import anyio
from sqlalchemy import Connection, delete, func, insert, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import stream_entries, stream_groups, stream_pending, streams
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.adapters.stream.port import Entry, Lag

_LOOK_AGAIN_S = 0.1


class DatabaseStream:
    """The stream `name` in `database`.

    Numbers are given under the lock of the stream's own row, so that entries become visible in
    the order of their numbers and no reader passes one that is about to appear.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def append(self, bodies: Sequence[bytes]) -> list[str]:
        if not bodies:
            return []
        return await self._database.write(lambda c: self._append(c, bodies))

    async def create_group(self, group: str) -> None:
        def create(connection: Connection) -> None:
            values = {"stream": self._name, "name": group, "delivered": 0}
            statement = insert_for(connection, stream_groups).values(values)
            connection.execute(statement.on_conflict_do_nothing())

        await self._database.write(create)

    async def read(
        self, group: str, consumer: str, *, limit: int = 100, wait_s: float = 0
    ) -> list[Entry]:
        deadline = anyio.current_time() + wait_s
        while True:
            # Looking first keeps idle consumers from taking the write lock.
            if (await self.lag(group)).undelivered:
                entries = await self._database.write(
                    lambda c: self._deliver(c, group, consumer, limit)
                )
                if entries:
                    return entries
            left = deadline - anyio.current_time()
            if left <= 0:
                return []
            await anyio.sleep(min(left, _LOOK_AGAIN_S))

    async def ack(self, group: str, ids: Sequence[str]) -> int:
        statement = delete(stream_pending).where(
            *self._of(group), stream_pending.c.sequence.in_([int(id_) for id_ in ids])
        )
        return await self._database.write(lambda c: c.execute(statement).rowcount)

    async def claim_stale(
        self, group: str, consumer: str, *, idle_s: float, limit: int = 100
    ) -> list[Entry]:
        return await self._database.write(
            lambda c: self._take_over(c, group, consumer, round(idle_s * 1000), limit)
        )

    async def trim(self, keep: int) -> int:
        return await self._database.write(lambda c: self._trim(c, keep))

    async def lag(self, group: str) -> Lag:
        def look(connection: Connection) -> Lag:
            delivered = self._delivered(connection, group, lock=False)
            last = connection.scalar(
                select(streams.c.last_sequence).where(streams.c.name == self._name)
            )
            pending = connection.scalar(
                select(func.count()).select_from(stream_pending).where(*self._of(group))
            )
            return Lag(undelivered=(last or 0) - delivered, pending=pending or 0)

        return await self._database.read(look)

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    def _append(self, connection: Connection, bodies: Sequence[bytes]) -> list[str]:
        start = insert_for(connection, streams).values(name=self._name, last_sequence=0)
        connection.execute(start.on_conflict_do_nothing())
        last: int = connection.execute(
            update(streams)
            .where(streams.c.name == self._name)
            .values(last_sequence=streams.c.last_sequence + len(bodies))
            .returning(streams.c.last_sequence)
        ).scalar_one()
        first = last - len(bodies) + 1
        connection.execute(
            insert(stream_entries),
            [
                {"stream": self._name, "sequence": first + offset, "body": body}
                for offset, body in enumerate(bodies)
            ],
        )
        return [str(number) for number in range(first, last + 1)]

    def _deliver(
        self, connection: Connection, group: str, consumer: str, limit: int
    ) -> list[Entry]:
        delivered = self._delivered(connection, group, lock=True)
        rows = connection.execute(
            select(stream_entries.c.sequence, stream_entries.c.body)
            .where(stream_entries.c.stream == self._name, stream_entries.c.sequence > delivered)
            .order_by(stream_entries.c.sequence)
            .limit(limit)
        ).all()
        if not rows:
            return []
        connection.execute(
            update(stream_groups)
            .where(stream_groups.c.stream == self._name, stream_groups.c.name == group)
            .values(delivered=rows[-1].sequence)
        )
        now = connection.execute(select(now_ms())).scalar_one()
        pending = {
            "stream": self._name, "group": group, "consumer": consumer, "delivered_at": now,
            "delivery": 1,
        }  # fmt: skip
        connection.execute(
            insert(stream_pending), [{**pending, "sequence": row.sequence} for row in rows]
        )
        return [Entry(str(row.sequence), row.body, 1) for row in rows]

    def _take_over(
        self, connection: Connection, group: str, consumer: str, idle_ms: int, limit: int
    ) -> list[Entry]:
        self._delivered(connection, group, lock=True)
        stale = (
            select(stream_pending.c.sequence)
            .where(*self._of(group), stream_pending.c.delivered_at <= now_ms() - idle_ms)
            .order_by(stream_pending.c.sequence)
            .limit(limit)
        )
        taken = connection.execute(
            update(stream_pending)
            .where(*self._of(group), stream_pending.c.sequence.in_(stale))
            .values(
                consumer=consumer,
                delivered_at=now_ms(),
                delivery=stream_pending.c.delivery + 1,
            )
            .returning(stream_pending.c.sequence, stream_pending.c.delivery)
        ).all()
        deliveries = {row.sequence: row.delivery for row in taken}
        rows = connection.execute(
            select(stream_entries.c.sequence, stream_entries.c.body)
            .where(
                stream_entries.c.stream == self._name,
                stream_entries.c.sequence.in_(list(deliveries)),
            )
            .order_by(stream_entries.c.sequence)
        )
        return [Entry(str(row.sequence), row.body, deliveries[row.sequence]) for row in rows]

    def _trim(self, connection: Connection, keep: int) -> int:
        last = connection.scalar(
            select(streams.c.last_sequence).where(streams.c.name == self._name)
        )
        unfinished = connection.scalar(
            select(func.min(stream_pending.c.sequence)).where(stream_pending.c.stream == self._name)
        )
        undelivered = connection.scalar(
            select(func.min(stream_groups.c.delivered)).where(stream_groups.c.stream == self._name)
        )
        before = (last or 0) - keep + 1
        if unfinished is not None:
            before = min(before, unfinished)
        if undelivered is not None:
            before = min(before, undelivered + 1)
        return connection.execute(
            delete(stream_entries).where(
                stream_entries.c.stream == self._name, stream_entries.c.sequence < before
            )
        ).rowcount

    def _delivered(self, connection: Connection, group: str, *, lock: bool) -> int:
        """The number of the last entry that the group was given."""
        statement = select(stream_groups.c.delivered).where(
            stream_groups.c.stream == self._name, stream_groups.c.name == group
        )
        delivered: int | None = connection.scalar(
            statement.with_for_update() if lock else statement
        )
        if delivered is None:
            groups = select(stream_groups.c.name).where(stream_groups.c.stream == self._name)
            raise NotFound(
                f"The stream {self._name!r} has no group {group!r}.",
                names_hint(group, connection.execute(groups).scalars(), "groups"),
            )
        return delivered

    def _of(self, group: str) -> tuple[Any, ...]:
        return (stream_pending.c.stream == self._name, stream_pending.c.group == group)

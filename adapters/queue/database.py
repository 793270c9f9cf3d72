"""The queue as a table of the database, shared by every process that shares the database."""

import secrets

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Update,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import now_ms
from mcp_hub.adapters.database.schema import queue_messages as messages
from mcp_hub.adapters.queue.port import Claim


class DatabaseQueue:
    """The queue `name` in `database`; all times are by the database's clock.

    A waiting message has no token and is due at `due_at`; a claimed one has the token of its
    claim, and `due_at` is the end of its lease. So both are claimed by the same condition.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def enqueue(self, message_id: str, *, priority: int = 0, delay_s: float = 0) -> bool:
        message = insert(messages).values(
            queue=self._name,
            id=message_id,
            rank=-priority,
            due_at=_from_now(delay_s),
            delivery=0,
        )
        try:
            await self._database.write(lambda connection: connection.execute(message).close())
        except IntegrityError:
            return False
        return True

    async def claim(self, consumer: str, lease_s: float, limit: int = 1) -> list[Claim]:
        # An idle queue is polled by every worker: that must not take the write lock.
        something = select(exists().where(self._due()))
        if limit < 1 or not await self._database.read(lambda c: c.execute(something).scalar_one()):
            return []
        token = secrets.token_hex(8)
        due = (
            select(messages.c.sequence)
            .where(self._due())
            .order_by(messages.c.rank, messages.c.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .cte("due")
        )
        take = (
            update(messages)
            .where(messages.c.sequence.in_(select(due.c.sequence)))
            .values(
                token=token,
                consumer=consumer,
                delivery=messages.c.delivery + 1,
                due_at=_from_now(lease_s),
            )
            .returning(messages.c.rank, messages.c.sequence, messages.c.id, messages.c.delivery)
        )
        rows = await self._database.write(lambda connection: connection.execute(take).all())
        return [
            Claim(id_, token, delivery) for _, _, id_, delivery in sorted(tuple(r) for r in rows)
        ]

    async def heartbeat(self, claim: Claim, lease_s: float) -> bool:
        extend = update(messages).values(due_at=_from_now(lease_s))
        return await self._change(extend.where(self._held(claim)))

    async def ack(self, claim: Claim) -> bool:
        return await self._change(delete(messages).where(self._held(claim)))

    async def retry(self, claim: Claim, *, delay_s: float = 0) -> bool:
        release = update(messages).values(token=None, consumer=None, due_at=_from_now(delay_s))
        return await self._change(release.where(self._held(claim)))

    async def cancel(self, message_id: str) -> bool:
        return await self._change(
            delete(messages).where(messages.c.queue == self._name, messages.c.id == message_id)
        )

    async def depth(self) -> int:
        waiting = or_(messages.c.token.is_(None), messages.c.due_at <= now_ms())
        count = select(func.count()).where(messages.c.queue == self._name, waiting)
        return await self._database.read(lambda connection: connection.execute(count).scalar_one())

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    def _due(self) -> ColumnElement[bool]:
        return and_(messages.c.queue == self._name, messages.c.due_at <= now_ms())

    def _held(self, claim: Claim) -> ColumnElement[bool]:
        return and_(
            messages.c.queue == self._name,
            messages.c.id == claim.message_id,
            messages.c.token == claim.token,
            messages.c.due_at > now_ms(),
        )

    async def _change(self, statement: Update | Delete) -> bool:
        def change(connection: Connection) -> bool:
            return connection.execute(statement).rowcount == 1

        return await self._database.write(change)


def _from_now(seconds: float) -> ColumnElement[int]:
    return now_ms() + round(seconds * 1000)

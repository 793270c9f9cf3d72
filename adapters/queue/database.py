"""The queue as a table of the database, shared by every process that shares the database."""

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Insert,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningUpdate

from mcp_hub.adapters.database.combining import CombinedWrites
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database, Dialect
from mcp_hub.adapters.database.schema import queue_messages as messages
from mcp_hub.adapters.queue.port import AGEING_S, Claim

_FROM_NOW: ColumnElement[int] = now_ms() + bindparam("after_ms")
_IN_QUEUE = messages.c.queue == bindparam("in_queue")
_DUE = _IN_QUEUE & (messages.c.due_at <= now_ms())
_HELD = (
    _IN_QUEUE
    & (messages.c.id == bindparam("message_id"))
    & (messages.c.token == bindparam("held_token"))
    & (messages.c.due_at > now_ms())
)

_NEW = {
    "queue": bindparam("in_queue"),
    "id": bindparam("message_id"),
    "rank": _FROM_NOW - bindparam("advance_ms"),
    "due_at": _FROM_NOW,
    "delivery": 0,
    "payload": bindparam("new_payload", type_=messages.c.payload.type),
    "kind": bindparam("new_kind"),
}
_ENQUEUE: dict[Dialect, Insert] = {
    "sqlite": sqlite.insert(messages).values(_NEW).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(messages).values(_NEW).on_conflict_do_nothing(),
}


def _any_due(*conditions: ColumnElement[bool]) -> Select[bool]:
    return select(exists().where(_DUE, *conditions))


def _claim(*conditions: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """The statement that takes the next messages which are due and meet `conditions`."""
    next_ = (
        select(messages.c.sequence)
        .where(_DUE, *conditions)
        .order_by(messages.c.rank, messages.c.sequence)
        .limit(bindparam("at_most"))
        .with_for_update(skip_locked=True)
        .cte("next")
    )
    return (
        update(messages)
        .where(messages.c.sequence.in_(select(next_.c.sequence)))
        .values(
            due_at=_FROM_NOW,
            delivery=messages.c.delivery + 1,
            consumer=bindparam("new_consumer"),
            token=bindparam("new_token"),
        )
        .returning(
            messages.c.rank,
            messages.c.sequence,
            messages.c.id,
            messages.c.delivery,
            messages.c.payload,
        )
    )


_OTHER_KIND = messages.c.kind.not_in(bindparam("kinds", expanding=True))
_ANY_DUE, _ANY_DUE_OF_OTHERS = _any_due(), _any_due(_OTHER_KIND)
_CLAIM, _CLAIM_OF_OTHERS = _claim(), _claim(_OTHER_KIND)
_HEARTBEAT = update(messages).where(_HELD).values(due_at=_FROM_NOW)
_ACK = delete(messages).where(_HELD)
_RETRY = update(messages).where(_HELD).values(due_at=_FROM_NOW, consumer=None, token=None)
_CANCEL = delete(messages).where(_IN_QUEUE, messages.c.id == bindparam("message_id"))
_DEPTH = select(func.count()).where(
    _IN_QUEUE, or_(messages.c.token.is_(None), messages.c.due_at <= now_ms())
)

_ASKED = messages.alias("asked")
_POSITION = (
    select(
        select(func.count())
        .where(
            _DUE,
            tuple_(messages.c.rank, messages.c.sequence) < tuple_(_ASKED.c.rank, _ASKED.c.sequence),
        )
        .scalar_subquery()
    )
    .select_from(_ASKED)
    .where(
        _ASKED.c.queue == bindparam("in_queue"),
        _ASKED.c.id == bindparam("message_id"),
        _ASKED.c.due_at <= now_ms(),
    )
)


class DatabaseQueue:
    """The queue `name` in `database`; all times are by the database's clock.

    A waiting message has no token and is due at `due_at`. A claimed one has the token of its
    claim, and `due_at` is the end of its lease: so one condition finds both kinds of due message.
    """

    def __init__(self, database: Database, name: str, *, ageing_s: float = AGEING_S) -> None:
        self._database = database
        self._writes = CombinedWrites(database)
        self._name = name
        self._ageing_s = ageing_s
        self._may_have_more = False

    async def enqueue(
        self,
        message_id: str,
        *,
        priority: int = 0,
        delay_s: float = 0,
        kind: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> bool:
        return await self._change(
            _ENQUEUE[self._database.dialect],
            message_id=message_id,
            advance_ms=_ms(priority * self._ageing_s),
            after_ms=_ms(delay_s),
            new_kind=kind,
            new_payload=payload if payload is None else dict(payload),
        )

    async def claim(
        self, consumer: str, lease_s: float, limit: int = 1, *, passing_over: Collection[str] = ()
    ) -> list[Claim]:
        if limit < 1:
            return []
        # Every worker polls the queue, and while it is idle that must not take the write lock.
        kinds: dict[str, Any] = {"kinds": list(passing_over)} if passing_over else {}
        any_due = _ANY_DUE_OF_OTHERS if passing_over else _ANY_DUE
        if not self._may_have_more and not await self._look(any_due, **kinds):
            return []
        statement = _CLAIM_OF_OTHERS if passing_over else _CLAIM
        token = secrets.token_hex(8)
        parameters = kinds | {
            "in_queue": self._name,
            "at_most": limit,
            "after_ms": _ms(lease_s),
            "new_consumer": consumer,
            "new_token": token,
        }
        taken = await self._writes.run(lambda c: c.execute(statement, parameters).all())
        self._may_have_more = bool(taken)
        taken = sorted(taken, key=lambda row: (row.rank, row.sequence))
        return [Claim(row.id, token, row.delivery, row.payload) for row in taken]

    async def heartbeat(self, claim: Claim, lease_s: float) -> bool:
        return await self._change(_HEARTBEAT, **_proof(claim), after_ms=_ms(lease_s))

    async def ack(self, claim: Claim) -> bool:
        return await self._change(_ACK, **_proof(claim))

    async def retry(self, claim: Claim, *, delay_s: float = 0) -> bool:
        return await self._change(_RETRY, **_proof(claim), after_ms=_ms(delay_s))

    async def cancel(self, message_id: str) -> bool:
        return await self._change(_CANCEL, message_id=message_id)

    async def position(self, message_id: str) -> int | None:
        parameters = {"in_queue": self._name, "message_id": message_id}
        return await self._database.read(
            lambda c: c.execute(_POSITION, parameters).scalar(), one_statement=True
        )

    async def depth(self) -> int:
        return await self._look(_DEPTH)

    async def check(self) -> str:
        return f"in the database, {await self.depth()} waiting"

    async def close(self) -> None:
        """The database is closed by whoever opened it."""

    async def _look(self, query: Select[Any], **parameters: Any) -> int:
        parameters["in_queue"] = self._name
        return await self._database.read(
            lambda c: c.execute(query, parameters).scalar_one(), one_statement=True
        )

    async def _change(self, statement: Insert | Update | Delete, **parameters: Any) -> bool:
        """Whether `statement` changed a message."""
        parameters["in_queue"] = self._name
        return await self._writes.run(lambda c: c.execute(statement, parameters).rowcount == 1)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _proof(claim: Claim) -> dict[str, str]:
    return {"message_id": claim.message_id, "held_token": claim.token}

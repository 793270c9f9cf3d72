"""The queue on Redis in BullMQ's format, shared with Node producers and workers."""

import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgpack
from redis.commands.core import AsyncScript

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.adapters.queue import bullmq_scripts as scripts
from mcp_hub.adapters.queue.port import AGEING_S, Claim, MessageEvent, MessageEventKind

JOB_NAME = "mcp-hub"
"""The BullMQ name of the jobs that hubs add."""

_HIGHEST_PRIORITY = 100
_NEVER_FAIL = 2**31
_SEQUENCE_BITS = 20

_EVENT_KINDS: dict[str, MessageEventKind] = {
    "active": "taken",
    "completed": "completed",
    "failed": "failed",
    "stalled": "lost",
    "waiting": "returned",
    "delayed": "returned",
    "removed": "removed",
}


class BullQueue:
    """The BullMQ queue `name` on the Redis at `url`; all times are by Redis's clock.

    A message is a BullMQ job whose id is the message's. BullMQ's priorities count downwards from
    1, so a priority p of ours is 101 - p there, and priorities over 100 count as 100; jobs that
    other producers add without a priority come first, as everywhere in BullMQ. They are fixed when
    a job is added, so waiting counts where a hub claims: of the first of each priority it takes
    the one that is ahead by then. BullMQ's own workers go by the priority alone. A claim's token is
    the job's lock, its lease the lock's duration. Jobs that end are removed, and their result or
    reason is told by BullMQ's events. Jobs that Node workers lost are put back by BullMQ's check
    for stalled jobs, which runs within `claim`, in one hub at a time; it fails none for having
    stalled often. Pauses, global concurrency and global rate limits set on the queue are kept.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        prefix: str = "bull",
        stalled_check_s: float = 5.0,
        ageing_s: float = AGEING_S,
    ) -> None:
        self._url = url
        self._ageing_ms = _ms(ageing_s)
        self._stalled_check_s = stalled_check_s
        self._keys = scripts.Keys(prefix, name)
        self._redis = redis_client.connect(url)
        register = self._redis.register_script
        self._claim = register(scripts.CLAIM)
        self._keep = register(scripts.KEEP)
        self._give_back = register(scripts.GIVE_BACK)
        self._place = register(scripts.POSITION)
        self._count = register(scripts.COUNT)
        self._add = register(scripts.ADD)
        self._add_delayed = register(scripts.ADD_DELAYED)
        self._finish = register(scripts.FINISH)
        self._remove = register(scripts.REMOVE)
        self._recover = register(scripts.RECOVER)
        self._recover_at = time.monotonic()

    async def enqueue(
        self,
        message_id: str,
        *,
        priority: int = 0,
        delay_s: float = 0,
        kind: str = "",
        payload: Mapping[str, Any] | None = None,
    ) -> bool:
        if self._keys.is_reserved(message_id):
            raise InvalidArgument(f"A message cannot have the id {message_id!r}: BullMQ uses it.")
        delay = _ms(delay_s)
        options = {
            "priority": 1 + max(0, _HIGHEST_PRIORITY - priority),
            "delay": delay,
            "removeOnComplete": True,
            "removeOnFail": True,
        }
        job = [self._keys.base, message_id, JOB_NAME, 0]
        arguments = [msgpack.packb(job), _json(payload), msgpack.packb(options), kind]
        if delay > 0:
            keys = self._keys.of("marker", "meta", "id", "delayed", "completed", "events")
            script = self._add_delayed
        else:
            keys = self._keys.of(
                "marker", "meta", "id", "prioritized", "delayed", "completed", "active", "events",
                "pc",
            )  # fmt: skip
            script = self._add
        added = await self._run(script, [*keys, self._keys.job(message_id)], *arguments)
        return bool(added != 0)

    async def claim(
        self, consumer: str, lease_s: float, limit: int = 1, *, passing_over: Collection[str] = ()
    ) -> list[Claim]:
        if limit < 1:
            return []
        if time.monotonic() >= self._recover_at:
            self._recover_at = time.monotonic() + self._stalled_check_s
            await self._recover_stalled()
        token = secrets.token_hex(8)
        taken = await self._run_own(
            self._claim, token, _ms(lease_s), limit, consumer, self._ageing_ms, *passing_over
        )
        return [
            Claim(message_id.decode(), token, delivery, _payload(data))
            for message_id, delivery, data in zip(*[iter(taken)] * 3, strict=True)
        ]

    async def heartbeat(self, claim: Claim, lease_s: float) -> bool:
        held = await self._run_own(self._keep, claim.message_id, claim.token, _ms(lease_s))
        return bool(held)

    async def ack(self, claim: Claim) -> bool:
        return await self._end(claim, "completed", "returnvalue", "null")

    async def complete(self, claim: Claim, result: Mapping[str, Any]) -> bool:
        return await self._end(claim, "completed", "returnvalue", _json(result))

    async def fail(self, claim: Claim, reason: str) -> bool:
        return await self._end(claim, "failed", "failedReason", reason)

    async def retry(self, claim: Claim, *, delay_s: float = 0) -> bool:
        held = await self._run_own(self._give_back, claim.message_id, claim.token, _ms(delay_s))
        return bool(held)

    async def cancel(self, message_id: str) -> bool:
        keys = [self._keys.job(message_id), *self._keys.of("repeat"), self._keys.leases]
        return bool(await self._run(self._remove, keys, message_id, "0", self._keys.base))

    async def position(self, message_id: str) -> int | None:
        before: int | None = await self._run_own(self._place, message_id, self._ageing_ms)
        return before

    async def depth(self) -> int:
        waiting: int = await self._run_own(self._count)
        return waiting

    async def check(self) -> str:
        server = await redis_client.describe(self._redis, self._url)
        return f"BullMQ on {server}, {await self.depth()} waiting"

    async def events(self, after: int, limit: int = 1000) -> tuple[list[MessageEvent], int]:
        since = f"{after >> _SEQUENCE_BITS}-{after & (1 << _SEQUENCE_BITS) - 1}"
        with redis_client.translated(self._url):
            streams: Any = await self._redis.xread({self._keys.events: since}, count=limit)
        entries = streams[0][1] if streams else []
        events = [event for event in (_event(*entry) for entry in entries) if event is not None]
        events = [
            one
            for one, next_ in zip(events, [*events[1:], None], strict=False)
            if not _is_explained(one, next_)
        ]
        position = _position(entries[-1][0]) if entries else after
        return await self._with_takers(events), position

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        locks = [f"{self._keys.job(message_id)}:lock" for message_id in message_ids]
        if not locks:
            return set()
        with redis_client.translated(self._url):
            tokens = await self._redis.mget(locks)
        return {id_ for id_, token in zip(message_ids, tokens, strict=True) if token is not None}

    async def close(self) -> None:
        await self._redis.aclose()

    async def _with_takers(self, events: list[MessageEvent]) -> list[MessageEvent]:
        """The events with the names of those who took messages, where they can still be known."""
        taken = [event.message_id for event in events if event.kind == "taken"]
        if not taken:
            return events
        with redis_client.translated(self._url):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for message_id in taken:
                    pipeline.hget(self._keys.job(message_id), "pb")
                    pipeline.get(f"{self._keys.job(message_id)}:lock")
                answers = await pipeline.execute()
        names = (name or token for name, token in zip(answers[::2], answers[1::2], strict=True))
        return [
            replace(event, by=_text(next(names) or b"unknown")) if event.kind == "taken"
            else event
            for event in events
        ]  # fmt: skip

    async def _end(self, claim: Claim, state: str, field: str, value: str) -> bool:
        keys = [
            *self._keys.of(
                "wait", "active", "prioritized", "events", "stalled", "limiter", "delayed",
                "paused", "meta", "pc", state,
            ),
            self._keys.job(claim.message_id),
            f"{self._keys.base}metrics:{state}",
            *self._keys.of("marker"),
            self._keys.leases,
        ]  # fmt: skip
        options = {
            "token": claim.token, "keepJobs": {"count": 0}, "attempts": 1, "maxMetricsSize": "",
            "fpof": False, "cpof": False, "idof": False, "rdof": False,
        }  # fmt: skip
        ended = await self._run(
            self._finish, keys, claim.message_id, _now_ms(), field, value, state, "",
            self._keys.base, msgpack.packb(options), "",
        )  # fmt: skip
        return bool(ended == 0)

    async def _recover_stalled(self) -> None:
        keys = self._keys.of(
            "stalled", "wait", "active", "stalled-check", "meta", "paused", "marker", "events",
            "repeat",
        )  # fmt: skip
        await self._run(
            self._recover, keys, _NEVER_FAIL, self._keys.base, _now_ms(), _ms(self._stalled_check_s)
        )

    async def _run_own(self, script: AsyncScript, *arguments: str | int) -> Any:
        return await self._run(script, self._keys.own, self._keys.base, *arguments)

    async def _run(
        self, script: AsyncScript, keys: list[str], *arguments: str | int | bytes
    ) -> Any:
        with redis_client.translated(self._url):
            return await script(keys=keys, args=arguments)


def _event(entry: bytes, fields: Mapping[bytes, bytes]) -> MessageEvent | None:
    """The event that BullMQ wrote as `fields`; None for one that says nothing to a hub."""
    values = {_text(name): _text(value) for name, value in fields.items()}
    kind = _EVENT_KINDS.get(values["event"])
    if kind is None or scripts.BY_A_HUB in values:
        return None
    result = values.get("returnvalue")
    return MessageEvent(
        _position(entry),
        kind,
        values.get("jobId", ""),
        result=_parsed(result) if result else None,
        reason=values.get("failedReason", ""),
    )


def _is_explained(event: MessageEvent, following: MessageEvent | None) -> bool:
    """Whether the message was given back because it was lost, as BullMQ tells right after."""
    return (
        following is not None
        and (event.kind, following.kind) == ("returned", "lost")
        and event.message_id == following.message_id
    )


def _position(entry: bytes) -> int:
    """A stream entry's id, milliseconds and a number, as one number."""
    milliseconds, number = entry.split(b"-")
    return (int(milliseconds) << _SEQUENCE_BITS) + int(number)


def _text(written: bytes) -> str:
    """What another program wrote, without what a database cannot keep."""
    return written.decode(errors="replace").replace("\0", "\ufffd")


def _payload(data: bytes) -> Mapping[str, Any] | None:
    value = _parsed(data)
    return value if isinstance(value, dict) else None


def _parsed(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json(value: Mapping[str, Any] | None) -> str:
    plain = None if value is None else dict(value)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _now_ms() -> int:
    return round(time.time() * 1000)

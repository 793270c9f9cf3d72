"""The stream on Redis Streams: the server's own consumer groups."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.adapters.stream.port import Entry, Lag

_BODY = b"body"
# A blocking read must end before the client's own deadline for an answer.
_MAX_BLOCK_S = redis_client.ANSWER_TIMEOUT_S / 2


class RedisStream:
    """The stream at the key `{prefix}:stream:{name}`.

    What is acknowledged survives a crash of Redis as far as its `appendfsync` allows: with
    `always`, every entry whose `append` returned does; with `everysec`, all but the last second.
    """

    def __init__(self, url: str, name: str, prefix: str = "mcp-hub") -> None:
        self._url = url
        self._name = name
        self._key = f"{prefix}:stream:{name}"
        # The driver's types allow for text, which this client never asks for.
        self._redis: Any = redis_client.connect(url)

    async def append(self, bodies: Sequence[bytes]) -> list[str]:
        if not bodies:
            return []
        with redis_client.translated(self._url):
            async with self._redis.pipeline(transaction=True) as pipeline:
                for body in bodies:
                    pipeline.xadd(self._key, {_BODY: body})
                ids: list[bytes] = await pipeline.execute()
        return [id_.decode() for id_ in ids]

    async def create_group(self, group: str) -> None:
        with redis_client.translated(self._url):
            try:
                await self._redis.xgroup_create(self._key, group, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(
        self, group: str, consumer: str, *, limit: int = 100, wait_s: float = 0
    ) -> list[Entry]:
        block_ms = round(min(wait_s, _MAX_BLOCK_S) * 1000)
        answer = await self._ask(
            group,
            self._redis.xreadgroup(
                group, consumer, {self._key: ">"}, count=limit, block=block_ms or None
            ),
        )
        entries = [Entry(id_.decode(), fields[_BODY], 1) for id_, fields in _entries(answer)]
        if not entries and wait_s > _MAX_BLOCK_S:
            return await self.read(group, consumer, limit=limit, wait_s=wait_s - _MAX_BLOCK_S)
        return entries

    async def ack(self, group: str, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        with redis_client.translated(self._url):
            done: int = await self._redis.xack(self._key, group, *ids)
        return done

    async def claim_stale(
        self, group: str, consumer: str, *, idle_s: float, limit: int = 100
    ) -> list[Entry]:
        idle_ms = round(idle_s * 1000)
        answer = await self._ask(
            group,
            self._redis.xautoclaim(
                self._key, group, consumer, min_idle_time=idle_ms, start_id="0-0", count=limit
            ),
        )
        taken = {id_: fields for id_, fields in answer[1] if fields}
        if not taken:
            return []
        with redis_client.translated(self._url):
            pending = await self._redis.xpending_range(
                self._key, group, min=min(taken, key=_number), max=max(taken, key=_number),
                count=10_000, consumername=consumer,
            )  # fmt: skip
        deliveries = {row["message_id"]: row["times_delivered"] for row in pending}
        return [
            Entry(id_.decode(), fields[_BODY], deliveries.get(id_, 1))
            for id_, fields in taken.items()
        ]

    async def trim(self, keep: int) -> int:
        with redis_client.translated(self._url):
            if keep > 0:
                newest = await self._redis.xrevrange(self._key, count=keep)
                before = _number(newest[-1][0]) if len(newest) == keep else (0, 0)
            else:
                last = await self._redis.xrevrange(self._key, count=1)
                before = _after(_number(last[0][0])) if last else (0, 0)
            for group in await self._groups():
                before = min(before, _after(_number(group["last-delivered-id"])))
                pending = await self._redis.xpending(self._key, group["name"])
                if pending["pending"]:
                    before = min(before, _number(pending["min"]))
            removed: int = await self._redis.xtrim(
                self._key, minid=f"{before[0]}-{before[1]}", approximate=False
            )
        return removed

    async def lag(self, group: str) -> Lag:
        with redis_client.translated(self._url):
            groups = {found["name"].decode(): found for found in await self._groups()}
        if group not in groups:
            raise self._no_group(group, list(groups))
        found = groups[group]
        undelivered = found["lag"]
        if undelivered is None:
            # Redis cannot tell after entries were deleted from the middle: count them.
            after = f"({found['last-delivered-id'].decode()}"
            with redis_client.translated(self._url):
                undelivered = len(await self._redis.xrange(self._key, min=after))
        return Lag(undelivered=undelivered, pending=found["pending"])

    async def close(self) -> None:
        await self._redis.aclose()

    async def _groups(self) -> list[dict[str, Any]]:
        try:
            groups: list[dict[str, Any]] = await self._redis.xinfo_groups(self._key)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return []
        return groups

    async def _ask(self, group: str, question: Any) -> Any:
        with redis_client.translated(self._url):
            try:
                return await question
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                names = [found["name"].decode() for found in await self._groups()]
                raise self._no_group(group, names) from error

    def _no_group(self, group: str, existing: list[str]) -> NotFound:
        return NotFound(
            f"The stream {self._name!r} has no group {group!r}.",
            names_hint(group, existing, "groups"),
        )


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of a reply about one stream, in either version of the protocol."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch]
    return list(answer[0][1])


def _number(id_: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = id_.decode().partition("-")
    return int(milliseconds), int(sequence)


def _after(number: tuple[int, int]) -> tuple[int, int]:
    return number[0], number[1] + 1

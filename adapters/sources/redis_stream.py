"""The streams of a Redis as tables: an entry is a row."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from mcp_hub.adapters import redis_client
from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.adapters.sources.port import Batch, Cell, Query, Row, Untyped
from mcp_hub.adapters.sources.querying import Pace, check_parts

ID, TIME = "_id", "_time"
"""The columns of an entry's id, and of the time in it."""

_TAKEN = ("since", "until", "fields", "limit")
_MAX_ITEMS = 1_000
_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, as all cells
_LAST_MS = 253_402_300_799_999


class RedisStreamSource:
    """Reads a stream's entries in the order of their ids, up to the last one at the beginning.

    A row has the entry's `_id`, its `_time`, and its fields, whose values are texts without a
    type; what is not UTF-8 stays bytes. The user needs +scan, +type, +xrange, +xrevrange, +info.
    """

    def __init__(self, url: str, setting: str) -> None:
        """`setting` is what to name where `url` is wrong."""
        self._url = url
        self._setting = setting
        self._redis = redis_client.connect(url)

    async def rows(self, item: str, query: Query) -> AsyncGenerator[list[Row], None]:
        async with aclosing(self.rows_after(item, query, None)) as batches:
            async for batch in batches:
                yield batch.rows

    async def rows_after(
        self, item: str, query: Query, cursor: str | None
    ) -> AsyncGenerator[Batch, None]:
        check_parts(query, _TAKEN, "a Redis stream")
        first = f"({cursor}" if cursor else _bound(query.since, "since") or "-"
        until = _bound(query.until, "until")
        newest = await self._last_id(item)
        last = until or newest
        pace = Pace()
        left = query.limit
        while left != 0 and last is not None:
            wanted = pace.rows if left is None else min(left, pace.rows)
            with redis_client.translated(self._url, self._setting):
                # The driver's types leave open how it decodes; it does not.
                entries: Any = await self._redis.xrange(item, first, last, count=wanted)
            if not entries:
                return
            rows = [_row(id.decode(), fields) for id, fields in entries]
            pace.measure(rows)
            left = None if left is None else left - len(rows)
            cursor = entries[-1][0].decode()
            first = f"({cursor}"
            yield Batch([_chosen(row, query) for row in rows], cursor)

    async def items(self) -> list[str]:
        names: set[str] = set()
        with redis_client.translated(self._url, self._setting):
            async for key in self._redis.scan_iter(count=1_000, _type="stream"):
                names.add(key.decode("utf-8", "replace"))
                if len(names) == _MAX_ITEMS:
                    break
        return sorted(names)

    async def check(self) -> str:
        return await redis_client.describe(self._redis, self._url, self._setting)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _check_stream(self, item: str) -> None:
        with redis_client.translated(self._url, self._setting):
            kind: Any = await self._redis.type(item)
            kind = kind.decode()
        if kind == "none":
            raise NotFound(
                f"There is no stream {item!r}.", names_hint(item, await self.items(), "streams")
            )
        if kind != "stream":
            raise InvalidArgument(
                f"The key {item!r} holds a {kind}, not a stream.",
                names_hint(item, await self.items(), "streams"),
            )

    async def _last_id(self, item: str) -> str | None:
        await self._check_stream(item)
        with redis_client.translated(self._url, self._setting):
            newest: Any = await self._redis.xrevrange(item, count=1)
        return newest[0][0].decode() if newest else None


def _row(id: str, fields: dict[bytes, bytes]) -> Row:
    milliseconds = min(int(id.partition("-")[0]), _LAST_MS)
    row: Row = {ID: id, TIME: _EPOCH + timedelta(milliseconds=milliseconds)}
    return row | {name.decode("utf-8", "replace"): _cell(value) for name, value in fields.items()}


def _cell(value: bytes) -> Cell:
    try:
        return Untyped(value.decode())
    except UnicodeDecodeError:
        return value


def _chosen(row: Row, query: Query) -> Row:
    if query.fields is None:
        return row
    return {name: row[name] for name in query.fields if name in row}


def _bound(said: str | None, part: str) -> str | None:
    """An id, or a time as the id that Redis would have given then."""
    if said is None or _ID.fullmatch(said):
        return said
    try:
        time: Any = datetime.fromisoformat(said)
    except ValueError:
        raise InvalidArgument(
            f"query.{part} is {said[:80]!r}, neither a time nor an entry's id.",
            "Write an ISO 8601 time, such as 2026-01-31T12:00:00Z, or an id such as "
            "1700000000000-0.",
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return str(max(0, round(time.timestamp() * 1000)))

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.adapters.sources.port import DataSource, Query, Untyped
from mcp_hub.adapters.sources.redis_stream import RedisStreamSource
from tests.adapters.sources.contract import (
    DataSourceContract,
    Fill,
    GrowingSourceContract,
    read,
)
from tests.proxy import Proxy
from tests.servers import Server

SETTING = "data.sources.events.url"


@pytest.fixture
def url(redis_server: Server) -> str:
    return redis_server.url.replace("/0", "/15")


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
        yield redis
        await redis.flushdb()


@pytest.fixture
async def source(url: str, redis: Redis) -> AsyncIterator[RedisStreamSource]:
    source = RedisStreamSource(url, SETTING)
    yield source
    await source.close()


@pytest.fixture
def fill(redis: Redis) -> Fill:
    async def fill(item: str, rows: list[dict[str, Any]]) -> None:
        if not rows:
            await redis.xdel(item, await redis.xadd(item, {"n": 1}))
        for row in rows:
            await redis.xadd(item, _stored(row))

    return fill


def _stored(row: dict[str, Any]) -> dict[Any, Any]:
    texts = {name: value.isoformat() if isinstance(value, datetime) else str(value)
             for name, value in row.items() if value is not None}  # fmt: skip
    return {
        name: text.lower() if row[name] in (True, False) else text for name, text in texts.items()
    }


class TestRedisStreamSource(DataSourceContract, GrowingSourceContract):
    @pytest.fixture
    def source(self, source: RedisStreamSource) -> DataSource:  # type: ignore[override]
        return source

    @pytest.fixture
    def fill(self, fill: Fill) -> Fill:  # type: ignore[override]
        return fill

    @staticmethod
    def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Redis has texts alone, and what is missing is not there."""
        return [_stored(row) for row in rows]


async def test_an_entry_has_its_id_and_time(source: RedisStreamSource, redis: Redis) -> None:
    await redis.xadd("clicks", {"page": "/é", b"raw": b"\xff"}, id="1700000000123-4")
    (row,) = await read(source, "clicks")
    assert row == {
        "_id": "1700000000123-4",
        "_time": datetime(2023, 11, 14, 22, 13, 20, 123_000),  # noqa: DTZ001 - in UTC
        "page": "/é",
        "raw": b"\xff",
    }
    assert type(row["page"]) is Untyped


async def test_a_range_of_time_or_ids(source: RedisStreamSource, redis: Redis) -> None:
    for second in range(10):
        await redis.xadd("clicks", {"n": second}, id=f"{1_700_000_000 + second}000-0")
    for query, expected in (
        (Query(since="2023-11-14T22:13:25Z"), [5, 6, 7, 8, 9]),
        (Query(until="2023-11-14T22:13:22"), [0, 1, 2]),
        (Query(since="2023-11-15T00:13:23+02:00", until="1700000004000-0"), [3, 4]),
        (Query(since="1700000008000", limit=1), [8]),
        (Query(since="2030-01-01"), []),
    ):
        rows = await read(source, "clicks", query)
        assert [int(str(row["n"])) for row in rows] == expected


async def test_what_is_added_meanwhile_is_left_out(source: RedisStreamSource, redis: Redis) -> None:
    for number in range(40):
        await redis.xadd("clicks", {"n": number})
    rows = []
    async for batch in source.rows("clicks", Query()):
        rows += batch
        await redis.xadd("clicks", {"n": "more"})
    assert len(rows) == 40


async def test_what_is_wrong_is_said(source: RedisStreamSource, redis: Redis) -> None:
    await redis.set("name", "x")
    with pytest.raises(InvalidArgument, match="holds a string, not a stream"):
        await read(source, "name")
    await redis.xadd("clicks", {"n": 1})
    with pytest.raises(InvalidArgument, match="neither a time nor"):
        await read(source, "clicks", Query(since="yesterday"))
    with pytest.raises(InvalidArgument, match=r"query\.sql is not for a Redis stream"):
        await read(source, "clicks", Query(sql="SELECT 1"))


async def test_what_refuses_is_unavailable(url: str) -> None:
    source = RedisStreamSource(url.replace("//", "//nobody:do-not-show@"), SETTING)
    with pytest.raises(Unavailable) as raised:
        await source.check()
    assert "do-not-show" not in f"{raised.value.message} {raised.value.hint}"
    assert SETTING in (raised.value.hint or "")
    await source.close()


async def test_a_connection_that_breaks_is_unavailable(
    url: str, fill: Fill, redis_server: Server
) -> None:
    await fill("large", [{"text": "x" * 1_000_000} for _ in range(20)])
    async with Proxy(redis_server.port).running() as proxy:
        source = RedisStreamSource(
            url.replace(f":{redis_server.port}/", f":{proxy.port}/"), SETTING
        )
        assert await source.items() == ["large"]
        proxy.reset()
        proxy.cut_receiving = 3_000_000
        with pytest.raises(Unavailable, match="Redis at"):
            await read(source, "large")
        await source.close()

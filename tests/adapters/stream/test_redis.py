from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.stream.redis import RedisStream
from tests import servers
from tests.adapters.stream.contract import OpenStream, StreamContract
from tests.servers import Server


@asynccontextmanager
async def open_on_redis(url: str, prefix: str) -> AsyncIterator[RedisStream]:
    stream = RedisStream(url, "events", prefix)
    yield stream
    await stream.close()


class TestRedisStream(StreamContract):
    @pytest.fixture
    def open_stream(self, redis_server: Server) -> OpenStream:
        return partial(open_on_redis, redis_server.url, new_id("test"))


async def test_nothing_acknowledged_is_lost_when_redis_is_killed(tmp_path: Path) -> None:
    server = servers.start_redis(tmp_path / "redis")
    try:
        async with open_on_redis(server.url, "p") as stream:
            await stream.create_group("g")
            ids = await stream.append([str(number).encode() for number in range(100)])
            given = await stream.read("g", "c", limit=40)
            await stream.ack("g", ids[:20])
            await anyio.to_thread.run_sync(server.restart)
            rest = await stream.read("g", "c", limit=100)
            taken = await stream.claim_stale("g", "d", idle_s=0)
        assert [entry.id for entry in given + rest] == ids
        assert [entry.id for entry in taken] == ids[20:]
    finally:
        server.stop()


async def test_a_full_redis_takes_nothing_and_gives_all_it_has(tmp_path: Path) -> None:
    server = servers.start_redis(tmp_path / "redis")
    try:
        async with open_on_redis(server.url, "p") as stream:
            await stream.create_group("g")
            kept: list[str] = []

            async def fill() -> None:
                while True:
                    kept.extend(await stream.append([b"x" * 500_000]))

            await stream._redis.config_set("maxmemory", "4mb")
            with pytest.raises(Unavailable, match="maxmemory") as full:
                await fill()
            assert "full" in (full.value.hint or "")
            assert kept
            given = await stream.read("g", "c", limit=100)
            assert [entry.id for entry in given] == kept
            await stream.ack("g", kept)
    finally:
        server.stop()

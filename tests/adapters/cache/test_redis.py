from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.cache.redis import RedisCache
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id
from tests import servers
from tests.adapters.cache.contract import CacheContract
from tests.servers import Server


class TestRedisCache(CacheContract):
    @pytest.fixture
    async def cache(self, redis_server: Server) -> AsyncIterator[RedisCache]:
        cache = RedisCache(redis_server.url, new_id("test"))
        yield cache
        await cache.close()


async def test_hubs_share_values_and_locks(redis_server: Server) -> None:
    prefix = new_id("test")
    one, other = RedisCache(redis_server.url, prefix), RedisCache(redis_server.url, prefix)
    await one.set("k", b"v", ttl_s=60)
    assert await other.get("k") == b"v"
    async with one.lock("a", ttl_s=5) as mine, other.lock("a", ttl_s=5) as refused:
        assert mine is not None
        assert refused is None
    await one.close()
    await other.close()


async def test_a_lock_that_redis_forgot_is_known_to_be_lost(redis_server: Server) -> None:
    prefix = new_id("test")
    one, other = RedisCache(redis_server.url, prefix), RedisCache(redis_server.url, prefix)
    async with one.lock("a", ttl_s=0.3) as mine:
        assert mine is not None
        await one._redis.delete(one._lock_key("a"))
        async with other.lock("a", ttl_s=5) as theirs:
            assert theirs is not None
            assert theirs.fence > mine.fence
            with anyio.fail_after(10):
                while mine.held:
                    await anyio.lowlevel.checkpoint()
        # Leaving does not free a lock that is another's by now.
    await one.close()
    await other.close()


async def test_is_back_after_a_restart_and_says_why_without_a_server(tmp_path: Path) -> None:
    server = servers.start_redis(tmp_path / "redis")
    cache = RedisCache(server.url)
    try:
        await cache.set("k", b"v", ttl_s=60)
        await anyio.to_thread.run_sync(server.restart)
        assert await cache.get("k") == b"v"
        assert "Redis" in await cache.check()
        await anyio.to_thread.run_sync(server.stop)
        with pytest.raises(Unavailable, match="Redis at redis://") as raised:
            await cache.get("k")
        assert "redis_url" in (raised.value.hint or "")
    finally:
        await cache.close()
        server.stop()


async def test_a_full_redis_says_so(tmp_path: Path) -> None:
    server = servers.start_redis(tmp_path / "redis")
    cache = RedisCache(server.url)
    try:
        await cache._redis.config_set("maxmemory", "3mb")
        values = {str(number): b"x" * 1_000_000 for number in range(20)}
        with pytest.raises(Unavailable) as raised:
            await _set_all(cache, values)
        assert "maxmemory" in f"{raised.value.message} {raised.value.hint}"
    finally:
        await cache.close()
        server.stop()


async def _set_all(cache: RedisCache, values: dict[str, bytes]) -> None:
    for key, value in values.items():
        await cache.set(key, value, ttl_s=60)

import pytest

from mcp_hub.adapters.cache.memory import MemoryCache
from tests.adapters.cache.contract import CacheContract


class TestMemoryCache(CacheContract):
    @pytest.fixture
    def cache(self) -> MemoryCache:
        return MemoryCache()


async def test_the_least_recently_used_give_way() -> None:
    cache = MemoryCache(max_bytes=30)
    for key in "abc":
        await cache.set(key, b"x" * 10, ttl_s=60)
    await cache.get("a")
    await cache.set("d", b"x" * 10, ttl_s=60)
    kept = [key for key in "abcd" if await cache.get(key) is not None]
    assert kept == ["a", "c", "d"]
    await cache.set("too large", b"x" * 31, ttl_s=60)
    assert await cache.get("too large") is None
    assert await cache.get("a") is not None

"""What every cache promises. An implementation's test class gives `cache`."""

import anyio
import pytest

from mcp_hub.adapters.cache.port import Cache
from tests.waiting import eventually


class CacheContract:
    @pytest.fixture
    async def cache(self) -> Cache:
        """An empty cache."""
        raise NotImplementedError

    @pytest.mark.parametrize("value", [b"", b"\0\xff", "ü🚀".encode(), b"x" * 5_000_000])
    async def test_gives_back_what_was_set(self, cache: Cache, value: bytes) -> None:
        await cache.set("key ü:{}*", value, ttl_s=60)
        assert await cache.get("key ü:{}*") == value

    async def test_a_miss_is_none(self, cache: Cache) -> None:
        assert await cache.get("nothing") is None
        await cache.delete("nothing")

    async def test_the_last_value_counts(self, cache: Cache) -> None:
        await cache.set("k", b"1", ttl_s=60)
        await cache.set("k", b"2", ttl_s=60)
        assert await cache.get("k") == b"2"
        await cache.delete("k")
        assert await cache.get("k") is None

    async def test_a_value_ends_in_time(self, cache: Cache) -> None:
        await cache.set("short", b"1", ttl_s=0.05)
        await cache.set("long", b"2", ttl_s=60)

        async def gone() -> bool:
            return await cache.get("short") is None

        await eventually(gone)
        assert await cache.get("long") == b"2"
        await cache.set("long", b"3", ttl_s=0)
        assert await cache.get("long") is None

    async def test_one_holds_a_lock_at_a_time(self, cache: Cache) -> None:
        inside, most, entered = 0, 0, 0

        async def enter() -> None:
            nonlocal inside, most, entered
            async with cache.lock("one", ttl_s=5, wait_s=30) as lock:
                assert lock is not None
                inside += 1
                entered += 1
                most = max(most, inside)
                await anyio.lowlevel.checkpoint()
                inside -= 1

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(enter)
        assert (most, entered) == (1, 8)

    async def test_a_held_lock_is_refused_and_others_are_not(self, cache: Cache) -> None:
        async with cache.lock("a", ttl_s=5) as mine:
            assert mine is not None
            async with cache.lock("a", ttl_s=5) as refused:
                assert refused is None
            async with cache.lock("b", ttl_s=5) as free:
                assert free is not None
        async with cache.lock("a", ttl_s=5) as again:
            assert again is not None
            assert again.fence > mine.fence

    async def test_a_lock_is_renewed_while_it_is_held(self, cache: Cache) -> None:
        async with cache.lock("a", ttl_s=0.3) as mine:
            assert mine is not None
            # Longer than its time to live: nobody gets it all the while.
            async with cache.lock("a", ttl_s=0.3, wait_s=1.0) as refused:
                assert refused is None
            assert mine.held

    async def test_an_error_inside_frees_the_lock(self, cache: Cache) -> None:
        with pytest.raises(KeyError, match="mine"):
            async with cache.lock("a", ttl_s=60):
                raise KeyError("mine")
        async with cache.lock("a", ttl_s=60) as free:
            assert free is not None

import gc

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.services.inference.sessions import SessionCache, estimated_bytes


class Loader:
    """Gives a fresh object a call, and counts; it waits for `gate` where there is one."""

    def __init__(self, gate: anyio.Event | None = None) -> None:
        self.calls = 0
        self.gate = gate

    async def __call__(self) -> object:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        return object()


async def test_what_was_used_least_recently_goes() -> None:
    cache: SessionCache[object] = SessionCache(30)
    load = Loader()
    first = await cache.get("a", 10, load)
    for key in "bc":
        await cache.get(key, 10, load)
    assert await cache.get("a", 10, load) is first
    await cache.get("d", 10, load)
    assert (cache.stats.held, cache.stats.bytes) == (3, 30)
    assert (cache.stats.loaded, cache.stats.evicted) == (4, 1)
    assert await cache.get("a", 10, load) is first
    await cache.get("b", 10, load)
    assert load.calls == 5


async def test_one_that_passes_the_budget_is_kept_alone() -> None:
    cache: SessionCache[object] = SessionCache(30)
    load = Loader()
    await cache.get("a", 10, load)
    large = await cache.get("large", 100, load)
    assert await cache.get("large", 100, load) is large
    assert (cache.stats.held, cache.stats.bytes) == (1, 100)
    await cache.get("a", 10, load)
    assert (cache.stats.held, cache.stats.bytes) == (1, 10)


async def test_twenty_at_once_load_once() -> None:
    cache: SessionCache[object] = SessionCache(30)
    gate = anyio.Event()
    load = Loader(gate)
    got: list[object] = []

    async def ask() -> None:
        got.append(await cache.get("a", 10, load))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            gate.set()
    assert load.calls == cache.stats.loaded == 1
    assert len(got) == 20
    assert len(set(map(id, got))) == 1


async def test_others_do_not_wait_for_one_that_loads() -> None:
    cache: SessionCache[object] = SessionCache(30)
    gate = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cache.get, "slow", 10, Loader(gate))
            await anyio.wait_all_tasks_blocked()
            await cache.get("quick", 10, Loader())
            gate.set()


async def test_whoever_waits_goes_on_where_the_loader_was_cancelled() -> None:
    cache: SessionCache[object] = SessionCache(30)
    never, load = Loader(anyio.Event()), Loader()
    cancelled = anyio.CancelScope()

    async def give_up() -> None:
        with cancelled:
            await cache.get("a", 10, never)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(cache.get, "a", 10, load)
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel()
    assert (never.calls, load.calls, cache.stats.loaded) == (1, 1, 1)


async def test_what_failed_to_load_is_tried_again() -> None:
    cache: SessionCache[object] = SessionCache(30)

    async def fail() -> object:
        raise KeyError

    with pytest.raises(KeyError):
        await cache.get("a", 10, fail)
    assert (cache.stats.held, cache.stats.bytes, cache.stats.loaded) == (0, 0, 0)
    await cache.get("a", 10, Loader())
    gc.collect()
    assert not cache._loading


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 40))))
def test_the_budget_holds(uses: list[tuple[str, int]]) -> None:
    cache: SessionCache[object] = SessionCache(100)
    sizes: dict[str, int] = {}

    async def use() -> None:
        for key, size in uses:
            await cache.get(key, sizes.setdefault(key, size), Loader())
            assert cache.stats.bytes <= 100
            assert cache.stats.bytes == sum(sizes[held] for held in cache._sessions)
            assert cache.stats.held == len(cache._sessions)
            assert cache.stats.loaded - cache.stats.evicted == cache.stats.held

    anyio.run(use)


def test_larger_files_count_more() -> None:
    assert 0 < estimated_bytes(0) < estimated_bytes(1_000_000)
    assert estimated_bytes(1_000_000) > 4_000_000

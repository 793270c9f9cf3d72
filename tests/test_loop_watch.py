import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from .loop_watch import LoopWatch


@pytest.fixture
def watch() -> Iterator[LoopWatch]:
    with LoopWatch(Path(__file__).parent, limit_s=0.1).running() as watch:
        yield watch


def _spend_cpu(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def _until_seen(watch: LoopWatch, block: Callable[[float], None]) -> str:
    give_up = time.monotonic() + 10
    while not watch.blocked and time.monotonic() < give_up:
        block(0.3)
    [blocked] = watch.blocked
    return blocked


async def test_sees_a_coroutine_that_sleeps(watch: LoopWatch) -> None:
    blocked = _until_seen(watch, time.sleep)
    assert "test_sees_a_coroutine_that_sleeps" in blocked


async def test_sees_a_coroutine_that_computes(watch: LoopWatch) -> None:
    blocked = _until_seen(watch, _spend_cpu)
    assert blocked.splitlines()[-1].endswith("_spend_cpu")


async def test_lets_a_coroutine_wait_and_compute_in_turns(watch: LoopWatch) -> None:
    for _ in range(10):
        _spend_cpu(0.03)
        await anyio.lowlevel.checkpoint()
    with anyio.move_on_after(0.2):
        await anyio.sleep_forever()
    assert watch.blocked == []


async def test_lets_garbage_be_collected(watch: LoopWatch) -> None:
    garbage = [[] for _ in range(5_000_000)]  # type: ignore[var-annotated]
    watch.blocked.clear()
    await anyio.lowlevel.checkpoint()
    before = time.thread_time()
    gc.collect()
    assert time.thread_time() - before > 0.1
    await anyio.lowlevel.checkpoint()
    assert watch.blocked == []
    assert garbage


async def test_lets_threads_take_their_time(watch: LoopWatch) -> None:
    await anyio.to_thread.run_sync(_spend_cpu, 0.3)
    assert watch.blocked == []


async def test_blames_only_the_folders_it_is_given() -> None:
    with LoopWatch(Path("/nowhere"), limit_s=0.1).running() as watch:
        _spend_cpu(0.3)
    assert watch.blocked == []


def test_lets_plain_functions_block(watch: LoopWatch) -> None:
    time.sleep(0.2)
    assert watch.blocked == []

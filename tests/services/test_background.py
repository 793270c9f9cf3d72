"""What runs beside a context, and how both end."""

import anyio
import pytest
from anyio.abc import TaskGroup

from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.background import Cut, first, in_background, uncut


async def test_it_runs_while_the_context_lasts() -> None:
    started, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with in_background(work):
        await started.wait()
        assert not ended.is_set()
    assert ended.is_set()


async def test_what_the_body_raises_is_raised_as_it_is() -> None:
    with pytest.raises(Conflict, match="taken"):
        async with in_background(anyio.sleep_forever):
            raise Conflict("taken")


async def test_a_cancelled_context_ends() -> None:
    with anyio.move_on_after(0.05) as scope:
        async with in_background(anyio.sleep_forever):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_the_first_that_returns_ends_the_others() -> None:
    ended = anyio.Event()

    async def never() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return "never"

    async def now() -> str:
        return "now"

    assert await first(never, now) == "now"
    assert ended.is_set()


async def test_uncut_work_outlives_a_caller_that_leaves() -> None:
    begun, proceed, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def work() -> None:
        begun.set()
        await proceed.wait()
        done.set()

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as callers:
            callers.start_soon(uncut, tasks, work)
            await begun.wait()
            callers.cancel_scope.cancel()
        proceed.set()
    assert done.is_set()


async def test_uncut_work_returns_or_raises_as_if_it_were_called() -> None:
    async def right() -> int:
        return 1

    async def wrong() -> int:
        raise Conflict("taken")

    async with anyio.create_task_group() as tasks:
        assert await uncut(tasks, right) == 1
        with pytest.raises(Conflict, match="taken"):
            await uncut(tasks, wrong)


async def test_uncut_work_tells_that_it_was_cut() -> None:
    begun = anyio.Event()

    async def work() -> None:
        begun.set()
        await anyio.sleep_forever()

    async def call(tasks: TaskGroup) -> None:
        with pytest.raises(Cut):
            await uncut(tasks, work)

    async with anyio.create_task_group() as callers, anyio.create_task_group() as tasks:
        callers.start_soon(call, tasks)
        await begun.wait()
        tasks.cancel_scope.cancel()

"""The hub of a server process: opened once, by the first who needs it, and closed at the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest

from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.server.lazy_hub import LazyHub, lazy_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub


class Opening:
    """An opener that counts, fails as often as told, and waits until it may go on."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.opened = 0
        self.closed = 0
        self.may_open = anyio.Event()
        self.hub = cast(Hub, object())

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Hub]:
        self.opened += 1
        await self.may_open.wait()
        if self.opened <= self.failures:
            raise Unavailable("Away.")
        try:
            yield self.hub
        finally:
            self.closed += 1


async def test_calls_at_once_share_one_opening() -> None:
    opening = Opening()
    got: list[Hub] = []

    async with anyio.create_task_group() as tasks:
        lazy = LazyHub(tasks, lambda: opening)

        async def ask() -> None:
            got.append(await lazy())

        async with anyio.create_task_group() as callers:
            for _ in range(10):
                callers.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            assert not lazy.opened
            opening.may_open.set()
        assert lazy.opened
        assert await lazy() is opening.hub
        lazy.close()
    assert got == [opening.hub] * 10
    assert (opening.opened, opening.closed) == (1, 1)


async def test_a_failed_opening_is_told_and_tried_again() -> None:
    opening = Opening(failures=2)
    opening.may_open.set()
    async with anyio.create_task_group() as tasks:
        lazy = LazyHub(tasks, lambda: opening)
        for _ in range(2):
            with pytest.raises(Unavailable, match="Away"):
                await lazy()
        assert await lazy() is opening.hub
        lazy.close()
    assert (opening.opened, opening.closed) == (3, 1)


async def test_a_caller_that_gives_up_leaves_the_others_served() -> None:
    opening = Opening()
    async with anyio.create_task_group() as tasks:
        lazy = LazyHub(tasks, lambda: opening)
        with anyio.move_on_after(0.05):
            await lazy()
        assert not lazy.opened
        opening.may_open.set()
        with anyio.fail_after(5):
            assert await lazy() is opening.hub
        lazy.close()


async def test_an_opening_is_given_up_at_the_end() -> None:
    opening = Opening()
    told: list[Exception] = []

    async with anyio.create_task_group() as callers:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                lazy = LazyHub(tasks, lambda: opening)

                async def ask() -> None:
                    try:
                        await lazy()
                    except Unavailable as error:
                        told.append(error)

                callers.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                lazy.close()
    assert len(told) == 1
    assert not lazy.opened


async def test_a_hub_that_nobody_needs_touches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with lazy_hub(Settings(data_dir=folder, roots=[tmp_path])):
        pass
    assert not folder.exists()


async def test_it_is_closed_when_its_server_is_cancelled(settings: Settings) -> None:
    with anyio.CancelScope() as scope:
        async with lazy_hub(settings) as lazy:
            hub = await lazy()
            assert (await hub.data.list()).items == []
            scope.cancel()
            await anyio.sleep_forever()
    with pytest.raises(anyio.EndOfStream):
        async with hub.bus.subscribe() as topics:
            await topics.receive()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(data_dir=tmp_path / "file" / "data", roots=[tmp_path])
    async with lazy_hub(settings) as lazy:
        with pytest.raises(InvalidArgument, match="cannot be made"):
            await lazy()

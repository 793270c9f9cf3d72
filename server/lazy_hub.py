"""The hub of a server process, opened at the first call that needs it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup, TaskStatus

from mcp_hub.services.hub import Hub

if TYPE_CHECKING:
    from mcp_hub.server.settings import Settings

logger = logging.getLogger(__name__)

Opener = Callable[[], AbstractAsyncContextManager[Hub]]


class LazyHub:
    """A `HubProvider`: the first call opens the hub, calls meanwhile wait for the same opening.

    An opening that fails is told to whoever waits for it, and the next call tries again. The hub
    is opened and closed by a task of its own, whichever request asked first.
    """

    def __init__(self, tasks: TaskGroup, load: Callable[[], Opener]) -> None:
        self._tasks = tasks
        self._load = load
        self._opening = anyio.Lock()
        self._closing = anyio.Event()
        self._hub: Hub | None = None

    async def __call__(self) -> Hub:
        if self._hub is None:
            async with self._opening:
                if self._hub is None:
                    self._hub = await self._tasks.start(self._hold)
        return self._hub

    @property
    def opened(self) -> bool:
        return self._hub is not None

    def close(self) -> None:
        self._closing.set()

    async def _hold(self, *, task_status: TaskStatus[Hub]) -> None:
        # The imports take a good part of a second, which must not stop the event loop.
        opener = await to_thread.run_sync(self._load)
        with anyio.CancelScope(shield=True):
            async with opener() as hub:
                task_status.started(hub)
                await self._closing.wait()


@asynccontextmanager
async def lazy_hub(settings: "Settings") -> AsyncIterator[LazyHub]:
    """The hub that `settings` describe, closed when the context is left."""

    def load() -> Opener:
        open_hub = import_module("mcp_hub.server.composition").open_hub
        return lambda: open_hub(settings)

    async with anyio.create_task_group() as tasks:
        hub = LazyHub(tasks, load)
        try:
            yield hub
        finally:
            hub.close()

"""The hub of a server process, opened at the first call that needs it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub
from mcp_hub.services.telemetry.envelope import HUB_SERVICE
from mcp_hub.services.telemetry.own.own import SILENT, Collected, OwnTelemetry

Opener = Callable[[], AbstractAsyncContextManager[Hub]]


class _Opening:
    """An opening under way: `done` when it has succeeded or failed with `error`."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: Exception | None = None


class LazyHub:
    """A `HubProvider`: the first call opens the hub, calls meanwhile wait for the same opening.

    An opening that fails is told to all who wait for it, and the next call tries again. The hub
    is opened and closed by a task of its own, whichever request asked first and whether or not
    that is still there.
    """

    def __init__(
        self, tasks: TaskGroup, load: Callable[[], Opener], own: OwnTelemetry = SILENT
    ) -> None:
        self.own = own
        self._tasks = tasks
        self._load = load
        self._hub: Hub | None = None
        self._opening: _Opening | None = None
        self._closing = anyio.Event()
        self._scope = anyio.CancelScope()
        self.failure: HubError | None = None
        """Why the last opening failed, until one succeeds."""

    async def __call__(self) -> Hub:
        while self._hub is None:
            if self._closing.is_set():
                raise Unavailable("The hub is closing.")
            opening = self._opening
            if opening is None:
                opening = self._opening = _Opening()
                self._tasks.start_soon(self._hold, opening)
            await opening.done.wait()
            if opening.error is not None:
                raise opening.error
        return self._hub

    @property
    def opened(self) -> bool:
        return self._hub is not None

    def close(self) -> None:
        """Have the hub closed, or its opening given up."""
        self._closing.set()
        if self._hub is None:
            self._scope.cancel()

    async def _hold(self, opening: _Opening) -> None:
        """Open the hub and keep it until it is to be closed."""
        try:
            # The imports take a good part of a second, which must not stop the event loop.
            opener = await to_thread.run_sync(self._load)
            # Once open, it is closed in order even where everything around it is cancelled.
            with anyio.CancelScope(shield=True) as self._scope:
                if self._closing.is_set():
                    return
                async with opener() as self._hub:
                    self.failure = None
                    opening.done.set()
                    await self._closing.wait()
        except Exception as error:  # whatever it is, it belongs to those who wait
            if opening.done.is_set():
                raise
            opening.error = error
            self.failure = error if isinstance(error, HubError) else None
        finally:
            self._opening = None
            opening.done.set()


@asynccontextmanager
async def lazy_hub(settings: Settings, *, local: bool = False) -> AsyncIterator[LazyHub]:
    """The hub that `settings` describe, closed when the context is left; `local` as `open_hub`."""

    own = own_telemetry(settings)

    def load() -> Opener:
        open_hub = import_module("mcp_hub.server.composition").open_hub
        return lambda: open_hub(settings, own, local=local)

    async with anyio.create_task_group() as tasks:
        hub = LazyHub(tasks, load, own)
        try:
            yield hub
        finally:
            hub.close()


def own_telemetry(settings: Settings, service: str = HUB_SERVICE) -> OwnTelemetry:
    """What a process of these settings records of itself."""
    told = settings.telemetry
    return OwnTelemetry(
        Collected(
            usage=told.enabled and told.collect_usage_metrics,
            errors=told.enabled and told.collect_error_metrics,
        ),
        service=service,
    )

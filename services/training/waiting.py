"""Waiting for a job to end, for as long as whoever asked wants to."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.announcing import job_topic
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.views import JobLogs, JobView

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 2.0

Follower = Callable[[JobView], Awaitable[None]]
"""Is told of each change while somebody waits for a job."""


class Waits:
    """Those who wait for jobs in this process."""

    def __init__(self, bus: Bus, look: Callable[[str], Awaitable[JobView]]) -> None:
        """`look` gives a job as it stands, by its id."""
        self._bus = bus
        self._look = look
        self._scopes: set[anyio.CancelScope] = set()
        self._ended = False

    async def until_ended(self, view: JobView, wait_s: float, follow: Follower | None) -> JobView:
        """The job as it ended, or as it stands after `wait_s` seconds or at `end`."""
        with anyio.move_on_after(0 if self._ended else wait_s) as scope:
            self._scopes.add(scope)
            try:
                async with self._changes(view.job_id) as changed:
                    while view.status not in TERMINAL:
                        if follow is not None:
                            await follow(view)
                        before = view
                        while view == before:
                            # A notice may be lost with the process that should have sent it.
                            with anyio.move_on_after(_LOOK_AGAIN_S):
                                await changed()
                            view = await self._look(view.job_id)
            finally:
                self._scopes.discard(scope)
        return view

    async def until_more(
        self, job_id: str, found: JobLogs, look: Callable[[], Awaitable[JobLogs]], wait_s: float
    ) -> JobLogs:
        """What `look` gives once it has lines or the job has ended; else what it last gave."""
        with anyio.move_on_after(0 if self._ended else wait_s) as scope:
            self._scopes.add(scope)
            try:
                async with self._changes(job_id) as changed:
                    found = await look()
                    while not found.lines and found.next_cursor is not None:
                        with anyio.move_on_after(_LOOK_AGAIN_S):
                            await changed()
                        found = await look()
            finally:
                self._scopes.discard(scope)
        return found

    def end(self) -> None:
        """Have everyone told at once, from now on."""
        self._ended = True
        for scope in self._scopes:
            scope.cancel()

    @asynccontextmanager
    async def _changes(self, job_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """What returns at the next notice about the job; never, while the bus is out of reach."""
        async with AsyncExitStack() as stack:
            try:
                topics = await stack.enter_async_context(self._bus.subscribe())
            except Unavailable as error:
                logger.warning("Jobs are looked at instead of listened to: %s", error)
                yield anyio.sleep_forever
                return

            async def changed() -> None:
                async for topic in topics:
                    if topic == job_topic(job_id):
                        return
                await anyio.sleep_forever()

            yield changed

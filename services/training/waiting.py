"""Waiting for something to end, for as long as whoever asked wants to."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

import anyio

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.errors import InvalidArgument, Unavailable
from mcp_hub.services.training.views import JobView

logger = logging.getLogger(__name__)

MAX_WAIT_S = 50.0
_LOOK_AGAIN_S = 2.0

V = TypeVar("V")

Follower = Callable[[JobView], Awaitable[None]]
"""Is told of each change while somebody waits for a job."""


def check_wait(wait_s: float) -> None:
    """Raise InvalidArgument for a time that nobody may wait."""
    if not 0 <= wait_s <= MAX_WAIT_S:
        raise InvalidArgument(f"wait_s is {wait_s:g}; it must be from 0 to {MAX_WAIT_S:g}.")


class Waits:
    """Those who wait in this process for what the bus tells of."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._scopes: set[anyio.CancelScope] = set()
        self._ended = False

    async def until(
        self,
        topic: str,
        look: Callable[[], Awaitable[V]],
        is_done: Callable[[V], bool],
        wait_s: float,
        follow: Callable[[V], Awaitable[None]] | None = None,
    ) -> V:
        """What `look` gives once it is done, or last gave after `wait_s` seconds or at `end`.

        It looks again at each notice of `topic`. While it waits, `follow` is told of each change.

        Raises:
            InvalidArgument: `wait_s` is not from 0 to 50.
        """
        check_wait(wait_s)
        found = await look()
        if is_done(found) or not wait_s:
            return found
        with anyio.move_on_after(0 if self._ended else wait_s) as scope:
            self._scopes.add(scope)
            try:
                async with listening(self._bus, lambda told: told == topic) as noticed:
                    told: V | None = None
                    # It may have changed before anybody listened.
                    found = await look()
                    while not is_done(found):
                        if follow is not None and found != told:
                            await follow(found)
                            told = found
                        # A notice may be lost with the process that should have sent it.
                        with anyio.move_on_after(_LOOK_AGAIN_S):
                            await noticed()
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
async def listening(
    bus: Bus, concerns: Callable[[str], bool]
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What returns once there were notices whose topic `concerns` since the last call.

    It never returns while the bus is out of reach.
    """
    async with AsyncExitStack() as stack:
        try:
            topics = await stack.enter_async_context(bus.subscribe())
        except Unavailable as error:
            logger.warning("Changes are looked for instead of listened to: %s", error)
            yield anyio.sleep_forever
            return

        async def noticed() -> None:
            async for topic in topics:
                if concerns(topic):
                    break
            else:
                await anyio.sleep_forever()
            with suppress(anyio.WouldBlock, anyio.EndOfStream):
                while True:
                    topics.receive_nowait()

        yield noticed

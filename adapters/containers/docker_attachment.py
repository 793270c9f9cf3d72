"""Standard streams over the connection that the engine gives up for them."""

import asyncio
from collections.abc import Awaitable, Callable

from aiodocker.stream import Stream as Hijacked
from aiohttp import ClientError

from mcp_hub.adapters.containers.docker_streams import STREAMS
from mcp_hub.adapters.containers.port import Container, Stream
from mcp_hub.adapters.errors import NotFound, Unavailable

_ENDING_S = 5.0
"""How long the engine may take to tell that a container has ended whose outputs have."""
_LOOK_S = 0.05
_OVER = ("exited", "dead", "removing")


class DockerAttachment:
    """What one process sees of a container's streams; `look` is how the engine sees it."""

    def __init__(self, hijacked: Hijacked, look: Callable[[], Awaitable[Container]]) -> None:
        self._hijacked = hijacked
        self._look = look
        self._over = False

    async def prepare(self) -> None:
        """Notice a container that has ended already: its streams would never tell."""
        self._over = (await self._look()).status in _OVER

    async def send(self, data: bytes) -> None:
        if self._over:
            raise _gone()
        try:
            await self._hijacked.write_in(data)
        # The library asserts that there is a connection still.
        except (AssertionError, RuntimeError, OSError, ClientError) as error:
            raise _gone() from error

    async def receive(self) -> tuple[Stream, bytes] | None:
        while not self._over:
            try:
                message = await self._hijacked.read_out()
            except (OSError, ClientError):
                message = None
            if message is None:
                await self._see_it_ended()
                self._over = True
            elif message.stream in STREAMS and message.data:
                return STREAMS[message.stream], message.data
        return None

    async def _see_it_ended(self) -> None:
        """Return once the container has; its streams end also when the engine does."""
        try:
            async with asyncio.timeout(_ENDING_S):
                while True:
                    if _is_over(await self._look()):
                        return
                    await asyncio.sleep(_LOOK_S)
        except NotFound:
            return
        except TimeoutError:
            raise Unavailable(
                "The connection to the container's streams broke off; the container runs.",
                "Attach again.",
            ) from None


def _is_over(container: Container) -> bool:
    # What could not be started is as it was before.
    return container.status in _OVER or (container.status == "created" and bool(container.error))


def _gone() -> Unavailable:
    return Unavailable(
        "The container, or the engine that it runs on, is gone.", "Start it again, then attach."
    )

"""Standard streams over a connection that the engine gives up for them."""

import asyncio
from collections.abc import Awaitable, Callable

from mcp_hub.adapters.containers.docker_streams import FRAME, STREAMS
from mcp_hub.adapters.containers.port import Container, Stream
from mcp_hub.adapters.errors import NotFound, Unavailable

_PIECE = 1 << 16
_ENDING_S = 5.0
"""How long the engine may take to tell that a container has ended whose outputs have."""
_FLUSH_S = 1.0
_LOOK_S = 0.05
_OVER = ("exited", "dead", "removing")


class DockerAttachment:
    """What one process sees of a container's streams; `look` is how the engine sees it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[], Awaitable[Container]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._look = look
        self._over = False
        # Of the frame that is being read: whose it is, and how much of it is to come.
        self._number = self._left = 0

    async def prepare(self) -> None:
        """Notice a container that has ended already: its streams would never tell."""
        self._over = (await self._look()).status in _OVER

    async def send(self, data: bytes) -> None:
        if self._over or self._writer.is_closing():
            raise _gone()
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise _gone() from error

    async def receive(self) -> tuple[Stream, bytes] | None:
        while not self._over:
            piece = await self._read()
            if piece is None:
                await self._see_it_ended()
                self._over = True
            elif piece and self._number in STREAMS:
                return STREAMS[self._number], piece
        return None

    async def _read(self) -> bytes | None:
        """What comes next of a frame, None when no more does; nothing is lost by a cancellation."""
        try:
            if not self._left:
                header = await self._reader.readexactly(FRAME.size)
                self._number, self._left = FRAME.unpack(header)
            piece = await self._reader.read(min(self._left, _PIECE))
        except (OSError, asyncio.IncompleteReadError):
            return None
        if not piece and self._left:
            return None
        self._left -= len(piece)
        return piece

    async def close(self) -> None:
        """Leave it, once what was sent is with the engine, if it takes it at all."""
        self._writer.close()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._writer.wait_closed()
        except (TimeoutError, asyncio.CancelledError) as error:
            self._writer.transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
        except OSError:
            return

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

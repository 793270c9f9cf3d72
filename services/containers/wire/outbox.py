"""Lines on their way out: one writer, and those who wait while the other side does not read."""

from collections.abc import Awaitable, Callable

import anyio

from mcp_hub.adapters.errors import Unavailable

HIGH_WATER = 1024 * 1024
"""Bytes that wait to be written, from which on `send` waits too."""


class Outbox:
    """Writes lines in order, each whole, also when who sent it is cancelled meanwhile."""

    def __init__(
        self, write: Callable[[bytes], Awaitable[None]], *, high_water: int = HIGH_WATER
    ) -> None:
        """`write` writes all it is given, and raises Unavailable once it no longer can."""
        self._write = write
        self._high_water = high_water
        self._waiting: list[bytes] = []
        self._size = 0
        self._filled = anyio.Event()
        self._emptied = anyio.Event()
        self._broken: str | None = None

    @property
    def is_full(self) -> bool:
        return self._size >= self._high_water

    def put(self, line: bytes) -> None:
        """Add a line without waiting; it is dropped where nothing can be written any more."""
        if self._broken is None:
            self._waiting.append(line)
            self._size += len(line)
            self._filled.set()

    async def send(self, line: bytes) -> None:
        """Add a line once there is room.

        Raises:
            Unavailable: nothing can be written any more.
        """
        while self.is_full and self._broken is None:
            await self._emptied.wait()
        if self._broken is not None:
            raise Unavailable(self._broken)
        self.put(line)

    async def run(self) -> None:
        """Write what is added, until that fails."""
        while self._broken is None:
            if not self._waiting:
                await self._filled.wait()
                self._filled = anyio.Event()
                continue
            block, self._waiting = b"".join(self._waiting), []
            try:
                await self._write(block)
            except Unavailable as error:
                self.close(error.message)
            self._size -= len(block)
            self._wake()

    def close(self, reason: str) -> None:
        """Refuse whatever comes from now on."""
        if self._broken is None:
            self._broken = reason
            self._filled.set()
        self._wake()

    def _wake(self) -> None:
        self._emptied.set()
        self._emptied = anyio.Event()

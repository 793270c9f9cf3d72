"""The bus port: short notices between hub processes that something changed."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from anyio.streams.memory import MemoryObjectReceiveStream


class Bus(Protocol):
    """Change notices, at most once and without replay: a notice says "look again", no more."""

    async def publish(self, topic: str) -> None:
        """Tell every subscriber, in this process and in others, that `topic` changed."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[MemoryObjectReceiveStream[str]]:
        """A stream of the topics published from now on, until the context is left.

        A subscriber that falls far behind loses its oldest notices.
        """
        ...

    async def close(self) -> None: ...

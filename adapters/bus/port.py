"""The bus port: short notices between hub processes that something changed."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from anyio.streams.memory import MemoryObjectReceiveStream


class Bus(Protocol):
    """Change notices, at most once and without replay: a notice says "look again", no more."""

    async def publish(self, topic: str) -> None:
        """Tell every subscriber, in this process and in others, that `topic` changed.

        What changed is committed already, so a bus that does not answer is no error of the
        caller's: the notice is lost to other processes, and a warning logged.
        """
        ...

    def subscribe(self) -> AbstractAsyncContextManager[MemoryObjectReceiveStream[str]]:
        """A stream of the topics published from now on, until the context is left.

        A subscriber that falls far behind loses its oldest notices. The stream ends when the bus
        is closed. Entering the context raises Unavailable when the bus does not answer.
        """
        ...

    async def check(self) -> str:
        """Make one round trip; what the bus is. Raises Unavailable."""
        ...

    async def close(self) -> None: ...

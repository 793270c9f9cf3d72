"""What a server is spoken to by."""

from typing import Protocol


class ByteStream(Protocol):
    """The standard input and output of one MCP server, or what stands for them."""

    async def send(self, data: bytes) -> None:
        """Write all of `data`; waits while the server does not read.

        Raises:
            Unavailable: nobody reads any more.
        """
        ...

    async def receive(self) -> bytes | None:
        """What the server wrote next, in pieces of any length; None when it has ended.

        Raises:
            Unavailable: whatever carries the stream is gone.
        """
        ...

"""A container's standard streams, parted: what speaks MCP, and what is there to be read."""

from collections.abc import Callable

from mcp_hub.adapters.containers.port import Attachment


class StandardIo:
    """Standard input and output of a server; what comes on stderr is given to `heard`."""

    def __init__(self, attachment: Attachment, heard: Callable[[bytes], None]) -> None:
        self._attachment = attachment
        self._heard = heard

    async def send(self, data: bytes) -> None:
        await self._attachment.send(data)

    async def receive(self) -> bytes | None:
        while True:
            piece = await self._attachment.receive()
            if piece is None:
                return None
            stream, data = piece
            if stream == "stdout":
                return data
            self._heard(data)

    async def drain(self) -> None:
        """Read all there is until the container ends, for a server that is spoken to otherwise."""
        while (piece := await self._attachment.receive()) is not None:
            self._heard(piece[1])

"""A server that does exactly what a test says, at the other end of a `ByteStream`."""

from typing import Any

import anyio
import msgspec

from mcp_hub.services.containers.wire.framing import Lines


class Scripted:
    """Both ends: `send` and `receive` are the hub's, the rest is the server's."""

    def __init__(self) -> None:
        self._from_hub, self._at_server = anyio.create_memory_object_stream[dict[str, Any]](1000)
        self._from_server, self._at_hub = anyio.create_memory_object_stream[bytes](1000)
        self._lines = Lines()

    async def send(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            await self._from_hub.send(msgspec.json.decode(line))

    async def receive(self) -> bytes | None:
        try:
            return await self._at_hub.receive()
        except anyio.EndOfStream:
            return None

    async def next(self) -> dict[str, Any]:
        """The next message that the hub wrote."""
        with anyio.fail_after(5):
            return await self._at_server.receive()

    @property
    def unread(self) -> int:
        return self._at_server.statistics().current_buffer_used

    async def write(self, *messages: dict[str, Any] | bytes) -> None:
        for message in messages:
            raw = message if isinstance(message, bytes) else msgspec.json.encode(message) + b"\n"
            await self._from_server.send(raw)

    async def answer(self, request: dict[str, Any], result: Any = None) -> None:
        await self.write({"jsonrpc": "2.0", "id": request["id"], "result": result or {}})

    def end(self) -> None:
        """The server's output ends."""
        self._from_server.close()

    def close(self) -> None:
        for stream in (self._from_hub, self._at_server, self._from_server, self._at_hub):
            stream.close()

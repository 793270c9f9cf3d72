"""A TCP proxy between a client and a real server, for what happens to connections on the way."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_BLOCK = 1 << 16


class Proxy:
    """Passes bytes on, until it is told to do something else with them.

    Both counts are of the bytes of all connections together, begun anew by `reset`.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.reset()

    def reset(self) -> None:
        """Only pass on, and count from nothing."""
        self.sent = self.received = 0
        self.answers = True
        """Whether what the client sends is passed on at all."""
        self.flows = asyncio.Event()
        """Until this is set, what the client sends is kept back."""
        self.flows.set()
        self.cut_sending: int | None = None
        """Break every connection after so many bytes to the server, each time again."""
        self.cut_receiving: int | None = None
        self.cuts = -1
        """How often to break connections; -1 for always."""
        self.flip: int | None = None
        """Change the byte at this place of what is sent."""
        self.on_sent: Callable[[int], object] | None = None
        """Told the count of bytes whenever some are sent."""

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            try:
                await self._connect(reader, writer)
            finally:
                writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        ways = [
            asyncio.create_task(self._send(reader, server_writer)),
            asyncio.create_task(self._receive(server_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK):
            if not self.answers:
                continue
            if self.flip is not None and self.sent <= self.flip < self.sent + len(block):
                place = self.flip - self.sent
                block = block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :]
            self.sent += len(block)
            await self.flows.wait()
            if self._is_to_cut(self.cut_sending, self.sent):
                return
            if self.on_sent is not None:
                self.on_sent(self.sent)
            writer.write(block)
            await writer.drain()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK):
            self.received += len(block)
            if self._is_to_cut(self.cut_receiving, self.received):
                return
            writer.write(block)
            await writer.drain()

    def _is_to_cut(self, limit: int | None, count: int) -> bool:
        if limit is None or count < limit or self.cuts == 0:
            return False
        self.cuts -= 1
        return True

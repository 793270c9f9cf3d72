"""The stdio server: one client, the process that started it."""

import gc
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from mcp_hub.server.app import CreateServer, create_server
from mcp_hub.server.lazy_hub import lazy_hub
from mcp_hub.server.settings import Settings

_CHUNK = 65_536


async def run_stdio(settings: Settings, create: CreateServer = create_server) -> None:
    """Serve what `create` makes on standard input and output, until that ends or a signal comes.

    Standard output carries the protocol and nothing else: meanwhile whatever writes to it, by
    `print`, from C or in a child process, reaches standard error instead.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_on_signal, tasks.cancel_scope)
        await _serve(settings, create)
        tasks.cancel_scope.cancel()


async def _serve(settings: Settings, create: CreateServer) -> None:
    with _wire() as (source, sink):
        async with lazy_hub(settings, local=True) as hub:
            server = create(settings, hub, transport="stdio")
            gc.freeze()
            gc.enable()
            options = server.create_initialization_options()
            await server.run(Incoming(source), Outgoing(sink), options)


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


@contextmanager
def _wire() -> Iterator[tuple[int, int]]:
    """Descriptors of the client's own: what it sends, and where it reads.

    Meanwhile standard input is empty, for children that read it, and standard output is standard
    error. So it stays: what is in somebody's buffer at the end must not follow the protocol.
    """
    source, sink = os.dup(0), os.dup(1)
    # Waiting for them makes them non-blocking, for whoever else has the same terminal too.
    blocking = {descriptor: os.get_blocking(descriptor) for descriptor in (source, sink)}
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield source, sink
    finally:
        for descriptor, was in blocking.items():
            os.set_blocking(descriptor, was)
            os.close(descriptor)


class _Stream:
    """What the SDK wants of a stream besides its messages; the descriptor is somebody else's."""

    async def aclose(self) -> None:
        """Nothing is to be closed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class Incoming(_Stream):
    """The messages that come by `descriptor`, a line each; for what is none, why it is none.

    The SDK's own reads and writes in threads, and hands each message from task to task: that costs
    time at each call, and nothing but the client ends it.
    """

    def __init__(self, descriptor: int) -> None:
        self._lines = read_lines(descriptor)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        line = await anext(self._lines)
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError as error:
            return error

    async def receive(self) -> SessionMessage | Exception:
        """Raises EndOfStream."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """The lines of `descriptor`, UTF-8, read without a thread: waiting for one can be cancelled."""
    parts: list[bytes] = []
    while chunk := await _read(descriptor):
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield b"".join((*parts, line)).decode(errors="replace")
            parts.clear()
        parts.append(rest)
    if any(parts):
        yield b"".join(parts).decode(errors="replace")


async def _read(descriptor: int) -> bytes:
    try:
        await anyio.wait_readable(descriptor)
    except PermissionError:
        await anyio.lowlevel.checkpoint()  # a regular file: it cannot be waited for, nor need be
    return os.read(descriptor, _CHUNK)


class Outgoing(_Stream):
    """Messages to whoever reads `descriptor`: whole lines, in order, without a thread either."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._readiness = select.poll()
        self._readiness.register(descriptor, select.POLLOUT)
        self._turn = anyio.Lock(fast_acquire=True)
        self._rest = bytearray()
        self._broken = False

    async def send(self, item: SessionMessage) -> None:
        """Return when the whole message is written, or the client has gone away.

        If this is cancelled, the next message comes after what is left of this one.
        """
        if self._broken:
            return
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        async with self._turn:
            self._rest += line.encode() + b"\n"
            while self._rest and not self._broken:
                if not self._readiness.poll(0):
                    await anyio.wait_writable(self._descriptor)
                try:
                    # A pipe that is ready takes this much at once, without blocking.
                    written = os.write(self._descriptor, self._rest[: select.PIPE_BUF])
                except BrokenPipeError:
                    self._broken = True
                else:
                    del self._rest[:written]

"""The stdio server: one client, the process that started it."""

import gc
import os
import select
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import cast

import anyio
from mcp.server.stdio import stdio_server

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
        stdin = cast("anyio.AsyncFile[str]", read_lines(source))
        stdout = cast("anyio.AsyncFile[str]", Output(sink))
        async with (
            lazy_hub(settings, local=True) as hub,
            stdio_server(stdin, stdout) as (reading, writing),
        ):
            server = create(settings, hub, transport="stdio")
            gc.freeze()
            gc.enable()
            await server.run(reading, writing, server.create_initialization_options())


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
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield source, sink
    finally:
        os.close(source)
        os.close(sink)


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """The lines of `descriptor`, UTF-8, read without a thread: waiting for one can be cancelled.

    The SDK reads and writes in threads, which cost time at each call, and which nothing ends but
    the client.
    """
    parts: list[bytes] = []
    while chunk := await _read(descriptor):
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield b"".join((*parts, line)).decode(errors="replace")
            parts.clear()
        parts.append(rest)
    if any(parts):
        yield b"".join(parts).decode(errors="replace")


class Output:
    """What the SDK needs of a text file to write to, over `descriptor`, without a thread either."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._broken = False

    async def write(self, text: str) -> None:
        """Write all of `text`, as the client reads it; nothing more once that has gone away."""
        rest = memoryview(text.encode())
        while rest and not self._broken:
            await _ready(anyio.wait_writable, self._descriptor)
            try:
                # A pipe that is ready takes this much at once, without blocking.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                self._broken = True

    async def flush(self) -> None:
        """Nothing is held back."""


async def _read(descriptor: int) -> bytes:
    await _ready(anyio.wait_readable, descriptor)
    return os.read(descriptor, _CHUNK)


async def _ready(wait: Callable[[int], Awaitable[None]], descriptor: int) -> None:
    try:
        await wait(descriptor)
    except PermissionError:
        await anyio.lowlevel.checkpoint()  # a regular file: it cannot be waited for, nor need be

"""The stdio server: one client, the process that started it."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
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
    with _wire() as descriptor:
        stdin = cast("anyio.AsyncFile[str]", read_lines(descriptor))
        async with (
            lazy_hub(settings) as hub,
            stdio_server(stdin=stdin) as (reading, writing),
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
def _wire() -> Iterator[int]:
    """A descriptor for the client's messages, while a child that reads its input gets none.

    The SDK does the like for standard output, but gives it back at the end: what is in somebody's
    buffer by then must not follow the protocol.
    """
    descriptor = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device, not a path
        os.dup2(nothing.fileno(), 0)
    try:
        yield descriptor
    finally:
        os.dup2(descriptor, 0)
        os.close(descriptor)
        os.dup2(2, 1)


async def read_lines(descriptor: int) -> AsyncIterator[str]:
    """The lines of `descriptor`, UTF-8, read without a thread: waiting for one can be cancelled.

    The SDK reads in a thread, which nothing ends but the client.
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


async def _read(descriptor: int) -> bytes:
    try:
        await anyio.wait_readable(descriptor)
    except PermissionError:
        await anyio.lowlevel.checkpoint()  # a regular file: it cannot be waited for, nor need be
    return os.read(descriptor, _CHUNK)

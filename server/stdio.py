"""The stdio server: one client, the process that started it."""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import anyio
from mcp.server.stdio import stdio_server

from mcp_hub.server.app import create_server
from mcp_hub.server.lazy_hub import lazy_hub
from mcp_hub.server.settings import Settings

_CHUNK = 65_536


async def run_stdio(settings: Settings) -> None:
    """Serve MCP on standard input and output until the input ends or a signal comes.

    Standard output carries the protocol and nothing else: meanwhile whatever writes to it, by
    `print`, from C or in a child process, reaches standard error instead.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_on_signal, tasks.cancel_scope)
        await _serve(settings)
        tasks.cancel_scope.cancel()


async def _serve(settings: Settings) -> None:
    with _standard_input() as descriptor:
        stdin = cast("anyio.AsyncFile[str]", read_lines(descriptor))
        async with (
            lazy_hub(settings) as hub,
            stdio_server(stdin=stdin) as (reading, writing),
        ):
            server = create_server(settings, hub)
            gc.freeze()
            gc.enable()
            # What `print` still buffers must not follow the protocol once the wire is restored.
            with contextlib.redirect_stdout(sys.stderr):
                await server.run(reading, writing, server.create_initialization_options())


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


@contextmanager
def _standard_input() -> Iterator[int]:
    """A descriptor for the client's messages; a child that reads its own gets the end of file."""
    descriptor = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device, not a path
        os.dup2(nothing.fileno(), 0)
    try:
        yield descriptor
    finally:
        os.dup2(descriptor, 0)
        os.close(descriptor)


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

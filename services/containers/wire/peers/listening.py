"""Where a hub process listens for others, and how they find it."""

import os
import secrets
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import gettempdir

import anyio
from anyio import to_thread
from anyio.abc import Listener, SocketStream

from mcp_hub.adapters.errors import Denied, InvalidArgument, Unavailable

_LONGEST_PATH = 100
"""A Unix socket's path may have 107 bytes on Linux, 103 on macOS."""
_ABANDONED_S = 60.0


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener, and the address that other hub processes know it by."""

    listener: Listener[SocketStream]
    address: str
    """`unix:/path` or `tcp:host:port`."""


@asynccontextmanager
async def listen_unix(folder: Path) -> AsyncIterator[Listening]:
    """Listen on a socket in `folder`, which only this user may enter.

    Where the path would be too long for a socket, it is in a folder for temporary files.

    Raises:
        Denied: the folder is somebody else's.
        Unavailable: the socket cannot be made.
    """
    try:
        place = await to_thread.run_sync(_place, folder)
        path = place / f"{secrets.token_hex(6)}.sock"
        listener = await anyio.create_unix_listener(path, mode=0o600)
    except OSError as error:
        raise Unavailable(f"The hub cannot listen in {folder}: {error.strerror}.") from error
    async with listener:
        try:
            yield Listening(listener, f"unix:{path}")
        finally:
            path.unlink(missing_ok=True)


@asynccontextmanager
async def listen_tcp(host: str, port: int) -> AsyncIterator[Listening]:
    """Listen on one address of this machine, by which others reach it; port 0 takes a free one.

    Raises:
        InvalidArgument: `host` stands for all addresses, which tells others none.
        Unavailable: it is taken, or no address of this machine.
    """
    try:
        # The first only: a name may stand for several, of which each would have a port of its own.
        [(*_, (numeric, *_)), *_] = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if ip_address(numeric).is_unspecified:
            raise InvalidArgument(
                f"Other hub processes cannot reach this one at {host}.",
                "Set containers.listen to the address of this machine that they can.",
            )
        listener = await anyio.create_tcp_listener(local_host=str(numeric), local_port=port)
    except OSError as error:
        raise Unavailable(
            f"The hub cannot listen on {host}:{port}: {error.strerror}.",
            "Set containers.listen to an address of this machine and a free port.",
        ) from error
    async with listener:
        bound = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield Listening(listener, f"tcp:{host}:{bound}")


async def connect(address: str) -> SocketStream:
    """A connection to a `Listening.address`.

    Raises:
        ConnectionRefusedError, FileNotFoundError: nobody listens there.
        OSError: it cannot be reached.
        InvalidArgument: it is no such address.
    """
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return await anyio.connect_unix(rest)
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not port.isdecimal():
        raise InvalidArgument(f"{address!r} is no address of a hub process.")
    try:
        return await anyio.connect_tcp(host.strip("[]"), int(port))
    except OSError as error:
        causes = error.__cause__
        each = causes.exceptions if isinstance(causes, ExceptionGroup) else (causes,)
        if all(isinstance(cause, ConnectionRefusedError) for cause in each):
            raise ConnectionRefusedError(address) from error
        raise


def _place(folder: Path) -> Path:
    if len(os.fsencode(folder.absolute())) + 20 > _LONGEST_PATH:
        folder = Path(gettempdir()) / f"mcp-hub-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise Denied(f"{folder} is not a folder of this user's own.", "Remove it.")
    folder.chmod(0o700)
    _remove_abandoned(folder)
    return folder.absolute()


def _remove_abandoned(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.glob("*.sock"):
        # A process that has just made its own may not be listening yet.
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            if time.time() - path.lstat().st_mtime < _ABANDONED_S:
                continue
            probe.settimeout(1)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()

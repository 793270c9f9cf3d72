"""What a container may try to reach from within: an address far away, services, a process, a disk.

All of it is this machine's, and open to everyone who is let through to it.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import cast

from tests.servers import need


@contextmanager
def far_address() -> Iterator[str]:
    """An address of no network of this machine: only who has a route to the world reaches it."""
    busybox = need("busybox", "apt-get install busybox-static")
    address = f"198.51.100.{random.randrange(1, 255)}"
    change = [f"{address}/32", "dev", "lo"]
    subprocess.run([busybox, "ip", "addr", "add", *change], check=True)
    try:
        yield address
    finally:
        subprocess.run([busybox, "ip", "addr", "del", *change], check=True)


@asynccontextmanager
async def services(far: str) -> AsyncIterator[tuple[int, int]]:
    """The ports of one that greets by TCP, on all addresses, and one at `far` that answers DNS."""
    loop = asyncio.get_running_loop()
    greeter = await asyncio.start_server(_greet, "0.0.0.0", 0)
    answerer, _ = await loop.create_datagram_endpoint(_Echo, local_addr=(far, 0))
    try:
        yield greeter.sockets[0].getsockname()[1], answerer.get_extra_info("sockname")[1]
    finally:
        answerer.close()
        greeter.close()


@contextmanager
def process() -> Iterator[int]:
    """The pid of a process that does nothing."""
    sleeping = subprocess.Popen(["sleep", "300"])
    try:
        yield sleeping.pid
    finally:
        sleeping.kill()
        sleeping.wait()


def disk() -> tuple[int, int]:
    """The numbers of a disk that root may open on this machine, else of an empty loop device."""
    names = [line.split()[3] for line in Path("/proc/partitions").read_text().splitlines()[2:]]
    for path in [*(Path("/dev", name) for name in names), Path("/dev/loop0")]:
        with suppress(OSError), path.open("rb"):
            number = path.stat().st_rdev
            return os.major(number), os.minor(number)
    raise LookupError("root may open no disk of this machine")


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello\n")
    writer.close()


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # The question is an answer if a bit of it is turned.
        self._transport.sendto(data[:2] + bytes([data[2] | 0x80]) + data[3:], addr)

"""A server that takes all the memory, processes and disk that it can get."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("greedy")


@server.tool()
def eat(mb: int) -> int:
    """Take memory and keep it; return how many MB."""
    kept = [os.urandom(1 << 20) for _ in range(mb)]
    return len(kept)


@server.tool()
def fork(limit: int = 5000) -> int:
    """Start as many processes as there may be, and end them; return how many there were."""
    children = []
    with suppress(OSError):
        while len(children) < limit:
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children)


@server.tool()
def fill(path: str, mb: int) -> int:
    """Write a file of so many MB, or as many as fit; return how many."""
    written = 0
    with suppress(OSError), Path(path).open("wb", buffering=0) as file:
        while written < mb:
            written += file.write(bytes(1 << 20)) // (1 << 20) or mb
    size = Path(path).stat().st_size >> 20
    Path(path).unlink()
    return size


if __name__ == "__main__":
    server.run("stdio")

"""A server that ends when it is asked to, and says why on standard error."""

import os
import signal
import sys

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("crasher")


@server.tool()
def leave(code: int = 1, words: str = "cannot go on") -> None:
    """End the process with an exit code, in the middle of the call."""
    print(words, file=sys.stderr, flush=True)
    os._exit(code)


@server.tool()
def die(number: int = signal.SIGSEGV) -> None:
    """End the process by a signal, in the middle of the call."""
    # The kernel spares a container's first process the signals that it does not handle.
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), number)
    _, status = os.waitpid(pid, 0)
    os._exit(128 + os.WTERMSIG(status))


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
def alive() -> bool:
    """Whether it runs."""
    return True


if __name__ == "__main__":
    server.run("stdio")

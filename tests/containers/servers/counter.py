"""State: a number that lives as long as the process."""

import os

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("counter")
count = 0


@server.tool()
def increment(by: int = 1) -> int:
    """Add to the number; return it."""
    global count
    count += by
    return count


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def value() -> int:
    """Return the number."""
    return count


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def host() -> str:
    """Return the container's short id."""
    return os.uname().nodename


if __name__ == "__main__":
    server.run("stdio")

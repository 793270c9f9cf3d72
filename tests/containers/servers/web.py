"""The echo and a counter over Streamable HTTP, for all who reach the container."""

import sys

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("web")
count = 0


@server.tool()
def echo(text: str) -> str:
    """Return the text."""
    return text


@server.tool()
def increment() -> int:
    """Add one to a number; return it."""
    global count
    count += 1
    return count


if __name__ == "__main__":
    server.run(
        "streamable-http",
        host="0.0.0.0",
        port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000,
        # It is reached by its address, which nobody knows before.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

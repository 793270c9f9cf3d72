"""A server that says much on standard error, and things on standard output that are no MCP."""

import sys

from mcp.server import MCPServer

server = MCPServer("chatty")


@server.tool()
def chat(lines: int) -> int:
    """Write lines to standard error; return how many."""
    for number in range(lines):
        print(f"line {number} of much that is said", file=sys.stderr)
    sys.stderr.flush()
    return lines


@server.tool()
def babble(text: str) -> str:
    """Write a line to standard output, where only MCP belongs."""
    print(text, flush=True)
    return text


if __name__ == "__main__":
    print("chatty is up", file=sys.stderr, flush=True)
    server.run("stdio")

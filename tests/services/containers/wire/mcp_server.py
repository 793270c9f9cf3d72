"""A small MCP server of the SDK, of both eras of the protocol.

Over standard input and output, or with a port as its argument, over HTTP on 127.0.0.1.
"""

import itertools
import os
import sys
from typing import Annotated, Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel, Field

server = MCPServer("fixture", version="1.2.3", instructions="Speak to it.")


class Name(BaseModel):
    name: str


async def ask_name(ctx: Context) -> Elicit[Name]:
    return Elicit(message="Who are you?", schema=Name)


@server.tool()
def echo(text: str) -> str:
    return text


@server.tool()
def repeat(word: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Word"})]) -> str:
    """Its argument is in a header too, over HTTP in the newer era."""
    return word


@server.tool()
async def steps(count: int, ctx: Context) -> str:
    for step in range(count):
        await ctx.report_progress(step + 1, count, f"step {step + 1}")
    return "done"


@server.tool()
async def hang(path: str) -> str:
    """Writes to `path` how it ended."""
    try:
        await anyio.sleep_forever()
    finally:
        with open(path, "w") as file:  # noqa: ASYNC230, PTH123
            file.write("cancelled")


@server.tool()
async def after(flag: str) -> str:
    """Returns once there is a file `flag`."""
    while not os.path.exists(flag):  # noqa: ASYNC110, ASYNC240, PTH110 - another process makes it
        await anyio.sleep(0.01)
    return "seen"


calls = itertools.count(1)


@server.tool()
def count() -> str:
    return str(next(calls))


@server.tool()
async def greet(name: Annotated[Name, Resolve(ask_name)]) -> str:
    """Asks, whichever way the client's era has it."""
    return f"Hello {name.name}"


@server.tool()
def die() -> str:
    os._exit(3)


@server.tool()
def meta(ctx: Context) -> dict[str, Any]:
    """What the request's `_meta` had."""
    return dict(ctx.request_context.meta or {})


@server.tool()
async def grow(ctx: Context) -> str:
    server.add_tool(echo, name="echo2")
    # Each reaches the clients of its era.
    await ctx.session.send_tool_list_changed()
    await ctx.notify_tools_changed()
    return "grown"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")

"""A server whose tools change, in their list and in what they say of themselves."""

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("changer")


@server.tool()
def plain(text: str) -> str:
    """Return the text."""
    return text


@server.tool()
async def appear(name: str, ctx: Context) -> None:
    """Have one more tool of that name."""
    server.add_tool(plain, name=name, description="Return the text, newly.")
    await _tell(ctx)


@server.tool()
async def vanish(name: str, ctx: Context) -> None:
    """Have that tool no longer."""
    server.remove_tool(name)
    await _tell(ctx)


@server.tool()
async def redescribe(description: str, ctx: Context) -> None:
    """Have `plain` say another thing of itself."""
    server.remove_tool("plain")
    server.add_tool(plain, description=description)
    await _tell(ctx)


async def _tell(ctx: Context) -> None:
    """Tell clients of both eras."""
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()


if __name__ == "__main__":
    server.run("stdio")

"""Tools that take their time, tell how far they are, and can be cancelled."""

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import ToolAnnotations

server = MCPServer("slow")
started = 0
cancelled = 0
finished = 0


@server.tool()
async def work(seconds: float, steps: int, ctx: Context) -> int:
    """Work for some seconds, in steps; return how many."""
    global started, cancelled, finished
    started += 1
    try:
        for step in range(steps):
            await ctx.report_progress(step, steps, f"step {step}")
            await anyio.sleep(seconds / steps)
    except anyio.get_cancelled_exc_class():
        cancelled += 1
        raise
    finished += 1
    return steps


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def outcomes() -> dict[str, int]:
    """Return how many calls of `work` were started, cancelled, and finished."""
    return {"started": started, "cancelled": cancelled, "finished": finished}


if __name__ == "__main__":
    server.run("stdio")

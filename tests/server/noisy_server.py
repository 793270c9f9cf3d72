"""A stdio server one of whose tools writes to standard output in every way there is."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent, Tool

from mcp_hub.server.app import create_server
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.server.stdio import run_stdio
from mcp_hub.services.hub import HubProvider
from mcp_hub.tools.toolset import BoundTool


def create(settings: Settings, hub: HubProvider, *, transport: Any) -> HubServer:
    server = create_server(settings, hub, transport=transport)

    async def noise(arguments: dict[str, Any], context: Context[Any]) -> CallToolResult:
        await context.report_progress(1, 2, "half way")
        print("noise: print")
        os.write(1, b"noise: descriptor\n")
        ctypes.CDLL(None).printf(b"noise: library\n")
        await anyio.run_process("echo noise: child; cat", stdin=None, stdout=None, stderr=None)
        return CallToolResult(content=[TextContent(type="text", text="quiet")])

    definition = Tool(name="noise", input_schema={"type": "object"})
    server.tools["noise"] = BoundTool(definition, noise)
    return server


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    anyio.run(run_stdio, Settings(data_dir=folder, roots=[folder]), create)

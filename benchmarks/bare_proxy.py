"""The reference for calls that pass through: the SDK's client behind its server, and nothing else.

Its arguments are the command of the server that it passes calls on to.
"""

import sys
from typing import Any

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams


async def main() -> None:
    program, *arguments = sys.argv[1:]
    async with Client(StdioServerParameters(command=program, args=arguments)) as behind:

        async def list_tools(
            _: ServerRequestContext[Any], params: PaginatedRequestParams | None
        ) -> ListToolsResult:
            return await behind.list_tools()

        async def call_tool(
            _: ServerRequestContext[Any], params: CallToolRequestParams
        ) -> CallToolResult:
            return await behind.call_tool(params.name, params.arguments or {})

        proxy = Server("proxy", on_list_tools=list_tools, on_call_tool=call_tool)
        async with stdio_server() as (read, write):
            await proxy.run(read, write, proxy.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)

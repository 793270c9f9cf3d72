"""The least that a hub can be: an SDK server that writes a call's line to a container, and returns
the line that comes back.

It has the hub's standard streams, event loop and engine, and nothing else of it: no check, record,
deadline or second call under way. Its arguments are the engine's URL, an image, and a command.
"""

import sys
from itertools import count
from typing import Any

import anyio
import msgspec
import uvloop
from mcp.server import Server, ServerRequestContext
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams
from mcp.types.version import LATEST_HANDSHAKE_VERSION

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import Attachment, ContainerConfig
from mcp_hub.server.stdio import Incoming, Outgoing


class Relay:
    """One request after the other."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._ids = count()

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        await self.send({"id": next(self._ids), "method": method, "params": params})
        came = b""
        while not came.endswith(b"\n"):
            piece = await self._attachment.receive()
            if piece is None:
                raise RuntimeError("the container ended")
            came += piece[1]
        return msgspec.json.decode(came)["result"]

    async def send(self, message: dict[str, Any]) -> None:
        await self._attachment.send(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")


async def serve(relay: Relay) -> None:
    async def list_tools(
        _: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult.model_validate(await relay.ask("tools/list", {}))

    async def call_tool(
        _: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        arguments = {"name": params.name, "arguments": params.arguments}
        return CallToolResult.model_validate(await relay.ask("tools/call", arguments))

    server = Server("relay", on_list_tools=list_tools, on_call_tool=call_tool)
    await server.run(Incoming(0), Outgoing(1), server.create_initialization_options())


async def main() -> None:
    url, image, *command = sys.argv[1:]
    engine = DockerEngine(url)
    config = ContainerConfig("bare-relay", image, command=tuple(command), stdin=True)
    container = await engine.create(config)
    try:
        async with engine.attach(container) as attachment:
            await engine.start(container)
            relay = Relay(attachment)
            client = {"name": "relay", "version": "1"}
            await relay.ask(
                "initialize",
                {
                    "protocolVersion": LATEST_HANDSHAKE_VERSION,
                    "capabilities": {},
                    "clientInfo": client,
                },
            )
            await relay.send({"method": "notifications/initialized"})
            await serve(relay)
    finally:
        with anyio.CancelScope(shield=True):
            await engine.remove(container)
            await engine.close()


if __name__ == "__main__":
    anyio.run(main, backend_options={"loop_factory": uvloop.new_event_loop})

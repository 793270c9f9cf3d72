"""A server that speaks Streamable HTTP, behind the same stream of bytes as one on its pipes."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import msgspec
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp.types import PROTOCOL_VERSION_META_KEY
from mcp.types.jsonrpc import jsonrpc_message_adapter

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.framing import MAX_LINE, Lines

logger = logging.getLogger(__name__)

# No deadline for an answer: who asks has one.
_TIMEOUT = httpx2.Timeout(30.0, read=None)
_ASK_AGAIN_S = 0.05


@asynccontextmanager
async def http_stream(
    url: str, *, start_timeout_s: float, proxy: str | None = None
) -> AsyncIterator["HttpStream"]:
    """A `ByteStream` of the server at `url`, once something listens there; it is reached through
    the HTTP `proxy`, if that is given.

    A stream has an HTTP session of its own: who takes a server over opens its session anew.

    Raises:
        TimedOut: nothing listens there within `start_timeout_s`.
    """
    await _wait_until_listening(url, proxy, start_timeout_s)
    stream = HttpStream(url, proxy)
    async with in_background(stream.run):
        yield stream


class HttpStream:
    """The SDK's client transport, spoken to in lines. It ends when a request finds nobody."""

    def __init__(self, url: str, proxy: str | None = None) -> None:
        self._url = url
        self._proxy = proxy
        self._lines = Lines()
        self._headers = _Headers()
        self._reason: str | None = None
        self._outgoing, self._to_send = anyio.create_memory_object_stream[SessionMessage]()
        self._received, self._incoming = anyio.create_memory_object_stream[bytes]()

    async def send(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            headers = self._headers.of(msgspec.json.decode(line))
            try:
                await self._outgoing.send(
                    SessionMessage(message, ClientMessageMetadata(headers=headers))
                )
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise self._gone() from None

    async def receive(self) -> bytes | None:
        try:
            return await self._incoming.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            raise self._gone() from None

    async def run(self) -> None:
        """Carry messages both ways, until cancelled or nobody is there any more."""
        try:
            async with self._outgoing, self._to_send, self._received, self._incoming:
                await self._carry()
        except* (httpx2.HTTPError, OSError) as errors:
            self._reason = f"The server at {self._url} is gone: {_first(errors)}"

    async def _carry(self) -> None:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False, proxy=self._proxy) as http,
            streamable_http_client(self._url, http_client=http, max_sse_event_size=MAX_LINE) as (
                reading,
                writing,
            ),
            anyio.create_task_group() as tasks,
        ):

            async def send() -> None:
                async for message in self._to_send:
                    await writing.send(message)

            tasks.start_soon(send)
            async for item in reading:
                if isinstance(item, Exception):
                    logger.debug("The server at %s wrote what is no message: %s", self._url, item)
                    continue
                line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
                self._headers.learn(msgspec.json.decode(line))
                await self._received.send(line + b"\n")
            tasks.cancel_scope.cancel()

    def _gone(self) -> Unavailable:
        return Unavailable(self._reason or f"The server at {self._url} is gone.")


class _Headers:
    """The HTTP headers that repeat what is in a message."""

    def __init__(self) -> None:
        self._protocol: str | None = None
        self._initializing: Any = None
        self._mirrored: dict[str, dict[tuple[str, ...], str]] = {}

    def of(self, message: dict[str, Any]) -> dict[str, str]:
        method, params = message.get("method"), message.get("params") or {}
        if method == "initialize":
            self._protocol, self._initializing = None, message.get("id")
            return {}
        modern = (params.get("_meta") or {}).get(PROTOCOL_VERSION_META_KEY)
        if method is None or modern is None:
            return {MCP_PROTOCOL_VERSION_HEADER: self._protocol} if self._protocol else {}
        headers = {MCP_PROTOCOL_VERSION_HEADER: modern, MCP_METHOD_HEADER: method}
        name = params.get(NAME_BEARING_METHODS.get(method, ""))
        if isinstance(name, str):
            headers[MCP_NAME_HEADER] = encode_header_value(name)
            if method == "tools/call" and name in self._mirrored:
                arguments = params.get("arguments") or {}
                headers |= mcp_param_headers(self._mirrored[name], arguments)
        return headers

    def learn(self, message: dict[str, Any]) -> None:
        """Take from an answer what later headers depend on."""
        result = message.get("result")
        if not isinstance(result, dict):
            return
        if self._initializing is not None and message.get("id") == self._initializing:
            self._protocol, self._initializing = result.get("protocolVersion"), None
        tools = result.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            schema = tool.get("inputSchema") if isinstance(tool, dict) else None
            if schema and find_invalid_x_mcp_header(schema) is None:
                self._mirrored[str(tool.get("name"))] = x_mcp_header_map(schema)


async def _wait_until_listening(url: str, proxy: str | None, timeout_s: float) -> None:
    parts = urlsplit(url)
    with anyio.move_on_after(timeout_s):
        while True:
            with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                if await _listens(parts.hostname or "", parts.port or 80, proxy):
                    return
            await anyio.sleep(_ASK_AGAIN_S)
    raise TimedOut(
        f"Nothing listens at {parts.netloc} after {timeout_s:g} s.",
        "Check the deployment's port, and that its server listens on all addresses.",
    )


async def _listens(host: str, port: int, proxy: str | None) -> bool:
    if proxy is None:
        async with await anyio.connect_tcp(host, port):
            return True
    through = urlsplit(proxy)
    async with await anyio.connect_tcp(through.hostname or "", through.port or 80) as stream:
        await stream.send(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
        return (await stream.receive()).startswith(b"HTTP/1.1 200 ")


def _first(errors: BaseExceptionGroup[Exception]) -> str:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return str(inner) or type(inner).__name__

"""The wire against the SDK's server over Streamable HTTP."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.http import http_stream
from mcp_hub.services.containers.wire.input_required import resolving
from mcp_hub.services.containers.wire.messages import RpcError
from mcp_hub.services.containers.wire.negotiating import Protocol, open_session
from mcp_hub.services.containers.wire.sessions import Session
from tests.servers import free_port
from tests.services.containers.wire.processes import HERE, RecordingCaller, started
from tests.waiting import eventually

CLIENT = {"name": "mcp-hub", "version": "test"}
ERAS: list[Protocol] = ["2025-11-25", "2026-07-28"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    port = free_port()
    async with started([sys.executable, str(HERE / "mcp_server.py"), str(port)]):
        yield f"http://127.0.0.1:{port}/mcp"


@asynccontextmanager
async def session_at(url: str, protocol: Protocol) -> AsyncIterator[Session]:
    async with http_stream(url, start_timeout_s=20) as stream:
        channel = Channel(stream)
        async with in_background(channel.run):
            server = await open_session(channel, protocol, client=CLIENT, timeout_s=20)
            yield Session(channel, server, CLIENT)


async def call(session: Session, tool: str, **arguments: object) -> str:
    params = {"name": tool, "arguments": arguments}
    result = await session.request("tools/call", params, timeout_s=10)
    text: str = result["content"][0]["text"]
    return text


async def test_both_eras(url: str, tmp_path: Path) -> None:
    async with session_at(url, "auto") as session:
        assert session.server.protocol == "2026-07-28"
    for protocol in ERAS:
        async with session_at(url, protocol) as session:
            assert session.server.protocol == protocol
            await session.ping(5)
            await session.request("tools/list", {}, timeout_s=5)
            assert await call(session, "echo", text="é\n") == "é\n"
            assert await call(session, "repeat", word="möre") == "möre"
            caller = RecordingCaller({"action": "accept", "content": {"name": "Ada"}})
            params = {"name": "steps", "arguments": {"count": 3}}
            await session.request("tools/call", params, caller=caller, timeout_s=10)
            assert [notice["progress"] for notice in caller.progressed] == [1, 2, 3]
            params = {"name": "greet", "arguments": {}}
            result = await resolving(
                session.request, "tools/call", params, caller=caller, timeout_s=10
            )
            assert result["content"][0]["text"] == "Hello Ada"
            with pytest.raises(RpcError):
                await session.request("no/such", {}, timeout_s=5)
            ended = tmp_path / protocol
            with anyio.move_on_after(0.2):
                await call(session, "hang", path=str(ended))
            await eventually(ended.exists)
            assert await call(session, "echo", text="still there") == "still there"


async def test_a_server_that_dies_ends_the_stream(url: str) -> None:
    async with session_at(url, "auto") as session:
        with pytest.raises((Unavailable, RpcError)):
            await call(session, "die")
        with pytest.raises(Unavailable, match="gone"):
            await call(session, "echo", text="late")


async def test_nobody_listens() -> None:
    with pytest.raises(TimedOut, match="Nothing listens"):
        async with http_stream(f"http://127.0.0.1:{free_port()}/mcp", start_timeout_s=0.2):
            raise AssertionError

"""How servers of all kinds are greeted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.errors import TimedOut, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.negotiating import Protocol, open_session
from mcp_hub.services.containers.wire.sessions import ServerInfo
from tests.services.containers.wire.scripted import Scripted

CLIENT = {"name": "mcp-hub", "version": "test"}
INITIALIZED = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "old", "version": "1"},
    "instructions": "Use it.",
}
DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {"listChanged": True}},
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "2"}},
}
OLD = ServerInfo("2025-06-18", "old", "1", {"tools": {}}, "Use it.")
NEW = ServerInfo("2026-07-28", "new", "2", {"tools": {"listChanged": True}})


class Greeted:
    """A server, what came of greeting it, and how long that may take."""

    def __init__(self) -> None:
        self.server = Scripted()
        self.info: ServerInfo | None = None
        self.error: Unavailable | TimedOut | None = None

    async def expect(self, method: str, **answer: Any) -> dict[str, Any]:
        asked = await self.server.next()
        assert asked["method"] == method
        if answer:
            await self.server.write({"jsonrpc": "2.0", "id": asked["id"], **answer})
        return asked

    async def initialize(self) -> None:
        asked = await self.expect("initialize", result=INITIALIZED)
        assert asked["params"]["protocolVersion"] == "2025-11-25"
        assert asked["params"]["clientInfo"] == CLIENT
        assert "_meta" not in asked["params"]
        await self.expect("notifications/initialized")


@asynccontextmanager
async def greeting(protocol: Protocol = "auto", timeout_s: float = 5) -> AsyncIterator[Greeted]:
    greeted = Greeted()
    channel = Channel(greeted.server)

    async def greet() -> None:
        try:
            greeted.info = await open_session(channel, protocol, client=CLIENT, timeout_s=timeout_s)
        except (Unavailable, TimedOut) as error:
            greeted.error = error

    try:
        async with in_background(channel.run), anyio.create_task_group() as tasks:
            tasks.start_soon(greet)
            yield greeted
    finally:
        greeted.server.close()


async def test_a_server_of_the_newer_era_is_discovered() -> None:
    async with greeting() as greeted:
        asked = await greeted.expect("server/discover", result=DISCOVERED)
        assert asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert greeted.info == NEW


@pytest.mark.parametrize(
    "odd",
    [
        {"error": {"code": -32601, "message": "Method not found"}},
        {"error": {"code": -32602, "message": "Received request before initialization"}},
        {"error": "what?"},
        {"error": {"code": -32022, "message": "no", "data": {"supported": ["2025-06-18"]}}},
        {"error": {"code": -32022, "message": "no", "data": "nonsense"}},
        {"result": {}},
        {"result": None},
        {"result": []},
        {"result": {"supportedVersions": "2026-07-28", "capabilities": {}}},
        {"result": {"supportedVersions": ["2026-07-28"]}},
        {"result": {"supportedVersions": ["2025-11-25"], "capabilities": {}}},
    ],
)
async def test_any_other_answer_leads_to_initialize(odd: dict[str, Any]) -> None:
    async with greeting() as greeted:
        await greeted.expect("server/discover", **odd)
        await greeted.initialize()
    assert greeted.info == OLD


async def test_silence_leads_to_initialize() -> None:
    async with greeting(timeout_s=0.6) as greeted:
        await greeted.expect("server/discover")
        await greeted.initialize()
    assert greeted.info == OLD


async def test_a_server_names_the_version_to_ask_by() -> None:
    unsupported = {"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}
    async with greeting() as greeted:
        await greeted.expect("server/discover", error=unsupported)
        await greeted.expect("server/discover", result=DISCOVERED)
    assert greeted.info == NEW


async def test_a_server_that_was_slow_to_take_the_probe_is_asked_again() -> None:
    unsupported = {"code": -32022, "message": "late", "data": {"supported": ["2026-07-28"]}}
    async with greeting(timeout_s=0.6) as greeted:
        await greeted.expect("server/discover")
        await greeted.expect("initialize", error=unsupported)
        await greeted.expect("server/discover", result=DISCOVERED)
    assert greeted.info == NEW


async def test_a_server_of_the_future_is_refused() -> None:
    unsupported = {"code": -32022, "message": "no", "data": {"supported": ["2030-01-01"]}}
    async with greeting() as greeted:
        await greeted.expect("server/discover", error=unsupported)
    assert greeted.error
    assert "2030-01-01" in greeted.error.message
    assert "2026-07-28" in (greeted.error.hint or "")


async def test_an_era_can_be_insisted_on() -> None:
    async with greeting("2025-11-25") as greeted:
        await greeted.initialize()
    assert greeted.info == OLD
    async with greeting("2026-07-28") as greeted:
        await greeted.expect("server/discover", error={"code": -32601, "message": "No method"})
    assert "No method" in str(greeted.error)
    async with greeting("2026-07-28") as greeted:
        await greeted.expect("server/discover", result={"supportedVersions": []})
    assert 'protocol="auto"' in (greeted.error.hint or "" if greeted.error else "")


async def test_a_refusal_an_unknown_version_an_end_and_silence_are_told_apart() -> None:
    async with greeting("2025-11-25") as greeted:
        await greeted.expect("initialize", error={"code": 7, "message": "not today"})
    assert "not today (7)" in str(greeted.error)

    async with greeting("2025-11-25") as greeted:
        await greeted.expect("initialize", result={**INITIALIZED, "protocolVersion": "1999-01-01"})
    assert "1999-01-01" in str(greeted.error)

    async with greeting() as greeted:
        await greeted.server.write(b"python: can't open file 'x.py'\n")
        greeted.server.end()
    assert isinstance(greeted.error, Unavailable)
    assert "can't open file" in (greeted.error.hint or "")

    async with greeting(timeout_s=0.1) as greeted:
        pass
    assert isinstance(greeted.error, TimedOut)

"""The tools about the hub itself."""

from pathlib import Path

import pytest
from mcp import Client

from mcp_hub.server.app import create_server
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub
from tests.processes import call


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_an_agent_learns_what_this_hub_is_and_how_it_is(tmp_path: Path, era: str) -> None:
    settings = Settings(data_dir=tmp_path / "data", roots=[tmp_path])
    async with open_hub(settings) as hub:

        async def provide() -> Hub:
            return hub

        await hub.data.register("flowers", content="size,label\n1,a\n2,b\n", format="csv")
        async with Client(create_server(settings, provide, transport="http"), mode=era) as client:
            await client.list_tools()
            info = await call(client, "hub_info")
            health = await call(client, "hub_health")
    assert info["counts"] == {
        "datasets": 1, "models": 0, "model_versions": 0, "jobs": {}, "workers_alive": 0,
    }  # fmt: skip
    assert info["roots"] == [str(tmp_path)]
    assert info["protocol_versions"][:2] == ["2026-07-28", "2025-11-25"]
    assert info["transport"] == "http"
    assert info["limits"]["result_characters"] == 25_000
    assert health["status"] == "ok"
    assert set(health["adapters"]) == {"database", "blobs", "queue", "bus", "disk", "telemetry"}
    for adapter in health["adapters"].values():
        assert adapter["status"] == "ok"
        assert adapter["latency_ms"] >= 0

"""The analytics of telemetry as an MCP client calls them."""

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from mcp import Client

from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.adapters.records.sqlite import SqliteRecordStore
from mcp_hub.server.hub_server import HubServer
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.intake.accepting import from_objects
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.tools.analytics import AnalyticsTools
from tests.processes import call

MINUTES = 180
FAULT = 120


@pytest.fixture
async def client(database: SqliteDatabase) -> AsyncIterator[Client]:
    anomalies = AnomalyFinder(database)
    telemetry = SimpleNamespace(
        anomalies=anomalies, correlator=Correlator(database, anomalies)
    )  # fmt: skip
    hub: Any = SimpleNamespace(telemetry=telemetry)

    async def provide() -> Any:
        return hub

    ingest = Ingest(database, SqliteRecordStore())
    now = time.time() // 60 * 60
    records = [
        {"kind": "log", "name": "app", "service": "shop", "time": now - (MINUTES - n / 6) * 60,
         "severity": "error" if FAULT <= n / 6 < FAULT + 20 and n % 2 else "info",
         "body": f"order {n} handled"}
        for n in range(MINUTES * 6)
    ]  # fmt: skip
    when = now - (MINUTES - FAULT + 1) * 60
    records.append({"kind": "event", "name": "deployment", "service": "shop", "time": when})
    await ingest.record(from_objects(records, "event"))
    tools = AnalyticsTools(provide).tools()
    async with Client(HubServer(provide, tools=tools, sets=[])) as client:
        yield client


async def test_anomalies(client: Client) -> None:
    result = await call(client, "telemetry_anomalies", since="-170m")
    (found,) = result["findings"]
    assert (found["service"], found["kind"], found["signal"]) == ("shop", "log", "errors")
    assert found["expected"] < 0.01
    assert found["seen"] == pytest.approx(0.5, abs=0.1)
    assert found["level"] == "high"
    assert "% errors instead of" in found["says"]
    assert result["series"] == 2
    none = await call(client, "telemetry_anomalies", since="-170m", kind="metric")
    assert none["findings"] == []


async def test_correlate(client: Client) -> None:
    result = await call(client, "telemetry_correlate", at=f"-{MINUTES - FAULT - 3}m")
    what = [cause["what"] for cause in result["causes"]]
    assert what[0] == "deployment"
    assert "errors" in what
    assert result["causes"][0]["because"].startswith("errors of shop began")


async def test_what_is_wrong_is_said(client: Client) -> None:
    with pytest.raises(NotFound, match="No telemetry has the service 'shp'"):
        await call(client, "telemetry_anomalies", service="shp")
    with pytest.raises(InvalidArgument, match="since"):
        await call(client, "telemetry_anomalies", since="long ago")
    with pytest.raises(InvalidArgument, match="within"):
        await call(client, "telemetry_correlate", at="-10m", within="a while")

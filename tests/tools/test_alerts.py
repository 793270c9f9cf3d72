"""The two tools of alerts as an agent uses them, and what subscribers of an alert are told."""

import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import ResourceUpdatedNotification

from mcp_hub.adapters.errors import InvalidArgument, NotFound
from mcp_hub.server.app import create_server
from mcp_hub.server.composition import open_hub
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub
from tests.processes import call
from tests.server.conftest import ERAS

RULE = {"kind": "metric", "name": "load", "measure": "max", "threshold": 5}
METRIC = {"kind": "metric", "name": "load", "value": 9}


@pytest.fixture
async def hub(tmp_path: Any) -> AsyncIterator[Hub]:
    settings = Settings(
        data_dir=tmp_path, roots=[tmp_path],
        training={"autostart_worker": False}, telemetry={"alert_interval_s": 0.1},
    )  # fmt: skip
    async with open_hub(settings) as hub:
        yield hub


@pytest.fixture
def server(hub: Hub) -> HubServer:
    async def provide() -> Hub:
        return hub

    return create_server(Settings(), provide)


@pytest.fixture
async def client(server: HubServer) -> AsyncIterator[Client]:
    async with Client(server) as client:
        yield client


async def test_an_alert_is_set_fires_is_listed_and_deleted(client: Client) -> None:
    made = await call(client, "telemetry_alert", action="set", name="hot", rule=RULE)
    assert "Nobody is told" in made["note"]
    assert made["alerts"][0]["condition"] == "max of metric load over 5m > 5"
    assert made["alerts"][0]["rule"]["threshold"] == 5
    await call(
        client, "telemetry_record",
        records=[{**METRIC, "time": time.time_ns()}],
    )  # fmt: skip
    with anyio.fail_after(20):
        while True:
            listed = await call(client, "telemetry_alerts")
            if listed["alerts"][0]["state"] == "firing":
                break
            await anyio.sleep(0.05)
    assert listed["alerts"][0]["value"] == 9
    silenced = await call(client, "telemetry_alert", action="silence", name="hot", silence_for="2h")
    assert silenced["alerts"][0]["silenced"].startswith("until 20")
    early = await call(
        client, "telemetry_alert", action="set", name="early", rule=RULE | {"name": "laod"}
    )
    assert "nothing to watch yet: No record has the name 'laod'. Did you mean" in early["note"]
    await call(client, "telemetry_alert", action="delete", name="early")
    tested = await call(client, "telemetry_alerts", rule=RULE | {"threshold": 10})
    assert (tested["tested"]["value"], tested["tested"]["would_fire"]) == (9, False)
    await call(client, "telemetry_alert", action="delete", name="hot")
    assert (await call(client, "telemetry_alerts"))["alerts"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"action": "set", "name": "x"}, "set needs a rule"),
        ({"action": "silence", "name": "x"}, "silence needs silence_for"),
        ({"action": "set", "name": "a b", "rule": RULE}, "cannot be an alert's name"),
        ({"action": "delete"}, "name"),
        ({"action": "set", "name": "x", "rule": {"name": "load"}}, "threshold or deviations"),
    ],
)
async def test_what_is_missing_is_said(
    client: Client, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await call(client, "telemetry_alert", **arguments)
    assert complaint in refused.value.message


async def test_an_unknown_alert_names_the_nearest(client: Client) -> None:
    await call(client, "telemetry_alert", action="set", name="too-hot", rule=RULE)
    with pytest.raises(NotFound) as missing:
        await call(client, "telemetry_alerts", name="to-hot")
    assert missing.value.hint is not None
    assert "'too-hot'" in missing.value.hint


async def test_a_reader_sees_alerts_and_sets_none(hub: Hub, client: Client) -> None:
    await call(client, "telemetry_alert", action="set", name="hot", rule=RULE)

    async def provide() -> Hub:
        return hub

    async with Client(create_server(Settings(read_only=True), provide)) as reader:
        assert [a["name"] for a in (await call(reader, "telemetry_alerts"))["alerts"]] == ["hot"]
        rule = (await call(reader, "telemetry_alerts", name="hot"))["alerts"][0]["rule"]
        await call(client, "telemetry_record", records=[{**METRIC, "time": time.time_ns()}])
        assert (await call(reader, "telemetry_alerts", rule=rule))["tested"]["would_fire"]
        with pytest.raises(InvalidArgument, match="exclude each other"):
            await call(reader, "telemetry_alerts", name="hot", rule=rule)
        assert "telemetry_alert" not in [tool.name for tool in (await reader.list_tools()).tools]


@pytest.mark.parametrize("era", ERAS)
async def test_subscribers_are_told_when_it_fires(server: HubServer, era: str) -> None:
    uri = "telemetry://alerts/hot"
    told = anyio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            assert str(message.params.uri) == uri
            told.set()

    async with Client(server, mode=era, message_handler=on_message) as client:
        await call(client, "telemetry_alert", action="set", name="hot", rule=RULE)
        record = {**METRIC, "time": time.time_ns()}
        if era == "legacy":
            with pytest.warns(match="removed"):
                await client.subscribe_resource(uri)
            await call(client, "telemetry_record", records=[record])
            with anyio.fail_after(20):
                await told.wait()
        else:
            async with client.listen(resource_subscriptions=[uri]) as notices:
                await call(client, "telemetry_record", records=[record])
                with anyio.fail_after(20):
                    async for notice in notices:
                        if getattr(notice, "uri", None) == uri:
                            break
        read = await client.read_resource(uri)
        assert '"state":"firing"' in read.contents[0].text  # type: ignore[union-attr]

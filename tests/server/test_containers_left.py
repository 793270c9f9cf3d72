"""What hub processes leave on the engine when they end, each in its way."""

import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio import run_process, to_thread
from mcp import Client

from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.containers.labels import NAME
from mcp_hub.services.hub import Hub
from tests.engine import hub_containers
from tests.processes import hub_environment, stdio_client
from tests.waiting import eventually

from .serving import serving, wait_until_ready


@pytest.fixture
def settings(tmp_path: Path, engine_url: str, python_image: str) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        roots=[tmp_path],
        training={"autostart_worker": False},
        containers={"engine_url": engine_url, "egress_image": python_image},
    )


@pytest.fixture
async def shared(settings: Settings, python_image: str) -> AsyncIterator[Settings]:
    """A data directory in which `slow` and `counter` are deployed; nothing is left of them."""
    async with open_hub(settings) as hub:
        for name in ("slow", "counter"):
            await deploy(hub, python_image, name)
    yield settings
    async with open_hub(settings) as hub:
        containers = await hub.containers()
        for one in (await containers.showing.list()).items:
            await containers.deploying.remove(one.name)
    assert hub_containers(settings) == []


async def deploy(hub: Hub, image: str, name: str, **more: Any) -> None:
    given = {"name": name, "image": image, "stop_grace_s": 1}
    given["command"] = ["python3", f"/servers/{name}.py"]
    await (await hub.containers()).deploying.deploy(given | more, by="tests", admin=True)


def environment(settings: Settings) -> dict[str, str]:
    folder, engine = settings.data_dir.parent, settings.containers.engine
    return hub_environment(folder, MCP_HUB_CONTAINERS__ENGINE_URL=engine)


async def count(client: Client) -> None:
    await client.call_tool("container_call", {"name": "counter", "tool": "increment"})


def names(settings: Settings) -> list[str]:
    return [one["Labels"][NAME] for one in hub_containers(settings)]


async def test_the_last_hub_stops_all_but_what_runs_always(
    shared: Settings, python_image: str
) -> None:
    async with open_hub(shared) as hub:
        await deploy(hub, python_image, "asker", strategy="always_on")
        calling = (await hub.containers()).calling
        await calling.call("counter", "increment", {})
        await calling.call("asker", "greet", {})
        assert sorted(names(shared)) == ["asker", "counter"]
    assert names(shared) == ["asker"]


async def over_stdio(settings: Settings) -> None:
    async with stdio_client(environment(settings)) as client:
        await count(client)
        assert names(settings) == ["counter"]


async def at_a_shell(settings: Settings) -> None:
    command = [sys.executable, "-m", "mcp_hub", "containers", "call", "counter", "increment"]
    done = await run_process(command, env=environment(settings))
    assert b'"structuredContent"' in done.stdout


async def over_http(settings: Settings) -> None:
    with serving(environment(settings)) as served:
        await to_thread.run_sync(wait_until_ready, served)
        asked = {"tool": "increment"}
        async with httpx2.AsyncClient(base_url=served.url, timeout=60) as http:
            assert (await http.post("/api/containers/counter/call", json=asked)).is_success
        assert names(settings) == ["counter"]
        served.process.send_signal(signal.SIGTERM)
        await to_thread.run_sync(served.process.wait, 20)


@pytest.mark.parametrize("way", [over_stdio, at_a_shell, over_http])
async def test_a_process_that_ends_in_order_leaves_no_container(
    shared: Settings, way: Callable[[Settings], Any]
) -> None:
    await way(shared)
    assert names(shared) == []


async def test_who_leaves_hands_over_once_the_calls_of_others_are_answered(
    shared: Settings,
) -> None:
    async with open_hub(shared) as hub:
        calling = (await hub.containers()).calling
        answered: list[dict[str, Any]] = []

        async def work() -> None:
            asked = {"seconds": 1.0, "steps": 2}
            answered.append(await calling.call("slow", "work", asked))

        async def started() -> bool:
            found = await calling.call("slow", "outcomes", {})
            return bool(found["structuredContent"]["started"])

        async with anyio.create_task_group() as tasks, stdio_client(environment(shared)) as client:
            await client.call_tool("container_call", {"name": "slow", "tool": "outcomes"})
            tasks.start_soon(work)
            await eventually(started)
        assert answered[0]["structuredContent"] == {"result": 2}
        with anyio.fail_after(5):
            found = await calling.call("slow", "outcomes", {})
        assert found["structuredContent"] == {"started": 1, "cancelled": 0, "finished": 1}

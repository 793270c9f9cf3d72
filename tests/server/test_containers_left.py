"""What hub processes leave on the engine when they end, each in its way."""

import json
import signal
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from anyio import to_thread
from mcp import Client

from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.containers.labels import HUB, NAME
from mcp_hub.services.hub import Hub
from tests.engine import ask_engine, hub_containers
from tests.processes import hub_environment, stdio_client
from tests.waiting import eventually

from .serving import serving, wait_until_ready


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, engine_url: str, python_image: str
) -> Settings:
    folder = tmp_path_factory.mktemp("hub")
    return Settings(
        data_dir=folder / "data",
        roots=[folder],
        training={"autostart_worker": False},
        containers={"engine_url": engine_url, "egress_image": python_image},
    )


@pytest.fixture(scope="module")
async def shared(settings: Settings, python_image: str) -> Settings:
    """A data directory in which `slow` and `counter` are deployed, and no hub runs."""
    async with open_hub(settings) as hub:
        for name in ("slow", "counter"):
            await deploy(hub, python_image, name)
    return settings


async def deploy(hub: Hub, image: str, name: str, file: str = "", **more: Any) -> None:
    given: dict[str, Any] = {"name": name, "image": image, "stop_grace_s": 1}
    given["command"] = ["python3", f"/servers/{file or name}.py"]
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
    async with open_hub(shared) as hub:
        await (await hub.containers()).deploying.remove("asker")
    assert names(shared) == []


async def over_stdio(settings: Settings) -> None:
    async with stdio_client(environment(settings)) as client:
        await count(client)
        assert names(settings) == ["counter"]


async def over_http(settings: Settings) -> None:
    with serving(environment(settings)) as served:
        await to_thread.run_sync(wait_until_ready, served)
        asked = {"tool": "increment"}
        async with httpx2.AsyncClient(base_url=served.url, timeout=60) as http:
            assert (await http.post("/api/containers/counter/call", json=asked)).is_success
        assert names(settings) == ["counter"]
        served.process.send_signal(signal.SIGTERM)
        await to_thread.run_sync(served.process.wait, 20)


@pytest.mark.parametrize("way", [over_stdio, over_http])
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


async def test_what_a_session_has_to_itself_ends_with_it(
    shared: Settings, python_image: str
) -> None:
    asked = {"name": "own", "tool": "increment"}
    async with open_hub(shared) as hub:
        # As the first process of its container, Python ends by no signal but the last: a hub that
        # ends does not wait for that as long as the spec says.
        await deploy(hub, python_image, "own", "counter", state="per_session", stop_grace_s=60)
        await deploy(hub, python_image, "brief", "counter", state="per_session")

        async def nothing_runs() -> bool:
            return not await to_thread.run_sync(names, shared)

        # A stdio client's, also those that it names, with its process; others could go on with it.
        async with stdio_client(environment(shared)) as client:
            for session in (None, "mine"):
                await client.call_tool("container_call", {**asked, "session": session})
            assert names(shared) == ["own", "own"]
        await eventually(nothing_runs)

        # That of an HTTP session when the client deletes it, as it does when it leaves.
        with serving(environment(shared)) as served:
            await to_thread.run_sync(wait_until_ready, served)
            async with Client(f"{served.url}/mcp", mode="legacy") as client:
                await client.call_tool("container_call", {**asked, "name": "brief"})
                assert names(shared) == ["brief"]
            await eventually(nothing_runs)


async def test_gates_go_with_the_last_hub(
    shared: Settings, python_image: str, engine_url: str
) -> None:
    def networks() -> list[str]:
        found = json.loads(ask_engine(engine_url, "GET", "/networks"))
        return [one["Name"] for one in found if one["Labels"].get(HUB) == hub_id]

    async with open_hub(shared) as hub:
        await deploy(
            hub, python_image, "web", transport="http", network="internal", memory_mb=512,
            start_timeout_s=60,
        )  # fmt: skip
        calling = (await hub.containers()).calling
        await calling.call("web", "increment", {})
        assert names(shared) == ["web", "web"]
        hub_id = hub_containers(shared)[0]["Labels"][HUB]
        assert len(networks()) == 2
    assert names(shared) == []
    assert networks() == []

"""What instances stand on goes away and comes back: the engine, and the database."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from anyio import to_thread

from mcp_hub.adapters.errors import HubError, Unavailable
from tests.containers.images import TINY
from tests.engine import add_tiny, end_engine, start_engine
from tests.proxy import Proxy
from tests.servers import Server
from tests.services.containers.instances.hubs import Hub, Place, open_hub, place_of
from tests.waiting import eventually

SHELL = (Path(__file__).parent / "shell_server.sh").read_text()
COMMAND = ("sh", "-c", SHELL)


@pytest.fixture
def own_engine() -> Iterator[Server]:
    """An engine of the test's own, to be stopped."""
    # The socket's path must be short.
    with TemporaryDirectory(prefix="mcp-hub-engine-") as folder:
        server = start_engine(Path(folder) / "engine")
        add_tiny(server.url)
        yield server
        end_engine(Path(folder) / "engine")
        server.stop()


@pytest.fixture
async def hub(tmp_path: Path, own_engine: Server) -> AsyncIterator[Hub]:
    async with place_of(tmp_path, own_engine.url, TINY) as place, open_hub(place) as hub:
        yield hub


async def test_an_engine_that_stops_in_a_call_and_returns(hub: Hub, own_engine: Server) -> None:
    await hub.deploy("called", command=COMMAND)
    await hub.deploy("ever", command=COMMAND, strategy="always_on")
    assert (await hub.call("called"))["count"] == 1
    await hub.call("ever")
    raised: list[HubError] = []

    async def cut_off() -> None:
        try:
            await hub.call("called", "sleep")
        except Unavailable as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut_off)
        await eventually(lambda: bool(hub.instances._calls))
        await to_thread.run_sync(own_engine.stop, signal.SIGKILL)
    assert len(raised) == 1
    with pytest.raises(Unavailable):
        await hub.call("called")
    await to_thread.run_sync(own_engine.start)
    await eventually(lambda: answers(hub, "called"), within_s=30)
    await eventually(lambda: answers(hub, "ever"), within_s=30)

    async def is_as_deployed() -> bool:
        names = sorted(one.labels["mcp-hub.name"] for one in await hub.containers())
        return names == ["called", "ever"]

    await eventually(is_as_deployed, within_s=30)


async def answers(hub: Hub, name: str) -> bool:
    try:
        return bool((await hub.call(name))["count"])
    except HubError:
        return False


async def test_a_database_that_is_away_for_a_while(
    postgres_server: Server, postgres_url: str, tmp_path: Path, engine_url: str
) -> None:
    proxy = Proxy(postgres_server.port)
    async with (
        proxy.running(),
        place_of(tmp_path, engine_url, TINY, postgres_url) as direct,
    ):
        url = postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        async with open_hub(Place(direct.folder, engine_url, TINY, url)) as hub:
            await hub.deploy("one", command=COMMAND, idle_s=0.5)
            await hub.deploy("kept", command=COMMAND)
            assert (await hub.call("kept"))["count"] == 1
            await hub.call("one")
            proxy.cut_sending = 1
            with pytest.raises(Unavailable):
                await hub.call("kept")
            # Meanwhile it is to end for idleness, which has to wait.
            await anyio.sleep(1)
            proxy.reset()
            assert (await eventually_called(hub, "kept")) == 2

            async def one_is_gone() -> bool:
                return [row["name"] for row in await hub.rows()] == ["kept"]

            await eventually(one_is_gone)
            assert (await hub.call("one"))["count"] == 1


async def eventually_called(hub: Hub, name: str) -> int:
    with anyio.fail_after(20):
        while True:
            try:
                return int((await hub.call(name))["count"])
            except Unavailable:
                await anyio.sleep(0.1)

"""Networks and gates on a real engine: what is reached through them, and what by no way."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import pytest

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import ContainerConfig
from mcp_hub.adapters.errors import Conflict, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.egress.networks import DeploymentNetwork, Egress, gate_url
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.wire.channel import Channel
from mcp_hub.services.containers.wire.http import http_stream
from mcp_hub.services.containers.wire.negotiating import open_session
from mcp_hub.services.containers.wire.sessions import Session
from tests.containers.images import TINY
from tests.engine import ask_engine

# Asks for each URL through the proxy that it was given, and directly; all at once.
_PROBE = """
import json, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(case):
    url, way = case
    handlers = [urllib.request.ProxyHandler({})] if way == "direct" else []
    try:
        return urllib.request.build_opener(*handlers).open(url, timeout=2).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}"
    except OSError:
        return "unreachable"

cases = [(url, way) for url in sys.argv[1:] for way in ("proxied", "direct")]
with ThreadPoolExecutor(20) as pool:
    print(json.dumps([[*case, said] for case, said in zip(cases, pool.map(ask, cases))]))
"""
_SAID = "the machine's own"
_CLIENT = {"name": "tests", "version": "1"}


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(_SAID.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def machine_port() -> Iterator[int]:
    """The port of a server that listens on all addresses of the engine's machine."""
    server = ThreadingHTTPServer(("0.0.0.0", 0), _Answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


class Lab:
    """A hub's networks on an engine, and programs on them."""

    def __init__(self, url: str, image: str) -> None:
        self.hub = f"t{uuid4().hex[:8]}"
        self.url = url
        self.image = image
        self.engine = DockerEngine(url)
        self.egress = Egress(self.engine, hub=self.hub, image=image)
        self.started: list[str] = []

    async def run(self, network: DeploymentNetwork | str, *command: str) -> str:
        """Start a program on a network; its container's id."""
        name = network if isinstance(network, str) else network.name
        env = {} if isinstance(network, str) else network.env
        container = await self.engine.create(
            ContainerConfig(
                f"test-{uuid4().hex}", self.image, entrypoint=command, command=(), env=env,
                network=name,
            )
        )  # fmt: skip
        self.started.append(container)
        await self.engine.start(container)
        return container

    async def probe(
        self, network: DeploymentNetwork | str, *urls: str
    ) -> dict[tuple[str, str], str]:
        """What a container on a network gets, by URL and way."""
        container = await self.run(network, "python3", "-c", _PROBE, *urls)
        lines = [line.text async for line in self.engine.logs(container, follow=True)]
        return {(url, way): said for url, way, said in json.loads(lines[-1])}

    async def gateway(self, network: str) -> str:
        """The address that the engine's machine has on a network, or would have."""
        text = await asyncio.to_thread(ask_engine, self.url, "GET", f"/networks/{network}")
        return str(json.loads(text)["IPAM"]["Config"][0]["Gateway"])

    async def gate_of(self, name: str, revision: int = 1) -> str:
        gate = await self.engine.inspect(f"mcphub-{self.hub}-gate-{name}-{revision}")
        return gate.id

    async def clear(self) -> None:
        for container in self.started:
            await self.engine.remove(container)
        for name, revision in await self.egress.revisions():
            await self.egress.remove(name, revision)
        await self.engine.remove_network(f"mcphub-{self.hub}-out")
        await self.engine.close()


@pytest.fixture
async def lab(engine_url: str, python_image: str) -> AsyncIterator[Lab]:
    lab = Lab(engine_url, python_image)
    yield lab
    await lab.clear()


def _spec(network: Any, name: str = "one", **more: Any) -> ContainerSpec:
    return ContainerSpec(name=name, image="any", network=network, **more)


async def test_the_hosts_of_the_list_are_reached_and_nothing_else(
    lab: Lab, machine_port: int
) -> None:
    await lab.egress.ensure(_spec(("elsewhere.example",), "other"), 1)
    out = await lab.gateway(f"mcphub-{lab.hub}-out")
    network = await lab.egress.ensure(_spec((f"{out}:{machine_port}", "api.example")), 1)
    assert network.name is not None
    plain = f"mcphub-{lab.hub}-net-plain-1"
    labels = {"mcp-hub.hub": lab.hub, "mcp-hub.role": "proxy"}
    await lab.engine.create_network(plain, labels, internal=True)

    listed = f"http://{out}:{machine_port}/"
    own = f"http://{await lab.gateway(network.name)}:{machine_port}/"
    engines = f"http://{await lab.gateway('bridge')}:{machine_port}/"
    name = "http://evil.example/"
    found = await lab.probe(network, listed, own, engines, name)
    assert found[listed, "proxied"] == _SAID
    assert {said for (_, way), said in found.items() if way == "direct"} == {"unreachable"}
    for url in (own, engines, name):
        assert found[url, "proxied"].startswith("403 "), url
        assert "is not in this deployment's list of hosts" in found[url, "proxied"]
    log = [line.text async for line in lab.engine.logs(await lab.gate_of("one"))]
    assert sum(line.startswith("refused GET http://evil.example/ from ") for line in log) == 1

    # The same program does reach the machine from an internal network as engines make it.
    exposed = await lab.probe(plain, f"http://{await lab.gateway(plain)}:{machine_port}/")
    assert set(exposed.values()) == {_SAID}
    # On the way out, one deployment's gate is no way for another's.
    gate = await lab.engine.inspect(await lab.gate_of("one"))
    out_name = f"mcphub-{lab.hub}-out"
    env = {"http_proxy": f"http://{gate.addresses[out_name]}:3128"}
    found = await lab.probe(DeploymentNetwork(out_name, env, None), listed)
    # Where the machine's firewall lets bridged packets through, the gate itself says no.
    assert found[listed, "proxied"] in ("unreachable", "403 only the hub comes in by this address")


async def test_the_hub_reaches_a_server_that_does_not_reach_the_machine(
    lab: Lab, machine_port: int
) -> None:
    network = await lab.egress.ensure(_spec("internal", transport="http"), 1)
    assert network.env == {}
    assert network.proxy is not None
    server = await lab.run(network, "python3", "/servers/web.py", "8000")
    assert network.name is not None
    address = (await lab.engine.inspect(server)).addresses[network.name]
    assert await gate_url(lab.engine, hub=lab.hub, name="one", revision=1) == network.proxy
    url = f"http://{address}:8000/mcp"
    async with http_stream(url, start_timeout_s=30, proxy=network.proxy) as stream:
        channel = Channel(stream)
        async with in_background(channel.run):
            info = await open_session(channel, client=_CLIENT, timeout_s=30)
            session = Session(channel, info, _CLIENT)
            params = {"name": "echo", "arguments": {"text": "through"}}
            answer = await session.request("tools/call", params, timeout_s=30)
    assert answer["content"][0]["text"] == "through"

    gate = urlsplit(network.proxy).hostname
    out = await lab.gateway(f"mcphub-{lab.hub}-out")
    async with httpx2.AsyncClient(proxy=network.proxy, trust_env=False) as client:
        for refused in (f"{out}:{machine_port}", f"{gate}:3128", "127.0.0.1:3128", "any.example"):
            assert (await client.get(f"http://{refused}/")).status_code == 403, refused
    found = await lab.probe(
        network, f"http://{out}:{machine_port}/", "http://mcp-hub-gate:3128/", "http://192.0.2.1/"
    )
    told = found.pop(("http://mcp-hub-gate:3128/", "direct"))
    assert told.startswith("400 this is a proxy")
    assert found.pop(("http://mcp-hub-gate:3128/", "proxied")) == told
    assert set(found.values()) == {"unreachable"}


async def test_many_at_once_make_one_gate_and_it_is_removed_with_its_network(lab: Lab) -> None:
    spec = _spec(("api.example.com",), transport="http")
    engines = [DockerEngine(lab.url) for _ in range(6)]
    hubs = [Egress(engine, hub=lab.hub, image=lab.image) for engine in engines]
    made = await asyncio.gather(*(hub.ensure(spec, 1) for hub in hubs))
    assert len({str(one) for one in made}) == 1
    labels = {"mcp-hub.hub": lab.hub, "mcp-hub.role": "proxy"}
    (gate,) = await lab.engine.containers(labels)
    assert await lab.engine.networks(labels) == [made[0].name]
    assert await lab.egress.revisions() == {("one", 1)}

    # A gate that ended is started again by who needs it next.
    await lab.engine.stop(gate.id, grace_s=5)
    assert (await lab.engine.inspect(gate.id)).exit_code == 0
    assert await hubs[1].ensure(spec, 1) == made[0]
    assert (await lab.engine.inspect(gate.id)).status == "running"

    user = await lab.run(made[0], "python3", "-c", "input()")
    await lab.engine.stop(user, grace_s=0)
    waiting = await lab.run(made[0], "sleep", "60")
    with pytest.raises(Conflict):
        await lab.egress.remove("one", 1)
    await lab.engine.remove(waiting)
    await lab.egress.remove("one", 1)
    assert await lab.egress.revisions() == set()
    await lab.egress.remove("one", 1)
    for engine in engines:
        await engine.close()


async def test_a_deployment_has_no_more_than_it_asks_for(lab: Lab) -> None:
    nothing = await lab.egress.ensure(_spec("none"), 1)
    assert nothing == DeploymentNetwork(None, {}, None)
    assert await lab.egress.revisions() == set()
    alone = await lab.egress.ensure(_spec("internal"), 3)
    assert (alone.env, alone.proxy) == ({}, None)
    assert await lab.egress.revisions() == {("one", 3)}
    assert await lab.engine.containers({"mcp-hub.hub": lab.hub}) == []


async def test_an_image_that_cannot_run_the_gate_is_told(lab: Lab) -> None:
    spec = _spec(("api.example.com",))
    with pytest.raises(Unavailable, match="no image for the proxy"):
        await Egress(lab.engine, hub=lab.hub, image=None).ensure(spec, 1)
    with pytest.raises(Unavailable, match="cannot be run") as raised:
        await Egress(lab.engine, hub=lab.hub, image=TINY).ensure(spec, 1)
    assert "needs Python 3.11" in str(raised.value.hint)

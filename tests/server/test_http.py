"""`mcp-hub serve`: who is let in, how the hub is, when it starts and how it stops."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.server.auth import StaticTokens
from mcp_hub.server.http import MAX_BODY, is_loopback, serve
from mcp_hub.server.settings import Settings
from mcp_hub.server.settings_sections import TokenSettings
from tests.processes import call, hub_environment
from tests.proxy import Proxy
from tests.servers import Server
from tests.waiting import eventually

from .conftest import ERAS
from .serving import Served, serving

TOKENS = {"reader": "r" * 20, "writer": "w" * 20}
JSON_ONLY = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on loopback, which needs no token."""
    with serving(hub_environment(tmp_path_factory.mktemp("open"))) as served:
        yield served


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a token that may read and one that may write."""
    variables = {
        "MCP_HUB_AUTH__TOKENS__READER__TOKEN": TOKENS["reader"],
        "MCP_HUB_AUTH__TOKENS__READER__SCOPES": "read",
        "MCP_HUB_AUTH__TOKENS__WRITER__TOKEN": TOKENS["writer"],
        "MCP_HUB_AUTH__TOKENS__WRITER__SCOPES": "read,write",
    }
    with serving(hub_environment(tmp_path_factory.mktemp("guarded"), **variables)) as served:
        yield served


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[name]}"}


@asynccontextmanager
async def connected(served: Served, era: str, name: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=bearer(name)) as http,
        Client(streamable_http_client(f"{served.url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


async def ready(served: Served, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(headers=headers) as http:
        return await http.get(f"{served.url}/ready")


async def test_it_says_how_it_is(open_server: Served) -> None:
    await eventually(lambda: _is_ready(open_server))
    async with httpx2.AsyncClient() as http:
        health = await http.get(f"{open_server.url}/health")
        assert (await http.get(f"{open_server.url}/ready")).json() == {"status": "ready"}
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    names = {"database", "blobs", "queue", "bus", "disk", "telemetry"}
    assert health.json()["adapters"].keys() == names


async def _is_ready(served: Served) -> bool:
    return (await ready(served)).status_code == 200


async def test_it_is_not_ready_before_the_database_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "hub.db").mkdir()  # what SQLite cannot open
    with serving(hub_environment(tmp_path)) as served:
        response = await ready(served)
        assert (response.status_code, response.json()) == (503, {"status": "starting"})
        await eventually(lambda: any("Not ready" in line for line in served.log))
        async with httpx2.AsyncClient() as http:
            health = (await http.get(f"{served.url}/health")).json()
        assert (health["status"], health["error"]["code"]) == ("unavailable", "unavailable")
        assert str(data / "hub.db") in health["error"]["message"]
        (data / "hub.db").rmdir()
        await eventually(lambda: _is_ready(served))


@pytest.mark.parametrize("path", ["/mcp", "/health", "/ready"])
@pytest.mark.parametrize(
    "headers",
    [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"host": "127.0.0.1.x"}],
)
async def test_a_page_of_the_web_is_refused(
    open_server: Served, path: str, headers: dict[str, str]
) -> None:
    async with httpx2.AsyncClient(headers=headers) as http:
        response = await http.get(f"{open_server.url}{path}")
    assert response.status_code in {403, 421}


async def test_a_body_has_a_limit(open_server: Served) -> None:
    async with httpx2.AsyncClient(headers=JSON_ONLY) as http:
        response = await http.post(
            f"{open_server.url}/mcp",
            content=b" " * (MAX_BODY + 1),
            headers={"content-type": "application/json"},
        )
    assert response.status_code == 413


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic cjpy"])
async def test_without_a_known_token_there_is_no_mcp(
    guarded: Served, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx2.AsyncClient(headers=headers) as http:
        response = await http.post(f"{guarded.url}/mcp", json={})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_health_tells_strangers_no_details(guarded: Served) -> None:
    await eventually(lambda: _is_ready(guarded))
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{guarded.url}/health")).json() == {"status": "ok"}
        known = await http.get(f"{guarded.url}/health", headers=bearer("reader"))
    assert "database" in known.json()["adapters"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_that_may_read_sees_and_calls_what_changes_nothing(
    guarded: Served, era: str
) -> None:
    async with connected(guarded, era, "reader") as client:
        tools = (await client.list_tools()).tools
        assert tools
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        prompts = [p.name for p in (await client.list_prompts()).prompts]
        assert prompts == ["diagnose_job", "investigate_incident"]
        assert (await call(client, "dataset_list"))["items"] == []
        refused = await client.call_tool("dataset_register", {"name": "d", "content": "a\n1\n"})
        assert isinstance(refused, CallToolResult)
        assert refused.is_error
        error = json.loads(refused.content[0].text)  # type: ignore[union-attr]
        assert error["code"] == "denied"
        assert "write" in error["hint"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_that_may_write_may_do_all(guarded: Served, era: str) -> None:
    async with connected(guarded, era, "writer") as client:
        assert "model_delete" in {tool.name for tool in (await client.list_tools()).tools}
        await call(client, "dataset_register", name=f"d-{era}", content="a,b\n1,2\n")
        frameworks = (await call(client, "training_frameworks"))["items"]
        assert {f["name"] for f in frameworks if f["available"]} >= {"sklearn"}


@pytest.mark.parametrize("era", ERAS)
async def test_programs_are_not_run_for_whoever_reaches_it(guarded: Served, era: str) -> None:
    async with connected(guarded, era, "writer") as client:
        await call(client, "dataset_register", name=f"p-{era}", content="a,b\n1,2\n")
        (script,) = (
            framework
            for framework in (await call(client, "training_frameworks"))["items"]
            if framework["name"] == "script"
        )
        assert "MCP_HUB_TRAINING__SCRIPTS" in script["missing"]
        refused = await client.call_tool(
            "training_submit",
            {
                "name": "mine", "type": "other", "framework": "script", "dataset": f"p-{era}",
                "config": {"program": "train.py"},
            },
        )  # fmt: skip
        assert isinstance(refused, CallToolResult)
        error = json.loads(refused.content[0].text)  # type: ignore[union-attr]
        assert error["code"] == "denied"
        assert "training.scripts" in error["hint"]


async def test_a_session_belongs_to_its_token(guarded: Served) -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(headers=JSON_ONLY) as http:
        url = f"{guarded.url}/mcp"
        opened = await http.post(url, json=initialize, headers=bearer("writer"))
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        stolen = await http.post(url, json=listing, headers=session | bearer("reader"))
        assert stolen.status_code == 404


async def test_tokens_are_known_by_their_names() -> None:
    tokens = StaticTokens(
        {
            "a": TokenSettings(token="a" * 16, scopes=["read"]),
            "b": TokenSettings(token="b" * 16, scopes=["read", "write"]),
        }
    )
    found = await tokens.verify_token("b" * 16)
    assert found is not None
    assert (found.client_id, found.scopes) == ("b", ["read", "write"])
    for wrong in ("", "a", "a" * 15, "a" * 17, "ä" * 16, "\N{GRINNING FACE}"):
        assert await tokens.verify_token(wrong) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
async def test_it_does_not_expose_a_hub_without_tokens(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path, roots=[tmp_path], host=host, port=0)
    with pytest.raises(InvalidArgument, match="Without a token") as caught:
        await serve(settings)
    assert "MCP_HUB_AUTH__TOKENS__" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.x", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(data_dir=tmp_path, roots=[tmp_path], port=port)
        with pytest.raises(Conflict, match=f"Port {port} of 127.0.0.1 is taken"):
            await serve(settings)


async def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    tokens = {"t": {"token": "t" * 16, "scopes": ["read"]}}
    settings = Settings(
        data_dir=tmp_path, roots=[tmp_path], host="192.0.2.1", port=0, auth={"tokens": tokens}
    )
    with pytest.raises(InvalidArgument, match=r"cannot listen on 192\.0\.2\.1"):
        await serve(settings)


def test_a_wrong_folder_ends_it_with_one_line(tmp_path: Path) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_ROOTS=str(tmp_path / "nowhere"))
    done = subprocess.run(
        [sys.executable, "-m", "mcp_hub", "serve", "--port", "0"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "error: The root" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_in_order_though_streams_are_open(
    tmp_path: Path, number: signal.Signals
) -> None:
    ended: list[Any] = []
    with serving(hub_environment(tmp_path)) as served:
        async with (
            Client(f"{served.url}/mcp") as modern,
            modern.listen(resource_subscriptions=["models://a"]) as subscription,
            httpx2.AsyncClient() as http,
            http.stream("GET", f"{served.url}/health"),
        ):

            async def hear() -> None:
                ended.extend([event async for event in subscription])
                ended.append("closed in order")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hear)
                served.process.send_signal(number)
                await eventually(lambda: served.process.poll() is not None)
        assert served.process.returncode == 0
        assert ended == ["closed in order"]
    assert "Traceback" not in "".join(served.log)


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_in_flight_is_answered_and_new_ones_are_refused(
    tmp_path: Path, s3_server: Server, era: str
) -> None:
    answers: list[Any] = []
    async with Proxy(s3_server.port).running() as proxy:
        url = s3_server.url.replace(f":{s3_server.port}/hub?", f":{proxy.port}/drained?")
        with serving(hub_environment(tmp_path, MCP_HUB_BLOBS_URL=url)) as served:
            await eventually(lambda: _is_ready(served))
            async with Client(f"{served.url}/mcp", mode=era) as client:
                await call(client, "dataset_register", name="before", content="a\n1\n")

                async def register() -> None:
                    content = "a\n2\n"
                    answers.append(
                        await call(client, "dataset_register", name="slow", content=content)
                    )

                proxy.reset()
                proxy.flows.clear()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(register)
                    await eventually(lambda: proxy.sent > 0)
                    served.process.send_signal(signal.SIGTERM)
                    await eventually(lambda: _refuses(served))
                    assert not answers
                    assert served.process.poll() is None
                    proxy.flows.set()
                assert answers[0]["dataset"] == "slow:1"
                await eventually(lambda: served.process.poll() is not None)
            assert served.process.returncode == 0
        assert "Traceback" not in "".join(served.log)


async def _refuses(served: Served) -> bool:
    """Whether it takes no further connection, or drops one that came as it stopped to."""
    try:
        await ready(served)
    except httpx2.TransportError:
        return True
    return False


@pytest.mark.parametrize("era", ERAS)
async def test_who_waits_for_a_job_is_told_how_it_stands_when_the_server_stops(
    tmp_path: Path, era: str
) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_TRAINING__AUTOSTART_WORKER="false")
    with serving(environment) as served:
        async with Client(f"{served.url}/mcp", mode=era) as client:
            await call(client, "dataset_register", name="d", content="x,y\n1,a\n2,b\n")
            job = await call(
                client, "training_submit", name="m", type="probe", framework="probe", dataset="d"
            )
            follows = anyio.Event()
            told: list[Any] = []

            async def follow(*_progress: Any) -> None:
                follows.set()

            async def wait() -> None:
                arguments = {"job_id": job["job_id"], "wait_s": 50}
                told.append(
                    await client.call_tool("training_status", arguments, progress_callback=follow)
                )

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await follows.wait()
                began = anyio.current_time()
                served.process.send_signal(signal.SIGTERM)
            assert told[0].structured_content["status"] == "queued"
            await eventually(lambda: served.process.poll() is not None)
            assert anyio.current_time() - began < 10
        assert served.process.returncode == 0

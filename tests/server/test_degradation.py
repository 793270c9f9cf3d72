"""When a server is lost: what goes on, what does not and says why, and that it all comes back.

Each server is stopped, so that connections are refused, or falls silent behind a proxy.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest
from anyio import to_thread
from mcp import Client

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.urls import without_secret
from mcp_hub.migrations import HEAD
from mcp_hub.server.app import create_server
from mcp_hub.server.http import create_app
from mcp_hub.server.lazy_hub import lazy_hub
from mcp_hub.server.settings import URLS, Settings
from tests import servers
from tests.processes import PLUGINS, call, hub_environment, process, start
from tests.proxy import Proxy
from tests.servers import SECRET_KEY, Server, run_sql
from tests.services.onnx_models import IRIS_COLUMNS, iris
from tests.waiting import eventually

POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
ROW = dict.fromkeys(IRIS_COLUMNS, 1.0)
HEALTH_S = 5.0
"""The deadline of a health check."""
LOST_WITH_DATABASE = ["database", "telemetry"]


@dataclass(frozen=True, slots=True)
class Servers:
    database: Server
    redis: Server
    blobs: Server

    def urls(self) -> dict[str, str]:
        return {
            "database_url": self.database.url,
            "redis_url": self.redis.url,
            "blobs_url": self.blobs.url,
        }


@dataclass(frozen=True, slots=True)
class Running:
    """A hub in this process, a client of it, and its HTTP routes."""

    client: Client
    http: httpx2.AsyncClient

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        return await call(self.client, tool, **arguments)

    async def refused(self, tool: str, /, *, within_s: float, **arguments: Any) -> Unavailable:
        """The error of a call that cannot be done, which must come in time and show no secret."""
        with anyio.fail_after(within_s), pytest.raises(Unavailable) as raised:
            await self.call(tool, **arguments)
        assert SECRET_KEY not in f"{raised.value.message} {raised.value.hint}"
        assert raised.value.hint
        return raised.value

    async def health(self) -> dict[str, Any]:
        """What both /health and hub_health say."""
        told: dict[str, Any] = {}

        async def ask() -> None:
            told.update(await self.call("hub_health"))

        with anyio.fail_after(HEALTH_S + 3):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                answer = await self.http.get("/health")
        assert answer.status_code == 200
        assert SECRET_KEY not in answer.text
        report: dict[str, Any] = answer.json()
        assert states(report) == states(told)
        return report

    async def is_well(self) -> bool:
        return bool((await self.health())["status"] == "ok")

    async def ready(self) -> int:
        with anyio.fail_after(HEALTH_S + 1):
            return (await self.http.get("/ready")).status_code

    async def predict(self, model: str) -> str:
        answer = await self.call("predict", model=model, inputs=[ROW])
        return str(answer["model"])

    async def submit(self, **config: Any) -> str:
        submitted = await self.call(
            "training_submit",
            name="probe",
            type="probe",
            framework="probe",
            dataset="points",
            config=config,
        )
        assert submitted["status"] == "queued"
        return str(submitted["job_id"])


@pytest.fixture(scope="module")
def own() -> Iterator[Servers]:
    """Servers that the tests may stop."""
    with TemporaryDirectory(prefix="mcp-hub-degradation-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        started = Servers(
            servers.start_postgres(path / "postgres"),
            servers.start_redis(path / "redis"),
            servers.start_s3(path / "s3"),
        )
        yield started
        for server in (started.database, started.redis, started.blobs):
            server.stop()


@pytest.fixture
async def urls(own: Servers) -> AsyncIterator[dict[str, str]]:
    """The URLs of a database, a Redis database and a bucket of the test's own."""
    name = f"d{uuid4().hex}"
    await run_sql(own.database.url, f"CREATE DATABASE {name}")
    yield own.urls() | {
        "database_url": servers.postgres_url(own.database, name),
        "blobs_url": own.blobs.url.replace("/hub?", f"/{name}?"),
    }
    await run_sql(own.database.url, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def running(folder: Path, urls: dict[str, str]) -> AsyncIterator[Running]:
    """A hub on those servers that has a data set and two models, of which one is loaded."""
    settings = Settings(
        data_dir=folder / "data", roots=[folder], training={"autostart_worker": False}, **urls
    )
    async with lazy_hub(settings) as hub:
        server = create_server(settings, hub, transport="http")
        transport = httpx2.ASGITransport(create_app(settings, hub, server))
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
            Client(server, read_timeout_seconds=60) as client,
        ):
            here = Running(client, http)
            await here.call("dataset_register", name="points", content=POINTS, format="csv")
            for name, regularization in (("loaded", 1.0), ("cold", 0.5)):
                file = folder / f"{name}.onnx"
                file.write_bytes(iris(regularization).onnx)
                await here.call("model_register", name=name, path=file.name)
            await here.predict("loaded")
            assert await here.is_well()
            yield here


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))


@asynccontextmanager
async def away(server: Server) -> AsyncIterator[None]:
    """The server is stopped meanwhile."""
    await to_thread.run_sync(server.stop)
    try:
        yield
    finally:
        await to_thread.run_sync(server.start)


@asynccontextmanager
async def behind_proxy(
    urls: dict[str, str], setting: str, server: Server
) -> AsyncIterator[tuple[dict[str, str], Proxy]]:
    async with Proxy(server.port).running() as proxy:
        url = urls[setting].replace(f":{server.port}", f":{proxy.port}")
        yield urls | {setting: url}, proxy


def states(report: dict[str, Any]) -> dict[str, str]:
    return {name: adapter["status"] for name, adapter in report["adapters"].items()}


def named(report: dict[str, Any], name: str, url: str) -> None:
    """An adapter that fails is named with its URL, without the secret, and a remedy."""
    adapter = report["adapters"][name]
    assert urlless(without_secret(url)) in adapter["detail"]
    assert adapter["hint"]
    assert adapter["latency_ms"] <= HEALTH_S * 1000 + 1000


def urlless(url: str) -> str:
    return url.partition("?")[0]


async def test_health_names_each_server_its_version_and_no_secret(
    tmp_path: Path, urls: dict[str, str]
) -> None:
    async with running(tmp_path, urls) as hub:
        report = await hub.health()
        adapters = report["adapters"]
        assert states(report) == dict.fromkeys(
            ("database", "blobs", "queue", "bus", "disk", "telemetry"), "ok"
        )
        assert adapters["database"]["detail"].startswith("PostgreSQL ")
        assert f"schema {HEAD}" in adapters["database"]["detail"]
        assert adapters["blobs"]["detail"].startswith("SeaweedFS")
        assert adapters["queue"]["detail"].startswith("BullMQ on Redis ")
        assert adapters["bus"]["detail"].startswith("Redis ")
        servers = ("database", "blobs", "queue", "bus")
        for name, key in zip(servers, (URLS[0], URLS[2], URLS[1], URLS[1]), strict=True):
            assert urlless(without_secret(urls[key])) in adapters[name]["detail"]
            assert any(
                digit in adapters[name]["detail"].partition(",")[0] for digit in "0123456789"
            )
            assert 0 < adapters[name]["latency_ms"] < HEALTH_S * 1000
            assert adapters[name]["hint"] is None
        assert await hub.ready() == 200


async def test_without_redis_jobs_wait_in_their_rows_and_the_rest_goes_on(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    variables = {f"MCP_HUB_{key.upper()}": url for key, url in urls.items()}
    environment = hub_environment(tmp_path, MCP_HUB_TRAINING__AUTOSTART_WORKER="false", **variables)
    async with running(tmp_path, urls) as hub, anyio.create_task_group() as tasks:
        heard: list[str] = []

        with process(environment, "worker"):
            before = await hub.submit()
            await eventually(lambda: has_ended(hub, before), within_s=60)
            async with hub.client.listen(resource_subscriptions=["models://probe"]) as listening:

                async def hear() -> None:
                    async for event in listening:
                        heard.append(event.uri)

                tasks.start_soon(hear)
                async with away(own.redis):
                    assert await hub.predict("loaded") == "loaded:1"
                    assert await hub.predict("cold") == "cold:1"
                    assert (await hub.call("model_list"))["items"]
                    assert (await hub.call("dataset_list"))["items"]
                    with anyio.fail_after(20):
                        job = await hub.submit()
                    with anyio.fail_after(10):
                        view = await hub.call("training_status", job_id=job, wait_s=1)
                    assert view["status"] == "queued"
                    await hub.call("dataset_register", name="more", content=POINTS, format="csv")
                    report = await hub.health()
                    assert report["status"] == "degraded"
                    failing = {name for name, state in states(report).items() if state != "ok"}
                    assert failing == {"queue", "bus"}
                    for name in failing:
                        named(report, name, urls["redis_url"])
                    assert await hub.ready() == 200
                await eventually(lambda: has_ended(hub, job), within_s=60)
                await eventually(hub.is_well)

                async def is_told() -> bool:
                    """By the worker's process, at the end of another job."""
                    last = await hub.submit()
                    await eventually(lambda: has_ended(hub, last))
                    return "models://probe" in heard

                await eventually(is_told)
            tasks.cancel_scope.cancel()


async def has_ended(hub: Running, job: str) -> bool:
    status = (await hub.call("training_status", job_id=job))["status"]
    assert status in {"queued", "running", "succeeded"}
    return bool(status == "succeeded")


async def test_a_silent_redis_keeps_nobody_long(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    async with (
        behind_proxy(urls, "redis_url", own.redis) as (urls, proxy),
        running(tmp_path, urls) as hub,
    ):
        proxy.answers = False
        with anyio.fail_after(2):
            assert await hub.predict("loaded") == "loaded:1"
            assert await hub.ready() == 200
        with anyio.fail_after(12):
            job = await hub.submit()
        with anyio.fail_after(2):
            assert (await hub.call("training_status", job_id=job))["status"] == "queued"
        report = await hub.health()
        assert states(report) == {
            "database": "ok", "blobs": "ok", "queue": "failing", "bus": "failing",
            "disk": "ok", "telemetry": "ok",
        }  # fmt: skip
        for name in ("queue", "bus"):
            named(report, name, urls["redis_url"])
        proxy.answers = True
        await eventually(hub.is_well, within_s=60)


async def test_without_the_bucket_what_is_loaded_goes_on(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    async with running(tmp_path, urls) as hub:
        async with away(own.blobs):
            assert await hub.predict("loaded") == "loaded:1"
            assert (await hub.call("model_list"))["items"]
            job = await hub.submit()
            assert (await hub.call("training_status", job_id=job))["status"] == "queued"
            assert await hub.ready() == 200
            cold = await hub.refused("predict", within_s=30, model="cold", inputs=[ROW])
            new = await hub.refused("dataset_register", within_s=30, name="n", content="a\n1\n")
            for error in (cold, new):
                assert urlless(without_secret(urls["blobs_url"])) in error.message
            report = await hub.health()
            assert [n for n, state in states(report).items() if state != "ok"] == ["blobs"]
            named(report, "blobs", urls["blobs_url"])
        await eventually(hub.is_well)
        assert await hub.predict("cold") == "cold:1"


async def test_a_silent_bucket_stops_nothing_that_needs_none(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    async with (
        behind_proxy(urls, "blobs_url", own.blobs) as (urls, proxy),
        running(tmp_path, urls) as hub,
    ):
        proxy.answers = False
        with anyio.fail_after(2):
            assert await hub.predict("loaded") == "loaded:1"
            assert await hub.ready() == 200
        report = await hub.health()
        assert [n for n, state in states(report).items() if state != "ok"] == ["blobs"]
        named(report, "blobs", urls["blobs_url"])
        proxy.answers = True
        await eventually(hub.is_well)
        assert await hub.predict("cold") == "cold:1"


async def test_without_the_database_the_hub_says_so_and_comes_back(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    async with running(tmp_path, urls) as hub:
        async with away(own.database):
            error = await hub.refused("model_list", within_s=20)
            assert urlless(without_secret(urls["database_url"])) in error.message
            await hub.refused("predict", within_s=20, model="loaded", inputs=[ROW])
            report = await hub.health()
            assert [n for n, state in states(report).items() if state != "ok"] == LOST_WITH_DATABASE
            named(report, "database", urls["database_url"])
            assert await hub.ready() == 503
        await eventually(hub.is_well)
        assert await hub.ready() == 200
        assert await hub.predict("loaded") == "loaded:1"


@pytest.mark.parametrize("lost", ["blobs", "database"])
async def test_an_attempt_at_work_waits_for_what_is_lost(
    tmp_path: Path, urls: dict[str, str], own: Servers, lost: str
) -> None:
    environment = hub_environment(
        tmp_path,
        MCP_HUB_TRAINING__LEASE_S="30",
        **{f"MCP_HUB_{key.upper()}": url for key, url in urls.items()},
    )
    flag, log = tmp_path / "flag", tmp_path / "worker.log"
    async with running(tmp_path, urls) as hub:
        worker = start(environment, "worker", log=log)
        try:
            job = await hub.submit(action="wait_for_flag", flag=str(flag))

            async def runs() -> bool:
                view = await hub.call("training_status", job_id=job)
                return bool(view["status"] == "running")

            await eventually(runs, within_s=60)
            async with away(getattr(own, lost)):
                said = len(log.read_text())
                flag.touch()
                place = urlless(without_secret(urls[f"{lost}_url"]))
                await eventually(lambda: place in log.read_text()[said:], within_s=60)
            await eventually(lambda: has_ended(hub, job), within_s=60)
            view = await hub.call("training_status", job_id=job)
            assert (view["attempt"], view["model"]) == (1, "probe:1")
        finally:
            worker.terminate()
            await to_thread.run_sync(worker.wait)


async def test_a_silent_database_is_not_ready(
    tmp_path: Path, urls: dict[str, str], own: Servers
) -> None:
    async with (
        behind_proxy(urls, "database_url", own.database) as (urls, proxy),
        running(tmp_path, urls) as hub,
    ):
        proxy.answers = False
        ready: list[int] = []

        async def ask() -> None:
            ready.append(await hub.ready())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            report = await hub.health()
        assert [n for n, state in states(report).items() if state != "ok"] == LOST_WITH_DATABASE
        named(report, "database", urls["database_url"])
        assert ready == [503]
        proxy.answers = True
        await eventually(hub.is_well, within_s=60)
        assert await hub.ready() == 200

"""The engine's contract on Docker's, and what is Docker's own."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest
from anyio import to_thread

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.docker_client import error_of, find_engine
from mcp_hub.adapters.containers.docker_streams import nanoseconds
from mcp_hub.adapters.containers.port import ContainerConfig, EngineEvent
from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, Unavailable
from mcp_hub.adapters.ids import new_id
from tests import servers
from tests.adapters.containers.contract import EngineContract, OpenEngine, context_of, read_line
from tests.adapters.containers.registry import registry
from tests.certificates import write_certificate
from tests.containers import images
from tests.engine import add_foreign, add_tiny, ask_engine, crash_engine, end_engine, start_engine
from tests.servers import Server


class TestDockerEngine(EngineContract):
    @pytest.fixture
    def open_engine(self, engine_url: str) -> OpenEngine:
        return partial(DockerEngine, engine_url)

    @pytest.fixture
    def image(self) -> str:
        return images.TINY

    @pytest.fixture
    def foreign_image(self, engine_url: str) -> str:
        add_foreign(engine_url)
        return images.FOREIGN


@pytest.fixture
async def engine(engine_url: str) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(engine_url)
    yield engine
    await engine.close()


def config_of(script: str, **options: bool) -> ContainerConfig:
    command = ("/bin/sh", "-c", script)
    return ContainerConfig(new_id("hub-test"), images.TINY, command=command, **options)


async def test_files_are_in_no_answer_of_the_engine_and_leave_with_the_container(
    engine_url: str, engine: DockerEngine
) -> None:
    files = {"/run/secrets/TOKEN": b"hush-hush"}
    made = ContainerConfig(new_id("hub-test"), images.TINY, command=("true",), files=files)
    container = await engine.create(made)
    told = json.loads(ask_engine(engine_url, "GET", f"/containers/{container}/json"))
    assert "hush" not in json.dumps(told)
    (volume,) = (mount["Name"] for mount in told["Mounts"])
    assert await engine.remove(container)
    kept = json.loads(ask_engine(engine_url, "GET", "/volumes"))["Volumes"] or []
    assert volume not in [one["Name"] for one in kept]


async def test_a_flood_does_not_fill_the_disk(engine_url: str, engine: DockerEngine) -> None:
    container = await engine.create(config_of("head -c 30m /dev/zero"))
    await engine.start(container)
    with anyio.fail_after(30):
        async with engine.attach(container) as attachment:
            while await attachment.receive() is not None:
                pass
    folder = Path(engine_url.removeprefix("unix://")).parent / "data" / "containers" / container
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert 1 << 20 < size < 12 << 20
    assert await engine.remove(container)


async def test_pulls_an_image_from_its_registry(engine: DockerEngine) -> None:
    with registry() as host:
        name = f"{host}/things/one:1"
        output = [line async for line in engine.pull(name)]
        assert any("Pull complete" in line for line in output)
        found = await engine.image(name)
        assert found.tags == (name,)
        (digest,) = found.digests
        assert await engine.remove_image(name)
        async for _ in engine.pull(digest):
            pass
        assert await engine.remove_image(digest)
        for absent in (f"{host}/things/one:2", f"{host}/things/other", "A b"):
            with pytest.raises(NotFound):
                async for _ in engine.pull(absent):
                    pass
    with pytest.raises(Unavailable, match="cannot be pulled"):
        async for _ in engine.pull(name):
            pass


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """An engine with a disk of 32 MB, that also takes connections with TLS."""
    with TemporaryDirectory(prefix="mcp-hub-engine-") as name:
        folder = Path(name)
        (folder / "engine" / "data").mkdir(parents=True)
        disk = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder / "engine" / "data"]
        certificate, key = write_certificate(folder, timedelta(days=1))
        for path, link in ((certificate, "cert.pem"), (certificate, "ca.pem")):
            (folder / link).write_bytes(path.read_bytes())
        port = servers.free_port()
        servers.need("dockerd", "apt-get install docker.io iptables busybox-static")
        subprocess.run(disk, check=True)
        server = start_engine(
            folder / "engine", "--host", f"tcp://127.0.0.1:{port}", "--tlsverify",
            "--tlscacert", str(certificate), "--tlscert", str(certificate), "--tlskey", str(key),
        )  # fmt: skip
        server.port = port
        try:
            add_tiny(server.url)
            yield server
        finally:
            end_engine(folder / "engine")
            server.stop()


def secure_environment(server: Server) -> dict[str, str]:
    folder = Path(server.url.removeprefix("unix://")).parent.parent
    return {
        "DOCKER_HOST": f"tcp://127.0.0.1:{server.port}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(folder),
    }


@pytest.fixture
async def own_engine(own_server: Server) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(own_server.url)
    yield engine
    await engine.close()


async def test_talks_tls_as_the_environment_says(own_server: Server) -> None:
    engine = DockerEngine(environment=secure_environment(own_server))
    assert f"tcp://127.0.0.1:{own_server.port}" in await engine.check()
    container = await engine.create(config_of("cat", stdin=True))
    async with engine.attach(container) as attachment:
        await engine.start(container)
        await attachment.send(b"hello\n")
        assert await read_line(attachment) == b"hello\n"
    await engine.remove(container)
    await engine.close()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"DOCKER_TLS_VERIFY": ""}, "TLS"),
        ({"DOCKER_CERT_PATH": "/nonexistent"}, "DOCKER_CERT_PATH"),
    ],
)
async def test_says_what_tls_needs(own_server: Server, changed: dict[str, str], said: str) -> None:
    engine = DockerEngine(environment=secure_environment(own_server) | changed)
    try:
        with pytest.raises(Unavailable) as caught:
            await engine.check()
        assert said in f"{caught.value.message} {caught.value.hint}"
    finally:
        await engine.close()


async def read_to_the_end(events: AsyncIterator[EngineEvent]) -> None:
    async for _ in events:
        pass


async def test_an_engine_that_stops_and_returns(
    own_server: Server, own_engine: DockerEngine
) -> None:
    engine = own_engine
    script = "trap exit TERM; while read line; do echo $line; done"
    container = await engine.create(config_of(script, stdin=True))
    await engine.start(container)
    async with engine.attach(container) as attachment, aclosing(engine.events({})) as events:
        await engine.remove(await engine.create(config_of("true")))
        with anyio.fail_after(20):
            while (await anext(events)).action != "create":
                pass
        await to_thread.run_sync(crash_engine, own_server)
        with anyio.fail_after(20):
            with pytest.raises(Unavailable):
                await attachment.receive()
            with pytest.raises(Unavailable):
                await read_to_the_end(events)
            with pytest.raises(Unavailable):
                await attachment.send(b"x\n")
        for act in (engine.check(), engine.inspect(container), engine.containers({})):
            with pytest.raises(Unavailable, match="No Docker engine answers") as caught:
                await act
            assert "DOCKER_HOST" in (caught.value.hint or "")
    await to_thread.run_sync(own_server.start)
    # The same object goes on.
    assert await engine.check()
    await engine.start(container)
    async with engine.attach(container) as attachment:
        await attachment.send(b"again\n")
        assert await read_line(attachment) == b"again\n"
    assert await engine.remove(container)


async def test_says_that_the_disk_is_full(own_engine: DockerEngine) -> None:
    context = context_of(f"FROM {images.TINY}\nCOPY big /\n", big=bytes(40 << 20))
    with pytest.raises(Unavailable, match="disk is full"):
        async for _ in own_engine.build(context, "hub-tests/big:1", {}):
            pass


async def test_says_that_no_engine_runs(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/absent.sock", f"tcp://127.0.0.1:{servers.free_port()}"):
        engine = DockerEngine(url)
        for act in (engine.check(), anext(engine.logs("x")), engine.attach("x").__aenter__()):
            with pytest.raises(Unavailable, match="No Docker engine answers"):
                await act
        await engine.close()


@pytest.mark.parametrize(
    ("url", "environment", "shown", "base"),
    [
        (None, {}, "unix:///var/run/docker.sock", "http://docker"),
        (None, {"DOCKER_HOST": "tcp://h:2375"}, "tcp://h:2375", "http://h:2375"),
        ("tcp://h", {"DOCKER_HOST": "tcp://o"}, "tcp://h", "http://h:2375"),
        ("tcp://h", {"DOCKER_TLS_VERIFY": "1"}, "tcp://h", "https://h:2376"),
        ("https://h:1", {}, "tcp://h:1", "https://h:1"),
    ],
)
def test_finds_an_engine(
    url: str | None, environment: dict[str, str], shown: str, base: str
) -> None:
    address = find_engine(url, environment)
    assert (address.shown, address.base) == (shown, base)


@pytest.mark.parametrize("url", ["ssh://me@h", "/var/run/docker.sock", "unix://x", "tcp://", "x"])
def test_refuses_what_is_no_engine(url: str) -> None:
    with pytest.raises(InvalidArgument, match="no URL of a Docker engine"):
        find_engine(url, {})


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (500, "write /var/lib/docker/x: no space left on device", Unavailable),
        (500, "something else", Unavailable),
        (400, "invalid tag format", InvalidArgument),
        (404, "no such container: x", NotFound),
    ],
)
def test_what_an_answer_means(status: int, message: str, kind: type[HubError]) -> None:
    error = error_of(status, message)
    assert type(error) is kind
    assert message.rpartition(": ")[2] in error.message.lower()


def test_instants() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("1970-01-01T01:00:01.5+01:00") == 1_500_000_000
    assert nanoseconds("1970-01-01T00:00:01Z") == 1_000_000_000
    assert nanoseconds("0001-01-01T00:00:00Z") is None

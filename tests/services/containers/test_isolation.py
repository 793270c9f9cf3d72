"""What servers can do to get out of their containers: nothing that `docker run` lets them do.

Each attempt of `tests/containers/escaping.py` is made in a container as the hub configures it, in
one of plain `docker run`, and in one with everything opened, so that an attempt which is denied is
known to be one. `pytest -s` prints the table that docs/containers.md has.
"""

import asyncio
import io
import json
import re
import tarfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any

import pytest
from anyio import to_thread

from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import Container
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.containers.configuring import SECRETS_DIR, configure
from mcp_hub.services.containers.egress.networks import Egress
from mcp_hub.services.containers.instances.endings import exit_reason
from mcp_hub.services.containers.specs import ContainerSpec
from tests.containers import escaping, surroundings
from tests.engine import ask_engine, locked
from tests.servers import need

IMAGE = "hub-tests/escaping:1"
PAGE = Path(__file__).parents[3] / "docs" / "containers.md"
MEMORY, CPU = "1 GB of memory", "all of the CPU"
FORKS, LOG = "fork bomb", "flood the log (30 MB)"
RESOURCES = ("fill the disk by /tmp (200 MB)", LOG, FORKS, MEMORY, CPU)
NETWORK = (
    "TCP to an address on the internet",
    "DNS question to the internet",
    "TCP to the machine's gateway address",
    "TCP to another container",
    "ping another container",
)
OTHERS = tuple(name for name in escaping.attempts if name not in NETWORK + RESOURCES)
ATTEMPTS = OTHERS + NETWORK + RESOURCES
OPENED, PLAIN, HUB = "everything opened", "`docker run`", "the hub"
_ANSWER_S = 2.0
_LOG_MB = 12
_TOKEN = "TOKEN"
_DOORS = (
    "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined", "--pid=host",
    "--network=host", "--device=/dev/kmsg", "--device-cgroup-rule=b *:* rwm", "--volume=/sys:/sys",
)  # fmt: skip
"""What `docker run` opens if it is told to. `--privileged` does too, where a machine allows it."""
_LISTEN = ("/bin/sh", "-c", "while :; do echo hello | nc -l -p 8000; done")
_PROGRAM = ("python3", "-I", "/escaping.py")
_CPUS = 0.1
"""Less than a machine gives that does much else as well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    got: bool
    detail: str

    def __str__(self) -> str:
        return f"{'**works**' if self.got else 'denied'}: {self.detail}"


Outcomes = dict[str, Outcome]


@dataclass(slots=True)
class Seen:
    """What became of all attempts."""

    columns: dict[str, Outcomes] = field(
        default_factory=lambda: {column: {} for column in (OPENED, PLAIN, HUB)}
    )
    """For the hub: with a network of the deployment's own."""
    without_network: Outcomes = field(default_factory=dict)
    hog: Container | None = None
    slowest_s: float = 0.0
    """The slowest answer of the engine while bombs and hogs ran in the hub's containers."""

    def table(self) -> str:
        rows = [f"| attempt | {' | '.join(self.columns)} |", "|---|---|---|---|"]
        for name in ATTEMPTS:
            cells = [str(outcomes.get(name, "–")) for outcomes in self.columns.values()]
            rows.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(rows)


@pytest.fixture(scope="module")
def seen(engine_url: str, python_image: str) -> Seen:
    with locked(Path(engine_url.removeprefix("unix://")).parent.parent):
        ask_engine(
            engine_url, "POST", "/build", _context(python_image), t=IMAGE, networkmode="none"
        )
    return asyncio.run(_Trial(engine_url).run())


@pytest.mark.parametrize("name", ATTEMPTS)
def test_is_denied_in_containers_of_the_hub(seen: Seen, name: str) -> None:
    assert not seen.columns[HUB][name].got, seen.columns[HUB][name]
    if name not in RESOURCES:
        assert not seen.without_network[name].got, seen.without_network[name]


@pytest.mark.parametrize("name", ATTEMPTS)
def test_works_where_it_is_allowed(seen: Seen, name: str) -> None:
    allowed = [seen.columns[column].get(name) for column in (OPENED, PLAIN)]
    assert any(outcome is not None and outcome.got for outcome in allowed), allowed


def test_tells_that_memory_was_wanting(seen: Seen) -> None:
    assert seen.hog is not None
    assert (seen.hog.out_of_memory, seen.hog.exit_code) == (True, 137)
    assert "was killed for want of memory" in exit_reason(seen.hog)


def test_the_engine_answers_meanwhile(seen: Seen) -> None:
    assert 0 < seen.slowest_s < _ANSWER_S


def test_the_page_has_the_table(seen: Seen) -> None:
    print(f"\n{seen.table()}")
    assert _verdicts(PAGE.read_text()) == _verdicts(seen.table())


def _verdicts(text: str) -> list[list[str]]:
    """The rows of the table, without the kernel's words."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[re.sub(":.*", "", cell) for cell in row] for row in rows if row[0] in ATTEMPTS]


def _context(base: str) -> bytes:
    """What the image is built of: `base` with the program, and a Python that is setuid root."""
    python = escaping.SETUID_PROGRAM
    dockerfile = (
        f"FROM {base}\nCOPY escaping.py /escaping.py\n"
        f"RUN cp $(readlink -f /usr/local/bin/python3) {python} && chmod 4755 {python}\n"
        f"RUN mkdir -m 1777 {escaping.OPEN_FOLDER}\n"
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        program = Path(escaping.__file__).read_bytes()
        for name, content in {"Dockerfile": dockerfile.encode(), "escaping.py": program}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _read(lines: bytes) -> Outcomes:
    said = map(json.loads, lines.splitlines())
    return {one["attempt"]: Outcome(one["got"], one["detail"]) for one in said}


class _Trial:
    """One run of all attempts on the engine at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._docker = (need("docker", "apt-get install docker.io"), "--host", url)
        self._engine = DockerEngine(url)
        self._hub = new_id("hub")
        self._egress = Egress(self._engine, hub=self._hub, image=None)
        self._plain: list[str] = []
        self._told: dict[str, Any] = {}
        self._seen = Seen()

    async def run(self) -> Seen:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._clean)
            network = await self._prepare(stack)
            await self._escape(network)
            await self._exhaust()
        return self._seen

    async def _prepare(self, stack: AsyncExitStack) -> str:
        """Have what there is to reach and to read; the network of the hub's containers."""
        networks = []
        for name in ("other", "escaping"):
            spec = ContainerSpec(name=name, image=IMAGE, network="internal")
            networks.append((await self._egress.ensure(spec, 1)).name or "")
        secrets = {_TOKEN: self._hub.encode()}
        near = await self._create(_LISTEN, networks[0], secrets)
        await self._engine.start(near)
        plain = await self._start_plain(_LISTEN)
        neighbours = [
            address
            for container in (plain, near)
            for address in (await self._engine.inspect(container)).addresses.values()
        ]
        far = stack.enter_context(surroundings.far_address())
        port, dns_port = await stack.enter_async_context(surroundings.services(far))
        self._told = {
            "internet": far,
            "port": port, "dns_port": dns_port,
            "neighbours": neighbours, "neighbour_port": 8000,
            "gateways": [f"{address.rpartition('.')[0]}.1" for address in neighbours],
            "pid": stack.enter_context(surroundings.process()),
            "disk": surroundings.disk(),
            "secret": f"{SECRETS_DIR}/{_TOKEN}", "secret_text": self._hub,
            "engine_socket": self._url.removeprefix("unix://"),
            "bomb_s": 1.0, "cpu_s": 0.5,
        }  # fmt: skip
        return networks[1]

    async def _escape(self, network: str) -> None:
        columns = self._seen.columns
        socket = f"--volume={self._told['engine_socket']}:/var/run/docker.sock"
        (
            columns[OPENED],
            columns[PLAIN],
            columns[HUB],
            self._seen.without_network,
        ) = await asyncio.gather(
            self._run_plain(OTHERS + NETWORK, (*_DOORS, socket)),
            self._run_plain(OTHERS + NETWORK),
            self._run(OTHERS + NETWORK, network=network),
            self._run(OTHERS + NETWORK),
        )

    async def _exhaust(self) -> None:
        """Take what there is of the machine."""
        names = [name for name in RESOURCES if name != CPU]
        async with self._asking():
            held = await asyncio.gather(*(self._run((name,)) for name in names))
            held.append(await self._run((CPU,), cpus=_CPUS))
        free = await asyncio.gather(*(self._run_plain((name,)) for name in names))
        free.append(await self._run_plain((CPU,)))
        for one, other in zip(held, free, strict=True):
            self._seen.columns[HUB] |= one
            self._seen.columns[PLAIN] |= other

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Ask something of the engine all the time, and keep how long the slowest answer took."""

        async def ask() -> None:
            while True:
                begun = monotonic()
                await self._engine.containers({})
                self._seen.slowest_s = max(self._seen.slowest_s, monotonic() - begun)
                await asyncio.sleep(0.05)

        asking = asyncio.create_task(ask())
        yield
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    async def _run(self, names: Sequence[str], **options: Any) -> Outcomes:
        """What the attempts bring in a container of the hub's."""
        container = await self._create((*_PROGRAM, self._words(names)), **options)
        said = b""
        async with self._engine.attach(container) as attachment:
            await self._engine.start(container)
            while (piece := await attachment.receive()) is not None:
                said += piece[1] if piece[0] == "stdout" else b""
        ended = await self._engine.inspect(container)
        if names == (MEMORY,):
            self._seen.hog = ended
        missing = dict.fromkeys(names, Outcome(False, exit_reason(ended)))
        return await self._with_log(container, missing | _read(said))

    async def _run_plain(self, names: Sequence[str], options: Sequence[str] = ()) -> Outcomes:
        """What the attempts bring by `docker run`."""
        container = self._new_plain()
        command = ("run", "--name", container, *options, IMAGE, *_PROGRAM, self._words(names))
        running = await asyncio.create_subprocess_exec(
            *self._docker, *command, stdout=PIPE, stderr=PIPE
        )
        said, errors = await running.communicate()
        assert said, errors[-500:].decode()
        return await self._with_log(container, _read(said))

    async def _with_log(self, container: str, outcomes: Outcomes) -> Outcomes:
        """The flood of the log got through if the engine has kept all of it."""
        if LOG in outcomes:
            folder = Path(json.loads(await self._ask("/info"))["DockerRootDir"], "containers")
            id_ = (await self._engine.inspect(container)).id
            mb = sum(file.stat().st_size for file in (folder / id_).rglob("*.log*")) >> 20
            outcomes[LOG] = Outcome(mb >= _LOG_MB, f"{mb} MB are kept")
        return outcomes

    async def _ask(self, path: str) -> bytes:
        return await to_thread.run_sync(ask_engine, self._url, "GET", path)

    def _words(self, names: Sequence[str]) -> str:
        return json.dumps(self._told | {"attempts": names})

    async def _create(
        self,
        command: Sequence[str],
        network: str | None = None,
        secrets: Mapping[str, bytes] = MappingProxyType({}),
        **options: Any,
    ) -> str:
        """A container as the hub makes it of a spec, with further `options`."""
        spec = ContainerSpec(name="escaping", image=IMAGE, command=tuple(command), **options)
        image = await self._engine.image(IMAGE)
        config = configure(spec, image, network=network, secrets=secrets, mounts=(), env={})
        name, labels = new_id("hub-test"), {"hub-tests": self._hub}
        return await self._engine.create(replace(config, name=name, labels=labels))

    def _new_plain(self) -> str:
        self._plain.append(new_id("hub-test"))
        return self._plain[-1]

    async def _start_plain(self, command: Sequence[str]) -> str:
        """A container of `docker run` that stays."""
        container = self._new_plain()
        words = ("run", "--detach", "--name", container, IMAGE, *command)
        running = await asyncio.create_subprocess_exec(*self._docker, *words, stdout=DEVNULL)
        assert await running.wait() == 0
        return container

    async def _clean(self) -> None:
        made = [one.id for one in await self._engine.containers({"hub-tests": self._hub})]
        for container in (*made, *self._plain):
            await self._engine.remove(container)
        for name in ("other", "escaping"):
            await self._egress.remove(name, 1)
        await self._engine.close()

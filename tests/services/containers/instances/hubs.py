"""Hub processes, as far as they run containers: in the test's own process, or as others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select, update

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.containers.docker import DockerEngine
from mcp_hub.adapters.containers.port import Container, ContainerConfig
from mcp_hub.adapters.database.containers_schema import container_instances, containers
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.services.containers.egress.networks import Egress
from mcp_hub.services.containers.instances import labels, rows
from mcp_hub.services.containers.instances.holding import Ports
from mcp_hub.services.containers.instances.rows import Revision
from mcp_hub.services.containers.instances.service import Instances
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.wire.peers.listening import listen_unix
from mcp_hub.services.telemetry.own.own import OwnTelemetry
from tests.services.containers.instances.deployments import deploy
from tests.waiting import eventually

SERVER = (Path(__file__).parent / "plain_server.py").read_text()
COMMAND = ("python3", "-c", SERVER)


@dataclass(frozen=True, slots=True)
class Place:
    """What hub processes share."""

    folder: Path
    engine_url: str
    image: str
    database_url: str | None = None

    def database(self) -> Database:
        if self.database_url is not None:
            return PostgresDatabase(self.database_url)
        return SqliteDatabase(self.folder / "hub.db")


@dataclass(frozen=True, slots=True)
class Hub:
    instances: Instances
    database: Database
    engine: DockerEngine
    place: Place
    own: OwnTelemetry
    """The network of a deployment that has one, by its name."""

    async def deploy(self, name: str, revision: int = 1, **fields: Any) -> ContainerSpec:
        """Put a spec in force; of the plain server unless it says another."""
        known: dict[str, Any] = {"image": self.place.image, "command": COMMAND, "stop_grace_s": 1}
        spec = ContainerSpec(name=name, **(known | fields))
        await self.database.write(partial(deploy, spec=spec, revision=revision))
        self.instances.changed()
        return spec

    async def set(self, name: str, **values: Any) -> None:
        """Change the row of a deployment, such as `enabled=False`."""
        change = update(containers).where(containers.c.name == name).values(**values)
        await self.database.write(lambda c: c.execute(change))
        self.instances.changed()

    async def call(
        self, name: str, tool: str = "count", *, session: str | None = None,
        timeout_s: float = 30, **arguments: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """The structured result of a tool."""
        params = {"name": tool, "arguments": arguments}
        result = await self.instances.request(name, session, "tools/call", params, None, timeout_s)
        found: dict[str, Any] = result["structuredContent"]
        return found

    async def containers(self) -> list[Container]:
        """All that the engine has of this hub."""
        hub = await self.database.write(rows.hub_id)
        return await self.engine.containers({labels.HUB: hub})

    async def rows(self) -> list[dict[str, Any]]:
        def read(connection: Connection) -> list[dict[str, Any]]:
            return [dict(row._mapping) for row in connection.execute(select(container_instances))]

        return await self.database.read(read)


@asynccontextmanager
async def open_hub(place: Place) -> AsyncIterator[Hub]:
    """A hub process that is this one."""
    database, engine = place.database(), DockerEngine(place.engine_url)
    bus, own = DatabaseBus(database), OwnTelemetry()

    async def configure(revision: Revision) -> ContainerConfig:
        spec = revision.spec
        hub = await database.write(rows.hub_id)
        network = await Egress(engine, hub=hub, image=place.image).ensure(spec, revision.revision)
        return ContainerConfig(
            name="", image=revision.image_id if revision.revision == 0 else spec.image,
            command=spec.command, env={**network.env, **spec.env},
            stdin=spec.transport == "stdio", memory_mb=spec.memory_mb, cpus=spec.cpus,
            tmpfs={"/tmp": spec.tmpfs_mb}, network=network.name,
        )  # fmt: skip

    ports = Ports(
        database, engine, bus, configure, own,
        lambda *_: None,
        lambda: listen_unix(place.folder / "peers"),
    )  # fmt: skip
    instances = Instances(ports, leader_lease_s=1.5)
    try:
        async with instances.running():
            yield Hub(instances, database, engine, place, own)
    finally:
        await bus.close()
        await engine.close()
        await database.close()


@asynccontextmanager
async def place_of(
    folder: Path, engine_url: str, image: str, database_url: str | None = None
) -> AsyncIterator[Place]:
    """Nothing of it is left on the engine at the end, whatever a test leaves behind."""
    place = Place(folder, engine_url, image, database_url)
    database = place.database()
    await database.upgrade()
    await database.close()
    try:
        yield place
    finally:
        async with open_hub(place) as hub:
            await hub.database.write(lambda c: c.execute(delete(containers)))
            hub.instances.changed()

            async def nothing_is_left() -> bool:
                return not await hub.containers() and not await hub.rows()

            await eventually(nothing_is_left, within_s=40)


class HubProcess:
    """A hub process of its own, which makes calls when it is told to."""

    def __init__(self, place: Place, log: Path) -> None:
        self._is_ready = False
        arguments = [str(place.folder), place.engine_url, place.image, place.database_url or ""]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.services.containers.instances.hub_process",
                 *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, **order: Any) -> None:
        """Give it an order: see `hub_process`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """What it says next; None if it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self, *, on: bool = True) -> None:
        os.kill(self.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def leave(self) -> None:
        """Have it end as when its client leaves; returns when it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def wait_ready(self) -> None:
        """Return once it is a hub process."""
        if not self._is_ready:
            assert self.hear() == "ready"
            self._is_ready = True

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> "HubProcess":
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.close()

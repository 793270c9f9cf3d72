"""Many jobs on real servers while processes are killed and servers restarted: none lost or doubled.

Two replicas and three workers on PostgreSQL, Redis and S3. Each server is killed and started again
once; a worker and a replica are killed every few seconds, and started again. The short run is part
of `make test`; `make soak` runs ten thousand jobs.
"""

import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx2
import pytest
from anyio import to_thread
from mcp import Client
from mcp.shared.exceptions import MCPError
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.postgresql import PostgresDatabase
from mcp_hub.adapters.database.schema import jobs, model_versions
from mcp_hub.adapters.errors import HubError, Unavailable
from tests import servers
from tests.processes import call, hub_environment, start
from tests.servers import Server, free_port

SEED = 20260101
POINTS = "x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(20))
SETTINGS = {
    "MCP_HUB_TRAINING__AUTOSTART_WORKER": "false",
    "MCP_HUB_TRAINING__LEASE_S": "10",
    "MCP_HUB_TRAINING__HEARTBEAT_S": "2",
    "MCP_HUB_TRAINING__CONCURRENCY": "4",
}


@dataclass(slots=True)
class Figures:
    """What happened, for the report."""

    killed_workers: int = 0
    killed_replicas: int = 0
    restarted: list[str] = field(default_factory=list)
    repeated_submissions: int = 0
    seconds: float = 0


@dataclass(slots=True)
class Fleet:
    """The replicas and workers, each started again after it was killed."""

    environment: dict[str, str]
    ports: list[int]
    log: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    replicas: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_all(self, workers: int) -> None:
        self.replicas = [self._replica(port) for port in self.ports]
        self.workers = [self._worker() for _ in range(workers)]

    def kill_worker(self, index: int) -> None:
        _end(self.workers[index])
        self.workers[index] = self._worker()

    def kill_replica(self, index: int) -> None:
        _end(self.replicas[index])
        self.replicas[index] = self._replica(self.ports[index])

    def end(self) -> None:
        for process in (*self.replicas, *self.workers):
            _end(process)

    def _replica(self, port: int) -> subprocess.Popen[bytes]:
        return start(self.environment, "serve", "--port", str(port), log=self.log)

    def _worker(self) -> subprocess.Popen[bytes]:
        return start(self.environment, "worker", log=self.log)


@pytest.mark.parametrize(
    ("count", "kill_every_s"),
    [(60, 2.0), pytest.param(10_000, 5.0, marks=pytest.mark.soak)],
    ids=["short", "full"],
)
async def test_every_job_succeeds_once(
    tmp_path: Path, count: int, kill_every_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    async with real_servers() as (postgres, redis, s3):
        environment = hub_environment(
            tmp_path,
            MCP_HUB_DATABASE_URL=postgres.url,
            MCP_HUB_REDIS_URL=redis.url,
            MCP_HUB_BLOBS_URL=s3.url,
            **SETTINGS,
        )
        figures = Figures()
        fleet = Fleet(environment, [free_port(), free_port()], tmp_path / "fleet.log")
        begin = time.monotonic()
        try:
            await to_thread.run_sync(fleet.start_all, 3)
            with anyio.fail_after(180 + count * 0.6):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(harm, fleet, (postgres, redis, s3), kill_every_s, figures)
                    await submit_all(fleet.ports, count, figures)
                    await until_all_ended(postgres.url, count)
                    tasks.cancel_scope.cancel()
        finally:
            await to_thread.run_sync(fleet.end)
        figures.seconds = time.monotonic() - begin
        await check(postgres.url, count)
    with capsys.disabled():
        print(f"\n{count} jobs in {figures.seconds:.0f} s: {figures}")


@asynccontextmanager
async def real_servers() -> AsyncIterator[tuple[Server, Server, Server]]:
    starts = (servers.start_postgres, servers.start_redis, servers.start_s3)
    async with AsyncExitStack() as stack:
        started = []
        for begin in starts:
            folder = stack.enter_context(TemporaryDirectory(prefix="mcp-hub-soak-"))
            server = await to_thread.run_sync(begin, Path(folder))
            stack.push_async_callback(to_thread.run_sync, server.stop)
            started.append(server)
        postgres, redis, s3 = started
        yield postgres, redis, s3


async def harm(
    fleet: Fleet, restarts: tuple[Server, ...], every_s: float, figures: Figures
) -> None:
    """Kill a worker and a replica about every `every_s` seconds, and restart each server once.

    Not in step with the lease: a job is given to another worker when it runs out, and would meet
    the next kill time after time.
    """
    chance = random.Random(SEED)
    pending = list(restarts)
    while True:
        await anyio.sleep(every_s * chance.uniform(0.5, 1.5))
        await to_thread.run_sync(fleet.kill_worker, chance.randrange(len(fleet.workers)))
        figures.killed_workers += 1
        await anyio.sleep(every_s * chance.uniform(0.5, 1.5))
        await to_thread.run_sync(fleet.kill_replica, chance.randrange(len(fleet.replicas)))
        figures.killed_replicas += 1
        if pending:
            server = pending.pop(0)
            await to_thread.run_sync(server.restart)
            figures.restarted.append(server.name)


async def submit_all(ports: list[int], count: int, figures: Figures) -> None:
    """Submit `count` jobs through the replicas, each again with its key until it is accepted."""
    numbers = list(range(count))

    async def client(index: int) -> None:
        while numbers:
            port = ports[index % len(ports)]
            with suppress(*_PASSING, ExceptionGroup):
                async with Client(f"http://127.0.0.1:{port}/mcp", read_timeout_seconds=30) as mcp:
                    await call(mcp, "dataset_register", name="points", content=POINTS, format="csv")
                    while numbers:
                        number = numbers.pop()
                        try:
                            await submit(mcp, number)
                        except BaseException:
                            numbers.append(number)
                            figures.repeated_submissions += 1
                            raise
            index += 1
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for index in range(4):
            tasks.start_soon(client, index)


async def submit(mcp: Client, number: int) -> None:
    await call(
        mcp,
        "training_submit",
        name=f"model-{number % 10}",
        type="probe",
        framework="probe",
        dataset="points",
        idempotency_key=f"job {number}",
    )


_PASSING = (Unavailable, HubError, MCPError, httpx2.HTTPError, OSError, TimeoutError)


async def until_all_ended(url: str, count: int) -> None:
    async def ended() -> bool:
        rows = await on(url, _counts)
        return sum(rows.values()) == count and not {"queued", "running"} & set(rows)

    while True:
        with suppress(Unavailable):
            if await ended():
                return
        await anyio.sleep(1)


async def check(url: str, count: int) -> None:
    """Every job succeeded, and has exactly one version of its own."""
    assert await on(url, _counts) == {"succeeded": count}
    versions = await on(url, _versions)
    assert len(versions) == count
    assert len({job_id for _, _, job_id in versions}) == count
    for name in {name for name, _, _ in versions}:
        numbers = sorted(number for model, number, _ in versions if model == name)
        assert numbers == list(range(1, len(numbers) + 1))


async def on(url: str, work: Callable[[Connection], Any]) -> Any:
    database = PostgresDatabase(url)
    try:
        return await database.read(work)
    finally:
        await database.close()


def _counts(connection: Connection) -> dict[str, int]:
    rows = connection.execute(
        select(jobs.c.status, func.count().label("n")).group_by(jobs.c.status)
    )
    return {row.status: row.n for row in rows}


def _versions(connection: Connection) -> list[tuple[str, int, str]]:
    columns = (model_versions.c.name, model_versions.c.version, model_versions.c.job_id)
    return [tuple(row) for row in connection.execute(select(*columns))]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()

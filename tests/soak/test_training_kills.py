"""A worker, a job's process or a client is killed while a PyTorch job trains with checkpoints.

Whatever is killed when, the job succeeds, goes on from the newest checkpoint there was, and its
curve is that of a job that nobody disturbed: each epoch once, with the same losses. The short run
is part of `make test`; `make soak` kills 100 times.
"""

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from mcp import Client
from sklearn.datasets import load_iris
from sqlalchemy import select

from mcp_hub.adapters.database.checkpoints_schema import job_checkpoints
from mcp_hub.adapters.database.schema import job_logs, job_metrics, jobs, workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from tests.processes import call, hub_environment, kill, start, stdio_client
from tests.waiting import eventually

SEED = 20261129
EPOCHS = 100
CONFIG = {"epochs": EPOCHS, "patience": EPOCHS, "batch_size": 4, "hidden": [32]}
# A job's process that is killed fails its attempt; a lost worker does not.
JOB = {
    "name": "iris", "type": "classification", "framework": "pytorch", "dataset": "iris",
    "target": "species", "config": CONFIG, "max_retries": 3,
}  # fmt: skip
VICTIMS = ("worker", "process", "client")
Curve = list[tuple[str, int, float]]


@dataclass(frozen=True)
class Moment:
    """An instant of a job: `offset_s` after it was seen to have trained so many epochs."""

    epochs: int
    offset_s: float


class Site:
    """A hub's folder, its two workers, and its database as it is."""

    def __init__(self, folder: Path) -> None:
        self.environment = hub_environment(folder, MCP_HUB_TRAINING__AUTOSTART_WORKER="false")
        self.database = SqliteDatabase(folder / "data" / "hub.db")
        self.log = folder / "processes.log"
        self._workers: list[subprocess.Popen[bytes]] = []

    def start_workers(self) -> None:
        self._workers += [
            start(self.environment, "worker", log=self.log) for _ in range(2 - len(self._workers))
        ]

    def kill_worker(self, pid: int) -> None:
        (victim,) = [worker for worker in self._workers if worker.pid == pid]
        self._workers.remove(victim)
        victim.kill()
        victim.wait()

    def end(self) -> None:
        for worker in [*self._workers]:
            self.kill_worker(worker.pid)

    def process_of(self, job_id: str) -> int | None:
        """The process that trains, by the folder that it is in."""
        for link in Path("/proc").glob("[0-9]*/cwd"):
            try:
                folder = link.readlink()
            except OSError:
                continue
            if folder.parent.name == job_id:
                return int(link.parent.name)
        return None

    async def rows(self, statement: Any) -> list[Any]:
        return list(await self.database.read(lambda c: c.execute(statement).all()))

    async def job(self, job_id: str) -> Any:
        return (await self.rows(select(jobs).where(jobs.c.id == job_id)))[0]

    async def worker_of(self, job_id: str) -> int | None:
        """The process id of the worker that holds the job."""
        statement = select(workers.c.pid).join(jobs, jobs.c.worker_id == workers.c.id)
        rows = await self.rows(statement.where(jobs.c.id == job_id, jobs.c.status == "running"))
        return rows[0].pid if rows else None

    async def reached(self, job_id: str, moment: Moment) -> None:
        """Wait for that moment, or for the job's end."""

        async def is_reached() -> bool:
            job = await self.job(job_id)
            return job.status == "succeeded" or (job.progress_done or 0) >= moment.epochs

        await eventually(is_reached, within_s=120)
        # Reports are read five times a second.
        await anyio.sleep(moment.offset_s * 0.2)

    async def newest_step(self, job_id: str) -> int:
        """The step of the job's checkpoint, or 0."""
        rows = await self.rows(
            select(job_checkpoints.c.step).where(job_checkpoints.c.job_id == job_id)
        )
        return max((row.step for row in rows), default=0)

    async def curve(self, job_id: str) -> Curve:
        columns = job_metrics.c
        rows = await self.rows(
            select(columns.key, columns.step, columns.value)
            .where(columns.job_id == job_id, columns.key.endswith("_loss"), columns.step > 0)
            .order_by(columns.key, columns.step)
        )
        return [tuple(row) for row in rows]

    async def restored(self, job_id: str) -> int:
        """After which step the last attempt went on, as the worker and the job say; or 0."""
        job = await self.job(job_id)
        rows = await self.rows(
            select(job_logs.c.text).where(
                job_logs.c.job_id == job_id, job_logs.c.attempt == job.attempt
            )
        )
        texts = [row.text for row in rows]
        by_worker = [int(t.rstrip(".").split()[-1]) for t in texts if t.startswith("Restored the")]
        by_job = [int(t.rstrip(".").split()[-1]) for t in texts if t.startswith("Goes on after")]
        assert by_worker == by_job
        return by_job[0] if by_job else 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.end()


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.soak)])
async def test_a_job_goes_on_from_its_checkpoint(
    site: Site, tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, told, began = random.Random(SEED), Counter[str](), time.monotonic()
    async with stdio_client(site.environment) as client:
        await call(client, "dataset_register", name="iris", content=iris(), format="csv")
        site.start_workers()
        with anyio.fail_after(120 + rounds * 30):
            reference, seconds = await undisturbed(site, client)
            for number in range(rounds):
                victim = VICTIMS[number % len(VICTIMS)]
                # One in six is killed before its first epoch is over, the others along the curve.
                moment = Moment(max(0, chance.randrange(-EPOCHS // 5, EPOCHS)), chance.random())
                job_id = await one_round(site, client, victim, moment, told)
                assert await site.curve(job_id) == reference, (number, victim, moment)
                site.start_workers()
    left = await site.rows(select(job_checkpoints))
    assert left == []
    await site.database.close()
    with capsys.disabled():
        print(
            f"\n{rounds} rounds, jobs of {seconds:.1f} s: {dict(told)}; all curves as undisturbed; "
            f"{time.monotonic() - began:.0f} s"
        )


def iris() -> str:
    data = load_iris()
    lines = [
        ",".join([*map(str, row), data.target_names[code]])
        for row, code in zip(data.data, data.target, strict=True)
    ]
    return "\n".join(["a,b,c,d,species", *lines]) + "\n"


async def undisturbed(site: Site, client: Client) -> tuple[Curve, float]:
    """The curve of a job without kills, and how long one takes when all is loaded."""
    for _ in range(2):
        began = time.monotonic()
        job_id = await submit(client)
        await ended(site, client, job_id)
        seconds = time.monotonic() - began
    curve = await site.curve(job_id)
    assert [step for _, step, _ in curve] == [*range(1, EPOCHS + 1)] * 2
    return curve, seconds


async def one_round(
    site: Site, client: Client, victim: str, moment: Moment, told: Counter[str]
) -> str:
    """Kill something at a moment of a job; the job, which has succeeded."""
    if victim == "client":
        job_id = await killed_client(site, moment)
        told["clients killed"] += 1
        await ended(site, client, job_id)
        assert (await site.job(job_id)).attempt == 1
        return job_id
    job_id = await submit(client)
    await site.reached(job_id, moment)
    before = await kill_one(site, job_id, victim)
    if before is None:
        told["ended before the kill"] += 1
    else:
        told[f"{victim} killed"] += 1
    if before is not None and victim == "worker":
        # Now nothing changes until the other worker takes over.
        site.start_workers()
    await ended(site, client, job_id)
    if before is not None and (await site.job(job_id)).attempt > 1:
        restored = await site.restored(job_id)
        assert restored >= before, (victim, moment)
        told["went on from a checkpoint" if restored else "no checkpoint yet"] += 1
        told["epochs not trained again"] += restored
    return job_id


async def submit(client: Client) -> str:
    return str((await call(client, "training_submit", **JOB))["job_id"])


async def ended(site: Site, client: Client, job_id: str) -> None:
    """Wait for the job's success."""
    with anyio.fail_after(120):
        while True:
            job = await call(client, "training_status", job_id=job_id, wait_s=20)
            if job["status"] not in ("queued", "running"):
                break
    assert job["status"] == "succeeded", job
    assert (await site.job(job_id)).model_version


async def kill_one(site: Site, job_id: str, victim: str) -> int | None:
    """The step of the checkpoint just before the kill; None if the job had ended."""

    async def is_found_or_over() -> bool:
        if (await site.job(job_id)).status == "succeeded":
            return True
        return await found() is not None

    async def found() -> int | None:
        if victim == "worker":
            return await site.worker_of(job_id)
        return await to_thread.run_sync(site.process_of, job_id)

    await eventually(is_found_or_over, within_s=60)
    before, pid = await site.newest_step(job_id), await found()
    if pid is None:
        return None
    if victim == "worker":
        await to_thread.run_sync(site.kill_worker, pid)
        return await site.newest_step(job_id)
    try:
        kill(pid)
    except ProcessLookupError:
        return None
    return before


async def killed_client(site: Site, moment: Moment) -> str:
    """The job of a client that was killed while it followed it."""
    known = {row.id for row in await site.rows(select(jobs.c.id))}
    request = {key.replace("_", "-"): value for key, value in JOB.items()}
    request["config"] = json.dumps(CONFIG)
    options = [f"--{key}={value}" for key, value in request.items()]
    client = start(site.environment, "train", "submit", *options, "--follow", log=site.log)
    try:
        new: list[str] = []

        async def is_submitted() -> bool:
            rows = await site.rows(select(jobs.c.id))
            new[:] = [row.id for row in rows if row.id not in known]
            return bool(new)

        await eventually(is_submitted, within_s=60)
        await site.reached(new[0], moment)
    finally:
        client.kill()
        await to_thread.run_sync(client.wait)
    return new[0]

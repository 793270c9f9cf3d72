"""A training service and workers over the embedded adapters, and the probe framework."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.services.data.service import DataService
from mcp_hub.services.training.frameworks.base import NOWHERE, Place
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes.slots import Slots
from mcp_hub.services.training.schedules.service import ScheduleService
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.submitting import QueueLimits
from mcp_hub.services.training.views import JobView
from mcp_hub.services.training.workers.worker import Worker, WorkerOptions

OPTIONS = WorkerOptions(concurrency=2, lease_s=2.0, heartbeat_s=0.3, poll_s=0.05, idle_exit_s=None)
LIMITS = Limits(log_bytes=200_000)
SILENCE_S = 360.0
"""Not a round minute: what the settings say counts."""

PLUGINS = Path(__file__).parents[2] / "plugins"

WorkerFactory = Callable[..., AbstractAsyncContextManager[Worker]]
Submit = Callable[..., Awaitable[str]]
Finish = Callable[[str], Awaitable[JobView]]


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of jobs find the probe framework, as this one does."""
    monkeypatch.setenv("PYTHONPATH", str(PLUGINS))


@pytest.fixture
def place() -> Place:
    """What the frameworks may use."""
    return NOWHERE


@pytest.fixture
def queue_limits() -> QueueLimits:
    return QueueLimits()


@pytest.fixture
async def training(
    database: SqliteDatabase,
    queue: DatabaseQueue,
    bus: DatabaseBus,
    blobs: FileBlobStore,
    queue_limits: QueueLimits,
    tmp_path: Path,
    place: Place,
) -> TrainingService:
    data = DataService(database, blobs, bus, roots=[tmp_path], max_bytes=1_000_000)
    await data.register("points", content="x,y\n1,a\n2,b\n3,a\n", format="csv")

    async def no_worker() -> None:
        pass

    return TrainingService(
        database,
        queue,
        bus,
        data,
        default_timeout_s=60,
        worker_silence_s=SILENCE_S,
        ensure_worker=no_worker,
        place=place,
        limits=queue_limits,
    )


@pytest.fixture
def schedules(
    database: SqliteDatabase, training: TrainingService, queue_limits: QueueLimits
) -> ScheduleService:
    return ScheduleService(database, training, queue_limits)


@pytest.fixture
def worker(
    database: SqliteDatabase,
    queue: DatabaseQueue,
    bus: DatabaseBus,
    blobs: FileBlobStore,
    training: TrainingService,
    schedules: ScheduleService,
    tmp_path: Path,
    place: Place,
) -> WorkerFactory:
    """Runs a worker in this process while its context lasts."""

    @asynccontextmanager
    async def run(
        options: WorkerOptions = OPTIONS, limits: Limits = LIMITS, gpus: Sequence[str] = ()
    ) -> AsyncIterator[Worker]:
        worker = Worker(
            options, replace(limits, place=place), tmp_path / "jobs",
            database=database, blobs=blobs, queue=queue, bus=bus, training=training,
            schedules=schedules,
            slots=Slots(gpus, tmp_path / "gpus"),
        )  # fmt: skip
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield worker
            worker.stop()

    return run


@pytest.fixture
def submit(training: TrainingService) -> Submit:
    async def submit(action: str = "succeed", **options: Any) -> str:
        fields = {
            name: options.pop(name)
            for name in list(options)
            if name in Submission.__dataclass_fields__
        }
        request: dict[str, Any] = {
            "name": "probe",
            "type": "probe",
            "framework": "probe",
            "dataset": "points",
            "config": {"action": action, **options},
        }
        submission = Submission(**(request | fields))
        submitted = await training.submit(submission, submitted_by="the tests")
        return submitted.job_id

    return submit


@pytest.fixture
def finish(training: TrainingService) -> Finish:
    """Waits for a job to end."""

    async def finish(job_id: str) -> JobView:
        with anyio.fail_after(30):
            view = await training.status(job_id, wait_s=30)
            while view.status not in TERMINAL:
                view = await training.status(job_id, wait_s=30)
            return view

    return finish

"""Models on data sets: the service over the embedded adapters, a worker, and one job alone."""

import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.services.data.service import DataService
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import Artifact, Signature
from mcp_hub.services.scoring.service import ScoringService
from mcp_hub.services.scoring.work import Evaluate, Predict
from mcp_hub.services.training.frameworks.base import StagedModel, TrainingTask
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes.slots import Slots
from mcp_hub.services.training.run import run
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.workers.worker import Worker, WorkerOptions
from tests.services import onnx_models
from tests.services.onnx_models import Trained

OPTIONS = WorkerOptions(concurrency=2, lease_s=2.0, heartbeat_s=0.3, poll_s=0.05, idle_exit_s=None)

AddModel = Callable[..., Awaitable[str]]
Running = Callable[[], AbstractAsyncContextManager[None]]


def iris_csv(rows: int | None = None) -> str:
    """Iris with its species; the columns in another order than the model's."""
    trained = onnx_models.iris()
    species = trained.estimator.classes_.repeat(50)
    columns = list(reversed(trained.columns))
    lines = [",".join(["species", "site", *columns])]
    for number, row in enumerate(trained.rows(150)):
        values = [str(row[column]) for column in columns]
        lines.append(",".join([species[number], "ab"[number % 2], *values]))
    return "\n".join(lines if rows is None else lines[: rows + 1])


@pytest.fixture
async def data(
    database: SqliteDatabase, blobs: FileBlobStore, bus: DatabaseBus, tmp_path: Path
) -> DataService:
    data = DataService(database, blobs, bus, roots=[tmp_path], max_bytes=100_000_000)
    await data.register("iris", content=iris_csv(), format="csv")
    return data


@pytest.fixture
def training(
    database: SqliteDatabase, queue: DatabaseQueue, bus: DatabaseBus, data: DataService
) -> TrainingService:
    async def no_worker() -> None:
        pass

    return TrainingService(
        database,
        queue,
        bus,
        data,
        default_timeout_s=60,
        worker_silence_s=15,
        ensure_worker=no_worker,
    )


@pytest.fixture
def scoring(
    database: SqliteDatabase, data: DataService, training: TrainingService
) -> ScoringService:
    return ScoringService(database, data, training)


@pytest.fixture
def add_model(database: SqliteDatabase, blobs: FileBlobStore) -> AddModel:
    """Registers an ONNX file; its reference."""

    async def add(name: str, onnx: bytes, signature: Signature, **values: Any) -> str:
        blob = await blobs.put(onnx)
        artifacts = [Artifact(name="model.onnx", sha256=blob.sha256, bytes=blob.size)]
        new = NewVersion(name, "onnx", signature, artifacts, "tester", **values)
        return f"{name}:{await database.write(partial(add_version, new=new))}"

    return add


@pytest.fixture
async def iris(add_model: AddModel) -> Trained:
    trained = onnx_models.iris()
    await add_model("iris", trained.onnx, trained.signature)
    return trained


@pytest.fixture
def working(
    database: SqliteDatabase,
    queue: DatabaseQueue,
    bus: DatabaseBus,
    blobs: FileBlobStore,
    tmp_path: Path,
) -> Running:
    """Runs a worker in this process while its context lasts."""

    @asynccontextmanager
    async def working() -> AsyncIterator[None]:
        limits = Limits(log_bytes=200_000)
        worker = Worker(
            OPTIONS, limits, tmp_path / "jobs",
            database=database, blobs=blobs, queue=queue, bus=bus,
            slots=Slots((), tmp_path / "gpus"),
        )  # fmt: skip
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield
            worker.stop()

    return working


class Reported(NamedTuple):
    """What a job alone has reported."""

    metrics: dict[str, float]
    evaluation: dict[str, Any]
    dataset: dict[str, Any]
    progress: list[tuple[float, float]]
    checkpoints: list[tuple[str, int]]


Alone = Callable[..., Reported]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alone:
    """Runs one job here, without a queue: `alone(onnx, signature, file, type=…, target=…)`."""

    def alone(
        onnx: bytes,
        signature: Signature,
        dataset: Path | str,
        *,
        target: str | None = None,
        rows: int = 0,
        checkpoint: Path | None = None,
        dtypes: dict[str, str] | None = None,
        **config: Any,
    ) -> Reported:
        folder = tmp_path / "alone"
        folder.mkdir(exist_ok=True)
        events = folder / "events.jsonl"
        events.unlink(missing_ok=True)
        monkeypatch.setenv("MCP_HUB_EVENTS", str(events))
        (folder / "model.onnx").write_bytes(onnx)
        file = dataset if isinstance(dataset, Path) else folder / "data.csv"
        if isinstance(dataset, str):
            file.write_text(dataset)
        work = Evaluate() if "type" in config else Predict()
        task = TrainingTask(
            job_id="job_x",
            attempt=1,
            name="m",
            type=work.types[0],
            target=target,
            config={"model": "m:1", "rows": rows, **config},
            dataset="d:1",
            dataset_file=file,
            dataset_format=file.suffix[1:],
            dataset_options={},
            dataset_dtypes=dtypes or {},
            folder=folder,
            checkpoint=_copied(checkpoint, folder),
            uses=StagedModel("m:1", folder / "model.onnx", signature),
        )
        work.train(task, run)
        told = [json.loads(line) for line in events.read_text().splitlines()]
        of = {event["type"]: event for event in told}
        return Reported(
            {e["key"]: e["value"] for e in told if e["type"] == "metric"},
            of.get("evaluation", {}),
            of.get("dataset", {}),
            [(e["done"], e["total"]) for e in told if e["type"] == "progress"],
            [(e["path"], e["step"]) for e in told if e["type"] == "checkpoint"],
        )

    return alone


def _copied(checkpoint: Path | None, folder: Path) -> Path | None:
    """As the worker puts it into an attempt's folder."""
    return checkpoint and Path(shutil.copy(checkpoint, folder / "restored.checkpoint"))

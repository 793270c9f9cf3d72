"""The composition root: the only place that names concrete adapters and wires the services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.adapters.queue.port import Queue
from mcp_hub.server.settings import Settings
from mcp_hub.server.worker_starter import WorkerStarter
from mcp_hub.services.counting import count
from mcp_hub.services.data.service import DataService
from mcp_hub.services.health import HealthService
from mcp_hub.services.hub import Hub
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.training.execution import Limits
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.worker import Worker, WorkerOptions

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Adapters:
    """What a hub process stands on."""

    database: Database
    blobs: BlobStore
    queue: Queue
    bus: Bus


@asynccontextmanager
async def open_adapters(settings: Settings) -> AsyncIterator[Adapters]:
    """The adapters that `settings` choose, the database at this program's revision.

    Raises:
        Unavailable, Conflict: the database cannot be opened or is newer than this program.
    """
    settings.ensure_folders()
    database = SqliteDatabase(settings.database_path)
    bus = DatabaseBus(database)
    try:
        await database.upgrade()
        yield Adapters(
            database=database,
            blobs=FileBlobStore(settings.blobs_dir),
            queue=DatabaseQueue(database, "jobs"),
            bus=bus,
        )
    finally:
        await bus.close()
        await database.close()


@asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """The services over the adapters that `settings` choose. Raises as `open_adapters`."""
    async with open_adapters(settings) as adapters:
        database, blobs, bus = adapters.database, adapters.blobs, adapters.bus
        data = DataService(
            database, blobs, bus, roots=settings.roots, max_bytes=settings.data.max_mb * _MB
        )
        training = TrainingService(
            database,
            adapters.queue,
            bus,
            data,
            default_timeout_s=settings.training.default_timeout_s,
            ensure_worker=_worker_starter(settings, database),
        )
        yield Hub(
            data=data,
            training=training,
            registry=RegistryService(database, blobs, bus, roots=settings.roots),
            inference=InferenceService(
                database,
                blobs,
                cache_bytes=settings.inference.cache_mb * _MB,
                threads=settings.inference.threads,
            ),
            health=HealthService(
                {
                    "database": database.check,
                    "blobs": blobs.check,
                    "queue": partial(_check_queue, adapters.queue),
                },
                partial(count, database, worker_silence_s=settings.training.lease_s),
            ),
            bus=bus,
        )


async def migrate(settings: Settings) -> list[str]:
    """Bring the database to this program's revision; the revisions applied.

    Raises:
        Unavailable, Conflict: the database cannot be opened or is newer than this program.
    """
    settings.ensure_folders()
    database = SqliteDatabase(settings.database_path)
    try:
        return await database.upgrade()
    finally:
        await database.close()


@asynccontextmanager
async def open_worker(settings: Settings, *, idle_exit_s: float | None) -> AsyncIterator[Worker]:
    """A worker over the adapters that `settings` choose. Raises as `open_adapters`."""
    training = settings.training
    async with open_adapters(settings) as adapters:
        yield Worker(
            WorkerOptions(
                concurrency=training.concurrency,
                lease_s=training.lease_s,
                heartbeat_s=training.heartbeat_s,
                poll_s=training.poll_s,
                idle_exit_s=idle_exit_s,
            ),
            Limits(memory_mb=training.attempt_memory_mb, log_bytes=training.max_log_bytes),
            settings.data_dir / "jobs",
            database=adapters.database,
            blobs=adapters.blobs,
            queue=adapters.queue,
            bus=adapters.bus,
        )


async def _check_queue(queue: Queue) -> str:
    return f"{await queue.depth()} waiting"


def _worker_starter(settings: Settings, database: Database) -> WorkerStarter:
    return WorkerStarter(settings, database, enabled=settings.training.autostart_worker)

"""The composition root: the services over the adapters that the settings choose."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from anyio import to_thread

from mcp_hub import migrations
from mcp_hub.adapters.database.migrating import revision
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Conflict
from mcp_hub.adapters.urls import without_secret
from mcp_hub.server.adapters import Adapters, choose_sources, open_adapters
from mcp_hub.server.containers_composition import LazyContainers
from mcp_hub.server.lazy_hub import own_telemetry
from mcp_hub.server.reporting import choose_senders
from mcp_hub.server.settings import Settings
from mcp_hub.server.telemetry_composition import open_keeping, open_telemetry
from mcp_hub.server.worker_starter import WorkerStarter
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.exposing import Exposing
from mcp_hub.services.counting import count
from mcp_hub.services.data.service import DataService
from mcp_hub.services.disk import check_room
from mcp_hub.services.health import HealthService
from mcp_hub.services.hub import Hub
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.scoring.service import ScoringService
from mcp_hub.services.tasks.service import TaskService
from mcp_hub.services.telemetry.envelope import WORKER_SERVICE
from mcp_hub.services.telemetry.own.facts import Facts, facts_of
from mcp_hub.services.telemetry.own.own import OwnTelemetry
from mcp_hub.services.training.frameworks.base import Place
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes.slots import Slots, detect_gpus, slots_folder
from mcp_hub.services.training.schedules.service import ScheduleService
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submitting import QueueLimits
from mcp_hub.services.training.sweeps.driving import SweepDriver
from mcp_hub.services.training.sweeps.service import SweepService
from mcp_hub.services.training.workers.worker import Worker, WorkerOptions

_MB = 1024 * 1024


@asynccontextmanager
async def open_hub(
    settings: Settings, own: OwnTelemetry | None = None, *, local: bool = False
) -> AsyncIterator[Hub]:
    """The services over the adapters that `settings` choose. Raises as `open_adapters`.

    What `own` has recorded of this process, or a new one in its place, is kept by the hub. `local`
    says that only the user of this machine reaches it, who may run programs anyway.
    """
    own = own or own_telemetry(settings)
    async with AsyncExitStack() as stack:
        adapters = await stack.enter_async_context(open_adapters(settings))
        telemetry = await stack.enter_async_context(open_telemetry(settings, adapters, own))
        containers = LazyContainers(settings, adapters, own, telemetry.embedder)
        await stack.enter_async_context(containers.providing())
        database, blobs, bus = adapters.database, adapters.blobs, adapters.bus
        data = _data_service(settings, adapters)
        senders = choose_senders(settings, own, lambda: facts_of(hub))
        training = _training_service(settings, adapters, data, own, autostart=True, scripts=local)
        hub = Hub(
            data=data,
            training=training,
            schedules=ScheduleService(database, training, _queue_limits(settings)),
            registry=RegistryService(database, blobs, bus, roots=settings.roots, own=own),
            inference=InferenceService(
                database,
                blobs,
                cache_bytes=settings.inference.cache_mb * _MB,
                threads=settings.inference.threads,
                own=own,
            ),
            telemetry=telemetry.service,
            containers=containers,
            exposing=Exposing(database),
            health=HealthService(
                {
                    "database": partial(_check_database, database),
                    "blobs": blobs.check,
                    "queue": adapters.queue.check,
                    "bus": bus.check,
                    "disk": partial(check_room, settings.data_dir),
                    "containers": containers.check,
                    **telemetry.checks,
                    **{name: sender.check for name, sender in senders.items()},
                },
                partial(count, database, worker_silence_s=settings.training.worker_silence_s),
                places=_places(settings),
            ),
            bus=bus,
            tasks=TaskService(database),
            scoring=ScoringService(database, data, training),
            sweeps=SweepService(database, bus, training, data),
        )
        # What is searched was allowed by the hub that took it.
        searching = _training_service(settings, adapters, data, own, autostart=True, scripts=True)
        await stack.enter_async_context(SweepDriver(database, bus, searching).driving())
        for sender in senders.values():
            await stack.enter_async_context(sender.sending())
        await stack.enter_async_context(in_background(data.growing.run))
        yield hub


@asynccontextmanager
async def open_worker(settings: Settings, *, idle_exit_s: float | None) -> AsyncIterator[Worker]:
    """A worker over the adapters that `settings` choose. Raises as `open_adapters`."""
    options = settings.training
    own = own_telemetry(settings, WORKER_SERVICE)
    async with AsyncExitStack() as stack:
        adapters = await stack.enter_async_context(open_adapters(settings))
        keeping = await stack.enter_async_context(open_keeping(settings, adapters, own))
        data = _data_service(settings, adapters)

        async def facts() -> Facts:
            return Facts(keeping.ingest.counts, keeping.ingest.waiting, own.dropped)

        for sender in choose_senders(settings, own, facts, WORKER_SERVICE).values():
            await stack.enter_async_context(sender.sending())
        adopting, scheduling = (
            _training_service(settings, adapters, data, own, autostart=False, scripts=scripts)
            # What is scheduled was allowed by the hub that took it; what others queue was not.
            for scripts in (False, True)
        )
        driver = SweepDriver(adapters.database, adapters.bus, scheduling)
        await stack.enter_async_context(driver.driving())
        yield Worker(
            WorkerOptions(
                concurrency=options.concurrency,
                lease_s=options.lease_s,
                heartbeat_s=options.heartbeat_s,
                poll_s=options.poll_s,
                idle_exit_s=idle_exit_s,
                per_framework=options.framework_concurrency,
            ),
            _limits(settings),
            settings.data_dir / "jobs",
            database=adapters.database,
            blobs=adapters.blobs,
            queue=adapters.queue,
            bus=adapters.bus,
            slots=Slots(await to_thread.run_sync(detect_gpus, options.gpus), slots_folder()),
            training=adopting,
            schedules=ScheduleService(adapters.database, scheduling, _queue_limits(settings)),
            own=own,
        )


def _data_service(settings: Settings, adapters: Adapters) -> DataService:
    return DataService(
        adapters.database,
        adapters.blobs,
        adapters.bus,
        roots=settings.roots,
        max_bytes=settings.data.max_mb * _MB,
        max_rows=settings.data.max_rows,
        sources=choose_sources(settings),
    )


def _training_service(
    settings: Settings,
    adapters: Adapters,
    data: DataService,
    own: OwnTelemetry,
    *,
    autostart: bool,
    scripts: bool,
) -> TrainingService:
    enabled = autostart and settings.training.autostart_worker
    return TrainingService(
        adapters.database,
        adapters.queue,
        adapters.bus,
        data,
        default_timeout_s=settings.training.default_timeout_s,
        worker_silence_s=settings.training.worker_silence_s,
        ensure_worker=WorkerStarter(settings, adapters.database, enabled=enabled),
        limits=_queue_limits(settings),
        allowed=_limits(settings),
        own=own,
        place=_place(settings, scripts=scripts),
    )


def _place(settings: Settings, *, scripts: bool) -> Place:
    """What frameworks may use; `scripts` counts where the settings leave it open."""
    told = settings.training.scripts
    return Place(
        roots=tuple(settings.roots),
        cache=settings.cache_dir,
        node=settings.training.node,
        scripts=scripts if told is None else told,
    )


def _queue_limits(settings: Settings) -> QueueLimits:
    training = settings.training
    return QueueLimits(
        training.max_queued, training.max_queued_per_submitter, training.framework_concurrency
    )


def _limits(settings: Settings) -> Limits:
    training = settings.training
    return Limits(
        log_bytes=training.max_log_bytes,
        disk_mb=training.disk_mb,
        memory_mb=training.attempt_memory_mb,
        max_memory_mb=training.max_memory_mb,
        cpus=training.attempt_cpus,
        max_cpus=training.max_cpus,
        # What was queued was allowed by the hub that queued it.
        place=_place(settings, scripts=True),
    )


async def _check_database(database: Database) -> str:
    """What it is. Raises Conflict where it was taken back to a schema that is too old for us."""
    server = await database.check()
    at = await database.read(revision)
    if at is None or at in migrations.REVISIONS[:-1]:
        raise Conflict(
            f"The database is at revision {at}, and this process needs {migrations.HEAD}.",
            "Start it again to bring the schema up, or start the older version instead.",
        )
    newer = "" if at == migrations.HEAD else f", newer than this version's {migrations.HEAD}"
    return f"{server}, schema {at}{newer}"


def _places(settings: Settings) -> dict[str, str]:
    """The servers' URLs without their secrets, by the adapter that is there."""
    urls = {
        "database": settings.database_url,
        "blobs": settings.blobs_url,
        "queue": settings.redis_url,
        "bus": settings.redis_url,
    }
    return {name: without_secret(url) for name, url in urls.items() if url}

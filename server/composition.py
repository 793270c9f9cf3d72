"""The composition root: the services over the adapters that the settings choose."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from mcp_hub import migrations
from mcp_hub.adapters.database.migrating import revision
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Conflict
from mcp_hub.adapters.urls import without_secret
from mcp_hub.server.adapters import (
    Adapters,
    choose_records,
    choose_sandbox,
    choose_sources,
    choose_stream,
    open_adapters,
    open_meaning,
)
from mcp_hub.server.lazy_hub import own_telemetry
from mcp_hub.server.reporting import alerting, choose_senders
from mcp_hub.server.settings import Settings
from mcp_hub.server.worker_starter import WorkerStarter
from mcp_hub.services.background import in_background
from mcp_hub.services.counting import count
from mcp_hub.services.data.service import DataService
from mcp_hub.services.health import HealthService
from mcp_hub.services.hub import Hub
from mcp_hub.services.inference.service import InferenceService
from mcp_hub.services.registry.service import RegistryService
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.envelope import KINDS
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.intake.streaming import StreamedIngest
from mcp_hub.services.telemetry.own.facts import Facts, facts_of
from mcp_hub.services.telemetry.own.own import OwnTelemetry
from mcp_hub.services.telemetry.records.fields import Fields
from mcp_hub.services.telemetry.records.searching import Searching
from mcp_hub.services.telemetry.records.sql import Sql
from mcp_hub.services.telemetry.records.traces import Traces
from mcp_hub.services.telemetry.service import TelemetryService
from mcp_hub.services.telemetry.storage.retention import Kept, Retention
from mcp_hub.services.telemetry.storage.sealing import Sealing
from mcp_hub.services.telemetry.storage.upkeep import Upkeep
from mcp_hub.services.telemetry.templates.funnels import Funnels
from mcp_hub.services.telemetry.templates.patterns import Patterns
from mcp_hub.services.telemetry.templates.similar import Similar
from mcp_hub.services.telemetry.templates.templates import Templates
from mcp_hub.services.training.execution import Limits
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.worker import Worker, WorkerOptions

_MB = 1024 * 1024
TELEMETRY_STREAM = "telemetry"
"""The stream's name: on Redis, it is at the key `mcp-hub:stream:telemetry`."""


@asynccontextmanager
async def open_hub(settings: Settings, own: OwnTelemetry | None = None) -> AsyncIterator[Hub]:
    """The services over the adapters that `settings` choose. Raises as `open_adapters`.

    What `own` has recorded of this process, or a new one in its place, is kept by the hub.
    """
    own = own or own_telemetry(settings)
    async with AsyncExitStack() as stack:
        adapters = await stack.enter_async_context(open_adapters(settings))
        upkeep = await stack.enter_async_context(_upkeep(settings, adapters))
        database, blobs, bus = adapters.database, adapters.blobs, adapters.bus
        data = _data_service(settings, adapters)
        ingest = await stack.enter_async_context(_ingest(settings, adapters))
        meaning = await stack.enter_async_context(open_meaning(settings, database))
        templates = Templates(database)
        patterns = Patterns(database, templates)
        await stack.enter_async_context(own.kept_by(ingest))
        aggregating = Aggregating(database)
        alerts = await stack.enter_async_context(
            alerting(settings, database, ingest, bus, aggregating)
        )
        senders = choose_senders(settings, own, lambda: facts_of(hub))
        hub = Hub(
            data=data,
            training=_training_service(settings, adapters, data, own, autostart=True),
            registry=RegistryService(database, blobs, bus, roots=settings.roots, own=own),
            inference=InferenceService(
                database,
                blobs,
                cache_bytes=settings.inference.cache_mb * _MB,
                threads=settings.inference.threads,
                own=own,
            ),
            telemetry=TelemetryService(
                ingest=ingest,
                own=own,
                alerts=alerts,
                patterns=patterns,
                funnels=Funnels(database, templates),
                similar=Similar(templates, patterns, meaning.embedder, meaning.vectors),
                aggregating=aggregating,
                fields=Fields(database),
                searching=Searching(database),
                sql=Sql(choose_sandbox(settings, database), database.dialect),
                traces=Traces(database),
                anomalies=(anomalies := AnomalyFinder(database)),
                correlator=Correlator(database, anomalies),
            ),
            health=HealthService(
                {
                    "database": partial(_check_database, database),
                    "blobs": blobs.check,
                    "queue": adapters.queue.check,
                    "bus": bus.check,
                    "telemetry": upkeep.check,
                    **({"stream": ingest.check} if isinstance(ingest, StreamedIngest) else {}),
                    **({"vectors": meaning.vectors.check} if settings.vectors_url else {}),
                    **{name: sender.check for name, sender in senders.items()},
                },
                partial(count, database, worker_silence_s=settings.training.lease_s),
                places=_places(settings),
            ),
            bus=bus,
        )
        for sender in senders.values():
            await stack.enter_async_context(sender.sending())
        yield hub


@asynccontextmanager
async def open_worker(settings: Settings, *, idle_exit_s: float | None) -> AsyncIterator[Worker]:
    """A worker over the adapters that `settings` choose. Raises as `open_adapters`."""
    training = settings.training
    own = own_telemetry(settings, "mcp-hub-worker")
    async with AsyncExitStack() as stack:
        adapters = await stack.enter_async_context(open_adapters(settings))
        await stack.enter_async_context(_upkeep(settings, adapters))
        ingest = await stack.enter_async_context(_ingest(settings, adapters))
        data = _data_service(settings, adapters)
        await stack.enter_async_context(own.kept_by(ingest))
        aggregating = Aggregating(adapters.database)
        await stack.enter_async_context(
            alerting(settings, adapters.database, ingest, adapters.bus, aggregating)
        )

        async def facts() -> Facts:
            return Facts(ingest.counts, ingest.waiting, own.dropped)

        for sender in choose_senders(settings, own, facts, "mcp-hub-worker").values():
            await stack.enter_async_context(sender.sending())
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
            training=_training_service(settings, adapters, data, own, autostart=False),
            own=own,
        )


@asynccontextmanager
async def _upkeep(settings: Settings, adapters: Adapters) -> AsyncIterator[Upkeep]:
    """What goes on in the background of every process of the hub."""
    days = settings.telemetry.retention_days
    kept = Kept({kind: getattr(days, kind) for kind in KINDS}, days.rollups)
    database = adapters.database
    retention = Retention(database, choose_records(database), kept)
    upkeep = Upkeep(database, Sealing(database), retention)
    async with upkeep.running():
        yield upkeep


@asynccontextmanager
async def _ingest(settings: Settings, adapters: Adapters) -> AsyncIterator[Ingest]:
    """What takes telemetry in; by way of a stream, this process is one of those that write it."""
    store = choose_records(adapters.database)
    if settings.telemetry.ingest == "direct":
        yield Ingest(adapters.database, store)
        return
    stream = choose_stream(settings, adapters.database, TELEMETRY_STREAM)
    ingest = StreamedIngest(adapters.database, store, stream)
    try:
        async with in_background(ingest.consume):
            yield ingest
    finally:
        await stream.close()


def _data_service(settings: Settings, adapters: Adapters) -> DataService:
    return DataService(
        adapters.database,
        adapters.blobs,
        adapters.bus,
        roots=settings.roots,
        max_bytes=settings.data.max_mb * _MB,
        sources=choose_sources(settings),
    )


def _training_service(
    settings: Settings, adapters: Adapters, data: DataService, own: OwnTelemetry, *, autostart: bool
) -> TrainingService:
    enabled = autostart and settings.training.autostart_worker
    return TrainingService(
        adapters.database,
        adapters.queue,
        adapters.bus,
        data,
        default_timeout_s=settings.training.default_timeout_s,
        ensure_worker=WorkerStarter(settings, adapters.database, enabled=enabled),
        own=own,
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

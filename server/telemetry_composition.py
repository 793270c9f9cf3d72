"""Telemetry's part of the composition: what keeps records, and what answers questions to them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.server.adapters import (
    Adapters,
    choose_records,
    choose_sandbox,
    choose_stream,
    open_meaning,
)
from mcp_hub.server.reporting import alerting
from mcp_hub.server.settings import Settings
from mcp_hub.services.background import in_background
from mcp_hub.services.health import Check
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.envelope import KINDS
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.intake.streaming import StreamedIngest
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

TELEMETRY_STREAM = "telemetry"
"""The stream's name: on Redis, it is at the key `mcp-hub:stream:telemetry`."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What every process of the hub does with telemetry, in the background and when it records."""

    ingest: Ingest
    upkeep: Upkeep
    aggregating: Aggregating
    alerts: AlertService


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The service, the checks of what it stands on, and what embeds texts for others too."""

    service: TelemetryService
    checks: dict[str, Check]
    embedder: Embedder


@asynccontextmanager
async def open_keeping(
    settings: Settings, adapters: Adapters, own: OwnTelemetry
) -> AsyncIterator[Keeping]:
    """Records are kept, what `own` records among them, sealed and pruned, and alerts evaluated."""
    database = adapters.database
    async with AsyncExitStack() as stack:
        upkeep = await stack.enter_async_context(_upkeep(settings, adapters))
        ingest = await stack.enter_async_context(_ingest(settings, adapters))
        await stack.enter_async_context(own.kept_by(ingest))
        aggregating = Aggregating(database)
        alerts = await stack.enter_async_context(
            alerting(settings, database, ingest, adapters.bus, aggregating)
        )
        yield Keeping(ingest, upkeep, aggregating, alerts)


@asynccontextmanager
async def open_telemetry(
    settings: Settings, adapters: Adapters, own: OwnTelemetry
) -> AsyncIterator[Telemetry]:
    """Records are kept, and questions to them answered."""
    database = adapters.database
    async with (
        open_keeping(settings, adapters, own) as keeping,
        open_meaning(settings, database) as meaning,
    ):
        ingest = keeping.ingest
        templates = Templates(database)
        patterns = Patterns(database, templates)
        anomalies = AnomalyFinder(database)
        service = TelemetryService(
            ingest=ingest,
            own=own,
            alerts=keeping.alerts,
            aggregating=keeping.aggregating,
            fields=Fields(database),
            searching=Searching(database),
            sql=Sql(choose_sandbox(settings, database), database.dialect),
            traces=Traces(database),
            patterns=patterns,
            similar=Similar(templates, patterns, meaning.embedder, meaning.vectors),
            funnels=Funnels(database, templates),
            anomalies=anomalies,
            correlator=Correlator(database, anomalies),
        )
        checks: dict[str, Check] = {"telemetry": keeping.upkeep.check}
        if isinstance(ingest, StreamedIngest):
            checks["stream"] = ingest.check
        if settings.vectors_url:
            checks["vectors"] = meaning.vectors.check
        yield Telemetry(service, checks, meaning.embedder)


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

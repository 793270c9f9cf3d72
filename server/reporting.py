"""What the hub tells others by itself, as the settings say: metrics, its log, and alerts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.server.settings import Settings
from mcp_hub.services.background import in_background
from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.delivering import Alertmanager, Webhook
from mcp_hub.services.telemetry.alerts.evaluating import Evaluator
from mcp_hub.services.telemetry.alerts.measuring import Measuring
from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.envelope import HUB_SERVICE
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.own.facts import Facts
from mcp_hub.services.telemetry.own.own import OwnTelemetry
from mcp_hub.services.telemetry.pushing.sending import Sender


def choose_senders(
    settings: Settings,
    own: OwnTelemetry,
    facts: Callable[[], Awaitable[Facts]],
    service: str = HUB_SERVICE,
) -> dict[str, Sender[Any]]:
    """What reports to the endpoints of the settings, by the name that health has for it."""
    told = settings.telemetry
    senders: dict[str, Sender[Any]] = {}
    if told.enabled and told.endpoints.metrics is not None:
        from mcp_hub.services.telemetry.own.meters import Meters
        from mcp_hub.services.telemetry.pushing.metrics import MetricsSender

        senders["metrics endpoint"] = MetricsSender(
            told.endpoints.metrics,
            own.observer(Meters),
            facts,
            interval_s=told.reporting_interval_s,
        )
    if told.enabled and told.endpoints.logs is not None:
        from mcp_hub.services.telemetry.pushing.logs import LogsSender

        logs = LogsSender(
            told.endpoints.logs, interval_s=told.reporting_interval_s, service=service
        )
        own.observe(logs)
        senders["logs endpoint"] = logs
    return senders


@asynccontextmanager
async def alerting(
    settings: Settings, database: Database, ingest: Ingest, bus: Bus, aggregating: Aggregating
) -> AsyncIterator[AlertService]:
    """The alerts; meanwhile this process evaluates them when no other does."""
    told = settings.telemetry
    alertmanager = Alertmanager(told.alertmanager_url) if told.alertmanager_url else None
    webhook = Webhook(told.webhook_url, told.webhook_secret) if told.webhook_url else None
    measuring = Measuring(aggregating)
    evaluator = Evaluator(
        database,
        ingest,
        bus,
        measuring,
        interval_s=told.alert_interval_s,
        alertmanager=alertmanager,
        webhook=webhook,
    )
    async with in_background(evaluator.run):
        yield AlertService(database, bus, measuring, alertmanager=alertmanager, webhook=webhook)

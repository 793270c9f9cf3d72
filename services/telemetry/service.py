"""Telemetry as tools, resources and routes reach it."""

from dataclasses import dataclass

from mcp_hub.services.telemetry.aggregates.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.anomalies.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.anomalies.correlating import Correlator
from mcp_hub.services.telemetry.intake.ingest import Ingest
from mcp_hub.services.telemetry.own.own import OwnTelemetry
from mcp_hub.services.telemetry.records.fields import Fields
from mcp_hub.services.telemetry.records.searching import Searching
from mcp_hub.services.telemetry.records.sql import Sql
from mcp_hub.services.telemetry.records.traces import Traces
from mcp_hub.services.telemetry.templates.funnels import Funnels
from mcp_hub.services.telemetry.templates.patterns import Patterns
from mcp_hub.services.telemetry.templates.similar import Similar


@dataclass(frozen=True, slots=True)
class TelemetryService:
    """One object for each thing that can be asked."""

    ingest: Ingest
    own: OwnTelemetry
    alerts: AlertService
    aggregating: Aggregating
    patterns: Patterns
    similar: Similar
    funnels: Funnels
    fields: Fields
    searching: Searching
    sql: Sql
    traces: Traces
    anomalies: AnomalyFinder
    correlator: Correlator

"""Telemetry as tools, resources and routes reach it."""

from dataclasses import dataclass

from mcp_hub.services.telemetry.aggregating import Aggregating
from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.correlating import Correlator
from mcp_hub.services.telemetry.fields import Fields
from mcp_hub.services.telemetry.funnels import Funnels
from mcp_hub.services.telemetry.ingest import Ingest
from mcp_hub.services.telemetry.own import OwnTelemetry
from mcp_hub.services.telemetry.patterns import Patterns
from mcp_hub.services.telemetry.searching import Searching
from mcp_hub.services.telemetry.similar import Similar
from mcp_hub.services.telemetry.sql import Sql
from mcp_hub.services.telemetry.traces import Traces


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

"""Telemetry as tools, resources and routes reach it."""

from dataclasses import dataclass

from mcp_hub.services.telemetry.alerts.service import AlertService
from mcp_hub.services.telemetry.ingest import Ingest
from mcp_hub.services.telemetry.own import OwnTelemetry


@dataclass(frozen=True, slots=True)
class TelemetryService:
    """One object for each thing that can be asked."""

    ingest: Ingest
    own: OwnTelemetry
    alerts: AlertService

"""Telemetry as tools, resources and routes reach it."""

from dataclasses import dataclass

from mcp_hub.services.telemetry.anomalies import AnomalyFinder
from mcp_hub.services.telemetry.correlating import Correlator
from mcp_hub.services.telemetry.ingest import Ingest


@dataclass(frozen=True, slots=True)
class TelemetryService:
    """One object for each thing that can be asked."""

    ingest: Ingest
    anomalies: AnomalyFinder
    correlator: Correlator

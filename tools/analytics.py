"""Telemetry's analytics: patterns, anomalies, what else changed, what is similar, alerts."""

from mcp_hub.tools.toolset import Toolset


class AnalyticsTools(Toolset):
    """The toolset `telemetry`: what is found in the records by itself."""

    name = "telemetry"

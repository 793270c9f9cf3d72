"""What the tools for anomalies and their causes return."""

from typing import Literal

from pydantic import Field

from mcp_hub.services.telemetry.deviations import Signal
from mcp_hub.services.views import View


class Anomaly(View):
    service: str = Field(description="* is all")
    kind: str | None = Field(default=None, description="Null: the service as a whole")
    name: str | None = None
    signal: Signal
    since: str
    until: str
    expected: float | None = None
    seen: float | None = None
    severity: float = Field(description="1 - e^(-c/3); c: the change in units of the least told")
    level: Literal["low", "medium", "high"] = Field(description="Below 0.45, below 0.75, above")
    says: str
    also: list[str] = Field(default=[], description="Other signals of the service at that time")
    incident: int = Field(description="The same for what happened together")


class Anomalies(View):
    findings: list[Anomaly] = Field(description="The most severe first")
    series: int = Field(description="How many were examined")
    minutes: int
    note: str

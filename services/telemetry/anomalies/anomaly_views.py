"""What the tools for anomalies and their causes return."""

from typing import Literal

from pydantic import Field

from mcp_hub.services.telemetry.anomalies.choices import Signal
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
    unit: str | None = None
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


class LikelyCause(View):
    score: float = Field(description="effect × proximity × place")
    effect: float
    proximity: float
    place: float = Field(description="Below 1: another explains it; above 1: it explains others")
    service: str
    what: str = Field(description="A signal as in telemetry_anomalies, or the name of a change")
    at: str = Field(description="When it began")
    says: str
    because: str | None = None
    also: list[str] = Field(default=[])
    next: str = Field(description="The call that shows more")


class Correlation(View):
    causes: list[LikelyCause] = Field(description="The likeliest first")
    calls: list[str] = Field(description="Caller → callee, as spans around the instant show")
    note: str

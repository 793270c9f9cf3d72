"""Alerts as their users see them."""

from typing import Any

from pydantic import Field

from mcp_hub.services.telemetry.alerts.states import State
from mcp_hub.services.views import View


class AlertView(View):
    name: str
    state: State
    since: str
    value: float | None = Field(None, description="At the last evaluation; null: nothing to tell")
    condition: str
    silenced: str | None = Field(None, description="Until when, or by Alertmanager")
    problem: str | None = Field(None, description="Why it is not measured, or somebody not told")
    evaluated_at: str | None = None
    rule: dict[str, Any] | None = Field(None, description="As it was set, with its defaults")


class Tested(View):
    """What a rule would do, without being kept."""

    value: float | None
    would_fire: bool
    windows: int = Field(description="So many windows before were looked at")
    broken_before: int = Field(description="In so many of them its condition held")


class Alerts(View):
    alerts: list[AlertView]
    tested: Tested | None = None
    note: str | None = None

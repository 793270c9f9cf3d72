"""Alert rules over telemetry."""

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.telemetry.alerts.views import Alerts
from mcp_hub.tools.toolset import Toolset, caller, tool


class AlertTools(Toolset):
    """The toolset `telemetry`: what is watched."""

    name = "telemetry"

    @tool(title="Show alerts", read_only=True, open_world=True)
    async def telemetry_alerts(
        self,
        name: Annotated[str | None, Field(description="Show this one with its rule")] = None,
        rule: Annotated[
            dict[str, Any] | None,
            Field(description="Try this instead, as telemetry_alert takes it"),
        ] = None,
    ) -> Alerts:
        """Alerts with state, value and silence, those that fire first. A rule is tried on the
        last windows; nothing is kept and nobody told."""
        alerts = (await self.hub()).telemetry.alerts
        if name is not None and rule is not None:
            raise InvalidArgument("name and rule exclude each other.", "A rule needs no name here.")
        if rule is not None:
            return await alerts.test(rule)
        return await (alerts.list() if name is None else alerts.get(name))

    @tool(title="Manage alerts", destructive=True, idempotent=True, open_world=True)
    async def telemetry_alert(
        self,
        ctx: Context[Any],
        action: Literal["set", "delete", "silence"],
        name: str,
        rule: Annotated[
            dict[str, Any] | None,
            Field(
                description="For set: {kind?, name?, service?, where?, measure: as in "
                "telemetry_aggregate; window: 5m; op: >; threshold, or deviations: 4 from the "
                "windows before; for: 2m; labels?, annotations?, destinations?}"
            ),
        ] = None,
        silence_for: Annotated[str | None, Field(description="Such as 2h; 0s ends it")] = None,
    ) -> Alerts:
        """Watch an aggregate of telemetry. An alert is ok, pending (for `for`), then firing:
        Alertmanager, a webhook and subscribers of telemetry://alerts/{name} are told. Try a rule
        with telemetry_alerts first."""
        alerts = (await self.hub()).telemetry.alerts
        if action == "set":
            return await alerts.set(name, rule, created_by=caller(ctx))
        if action == "delete":
            return await alerts.delete(name)
        if silence_for is None:
            raise InvalidArgument("silence needs silence_for.", "Such as 2h.")
        return await alerts.silence(name, silence_for)

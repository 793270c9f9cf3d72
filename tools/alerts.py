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

    @tool(title="Manage alerts", destructive=True, idempotent=True, open_world=True)
    async def telemetry_alert(
        self,
        ctx: Context[Any],
        action: Literal["set", "list", "get", "delete", "silence", "test"],
        name: str | None = None,
        rule: Annotated[
            dict[str, Any] | None,
            Field(
                description="For set and test: {kind?, name?, service?, where?, measure: as in "
                "telemetry_aggregate; window: 5m; op: >; threshold, or deviations: 4 from the "
                "windows before; for: 2m; labels?, annotations?, destinations?}"
            ),
        ] = None,
        silence_for: Annotated[str | None, Field(description="Such as 2h; 0s ends it")] = None,
    ) -> Alerts:
        """Watch an aggregate of telemetry. An alert is ok, pending (for `for`), then firing:
        Alertmanager, a webhook and subscribers of telemetry://alerts/{name} are told. test tries
        a rule on the last windows and tells nobody."""
        alerts = (await self.hub()).telemetry.alerts
        if action == "list":
            return await alerts.list()
        if action == "test":
            return await alerts.test(name, rule)
        if name is None:
            raise InvalidArgument(f"{action} needs the name of an alert.", "See action list.")
        if action == "set":
            return await alerts.set(name, rule, created_by=caller(ctx))
        if action == "silence":
            if silence_for is None:
                raise InvalidArgument("silence needs silence_for.", "Such as 2h.")
            return await alerts.silence(name, silence_for)
        return await (alerts.delete(name) if action == "delete" else alerts.get(name))

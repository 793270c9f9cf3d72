"""Alerts to read and to subscribe to."""

from mcp_hub.resources.base import ResourceSet, resource
from mcp_hub.resources.completions import alert_names
from mcp_hub.services.telemetry.alerts.views import AlertView


class AlertResources(ResourceSet):
    name = "telemetry"

    @resource("telemetry://alerts/{name}", title="Alert", complete={"name": alert_names})
    async def alert(self, name: str) -> AlertView:
        """An alert as it stands: state, value, condition, rule. Subscribable."""
        return (await (await self.hub()).telemetry.alerts.get(name)).alerts[0]

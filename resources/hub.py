"""What the hub itself offers to read."""

from mcp_hub.resources.base import ResourceSet, resource
from mcp_hub.services.health import HealthReport


class HubResources(ResourceSet):
    name = "hub"

    @resource("hub://health", title="Hub health")
    async def health(self) -> HealthReport:
        """Whether each part that the hub stands on answers, and how fast."""
        return await (await self.hub()).health.check()

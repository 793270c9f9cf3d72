"""Containers to read and to subscribe to."""

from mcp.types import Resource

from mcp_hub.resources.base import NEWEST, ResourceSet, listed, resource
from mcp_hub.resources.completions import container_names
from mcp_hub.services.containers.views import ContainerLogs, ContainerView
from mcp_hub.services.hub import containers_of


class ContainerResources(ResourceSet):
    name = "containers"

    @resource("containers://{name}", title="Container", complete={"name": container_names})
    async def container(self, name: str) -> ContainerView:
        """A deployed MCP server as it stands: spec, status, instances, tools. Subscribable."""
        return await (await containers_of(self.hub)).showing.get(name)

    @resource(
        "containers://{name}/logs", title="Container's log", complete={"name": container_names}
    )
    async def logs(self, name: str) -> ContainerLogs:
        """The last lines that a deployment's containers wrote. Subscribable."""
        return await (await containers_of(self.hub)).logs.read(name)

    async def newest(self) -> list[Resource]:
        containers = (await self.hub()).containers
        if not await containers.any():
            return []
        page = await (await containers()).showing.list(limit=NEWEST)
        return [
            listed(
                f"containers://{one.name}",
                f"Container {one.name} ({one.status})",
                f"{one.image}, {one.tools} tools.",
            )
            for one in page.items
        ]

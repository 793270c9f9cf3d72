"""Data sets to read."""

from mcp.types import Resource

from mcp_hub.resources.base import NEWEST, ResourceSet, listed, resource
from mcp_hub.resources.completions import dataset_names
from mcp_hub.services.data.views import DatasetView


class DataResources(ResourceSet):
    name = "data"

    @resource("datasets://{name}", title="Data set", complete={"name": dataset_names})
    async def dataset(self, name: str) -> DatasetView:
        """A data set's newest version: its columns, size, source and content hash."""
        return await (await self.hub()).data.get(name)

    async def newest(self) -> list[Resource]:
        page = await (await self.hub()).data.list(limit=NEWEST)
        return [
            listed(
                f"datasets://{item.name}",
                f"Data set {item.name}",
                f"Version {item.version}: {item.rows} rows, {item.columns} columns.",
            )
            for item in page.items
        ]

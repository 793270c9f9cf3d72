"""The tools about the hub itself."""

from typing import Literal

from pydantic import Field

from mcp_hub.services.health import Counts, HealthReport
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.views import View
from mcp_hub.tools.toolset import Toolset, tool


class Limits(View):
    """What the hub refuses or cuts, so that calls can be planned."""

    result_characters: int = Field(description="Longest result unless more is asked for")
    dataset_mb: int
    inline_content_mb: int
    wait_s: int = Field(description="Longest training_status wait_s")
    page_items: int = Field(description="Largest limit of a list")


class HubAbout(View):
    """What is fixed while the hub runs."""

    version: str
    protocol_versions: list[str]
    data_dir: str
    roots: list[str] = Field(description="Folders that dataset_register reads files from")
    sources: list[str] = Field(
        default=[], description="Servers that dataset_register reads as NAME:ITEM"
    )
    toolsets: list[str]
    read_only: bool
    transport: Literal["stdio", "http"]
    limits: Limits


class HubInfo(HubAbout):
    counts: Counts


class HubTools(Toolset):
    name = "hub"

    def __init__(self, hub: HubProvider, about: HubAbout) -> None:
        super().__init__(hub)
        self._about = about

    @tool(title="Hub health", read_only=True)
    async def hub_health(self) -> HealthReport:
        """Whether each part that the hub stands on (database, blob store, queue, change notices)
        answers, and how fast. Look here when calls fail with `unavailable`."""
        return await (await self.hub()).health.check()

    @tool(title="About this hub", read_only=True)
    async def hub_info(self) -> HubInfo:
        """This hub's version, folders and servers that data can be read from,
        limits, and how many data sets,
        models, jobs and live workers it has. Call it first when you do not know the hub."""
        counts = await (await self.hub()).health.counts()
        return HubInfo(**self._about.model_dump(), counts=counts)

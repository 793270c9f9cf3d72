"""Which tools, resources and prompts the hub's MCP server offers, as the settings say."""

from functools import partial
from typing import Literal, Protocol

from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

import mcp_hub
from mcp_hub.adapters.database.peeking import may_have_rows
from mcp_hub.resources.alerts import AlertResources
from mcp_hub.resources.base import ResourceSet
from mcp_hub.resources.containers import ContainerResources
from mcp_hub.resources.data import DataResources
from mcp_hub.resources.hub import HubResources
from mcp_hub.resources.registry import RegistryResources
from mcp_hub.resources.telemetry import TelemetryResources
from mcp_hub.resources.training import TrainingResources
from mcp_hub.server.exposed import Exposed
from mcp_hub.server.hub_server import HubServer
from mcp_hub.server.lazy_hub import LazyHub
from mcp_hub.server.observing import McpSpans
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.pages import MAX_LIMIT
from mcp_hub.tools.alerts import AlertTools
from mcp_hub.tools.analytics import AnalyticsTools
from mcp_hub.tools.containers import ContainerTools
from mcp_hub.tools.data import DataTools
from mcp_hub.tools.hub import HubAbout, HubTools, Limits
from mcp_hub.tools.inference import InferenceTools
from mcp_hub.tools.registry import RegistryTools
from mcp_hub.tools.sweeps import SweepTools
from mcp_hub.tools.telemetry import TelemetryTools
from mcp_hub.tools.toolset import MAX_CHARACTERS, Toolset
from mcp_hub.tools.training import TrainingTools

_TOOLSETS: dict[str, tuple[type[Toolset], ...]] = {
    "training": (TrainingTools, SweepTools),
    "data": (DataTools,),
    "registry": (RegistryTools,),
    "inference": (InferenceTools,),
    "telemetry": (TelemetryTools, AnalyticsTools, AlertTools),
    "containers": (ContainerTools,),
}
_RESOURCES: tuple[type[ResourceSet], ...] = (
    TrainingResources,
    DataResources,
    RegistryResources,
    TelemetryResources,
    AlertResources,
    ContainerResources,
    HubResources,
)

Transport = Literal["stdio", "http"]


class CreateServer(Protocol):
    """What makes a process's server, once it has its settings: `create_server`."""

    def __call__(
        self, settings: Settings, hub: HubProvider, *, transport: Transport
    ) -> HubServer: ...


def create_server(
    settings: Settings, hub: HubProvider, *, transport: Transport = "stdio"
) -> HubServer:
    """The MCP server that `settings` describe. It asks for the hub when a call first needs it."""
    toolsets: list[Toolset] = []
    for name in dict.fromkeys(settings.toolsets):
        if name == "hub":
            toolsets.append(HubTools(hub, _about(settings, transport)))
        elif settings.is_on(name):
            toolsets += [group(hub) for group in _TOOLSETS[name]]
    names = list(dict.fromkeys(toolset.name for toolset in toolsets))
    exposes = "containers" in names and settings.containers.enabled
    server = HubServer(
        hub,
        tools=[tool for toolset in toolsets for tool in toolset.tools()],
        sets=[group(hub) for group in _RESOURCES if group.name in names],
        exposed=Exposed(hub, partial(_may_have_deployments, settings) if exposes else None),
        read_only=settings.read_only,
    )
    if isinstance(hub, LazyHub):
        spans = McpSpans(hub.own, server.known_tool, server.get_request_handler, transport)
        server.middleware.append(spans)
    server.middleware.append(server.legacy_tasks.answer_calls)
    return server


def _may_have_deployments(settings: Settings) -> bool:
    elsewhere = not (settings.database_url or "sqlite:").startswith("sqlite:")
    return elsewhere or may_have_rows(settings.database_path, "containers")


def _about(settings: Settings, transport: Transport) -> HubAbout:
    return HubAbout(
        version=mcp_hub.__version__,
        protocol_versions=list(reversed(KNOWN_PROTOCOL_VERSIONS)),
        data_dir=str(settings.data_dir),
        roots=[str(root) for root in settings.roots],
        sources=sorted(settings.data.sources),
        toolsets=list(settings.toolsets),
        read_only=settings.read_only,
        transport=transport,
        limits=Limits(
            result_characters=MAX_CHARACTERS,
            dataset_mb=settings.data.max_mb,
            inline_content_mb=1,
            wait_s=50,
            page_items=MAX_LIMIT,
        ),
    )

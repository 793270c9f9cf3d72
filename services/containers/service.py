"""Everything about containers that front ends call, in one object."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_hub.services.containers.calling import Calling
    from mcp_hub.services.containers.catalog import Catalogs
    from mcp_hub.services.containers.deploying import Deploying
    from mcp_hub.services.containers.finding import Finding
    from mcp_hub.services.containers.logs import Logs
    from mcp_hub.services.containers.sessions import Sessions
    from mcp_hub.services.containers.showing import Showing
    from mcp_hub.services.containers.suspending import Suspending


@dataclass(frozen=True, slots=True)
class ContainersService:
    """MCP servers in containers: what is deployed, what it offers, and calls of it."""

    deploying: "Deploying"
    showing: "Showing"
    catalogs: "Catalogs"
    finding: "Finding"
    logs: "Logs"
    calling: "Calling"
    sessions: "Sessions"
    suspending: "Suspending"

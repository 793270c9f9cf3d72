"""What the instances of one hub process are run with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp_hub.adapters.containers.port import ContainerConfig, ContainerEngine
from mcp_hub.adapters.database.port import Database
from mcp_hub.services.containers.instances.rows import Instance, Revision
from mcp_hub.services.telemetry.own.own import OwnTelemetry

Configure = Callable[[Revision], Awaitable[ContainerConfig]]
"""What a revision's container is made of, all it needs made ready; its name and labels are set by
whoever makes it."""
Notified = Callable[[Instance, str, dict[str, Any]], None]
"""Told of a server's notification that is no call's own: its method and params. Must not wait."""


@dataclass(frozen=True, slots=True)
class Means:
    """What instances are run with; `hub` is the hub's id."""

    hub: str
    engine: ContainerEngine
    database: Database
    configure: Configure
    own: OwnTelemetry
    notified: Notified
    changed: Callable[[str], None]
    """Told of a name whose instances are not as they were. Must not wait."""
    stats_s: float
    """Between two measurements of what a container uses."""

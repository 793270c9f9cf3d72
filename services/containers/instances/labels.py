"""How a hub's containers are told from all others on the same engine."""

from collections.abc import Mapping
from typing import Literal

from mcp_hub.services.containers.instances.rows import Instance
from mcp_hub.services.containers.labels import HUB, INSTANCE, NAME, REVISION, ROLE

__all__ = ["HUB", "INSTANCE", "NAME", "REVISION", "ROLE", "engine_name", "labels_of", "servers_of"]

Role = Literal["server", "proxy"]


def labels_of(hub: str, instance: Instance) -> dict[str, str]:
    """The labels of the container that an instance's server runs in."""
    role: Role = "server"
    return {
        HUB: hub,
        INSTANCE: instance.id,
        NAME: instance.name,
        REVISION: str(instance.revision),
        ROLE: role,
    }


def servers_of(hub: str) -> Mapping[str, str]:
    """The labels that all containers of a hub's servers share."""
    role: Role = "server"
    return {HUB: hub, ROLE: role}


def engine_name(hub: str, instance: str) -> str:
    """The container's name on the engine."""
    return f"mcphub-{hub}-{instance}"

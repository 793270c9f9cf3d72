"""The hub as its front ends see it: one object that holds the services."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mcp_hub.adapters.bus.port import Bus
    from mcp_hub.services.containers.exposing import Exposing
    from mcp_hub.services.containers.service import ContainersService
    from mcp_hub.services.data.service import DataService
    from mcp_hub.services.health import HealthService
    from mcp_hub.services.inference.service import InferenceService
    from mcp_hub.services.registry.service import RegistryService
    from mcp_hub.services.scoring.service import ScoringService
    from mcp_hub.services.tasks.service import TaskService
    from mcp_hub.services.telemetry.service import TelemetryService
    from mcp_hub.services.training.schedules.service import ScheduleService
    from mcp_hub.services.training.service import TrainingService
    from mcp_hub.services.training.sweeps.service import SweepService


@dataclass(frozen=True, slots=True)
class Hub:
    """What the tools, the resources, the HTTP routes and the CLI call."""

    data: "DataService"
    training: "TrainingService"
    schedules: "ScheduleService"
    registry: "RegistryService"
    inference: "InferenceService"
    telemetry: "TelemetryService"
    containers: "ContainersProvider"
    exposing: "Exposing"
    health: "HealthService"
    bus: "Bus"
    tasks: "TaskService"
    scoring: "ScoringService"
    sweeps: "SweepService"


class ContainersProvider(Protocol):
    """Gives what is done with containers, made at the first call: most hubs run none."""

    async def __call__(self) -> "ContainersService":
        """Raises Denied where they are switched off, Unavailable where a package is missing."""
        ...

    async def any(self) -> bool:
        """Whether anything is deployed."""
        ...


HubProvider = Callable[[], Awaitable[Hub]]
"""Gives the hub, building it at the first call: a server answers `tools/list` before that."""


async def containers_of(provide: HubProvider) -> "ContainersService":
    """What a hub does with containers."""
    return await (await provide()).containers()

"""What a process finds out about the hub each time that its metrics are asked for."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_hub.adapters.errors import HubError

if TYPE_CHECKING:
    from mcp_hub.services.health import Counts, HealthReport
    from mcp_hub.services.hub import Hub
    from mcp_hub.services.telemetry.intake import ingest


@dataclass(frozen=True, slots=True)
class Facts:
    """None is what cannot be known just now."""

    ingest: "ingest.Counts"
    waiting: int
    """Records that wait to be written."""
    dropped: int
    """Records of the hub's own that were lost."""
    health: "HealthReport | None" = None
    counts: "Counts | None" = None
    queue_depth: int | None = None
    alerts: Mapping[str, int] = field(default_factory=dict)


async def facts_of(hub: "Hub") -> Facts:
    """What `hub` finds out about itself. Never raises HubError."""
    telemetry = hub.telemetry
    counts, depth = None, None
    alerts: Mapping[str, int] = {}
    health = await hub.health.check()
    # What does not answer is in the health report.
    with suppress(HubError):
        counts = await hub.health.counts()
        depth = await hub.training.waiting()
        alerts = await telemetry.alerts.count_by_state()
    return Facts(
        telemetry.ingest.counts, telemetry.ingest.waiting, telemetry.own.dropped,
        health, counts, depth, alerts,
    )  # fmt: skip

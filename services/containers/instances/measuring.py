"""What a container uses, measured again and again, into the hub's telemetry."""

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any

import anyio

from mcp_hub.adapters.containers.port import ContainerEngine, Stats
from mcp_hub.adapters.errors import HubError
from mcp_hub.services.telemetry.own.own import OwnTelemetry

logger = logging.getLogger(__name__)


async def measure(
    engine: ContainerEngine,
    container: str,
    own: OwnTelemetry,
    *,
    service: str,
    attributes: Mapping[str, Any],
    every_s: float,
) -> None:
    """Record the metrics `container.…` of a container as those of `service`, until cancelled.

    Gauges are `memory.usage` and `memory.limit` (bytes), `pids`, and `cpu.usage` (CPUs, over the
    time since the measurement before). `network.io` and `disk.io` are bytes since the measurement
    before, so that they can be summed.
    """
    before: tuple[Stats, float] | None = None
    while True:
        try:
            now = await engine.stats(container), monotonic()
        except HubError as error:  # it is just ending, or the engine is away
            logger.debug("What %s uses is not known: %s", container, error)
        else:
            for name, value, unit, more in [*_gauges(now[0]), *(_since(before, now))]:
                own.metric(
                    f"container.{name}", value, unit, {**attributes, **more}, service=service
                )
            before = now
        await anyio.sleep(every_s)


Point = tuple[str, float, str, dict[str, str]]


def cpus(before: tuple[Stats, float], now: tuple[Stats, float]) -> float:
    """The CPUs in use between two measurements, each with its time in seconds."""
    return max(0.0, now[0].cpu_s - before[0].cpu_s) / max(now[1] - before[1], 1e-6)


def _gauges(now: Stats) -> list[Point]:
    return [
        ("memory.usage", now.memory, "By", {}),
        ("memory.limit", now.memory_limit, "By", {}),
        ("pids", now.pids, "{process}", {}),
    ]


def _since(before: tuple[Stats, float] | None, now: tuple[Stats, float]) -> list[Point]:
    if before is None:
        return []
    old, new = before[0], now[0]
    return [
        ("cpu.usage", cpus(before, now), "{cpu}", {}),
        *(
            (f"{kind}.io", max(0, amount), "By", {f"{kind}.io.direction": direction})
            for kind, direction, amount in (
                ("network", "receive", new.received - old.received),
                ("network", "transmit", new.sent - old.sent),
                ("disk", "read", new.read - old.read),
                ("disk", "write", new.written - old.written),
            )
        ),
    ]

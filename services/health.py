"""How the hub is: whether what it stands on answers, and how much it holds."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import anyio
from pydantic import Field

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.views import View

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str]]
"""One round trip to an adapter; returns what it is, raises HubError when it does not answer."""


class AdapterHealth(View):
    status: Literal["ok", "failing"]
    latency_ms: float
    detail: str


class HealthReport(View):
    """`degraded` when at least one adapter fails."""

    status: Literal["ok", "degraded"]
    adapters: dict[str, AdapterHealth]


class Counts(View):
    """How much the hub holds, deleted model versions left out."""

    datasets: int
    models: int
    model_versions: int
    jobs: dict[str, int] = Field(description="By status")
    workers_alive: int


class HealthService:
    """Asks every adapter at once, each within a deadline."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        count: Callable[[], Awaitable[Counts]],
        *,
        deadline_s: float = 5.0,
    ) -> None:
        self._checks = checks
        self._count = count
        self._deadline_s = deadline_s

    async def check(self) -> HealthReport:
        """The health of every adapter, within about the deadline. Never raises."""
        found: dict[str, AdapterHealth] = {}

        async def ask(name: str, check: Check) -> None:
            found[name] = await self._ask(name, check)

        async with anyio.create_task_group() as tasks:
            for name, check in self._checks.items():
                tasks.start_soon(ask, name, check)
        healthy = all(adapter.status == "ok" for adapter in found.values())
        return HealthReport(
            status="ok" if healthy else "degraded",
            adapters={name: found[name] for name in self._checks},
        )

    async def counts(self) -> Counts:
        """How much the hub holds.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self._count()

    async def _ask(self, name: str, check: Check) -> AdapterHealth:
        started = time.perf_counter()
        status: Literal["ok", "failing"] = "failing"
        detail = f"No answer within {self._deadline_s:g} s."
        with anyio.move_on_after(self._deadline_s):
            try:
                detail = await check()
                status = "ok"
            except HubError as error:
                detail = error.message
            except Exception as error:  # a health check must report, whatever breaks
                logger.exception("The check of %s failed", name)
                detail = f"{type(error).__name__}; the hub's log has details."
        latency_ms = round((time.perf_counter() - started) * 1000, 1)
        return AdapterHealth(status=status, latency_ms=latency_ms, detail=detail)

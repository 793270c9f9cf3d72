"""How the hub is: whether what it stands on answers, and how much it holds."""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Literal

import anyio
from pydantic import Field

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.views import View

logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[str | None]]
"""One round trip to an adapter; returns what it is, or None where nothing needs it now. Raises
HubError when it does not answer."""


class AdapterHealth(View):
    status: Literal["ok", "failing"]
    latency_ms: float
    detail: str
    hint: str | None = Field(None, description="What to do about it")


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
        places: Mapping[str, str] | None = None,
        deadline_s: float = 5.0,
    ) -> None:
        """`places` say where an adapter's server is, without secrets, if it does not say so."""
        self._checks = checks
        self._count = count
        self._places = places or {}
        self._deadline_s = deadline_s

    async def check(self, only: Collection[str] = ()) -> HealthReport:
        """The health of every adapter, or of `only` those, within about the deadline.

        Never raises.
        """
        checks = {name: self._checks[name] for name in only or self._checks}
        found: dict[str, AdapterHealth] = {}

        async def ask(name: str, check: Check) -> None:
            if (health := await self._ask(name, check)) is not None:
                found[name] = health

        async with anyio.create_task_group() as tasks:
            for name, check in checks.items():
                tasks.start_soon(ask, name, check)
        healthy = all(adapter.status == "ok" for adapter in found.values())
        return HealthReport(
            status="ok" if healthy else "degraded",
            adapters={name: found[name] for name in checks if name in found},
        )

    async def counts(self) -> Counts:
        """How much the hub holds.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self._count()

    async def _ask(self, name: str, check: Check) -> AdapterHealth | None:
        started = time.perf_counter()
        status: Literal["ok", "failing"] = "failing"
        where = f" from {self._places[name]}" if name in self._places else ""
        detail = f"No answer{where} within {self._deadline_s:g} s."
        hint: str | None = "See whether the server runs, can be reached, and is not overloaded."
        with anyio.move_on_after(self._deadline_s):
            try:
                answer = await check()
                if answer is None:
                    return None
                status, detail, hint = "ok", answer, None
            except HubError as error:
                detail, hint = error.message, error.hint
            except Exception as error:  # a health check must report, whatever breaks
                logger.exception("The check of %s failed", name)
                detail, hint = f"{type(error).__name__}; the hub's log has details.", None
        latency_ms = round((time.perf_counter() - started) * 1000, 1)
        return AdapterHealth(status=status, latency_ms=latency_ms, detail=detail, hint=hint)

"""The process's metrics for an endpoint: Prometheus's remote-write, or a Pushgateway."""

import os
import platform
import time
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from mcp_hub.services.telemetry.own.facts import Facts
from mcp_hub.services.telemetry.own.meters import CONTENT_TYPE, Meters
from mcp_hub.services.telemetry.pushing import remote_write
from mcp_hub.services.telemetry.pushing.sending import Sender, request

JOB = "mcp-hub"
_REMOTE_WRITE = ("write", "push", "receive")
_KEEP = 60


def is_remote_write(url: str) -> bool:
    """Whether the last part of the path is one under which remote-write is received:
    Prometheus's and VictoriaMetrics' `write`, Mimir's and Cortex's `push`, Thanos' `receive`."""
    return urlsplit(url).path.rstrip("/").rpartition("/")[2] in _REMOTE_WRITE


class MetricsSender(Sender[bytes]):
    """What `meters` say, with the facts that `facts` finds out, if there are any here."""

    def __init__(
        self,
        url: str,
        meters: Meters,
        facts: Callable[[], Awaitable[Facts | None]],
        *,
        interval_s: float,
    ) -> None:
        self._writes = is_remote_write(url)
        # A Pushgateway keeps the newest only.
        super().__init__(url, interval_s=interval_s, keep=_KEEP if self._writes else 1)
        self._meters = meters
        self._facts = facts
        self._instance = f"{platform.node()}:{os.getpid()}"
        self._group = url
        if not self._writes and "/metrics/job/" not in url:
            self._group = f"{url.rstrip('/')}/metrics/job/{JOB}/instance/{quote(self._instance)}"

    async def _collect(self) -> bytes:
        facts = await self._facts()
        if not self._writes:
            return await self._meters.text(facts)
        labels = {"job": JOB, "instance": self._instance}
        metrics = await self._meters.collect(facts)
        return remote_write.encode(metrics, labels, time.time_ns() // 1_000_000)

    async def _send(self, item: bytes) -> None:
        if self._writes:
            await request("POST", self._url, content=item, headers=remote_write.HEADERS)
        else:
            headers = {"content-type": CONTENT_TYPE}
            await request("PUT", self._group, content=item, headers=headers)

    async def _leave(self) -> None:
        """Take the process's numbers from a Pushgateway, which would show them for ever."""
        if not self._writes:
            await request("DELETE", self._group, content=b"", headers={})

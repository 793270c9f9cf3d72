"""The hub's log and events for Loki."""

import json
import logging
import platform
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from mcp_hub.services.telemetry.envelope import Record, severity_name
from mcp_hub.services.telemetry.pushing.sending import Sender, request

_LINES = 5_000
_KEEP = 10
_PATH = "/loki/api/v1/push"

Line = tuple[str, int, str]
"""Its level, its time in ns, and what it says."""


class LogsSender(Sender[bytes]):
    """The log of the hub's loggers from INFO, and the events that `OwnTelemetry` records."""

    def __init__(self, url: str, *, interval_s: float, service: str) -> None:
        if urlsplit(url).path in ("", "/"):
            url = url.rstrip("/") + _PATH
        super().__init__(url, interval_s=interval_s, keep=_KEEP)
        self._labels = {"service_name": service, "host": platform.node()}
        self._lines: deque[Line] = deque(maxlen=_LINES)
        self._handler = _Handler(self._lines)

    def __call__(self, record: Record) -> None:
        """Take an event of the hub's own for a line."""
        if record.kind == "event":
            level = severity_name(record.severity) if record.severity else "info"
            told = {"event": record.name, **record.attributes}
            if record.trace_id is not None:
                told["trace_id"] = record.trace_id.hex()
            self._lines.append((level, record.time, json.dumps(told)))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        logger = logging.getLogger("mcp_hub")
        logger.addHandler(self._handler)
        try:
            async with super().sending():
                yield
        finally:
            logger.removeHandler(self._handler)

    async def _collect(self) -> bytes | None:
        streams: dict[str, list[list[str]]] = {}
        while self._lines:
            level, time_ns, text = self._lines.popleft()
            streams.setdefault(level, []).append([str(time_ns), text])
        if not streams:
            return None
        told = [
            {"stream": self._labels | {"level": level}, "values": values}
            for level, values in streams.items()
        ]
        return json.dumps({"streams": told}).encode()

    async def _send(self, item: bytes) -> None:
        headers = {"content-type": "application/json"}
        await request("POST", self._url, content=item, headers=headers)


class _Handler(logging.Handler):
    def __init__(self, lines: "deque[Line]") -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name}: {record.getMessage()}"
        self._lines.append((record.levelname.lower(), time.time_ns(), text))

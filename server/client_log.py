"""The hub's log, for the client whose request made it, from the level that the client sets."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession
from mcp.types import (
    LOG_LEVEL_META_KEY,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
)

from mcp_hub.tools.connections import connection_of

_LEVELS: dict[LoggingLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO + 5,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "emergency": logging.CRITICAL,
}
_request_records: ContextVar["list[logging.LogRecord] | None"] = ContextVar(
    "mcp_hub_request_records", default=None
)


class ClientLog(logging.Handler):
    """Passes on what is logged while a request is handled: nothing unless the client asked.

    A 2025-11-25 session asks by `logging/setLevel`, a 2026-07-28 request by its `_meta`. As a
    server middleware it wraps every request.
    """

    def __init__(self) -> None:
        super().__init__()
        self._levels: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()

    def set_level(self, session: ServerSession, level: LoggingLevel) -> None:
        self._levels[connection_of(session)] = _LEVELS[level]

    def emit(self, record: logging.LogRecord) -> None:
        records = _request_records.get()
        if records is not None:
            records.append(record)

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[None]:
        """Listen to the hub's own loggers while the context lasts."""
        root = logging.getLogger("mcp_hub")
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        level = self._wanted(ctx)
        if level is None:
            return await call_next(ctx)
        with _recording() as records:
            try:
                return await call_next(ctx)
            finally:
                for record in records:
                    if record.levelno >= level:
                        await _send(ctx, record)

    def _wanted(self, ctx: ServerRequestContext[Any, Any]) -> int | None:
        if ctx.request_id is None:
            return None
        asked = (ctx.meta or {}).get(LOG_LEVEL_META_KEY)
        if asked in _LEVELS:
            return _LEVELS[asked]
        return self._levels.get(connection_of(ctx.session))


@contextmanager
def _recording() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    token = _request_records.set(records)
    try:
        yield records
    finally:
        _request_records.reset(token)


async def _send(ctx: ServerRequestContext[Any, Any], record: logging.LogRecord) -> None:
    fitting = [name for name, number in _LEVELS.items() if number <= record.levelno]
    level: LoggingLevel = fitting[-1] if record.levelno < logging.CRITICAL else "critical"
    params = LoggingMessageNotificationParams(
        level=level, logger=record.name, data=record.getMessage()
    )
    await ctx.session.send_notification(
        LoggingMessageNotification(params=params), related_request_id=ctx.request_id
    )

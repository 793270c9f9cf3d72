"""Trace context: which trace the work at hand belongs to, by the W3C's `traceparent`.

It is passed on with each call: from an MCP request's `_meta` or an HTTP header, in a job's row, to
the job's process in `TRACEPARENT`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span, for those that it causes: 16 bytes of its trace, 8 of its own."""

    trace_id: bytes
    span_id: bytes

    @property
    def traceparent(self) -> str:
        """As the W3C's Trace Context writes it, marked as recorded."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-01"


_current: ContextVar[TraceContext | None] = ContextVar("mcp_hub_trace", default=None)


def parse_traceparent(text: Any) -> TraceContext | None:
    """The context that a `traceparent` names; None for what is malformed, as the W3C wants it."""
    found = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    if found[2] == _NO_TRACE or found[3] == _NO_SPAN:
        return None
    return TraceContext(bytes.fromhex(found[2]), bytes.fromhex(found[3]))


def child_of(parent: TraceContext | None) -> TraceContext:
    """A new span in its parent's trace, or in one of its own."""
    return TraceContext(parent.trace_id if parent else os.urandom(16), os.urandom(8))


def current() -> TraceContext | None:
    """What the work at hand belongs to."""
    return _current.get()


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """What is done meanwhile belongs to `context`."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def environment() -> dict[str, str]:
    """The variable that tells a process of the current trace."""
    context = current()
    return {"TRACEPARENT": context.traceparent} if context else {}

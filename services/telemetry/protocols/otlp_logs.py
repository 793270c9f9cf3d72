"""OTLP logs: a log record is a record, named by its event, else by its scope, else `log`.

One with an event's name is an event. A body that is no text is kept as JSON text.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.intake.accepting import Batch, make_record
from mcp_hub.services.telemetry.intake.naming import to_text
from mcp_hub.services.telemetry.protocols.otlp import (
    Origin,
    Source,
    attributes_of,
    collect,
    id_of,
    sources,
    value_of,
)


def batch_of(request: Any, origin: Origin) -> Batch:
    """The records of an ExportLogsServiceRequest; a place is that of a log record."""
    items = sources(request.resource_logs, "scope_logs", "log_records")
    return collect(items, partial(_records, origin))


def _records(origin: Origin, source: Source, log: Any, place: int) -> Iterator[Record]:
    told = log.time_unix_nano or log.observed_time_unix_nano
    attributes = source.scope | attributes_of(log.attributes)
    severity = log.severity_number or None
    if log.severity_text:
        if severity is None:
            severity = severity_of_text(log.severity_text)
        if severity is None or envelope.severity_name(severity) != log.severity_text.lower():
            attributes["severity_text"] = log.severity_text
    body = value_of(log.body)
    yield make_record(
        "event" if log.event_name else "log",
        log.event_name or source.scope_name or "log",
        told or time.time_ns(),
        id=origin.id(told, place),
        service=source.service,
        severity=envelope.severity_of(severity),
        trace_id=id_of("trace_id", log.trace_id, 16),
        span_id=id_of("span_id", log.span_id, 8),
        body=body if body is None or isinstance(body, str) else to_text(body),
        attributes=attributes,
        resource=source.resource,
        may_be_repeated=not told,
    )


def severity_of_text(text: str) -> int | None:
    """The severity that a word stands for; None where it is not known."""
    try:
        return envelope.severity_of(text)
    except ValueError:
        return None

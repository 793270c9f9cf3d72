"""OTLP traces: a span is a record, an exception in it is a log record of the same trace.

`span.kind`, `otel.scope.*` and `trace_state` are attributes; other events and links are the
attributes `span.events` and `span.links`. A span whose status is error has severity error, and the
status's message as its body.
"""

from collections.abc import Iterator
from typing import Any

from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.accepting import Batch, make_record
from mcp_hub.services.telemetry.protocols.otlp import (
    Source,
    attributes_of,
    collect,
    hex_of,
    id_of,
    sources,
)

_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_ERROR = 2
_OK = 1


def batch_of(request: Any) -> Batch:
    """The records of an ExportTraceServiceRequest; a place is that of a span."""
    return collect(sources(request.resource_spans, "scope_spans", "spans"), _records)


def _records(source: Source, span: Any, _place: int) -> Iterator[Record]:
    trace_id = id_of("trace_id", span.trace_id, 16)
    span_id = id_of("span_id", span.span_id, 8)
    if trace_id is None or span_id is None:
        raise ValueError("a span needs a trace_id and a span_id other than zeros")
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if end < start:
        raise ValueError(f"the span ends {start - end} ns before it starts")
    attributes = source.scope | attributes_of(span.attributes)
    if kind := _KINDS.get(span.kind):
        attributes["span.kind"] = kind
    if span.trace_state:
        attributes["trace_state"] = span.trace_state
    exceptions = [event for event in span.events if event.name == "exception"]
    others = [event for event in span.events if event.name != "exception"]
    if others:
        attributes["span.events"] = [_event(event) for event in others]
    if span.links:
        attributes["span.links"] = [_link(link) for link in span.links]
    if span.status.code == _OK:
        attributes["otel.status_code"] = "OK"
    yield make_record(
        "span",
        span.name or "unnamed",
        start,
        id=envelope.derived_id(start, trace_id, span_id),
        service=source.service,
        severity=envelope.ERROR if span.status.code == _ERROR else None,
        trace_id=trace_id,
        span_id=span_id,
        parent_id=id_of("parent_span_id", span.parent_span_id, 8),
        duration_ns=end - start,
        body=span.status.message or None,
        attributes=attributes,
        resource=source.resource,
    )
    for number, event in enumerate(exceptions):
        yield _exception(source, event, event.time_unix_nano or start, trace_id, span_id, number)


def _exception(
    source: Source, event: Any, time_ns: int, trace_id: bytes, span_id: bytes, number: int
) -> Record:
    attributes = attributes_of(event.attributes)
    told = [str(attributes[key]) for key in _TOLD if attributes.get(key)]
    return make_record(
        "log",
        "exception",
        time_ns,
        id=envelope.derived_id(time_ns, trace_id, span_id, b"exception", number.to_bytes(4, "big")),
        service=source.service,
        severity=envelope.ERROR,
        trace_id=trace_id,
        span_id=span_id,
        body=": ".join(told) or "exception",
        attributes=source.scope | attributes,
        resource=source.resource,
    )


_TOLD = ("exception.type", "exception.message")


def _event(event: Any) -> Attributes:
    return {
        "name": event.name,
        "time": event.time_unix_nano,
        "attributes": attributes_of(event.attributes),
    }


def _link(link: Any) -> Attributes:
    return {
        "trace_id": hex_of(link.trace_id),
        "span_id": hex_of(link.span_id),
        "attributes": attributes_of(link.attributes),
    }

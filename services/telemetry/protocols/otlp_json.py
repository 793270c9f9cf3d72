"""OTLP's messages as JSON has them, with the attributes that the Protocol Buffers classes have.

So one code reads both. `json_format` would make the Protocol Buffers messages themselves, at forty
times the cost. Numbers may be text, as JSON's 64-bit ones must be; ids are hexadecimal.
"""

from typing import Any, ClassVar

import msgspec


class Message(msgspec.Struct, rename="camel", frozen=True):
    """Answers what a Protocol Buffers message does of which of its fields are there."""

    ONEOFS: ClassVar[dict[str, tuple[str, ...]]] = {}

    def HasField(self, name: str) -> bool:  # noqa: N802 - as Protocol Buffers call it
        return getattr(self, name) is not None

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - as Protocol Buffers call it
        for name in self.ONEOFS[group]:
            if getattr(self, name) is not None:
                return name
        return None


class ArrayValue(Message, frozen=True):
    values: list["AnyValue"] = []


class KeyValueList(Message, frozen=True):
    values: list["KeyValue"] = []


class AnyValue(Message, frozen=True):
    ONEOFS: ClassVar[dict[str, tuple[str, ...]]] = {
        "value": (
            "string_value", "int_value", "double_value", "bool_value", "array_value",
            "kvlist_value", "bytes_value",
        )
    }  # fmt: skip
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | None = None
    double_value: float | None = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: bytes | None = None


class KeyValue(Message, frozen=True):
    key: str = ""
    value: AnyValue = AnyValue()


class Resource(Message, frozen=True):
    attributes: list[KeyValue] = []


class Scope(Message, frozen=True):
    name: str = ""
    version: str = ""
    attributes: list[KeyValue] = []


class Status(Message, frozen=True):
    code: int = 0
    message: str = ""


class SpanEvent(Message, frozen=True):
    time_unix_nano: int = 0
    name: str = ""
    attributes: list[KeyValue] = []


class SpanLink(Message, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[KeyValue] = []


class Span(Message, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    attributes: list[KeyValue] = []
    events: list[SpanEvent] = []
    links: list[SpanLink] = []
    status: Status = Status()
    trace_state: str = ""


class ScopeSpans(Message, frozen=True):
    scope: Scope = Scope()
    spans: list[Span] = []


class ResourceSpans(Message, frozen=True):
    resource: Resource = Resource()
    scope_spans: list[ScopeSpans] = []


class TracesRequest(Message, frozen=True):
    resource_spans: list[ResourceSpans] = []


class LogRecord(Message, frozen=True):
    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: AnyValue = AnyValue()
    attributes: list[KeyValue] = []
    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""


class ScopeLogs(Message, frozen=True):
    scope: Scope = Scope()
    log_records: list[LogRecord] = []


class ResourceLogs(Message, frozen=True):
    resource: Resource = Resource()
    scope_logs: list[ScopeLogs] = []


class LogsRequest(Message, frozen=True):
    resource_logs: list[ResourceLogs] = []


class Exemplar(Message, frozen=True):
    ONEOFS: ClassVar[dict[str, tuple[str, ...]]] = {"value": ("as_int", "as_double")}
    time_unix_nano: int = 0
    as_double: float | None = None
    as_int: int | None = None
    trace_id: str = ""
    span_id: str = ""


class _Point(Message, frozen=True):
    attributes: list[KeyValue] = []
    start_time_unix_nano: int = 0
    time_unix_nano: int = 0
    exemplars: list[Exemplar] = []
    flags: int = 0


class NumberPoint(_Point, frozen=True):
    ONEOFS: ClassVar[dict[str, tuple[str, ...]]] = {"value": ("as_int", "as_double")}
    as_double: float | None = None
    as_int: int | None = None


class HistogramPoint(_Point, frozen=True):
    count: int = 0
    sum: float | None = None
    bucket_counts: list[int] = []
    explicit_bounds: list[float] = []
    min: float | None = None
    max: float | None = None


class Buckets(Message, frozen=True):
    offset: int = 0
    bucket_counts: list[int] = []


class ExponentialPoint(_Point, frozen=True):
    count: int = 0
    sum: float | None = None
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Buckets = Buckets()
    negative: Buckets = Buckets()
    min: float | None = None
    max: float | None = None


class Quantile(Message, frozen=True):
    quantile: float = 0.0
    value: float = 0.0


class SummaryPoint(_Point, frozen=True):
    count: int = 0
    sum: float = 0.0
    quantile_values: list[Quantile] = []


class Gauge(Message, frozen=True):
    data_points: list[NumberPoint] = []


class Sum(Message, frozen=True):
    data_points: list[NumberPoint] = []
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class Histogram(Message, frozen=True):
    data_points: list[HistogramPoint] = []
    aggregation_temporality: int = 0


class ExponentialHistogram(Message, frozen=True):
    data_points: list[ExponentialPoint] = []
    aggregation_temporality: int = 0


class Summary(Message, frozen=True):
    data_points: list[SummaryPoint] = []


class Metric(Message, frozen=True):
    ONEOFS: ClassVar[dict[str, tuple[str, ...]]] = {
        "data": ("gauge", "sum", "histogram", "exponential_histogram", "summary")
    }
    name: str = ""
    unit: str = ""
    gauge: Gauge | None = None
    sum: Sum | None = None
    histogram: Histogram | None = None
    exponential_histogram: ExponentialHistogram | None = None
    summary: Summary | None = None


class ScopeMetrics(Message, frozen=True):
    scope: Scope = Scope()
    metrics: list[Metric] = []


class ResourceMetrics(Message, frozen=True):
    resource: Resource = Resource()
    scope_metrics: list[ScopeMetrics] = []


class MetricsRequest(Message, frozen=True):
    resource_metrics: list[ResourceMetrics] = []


def decoder(message: type[Message]) -> "msgspec.json.Decoder[Any]":
    """Decodes a message; other keys than its own are passed over, as OTLP demands."""
    return msgspec.json.Decoder(message, strict=False)

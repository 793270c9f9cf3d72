"""OTLP's messages to records, the same of Protocol Buffers and of JSON."""

import json
from typing import Any

import pytest
from google.protobuf import json_format

from mcp_hub.services.telemetry.intake.accepting import Batch
from mcp_hub.services.telemetry.protocols import otlp, otlp_logs, otlp_metrics, otlp_traces
from mcp_hub.services.telemetry.protocols.otlp import Origin, Signal

TIME = 1_790_000_000_000_000_000
TRACE, SPAN, PARENT = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "eee19b7ec3c1b173"


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def batch_of(signal: Signal, request: dict[str, Any]) -> Batch:
    """The records of a request, which are the same from both encodings."""
    text = json.dumps(request).encode()
    message = otlp.request_message(signal)()
    json_format.Parse(_with_base64_ids(text), message)
    both = [
        otlp.parse_json(text, signal),
        otlp.parse_protobuf(message.SerializeToString(), signal),
    ]
    make: Any = {
        "traces": lambda one: otlp_traces.batch_of(one),
        "metrics": lambda one: otlp_metrics.batch_of(one, Origin(b"1")),
        "logs": lambda one: otlp_logs.batch_of(one, Origin(b"1")),
    }[signal]
    from_json, from_protobuf = (make(one) for one in both)
    assert from_json == from_protobuf
    return from_json  # type: ignore[no-any-return]


def _with_base64_ids(text: bytes) -> bytes:
    """JSON as Protocol Buffers' own parser has it: OTLP writes ids in hexadecimal instead."""
    import base64

    def change(pairs: dict[str, Any]) -> dict[str, Any]:
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in pairs:
                pairs[key] = base64.b64encode(bytes.fromhex(pairs[key])).decode()
        return pairs

    return json.dumps(json.loads(text, object_hook=change)).encode()


def spans(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [attribute("service.name", stringValue="shop")]}
    scope = {"name": "lib", "version": "2"}
    return {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}
        ]
    }


def span(**fields: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE, "spanId": SPAN, "name": "GET", "startTimeUnixNano": str(TIME),
        "endTimeUnixNano": str(TIME + 5),
    } | fields  # fmt: skip


def test_a_span() -> None:
    exception = {
        "timeUnixNano": str(TIME + 1), "name": "exception",
        "attributes": [attribute("exception.type", stringValue="E"),
                       attribute("exception.message", stringValue="boom")],
    }  # fmt: skip
    other = {"timeUnixNano": str(TIME + 2), "name": "retry", "attributes": []}
    full = span(
        parentSpanId=PARENT, kind=3, status={"code": 2, "message": "failed"},
        events=[exception, other], links=[{"traceId": TRACE, "spanId": PARENT, "attributes": []}],
        attributes=[attribute("n", intValue="7"), attribute("list", arrayValue={
            "values": [{"boolValue": True}, {"doubleValue": 0.5}]})],
    )  # fmt: skip
    batch = batch_of("traces", spans(full))
    kept, told = batch.records
    assert batch.places == [0, 0]
    assert (kept.kind, kept.service, kept.time, kept.duration_ns) == ("span", "shop", TIME, 5)
    assert (kept.parent_id, kept.severity, kept.body) == (bytes.fromhex(PARENT), 17, "failed")
    assert kept.attributes == {
        "otel.scope.name": "lib", "otel.scope.version": "2", "n": 7, "list": [True, 0.5],
        "span.kind": "client",
        "span.events": [{"name": "retry", "time": TIME + 2, "attributes": {}}],
        "span.links": [{"trace_id": TRACE, "span_id": PARENT, "attributes": {}}],
    }  # fmt: skip
    assert (told.kind, told.name, told.body, told.severity) == ("log", "exception", "E: boom", 17)
    assert (told.trace_id, told.span_id, told.time) == (kept.trace_id, kept.span_id, TIME + 1)
    assert kept.resource == {"service.name": "shop"}
    assert kept.id != told.id


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"traceId": "00" * 16}, "needs a trace_id"),
        ({"spanId": "0102"}, "has 2 bytes"),
        ({"endTimeUnixNano": "5"}, "before it starts"),
        ({"startTimeUnixNano": "5"}, "before 2000"),
    ],
)
def test_a_wrong_span_is_told_of(wrong: dict[str, Any], message: str) -> None:
    batch = batch_of("traces", spans(span(), span(**wrong), span(spanId=PARENT)))
    assert batch.places == [0, 2]
    ((place, said),) = [(one.index, one.message) for one in batch.rejected]
    assert place == 1
    assert message in said


def metrics(**metric: Any) -> dict[str, Any]:
    about = {"name": "m", "unit": "ms"}
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": [about | metric]}]}]}


POINT: dict[str, Any] = {
    "timeUnixNano": str(TIME), "startTimeUnixNano": str(TIME - 9),
    "attributes": [attribute("region", stringValue="eu")],
}  # fmt: skip
COMMON = {"region": "eu", "metric.start_time": TIME - 9}


@pytest.mark.parametrize(
    ("data", "value", "about"),
    [
        ({"gauge": {"dataPoints": [POINT | {"asDouble": 1.5}]}}, 1.5, {"metric.type": "gauge"}),
        (
            {"sum": {"dataPoints": [POINT | {"asInt": "-3"}], "aggregationTemporality": 1,
                     "isMonotonic": True}},
            -3.0,
            {"metric.type": "sum", "metric.temporality": "delta", "metric.monotonic": True},
        ),
        (
            {"histogram": {"aggregationTemporality": 2, "dataPoints": [POINT | {
                "count": "4", "sum": 10.0, "bucketCounts": ["1", "3"], "explicitBounds": [2.0],
                "min": 1.0, "max": 4.0}]}},
            2.5,
            {"metric.type": "histogram", "metric.temporality": "cumulative", "metric.count": 4,
             "metric.sum": 10.0, "metric.bounds": [2.0], "metric.buckets": [1, 3],
             "metric.min": 1.0, "metric.max": 4.0},
        ),
        (
            {"exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [POINT | {
                "count": "3", "sum": 6.0, "scale": 1, "zeroCount": "1",
                "positive": {"offset": -2, "bucketCounts": ["0", "2"]}}]}},
            2.0,
            {"metric.type": "exponential_histogram", "metric.temporality": "delta",
             "metric.count": 3, "metric.sum": 6.0, "metric.scale": 1, "metric.zero_count": 1,
             "metric.positive": {"offset": -2, "counts": [0, 2]}},
        ),
        (
            {"summary": {"dataPoints": [POINT | {"count": "2", "sum": 3.0, "quantileValues": [
                {"quantile": 0.5, "value": 1.25}]}]}},
            1.5,
            {"metric.type": "summary", "metric.count": 2, "metric.sum": 3.0,
             "metric.quantiles": {"0.5": 1.25}},
        ),
    ],
    ids=["gauge", "sum", "histogram", "exponential", "summary"],
)  # fmt: skip
def test_every_kind_of_metric(data: dict[str, Any], value: float, about: dict[str, Any]) -> None:
    (record,) = batch_of("metrics", metrics(**data)).records
    assert (record.kind, record.name, record.unit, record.time) == ("metric", "m", "ms", TIME)
    assert record.value == value
    assert record.attributes == COMMON | about


@pytest.mark.parametrize(
    ("point", "mean"),
    [
        ({"count": "2", "bucketCounts": ["0", "2", "0"], "explicitBounds": [2.0, 4.0]}, 3.0),
        ({"count": "2", "bucketCounts": ["2", "0"], "explicitBounds": [2.0]}, 2.0),
        ({"count": "2", "bucketCounts": ["0", "2"], "explicitBounds": [2.0]}, 2.0),
    ],
)
def test_without_a_sum_the_mean_is_estimated(point: dict[str, Any], mean: float) -> None:
    batch = batch_of("metrics", metrics(histogram={"dataPoints": [POINT | point]}))
    assert [record.value for record in batch.records] == [mean]


def test_points_that_say_nothing_are_passed_over() -> None:
    empty = [POINT | {"count": "0"}, POINT | {"count": "1", "sum": 1.0, "flags": 1}]
    batch = batch_of("metrics", metrics(histogram={"dataPoints": empty}))
    assert batch == Batch()


def test_a_point_with_the_wrong_buckets_is_told_of() -> None:
    point = POINT | {"count": "1", "sum": 1.0, "bucketCounts": ["1"], "explicitBounds": [1.0]}
    batch = batch_of("metrics", metrics(histogram={"dataPoints": [point]}))
    assert "2 buckets, not 1" in batch.rejected[0].message


def logs(**fields: Any) -> dict[str, Any]:
    record = {"timeUnixNano": str(TIME), "body": {"stringValue": "hello"}} | fields
    return {"resourceLogs": [{"scopeLogs": [{"scope": {"name": "app"}, "logRecords": [record]}]}]}


def test_a_log_record() -> None:
    request = logs(traceId=TRACE, spanId=SPAN, severityNumber=13, severityText="WARN")
    (record,) = batch_of("logs", request).records
    assert (record.kind, record.name, record.body) == ("log", "app", "hello")
    assert (record.severity, record.trace_id) == (13, bytes.fromhex(TRACE))
    assert record.attributes == {"otel.scope.name": "app"}


@pytest.mark.parametrize(
    ("fields", "severity", "text"),
    [
        ({"severityText": "ERROR"}, 17, None),
        ({"severityText": "Notice"}, 10, "Notice"),
        ({"severityText": "loud"}, None, "loud"),
        ({"severityNumber": 9, "severityText": "Information"}, 9, "Information"),
    ],
)
def test_severities(fields: dict[str, Any], severity: int | None, text: str | None) -> None:
    (record,) = batch_of("logs", logs(**fields)).records
    assert record.severity == severity
    assert record.attributes.get("severity_text") == text


def test_an_event_and_a_body_that_is_no_text() -> None:
    body = {"kvlistValue": {"values": [attribute("a", intValue="1")]}}
    (record,) = batch_of("logs", logs(eventName="login", body=body)).records
    assert (record.kind, record.name, record.body) == ("event", "login", '{"a":1}')


def test_the_same_bytes_give_the_same_ids() -> None:
    request = otlp.parse_json(json.dumps(logs()).encode(), "logs")
    ids = [
        otlp_logs.batch_of(request, Origin(origin)).records[0].id for origin in (b"1", b"1", b"2")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_record_without_a_time_is_recognised_all_the_same() -> None:
    request = otlp.parse_json(json.dumps(logs(timeUnixNano="0")).encode(), "logs")
    first, again = (otlp_logs.batch_of(request, Origin(b"1")).records[0] for _ in range(2))
    assert first.id == again.id
    assert first.may_be_repeated

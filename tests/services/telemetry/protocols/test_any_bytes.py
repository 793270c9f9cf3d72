"""Whatever comes, a decoder makes a batch of it or raises ValueError."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.telemetry.intake import accepting
from mcp_hub.services.telemetry.intake.accepting import Batch
from mcp_hub.services.telemetry.protocols import (
    compression,
    loki,
    otlp,
    otlp_logs,
    otlp_metrics,
    otlp_traces,
    remote_write,
)
from mcp_hub.services.telemetry.protocols.otlp import Origin, Signal

ORIGIN = Origin(b"")
MADE: dict[Signal, Callable[[Any], Batch]] = {
    "traces": otlp_traces.batch_of,
    "metrics": lambda request: otlp_metrics.batch_of(request, ORIGIN),
    "logs": lambda request: otlp_logs.batch_of(request, ORIGIN),
}
BINARY: dict[str, Callable[[bytes], Batch]] = {
    **{
        signal: lambda data, signal=signal: MADE[signal](otlp.parse_protobuf(data, signal))
        for signal in MADE
    },
    "loki": lambda data: loki.batch_of_protobuf(data, ORIGIN),
    "write": lambda data: remote_write.batch_of(data, ORIGIN).batch,
    "write 2": lambda data: remote_write.batch_of_v2(data, ORIGIN).batch,
}
TEXT: dict[str, Callable[[bytes], Batch]] = {
    **{
        signal: lambda data, signal=signal: MADE[signal](otlp.parse_json(data, signal))
        for signal in MADE
    },
    "loki": lambda data: loki.batch_of_json(data, ORIGIN),
    "json": lambda data: accepting.from_json(data, "event"),
    "lines": lambda data: accepting.from_lines(data, "metric"),
}
KEYS = [
    "resourceSpans", "scopeSpans", "spans", "traceId", "spanId", "name", "startTimeUnixNano",
    "endTimeUnixNano", "events", "links", "status", "attributes", "key", "value", "stringValue",
    "intValue", "kvlistValue", "arrayValue", "values", "resourceMetrics", "scopeMetrics", "metrics",
    "sum", "gauge", "histogram", "exponentialHistogram", "summary", "dataPoints", "asInt",
    "asDouble", "count", "bucketCounts", "explicitBounds", "positive", "offset", "scale",
    "resourceLogs", "scopeLogs", "logRecords", "body", "severityNumber", "timeUnixNano", "resource",
    "scope", "streams", "stream", "time", "kind", "id", "severity", "duration_ms",
]  # fmt: skip
TIMES = st.sampled_from([0, 1, 1_790_000_000, 1_790_000_000_000_000_000, 2**63, -1])
SCALARS = (
    st.none() | st.booleans() | TIMES | st.integers() | st.text(max_size=5)
    | st.floats() | st.sampled_from(["5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "1"])
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=25,
)


def check(decode: Callable[[bytes], Batch], data: bytes) -> None:
    try:
        batch = decode(data)
    except ValueError:
        return
    assert len(batch.places) == len(batch.records)
    assert all(len(record.id) == 16 for record in batch.records)
    assert all(one.message for one in batch.rejected)


@pytest.mark.parametrize("name", BINARY)
@given(st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    check(BINARY[name], data)


@pytest.mark.parametrize("name", TEXT)
@given(st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_json(name: str, data: bytes) -> None:
    check(TEXT[name], data)


def nested(depth: int) -> bytes:
    return b'{"arrayValue":{"values":[' * depth + b"{}" + b"]}}" * depth


@pytest.mark.parametrize("depth", [10, 100, 300, 900, 100_000])
def test_any_depth(depth: int) -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%b}]}]}]}' % nested(depth)
    check(TEXT["logs"], body)
    check(TEXT["json"], b'[{"name":"a","attributes":{"a":%b}}]' % nested(depth))
    check(TEXT["loki"], nested(depth))


@pytest.mark.parametrize("unpack", compression.DECODINGS.values())
@given(st.binary(max_size=100))
def test_any_packed_bytes(unpack: Callable[[bytes, int], bytes], data: bytes) -> None:
    with contextlib.suppress(ValueError, LimitExceeded):
        assert len(unpack(data, 1_000)) <= 1_000

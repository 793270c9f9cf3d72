"""Unmodified programs that send telemetry: OpenTelemetry's SDK, a Loki client, Prometheus."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from loki_logger_handler.loki_logger_handler import LokiLoggerHandler
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from tests import servers
from tests.processes import hub_environment
from tests.server.serving import Served, serving, wait_until_ready
from tests.waiting import eventually

RESOURCE = Resource.create({"service.name": "shop", "deployment.environment": "test"})
COMPRESSIONS = [Compression.NoCompression, Compression.Gzip, Compression.Deflate]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serving(hub_environment(folder)) as served:
        wait_until_ready(served)
        yield served


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The records of a name with their series, oldest first."""
    with closing(sqlite3.connect(folder / "data" / "hub.db")) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(
            "SELECT r.*, s.kind, s.service FROM telemetry_records r "
            "JOIN telemetry_series s USING (series) WHERE s.name = ? ORDER BY r.time",
            (name,),
        )
        return [dict(row) for row in found]


@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda one: one.value)
def test_opentelemetry_traces(served: Served, folder: Path, compression: Compression) -> None:
    exporter = OTLPSpanExporter(f"{served.url}/v1/traces", compression=compression)
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("peers", "1.0")
    name = f"checkout {compression.value}"
    with (
        suppress(ZeroDivisionError),
        tracer.start_as_current_span(name, kind=SpanKind.SERVER) as parent,
    ):
        with tracer.start_as_current_span(f"{name} child", attributes={"items": [1, 2]}) as child:
            child.add_event("cache miss", {"key": "k"})
        raise ZeroDivisionError("no divisor")
    provider.shutdown()
    (kept,) = rows(folder, name)
    (below,) = rows(folder, f"{name} child")
    context = parent.get_span_context()
    assert kept["trace_id"] == context.trace_id.to_bytes(16, "big") == below["trace_id"]
    assert kept["span_id"] == context.span_id.to_bytes(8, "big") == below["parent_id"]
    assert (kept["kind"], kept["service"], kept["severity"]) == ("span", "shop", 17)
    assert kept["duration_ns"] > below["duration_ns"] > 0
    assert '"span.kind":"server"' in kept["attributes"]
    assert '"items":[1,2]' in below["attributes"]
    assert '"name":"cache miss"' in below["attributes"]
    told = [row for row in rows(folder, "exception") if row["trace_id"] == kept["trace_id"]]
    assert [row["body"] for row in told] == ["ZeroDivisionError: no divisor"]


def test_opentelemetry_metrics(served: Served, folder: Path) -> None:
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{served.url}/v1/metrics"))
    exponential = View(
        instrument_type=Histogram,
        instrument_name="size",
        aggregation=ExponentialBucketHistogramAggregation(),
    )
    provider = MeterProvider([reader], resource=RESOURCE, views=[exponential])
    meter = provider.get_meter("peers")
    meter.create_counter("orders", unit="1").add(3, {"region": "eu"})
    meter.create_gauge("temperature").set(21.5)
    for value in (1.0, 3.0):
        meter.create_histogram("latency", unit="ms").record(value)
        meter.create_histogram("size").record(value)
    provider.shutdown()
    (orders,) = rows(folder, "orders")
    assert (orders["value"], orders["unit"], orders["service"]) == (3, "1", "shop")
    assert '"metric.temporality":"cumulative"' in orders["attributes"]
    assert '"region":"eu"' in orders["attributes"]
    assert [row["value"] for row in rows(folder, "temperature")] == [21.5]
    for name, kind in (("latency", "histogram"), ("size", "exponential_histogram")):
        (row,) = rows(folder, name)
        assert row["value"] == 2.0
        assert f'"metric.type":"{kind}"' in row["attributes"]
        assert '"metric.count":2' in row["attributes"]


def test_opentelemetry_logs(served: Served, folder: Path) -> None:
    provider = LoggerProvider(resource=RESOURCE)
    exporter = OTLPLogExporter(f"{served.url}/v1/logs", compression=Compression.Gzip)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("shop.orders")
    logger.emit(
        LogRecord(
            timestamp=1_790_000_000_000_000_000,
            severity_number=SeverityNumber.WARN,
            severity_text="WARNING",
            body="order 7 is late",
            attributes={"order": 7},
        )
    )
    provider.shutdown()
    (row,) = rows(folder, "shop.orders")
    assert (row["kind"], row["severity"], row["body"]) == ("log", 13, "order 7 is late")
    assert row["time"] == 1_790_000_000_000_000_000


async def test_a_loki_client_pushes(served: Served, folder: Path) -> None:
    handler = LokiLoggerHandler(
        url=f"{served.url}/loki/api/v1/push",
        labels={"service_name": "billing", "env": "test"},
        timeout=1,
    )
    logger = logging.Logger("billing")
    logger.addHandler(handler)
    logger.error("invoice 7 cannot be paid")
    logger.info("invoice 8 is paid")
    await eventually(lambda: len(rows(folder, "log")) == 2, within_s=30)
    first, second = rows(folder, "log")
    assert (
        (first["kind"], first["service"])
        == ("log", "billing")
        == (second["kind"], second["service"])
    )
    assert "invoice 7 cannot be paid" in first["body"]
    assert "invoice 8 is paid" in second["body"]
    assert '"env":"test"' in first["attributes"]


async def test_prometheus_scrapes_and_writes(served: Served, folder: Path, tmp_path: Path) -> None:
    config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{{port}}"]}}]
remote_write:
  - url: {served.url}/api/v1/write
    queue_config: {{batch_send_deadline: 1s}}
"""
    server = servers.start_prometheus(tmp_path / "prometheus", config)
    try:
        await eventually(lambda: len(rows(folder, "up")) >= 2, within_s=60)
    finally:
        server.stop()
    assert {(row["service"], row["value"]) for row in rows(folder, "up")} == {("prometheus", 1.0)}
    assert f'"instance":"127.0.0.1:{server.port}"' in rows(folder, "up")[0]["attributes"]
    (started, *_) = rows(folder, "process_start_time_seconds")
    assert started["value"] > 1e9
    assert "server returned HTTP status" not in server.log.read_text()

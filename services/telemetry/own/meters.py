"""The numbers of one process and of the hub it serves, as Prometheus reads them.

What is counted comes from the hub's own telemetry as it is recorded; what is measured at a scrape
comes from the hub. Every label has few values, whatever clients send.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

import mcp_hub
from mcp_hub.adapters.errors import ERROR_TYPES
from mcp_hub.services.telemetry.alerts.states import STATES
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.own.facts import Facts
from mcp_hub.services.training.states import STATUSES

if TYPE_CHECKING:
    from mcp_hub.services.health import Counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
_OUTCOMES = frozenset(ERROR_TYPES)


class Meters:
    """An observer of `OwnTelemetry` that counts what it sees."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self._registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=_SECONDS, registry=self._registry)

        self._calls = counter(
            "mcp_hub_tool_calls",
            "Tool calls by outcome: ok, or the error's code.",
            "tool",
            "outcome",
        )
        self._call_seconds = histogram(
            "mcp_hub_tool_call_duration_seconds", "How long tool calls took.", "tool"
        )
        self._requests = counter(
            "mcp_hub_http_requests",
            "HTTP requests, but probes, scrapes and telemetry.",
            "method", "route", "status",
        )  # fmt: skip
        self._request_seconds = histogram(
            "mcp_hub_http_request_duration_seconds", "How long HTTP requests took.", "route"
        )
        self._predictions = counter(
            "mcp_hub_predictions", "Predictions asked for, by outcome.", "outcome"
        )
        self._rows = counter("mcp_hub_prediction_rows", "Rows predicted.")
        self._prediction_seconds = histogram(
            "mcp_hub_prediction_duration_seconds", "How long predictions took."
        )
        self._attempts = counter(
            "mcp_hub_job_attempts",
            "Attempts that ended in this worker, by the job's state.",
            "status",
        )
        self._attempt_seconds = Histogram(
            "mcp_hub_job_attempt_duration_seconds", "How long attempts took.",
            buckets=(1, 2.5, 5, 10, 30, 60, 150, 300, 600, 1800, 3600, 10800),
            registry=self._registry,
        )  # fmt: skip

    def __call__(self, record: Record) -> None:
        """Count a record."""
        if record.kind != "span":
            return
        attributes, seconds = record.attributes, (record.duration_ns or 0) / 1e9
        if record.name == "predict":
            self._predictions.labels(_outcome(attributes)).inc()
            self._prediction_seconds.observe(seconds)
            if "error.type" not in attributes:
                self._rows.inc(attributes["mcp_hub.rows"])
        elif record.name == "job.attempt":
            self._attempts.labels(attributes.get("mcp_hub.job.status", "unknown")).inc()
            self._attempt_seconds.observe(seconds)
        elif "gen_ai.tool.name" in attributes:
            tool = attributes["gen_ai.tool.name"]
            self._calls.labels(tool, _outcome(attributes)).inc()
            self._call_seconds.labels(tool).observe(seconds)
        elif "http.route" in attributes:
            route = attributes["http.route"]
            status = str(attributes.get("http.response.status_code", "none"))
            self._requests.labels(attributes["http.request.method"], route, status).inc()
            self._request_seconds.labels(route).observe(seconds)

    async def collect(self, facts: Facts | None) -> list[Metric]:
        """Every metric with its samples; without `facts`, those of the process alone."""
        own = await to_thread.run_sync(lambda: list(self._registry.collect()))
        info = GaugeMetricFamily("mcp_hub_info", "This program.", labels=["version"])
        info.add_metric([mcp_hub.__version__], 1)
        return [*own, info, *(_families(facts) if facts else ())]

    async def text(self, facts: Facts | None) -> bytes:
        """Every metric in Prometheus's text format."""
        return generate_latest(_Collected(await self.collect(facts)))


class _Collected(CollectorRegistry):
    """Metrics that were collected already, for `generate_latest`."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _outcome(attributes: Mapping[str, Any]) -> str:
    error = attributes.get("error.type")
    return "ok" if error is None else error if error in _OUTCOMES else "other"


def _families(facts: Facts) -> Iterator[Metric]:
    records = CounterMetricFamily(
        "mcp_hub_telemetry_records",
        "Telemetry records by what became of them: accepted, repeated, refused, lost.",
        labels=["result"],
    )
    counted = facts.ingest
    for result in ("accepted", "repeated", "refused"):
        records.add_metric([result], getattr(counted, result))
    records.add_metric(["lost"], facts.dropped)
    yield records
    yield GaugeMetricFamily(
        "mcp_hub_telemetry_waiting", "Records that wait to be written.", facts.waiting
    )
    if facts.queue_depth is not None:
        yield GaugeMetricFamily(
            "mcp_hub_queue_depth", "Messages that no worker has taken.", facts.queue_depth
        )
    if facts.health is not None:
        up = GaugeMetricFamily("mcp_hub_adapter_up", "Whether it answers.", labels=["adapter"])
        latency = GaugeMetricFamily(
            "mcp_hub_adapter_latency_seconds", "How long it took to answer.", labels=["adapter"]
        )
        for name, adapter in facts.health.adapters.items():
            up.add_metric([name], adapter.status == "ok")
            latency.add_metric([name], adapter.latency_ms / 1000)
        yield from (up, latency)
    if facts.counts is not None:
        yield from _counted(facts.counts)
    if facts.alerts:
        states = GaugeMetricFamily("mcp_hub_alerts", "Alert rules by state.", labels=["state"])
        for state in STATES:
            states.add_metric([state], facts.alerts.get(state, 0))
        yield states


def _counted(counts: "Counts") -> Iterator[Metric]:
    jobs = GaugeMetricFamily("mcp_hub_jobs", "Jobs by state.", labels=["status"])
    for status in STATUSES:
        jobs.add_metric([status], counts.jobs.get(status, 0))
    yield jobs
    for name, text in (
        ("workers_alive", "Workers that are alive."),
        ("datasets", "Data sets, each with all its versions."),
        ("models", "Models, each with all its versions."),
        ("model_versions", "Versions of models."),
    ):
        yield GaugeMetricFamily(f"mcp_hub_{name}", text, getattr(counts, name))

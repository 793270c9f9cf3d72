"""Prometheus remote write, versions 1.0 and 2.0: a sample is a record, its labels are attributes.

https://prometheus.io/docs/specs/prw/remote_write_spec/. The service is the label `job`, as
OpenTelemetry maps it. A sample that is no number (NaN) or infinite says that there is nothing to
keep: stale markers above all, and summaries without observations. They are passed over. A native
histogram's value is its mean; its buckets are attributes, as those of OTLP's histograms.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected, make_record
from mcp_hub.services.telemetry.protocols import messages
from mcp_hub.services.telemetry.protocols.otlp import Origin

_MS = 1_000_000
_NAME = "__name__"

_SHARED = {
    "Sample": "double value = 1; int64 timestamp = 2",
    "BucketSpan": "sint32 offset = 1; uint32 length = 2",
    "Histogram": "uint64 count_int = 1; double count_float = 2; double sum = 3; sint32 schema = 4;"
    "double zero_threshold = 5; uint64 zero_count_int = 6; double zero_count_float = 7;"
    "repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9;"
    "repeated double negative_counts = 10; repeated BucketSpan positive_spans = 11;"
    "repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;"
    "int64 timestamp = 15; repeated double custom_values = 16",
}


@dataclass(slots=True)
class _Written:
    """What the answer to version 2 tells of."""

    samples: int = 0
    histograms: int = 0


@dataclass(slots=True)
class Write:
    """The records of a request, and how many of its samples there were."""

    batch: Batch = field(default_factory=Batch)
    written: _Written = field(default_factory=_Written)


@lru_cache(maxsize=1)
def write_message() -> Any:
    """prometheus.WriteRequest, of version 1.0."""
    return messages.messages(
        "prometheus",
        _SHARED
        | {
            "Label": "string name = 1; string value = 2",
            "TimeSeries": "repeated Label labels = 1; repeated Sample samples = 2;"
            "repeated Histogram histograms = 4",
            "MetricMetadata": "int32 type = 1; string metric_family_name = 2; string unit = 5",
            "WriteRequest": "repeated TimeSeries timeseries = 1;"
            "repeated MetricMetadata metadata = 3",
        },
    )["WriteRequest"]


@lru_cache(maxsize=1)
def request_message() -> Any:
    """io.prometheus.write.v2.Request."""
    return messages.messages(
        "io.prometheus.write.v2",
        _SHARED
        | {
            "Metadata": "int32 type = 1; uint32 help_ref = 3; uint32 unit_ref = 4",
            "TimeSeries": "repeated uint32 labels_refs = 1; repeated Sample samples = 2;"
            "repeated Histogram histograms = 3; Metadata metadata = 5",
            "Request": "repeated string symbols = 4; repeated TimeSeries timeseries = 5",
        },
    )["Request"]


def batch_of(data: bytes, origin: Origin) -> Write:
    """The records of a WriteRequest; a place is that of a sample. Raises ValueError if none."""
    request = messages.parse(write_message(), data)
    units = {one.metric_family_name: one.unit for one in request.metadata if one.unit}
    write = Write()
    for series in request.timeseries:
        labels = {label.name: label.value for label in series.labels}
        _add(write, origin, labels, units.get(labels.get(_NAME, "")), series)
    return write


def batch_of_v2(data: bytes, origin: Origin) -> Write:
    """As `batch_of`, of a Request of version 2.0."""
    request = messages.parse(request_message(), data)
    symbols = list(request.symbols)
    write = Write()
    for series in request.timeseries:
        refs = list(series.labels_refs)
        if len(refs) % 2 or any(ref >= len(symbols) for ref in (*refs, series.metadata.unit_ref)):
            raise ValueError("labels refer to symbols that are not there")
        labels = {
            symbols[name]: symbols[value] for name, value in zip(refs[::2], refs[1::2], strict=True)
        }
        unit = symbols[series.metadata.unit_ref] if symbols else None
        _add(write, origin, labels, unit, series)
    return write


def _add(
    write: Write, origin: Origin, labels: dict[str, str], unit: str | None, series: Any
) -> None:
    batch = write.batch
    name = labels.pop(_NAME, "")
    service = labels.pop("job", None)
    first = write.written.samples + write.written.histograms
    for place, (time_ms, value, about) in enumerate(_values(series), first):
        if not math.isfinite(value):
            continue
        try:
            record = _record(origin, name, service, unit, labels, time_ms, value, about, place)
        except ValueError as error:
            batch.rejected.append(Rejected(place, str(error)))
        else:
            batch.records.append(record)
            batch.places.append(place)
    write.written.samples += len(series.samples)
    write.written.histograms += len(series.histograms)


def _record(
    origin: Origin, name: str, service: str | None, unit: str | None, labels: dict[str, str],
    time_ms: int, value: float, about: Attributes, place: int,
) -> Record:  # fmt: skip
    if not name:
        raise ValueError("a series needs the label __name__")
    return make_record(
        "metric",
        name,
        time_ms * _MS,
        id=origin.id(time_ms * _MS, place),
        service=service,
        value=value,
        unit=unit or None,
        attributes=labels | about if about else labels,
    )


def _values(series: Any) -> Iterator[tuple[int, float, Attributes]]:
    for sample in series.samples:
        yield sample.timestamp, sample.value, {}
    for histogram in series.histograms:
        count = histogram.count_int or histogram.count_float
        # Stale, or without observations: no number either way.
        value = histogram.sum / count if count else math.nan
        yield histogram.timestamp, value, _distribution(histogram, count)


def _distribution(histogram: Any, count: float) -> Attributes:
    about: Attributes = {
        "metric.type": "exponential_histogram",
        "metric.temporality": "cumulative",
        "metric.count": count,
        "metric.sum": histogram.sum,
        "metric.zero_count": histogram.zero_count_int or histogram.zero_count_float,
    }
    if histogram.custom_values:
        about["metric.type"] = "histogram"
        about["metric.bounds"] = list(histogram.custom_values)
    else:
        about["metric.scale"] = histogram.schema
    for name in ("positive", "negative"):
        spans = getattr(histogram, f"{name}_spans")
        deltas = getattr(histogram, f"{name}_deltas")
        counts = list(getattr(histogram, f"{name}_counts")) or _summed(deltas)
        if counts:
            about[f"metric.{name}"] = _buckets(spans, counts)
    return about


def _summed(deltas: Iterable[int]) -> list[int]:
    total = 0
    return [total := total + delta for delta in deltas]


def _buckets(spans: Iterable[Any], counts: Sequence[float]) -> list[Attributes]:
    """The runs of buckets, each with the index of its first: a bucket ends at base^index."""
    runs = []
    index = used = 0
    for span in spans:
        index += span.offset
        run = list(counts[used : used + span.length])
        runs.append({"offset": index, "counts": run})
        index += span.length
        used += span.length
    return runs

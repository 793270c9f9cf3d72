"""OTLP metrics: a data point is a record; the rest of a distribution is in its attributes.

`value` is that of a gauge or sum, and of a histogram or summary the mean of what it counted, so
that its rollups are of the same unit; a distribution that counted nothing and a point that says
that it has no value are passed over. The attributes `metric.*`:

- `metric.type`: gauge, sum, histogram, exponential_histogram or summary
- `metric.temporality`: delta or cumulative; `metric.monotonic` of a sum
- `metric.start_time`: nanoseconds, where a delta or cumulative point says when it began
- `metric.count`, `metric.sum`, `metric.min`, `metric.max`
- `metric.bounds` and `metric.buckets`: upper bounds, and the counts up to each and above all
- `metric.scale`, `metric.zero_count`, `metric.positive` and `metric.negative` ({offset, counts}):
  bucket i counts what is above base^i and up to base^(i + 1), with base 2^(2^-scale)
- `metric.quantiles`: {quantile: value}
- `metric.exemplars`: [{value, time, trace_id, span_id}]
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from mcp_hub.services.telemetry.envelope import Attributes, Record
from mcp_hub.services.telemetry.intake.accepting import Batch, make_record
from mcp_hub.services.telemetry.protocols.otlp import (
    Origin,
    Source,
    attributes_of,
    collect,
    hex_of,
    sources,
)

_TEMPORALITIES = {1: "delta", 2: "cumulative"}
_NO_RECORDED_VALUE = 1


class _Point(NamedTuple):
    metric: Any
    type: str
    data: Any
    point: Any


def batch_of(request: Any, origin: Origin) -> Batch:
    """The records of an ExportMetricsServiceRequest; a place is that of a data point."""
    items = sources(request.resource_metrics, "scope_metrics", "metrics")
    points = chain.from_iterable(_points(source, metric) for source, metric in items)
    return collect(points, partial(_records, origin))


def _points(source: Source, metric: Any) -> Iterator[tuple[Source, _Point]]:
    type = metric.WhichOneof("data")
    if type is not None:
        data = getattr(metric, type)
        for point in data.data_points:
            yield source, _Point(metric, type, data, point)


def _records(origin: Origin, source: Source, item: _Point, place: int) -> Iterator[Record]:
    metric, type, data, point = item
    if point.flags & _NO_RECORDED_VALUE:
        return
    about: Attributes = {"metric.type": type}
    if type not in ("gauge", "summary"):
        temporality = _TEMPORALITIES.get(data.aggregation_temporality)
        if temporality:
            about["metric.temporality"] = temporality
    if point.start_time_unix_nano:
        about["metric.start_time"] = point.start_time_unix_nano
    value = _VALUES[type](data, point, about)
    if value is None:
        return
    if type != "summary" and point.exemplars:
        about["metric.exemplars"] = [_exemplar(one) for one in point.exemplars]
    told = point.time_unix_nano
    yield make_record(
        "metric",
        metric.name,
        told or time.time_ns(),
        id=origin.id(told, place),
        service=source.service,
        value=value,
        unit=metric.unit or None,
        attributes=source.scope | attributes_of(point.attributes) | about,
        resource=source.resource,
        may_be_repeated=not told,
    )


def _number(_data: Any, point: Any, _about: Attributes) -> float | None:
    which = point.WhichOneof("value")
    return None if which is None else float(getattr(point, which))


def _sum(data: Any, point: Any, about: Attributes) -> float | None:
    about["metric.monotonic"] = bool(data.is_monotonic)
    return _number(data, point, about)


def _histogram(_data: Any, point: Any, about: Attributes) -> float | None:
    bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
    if counts and len(counts) != len(bounds) + 1:
        raise ValueError(f"{len(bounds)} bounds have {len(bounds) + 1} buckets, not {len(counts)}")
    if counts:
        about["metric.bounds"], about["metric.buckets"] = bounds, counts
    _extremes(point, about)
    if not bounds:
        return _mean(point, about, [])
    lows = [bounds[0], *bounds]
    highs = [*bounds, bounds[-1]]
    return _mean(point, about, zip(map(_middle, lows, highs), counts, strict=False))


def _exponential(_data: Any, point: Any, about: Attributes) -> float | None:
    about["metric.scale"] = point.scale
    about["metric.zero_count"] = point.zero_count
    shares: list[tuple[float, int]] = []
    for sign, name in ((1, "positive"), (-1, "negative")):
        buckets = getattr(point, name)
        counts = list(buckets.bucket_counts)
        if counts:
            about[f"metric.{name}"] = {"offset": buckets.offset, "counts": counts}
            if not point.HasField("sum"):
                base = 2.0 ** (2.0**-point.scale)
                shares += [
                    (sign * _middle(base**i, base ** (i + 1)), count)
                    for i, count in enumerate(counts, buckets.offset)
                ]
    _extremes(point, about)
    return _mean(point, about, shares)


def _summary(_data: Any, point: Any, about: Attributes) -> float | None:
    about["metric.quantiles"] = {f"{one.quantile:g}": one.value for one in point.quantile_values}
    about["metric.count"], about["metric.sum"] = point.count, point.sum
    return point.sum / point.count if point.count else None


_VALUES = {
    "gauge": _number, "sum": _sum, "histogram": _histogram, "exponential_histogram": _exponential,
    "summary": _summary,
}  # fmt: skip


def _mean(point: Any, about: Attributes, shares: Any) -> float | None:
    """The mean of what a distribution counted: told by its sum, else estimated by its buckets."""
    about["metric.count"] = point.count
    if not point.count:
        return None
    if point.HasField("sum"):
        about["metric.sum"] = point.sum
        return float(point.sum / point.count)
    total = sum(middle * count for middle, count in shares)
    return float(total / point.count)


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _extremes(point: Any, about: Attributes) -> None:
    for name in ("min", "max"):
        if point.HasField(name):
            about[f"metric.{name}"] = getattr(point, name)


def _exemplar(exemplar: Any) -> Attributes:
    which = exemplar.WhichOneof("value")
    return {
        "value": getattr(exemplar, which) if which else None,
        "time": exemplar.time_unix_nano,
        "trace_id": hex_of(exemplar.trace_id),
        "span_id": hex_of(exemplar.span_id),
    }

"""What a metric's value is, where it is no single measurement: what an aggregate of it is not."""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, select

from mcp_hub.adapters.database.telemetry_schema import telemetry_attributes
from mcp_hub.services.telemetry.aggregates.asking import Series
from mcp_hub.services.telemetry.aggregates.measures import VALUE, Measure

_SERIES_LOOKED_AT = 500
_NAMES_SHOWN = 3
_DISTRIBUTION, _MONOTONIC, _TEMPORALITY = "metric.count", "metric.monotonic", "metric.temporality"


def caveats(
    connection: Connection, series: Mapping[int, Series], measures: Sequence[Measure]
) -> list[str]:
    """What is to be known of the values measured: which are means, and which running totals.

    They are told by the attributes that OpenTelemetry's metrics come with (see `otlp_metrics`).
    """
    if not any(one.number is not None and one.number.field == VALUE for one in measures):
        return []
    metrics = [one.series for one in series.values() if one.kind == "metric"][:_SERIES_LOOKED_AT]
    table = telemetry_attributes.c
    keys = (_DISTRIBUTION, _MONOTONIC, _TEMPORALITY)
    query = select(table.series, table.key, table.examples)
    query = query.where(table.series.in_(metrics), table.key.in_(keys))
    told: dict[str, set[int]] = {key: set() for key in keys}
    for number, key, examples in connection.execute(query):
        values = msgspec.json.decode(examples)
        if key == _DISTRIBUTION or any(one is True or one == "cumulative" for one in values):
            told[key].add(number)
    said = []
    if means := told[_DISTRIBUTION]:
        said.append(
            f"The value of {_names(series, means)} is the mean of a distribution, whose count and "
            "sum are the attributes metric.count and metric.sum: quantiles, min and max are of "
            "means."
        )
    if totals := told[_MONOTONIC] & told[_TEMPORALITY]:
        said.append(
            f"The value of {_names(series, totals)} is a running total: sum and avg of it mean "
            "little, max - min is how much it grew."
        )
    return said


def _names(series: Mapping[int, Series], numbers: set[int]) -> str:
    names = sorted({series[number].name for number in numbers})
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more

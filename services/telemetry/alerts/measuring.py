"""The aggregate of a rule, from the minute rollups."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.telemetry_schema import telemetry_rollups, telemetry_series
from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.alerts.rules import MINUTE_NS, Measure, Rule
from mcp_hub.services.telemetry.windows import Window

MAX_SERIES = 10_000


def windows_until(now: int, length_ns: int, count: int) -> list[Window]:
    """`count` windows of the same length, one after another, the last of which holds `now`.

    Rollups are of whole minutes: the last window ends with the minute that has begun.
    """
    end = now // MINUTE_NS * MINUTE_NS + MINUTE_NS
    return [
        Window(end - (place + 1) * length_ns, end - place * length_ns)
        for place in reversed(range(count))
    ]


def measure(connection: Connection, rule: Rule, windows: Sequence[Window]) -> list[float | None]:
    """The rule's aggregate in each window; None where there is nothing to tell it from."""
    series = _series(connection, rule)
    return [_measured(connection, rule.measure, series, window) for window in windows]


def _series(connection: Connection, rule: Rule) -> list[int] | None:
    """The series that the rule is about; None for all."""
    columns = telemetry_series.c
    wanted = [
        column == value
        for column, value in (
            (columns.kind, rule.kind), (columns.name, rule.name), (columns.service, rule.service),
        )
        if value is not None
    ]  # fmt: skip
    if not wanted:
        return None
    query = select(columns.series).where(*wanted).order_by(columns.series).limit(MAX_SERIES)
    return list(connection.execute(query).scalars())


def _measured(
    connection: Connection, measure: Measure, series: list[int] | None, window: Window
) -> float | None:
    table = telemetry_rollups.c
    where = [table.minute >= window.since // MINUTE_NS, table.minute < window.until // MINUTE_NS]
    if series is not None:
        where.append(table.series.in_(series))
    if measure.startswith("p"):
        texts = connection.execute(select(table.sketch).where(*where)).scalars().all()
        bins, owners = sketch.decode([bytes(text) for text in texts])
        rank = float(measure[1:]) / 100
        found = float(sketch.quantiles(bins, np.zeros_like(owners), 1, [rank])[0, 0])
        return None if math.isnan(found) else found
    row = connection.execute(
        select(
            func.coalesce(func.sum(table.count), 0).label("count"),
            func.coalesce(func.sum(table.errors), 0).label("errors"),
            func.coalesce(func.sum(table.measured), 0).label("measured"),
            func.coalesce(func.sum(table.sum), 0.0).label("sum"),
            func.min(table.min).label("min"),
            func.max(table.max).label("max"),
        ).where(*where)
    ).one()
    return _of_row(measure, row, window)


def _of_row(measure: Measure, row: Any, window: Window) -> float | None:
    count, measured = int(row.count), int(row.measured)
    match measure:
        case "count":
            return float(count)
        case "rate":
            return count / (window.length / 1e9)
        case "errors":
            return float(row.errors)
        case "error_rate":
            return int(row.errors) / count if count else None
        case "sum":
            return float(row.sum)
        case "avg":
            return float(row.sum) / measured if measured else None
        case _:
            found = row.min if measure == "min" else row.max
            return None if found is None else float(found)

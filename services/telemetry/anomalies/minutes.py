"""Rollups as arrays: the one place where analytics reads how many, how wrong and how large."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_rollups, telemetry_series
from mcp_hub.services.telemetry import sketch
from mcp_hub.services.telemetry.anomalies import robust

Float = NDArray[np.float64]

MAX_ROWS = 450_000
"""Rollups of about so many minutes are read for one question."""
MAX_EARLIER_ROWS = 300_000
MAX_SERIES = 400

_TOGETHER = 12
"""Of so many buckets together there are enough values for a quantile."""

# PostgreSQL's rows are unpacked on the event loop: few at a time.
_ROWS_AT_ONCE = 15_000


@dataclass(frozen=True, slots=True)
class Series:
    """What the records of one series have in common."""

    number: int
    kind: str
    name: str
    service: str
    unit: str | None


@dataclass(frozen=True, slots=True)
class Buckets:
    """Series [S] over buckets [B] of `width` minutes, the first at minute `first` of the epoch.

    The arrays are [S, B]; the quantiles of the measure are NaN where nothing was measured.
    """

    first: int
    width: int
    series: list[Series]
    count: Float
    errors: Float
    measured: Float
    sum: Float
    p50: Float
    p95: Float
    left_out: int = 0
    """Series that were not read, because there are too many."""
    longer: Float | None = None
    """How much larger [S] the p95 of several buckets together usually is than that of one.

    Of five values the p95 is the fourth: of few it says less.
    """

    @property
    def size(self) -> int:
        return int(self.count.shape[1])


@dataclass(frozen=True, slots=True)
class Selection:
    """Which series; None is any."""

    kind: str | None = None
    name: str | None = None
    service: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        table = telemetry_series.c
        wanted = (
            (table.kind, self.kind), (table.name, self.name), (table.service, self.service),
        )  # fmt: skip
        return [column == value for column, value in wanted if value is not None]


async def first_minute(database: Database, first: int, last: int) -> int | None:
    """The first minute from `first` to `last` (not included) that has records."""
    minute = telemetry_rollups.c.minute
    statement = select(func.min(minute)).where(minute >= first, minute < last)

    def work(connection: Connection) -> int | None:
        found: int | None = connection.execute(statement).scalar()
        return found

    return await database.read(work, one_statement=True)


async def minute_series(
    database: Database, selection: Selection, first: int, last: int, width: int
) -> Buckets:
    """The minutes from `first` (included) to `last` (not included), `width` to a bucket.

    `last - first` is a multiple of `width`. Of too many series the busiest are read.
    """
    most = max(1, min(MAX_SERIES, MAX_ROWS // max(1, last - first)))
    series, left_out = await database.read(
        lambda connection: _choose(connection, selection, first, last, most)
    )
    numbers = [one.number for one in series]
    rows: list[Any] = []
    if numbers:
        step = max(width, _ROWS_AT_ONCE // len(numbers))
        everything = not left_out and not selection.conditions()

        def work(connection: Connection) -> list[Any]:
            found: list[Any] = []
            for start in range(first, last, step):
                stop = min(start + step, last)
                chosen = None if everything else numbers
                found.extend(_rows(connection, chosen, start, stop))
            return found

        rows = await database.read(work)
    return await to_thread.run_sync(_buckets, series, left_out, rows, first, last, width)


async def earlier_days(
    database: Database, buckets: Buckets, days: int
) -> tuple[Float, Float] | None:
    """Counts and means of the same buckets on each of `days` days before, [days, S, B].

    NaN where a day has no records at all. None if nothing is that old.
    """
    series = {one.number: place for place, one in enumerate(buckets.series)}
    days = min(days, MAX_EARLIER_ROWS // max(1, len(series) * 1440))
    span = buckets.size * buckets.width
    if days < 1 or not series or span > 2 * 1440:
        return None
    table = telemetry_rollups.c

    def work(connection: Connection) -> list[list[Any]]:
        found = []
        for day in range(1, days + 1):
            first = buckets.first - day * 1440
            place = (table.minute - first) // buckets.width
            statement = (
                select(
                    table.series, place, func.sum(table.count), func.sum(table.measured),
                    func.sum(table.sum),
                )
                .where(
                    table.minute >= first, table.minute < first + span, table.series.in_(series)
                )
                .group_by(table.series, place)
            )  # fmt: skip
            found.append(list(connection.execute(statement)))
        return found

    found = await database.read(work)
    if not any(found):
        return None
    return await to_thread.run_sync(_profiles, found, series, buckets.size)


def _choose(
    connection: Connection, selection: Selection, first: int, last: int, most: int
) -> tuple[list[Series], int]:
    table, rollups = telemetry_series.c, telemetry_rollups.c
    columns = [table.series, table.kind, table.name, table.service, table.unit]
    statement = select(*columns).where(*selection.conditions())
    rows = list(connection.execute(statement.order_by(table.series).limit(most + 1)))
    left_out = 0
    if len(rows) > most:
        size = func.sum(rollups.count).label("size")
        busy = (
            select(rollups.series, size)
            .where(rollups.minute >= first, rollups.minute < last)
            .group_by(rollups.series)
            .subquery()
        )
        ranked = statement.join(busy, busy.c.series == table.series)
        rows = list(connection.execute(ranked.order_by(busy.c.size.desc())))
        left_out = max(0, len(rows) - most)
    return [Series(*row) for row in rows[:most]], left_out


def _rows(connection: Connection, numbers: list[int] | None, start: int, stop: int) -> list[Any]:
    table = telemetry_rollups.c
    statement = select(
        table.minute, table.series, table.count, table.errors, table.measured, table.sum,
        table.sketch,
    ).where(table.minute >= start, table.minute < stop)  # fmt: skip
    if numbers is not None:
        statement = statement.where(table.series.in_(numbers))
    return list(connection.execute(statement))


def _buckets(
    series: list[Series], left_out: int, rows: list[Any], first: int, last: int, width: int
) -> Buckets:
    places = {one.number: place for place, one in enumerate(series)}
    size = (last - first) // width
    cells = len(series) * size
    # Series that began after they were listed are for the next question.
    columns = list(zip(*(row for row in rows if row[1] in places), strict=True)) or [()] * 7
    owner = np.array([places[number] for number in columns[1]], np.intp)
    minute = np.array(columns[0], np.intp)
    cell = owner * size + (minute - first) // width

    def total(column: int) -> Float:
        values = np.array(columns[column], np.float64)
        return np.asarray(np.bincount(cell, values, cells).reshape(len(series), size))

    bins, text = sketch.decode(columns[6])
    quantiles = sketch.quantiles(bins, cell[text], cells, (0.5, 0.95))
    p50, p95 = quantiles.T.reshape(2, len(series), size)
    parts = -(-size // _TOGETHER)
    part = owner * parts + (minute - first) // width // _TOGETHER
    together = sketch.quantiles(bins, part[text], len(series) * parts, (0.95,))
    return Buckets(
        first, width, series, total(2), total(3), total(4), total(5), p50, p95, left_out,
        _longer(p95, together.reshape(len(series), parts)),
    )  # fmt: skip


def _longer(each: Float, together: Float) -> Float:
    """How much larger [S] are `together` [S, T] than the medians of `each` [S, B] of them."""
    rows, parts = together.shape
    padded = np.pad(each, ((0, 0), (0, parts * _TOGETHER - each.shape[1])), constant_values=np.nan)
    middle = robust.median(padded.reshape(rows, parts, _TOGETHER))
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = robust.median(np.where(middle > 0, together / middle, np.nan))
    return np.nan_to_num(factor, nan=1.0)


def _profiles(found: list[list[Any]], series: dict[int, int], size: int) -> tuple[Float, Float]:
    counts = np.full((len(found), len(series), size), np.nan)
    means = np.full_like(counts, np.nan)
    for day, rows in enumerate(found):
        if rows:
            counts[day] = 0
        for number, bucket, count, measured, total in rows:
            place = series[number]
            counts[day, place, bucket] = count
            if measured:
                means[day, place, bucket] = total / float(measured)
    return counts, means

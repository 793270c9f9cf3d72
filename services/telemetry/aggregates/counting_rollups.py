"""Answers from minute rollups: sealed ones by the hour, the others' rows, and the edges' records.

A window rarely begins and ends with a minute: the records of the minutes that are only partly in
it are counted one by one, so that the answer is of the window exactly.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_hours,
    telemetry_records,
    telemetry_rollups,
    telemetry_segments,
)
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.aggregates.asking import MINUTE_NS, Question
from mcp_hub.services.telemetry.aggregates.measures import Number
from mcp_hub.services.telemetry.aggregates.tally import Groups, Tally
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS
from mcp_hub.services.telemetry.sketch import keys_of
from mcp_hub.services.telemetry.storage.cells import RowBins
from mcp_hub.services.telemetry.storage.columns import coded
from mcp_hub.services.telemetry.storage.sealed_rollups import (
    COUNTS,
    HOUR_MINUTES,
    MEASURES,
    MINUTE_SKETCHES,
    SKETCHES,
    TOTALS,
    Rolled,
    columns_of,
    opened_hour,
    opened_minutes,
    rolled,
)
from mcp_hub.services.telemetry.storage.sealing import ROLLUPS
from mcp_hub.services.telemetry.windows import Window

_SERIES_NAMED = 500
_NO_CELL = -(1 << 60)


@dataclass(slots=True)
class Read:
    """What was read for a window, as the database gave it."""

    whole: dict[int, dict[str, bytes]] = field(default_factory=dict)
    """The sections of sealed hours that are in the window and in one bucket."""
    parts: dict[int, dict[str, bytes]] = field(default_factory=dict)
    """Those of sealed hours of which single minutes are asked for."""
    rows: list[Any] = field(default_factory=list)
    edges: list[Any] = field(default_factory=list)


class RollupCounting:
    """Counts a question's records by rollups; `shift` (ns) is added to times for their bucket."""

    def __init__(self, question: Question) -> None:
        self._question = question
        number = next(iter(question.numbers), None)
        functions = {one.function for one in question.measures if one.number is not None}
        self._number = number
        self._sketches = "quantile" in functions
        self._measures = bool(functions - {"quantile"})

    def read(self, window: Window, connection: Connection) -> Read:
        """Everything that the window needs, in one transaction."""
        found = Read()
        if not self._question.series:
            return found
        first, last = -(-window.since // MINUTE_NS), window.until // MINUTE_NS
        if first >= last:
            found.edges += self._records(connection, window.since, window.until)
            return found
        found.edges += self._records(connection, window.since, first * MINUTE_NS)
        found.edges += self._records(connection, last * MINUTE_NS, window.until)
        sealed = self._sealed(connection, first, last)
        by_hour = [hour for hour in sealed if self._is_whole(hour, first, last)]
        sections = [TOTALS] + [SKETCHES] * self._sketches
        found.whole = _sections(connection, by_hour, sections)
        sections = [COUNTS] + [MEASURES] * self._measures + [MINUTE_SKETCHES] * self._sketches
        whole = set(by_hour)
        found.parts = _sections(connection, [h for h in sealed if h not in whole], sections)
        for begin, end in _gaps(sealed, first, last):
            found.rows += self._rollups(connection, begin, end)
        return found

    def count(self, read: Read, window: Window, shift: int, tally: Tally, groups: Groups) -> None:
        """Add what was read to the tally."""
        if not self._question.series:
            return
        by_series = self._groups_by_series(groups)
        minutes = -(-window.since // MINUTE_NS), window.until // MINUTE_NS
        for hour, sections in read.whole.items():
            self._add(opened_hour(sections, hour), minutes, shift, tally, by_series)
        for hour, sections in read.parts.items():
            self._add(opened_minutes(sections, hour), minutes, shift, tally, by_series)
        if read.rows:
            rows = rolled(read.rows, measures=self._measures, sketches=self._sketches)
            self._add(rows, minutes, shift, tally, by_series)
        if read.edges:
            self._add_records(read.edges, shift, tally, by_series)

    def _is_whole(self, hour: int, first: int, last: int) -> bool:
        width = self._question.buckets.width
        fits = width is None or width % HOUR_NS == 0
        return fits and first <= hour * HOUR_MINUTES and (hour + 1) * HOUR_MINUTES <= last

    def _sealed(self, connection: Connection, first: int, last: int) -> list[int]:
        table = telemetry_hours.c
        return list(
            connection.execute(
                select(table.hour)
                .where(
                    table.hour >= first // HOUR_MINUTES,
                    table.hour <= (last - 1) // HOUR_MINUTES,
                    table.sealed_version == table.version,
                )
                .order_by(table.hour)
            ).scalars()
        )

    def _rollups(self, connection: Connection, first: int, last: int) -> Sequence[Any]:
        table = telemetry_rollups
        names = columns_of(measures=self._measures, sketches=self._sketches)
        wanted = select(*(table.c[name] for name in names)).where(
            table.c.minute >= first, table.c.minute < last, *self._named(table.c.series)
        )
        return connection.execute(wanted).fetchall()

    def _records(self, connection: Connection, since: int, until: int) -> Sequence[Any]:
        if since >= until:
            return []
        table = telemetry_records.c
        names = (table.time, table.series, table.severity, table.duration_ns, table.value)
        wanted = select(*names).where(
            table.time >= since, table.time < until, *self._named(table.series)
        )
        return connection.execute(wanted).fetchall()

    def _named(self, column: Any) -> list[Any]:
        """The condition on the series, where they are few enough to be named."""
        series = self._question.series
        if self._question.every or len(series) > _SERIES_NAMED:
            return []
        return [column.in_(list(series))]

    def _groups_by_series(self, groups: Groups) -> "_BySeries":
        series = sorted(self._question.series)
        info = [self._question.series[one] for one in series]
        columns = [
            coded(getattr(one, field.key) for one in info) for field in self._question.groups
        ]
        own = np.array([_is_own(self._number, one.kind) for one in info], np.bool_)
        return _BySeries(np.array(series, np.int64), groups.of(columns, len(series)), own)

    def _add(
        self,
        one: Rolled,
        minutes: tuple[int, int],
        shift: int,
        tally: Tally,
        known: "_BySeries",
    ) -> None:
        places, there = known.places(one.series)
        buckets = self._question.buckets
        firsts = known.groups[places] * buckets.count
        firsts[~there] = _NO_CELL
        own = known.own[places] & there
        cells = firsts[one.at] + buckets.of(one.minute * MINUTE_NS + shift)
        wanted = (one.minute >= minutes[0]) & (one.minute < minutes[1])
        if not (wanted.all() and there.all()):
            cells[~wanted | (cells < 0)] = -1
        chosen = cells >= 0
        tally.records.add(cells[chosen], one.count[chosen], one.errors[chosen])
        if self._number is None:
            return
        number = tally.numbers[self._number]
        chosen &= own[one.at] & (one.measured > 0)
        if one.sums is not None and one.least is not None and one.most is not None:
            number.sums.add(cells[chosen], one.measured[chosen], one.sums[chosen])
            number.extremes.add(cells[chosen], one.least[chosen], one.most[chosen])
        if one.bins is not None:
            number.numbers.add_bins(np.where(chosen, cells, -1), one.bins)

    def _add_records(
        self, rows: Sequence[Any], shift: int, tally: Tally, known: "_BySeries"
    ) -> None:
        time, series, severity, duration, value = zip(*rows, strict=True)
        places, there = known.places(np.array(series, np.int64))
        buckets = self._question.buckets
        cells = known.groups[places] * buckets.count
        cells += buckets.of(np.array(time, np.int64) + shift)
        errors = np.array([(one or 0) >= envelope.ERROR for one in severity], np.float64)
        tally.records.add(cells[there], np.ones(there.sum()), errors[there])
        if self._number is None:
            return
        number = tally.numbers[self._number]
        values = np.array(duration if self._number.is_duration else value, np.float64)
        there &= known.own[places] & ~np.isnan(values)
        cells, values = cells[there], values[there]
        number.sums.add(cells, np.ones(len(cells)), values)
        number.extremes.add(cells, values, values)
        if self._sketches:
            ones = np.ones(len(cells), np.int64)
            number.numbers.add_bins(cells, RowBins(ones, keys_of(values), ones))


@dataclass(frozen=True, slots=True)
class _BySeries:
    """Of each of the series [n], sorted: its group, and whether its measure is the number."""

    series: NDArray[np.int64]
    groups: NDArray[np.int64]
    own: NDArray[np.bool_]

    def places(self, series: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The place of each of these series [m], and whether it is among them."""
        places = np.minimum(np.searchsorted(self.series, series), len(self.series) - 1)
        return places, self.series[places] == series


def _is_own(number: Number | None, kind: str) -> bool:
    return number is not None and number.is_duration == (kind == "span")


def _sections(
    connection: Connection, hours: Sequence[int], names: Iterable[str]
) -> dict[int, dict[str, bytes]]:
    """The sections of these hours' rollups, by the hour."""
    found: dict[int, dict[str, bytes]] = {hour: {} for hour in hours}
    if not found:
        return found
    table = telemetry_segments.c
    wanted = select(table.hour, table.column, table.data).where(
        table.kind == ROLLUPS,
        table.hour >= hours[0],
        table.hour <= hours[-1],
        table.column.in_(list(names)),
    )
    for hour, name, data in connection.execute(wanted):
        if hour in found:
            found[hour][name] = bytes(data)
    return {hour: sections for hour, sections in found.items() if sections}


def _gaps(sealed: Sequence[int], first: int, last: int) -> Iterable[tuple[int, int]]:
    """The ranges of minutes from `first` to before `last` that are in none of the hours."""
    begin = first
    for hour in sealed:
        if hour * HOUR_MINUTES > begin:
            yield begin, hour * HOUR_MINUTES
        begin = max(begin, (hour + 1) * HOUR_MINUTES)
    if begin < last:
        yield begin, last

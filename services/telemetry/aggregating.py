"""`telemetry_aggregate`: records counted and measured, by groups and by buckets of time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.pages import decode_cursor, encode_cursor
from mcp_hub.services.telemetry.asking import (
    Question,
    check_fields,
    find_series,
    parse_buckets,
    parse_groups,
)
from mcp_hub.services.telemetry.cells import Cells, Floats
from mcp_hub.services.telemetry.counting_records import RecordCounting
from mcp_hub.services.telemetry.counting_rollups import RollupCounting
from mcp_hub.services.telemetry.filter_sql import check_keys
from mcp_hub.services.telemetry.filters import parse_filter
from mcp_hub.services.telemetry.measures import VALUE, Measure, parse_measures, resolved
from mcp_hub.services.telemetry.tally import Groups, Tally
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window, parse_window

DEFAULT_LIMIT = 50
MAX_LIMIT = 50_000

_DIGITS = 6
_SUM_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A question as a caller puts it; `telemetry_aggregate` tells what each part means."""

    measure: Sequence[str] = ("count",)
    kind: str | None = None
    name: str | None = None
    service: str | None = None
    group_by: Sequence[str] = ()
    bucket: str | None = None
    since: str | float | None = None
    until: str | float | None = None
    where: Mapping[str, Any] | None = None
    compare: bool = False
    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


class Aggregating:
    """Answers aggregates: from rollups what they know, else from the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def aggregate(self, asked: Aggregate) -> Table:
        """The table of an aggregate: the groups' fields, the bucket's time, then the measures.

        Raises:
            InvalidArgument: a part of it is none; says what would be right.
            LimitExceeded: it has more groups than are counted.
        """
        if not 1 <= asked.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit is {asked.limit}; it must be from 1 to {MAX_LIMIT:,}.")
        window, skipped = parse_window(asked.since, asked.until), 0
        if asked.cursor is not None:
            since, until, skipped = decode_cursor(asked.cursor, int, int, int)
            window = Window(since, until)
        question = await self._understood(asked, window)
        earlier = _earlier(window, question) if asked.compare else None
        groups = Groups()
        tallies = []
        for one in (window, earlier):
            if one is not None:
                tally = Tally(question.measures)
                await self._count(question, one, window.since - one.since, tally, groups)
                tallies.append(tally)
        page = partial(_table, question, window, tallies, groups, skipped, asked.limit)
        table: Table = await to_thread.run_sync(page)
        table.note = _note(question, window, earlier, empty=not table.rows and not skipped)
        return table

    async def _understood(self, asked: Aggregate, window: Window) -> Question:
        measures = parse_measures(asked.measure)
        fields = parse_groups(asked.group_by)
        named = {"kind": asked.kind, "name": asked.name, "service": asked.service}
        filter = parse_filter({key: value for key, value in named.items() if value is not None})
        filter &= parse_filter(asked.where)
        buckets = parse_buckets(asked.bucket, window)
        used = [one.number.field for one in measures if one.number is not None]
        used += [one.unique for one in measures if one.unique is not None]

        def look(connection: Connection) -> Any:
            check_keys(connection, filter)
            check_fields(connection, [*fields, *used])
            return find_series(connection, filter, self._database.dialect)

        series, every = await self._database.read(look)
        kinds = {one.kind for one in series.values()}
        return Question(filter, series, every, fields, resolved(measures, kinds), buckets)

    async def _count(
        self, question: Question, window: Window, shift: int, tally: Tally, groups: Groups
    ) -> None:
        if not question.series:
            return
        if not question.is_of_rollups:
            await RecordCounting(self._database, question).count(window, shift, tally, groups)
            return
        counting = RollupCounting(question)
        read = await self._database.read(partial(counting.read, window))
        await to_thread.run_sync(counting.count, read, window, shift, tally, groups)


def _earlier(window: Window, question: Question) -> Window:
    """The window before, moved by whole buckets so that each has one to be compared with."""
    moved = window.length
    width = question.buckets.width
    if width is not None:
        moved = -(-moved // width) * width
    return Window(window.since - moved, window.until - moved)


def _table(
    question: Question,
    window: Window,
    tallies: Sequence[Tally],
    groups: Groups,
    skipped: int,
    limit: int,
) -> Table:
    buckets = question.buckets
    seconds = buckets.seconds(window)
    found = [tally.figures(seconds, buckets.count) for tally in tallies]
    cells = found[0][0] if len(found) == 1 else np.union1d(found[0][0], found[1][0])
    columns = [
        [
            _aligned(cells, where, figure, measure)
            for figure, measure in zip(figures, question.measures, strict=True)
        ]
        for where, figures in found
    ]
    first = columns[0][0]
    by_size = np.where(np.isnan(first), np.inf, -first)
    # Time first, then the largest; what is equal, the same way at each page.
    order = np.lexsort((groups.order()[cells // buckets.count], by_size, cells % buckets.count))
    shown = order[skipped : skipped + limit]
    rows = _labels(question, groups, cells[shown])
    for place, measure in enumerate(question.measures):
        for column in _shown_columns(measure, [one[place][shown] for one in columns]):
            for row, value in zip(rows, column, strict=True):
                row.append(value)
    more = len(order) > skipped + limit
    return Table(
        columns=_names(question, compared=len(tallies) > 1),
        rows=rows,
        truncated=more,
        next_cursor=encode_cursor(window.since, window.until, skipped + limit) if more else None,
    )


def _labels(question: Question, groups: Groups, cells: Cells) -> list[list[Any]]:
    """The beginnings of the cells' rows: the group's values, and the bucket's time."""
    buckets = question.buckets
    rows = [[*groups.rows[group]] for group in (cells // buckets.count).tolist()]
    if buckets.width is not None:
        times = [_time(buckets.first + place * buckets.width) for place in range(buckets.count)]
        for row, place in zip(rows, (cells % buckets.count).tolist(), strict=True):
            row.append(times[place])
    return rows


def _names(question: Question, *, compared: bool) -> list[str]:
    names = [str(field) for field in question.groups]
    if question.buckets.width is not None:
        names.append("time")
    for measure in question.measures:
        names.append(measure.label)
        if compared:
            names += [f"{measure.label}.before", f"{measure.label}.change"]
    return names


def _aligned(cells: Any, where: Any, figure: Floats, measure: Measure) -> Floats:
    """The figure of each of the cells; counts are 0 where there are no records."""
    empty = 0.0 if measure.function in ("count", "rate", "errors", "unique") else np.nan
    result = np.full(len(cells), empty)
    result[np.searchsorted(cells, where)] = figure
    if measure.number is not None and measure.number.is_duration:
        result /= 1e6
    return result


def _shown_columns(measure: Measure, figures: Sequence[Floats]) -> list[list[Any]]:
    digits = _SUM_DIGITS if measure.function in ("count", "errors", "unique", "sum") else _DIGITS
    shown = [[_shown(one, digits) for one in figure.tolist()] for figure in figures]
    if len(figures) == 1:
        return shown
    now, before = figures
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (now - before) / np.abs(before)
    return [*shown, [_shown(one, 4) for one in change.tolist()]]


def _shown(value: float, digits: int) -> int | float | None:
    if not math.isfinite(value):
        return None
    if value == int(value) and abs(value) < 2**53:
        return int(value)
    return float(f"{value:.{digits}g}")


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _note(question: Question, window: Window, earlier: Window | None, *, empty: bool) -> str:
    said = [f"From {_instant(window.since)} to {_instant(window.until)}."]
    if empty:
        said.append("No records.")
    if earlier is not None:
        said.append(f"before: from {_instant(earlier.since)}; change: (now - before) / before.")
    numbers = question.numbers
    units = {one.unit for one in question.series.values() if one.kind != "span" and one.unit}
    if any(number.field == VALUE for number in numbers) and units:
        said.append(f"value in {', '.join(sorted(units)[:5])}.")
    return " ".join(said)


def _instant(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""`telemetry_aggregate`: records counted and measured, by groups and by buckets of time."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.pages import decode_cursor
from mcp_hub.services.telemetry.aggregate import Aggregate
from mcp_hub.services.telemetry.asking import (
    Question,
    check_fields,
    find_series,
    parse_buckets,
    parse_groups,
)
from mcp_hub.services.telemetry.counting_records import RecordCounting
from mcp_hub.services.telemetry.counting_rollups import RollupCounting
from mcp_hub.services.telemetry.filter_sql import check_keys
from mcp_hub.services.telemetry.filters import parse_filter
from mcp_hub.services.telemetry.measures import VALUE, parse_measures, resolved
from mcp_hub.services.telemetry.tabulating import tabulated
from mcp_hub.services.telemetry.tally import Groups, Tally
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window, parse_window

MAX_LIMIT = 50_000


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
        periods = [window] if earlier is None else [window, earlier]
        groups = Groups(len(question.groups))
        tallies = [Tally(question.measures) for _ in periods]
        page = partial(tabulated, question, window, tallies, groups, skipped, asked.limit)
        if not question.series:
            table = page()
        elif question.is_of_rollups:
            counting = RollupCounting(question)
            read = await self._database.read(lambda c: [counting.read(one, c) for one in periods])

            def work() -> Table:
                for one, found, tally in zip(periods, read, tallies, strict=True):
                    counting.count(found, one, window.since - one.since, tally, groups)
                return page()

            table = await to_thread.run_sync(work)
        else:
            records = RecordCounting(self._database, question)
            for one, tally in zip(periods, tallies, strict=True):
                await records.count(one, window.since - one.since, tally, groups)
            table = await to_thread.run_sync(page)
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


def _earlier(window: Window, question: Question) -> Window:
    """The window before, moved by whole buckets so that each has one to be compared with."""
    moved = window.length
    width = question.buckets.width
    if width is not None:
        moved = -(-moved // width) * width
    return Window(window.since - moved, window.until - moved)


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

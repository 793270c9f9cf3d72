"""`telemetry_aggregate`: records counted and measured, by groups and by buckets of time."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database, Dialect
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.pages import decode_cursor
from mcp_hub.services.telemetry.aggregates.aggregate import Aggregate
from mcp_hub.services.telemetry.aggregates.asking import (
    Buckets,
    Question,
    check_fields,
    find_series,
    parse_buckets,
    parse_groups,
)
from mcp_hub.services.telemetry.aggregates.caveats import caveats
from mcp_hub.services.telemetry.aggregates.counting_records import RecordCounting
from mcp_hub.services.telemetry.aggregates.counting_rollups import Read, RollupCounting
from mcp_hub.services.telemetry.aggregates.measures import VALUE, parse_measures, resolved
from mcp_hub.services.telemetry.aggregates.tabulating import tabulated
from mcp_hub.services.telemetry.aggregates.tally import Groups, Tally
from mcp_hub.services.telemetry.envelope import OWN_LEFT_OUT
from mcp_hub.services.telemetry.filtering.filter_sql import check_keys
from mcp_hub.services.telemetry.filtering.filters import parse_filter
from mcp_hub.services.telemetry.filtering.mismatches import mismatch
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window, parse_window

MAX_LIMIT = 50_000


class Aggregating:
    """Answers aggregates: from rollups what they know, else from the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def aggregate(self, asked: Aggregate) -> Table:
        """The table of an aggregate: the groups' fields, the bucket's time, then the measures.

        The hub's own are left out unless a name, service, trace or id is given.

        Raises:
            InvalidArgument: a part of it is none; says what would be right.
            LimitExceeded: it has more groups than are counted.
        """
        if not 1 <= asked.limit <= MAX_LIMIT:
            raise InvalidArgument(f"limit is {asked.limit}; it must be from 1 to {MAX_LIMIT:,}.")
        window, skipped = _window(asked)
        look = _looking(asked, window, self._database.dialect)
        question, read, known = await self._database.read(look)
        periods = _periods(asked, window, question.buckets)
        groups = Groups(len(question.groups))
        tallies = [Tally(question.measures) for _ in periods]
        page = partial(tabulated, question, window, tallies, groups, skipped, asked.limit)
        if question.is_of_rollups:
            counting = RollupCounting(question)

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
        said = [_note(question, periods, table)]
        if not table.rows and not skipped:
            said.append("No records.")
            why = await self._database.read(lambda c: mismatch(c, question.filter))
            said += [why] if why else []
            said += [OWN_LEFT_OUT] if question.own_left_out else []
        table.note = " ".join([*said, *known])
        return table


def _window(asked: Aggregate) -> tuple[Window, int]:
    """The window asked about, and how many rows earlier pages had."""
    if asked.cursor is None:
        return parse_window(asked.since, asked.until), 0
    since, until, skipped = decode_cursor(asked.cursor, int, int, int)
    if not 0 <= since < until or skipped < 0:
        raise InvalidArgument(f"{asked.cursor!r} is not a cursor of this table.")
    return Window(since, until), skipped


def _looking(
    asked: Aggregate, window: Window, dialect: Dialect
) -> Callable[[Connection], tuple[Question, list[Read], list[str]]]:
    """A transaction that understands the question and, if rollups answer it, reads them.

    Its last part is what is to be known of the values.
    """
    measures = parse_measures(asked.measure)
    fields = parse_groups(asked.group_by)
    named = {"kind": asked.kind, "name": asked.name, "service": asked.service}
    filter = parse_filter({key: value for key, value in named.items() if value is not None})
    filter &= parse_filter(asked.where)
    buckets = parse_buckets(asked.bucket, window)
    used = [one.number.field for one in measures if one.number is not None]
    used += [one.unique for one in measures if one.unique is not None]

    def look(connection: Connection) -> tuple[Question, list[Read], list[str]]:
        check_keys(connection, filter)
        check_fields(connection, [*fields, *used])
        series, every, left_out = find_series(connection, filter, dialect)
        kinds = {one.kind for one in series.values()}
        resolved_measures = resolved(measures, kinds)
        question = Question(filter, series, every, left_out, fields, resolved_measures, buckets)
        known = caveats(connection, series, question.measures)
        if not question.is_of_rollups:
            return question, [], known
        counting = RollupCounting(question)
        periods = _periods(asked, window, buckets)
        return question, [counting.read(one, connection) for one in periods], known

    return look


def _periods(asked: Aggregate, window: Window, buckets: Buckets) -> list[Window]:
    """The window and, to be compared with, the one before.

    That is moved by whole buckets, so that each bucket has one to be compared with.
    """
    if not asked.compare:
        return [window]
    moved = window.length
    if buckets.width is not None:
        moved = -(-moved // buckets.width) * buckets.width
    return [window, Window(window.since - moved, window.until - moved)]


def _note(question: Question, periods: Sequence[Window], table: Table) -> str:
    said = [f"From {_instant(periods[0].since)} to {_instant(periods[0].until)}."]
    said += _nothing_to_measure(question, table)
    if len(periods) > 1:
        said.append(f"before: from {_instant(periods[1].since)}; change: (now - before) / before.")
    numbers = question.numbers
    units = {one.unit for one in question.series.values() if one.kind != "span" and one.unit}
    if any(number.field == VALUE for number in numbers) and units:
        said.append(f"value in {', '.join(sorted(units)[:5])}.")
    return " ".join(said)


def _nothing_to_measure(question: Question, table: Table) -> list[str]:
    """Which measures are null in every row, because no record has their number."""
    said = []
    for measure in question.measures:
        if not measure.of_numbers or measure.number is None or not table.rows:
            continue
        place = table.columns.index(measure.label)
        if all(row[place] is None for row in table.rows):
            what = measure.number.field
            end = (
                f"measure an attribute by its key, such as {measure.function_text}:size."
                if what == VALUE and measure.number.spans is not None
                else "its type is in telemetry_fields(name=…)."
            )
            said.append(f"No record here has a number in {what}: {end}")
    return list(dict.fromkeys(said))


def _instant(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

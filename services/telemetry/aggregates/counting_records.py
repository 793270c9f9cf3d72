"""Answers from the records themselves: sealed hours in columns, the others from the table."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from anyio import to_thread
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, select, tuple_

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_hours,
    telemetry_records,
    telemetry_resources,
    telemetry_segments,
)
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.aggregates.asking import Question, column_of
from mcp_hub.services.telemetry.aggregates.tally import Groups, Tally
from mcp_hub.services.telemetry.filtering.filter_sql import conditions_on_records
from mcp_hub.services.telemetry.filtering.filter_values import fits
from mcp_hub.services.telemetry.filtering.filters import Condition, Field
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS
from mcp_hub.services.telemetry.storage.columns import Coded
from mcp_hub.services.telemetry.storage.frames import (
    ATTRIBUTE,
    REST,
    Frame,
    expressions,
    frame_of,
    opened_part,
)
from mcp_hub.services.telemetry.windows import Window

_PAGE = 8_192
_SERIES_NAMED = 500
_RECORDS_AT_ONCE = 300_000
"""Of sealed hours that are read in one transaction, to bound the memory."""

Packed = Mapping[str, bytes]


class RecordCounting:
    """Counts a question's records one by one, in whole columns."""

    def __init__(self, database: Database, question: Question) -> None:
        self._database = database
        self._question = question
        self._resources: dict[int, dict[str, Any]] | None = None

    async def count(self, window: Window, shift: int, tally: Tally, groups: Groups) -> None:
        """Add the window's records to the tally; `shift` (ns) is added to times for buckets."""
        if not self._question.series:
            return
        if any(column == "resource" for column in self._question.columns(with_filter=True)):
            self._resources = await self._database.read(_resources)
        counter = partial(self._add, shift, tally, groups)
        async for part, is_sealed in self._parts(window):
            await to_thread.run_sync(counter, part, window, is_sealed)

    async def _parts(self, window: Window) -> AsyncIterator[tuple[Any, bool]]:
        """Sealed hours and pages of records that hold the whole window, no record twice."""
        if not self._question.is_of_sealed_columns:
            async for rows in self._pages(window):
                yield rows, False
            return
        sealed = await self._database.read(partial(_sealed, window))
        for hours, span in _spans(sealed, window):
            found = await self._database.read(partial(self._hours, hours)) if hours else {}
            for parts in found.values():
                yield parts, True
            # What is sealed no more, or never was.
            for begin, end in _without(span, sorted(found)):
                async for rows in self._pages(Window(begin, end)):
                    yield rows, False

    def _hours(self, hours: Sequence[int], connection: Connection) -> dict[int, list[Packed]]:
        """The wanted columns of the sealed parts of these hours; only of those that are sealed."""
        table = telemetry_hours.c
        still = select(table.hour).where(
            table.hour >= hours[0],
            table.hour <= hours[-1],
            table.sealed_version == table.version,
        )
        found: dict[int, list[Packed]] = {h: [] for h in connection.execute(still).scalars()}
        wanted = ["time", *self._question.columns(with_filter=True)]
        parts = self._columns(connection, hours, wanted)
        attributes = [name for name in wanted if name.startswith(ATTRIBUTE)]
        if any(name not in part for part in parts.values() for name in attributes):
            for at, columns in self._columns(connection, hours, [REST]).items():
                parts[at].update(columns)
        for (hour, _, _), columns in parts.items():
            if hour in found:
                found[hour].append(columns)
        return found

    def _columns(
        self, connection: Connection, hours: Sequence[int], names: Iterable[str]
    ) -> dict[tuple[int, str, int], dict[str, bytes]]:
        table = telemetry_segments.c
        found: dict[tuple[int, str, int], dict[str, bytes]] = {}
        wanted = select(table.hour, table.kind, table.part, table.column, table.data).where(
            table.kind.in_(self._question.kinds),
            table.hour >= hours[0],
            table.hour <= hours[-1],
            table.column.in_(list(names)),
        )
        for hour, kind, part, name, data in connection.execute(wanted):
            found.setdefault((hour, kind, part), {})[name] = bytes(data)
        return found

    async def _pages(self, window: Window) -> AsyncIterator[Sequence[Any]]:
        """The fields of the records that meet the filter, in pages."""
        selected = expressions(self._question.columns(with_filter=False), self._database.dialect)
        table = telemetry_records.c
        conditions = self._conditions()
        statement = (
            select(*(column.label(name) for name, column in selected.items()), table.id.label("id"))
            .order_by(table.time, table.id)
            .limit(_PAGE)
        )
        after: tuple[int, bytes] = (window.since - 1, b"\xff" * 17)
        while True:
            page = statement.where(
                table.time >= after[0],
                table.time < window.until,
                tuple_(table.time, table.id) > after,
                *conditions,
            )
            rows = await self._database.read(partial(_fetched, page))
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            after = (rows[-1].time, bytes(rows[-1].id))

    def _conditions(self) -> list[ColumnElement[bool]]:
        question = self._question
        filter = question.filter.of("record", "attribute", "resource")
        found = conditions_on_records(filter, self._database.dialect)
        if not question.every and len(question.series) <= _SERIES_NAMED:
            found.append(telemetry_records.c.series.in_(list(question.series)))
        return found

    def _add(
        self, shift: int, tally: Tally, groups: Groups, part: Any, window: Window, sealed: bool
    ) -> None:
        question = self._question
        if not sealed:
            wanted = question.columns(with_filter=False)
            selected = list(expressions(wanted, self._database.dialect))
            frame = frame_of(part, selected, wanted)
            self._count(self._chosen(frame, None), shift, tally, groups)
            return
        for packed in part:
            frame = opened_part(packed, question.columns(with_filter=True))
            chosen = self._chosen(frame, window)
            if len(chosen):
                self._count(chosen, shift, tally, groups)

    def _chosen(self, frame: Frame, window: Window | None) -> Frame:
        """The records asked about; with `window`, of those of a sealed part."""
        rows = np.ones(len(frame), np.bool_)
        if not self._question.every:
            rows &= frame.coded("series").holds(self._question.series.__contains__)
        if window is not None:
            rows &= (frame.time >= window.since) & (frame.time < window.until)
            for condition in self._question.filter.of("record", "attribute", "resource").conditions:
                rows &= self._holds(frame, condition)
        return frame if rows.all() else frame.at(rows)

    def _holds(self, frame: Frame, condition: Condition) -> NDArray[np.bool_]:
        if condition.field.source == "record" and condition.field.key in ("duration_ns", "value"):
            numbers = frame.numbers(condition.field.key)
            values, codes = np.unique(numbers, return_inverse=True)
            fitting = [fits(None if one != one else one, condition) for one in values.tolist()]
            return np.array(fitting, np.bool_)[codes]
        return self._values(frame, condition.field).holds(lambda value: fits(value, condition))

    def _values(self, frame: Frame, field: Field) -> Coded:
        column = frame.coded(column_of(field))
        if field.source == "series":
            known = self._question.series
            return column.translated(
                getattr(known[one], field.key) if one in known else None for one in column.values
            )
        if field.source == "resource":
            resources = self._resources or {}
            return column.translated(resources.get(one, {}).get(field.key) for one in column.values)
        return column

    def _shown(self, frame: Frame, field: Field) -> Coded:
        """The values as an agent reads them: of severities, the names."""
        column = self._values(frame, field)
        if column_of(field) != "severity":
            return column
        return column.translated(one and envelope.severity_name(one) for one in column.values)

    def _count(self, frame: Frame, shift: int, tally: Tally, groups: Groups) -> None:
        question = self._question
        fields = [self._shown(frame, field) for field in question.groups]
        cells = groups.of(fields, len(frame)) * question.buckets.count
        cells += question.buckets.of(frame.time + shift)
        errors = np.zeros(len(frame))
        if "severity" in frame.columns:
            errors = frame.coded("severity").holds(_is_error).astype(np.float64)
        tally.records.add_each(cells, errors)
        for number, counted in tally.numbers.items():
            field = number.field
            if field.source == "record" and field.key in ("duration_ns", "value"):
                values = frame.numbers(field.key)
            else:
                column = self._values(frame, field)
                values = column.numbers()[column.codes]
            if number.spans is not None:
                own = frame.coded("series").holds(partial(self._is_own, number.spans))
                values = np.where(own, values, np.nan)
            counted.add(cells, values, quantiles=bool(tally.ranks(number)))
        for field, unique in tally.uniques.items():
            unique.add(cells, self._shown(frame, field))

    def _is_own(self, spans: bool, series: Any) -> bool:
        known = self._question.series.get(series)
        return known is not None and (known.kind == "span") == spans


def _is_error(severity: Any) -> bool:
    return severity is not None and severity >= envelope.ERROR


def _sealed(window: Window, connection: Connection) -> list[tuple[int, int]]:
    """The sealed hours of a window, and how many records each has."""
    table = telemetry_hours.c
    rows = connection.execute(
        select(table.hour, table.records)
        .where(
            table.hour >= window.since // HOUR_NS,
            table.hour <= (window.until - 1) // HOUR_NS,
            table.sealed_version == table.version,
        )
        .order_by(table.hour)
    )
    return [(row.hour, row.records) for row in rows]


def _spans(
    sealed: Sequence[tuple[int, int]], window: Window
) -> Iterable[tuple[list[int], tuple[int, int]]]:
    """The window in spans (ns) of adjoining sealed hours, few enough to be read at once, and of
    none."""
    begin = window.since
    hours: list[int] = []
    held = 0
    for hour, records in sealed:
        adjoins = bool(hours) and hour == hours[-1] + 1
        if hours and not (adjoins and held + records <= _RECORDS_AT_ONCE):
            end = (hours[-1] + 1) * HOUR_NS
            yield hours, (begin, end)
            begin, hours, held = end, [], 0
        if not hours and hour * HOUR_NS > begin:
            yield [], (begin, hour * HOUR_NS)
            begin = hour * HOUR_NS
        hours.append(hour)
        held += records
    if hours:
        end = min((hours[-1] + 1) * HOUR_NS, window.until)
        yield hours, (begin, end)
        begin = end
    if begin < window.until:
        yield [], (begin, window.until)


def _without(span: tuple[int, int], hours: Sequence[int]) -> Iterable[tuple[int, int]]:
    """What of the span (ns) is in none of the hours, sorted."""
    begin, end = span
    for hour in hours:
        if hour * HOUR_NS > begin:
            yield begin, hour * HOUR_NS
        begin = max(begin, (hour + 1) * HOUR_NS)
    if begin < end:
        yield begin, end


def _fetched(statement: Any, connection: Connection) -> Sequence[Any]:
    return connection.execute(statement).fetchall()


def _resources(connection: Connection) -> dict[int, dict[str, Any]]:
    table = telemetry_resources.c
    return {
        row.resource: row.attributes
        if isinstance(row.attributes, dict)
        else msgspec.json.decode(row.attributes)
        for row in connection.execute(select(table.resource, table.attributes))
    }

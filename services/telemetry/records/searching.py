"""Single records, newest first.

A search reads the newest records in pieces of a bounded number of rows and stops when it has
enough, or at its deadline: then it says where it got to, and the next call goes on from there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from anyio import to_thread
from sqlalchemy import ColumnElement, Connection, and_, or_, select
from sqlalchemy.sql import Select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_records,
    telemetry_resources,
    telemetry_series,
)
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.filtering.filter_sql import (
    check_keys,
    conditions_on_records,
    conditions_on_series,
)
from mcp_hub.services.telemetry.filtering.filters import Filter, parse_filter
from mcp_hub.services.telemetry.filtering.mismatches import mismatch
from mcp_hub.services.telemetry.records import presenting
from mcp_hub.services.telemetry.records.words import Words, parse_words, texts_of
from mcp_hub.services.telemetry.views import SearchResult
from mcp_hub.services.telemetry.windows import parse_window

DEADLINE_S = 5.0
FIRST_PIECE = 2_000
_LARGEST_PIECE = 200_000
_FAST_S, _SLOW_S = 0.1, 0.5
_FEW_SERIES = 50
_USUAL_LIMIT = 20
_RARE_DIGITS = 6
_NAMES_SHOWN = 5_000
_LATEST = 2**63 - 1

Position = tuple[int, bytes]
"""What is before this, by time and id, has not been looked at yet."""


@dataclass(slots=True)
class _Search:
    filter: Filter
    words: Words
    since: int
    limit: int
    position: Position
    piece: int
    """About how many rows to look at in one transaction."""
    series: list[int] | None = None
    """The series that fit, if they are few."""
    conditions: list[ColumnElement[bool]] = field(default_factory=list)
    left_out: bool = False
    """Whether there are records of the hub's own, which are not meant."""

    @property
    def direct(self) -> bool:
        """Whether an index leads to the few records that can fit."""
        return any(
            one.op in ("eq", "in") or (one.op == "prefix" and len(str(one.value)) >= _RARE_DIGITS)
            for one in self.filter.of("record").conditions
            if one.field.key == "trace_id"
        )


@dataclass(slots=True)
class _Found:
    records: list[dict[str, Any]] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    more: Position | None = None
    """Where to go on; None at the end."""
    timed_out: bool = False

    def cut_to(self, count: int) -> None:
        if count < len(self.records):
            del self.records[count:], self.positions[count:]
            self.more, self.timed_out = self.positions[-1], False


class Searching:
    """Records by field and text, newest first."""

    def __init__(
        self, database: Database, *, deadline_s: float = DEADLINE_S, piece: int = FIRST_PIECE
    ) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._piece = piece

    async def search(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        service: str | None = None,
        since: str | float | None = None,
        until: str | float | None = None,
        where: Mapping[str, Any] | None = None,
        text: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        also: Filter | None = None,
    ) -> SearchResult:
        """The newest records that fit all that is given; without a limit, as many as are soon read.

        The hub's own are left out unless a name, service, trace or id is given.

        Raises:
            InvalidArgument: an argument is wrong, or `where` names what no record has.
            NotFound: no record has such a name and service.
        """
        given = {"kind": kind, "name": name, "service": service}
        named = parse_filter({key: value for key, value in given.items() if value is not None})
        oldest, position = _span(since, until, cursor)
        search = _Search(
            named & (also or Filter()) & parse_filter(where),
            parse_words(text),
            oldest,
            _USUAL_LIMIT if limit is None else check_limit(limit),
            position,
            self._piece,
        )
        await self._database.read(lambda connection: self._prepare(connection, search))
        if id := _id_sought(search.filter):
            return await self._one(search, id)
        found = await self._scan(search, search.limit)
        if limit is None:
            found.cut_to(presenting.room_for(found.records))
        return await self._result(search, found)

    async def _scan(self, search: _Search, limit: int) -> _Found:
        """The first records that fit, from the search's position on."""
        deadline = time.monotonic() + self._deadline_s
        found = _Found()
        while True:
            begin = time.monotonic()
            rows, position = await self._database.read(lambda c: _next_rows(c, search))
            took = time.monotonic() - begin
            fitting = await to_thread.run_sync(_fitting, rows, search.words)
            room = limit - len(found.records)
            found.records += [record for record, _ in fitting[:room]]
            found.positions += [at for _, at in fitting[:room]]
            if len(fitting) > room:
                found.more = found.positions[-1]
                return found
            if position is None:
                return found
            search.position = position
            if time.monotonic() >= deadline:
                found.more, found.timed_out = position, True
                return found
            if took < _FAST_S:
                search.piece = min(search.piece * 4, _LARGEST_PIECE)
            elif took > _SLOW_S:
                search.piece = max(search.piece // 4, self._piece)

    def _prepare(self, connection: Connection, search: _Search) -> None:
        """See that what is named exists, and find how to come by the records."""
        check_keys(connection, search.filter)
        dialect = self._database.dialect
        of_series = conditions_on_series(search.filter, dialect)
        rest = Filter(tuple(c for c in search.filter.conditions if c.field.source != "series"))
        search.conditions = conditions_on_records(rest, dialect)
        if of_series:
            fitting = select(telemetry_series.c.series).where(*of_series)
            series = list(connection.execute(fitting.limit(_FEW_SERIES + 1)).scalars())
            if not series:
                raise _no_such_series(connection, search.filter)
            if len(series) <= _FEW_SERIES:
                search.series = series
                search.conditions.append(telemetry_records.c.series.in_(series))
            else:
                # Not by the index of series: these are too many for it.
                search.conditions.append((telemetry_records.c.series + 0).in_(fitting))
        if not search.filter.may_mean_own:
            own = select(telemetry_series.c.series).where(
                telemetry_series.c.service.in_(envelope.OWN_SERVICES)
            )
            search.conditions.append(telemetry_records.c.series.not_in(own))
            search.left_out = connection.execute(own.limit(1)).first() is not None
        search.conditions += search.words.conditions(telemetry_series.c.name)

    async def _one(self, search: _Search, id: bytes) -> SearchResult:
        """The record of this id, whole. Ids that the hub made tell the record's time."""
        told = envelope.time_of(id)
        row = None
        if told is not None:
            near = telemetry_records.c.time.between(told, told + 999_999)
            row = await self._database.read(lambda c: _record(c, search, near))
        if row is None:
            found = await self._scan(search, 1)
            if not found.records:
                if found.more:
                    return await self._result(search, found)
                raise NotFound(
                    "There is no record with this id.", "Take an id from a row of telemetry_search."
                )
            there = telemetry_records.c.time == found.positions[0][0]
            row = await self._database.read(lambda c: _record(c, search, there))
        shown = await to_thread.run_sync(presenting.whole, row)
        return SearchResult(columns=list(shown), rows=[list(shown.values())], truncated=False)

    async def _result(self, search: _Search, found: _Found) -> SearchResult:
        more = found.more
        columns, rows, same = presenting.tabulated(found.records)
        notes = []
        if found.timed_out and more:
            notes.append(
                f"Looked back to {presenting.iso_ns(more[0])} in {self._deadline_s:g} s: pass "
                "next_cursor to go on, or narrow by name, service or since."
            )
        if "id" in columns:
            notes.append('Long texts are cut: where={"id": …} gives one record whole.')
        if not found.records and more is None:
            why = await self._database.read(lambda c: mismatch(c, search.filter))
            notes.append(
                why or "No record fits: widen since, or see telemetry_fields for what exists."
            )
            if search.left_out:
                notes.append(envelope.OWN_LEFT_OUT)
        return SearchResult(
            columns=columns,
            rows=rows,
            same=same or None,
            truncated=more is not None,
            next_cursor=encode_cursor(more[0], more[1].hex(), search.since) if more else None,
            note=" ".join(notes) or None,
        )


def _span(
    since: str | float | None, until: str | float | None, cursor: str | None
) -> tuple[int, Position]:
    """Since when, and from where on."""
    if cursor is not None:
        at, id, oldest = decode_cursor(cursor, int, str, int)
        return oldest, (at, bytes.fromhex(id))
    if since is None and until is None:
        return 0, (_LATEST, b"")
    window = parse_window(0 if since is None else since, until)
    return window.since, (_LATEST if until is None else window.until, b"")


def _id_sought(filter: Filter) -> bytes | None:
    for one in filter.of("record").conditions:
        if one.field.key == "id" and one.op == "eq" and isinstance(one.value, bytes):
            return one.value
    return None


def _query() -> Select[Any]:
    series = telemetry_records.c.series == telemetry_series.c.series
    return (
        select(*presenting.series_columns, *presenting.record_columns)
        .select_from(telemetry_records.join(telemetry_series, series))
        .order_by(telemetry_records.c.time.desc(), telemetry_records.c.id.desc())
    )


def _record(connection: Connection, search: _Search, near: ColumnElement[bool]) -> Any:
    resource = telemetry_records.c.resource == telemetry_resources.c.resource
    query = _query().where(*search.conditions, near).outerjoin(telemetry_resources, resource)
    return connection.execute(query.add_columns(presenting.resource_column).limit(1)).first()


def _next_rows(connection: Connection, search: _Search) -> tuple[Sequence[Any], Position | None]:
    """Rows that may fit, from the position on, and the next position; None at the end."""
    time_, id = telemetry_records.c.time, telemetry_records.c.id
    at, at_id = search.position
    before = and_(time_ <= at, or_(time_ < at, id < at_id)) if at_id else time_ < at
    first = search.since if search.direct else _piece_begin(connection, search, at)
    query = _query().where(before, time_ >= first, *search.conditions)
    rows = connection.execute(query.limit(search.limit + 1)).all()
    if len(rows) > search.limit:
        return rows, (rows[-1].time, bytes(rows[-1].id))
    return rows, None if first <= search.since else (first, b"")


def _piece_begin(connection: Connection, search: _Search, end: int) -> int:
    """The time since which about a piece's number of rows precede `end`."""
    column = telemetry_records.c.time
    newest = select(column).where(column < end, column >= search.since).order_by(column.desc())
    if search.series is None:
        begin = connection.execute(newest.limit(1).offset(search.piece)).scalar()
        return search.since if begin is None else int(begin)
    each = max(search.piece // len(search.series), 1)
    begins = [
        connection.execute(
            newest.where(telemetry_records.c.series == series).limit(1).offset(each)
        ).scalar()
        for series in search.series
    ]
    return max((int(begin) for begin in begins if begin is not None), default=search.since)


def _fitting(rows: Sequence[Any], words: Words) -> list[tuple[dict[str, Any], Position]]:
    return [
        (presenting.short(row), (row.time, bytes(row.id)))
        for row in rows
        if not words or words.fits(_texts(row))
    ]


def _texts(row: Any) -> list[str]:
    return [row.name, row.body or "", *texts_of(msgspec.json.decode(row.attributes))]


def _no_such_series(connection: Connection, filter: Filter) -> NotFound:
    """Which of the names that a filter says exists least."""
    for one in filter.of("series").conditions:
        if one.op == "eq" and one.field.key != "kind":
            column = telemetry_series.c[one.field.key]
            if connection.execute(select(column).where(column == one.value)).first() is None:
                known = connection.execute(select(column).distinct().limit(_NAMES_SHOWN)).scalars()
                what = "names" if one.field.key == "name" else "services"
                return NotFound(
                    f"No record has the {one.field.key} {one.value!r}.",
                    names_hint(str(one.value), known, what),
                )
    return NotFound(
        "No record has this combination of kind, name and service.",
        "telemetry_fields tells which exist.",
    )

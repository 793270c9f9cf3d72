"""Where every record enters: accepted means committed, and what comes at once shares a transaction.

While one transaction is written, the records that arrive wait; the next takes them all. How many
may wait is bounded: what is more is refused at once, for the sender to try again.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_hours, telemetry_records
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.records.port import RecordStore, Row
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.envelope import Record
from mcp_hub.services.telemetry.intake.accepting import Batch, Rejected
from mcp_hub.services.telemetry.intake.naming import Names, News, to_text, to_texts
from mcp_hub.services.telemetry.intake.rollups import RollupWriter, Totals, totals_of

T = TypeVar("T")

MAX_WAITING = 50_000
"""Records that are being taken in at once in one process."""
RETRY_AFTER_S = 1
HOUR_NS = 3600 * 10**9
SETTLED_NS = 10 * 60 * 10**9
"""Records that come so long after their hour has ended are told to its sealing."""

_PER_TRANSACTION = 5_000
_ON_THE_LOOP = 100
"""So many records are prepared at once; more, in a thread."""
_TRIES = 5
_REPEATED_WITHIN_NS = 48 * HOUR_NS


class Overloaded(Unavailable):
    """More telemetry arrives than can be written; to be sent again after `RETRY_AFTER_S`."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a batch: records committed now, repeated, and refused by their places."""

    accepted: int
    repeated: int
    rejected: list[Rejected]


Commit = Callable[[], Awaitable[Accepted]]


@dataclass(slots=True)
class _Prepared:
    rows: list[Row] = field(default_factory=list)
    spans: list[bool] = field(default_factory=list)
    news: News = field(default_factory=News)
    may_be_repeated: list[bytes] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    all_new: bool = True
    totals: Totals = field(init=False)


@dataclass(slots=True)
class _Waiting:
    prepared: _Prepared
    turn: anyio.Event = field(default_factory=anyio.Event)
    writes: bool = False
    """Its turn came to write and not only to be done."""
    repeated: int = 0
    error: Exception | None = None


@dataclass(slots=True)
class Counts:
    """What this process has taken in since it started."""

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    """Records turned away because too many were waiting."""


class Ingest:
    """The one writer of telemetry records of a process."""

    def __init__(self, database: Database, store: RecordStore) -> None:
        self._database = database
        self._store = store
        self._names = Names()
        self._rollups = RollupWriter()
        # One transaction at a time, also on PostgreSQL: two at once would each be smaller, and the
        # rollups' rows, which each writes, cost more than is gained.
        self._is_writing = False
        self._queue: deque[_Waiting] = deque()
        self._waiting_records = 0
        self.counts = Counts()

    @property
    def waiting(self) -> int:
        """Records that wait to be written now."""
        return self._waiting_records

    async def record(self, batch: Batch) -> Accepted:
        """Commit the batch's records; those that were committed before, by time and id, count once.

        Raises:
            Overloaded: too many records wait already.
            Unavailable: the database does not answer.
        """
        if not batch.records:
            return Accepted(0, 0, batch.rejected)
        self._check_room(len(batch.records))
        await self._count_names()
        if len(batch.records) <= _ON_THE_LOOP:
            prepared = self._prepare(batch)
        else:
            prepared = await to_thread.run_sync(self._prepare, batch)
        return await self._commit(prepared, batch.rejected)

    async def ready(self) -> None:
        """See how much is named already; to be awaited before `prepare`.

        Raises:
            Unavailable: the database does not answer.
        """
        await self._count_names()

    def prepare(self, batch: Batch) -> Commit:
        """All of `record` that needs no database, in any thread; what is returned does the rest.

        For who makes the batch in a thread: what is at hand there need not be fetched by another.
        """
        return partial(self._commit, self._prepare(batch), batch.rejected)

    async def _count_names(self) -> None:
        if not self._names.counted:
            await self._database.read(self._names.count)

    async def _commit(self, prepared: _Prepared, refused: list[Rejected]) -> Accepted:
        rejected = sorted([*refused, *prepared.rejected], key=lambda one: one.index)
        count = len(prepared.rows)
        if not count:
            return Accepted(0, 0, rejected)
        self._check_room(count)
        self._waiting_records += count
        try:
            waiting = _Waiting(prepared)
            await self._committed(waiting)
        finally:
            self._waiting_records -= count
        accepted = count - waiting.repeated
        self.counts.accepted += accepted
        self.counts.repeated += waiting.repeated
        return Accepted(accepted, waiting.repeated, rejected)

    def _check_room(self, records: int) -> None:
        if self._waiting_records and self._waiting_records + records > MAX_WAITING:
            self.counts.refused += records
            raise Overloaded(
                f"{self._waiting_records:,} telemetry records wait to be written.",
                f"Send these again after {RETRY_AFTER_S} s.",
            )

    def _prepare(self, batch: Batch) -> _Prepared:
        prepared = _Prepared()
        news = prepared.news
        for place, record, text in zip(
            batch.places, batch.records, _attributes(batch.records), strict=True
        ):
            try:
                series = self._names.series(record, news)
                attributes = text if text is not None else to_text(record.attributes)
                if len(attributes) > envelope.MAX_ATTRIBUTES_BYTES:
                    raise ValueError(
                        f"attributes have {len(attributes):,} characters; they have at most "
                        f"{envelope.MAX_ATTRIBUTES_BYTES:,}"
                    )
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                prepared.rejected.append(Rejected(place, str(error)))
                continue
            resource = self._names.resource(record.resource, news)
            self._names.describe(record, series, resource, news)
            if not record.is_new:
                prepared.all_new = False
            if record.may_be_repeated:
                prepared.may_be_repeated.append(record.id)
            prepared.spans.append(record.kind == "span")
            # As `Row(…)` does it, without its call.
            row = (
                record.time, record.id, series, record.severity, record.trace_id,
                record.span_id, record.parent_id, record.duration_ns, record.value,
                record.unit, record.body, attributes, resource,
                self._names.pattern(record, series, news) if record.body else None,
            )  # fmt: skip
            prepared.rows.append(tuple.__new__(Row, row))
        prepared.totals = totals_of(prepared.rows, prepared.spans)
        return prepared

    async def _committed(self, waiting: _Waiting) -> None:
        """Return when `waiting` is committed, by this task or by one that came before."""
        self._queue.append(waiting)
        try:
            if self._is_writing:
                await waiting.turn.wait()
            else:
                self._is_writing = waiting.writes = True
            if waiting.writes:
                await self._write_waiting(waiting)
        except anyio.get_cancelled_exc_class():
            if waiting in self._queue:
                self._queue.remove(waiting)
                if waiting.writes:
                    self._pass_on()
            raise
        if waiting.error is not None:
            raise waiting.error

    async def _write_waiting(self, first: _Waiting) -> None:
        # Whoever writes the batch must not take the others along when it is cancelled.
        with anyio.CancelScope(shield=True):
            # Tasks that became ready together come together: let them.
            await checkpoint()
            batch = self._taken(first)
            try:
                await self._write(batch)
            except Exception as error:  # noqa: BLE001 - each caller raises it
                self._rollups.begin_anew()
                for waiting in batch:
                    waiting.error = error
        for waiting in batch:
            waiting.turn.set()
        self._pass_on()

    def _taken(self, first: _Waiting) -> list[_Waiting]:
        """`first` and, of those that wait, as many as one transaction takes."""
        self._queue.remove(first)
        batch = [first]
        size = len(first.prepared.rows)
        while self._queue:
            size += len(self._queue[0].prepared.rows)
            if size > _PER_TRANSACTION:
                break
            batch.append(self._queue.popleft())
        return batch

    def _pass_on(self) -> None:
        """Let the first that waits write the next batch."""
        if self._queue:
            self._queue[0].writes = True
            self._queue[0].turn.set()
        else:
            self._is_writing = False

    async def _write(self, batch: list[_Waiting]) -> None:
        rows = _rows(batch)
        all_new = all(waiting.prepared.all_new for waiting in batch)
        doubtful = {id for waiting in batch for id in waiting.prepared.may_be_repeated}
        news = News()
        for waiting in batch:
            news.merge(waiting.prepared.news)
        settled = time.time_ns() - SETTLED_NS
        hours = {minute // 60 for waiting in batch for minute, _ in waiting.prepared.totals.counts}
        late = {hour for hour in hours if (hour + 1) * HOUR_NS < settled}

        def work(connection: Connection) -> tuple[set[int], object]:
            self._names.write(connection, news)
            repeated = _repeated(connection, rows, doubtful)
            new, places = _without(rows, repeated)
            if new:
                there = self._store.insert(connection, new, all_new=all_new)
                repeated |= {places[place] for place in there}
            update = self._rollups.write(connection, _totals(batch, repeated))
            _note_late(connection, late)
            return repeated, update

        for tries_left in reversed(range(_TRIES)):
            try:
                repeated, update = await self._database.write(work)
                break
            except IntegrityError:
                # Another process has just committed some of the same records.
                if not tries_left:
                    raise
        self._names.kept(news)
        self._rollups.kept(update)  # type: ignore[arg-type]
        first = 0
        for waiting in batch:
            last = first + len(waiting.prepared.rows)
            waiting.repeated = sum(first <= place < last for place in repeated)
            first = last


def _attributes(records: Sequence[Record]) -> Sequence[str | None]:
    """The attributes of all records as JSON; None of each, where some cannot be encoded."""
    try:
        return to_texts([record.attributes for record in records])
    except (ValueError, TypeError, OverflowError, RecursionError):
        return [None] * len(records)


def _rows(batch: Sequence[_Waiting]) -> Sequence[Row]:
    if len(batch) == 1:
        return batch[0].prepared.rows
    return [row for waiting in batch for row in waiting.prepared.rows]


def _totals(batch: Sequence[_Waiting], repeated: set[int]) -> Sequence[Totals]:
    """What the batch's rows but for those at the places `repeated` add to the rollups."""
    if not repeated:
        return [waiting.prepared.totals for waiting in batch]
    spans = [span for waiting in batch for span in waiting.prepared.spans]
    return [totals_of(_without(_rows(batch), repeated)[0], _without(spans, repeated)[0])]


def _without(items: Sequence[T], places: set[int]) -> tuple[Sequence[T], Sequence[int]]:
    """The items but for those at `places`, and where each was."""
    if not places:
        return items, range(len(items))
    kept = [place for place in range(len(items)) if place not in places]
    return [items[place] for place in kept], kept


def _repeated(connection: Connection, rows: Sequence[Row], doubtful: set[bytes]) -> set[int]:
    """The places of rows whose ids were chosen by the sender, and sent before at another time."""
    if not doubtful:
        return set()
    known = {
        bytes(id)
        for id in connection.execute(
            select(telemetry_records.c.id).where(
                telemetry_records.c.id.in_(doubtful),
                telemetry_records.c.time > time.time_ns() - _REPEATED_WITHIN_NS,
            )
        ).scalars()
    }
    places = set()
    for place, row in enumerate(rows):
        if row.id in doubtful:
            if row.id in known:
                places.add(place)
            known.add(row.id)
    return places


def _note_late(connection: Connection, hours: set[int]) -> None:
    """Let the sealing of these hours know that they have changed."""
    if not hours:
        return
    table = telemetry_hours
    insert = insert_for(connection, table)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["hour"], set_={"version": table.c.version + 1}
        ),
        [{"hour": hour, "version": 1, "records": 0, "bytes": 0} for hour in sorted(hours)],
    )

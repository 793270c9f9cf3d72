"""Sealing: an hour that has ended is written once more in columns, which questions read fast.

An hour is sealed while the version that was sealed is its version. Records that come late raise
the version in the transaction that adds them, so that from this instant the hour is read from the
table again, until it is sealed anew. Who begins to seal it raises the version too, which ends any
sealing that was under way: of two that seal the same hour, the later one does.
"""

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from anyio import to_thread
from sqlalchemy import Connection, Select, Text, cast, delete, func, select, tuple_, update

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_hours,
    telemetry_records,
    telemetry_rollups,
    telemetry_segments,
    telemetry_series,
)
from mcp_hub.adapters.database.touch import touch
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.services.telemetry.envelope import KINDS
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS, SETTLED_NS
from mcp_hub.services.telemetry.storage.frames import PART, SEALED, sealed_part
from mcp_hub.services.telemetry.storage.sealed_rollups import Rolled, columns_of, rolled, sealed

logger = logging.getLogger(__name__)

SEALED_AFTER_NS = SETTLED_NS + 5 * 60 * 10**9
"""How long after its end an hour is sealed: what came unannounced is committed by then."""
ROLLUPS = ""
"""The kind under which rollups are among the segments."""

_PAGE = 4_096
_MINUTES_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class Lag:
    """How far sealing has come: hours that wait, and since when (ns) the oldest could be sealed."""

    waiting: int
    since: int | None


class Sealing:
    """Seals hours of one database; one process at a time need do it, several may."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looked_at = 0

    async def seal_due(self) -> int:
        """Seal every hour that waits for it, oldest first; how many were.

        An hour that fails is logged, and waits on: those after it are sealed all the same.
        """
        done = 0
        for hour in await self.waiting():
            try:
                done += await self.seal(hour)
            except Exception:  # the next round tries it again
                since = datetime.fromtimestamp(hour * 3600, UTC)
                logger.exception("The telemetry of %s was not sealed", f"{since:%Y-%m-%dT%H:%MZ}")
        return done

    async def waiting(self) -> list[int]:
        """The hours that have ended and are not sealed, or no longer."""
        last = (time.time_ns() - SEALED_AFTER_NS) // HOUR_NS - 1
        hours, looked_at = await self._database.read(lambda c: _waiting(c, self._looked_at, last))
        # What comes to an hour before this one from now on is late, and has a row.
        self._looked_at = min(hours[0], looked_at) if hours else looked_at
        return hours

    async def lag(self) -> Lag:
        """How many hours wait, seen without changing anything."""
        hours = await self.waiting()
        return Lag(len(hours), (hours[0] + 1) * HOUR_NS + SEALED_AFTER_NS if hours else None)

    async def seal(self, hour: int) -> bool:
        """Seal an hour; False if it changed meanwhile, and is to be sealed later."""
        begin = time.perf_counter()
        version = await self._database.write(lambda c: _begun(c, hour))
        writing = _Writing(self._database, hour, version)
        rollups = await self._rollups(hour)
        if rollups:
            sections = await to_thread.run_sync(sealed, rollups, hour)
            await writing.add(ROLLUPS, sections)
        async for kind, rows in self._parts(hour):
            if not writing.undisturbed:
                break
            await writing.add(kind, await to_thread.run_sync(sealed_part, rows))
            writing.records += len(rows)
        if not (writing.undisturbed and await writing.finish()):
            return False
        logger.info(
            "Sealed an hour of %d telemetry records in %d bytes and %.1f s",
            writing.records, writing.size, time.perf_counter() - begin,
        )  # fmt: skip
        return True

    async def _rollups(self, hour: int) -> list[Rolled]:
        found = []
        names = columns_of(measures=True, sketches=True)
        for minute in range(hour * 60, hour * 60 + 60, _MINUTES_AT_ONCE):
            some = select(*(telemetry_rollups.c[name] for name in names)).where(
                telemetry_rollups.c.minute >= minute,
                telemetry_rollups.c.minute < minute + _MINUTES_AT_ONCE,
            )
            rows = await self._database.read(partial(_fetched, some))
            if rows:
                found.append(
                    await to_thread.run_sync(partial(rolled, rows, measures=True, sketches=True))
                )
        return found

    async def _parts(self, hour: int) -> AsyncIterator[tuple[str, list[Any]]]:
        """The records of an hour, each kind's by themselves and at most `PART` at once."""
        kinds = await self._database.read(
            lambda c: {
                row.series: row.kind
                for row in c.execute(select(telemetry_series.c.series, telemetry_series.c.kind))
            }
        )
        held: dict[str, list[Any]] = {}
        after = (hour * HOUR_NS, b"")
        while True:
            page = await self._database.read(partial(_page, hour, after))
            for row in page:
                kind = kinds.get(row.series)
                if kind is not None:
                    held.setdefault(kind, []).append(row)
            if len(page) < _PAGE:
                break
            after = (page[-1].time, bytes(page[-1].id))
            while sum(map(len, held.values())) > PART - _PAGE:
                largest = max(held, key=lambda kind: len(held[kind]))
                yield largest, held.pop(largest)
        for kind, rows in held.items():
            yield kind, rows


@dataclass(slots=True)
class _Writing:
    """The parts of an hour as they are written, each only while the hour is as it was."""

    database: Database
    hour: int
    version: int
    undisturbed: bool = True
    records: int = 0
    size: int = 0
    numbers: Counter[str] = field(default_factory=Counter)

    async def add(self, kind: str, columns: Mapping[str, bytes]) -> None:
        key = {"kind": kind, "hour": self.hour, "part": self.numbers[kind]}
        values = [{**key, "column": name, "data": data} for name, data in columns.items()]

        def work(connection: Connection) -> bool:
            if not self._is_as_it_was(connection):
                return False
            insert = insert_for(connection, telemetry_segments)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[column.name for column in telemetry_segments.primary_key],
                    set_={"data": insert.excluded.data},
                ),
                values,
            )
            return True

        self.undisturbed = await self.database.write(work)
        self.numbers[kind] += 1
        self.size += sum(map(len, columns.values()))

    async def finish(self) -> bool:
        done = {"sealed_version": self.version, "records": self.records, "bytes": self.size}

        def work(connection: Connection) -> bool:
            if not self._is_as_it_was(connection):
                return False
            own = telemetry_hours.c.hour == self.hour
            connection.execute(update(telemetry_hours).where(own).values(done))
            return True

        return await self.database.write(work)

    def _is_as_it_was(self, connection: Connection) -> bool:
        """Whether nothing came late, nor has another process begun to seal the hour."""
        table = telemetry_hours.c
        own = (table.hour == self.hour, table.version == self.version)
        return bool(touch(connection, table.bytes, *own))


def _waiting(connection: Connection, looked_at: int, last: int) -> tuple[list[int], int]:
    """The hours to seal up to `last`, and the hour up to which none needs looking for again."""
    table = telemetry_hours.c
    rows = connection.execute(select(table.hour, table.version, table.sealed_version)).all()
    known = {row.hour for row in rows}
    found = {row.hour for row in rows if row.sealed_version != row.version and row.hour <= last}
    hour = looked_at
    minute = telemetry_rollups.c.minute
    while True:
        after = select(func.min(minute)).where(minute >= hour * 60, minute < (last + 1) * 60)
        first = connection.execute(after).scalar()
        if first is None:
            return sorted(found), max(last + 1, looked_at)
        hour = first // 60
        if hour not in known:
            found.add(hour)
        hour += 1


def _begun(connection: Connection, hour: int) -> int:
    """The new version of the hour, which is not sealed from now on and has no parts."""
    table = telemetry_hours
    new = {"hour": hour, "version": 0, "records": 0, "bytes": 0}
    connection.execute(insert_for(connection, table).values(new).on_conflict_do_nothing())
    connection.execute(
        update(table)
        .where(table.c.hour == hour)
        .values(version=table.c.version + 1, sealed_version=None)
    )
    for kind in (ROLLUPS, *KINDS):
        connection.execute(
            delete(telemetry_segments).where(
                telemetry_segments.c.kind == kind, telemetry_segments.c.hour == hour
            )
        )
    return int(connection.execute(select(table.c.version).where(table.c.hour == hour)).scalar_one())


def _fetched(statement: Select[Any], connection: Connection) -> Sequence[Any]:
    return connection.execute(statement).fetchall()


def _page(hour: int, after: tuple[int, bytes], connection: Connection) -> Sequence[Any]:
    table = telemetry_records.c
    attributes = cast(table.attributes, Text).label("attributes")
    names = (table[name] for name in (*SEALED, "id"))
    return connection.execute(
        select(*names, attributes)
        .where(table.time < (hour + 1) * HOUR_NS, tuple_(table.time, table.id) > after)
        .order_by(table.time, table.id)
        .limit(_PAGE)
    ).fetchall()

"""How long telemetry is kept: each kind of record for its own time, rollups for longer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import time_ns
from typing import Any

from anyio.lowlevel import checkpoint
from sqlalchemy import Column, Connection, delete, func, select, update

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_hours,
    telemetry_pattern_counts,
    telemetry_patterns,
    telemetry_rollups,
    telemetry_segments,
    telemetry_series,
)
from mcp_hub.adapters.records.port import RecordStore
from mcp_hub.services.telemetry.envelope import KINDS, Kind
from mcp_hub.services.telemetry.intake.ingest import HOUR_NS
from mcp_hub.services.telemetry.intake.naming import NOTED_EVERY_S
from mcp_hub.services.telemetry.storage.sealing import ROLLUPS

_RECORDS_AT_ONCE = 2_000
_PATTERNS_AT_ONCE = 1_000
_REMEMBERED_NS = 2 * NOTED_EVERY_S * 10**9
"""So long after a pattern was noted last, no process takes it to be there any more."""
_HOURS_AT_ONCE = 4
_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Kept:
    """Days for which records of each kind, and rollups, are kept at least."""

    days: Mapping[Kind, float]
    rollups_days: float


class Retention:
    """Removes what is older, in transactions so small that nothing waits for them."""

    def __init__(self, database: Database, store: RecordStore, kept: Kept) -> None:
        self._database = database
        self._store = store
        self._kept = kept

    async def remove_old(self) -> int:
        """Remove whole hours that are older than is kept; how many records there were."""
        now = time_ns() // HOUR_NS
        hours = {kind: now - round(days * _DAY_HOURS) for kind, days in self._kept.days.items()}
        # The columns first: what is asked from now on no longer finds part of an hour.
        for kind, hour in hours.items():
            await self._remove(partial(_remove_parts, kind), telemetry_segments.c.hour, hour, kind)
        # What no kind is kept for goes at once, which may be whole days.
        removed = await self._remove_records(min(hours.values()), None)
        for kind in KINDS:
            removed += await self._remove_records(hours[kind], kind)
            await self._remove_patterns(hours[kind], kind)
        await self._remove_rollups(now - round(self._kept.rollups_days * _DAY_HOURS))
        return removed

    async def _remove_records(self, hour: int, kind: Kind | None) -> int:
        total = 0
        while True:
            removed = await self._database.write(
                lambda c: self._store.delete_before(c, hour * HOUR_NS, _RECORDS_AT_ONCE, kind)
            )
            if not removed:
                return total
            total += removed
            await checkpoint()

    async def _remove_patterns(self, hour: int, kind: Kind) -> None:
        """Remove patterns not seen for as long as records of their kind are kept."""
        work = partial(_remove_patterns, kind, hour * HOUR_NS - _REMEMBERED_NS)
        while await self._database.write(work):
            await checkpoint()

    async def _remove_rollups(self, hour: int) -> None:
        for table in (telemetry_rollups, telemetry_pattern_counts):
            minute = table.c.minute
            await self._remove(partial(_remove_below, minute), minute, hour * 60, None)
        await self._remove(_remove_hours, telemetry_segments.c.hour, hour, ROLLUPS)

    async def _remove(
        self,
        work: Callable[[int, Connection], None],
        column: Column[int],
        last: int,
        kind: str | None,
    ) -> None:
        """Run `work` with growing bounds up to `last`, from the least there is on."""
        step = _HOURS_AT_ONCE * (60 if column.name == "minute" else 1)
        while True:
            least = select(func.min(column))
            if kind is not None:
                least = least.where(telemetry_segments.c.kind == kind)
            first = await self._database.read(partial(_scalar, least))
            if first is None or first >= last:
                return
            await self._database.write(partial(work, min(first + step, last)))


def _scalar(statement: Any, connection: Connection) -> int | None:
    found: int | None = connection.execute(statement).scalar()
    return found


def _remove_below(column: Column[int], bound: int, connection: Connection) -> None:
    connection.execute(delete(column.table).where(column < bound))


def _remove_patterns(kind: str, before: int, connection: Connection) -> int:
    table, series = telemetry_patterns.c, telemetry_series.c
    old = (
        select(table.pattern)
        .join(telemetry_series, series.series == table.series)
        .where(series.kind == kind, table.last_time < before)
        .limit(_PATTERNS_AT_ONCE)
    )
    return connection.execute(delete(telemetry_patterns).where(table.pattern.in_(old))).rowcount


def _remove_parts(kind: str, bound: int, connection: Connection) -> None:
    """Remove the parts of a kind, and count again what is left of their hours."""
    parts, hours = telemetry_segments, telemetry_hours
    old = (parts.c.kind == kind, parts.c.hour < bound)
    first = connection.execute(select(func.min(parts.c.hour)).where(*old)).scalar()
    connection.execute(delete(parts).where(*old))
    left = (
        select(func.coalesce(func.sum(func.length(parts.c.data)), 0))
        .where(parts.c.kind.in_([ROLLUPS, *KINDS]), parts.c.hour == hours.c.hour)
        .scalar_subquery()
    )
    connection.execute(
        update(hours).where(hours.c.hour >= first, hours.c.hour < bound).values(bytes=left)
    )


def _remove_hours(bound: int, connection: Connection) -> None:
    connection.execute(delete(telemetry_hours).where(telemetry_hours.c.hour < bound))
    for kind in (ROLLUPS, *KINDS):
        connection.execute(
            delete(telemetry_segments).where(
                telemetry_segments.c.kind == kind, telemetry_segments.c.hour < bound
            )
        )

"""What deviates from what is usual, found in the minute rollups."""

import time
from dataclasses import dataclass
from functools import partial

from anyio import to_thread
from sqlalchemy import Column, Connection, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_series
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.telemetry.anomalies import novelty
from mcp_hub.services.telemetry.anomalies.anomaly_views import Anomalies
from mcp_hub.services.telemetry.anomalies.choices import Sensitivity
from mcp_hub.services.telemetry.anomalies.deviations import Judge, Limits
from mcp_hub.services.telemetry.anomalies.findings import (
    Finding,
    grouped,
    instant,
    of_deviation,
    of_new,
    view,
)
from mcp_hub.services.telemetry.anomalies.minutes import (
    Buckets,
    Selection,
    earlier_days,
    first_minute,
    minute_series,
)
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.windows import Window

LIMITS: dict[Sensitivity, Limits] = {
    "low": Limits(alpha=0.005, floor=1.6),
    "normal": Limits(alpha=0.05, floor=1.0),
    "high": Limits(alpha=0.5, floor=0.6),
}

CONTEXT = 1440
"""Minutes that are looked at at least, so that a short window has something to deviate from."""
_EARLIER_DAYS = 14
_MOST_BUCKETS = 800
_LAG_NS = MINUTE_NS
_NAMES = 2_000


@dataclass(frozen=True, slots=True)
class Examined:
    """Findings, and of what: the buckets, of which the last `judged` minutes were in question."""

    findings: list[Finding]
    buckets: Buckets | None
    judged: int
    days: int
    tests: int


class AnomalyFinder:
    """Compares a window with the rest of its day, and with the days before where there are any."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self,
        window: Window,
        *,
        kind: str | None = None,
        name: str | None = None,
        service: str | None = None,
        sensitivity: Sensitivity = "normal",
        together: bool = False,
        limit: int = 10,
    ) -> Anomalies:
        """The windows that deviate; with `together`, those in which all series do jointly.

        Raises:
            NotFound: no series is of this kind, name and service.
        """
        selection = Selection(kind, name, service)
        await self.check(selection)
        limits = LIMITS[sensitivity]
        examined = await self.examine(selection, window, limits, together=together)
        found = await to_thread.run_sync(grouped, examined.findings)
        buckets = examined.buckets
        return Anomalies(
            findings=[view(one) for one in found[:limit]],
            series=len(buckets.series) if buckets else 0,
            minutes=examined.judged,
            note=_note(examined, len(found) - limit, limits),
        )

    async def examine(
        self,
        selection: Selection,
        window: Window,
        limits: Limits,
        *,
        together: bool = False,
        context: int = CONTEXT,
    ) -> Examined:
        """As `find`, ungrouped and without the words."""
        last = min(window.until, time.time_ns() - _LAG_NS) // MINUTE_NS
        since = window.since // MINUTE_NS
        begin = await first_minute(self._database, min(since, last - context), last)
        if begin is None or since >= last:
            return Examined([], None, max(0, last - since), 0, 0)
        width = _width(last - begin)
        size = (last - begin) // width
        begin = last - size * width
        buckets = await minute_series(self._database, selection, begin, last, width)
        earlier = await earlier_days(self._database, buckets, _EARLIER_DAYS)
        known = await self._database.read(
            lambda connection: novelty.read_patterns(connection, selection, since, last)
        )
        judged = slice(max(0, (since - begin) // width), size)

        def work() -> Examined:
            judge = Judge(buckets, judged, limits, earlier)
            result = judge.together() if together else judge.each()
            found = [of_deviation(one, buckets) for one in result.deviations]
            if not together:
                new = novelty.news(known, buckets, since, limits)
                found += [of_new(one, buckets) for one in new]
            return Examined(found, buckets, last - since, judge.expectation.days, result.tests)

        return await to_thread.run_sync(work)

    async def check(self, selection: Selection) -> None:
        """See that the selection's name and service exist.

        Raises:
            NotFound: one does not; the hint has the nearest.
        """
        if not selection.conditions():
            return
        for wanted, column, what in (
            (selection.service, telemetry_series.c.service, "services"),
            (selection.name, telemetry_series.c.name, "names"),
        ):
            if wanted is None:
                continue

            existing = await self._database.read(partial(_others, column=column, wanted=wanted))
            if existing is not None:
                raise NotFound(
                    f"No telemetry has the {what[:-1]} {wanted!r}.",
                    names_hint(wanted, existing, what),
                )


def _others(connection: Connection, column: Column[str], wanted: str) -> list[str] | None:
    """What exists besides `wanted`, if it does not."""
    if connection.execute(select(column).where(column == wanted).limit(1)).first():
        return None
    return list(connection.execute(select(column).distinct().limit(_NAMES)).scalars())


def _width(minutes: int) -> int:
    if minutes <= 240:
        return 1
    return next((width for width in (5, 15) if minutes <= width * _MOST_BUCKETS), 60)


def _note(examined: Examined, more: int, limits: Limits) -> str:
    buckets = examined.buckets
    if buckets is None:
        return "No records in this window."
    against = f"{examined.days} earlier days" if examined.days else "the rest of the time read"
    parts = [
        f"Read {len(buckets.series)} series since {instant(buckets.first)} in buckets of "
        f"{buckets.width} min, compared with {against}; {examined.tests:,} windows scanned, "
        f"about {limits.alpha:g} false findings expected."
    ]
    if buckets.left_out:
        parts.append(f"{buckets.left_out} quieter series were left out: name a service.")
    if more > 0:
        parts.append(f"{more} less severe findings not shown: raise limit.")
    return " ".join(parts)

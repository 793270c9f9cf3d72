"""What else changed around an instant, and which of it the rest may come from."""

from collections.abc import Sequence

from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database
from mcp_hub.services.telemetry.anomalies.anomalies import LIMITS, AnomalyFinder, Examined
from mcp_hub.services.telemetry.anomalies.anomaly_views import Correlation, LikelyCause
from mcp_hub.services.telemetry.anomalies.causes import Cause, ranked
from mcp_hub.services.telemetry.anomalies.changes import (
    Calls,
    Change,
    calls_of,
    read_changes,
    read_spans,
)
from mcp_hub.services.telemetry.anomalies.findings import Finding, grouped, instant
from mcp_hub.services.telemetry.anomalies.minutes import Selection
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.windows import Window, parse_duration, parse_instant

_CALLS_SHOWN = 12


class Correlator:
    """Puts deviations, new texts, deployments and promotions around an instant in order."""

    def __init__(self, database: Database, anomalies: AnomalyFinder) -> None:
        self._database = database
        self._anomalies = anomalies

    async def correlate(
        self,
        at: str | float,
        *,
        within: str = "15m",
        service: str | None = None,
        limit: int = 8,
    ) -> Correlation:
        """The likely causes of what was noticed at `at`, in `service` if that is known.

        Raises:
            InvalidArgument: `at` is no time, or `within` is no duration.
            NotFound: no telemetry is of this service.
        """
        reach = parse_duration(within, "within")
        instant_ns = parse_instant("at", at)
        if service is not None:
            await self._anomalies.check(Selection(service=service))
        window = Window(instant_ns - 2 * reach, instant_ns + reach)
        examined = await self._anomalies.examine(Selection(), window, LIMITS["high"])

        def read(connection: Connection) -> tuple[list[Change], list[object]]:
            changes = read_changes(connection, window.since, window.until)
            since = instant_ns - reach
            return changes, read_spans(connection, since, instant_ns, window.until)

        changes, spans = await self._database.read(read)

        def work() -> Correlation:
            calls = calls_of(spans)
            findings = grouped(examined.findings)
            minutes = (instant_ns / MINUTE_NS, reach / MINUTE_NS)
            causes = ranked(findings, changes, calls, *minutes, service)
            return _view(causes, calls, examined, window, limit)

        return await to_thread.run_sync(work)


def _view(
    causes: Sequence[Cause], calls: Calls, examined: Examined, window: Window, limit: int
) -> Correlation:
    edges = sorted(
        (-count, f"{caller} → {callee}")
        for caller, callees in calls.callees.items()
        for callee, count in callees.items()
    )
    series = len(examined.buckets.series) if examined.buckets else 0
    note = (
        f"Examined {series} series, new texts, events and promotions from "
        f"{instant(window.since / MINUTE_NS)} to {instant(window.until / MINUTE_NS)}."
    )
    if examined.buckets and examined.buckets.left_out:
        note += f" {examined.buckets.left_out} quieter series were left out."
    if not edges:
        note += " No spans of two services were seen: causes are not told from effects by calls."
    if len(causes) > limit:
        note += f" {len(causes) - limit} less likely causes not shown: raise limit."
    if len(edges) > _CALLS_SHOWN:
        note += f" {len(edges) - _CALLS_SHOWN} calls not shown."
    return Correlation(
        causes=[_cause(one) for one in causes[:limit]],
        calls=[edge for _, edge in edges[:_CALLS_SHOWN]],
        note=note,
    )


def _cause(one: Cause) -> LikelyCause:
    of = one.of
    begin = of.start if isinstance(of, Finding) else of.minute
    return LikelyCause(
        score=round(one.score, 2),
        effect=round(one.effect, 2),
        proximity=round(one.proximity, 2),
        place=round(one.place, 2),
        service=of.service,
        what=of.signal if isinstance(of, Finding) else of.name,
        at=instant(begin),
        says=of.says,
        because=one.because or None,
        also=[other.says for other in of.also[:3]] if isinstance(of, Finding) else [],
        next=_next(of),
    )


def _next(of: Finding | Change) -> str:
    """The call that shows the records behind a cause."""
    begin = of.start if isinstance(of, Finding) else of.minute
    end = of.stop if isinstance(of, Finding) else of.minute + 15
    when = f"since={instant(begin - 1)!r}, until={instant(end + 1)!r}"
    name = of.series.name if isinstance(of, Finding) and of.series else None
    kind = of.series.kind if isinstance(of, Finding) and of.series else None
    if isinstance(of, Change):
        return f"telemetry_anomalies(service={of.service!r}, {when})"
    if of.signal in ("p50", "p95", "mean", "leak") and name:
        measure = of.signal if of.signal in ("p50", "p95") else "avg"
        return (
            f"telemetry_aggregate(name={name!r}, service={of.service!r}, measure={measure!r}, "
            f"bucket='5m', {when})"
        )
    if of.signal in ("silence", "rate"):
        named = f"name={name!r}, " if name else ""
        where = "" if of.service == "*" else f"service={of.service!r}, "
        return f"telemetry_aggregate({named}{where}measure='count', bucket='1m', {when})"
    kinds = f"kind={kind!r}, " if kind else ""
    return f"telemetry_search({kinds}service={of.service!r}, {when})"

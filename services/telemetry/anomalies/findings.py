"""From deviations and news to findings: in words, by severity, and with what belongs together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.anomalies.anomaly_views import Anomaly
from mcp_hub.services.telemetry.anomalies.choices import Signal
from mcp_hub.services.telemetry.anomalies.deviations import Deviation
from mcp_hub.services.telemetry.anomalies.minutes import Buckets, Series
from mcp_hub.services.telemetry.anomalies.novelty import New

MEDIUM, HIGH = 0.45, 0.75
_SHOWN = 160
_TOGETHER = 0.4
_PERCENT = 100


@dataclass(slots=True)
class Finding:
    """One window, minutes of the epoch from `start` to `stop` (not included)."""

    service: str
    series: Series | None
    signal: Signal
    start: int
    stop: int
    expected: float | None
    seen: float | None
    effect: float
    says: str
    also: list["Finding"] = field(default_factory=list)
    incident: int = 0

    @property
    def severity(self) -> float:
        return 1 - math.exp(-self.effect / 3)

    @property
    def level(self) -> str:
        severity = self.severity
        return "low" if severity < MEDIUM else "medium" if severity < HIGH else "high"


def of_deviation(one: Deviation, buckets: Buckets) -> Finding:
    """The finding that a deviation is; faster and fewer weigh half."""
    series = buckets.series[one.series] if one.series is not None else None
    start = buckets.first + one.start * buckets.width
    stop = buckets.first + one.stop * buckets.width
    halved = one.score < 0 and one.signal in ("p50", "p95", "rate")
    effect = one.effect / 2 if halved else one.effect
    if one.signal == "silence" and one.series is None:
        effect *= 1.5
    return Finding(
        one.service, series, one.signal, start, stop, one.expected, one.seen, effect,
        _says(one, series, stop - start),
    )  # fmt: skip


def of_new(one: New, buckets: Buckets) -> Finding:
    """The finding that a new pattern or series is: errors weigh most."""
    series = next(series for series in buckets.series if series.number == one.series)
    severity = one.severity or 0
    weight = 3.5 if severity >= envelope.ERROR else 2.2 if severity >= 13 else 1.2
    what = (
        f"a {series.kind} named {series.name!r}"
        if one.mask is None
        else f"a text not seen before: {shown(one.example)!r}"
    )
    more = f" ({one.others} other new texts with it)" if one.others else ""
    return Finding(
        one.service, series, "new", one.first, one.last + 1, 0.0, float(one.count),
        weight + math.log10(max(one.count, 1)) / 2,
        f"{one.service} began to send {what}, {one.count:,} times{more}",
    )  # fmt: skip


def shown(text: str, most: int = _SHOWN) -> str:
    """A text of the systems observed, on one line and not for ever."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def grouped(findings: Sequence[Finding]) -> list[Finding]:
    """The findings by severity, those of one service and time as one, and incidents numbered.

    Together are windows of which the part that both cover is 0.4 of what either covers. Of what
    belongs to one service the most severe stands for the others. A signal that is off in most
    services at once is told of once, for all.
    """
    kept: list[Finding] = []
    for one in sorted(_shared_once(findings), key=lambda one: (-one.effect, one.start)):
        top = next(
            (
                other
                for other in kept
                if other.service == one.service and _overlap(one, other) >= _TOGETHER
            ),
            None,
        )
        if top is None:
            kept.append(one)
        else:
            top.also.append(one)
    incidents: list[Finding] = []
    for one in kept:
        first = next((other for other in incidents if _overlap(one, other) >= _TOGETHER), None)
        if first is None:
            incidents.append(one)
            one.incident = len(incidents)
        else:
            one.incident = first.incident
    return kept


def view(one: Finding) -> Anomaly:
    factor, unit = _unit(one.signal, one.series)
    return Anomaly.model_validate(
        {
            "service": one.service,
            "kind": one.series.kind if one.series else None,
            "name": one.series.name if one.series else None,
            "signal": one.signal,
            "since": instant(one.start),
            "until": instant(one.stop),
            "expected": _rounded(one.expected, factor),
            "seen": _rounded(one.seen, factor),
            "unit": unit,
            "severity": round(one.severity, 2),
            "level": one.level,
            "says": one.says,
            "also": [other.says for other in one.also[:4]],
            "incident": one.incident,
        }
    )


def instant(minute: float) -> str:
    """A minute of the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _overlap(one: Finding, other: Finding) -> float:
    both = min(one.stop, other.stop) - max(one.start, other.start)
    return both / max(1, max(one.stop, other.stop) - min(one.start, other.start))


def _shared_once(findings: Sequence[Finding]) -> list[Finding]:
    """Rates and gauges that are off in most of at least three services at once, as one."""
    services = {one.service for one in findings}
    kept = list(findings)
    for one in findings:
        if one.signal not in ("rate", "mean") or one not in kept:
            continue
        same = [
            other
            for other in kept
            if other.signal == one.signal
            and _overlap(one, other) >= _TOGETHER
            and _is_more(other) == _is_more(one)
        ]
        where = {other.service for other in same}
        if len(where) >= 3 and len(where) >= 0.6 * len(services):
            top = max(same, key=lambda other: other.effect)
            kept = [other for other in kept if other not in same]
            kept.append(
                Finding(
                    "*",
                    top.series,
                    top.signal,
                    top.start,
                    top.stop,
                    top.expected,
                    top.seen,
                    top.effect / 2,
                    f"{len(where)} services at once, most of all: {top.says}",
                )
            )
    return kept


def _is_more(one: Finding) -> bool:
    return (one.seen or 0) > (one.expected or 0)


def _says(one: Deviation, series: Series | None, minutes: int) -> str:
    what = f"{series.kind} {series.name!r} of {one.service}" if series else one.service
    if one.service == "*":
        what = "nearly every service"
    lasting = f"for {minutes} min"
    if one.signal == "silence":
        return f"Nothing came of {what} {lasting}; {number(one.expected)} a minute are usual"
    if one.signal == "joint":
        return f"The series of {what} were off together {lasting}"
    if one.signal == "rate":
        return (
            f"{number(one.seen)} records a minute instead of {number(one.expected)}: "
            f"{what}, {lasting}"
        )
    if one.signal == "errors":
        return (
            f"{number(_PERCENT * one.seen)} % errors instead of "
            f"{number(_PERCENT * one.expected)} %: {what}, {lasting}"
        )
    expected, seen = (_measure(value, one.signal, series) for value in (one.expected, one.seen))
    if one.signal == "leak":
        way = "rose" if one.seen > one.expected else "fell"
        return f"{what} slowly {way} from {expected} to {seen} in {minutes} min"
    return f"{one.signal} {seen} instead of {expected}: {what}, {lasting}"


def _unit(signal: Signal, series: Series | None) -> tuple[float, str | None]:
    """What a signal's numbers are shown in, and what they are multiplied with for that."""
    if signal in _UNITS:
        return 1, _UNITS[signal]
    if series is not None and series.kind == "span":
        return 1e-6, "ms"
    return 1, series.unit if series is not None else None


_UNITS: dict[Signal, str] = {
    "rate": "1/min", "silence": "1/min", "errors": "share", "new": "records", "joint": "deviations",
}  # fmt: skip


def _measure(value: float, signal: Signal, series: Series | None) -> str:
    factor, unit = _unit(signal, series)
    return f"{number(value * factor)} {unit or ''}".strip()


def number(value: float) -> str:
    """Three digits, in words that a person would use."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _rounded(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.4g}")

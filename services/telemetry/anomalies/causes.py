"""Which of many changes around an instant is likely what the others come from: a score.

score = effect × proximity × place. All are stated with each cause, so that a reader can judge.

- *effect*, 0 to 1: how severe a deviation is, as `telemetry_anomalies` says it. For a deployment or
  the like, 0.3 if nothing followed it; else up to 1 with the severity of what began in its
  service, from a little before to a quarter of an hour after; half of that for its callers.
- *proximity*, 0 to 1: e^(-minutes / τ) between the begin and the instant, τ being `within` before
  the instant and a third of it after; a slow leak that is still going on counts as 0.7.
- *place*: what errors and latencies of a callee explain in its callers, and silences of a caller
  in its callees, weighs 0.4; what explains so many others weighs 1 + 0.15 for each, up to 1.45.
  Asked about one service, what that does not depend on weighs 0.6, as long as any calls are seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_hub.services.telemetry.anomalies.changes import Calls, Change
from mcp_hub.services.telemetry.anomalies.findings import Finding

_SLACK = 6.0
"""Minutes by which two begins may be told in the wrong order."""
_FOLLOWS = 15.0
_DECOY = 0.3
_EXPLAINED = 0.4
_EXPLAINS = 0.15
_MOST_EXPLAINED = 3
_ELSEWHERE = 0.6
_LASTING = 0.7
_UPWARDS = frozenset({"errors", "p50", "p95", "mean", "silence", "leak", "new"})
_FELT = frozenset({"errors", "p50", "p95", "rate", "mean"})


@dataclass(frozen=True, slots=True)
class Cause:
    """A finding or a change, with the factors of its score and why its place is what it is."""

    of: Finding | Change
    effect: float
    proximity: float
    place: float
    because: str

    @property
    def score(self) -> float:
        return self.effect * self.proximity * self.place


def ranked(
    findings: Sequence[Finding],
    changes: Sequence[Change],
    calls: Calls,
    at: float,
    within: float,
    service: str | None = None,
) -> list[Cause]:
    """The likely causes of what happened at minute `at`, by score."""
    depends = {caller: calls.reach(caller) for caller in calls.callees}
    causes = []
    for one in findings:
        place, because = _place(one, findings, depends, service, bool(calls.callees))
        near = _proximity(one.start, at, within)
        if one.signal == "leak" and one.start <= at <= one.stop + within:
            near = max(near, _LASTING)
        causes.append(Cause(one, one.severity, near, place, because))
    by_finding = {id(cause.of): cause for cause in causes}
    for change in changes:
        causes.append(_of_change(change, findings, by_finding, depends, at, within, service))
    return sorted(causes, key=lambda cause: -cause.score)


def _proximity(begin: float, at: float, within: float) -> float:
    off = begin - at
    if off <= 0:
        return math.exp(off / within)
    return math.exp(-max(0.0, off - _SLACK) / (within / 3))


def _signals(one: Finding) -> set[str]:
    return {one.signal, *(other.signal for other in one.also)}


def _explains(cause: Finding, other: Finding, depends: dict[str, dict[str, int]]) -> bool:
    """Whether what `cause` is can have brought `other` about, by the calls between them."""
    if cause is other or cause.service == other.service:
        return False
    if cause.start > other.start + _SLACK or cause.stop < other.start:
        return False
    felt = bool(_signals(other) & _FELT)
    if cause.service in depends.get(other.service, {}):
        return felt and bool(_signals(cause) & _UPWARDS)
    if other.service in depends.get(cause.service, {}):
        fewer = cause.signal == "silence" or (cause.signal == "rate" and _is_less(cause))
        return fewer and other.signal in ("rate", "silence")
    return False


def _is_less(one: Finding) -> bool:
    return (one.seen or 0) < (one.expected or 0)


def _place(
    one: Finding,
    findings: Sequence[Finding],
    depends: dict[str, dict[str, int]],
    service: str | None,
    calls_known: bool,
) -> tuple[float, str]:
    by = [other for other in findings if _explains(other, one, depends)]
    effects = sorted({other.service for other in findings if _explains(one, other, depends)})
    place, because = 1.0, ""
    if by and not (effects and all(_explains(one, other, depends) for other in by)):
        place = _EXPLAINED
        because = "may come from " + ", ".join(sorted({other.service for other in by})[:3])
    elif effects:
        place += _EXPLAINS * min(_MOST_EXPLAINED, len(effects))
        because = "explains what " + ", ".join(effects[:3]) + " shows"
    return _asked(place, because, one.service, depends, service, calls_known)


def _asked(
    place: float,
    because: str,
    where: str,
    depends: dict[str, dict[str, int]],
    service: str | None,
    calls_known: bool,
) -> tuple[float, str]:
    if service is None or not calls_known or where in (service, "*"):
        return place, because
    distance = depends.get(service, {}).get(where)
    if distance is None:
        return place * _ELSEWHERE, "; ".join(filter(None, [because, f"{service} does not call it"]))
    return place, "; ".join(filter(None, [because, f"{distance} calls away from {service}"]))


def _of_change(
    change: Change,
    findings: Sequence[Finding],
    by_finding: dict[int, Cause],
    depends: dict[str, dict[str, int]],
    at: float,
    within: float,
    service: str | None,
) -> Cause:
    effect, near = _DECOY, _proximity(change.minute, at, within)
    place, because = _asked(
        1.0, "nothing followed it", change.service, depends, service, bool(depends)
    )
    for one in findings:
        begins = one.start - change.minute
        if not -_SLACK <= begins <= _FOLLOWS:
            continue
        own = one.service == change.service
        if not own and change.service not in depends.get(one.service, {}):
            continue
        cause = by_finding[id(one)]
        follows = max(_DECOY, 1 - (1 - one.severity) * 0.8) if own else 0.5 * one.severity
        if own and effect * place < follows * cause.place:
            effect, place = follows, cause.place
            near = max(near, cause.proximity)
            because = f"{one.signal} of {one.service} began {_after(begins)}"
        elif not own and effect * place < follows:
            effect, because = follows, f"{one.signal} of its caller {one.service} began then"
    return Cause(change, effect, near, place, because)


def _after(minutes: float) -> str:
    return f"{max(0, round(minutes))} min after it"

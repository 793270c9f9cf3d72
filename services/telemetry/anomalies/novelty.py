"""What was not there before: patterns of bodies, and series of a service that is known."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_pattern_counts,
    telemetry_patterns,
    telemetry_series,
)
from mcp_hub.services.telemetry import envelope
from mcp_hub.services.telemetry.anomalies.deviations import Limits
from mcp_hub.services.telemetry.anomalies.minutes import Buckets, Float, Selection
from mcp_hub.services.telemetry.intake.masking import MASK
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS

MAX_NEW = 1_000
"""New patterns of one window that are looked at, the first ones."""
_MAX_OLD = 5_000
_AT_ONCE = 500
_WARM_UP = 60
_TOGETHER = 10
_HABIT = 3
_VARIANTS = 3


@dataclass(frozen=True, slots=True)
class New:
    """A pattern, or a whole series where `mask` is None; minutes of the epoch, the last included.

    `others` are new with it, in the same ten minutes, and seen less often.
    """

    series: int
    service: str
    mask: str | None
    example: str
    severity: int | None
    first: int
    last: int
    count: int
    others: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What the database says of patterns that are new in a window, and of the others' masks."""

    new: list[New]
    masks: dict[int, list[str]]


def read_patterns(connection: Connection, selection: Selection, first: int, last: int) -> Known:
    """The patterns first seen from minute `first` to `last` (not included), with their counts."""
    table, series = telemetry_patterns.c, telemetry_series.c
    statement = (
        select(
            table.pattern, table.series, series.service, table.mask, table.example, table.severity
        )
        .join(telemetry_series, series.series == table.series)
        .where(
            table.first_time >= first * MINUTE_NS,
            table.first_time < last * MINUTE_NS,
            *selection.conditions(),
        )
        .order_by(table.first_time)
        .limit(MAX_NEW)
    )  # fmt: skip
    rows = {row.pattern: row for row in connection.execute(statement)}
    counts = telemetry_pattern_counts.c
    new = []
    for chunk in _chunks(list(rows)):
        totals = connection.execute(
            select(
                counts.pattern, func.min(counts.minute), func.max(counts.minute),
                func.sum(counts.count),
            )
            .where(counts.minute >= first, counts.minute < last, counts.pattern.in_(chunk))
            .group_by(counts.pattern)
        )  # fmt: skip
        for pattern, begin, end, count in totals:
            row = rows[pattern]
            new.append(
                New(
                    row.series, row.service, row.mask, row.example, row.severity, begin, end,
                    int(count),
                )
            )  # fmt: skip
    masks: dict[int, list[str]] = {}
    for chunk in _chunks(sorted({one.series for one in new})):
        old = select(table.series, table.mask).where(
            table.series.in_(chunk), table.first_time < last * MINUTE_NS
        )
        for number, mask in connection.execute(old.limit(_MAX_OLD)):
            masks.setdefault(number, []).append(mask)
    return Known(new, masks)


def news(known: Known, buckets: Buckets, judged_first: int, limits: Limits) -> list[New]:
    """What is worth telling: often enough, and neither by chance, nor by habit, nor by a variable.

    What is rare is first seen at some time without being new. Of n records in time that is counted
    in the series' own records, the chance that the first comes after a share u of it is (1 - u)^n,
    and that all lie within a share w is n w^(n - 1): one of them must be small for all that was
    looked at (Bonferroni). Bodies in which only one word differs from three others or more have a
    variable there; a series in which something new appears again and again says nothing by it.
    """
    clocks = _Clocks(buckets)
    tests = len(known.new) + len(buckets.series)
    found = [
        one
        for one in known.new
        if clocks.is_surprise(one, limits.alpha / tests)
        and _often(one, limits.floor)
        and not _is_variant(one, known.masks.get(one.series, []))
    ]
    found += [
        one
        for one in _new_series(buckets)
        if one.first >= judged_first
        and clocks.is_surprise(one, limits.alpha / tests)
        and _often(one, 2 * limits.floor)
    ]
    return _without_habits(found)


class _Clocks:
    """Time as counted in the records of a series, or of a service."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._warm = min(_WARM_UP, buckets.size * buckets.width // 5)
        self._series = {one.number: buckets.count[at] for at, one in enumerate(buckets.series)}
        self._services: dict[str, Float] = {}
        for one in buckets.series:
            total = self._services.get(one.service, np.zeros(buckets.size))
            self._services[one.service] = total + self._series[one.number]

    def is_surprise(self, one: New, chance: float) -> bool:
        counts = self._services[one.service]
        if one.mask is not None and one.series in self._series:
            counts = self._series[one.series]
        buckets = self._buckets
        seen = counts.nonzero()[0]
        if not len(seen) or one.first < buckets.first + seen[0] * buckets.width + self._warm:
            return False
        # In buckets, and those of the first and the last as a whole.
        begin = max(0, (one.first - buckets.first) // buckets.width)
        end = (one.last - buckets.first) // buckets.width + 1
        total = max(1.0, float(counts.sum()))
        before = float(counts[:begin].sum()) / total
        within = max(1e-9, float(counts[begin:end].sum()) / total)
        late = one.count * math.log(max(1 - before, 1e-9))
        close = math.log(one.count) + (one.count - 1) * math.log(within)
        return min(late, close) < math.log(chance / 2)


def _often(one: New, floor: float) -> bool:
    is_error = one.severity is not None and one.severity >= envelope.ERROR
    return one.count >= (3 if is_error else 5) * floor


def _is_variant(one: New, masks: list[str]) -> bool:
    """Whether three others differ from it in the same one word, which then is no word of it."""
    words = (one.mask or "").split()
    differ: dict[int, int] = {}
    for mask in masks:
        other = mask.split()
        if len(other) == len(words):
            places = [at for at, word in enumerate(words) if word != other[at]]
            if len(places) == 1 and words[places[0]] != MASK:
                differ[places[0]] = differ.get(places[0], 0) + 1
    return max(differ.values(), default=0) >= _VARIANTS


def _new_series(buckets: Buckets) -> list[New]:
    found = []
    for place, series in enumerate(buckets.series):
        seen = buckets.count[place].nonzero()[0]
        if not len(seen) or not seen[0]:
            continue
        count = int(buckets.count[place].sum())
        severity = envelope.ERROR if 2 * buckets.errors[place].sum() > count else None
        first = buckets.first + int(seen[0]) * buckets.width
        last = buckets.first + (int(seen[-1]) + 1) * buckets.width - 1
        found.append(New(series.number, series.service, None, "", severity, first, last, count))
    return found


def _without_habits(found: list[New]) -> list[New]:
    """For each series what appeared together as one, unless that happens again and again."""
    groups: dict[tuple[int, bool], list[list[New]]] = {}
    for one in sorted(found, key=lambda one: one.first):
        clusters = groups.setdefault((one.series, one.mask is None), [])
        if clusters and one.first - clusters[-1][-1].first <= _TOGETHER:
            clusters[-1].append(one)
        else:
            clusters.append([one])
    kept = []
    for clusters in groups.values():
        if len(clusters) > _HABIT:
            continue
        for cluster in clusters:
            top = max(cluster, key=lambda one: (one.severity or 0, one.count))
            kept.append(
                New(
                    top.series, top.service, top.mask, top.example, top.severity, top.first,
                    top.last, top.count, len(cluster) - 1,
                )
            )  # fmt: skip
    return kept


def _chunks(numbers: list[int]) -> Iterable[list[int]]:
    for start in range(0, len(numbers), _AT_ONCE):
        yield numbers[start : start + _AT_ONCE]

"""Minute rollups as one process keeps them: count, errors, sum, min, max and a sketch.

A row of `telemetry_rollups` belongs to the process that writes it, which knows what is in it and
writes it anew with each transaction; no two processes wait for each other. Readers add the rows of
all writers up.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import Connection, Table, select, tuple_

from mcp_hub.adapters.database.telemetry_schema import telemetry_pattern_counts, telemetry_rollups
from mcp_hub.adapters.database.upsert import replace_rows
from mcp_hub.adapters.records.port import Row
from mcp_hub.services.telemetry import envelope, sketch
from mcp_hub.services.telemetry.sketch import Sketch

MINUTE_NS = 60 * 10**9
_KEPT = 5_000
_AT_ONCE = 500

Key = tuple[int, int]
"""A minute since the epoch, and a series or a pattern."""


class Rollup(msgspec.Struct, frozen=True):
    """What is known of the records of one series in one minute."""

    count: int = 0
    errors: int = 0
    measured: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    sketch: Sketch = msgspec.field(default_factory=Sketch)

    def plus(
        self, count: int, errors: int, measures: Sequence[float], keys: Iterable[int]
    ) -> "Rollup":
        """This and `count` further records, with their measures and the keys of those."""
        if not measures:
            return msgspec.structs.replace(
                self, count=self.count + count, errors=self.errors + errors
            )
        least, most = min(measures), max(measures)
        return Rollup(
            self.count + count,
            self.errors + errors,
            self.measured + len(measures),
            self.sum + sum(measures),
            least if self.min is None else min(least, self.min),
            most if self.max is None else max(most, self.max),
            self.sketch.plus(keys),
        )


class Totals(NamedTuple):
    """What some records add to the rollups: numbers of records, and their measures."""

    counts: Counter[Key]
    errors: Counter[Key]
    measures: Mapping[Key, Sequence[float]]
    keys: Mapping[Key, Sequence[int]]
    """The sketches' keys of the measures."""
    patterns: Counter[Key]


def totals_of(rows: Sequence[Row], spans: Sequence[bool]) -> Totals:
    """What `rows` add, of which `spans` says whether each is a span, whose measure is its duration.

    To be called where the rows were made: another thread would have to fetch them.
    """
    columns: Any = (
        Row._make(zip(*rows, strict=True)) if rows else Row._make([()] * len(Row._fields))
    )
    minutes = [time // MINUTE_NS for time in columns.time]
    at = list(zip(minutes, columns.series, strict=True))
    measures = _measures(at, spans, columns)
    return Totals(
        Counter(at),
        Counter(
            one
            for one, severity in zip(at, columns.severity, strict=True)
            if severity is not None and severity >= envelope.ERROR
        ),
        measures,
        _keys(measures),
        Counter(
            (minute, pattern)
            for minute, pattern in zip(minutes, columns.pattern, strict=True)
            if pattern is not None
        ),
    )


def _measures(at: Sequence[Key], spans: Sequence[bool], columns: Any) -> dict[Key, list[float]]:
    """The measures of the records that have one, by their rollup."""
    measures: defaultdict[Key, list[float]] = defaultdict(list)
    for one, span, duration, value in zip(
        at, spans, columns.duration_ns, columns.value, strict=True
    ):
        measure = duration if span else value
        if measure is not None:
            measures[one].append(measure)
    return measures


def _keys(measures: Mapping[Key, Sequence[float]]) -> dict[Key, list[int]]:
    """The sketches' keys of all measures, at once."""
    numbers = np.fromiter(chain.from_iterable(measures.values()), np.float64)
    keys = sketch.keys_of(numbers).tolist()
    ends = accumulate(map(len, measures.values()))
    return {
        at: keys[end - len(values) : end]
        for (at, values), end in zip(measures.items(), ends, strict=True)
    }


class RollupWriter:
    """The rollups of this process's records. What it remembers is what it last committed."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin rows of its own, as where it is not known whether the last ones were committed."""
        self._rollups: dict[Key, Rollup] = {}
        self._counts: dict[Key, int] = {}
        self._forgot = False
        self._writer = random.getrandbits(31)

    def write(self, connection: Connection, totals: Iterable[Totals]) -> "Update":
        """Add `totals` to the rollups in the caller's transaction, whose commit `kept` follows."""
        update = self._added(connection, totals)
        replace_rows(
            connection,
            telemetry_rollups,
            [
                (
                    minute, series, self._writer, one.count, one.errors, one.measured, one.sum,
                    one.min, one.max, one.sketch.encode(),
                )
                for (minute, series), one in update.rollups.items()
            ],
        )  # fmt: skip
        replace_rows(
            connection,
            telemetry_pattern_counts,
            [
                (minute, pattern, self._writer, count)
                for (minute, pattern), count in update.counts.items()
            ],
        )
        return update

    def kept(self, update: "Update") -> None:
        """The transaction of `write` was committed."""
        for known, changed in ((self._rollups, update.rollups), (self._counts, update.counts)):
            for key in changed:
                known.pop(key, None)
            known.update(changed)  # type: ignore[arg-type]
            while len(known) > _KEPT:
                del known[next(iter(known))]
                self._forgot = True

    def _added(self, connection: Connection, totals: Iterable[Totals]) -> "Update":
        update = Update({}, {})
        for more in totals:
            if self._forgot:
                self._recall(connection, {*more.counts}, {*more.patterns})
            for at, count in more.patterns.items():
                known = update.counts.get(at) or self._counts.get(at, 0)
                update.counts[at] = known + count
            for at, count in more.counts.items():
                before = update.rollups.get(at) or self._rollups.get(at) or Rollup()
                update.rollups[at] = before.plus(
                    count, more.errors[at], more.measures.get(at, ()), more.keys.get(at, ())
                )
        return update

    def _recall(self, connection: Connection, keys: set[Key], patterns: set[Key]) -> None:
        """Read what this process wrote once and has forgotten since."""
        table = telemetry_rollups
        wanted = keys - {*self._rollups}
        for found in _own(connection, table, table.c.series, self._writer, wanted):
            self._rollups[found.minute, found.series] = Rollup(
                found.count, found.errors, found.measured, found.sum, found.min, found.max,
                Sketch(bytes(found.sketch)),
            )  # fmt: skip
        table = telemetry_pattern_counts
        wanted = patterns - {*self._counts}
        for found in _own(connection, table, table.c.pattern, self._writer, wanted):
            self._counts[found.minute, found.pattern] = found.count


@dataclass(frozen=True, slots=True)
class Update:
    """The rows that a transaction wrote."""

    rollups: dict[Key, Rollup]
    counts: dict[Key, int]


def _own(
    connection: Connection, table: Table, column: Any, writer: int, keys: Iterable[Key]
) -> Iterable[Any]:
    wanted = list(keys)
    for start in range(0, len(wanted), _AT_ONCE):
        yield from connection.execute(
            select(table).where(
                tuple_(table.c.minute, column).in_(wanted[start : start + _AT_ONCE]),
                table.c.writer == writer,
            )
        )

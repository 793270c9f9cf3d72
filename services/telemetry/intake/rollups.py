"""Minute rollups as one process keeps them: count, errors, sum, min, max and a sketch.

A row of `telemetry_rollups` belongs to the process that writes it, which knows what is in it and
writes it anew with each transaction; no two processes wait for each other. Readers add the rows of
all writers up.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, select, tuple_

from mcp_hub.adapters.database.telemetry_schema import telemetry_pattern_counts, telemetry_rollups
from mcp_hub.adapters.database.upsert import replace_rows
from mcp_hub.adapters.records.port import Row
from mcp_hub.services.telemetry import envelope, sketch

MINUTE_NS = 60 * 10**9
_KEPT = 5_000
_AT_ONCE = 500

Key = tuple[int, int]
"""A minute since the epoch, and a series or a pattern."""


@dataclass(slots=True)
class Rollup:
    """What is known of the records of one series in one minute."""

    count: int = 0
    errors: int = 0
    measured: int = 0
    sum: float = 0.0
    min: float | None = None
    max: float | None = None
    bins: dict[int, int] = field(default_factory=dict)

    def copy(self) -> "Rollup":
        return Rollup(
            self.count, self.errors, self.measured, self.sum, self.min, self.max, dict(self.bins)
        )

    def add(self, value: float, key: int) -> None:
        self.measured += 1
        self.sum += value
        self.min = value if self.min is None or value < self.min else self.min
        self.max = value if self.max is None or value > self.max else self.max
        self.bins[key] = self.bins.get(key, 0) + 1


class RollupWriter:
    """The rollups of this process's records. What it remembers is what it last committed."""

    def __init__(self) -> None:
        self._rollups: dict[Key, Rollup] = {}
        self._counts: dict[Key, int] = {}
        self._forgot = False
        self._writer = random.getrandbits(31)

    def forget(self) -> None:
        """Begin rows of their own: whether the last ones were committed is not known."""
        self.__init__()  # type: ignore[misc]

    def write(self, connection: Connection, rows: Sequence[Row], spans: Sequence[bool]) -> "Update":
        """Add `rows` to the rollups in the caller's transaction; `kept` is to follow its commit.

        `spans` says of each row whether it is a span's, whose measure is its duration.
        """
        update = self._added(connection, rows, spans)
        sketches = sketch.encode([one.bins for one in update.rollups.values()])
        replace_rows(
            connection,
            telemetry_rollups,
            [
                (
                    minute, series, self._writer, one.count, one.errors, one.measured, one.sum,
                    one.min, one.max, text,
                )
                for ((minute, series), one), text in zip(
                    update.rollups.items(), sketches, strict=True
                )
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

    def _added(
        self, connection: Connection, rows: Sequence[Row], spans: Sequence[bool]
    ) -> "Update":
        update = Update({}, {})
        minutes = [row.time // MINUTE_NS for row in rows]
        self._recall(connection, rows, minutes)
        measures = [
            row.duration_ns if span else row.value for row, span in zip(rows, spans, strict=True)
        ]
        known = np.array([0.0 if value is None else value for value in measures], np.float64)
        keys = sketch.keys_of(known).tolist()
        for row, minute, measure, key in zip(rows, minutes, measures, keys, strict=True):
            at = (minute, row.series)
            rollup = update.rollups.get(at)
            if rollup is None:
                before = self._rollups.get(at)
                rollup = update.rollups[at] = before.copy() if before else Rollup()
            rollup.count += 1
            if row.severity is not None and row.severity >= envelope.ERROR:
                rollup.errors += 1
            if measure is not None:
                rollup.add(measure, key)
            if row.pattern is not None:
                where = (minute, row.pattern)
                update.counts[where] = (update.counts.get(where) or self._counts.get(where, 0)) + 1
        return update

    def _recall(self, connection: Connection, rows: Sequence[Row], minutes: list[int]) -> None:
        """Read what this process wrote once and has forgotten since."""
        if not self._forgot:
            return
        table = telemetry_rollups
        wanted = {(m, row.series) for m, row in zip(minutes, rows, strict=True)}
        for found in _own(
            connection, table, table.c.series, self._writer, wanted - {*self._rollups}
        ):
            bins, _ = sketch.decode([bytes(found.sketch)])
            self._rollups[found.minute, found.series] = Rollup(
                found.count, found.errors, found.measured, found.sum, found.min, found.max,
                dict(zip(bins["key"].tolist(), bins["count"].tolist(), strict=True)),
            )  # fmt: skip
        table = telemetry_pattern_counts
        wanted = {
            (m, r.pattern) for m, r in zip(minutes, rows, strict=True) if r.pattern is not None
        }
        for found in _own(
            connection, table, table.c.pattern, self._writer, wanted - {*self._counts}
        ):
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

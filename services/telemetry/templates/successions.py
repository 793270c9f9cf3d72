"""The records of a window as sequences, one for each value of a key: what follows what."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, or_, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.services.telemetry.filtering.filter_sql import (
    check_keys,
    conditions_on_records,
    text_at,
)
from mcp_hub.services.telemetry.filtering.filters import Condition, Filter, field_of
from mcp_hub.services.telemetry.templates.templates import Catalogue
from mcp_hub.services.telemetry.windows import Window

MAX_ROWS = 200_000
DEADLINE_S = 10.0
_PAGE = 5_000


@dataclass(slots=True)
class Rows:
    """Records in the order of their times: [n] each."""

    times: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    series: list[int] = field(default_factory=list)
    patterns: list[int | None] = field(default_factory=list)
    read_to: int | None = None
    """Up to which time they were read, if not to the window's end."""


async def read_rows(
    database: Database,
    catalogue: Catalogue,
    window: Window,
    by: str,
    filter: Filter,
    which: ColumnElement[bool] | None,
) -> Rows:
    """The records in `window` that fit `filter` and `which`, and have a value of `by`: `service`,
    `trace_id`, an attribute, or `resource.key`. Read are the first `MAX_ROWS`, or what can be in
    `DEADLINE_S`.

    Raises:
        InvalidArgument: no record has such an attribute.
    """
    of_key = Filter((Condition(field_of(by), "exists", True),))
    await database.read(lambda connection: check_keys(connection, filter & of_key))
    table = telemetry_records.c
    key = table.series if by == "service" else text_at(field_of(by), database.dialect)
    query = (
        select(table.time, table.id, table.series, table.pattern, key)
        .where(
            table.time < window.until,
            key.is_not(None),
            *([] if which is None else [which]),
            *conditions_on_records(filter, database.dialect),
        )
        .order_by(table.time, table.id)
        .limit(_PAGE)
    )
    rows = Rows()
    after: ColumnElement[bool] = table.time >= window.since
    deadline = time.monotonic() + DEADLINE_S
    while True:
        page = query.where(after)
        found = await database.read(
            lambda connection, page=page: connection.execute(page).all()  # type: ignore[misc]
        )
        for row in found:
            rows.times.append(row[0])
            rows.series.append(row[2])
            rows.patterns.append(row[3])
            value = catalogue.series[row[2]].service if by == "service" else row[4]
            rows.keys.append(value.hex() if isinstance(value, bytes) else str(value))
        if len(found) < _PAGE:
            return rows
        last = found[-1]
        if len(rows.times) >= MAX_ROWS or time.monotonic() > deadline:
            rows.read_to = last[0]
            return rows
        after = and_(table.time >= last[0], or_(table.time > last[0], table.id > last[1]))


@dataclass(frozen=True, slots=True)
class Succession:
    """How often `b` came next after `a` under the same key, in time."""

    a: int
    b: int
    count: int
    keys: int
    share: float
    """Of all that came next after `a`."""
    lift: float
    """How much more often than if what comes next did not depend on what came before."""
    median_ns: float


def successions(
    keys: NDArray[np.int64],
    kinds: NDArray[np.int64],
    times: NDArray[np.int64],
    within: int,
    most: int,
) -> list[Succession]:
    """The commonest pairs of records of different kinds that follow each other under one key.

    All arrays are [n]. Between the two may be nothing else of that key, and at most `within`.
    """
    order = np.lexsort((kinds, times, keys))
    keys, kinds, times = keys[order], kinds[order], times[order]
    gaps = np.diff(times)
    follows = (np.diff(keys) == 0) & (np.diff(kinds) != 0) & (gaps <= within)
    first, then, gaps, of = (
        kinds[:-1][follows],
        kinds[1:][follows],
        gaps[follows],
        keys[1:][follows],
    )
    if not len(first):
        return []
    width = int(kinds.max()) + 1
    pairs, which, counts = np.unique(first * width + then, return_inverse=True, return_counts=True)
    leaving = np.bincount(first, minlength=width)
    entering = np.bincount(then, minlength=width)
    found = []
    for place in np.lexsort((pairs, -counts))[:most]:
        a, b = divmod(int(pairs[place]), width)
        here = which == place
        count = int(counts[place])
        found.append(
            Succession(
                a,
                b,
                count,
                len(np.unique(of[here])),
                count / int(leaving[a]),
                count * len(first) / (int(leaving[a]) * int(entering[b])),
                float(np.median(gaps[here])),
            )
        )
    return found


@dataclass(slots=True)
class Step:
    """How many keys came to a step of a funnel, and what became of them."""

    keys: int = 0
    gaps: list[int] = field(default_factory=list)
    """The nanoseconds since the step before, of each key."""
    dropped: list[tuple[int, str]] = field(default_factory=list)
    """When they were here last and which, of the keys that came no further."""


def funnel(rows: Rows, steps_of: Sequence[Sequence[int]], count: int, within: int) -> list[Step]:
    """The `count` steps; `steps_of` says of each row which steps it is of, from 0.

    A key comes to a step by a record of it at most `within` after it came to the one before. It
    may try any number of times; what counts is how far it came.
    """
    steps = [Step() for _ in range(count)]
    latest: dict[str, list[int | None]] = {}
    # Of what happened at once, the earlier step came first.
    order = sorted(range(len(steps_of)), key=lambda n: (rows.times[n], min(steps_of[n], default=0)))
    for time_ns, key, of in ((rows.times[n], rows.keys[n], steps_of[n]) for n in order):
        # The last first, so that one record is not two steps of one attempt.
        for step in sorted(of, reverse=True):
            reached = latest.get(key)
            if reached is None:
                if step > 0:
                    continue
                reached = latest[key] = [None] * count
            before = reached[step - 1] if step > 0 else time_ns
            if before is None or time_ns - before > within:
                continue
            if reached[step] is None:
                steps[step].keys += 1
                if step > 0:
                    steps[step].gaps.append(time_ns - before)
            reached[step] = time_ns
    for key, reached in latest.items():
        last = max(step for step, at in enumerate(reached) if at is not None)
        if last < count - 1:
            steps[last].dropped.append((reached[last] or 0, key))
    return steps

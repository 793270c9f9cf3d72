"""Funnels: how many get from one step to the next; and which steps follow each other at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from anyio import to_thread
from sqlalchemy import ColumnElement, or_

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound, names_hint
from mcp_hub.services.pages import check_limit
from mcp_hub.services.telemetry.filtering.filters import Filter, parse_filter
from mcp_hub.services.telemetry.templates.patterns import MOST_FILTERED, shown_time
from mcp_hub.services.telemetry.templates.successions import (
    Rows,
    Step,
    funnel,
    read_rows,
    successions,
)
from mcp_hub.services.telemetry.templates.templates import Catalogue, Templates
from mcp_hub.services.telemetry.views import Findings
from mcp_hub.services.telemetry.windows import Window

STEP_COLUMNS = [
    "step", "keys", "of_previous", "of_first", "median_s", "p90_s", "dropped", "open", "examples",
]  # fmt: skip
PAIR_COLUMNS = ["from", "to", "count", "keys", "of_from", "lift", "median_s", "steps"]

MAX_STEPS = 10
_EXAMPLES = 3
_LABEL = 100
_KEY = 80


class Funnels:
    """Records under one key (a user, a trace, …) in the order of their times."""

    def __init__(self, database: Database, templates: Templates) -> None:
        self._database = database
        self._templates = templates

    async def funnel(
        self,
        steps: Sequence[str],
        window: Window,
        *,
        within: int,
        by: str,
        where: Mapping[str, Any] | None = None,
    ) -> Findings:
        """How many values of `by` come from each step to the next, at most `within` nanoseconds
        later. A step is a name or a template's id. `dropped` are those that came no further,
        `open` those of them that still have time to, before the window's end.

        Raises:
            InvalidArgument: there are too few or too many steps, or `by` or `where` is wrong.
            NotFound: a step is neither a name nor a template.
        """
        if not 2 <= len(steps) <= MAX_STEPS:
            raise InvalidArgument(
                f"A funnel has 2 to {MAX_STEPS} steps, not {len(steps)}.",
                "Leave steps out to see what follows what.",
            )
        catalogue = await self._templates.current()
        series, patterns = _steps(catalogue, steps)
        rows = await self._read(catalogue, window, by, where, _any_of(series, patterns))
        found = await to_thread.run_sync(_counted, rows, series, patterns, within)
        end = rows.read_to or window.until
        return Findings(
            columns=STEP_COLUMNS,
            rows=[
                _step_row(_label(catalogue, step), number, found, end - within)
                for number, step in enumerate(steps)
            ],
            note=_note(rows),
        )

    async def successions(
        self,
        window: Window,
        *,
        within: int,
        by: str,
        where: Mapping[str, Any] | None = None,
        limit: int = 20,
    ) -> Findings:
        """Which events, spans and templates of logs follow each other most often under one value
        of `by`; `lift` is how much more often than by chance, `steps` what to give as steps.

        Raises:
            InvalidArgument: `by`, `where` or `limit` is wrong.
        """
        check_limit(limit)
        catalogue = await self._templates.current()
        series = {number for number, one in catalogue.series.items() if one.kind != "metric"}
        metrics = catalogue.series.keys() - series
        which = telemetry_records.c.series.not_in(metrics) if len(metrics) < MOST_FILTERED else None
        rows = await self._read(catalogue, window, by, where, which)
        table = await to_thread.run_sync(_pairs, catalogue, rows, series, within, limit)
        return Findings(columns=PAIR_COLUMNS, rows=table, note=_note(rows))

    async def _read(
        self,
        catalogue: Catalogue,
        window: Window,
        by: str,
        where: Mapping[str, Any] | None,
        which: ColumnElement[bool] | None,
    ) -> Rows:
        filter: Filter = parse_filter(where)
        return await read_rows(self._database, catalogue, window, by, filter, which)


def _steps(catalogue: Catalogue, steps: Sequence[str]) -> tuple[list[set[int]], list[set[int]]]:
    """The series and the patterns of which each step's records are."""
    series: list[set[int]] = []
    patterns: list[set[int]] = []
    for step in steps:
        template = catalogue.templates.get(step)
        if template is not None and template.patterns:
            series.append(set())
            patterns.append(set(template.patterns))
            continue
        name = template.name if template is not None else step
        named = {number for number, one in catalogue.series.items() if one.name == name}
        if not named:
            known = {one.name for one in catalogue.series.values()}
            raise NotFound(
                f"{step!r} is neither a name nor the id of a template.",
                names_hint(step, known, "names"),
            )
        series.append(named)
        patterns.append(set())
    if sum(map(len, patterns)) > MOST_FILTERED:
        raise LimitExceeded(
            f"The templates stand for {sum(map(len, patterns)):,} variants; at most "
            f"{MOST_FILTERED:,} can be followed.",
            "Take other steps, or events by their names.",
        )
    return series, patterns


def _any_of(series: Sequence[set[int]], patterns: Sequence[set[int]]) -> ColumnElement[bool]:
    return or_(
        telemetry_records.c.series.in_({number for of in series for number in of}),
        telemetry_records.c.pattern.in_({number for of in patterns for number in of}),
    )


def _counted(
    rows: Rows, series: Sequence[set[int]], patterns: Sequence[set[int]], within: int
) -> list[Step]:
    known: dict[tuple[int, int | None], list[int]] = {}
    steps_of = []
    for at in zip(rows.series, rows.patterns, strict=True):
        of = known.get(at)
        if of is None:
            of = known[at] = [
                number
                for number in range(len(series))
                if at[0] in series[number] or at[1] in patterns[number]
            ]
        steps_of.append(of)
    return funnel(rows, steps_of, len(series), within)


def _step_row(label: str, number: int, steps: Sequence[Step], open_since: int) -> list[Any]:
    step = steps[number]
    before = steps[number - 1].keys if number else step.keys
    median, p90 = (
        (round(float(q) / 1e9, 3) for q in np.quantile(step.gaps, (0.5, 0.9)))
        if step.gaps
        else (None, None)
    )
    last = number == len(steps) - 1
    dropped = sorted(step.dropped, reverse=True)
    gone = [one for one in dropped if one[0] < open_since]
    return [
        label,
        step.keys,
        round(step.keys / before, 4) if before else None,
        round(step.keys / steps[0].keys, 4) if steps[0].keys else None,
        median,
        p90,
        None if last else len(dropped),
        None if last else len(dropped) - len(gone),
        [f"{key[:_KEY]} at {shown_time(at)}" for at, key in (gone or dropped)[:_EXAMPLES]],
    ]


def _pairs(
    catalogue: Catalogue, rows: Rows, series: set[int], within: int, limit: int
) -> list[list[Any]]:
    steps: dict[str, int] = {}
    keys: dict[str, int] = {}
    places, kinds, of = [], [], []
    for place, (number, pattern, key) in enumerate(
        zip(rows.series, rows.patterns, rows.keys, strict=True)
    ):
        if number not in series:
            continue
        step = catalogue.series[number].name
        if pattern is not None:
            step = catalogue.of_pattern.get(pattern, step)
        places.append(place)
        kinds.append(steps.setdefault(step, len(steps)))
        of.append(keys.setdefault(key, len(keys)))
    times = np.array(rows.times, np.int64)[places] if places else np.empty(0, np.int64)
    found = successions(np.array(of, np.int64), np.array(kinds, np.int64), times, within, limit)
    names = list(steps)
    return [
        [
            _label(catalogue, names[one.a]),
            _label(catalogue, names[one.b]),
            one.count,
            one.keys,
            round(one.share, 4),
            round(one.lift, 2),
            round(one.median_ns / 1e9, 3),
            [names[one.a], names[one.b]],
        ]
        for one in found
    ]


def _label(catalogue: Catalogue, step: str) -> str:
    template = catalogue.templates.get(step)
    text = template.text if template is not None else step
    return text if len(text) <= _LABEL else f"{text[:_LABEL]}…"


def _note(rows: Rows) -> str | None:
    if rows.read_to is not None:
        return (
            f"Read {len(rows.times):,} records, up to {shown_time(rows.read_to)}: these figures "
            "are of that part of the window. Narrow it by since, until or where."
        )
    return None if rows.times else "No record fits: see telemetry_fields for names and attributes."

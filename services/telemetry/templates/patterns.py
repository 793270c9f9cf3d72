"""Which templates the bodies of a window have, how often, and which of them are new."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_pattern_counts,
    telemetry_patterns,
    telemetry_rollups,
)
from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.telemetry.envelope import severity_name
from mcp_hub.services.telemetry.filtering.filters import Condition, Field, Filter
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.templates.templates import Catalogue, Template, Templates
from mcp_hub.services.telemetry.views import Table
from mcp_hub.services.telemetry.windows import Window

KINDS = ("event", "log")
"""What has bodies. Those without one are counted under their names."""

COLUMNS = [
    "template_id", "template", "count", "before", "share", "severity", "services", "first_seen",
    "last_seen", "new", "example",
]  # fmt: skip
MASK_COLUMNS = ["pattern", "mask", "count", "before", "first_seen", "last_seen", "example"]

MOST_FILTERED = 10_000
_EXAMPLE = 300
_SERVICES = 5


@dataclass(slots=True)
class Seen:
    """How often something was seen in a window and in the one before, and in which minute last."""

    count: int = 0
    before: int = 0
    last: int = 0

    def add(self, other: "Seen") -> None:
        self.count += other.count
        self.before += other.before
        self.last = max(self.last, other.last)


class Patterns:
    """Templates with counts. They are counted by whole minutes: a window's ends are moved out."""

    def __init__(self, database: Database, templates: Templates) -> None:
        self._database = database
        self._templates = templates

    async def find(
        self,
        window: Window,
        *,
        name: str | None = None,
        service: str | None = None,
        text: str | None = None,
        new_since: int | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Table:
        """The templates seen in `window`, those most often first; with `new_since`, those first
        that were never seen before that instant (else `new` is said of the window's beginning).

        `share` is of all that `name`, `service` and `text` let through; `before` the count in the
        window of the same length before. `text` are words that a template or its name contains.

        Raises:
            InvalidArgument: `limit` or `cursor` is wrong.
            NotFound: nothing has that name or service.
        """
        check_limit(limit)
        offset = 0
        if cursor is not None:
            since, until, offset = decode_cursor(cursor, int, int, int)
            window = Window(since, until)
        catalogue = await self._templates.current()
        series = catalogue.chosen(name, service)
        seen = await self.seen(window, catalogue, series)
        words = text.lower().split() if text else []
        rows, total = await to_thread.run_sync(
            _ranked, catalogue, seen, words, window.since, new_since, offset + limit + 1
        )
        shown = rows[offset : offset + limit]
        examples = await self.examples(
            [main_pattern(template, seen) for template, _ in shown if template.patterns]
        )
        new_after = window.since if new_since is None else new_since
        more = len(rows) > offset + limit
        return Table(
            columns=COLUMNS,
            rows=[
                _row(template, of, total, new_after, examples.get(main_pattern(template, seen)))
                for template, of in shown
            ],
            truncated=more,
            next_cursor=encode_cursor(window.since, window.until, offset + limit) if more else None,
        )

    async def masks(self, window: Window, template_id: str, limit: int = 20) -> Table:
        """The masks that a template stands for, those most often seen in `window` first. A
        record's `pattern` is the number of its mask.

        Raises:
            InvalidArgument: `limit` is wrong.
            NotFound: there is no such template.
        """
        check_limit(limit)
        catalogue = await self._templates.current()
        template = catalogue.template(template_id)
        seen = await self.seen(window, catalogue, set(catalogue.series))
        ranked = sorted(template.patterns, key=lambda n: (-seen.get(n, Seen()).count, n))
        examples = await self.examples(ranked[:limit])
        rows = []
        for number in ranked[:limit]:
            pattern, of = catalogue.patterns[number], seen.get(number, Seen())
            first, last = shown_time(pattern.first_time), shown_minute(of.last, pattern.first_time)
            rows.append(
                # As text: not every reader of JSON keeps all digits of such a number.
                [str(number), pattern.mask, of.count, of.before, first, last, examples.get(number)]
            )
        return Table(columns=MASK_COLUMNS, rows=rows, truncated=len(ranked) > limit)

    async def filter_of(self, template_id: str) -> Filter:
        """What fits a template's records and no others.

        Raises:
            NotFound: there is no such template.
            LimitExceeded: it stands for too many masks to be a filter.
        """
        template = (await self._templates.current()).template(template_id)
        if len(template.patterns) > MOST_FILTERED:
            raise LimitExceeded(
                f"The template stands for {len(template.patterns):,} variants; records are found "
                f"by at most {MOST_FILTERED:,}.",
                "Search by its name and its words as `text`.",
            )
        conditions = [
            Condition(Field("series", "kind"), "eq", template.kind),
            Condition(Field("series", "name"), "eq", template.name),
        ]
        if template.patterns:
            conditions.append(Condition(Field("record", "pattern"), "in", template.patterns))
        return Filter(tuple(conditions))

    async def seen(
        self,
        window: Window,
        catalogue: Catalogue,
        series: set[int],
        kinds: Sequence[str] = KINDS,
    ) -> dict[int | str, Seen]:
        """How often each pattern of `series` was seen, and, by the ids of names as templates, what
        of `kinds` has no pattern."""
        counts = await self._database.read(lambda connection: _pattern_counts(connection, window))
        totals = await self._database.read(lambda connection: _series_counts(connection, window))
        return await to_thread.run_sync(_seen, catalogue, series, kinds, counts, totals)

    async def examples(self, numbers: Sequence[int | str]) -> dict[int | str, str]:
        """A body, cut short, of each of these patterns."""
        table = telemetry_patterns
        query = select(table.c.pattern, table.c.example).where(table.c.pattern.in_(numbers))
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return {number: example[:_EXAMPLE] for number, example in found}


Counted = list[tuple[int, int, int, int]]
"""Of a pattern or series: its count in the window and before it, and the last minute."""


def _pattern_counts(connection: Connection, window: Window) -> Counted:
    return _counts(connection, window, telemetry_pattern_counts, "pattern")


def _series_counts(connection: Connection, window: Window) -> Counted:
    return _counts(connection, window, telemetry_rollups, "series")


def _counts(connection: Connection, window: Window, table: Any, key: str) -> Counted:
    first, end = minutes(window)
    minute, count = table.c.minute, table.c.count
    inside = minute >= first
    query = (
        select(
            table.c[key],
            func.coalesce(func.sum(count).filter(inside), 0),
            func.coalesce(func.sum(count).filter(~inside), 0),
            func.coalesce(func.max(minute).filter(inside), 0),
        )
        .where(minute >= first - (end - first), minute < end)
        .group_by(table.c[key])
    )
    return [(row[0], int(row[1]), int(row[2]), row[3]) for row in connection.execute(query)]


def minutes(window: Window) -> tuple[int, int]:
    """The first minute that has a part in `window`, and the one after the last."""
    return window.since // MINUTE_NS, -(-window.until // MINUTE_NS)


def _seen(
    catalogue: Catalogue,
    series: set[int],
    kinds: Sequence[str],
    counts: Counted,
    totals: Counted,
) -> dict[int | str, Seen]:
    seen: dict[int | str, Seen] = {}
    rest = {
        number: Seen(count, before, last)
        for number, count, before, last in totals
        if number in series and catalogue.series[number].kind in kinds
    }
    for number, count, before, last in counts:
        pattern = catalogue.patterns.get(number)
        if pattern is None or pattern.series not in series:
            continue
        seen[number] = Seen(count, before, last)
        if pattern.series in rest:
            rest[pattern.series].count -= count
            rest[pattern.series].before -= before
    for number, left in rest.items():
        if left.count > 0 or left.before > 0:
            seen.setdefault(catalogue.name_of(number), Seen()).add(left)
    return seen


def _ranked(
    catalogue: Catalogue,
    seen: Mapping[int | str, Seen],
    words: Sequence[str],
    since: int,
    new_since: int | None,
    most: int,
) -> tuple[list[tuple[Template, Seen]], int]:
    """The first `most` templates with what was seen of them, and the count of all."""
    found = [
        (template, of)
        for id, of in by_template(catalogue, seen).items()
        if of.count > 0 and _contains(template := catalogue.templates[id], words)
    ]

    def order(row: tuple[Template, Seen]) -> tuple[bool, int, str]:
        template, of = row
        is_new = new_since is not None and _is_new(template, new_since)
        return not is_new, -of.count, template.id

    return heapq.nsmallest(most, found, key=order), sum(of.count for _, of in found)


def by_template(catalogue: Catalogue, seen: Mapping[int | str, Seen]) -> dict[str, Seen]:
    """What was seen of each template, by its id."""
    found: dict[str, Seen] = {}
    for key, one in seen.items():
        id = catalogue.of_pattern[key] if isinstance(key, int) else key
        found.setdefault(id, Seen()).add(one)
    return found


def _contains(template: Template, words: Iterable[str]) -> bool:
    text = f"{template.name} {template.text}".lower()
    return all(word in text for word in words)


def _is_new(template: Template, since: int) -> bool:
    return template.first_time is not None and template.first_time >= since


def main_pattern(template: Template, seen: Mapping[int | str, Seen]) -> int | str:
    """The pattern of the template that was seen most often."""
    return max(template.patterns, key=lambda n: (seen.get(n, Seen()).count, -n), default="")


def _row(
    template: Template, of: Seen, total: int, new_after: int, example: str | None
) -> list[Any]:
    return [
        template.id,
        template.text,
        of.count,
        of.before,
        round(of.count / total, 4),
        severity_name(template.severity) if template.severity is not None else None,
        shown_services(template),
        shown_time(template.first_time) if template.first_time is not None else None,
        shown_minute(of.last, template.first_time),
        _is_new(template, new_after),
        example,
    ]


def shown_services(template: Template) -> str:
    more = len(template.services) - _SERVICES
    return ", ".join(template.services[:_SERVICES]) + (f" and {more} more" if more > 0 else "")


def shown_minute(number: int, first_time: int | None = None) -> str | None:
    """The begin of a minute in which something came, or when it first came if that is in it."""
    return shown_time(max(number * MINUTE_NS, first_time or 0)) if number else None


def shown_time(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

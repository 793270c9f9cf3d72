"""Which templates there are: the masks of all records kept, clustered, and the names beside them.

Clustered is what is known at all, not what a window holds: so a template has the same id whatever
is asked, and a new mask that fits an old template is nothing new.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Table, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import telemetry_patterns, telemetry_series
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.telemetry.envelope import severity_name, stable_hash
from mcp_hub.services.telemetry.templates.drain import cluster

_PER_READ = 5_000
_CHECKSUM = 1_000_000_007
_Stamp = tuple[int, int]
"""How many rows of a table there are, and a sum over their keys."""


@dataclass(frozen=True, slots=True)
class Series:
    kind: str
    name: str
    service: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A mask, and where it was first seen."""

    mask: str
    series: int
    severity: int | None
    first_time: int


@dataclass(frozen=True, slots=True)
class Template:
    """What the bodies of some records have in common, or, without patterns, a name."""

    id: str
    kind: str
    name: str
    text: str
    services: tuple[str, ...]
    severity: int | None
    first_time: int | None
    patterns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that is known at one time. Not to be changed."""

    series: Mapping[int, Series] = field(default_factory=dict)
    patterns: Mapping[int, Pattern] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)
    of_pattern: Mapping[int, str] = field(default_factory=dict)
    """The template's id by the pattern."""
    stamps: tuple[_Stamp, _Stamp] = ((0, 0), (0, 0))

    def chosen(self, name: str | None, service: str | None) -> set[int]:
        """The series of that name and service.

        Raises:
            NotFound: there is none; the hint names the nearest.
        """
        for what, wanted, known in (
            ("name", name, {one.name for one in self.series.values()}),
            ("service", service, {one.service for one in self.series.values()}),
        ):
            if wanted is not None and wanted not in known:
                raise NotFound(
                    f"No telemetry has the {what} {wanted!r}.",
                    names_hint(wanted, known, f"{what}s"),
                )
        return {
            number
            for number, one in self.series.items()
            if name in (None, one.name) and service in (None, one.service)
        }

    def name_of(self, series: int) -> str:
        """The id of the series' name as a template."""
        return _id(self.series[series].kind, self.series[series].name)

    def template(self, id: str) -> Template:
        """Raises NotFound: there is no template of that id, or not any more."""
        found = self.templates.get(id)
        if found is None:
            raise NotFound(
                f"There is no template {id!r}.", "telemetry_patterns lists those there are."
            )
        return found


_Bucket = tuple[str, str, str, int]
"""What the masks of one template share: kind, name, severity's name and number of tokens."""


class Templates:
    """The catalogue as it is now. What has not changed since the last question is not read again,
    nor are masks clustered again that no new one can have joined."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._catalogue = Catalogue()
        self._clustered: dict[_Bucket, tuple[_Stamp, list[Template]]] = {}
        self._reading = anyio.Lock()

    async def current(self) -> Catalogue:
        """Raises Unavailable."""
        async with self._reading:
            stamps = await self._database.read(_stamps)
            if stamps != self._catalogue.stamps:
                series = await self._rows(telemetry_series, "series", "kind", "name", "service")
                patterns = await self._rows(
                    telemetry_patterns, "pattern", "mask", "series", "severity", "first_time"
                )
                self._catalogue = await to_thread.run_sync(self._built, series, patterns, stamps)
            return self._catalogue

    async def _rows(self, table: Table, key: str, *columns: str) -> list[Any]:
        """The whole table, in pages: the loop is not to be kept busy by one answer."""
        rows: list[Any] = []
        query = select(table.c[key], *(table.c[name] for name in columns)).order_by(table.c[key])
        while True:
            page = query.limit(_PER_READ)
            if rows:
                page = page.where(table.c[key] > rows[-1][0])
            found = await self._database.read(
                lambda connection, page=page: connection.execute(page).all()  # type: ignore[misc]
            )
            rows += found
            if len(found) < _PER_READ:
                return rows

    def _built(
        self,
        series_rows: Sequence[Any],
        pattern_rows: Sequence[Any],
        stamps: tuple[_Stamp, _Stamp],
    ) -> Catalogue:
        series = {row[0]: Series(*row[1:]) for row in series_rows}
        # A pattern of a series written since that was read is left for the next time.
        patterns = {row[0]: Pattern(*row[1:]) for row in pattern_rows if row[2] in series}
        buckets: dict[_Bucket, list[int]] = defaultdict(list)
        for number, pattern in patterns.items():
            of = series[pattern.series]
            band = severity_name(pattern.severity) if pattern.severity is not None else ""
            buckets[of.kind, of.name, band, len(pattern.mask.split())].append(number)
        templates = _names(series.values())
        clustered = {}
        for bucket, numbers in buckets.items():
            stamp = (len(numbers), sum(number % _CHECKSUM for number in numbers))
            known = self._clustered.get(bucket)
            if known is None or known[0] != stamp:
                known = stamp, _clustered(bucket, numbers, patterns, series)
            clustered[bucket] = known
            templates += known[1]
        self._clustered = clustered
        return Catalogue(
            series,
            patterns,
            {template.id: template for template in templates},
            {number: one.id for one in templates for number in one.patterns},
            stamps,
        )


def _stamps(connection: Connection) -> tuple[_Stamp, _Stamp]:
    def stamp(table: Table, key: str) -> _Stamp:
        total = func.coalesce(func.sum(table.c[key] % _CHECKSUM), 0)
        count, number = connection.execute(select(func.count(), total).select_from(table)).one()
        return count, int(number)

    return stamp(telemetry_series, "series"), stamp(telemetry_patterns, "pattern")


def _clustered(
    bucket: _Bucket,
    numbers: Sequence[int],
    patterns: Mapping[int, Pattern],
    series: Mapping[int, Series],
) -> list[Template]:
    kind, name, band, _ = bucket
    templates = []
    for group in cluster([patterns[number].mask for number in numbers]):
        members = [numbers[place] for place in group.members]
        severities = [s for n in members if (s := patterns[n].severity) is not None]
        templates.append(
            Template(
                _id(kind, name, band, group.template),
                kind,
                name,
                group.template,
                tuple(sorted({series[patterns[number].series].service for number in members})),
                max(severities, default=None),
                min(patterns[number].first_time for number in members),
                tuple(members),
            )
        )
    return templates


def _names(series: Iterable[Series]) -> list[Template]:
    """The names as templates of what has no body."""
    services: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in series:
        services[one.kind, one.name].add(one.service)
    return [
        Template(_id(kind, name), kind, name, name, tuple(sorted(of)), None, None, ())
        for (kind, name), of in services.items()
    ]


def _id(*parts: str) -> str:
    return format(stable_hash("\0".join(parts)), "016x")

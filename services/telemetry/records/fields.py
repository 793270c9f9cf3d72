"""What was recorded, so that a question can name it: names, services, attributes, values."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from anyio import to_thread
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, tuple_

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.telemetry_schema import (
    telemetry_attributes,
    telemetry_rollups,
    telemetry_series,
)
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.telemetry.envelope import OWN_SERVICES
from mcp_hub.services.telemetry.filtering.filters import FIELDS
from mcp_hub.services.telemetry.intake.rollups import MINUTE_NS
from mcp_hub.services.telemetry.records import presenting
from mcp_hub.services.telemetry.views import FieldsView

DAY_MINUTES = 24 * 60

_SERVICES_SHOWN = 5
_SERVICES_LISTED = 200
_USUAL_LIMIT = 30
_CHARACTERS_ASKED = 200_000
_KEYS_SHOWN = 12
_EXAMPLES_SHOWN = 6
_EXAMPLE_SHOWN = 60
_NAMES_SHOWN = 5_000
_ROWS_OF_KEYS = 20_000


class Fields:
    """The names that records have, and of each its attributes with their types and values."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fields(
        self,
        name: str | None = None,
        *,
        service: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> FieldsView:
        """All names, those of the last day first and the commonest of them; or one name's fields.

        The hub's own are left out unless the name or the service is given.

        Raises:
            NotFound: there is no such name or service.
            InvalidArgument: the limit or the cursor is wrong.
        """
        rows = _USUAL_LIMIT if limit is None else check_limit(limit)
        characters = presenting.CHARACTERS if limit is None else _CHARACTERS_ASKED
        if name is None:
            return await self._overview(service, rows, characters, cursor)
        return await self._of(name, service, rows, characters, cursor)

    async def services(self, prefix: str = "") -> list[str]:
        """Services whose names begin so, whatever the case; at most 200."""
        column = telemetry_series.c.service
        begins = column.istartswith(prefix, autoescape=True)
        query = select(column).where(begins).distinct().order_by(column).limit(_SERVICES_LISTED)
        return await self._database.read(lambda c: list(c.execute(query).scalars()))

    async def _overview(
        self, service: str | None, limit: int, characters: int, cursor: str | None
    ) -> FieldsView:
        of = telemetry_series.c.service
        here = of.not_in(OWN_SERVICES) if service is None else of == service
        if cursor is None:
            until, after = time.time_ns() // MINUTE_NS + 1, None
        else:
            until, count, name, kind = decode_cursor(cursor, int, int, str, str)
            after = (count, name, kind)
        found = await self._database.read(lambda c: _names(c, here, until, after, limit + 1))
        if service is not None and not found and cursor is None:
            raise await self._database.read(lambda c: _no_such_service(c, service))
        shown, more = found[:limit], len(found) > limit
        services, keys = await self._database.read(
            lambda c: _of_names(c, here, [(row.name, row.kind) for row in shown])
        )
        rows = [
            [
                row.name,
                row.kind,
                int(row.count),
                row.unit,
                _some(services.get((row.name, row.kind), []), _SERVICES_SHOWN),
                _some(keys.get((row.name, row.kind), []), _KEYS_SHOWN),
            ]
            for row in shown
        ]
        count = presenting.room_for(rows, characters)
        more = more or count < len(rows)
        last = shown[count - 1] if more else None
        return FieldsView(
            columns=["name", "kind", "count_24h", "unit", "services", "attributes"],
            rows=rows[:count],
            truncated=more,
            next_cursor=encode_cursor(until, int(last.count), last.name, last.kind)
            if last
            else None,
            note="telemetry_fields(name=…) shows an attribute's types and values."
            if rows
            else "Nothing was recorded yet: telemetry_record, or POST /v1/traces, logs, metrics.",
        )

    async def _of(
        self, name: str, service: str | None, limit: int, characters: int, cursor: str | None
    ) -> FieldsView:
        after = decode_cursor(cursor, str)[0] if cursor else ""
        since = time.time_ns() // MINUTE_NS - DAY_MINUTES
        table = telemetry_series.c
        here = table.name == name
        series = await self._database.read(lambda c: _series_of(c, name, since))
        if service is not None:
            here = and_(here, table.service == service)
            series = [row for row in series if row.service == service]
            if not series:
                raise await self._database.read(lambda c: _no_such_service(c, service, name))
        rows = await self._database.read(lambda c: _attributes_of(c, here, after, limit + 1))
        found = await to_thread.run_sync(_merged, rows)
        count = presenting.room_for(found[:limit], characters)
        more = len(found) > count
        next_cursor = encode_cursor(found[count - 1][0]) if more else None
        shown = [[_as_field(key), *rest] for key, *rest in found[:count]]
        return FieldsView(
            columns=["field", "types", "examples", "more_values"],
            rows=shown,
            truncated=more,
            next_cursor=next_cursor,
            series=[[row.kind, row.service, int(row.count), row.unit] for row in series[:limit]],
            note="series: kind, service, count_24h, unit."
            + (f" {len(series) - limit} more series." if len(series) > limit else ""),
        )


def _counts(*conditions: ColumnElement[bool]) -> Any:
    table = telemetry_rollups.c
    return (
        select(table.series, func.sum(table.count).label("count"))
        .where(*conditions)
        .group_by(table.series)
        .subquery()
    )


def _names(
    connection: Connection,
    here: ColumnElement[bool],
    until: int,
    after: tuple[int, str, str] | None,
    limit: int,
) -> Sequence[Any]:
    minute = telemetry_rollups.c.minute
    counts = _counts(minute >= until - DAY_MINUTES, minute < until)
    table = telemetry_series.c
    count = func.coalesce(func.sum(counts.c.count), 0)
    query = (
        select(table.name, table.kind, func.max(table.unit).label("unit"), count.label("count"))
        .select_from(telemetry_series.outerjoin(counts, table.series == counts.c.series))
        .where(here)
        .group_by(table.name, table.kind)
        .order_by(count.desc(), table.name, table.kind)
        .limit(limit)
    )
    if after is not None:
        than, name, kind = after
        later: ColumnElement[bool] = tuple_(table.name, table.kind) > tuple_(name, kind)
        query = query.having(or_(count < than, and_(count == than, later)))
    return connection.execute(query).all()


Groups = dict[tuple[str, str], list[str]]


def _of_names(
    connection: Connection, here: ColumnElement[bool], names: Sequence[tuple[str, str]]
) -> tuple[Groups, Groups]:
    """The services and the attributes' keys of names of a kind."""
    table = telemetry_series.c
    here = and_(here, tuple_(table.name, table.kind).in_(names))
    services: Groups = {}
    query = select(table.name, table.kind, table.service).where(here).order_by(table.service)
    for row in connection.execute(query.limit(_ROWS_OF_KEYS)):
        services.setdefault((row.name, row.kind), []).append(row.service)
    keys: Groups = {}
    key = telemetry_attributes.c.key
    query = (
        select(table.name, table.kind, key)
        .join_from(telemetry_series, telemetry_attributes, table.series == _SERIES_OF_KEY)
        .where(here, ~key.startswith("resource."))
        .distinct()
        .order_by(key)
    )
    for row in connection.execute(query.limit(_ROWS_OF_KEYS)):
        keys.setdefault((row.name, row.kind), []).append(row.key)
    return services, keys


_SERIES_OF_KEY = telemetry_attributes.c.series


def _series_of(connection: Connection, name: str, since: int) -> Sequence[Any]:
    table = telemetry_series.c
    here = select(table.series).where(table.name == name)
    rollups = telemetry_rollups.c
    counts = _counts(rollups.minute >= since, rollups.series.in_(here))
    count = func.coalesce(counts.c.count, 0)
    query = (
        select(table.kind, table.service, table.unit, count.label("count"))
        .select_from(telemetry_series.outerjoin(counts, table.series == counts.c.series))
        .where(table.name == name)
        .order_by(count.desc(), table.kind, table.service)
    )
    found = connection.execute(query).all()
    if not found:
        known = list(
            connection.execute(select(table.name).distinct().limit(_NAMES_SHOWN)).scalars()
        )
        alike = [one for one in known if name.lower() in one.lower()] if name else []
        raise NotFound(
            f"No record has the name {name!r}.", names_hint(name, alike or known, "names")
        )
    return found


def _no_such_service(connection: Connection, service: str, name: str | None = None) -> NotFound:
    table = telemetry_series.c
    query = select(table.service).distinct().limit(_NAMES_SHOWN)
    if name is not None:
        query = query.where(table.name == name)
    known = connection.execute(query).scalars()
    of = "" if name is None else f" and the name {name!r}"
    return NotFound(
        f"No record has the service {service!r}{of}.", names_hint(service, known, "services")
    )


def _attributes_of(
    connection: Connection, of: ColumnElement[bool], after: str, limit: int
) -> Sequence[Any]:
    """Rows of the next `limit` keys, in order."""
    table = telemetry_attributes.c
    series = select(telemetry_series.c.series).where(of)
    here = table.series.in_(series)
    # By code points, in which Python sorts them too.
    in_order = table.key if connection.dialect.name == "sqlite" else table.key.collate("C")
    keys = select(in_order.label("key")).where(here, in_order > after).distinct()
    wanted = list(connection.execute(keys.order_by(in_order).limit(limit)).scalars())
    query = select(table.key, table.types, table.examples, table.many)
    query = query.where(here, table.key.in_(wanted)).limit(_ROWS_OF_KEYS)
    return connection.execute(query).all()


def _merged(rows: Iterable[Any]) -> list[list[Any]]:
    """One row for each key, of all series that have it."""
    types: dict[str, set[str]] = {}
    examples: dict[str, dict[str, Any]] = {}
    many: dict[str, bool] = {}
    for row in rows:
        types.setdefault(row.key, set()).update(row.types.split())
        known = examples.setdefault(row.key, {})
        for value in msgspec.json.decode(row.examples):
            known.setdefault(f"{type(value).__name__} {value}", _shown(value))
        many[row.key] = many.get(row.key, False) or row.many
    return [
        [
            key,
            " ".join(sorted(types[key])),
            list(examples[key].values())[:_EXAMPLES_SHOWN],
            many[key] or len(examples[key]) > _EXAMPLES_SHOWN,
        ]
        for key in sorted(types)
    ]


def _as_field(key: str) -> str:
    """The name by which a filter takes it."""
    return f"attributes.{key}" if key in FIELDS else key


def _shown(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _EXAMPLE_SHOWN:
        return f"{value[:_EXAMPLE_SHOWN]}…"
    return value


def _some(names: Sequence[str], most: int) -> list[str]:
    if len(names) <= most:
        return list(names)
    return [*names[:most], f"… {len(names) - most} more"]

"""Inserting rows of which some may be there already, at no cost where none is."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.exc import IntegrityError

from mcp_hub.adapters.database.telemetry_schema import telemetry_records
from mcp_hub.adapters.records.port import Row

_AT_ONCE = 500


def insert_new(
    connection: Connection,
    rows: Sequence[Row],
    insert: Callable[[Connection, Sequence[Row]], None],
    *,
    all_new: bool,
) -> list[int]:
    """`insert` the rows; where one is there already, those that are not. Their places."""
    if all_new:
        insert(connection, rows)
        return []
    try:
        with connection.begin_nested():
            insert(connection, rows)
    except IntegrityError:
        repeated = _repeated(connection, rows)
        if not repeated:
            raise
        known = set(repeated)
        new = [row for place, row in enumerate(rows) if place not in known]
        if new:
            insert(connection, new)
        return repeated
    return []


def _repeated(connection: Connection, rows: Sequence[Row]) -> list[int]:
    key = tuple_(telemetry_records.c.time, telemetry_records.c.id)
    known: set[tuple[int, bytes]] = set()
    for start in range(0, len(rows), _AT_ONCE):
        wanted = [(row.time, row.id) for row in rows[start : start + _AT_ONCE]]
        found = select(telemetry_records.c.time, telemetry_records.c.id).where(key.in_(wanted))
        known.update((row.time, bytes(row.id)) for row in connection.execute(found))
    places = []
    for place, row in enumerate(rows):
        if (row.time, row.id) in known:
            places.append(place)
        known.add((row.time, row.id))
    return places

"""What of the schema is moved, and the form in which rows of two dialects compare."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Column, Connection, Row, Table, func, null, select, text, tuple_

from mcp_hub.adapters.database.nul import without_nul
from mcp_hub.adapters.database.schema import metadata
from mcp_hub.adapters.database.telemetry_schema import JSON_TEXT
from mcp_hub.adapters.database.upsert import insert_for

LEFT_OUT: Mapping[str, str] = {
    "workers": "the processes that are alive at the source",
    "leases": "which of the source's processes does what only one may do",
    "hub_identity": "which containers of an engine are the source's",
    "container_holders": "the source's processes that hold containers",
    "container_instances": "the containers that run at the source",
    "changes": "notices that the source's processes have heard already",
    "queue_messages": "the target's workers make them anew from the queued jobs",
    "queue_positions": "how far the events of the source's queue were read",
}
"""Tables that describe running processes and not what a hub knows, and why each stays behind."""

RESET: Mapping[str, Mapping[str, Any]] = {"jobs": {"enqueued": False}}
"""Columns that say something of a table that stays behind, and what they become."""

_HASH_BYTES = 16
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def moved_tables() -> list[Table]:
    """The tables to move, those that others refer to first."""
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def key_of(table: Table) -> list[Column[Any]]:
    return list(table.primary_key.columns)


def key_in(table: Table, row: Row[Any]) -> list[Any]:
    """The primary key of a row of `table`."""
    return [row._mapping[column] for column in key_of(table)]


def count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def page_after(
    connection: Connection, table: Table, key: Sequence[Any] | None, limit: int
) -> Sequence[Row[Any]]:
    """The next `limit` rows in the order of the primary key, after the row of `key`."""
    columns = key_of(table)
    query = select(table).order_by(*columns).limit(limit)
    if key is not None:
        query = query.where(tuple_(*columns) > tuple_(*key, types=[c.type for c in columns]))
    return connection.execute(query).all()


def write_rows(connection: Connection, table: Table, rows: Sequence[Row[Any]]) -> None:
    """Insert rows, or make those of the same key equal to them."""
    columns = list(table.columns)
    reset = RESET.get(table.name, {})
    dialect = connection.dialect.name
    values = [
        {
            column.name: reset.get(column.name, _bindable(column, value, dialect))
            for column, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]
    statement = insert_for(connection, table)
    others = {c.name: statement.excluded[c.name] for c in columns if not c.primary_key}
    if others:
        statement = statement.on_conflict_do_update(index_elements=key_of(table), set_=others)
    else:
        statement = statement.on_conflict_do_nothing()
    connection.execute(statement, values)


def _bindable(column: Column[Any], value: Any, dialect: str) -> Any:
    """SQL's NULL for what is absent, and not JSON's, where the column may be NULL.

    What is JSON in PostgreSQL and text in SQLite is given as each has it.
    """
    if column.type is JSON_TEXT:
        if dialect == "postgresql":
            return _parsed(value)
        return value if isinstance(value, str) else _COMPACT.encode(value)
    absent = value is None and isinstance(column.type, JSON) and column.nullable
    return null() if absent else _keepable(value)


def _keepable(value: Any) -> Any:
    """Text without NUL, which a job may print into its log and PostgreSQL cannot keep."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _parsed(value: Any) -> Any:
    """The value of JSON, which is text in SQLite, without NUL."""
    if not isinstance(value, str):
        return value
    return json.loads(without_nul(value))


def _comparable(column: Column[Any], value: Any) -> Any:
    """The same for what each dialect writes in its own way."""
    if column.type is not JSON_TEXT:
        return _keepable(value)
    # PostgreSQL writes 1e2 as 100.
    return json.loads(json.dumps(_parsed(value)), parse_float=_whole_or_float)


def _whole_or_float(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def set_serial(connection: Connection, table: Table) -> None:
    """Have PostgreSQL number on after the rows that were written with numbers of their own."""
    column = table.autoincrement_column
    if column is None or connection.dialect.name != "postgresql":
        return
    names = {"table": table.name, "column": column.name}
    sequence = connection.execute(
        text("SELECT pg_get_serial_sequence(:table, :column)"), names
    ).scalar()
    last = connection.execute(select(func.max(column))).scalar()
    if sequence is not None and last is not None:
        connection.execute(text("SELECT setval(:name, :last)"), {"name": sequence, "last": last})


def digest_of(table: Table, rows: Iterable[Row[Any]]) -> int:
    """A number for a set of rows; the sum of two sets' numbers is that of both together.

    So the tables of two databases compare although each sorts text in its own way. The sum of
    the rows' BLAKE2b hashes modulo 2^128 (AdHash, Bellare and Micciancio 1997) finds every
    accident; it is no defence against one who chooses the rows.
    """
    reset = RESET.get(table.name, {})
    kept = [(at, c) for at, c in enumerate(table.columns) if c.name not in reset]
    total = 0
    for row in rows:
        canonical = json.dumps(
            [_comparable(column, row[at]) for at, column in kept],
            sort_keys=True,
            separators=(",", ":"),
            default=_hexadecimal,
        )
        digest = hashlib.blake2b(canonical.encode(errors="surrogatepass"), digest_size=_HASH_BYTES)
        total += int.from_bytes(digest.digest())
    return total % (1 << (8 * _HASH_BYTES))


def add(one: int, other: int) -> int:
    """The digest of two sets of rows together."""
    return (one + other) % (1 << (8 * _HASH_BYTES))


def shown(digest: int) -> str:
    return f"{digest:0{2 * _HASH_BYTES}x}"


def _hexadecimal(value: Any) -> str:
    return bytes(value).hex()

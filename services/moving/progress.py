"""How far a copy has come, kept in the target for as long as it is unfinished."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)

from mcp_hub.adapters.database.upsert import insert_for

# No part of the schema: a hub never needs it, and it is gone when the copy is complete.
_marks = Table(
    "unfinished_copy",
    MetaData(),
    Column("table_name", String(128), primary_key=True),
    Column("source", Text, nullable=False),
    # The primary key of the last row written, as JSON; null before the first.
    Column("last_key", Text),
    Column("rows_written", BigInteger, nullable=False),
)
_BEGIN = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a table's copy goes on: after the row of `key`, the `rows`th."""

    key: Sequence[Any] | None
    rows: int


def source_of(connection: Connection) -> str | None:
    """From where the unfinished copy in this database comes; None if there is none."""
    if not inspect(connection).has_table(_marks.name):
        return None
    return connection.execute(select(_marks.c.source).limit(1)).scalar()


def begin(connection: Connection, source: str) -> None:
    """Note that a copy from `source` has begun; it begins anew if there was one."""
    _marks.drop(connection, checkfirst=True)
    _marks.create(connection)
    _write(connection, _BEGIN, source, Mark(None, 0))


def mark(connection: Connection, table: str, source: str, at: Mark) -> None:
    """Note how far `table` is, in the transaction that writes its rows."""
    _write(connection, table, source, at)


def marks(connection: Connection) -> dict[str, Mark]:
    """How far each table is."""
    return {
        row.table_name: Mark(_key_of(row.last_key) if row.last_key else None, row.rows_written)
        for row in connection.execute(select(_marks))
    }


def end(connection: Connection) -> None:
    """Note that the copy is complete."""
    _marks.drop(connection, checkfirst=True)


def _write(connection: Connection, table: str, source: str, at: Mark) -> None:
    values = {
        "table_name": table,
        "source": source,
        "last_key": json.dumps(list(at.key), default=_hexadecimal) if at.key is not None else None,
        "rows_written": at.rows,
    }
    statement = insert_for(connection, _marks).values(values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[_marks.c.table_name], set_=values)
    )


def _hexadecimal(part: bytes) -> dict[str, str]:
    return {"hex": bytes(part).hex()}


def _key_of(text: str) -> list[Any]:
    parts = json.loads(text)
    return [bytes.fromhex(part["hex"]) if isinstance(part, dict) else part for part in parts]

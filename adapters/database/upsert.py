"""`INSERT … ON CONFLICT`, which SQLite and PostgreSQL share and SQLAlchemy keeps per dialect."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

_ROWS = (500, 100, 20, 5, 1)
"""Of so many rows are SQLite's statements, so that there are few texts to prepare."""


def insert_for(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert into `table` that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def replace_rows(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Write rows, in the order of the table's columns, in place of those of the same primary key.

    For many small rows, in as few statements as there can be: on SQLite, each has hundreds of
    rows and runs without holding the interpreter's lock; on PostgreSQL, there is one, which takes
    a list for each column. The table has no columns of JSON.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        columns = tuple(map(list, zip(*rows, strict=True)))
        connection.exec_driver_sql(_replace_from_lists(table), columns)
    else:
        for some in in_statements(rows):
            text = _replace_values(table, len(some))
            connection.exec_driver_sql(text, tuple(chain.from_iterable(some)))


def in_statements(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in parts, each of one of a few lengths."""
    start = 0
    for size in _ROWS:
        while start + size <= len(rows):
            yield rows[start : start + size]
            start += size


@lru_cache(maxsize=64)
def _replace_values(table: Table, count: int) -> str:
    row = f"({', '.join('?' * len(table.columns))})"
    return f"{_insert(table)} VALUES {', '.join([row] * count)} {_on_conflict(table)}"


@lru_cache(maxsize=64)
def _replace_from_lists(table: Table) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    lists = ", ".join(
        f"${number}::{column.type.compile(dialect)}[]"
        for number, column in enumerate(table.columns, 1)
    )
    return f"{_insert(table)} SELECT * FROM unnest({lists}) {_on_conflict(table)}"


def _insert(table: Table) -> str:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"INSERT INTO {table.name} ({names})"


def _on_conflict(table: Table) -> str:
    keys = [column.name for column in table.primary_key]
    changed = ", ".join(
        f'"{column.name}" = excluded."{column.name}"'
        for column in table.columns
        if column.name not in keys
    )
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changed}"

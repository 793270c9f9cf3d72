"""Deciding upon rows without changing them."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, update


def touch(connection: Connection, column: Column[Any], *conditions: ColumnElement[bool]) -> int:
    """Write the rows that meet `conditions` as they are, so that they count as changed.

    Of two transactions that touch or change the same row at the same time, one is run again.
    `column` is any column of theirs, best one without an index. Returns how many rows there are.
    """
    return connection.execute(
        update(column.table).where(*conditions).values({column.name: column})
    ).rowcount

"""Data sets in the database: plain functions of a connection, for use inside a transaction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import datasets
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.data.views import ColumnSchema, DatasetSummary, DatasetView
from mcp_hub.services.views import NAME_PATTERN, iso

_MAX_VERSION = 2**31 - 1
_NEWEST_FIRST = datasets.c.version.desc()
IS_THERE = datasets.c.deleted_at.is_(None)
"""The versions whose content was not deleted."""


@dataclass(frozen=True, slots=True)
class NewDataset:
    """A version to be: what was read from its content, which is in the blobs by now."""

    name: str
    sha256: str
    size: int
    format: str
    options: Mapping[str, Any]
    source: str
    rows: int
    columns: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A version, with what it takes to read its content again."""

    view: DatasetView
    format: str
    options: Mapping[str, Any]


def check_name(name: str) -> None:
    """Raise InvalidArgument where `name` cannot name a data set."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidArgument(
            f"{name[:140]!r} cannot name a data set.",
            "A name has 1 to 128 letters, digits, dots, hyphens and underscores, and begins with "
            "a letter or a digit.",
        )


def add_version(connection: Connection, new: NewDataset) -> tuple[DatasetView, bool]:
    """The version that holds `new`, and whether it was added now.

    It is the newest one where that is the same bytes read the same way, otherwise the next.
    """
    newest = _first(connection, datasets.c.name == new.name)
    if newest is not None and (newest.sha256, newest.format, newest.options) == (
        new.sha256,
        new.format,
        new.options,
    ):
        return _view(newest), False
    # The numbers of deleted versions are not given again.
    highest = select(func.max(datasets.c.version)).where(datasets.c.name == new.name)
    version = 1 + (connection.scalar(highest) or 0)
    # Where two give the same number at once, one of the transactions is run again.
    connection.execute(
        insert_for(connection, datasets)
        .values(
            name=new.name,
            version=version,
            id=new_id("ds"),
            sha256=new.sha256,
            size=new.size,
            format=new.format,
            options=dict(new.options),
            source=new.source,
            row_count=new.rows,
            columns=new.columns,
            created_at=now_ms(),
        )
        .on_conflict_do_nothing(index_elements=["name", "version"])
    )
    added = _first(connection, datasets.c.name == new.name, datasets.c.version == version)
    assert added is not None
    return _view(added), True


def find(connection: Connection, reference: str) -> StoredDataset:
    """The version that `reference` names: a name (the newest), name:version, or a version's id.

    Raises:
        InvalidArgument: `reference` has none of these forms.
        NotFound: there is no such data set or version.
    """
    name, colon, version = reference.strip().partition(":")
    if not colon:
        row = _first(connection, datasets.c.name == name)
        if row is None and name.startswith("ds_"):
            row = _first(connection, datasets.c.id == name)
    elif version.isascii() and version.isdigit() and int(version) <= _MAX_VERSION:
        row = _first(connection, datasets.c.name == name, datasets.c.version == int(version))
    else:
        raise InvalidArgument(
            f"{reference!r} is not a reference to a data set.",
            "Write its name for the newest version, name:3 for version 3, or its id (ds_…).",
        )
    if row is None:
        raise _not_found(connection, name, version)
    return StoredDataset(_view(row), row.format, row.options)


def newest_page(connection: Connection, limit: int, after: str | None) -> list[DatasetSummary]:
    """The newest version of each data set, in the order of their names."""
    newest = (
        select(datasets.c.name, func.max(datasets.c.version).label("version"))
        .where(IS_THERE)
        .group_by(datasets.c.name)
        .order_by(datasets.c.name)
        .limit(limit)
    )
    if after is not None:
        newest = newest.where(datasets.c.name > after)
    chosen = newest.subquery()
    rows = connection.execute(
        select(datasets)
        .join(
            chosen,
            (datasets.c.name == chosen.c.name) & (datasets.c.version == chosen.c.version),
        )
        .order_by(datasets.c.name)
    )
    return [
        DatasetSummary(
            name=row.name,
            version=row.version,
            rows=row.row_count,
            columns=len(row.columns),
            format=row.format,
            created_at=_time(row),
        )
        for row in rows
    ]


def names(connection: Connection, prefix: str, limit: int) -> list[str]:
    """The names that begin with `prefix`, in order, at most `limit`."""
    query = (
        select(datasets.c.name)
        .where(IS_THERE, datasets.c.name.startswith(prefix, autoescape=True))
        .distinct()
        .order_by(datasets.c.name)
        .limit(limit)
    )
    return list(connection.scalars(query))


def _first(connection: Connection, *conditions: ColumnElement[bool]) -> Row[Any] | None:
    query = select(datasets).where(IS_THERE, *conditions).order_by(_NEWEST_FIRST).limit(1)
    return connection.execute(query).first()


def _not_found(connection: Connection, name: str, version: str) -> NotFound:
    versions = list(
        connection.scalars(
            select(datasets.c.version)
            .where(IS_THERE, datasets.c.name == name)
            .order_by(_NEWEST_FIRST)
        )
    )
    if versions:
        return NotFound(
            f"The data set {name} has no version {version}.",
            f"Its newest is {name}:{versions[0]}; it has {len(versions)}.",
        )
    existing = connection.scalars(select(datasets.c.name).where(IS_THERE).distinct())
    hint = names_hint(name, existing, "data sets")
    return NotFound(f"There is no data set {name!r}.", f"{hint} Add one with dataset_register.")


def _view(row: Row[Any]) -> DatasetView:
    return DatasetView(
        dataset=f"{row.name}:{row.version}",
        id=row.id,
        name=row.name,
        version=row.version,
        format=row.format,
        options=row.options,
        rows=row.row_count,
        bytes=row.size,
        sha256=row.sha256,
        source=row.source,
        created_at=_time(row),
        columns=[ColumnSchema.model_validate(column) for column in row.columns],
    )


def _time(row: Row[Any]) -> str:
    return iso(row.created_at) or ""

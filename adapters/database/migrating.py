"""Bringing a database's schema to this program's revision, or to another: on any dialect."""

import re
import threading
from dataclasses import dataclass
from io import StringIO
from typing import Literal, NamedTuple

from sqlalchemy import Connection, column, func, inspect, select, table, text

from mcp_hub import migrations
from mcp_hub.adapters.database.port import Dialect
from mcp_hub.adapters.errors import Conflict, NotFound

Direction = Literal["up", "down", "none"]

# Alembic keeps the migration that it runs in globals.
_migrating = threading.Lock()

_DROPPED = re.compile(r"^(?:ALTER TABLE (\S+) DROP COLUMN|DROP TABLE) (\S+);$", re.MULTILINE)


class Loss(NamedTuple):
    """A table, or `table.column`, that would be dropped, and how many values are in it now."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The way from one revision to another: the revisions to apply or to take back, in order."""

    current: str | None
    target: str
    direction: Direction
    revisions: tuple[str, ...]


def revision(connection: Connection) -> str | None:
    """The revision that the schema is at; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def plan(current: str | None, target: str) -> Plan:
    """How a schema at `current` (None: empty) comes to `target`, a revision or `head`.

    Raises:
        NotFound: there is no revision `target`.
        Conflict: the schema is at a revision that this program does not know.
    """
    known = migrations.REVISIONS
    target = migrations.HEAD if target == "head" else target
    if target not in known:
        raise NotFound(
            f"There is no revision {target!r}.",
            f"Existing revisions: {', '.join(known)}, and head, which is {migrations.HEAD}.",
        )
    if current is not None and current not in known:
        raise Conflict(
            f"The database is at revision {current}, which this mcp-hub does not know.",
            f"Upgrade mcp-hub; this version knows {migrations.HEAD}. To go back to this version, "
            f"run `mcp-hub migrate --to {migrations.HEAD}` with the newer one first.",
        )
    begin = known.index(current) + 1 if current else 0
    end = known.index(target) + 1
    if begin == end:
        return Plan(current, target, "none", ())
    if begin < end:
        return Plan(current, target, "up", known[begin:end])
    return Plan(current, target, "down", tuple(reversed(known[end:begin])))


def titles() -> dict[str, str]:
    """What each revision brought."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrations.alembic_config())
    return {entry.revision: (entry.doc or "").rstrip(".") for entry in script.walk_revisions()}


def sql_of(planned: Plan, dialect: Dialect) -> str:
    """The statements that would run; empty where none would."""
    if planned.direction == "none":
        return ""
    from alembic import command

    written = StringIO()
    config = migrations.alembic_config(dialect=dialect, sql=written)
    go = command.upgrade if planned.direction == "up" else command.downgrade
    with _migrating:
        go(config, f"{planned.current or 'base'}:{planned.target}", sql=True)
    return written.getvalue().strip()


def losses(connection: Connection, sql: str) -> list[Loss]:
    """What the statements of `sql_of` would drop."""
    found = []
    for owner, name in _DROPPED.findall(sql):
        owner, name = owner.strip('"'), name.strip('"')
        counted = select(func.count(column(name)) if owner else func.count())
        rows = connection.execute(counted.select_from(table(owner or name))).scalar_one()
        found.append(Loss(f"{owner}.{name}" if owner else name, rows))
    return found


def upgrade(connection: Connection) -> list[str]:
    """Apply the missing revisions in the caller's write transaction and under its lock.

    Returns the revisions applied, oldest first.

    Raises:
        Conflict: the schema is at a revision that this program does not know.
    """
    current = revision(connection)
    if current == migrations.HEAD:
        return []
    return apply(connection, plan(current, migrations.HEAD))


def apply(connection: Connection, planned: Plan) -> list[str]:
    """Do what was planned in the caller's write transaction and under its lock.

    Returns the revisions applied or taken back, in that order.

    Raises:
        Conflict: the schema is no longer where the plan begins.
    """
    if revision(connection) != planned.current:
        raise Conflict("Another process migrated the database meanwhile.", "Run it again.")
    if planned.direction == "none":
        return []
    from alembic import command

    go = command.upgrade if planned.direction == "up" else command.downgrade
    with _migrating:
        go(migrations.alembic_config(connection), planned.target)
    return list(planned.revisions)

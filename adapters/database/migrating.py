"""Bringing a database's schema to this program's revision, or to another: on any dialect."""

import threading

from sqlalchemy import Connection, inspect, text

from mcp_hub import migrations
from mcp_hub.adapters.errors import Conflict

# Alembic keeps the migration that it runs in globals.
_migrating = threading.Lock()


def revision(connection: Connection) -> str | None:
    """The revision that the schema is at; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: Connection) -> list[str]:
    """Apply the missing revisions in the caller's write transaction and under its lock.

    Returns the revisions applied, oldest first.

    Raises:
        Conflict: the schema is at a revision that this program does not know.
    """
    current = revision(connection)
    if current == migrations.HEAD:
        return []
    from alembic import command
    from alembic.script import ScriptDirectory

    config = migrations.alembic_config(connection)
    script = ScriptDirectory.from_config(config)
    known = [entry.revision for entry in script.walk_revisions()]
    if current is not None and current not in known:
        raise Conflict(
            f"The database is at revision {current}, which this mcp-hub does not know.",
            f"Upgrade mcp-hub; this version knows {migrations.HEAD}.",
        )
    with _migrating:
        command.upgrade(config, migrations.HEAD)
    applied = known[: known.index(current)] if current else known
    return list(reversed(applied))

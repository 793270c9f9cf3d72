"""Deleting versions softly, and bringing them back."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, null, update
from sqlalchemy.sql.elements import ColumnElement

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import model_aliases, model_versions
from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.services.registry.references import Reference
from mcp_hub.services.registry.store import lock_model
from mcp_hub.services.registry.versions import (
    aliases_of,
    find_version,
    restore_hint,
    unknown_version,
    version_states,
)
from mcp_hub.services.registry.views import Deleted


def delete_alias(connection: Connection, reference: Reference) -> Deleted:
    """Remove the alias that `reference` names, and nothing else.

    Raises:
        NotFound: there is no such model or alias.
    """
    lock_model(connection, reference.name)
    head = find_version(connection, reference)
    _remove_aliases(connection, reference.name, [reference.alias or ""])
    return Deleted(
        deleted=[str(reference)],
        note=f"The version it pointed at, {reference.name}:{head.version}, is still there.",
    )


def delete_versions(connection: Connection, reference: Reference, *, force: bool) -> Deleted:
    """Delete the version, or every version of the model, that `reference` names.

    Raises:
        NotFound: there is no such model or version.
        Conflict: an alias points there; with `force` the alias is removed instead.
    """
    name = reference.name
    lock_model(connection, name)
    states = _named(connection, reference)
    gone = [version for version, deleted_at in states.items() if deleted_at is None]
    if not gone:
        return Deleted(deleted=[], note=f"It was deleted already. {restore_hint(reference)}")
    aliases = [alias for alias, at in aliases_of(connection, name).items() if at in gone]
    if aliases and not force:
        shown = ", ".join(f"{name}@{alias}" for alias in aliases)
        raise Conflict(
            f"{shown} {'points' if len(aliases) == 1 else 'point'} at what would be deleted.",
            "Promote another version to the alias first, or pass force=true to remove it too.",
        )
    _remove_aliases(connection, name, aliases)
    _set_deleted(connection, name, gone, now_ms())
    return Deleted(
        deleted=[*(f"{name}@{alias}" for alias in aliases), *(f"{name}:{v}" for v in gone)],
        note=restore_hint(reference),
    )


def restore_versions(connection: Connection, reference: Reference) -> Deleted:
    """Bring back the deleted version, or every deleted version, that `reference` names.

    Raises:
        NotFound: there is no such model or version.
        InvalidArgument: `reference` is an alias.
    """
    name = reference.name
    if reference.alias is not None:
        raise InvalidArgument(
            f"{str(reference)!r} is an alias, and what can be restored is a version.",
            f"Give 'name:version' or 'name'; model_promote sets {reference.alias!r} again.",
        )
    lock_model(connection, name)
    states = _named(connection, reference)
    back = [version for version, deleted_at in states.items() if deleted_at is not None]
    if not back:
        return Deleted(deleted=[], note="Nothing of it was deleted.")
    _set_deleted(connection, name, back, null())
    return Deleted(
        deleted=[],
        restored=[f"{name}:{version}" for version in back],
        note="Aliases that were removed do not come back; model_promote sets them again.",
    )


def _named(connection: Connection, reference: Reference) -> dict[int, int | None]:
    """The versions that `reference` names, deleted ones included, and when each was deleted."""
    states = version_states(connection, reference.name)
    if reference.version is None:
        return states
    if reference.version not in states:
        raise unknown_version(reference, states)
    return {reference.version: states[reference.version]}


def _remove_aliases(connection: Connection, name: str, aliases: Sequence[str]) -> None:
    connection.execute(
        delete(model_aliases).where(
            model_aliases.c.name == name, model_aliases.c.alias.in_(aliases)
        )
    )


def _set_deleted(
    connection: Connection, name: str, versions: Sequence[int], at: ColumnElement[Any]
) -> None:
    connection.execute(
        update(model_versions)
        .where(model_versions.c.name == name, model_versions.c.version.in_(versions))
        .values(deleted_at=at)
    )

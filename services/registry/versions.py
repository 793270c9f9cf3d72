"""Reading model versions: what a reference names, as it stands now."""

from collections.abc import Mapping
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.remembering import Remembered
from mcp_hub.adapters.database.schema import model_aliases, model_versions
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.registry.references import RESERVED_ALIAS, Reference, parse_reference
from mcp_hub.services.registry.views import ModelView
from mcp_hub.services.views import iso

_KEPT = 256
_VERSIONS_SHOWN = 20

_v, _a = model_versions.c, model_aliases.c

# Built once: to build and hash a statement takes longer than to run these.
_HEAD = (
    select(_v.version, _v.deleted_at, _v.tags, _a.alias)
    .select_from(model_versions)
    .outerjoin(model_aliases, and_(_a.name == _v.name, _a.version == _v.version))
    .where(_v.name == bindparam("name"))
    .order_by(_a.alias)
)
_BY_VERSION = _HEAD.where(_v.version == bindparam("version"))
_BY_ALIAS = _HEAD.where(
    _v.version
    == select(_a.version)
    .where(_a.name == bindparam("name"), _a.alias == bindparam("alias"))
    .scalar_subquery()
)
_NEWEST = _HEAD.where(
    _v.version
    == select(func.max(_v.version).label("newest"))
    .where(_v.name == bindparam("name"), _v.deleted_at.is_(None))
    .scalar_subquery()
)
_WHOLE = select(model_versions).where(
    _v.name == bindparam("name"), _v.version == bindparam("version")
)


class Head(NamedTuple):
    """What may change about a version, and which one it is."""

    version: int
    tags: dict[str, str]
    aliases: list[str]


def find_version(connection: Connection, reference: Reference) -> Head:
    """The version that `reference` names, by one statement.

    Raises:
        NotFound: there is no such model, version or alias, or it was deleted.
    """
    if reference.version is not None:
        statement = _BY_VERSION
    else:
        statement = _NEWEST if reference.alias is None else _BY_ALIAS
    parameters = {key: value for key, value in reference._asdict().items() if value is not None}
    rows = connection.execute(statement, parameters).all()
    if not rows:
        raise _absence(connection, reference)
    version, deleted_at, tags, alias = rows[0]
    if deleted_at is not None:
        raise NotFound(f"{reference.name}:{version} was deleted.", restore_hint(reference))
    return Head(version, tags, [row.alias for row in rows] if alias is not None else [])


class VersionReader:
    """Versions by reference. What is immutable about the last ones read is kept in memory."""

    def __init__(self, database: Database) -> None:
        self._current: Remembered[ModelView] = Remembered(database, _KEPT)
        self._kept: dict[tuple[str, int], ModelView] = {}
        self._lock = Lock()

    async def get(self, reference: str) -> ModelView:
        """The version that `reference` names.

        Raises:
            InvalidArgument: it is not a reference.
            NotFound: there is no such model, version or alias, or it was deleted.
        """
        parsed = parse_reference(reference)
        return await self._current.read(parsed, partial(self.read, reference=parsed))

    def read(self, connection: Connection, reference: Reference) -> ModelView:
        """`get`, inside the caller's transaction."""
        head = find_version(connection, reference)
        key = (reference.name, head.version)
        kept = self._recall(key) or self._keep(key, _whole(connection, *key))
        return kept.model_copy(update={"aliases": head.aliases, "tags": head.tags})

    def _recall(self, key: tuple[str, int]) -> ModelView | None:
        with self._lock:
            view = self._kept.pop(key, None)
            if view is not None:
                # Put in last again, so that what goes first is what was read least recently.
                self._kept[key] = view
            return view

    def _keep(self, key: tuple[str, int], view: ModelView) -> ModelView:
        with self._lock:
            self._kept[key] = view
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
            return view


def model_names(connection: Connection) -> list[str]:
    """The models that have a version which is not deleted."""
    live = select(_v.name).where(_v.deleted_at.is_(None)).distinct().order_by(_v.name)
    return list(connection.scalars(live))


def aliases_of(connection: Connection, name: str) -> dict[str, int]:
    """The aliases of a model and the versions they point at."""
    rows = connection.execute(
        select(_a.alias, _a.version).where(_a.name == name).order_by(_a.alias)
    )
    return {row.alias: row.version for row in rows}


def version_states(connection: Connection, name: str) -> dict[int, int | None]:
    """The versions of a model, oldest first, and when each was deleted.

    Raises:
        NotFound: there is no such model.
    """
    rows = connection.execute(
        select(_v.version, _v.deleted_at).where(_v.name == name).order_by(_v.version)
    ).all()
    if not rows:
        raise NotFound(
            f"There is no model {name!r}.", names_hint(name, model_names(connection), "models")
        )
    return {row.version: row.deleted_at for row in rows}


def unknown_version(reference: Reference, states: Mapping[int, int | None]) -> NotFound:
    """The error for a version that is not among `states`, the versions of its model."""
    live = [version for version, deleted_at in states.items() if deleted_at is None]
    shown = ", ".join(str(version) for version in live[-_VERSIONS_SHOWN:])
    hint = f"Its versions: {'…, ' if len(live) > _VERSIONS_SHOWN else ''}{shown}."
    return NotFound(
        f"{reference.name!r} has no version {reference.version}.",
        hint if live else "All its versions were deleted.",
    )


def restore_hint(reference: Reference) -> str:
    """How to bring back what `reference` names."""
    return f"model_delete(model={str(reference)!r}, restore=true) brings it back."


def _whole(connection: Connection, name: str, version: int) -> ModelView:
    row = connection.execute(_WHOLE, {"name": name, "version": version}).one()
    values: dict[str, Any] = dict(row._mapping)
    del values["deleted_at"]
    values["created_at"] = iso(row.created_at)
    return ModelView(model=f"{name}:{version}", aliases=[], **values)


def _absence(connection: Connection, reference: Reference) -> NotFound:
    name = reference.name
    states = version_states(connection, name)
    if reference.alias is not None:
        hint = _alias_hint(connection, reference)
        return NotFound(f"{name!r} has no alias {reference.alias!r}.", hint)
    if reference.version is None:
        return NotFound(f"Every version of {name!r} was deleted.", restore_hint(reference))
    return unknown_version(reference, states)


def _alias_hint(connection: Connection, reference: Reference) -> str:
    if reference.alias == RESERVED_ALIAS:
        return f"The newest version is plain {reference.name!r}."
    known = aliases_of(connection, reference.name)
    return names_hint(reference.alias or "", known, f"aliases of {reference.name!r}")

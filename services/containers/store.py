"""Deployments in the database. Every function runs inside its caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from mcp_hub.adapters.database.containers_schema import (
    container_instances,
    container_revisions,
    containers,
)
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.views import Revision
from mcp_hub.services.views import iso


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment with its revision in force. Times are milliseconds since the epoch."""

    name: str
    revision: int
    enabled: bool
    spec: ContainerSpec
    image_id: str
    weakened: Sequence[str]
    catalog: dict[str, Any]
    """By kind (tools, resources, resourceTemplates, prompts) what the server listed last."""
    approved: dict[str, dict[str, str]]
    """By kind the digest of each name that was approved."""
    failures: int
    error: dict[str, Any] | None
    retry_at: int | None
    updated_at: int
    offers: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False, compare=False)
    """What `catalog.usable` found, which depends on nothing else."""


@dataclass(frozen=True, slots=True)
class NewRevision:
    """A revision about to come into force, with what its server listed when it was tried."""

    spec: ContainerSpec
    image_id: str
    weakened: Sequence[str]
    deployed_by: str
    catalog: dict[str, Any]
    approved: dict[str, dict[str, str]]


# Built once: to build and hash a statement takes longer than to run these.
_ALL = select(
    containers, container_revisions.c.spec, container_revisions.c.image_id,
    container_revisions.c.weakened,
).join(
    container_revisions,
    (container_revisions.c.name == containers.c.name)
    & (container_revisions.c.revision == containers.c.revision),
)  # fmt: skip
_ONE = _ALL.where(containers.c.name == bindparam("name"))


def find(connection: Connection, name: str) -> Deployment | None:
    """The deployment of that name, if there is one."""
    row = connection.execute(_ONE, {"name": name}).one_or_none()
    return _deployment(row) if row is not None else None


def get(connection: Connection, name: str) -> Deployment:
    """The deployment of that name. Raises NotFound with the names that exist."""
    found = find(connection, name)
    if found is None:
        raise NotFound(
            f"There is no container {name!r}.", names_hint(name, names(connection), "containers")
        )
    return found


def page(connection: Connection, after: str = "", limit: int | None = None) -> list[Deployment]:
    """Deployments by name, after one."""
    statement = _ALL.where(containers.c.name > after).order_by(containers.c.name).limit(limit)
    return [_deployment(row) for row in connection.execute(statement)]


def exposed(connection: Connection) -> list[Deployment]:
    """Deployments that are exposed and may run, by name."""
    statement = _ALL.where(
        containers.c.enabled, container_revisions.c.spec["expose"].as_boolean()
    ).order_by(containers.c.name)
    return [_deployment(row) for row in connection.execute(statement)]


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(containers.c.name).order_by(containers.c.name)).scalars())


def add_revision(connection: Connection, new: NewRevision) -> int:
    """Bring a revision into force, under the next number; the one before stays to go back to.

    Numbers of a name that was removed are not used again while one of its containers is left.
    """
    name, now = new.spec.name, now_ms()
    newest = connection.scalar(
        select(func.max(container_revisions.c.revision)).where(container_revisions.c.name == name)
    )
    if newest is None:
        newest = connection.scalar(
            select(func.max(container_instances.c.revision)).where(
                container_instances.c.name == name
            )
        )
    number = (newest or 0) + 1
    values = {
        "revision": number,
        "enabled": True,
        "catalog": new.catalog,
        "approved": new.approved,
        "cataloged_at": now,
        "failures": 0,
        "error": None,
        "retry_at": None,
        "updated_at": now,
    }
    connection.execute(
        insert_for(connection, containers)
        .values(name=name, created_at=now, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )
    connection.execute(
        container_revisions.insert().values(
            name=name,
            revision=number,
            spec=new.spec.model_dump(mode="json"),
            image_id=new.image_id,
            weakened=list(new.weakened),
            deployed_by=new.deployed_by,
            created_at=now,
        )
    )
    return number


def revision(connection: Connection, name: str, number: int) -> tuple[ContainerSpec, str]:
    """A revision's spec and image id.

    Raises:
        NotFound: there is no such deployment or revision.
    """
    get(connection, name)
    row = connection.execute(
        select(container_revisions.c.spec, container_revisions.c.image_id).where(
            container_revisions.c.name == name, container_revisions.c.revision == number
        )
    ).one_or_none()
    if row is None:
        known = [str(one.revision) for one in revisions(connection, name)]
        raise NotFound(
            f"{name} has no revision {number}.", f"It has {', '.join(sorted(known, key=int))}."
        )
    return ContainerSpec.model_validate(row.spec), row.image_id


def revisions(
    connection: Connection, name: str, limit: int = 20, before: int | None = None
) -> list[Revision]:
    """The newest revisions, or the newest `before` one, newest first."""
    statement = (
        select(container_revisions)
        .where(container_revisions.c.name == name)
        .order_by(container_revisions.c.revision.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(container_revisions.c.revision < before)
    return [
        Revision(
            revision=row.revision,
            image=row.spec["image"],
            image_id=row.image_id,
            weakened=row.weakened,
            deployed_by=row.deployed_by,
            created_at=iso(row.created_at) or "",
        )
        for row in connection.execute(statement)
    ]


def enable(connection: Connection, name: str, enabled: bool) -> bool:
    """Say whether it may run; whether that is a change. A start also forgets earlier failures."""
    current = get(connection, name)
    values: dict[str, Any] = {"enabled": enabled, "updated_at": now_ms()}
    if enabled:
        values |= {"failures": 0, "error": None, "retry_at": None}
    connection.execute(update(containers).where(containers.c.name == name).values(**values))
    return current.enabled != enabled


def remove(connection: Connection, name: str) -> None:
    """Forget a deployment and its revisions."""
    connection.execute(delete(container_revisions).where(container_revisions.c.name == name))
    connection.execute(delete(containers).where(containers.c.name == name))


def save_catalog(connection: Connection, name: str, revision: int, catalog: dict[str, Any]) -> bool:
    """Keep what a server of a revision listed, if that is in force; whether it is something new."""
    current = find(connection, name)
    if current is None or current.revision != revision or current.catalog == catalog:
        return False
    connection.execute(
        update(containers)
        .where(containers.c.name == name)
        .values(catalog=catalog, cataloged_at=now_ms())
    )
    return True


def save_approved(connection: Connection, name: str, approved: dict[str, dict[str, str]]) -> None:
    connection.execute(
        update(containers)
        .where(containers.c.name == name)
        .values(approved=approved, updated_at=now_ms())
    )


def instances(connection: Connection, name: str) -> list[dict[str, Any]]:
    """The rows of a deployment's instances, oldest first, as mappings."""
    statement = (
        select(container_instances)
        .where(container_instances.c.name == name)
        .order_by(container_instances.c.created_at, container_instances.c.id)
    )
    return [dict(row._mapping) for row in connection.execute(statement)]


def _deployment(row: Any) -> Deployment:
    return Deployment(
        name=row.name,
        revision=row.revision,
        enabled=row.enabled,
        spec=ContainerSpec.model_validate(row.spec),
        image_id=row.image_id,
        weakened=row.weakened,
        catalog=row.catalog or {},
        approved=row.approved or {},
        failures=row.failures,
        error=row.error,
        retry_at=row.retry_at,
        updated_at=row.updated_at,
    )

"""Instances and holders in the database. Every function runs inside its caller's transaction.

An instance's row is there before its container is made and until after that is removed. Whoever
writes the row holds the instance; only its holder changes it, unless that is dead.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    null,
    or_,
    select,
    update,
)

from mcp_hub.adapters.database.containers_schema import container_holders as holders
from mcp_hub.adapters.database.containers_schema import container_instances as instances
from mcp_hub.adapters.database.containers_schema import (
    container_revisions,
    containers,
    hub_identity,
)
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.touch import touch
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.containers.specs import ContainerSpec

State = Literal["starting", "ready", "stopping"]

_ALIVE = exists().where(holders.c.id == instances.c.holder, holders.c.expires_at > now_ms())
_ABANDONED = or_(instances.c.holder.is_(None), ~_ALIVE)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is in force of a name."""

    name: str
    revision: int
    enabled: bool
    created_at: int
    """Milliseconds; instances that are older are of a deployment that was removed."""
    failures: int = 0
    error: Mapping[str, Any] | None = None
    wait_s: float = 0.0
    """How long until it may be started again, after a start that failed."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A spec that a container can be made from."""

    name: str
    revision: int
    spec: ContainerSpec
    image_id: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A hub process that is alive, and how it is reached."""

    id: str
    address: str
    secret: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A row of container_instances; `holder` is None when it is nobody's or its holder is dead."""

    id: str
    name: str
    revision: int
    slot: int | None
    session: str | None
    state: State
    engine_id: str | None
    server: Mapping[str, Any] | None
    holder: Holder | None
    created_at: int
    used_at: int


@dataclass(frozen=True, slots=True)
class Held:
    """An instance of this process's, and what is in force of its name."""

    instance: Instance
    deployment: Deployment | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call finds of a name."""

    deployment: Deployment | None
    instances: list[Instance]


_DEPLOYMENT = (
    containers.c.name.label("d_name"),
    containers.c.revision.label("d_revision"),
    containers.c.enabled,
    containers.c.created_at.label("d_created_at"),
    containers.c.failures,
    containers.c.error,
    (containers.c.retry_at - now_ms()).label("wait_ms"),
)
_INSTANCE = (
    *instances.c,
    holders.c.id.label("h_id"),
    holders.c.address,
    holders.c.secret,
)
_HOLDER_ALIVE = and_(holders.c.id == instances.c.holder, holders.c.expires_at > now_ms())


def look(connection: Connection, name: str) -> Seen:
    """What is in force of a name, and its instances. One statement."""
    rows = connection.execute(
        select(*_DEPLOYMENT, *_INSTANCE)
        .select_from(
            containers.outerjoin(instances, instances.c.name == containers.c.name).outerjoin(
                holders, _HOLDER_ALIVE
            )
        )
        .where(containers.c.name == name)
    ).all()
    if not rows:
        return Seen(None, [])
    return Seen(_deployment(rows[0]), [_instance(row) for row in rows if row.id is not None])


def everything(connection: Connection) -> tuple[list[Deployment], list[Instance]]:
    """All that is in force, and all instances."""
    deployed = [_deployment(row) for row in connection.execute(select(*_DEPLOYMENT))]
    found = connection.execute(
        select(*_INSTANCE).select_from(instances.outerjoin(holders, _HOLDER_ALIVE))
    )
    return deployed, [_instance(row) for row in found]


def any_work(connection: Connection) -> bool:
    """Whether anything is deployed, or an instance of something left. One statement."""
    there = select(or_(exists(select(containers.c.name)), exists(select(instances.c.id))))
    return bool(connection.execute(there).scalar_one())


def revision_of(connection: Connection, name: str, revision: int) -> Revision | None:
    found = connection.execute(
        select(container_revisions.c.spec, container_revisions.c.image_id).where(
            container_revisions.c.name == name, container_revisions.c.revision == revision
        )
    ).one_or_none()
    if found is None:
        return None
    return Revision(name, revision, ContainerSpec.model_validate(found.spec), found.image_id)


def hub_id(connection: Connection) -> str:
    """What tells this hub's containers from another's on the same engine."""
    connection.execute(
        insert_for(connection, hub_identity)
        .values(only=1, id=secrets.token_hex(6))
        .on_conflict_do_nothing(index_elements=["only"])
    )
    found: str = connection.execute(select(hub_identity.c.id)).scalar_one()
    return found


def claim_slot(
    connection: Connection, deployment: Deployment, slots: int, holder: str
) -> str | None:
    """Add an instance in the first free slot, to be started by `holder`; its id.

    None: what is in force changed, or no slot is free any more.
    """
    if not _is_in_force(connection, deployment):
        return None
    taken = set(
        connection.execute(
            select(instances.c.slot).where(
                instances.c.name == deployment.name,
                instances.c.revision == deployment.revision,
                instances.c.slot.is_not(None),
            )
        ).scalars()
    )
    free = next((slot for slot in range(slots) if slot not in taken), None)
    if free is None:
        return None
    return add(connection, deployment.name, deployment.revision, holder, slot=free)


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """What became of a session's wish for an instance."""

    id: str | None
    """None: what is in force changed, or there are as many sessions as there may be."""
    is_new: bool = False
    """Whether it is to be started by the claimer."""
    is_full: bool = False


def claim_session(
    connection: Connection, deployment: Deployment, session: str, max_sessions: int, holder: str
) -> SessionClaim:
    """Give the session one that waits ready for any, or add one to be started by `holder`."""
    if not _is_in_force(connection, deployment):
        return SessionClaim(None)
    of_revision = (
        instances.c.name == deployment.name,
        instances.c.revision == deployment.revision,
    )
    sessions = connection.execute(
        select(instances.c.id, instances.c.session).where(
            *of_revision, instances.c.session.is_not(None)
        )
    ).all()
    for id_, owner in sessions:
        if owner == session:
            return SessionClaim(id_)
    if len(sessions) >= max_sessions:
        return SessionClaim(None, is_full=True)
    waiting = connection.execute(
        select(instances.c.id)
        .where(*of_revision, instances.c.slot.is_not(None), instances.c.state != "stopping", _ALIVE)
        .order_by(case((instances.c.state == "ready", 0), else_=1), instances.c.slot)
        .limit(1)
    ).scalar()
    if waiting is not None:
        changed = connection.execute(
            update(instances)
            .where(instances.c.id == waiting, instances.c.slot.is_not(None))
            .values(slot=None, session=session, used_at=now_ms())
        ).rowcount
        return SessionClaim(waiting if changed else None)
    return SessionClaim(
        add(connection, deployment.name, deployment.revision, holder, session=session), is_new=True
    )


def add(
    connection: Connection,
    name: str,
    revision: int,
    holder: str,
    *,
    slot: int | None = None,
    session: str | None = None,
) -> str:
    """Add an instance, to be started by `holder`; its id. IntegrityError if its place is taken."""
    id_ = new_id("ci")
    connection.execute(
        instances.insert().values(
            id=id_,
            name=name,
            revision=revision,
            slot=slot,
            session=session,
            state="starting",
            server=null(),
            holder=holder,
            created_at=now_ms(),
            used_at=now_ms(),
        )
    )
    return id_


def mark_ready(
    connection: Connection, id_: str, holder: str, engine_id: str, server: Mapping[str, Any]
) -> bool:
    """Whether it is still this holder's; likewise the functions below. One statement.

    One that is to stop by now stays so: nobody else is to be led to it.
    """
    state = case((instances.c.state == "stopping", "stopping"), else_="ready")
    return _change(connection, id_, holder, state=state, engine_id=engine_id, server=dict(server))


def mark_stopping(connection: Connection, id_: str, holder: str) -> bool:
    """Its place is free from now on. One statement."""
    return _change(connection, id_, holder, state="stopping", slot=None, session=None)


def forget(connection: Connection, id_: str, holder: str) -> bool:
    """Delete the row of a container that is removed. One statement."""
    mine = (instances.c.id == id_, instances.c.holder == holder)
    return connection.execute(delete(instances).where(*mine)).rowcount == 1


def take_over(connection: Connection, id_: str, holder: str) -> bool:
    """Make an instance of a dead holder, or of none, this holder's. One statement."""
    return (
        connection.execute(
            update(instances)
            .where(instances.c.id == id_, _ABANDONED)
            .values(holder=holder, used_at=now_ms())
        ).rowcount
        == 1
    )


def held_by(connection: Connection, holder: str) -> list[Held]:
    """The instances of a holder, and what is in force of their names. One statement."""
    found = connection.execute(
        select(*_DEPLOYMENT, *_INSTANCE)
        .select_from(
            instances.outerjoin(containers, instances.c.name == containers.c.name).outerjoin(
                holders, _HOLDER_ALIVE
            )
        )
        .where(instances.c.holder == holder)
    )
    return [Held(_instance(row), _deployment(row) if row.d_name else None) for row in found]


def find(connection: Connection, id_: str) -> Instance | None:
    """One statement."""
    found = select(*_INSTANCE).select_from(instances.outerjoin(holders, _HOLDER_ALIVE))
    row = connection.execute(found.where(instances.c.id == id_)).one_or_none()
    return None if row is None else _instance(row)


def names(connection: Connection) -> list[str]:
    """All that is deployed. One statement."""
    return list(connection.execute(select(containers.c.name)).scalars())


def of_sessions(connection: Connection) -> list[Instance]:
    """The instances that sessions have to themselves. One statement."""
    found = select(*_INSTANCE).select_from(instances.outerjoin(holders, _HOLDER_ALIVE))
    return [
        _instance(row) for row in connection.execute(found.where(instances.c.session.is_not(None)))
    ]


def _is_in_force(connection: Connection, deployment: Deployment) -> bool:
    """Whether it is as it was seen; what changes it meanwhile comes before or after, not between.

    Likewise other claims of the same name.
    """
    return (
        touch(
            connection,
            containers.c.updated_at,
            containers.c.name == deployment.name,
            containers.c.revision == deployment.revision,
            containers.c.created_at == deployment.created_at,
            containers.c.enabled,
        )
        == 1
    )


def _change(connection: Connection, id_: str, holder: str, **values: Any) -> bool:
    mine: tuple[ColumnElement[bool], ...] = (instances.c.id == id_, instances.c.holder == holder)
    return connection.execute(update(instances).where(*mine).values(**values)).rowcount == 1


def _deployment(row: Any) -> Deployment:
    return Deployment(
        name=row.d_name,
        revision=row.d_revision,
        enabled=row.enabled,
        created_at=row.d_created_at,
        failures=row.failures,
        error=row.error,
        wait_s=max(0, row.wait_ms or 0) / 1000,
    )


def _instance(row: Any) -> Instance:
    return Instance(
        id=row.id,
        name=row.name,
        revision=row.revision,
        slot=row.slot,
        session=row.session,
        state=row.state,
        engine_id=row.engine_id,
        server=row.server,
        holder=Holder(row.h_id, row.address, row.secret) if row.h_id else None,
        created_at=row.created_at,
        used_at=row.used_at,
    )

"""How deployments stand: what the database says of them beside what the engine does."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import anyio
from sqlalchemy import Connection

from mcp_hub.adapters.containers.port import Container, ContainerEngine, Stats
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Conflict, HubError, NotFound, Unavailable
from mcp_hub.services.containers import catalog, store
from mcp_hub.services.containers.exposing import renamed
from mcp_hub.services.containers.instances.labels import INSTANCE, NAME, REVISION, servers_of
from mcp_hub.services.containers.instances.measuring import cpus
from mcp_hub.services.containers.store import Deployment
from mcp_hub.services.containers.views import (
    ContainerStats,
    ContainerSummary,
    ContainerView,
    Instance,
    InstanceStats,
    Revision,
    Status,
)
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.views import Error, Page, iso

NAMES_SHOWN = 100

Rows = Sequence[dict[str, Any]]
Usage = tuple[float, float, int]
"""Of one container: MB, CPUs and processes."""
Looks = dict[str, tuple[Stats, float]]
"""By container, what it had used by an instant of the monotonic clock."""

_MB = 1024 * 1024
_MEASURE_S = 0.2
_RECENT_S = 10.0
_MEASURED = 64


class Showing:
    """Lists and shows deployments. Where the engine does not answer, their status is unknown."""

    def __init__(self, database: Database, engine: ContainerEngine, hub: str) -> None:
        """`hub` is the id by which this hub's containers are told from another's."""
        self._database = database
        self._engine = engine
        self._hub = hub
        self._looks: Looks = {}

    async def list(self, limit: int = 20, cursor: str | None = None) -> Page[ContainerSummary]:
        """Deployments by name.

        Raises:
            InvalidArgument: the limit or the cursor is malformed.
        """
        check_limit(limit)
        after = decode_cursor(cursor, str)[0] if cursor else ""

        def work(connection: Connection) -> list[tuple[Deployment, Rows]]:
            found = store.page(connection, after, limit + 1)
            return [(one, store.instances(connection, one.name)) for one in found]

        found = await self._database.read(work)
        there = await self.containers()
        items = [_summary(one, rows, _of(there, one.name)) for one, rows in found[:limit]]
        more = len(found) > limit
        return Page(items=items, next_cursor=encode_cursor(items[-1].name) if more else None)

    async def names(self, prefix: str = "") -> Sequence[str]:
        """The names of deployments that begin with `prefix`."""
        known = await self._database.read(store.names)
        return [name for name in known if name.startswith(prefix)]

    async def get(self, name: str) -> ContainerView:
        """All of one deployment. Raises NotFound."""

        def work(connection: Connection) -> tuple[Deployment, Rows, list[Any]]:
            found = store.get(connection, name)
            return found, store.instances(connection, name), store.revisions(connection, name)

        deployment, rows, revisions = await self._database.read(work)
        there = await self.containers(name)
        used = await self._used(there or ())
        offers = catalog.offers(deployment)
        return ContainerView(
            **_summary(deployment, rows, there).model_dump(),
            spec=deployment.spec.model_dump(mode="json", exclude_defaults=True),
            failures=deployment.failures,
            retry_at=iso(deployment.retry_at),
            instances=[_instance(row, there, used) for row in rows],
            revisions=revisions,
            tool_names=[offer.name for offer in offers if not offer.quarantined][:NAMES_SHOWN],
            quarantined_tools=catalog.quarantined(deployment)[:NAMES_SHOWN],
            renamed=renamed(deployment),
            note=None if there is not None else "The engine does not answer.",
        )

    async def revisions(
        self, name: str, limit: int = 20, cursor: str | None = None
    ) -> Page[Revision]:
        """Revisions of a deployment, newest first.

        Raises:
            NotFound: there is no such deployment.
            InvalidArgument: the limit or the cursor is malformed.
        """
        check_limit(limit)
        before = decode_cursor(cursor, int)[0] if cursor else None

        def work(connection: Connection) -> Sequence[Revision]:
            store.get(connection, name)
            return store.revisions(connection, name, limit + 1, before)

        found = await self._database.read(work)
        items = [*found[:limit]]
        more = len(found) > limit
        return Page(items=items, next_cursor=encode_cursor(items[-1].revision) if more else None)

    async def stats(self, name: str) -> ContainerStats:
        """What the containers of a deployment that run use now.

        Raises:
            NotFound: there is no such deployment.
            Unavailable: the engine does not answer.
        """
        await self.check(name)
        found = []
        for container in await self._engine.containers({**servers_of(self._hub), NAME: name}):
            if container.status == "running":
                # It may have ended meanwhile.
                with suppress(NotFound, Conflict):
                    found.append(_stats(container, await self._engine.stats(container.id)))
        return ContainerStats(name=name, instances=found)

    async def check(self, name: str) -> None:
        """Raises NotFound if there is no such deployment."""
        await self._database.read(partial(store.get, name=name))

    async def status(self, name: str) -> tuple[Deployment, Status, int]:
        """A deployment, its status, and how many of its containers run. Raises NotFound."""
        deployment, rows = await self._database.read(
            lambda c: (store.get(c, name), store.instances(c, name))
        )
        there = await self.containers(name)
        return deployment, status(deployment, rows, there), _running(there)

    async def containers(self, name: str | None = None) -> Sequence[Container] | None:
        """This hub's containers, or those of one deployment; None if the engine does not answer."""
        labels = {**servers_of(self._hub), **({NAME: name} if name else {})}
        try:
            return await self._engine.containers(labels)
        except Unavailable:
            return None

    async def _used(self, there: Sequence[Container]) -> dict[str, Usage]:
        """What those that run use, by the engine's id: since they were looked at some seconds ago,
        or for a fifth of a second. Of older engines a look takes up to a second."""
        ids = [one.id for one in there if one.status == "running"][:_MEASURED]
        now = monotonic()
        first = {
            id_: look for id_, look in self._looks.items()
            if id_ in ids and _MEASURE_S <= now - look[1] <= _RECENT_S
        }  # fmt: skip
        if new := await self._look([id_ for id_ in ids if id_ not in first]):
            await anyio.sleep(_MEASURE_S)
        first |= new
        second = await self._look(list(first))
        self._looks = {
            id_: look for id_, look in (self._looks | second).items() if look[1] >= now - _RECENT_S
        }  # fmt: skip
        return {
            id_: (look[0].memory / _MB, cpus(first[id_], look), look[0].pids)
            for id_, look in second.items()
        }

    async def _look(self, ids: Sequence[str]) -> Looks:
        found: Looks = {}

        async def ask(id_: str) -> None:
            with suppress(HubError):  # it has just ended
                found[id_] = await self._engine.stats(id_), monotonic()

        async with anyio.create_task_group() as tasks:
            for id_ in ids:
                tasks.start_soon(ask, id_)
        return found


def status(deployment: Deployment, rows: Rows, there: Sequence[Container] | None) -> Status:
    """What a deployment does, in a word."""
    if there is None:
        return "unknown"
    if _running(there):
        ready = any(row["state"] != "starting" for row in rows) or not rows
        return "running" if ready else "starting"
    if not deployment.enabled:
        return "stopped"
    if deployment.failures:
        return "failing"
    kept = deployment.spec.strategy != "on_demand"
    return "starting" if rows or kept else "idle"


def _summary(
    deployment: Deployment, rows: Rows, there: Sequence[Container] | None
) -> ContainerSummary:
    offers = catalog.offers(deployment)
    return ContainerSummary(
        name=deployment.name,
        status=status(deployment, rows, there),
        revision=deployment.revision,
        image=deployment.spec.image,
        strategy=deployment.spec.strategy,
        state=deployment.spec.state,
        running=_running(there),
        tools=sum(not offer.quarantined for offer in offers),
        quarantined=len(catalog.quarantined(deployment)),
        weakened=list(deployment.weakened),
        error=Error(**deployment.error) if deployment.error else None,
    )


def _instance(
    row: dict[str, Any], there: Sequence[Container] | None, used: Mapping[str, Usage]
) -> Instance:
    found = [one for one in there or () if one.labels.get(INSTANCE) == row["id"]]
    memory, cpu, pids = used.get(found[0].id if found else "", (None, None, None))
    return Instance(
        id=row["id"],
        revision=row["revision"],
        state=row["state"],
        engine=_described(found[0]) if found else None,
        session=row["session"] is not None,
        memory_mb=None if memory is None else round(memory, 1),
        cpus=None if cpu is None else round(cpu, 3),
        pids=pids,
        created_at=iso(row["created_at"]) or "",
        used_at=iso(row["used_at"]) or "",
    )


def _stats(container: Container, stats: Stats) -> InstanceStats:
    return InstanceStats(
        instance=container.labels.get(INSTANCE, ""),
        revision=int(container.labels.get(REVISION, 0)),
        memory_bytes=stats.memory,
        memory_limit_bytes=stats.memory_limit,
        pids=stats.pids,
        cpu_s=stats.cpu_s,
        received_bytes=stats.received,
        sent_bytes=stats.sent,
        read_bytes=stats.read,
        written_bytes=stats.written,
    )


def _described(container: Container) -> str:
    code = "" if container.exit_code is None else f" ({container.exit_code})"
    return f"{container.status}{code}{', out of memory' if container.out_of_memory else ''}"


def _of(there: Sequence[Container] | None, name: str) -> Sequence[Container] | None:
    return None if there is None else [one for one in there if one.labels.get(NAME) == name]


def _running(there: Sequence[Container] | None) -> int:
    return sum(one.status == "running" for one in there or ())

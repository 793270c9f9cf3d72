"""What one of the hub's processes does for all: make the engine agree with what is deployed."""

import logging
from collections.abc import Sequence

import anyio
from sqlalchemy.exc import DBAPIError

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.containers.port import Container, ContainerEngine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.egress.networks import Egress
from mcp_hub.services.containers.instances import holders, labels, rows, selecting
from mcp_hub.services.containers.instances.holding import Holder
from mcp_hub.services.containers.instances.reaching import Peers
from mcp_hub.services.containers.instances.revisions import Revisions
from mcp_hub.services.containers.instances.rows import Deployment, Instance
from mcp_hub.services.leading import run_as_leader
from mcp_hub.services.telemetry.own.own import OwnTelemetry

logger = logging.getLogger(__name__)

LEASE = "containers"
TOPIC = "containers://"
"""What the notices begin with that concern containers; a name follows."""

LEADER_LEASE_S = 6.0
EVERY_S = 5.0
_FORGET_HOLDERS_S = 60.0
_LATE_S = 0.02
_OF_INTEREST = frozenset({"die", "destroy", "oom"})
_NOT_NOW = (HubError, DBAPIError)


class Reconciler:
    """Runs in every hub process; one at a time leads. While nothing is deployed it only looks
    whether something is."""

    def __init__(
        self,
        database: Database,
        engine: ContainerEngine,
        bus: Bus,
        holder: Holder,
        peers: Peers,
        revisions: Revisions,
        own: OwnTelemetry,
        *,
        lease_s: float = LEADER_LEASE_S,
    ) -> None:
        """A leader that was killed is followed `lease_s` and a third later at the latest."""
        self._database = database
        self._engine = engine
        self._bus = bus
        self._holder = holder
        self._peers = peers
        self._revisions = revisions
        self._own = own
        self._lease_s = lease_s
        self._woken = anyio.Event()
        self._answers = True

    def wake(self) -> None:
        """Have it look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if await self._database.read(rows.any_work, one_statement=True):
                    await self._holder.enter()
                    async with in_background(self._listen_to_the_hub):
                        await run_as_leader(
                            self._database, LEASE, self._lead, lease_s=self._lease_s
                        )
            except _NOT_NOW as error:
                logger.debug("Whether anything is deployed is not known: %s", error)
            except Exception:  # what fails here begins anew
                logger.exception("Containers are not looked after")
            await self._pause()

    async def _lead(self) -> None:
        """Until nothing is left to be looked after."""
        async with in_background(self._listen_to_the_engine):
            while True:
                wait_s = EVERY_S
                try:
                    found = await self._round()
                    if found is None:
                        return
                    wait_s = found
                except _NOT_NOW as error:
                    logger.warning("Containers cannot be looked after: %s", error)
                except Exception:  # the round ends here, and the next one tries again
                    logger.exception("Containers are not looked after")
                await self._pause(wait_s)

    async def _round(self) -> float | None:
        """Make what is there agree with what is deployed; seconds until the next time, or None
        where there is nothing."""
        means = await self._holder.enter()
        # Before the rows: what is listed has a row by then, or had one.
        listed = await self._listed(means.hub)
        egress = Egress(self._engine, hub=means.hub, image=None)
        with_network = await egress.revisions() if self._answers else set()
        deployed, instances = await self._database.read(rows.everything)
        if not await self._all_live(instances):
            deployed, instances = await self._database.read(rows.everything)
        await self._remove_orphans(listed, instances)
        by_name = {one.name: one for one in deployed}
        for instance in selecting.abandoned(instances):
            await self._holder.take_over(instance, by_name.get(instance.name))
        for deployment in deployed:
            await self._start_missing(deployment, instances)
        used = {(one.name, one.revision) for one in instances}
        used |= {(one.name, one.revision) for one in deployed if one.enabled}
        await egress.remove_unused(with_network, used)
        await self._database.write(
            lambda c: holders.sweep(c, _FORGET_HOLDERS_S), one_statement=True
        )
        if not (deployed or instances or listed or with_network):
            return None
        # What failed to start is tried again when it may be.
        return min([EVERY_S, *(one.wait_s + _LATE_S for one in deployed if one.wait_s > 0)])

    async def _all_live(self, instances: Sequence[Instance]) -> bool:
        """Whether all other holders answer; those of whom nothing is left are noted as dead."""
        others = {
            one.holder.id: one.holder
            for one in instances
            if one.holder is not None and one.holder.id != self._holder.id
        }
        answers: list[bool] = []

        async def ask(holder: rows.Holder) -> None:
            answers.append(await self._peers.answers(holder))

        async with anyio.create_task_group() as tasks:
            for holder in others.values():
                tasks.start_soon(ask, holder)
        return all(answers)

    async def _listed(self, hub: str) -> list[Container]:
        try:
            found = await self._engine.containers(labels.servers_of(hub))
        except Unavailable as error:
            if self._answers:
                logger.warning("Containers that nobody knows are left: %s", error)
            self._answers = False
            return []
        self._answers = True
        return found

    async def _remove_orphans(
        self, listed: Sequence[Container], instances: Sequence[Instance]
    ) -> None:
        ids = {one.id for one in instances}
        for orphan in selecting.orphans(listed, ids, labels.INSTANCE):
            if await self._engine.remove(orphan.id):
                name = orphan.labels.get(labels.NAME, "")
                logger.warning("Removed the container %s, which had no instance", orphan.name)
                self._own.event("container.orphan", {"mcp_hub.container.name": name})

    async def _start_missing(self, deployment: Deployment, instances: Sequence[Instance]) -> None:
        if not deployment.enabled or deployment.wait_s > 0:
            return
        revision = await self._revisions.in_force(deployment)
        if revision is not None:
            for _ in range(selecting.missing(deployment, revision.spec, instances)):
                await self._holder.claim_slot(deployment, revision)

    async def _listen_to_the_hub(self) -> None:
        while True:
            try:
                async with self._bus.subscribe() as topics:
                    async for topic in topics:
                        if topic.startswith(TOPIC):
                            self._holder.wake()
                            self.wake()
            except Unavailable as error:
                logger.debug("Notices on containers are missed: %s", error)
            await anyio.sleep(EVERY_S)

    async def _listen_to_the_engine(self) -> None:
        while True:
            try:
                means = await self._holder.enter()
                async for event in self._engine.events(labels.servers_of(means.hub)):
                    if event.action in _OF_INTEREST:
                        self.wake()
            except HubError as error:
                logger.debug("What happens on the engine is missed: %s", error)
            await anyio.sleep(EVERY_S)

    async def _pause(self, wait_s: float = EVERY_S) -> None:
        with anyio.move_on_after(wait_s):
            await self._woken.wait()
        self._woken = anyio.Event()

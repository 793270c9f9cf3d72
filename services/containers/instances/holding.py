"""This process as a holder: its lease, the instances that it holds, and what becomes of them."""

import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.containers.port import ContainerEngine
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import HubError, Unavailable
from mcp_hub.services.background import Cut, in_background, uncut
from mcp_hub.services.containers.instances import holders, rows
from mcp_hub.services.containers.instances.clearing import clear_away, clear_networks
from mcp_hub.services.containers.instances.means import Configure, Means, Notified
from mcp_hub.services.containers.instances.reaching import Peers
from mcp_hub.services.containers.instances.revisions import Revisions
from mcp_hub.services.containers.instances.rows import Deployment, Instance, Revision, SessionClaim
from mcp_hub.services.containers.instances.running import Running
from mcp_hub.services.containers.instances.selecting import is_current, slots_of
from mcp_hub.services.containers.wire.peers.listening import Listening
from mcp_hub.services.containers.wire.peers.serving import Handler, serve_peers
from mcp_hub.services.telemetry.own.own import OwnTelemetry

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE_S = 10.0
"""Who was killed counts as dead so much later, if nobody noticed before."""
RENEW_S = 3.0
_RESTING_LEASE_S = 60.0
_RESTING_RENEW_S = 20.0
_CLOSE_S = 4.0
LAST_GRACE_S = 1.0
"""What a server has to end by itself where nobody waits for longer."""
_DRAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Ports:
    """What a process needs to hold instances."""

    database: Database
    engine: ContainerEngine
    bus: Bus
    configure: Configure
    own: OwnTelemetry
    notified: Notified
    listen: Callable[[], AbstractAsyncContextManager[Listening]]
    """Where other hub processes reach this one."""
    stats_s: float = 15.0
    """Between two measurements of what a container uses."""


class Holder:
    """Holds instances while `holding` lasts.

    It is entered among the holders when it first holds one, or when there is something deployed
    that it could hold.
    """

    def __init__(self, ports: Ports, revisions: Revisions, peers: Peers, handler: Handler) -> None:
        self.running: dict[str, Running] = {}
        """What this process holds, by the instances' ids."""
        self._ports = ports
        self._revisions = revisions
        self._handler = handler
        self._peers = peers
        self._me: rows.Holder | None = None
        self._means: Means | None = None
        self._entering = anyio.Lock()
        self._tasks: TaskGroup | None = None
        self._claims = 0
        self._clearing: set[str] = set()
        self._counted: dict[str, int] = {}
        self._woken = anyio.Event()
        self._is_closing = False

    @property
    def id(self) -> str | None:
        """What this process is called as a holder; None before it is one."""
        return None if self._me is None else self._me.id

    @property
    def tasks(self) -> TaskGroup:
        """Raises Unavailable unless it is holding."""
        if self._tasks is None or self._is_closing:
            raise _closing()
        return self._tasks

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Hold what is claimed meanwhile; at the end, leave or stop it."""
        begun = anyio.Event()
        async with in_background(partial(self._work, begun)):
            await begun.wait()
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    await self._close()

    async def enter(self) -> Means:
        """Be among the holders. Raises Unavailable."""
        tasks = self.tasks
        async with self._entering:
            if self._means is None:
                database = self._ports.database
                hub = await database.write(rows.hub_id)
                secret = secrets.token_hex(32)
                address: str = await tasks.start(self._listen, secret)
                me = rows.Holder(secrets.token_hex(8), address, secret)
                await database.write(
                    lambda c: holders.enter(c, me, _RESTING_LEASE_S), one_statement=True
                )
                ports = self._ports
                self._means = Means(
                    hub, ports.engine, database, ports.configure, ports.own, ports.notified,
                    self._changed, ports.stats_s,
                )  # fmt: skip
                self._me = me
        return self._means

    async def claim_slot(self, deployment: Deployment, revision: Revision) -> Running | None:
        """Begin one of those that are shared or wait; None if another process was faster."""
        slots = max(1, slots_of(revision.spec))

        def claim(connection: Connection, holder: str) -> Instance | None:
            id_ = rows.claim_slot(connection, deployment, slots, holder)
            return None if id_ is None else rows.find(connection, id_)

        async def begin() -> Running | None:
            instance = await self._claim(claim)
            return None if instance is None else self._begin(instance, revision)

        return await self._apart(begin)

    async def claim_session(
        self, deployment: Deployment, revision: Revision, session: str
    ) -> SessionClaim:
        """Have one for a session: one that waits, or one that is begun."""
        most = revision.spec.max_sessions

        def claim(connection: Connection, holder: str) -> tuple[SessionClaim, Instance | None]:
            got = rows.claim_session(connection, deployment, session, most, holder)
            return got, rows.find(connection, got.id) if got.id else None

        async def begin() -> SessionClaim:
            got, instance = await self._claim(claim)
            if instance is not None and got.is_new:
                self._begin(instance, revision)
            elif instance is not None and instance.id in self.running:
                self.running[instance.id].saw(instance)
            return got

        return await self._apart(begin)

    async def begin_trial(self, revision: Revision) -> Running:
        """Begin one that is not in force and is nobody's but the caller's, who stops it."""

        def add(connection: Connection, holder: str) -> Instance | None:
            id_ = rows.add(connection, revision.name, revision.revision, holder)
            return rows.find(connection, id_)

        async def begin() -> Running:
            instance = await self._claim(add)
            assert instance is not None
            return self._begin(instance, revision, is_trial=True)

        return await self._apart(begin)

    async def take_over(self, instance: Instance, deployment: Deployment | None) -> bool:
        """Go on with what nobody holds, if it is ready and in force; else clear it away.

        False if another process was faster.
        """

        def take(connection: Connection, holder: str) -> bool:
            return rows.take_over(connection, instance.id, holder)

        async def begin() -> bool:
            taken = await self._claim(take)
            if taken:
                await self._adopt(instance, deployment)
            return taken

        return await self._apart(begin)

    def wake(self) -> None:
        """Have it look at once whether what it holds is still in force."""
        self._woken.set()

    async def _work(self, begun: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._peers.run)
            tasks.start_soon(self._keep)
            begun.set()

    async def _listen(
        self, secret: str, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._ports.listen() as listening:
            task_status.started(listening.address)
            try:
                await serve_peers(listening, secret, self._handler)
            except Exception:  # others find nobody, take it for dead, and follow it
                logger.exception("This hub process can be reached by others no more")

    async def _claim(self, work: Callable[[Connection, str], T]) -> T:
        """Change rows as a holder whose lease is a short one."""
        await self.enter()
        assert self._me is not None
        me = self._me.id

        def claim(connection: Connection) -> T:
            if not holders.renew(connection, me, LEASE_S, ()):
                raise Unavailable("This hub process was taken for dead.", "Call again.")
            return work(connection, me)

        self._claims += 1
        try:
            return await self._ports.database.write(claim)
        finally:
            self._claims -= 1

    async def _apart(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await uncut(self.tasks, work)
        except Cut:
            raise _closing() from None

    def _begin(self, instance: Instance, revision: Revision, *, is_trial: bool = False) -> Running:
        assert self._means is not None
        assert self._me is not None
        tasks = self.tasks
        running = Running(self._means, self._me.id, instance, revision, is_trial=is_trial)
        self.running[instance.id] = running
        tasks.start_soon(self._live, running)
        # The next renewal is due sooner than that of one that holds nothing.
        self.wake()
        return running

    async def _live(self, running: Running) -> None:
        try:
            await running.run()
        except Exception:  # what runs ends here, and is looked at again when it is found
            logger.exception("The instance %s failed", running.instance.id)
        finally:
            if self.running.get(running.instance.id) is running:
                del self.running[running.instance.id]
            self._changed(running.instance.name)

    async def _adopt(self, instance: Instance, deployment: Deployment | None) -> None:
        """Go on with an instance that is this process's by its row alone."""
        revision = None
        if instance.state == "ready" and is_current(deployment, instance):
            assert deployment is not None
            revision = await self._revisions.in_force(deployment)
        if revision is not None:
            self._begin(instance, revision)
        else:
            self.tasks.start_soon(self._clear, instance)
            self._clearing.add(instance.id)

    async def _clear(self, instance: Instance) -> None:
        assert self._means is not None
        assert self._me is not None
        grace_s = LAST_GRACE_S if instance.state == "ready" else None
        try:
            await clear_away(self._means, self._me.id, instance.id, grace_s=grace_s)
        except Exception:  # the job ends here, and is done again when the row is found
            logger.exception("The instance %s could not be cleared away", instance.id)
        finally:
            self._clearing.discard(instance.id)

    async def _keep(self) -> None:
        """Renew the lease, and see what became of what is held."""
        due = monotonic()
        while True:
            with anyio.move_on_after(max(0.0, due - monotonic())):
                await self._woken.wait()
            self._woken = anyio.Event()
            try:
                if self._me is not None:
                    if monotonic() >= due - RENEW_S / 2 or self.running:
                        await self._renew(self._me)
                    await self._look()
            except (HubError, DBAPIError) as error:
                logger.warning("What this process holds cannot be looked after: %s", error)
            except Exception:  # the round ends here, and the next one tries again
                logger.exception("What this process holds is not looked after")
            is_holding = bool(self.running or self._clearing)
            due = monotonic() + (RENEW_S if is_holding else _RESTING_RENEW_S)

    async def _renew(self, me: rows.Holder) -> None:
        counts = {
            id_: one.answering.count + one.answering.in_flight for id_, one in self.running.items()
        }
        used = [id_ for id_, count in counts.items() if count != self._counted.get(id_)]
        lease_s = LEASE_S if self.running or self._clearing else _RESTING_LEASE_S
        alive = await self._ports.database.write(lambda c: holders.renew(c, me.id, lease_s, used))
        self._counted = counts
        if not alive:
            logger.warning("This hub process was taken for dead by another")
            for running in self.running.values():
                running.let_go()
            again = rows.Holder(secrets.token_hex(8), me.address, me.secret)
            await self._ports.database.write(
                lambda c: holders.enter(c, again, LEASE_S), one_statement=True
            )
            self._me = again

    async def _look(self) -> None:
        """Compare what is held with the rows: whoever is away for long is no holder any more."""
        assert self._me is not None
        me, before = self._me.id, dict(self.running)
        held = await self._ports.database.read(lambda c: rows.held_by(c, me), one_statement=True)
        mine = {one.instance.id for one in held}
        for id_, running in before.items():
            if id_ not in mine:
                running.let_go()
        for one in held:
            running_one = self.running.get(one.instance.id)
            if running_one is not None:
                self._check(running_one, one.instance, one.deployment)
            elif not self._claims and one.instance.id not in self._clearing | before.keys():
                await self._adopt(one.instance, one.deployment)

    def _check(self, running: Running, instance: Instance, deployment: Deployment | None) -> None:
        running.saw(instance)
        if running.is_trial or is_current(deployment, instance):
            return
        if deployment is None:
            running.stop("it was removed", None)
        elif not deployment.enabled:
            hint = f"container_start({instance.name!r}) lets it run again."
            running.stop("it is not to run", hint, drain=True)
        else:
            running.stop("another revision is in force", drain=True)

    def _changed(self, name: str) -> None:
        if self._tasks is not None and not self._is_closing:
            self._tasks.start_soon(self._ports.bus.publish, f"containers://{name}")

    async def _close(self) -> None:
        """Leave what others can go on with; without others, only what is to run always."""
        self._is_closing = True
        me = self._me
        if me is None:
            return
        has_others = await self._has_others(me)
        left, stopped = self._parted(has_others)
        for running in stopped:
            running.stop("its hub process ended", grace_s=LAST_GRACE_S)
        for running in left:
            running.answering.is_closing = True
        with anyio.move_on_after(_DRAIN_S):
            for running in left:
                await running.answering.quiet()
        for running in left:
            running.let_go()
        with anyio.move_on_after(_CLOSE_S):
            for running in [*left, *stopped]:
                await running.removed.wait()
        await self._leave(me, [running.instance.id for running in left])
        if not has_others:
            await self._clear_networks()

    def _parted(self, has_others: bool) -> tuple[list[Running], list[Running]]:
        """What of the running is to be left, and what stopped."""
        running = list(self.running.values())
        left = [
            one
            for one in running
            if one.is_ready
            and not (one.is_trial or one.is_ending)
            and (has_others or _runs_always(one))
        ]
        return left, [one for one in running if one not in left]

    async def _clear_networks(self) -> None:
        """Remove the gates that waited for further starts: they would run on with nobody there."""
        assert self._means is not None
        try:
            with anyio.move_on_after(_CLOSE_S):
                await clear_networks(self._means)
        except (HubError, DBAPIError) as error:
            logger.debug("Networks are left to be found: %s", error)

    async def _has_others(self, me: rows.Holder) -> bool:
        """Whether another hub process answers that could go on with what this one holds."""
        with anyio.move_on_after(_CLOSE_S):
            return await self._peers.any_answers(me.id)
        return False

    async def _leave(self, me: rows.Holder, left: Collection[str]) -> None:
        def leave(connection: Connection) -> None:
            holders.release(connection, left, me.id)
            holders.bury(connection, me.id)

        try:
            with anyio.move_on_after(_CLOSE_S):
                await self._ports.database.write(leave)
                if left:
                    await self._ports.bus.publish("containers://")
        except (HubError, DBAPIError) as error:
            logger.debug("What this process held is left to be found: %s", error)


def _closing() -> Unavailable:
    return Unavailable("This hub process is closing.", "Call again.")


def _runs_always(running: Running) -> bool:
    return running.revision.spec.strategy == "always_on" and running.instance.slot is not None

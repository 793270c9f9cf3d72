"""Requests to deployments, whichever hub process holds the container that answers."""

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import anyio

from mcp_hub.adapters.containers.port import Container, Image
from mcp_hub.adapters.errors import (
    Conflict,
    HubError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Unavailable,
    error_of,
    names_hint,
)
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.instances import labels, rows
from mcp_hub.services.containers.instances.answering import Gone
from mcp_hub.services.containers.instances.holding import LAST_GRACE_S, Holder, Ports
from mcp_hub.services.containers.instances.reaching import PING, Peers
from mcp_hub.services.containers.instances.reconciling import LEADER_LEASE_S, Reconciler
from mcp_hub.services.containers.instances.revisions import Revisions
from mcp_hub.services.containers.instances.rows import Deployment, Instance, Revision, Seen
from mcp_hub.services.containers.instances.running import Running
from mcp_hub.services.containers.instances.selecting import Claim, TakeOver, Use, select
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.wire.calls import Caller
from mcp_hub.services.containers.wire.peers.client import PeerGone, PeerLost
from mcp_hub.services.containers.wire.peers.serving import PeerRequest
from mcp_hub.services.containers.wire.sessions import ServerInfo
from mcp_hub.services.telemetry.own.tracing import current, parse_traceparent, within

logger = logging.getLogger(__name__)

_REQUEST, _READY, _STOP = "request", "ready", "stop"
_GONE = {"gone": True}
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2)
_SEARCH_S = 30.0
"""How long a call looks for an instance while each that it finds is just ending."""
_STOP_S = 10.0
_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """An instance, and how the engine sees its container; None if it sees none."""

    instance: Instance
    container: Container | None


class Trial:
    """A server that was started to see what it is."""

    def __init__(self, running: Running, server: ServerInfo, timeout_s: float) -> None:
        self.server = server
        self._running = running
        self._timeout_s = timeout_s

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """As the server declared them."""
        return self.server.capabilities

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """As `Instances.request`."""
        answering = self._running.answering
        try:
            return await answering.request(method, params, caller=None, timeout_s=self._timeout_s)
        except Gone:
            raise Unavailable("The server that was tried has ended.") from None


class Instances:
    """The instances of all that is deployed, as one hub process uses and keeps them.

    Nothing works outside of `running`.
    """

    def __init__(self, ports: Ports, *, leader_lease_s: float = LEADER_LEASE_S) -> None:
        self._database = ports.database
        self._engine = ports.engine
        self._revisions = Revisions(ports.database)
        self._peers = Peers(ports.database)
        self._holder = Holder(ports, self._revisions, self._peers, self._serve)
        self._reconciler = Reconciler(
            ports.database, ports.engine, ports.bus, self._holder, self._peers, self._revisions,
            ports.own, lease_s=leader_lease_s,
        )  # fmt: skip
        self._calls: Counter[str] = Counter()
        self._claiming: dict[tuple[str, str | None], anyio.Lock] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold, keep and reconcile in the background while the context lasts.

        At its end, what is ready is left for other hub processes. If none answers, only what is
        `always_on` is left, for the next one; all else is stopped.
        """
        async with self._holder.holding(), in_background(self._reconciler.run):
            yield

    def changed(self) -> None:
        """Something is deployed, enabled, disabled or removed: look at once."""
        self._holder.wake()
        self._reconciler.wake()

    async def request(
        self,
        name: str,
        session: str | None,
        method: str,
        params: Mapping[str, Any],
        caller: Caller | None,
        timeout_s: float,
        *,
        traceparent: str | None = None,
        is_repeatable: bool | None = None,
        revision: int | None = None,
    ) -> dict[str, Any]:
        """A server's raw result, from an instance that is started if there is none.

        Args:
            session: Whose instance it is to be, where the state is per session.
            timeout_s: For the server to answer, once it is ready: how long it may take to start
                is in its spec.
            is_repeatable: Whether the request may be made again after it was cut off by the end of
                the process that held the instance; by default, unless it calls a tool.
            revision: What the caller has just seen in force: if this process holds the one instance
                of it that is to answer, nothing is looked up.

        Raises:
            NotFound: nothing of the name is deployed.
            Conflict: it is not to run.
            InvalidArgument: its state is per session, and no session is given.
            LimitExceeded: there are as many sessions as there may be.
            Unavailable, TimedOut, InvalidArgument, NotFound, Denied: it could not be started.
            Unavailable: it ended, and may have done what it was asked; with why, and the last
                lines of its standard error.
            TimedOut: it did not answer in time.
            RpcError: it answered with an error.
        """
        work = {"method": method, "params": dict(params), "timeout_s": timeout_s}
        repeatable = method != "tools/call" if is_repeatable is None else is_repeatable
        with within(parse_traceparent(traceparent) or current()):
            if revision is not None and (only := self._only(name, revision, session)):
                with suppress(Gone), self._counted(only.instance):
                    return await self._do(only, _REQUEST, work, caller)
            return await self._ask(name, session, _REQUEST, work, caller, timeout_s, repeatable)

    async def server_info(self, name: str, session: str | None = None) -> ServerInfo:
        """What a server said of itself; it is started if it does not run. Raises as `request`."""
        found = await self._ask(name, session, _READY, {}, None, _MARGIN_S, repeatable=True)
        return ServerInfo.from_dict(found)

    async def end_sessions(self, sessions: Collection[str], *, is_last: bool = False) -> None:
        """Remove what sessions had to themselves; servers have less time to end by themselves where
        this is the last that the process does. Raises Unavailable."""
        found = await self._database.read(rows.of_sessions, one_statement=True)
        own = self._holder.running
        for instance in sorted(found, key=lambda one: one.id not in own):
            if instance.session not in sessions:
                continue
            if instance.id in own:
                grace_s = LAST_GRACE_S if is_last else math.inf
                own[instance.id].stop("its session ended", grace_s=grace_s)
                continue
            try:
                await self._end_elsewhere(instance)
            except HubError as error:
                logger.warning("%s is left until it is idle: %s", instance.id, error)

    async def describe(self, name: str) -> list[InstanceStatus]:
        """The instances of a name, oldest first, each as the engine sees it now.

        Raises:
            Unavailable: the engine, or the database, does not answer.
        """
        seen = await self._look(name)
        hub = await self._database.write(rows.hub_id)
        found = []
        for instance in sorted(seen.instances, key=lambda one: (one.created_at, one.id)):
            try:
                container = await self._engine.inspect(labels.engine_name(hub, instance.id))
            except NotFound:
                container = None
            found.append(InstanceStatus(instance, container))
        return found

    @asynccontextmanager
    async def trial(self, spec: ContainerSpec, image: Image) -> AsyncIterator[Trial]:
        """Start a server that is not in force, for the caller alone; nothing of it is left.

        Raises:
            HubError: it could not be started; with the last lines of its standard error.
        """
        # The revision that none is in force with: whoever finds one left behind clears it away.
        running = await self._holder.begin_trial(Revision(spec.name, 0, spec, image.id))
        try:
            session = await running.answering.ready()
            yield Trial(running, session.server, spec.call_timeout_s)
        except Gone:
            raise Unavailable("The server that was tried has ended.", "Try again.") from None
        finally:
            running.stop("it was only tried", grace_s=LAST_GRACE_S)
            with anyio.CancelScope(shield=True):
                await running.removed.wait()

    async def _ask(
        self,
        name: str,
        session: str | None,
        op: str,
        work: dict[str, Any],
        caller: Caller | None,
        timeout_s: float,
        repeatable: bool,
    ) -> dict[str, Any]:
        tries, until = 0, monotonic() + _SEARCH_S
        while True:
            revision, instance = await self._instance(name, session)
            if instance is not None:
                began = monotonic()
                try:
                    with self._counted(instance):
                        return await self._at(instance, revision, op, work, caller, timeout_s)
                except (Gone, PeerGone):
                    pass
                except PeerLost:
                    if not repeatable:
                        raise
                # Time that was waited for another's start is none that was searched.
                until += monotonic() - began
            if monotonic() > until:
                raise Unavailable(
                    f"No container of {name!r} could be had for {_SEARCH_S:g} s: each that was "
                    "found was just ending.",
                    "See its logs; or call again.",
                )
            await anyio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1

    @contextmanager
    def _counted(self, instance: Instance) -> Iterator[None]:
        self._calls[instance.id] += 1
        try:
            yield
        finally:
            self._calls[instance.id] -= 1
            if not self._calls[instance.id]:
                del self._calls[instance.id]

    def _only(self, name: str, revision: int, session: str | None) -> Running | None:
        """What answers a session whatever the rows say; None unless this process holds it."""
        for running in self._holder.running.values():
            spec, one = running.revision.spec, running.instance
            if (one.name, one.revision) != (name, revision) or not running.is_ready:
                continue
            is_only = spec.replicas == 1 if spec.state == "shared" else session is not None
            if is_only and one.session == (None if spec.state == "shared" else session):
                return None if running.is_closing or running.is_trial else running
        return None

    async def _instance(self, name: str, session: str | None) -> tuple[Revision, Instance | None]:
        """What is to be asked; None where that is to be looked for again."""
        seen = await self._look(name)
        deployment = await self._checked(name, seen)
        revision = await self._revisions.in_force(deployment)
        if revision is None:
            raise NotFound(f"The container {name!r} was removed meanwhile.")
        key = _key_of(revision.spec, session)
        match self._choose(deployment, revision, seen, key):
            case Use(instance):
                return revision, instance
            case TakeOver(instance):
                await self._holder.take_over(instance, deployment)
                return revision, None
        # Of many calls of this process that find none, one has it made, and the others wait.
        lock = self._claiming.setdefault((name, key), anyio.Lock())
        try:
            async with lock:
                seen = await self._look(name)
                choice = self._choose(deployment, revision, seen, key)
                if seen.deployment == deployment and isinstance(choice, Claim):
                    _check_may_start(deployment)
                    await self._claim(deployment, revision, key)
        finally:
            if not lock.statistics().tasks_waiting:
                self._claiming.pop((name, key), None)
        return revision, None

    def _choose(
        self, deployment: Deployment, revision: Revision, seen: Seen, key: str | None
    ) -> Use | TakeOver | Claim:
        return select(
            deployment, revision.spec, seen.instances, session=key, here=self._holder.id,
            calls=self._calls,
        )  # fmt: skip

    async def _claim(self, deployment: Deployment, revision: Revision, key: str | None) -> None:
        if key is None:
            await self._holder.claim_slot(deployment, revision)
            return
        claim = await self._holder.claim_session(deployment, revision, key)
        if claim.is_full:
            most = revision.spec.max_sessions
            raise LimitExceeded(
                f"{deployment.name!r} has {most} sessions, as many as it may have.",
                "Wait until one is idle for long enough, or deploy it with larger max_sessions.",
            )
        if not claim.is_new:
            self._reconciler.wake()

    async def _at(
        self,
        instance: Instance,
        revision: Revision,
        op: str,
        work: dict[str, Any],
        caller: Caller | None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Have an instance asked by its holder. Raises Gone, PeerGone: it did not get it."""
        if instance.id in self._holder.running:
            return await self._do(self._holder.running[instance.id], op, work, caller)
        if instance.holder is None or instance.holder.id == self._holder.id:
            raise Gone
        answer = await self._peers.request(
            instance.holder,
            op,
            {"instance": instance.id, **work},
            caller=caller,
            timeout_s=timeout_s + revision.spec.start_timeout_s + _MARGIN_S,
        )
        if answer == _GONE:
            raise Gone
        result: dict[str, Any] = answer["result"]
        return result

    async def _do(
        self, running: Running, op: str, work: Mapping[str, Any], caller: Caller | None
    ) -> dict[str, Any]:
        if op == _READY:
            return (await running.answering.ready()).server.as_dict()
        return await running.answering.request(
            work["method"], work["params"], caller=caller, timeout_s=work["timeout_s"]
        )

    async def _serve(self, request: PeerRequest, caller: Caller) -> dict[str, Any]:
        """Do what another hub process asks."""
        if request.op == PING:
            return {}
        running = self._holder.running.get(str(request.params.get("instance")))
        if running is None:
            return _GONE
        if request.op == _STOP:
            running.stop("its session ended")
            return {}
        try:
            return {"result": await self._do(running, request.op, request.params, caller)}
        except Gone:
            return _GONE

    async def _end_elsewhere(self, instance: Instance) -> None:
        if instance.holder is None:
            await self._holder.take_over(instance, None)
            return
        try:
            await self._peers.request(
                instance.holder, _STOP, {"instance": instance.id}, timeout_s=_STOP_S
            )
        except PeerGone:
            await self._holder.take_over(instance, None)

    async def _look(self, name: str) -> Seen:
        return await self._database.read(partial(rows.look, name=name), one_statement=True)

    async def _checked(self, name: str, seen: Seen) -> Deployment:
        if seen.deployment is None:
            names = await self._database.read(rows.names, one_statement=True)
            raise NotFound(
                f"There is no container {name!r}.", names_hint(name, names, "containers")
            )
        if not seen.deployment.enabled:
            raise Conflict(
                f"The container {name!r} is stopped.",
                f"container_start({name!r}) lets it run again.",
            )
        return seen.deployment


def _key_of(spec: ContainerSpec, session: str | None) -> str | None:
    if spec.state == "shared":
        return None
    if session is None:
        raise InvalidArgument(
            f"{spec.name!r} keeps its state per session, and no session is given.",
            "Give session, any text of your own, and the same again in the calls that belong "
            "together.",
        )
    return session


def _check_may_start(deployment: Deployment) -> None:
    """Raises why the last start failed, while the next one has to wait."""
    if deployment.wait_s <= 0 or deployment.error is None:
        return
    error = deployment.error
    when = f"It is not started again for {deployment.wait_s:.0f} s."
    hint = f"{error['hint']}\n{when}" if error.get("hint") else when
    found: HubError = error_of(error["code"], error["message"], hint)
    raise found

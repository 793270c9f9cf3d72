"""Deployments: made, changed, taken back, started, stopped and removed."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.containers.port import Image, Mount
from mcp_hub.adapters.database.port import Database
from mcp_hub.services.containers import catalog, policy, store
from mcp_hub.services.containers.announcing import announce
from mcp_hub.services.containers.exposing import renamed
from mcp_hub.services.containers.images import Images, OnProgress
from mcp_hub.services.containers.mounting import Mounts, check_apart
from mcp_hub.services.containers.policy import Limits
from mcp_hub.services.containers.secrets import Secrets
from mcp_hub.services.containers.showing import NAMES_SHOWN, Showing
from mcp_hub.services.containers.specs import ContainerSpec
from mcp_hub.services.containers.store import Deployment, NewRevision
from mcp_hub.services.containers.views import Deployed, Removed, Switched
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry

_POLL_S = 0.05
_MARGIN_S = 10.0
"""What a container's end may take beyond its grace."""


class Tried(Protocol):
    """A server that was started to see what it is."""

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """As it declared them."""
        ...

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]: ...


Prober = Callable[[ContainerSpec, Image], AbstractAsyncContextManager[Tried]]
"""Starts a container of a spec and speaks with its server, while the context lasts; nothing of it
is left afterwards. What it raises where that fails has the last lines of standard error."""


async def untold(line: str) -> None:
    """Progress that nobody asked for."""


class Deploying:
    """Brings revisions of deployments into force. All methods may be called from any process."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        *,
        images: Images,
        secrets: Secrets,
        mounts: Mounts,
        limits: Limits,
        prober: Prober,
        showing: Showing,
        changed: Callable[[], None],
        own: OwnTelemetry = SILENT,
    ) -> None:
        self._database = database
        self._bus = bus
        self._images = images
        self._secrets = secrets
        self._mounts = mounts
        self._limits = limits
        self._prober = prober
        self._showing = showing
        self._changed = changed
        self._own = own

    async def check(self, said: Mapping[str, Any], *, admin: bool) -> ContainerSpec:
        """The spec that a caller says, if it could be deployed as far as the hub knows without
        its image.

        Raises:
            InvalidArgument: it is no spec.
            Denied: nobody may have what it asks for, or only an `admin`.
            LimitExceeded: it asks for more than the operator allows.
            NotFound: there is no such secret, or no such path to mount.
        """
        spec = policy.parse_spec(said)
        policy.check(spec, self._limits, admin=admin)
        self._secrets.check(spec.secrets.values())
        mounts = await to_thread.run_sync(self._mounts.resolve, spec.volumes)
        check_apart(mounts, await self._mounted(but=spec.name))
        return spec

    async def deploy(
        self, said: Mapping[str, Any], *, by: str, admin: bool, told: OnProgress = untold
    ) -> Deployed:
        """Bring a deployment into force; what is in force already is left as it is.

        Its image is pulled where the policy says so, and its server started once to list what it
        offers, which is thereby approved. Calls of the revision before end as they began.

        Raises:
            as `check`; and where no container can be started, or its server speaks no MCP, the
            reason with the last lines of its standard error. The revision before stays in force.
        """
        spec = await self.check(said, admin=admin)
        image = await self._images.resolve(spec, told)
        return await self._bring(spec, image, by, told)

    async def roll_back(
        self, name: str, revision: int, *, by: str, admin: bool, told: OnProgress = untold
    ) -> Deployed:
        """Bring an earlier revision into force again, of the very image that it had.

        Raises:
            NotFound: there is no such revision, or its image is gone; else as `deploy`.
        """
        spec, image_id = await self._database.read(
            partial(store.revision, name=name, number=revision)
        )
        await self.check(spec.model_dump(), admin=admin)
        return await self._bring(spec, await self._images.by_id(image_id), by, told)

    async def start(self, name: str) -> Switched:
        """Let it run again, forgetting that it failed. Raises NotFound."""
        if await self._database.write(partial(store.enable, name=name, enabled=True)):
            self._own.event("container.enabled", {"mcp_hub.container.name": name})
        await self._publish(name, exposed=await self._is_exposed(name))
        return await self._switched(name)

    async def stop(self, name: str) -> Switched:
        """Let it run no more; returns once none of its containers is left, or soon after its grace,
        while calls that are in flight are still answered.

        Raises:
            NotFound: there is no such deployment.
        """
        if await self._database.write(partial(store.enable, name=name, enabled=False)):
            self._own.event("container.disabled", {"mcp_hub.container.name": name})
        await self._publish(name, exposed=await self._is_exposed(name))
        ended = await self._ended(name)
        note = (
            None if ended else "Its last containers end once they have answered what is in flight."
        )
        return (await self._switched(name)).model_copy(update={"note": note})

    async def remove(self, name: str) -> Removed:
        """Stop it, and forget it with its revisions; calls in flight have until soon after its
        grace. Raises NotFound."""
        await self._database.write(partial(store.enable, name=name, enabled=False))
        await self._publish(name, exposed=await self._is_exposed(name))
        ended = await self._ended(name)
        await self._database.write(partial(store.remove, name=name))
        self._own.event("container.removed", {"mcp_hub.container.name": name})
        await self._publish(name, listed=True)
        note = None if ended else "Its last containers are still being removed."
        return Removed(name=name, removed=True, note=note)

    async def _bring(
        self, spec: ContainerSpec, image: Image, by: str, told: OnProgress
    ) -> Deployed:
        current = await self._database.read(partial(store.find, name=spec.name))
        if current is not None and _is(current, spec, image):
            if not current.enabled:
                await self.start(spec.name)
            return await self._deployed(spec.name, changed=False)
        await told(f"Starting {spec.name} once to list its tools")
        async with self._prober(spec, image) as server:
            listed = await catalog.listed(server.request, server.capabilities)
        new = NewRevision(
            spec, image.id, policy.weakened(spec), by, listed, catalog.digests(listed)
        )
        revision = await self._database.write(partial(_add, new=new))
        self._record(new, revision)
        exposed = spec.expose or (current is not None and current.spec.expose)
        await self._publish(spec.name, exposed=exposed, listed=current is None)
        return await self._deployed(spec.name, changed=True)

    def _record(self, new: NewRevision, revision: int) -> None:
        about = {"mcp_hub.container.name": new.spec.name, "mcp_hub.container.revision": revision}
        self._own.event("container.deployed", about)
        if new.weakened:
            ways = ", ".join(new.weakened)
            self._own.event("container.weakened", about | {"mcp_hub.container.weakened": ways})

    async def _deployed(self, name: str, *, changed: bool) -> Deployed:
        deployment, status, _ = await self._showing.status(name)
        tools = [offer.name for offer in catalog.offers(deployment)]
        return Deployed(
            name=name,
            revision=deployment.revision,
            changed=changed,
            status=status,
            image=deployment.image_id,
            tools=tools[:NAMES_SHOWN],
            omitted_tools=max(0, len(tools) - NAMES_SHOWN),
            prompts=len(deployment.catalog.get("prompts", ())),
            resources=len(deployment.catalog.get("resources", ())),
            weakened=list(deployment.weakened),
            renamed=renamed(deployment),
        )

    async def _is_exposed(self, name: str) -> bool:
        return (await self._database.read(partial(store.get, name=name))).spec.expose

    async def _switched(self, name: str) -> Switched:
        deployment, status, running = await self._showing.status(name)
        return Switched(
            name=name,
            enabled=deployment.enabled,
            revision=deployment.revision,
            status=status,
            running=running,
        )

    async def _mounted(self, but: str) -> list[Mount]:
        """What the other deployments mount, as far as it is still there."""
        others = await self._database.read(store.page)
        return [
            mount
            for other in others
            if other.name != but
            for mount in await to_thread.run_sync(self._mounts.remaining, other.spec.volumes)
        ]

    async def _ended(self, name: str) -> bool:
        """Wait until no container of a deployment is left; False if that takes too long."""
        deployment = await self._database.read(partial(store.get, name=name))
        with anyio.move_on_after(deployment.spec.stop_grace_s + _MARGIN_S):
            while True:
                if not await self._database.read(partial(store.instances, name=name)):
                    return True
                await anyio.sleep(_POLL_S)
        return False

    async def _publish(self, name: str, *, exposed: bool = False, listed: bool = False) -> None:
        """Wake who makes the engine agree, and tell who watches the deployment."""
        self._changed()
        await announce(self._bus, name, exposed=exposed, listed=listed)


def _is(deployment: Deployment, spec: ContainerSpec, image: Image) -> bool:
    return deployment.spec == spec and deployment.image_id == image.id


def _add(connection: Connection, new: NewRevision) -> int:
    """Add the revision, unless another process has just brought the same into force."""
    current = store.find(connection, new.spec.name)
    same = current is not None and (current.spec, current.image_id) == (new.spec, new.image_id)
    if current is not None and same:
        return current.revision
    return store.add_revision(connection, new)

"""The containers' part of the composition: an engine, what runs on it, and what is told of it."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from mcp_hub.adapters.embedder.port import Embedder
from mcp_hub.adapters.errors import Denied, HubError, Unavailable
from mcp_hub.server.adapters import Adapters, choose_engine
from mcp_hub.server.settings import Settings
from mcp_hub.services.background import in_background
from mcp_hub.services.containers.instances import rows
from mcp_hub.services.telemetry.own.own import OwnTelemetry

if TYPE_CHECKING:
    from mcp_hub.services.containers.service import ContainersService
    from mcp_hub.services.containers.wire.peers.listening import Listening

logger = logging.getLogger(__name__)

_LOOK_S = 5.0
_CHECK_S = 1.0
"""How long a health check waits for the database to say whether an engine is needed."""


class LazyContainers:
    """A `ContainersProvider`: made at the first call, or as soon as something is deployed, by a
    task of its own. Most hubs run no container, and need not load what does."""

    def __init__(
        self, settings: Settings, adapters: Adapters, own: OwnTelemetry, embedder: Embedder
    ) -> None:
        self._open = partial(open_containers, settings, adapters, own, embedder)
        self._enabled = settings.containers.enabled
        self._engine_url = settings.containers.engine_url
        self._database = adapters.database
        self._wanted = anyio.Event()
        self._made = anyio.Event()
        self._closing = anyio.Event()
        self._scope = anyio.CancelScope()
        self._service: ContainersService | None = None
        self._error: HubError | None = None

    async def __call__(self) -> "ContainersService":
        if not self._enabled:
            raise Denied(
                "This hub runs no containers.",
                "Whoever runs the hub can set containers.enabled to true.",
            )
        made = self._made
        self._wanted.set()
        await made.wait()
        if self._service is None:
            raise self._error or Unavailable("The hub is closing.")
        return self._service

    async def any(self) -> bool:
        return await self._database.read(rows.any_work, one_statement=True)

    async def check(self) -> str | None:
        """What the engine is, by a round trip to it; None where no deployment needs one, nor the
        settings name one. Raises as `ContainerEngine.check`."""
        if not self._enabled or not (self._engine_url or await self._are_any_known()):
            return None
        engine = choose_engine(self._engine_url)
        try:
            return await engine.check()
        finally:
            with anyio.CancelScope(shield=True):
                await engine.close()

    async def _are_any_known(self) -> bool:
        # Whether the database answers is a check of its own.
        with anyio.move_on_after(_CHECK_S), suppress(HubError):
            return await self.any()
        return False

    @asynccontextmanager
    async def providing(self) -> AsyncIterator[None]:
        """Make it when it is wanted, and keep it until the context is left."""
        async with in_background(self._provide):
            try:
                yield
            finally:
                self._closing.set()
                if self._service is None:
                    self._scope.cancel()

    async def _provide(self) -> None:
        if not self._enabled:
            return
        async with in_background(self._look):
            while not self._closing.is_set():
                await self._wanted.wait()
                try:
                    # Once open, it is closed in order: cut off, it would leave containers behind.
                    with anyio.CancelScope(shield=True) as self._scope:
                        async with self._open() as self._service:
                            self._made.set()
                            await self._closing.wait()
                except HubError as error:
                    self._failed(error)

    def _failed(self, error: HubError) -> None:
        """Tell all who wait; the next call tries again."""
        if str(error) != str(self._error):
            logger.warning("No containers: %s", error)
        self._error = error
        failed, self._made, self._wanted = self._made, anyio.Event(), anyio.Event()
        failed.set()

    async def _look(self) -> None:
        """Want it once something is deployed, by whichever process."""
        while self._service is None:
            try:
                if await self.any():
                    self._wanted.set()
            except HubError as error:
                logger.debug("Whether anything is deployed is not known: %s", error)
            await anyio.sleep(_LOOK_S)


@asynccontextmanager
async def open_containers(
    settings: Settings, adapters: Adapters, own: OwnTelemetry, embedder: Embedder
) -> AsyncIterator["ContainersService"]:
    """The service over the engine that `settings` choose, which need not answer.

    Raises:
        Unavailable: the engine's package is not installed.
        InvalidArgument: the engine's URL is none.
    """
    from mcp_hub.services.containers.calling import Calling
    from mcp_hub.services.containers.catalog import Catalogs
    from mcp_hub.services.containers.checking import prepare
    from mcp_hub.services.containers.configuring import Configuring
    from mcp_hub.services.containers.deploying import Deploying
    from mcp_hub.services.containers.egress.networks import Egress
    from mcp_hub.services.containers.finding import Finding
    from mcp_hub.services.containers.following import Following
    from mcp_hub.services.containers.images import ImageRules, Images
    from mcp_hub.services.containers.instances.holding import Ports
    from mcp_hub.services.containers.instances.service import Instances
    from mcp_hub.services.containers.logs import Logs
    from mcp_hub.services.containers.mounting import Mounts
    from mcp_hub.services.containers.policy import Limits
    from mcp_hub.services.containers.secrets import Secrets
    from mcp_hub.services.containers.service import ContainersService
    from mcp_hub.services.containers.sessions import Sessions
    from mcp_hub.services.containers.showing import Showing
    from mcp_hub.services.containers.suspending import Suspending
    from mcp_hub.services.roots import Roots

    told, database, bus = settings.containers, adapters.database, adapters.bus
    hub: str = await database.write(rows.hub_id)
    engine = choose_engine(told.engine_url)
    secrets = Secrets(told.secrets)
    mounts = Mounts(Roots(settings.roots), _kept(settings, secrets.files))
    configuring = Configuring(
        engine, secrets, mounts, Egress(engine, hub=hub, image=told.egress_image).ensure
    )
    catalogs = Catalogs(database, bus)

    def notified(instance: rows.Instance, method: str, params: dict[str, Any]) -> None:
        following.notified((instance.name, instance.revision, instance.session), method)

    instances = Instances(
        Ports(
            database=database, engine=engine, bus=bus, configure=configuring.configure, own=own,
            notified=notified, listen=partial(_listening, settings), stats_s=told.stats_s,
        )
    )  # fmt: skip
    following = Following(catalogs, instances)
    showing = Showing(database, engine, hub)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.close)
        await stack.enter_async_context(instances.running())
        await stack.enter_async_context(in_background(following.run))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(to_thread.run_sync, prepare)
        stack.callback(tasks.cancel_scope.cancel)
        sessions = Sessions(tasks, instances.end_sessions)
        stack.push_async_callback(sessions.end_all)
        yield ContainersService(
            deploying=Deploying(
                database,
                bus,
                images=Images(engine, ImageRules(told.images, told.pull, told.cosign_key)),
                secrets=secrets,
                mounts=mounts,
                limits=Limits(told.max_cpus, told.max_memory_mb, told.max_containers),
                prober=instances.trial,
                showing=showing,
                changed=instances.changed,
                own=own,
            ),
            showing=showing,
            catalogs=catalogs,
            finding=Finding(database, embedder),
            logs=Logs(database, engine, showing),
            calling=Calling(database, instances, own),
            sessions=sessions,
            suspending=Suspending(tasks),
        )


def _kept(settings: Settings, secret_files: list[Path]) -> list[Path]:
    """What no container may see: the hub's own state, its secrets, and the engine's socket with
    the folder that it is in."""
    kept = [settings.data_dir, settings.database_path, settings.blobs_dir, *secret_files]
    engine = urlsplit(settings.containers.engine)
    if engine.scheme == "unix":
        kept += [Path(engine.path), Path(engine.path).parent]
    return kept


@asynccontextmanager
async def _listening(settings: Settings) -> AsyncIterator["Listening"]:
    from mcp_hub.services.containers.wire.peers.listening import listen_tcp, listen_unix

    address = settings.containers.listen
    if address is None:
        listening = listen_unix(settings.data_dir / "containers")
    else:
        place = urlsplit(f"//{address}")
        listening = listen_tcp(place.hostname or "", place.port or 0)
    async with listening as found:
        yield found

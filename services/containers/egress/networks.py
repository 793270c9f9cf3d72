"""The network of a deployment, and the gate by which it is reached and reaches a list of hosts.

Each revision of a deployment that asks for a network has one of its own, from which neither the
world nor the engine's machine can be reached. A *gate*, a container that runs `proxy.py`, is on
that network and on a second one of the hub's that leads out. Servers find it by `HTTP_PROXY`, and
it lets through the hosts of the revision's list; the hub finds an HTTP server behind it.

Names on the engine tell everything, so that any hub process finds what another made:
`mcphub-HUB-net-NAME-REVISION` and `mcphub-HUB-gate-NAME-REVISION`, and one `mcphub-HUB-out`.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anyio import to_thread

from mcp_hub.adapters.containers.port import Container, ContainerConfig, ContainerEngine
from mcp_hub.adapters.errors import Conflict, InvalidArgument, NotFound, TimedOut, Unavailable
from mcp_hub.services.containers.egress import proxy
from mcp_hub.services.containers.labels import HUB, NAME, REVISION, ROLE
from mcp_hub.services.containers.specs import ContainerSpec

_ALIAS = "mcp-hub-gate"
_HOSTS = "mcp-hub.hosts"
_START_S = 20.0
_LOOK_S = 0.05
_LINES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DeploymentNetwork:
    """What a container of a revision is given to have the network that its spec asks for."""

    name: str | None
    """The network to start it on; None: none at all."""
    env: Mapping[str, str]
    """The variables by which it finds the gate."""
    proxy: str | None
    """The HTTP proxy through which the hub reaches its port, where it listens on one."""


class Egress:
    """Makes the networks and gates of one hub's deployments, and removes them.

    Every method may be called by any number of hub processes at once, and again.
    """

    def __init__(self, engine: ContainerEngine, *, hub: str, image: str | None) -> None:
        """`image` has Python 3.11 or newer as `python3`; without one no gate can be made."""
        self._engine = engine
        self._hub = hub
        self._image = image

    async def ensure(self, spec: ContainerSpec, revision: int) -> DeploymentNetwork:
        """See to it that a revision's network is there and its gate runs; what was made before
        an error stays for `remove`.

        Raises:
            NotFound: the engine does not have the gate's image.
            Unavailable, TimedOut: the gate does not start, or the hub has no image for it.
            LimitExceeded: the engine has no range of addresses left.
        """
        if spec.network == "none":
            return DeploymentNetwork(None, {}, None)
        hosts = () if spec.network == "internal" else spec.network
        network = self._named("net", spec.name, revision)
        labels = {HUB: self._hub, NAME: spec.name, REVISION: str(revision), ROLE: "proxy"}
        await self._engine.create_network(network, labels, internal=True, machine=False)
        if not hosts and spec.transport == "stdio":
            return DeploymentNetwork(network, {}, None)
        gate = await self._gate(self._named("gate", spec.name, revision), network, hosts, labels)
        inward = _url(gate, self._out)
        return DeploymentNetwork(
            network,
            _environment() if hosts else {},
            inward if spec.transport == "http" else None,
        )

    async def remove(self, name: str, revision: int) -> None:
        """Remove a revision's gate and network, where they are there.

        Raises:
            Conflict: a container of the revision is still on the network.
        """
        await self._engine.remove(self._named("gate", name, revision))
        await self._engine.remove_network(self._named("net", name, revision))

    async def remove_unused(
        self, found: Collection[tuple[str, int]], used: Collection[tuple[str, int]]
    ) -> None:
        """Remove what those of `found` have that are not `used`, and with the last of them the
        way out; what a container is still on is left for the next time."""
        unused = set(found) - set(used)
        for name, revision in unused:
            with suppress(Conflict):
                await self.remove(name, revision)
        # Only what is found now tells: one may be made meanwhile, its network first.
        if unused and not await self.revisions():
            with suppress(Conflict):
                await self._engine.remove_network(self._out)

    async def revisions(self) -> set[tuple[str, int]]:
        """The deployments' names and revisions that have a network or a gate."""
        labels = {HUB: self._hub, ROLE: "proxy"}
        prefix = self._named("net", "")
        found = {
            (container.labels[NAME], int(container.labels[REVISION]))
            for container in await self._engine.containers(labels)
        }
        for network in await self._engine.networks(labels):
            name, _, revision = network.removeprefix(prefix).rpartition("-")
            found.add((name, int(revision)))
        return found

    @property
    def _out(self) -> str:
        return self._named("out")

    def _named(self, *parts: object) -> str:
        return _named(self._hub, *parts)

    async def _gate(
        self, name: str, network: str, hosts: tuple[str, ...], labels: Mapping[str, str]
    ) -> Container:
        """The gate, once it listens; made or started where it is not there or does not run."""
        with suppress(NotFound):
            there = await self._engine.inspect(name)
            if there.labels.get(_HOSTS) != ",".join(hosts):
                # Of a deployment of the same name that was removed meanwhile.
                await self._engine.remove(name)
            elif there.status == "running" and {self._out, network} <= there.addresses.keys():
                return there
        if self._image is None:
            raise Unavailable(
                "This hub has no image for the proxy that such a network needs.",
                "Whoever runs the hub sets containers.egress_image, as to python:3.13-slim.",
            )
        await self._engine.create_network(
            self._out, {HUB: self._hub, ROLE: "out"}, internal=False, peers=False
        )
        config = ContainerConfig(
            name=name,
            image=self._image,
            entrypoint=("python3", "-I", "-c", await to_thread.run_sync(_script)),
            command=hosts,
            labels={**labels, _HOSTS: ",".join(hosts)},
            cpus=0.5,
            memory_mb=64,
            pids=32,
            network=self._out,
            dns=True,
        )
        hint = f"containers.egress_image is {self._image!r}; it needs Python 3.11 as python3."
        await self._make(config)
        await self._engine.connect(network, name, aliases=[_ALIAS])
        try:
            await self._engine.start(name)
        except InvalidArgument as error:
            raise Unavailable(f"The gate {name} cannot be run: {error.message}", hint) from error
        gate = await self._engine.inspect(name)
        await self._see_it_listen(gate, hint)
        return gate

    async def _make(self, config: ContainerConfig) -> None:
        """See to it that the container is there, whoever makes it. Raises TimedOut."""
        try:
            async with asyncio.timeout(_START_S):
                while True:
                    with suppress(Conflict):
                        await self._engine.create(config)
                        return
                    # Its name is taken before it can be seen.
                    with suppress(NotFound):
                        await self._engine.inspect(config.name)
                        return
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise TimedOut(f"{config.name} was not made within {_START_S:g} s.") from None

    async def _see_it_listen(self, gate: Container, hint: str) -> None:
        lines = []
        # What it said before it was started again is older.
        since_ns = (gate.started_at or 0) * 1_000_000 - 1
        try:
            async with asyncio.timeout(_START_S):
                async for line in self._engine.logs(gate.id, since_ns=since_ns, follow=True):
                    if line.text == proxy.READY:
                        return
                    lines.append(line.text)
        except TimeoutError:
            raise TimedOut(f"The gate {gate.name} did not listen within {_START_S:g} s.") from None
        said = "\n".join(lines[-_LINES_SHOWN:]) or "nothing"
        raise Unavailable(f"The gate {gate.name} ended at once, and said: {said}", hint)


async def gate_url(engine: ContainerEngine, *, hub: str, name: str, revision: int) -> str:
    """The HTTP proxy through which a hub reaches the port of a revision's server.

    Never reach it by its address alone: its network is none of this machine's, and whoever has
    such an address elsewhere would be asked.

    Raises:
        Unavailable: the gate does not run; `Egress.ensure` sees to that.
    """
    try:
        gate = await engine.inspect(_named(hub, "gate", name, revision))
    except NotFound:
        raise Unavailable(f"The network of {name!r} has no gate.", "Call again.") from None
    return _url(gate, _named(hub, "out"))


def _url(gate: Container, out: str) -> str:
    if gate.status != "running" or out not in gate.addresses:
        raise Unavailable(f"The gate {gate.name} has ended.", "Call again.")
    return f"http://{gate.addresses[out]}:{proxy.PORT}"


def _named(hub: str, *parts: object) -> str:
    return "-".join(("mcphub", hub, *map(str, parts)))


def _environment() -> dict[str, str]:
    url = f"http://{_ALIAS}:{proxy.PORT}"
    local = "localhost,127.0.0.1,::1"
    variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": local}
    # Programs differ in the case that they read. Node reads either only if it is told to.
    lower = {name.lower(): value for name, value in variables.items()}
    return variables | lower | {"NODE_USE_ENV_PROXY": "1"}


@cache
def _script() -> str:
    return Path(proxy.__file__).read_text("utf-8")

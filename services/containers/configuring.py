"""From a deployment to the container that the engine makes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from anyio import to_thread

from mcp_hub.adapters.containers.port import ContainerConfig, ContainerEngine, Image, Mount
from mcp_hub.adapters.errors import InvalidArgument
from mcp_hub.services.containers import policy
from mcp_hub.services.containers.instances.rows import Revision
from mcp_hub.services.containers.mounting import Mounts
from mcp_hub.services.containers.secrets import Secrets
from mcp_hub.services.containers.specs import ContainerSpec

USER = "65532:65532"
"""Of an image that names none: `nonroot` of the distroless images."""
SECRETS_DIR = "/run/secrets"


class Network(Protocol):
    """The network that a container is on, and what its program has to know of it."""

    @property
    def name(self) -> str | None: ...

    @property
    def env(self) -> Mapping[str, str]: ...


Networks = Callable[[ContainerSpec, int], Awaitable[Network]]
"""Sees to it that the network of a revision's containers is there."""


class Configuring:
    """Makes the configurations of containers, with the secrets and mounts as they are now."""

    def __init__(
        self, engine: ContainerEngine, secrets: Secrets, mounts: Mounts, networks: Networks
    ) -> None:
        self._engine = engine
        self._secrets = secrets
        self._mounts = mounts
        self._networks = networks

    async def configure(self, revision: Revision) -> ContainerConfig:
        """The container of a revision, named as its spec; who makes it sets its name and labels.

        Raises:
            NotFound, Unavailable: the image, a secret or a mounted path is not there, or the
                network cannot be made.
            Denied: a path no longer leads where it may.
            InvalidArgument: the image says no program to run, and neither does the spec.
        """
        spec = revision.spec
        secrets, mounts = await to_thread.run_sync(partial(self._resolved, spec))
        image = await self._engine.image(revision.image_id)
        network = await self._networks(spec, revision.revision)
        return configure(
            spec, image, network=network.name, secrets=secrets, mounts=mounts, env=network.env
        )

    def _resolved(self, spec: ContainerSpec) -> tuple[dict[str, bytes], list[Mount]]:
        return self._secrets.read(spec.secrets), self._mounts.resolve(spec.volumes)


def configure(
    spec: ContainerSpec,
    image: Image,
    *,
    network: str | None,
    secrets: Mapping[str, bytes],
    mounts: Sequence[Mount],
    env: Mapping[str, str],
) -> ContainerConfig:
    """As `Configuring.configure`, of what is there; `env` goes before the spec's own."""
    entrypoint, command = program(spec, image)
    variables = {"HOME": "/tmp"} | dict(env) | spec.env
    if spec.secrets_as == "file":
        variables |= {f"{name}_FILE": f"{SECRETS_DIR}/{name}" for name in secrets}
    elif secrets:
        entrypoint, command = _with_secrets(secrets, [*entrypoint, *command])
    return ContainerConfig(
        name=spec.name,
        image=image.id,
        entrypoint=tuple(entrypoint),
        command=tuple(command),
        env=variables,
        user=user_of(spec, image),
        stdin=spec.transport == "stdio",
        cpus=spec.cpus,
        memory_mb=spec.memory_mb,
        pids=spec.pids,
        tmpfs={"/tmp": spec.tmpfs_mb},
        mounts=tuple(mounts),
        network=network,
        capabilities=policy.capabilities(spec),
        read_only=not spec.isolation.writable_root,
        new_privileges=spec.isolation.new_privileges,
        files={f"{SECRETS_DIR}/{name}": value for name, value in secrets.items()},
    )


def program(spec: ContainerSpec, image: Image) -> tuple[list[str], list[str]]:
    """Entrypoint and command: as with `docker run`, one of the spec's own takes the image's place,
    and an entrypoint of its own leaves the image's command out.

    Raises:
        InvalidArgument: there is nothing to run.
    """
    entrypoint = list(image.entrypoint if spec.entrypoint is None else spec.entrypoint)
    default = image.command if spec.entrypoint is None else ()
    command = list(default if spec.command is None else spec.command)
    if not entrypoint and not command:
        raise InvalidArgument(
            f"The image {spec.image!r} does not say what to run.",
            "Give command, such as ['python', 'server.py'].",
        )
    return entrypoint, command


def user_of(spec: ContainerSpec, image: Image) -> str:
    """Who runs it: the spec's user, the image's if that is surely not root, or nobody's."""
    if spec.isolation.user is not None:
        return policy.unprivileged(spec.isolation.user) or spec.isolation.user
    return policy.unprivileged(image.user) or USER


def _with_secrets(
    secrets: Mapping[str, bytes], arguments: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The program after a shell has put the secrets into its environment: they are then in no
    configuration that the engine shows. A secret's line ends at its end are lost."""
    exports = "".join(
        f'{name}="$(cat {SECRETS_DIR}/{name})" || exit 126; export {name}; ' for name in secrets
    )
    return ["/bin/sh", "-c"], [f'{exports}exec "$@"', "sh", *arguments]

"""The containers port: an engine that runs other programs, each in a box of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

Stream = Literal["stdout", "stderr"]
Status = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has. `id` is its content's digest; `digests` are a registry's."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    architecture: str
    user: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    size: int
    """Bytes."""
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the engine's machine inside the container."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What a container is made of. The defaults are the tightest that a program can run in."""

    name: str
    image: str
    """An id or a reference that the engine has; it is not pulled."""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's. Likewise `command`."""
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = "65532:65532"
    stdin: bool = False
    """Keep standard input open, also while nobody is attached."""
    cpus: float = 1.0
    memory_mb: int = 512
    """Memory, without swap beyond it."""
    pids: int = 128
    tmpfs: Mapping[str, int] = field(default_factory=dict)
    """Writable folders in memory: path → MB. No program can be executed from one."""
    mounts: Sequence[Mount] = ()
    network: str | None = None
    """The one network that it is on from the start; None: none but its own loopback."""
    dns: bool = False
    """Whether names of the world outside are resolved for it. Without, even on an internal network
    of an engine that would, nothing leaves it by way of a name that it asks for."""
    capabilities: Sequence[str] = ()
    """The kernel's capabilities that it keeps, such as `NET_RAW`."""
    read_only: bool = True
    """Whether the root file system cannot be written."""
    new_privileges: bool = False
    """Whether setuid programs work."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Files that only this container can read and `docker inspect` does not show: path → content.
    All are in one folder that the image need not have."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine sees it now."""

    id: str
    name: str
    image: str
    """The image's id."""
    labels: Mapping[str, str]
    status: Status
    exit_code: int | None = None
    """Of a container that ran and ended."""
    out_of_memory: bool = False
    """Whether the kernel killed it, or a process of it, for want of memory."""
    error: str = ""
    """Why the engine could not start it."""
    started_at: int | None = None
    """Milliseconds since the epoch. Likewise `finished_at`."""
    finished_at: int | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Its IP address by network, while it runs."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of what a container wrote, without its end. `time_ns` is since the epoch."""

    time_ns: int
    stream: Stream
    text: str


@dataclass(frozen=True, slots=True)
class Stats:
    """What a container uses now; bytes, seconds and counts, the last five since its start."""

    memory: int
    memory_limit: int
    pids: int
    cpu_s: float
    received: int
    sent: int
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened to a container: `action` in the engine's words (start, die, oom…)."""

    action: str
    container_id: str
    labels: Mapping[str, str]
    time_ns: int


class Attachment(Protocol):
    """A container's three standard streams, as one process attached to them sees them."""

    async def send(self, data: bytes) -> None:
        """Write to standard input; waits while the container does not read.

        Raises:
            Unavailable: the container, or the engine, is gone.
        """
        ...

    async def receive(self) -> tuple[Stream, bytes] | None:
        """What came next on an output, at most 64 KiB or so; None when the container has ended.

        Nothing is read ahead but a small buffer: who does not receive holds the container up.

        Raises:
            Unavailable: the engine is gone.
        """
        ...


class ContainerEngine(Protocol):
    """Images, containers and networks of one engine. Every method raises Unavailable when the
    engine does not answer, and NotFound for a container, image or network that is not there,
    unless it says otherwise. What several hubs share is told apart by labels.
    """

    async def check(self) -> str:
        """Make one round trip; the engine's name, version and architecture."""
        ...

    async def image(self, reference: str) -> Image:
        """The image of a tag, `name@sha256:…` or id. Raises NotFound if the engine has it not."""
        ...

    def pull(self, reference: str) -> AsyncIterator[str]:
        """Fetch an image from its registry, telling what is going on in a line each.

        Raises:
            NotFound: the registry has no such image, or the hub may not see it.
            Unavailable: the registry does not answer.
        """
        ...

    def build(self, context: bytes, tag: str, labels: Mapping[str, str]) -> AsyncIterator[str]:
        """Build an image of a tar archive with a `Dockerfile`, without network; its output, in
        lines.

        Raises:
            InvalidArgument: a step failed; the message has its last lines.
        """
        ...

    async def remove_image(self, reference: str) -> bool:
        """Whether it was there. Raises Conflict while a container uses it."""
        ...

    async def create(self, config: ContainerConfig) -> str:
        """Make a container, not started yet; its id.

        Raises:
            Conflict: there is a container of that name.
            NotFound: the image, network or mounted path is not there.
            InvalidArgument: the engine refuses the configuration.
        """
        ...

    async def start(self, container: str) -> None:
        """Start it; no error if it runs.

        Raises:
            InvalidArgument: it cannot be run: no such program, another architecture…
        """
        ...

    async def stop(self, container: str, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after `grace_s`; returns when it has ended. No error if it has."""
        ...

    async def remove(self, container: str) -> bool:
        """Kill it if it runs, and remove it with all it wrote; False if it was not there."""
        ...

    async def inspect(self, container: str) -> Container:
        """It as it is now, by id or name."""
        ...

    async def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """The containers with all of the labels, in any state; may leave out addresses, exit
        codes and times."""
        ...

    def attach(self, container: str) -> AbstractAsyncContextManager[Attachment]:
        """Attach to the standard streams of a container, before it is started or while it runs;
        what it wrote before is not repeated. Leaving the context leaves the container running,
        its standard input open."""
        ...

    def logs(
        self, container: str, *, tail: int | None = None, since_ns: int = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """What it wrote after `since_ns`, oldest first, at most the last `tail` lines of it; with
        `follow` until it ends. A longer line than 16 KiB comes in parts."""
        ...

    async def stats(self, container: str) -> Stats:
        """What it uses now. Raises Conflict if it does not run."""
        ...

    def events(self, labels: Mapping[str, str]) -> AsyncIterator[EngineEvent]:
        """What happens from now on to containers with all of the labels. Ends never by itself."""
        ...

    async def create_network(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        internal: bool,
        machine: bool = True,
        peers: bool = True,
    ) -> bool:
        """Make a network; False if one of that name is there, whoever makes it at the same time.

        From an `internal` one nothing beyond it can be reached. Without `machine`, the engine's
        machine has no address on it: what listens there is out of reach as well, and the network
        is out of that machine's. Without `peers`, its containers do not reach each other.

        Raises:
            LimitExceeded: the engine has no range of addresses left.
        """
        ...

    async def connect(self, network: str, container: str, *, aliases: Sequence[str] = ()) -> None:
        """Put a container on a further network, where others find it by its `aliases`; no error if
        it is on it."""
        ...

    async def remove_network(self, name: str) -> bool:
        """Whether it was there. Raises Conflict while a container is on it."""
        ...

    async def networks(self, labels: Mapping[str, str]) -> list[str]:
        """The names of the networks with all of the labels."""
        ...

    async def close(self) -> None: ...

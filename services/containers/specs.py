"""What a deployment is: the container that an MCP server runs in, and when it runs."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

Strategy = Literal["on_demand", "prewarmed", "always_on"]
State = Literal["shared", "per_session"]
Transport = Literal["stdio", "http"]
Protocol = Literal["auto", "2025-11-25", "2026-07-28"]

# No underscore: `{name}__{tool}` is how an exposed tool is called.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")
_NO_HOSTS = frozenset({"host", "bridge", "default", "none", "internal"})
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:\d{1,5})?", re.IGNORECASE)

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Capability = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z_]{1,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Volume(_Part):
    """A folder or file below a workspace root, inside the container."""

    source: str = Field(description="A path below a workspace root")
    target: str = Field(pattern=r"^/[^:]*[^:/]$", description="Where it is in the container")
    read_only: bool = True


class Health(_Part):
    """How a server that runs is asked whether it still answers: by MCP's `ping`, or by a tool.

    A tool is called once more before the server gets any other call, so that what it loads at its
    first call is loaded by then.
    """

    tool: str | None = Field(
        None, min_length=1, max_length=128, description="One that changes nothing; else ping"
    )
    arguments: dict[str, Any] = {}
    every_s: float = Field(30, ge=1, le=3600)
    timeout_s: float = Field(5, gt=0, le=60)
    failures: int = Field(3, ge=1, le=100, description="In a row, after which it is restarted")


class Isolation(_Part):
    """Each way to weaken what holds the server in. All need the scope `admin`, and are recorded."""

    capabilities: tuple[Capability, ...] = Field((), description="Kernel capabilities to keep")
    writable_root: bool = Field(False, description="Its root file system can be written")
    user: str | None = Field(None, description="uid, uid:gid or name, which may be root")
    new_privileges: bool = Field(False, description="setuid programs work")


class ContainerSpec(_Part):
    """One deployment, as `container_deploy` takes it and a revision keeps it."""

    name: str
    image: str = Field(min_length=1, max_length=512)
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = Field(None, max_length=256)
    env: dict[EnvName, str] = Field({}, max_length=256)
    secrets: dict[EnvName, str] = Field(
        {}, description="Name in the container → a secret that the hub's operator named"
    )
    secrets_as: Literal["file", "env"] = Field(
        "file",
        description="file: /run/secrets/NAME, its path in NAME_FILE. env: the variable NAME, set "
        "by a shell, which the image must have",
    )
    volumes: tuple[Volume, ...] = Field((), max_length=32)
    cpus: float = Field(1.0, ge=0.05, le=256)
    memory_mb: int = Field(512, ge=16, le=1_048_576)
    pids: int = Field(128, ge=4, le=32_768)
    tmpfs_mb: int = Field(64, ge=1, le=65_536, description="Of /tmp, its one writable folder")
    network: Literal["none", "internal"] | tuple[str, ...] = Field(
        "none", description="none, internal, or the hosts that it may reach: api.example.com:443"
    )
    transport: Transport = "stdio"
    port: int = Field(8000, ge=1, le=65_535, description="With http: where the server listens")
    path: str = Field("/mcp", pattern=r"^/")
    protocol: Protocol = "auto"
    strategy: Strategy = "on_demand"
    state: State = Field(
        "shared", description="per_session: each session has a container that no other ever sees"
    )
    replicas: int = Field(
        1, ge=1, le=64, description="Containers that calls share, or that wait for sessions"
    )
    max_sessions: int = Field(16, ge=1, le=1024, description="Sessions at a time")
    max_calls: int = Field(64, ge=1, le=4096, description="Calls of one container at a time")
    idle_s: float = Field(300, ge=0.1, le=86_400 * 7)
    start_timeout_s: float = Field(30, ge=1, le=600)
    call_timeout_s: float = Field(60, ge=0.1, le=3600)
    stop_grace_s: float = Field(5, ge=0, le=60)
    health: Health = Health()
    expose: bool = Field(False, description="Whether its tools are among the hub's own")
    tools: tuple[str, ...] | None = Field(
        None, max_length=1000, description="Only tools of these names; * stands for any characters"
    )
    pull: Literal["missing", "never", "always"] = "missing"
    isolation: Isolation = Isolation()

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "a name has 2 to 40 lower-case letters, digits and hyphens, and begins with a "
                "letter"
            )
        return name

    @field_validator("network")
    @classmethod
    def _are_hosts(cls, network: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(network, tuple):
            if not network:
                raise ValueError('name at least one host, or say "none"')
            for host in network:
                if host in _NO_HOSTS:
                    raise ValueError(
                        f"there is no network {host!r}, nor is any container on the machine's own: "
                        'say "none", "internal", or a list of hosts'
                    )
                if not _HOST.fullmatch(host):
                    raise ValueError(f"{host!r} is no host: api.example.com, *.example.com:443")
        return network

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if self.transport == "http" and self.network == "none":
            raise ValueError(
                'transport "http" needs a network that the hub reaches it by: network="internal"'
            )
        return self

"""What a deployment may ask for, what weakens its isolation, and what nobody gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mcp_hub.adapters.errors import Denied, InvalidArgument, LimitExceeded, names_hint
from mcp_hub.services.containers.specs import ContainerSpec

CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE",
        "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
"""Those that a container can be given, by an admin. No other, such as SYS_ADMIN, SYS_PTRACE or
NET_ADMIN, leaves the machine safe from it."""

_DOCKER_RUN: Mapping[str, str] = {
    "privileged": "no container is privileged",
    "network_mode": "network is none, internal or a list of hosts, never the machine's own",
    "pid": "no container sees the machine's processes",
    "ipc": "no container shares the machine's memory",
    "devices": "no container has devices",
    "cap_add": "capabilities are in isolation.capabilities",
    "security_opt": "seccomp and the like stay on",
    "ports": "no port is published: the hub reaches the server itself",
}
"""What people know from `docker run`, and why it is not here."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one deployment may ask for."""

    cpus: float = 4.0
    memory_mb: int = 4096
    """Of one container."""
    containers: int = 64
    """At a time."""


def parse_spec(said: Mapping[str, Any]) -> ContainerSpec:
    """A spec as a caller says it.

    Raises:
        InvalidArgument: it is none; says what would be right.
    """
    try:
        return ContainerSpec.model_validate(dict(said))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        path = [str(part) for part in fault["loc"]]
        key = ".".join(path)
        if fault["type"] == "extra_forbidden":
            raise InvalidArgument(
                f"A deployment has no key {key!r}.",
                f"It is not offered: {_DOCKER_RUN[path[-1]]}."
                if path[-1] in _DOCKER_RUN
                else names_hint(path[-1], _siblings(path), "keys"),
            ) from None
        message = fault["msg"].removeprefix("Value error, ")
        field = ContainerSpec.model_fields.get(path[0]) if path else None
        described = f"{path[0]}: {field.description}." if field and field.description else None
        raise InvalidArgument(f"{f'{key}: ' if key else ''}{message}.", described) from None


def _siblings(path: list[str]) -> list[str]:
    fields: Mapping[str, Any] = ContainerSpec.model_fields
    for part in path[:-1]:
        fields = getattr(getattr(fields.get(part), "annotation", None), "model_fields", {})
    return list(fields)


def weakened(spec: ContainerSpec) -> list[str]:
    """The ways in which `spec` is less isolated than by default, in words."""
    asked = spec.isolation
    ways = [f"capability {name}" for name in capabilities(spec)]
    if asked.writable_root:
        ways.append("writable root")
    if asked.new_privileges:
        ways.append("new privileges")
    if asked.user is not None and unprivileged(asked.user) is None:
        ways.append(f"user {asked.user}")
    return ways


def capabilities(spec: ContainerSpec) -> tuple[str, ...]:
    """The kernel's capabilities that `spec` keeps, without their prefix, each once."""
    return tuple(sorted({name.removeprefix("CAP_") for name in spec.isolation.capabilities}))


def unprivileged(user: str) -> str | None:
    """`uid:gid` of a user given by numbers that are not 0, else None.

    What a name stands for is in the image, which may say that it is root.
    """
    uid, colon, gid = user.partition(":")
    numbers = (uid, gid) if colon else (uid, uid)
    if not all(n.isascii() and n.isdigit() and 0 < int(n) < 2**31 for n in numbers):
        return None
    return ":".join(str(int(n)) for n in numbers)


def check(spec: ContainerSpec, limits: Limits, *, admin: bool) -> list[str]:
    """The ways in which `spec` weakens isolation, all of which the caller may use.

    Raises:
        Denied: it asks for what nobody gets, or weakens isolation and the caller is no `admin`.
        LimitExceeded: it asks for more than the operator allows.
    """
    for name in capabilities(spec):
        if name not in CAPABILITIES:
            raise Denied(
                f"The capability {name} is never given to a container.",
                f"With the scope admin: {', '.join(sorted(CAPABILITIES))}.",
            )
    at_once = spec.replicas
    if spec.state == "per_session":
        at_once = spec.max_sessions + (spec.replicas if spec.strategy == "prewarmed" else 0)
    for what, asked, most in (
        ("cpus", spec.cpus, limits.cpus),
        ("memory_mb", spec.memory_mb, limits.memory_mb),
        ("containers at a time (replicas, max_sessions)", at_once, limits.containers),
    ):
        if asked > most:
            raise LimitExceeded(
                f"{spec.name} asks for {asked:g} {what}; at most {most:g} are allowed.",
                "Ask for less, or have whoever runs the hub raise the limit in containers.",
            )
    ways = weakened(spec)
    if ways and not admin:
        raise Denied(
            f"{spec.name} would be less isolated than by default: {', '.join(ways)}.",
            "That needs a token with the scope admin; leave out isolation for the default.",
        )
    return ways

"""MCP servers of a client's configuration as deployments: those that run by `docker run`, and those
for whose program an image is named."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from mcp_hub.adapters.errors import HubError, InvalidArgument
from mcp_hub.services.views import View

_DOCKER = frozenset({"docker", "podman"})
_LAUNCHERS = frozenset({"npx", "uvx", "bunx", "pipx", "uv", "node", "python", "python3", "npm"})
_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY|CREDENTIAL)", re.I)

_IGNORED = frozenset(
    {"--rm", "-i", "--interactive", "-t", "--tty", "-it", "-ti", "--init", "-d", "--detach", "-q",
     "--quiet", "--read-only"}
)  # fmt: skip
"""Flags of `docker run` that say what is so anyway, or what the hub decides."""
_IGNORED_WITH_VALUE = frozenset(
    {"--name", "--restart", "--log-driver", "--log-opt", "-l", "--label", "--hostname", "-h",
     "--platform", "--cap-drop", "--stop-timeout", "-a", "--attach", "--cidfile"}
)  # fmt: skip
_WITH_VALUE = {
    "-e": "env", "--env": "env", "-v": "volume", "--volume": "volume", "--mount": "mount",
    "--network": "network", "--net": "network", "-u": "user", "--user": "user",
    "-m": "memory", "--memory": "memory", "--cpus": "cpus", "--pull": "pull",
    "--pids-limit": "pids", "--entrypoint": "entrypoint", "--cap-add": "capability",
    "--tmpfs": "tmpfs",
}  # fmt: skip
_REFUSED = {
    "--privileged": "no container is privileged",
    "--pid": "no container sees the machine's processes",
    "--ipc": "no container shares the machine's memory",
    "--uts": "no container shares the machine's name",
    "--userns": "no container leaves its user namespace",
    "--device": "no container has devices",
    "--gpus": "no container has devices",
    "--security-opt": "seccomp, AppArmor and no-new-privileges stay on",
    "--env-file": "name each variable with -e",
    "-p": "no port is published", "--publish": "no port is published",
    "-P": "no port is published", "--publish-all": "no port is published",
    "--volumes-from": "a deployment's volumes are its own",
    "--add-host": "names are resolved by the engine",
    "--dns": "names are resolved by the engine",
    "-w": "the image's working folder is taken", "--workdir": "the image's working folder is taken",
}  # fmt: skip
_MEMORY = re.compile(r"(\d+)([bkmg]?)b?", re.I)
_UNITS = {"b": 1, "": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Imported(View):
    """What becomes of one server."""

    name: str
    spec: dict[str, Any] | None = None
    """What to deploy; None where that is refused."""
    refused: str | None = None
    notes: list[str] = Field(default=[])


def read_servers(config: object) -> dict[str, dict[str, Any]]:
    """The servers of a client's configuration: of Claude Desktop and Claude Code, of VS Code.

    Raises:
        InvalidArgument: it has none.
    """
    found = config
    if isinstance(config, Mapping):
        found = config.get("mcpServers") or config.get("servers")
    if not isinstance(found, Mapping) or not all(isinstance(s, dict) for s in found.values()):
        raise InvalidArgument(
            "The file has no MCP servers.", 'They are in {"mcpServers": {"name": {"command": …}}}.'
        )
    return dict(found)


def imported(name: str, server: Mapping[str, Any], images: Mapping[str, str]) -> Imported:
    """The deployment that a server of a client's configuration becomes.

    `images` names an image for a server by its name there. What would make it less isolated than
    the hub permits is refused, with the reason.
    """
    made = deployment_name(name)
    try:
        spec, notes = _spec(name, server, images)
    except HubError as error:
        reason = f"{error.message} {error.hint}" if error.hint else error.message
        return Imported(name=made, refused=reason)
    return Imported(name=made, spec={"name": made, **spec}, notes=notes)


def deployment_name(name: str) -> str:
    """The name in a deployment's letters."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-")
    return plain if re.match(r"[a-z].", plain) else f"mcp-{plain or 'server'}"[:40].rstrip("-")


def _spec(
    name: str, server: Mapping[str, Any], images: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    if "url" in server:
        raise InvalidArgument("It is reached by a URL, and runs elsewhere already.")
    command, arguments, env = _program(server)
    program = command.rpartition("/")[2].removesuffix(".exe")
    image = images.get(name)
    if image is None and program in _DOCKER:
        return _docker_spec(arguments, env)
    if image is None:
        raise InvalidArgument(
            f"It runs {program!r} on this machine.",
            f"Name an image that has it: --image {name}=IMAGE"
            + ("; `mcp-hub containers build` makes one." if program in _LAUNCHERS else "."),
        )
    spec: dict[str, Any] = {"image": image}
    kept = _after_package(program, arguments)
    if kept:
        spec["command"] = kept
    notes = [f"{program} starts nothing here: the image has the program, and gets {kept}."]
    return spec | ({"env": env} if env else {}), notes + _about_secrets(env)


def _after_package(program: str, arguments: Sequence[str]) -> list[str]:
    """What a launcher passes on to what it launches: all after the package's name."""
    rest = list(arguments)
    if program in _LAUNCHERS:
        while rest and rest[0] in ("run", "exec", "tool"):
            rest.pop(0)
        while rest and rest[0].startswith("-"):
            flag = rest.pop(0)
            if flag in ("-p", "--package", "--from", "--with", "--directory", "--python") and rest:
                rest.pop(0)
            elif flag == "-m":
                break
        rest = rest[1:]
    return rest


def _program(server: Mapping[str, Any]) -> tuple[str, list[str], dict[str, str]]:
    command, arguments, env = server.get("command"), server.get("args", []), server.get("env", {})
    if (
        not isinstance(command, str)
        or not isinstance(arguments, list)
        or not all(isinstance(argument, str) for argument in arguments)
        or not isinstance(env, dict)
    ):
        raise InvalidArgument("It has no command, or args and env that are not texts.")
    return command, arguments, {str(key): str(value) for key, value in env.items()}


def _docker_spec(
    arguments: Sequence[str], env: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """What `docker run …` says, and what of it is left out."""
    if not arguments or arguments[0] not in ("run", "container"):
        raise InvalidArgument("It is no `docker run`.")
    rest = list(arguments[2 if arguments[0] == "container" else 1 :])
    spec: dict[str, Any] = {}
    notes: list[str] = []
    networked = False
    while rest and rest[0].startswith("-"):
        flag, value = _flag(rest)
        networked |= flag == "network"
        if flag:
            _apply(spec, flag, value, env, notes)
    if not rest:
        raise InvalidArgument("It names no image.")
    spec["image"], command = rest[0], rest[1:]
    if command:
        spec["command"] = command
    if not networked:
        notes.append("It has no network here; docker run gave it one: see network.")
    return spec, notes + _about_secrets(spec.get("env", {}))


def _flag(rest: list[str]) -> tuple[str, str]:
    """Take a flag and its value off the front; what it is called here, or nothing if ignored."""
    written = rest.pop(0)
    name, equals, value = written.partition("=")
    if not name.startswith("--") and len(name) > 2 and name not in _IGNORED:
        # -eNAME, or several letters at once.
        name, equals, value = name[:2], "=", written[2:].removeprefix("=")
    if name in _REFUSED:
        raise InvalidArgument(f"{written} is refused: {_REFUSED[name]}.")
    if name in _IGNORED:
        return "", ""
    if name not in _WITH_VALUE and name not in _IGNORED_WITH_VALUE:
        raise InvalidArgument(f"{name} of docker run is not known here.")
    if not equals:
        if not rest:
            raise InvalidArgument(f"{name} has no value.")
        value = rest.pop(0)
    return _WITH_VALUE.get(name, ""), value


def _apply(
    spec: dict[str, Any], flag: str, value: str, env: Mapping[str, str], notes: list[str]
) -> None:
    if flag == "env":
        name, equals, given = value.partition("=")
        if not equals and name not in env:
            notes.append(f"{name} was taken from the client's environment: it is not set here.")
            return
        spec.setdefault("env", {})[name] = given if equals else env[name]
    elif flag in ("volume", "mount"):
        spec.setdefault("volumes", []).append(_mount(value) if flag == "mount" else _volume(value))
    elif flag == "network":
        spec["network"] = _network(value, notes)
    elif flag == "memory":
        spec["memory_mb"] = _megabytes(value)
    elif flag in ("cpus", "pids"):
        spec[flag] = _number(flag, value)
    elif flag == "entrypoint":
        spec["entrypoint"] = [value]
    elif flag == "pull":
        spec["pull"] = value
    elif flag == "user":
        spec.setdefault("isolation", {})["user"] = value
    elif flag == "capability":
        kept = spec.setdefault("isolation", {}).setdefault("capabilities", [])
        kept.append(value.upper().removeprefix("CAP_"))
    elif flag == "tmpfs" and value.partition(":")[0] != "/tmp":  # the container's
        raise InvalidArgument(f"--tmpfs {value} is refused: /tmp is the one writable folder.")


def _volume(value: str) -> dict[str, Any]:
    source, *rest = value.split(":")
    if not rest or not source.startswith(("/", "~", ".")):
        raise InvalidArgument(f"-v {value} is refused: only folders and files can be mounted.")
    options = rest[1].split(",") if len(rest) > 1 else []
    return {"source": source, "target": rest[0], "read_only": "ro" in options}


def _mount(value: str) -> dict[str, Any]:
    said = dict(_pairs(value))
    source = said.get("src") or said.get("source")
    target = said.get("dst") or said.get("destination") or said.get("target")
    if said.get("type", "volume") != "bind" or not source or not target:
        raise InvalidArgument(f"--mount {value} is refused: only folders and files can be mounted.")
    read_only = said.get("readonly", said.get("ro", "false")) in ("", "true", "1")
    return {"source": source, "target": target, "read_only": read_only}


def _pairs(value: str) -> Iterator[tuple[str, str]]:
    for part in value.split(","):
        key, _, said = part.partition("=")
        yield key, said


def _network(value: str, notes: list[str]) -> str:
    if value == "none":
        return "none"
    if value in ("host",) or value.startswith("container:"):
        raise InvalidArgument(
            f"--network {value} is refused: network is none, internal or a list of hosts."
        )
    notes.append(f"--network {value} became an internal network, without anything beyond it.")
    return "internal"


def _megabytes(value: str) -> int:
    found = _MEMORY.fullmatch(value)
    if found is None:
        raise InvalidArgument(f"--memory {value} is no amount of memory.")
    return max(1, int(found[1]) * _UNITS[found[2].lower()] // 1024**2)


def _number(flag: str, value: str) -> float:
    try:
        return float(value) if flag == "cpus" else int(value)
    except ValueError:
        raise InvalidArgument(f"{flag} is {value!r}, which is no number.") from None


def _about_secrets(env: Mapping[str, str]) -> list[str]:
    found = [name for name, value in env.items() if _SECRET.search(name) and value]
    if not found:
        return []
    return [
        f"{', '.join(found)} would be stored in the spec: better name it in containers.secrets, "
        'and deploy with secrets and secrets_as="env".'
    ]

"""What the engine is told of a container: the port's configuration in the words of its API."""

import hashlib
import io
import tarfile
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from mcp_hub.adapters.containers.port import ContainerConfig
from mcp_hub.adapters.errors import InvalidArgument

_MB = 1 << 20
_LOG = {"Type": "local", "Config": {"max-size": "5m", "max-file": "2", "compress": "false"}}
"""At most 10 MB of the engine's disk for what a container writes."""
_ULIMITS = [
    {"Name": "nofile", "Soft": 4096, "Hard": 4096},
    # A core dump would go to where the machine's kernel sends them, past all limits.
    {"Name": "core", "Soft": 0, "Hard": 0},
]
_OOM_SCORE = 500
"""Where the whole machine lacks memory, containers go before the hub and the engine."""
_NO_DNS = {"Dns": ["127.0.0.1"], "DnsOptions": ["timeout:1", "attempts:1"]}
"""The engine still knows its own names; for others it asks within the container, where none is."""
_VOLUME_MB = 64
_OWNER = 65_533
"""Nobody's uid, so that not even root without capabilities can change the files it is given."""


def api_config(config: ContainerConfig, volumes: Collection[str]) -> dict[str, Any]:
    """The body of the engine's `containers/create`; `volumes` are what the image declares as such.

    Raises:
        InvalidArgument: the network is not one of its own, or the files are not in one folder.
    """
    network = config.network or "none"
    if network == "host" or network.startswith("container:"):
        raise InvalidArgument(
            f"A container may not use the network {network!r}.",
            "Name a network that was made for it, or none.",
        )
    folder = files_folder(config.files)
    body: dict[str, Any] = {
        "Image": config.image,
        "Env": [f"{name}={value}" for name, value in config.env.items()],
        "Labels": dict(config.labels),
        "User": config.user,
        "OpenStdin": config.stdin,
        # Else the program would read an end once the first who was attached to it has gone.
        "StdinOnce": False,
        "Tty": False,
        # An image's own check would run programs that nobody asked for.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(config, network, volumes, folder),
    }
    if config.entrypoint is not None:
        body["Entrypoint"] = list(config.entrypoint)
    if config.command is not None:
        body["Cmd"] = list(config.command)
    return body


def _host_config(
    config: ContainerConfig, network: str, volumes: Collection[str], folder: str | None
) -> dict[str, Any]:
    memory = config.memory_mb * _MB
    tmpfs = dict(config.tmpfs)
    taken = {mount.target for mount in config.mounts} | tmpfs.keys() | {folder}
    if config.read_only:
        # The engine would make a volume for each, on its disk and without a limit.
        tmpfs |= {path: _VOLUME_MB for path in volumes if path not in taken}
    return {
        "NetworkMode": network,
        "CapDrop": ["ALL"],
        "CapAdd": list(config.capabilities),
        "SecurityOpt": [] if config.new_privileges else ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": config.read_only,
        "IpcMode": "private",
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": round(config.cpus * 1e9),
        "PidsLimit": config.pids,
        "OomScoreAdj": _OOM_SCORE,
        "Ulimits": _ULIMITS,
        "LogConfig": _LOG,
        "RestartPolicy": {"Name": "no"},
        "Tmpfs": {path: f"rw,noexec,nosuid,nodev,size={mb}m" for path, mb in tmpfs.items()},
        "Mounts": _mounts(config, folder),
        **({} if config.dns else _NO_DNS),
    }


def _mounts(config: ContainerConfig, folder: str | None) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {
            "Type": "bind",
            "Source": mount.source,
            "Target": mount.target,
            "ReadOnly": mount.read_only,
            # What is mounted below the source could be written to in spite of ReadOnly.
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": mount.read_only},
        }
        for mount in config.mounts
    ]
    if folder is not None:
        mounts.append({"Type": "volume", "Target": folder, "VolumeOptions": {"NoCopy": True}})
    return mounts


def files_folder(files: Mapping[str, bytes]) -> str | None:
    """The one folder that all `files` are in, None without any.

    Raises:
        InvalidArgument: they are in several, or in the root.
    """
    if not files:
        return None
    paths = [PurePosixPath(path) for path in files]
    folders = {str(path.parent) for path in paths}
    folder = folders.pop()
    if folders or not folder.startswith("/") or folder == "/" or ".." in folder:
        raise InvalidArgument(
            f"The files {', '.join(sorted(files))} are not in one folder.",
            "Name them by full paths below one folder, such as /run/secrets.",
        )
    return folder


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of `files` without their folder, which everyone in the container may read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(PurePosixPath(path).name)
            entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o444, _OWNER, _OWNER
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def network_body(
    name: str, labels: Mapping[str, str], *, internal: bool, machine: bool, peers: bool
) -> dict[str, Any]:
    """The body of the engine's `networks/create`."""
    option = "com.docker.network.bridge"
    options = {
        # Names of networks are not unique to engines before 25, those of interfaces always are.
        f"{option}.name": f"mcphub-{hashlib.sha256(name.encode()).hexdigest()[:8]}",
        # An address of the machine's would lead to all that listens there, internal or not.
        f"{option}.inhibit_ipv4": "false" if machine else "true",
        f"{option}.enable_icc": "true" if peers else "false",
    }
    return {
        "Name": name, "Driver": "bridge", "Internal": internal, "Labels": dict(labels),
        "CheckDuplicate": True, "Options": options,
    }  # fmt: skip

"""Which folders and files of the machine a container may have."""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mcp_hub.adapters.containers.port import Mount
from mcp_hub.adapters.errors import Denied, HubError, InvalidArgument
from mcp_hub.services.containers.specs import Volume
from mcp_hub.services.roots import Roots

_SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev", "/run/docker", "/run/containerd")))
"""Nothing in these is data."""
_TAKEN = tuple(
    map(
        PurePosixPath,
        (
            "/tmp", "/run/secrets", "/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hosts",
            "/etc/hostname",
        ),
    )
)  # fmt: skip
"""What a container has of its own."""


class Mounts:
    """Resolves volumes to what the engine mounts. Links are followed first and judged by where
    they lead. The methods block: call them in a thread.
    """

    def __init__(self, roots: Roots, kept: Iterable[Path]) -> None:
        """`kept` are the hub's own files and folders, and the engine's: no mount shows one."""
        self._roots = roots
        self._kept = [*_SYSTEM, *(Path(os.path.realpath(path)) for path in kept)]

    def resolve(self, volumes: Sequence[Volume]) -> list[Mount]:
        """The mounts that `volumes` ask for.

        Raises:
            Denied: one is outside the roots, is `/`, or would show what no container may see.
            InvalidArgument: a target is taken or said twice, or a source is no folder or file.
            NotFound: a source is not there.
        """
        _check_targets(volumes)
        return [self._resolved(volume) for volume in volumes]

    def remaining(self, volumes: Sequence[Volume]) -> list[Mount]:
        """The mounts of those volumes that can be mounted at all."""
        found = []
        for volume in volumes:
            with suppress(HubError):
                found.append(self._resolved(volume))
        return found

    def _resolved(self, volume: Volume) -> Mount:
        path, mode = self._roots.find(volume.source)
        if path == Path(path.anchor):
            raise Denied("The whole file system cannot be mounted.", "Name a folder below a root.")
        for kept in self._kept:
            if path.is_relative_to(kept) or kept.is_relative_to(path):
                raise Denied(
                    f"{volume.source!r} cannot be mounted: it is, holds or lies in {kept}, which "
                    "no container may see.",
                    "Name another folder.",
                )
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise InvalidArgument(f"{path} is neither a folder nor a regular file.")
        return Mount(str(path), volume.target, volume.read_only)


def check_apart(mounts: Sequence[Mount], others: Sequence[Mount]) -> None:
    """Refuse a mount inside what another container may write: its server could put a link there
    between the moment when the path is checked and the moment when the engine mounts it.

    Raises:
        Denied: there is one.
    """
    for one in (*mounts, *others):
        for other in (*mounts, *others):
            inside = one.source != other.source and Path(one.source).is_relative_to(other.source)
            if inside and not other.read_only and (one in mounts or other in mounts):
                raise Denied(
                    f"{one.source} cannot be mounted while {other.source} around it can be "
                    "written by a container.",
                    "Mount the outer folder read-only, or the same folder in both.",
                )


def _check_targets(volumes: Sequence[Volume]) -> None:
    seen: set[PurePosixPath] = set()
    for volume in volumes:
        target = PurePosixPath(volume.target)
        if ".." in target.parts or str(target) != volume.target:
            raise InvalidArgument(f"The target {volume.target!r} is not a plain absolute path.")
        if any(target.is_relative_to(t) or t.is_relative_to(target) for t in _TAKEN):
            raise InvalidArgument(
                f"The target {volume.target!r} is in the way of the container's own "
                f"{', '.join(map(str, _TAKEN))}.",
                "Take another, such as /data.",
            )
        if target in seen:
            raise InvalidArgument(f"Two volumes have the target {volume.target!r}.")
        seen.add(target)

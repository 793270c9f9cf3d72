"""Room on a disk: whatever is written down needs some."""

import shutil
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from mcp_hub.adapters.errors import Unavailable

_MB = 1024 * 1024
_LEAST_LEFT = 100 * _MB
_LEAST_SHARE = 0.05
"""Of a small disk: below the lesser of the two, it is full."""


class Room(NamedTuple):
    """Bytes that are free on a disk, and how many have to be."""

    free: int
    least: int


def room_of(folder: Path) -> Room:
    """That of the disk which `folder` is on, or would be. Raises OSError."""
    while not folder.exists():
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    return Room(disk.free, min(_LEAST_LEFT, int(disk.total * _LEAST_SHARE)))


async def check_room(folder: Path) -> str:
    """How much is free, as health checks tell it.

    Raises:
        Unavailable: it is too little, or cannot be told.
    """
    try:
        room = await to_thread.run_sync(room_of, folder)
    except OSError as error:
        raise Unavailable(f"The disk of {folder} cannot be looked at: {error.strerror}.") from error
    told = f"{room.free // _MB:,} MB are free for {folder}."
    if room.free < room.least:
        raise Unavailable(told, "Make room on it: what is sent or trained now cannot be kept.")
    return told

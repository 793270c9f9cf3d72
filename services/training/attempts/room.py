"""Room on the disk where attempts write: what is recorded of them needs some, too."""

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from mcp_hub.adapters.errors import LimitExceeded
from mcp_hub.services.disk import room_of
from mcp_hub.services.training.processes.usage import folder_bytes

_MB = 1024 * 1024


def filled_by(folder: Path) -> LimitExceeded | None:
    """What to tell of the attempt in `folder` if its disk is full and what it holds is the reason:
    at least as much as must be left. None otherwise, and where nobody can tell."""
    try:
        room = room_of(folder)
    except OSError:
        return None
    if room.free >= room.least:
        return None
    held = folder_bytes(folder)
    if held < room.least:
        return None
    return LimitExceeded(
        f"The disk was full: {room.free // _MB:,} MB were left, and its folder held "
        f"{held // _MB:,} MB.",
        "Have it write less, or give the disk of the data directory more room.",
    )


def make_room(folder: Path, spared: Collection[str]) -> None:
    """Remove all that is in `folder` but the files of the names `spared`."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in spared:
                with suppress(OSError):
                    path.unlink()

"""What an attempt uses while it runs: the memory of its processes, the room of its folder."""

import os
import sys
import time
from pathlib import Path

from mcp_hub.services.training.processes import procfs

_GROWTH = 1.02
"""Memory is counted exactly, which takes longer, where it has grown by so much."""
_WALK_SHARE = 20
"""How many times longer than a look at the folder takes it is left alone after it."""


class Usage:
    """Measured by `look`; in bytes."""

    def __init__(self, pid: int, folder: Path, memory_limit: int | None) -> None:
        """`pid` is above all of the attempt's processes."""
        self.memory = 0
        self.peak_memory = 0
        self.disk = 0
        self._pid = pid
        self._folder = folder
        self._memory_limit = memory_limit
        self._counted_at = 0.0
        self._walk_at = 0.0

    def look(self) -> None:
        """Measure. Of memory that processes share, each counts its part."""
        if sys.platform == "linux":
            self._look_at_memory()
        if time.monotonic() >= self._walk_at:
            began = time.monotonic()
            self.disk = folder_bytes(self._folder)
            self._walk_at = began + (time.monotonic() - began) * _WALK_SHARE

    def _look_at_memory(self) -> None:
        pids = list(procfs.below(self._pid, procfs.children()))
        resident = sum(map(procfs.resident_bytes, pids))
        over = self._memory_limit is not None and resident > self._memory_limit
        if resident > self._counted_at * _GROWTH or over:
            self._counted_at = max(self._counted_at, resident)
            self.memory = sum(map(procfs.proportional_bytes, pids))
            self.peak_memory = max(self.peak_memory, self.memory)


def folder_bytes(folder: Path) -> int:
    """The room that the files in `folder` take on their disk; links are not followed."""
    total = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            # It was removed meanwhile.
            continue
    return total

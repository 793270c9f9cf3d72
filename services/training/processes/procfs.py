"""The processes of this machine, from Linux' /proc: who started whom, and how much they hold."""

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def children() -> dict[int, list[int]]:
    """Of every process that has children, which; ended ones not yet waited for are among them."""
    found: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                # The name, in brackets, may hold anything. State and parent come after it.
                after = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                found.setdefault(int(after[1]), []).append(int(entry.name))
    return found


def below(pid: int, tree: dict[int, list[int]]) -> Iterator[int]:
    """The processes below `pid` in what `children` returned, nearest first."""
    waiting = deque(tree.get(pid, ()))
    while waiting:
        process = waiting.popleft()
        yield process
        waiting.extend(tree.get(process, ()))


def resident_bytes(pid: int) -> int:
    """The memory that a process holds, with what it shares; 0 if it is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    return 0


def proportional_bytes(pid: int) -> int:
    """The memory that a process holds, of what it shares only its part: takes longer to find."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return resident_bytes(pid)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or is only to be waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


def machine_memory() -> int:
    """The memory of this machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


def oom_kills() -> int:
    """How often the kernel has killed a process for want of memory since the machine started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_bytes().splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0

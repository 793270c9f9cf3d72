"""Which cores and GPUs of its machine a worker gives to which attempt."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from mcp_hub.services.cores import usable_cores

_DETECT_S = 20
_TRY_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Grant:
    """What an attempt has to itself: GPUs, as CUDA_VISIBLE_DEVICES names them; and the cores it
    runs on, none for any."""

    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()


class Slots:
    """The cores and GPUs of this machine.

    A GPU goes to one attempt at a time, whichever of the machine's workers runs it: a lock on a
    file of `folder` says so, and the kernel takes it back from a worker that is killed. Cores are
    shared once there are none unused; an attempt gets those that fewest have.
    """

    def __init__(self, gpus: Sequence[str], folder: Path) -> None:
        self.gpus = tuple(gpus)
        self._folder = folder
        self._taken: set[str] = set()
        self._cores = Counter(dict.fromkeys(usable_cores(), 0))

    @property
    def free_gpus(self) -> int:
        """How many GPUs none of this worker's attempts has."""
        return len(self.gpus) - len(self._taken)

    @asynccontextmanager
    async def hold(self, *, cpus: int | None, gpus: int, at_least: int) -> AsyncIterator[Grant]:
        """Hold `cpus` cores, or any where that is None, and up to `gpus` GPUs.

        Waits until `at_least` GPUs are free.
        """
        locks: dict[str, int] = {}
        cores: tuple[int, ...] = ()
        try:
            while gpus:
                await to_thread.run_sync(self._lock, gpus, locks)
                if len(locks) >= at_least:
                    break
                # All or none: two that have a part each would wait for one another.
                self._unlock(locks)
                await anyio.sleep(_TRY_AGAIN_S)
            if cpus is not None:
                fewest = sorted(self._cores, key=lambda core: (self._cores[core], core))
                cores = tuple(sorted(fewest[:cpus]))
                self._cores.update(cores)
            yield Grant(cores, tuple(sorted(locks, key=self.gpus.index)))
        finally:
            self._cores.subtract(cores)
            self._unlock(locks)

    def _lock(self, count: int, locks: dict[str, int]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for gpu in self.gpus:
            if len(locks) == count:
                return
            if gpu in self._taken:
                continue
            name = "".join(char if char.isalnum() or char in "-." else "_" for char in gpu)
            file = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            self._taken.add(gpu)
            locks[gpu] = file

    def _unlock(self, locks: dict[str, int]) -> None:
        for gpu, file in locks.items():
            os.close(file)
            self._taken.discard(gpu)
        locks.clear()


def slots_folder() -> Path:
    """Where the locks are that all workers of this user on this machine share."""
    return Path(tempfile.gettempdir()) / f"mcp-hub-gpus-{os.getuid()}"


def detect_gpus(count: int | None) -> list[str]:
    """The GPUs there are, as CUDA_VISIBLE_DEVICES names them: those that it names already, else
    the first `count`, else those that nvidia-smi lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [name.strip() for name in visible.split(",")]
        # CUDA ends the list at the first that is no device, such as -1.
        end = next((n for n, name in enumerate(named) if name in ("", "-1")), len(named))
        return named[:end][:count]
    if count is not None:
        return [str(number) for number in range(count)]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        query = [program, "--query-gpu=index", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=_DETECT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.strip().isdecimal()]

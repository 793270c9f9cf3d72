"""Starts the processes of attempts, and ends them with everything they started."""

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import anyio
from anyio import to_thread
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from mcp_hub.adapters.errors import Unavailable
from mcp_hub.services.training.processes.keeper import TERM_GRACE_S
from mcp_hub.services.training.processes.procfs import has_ended

logger = logging.getLogger(__name__)

_KEEPER_GRACE_S = 10
"""How long a keeper has to end an attempt: a job may have stopped it, as they share a user."""
_START_TIMEOUT_S = 120
# What an attempt may see of the worker's environment. Everything else, credentials above all,
# stays behind.
_PASSED_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV",
    "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SSL_CERT_FILE",
)  # fmt: skip
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT", "RAYON_NUM_THREADS",
    "UV_THREADPOOL_SIZE", "TF_NUM_INTRAOP_THREADS",
)  # fmt: skip
"""What libraries ask for how many threads they may have."""


class AttemptProcess(Protocol):
    """A running attempt."""

    @property
    def pid(self) -> int:
        """The process that started the attempt's own, or that is it: all others are below it."""
        ...

    async def wait(self) -> int:
        """The exit status, negative for a signal, once nothing of the attempt is left."""
        ...

    async def stop(self) -> None:
        """End what is left of it: SIGTERM, then SIGKILL; returns when it has."""
        ...


def _signal(pid: int, number: int, *, group: bool = False) -> None:
    assert pid > 0, "0 would mean the worker's own group"
    with suppress(ProcessLookupError, PermissionError):
        (os.killpg if group else os.kill)(pid, number)


class Launcher:
    """Starts attempts, from a zygote where forking is sound (Linux), else each from nothing.

    An async context manager. All attempts die with the process that holds the launcher: they
    watch a pipe, the lifeline, whose other end only it has.
    """

    def __init__(self, threads_per_attempt: int) -> None:
        self._environment = {
            name: value for name in _PASSED_VARIABLES if (value := os.environ.get(name))
        }
        self._environment |= dict.fromkeys(THREAD_VARIABLES, str(threads_per_attempt))
        self.threads_per_attempt = threads_per_attempt
        self._zygotes: dict[tuple[str, ...], _Zygote] = {}
        self._starting = anyio.Lock()
        self._tasks: TaskGroup
        self._lifeline: int
        self._lifeline_writer: int

    async def __aenter__(self) -> Self:
        self._lifeline, self._lifeline_writer = os.pipe()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        os.close(self._lifeline_writer)
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            os.close(self._lifeline)

    async def start(self, folder: Path, preload: tuple[str, ...]) -> AttemptProcess:
        """Start the attempt described in `folder`, with `preload` imported where that is free."""
        if not sys.platform.startswith("linux"):
            return await self._spawn(folder)
        async with self._starting:
            zygote = self._zygotes.get(preload)
            if zygote is None or zygote.ended:
                zygote = self._zygotes[preload] = await self._open_zygote(preload)
        return await zygote.fork(folder)

    async def _spawn(self, folder: Path) -> AttemptProcess:
        command = ["mcp_hub.services.training.processes.attempt", str(folder), str(self._lifeline)]
        return _Spawned(
            await self._open(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        )

    async def _open_zygote(self, preload: tuple[str, ...]) -> "_Zygote":
        command = ["mcp_hub.services.training.processes.zygote", str(self._lifeline), *preload]
        process = await self._open(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        zygote = _Zygote(process)
        self._tasks.start_soon(zygote.listen)
        return zygote

    async def _open(self, module: list[str], *, stdin: int, stdout: int) -> Process:
        return await anyio.open_process(
            [sys.executable, "-m", *module],
            stdin=stdin,
            stdout=stdout,
            stderr=None,
            env=self._environment,
            pass_fds=(self._lifeline,),
        )


class _Spawned:
    """An attempt without a keeper: the leader of its group. What leaves the group is not ended."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self._process = process

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            _signal(self.pid, signal.SIGTERM, group=True)
            with anyio.move_on_after(TERM_GRACE_S):
                await self._process.wait()
            _signal(self.pid, signal.SIGKILL, group=True)
            await self._process.wait()


class _Forked:
    """An attempt forked by a zygote, which reports its end; `pid` is its keeper's."""

    def __init__(self) -> None:
        self.pid = 0
        self.abandoned = False
        """Whether nobody waits for it any more: it is to end as soon as it has begun."""
        self._started = anyio.Event()
        self._ended = anyio.Event()
        self._status = 0

    def started(self, pid: int) -> None:
        self.pid = pid
        self._started.set()

    def ended(self, status: int) -> None:
        self._status = status
        self._started.set()
        self._ended.set()

    async def wait_started(self) -> None:
        await self._started.wait()

    async def wait(self) -> int:
        await self._ended.wait()
        return self._status

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            if not self._ended.is_set():
                _signal(self.pid, signal.SIGTERM)
            with anyio.move_on_after(_KEEPER_GRACE_S):
                await self._ended.wait()
                return
            # The zygote ends what a killed keeper leaves.
            _signal(self.pid, signal.SIGKILL)
            await self._ended.wait()


class _Zygote:
    """The worker's side of a zygote process."""

    def __init__(self, process: Process) -> None:
        self.ended = False
        self._process = process
        self._waiting: dict[str, _Forked] = {}
        self._running: dict[int, _Forked] = {}

    async def fork(self, folder: Path) -> AttemptProcess:
        """Fork an attempt; returns when it has a process id."""
        forked = self._waiting[str(folder)] = _Forked()
        assert self._process.stdin is not None
        try:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                # Its end is heard of by `listen`.
                request = json.dumps({"folder": str(folder)}).encode() + b"\n"
                await self._process.stdin.send(request)
            with anyio.fail_after(_START_TIMEOUT_S):
                await forked.wait_started()
        except BaseException:
            forked.abandoned = True
            raise
        if not forked.pid:
            raise Unavailable(
                "The process that starts attempts ended while it loaded the framework.",
                "The worker's log has what it printed.",
            )
        return forked

    async def listen(self) -> None:
        """Pass on what the zygote reports until it ends."""
        assert self._process.stdout is not None
        answers = BufferedByteReceiveStream(self._process.stdout)
        try:
            while True:
                answer = json.loads(await answers.receive_until(b"\n", 65536))
                if "folder" in answer:
                    forked = self._waiting.pop(answer["folder"])
                    self._running[answer["pid"]] = forked
                    forked.started(answer["pid"])
                    if forked.abandoned:
                        _signal(forked.pid, signal.SIGTERM)
                else:
                    self._running.pop(answer["pid"]).ended(answer["status"])
        except (anyio.IncompleteRead, anyio.EndOfStream, ValueError, KeyError):
            logger.error("The process that starts attempts ended, or said what nobody can read.")
        finally:
            self.ended = True
            with anyio.CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.aclose()
                async with anyio.create_task_group() as tasks:
                    for forked in (*self._waiting.values(), *self._running.values()):
                        tasks.start_soon(_lose, forked)


async def _lose(forked: _Forked) -> None:
    """See an attempt to its end whose zygote, which should report that, has ended.

    Its keeper ends it: the kernel sends it SIGTERM when the zygote ends.
    """
    with anyio.move_on_after(_KEEPER_GRACE_S):
        # The kernel tells of a child's end, and this is another's.
        while forked.pid and not await to_thread.run_sync(has_ended, forked.pid):  # noqa: ASYNC110
            await anyio.sleep(0.05)
    if forked.pid:
        _signal(forked.pid, signal.SIGKILL)
    forked.ended(-signal.SIGKILL)

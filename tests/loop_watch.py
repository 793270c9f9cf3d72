"""A watch on the event loop: which code of ours kept it from turning, and for how long.

A thread samples the main thread's stack. Wall time alone would blame whoever happens to run
while the machine is busy, so only two kinds of time count: the CPU time that the main thread
spends within one callback of the loop, and the time during which it sleeps in one system call.
A full collection of garbage does not count either: it takes longer the more the tests before left.
"""

import asyncio
import gc
import inspect
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sys import _current_frames
from types import FrameType

LIMIT_S = 0.25
_INTERVAL_S = 0.025
_AT_REST_S = 0.001
_FULL = 2
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_STEP = asyncio.Handle._run.__code__
# These wait until the machine has run a new thread or process for a moment.
_STARTS = {threading.Thread.start.__code__, subprocess.Popen._execute_child.__code__}  # type: ignore[attr-defined]


class LoopWatch:
    """Watches callbacks of the main thread's loop that run in coroutines of the `own` folders."""

    def __init__(self, *own: Path, limit_s: float = LIMIT_S) -> None:
        self.blocked: list[str] = []
        self._own = tuple(f"{folder}/" for folder in own)
        self._limit_s = limit_s
        self._done = threading.Event()
        main = threading.main_thread()
        self._ident = main.ident or 0
        self._stat = Path(f"/proc/self/task/{main.native_id}/stat")
        self._clock = 0
        # Odd while a callback runs. To walk the stack at each sample would tell as much, but
        # CPython 3.11 can crash where one thread looks at the frames of another that goes on.
        self._turn = 0
        self._seen = 0
        self._sampled = self._cpu = self._cpu_at_start = self._asleep = 0.0
        self._reported = False

    @contextmanager
    def running(self) -> Iterator["LoopWatch"]:
        # Only Linux tells a thread's CPU time and state to another thread.
        if not self._stat.exists():
            yield self
            return
        self._clock = time.pthread_getcpuclockid(self._ident)
        thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        with self._counting(), self._sparing_collections():
            thread.start()
            try:
                yield self
            finally:
                self._done.set()
                thread.join()

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count the beginnings and ends of the main thread's callbacks."""
        run = asyncio.Handle._run

        def counted(handle: asyncio.Handle) -> None:
            if threading.get_ident() != self._ident:
                run(handle)
                return
            self._turn |= 1
            try:
                run(handle)
            finally:
                self._turn = (self._turn | 1) + 1

        asyncio.Handle._run = counted  # type: ignore[method-assign]
        try:
            yield
        finally:
            asyncio.Handle._run = run  # type: ignore[method-assign]

    @contextmanager
    def _sparing_collections(self) -> Iterator[None]:
        """Let each full collection of the main thread's end a turn, and begin another."""
        within = False

        def collecting(phase: str, info: dict[str, int]) -> None:
            nonlocal within
            if info["generation"] < _FULL or threading.get_ident() != self._ident:
                return
            if phase == "start":
                within = bool(self._turn & 1)
            self._turn += within

        gc.callbacks.append(collecting)
        try:
            yield
        finally:
            gc.callbacks.remove(collecting)

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        now = time.monotonic()
        cpu = time.clock_gettime(self._clock)
        since, self._sampled = now - self._sampled, now
        spent, self._cpu = cpu - self._cpu, cpu
        turn = self._turn
        if not turn & 1 or turn != self._seen:
            self._seen = turn
            self._cpu_at_start, self._asleep, self._reported = cpu, 0.0, False
            return
        # A late sample says that the machine is busy; a thread that waits for the interpreter's
        # lock gets some time from sample to sample.
        if spent < _AT_REST_S and since < 2 * _INTERVAL_S and self._sleeps():
            self._asleep += since
        used = cpu - self._cpu_at_start
        if not self._reported and used + self._asleep > self._limit_s:
            self._reported = True
            self._report(self._stack(), used)

    def _stack(self) -> list[FrameType]:
        """The main thread's frames, innermost first."""
        frame = _current_frames().get(self._ident)
        frames = []
        while frame is not None and frame.f_code is not _STEP:
            frames.append(frame)
            frame = frame.f_back
        return frames

    def _sleeps(self) -> bool:
        return self._stat.read_text().rpartition(")")[2].split()[0] in "SD"

    def _report(self, stack: list[FrameType], cpu: float) -> None:
        if any(frame.f_code in _STARTS for frame in stack):
            return
        # What loads at first use blocks once in the life of a process: that is meant.
        if any(frame.f_code.co_filename.startswith("<frozen importlib") for frame in stack):
            return
        own = [frame for frame in stack if frame.f_code.co_filename.startswith(self._own)]
        # A test may call a plain function of ours: only a coroutine owes the loop its turns.
        if any(frame.f_code.co_flags & _ASYNC for frame in own):
            lines = "\n".join(
                f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
                for frame in reversed(own)
            )
            spent = f"{cpu:.2f} s of CPU, {self._asleep:.2f} s asleep"
            self.blocked.append(f"the event loop did not turn for {spent}:\n{lines}")

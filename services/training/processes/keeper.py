"""The process between a zygote and an attempt: whatever the attempt starts ends with it.

The keeper is a "child subreaper": a process below it whose parent has ended becomes the keeper's
child, however it forked and whatever session it moved to, so that all an attempt ever started
stays below the keeper, and the keeper ends when nothing is. Linux only.
"""

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from mcp_hub.services.training.processes import procfs

TERM_GRACE_S = 1.0
"""What an attempt that is to end has after SIGTERM, before SIGKILL."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep(lifeline: int, run: Callable[[], int]) -> int:
    """Run an attempt in a child and end all it started; its status, negative for a signal.

    It ends early on SIGTERM, which it passes on, and at once when the other end of `lifeline` is
    closed, which is the worker's.
    """
    zygote = os.getppid()
    os.setsid()
    adopt_orphans()
    wake_up, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    asked: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != zygote:
        return -signal.SIGTERM
    keeper = os.getpid()
    job = os.fork()
    if job == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The keeper may have been killed before this one would have heard of it.
        os._exit(run() if os.getppid() == keeper else 1)
    status = _watch(job, lifeline, wake_up, asked)
    statuses = kill_children()
    return statuses.get(job, -signal.SIGKILL) if status is None else status


def end_as(status: int) -> None:
    """End this process with the status that `keep` gave, by the signal where it was one."""
    if status >= 0:
        os._exit(status)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-status])
    os.kill(os.getpid(), -status)
    os._exit(128 - status)


def kill_children(spare: Collection[int] = ()) -> dict[int, int]:
    """Kill every process below this one, except the children `spare` and theirs; the exit
    statuses of the children that ended.

    A killed process's children become this one's, so that it goes on until there are none.
    """
    statuses: dict[int, int] = {}
    own_group = os.getpgid(0)
    while True:
        tree = procfs.children()
        doomed = [pid for pid in tree.get(os.getpid(), ()) if pid not in spare]
        if not doomed:
            return statuses
        for process in (*doomed, *(pid for root in doomed for pid in procfs.below(root, tree))):
            with suppress(ProcessLookupError, PermissionError):
                # By groups, which do not outrun it by forking; none of them is this one's.
                if (group := os.getpgid(process)) != own_group:
                    os.killpg(group, signal.SIGKILL)
                os.kill(process, signal.SIGKILL)
        for pid in doomed:
            with suppress(ChildProcessError):
                statuses[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _watch(job: int, lifeline: int, wake_up: int, asked: list[float]) -> int | None:
    """Wait for the job's end, and reap what it leaves; its status, None if it is to be killed."""
    poll = select.poll()
    poll.register(lifeline, 0)
    poll.register(wake_up, select.POLLIN)
    told = False
    while True:
        status = _reap(job)
        if status is not None:
            return status
        if asked and not told:
            told = True
            _terminate(job)
        left_s = asked[0] + TERM_GRACE_S - time.monotonic() if asked else None
        if left_s is not None and left_s <= 0:
            return None
        events = dict(poll.poll(None if left_s is None else left_s * 1000))
        if lifeline in events:
            return None
        if wake_up in events:
            os.read(wake_up, 4096)


def _terminate(job: int) -> None:
    try:
        os.killpg(job, signal.SIGTERM)
    except ProcessLookupError:
        # It has not made its own group yet.
        with suppress(ProcessLookupError):
            os.kill(job, signal.SIGTERM)


def _reap(job: int) -> int | None:
    """Take note of every child that has ended; the job's status if it is among them."""
    status: int | None = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == job:
                status = os.waitstatus_to_exitcode(ended[1])
    return status


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")

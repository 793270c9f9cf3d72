"""A process that has a framework's libraries loaded, and forks an attempt from itself on request.

Loading scikit-learn and its ONNX converter takes seconds, forking milliseconds. The zygote never
trains, so it has no threads and no pools to be broken by a fork. It reads one request a line,
`{"folder"}`, and answers with `{"pid", "folder"}` at once and `{"pid", "status"}` at the end,
where `pid` is the attempt's keeper's and `status` is as `os.waitstatus_to_exitcode` gives it.

`python -m mcp_hub.services.training.processes.zygote LIFELINE MODULE…`
"""

import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from mcp_hub.services.training.frameworks.tasks import read_task
from mcp_hub.services.training.processes import attempt, keeper


def main() -> None:
    """Serve until standard input ends."""
    lifeline, modules = int(sys.argv[1]), sys.argv[2:]
    # What a module prints when it is imported must not mix with the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    for module in modules:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit):  # noqa: BLE001 - the attempt that needs it says so, in its own log
            traceback.print_exc()
    # A child's end interrupts the wait for the next request.
    wake_up, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper.adopt_orphans()
    _serve(lifeline, wake_up, answers)


def _serve(lifeline: int, wake_up: int, answers: int) -> None:
    requests = b""
    keepers: set[int] = set()
    while True:
        ready, _, _ = select.select([0, wake_up], [], [])
        if wake_up in ready:
            os.read(wake_up, 4096)
        _report_ended(keepers, answers)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, requests = (requests + data).split(b"\n")
            for line in lines:
                folder = json.loads(line)["folder"]
                pid = _fork(Path(folder), lifeline, answers)
                keepers.add(pid)
                _answer(answers, {"pid": pid, "folder": folder})


def _fork(folder: Path, lifeline: int, answers: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # The worker hears of the zygote's end by these.
        os.close(answers)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        status = keeper.keep(lifeline, lambda: _attempt(folder))
    finally:
        # Never return into the parent's loop, nor run its exit handlers.
        keeper.end_as(status)
    raise AssertionError


def _attempt(folder: Path) -> int:
    attempt.enter(folder, read_task(folder))
    status = attempt.train(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _report_ended(keepers: set[int], answers: int) -> None:
    ended = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        if pid in keepers:
            keepers.remove(pid)
            ended.append({"pid": pid, "status": os.waitstatus_to_exitcode(status)})
    if ended:
        # A keeper that was killed leaves here what it kept.
        keeper.kill_children(spare=keepers)
    for message in ended:
        _answer(answers, message)


def _answer(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()

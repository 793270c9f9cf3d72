"""A process that has a framework's libraries loaded, and forks an attempt from itself on request.

Loading scikit-learn and its ONNX converter takes seconds, forking milliseconds. The zygote never
trains, so it has no threads and no pools to be broken by a fork. It reads one request a line,
`{"folder"}`, and answers with `{"pid", "folder"}` at once and `{"pid", "status"}` at the end,
where `status` is as `os.waitstatus_to_exitcode` gives it.

`python -m mcp_hub.services.training.zygote LIFELINE MODULE…`
"""

import importlib
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

from mcp_hub.services.training import attempt


def main() -> None:
    """Serve until standard input ends."""
    lifeline, modules = int(sys.argv[1]), sys.argv[2:]
    # What a module prints when it is imported must not mix with the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    for module in modules:
        importlib.import_module(module)
    # A child's end interrupts the wait for the next request.
    wake_up, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(lifeline, wake_up, answers)


def _serve(lifeline: int, wake_up: int, answers: int) -> None:

    requests = b""
    while True:
        ready, _, _ = select.select([0, wake_up], [], [])
        if wake_up in ready:
            os.read(wake_up, 4096)
        _report_ended(answers)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, requests = (requests + data).split(b"\n")
            for line in lines:
                _fork(Path(json.loads(line)["folder"]), lifeline, answers)


def _fork(folder: Path, lifeline: int, answers: int) -> None:
    pid = os.fork()
    if pid:
        _answer(answers, {"pid": pid, "folder": str(folder)})
        return
    status = 1
    try:
        os.close(answers)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        task = attempt.read_task(folder)
        attempt.enter(folder, lifeline, task["environment"], task["memory_mb"])
        status = attempt.train(folder)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Never return into the parent's loop, nor run its exit handlers.
        os._exit(status)


def _report_ended(answers: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _answer(answers, {"pid": pid, "status": os.waitstatus_to_exitcode(status)})


def _answer(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()

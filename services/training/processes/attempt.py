"""An attempt's own process: read the task, train, report. Run in the attempt's folder.

`python -m mcp_hub.services.training.processes.attempt FOLDER LIFELINE` starts one from nothing;
`zygote` forks one with the framework's libraries loaded already.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_hub.adapters.errors import HubError
from mcp_hub.services.training.frameworks.base import Place
from mcp_hub.services.training.frameworks.registry import load_runner
from mcp_hub.services.training.frameworks.tasks import read_task, training_task
from mcp_hub.services.training.processes.requirements import check_requirements
from mcp_hub.services.training.run import run

EVENTS_FILE = "events.jsonl"
STDOUT_FILE = "stdout.log"
STDERR_FILE = "stderr.log"


def enter(folder: Path, task: Mapping[str, Any]) -> None:
    """Make this process the attempt's: its own group, folder, output files and limits."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(folder)
    for path, descriptor in ((STDOUT_FILE, 1), (STDERR_FILE, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The streams of a forked process may be block-buffered or closed: open them anew.
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.update(task["environment"])
    os.environ["MCP_HUB_EVENTS"] = str(folder / EVENTS_FILE)
    _limit(task["limits"])


def train(folder: Path) -> int:
    """Run the task in `folder`; the process's exit status."""
    task = read_task(folder)
    try:
        check_requirements(task, folder)
        framework = load_runner(task["framework"], Place.model_validate(task["place"]))
        framework.train(training_task(task, folder), run)
    except HubError as error:
        run.error(error.code, error.message, error.hint)
        return 1
    except SystemExit as end:
        # As the interpreter would: a number, nothing for 0, or a message for 1.
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{end.code}\n")
        return 1
    except MemoryError:
        run.error("limit_exceeded", "The training ran out of memory.", "Use less data.")
        _print_traceback()
        return 1
    except Exception as error:  # noqa: BLE001 - the job ends here, its log has the traceback
        run.error("internal", f"{type(error).__name__}: {error}", "See training_logs.")
        _print_traceback()
        return 1
    return 0


def _print_traceback() -> None:
    # The job may have closed its standard error.
    with contextlib.suppress(OSError, ValueError):
        traceback.print_exc()


def _limit(limits: Mapping[str, Any]) -> None:
    import resource

    megabyte = 1024 * 1024
    for kind, value in (
        (resource.RLIMIT_DATA, limits["data_mb"]),
        (resource.RLIMIT_FSIZE, limits["disk_mb"]),
    ):
        if value is not None:
            resource.setrlimit(kind, (value * megabyte, value * megabyte))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits["cores"] and sys.platform == "linux":
        os.sched_setaffinity(0, limits["cores"])


def _die_with(lifeline: int) -> None:
    """End the whole process group when the worker, which holds the other end, is gone."""
    poll = select.poll()
    poll.register(lifeline, 0)
    while not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll()):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run one attempt from the command line that the launcher writes."""
    folder = Path(sys.argv[1])
    enter(folder, read_task(folder))
    threading.Thread(target=_die_with, args=(int(sys.argv[2]),), daemon=True).start()
    sys.exit(train(folder))


if __name__ == "__main__":
    main()

"""The worker process."""

import fcntl
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread

from mcp_hub.server.composition import open_worker
from mcp_hub.server.settings import Settings
from mcp_hub.services.training.workers.worker import Worker

logger = logging.getLogger(__name__)

_LOCK_WAIT_S = 10.0


async def run_worker(
    settings: Settings, *, idle_exit_s: float | None = None, exclusive: bool = False
) -> bool:
    """Work until SIGTERM or SIGINT, or for `idle_exit_s` seconds without a job.

    An `exclusive` worker is the only such one on its data directory; False if there is another.
    """
    async with _lock(settings.data_dir / "worker.lock", wanted=exclusive) as acquired:
        if not acquired:
            logger.info("Another worker is at work on %s", settings.data_dir)
            return False
        async with (
            open_worker(settings, idle_exit_s=idle_exit_s) as worker,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(_stop_on_signal, worker)
            await worker.run()
            tasks.cancel_scope.cancel()
    return True


async def _stop_on_signal(worker: Worker) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            logger.info("Stopping on %s; running jobs go back to the queue", number.name)
            worker.stop()


@asynccontextmanager
async def _lock(path: Path, *, wanted: bool) -> AsyncIterator[bool]:
    """Hold the file's lock; waits a little for a holder that is just ending."""
    if not wanted:
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        yield await to_thread.run_sync(_try_lock, file.fileno())


def _try_lock(descriptor: int) -> bool:
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        else:
            return True

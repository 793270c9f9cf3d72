"""How a hub that has just queued a job makes sure that a worker is there to take it."""

import os
import subprocess
import sys
import threading

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.database.port import Database
from mcp_hub.server.settings import Settings
from mcp_hub.services.training.liveness import live_workers

_START_WAIT_S = 15.0


class WorkerStarter:
    """Starts a detached worker when none is alive: it outlives this process."""

    def __init__(self, settings: Settings, database: Database, *, enabled: bool) -> None:
        self._settings = settings
        self._database = database
        self._enabled = enabled
        self._starting = anyio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._give_up_at = 0.0

    async def __call__(self) -> None:
        """Return once a worker is alive or on its way."""
        if not self._enabled:
            return
        async with self._starting:
            if self._is_on_its_way() or await self._database.read(self._is_alive):
                return
            self._give_up_at = anyio.current_time() + _START_WAIT_S
            self._process = await to_thread.run_sync(self._start)

    def _is_on_its_way(self) -> bool:
        process = self._process
        return (
            process is not None
            and process.poll() is None
            and anyio.current_time() < self._give_up_at
        )

    def _is_alive(self, connection: Connection) -> bool:
        silence_ms = int(self._settings.training.worker_silence_s * 1000)
        return bool(live_workers(connection, silence_ms))

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._settings.data_dir
        idle = self._settings.training.idle_exit_s
        command = [
            sys.executable, "-m", "mcp_hub", "worker", "--exclusive", "--idle-exit", str(idle),
        ]  # fmt: skip
        with (folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | self._settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Somebody must collect its exit status if it ends before this process does.
        threading.Thread(target=process.wait, daemon=True).start()
        return process

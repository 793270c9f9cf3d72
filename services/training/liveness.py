"""Which workers are alive: by their heartbeats, and on this machine by their process as well."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import jobs, workers

Worker = Row[Any, Any]


@cache
def this_host() -> str:
    """Where a process id of ours means something: this host, this boot, this pid namespace."""
    parts = [platform.node()]
    if Path("/proc/self/ns/pid").exists():
        parts.append(Path("/proc/self/ns/pid").readlink().name)
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return "/".join(parts)


def live_workers(connection: Connection, silence_ms: int) -> list[Worker]:
    """The workers that have sent a heartbeat in the last `silence_ms` and are not known dead."""
    recent = workers.c.heartbeat_at > now_ms() - silence_ms
    rows = connection.execute(select(workers).where(recent).order_by(workers.c.id))
    return [row for row in rows if not is_dead(row)]


def is_dead(worker: Worker) -> bool:
    """Whether the worker ran here and its process is gone. One elsewhere is never known dead."""
    if worker.host != this_host():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def bury(connection: Connection, silence_ms: int) -> None:
    """Forget the workers that are gone, and end the leases of those known to be dead.

    Waiting for a lease is for what cannot be known: a worker on a machine out of reach.
    """
    for worker in connection.execute(select(workers)).all():
        if is_dead(worker):
            connection.execute(
                update(jobs)
                .where(jobs.c.worker_id == worker.id, jobs.c.status == "running")
                .values(lease_expires_at=0)
            )
            connection.execute(delete(workers).where(workers.c.id == worker.id))
    connection.execute(delete(workers).where(workers.c.heartbeat_at < now_ms() - silence_ms))

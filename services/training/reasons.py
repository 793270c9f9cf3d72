"""Why a queued job does not run yet."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import jobs as table
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.liveness import live_workers
from mcp_hub.services.training.views import Wait
from mcp_hub.services.views import iso


def reason_to_wait(
    connection: Connection,
    job: Job,
    parents: list[str],
    per_framework: Mapping[str, int],
    silence_ms: int,
) -> Wait:
    """What the queued job waits for; how many come before it is for the queue to say.

    `parents` are those that have not succeeded; `per_framework` is how many attempts one worker
    runs at once. One that is silent for longer than `silence_ms` does not count.
    """
    if parents:
        return Wait(reason="parents")
    if job.not_before is not None and job.not_before > connection.scalar(select(now_ms())):
        reason = "back_off" if job.failures else "start_time"
        return Wait(reason=reason, until=iso(job.not_before))
    workers = live_workers(connection, silence_ms)
    if not workers:
        return Wait(reason="worker")
    most = per_framework.get(job.framework)
    if most is not None:
        running = select(func.count()).where(
            table.c.status == "running", table.c.framework == job.framework
        )
        if connection.execute(running).scalar_one() >= most * len(workers):
            return Wait(reason="framework")
    return Wait(reason="queue")

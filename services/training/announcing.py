"""Telling the queue and the bus what the jobs table already says."""

from functools import partial
from typing import Any

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.queue.port import Queue
from mcp_hub.services.scoring.work import PREDICT
from mcp_hub.services.training import jobs
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.views import JobStatus

LIST_CHANGED = "resources/list_changed"
WORK_CHANGED = "training/work_changed"
"""The topic that wakes the workers: a job was queued, or is to be cancelled."""


def job_topic(job_id: str) -> str:
    """The topic under which changes of a job are published: its resource's URI."""
    return f"training://jobs/{job_id}"


SWEEPS = "training://sweeps/"


def sweep_topic(sweep_id: str) -> str:
    """The topic under which changes of a sweep are published."""
    return f"{SWEEPS}{sweep_id}"


async def enqueue_ready(database: Database, queue: Queue) -> None:
    """Give the queue a message for every job that may run and has none.

    Whatever happens between the commit of a job and its message, or of a parent's end and its
    children's messages, a later call makes up for.
    """
    while ready := await database.read(jobs.take_unannounced, one_statement=True):
        for job in ready:
            await queue.enqueue(
                job.id,
                priority=job.priority,
                delay_s=max(0, job.delay_ms) / 1000,
                kind=job.framework,
                payload=_description(job),
            )
        ids = [job.id for job in ready]
        await database.write(partial(jobs.mark_enqueued, job_ids=ids), one_statement=True)
        if len(ready) < jobs.READY_AT_ONCE:
            return


def _description(job: Job) -> dict[str, Any]:
    """The job for a worker that is no hub's and cannot look it up."""
    return {
        "job_id": job.id, "name": job.name, "type": job.type, "framework": job.framework,
        "dataset": f"{job.dataset_name}:{job.dataset_version}", "target": job.target,
        "config": job.config, **({"traceparent": job.traceparent} if job.traceparent else {}),
    }  # fmt: skip


def described(job: Job) -> dict[str, Any]:
    """The job as the attributes of its telemetry."""
    return {
        "mcp_hub.job.id": job.id,
        "mcp_hub.job.type": job.type,
        "mcp_hub.job.framework": job.framework,
        "mcp_hub.model.name": job.name,
    }


async def announce_ended(bus: Bus, job: Job, status: JobStatus) -> None:
    """Publish that a job ended, and with it perhaps a new version of a model or a data set."""
    await bus.publish(job_topic(job.id))
    if status == "succeeded":
        kind = "datasets" if job.framework == PREDICT else "models"
        await bus.publish(f"{kind}://{job.name}")
        await bus.publish(LIST_CHANGED)

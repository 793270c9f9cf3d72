"""Jobs as their users see them."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from mcp_hub.services.training import jobs, reports
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.liveness import live_workers
from mcp_hub.services.training.reasons import reason_to_wait
from mcp_hub.services.training.views import JobLimits, JobSummary, JobView, Progress
from mcp_hub.services.views import Error, iso

_CONFIG_SHOWN = 2_000
"""Characters of a config, as JSON."""


def job_view(
    connection: Connection, job_id: str, per_framework: Mapping[str, int], silence_ms: int
) -> JobView:
    """The job's row as its users see it; a worker silent for longer than that is not alive."""
    job = jobs.get_job(connection, job_id)
    waiting, wait = [], None
    if job.status == "queued":
        waiting = jobs.unmet_parents(connection, job_id)
        wait = reason_to_wait(connection, job, waiting, per_framework, silence_ms)
    return JobView(
        job_id=job.id,
        status=job.status,
        name=job.name,
        type=job.type,
        framework=job.framework,
        dataset=f"{job.dataset_name}:{job.dataset_version}",
        target=job.target,
        config=_shortened(job.config),
        attempt=job.attempt,
        progress=Progress(done=job.progress_done or 0, total=job.progress_total),
        metrics=job.metrics,
        model=reports.model_reference(job),
        result=job.result,
        error=Error(**job.error) if job.error else None,
        cause=job.diagnosis["cause"] if job.diagnosis else None,
        hint=job.diagnosis["hint"] if job.diagnosis else _gpu_hint(connection, job, silence_ms),
        limits=_limits(job),
        peak_memory_mb=job.peak_memory_mb,
        cancel_requested=job.cancel_requested,
        waiting_for=waiting,
        wait=wait,
        sweep=job.sweep_id,
        created_at=iso(job.created_at) or "",
        started_at=iso(job.started_at),
        finished_at=iso(job.finished_at),
    )


def _shortened(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without values so long that each look at the job would be mostly they."""
    shown: dict[str, Any] = {}
    left = _CONFIG_SHOWN
    for key, value in config.items():
        size = len(json.dumps(value))
        shown[key] = value if size <= left else f"({size:,} characters, not shown)"
        left -= min(size, left) if size <= left else 0
    return shown


def _limits(job: Job) -> JobLimits | None:
    limits = JobLimits(cpus=job.cpus, memory_mb=job.memory_mb, gpus=job.gpus)
    return None if limits == JobLimits() else limits


def most_gpus(connection: Connection, silence_ms: int) -> int | None:
    """The most GPUs that a living worker has; None if there is none."""
    return max((worker.gpus or 0 for worker in live_workers(connection, silence_ms)), default=None)


def _gpu_hint(connection: Connection, job: Job, silence_ms: int) -> str | None:
    """What a queued job lacks that needs GPUs."""
    if job.status != "queued" or not job.gpus:
        return None
    most = most_gpus(connection, silence_ms)
    if most is None or most >= job.gpus:
        return f"It waits until {job.gpus} GPUs are free."
    return f"It needs {job.gpus} GPUs, and no worker has more than {most}."


def summary(job: Job) -> JobSummary:
    """The job's row as a list shows it."""
    return JobSummary(
        job_id=job.id,
        status=job.status,
        name=job.name,
        type=job.type,
        framework=job.framework,
        dataset=f"{job.dataset_name}:{job.dataset_version}",
        attempt=job.attempt,
        model=reports.model_reference(job),
        error=job.error["message"] if job.error else None,
        sweep=job.sweep_id,
        created_at=iso(job.created_at) or "",
    )

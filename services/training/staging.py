"""The folder of an attempt: what it finds there when it begins, and its removal."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from mcp_hub.adapters.database.schema import datasets
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.launcher import THREAD_VARIABLES
from mcp_hub.services.training.limits import Limits, data_limit_mb
from mcp_hub.services.training.slots import Grant


def task_of(
    job: Job,
    dataset: Row[Any],
    dataset_file: str,
    grant: Grant,
    limits: Limits,
    *,
    threads: int,
    has_gpus: bool,
    checkpoint: str | None,
    references: Mapping[str, Any],
    uses: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The task file of the job's attempt. Where the machine `has_gpus`, it sees only its own."""
    environment = {
        "MCP_HUB_JOB_ID": job.id,
        "MCP_HUB_ATTEMPT": str(job.attempt),
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        **({"CUDA_VISIBLE_DEVICES": ",".join(grant.gpus)} if has_gpus else {}),
        **tracing.environment(),
    }
    return {
        "job_id": job.id, "attempt": job.attempt, "name": job.name, "type": job.type,
        "framework": job.framework, "target": job.target, "config": job.config,
        "dataset": f"{job.dataset_name}:{job.dataset_version}", "dataset_file": dataset_file,
        "dataset_format": dataset.format, "dataset_options": dataset.options,
        "environment": environment, "checkpoint": checkpoint,
        "require": job.require, "references": references, "uses": uses,
        "place": limits.place.model_dump(mode="json"),
        "limits": {
            "data_mb": data_limit_mb(limits.memory_of(job)), "disk_mb": limits.disk_mb,
            "cores": grant.cores, "threads": threads, "gpus": grant.gpus,
        },
    }  # fmt: skip


def dataset_row(connection: Connection, job: Job) -> Row[Any]:
    """The version of the data set that the job trains on."""
    return connection.execute(
        select(datasets).where(
            datasets.c.name == job.dataset_name, datasets.c.version == job.dataset_version
        )
    ).one()


def remove_attempt(folder: Path) -> None:
    """Remove an attempt's folder, and its job's if that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()

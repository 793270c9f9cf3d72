"""The folder of an attempt: what it finds there when it begins, and its removal."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import datasets
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.data.store import find as find_dataset
from mcp_hub.services.scoring.products import staged_model
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.training.attempts.patience import patiently
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.limits import Limits, data_limit_mb
from mcp_hub.services.training.processes.launcher import THREAD_VARIABLES
from mcp_hub.services.training.processes.requirements import drift_references
from mcp_hub.services.training.processes.slots import Grant


@dataclass(frozen=True, slots=True)
class Staged:
    """What was put into an attempt's folder."""

    dataset: Row[Any]
    dataset_file: str
    references: Mapping[str, Any]
    """The data sets that drift is measured from, and how each is read."""
    uses: Mapping[str, Any] | None
    """The model that the job uses, if it does."""


async def stage(job: Job, folder: Path, database: Database, blobs: BlobStore) -> Staged:
    """Put the files that the job needs into the folder.

    Raises:
        NotFound: what it uses was deleted since it was submitted.
        Unavailable: the database or the blob store does not answer, for long.
    """

    async def fetch(sha256: str, file: str) -> None:
        await patiently(lambda: blobs.fetch(sha256, folder / file))

    dataset = await patiently(lambda: database.read(lambda c: _dataset_row(c, job)))
    file = f"dataset.{dataset.format}"
    await fetch(dataset.sha256, file)
    references = {}
    for number, name in enumerate(drift_references(job.require)):
        found = await patiently(lambda name=name: database.read(lambda c: find_dataset(c, name)))  # type: ignore[misc]
        await fetch(found.view.sha256, f"reference-{number}")
        references[name] = {
            "file": f"reference-{number}", "format": found.format, "options": found.options,
        }  # fmt: skip
    uses = await patiently(lambda: database.read(lambda c: staged_model(c, job)))
    if uses is not None:
        await fetch(uses["sha256"], uses["file"])
    return Staged(dataset, file, references, uses)


def task_of(
    job: Job,
    staged: Staged,
    grant: Grant,
    limits: Limits,
    *,
    threads: int,
    has_gpus: bool,
    checkpoint: str | None,
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
        "dataset": f"{job.dataset_name}:{job.dataset_version}", "dataset_file": staged.dataset_file,
        "dataset_format": staged.dataset.format, "dataset_options": staged.dataset.options,
        "dataset_dtypes": {one["name"]: one["dtype"] for one in staged.dataset.columns},
        "environment": environment, "checkpoint": checkpoint,
        "require": job.require, "references": staged.references, "uses": staged.uses,
        "place": limits.place.model_dump(mode="json"),
        "limits": {
            "data_mb": data_limit_mb(limits.memory_of(job)), "disk_mb": limits.disk_mb,
            "cores": grant.cores, "threads": threads, "gpus": grant.gpus,
        },
    }  # fmt: skip


def _dataset_row(connection: Connection, job: Job) -> Row[Any]:
    """The version of the data set that the job trains on. Raises NotFound where it was deleted."""
    row = connection.execute(
        select(datasets).where(
            datasets.c.name == job.dataset_name, datasets.c.version == job.dataset_version
        )
    ).one()
    if row.deleted_at is not None:
        raise NotFound(
            f"{job.dataset_name}:{job.dataset_version} was deleted.",
            "Submit a new job for another version.",
        )
    return row


def remove_attempt(folder: Path) -> None:
    """Remove an attempt's folder, and its job's if that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()

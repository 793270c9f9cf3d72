"""What an attempt leaves: the model that it reported, and the files that go with it."""

import os
from pathlib import Path

from anyio import to_thread

from mcp_hub.adapters.blobs.port import Blob, BlobStore
from mcp_hub.adapters.errors import Denied, InvalidArgument
from mcp_hub.services.registry.store import NewVersion
from mcp_hub.services.registry.views import SERVED_MODEL, Artifact, Signature
from mcp_hub.services.training.attempts.events import Report
from mcp_hub.services.training.attempts.patience import patiently
from mcp_hub.services.training.jobs import Job

_SHOWN = 200
"""Characters of a path that is none."""


async def collect(job: Job, folder: Path, report: Report, blobs: BlobStore) -> NewVersion | None:
    """The model version that an attempt in `folder` reported, its files stored; None if none.

    A trial of a sweep registers none: the job of the best settings does. Files that are not kept
    must be there all the same.

    Raises:
        Denied: a file is outside the folder.
        InvalidArgument: there is no such file, or the model is none.
    """
    for path in report.artifacts.values():
        await to_thread.run_sync(inside, folder, path)
    if report.model is None or job.sweep_trial is not None:
        return None
    served = await to_thread.run_sync(inside, folder, report.model.path)
    signature = await to_thread.run_sync(_signature_of, served, report.model.signature)
    files = {**report.artifacts, SERVED_MODEL: report.model.path}
    artifacts = []
    for name, path in files.items():
        blob = await store(folder, blobs, path)
        artifacts.append(Artifact(name=name, sha256=blob.sha256, bytes=blob.size))
    return NewVersion(
        name=job.name,
        flavor=report.model.flavor,
        signature=signature,
        metrics=report.metrics | report.model.metrics,
        params={"framework": job.framework, "config": job.config, **report.params},
        tags=report.tags,
        artifacts=artifacts,
        description="",
        job_id=job.id,
        dataset=f"{job.dataset_name}:{job.dataset_version}",
        created_by=job.submitted_by,
    )


async def store(folder: Path, blobs: BlobStore, path: str) -> Blob:
    """Put the file `path` of an attempt in `folder` into the blobs. Raises as `inside`."""
    file = await to_thread.run_sync(inside, folder, path)
    return await patiently(lambda: blobs.put_file(file))


def inside(folder: Path, path: str) -> Path:
    """The file `path` of an attempt in `folder`. Raises Denied or InvalidArgument if it is none."""
    shown = repr(path[:_SHOWN])
    folder = folder.resolve()
    try:
        file = (folder / path).resolve()
        there = file.is_file() and os.access(file, os.R_OK)
    except (OSError, RuntimeError) as error:  # RuntimeError is a loop of links
        raise InvalidArgument(
            f"The job reported {shown}, which cannot be looked at: {error}."[:1_000]
        ) from error
    if not file.is_relative_to(folder):
        raise Denied(f"The job reported {shown}, a file outside its own folder.")
    if not there:
        raise InvalidArgument(f"The job reported {shown}, but there is no such file to read.")
    return file


def _signature_of(file: Path, declared: Signature | None) -> Signature:
    """What was declared, if the model has it; else what the model itself says."""
    # onnxruntime is loaded by the first model, not by the worker's start.
    from mcp_hub.services.registry.inspection import check_signature, read_signature

    if declared is None:
        return read_signature(file.read_bytes())
    check_signature(file.read_bytes(), declared)
    return declared

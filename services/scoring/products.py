"""Scoring's jobs as the worker handles them: the model they need, and what they leave behind."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, select

from mcp_hub.adapters.blobs.port import Blob
from mcp_hub.adapters.database.schema import datasets, model_versions
from mcp_hub.adapters.errors import Internal, NotFound
from mcp_hub.services.data.store import NewDataset
from mcp_hub.services.data.store import add_version as add_dataset_version
from mcp_hub.services.data.views import DatasetView
from mcp_hub.services.registry.evaluations import NewEvaluation, add_evaluation
from mcp_hub.services.registry.references import parse_reference
from mcp_hub.services.registry.views import SERVED_MODEL
from mcp_hub.services.scoring.work import EVALUATE, PREDICT, WORK
from mcp_hub.services.training.attempts.events import DatasetEvent, EvaluationEvent, Report
from mcp_hub.services.training.jobs import Job

_MADE_BY = f"{PREDICT} "
"""What the source of a version begins with that a batch prediction has made."""

Store = Callable[[str], Awaitable[Blob]]
"""Puts a file that an attempt has named into the blobs."""

Write = Callable[[Connection], dict[str, str]]
"""Writes what a job has made, in the transaction that ends it; what the job's row says of it."""


def is_prediction(dataset: DatasetView) -> bool:
    """Whether a version was made by a batch prediction."""
    return dataset.source.startswith(_MADE_BY)


def staged_model(connection: Connection, job: Job) -> dict[str, str] | None:
    """The version that a job uses, as its task tells it, with its file's address; None where it
    uses none.

    Raises:
        NotFound: it was deleted since the job was submitted.
    """
    if job.framework not in WORK:
        return None
    reference = parse_reference(job.config["model"])
    row = connection.execute(
        select(model_versions).where(
            model_versions.c.name == reference.name,
            model_versions.c.version == reference.version,
            model_versions.c.deleted_at.is_(None),
        )
    ).first()
    if row is None:
        raise NotFound(f"{reference} was deleted.", "Restore it with model_delete(restore=true).")
    [sha256] = [one["sha256"] for one in row.artifacts if one["name"] == SERVED_MODEL]
    return {
        "model": str(reference), "file": SERVED_MODEL, "sha256": sha256,
        "signature": row.signature,
    }  # fmt: skip


async def product(job: Job, report: Report, store: Store) -> Write | None:
    """What is to be written for a job that succeeded; None for one that trains.

    Raises:
        Internal: the job has reported nothing.
    """
    if job.framework == EVALUATE and report.evaluation is not None:
        return partial(_add_evaluation, job=job, event=report.evaluation)
    if job.framework == PREDICT and report.dataset is not None:
        blob = await store(report.dataset.path)
        return partial(_add_dataset, job=job, event=report.dataset, blob=blob)
    if job.framework in WORK:
        raise Internal("The job ended without a result.", "See training_logs.")
    return None


def _add_evaluation(connection: Connection, job: Job, event: EvaluationEvent) -> dict[str, str]:
    reference = parse_reference(job.config["model"])
    assert reference.version is not None
    new = NewEvaluation(
        name=reference.name,
        version=reference.version,
        dataset_name=job.dataset_name,
        dataset_version=job.dataset_version,
        target=job.target,
        type=job.config["type"],
        rows=event.rows,
        metrics=event.metrics,
        report=event.report,
        job_id=job.id,
        evaluated_by=job.submitted_by,
    )
    return {"evaluation": add_evaluation(connection, new)}


def _add_dataset(
    connection: Connection, job: Job, event: DatasetEvent, blob: Blob
) -> dict[str, str]:
    known: list[dict[str, Any]] = connection.execute(
        select(datasets.c.columns).where(
            datasets.c.name == job.dataset_name, datasets.c.version == job.dataset_version
        )
    ).scalar_one()
    of_column = {column["name"]: column for column in known}
    columns = [of_column[name] for name in event.kept]
    columns += [column.model_dump(mode="json") for column in event.added]
    new = NewDataset(
        job.name, blob.sha256, blob.size, "parquet", {}, _MADE_BY + job.id, event.rows, columns
    )
    view, _ = add_dataset_version(connection, new)
    return {"dataset": view.dataset}

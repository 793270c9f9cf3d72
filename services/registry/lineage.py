"""Where a version came from, how it did, and what was decided about it."""

from typing import Any

from sqlalchemy import Connection, select

from mcp_hub.adapters.database.schema import datasets, jobs
from mcp_hub.services.registry.evaluations import evaluations_of
from mcp_hub.services.registry.promoting import decisions
from mcp_hub.services.registry.views import Lineage, ModelView
from mcp_hub.services.views import iso

_DECISIONS_SHOWN = 20
_EVALUATIONS_SHOWN = 20


def lineage(connection: Connection, view: ModelView) -> Lineage:
    """The job, the data set, the last 20 evaluations and decisions, the aliases of a version."""
    about = decisions(connection, view.name, version=view.version, limit=_DECISIONS_SHOWN)
    return Lineage(
        model=view.model,
        job=None if view.job_id is None else _job(connection, view.job_id),
        dataset=None if view.dataset is None else _dataset(connection, view.dataset),
        evaluations=evaluations_of(connection, view.name, view.version, _EVALUATIONS_SHOWN),
        promotions=[promotion for _, promotion in about],
        aliases=view.aliases,
    )


def _job(connection: Connection, job_id: str) -> dict[str, Any] | None:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        return None
    return {
        "job_id": row.id,
        "name": row.name,
        "type": row.type,
        "framework": row.framework,
        "target": row.target,
        "config": row.config,
        "status": row.status,
        "attempt": row.attempt,
        "submitted_by": row.submitted_by,
        "created_at": iso(row.created_at),
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
    }


def _dataset(connection: Connection, reference: str) -> dict[str, Any] | None:
    name, _, version = reference.rpartition(":")
    row = connection.execute(
        select(datasets).where(datasets.c.name == name, datasets.c.version == int(version))
    ).one_or_none()
    if row is None:
        return None
    return {
        "dataset": reference,
        "id": row.id,
        "sha256": row.sha256,
        "rows": row.row_count,
        "source": row.source,
        "created_at": iso(row.created_at),
        **({"deleted_at": iso(row.deleted_at)} if row.deleted_at else {}),
    }

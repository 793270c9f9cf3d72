"""How versions did on data sets, kept for good. Every function runs inside its caller's
transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from mcp_hub.adapters.database.evaluations_schema import evaluations
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.registry.views import EvaluationSummary
from mcp_hub.services.views import iso


@dataclass(frozen=True, slots=True)
class NewEvaluation:
    """What a job has found out about a version on a version of a data set."""

    name: str
    version: int
    dataset_name: str
    dataset_version: int
    target: str | None
    type: str
    rows: int
    metrics: Mapping[str, float]
    report: Mapping[str, Any]
    job_id: str
    evaluated_by: str


def add_evaluation(connection: Connection, new: NewEvaluation) -> str:
    """Keep an evaluation; its id. A job has at most one: adding it again changes nothing."""
    connection.execute(
        insert_for(connection, evaluations)
        .values(
            id=new_id("ev"), name=new.name, version=new.version, dataset_name=new.dataset_name,
            dataset_version=new.dataset_version, target=new.target, type=new.type,
            row_count=new.rows, metrics=dict(new.metrics), report=dict(new.report),
            job_id=new.job_id, evaluated_by=new.evaluated_by, evaluated_at=now_ms(),
        )
        .on_conflict_do_nothing(index_elements=["job_id"])
    )  # fmt: skip
    kept: str = connection.execute(
        select(evaluations.c.id).where(evaluations.c.job_id == new.job_id)
    ).scalar_one()
    return kept


def evaluation_by_job(connection: Connection, job_id: str) -> Row[Any] | None:
    """The evaluation that a job has ended with."""
    return connection.execute(select(evaluations).where(evaluations.c.job_id == job_id)).first()


def newest_evaluation(
    connection: Connection, name: str, version: int, dataset: str | None = None
) -> EvaluationSummary | None:
    """The newest evaluation of a version, on `dataset` (name or name:version) where given."""
    statement = _newest_first(name, version)
    if dataset is not None:
        dataset_name, _, number = dataset.partition(":")
        statement = statement.where(evaluations.c.dataset_name == dataset_name)
        if number:
            statement = statement.where(evaluations.c.dataset_version == int(number))
        statement = statement.order_by(None).order_by(
            evaluations.c.dataset_version.desc(), *_NEWEST_FIRST
        )
    row = connection.execute(statement.limit(1)).first()
    return None if row is None else _summary(row)


def evaluations_of(
    connection: Connection, name: str, version: int, limit: int
) -> list[EvaluationSummary]:
    """The evaluations of a version, newest first."""
    rows = connection.execute(_newest_first(name, version).limit(limit))
    return [_summary(row) for row in rows]


_NEWEST_FIRST = (evaluations.c.evaluated_at.desc(), evaluations.c.id)


def _newest_first(name: str, version: int) -> Select[Any]:
    of_version = (evaluations.c.name == name, evaluations.c.version == version)
    return select(evaluations).where(*of_version).order_by(*_NEWEST_FIRST)


def _summary(row: Row[Any]) -> EvaluationSummary:
    return EvaluationSummary(
        dataset=f"{row.dataset_name}:{row.dataset_version}",
        target=row.target,
        rows=row.row_count,
        metrics=row.metrics,
        job_id=row.job_id,
        evaluated_by=row.evaluated_by,
        evaluated_at=iso(row.evaluated_at) or "",
    )

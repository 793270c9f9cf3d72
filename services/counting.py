"""Counts of what the database holds, for `hub_info`."""

from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import datasets, jobs, model_versions
from mcp_hub.services.health import Counts
from mcp_hub.services.training.liveness import live_workers


async def count(database: Database, *, worker_silence_s: float) -> Counts:
    """Count everything in one snapshot; a worker silent for longer is not alive.

    Raises:
        Unavailable: the database does not answer.
    """

    def read(connection: Connection) -> Counts:
        kept = model_versions.c.deleted_at.is_(None)
        scalars = select(
            select(func.count(func.distinct(datasets.c.name)))
            .where(datasets.c.deleted_at.is_(None))
            .scalar_subquery(),
            select(func.count(func.distinct(model_versions.c.name))).where(kept).scalar_subquery(),
            select(func.count()).select_from(model_versions).where(kept).scalar_subquery(),
        )
        data, models, versions = connection.execute(scalars).one()
        by_status = select(jobs.c.status, func.count().label("jobs")).group_by(jobs.c.status)
        counted = {row.status: row.jobs for row in connection.execute(by_status)}
        return Counts(
            datasets=data,
            models=models,
            model_versions=versions,
            jobs=dict(sorted(counted.items())),
            workers_alive=len(live_workers(connection, int(worker_silence_s * 1000))),
        )

    return await database.read(read)

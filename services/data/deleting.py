"""Deleting versions of data sets for good: plain functions of a connection."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import (
    dataset_streams,
    datasets,
    jobs,
    model_versions,
)
from mcp_hub.adapters.errors import Conflict
from mcp_hub.services.blob_use import is_used
from mcp_hub.services.data import store, streams_store
from mcp_hub.services.data.views import DatasetDeletion

_SHOWN = 20


def delete_versions(
    connection: Connection, reference: str, *, force: bool
) -> tuple[DatasetDeletion, list[str]]:
    """Delete the version, or where `reference` is a name every version, that it names; and the
    content that nothing else has. What jobs and models say of it stays, and so does its number.

    Raises:
        InvalidArgument, NotFound: as `store.find`.
        Conflict: the data set grows, or an unfinished job is of what would be deleted; or a model
            is, and `force` is false.
    """
    found = store.find(connection, reference).view
    name = found.name
    of_name = store.IS_THERE & (datasets.c.name == name)
    this = of_name if reference.strip() == name else of_name & (datasets.c.version == found.version)
    rows = connection.execute(select(datasets.c.version, datasets.c.sha256).where(this)).all()
    versions = sorted(row.version for row in rows)
    note = ""
    stream = streams_store.first(connection, name)
    if stream is not None and stream.version in versions:
        if stream.status == "growing":
            raise Conflict(f"{name!r} grows.", f"First dataset_stop(name={name!r}).")
        connection.execute(delete(dataset_streams).where(dataset_streams.c.name == name))
        note = " The next dataset_register with mode stream begins with the source's first rows."
    _check_jobs(connection, name, versions)
    models = _models_of(connection, name, versions)
    if models and not force:
        raise Conflict(
            f"{_listed(models)} {'was' if len(models) == 1 else 'were'} made from what would be "
            "deleted.",
            "They need it no more to predict, only for their lineage: force=true deletes it.",
        )
    connection.execute(update(datasets).where(this).values(sha256="", deleted_at=now_ms()))
    contents = sorted({row.sha256 for row in rows})
    gone = [sha256 for sha256 in contents if not is_used(connection, sha256)]
    names = [f"{name}:{version}" for version in versions]
    deletion = DatasetDeletion(
        deleted=names[:_SHOWN],
        omitted=max(0, len(names) - _SHOWN),
        note="They do not come back. Where files or sources hold the data, they still do." + note,
    )
    return deletion, gone


def _check_jobs(connection: Connection, name: str, versions: Sequence[int]) -> None:
    this = jobs.c.dataset_name == name
    unfinished = select(jobs.c.id).where(
        this, jobs.c.dataset_version.in_(versions), jobs.c.finished_at.is_(None)
    )
    if found := list(connection.scalars(unfinished.order_by(jobs.c.id))):
        raise Conflict(
            f"{_listed(found)} {'is' if len(found) == 1 else 'are'} not done with it.",
            "Wait for it, or training_cancel it first.",
        )


def _models_of(connection: Connection, name: str, versions: Sequence[int]) -> list[str]:
    references = [f"{name}:{version}" for version in versions]
    is_of: ColumnElement[bool] = model_versions.c.dataset.in_(references)
    rows = connection.execute(
        select(model_versions.c.name, model_versions.c.version)
        .where(is_of, model_versions.c.deleted_at.is_(None))
        .order_by(model_versions.c.name, model_versions.c.version)
    )
    return [f"{row.name}:{row.version}" for row in rows]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""Whether a blob is still somebody's: what nobody has may be removed."""

from sqlalchemy import ColumnElement, Connection, Text, cast, exists, or_, select, true

from mcp_hub.adapters.database.checkpoints_schema import job_checkpoints
from mcp_hub.adapters.database.schema import datasets, model_versions


def is_used(connection: Connection, sha256: str, but: ColumnElement[bool] | None = None) -> bool:
    """Whether anything has that content: a version of a data set, a model, or a checkpoint, those
    that `but` is true of aside. It looks at the artifacts of all models: some 20 ms for 20,000."""
    others = true() if but is None else ~but
    used = or_(
        exists().where(datasets.c.sha256 == sha256),
        exists().where(job_checkpoints.c.sha256 == sha256, others),
        exists().where(cast(model_versions.c.artifacts, Text).contains(sha256)),
    )
    return bool(connection.scalar(select(used)))

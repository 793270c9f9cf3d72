"""Model versions in the database. Every function runs inside its caller's transaction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import model_versions, models
from mcp_hub.adapters.database.touch import touch
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.services.registry.views import Artifact, Signature


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version about to be added: all that will be true of it for good, and its first tags.

    The artifacts' blobs are stored already; `dataset` is name:version.
    """

    name: str
    flavor: str
    signature: Signature
    artifacts: Sequence[Artifact]
    created_by: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    job_id: str | None = None
    dataset: str | None = None


def add_version(connection: Connection, new: NewVersion) -> int:
    """Add a version under the next number of its model, which begins at 1 and is never reused.

    A job has at most one version: adding it again returns the number it has. Metrics that are
    not finite are left out, since JSON has no such numbers.
    """
    _ensure_model(connection, new.name)
    if new.job_id is not None:
        existing: int | None = connection.scalar(
            select(model_versions.c.version).where(model_versions.c.job_id == new.job_id)
        )
        if existing is not None:
            return existing
    version: int = connection.execute(
        update(models)
        .where(models.c.name == new.name)
        .values(last_version=models.c.last_version + 1)
        .returning(models.c.last_version)
    ).scalar_one()
    connection.execute(
        model_versions.insert().values(
            name=new.name,
            version=version,
            description=new.description,
            flavor=new.flavor,
            signature=new.signature.model_dump(mode="json"),
            metrics={key: value for key, value in new.metrics.items() if math.isfinite(value)},
            params=dict(new.params),
            tags=dict(new.tags),
            artifacts=[artifact.model_dump(mode="json") for artifact in new.artifacts],
            job_id=new.job_id,
            dataset=new.dataset,
            created_by=new.created_by,
            created_at=now_ms(),
        )
    )
    return version


def lock_model(connection: Connection, name: str) -> bool:
    """Let only one transaction at a time decide upon the model; False if there is none."""
    return touch(connection, models.c.created_at, models.c.name == name) > 0


def _ensure_model(connection: Connection, name: str) -> None:
    connection.execute(
        insert_for(connection, models)
        .values(name=name, last_version=0, created_at=now_ms())
        .on_conflict_do_nothing(index_elements=["name"])
    )

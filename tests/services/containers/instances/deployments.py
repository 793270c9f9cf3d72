"""Deployments as rows, without what else it takes to deploy."""

from sqlalchemy import Connection, update

from mcp_hub.adapters.database.containers_schema import container_revisions, containers
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.services.containers.specs import ContainerSpec


def deploy(connection: Connection, spec: ContainerSpec, revision: int = 1) -> None:
    """Put `spec` in force as it is deployed."""
    if revision == 1:
        connection.execute(
            containers.insert().values(
                name=spec.name, revision=1, enabled=True, failures=0,
                created_at=now_ms(), updated_at=now_ms(),
            )
        )  # fmt: skip
    connection.execute(
        container_revisions.insert().values(
            name=spec.name, revision=revision, spec=spec.model_dump(mode="json"),
            image_id="sha256:0", weakened=[], deployed_by="tests", created_at=now_ms(),
        )
    )  # fmt: skip
    connection.execute(
        update(containers).where(containers.c.name == spec.name).values(revision=revision)
    )

"""The schema's part for evaluations: how model versions did on data sets."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from mcp_hub.adapters.database.metadata import metadata

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("dataset_name", String(128), nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("target", String(256)),
    # What sort of model it was taken for: classification, regression, clustering, anomaly.
    Column("type", String(32), nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("metrics", JSON, nullable=False),
    # What is no single number: each class, the confusion matrix, the slices, the notes.
    Column("report", JSON, nullable=False),
    Column("job_id", String(32), nullable=False),
    Column("evaluated_by", String(128), nullable=False),
    Column("evaluated_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["model_versions.name", "model_versions.version"]),
    UniqueConstraint("job_id"),
    Index("ix_evaluations_name_version", "name", "version"),
)

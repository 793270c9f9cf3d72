"""The schema's part for checkpoints: from where the next attempt at a job goes on."""

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, Index, Integer, String, Table

from mcp_hub.adapters.database.metadata import metadata

job_checkpoints = Table(
    "job_checkpoints",
    metadata,
    Column("job_id", String(32), primary_key=True),
    # Counts a job's checkpoints. The greatest is the one to go on from; a smaller one is there
    # only until its blob is removed.
    Column("number", Integer, primary_key=True, autoincrement=False),
    # The attempt that wrote it.
    Column("attempt", Integer, nullable=False),
    # The step (epoch) after which it was written.
    Column("step", BigInteger),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index("ix_job_checkpoints_sha256", "sha256"),
)

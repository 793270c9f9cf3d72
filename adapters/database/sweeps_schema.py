"""The schema's part for sweeps: searches over the settings of training jobs."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from mcp_hub.adapters.database.metadata import metadata

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", String(32), primary_key=True),
    # What every trial is submitted with, its config before the trial's own settings.
    Column("submission", JSON, nullable=False),
    Column("space", JSON, nullable=False),
    Column("metric", String(128), nullable=False),
    Column("direction", String(8), nullable=False),
    Column("trials", Integer, nullable=False),
    Column("parallel", Integer, nullable=False),
    Column("prune", Integer),
    Column("timeout_s", Float),
    Column("idempotency_key", String(128)),
    Column("submitted_by", String(128), nullable=False),
    # searching, finishing (the best is trained once more), then succeeded, failed or cancelled.
    Column("status", String(16), nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    # What ended the search: trials, timeout or failures.
    Column("ended_by", String(16)),
    # The job that registers the best settings' model.
    Column("best_job_id", String(32)),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    UniqueConstraint("idempotency_key"),
    Index("ix_sweeps_status", "status"),
)

sweep_trials = Table(
    "sweep_trials",
    metadata,
    Column("sweep_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("params", JSON, nullable=False),
    # Missing between the choice of the settings and the submission.
    Column("job_id", String(32)),
    # running, pruning (its job is being cancelled for it), then complete, pruned or failed.
    Column("status", String(16), nullable=False),
    Column("value", Float),
    Column("reason", Text),
    ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
)

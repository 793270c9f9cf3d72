"""The schema's part for schedules: jobs that are submitted again and again."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String, Table

from mcp_hub.adapters.database.metadata import metadata

schedules = Table(
    "schedules",
    metadata,
    Column("id", String(32), primary_key=True),
    # One of the two says when: a cron expression by the clock of `timezone`, or a period.
    Column("cron", String(128)),
    Column("every_ms", BigInteger),
    Column("timezone", String(64), nullable=False),
    # What is submitted: the arguments of training_submit.
    Column("job", JSON, nullable=False),
    Column("paused", Boolean, nullable=False),
    # The next time it is due. Whoever moves it on, in one transaction with the new job, fires it.
    Column("next_at", BigInteger, nullable=False),
    Column("fired", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("last_job_id", String(32)),
    # Why the last time gave no job: {code, message, hint}.
    Column("error", JSON(none_as_null=True)),
    Column("created_by", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_schedules_next_at", "next_at"),
)

"""An order of delivery in which waiting counts, kinds of messages, start times, schedules."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_AGEING_MS = 60_000
_UNANNOUNCED_SQLITE = sa.text("status = 'queued' AND enqueued = 0")
_UNANNOUNCED_POSTGRESQL = sa.text("status = 'queued' AND enqueued = false")

messages = sa.table(
    "queue_messages", sa.column("id"), sa.column("rank", sa.BigInteger()), sa.column("kind")
)
jobs = sa.table("jobs", sa.column("id"), sa.column("priority"), sa.column("framework"))


def _of_job(column: str, otherwise: str | int) -> sa.ColumnElement[str | int]:
    found = sa.select(jobs.c[column]).where(jobs.c.id == messages.c.id).scalar_subquery()
    return sa.func.coalesce(found, otherwise)


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("queue_messages", "rank", type_=sa.BigInteger())
    op.add_column(
        "queue_messages",
        sa.Column("kind", sa.String(length=64), server_default=sa.text("''"), nullable=False),
    )
    op.execute(
        sa.update(messages).values(
            rank=time.time_ns() // 1_000_000 + messages.c.rank * _AGEING_MS,
            kind=_of_job("framework", ""),
        )
    )
    op.drop_index("ix_queue_messages_queue_due_at", table_name="queue_messages")
    op.drop_index("ix_queue_messages_delivery_order", table_name="queue_messages")
    op.create_index(
        "ix_queue_messages_queue_due_at_kind", "queue_messages", ["queue", "due_at", "kind"]
    )
    op.create_index(
        "ix_queue_messages_delivery_order",
        "queue_messages",
        ["queue", "rank", "sequence", "due_at", "kind"],
    )
    op.add_column("jobs", sa.Column("not_before", sa.BigInteger(), nullable=True))
    op.create_index("ix_jobs_status_created_at_id", "jobs", ["status", "created_at", "id"])
    op.create_index(
        "ix_jobs_unannounced",
        "jobs",
        ["status", "created_at", "id"],
        sqlite_where=_UNANNOUNCED_SQLITE,
        postgresql_where=_UNANNOUNCED_POSTGRESQL,
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("cron", sa.String(length=128), nullable=True),
        sa.Column("every_ms", sa.BigInteger(), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("fired", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("last_job_id", sa.String(length=32), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_index("ix_schedules_next_at", "schedules", ["next_at"])


def downgrade() -> None:
    op.drop_index("ix_schedules_next_at", table_name="schedules")
    op.drop_table("schedules")
    op.drop_index("ix_jobs_unannounced", table_name="jobs")
    op.drop_index("ix_jobs_status_created_at_id", table_name="jobs")
    op.drop_column("jobs", "not_before")
    op.drop_index("ix_queue_messages_delivery_order", table_name="queue_messages")
    op.drop_index("ix_queue_messages_queue_due_at_kind", table_name="queue_messages")
    op.execute(sa.update(messages).values(rank=-_of_job("priority", 0)))
    op.drop_column("queue_messages", "kind")
    op.create_index("ix_queue_messages_queue_due_at", "queue_messages", ["queue", "due_at"])
    op.create_index(
        "ix_queue_messages_delivery_order",
        "queue_messages",
        ["queue", "rank", "sequence", "due_at"],
    )
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("queue_messages", "rank", type_=sa.Integer())

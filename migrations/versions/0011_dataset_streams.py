"""Data sets that grow with their source, and rules that a job's data set must meet."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_streams",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("query", sa.JSON(), nullable=True),
        sa.Column("format", sa.String(length=16), nullable=True),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("batch_rows", sa.Integer(), nullable=False),
        sa.Column("interval_s", sa.Float(), nullable=False),
        sa.Column("keep_versions", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dataset_streams")),
    )
    op.create_index("ix_dataset_streams_status_due_at", "dataset_streams", ["status", "due_at"])
    op.add_column("jobs", sa.Column("require", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "require")
    op.drop_index("ix_dataset_streams_status_due_at", table_name="dataset_streams")
    op.drop_table("dataset_streams")

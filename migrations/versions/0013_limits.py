"""What a job's attempts may use, what the newest one did, and the GPUs of workers."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cpus", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("memory_mb", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("gpus", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("diagnosis", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("peak_memory_mb", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("gpus", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "gpus")
    for column in ("peak_memory_mb", "diagnosis", "gpus", "memory_mb", "cpus"):
        op.drop_column("jobs", column)

"""Streams: entries, the groups that read them, and what a group was given and did not finish."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "streams",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_streams")),
    )
    op.create_table(
        "stream_entries",
        sa.Column("stream", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "sequence", name=op.f("pk_stream_entries")),
    )
    op.create_table(
        "stream_groups",
        sa.Column("stream", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("delivered", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "name", name=op.f("pk_stream_groups")),
    )
    op.create_table(
        "stream_pending",
        sa.Column("stream", sa.String(length=128), nullable=False),
        sa.Column("group", sa.String(length=128), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("consumer", sa.String(length=128), nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=False),
        sa.Column("delivery", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "group", "sequence", name=op.f("pk_stream_pending")),
    )


def downgrade() -> None:
    op.drop_table("stream_pending")
    op.drop_table("stream_groups")
    op.drop_table("stream_entries")
    op.drop_table("streams")

"""Containers: what is to run, in revisions; what runs, and which process holds it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hub_identity",
        sa.Column("only", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("only", name=op.f("pk_hub_identity")),
    )
    op.create_table(
        "containers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("catalog", sa.JSON(), nullable=True),
        sa.Column("approved", sa.JSON(), nullable=True),
        sa.Column("cataloged_at", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_containers")),
    )
    op.create_table(
        "container_revisions",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("weakened", sa.JSON(), nullable=False),
        sa.Column("deployed_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name"],
            ["containers.name"],
            name=op.f("fk_container_revisions_name"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "revision", name=op.f("pk_container_revisions")),
    )
    op.create_table(
        "container_holders",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_container_holders")),
    )
    op.create_table(
        "container_instances",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("session", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("engine_id", sa.String(length=128), nullable=True),
        sa.Column("server", sa.JSON(), nullable=True),
        sa.Column("holder", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_container_instances")),
        sa.UniqueConstraint(
            "name", "revision", "slot", name=op.f("uq_container_instances_name_revision_slot")
        ),
        sa.UniqueConstraint(
            "name", "revision", "session", name=op.f("uq_container_instances_name_revision_session")
        ),
    )
    op.create_index("ix_container_instances_holder", "container_instances", ["holder"])


def downgrade() -> None:
    op.drop_index("ix_container_instances_holder", table_name="container_instances")
    for table in (
        "container_instances",
        "container_holders",
        "container_revisions",
        "containers",
        "hub_identity",
    ):
        op.drop_table(table)

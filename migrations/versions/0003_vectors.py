"""Vectors: rows of float32 with what is known of each, by collection."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vector_collections",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deletion_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_vector_collections")),
    )
    op.create_table(
        "vectors",
        sa.Column("collection", sa.String(length=128), nullable=False),
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection"],
            ["vector_collections.name"],
            name=op.f("fk_vectors_collection"),
        ),
        sa.PrimaryKeyConstraint("collection", "id", name=op.f("pk_vectors")),
    )
    op.create_index("ix_vectors_collection_version_id", "vectors", ["collection", "version", "id"])


def downgrade() -> None:
    op.drop_index("ix_vectors_collection_version_id", table_name="vectors")
    op.drop_table("vectors")
    op.drop_table("vector_collections")

"""Telemetry: records, their rollups and patterns, sealed hours, alerts; and leases."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON_TEXT = sa.Text().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("traceparent", sa.String(length=55), nullable=True))
    op.create_table(
        "telemetry_series",
        sa.Column("series", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("service", sa.String(length=128), nullable=False),
        sa.Column("unit", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("series", name=op.f("pk_telemetry_series")),
    )
    op.create_index("ix_telemetry_series_name", "telemetry_series", ["name"])
    op.create_table(
        "telemetry_resources",
        sa.Column("resource", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attributes", JSON_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_telemetry_resources")),
    )
    op.create_table(
        "telemetry_records",
        sa.Column("time", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=True),
        sa.Column("trace_id", sa.LargeBinary(length=16), nullable=True),
        sa.Column("span_id", sa.LargeBinary(length=8), nullable=True),
        sa.Column("parent_id", sa.LargeBinary(length=8), nullable=True),
        sa.Column("duration_ns", sa.BigInteger(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("unit", sa.String(length=64), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("attributes", JSON_TEXT, nullable=False),
        sa.Column("resource", sa.BigInteger(), nullable=False),
        sa.Column("pattern", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("time", "id", name=op.f("pk_telemetry_records")),
        postgresql_partition_by="RANGE (time)",
    )
    op.create_index("ix_telemetry_records_series_time", "telemetry_records", ["series", "time"])
    op.create_index(
        "ix_telemetry_records_trace_id",
        "telemetry_records",
        ["trace_id"],
        sqlite_where=sa.text("trace_id IS NOT NULL"),
        postgresql_where=sa.text("trace_id IS NOT NULL"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute("CREATE TABLE telemetry_records_default PARTITION OF telemetry_records DEFAULT")
    op.create_table(
        "telemetry_rollups",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("series", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("writer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("measured", sa.BigInteger(), nullable=False),
        sa.Column("sum", sa.Float(), nullable=False),
        sa.Column("min", sa.Float(), nullable=True),
        sa.Column("max", sa.Float(), nullable=True),
        sa.Column("sketch", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "series", "writer", name=op.f("pk_telemetry_rollups")),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Sketches are written anew all the time, and hardly smaller compressed.
        op.execute("ALTER TABLE telemetry_rollups ALTER COLUMN sketch SET STORAGE EXTERNAL")
    op.create_table(
        "telemetry_patterns",
        sa.Column("pattern", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("mask", sa.Text(), nullable=False),
        sa.Column("example", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=True),
        sa.Column("first_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pattern", name=op.f("pk_telemetry_patterns")),
    )
    op.create_index("ix_telemetry_patterns_series", "telemetry_patterns", ["series"])
    op.create_table(
        "telemetry_pattern_counts",
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pattern", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("writer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "minute", "pattern", "writer", name=op.f("pk_telemetry_pattern_counts")
        ),
    )
    op.create_table(
        "telemetry_attributes",
        sa.Column("series", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("types", sa.String(length=64), nullable=False),
        sa.Column("examples", sa.Text(), nullable=False),
        sa.Column("many", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("series", "key", name=op.f("pk_telemetry_attributes")),
    )
    op.create_table(
        "telemetry_hours",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sealed_version", sa.BigInteger(), nullable=True),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_telemetry_hours")),
    )
    op.create_table(
        "telemetry_segments",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("column", sa.String(length=280), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(
            "kind", "hour", "part", "column", name=op.f("pk_telemetry_segments")
        ),
    )
    op.create_table(
        "telemetry_alerts",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("evaluated_at", sa.BigInteger(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("silenced_until", sa.BigInteger(), nullable=True),
        sa.Column("notified", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_telemetry_alerts")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    op.drop_table("leases")
    op.drop_table("telemetry_alerts")
    op.drop_table("telemetry_segments")
    op.drop_table("telemetry_hours")
    op.drop_table("telemetry_attributes")
    op.drop_table("telemetry_pattern_counts")
    op.drop_table("telemetry_patterns")
    op.drop_table("telemetry_rollups")
    op.drop_table("telemetry_records")
    op.drop_table("telemetry_resources")
    op.drop_table("telemetry_series")
    op.drop_column("jobs", "traceparent")

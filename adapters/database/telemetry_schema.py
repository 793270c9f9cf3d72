"""The tables of telemetry. Their times are nanoseconds since the epoch unless their names say else.

`series`, `resource` and `pattern` are 63-bit hashes of what they stand for (`stable_hash`), so
that a process that writes need not ask the database for ids first.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from mcp_hub.adapters.database.metadata import metadata

# JSON that was written by the hub and is read by key: text, but where there is better.
JSON_TEXT = Text().with_variant(JSONB(), "postgresql")

telemetry_series = Table(
    "telemetry_series",
    metadata,
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(8), nullable=False),
    Column("name", String(256), nullable=False),
    Column("service", String(128), nullable=False),
    Column("unit", String(64)),
    Index("ix_telemetry_series_name", "name"),
)

telemetry_resources = Table(
    "telemetry_resources",
    metadata,
    Column("resource", BigInteger, primary_key=True, autoincrement=False),
    Column("attributes", JSON_TEXT, nullable=False),
)

telemetry_records = Table(
    "telemetry_records",
    metadata,
    Column("time", BigInteger, primary_key=True, autoincrement=False),
    Column("id", LargeBinary(16), primary_key=True),
    Column("series", BigInteger, nullable=False),
    Column("severity", SmallInteger),
    Column("trace_id", LargeBinary(16)),
    Column("span_id", LargeBinary(8)),
    Column("parent_id", LargeBinary(8)),
    Column("duration_ns", BigInteger),
    Column("value", Float),
    Column("unit", String(64)),
    Column("body", Text),
    Column("attributes", JSON_TEXT, nullable=False),
    Column("resource", BigInteger, nullable=False),
    Column("pattern", BigInteger),
    Index("ix_telemetry_records_series_time", "series", "time"),
    Index(
        "ix_telemetry_records_trace_id",
        "trace_id",
        sqlite_where=text("trace_id IS NOT NULL"),
        postgresql_where=text("trace_id IS NOT NULL"),
    ),
    # By the day; what a day's partition was not made for lies in a default one.
    postgresql_partition_by="RANGE (time)",
)

# A row for each writing process, so that no two wait for each other: to be added up.
telemetry_rollups = Table(
    "telemetry_rollups",
    metadata,
    # Minutes since the epoch.
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    Column("writer", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    # Records of severity error and above.
    Column("errors", BigInteger, nullable=False),
    # Of the records that have a measure: a span's duration in ns, else the value.
    Column("measured", BigInteger, nullable=False),
    Column("sum", Float, nullable=False),
    Column("min", Float),
    Column("max", Float),
    Column("sketch", LargeBinary, nullable=False),
)

telemetry_patterns = Table(
    "telemetry_patterns",
    metadata,
    Column("pattern", BigInteger, primary_key=True, autoincrement=False),
    Column("series", BigInteger, nullable=False),
    # The body with what varies masked.
    Column("mask", Text, nullable=False),
    Column("example", Text, nullable=False),
    Column("severity", SmallInteger),
    Column("first_time", BigInteger, nullable=False),
    # When one came last, noted by each process every few hours only.
    Column("last_time", BigInteger, nullable=False, server_default=text("0")),
    Index("ix_telemetry_patterns_series", "series"),
    Index("ix_telemetry_patterns_last_time", "last_time"),
)

telemetry_pattern_counts = Table(
    "telemetry_pattern_counts",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("pattern", BigInteger, primary_key=True, autoincrement=False),
    Column("writer", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
)

telemetry_attributes = Table(
    "telemetry_attributes",
    metadata,
    Column("series", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(256), primary_key=True),
    # JSON types seen, as in "number string".
    Column("types", String(64), nullable=False),
    # A JSON list of some of the values.
    Column("examples", Text, nullable=False),
    # Whether there are more values than examples.
    Column("many", Boolean, nullable=False),
)

# An hour whose records hardly change any more, in columns: what questions by attribute read.
telemetry_hours = Table(
    "telemetry_hours",
    metadata,
    # Hours since the epoch.
    Column("hour", Integer, primary_key=True, autoincrement=False),
    # Grows with every transaction that adds records to an hour that may have been sealed, and
    # whenever its sealing begins.
    Column("version", BigInteger, nullable=False),
    # The version that was sealed; NULL while it is not, or no longer, whole.
    Column("sealed_version", BigInteger),
    Column("records", BigInteger, nullable=False),
    # Of its segments.
    Column("bytes", BigInteger, nullable=False),
)

telemetry_segments = Table(
    "telemetry_segments",
    metadata,
    # The kind of the records, so that each can be kept for its own time; empty for rollups.
    Column("kind", String(8), primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("column", String(280), primary_key=True),
    # As services/telemetry/storage/columns.py packs it.
    Column("data", LargeBinary, nullable=False),
)

telemetry_alerts = Table(
    "telemetry_alerts",
    metadata,
    Column("name", String(128), primary_key=True),
    # The rule, as JSON: what is measured, of what, and when it fires.
    Column("rule", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    # ok, pending, firing.
    Column("state", String(16), nullable=False),
    Column("state_since", BigInteger, nullable=False),
    Column("value", Float),
    Column("evaluated_at", BigInteger),
    # Why the last evaluation or delivery failed, if it did.
    Column("problem", Text),
    Column("silenced_until", BigInteger),
    # Whether the webhook was told last that it fires.
    Column("notified", Boolean, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# What one process among many does, and until when it is that one.
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    # Milliseconds, by the database's clock.
    Column("expires_at", BigInteger, nullable=False),
)

"""The schema, as the queries see it. `migrations` makes it; a test holds the two together.

Times are milliseconds since the epoch, by the database's own clock (`now_ms`), so that leases
do not depend on how well the clocks of several machines agree.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from mcp_hub.adapters.database import (  # noqa: F401 - more of the metadata
    checkpoints_schema,
    containers_schema,
    evaluations_schema,
    schedules_schema,
    sweeps_schema,
    tasks_schema,
    telemetry_schema,
)
from mcp_hub.adapters.database.metadata import SERIAL
from mcp_hub.adapters.database.metadata import metadata as metadata

datasets = Table(
    "datasets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("id", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("format", String(16), nullable=False),
    Column("options", JSON, nullable=False),
    Column("source", Text, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Of a version whose content is gone: then `sha256` is empty. Jobs and models still name it.
    Column("deleted_at", BigInteger),
    UniqueConstraint("id"),
)

dataset_streams = Table(
    "dataset_streams",
    metadata,
    Column("name", String(128), primary_key=True),
    # What was asked for: where the rows come from, and how they are read.
    Column("source", Text, nullable=False),
    Column("query", JSON(none_as_null=True)),
    Column("format", String(16)),
    Column("options", JSON, nullable=False),
    Column("batch_rows", Integer, nullable=False),
    Column("interval_s", Float, nullable=False),
    Column("keep_versions", Integer, nullable=False),
    # growing, stopped, failed.
    Column("status", String(16), nullable=False),
    # Up to where the version `version` has the source's rows.
    Column("cursor", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("checked_at", BigInteger, nullable=False),
    # When to look for rows; whoever looks moves it on, so that no other does.
    Column("due_at", BigInteger, nullable=False),
    Index("ix_dataset_streams_status_due_at", "status", "due_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("type", String(32), nullable=False),
    Column("framework", String(64), nullable=False),
    Column("dataset_name", String(128), nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("target", String(256)),
    Column("config", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("timeout_s", Float, nullable=False),
    Column("max_retries", Integer, nullable=False),
    # What each attempt may use; null leaves it to the worker's settings.
    Column("cpus", Integer),
    Column("memory_mb", Integer),
    Column("gpus", Integer),
    Column("idempotency_key", String(128)),
    Column("submitted_by", String(128), nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("enqueued", Boolean, nullable=False),
    # When it may run at the earliest: the start that was asked for, or the end of a back-off.
    Column("not_before", BigInteger),
    Column("worker_id", String(64)),
    Column("lease_expires_at", BigInteger),
    Column("progress_done", Float),
    Column("progress_total", Float),
    Column("metrics", JSON, nullable=False),
    Column("model_name", String(128)),
    Column("model_version", Integer),
    Column("error", JSON),
    # Why the newest attempt ended as it did, as {"cause", "hint"}.
    Column("diagnosis", JSON(none_as_null=True)),
    Column("peak_memory_mb", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    # The trace in which it was submitted, as the W3C's traceparent.
    Column("traceparent", String(55)),
    # Rules that its data set must meet before it is trained on.
    Column("require", JSON(none_as_null=True)),
    # What a job that trains no model ended with: {"evaluation": id} or {"dataset": name:version}.
    Column("result", JSON(none_as_null=True)),
    # The sweep that submitted it, and as which trial; the job of its best settings is no trial.
    Column("sweep_id", String(32)),
    Column("sweep_trial", Integer),
    UniqueConstraint("idempotency_key"),
    ForeignKeyConstraint(
        ["dataset_name", "dataset_version"], ["datasets.name", "datasets.version"]
    ),
    Index("ix_jobs_status_lease_expires_at", "status", "lease_expires_at"),
    Index("ix_jobs_created_at_id", "created_at", "id"),
    Index("ix_jobs_status_created_at_id", "status", "created_at", "id"),
    # What has no message in the queue is looked for at every turn, and is next to nothing.
    Index(
        "ix_jobs_unannounced",
        "status",
        "created_at",
        "id",
        sqlite_where=text("status = 'queued' AND enqueued = 0"),
        postgresql_where=text("status = 'queued' AND enqueued = false"),
    ),
)

job_dependencies = Table(
    "job_dependencies",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("depends_on", String(32), primary_key=True),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(["depends_on"], ["jobs.id"], ondelete="CASCADE"),
    Index("ix_job_dependencies_depends_on", "depends_on"),
)

job_attempts = Table(
    "job_attempts",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker_id", String(64), nullable=False),
    Column("outcome", String(16)),
    Column("error", JSON),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("stream", String(8), nullable=False),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

job_metrics = Table(
    "job_metrics",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("time", BigInteger, nullable=False),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", String(256), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),
    # None where it has none.
    Column("gpus", Integer),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
)

queue_messages = Table(
    "queue_messages",
    metadata,
    Column("sequence", SERIAL, primary_key=True, autoincrement=True),
    Column("queue", String(64), nullable=False),
    Column("id", String(64), nullable=False),
    # When it was due, less its priority in milliseconds: one ascending index serves the order of
    # delivery, in which waiting counts as priority.
    Column("rank", SERIAL, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("delivery", Integer, nullable=False),
    Column("consumer", String(64)),
    Column("token", String(32)),
    Column("payload", JSON(none_as_null=True)),
    Column("kind", String(64), nullable=False, server_default=text("''")),
    UniqueConstraint("queue", "id"),
    # The first finds that something is due, the second what is due first, in the order of
    # delivery: it holds `due_at` and `kind` too, so that passing over messages reads no row.
    Index("ix_queue_messages_queue_due_at_kind", "queue", "due_at", "kind"),
    Index("ix_queue_messages_delivery_order", "queue", "rank", "sequence", "due_at", "kind"),
    sqlite_autoincrement=True,
)

queue_positions = Table(
    "queue_positions",
    metadata,
    Column("queue", String(64), primary_key=True),
    # Up to which event it is written down what programs outside the hub did with the messages.
    Column("position", BigInteger, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("topic", String(512), nullable=False),
    # The bus that published it, which has told its own subscribers already.
    Column("origin", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_changes_created_at", "created_at"),
    sqlite_autoincrement=True,
)

streams = Table(
    "streams",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)

stream_entries = Table(
    "stream_entries",
    metadata,
    Column("stream", String(128), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

stream_groups = Table(
    "stream_groups",
    metadata,
    Column("stream", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("delivered", BigInteger, nullable=False),
)

stream_pending = Table(
    "stream_pending",
    metadata,
    Column("stream", String(128), primary_key=True),
    Column("group", String(128), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("consumer", String(128), nullable=False),
    Column("delivered_at", BigInteger, nullable=False),
    Column("delivery", Integer, nullable=False),
)

vector_collections = Table(
    "vector_collections",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("dimensions", Integer, nullable=False),
    # Grows with every transaction that changes the collection.
    Column("version", BigInteger, nullable=False),
    # The last version that removed rows: what was removed leaves no row to tell of it.
    Column("deletion_version", BigInteger, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("collection", String(128), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("version", BigInteger, nullable=False),
    # float32, little-endian.
    Column("vector", LargeBinary, nullable=False),
    Column("payload", JSON, nullable=False),
    ForeignKeyConstraint(["collection"], ["vector_collections.name"]),
    Index("ix_vectors_collection_version_id", "collection", "version", "id"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("description", Text, nullable=False),
    Column("flavor", String(32), nullable=False),
    Column("signature", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("params", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("artifacts", JSON, nullable=False),
    Column("job_id", String(32)),
    Column("dataset", String(160)),
    Column("created_by", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    ForeignKeyConstraint(["name"], ["models.name"]),
    UniqueConstraint("job_id"),
)

model_aliases = Table(
    "model_aliases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["model_versions.name", "model_versions.version"]),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("promoted", Boolean, nullable=False),
    Column("gates", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_by", String(128), nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["name"], ["models.name"]),
    Index("ix_promotions_name_decided_at", "name", "decided_at"),
)

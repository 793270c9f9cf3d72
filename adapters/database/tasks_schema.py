"""The schema's part for MCP's tasks: what answers a tool call later."""

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table, Text

from mcp_hub.adapters.database.metadata import metadata

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(64), primary_key=True),
    # The name of the token that made it; empty where no tokens are asked for.
    Column("owner", Text, nullable=False),
    Column("tool", String(128), nullable=False),
    # followed, asking, completed, failed, cancelled.
    Column("status", String(16), nullable=False),
    # What the tool has started, while the task is followed: a job's id.
    Column("subject", String(128)),
    # The call that waits for answers: its arguments, what it asks by key, the answers so far, and
    # the state that it wants back with them.
    Column("arguments", JSON),
    Column("questions", JSON),
    Column("answers", JSON),
    Column("state", Text),
    # Until when whoever goes on with the call counts as alive.
    Column("held_until", BigInteger),
    # What it ended with: the result of the call, or the error that it failed with.
    Column("result", JSON),
    Column("error", JSON),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_tasks_expires_at", "expires_at"),
)

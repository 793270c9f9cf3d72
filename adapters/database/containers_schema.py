"""The schema's part for containers: what is to run, what runs, and who holds it."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from mcp_hub.adapters.database.metadata import metadata

# One row, once it deploys: what tells this hub's containers from another's on the same engine.
hub_identity = Table(
    "hub_identity",
    metadata,
    # Always 1: of two processes that make the row at the same time, one finds the other's.
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
)

containers = Table(
    "containers",
    metadata,
    Column("name", String(64), primary_key=True),
    # The revision in force, of container_revisions.
    Column("revision", Integer, nullable=False),
    # Whether it may run: false after container_stop.
    Column("enabled", Boolean, nullable=False),
    # The tools, resources and prompts that its server listed last, as MCP's JSON; NULL: never yet.
    Column("catalog", JSON),
    # Digest by kind and name of each that was approved, such as {"tools": {"echo": "9f86…"}}.
    Column("approved", JSON),
    Column("cataloged_at", BigInteger),
    # Starts that failed and exits that nobody wanted since one last ran for a while, why the last
    # was (NULL once one is ready), and when the next may start.
    Column("failures", Integer, nullable=False),
    Column("error", JSON),
    Column("retry_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

container_revisions = Table(
    "container_revisions",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    # A ContainerSpec.
    Column("spec", JSON, nullable=False),
    # The image's id on the engine, so that a revision does not change with a tag.
    Column("image_id", String(128), nullable=False),
    # The ways in which it is less isolated than by default.
    Column("weakened", JSON, nullable=False),
    Column("deployed_by", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["name"], ["containers.name"], ondelete="CASCADE"),
)

# The hub processes that hold containers or could: how others reach them, and until when they count
# as alive.
container_holders = Table(
    "container_holders",
    metadata,
    Column("id", String(32), primary_key=True),
    # unix:/path or tcp:host:port.
    Column("address", Text, nullable=False),
    # What a hub process must say to be heard there.
    Column("secret", String(64), nullable=False),
    # Milliseconds, by the database's clock.
    Column("expires_at", BigInteger, nullable=False),
)

# A row for each container that exists or is about to: written before it is made, and deleted after
# it is removed, so that a container without a row is an orphan.
container_instances = Table(
    "container_instances",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    # Its place among those that anyone may use or take; NULL once it is a session's, or stopping.
    Column("slot", Integer),
    # The session that has it to itself; NULL: nobody's yet, or everybody's.
    Column("session", String(64)),
    # starting, ready, stopping.
    Column("state", String(16), nullable=False),
    # The engine's id, once there is a container.
    Column("engine_id", String(128)),
    # What its server said of itself when it was initialised: version of the protocol, capabilities.
    Column("server", JSON),
    # Of container_holders; NULL: nobody holds it.
    Column("holder", String(32)),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    UniqueConstraint("name", "revision", "slot"),
    UniqueConstraint("name", "revision", "session"),
    Index("ix_container_instances_holder", "holder"),
)

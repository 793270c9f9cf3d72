"""Starts that failed and exits that nobody wanted: how long the next start of a name waits.

Every function runs inside its caller's transaction. What a past revision does is no matter.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, null, select, update

from mcp_hub.adapters.database.containers_schema import containers
from mcp_hub.adapters.database.metadata import now_ms

MAX_BACK_OFF_S = 60.0


def note_failure(
    connection: Connection, name: str, revision: int, error: Mapping[str, Any], *, started: bool
) -> float:
    """Note that a start failed, or that one that `started` ended unasked; seconds until the next.

    Each in a row waits twice as long as the one before: from a second on for starts, while the
    first that ended waits for nothing.
    """
    current = (containers.c.name == name, containers.c.revision == revision)
    failures = connection.execute(select(containers.c.failures).where(*current)).scalar()
    if failures is None:
        return 0.0
    doublings = failures - 1 if started else failures
    wait_s = 0.0 if doublings < 0 else min(MAX_BACK_OFF_S, 2.0 ** min(doublings, 10))
    connection.execute(
        update(containers)
        .where(*current)
        .values(
            failures=failures + 1,
            error=dict(error),
            retry_at=now_ms() + round(wait_s * 1000),
        )
    )
    return wait_s


def note_start(connection: Connection, name: str, revision: int) -> None:
    """Note that one is ready; how many failed before counts until it has lasted. One statement."""
    connection.execute(
        update(containers)
        .where(
            containers.c.name == name,
            containers.c.revision == revision,
            containers.c.retry_at.is_not(None),
        )
        .values(error=null(), retry_at=None)
    )


def note_steady(connection: Connection, name: str, revision: int) -> None:
    """Note that one has lasted: the failures before it count no more. One statement."""
    connection.execute(
        update(containers)
        .where(
            containers.c.name == name,
            containers.c.revision == revision,
            containers.c.failures > 0,
        )
        .values(failures=0, error=null(), retry_at=None)
    )

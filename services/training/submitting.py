"""Writing a submitted job down, once for each idempotency key, and within the queue's limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from mcp_hub.adapters.database.schema import jobs as table
from mcp_hub.adapters.errors import Conflict, LimitExceeded
from mcp_hub.services.training import jobs
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.states import TERMINAL

_SAME_REQUEST = (
    "name", "type", "framework", "dataset_name", "dataset_version", "target", "config",
    "priority", "timeout_s", "max_retries", "require", "cpus", "memory_mb", "gpus",
)  # fmt: skip
"""What a repeated request must have in common with the first. The version of the data set is
among them: a request that names none means the newest, which may be another by now."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may be queued, and how much of it runs side by side."""

    max_queued: int | None = None
    """Jobs that may be queued, those that wait for others or for their time among them."""
    max_queued_each: int | None = None
    """The same for one submitter."""
    per_framework: Mapping[str, int] = field(default_factory=dict)
    """Attempts that one worker runs at once, by framework; the others have no limit."""


def add_job(
    connection: Connection, values: dict[str, Any], parents: list[str], limits: QueueLimits
) -> tuple[Job, bool]:
    """The new job, or the one that has its idempotency key already; and whether it is new.

    Raises:
        Conflict: the key belongs to another request, or a job depended on did not succeed.
        NotFound: a job depended on does not exist.
        LimitExceeded: too many are queued already.
    """
    jobs.hold_still(connection, parents)
    earlier = _with_key(connection, values, parents)
    if earlier is not None:
        return earlier, False
    for parent_id in parents:
        parent = jobs.get_job(connection, parent_id)
        if parent.status in TERMINAL and parent.status != "succeeded":
            raise Conflict(
                f"Job {parent_id} in depends_on has ended {parent.status}.",
                f"Run it again with training_retry({parent_id!r}) first.",
            )
    _check_room(connection, values["submitted_by"], limits)
    if jobs.insert_job(connection, values, parents):
        return jobs.get_job(connection, values["id"]), True
    # Somebody else used the key since it was looked for.
    earlier = _with_key(connection, values, parents)
    assert earlier is not None
    return earlier, False


def _check_room(connection: Connection, submitted_by: str, limits: QueueLimits) -> None:
    """Those who submit at the same instant may pass the limit together, by as many as they are."""
    queued = select(func.count()).where(table.c.status == "queued")
    if limits.max_queued is not None:
        count = connection.execute(queued).scalar_one()
        if count >= limits.max_queued:
            raise LimitExceeded(
                f"{count} jobs are queued, and training.max_queued allows {limits.max_queued}.",
                "Try again when some have run, or cancel some: training_list(status='queued').",
            )
    if limits.max_queued_each is not None:
        count = connection.execute(queued.where(table.c.submitted_by == submitted_by)).scalar_one()
        if count >= limits.max_queued_each:
            raise LimitExceeded(
                f"{count} jobs of {submitted_by} are queued, and "
                f"training.max_queued_per_submitter allows {limits.max_queued_each}.",
                "Try again when some have run, or cancel some: training_list(status='queued').",
            )


def _with_key(
    connection: Connection, values: Mapping[str, Any], parents: Sequence[str]
) -> Job | None:
    """The job that has the idempotency key of this request, and was the same request."""
    key = values["idempotency_key"]
    if key is None:
        return None
    earlier = connection.execute(select(table).where(table.c.idempotency_key == key)).first()
    if earlier is None:
        return None
    differing = [name for name in _SAME_REQUEST if getattr(earlier, name) != values[name]]
    if jobs.parents_of(connection, earlier.id) != set(parents):
        differing.append("depends_on")
    if differing:
        raise Conflict(
            f"The idempotency key {key!r} belongs to job {earlier.id}, "
            f"whose {differing[0]} differs.",
            "Use another key for another request.",
        )
    return earlier

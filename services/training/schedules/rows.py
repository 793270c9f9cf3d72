"""The schedules table: each function is one transaction, or a part of one."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, false, func, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schedules_schema import schedules
from mcp_hub.adapters.database.schema import jobs as jobs_table
from mcp_hub.adapters.errors import HubError, LimitExceeded, NotFound, names_hint
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.states import UNFINISHED
from mcp_hub.services.training.submitting import QueueLimits, add_job

Schedule = Row[Any, Any]

MAX_SCHEDULES = 1000

_ACTIVE = schedules.c.paused == false()


def get(connection: Connection, schedule_id: str) -> Schedule:
    """The schedule's row, and `now`.

    Raises:
        NotFound: there is no such schedule; those that exist are named.
    """
    query = select(schedules, now_ms().label("now")).where(schedules.c.id == schedule_id)
    found = connection.execute(query).first()
    if found is None:
        known = connection.execute(select(schedules.c.id)).scalars()
        hint = names_hint(schedule_id, known, "schedules")
        raise NotFound(f"There is no schedule {schedule_id!r}.", hint)
    return found


def add(connection: Connection, values: Mapping[str, Any]) -> Schedule:
    """A new schedule.

    Raises:
        LimitExceeded: there are too many.
    """
    if connection.execute(select(func.count()).select_from(schedules)).scalar_one() >= (
        MAX_SCHEDULES
    ):
        raise LimitExceeded(
            f"There are {MAX_SCHEDULES} schedules, the most there may be.",
            "Delete one first: training_schedule(action='delete', schedule_id=…).",
        )
    connection.execute(
        schedules.insert().values(
            **values, paused=False, fired=0, skipped=0, created_at=now_ms(), updated_at=now_ms()
        )
    )
    return get(connection, values["id"])


def due(connection: Connection) -> list[Schedule]:
    """The schedules whose time has come, and `now`."""
    query = select(schedules, now_ms().label("now")).where(_ACTIVE, schedules.c.next_at <= now_ms())
    return list(connection.execute(query.order_by(schedules.c.next_at)).all())


def fire(
    connection: Connection,
    schedule: Schedule,
    next_at: int,
    job: dict[str, Any] | HubError,
    limits: QueueLimits,
) -> Job | None:
    """Move the schedule on to `next_at`, and add its job unless the one before still runs.

    None too if another process has moved it on already, or the job cannot be: `job` is its
    columns, or what is wrong with it.
    """
    mine = (schedules.c.id == schedule.id, schedules.c.next_at == schedule.next_at, _ACTIVE)
    moved = update(schedules).where(*mine).values(next_at=next_at, updated_at=now_ms())
    if not connection.execute(moved).rowcount:
        return None
    change = update(schedules).where(schedules.c.id == schedule.id)
    former = select(jobs_table.c.status).where(jobs_table.c.id == schedule.last_job_id)
    if connection.execute(former).scalar() in UNFINISHED:
        connection.execute(change.values(skipped=schedules.c.skipped + 1))
        return None
    try:
        if isinstance(job, HubError):
            raise job
        added, _ = add_job(connection, job, [], limits)
    except HubError as error:
        connection.execute(change.values(error=error.as_dict()))
        return None
    connection.execute(change.values(fired=schedules.c.fired + 1, last_job_id=added.id, error=None))
    return added


def note(connection: Connection, schedule: Schedule, error: HubError) -> None:
    """Tell what is wrong with a schedule that stays where it is."""
    change = update(schedules).where(schedules.c.id == schedule.id)
    connection.execute(change.values(error=error.as_dict(), updated_at=now_ms()))

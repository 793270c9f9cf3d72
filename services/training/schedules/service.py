"""Schedules: jobs that are submitted again and again, each time once, by whichever worker is first.

A schedule that was due while no worker lived is made up for once, however often it was due.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy import Connection, delete, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schedules_schema import schedules as table
from mcp_hub.adapters.errors import HubError, Internal, InvalidArgument, Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.training.frameworks.registry import FrameworkUnavailable
from mcp_hub.services.training.orders import submission_of
from mcp_hub.services.training.schedules import rows
from mcp_hub.services.training.schedules.rows import Schedule
from mcp_hub.services.training.schedules.timing import Timing, timing_of
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.submitting import QueueLimits
from mcp_hub.services.training.views import ScheduleView
from mcp_hub.services.views import Error, Page, iso

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often the schedules are looked at."""

_NOT_REPEATED = ("idempotency_key", "start_at", "depends_on")


class ScheduleService:
    """Schedules as rows of their table; workers `follow` them."""

    def __init__(self, database: Database, training: TrainingService, limits: QueueLimits) -> None:
        self._database = database
        self._training = training
        self._limits = limits

    async def create(
        self,
        job: Mapping[str, Any],
        *,
        cron: str | None = None,
        every_s: float | None = None,
        timezone: str = "UTC",
        created_by: str,
    ) -> ScheduleView:
        """A schedule that submits `job`, the arguments of training_submit, from its next time on.

        Raises:
            InvalidArgument, NotFound: the timing or the job cannot work; says what would.
            LimitExceeded: there are too many schedules.
        """
        # Time zones are files.
        timing = await to_thread.run_sync(timing_of, cron, every_s, timezone)
        await self._training.prepare(_repeated(job), submitted_by=created_by)

        def add(connection: Connection) -> Schedule:
            now: int = connection.execute(select(now_ms())).scalar_one()
            values = {
                "id": new_id("sch"), "cron": cron, "every_ms": timing.every_ms,
                "timezone": timezone, "job": dict(job), "created_by": created_by,
                "next_at": timing.next_after(now, now),
            }  # fmt: skip
            return rows.add(connection, values)

        schedule = await self._database.write(add)
        await self._training.resume()
        return _view(schedule)

    async def list(self, *, limit: int = 20, cursor: str | None = None) -> Page[ScheduleView]:
        """Schedules, oldest first."""
        query = select(table).order_by(table.c.created_at, table.c.id).limit(check_limit(limit) + 1)
        if cursor is not None:
            created_at, schedule_id = decode_cursor(cursor, int, str)
            later = table.c.created_at > created_at
            query = query.where(
                later | ((table.c.created_at == created_at) & (table.c.id > schedule_id))
            )
        found = await self._database.read(lambda c: c.execute(query).all())
        last = found[limit - 1] if len(found) > limit else None
        return Page(
            items=[_view(row) for row in found[:limit]],
            next_cursor=encode_cursor(last.created_at, last.id) if last else None,
        )

    async def get(self, schedule_id: str) -> ScheduleView:
        """Raises NotFound."""
        return _view(await self._database.read(lambda c: rows.get(c, schedule_id)))

    async def pause(self, schedule_id: str) -> ScheduleView:
        """Submit no more until it is resumed. Raises NotFound."""
        return await self._change(schedule_id, paused=True)

    async def resume(self, schedule_id: str) -> ScheduleView:
        """Go on with the next time after now; nothing is made up for. Raises NotFound."""
        schedule = await self._change(schedule_id, paused=False)
        await self._training.resume()
        return schedule

    async def delete(self, schedule_id: str) -> ScheduleView:
        """Remove it, its jobs stay; how it stood. Raises NotFound."""

        def remove(connection: Connection) -> Schedule:
            schedule = rows.get(connection, schedule_id)
            connection.execute(delete(table).where(table.c.id == schedule_id))
            return schedule

        return _view(await self._database.write(remove))

    async def follow(self) -> None:
        """Submit the jobs of schedules when their time has come, until cancelled."""
        while True:
            try:
                await self.fire_due()
            except Unavailable as error:
                logger.warning("Schedules cannot be looked at: %s", error)
            await anyio.sleep(_LOOK_S)

    async def fire_due(self) -> int:
        """Submit the jobs of the schedules whose time has come; how many there are.

        A schedule that gives no job holds up none of the others.

        Raises:
            Unavailable: the database does not answer.
        """
        fired = 0
        for schedule in await self._database.read(rows.due):
            try:
                fired += await self._fire(schedule)
            except Unavailable:
                raise
            except Exception as error:
                # Such as a time zone that this machine does not know: another worker may.
                wrong = Internal(f"It cannot be moved on: {error}")
                if schedule.error != wrong.as_dict():
                    logger.exception("%s cannot be moved on", schedule.id)
                    await self._database.write(partial(rows.note, schedule=schedule, error=wrong))
        return fired

    async def _fire(self, schedule: Schedule) -> bool:
        job = await self._job_of(schedule)
        if isinstance(job, HubError):
            logger.warning("%s gives no job: %s", schedule.id, job)
        next_at = _timing(schedule).next_after(schedule.now, schedule.next_at)
        fire = partial(rows.fire, schedule=schedule, next_at=next_at, job=job, limits=self._limits)
        added = await self._database.write(fire)
        if added is None:
            return False
        logger.info("%s submitted %s", schedule.id, added.id)
        await self._training.announce(added)
        return True

    async def _job_of(self, schedule: Schedule) -> dict[str, Any] | HubError:
        """The columns of the schedule's next job, or why there is none.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            submission = _repeated(schedule.job)
            return await self._training.prepare(submission, submitted_by=schedule.created_by)
        except FrameworkUnavailable as error:
            return error
        except Unavailable:
            raise
        except HubError as error:
            return error
        except Exception:
            logger.exception("The job of %s cannot be made", schedule.id)
            return Internal("The hub failed to make this job; the worker's log says why.")

    async def _change(self, schedule_id: str, *, paused: bool) -> ScheduleView:
        def change(connection: Connection) -> Schedule:
            schedule = rows.get(connection, schedule_id)
            next_at = schedule.next_at
            if schedule.paused and not paused:
                next_at = _timing(schedule).next_after(schedule.now, next_at)
            connection.execute(
                update(table)
                .where(table.c.id == schedule_id)
                .values(paused=paused, next_at=next_at, updated_at=now_ms())
            )
            return rows.get(connection, schedule_id)

        return _view(await self._database.write(change))


def _timing(schedule: Schedule) -> Timing:
    return Timing(schedule.cron, schedule.every_ms, schedule.timezone)


def _repeated(job: Mapping[str, Any]) -> Submission:
    """What a schedule submits each time. Raises InvalidArgument for what cannot be repeated."""
    for name in _NOT_REPEATED:
        if job.get(name) is not None:
            raise InvalidArgument(f"The job of a schedule takes no {name}.", "Leave it out.")
    return submission_of(job)


def _view(schedule: Schedule) -> ScheduleView:
    return ScheduleView(
        schedule_id=schedule.id,
        when=str(_timing(schedule)),
        paused=schedule.paused,
        next_at=None if schedule.paused else iso(schedule.next_at),
        job=schedule.job,
        fired=schedule.fired,
        skipped=schedule.skipped,
        last_job_id=schedule.last_job_id,
        error=Error(**schedule.error) if schedule.error else None,
    )

"""Jobs that other programs take from the queue: what they make of them is written down.

The queue tells what happened to its messages, in order. How far that has been read is kept in
the transaction that writes its effect down, so that however many workers read, each event counts
once. A job that another program holds is held by the worker `bullmq:…` in the jobs table, with a
lease that is renewed while the queue says that it is held.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import anyio
from pydantic import ValidationError
from sqlalchemy import Connection, select, update

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs as table
from mcp_hub.adapters.database.schema import queue_positions
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import HubError, TimedOut, Unavailable
from mcp_hub.adapters.queue.port import MessageEvent, SharedQueue
from mcp_hub.services.numbers import is_finite
from mcp_hub.services.training import jobs
from mcp_hub.services.training.announcing import enqueue_ready, job_topic
from mcp_hub.services.training.attempts.events import MAX_KEYS, MetricEvent
from mcp_hub.services.training.attempts.recording import Record, write_record
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.views import JobStatus

logger = logging.getLogger(__name__)

_OUTSIDE = "bullmq:"
"""What the ids of workers that are no hub's begin with."""
_QUEUE = "jobs"
_IS_OUTSIDE = (table.c.status == "running") & table.c.worker_id.startswith(_OUTSIDE)


class Change(NamedTuple):
    """What an event made of a job."""

    job: Job
    status: JobStatus


class Delegation:
    """Follows what other programs do with the jobs of a shared queue."""

    def __init__(
        self,
        database: Database,
        queue: SharedQueue,
        bus: Bus,
        *,
        lease_s: float,
        heartbeat_s: float,
        poll_s: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._bus = bus
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._poll_s = poll_s
        self._position: int | None = None

    async def follow(self) -> None:
        """Write down what happens, until cancelled."""
        look_at = anyio.current_time()
        while True:
            try:
                while await self._catch_up():
                    pass
                if anyio.current_time() >= look_at:
                    look_at = anyio.current_time() + self._heartbeat_s
                    await self._look_after()
            except Unavailable as error:
                logger.warning("What others do with jobs is not known: %s", error)
            await anyio.sleep(self._poll_s)

    async def _catch_up(self) -> bool:
        """Apply the next events; whether there were any."""
        if self._position is None:
            self._position = await self._database.read(_position)
        events, position = await self._queue.events(self._position)
        relevant = await self._relevant(events)
        if relevant:
            for job, status in await self._write_down(relevant):
                logger.info("%s is %s by what %s did", job.id, status, job.worker_id)
                await self._bus.publish(job_topic(job.id))
            await enqueue_ready(self._database, self._queue)
        moved = position != self._position
        self._position = position
        return moved

    async def _write_down(self, events: Sequence[MessageEvent]) -> list[Change]:
        """What the events made of jobs; one that cannot be written down is passed over.

        Raises:
            Unavailable: the database does not answer.
        """
        apply = partial(_apply, lease_ms=int(self._lease_s * 1000))
        try:
            return await self._database.write(lambda c: apply(c, events))
        except Unavailable:
            raise
        except Exception:
            if len(events) > 1:
                return [change for event in events for change in await self._write_down([event])]
            [bad] = events
            logger.exception("What %r says of %s is passed over", bad.kind, bad.message_id)
            await self._database.write(lambda c: _new_of(c, events))
            return []

    async def _relevant(self, events: Sequence[MessageEvent]) -> list[MessageEvent]:
        """The events that are about jobs which others take or hold."""
        if not events:
            return []
        taken = {event.message_id for event in events if event.kind == "taken"}
        known = select(table.c.id).where(table.c.id.in_(taken) | _IS_OUTSIDE)
        ids = await self._database.read(lambda c: set(c.execute(known).scalars()))
        return [event for event in events if event.message_id in ids]

    async def _look_after(self) -> None:
        """Renew the leases of what is held; take back what is cancelled or takes too long."""
        query = select(table, now_ms().label("now")).where(_IS_OUTSIDE)
        outside = await self._database.read(lambda c: c.execute(query).all())
        for job in outside:
            if job.cancel_requested or _is_overdue(job, job.now):
                await self._queue.cancel(job.id)
        held = await self._queue.held([job.id for job in outside])
        if held:
            lease = now_ms() + int(self._lease_s * 1000)
            renew = update(table).where(table.c.id.in_(held), _IS_OUTSIDE)
            await self._database.write(
                lambda c: c.execute(renew.values(lease_expires_at=lease)).close()
            )


def _position(connection: Connection) -> int:
    query = select(queue_positions.c.position).where(queue_positions.c.queue == _QUEUE)
    return connection.execute(query).scalar() or 0


def _apply(connection: Connection, events: Sequence[MessageEvent], lease_ms: int) -> list[Change]:
    """Write down the events that nobody has yet, and how far they go."""
    new = _new_of(connection, events)
    changes = [_apply_one(connection, event, lease_ms) for event in new]
    return [change for change in changes if change is not None]


def _new_of(connection: Connection, events: Sequence[MessageEvent]) -> list[MessageEvent]:
    """The events that nobody has seen to yet; from here on, they count as seen to."""
    row = insert_for(connection, queue_positions).values(queue=_QUEUE, position=0)
    connection.execute(row.on_conflict_do_nothing())
    mine = queue_positions.c.queue == _QUEUE
    query = select(queue_positions.c.position).where(mine).with_for_update()
    reached = connection.execute(query).scalar_one()
    new = [event for event in events if event.position > reached]
    if new:
        connection.execute(update(queue_positions).where(mine).values(position=new[-1].position))
    return new


def _apply_one(connection: Connection, event: MessageEvent, lease_ms: int) -> Change | None:
    if event.kind == "taken":
        worker_id = f"{_OUTSIDE}{event.by}"[:64]
        started = jobs.start_attempt(connection, event.message_id, worker_id, lease_ms)
        if started is None:
            return None
        return Change(started, "running")
    query = select(table, now_ms().label("now")).where(table.c.id == event.message_id, _IS_OUTSIDE)
    job = connection.execute(query).first()
    if job is None:
        return None
    match event.kind:
        case "completed":
            return _end(connection, job, "succeeded", metrics=_metrics(event.result))
        case "failed":
            error = Unavailable(event.reason or "It failed without a reason.")
            status: JobStatus = "queued" if job.failures < job.max_retries else "failed"
            return _end(connection, job, status, error, failures=job.failures + 1)
        case "removed":
            if job.cancel_requested or not _is_overdue(job, job.now):
                return _end(connection, job, "cancelled")
            late = TimedOut(f"It ran for {job.timeout_s:g} s, its time-out.")
            return _end(connection, job, "timed_out", late)
        case "lost":
            return Change(job, jobs.lose(connection, job))
        case "returned":
            change = _end(connection, job, "queued")
            jobs.mark_enqueued(connection, [job.id])
            return change


def _end(
    connection: Connection,
    job: Job,
    status: JobStatus,
    error: HubError | None = None,
    *,
    metrics: Sequence[MetricEvent] = (),
    **values: Any,
) -> Change:
    reason = f": {error.message}" if error else "."
    _note(connection, job, 1, f"Attempt {job.attempt} {status}{reason}", metrics)
    described = error.as_dict() if error else None
    jobs.end_attempt(connection, job, status, error=described, values=values)
    return Change(job, status)


def _note(
    connection: Connection,
    job: Job,
    seq: int,
    text: str,
    metrics: Sequence[MetricEvent] = (),
) -> None:
    record = Record(metrics=list(metrics), log=[("hub", text)])
    newest = {metric.key: metric.value for metric in metrics}
    write_record(connection, job, record, newest=newest, first_seq=seq)


def _metrics(result: Any) -> list[MetricEvent]:
    """The numbers of `{"metrics": {…}}`, which is what a job may come to outside the hub.

    Without those that an attempt in the hub might not report either.
    """
    given = result.get("metrics") if isinstance(result, dict) else None
    metrics: list[MetricEvent] = []
    for key, value in given.items() if isinstance(given, dict) else ():
        if len(metrics) < MAX_KEYS and isinstance(value, int | float) and is_finite(value):
            with suppress(ValidationError):
                metrics.append(MetricEvent(type="metric", key=key, value=value, step=0))
    return metrics


def _is_overdue(job: Job, now: int) -> bool:
    return bool(now > job.started_at + job.timeout_s * 1000)

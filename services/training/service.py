"""Training jobs for their users: submit, follow, cancel, retry."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Select, select, update

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import jobs as table
from mcp_hub.adapters.errors import Conflict, InvalidArgument, LimitExceeded, Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.port import Queue
from mcp_hub.services.data.service import DataService
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry
from mcp_hub.services.training import jobs, reports
from mcp_hub.services.training.announcing import (
    LIST_CHANGED,
    WORK_CHANGED,
    described,
    enqueue_ready,
    job_topic,
)
from mcp_hub.services.training.frameworks.base import NOWHERE, Framework, Place
from mcp_hub.services.training.frameworks.registry import describe_frameworks, load_framework
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.limits import Limits, check_limits
from mcp_hub.services.training.reports import ALL_LINES, LogFilter
from mcp_hub.services.training.showing import job_view, most_gpus, summary
from mcp_hub.services.training.states import STATUSES, TERMINAL, UNFINISHED
from mcp_hub.services.training.submission import (
    Submission,
    check_again,
    check_submission,
    seconds_until,
)
from mcp_hub.services.training.submitting import QueueLimits, add_job
from mcp_hub.services.training.views import (
    Frameworks,
    JobComparison,
    JobLimits,
    JobLogs,
    JobMetrics,
    JobStatus,
    JobSummary,
    JobView,
    Submitted,
)
from mcp_hub.services.training.waiting import Follower, Waits
from mcp_hub.services.views import Page

logger = logging.getLogger(__name__)

_ENQUEUE_S = 5.0
_POSITION_S = 0.5

WorkerStarter = Callable[[], Awaitable[None]]
"""Makes sure that some worker will take what is queued."""


class TrainingService:
    """Jobs as rows of the jobs table; the workers do the rest."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        bus: Bus,
        data: DataService,
        *,
        default_timeout_s: float,
        worker_silence_s: float,
        ensure_worker: WorkerStarter,
        limits: QueueLimits = QueueLimits(),  # noqa: B008 - frozen
        allowed: Limits | None = None,
        own: OwnTelemetry = SILENT,
        place: Place = NOWHERE,
    ) -> None:
        self._limits = limits
        self._own = own
        self._place = place
        self._database = database
        self._queue = queue
        self._bus = bus
        self._data = data
        self._default_timeout_s = default_timeout_s
        self._silence_ms = int(worker_silence_s * 1000)
        self._ensure_worker = ensure_worker
        self._allowed = allowed
        self.waits = Waits(bus)
        """Everyone who waits in this process for something of training."""

    async def submit(
        self, submission: Submission, *, submitted_by: str, runner: Framework | None = None
    ) -> Submitted:
        """Queue a job. The same idempotency key and request give the same job again.

        `runner` is what runs it where that is no framework, but work of the hub's own.

        Raises:
            InvalidArgument, NotFound: the request cannot work; says what would.
            Conflict: the key belongs to another request, or a job depended on did not succeed.
            LimitExceeded: too many jobs are queued.
        """
        job, added = await self.record(submission, submitted_by=submitted_by, runner=runner)
        if added:
            await self.announce(job)
        note = None if added else "This idempotency key was used before: this is that job."
        return Submitted(job_id=job.id, status=job.status, note=note)

    async def announce(self, job: Job) -> None:
        """Tell the queue and everyone who listens of a new job."""
        self._own.event("job.submitted", described(job))
        await self._announce(job.id)

    async def record(
        self, submission: Submission, *, submitted_by: str, runner: Framework | None = None
    ) -> tuple[Job, bool]:
        """Write a job down, without a message for it, and whether it is new. Raises as `submit`."""
        values = await self.prepare(submission, submitted_by=submitted_by, runner=runner)
        parents = list(dict.fromkeys(submission.depends_on))
        return await self._database.write(lambda c: add_job(c, values, parents, self._limits))

    async def prepare(
        self, submission: Submission, *, submitted_by: str, runner: Framework | None = None
    ) -> dict[str, Any]:
        """The columns of the job that is asked for.

        Raises:
            InvalidArgument, NotFound: the request cannot work; says what would.
        """
        framework = runner
        if framework is None:
            framework = await to_thread.run_sync(load_framework, submission.framework, self._place)
        dataset = await self._data.get(submission.dataset)
        config = await to_thread.run_sync(check_submission, submission, framework, dataset)
        require = await self._data.settle_rules(dataset, submission.require)
        limits = submission.limits or JobLimits()
        await self._check_limits(limits)
        trace = tracing.current()
        ahead_ms = round(seconds_until(submission.start_at) * 1000)
        return {
            "id": new_id("job"), "name": submission.name, "type": submission.type,
            "framework": submission.framework, "dataset_name": dataset.name,
            "dataset_version": dataset.version, "target": submission.target, "config": config,
            "priority": submission.priority, "max_retries": submission.max_retries,
            "timeout_s": submission.timeout_s or self._default_timeout_s,
            "cpus": limits.cpus, "memory_mb": limits.memory_mb, "gpus": limits.gpus,
            "idempotency_key": submission.idempotency_key, "submitted_by": submitted_by,
            "traceparent": trace.traceparent if trace else None,
            "not_before": now_ms() + ahead_ms if ahead_ms else None,
            "require": require or None,
            "sweep_id": submission.sweep_id, "sweep_trial": submission.sweep_trial,
        }  # fmt: skip

    async def _check_limits(self, limits: JobLimits) -> None:
        if self._allowed is not None:
            check_limits(limits, self._allowed)
        if limits.gpus:
            most = await self._database.read(lambda c: most_gpus(c, self._silence_ms))
            if most is not None and most < limits.gpus:
                raise LimitExceeded(
                    f"limits.gpus is {limits.gpus}; no worker has more than {most}.",
                    "Ask for fewer, or start a worker on a machine that has them.",
                )

    async def status(
        self, job_id: str, *, wait_s: float = 0, follow: Follower | None = None
    ) -> JobView:
        """The job as it stands, or as it ended within `wait_s` seconds (50 at most).

        While waiting, `follow` is told of each change.
        """
        return await self.waits.until(
            job_topic(job_id),
            partial(self._look, job_id),
            lambda view: view.status in TERMINAL,
            wait_s,
            follow,
        )

    async def list(
        self, status: JobStatus | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> Page[JobSummary]:
        """Jobs, newest first."""
        if status is not None and status not in STATUSES:
            raise InvalidArgument(
                f"{status!r} is no job status.", f"They are {', '.join(STATUSES)}."
            )
        statement = _list_statement(status, check_limit(limit), cursor)
        rows = await self._database.read(lambda c: c.execute(statement).all())
        more = len(rows) > limit
        last = rows[limit - 1] if more else None
        return Page(
            items=[summary(row) for row in rows[:limit]],
            next_cursor=encode_cursor(last.created_at, last.id) if last else None,
        )

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a queued job at once; tell a running one's worker to end it within seconds.

        Raises:
            Conflict: the job has ended.
        """
        if await self._database.write(lambda c: _cancel(c, job_id)) == "queued":
            try:
                await self._queue.cancel(job_id)
            except Unavailable as error:
                # Whoever gets the message finds that the job is not queued any more.
                logger.warning("The message of %s is left in the queue: %s", job_id, error)
        await self._tell(job_id)
        return await self._view(job_id)

    async def retry(self, job_id: str) -> JobView:
        """Queue a job that ended without success once more, as a further attempt.

        Raises:
            Conflict: the job has not ended, or has succeeded, or waits for one that failed.
            HubError: its framework refuses it by now, or here.
        """
        job = await self._database.read(lambda c: jobs.get_job(c, job_id))
        await to_thread.run_sync(check_again, job.framework, job.type, job.config, self._place)
        await self._database.write(lambda c: _retry(c, job_id))
        await self._announce(job_id)
        return await self._view(job_id)

    async def logs(
        self,
        job_id: str,
        *,
        tail: int = 100,
        cursor: str | None = None,
        wait_s: float = 0,
        only: LogFilter = ALL_LINES,
    ) -> JobLogs:
        """The last `tail` lines of output, or up to `tail` lines from `cursor` on.

        With `wait_s` (50 at most) and the cursor of the last line, it waits for the next one, as
        long as the job has not ended.
        """
        work = partial(reports.logs, job_id=job_id, tail=tail, cursor=cursor, only=only)
        return await self.waits.until(
            job_topic(job_id),
            lambda: self._database.read(work),
            lambda found: bool(found.lines) or found.next_cursor is None,
            wait_s,
        )

    async def metrics(
        self, job_id: str, *, keys: Sequence[str] | None = None, max_points: int = 50
    ) -> JobMetrics:
        """The history of a job's metrics, thinned to `max_points` each."""
        return await self._database.read(lambda c: reports.metrics(c, job_id, keys, max_points))

    async def compare(self, job_ids: Sequence[str]) -> JobComparison:
        """Two to twenty jobs side by side."""
        return await self._database.read(lambda c: reports.compare(c, job_ids))

    async def frameworks(self) -> Frameworks:
        """What can be trained, and whether what it takes is installed."""
        return await to_thread.run_sync(describe_frameworks, self._place)

    async def ids(self, prefix: str = "", limit: int = 100) -> Sequence[str]:
        """The newest jobs whose id begins with `prefix`."""
        statement = (
            select(table.c.id)
            .where(table.c.id.startswith(prefix, autoescape=True))
            .order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(limit)
        )
        return await self._database.read(lambda c: c.execute(statement).scalars().all())

    async def waiting(self) -> int:
        """Messages in the queue that no worker has taken."""
        return await self._queue.depth()

    async def resume(self) -> None:
        """Have a worker take what an earlier hub left queued, and see to the schedules."""
        if await self._database.read(jobs.is_work_left):
            await self._ensure_worker()

    def end_waits(self) -> None:
        """Have those who wait for jobs told at once how these stand: the process is to end."""
        self.waits.end()

    async def _announce(self, job_id: str) -> None:
        # The job is safe in its table, and the workers enqueue what the queue lacks.
        with anyio.move_on_after(_ENQUEUE_S) as waiting:
            try:
                await enqueue_ready(self._database, self._queue)
            except Unavailable as error:
                logger.warning("%s waits until the queue is back: %s", job_id, error)
        if waiting.cancelled_caught:
            logger.warning("%s waits until the queue answers", job_id)
        await self._tell(job_id, LIST_CHANGED)
        await self._ensure_worker()

    async def _tell(self, job_id: str, *topics: str) -> None:
        # At once: a bus that does not answer holds up each notice.
        async with anyio.create_task_group() as tasks:
            for topic in (WORK_CHANGED, job_topic(job_id), *topics):
                tasks.start_soon(self._bus.publish, topic)

    async def _look(self, job_id: str) -> JobView:
        """The job as it stands, with a worker for it on its way if it needs one."""
        view = await self._view(job_id)
        if view.status in UNFINISHED:
            await self._ensure_worker()
        return view

    async def _view(self, job_id: str) -> JobView:
        per_framework = self._limits.per_framework
        view = await self._database.read(
            lambda c: job_view(c, job_id, per_framework, self._silence_ms)
        )
        if view.wait is not None and view.wait.reason in ("framework", "worker", "queue"):
            # Worth a moment: a status is told without it where the queue is silent.
            with anyio.move_on_after(_POSITION_S), suppress(Unavailable):
                view.wait.behind = await self._queue.position(job_id)
        return view


def _list_statement(status: str | None, limit: int, cursor: str | None) -> Select[Any]:
    statement = select(table).order_by(table.c.created_at.desc(), table.c.id.desc())
    if status is not None:
        statement = statement.where(table.c.status == status)
    if cursor is not None:
        created_at, job_id = decode_cursor(cursor, int, str)
        older = table.c.created_at < created_at
        statement = statement.where(
            older | ((table.c.created_at == created_at) & (table.c.id < job_id))
        )
    return statement.limit(limit + 1)


def _cancel(connection: Connection, job_id: str) -> JobStatus:
    """Cancel the job or ask its worker to; the status it had."""
    job = jobs.get_job(connection, job_id)
    status: JobStatus = job.status
    if status in TERMINAL:
        raise Conflict(
            f"Job {job_id} has already ended {status}.", "Only a queued or running job ends so."
        )
    cancelled = connection.execute(
        update(table)
        .where(table.c.id == job_id, table.c.status == "queued")
        .values(status="cancelled", finished_at=now_ms(), updated_at=now_ms())
    ).rowcount
    if cancelled:
        jobs.fail_children(connection, job_id, "cancelled")
        return "queued"
    connection.execute(
        update(table)
        .where(table.c.id == job_id, table.c.status == "running")
        .values(cancel_requested=True, updated_at=now_ms())
    )
    return "running"


def _retry(connection: Connection, job_id: str) -> None:
    job = jobs.get_job(connection, job_id)
    if job.status not in TERMINAL or job.status == "succeeded":
        raise Conflict(
            f"Job {job_id} is {job.status}; only one that failed, timed out or was cancelled can "
            "be retried.",
            "Submit a new job to train again.",
        )
    unmet = jobs.unmet_parents(connection, job_id)
    jobs.hold_still(connection, unmet)
    for parent_id in unmet:
        parent = jobs.get_job(connection, parent_id)
        if parent.status in TERMINAL:
            raise Conflict(
                f"Job {job_id} depends on {parent_id}, which ended {parent.status}.",
                f"Run training_retry({parent_id!r}) first.",
            )
    connection.execute(
        update(table)
        .where(table.c.id == job_id)
        .values(
            status="queued", error=None, diagnosis=None, cancel_requested=False,
            failures=0, losses=0, enqueued=False, not_before=None,
            finished_at=None, updated_at=now_ms(),
        )
    )  # fmt: skip

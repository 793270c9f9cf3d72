"""The jobs table: every change of a job's state, each a function of one transaction.

The table is the truth. A queue's message only says "look at this job": whoever gets it must win
`start_attempt`, so that however often a message comes, an attempt is run by one worker.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, false, func, literal_column, select, true, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schedules_schema import schedules
from mcp_hub.adapters.database.schema import job_attempts, job_dependencies, job_logs, jobs
from mcp_hub.adapters.database.touch import touch
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import NotFound
from mcp_hub.services.training.states import MOVES, TERMINAL, UNFINISHED
from mcp_hub.services.training.views import JobStatus

Job = Row[Any, Any]

MAX_LOSSES = 5
"""A job that lost its worker, or what the worker stands on, this often is taken to be the cause,
and fails."""

_MAX_BACK_OFF_S = 60.0
READY_AT_ONCE = 500


def back_off_s(failures: int) -> float:
    """How long a job that has failed so often waits before its next attempt, in seconds.

    It doubles from 1 s to a minute, less up to half of it by chance: jobs that failed together,
    such as when a server was away, do not come back together.
    """
    return min(2.0 ** (failures - 1), _MAX_BACK_OFF_S) * random.uniform(0.5, 1)


def insert_job(connection: Connection, values: Mapping[str, Any], parents: Sequence[str]) -> bool:
    """Add a queued job; False if its idempotency key is taken."""
    statement = insert_for(connection, jobs).values(
        **values, status="queued", attempt=0, failures=0, losses=0, cancel_requested=False,
        enqueued=False, metrics={}, created_at=now_ms(), updated_at=now_ms(),
    )  # fmt: skip
    added = connection.execute(
        statement.on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(jobs.c.id)
    )
    if added.first() is None:
        return False
    if parents:
        connection.execute(
            job_dependencies.insert(),
            [{"job_id": values["id"], "depends_on": parent} for parent in parents],
        )
    return True


def get_job(connection: Connection, job_id: str) -> Job:
    """The job's row.

    Raises:
        NotFound: there is no such job.
    """
    job = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if job is None:
        raise NotFound(
            f"There is no job {job_id[:80]!r}.", "training_list() tells which there are."
        )
    return job


def hold_still(connection: Connection, job_ids: Sequence[str]) -> None:
    """Let no other transaction end these jobs while this one decides by their states."""
    if job_ids:
        touch(connection, jobs.c.name, jobs.c.id.in_(job_ids))


def lacks_gpus(connection: Connection, job_id: str, free_gpus: int) -> bool:
    """Whether the job is queued and needs more than `free_gpus` GPUs."""
    statement = select(jobs.c.id).where(
        jobs.c.id == job_id, jobs.c.status == "queued", jobs.c.gpus > free_gpus
    )
    return connection.execute(statement).first() is not None


def parents_of(connection: Connection, job_id: str) -> set[str]:
    """The jobs that it was submitted to wait for."""
    statement = select(job_dependencies.c.depends_on).where(job_dependencies.c.job_id == job_id)
    return set(connection.execute(statement).scalars())


def unmet_parents(connection: Connection, job_id: str) -> list[str]:
    """The jobs that must succeed before this one may start."""
    parent = jobs.alias()
    statement = (
        select(parent.c.id)
        .join(job_dependencies, job_dependencies.c.depends_on == parent.c.id)
        .where(job_dependencies.c.job_id == job_id, parent.c.status != "succeeded")
        .order_by(parent.c.id)
    )
    return list(connection.execute(statement).scalars())


def start_attempt(
    connection: Connection,
    job_id: str,
    worker_id: str,
    lease_ms: int,
    *,
    free_gpus: int | None = None,
) -> Job | None:
    """Begin the job's next attempt, if it is queued, waits for nothing and needs at most
    `free_gpus` GPUs, where that is given.

    Its log begins with it: line 0 is written here, so that no attempt is ever without a log.
    """
    has_room = true() if free_gpus is None else func.coalesce(jobs.c.gpus, 0) <= free_gpus
    started = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status == "queued", ~_waits(), has_room)
        .values(
            status="running", attempt=jobs.c.attempt + 1, worker_id=worker_id,
            lease_expires_at=now_ms() + lease_ms, started_at=now_ms(), finished_at=None,
            progress_done=0, progress_total=None, error=None, diagnosis=None, peak_memory_mb=None,
            updated_at=now_ms(),
        )
        .returning(jobs)
    ).first()  # fmt: skip
    if started is not None:
        connection.execute(
            job_attempts.insert().values(
                job_id=job_id, attempt=started.attempt, worker_id=worker_id, started_at=now_ms()
            )
        )
        connection.execute(
            job_logs.insert().values(
                job_id=job_id, attempt=started.attempt, seq=0, time=now_ms(), stream="hub",
                text=f"Attempt {started.attempt} started on {worker_id}.",
            )
        )  # fmt: skip
    return started


def extend_leases(
    connection: Connection, worker_id: str, job_ids: Iterable[str], lease_ms: int
) -> dict[str, Job]:
    """Keep a worker's attempts at these jobs alive; those that it still holds, by id.

    One that it holds without knowing, since the answer to its start was lost, must run out.
    """
    held = connection.execute(
        update(jobs)
        .where(
            jobs.c.id.in_(list(job_ids)),
            jobs.c.worker_id == worker_id,
            jobs.c.status == "running",
        )
        .values(lease_expires_at=now_ms() + lease_ms)
        .returning(jobs.c.id, jobs.c.attempt)
    )
    return {job.id: job for job in held}


def holds(connection: Connection, job: Job) -> bool:
    """Whether the attempt that `job` was started as is still the running one."""
    statement = select(jobs.c.id).where(*_same_attempt(job))
    return connection.execute(statement.with_for_update()).first() is not None


def end_attempt(
    connection: Connection,
    job: Job,
    status: JobStatus,
    *,
    error: Mapping[str, Any] | None = None,
    model: tuple[str, int] | None = None,
    values: Mapping[str, Any] | None = None,
) -> JobStatus | None:
    """Move a running job on to `status`; what it is then, None if the attempt is not the running
    one any more.

    A job that is to be cancelled does not go back to the queue; one that failed backs off there.
    `values` sets further columns. A child of a job that ends otherwise than by success fails.
    """
    assert status in MOVES["running"], status
    values = dict(values or {})
    if status == "queued" and values.get("failures", job.failures) > job.failures:
        values["not_before"] = now_ms() + int(back_off_s(values["failures"]) * 1000)
    if status == "queued":
        to_be_cancelled = select(jobs.c.cancel_requested).where(*_same_attempt(job))
        if connection.scalar(to_be_cancelled.with_for_update()):
            status, error = "cancelled", None
    ended = connection.execute(
        update(jobs)
        .where(*_same_attempt(job))
        .values(
            status=status, worker_id=None, lease_expires_at=None, enqueued=False,
            error=error, model_name=model[0] if model else None,
            model_version=model[1] if model else None,
            finished_at=now_ms() if status in TERMINAL else None, updated_at=now_ms(),
            **values,
        )
    ).rowcount  # fmt: skip
    if not ended:
        return None
    connection.execute(
        update(job_attempts)
        .where(job_attempts.c.job_id == job.id, job_attempts.c.attempt == job.attempt)
        .values(
            outcome="released" if status == "queued" and error is None else
            "failed" if status == "queued" else status,
            error=error, finished_at=now_ms(),
        )
    )  # fmt: skip
    if status in TERMINAL and status != "succeeded":
        fail_children(connection, job.id, status)
    return status


def fail_children(connection: Connection, job_id: str, status: JobStatus) -> None:
    """Fail every queued job that waits, at any depth, for one that will not succeed."""
    broken = [(job_id, status)]
    while broken:
        parent, outcome = broken.pop()
        error = {
            "code": "conflict",
            "message": f"Job {parent}, which this one depends on, ended {outcome}.",
            "hint": f"See training_logs({parent!r}); retry it, then training_retry this job.",
        }
        children = select(job_dependencies.c.job_id).where(job_dependencies.c.depends_on == parent)
        failed = connection.execute(
            update(jobs)
            .where(jobs.c.id.in_(children), jobs.c.status == "queued")
            .values(status="failed", error=error, finished_at=now_ms(), updated_at=now_ms())
            .returning(jobs.c.id)
        )
        broken += [(child, "failed") for child in failed.scalars()]


def reap_lost(connection: Connection) -> list[str]:
    """Take the jobs whose worker stopped renewing its lease from it; the jobs taken."""
    lost = connection.execute(
        select(jobs)
        .where(jobs.c.status == "running", jobs.c.lease_expires_at < now_ms())
        .with_for_update(skip_locked=True)
    ).all()
    for job in lost:
        lose(connection, job)
    return [job.id for job in lost]


def lose(connection: Connection, job: Job) -> JobStatus:
    """End the attempt of a worker that was lost; what becomes of the job."""
    losses = job.losses + 1
    error = {
        "code": "unavailable",
        "message": f"Worker {job.worker_id} was lost while it ran attempt {job.attempt}.",
        "hint": "The machine may be short of memory; see training_logs.",
    }
    status: JobStatus = "failed" if losses >= MAX_LOSSES else "queued"
    return end_attempt(connection, job, status, error=error, values={"losses": losses}) or status


def take_unannounced(connection: Connection, limit: int = READY_AT_ONCE) -> list[Job]:
    """The queued jobs that wait for nothing but their time and have no message in the queue yet.

    Each with `delay_ms`: how long it is until its time.
    """
    delay_ms = func.coalesce(jobs.c.not_before - now_ms(), 0).label("delay_ms")
    statement = (
        select(jobs, delay_ms)
        # Written out as in the index of these jobs, which is not used for what is only bound.
        .where(jobs.c.status == literal_column("'queued'"), jobs.c.enqueued == false(), ~_waits())
        .order_by(jobs.c.created_at, jobs.c.id)
        .limit(limit)
    )
    return list(connection.execute(statement).all())


def delay_s(connection: Connection, job_id: str) -> float:
    """How long it is until the job may run, in seconds."""
    statement = select(jobs.c.not_before - now_ms()).where(jobs.c.id == job_id)
    return max(0, connection.execute(statement).scalar() or 0) / 1000


def mark_enqueued(connection: Connection, job_ids: Iterable[str]) -> None:
    """Record that the queue has a message for each of these jobs."""
    connection.execute(
        update(jobs)
        .where(jobs.c.id.in_(list(job_ids)), jobs.c.status == "queued", jobs.c.enqueued.is_(False))
        .values(enqueued=True)
    )


def forget_enqueued(connection: Connection) -> None:
    """Treat every queued job as having no message, after the queue was found empty."""
    connection.execute(
        update(jobs)
        .where(jobs.c.status == "queued", jobs.c.enqueued.is_(True))
        .values(enqueued=False)
    )


def running_attempts(connection: Connection) -> set[tuple[str, str]]:
    """The attempts that run now, as (job id, attempt)."""
    rows = connection.execute(select(jobs.c.id, jobs.c.attempt).where(jobs.c.status == "running"))
    return {(row.id, str(row.attempt)) for row in rows}


def cancelled_attempts(connection: Connection, worker_id: str) -> list[tuple[str, int]]:
    """The attempts that the worker runs and somebody wants cancelled, as (job id, attempt)."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.attempt).where(
            jobs.c.status == "running", jobs.c.worker_id == worker_id, jobs.c.cancel_requested
        )
    )
    return [(row.id, row.attempt) for row in rows]


def is_work_left(connection: Connection) -> bool:
    """Whether a job is queued or runs, or a schedule is to submit one."""
    unfinished = exists().where(jobs.c.status.in_(UNFINISHED))
    scheduled = exists().where(schedules.c.paused == false())
    return bool(connection.execute(select(unfinished | scheduled)).scalar())


def _same_attempt(job: Job) -> tuple[Any, ...]:
    return (
        jobs.c.id == job.id,
        jobs.c.status == "running",
        jobs.c.attempt == job.attempt,
        jobs.c.worker_id == job.worker_id,
    )


def _waits() -> Any:
    """Whether the job in the enclosing statement waits for another."""
    parent = jobs.alias("parent")
    return exists(
        select(parent.c.id)
        .join(job_dependencies, job_dependencies.c.depends_on == parent.c.id)
        .where(job_dependencies.c.job_id == jobs.c.id, parent.c.status != "succeeded")
        .correlate(jobs)
    )

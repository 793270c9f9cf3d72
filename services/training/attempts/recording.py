"""What an attempt reports, written down: metrics, progress and log lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import job_logs, job_metrics, jobs
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.services.training.attempts.events import MetricEvent, ProgressEvent
from mcp_hub.services.training.jobs import Job

MAX_LOG_LINE = 4_000
"""Characters kept of a line."""


@dataclass(slots=True)
class Record:
    """What is to be written in one go for an attempt."""

    metrics: list[MetricEvent] = field(default_factory=list)
    progress: ProgressEvent | None = None
    log: list[tuple[str, str]] = field(default_factory=list)
    """(stream, text) of each new line; the stream is stdout, stderr or hub."""

    def __bool__(self) -> bool:
        return bool(self.metrics or self.progress or self.log)


def write_record(
    connection: Connection, job: Job, record: Record, *, newest: dict[str, float], first_seq: int
) -> None:
    """Write an attempt's record; `newest` holds the last value of every metric so far.

    An attempt that still reports after it was taken from its worker finds nothing to change in
    `jobs`, and its metrics never replace those of a later attempt.
    """
    values: dict[str, Any] = {"updated_at": now_ms(), "metrics": newest}
    if record.progress is not None:
        values |= {
            "progress_done": record.progress.done,
            "progress_total": record.progress.total,
        }
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job.id, jobs.c.attempt == job.attempt, jobs.c.status == "running")
        .values(**values)
    )
    now = connection.execute(select(now_ms())).scalar_one()
    if record.metrics:
        _write_metrics(connection, job, record.metrics, now)
    if record.log:
        _write_log(connection, job, record.log, first_seq, now)


def _write_metrics(
    connection: Connection, job: Job, metrics: Sequence[MetricEvent], now: int
) -> None:
    rows = {
        (metric.key, metric.step): {
            "job_id": job.id, "key": metric.key, "step": metric.step, "attempt": job.attempt,
            "value": metric.value, "time": now,
        }
        for metric in metrics
    }  # fmt: skip
    if job.attempt > 1:
        _forget_later_steps(connection, job, rows)
    insert = insert_for(connection, job_metrics)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["job_id", "key", "step"],
            set_={column: insert.excluded[column] for column in ("value", "attempt", "time")},
            where=job_metrics.c.attempt <= insert.excluded.attempt,
        ),
        list(rows.values()),
    )


def _forget_later_steps(
    connection: Connection, job: Job, reached: Iterable[tuple[str, int | None]]
) -> None:
    """Of each metric, an earlier attempt's steps from the first reached one on: in the run that
    counts they were not reached."""
    first_steps: dict[str, int] = {}
    for key, step in reached:
        first_steps[key] = min(step or 0, first_steps.get(key, step or 0))
    connection.execute(
        delete(job_metrics).where(
            job_metrics.c.job_id == job.id,
            job_metrics.c.attempt < job.attempt,
            job_metrics.c.key == bindparam("of_key"),
            job_metrics.c.step >= bindparam("from_step"),
        ),
        [{"of_key": key, "from_step": step} for key, step in first_steps.items()],
    )


def _write_log(
    connection: Connection, job: Job, lines: Sequence[tuple[str, str]], first_seq: int, now: int
) -> None:
    connection.execute(
        insert_for(connection, job_logs).on_conflict_do_nothing(),
        [
            {
                "job_id": job.id, "attempt": job.attempt, "seq": first_seq + offset, "time": now,
                "stream": stream, "text": _shortened(text).replace("\0", "\ufffd"),
            }
            for offset, (stream, text) in enumerate(lines)
        ],
    )  # fmt: skip


def _shortened(text: str) -> str:
    if len(text) <= MAX_LOG_LINE:
        return text
    return f"{text[:MAX_LOG_LINE]} … ({len(text) - MAX_LOG_LINE:,} more characters were left out)"

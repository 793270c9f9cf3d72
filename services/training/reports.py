"""What jobs wrote, read back: logs, metric histories, comparisons. Functions of a transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from mcp_hub.adapters.database.schema import job_logs, job_metrics
from mcp_hub.adapters.errors import InvalidArgument, NotFound, names_hint
from mcp_hub.services.pages import decode_cursor, encode_cursor
from mcp_hub.services.training.jobs import Job, get_job
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.views import (
    JobComparison,
    JobLogs,
    JobMetrics,
    LogLine,
    LogStream,
    MetricSeries,
)

MAX_TAIL = 1_000
MAX_COMPARED = 20
_MAX_CHARACTERS = 20_000
_MAX_POINTS = 1_000
_FORWARD, _BACK = "on", "back"


def model_reference(job: Job) -> str | None:
    """The version that the job registered, as name:version."""
    return f"{job.model_name}:{job.model_version}" if job.model_version is not None else None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines of a log: of one stream, of one attempt, containing a text in any case."""

    stream: LogStream | None = None
    attempt: int | None = None
    text: str | None = None


ALL_LINES = LogFilter()


def logs(
    connection: Connection, job_id: str, tail: int, cursor: str | None, only: LogFilter = ALL_LINES
) -> JobLogs:
    """The last `tail` lines, or up to `tail` lines from `cursor` on, cut to fit a result.

    A cursor leads forward or back, as the field said that it came from.
    """
    if not 1 <= tail <= MAX_TAIL:
        raise InvalidArgument(f"tail is {tail}; it must be from 1 to {MAX_TAIL}.")
    job = get_job(connection, job_id)
    order = (job_logs.c.attempt, job_logs.c.seq)
    newest_first = [column.desc() for column in order]
    statement = _lines(job_id, only)
    at: tuple[int, int] | None = None
    forward = False
    if cursor is not None:
        direction, *position = decode_cursor(cursor, str, int, int)
        at, forward = (position[0], position[1]), direction != _BACK
    if at is not None:
        bound = _after(at) if forward else _before(at)
        statement = statement.where(bound)
    statement = statement.order_by(*(order if forward else newest_first)).limit(tail + 1)
    rows = connection.execute(statement).all()
    kept = _fitting(rows[:tail])
    truncated = len(rows) > len(kept)
    if not forward:
        kept.reverse()
    # Going back, what follows was there when it was begun.
    more = truncated if forward else at is not None
    ended = job.status in TERMINAL and not more
    last = _position(kept[-1]) if kept else at or (0, -1)
    # Whatever comes before the first line kept: where there is such, or there may be.
    older = bool(kept) and (forward or truncated)
    return JobLogs(
        job_id=job_id,
        lines=[LogLine(attempt=row.attempt, stream=row.stream, text=row.text) for row in kept],
        next_cursor=None if ended else encode_cursor(_FORWARD, *last),
        previous_cursor=encode_cursor(_BACK, *_position(kept[0])) if older else None,
        truncated=truncated,
    )


def _lines(job_id: str, only: LogFilter) -> Select[Any]:
    statement = select(job_logs).where(job_logs.c.job_id == job_id)
    if only.stream is not None:
        statement = statement.where(job_logs.c.stream == only.stream)
    if only.attempt is not None:
        statement = statement.where(job_logs.c.attempt == only.attempt)
    if only.text is not None:
        statement = statement.where(job_logs.c.text.icontains(only.text, autoescape=True))
    return statement


def _position(line: Any) -> tuple[int, int]:
    return line.attempt, line.seq


def _after(at: tuple[int, int]) -> ColumnElement[bool]:
    attempt, seq = job_logs.c.attempt, job_logs.c.seq
    return (attempt > at[0]) | ((attempt == at[0]) & (seq > at[1]))


def _before(at: tuple[int, int]) -> ColumnElement[bool]:
    attempt, seq = job_logs.c.attempt, job_logs.c.seq
    return (attempt < at[0]) | ((attempt == at[0]) & (seq < at[1]))


def metrics(
    connection: Connection, job_id: str, keys: Sequence[str] | None, max_points: int
) -> JobMetrics:
    """Each metric's values by step."""
    if not 1 <= max_points <= _MAX_POINTS:
        raise InvalidArgument(f"max_points is {max_points}; it must be from 1 to {_MAX_POINTS}.")
    get_job(connection, job_id)
    statement = select(job_metrics).where(job_metrics.c.job_id == job_id)
    rows = connection.execute(statement.order_by(job_metrics.c.key, job_metrics.c.step))
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        points.setdefault(row.key, []).append((row.step, row.value))
    for key in keys or ():
        if key not in points:
            raise NotFound(
                f"Job {job_id} has no metric {key!r}.", names_hint(key, points, "metrics")
            )
    series = [
        _series(key, values, max_points)
        for key, values in points.items()
        if keys is None or key in keys
    ]
    return JobMetrics(job_id=job_id, series=series)


def compare(connection: Connection, job_ids: Sequence[str]) -> JobComparison:
    """Jobs side by side: their newest metrics, and where their requests differ."""
    if not 2 <= len(job_ids) <= MAX_COMPARED:
        raise InvalidArgument(
            f"job_ids names {len(job_ids)} jobs; compare from 2 to {MAX_COMPARED}."
        )
    compared = [get_job(connection, job_id) for job_id in job_ids]
    names = sorted({name for job in compared for name in job.metrics})
    requests = [_request(job) for job in compared]
    fields = sorted({field for request in requests for field in request})
    columns = {field: [request.get(field) for request in requests] for field in fields}
    return JobComparison(
        jobs=[job.id for job in compared],
        statuses=[job.status for job in compared],
        models=[model_reference(job) for job in compared],
        metrics={name: [job.metrics.get(name) for job in compared] for name in names},
        differing_config={
            field: values
            for field, values in columns.items()
            if any(value != values[0] for value in values)
        },
    )


def _request(job: Job) -> dict[str, Any]:
    fixed = {
        "type": job.type,
        "framework": job.framework,
        "dataset": f"{job.dataset_name}:{job.dataset_version}",
        "target": job.target,
    }
    return fixed | {f"config.{key}": value for key, value in job.config.items()}


def _fitting(rows: Sequence[Any]) -> list[Any]:
    """As many rows, from the first, as a result may hold."""
    kept: list[Any] = []
    characters = 0
    for row in rows:
        characters += len(row.text) + 40
        if characters > _MAX_CHARACTERS and kept:
            break
        kept.append(row)
    return kept


def _series(key: str, points: list[tuple[int, float]], max_points: int) -> MetricSeries:
    count = len(points)
    if count > max_points:
        # Evenly spaced, the first and the last always among them.
        last = count - 1
        gaps = max(max_points - 1, 1)
        points = [points[round(position * last / gaps)] for position in range(max_points)]
    return MetricSeries(
        key=key,
        steps=[step for step, _ in points],
        values=[value for _, value in points],
        points=count,
    )

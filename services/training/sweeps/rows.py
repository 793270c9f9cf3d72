"""The tables of sweeps: every function is one of a transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, tuple_, update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import job_metrics, jobs
from mcp_hub.adapters.database.sweeps_schema import sweep_trials, sweeps
from mcp_hub.adapters.database.upsert import insert_for
from mcp_hub.adapters.errors import NotFound, names_hint
from mcp_hub.services.training.sweeps.views import ENDED
from mcp_hub.services.training.views import JobStatus

SweepRow = Row[Any, Any]
TrialRow = Row[Any, Any]
"""A trial with its job's state: `job_status`, `job_metrics`, `job_error`."""
ListedRow = Row[Any, Any]
"""A sweep with its model: `model_name`, `model_version`."""


class Tally(NamedTuple):
    """Of a sweep's trials: how many have ended, and the values of those that are complete."""

    ended: int
    least: float | None
    greatest: float | None


def insert_sweep(connection: Connection, values: Mapping[str, Any]) -> tuple[SweepRow, bool]:
    """The new sweep, or the one that has its idempotency key; and whether it is new."""
    statement = insert_for(connection, sweeps).values(
        **values, status="searching", cancel_requested=False, created_at=now_ms()
    )
    added = connection.execute(
        statement.on_conflict_do_nothing(index_elements=["idempotency_key"]).returning(sweeps)
    ).first()
    if added is not None:
        return added, True
    key = values["idempotency_key"]
    return connection.execute(select(sweeps).where(sweeps.c.idempotency_key == key)).one(), False


def get_sweep(connection: Connection, sweep_id: str) -> SweepRow:
    """The sweep's row.

    Raises:
        NotFound: there is no such sweep; the newest ones are named.
    """
    sweep = connection.execute(select(sweeps).where(sweeps.c.id == sweep_id)).first()
    if sweep is None:
        newest = select(sweeps.c.id).order_by(sweeps.c.created_at.desc(), sweeps.c.id).limit(20)
        hint = names_hint(sweep_id, connection.execute(newest).scalars(), "sweeps")
        raise NotFound(f"There is no sweep {sweep_id!r}.", hint)
    return sweep


def newest(
    connection: Connection, status: JobStatus | None, limit: int, before: tuple[int, str] | None
) -> Sequence[ListedRow]:
    """Sweeps, newest first, from the one after `before` on, its time and id.

    One that has not ended counts as running.
    """
    position = tuple_(sweeps.c.created_at, sweeps.c.id)
    statement = (
        select(sweeps, jobs.c.model_name, jobs.c.model_version)
        .outerjoin(jobs, jobs.c.id == sweeps.c.best_job_id)
        .order_by(sweeps.c.created_at.desc(), sweeps.c.id.desc())
    )
    if status == "running":
        statement = statement.where(sweeps.c.status.not_in(ENDED))
    elif status is not None:
        statement = statement.where(sweeps.c.status == status)
    if before is not None:
        statement = statement.where(position < before)
    return connection.execute(statement.limit(limit)).all()


def tallies(connection: Connection, sweep_ids: Sequence[str]) -> dict[str, Tally]:
    """What the trials of each of the sweeps have come to, where it has any."""
    status, value = sweep_trials.c.status, sweep_trials.c.value
    statement = (
        select(
            sweep_trials.c.sweep_id,
            func.count().filter(status.not_in(("running", "pruning"))),
            func.min(value).filter(status == "complete"),
            func.max(value).filter(status == "complete"),
        )
        .where(sweep_trials.c.sweep_id.in_(sweep_ids))
        .group_by(sweep_trials.c.sweep_id)
    )
    return {sweep_id: Tally(*rest) for sweep_id, *rest in connection.execute(statement)}


def unfinished(connection: Connection) -> Sequence[str]:
    """The sweeps that somebody must see to, oldest first."""
    statement = select(sweeps.c.id).where(sweeps.c.status.not_in(ENDED))
    return connection.execute(statement.order_by(sweeps.c.created_at)).scalars().all()


def elapsed_s(connection: Connection, sweep_id: str) -> float:
    """Seconds since the sweep was submitted, by the database's clock."""
    age = select(now_ms() - sweeps.c.created_at).where(sweeps.c.id == sweep_id)
    return float(connection.execute(age).scalar_one()) / 1000


def trials_of(connection: Connection, sweep_id: str) -> Sequence[TrialRow]:
    """The sweep's trials by number."""
    statement = (
        select(
            sweep_trials,
            jobs.c.status.label("job_status"),
            jobs.c.metrics.label("job_metrics"),
            jobs.c.error.label("job_error"),
        )
        .outerjoin(jobs, jobs.c.id == sweep_trials.c.job_id)
        .where(sweep_trials.c.sweep_id == sweep_id)
        .order_by(sweep_trials.c.number)
    )
    return connection.execute(statement).all()


def job_of_key(connection: Connection, key: str) -> str | None:
    """The job that has that idempotency key."""
    return connection.scalar(select(jobs.c.id).where(jobs.c.idempotency_key == key))


def points_of(connection: Connection, sweep_id: str, metric: str) -> dict[int, dict[int, float]]:
    """The metric's values by step, of each trial by its number."""
    statement = (
        select(sweep_trials.c.number, job_metrics.c.step, job_metrics.c.value)
        .join(job_metrics, job_metrics.c.job_id == sweep_trials.c.job_id)
        .where(
            sweep_trials.c.sweep_id == sweep_id,
            job_metrics.c.key == metric,
            job_metrics.c.step >= 0,
        )
    )
    points: dict[int, dict[int, float]] = {}
    for number, step, value in connection.execute(statement):
        points.setdefault(number, {})[step] = value
    return points


def add_trial(
    connection: Connection, sweep_id: str, number: int, params: Mapping[str, Any]
) -> None:
    """Add a trial that has no job yet; nothing if there is one of that number."""
    connection.execute(
        insert_for(connection, sweep_trials)
        .values(sweep_id=sweep_id, number=number, params=dict(params), status="running")
        .on_conflict_do_nothing()
    )


def change_trial(connection: Connection, trial: TrialRow, **values: Any) -> None:
    """Change a trial that is as `trial` says."""
    connection.execute(
        update(sweep_trials)
        .where(
            sweep_trials.c.sweep_id == trial.sweep_id,
            sweep_trials.c.number == trial.number,
            sweep_trials.c.status == trial.status,
        )
        .values(**values)
    )


def change_sweep(connection: Connection, sweep: SweepRow, **values: Any) -> None:
    """Change a sweep that is in the state that `sweep` says."""
    if values.get("status") in ENDED:
        values["finished_at"] = now_ms()
    connection.execute(
        update(sweeps)
        .where(sweeps.c.id == sweep.id, sweeps.c.status == sweep.status)
        .values(**values)
    )


def request_cancel(connection: Connection, sweep_id: str) -> None:
    """Have whoever drives the sweep cancel it."""
    connection.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(cancel_requested=True))


def best_trial(trials: Sequence[TrialRow], direction: str) -> TrialRow | None:
    """The complete trial of the best value; the earliest of equals."""
    ranked = ranking(trials, direction)
    return ranked[0] if ranked and ranked[0].status == "complete" else None


def ranking(trials: Sequence[TrialRow], direction: str) -> list[TrialRow]:
    """Complete trials, best first; then the pruned; then those without a value."""
    sign = -1 if direction == "maximize" else 1
    order = {"complete": 0, "pruned": 1}

    def place(trial: TrialRow) -> tuple[int, float, int]:
        value = 0.0 if trial.value is None else sign * trial.value
        return order.get(trial.status, 2), value, trial.number

    return sorted(trials, key=place)


def count(connection: Connection) -> int:
    """How many sweeps there are that have not ended."""
    statement = select(func.count()).where(sweeps.c.status.not_in(ENDED))
    return connection.execute(statement).scalar_one()

"""Sweeps for their users: submit, follow, cancel."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Conflict, InvalidArgument
from mcp_hub.adapters.ids import new_id
from mcp_hub.services.data.service import DataService
from mcp_hub.services.pages import check_limit, decode_cursor, encode_cursor
from mcp_hub.services.registry.gates import lower_is_better
from mcp_hub.services.training import jobs
from mcp_hub.services.training.announcing import sweep_topic
from mcp_hub.services.training.frameworks.registry import load_framework
from mcp_hub.services.training.reports import model_reference
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import MAX_TIMEOUT_S, Submission
from mcp_hub.services.training.sweeps import rows, sampling
from mcp_hub.services.training.sweeps.driving import seen_of
from mcp_hub.services.training.sweeps.rows import ListedRow, SweepRow, Tally, TrialRow
from mcp_hub.services.training.sweeps.space import check_space, config_of
from mcp_hub.services.training.sweeps.views import (
    ENDED,
    Direction,
    SweepSubmitted,
    SweepSummary,
    SweepView,
    TrialView,
)
from mcp_hub.services.training.views import JobStatus
from mcp_hub.services.views import Error, Page, iso

MAX_TRIALS = 1_000
MAX_PARALLEL = 100
MAX_METRIC = 128
_SAME_REQUEST = (
    "submission", "space", "metric", "direction", "trials", "parallel", "prune", "timeout_s"
)  # fmt: skip

Follower = Callable[[SweepView], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as somebody asks for it. `job` is what each trial is submitted with."""

    job: Submission
    space: Mapping[str, Any]
    metric: str
    direction: Direction | None = None
    trials: int = 20
    parallel: int = 2
    prune: int | None = None
    timeout_s: float | None = None
    idempotency_key: str | None = None


class SweepService:
    """Sweeps as rows; `SweepDriver` does the rest."""

    def __init__(
        self, database: Database, bus: Bus, training: TrainingService, data: DataService
    ) -> None:
        self._database = database
        self._bus = bus
        self._training = training
        self._data = data

    async def submit(self, sweep: Sweep, *, submitted_by: str) -> SweepSubmitted:
        """Begin a sweep. The same idempotency key and request give the same sweep again.

        Raises:
            InvalidArgument, NotFound: the request cannot work; says what would.
            Unavailable: Optuna is not installed.
            Conflict: the key belongs to another request.
        """
        sampling.check_installed()
        _check_numbers(sweep)
        framework = await to_thread.run_sync(load_framework, sweep.job.framework)
        dataset = await self._data.get(sweep.job.dataset)
        space = await to_thread.run_sync(check_space, sweep.space, sweep.job.config, framework)
        first = {
            key: given["choices"][0] if given["type"] == "categorical" else given["low"]
            for key, given in space.items()
        }
        trial = Submission(
            name=sweep.job.name, type=sweep.job.type, framework=sweep.job.framework,
            dataset=dataset.dataset, target=sweep.job.target,
            config=config_of(sweep.job.config, first), priority=sweep.job.priority,
        )  # fmt: skip
        await self._training.prepare(trial, submitted_by=submitted_by)
        submission = {
            "name": trial.name, "type": trial.type, "framework": trial.framework,
            "dataset": trial.dataset, "target": trial.target, "config": dict(sweep.job.config),
            "priority": trial.priority,
        }  # fmt: skip
        found: Direction = "minimize" if lower_is_better(sweep.metric) else "maximize"
        values = {
            "id": new_id("sweep"), "submission": submission, "space": space,
            "metric": sweep.metric, "direction": sweep.direction or found,
            "trials": sweep.trials, "parallel": sweep.parallel, "prune": sweep.prune,
            "timeout_s": sweep.timeout_s, "idempotency_key": sweep.idempotency_key,
            "submitted_by": submitted_by,
        }  # fmt: skip
        row, added = await self._database.write(partial(rows.insert_sweep, values=values))
        if added:
            await self._bus.publish(sweep_topic(row.id))
        else:
            _check_same(row, values)
        note = None if added else "This idempotency key was used before: this is that sweep."
        return SweepSubmitted(sweep_id=row.id, status=row.status, note=note)

    async def status(
        self,
        sweep_id: str,
        *,
        wait_s: float = 0,
        limit: int = 5,
        cursor: str | None = None,
        follow: Follower | None = None,
    ) -> SweepView:
        """The sweep as it stands, or as it ended within `wait_s` seconds (50 at most).

        Its trials from `cursor` on, `limit` at most. `follow` is told of each change meanwhile.
        """
        view = await self._training.waits.until(
            sweep_topic(sweep_id),
            partial(self._view, sweep_id, check_limit(limit), cursor),
            lambda view: view.status in ENDED,
            wait_s,
            follow,
        )
        return view.model_copy(update={"importances": await self._importances(sweep_id)})

    async def list(
        self, status: JobStatus | None = None, *, limit: int = 20, cursor: str | None = None
    ) -> Page[SweepSummary]:
        """Sweeps, newest first; one that has not ended counts as running."""
        before = None
        if cursor is not None:
            created_at, sweep_id = decode_cursor(cursor, int, str)
            before = created_at, sweep_id
        asked = check_limit(limit) + 1

        def find(connection: Connection) -> tuple[Sequence[ListedRow], dict[str, Tally]]:
            found = rows.newest(connection, status, asked, before)
            return found, rows.tallies(connection, [sweep.id for sweep in found])

        found, tallies = await self._database.read(find)
        last = found[limit - 1] if len(found) > limit else None
        return Page(
            items=[_summary(sweep, tallies.get(sweep.id)) for sweep in found[:limit]],
            next_cursor=encode_cursor(last.created_at, last.id) if last else None,
        )

    async def cancel(self, sweep_id: str) -> SweepSubmitted:
        """Cancel a sweep and the trials that run; nothing is registered.

        Raises:
            Conflict: it has ended.
        """

        def ask(connection: Connection) -> SweepRow:
            sweep = rows.get_sweep(connection, sweep_id)
            if sweep.status in ENDED:
                raise Conflict(f"Sweep {sweep_id} has already ended {sweep.status}.")
            rows.request_cancel(connection, sweep_id)
            return sweep

        sweep = await self._database.write(ask)
        await self._bus.publish(sweep_topic(sweep_id))
        note = "It is being cancelled, with the trials that run."
        return SweepSubmitted(sweep_id=sweep_id, status=sweep.status, note=note)

    async def _importances(self, sweep_id: str) -> dict[str, float] | None:
        sweep, trials = await self._database.read(
            lambda c: (rows.get_sweep(c, sweep_id), rows.trials_of(c, sweep_id))
        )
        seen = [seen_of(trial, {}) for trial in trials]
        return await to_thread.run_sync(
            partial(sampling.importances, sweep.id, sweep.space, sweep.direction, seen)
        )

    async def _view(self, sweep_id: str, limit: int, cursor: str | None) -> SweepView:
        def find(connection: Connection) -> tuple[SweepRow, Sequence[TrialRow], str | None]:
            sweep = rows.get_sweep(connection, sweep_id)
            model = None
            if sweep.best_job_id is not None:
                model = model_reference(jobs.get_job(connection, sweep.best_job_id))
            return sweep, rows.trials_of(connection, sweep_id), model

        sweep, trials, model = await self._database.read(find)
        ranked = rows.ranking(trials, sweep.direction)
        start = decode_cursor(cursor, int)[0] if cursor is not None else 0
        best = rows.best_trial(trials, sweep.direction)
        more = start + limit < len(ranked)
        return SweepView(
            sweep_id=sweep.id,
            status=sweep.status,
            name=sweep.submission["name"],
            metric=sweep.metric,
            direction=sweep.direction,
            counts={**Counter(trial.status for trial in trials), "asked": sweep.trials},
            best=_trial_view(best) if best is not None else None,
            importances=None,
            best_job_id=sweep.best_job_id,
            model=model,
            error=Error(**sweep.error) if sweep.error else None,
            ended_by=sweep.ended_by,
            created_at=iso(sweep.created_at) or "",
            finished_at=iso(sweep.finished_at),
            trials=[_trial_view(trial) for trial in ranked[start : start + limit]],
            next_cursor=encode_cursor(start + limit) if more else None,
        )


def _summary(sweep: ListedRow, tally: Tally | None) -> SweepSummary:
    best = None
    if tally is not None:
        best = tally.greatest if sweep.direction == "maximize" else tally.least
    return SweepSummary(
        sweep_id=sweep.id,
        status=sweep.status,
        name=sweep.submission["name"],
        metric=sweep.metric,
        ended=tally.ended if tally else 0,
        trials=sweep.trials,
        best=best,
        model=model_reference(sweep),
        error=sweep.error["message"] if sweep.error else None,
        created_at=iso(sweep.created_at) or "",
    )


def _trial_view(trial: TrialRow) -> TrialView:
    return TrialView(
        number=trial.number, job_id=trial.job_id, status=trial.status, value=trial.value,
        params=trial.params, reason=trial.reason,
    )  # fmt: skip


def _check_numbers(sweep: Sweep) -> None:
    if not sweep.metric:
        raise InvalidArgument("metric is empty.", "Name one that the trials report, e.g. cv_r2.")
    if len(sweep.metric) > MAX_METRIC:
        raise InvalidArgument(f"metric has {len(sweep.metric)} characters, over {MAX_METRIC}.")
    if sweep.direction is not None and sweep.direction not in get_args(Direction):
        raise InvalidArgument(
            f"direction is {sweep.direction!r}.", "It is maximize or minimize, or left out."
        )
    for name, value, most in (
        ("trials", sweep.trials, MAX_TRIALS),
        ("parallel", sweep.parallel, MAX_PARALLEL),
        ("prune", 1 if sweep.prune is None else sweep.prune, 2**31 - 1),
    ):
        if not 1 <= value <= most:
            raise InvalidArgument(f"{name} is {value}; it must be from 1 to {most}.")
    if sweep.timeout_s is not None and not 0 < sweep.timeout_s <= MAX_TIMEOUT_S:
        raise InvalidArgument(
            f"timeout_s is {sweep.timeout_s:g}; it must be above 0 and at most {MAX_TIMEOUT_S}."
        )


def _check_same(row: SweepRow, values: Mapping[str, Any]) -> None:
    for name in _SAME_REQUEST:
        if getattr(row, name) != values[name]:
            raise Conflict(
                f"The idempotency key {values['idempotency_key']!r} belongs to sweep {row.id}, "
                f"whose {name} differs.",
                "Use another key for another request.",
            )

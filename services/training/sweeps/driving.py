"""Sweeps go on: whichever process leads sees to the trials of all of them, from the tables alone.

A trial is an ordinary job. Every step is written down before the next, and each job has a key of
its own, so that a process that takes over from a killed one repeats nothing.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import (
    Conflict,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    TimedOut,
    Unavailable,
)
from mcp_hub.services.background import in_background
from mcp_hub.services.leading import run_as_leader
from mcp_hub.services.training.announcing import SWEEPS, job_topic, sweep_topic
from mcp_hub.services.training.frameworks.registry import FrameworkUnavailable
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.sweeps import rows, sampling
from mcp_hub.services.training.sweeps.rows import SweepRow, TrialRow
from mcp_hub.services.training.sweeps.sampling import Seen
from mcp_hub.services.training.sweeps.space import config_of
from mcp_hub.services.training.waiting import listening

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = "training.sweeps"
_LEASE_S = 6.0
_IDLE_S = 3.0
_LOOK_AGAIN_S = 1.0
_APART_S = 0.1
"""Between two looks: jobs that report often must not keep the driver busy."""
_FAILURES = 5
"""So many trials that failed, with none that did not, end the search."""
_FAULTS = 10
"""After so many looks in a row that went wrong inside the hub, a sweep is given up."""


class SweepDriver:
    """Takes sweeps from one state to the next."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        training: TrainingService,
        *,
        lease_s: float = _LEASE_S,
        idle_s: float = _IDLE_S,
    ) -> None:
        self._database = database
        self._bus = bus
        self._training = training
        self._lease_s = lease_s
        self._idle_s = idle_s
        self._jobs: set[str] = set()
        """Topics of the jobs that sweeps wait for."""

    @asynccontextmanager
    async def driving(self) -> AsyncIterator[None]:
        """See to all sweeps while the context lasts, whenever no other process does."""
        async with in_background(self._run):
            yield

    async def _run(self) -> None:
        while True:
            if await self._is_work():
                await run_as_leader(self._database, LEASE, self._work, lease_s=self._lease_s)
            await anyio.sleep(self._idle_s)

    async def _is_work(self) -> bool:
        try:
            return await self._database.read(rows.count, one_statement=True) > 0
        except Unavailable:
            return False

    async def _work(self) -> None:
        """Drive until every sweep has ended."""
        faults: Counter[str] = Counter()
        async with listening(self._bus, self._concerns) as noticed:
            while ids := await self._unfinished():
                self._jobs.clear()
                for sweep_id in ids:
                    await self._see_to(sweep_id, faults)
                with anyio.move_on_after(_LOOK_AGAIN_S) as silence:
                    await noticed()
                if silence.cancelled_caught:
                    await self._ensure_worker()
                await anyio.sleep(_APART_S)

    async def _see_to(self, sweep_id: str, faults: Counter[str]) -> None:
        """Advance a sweep, as far as it can be; what goes wrong must not hold up the others."""
        try:
            await self.advance(sweep_id)
        except (Unavailable, LimitExceeded) as error:
            logger.warning("Sweep %s waits: %s", sweep_id, error)
        except Exception:  # the next look may do better
            logger.exception("Sweep %s could not be driven", sweep_id)
            faults[sweep_id] += 1
            if faults[sweep_id] >= _FAULTS:
                await self._give_up(sweep_id)
        else:
            del faults[sweep_id]

    async def _give_up(self, sweep_id: str) -> None:
        error = Internal("The sweep cannot be driven any further.", "The hub's log has details.")
        try:
            sweep = await self._database.read(partial(rows.get_sweep, sweep_id=sweep_id))
            await self._change(sweep, status="failed", error=error.as_dict())
        except Unavailable:
            logger.warning("Sweep %s is to be given up later", sweep_id)

    async def _ensure_worker(self) -> None:
        """Have a worker started where whoever ran the jobs is gone."""
        try:
            await self._training.resume()
        except Unavailable as error:
            logger.warning("A worker for the sweeps cannot be looked for: %s", error)

    def _concerns(self, topic: str) -> bool:
        return topic in self._jobs or topic.startswith(SWEEPS)

    async def _unfinished(self) -> Sequence[str]:
        try:
            return await self._database.read(rows.unfinished)
        except Unavailable as error:
            logger.warning("Sweeps cannot be looked for: %s", error)
            return []

    async def advance(self, sweep_id: str) -> None:
        """Do what is due for a sweep: settle, prune, submit, or end it.

        Raises:
            Unavailable, LimitExceeded: a part of the hub does not answer, or its queue is full;
                nothing is lost.
        """
        sweep, elapsed_s, trials = await self._database.read(partial(_standing, sweep_id=sweep_id))
        if sweep.status == "finishing":
            await self._finish(sweep)
            return
        trials = await self._settled(sweep, trials)
        self._jobs |= {job_topic(t.job_id) for t in trials if _is_running(t) and t.job_id}
        if sweep.cancel_requested or sweep.ended_by is not None:
            await self._wind_up(sweep, trials)
        elif reason := _end_of_search(sweep, trials, elapsed_s):
            await self._change(sweep, ended_by=reason)
        else:
            await self._prune(sweep, trials)
            await self._submit(sweep, trials)

    async def _settled(self, sweep: SweepRow, trials: Sequence[TrialRow]) -> Sequence[TrialRow]:
        """The trials, after what has become of their jobs is written down."""
        ended = [t for t in trials if _is_running(t) and t.job_status in TERMINAL]
        if not ended:
            return trials

        def settle(connection: Connection) -> Sequence[TrialRow]:
            for trial in ended:
                rows.change_trial(connection, trial, **_outcome(sweep, trial))
            return rows.trials_of(connection, sweep.id)

        return await self._write(sweep, settle)

    async def _prune(self, sweep: SweepRow, trials: Sequence[TrialRow]) -> None:
        if sweep.prune is None:
            return
        seen = await self._seen(sweep, trials)
        for trial in trials:
            points = seen[trial.number].points
            if trial.status != "running" or not points:
                continue
            ask = partial(
                sampling.to_prune, sweep.id, sweep.space, sweep.direction, seen, trial.number,
                sweep.prune,
            )  # fmt: skip
            if await to_thread.run_sync(ask):
                step = max(points)
                reason = (
                    f"Pruned at step {step}: {sweep.metric} {points[step]:.6g} is worse than the "
                    "median of the trials before it."
                )
                await self._change_trial(sweep, trial, status="pruning", reason=reason)
                await self._cancel_job(trial.job_id)

    async def _submit(self, sweep: SweepRow, trials: Sequence[TrialRow]) -> None:
        """Keep as many trials running as there may be."""
        for trial in trials:
            if trial.status == "running" and trial.job_id is None:
                await self._submit_trial(sweep, trial)
        running = sum(_is_running(trial) for trial in trials)
        due = min(sweep.parallel - running, sweep.trials - len(trials))
        for _ in range(due):
            seen = await self._seen(sweep, trials)
            params = await to_thread.run_sync(
                partial(sampling.suggest, sweep.id, sweep.space, sweep.direction, seen)
            )
            number = len(trials)
            await self._database.write(
                partial(rows.add_trial, sweep_id=sweep.id, number=number, params=params)
            )
            trials = await self._database.read(partial(rows.trials_of, sweep_id=sweep.id))
            await self._submit_trial(sweep, trials[number])

    async def _submit_trial(self, sweep: SweepRow, trial: TrialRow) -> None:
        try:
            config = config_of(sweep.submission["config"], trial.params)
            job_id = await self._job(sweep, config, str(trial.number), trial.number)
        except FrameworkUnavailable as error:
            await self._change_trial(sweep, trial, status="failed", reason=error.message)
        except (Unavailable, LimitExceeded):
            raise
        except HubError as error:
            await self._change_trial(sweep, trial, status="failed", reason=error.message)
        else:
            await self._change_trial(sweep, trial, job_id=job_id)

    async def _wind_up(self, sweep: SweepRow, trials: Sequence[TrialRow]) -> None:
        """Cancel what still runs; then train the best settings, or end without."""
        running = [trial for trial in trials if _is_running(trial)]
        for trial in running:
            if trial.job_id is not None:
                await self._cancel_job(trial.job_id)
            elif job_id := await self._submitted(sweep, str(trial.number)):
                await self._change_trial(sweep, trial, job_id=job_id)
            else:
                await self._change_trial(sweep, trial, status="failed", reason="Not begun.")
        if running:
            return
        best = rows.best_trial(trials, sweep.direction)
        if job_id := await self._submitted(sweep, "best"):
            await self._change(sweep, status="finishing", best_job_id=job_id)
        elif sweep.cancel_requested:
            await self._change(sweep, status="cancelled")
        elif best is None:
            await self._change(sweep, status="failed", error=_nothing_complete(sweep, trials))
        else:
            config = config_of(sweep.submission["config"], best.params)
            try:
                job_id = await self._job(sweep, config, "best", None)
            except FrameworkUnavailable as error:
                await self._change(sweep, status="failed", error=error.as_dict())
            else:
                await self._change(sweep, status="finishing", best_job_id=job_id)

    async def _finish(self, sweep: SweepRow) -> None:
        """End with the job of the best settings."""
        self._jobs.add(job_topic(sweep.best_job_id))
        if sweep.cancel_requested:
            await self._cancel_job(sweep.best_job_id)
        job = await self._training.status(sweep.best_job_id)
        if job.status == "succeeded":
            await self._change(sweep, status="succeeded")
        elif job.status == "cancelled":
            await self._change(sweep, status="cancelled")
        elif job.status in TERMINAL:
            error = job.error.model_dump() if job.error else None
            await self._change(sweep, status="failed", error=error)

    async def _job(
        self, sweep: SweepRow, config: dict[str, Any], part: str, trial: int | None
    ) -> str:
        """The sweep's job of that part, submitted now or before."""
        submission = Submission(
            **{**sweep.submission, "config": config},
            idempotency_key=_key(sweep, part),
            sweep_id=sweep.id,
            sweep_trial=trial,
        )
        submitted = await self._training.submit(submission, submitted_by=sweep.submitted_by)
        self._jobs.add(job_topic(submitted.job_id))
        return submitted.job_id

    async def _submitted(self, sweep: SweepRow, part: str) -> str | None:
        """The job of that part, if a driver was killed before it had written it down."""
        return await self._database.read(partial(rows.job_of_key, key=_key(sweep, part)))

    async def _cancel_job(self, job_id: str) -> None:
        try:
            await self._training.cancel(job_id)
        except Conflict:
            return  # It has ended by itself.

    async def _change(self, sweep: SweepRow, **values: Any) -> None:
        await self._write(sweep, partial(rows.change_sweep, sweep=sweep, **values))

    async def _change_trial(self, sweep: SweepRow, trial: TrialRow, **values: Any) -> None:
        await self._write(sweep, partial(rows.change_trial, trial=trial, **values))

    async def _write(self, sweep: SweepRow, work: Callable[[Connection], T]) -> T:
        """Change something of a sweep, and tell those who follow it."""
        done = await self._database.write(work)
        await self._bus.publish(sweep_topic(sweep.id))
        return done

    async def _seen(self, sweep: SweepRow, trials: Sequence[TrialRow]) -> list[Seen]:
        points: dict[int, dict[int, float]] = {}
        if sweep.prune is not None:
            points = await self._database.read(
                partial(rows.points_of, sweep_id=sweep.id, metric=sweep.metric)
            )
        return [seen_of(trial, points.get(trial.number, {})) for trial in trials]


def seen_of(trial: TrialRow, points: dict[int, float]) -> Seen:
    """A trial as the sampler takes it."""
    return Seen(trial.status, trial.params, trial.value, points)


def _standing(connection: Connection, sweep_id: str) -> tuple[SweepRow, float, Sequence[TrialRow]]:
    return (
        rows.get_sweep(connection, sweep_id),
        rows.elapsed_s(connection, sweep_id),
        rows.trials_of(connection, sweep_id),
    )


def _is_running(trial: TrialRow) -> bool:
    return trial.status in ("running", "pruning")


def _key(sweep: SweepRow, part: str) -> str:
    return f"sweep:{sweep.id}:{part}"


def _end_of_search(sweep: SweepRow, trials: Sequence[TrialRow], elapsed_s: float) -> str | None:
    """What ends the search now, if anything does."""
    if sweep.timeout_s is not None and elapsed_s > sweep.timeout_s:
        return "timeout"
    ended = [trial for trial in trials if trial.status in ("complete", "pruned", "failed")]
    if len(ended) >= _FAILURES and all(trial.status == "failed" for trial in ended):
        return "failures"
    return "trials" if len(ended) >= sweep.trials else None


def _outcome(sweep: SweepRow, trial: TrialRow) -> dict[str, Any]:
    """What a trial whose job has ended has come to."""
    value = (trial.job_metrics or {}).get(sweep.metric)
    if trial.job_status == "succeeded":
        if value is not None:
            return {"status": "complete", "value": value, "reason": None}
        reported = ", ".join(sorted(trial.job_metrics or {})[:20]) or "none"
        reason = f"It reported no metric {sweep.metric!r}; it reported {reported}."
        return {"status": "failed", "reason": reason}
    if trial.status == "pruning":
        return {"status": "pruned", "value": value}
    error = (trial.job_error or {}).get("message")
    return {"status": "failed", "reason": error or f"Its job was {trial.job_status}."}


def _nothing_complete(sweep: SweepRow, trials: Sequence[TrialRow]) -> dict[str, Any]:
    """Why there is no best trial: what became of the first that failed by itself."""
    failed = [trial for trial in trials if trial.status == "failed"]
    by_itself = [trial for trial in failed if trial.job_status not in (None, "cancelled")]
    if sweep.ended_by == "timeout" and not by_itself:
        return TimedOut(
            f"No trial was completed within timeout_s={sweep.timeout_s:g}.",
            "Give more time, or a config that trains sooner.",
        ).as_dict()
    first = next(iter(by_itself or failed))
    error = first.job_error or {}
    if first.job_status == "succeeded":
        hint = "Name a metric that trials report."
    else:
        hint = error.get("hint") or "Correct config or space; training_logs of a trial's job tells."
    return {
        "code": error.get("code", InvalidArgument.code),
        "message": f"No trial was completed. Trial {first.number}: {first.reason}",
        "hint": hint,
    }

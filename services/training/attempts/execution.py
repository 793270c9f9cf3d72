"""One attempt from its start to its end, as the worker that claimed it sees it."""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import (
    Conflict,
    Denied,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    TimedOut,
    Unavailable,
)
from mcp_hub.services.background import task_group
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.scoring.products import product
from mcp_hub.services.training import jobs
from mcp_hub.services.training.attempts.checkpoints import RESTORED_FILE, Checkpoints
from mcp_hub.services.training.attempts.collecting import collect, store
from mcp_hub.services.training.attempts.diagnosis import Diagnosis, Ending, diagnose
from mcp_hub.services.training.attempts.outcomes import Outcome, judge, last_line
from mcp_hub.services.training.attempts.patience import patiently
from mcp_hub.services.training.attempts.room import filled_by, make_room
from mcp_hub.services.training.attempts.staging import remove_attempt, stage, task_of
from mcp_hub.services.training.attempts.transcript import FILES, Transcript
from mcp_hub.services.training.frameworks.base import UsesGpu
from mcp_hub.services.training.frameworks.registry import load_ready
from mcp_hub.services.training.frameworks.tasks import TASK_FILE
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes.launcher import AttemptProcess, Launcher
from mcp_hub.services.training.processes.procfs import machine_memory, oom_kills
from mcp_hub.services.training.processes.slots import Grant, Slots
from mcp_hub.services.training.processes.usage import Usage
from mcp_hub.services.training.views import JobStatus

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Made:
    """What an attempt leaves: a version to register, and what writes down the job's result."""

    version: NewVersion | None = None
    result: Callable[[Connection], dict[str, str]] | None = None


class Execution:
    """Runs one attempt: stages its folder, starts it, follows it, writes down how it ended.

    `outcome` and `version` tell of that and of what it registered, once it has.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        *,
        database: Database,
        blobs: BlobStore,
        launcher: Launcher,
        limits: Limits,
        slots: Slots,
        announce: Callable[[str], Awaitable[None]],
    ) -> None:
        self.job = job
        self.outcome: Outcome | None = None
        self.version: int | None = None
        self._made = _Made()
        self._folder = folder
        self._database = database
        self._blobs = blobs
        self._launcher = launcher
        self._limits = limits
        self._memory_mb = limits.memory_of(job)
        self._slots = slots
        self._checkpoints = Checkpoints(job, folder, database=database, blobs=blobs)
        self._transcript = Transcript(
            job, folder, self._checkpoints, database=database, log_bytes=limits.log_bytes,
            announce=announce, remedy=self._make_room,
        )  # fmt: skip
        self._process: AttemptProcess | None = None
        self._usage: Usage | None = None
        self._columns: list[str] = []
        self._exit_status: int | None = None
        self._began = time.monotonic()
        self._oom_kills = oom_kills()
        self._interrupted: Outcome | None = None
        self._interrupt = anyio.Event()

    def interrupt(self, outcome: Outcome) -> None:
        """Ask the attempt to stop; it will have ended as `outcome` says."""
        if self._interrupted is None:
            self._interrupted = outcome
            self._interrupt.set()

    async def run(self) -> JobStatus:
        """Run the attempt to its end and record it; the job's status after it.

        That is `running` if the job was taken from this worker meanwhile: then nothing is
        recorded, and another worker's attempt is what counts.
        """
        outcome = await self._outcome_of(self._attempt())
        try:
            return await self._finish(outcome)
        finally:
            await to_thread.run_sync(remove_attempt, self._folder)

    async def _attempt(self) -> Outcome:
        async with AsyncExitStack() as stack:
            process = self._process = await self._begin(stack)
            if process is not None:
                try:
                    await self._follow(process)
                finally:
                    await process.stop()
                self._exit_status = await process.wait()
                await self._make_room()
                await self._read(final=True)
        outcome = self._interrupted
        if outcome is None:
            assert self._exit_status is not None
            outcome = judge(self._exit_status, self._transcript.report.error)
        if outcome.status not in ("succeeded", "cancelled"):
            await self._transcript.keep_checkpoint()
        return outcome

    async def _begin(self, stack: AsyncExitStack) -> AttemptProcess | None:
        """Stage and start the attempt with its cores and GPUs, which it holds until `stack` ends;
        None if it was interrupted first, or cannot run here."""
        process: AttemptProcess | None = None
        try:
            place = self._limits.place
            framework = await to_thread.run_sync(load_ready, self.job.framework, place)
        except Conflict as error:
            self.interrupt(Outcome("failed", error, "missing_module"))
            return None
        async with task_group() as tasks:
            tasks.start_soon(self._cancel_when_interrupted, tasks.cancel_scope)
            wanted = self.job.gpus
            grant = await stack.enter_async_context(
                self._slots.hold(
                    cpus=self._limits.cpus_of(self.job),
                    # A job that does not say gets one if it can use one and one is free.
                    gpus=int(isinstance(framework, UsesGpu)) if wanted is None else wanted,
                    at_least=wanted or 0,
                )
            )
            self._columns = await self._stage(grant)
            process = await self._launcher.start(self._folder, framework.preload)
            tasks.cancel_scope.cancel()
        return process

    async def _cancel_when_interrupted(self, scope: anyio.CancelScope) -> None:
        await self._interrupt.wait()
        scope.cancel()

    async def _stage(self, grant: Grant) -> list[str]:
        """Fill the folder; the columns of the data set."""
        await to_thread.run_sync(lambda: self._folder.mkdir(parents=True, exist_ok=True))
        restored = await patiently(self._checkpoints.restore)
        if restored is not None:
            step = "" if restored.step is None else f", step {restored.step}"
            await self._transcript.note(
                f"Restored the checkpoint of attempt {restored.attempt}{step}."
            )
        staged = await stage(self.job, self._folder, self._database, self._blobs)
        task = task_of(
            self.job, staged, grant, self._limits,
            threads=len(grant.cores) or self._launcher.threads_per_attempt,
            has_gpus=bool(self._slots.gpus),
            checkpoint=RESTORED_FILE if restored is not None else None,
        )  # fmt: skip
        await anyio.Path(self._folder / TASK_FILE).write_text(json.dumps(task), encoding="utf-8")
        return [column["name"] for column in staged.dataset.columns]

    async def _follow(self, process: AttemptProcess) -> None:
        over = anyio.Event()

        async def wait_for(end: Callable[[], Awaitable[Any]]) -> None:
            await end()
            over.set()

        limit = None if self._memory_mb is None else self._memory_mb * _MB
        usage = self._usage = Usage(process.pid, self._folder, limit)
        self._began = time.monotonic()
        with anyio.move_on_after(self.job.timeout_s) as deadline:
            async with task_group() as tasks:
                tasks.start_soon(wait_for, process.wait)
                tasks.start_soon(wait_for, self._interrupt.wait)
                tasks.start_soon(self._transcript.keep_checkpoints)
                while not over.is_set():
                    # Output first: where that is what fills the folder, it is the reason.
                    await to_thread.run_sync(usage.look)
                    await self._read()
                    self._check_usage(usage)
                    await self._make_room()
                    with anyio.move_on_after(_POLL_S):
                        await over.wait()
                tasks.cancel_scope.cancel()
        if deadline.cancelled_caught:
            self.interrupt(
                Outcome(
                    "timed_out",
                    TimedOut(
                        f"It ran for {self.job.timeout_s:g} s, its time-out.",
                        "Submit it with a larger timeout_s, or give it less to do.",
                    ),
                    "timeout",
                )
            )

    async def _read(self, *, final: bool = False) -> None:
        """Take in what the attempt wrote since the last time; what is at fault ends the attempt."""
        fault = await self._transcript.read(final=final, failed=bool(self._exit_status))
        if fault is not None:
            self.interrupt(Outcome("failed", fault.error, fault.cause))

    def _check_usage(self, usage: Usage) -> None:
        memory_mb, disk_mb = self._memory_mb, self._limits.disk_mb
        if memory_mb is not None and usage.memory > memory_mb * _MB:
            error = LimitExceeded(
                f"It held {usage.memory // _MB:,} MB of memory; it may hold {memory_mb:,}.",
                "Submit it with a larger limits.memory_mb, or give it less data.",
            )
            self.interrupt(Outcome("failed", error, "out_of_memory"))
        if disk_mb is not None and usage.disk > disk_mb * _MB:
            error = LimitExceeded(
                f"Its folder held {usage.disk // _MB:,} MB; it may hold {disk_mb:,}.",
                "Write less, or raise training.disk_mb.",
            )
            self.interrupt(Outcome("failed", error, "disk_full"))

    async def _make_room(self) -> None:
        """End an attempt that has filled the disk, and remove what it wrote but its reports and
        output: without room, nothing of it can be written down."""
        if self._exit_status == 0 and self._interrupted is None:
            # What it leaves is wanted.
            return
        error = await to_thread.run_sync(filled_by, self._folder)
        if error is None:
            return
        self.interrupt(Outcome("failed", error, "disk_full"))
        if self._process is not None:
            await self._process.stop()
        await to_thread.run_sync(make_room, self._folder, FILES)

    async def _outcome_of(self, work: Awaitable[Outcome]) -> Outcome:
        """What `work` says; what it raises fails this attempt, and not its neighbours'."""
        try:
            return await work
        except Unavailable as error:
            return await self._given_up(error)
        except HubError as error:
            return Outcome("failed", error)
        except Exception as error:  # the attempt ends here
            logger.exception("Attempt %s of %s failed in the worker", self.job.attempt, self.job.id)
            return Outcome("failed", Internal(f"The worker failed: {error}"))

    async def _given_up(self, error: Unavailable) -> Outcome:
        """What the hub stands on failed: not the job, unless it has filled the disk."""
        full = await to_thread.run_sync(filled_by, self._folder)
        return Outcome("queued", error) if full is None else Outcome("failed", full, "disk_full")

    def _diagnosis(self, outcome: Outcome) -> Diagnosis | None:
        report, progress = self._transcript.report, self._transcript.progress
        error = outcome.error
        own = report.error
        return diagnose(
            Ending(
                outcome.status,
                error,
                reported=own is not None and error is not None and own.message == error.message,
                exit_status=self._exit_status if outcome.cause is None else None,
                lines=tuple(self._transcript.last_lines),
                cause=outcome.cause,
                columns=self._columns,
                peak_memory=self._usage.peak_memory if self._usage else 0,
                memory_limit_mb=self._memory_mb,
                machine_memory=machine_memory(),
                oom_kills=oom_kills() - self._oom_kills,
                elapsed_s=time.monotonic() - self._began,
                timeout_s=self.job.timeout_s,
                progress=(progress.done, progress.total) if progress else None,
            )
        )

    async def _finish(self, outcome: Outcome) -> JobStatus:
        """Keep what an attempt that succeeded has made; record the end, once."""
        if outcome.status == "succeeded":
            outcome = await self._outcome_of(self._collect())
        made = self._made
        # Before the end is written down, for which there may be no room otherwise.
        await to_thread.run_sync(remove_attempt, self._folder)
        self.outcome = outcome
        status, values = await to_thread.run_sync(self._ending, outcome)
        await self._transcript.note(last_line(self.job.attempt, outcome, status))

        def end(connection: Connection) -> tuple[JobStatus | None, int | None]:
            if not jobs.holds(connection, self.job):
                return None, None
            new = made.version
            model = (new.name, add_version(connection, new)) if new is not None else None
            if made.result is not None and status == "succeeded":
                values["result"] = made.result(connection)
            ended = jobs.end_attempt(
                connection,
                self.job,
                status,
                error=outcome.error.as_dict() if outcome.error else None,
                model=model,
                values=values,
            )
            return ended, model[1] if ended and model else None

        ended, self.version = await patiently(lambda: self._database.write(end))
        if ended is None:
            logger.warning("%s was taken from this worker before it ended", self.job.id)
        if ended == "succeeded":
            # Where this fails, a worker's supervision does it.
            with suppress(Unavailable):
                await self._checkpoints.remove()
        return ended or "running"

    async def _collect(self) -> Outcome:
        """Store what it has made. Raises as `collect` and `product`."""
        report = self._transcript.report
        version = await collect(self.job, self._folder, report, self._blobs)
        if report.artifacts and report.model is None:
            await self._transcript.note(
                "Artifacts are kept with a model, and the job reported none. Not kept: "
                f"{', '.join(report.artifacts)[:1000]}."
            )
        result = await product(self.job, report, partial(store, self._folder, self._blobs))
        self._made = _Made(version, result)
        return Outcome("succeeded")

    def _ending(self, outcome: Outcome) -> tuple[JobStatus, dict[str, Any]]:
        """The status of the job after an attempt that ended so, and what is recorded with it."""
        diagnosis = self._diagnosis(outcome)
        peak_mb = self._usage.peak_memory // _MB if self._usage else 0
        values: dict[str, Any] = {
            "failures": self.job.failures + (outcome.status == "failed"),
            "diagnosis": asdict(diagnosis) if diagnosis else None,
            # One that was over before it was looked at has none.
            "peak_memory_mb": peak_mb or None,
        }
        status = outcome.status
        if status == "failed" and self._may_retry(outcome.error):
            status = "queued"
        elif status == "queued" and outcome.error is not None:
            values["losses"] = self.job.losses + 1
            if values["losses"] >= jobs.MAX_LOSSES:
                status = "failed"
        return status, values

    def _may_retry(self, error: HubError | None) -> bool:
        # What is wrong with the request stays wrong.
        deterministic = isinstance(error, InvalidArgument | Denied | Conflict)
        return not deterministic and self.job.failures < self.job.max_retries

"""One attempt from its start to its end, as the worker that claimed it sees it."""

import json
import logging
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, select

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.database.schema import datasets
from mcp_hub.adapters.errors import (
    Conflict,
    Denied,
    HubError,
    Internal,
    InvalidArgument,
    LimitExceeded,
    TimedOut,
    Unavailable,
    error_of,
)
from mcp_hub.services.data.store import find as find_dataset
from mcp_hub.services.registry.store import NewVersion, add_version
from mcp_hub.services.registry.views import SERVED_MODEL, Artifact, Signature
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.training import jobs
from mcp_hub.services.training.attempt import (
    EVENTS_FILE,
    STDERR_FILE,
    STDOUT_FILE,
    TASK_FILE,
)
from mcp_hub.services.training.checkpoints import RESTORED_FILE, Checkpoints
from mcp_hub.services.training.events import READ_BYTES, CheckpointEvent, FileTail, Report
from mcp_hub.services.training.frameworks.base import NOWHERE, Place
from mcp_hub.services.training.frameworks.registry import load_framework
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.launcher import AttemptProcess, Launcher, stop
from mcp_hub.services.training.recording import Record, write_record
from mcp_hub.services.training.requirements import drift_references
from mcp_hub.services.training.views import JobStatus

logger = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S = 0.2
_PATIENCE_S = 120.0
"""How long an attempt waits for a server that does not answer before it is given up."""
_MAX_EVENT_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt may use."""

    memory_mb: int | None
    log_bytes: int
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    status: JobStatus
    error: HubError | None = None


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
        announce: Callable[[str], Awaitable[None]],
    ) -> None:
        self.job = job
        self.outcome: Outcome | None = None
        self.version: int | None = None
        self._folder = folder
        self._database = database
        self._blobs = blobs
        self._launcher = launcher
        self._limits = limits
        self._announce = announce
        self._checkpoints = Checkpoints(job, folder, database=database, blobs=blobs)
        self._checkpoint_offered = anyio.Event()
        self._report = Report()
        self._seq = 1
        self._log_bytes = 0
        self._tails = {
            name: FileTail(folder / name) for name in (EVENTS_FILE, STDOUT_FILE, STDERR_FILE)
        }
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
        try:
            outcome = await self._attempt()
        except Unavailable as error:
            # What the hub stands on failed, not the job.
            outcome = Outcome("queued", error)
        except HubError as error:
            outcome = Outcome("failed", error)
        except Exception as error:  # the attempt ends here
            logger.exception("Attempt %s of %s failed in the worker", self.job.attempt, self.job.id)
            outcome = Outcome("failed", Internal(f"The worker failed: {error}"))
        try:
            return await self._finish(outcome)
        finally:
            await to_thread.run_sync(remove_attempt, self._folder)

    async def _attempt(self) -> Outcome:
        await self._stage()
        framework = load_framework(self.job.framework)
        process = await self._launcher.start(self._folder, framework.preload)
        try:
            await self._follow(process)
        finally:
            await stop(process)
        await self._read_reports(final=True)
        outcome = self._interrupted or self._judge(await process.wait())
        if outcome.status not in ("succeeded", "cancelled"):
            await self._keep_checkpoint()
        return outcome

    async def _stage(self) -> None:
        job = self.job
        dataset = await patiently(lambda: self._database.read(lambda c: _dataset_row(c, job)))
        await to_thread.run_sync(lambda: self._folder.mkdir(parents=True, exist_ok=True))
        restored = await patiently(self._checkpoints.restore)
        if restored is not None:
            step = "" if restored.step is None else f", step {restored.step}"
            await self._log(f"Restored the checkpoint of attempt {restored.attempt}{step}.")
        file = f"dataset.{dataset.format}"
        await patiently(lambda: self._blobs.fetch(dataset.sha256, self._folder / file))
        references = {
            name: await self._stage_reference(number, name)
            for number, name in enumerate(drift_references(job.require))
        }
        task = {
            "job_id": job.id, "attempt": job.attempt, "name": job.name, "type": job.type,
            "framework": job.framework, "target": job.target, "config": job.config,
            "dataset": f"{job.dataset_name}:{job.dataset_version}", "dataset_file": file,
            "dataset_format": dataset.format, "dataset_options": dataset.options,
            "environment": {"MCP_HUB_JOB_ID": job.id, "MCP_HUB_ATTEMPT": str(job.attempt)}
            | tracing.environment(),
            "memory_mb": self._limits.memory_mb,
            "checkpoint": RESTORED_FILE if restored is not None else None,
            "require": job.require, "references": references,
            "place": self._limits.place.model_dump(mode="json"),
        }  # fmt: skip
        await anyio.Path(self._folder / TASK_FILE).write_text(json.dumps(task), encoding="utf-8")

    async def _stage_reference(self, number: int, name: str) -> dict[str, Any]:
        """Bring a data set that drift is measured from; how to read it."""
        found = await patiently(lambda: self._database.read(lambda c: find_dataset(c, name)))
        file = f"reference-{number}"
        await patiently(lambda: self._blobs.fetch(found.view.sha256, self._folder / file))
        return {"file": file, "format": found.format, "options": found.options}

    async def _follow(self, process: AttemptProcess) -> None:
        ended = anyio.Event()

        async def wait() -> None:
            await process.wait()
            ended.set()

        with anyio.move_on_after(self.job.timeout_s) as deadline:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(self._keep_checkpoints)
                while not ended.is_set() and not self._interrupt.is_set():
                    with anyio.move_on_after(_POLL_S):
                        await ended.wait()
                    await self._read_reports()
                tasks.cancel_scope.cancel()
        if deadline.cancelled_caught:
            self.interrupt(
                Outcome(
                    "timed_out",
                    TimedOut(
                        f"It ran for {self.job.timeout_s:g} s, its time-out.",
                        "Submit it with a larger timeout_s, or give it less to do.",
                    ),
                )
            )

    async def _read_reports(self, *, final: bool = False) -> None:
        """Take in what the attempt wrote since the last time, and write it down."""
        more = True
        while more:
            record, checkpoint = Record(), None
            chunks = await to_thread.run_sync(
                lambda: {name: tail.read() for name, tail in self._tails.items()}
            )
            self._check_output()
            unread = any(len(chunk) == READ_BYTES for chunk in chunks.values())
            more = final and unread and self._interrupted is None
            for name, chunk in chunks.items():
                lines = self._tails[name].lines.feed(chunk, final=final and not more)
                if name == EVENTS_FILE:
                    batch = self._report.take(lines)
                    record.metrics = batch.metrics
                    record.progress = batch.progress
                    checkpoint = batch.checkpoint
                    record.log += [("hub", text) for text in batch.log]
                else:
                    stream = name.removesuffix(".log")
                    record.log += [(stream, line.decode(errors="replace")) for line in lines]
            if record:
                await self._record(self._within_limits(record))
            if checkpoint is not None:
                # Behind its step's metrics, which the next attempt does not report again.
                await self._offer_checkpoint(checkpoint)

    async def _offer_checkpoint(self, event: CheckpointEvent) -> None:
        try:
            file = await to_thread.run_sync(self._inside, event.path)
            await self._checkpoints.offer(file, event.step)
            self._checkpoint_offered.set()
        except HubError as error:
            await self._log(f"A checkpoint is not kept: {error.message}")

    async def _keep_checkpoints(self) -> None:
        """Store the newest checkpoint whenever there is another, beside the reports."""
        while True:
            await self._checkpoint_offered.wait()
            self._checkpoint_offered = anyio.Event()
            await self._keep_checkpoint()

    async def _keep_checkpoint(self) -> None:
        try:
            await patiently(self._checkpoints.keep)
        except HubError as error:
            await self._log(f"A checkpoint is not kept: {error.message}")

    async def _log(self, text: str) -> None:
        await self._record(Record(log=[("hub", text)]))

    def _check_output(self) -> None:
        """Stop an attempt that writes more than it may, also before all of it was read."""
        for name, tail in self._tails.items():
            limit = _MAX_EVENT_BYTES if name == EVENTS_FILE else self._limits.log_bytes
            if tail.size > limit:
                error = LimitExceeded(f"It wrote over {limit:,} bytes of output.", "Print less.")
                self.interrupt(Outcome("failed", error))

    def _within_limits(self, record: Record) -> Record:
        kept: list[tuple[str, str]] = []
        for stream, text in record.log:
            self._log_bytes += len(text) + 1
            if self._log_bytes > self._limits.log_bytes:
                break
            kept.append((stream, text))
        record.log = kept
        return record

    async def _record(self, record: Record) -> None:
        newest = dict(self._report.metrics)
        first_seq = self._seq
        self._seq += len(record.log)
        await patiently(
            lambda: self._database.write(
                lambda c: write_record(c, self.job, record, newest=newest, first_seq=first_seq)
            )
        )
        await self._announce(self.job.id)

    def _judge(self, status: int) -> Outcome:
        """What an exit status and the last reports mean."""
        reported = self._report.error
        if reported is not None:
            return Outcome("failed", error_of(reported.code, reported.message, reported.hint))
        if status == 0:
            return Outcome("succeeded")
        if status < 0:
            hint = "Signal 9 often means out of memory." if status == -9 else None
            return Outcome(
                "failed", Unavailable(f"The job's process was killed by signal {-status}.", hint)
            )
        return Outcome(
            "failed",
            Unavailable(f"The job's process ended with status {status}.", "See training_logs."),
        )

    async def _finish(self, outcome: Outcome) -> JobStatus:
        """Register the model of an attempt that succeeded; record the end, once."""
        new: NewVersion | None = None
        if outcome.status == "succeeded":
            try:
                new = await self._new_version()
            except Unavailable as error:
                outcome = Outcome("queued", error)
            except HubError as error:
                outcome = Outcome("failed", error)
        self.outcome = outcome
        values = {"failures": self.job.failures + (outcome.status == "failed")}
        status = outcome.status
        if status == "failed" and self._may_retry(outcome.error):
            status = "queued"
        elif status == "queued" and outcome.error is not None:
            values["losses"] = self.job.losses + 1
            if values["losses"] >= jobs.MAX_LOSSES:
                status = "failed"
        await self._record(Record(log=[("hub", _last_line(self.job.attempt, outcome, status))]))

        def end(connection: Connection) -> tuple[JobStatus | None, int | None]:
            if not jobs.holds(connection, self.job):
                return None, None
            model = (new.name, add_version(connection, new)) if new is not None else None
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

    def _may_retry(self, error: HubError | None) -> bool:
        # What is wrong with the request stays wrong.
        deterministic = isinstance(error, InvalidArgument | Denied | Conflict)
        return not deterministic and self.job.failures < self.job.max_retries

    async def _new_version(self) -> NewVersion | None:
        """The model version that the attempt reported, its files stored."""
        report, job = self._report, self.job
        if report.model is None:
            return None
        served = await to_thread.run_sync(self._inside, report.model.path)
        signature = await to_thread.run_sync(_signature_of, served, report.model.signature)
        files = {**report.artifacts, SERVED_MODEL: report.model.path}
        artifacts = []
        for name, path in files.items():
            file = await to_thread.run_sync(self._inside, path)
            blob = await patiently(lambda file=file: self._blobs.put_file(file))  # type: ignore[misc]
            artifacts.append(Artifact(name=name, sha256=blob.sha256, bytes=blob.size))
        return NewVersion(
            name=job.name,
            flavor=report.model.flavor,
            signature=signature,
            metrics=report.metrics,
            params={"framework": job.framework, "config": job.config, **report.params},
            tags=report.tags,
            artifacts=artifacts,
            description="",
            job_id=job.id,
            dataset=f"{job.dataset_name}:{job.dataset_version}",
            created_by=job.submitted_by,
        )

    def _inside(self, path: str) -> Path:
        folder = self._folder.resolve()
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise Denied(f"The job reported {path!r}, a file outside its own folder.")
        if not file.is_file():
            raise InvalidArgument(f"The job reported {path!r}, but there is no such file.")
        return file


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns, tried again while what it needs is out of reach, but not for ever."""
    give_up_at = anyio.current_time() + _PATIENCE_S
    delay_s = 0.1
    while True:
        try:
            return await call()
        except Unavailable as error:
            if anyio.current_time() + delay_s > give_up_at:
                raise
            logger.warning("Trying again in %.1f s: %s", delay_s, error)
        await anyio.sleep(delay_s)
        delay_s = min(delay_s * 2, 5.0)


def remove_attempt(folder: Path) -> None:
    """Remove an attempt's folder, and its job's if that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _signature_of(file: Path, declared: Signature | None) -> Signature:
    """What was declared, if the model has it; else what the model itself says."""
    # onnxruntime is loaded by the first model, not by the worker's start.
    from mcp_hub.services.registry.inspection import check_signature, read_signature

    if declared is None:
        return read_signature(file.read_bytes())
    check_signature(file.read_bytes(), declared)
    return declared


def _dataset_row(connection: Connection, job: Job) -> Any:
    return connection.execute(
        select(datasets).where(
            datasets.c.name == job.dataset_name, datasets.c.version == job.dataset_version
        )
    ).one()


def _last_line(attempt: int, outcome: Outcome, status: JobStatus) -> str:
    ended = "was given up" if outcome.status == "queued" else outcome.status
    reason = f": {outcome.error.message}" if outcome.error else "."
    return f"Attempt {attempt} {ended}{reason}" + (" It runs again." if status == "queued" else "")

"""A worker: claims jobs, runs their attempts side by side, and takes over from lost workers."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from sqlalchemy import Connection

from mcp_hub.adapters.blobs.port import BlobStore
from mcp_hub.adapters.bus.port import Bus
from mcp_hub.adapters.database.port import Database
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.ids import new_id
from mcp_hub.adapters.queue.port import Claim, Queue, SharedQueue
from mcp_hub.services.memory import give_back
from mcp_hub.services.telemetry.own import tracing
from mcp_hub.services.telemetry.own.own import SILENT, OwnTelemetry
from mcp_hub.services.training import jobs
from mcp_hub.services.training.announcing import (
    WORK_CHANGED,
    announce_ended,
    described,
    enqueue_ready,
    job_topic,
)
from mcp_hub.services.training.attempts.checkpoints import remove_expired
from mcp_hub.services.training.attempts.execution import Execution
from mcp_hub.services.training.attempts.outcomes import Outcome
from mcp_hub.services.training.attempts.staging import remove_attempt
from mcp_hub.services.training.jobs import Job
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.liveness import bury
from mcp_hub.services.training.processes.launcher import Launcher
from mcp_hub.services.training.processes.slots import Slots
from mcp_hub.services.training.schedules.service import ScheduleService
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.states import TERMINAL
from mcp_hub.services.training.views import JobStatus
from mcp_hub.services.training.workers.adoption import Adoption
from mcp_hub.services.training.workers.delegation import Delegation
from mcp_hub.services.training.workers.registration import Registration

logger = logging.getLogger(__name__)

_CANCEL_LOOK_S = 0.5
"""How often cancelled jobs are looked for, as a notice may be lost."""
_GPU_WAIT_S = 1.0
"""How long a job that needs more GPUs than are free is left in the queue."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works; times in seconds."""

    concurrency: int
    lease_s: float
    heartbeat_s: float
    poll_s: float
    idle_exit_s: float | None
    """End after so long without a job; None to stay for good."""
    per_framework: Mapping[str, int] = field(default_factory=dict)
    """How many of the attempts at a time may be of a framework; the others have no such limit."""


class Worker:
    """Runs up to `concurrency` attempts at a time until told to stop, or idle for long.

    Whatever it does is guarded by leases: when it dies, another worker's `_supervise` notices and
    puts its jobs back. When it is merely slow and has lost a lease, it gives the attempt up.
    On a queue that other programs share, it takes their jobs on by `training`, and writes down
    what they do with the hub's.
    """

    def __init__(
        self,
        options: WorkerOptions,
        limits: Limits,
        folder: Path,
        *,
        database: Database,
        blobs: BlobStore,
        queue: Queue,
        bus: Bus,
        slots: Slots,
        training: TrainingService | None = None,
        schedules: ScheduleService | None = None,
        own: OwnTelemetry = SILENT,
    ) -> None:
        self._own = own
        self._schedules = schedules
        self.id = new_id("worker")
        self._options = options
        self._limits = limits
        self._folder = folder
        self._database = database
        self._blobs = blobs
        self._queue = queue
        self._bus = bus
        self._slots = slots
        self._registration = Registration(
            database, self.id, concurrency=options.concurrency, gpus=len(slots.gpus)
        )
        self._adoption: Adoption | None = None
        self._delegation: Delegation | None = None
        if isinstance(queue, SharedQueue) and training is not None:
            self._adoption = Adoption(training, database, queue)
            self._delegation = Delegation(
                database,
                queue,
                bus,
                lease_s=options.lease_s,
                heartbeat_s=options.heartbeat_s,
                poll_s=options.poll_s,
            )
        # By job and attempt: one that was lost may still be ending when the next one begins here.
        self._running: dict[tuple[str, int], tuple[Execution, Claim]] = {}
        self._look = anyio.Event()
        self._beat = anyio.Event()
        self._stopping = anyio.Event()

    def stop(self) -> None:
        """Take no further job, give the running ones back to the queue, and end."""
        self._stopping.set()
        self._look.set()

    async def run(self) -> None:
        """Work until stopped or idle."""
        threads = max(1, (os.cpu_count() or 1) // self._options.concurrency)
        await self._remove_leftovers()
        async with (
            self._registration.held(),
            Launcher(threads) as launcher,
            anyio.create_task_group() as background,
        ):
            background.start_soon(self._keep_leases)
            background.start_soon(self._heed_cancelling)
            background.start_soon(self._supervise)
            background.start_soon(self._listen)
            if self._schedules is not None:
                background.start_soon(self._schedules.follow)
            if self._delegation is not None:
                background.start_soon(self._delegation.follow)
            async with anyio.create_task_group() as attempts:
                await self._claim_jobs(attempts, launcher)
                for execution, _ in self._running.values():
                    execution.interrupt(Outcome("queued"))
            background.cancel_scope.cancel()

    async def _remove_leftovers(self) -> None:
        """Remove the folders of attempts whose worker could not do it any more."""
        folders = await to_thread.run_sync(lambda: list(self._folder.glob("*/*")))
        if not folders:
            return
        running = await self._database.read(jobs.running_attempts)
        for folder in folders:
            if (folder.parent.name, folder.name) not in running:
                await to_thread.run_sync(remove_attempt, folder)

    async def _claim_jobs(self, attempts: TaskGroup, launcher: Launcher) -> None:
        idle_since = anyio.current_time()
        while not self._stopping.is_set():
            started = 0
            free = self._options.concurrency - len(self._running)
            if free:
                started = await self._claim(free, attempts, launcher)
            if started or self._running:
                idle_since = anyio.current_time()
            elif await self._is_idle(anyio.current_time() - idle_since):
                return
            if not started:
                await self._wait_for_work()

    async def _claim(self, limit: int, attempts: TaskGroup, launcher: Launcher) -> int:
        room = self._room()
        full = {framework for framework, slots in room.items() if slots <= 0}
        # All that are claimed at once may be of the framework that has the fewest free slots.
        limit = min([limit, *(slots for slots in room.values() if slots > 0)])
        try:
            claims = await self._queue.claim(
                self.id, self._options.lease_s, limit, passing_over=full
            )
            for claim in claims:
                job = await self._start(claim)
                if job is not None:
                    execution = self._execution(job, launcher)
                    self._running[job.id, job.attempt] = (execution, claim)
                    attempts.start_soon(self._execute, execution, claim)
        except Unavailable as error:
            logger.warning("No jobs can be claimed: %s", error)
            return 0
        return len(claims)

    def _room(self) -> dict[str, int]:
        """How many more attempts may run here, by framework that has a limit."""
        running = Counter(execution.job.framework for execution, _ in self._running.values())
        return {
            framework: most - running[framework]
            for framework, most in self._options.per_framework.items()
        }

    async def _start(self, claim: Claim) -> Job | None:
        """Begin the attempt that the message asks for; settle it where there is none to begin."""
        lease_ms = int(self._options.lease_s * 1000)
        if self._adoption is not None:
            return await self._adoption.start(claim, self.id, lease_ms, self._slots.free_gpus)
        job_id, free_gpus = claim.message_id, self._slots.free_gpus
        job = await self._database.write(
            lambda c: jobs.start_attempt(c, job_id, self.id, lease_ms, free_gpus=free_gpus)
        )
        if job is not None:
            return job
        if await self._database.read(lambda c: jobs.lacks_gpus(c, job_id, free_gpus)):
            await self._queue.retry(claim, delay_s=_GPU_WAIT_S)
        else:
            await self._queue.ack(claim)
        return None

    async def _settle(self, claim: Claim, job_id: str) -> None:
        if self._adoption is not None:
            await self._adoption.settle(claim, job_id)
        else:
            await self._queue.ack(claim)

    def _execution(self, job: Job, launcher: Launcher) -> Execution:
        return Execution(
            job,
            self._folder / job.id / str(job.attempt),
            database=self._database,
            blobs=self._blobs,
            launcher=launcher,
            limits=self._limits,
            slots=self._slots,
            announce=self._announce,
        )

    async def _execute(self, execution: Execution, claim: Claim) -> None:
        job = execution.job
        try:
            status = await self._run(execution)
            if status in TERMINAL:
                await self._settle(claim, job.id)
            else:
                # Also when the lease was lost: the message may be the only one the job has.
                delay_s = await self._database.read(lambda c: jobs.delay_s(c, job.id))
                if await self._queue.retry(claim, delay_s=delay_s):
                    mark = partial(jobs.mark_enqueued, job_ids=[job.id])
                    await self._database.write(mark, one_statement=True)
            await announce_ended(self._bus, job, status)
            await enqueue_ready(self._database, self._queue)
        except Unavailable as error:
            # The lease runs out, and a worker that can reach everything takes over.
            logger.warning("%s ended but this could not be recorded: %s", job.id, error)
        finally:
            del self._running[job.id, job.attempt]
            self._look.set()

    async def _run(self, execution: Execution) -> JobStatus:
        """Run an attempt as a span of the trace in which its job was submitted."""
        job = execution.job
        attributes = described(job) | {"mcp_hub.job.attempt": job.attempt, "span.kind": "consumer"}
        submitted_in = tracing.parse_traceparent(job.traceparent)
        with self._own.span("job.attempt", attributes, parent=submitted_in) as span:
            status = await execution.run()
            outcome = execution.outcome
            if outcome is not None and outcome.status not in ("succeeded", "cancelled"):
                span.fail(outcome.error.code if outcome.error else outcome.status)
            span.attributes["mcp_hub.job.status"] = status
            if execution.version is not None:
                self._own.event(
                    "model.registered",
                    described(job) | {"mcp_hub.model.version": execution.version},
                )
            if status in TERMINAL:
                self._own.event(
                    "job.ended",
                    described(job) | {"mcp_hub.job.status": status},
                    error=None if status in ("succeeded", "cancelled") else span.error or status,
                )
        return status

    async def _announce(self, job_id: str) -> None:
        await self._bus.publish(job_topic(job_id))

    async def _wait_for_work(self) -> None:
        self._look = anyio.Event()
        if not self._stopping.is_set():
            with anyio.move_on_after(self._options.poll_s):
                await self._look.wait()

    async def _listen(self) -> None:
        """Look at once, instead of at the next poll, when another process says so."""
        while True:
            try:
                async with self._bus.subscribe() as topics:
                    async for topic in topics:
                        if topic == WORK_CHANGED:
                            self._look.set()
                            self._beat.set()
            except Unavailable as error:
                logger.warning("Jobs are looked for by the clock: %s", error)
            await anyio.sleep(self._options.lease_s)

    async def _is_idle(self, idle_s: float) -> bool:
        """Whether to end now, having left the list of workers.

        Looked at again after that: whoever submits a job meanwhile finds no worker, or is found.
        """
        if self._options.idle_exit_s is None or idle_s < self._options.idle_exit_s:
            return False
        try:
            if await self._is_work_left():
                return False
            await self._registration.leave()
            if not await self._is_work_left():
                return True
            await self._registration.enter()
        except Unavailable as error:
            logger.warning("Work cannot be looked for: %s", error)
        return False

    async def _is_work_left(self) -> bool:
        return await self._database.read(jobs.is_work_left, one_statement=True)

    async def _keep_leases(self) -> None:
        """Renew the leases of what runs here, and give up what was taken away."""
        while True:
            await anyio.sleep(self._options.heartbeat_s)
            try:
                before = dict(self._running)
                # Each by itself, so that what an attempt writes meanwhile is not in their way.
                await self._registration.beat()
                held = await self._database.write(self._renewal(), one_statement=True)
                for (job_id, attempt), (execution, claim) in before.items():
                    await self._queue.heartbeat(claim, self._options.lease_s)
                    job = held.get(job_id)
                    if job is None or job.attempt != attempt:
                        execution.interrupt(Outcome("failed", Unavailable("The lease was lost.")))
            except Unavailable as error:
                logger.warning("Leases cannot be renewed: %s", error)

    async def _heed_cancelling(self) -> None:
        """End the attempts whose jobs are to be cancelled."""
        cancelled = partial(jobs.cancelled_attempts, worker_id=self.id)
        while True:
            with anyio.move_on_after(_CANCEL_LOOK_S):
                await self._beat.wait()
            self._beat = anyio.Event()
            if not self._running:
                continue
            try:
                for attempt in await self._database.read(cancelled, one_statement=True):
                    if attempt in self._running:
                        self._running[attempt][0].interrupt(Outcome("cancelled"))
            except Unavailable as error:
                logger.warning("Cancelled jobs cannot be looked for: %s", error)

    def _renewal(self) -> Callable[[Connection], dict[str, Job]]:
        """The statement that renews the leases of what runs here now."""
        ids = [job_id for job_id, _ in self._running]
        lease_ms = int(self._options.lease_s * 1000)
        return lambda connection: jobs.extend_leases(connection, self.id, ids, lease_ms)

    async def _supervise(self) -> None:
        """Put back what lost workers held, and announce to the queue what it does not know of."""
        while True:
            try:
                # First its own: after the machine slept, they look as lost as any other's.
                await self._database.write(self._renewal(), one_statement=True)
                for job_id in await self._database.write(self._take_over):
                    logger.warning("%s was taken from a worker that is gone", job_id)
                    await self._announce(job_id)
                if await self._queue.depth() == 0:
                    await self._database.write(jobs.forget_enqueued, one_statement=True)
                await enqueue_ready(self._database, self._queue)
                await remove_expired(self._database, self._blobs)
            except Unavailable as error:
                logger.warning("Lost jobs cannot be looked for: %s", error)
            await to_thread.run_sync(give_back)
            await anyio.sleep(self._options.lease_s / 2)

    def _take_over(self, connection: Connection) -> list[str]:
        bury(connection, silence_ms=int(self._options.lease_s * 10_000))
        return jobs.reap_lost(connection)

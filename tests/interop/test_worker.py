"""The hub's jobs, run by a Node worker."""

import anyio
from sqlalchemy import select

from mcp_hub.adapters.bus.database import DatabaseBus
from mcp_hub.adapters.database.schema import job_attempts
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.divided import DividedQueue
from mcp_hub.services.training.announcing import enqueue_ready
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.workers.delegation import Delegation
from tests.interop.conftest import Node
from tests.services.training.conftest import Finish, Submit, WorkerFactory
from tests.waiting import eventually


async def test_it_is_described_run_and_written_down(
    node: Node, delegation: Delegation, training: TrainingService, submit: Submit, finish: Finish,
    database: SqliteDatabase,
) -> None:  # fmt: skip
    async with node.working() as outside:
        job_id = await submit(value=0.5, target="y")
        taken = await outside.tells()
        job = await finish(job_id)
    assert taken["id"] == job_id
    assert taken["name"] == "mcp-hub"
    assert taken["data"] == {
        "job_id": job_id, "name": "probe", "type": "probe", "framework": "probe",
        "dataset": "points:1", "target": "y",
        "config": {"action": "succeed", "value": 0.5, "steps": 3, "flag": None},
    }  # fmt: skip
    assert (job.status, job.attempt, job.model) == ("succeeded", 1, None)
    assert job.metrics == {"accuracy": 0.75, "loss": 0.5}
    history = await training.metrics(job_id)
    assert {series.key: series.values for series in history.series} == {
        "accuracy": [0.75], "loss": [0.5]
    }  # fmt: skip
    lines = [line.text for line in (await training.logs(job_id)).lines]
    attempt = await database.read(lambda c: c.execute(select(job_attempts)).one())
    assert attempt.outcome == "succeeded"
    # Who took it is not known any more when it ends at once.
    assert attempt.worker_id in ("bullmq:node-1", "bullmq:unknown")
    assert lines == [f"Attempt 1 started on {attempt.worker_id}.", "Attempt 1 succeeded."]


async def test_what_only_hubs_can_do_is_not_offered_to_it(
    node: Node, delegation: Delegation, worker: WorkerFactory, training: TrainingService,
    submit: Submit, finish: Finish,
) -> None:  # fmt: skip
    async with node.working() as outside:
        own = await submit(framework="second_probe", priority=100)
        other = await submit()
        assert (await outside.tells())["id"] == other
        assert (await finish(other)).status == "succeeded"
        waiting = await training.status(own)
        assert (waiting.status, waiting.attempt) == ("queued", 0)
        async with worker():
            done = await finish(own)
    assert (done.status, done.attempt, done.model) == ("succeeded", 1, "probe:1")


async def test_one_that_fails_is_tried_again_as_often_as_it_may_be(
    node: Node, delegation: Delegation, submit: Submit, finish: Finish
) -> None:
    async with node.working():
        once = await finish(await submit(flag="fail"))
        job = await finish(await submit(flag="fail", max_retries=1))
    assert (once.status, once.attempt) == ("failed", 1)
    assert (job.status, job.attempt) == ("failed", 2)
    assert job.error is not None
    assert job.error.message == "The data will not do."


async def test_one_whose_node_worker_is_killed_is_run_by_the_hub(
    node: Node, worker: WorkerFactory, delegation: Delegation, training: TrainingService,
    submit: Submit, finish: Finish,
) -> None:  # fmt: skip
    async with node.working() as outside:
        job_id = await submit(flag="hang")
        await outside.tells()

        async def is_running() -> bool:
            return (await training.status(job_id)).status == "running"

        await eventually(is_running)
        outside.kill()
    async with worker():
        job = await finish(job_id)
    assert (job.status, job.attempt, job.model) == ("succeeded", 2, "probe:1")


async def test_one_that_runs_outside_is_cancelled_and_timed_out(
    node: Node, delegation: Delegation, training: TrainingService, submit: Submit, finish: Finish
) -> None:
    async with node.working() as outside:
        job_id = await submit(flag="hang")
        await outside.tells()

        async def is_running() -> bool:
            return (await training.status(job_id)).status == "running"

        await eventually(is_running)
        assert (await training.cancel(job_id)).cancel_requested
        assert (await finish(job_id)).status == "cancelled"
    async with node.working() as outside:
        job_id = await submit(flag="hang", timeout_s=0.5)
        await outside.tells()
        job = await finish(job_id)
    assert job.status == "timed_out"
    assert job.error is not None
    assert "0.5 s" in job.error.message


async def test_one_that_runs_longer_than_a_lease_is_left_to_its_worker(
    node: Node, delegation: Delegation, training: TrainingService, worker: WorkerFactory,
    submit: Submit,
) -> None:  # fmt: skip
    async with node.working() as outside:
        job_id = await submit(flag="hang")
        await outside.tells()
        async with worker():
            with anyio.move_on_after(8):
                await eventually(lambda: _has_attempt(training, job_id, 2))
        job = await training.status(job_id)
        logs = await training.logs(job_id)
    assert (job.status, job.attempt) == ("running", 1)
    assert [line.text for line in logs.lines] == ["Attempt 1 started on bullmq:node-1."]


async def _has_attempt(training: TrainingService, job_id: str, attempt: int) -> bool:
    return (await training.status(job_id)).attempt >= attempt


async def test_one_that_is_given_back_is_queued_again(
    node: Node, delegation: Delegation, training: TrainingService, submit: Submit,
) -> None:  # fmt: skip
    async with node.working() as outside:
        job_id = await submit(flag="giveBack")
        await outside.tells()
        await outside.tells()
        await eventually(lambda: _has_attempt(training, job_id, 2))


async def test_each_event_counts_once_however_many_follow(
    node: Node, database: SqliteDatabase, queue: DividedQueue, bus: DatabaseBus, submit: Submit,
    finish: Finish,
) -> None:  # fmt: skip
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            other = Delegation(database, queue, bus, lease_s=3, heartbeat_s=1, poll_s=0.01)
            tasks.start_soon(other.follow)
        async with node.working():
            jobs = [await submit(flag="fail" if n % 2 else "succeed") for n in range(10)]
            ended = [await finish(job_id) for job_id in jobs]
        tasks.cancel_scope.cancel()
    assert [job.status for job in ended] == ["succeeded", "failed"] * 5
    assert {job.attempt for job in ended} == {1}


async def test_what_ended_while_no_hub_was_there_is_written_down_later(
    node: Node, database: SqliteDatabase, queue: DividedQueue, bus: DatabaseBus, submit: Submit,
    finish: Finish,
) -> None:  # fmt: skip
    async with node.working() as outside:
        job_id = await submit()
        await enqueue_ready(database, queue)
        await outside.tells()

        async def is_gone() -> bool:
            return await queue.depth() == 0 and not await queue.held([job_id])

        await eventually(is_gone)
    async with anyio.create_task_group() as tasks:
        later = Delegation(database, queue, bus, lease_s=3, heartbeat_s=1, poll_s=0.05)
        tasks.start_soon(later.follow)
        assert (await finish(job_id)).status == "succeeded"
        tasks.cancel_scope.cancel()

"""A Node producer's jobs, run by the hub's worker."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import func, select

from mcp_hub.adapters.database.schema import jobs
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.queue.divided import DividedQueue
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.workers.adoption import Adoption
from tests.interop.conftest import FOLDER, Node
from tests.node import node_with_packages
from tests.processes import call, hub_environment, process, stdio_client
from tests.servers import Server
from tests.services.training.conftest import Finish, Submit, WorkerFactory
from tests.waiting import eventually

PROBE = {"name": "probe", "type": "probe", "framework": "probe", "dataset": "points"}


async def test_it_is_run_and_answered(
    node: Node, worker: WorkerFactory, training: TrainingService, queue: DividedQueue
) -> None:
    async with worker():
        end = await node.produce(PROBE | {"config": {"value": 0.25}}, jobId="order-7")
    [job] = (await training.list()).items
    assert end == {
        "id": "order-7",
        "state": "completed",
        "result": {"job_id": job.job_id, "status": "succeeded", "model": "probe:1"},
    }
    view = await training.status(job.job_id)
    assert view.metrics == {"score": 0.75}
    assert view.attempt == 1
    assert await queue.depth() == 0


async def test_one_that_fails_tells_why(
    node: Node, worker: WorkerFactory, training: TrainingService
) -> None:
    async with worker():
        end = await node.produce(PROBE | {"config": {"action": "raise_error"}, "max_retries": 3})
    assert (end["state"], end["reason"]) == ("failed", "The data will not do.")
    [job] = (await training.list()).items
    assert (job.status, job.attempt) == ("failed", 1)


async def test_one_that_fails_once_is_run_again_and_answered_once(
    node: Node, worker: WorkerFactory, training: TrainingService
) -> None:
    async with worker():
        end = await node.produce(PROBE | {"config": {"action": "fail_once"}, "max_retries": 1})
    assert (end["state"], end["result"]["model"]) == ("completed", "probe:1")
    [job] = (await training.list()).items
    assert (job.status, job.attempt) == ("succeeded", 2)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PROBE | {"dataset": "pionts"}, "points"),
        (PROBE | {"framework": "porbe"}, "probe"),
        (PROBE | {"config": {"actoin": "succeed"}}, "Did you mean 'action'?"),
        (PROBE | {"priorty": 5}, "Did you mean 'priority'?"),
        (PROBE | {"max_retries": 99}, "from 0 to 10"),
        (PROBE | {"timeout_s": "soon"}, "timeout_s is 'soon'"),
        (PROBE | {"depends_on": ["job_none"]}, "no job 'job_none'"),
        ({"name": "probe"}, "lack 'type'"),
        ({"job_id": "job_2345678923"}, "lack 'name'"),
        ("not an object", "training_submit"),
        (None, "training_submit"),
    ],
)
async def test_one_that_cannot_work_fails_and_says_what_would(
    node: Node, worker: WorkerFactory, database: SqliteDatabase, training: TrainingService,
    data: Any, told: str,
) -> None:  # fmt: skip
    async with worker():
        end = await node.produce(data)
    assert end["state"] == "failed"
    assert told in end["reason"]
    assert await database.read(lambda c: c.scalar(select(func.count()).select_from(jobs))) == 0


async def test_it_waits_for_its_parents_and_is_answered_then(
    node: Node, worker: WorkerFactory, training: TrainingService, submit: Submit
) -> None:
    parent = await submit("succeed")
    async with worker():
        end = await node.produce(PROBE | {"depends_on": [parent]})
    assert end["state"] == "completed"
    child = await training.status(end["result"]["job_id"])
    before = await training.status(parent)
    assert (before.finished_at or "") <= (child.started_at or "")


async def test_one_whose_worker_is_lost_is_answered_by_another(
    node: Node, worker: WorkerFactory, training: TrainingService, database: SqliteDatabase,
    queue: DividedQueue,
) -> None:  # fmt: skip
    """The first worker adopts the job and starts it, and is never heard of again."""
    ends: list[dict[str, Any]] = []

    async def produce() -> None:
        ends.append(await node.produce(PROBE))

    async def adopted() -> bool:
        for claim in await queue.claim("lost", 1):
            adoption = Adoption(training, database, queue)
            assert await adoption.start(claim, "lost", 1000, free_gpus=0) is not None
            return True
        return False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        await eventually(adopted)
        async with worker():
            await eventually(lambda: bool(ends), within_s=60)
    [job] = (await training.list()).items
    assert (job.status, job.attempt) == ("succeeded", 2)
    assert ends[0]["result"] == {
        "job_id": job.job_id, "status": "succeeded", "model": "probe:1"
    }  # fmt: skip


async def test_the_same_id_is_the_same_job(
    node: Node, worker: WorkerFactory, training: TrainingService, finish: Finish
) -> None:
    async with worker():
        first = await node.produce(PROBE, jobId="order-7")
        again = await node.produce(PROBE, jobId="order-7")
        other = await node.produce(PROBE | {"config": {"value": 9}}, jobId="order-7")
        keyed = await node.produce(PROBE | {"idempotency_key": "bullmq:order-7"})
    assert first["result"] == again["result"] == keyed["result"]
    assert "belongs to job" in other["reason"]
    assert len((await training.list()).items) == 1


async def test_the_worker_process_of_a_hub_on_redis_takes_it_on(
    redis_server: Server, tmp_path: Path
) -> None:
    environment = hub_environment(tmp_path, MCP_HUB_REDIS_URL=redis_server.url)
    node = Node(node_with_packages(FOLDER), redis_server.url, "mcp-hub-jobs")
    async with stdio_client(environment) as client:
        content = "x,y\n1,a\n2,b\n3,a\n"
        await call(client, "dataset_register", name="points", content=content, format="csv")
        with process(environment, "worker"), anyio.fail_after(60):
            end = await node.produce(PROBE)
        job = await call(client, "training_status", job_id=end["result"]["job_id"])
        assert (job["status"], job["model"]) == ("succeeded", end["result"]["model"])
        # While nobody but a Node worker is there.
        async with node.working() as outside:
            mine = await call(client, "predict_batch", model=job["model"], dataset="points")
            training = await call(client, "training_submit", **PROBE, config={"flag": "hang"})
            assert (await outside.tells())["id"] == training["job_id"]
            health = await call(client, "hub_health")
            again = await call(client, "predict_batch", model=job["model"], dataset="points")
    assert health["adapters"]["queue"]["detail"].endswith("; for hubs only, 1 waiting")
    assert (again["job_id"], again["status"]) == (mine["job_id"], "queued")

"""What users of training jobs may ask, rightly and wrongly."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from mcp_hub.adapters.errors import Conflict, HubError, InvalidArgument, NotFound
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.views import JobView
from tests.services.training.conftest import Finish, Submit, WorkerFactory


@pytest.mark.parametrize(
    ("fields", "kind", "parts"),
    [
        ({"framework": "prob"}, NotFound, ["prob", "Did you mean 'probe'?", "sklearn"]),
        ({"type": "clustering"}, InvalidArgument, ["clustering", "classification, probe"]),
        ({"dataset": "point"}, NotFound, ["point", "Did you mean 'points'?"]),
        ({"dataset": "points:7"}, NotFound, ["7"]),
        ({"target": "z"}, InvalidArgument, ["'z'", "x, y"]),
        ({"type": "classification"}, InvalidArgument, ["needs a target", "x, y"]),
        ({"timeout_s": -1.0}, InvalidArgument, ["timeout_s is -1"]),
        ({"timeout_s": 1e9}, InvalidArgument, ["a week"]),
        ({"timeout_s": float("nan")}, InvalidArgument, ["timeout_s"]),
        ({"max_retries": 11}, InvalidArgument, ["0 to 10"]),
        ({"priority": 101}, InvalidArgument, ["-100 to 100"]),
        ({"depends_on": ["job_none"]}, NotFound, ["job_none"]),
        ({"config": {"actoin": "x"}}, InvalidArgument, ["actoin", "Did you mean 'action'?"]),
        ({"config": {"epochs": 3}}, InvalidArgument, ["a key of nodejs and pytorch", "action"]),
        ({"config": {"steps": "many"}}, InvalidArgument, ["config.steps", "many"]),
        (
            {
                "framework": "sklearn",
                "type": "classification",
                "target": "y",
                "config": {"drop": ["xx"]},
            },
            InvalidArgument,
            ["config.drop names 'xx'", "Did you mean 'x'?"],
        ),
    ],
)
async def test_a_wrong_submission_is_one_clear_error_and_writes_nothing(
    training: TrainingService, submit: Submit, queue: DatabaseQueue,
    fields: dict[str, Any], kind: type[HubError], parts: list[str],
) -> None:  # fmt: skip
    with pytest.raises(kind) as caught:
        await submit("succeed", **fields)
    told = f"{caught.value.message} {caught.value.hint}"
    for part in parts:
        assert part in told
    assert (await training.list()).items == []
    assert await queue.depth() == 0


async def test_a_long_config_is_shown_shortened(training: TrainingService, submit: Submit) -> None:
    job = await training.status(await submit("succeed", flag="x" * 3_000, steps=7))
    assert job.config["steps"] == 7
    assert job.config["flag"] == "(3,002 characters, not shown)"


async def test_the_same_key_and_request_give_the_same_job(
    training: TrainingService, submit: Submit, queue: DatabaseQueue
) -> None:
    jobs = [await submit("succeed", idempotency_key="k") for _ in range(3)]
    assert len(set(jobs)) == 1
    assert await queue.depth() == 1
    with pytest.raises(Conflict, match="whose config differs"):
        await submit("crash", idempotency_key="k")
    other = await submit("succeed")
    with pytest.raises(Conflict, match="whose depends_on differs"):
        await submit("succeed", idempotency_key="k", depends_on=[other])


async def test_one_key_submitted_many_times_at_once_gives_one_job(
    training: TrainingService, submit: Submit
) -> None:
    jobs: list[str] = []

    async def one() -> None:
        jobs.append(await submit("succeed", idempotency_key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(one)
    assert len(jobs) == 10
    assert len(set(jobs)) == 1


async def test_an_unknown_job_is_answered_with_where_to_look(training: TrainingService) -> None:
    calls: list[Callable[[str], Any]] = [
        training.status, training.cancel, training.retry, training.logs, training.metrics,
    ]  # fmt: skip
    for ask in calls:
        with pytest.raises(NotFound) as caught:
            await ask("job_nothing")
        assert "training_list()" in (caught.value.hint or "")


async def test_a_queued_job_is_cancelled_at_once_and_only_once(
    training: TrainingService, submit: Submit, queue: DatabaseQueue
) -> None:
    job_id = await submit("succeed")
    child = await submit("succeed", depends_on=[job_id])
    assert (await training.cancel(job_id)).status == "cancelled"
    assert await queue.depth() == 0
    with pytest.raises(Conflict, match="already ended cancelled"):
        await training.cancel(job_id)
    failed = await training.status(child)
    assert failed.status == "failed"
    assert failed.error is not None
    assert job_id in failed.error.message


async def test_cancelling_is_undone_by_retrying(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    job_id = await submit("succeed")
    await training.cancel(job_id)
    assert (await training.retry(job_id)).status == "queued"
    async with worker():
        assert (await finish(job_id)).status == "succeeded"
    with pytest.raises(Conflict, match="is succeeded"):
        await training.retry(job_id)
    with pytest.raises(Conflict, match="already ended succeeded"):
        await training.cancel(job_id)


async def test_a_job_that_waits_for_a_failed_one_names_it_when_retried(
    training: TrainingService, submit: Submit
) -> None:
    parent = await submit("succeed")
    child = await submit("succeed", depends_on=[parent])
    await training.cancel(parent)
    with pytest.raises(Conflict, match=parent):
        await training.retry(child)
    with pytest.raises(Conflict, match=parent):
        await submit("succeed", depends_on=[parent])
    await training.retry(parent)
    assert (await training.retry(child)).waiting_for == [parent]


async def test_waiting_ends_with_the_job_and_tells_of_changes(
    training: TrainingService, submit: Submit, worker: WorkerFactory
) -> None:
    seen: list[JobView] = []

    async def follow(job: JobView) -> None:
        seen.append(job)

    job_id = await submit("succeed")
    async with worker():
        with anyio.fail_after(30):
            job = await training.status(job_id, wait_s=30, follow=follow)
    assert job.status == "succeeded"
    assert seen[0].status == "queued"
    assert "running" in [view.status for view in seen]


async def test_waiting_ends_with_the_wait(training: TrainingService, submit: Submit) -> None:
    job_id = await submit("succeed")
    with anyio.fail_after(5):
        assert (await training.status(job_id, wait_s=0.1)).status == "queued"
    for wrong in (-1, 51):
        with pytest.raises(InvalidArgument, match="0 to 50"):
            await training.status(job_id, wait_s=wrong)


async def test_who_waits_is_told_at_once_when_waits_end(
    training: TrainingService, submit: Submit
) -> None:
    job_id = await submit("succeed")
    follows = anyio.Event()

    async def follow(_view: JobView) -> None:
        follows.set()

    async def end() -> None:
        await follows.wait()
        training.end_waits()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            assert (await training.status(job_id, wait_s=50, follow=follow)).status == "queued"
        assert (await training.status(job_id, wait_s=50)).status == "queued"


async def test_the_list_pages_through_every_job_once_newest_first(
    training: TrainingService, submit: Submit
) -> None:
    submitted = [await submit("succeed") for _ in range(7)]
    listed, cursor = [], None
    while True:
        page = await training.list(limit=3, cursor=cursor)
        listed += [(item.created_at, item.job_id) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(job_id for _, job_id in listed) == sorted(submitted)
    assert [created for created, _ in listed] == sorted(
        (created for created, _ in listed), reverse=True
    )
    await training.cancel(submitted[0])
    assert [item.job_id for item in (await training.list("cancelled")).items] == submitted[:1]
    with pytest.raises(InvalidArgument, match="no job status"):
        await training.list("done")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="1 to 200"):
        await training.list(limit=0)
    with pytest.raises(InvalidArgument, match="cursor"):
        await training.list(cursor="nonsense")


async def test_logs_are_paged_and_say_when_lines_are_left_out(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    async with worker():
        job_id = (await finish(await submit("flood"))).job_id
    last = await training.logs(job_id, tail=5)
    assert last.truncated
    assert "bytes of output" in last.lines[-1].text
    whole = await training.logs(job_id, tail=1000)
    assert sum(len(line.text) for line in whole.lines) <= 25_000
    assert whole.lines[-1] == last.lines[-1]
    with pytest.raises(InvalidArgument, match="1 to 1000"):
        await training.logs(job_id, tail=0)


async def test_jobs_are_compared_by_what_differs(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    async with worker():
        jobs = [(await finish(await submit("succeed", value=value))).job_id for value in (1.0, 2.0)]
    comparison = await training.compare(jobs)
    assert comparison.metrics == {"score": [3.0, 6.0]}
    assert comparison.differing_config == {"config.value": [1.0, 2.0]}
    with pytest.raises(InvalidArgument, match="2 to 20"):
        await training.compare(jobs[:1])


async def test_a_long_history_is_thinned_and_keeps_its_ends(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    async with worker():
        job_id = (await finish(await submit("succeed", steps=500, value=1.0))).job_id
    (series,) = (await training.metrics(job_id, max_points=20)).series
    assert series.points == 500
    assert len(series.steps) == 20
    assert (series.steps[0], series.steps[-1]) == (0, 499)
    with pytest.raises(NotFound, match="loss") as caught:
        await training.metrics(job_id, keys=["loss"])
    assert "score" in (caught.value.hint or "")


async def test_frameworks_describe_themselves(training: TrainingService) -> None:
    listed = {view.name: view for view in (await training.frameworks()).items}
    assert {"sklearn", "probe"} <= set(listed)
    assert listed["sklearn"].available
    assert "properties" in listed["sklearn"].config_schema

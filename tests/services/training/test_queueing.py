"""What a queued job waits for, how much may be queued, and what runs side by side."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from mcp_hub.adapters.database.metadata import now_ms
from mcp_hub.adapters.database.schema import workers
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import InvalidArgument, LimitExceeded, NotFound
from mcp_hub.services.training.jobs import back_off_s, take_unannounced
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.submission import seconds_until
from mcp_hub.services.training.submitting import QueueLimits
from mcp_hub.services.training.views import JobLimits
from tests.adapters.queue.test_database import _executed, _plan
from tests.services.training.conftest import OPTIONS, SILENCE_S, Finish, Submit, WorkerFactory
from tests.waiting import eventually

HOUR = timedelta(hours=1)


async def test_a_queued_job_says_what_it_waits_for(
    training: TrainingService, submit: Submit
) -> None:
    parent = await submit()
    child = await submit(depends_on=[parent])
    later = await submit(start_at=(datetime.now(UTC) + HOUR).isoformat())
    ahead = await submit(priority=5)

    wait = (await training.status(child)).wait
    assert wait is not None
    assert (wait.reason, wait.behind) == ("parents", None)
    wait = (await training.status(later)).wait
    assert wait is not None
    assert wait.reason == "start_time"
    assert wait.until is not None
    assert datetime.now(UTC) < datetime.fromisoformat(wait.until) < datetime.now(UTC) + HOUR
    for job_id, behind in [(parent, 1), (ahead, 0)]:
        wait = (await training.status(job_id)).wait
        assert wait is not None
        assert (wait.reason, wait.behind) == ("worker", behind)


async def test_how_long_a_worker_may_be_silent_is_for_the_settings_to_say(
    training: TrainingService, submit: Submit, database: SqliteDatabase
) -> None:
    async def heard_of(ago_s: float) -> None:
        heard = {"heartbeat_at": now_ms() - int(ago_s * 1000)}
        await database.write(lambda c: c.execute(update(workers).values(heard)).close())

    row = {"id": "w", "host": "elsewhere", "pid": 1, "concurrency": 1, "gpus": 1}
    insert = workers.insert().values(row | {"started_at": 0, "heartbeat_at": 0})
    await database.write(lambda c: c.execute(insert).close())
    await heard_of(SILENCE_S / 2)
    job_id = await submit(limits=JobLimits(gpus=1))
    wait = (await training.status(job_id)).wait
    assert wait is not None
    assert wait.reason == "queue"
    with pytest.raises(LimitExceeded, match="no worker has more than 1"):
        await submit(limits=JobLimits(gpus=2))
    await heard_of(SILENCE_S + 1)
    wait = (await training.status(job_id)).wait
    assert wait is not None
    assert wait.reason == "worker"
    await submit(limits=JobLimits(gpus=2))


async def test_a_job_starts_when_its_time_has_come(
    submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    not_before = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    later = await submit(start_at=2, priority=9)
    async with worker():
        at_once = await finish(await submit())
        job = await finish(later)
    assert job.status == "succeeded"
    assert job.wait is None
    assert at_once.started_at is not None
    assert job.started_at is not None
    assert datetime.fromisoformat(at_once.started_at) < not_before
    assert datetime.fromisoformat(job.started_at) >= not_before


@pytest.mark.parametrize(
    ("start_at", "complaint"),
    [
        ("tomorrow", "no ISO 8601 time"),
        ("2031-01-01T00:00:00", "without a time zone"),
        ("9999-01-01T00:00:00Z", "more than a year"),
        (-1, "0 or more"),
        (float("nan"), "start_at is nan"),
        (float("inf"), "more than a year"),
    ],
)
async def test_a_wrong_start_is_refused(
    submit: Submit, start_at: str | float, complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await submit(start_at=start_at)


def test_a_start_that_is_past_is_at_once() -> None:
    assert seconds_until("2020-01-01T00:00:00+01:00") == 0
    assert seconds_until(None) == 0


async def test_a_failed_job_backs_off_and_says_until_when_and_why(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    job_id = await submit("fail_once", max_retries=1)

    async def backs_off() -> bool:
        view = await training.status(job_id)
        return view.wait is not None and view.wait.reason == "back_off"

    async with worker():
        await eventually(backs_off)
        view = await training.status(job_id)
        if view.wait is not None and view.wait.until is not None:
            assert view.error is not None
            assert "the first attempt fails" in view.error.message
            until = datetime.fromisoformat(view.wait.until)
        job = await finish(job_id)
    assert job.attempt == 2
    assert job.started_at is not None
    assert datetime.fromisoformat(job.started_at) >= until - timedelta(milliseconds=50)


@given(st.integers(1, 50))
def test_the_back_off_doubles_up_to_a_minute_and_differs_by_chance(failures: int) -> None:
    longest = min(2 ** (failures - 1), 60)
    drawn = [back_off_s(failures) for _ in range(20)]
    assert all(longest / 2 <= one <= longest for one in drawn)
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("queue_limits", [QueueLimits(per_framework={"probe": 1})], indirect=False)
async def test_a_full_framework_is_passed_over(
    training: TrainingService,
    submit: Submit,
    worker: WorkerFactory,
    finish: Finish,
    queue_limits: QueueLimits,
    tmp_path: Path,
) -> None:
    flag = tmp_path / "flag"
    probes = [await submit("wait_for_flag", flag=str(flag), priority=9) for _ in range(3)]
    other = await submit(framework="second_probe", priority=-9)
    async with worker(replace(OPTIONS, concurrency=4, per_framework={"probe": 1})):
        assert (await finish(other)).status == "succeeded"
        views = [await training.status(job_id) for job_id in probes]
        assert sorted(view.status for view in views) == ["queued", "queued", "running"]
        waits = [view.wait for view in views if view.wait]
        assert [(wait.reason, wait.behind) for wait in waits] == [
            ("framework", 0), ("framework", 1),
        ]  # fmt: skip
        flag.touch()
        ended = [await finish(job_id) for job_id in probes]
    spans = sorted((job.started_at or "", job.finished_at or "") for job in ended)
    assert all(one[1] <= next_[0] for one, next_ in pairwise(spans))


@pytest.mark.parametrize("queue_limits", [QueueLimits(max_queued=2)])
async def test_no_more_than_so_many_are_queued(
    training: TrainingService, submit: Submit, queue_limits: QueueLimits
) -> None:
    first = await submit(idempotency_key="first")
    await submit(start_at=60)
    with pytest.raises(LimitExceeded, match=r"training\.max_queued allows 2") as caught:
        await submit()
    assert "training_list(status='queued')" in (caught.value.hint or "")
    # What is there already is answered, not refused.
    assert await submit(idempotency_key="first") == first
    await training.cancel(first)
    await submit()


@pytest.mark.parametrize("queue_limits", [QueueLimits(max_queued_each=1)])
async def test_no_more_than_so_many_of_one_submitter_are_queued(
    submit: Submit, queue_limits: QueueLimits
) -> None:
    await submit()
    with pytest.raises(LimitExceeded, match=r"1 jobs of the tests .*max_queued_per_submitter"):
        await submit()


async def test_a_job_cannot_wait_for_one_that_does_not_exist_and_so_not_for_itself(
    submit: Submit,
) -> None:
    with pytest.raises(NotFound, match="no job 'job_unborn'"):
        await submit(depends_on=["job_unborn"])


async def test_failure_goes_down_a_long_line_of_descendants_with_its_cause(
    training: TrainingService, submit: Submit, worker: WorkerFactory, finish: Finish
) -> None:
    line = [await submit("raise_error")]
    for _ in range(30):
        line.append(await submit(depends_on=[line[-1]]))
    async with worker():
        assert (await finish(line[0])).status == "failed"
    for parent, child in pairwise(line):
        view = await training.status(child)
        assert (view.status, view.attempt) == ("failed", 0)
        assert view.error is not None
        assert f"Job {parent}, which this one depends on, ended failed" in view.error.message


async def test_what_the_queue_lacks_is_found_by_an_index_of_nothing_else(
    database: SqliteDatabase, submit: Submit
) -> None:
    await submit()
    with _executed() as statements:
        await database.read(take_unannounced)
    [executed] = statements
    plan = await database.read(lambda c: _plan(c, *executed))
    assert "USING INDEX ix_jobs_unannounced" in plan
    assert "TEMP B-TREE" not in plan


async def test_a_page_of_one_status_is_read_from_an_index(
    database: SqliteDatabase, training: TrainingService, submit: Submit
) -> None:
    await submit()
    with _executed() as statements:
        await training.list("queued")
    [executed] = statements
    plan = await database.read(lambda c: _plan(c, *executed))
    assert "USING INDEX ix_jobs_status_created_at_id (status=?)" in plan
    assert "TEMP B-TREE" not in plan

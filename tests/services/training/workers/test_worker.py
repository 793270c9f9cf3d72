"""Jobs run by a real worker in real processes, behaving well and badly."""

from pathlib import Path

import anyio
import pytest
from probe_framework import ProbeFramework, model_of
from sqlalchemy import func, select

from mcp_hub.adapters.blobs.files import FileBlobStore
from mcp_hub.adapters.database.schema import (
    datasets,
    job_attempts,
    job_metrics,
    jobs,
    model_versions,
)
from mcp_hub.adapters.database.sqlite import SqliteDatabase
from mcp_hub.adapters.errors import Unavailable
from mcp_hub.adapters.queue.database import DatabaseQueue
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes.launcher import Launcher
from mcp_hub.services.training.service import TrainingService
from tests.services.training.conftest import LIMITS, OPTIONS, Finish, Submit, WorkerFactory
from tests.waiting import eventually


async def test_a_job_reports_and_registers_its_model(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase, blobs: FileBlobStore, tmp_path: Path,
) -> None:  # fmt: skip
    async with worker():
        job_id = await submit("succeed", value=0.25)
        job = await finish(job_id)
        assert (job.status, job.model, job.attempt) == ("succeeded", "probe:1", 1)
        assert job.metrics == {"score": 0.75}
        assert (job.progress.done, job.progress.total) == (3, 3)
        history = await training.metrics(job_id)
        assert history.series[0].values == [0.25, 0.5, 0.75]
        logs = await training.logs(job_id)
        assert ("stdout", "trained probe") in [(line.stream, line.text) for line in logs.lines]
        assert logs.next_cursor is None
    version = await database.read(lambda c: c.execute(select(model_versions)).one())
    assert version.params["steps"] == 3
    assert version.tags == {"kind": "probe"}
    files = {artifact["name"]: artifact["sha256"] for artifact in version.artifacts}
    assert await blobs.get(files["model.onnx"]) == model_of(job_id)
    assert await blobs.get(files["notes.json"]) == b"{}"
    assert not list((tmp_path / "jobs").glob("*"))


async def test_logs_and_metrics_are_there_while_the_job_runs(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path,
) -> None:  # fmt: skip
    flag = tmp_path / "go"
    async with worker():
        job_id = await submit("wait_for_flag", flag=str(flag))

        async def it_waits() -> bool:
            return "waiting" in [line.text for line in (await training.logs(job_id)).lines]

        await eventually(it_waits)
        logs = await training.logs(job_id)
        assert logs.next_cursor is not None
        assert (await training.status(job_id)).status == "running"
        flag.touch()
        await finish(job_id)
        rest = await training.logs(job_id, cursor=logs.next_cursor)
        assert "waiting" not in [line.text for line in rest.lines]
        assert "trained probe" in [line.text for line in rest.lines]


@pytest.mark.parametrize(
    ("action", "code", "message"),
    [
        ("crash", "unavailable", "killed by signal 11"),
        ("leave", "unavailable", "ended with status 3"),
        ("raise_error", "invalid_argument", "The data will not do."),
        ("fail_once", "internal", "the first attempt fails"),
        ("flood", "limit_exceeded", "200,000 bytes of output"),
        ("claim_foreign_file", "denied", "/etc/hostname"),
        ("report_no_model", "invalid_argument", "is not an ONNX model"),
        ("report_another_model", "invalid_argument", "has the inputs x, its signature z"),
    ],
)
async def test_a_job_that_fails_says_why_and_has_a_log(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase, action: str, code: str, message: str,
) -> None:  # fmt: skip
    async with worker():
        job = await finish(await submit(action))
    assert job.status == "failed"
    assert job.model is None
    assert job.error is not None
    assert job.error.code == code
    assert message in job.error.message
    logs = await training.logs(job.job_id, tail=1000)
    assert any(message in line.text for line in logs.lines)
    assert await database.read(lambda c: c.scalar(select(func.count(model_versions.c.name)))) == 0


async def test_what_a_crashed_job_printed_is_kept(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("crash"))
    lines = [(line.stream, line.text) for line in (await training.logs(job.job_id)).lines]
    assert ("stderr", "about to crash") in lines


async def test_a_failure_that_may_pass_is_retried_and_its_metrics_are_replaced(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase,
) -> None:  # fmt: skip
    async with worker():
        job = await finish(await submit("fail_once", max_retries=1))
    assert (job.status, job.attempt, job.model) == ("succeeded", 2, "probe:1")
    steps = await database.read(
        lambda c: c.execute(
            select(job_metrics.c.step, job_metrics.c.attempt).order_by(job_metrics.c.step)
        ).all()
    )
    assert [tuple(row) for row in steps] == [(0, 2), (1, 2), (2, 2)]
    outcomes = await database.read(
        lambda c: c.execute(
            select(job_attempts.c.outcome).order_by(job_attempts.c.attempt)
        ).scalars().all()
    )  # fmt: skip
    assert outcomes == ["failed", "succeeded"]
    assert {line.attempt for line in (await training.logs(job.job_id)).lines} == {1, 2}


async def test_a_fault_of_the_request_is_not_retried(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("raise_error", max_retries=5))
    assert (job.status, job.attempt) == ("failed", 1)


async def test_no_process_of_a_finished_job_is_left(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path
) -> None:
    flag = tmp_path / "pid"
    async with worker():
        job = await finish(await submit("leave_daemon", flag=str(flag)))
        assert job.status == "succeeded"
        await eventually(lambda: not _is_running(int(flag.read_text())), within_s=5)


@pytest.mark.parametrize(
    ("action", "cause", "message"),
    [
        (
            "report_rubbish", "broken_report",
            "Line 5 of the events file is no event (Invalid JSON: EOF while parsing a value at "
            'column 25): {"type": "metric", "key":',
        ),
        ("report_nan", "nan_loss", "Metric loss is nan at step 7; a metric is a finite number."),
    ],
)  # fmt: skip
async def test_a_report_that_is_wrong_ends_the_attempt_for_good(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    action: str, cause: str, message: str,
) -> None:  # fmt: skip
    """At once: what reported it would not end by itself."""
    async with worker():
        job = await finish(await submit(action, max_retries=3))
    assert (job.status, job.attempt, job.cause) == ("failed", 1, cause)
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("invalid_argument", message)
    assert job.metrics == {"loss": 0.5}
    texts = [line.text for line in (await training.logs(job.job_id)).lines]
    assert texts[-1] == f"Attempt 1 failed: {message}"


async def test_a_last_event_without_an_end_of_line_counts(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("leave_last_line_open"))
    assert (job.status, job.metrics) == ("succeeded", {"loss": 0.25})


async def test_a_job_may_close_its_output(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("close_output"))
    # Its print fails, and that failure is what ends it: with a reason, not with a hang.
    assert job.status == "failed"
    assert job.error is not None
    assert "OSError" in job.error.message


async def test_threads_report_whole_lines(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("report_from_threads"))
    history = await training.metrics(job.job_id, max_points=1000)
    assert {series.key: series.points for series in history.series} == {
        "m0": 200, "m1": 200, "m2": 200, "m3": 200, "score": 3,
    }  # fmt: skip


async def test_a_job_sees_none_of_the_workers_secrets(
    worker: WorkerFactory, submit: Submit, finish: Finish, database: SqliteDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MCP_HUB_DATABASE_URL", "postgresql://u:secret@h/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with worker():
        await finish(await submit("show_environment"))
    version = await database.read(lambda c: c.execute(select(model_versions)).one())
    assert "MCP_HUB_EVENTS" in version.params["variables"]
    assert not {"AWS_SECRET_ACCESS_KEY", "MCP_HUB_DATABASE_URL"} & set(version.params["variables"])


async def test_an_attempt_has_no_more_memory_than_it_may(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(limits=Limits(memory_mb=600, log_bytes=LIMITS.log_bytes)):
        job = await finish(await submit("eat_memory"))
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "limit_exceeded"


async def test_higher_priority_runs_first_and_equal_ones_in_order(
    worker: WorkerFactory, submit: Submit, finish: Finish, database: SqliteDatabase
) -> None:
    expected = {}
    for priority in (0, 5, 0, -5, 5):
        expected[await submit("succeed", priority=priority)] = priority
    order = sorted(expected, key=lambda job_id: -expected[job_id])
    options = OPTIONS.__class__(
        concurrency=1, lease_s=5, heartbeat_s=0.5, poll_s=0.05, idle_exit_s=None
    )
    async with worker(options):
        for job_id in order:
            await finish(job_id)
    started = await database.read(
        lambda c: c.execute(select(jobs.c.id).order_by(jobs.c.started_at)).scalars().all()
    )
    assert started == order


async def test_a_child_waits_for_its_parent(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path,
) -> None:  # fmt: skip
    flag = tmp_path / "go"
    parent = await submit("wait_for_flag", flag=str(flag))
    child = await submit("succeed", depends_on=[parent])
    assert (await training.status(child)).waiting_for == [parent]
    async with worker():
        flag.touch()
        ended = await finish(child)
    assert ended.status == "succeeded"
    assert ended.started_at is not None
    before = await training.status(parent)
    assert before.finished_at is not None
    assert before.finished_at <= ended.started_at


async def test_a_failed_parent_fails_its_descendants_with_the_cause(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    parent = await submit("leave")
    child = await submit("succeed", depends_on=[parent])
    grandchild = await submit("succeed", depends_on=[child])
    async with worker():
        ended = [await finish(job_id) for job_id in (child, grandchild)]
    assert [job.status for job in ended] == ["failed", "failed"]
    assert ended[0].error is not None
    assert parent in ended[0].error.message
    assert ended[1].error is not None
    assert child in ended[1].error.message


async def test_a_stopped_worker_gives_its_jobs_back(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path,
) -> None:  # fmt: skip
    flag = tmp_path / "go"
    async with worker():
        job_id = await submit("wait_for_flag", flag=str(flag))

        async def it_runs() -> bool:
            return (await training.status(job_id)).status == "running"

        await eventually(it_runs)
    assert (await training.status(job_id)).status == "queued"
    flag.touch()
    async with worker():
        job = await finish(job_id)
    assert (job.status, job.attempt, job.model) == ("succeeded", 2, "probe:1")


async def test_two_workers_share_the_jobs_and_run_none_twice(
    worker: WorkerFactory, submit: Submit, finish: Finish, database: SqliteDatabase
) -> None:
    submitted = [await submit("succeed") for _ in range(12)]
    async with worker(), worker():
        ended = [await finish(job_id) for job_id in submitted]
    assert [job.status for job in ended] == ["succeeded"] * 12
    assert sorted(str(job.model) for job in ended) == sorted(f"probe:{n}" for n in range(1, 13))
    assert {job.attempt for job in ended} == {1}


async def test_a_job_whose_message_was_lost_is_run(
    worker: WorkerFactory, submit: Submit, finish: Finish, queue: DatabaseQueue
) -> None:
    job_id = await submit("succeed")
    assert await queue.cancel(job_id)
    async with worker():
        assert (await finish(job_id)).status == "succeeded"


async def test_an_idle_worker_ends(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    options = OPTIONS.__class__(
        concurrency=1, lease_s=2, heartbeat_s=0.5, poll_s=0.05, idle_exit_s=0.2
    )
    with anyio.fail_after(20):
        async with worker(options):
            job = await finish(await submit("succeed"))
            assert job.status == "succeeded"


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_cancelled_job_does_not_go_back_to_the_queue(
    training: TrainingService,
    worker: WorkerFactory,
    submit: Submit,
    finish: Finish,
    tmp_path: Path,
) -> None:
    """The worker is stopped, which gives its jobs back, before it has heard of the cancelling."""
    flag = tmp_path / "pid"
    deaf = OPTIONS.__class__(
        concurrency=1, lease_s=30, heartbeat_s=15, poll_s=0.05, idle_exit_s=None
    )
    async with worker(deaf) as running:
        job_id = await submit("hang", flag=str(flag))
        await eventually(lambda: flag.exists() and bool(flag.read_text()))
        running.stop()
        await training.cancel(job_id)
    assert (await training.status(job_id)).status == "cancelled"


async def test_the_folder_of_a_lost_attempt_is_removed_by_the_next_worker(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path
) -> None:
    left = tmp_path / "jobs" / "job_lost" / "1"
    left.mkdir(parents=True)
    (left / "dataset.csv").write_text("x")
    async with worker():
        await finish(await submit("succeed"))
    assert not left.parent.exists()


async def test_a_framework_that_ends_its_launcher_fails_the_job_and_not_the_worker(
    tmp_path: Path,
) -> None:
    async with Launcher(1) as launcher:
        (tmp_path / "task.json").write_text("{}")
        with pytest.raises(Unavailable, match="ended while it loaded"):
            await launcher.start(tmp_path, ("probe_quits",))


async def test_a_framework_that_lacks_something_fails_its_jobs_at_once_and_says_what(
    worker: WorkerFactory, submit: Submit, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = "Missing: torch. pip install 'mcp-hub[pytorch]'"
    monkeypatch.setattr(ProbeFramework, "missing", lambda self: lacking)
    async with worker():
        job = await finish(await submit("succeed", max_retries=3))
    assert (job.status, job.attempt, job.cause) == ("failed", 1, "missing_module")
    assert job.error is not None
    assert (job.error.code, lacking in job.error.message) == ("conflict", True)
    assert "where the worker runs" in (job.hint or "")


async def test_a_module_that_cannot_be_loaded_ahead_troubles_only_who_needs_it(
    worker: WorkerFactory, submit: Submit, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProbeFramework, "preload", ("module_of_nobody", "antigravity_of_nobody"))
    async with worker():
        job = await finish(await submit("succeed"))
    assert (job.status, job.attempt) == ("succeeded", 1)


async def test_what_is_wrong_while_the_folder_is_filled_is_told_as_it_is(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    database: SqliteDatabase, blobs: FileBlobStore,
) -> None:  # fmt: skip
    await blobs.delete(await database.read(lambda c: c.scalar(select(datasets.c.sha256))))
    async with worker():
        job = await finish(await submit("succeed"))
    assert (job.status, job.attempt) == ("failed", 1)
    assert job.error is not None
    assert job.error.code == "not_found"
    assert "TaskGroup" not in job.error.message

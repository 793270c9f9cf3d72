"""Attempts that try to outlive, outgrow or mislead the worker that runs them."""

from pathlib import Path

import anyio
import pytest

from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.processes import launcher, procfs
from mcp_hub.services.training.service import TrainingService
from mcp_hub.services.training.views import JobLimits
from tests.services.training.conftest import Finish, Submit, WorkerFactory
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="attempts have keepers on Linux only"
)


@pytest.mark.parametrize(
    "action", ["leave_hidden_daemon", "fork_without_end", "kill_keeper", "kill_zygote"]
)
async def test_nothing_that_a_job_started_outlives_it(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path, action: str
) -> None:
    flag = tmp_path / "pid"
    async with worker():
        job = await finish(await submit(action, flag=str(flag)))
        # At once, not some time later: whoever sees the job ended finds nothing of it.
        assert _is_gone(int(flag.read_text()))
        assert job.status == ("failed" if action.startswith("kill_") else "succeeded")
        # The worker goes on.
        assert (await finish(await submit("succeed"))).status == "succeeded"


async def test_a_keeper_that_the_job_stopped_is_passed_over(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(launcher, "_KEEPER_GRACE_S", 1.5)
    flag = tmp_path / "pid"
    async with worker():
        job = await finish(await submit("stop_keeper", flag=str(flag), timeout_s=1))
        assert job.status == "timed_out"
        assert _is_gone(int(flag.read_text()))


async def test_a_stopped_worker_leaves_nothing(
    worker: WorkerFactory, submit: Submit, training: TrainingService, tmp_path: Path
) -> None:
    flag = tmp_path / "pid"
    async with worker():
        job_id = await submit("leave_daemons_and_hang", flag=str(flag))
        await eventually(lambda: _is_written(flag))
    assert (await training.status(job_id)).status == "queued"
    assert _is_gone(int(flag.read_text()))


@pytest.mark.parametrize("ending", ["cancel", "time out"])
async def test_a_job_that_ignores_sigterm_is_seen_to_end_within_2_s(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path, ending: str,
) -> None:  # fmt: skip
    flag = tmp_path / "pid"
    async with worker():
        timeout_s = 3.0 if ending == "time out" else 60.0
        job_id = await submit("leave_daemons_and_hang", flag=str(flag), timeout_s=timeout_s)
        await eventually(lambda: _is_written(flag))
        if ending == "cancel":
            await training.cancel(job_id)
        with anyio.fail_after(2.0 if ending == "cancel" else timeout_s + 2.0):
            job = await finish(job_id)
        assert job.status == ("cancelled" if ending == "cancel" else "timed_out")
        assert _is_gone(int(flag.read_text()))


async def test_a_job_that_waits_for_a_gpu_of_another_worker_can_be_cancelled(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish,
    tmp_path: Path,
) -> None:  # fmt: skip
    flag = tmp_path / "pid"
    async with worker(gpus=["0"]) as first:
        one = await submit("hang", flag=str(flag), limits=JobLimits(gpus=1))
        await eventually(lambda: _is_written(flag))
        async with worker(gpus=["0"]):
            first.stop()
            two = await submit("succeed", limits=JobLimits(gpus=1))
            await training.cancel(two)
            with anyio.fail_after(5):
                assert (await finish(two)).status == "cancelled"
            await training.cancel(one)
            await finish(one)


async def test_a_gigabyte_of_output_ends_the_attempt_and_not_the_disk(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(limits=Limits(log_bytes=200_000, disk_mb=50)):
        job = await finish(await submit("print_a_gigabyte"))
    assert (job.status, job.cause) == ("failed", "too_much_output")
    assert job.error is not None
    assert "over 200,000 bytes of output" in job.error.message
    kept = 0
    page = await training.logs(job.job_id, tail=1000)
    while page.previous_cursor is not None:
        kept += sum(len(line.text) for line in page.lines)
        page = await training.logs(job.job_id, tail=1000, cursor=page.previous_cursor)
    kept += sum(len(line.text) for line in page.lines)
    assert 100_000 < kept < 210_000


async def test_all_output_together_is_what_is_limited(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(limits=Limits(log_bytes=200_000)):
        job = await finish(await submit("print_on_both"))
    assert (job.status, job.cause) == ("failed", "too_much_output")


async def test_the_last_words_of_a_cancelled_attempt_are_kept(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path
) -> None:
    flag = tmp_path / "printed"
    async with worker():
        job_id = await submit("print_half_a_line", flag=str(flag))
        await eventually(lambda: _is_written(flag))
        await training.cancel(job_id)
        assert (await finish(job_id)).status == "cancelled"
    assert "batch 17…" in [line.text for line in (await training.logs(job_id)).lines]


async def test_as_many_metrics_as_allowed_are_taken_at_once(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("report_many_metrics"))
    assert job.status == "succeeded"
    assert len(job.metrics) == 1_000


async def test_a_huge_line_is_cut_and_that_is_said(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("print_huge_line"))
    lines = [line.text for line in (await training.logs(job.job_id)).lines]
    assert any(line.endswith("… (46,000 more characters were left out)") for line in lines)


@pytest.mark.parametrize("action", ["fill_folder", "fill_elsewhere"])
async def test_a_job_that_fills_the_disk_is_ended(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path, action: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    async with worker(limits=Limits(log_bytes=200_000, disk_mb=40)):
        job = await finish(await submit(action, flag=str(elsewhere)))
    assert (job.status, job.cause) == ("failed", "disk_full")
    assert job.error is not None
    assert job.hint is not None
    if action == "fill_folder":
        assert "it may hold 40" in job.error.message
    else:
        assert "File too large" in job.error.message
        assert elsewhere.stat().st_size <= 40 << 20
    assert not list((tmp_path / "jobs").glob("*"))


@pytest.mark.parametrize("action", ["claim_link", "claim_climbing_path", "claim_link_alone"])
async def test_an_artifact_outside_the_folder_is_refused(
    worker: WorkerFactory, submit: Submit, finish: Finish, action: str
) -> None:
    async with worker():
        job = await finish(await submit(action))
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "denied")
    assert "a file outside its own folder" in job.error.message


@pytest.mark.parametrize("action", ["claim_endless_name", "claim_loop_of_links"])
async def test_a_path_that_cannot_be_looked_at_fails_its_attempt_alone(
    worker: WorkerFactory, submit: Submit, finish: Finish, action: str
) -> None:
    async with worker():
        job = await finish(await submit(action))
        assert (await finish(await submit("succeed"))).status == "succeeded"
    assert job.error is not None
    assert (job.status, job.error.code) == ("failed", "invalid_argument")
    assert "cannot be looked at" in job.error.message
    assert job.attempt == 1


async def test_artifacts_without_a_model_are_checked_and_told_to_be_left_out(
    worker: WorkerFactory, submit: Submit, finish: Finish, training: TrainingService
) -> None:
    async with worker():
        refused = await finish(await submit("leave_only_notes", flag="/etc/hostname"))
        job = await finish(await submit("leave_only_notes"))
    assert refused.error is not None
    assert (refused.status, refused.error.code) == ("failed", "denied")
    assert job.status == "succeeded"
    texts = [line.text for line in (await training.logs(job.job_id)).lines]
    assert any(text.endswith("Not kept: notes.json.") for text in texts)


@pytest.mark.parametrize("action", ["hide_reports", "remove_reports", "write_reports_anew"])
async def test_an_events_file_that_is_no_more_what_it_was_ends_the_attempt(
    worker: WorkerFactory, submit: Submit, finish: Finish, action: str
) -> None:
    async with worker():
        job = await finish(await submit(action))
    assert job.error is not None
    assert (job.status, job.cause, job.error.code) == (
        "failed",
        "broken_report",
        "invalid_argument",
    )
    assert "MCP_HUB_EVENTS" in (job.hint or "")


async def test_the_memory_of_all_processes_counts(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("hold_memory_in_children", limits=JobLimits(memory_mb=200)))
    assert (job.status, job.cause) == ("failed", "out_of_memory")
    assert job.error is not None
    assert "it may hold 200" in job.error.message
    assert job.peak_memory_mb is not None
    assert job.peak_memory_mb > 200
    assert job.limits == JobLimits(memory_mb=200)


async def test_memory_that_processes_share_counts_once(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(
            await submit("share_memory_with_children", limits=JobLimits(memory_mb=450))
        )
    assert job.status == "succeeded", job.error
    assert job.peak_memory_mb is not None
    assert 150 <= job.peak_memory_mb < 450


async def test_cores_are_limited_by_affinity_and_threads(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(limits=Limits(log_bytes=200_000, cpus=1)):
        asked = await finish(await submit("show_limits", limits=JobLimits(cpus=1)))
        plain = await finish(await submit("show_limits"))
    for job in (asked, plain):
        lines = [line.text for line in (await training.logs(job.job_id)).lines]
        assert "cores=1 omp=1 gpus=unset" in lines


async def test_gpus_go_to_one_job_at_a_time_whichever_worker_runs_it(
    worker: WorkerFactory, submit: Submit, finish: Finish, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.mkdir()
    async with worker(gpus=["0", "1"]), worker(gpus=["0", "1"]):
        counts = (1, 2, 1, 1, 2, 1)
        submitted = [
            await submit("hold_gpus", flag=str(held), limits=JobLimits(gpus=n)) for n in counts
        ]
        ended = [await finish(job_id) for job_id in submitted]
    assert [job.status for job in ended] == ["succeeded"] * len(counts), ended


async def test_a_job_without_gpus_sees_none_of_those_there_are(
    training: TrainingService, worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(gpus=["0"]):
        job = await finish(await submit("show_limits"))
    texts = [line.text for line in (await training.logs(job.job_id)).lines]
    assert any(text.endswith("gpus=") for text in texts)


async def test_more_gpus_than_any_worker_has_are_refused_or_waited_for(
    training: TrainingService, worker: WorkerFactory, submit: Submit
) -> None:
    job_id = await submit("succeed", limits=JobLimits(gpus=2))
    assert (await training.status(job_id)).hint == "It waits until 2 GPUs are free."
    async with worker(gpus=["0"]):

        async def it_says_so() -> bool:
            hint = (await training.status(job_id)).hint
            return hint == "It needs 2 GPUs, and no worker has more than 1."

        await eventually(it_says_so)
        with pytest.raises(Exception, match="no worker has more than 1"):
            await submit("succeed", limits=JobLimits(gpus=2))
    assert (await training.status(job_id)).status == "queued"


def _is_written(flag: Path) -> bool:
    return flag.exists() and bool(flag.read_text())


def _is_gone(pid: int) -> bool:
    return procfs.has_ended(pid)

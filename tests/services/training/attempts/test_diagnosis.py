"""Why jobs failed, told of real ones that did; and of endings that no test can bring about."""

import signal

import pytest

from mcp_hub.adapters.errors import Internal, InvalidArgument, Unavailable
from mcp_hub.services.training.attempts.diagnosis import CAUSES, Ending, diagnose
from mcp_hub.services.training.limits import Limits
from mcp_hub.services.training.views import JobLimits
from tests.services.training.conftest import Finish, Submit, WorkerFactory

FAILURES = [
    ("raise_memory_error", "out_of_memory", "It ran out of memory. It held"),
    ("import_missing", "missing_module", "pip install cv2_of_nobody where the worker runs"),
    ("import_missing_in_script", "missing_module", "pip install torch_of_nobody"),
    ("name_bad_column", "bad_column", "no column 'Yy'; nearest: y."),
    ("find_no_key", "exception", "The training raised KeyError: 'epochs_of_training'"),
    ("report_nan", "nan_loss", "If the training diverged, lower the learning rate"),
    ("report_rubbish", "broken_report", "Each line is one whole JSON object that names its type"),
    ("report_half_a_line", "broken_report", "Each line is one whole JSON object"),
    ("be_killed_in_mid_report", "killed", "SIGKILL, not sent by the hub"),
    ("report_too_many_names", "too_much_output", "Report fewer names"),
    ("give_nan_to_an_estimator", "nan_loss", "see dataset_profile for missing values"),
    ("progress_and_hang", "timeout", "It had done 3 of 100 at"),
    ("hang", "timeout", "It reported no progress"),
    ("terminate_itself", "killed", "SIGTERM, not sent by the hub"),
    ("kill_itself", "killed", "SIGKILL, not sent by the hub"),
    ("crash", "killed", "SIGSEGV: native code of the job crashed"),
    ("leave", "exit_status", "It ended with status 3 by itself; it printed nothing."),
    ("tell_status_of_script", "exit_status", "status 7 by itself; its last lines may say why."),
]


async def test_a_failed_job_says_why_and_what_would_help(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        timed = {"progress_and_hang", "hang"}
        submitted = [
            await submit(action, timeout_s=1.5 if action in timed else 60)
            for action, _, _ in FAILURES
        ]
        ended = [await finish(job_id) for job_id in submitted]
    for job, (action, cause, hint) in zip(ended, FAILURES, strict=True):
        assert job.status == ("timed_out" if cause == "timeout" else "failed"), action
        assert job.cause == cause, (action, job)
        assert job.hint is not None
        assert hint in job.hint, action
    by_action = {action: job for job, (action, _, _) in zip(ended, FAILURES, strict=True)}
    script = by_action["tell_status_of_script"]
    assert (script.hint or "").endswith("\nLast lines:\nno such corpus")
    assert "Traceback" not in (by_action["leave"].hint or "")
    timed_out = by_action["progress_and_hang"].hint or ""
    assert "Submit it with timeout_s=" in timed_out


async def test_an_error_of_the_request_is_told_as_it_is(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("raise_error"))
    assert (job.cause, job.hint) == (None, None)
    assert job.error is not None
    assert job.error.hint == "Bring other data."


async def test_a_retry_forgets_what_was_wrong_before(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker():
        job = await finish(await submit("fail_once", max_retries=1))
    assert (job.status, job.cause, job.hint) == ("succeeded", None, None)


async def test_memory_that_the_limit_of_a_process_forbids_is_told(
    worker: WorkerFactory, submit: Submit, finish: Finish
) -> None:
    async with worker(limits=Limits(log_bytes=200_000, memory_mb=700)):
        job = await finish(await submit("eat_memory", limits=JobLimits(memory_mb=600)))
    assert (job.status, job.cause) == ("failed", "out_of_memory")
    assert "It may hold 600 MB: raise limits.memory_mb" in (job.hint or "")


MACHINE = 16_000_000_000


@pytest.mark.parametrize(
    ("ending", "cause", "hint"),
    [
        (
            Ending("failed", Unavailable("killed"), exit_status=-9, oom_kills=1),
            "out_of_memory", "the kernel killed it",
        ),
        (
            Ending("failed", exit_status=-9, peak_memory=15_000_000_000, machine_memory=MACHINE),
            "out_of_memory", "It held 15,000 MB at most",
        ),
        (
            Ending("failed", exit_status=-9, peak_memory=1_000_000_000, machine_memory=MACHINE),
            "killed", "SIGKILL, not sent by the hub",
        ),
        (
            Ending("failed", exit_status=1, lines=["torch.OutOfMemoryError: CUDA out of memory."]),
            "out_of_memory", "The GPU's memory did not do",
        ),
        (
            Ending("failed", exit_status=1, lines=["FATAL ERROR: JavaScript heap out of memory"]),
            "out_of_memory", "ran out of memory",
        ),
        (
            Ending("failed", exit_status=1, lines=["ModuleNotFoundError: No module named 'torch'"]),
            "missing_module", 'pip install "mcp-hub[pytorch]"',
        ),
        (
            Ending("failed", exit_status=1, lines=["Error: Cannot find module '@scope/thing'"]),
            "missing_module", "npm install @scope/thing",
        ),
        (
            Ending("failed", exit_status=1, lines=["Traceback …", "KeyError: 'x'"]),
            "exception", "The program raised KeyError: 'x'",
        ),
        (
            Ending("failed", exit_status=1, lines=["Exception: boom"]),
            "exception", "The program raised Exception: boom",
        ),
        (
            Ending(
                "failed", exit_status=1,
                lines=["Traceback (most recent call last):", "zipfile.BadZipFile: no zip"],
            ),
            "exception", "The program raised zipfile.BadZipFile: no zip",
        ),
        (
            Ending("failed", exit_status=1, lines=["Error: wrong usage"]),
            "exit_status", "with status 1 by itself",
        ),
        (
            Ending("failed", exit_status=1, lines=["OSError: [Errno 28] No space left on device"]),
            "disk_full", "the disk is full",
        ),
        (
            Ending(
                "failed", Internal("KeyError: 'Incom'"), reported=True, columns=["income", "age"]
            ),
            "bad_column", "no column 'Incom'; nearest: income.",
        ),
        (
            Ending(
                "failed", Internal("KeyError: \"['colour'] not in index\""), reported=True,
                columns=["a"], lines=["  File pandas/core/indexing.py"],
            ),
            "bad_column", "no column 'colour'; nearest: a.",
        ),
        (
            Ending("timed_out", elapsed_s=10, timeout_s=10, progress=(4, 8)),
            "timeout",
            "It had done 4 of 8 at 0.4 a second: all of it takes about 20 s. Submit it with "
            "timeout_s=25",
        ),
    ],
)  # fmt: skip
def test_an_ending_has_a_cause(ending: Ending, cause: str, hint: str) -> None:
    told = diagnose(ending)
    assert told is not None
    assert told.cause == cause
    assert hint in told.hint


@pytest.mark.parametrize(
    "ending",
    [
        Ending("succeeded", exit_status=0, lines=["MemoryError"]),
        Ending("cancelled", exit_status=-signal.SIGKILL),
        Ending("queued", Unavailable("The database is gone.")),
        Ending("failed", InvalidArgument("No."), reported=True, exit_status=1),
        Ending("failed", Unavailable("No GPU.", "Take the CPU."), reported=True, exit_status=1),
    ],
)
def test_what_has_no_cause_of_its_own_is_left_alone(ending: Ending) -> None:
    assert diagnose(ending) is None


def test_the_last_lines_are_few_and_short() -> None:
    ending = Ending("failed", exit_status=1, lines=["x" * 5_000] * 40)
    told = diagnose(ending)
    assert told is not None
    assert len(told.hint) < 1_000


def test_every_cause_is_told_of_a_failure() -> None:
    told_elsewhere = {"disk_full"}
    assert {cause for _, cause, _ in FAILURES} | told_elsewhere == CAUSES.keys()

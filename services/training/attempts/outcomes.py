"""How attempts end."""

from dataclasses import dataclass

from mcp_hub.adapters.errors import HubError, Unavailable, error_of
from mcp_hub.services.training.attempts.events import ErrorEvent
from mcp_hub.services.training.views import Cause, JobStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, and the cause where the hub ended it."""

    status: JobStatus
    error: HubError | None = None
    cause: Cause | None = None


def judge(exit_status: int, reported: ErrorEvent | None) -> Outcome:
    """What a process's exit status (negative: the signal) and its last report mean."""
    if reported is not None:
        return Outcome("failed", error_of(reported.code, reported.message, reported.hint))
    if exit_status == 0:
        return Outcome("succeeded")
    if exit_status < 0:
        return Outcome(
            "failed", Unavailable(f"The job's process was killed by signal {-exit_status}.")
        )
    return Outcome(
        "failed",
        Unavailable(f"The job's process ended with status {exit_status}.", "See training_logs."),
    )


def last_line(attempt: int, outcome: Outcome, status: JobStatus) -> str:
    """What the log says of an attempt's end, after which its job has that status."""
    ended = "was given up" if outcome.status == "queued" else outcome.status
    reason = f": {outcome.error.message}" if outcome.error else "."
    return f"Attempt {attempt} {ended}{reason}" + (" It runs again." if status == "queued" else "")

"""The life of a job: which states there are and which moves between them are allowed."""

from typing import get_args

from mcp_hub.services.training.views import JobStatus

STATUSES: tuple[JobStatus, ...] = get_args(JobStatus)

MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "timed_out", "queued"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued"}),
    "cancelled": frozenset({"queued"}),
    "timed_out": frozenset({"queued"}),
}
"""From each state, where a job may go. A queued job fails when a job it waits for does; an ended
one that did not succeed goes back to the queue when somebody asks for it."""

TERMINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled", "timed_out"})
"""A job in one of these has no process and gets none by itself."""

UNFINISHED: frozenset[JobStatus] = frozenset({"queued", "running"})

"""What tools start and goes on by itself, as a task shows it."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mcp.types import INTERNAL_ERROR, CallToolResult, ErrorData

from mcp_hub.adapters.errors import Conflict, NotFound
from mcp_hub.services.hub import HubProvider
from mcp_hub.services.training.sweeps.views import ENDED
from mcp_hub.services.training.views import JobStatus, JobView
from mcp_hub.services.views import View
from mcp_hub.tools.sweeps import sweep_line
from mcp_hub.tools.toolset import view_result
from mcp_hub.tools.training import one_line

TaskStatus = Literal["working", "input_required", "completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class State:
    """How a task stands. `updated_at` is ISO 8601; None: when the task was last changed."""

    status: TaskStatus
    message: str | None = None
    updated_at: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    questions: dict[str, Any] | None = None


class Follower(Protocol):
    """Knows how something stands that a tool has started and that any process can look up."""

    def subject(self, result: CallToolResult) -> str | None:
        """What the tool's answer says it has started; None where that is nothing to follow."""
        ...

    async def look(self, subject: str, *, wait_s: float = 0) -> State:
        """How it stands, or as it ended within `wait_s` seconds (50 at most)."""
        ...

    async def cancel(self, subject: str) -> None:
        """Have it end; nothing happens where it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Offer:
    """How a tool's calls become tasks, for clients that take such."""

    follower: Follower | None = None
    """Follows what the tool starts."""
    waits: bool = False
    """Whether what it asks waits in a task instead of being asked at once."""
    required: bool = False
    """Whether it has no other answer than a task."""


_STATUSES: dict[JobStatus, TaskStatus] = {
    "queued": "working",
    "running": "working",
    "cancelled": "cancelled",
    "succeeded": "completed",
    # The extension keeps `failed` for requests that break; a job that failed is a tool's error.
    "failed": "completed",
    "timed_out": "completed",
}


class JobFollower:
    """Training jobs."""

    def __init__(self, hub: HubProvider) -> None:
        self._hub = hub

    def subject(self, result: CallToolResult) -> str | None:
        """The job's id; None where the answer is its end already."""
        answer = result.structured_content or {}
        return None if answer.get("status") == "succeeded" else answer.get("job_id")

    async def look(self, subject: str, *, wait_s: float = 0) -> State:
        """As training_status tells it; the result is its answer once the job has ended."""
        try:
            job = await (await self._hub()).training.status(subject, wait_s=wait_s)
        except NotFound as error:
            data = ErrorData(code=INTERNAL_ERROR, message=error.message, data=error.as_dict())
            return State("failed", error.message, error=data.model_dump(exclude_none=True))
        status = _STATUSES[job.status]
        result = None
        if status == "completed":
            answer = view_result(await self._answer(job))
            answer.is_error = job.status != "succeeded"
            result = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        return State(status, _message(job), job.finished_at or job.started_at, result)

    async def _answer(self, job: JobView) -> View:
        """What the task ends with."""
        return job

    async def cancel(self, subject: str) -> None:
        try:
            await (await self._hub()).training.cancel(subject)
        except Conflict:
            return


class EvaluationFollower(JobFollower):
    """Jobs that score a model; the result is model_evaluate's."""

    async def _answer(self, job: JobView) -> View:
        return await (await self._hub()).scoring.evaluation(job.job_id)


class PredictionFollower(JobFollower):
    """Jobs that predict a data set; the result is predict_batch's."""

    async def _answer(self, job: JobView) -> View:
        return await (await self._hub()).scoring.prediction(job.job_id)


class SweepFollower:
    """Sweeps."""

    def __init__(self, hub: HubProvider) -> None:
        self._hub = hub

    def subject(self, result: CallToolResult) -> str | None:
        """The sweep's id."""
        return (result.structured_content or {}).get("sweep_id")

    async def look(self, subject: str, *, wait_s: float = 0) -> State:
        """As training_sweep_status tells it; the result is its answer once the sweep has ended."""
        try:
            sweep = await (await self._hub()).sweeps.status(subject, wait_s=wait_s)
        except NotFound as error:
            data = ErrorData(code=INTERNAL_ERROR, message=error.message, data=error.as_dict())
            return State("failed", error.message, error=data.model_dump(exclude_none=True))
        message = f"{sweep.sweep_id} {sweep_line(sweep)}"
        if sweep.status == "cancelled":
            return State("cancelled", message, sweep.finished_at)
        if sweep.status not in ENDED:
            return State("working", message, sweep.created_at)
        answer = view_result(sweep)
        answer.is_error = sweep.status != "succeeded"
        result = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        return State("completed", message, sweep.finished_at, result)

    async def cancel(self, subject: str) -> None:
        try:
            await (await self._hub()).sweeps.cancel(subject)
        except Conflict:
            return


def _message(job: JobView) -> str:
    if job.error is not None:
        return f"{job.status}: {job.error.message}"
    if job.cancel_requested and job.status == "running":
        return f"{job.job_id} is being cancelled"
    total = job.progress.total
    progress = f"{job.progress.done:g}/{total:g} " if total and job.status == "running" else ""
    return f"{job.job_id} {progress}{one_line(job)}"


def task_offers(hub: HubProvider) -> dict[str, Offer]:
    """The tools whose calls become tasks."""
    return {
        "training_submit": Offer(follower=JobFollower(hub)),
        "model_evaluate": Offer(follower=EvaluationFollower(hub)),
        "predict_batch": Offer(follower=PredictionFollower(hub)),
        "training_sweep": Offer(follower=SweepFollower(hub)),
        "model_promote": Offer(waits=True),
    }

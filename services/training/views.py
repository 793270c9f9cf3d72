"""What the training tools return."""

from typing import Any, Literal

from pydantic import Field

from mcp_hub.services.views import Error, View

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled", "timed_out"]


Cause = Literal[
    "timeout", "too_much_output", "disk_full", "missing_module", "out_of_memory", "bad_column",
    "nan_loss", "killed", "exception", "exit_status", "broken_report",
]  # fmt: skip


class JobLimits(View):
    """What each attempt of a job may use; what is left out is as the worker's settings say."""

    cpus: int | None = Field(default=None, description="Cores")
    memory_mb: int | None = Field(default=None, description="Memory of all its processes")
    gpus: int | None = Field(default=None, description="GPUs of its own")


class Submitted(View):
    job_id: str
    status: JobStatus
    note: str | None = Field(default=None, description="Set when an earlier job is returned")


class Progress(View):
    done: float
    total: float | None


class Wait(View):
    """Why a queued job does not run yet, and after how many others it is to run."""

    reason: Literal["parents", "start_time", "back_off", "framework", "worker", "queue"] = Field(
        description="It waits for waiting_for; for `until`; for a free slot of its framework; for "
        "a worker to start; for its turn"
    )
    until: str | None = Field(default=None, description="When it may run at the earliest")
    behind: int | None = Field(default=None, description="Jobs that come before it")


class JobView(View):
    """A job as it stands. `metrics` holds the newest value of each; `model` is name:version."""

    job_id: str
    status: JobStatus
    name: str
    type: str
    framework: str
    dataset: str
    target: str | None
    config: dict[str, Any]
    attempt: int
    progress: Progress
    metrics: dict[str, float]
    model: str | None
    result: dict[str, str] | None = Field(
        default=None, description="Of evaluations and batch predictions: what they made"
    )
    error: Error | None
    cause: Cause | None = Field(description="What made the newest attempt end so, where known")
    hint: str | None = Field(description="What would change it, and the last lines printed")
    limits: JobLimits | None
    peak_memory_mb: int | None = Field(description="Most memory the newest attempt held")
    cancel_requested: bool
    waiting_for: list[str] = Field(description="Jobs that must succeed before this one starts")
    wait: Wait | None = Field(default=None, description="Why it does not run yet, while queued")
    sweep: str | None = None
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobSummary(View):
    job_id: str
    status: JobStatus
    name: str
    type: str
    framework: str
    dataset: str
    attempt: int
    model: str | None
    error: str | None
    sweep: str | None = None
    created_at: str


class ScheduleView(View):
    """A job that is submitted again and again."""

    schedule_id: str
    when: str
    paused: bool
    next_at: str | None
    job: dict[str, Any] = Field(description="Arguments of training_submit")
    fired: int
    skipped: int = Field(description="Times left out because the job before still ran")
    last_job_id: str | None
    error: Error | None = Field(description="Why the last time gave no job")


LogStream = Literal["stdout", "stderr", "hub"]


class LogLine(View):
    attempt: int
    stream: LogStream
    text: str


class JobLogs(View):
    """Log lines, oldest first. `next_cursor` goes on from the last line, also while it runs."""

    job_id: str
    lines: list[LogLine]
    next_cursor: str | None
    previous_cursor: str | None = Field(description="Leads to older lines; null at the first")
    truncated: bool = Field(description="True when older or further lines were left out")


class MetricSeries(View):
    """A metric over steps, thinned evenly to `max_points` where there were more."""

    key: str
    steps: list[int]
    values: list[float]
    points: int


class JobMetrics(View):
    job_id: str
    series: list[MetricSeries]


class JobComparison(View):
    """Jobs side by side: a column a job, in the order of `jobs`."""

    jobs: list[str]
    statuses: list[JobStatus]
    models: list[str | None]
    metrics: dict[str, list[float | None]]
    differing_config: dict[str, list[Any]]


class FrameworkView(View):
    """A framework: what it trains, what its `config` takes, and whether it can run here."""

    name: str
    description: str
    types: list[str]
    available: bool
    missing: str | None
    config_schema: dict[str, Any]


class Frameworks(View):
    items: list[FrameworkView]
    notes: list[str] = Field(default=[], description="What other packages provide in vain")

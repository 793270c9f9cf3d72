"""Training jobs: submit, follow, inspect, cancel."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from mcp_hub.services.training.sweeps.views import SweepSummary
from mcp_hub.services.training.views import (
    Frameworks,
    JobComparison,
    JobLimits,
    JobLogs,
    JobMetrics,
    JobStatus,
    JobSummary,
    JobView,
    LogStream,
    ScheduleView,
    Submitted,
)
from mcp_hub.services.views import Name, Page
from mcp_hub.tools.toolset import Toolset, caller, tool

JobId = Annotated[str, Field(description="As training_submit returned it, e.g. job_7kq2m9xw4c")]


class TrainingTools(Toolset):
    """The toolset `training`."""

    name = "training"

    @tool(title="Submit a training job")
    async def training_submit(
        self,
        ctx: Context[Any],
        name: Annotated[Name, Field(description="Name of the model that the job registers")],
        type: Annotated[
            str, Field(description="classification, regression, clustering, anomaly, …")
        ],
        dataset: Annotated[
            str,
            Field(description="A registered data set: name (its newest version) or name:version"),
        ],
        target: Annotated[str | None, Field(description="The column to predict")] = None,
        framework: Annotated[str, Field(description="See training_frameworks")] = "sklearn",
        config: Annotated[
            dict[str, Any] | None,
            Field(description="The framework's settings; leave out for sound defaults"),
        ] = None,
        priority: Annotated[int, Field(description="-100 to 100; higher runs first")] = 0,
        timeout_s: Annotated[
            float | None, Field(description="Seconds an attempt may run; an hour if left out")
        ] = None,
        max_retries: Annotated[
            int, Field(description="Further attempts after a failure that may pass, 0 to 10")
        ] = 0,
        depends_on: Annotated[
            list[str] | None, Field(description="Jobs that must succeed before this one starts")
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Field(description="Repeat a call with the same key safely: one job", max_length=128),
        ] = None,
        limits: Annotated[
            JobLimits | None,
            Field(description="What each attempt may use: {cpus, memory_mb, gpus}, each optional"),
        ] = None,
        require: Annotated[
            list[dict[str, Any]] | None,
            Field(
                description="Rules as dataset_validate takes; where one fails nothing is trained"
            ),
        ] = None,
        start_at: Annotated[
            str | float | None,
            Field(description="Not before: ISO 8601 with zone, or seconds from now"),
        ] = None,
    ) -> Submitted:
        """Queue a training job and return at once.

        A worker trains on part of the data, scores on a held-out part, exports to ONNX, checks
        that the export agrees, and registers the model as the next version of `name`. Register
        the data first with dataset_register. Then follow with training_status(job_id, wait_s=30)
        until it has ended.
        """
        from mcp_hub.services.training.submission import Submission

        hub = await self.hub()
        submission = Submission(
            name=name,
            type=type,
            framework=framework,
            dataset=dataset,
            target=target,
            config=config or {},
            priority=priority,
            timeout_s=timeout_s,
            max_retries=max_retries,
            depends_on=depends_on or [],
            idempotency_key=idempotency_key,
            limits=limits,
            require=require or [],
            start_at=start_at,
        )
        return await hub.training.submit(submission, submitted_by=caller(ctx))

    @tool(title="Follow a training job", read_only=True)
    async def training_status(
        self,
        ctx: Context[Any],
        job_id: JobId,
        wait_s: Annotated[
            float,
            Field(
                description="Wait up to so many seconds for the job to end (0 to 50)", ge=0, le=50
            ),
        ] = 0,
    ) -> JobView:
        """A job's state, progress, newest metrics, and in the end its model, or its error with
        the cause and a hint what to change.

        With wait_s it answers as soon as the job has ended, or as it stands by then: call it
        again until status is succeeded, failed, cancelled or timed_out. While it waits, changes
        are sent as progress notifications.
        """
        hub = await self.hub()
        return await hub.training.status(job_id, wait_s=wait_s, follow=reporter(ctx))

    @tool(title="List training jobs", read_only=True)
    async def training_list(
        self,
        status: Annotated[JobStatus | None, Field(description="Only jobs in this state")] = None,
        sweeps: Annotated[bool, Field(description="Sweeps instead of jobs")] = False,
        limit: Annotated[int, Field(description="Jobs a page, 1 to 200", ge=1, le=200)] = 20,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> Page[JobSummary | SweepSummary]:
        """Training jobs, or sweeps, newest first."""
        hub = await self.hub()
        listing = hub.sweeps.list if sweeps else hub.training.list
        page = await listing(status, limit=limit, cursor=cursor)
        return Page(items=[*page.items], next_cursor=page.next_cursor)

    @tool(title="Cancel a training job", destructive=True)
    async def training_cancel(self, job_id: JobId) -> JobView:
        """Cancel a queued or running job. A running one ends within seconds; jobs that depend on
        it fail. Undo with training_retry."""
        hub = await self.hub()
        return await hub.training.cancel(job_id)

    @tool(title="Retry a training job")
    async def training_retry(self, job_id: JobId) -> JobView:
        """Run a failed, cancelled or timed-out job again, as its next attempt."""
        hub = await self.hub()
        return await hub.training.retry(job_id)

    @tool(title="Read a training job's output", read_only=True)
    async def training_logs(
        self,
        job_id: JobId,
        tail: Annotated[int, Field(description="Lines to return, 1 to 1000", ge=1, le=1000)] = 100,
        cursor: Annotated[
            str | None,
            Field(description="next_cursor or previous_cursor of a call before: reads on, or back"),
        ] = None,
        wait_s: Annotated[
            float,
            Field(description="With next_cursor: wait so long for new lines", ge=0, le=50),
        ] = 0,
        stream: Annotated[LogStream | None, Field(description="Only lines of this one")] = None,
        attempt: Annotated[int | None, Field(description="Only lines of this attempt")] = None,
        text: Annotated[str | None, Field(description="Only lines that contain this")] = None,
    ) -> JobLogs:
        """What all attempts of a job printed (stdout, stderr) and what the hub notes about them:
        the last lines, or those from a cursor on."""
        from mcp_hub.services.training.reports import LogFilter

        hub = await self.hub()
        return await hub.training.logs(
            job_id,
            tail=tail,
            cursor=cursor,
            wait_s=wait_s,
            only=LogFilter(stream, attempt, text),
        )

    @tool(title="Read a training job's metrics", read_only=True)
    async def training_metrics(
        self,
        job_id: JobId,
        keys: Annotated[list[str] | None, Field(description="Only these metrics")] = None,
        max_points: Annotated[
            int, Field(description="Points a metric, 1 to 1000; longer histories are thinned")
        ] = 50,
    ) -> JobMetrics:
        """The history of a job's metrics by step (fold, epoch), also while it runs."""
        hub = await self.hub()
        return await hub.training.metrics(job_id, keys=keys, max_points=max_points)

    @tool(title="Compare training jobs", read_only=True)
    async def training_compare(
        self,
        job_ids: Annotated[list[str], Field(description="2 to 20 jobs")],
    ) -> JobComparison:
        """Jobs side by side: status, model, metrics, and the settings in which they differ."""
        hub = await self.hub()
        return await hub.training.compare(job_ids)

    @tool(title="Schedule training jobs", destructive=True)
    async def training_schedule(
        self,
        ctx: Context[Any],
        action: Literal["list", "create", "pause", "resume", "delete"] = "list",
        schedule_id: Annotated[
            str | None, Field(description="Which to list alone, pause, resume or delete")
        ] = None,
        cron: Annotated[
            str | None, Field(description="When: five fields, such as '0 3 * * 1-5'")
        ] = None,
        every_s: Annotated[float | None, Field(description="Or every so many seconds")] = None,
        timezone: Annotated[str, Field(description="Of cron, e.g. Europe/Berlin")] = "UTC",
        job: Annotated[
            dict[str, Any] | None, Field(description="What to submit: training_submit's arguments")
        ] = None,
        limit: Annotated[int, Field(description="Schedules a page, 1 to 200", ge=1, le=200)] = 20,
        cursor: Annotated[str | None, Field(description="next_cursor of the page before")] = None,
    ) -> Page[ScheduleView]:
        """Submit a job again and again, or see and change what is so scheduled.

        create takes job and cron or every_s. A time at which the job before still runs is skipped;
        times missed while nothing ran are made up for once. Jobs stay when a schedule is deleted.
        """
        from mcp_hub.adapters.errors import InvalidArgument

        schedules = (await self.hub()).schedules
        if action == "list" and schedule_id is None:
            return await schedules.list(limit=limit, cursor=cursor)
        if action == "create":
            if job is None:
                raise InvalidArgument(
                    "create needs job: what to submit.", "Give the arguments of training_submit."
                )
            created = await schedules.create(
                job, cron=cron, every_s=every_s, timezone=timezone, created_by=caller(ctx)
            )
            return Page(items=[created], next_cursor=None)
        if schedule_id is None:
            raise InvalidArgument(
                f"{action} needs a schedule_id.", "See training_schedule(action='list')."
            )
        act = {
            "list": schedules.get,
            "pause": schedules.pause,
            "resume": schedules.resume,
            "delete": schedules.delete,
        }[action]
        return Page(items=[await act(schedule_id)], next_cursor=None)

    @tool(title="List training frameworks", read_only=True)
    async def training_frameworks(self) -> Frameworks:
        """What can be trained: each framework's types, whether it is installed here, and the
        JSON schema of its config."""
        hub = await self.hub()
        return await hub.training.frameworks()


def reporter(ctx: Context[Any]) -> Callable[[JobView], Awaitable[None]]:
    """Tells the client of a job's changes, as progress notifications."""

    async def follow(job: JobView) -> None:
        await ctx.report_progress(job.progress.done, job.progress.total, one_line(job))

    return follow


def one_line(job: JobView) -> str:
    """How the job stands, in a few words."""
    if job.wait is not None and job.wait.behind:
        return f"queued behind {job.wait.behind}"
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in list(job.metrics.items())[:4])
    return f"{job.status}, {metrics}" if metrics else job.status

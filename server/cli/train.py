"""`mcp-hub train`: what the training tools do, for a person at a shell."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import anyio
import typer
from pydantic import ValidationError

from mcp_hub.adapters.errors import HubError, InvalidArgument, NotFound, names_hint
from mcp_hub.server.cli.options import DataDir, Json, Root, new_app, settings_for
from mcp_hub.server.cli.output import JobProgress, print_job, print_table
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.hub import Hub
from mcp_hub.services.training.states import UNFINISHED
from mcp_hub.services.training.submission import Submission
from mcp_hub.services.training.views import JobLimits, JobStatus, JobView
from mcp_hub.services.training.waiting import MAX_WAIT_S

_LOG_POLL_S = 0.5

T = TypeVar("T")

app = new_app(no_args_is_help=True, help="Submit training jobs and follow them.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="As `train submit` printed it.")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show progress until the job has ended.")
]


@app.command()
def submit(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Name of the model that the job registers.")],
    dataset: Annotated[
        str, typer.Option(help="A registered data set, or a file, which is then registered.")
    ],
    type: Annotated[str, typer.Option(help="classification, regression, …")],
    target: Annotated[
        str | None, typer.Option(help="The column to predict.", show_default=False)
    ] = None,
    framework: Annotated[str, typer.Option(help="What trains it.")] = "sklearn",
    config: Annotated[
        str, typer.Option(metavar="JSON", help="The framework's settings.", show_default=False)
    ] = "{}",
    priority: Annotated[int, typer.Option(help="-100 to 100; higher runs first.")] = 0,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Time an attempt may take.", show_default=False),
    ] = None,
    max_retries: Annotated[int, typer.Option(help="Further attempts after a failure.")] = 0,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(metavar="JOB", help="A job that must succeed first.", show_default=False),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again gives the same job.", show_default=False)
    ] = None,
    limits: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help='What an attempt may use: {"cpus": 2, "memory_mb": 1000, "gpus": 0}.',
            show_default=False,
        ),
    ] = "{}",
    require: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help="Rules, as dataset_validate takes them, that the data must meet first.",
            show_default=False,
        ),
    ] = "[]",
    start_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Not before: ISO 8601 with zone, or seconds from now.",
            show_default=False,
        ),
    ] = None,
    follow: Follow = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    root: Root = None,
) -> None:
    """Queue a training job."""
    submission = Submission(
        name=name,
        type=type,
        framework=framework,
        dataset=dataset,
        target=target,
        config=_parse("--config", config, dict, '{"estimator": "…"}'),
        priority=priority,
        timeout_s=timeout,
        max_retries=max_retries,
        depends_on=depends_on or (),
        idempotency_key=idempotency_key,
        limits=_limits(_parse("--limits", limits, dict, '{"cpus": 2}')),
        require=_parse("--require", require, list, '[{"column": "age", "min": 0}]'),
        start_at=_start_at(start_at),
    )
    settings = settings_for(ctx, data_dir=data_dir, roots=root)
    file = Path(dataset).expanduser().resolve()
    is_file = file.is_file()
    if is_file:  # whoever can name it at a shell may read it
        settings = settings.model_copy(update={"roots": [*settings.roots, file.parent]})

    async def work(hub: Hub) -> JobView:
        asked = replace(
            submission, dataset=await _registered(hub, dataset, file if is_file else None)
        )
        submitted = await hub.training.submit(asked, submitted_by=f"mcp-hub train, {getuser()}")
        if not as_json:
            typer.echo(f"{submitted.job_id} {submitted.status}. {submitted.note or ''}".rstrip())
        return await _followed(hub, submitted.job_id, follow, as_json)

    job = _with_hub(settings, work)
    if not (follow or as_json):
        typer.echo(f"Follow it with: mcp-hub train status {job.job_id} --follow")
    _report(job, as_json, full=follow)
    if follow:
        _exit_by_outcome(job)


@app.command()
def status(
    ctx: typer.Context,
    job_id: JobId,
    follow: Follow = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show a job; with --follow, until it has ended."""
    settings = settings_for(ctx, data_dir=data_dir)
    job = _with_hub(settings, lambda hub: _followed(hub, job_id, follow, as_json))
    _report(job, as_json)
    if follow:
        _exit_by_outcome(job)


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    status: Annotated[
        str | None, typer.Option(help="Only jobs in this state.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Jobs to show.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(help="next_cursor of the page before.", show_default=False)
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List jobs, newest first."""
    settings = settings_for(ctx, data_dir=data_dir)
    wanted = cast(JobStatus | None, status)  # the service checks it
    page = _with_hub(settings, lambda hub: hub.training.list(wanted, limit=limit, cursor=cursor))
    if as_json:
        typer.echo(page.model_dump_json(indent=2))
        return
    print_table(
        ["job", "status", "name", "attempt", "model", "submitted", "error"],
        [
            [j.job_id, j.status, j.name, j.attempt, j.model, j.created_at, j.error]
            for j in page.items
        ],
        empty="No jobs yet: `mcp-hub train submit --help`.",
    )
    if page.next_cursor:
        typer.echo(f"More: mcp-hub train list --cursor {page.next_cursor}")


@app.command()
def cancel(
    ctx: typer.Context, job_id: JobId, as_json: Json = False, data_dir: DataDir = None
) -> None:
    """Cancel a queued or running job."""
    job = _with_hub(settings_for(ctx, data_dir=data_dir), lambda hub: hub.training.cancel(job_id))
    if job.status == "running" and not as_json:
        typer.echo("Its worker ends it within seconds.")
    _report(job, as_json)


@app.command()
def retry(
    ctx: typer.Context, job_id: JobId, as_json: Json = False, data_dir: DataDir = None
) -> None:
    """Queue a job that ended without success once more."""
    job = _with_hub(settings_for(ctx, data_dir=data_dir), lambda hub: hub.training.retry(job_id))
    _report(job, as_json)


@app.command()
def logs(
    ctx: typer.Context,
    job_id: JobId,
    tail: Annotated[int, typer.Option(help="Lines to show, 1 to 1000.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show what a job printed, on all its attempts."""

    async def work(hub: Hub) -> None:
        page = await hub.training.logs(job_id, tail=tail)
        if page.truncated and not as_json:
            typer.echo("(Earlier lines are left out: see --tail.)", err=True)
        while True:
            for line in page.lines:
                text = f"[{line.attempt} {line.stream}] {line.text}"
                typer.echo(line.model_dump_json() if as_json else text)
            if not follow or page.next_cursor is None:
                return
            if not page.lines:
                await anyio.sleep(_LOG_POLL_S)
            page = await hub.training.logs(job_id, tail=tail, cursor=page.next_cursor)

    _with_hub(settings_for(ctx, data_dir=data_dir), work)


def _with_hub(settings: Settings, work: Callable[[Hub], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_hub(settings, local=True) as hub:
            return await work(hub)

    return anyio.run(run)


def _parse(option: str, text: str, kind: type[T], example: str) -> T:
    """What an option's JSON says, an object or a list. Raises InvalidArgument."""
    hint = f"For example: {option} '{example}'."
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{option} is not JSON: {error}.", hint) from error
    if not isinstance(value, kind):
        what = "a JSON object" if kind is dict else "a JSON list"
        raise InvalidArgument(f"{option} must be {what}.", hint)
    return value


def _limits(given: dict[str, Any]) -> JobLimits:
    try:
        return JobLimits.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = str(fault["loc"][0])
        known = JobLimits.model_fields
        if name not in known:
            hint = names_hint(name, known, "limits")
            raise InvalidArgument(f"--limits has {name!r}, which is no limit.", hint) from None
        shown = f"{name} is {fault['input']!r}: {fault['msg']}"
        raise InvalidArgument(f"In --limits, {shown}.", "Give whole numbers.") from None


def _start_at(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


async def _registered(hub: Hub, dataset: str, file: Path | None) -> str:
    """The data set's exact reference; if there is none, `file` is registered under its name."""
    try:
        return (await hub.data.get(dataset)).dataset
    except HubError as error:
        if file is None and Path(dataset).name != dataset:
            raise NotFound(f"There is no file {dataset}.", error.hint) from error
        if file is None:
            raise
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).lstrip("._-")[:128] or "data"
    return (await hub.data.register(name, source=str(file))).dataset


async def _followed(hub: Hub, job_id: str, follow: bool, quiet: bool) -> JobView:
    job = await hub.training.status(job_id)
    if not follow:
        return job
    with JobProgress(job, quiet=quiet) as progress:
        while job.status in UNFINISHED:
            job = await hub.training.status(job_id, wait_s=MAX_WAIT_S, follow=progress.show)
    return job


def _report(job: JobView, as_json: bool, full: bool = True) -> None:
    if as_json:
        typer.echo(job.model_dump_json(indent=2))
    elif full:
        print_job(job)


def _exit_by_outcome(job: JobView) -> None:
    if job.status != "succeeded":
        raise typer.Exit(1)

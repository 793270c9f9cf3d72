"""What the commands print for people: tables, jobs, and a job's progress while it runs."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from mcp_hub.services.training.views import JobView

_METRICS_SHOWN = 3
_COLOURS = {"succeeded": "green", "failed": "red", "timed_out": "red", "cancelled": "yellow"}


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: no markup, no numbers made colourful."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, empty: str) -> None:
    """A table of aligned columns, or the line `empty` where there is nothing to show."""
    out = console()
    if not rows:
        out.print(empty)
        return
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for style, row in [("bold", headings), *((None, row) for row in cells)]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.print(line.rstrip(), style=style, soft_wrap=True)


def print_job(job: JobView) -> None:
    """A job as a person reads it: its state, what came of it, and what to do next."""
    out = console()
    out.print(f"{job.job_id}  {job.name}  ", end="")
    out.print(job.status, style=_COLOURS.get(job.status))
    target = f" → {job.target}" if job.target else ""
    lines = {
        "trains": f"{job.framework} {job.type} on {job.dataset}{target}",
        "attempt": job.attempt,
        "waits for": ", ".join(job.waiting_for),
        "metrics": ", ".join(f"{key} {value:.4g}" for key, value in job.metrics.items()),
        "model": job.model,
        "error": job.error.message if job.error else None,
        "hint": job.error.hint if job.error else None,
        "submitted": job.created_at,
        "finished": job.finished_at,
    }
    for label, value in lines.items():
        if value:
            out.print(f"  {label:<10}{value}", soft_wrap=True)


class JobProgress:
    """A progress bar on standard error, with the newest metrics, for as long as it is entered.

    Where standard error is no terminal, each step is a line. When it is left by Ctrl-C it says
    that the job goes on, and how to follow it again.
    """

    def __init__(self, job: JobView, *, quiet: bool) -> None:
        self._job_id = job.job_id
        self._console = console(stderr=True)
        self._lines = not (quiet or self._console.is_terminal)
        self._shown = ""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(min_width=9)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[share]}", markup=False, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn(
                "{task.fields[metrics]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
            ),
            console=self._console,
            expand=True,
            transient=True,
            disable=quiet or self._lines,
        )
        self._task = self._progress.add_task(job.status, total=None, share="", metrics="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        # Ctrl-C arrives as the cancellation of the task that waits.
        if kind is not None and not issubclass(kind, Exception):
            self._console.print(
                f"The job goes on. Follow it again with: mcp-hub train status {self._job_id} "
                f"--follow\nEnd it with: mcp-hub train cancel {self._job_id}",
                soft_wrap=True,
            )

    async def show(self, job: JobView) -> None:
        """Show the job as it is now."""
        done, total = job.progress.done, job.progress.total
        share = f"{done:g}/{total:g}" if total else ""
        newest = [f"{key} {value:.4g}" for key, value in job.metrics.items()][-_METRICS_SHOWN:]
        metrics = "  ".join(reversed(newest))
        self._progress.update(
            self._task,
            description=job.status,
            completed=done,
            total=total,
            share=share,
            metrics=metrics,
        )
        step = f"{job.status} {share}".rstrip()
        if self._lines and step != self._shown:
            self._shown = step
            self._console.print(f"{step}  {metrics}".rstrip(), soft_wrap=True)


class CopyProgress:
    """A copy's progress on standard error: a bar for the step at work, or a line per step.

    Where standard error is no terminal, each tenth of a step is a line.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._console = console(stderr=True)
        self._lines = not (quiet or self._console.is_terminal)
        self._step = ""
        self._tenths = -1
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(min_width=24)),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            disable=quiet or self._lines,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    async def show(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` of a step are done."""
        if not total:
            return
        if self._task is None or step != self._step:
            self._step, self._tenths = step, -1
            self._task = self._progress.add_task(step, total=total)
        self._progress.update(self._task, completed=done, total=total)
        tenths = 10 * done // total
        if self._lines and tenths != self._tenths:
            self._tenths = tenths
            self._console.print(f"{step} {done:,}/{total:,}", soft_wrap=True)

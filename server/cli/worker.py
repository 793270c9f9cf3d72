"""`mcp-hub worker`: run queued jobs."""

from functools import partial
from typing import Annotated

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, LogLevel, Profile, new_app, settings_for
from mcp_hub.server.worker import run_worker

app = new_app()


@app.command()
def run(
    ctx: typer.Context,
    concurrency: Annotated[
        int | None, typer.Option(help="Attempts to run at once.", show_default=False)
    ] = None,
    idle_exit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="End after so long without a job.", show_default=False
        ),
    ] = None,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="End at once if another such worker is at work.")
    ] = False,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    log_level: LogLevel = None,
) -> None:
    """Run queued jobs until stopped.

    The hub starts a worker by itself when a job is queued; start more on machines that share the
    data directory, or set training.autostart_worker to false and run your own.
    """
    training = {"concurrency": concurrency}
    settings = settings_for(
        ctx,
        config=config,
        profile=profile,
        data_dir=data_dir,
        log_level=log_level,
        training=training,
    )
    anyio.run(partial(run_worker, settings, idle_exit_s=idle_exit, exclusive=exclusive))

"""`mcp-hub copy`: move everything from one hub into another."""

from functools import partial
from typing import Annotated

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, Profile, new_app, settings_for
from mcp_hub.server.cli.output import CopyProgress, console, print_table
from mcp_hub.server.moving import copy_hub, settings_of_end
from mcp_hub.server.settings import Settings
from mcp_hub.services.moving.service import OnStep
from mcp_hub.services.moving.views import Moved

app = new_app()

_MB = 1_000_000


@app.command()
def run(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="HUB", help="The hub to copy.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", metavar="HUB", help="The empty hub.", show_default=False),
    ] = None,
    source_blobs: Annotated[
        str | None,
        typer.Option("--from-blobs", metavar="URL", help="Blobs of a database URL in --from."),
    ] = None,
    target_blobs: Annotated[
        str | None,
        typer.Option("--to-blobs", metavar="URL", help="Blobs of a database URL in --to."),
    ] = None,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Copy everything from one hub into another: data sets, jobs, models, and their bytes.

    A HUB is a data directory, a configuration file (.toml or .json, read alone), or a database
    URL together with --from-blobs or --to-blobs. The one that is left out is the hub that this
    process's own settings choose, with its passwords in files or variables.

    Stop the processes of both hubs first. The target must be empty; what it stands on is made as
    by `mcp-hub up`. A copy that was cut off goes on when it is run again. At the end every row
    and blob of both ends is compared; status 1 means that they differ.
    """
    here = partial(settings_for, ctx, config=config, profile=profile, data_dir=data_dir)
    one = settings_of_end(source, source_blobs, "--from", here)
    other = settings_of_end(target, target_blobs, "--to", here)
    with CopyProgress(quiet=as_json) as progress:
        moved = anyio.run(_copy, one, other, progress.show)
    if as_json:
        typer.echo(moved.model_dump_json(indent=2))
    else:
        _print(moved)
    if not moved.equal:
        raise typer.Exit(1)


async def _copy(source: Settings, target: Settings, told: OnStep) -> Moved:
    return await copy_hub(source, target, told)


def _print(moved: Moved) -> None:
    rows = [
        (t.table, t.source_rows, t.target_rows, "equal" if t.equal else "DIFFERENT")
        for t in moved.tables
    ]
    blobs = moved.blob_comparison
    same = "DIFFERENT" if blobs.missing else "equal"
    rows.append(("blobs", blobs.referenced, blobs.verified, same))
    print_table(("", "source", "target", ""), rows, empty="")
    out = console()
    out.print(
        f"\nWrote {moved.rows} rows ({_per_s(moved.rows, moved.rows_s)} rows/s) and "
        f"{moved.blobs} blobs ({_per_s(moved.blob_bytes / _MB, moved.blobs_s)} MB/s).",
        soft_wrap=True,
    )
    out.print(f"Left out: {', '.join(moved.left_out)}.", soft_wrap=True)
    if moved.equal:
        out.print("Both ends are equal.", style="green")
    else:
        out.print("The ends differ: something wrote meanwhile. Run it again.", style="red")


def _per_s(amount: float, seconds: float) -> str:
    return f"{amount / seconds:,.0f}" if amount and seconds else "0"

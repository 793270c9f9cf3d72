"""`mcp-hub telemetry`: what is done with telemetry from a shell."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import msgspec
import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, new_app, settings_for
from mcp_hub.server.cli.output import CopyProgress, console
from mcp_hub.server.composition import open_hub
from mcp_hub.server.settings import Settings
from mcp_hub.services.telemetry.intake.importing import Imported, OnProgress, import_file

app = new_app()


@app.callback()
def telemetry() -> None:
    """Bring telemetry in from files."""


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", show_default=False)
    ],
    config: Config = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Keep the records of FILE: JSON Lines of records, or of OTLP as the Collector's file
    exporter writes it; packed with gzip or not.

    An import that was cut off, or a file that has grown, is imported again: what is there already
    is not kept twice. Status 1 means that some records were rejected.
    """
    settings = settings_for(ctx, config=config, data_dir=data_dir)
    with CopyProgress(quiet=as_json) as progress:
        done = anyio.run(_import, settings, file, progress.show)
    if as_json:
        typer.echo(msgspec.json.encode(asdict(done)))
    else:
        _print(file, done)
    if done.rejected:
        raise typer.Exit(1)


async def _import(settings: Settings, file: Path, told: OnProgress) -> Imported:
    async with open_hub(settings) as hub:
        return await import_file(hub.telemetry.ingest, file, told)


def _print(file: Path, done: Imported) -> None:
    out = console()
    out.print(
        f"{file.name}: {done.accepted:,} kept, {done.repeated:,} there already, "
        f"{done.rejected:,} rejected.",
        soft_wrap=True,
    )
    for one in done.problems:
        out.print(f"  line {one.index}: {one.message}", soft_wrap=True)
    if done.rejected > len(done.problems):
        out.print(f"  and {done.rejected - len(done.problems):,} more", soft_wrap=True)

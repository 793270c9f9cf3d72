"""`mcp-hub up`: make what the hub stands on, where it is missing."""

import json

import anyio
import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, Profile, new_app, settings_for
from mcp_hub.server.cli.output import console
from mcp_hub.server.provisioning import Step, provision
from mcp_hub.server.settings import Settings

app = new_app()


@app.command()
def run(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make what is missing of what the settings choose, and say what was made or found.

    That is the data folder, the PostgreSQL database, the schema and the bucket. It is safe to
    repeat, and to run on any number of machines at once.
    """
    settings = settings_for(ctx, config=config, profile=profile, data_dir=data_dir)
    steps = anyio.run(_provision, settings, as_json)
    if as_json:
        typer.echo(json.dumps({"steps": [step.model_dump() for step in steps]}, indent=2))


async def _provision(settings: Settings, quiet: bool) -> list[Step]:
    out = console()
    steps = []
    async for step in provision(settings):
        steps.append(step)
        if not quiet:
            out.print(f"{step.done:<5}  ", style="green" if step.done == "made" else None, end="")
            detail = f" ({step.detail})" if step.detail else ""
            out.print(f"{step.what}: {step.name}{detail}", soft_wrap=True)
    return steps

"""`mcp-hub info`: every setting, what it means and how to set it."""

import json
from importlib.metadata import version

import typer

from mcp_hub.server.cli.options import Config, DataDir, Json, Profile, Root, new_app, settings_for
from mcp_hub.server.cli.output import console
from mcp_hub.server.settings import WITHOUT_EFFECT, describe
from mcp_hub.server.settings_sources import variable

app = new_app()


@app.command()
def run(
    ctx: typer.Context,
    config: Config = None,
    profile: Profile = None,
    data_dir: DataDir = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """List the settings: what they mean, their variables and values."""
    settings = settings_for(ctx, config=config, profile=profile, data_dir=data_dir, roots=root)
    rows = [
        {
            "key": key,
            "variable": variable(key),
            "value": value,
            "origin": settings.origin(key),
            "description": describe(key),
            "effective": not key.startswith(WITHOUT_EFFECT),
        }
        for key, value in settings.shown().items()
    ]
    if as_json:
        typer.echo(json.dumps({"version": version("mcp-hub"), "settings": rows}, indent=2))
        return
    out = console()
    out.print(f"mcp-hub {version('mcp-hub')}", style="bold")
    for row in rows:
        out.print(f"\n{row['key']} = {json.dumps(row['value'])}", style="bold", soft_wrap=True)
        if row["description"]:
            out.print(f"  {row['description']}", soft_wrap=True)
        if not row["effective"]:
            out.print("  Read and checked; nothing in this release acts on it.")
        out.print(f"  {row['variable']}; now from: {row['origin']}", soft_wrap=True)
